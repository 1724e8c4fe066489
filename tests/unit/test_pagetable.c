/* Tables: the walk, failures, unhooking between neighbours, freeing once, the pool, racing walkers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "mini.h"
#include "pagetable/pagetable.h"

#define GIB        (1ull << 30)
#define MIB2       PMD_SIZE
#define ENTRY(pfn) pte_mk(pfn, ENTRY_PRESENT | ENTRY_USER)

static struct mini m;
static struct pgtable pgt;

static int setup(void **state)
{
	(void)state;
	mini_init(&m);
	assert_int_equal(pt_create(&m.q), 0);
	assert_int_equal(pgtable_init(&m.q, &pgt), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (pgt.root)
		pgtable_fini(&pgt);
	assert_int_equal(a64_read(&pgt.nr_tables), 0);
	assert_int_equal(pt_live_tables(&m.q), 0);
	qrcu_barrier(&m.q);
	pt_destroy(&m.q);
	mini_fini(&m);
	return 0;
}

static void set_entry(u64 va, u64 e)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&pgt, va, &desc);

	assert_non_null(p);
	pte_set(p, e);
	pt_pte_unlock(desc);
}

static void fill(u64 va, u64 e)
{
	assert_int_equal(pt_pte_alloc(&pgt, va), 0);
	set_entry(va, e);
}

static u64 peek(u64 va)
{
	pte_t *p;
	u64 e;

	qrcu_read_lock();
	p = pt_pte_peek(&pgt, va);
	e = p ? pte_get(p) : 0;
	qrcu_read_unlock();
	return e;
}

static void test_walk(void **state)
{
	const u64 vas[] = { 0,   PAGE_SIZE, MIB2 - PAGE_SIZE, MIB2,
			    GIB, 511 * GIB, 512 * GIB,        BIT(VA_BITS) - PAGE_SIZE };
	struct ptdesc *desc;
	pte_t *p;

	(void)state;
	assert_null(pt_pmd(&pgt, 5 * GIB));
	assert_null(pt_pte_lock(&pgt, 5 * GIB, &desc));
	assert_null(desc);
	assert_int_equal(peek(5 * GIB), 0);
	assert_int_equal(a64_read(&pgt.nr_tables), 1);
	for (u32 i = 0; i < ARRAY_SIZE(vas); i++)
		fill(vas[i], ENTRY(i + 1));
	/* root; PUD 0, 1, 511; PMD 0G, 1G, 511G, 512G, top; PTE tables: 0, 2M, 1G, 511G, 512G, top
	 */
	assert_int_equal(a64_read(&pgt.nr_tables), 1 + 3 + 5 + 6);
	assert_int_equal(pt_live_tables(&m.q), 15);
	assert_int_equal(pt_check(&pgt), 0);
	for (u32 i = 0; i < ARRAY_SIZE(vas); i++) {
		assert_int_equal(peek(vas[i]), ENTRY(i + 1));
		p = pt_pte_lock(&pgt, vas[i], &desc);
		assert_non_null(p);
		assert_ptr_equal(desc, ptdesc_of((a64_t *)ALIGN_DOWN((uintptr_t)p, PAGE_SIZE)));
		assert_ptr_equal(p, &desc->table[entry_index(vas[i], 0)]);
		assert_int_equal(desc->va, ALIGN_DOWN(vas[i], MIB2));
		assert_int_equal(desc->level, 0);
		assert_ptr_equal(desc->pgt, &pgt);
		pte_set(p, 0);
		pt_pte_unlock(desc);
	}
	/* Once more: nothing new is needed. */
	inject_every(&m.inject, INJECT_TABLE, 1);
	for (u32 i = 0; i < ARRAY_SIZE(vas); i++)
		assert_int_equal(pt_pte_alloc(&pgt, vas[i]), 0);
}

