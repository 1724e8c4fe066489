/* LRU lists: batches, which list, isolation, clusters, aging; control groups. */
#include "phys_double.h"

static struct folio *page_at(struct world *w, u64 pfn, unsigned order)
{
	struct folio *f = NULL;

	assert_int_equal(phys_alloc_at(&w->q, 0, pfn, order, &f), 0);
	return f;
}

/* n single pages from HOME_BASE on, on the list that `flags` name. */
static void listed(struct world *w, struct folio **f, u32 n, u64 flags)
{
	for (u32 i = 0; i < n; i++) {
		f[i] = page_at(w, HOME_BASE + i, 0);
		a64_fetch_or(&f[i]->flags, flags);
		lru_add(&w->q, f[i]);
	}
	lru_drain_all(&w->q);
}

static void put_all(struct world *w, struct folio **f, u32 n)
{
	for (u32 i = 0; i < n; i++)
		folio_put(&w->q, f[i]);
}

static void batches(void **state)
{
	struct world *w = world_home();
	struct folio *f[LRU_BATCH + 1];

	(void)state;
	for (u32 i = 0; i < LRU_BATCH - 1; i++) {
		f[i] = page_at(w, HOME_BASE + i, 0);
		lru_add(&w->q, f[i]);
		assert_int_equal(a32_read(&f[i]->ref), 2); /* the batch's */
		assert_false(folio_test(f[i], PG_LRU));
	}
	assert_int_equal(lru_size(&w->q, 0, LRU_INACTIVE), 0);
	assert_false(lru_isolate(&w->q, f[0])); /* not on a list yet */
	lru_drain_all(&w->q);
	assert_int_equal(lru_size(&w->q, 0, LRU_INACTIVE), LRU_BATCH - 1);
	for (u32 i = 0; i < LRU_BATCH - 1; i++)
		assert_int_equal(a32_read(&f[i]->ref), 1);
	/* A folio whose owner left while it was in the batch is never listed. */
	f[LRU_BATCH - 1] = page_at(w, HOME_BASE + 100, 0);
	lru_add(&w->q, f[LRU_BATCH - 1]);
	folio_put(&w->q, f[LRU_BATCH - 1]);
	assert_int_equal(phys_used(&w->q, 0), LRU_BATCH);
	lru_drain_all(&w->q);
	assert_int_equal(phys_used(&w->q, 0), LRU_BATCH - 1);
	assert_int_equal(lru_size(&w->q, 0, LRU_INACTIVE), LRU_BATCH - 1);
	assert_int_equal(phys_check(&w->q), 0);
	put_all(w, f, LRU_BATCH - 1); /* off their lists by themselves */
	assert_int_equal(lru_size(&w->q, 0, LRU_INACTIVE), 0);
	world_end(w);
}

static void flags_choose_the_list(void **state)
{
	struct world *w = world_home();
	struct folio *f = page_at(w, HOME_BASE, 3);

	(void)state;
	lru_add(&w->q, f);
	folio_set(f, PG_ACTIVE); /* while it is in the batch */
	lru_drain_all(&w->q);
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 8);
	/* A flag that changes on a list moves nothing and breaks no count. */
	folio_clear(f, PG_ACTIVE);
	folio_set(f, PG_UNEVICTABLE);
	assert_int_equal(phys_check(&w->q), 0);
	assert_true(lru_isolate(&w->q, f));
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 0);
	assert_false(lru_isolate(&w->q, f)); /* one winner */
	assert_int_equal(a32_read(&f->ref), 2);
	lru_putback(&w->q, f);
	assert_int_equal(a32_read(&f->ref), 1);
	assert_int_equal(lru_size(&w->q, 0, LRU_UNEVICTABLE), 8);
	assert_int_equal(phys_check(&w->q), 0);
	/* The isolation's reference may be the last. */
	assert_true(lru_isolate(&w->q, f));
	folio_put(&w->q, f);
	assert_int_equal(phys_used(&w->q, 0), 8);
	lru_putback(&w->q, f);
	assert_int_equal(phys_used(&w->q, 0), 0);
	world_end(w);
}

