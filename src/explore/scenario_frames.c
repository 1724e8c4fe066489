/*
 * scenario_frames.c - compaction and offlining as actors do them, and which free frames there are.
 *
 * Free frames that a scenario keeps away are taken as compaction takes them (phys/isolate.h): no
 * list has them, and no record says that they are used.
 */
#include "explore/scenario_env.h"
#include "migrate/compact.h"
#include "migrate/offline.h"

int do_compact(struct env *e, unsigned order)
{
	struct compact_result r;
	int err;

	gate_enter(&e->q->gate);
	err = compact_node(e->q, 0, order, &r);
	gate_exit(&e->q->gate);
	must(r.got == r.used + r.put_back, "a destination is lost, or used twice");
	return err;
}

int do_offline(struct env *e, u64 block)
{
	u64 nr = PHYS_BLOCK_FRAMES;
	int err;

	gate_enter(&e->q->gate);
	err = node_offline_range(e->q, block * nr, nr, NULL, NULL);
	gate_exit(&e->q->gate);
	return err;
}

static void keep_block(struct env *e, u64 pfn, struct phys_pieces *p)
{
	u64 end = pfn + PHYS_BLOCK_FRAMES;

	while (pfn < end)
		phys_pieces_take(e->q, 0, &pfn, end, MAX_FOLIO_ORDER, ~0ull, p);
}

void prepare_keep_free(struct env *e)
{
	struct range r = phys_grown(e->q, 0);

	phys_drain_cpus(e->q, 0);
	for (u64 at = r.start; at < r.end; at += PHYS_BLOCK_FRAMES)
		keep_block(e, at, &e->kept);
}

u64 prepare_free_piece(struct env *e, unsigned order)
{
	struct phys_pieces fresh;
	struct folio *f;
	u64 pfn;

	prepare_keep_free(e);
	f = phys_alloc(e->q, 0, 0);
	must(f != NULL, "set-up: no frames");
	pfn = ALIGN_DOWN(folio_pfn(e->q, f), (u64)PHYS_BLOCK_FRAMES);
	folio_put(e->q, f);
	phys_drain_cpus(e->q, 0);
	phys_pieces_init(&fresh);
	keep_block(e, pfn, &fresh);
	must(fresh.frames == PHYS_BLOCK_FRAMES, "set-up: the block is not fresh");
	f = phys_pieces_folio(e->q, 0, &fresh, order);
	must(f && folio_pfn(e->q, f) == pfn, "set-up: no piece");
	for (unsigned o = 0; o <= MAX_FOLIO_ORDER; o++)
		list_splice_init(&fresh.list[o], &e->kept.list[o]);
	e->kept.frames += fresh.frames;
	folio_put(e->q, f);
	phys_drain_cpus(e->q, 0);
	return pfn;
}

void prepare_unreserved(struct env *e)
{
	inject_at(&e->inject, INJECT_FRAME, 1);
}
