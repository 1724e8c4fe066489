/*
 * tlb.h - the one place where translations are invalidated: the CPUs' (machine) and, later, the
 * devices'.
 *
 * tlb_flush_range does both, counts, and returns when the requested strength holds (machine.h). The
 * caller has changed the entries before; nothing that was reachable through them may be freed or
 * written out before it returns. Who must flush when is the callers' rule (gather, rmap): nothing
 * is skipped here.
 * tlb_batch collects the ranges of one or more spaces that reverse-map unmapping left behind, so
 * that a batch of folios pays one flush; whoever unmaps into a batch flushes it before it writes
 * out, frees or drops anything. A range is never forgotten: when there is no place the nearest ones
 * are united, or the batch is flushed early.
 *
 * Invariant: on a machine with CAP_FLUSH_UNDER_LOCK no page is flushed that the caller did not name
 * (a FLUSH_NO_ACCESS throws bytes away there), and nothing waits in a batch: tlb_batch_add flushes.
 * Locking: may be called with entry locks held; takes no core lock and never sleeps on one.
 */
#ifndef QUIRE_TLB_TLB_H
#define QUIRE_TLB_TLB_H

#include "base/quire.h"
#include "machine/machine.h"

/* What a flush needs to know of a space. Embedded in struct space. */
struct tlb_space {
	struct quire *q;   /* (C) */
	struct mspace *ms; /* (C) */
	a64_t flushes;     /* (A) how many have ended, for tests */
};

#define TLB_BATCH_RANGES 16
struct tlb_batch {
	struct {
		struct tlb_space *ts;
		struct tlb_range r;
	} pend[TLB_BATCH_RANGES];
	u32 n;
};

#define TLB_ALL_END (~0ull) /* [0, TLB_ALL_END): the whole space */

void tlb_space_init(struct quire *q, struct tlb_space *ts, struct mspace *ms);
/* Nothing for an empty range. A machine without CAP_RANGE_FLUSH flushes the whole space. */
void tlb_flush_range(struct tlb_space *ts, struct tlb_range r);
/* After present entries of a range lost rights or vanished, with the entry lock held. On
 * CAP_FLUSH_UNDER_LOCK machines flushes at once and returns true; else the caller owes a flush
 * after (gather or batch). */
bool must_check tlb_flush_under_lock(struct tlb_space *ts, u64 start, u64 end,
				     enum flush_strength s);
void tlb_batch_init(struct tlb_batch *b);
/* Remember a range. */
void tlb_batch_add(struct tlb_batch *b, struct tlb_space *ts, u64 start, u64 end,
		   enum flush_strength s);
void tlb_batch_flush(struct tlb_batch *b);
bool tlb_batch_pending(const struct tlb_batch *b);

#endif
