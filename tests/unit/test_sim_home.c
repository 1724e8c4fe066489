/* Home frames: filled by software, protected and dropped by flushes, released, moved, injected. */
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

#define RW      (ENTRY_PRESENT | ENTRY_USER | ENTRY_WRITE | ENTRY_DIRTY)
#define RO      (ENTRY_PRESENT | ENTRY_USER)
#define PROT_RW (PROT_BITS_READ | PROT_BITS_WRITE)

struct world {
	struct machine *m;
	struct mspace *s;
	struct range usable;
	a64_t *table[4];
	u64 va;
	a64_t traps;
	struct inject inject;
};

static int trap(void *ctx, u64 va, u32 access)
{
	struct world *w = ctx;

	a64_add(&w->traps, 1);
	return -EFAULT;
}

static a64_t *pte(struct world *w, u64 va)
{
	return &w->table[0][entry_index(va, 0)];
}

static void world_open(struct world *w, bool hw_ad)
{
	struct sim_config cfg = sim_defaults(true, hw_ad);

	memset(w, 0, sizeof(*w));
	inject_init(&w->inject);
	cfg.inject = &w->inject;
	assert_int_equal(sim_create(&cfg, &w->m), 0);
	w->m->trap = trap;
	for (unsigned l = 0; l < 4; l++) {
		w->table[l] = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
		memset(w->table[l], 0, PAGE_SIZE);
	}
	assert_int_equal(w->m->ops->space_create(w->m, w->table[3], w, &w->s, &w->usable), 0);
	w->va = w->usable.start + 4 * PMD_SIZE;
	for (unsigned l = 3; l > 0; l--)
		a64_set(&w->table[l][entry_index(w->va, l)],
			(u64)(uintptr_t)w->table[l - 1] | RO | ENTRY_WRITE);
	assert_int_equal(w->m->ops->area_map(w->m, w->s, (struct range){ w->va, w->va + PMD_SIZE },
					     PROT_RW, 0),
			 0);
}

static void world_close(struct world *w)
{
	struct sim_stats st;

	w->m->ops->space_destroy(w->m, w->s);
	sim_stats_get(w->m, &st);
	assert_int_equal(st.populated, 0);
	assert_int_equal(st.staging, 0);
	assert_int_equal(st.spaces, 0);
	w->m->ops->destroy(w->m);
	for (unsigned l = 0; l < 4; l++)
		free(w->table[l]);
}

static u64 home(u64 va, u64 bits)
{
	return va | bits;
}

/* As the core does it: entries first, then the machine. */
static int install(struct world *w, u64 va, u32 nr, u64 bits, const void *fill, bool zero)
{
	u64 e[16] = { 0 };
	int rc;

	for (u32 i = 0; i < nr; i++) {
		e[i] = home(va + i * PAGE_SIZE, bits);
		a64_set_release(pte(w, va + i * PAGE_SIZE), e[i]);
	}
	rc = w->m->ops->entries_changed(w->m, w->s, va, e, nr, 0, fill, zero, false);
	for (u32 i = 0; rc && i < nr; i++)
		a64_set_release(pte(w, va + i * PAGE_SIZE), 0);
	return rc;
}

static void fill(struct world *w, u64 va, u32 nr, u64 bits, u8 value)
{
	void *buf = w->m->ops->fill_begin(w->m, va >> PAGE_SHIFT, nr);

	assert_non_null(buf);
	memset(buf, value, nr * PAGE_SIZE);
	assert_int_equal(install(w, va, nr, bits, buf, false), 0);
	w->m->ops->fill_end(w->m, va >> PAGE_SHIFT, nr, buf);
}

static void flush(struct world *w, u64 va, u32 nr, enum flush_strength s)
{
	struct tlb_range r = { .start = va, .end = va + nr * PAGE_SIZE, .strength = s };

	w->m->ops->tlb_flush(w->m, w->s, &r);
}

