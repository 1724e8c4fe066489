#include "swap_env.h"

#define FRAMES 4096

static void life_of_a_slot(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	struct quire *q = &e->q;
	struct folio *f = env_folio(e, 0, 3, 1, 3), *g;
	u64 slot;
	u32 shadow;
	int err;

	assert_int_equal(swap_add_folio(q, f), 0);
	slot = f->swap;
	assert_int_not_equal(slot, 0);
	assert_int_equal(a32_read(&f->ref), 2);
	assert_int_equal(swap_count(q, slot), 0);
	assert_false(swap_folio_has_copy(q, f));
	g = swap_lookup(q, slot);
	assert_ptr_equal(f, g);
	folio_put(q, g);
	swap_dup(q, slot, 1);
	swap_dup(q, slot, 1);
	assert_int_equal(swap_count(q, slot), 2);
	assert_false(swap_try_free_folio(q, f));
	assert_int_equal(swap_writeout(q, &f, 1, &err), 1);
	assert_int_equal(err, 0);
	assert_false(folio_test(f, PG_DIRTY));
	assert_true(swap_folio_has_copy(q, f));
	env_evict(e, f, 1234567);
	assert_null(swap_lookup(q, slot));
	assert_int_equal(swap_check(q), 0);

	g = phys_alloc(q, 0, 0);
	env_lock(g);
	assert_int_equal(swap_cache_insert(q, slot, g, &shadow), 0);
	assert_int_equal(shadow, 1234567);
	f = phys_alloc(q, 0, 0);
	env_lock(f);
	assert_int_equal(swap_cache_insert(q, slot, f, &shadow), -EEXIST);
	env_unlock_put(e, f);
	void *buf = env_bytes(e, g);

	assert_int_equal(swap_read(q, &slot, 1, &buf, &err), 1);
	assert_true(page_is(buf, 3, 1, 3));
	assert_true(swap_folio_has_copy(q, g));
	swap_invalidate_copy(q, g);
	assert_false(swap_folio_has_copy(q, g));
	assert_true(folio_test(g, PG_DIRTY));
	assert_int_equal(swap_read(q, &slot, 1, &buf, &err), 0);
	assert_int_equal(err, -EAGAIN);
	swap_put(q, slot, 1);
	assert_false(swap_try_free_folio(q, g));
	swap_put(q, slot, 1);
	assert_int_equal(swap_used_slots(q), 1);
	assert_true(swap_try_free_folio(q, g));
	assert_true(swap_try_free_folio(q, g));
	assert_int_equal(swap_used_slots(q), 0);
	assert_int_equal(a32_read(&g->ref), 1);
	assert_false(folio_test(g, PG_SWAPCACHE));
	/* The slot is nobody's: a stale number finds nothing. */
	assert_null(swap_lookup(q, slot));
	assert_int_equal(swap_cache_insert(q, slot, g, &shadow), -ENOENT);
	assert_int_equal(swap_cache_insert(q, slot + (1ull << 40), g, &shadow), -ENOENT);
	assert_null(swap_lookup(q, ~0ull));
	env_unlock_put(e, g);
	env_free(e);
}

static void last_put_frees_the_copy(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	struct store_stats st;
	u64 slot[600];

	for (u32 i = 0; i < 600; i++)
		slot[i] = env_store(e, i, 1, 2);
	swap_store_stats(&e->q, 0, &st);
	assert_int_equal(st.pages, 600);
	assert_true(st.stored_bytes > 600 * 1024 && st.stored_bytes < 600 * 3072);
	for (u32 i = 0; i < 600; i++)
		swap_put(&e->q, slot[i], 1);
	swap_store_stats(&e->q, 0, &st);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.stored_bytes, 0);
	assert_int_equal(st.writes, 600);
	assert_int_equal(swap_used_slots(&e->q), 0);
	env_free(e);
}

