/*
 * arena.c - object caches over page runs.
 *
 * cache -> per-CPU front -> slabs -> page pool. A front is an array of free objects that its CPU
 * takes by a try-lock of one word and that is given back by a plain store: nobody ever sleeps on
 * it, who finds it taken goes to the slabs. A slab is a naturally aligned run of pages with a
 * header, so an object's slab is found from its address. Objects are carved when they are first
 * needed.
 *
 * Lock order inside class ARENA: cache.lock, then page_pool.lock (nested).
 */
#include "base/arena.h"
#include "base/arena_pages.h"
#include "base/inject.h"

#include <string.h>

#define OBJECT_ALIGN 16u
#define SLAB_MIN (16ul << 10)
#define SLAB_MAX (256ul << 10)
#define SLAB_WANTED_OBJECTS 8
#define FRONT_MAX 14
#define POISON 0x6b

struct cache_front {
	a32_t busy;   /* 1: some thread uses this front */
	u32 nr;	      /* (busy) */
	a64_t live;   /* (busy) to write: handed out minus taken back here, may be negative */
	void *obj[FRONT_MAX]; /* (busy) */
} cacheline_aligned;

struct slab {
	struct list link;    /* (cache.lock) on cache.partial unless no object is free */
	struct cache *cache; /* (C) */
	void *free;	     /* (cache.lock) first word of each links the next */
	u32 inuse;	     /* (cache.lock) handed out or in a front */
	u32 carved;	     /* (cache.lock) objects that exist: the others were never touched */
#ifdef QUIRE_DEBUG
	a64_t live[SLAB_MIN / OBJECT_ALIGN / 64]; /* per object, by unit of 1/1024 of the slab */
#endif
} cacheline_aligned;

struct cache {
	struct arena *arena;	   /* (C) */
	const char *name;	   /* (C) */
	u32 size;		   /* (C) multiple of OBJECT_ALIGN */
	u32 per_slab;		   /* (C) */
	u32 slab_bytes;		   /* (C) a power of two */
	u32 front_max;		   /* (C) */
	struct cache_front *front; /* (C) MAX_CPUS of them */
	struct cache *next;	   /* (C) after publication */
	a64_t live_direct;	   /* (A) like cache_front.live, past the fronts */
	struct spin lock cacheline_aligned;
	struct list partial;	   /* (lock) slabs with a free object */
	u32 empty_slabs;	   /* (lock) on partial with nothing in use: at most one is kept */
};

static const u16 class_size[] = { 16,  32,  48,	 64,  80,  96,	112, 128, 160, 192, 224,
				  256, 320, 384, 448, 512, 640, 768, 896, 1024 };
#define NR_CLASSES ARRAY_SIZE(class_size)
#define CLASS_LIMIT 1024u /* a quarter page */

struct arena {
	struct page_pool pool;
	aptr_t inject;
	aptr_t caches;	  /* (pool.lock) to push; all of them */
	a64_t pages_live; /* (A) handed out as pages */
	u8 class_of[CLASS_LIMIT / OBJECT_ALIGN + 1]; /* (C) by size in units of 16 */
	struct cache class_cache[NR_CLASSES];
};

static bool arena_fail(struct arena *a)
{
	return inject_fail(aptr_peek(&a->inject), INJECT_ARENA);
}

/* ---- debug: who is live, and that freed memory stays untouched ---- */

static struct slab *slab_of(const struct cache *c, const void *obj)
{
	return (struct slab *)((uintptr_t)obj & ~((uintptr_t)c->slab_bytes - 1));
}

static char *slab_object(const struct cache *c, struct slab *s, u32 i)
{
	return (char *)s + ALIGN_UP(sizeof(*s), 64) + (size_t)i * c->size;
}

