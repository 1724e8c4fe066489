/*
 * tier.h - fast and slow nodes: what is cold goes to a slower one before it is swapped, what is
 * used there comes back. Policy only; pages move as migrate.h says.
 *
 * Demotion: who finds no room on a node moves a cluster or two from the tail of its inactive list
 * to the next slower node. So the node's order of ages decides, as it does for eviction, which
 * takes from the slowest node first. Where the machine has no accessed bits, what comes to the tail
 * for the first time gets hints and goes round once more (PG_IDLE): what is used meanwhile traps
 * once and becomes active, the rest goes. No more than one cluster a call, so that who needs room
 * gets it.
 *
 * Promotion: pages that went to a slow node are left with hints (fault/hint.c). The clock counts
 * pages that were given hints; a page whose hint is met while the clock has gone on by less than a
 * part of the fast node's size is hot: it is used more often than what the fast node keeps, and
 * goes there, to its active list. Any other is used where it is until its lease ends; then its next
 * use has a younger stamp. What part that is adapts: when pages that were promoted are soon demoted
 * again, more is hot than fits, and only what comes back sooner still is moved.
 *
 * A rate limit bounds promotions in bytes a second, so that a program whose use changes all the
 * time spends its time on its work. Objects' pages stay on their node.
 *
 * Locking: called as reclaim is; atomics only.
 */
#ifndef QUIRE_RECLAIM_TIER_H
#define QUIRE_RECLAIM_TIER_H

#include "base/quire.h"

struct folio;

#define TIER_RATE_DEFAULT (256ull << 20) /* bytes a second */

/* For faults (fault_ops in fault.h says what each does). */
u64 tier_demote(struct quire *q, unsigned node, u32 pages);
/* Room on this very node: by demotion, else by eviction. Pages that went. LOCKING: as reclaim. */
u64 tier_make_room(struct quire *q, unsigned node, u32 pages);
bool tier_touched(struct quire *q, struct folio *f, unsigned stamp);
unsigned tier_stamp(struct quire *q);
void tier_parked(struct quire *q, unsigned node, u32 pages);

/* Bytes a second that promotions may move; 0: none is promoted. */
void tier_set_rate(struct quire *q, u64 bytes);
u64 tier_rate(struct quire *q);

struct tier_node_stats { /* pages, since the beginning */
	u64 demoted_in;
	u64 demoted_out;
	u64 promoted_in;
	u64 promoted_out;
	u64 hint_faults; /* uses that were noticed here */
	u64 hints;       /* pages whose next use would be noticed, so often ... */
	u64 used;        /* ... and those that were used, with their folios */
};
void tier_stats(struct quire *q, unsigned node, struct tier_node_stats *out);

#endif
