/* The simulated CPUs over tables made by hand: stale translations, A/D bits, flushes, the oracle.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "machine/sim/sim.h"

#define RW (ENTRY_PRESENT | ENTRY_USER | ENTRY_WRITE)
#define RO (ENTRY_PRESENT | ENTRY_USER)

struct world {
	struct machine *m;
	struct mspace *s;
	struct range usable;
	a64_t *table[4]; /* by level */
	u64 va;          /* first address of the PTE table */
	u64 traps;
	u32 last_access;
	u64 last_va;
	int answer;  /* what the trap returns when it cannot help */
	u64 install; /* what the trap writes into the entry; 0: nothing */
};

static a64_t *new_table(void)
{
	a64_t *t = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	memset(t, 0, PAGE_SIZE);
	return t;
}

static a64_t *pte(struct world *w, u64 va)
{
	return &w->table[0][entry_index(va, 0)];
}

static u64 at(u64 pfn, u64 bits)
{
	return (pfn << PAGE_SHIFT) | bits;
}

static int trap(void *ctx, u64 va, u32 access)
{
	struct world *w = ctx;

	w->traps++;
	w->last_access = access;
	w->last_va = va;
	if (!w->install)
		return w->answer;
	a64_set_release(pte(w, va), w->install);
	return 0;
}

static struct sim_config quiet(bool hw_ad)
{
	struct sim_config cfg = sim_defaults(false, hw_ad);

	cfg.evict_ppm = cfg.prefetch_ppm = cfg.late_ppm = 0;
	return cfg;
}

static void world_open(struct world *w, const struct sim_config *cfg)
{
	memset(w, 0, sizeof(*w));
	assert_int_equal(sim_create(cfg, &w->m), 0);
	w->m->trap = trap;
	w->answer = -EFAULT;
	for (unsigned l = 0; l < 4; l++)
		w->table[l] = new_table();
	assert_int_equal(w->m->ops->space_create(w->m, w->table[3], w, &w->s, &w->usable), 0);
	w->va = w->usable.start;
	for (unsigned l = 3; l > 0; l--)
		a64_set(&w->table[l][entry_index(w->va, l)],
			(u64)(uintptr_t)w->table[l - 1] | RW | ENTRY_ACCESSED);
}

static void world_close(struct world *w)
{
	w->m->ops->space_destroy(w->m, w->s);
	w->m->ops->destroy(w->m);
	for (unsigned l = 0; l < 4; l++)
		free(w->table[l]);
}

static void flush(struct world *w, u64 start, u64 end, enum flush_strength s, bool tables)
{
	struct tlb_range r = { .start = start, .end = end, .strength = s, .tables_freed = tables };

	w->m->ops->tlb_flush(w->m, w->s, &r);
}

static u64 load(struct world *w, unsigned cpu, u64 va)
{
	u64 v = 0;

	assert_int_equal(sim_load(w->m, cpu, w->s, va, &v, sizeof(v)), 0);
	return v;
}

static void store(struct world *w, unsigned cpu, u64 va, u64 v)
{
	assert_int_equal(sim_store(w->m, cpu, w->s, va, &v, sizeof(v)), 0);
}

static u64 frame_word(struct world *w, u64 pfn)
{
	u64 v;

	memcpy(&v, w->m->ops->frame_window(w->m, pfn), sizeof(v));
	return v;
}

static void test_hardware_sets_accessed_and_dirty(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;

	world_open(&w, &cfg);
	a64_set(pte(&w, w.va), at(5, RW));
	load(&w, 0, w.va);
	assert_int_equal(a64_read(pte(&w, w.va)), at(5, RW | ENTRY_ACCESSED));
	/* The cached entry is not dirty: the store must walk again. */
	store(&w, 0, w.va + 8, 1);
	assert_int_equal(a64_read(pte(&w, w.va)), at(5, RW | ENTRY_ACCESSED | ENTRY_DIRTY));
	assert_int_equal(w.traps, 0);
	world_close(&w);
}

