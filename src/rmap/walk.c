/*
 * walk.c - the reverse-map walk, the referenced check, write-protection for write-back, and
 * splitting a large folio.
 */
#include "rmap/rmap_internal.h"

typedef bool (*walk_fn)(void *ctx, struct folio *f, struct vma *v, u64 va);

static void walk_object(struct folio *f, walk_fn fn, void *ctx)
{
	u64 first = f->index, last = first + folio_nr(f) - 1;
	struct object *o = folio_object(f);

	lock_assert_held(&f->flags);
	if (!o)
		return;
	rwsem_read_lock(&o->mmap);
	for (struct itree_node *it = itree_first(&o->areas, first, last); it;
	     it = itree_next(&o->areas, it, first, last)) {
		struct vma *v = container_of(it, struct vma, in_object);

		if (!fn(ctx, f, v, vma_index_va(v, f->index)))
			break;
	}
	rwsem_read_unlock(&o->mmap);
}

static void walk_anon(struct quire *q, struct folio *f, walk_fn fn, void *ctx)
{
	struct anon_vma *av = folio_get_anon_vma(q, f);
	u64 first = f->index, last = first + folio_nr(f) - 1;

	if (!av)
		return;
	rwsem_read_lock(&av->root->rwsem);
	for (struct itree_node *it = itree_first(&av->tree, first, last); it;
	     it = itree_next(&av->tree, it, first, last)) {
		struct vma *v = container_of(it, struct anon_vma_chain, node)->vma;

		if (!fn(ctx, f, v, vma_index_va(v, f->index)))
			break;
	}
	rwsem_read_unlock(&av->root->rwsem);
	anon_vma_put(q, av);
}

void rmap_walk(struct quire *q, struct folio *f, walk_fn fn, void *ctx)
{
	if (folio_is_anon(f))
		walk_anon(q, f, fn, ctx);
	else
		walk_object(f, fn, ctx);
}

struct referenced_ctx {
	struct quire *q;
	u32 n;
};

static bool in_area(struct vma *v, u64 va)
{
	return va >= vma_start(v) && va < vma_end(v);
}

static bool referenced_one(void *arg, struct folio *f, struct vma *v, u64 va)
{
	struct referenced_ctx *ctx = arg;
	u64 pfn = folio_pfn(ctx->q, f);

	for (u32 i = 0; i < folio_nr(f); i++, va += PAGE_SIZE) {
		struct ptdesc *desc;
		pte_t *p;
		u64 e;

		if (!in_area(v, va))
			continue;
		p = pt_pte_lock(&vma_rmap_space(v)->pgt, va, &desc);
		if (!p)
			continue;
		e = pte_get(p);
		if (pte_present(e) && entry_pfn(e) == pfn + i && pte_young(e)) {
			/* Only the one bit: the machine may set DIRTY at this moment. No flush: a
			 * stale accessed bit only makes the page look old a little early. */
			a64_fetch_and(p, ~ENTRY_ACCESSED);
			ctx->n++;
		}
		pt_pte_unlock(desc);
	}
	return true;
}

u32 rmap_referenced(struct quire *q, struct folio *f)
{
	struct referenced_ctx ctx = { .q = q };

	if (!machine_has(q->machine, CAP_HW_AD))
		return 0;
	rmap_walk(q, f, referenced_one, &ctx);
	return ctx.n;
}

struct mkclean_ctx {
	struct quire *q;
	bool dirty;
};

/* The n entries from p on, inside one table. */
static void mkclean_table(struct mkclean_ctx *ctx, struct vma *v, u64 va, pte_t *p, u64 pfn, u32 n)
{
	struct tlb_range flush = { ~0ull, 0, FLUSH_NO_STORE, false, false };

	for (u32 i = 0; i < n; i++) {
		u64 e = pte_get(p + i), at = va + i * PAGE_SIZE;

		if (!pte_present(e) || entry_pfn(e) != pfn + i || !(pte_write(e) || pte_dirty(e)))
			continue;
		/* Exchange: the machine may set DIRTY until now, and from now on faults. */
		e = pte_get_and_clear(p + i);
		ctx->dirty |= pte_dirty(e);
		pte_set(p + i, e & ~(ENTRY_WRITE | ENTRY_DIRTY));
		flush.start = min(flush.start, at);
		flush.end = at + PAGE_SIZE;
	}
	/* Under the entry lock: a fault that makes the entry writable again comes after it. */
	if (flush.start < flush.end)
		tlb_flush_range(&vma_rmap_space(v)->tlb, flush);
}

