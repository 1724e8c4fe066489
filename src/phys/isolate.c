/* isolate.c - movable folios, free pieces, and blocks out of service. */
#include "phys/isolate.h"
#include "phys/phys_internal.h"

_Static_assert(PHYS_BLOCK_FRAMES == BLOCK_FRAMES, "a block is a block");

#define LOCKED_LOOKS 128u /* records looked at under one holding of the node's lock */

/* ---- stretches of frames ---- */

int phys_node_of(struct quire *q, u64 pfn)
{
	u64 block = pfn >> BLOCK_SHIFT;

	for (u32 i = 0; i < q->phys->nr_nodes; i++)
		if (block - q->phys->node[i].base_block < q->phys->node[i].nr_blocks)
			return (int)i;
	return -EINVAL;
}

struct range phys_span(struct quire *q, unsigned node)
{
	struct node *n = &q->phys->node[node];
	u64 base = n->base_block << BLOCK_SHIFT;

	return (struct range){ base, base + (n->nr_blocks << BLOCK_SHIFT) };
}

struct range phys_grown(struct quire *q, unsigned node)
{
	struct node *n = &q->phys->node[node];
	u64 base = n->base_block << BLOCK_SHIFT;

	return (struct range){ base, base + (a64_read(&n->next_block) << BLOCK_SHIFT) };
}

bool phys_can_grow(struct quire *q, unsigned node)
{
	struct node *n = &q->phys->node[node];

	return a64_read(&n->next_block) < n->nr_blocks;
}

bool phys_block_is_buddy(struct quire *q, u64 pfn)
{
	struct block *b = block_find(q->phys, pfn);

	return b && a32_read(&b->kind) == BLOCK_BUDDY && block_in_service(b);
}

/* ---- movable folios ---- */

/* Frames that the record speaks for, by one look: it may be another's a moment later. */
static u32 record_nr(u64 flags)
{
	if (flags & PGF(HEAD) || flags_state(flags) == FRAME_BUDDY)
		return 1u << min(flags_order(flags), (unsigned)MAX_FOLIO_ORDER);
	return 1;
}

static bool record_is_folio(const struct folio *f, u64 flags)
{
	return flags_state(flags) == FRAME_OWNED && a32_read(&f->ref);
}

/* Nothing keeps the folio for us until we have a reference, and only one that lives has any to add
 * to (Linux 9df41314). */
static bool get_reference(struct quire *q, struct folio *f)
{
	if (mech_on(q, MECH_COMPACT_TRY_GET))
		return folio_try_get(f);
	a32_fetch_add(&f->ref, 1);
	return true;
}

/* With our reference it is what we see: it is not split, nor freed and made anew. */
static bool isolate_folio(struct quire *q, struct folio *f, unsigned max_order, struct list *out)
{
	bool got;

	if (!get_reference(q, f))
		return false;
	got = f->order <= max_order && !folio_maybe_pinned(f) && lru_isolate(q, f);
	if (got)
		list_add_tail(&f->lru, out);
	folio_put(q, f);
	return got;
}

/* The folio whose record said `flags`. Pages isolated. */
static u32 scan_folio(struct quire *q, struct folio *f, u64 flags, unsigned max_order,
		      phys_isolate_fn typed, struct list *out, struct phys_scan *scan)
{
	u32 nr = record_nr(flags);

	if (folio_type(f)) {
		if (!typed(q, f)) {
			scan->unmovable++;
			return 0;
		}
		list_add_tail(&f->lru, out);
	} else if (folio_maybe_pinned(f)) {
		scan->pinned += nr;
		return 0;
	} else if (!(flags & PGF(LRU)) || flags_order(flags) > max_order) {
		scan->unmovable += nr;
		return 0;
	} else if (!isolate_folio(q, f, max_order, out)) {
		scan->gone++;
		return 0;
	}
	scan->isolated += folio_nr(f);
	return folio_nr(f);
}

void phys_isolate_folios(struct quire *q, u64 *pos, u64 end, unsigned max_order, u32 max_pages,
			 phys_isolate_fn typed, struct list *out, struct phys_scan *scan)
{
	struct block *b = block_find(q->phys, *pos);
	u64 at = *pos, got = 0;

	while (b && at < end && got < max_pages) {
		struct folio *f = b->rec + (at & (BLOCK_FRAMES - 1));
		u64 flags = a64_read(&f->flags);
		u32 nr = min(record_nr(flags), (u32)(end - at));

		at += nr;
		scan->scanned += nr;
		if (record_is_folio(f, flags))
			got += scan_folio(q, f, flags, max_order, typed, out, scan);
	}
	*pos = b ? at : end;
}

