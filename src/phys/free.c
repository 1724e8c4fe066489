/*
 * The one free path: reference 0 -> off the LRU -> record reset -> bytes released -> uncharged ->
 * free.
 *
 * Why in this order: off the LRU first, because the list links live in the record; the record
 * before the frames are free, because the next owner writes it; the machine's release before the
 * frames are free, because it destroys the bytes, and before the charge returns, because a limit
 * bounds what is resident. The release is a system call on some machines and is made with no
 * lock held: until it returns, the frames keep their bits in `used` and holes between them are
 * `claimed`.
 */
#include "phys/phys_internal.h"

/* Flags that promise that somebody still refers to the folio. */
#define PG_NEVER_AT_FREE \
	(PGF(LOCKED) | PGF(LRU) | PGF(SWAPCACHE) | PGF(WRITEBACK) | PGF(TAIL))

/* The record of a dead folio becomes that of free frames; order and charge are still readable. */
static void folio_retire(struct quire *q, struct folio *f)
{
	u64 flags = a64_read(&f->flags);
	u32 nr = folio_nr(f);

	BUG_ON(a32_read(&f->ref));                 /* freed with references */
	BUG_ON(flags_state(flags) != FRAME_OWNED); /* freed twice, or not a folio */
	BUG_ON(flags & PG_NEVER_AT_FREE);
	BUG_ON((flags & PGF(LISTED)) && folio_type(f)); /* else it is PG_IDLE */
	BUG_ON(a32_read(&f->mapcount) || a32_read(&f->entire_mapcount));
	for (u32 i = 1; i < nr; i++) {
		u64 tail = a64_read(&f[i].flags);

		BUG_ON(!(tail & PGF(TAIL)) || a32_read(&f[i].mapcount) || a32_read(&f[i].ref));
		a64_init(&f[i].flags, tail & FOLIO_PFN_MASK);
	}
	TRACE(q, EV_FOLIO_FREE, flags >> FOLIO_PFN_SHIFT, f->order, 0);
	aptr_set(&f->mapping, NULL);
	a64_set(&f->flags, flags & FOLIO_PFN_MASK);
}

/* Charges go back in runs of one group: neighbours nearly always have the same one. */
static void uncharge_all(struct quire *q, struct folio *const *f, u32 n)
{
	unsigned cg = 0;
	u32 pages = 0;

	for (u32 i = 0; i < n; i++) {
		if (f[i]->charge != cg) {
			if (cg)
				cgroup_uncharge(q, cg, pages);
			cg = f[i]->charge;
			pages = 0;
		}
		pages += folio_nr(f[i]);
	}
	if (cg)
		cgroup_uncharge(q, cg, pages);
}

/*
 * By address of the record, which groups blocks and orders frames within each. What the gather and
 * reclaim bring is nearly always in order already; else Shell's method, which needs no memory.
 */
static void sort_folios(struct folio **f, u32 n)
{
	static const u8 gaps[] = { 132, 57, 23, 10, 4, 1 };
	u32 i = 1;

	while (i < n && f[i - 1] < f[i])
		i++;
	if (i >= n)
		return;
	for (u32 g = 0; g < ARRAY_SIZE(gaps); g++) {
		u32 gap = gaps[g];

		for (i = gap; i < n; i++) {
			struct folio *x = f[i];
			u32 j = i;

			for (; j >= gap && f[j - gap] > x; j -= gap)
				f[j] = f[j - gap];
			f[j] = x;
		}
	}
}

/* Spans on their way to the machine. */
struct release {
	struct machine *m;
	u32 n;
	struct frame_span span[RELEASE_SPANS];
};

static void release_flush(struct release *r)
{
	if (r->n)
		r->m->ops->frames_release(r->m, r->span, r->n);
	r->n = 0;
}

/* One span for each run of set bits. */
static void release_bits(struct release *r, const struct block *b, const u64 *bits)
{
	for (u32 i = 0; i < BLOCK_FRAMES;) {
		u64 word = bits[i / 64] >> i % 64;
		u32 start;

		if (!word) {
			i = (i / 64 + 1) * 64;
			continue;
		}
		start = i += (u32)__builtin_ctzll(word);
		while (i < BLOCK_FRAMES) {
			u64 rest = ~bits[i / 64] >> i % 64;
			u32 left = 64 - i % 64;
			u32 ones = rest ? min((u32)__builtin_ctzll(rest), left) : left;

			i += ones;
			if (ones < left)
				break;
		}
		r->span[r->n++] = (struct frame_span){ b->pfn + start, i - start };
		if (r->n == RELEASE_SPANS)
			release_flush(r);
	}
}

