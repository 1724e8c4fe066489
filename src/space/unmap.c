/*
 * unmap.c - tearing entries down: zap, and munmap over it.
 *
 * The order is gather.h's: entries are cleared and dirty bits carried to the folios under the entry
 * lock; the flush follows (under the lock where the machine needs it, else when the gather is
 * flushed); references are dropped after it.
 */
#include "space/space_internal.h"

struct zap {
	struct quire *q;
	struct space *s;
	struct gather *g;
	bool home; /* vma_home */
	u64 pages;
	u64 swaps;
	struct folio *wait; /* a cached folio in the way, locked by somebody; with a reference */
};

#define ZAP_SWAP_RUN 32u

/* Present entries from p on that map consecutive pages of one folio: cleared, queued. Returns how
 * many. */
static u32 zap_present(struct zap *z, pte_t *p, u64 va, u32 max, u64 first, bool *full)
{
	struct folio *page = phys_record(z->q, entry_pfn(first)), *f = folio_head(page);
	u32 idx = (u32)(page - f), n = 0, room = min(max, folio_nr(f) - idx);
	bool dirty = false;

	while (n < room) {
		u64 e = pte_get(p + n);

		if (!pte_present(e) || entry_pfn(e) != entry_pfn(first) + n)
			break;
		dirty |= pte_dirty(pte_get_and_clear(p + n));
		n++;
	}
	if (dirty && mech_on(z->q, MECH_DIRTY_TO_FOLIO))
		folio_set(f, PG_DIRTY);
	folio_remove_rmap_ptes(z->q, f, idx, n);
	/* The rest of a large folio, or another space, may have it in areas that are not locked; if
	 * it is in one, unmapping for reclaim finds out. */
	if (unlikely(folio_test(f, PG_MLOCKED)) && (n < folio_nr(f) || folio_mapped(f))) {
		a64_fetch_and(&f->flags, ~(PGF(MLOCKED) | PGF(UNEVICTABLE)));
		if (lru_isolate(z->q, f))
			lru_putback(z->q, f);
	}
	gather_note_range(z->g, va, (u64)n << PAGE_SHIFT);
	*full = gather_folio_pages(z->g, page, n, false);
	z->pages += n;
	return n;
}

/*
 * A folio may still be cached for a slot that no entry names any more: it is dropped with it. It is
 * locked before the entry is cleared: while reclaim writes it out its bytes must stay (a home
 * address is emptied when its entry goes). Returns the folio that somebody has locked, with a
 * reference, to be waited for without the entry lock; the caller's array receives the locked ones.
 */
struct cached {
	struct folio *folio[ZAP_SWAP_RUN];
	u32 n;
};

static struct folio *cached_lock(struct quire *q, struct cached *c, u64 slot)
{
	struct folio *f = swap_lookup(q, slot);

	if (!f)
		return NULL;
	if (c->n && c->folio[c->n - 1] == f) {
		folio_put(q, f);
		return NULL;
	}
	if (!folio_trylock(f))
		return f;
	c->folio[c->n++] = f;
	return NULL;
}

static void cached_drop(struct quire *q, struct cached *c)
{
	for (u32 i = 0; i < c->n; i++) {
		struct folio *f = c->folio[i];

		if (folio_test(f, PG_SWAPCACHE) && !folio_mapped(f))
			swap_try_free_folio(q, f);
		folio_unlock(f);
		folio_put(q, f);
	}
}

/* Swap entries with consecutive slots. Returns how many; fewer with z->wait set when a cached folio
 * is locked. LOCKING: entry lock. */
static u32 zap_swap(struct zap *z, pte_t *p, u32 max, u64 first)
{
	struct cached cached = { .n = 0 };
	u64 slot = swp_slot(first);
	u32 n = 0;

	max = min(max, ZAP_SWAP_RUN);
	while (n < max) {
		u64 e = pte_get(p + n);

		if (!pte_is_swap(e) || swp_type(e) != SWP_STORE || swp_slot(e) != slot + n)
			break;
		z->wait = cached_lock(z->q, &cached, slot + n);
		if (z->wait)
			break;
		pte_set(p + n, 0);
		n++;
	}
	if (n) {
		swap_put(z->q, slot, n);
		z->swaps += n;
	}
	cached_drop(z->q, &cached);
	return n;
}

