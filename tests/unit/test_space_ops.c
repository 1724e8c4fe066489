/* Operations of a space with contents: remap, protect, advice, mlock, mincore, splits and merges.
 */
#include "core_env.h"

#define MAYMOVE   1u
#define FIXED     2u
#define DONTUNMAP 4u

static u32 areas(struct env *e)
{
	u32 n = 0;

	space_read_lock(&e->s->fs.vmas);
	for (struct vma *v = vma_find_first(&e->s->fs.vmas, 0); v; v = vma_next(&e->s->fs.vmas, v))
		n++;
	assert_int_equal(vmas_mergeable(&e->s->fs.vmas), 0);
	space_read_unlock(&e->s->fs.vmas);
	return n;
}

static void resize(u32 kind)
{
	struct env e;
	u64 va, at;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 64, RW, 0);
	env_write(&e, va, 64, 1);
	assert_int_equal(space_remap(e.q, e.s, va, PG(64), PG(32), 0, 0, &at), 0);
	assert_int_equal(at, va);
	assert_int_equal(env_load(&e, va + PG(32)), -EFAULT);
	assert_int_equal(space_remap(e.q, e.s, va, PG(32), PG(64), 0, 0, &at), 0);
	assert_int_equal(at, va);
	env_expect(&e, va, 32, 1, 0);
	env_expect_zero(&e, va + PG(32), 32);
	assert_int_equal(areas(&e), 1);
	env_close(&e);
}
FOR_EACH_KIND(resize)

/* Some pages in memory, some in the store, some in neither; moved, and back again onto frames of
 * folios that live on. */
static void move_back_and_forth(u32 kind)
{
	struct env e;
	u64 va, to, at;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 64, RW, 0);
	to = env_map(&e, 64, RW, 0);
	assert_int_equal(space_unmap(e.q, e.s, to, PG(64)), 0);
	env_write(&e, va, 40, 2);
	env_pageout(&e, va + PG(20), 10);
	for (u32 round = 0; round < 4; round++) {
		assert_int_equal(
			space_remap(e.q, e.s, va + PG(5), PG(30), PG(30), MAYMOVE | FIXED, to, &at),
			0);
		assert_int_equal(env_load(&e, va + PG(5)), -EFAULT);
		if (round & 1)
			env_pageout(&e, to, 11);
		env_check(&e);
		assert_int_equal(
			space_remap(e.q, e.s, to, PG(30), PG(30), MAYMOVE | FIXED, va + PG(5), &at),
			0);
		env_check(&e);
		if (round >= 2)
			env_expect(&e, va, 40, 2, 0);
	}
	env_expect_zero(&e, va + PG(40), 24);
	assert_int_equal(areas(&e), 1);
	env_close(&e);
}
FOR_EACH_KIND(move_back_and_forth)

/* A pinned page keeps its folio whole; a move onto another frame of that folio must not wait for
 * the pin. */
static void move_beside_pin(u32 kind)
{
	struct folio *page;
	struct env e;
	u64 va, to, at;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 64, RW, 0);
	assert_int_equal(space_advise(e.q, e.s, va, PG(64), ADVISE_POPULATE_WRITE), 0);
	env_write(&e, va, 64, 3);
	to = env_map(&e, 64, RW, 0);
	env_write(&e, to, 8, 4);
	env_pageout(&e, to, 4);
	assert_int_equal(
		pin_pages(e.q, &e.s->fs, (struct range){ va, va + PG(1) }, ACCESS_WRITE, &page), 1);
	assert_int_equal(space_remap(e.q, e.s, to, PG(8), PG(8), MAYMOVE | FIXED, va + PG(1), &at),
			 0);
	env_expect(&e, va + PG(1), 8, 4, 0);
	env_expect(&e, va + PG(9), 55, 3, 9);
	env_expect(&e, va, 1, 3, 0);
	unpin_pages(e.q, &page, 1);
	env_close(&e);
}
FOR_EACH_KIND(move_beside_pin)

static void dontunmap(u32 kind)
{
	struct env e;
	u64 va, at;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 32, RW, 0);
	env_write(&e, va, 32, 5);
	assert_int_equal(
		space_remap(e.q, e.s, va + PG(8), PG(8), PG(8), MAYMOVE | DONTUNMAP, 0, &at), 0);
	env_expect(&e, at, 8, 5, 8);
	env_expect_zero(&e, va + PG(8), 8);
	env_expect(&e, va + PG(16), 16, 5, 16);
	areas(&e);
	env_close(&e);
}
FOR_EACH_KIND(dontunmap)

static void protect(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 48, RW, 0);
	env_write(&e, va, 48, 6);
	env_pageout(&e, va + PG(30), 10);
	assert_int_equal(space_protect(e.q, e.s, va + PG(16), PG(16), PROT_BITS_READ), 0);
	assert_int_equal(areas(&e), 3);
	assert_int_equal(env_store(&e, va + PG(20), 1), -EACCES);
	assert_int_equal(env_store(&e, va + PG(31), 1), -EACCES);
	env_expect(&e, va, 48, 6, 0);
	assert_int_equal(space_protect(e.q, e.s, va, PG(48), 0), 0);
	assert_int_equal(areas(&e), 1);
	for (u32 i = 0; i < 48; i++) {
		assert_false(sim_reachable(e.m, e.s->ms, va + PG(i), false));
		assert_int_equal(env_load(&e, va + PG(i)), -EACCES);
	}
	env_check(&e);
	assert_int_equal(space_protect(e.q, e.s, va, PG(48), RW), 0);
	env_expect(&e, va, 48, 6, 0);
	env_write(&e, va, 48, 7);
	/* A hole: what lies before it is changed. */
	assert_int_equal(space_unmap(e.q, e.s, va + PG(40), PG(1)), 0);
	assert_int_equal(space_protect(e.q, e.s, va, PG(48), PROT_BITS_READ), -ENOMEM);
	assert_int_equal(env_store(&e, va + PG(39), 1), -EACCES);
	assert_int_equal(env_store(&e, va + PG(41), 1), 0);
	env_close(&e);
}
FOR_EACH_KIND(protect)

