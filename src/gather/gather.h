/*
 * gather.h - mmu_gather: the one way in which mapped pages and tables are torn down.
 *
 *   1. unhook   the entry is cleared (and its dirty bit carried to the folio)
 *   2. invalidate  every TLB, CPU and device, that may hold it
 *   3. delayed reverse-map removals are done
 *   4. free     references dropped, tables freed
 *
 * Never 4 before 2: a CPU or device with a stale translation would reach memory that is somebody
 * else's by then. Every module that clears entries keeps this order, by this gather or by a
 * tlb_batch.
 *
 * Batches hold encoded folio-page pointers: bit 0 "delayed rmap removal", bit 1 "the next slot is a
 * count". A run of nr pages of one folio takes two slots (page | NR_NEXT, then nr), a pair is never
 * split between batches or between steps of freeing; encoded pointers never leave this folder.
 * On-stack bundle of 8 slots, then up to 19 batches of 510 slots, then the gather says "full" and
 * is flushed and freed. If no batch page can be had, the on-stack bundle goes round.
 *
 * On CAP_FLUSH_UNDER_LOCK machines the caller ends each PTE-lock section with
 * gather_flush_before_unlock().
 * Locking: belongs to its thread; gather_flush may free and so must not be called under LOCK_LRU or
 * above; gather_flush_before_unlock is called with the entry lock held and only invalidates (steps
 * 1-3).
 */
#ifndef QUIRE_GATHER_GATHER_H
#define QUIRE_GATHER_GATHER_H

#include "rmap/rmap.h"

#define GATHER_BUNDLE      8
#define GATHER_BATCH_SLOTS 510
#define GATHER_MAX_BATCHES 19
#define GATHER_TABLE_SLOTS 509

struct gather_batch;

struct gather {
	struct quire *q;
	struct rmap_space *rs;
	bool fullmm; /* the whole space goes: one flush at the end */
	bool need_flush;
	bool delayed_rmap; /* the active batch holds delayed removals */
	bool tables_freed;
	bool pmd_level;
	enum flush_strength strength;
	u64 start, end; /* range to invalidate; start > end: none */
	struct gather_batch *active;
	u32 nr_batches;
	struct list tables; /* unhooked ptdescs */
	u32 nr_tables;
	struct {
		struct gather_batch *next;
		u32 nr, max;
		u64 slot[GATHER_BUNDLE];
	} bundle;
	struct gather_batch *batches;
};

int must_check gather_create(struct quire *q);
/* rs NULL: the space comes with gather_enter. */
void gather_begin(struct quire *q, struct gather *g, struct rmap_space *rs, bool fullmm);
/* For a caller that tears down entries of several spaces, and may not keep them alive: between the
 * two only, entries of rs are torn down. After gather_leave everything is invalidated, and what is
 * left, freeing, needs no space. */
void gather_enter(struct gather *g, struct rmap_space *rs);
void gather_leave(struct gather *g);
/* Flush, free everything. */
void gather_end(struct gather *g);

/* nr entries from va on were cleared (or lost rights): grows the range. */
void gather_note_range(struct gather *g, u64 va, u64 size);
/* Queue nr pages of one folio starting at record `page`, each owning one reference. Returns true
 * when the gather is full: the caller drops its entry lock (after gather_flush_before_unlock) and
 * calls gather_flush. `delay_rmap`: the reverse map of these pages is removed by the gather after
 * the flush, inside the same entry-lock section. */
bool must_check gather_folio_pages(struct gather *g, struct folio *page, u32 nr, bool delay_rmap);
/* An unhooked table (from pt_unhook_tables). */
void gather_table(struct gather *g, struct ptdesc *desc);
/* With the entry lock held, before it is dropped: invalidate if the machine or a delayed removal
 * needs it. */
void gather_flush_before_unlock(struct gather *g);
/* Invalidate and free what has been gathered so far. */
void gather_flush(struct gather *g);
/* slots used and pages queued, for tests */
u64 gather_pending(const struct gather *g, u64 *slots);

#endif