static int load_byte(struct world *w, u64 va)
{
	u8 b;
	int rc = sim_load(w->m, 0, w->s, va, &b, 1);

	return rc ? rc : b;
}

static int store_byte(struct world *w, u64 va, u8 b)
{
	return sim_store(w->m, 1, w->s, va, &b, 1);
}

static u8 window(struct world *w, u64 va)
{
	u8 b;

	w->m->ops->read_begin(w->m);
	b = *(u8 *)w->m->ops->frame_window(w->m, va >> PAGE_SHIFT);
	w->m->ops->read_end(w->m);
	return b;
}

static void test_only_installed_pages_are_reached(void **state)
{
	struct world w;

	world_open(&w, false);
	/* An entry alone gives nothing: the machine has to be told. */
	a64_set(pte(&w, w.va), home(w.va, RW));
	assert_int_equal(load_byte(&w, w.va), -EFAULT);
	fill(&w, w.va, 3, RW, 0x11);
	assert_int_equal(load_byte(&w, w.va + 2 * PAGE_SIZE + 5), 0x11);
	assert_int_equal(store_byte(&w, w.va, 0x22), 0);
	assert_int_equal(window(&w, w.va), 0x22);
	assert_int_equal(load_byte(&w, w.va + 3 * PAGE_SIZE), -EFAULT);
	assert_int_equal(install(&w, w.va + 3 * PAGE_SIZE, 1, RO, NULL, true), 0);
	assert_int_equal(load_byte(&w, w.va + 3 * PAGE_SIZE), 0);
	assert_int_equal(store_byte(&w, w.va + 3 * PAGE_SIZE, 1), -EFAULT);
	assert_int_equal(install(&w, w.va + 3 * PAGE_SIZE, 1, RW, NULL, false), 0);
	assert_int_equal(store_byte(&w, w.va + 3 * PAGE_SIZE, 1), 0);
	assert_int_equal(sim_violations(w.m), 0);
	world_close(&w);
}

static void test_flush_protects_or_drops(void **state)
{
	struct sim_stats st;
	struct world w;

	world_open(&w, false);
	fill(&w, w.va, 4, RW, 0x33);
	/* The entry is gone, the page is not: nobody flushed. */
	a64_set(pte(&w, w.va), 0);
	assert_int_equal(store_byte(&w, w.va, 0x44), 0);
	flush(&w, w.va, 1, FLUSH_NO_STORE);
	assert_int_equal(store_byte(&w, w.va, 0x55), -EFAULT);
	assert_int_equal(load_byte(&w, w.va), 0x44);
	assert_int_equal(window(&w, w.va), 0x44);
	flush(&w, w.va, 2, FLUSH_NO_ACCESS);
	assert_int_equal(load_byte(&w, w.va), -EFAULT);
	assert_int_equal(load_byte(&w, w.va + PAGE_SIZE), -EFAULT);
	assert_int_equal(window(&w, w.va), 0);
	assert_int_equal(load_byte(&w, w.va + 2 * PAGE_SIZE), 0x33);
	sim_stats_get(w.m, &st);
	assert_int_equal(st.populated, 2);
	assert_int_equal(st.populated_peak, 4);
	world_close(&w);
}

static void test_release(void **state)
{
	struct sim_stats st;
	struct world w;

	world_open(&w, false);
	fill(&w, w.va, 4, RW, 0x66);
	a64_set(pte(&w, w.va), 0);
	a64_set(pte(&w, w.va + PAGE_SIZE), 0);
	machine_release(w.m, w.va >> PAGE_SHIFT, 2);
	assert_int_equal(sim_violations(w.m), 0);
	assert_int_equal(load_byte(&w, w.va), -EFAULT);
	/* A page that an entry still names. */
	machine_release(w.m, (w.va >> PAGE_SHIFT) + 2, 1);
	sim_stats_get(w.m, &st);
	assert_int_equal(st.violations[SIM_MAPPED_RELEASE], 1);
	/* And an entry that is raised though its bytes are gone. */
	assert_int_equal(install(&w, w.va + 2 * PAGE_SIZE, 1, RW, NULL, false), 0);
	sim_stats_get(w.m, &st);
	assert_int_equal(st.violations[SIM_EMPTY_INSTALL], 1);
	machine_release(w.m, 77ull << 30, 1);
	sim_stats_get(w.m, &st);
	assert_int_equal(st.violations[SIM_DEAD_SPACE], 1);
	world_close(&w);
}

