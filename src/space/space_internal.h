/*
 * space_internal.h - what the files of this folder share.
 *
 * Locking: "S write" in a comment means: the space lock is held for writing.
 */
#ifndef QUIRE_SPACE_INTERNAL_H
#define QUIRE_SPACE_INTERNAL_H

#include "base/arena.h"
#include "base/mech.h"
#include "base/trace.h"
#include "space/space.h"

struct spaces {
	struct mutex lock; /* LOCK_SPACES */
	struct list all;   /* (lock) struct space.all */
};

static inline struct range mk_range(u64 start, u64 size)
{
	return (struct range){ start, start + size };
}

/* How many entries from p on map consecutive frames from pfn on, at most n. LOCKING: entry lock. */
static inline u32 space_entries_run(const pte_t *p, u64 pfn, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		u64 e = pte_get(p + i);

		if (!pte_present(e) || entry_pfn(e) != pfn + i)
			break;
	}
	return i;
}

/*
 * Sharing pages of areas of one space with areas of another, or of itself, at va + delta (a
 * multiple of 2 MiB): share.c. The caller fills in the first row.
 */
struct sharer {
	struct quire *q;
	struct space *parent, *child;
	u64 delta;
	struct vma *to;      /* the new area of the pages that are being shared */
	struct folio *spare; /* for a page that must be copied: allocated without entry locks */
	u64 dirty_start, dirty_end; /* the source's entries that lost WRITE, not yet flushed */
	u32 present, swaps;         /* new entries that are not yet in the counts */
	/* now locked */
	struct ptdesc *src_desc, *dst_desc;
	pte_t *src, *dst;
};
/* Around it all; the source's areas are in r. S write, of both spaces. */
void space_share_begin(struct sharer *k, struct range r);
/* When it returns no store reaches a shared page any more. */
void space_share_end(struct sharer *k);
/* The pages of r, which lies inside one area, become k->to's as well. 0 or -ENOMEM with some of it
 * done. S write, of both spaces. */
int must_check space_share_pages(struct sharer *k, struct range r);

/*
 * The frame that the page at va, page `index` of an area with these flags, is to have, for
 * area_map: of a shared area of an object the one that the object prefers there. A private one
 * keeps the places of its own addresses for its copies, of which there may be many: what is not
 * where it belongs costs mappings of the machine. The object's pages lie side by side, and where
 * too few mappings are left a private area is given copies of them (fault/object.c).
 */
static inline u64 space_first_frame(const struct machine *m, u64 flags, struct object *o, u64 index,
				    u64 va)
{
	u64 frames = o && (flags & VM_SHARED) ? a64_read(&o->frames) : 0;

	if (frames)
		return frames + index;
	return vma_first_frame(m, flags, o ? va >> PAGE_SHIFT : index);
}

/* Rounds size up to pages; false for an empty, wrapping or unaligned range. */
bool space_range_ok(struct space *s, u64 start, u64 *size);

/* Clear every entry of r, inside the area v, through the gather. LOCKING: space lock, either way.
 */
void space_zap(struct quire *q, struct space *s, struct gather *g, struct vma *v, struct range r);
/* Unmap every area of r, which is already cut at its ends. S write; rangemap updates reserved. */
void space_unmap_cut(struct quire *q, struct space *s, struct range r);
/* Cut areas at both ends of r and reserve what removing `areas in r` + extra updates needs. 0 or
 * -ENOMEM. S write. */
int must_check space_cut(struct quire *q, struct space *s, struct range r, u32 extra);
/* -ENOMEM unless every page of r belongs to a managed area. LOCKING: space lock. */
int must_check space_covered(struct space *s, struct range r);
/* space_unmap with the lock held. S write. */
int must_check space_unmap_locked(struct quire *q, struct space *s, struct range r);
/* Fault in every page of r; stops at the first error. LOCKING: none. */
int must_check space_populate(struct quire *q, struct space *s, struct range r, u32 access);
/* Move the pages of src (in old) to dst (in new): entries, or bytes where frames are home frames. S
 * write. Pages that cannot be moved stop it: 0 or -ENOMEM with *moved bytes done. */
int must_check space_move_pages(struct quire *q, struct space *s, struct vma *old, u64 src,
				struct vma *new, u64 dst, u64 size, u64 *moved);

#endif
