/*
 * pagetable.h - four levels of tables, their descriptors, the walk, the entry locks.
 *
 * Every table page has a descriptor (struct ptdesc), found from the table's address by arithmetic;
 * it holds the split entry lock and, for a PTE table, the reservation of frames for its 2 MiB.
 * A table is reached by reading each upper entry exactly once. A lock-free walker is in an RCU
 * section: tables are reused only after a grace period (pt_free_table_rcu). After taking an entry
 * lock the walker checks that the table is still the one that the PMD names (Linux 4b56069c):
 * pt_pte_lock does it.
 * PMD entries: 0, a table, a leaf (ENTRY_HUGE, or PROTNONE), or a swap-type entry of 2 MiB.
 *
 * Life of a table (enum pt_state):
 *   FREE     -[pt_pmd_alloc, pt_pte_alloc, pt_table_prepare]-> LIVE
 *   LIVE     -[pt_unhook_tables, pt_unhook_one]-> UNHOOKED
 *   UNHOOKED -[pt_free_table_rcu: after the flush]-> QUEUED
 *   QUEUED   -[a grace period later]-> FREE
 *   LIVE     -[pgtable_fini, pt_table_discard]-> FREE
 * Invariants
 *  1. nr_tables == tables in the LIVE or UNHOOKED state; freed exactly once (a BUG otherwise).
 *  2. A FREE table is all zero: a table is unhooked only when it is empty, so taking a used one
 *     costs no clearing.
 *  3. dead <=> no longer named by its parent; set with the table's own lock held, so whoever holds
 *     the lock of a table that is not dead may change its entries.
 *  4. An upper table is unhooked only where no area is, so for whoever holds an area (or the space
 *     lock) the PMD word of an address in it stays. A PTE table may vanish at any time
 *     (pt_unhook_one).
 * Locking: LOCK_PMD (one per PMD table and above) to install or clear a table; LOCK_PTE for leaf
 * entries of a PTE table. Leaf entries at PMD level change under LOCK_PMD. Both to unhook a PTE
 * table.
 */
#ifndef QUIRE_PAGETABLE_PAGETABLE_H
#define QUIRE_PAGETABLE_PAGETABLE_H

#include "base/list.h"
#include "base/quire.h"
#include "base/rcu.h"
#include "pagetable/pte.h"

enum pt_state { PT_FREE, PT_LIVE, PT_UNHOOKED, PT_QUEUED };

struct ptdesc {
	struct spin lock;    /* LOCK_PTE for level 0, LOCK_PMD above */
	a64_t *table;        /* (C) PTRS_PER_TABLE words, page aligned */
	struct pgtable *pgt; /* (C) */
	u64 va;              /* (C) first address it translates */
	u64 resv_pfn; /* (lock) level 0: reserved frame block, 0 none; given back with the table */
	u32 level;    /* (C) 0 PTE .. 3 PGD */
	a32_t dead;   /* set under lock when unhooked from its parent */
	u32 state;    /* enum pt_state; of whoever unhooks and frees the table */
	u32 clean_faults;   /* (lock) policy: read faults on swapped pages here ... */
	u32 wp_faults;      /* (lock) ... and how many of those pages were written after all */
	u32 reverse_faults; /* (lock) policy: writes that left others a copy since the last fork */
	struct rcu_head rcu;
	struct list gather; /* the gather's, once unhooked */
};

/* One space's tables. */
struct pgtable {
	struct quire *q;
	a64_t *root; /* (C) */
	struct ptdesc *root_desc;
	a64_t nr_tables; /* in use, root included */
};

int must_check pt_create(struct quire *q); /* caches; q->tables */
/* LOCKING: every pgtable_fini done and qrcu_barrier after it. */
void pt_destroy(struct quire *q);
int must_check pgtable_init(struct quire *q, struct pgtable *pgt);
/* Frees all remaining tables at once. LOCKING: no walkers, no simulated CPU either; every leaf
 * entry clear (BUG in debug builds). */
void pgtable_fini(struct pgtable *pgt);
/* Tables of all spaces that are in use. */
u64 pt_live_tables(struct quire *q);

struct ptdesc *ptdesc_of(const a64_t *table);

