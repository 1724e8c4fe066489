/* The balloon, and pages that move though they are on no LRU list. */
#include <pthread.h>

#include "migrate/balloon.h"
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "frag_env.h"
#include "object_env.h"
#include "swap/swap_object.h"

#define PAGES 64u

static struct folio *alloc_other(struct quire *q, struct folio *src, void *ctx)
{
	u32 *fail = ctx;

	if (fail && *fail) {
		--*fail;
		return NULL;
	}
	return phys_alloc(q, !folio_node(src), src->order);
}

static const struct migrate_ops ops = { .alloc = alloc_other };

/* Every page of a node that can be isolated, by its frame's number. */
static u64 isolate_all(struct env *e, unsigned node, struct list *out)
{
	return movable_isolate_range(e->q, node * 65536ull, node * 65536ull + 4096, out);
}

static u64 move_all(struct env *e, unsigned node, u32 *fail, struct migrate_counts *c)
{
	struct list folios;
	u64 left;

	list_init(&folios);
	(void)isolate_all(e, node, &folios);
	left = migrate_folios(e->q, &folios, &ops, fail, MIGRATE_SYNC, MIGRATE_FOR_COMPACTION, c);
	migrate_putback(e->q, &folios);
	return left;
}

static void inflate_deflate(void **st)
{
	struct env e;
	u64 used;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	used = phys_used(e.q, 0);
	assert_int_equal(balloon_inflate(e.q, 0, 10), 10);
	assert_int_equal(balloon_inflate(e.q, 1, 5), 5);
	assert_int_equal(balloon_inflate(e.q, 2, 5), 0);
	assert_int_equal(balloon_pages(e.q, 0), 10);
	assert_int_equal(balloon_pages(e.q, 1), 5);
	assert_int_equal(balloon_pages(e.q, -1), 15);
	assert_int_equal(phys_used(e.q, 0), used + 10);
	assert_int_equal(env_usage(&e), 15);
	env_check(&e);
	assert_int_equal(balloon_deflate(e.q, 0, 4), 4);
	assert_int_equal(balloon_deflate(e.q, 1, 40), 5);
	assert_int_equal(balloon_deflate(e.q, 2, 40), 0);
	assert_int_equal(balloon_pages(e.q, -1), 6);
	assert_int_equal(phys_used(e.q, 0), used + 6);
	assert_int_equal(phys_used(e.q, 1), 0);
	assert_int_equal(env_usage(&e), 6);
	assert_int_equal(stat_read(e.q, STAT_BALLOON_INFLATED), 15);
	assert_int_equal(stat_read(e.q, STAT_BALLOON_DEFLATED), 9);
	env_check(&e);
	assert_int_equal(balloon_deflate(e.q, 0, 6), 6);
	env_close(&e);
	/* What is in it when the instance goes is given back. */
	env_open_nodes(&e, 2, 0, NULL, 2);
	assert_int_equal(balloon_inflate(e.q, 1, 7), 7);
	space_destroy(e.q, e.s);
	assert_int_equal(quire_check_all(e.q), 0);
	assert_int_equal(core_destroy(e.q), 0);
	e.m->ops->destroy(e.m);
	/* Home frames: no balloon. */
	env_open(&e, 3, 0, NULL);
	assert_int_equal(balloon_inflate(e.q, 0, 1), 0);
	env_close(&e);
}

