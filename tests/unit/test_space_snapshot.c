/* Snapshots on machines with plain frames: contents of the moment, copies exactly where they are
 * due, several areas, parts of areas, pins, swapped pages, large folios, snapshots of snapshots,
 * and every allocation failing. */
#include "core_env.h"

#define PAGES 48u
#define HALF  32u /* no large folio lies across it */

static u64 snap(struct env *e, u64 va, u64 pages, u32 flags)
{
	u64 at = 0;

	assert_int_equal(space_snapshot(e->q, e->s, va, PG(pages), flags, &at), 0);
	assert_int_equal(at & ~PMD_MASK, va & ~PMD_MASK);
	return at;
}

static void drop(struct env *e, u64 at, u64 pages)
{
	assert_int_equal(space_unmap(e->q, e->s, at, PG(pages)), 0);
}

#define FOR_PLAIN(fn)                                                    \
	static void fn##_all(void **st)                                  \
	{                                                                \
		(void)st;                                                \
		for (u32 k = 0; k < 16; k += 2)                          \
			for (u32 large = 0; large < 2; large++) {        \
				struct env e;                            \
				u64 va;                                  \
				env_open(&e, k, 0, NULL);                \
				va = large ? env_map(&e, PAGES, RW, 0) : \
					     env_map_single(&e, PAGES);  \
				fn(&e, va, large);                       \
				env_close(&e);                           \
			}                                                \
	}

static void test_share(struct env *e, u64 va, bool large)
{
	u64 before, copies, at;

	(void)large;
	env_write(e, va, PAGES, 1);
	lru_drain_all(e->q);
	before = env_usage(e);
	at = snap(e, va, PAGES, 0);
	env_check(e);
	/* Not a page more, and the same frames. */
	assert_int_equal(env_usage(e), before);
	assert_int_equal(space_resident_pages(e->s), 2 * PAGES);
	assert_int_equal(space_mapped_pages(e->s), 2 * PAGES);
	for (u64 i = 0; i < PAGES; i++) {
		assert_ptr_equal(env_page_at(e, va + PG(i)), env_page_at(e, at + PG(i)));
		assert_false(page_exclusive(env_page_at(e, va + PG(i))));
	}
	copies = env_copies(e);
	env_expect(e, at, PAGES, 1, 0);
	env_expect(e, va, PAGES, 1, 0);
	assert_int_equal(env_copies(e), copies);
	assert_int_equal(env_store(e, at, 1), -EACCES);
	/* A page is copied when it is first written, and not again. */
	env_write(e, va, HALF, 2);
	env_write(e, va, HALF, 3);
	assert_int_equal(env_copies(e), copies + HALF);
	env_expect(e, at, PAGES, 1, 0);
	env_expect(e, va, HALF, 3, 0);
	env_check(e);
	drop(e, at, PAGES);
	env_check(e);
	lru_drain_all(e->q);
	/* The snapshot is gone: what it had shared is the source's alone again. */
	copies = env_copies(e);
	env_write(e, va + PG(HALF), PAGES - HALF, 4);
	assert_int_equal(env_copies(e), copies);
	env_expect(e, va, HALF, 3, 0);
}
FOR_PLAIN(test_share)

/* Where frames have places the writer keeps them, and all others get one copy: at the source, in
 * the snapshot, and with a third party; but not of what is pinned, or in the swap cache. */
