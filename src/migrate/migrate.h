/*
 * migrate.h - folios move to other frames while programs use them (Linux: migrate_pages).
 *
 * The steps for a batch, and their order:
 *
 *   1 lock        the folio (of a batch only by trylock), get and lock a destination
 *   2 unmap       entries become migration entries (rmap.h); what is not mapped is not looked for
 *   3 flush       once for the batch: from here on no store reaches the old frame
 *   4 copy        what nobody but the caller and the caches has a reference to; all of the batch
 *                 together
 *   5 replace     freeze the old folio (ref 0: nobody can find it meanwhile); its object is asked
 *                 (object.h: migrate_folio); the new one takes its place in the object's or the
 *                 swap cache, its flags and its charge
 *   6 map         migration entries become entries of the new folio, or of the old one if it stays
 *   7 unlock      wakes who waits
 *
 * Why nothing is lost. A store by an old translation comes before 3, so before 4. A pin, or anybody
 * who has found the folio in a cache, has a reference: looked at before 4, and frozen by 5, which
 * fails then. Who comes and goes in between, while the rest of the batch is copied, has written
 * nothing: who writes to a cached folio has it locked, and a pin needs an entry. Afterwards the old
 * folio is in no cache and no entry, and its last reference is the caller's.
 *
 * The references that 4 and 5 expect: the isolation's, one for each page from the swap cache, one
 * for each page from the object's cache. Nothing else.
 *
 * Invariants
 *  1. A destination is used, or given back as it was got: no flag, mapping, index or charge of the
 *     source (Linux 8bdd6380); got == used + given back.
 *  2. The charge moves: nothing is charged twice, and the old frame uncharges nothing.
 *  3. What could not be moved is mapped as before and on the caller's list, isolated as it was.
 *  4. It ends: a bounded number of tries for each folio, and only a single one is waited for.
 *
 * A home frame is the memory at its address, so its page keeps its frame and changes its node
 * (CAP_PARK): no destination, and 3 to 5 are one call of the machine, which takes the page from its
 * address before it moves the bytes. References do not matter, since the folio stays the same; pins
 * do, and have been looked for when its entries went (step 2).
 *
 * What an object keeps beside a folio's bytes goes along by its migrate_folio, or the folio stays;
 * where it is kept only while the folio is dirty, MIGRATE_SYNC writes it out between 3 and 4.
 *
 * Neighbours go together: the bytes of home frames, and what step 6 makes usable, by runs of
 * consecutive frames, whatever the folios.
 *
 * Locking: no core lock held but the gate. Takes FOLIO, then as rmap.h says; of a second folio only
 * by trylock, so that two migrations never wait for each other.
 */
#ifndef QUIRE_MIGRATE_MIGRATE_H
#define QUIRE_MIGRATE_MIGRATE_H

#include "rmap/rmap.h"
#include "swap/swap.h"

/* Why: each has its own counts (stats.def). */
enum migrate_reason {
	MIGRATE_FOR_CALL,       /* move_pages: a program asked */
	MIGRATE_FOR_DEMOTION,   /* to slower memory */
	MIGRATE_FOR_PROMOTION,  /* to faster memory */
	MIGRATE_FOR_COMPACTION, /* room for a large folio */
	MIGRATE_FOR_OFFLINE,    /* its memory is taken away */
	MIGRATE_FOR_BALLOON,    /* room for the balloon */
	MIGRATE_FOR_PLACE,      /* to its own place */
	NR_MIGRATE_REASONS,
};

#define MIGRATE_BATCH 64u /* folios that are unmapped, flushed and copied together */

/* The bytes of one folio on their way. */
struct migrate_copy {
	u64 to, from; /* frame numbers */
	u32 nr;
	int err;
};

struct migrate_ops {
	/* A destination of the source's order: owned, ref 1, not charged, as phys_alloc gives it.
	 * NULL: none; a large anonymous source is split then, and its pages are moved. */
	struct folio *(*alloc)(struct quire *q, struct folio *src, void *ctx);
	/* It was not used. NULL: it is freed. */
	void (*free)(struct quire *q, struct folio *dst, void *ctx);
	/* The bytes of all folios of a batch, which nobody stores to; sets each one's err: 0, or
	 * its folio stays. It may spread them over threads, or hand them to a device. NULL: this
	 * thread copies, with the copier's help for large batches (copier.h). */
	void (*copy)(struct quire *q, struct migrate_copy *copy, u32 n, void *ctx);
	/* The node that a folio of home frames is to be on, or < 0: it stays. NULL: they all do. */
	int (*home_node)(struct quire *q, struct folio *src, void *ctx);
	/* Not 0: entries of anonymous pages that have moved are hints from then on (pte.h). With
	 * the stamp: what pte_mk_hint makes of 0. */
	u64 hint;
};

struct migrate_counts { /* in pages, but for `tries` */
	u64 moved;
	u64 failed;    /* stayed for good: */
	u64 home;      /*   home frames that cannot */
	u64 no_memory; /*   no destination, or no room on its node */
	u64 in_use;    /*   pinned, or somebody had a reference, or the lock */
	u64 refused;   /*   their object did not let them go */
	u64 split;     /* pages of large folios that were split for want of a destination */
	u64 tries;     /* folios locked */
};

/* What migration asks of folders above it; registered by api. */
struct migrate_upcalls {
	/* As fault_ops (fault.h). */
	u64 (*make_room)(struct quire *q, unsigned cg, u32 pages);
	/* Brackets a stretch in which folios are isolated (reclaim.h). */
	u32 (*step_begin)(struct quire *q);
	void (*step_end)(struct quire *q, u32 phase);
};
void migrate_register(struct quire *q, const struct migrate_upcalls *up);
/* The bracket, by those upcalls: exits of spaces wait for what is isolated. */
u32 must_check migrate_step_begin(struct quire *q);
void migrate_step_end(struct quire *q, u32 phase);

int must_check migrate_create(struct quire *q);
/* Stops the copier's threads, and deflates the balloon. */
void migrate_destroy(struct quire *q);

/*
 * Move the isolated folios of `from`, the LRU's and movable pages (movable.h) alike (linked by
 * ->lru, each with the isolation's reference). What has moved leaves the list, and its new folio is
 * on its way to the LRU; what could not is left on it. `counts` is added to. 0: all; else the pages
 * that stayed. A page that nothing maps costs no walk of the reverse map (STAT_MIGRATE_WALKS, Linux
 * 2ebba6b7).
 */
u64 must_check migrate_folios(struct quire *q, struct list *from, const struct migrate_ops *ops,
			      void *ctx, enum migrate_mode mode, enum migrate_reason reason,
			      struct migrate_counts *counts);

/* For migrate_ops.alloc: a frame on the node, at the page's own place if that is memory of it.
 * NULL: none. LOCKING: src is locked. */
struct folio *must_check migrate_target(struct quire *q, struct folio *src, unsigned node);

/*
 * Steps 4 and 5 alone: src, which nothing maps, is isolated and has `extra` references of the
 * caller's besides; dst as from alloc, above. 0: dst stands in its place and has the caches'
 * references and its own first one; src keeps the isolation's and the extra ones. -EAGAIN: somebody
 * else uses src; -EBUSY: its object keeps it; -ENOMEM; nothing has changed then. LOCKING: both
 * folios locked.
 */
int must_check migrate_unmapped(struct quire *q, struct folio *dst, struct folio *src, u32 extra,
				enum migrate_reason reason);

#endif
