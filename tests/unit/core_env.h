/*
 * core_env.h - a whole core on the simulated machine, one space, pages with known contents: for
 * tests of the folders from rmap to space, on plain and home frames, with A/D bits by hardware or
 * software.
 *
 * Invariant: env_close requires that nothing is broken, nothing leaks, and no violation was seen.
 * Locking: set up and taken down by one thread.
 */
#ifndef QUIRE_TESTS_CORE_ENV_H
#define QUIRE_TESTS_CORE_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "api/core.h"
#include "base/inject.h"
#include "machine/sim/sim.h"
#include "space/space.h"

#define RW    (PROT_BITS_READ | PROT_BITS_WRITE)
#define PG(n) ((u64)(n)*PAGE_SIZE)

struct env {
	bool home, hw;
	struct inject inject;
	struct machine *m;
	struct quire *q;
	struct space *s;
};

/* With several nodes each has an equal part of the frames; the space is on node 0. */
static inline void env_open_nodes(struct env *e, u32 kind, u64 limit_pages, const char *swap,
				  u32 nodes)
{
	struct core_config cc = { .swap_spec = swap, .ram_limit_pages = limit_pages };
	struct sim_config sc;

	memset(e, 0, sizeof(*e));
	e->home = kind & 1;
	e->hw = kind & 2;
	inject_init(&e->inject);
	sc = sim_defaults(e->home, e->hw);
	sc.caps |= (kind & 4 ? CAP_PLACED : 0) | (kind & 8 ? CAP_FLUSH_UNDER_LOCK : 0);
	sc.inject = &e->inject;
	sc.ram_frames = 65536;
	sc.span_frames = e->home ? 0 : 131072;
	assert_int_equal(sim_create(&sc, &e->m), 0);
	cc.phys.nr_nodes = nodes;
	for (u32 i = 0; i < nodes; i++) {
		cc.phys.node[i].base_pfn = i * sc.span_frames / nodes;
		cc.phys.node[i].span = sc.span_frames / nodes;
		cc.phys.node[i].capacity = e->home ? ~0ull : sc.ram_frames / nodes;
	}
	assert_int_equal(core_create(&e->q, e->m, &cc), 0);
	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &e->s), 0);
}

static inline void env_open(struct env *e, u32 kind, u64 limit_pages, const char *swap)
{
	env_open_nodes(e, kind, limit_pages, swap, 1);
}

static inline void env_check(struct env *e)
{
	assert_int_equal(quire_check_all(e->q), 0);
	assert_int_equal(sim_violations(e->m), 0);
}

static inline void env_close(struct env *e)
{
	env_check(e);
	space_destroy(e->q, e->s);
	assert_int_equal(quire_check_all(e->q), 0);
	assert_int_equal(cgroup_usage(e->q, CGROUP_ROOT), 0);
	assert_int_equal(swap_used_slots(e->q), 0);
	qrcu_barrier(e->q);
	assert_int_equal(rmap_live_objects(e->q), 0);
	assert_int_equal(sim_violations(e->m), 0);
	assert_int_equal(stat_read(e->q, STAT_WARN), 0);
	assert_int_equal(core_destroy(e->q), 0);
	e->m->ops->destroy(e->m);
}

static inline u64 env_map(struct env *e, u64 pages, u32 prot, u32 flags)
{
	u64 va = 0;

	assert_int_equal(space_map(e->q, e->s, 0, PG(pages), prot, flags, &va), 0);
	return va;
}

/* A page's contents are a function of `tag` and its number; not same-filled. */
static inline void env_page(u64 *words, u64 tag, u64 i)
{
	for (u32 w = 0; w < PAGE_SIZE / 8; w++)
		words[w] = tag * 0x9e3779b97f4a7c15ull + i * 1000003 + (w & 63) * (w & 7);
}

static inline int env_write_page(struct env *e, u64 va, u64 tag, u64 i)
{
	u64 words[PAGE_SIZE / 8];

	env_page(words, tag, i);
	return sim_store(e->m, 0, e->s->ms, va, words, sizeof(words));
}

static inline void env_write(struct env *e, u64 va, u64 pages, u64 tag)
{
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(env_write_page(e, va + PG(i), tag, i), 0);
}

/* Page `first + i` of what was written with the tag is at va + i pages. */
static inline void env_expect(struct env *e, u64 va, u64 pages, u64 tag, u64 first)
{
	u64 want[PAGE_SIZE / 8], got[PAGE_SIZE / 8];

	for (u64 i = 0; i < pages; i++) {
		env_page(want, tag, first + i);
		assert_int_equal(sim_load(e->m, 0, e->s->ms, va + PG(i), got, sizeof(got)), 0);
		assert_memory_equal(got, want, sizeof(want));
	}
}

static inline void env_expect_zero(struct env *e, u64 va, u64 pages)
{
	u64 got;

	for (u64 i = 0; i < pages; i++) {
		assert_int_equal(sim_load(e->m, 0, e->s->ms, va + PG(i), &got, 8), 0);
		assert_int_equal(got, 0);
	}
}

/* Does the one who writes a shared page keep its frame? */
static inline bool env_keeps(struct env *e, bool large)
{
	return machine_has(e->m, CAP_PLACED) && (!large || machine_has(e->m, CAP_FLUSH_UNDER_LOCK));
}

static inline int env_load(struct env *e, u64 va)
{
	u64 got;

	return sim_load(e->m, 0, e->s->ms, va, &got, 8);
}

static inline int env_store(struct env *e, u64 va, u64 v)
{
	return sim_store(e->m, 0, e->s->ms, va, &v, 8);
}

static inline u64 env_entry(struct env *e, u64 va)
{
	pte_t *p;
	u64 v;

	qrcu_read_lock();
	p = pt_pte_peek(&e->s->fs.rs.pgt, va);
	v = p ? pte_get(p) : 0;
	qrcu_read_unlock();
	return v;
}

static inline u64 env_copies(struct env *e)
{
	return stat_read(e->q, STAT_FAULT_COW);
}

static inline u64 env_usage(struct env *e)
{
	return cgroup_usage(e->q, CGROUP_ROOT);
}

static inline struct folio *env_page_at(struct env *e, u64 va)
{
	u64 v = env_entry(e, va);

	assert_true(pte_present(v));
	return phys_record(e->q, entry_pfn(v));
}

/* Single pages: a test of order-0 folios. */
static inline u64 env_map_single(struct env *e, u64 pages)
{
	u64 va = env_map(e, pages, RW, 0);

	assert_int_equal(space_advise(e->q, e->s, va, PG(pages), ADVISE_RANDOM), 0);
	return va;
}

static inline void env_pageout(struct env *e, u64 va, u64 pages)
{
	assert_int_equal(space_advise(e->q, e->s, va, PG(pages), ADVISE_PAGEOUT), 0);
}

/* One test function for each kind of machine: bit 0 home frames, bit 1 accessed and dirty bits by
 * hardware. (Bit 2: frames have places, so that who writes a shared page keeps its frame; bit 3:
 * flushes under the entry lock on plain frames too, so that this is so of large folios' pages.) */
#define FOR_EACH_KIND(fn)                   \
	static void fn##_all(void **st)     \
	{                                   \
		(void)st;                   \
		for (u32 k = 0; k < 4; k++) \
			fn(k);              \
	}

#endif
