/*
 * compact.h - compaction: the pages of a node move together, so that free frames are (Linux:
 * mm/compaction.c).
 *
 * Two scanners over the frames of one node's buddy allocator. The migration scanner goes up, block
 * by block, and isolates what can move; the free scanner comes down and takes free pieces for it.
 * Where they meet, all is done: what is below is free as far as it can be, what is above is full.
 *
 *   migration scanner ->                                          <- free scanner
 *   | block | block | . . .                                . . . | block | block |
 *     pages of it are isolated, a destination is              its free pieces, not whole blocks,
 *     set aside for each; they move                           are where they go to
 *
 * Blocks that are reserved or out of service take no part, nor do home frames, which cannot move.
 * Nor do pages of at least the wanted order: they are no obstacle.
 *
 * Destinations: for each isolated folio one of its order is set aside before any of them moves.
 * migrate_folios gets it from there and gives it back there, so that each is used once or put back
 * (Linux 68711a74), and a large folio is never split for want of one. What comes back is as it was
 * got (Linux 8bdd6380) but for its bytes, which are released when it is not needed after all. Free
 * frames that were taken and not set aside go back as they came.
 *
 * Invariants
 *  1. got == used + put_back; frames taken off the lists == frames of those used + frames returned.
 *  2. Free blocks never become fewer by it: whole free blocks are not taken.
 *  3. It ends: each step of a scanner goes on, and they meet.
 *
 * Deferral, for faults (Linux's compaction deferral): after each failure twice as many faults as
 * before go without, up to 64; a success ends that. Orders below the lowest that failed are tried.
 *
 * Locking: as migrate_folios; of folio locks only trylocks with MIGRATE_ASYNC. Under the areas'
 * locks that a fault holds compact_for_fault may be called. Fields of struct compact_node: (A).
 */
#ifndef QUIRE_MIGRATE_COMPACT_H
#define QUIRE_MIGRATE_COMPACT_H

#include "migrate/migrate.h"
#include "phys/isolate.h"

/* The whole node, to the end, whatever is free already. */
#define COMPACT_WHOLE (MAX_FOLIO_ORDER + 1u)

enum compact_end {
	COMPACT_MET,         /* the scanners: there is no more to be had */
	COMPACT_SUCCESS,     /* a free piece of the order is there */
	COMPACT_BUDGET,      /* enough for this time */
	COMPACT_NO_CAPACITY, /* not even a destination's frames may be used */
};

struct compact_result {
	enum compact_end end;
	struct phys_scan scan;           /* of the migration scanner */
	struct migrate_counts migrate;   /* moved, failed and why */
	u64 free_taken;                  /* frames off the buddy lists ... */
	u64 free_returned;               /* ... and what was not needed of them */
	u64 got, used, put_back;         /* destinations handed to a move */
	u64 no_destination;              /* pages that stayed because there was none */
	u64 blocks_before, blocks_after; /* free pieces of order 9 */
};

/* 0: it ended by success, or by its scanners with the order COMPACT_WHOLE; -ENOMEM: no piece of the
 * order; -EINVAL: no such node, or one of home frames only. `result` is set but for -EINVAL.
 * LOCKING: none but the gate. */
int must_check compact_node(struct quire *q, unsigned node, unsigned order,
			    struct compact_result *result);

/* Called by a fault that has not got a folio of this order > 0, through fault_ops: is it worth
 * another try? Waits for nothing, and stops after a while. LOCKING: area or space lock. */
bool compact_for_fault(struct quire *q, unsigned node, unsigned order);

#endif
