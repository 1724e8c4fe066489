/* Allocation: anywhere in a node, at given frame numbers, and reservations of whole blocks. */
#include "phys/phys_internal.h"

static inline void record_init(struct folio *f, u64 flags, unsigned node, unsigned order)
{
	DEBUG_ON(a32_peek(&f->ref));
	DEBUG_ON(a32_peek(&f->mapcount));
	aptr_init(&f->mapping, NULL);
	f->index = 0;
	f->swap = 0;
	f->charge = 0;
	f->order = (u8)order;
	a8_init(&f->node, (u8)node);
	a32_init(&f->mapcount, 0);
	a32_init(&f->entire_mapcount, 0);
	a64_init(&f->flags, flags);
	list_init(&f->lru);
}

void folio_init(struct folio *f, u64 pfn, unsigned node, unsigned order)
{
	u64 tail = PGF(TAIL) | (u64)order << FOLIO_ORDER_SHIFT;
	u64 head = (u64)FRAME_OWNED << FOLIO_STATE_SHIFT;

	if (order) {
		head |= PGF(HEAD) | (u64)order << FOLIO_ORDER_SHIFT;
		for (u32 i = 1; i < 1u << order; i++) {
			DEBUG_ON(a32_peek(&f[i].ref));
			DEBUG_ON(a32_peek(&f[i].mapcount));
			a64_init(&f[i].flags, (pfn + i) << FOLIO_PFN_SHIFT | tail);
			a32_init(&f[i].mapcount, 0);
		}
	}
	record_init(f, pfn << FOLIO_PFN_SHIFT | head, node, order);
	/* Last: who gets a reference from now on sees the whole record. */
	a32_set_release(&f->ref, 1);
}

struct folio *phys_alloc(struct quire *q, unsigned node, unsigned order)
{
	struct phys *p = q->phys;
	struct folio *f;
	u64 pfn;

	BUG_ON(node >= p->nr_nodes || order > MAX_FOLIO_ORDER);
	if (inject_fail(q->inject, INJECT_FRAME) || !node_take(q, node, 1u << order))
		return NULL;
	f = node_get_frames(q, node, order);
	if (!f) {
		node_give(q, node, 1u << order);
		return NULL;
	}
	pfn = record_pfn(f);
	folio_init(f, pfn, node, order);
	TRACE(q, EV_FOLIO_ALLOC, pfn, order, node);
	return f;
}

/* Is it a home frame's number? Whatever no node hands out is an address's. */
static bool is_home_pfn(const struct phys *p, u64 pfn)
{
	u64 block = pfn >> BLOCK_SHIFT;

	if (!p->has_home || pfn >= MAX_PFN)
		return false;
	for (u32 i = 0; i < p->nr_nodes; i++)
		if (block - p->node[i].base_block < p->node[i].nr_blocks)
			return false;
	return true;
}

/* The block that phys_alloc_at may allocate from; -EINVAL, -ENOMEM. */
static int block_for_alloc(struct quire *q, unsigned node, u64 pfn, struct block **out)
{
	struct phys *p = q->phys;
	struct block *b = block_find(p, pfn);

	BUG_ON(node >= p->nr_nodes);
	if (unlikely(!b)) {
		if (!is_home_pfn(p, pfn))
			return -EINVAL;
		b = block_create(q, pfn, node, BLOCK_HOME);
		if (!b)
			return -ENOMEM;
	}
	*out = b;
	return b->node == node || frame_is_home(q->machine, pfn) ? 0 : -EINVAL;
}