static void test_leaf_and_split(void **state)
{
	u64 leaf = pte_mk(512, ENTRY_PRESENT | ENTRY_HUGE);
	struct ptdesc *desc, *table;
	a64_t *pmd = pt_pmd_alloc(&pgt, 3 * MIB2);
	struct spin *lock;

	(void)state;
	assert_non_null(pmd);
	assert_ptr_equal(pmd, pt_pmd(&pgt, 3 * MIB2 + 5));
	lock = pt_pmd_lockptr(&pgt, pmd);
	spin_lock(lock);
	a64_set(pmd, leaf);
	spin_unlock(lock);
	assert_int_equal(pt_pte_alloc(&pgt, 3 * MIB2), -EEXIST);
	assert_null(pt_pte_lock(&pgt, 3 * MIB2, &desc));
	assert_int_equal(peek(3 * MIB2), 0);
	assert_null(pt_unhook_one(&pgt, 3 * MIB2));

	table = pt_table_prepare(&pgt, 3 * MIB2);
	assert_non_null(table);
	pt_table_discard(&m.q, table);
	table = pt_table_prepare(&pgt, 3 * MIB2);
	for (u32 i = 0; i < PTRS_PER_TABLE; i++)
		pte_set(&table->table[i], ENTRY(512 + i));
	spin_lock(lock);
	pt_table_install(pmd, table);
	spin_unlock(lock);
	for (u32 i = 0; i < PTRS_PER_TABLE; i++) {
		assert_int_equal(peek(3 * MIB2 + i * PAGE_SIZE), ENTRY(512 + i));
		set_entry(3 * MIB2 + i * PAGE_SIZE, 0);
	}
	assert_int_equal(pt_check(&pgt), 0);
	/* A protected leaf, and one that is swap-type, are no tables either. */
	a64_set(pt_pmd(&pgt, 4 * MIB2), pte_mk(512, ENTRY_PROTNONE | ENTRY_HUGE));
	assert_int_equal(pt_pte_alloc(&pgt, 4 * MIB2), -EEXIST);
	a64_set(pt_pmd(&pgt, 4 * MIB2), swp_entry(SWP_STORE, 77));
	assert_int_equal(pt_pte_alloc(&pgt, 4 * MIB2), -EEXIST);
	assert_null(pt_pte_lock(&pgt, 4 * MIB2, &desc));
	a64_set(pt_pmd(&pgt, 4 * MIB2), 0);
}

static void test_failed_allocations(void **state)
{
	(void)state;
	for (u64 nth = 1; nth <= 3; nth++) {
		inject_at(&m.inject, INJECT_TABLE, nth);
		assert_int_equal(pt_pte_alloc(&pgt, nth * 600 * GIB), -ENOMEM);
		assert_int_equal(pt_check(&pgt), 0);
		inject_off(&m.inject, INJECT_TABLE);
		assert_int_equal(pt_pte_alloc(&pgt, nth * 600 * GIB), 0);
	}
	/* The arena fails: what the pool still has is used, then -ENOMEM, then it goes on. */
	inject_every(&m.inject, INJECT_ARENA, 1);
	u64 i = 0;

	while (!pt_pte_alloc(&pgt, 100 * GIB + i * MIB2))
		assert_true(++i < 1000);
	inject_off(&m.inject, INJECT_ARENA);
	assert_int_equal(pt_pte_alloc(&pgt, 100 * GIB + i * MIB2), 0);
	assert_int_equal(pt_check(&pgt), 0);
	struct pgtable other;

	inject_every(&m.inject, INJECT_TABLE, 1);
	assert_int_equal(pgtable_init(&m.q, &other), -ENOMEM);
	assert_int_equal(a64_read(&other.nr_tables), 0);
}

struct sunk {
	u32 nr[4];
	u64 last_level;
	struct list list;
};

static void sink(void *ctx, struct ptdesc *desc)
{
	struct sunk *s = ctx;

	s->nr[desc->level]++;
	assert_int_equal(a32_read(&desc->dead), 1);
	list_add_tail(&desc->gather, &s->list);
}