/* Folios added in order get slots in order, large ones an aligned run. */
static void neighbours_get_neighbouring_slots(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	struct folio *f[64], *big;
	u32 jumps = 0;

	for (u32 i = 0; i < 64; i++) {
		f[i] = env_folio(e, 0, i, 0, 3);
		assert_int_equal(swap_add_folio(&e->q, f[i]), 0);
		jumps += i && f[i]->swap != f[i - 1]->swap + 1;
		folio_unlock(f[i]);
	}
	assert_true(jumps <= 2); /* the thread may move to another CPU */
	for (u32 order = 1; order <= 9; order++) {
		big = env_folio(e, order, 1000, 0, 3);
		assert_int_equal(swap_add_folio(&e->q, big), 0);
		assert_int_equal(big->swap % folio_nr(big), 0);
		assert_int_equal(a32_read(&big->ref), 1 + folio_nr(big));
		for (u32 i = 0; i < folio_nr(big); i++) {
			assert_ptr_equal(swap_lookup(&e->q, big->swap + i), big);
			folio_put(&e->q, big);
		}
		assert_true(swap_try_free_folio(&e->q, big));
		assert_int_equal(a32_read(&big->ref), 1);
		env_unlock_put(e, big);
	}
	for (u32 i = 0; i < 64; i++) {
		env_lock(f[i]);
		assert_true(swap_try_free_folio(&e->q, f[i]));
		env_unlock_put(e, f[i]);
	}
	env_free(e);
}

static void large_folio_goes_out_and_in(void **state)
{
	struct swap_env *e = env_new("lz4:1M,zstd", FRAMES);
	struct folio *f = env_folio(e, 9, 100, 1, -1), *g;
	struct quire *q = &e->q;
	u64 first;
	int err;

	assert_int_equal(swap_add_folio(q, f), 0);
	first = f->swap;
	swap_dup(q, first, 512);
	assert_int_equal(swap_writeout(q, &f, 1, &err), 1);
	assert_true(swap_folio_has_copy(q, f));
	/* Some pages lose their entry while the folio is still cached. */
	swap_put(q, first + 7, 40);
	env_evict(e, f, 1);
	assert_int_equal(swap_used_slots(q), 472);
	for (u32 i = 0; i < 512; i++) {
		u32 shadow;

		if (i >= 7 && i < 47)
			continue;
		g = env_load(e, first + i, &err);
		assert_int_equal(err, 0);
		assert_true(page_is(env_bytes(e, g), 100 + i, 1, -1));
		swap_put(q, first + i, 1);
		assert_true(swap_try_free_folio(q, g));
		assert_int_equal(swap_cache_insert(q, first + i, g, &shadow), -ENOENT);
		env_unlock_put(e, g);
	}
	assert_int_equal(swap_used_slots(q), 0);
	env_free(e);
}

static void abort_leaves_the_slot(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	struct quire *q = &e->q;
	u64 slot = env_store(e, 5, 5, 2);
	struct folio *f = phys_alloc(q, 0, 0);
	u32 shadow;
	int err;

	env_lock(f);
	assert_int_equal(swap_cache_insert(q, slot, f, &shadow), 0);
	assert_int_equal(shadow, 7);
	swap_cache_abort(q, f);
	assert_int_equal(a32_read(&f->ref), 1);
	assert_int_equal(swap_cache_insert(q, slot, f, &shadow), 0);
	/* The count goes while the folio is in: the abort frees the slot. */
	swap_put(q, slot, 1);
	swap_cache_abort(q, f);
	assert_int_equal(swap_used_slots(q), 0);
	env_unlock_put(e, f);
	slot = env_store(e, 6, 5, 2);
	f = env_load(e, slot, &err);
	assert_true(page_is(env_bytes(e, f), 6, 5, 2));
	swap_put(q, slot, 1);
	swap_try_free_folio(q, f);
	env_unlock_put(e, f);
	env_free(e);
}

