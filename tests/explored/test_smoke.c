/*
 * The explored build of base runs, and its shared accesses reach the engine: here a stub with one
 * thread that counts the points and refuses to sleep.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/mech.h"
#include "base/quire.h"
#include "base/rangemap.h"
#include "base/thread.h"

/* ---- the engine ---- */

static u64 points[4];
static u64 wakes, grace_periods;
static s32 readers;
static u32 mechanism_off = NR_MECHANISMS;
static struct base_thread self = { .id = 1, .rng = 1 };

void base_point(enum base_access kind, const void *addr, unsigned size)
{
	if (!addr || (size != 4 && size != 8))
		abort();
	points[kind]++;
}

void base_relax(void)
{
	abort(); /* nothing may spin: the engine decides when a waiter goes on */
}

struct base_thread *base_self(void)
{
	return &self;
}

unsigned base_cpu(void)
{
	return 3;
}

void base_park(u32 *word, u32 expect)
{
	if (*word == expect)
		abort(); /* the only thread would sleep for ever */
}

void base_wake(u32 *word, u32 n)
{
	(void)word;
	wakes += n != 0;
}

void base_yield(void)
{
}

void base_rcu_read_lock(void)
{
	readers++;
}

void base_rcu_read_unlock(void)
{
	readers--;
}

void base_rcu_synchronize(void)
{
	if (readers)
		abort();
	grace_periods++;
}

bool base_mech_on(struct quire *q, unsigned mechanism)
{
	(void)q;
	return mechanism != mechanism_off;
}

void base_panic(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

void base_warn(const char *file, int line, const char *what)
{
	base_panic(file, line, what);
}

/* ---- the tests ---- */

static u64 points_since(void)
{
	static u64 before;
	u64 now = points[BASE_READ] + points[BASE_WRITE] + points[BASE_RMW] + points[BASE_COUNT];
	u64 n = now - before;

	before = now;
	return n;
}

static void *map(void *ctx, size_t bytes)
{
	void *p = aligned_alloc(PAGE_SIZE, bytes);

	(void)ctx;
	return p ? memset(p, 0, bytes) : NULL;
}

static void unmap(void *ctx, void *addr, size_t bytes)
{
	(void)ctx;
	(void)bytes;
	free(addr);
}

static void test_locks(void **state)
{
	struct mutex m;
	struct spin s;
	struct rwsem r;
	struct vmalock v;
	a64_t flags = A_INIT(0);
	a32_t gen = A_INIT(1);

	(void)state;
	points_since();
	mutex_init(&m, LOCK_PHYS_MAP);
	spin_init(&s, LOCK_PTE);
	rwsem_init(&r, LOCK_SPACE);
	vmalock_init(&v);
	assert_int_equal(points_since(), 0); /* not published yet */
	rwsem_write_lock(&r);
	vmalock_write_lock(&v, &gen);
	a32_set_release(&gen, 2);
	assert_true(vmalock_read_trylock(&v, &gen));
	vmalock_read_unlock(&v);
	bitlock_lock(&flags, 0, 7, (u32 *)(void *)&flags.raw, LOCK_FOLIO);
	spin_lock(&s);
	mutex_lock(&m);
	mutex_unlock(&m);
	spin_unlock(&s);
	bitlock_unlock(&flags, 0, 7, (u32 *)(void *)&flags.raw);
	rwsem_downgrade(&r);
	rwsem_read_unlock(&r);
	assert_in_range(points_since(), 15, 60);
	assert_true(points[BASE_RMW] >= 10);
	assert_int_equal(wakes, 0);
}

static void test_instance(void **state)
{
	struct arena_source src = { NULL, map, unmap };
	static struct quire q;
	struct rangemap areas;
	struct cache *c;
	void *obj;

	(void)state;
	q.arena = arena_create(&src);
	assert_non_null(q.arena);
	rcu_domain_init(&q.rcu);
	gate_init(&q.gate);
	points_since();
	c = cache_create(q.arena, "smoke", 40);
	obj = cache_zalloc(c);
	assert_non_null(obj);
	cache_free(c, obj);
	assert_int_equal(cache_live(c), 0);
	assert_true(points_since() > 0);
	gate_enter(&q.gate);
	rangemap_init(&areas, &q);
	for (u64 i = 0; i < 200; i++)
		assert_int_equal(rangemap_insert(&areas, i * 10, i * 10 + 5, &areas), 0);
	points_since();
	qrcu_read_lock();
	assert_ptr_equal(rangemap_find(&areas, 1234), &areas);
	assert_int_equal(points_since(), 1); /* the root: the nodes do not change */
	qrcu_read_unlock();
	assert_int_equal(rangemap_check(&areas), 200);
	rangemap_destroy(&areas);
	assert_true(a32_read(&q.rcu.nr_pending) > 0);
	qrcu_barrier(&q);
	assert_int_equal(grace_periods, 1);
	gate_exit(&q.gate);
	assert_int_equal(arena_used(q.arena), 0);
	arena_destroy(q.arena);
}

static void test_mechanisms(void **state)
{
	(void)state;
	assert_true(mech_on(NULL, MECH_FLUSH_BEFORE_FREE));
	mechanism_off = MECH_FLUSH_BEFORE_FREE;
	assert_false(mech_on(NULL, MECH_FLUSH_BEFORE_FREE));
	mechanism_off = NR_MECHANISMS;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_instance),
		cmocka_unit_test(test_mechanisms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
