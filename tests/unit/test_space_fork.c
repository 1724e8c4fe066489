/* Fork on machines with plain frames: contents, copies exactly where they are due, pins, swapped
 * pages, large folios, areas that are left out or wiped, charges, and every allocation failing. */
#include "core_env.h"

#define PAGES 48u
#define HALF  32u /* no large folio lies across it */

/* The same instance seen through the child. */
static struct env fork_env(struct env *e)
{
	struct env c = *e;

	assert_int_equal(space_fork(e->q, e->s, &c.s), 0);
	return c;
}

static void exit_env(struct env *c)
{
	space_destroy(c->q, c->s);
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
	struct env c;
	u64 before, copies, half = 0;

	env_write(e, va, PAGES, 1);
	lru_drain_all(e->q);
	/* Of the first half: pages whose folio has pages of the second half too. */
	for (u64 i = 0; i < HALF; i++)
		half += folio_head(env_page_at(e, va + PG(i))) ==
			folio_head(env_page_at(e, va + PG(HALF)));
	before = env_usage(e);
	c = fork_env(e);
	env_check(e);
	/* Not a page more, and the same frames. */
	assert_int_equal(env_usage(e), before);
	assert_int_equal(space_resident_pages(c.s), space_resident_pages(e->s));
	copies = env_copies(e);
	for (u64 i = 0; i < PAGES; i++) {
		assert_ptr_equal(env_page_at(e, va + PG(i)), env_page_at(&c, va + PG(i)));
		assert_false(page_exclusive(env_page_at(e, va + PG(i))));
	}
	env_expect(e, va, PAGES, 1, 0);
	env_expect(&c, va, PAGES, 1, 0);
	assert_int_equal(env_copies(e), copies);
	/* The first half is written by the child: copied; then by the parent: in place where all
	 * of the folio is its own again. */
	env_write(&c, va, HALF, 2);
	assert_int_equal(env_copies(e), copies + HALF);
	lru_drain_all(e->q);
	env_write(e, va, HALF, 3);
	assert_int_equal(env_copies(e), copies + HALF + (env_keeps(e, large) ? 0 : half));
	env_expect(&c, va, HALF, 2, 0);
	env_expect(&c, va + PG(HALF), PAGES - HALF, 1, HALF);
	env_expect(e, va, HALF, 3, 0);
	env_expect(e, va + PG(HALF), PAGES - HALF, 1, HALF);
	env_check(e);
	/* A page that was written by both is copied no more. */
	copies = env_copies(e);
	env_write(&c, va, HALF, 4);
	env_write(e, va, HALF, 5);
	assert_int_equal(env_copies(e), copies);
	exit_env(&c);
	env_check(e);
	lru_drain_all(e->q);
	/* The child is gone: what it had shared is the parent's alone again. */
	env_write(e, va + PG(HALF), PAGES - HALF, 6);
	assert_int_equal(env_copies(e), copies);
	env_expect(e, va, HALF, 5, 0);
}
FOR_PLAIN(test_share)

/* The parent goes first; the child's pages are found by reclaim, and come back. */
static void test_orphan(struct env *e, u64 va, bool large)
{
	struct env c;
	u64 before;

	(void)large;
	env_write(e, va, PAGES, 1);
	c = fork_env(e);
	before = env_usage(e);
	assert_int_equal(space_unmap(e->q, e->s, va, PG(PAGES)), 0);
	assert_int_equal(env_usage(e), before);
	env_check(e);
	env_pageout(&c, va, PAGES);
	env_check(e);
	assert_true(pte_is_swap(env_entry(&c, va)));
	assert_int_equal(env_usage(e), 0);
	env_expect(&c, va, PAGES, 1, 0);
	env_write(&c, va, PAGES, 2);
	env_expect(&c, va, PAGES, 2, 0);
	exit_env(&c);
}
FOR_PLAIN(test_orphan)

/* Swapped out by fork: both entries name the slots, neither is exclusive; each gets its own page
 * when it writes. */
