/*
 * fault.h - resolving one access: the path from a trap (or a remote access) to an installed entry.
 *
 * handle_fault takes the per-VMA lock without the space lock; where that is busy, or the fault needs what only the space lock
 * gives, it retries under the space lock (read). Kinds: no entry (anonymous: zero page, or a new folio around the address), swap
 * entry, write to a read-only entry (exclusive reuse, zero page, copy), spurious.
 * Fault-around: a first touch fills up to FAULT_AROUND_ORDER around the address with one large folio if the area, the table, the
 * limit and the recent pattern allow; swap-in reads ahead along a sequential pattern.
 *
 * Returns 0: retry the access. -EFAULT: no area (SEGV_MAPERR). -EACCES: not allowed (SEGV_ACCERR). -ENOMEM: no frames and nothing to
 * reclaim and no forcing allowed. -EIO: the store lost the page (SIGBUS).
 * Locking: enters with no core lock held (the gate held). Order inside: VMA or SPACE -> FOLIO -> ANON_VMA -> PTE.
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
	unsigned cgroup; /* (C) who pays */
	unsigned node;	 /* (C) preferred node */
};

/* How allocation reaches reclaim (higher rank): registered by reclaim. Make room for `pages` in group cg: returns pages freed; 0 = nothing
 * can be evicted. No lock held but a VMA/space lock. */
struct fault_ops {
	u64 (*make_room)(struct quire *q, unsigned cg, u32 pages);
	void (*wake_background)(struct quire *q, unsigned cg);
	/* Refault: should the folio start on the active list? */
	bool (*refault)(struct quire *q, u32 shadow);
};
void fault_register_reclaim(struct quire *q, const struct fault_ops *ops);
int must_check fault_create(struct quire *q);
void fault_destroy(struct quire *q);

int must_check handle_fault(struct quire *q, struct fault_space *fs, u64 va, u32 access);

/* Pins (get_user_pages semantics). Each page of r is faulted in for `access` and gets PIN_BIAS; a pinned page is never evicted or moved.
 * Returns pages pinned from the front (all, unless a page cannot be had: then the error if it was the first). Pages are recorded by
 * their address: unpin with the same range. LOCKING: none held. */
long must_check pin_range(struct quire *q, struct fault_space *fs, struct range r, u32 access);
void unpin_range(struct quire *q, struct fault_space *fs, struct range r);

/* Charge `pages` to the space's group and get frames; reclaims; over the limit only when nothing can be evicted. */
struct folio *must_check fault_alloc_folio(struct quire *q, struct fault_space *fs, unsigned order);

#endif