static void test_move(void **state)
{
	struct world w;
	u64 from, to;

	world_open(&w, false);
	fill(&w, w.va, 2, RW, 0x77);
	from = w.va >> PAGE_SHIFT;
	to = from + 100;
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_true(w.m->ops->frames_move(w.m, to, from, 2) < 0);
	inject_off(&w.inject, INJECT_MACHINE_CALL);
	assert_int_equal(load_byte(&w, w.va), 0x77);
	assert_int_equal(w.m->ops->frames_move(w.m, to, from + 2, 1), -ENOENT);
	assert_int_equal(w.m->ops->frames_move(w.m, to, from, 2), 0);
	assert_int_equal(load_byte(&w, w.va), -EFAULT);
	assert_int_equal(install(&w, to << PAGE_SHIFT, 2, RW, NULL, false), 0);
	assert_int_equal(load_byte(&w, (to + 1) << PAGE_SHIFT), 0x77);
	assert_int_equal(store_byte(&w, to << PAGE_SHIFT, 1), 0);
	assert_int_equal(sim_violations(w.m), 0);
	fill(&w, w.va, 1, RW, 0x78);
	assert_int_equal(w.m->ops->frames_move(w.m, to, from, 1), -EEXIST);
	assert_int_equal(sim_violations(w.m), 1);
	assert_int_equal(load_byte(&w, w.va), 0x78);
	world_close(&w);
}

static void test_area_protection(void **state)
{
	struct world w;
	struct range r;

	world_open(&w, false);
	r = (struct range){ w.va, w.va + PAGE_SIZE };
	fill(&w, w.va, 2, RW, 0x12);
	assert_int_equal(w.m->ops->area_protect(w.m, w.s, r, PROT_RW, PROT_BITS_READ), 0);
	assert_int_equal(store_byte(&w, w.va, 1), -EFAULT);
	assert_int_equal(store_byte(&w, w.va + PAGE_SIZE, 1), 0);
	assert_int_equal(load_byte(&w, w.va), 0x12);
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(w.m->ops->area_protect(w.m, w.s, r, PROT_BITS_READ, 0), -ENOMEM);
	assert_int_equal(load_byte(&w, w.va), 0x12);
	assert_int_equal(w.m->ops->area_protect(w.m, w.s, r, PROT_BITS_READ, 0), 0);
	assert_int_equal(load_byte(&w, w.va), -EFAULT);
	assert_int_equal(window(&w, w.va), 0x12); /* the bytes are kept */
	assert_int_equal(sim_touch(w.m, 0, w.s, w.va + PAGE_SIZE, ACCESS_EXEC), -EFAULT);
	assert_int_equal(w.m->ops->area_protect(w.m, w.s, r, 0, PROT_RW), 0);
	assert_int_equal(store_byte(&w, w.va, 1), 0);
	w.m->ops->area_unmap(w.m, w.s, r, PROT_RW);
	assert_int_equal(load_byte(&w, w.va), -EFAULT);
	world_close(&w);
}