static void test_reverse(struct env *e, u64 va, bool large)
{
	bool placed = env_keeps(e, large);
	struct folio *was[PAGES], *mine[PAGES];
	u64 at, third, copies, reversed;

	env_write(e, va, PAGES, 1);
	lru_drain_all(e->q);
	for (u64 i = 0; i < PAGES; i++)
		was[i] = env_page_at(e, va + PG(i));
	at = snap(e, va, PAGES, SNAPSHOT_F_WRITE);
	third = snap(e, va, PAGES, 0);
	copies = env_copies(e);
	reversed = stat_read(e->q, STAT_FAULT_REVERSE);
	env_write(e, va, HALF, 2);
	env_check(e);
	assert_int_equal(env_copies(e), copies + HALF);
	assert_int_equal(stat_read(e->q, STAT_FAULT_REVERSE) - reversed, placed ? HALF : 0);
	for (u64 i = 0; i < HALF; i++) {
		mine[i] = env_page_at(e, va + PG(i));
		assert_int_equal(mine[i] == was[i], placed);
		assert_true(page_exclusive(mine[i]));
		assert_ptr_equal(env_page_at(e, at + PG(i)), env_page_at(e, third + PG(i)));
		assert_ptr_not_equal(env_page_at(e, at + PG(i)), mine[i]);
	}
	env_expect(e, at, PAGES, 1, 0);
	env_expect(e, third, PAGES, 1, 0);
	/* The two share the copies with each other. */
	env_write(e, at, HALF / 4, 3);
	env_expect(e, third, PAGES, 1, 0);
	env_expect(e, at, HALF / 4, 3, 0);
	env_expect(e, va, HALF, 2, 0);
	env_check(e);
	env_pageout(e, third, PAGES);
	env_check(e);
	env_expect(e, third, PAGES, 1, 0);
	/* Mapped here, cached for the others. */
	env_load(e, va + PG(HALF));
	env_write(e, va + PG(HALF), PAGES - HALF, 4);
	env_expect(e, third, PAGES, 1, 0);
	env_expect(e, at + PG(HALF), PAGES - HALF, 1, HALF);
	drop(e, at, PAGES);
	drop(e, third, PAGES);
	env_expect(e, va, HALF, 2, 0);
	env_expect(e, va + PG(HALF), PAGES - HALF, 4, 0);
}
FOR_PLAIN(test_reverse)

/* Both sides write; the source goes first. */
static void test_writable(struct env *e, u64 va, bool large)
{
	u64 at;

	(void)large;
	env_write(e, va, PAGES, 1);
	at = snap(e, va, PAGES, SNAPSHOT_F_WRITE);
	env_write(e, at, 10, 2);
	env_write(e, va + PG(5), 10, 3);
	env_expect(e, va, 5, 1, 0);
	env_expect(e, va + PG(5), 10, 3, 0);
	env_expect(e, at, 10, 2, 0);
	env_expect(e, at + PG(10), PAGES - 10, 1, 10);
	env_check(e);
	drop(e, va, PAGES);
	env_check(e);
	env_pageout(e, at, PAGES);
	env_check(e);
	assert_true(pte_is_swap(env_entry(e, at)));
	env_expect(e, at, 10, 2, 0);
	env_expect(e, at + PG(10), PAGES - 10, 1, 10);
	env_write(e, at, PAGES, 4);
	env_expect(e, at, PAGES, 4, 0);
}
FOR_PLAIN(test_writable)

/* Of one source, of each other; each keeps what it was made of. tag[i][p]: what page p of the i'th
 * place holds (page number 0 of that tag). */
static void test_many(struct env *e, u64 va, bool large)
{
	u64 at[10] = { va }, tag[10][PAGES];

	(void)large;
	for (u32 i = 1; i < 10; i++) {
		u32 from = i == 9 ? 4 : 0;

		for (u64 p = i; i < 9 && p < PAGES; p++) {
			tag[0][p] = 10 + i;
			env_write(e, va + PG(p), 1, 10 + i);
		}
		if (i == 1) {
			tag[0][0] = 11;
			env_write(e, va, 1, 11);
		}
		at[i] = snap(e, at[from], PAGES, i == 9 || !(i & 1) ? SNAPSHOT_F_WRITE : 0);
		for (u64 p = 0; p < PAGES; p++)
			tag[i][p] = tag[from][p];
		if (!(i & 1)) {
			tag[i][3] = 20 + i;
			env_write(e, at[i] + PG(3), 1, 20 + i);
		}
	}
	for (u64 p = 0; p < PAGES; p++)
		tag[4][p] = 30;
	for (u64 p = 0; p < PAGES; p++)
		env_write(e, at[4] + PG(p), 1, 30);
	env_check(e);
	env_pageout(e, va, PAGES);
	env_check(e);
	for (u32 i = 10; i-- > 0;) {
		for (u64 p = 0; p < PAGES; p++)
			env_expect(e, at[i] + PG(p), 1, tag[i][p], 0);
		drop(e, at[i], PAGES);
		env_check(e);
	}
}
FOR_PLAIN(test_many)