#ifdef QUIRE_DEBUG
static bool debug_set_live(struct cache *c, void *obj, bool live)
{
	struct slab *s = slab_of(c, obj);
	u32 unit = (u32)(((char *)obj - (char *)s) / (c->slab_bytes / (SLAB_MIN / OBJECT_ALIGN)));
	u64 bit = BIT(unit % 64);

	BUG_ON(s->cache != c);
	BUG_ON(((char *)obj - slab_object(c, s, 0)) % c->size);
	if (live)
		return a64_fetch_or(&s->live[unit / 64], bit) & bit;
	return a64_fetch_and(&s->live[unit / 64], ~bit) & bit;
}

static void debug_alloc(struct cache *c, void *obj)
{
	const u8 *byte = obj;

	BUG_ON(debug_set_live(c, obj, true));
	/* The first word linked the free objects. */
	for (u32 i = sizeof(void *); i < c->size; i++)
		BUG_ON(byte[i] != POISON);
}

static void debug_free(struct cache *c, void *obj)
{
	if (!debug_set_live(c, obj, false))
		BUG("object freed twice");
	memset(obj, POISON, c->size);
}

static void debug_carve(struct cache *c, void *obj)
{
	memset(obj, POISON, c->size);
}

static void debug_free_pages(void *p, u32 nr)
{
	memset(p, POISON, (size_t)nr << PAGE_SHIFT);
}
#else
static inline void debug_alloc(struct cache *c, void *obj)
{
	(void)c;
	(void)obj;
}

static inline void debug_free(struct cache *c, void *obj)
{
	(void)c;
	(void)obj;
}

static inline void debug_carve(struct cache *c, void *obj)
{
	(void)c;
	(void)obj;
}

static inline void debug_free_pages(void *p, u32 nr)
{
	(void)p;
	(void)nr;
}
#endif

/* ---- slabs ---- */

/* LOCKING: c->lock held, here and below. */
static struct slab *slab_create(struct cache *c)
{
	u32 pages = c->slab_bytes >> PAGE_SHIFT;
	struct slab *s = page_pool_get(&c->arena->pool, pages, pages, false);

	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->cache = c;
	list_add(&s->link, &c->partial);
	c->empty_slabs++;
	return s;
}

static void *slab_take(struct cache *c)
{
	struct slab *s;
	void *obj;

	if (!list_empty(&c->partial))
		s = list_first(&c->partial, struct slab, link);
	else if (!(s = slab_create(c)))
		return NULL;
	if (s->free) {
		obj = s->free;
		s->free = *(void **)obj;
	} else {
		obj = slab_object(c, s, s->carved++);
		debug_carve(c, obj);
	}
	if (!s->inuse++)
		c->empty_slabs--;
	if (s->inuse == c->per_slab)
		list_del_init(&s->link);
	return obj;
}

static void slab_give(struct cache *c, void *obj)
{
	struct slab *s = slab_of(c, obj);

	DEBUG_ON(s->cache != c || !s->inuse);
	*(void **)obj = s->free;
	s->free = obj;
	if (s->inuse == c->per_slab)
		list_add(&s->link, &c->partial);
	if (--s->inuse)
		return;
	if (c->empty_slabs) {
		list_del(&s->link);
		page_pool_put(&c->arena->pool, s, c->slab_bytes >> PAGE_SHIFT);
		return;
	}
	c->empty_slabs++;
	list_move_tail(&s->link, &c->partial); /* used last, so that it may become empty for good */
}

/* ---- fronts ---- */

static inline struct cache_front *front_trylock(struct cache *c)
{
	struct cache_front *f = &c->front[base_cpu()];
	u32 old = 0;

	return likely(a32_cmpxchg(&f->busy, &old, 1)) ? f : NULL;
}

static inline void front_unlock(struct cache_front *f, s64 live)
{
	a64_init(&f->live, a64_peek(&f->live) + (u64)live);
	a32_set_release(&f->busy, 0);
}