static void test_software_traps_the_first_store(void **state)
{
	struct sim_config cfg = quiet(false);
	struct world w;

	world_open(&w, &cfg);
	a64_set(pte(&w, w.va), at(5, RO));
	load(&w, 1, w.va);
	assert_int_equal(w.traps, 0);
	assert_int_equal(a64_read(pte(&w, w.va)), at(5, RO)); /* untouched */
	w.install = at(5, RW | ENTRY_DIRTY);
	store(&w, 1, w.va, 7);
	assert_int_equal(w.traps, 1);
	assert_int_equal(w.last_access, ACCESS_WRITE);
	store(&w, 1, w.va, 8);
	assert_int_equal(w.traps, 1);
	assert_int_equal(frame_word(&w, 5), 8);
	world_close(&w);
}

static void test_stale_until_flushed(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;

	world_open(&w, &cfg);
	a64_set(pte(&w, w.va), at(5, RW));
	store(&w, 0, w.va, 1);
	a64_set(pte(&w, w.va), 0);
	store(&w, 0, w.va, 2); /* goes through the cached entry, and sets nothing in the table */
	assert_int_equal(frame_word(&w, 5), 2);
	assert_int_equal(a64_read(pte(&w, w.va)), 0);
	assert_true(sim_reachable(w.m, w.s, w.va, true));
	/* Another CPU has nothing cached. */
	assert_int_equal(sim_touch(w.m, 1, w.s, w.va, ACCESS_READ), -EFAULT);
	assert_int_equal(w.last_va, w.va);
	flush(&w, w.va + PAGE_SIZE, w.va + 2 * PAGE_SIZE, FLUSH_NO_ACCESS, false);
	flush(&w, w.va, w.va + PAGE_SIZE, FLUSH_NO_STORE, false);
	assert_false(sim_reachable(w.m, w.s, w.va, true));
	assert_int_equal(sim_touch(w.m, 0, w.s, w.va, ACCESS_WRITE), -EFAULT);
	world_close(&w);
}

/* After NO_STORE a load may use the old translation or not, a store never; NO_ACCESS ends both. */
static void test_flush_strengths(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;
	unsigned kept = 0;

	world_open(&w, &cfg);
	for (unsigned i = 0; i < 64; i++) {
		u64 va = w.va + i * PAGE_SIZE;

		a64_set(pte(&w, va), at(i, RW));
		store(&w, 0, va, i);
		a64_set(pte(&w, va), 0);
		flush(&w, va, va + PAGE_SIZE, FLUSH_NO_STORE, false);
		assert_false(sim_reachable(w.m, w.s, va, true));
		kept += sim_reachable(w.m, w.s, va, false);
		flush(&w, va, va + PAGE_SIZE, FLUSH_NO_ACCESS, false);
		assert_false(sim_reachable(w.m, w.s, va, false));
	}
	assert_in_range(kept, 20, 63);
	world_close(&w);
}

static void test_release_finds_stale_translation(void **state)
{
	struct sim_config cfg = quiet(true);
	struct sim_stats st;
	struct world w;

	world_open(&w, &cfg);
	a64_set(pte(&w, w.va), at(5, RW));
	store(&w, 3, w.va, 1);
	a64_set(pte(&w, w.va), 0);
	machine_release(w.m, 6, 4);
	assert_int_equal(sim_violations(w.m), 0);
	machine_release(w.m, 4, 2); /* unflushed */
	sim_stats_get(w.m, &st);
	assert_int_equal(st.violations[SIM_STALE_RELEASE], 1);
	assert_int_equal(st.violation_at, 4 << PAGE_SHIFT);
	assert_int_equal(load(&w, 3, w.va), 0xd5d5d5d5d5d5d5d5ull);
	flush(&w, 0, ~0ull, FLUSH_NO_ACCESS, true);
	machine_release(w.m, 5, 1);
	assert_int_equal(sim_violations(w.m), 1);
	world_close(&w);
}

static void test_table_pointer_stays_cached(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;
	a64_t *other = new_table();
	a64_t *pmd;

	world_open(&w, &cfg);
	pmd = &w.table[1][entry_index(w.va, 1)];
	a64_set(pte(&w, w.va), at(5, RW));
	load(&w, 0, w.va);
	a64_set(pmd, (u64)(uintptr_t)other | RW);
	/* A new page of the old table is still found ... */
	a64_set(pte(&w, w.va + PAGE_SIZE), at(6, RW));
	flush(&w, w.va, w.va + PMD_SIZE, FLUSH_NO_ACCESS, false);
	load(&w, 0, w.va + PAGE_SIZE);
	assert_int_equal(w.traps, 0);
	/* ... until a flush says that tables go. */
	flush(&w, w.va, w.va + PMD_SIZE, FLUSH_NO_ACCESS, true);
	assert_int_equal(sim_touch(w.m, 0, w.s, w.va + PAGE_SIZE, ACCESS_READ), -EFAULT);
	world_close(&w);
	free(other);
}

