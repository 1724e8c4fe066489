/*
 * pagetable_internal.h - where tables and their descriptors lie, and the pool that they come from.
 *
 * A window is 32 pages at an address that is a multiple of its size: one header page and 31 tables.
 * The header page holds a descriptor of 128 bytes for each table, at the place of the table's
 * number, so
 *   descriptor(table) = window(table) + 128 * page number in the window
 * and slot 0 is the window's own record. A chunk is one run of pages from the arena with as many
 * windows as fit; the first window's record carries the chunk's.
 *
 *   | header: [window][desc 1][desc 2] ... [desc 31] | table 1 | table 2 | ... | table 31 |
 *
 * Invariant: a table in the pool is all zero (pagetable.h, invariant 2). Windows are filled from
 * the lowest table upwards, so memory that was never needed is never touched.
 * Locking: pool->lock is of the class ARENA (the pool is a slab of the arena) and never held over a
 * call of the arena.
 */
#ifndef QUIRE_PAGETABLE_INTERNAL_H
#define QUIRE_PAGETABLE_INTERNAL_H

#include "pagetable/pagetable.h"

#define PT_WINDOW_PAGES  32u
#define PT_WINDOW_SIZE   (PT_WINDOW_PAGES * PAGE_SIZE)
#define PT_WINDOW_TABLES (PT_WINDOW_PAGES - 1)
#define PT_DESC_SIZE     128u

_Static_assert(sizeof(struct ptdesc) <= PT_DESC_SIZE, "a descriptor fits in its slot");
_Static_assert(PT_WINDOW_PAGES *PT_DESC_SIZE == PAGE_SIZE, "the descriptors fill one page");

struct pt_chunk {
	struct list link; /* pool->chunks */
	void *base;       /* (C) as the arena gave it */
	u32 nr_pages;     /* (C) */
	u32 nr_windows;   /* (C) */
	u32 used;         /* (pool lock) tables taken */
};

struct pt_window {
	struct list link;       /* pool->windows while a table is free here */
	struct pt_chunk *chunk; /* (C) */
	u32 free;               /* (pool lock) bit i: table i, 1..31 */
	u32 touched;            /* (pool lock) bit i: it has been taken before */
	struct pt_chunk first;  /* of the chunk's first window */
};
_Static_assert(sizeof(struct pt_window) <= PT_DESC_SIZE, "the record fits in slot 0");

struct pagetables {
	struct quire *q;
	struct spin lock;    /* ARENA */
	struct list windows; /* (lock) windows with a free table */
	struct list chunks;  /* (lock) */
	u32 nr_chunks;       /* (lock) */
	u64 nr_free;         /* (lock) free tables in all chunks */
	u64 touched;         /* (lock) pages */
	a64_t live;          /* tables LIVE or UNHOOKED */
};

static inline struct ptdesc *desc_of(const a64_t *table)
{
	u64 addr = (uintptr_t)table;

	return (struct ptdesc *)(ALIGN_DOWN(addr, PT_WINDOW_SIZE) +
				 (addr >> PAGE_SHIFT) % PT_WINDOW_PAGES * PT_DESC_SIZE);
}

/* The descriptor of the table that a word lies in. */
static inline struct ptdesc *desc_of_word(const a64_t *word)
{
	return desc_of((const a64_t *)ALIGN_DOWN((uintptr_t)word, PAGE_SIZE));
}

/* Bytes translated by one entry of a table of this level. */
static inline u64 entry_span(unsigned level)
{
	return BIT(PAGE_SHIFT + 9 * level);
}

static inline u64 table_entry(const a64_t *table)
{
	return (uintptr_t)table | ENTRY_PRESENT | ENTRY_WRITE | ENTRY_USER;
}

static inline a64_t *table_word(a64_t *table, u64 va, unsigned level)
{
	return &table[entry_index(va, level)];
}

/* An empty table, LIVE but in no tree; counted. NULL: -ENOMEM. */
struct ptdesc *must_check table_alloc(struct pgtable *pgt, u64 va, unsigned level);
/* Back to the pool at once. LOCKING: nobody can reach it any more. */
void table_free(struct quire *q, struct ptdesc *desc);
/* It no longer counts as its space's. */
void table_uncount(struct quire *q, struct ptdesc *desc);
/* LOCKING: the table's lock, or nobody else reaches it. */
bool table_is_empty(const a64_t *table);
a64_t *walk_to_pmd(struct pgtable *pgt, u64 va);

#endif
