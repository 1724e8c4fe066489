/*
 * phys.h - nodes, frames, folios: allocation, the one free path, reservations, LRU lists, charges.
 *
 * Frame space. A frame number (pfn) is below 2^36 and the space is sparse: frame records exist per
 * 2 MiB block of frames (struct block: 512 records, allocation bitmap, claims), created on demand
 * and then kept (type-stable: a lock-free lookup by pfn may always read the record). A node has a
 * capacity, a COUNT of frames that may be in use; its frame numbers may span far more (that is what
 * reservations need).
 *
 * Three ways to get frames:
 *   phys_alloc        any frames of a node: per-CPU lists (LIFO, order 0) over a buddy allocator
 *   (0..9); phys_alloc_at     these frames: from a reserved block, or a home block (CAP_HOME: block
 *   number ==
 *                     va >> 21). -EBUSY when one of them is in use, being released, claimed or
 *                     barred; the caller looks again;
 *   phys_resv_get     a whole 2 MiB block of frame numbers set aside for a 2 MiB block of addresses
 *                     (counts no capacity until allocated from); phys_resv_put returns the unused
 *                     rest.
 * One way back: the last reference. folio_put / folios_put_refs -> ref 0 -> off the LRU, bytes
 * released (machine), uncharged, frames free. A folio whose ref the caller already froze to 0 goes
 * through phys_free_frozen_list. Both release spans of neighbouring frames with one machine call
 * each: in home blocks, holes of up to SPAN_GAP free frames between them are claimed meanwhile.
 *
 * The ordering that matters: a frame's bit in the bitmap (or its place on a free list) says "free"
 * only after frames_release has returned and its record is reset; a record's ref is stored last
 * when it is allocated. So whoever gets a reference, or the frame itself, sees nothing of the
 * previous life.
 *
 * Charges: control groups form a tree; charging adds to every ancestor and fails at the first limit
 * (undone); the charge returns after the LAST reference is gone, never at unmap.
 * Invariant at quiescence: usage(group) == frames of live folios charged to it or below.
 *
 * LRU: per node, lists INACTIVE, ACTIVE, UNEVICTABLE. lru_add puts folios on a per-CPU batch first
 * (it holds a reference); a batch of LRU_BATCH is moved under one lock. lru_isolate has exactly one
 * winner.
 * The list is chosen from the flags by the same atomic operation that sets PG_LRU: whoever sets
 * PG_UNEVICTABLE or PG_ACTIVE and then fails to isolate knows that the folio will land right.
 *
 * Locking: LOCK_LRU, LOCK_PCP, LOCK_BLOCK, LOCK_NODE inside; the caller may hold anything that
 * ranks lower and, for frees, must not hold LOCK_LRU. Frees of home or file-less frames may make a
 * system call.
 */
#ifndef QUIRE_PHYS_PHYS_H
#define QUIRE_PHYS_PHYS_H

#include "base/quire.h"
#include "phys/folio.h"

#define MAX_NODES    8 /* as machine.h's MACHINE_NODES */
#define MAX_CGROUPS  1024
#define CGROUP_DEPTH 16
#define SPAN_GAP     63u
#define LRU_BATCH    31u
#define LRU_CLUSTER  64u /* reclaim works on aligned runs of this many frames */

enum lru_list { LRU_INACTIVE, LRU_ACTIVE, LRU_UNEVICTABLE, NR_LRU_LISTS };

struct phys_config {
	u32 nr_nodes;
	struct {
		u64 base_pfn; /* first frame number (2 MiB aligned); ignored for a home-only node */
		u64 span;     /* frame numbers it may hand out; 0: home frames only */
		u64 capacity; /* frames that may be in use at once; ~0: no bound but the charge */
		u64 size;     /* what it is said to have where the capacity is no bound; else 0 */
		unsigned tier; /* 0: the fastest; what is cold goes to a higher one */
		bool direct;   /* slower, but used without traps: its use is only sampled */
	} node[MAX_NODES];
};

int must_check phys_create(struct quire *q, const struct phys_config *cfg);
void phys_destroy(struct quire *q);

/* ---- records ---- */
/* NULL when no block with that number exists yet. Lock-free. */
struct folio *phys_record(struct quire *q, u64 pfn);
/* The folio that frame pfn belongs to (its head), or NULL; unstable unless a reference is held. */
struct folio *phys_folio(struct quire *q, u64 pfn);
/* Of a folio or of any page's record; valid once that frame has been allocated for the first time.
 */
