/*
 * space.h - one address space and the operations on it: map, unmap, protect, advise, remap,
 * mincore, mlock, fork, exit.
 *
 * Semantics and errno values are those of Linux's calls of the same name for private anonymous
 * memory; ranges are rounded as there. Composes vma (metadata), gather (teardown), rmap, fault,
 * reclaim, machine.
 * Locking: every function enters with no core lock held and takes SPACE itself.
 */
#ifndef QUIRE_SPACE_SPACE_H
#define QUIRE_SPACE_SPACE_H

#include "fault/fault.h"
#include "gather/gather.h"
#include "reclaim/reclaim.h"

struct space {
	struct fault_space fs; /* first: rmap finds it from vma->space */
	struct list all;       /* (spaces lock) */
	struct mspace *ms;     /* (C) */
};

enum map_flags {
	MAP_F_FIXED = BIT(0),     /* exactly there, whatever was there goes */
	MAP_F_NOREPLACE = BIT(1), /* exactly there, -EEXIST if occupied */
	MAP_F_POPULATE = BIT(2),
	MAP_F_LOCKED = BIT(3),
	MAP_F_FOREIGN = BIT(4), /* remember [start, end) as not managed */
	MAP_F_NORESERVE = BIT(5),
	MAP_F_DONTMERGE = BIT(6),
	MAP_F_SHARED = BIT(8), /* space_map_object: stores are the object's */
	MAP_F_PLAIN = BIT(7),  /* plain frames: can be shared with other addresses and spaces */
};

enum snapshot_flags {
	SNAPSHOT_F_WRITE = BIT(0), /* what the source may write, the snapshot may */
};

enum advice {
	ADVISE_NORMAL = 0,
	ADVISE_RANDOM = 1,
	ADVISE_SEQUENTIAL = 2,
	ADVISE_WILLNEED = 3,
	ADVISE_DONTNEED = 4,
	ADVISE_FREE = 8,
	ADVISE_DONTFORK = 10,
	ADVISE_DOFORK = 11,
	ADVISE_HUGEPAGE = 14,
	ADVISE_NOHUGEPAGE = 15,
	ADVISE_DONTDUMP = 16,
	ADVISE_DODUMP = 17,
	ADVISE_WIPEONFORK = 18,
	ADVISE_KEEPONFORK = 19,
	ADVISE_COLD = 20,
	ADVISE_PAGEOUT = 21,
	ADVISE_POPULATE_READ = 22,
	ADVISE_POPULATE_WRITE = 23,
	ADVISE_COLLAPSE = 25,
}; /* the values of Linux's MADV_* */

int must_check spaces_create(struct quire *q);
void spaces_destroy(struct quire *q);
int must_check space_create(struct quire *q, unsigned cgroup, unsigned node, struct space **out);
/*
 * A second space with the parent's areas and contents, as fork(2) makes it: pages are shared
 * until one of the two writes them; areas with DONTFORK are left out, those with WIPEONFORK are
 * empty, none is mlocked; pages that may be pinned are copied. The child is the caller's to
 * destroy, before or after the parent. -ENOMEM: no child, and the parent's contents are as they
 * were. Machines with home frames: the child's areas lie at other addresses, all at the same
 * distance; -EOPNOTSUPP if an area has home frames and is neither DONTFORK nor WIPEONFORK.
 */
int must_check space_fork(struct quire *q, struct space *parent, struct space **child);
/*
 * The contents of [start, start + size) as they are when the call returns, at other addresses
 * (*out) of the same space: pages are shared until one side writes them. Like other areas from then
 * on: read-only unless SNAPSHOT_F_WRITE, not mlocked, to be unmapped. Pages that may be pinned are
 * copied. -EINVAL: unaligned, or an area with home frames or a foreign one; -ENOMEM: a hole, or no
 * memory or addresses. Nothing has changed then.
 */
int must_check space_snapshot(struct quire *q, struct space *s, u64 start, u64 size, u32 flags,
			      u64 *out);
/* Everything is unmapped. LOCKING: nobody else uses it. */
void space_destroy(struct quire *q, struct space *s);
struct range space_usable(struct space *s);

/* hint 0: anywhere. *out: the address. prot: PROT_BITS_*. -EINVAL, -ENOMEM, -EEXIST; -EOPNOTSUPP:
 * MAP_F_PLAIN on a machine that has home frames only. */
