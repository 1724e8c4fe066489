/*
 * swap_env.h - an instance with base, phys and swap over the simulated machine, and helpers that
 * take a folio through its life in the swap cache as fault and reclaim would.
 *
 * Locking: the helpers take and drop folio locks themselves where they say so.
 */
#ifndef TESTS_UNIT_SWAP_ENV_H
#define TESTS_UNIT_SWAP_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/inject.h"
#include "base/quire.h"
#include "base/trace.h"
#include "machine/native/native.h"
#include "machine/sim/sim.h"
#include "phys/phys.h"
#include "swap/swap_internal.h"

struct swap_env {
	struct quire q;
	struct inject inject;
	struct arena_source src;
	u64 warnings;
};

static inline void *env_map(void *ctx, size_t bytes)
{
	struct machine *m = ctx;

	return m->ops->mem_map(m, bytes);
}

static inline void env_unmap(void *ctx, void *addr, size_t bytes)
{
	struct machine *m = ctx;

	m->ops->mem_unmap(m, addr, bytes);
}

/* Everything but the stores. */
static inline struct swap_env *env_base(u64 frames)
{
	struct swap_env *e = aligned_alloc(64, ALIGN_UP(sizeof(*e), 64));
	struct sim_config cfg = sim_defaults(false, true);
	struct phys_config pc = { .nr_nodes = 1 };

	memset(e, 0, sizeof(*e));
	e->warnings = native_warnings();
	inject_init(&e->inject);
	cfg.ram_frames = frames;
	cfg.span_frames = ALIGN_UP(frames, 512ull);
	cfg.inject = &e->inject;
	assert_int_equal(sim_create(&cfg, &e->q.machine), 0);
	e->src = (struct arena_source){ e->q.machine, env_map, env_unmap };
	e->q.inject = &e->inject;
	e->q.arena = arena_create(&e->src);
	assert_non_null(e->q.arena);
	arena_set_inject(e->q.arena, &e->inject);
	rcu_domain_init(&e->q.rcu);
	gate_init(&e->q.gate);
	e->q.stats =
		arena_pages(e->q.arena, (u32)(MAX_CPUS * sizeof(struct stat_cpu) / PAGE_SIZE + 1));
	e->q.trace = trace_create(e->q.arena);
	assert_non_null(e->q.trace);
	pc.node[0].span = cfg.span_frames;
	pc.node[0].capacity = frames;
	assert_int_equal(phys_create(&e->q, &pc), 0);
	return e;
}

/* The spec with this process's number in its paths: suites may run side by side. Static buffer. */
static inline const char *env_spec(const char *spec)
{
	static char out[256];
	const char *mark = "quire-test";
	size_t n = 0;

	for (const char *at; (at = strstr(spec, mark)); spec = at + strlen(mark))
		n += (size_t)snprintf(out + n, sizeof(out) - n, "%.*s%s%d", (int)(at - spec), spec,
				      mark, (int)getpid());
	snprintf(out + n, sizeof(out) - n, "%s", spec);
	return out;
}

static inline struct swap_env *env_new(const char *spec, u64 frames)
{
	struct swap_env *e = env_base(frames);
	char msg[200] = "";
	int err = swap_create(&e->q, env_spec(spec), msg, sizeof(msg));

	if (err)
		fail_msg("%s: %d %s", spec, err, msg);
	return e;
}

/* Every invariant, then everything goes; nothing may be left. */
static inline void env_free(struct swap_env *e)
{
	struct machine *m = e->q.machine;
	struct sim_stats st;

	for (int p = 0; p < NR_INJECT_POINTS; p++)
		inject_off(&e->inject, (enum inject_point)p);
	assert_int_equal(swap_check(&e->q), 0);
	swap_destroy(&e->q);
	phys_destroy(&e->q);
	qrcu_barrier(&e->q);
	arena_destroy(e->q.arena);
	sim_stats_get(m, &st);
	assert_int_equal(st.mem_bytes, 0);
	assert_int_equal(st.files, 0);
	assert_int_equal(native_warnings(), e->warnings);
	m->ops->destroy(m);
	free(e);
}

