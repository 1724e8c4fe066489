/* Eviction: contents, clean copies, refusals, stores that are full or fail, lazily freed pages. */
#include "core_env.h"

static void evicts_and_returns(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 300, RW, 0);
	env_write(&e, va, 300, 1);
	env_pageout(&e, va, 300);
	assert_int_equal(space_resident_pages(e.s), 0);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), 0);
	env_check(&e);
	env_expect(&e, va, 300, 1, 0);
	assert_true(stat_read(e.q, STAT_SWAP_READAHEAD_PAGES) > 200);
	/* Only read since: the copies are good, nothing is written again. */
	u64 out = stat_read(e.q, STAT_SWAP_OUT_PAGES);

	env_pageout(&e, va, 300);
	assert_int_equal(stat_read(e.q, STAT_SWAP_OUT_PAGES), out);
	assert_int_equal(stat_read(e.q, STAT_SWAP_REUSED_PAGES), 300);
	/* One is written: its copy goes, and only it is written out. */
	assert_int_equal(env_write_page(&e, va + PG(7), 2, 7), 0);
	env_expect(&e, va, 7, 1, 0);
	env_pageout(&e, va, 300);
	assert_int_equal(stat_read(e.q, STAT_SWAP_OUT_PAGES), out + 1);
	env_expect(&e, va + PG(7), 1, 2, 7);
	env_expect(&e, va + PG(8), 292, 1, 8);
	env_close(&e);
}
FOR_EACH_KIND(evicts_and_returns)

static void under_limit(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 128, NULL);
	va = env_map(&e, 1024, RW, 0);
	for (u32 round = 0; round < 3; round++) {
		env_write(&e, va, 1024, round);
		env_expect(&e, va, 1024, round, 0);
	}
	assert_true(cgroup_peak(e.q, CGROUP_ROOT) <= 128);
	assert_int_equal(stat_read(e.q, STAT_OVER_LIMIT), 0);
	env_close(&e);
}
FOR_EACH_KIND(under_limit)

/* No store takes anything: over the limit, and nothing is lost. */
static void stores_full(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 64, NULL);
	va = env_map(&e, 256, RW, 0);
	inject_every(&e.inject, INJECT_STORE_WRITE, 1);
	env_write(&e, va, 256, 3);
	env_expect(&e, va, 256, 3, 0);
	assert_true(stat_read(e.q, STAT_OVER_LIMIT) > 0);
	env_check(&e);
	inject_off(&e.inject, INJECT_STORE_WRITE);
	env_pageout(&e, va, 256);
	env_expect(&e, va, 256, 3, 0);
	env_close(&e);
}
FOR_EACH_KIND(stores_full)

static void refusals(u32 kind)
{
	struct folio *pages[4];
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 16, RW, 0);
	env_write(&e, va, 16, 4);
	assert_int_equal(pin_pages(e.q, &e.s->fs, (struct range){ va + PG(4), va + PG(8) },
				   ACCESS_WRITE, pages),
			 4);
	env_pageout(&e, va, 16);
	for (u32 i = 4; i < 8; i++)
		assert_true(pte_present(env_entry(&e, va + PG(i))));
	unpin_pages(e.q, pages, 4);
	env_pageout(&e, va, 16);
	assert_int_equal(space_resident_pages(e.s), 0);
	env_expect(&e, va, 16, 4, 0);
	assert_int_equal(space_mlock(e.q, e.s, va, PG(16), false), 0);
	reclaim_pages(e.q, CGROUP_ROOT, 100);
	assert_int_equal(space_resident_pages(e.s), 16);
	assert_int_equal(space_munlock(e.q, e.s, va, PG(16)), 0);
	/* What may not be read is not read by eviction where it would read it at its address. */
	assert_int_equal(space_protect(e.q, e.s, va, PG(16), 0), 0);
	env_pageout(&e, va, 16);
	if (e.home)
		assert_int_equal(space_resident_pages(e.s), 16);
	assert_int_equal(space_protect(e.q, e.s, va, PG(16), RW), 0);
	env_expect(&e, va, 16, 4, 0);
	env_close(&e);
}
FOR_EACH_KIND(refusals)

