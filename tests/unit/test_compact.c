/* Compaction: pages that move together, destinations that are used once or put back, what it does
 * for faults, failures in turn, threads. */
#include <pthread.h>
#include <stdlib.h>

#include "object_env.h"

#include "frag_env.h"

#define BLOCKS 16u

/* n pages, written; `large`: by first touches of many. */
static u64 pages_of(struct frag *f, u64 n, bool large, u64 tag)
{
	u64 va = large ? env_map(&f->e, n, RW, 0) : env_map_single(&f->e, n);

	env_write(&f->e, va, n, tag);
	return va;
}

/* Each `of`th run of `run` pages stays. */
static u64 drop_most(struct frag *f, u64 va, u64 n, u64 run, u64 of)
{
	u64 left = 0;

	for (u64 i = 0; i < n; i += run)
		if (i / run % of)
			frag_drop(&f->e, va + PG(i), run);
		else
			left += run;
	return left;
}

static void expect_most(struct frag *f, u64 va, u64 n, u64 run, u64 of, u64 tag)
{
	for (u64 i = 0; i < n; i += run)
		if (!(i / run % of))
			env_expect(&f->e, va + PG(i), run, tag, i);
}

#define FOR_PLAIN(fn)                                                              \
	static void fn##_all(void **st)                                            \
	{                                                                          \
		static const u32 kinds[] = { 0, 2, 6, 14 };                        \
		(void)st;                                                          \
		for (u32 k = 0; k < ARRAY_SIZE(kinds); k++)                        \
			for (u32 large = 0; large < 2; large++) {                  \
				static struct frag f;                              \
				frag_open(&f, kinds[k], 1, BLOCKS, BLOCKS *BLOCK); \
				fn(&f, large);                                     \
				frag_close(&f);                                    \
			}                                                          \
	}

/* ---- what it makes of a node ---- */

static void test_whole(struct frag *f, bool large)
{
	u64 n = 3968, run = large ? 64 : 1, usage, va, left;
	struct compact_result r;
	struct env *e = &f->e;

	frag_hold(f);
	va = pages_of(f, n, large, 1);
	frag_release(f);
	left = drop_most(f, va, n, run, 3);
	lru_drain_all(e->q);
	usage = cgroup_usage(e->q, CGROUP_ROOT);
	/* Of a large folio that is dropped in part the rest stays. */
	assert_true(large ? usage >= left && usage < left * 2 : usage == left);
	left = usage;
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), 0);
	frag_balanced(e, &r);
	assert_int_equal(r.end, COMPACT_MET);
	assert_true(r.blocks_before <= 1);
	/* The page of zeroes stays in its block; the rest is as close as whole blocks can tell. */
	assert_true(r.blocks_after + 1 >= BLOCKS - (left + BLOCK - 1) / BLOCK - 1);
	assert_int_equal(cgroup_usage(e->q, CGROUP_ROOT), usage);
	assert_true(r.migrate.moved > 0);
	assert_int_equal(r.migrate.failed, 0);
	assert_int_equal(phys_used(e->q, 0), left + 1);
	expect_most(f, va, n, run, 3, 1);
	/* Nothing to do any more: what is free is whole but for one block or two. */
	left = r.blocks_after;
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), 0);
	frag_balanced(e, &r);
	assert_int_equal(r.blocks_before, left);
	expect_most(f, va, n, run, 3, 1);
}
FOR_PLAIN(test_whole)

/* For one folio: it stops when there is one. */
static void test_order(struct frag *f, bool large)
{
	struct compact_result r, all;
	struct env *e = &f->e;
	struct folio *got;
	u64 va;

	(void)large;
	frag_hold(f);
	va = pages_of(f, 4080, false, 1);
	/* One page of each four stays, in the half that is not held. */
	drop_most(f, va, 4080, 1, 4);
	phys_drain_cpus(e->q, 0);
	assert_false(phys_has_piece(e->q, 0, 4));
	for (unsigned order = 2; order <= MAX_FOLIO_ORDER; order++) {
		int err = compact_node(e->q, 0, order, &r);

		frag_balanced(e, &r);
		assert_int_equal(!err, r.end == COMPACT_SUCCESS);
		assert_int_equal(!err, phys_has_piece(e->q, 0, order));
		/* Of each block one half cannot move. */
		assert_int_equal(!err, order <= FRAG_HALF);
		got = err ? NULL : phys_alloc(e->q, 0, order);
		if (got)
			folio_put(e->q, got);
	}
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &all), 0);
	frag_balanced(e, &all);
	expect_most(f, va, 4080, 1, 4, 1);
	assert_int_equal(compact_node(e->q, 1, COMPACT_WHOLE, &all), -EINVAL);
	assert_int_equal(compact_node(e->q, 0, 0, &all), -EINVAL);
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE + 1, &all), -EINVAL);
}
FOR_PLAIN(test_order)