static bool mkclean_one(void *arg, struct folio *f, struct vma *v, u64 va)
{
	struct mkclean_ctx *ctx = arg;
	u32 nr = folio_nr(f), step;

	/* Entries of private areas are never writable. */
	if (!(vma_flags(v) & VM_SHARED))
		return true;
	for (u32 i = 0; i < nr; i += step) {
		u64 at = va + i * PAGE_SIZE;
		struct ptdesc *desc;
		pte_t *p;

		step = 1;
		if (!in_area(v, at))
			continue;
		step = min(nr - i, PTRS_PER_TABLE - entry_index(at, 0));
		step = (u32)min((u64)step, (vma_end(v) - at) >> PAGE_SHIFT);
		p = pt_pte_lock(&vma_rmap_space(v)->pgt, at, &desc);
		if (!p)
			continue;
		mkclean_table(ctx, v, at, p, folio_pfn(ctx->q, f) + i, step);
		pt_pte_unlock(desc);
	}
	return true;
}

bool rmap_mkclean(struct quire *q, struct folio *f)
{
	struct mkclean_ctx ctx = { .q = q };

	lock_assert_held(&f->flags);
	if (!folio_mapped(f) || !mech_on(q, MECH_WRITEBACK_PROTECT))
		return false;
	rmap_walk(q, f, mkclean_one, &ctx);
	return ctx.dirty;
}

struct split_ctx {
	struct quire *q;
	struct list *out;
	int result;
};

/* References per page once split: its entry's, and the isolation's where it is mapped. */
static u32 split_refs(struct folio *f, u64 pfn, pte_t *p, u32 *refs)
{
	u32 mapped = 0;

	for (u32 i = 0; i < folio_nr(f); i++) {
		u64 e = pte_get(p + i);
		bool here = pte_present(e) && !pte_special(e) && entry_pfn(e) == pfn + i;

		refs[i] = here ? 2 : 0;
		mapped += here;
	}
	return mapped;
}

/*
 * All entries of a folio that one space maps in one table: under that table's lock no entry of it
 * comes or goes, so its references are exactly the entries and the isolation's, or somebody else is
 * using it and it stays whole.
 */
static bool split_one(void *arg, struct folio *f, struct vma *v, u64 va)
{
	struct split_ctx *ctx = arg;
	u32 refs[PTRS_PER_TABLE], mapped, nr = folio_nr(f), total = folio_mapcount(f);
	u64 pfn = folio_pfn(ctx->q, f);
	struct ptdesc *desc;
	pte_t *p;

	if (ALIGN_DOWN(va, PMD_SIZE) != ALIGN_DOWN(va + ((u64)nr << PAGE_SHIFT) - 1, PMD_SIZE))
		return true;
	p = pt_pte_lock(&vma_rmap_space(v)->pgt, va, &desc);
	if (!p)
		return true;
	mapped = split_refs(f, pfn, p, refs);
	if (!mapped) {
		/* An area that shares the anon_vma but not this folio (a moved area's old place).
		 */
		pt_pte_unlock(desc);
		return true;
	}
	if (mapped == total && folio_freeze(f, mapped + 1)) {
		/* Page 0 carries the lock that the caller holds: it lives on even if nothing maps
		 * it. */
		refs[0] = max(refs[0], 1u);
		phys_split_frozen(ctx->q, f, refs);
		for (u32 i = 0; i < nr; i++)
			if (refs[i]) {
				folio_clear(folio_page(f, i), PG_PARTIAL);
				list_add_tail(&folio_page(f, i)->lru, ctx->out);
			}
		ctx->result = 0;
	} else {
		ctx->result = -EBUSY;
	}
	pt_pte_unlock(desc);
	return false;
}

int rmap_split_folio(struct quire *q, struct folio *f, struct list *out)
{
	struct split_ctx ctx = { .q = q, .out = out, .result = -EAGAIN };

	lock_assert_held(&f->flags);
	DEBUG_ON(folio_test(f, PG_SWAPCACHE) || folio_test(f, PG_LRU));
	if (!folio_is_anon(f) || !f->order)
		return -EBUSY;
	rmap_walk(q, f, split_one, &ctx);
	if (!ctx.result) {
		stat_inc(q, STAT_THP_SPLIT);
		folio_unlock(f);
	}
	return ctx.result;
}
