/*
 * objects.c - the core's arena, explored: each object is memory that was never used before and
 * never will be again.
 *
 * In place of base/arena.c, which has explorations of its own (X_REAL_OBJECTS). A freed object is
 * poisoned, so each later access to it is found; and since each actor allocates from a share of
 * its own, the allocator is nothing that actors meet in. Its locks, its reuse of memory and its
 * failures are what is left out.
 */
#include "explore/internal.h"

#include "base/arena.h"

#define WRAP(ret, name, args)   \
	ret __real_##name args; \
	ret __wrap_##name args

WRAP(void *, arena_alloc, (struct arena * a, size_t size));
WRAP(void *, arena_zalloc, (struct arena * a, size_t size));
WRAP(void, arena_free, (struct arena * a, void *p, size_t size));
WRAP(void *, arena_pages, (struct arena * a, u32 nr));
WRAP(void, arena_pages_free, (struct arena * a, void *p, u32 nr));
WRAP(struct cache *, cache_create, (struct arena * a, const char *name, u32 size));
WRAP(void *, cache_alloc, (struct cache * c));
WRAP(void *, cache_zalloc, (struct cache * c));
WRAP(void, cache_free, (struct cache * c, void *obj));
WRAP(u64, cache_live, (const struct cache *c));
WRAP(u64, arena_used, (const struct arena *a));

struct own_cache {
	const char *name;
	u64 size;
	u64 live;
};

static bool real(void)
{
	return x.mode == M_OFF || (x.prog->flags & X_REAL_OBJECTS);
}

static void account(s64 bytes)
{
	u64 *live = &x.run->live_bytes[x.mode == M_RUN ? x.self : X_MAX_ACTORS];

	run_set64(live, *live + (u64)bytes);
}

static void *object_get(u64 size, u64 align)
{
	account((s64)ALIGN_UP(size, 16ul));
	return x_alloc(size, align);
}

static void object_put(void *p, u64 size)
{
	x_free(p, ALIGN_UP(size, 16ul));
	account(-(s64)ALIGN_UP(size, 16ul));
}

static u64 align_of(u64 size)
{
	return size >= PAGE_SIZE ? PAGE_SIZE : size % 64 ? 16 : 64;
}

void *__wrap_arena_alloc(struct arena *a, size_t size)
{
	return real() ? __real_arena_alloc(a, size) : object_get(size, align_of(size));
}

void *__wrap_arena_zalloc(struct arena *a, size_t size)
{
	return real() ? __real_arena_zalloc(a, size) : object_get(size, align_of(size));
}

void __wrap_arena_free(struct arena *a, void *p, size_t size)
{
	if (real())
		__real_arena_free(a, p, size);
	else
		object_put(p, size);
}

void *__wrap_arena_pages(struct arena *a, u32 nr)
{
	return real() ? __real_arena_pages(a, nr) : object_get(nr * PAGE_SIZE, PAGE_SIZE);
}

void __wrap_arena_pages_free(struct arena *a, void *p, u32 nr)
{
	if (real())
		__real_arena_pages_free(a, p, nr);
	else
		object_put(p, nr * PAGE_SIZE);
}

struct cache *__wrap_cache_create(struct arena *a, const char *name, u32 size)
{
	struct own_cache *c;

	if (real())
		return __real_cache_create(a, name, size);
	c = x_alloc(sizeof(*c), 16);
	c->name = name;
	c->size = ALIGN_UP(max(size, 16u), 16u);
	return (struct cache *)c;
}

static void *own_get(struct own_cache *c)
{
	run_set64(&c->live, c->live + 1);
	return object_get(c->size, align_of(c->size));
}

void *__wrap_cache_alloc(struct cache *c)
{
	return real() ? __real_cache_alloc(c) : own_get((struct own_cache *)c);
}

void *__wrap_cache_zalloc(struct cache *c)
{
	return real() ? __real_cache_zalloc(c) : own_get((struct own_cache *)c);
}

void __wrap_cache_free(struct cache *c, void *obj)
{
	struct own_cache *own = (struct own_cache *)c;

	if (real()) {
		__real_cache_free(c, obj);
		return;
	}
	object_put(obj, own->size);
	run_set64(&own->live, own->live - 1);
}

u64 __wrap_cache_live(const struct cache *c)
{
	return real() ? __real_cache_live(c) : ((const struct own_cache *)c)->live;
}

u64 __wrap_arena_used(const struct arena *a)
{
	u64 used = 0;

	if (real())
		return __real_arena_used(a);
	for (u32 i = 0; i <= X_MAX_ACTORS; i++)
		used += x.run->live_bytes[i];
	return used;
}