static void expect_order(struct world *w, struct list *l, const u32 *index, u32 n)
{
	u32 i = 0;

	list_for_each(at, l) {
		assert_true(i < n);
		assert_int_equal(folio_pfn(&w->q, list_entry(at, struct folio, lru)),
				 HOME_BASE + index[i]);
		i++;
	}
	assert_int_equal(i, n);
}

/* The oldest folio brings its neighbours of the same list, in frame order. */
static void clusters(void **state)
{
	struct world *w = world_home();
	static const u32 at[] = { 70, 3, 64, 127, 10, 200 };
	static const u32 first[] = { 64, 68, 70, 127 }, second[] = { 3, 10 }, third[] = { 200 };
	struct folio *f[6], *big, *act, *held, *huge;
	struct list out;

	(void)state;
	list_init(&out);
	for (u32 i = 0; i < 6; i++) {
		f[i] = page_at(w, HOME_BASE + at[i], 0);
		lru_add(&w->q, f[i]);
		lru_drain_all(&w->q);
	}
	big = page_at(w, HOME_BASE + 68, 1);
	lru_add(&w->q, big);
	act = page_at(w, HOME_BASE + 72, 0);
	folio_set(act, PG_ACTIVE);
	lru_add(&w->q, act);
	held = page_at(w, HOME_BASE + 80, 0); /* not on a list */
	huge = page_at(w, HOME_BASE + 256, 7);
	lru_add(&w->q, huge);
	lru_drain_all(&w->q);

	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 1, &out), 5);
	expect_order(w, &out, first, 4);
	assert_int_equal(a32_read(&big->ref), 2);
	lru_putback_list(&w->q, &out);
	assert_true(list_empty(&out));
	/* Now the others are the oldest. */
	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 2, &out), 2);
	expect_order(w, &out, second, 2);
	lru_putback_list(&w->q, &out);
	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 1, &out), 1);
	expect_order(w, &out, third, 1);
	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 1, &out), 128);
	assert_ptr_equal(list_last(&out, struct folio, lru), huge);
	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 1000, &out), 7);
	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 1, &out), 0);
	assert_int_equal(lru_size(&w->q, 0, LRU_INACTIVE), 0);
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 1);
	lru_putback_list(&w->q, &out);
	assert_int_equal(phys_check(&w->q), 0);
	put_all(w, f, 6);
	put_all(w, (struct folio *[]){ big, act, held, huge }, 4);
	world_end(w);
}

/* The order of the list survives isolation and putting back. */
static void putback_keeps_order(void **state)
{
	struct world *w = world_home();
	struct folio *f[3];
	struct list out, again;
	static const u32 order[] = { 0, 64, 128 };

	(void)state;
	list_init(&out);
	list_init(&again);
	for (u32 i = 0; i < 3; i++) {
		f[i] = page_at(w, HOME_BASE + order[i], 0);
		lru_add(&w->q, f[i]);
	}
	lru_drain_all(&w->q);
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 1, &out), 1);
	expect_order(w, &out, order, 3); /* oldest first */
	lru_putback_list(&w->q, &out);
	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 3, &again), 3);
	expect_order(w, &again, order, 3);
	lru_putback_list(&w->q, &again);
	put_all(w, f, 3);
	world_end(w);
}

static void aging(void **state)
{
	struct world *w = world_home();
	struct folio *f[4];

	(void)state;
	listed(w, f, 4, 0);
	lru_mark_accessed(&w->q, f[0]);
	assert_true(folio_test(f[0], PG_REFERENCED));
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 0);
	lru_mark_accessed(&w->q, f[0]);
	assert_true(folio_test(f[0], PG_ACTIVE) && !folio_test(f[0], PG_REFERENCED));
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 1);
	lru_mark_accessed(&w->q, f[0]);
	lru_mark_accessed(&w->q, f[0]);
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 1);
	lru_deactivate(&w->q, f[0]);
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 0);
	for (u32 i = 0; i < 4; i++) {
		lru_mark_accessed(&w->q, f[i]);
		lru_mark_accessed(&w->q, f[i]);
	}
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 4);
	assert_int_equal(lru_deactivate_tail(&w->q, 0, 3), 3);
	assert_true(folio_test(f[3], PG_ACTIVE)); /* the most recent stays */
	assert_int_equal(lru_deactivate_tail(&w->q, 0, 3), 1);
	assert_int_equal(lru_deactivate_tail(&w->q, 0, 3), 0);
	assert_int_equal(lru_size(&w->q, 0, LRU_INACTIVE), 4);
	/* Isolated: the flag waits for the one who puts it back. */
	assert_true(lru_isolate(&w->q, f[1]));
	lru_mark_accessed(&w->q, f[1]);
	lru_mark_accessed(&w->q, f[1]);
	lru_putback(&w->q, f[1]);
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 1);
	assert_int_equal(phys_check(&w->q), 0);
	put_all(w, f, 4);
	world_end(w);
}

