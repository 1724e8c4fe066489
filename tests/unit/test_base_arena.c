/*
 * The arena: random allocations against an oracle, failures, reuse, threads, and what debug builds
 * catch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/inject.h"

#ifdef QUIRE_DEBUG
#define QUIRE_HAS_DEBUG true
#else
#define QUIRE_HAS_DEBUG false
#endif

struct source {
	a64_t mapped;
	a64_t maps;
	u64 limit;
};

static void *source_map(void *ctx, size_t bytes)
{
	struct source *s = ctx;
	void *p;

	if (s->limit && a64_read(&s->mapped) + bytes > s->limit)
		return NULL;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	a64_fetch_add(&s->mapped, bytes);
	a64_fetch_add(&s->maps, 1);
	return p;
}

static void source_unmap(void *ctx, void *addr, size_t bytes)
{
	struct source *s = ctx;

	a64_sub_return(&s->mapped, bytes);
	assert_int_equal(munmap(addr, bytes), 0);
}

static struct source source;

static struct arena *create(u64 limit)
{
	struct arena_source src = { &source, source_map, source_unmap };

	memset(&source, 0, sizeof(source));
	source.limit = limit;
	return arena_create(&src);
}

static u64 rng = 0x1234567;

static u64 next_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

struct object {
	u8 *p;
	size_t size;
	u32 pages;
	u8 fill;
};

static size_t random_size(void)
{
	switch (next_random() % 8) {
	case 0:
		return next_random() % 40000;
	case 1:
		return 1000 + next_random() % 100;
	default:
		return next_random() % 700;
	}
}

static void check_object(const struct object *o)
{
	size_t bytes = o->pages ? o->pages * PAGE_SIZE : o->size;

	for (size_t i = 0; i < bytes; i += i < 64 ? 1 : 61)
		assert_int_equal(o->p[i], o->fill);
}

static void object_free(struct arena *a, struct object *o)
{
	check_object(o);
	if (o->pages)
		arena_pages_free(a, o->p, o->pages);
	else
		arena_free(a, o->p, o->size);
	o->p = NULL;
}

static void object_new(struct arena *a, struct object *o)
{
	bool zero = next_random() & 1;

	o->pages = next_random() % 6 == 0 ? 1 + (u32)(next_random() % 40) : 0;
	o->size = random_size();
	o->fill = (u8)next_random();
	if (o->pages) {
		o->p = arena_pages(a, o->pages);
		assert_non_null(o->p);
		assert_true(IS_ALIGNED((uintptr_t)o->p, PAGE_SIZE));
		for (size_t i = 0; i < o->pages * PAGE_SIZE; i += 61)
			assert_int_equal(o->p[i], 0);
		memset(o->p, o->fill, o->pages * PAGE_SIZE);
		return;
	}
	o->p = zero ? arena_zalloc(a, o->size) : arena_alloc(a, o->size);
	assert_non_null(o->p);
	assert_true(IS_ALIGNED((uintptr_t)o->p, 16));
	if (o->size && o->size % 64 == 0)
		assert_true(IS_ALIGNED((uintptr_t)o->p, 64));
	if (zero)
		for (size_t i = 0; i < o->size; i++)
			assert_int_equal(o->p[i], 0);
	memset(o->p, o->fill, o->size);
}

static void test_random(void **state)
{
	static struct object live[1500];
	struct arena *a = create(0);

	(void)state;
	assert_non_null(a);
	assert_int_equal(arena_used(a), 0);
	for (u32 i = 0; i < 200000; i++) {
		struct object *o = &live[next_random() % ARRAY_SIZE(live)];

		if (o->p)
			object_free(a, o);
		else
			object_new(a, o);
		if (i % 1000 == 0)
			assert_int_equal(arena_bytes(a), a64_read(&source.mapped));
	}
	for (u32 i = 0; i < ARRAY_SIZE(live); i++)
		if (live[i].p)
			object_free(a, &live[i]);
	assert_int_equal(arena_used(a), 0);
	arena_destroy(a);
	assert_int_equal(a64_read(&source.mapped), 0);
}

static void test_cache(void **state)
{
	static void *obj[5000];
	static const u32 sizes[] = { 1, 24, 64, 192, 520, 1500, 4096, 9000, 20000 };
	struct arena *a = create(0);

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(sizes); s++) {
		struct cache *c = cache_create(a, "test", sizes[s]);
		u32 n = sizes[s] > 1000 ? 300 : ARRAY_SIZE(obj);
		u64 bytes;

		assert_non_null(c);
		for (int round = 0; round < 3; round++) {
			for (u32 i = 0; i < n; i++) {
				obj[i] = round ? cache_zalloc(c) : cache_alloc(c);
				assert_non_null(obj[i]);
				memset(obj[i], (int)i, sizes[s]);
			}
			assert_int_equal(cache_live(c), n);
			bytes = arena_bytes(a);
			for (u32 i = 0; i < n; i++) {
				assert_int_equal(((u8 *)obj[i])[sizes[s] - 1], (u8)i);
				cache_free(c, obj[i]);
			}
			assert_int_equal(cache_live(c), 0);
			assert_true(arena_bytes(a) <= bytes);
		}
	}
	assert_int_equal(arena_used(a), 0);
	arena_destroy(a);
}

/*
 * Fragmentation must not grow without bound: freed runs merge, empty slabs and big chunks go back.
 */
