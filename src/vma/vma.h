/*
 * vma.h - one space's areas as metadata: lookup, insertion, split, merge, per-VMA locks. No pages
 * here.
 *
 * Areas merge when they touch and have equal flags, a page offset that continues, and compatible
 * anon_vmas (vma_ops.can_merge), as Linux's vma_merge does; pgoff of an anonymous area is its
 * address >> PAGE_SHIFT at creation and travels with mremap. An area without an anon_vma may merge
 * with one that has it: the merged area takes it. The anon_vma itself is the rmap folder's: here
 * it is an opaque pointer, and splits, merges and changes of bounds are told to rmap through
 * vma_ops (declared here, registered there).
 *
 * An area of an object (a file, or memory that several spaces share) shows the object's pages from
 * page pgoff on. It holds a reference of the object and is in its interval tree from before it is
 * in the map until after it has left it; it merges only with areas of the same object.
 * VM_SHARED: stores go to the object's pages. Without it they go to anonymous copies, for which the
 * area has an anon_vma too; a copy's index is that of the object's page which it hides.
 *
 * The ordering that matters, for reverse-map walks: an area that takes over pages of another one
 * is in the interval trees with its new bounds before the other one leaves them. A walk may find
 * a page through both, never through none.
 *
 * Lookups: vma_lock_rcu() finds and read-locks one area without the space lock. The map changes in
 * several steps while the space is write-locked, so a lookup that finds nothing then says
 * "busy": the caller takes the space lock and uses vma_find.
 * Prepared updates: whatever can fail is done first (nodes of the map, the new area, rmap's
 * chains); after the first visible change nothing fails.
 *
 * Invariants
 *  1. areas are disjoint, page aligned, not empty, inside the space's usable range; the map's
 *     bounds are theirs;
 *  2. an area that a reader has locked contains the address, is in the map, and keeps its bounds
 *     and flags until it is unlocked;
 *  3. neighbours that could merge have been merged after every public space operation (except where
 *     a failed allocation made it impossible: `unmerged`);
 *  4. total_pages, locked_pages count the pages of areas without VM_FOREIGN.
 * Locking letters: (S) space lock for writing to change, read lock or VMA lock to read; (C)
 * constant.
 */
#ifndef QUIRE_VMA_VMA_H
#define QUIRE_VMA_VMA_H

#include "base/quire.h"
#include "base/rangemap.h"
#include "base/rbtree.h"
#include "base/list.h"
#include "machine/machine.h"

struct object;

enum vma_flag {
	VM_READ = BIT(0),
	VM_WRITE = BIT(1),
	VM_EXEC = BIT(2),
	VM_LOCKED = BIT(3), /* mlock */
	VM_LOCKONFAULT = BIT(4),
	VM_DONTFORK = BIT(5),
	VM_WIPEONFORK = BIT(6),
	VM_SEQ_READ = BIT(7),
	VM_RAND_READ = BIT(8),
	VM_NOHUGE = BIT(9),
	VM_HUGE = BIT(10),
	VM_DONTDUMP = BIT(11),
	VM_FOREIGN = BIT(12), /* the machine's owner mapped something else here: not managed, only
				 remembered */
	VM_ACCOUNT = BIT(13),
	VM_MERGEABLE = BIT(14),
	VM_SHARED = BIT(18),     /* of an object's area: stores are the object's */
	VM_UNREADABLE = BIT(16), /* on its way to be, during mprotect: eviction leaves it alone */
	VM_PLAIN = BIT(17), /* plain frames, on a machine that has home frames too (vma_home) */
};
/*
 * On which nodes an area's new pages are to be: part of its flags, so that areas of different
 * policies never merge. Nothing set: the space's policy.
 *   bits 24..26 enum vma_policy | 27..34 a bit for each node
 */
#define VM_POLICY_SHIFT 24
#define VM_POLICY_MODE  (7ull << VM_POLICY_SHIFT)
#define VM_POLICY_NODES (255ull << (VM_POLICY_SHIFT + 3))
#define VM_POLICY       (VM_POLICY_MODE | VM_POLICY_NODES)
enum vma_policy {
	POLICY_DEFAULT,
	POLICY_PREFERRED,  /* the first of the nodes, else the nearest */
	POLICY_BIND,       /* one of the nodes, while any of them can make room */
	POLICY_INTERLEAVE, /* the nodes in turn, by blocks of addresses */
	POLICY_WEIGHTED,   /* the same, each as often as it is large, by chance */
	NR_POLICIES
};
static inline u64 vma_policy_bits(enum vma_policy mode, u32 nodes)
{
	return (u64)mode << VM_POLICY_SHIFT | (u64)nodes << (VM_POLICY_SHIFT + 3);
}
static inline enum vma_policy vma_policy_mode(u64 bits)
{
	return (bits & VM_POLICY_MODE) >> VM_POLICY_SHIFT;
}
static inline u32 vma_policy_nodes(u64 bits)
{
	return (u32)((bits & VM_POLICY_NODES) >> (VM_POLICY_SHIFT + 3));
}