bool phys_all_movable(struct quire *q, u64 pfn, u32 nr)
{
	struct block *b = block_find(q->phys, pfn);
	u32 first = pfn & (BLOCK_FRAMES - 1);

	for (u32 i = first; b && i < first + nr;) {
		struct folio *f = &b->rec[i];
		u64 flags = a64_read(&f->flags);

		if (record_is_folio(f, flags) &&
		    (!(flags & (folio_type(f) ? PGF(LISTED) : PGF(LRU))) || folio_maybe_pinned(f)))
			return false;
		i += record_nr(flags);
	}
	return b != NULL;
}

/* ---- free pieces ---- */

void phys_pieces_init(struct phys_pieces *p)
{
	for (unsigned o = 0; o <= MAX_FOLIO_ORDER; o++)
		list_init(&p->list[o]);
	p->frames = 0;
}

static bool is_piece(u64 flags, unsigned max_order)
{
	return flags_state(flags) == FRAME_BUDDY && flags_order(flags) <= max_order;
}

/* LOCKING: n->lock. The piece at f, whose record said so. */
static void take_piece(struct node *n, struct folio *f, u64 flags, struct phys_pieces *p)
{
	unsigned order = flags_order(flags);

	buddy_unlink(n, f, flags >> FOLIO_PFN_SHIFT, order);
	list_add_tail(&f->lru, &p->list[order]);
	p->frames += BIT(order);
}

/*
 * LOCKING: n->lock. From record i on. `seen`: what the record said without the lock; an allocation
 * may have been quicker, so only what it says now counts.
 */
static u32 take_locked(struct quire *q, struct node *n, struct block *b, u32 i, u32 end,
		       unsigned max_order, u64 want, u64 seen, struct phys_pieces *p)
{
	u64 before = p->frames, flags;
	u32 last = min(end, i + LOCKED_LOOKS);
	bool recheck = mech_on(q, MECH_COMPACT_FREE_RECHECK);

	while (i < last && p->frames - before < want) {
		flags = recheck ? a64_read(&b->rec[i].flags) : seen;
		recheck = true;
		if (is_piece(flags, max_order))
			take_piece(n, &b->rec[i], flags, p);
		i += record_nr(flags);
	}
	return i;
}

u64 phys_pieces_take(struct quire *q, unsigned node, u64 *pos, u64 end, unsigned max_order,
		     u64 want, struct phys_pieces *p)
{
	struct node *n = &q->phys->node[node];
	struct block *b = block_find(q->phys, *pos);
	u64 before = p->frames;
	u32 i, last;

	if (!b) {
		*pos = end;
		return 0;
	}
	i = (u32)(*pos - b->pfn);
	last = (u32)(end - b->pfn);
	while (i < last && p->frames - before < want) {
		u64 flags = a64_read(&b->rec[i].flags);

		if (!is_piece(flags, max_order)) {
			i += record_nr(flags);
			continue;
		}
		spin_lock(&n->lock);
		i = take_locked(q, n, b, i, last, max_order, want - (p->frames - before), flags, p);
		spin_unlock(&n->lock);
	}
	*pos = b->pfn + i;
	return p->frames - before;
}

/* A piece of at least the order; the rest of it goes back to the lists. The records are ours. */
static struct folio *piece_get(struct phys_pieces *p, unsigned order)
{
	unsigned have = order;
	struct folio *f;
	u64 pfn;

	while (have <= MAX_FOLIO_ORDER && list_empty(&p->list[have]))
		have++;
	if (have > MAX_FOLIO_ORDER)
		return NULL;
	f = list_first(&p->list[have], struct folio, lru);
	list_del(&f->lru);
	pfn = record_pfn(f);
	while (have > order) {
		have--;
		record_set_state(f + BIT(have), pfn + BIT(have), FRAME_FREE, 0);
		list_add(&(f + BIT(have))->lru, &p->list[have]);
	}
	p->frames -= BIT(order);
	return f;
}

struct folio *phys_pieces_folio(struct quire *q, unsigned node, struct phys_pieces *p,
				unsigned order)
{
	struct folio *f;
	u64 pfn;

	if (inject_fail(q->inject, INJECT_FRAME) || !node_take(q, node, 1u << order))
		return NULL;
	f = piece_get(p, order);
	if (!f) {
		node_give(q, node, 1u << order);
		return NULL;
	}
	pfn = record_pfn(f);
	folio_init(f, pfn, node, order);
	TRACE(q, EV_FOLIO_ALLOC, pfn, order, node);
	return f;
}