/* lru_deactivate puts to the very tail: next to go. */
static void deactivated_goes_first(void **state)
{
	struct world *w = world_home();
	struct folio *f[3];
	struct list out;

	(void)state;
	list_init(&out);
	for (u32 i = 0; i < 3; i++) {
		f[i] = page_at(w, HOME_BASE + i * 64, 0);
		lru_add(&w->q, f[i]);
	}
	lru_drain_all(&w->q);
	lru_deactivate(&w->q, f[2]);
	assert_int_equal(lru_isolate_clusters(&w->q, 0, LRU_INACTIVE, 1, &out), 1);
	assert_ptr_equal(list_first(&out, struct folio, lru), f[2]);
	lru_putback_list(&w->q, &out);
	put_all(w, f, 3);
	world_end(w);
}

static void nodes_have_their_own(void **state)
{
	struct phys_config cfg = { .nr_nodes = 2 };
	struct folio *f[2];
	struct world *w;

	(void)state;
	for (u32 i = 0; i < 2; i++) {
		cfg.node[i].base_pfn = 0x10000 * (i + 1);
		cfg.node[i].span = 512;
		cfg.node[i].capacity = i ? 2 : 512;
	}
	w = world_new(0, &cfg);
	for (u32 i = 0; i < 2; i++) {
		f[i] = phys_alloc(&w->q, i, 1);
		assert_non_null(f[i]);
		assert_int_equal(folio_node(f[i]), i);
		lru_add(&w->q, f[i]);
	}
	assert_null(phys_alloc(&w->q, 1, 0));
	lru_drain_all(&w->q);
	assert_int_equal(lru_size(&w->q, 0, LRU_INACTIVE), 2);
	assert_int_equal(lru_size(&w->q, 1, LRU_INACTIVE), 2);
	assert_int_equal(phys_used(&w->q, 1), 2);
	assert_int_equal(phys_check(&w->q), 0);
	put_all(w, f, 2);
	assert_int_equal(phys_used(&w->q, 1), 0);
	world_end(w);
}

/* ---- control groups ---- */

static void group_tree(void **state)
{
	struct world *w = world_home();
	struct quire *q = &w->q;
	int a = cgroup_create(q, 0, 100), b = cgroup_create(q, (unsigned)a, 60);
	unsigned at = 0;

	(void)state;
	assert_true(a > 0 && b > 0);
	assert_int_equal(cgroup_try_charge(q, b, 60, &at), 0);
	assert_int_equal(cgroup_try_charge(q, b, 1, &at), -ENOMEM);
	assert_int_equal(at, b);
	assert_int_equal(cgroup_try_charge(q, a, 41, &at), -ENOMEM);
	assert_int_equal(at, a);
	assert_int_equal(cgroup_try_charge(q, a, 40, NULL), 0);
	assert_int_equal(cgroup_usage(q, a), 100);
	assert_int_equal(cgroup_usage(q, CGROUP_ROOT), 100);
	cgroup_uncharge(q, b, 10);
	cgroup_set_limit(q, CGROUP_ROOT, 90);
	assert_int_equal(cgroup_try_charge(q, b, 1, &at), -ENOMEM); /* undone in b and a */
	assert_int_equal(at, CGROUP_ROOT);
	assert_int_equal(cgroup_usage(q, b), 50);
	assert_int_equal(cgroup_usage(q, a), 90);
	assert_int_equal(cgroup_peak(q, b), 60);
	assert_int_equal(cgroup_peak(q, a), 100);
	cgroup_force_charge(q, b, 50);
	assert_int_equal(cgroup_usage(q, b), 100);
	assert_int_equal(cgroup_peak(q, CGROUP_ROOT), 140);
	assert_int_equal(cgroup_limit(q, b), 60);
	assert_int_equal(cgroup_destroy(q, b), -EBUSY);
	cgroup_uncharge(q, b, 100);
	assert_int_equal(cgroup_destroy(q, a), -EBUSY);
	cgroup_uncharge(q, a, 40);
	assert_int_equal(cgroup_destroy(q, a), -EBUSY); /* a child */
	assert_int_equal(cgroup_destroy(q, b), 0);
	assert_int_equal(cgroup_destroy(q, b), -EINVAL);
	assert_int_equal(cgroup_create(q, b, 1), -EINVAL);
	assert_int_equal(cgroup_destroy(q, a), 0);
	assert_int_equal(cgroup_destroy(q, CGROUP_ROOT), -EINVAL);
	inject_at(&w->inject, INJECT_CHARGE, 1);
	assert_int_equal(cgroup_try_charge(q, CGROUP_ROOT, 1, &at), -ENOMEM);
	assert_int_equal(cgroup_usage(q, CGROUP_ROOT), 0);
	world_end(w);
}