/* Unhook in the hole [floor, ceiling) and expect so many PTE, PMD and PUD tables. */
static void expect_unhook(struct range r, u64 floor, u64 ceiling, u32 pte, u32 pmd, u32 pud)
{
	struct sunk s = { 0 };

	list_init(&s.list);
	pt_unhook_tables(&pgt, r, floor, ceiling, sink, &s);
	assert_int_equal(s.nr[0], pte);
	assert_int_equal(s.nr[1], pmd);
	assert_int_equal(s.nr[2], pud);
	assert_int_equal(s.nr[3], 0);
	list_for_each_safe(pos, tmp, &s.list) {
		list_del(pos);
		pt_free_table_rcu(&m.q, list_entry(pos, struct ptdesc, gather));
	}
	assert_int_equal(pt_check(&pgt), 0);
}

static void test_unhook_between_neighbours(void **state)
{
	const u64 top = BIT(VA_BITS);
	struct range r;

	(void)state;
	/*  |AA..BB..|  one PTE table: the middle goes, the table stays as long as a neighbour lies
	 * in it */
	for (u64 va = 0; va < MIB2; va += PAGE_SIZE)
		assert_int_equal(pt_pte_alloc(&pgt, GIB + va), 0);
	r = (struct range){ GIB + 64 * PAGE_SIZE, GIB + 128 * PAGE_SIZE };
	expect_unhook(r, r.start, r.end, 0, 0, 0);
	expect_unhook(r, 0, r.end, 0, 0, 0);
	expect_unhook(r, r.start, top, 0, 0, 0);
	/* ... the neighbours' ends lie exactly at the table's ends: the PTE table only */
	expect_unhook(r, GIB, GIB + MIB2, 1, 0, 0);
	/* |..R..|..R..|..N..|: R reaches over two tables and the neighbour is in the third */
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(pt_pte_alloc(&pgt, GIB + i * MIB2), 0);
	r = (struct range){ GIB + PAGE_SIZE, GIB + 2 * MIB2 - PAGE_SIZE };
	expect_unhook(r, 0, GIB + 2 * MIB2 + PAGE_SIZE, 2, 0, 0);
	/* ... and without it the PMD table, too; the PUD table while something lies in its 512 GiB
	 */
	r = (struct range){ GIB, GIB + 3 * MIB2 };
	expect_unhook(r, 0, 511 * GIB, 1, 1, 0);
	/* nothing left in it at all */
	assert_int_equal(pt_pte_alloc(&pgt, GIB), 0);
	expect_unhook((struct range){ GIB, GIB + PAGE_SIZE }, 0, top, 1, 1, 1);
	assert_int_equal(a64_read(&pgt.nr_tables), 1);
	/* a range over several PUD tables; tables outside r stay though they lie in the hole */
	for (u64 g = 0; g < 4; g++)
		assert_int_equal(pt_pte_alloc(&pgt, g * 512 * GIB + 7 * GIB), 0);
	expect_unhook((struct range){ 512 * GIB, 3 * 512 * GIB }, 0, top, 2, 2, 2);
	assert_int_equal(a64_read(&pgt.nr_tables), 1 + 2 * 3);
}

static void free_twice(void *arg)
{
	pt_free_table_rcu(&m.q, arg);
	pt_free_table_rcu(&m.q, arg);
}

static void free_hooked(void *arg)
{
	pt_free_table_rcu(&m.q, arg);
}

static void unhook_used(void *arg)
{
	struct sunk s = { 0 };

	(void)arg;
	list_init(&s.list);
	pt_unhook_tables(&pgt, (struct range){ 0, MIB2 }, 0, BIT(VA_BITS), sink, &s);
}

static void fini_used(void *arg)
{
	(void)arg;
	pgtable_fini(&pgt);
}