static void test_swapped(struct env *e, u64 va, bool large)
{
	struct env c;
	u64 slots, copies;

	(void)large;
	env_write(e, va, PAGES, 1);
	env_pageout(e, va, PAGES);
	slots = swap_used_slots(e->q);
	assert_true(env_entry(e, va) & SWP_EXCLUSIVE);
	c = fork_env(e);
	env_check(e);
	assert_int_equal(swap_used_slots(e->q), slots);
	for (u64 i = 0; i < PAGES; i++) {
		assert_int_equal(env_entry(e, va + PG(i)), env_entry(&c, va + PG(i)));
		assert_false(env_entry(e, va + PG(i)) & SWP_EXCLUSIVE);
		assert_int_equal(swap_count(e->q, swp_slot(env_entry(e, va + PG(i)))), 2);
	}
	copies = env_copies(e);
	env_expect(e, va, PAGES, 1, 0);
	for (u64 i = 0; i < PAGES; i++)
		assert_false(pte_write(env_entry(e, va + PG(i))));
	env_check(e);
	/* The child still names the slots, whose copies it keeps: nothing is copied. */
	env_write(e, va, PAGES / 2, 2);
	assert_int_equal(env_copies(e), copies);
	env_expect(&c, va, PAGES, 1, 0);
	env_check(e);
	exit_env(&c);
	lru_drain_all(e->q);
	env_write(e, va + PG(PAGES / 2), PAGES / 2, 3);
	assert_int_equal(env_copies(e), copies);
	env_expect(e, va, PAGES / 2, 2, 0);
}
FOR_PLAIN(test_swapped)

/* Shared first and swapped out then, by one walk over both. */
static void test_swap_shared(struct env *e, u64 va, bool large)
{
	struct env c, g;

	(void)large;
	env_write(e, va, PAGES, 1);
	c = fork_env(e);
	g = fork_env(&c);
	env_pageout(e, va, PAGES);
	env_check(e);
	assert_int_equal(env_usage(e), 0);
	assert_true(pte_is_swap(env_entry(&g, va)));
	assert_int_equal(swap_count(e->q, swp_slot(env_entry(e, va))), 3);
	env_expect(&g, va, PAGES, 1, 0);
	env_write(&c, va, PAGES, 2);
	exit_env(&c);
	env_expect(e, va, PAGES, 1, 0);
	env_pageout(e, va, PAGES);
	env_check(e);
	env_expect(&g, va, PAGES, 1, 0);
	exit_env(&g);
}
FOR_PLAIN(test_swap_shared)

/* Large folios that two spaces map in part cannot be split: they go out as a whole, without the
 * pages that nobody maps, which cost neither a write nor, in the end, a slot. */
static void test_partial(struct env *e, u64 va, bool large)
{
	u64 kept = 0, out;
	struct env c;

	(void)large;
	env_write(e, va, PAGES, 1);
	c = fork_env(e);
	for (u64 i = 0; i < PAGES; i++) {
		bool both = i % 3 == 1;

		kept += !both;
		if (i % 3 == 2 || both)
			assert_int_equal(
				space_advise(e->q, e->s, va + PG(i), PAGE_SIZE, ADVISE_DONTNEED),
				0);
		if (i % 3 == 0 && i % 2)
			assert_int_equal(
				space_advise(c.q, c.s, va + PG(i), PAGE_SIZE, ADVISE_DONTNEED), 0);
		if (both)
			assert_int_equal(
				space_advise(c.q, c.s, va + PG(i), PAGE_SIZE, ADVISE_DONTNEED), 0);
	}
	env_check(e);
	out = stat_read(e->q, STAT_SWAP_OUT_PAGES);
	env_pageout(e, va, PAGES);
	env_pageout(&c, va, PAGES);
	env_check(e);
	assert_int_equal(env_usage(e), 0);
	assert_int_equal(stat_read(e->q, STAT_SWAP_OUT_PAGES), out + kept);
	assert_int_equal(swap_used_slots(e->q), kept);
	for (u64 i = 0; i < PAGES; i++) {
		if (i % 3 == 0)
			env_expect(e, va + PG(i), 1, 1, i);
		if (i % 3 == 2 || (i % 3 == 0 && i % 2 == 0))
			env_expect(&c, va + PG(i), 1, 1, i);
	}
	exit_env(&c);
}
FOR_PLAIN(test_partial)

/* A pinned page stays the parent's; the child has a copy of it, and of it alone where it is a folio
 * of its own. */