/* The table grows with use and gives arrays back when clusters run empty. */
static void table_grows_and_shrinks(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	u64 start = swap_table_bytes(&e->q), full;
	enum { N = 40 * 512 };
	u64 *slot = calloc(N, sizeof(*slot));

	for (u32 i = 0; i < N; i++)
		slot[i] = env_store(e, i * 8, 1, 0);
	full = swap_table_bytes(&e->q);
	assert_true(full - start >= N * sizeof(struct slot));
	assert_true(full - start <= (N + 4 * 512) * 25 + PAGE_SIZE);
	for (u32 i = 0; i < N; i++)
		swap_put(&e->q, slot[i], 1);
	qrcu_barrier(&e->q);
	assert_true(swap_table_bytes(&e->q) - start <= (KEEP_EMPTY + 3) * 512 * 25 + PAGE_SIZE * 2);
	assert_int_equal(swap_check(&e->q), 0);
	/* Numbers and arrays are used again. */
	for (u32 i = 0; i < N; i++)
		slot[i] = env_store(e, i * 8, 1, 0);
	assert_true(swap_table_bytes(&e->q) <= full + 2 * 512 * 25);
	for (u32 i = 0; i < N; i++)
		swap_put(&e->q, slot[i], 1);
	free(slot);
	env_free(e);
}

/* Half of every cluster is freed: new slots fill the holes rather than grow the table for ever. */
static void holes_are_used_again(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	enum { N = 64 * 512 };
	u64 *slot = calloc(N, sizeof(*slot)), full;

	for (u32 i = 0; i < N; i++)
		slot[i] = env_store(e, i * 8, 1, 0);
	full = swap_table_bytes(&e->q);
	for (u32 round = 0; round < 4; round++) {
		for (u32 i = 0; i < N; i += 3)
			swap_put(&e->q, slot[i], 1);
		for (u32 i = 0; i < N; i += 3)
			slot[i] = env_store(e, i * 8, 1, 0);
	}
	assert_true(swap_table_bytes(&e->q) <= full + (2 * 16 + 8) * 512 * 25ull + full / 3);
	assert_int_equal(swap_check(&e->q), 0);
	for (u32 i = 0; i < N; i++)
		swap_put(&e->q, slot[i], 1);
	free(slot);
	env_free(e);
}

static int add_unlocked(struct swap_env *e, struct folio *f)
{
	int err;

	env_lock(f);
	err = swap_add_folio(&e->q, f);
	folio_unlock(f);
	return err;
}

static void no_memory_for_slots(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	struct folio *f[700], *extra;
	u32 n = 0;

	extra = env_folio(e, 0, 9, 1, 3);
	inject_at(&e->inject, INJECT_SLOT, 1);
	assert_int_equal(swap_add_folio(&e->q, extra), -ENOMEM);
	assert_int_equal(a32_read(&extra->ref), 1);
	assert_false(folio_test(extra, PG_SWAPCACHE));
	assert_int_equal(swap_add_folio(&e->q, extra), 0);
	for (u32 i = 0; i < 700; i++) {
		f[i] = env_folio(e, 0, i, 1, 3);
		folio_unlock(f[i]);
	}
	inject_every(&e->inject, INJECT_ARENA, 1);
	/* The cluster of the first is filled to the last slot, then it ends. */
	while (n < 700 && !add_unlocked(e, f[n]))
		n++;
	inject_off(&e->inject, INJECT_ARENA);
	assert_int_equal(n, 511);
	assert_int_equal(swap_check(&e->q), 0);
	for (u32 i = n; i < 700; i++)
		assert_int_equal(add_unlocked(e, f[i]), 0);
	for (u32 i = 0; i < 700; i++) {
		env_lock(f[i]);
		assert_true(swap_try_free_folio(&e->q, f[i]));
		env_unlock_put(e, f[i]);
	}
	assert_true(swap_try_free_folio(&e->q, extra));
	env_unlock_put(e, extra);
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(life_of_a_slot),
		cmocka_unit_test(last_put_frees_the_copy),
		cmocka_unit_test(neighbours_get_neighbouring_slots),
		cmocka_unit_test(large_folio_goes_out_and_in),
		cmocka_unit_test(abort_leaves_the_slot),
		cmocka_unit_test(table_grows_and_shrinks),
		cmocka_unit_test(holes_are_used_again),
		cmocka_unit_test(no_memory_for_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