static void test_mistakes_are_bugs(void **state)
{
	struct ptdesc *desc;

	(void)state;
	fill(0, ENTRY(1));
	assert_true(mini_is_bug(unhook_used, NULL));
	assert_true(mini_is_bug(fini_used, NULL));
	pte_t *p = pt_pte_lock(&pgt, 0, &desc);

	assert_non_null(p);
	pt_pte_unlock(desc);
	assert_true(mini_is_bug(free_hooked, desc));
	set_entry(0, 0);
	desc = pt_unhook_one(&pgt, 0);
	assert_non_null(desc);
	assert_true(mini_is_bug(free_twice, desc));
	pt_free_table_rcu(&m.q, desc);
}

static void test_unhook_one(void **state)
{
	struct ptdesc *desc, *locked;

	(void)state;
	assert_null(pt_unhook_one(&pgt, 7 * GIB));
	fill(7 * GIB + 3 * PAGE_SIZE, ENTRY(9));
	assert_null(pt_unhook_one(&pgt, 7 * GIB));
	set_entry(7 * GIB + 3 * PAGE_SIZE, 0);
	desc = pt_unhook_one(&pgt, 7 * GIB);
	assert_non_null(desc);
	assert_int_equal(a32_read(&desc->dead), 1);
	assert_null(pt_pte_lock(&pgt, 7 * GIB, &locked));
	pt_free_table_rcu(&m.q, desc);
	assert_int_equal(a64_read(&pgt.nr_tables), 3);
	/* Reused only after a grace period; then it is empty and alive. */
	assert_int_equal(pt_pte_alloc(&pgt, 7 * GIB), 0);
	assert_ptr_not_equal(pt_pte_lock(&pgt, 7 * GIB, &locked), NULL);
	assert_ptr_not_equal(locked, desc);
	pt_pte_unlock(locked);
	qrcu_barrier(&m.q);
	assert_int_equal(pt_pte_alloc(&pgt, 8 * GIB), 0);
	assert_int_equal(pt_check(&pgt), 0);
}

static void count_leaf(void *ctx, u64 va, u64 entry, unsigned level)
{
	u64 *c = ctx;

	assert_true(c[0] == 0 || va > c[1]);
	c[0]++;
	c[1] = va;
	c[2] += level;
	assert_int_not_equal(entry, 0);
}

static void test_for_each(void **state)
{
	u64 c[3] = { 0 };

	(void)state;
	fill(0, ENTRY(1));
	fill(5 * PAGE_SIZE, swp_entry(SWP_STORE, 3));
	fill(512 * GIB, ENTRY(2));
	a64_set(pt_pmd_alloc(&pgt, 2 * GIB), pte_mk(512, ENTRY_PRESENT | ENTRY_HUGE));
	pt_for_each(&pgt, (struct range){ 0, BIT(VA_BITS) }, count_leaf, c);
	assert_int_equal(c[0], 4);
	assert_int_equal(c[2], 1);
	memset(c, 0, sizeof(c));
	pt_for_each(&pgt, (struct range){ PAGE_SIZE, 512 * GIB }, count_leaf, c);
	assert_int_equal(c[0], 2);
	set_entry(0, 0);
	set_entry(5 * PAGE_SIZE, 0);
	set_entry(512 * GIB, 0);
	a64_set(pt_pmd(&pgt, 2 * GIB), 0);
}

static void test_pool(void **state)
{
	u64 used = arena_used(m.q.arena), one = pt_bytes(&m.q);

	(void)state;
	assert_true(one <= 2 * PAGE_SIZE + PAGE_SIZE); /* a header or two, and the root */
	for (u32 round = 0; round < 3; round++) {
		for (u64 i = 0; i < 5000; i++)
			assert_int_equal(pt_pte_alloc(&pgt, GIB + i * MIB2), 0);
		/* Descriptors are one page in 32. */
		assert_in_range(pt_bytes(&m.q), 5000 * PAGE_SIZE, 5200 * PAGE_SIZE);
		pgtable_fini(&pgt);
		/* What nobody needs goes back. */
		assert_true(arena_used(m.q.arena) < used + 4 * MIB2);
		assert_int_equal(pt_live_tables(&m.q), 0);
		assert_int_equal(pgtable_init(&m.q, &pgt), 0);
	}
}

