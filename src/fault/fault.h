/*
 * fault.h - resolving one access: the path from a trap (or a remote access) to an installed entry.
 *
 * handle_fault takes the per-VMA lock without the space lock; where that is busy, or the fault
 * needs what only the space lock gives, it retries under the space lock (read). Kinds: no entry
 * (anonymous: zero page, or a new folio around the address; of an object: its page, or a copy),
 * swap entry, write to a read-only entry (exclusive reuse, sole user, zero page, copy), read that
 * must make the page exclusive (ACCESS_UNSHARE), spurious. Fault-around: a first touch fills up to
 * FAULT_AROUND_ORDER around the address with one large folio if the area, the table, the limit and
 * the recent pattern allow; swap-in reads ahead along a sequential pattern.
 *
 * Returns 0: retry the access. -EFAULT: no area (SEGV_MAPERR). -EACCES: not allowed (SEGV_ACCERR).
 * -ENOMEM: no frames and nothing to reclaim and no forcing allowed. -EIO: the store lost the page
 * (SIGBUS). -ENXIO: beyond the end of the area's object (SIGBUS).
 * Locking: enters with no core lock held (the gate held). Order inside: VMA or SPACE ->
 * OBJECT_INVALIDATE -> FOLIO -> ANON_VMA -> PTE.
 */
#ifndef QUIRE_FAULT_FAULT_H
#define QUIRE_FAULT_FAULT_H

#include "rmap/rmap.h"
#include "swap/swap.h"

struct space;

/* What fault must know of a space; the space folder embeds it (rmap_space first). */
struct fault_space {
	struct rmap_space rs;
	struct vmas_of vmas;
	unsigned cgroup;       /* (C) who pays */
	unsigned node;         /* (C) preferred node */
	struct leases *leases; /* (C) NULL: the nodes are of one tier (hint.c) */
	a64_t policy;   /* (A) placement of areas that have none of their own (vma.h: VM_POLICY) */
	a32_t fork_seq; /* odd while the space is forked: what pin_fast found may be shared (Linux
			 * 57efa1fe); changed under the space write lock */
};

/* How allocation reaches reclaim (higher rank): registered by reclaim. Make room for `pages` in
 * group cg: returns pages freed; 0 = nothing can be evicted. No lock held but a VMA/space lock. */
struct fault_ops {
	u64 (*make_room)(struct quire *q, unsigned cg, u32 pages);
	void (*wake_background)(struct quire *q, unsigned cg); /* may be called often */
	/* Refault: should the folio start on the active list? */
	bool (*refault)(struct quire *q, u32 shadow);
	/* Tiers: room for `pages` on the node, by moving what is cold to slower ones. Pages moved.
	 */
	u64 (*demote)(struct quire *q, unsigned node, u32 pages);
	/* Room on this very node, by demotion or else eviction. Pages that went. */
	u64 (*node_room)(struct quire *q, unsigned node, u32 pages);
	/* A page of this folio on a slow node, whose hint has this stamp, is used. True: it is on a
	 * faster node now. Drops the caller's reference. LOCKING: an area or space lock at most. */
	bool (*touched)(struct quire *q, struct folio *f, unsigned stamp);
	/* Stamp of hints that are made now; so many have been, on this node. */
	unsigned (*stamp)(struct quire *q);
	void (*parked)(struct quire *q, unsigned node, u32 pages);
	/* The node has no folio of this order > 0 though frames are free: true when there may be
	 * one now. NULL: never. */
	bool (*compact)(struct quire *q, unsigned node, unsigned order);
};
void fault_register_reclaim(struct quire *q, const struct fault_ops *ops);
int must_check fault_create(struct quire *q);
/* fault's part of a new space. */
int must_check fault_space_init(struct quire *q, struct fault_space *fs);
void fault_space_fini(struct quire *q, struct fault_space *fs);
/* Every lease of slow memory ends: the next use of such pages is noticed (hint.c). */
void fault_end_leases(struct quire *q, struct fault_space *fs);
void fault_destroy(struct quire *q);

int must_check handle_fault(struct quire *q, struct fault_space *fs, u64 va, u32 access);

/* Pins (get_user_pages semantics). Each page of r is faulted in for `access` and gets PIN_BIAS
 * references: it is never evicted, moved or shared until unpinned, so that what is seen through the
 * pin is what loads see; a shared page is copied first, even for reading. Only the zero page is
 * taken as it is, for a pin that is over before the program can care: a later store goes to a page
 * of its own, which the pin does not show. With ACCESS_LONGTERM (Linux FOLL_LONGTERM) it is
 * replaced first. Returns the number of pages pinned from the front (all of r unless a later page
 * cannot be had), or the error of the first. `pages` receives the records (NULL for the zero page).
 * LOCKING: no core lock held. */
long must_check pin_pages(struct quire *q, struct fault_space *fs, struct range r, u32 access,
			  struct folio **pages);
/* The same, first without any lock. */
long must_check pin_fast(struct quire *q, struct fault_space *fs, struct range r, u32 access,
			 struct folio **pages);
void unpin_pages(struct quire *q, struct folio **pages, u64 n);
/* The same by address, where frames are home frames and the address names them for ever (-EINVAL
 * elsewhere: by the time of unpin_range another frame may be mapped there). Without a lock first.
 */
long must_check pin_range(struct quire *q, struct fault_space *fs, struct range r, u32 access);
void unpin_range(struct quire *q, struct range r);

/* handle_fault for a caller that holds the space lock (either way) and knows the area. One attempt
 * at one page, looping inside where it must look again. */
int must_check fault_under_space_lock(struct quire *q, struct fault_space *fs, struct vma *v,
				      u64 va, u32 access);
/* The shared zero page, on CAP_ZERO_PAGE machines without home frames; else NULL. */
struct folio *fault_zero_folio(struct quire *q);
/*
 * Charge n pages to the space's group, making room first. `force`: over the limit (counted) when
 * nothing can be evicted; else -ENOMEM then.
 */
int must_check fault_charge(struct quire *q, struct fault_space *fs, u32 n, bool force);

/* A new order-0 folio for the page at va in v, charged, ref 1, bytes undefined: at its home frame
 * (vma_home), else at its own place (machine.h: plain_base) or from the table's reservation, else
 * anywhere. 0; -EBUSY: the home frame is in use, or the frame on its way out: yield and look again;
 * -ENOMEM. LOCKING: area or space lock held; no entry lock. */
int must_check fault_alloc_page(struct quire *q, struct fault_space *fs, struct vma *v, u64 va,
				struct folio **out);
/* The bytes of the frames from from_pfn on into a new folio; 0 or -ENOMEM. The frame cannot go: a
 * reference is held or it is the zero page's. */
int must_check fault_copy_bytes(struct quire *q, struct folio *to, u64 from_pfn);
/* Undo for a folio that was never mapped. */
void fault_free_folio(struct quire *q, struct folio *f);

#endif