static inline u64 folio_pfn(struct quire *q, const struct folio *f)
{
	(void)q;
	return a64_peek(&f->flags) >>
	       FOLIO_PFN_SHIFT; /* these bits do not change: no race to explore */
}
/* From the record of any page of it to its head. */
static inline struct folio *folio_head(struct folio *page)
{
	u64 flags = a64_read(&page->flags);
	u64 order = flags >> FOLIO_ORDER_SHIFT & 15;

	if (likely(!(flags & PGF(TAIL))))
		return page;
	return page - (flags >> FOLIO_PFN_SHIFT & (BIT(order) - 1));
}
/* The same for who has no reference yet, with the pages from this one to the folio's end: a guess,
 * by one look. */
static inline struct folio *folio_head_peek(struct folio *page, u32 *left)
{
	u64 flags = a64_read(&page->flags);
	u64 nr = flags & (PGF(HEAD) | PGF(TAIL)) ? BIT(flags >> FOLIO_ORDER_SHIFT & 15) : 1;
	u64 at = flags & PGF(TAIL) ? flags >> FOLIO_PFN_SHIFT & (nr - 1) : 0;

	*left = (u32)(nr - at);
	return page - at;
}
/* The record of page i of the folio. */
static inline struct folio *folio_page(struct folio *f, u32 i)
{
	return f + i; /* records of one block are contiguous, and a folio never crosses a block */
}

/* ---- allocation: ref 1, no flags, not charged, not on the LRU, not mapped ---- */
/* NULL: no frames (capacity, numbers, records or injected). Never reclaims; the caller (fault)
 * does. */
struct folio *must_check phys_alloc(struct quire *q, unsigned node, unsigned order);
/* *out on success. pfn aligned to the order. -EBUSY (see above), -ENOMEM; -EINVAL: neither a home
 * frame nor in a reserved block. */
int must_check phys_alloc_at(struct quire *q, unsigned node, u64 pfn, unsigned order,
			     struct folio **out);
/* nr consecutive order-0 folios starting at pfn, all or as many from the front as are free: returns
 * how many (1..nr), or -EBUSY, -ENOMEM, -EINVAL when not even the first. out[i] receives them. */
int must_check phys_alloc_run_at(struct quire *q, unsigned node, u64 pfn, u32 nr,
				 struct folio **out);
/* *base_pfn is never 0. -ENOMEM. */
int must_check phys_resv_get(struct quire *q, unsigned node, u64 *base_pfn);
void phys_resv_put(struct quire *q, u64 base_pfn);
/* Home frames at addresses that are not the core's now (a foreign mapping): phys_alloc_at refuses
 * them and no released span crosses them. Call before the foreign mapping is made: it returns when
 * no release covers them any more. -EBUSY: one of them is still in use. -ENOMEM. On failure nothing
 * is barred.
 * LOCKING: no core spin lock held; waits. Ranges do not overlap. */
int must_check phys_bar(struct quire *q, unsigned node, u64 pfn, u64 nr);
void phys_unbar(struct quire *q, u64 pfn, u64 nr);

/* ---- the one free path ---- */
void folio_put_nr(struct quire *q, struct folio *f, u32 nr);
static inline void folio_put(struct quire *q, struct folio *f)
{
	folio_put_nr(q, f, 1);
}
/* Drops refs[i] references of each folios[i]; those that reach 0 are freed together, spans
 * coalesced. */
void folios_put_refs(struct quire *q, struct folio **folios, const u32 *refs, u32 n);
/* Folios whose references the caller has frozen to 0, linked by ->lru; not on LRU. */
void phys_free_frozen_list(struct quire *q, struct list *folios);
/* Split a large folio into order-0 folios. LOCKING: folio locked and frozen by the caller (ref 0);
 * no PMD-level mapping left. Afterwards page i is a folio of its own with refs[i] references and
 * the head's flags, mapping, charge, and index and swap entry counted on by i; mapcounts stay with
 * their pages. refs[0] > 0 (the caller's own): page 0 stays locked, the others are not. Pages with
 * refs[i] == 0 are freed. If the folio was on the LRU, the pages take its place in the list; else
 * they are as isolated as it was (the caller adds them). */
void phys_split_frozen(struct quire *q, struct folio *f, const u32 *refs);

/* The bytes of nr frames (of one folio each side) into those of a new folio that nobody maps.
 * Frames from from_pfn on cannot go: a reference is held, or they are the zero page's. `stored_to`:
 * others may store to them meanwhile, and what is copied counts (an object's page); else what was
 * stored meanwhile is not read, or thrown away. 0 or -ENOMEM. */
int must_check phys_copy_frames(struct quire *q, u64 to_pfn, u64 from_pfn, u32 nr, bool stored_to);

/* ---- LRU ---- */
/* New folio on its way to a list (PG_ACTIVE, PG_UNEVICTABLE decide which); takes its own reference
 * while in the batch. */