static void test_pinned(struct env *e, u64 va, bool large)
{
	struct range r = { va + PG(3), va + PG(5) };
	struct folio *pages[2];
	u64 before, word = 77;
	struct env c;

	env_write(e, va, PAGES, 1);
	assert_int_equal(pin_pages(e->q, &e->s->fs, r, ACCESS_WRITE, pages), 2);
	before = env_usage(e);
	c = fork_env(e);
	env_check(e);
	for (u32 i = 0; i < 2; i++) {
		assert_ptr_equal(env_page_at(e, r.start + PG(i)), pages[i]);
		assert_true(page_exclusive(pages[i]));
		assert_true(pte_write(env_entry(e, r.start + PG(i))));
		assert_ptr_not_equal(env_page_at(&c, r.start + PG(i)), pages[i]);
		assert_true(page_exclusive(env_page_at(&c, r.start + PG(i))));
	}
	if (!large)
		assert_int_equal(env_usage(e), before + 2);
	env_expect(&c, va, PAGES, 1, 0);
	/* What the parent writes goes to the page that is pinned. */
	assert_int_equal(env_store(e, r.start, word), 0);
	assert_ptr_equal(env_page_at(e, r.start), pages[0]);
	assert_int_equal(*(u64 *)e->m->ops->frame_window(e->m, folio_pfn(e->q, pages[0])), word);
	unpin_pages(e->q, pages, 2);
	env_expect(&c, va, PAGES, 1, 0);
	exit_env(&c);
}
FOR_PLAIN(test_pinned)

/* A pin for reading makes a shared page its space's own first, without the right to write. */
static void test_unshare(struct env *e, u64 va, bool large)
{
	struct range r = { va, va + PAGE_SIZE };
	struct folio *mine, *theirs;
	u64 copies;
	struct env c;

	env_write(e, va, PAGES, 1);
	lru_drain_all(e->q);
	c = fork_env(e);
	copies = env_copies(e);
	assert_int_equal(pin_pages(c.q, &c.s->fs, r, ACCESS_READ, &mine), 1);
	assert_int_equal(env_copies(e), copies + 1);
	assert_true(page_exclusive(mine));
	assert_false(pte_write(env_entry(&c, va)));
	assert_ptr_not_equal(env_page_at(e, va), mine);
	env_check(e);
	/* Only the parent is left with it now. */
	lru_drain_all(e->q);
	assert_int_equal(pin_pages(e->q, &e->s->fs, r, ACCESS_READ, &theirs), 1);
	assert_int_equal(env_copies(e), copies + (large && !env_keeps(e, large) ? 2 : 1));
	assert_int_equal(env_store(&c, va, 9), 0);
	assert_ptr_equal(env_page_at(&c, va), mine);
	env_expect(e, va, PAGES, 1, 0);
	unpin_pages(e->q, &mine, 1);
	unpin_pages(e->q, &theirs, 1);
	exit_env(&c);
}
FOR_PLAIN(test_unshare)

/* Without a lock: what is exclusive. What is not, or while the space is forked, goes the long way.
 */
static void test_pin_fast(struct env *e, u64 va, bool large)
{
	struct range r = { va, va + PG(PAGES) }, one = { va, va + PAGE_SIZE };
	struct folio *pages[PAGES], *again;
	u64 copies, zero;
	struct env c;

	(void)large;
	env_write(e, va, PAGES, 1);
	assert_int_equal(pin_fast(e->q, &e->s->fs, r, ACCESS_WRITE, pages), PAGES);
	for (u64 i = 0; i < PAGES; i++)
		assert_ptr_equal(pages[i], env_page_at(e, va + PG(i)));
	env_check(e);
	/* Reclaim leaves them. */
	env_pageout(e, va, PAGES);
	for (u64 i = 0; i < PAGES; i++)
		assert_ptr_equal(pages[i], env_page_at(e, va + PG(i)));
	unpin_pages(e->q, pages, PAGES);
	/* Half of it swapped out: brought in on the way. */
	env_pageout(e, va, PAGES / 2);
	assert_int_equal(pin_fast(e->q, &e->s->fs, r, ACCESS_READ, pages), PAGES);
	env_check(e);
	unpin_pages(e->q, pages, PAGES);
	c = fork_env(e);
	copies = env_copies(e);
	assert_int_equal(pin_fast(c.q, &c.s->fs, one, ACCESS_READ, pages), 1);
	assert_int_equal(env_copies(e), copies + 1);
	assert_true(page_exclusive(pages[0]));
	/* Exclusive now, but perhaps not for long. */
	a32_fetch_add(&c.s->fs.fork_seq, 1);
	assert_int_equal(pin_fast(c.q, &c.s->fs, one, ACCESS_READ, &again), 1);
	a32_fetch_add(&c.s->fs.fork_seq, 1);
	assert_ptr_equal(again, pages[0]);
	unpin_pages(c.q, pages, 1);
	unpin_pages(c.q, &again, 1);
	assert_int_equal(pin_fast(c.q, &c.s->fs, (struct range){ r.end, r.end + PAGE_SIZE },
				  ACCESS_READ, pages),
			 -EFAULT);
	/* The zero page has no folio to be pinned. */
	zero = env_map_single(e, 1);
	env_expect_zero(e, zero, 1);
	assert_int_equal(pin_fast(e->q, &e->s->fs, (struct range){ zero, zero + PAGE_SIZE },
				  ACCESS_READ, &again),
			 1);
	assert_null(again);
	unpin_pages(e->q, &again, 1);
	env_expect(e, va, PAGES, 1, 0);
	env_expect(&c, va, PAGES, 1, 0);
	exit_env(&c);
}
FOR_PLAIN(test_pin_fast)

