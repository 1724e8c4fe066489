/*
 * pagetable.h - four levels of tables, their descriptors, the walk, the entry locks.
 *
 * Every table page has a descriptor (struct ptdesc), found from the table's address in O(1); it holds the split
 * entry lock, the count of used entries, and for a PTE table the reservation of frames for its 2 MiB.
 * A table is reached by reading each upper entry exactly once. A lock-free walker holds an RCU section:
 * tables are freed only after a grace period (pt_free_table_rcu). After taking an entry lock the walker
 * checks that the table is still the one that the PMD names (Linux 4b56069c): pt_pte_lock returns NULL if not.
 * PMD entries: 0, a table, or a leaf (ENTRY_HUGE), or PROTNONE leaf.
 *
 * Invariants: live tables == counter; a table in the tree has a constructor run; freed exactly once.
 * Locking: LOCK_PMD (one per PMD table and above) to install or clear a table; LOCK_PTE for leaf entries of a PTE table.
 * Leaf entries at PMD level change under LOCK_PMD.
 */
#ifndef QUIRE_PAGETABLE_PAGETABLE_H
#define QUIRE_PAGETABLE_PAGETABLE_H

#include "base/quire.h"
#include "base/rcu.h"
#include "pagetable/pte.h"

struct ptdesc {
	struct spin lock;	/* LOCK_PTE for level 0, LOCK_PMD above */
	a64_t *table;		/* (C) PTRS_PER_TABLE words, page aligned */
	struct pgtable *pgt;	/* (C) */
	u64 va;			/* (C) first address it translates */
	u64 resv_pfn;		/* (lock) level 0: reserved frame block, 0 none */
	u32 level;		/* (C) 0 PTE .. 3 PGD */
	a32_t dead;		/* set under lock when unhooked from its parent */
	u32 clean_faults;	/* (lock) policy: read faults on swapped pages here ... */
	u32 wp_faults;		/* (lock) ... and how many of those pages were written after all */
	struct rcu_head rcu;
	struct list gather;	/* the gather's, once unhooked */
};

/* One space's tables. */
struct pgtable {
	struct quire *q;
	a64_t *root; /* (C) */
	struct ptdesc *root_desc;
	a64_t nr_tables; /* live, root included */
};

int must_check pt_create(struct quire *q); /* caches; q->tables */
void pt_destroy(struct quire *q);
int must_check pgtable_init(struct quire *q, struct pgtable *pgt);
/* Frees all remaining tables at once. LOCKING: no walkers; every leaf entry clear (BUG in debug). */
void pgtable_fini(struct pgtable *pgt);
u64 pt_live_tables(struct quire *q);

struct ptdesc *ptdesc_of(const a64_t *table);

/* The PMD word for va, or NULL when an upper table is missing. RCU or space lock. */
a64_t *pt_pmd(struct pgtable *pgt, u64 va);
/* As above, installing missing upper tables. NULL: -ENOMEM. */
a64_t *must_check pt_pmd_alloc(struct pgtable *pgt, u64 va);
/* Make sure a PTE table hangs at va. 0; -ENOMEM; -EEXIST: a leaf is there. */
int must_check pt_pte_alloc(struct pgtable *pgt, u64 va);
/* Lock-free look: the PTE word for va, or NULL (no table, or a leaf). Only for pte_get under RCU; revalidate under lock. */
pte_t *pt_pte_peek(struct pgtable *pgt, u64 va);
/* The PTE word for va with its table's lock held and the table verified to be in the tree; NULL: none there (or a
 * leaf) any more. *desc receives the descriptor for pt_pte_unlock. */
pte_t *must_check pt_pte_lock(struct pgtable *pgt, u64 va, struct ptdesc **desc);
static inline void pt_pte_unlock(struct ptdesc *desc)
{
	spin_unlock(&desc->lock);
}
/* The lock that guards the PMD word. */
struct spin *pt_pmd_lockptr(struct pgtable *pgt, a64_t *pmd);

/* Unhook every table that lies wholly inside r and has no entries in use outside [floor, ceiling); unhooked PTE/PMD/PUD
 * tables are passed to `sink` (the gather), which frees them with pt_free_table_rcu after the flush.
 * LOCKING: space lock for writing, and no areas left in [floor, ceiling). */
void pt_unhook_tables(struct pgtable *pgt, struct range r, u64 floor, u64 ceiling,
		      void (*sink)(void *ctx, struct ptdesc *desc), void *ctx);
/* Unhook one empty PTE table under its locks if it is still empty; the caller flushes and frees. NULL: not possible. */
struct ptdesc *pt_unhook_one(struct pgtable *pgt, u64 va);
void pt_free_table_rcu(struct quire *q, struct ptdesc *desc);

/* Calls fn for every non-none leaf entry in r in ascending order (tests, checker; quiescent or space write lock). */
void pt_for_each(struct pgtable *pgt, struct range r,
		 void (*fn)(void *ctx, u64 va, u64 entry, unsigned level), void *ctx);

/* Bytes of tables and descriptors. */
u64 pt_bytes(struct quire *q);

#endif