void phys_pieces_put(struct quire *q, unsigned node, struct phys_pieces *p)
{
	struct node *n = &q->phys->node[node];

	spin_lock(&n->lock);
	for (unsigned o = 0; o <= MAX_FOLIO_ORDER; o++)
		while (!list_empty(&p->list[o])) {
			struct folio *f = list_first(&p->list[o], struct folio, lru);

			list_del(&f->lru);
			p->frames -= BIT(o);
			buddy_put_locked(q->phys, n, f, record_pfn(f), o);
		}
	spin_unlock(&n->lock);
	BUG_ON(p->frames);
}

u64 phys_nr_pieces(struct quire *q, unsigned node, unsigned order)
{
	struct node *n = &q->phys->node[node];
	u64 nr;

	spin_lock(&n->lock);
	nr = n->nr_free[order];
	spin_unlock(&n->lock);
	return nr;
}

bool phys_has_piece(struct quire *q, unsigned node, unsigned order)
{
	struct node *n = &q->phys->node[node];
	u64 nr = 0;

	spin_lock(&n->lock);
	for (unsigned o = order; o <= MAX_FOLIO_ORDER; o++)
		nr += n->nr_free[o];
	spin_unlock(&n->lock);
	return nr;
}

void phys_drain_cpus(struct quire *q, unsigned node)
{
	pcp_drain_all(q->phys, node);
}

/* ---- blocks out of service ---- */

bool block_capture(struct node *n, struct block *b, u64 pfn, unsigned order)
{
	(void)n;
	if (block_in_service(b))
		return false;
	bits_set(b->captured, (u32)(pfn - b->pfn), 1u << order);
	record_set_state(b->rec + (pfn - b->pfn), pfn, FRAME_FREE, 0);
	return true;
}

/* LOCKING: n->lock. What the buddy lists have of the block. */
static void capture_listed(struct node *n, struct block *b)
{
	for (u32 i = 0; i < BLOCK_FRAMES;) {
		u64 flags = a64_read(&b->rec[i].flags);

		/* Only under our lock does a record get or lose this state. */
		if (is_piece(flags, MAX_FOLIO_ORDER)) {
			buddy_unlink(n, &b->rec[i], b->pfn + i, flags_order(flags));
			bits_set(b->captured, i, 1u << flags_order(flags));
		}
		i += record_nr(flags);
	}
}

static int block_leave(struct node *n, struct block *b)
{
	int err = 0;

	spin_lock(&b->lock);
	spin_lock(&n->lock);
	if (!block_in_service(b)) {
		err = -EBUSY;
	} else {
		a32_set(&b->service, BLOCK_LEAVING);
		n->nr_out++;
		if (!block_is_grown(n, b))
			bits_set(b->captured, 0, BLOCK_FRAMES);
		else if (a32_read(&b->kind) == BLOCK_RESV)
			for (u32 w = 0; w < BLOCK_WORDS; w++)
				b->barred[w] = ~b->used[w];
		else
			capture_listed(n, b);
	}
	spin_unlock(&n->lock);
	spin_unlock(&b->lock);
	return err;
}

/* LOCKING: n->lock. The captured frames are the lists' again, in pieces as large as they come. */
static void uncapture(struct phys *p, struct node *n, struct block *b)
{
	for (u32 i = 0; i < BLOCK_FRAMES;) {
		unsigned order =
			i ? min((unsigned)__builtin_ctz(i), MAX_FOLIO_ORDER) : MAX_FOLIO_ORDER;

		if (!bits_any(b->captured, i, 1)) {
			i++;
			continue;
		}
		while (!bits_all(b->captured, i, 1u << order))
			order--;
		bits_clear(b->captured, i, 1u << order);
		buddy_put_locked(p, n, b->rec + i, b->pfn + i, order);
		i += 1u << order;
	}
}

/* In service again. A reservation's frames are free by their bits; those of a block that was one
 * when it left, and is not any more, are not. */
static void block_stay(struct phys *p, struct node *n, struct block *b)
{
	spin_lock(&b->lock);
	spin_lock(&n->lock);
	for (u32 w = 0; w < BLOCK_WORDS; w++) {
		if (a32_read(&b->kind) != BLOCK_RESV)
			b->captured[w] |= b->barred[w];
		b->barred[w] = 0;
	}
	a32_set(&b->service, BLOCK_IN_SERVICE);
	n->nr_out--;
	if (block_is_grown(n, b))
		uncapture(p, n, b);
	else
		bits_clear(b->captured, 0, BLOCK_FRAMES);
	spin_unlock(&n->lock);
	spin_unlock(&b->lock);
}