static void test_areas(struct env *e, u64 va, bool large)
{
	u64 gone = env_map_single(e, 4), wiped = env_map_single(e, 4), kept = env_map_single(e, 4);
	u64 zero = env_map_single(e, 4), got;
	struct env c;

	(void)large;
	env_write(e, va, PAGES, 1);
	env_write(e, gone, 4, 2);
	env_write(e, wiped, 4, 3);
	env_write(e, kept, 4, 4);
	env_expect_zero(e, zero, 4);
	assert_int_equal(space_advise(e->q, e->s, gone, PG(4), ADVISE_DONTFORK), 0);
	assert_int_equal(space_advise(e->q, e->s, wiped, PG(4), ADVISE_WIPEONFORK), 0);
	assert_int_equal(space_mlock(e->q, e->s, kept, PG(4), false), 0);
	assert_int_equal(space_protect(e->q, e->s, va, PG(8), PROT_BITS_READ), 0);
	assert_int_equal(space_protect(e->q, e->s, va + PG(8), PG(8), 0), 0);
	c = fork_env(e);
	env_check(e);
	assert_int_equal(vmas_mergeable(&c.s->fs.vmas), 0);
	assert_int_equal(space_mapped_pages(c.s), space_mapped_pages(e->s) - 4);
	assert_int_equal(env_load(&c, gone), -EFAULT);
	env_expect_zero(&c, wiped, 4);
	env_expect(&c, kept, 4, 4, 0);
	env_expect_zero(&c, zero, 4);
	assert_int_equal(env_store(&c, va, 1), -EACCES);
	assert_int_equal(env_load(&c, va + PG(8)), -EACCES);
	/* Locked in the parent, not in the child. */
	assert_int_equal(c.s->fs.vmas.locked_pages, 0);
	env_write(&c, kept, 4, 5);
	env_pageout(&c, kept, 4);
	assert_true(pte_is_swap(env_entry(&c, kept)));
	env_expect(e, kept, 4, 4, 0);
	assert_true(pte_present(env_entry(e, kept)));
	/* Of its own, on both sides. */
	env_write(&c, wiped, 4, 6);
	env_expect(e, wiped, 4, 3, 0);
	assert_int_equal(env_store(&c, zero, 7), 0);
	assert_int_equal(sim_load(e->m, 0, e->s->ms, zero, &got, 8), 0);
	assert_int_equal(got, 0);
	assert_int_equal(space_protect(e->q, c.s, va, PG(16), RW), 0);
	env_write(&c, va, 16, 7);
	assert_int_equal(space_protect(e->q, e->s, va, PG(16), RW), 0);
	env_expect(e, va, PAGES, 1, 0);
	env_check(e);
	/* What only the parent has locked does not stay locked for the child alone. */
	c = (exit_env(&c), fork_env(e));
	assert_int_equal(space_unmap(e->q, e->s, kept, PG(4)), 0);
	env_pageout(&c, kept, 4);
	assert_true(pte_is_swap(env_entry(&c, kept)));
	env_expect(&c, kept, 4, 4, 0);
	exit_env(&c);
}
FOR_PLAIN(test_areas)

/* MADV_FREE of a page that another space has too leaves it alone. */
static void test_free_shared(struct env *e, u64 va, bool large)
{
	struct env c;

	(void)large;
	env_write(e, va, PAGES, 1);
	c = fork_env(e);
	assert_int_equal(space_advise(e->q, c.s, va, PG(PAGES), ADVISE_FREE), 0);
	env_pageout(&c, va, PAGES);
	env_expect(e, va, PAGES, 1, 0);
	assert_int_equal(space_advise(e->q, c.s, va, PG(PAGES), ADVISE_DONTNEED), 0);
	env_expect_zero(&c, va, PAGES);
	env_expect(e, va, PAGES, 1, 0);
	exit_env(&c);
}
FOR_PLAIN(test_free_shared)