int phys_alloc_at(struct quire *q, unsigned node, u64 pfn, unsigned order, struct folio **out)
{
	u32 first = pfn & (BLOCK_FRAMES - 1), nr = 1u << order;
	struct block *b;
	int err;

	BUG_ON(order > MAX_FOLIO_ORDER || !IS_ALIGNED(pfn, nr));
	if (inject_fail(q->inject, INJECT_FRAME))
		return -ENOMEM;
	err = block_for_alloc(q, node, pfn, &b);
	if (err)
		return err;
	if (!node_take(q, node, nr))
		return -ENOMEM;
	spin_lock(&b->lock);
	if (unlikely(a32_read(&b->kind) == BLOCK_BUDDY))
		err = -EINVAL;
	else if (block_busy(b, first, nr))
		err = -EBUSY;
	else
		bits_set(b->used, first, nr);
	spin_unlock(&b->lock);
	if (err) {
		node_give(q, node, nr);
		return err;
	}
	*out = b->rec + first;
	folio_init(*out, pfn, node, order);
	TRACE(q, EV_FOLIO_ALLOC, pfn, order, node);
	return 0;
}

/* LOCKING: b->lock. Frames that can be allocated from `first` on, at most nr. */
static u32 block_free_run(const struct block *b, u32 first, u32 nr)
{
	u32 n = 0;

	while (n < nr && first + n < BLOCK_FRAMES) {
		u32 w = (first + n) / 64, bit = (first + n) % 64;
		u64 busy = (b->used[w] | b->claimed[w] | b->barred[w]) >> bit;

		if (busy)
			return min(nr, n + (u32)__builtin_ctzll(busy));
		n += 64 - bit;
	}
	return min(nr, min(n, BLOCK_FRAMES - first));
}

/* The part of a run that lies in one block: frames allocated (> 0) or -errno. */
static int alloc_run_in_block(struct quire *q, unsigned node, u64 pfn, u32 nr, struct folio **out)
{
	u32 first = pfn & (BLOCK_FRAMES - 1), taken, got;
	struct block *b;
	int err = block_for_alloc(q, node, pfn, &b);

	if (err)
		return err;
	taken = node_take_some(q, node, nr);
	if (!taken)
		return -ENOMEM;
	spin_lock(&b->lock);
	if (unlikely(a32_read(&b->kind) == BLOCK_BUDDY)) {
		err = -EINVAL;
		got = 0;
	} else {
		err = -EBUSY;
		got = block_free_run(b, first, taken);
		bits_set(b->used, first, got);
	}
	spin_unlock(&b->lock);
	if (got < taken)
		node_give(q, node, taken - got);
	if (!got)
		return err;
	for (u32 i = 0; i < got; i++) {
		out[i] = b->rec + first + i;
		folio_init(out[i], pfn + i, node, 0);
		TRACE(q, EV_FOLIO_ALLOC, pfn + i, 0, node);
	}
	return (int)got;
}

int phys_alloc_run_at(struct quire *q, unsigned node, u64 pfn, u32 nr, struct folio **out)
{
	u32 done = 0;

	BUG_ON(!nr);
	if (inject_fail(q->inject, INJECT_FRAME))
		return -ENOMEM;
	while (done < nr) {
		u32 in_block = BLOCK_FRAMES - ((pfn + done) & (BLOCK_FRAMES - 1));
		u32 want = min(nr - done, in_block);
		int got = alloc_run_in_block(q, node, pfn + done, want, out + done);

		if (got < 0)
			return done ? (int)done : got;
		done += (u32)got;
		if ((u32)got < want)
			break;
	}
	return (int)done;
}

/* A whole free block, but not number 0, which would read as "no reservation": that is for
 * phys_alloc only. */
static struct folio *resv_frames(struct quire *q, unsigned node)
{
	struct folio *f = node_get_frames(q, node, MAX_FOLIO_ORDER), *zero = f;

	if (f && !record_pfn(f)) {
		f = node_get_frames(q, node, MAX_FOLIO_ORDER);
		buddy_put(q, node, zero, 0, MAX_FOLIO_ORDER);
	}
	return f;
}