/* The type says what a page is; whatever else there is, it is no page of a balloon. */
static void only_balloon_pages(void **st)
{
	(void)st;
	for (u32 k = 0; k < 4; k++) {
		struct object_config cfg = { .size = PG(8) };
		struct object *o = NULL;
		struct env e;
		u64 va, at = 0;

		env_open(&e, k, 0, NULL);
		/* Large folios, with tails; single pages; swapped in; shared by two areas. */
		va = env_map(&e, PAGES, RW, 0);
		env_write(&e, va, PAGES, 1);
		at = env_map_single(&e, PAGES);
		env_write(&e, at, PAGES, 2);
		env_pageout(&e, at, PAGES / 2);
		env_expect(&e, at, PAGES / 2, 2, 0);
		if (!e.home) {
			u64 o_va = 0;

			assert_int_equal(object_create_anon(e.q, &cfg, &o), 0);
			assert_int_equal(
				space_map_object(e.q, e.s, 0, PG(8), RW, MAP_F_SHARED, o, 0, &o_va),
				0);
			env_write(&e, o_va, 8, 3);
			for (u32 i = 0; i < 8; i++)
				assert_false(movable_isolate(e.q, env_page_at(&e, o_va + PG(i))));
		}
		for (u32 i = 0; i < PAGES; i++) {
			struct folio *large = env_page_at(&e, va + PG(i));
			struct folio *single = env_page_at(&e, at + PG(i));
			u32 ref = a32_read(&single->ref);

			assert_int_equal(folio_type(large), PAGE_OF_NO_TYPE);
			assert_int_equal(folio_type(single), PAGE_OF_NO_TYPE);
			assert_false(movable_isolate(e.q, large));
			assert_false(movable_isolate(e.q, single));
			assert_int_equal(a32_read(&single->ref), ref);
		}
		/* With any count that there may be. */
		for (u32 i = 0; i < 64; i++) {
			struct folio fake = { .order = 0 };

			a32_init(&fake.mapcount, i < 32 ? BIT(i) - 1 : BIT(i - 32) & INT32_MAX);
			assert_int_equal(folio_type(&fake), PAGE_OF_NO_TYPE);
		}
		if (o) {
			assert_int_equal(space_unmap(e.q, e.s, 0, 0), -EINVAL);
			space_destroy(e.q, e.s);
			object_put(o);
			assert_int_equal(space_create(e.q, CGROUP_ROOT, 0, &e.s), 0);
		}
		env_close(&e);
	}
}

/* Off its list once, and back; one that is isolated is not given back meanwhile. */
static void isolate_putback(void **st)
{
	struct folio *f = NULL;
	struct env e;
	struct list folios;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	assert_int_equal(balloon_inflate(e.q, 0, 3), 3);
	list_init(&folios);
	assert_int_equal(isolate_all(&e, 0, &folios), 3);
	f = list_first(&folios, struct folio, lru);
	assert_int_equal(folio_type(f), PAGE_BALLOON);
	assert_false(folio_test(f, PG_LISTED));
	assert_int_equal(a32_read(&f->ref), 2);
	assert_false(movable_isolate(e.q, f));
	assert_int_equal(a32_read(&f->ref), 2);
	assert_int_equal(balloon_deflate(e.q, 0, 3), 0);
	assert_int_equal(balloon_pages(e.q, 0), 3);
	list_del(&f->lru);
	movable_putback(e.q, f);
	assert_int_equal(a32_read(&f->ref), 1);
	assert_int_equal(balloon_deflate(e.q, 0, 3), 1);
	/* Gone: nobody's. */
	assert_false(movable_isolate(e.q, f));
	migrate_putback(e.q, &folios);
	env_check(&e);
	/* One that is locked is left where it is. */
	assert_int_equal(isolate_all(&e, 0, &folios), 2);
	f = list_first(&folios, struct folio, lru);
	migrate_putback(e.q, &folios);
	folio_lock(f);
	assert_int_equal(isolate_all(&e, 0, &folios), 1);
	assert_int_equal(balloon_deflate(e.q, 0, 3), 0);
	folio_unlock(f);
	assert_int_equal(balloon_deflate(e.q, 0, 3), 1);
	migrate_putback(e.q, &folios);
	assert_int_equal(balloon_deflate(e.q, 0, 3), 1);
	env_close(&e);
}

/* The balloon has as many pages as before, and they can be moved again, or given back. */
static void moves(void **st)
{
	struct migrate_counts c = { 0 };
	struct env e;
	u64 used[2];

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	used[0] = phys_used(e.q, 0);
	used[1] = phys_used(e.q, 1);
	assert_int_equal(balloon_inflate(e.q, 0, PAGES), PAGES);
	for (u32 round = 0; round < 4; round++) {
		assert_int_equal(move_all(&e, round & 1, NULL, &c), 0);
		assert_int_equal(c.moved, PAGES * (round + 1));
		assert_int_equal(balloon_pages(e.q, !(round & 1)), PAGES);
		assert_int_equal(balloon_pages(e.q, -1), PAGES);
		assert_int_equal(phys_used(e.q, round & 1), used[round & 1]);
		assert_int_equal(phys_used(e.q, !(round & 1)), used[!(round & 1)] + PAGES);
		assert_int_equal(env_usage(&e), PAGES);
		assert_int_equal(cgroup_peak(e.q, CGROUP_ROOT), PAGES);
		env_check(&e);
	}
	assert_int_equal(c.failed, 0);
	assert_int_equal(stat_read(e.q, STAT_MIGRATED_COMPACTION), 4 * PAGES);
	assert_int_equal(stat_read(e.q, STAT_MIGRATE_WALKS), 0);
	assert_int_equal(balloon_deflate(e.q, 0, PAGES), PAGES);
	env_close(&e);
}