static void test_huge_leaf(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;
	a64_t *pmd;

	world_open(&w, &cfg);
	pmd = &w.table[1][entry_index(w.va, 1)];
	a64_set(pmd, at(1024, RW | ENTRY_HUGE));
	store(&w, 0, w.va + 3 * PAGE_SIZE + 16, 77);
	memcpy(&w.last_va, (u8 *)w.m->ops->frame_window(w.m, 1027) + 16, 8);
	assert_int_equal(w.last_va, 77);
	assert_true(a64_read(pmd) & ENTRY_DIRTY);
	a64_set(pmd, 0);
	machine_release(w.m, 1500, 1);
	assert_int_equal(sim_violations(w.m), 1);
	flush(&w, w.va + PMD_SIZE - PAGE_SIZE, w.va + PMD_SIZE, FLUSH_NO_ACCESS, false);
	assert_int_equal(sim_touch(w.m, 0, w.s, w.va, ACCESS_READ), -EFAULT);
	world_close(&w);
}

static void test_zero_page_and_wild_entries(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;

	world_open(&w, &cfg);
	a64_set(pte(&w, w.va), at(9, RO | ENTRY_SPECIAL));
	memset(w.m->ops->frame_window(w.m, 9), 1, PAGE_SIZE);
	assert_int_equal(load(&w, 0, w.va), 0);
	machine_release(w.m, 9, 1);
	assert_int_equal(sim_violations(w.m), 0);
	assert_int_equal(sim_touch(w.m, 0, w.s, w.va, ACCESS_WRITE), -EFAULT);
	a64_set(pte(&w, w.va + PAGE_SIZE), at(cfg.span_frames, RW));
	assert_int_equal(sim_touch(w.m, 0, w.s, w.va + PAGE_SIZE, ACCESS_READ), -EIO);
	assert_int_equal(sim_violations(w.m), 1);
	world_close(&w);
}

