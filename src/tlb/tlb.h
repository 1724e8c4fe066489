/*
 * tlb.h - the one place where translations are invalidated: the CPUs' (machine) and, later, the devices'.
 *
 * tlb_flush_range does both, counts, and returns when the requested strength holds (machine.h).
 * tlb_batch collects the ranges of one space that reverse-map unmapping left behind, so that a batch of folios pays
 * one flush; whoever unmaps into a batch flushes it before it writes out, frees or drops anything.
 * Locking: may be called with entry locks held; never sleeps on core locks.
 */
#ifndef QUIRE_TLB_TLB_H
#define QUIRE_TLB_TLB_H

#include "base/quire.h"
#include "machine/machine.h"

/* What a flush needs to know of a space. Embedded in struct space. */
struct tlb_space {
	struct quire *q;
	struct mspace *ms; /* (C) */
	a64_t flushes;	   /* flush generation, for tests */
};

#define TLB_BATCH_RANGES 16
struct tlb_batch {
	struct {
		struct tlb_space *ts;
		struct tlb_range r;
		bool dirty; /* an entry was writable and dirty */
	} pend[TLB_BATCH_RANGES];
	u32 n;
};

void tlb_space_init(struct quire *q, struct tlb_space *ts, struct mspace *ms);
void tlb_flush_range(struct tlb_space *ts, struct tlb_range r);
/* After present entries of a range lost rights or vanished, with the entry lock held. On CAP_FLUSH_UNDER_LOCK
 * machines flushes at once and returns true; else the caller owes a flush after (gather or batch). */
bool tlb_flush_under_lock(struct tlb_space *ts, u64 start, u64 end, enum flush_strength s);
void tlb_batch_init(struct tlb_batch *b);
/* Remember a range; when the batch is full the oldest are merged (never forgotten). */
void tlb_batch_add(struct tlb_batch *b, struct tlb_space *ts, u64 start, u64 end, enum flush_strength s);
void tlb_batch_flush(struct tlb_batch *b);
bool tlb_batch_pending(const struct tlb_batch *b);

#endif
