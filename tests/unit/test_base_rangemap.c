/*
 * The range map against a naive array, with failing allocations, and with readers during updates.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/rangemap.h"
#include "base_instance.h"

#define MAX_RANGES 4000
#define OPS 400000

static struct base_instance inst;
static struct rangemap map;

/* The oracle: sorted. Each range's value is an id that no other has. */
static struct entry {
	u64 start;
	u64 end;
	uintptr_t value;
} oracle[MAX_RANGES + 1];
static u32 nr;
static uintptr_t next_value;
static u64 rng;

static u64 rnd(u64 n)
{
	return test_random(&rng) % n;
}

/* Index of the first range that ends above key. */
static u32 oracle_above(u64 key)
{
	u32 lo = 0, hi = nr;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (oracle[mid].end > key)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void oracle_gap_check(struct range within, u64 size, u64 align)
{
	u64 at = ALIGN_UP(within.start, align);
	u64 out = 0;
	bool want = false;

	for (u32 i = oracle_above(within.start);; i++) {
		u64 end = min(i < nr ? oracle[i].start : UINT64_MAX, within.end);

		if (at < end && end - at >= size) {
			want = true;
			break;
		}
		if (i >= nr || oracle[i].start >= within.end)
			break;
		at = ALIGN_UP(max(at, oracle[i].end), align);
	}
	assert_int_equal(rangemap_find_gap(&map, within, size, align, &out), want);
	if (want)
		assert_int_equal(out, at);
}

static void check_lookups(u64 key)
{
	u32 i = oracle_above(key);
	struct range r;
	void *v;

	v = rangemap_find(&map, key);
	assert_int_equal((uintptr_t)v, i < nr && oracle[i].start <= key ? oracle[i].value : 0);
	v = rangemap_find_first(&map, key, &r);
	assert_int_equal((uintptr_t)v, i < nr ? oracle[i].value : 0);
	if (v) {
		assert_int_equal(r.start, oracle[i].start);
		assert_int_equal(r.end, oracle[i].end);
	}
	v = rangemap_find_prev(&map, key, &r);
	assert_int_equal((uintptr_t)v, i ? oracle[i - 1].value : 0);
	if (v)
		assert_int_equal(r.end, oracle[i - 1].end);
}

static void op_insert(u64 universe)
{
	u64 start = rnd(universe);
	u64 end;
	u32 i = oracle_above(start);
	int err;

	if (nr == MAX_RANGES || (i < nr && oracle[i].start <= start))
		return;
	end = start + 1 + rnd(40);
	if (i < nr)
		end = min(end, oracle[i].start);
	err = rangemap_insert(&map, start, end, (void *)(next_value + 1));
	if (err) {
		assert_int_equal(err, -ENOMEM);
		return;
	}
	memmove(&oracle[i + 1], &oracle[i], (nr - i) * sizeof(oracle[0]));
	oracle[i] = (struct entry){ start, end, ++next_value };
	nr++;
}

static void op_erase(void)
{
	u32 i = (u32)rnd(nr);

	if (rangemap_erase(&map, oracle[i].start))
		return;
	nr--;
	memmove(&oracle[i], &oracle[i + 1], (nr - i) * sizeof(oracle[0]));
}

static void op_replace(void)
{
	u32 i = (u32)rnd(nr);
	u64 lo = i ? oracle[i - 1].end : oracle[i].start;
	u64 hi = i + 1 < nr ? oracle[i + 1].start : oracle[i].end + 20;
	u64 start = lo + rnd(hi - lo);
	u64 end = start + 1 + rnd(hi - start);

	if (rangemap_replace(&map, oracle[i].start, start, end, (void *)(next_value + 1)))
		return;
	oracle[i] = (struct entry){ start, end, ++next_value };
}

static void random_ops(u64 universe, u32 ops, u32 max_ranges)
{
	for (u32 i = 0; i < ops; i++) {
		/* Grow and shrink in waves, so that nodes split, merge and levels come and go. */
		u32 target = (i / 20000) % 2 ? max_ranges / 50 : max_ranges;
		u64 what = rnd(100);

		if (what < 30 && nr)
			op_replace();
		else if (nr < target || !nr)
			op_insert(universe);
		else
			op_erase();
		for (int k = 0; k < 2; k++)
			check_lookups(rnd(universe + 100));
		if (i % 4 == 0) {
			u64 a = rnd(universe), b = rnd(universe + 500);

			oracle_gap_check((struct range){ min(a, b), max(a, b) }, 1 + rnd(60),
					 1ull << rnd(6));
		}
		if (i % 512 == 0)
			assert_int_equal(rangemap_check(&map), nr);
		qrcu_poll(&inst.q);
	}
}

static void start_map(u64 seed)
{
	base_instance_init(&inst);
	rangemap_init(&map, &inst.q);
	nr = 0;
	next_value = 0;
	rng = seed;
}

static void end_map(u64 used_before)
{
	rangemap_destroy(&map);
	qrcu_barrier(&inst.q);
	assert_int_equal(arena_used(inst.q.arena), used_before);
	base_instance_destroy(&inst);
}

static void test_oracle(void **state)
{
	u64 used;

	(void)state;
	start_map(42);
	used = arena_used(inst.q.arena);
	random_ops(200000, OPS / 2, MAX_RANGES);
	end_map(used);
	start_map(43);
	random_ops(3000, OPS / 4, 100); /* dense: neighbours touch */
	end_map(used);
}

static void test_failing_allocations(void **state)
{
	u64 used;

	(void)state;
	start_map(44);
	used = arena_used(inst.q.arena);
	inject_chance(&inst.inject, INJECT_ARENA, 300000, 5);
	random_ops(100000, OPS / 4, 1500);
	assert_true(inject_hits(&inst.inject, INJECT_ARENA) > 1000);
	inject_off(&inst.inject, INJECT_ARENA);
	end_map(used);
}

/* With a reservation no update fails, though every allocation does. */
static void test_reserve(void **state)
{
	u64 used;

	(void)state;
	start_map(45);
	used = arena_used(inst.q.arena);
	for (int round = 0; round < 40; round++) {
		u32 n = 1 + (u32)rnd(200);

		assert_int_equal(rangemap_reserve(&map, n), 0);
		inject_every(&inst.inject, INJECT_ARENA, 1);
		for (u32 i = 0; i < n; i++) {
			u64 start = (u64)round * 100000 + i * 10;

			if (i % 3 == 2) {
				assert_int_equal(rangemap_erase(&map, start - 10), 0);
				nr--;
				continue;
			}
			assert_int_equal(rangemap_insert(&map, start, start + 5, &map), 0);
			nr++;
		}
		rangemap_unreserve(&map);
		assert_int_equal(rangemap_reserve(&map, 1), -ENOMEM);
		assert_int_equal(rangemap_insert(&map, 1ull << 50, 1ull << 51, &map), -ENOMEM);
		inject_off(&inst.inject, INJECT_ARENA);
		assert_int_equal(rangemap_check(&map), nr);
	}
	end_map(used);
}

/* ---- readers during updates ---- */

#define COVER_RANGES 256
#define COVER_SIZE 64

struct covered {
	struct rcu_head rcu;
	u64 start;
	u64 end;
};

static a32_t stop;

static void covered_free(struct quire *q, struct rcu_head *head)
{
	struct covered *c = container_of(head, struct covered, rcu);

	c->start = c->end = 0; /* a reader that still sees it would notice */
	arena_free(q->arena, c, sizeof(*c));
}

static struct covered *covered_new(u64 start, u64 end)
{
	struct covered *c = arena_alloc(inst.q.arena, sizeof(*c));

	BUG_ON(!c);
	c->start = start;
	c->end = end;
	return c;
}

static void *reader(void *arg)
{
	u64 seed = (uintptr_t)arg * 7919 + 3;
	u64 lookups = 0;

	while (!a32_read(&stop)) {
		u64 key = test_random(&seed) % (COVER_RANGES * COVER_SIZE);
		struct covered *c;

		qrcu_read_lock();
		c = rangemap_find(&map, key);
		/* Every key is covered in every version, and the value says by what. */
		BUG_ON(!c || key < c->start || key >= c->end);
		qrcu_read_unlock();
		lookups++;
	}
	return (void *)(uintptr_t)lookups;
}

/* A replace, or a split and a join: no version leaves a key uncovered. */
static void writer_step(u64 *seed)
{
	u64 key = test_random(seed) % (COVER_RANGES * COVER_SIZE);
	struct covered *c = rangemap_find(&map, key);
	struct covered *moved, *next;
	u64 cut;

	if (test_random(seed) % 4 == 0) {
		moved = covered_new(c->start, c->end);
		BUG_ON(rangemap_replace(&map, c->start, c->start, c->end, moved));
		qrcu_call(&inst.q, &c->rcu, covered_free);
		return;
	}
	cut = c->start + 1 + test_random(seed) % (c->end - c->start);
	if (cut >= c->end)
		return;
	BUG_ON(rangemap_split(&map, c->start, cut, covered_new(c->start, cut),
			      covered_new(cut, c->end)));
	qrcu_call(&inst.q, &c->rcu, covered_free);
	c = rangemap_find(&map, key);
	next = rangemap_find_first(&map, c->end, NULL);
	if (next) {
		BUG_ON(rangemap_join(&map, c->start, covered_new(c->start, next->end)));
		qrcu_call(&inst.q, &c->rcu, covered_free);
		qrcu_call(&inst.q, &next->rcu, covered_free);
	}
}

static void test_readers(void **state)
{
	pthread_t t[3];
	u64 seed = 99;
	u64 used;

	(void)state;
	start_map(1);
	used = arena_used(inst.q.arena);
	a32_set(&stop, 0);
	for (u64 i = 0; i < COVER_RANGES; i++) {
		u64 start = i * COVER_SIZE;

		assert_int_equal(rangemap_insert(&map, start, start + COVER_SIZE,
						 covered_new(start, start + COVER_SIZE)), 0);
	}
	for (uintptr_t i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, reader, (void *)i);
	for (u32 i = 0; i < 5000; i++) {
		writer_step(&seed);
		if (i % 64 == 0) /* a grace period waits for readers that lost their CPU */
			qrcu_poll(&inst.q);
	}
	a32_set(&stop, 1);
	for (int i = 0; i < 3; i++) {
		void *lookups;

		pthread_join(t[i], &lookups);
		assert_true((uintptr_t)lookups > 0);
	}
	assert_true(rangemap_check(&map) > 0);
	for (struct covered *c; (c = rangemap_find_first(&map, 0, NULL));) {
		assert_int_equal(rangemap_erase(&map, c->start), 0);
		arena_free(inst.q.arena, c, sizeof(*c));
	}
	end_map(used);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_failing_allocations),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
