/*
 * balloon.h - frames that are taken out of use, and given back (Linux: balloon_compaction).
 *
 * A page of the balloon holds a frame of a node, and is charged, but has no bytes: the machine has
 * them back (a frame that was just allocated has none: phys.h, "the ordering that matters"). So
 * everybody else has less memory by as much. The pages are movable (movable.h): a frame that is
 * needed for something larger, or whose memory is taken away, is exchanged for another.
 *
 * Invariants (balloon_check)
 *  1. balloon_pages, over all nodes, changes by inflating and deflating alone, not by migration.
 *  2. A page of it has the type PAGE_BALLOON; PG_LISTED if it is on the list of its node, else
 *     somebody has isolated it. It has one reference of the balloon's.
 *  3. One owner: who takes it off the list, under the page lock and the balloon's.
 *
 *   T1: balloon_deflate                 T2: movable_isolate
 *   balloon lock                        page lock (try), listed?
 *   the first page of the list
 *   page lock (try), or the next one    balloon lock, off the list
 *   off the list
 *
 * A node of home frames alone has no balloon: it has no frames to take. One that has others besides
 * has, since both count towards its capacity and the charge.
 *
 * Locking: BALLOON, inside FOLIO (of which only a trylock is taken under it). Letters: (B) balloon
 * lock; list links of pages: (B) while PG_LISTED, else the isolator's.
 */
#ifndef QUIRE_MIGRATE_BALLOON_H
#define QUIRE_MIGRATE_BALLOON_H

#include "base/list.h"
#include "base/quire.h"
#include "phys/phys.h"

struct balloon {
	struct spin lock; /* BALLOON */
	struct {
		struct list pages; /* (B) listed ones */
		u64 nr;            /* (B) isolated ones too */
		u64 isolated;      /* (B) */
	} node[MAX_NODES];
};

/* Up to nr frames of the node go out of use. Where there are none, pages of the node are moved to
 * others, and then reclaimed. Returns how many: fewer where no more room could be made. LOCKING:
 * inside the gate, no core lock. */
u64 balloon_inflate(struct quire *q, unsigned node, u64 nr);
/* Up to nr frames of the node can be used again; who has one isolated keeps it in. Returns how
 * many. */
u64 balloon_deflate(struct quire *q, unsigned node, u64 nr);
/* Pages of the balloon in the node, or (node < 0) in all. */
u64 balloon_pages(struct quire *q, int node);
/* 0 or the number of broken invariants. Only at quiescence. */
u64 balloon_check(struct quire *q);

#endif