static void test_reuse(void **state)
{
	static void *p[512];
	struct arena *a = create(0);
	u64 bytes = 0;

	(void)state;
	for (int round = 0; round < 20; round++) {
		for (u32 i = 0; i < ARRAY_SIZE(p); i++)
			assert_non_null(p[i] = arena_pages(a, 1 + i % 7));
		for (u32 i = 0; i < ARRAY_SIZE(p); i += 2)
			arena_pages_free(a, p[i], 1 + i % 7);
		for (u32 i = 1; i < ARRAY_SIZE(p); i += 2)
			arena_pages_free(a, p[i], 1 + i % 7);
		if (round == 0)
			bytes = arena_bytes(a);
		assert_true(arena_bytes(a) <= bytes + (1 << 20));
	}
	p[0] = arena_pages(a, 16384);
	assert_non_null(p[0]);
	bytes = arena_bytes(a);
	assert_true(bytes >= 64ul << 20);
	memset(p[0], 1, 16384ul << PAGE_SHIFT);
	arena_pages_free(a, p[0], 16384);
	p[1] = arena_pages(a, 16384);
	arena_pages_free(a, p[1], 16384);
	p[0] = arena_pages(a, 5000);
	arena_pages_free(a, p[0], 5000);
	p[1] = arena_pages(a, 9000);
	p[0] = arena_pages(a, 9000);
	arena_pages_free(a, p[0], 9000);
	arena_pages_free(a, p[1], 9000);
	assert_true(arena_bytes(a) < bytes * 2);
	arena_destroy(a);
	assert_int_equal(a64_read(&source.mapped), 0);
}