static inline u8 *env_bytes(struct swap_env *e, struct folio *f)
{
	return e->q.machine->ops->frame_window(e->q.machine, folio_pfn(&e->q, f));
}

static inline u64 env_random(u64 *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/*
 * The bytes of page `id` at version `v`: some same-filled, some that compress well or not at all.
 * kind -1: by id.
 */
static inline void page_fill(void *page, u64 id, u64 v, int kind)
{
	u64 s = (id * 0x9e3779b97f4a7c15ull ^ v * 0xbf58476d1ce4e5b9ull) | 1;
	u64 *w = page;

	for (int i = 0; i < 8; i++)
		env_random(&s);
	if (kind < 0)
		kind = (int)(id % 8);
	for (u32 i = 0; i < PAGE_SIZE / 8; i++) {
		if (kind == 0)
			w[i] = s;
		else if (kind == 1 || i == 0)
			w[i] = env_random(&s);
		else if (kind == 2) /* half of it random */
			w[i] = i % 2 ? env_random(&s) : w[0];
		else
			w[i] = i % 8 ? w[i - i % 8] + i % 8 : env_random(&s) >> 40;
	}
}

static inline bool page_is(const void *page, u64 id, u64 v, int kind)
{
	static __thread u8 want[PAGE_SIZE] __attribute__((aligned(64)));

	page_fill(want, id, v, kind);
	return !memcmp(page, want, PAGE_SIZE);
}

/* Several folios at a time are only ever locked by trylock, as reclaim does. */
static inline void env_lock(struct folio *f)
{
	while (!folio_trylock(f))
		;
}

/* A locked folio with bytes in it, ref 1, dirty. */
static inline struct folio *env_folio(struct swap_env *e, u32 order, u64 id, u64 v, int kind)
{
	struct folio *f = phys_alloc(&e->q, 0, order);

	if (!f)
		return NULL;
	env_lock(f);
	folio_set(f, PG_DIRTY);
	folio_set(f, PG_UPTODATE);
	for (u32 i = 0; i < folio_nr(f); i++)
		page_fill(env_bytes(e, f) + i * PAGE_SIZE, id + i, v, kind);
	return f;
}

/* Reclaim's end: the locked folio (ref 1 + cache) is gone afterwards. */
static inline void env_evict(struct swap_env *e, struct folio *f, u32 shadow)
{
	u32 nr = folio_nr(f);
	struct list one;

	/* A lookup may hold a reference for a moment. */
	while (!folio_freeze(f, 1 + nr))
		;
	swap_delete_frozen(&e->q, f, shadow);
	folio_unlock(f);
	list_init(&one);
	list_add(&f->lru, &one);
	phys_free_frozen_list(&e->q, &one);
}

/* New page to slot, one count, bytes stored and the folio gone. Returns the slot. */
static inline u64 env_store(struct swap_env *e, u64 id, u64 v, int kind)
{
	struct folio *f = env_folio(e, 0, id, v, kind);
	u64 slot;
	int err;

	assert_non_null(f);
	assert_int_equal(swap_add_folio(&e->q, f), 0);
	slot = f->swap;
	swap_dup(&e->q, slot, 1);
	assert_int_equal(swap_writeout(&e->q, &f, 1, &err), 1);
	env_evict(e, f, 7);
	return slot;
}

/* Bring a slot's page in: a locked folio in the cache, ref 1 + 1. */
static inline struct folio *env_load(struct swap_env *e, u64 slot, int *err)
{
	struct folio *f = phys_alloc(&e->q, 0, 0);
	void *buf;
	u32 shadow;

	assert_non_null(f);
	env_lock(f);
	assert_int_equal(swap_cache_insert(&e->q, slot, f, &shadow), 0);
	buf = env_bytes(e, f);
	swap_read(&e->q, &slot, 1, &buf, err);
	return f;
}

static inline void env_unlock_put(struct swap_env *e, struct folio *f)
{
	folio_unlock(f);
	folio_put(&e->q, f);
}

static inline u64 env_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

#endif
