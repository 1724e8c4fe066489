/*
 * isolate.h - what compaction and offlining take away from others: movable folios of a stretch of
 * frames, free pieces, and whole blocks.
 *
 * Movable folios are those on an LRU list and not pinned. Whoever gets one has isolated it
 * (phys.h): exactly one isolator wins, and nobody frees it meanwhile.
 *
 * Free pieces (struct phys_pieces): frames off the buddy lists, that nobody owns and nobody finds.
 * They are counted as used only when a folio is made of them, so pieces alone take no capacity.
 * Invariant: `frames` == frames of the pieces on the lists; what was taken is made a folio or put
 * back.
 *
 * Blocks out of service. States and who moves them, under the block's and the node's lock:
 *   in service -[phys_leave]-> leaving -[phys_offline]-> offline -[phys_online]-> in service
 *                              leaving -[phys_stay]-> in service
 *  1. Of a block that is not in service no frame is in a buddy list, a CPU's list or a bitmap's
 *     free part once phys_leave has returned, and none is handed out. What is freed there is
 *     captured.
 *  2. So the frames captured grow in number, and when they are all, nobody uses the block.
 *  3. Offline: all of it is captured, and capacity does not count it.
 * A reservation may lie in such a block; it is refused (-EBUSY) until the block is in service
 * again.
 *
 * Locking: the functions take LOCK_PCP, LOCK_BLOCK, LOCK_NODE, LOCK_LRU, and phys_leave
 * LOCK_PHYS_MAP; no spin lock is held by the caller.
 */
#ifndef QUIRE_PHYS_ISOLATE_H
#define QUIRE_PHYS_ISOLATE_H

#include "phys/phys.h"

#define PHYS_BLOCK_FRAMES 512u /* a block: the stretch of frames that pieces never cross */

/* ---- stretches of frames ---- */
/* The node that hands out this frame's number, or -EINVAL. */
int must_check phys_node_of(struct quire *q, u64 pfn);
/* All frame numbers that the node may hand out; none: home frames only. */
struct range phys_span(struct quire *q, unsigned node);
/* Those that its lists have had so far, whole blocks. */
struct range phys_grown(struct quire *q, unsigned node);
/* Are there numbers left that no list has had? A hint. */
bool phys_can_grow(struct quire *q, unsigned node);
/* Is the block that begins there the buddy allocator's and in service? A hint. */
bool phys_block_is_buddy(struct quire *q, u64 pfn);

/* ---- movable folios ---- */
struct phys_scan {
	u64 scanned;   /* frames looked at */
	u64 isolated;  /* pages */
	u64 pinned;    /* pages of folios that are pinned */
	u64 unmovable; /* pages of folios on no list: on their way, or nobody's to move */
	u64 gone;      /* folios that were freed or isolated by somebody else when we came */
};
/* For pages with a type: true, the page is isolated, with a reference. */
typedef bool (*phys_isolate_fn)(struct quire *q, struct folio *page);
/* Isolate the folios in [*pos, end), which lie in one block, of at most that order, until max_pages
 * or more are isolated; appended to `out`, linked by ->lru. *pos: the frame behind the last one
 * looked at. `scan` is added to. */
void phys_isolate_folios(struct quire *q, u64 *pos, u64 end, unsigned max_order, u32 max_pages,
			 phys_isolate_fn typed, struct list *out, struct phys_scan *scan);
/* Might everything in [pfn, pfn + nr), in one block, be isolated? A look, without a lock. */
bool phys_all_movable(struct quire *q, u64 pfn, u32 nr);

/* ---- free pieces ---- */
struct phys_pieces {
	struct list list[MAX_FOLIO_ORDER + 1]; /* by order */
	u64 frames;
};
void phys_pieces_init(struct phys_pieces *p);
/* Take pieces of at most that order in [*pos, end), in one block, until `want` frames or more are
 * taken. *pos: the frame behind the last one looked at. Returns frames taken. */
u64 phys_pieces_take(struct quire *q, unsigned node, u64 *pos, u64 end, unsigned max_order,
		     u64 want, struct phys_pieces *p);
/* A folio of the order, as phys_alloc gives it. NULL: no piece of it is that large, or the node's
 * capacity is used up. */
struct folio *must_check phys_pieces_folio(struct quire *q, unsigned node, struct phys_pieces *p,
					   unsigned order);
void phys_pieces_put(struct quire *q, unsigned node, struct phys_pieces *p);
/* Free pieces of exactly this order in the lists. */
u64 phys_nr_pieces(struct quire *q, unsigned node, unsigned order);
/* Is there one of at least this order? */
bool phys_has_piece(struct quire *q, unsigned node, unsigned order);
/* The CPUs' lists go to the buddy lists, where frames merge. */
void phys_drain_cpus(struct quire *q, unsigned node);

/* ---- blocks out of service: pfn and nr are whole blocks of one node's numbers ---- */
/* -EBUSY: one of them is out of service already; -ENOMEM. Nothing has changed then. */
int must_check phys_leave(struct quire *q, unsigned node, u64 pfn, u64 nr);
/* Frames of leaving blocks that are captured. */
u64 phys_captured(struct quire *q, unsigned node, u64 pfn, u64 nr);
/* Take up to nr frames off the node's capacity, as if they were used. Returns how many. */
u64 must_check phys_hold_capacity(struct quire *q, unsigned node, u64 nr);
/* Back into service: what was captured is free again, and so is `held` capacity. */
void phys_stay(struct quire *q, unsigned node, u64 pfn, u64 nr, u64 held);
/* All is captured and held: the node has that much less. */
void phys_offline(struct quire *q, unsigned node, u64 pfn, u64 nr);
/* -EINVAL: not all of it is offline; nothing has changed then. */
int must_check phys_online(struct quire *q, unsigned node, u64 pfn, u64 nr);

#endif