/* Only the cache holds a page whose write failed; then reading is forbidden, and reclaim comes
 * again. */
static void protect_cached(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 8, RW, 0);
	env_write(&e, va, 8, 8);
	inject_every(&e.inject, INJECT_STORE_WRITE, 1);
	env_pageout(&e, va, 8);
	inject_off(&e.inject, INJECT_STORE_WRITE);
	assert_false(pte_present(env_entry(&e, va)));
	assert_int_equal(space_protect(e.q, e.s, va, PG(8), 0), 0);
	reclaim_pages(e.q, CGROUP_ROOT, 100);
	if (e.home)
		for (u32 i = 0; i < 8; i++)
			assert_true(pte_present(env_entry(&e, va + PG(i))));
	assert_int_equal(space_protect(e.q, e.s, va, PG(8), RW), 0);
	env_expect(&e, va, 8, 8, 0);
	env_close(&e);
}
FOR_EACH_KIND(protect_cached)

static void advice(u32 kind)
{
	unsigned char vec[32];
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 32, RW, 0);
	env_write(&e, va, 32, 9);
	env_pageout(&e, va, 16);
	assert_int_equal(space_mincore(e.q, e.s, va, PG(32), vec), 0);
	for (u32 i = 0; i < 32; i++)
		assert_int_equal(vec[i] & 1, i >= 16);
	assert_int_equal(space_advise(e.q, e.s, va, PG(4), ADVISE_WILLNEED), 0);
	assert_true(pte_present(env_entry(&e, va)));
	assert_int_equal(space_advise(e.q, e.s, va, PG(4), ADVISE_POPULATE_READ), 0);
	/* From pages in memory and in the store. */
	assert_int_equal(space_advise(e.q, e.s, va + PG(2), PG(20), ADVISE_DONTNEED), 0);
	env_expect(&e, va, 2, 9, 0);
	env_expect_zero(&e, va + PG(2), 20);
	env_expect(&e, va + PG(22), 10, 9, 22);
	assert_int_equal(space_mlock(e.q, e.s, va, PG(32), false), 0);
	assert_int_equal(space_advise(e.q, e.s, va, PG(32), ADVISE_DONTNEED), -EINVAL);
	assert_int_equal(space_munlock(e.q, e.s, va, PG(32)), 0);
	assert_int_equal(space_unmap(e.q, e.s, va + PG(8), PG(8)), 0);
	assert_int_equal(space_advise(e.q, e.s, va, PG(32), ADVISE_COLD), -ENOMEM);
	assert_int_equal(space_advise(e.q, e.s, va, PG(32), 99), -EINVAL);
	assert_int_equal(space_mincore(e.q, e.s, va, PG(32), vec), -ENOMEM);
	env_close(&e);
}
FOR_EACH_KIND(advice)

/* MADV_FREE of a folio that mremap has taken apart leaves its neighbours in the table alone. */
static void free_after_move(u32 kind)
{
	struct env e;
	u64 va, other, at;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 64, RW, 0);
	other = env_map(&e, 64, RW, 0);
	env_write(&e, va, 64, 10);
	env_write(&e, other, 64, 11);
	for (u32 i = 1; i < 64; i += 3)
		assert_int_equal(space_remap(e.q, e.s, other + PG(i), PG(1), PG(1), MAYMOVE | FIXED,
					     va + PG(i), &at),
				 0);
	assert_int_equal(space_advise(e.q, e.s, va, PG(64), ADVISE_FREE), 0);
	env_write(&e, va, 64, 12);
	env_pageout(&e, va, 64);
	env_expect(&e, va, 64, 12, 0);
	env_expect(&e, other, 1, 11, 0);
	env_close(&e);
}
FOR_EACH_KIND(free_after_move)

static void mlock_results(u32 kind)
{
	struct env e;
	u64 va;

	env_open(&e, kind, 0, NULL);
	va = env_map(&e, 8, RW, 0);
	assert_int_equal(space_protect(e.q, e.s, va, PG(2), 0), 0);
	assert_int_equal(space_mlock(e.q, e.s, va, PG(8), false), -ENOMEM);
	assert_int_equal(space_mlock(e.q, e.s, va + PG(2), PG(6), false), 0);
	assert_int_equal(space_resident_pages(e.s), 6);
	/* The unlocked rest of a folio can be evicted once the locked part is gone. */
	assert_int_equal(space_munlock(e.q, e.s, va + PG(4), PG(4)), 0);
	assert_int_equal(space_unmap(e.q, e.s, va, PG(4)), 0);
	env_pageout(&e, va + PG(4), 4);
	assert_int_equal(space_resident_pages(e.s), 0);
	env_close(&e);
}
FOR_EACH_KIND(mlock_results)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(resize_all),          cmocka_unit_test(move_back_and_forth_all),
		cmocka_unit_test(move_beside_pin_all), cmocka_unit_test(dontunmap_all),
		cmocka_unit_test(protect_all),         cmocka_unit_test(protect_cached_all),
		cmocka_unit_test(advice_all),          cmocka_unit_test(free_after_move_all),
		cmocka_unit_test(mlock_results_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