/* Moved in the child: the walk finds the page in both, at different addresses. */
static void test_remap(struct env *e, u64 va, bool large)
{
	struct env c;
	u64 at = 0;

	(void)large;
	env_write(e, va, PAGES, 1);
	c = fork_env(e);
	assert_int_equal(
		space_remap(e->q, c.s, va, PG(PAGES), PG(PAGES), 1 | 2, va + PG(4 * PAGES), &at),
		0);
	env_check(e);
	env_pageout(e, va, PAGES);
	assert_true(pte_is_swap(env_entry(&c, at)));
	env_check(e);
	env_expect(&c, at, PAGES, 1, 0);
	env_write(&c, at, PAGES, 2);
	env_expect(e, va, PAGES, 1, 0);
	exit_env(&c);
}
FOR_PLAIN(test_remap)

/* A line of processes, each forked from the last, which then exits: the chains stay short. */
static void test_line(struct env *e, u64 va, bool large)
{
	struct env c = *e, g;
	u64 objects = 0;

	(void)large;
	env_write(e, va, PAGES, 1);
	for (u64 i = 0; i < 40; i++) {
		g = fork_env(&c);
		env_write(&g, va + PG(i), 1, 100 + i);
		if (i)
			exit_env(&c);
		c = g;
		qrcu_barrier(e->q);
		if (i == 4)
			objects = rmap_live_objects(e->q);
		else if (i > 4)
			assert_int_equal(rmap_live_objects(e->q), objects);
	}
	env_check(e);
	env_expect(e, va, PAGES, 1, 0);
	for (u64 i = 0; i < 40; i++)
		env_expect(&c, va + PG(i), 1, 100 + i, 0);
	exit_env(&c);
}
FOR_PLAIN(test_line)

/* Each allocation and each call of the machine fails in turn: no child, nothing lost, nothing
 * leaks; and once it succeeds everything is there. */
static void test_fail(struct env *e, u64 va, bool large)
{
	static const enum inject_point points[] = { INJECT_ARENA, INJECT_FRAME, INJECT_CHARGE,
						    INJECT_TABLE, INJECT_MACHINE_CALL };
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
			u64 hits = inject_hits(&e->inject, points[i]);
			struct env c = *e;
			int rc;

			inject_at(&e->inject, points[i], nth);
			rc = space_fork(e->q, e->s, &c.s);
			inject_off(&e->inject, points[i]);
			env_check(e);
			env_expect(e, va + PG(8), PAGES - 8, 1, 8);
			for (u64 k = 30; k < 36; k++)
				assert_int_equal(env_write_page(e, va + PG(k), 1, k), 0);
			if (!rc) {
				env_expect(&c, va, PAGES, 1, 0);
				exit_env(&c);
			} else {
				assert_int_equal(rc, -ENOMEM);
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
		struct env e, c;
		u64 va;

		env_open(&e, k, PAGES / 2, NULL);
		va = env_map(&e, PAGES, RW, 0);
		env_write(&e, va, PAGES, 1);
		c = fork_env(&e);
		env_write(&c, va, PAGES, 2);
		env_expect(&e, va, PAGES, 1, 0);
		env_write(&e, va, PAGES, 3);
		env_expect(&c, va, PAGES, 2, 0);
		env_expect(&e, va, PAGES, 3, 0);
		env_check(&e);
		assert_true(cgroup_usage(e.q, CGROUP_ROOT) <= PAGES / 2);
		exit_env(&c);
		env_close(&e);
	}
}

static void test_home(void **st)
{
	struct env e;
	struct space *s;

	(void)st;
	env_open(&e, 1, 0, NULL);
	assert_int_equal(space_fork(e.q, e.s, &s), -EOPNOTSUPP);
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share_all),       cmocka_unit_test(test_orphan_all),
		cmocka_unit_test(test_swapped_all),     cmocka_unit_test(test_swap_shared_all),
		cmocka_unit_test(test_partial_all),     cmocka_unit_test(test_pinned_all),
		cmocka_unit_test(test_unshare_all),     cmocka_unit_test(test_areas_all),
		cmocka_unit_test(test_free_shared_all), cmocka_unit_test(test_remap_all),
		cmocka_unit_test(test_line_all),        cmocka_unit_test(test_fail_all),
		cmocka_unit_test(test_limit),           cmocka_unit_test(test_home),
		cmocka_unit_test(test_pin_fast_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