void lru_add(struct quire *q, struct folio *f);
/* Put this CPU's / every CPU's batches on the lists. */
void lru_drain(struct quire *q);
/* A batch that another thread is moving at this moment may be on its lists a little later. */
void lru_drain_all(struct quire *q);
/* True: it was on a list; now off, PG_LRU clear, one reference more, owned by the caller. The
 * caller holds a reference of its own. */
bool must_check lru_isolate(struct quire *q, struct folio *f);
/* Give an isolated folio back to the list its flags name; drops the isolation's reference. */
void lru_putback(struct quire *q, struct folio *f);
/* The same for isolated folios linked by ->lru, under one lock; the last of the list
 * becomes the most recent. The list is left empty. */
void lru_putback_list(struct quire *q, struct list *folios);
/* Isolate folios from the tail of a list plus, for each, its neighbours in the same aligned
 * LRU_CLUSTER run of frames that are on the same list, until max_pages or more are taken (the
 * last cluster may exceed it); each has a reference. Appended to `out`, linked by ->lru in frame
 * order within a
 * cluster, clusters one after the other. Returns pages (not folios). */
u32 lru_isolate_clusters(struct quire *q, unsigned node, enum lru_list list, u32 max_pages,
			 struct list *out);
u64 lru_size(struct quire *q, unsigned node, enum lru_list list); /* pages */
/* Mark used: inactive and referenced -> active, else referenced. Lock-free but for the move. */
void lru_mark_accessed(struct quire *q, struct folio *f);
/* Move up to max pages from the tail of ACTIVE to INACTIVE. Returns pages moved. */
u32 lru_deactivate_tail(struct quire *q, unsigned node, u32 max_pages);
/* To the inactive tail (MADV_COLD / PAGEOUT). */
void lru_deactivate(struct quire *q, struct folio *f);

/* ---- charges ---- */
/* Number (> 0) of a new group below parent (0: the root group, which exists from the start with
 * number 1 and no limit). -EINVAL: no such parent; -ENOSPC: too many or too deep; -ENOMEM. */
int must_check cgroup_create(struct quire *q, unsigned parent, u64 limit_pages);
/* -EBUSY while charged or with children. The caller sees to it that nobody charges it any more. */
int must_check cgroup_destroy(struct quire *q, unsigned cg);
void cgroup_set_limit(struct quire *q, unsigned cg, u64 limit_pages);
u64 cgroup_limit(struct quire *q, unsigned cg);
u64 cgroup_usage(struct quire *q, unsigned cg);
u64 cgroup_peak(struct quire *q, unsigned cg);
/* 0, or -ENOMEM with nothing charged and *at_limit (may be NULL) the group that refused. */
int must_check cgroup_try_charge(struct quire *q, unsigned cg, u32 pages, unsigned *at_limit);
/* Charges even over the limit (counted in STAT_OVER_LIMIT by the caller). */
void cgroup_force_charge(struct quire *q, unsigned cg, u32 pages);
void cgroup_uncharge(struct quire *q, unsigned cg, u32 pages);
/* The pages just charged belong to this folio: it uncharges when freed. */
static inline void folio_set_charge(struct folio *f, unsigned cg)
{
	f->charge = (u16)cg;
}
#define CGROUP_ROOT 1u

/* ---- counts, checking ---- */
u64 phys_used(struct quire *q, unsigned node); /* frames in use */
u64 phys_capacity(struct quire *q, unsigned node);
/* Frames that it should have in use at most: its capacity, or what it is said to have. */
u64 phys_size(struct quire *q, unsigned node);
u64 phys_room(struct quire *q, unsigned node); /* not a promise */
u32 phys_nr_nodes(struct quire *q);
unsigned phys_tier(struct quire *q, unsigned node);
bool phys_direct(struct quire *q, unsigned node);
/* Are there nodes of different tiers? */
bool phys_tiered(struct quire *q);
/* The nodes in the order in which they stand in for `node`: itself, its peers, slower ones, faster
 * ones, the nearest tier first. at < phys_nr_nodes. */
unsigned phys_fallback(struct quire *q, unsigned node, unsigned at);
/*
 * A home folio becomes memory of another node (the frame is the same). phys_take_room counts it
 * there beforehand: false, there is no room; phys_give_room takes that back. LOCKING: the folio is
 * locked and isolated, which makes its node stable.
 */
bool must_check phys_take_room(struct quire *q, unsigned node, u32 nr);
void phys_give_room(struct quire *q, unsigned node, u32 nr);
void folio_change_node(struct quire *q, struct folio *f, unsigned node);
/* Bytes of frame records, blocks and the map over them. */
u64 phys_bytes(struct quire *q);
/* Calls fn for every folio with ref > 0; only at quiescence. */
void phys_for_each_folio(struct quire *q, void (*fn)(void *ctx, struct folio *f), void *ctx);
/* 0 or the number of broken invariants (each reported through base_warn). Only at quiescence. */
u64 phys_check(struct quire *q);

#endif
