/* The gather: slots and pairs, batches, arena failure, delayed reverse-map removals. */
#include "core_env.h"

#include "gather/gather.h"

/* A mapped folio without a page table: counted as the entries would be. */
static struct folio *new_folio(struct env *e, unsigned order, u32 refs)
{
	struct folio *f = phys_alloc(e->q, 0, order);

	assert_non_null(f);
	if (refs > 1)
		folio_get_nr(f, refs - 1);
	return f;
}

/* Only the zero page, where there is one. */
static u64 used_at_rest(struct env *e)
{
	return fault_zero_folio(e->q) ? 1 : 0;
}

/* nr pages take two slots, one page one; a pair is never split at the end of a batch. */
static void test_pairs(void **st)
{
	struct gather g;
	struct env e;
	u64 slots, pages = 0, want = 0;

	env_open(&e, 0, 0, NULL);
	gather_begin(e.q, &g, &e.s->fs.rs, false);
	for (u32 i = 0; i < 1500; i++) {
		u32 order = i % 3 ? 2 : 0;

		assert_false(gather_folio_pages(&g, new_folio(&e, order, 1u << order), 1u << order,
						false));
		pages += 1u << order;
		want += order ? 2 : 1;
	}
	assert_int_equal(gather_pending(&g, &slots), pages);
	assert_int_equal(slots, want);
	assert_true(g.nr_batches >= 4);
	gather_end(&g);
	assert_int_equal(phys_used(e.q, 0), used_at_rest(&e));
	env_close(&e);
}

/* Without a page for a batch the on-stack bundle goes round. */
static void test_no_memory(void **st)
{
	struct gather g;
	struct env e;
	u32 full = 0;

	env_open(&e, 0, 0, NULL);
	gather_begin(e.q, &g, &e.s->fs.rs, false);
	inject_every(&e.inject, INJECT_ARENA, 1);
	for (u32 i = 0; i < 100; i++)
		if (gather_folio_pages(&g, new_folio(&e, 1, 2), 2, false)) {
			full++;
			gather_flush(&g);
		}
	inject_off(&e.inject, INJECT_ARENA);
	assert_true(full >= 100 / (GATHER_BUNDLE / 2));
	gather_end(&g);
	assert_int_equal(phys_used(e.q, 0), used_at_rest(&e));
	env_close(&e);
}

/* The gather says full after 19 batches, and starts over. */
static void test_full(void **st)
{
	struct gather g;
	struct env e;
	u32 n = 0;

	env_open(&e, 0, 0, NULL);
	gather_begin(e.q, &g, &e.s->fs.rs, false);
	while (!gather_folio_pages(&g, new_folio(&e, 0, 1), 1, false))
		n++;
	assert_in_range(n, GATHER_MAX_BATCHES * (GATHER_BATCH_SLOTS - 1),
			GATHER_MAX_BATCHES * GATHER_BATCH_SLOTS + GATHER_BUNDLE);
	assert_int_equal(g.nr_batches, GATHER_MAX_BATCHES);
	gather_flush(&g);
	assert_int_equal(gather_pending(&g, NULL), 0);
	assert_int_equal(phys_used(e.q, 0), used_at_rest(&e));
	gather_end(&g);
	env_close(&e);
}

/* Delayed removals are all done before the entry lock goes, also when batches of an earlier round
 * are left over. */
static void test_delayed(void **st)
{
	struct folio *f[GATHER_BATCH_SLOTS * 3];
	struct gather g;
	struct env e;
	u32 n = 0, done = 0;

	env_open(&e, 0, 0, NULL);
	gather_begin(e.q, &g, &e.s->fs.rs, false);
	for (u32 i = 0; i < GATHER_BATCH_SLOTS * 3; i++)
		assert_false(gather_folio_pages(&g, new_folio(&e, 0, 1), 1, false));
	gather_flush(&g);
	while (done < ARRAY_SIZE(f)) {
		bool full = false;

		while (n < ARRAY_SIZE(f) && !full) {
			f[n] = new_folio(&e, 0, 1);
			a32_set(&f[n]->mapcount, 1);
			gather_note_range(&g, PG(n), PAGE_SIZE);
			full = gather_folio_pages(&g, f[n++], 1, true);
		}
		gather_flush_before_unlock(&g);
		for (; done < n; done++)
			assert_int_equal(a32_read(&f[done]->mapcount), 0);
		gather_flush(&g);
	}
	gather_end(&g);
	assert_int_equal(phys_used(e.q, 0), used_at_rest(&e));
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_delayed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