/* Moves fail now and then, for thousands of pages: destinations come back and are used again. */
static void test_injected(struct frag *f, bool large)
{
	u64 n = 4000, run = large ? 8 : 1, put_back = 0, moved = 0, va;
	struct env *e = &f->e;

	frag_hold(f);
	va = pages_of(f, n, large, 1);
	frag_release(f);
	drop_most(f, va, n, run, 2);
	for (u32 round = 0; round < 6; round++) {
		struct compact_result r;
		u64 usage;

		lru_drain_all(e->q);
		usage = cgroup_usage(e->q, CGROUP_ROOT);
		inject_chance(&e->inject, INJECT_MIGRATE, 700000, round + 1);
		assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), 0);
		inject_off(&e->inject, INJECT_MIGRATE);
		frag_balanced(e, &r);
		put_back += r.put_back;
		moved += r.migrate.moved;
		assert_int_equal(cgroup_usage(e->q, CGROUP_ROOT), usage);
		/* Spread them again. */
		env_write(e, va, n, 2 + round);
		frag_hold(f);
		frag_release(f);
		drop_most(f, va, n, run, 2);
		expect_most(f, va, n, run, 2, 2 + round);
	}
	assert_true(put_back > (large ? 50 : 500));
	assert_true(moved > 500);
}
FOR_PLAIN(test_injected)

/* Anonymous pages and an object's, whose moves fail in turn: a destination has seen both kinds. */
static void kinds_mixed(void **st)
{
	static struct frag f;
	struct env *e = &f.e;
	struct compact_result r;
	struct medium *d = medium_new();
	struct object *o;
	u64 va, shared, put_back = 0;

	(void)st;
	frag_open(&f, 2, 1, BLOCKS, BLOCKS * BLOCK);
	o = object_new(e, d, PG(1024));
	frag_hold(&f);
	va = env_map_single(e, 1024);
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(1024), RW, MAP_F_SHARED, o, 0, &shared),
			 0);
	for (u64 i = 0; i < 1024; i++) {
		assert_int_equal(env_write_page(e, va + PG(i), 1, i), 0);
		if (i & 1)
			assert_int_equal(env_write_page(e, shared + PG(i), 2, i), 0);
		else
			assert_int_equal(env_load(e, shared + PG(i)), 0);
	}
	frag_release(&f);
	for (u32 round = 0; round < 8; round++) {
		inject_chance(&e->inject, INJECT_MIGRATE, 600000, round + 1);
		assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), 0);
		inject_off(&e->inject, INJECT_MIGRATE);
		frag_balanced(e, &r);
		put_back += r.put_back;
		for (u64 i = 0; i < 1024; i += 3)
			frag_drop(e, va + PG(i), 1);
		for (u64 i = 0; i < 1024; i++)
			assert_int_equal(env_write_page(e, va + PG(i), 1, i), 0);
	}
	assert_true(put_back > 100);
	env_expect(e, va, 1024, 1, 0);
	for (u64 i = 1; i < 1024; i += 2)
		env_expect(e, shared + PG(i), 1, 2, i);
	/* Clean pages are clean still. */
	assert_int_equal(d->writes, 0);
	assert_int_equal(object_sync(o, 0, ~0ull, NULL), 0);
	assert_int_equal(d->writes, 512);
	env_check(e);
	space_destroy(e->q, e->s);
	object_put(o);
	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &e->s), 0);
	frag_close(&f);
	medium_free(d);
}

/* ---- what does not move ---- */

static void pinned_stay(void **st)
{
	static struct frag f;
	struct folio *pin[8];
	struct compact_result r;
	struct env *e = &f.e;
	u64 va;

	(void)st;
	frag_open(&f, 2, 1, BLOCKS, BLOCKS * BLOCK);
	frag_hold(&f);
	va = pages_of(&f, 4000, false, 1);
	for (u32 i = 0; i < 8; i++) {
		struct range one = { va + PG(i * 480), va + PG(i * 480 + 1) };

		assert_int_equal(pin_pages(e->q, &e->s->fs, one, ACCESS_WRITE, &pin[i]), 1);
	}
	frag_release(&f);
	drop_most(&f, va, 4000, 1, 3);
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), 0);
	frag_balanced(e, &r);
	assert_true(r.scan.pinned >= 4);
	for (u32 i = 0; i < 8; i++)
		assert_ptr_equal(env_page_at(e, va + PG(i * 480)), pin[i]);
	/* For a whole block nothing moves out of one that has a pinned page. */
	assert_int_equal(compact_node(e->q, 0, MAX_FOLIO_ORDER, &r), 0);
	expect_most(&f, va, 4000, 1, 3, 1);
	unpin_pages(e->q, pin, 8);
	frag_close(&f);
}