static void group_numbers(void **state)
{
	struct world *w = world_home();
	struct quire *q = &w->q;
	int g = CGROUP_ROOT;

	(void)state;
	for (u32 d = 1; d < CGROUP_DEPTH; d++) {
		g = cgroup_create(q, (unsigned)g, ~0ull);
		assert_true(g > 0);
	}
	assert_int_equal(cgroup_create(q, (unsigned)g, 1), -ENOSPC); /* too deep */
	assert_int_equal(cgroup_try_charge(q, (unsigned)g, 3, NULL), 0);
	assert_int_equal(cgroup_usage(q, CGROUP_ROOT), 3);
	cgroup_uncharge(q, (unsigned)g, 3);
	for (u32 i = CGROUP_DEPTH + 1; i < MAX_CGROUPS; i++)
		assert_true(cgroup_create(q, 0, 5) > 0);
	assert_int_equal(cgroup_create(q, 0, 5), -ENOSPC);
	assert_int_equal(cgroup_destroy(q, 500), 0);
	assert_int_equal(cgroup_create(q, 0, 7), 500);
	assert_int_equal(cgroup_limit(q, 500), 7);
	assert_int_equal(cgroup_create(q, MAX_CGROUPS, 7), -EINVAL);
	world_end(w);
}

/* The charge lives as long as the last reference. */
static void charge_follows_the_folio(void **state)
{
	struct world *w = world_home();
	struct folio *f = page_at(w, HOME_BASE, 4);
	int g = cgroup_create(&w->q, 0, 16);

	(void)state;
	assert_int_equal(cgroup_try_charge(&w->q, (unsigned)g, 16, NULL), 0);
	folio_set_charge(f, (unsigned)g);
	assert_int_equal(phys_check(&w->q), 0);
	folio_get(f);
	folio_put(&w->q, f);
	assert_int_equal(cgroup_usage(&w->q, (unsigned)g), 16);
	folio_put(&w->q, f);
	assert_int_equal(cgroup_usage(&w->q, (unsigned)g), 0);
	assert_int_equal(cgroup_destroy(&w->q, (unsigned)g), 0);
	world_end(w);
}

static void uncharge_too_much(void *arg)
{
	struct world *w = arg;

	cgroup_uncharge(&w->q, CGROUP_ROOT, 1);
}

static void add_twice(void *arg)
{
	struct world *w = arg;
	struct folio *f = page_at(w, HOME_BASE, 0);

	lru_add(&w->q, f);
	lru_add(&w->q, f);
	lru_drain_all(&w->q);
}

static void misuse_stops(void **state)
{
	struct world *w = world_home();

	(void)state;
	assert_true(stops(uncharge_too_much, w));
	assert_true(stops(add_twice, w));
	world_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches),
		cmocka_unit_test(flags_choose_the_list),
		cmocka_unit_test(clusters),
		cmocka_unit_test(putback_keeps_order),
		cmocka_unit_test(aging),
		cmocka_unit_test(deactivated_goes_first),
		cmocka_unit_test(nodes_have_their_own),
		cmocka_unit_test(group_tree),
		cmocka_unit_test(group_numbers),
		cmocka_unit_test(charge_follows_the_folio),
		cmocka_unit_test(misuse_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
