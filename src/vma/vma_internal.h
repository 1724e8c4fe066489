/*
 * vma_internal.h - what the files of the vma folder share.
 *
 * Invariant: functions named _prepared cannot fail: their caller has reserved nodes of the map.
 * Locking: space lock held for writing throughout.
 */
#ifndef QUIRE_VMA_INTERNAL_H
#define QUIRE_VMA_INTERNAL_H

#include "vma/vma.h"

struct vmas {
	struct cache *cache;       /* (C) */
	const struct vma_ops *ops; /* (C) never NULL */
};

static inline const struct vma_ops *vma_ops_of(const struct vmas_of *s)
{
	return s->q->vmas->ops;
}

static inline u64 vma_pages(const struct vma *v)
{
	return (vma_end(v) - vma_start(v)) >> PAGE_SHIFT;
}

/* A new area, write-locked, in no map and no tree. NULL: -ENOMEM. */
struct vma *must_check vma_alloc(struct vmas_of *s, struct range r, u64 flags, u64 pgoff,
				 struct object *object);
/* It is about to be seen: into its object's tree, if it has one. Nothing fails after this. */
void vma_attach(struct vmas_of *s, struct vma *v);
/* One that nobody has seen. */
void vma_free_unseen(struct vmas_of *s, struct vma *v);
/* rmap forgets it, it is detached, and freed after a grace period. It is out of the map. */
void vma_dispose(struct vmas_of *s, struct vma *v);
/* The counts change by pages of an area with these flags. */
void vmas_account(struct vmas_of *s, u64 flags, s64 pages);
/* New bounds, told to rmap and to the map; pgoff goes with start. */
void vma_set_bounds_prepared(struct vmas_of *s, struct vma *v, u64 start, u64 end);
/* The same without the map: only the area itself. */
void vma_set_bounds_only(struct vmas_of *s, struct vma *v, u64 start, u64 end);
/* Equal flags, touching, continuous: all but the anon_vma. */
bool vma_joins(const struct vma *a, const struct vma *b, u64 a_flags, u64 b_flags);
/* May a and b (above it) become one? Write-locks both unless something simple forbids it. */
bool vma_may_merge(struct vmas_of *s, struct vma *a, struct vma *b);
/* b goes into a. 0 or -ENOMEM (nothing changed). Both may merge. */
int must_check vma_merge_pair(struct vmas_of *s, struct vma *a, struct vma *b);

#endif
