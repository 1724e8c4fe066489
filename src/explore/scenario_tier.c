/*
 * scenario_tier.c - what actors do where nodes differ: pages change their node, leases end.
 *
 * Lock fidelity: do_to_node is demote_cluster or promote of reclaim/tier.c (with hints, or without)
 * for folios that the list walk has met, and space_move_to_node: a reference by try-get only,
 * isolation, counted so that exits wait for it, one batch, one try. do_end_leases is what a fault
 * does that leases one block too many, which holds an area's lock besides; any area's, so that it
 * tells nothing of the leases that end.
 */
#include "explore/scenario_env.h"
#include "migrate/migrate.h"
#include "reclaim/tier.h"

static struct folio *alloc_there(struct quire *q, struct folio *src, void *ctx)
{
	return migrate_target(q, src, *(unsigned *)ctx);
}

static int home_there(struct quire *q, struct folio *src, void *ctx)
{
	(void)q;
	(void)src;
	return (int)*(unsigned *)ctx;
}

u64 do_to_node(struct env *e, struct folio *const *folios, u32 n, unsigned node, bool hints)
{
	struct migrate_ops ops = { .alloc = alloc_there, .home_node = home_there };
	struct migrate_counts counts = { 0 };
	struct list list;
	u32 phase;

	gate_enter(&e->q->gate);
	phase = reclaim_step_begin(e->q);
	list_init(&list);
	for (u32 i = 0; i < n; i++) {
		if (!folio_try_get(folios[i]))
			continue;
		if (lru_isolate(e->q, folios[i]))
			list_add_tail(&folios[i]->lru, &list);
		folio_put(e->q, folios[i]);
	}
	if (hints)
		ops.hint = pte_mk_hint(0, tier_stamp(e->q));
	if (!list_empty(&list))
		(void)!migrate_folios(e->q, &list, &ops, &node, MIGRATE_ASYNC,
				      hints ? MIGRATE_FOR_DEMOTION : MIGRATE_FOR_PROMOTION,
				      &counts);
	lru_putback_list(e->q, &list);
	reclaim_step_end(e->q, phase);
	gate_exit(&e->q->gate);
	return counts.moved;
}

void prepare_promotion(struct env *e, bool promote)
{
	tier_set_rate(e->q, promote ? ~0ull : 0);
}

void prepare_slow(struct env *e, u64 va)
{
	struct folio *f = folio_at(e, va);

	lru_drain_all(e->q);
	must(do_to_node(e, &f, 1, 1, true) == 1, "set-up: it was not demoted");
	must(pte_is_hint(entry_at(e, va)), "set-up: no hint");
	lru_drain_all(e->q);
}

void prepare_leased(struct env *e, unsigned unit, u64 va)
{
	prepare_slow(e, va);
	prepare_promotion(e, false);
	(void)prepare_load(e, unit, va);
	must(entry_present(entry_at(e, va)), "set-up: it was not leased");
}

void do_end_leases(struct env *e)
{
	gate_enter(&e->q->gate);
	fault_end_leases(e->q, &e->s->fs);
	gate_exit(&e->q->gate);
}

u32 do_isolate_clusters(struct env *e, unsigned node)
{
	struct list list;
	u32 pages, phase;

	gate_enter(&e->q->gate);
	phase = reclaim_step_begin(e->q);
	list_init(&list);
	pages = lru_isolate_clusters(e->q, node, LRU_INACTIVE, LRU_CLUSTER, &list);
	lru_putback_list(e->q, &list);
	reclaim_step_end(e->q, phase);
	gate_exit(&e->q->gate);
	return pages;
}