/* Among others, on one list, with one call. */
static void moves_among_others(void **st)
{
	struct migrate_counts c = { 0 };
	struct list folios;
	struct env e;
	u64 va;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	va = env_map_single(&e, PAGES);
	for (u32 i = 0; i < PAGES; i++) {
		assert_int_equal(env_write_page(&e, va + PG(i), 1, i), 0);
		assert_int_equal(balloon_inflate(e.q, 0, 1), 1);
	}
	lru_drain_all(e.q);
	list_init(&folios);
	for (u32 i = 0; i < PAGES; i++) {
		struct folio *f = env_page_at(&e, va + PG(i));

		assert_true(lru_isolate(e.q, f));
		list_add(&f->lru, &folios);
	}
	assert_int_equal(isolate_all(&e, 0, &folios), PAGES);
	/* One of them is in use, and one of the others. */
	folio_get(env_page_at(&e, va + PG(5)));
	assert_int_equal(
		migrate_folios(e.q, &folios, &ops, NULL, MIGRATE_ASYNC, MIGRATE_FOR_CALL, &c), 1);
	migrate_putback(e.q, &folios);
	folio_put(e.q, env_page_at(&e, va + PG(5)));
	assert_int_equal(c.moved, 2 * PAGES - 1);
	assert_int_equal(balloon_pages(e.q, 1), PAGES);
	env_check(&e);
	env_expect(&e, va, PAGES, 1, 0);
	assert_int_equal(balloon_deflate(e.q, 1, PAGES), PAGES);
	env_close(&e);
}

/* Moves, destinations, frames and charges that are not to be had: nothing is lost. */
static void failures(void **st)
{
	struct env e;
	u64 in = 0;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	for (u32 i = 0; i < 40; i++) {
		struct migrate_counts c = { 0 };
		u32 fail = i % 7;
		u64 all, got, left;

		inject_at(&e.inject, i & 1 ? INJECT_FRAME : INJECT_CHARGE, 1 + i % 5);
		got = balloon_inflate(e.q, i % 2, 8);
		inject_off(&e.inject, INJECT_FRAME);
		inject_off(&e.inject, INJECT_CHARGE);
		in += got;
		all = balloon_pages(e.q, i % 2);
		inject_at(&e.inject, INJECT_MIGRATE, 1 + i % 4);
		left = move_all(&e, i % 2, &fail, &c);
		inject_off(&e.inject, INJECT_MIGRATE);
		assert_int_equal(left, c.failed);
		assert_int_equal(c.moved + c.failed, all);
		assert_int_equal(c.no_memory, min((u64)(i % 7), all));
		assert_int_equal(balloon_pages(e.q, -1), in);
		in -= balloon_deflate(e.q, i / 2 % 2, 5);
		assert_int_equal(env_usage(&e), in);
		env_check(&e);
	}
	balloon_deflate(e.q, 0, ~0ull);
	balloon_deflate(e.q, 1, ~0ull);
	env_close(&e);
}

/* ---- making room ---- */

