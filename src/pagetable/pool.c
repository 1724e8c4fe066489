/*
 * pool.c - the tables that are in no tree: chunks from the arena, taken and given back one by one.
 */
#include "base/arena.h"
#include "base/inject.h"
#include "pagetable/pagetable_internal.h"
#include "phys/phys.h"

/* The first chunk is small, for instances that hold little; each further one is twice as large. */
#define CHUNK_PAGES_MIN (2 * PT_WINDOW_PAGES)
#define CHUNK_DOUBLINGS 3u
/* A chunk that became free goes back when this many other tables are free. */
#define KEEP_FREE       64u

static struct pt_window *window_of(const struct ptdesc *desc)
{
	return (struct pt_window *)ALIGN_DOWN((uintptr_t)desc, PT_WINDOW_SIZE);
}

static u32 slot_of(const struct ptdesc *desc)
{
	return (u32)((uintptr_t)desc % PAGE_SIZE / PT_DESC_SIZE);
}

static a64_t *slot_table(struct pt_window *w, u32 slot)
{
	return (a64_t *)((char *)w + slot * PAGE_SIZE);
}

static struct ptdesc *slot_desc(struct pt_window *w, u32 slot)
{
	return (struct ptdesc *)((char *)w + slot * PT_DESC_SIZE);
}