static void test_swapped(struct env *e, u64 va, bool large)
{
	u64 at, slots;

	(void)large;
	env_write(e, va, PAGES, 1);
	env_pageout(e, va, PAGES);
	env_expect(e, va + PG(PAGES / 2), PAGES / 2, 1, PAGES / 2);
	slots = swap_used_slots(e->q);
	at = snap(e, va, PAGES, 0);
	env_check(e);
	assert_int_equal(swap_used_slots(e->q), slots);
	for (u64 i = 0; i < PAGES / 2; i++) {
		assert_int_equal(env_entry(e, va + PG(i)), env_entry(e, at + PG(i)));
		assert_false(env_entry(e, va + PG(i)) & SWP_EXCLUSIVE);
	}
	env_write(e, va, PAGES, 2);
	env_expect(e, at, PAGES, 1, 0);
	env_pageout(e, at, PAGES);
	env_expect(e, va, PAGES, 2, 0);
	env_check(e);
	env_expect(e, at, PAGES, 1, 0);
	drop(e, at, PAGES);
}
FOR_PLAIN(test_swapped)

/* Shared pages go out by one walk over both places, and come back to both. */
static void test_reclaim(struct env *e, u64 va, bool large)
{
	u64 at;

	(void)large;
	env_write(e, va, PAGES, 1);
	at = snap(e, va, PAGES, SNAPSHOT_F_WRITE);
	env_pageout(e, va, PAGES);
	env_check(e);
	assert_int_equal(env_usage(e), 0);
	for (u64 i = 0; i < PAGES; i++) {
		assert_true(pte_is_swap(env_entry(e, va + PG(i))));
		assert_int_equal(env_entry(e, va + PG(i)), env_entry(e, at + PG(i)));
	}
	env_write(e, va, PAGES / 2, 2);
	env_expect(e, at, PAGES, 1, 0);
	env_write(e, at, PAGES, 3);
	env_expect(e, va, PAGES / 2, 2, 0);
	env_expect(e, va + PG(PAGES / 2), PAGES / 2, 1, PAGES / 2);
	env_check(e);
}
FOR_PLAIN(test_reclaim)

static void test_pinned(struct env *e, u64 va, bool large)
{
	struct range r = { va + PG(3), va + PG(5) };
	struct folio *pages[2];
	u64 at;

	(void)large;
	env_write(e, va, PAGES, 1);
	assert_int_equal(pin_pages(e->q, &e->s->fs, r, ACCESS_WRITE, pages), 2);
	at = snap(e, va, PAGES, 0);
	env_check(e);
	for (u32 i = 0; i < 2; i++) {
		assert_ptr_equal(env_page_at(e, r.start + PG(i)), pages[i]);
		assert_true(page_exclusive(pages[i]));
		assert_ptr_not_equal(env_page_at(e, at + PG(3 + i)), pages[i]);
		assert_false(pte_write(env_entry(e, at + PG(3 + i))));
	}
	assert_int_equal(env_store(e, r.start, 77), 0);
	assert_ptr_equal(env_page_at(e, r.start), pages[0]);
	env_expect(e, at, PAGES, 1, 0);
	unpin_pages(e->q, pages, 2);
	/* A pin of the snapshot's page has it copied, so that loads there see what the pin shows.
	 */
	r = (struct range){ at, at + PAGE_SIZE };
	assert_int_equal(pin_fast(e->q, &e->s->fs, r, ACCESS_READ, pages), 1);
	assert_ptr_not_equal(env_page_at(e, va), pages[0]);
	env_check(e);
	unpin_pages(e->q, pages, 1);
	drop(e, at, PAGES);
}
FOR_PLAIN(test_pinned)