/* Not one frame more than the node may use. */
static void no_capacity(void **st)
{
	static struct frag f;
	struct compact_result r;
	struct env *e = &f.e;
	u64 va, n = 3000;

	(void)st;
	frag_open(&f, 2, 1, BLOCKS, 8 * BLOCK);
	va = env_map_single(e, n);
	/* No reservation, which each fault tries first. */
	inject_every(&e->inject, INJECT_FRAME, 2);
	folio_put(e->q, phys_alloc(e->q, 0, 0));
	env_write(e, va, n, 1);
	inject_off(&e->inject, INJECT_FRAME);
	drop_most(&f, va, n, 1, 2);
	lru_drain_all(e->q);
	for (unsigned order = MAX_FOLIO_ORDER + 1; order--;)
		while (frag_hold_one(&f, order))
			;
	assert_int_equal(phys_used(e->q, 0), phys_capacity(e->q, 0));
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), -ENOMEM);
	assert_int_equal(r.end, COMPACT_NO_CAPACITY);
	assert_int_equal(r.migrate.moved, 0);
	frag_balanced(e, &r);
	expect_most(&f, va, n, 1, 2, 1);
	frag_release_one(&f);
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), -ENOMEM);
	frag_balanced(e, &r);
	frag_release(&f);
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &r), 0);
	assert_true(r.migrate.moved > 100);
	frag_balanced(e, &r);
	expect_most(&f, va, n, 1, 2, 1);
	frag_close(&f);
}

/* Each destination in turn cannot be had. */
static void each_allocation_fails(void **st)
{
	static struct frag f;
	struct env *e = &f.e;
	u64 va, n = 1500;

	(void)st;
	frag_open(&f, 2, 1, 4, 4 * BLOCK);
	frag_hold(&f);
	va = pages_of(&f, n / 2, false, 1);
	frag_release(&f);
	for (u32 nth = 1; nth < 80; nth++) {
		struct compact_result r;
		int err;

		drop_most(&f, va, n / 2, 1, 2);
		inject_at(&e->inject, INJECT_FRAME, nth);
		err = compact_node(e->q, 0, COMPACT_WHOLE, &r);
		inject_off(&e->inject, INJECT_FRAME);
		assert_int_equal(err, r.end == COMPACT_NO_CAPACITY ? -ENOMEM : 0);
		frag_balanced(e, &r);
		expect_most(&f, va, n / 2, 1, 2, 1);
		env_write(e, va, n / 2, 1);
	}
	frag_close(&f);
}

/* ---- for faults ---- */

static void fault_gets_large(void **st)
{
	static struct frag f;
	struct env *e = &f.e;
	u64 va, big, before;

	(void)st;
	frag_open(&f, 2, 1, 8, 8 * BLOCK);
	frag_hold(&f);
	va = pages_of(&f, 4 * BLOCK - 8, false, 1);
	/* In what is left every other frame is used. */
	frag_release(&f);
	before = stat_read(e->q, STAT_COMPACT_SUCCESS);
	big = env_map(e, 4 * BLOCK - 8, RW, 0);
	assert_int_equal(space_advise(e->q, e->s, big, PG(4 * BLOCK - 8), ADVISE_RANDOM), 0);
	env_write(e, big, 4 * BLOCK - 8, 2);
	drop_most(&f, va, 4 * BLOCK - 8, 1, 2);
	drop_most(&f, big, 4 * BLOCK - 8, 1, 2);
	phys_drain_cpus(e->q, 0);
	assert_false(phys_has_piece(e->q, 0, 4));
	assert_false(phys_can_grow(e->q, 0));
	{
		u64 fresh = env_map(e, 512, RW, 0);

		env_write(e, fresh, 512, 3);
		assert_true(folio_head(env_page_at(e, fresh + PG(256)))->order >= 2);
		env_expect(e, fresh, 512, 3, 0);
	}
	assert_true(stat_read(e->q, STAT_COMPACT_SUCCESS) > before);
	env_check(e);
	expect_most(&f, va, 4 * BLOCK - 8, 1, 2, 1);
	expect_most(&f, big, 4 * BLOCK - 8, 1, 2, 2);
	frag_close(&f);
}