#define VM_PROT_MASK (VM_READ | VM_WRITE | VM_EXEC) /* same values as PROT_BITS_* */

struct vma {
	struct vmalock lock;
	a64_t start;                 /* (S); atomics because the VMA-lock reader rechecks them */
	a64_t end;                   /* (S) */
	a64_t flags;                 /* (S) enum vma_flag */
	u64 pgoff;                   /* (S) page index of start */
	struct object *object;       /* (C) with a reference; NULL: anonymous memory */
	struct itree_node in_object; /* (OBJECT_MMAP) [pgoff, last pgoff] */
	aptr_t anon_vma;        /* set once under anon_vma prepare; cleared never while mapped */
	struct list anon_chain; /* (S, ANON_VMA) */
	struct vmas_of *set;    /* (C) */
	void *space;            /* (C) struct space of the owner */
	struct rcu_head rcu;
	/* fault policy of the area, racy hints */
	a64_t last_fault;  /* va of the previous major fault */
	a32_t ra_pages;    /* present readahead window */
	a64_t last_touch;  /* end of the block that was touched last */
	a32_t touch_order; /* size of the next block to fill at a first touch */
};

static inline u64 vma_start(const struct vma *v)
{
	return a64_read(&v->start);
}
static inline u64 vma_end(const struct vma *v)
{
	return a64_read(&v->end);
}
static inline u64 vma_flags(const struct vma *v)
{
	return a64_read(&v->flags);
}
static inline u64 vma_index(const struct vma *v, u64 va)
{
	return v->pgoff + ((va - vma_start(v)) >> PAGE_SHIFT);
}
static inline u64 vma_index_va(const struct vma *v, u64 index)
{
	return vma_start(v) + ((index - v->pgoff) << PAGE_SHIFT);
}

/* What the machine is told of an area with these flags. */
static inline unsigned vma_prot_bits(u64 flags)
{
	if (flags & VM_FOREIGN)
		return PROT_BITS_FOREIGN;
	return (unsigned)(flags & VM_PROT_MASK) | (flags & VM_PLAIN ? PROT_BITS_PLAIN : 0);
}

/* The frame that belongs to page `index` of an anonymous area with these flags. */
static inline u64 vma_first_frame(const struct machine *m, u64 flags, u64 index)
{
	return flags & VM_PLAIN ? m->plain_base + index : index;
}

/* One space's set of areas. The space lock lives here because it is the areas' lock. */
struct vmas_of {
	struct quire *q;
	struct rwsem lock; /* LOCK_SPACE */
	a32_t write_gen;   /* per-VMA lock sequence: odd while the space is write-locked */
	struct rangemap map;
	struct range usable; /* (C) */
	u64 total_pages;     /* (S) */
	u64 peak_pages;      /* (S) */
	u64 locked_pages;    /* (S) */
	u64 unmerged;        /* (S) merges given up for want of memory */
	void *space;         /* (C) */
};

/* Do this area's pages live in home frames (machine.h)? Else in plain ones, which may be mapped at
 * several addresses. It never changes, so that areas of the two kinds never merge. */
static inline bool vma_home(const struct vma *v)
{
	return machine_has(v->set->q->machine, CAP_HOME) && !(vma_flags(v) & VM_PLAIN);
}

/* What rmap does when areas change. All with the space lock held for writing and the areas
 * write-locked. */
struct vma_ops {
	/* `new` is about to take over part of `old`: give it old's anon_vma, if any. new has no
	 * anon_vma; its bounds and pgoff are set (split) or still its own (merge; relink follows).
	 * 0 or -ENOMEM (nothing changed). */
	int (*clone)(struct quire *q, struct vma *new, struct vma *old);
	/* `new`, of another space or another place, will map old's folios too: chained to old's
	 * anon_vmas, with one of its own. 0 or -ENOMEM (nothing changed). */
	int (*fork)(struct quire *q, struct vma *new, struct vma *old);
	/* Bounds or pgoff of v are about to change: take it out of the interval trees ... */
	void (*unlink)(struct quire *q, struct vma *v);
	/* ... and have changed: put it back. Between the two the anon_vma root is write-locked by
	 * the folder, and nothing but v's bounds is touched; never two areas at a time. */
	void (*relink)(struct quire *q, struct vma *v);
	/* The new area v, whose bounds are set, is about to show pages of v->object: takes a
	 * reference, and into the interval tree. Only for areas with an object. */
	void (*attach)(struct quire *q, struct vma *v);
	/* v ceases to exist. */
	void (*forget)(struct quire *q, struct vma *v);
	/* May a and b share one area (a below b)? One of them may be a sketch of an area that
	 * does not exist yet, without an anon_vma. */
	bool (*can_merge)(struct vma *a, struct vma *b);
};