/* One locked stretch inside one table. Returns the address reached. */
static u64 zap_table(struct zap *z, pte_t *p, struct ptdesc *desc, u64 va, u64 end)
{
	u64 start = va;
	bool full = false;

	rmap_flush_batched(&z->s->fs.rs);
	z->wait = NULL;
	while (va < end && !full && !z->wait) {
		u32 max = (u32)((end - va) >> PAGE_SHIFT), n = 1;
		u64 e = pte_get(p);

		if (pte_present(e) && !pte_special(e)) {
			n = zap_present(z, p, va, max, e, &full);
		} else if (pte_special(e)) {
			pte_get_and_clear(p);
			gather_note_range(z->g, va, PAGE_SIZE);
		} else if (pte_is_swap(e)) {
			n = zap_swap(z, p, max, e);
		}
		va += (u64)n << PAGE_SHIFT;
		p += n;
	}
	/* All of it, not only what was present: a page that reclaim has swapped out or just dropped
	 * (lazily freed) can be read at its home address until its frame is released. */
	if (z->home && va > start)
		gather_note_range(z->g, start, va - start);
	gather_flush_before_unlock(z->g);
	pt_pte_unlock(desc);
	if (full)
		gather_flush(z->g);
	if (z->wait) {
		folio_lock(z->wait);
		folio_unlock(z->wait);
		folio_put(z->q, z->wait);
	}
	return va;
}

void space_zap(struct quire *q, struct space *s, struct gather *g, struct vma *v, struct range r)
{
	struct zap z = { .q = q, .s = s, .g = g, .home = vma_home(v) };
	u64 va = r.start;

	while (va < r.end) {
		u64 end = min(ALIGN_DOWN(va, PMD_SIZE) + PMD_SIZE, r.end);
		struct ptdesc *desc;
		pte_t *p = pt_pte_lock(&s->fs.rs.pgt, va, &desc);

		va = p ? zap_table(&z, p, desc, va, end) : end;
	}
	a64_sub(&s->fs.rs.rss_pages, z.pages);
	a64_sub(&s->fs.rs.swap_entries, z.swaps);
	TRACE(q, EV_ZAP, r.start, r.end, z.pages);
}

static void table_sink(void *ctx, struct ptdesc *desc)
{
	gather_table(ctx, desc);
}

/* Entries first, then the area: while a folio is mapped its anon_vma must live (rmap.h). */
static void unmap_area(struct quire *q, struct space *s, struct gather *g, struct vma *v)
{
	struct machine *m = q->machine;
	struct range r = { vma_start(v), vma_end(v) };
	u64 vf = vma_flags(v);

	vma_write_lock(v);
	if (!(vf & VM_FOREIGN))
		space_zap(q, s, g, v, r);
	/* Reserved by the caller: cannot fail. */
	BUG_ON(vma_remove(&s->fs.vmas, v));
	m->ops->area_unmap(m, s->ms, r, vma_prot_bits(vf));
	if ((vf & VM_FOREIGN) && machine_has(m, CAP_HOME))
		phys_unbar(q, r.start >> PAGE_SHIFT, range_size(r) >> PAGE_SHIFT);
}

void space_unmap_cut(struct quire *q, struct space *s, struct range r)
{
	struct vma *v = vma_find_first(&s->fs.vmas, r.start), *next;
	struct vma *prev = vma_find_prev(&s->fs.vmas, r.start);
	u64 floor = prev ? vma_end(prev) : 0;
	struct gather g;

	gather_begin(q, &g, &s->fs.rs, false);
	for (; v && vma_start(v) < r.end; v = next) {
		next = vma_next(&s->fs.vmas, v);
		unmap_area(q, s, &g, v);
	}
	pt_unhook_tables(&s->fs.rs.pgt, r, floor, v ? vma_start(v) : 1ull << VA_BITS, table_sink,
			 &g);
	gather_end(&g);
}

int space_unmap_locked(struct quire *q, struct space *s, struct range r)
{
	int err = space_cut(q, s, r, 0);

	if (!err)
		space_unmap_cut(q, s, r);
	rangemap_unreserve(&s->fs.vmas.map);
	return err;
}

int space_unmap(struct quire *q, struct space *s, u64 start, u64 size)
{
	int err;

	if (!space_range_ok(s, start, &size))
		return -EINVAL;
	space_write_lock(&s->fs.vmas);
	err = space_unmap_locked(q, s, mk_range(start, size));
	space_write_unlock(&s->fs.vmas);
	qrcu_poll(q);
	return err;
}