/* What fails is tried less and less often, until it succeeds. */
static void faults_are_deferred(void **st)
{
	static struct frag f;
	struct env *e = &f.e;
	struct folio **pin;
	u64 va, n = 4 * BLOCK - 8, runs, gaps = 0, last = 0, longest = 0;

	(void)st;
	frag_open(&f, 2, 1, 4, 4 * BLOCK);
	frag_hold(&f);
	va = env_map_single(e, n);
	env_write(e, va, n / 2, 1);
	frag_release(&f);
	env_write(e, va, n, 1);
	pin = calloc(n, sizeof(*pin));
	for (u64 i = 0; i < n; i++) {
		struct range one = { va + PG(i), va + PG(i + 1) };

		if (i % 4 == 0)
			assert_int_equal(pin_pages(e->q, &e->s->fs, one, ACCESS_WRITE, &pin[i]), 1);
	}
	drop_most(&f, va, n, 1, 4);
	phys_drain_cpus(e->q, 0);
	runs = stat_read(e->q, STAT_COMPACT);
	for (u32 i = 1; i <= 400; i++) {
		assert_false(compact_for_fault(e->q, 0, 4));
		if (stat_read(e->q, STAT_COMPACT) == runs)
			continue;
		runs++;
		assert_int_equal(stat_read(e->q, STAT_COMPACT), runs);
		gaps += i - last > longest;
		longest = max(longest, i - last);
		last = i;
	}
	assert_int_equal(longest, 64);
	assert_int_equal(gaps, 7);
	assert_true(stat_read(e->q, STAT_COMPACT_DEFERRED) > 300);
	for (u64 i = 0; i < n; i += 4)
		unpin_pages(e->q, &pin[i], 1);
	/* At most 64 more, and then always. */
	runs = 0;
	while (!compact_for_fault(e->q, 0, 4))
		assert_true(++runs <= 64);
	env_check(e);
	expect_most(&f, va, n, 1, 4, 1);
	free(pin);
	frag_close(&f);
}

/* ---- threads ---- */

#define NR_PAGES 1024u

struct shared {
	struct frag *f;
	u64 va;
	a32_t stop;
	a64_t bad;
};

struct user {
	struct shared *s;
	u32 id;
	u64 word[NR_PAGES]; /* of each page, this user's */
	u64 rounds;
	pthread_t thread;
};

static void *use(void *arg)
{
	struct user *u = arg;
	struct env *e = &u->s->f->e;
	u64 rng = u->id + 1;

	while (!a32_read(&u->s->stop) || u->rounds < 20000) {
		u32 i = (u32)((rng = rng * 6364136223846793005ull + 1442695040888963407ull) >> 33) %
			NR_PAGES;
		u64 at = u->s->va + PG(i) + 8 * u->id, seen = 0;

		if (rng >> 20 & 1) {
			u64 v = u->word[i] + 1;

			if (!sim_store(e->m, u->id, e->s->ms, at, &v, 8))
				u->word[i] = v;
			else
				a64_add(&u->s->bad, 1);
		} else if (sim_load(e->m, u->id, e->s->ms, at, &seen, 8) || seen != u->word[i]) {
			a64_add(&u->s->bad, 1);
		}
		u->rounds++;
	}
	return NULL;
}