int phys_resv_get(struct quire *q, unsigned node, u64 *base_pfn)
{
	bool in_service = false;

	BUG_ON(node >= q->phys->nr_nodes);
	if (inject_fail(q->inject, INJECT_FRAME))
		return -ENOMEM;
	while (!in_service) {
		struct folio *f = resv_frames(q, node);
		struct block *b;

		if (!f)
			return -ENOMEM;
		*base_pfn = record_pfn(f);
		b = block_find(q->phys, *base_pfn);
		spin_lock(&b->lock);
		in_service = block_in_service(b);
		if (in_service) {
			bits_clear(b->used, 0, BLOCK_FRAMES);
			a32_set(&b->kind, BLOCK_RESV);
		} else {
			/* It began to leave in between; it is captured now. */
			buddy_put(q, node, f, b->pfn, MAX_FOLIO_ORDER);
		}
		spin_unlock(&b->lock);
	}
	return 0;
}

void phys_resv_put(struct quire *q, u64 base_pfn)
{
	struct block *b = block_find(q->phys, base_pfn);

	BUG_ON(!b || b->pfn != base_pfn);
	spin_lock(&b->lock);
	BUG_ON(a32_read(&b->kind) != BLOCK_RESV);
	/* Frames in use, or being released at this moment, go to the buddy lists when their owner
	 * gets here: he decides by the kind, under this lock. */
	a32_set(&b->kind, BLOCK_BUDDY);
	for (u32 i = 0; i < BLOCK_FRAMES;) {
		u32 run = block_free_run(b, i, BLOCK_FRAMES - i);

		while (run) {
			u32 order = i ? min((u32)__builtin_ctz(i), (u32)MAX_FOLIO_ORDER) :
					(u32)MAX_FOLIO_ORDER;

			while (1u << order > run)
				order--;
			buddy_put(q, b->node, b->rec + i, b->pfn + i, order);
			i += 1u << order;
			run -= 1u << order;
		}
		i++; /* in use: the next free run begins behind it */
	}
	spin_unlock(&b->lock);
}

/* ---- barred frames ---- */

/* LOCKING: b->lock, dropped and taken again: wait until no release covers these frames. */
static void block_wait_claims(struct block *b, u32 first, u32 nr)
{
	while (bits_any(b->claimed, first, nr)) {
		spin_unlock(&b->lock);
		base_yield();
		spin_lock(&b->lock);
	}
}

static int block_bar(struct quire *q, unsigned node, u64 pfn, u32 nr)
{
	u32 first = pfn & (BLOCK_FRAMES - 1);
	struct block *b = block_find(q->phys, pfn);
	int err = 0;

	/* No release can begin in a block that has no records, and nothing is to be allocated in
	 * one that is barred whole. */
	if (!b && nr == BLOCK_FRAMES)
		return 0;
	err = block_for_alloc(q, node, pfn, &b);
	if (err)
		return err;
	spin_lock(&b->lock);
	if (bits_any(b->used, first, nr)) {
		err = -EBUSY;
	} else {
		bits_set(b->barred, first, nr); /* first, so that no new claim can come */
		block_wait_claims(b, first, nr);
	}
	spin_unlock(&b->lock);
	return err;
}

int phys_bar(struct quire *q, unsigned node, u64 pfn, u64 nr)
{
	for (u64 at = pfn; at < pfn + nr;) {
		u64 end = min(pfn + nr, ALIGN_DOWN(at, (u64)BLOCK_FRAMES) + BLOCK_FRAMES);
		int err = block_bar(q, node, at, (u32)(end - at));

		if (err) {
			phys_unbar(q, pfn, at - pfn);
			return err;
		}
		at = end;
	}
	return 0;
}

void phys_unbar(struct quire *q, u64 pfn, u64 nr)
{
	for (u64 at = pfn; at < pfn + nr;) {
		u64 end = min(pfn + nr, ALIGN_DOWN(at, (u64)BLOCK_FRAMES) + BLOCK_FRAMES);
		struct block *b = block_find(q->phys, at);

		if (b) {
			spin_lock(&b->lock);
			bits_clear(b->barred, at & (BLOCK_FRAMES - 1), (u32)(end - at));
			spin_unlock(&b->lock);
		}
		at = end;
	}
}
