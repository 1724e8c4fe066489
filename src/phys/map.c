/* The sparse frame map: blocks of 512 records, found by frame number without a lock. */
#include "phys/phys_internal.h"

/* The page of pointers that `slot` names, made if there is none. LOCKING: map_lock. */
static aptr_t *map_child(struct quire *q, aptr_t *slot)
{
	aptr_t *page = aptr_read(slot);

	if (!page) {
		page = arena_pages(q->arena, 1);
		if (!page)
			return NULL;
		a64_add(&q->phys->nr_map, 1);
		aptr_set_release(slot, page);
	}
	return page;
}

static struct block *block_new(struct quire *q, u64 pfn, unsigned node, enum block_kind kind)
{
	struct phys *p = q->phys;
	struct block *b = cache_zalloc(p->blocks);

	if (!b)
		return NULL;
	/* Zero is a record's state "free, never used": nothing is written until a frame is. */
	b->rec = arena_pages(q->arena, RECORD_PAGES);
	if (!b->rec) {
		cache_free(p->blocks, b);
		return NULL;
	}
	spin_init(&b->lock, LOCK_BLOCK);
	a32_init(&b->kind, kind);
	b->node = node;
	b->pfn = pfn;
	a64_add(&p->nr_block, 1);
	return b;
}

struct block *block_create(struct quire *q, u64 pfn, unsigned node, enum block_kind kind)
{
	struct phys *p = q->phys;
	u64 nr = pfn >> BLOCK_SHIFT;
	struct block *b = NULL;
	aptr_t *page;

	if (pfn >= MAX_PFN)
		return NULL;
	mutex_lock(&p->map_lock);
	page = map_child(q, &p->map[nr >> 18]);
	if (page)
		page = map_child(q, &page[nr >> 9 & (MAP_FANOUT - 1)]);
	if (page) {
		aptr_t *slot = &page[nr & (MAP_FANOUT - 1)];

		b = aptr_read(slot);
		if (!b) {
			b = block_new(q, nr << BLOCK_SHIFT, node, kind);
			if (b)
				aptr_set_release(slot, b);
		}
	}
	mutex_unlock(&p->map_lock);
	return b;
}

void block_for_each(struct quire *q, void (*fn)(void *ctx, struct block *b), void *ctx)
{
	struct phys *p = q->phys;

	for (u32 i = 0; i < MAP_FANOUT; i++) {
		aptr_t *mid = aptr_read_acquire(&p->map[i]);

		for (u32 j = 0; mid && j < MAP_FANOUT; j++) {
			aptr_t *leaf = aptr_read_acquire(&mid[j]);

			for (u32 k = 0; leaf && k < MAP_FANOUT; k++) {
				struct block *b = aptr_read_acquire(&leaf[k]);

				if (b)
					fn(ctx, b);
			}
		}
	}
}

static void block_free(void *ctx, struct block *b)
{
	struct quire *q = ctx;

	arena_pages_free(q->arena, b->rec, RECORD_PAGES);
	cache_free(q->phys->blocks, b);
}

void phys_map_destroy(struct quire *q)
{
	struct phys *p = q->phys;

	block_for_each(q, block_free, q);
	for (u32 i = 0; i < MAP_FANOUT; i++) {
		aptr_t *mid = aptr_read(&p->map[i]);

		if (!mid)
			continue;
		for (u32 j = 0; j < MAP_FANOUT; j++)
			if (aptr_read(&mid[j]))
				arena_pages_free(q->arena, aptr_read(&mid[j]), 1);
		arena_pages_free(q->arena, mid, 1);
		aptr_init(&p->map[i], NULL);
	}
}

struct folio *phys_record(struct quire *q, u64 pfn)
{
	struct block *b = block_find(q->phys, pfn);

	return b ? b->rec + (pfn & (BLOCK_FRAMES - 1)) : NULL;
}

struct folio *phys_folio(struct quire *q, u64 pfn)
{
	struct folio *f = phys_record(q, pfn);
	u64 flags;

	if (!f)
		return NULL;
	/* One read: state, order and "tail" belong together. The position comes from pfn, not from
	 * the record, which a frame that was never used has not got. */
	flags = a64_read(&f->flags);
	if (flags & PGF(TAIL))
		f -= pfn & (BIT(flags_order(flags)) - 1);
	return f;
}

u32 folio_mapcount(const struct folio *f)
{
	u32 nr = folio_nr(f);
	u32 sum = a32_read(&f->entire_mapcount) * nr;

	if (!f->order && folio_type(f))
		return 0;
	for (u32 i = 0; i < nr; i++)
		sum += a32_read(&f[i].mapcount);
	return sum;
}

u64 phys_bytes(struct quire *q)
{
	struct phys *p = q->phys;

	return a64_read(&p->nr_block) * (RECORD_PAGES * PAGE_SIZE + sizeof(struct block)) +
	       a64_read(&p->nr_map) * PAGE_SIZE;
}

struct live_walk {
	void (*fn)(void *ctx, struct folio *f);
	void *ctx;
};

static void block_live(void *ctx, struct block *b)
{
	struct live_walk *w = ctx;

	for (u32 i = 0; i < BLOCK_FRAMES; i++)
		if (a32_read(&b->rec[i].ref))
			w->fn(w->ctx, &b->rec[i]);
}

void phys_for_each_folio(struct quire *q, void (*fn)(void *ctx, struct folio *f), void *ctx)
{
	struct live_walk w = { fn, ctx };

	block_for_each(q, block_live, &w);
}
