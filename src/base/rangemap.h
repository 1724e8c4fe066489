/*
 * rangemap.h - disjoint ranges [start, end) to pointers, read under RCU while one writer changes
 * it.
 *
 * A B+tree whose nodes are never changed after they are published: an update copies the path from
 * the leaf to the root and publishes the new root; the old nodes are freed after a grace period. A
 * reader therefore sees one consistent version (it revalidates what it found against its own rules,
 * e.g. the per-VMA lock). Each inner entry keeps the largest gap below it, so a free range is found
 * in O(log n).
 *
 * Prepared updates: rangemap_reserve(n) preallocates enough nodes for n updates so that the updates
 * themselves cannot fail half way (Linux: vma preallocation). An update without reservation returns
 * -ENOMEM and leaves the map unchanged.
 * Locking: readers hold an RCU read section or the owner's lock; writers hold the owner's lock for
 *   writing.
 */
#ifndef QUIRE_BASE_RANGEMAP_H
#define QUIRE_BASE_RANGEMAP_H

#include "base/atomic.h"
#include "base/types.h"

struct quire;
struct rangemap_node;

struct rangemap {
	struct quire *q;
	aptr_t root;
	u64 count;			 /* (owner's lock) ranges */
	struct rangemap_node *reserved;	 /* (owner's lock) preallocated nodes */
	u32 nr_reserved;		 /* (owner's lock) */
};

void rangemap_init(struct rangemap *m, struct quire *q);
/* Frees all nodes at once. LOCKING: no readers any more. */
void rangemap_destroy(struct rangemap *m);
int must_check rangemap_reserve(struct rangemap *m, u32 updates);
void rangemap_unreserve(struct rangemap *m);
/* Add [start, end) -> value; it must not overlap another (BUG). */
int must_check rangemap_insert(struct rangemap *m, u64 start, u64 end, void *value);
/* Remove the range that starts at `start` (BUG if there is none). */
int must_check rangemap_erase(struct rangemap *m, u64 start);
/*
 * Replace bounds and value of the range that starts at `start` in one step (it stays between its
 * neighbours).
 */
int must_check rangemap_replace(struct rangemap *m, u64 start, u64 new_start, u64 new_end,
				void *value);
/*
 * The range at `start` becomes [start, cut) -> left and [cut, end) -> right in one step: a reader
 * finds the old one or both new ones, never nothing. Counts as two updates for rangemap_reserve.
 */
int must_check rangemap_split(struct rangemap *m, u64 start, u64 cut, void *left, void *right);
/*
 * The range at `start`, the one that follows it and a gap between them become one, in one step. Two
 * updates.
 */
int must_check rangemap_join(struct rangemap *m, u64 start, void *value);
/* The value whose range contains key, or NULL. RCU or lock. */
void *rangemap_find(const struct rangemap *m, u64 key);
/*
 * The first value whose range ends above key (contains it or follows it), or NULL; bounds in *r if
 * not NULL.
 */
void *rangemap_find_first(const struct rangemap *m, u64 key, struct range *r);
/* The last value whose range ends at or below key, or NULL. */
void *rangemap_find_prev(const struct rangemap *m, u64 key, struct range *r);
/*
 * Lowest address in [within.start, within.end) with `size` free bytes at alignment `align`; false:
 * none.
 */
bool rangemap_find_gap(const struct rangemap *m, struct range within, u64 size, u64 align,
		       u64 *out);
/* Number of ranges, or -1 when the structure is broken. */
long rangemap_check(const struct rangemap *m);

#endif