/* Claims the holes between our frames that are free and small enough. LOCKING: takes b->lock. */
static void claim_holes(struct block *b, struct folio *const *f, u32 n, u64 *claim)
{
	spin_lock(&b->lock);
	for (u32 i = 1; i < n; i++) {
		u32 end = (u32)(f[i - 1] - b->rec) + folio_nr(f[i - 1]);
		u32 hole = (u32)(f[i] - b->rec) - end;

		if (!hole || hole > SPAN_GAP || block_busy(b, end, hole))
			continue;
		bits_set(b->claimed, end, hole);
		bits_set(claim, end, hole);
	}
	spin_unlock(&b->lock);
}

/* Dead folios f[0..n) of one block. */
struct group {
	struct block *b;
	struct folio **f;
	u32 n;
	u32 pages[MAX_NODES];
	bool buddy;
	u64 own[BLOCK_WORDS];
	u64 claim[BLOCK_WORDS];
};

/* A block with a frame in use never becomes RESV, so BUDDY stays true; the other two kinds are
 * looked at again under the block's lock. */
static void group_release(struct group *g, struct release *r)
{
	struct block *b = g->b;
	u64 span[BLOCK_WORDS];
	u32 kind = a32_read(&b->kind), pages = 0;

	for (u32 w = 0; w < BLOCK_WORDS; w++)
		g->own[w] = g->claim[w] = 0;
	__builtin_memset(g->pages, 0, sizeof(g->pages));
	for (u32 i = 0; i < g->n; i++) {
		bits_set(g->own, (u32)(g->f[i] - b->rec), folio_nr(g->f[i]));
		g->pages[folio_node(g->f[i])] += folio_nr(g->f[i]);
		pages += folio_nr(g->f[i]);
	}
	/* Holes only where the frames' numbers are addresses: there neighbours are one mapping. */
	if (kind == BLOCK_HOME &&
	    (u32)(g->f[g->n - 1] - g->f[0]) + folio_nr(g->f[g->n - 1]) != pages)
		claim_holes(b, g->f, g->n, g->claim);
	for (u32 w = 0; w < BLOCK_WORDS; w++)
		span[w] = g->own[w] | g->claim[w];
	release_bits(r, b, span);
	g->buddy = kind == BLOCK_BUDDY;
}

/* Frames whose freedom is a bit in the block: home and reserved ones. */
static void free_in_bitmap(struct quire *q, struct group *g)
{
	struct block *b = g->b;
	bool to_buddy;

	spin_lock(&b->lock);
	to_buddy = a32_read(&b->kind) == BLOCK_BUDDY; /* phys_resv_put came in between */
	for (u32 w = 0; w < BLOCK_WORDS; w++) {
		BUG_ON(g->own[w] & ~b->used[w]);
		b->used[w] &= ~g->own[w];
		b->claimed[w] &= ~g->claim[w];
		/* Nobody is to have them again while the block is out of service. */
		if (!to_buddy && unlikely(!block_in_service(b)) &&
		    mech_on(q, MECH_OFFLINE_RESERVED))
			b->barred[w] |= g->own[w];
	}
	/* Under the block's lock still: until they are listed, the frames are ours alone. */
	for (u32 i = 0; to_buddy && i < g->n; i++)
		buddy_put(q, b->node, g->f[i], record_pfn(g->f[i]), g->f[i]->order);
	spin_unlock(&b->lock);
}

/* Frames of the buddy allocator: single ones to this CPU's list, the others merge at once. */
static void free_in_buddy(struct quire *q, struct group *g)
{
	u32 single = 0;

	for (u32 i = 0; i < g->n; i++) {
		struct folio *f = g->f[i];

		if (f->order)
			buddy_put(q, g->b->node, f, record_pfn(f), f->order);
		else
			g->f[single++] = f;
	}
	if (!single || pcp_put(q, g->b, g->f, single))
		return;
	for (u32 i = 0; i < single; i++)
		buddy_put(q, g->b->node, g->f[i], record_pfn(g->f[i]), 0);
}

/* Up to FREE_GROUPS blocks' folios of f[0..n), which are sorted: released together. Returns how
 * many folios. */
static u32 free_groups(struct quire *q, struct folio **f, u32 n)
{
	struct group group[FREE_GROUPS];
	struct release r = { .m = q->machine };
	u32 done = 0, nr = 0;

	while (done < n && nr < FREE_GROUPS) {
		struct group *g = &group[nr++];

		g->b = block_find(q->phys, record_pfn(f[done]));
		g->f = f + done;
		for (g->n = 1; done + g->n < n && g->f[g->n] < g->b->rec + BLOCK_FRAMES;)
			g->n++;
		done += g->n;
		group_release(g, &r);
	}
	release_flush(&r);
	uncharge_all(q, f, done);
	for (u32 i = 0; i < nr; i++) {
		if (group[i].buddy)
			free_in_buddy(q, &group[i]);
		else
			free_in_bitmap(q, &group[i]);
		for (u32 node = 0; node < q->phys->nr_nodes; node++)
			if (group[i].pages[node])
				node_give(q, node, group[i].pages[node]);
	}
	return done;
}