static void test_accesses_cross_pages(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;
	u8 in[3 * 4096], out[3 * 4096];
	u64 old;

	world_open(&w, &cfg);
	for (unsigned i = 0; i < 4; i++)
		a64_set(pte(&w, w.va + i * PAGE_SIZE), at(10 + 7 * i, RW));
	for (unsigned i = 0; i < sizeof(in); i++)
		in[i] = (u8)(i * 7 + i / 256);
	assert_int_equal(sim_store(w.m, 0, w.s, w.va + 4093, in, sizeof(in)), 0);
	assert_int_equal(sim_load(w.m, 1, w.s, w.va + 4093, out, sizeof(out)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(sim_fetch_add(w.m, 2, w.s, w.va, 5, &old), 0);
	assert_int_equal(load(&w, 0, w.va), old + 5);
	world_close(&w);
}

/* Chance drops and prefetches translations; what a program sees stays the same. */
static void test_eviction_and_prefetch(void **state)
{
	struct sim_config cfg = sim_defaults(false, true);
	struct sim_stats st;
	struct world w;

	cfg.tlb_entries = 16;
	cfg.evict_ppm = cfg.prefetch_ppm = 200000;
	world_open(&w, &cfg);
	for (unsigned i = 0; i < 512; i++)
		a64_set(pte(&w, w.va + i * PAGE_SIZE), at(511 - i, RW));
	for (unsigned i = 0; i < 4096; i++)
		store(&w, i % 4, w.va + (i * 37 % 512) * PAGE_SIZE + i / 512 * 8, i);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(load(&w, 0, w.va + (i * 37 % 512) * PAGE_SIZE + i / 512 * 8), i);
	sim_stats_get(w.m, &st);
	assert_true(st.prefetches > 100 && st.evictions > 0 && st.walks > 1000);
	assert_int_equal(sim_violations(w.m), 0);
	world_close(&w);
}

struct racer {
	struct world *w;
	a64_t stop;
	a64_t stores;
};

static void *race_stores(void *p)
{
	struct racer *r = p;

	for (u64 i = 1; !a64_read(&r->stop); i++)
		if (!sim_store(r->w->m, 2, r->w->s, r->w->va, &i, sizeof(i)))
			a64_add(&r->stores, 1);
	return NULL;
}

/* When a flush has returned, no store of another thread reaches the frame any more. */
static void test_flush_waits_for_stores(void **state)
{
	struct sim_config cfg = quiet(true);
	struct world w;
	struct racer r = { .w = &w };
	pthread_t t;

	world_open(&w, &cfg);
	a64_set(pte(&w, w.va), at(0, RW));
	pthread_create(&t, NULL, race_stores, &r);
	while (!a64_read(&r.stores))
		sched_yield();
	for (u64 i = 0; i < 20000; i++) {
		u64 seen;

		a64_xchg(pte(&w, w.va), 0);
		flush(&w, w.va, w.va + PAGE_SIZE, i % 2 ? FLUSH_NO_STORE : FLUSH_NO_ACCESS, false);
		seen = frame_word(&w, i % 64);
		for (unsigned spin = 0; spin < 50; spin++)
			assert_int_equal(frame_word(&w, i % 64), seen);
		memset(w.m->ops->frame_window(w.m, (i + 1) % 64), 0, PAGE_SIZE);
		flush(&w, w.va, w.va + PAGE_SIZE, FLUSH_NO_ACCESS, false);
		a64_set_release(pte(&w, w.va), at((i + 1) % 64, RW));
	}
	a64_set(&r.stop, 1);
	pthread_join(t, NULL);
	assert_true(a64_read(&r.stores) > 0);
	world_close(&w);
}

/* Helps only the third time, and remembers what it was told. */
static u32 told[3];

static int late_trap(void *ctx, u64 va, u32 access)
{
	struct world *w = ctx;

	told[w->traps++] = access;
	a64_set_release(pte(w, va), at(3, w->traps == 3 ? RW | ENTRY_DIRTY : RO));
	return 0;
}

static void test_spurious_is_told(void **state)
{
	struct sim_config cfg = quiet(false);
	struct sim_stats st;
	struct world w;

	world_open(&w, &cfg);
	w.m->trap = late_trap;
	store(&w, 0, w.va, 4);
	assert_int_equal(w.traps, 3);
	assert_int_equal(told[0], ACCESS_WRITE);
	assert_int_equal(told[1], ACCESS_WRITE | ACCESS_SPURIOUS);
	assert_int_equal(told[2], ACCESS_WRITE | ACCESS_SPURIOUS);
	sim_stats_get(w.m, &st);
	assert_int_equal(st.traps, 3);
	assert_int_equal(st.spurious_traps, 2);
	world_close(&w);
}

static void test_bad_configurations(void **state)
{
	struct sim_config cfg = sim_defaults(false, true);
	struct machine *m;

	cfg.nr_cpus = MAX_CPUS + 1;
	assert_int_equal(sim_create(&cfg, &m), -EINVAL);
	cfg = sim_defaults(false, true);
	cfg.caps |= CAP_AREA_PROTECT;
	assert_int_equal(sim_create(&cfg, &m), -EINVAL);
	cfg = sim_defaults(true, false);
	cfg.slot_bytes = PMD_SIZE + PAGE_SIZE;
	assert_int_equal(sim_create(&cfg, &m), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hardware_sets_accessed_and_dirty),
		cmocka_unit_test(test_software_traps_the_first_store),
		cmocka_unit_test(test_stale_until_flushed),
		cmocka_unit_test(test_flush_strengths),
		cmocka_unit_test(test_release_finds_stale_translation),
		cmocka_unit_test(test_table_pointer_stays_cached),
		cmocka_unit_test(test_huge_leaf),
		cmocka_unit_test(test_zero_page_and_wild_entries),
		cmocka_unit_test(test_accesses_cross_pages),
		cmocka_unit_test(test_eviction_and_prefetch),
		cmocka_unit_test(test_flush_waits_for_stores),
		cmocka_unit_test(test_spurious_is_told),
		cmocka_unit_test(test_bad_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