static void blocks_stay(struct quire *q, unsigned node, u64 pfn, u64 nr)
{
	for (u64 at = pfn; at < pfn + nr; at += BLOCK_FRAMES)
		block_stay(q->phys, &q->phys->node[node], block_find(q->phys, at));
}

int phys_leave(struct quire *q, unsigned node, u64 pfn, u64 nr)
{
	for (u64 at = pfn; at < pfn + nr; at += BLOCK_FRAMES) {
		struct block *b = block_create(q, at, node, BLOCK_BUDDY);
		int err = b ? block_leave(&q->phys->node[node], b) : -ENOMEM;

		if (err) {
			blocks_stay(q, node, pfn, at - pfn);
			return err;
		}
	}
	/* Whoever puts a frame on a CPU's list from now on sees that he must not (pcp_put). */
	pcp_drain_all(q->phys, node);
	return 0;
}

static u64 block_captured(struct node *n, struct block *b)
{
	u64 nr = 0;

	spin_lock(&b->lock);
	spin_lock(&n->lock);
	for (u32 w = 0; w < BLOCK_WORDS; w++)
		nr += (u64)__builtin_popcountll(b->captured[w] | b->barred[w]);
	spin_unlock(&n->lock);
	spin_unlock(&b->lock);
	return nr;
}

u64 phys_captured(struct quire *q, unsigned node, u64 pfn, u64 nr)
{
	u64 sum = 0;

	for (u64 at = pfn; at < pfn + nr; at += BLOCK_FRAMES)
		sum += block_captured(&q->phys->node[node], block_find(q->phys, at));
	return sum;
}

u64 phys_hold_capacity(struct quire *q, unsigned node, u64 nr)
{
	u64 held = 0;

	while (held < nr) {
		u32 want = (u32)min(nr - held, (u64)BLOCK_FRAMES);
		u32 got = node_take_some(q, node, want);

		held += got;
		if (got < want)
			break;
	}
	return held;
}

void phys_stay(struct quire *q, unsigned node, u64 pfn, u64 nr, u64 held)
{
	blocks_stay(q, node, pfn, nr);
	for (u64 left = held; left;) {
		u32 some = (u32)min(left, (u64)BLOCK_FRAMES);

		node_give(q, node, some);
		left -= some;
	}
}

/* LOCKING: n->lock. What is not bounded stays so. */
static void change_capacity(struct node *n, u64 change)
{
	u64 capacity = a64_read(&n->capacity);

	if (capacity != ~0ull)
		a64_set(&n->capacity, capacity + change);
}

void phys_offline(struct quire *q, unsigned node, u64 pfn, u64 nr)
{
	struct node *n = &q->phys->node[node];

	for (u64 at = pfn; at < pfn + nr; at += BLOCK_FRAMES) {
		struct block *b = block_find(q->phys, at);

		spin_lock(&b->lock);
		spin_lock(&n->lock);
		BUG_ON(a32_read(&b->service) != BLOCK_LEAVING);
		a32_set(&b->service, BLOCK_OFFLINE);
		spin_unlock(&n->lock);
		spin_unlock(&b->lock);
	}
	spin_lock(&n->lock);
	a64_set(&n->taken, a64_read(&n->taken) - nr);
	change_capacity(n, -nr);
	spin_unlock(&n->lock);
}

/* From one state to the other, or nothing. */
static bool block_change(struct node *n, struct block *b, enum block_service from,
			 enum block_service to)
{
	bool same;

	spin_lock(&b->lock);
	spin_lock(&n->lock);
	same = a32_read(&b->service) == (u32)from;
	if (same)
		a32_set(&b->service, to);
	spin_unlock(&n->lock);
	spin_unlock(&b->lock);
	return same;
}

int phys_online(struct quire *q, unsigned node, u64 pfn, u64 nr)
{
	struct node *n = &q->phys->node[node];

	for (u64 at = pfn; at < pfn + nr; at += BLOCK_FRAMES) {
		struct block *b = block_find(q->phys, at);

		if (b && block_change(n, b, BLOCK_OFFLINE, BLOCK_COMING))
			continue;
		while (at > pfn) {
			at -= BLOCK_FRAMES;
			b = block_find(q->phys, at);
			BUG_ON(!block_change(n, b, BLOCK_COMING, BLOCK_OFFLINE));
		}
		return -EINVAL;
	}
	spin_lock(&n->lock);
	change_capacity(n, nr);
	spin_unlock(&n->lock);
	blocks_stay(q, node, pfn, nr);
	return 0;
}