void phys_free(struct quire *q, struct folio **f, u32 n)
{
	if (!n)
		return;
	lru_forget(q, f, n);
	sort_folios(f, n);
	for (u32 i = 0; i < n; i++)
		folio_retire(q, f[i]);
	for (u32 i = 0; i < n;)
		i += free_groups(q, f + i, n - i);
}

/* True when these were the last references: the folio is the caller's to free. */
static inline bool ref_drop(struct folio *f, u32 nr)
{
	u32 left = a32_sub_return(&f->ref, nr);

	BUG_ON(left + nr < nr); /* more dropped than there were */
	return !left;
}

void folio_put_nr(struct quire *q, struct folio *f, u32 nr)
{
	if (ref_drop(f, nr))
		phys_free(q, &f, 1);
}

void folios_put_refs(struct quire *q, struct folio **folios, const u32 *refs, u32 n)
{
	struct folio *dead[FREE_CHUNK];
	u32 nr_dead = 0;

	for (u32 i = 0; i < n; i++) {
		if (!ref_drop(folios[i], refs[i]))
			continue;
		dead[nr_dead++] = folios[i];
		if (nr_dead == FREE_CHUNK) {
			phys_free(q, dead, nr_dead);
			nr_dead = 0;
		}
	}
	phys_free(q, dead, nr_dead);
}

void phys_free_frozen_list(struct quire *q, struct list *folios)
{
	struct folio *dead[FREE_CHUNK];

	while (!list_empty(folios)) {
		u32 n = 0;

		while (n < FREE_CHUNK && !list_empty(folios)) {
			dead[n] = list_first(folios, struct folio, lru);
			list_del(&dead[n]->lru);
			BUG_ON(folio_test(dead[n], PG_LRU));
			n++;
		}
		phys_free(q, dead, n);
	}
}

/* ---- splitting ---- */

/* What a page has of its own already. */
#define PG_PER_PAGE (PGF(ANON_EXCLUSIVE) | FOLIO_PFN_MASK)
/* What a page inherits from the folio: not its lock, not what only a large folio has. */
#define PG_NOT_INHERITED                                                                      \
	(PGF(LOCKED) | PGF(WAITERS) | PGF(HEAD) | PGF(PARTIAL) | 15ull << FOLIO_ORDER_SHIFT | \
	 PG_PER_PAGE)

static void split_page(struct folio *head, u64 head_flags, u32 i)
{
	struct folio *page = head + i;
	u64 own = a64_read(&page->flags) & PG_PER_PAGE;

	BUG_ON(a32_read(&page->ref));
	aptr_init(&page->mapping, aptr_read(&head->mapping));
	page->index = head->index + i;
	page->swap = head_flags & PGF(SWAPCACHE) ? head->swap + i : 0;
	page->charge = head->charge;
	page->order = 0;
	a8_init(&page->node, (u8)folio_node(head));
	a32_init(&page->entire_mapcount, 0);
	list_init(&page->lru);
	a64_set(&page->flags, (head_flags & ~PG_NOT_INHERITED) | own);
}

void phys_split_frozen(struct quire *q, struct folio *f, const u32 *refs)
{
	struct lru *lru = &q->phys->node[folio_node(f)].lru;
	u32 nr = folio_nr(f), nr_dead = 0;
	struct list dead;
	u64 flags;

	BUG_ON(a32_read(&f->ref) || a32_read(&f->entire_mapcount) || !refs[0]);
	list_init(&dead);
	/* The order changes under the LRU lock: who walks the lists reads it without a reference.
	 */
	spin_lock(&lru->lock);
	flags = a64_read(&f->flags);
	BUG_ON(!f->order || !(flags & PGF(LOCKED)));
	for (u32 i = nr - 1; i > 0; i--) {
		bool listed = flags & PGF(LRU) && refs[i];

		split_page(f, refs[i] ? flags : flags & ~(PGF(LRU) | FOLIO_LIST_MASK), i);
		if (listed)
			list_add(&f[i].lru, &f->lru);
		if (!refs[i]) {
			folio_clear(&f[i], PG_SWAPCACHE); /* its slot is the caller's business */
			list_add_tail(&f[i].lru, &dead);
			nr_dead++;
		}
	}
	if (flags & PGF(LRU)) {
		a64_t *pages = &lru->pages[flags_list(flags)];

		a64_set(pages, a64_read(pages) - nr_dead);
	}
	f->order = 0;
	a64_fetch_and(&f->flags, ~(PGF(HEAD) | PGF(PARTIAL) | 15ull << FOLIO_ORDER_SHIFT));
	spin_unlock(&lru->lock);
	/* From here on they can be found and used. The head last: its lock is the caller's. */
	for (u32 i = nr; i-- > 0;)
		if (refs[i])
			folio_unfreeze(&f[i], refs[i]);
	phys_free_frozen_list(q, &dead);
}