/* Several areas with different rights, untouched pages, the zero page, mlock; part of an area. */
static void test_areas(struct env *e, u64 va, bool large)
{
	u64 at, part, zero = env_map_single(e, 4);

	(void)large;
	env_write(e, va, PAGES, 1);
	env_expect_zero(e, zero, 4);
	assert_int_equal(space_protect(e->q, e->s, va + PG(8), PG(8), PROT_BITS_READ), 0);
	assert_int_equal(space_protect(e->q, e->s, va + PG(16), PG(8), 0), 0);
	assert_int_equal(space_mlock(e->q, e->s, va + PG(24), PG(8), false), 0);
	at = snap(e, va, PAGES, SNAPSHOT_F_WRITE);
	env_check(e);
	assert_int_equal(vmas_mergeable(&e->s->fs.vmas), 0);
	assert_int_equal(e->s->fs.vmas.locked_pages, 8);
	assert_int_equal(env_store(e, at + PG(8), 1), -EACCES);
	assert_int_equal(env_load(e, at + PG(16)), -EACCES);
	env_write(e, at, 8, 2);
	env_pageout(e, at, 8);
	assert_int_equal(space_protect(e->q, e->s, at, PG(PAGES), RW), 0);
	env_expect(e, at, 8, 2, 0);
	env_expect(e, at + PG(8), PAGES - 8, 1, 8);
	assert_int_equal(space_protect(e->q, e->s, va, PG(PAGES), RW), 0);
	env_write(e, va + PG(8), 16, 3);
	env_expect(e, at + PG(8), PAGES - 8, 1, 8);
	env_expect(e, va, 8, 1, 0);
	drop(e, at, PAGES);
	/* What is not there reads as zero in both, and is each one's own. */
	at = snap(e, zero, 4, SNAPSHOT_F_WRITE);
	env_expect_zero(e, at, 4);
	env_write(e, at, 2, 4);
	env_expect_zero(e, zero, 4);
	env_write(e, zero, 4, 5);
	env_expect_zero(e, at + PG(2), 2);
	drop(e, at, 4);
	part = snap(e, va + PG(5), 9, 0);
	env_check(e);
	env_write(e, va, PAGES, 6);
	env_expect(e, part, 3, 1, 5);
	env_expect(e, part + PG(3), 6, 3, 0);
	drop(e, part + PG(2), 3);
	env_expect(e, part, 2, 1, 5);
	env_expect(e, part + PG(5), 4, 3, 2);
	assert_int_equal(env_load(e, part + PG(3)), -EFAULT);
}
FOR_PLAIN(test_areas)

static void test_refused(struct env *e, u64 va, bool large)
{
	u64 at = 1, foreign = env_map(e, 4, RW, MAP_F_FOREIGN);

	(void)large;
	env_write(e, va, PAGES, 1);
	drop(e, va + PG(20), 2);
	assert_int_equal(space_snapshot(e->q, e->s, va, PG(PAGES), 0, &at), -ENOMEM);
	assert_int_equal(space_snapshot(e->q, e->s, va + 1, PG(2), 0, &at), -EINVAL);
	assert_int_equal(space_snapshot(e->q, e->s, va, 0, 0, &at), -EINVAL);
	assert_int_equal(space_snapshot(e->q, e->s, va, PG(2), 2, &at), -EINVAL);
	assert_int_equal(space_snapshot(e->q, e->s, 0, PG(2), 0, &at),
			 e->s->fs.vmas.usable.start ? -EINVAL : -ENOMEM);
	assert_int_equal(space_snapshot(e->q, e->s, foreign, PG(4), 0, &at), -EINVAL);
	assert_int_equal(at, 1);
	assert_int_equal(space_mapped_pages(e->s), PAGES - 2);
	env_expect(e, va, 20, 1, 0);
}
FOR_PLAIN(test_refused)