static __attribute__((noinline)) void front_fill(struct cache *c, struct cache_front *f)
{
	u32 want = (c->front_max + 1) / 2;
	void *obj;

	spin_lock(&c->lock);
	while (f->nr < want && (obj = slab_take(c)))
		f->obj[f->nr++] = obj;
	spin_unlock(&c->lock);
}

/* The older half goes; what was freed last is still in the CPU's cache. */
static __attribute__((noinline)) void front_flush(struct cache *c, struct cache_front *f)
{
	u32 nr = (f->nr + 1) / 2;

	spin_lock(&c->lock);
	for (u32 i = 0; i < nr; i++)
		slab_give(c, f->obj[i]);
	spin_unlock(&c->lock);
	f->nr -= nr;
	memmove(f->obj, f->obj + nr, f->nr * sizeof(f->obj[0]));
}

static __attribute__((noinline)) void *cache_get_direct(struct cache *c)
{
	void *obj;

	spin_lock(&c->lock);
	obj = slab_take(c);
	spin_unlock(&c->lock);
	if (obj)
		a64_add(&c->live_direct, 1);
	return obj;
}

static inline void *cache_get(struct cache *c)
{
	struct cache_front *f = front_trylock(c);
	void *obj = NULL;

	if (unlikely(!f)) {
		obj = cache_get_direct(c);
	} else {
		if (unlikely(!f->nr))
			front_fill(c, f);
		if (likely(f->nr))
			obj = f->obj[--f->nr];
		front_unlock(f, obj ? 1 : 0);
	}
	if (likely(obj))
		debug_alloc(c, obj);
	return obj;
}

static inline void cache_put(struct cache *c, void *obj)
{
	struct cache_front *f;

	debug_free(c, obj);
	f = front_trylock(c);
	if (unlikely(!f)) {
		a64_sub(&c->live_direct, 1);
		spin_lock(&c->lock);
		slab_give(c, obj);
		spin_unlock(&c->lock);
		return;
	}
	if (unlikely(f->nr == c->front_max))
		front_flush(c, f);
	f->obj[f->nr++] = obj;
	front_unlock(f, -1);
}

/* ---- caches ---- */

static bool cache_init(struct arena *a, struct cache *c, const char *name, u32 size)
{
	u32 fronts = (u32)DIV_UP(MAX_CPUS * sizeof(struct cache_front), PAGE_SIZE);
	size_t header = ALIGN_UP(sizeof(struct slab), 64);
	size_t bytes = SLAB_MIN;

	size = ALIGN_UP(max(size, OBJECT_ALIGN), OBJECT_ALIGN);
	while (bytes < SLAB_MAX && (bytes - header) / size < SLAB_WANTED_OBJECTS)
		bytes *= 2;
	BUG_ON(bytes < header + size); /* so large an object is a run of pages */
	c->front = page_pool_get(&a->pool, fronts, 1, true);
	if (!c->front)
		return false;
	c->arena = a;
	c->name = name;
	c->size = size;
	c->slab_bytes = (u32)bytes;
	c->per_slab = (u32)((bytes - header) / size);
	c->front_max = size <= 512 ? FRONT_MAX : size <= 4096 ? 6 : 2;
	a64_init(&c->live_direct, 0);
	spin_init(&c->lock, LOCK_ARENA);
	list_init(&c->partial);
	c->empty_slabs = 0;
	spin_lock(&a->pool.lock);
	c->next = aptr_read(&a->caches);
	aptr_set_release(&a->caches, c);
	spin_unlock(&a->pool.lock);
	return true;
}

struct cache *cache_create(struct arena *a, const char *name, u32 size)
{
	struct cache *c = arena_zalloc(a, sizeof(*c));

	if (!c)
		return NULL;
	if (!cache_init(a, c, name, size)) {
		arena_free(a, c, sizeof(*c));
		return NULL;
	}
	/* It lives as long as the arena, so it is no object that a test would find leaked. */
	a64_sub(&a->class_cache[a->class_of[DIV_UP(sizeof(*c), OBJECT_ALIGN)]].live_direct, 1);
	return c;
}