static void test_failed_install_leaves_nothing(void **state)
{
	struct world w;
	u8 page[PAGE_SIZE];

	world_open(&w, false);
	memset(page, 9, sizeof(page));
	inject_at(&w.inject, INJECT_ENTRIES, 1);
	assert_int_equal(install(&w, w.va, 1, RW, page, false), -ENOMEM);
	assert_int_equal(load_byte(&w, w.va), -EFAULT);
	assert_int_equal(window(&w, w.va), 0);
	assert_int_equal(install(&w, w.va, 1, RW, page, false), 0);
	assert_int_equal(load_byte(&w, w.va), 9);
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_null(w.m->ops->fill_begin(w.m, w.va >> PAGE_SHIFT, 1));
	world_close(&w);
}

/* With hardware A/D bits an access also sets them in the tables, once for each translation. */
static void test_hardware_bits(void **state)
{
	struct world w;
	u64 bits = RO | ENTRY_WRITE;

	world_open(&w, true);
	fill(&w, w.va, 1, bits, 1);
	assert_int_equal(load_byte(&w, w.va), 1);
	assert_int_equal(a64_read(pte(&w, w.va)), home(w.va, bits | ENTRY_ACCESSED));
	assert_int_equal(store_byte(&w, w.va, 2), 0);
	assert_int_equal(a64_read(pte(&w, w.va)), home(w.va, bits | ENTRY_ACCESSED | ENTRY_DIRTY));
	a64_set(pte(&w, w.va), home(w.va, RO));
	flush(&w, w.va, 1, FLUSH_NO_STORE);
	assert_int_equal(store_byte(&w, w.va, 3), -EFAULT);
	assert_int_equal(install(&w, w.va, 1, bits, NULL, false), 0);
	assert_int_equal(store_byte(&w, w.va, 3), 0);
	assert_true(a64_read(pte(&w, w.va)) & ENTRY_DIRTY);
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

/* Between NO_STORE and the release the bytes stand still, and after the release nothing comes
 * through. */
static void test_protect_copy_release(void **state)
{
	struct world w;
	struct racer r = { .w = &w };
	pthread_t t;
	u8 copy[PAGE_SIZE];

	world_open(&w, false);
	fill(&w, w.va, 1, RW, 0);
	pthread_create(&t, NULL, race_stores, &r);
	while (!a64_read(&r.stores))
		sched_yield();
	for (unsigned i = 0; i < 3000; i++) {
		u8 *now = w.m->ops->frame_window(w.m, w.va >> PAGE_SHIFT);

		a64_xchg(pte(&w, w.va), 0);
		flush(&w, w.va, 1, FLUSH_NO_STORE);
		memcpy(copy, now, sizeof(copy));
		assert_memory_equal(copy, now, sizeof(copy));
		machine_release(w.m, w.va >> PAGE_SHIFT, 1);
		assert_int_equal(now[0] | now[1], 0);
		assert_int_equal(install(&w, w.va, 1, RW, copy, false), 0);
	}
	a64_set(&r.stop, 1);
	pthread_join(t, NULL);
	assert_int_equal(sim_violations(w.m), 0);
	world_close(&w);
}

static void test_many_spaces(void **state)
{
	struct world w;
	struct mspace *s[SIM_MAX_SPACES];
	struct range r, before = { 0, 0 };
	u32 n = 0;

	world_open(&w, false);
	while (n < SIM_MAX_SPACES && !w.m->ops->space_create(w.m, w.table[3], &w, &s[n], &r)) {
		assert_true(r.end <= BIT(47) && !range_overlaps(r, w.usable));
		assert_true(r.start >= before.end);
		before = r;
		n++;
	}
	assert_int_equal(n, SIM_MAX_SPACES - 1);
	while (n--)
		w.m->ops->space_destroy(w.m, s[n]);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_installed_pages_are_reached),
		cmocka_unit_test(test_flush_protects_or_drops),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_area_protection),
		cmocka_unit_test(test_failed_install_leaves_nothing),
		cmocka_unit_test(test_hardware_bits),
		cmocka_unit_test(test_protect_copy_release),
		cmocka_unit_test(test_many_spaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
