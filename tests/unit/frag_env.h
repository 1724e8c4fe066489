/*
 * frag_env.h - a small node of the simulated machine whose free frames are in pieces: for tests of
 * compaction and of frames that go out of service.
 *
 * First touch takes a whole free block for the 2 MiB around an address, if there is one; frag_hold
 * takes half of each block, so that there is none, and pages come from anywhere.
 * Locking: set up by one thread.
 */
#ifndef QUIRE_TESTS_FRAG_ENV_H
#define QUIRE_TESTS_FRAG_ENV_H

#include "core_env.h"
#include "migrate/compact.h"
#include "migrate/offline.h"

#define BLOCK     PHYS_BLOCK_FRAMES
#define FRAG_HALF (MAX_FOLIO_ORDER - 1u)
#define FRAG_MAX  256u

struct frag {
	struct env e;
	u32 blocks; /* of each node */
	struct folio *held[FRAG_MAX];
	u32 nr_held;
};

/* Nodes of so many blocks, each with so much capacity. */
static inline void frag_open(struct frag *f, u32 kind, u32 nodes, u32 blocks, u64 capacity)
{
	struct core_config cc = { .swap_spec = NULL };
	struct env *e = &f->e;
	struct sim_config sc;

	memset(f, 0, sizeof(*f));
	f->blocks = blocks;
	e->hw = kind & 2;
	inject_init(&e->inject);
	sc = sim_defaults(false, e->hw);
	sc.caps |= (kind & 4 ? CAP_PLACED : 0) | (kind & 8 ? CAP_FLUSH_UNDER_LOCK : 0);
	sc.inject = &e->inject;
	sc.ram_frames = sc.span_frames = nodes * blocks * BLOCK;
	assert_int_equal(sim_create(&sc, &e->m), 0);
	cc.phys.nr_nodes = nodes;
	for (u32 i = 0; i < nodes; i++) {
		cc.phys.node[i].base_pfn = i * blocks * BLOCK;
		cc.phys.node[i].span = blocks * BLOCK;
		cc.phys.node[i].capacity = capacity;
	}
	assert_int_equal(core_create(&e->q, e->m, &cc), 0);
	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &e->s), 0);
}

/* As a pin holds them: the checker knows no other owner of pages that nobody maps. */
static inline bool frag_hold_one(struct frag *f, unsigned order)
{
	struct folio *one = f->nr_held < FRAG_MAX ? phys_alloc(f->e.q, 0, order) : NULL;

	if (!one)
		return false;
	folio_get_nr(one, PIN_BIAS - 1);
	f->held[f->nr_held++] = one;
	return true;
}

static inline void frag_release_one(struct frag *f)
{
	folio_put_nr(f->e.q, f->held[--f->nr_held], PIN_BIAS);
}

/* One half of each block that is free; the other halves are free pieces. */
static inline void frag_hold(struct frag *f)
{
	struct folio *other[FRAG_MAX];
	u32 n = 0;

	while (frag_hold_one(f, FRAG_HALF)) {
		struct folio *b = phys_alloc(f->e.q, 0, FRAG_HALF);

		assert_true(n < FRAG_MAX);
		if (b)
			other[n++] = b;
	}
	while (n)
		folio_put(f->e.q, other[--n]);
}

static inline void frag_release(struct frag *f)
{
	while (f->nr_held)
		frag_release_one(f);
}

static inline void frag_close(struct frag *f)
{
	frag_release(f);
	env_close(&f->e);
}

/* Pages that live in node's blocks, by a walk of all folios. */
struct frag_count {
	struct quire *q;
	u64 first, last, pages;
};

static inline void frag_count_folio(void *ctx, struct folio *f)
{
	struct frag_count *c = ctx;
	u64 pfn = folio_pfn(c->q, f);

	if (pfn >= c->first && pfn < c->last)
		c->pages += folio_nr(f);
}

static inline u64 frag_pages_in(struct env *e, u64 pfn, u64 nr)
{
	struct frag_count c = { e->q, pfn, pfn + nr, 0 };

	phys_for_each_folio(e->q, frag_count_folio, &c);
	return c.pages;
}

static inline void frag_drop(struct env *e, u64 va, u64 pages)
{
	assert_int_equal(space_advise(e->q, e->s, va, PG(pages), ADVISE_DONTNEED), 0);
}

/* What every run of compaction leaves behind, whatever came of it. */
static inline void frag_balanced(struct env *e, const struct compact_result *r)
{
	assert_int_equal(r->got, r->used + r->put_back);
	assert_int_equal(r->free_taken - r->free_returned, r->migrate.moved);
	assert_true(r->blocks_after >= r->blocks_before);
	assert_int_equal(r->migrate.split, 0);
	env_check(e);
}

#endif