void *cache_alloc(struct cache *c)
{
	if (arena_fail(c->arena))
		return NULL;
	return cache_get(c);
}

void *cache_zalloc(struct cache *c)
{
	void *obj = cache_alloc(c);

	if (likely(obj))
		memset(obj, 0, c->size);
	return obj;
}

void cache_free(struct cache *c, void *obj)
{
	cache_put(c, obj);
}

u64 cache_live(const struct cache *c)
{
	u64 live = a64_peek(&c->live_direct);

	for (u32 i = 0; i < MAX_CPUS; i++)
		live += a64_peek(&c->front[i].live);
	return live;
}

/* ---- the arena ---- */

struct arena *arena_create(const struct arena_source *src)
{
	struct arena *a;
	u32 class = 0;

	a = page_pool_create(src, sizeof(*a), offsetof(struct arena, pool));
	if (!a)
		return NULL;
	for (u32 i = 0; i < NR_CLASSES; i++) {
		/* The first chunk holds them all; a later failure could only be a smaller one. */
		if (!cache_init(a, &a->class_cache[i], "arena", class_size[i])) {
			arena_destroy(a);
			return NULL;
		}
	}
	for (u32 i = 0; i < sizeof(a->class_of); i++) {
		if (i * OBJECT_ALIGN > class_size[class])
			class++;
		a->class_of[i] = (u8)class;
	}
	return a;
}

void arena_destroy(struct arena *a)
{
	page_pool_destroy(&a->pool);
}

void arena_set_inject(struct arena *a, struct inject *inj)
{
	aptr_set_release(&a->inject, inj);
}

static struct cache *arena_class(struct arena *a, size_t size)
{
	return &a->class_cache[a->class_of[DIV_UP(size, OBJECT_ALIGN)]];
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t nr = DIV_UP(size, PAGE_SIZE);
	void *p;

	if (arena_fail(a))
		return NULL;
	if (likely(size <= CLASS_LIMIT))
		return cache_get(arena_class(a, size));
	if (nr > INT32_MAX)
		return NULL;
	p = page_pool_get(&a->pool, (u32)nr, 1, false);
	if (p)
		a64_add(&a->pages_live, nr);
	return p;
}

void *arena_zalloc(struct arena *a, size_t size)
{
	void *p;

	if (size >> PAGE_SHIFT >= INT32_MAX)
		return NULL;
	if (size > CLASS_LIMIT)
		return arena_pages(a, (u32)DIV_UP(size, PAGE_SIZE));
	p = arena_alloc(a, size);
	if (likely(p))
		memset(p, 0, size);
	return p;
}

void arena_free(struct arena *a, void *p, size_t size)
{
	if (likely(size <= CLASS_LIMIT))
		cache_put(arena_class(a, size), p);
	else
		arena_pages_free(a, p, (u32)DIV_UP(size, PAGE_SIZE));
}

void *arena_pages(struct arena *a, u32 nr)
{
	void *p;

	if (arena_fail(a))
		return NULL;
	p = page_pool_get(&a->pool, nr, 1, true);
	if (p)
		a64_add(&a->pages_live, nr);
	return p;
}

void arena_pages_free(struct arena *a, void *p, u32 nr)
{
	debug_free_pages(p, nr);
	a64_sub(&a->pages_live, nr);
	page_pool_put(&a->pool, p, nr);
}

u64 arena_bytes(const struct arena *a)
{
	return a64_read(&a->pool.bytes);
}

u64 arena_used(const struct arena *a)
{
	u64 used = a64_read(&a->pages_live) << PAGE_SHIFT;
	const struct cache *c;

	for (c = aptr_read_acquire(&a->caches); c; c = c->next)
		used += cache_live(c) * c->size;
	return used;
}