/* The node is full: its pages go to the other one first, and are paged out when that is full. */
static void makes_room(void **st)
{
	u64 va, cap, swapped;
	struct env e;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	cap = phys_capacity(e.q, 0) - phys_used(e.q, 0);
	va = env_map(&e, 2 * PAGES, RW, 0);
	assert_int_equal(space_advise(e.q, e.s, va, PG(2 * PAGES), ADVISE_RANDOM), 0);
	env_write(&e, va, PAGES, 1);
	assert_int_equal(balloon_inflate(e.q, 0, cap - PAGES), cap - PAGES);
	assert_int_equal(stat_read(e.q, STAT_MIGRATED_BALLOON), 0);
	assert_int_equal(balloon_inflate(e.q, 0, 16), 16);
	assert_true(stat_read(e.q, STAT_MIGRATED_BALLOON) >= 16);
	assert_int_equal(stat_read(e.q, STAT_SWAP_OUT_PAGES), 0);
	env_check(&e);
	env_expect(&e, va, PAGES, 1, 0);
	/* No room elsewhere either. */
	assert_int_equal(balloon_inflate(e.q, 1, cap), cap);
	swapped = stat_read(e.q, STAT_SWAP_OUT_PAGES);
	assert_int_not_equal(swapped, 0);
	assert_int_equal(phys_used(e.q, 1), cap);
	env_check(&e);
	/* Everything is the balloon's: it gets no more, and does not wait for ever. */
	assert_true(balloon_inflate(e.q, 0, 2 * cap) <= PAGES);
	assert_int_equal(balloon_inflate(e.q, 0, 1), 0);
	balloon_deflate(e.q, 1, PAGES);
	balloon_deflate(e.q, 0, PAGES);
	env_expect(&e, va, PAGES, 1, 0);
	balloon_deflate(e.q, 0, cap);
	balloon_deflate(e.q, 1, cap);
	env_close(&e);
}

/* At the limit of the charge the balloon pushes pages out, and never exceeds it. */
static void within_limit(void **st)
{
	struct env e;
	u64 va;

	(void)st;
	env_open(&e, 2, 2 * PAGES, NULL);
	va = env_map_single(&e, PAGES);
	env_write(&e, va, PAGES, 1);
	assert_int_equal(balloon_inflate(e.q, 0, PAGES), PAGES);
	assert_int_equal(stat_read(e.q, STAT_SWAP_OUT_PAGES), 0);
	assert_int_equal(balloon_inflate(e.q, 0, PAGES / 2), PAGES / 2);
	assert_true(stat_read(e.q, STAT_SWAP_OUT_PAGES) >= PAGES / 2);
	assert_int_equal(stat_read(e.q, STAT_OVER_LIMIT), 0);
	assert_true(cgroup_peak(e.q, CGROUP_ROOT) <= 2 * PAGES);
	env_check(&e);
	env_expect(&e, va, PAGES, 1, 0);
	assert_true(cgroup_peak(e.q, CGROUP_ROOT) <= 2 * PAGES);
	assert_int_equal(balloon_deflate(e.q, 0, 2 * PAGES), 3 * PAGES / 2);
	env_close(&e);
}

/* ---- for others' sake ---- */

#define HELD 1024u

/* Pages of the balloon in every second frame: they move together, and the blocks are free. */
static void compacted(void **st)
{
	static struct folio *held[HELD];
	struct compact_result res;
	struct frag g;
	struct env *e = &g.e;

	(void)st;
	frag_open(&g, 2, 1, 8, 8 * BLOCK);
	for (u32 i = 0; i < HELD; i++) {
		held[i] = phys_alloc(e->q, 0, 0);
		assert_non_null(held[i]);
		assert_int_equal(balloon_inflate(e->q, 0, 1), 1);
	}
	for (u32 i = 0; i < HELD; i++)
		folio_put(e->q, held[i]);
	env_check(e);
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &res), 0);
	assert_true(res.migrate.moved > 0);
	assert_int_equal(res.migrate.failed, 0);
	assert_int_equal(res.got, res.used + res.put_back);
	assert_true(res.blocks_after >= res.blocks_before + HELD / BLOCK - 1);
	assert_int_equal(balloon_pages(e->q, 0), HELD);
	assert_int_equal(env_usage(e), HELD);
	env_check(e);
	assert_int_equal(balloon_deflate(e->q, 0, HELD), HELD);
	env_close(e);
}

/* A block with pages of the balloon leaves; the balloon is as large as before. */
static void offlined(void **st)
{
	struct offline_result res;
	struct list folios;
	struct frag g;
	struct env *e = &g.e;
	u64 pfn = 0;

	(void)st;
	frag_open(&g, 2, 1, 8, 8 * BLOCK);
	assert_int_equal(balloon_inflate(e->q, 0, 2 * BLOCK), 2 * BLOCK);
	list_init(&folios);
	/* Not the one of the zero page, which stays. */
	for (; pfn < 8 * BLOCK && list_empty(&folios); pfn += BLOCK)
		if (folio_pfn(e->q, fault_zero_folio(e->q)) - pfn >= BLOCK)
			(void)movable_isolate_range(e->q, pfn, pfn + BLOCK, &folios);
	pfn -= BLOCK;
	assert_false(list_empty(&folios));
	migrate_putback(e->q, &folios);
	assert_int_equal(node_offline_range(e->q, pfn, BLOCK, NULL, &res), 0);
	assert_true(res.migrate.moved > 0);
	assert_int_equal(balloon_pages(e->q, 0), 2 * BLOCK);
	assert_int_equal(movable_isolate_range(e->q, pfn, pfn + BLOCK, &folios), 0);
	env_check(e);
	assert_int_equal(node_online_range(e->q, pfn, BLOCK), 0);
	assert_int_equal(balloon_deflate(e->q, 0, ~0ull), 2 * BLOCK);
	env_close(e);
}

