/*
 * fault_internal.h - what the files of this folder share: one fault in progress, and its steps.
 *
 * Each step (do_anon, do_swap, do_wp) returns 0 (done, or look again at the entry: the access is
 * simply retried), FAULT_AGAIN (look again after giving the processor away), FAULT_SPACE (needs the
 * space lock), FAULT_WAIT (for c->wait, the folio that moves, without any lock), or a negative
 * errno for the trap.
 * Locking: the area is read-locked, or the space lock is held (space_locked), throughout a step.
 */
#ifndef QUIRE_FAULT_INTERNAL_H
#define QUIRE_FAULT_INTERNAL_H

#include "base/inject.h"
#include "base/mech.h"
#include "base/trace.h"
#include "fault/fault.h"
#include "swap/meta.h"

enum fault_result { FAULT_DONE = 0, FAULT_AGAIN = 1, FAULT_SPACE = 2, FAULT_WAIT = 3 };

#define TOUCH_ORDER_MIN 2u /* a lone first touch fills 16 KiB */
#define TOUCH_ORDER_MAX 6u /* a run of them 256 KiB: one reclaim cluster */
#define TOUCH_PAGES_MAX (1u << TOUCH_ORDER_MAX)
#define READAHEAD_MAX   32u

struct fault_state {
	const struct fault_ops *ops; /* (C) once registered */
	struct folio *zero;          /* (C) CAP_ZERO_PAGE: the zero page's folio */
	u64 zero_pfn;                /* (C) */
};

struct fc {
	struct quire *q;
	struct fault_space *fs;
	struct vma *v;
	u64 va; /* page aligned */
	u32 access;
	bool space_locked;
	bool home; /* vma_home */
	bool hw_ad;
	bool copy; /* the object's page cannot be mapped here: a copy will do */
	u64 vf;    /* the area's flags */
	struct folio *wait;
	u64 place; /* not 0: this frame instead of the address's own place */
};

static inline bool fc_write(const struct fc *c)
{
	return c->access & ACCESS_WRITE;
}

/* Of an object's page, in a private area. */
static inline bool fault_wants_copy(const struct fc *c)
{
	return !(c->vf & VM_SHARED) && (fc_write(c) || (c->access & ACCESS_LONGTERM) || c->copy);
}

static inline struct machine *fc_machine(const struct fc *c)
{
	return c->q->machine;
}

/*
 * Must a pin have another page than this present entry's? A pinned anonymous page is exclusive
 * (Linux 6c287605): else a store of its own space would go to a copy, and the pin would show
 * something else from then on. The zero page, and an object's page in a private area, are nobody's
 * own: no store shows in them. They are pinned as they are for a short time only (Linux 84209e87).
 * What a shared area maps is what all see.
 */
static inline bool fault_must_unshare(struct quire *q, u64 e, u32 access)
{
	bool for_long = (access & ACCESS_LONGTERM) && mech_on(q, MECH_PIN_LONG_UNSHARES);
	struct folio *page;

	if (pte_special(e))
		return for_long;
	if (e & ENTRY_SHARED)
		return false;
	page = phys_record(q, entry_pfn(e));
	/* Without a lock: a page that is on its way in may have no mapping yet. */
	return folio_object(folio_head(page)) ? for_long : !page_exclusive(page);
}

int fault_do_anon(struct fc *c);
int fault_do_swap(struct fc *c, u64 entry);
int fault_do_wp(struct fc *c, u64 entry);
/* Make the page at the fault, which is shared, exclusive by moving everybody else to a copy of it.
 * 0: it is (and writable, if it is to be written); -EXDEV: it is to be copied for the fault's own
 * area; FAULT_AGAIN; an error. */
int fault_reverse_copy(struct fc *c, u64 entry);
/* place.c: has the object's page the frame that it should have where the area shows it? */
bool fault_in_place(struct fc *c, struct folio *f, u64 index);
/* Move it there if nobody uses it: returns the folio that holds page `index` from now on, locked
 * and with the caller's reference as f was. LOCKING: folio lock; invalidate. */
struct folio *must_check fault_to_place(struct fc *c, struct folio *f, u64 index);
/* A reference on what the entry maps now, or NULL when the entry has changed. */
struct folio *fault_hold_mapped(struct fc *c, u64 entry);
/* The entry is a hint. */
int fault_do_hint(struct fc *c, u64 entry);
/* n anonymous pages from va on, which this fault has just mapped, are used: on a slow node that is
 * for a time. LOCKING: no entry lock. */
void fault_lease(struct fc *c, unsigned node, u64 va, u32 n);
/* The entry is one of a page that moves. */
int fault_do_migration(struct fc *c, u64 entry);

/* How large a block around the address is worth it: learnt per area, whose last_touch is the end of
 * the block before. */
unsigned fault_touch_order(struct fc *c);

/* In an area of an object: no entry yet; one of a shared area that may not be written yet. */
int fault_do_object(struct fc *c);
int fault_do_shared_wp(struct fc *c, u64 entry);
/* A reference on what the entry maps now, or NULL when the entry has changed. */
struct folio *fault_hold_mapped(struct fc *c, u64 entry);

/* Home frames: the frame for the address is not free. See anon.c. */
int fault_home_busy(struct fc *c, u64 entry);

/* The node that a new page at va is to be on, and all that it may be on (a bit each). */
unsigned fault_node(struct fc *c, u64 va, u32 *allowed);
/* A folio of the order at the aligned address va; see fault_alloc_page for the results. Only order
 * 0 is forced over the limit. */
int must_check fault_alloc_at(struct fc *c, u64 va, unsigned order, struct folio **out);
/* The machine has no host mappings left for pages that are away from their places: all of the space
 * that are usable give theirs back. False: there were none. LOCKING: no core lock held. */
bool fault_reset_places(struct quire *q, struct fault_space *fs);
/* Where plain frames have places: the number of the one for va in v. */
u64 fault_own_place(struct quire *q, struct vma *v, u64 va);
/* A folio for va, at that place if possible; larger than order 0 only there. */
int must_check fault_alloc_placed(struct fc *c, u64 va, u64 place, unsigned order,
				  struct folio **out);
/* Up to n order-0 folios for consecutive pages from va on, charged; how many (>= 1) or an error as
 * above. */
int must_check fault_alloc_run(struct fc *c, u64 va, u32 n, struct folio **out);
/* Bits of a new present entry for a page of this fault: writable ones are dirty where software
 * keeps D. */
static inline u64 fault_entry_bits(const struct fc *c, bool writable, bool dirty)
{
	u64 bits = ENTRY_USER | ENTRY_ACCESSED;

	bits |= c->vf & VM_PROT_MASK ? ENTRY_PRESENT : ENTRY_PROTNONE;
	if (!(c->vf & VM_EXEC))
		bits |= ENTRY_NX;
	if (writable)
		bits |= ENTRY_WRITE | (dirty || !c->hw_ad ? ENTRY_DIRTY : 0);
	return bits;
}

/* Make new entries usable; on failure nothing of them is installed. LOCKING: entry lock. */
int must_check fault_install(struct fc *c, u64 va, const u64 *entries, u32 nr, const void *fill,
			     bool fill_zero, bool force);

#endif