static void threads(void **st)
{
	static struct frag f;
	static struct user u[3];
	struct shared s = { .f = &f };
	struct env *e = &f.e;
	u64 moved = 0;

	(void)st;
	frag_open(&f, 2, 1, 8, 8 * BLOCK);
	frag_hold(&f);
	s.va = env_map_single(e, NR_PAGES);
	env_write(e, s.va, NR_PAGES, 0);
	frag_release(&f);
	for (u32 i = 0; i < 3; i++) {
		u[i] = (struct user){ .s = &s, .id = i + 1 };
		for (u64 p = 0; p < NR_PAGES; p++) {
			u64 zero = 0;

			assert_int_equal(
				sim_store(e->m, 0, e->s->ms, s.va + PG(p) + 8 * (i + 1), &zero, 8),
				0);
		}
		assert_int_equal(pthread_create(&u[i].thread, NULL, use, &u[i]), 0);
	}
	for (u32 round = 0; round < 20; round++) {
		u64 scratch = env_map_single(e, 256);
		struct compact_result r;
		struct space *child;

		env_write(e, scratch, 256, round);
		for (u32 i = 0; i < 256; i += 8)
			frag_drop(e, scratch + PG(i), 1);
		if (round % 8 == 3)
			assert_int_equal(space_fork(e->q, e->s, &child), 0);
		(void)!compact_node(e->q, 0, round % 3 ? COMPACT_WHOLE : 9, &r);
		assert_int_equal(r.got, r.used + r.put_back);
		assert_int_equal(r.free_taken - r.free_returned, r.migrate.moved);
		moved += r.migrate.moved;
		if (round % 8 == 3)
			space_destroy(e->q, child);
		for (u32 i = 0; i < 256; i += 8)
			env_expect(e, scratch + PG(i + 1), 7, round, i + 1);
		assert_int_equal(space_unmap(e->q, e->s, scratch, PG(256)), 0);
	}
	a32_set(&s.stop, 1);
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(pthread_join(u[i].thread, NULL), 0);
	assert_int_equal(a64_read(&s.bad), 0);
	assert_true(moved > 500);
	for (u32 i = 0; i < 3; i++)
		for (u64 p = 0; p < NR_PAGES; p++) {
			u64 seen = 0;

			assert_int_equal(
				sim_load(e->m, 0, e->s->ms, s.va + PG(p) + 8 * u[i].id, &seen, 8),
				0);
			assert_int_equal(seen, u[i].word[p]);
		}
	frag_close(&f);
}

/* Several whose faults want large folios where there are only small pieces; each leaves holes. */
struct toucher {
	struct frag *f;
	u32 id;
	u64 bad;
	pthread_t thread;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;
	struct env *e = &t->f->e;

	for (u32 round = 0; round < 60; round++) {
		u64 va, want = round * 1000 + t->id, got;

		if (space_map(e->q, e->s, 0, PG(256), RW, 0, &va)) {
			t->bad++;
			continue;
		}
		for (u64 i = 0; i < 256; i++)
			t->bad += sim_store(e->m, t->id, e->s->ms, va + PG(i), &want, 8) != 0;
		/* Holes in front of what stays. */
		for (u64 i = 0; i < 256; i += 4)
			t->bad += space_advise(e->q, e->s, va + PG(i), PG(1), ADVISE_DONTNEED) != 0;
		for (u64 i = 0; i < 256; i++) {
			t->bad += sim_load(e->m, t->id, e->s->ms, va + PG(i), &got, 8) != 0;
			t->bad += got != (i % 4 ? want : 0);
		}
		t->bad += space_unmap(e->q, e->s, va, PG(256)) != 0;
	}
	return NULL;
}

static void faults_compact(void **st)
{
	static struct frag f;
	struct toucher t[3];
	struct env *e = &f.e;
	u64 va, n = 1400, runs, moved;

	(void)st;
	frag_open(&f, 2, 1, 6, 6 * BLOCK);
	frag_hold(&f);
	va = pages_of(&f, n, false, 1);
	frag_release(&f);
	/* The halves that were held: a page in each four frames, so no large piece anywhere. */
	{
		u64 more = env_map_single(e, 1400);

		env_write(e, more, 1400, 2);
		drop_most(&f, more, 1400, 1, 4);
		drop_most(&f, va, n, 1, 4);
		runs = stat_read(e->q, STAT_COMPACT);
		moved = stat_read(e->q, STAT_MIGRATED);
		for (u32 i = 0; i < 3; i++) {
			t[i] = (struct toucher){ .f = &f, .id = i + 1 };
			assert_int_equal(pthread_create(&t[i].thread, NULL, touch, &t[i]), 0);
		}
		for (u32 i = 0; i < 3; i++) {
			assert_int_equal(pthread_join(t[i].thread, NULL), 0);
			assert_int_equal(t[i].bad, 0);
		}
		expect_most(&f, more, 1400, 1, 4, 2);
	}
	assert_true(stat_read(e->q, STAT_COMPACT) > runs);
	assert_true(stat_read(e->q, STAT_MIGRATED) > moved);
	env_check(e);
	expect_most(&f, va, n, 1, 4, 1);
	frag_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_all),        cmocka_unit_test(test_order_all),
		cmocka_unit_test(test_injected_all),     cmocka_unit_test(kinds_mixed),
		cmocka_unit_test(pinned_stay),           cmocka_unit_test(no_capacity),
		cmocka_unit_test(each_allocation_fails), cmocka_unit_test(fault_gets_large),
		cmocka_unit_test(faults_are_deferred),   cmocka_unit_test(threads),
		cmocka_unit_test(faults_compact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