/* ---- threads ---- */

struct crowd {
	struct env e;
	a32_t stop;
	a64_t in;    /* pages in the balloon, as the one who inflates counts */
	a64_t moved; /* by those who move */
	u64 va;
};

static void *inflater(void *arg)
{
	struct crowd *w = arg;

	for (u32 i = 0; i < 400; i++) {
		gate_enter(&w->e.q->gate);
		a64_add(&w->in, balloon_inflate(w->e.q, i % 2, 1 + i % 9));
		a64_sub(&w->in, balloon_deflate(w->e.q, i / 2 % 2, 1 + i % 8));
		gate_exit(&w->e.q->gate);
	}
	return NULL;
}

static void *mover(void *arg)
{
	struct crowd *w = arg;
	u32 fail = 0;

	for (u32 i = 0; !a32_read(&w->stop); i++) {
		struct migrate_counts c = { 0 };

		fail = i % 3;
		gate_enter(&w->e.q->gate);
		(void)move_all(&w->e, i % 2, &fail, &c);
		gate_exit(&w->e.q->gate);
		a64_add(&w->moved, c.moved);
	}
	return NULL;
}

static void *program(void *arg)
{
	struct crowd *w = arg;

	for (u64 tag = 1; !a32_read(&w->stop); tag++) {
		u64 words[PAGE_SIZE / 8];

		for (u32 i = 0; i < 16; i++) {
			env_page(words, tag, i);
			assert_int_equal(sim_store(w->e.m, SIM_SELF, w->e.s->ms, w->va + PG(i),
						   words, sizeof(words)),
					 0);
		}
		assert_int_equal(space_advise(w->e.q, w->e.s, w->va, PG(16), ADVISE_DONTNEED), 0);
	}
	return NULL;
}

/* Inflating and deflating against two who isolate and move, and a program whose frames come and go
 * meanwhile: each page has one owner, and the totals match. */
static void crowd(void **st)
{
	pthread_t t[5];
	struct crowd w = { .va = 0 };

	(void)st;
	env_open_nodes(&w.e, 2, 0, NULL, 2);
	w.va = env_map_single(&w.e, 16);
	assert_int_equal(pthread_create(&t[0], NULL, mover, &w), 0);
	assert_int_equal(pthread_create(&t[1], NULL, mover, &w), 0);
	assert_int_equal(pthread_create(&t[2], NULL, program, &w), 0);
	assert_int_equal(pthread_create(&t[3], NULL, inflater, &w), 0);
	assert_int_equal(pthread_create(&t[4], NULL, inflater, &w), 0);
	pthread_join(t[3], NULL);
	pthread_join(t[4], NULL);
	while (!a64_read(&w.moved))
		base_yield();
	a32_set(&w.stop, 1);
	for (u32 i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(balloon_pages(w.e.q, -1), a64_read(&w.in));
	env_check(&w.e);
	balloon_deflate(w.e.q, 0, ~0ull);
	balloon_deflate(w.e.q, 1, ~0ull);
	assert_int_equal(balloon_pages(w.e.q, -1), 0);
	assert_int_equal(stat_read(w.e.q, STAT_BALLOON_INFLATED),
			 stat_read(w.e.q, STAT_BALLOON_DEFLATED));
	env_close(&w.e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inflate_deflate),
		cmocka_unit_test(only_balloon_pages),
		cmocka_unit_test(isolate_putback),
		cmocka_unit_test(moves),
		cmocka_unit_test(moves_among_others),
		cmocka_unit_test(failures),
		cmocka_unit_test(makes_room),
		cmocka_unit_test(within_limit),
		cmocka_unit_test(compacted),
		cmocka_unit_test(offlined),
		cmocka_unit_test(crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