static void test_failures(void **state)
{
	static void *p[4096];
	struct inject inj;
	struct arena *a;
	struct cache *c;
	u32 n = 0;

	(void)state;
	assert_null(create(4096));
	a = create(3 << 20);
	c = cache_create(a, "test", 4000);
	while (n < ARRAY_SIZE(p) && (p[n] = cache_alloc(c)))
		n++;
	assert_in_range(n, 500, 1000);
	assert_null(arena_pages(a, 200));
	assert_null(arena_alloc(a, 1ul << 30));
	assert_null(arena_zalloc(a, 1ul << 60));
	while (n--)
		cache_free(c, p[n]);
	inject_init(&inj);
	arena_set_inject(a, &inj);
	inject_at(&inj, INJECT_ARENA, 2);
	p[0] = arena_alloc(a, 100);
	assert_non_null(p[0]);
	assert_null(cache_alloc(c));
	assert_int_equal(inject_hits(&inj, INJECT_ARENA), 1);
	arena_free(a, p[0], 100);
	inject_every(&inj, INJECT_ARENA, 3);
	for (u32 i = 1; i <= 9; i++) {
		p[0] = arena_pages(a, 1);
		assert_int_equal(!p[0], i % 3 == 0);
		if (p[0])
			arena_pages_free(a, p[0], 1);
	}
	inject_chance(&inj, INJECT_ARENA, 500000, 7);
	for (u32 i = n = 0; i < 1000; i++) {
		p[0] = cache_zalloc(c);
		n += !p[0];
		if (p[0])
			cache_free(c, p[0]);
	}
	assert_in_range(n, 400, 600);
	inject_off(&inj, INJECT_ARENA);
	assert_int_equal(a32_read(&inj.armed), 0);
	assert_string_equal(inject_name(INJECT_ARENA), "ARENA");
	assert_int_equal(arena_used(a), 0);
	arena_destroy(a);
}

struct job {
	struct arena *a;
	struct cache *c;
	aptr_t *mailbox; /* objects allocated by one thread and freed by another */
	u64 seed;
};

static void *worker(void *arg)
{
	struct job *j = arg;
	u64 x = j->seed;

	for (u32 i = 0; i < 60000; i++) {
		u64 *obj;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		obj = cache_alloc(j->c);
		BUG_ON(!obj);
		obj[0] = obj[1] = x;
		obj = aptr_xchg(&j->mailbox[(x >> 33) % 64], obj);
		if (obj) {
			BUG_ON(obj[0] != obj[1]);
			cache_free(j->c, obj);
		}
		if (i % 16 == 0) {
			u32 nr = 1 + (x >> 40) % 5;
			u64 *page = arena_pages(j->a, nr);

			BUG_ON(!page || page[0] || page[nr * 512 - 1]);
			page[0] = page[nr * 512 - 1] = x;
			arena_pages_free(j->a, page, nr);
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	static aptr_t mailbox[64];
	struct arena *a = create(0);
	struct cache *c = cache_create(a, "test", 48);
	struct job job[4];
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		job[i] = (struct job){ a, c, mailbox, (u64)i * 77 + 5 };
		pthread_create(&t[i], NULL, worker, &job[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (u32 i = 0; i < 64; i++) {
		void *obj = aptr_xchg(&mailbox[i], NULL);

		if (obj)
			cache_free(c, obj);
	}
	assert_int_equal(cache_live(c), 0);
	assert_int_equal(arena_used(a), 0);
	arena_destroy(a);
}

/* Runs fn in a child; true when it was stopped by SIGABRT. */
static bool dies(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		close(2);
		fn();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void double_free_pages(void)
{
	struct arena *a = create(0);
	void *p = arena_pages(a, 3);

	arena_pages_free(a, p, 3);
	arena_pages_free(a, p, 3);
}

static void double_free_object(void)
{
	struct arena *a = create(0);
	void *p = arena_alloc(a, 100);

	arena_free(a, p, 100);
	arena_free(a, p, 100);
}

static void write_after_free(void)
{
	struct arena *a = create(0);
	u8 *p = arena_alloc(a, 100);

	arena_free(a, p, 100);
	p[50] = 1;
	p = arena_alloc(a, 100);
	(void)p;
}

static void test_misuse(void **state)
{
	(void)state;
	assert_true(dies(double_free_pages));
	if (!QUIRE_HAS_DEBUG)
		return;
	assert_true(dies(double_free_object));
	assert_true(dies(write_after_free));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),	 cmocka_unit_test(test_cache),
		cmocka_unit_test(test_reuse),	 cmocka_unit_test(test_failures),
		cmocka_unit_test(test_threads),	 cmocka_unit_test(test_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