/* ---- walkers against a thread that takes empty tables away ---- */

#define THREADS 3
#define TABLES  4
#define ROUNDS  50000

static a32_t stop;
static a64_t unhooked;

static void *walker(void *arg)
{
	u64 me = (uintptr_t)arg, rng = me * 77 + 1;
	u64 held[TABLES] = { 0 };

	/* On, if need be, until the other thread has had its turn. */
	for (u32 i = 0; i < ROUNDS || !a64_read(&unhooked); i++) {
		u32 t = (u32)(mini_random(&rng) % TABLES);
		u64 va = 9 * GIB + t * MIB2 + me * PAGE_SIZE;
		struct ptdesc *desc;
		pte_t *p = pt_pte_lock(&pgt, va, &desc);

		if (!p) {
			/* An entry of mine would have kept it. */
			assert_int_equal(held[t], 0);
			assert_int_equal(pt_pte_alloc(&pgt, va), 0);
			continue;
		}
		assert_int_equal(a32_read(&desc->dead), 0);
		assert_int_equal(desc->va, ALIGN_DOWN(va, MIB2));
		assert_int_equal(pte_get(p), held[t]);
		held[t] = held[t] ? 0 : ENTRY(me << 20 | i);
		pte_set(p, held[t]);
		desc->clean_faults++;
		pt_pte_unlock(desc);
		assert_int_equal(peek(va), held[t]);
	}
	for (u32 t = 0; t < TABLES; t++) {
		if (held[t])
			set_entry(9 * GIB + t * MIB2 + me * PAGE_SIZE, 0);
	}
	return NULL;
}

static void *unhooker(void *arg)
{
	u64 rng = 5;

	(void)arg;
	while (!a32_read(&stop)) {
		struct ptdesc *desc =
			pt_unhook_one(&pgt, 9 * GIB + mini_random(&rng) % TABLES * MIB2);

		if (desc) {
			pt_free_table_rcu(&m.q, desc);
			a64_add(&unhooked, 1);
		}
		qrcu_poll(&m.q);
	}
	return NULL;
}

static void test_vanishing_tables(void **state)
{
	pthread_t t[THREADS + 1];

	(void)state;
	a32_set(&stop, 0);
	a64_set(&unhooked, 0);
	pthread_create(&t[THREADS], NULL, unhooker, NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, walker, (void *)(i + 1));
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	a32_set(&stop, 1);
	pthread_join(t[THREADS], NULL);
	assert_true(a64_read(&unhooked) > 0);
	assert_int_equal(pt_check(&pgt), 0);
	assert_true(a64_read(&pgt.nr_tables) <= 3 + TABLES);
}

static void *installer(void *arg)
{
	u64 rng = (uintptr_t)arg;

	for (u32 i = 0; i < 3000; i++)
		assert_int_equal(pt_pte_alloc(&pgt, mini_random(&rng) % 64 * (BIT(VA_BITS) / 64) +
							    i % 8 * MIB2),
				 0);
	return NULL;
}

static void test_racing_installs(void **state)
{
	pthread_t t[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, installer, (void *)(i + 1));
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(pt_check(&pgt), 0);
	assert_int_equal(a64_read(&pgt.nr_tables), 1 + 64 + 64 + 64 * 8);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_walk),
		TEST(test_leaf_and_split),
		TEST(test_failed_allocations),
		TEST(test_unhook_between_neighbours),
		TEST(test_mistakes_are_bugs),
		TEST(test_unhook_one),
		TEST(test_for_each),
		TEST(test_pool),
		TEST(test_vanishing_tables),
		TEST(test_racing_installs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