/* The PMD word for va, or NULL when an upper table is missing.
 * LOCKING: RCU section, or va in an area that is held, or space lock. */
a64_t *pt_pmd(struct pgtable *pgt, u64 va);
/* As above, installing missing upper tables. NULL: -ENOMEM.
 * LOCKING: va in an area that is held (VMA lock), or space lock; takes PMD. */
a64_t *must_check pt_pmd_alloc(struct pgtable *pgt, u64 va);
/* Make sure a PTE table hangs at va. 0; -ENOMEM; -EEXIST: a leaf is there. LOCKING: as above. */
int must_check pt_pte_alloc(struct pgtable *pgt, u64 va);
/* Lock-free look: the PTE word for va, or NULL (no table, or a leaf). LOCKING: RCU section. Only
 * for pte_get; revalidate under the lock. */
pte_t *pt_pte_peek(struct pgtable *pgt, u64 va);
/* The PTE word for va with its table's lock held and the table verified to be in the tree; NULL:
 * none there (or a leaf). *desc receives the descriptor for pt_pte_unlock; while it is held the
 * table cannot vanish, and its other words may be used too. LOCKING: takes PTE. */
pte_t *must_check pt_pte_lock(struct pgtable *pgt, u64 va, struct ptdesc **desc);
/* The same for the second table of a remap: a PTE lock is held already, of a lower address. */
pte_t *must_check pt_pte_lock_nested(struct pgtable *pgt, u64 va, struct ptdesc **desc);
static inline void pt_pte_unlock(struct ptdesc *desc)
{
	spin_unlock(&desc->lock);
}
/* The lock that guards the PMD word. */
struct spin *pt_pmd_lockptr(struct pgtable *pgt, a64_t *pmd);

/* Does this value of an upper entry name a table? Decide on one copy of the word. */
static inline bool pt_is_table(u64 e)
{
	return (e & (ENTRY_PRESENT | ENTRY_HUGE)) == ENTRY_PRESENT;
}

/* ---- replacing a leaf by a table (splitting it): fill a table that nobody sees, then name it ----
 */
/* An empty PTE table for va's 2 MiB. NULL: -ENOMEM. */
struct ptdesc *must_check pt_table_prepare(struct pgtable *pgt, u64 va);
/* *pmd = the table. LOCKING: PMD lock of the word, which holds 0 or a leaf. */
void pt_table_install(a64_t *pmd, struct ptdesc *desc);
/* It was not needed: its entries must be clear again. */
void pt_table_discard(struct quire *q, struct ptdesc *desc);

/*
 * Unhook every table that translates some of r and whose whole span lies in the hole [floor,
 * ceiling) between the neighbouring areas: nothing is in use there. Unhooked tables, lowest level
 * first, are passed to `sink` (the gather), which frees them with pt_free_table_rcu after the
 * flush. LOCKING: space lock for writing, and no areas left in [floor, ceiling); takes PMD and PTE;
 * sink is called without them.
 */
void pt_unhook_tables(struct pgtable *pgt, struct range r, u64 floor, u64 ceiling,
		      void (*sink)(void *ctx, struct ptdesc *desc), void *ctx);
/* Unhook the PTE table at va if it is empty; the caller flushes (tables_freed) and then calls
 * pt_free_table_rcu. NULL: none there, or in use. LOCKING: takes PMD and PTE. */
struct ptdesc *pt_unhook_one(struct pgtable *pgt, u64 va);
/* Give the table back after a grace period. The space must not be gone yet. */
void pt_free_table_rcu(struct quire *q, struct ptdesc *desc);

/* Calls fn for every leaf entry in r that is not 0, in ascending order: level 0, or 1 for a PMD's.
 * LOCKING: quiescent or space write lock (tests, checker). */
void pt_for_each(struct pgtable *pgt, struct range r,
		 void (*fn)(void *ctx, u64 va, u64 entry, unsigned level), void *ctx);
/* 0 or the number of broken invariants of one space's tables. LOCKING: quiescent. */
u64 pt_check(struct pgtable *pgt);

/* Bytes of memory that tables and descriptors have touched. */
u64 pt_bytes(struct quire *q);

#endif
