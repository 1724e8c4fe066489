/*
 * rmap_internal.h - what the files of this folder share.
 *
 * Invariant: an anon_vma reference taken with folio_get_anon_vma is given back with anon_vma_put.
 * Locking: see rmap.h.
 */
#ifndef QUIRE_RMAP_INTERNAL_H
#define QUIRE_RMAP_INTERNAL_H

#include "base/mech.h"
#include "base/trace.h"
#include "rmap/rmap.h"

struct rmap {
	struct cache *anon_vmas;              /* (C) */
	struct cache *chains;                 /* (C) */
	const struct rmap_swap_ops *swap_ops; /* (C) */
};

/* NULL when the folio is not anonymous or no longer mapped. */
struct anon_vma *folio_get_anon_vma(struct quire *q, struct folio *f);
void anon_vma_put(struct quire *q, struct anon_vma *av);

/* The space part that rmap knows, of the space that owns the area. */
static inline struct rmap_space *vma_rmap_space(struct vma *v)
{
	return v->space;
}

#endif