/* ops may be NULL (tests): no anon_vmas. */
int must_check vma_create_caches(struct quire *q, const struct vma_ops *ops); /* q->vmas */
/* LOCKING: every vmas_fini done and qrcu_barrier after it. */
void vma_destroy_caches(struct quire *q);
/* Areas that are allocated, those waiting for a grace period included. */
u64 vma_live(struct quire *q);
int must_check vmas_init(struct quire *q, struct vmas_of *s, struct range usable, void *space);
/* Forgets all remaining areas. LOCKING: nobody uses the space any more. */
void vmas_fini(struct vmas_of *s);

void space_read_lock(struct vmas_of *s);
void space_read_unlock(struct vmas_of *s);
void space_write_lock(struct vmas_of *s);
/* The same for a space that nobody else knows yet, while another's is held. */
void space_write_lock_unseen(struct vmas_of *s);
/* Ends every per-VMA write lock of this section too. Runs what is due of deferred frees: no spin
 * lock held, no RCU section. */
void space_write_unlock(struct vmas_of *s);
/* Write -> read without a gap; per-VMA write locks end. */
void space_downgrade(struct vmas_of *s);

/* Lock-free: the area that contains va, read-locked; NULL with *busy = false: none there; with
 * *busy = true: take the space lock instead. Unlock with vma_read_unlock. */
struct vma *vma_lock_rcu(struct vmas_of *s, u64 va, bool *busy);
void vma_read_unlock(struct vma *v);

/* The rest: LOCKING: space lock (read for finds, write for changes). What changes is write-locked
 * against faults, and a new area is write-locked from the start, until the section ends. */
struct vma *vma_find(struct vmas_of *s, u64 va);       /* contains va, or NULL */
struct vma *vma_find_first(struct vmas_of *s, u64 va); /* contains va or follows it */
struct vma *vma_find_prev(struct vmas_of *s, u64 va);  /* the last that ends at or below va */
struct vma *vma_next(struct vmas_of *s, struct vma *v);
/* Lowest (align) gap in the usable range (or in `within` if its end is not 0). 0 or -ENOMEM. */
int must_check vma_find_gap(struct vmas_of *s, struct range within, u64 size, u64 align, u64 *out);
/* After it `changes` calls of vma_split (each counts twice), vma_remove, vma_set_end cannot fail
 * for want of nodes of the map. 0 or -ENOMEM. */
int must_check vma_reserve(struct vmas_of *s, u32 changes);
/* New area [r) with flags; merged with neighbours where possible; *out covers r. The range must be
 * free (BUG). 0 or -ENOMEM (nothing changed). */
int must_check vma_add(struct vmas_of *s, struct range r, u64 flags, u64 pgoff, struct vma **out);
/* The same for an area of object, of which page pgoff is the first; NULL: anonymous memory. */
int must_check vma_add_object(struct vmas_of *s, struct range r, u64 flags, u64 pgoff,
			      struct object *object, struct vma **out);
/* The same for a range to which pages of src will be moved: it gets src's anon_vma, and merges only
 * where that allows it. pgoff is src's at the first page, so src itself stays. */
int must_check vma_add_moved(struct vmas_of *s, struct range r, u64 flags, u64 pgoff,
			     struct vma *src, struct vma **out);
/* An area that will share pages with src (fork, snapshot): chained to src's anon_vmas, if it has
 * any, with one of its own; merged with nothing. pgoff is src's at the first page. 0 or -ENOMEM
 * (nothing changed). */
int must_check vma_add_forked(struct vmas_of *s, struct range r, u64 flags, u64 pgoff,
			      struct vma *src, struct vma **out);
/* Make va an area boundary. 0 or -ENOMEM (nothing changed). */
int must_check vma_split(struct vmas_of *s, u64 va);
/* Take the area out of the tree (write-locks and detaches it) and free it after a grace period.
 * 0 or -ENOMEM (nothing changed). */
int must_check vma_remove(struct vmas_of *s, struct vma *v);
/* Give [r) of existing areas new flags: v->flags = (flags & ~clear) | set; splits and merges
 * around; where r is one end of an area and the neighbour there has the new flags, only the
 * boundary moves. -ENOMEM: some page of r is in no area (nothing changed), or no memory (at most
 * splits done). */
int must_check vma_change_flags(struct vmas_of *s, struct range r, u64 set, u64 clear);
/* Grow or shrink an area's end in place (the room must be free: BUG). 0 or -ENOMEM. */
int must_check vma_set_end(struct vmas_of *s, struct vma *v, u64 new_end);
/* Try to merge v with its neighbours; returns the area that now covers v's range. */
struct vma *vma_merge_around(struct vmas_of *s, struct vma *v);
/* Write-lock one area against faults until the space write lock is dropped. */
void vma_write_lock(struct vma *v);
/* 0 or the number of broken invariants (1, 4 and what is local to an area). */
u64 vmas_check(struct vmas_of *s);
/* Neighbours that could be merged: 0 after every public space operation (invariant 3). */
u64 vmas_mergeable(struct vmas_of *s);

#endif