int pt_create(struct quire *q)
{
	struct pagetables *p = arena_zalloc(q->arena, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->q = q;
	spin_init(&p->lock, LOCK_ARENA);
	list_init(&p->windows);
	list_init(&p->chunks);
	q->tables = p;
	return 0;
}

void pt_destroy(struct quire *q)
{
	struct pagetables *p = q->tables;

	DEBUG_ON(a64_read(&p->live));
	list_for_each_safe(pos, tmp, &p->chunks) {
		struct pt_chunk *c = list_entry(pos, struct pt_chunk, link);

		arena_pages_free(q->arena, c->base, c->nr_pages);
	}
	arena_free(q->arena, p, sizeof(*p));
	q->tables = NULL;
}

/* The run has no alignment of its own, so up to a window's size is left over at its ends. */
static bool pool_grow(struct pagetables *p)
{
	u32 nr = CHUNK_PAGES_MIN << min(p->nr_chunks, CHUNK_DOUBLINGS);
	void *base = arena_pages(p->q->arena, nr);
	struct pt_window *first;
	struct pt_chunk *c;

	if (!base && nr > CHUNK_PAGES_MIN) {
		nr = CHUNK_PAGES_MIN;
		base = arena_pages(p->q->arena, nr);
	}
	if (!base)
		return false;
	first = (struct pt_window *)ALIGN_UP((uintptr_t)base, PT_WINDOW_SIZE);
	c = &first->first;
	c->base = base;
	c->nr_pages = nr;
	c->nr_windows = (u32)(((char *)base + nr * PAGE_SIZE - (char *)first) / PT_WINDOW_SIZE);
	c->used = 0;
	spin_lock(&p->lock);
	for (u32 i = 0; i < c->nr_windows; i++) {
		struct pt_window *w = (struct pt_window *)((char *)first + i * PT_WINDOW_SIZE);

		w->chunk = c;
		w->free = ~1u;
		w->touched = 0;
		list_add_tail(&w->link, &p->windows);
	}
	list_add(&c->link, &p->chunks);
	p->nr_chunks++;
	p->nr_free += c->nr_windows * PT_WINDOW_TABLES;
	p->touched += c->nr_windows;
	spin_unlock(&p->lock);
	return true;
}

static struct ptdesc *pool_get(struct pagetables *p)
{
	struct pt_window *w;
	u32 slot;

	spin_lock(&p->lock);
	while (list_empty(&p->windows)) {
		spin_unlock(&p->lock);
		if (!pool_grow(p))
			return NULL;
		spin_lock(&p->lock);
	}
	w = list_first(&p->windows, struct pt_window, link);
	slot = (u32)__builtin_ctz(w->free);
	w->free &= ~(1u << slot);
	if (!(w->touched & 1u << slot)) {
		w->touched |= 1u << slot;
		p->touched++;
	}
	if (!w->free)
		list_del_init(&w->link);
	w->chunk->used++;
	p->nr_free--;
	spin_unlock(&p->lock);
	slot_desc(w, slot)->table = slot_table(w, slot);
	return slot_desc(w, slot);
}

/* LOCKING: pool lock. */
static void chunk_unlink(struct pagetables *p, struct pt_chunk *c)
{
	struct pt_window *first = container_of(c, struct pt_window, first);

	for (u32 i = 0; i < c->nr_windows; i++) {
		struct pt_window *w = (struct pt_window *)((char *)first + i * PT_WINDOW_SIZE);

		list_del(&w->link);
		p->touched -= 1 + (u32)__builtin_popcount(w->touched);
	}
	list_del(&c->link);
	p->nr_chunks--;
	p->nr_free -= c->nr_windows * PT_WINDOW_TABLES;
}

static void pool_put(struct pagetables *p, struct ptdesc *desc)
{
	struct pt_window *w = window_of(desc);
	struct pt_chunk *c = w->chunk;
	bool drop;

	spin_lock(&p->lock);
	if (!w->free)
		list_add(&w->link, &p->windows);
	w->free |= 1u << slot_of(desc);
	p->nr_free++;
	drop = --c->used == 0 && p->nr_free >= c->nr_windows * PT_WINDOW_TABLES + KEEP_FREE;
	if (drop)
		chunk_unlink(p, c);
	spin_unlock(&p->lock);
	if (drop)
		arena_pages_free(p->q->arena, c->base, c->nr_pages);
}

struct ptdesc *table_alloc(struct pgtable *pgt, u64 va, unsigned level)
{
	struct pagetables *p = pgt->q->tables;
	struct ptdesc *desc;

	if (inject_fail(pgt->q->inject, INJECT_TABLE))
		return NULL;
	desc = pool_get(p);
	if (!desc)
		return NULL;
	BUG_ON(desc->state != PT_FREE);
	DEBUG_ON(!table_is_empty(desc->table));
	spin_init(&desc->lock, level ? LOCK_PMD : LOCK_PTE);
	desc->pgt = pgt;
	desc->va = ALIGN_DOWN(va, entry_span(level + 1));
	desc->resv_pfn = 0;
	desc->level = level;
	a32_init(&desc->dead, 0);
	desc->state = PT_LIVE;
	desc->clean_faults = 0;
	desc->wp_faults = 0;
	desc->reverse_faults = 0;
	list_init(&desc->gather);
	a64_add(&pgt->nr_tables, 1);
	a64_add(&p->live, 1);
	return desc;
}

void table_uncount(struct quire *q, struct ptdesc *desc)
{
	a64_sub(&desc->pgt->nr_tables, 1);
	a64_sub(&q->tables->live, 1);
	desc->pgt = NULL;
	if (desc->resv_pfn)
		phys_resv_put(q, desc->resv_pfn);
	desc->resv_pfn = 0;
}

void table_free(struct quire *q, struct ptdesc *desc)
{
	desc->state = PT_FREE;
	pool_put(q->tables, desc);
}

bool table_is_empty(const a64_t *table)
{
	u64 all = 0;

	/* Nobody writes it now: no shared accesses. Four at a time for the compiler. */
	for (u32 i = 0; i < PTRS_PER_TABLE; i += 4)
		all |= table[i].raw | table[i + 1].raw | table[i + 2].raw | table[i + 3].raw;
	return !all;
}

u64 pt_live_tables(struct quire *q)
{
	return a64_read(&q->tables->live);
}

u64 pt_bytes(struct quire *q)
{
	struct pagetables *p = q->tables;
	u64 pages;

	spin_lock(&p->lock);
	pages = p->touched;
	spin_unlock(&p->lock);
	return pages * PAGE_SIZE;
}