/* What is written through a pin survives, though no entry says so. */
static void pin_dirties(u32 kind)
{
	struct folio *page;
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 1, RW, 0);
	env_write(&e, va, 1, 5);
	env_pageout(&e, va, 1);
	env_expect(&e, va, 1, 5, 0);
	assert_int_equal(
		pin_pages(e.q, &e.s->fs, (struct range){ va, va + PG(1) }, ACCESS_WRITE, &page), 1);
	if (!e.home)
		memset(e.m->ops->frame_window(e.m, folio_pfn(e.q, page)), 0x5a, 8);
	else
		assert_int_equal(env_store(&e, va, 0x5a5a5a5a5a5a5a5aull), 0);
	unpin_pages(e.q, &page, 1);
	sim_evict_all(e.m);
	env_pageout(&e, va, 1);
	assert_int_equal(space_resident_pages(e.s), 0);
	u64 got;

	assert_int_equal(sim_load(e.m, 0, e.s->ms, va, &got, 8), 0);
	assert_int_equal(got, 0x5a5a5a5a5a5a5a5aull);
	env_close(&e);
}
FOR_EACH_KIND(pin_dirties)

static void lazyfree(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 64, RW, 0);
	env_write(&e, va, 64, 6);
	assert_int_equal(space_advise(e.q, e.s, va, PG(64), ADVISE_FREE), 0);
	/* Written again: kept. */
	env_write(&e, va, 4, 7);
	env_pageout(&e, va, 64);
	env_expect(&e, va, 4, 7, 0);
	assert_int_equal(space_resident_pages(e.s) <= 64, 1);
	env_expect_zero(&e, va + PG(60), 4);
	env_close(&e);
}
FOR_EACH_KIND(lazyfree)

/* A damaged copy is an error on that page alone. */
static void corrupt(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 8, RW, 0);
	env_write(&e, va, 8, 8);
	env_pageout(&e, va, 8);
	inject_at(&e.inject, INJECT_STORE_CORRUPT, 1);
	assert_int_equal(env_load(&e, va + PG(3)), -EIO);
	inject_off(&e.inject, INJECT_STORE_CORRUPT);
	env_expect(&e, va, 8, 8, 0);
	env_close(&e);
}
FOR_EACH_KIND(corrupt)

/* What is to be evicted lies on another node than what needs the room. */
static void other_node(void **st)
{
	struct space *first, *second;
	struct env e;
	u64 a, b;

	(void)st;
	env_open_nodes(&e, 2, 128, NULL, 2);
	first = e.s;
	assert_int_equal(space_create(e.q, CGROUP_ROOT, 1, &second), 0);
	e.s = second;
	a = env_map(&e, 128, RW, 0);
	env_write(&e, a, 128, 1);
	assert_int_equal(phys_used(e.q, 1), 128);
	e.s = first;
	b = env_map(&e, 64, RW, 0);
	env_write(&e, b, 64, 2);
	assert_true(phys_used(e.q, 1) <= 128 - 64);
	assert_int_equal(stat_read(e.q, STAT_OVER_LIMIT), 0);
	/* And back. */
	e.s = second;
	env_expect(&e, a, 128, 1, 0);
	e.s = first;
	env_expect(&e, b, 64, 2, 0);
	space_destroy(e.q, second);
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(evicts_and_returns_all),
		cmocka_unit_test(under_limit_all),
		cmocka_unit_test(stores_full_all),
		cmocka_unit_test(refusals_all),
		cmocka_unit_test(pin_dirties_all),
		cmocka_unit_test(lazyfree_all),
		cmocka_unit_test(corrupt_all),
		cmocka_unit_test(other_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