int must_check space_map(struct quire *q, struct space *s, u64 hint, u64 size, u32 prot, u32 flags,
			 u64 *out);
/*
 * The pages of an object from byte `offset` on (a multiple of PAGE_SIZE). With MAP_F_SHARED stores
 * are the object's, and everybody's who maps it; else they go to copies of the space's own. The
 * area may reach beyond the object's end: accesses there trap with -ENXIO until the object grows.
 * The area holds a reference of the object. As above; -EACCES: a shared writable area of an object
 * that is read-only; -EOVERFLOW; -EOPNOTSUPP: the machine has no plain frames.
 */
int must_check space_map_object(struct quire *q, struct space *s, u64 hint, u64 size, u32 prot,
				u32 flags, struct object *o, u64 offset, u64 *out);
/* msync: what was stored in shared areas of [start, start + size) before the call is on the medium
 * when SPACE_SYNC_WAIT returns 0. SPACE_SYNC_ASYNC has nothing to start (write-back knows what is
 * dirty). -EINVAL; -EBUSY: SPACE_SYNC_INVALIDATE of a locked area; -ENOMEM: a hole (the rest is
 * synced); -EIO and what else write-back gives. */
int must_check space_sync(struct quire *q, struct space *s, u64 start, u64 size, u32 flags);
#define SPACE_SYNC_ASYNC      1u /* the values of Linux's MS_* */
#define SPACE_SYNC_INVALIDATE 2u
#define SPACE_SYNC_WAIT       4u
/* For object_upcalls (object.h). Zap the entries of pages [first, last] in all areas of the object,
 * with even_cows private copies too. LOCKING: takes OBJECT_MMAP; may wait for folio locks. */
void space_unmap_object(struct quire *q, struct object *o, u64 first, u64 last, bool even_cows);
int must_check space_unmap(struct quire *q, struct space *s, u64 start, u64 size);
int must_check space_protect(struct quire *q, struct space *s, u64 start, u64 size, u32 prot);
int must_check space_advise(struct quire *q, struct space *s, u64 start, u64 size, int advice);
/* flags: MREMAP_MAYMOVE 1, FIXED 2, DONTUNMAP 4. */
int must_check space_remap(struct quire *q, struct space *s, u64 old, u64 old_size, u64 new_size,
			   u32 flags, u64 new_addr, u64 *out);
int must_check space_mincore(struct quire *q, struct space *s, u64 start, u64 size,
			     unsigned char *vec);
int must_check space_mlock(struct quire *q, struct space *s, u64 start, u64 size, bool onfault);
int must_check space_munlock(struct quire *q, struct space *s, u64 start, u64 size);
/*
 * The pages at n addresses to a node, as move_pages(2) does it, those that others map too.
 * status[i]: the node on which the page is when the call returns, or -ENOENT: no page there;
 * -EFAULT: no area; -EBUSY: it could not be moved (pinned, or its frame is the memory at its
 * address); -ENOMEM: no frame. 0, or -EINVAL: no such node.
 */
int must_check space_move_to_node(struct quire *q, struct space *s, const u64 *va, u64 n,
				  unsigned node, int *status);
/*
 * On which of the nodes (a bit each) new pages of [start, start + size) are to be, or with start
 * and size 0 those of all areas without a policy of their own; enum vma_policy. Pages that are
 * there stay where they are. -EINVAL: no such policy or node; -ENOMEM: a hole, or no memory (some
 * of the range may have it then).
 */
int must_check space_set_policy(struct quire *q, struct space *s, u64 start, u64 size, u32 mode,
				u32 nodes);
/* Of the area at va (0: of the space). -EFAULT: no area. */
int must_check space_get_policy(struct quire *q, struct space *s, u64 va, u32 *mode, u32 *nodes);
/* Is [start, start+size) touched by any area? by managed ones only? */
bool space_has_area(struct quire *q, struct space *s, u64 start, u64 size);
/* Calls fn for each area in r under the read lock. */
void space_for_each_area(struct quire *q, struct space *s, struct range r,
			 void (*fn)(void *ctx, struct range r, u64 vm_flags), void *ctx);

u64 space_resident_pages(struct space *s);
u64 space_mapped_pages(struct space *s);
/* Every invariant of the whole instance: references == entries + pins + cache, mapcounts, charges,
 * list membership, slots. Only at quiescence. 0 or the number broken (each reported). */
u64 quire_check_all(struct quire *q);

#endif
