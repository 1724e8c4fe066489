/*
 * scenario_migrate.c - what a migrating actor does: as space_move_to_node (space/nodes.c) for
 * folios that its look at the entries has met: a reference by try-get only, because nothing else
 * keeps them, then isolation, counted so that exits wait for it, and one pass. The destinations are
 * any frames.
 */
#include "explore/scenario_env.h"
#include "migrate/copier.h"
#include "migrate/movable.h"

static struct folio *alloc_any(struct quire *q, struct folio *src, void *ctx)
{
	(void)ctx;
	return phys_alloc(q, 0, src->order);
}

u64 do_migrate(struct env *e, struct folio *const *folios, u32 n)
{
	static const struct migrate_ops ops = { .alloc = alloc_any };
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
	if (!list_empty(&list))
		(void)!migrate_folios(e->q, &list, &ops, NULL, MIGRATE_ASYNC, MIGRATE_FOR_CALL,
				      &counts);
	lru_putback_list(e->q, &list);
	reclaim_step_end(e->q, phase);
	gate_exit(&e->q->gate);
	return counts.moved;
}

u64 do_migrate_movable(struct env *e, struct folio *f)
{
	static const struct migrate_ops ops = { .alloc = alloc_any };
	struct migrate_counts counts = { 0 };
	struct list list;
	u32 phase;

	gate_enter(&e->q->gate);
	phase = reclaim_step_begin(e->q);
	list_init(&list);
	if (movable_isolate(e->q, f)) {
		list_add_tail(&f->lru, &list);
		(void)!migrate_folios(e->q, &list, &ops, NULL, MIGRATE_ASYNC,
				      MIGRATE_FOR_COMPACTION, &counts);
		migrate_putback(e->q, &list);
	}
	reclaim_step_end(e->q, phase);
	gate_exit(&e->q->gate);
	return counts.moved;
}

void prepare_copier(struct env *e)
{
	must(!copier_start(e->q, 0, 1), "set-up: copier");
}

void do_copier_help(struct env *e)
{
	gate_enter(&e->q->gate);
	copier_help(e->q);
	gate_exit(&e->q->gate);
}
