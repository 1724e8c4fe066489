/*
 * radix.h - a radix tree from 64-bit indices to words, read without a lock, with marks to find by.
 *
 * Nodes have 64 slots. A word is anything but NULL; its meaning is the owner's (a pointer, or a
 * value with a low bit set). Any number of slots may hold the same word: a large folio is stored
 * in each of its pages' places. Each slot has RADIX_MARKS marks; a node knows which of its children
 * have a marked slot below, so the next marked slot is found without looking at the others.
 *
 * A reader sees each slot's word as of some moment during its call; what several calls see need not
 * belong together. A node that becomes empty leaves the tree and is freed after a grace period; a
 * reader in it finds NULL, which was true when the node left.
 *
 * Invariants (radix_check): a node's count is the number of its slots that are not NULL, and above
 * 0 for every node; a mark is set only in a slot that has a word, and above it in every node up to
 * the root.
 * Locking: the owner's lock (L) for everything that changes, and for marks; radix_load and
 * radix_slot under that lock or in an RCU section.
 */
#ifndef QUIRE_BASE_RADIX_H
#define QUIRE_BASE_RADIX_H

#include "base/atomic.h"
#include "base/types.h"

#define RADIX_BITS  6
#define RADIX_SLOTS (1u << RADIX_BITS)
#define RADIX_MARKS 2
#define RADIX_END   (~0ull) /* no such index; never one itself */

struct quire;
struct radix_node;

struct radix {
	struct quire *q; /* (C) */
	aptr_t root;     /* (L) to change: the top node */
	u64 nr_nodes;    /* (L) */
};

void radix_init(struct radix *r, struct quire *q);
/* Frees all nodes at once, whatever they hold. LOCKING: no readers any more. */
void radix_destroy(struct radix *r);

/* The slot of an index, or NULL where there is none. In an RCU section it stays readable. */
aptr_t *radix_slot(const struct radix *r, u64 index);
/* Its word, or NULL. RCU or lock. */
void *radix_load(const struct radix *r, u64 index);

/* After it, words may be stored at [first, first + nr) without allocation, until the lock is
 * dropped; each of them must be, or radix_prune called. -ENOMEM: nothing has changed. */
int must_check radix_prepare(struct radix *r, u64 first, u64 nr);
/* Nodes without words in [first, first + nr) go. */
void radix_prune(struct radix *r, u64 first, u64 nr);
/* Store a word (its place is prepared, or has a word already) or NULL, which takes the marks and
 * nodes that became empty with it. Returns the old word. Marks of a replaced word stay. */
void *radix_store(struct radix *r, u64 index, void *word);

/* BUG if there is no word. */
void radix_mark(struct radix *r, u64 index, unsigned mark);
void radix_unmark(struct radix *r, u64 index, unsigned mark);
bool radix_marked(const struct radix *r, u64 index, unsigned mark);
/* Any slot of the tree. */
bool radix_any_marked(const struct radix *r, unsigned mark);

/* The first index in [from, last] that has a word, or RADIX_END; *word (may be NULL) receives it.
 * LOCKING: lock. */
u64 radix_next(const struct radix *r, u64 from, u64 last, void **word);
/* The same of slots with this mark. */
u64 radix_next_marked(const struct radix *r, u64 from, u64 last, unsigned mark, void **word);

/* Number of words, or -1 when an invariant is broken. LOCKING: lock. */
long radix_check(const struct radix *r);

#endif