/* Either side moves: the walk finds the page at both places. */
static void test_remap(struct env *e, u64 va, bool large)
{
	u64 at, to, far = va + PG(16 * PAGES);

	(void)large;
	env_write(e, va, PAGES, 1);
	at = snap(e, va, PAGES, SNAPSHOT_F_WRITE);
	assert_int_equal(space_remap(e->q, e->s, at, PG(PAGES), PG(PAGES), 1 | 2, far, &to), 0);
	env_check(e);
	env_pageout(e, va, PAGES);
	assert_true(pte_is_swap(env_entry(e, to)));
	env_expect(e, to, PAGES, 1, 0);
	assert_int_equal(
		space_remap(e->q, e->s, va, PG(PAGES), PG(PAGES), 1 | 2, far + PG(4 * PAGES), &va),
		0);
	env_check(e);
	env_pageout(e, to, PAGES);
	assert_true(pte_is_swap(env_entry(e, va)));
	env_write(e, to, PAGES, 2);
	env_expect(e, va, PAGES, 1, 0);
	env_check(e);
}
FOR_PLAIN(test_remap)

/* A snapshot again and again, of what is written in between: chains and objects stay bounded. */
static void test_line(struct env *e, u64 va, bool large)
{
	u64 objects = 0, at = 0, copies;

	(void)large;
	env_write(e, va, PAGES, 1);
	for (u64 i = 0; i < 40; i++) {
		u64 next = snap(e, va, PAGES, 0);

		if (at)
			drop(e, at, PAGES);
		at = next;
		env_write(e, va + PG(i), 1, 100 + i);
		qrcu_barrier(e->q);
		if (i == 4)
			objects = rmap_live_objects(e->q);
		else if (i > 4)
			assert_int_equal(rmap_live_objects(e->q), objects);
	}
	env_check(e);
	for (u64 i = 0; i < 39; i++)
		env_expect(e, at + PG(i), 1, 100 + i, 0);
	env_expect(e, at + PG(39), PAGES - 39, 1, 39);
	/* Written once after the last one: written in place from then on. */
	env_write(e, va + PG(39), 1, 7);
	copies = env_copies(e);
	env_write(e, va + PG(39), 1, 8);
	assert_int_equal(env_copies(e), copies);
}
FOR_PLAIN(test_line)

/* A forked child has the snapshots too. */
static void test_fork(struct env *e, u64 va, bool large)
{
	struct env c = *e;
	u64 at;

	(void)large;
	env_write(e, va, PAGES, 1);
	at = snap(e, va, PAGES, SNAPSHOT_F_WRITE);
	env_write(e, at, 4, 2);
	assert_int_equal(space_fork(e->q, e->s, &c.s), 0);
	env_check(e);
	env_write(&c, va, PAGES, 3);
	env_write(e, at + PG(2), PAGES - 2, 4);
	env_expect(&c, at, 4, 2, 0);
	env_expect(&c, at + PG(4), PAGES - 4, 1, 4);
	env_expect(e, va, PAGES, 1, 0);
	env_pageout(e, va, PAGES);
	env_check(e);
	env_expect(&c, at + PG(4), PAGES - 4, 1, 4);
	drop(e, va, PAGES);
	drop(e, at, PAGES);
	env_check(e);
	env_expect(&c, va, PAGES, 3, 0);
	env_expect(&c, at + PG(4), PAGES - 4, 1, 4);
	space_destroy(c.q, c.s);
}
FOR_PLAIN(test_fork)

/* Each allocation fails in turn: no snapshot, nothing lost, nothing
 * leaks; and once it succeeds everything is there. */
static void test_fail(struct env *e, u64 va, bool large)
{
	static const enum inject_point points[] = { INJECT_ARENA, INJECT_FRAME, INJECT_CHARGE,
						    INJECT_TABLE };
	struct range pinned = { va + PG(9), va + PG(11) };
	struct folio *pages[2];

	(void)large;
	env_write(e, va, PAGES, 1);
	env_pageout(e, va, 8);
	assert_int_equal(space_protect(e->q, e->s, va + PG(20), PG(5), PROT_BITS_READ), 0);
	assert_int_equal(pin_pages(e->q, &e->s->fs, pinned, ACCESS_WRITE, pages), 2);
	for (u32 i = 0; i < ARRAY_SIZE(points); i++) {
		u32 refused = 0;

		for (u64 nth = 1;; nth++) {
			u64 hits = inject_hits(&e->inject, points[i]), at = 0;
			int rc;

			inject_at(&e->inject, points[i], nth);
			rc = space_snapshot(e->q, e->s, va, PG(PAGES), 0, &at);
			inject_off(&e->inject, points[i]);
			env_check(e);
			env_expect(e, va + PG(8), PAGES - 8, 1, 8);
			for (u64 k = 30; k < 36; k++)
				assert_int_equal(env_write_page(e, va + PG(k), 1, k), 0);
			if (!rc) {
				env_expect(e, at, PAGES, 1, 0);
				drop(e, at, PAGES);
			} else {
				assert_int_equal(rc, -ENOMEM);
				assert_int_equal(space_mapped_pages(e->s), PAGES);
			}
			if (inject_hits(&e->inject, points[i]) == hits)
				break;
			refused += rc != 0;
		}
		/* For a frame room is made; a reservation is not needed. */
		assert_true(refused || points[i] == INJECT_FRAME || points[i] == INJECT_CHARGE);
		env_pageout(e, va, 8);
	}
	unpin_pages(e->q, pages, 2);
	env_expect(e, va, PAGES, 1, 0);
}
FOR_PLAIN(test_fail)

/* With less room than both need: copies make room by reclaim, nothing is lost. */
static void test_limit(void **st)
{
	(void)st;
	for (u32 k = 0; k < 4; k += 2) {
		struct env e;
		u64 va, at;

		env_open(&e, k, PAGES / 2, NULL);
		va = env_map(&e, PAGES, RW, 0);
		env_write(&e, va, PAGES, 1);
		at = snap(&e, va, PAGES, 0);
		env_write(&e, va, PAGES, 2);
		env_expect(&e, at, PAGES, 1, 0);
		env_expect(&e, va, PAGES, 2, 0);
		env_check(&e);
		assert_true(cgroup_usage(e.q, CGROUP_ROOT) <= PAGES / 2);
		env_close(&e);
	}
}

static void test_home(void **st)
{
	struct env e;
	u64 va, at = 0;

	(void)st;
	env_open(&e, 1, 0, NULL);
	va = env_map(&e, 4, RW, 0);
	env_write(&e, va, 4, 1);
	assert_int_equal(space_snapshot(e.q, e.s, va, PG(4), 0, &at), -EINVAL);
	assert_int_equal(space_map(e.q, e.s, 0, PG(4), RW, MAP_F_PLAIN, &at), -EOPNOTSUPP);
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share_all),    cmocka_unit_test(test_reverse_all),
		cmocka_unit_test(test_writable_all), cmocka_unit_test(test_many_all),
		cmocka_unit_test(test_swapped_all),  cmocka_unit_test(test_reclaim_all),
		cmocka_unit_test(test_pinned_all),   cmocka_unit_test(test_areas_all),
		cmocka_unit_test(test_refused_all),  cmocka_unit_test(test_remap_all),
		cmocka_unit_test(test_line_all),     cmocka_unit_test(test_fork_all),
		cmocka_unit_test(test_fail_all),     cmocka_unit_test(test_limit),
		cmocka_unit_test(test_home),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
