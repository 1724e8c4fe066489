/*
 * hint.c - present entries become hints (pte.h), so that the next use of their pages is noticed.
 *
 *   T1: make a hint                        T2: pin_fast, which holds no lock
 *   clear the entry                        reads the entry
 *   (full barrier)                         adds the pin (full barrier)
 *   pinned? then put it back               entry still the same? else drop the pin
 *   write the hint; flush or park
 *
 * So what is pinned stays where it is accessible.
 */
#include "rmap/rmap_internal.h"

struct hinting {
	struct quire *q;
	struct rmap_space *rs;
	unsigned stamp;
	unsigned tier; /* only pages on nodes of this tier or a higher */
	u64 pfn;       /* 0: any; else of the first entry, the others' follow */
	u32 made;
	unsigned node; /* of the last that was made */
};

static bool may_hint(const struct hinting *h, u64 e, u32 i)
{
	struct folio *f;

	if (!entry_present(e) || pte_special(e) || (e & ENTRY_SHARED) ||
	    (h->pfn && entry_pfn(e) != h->pfn + i))
		return false;
	f = folio_head(phys_record(h->q, entry_pfn(e)));
	return folio_is_anon(f) && phys_tier(h->q, folio_node(f)) >= h->tier &&
	       !(folio_maybe_pinned(f) && mech_on(h->q, MECH_HINT_NOT_PINNED));
}

/* LOCKING: entry lock. True: it is a hint now, not yet flushed. */
static bool make_hint(const struct hinting *h, pte_t *p, u32 i)
{
	u64 e = pte_get(p);

	if (!may_hint(h, e, i))
		return false;
	e = pte_get_and_clear(p);
	smp_mb();
	if (mech_on(h->q, MECH_HINT_NOT_PINNED) &&
	    folio_maybe_pinned(folio_head(phys_record(h->q, entry_pfn(e))))) {
		pte_set(p, e);
		return false;
	}
	pte_set(p, pte_mk_hint(e & ~ENTRY_ACCESSED, h->stamp));
	return true;
}

/* n pages from va on, of consecutive frames from that of e on, have lost their entries. LOCKING:
 * entry lock. */
static void take_away(struct hinting *h, u64 va, u64 e, u32 n)
{
	struct machine *m = h->q->machine;
	struct tlb_range r = { va, va + ((u64)n << PAGE_SHIFT), FLUSH_NO_ACCESS, false, false };

	/* Should it fail, their use is not noticed. */
	if (frame_is_home(m, entry_pfn(e)))
		(void)!m->ops->frames_park(m, entry_pfn(e), n);
	else
		tlb_flush_range(&h->rs->tlb, r);
	h->made += n;
	h->node = folio_node(phys_folio(h->q, entry_pfn(e)));
}

/* n entries inside one table. */
static void hint_table(struct hinting *h, u64 va, u32 n)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&h->rs->pgt, va, &desc);
	u64 first = 0;
	u32 len = 0;

	if (!p)
		return;
	for (u32 i = 0; i <= n; i++) {
		bool hint = i < n && make_hint(h, p + i, i);

		if (len && (!hint || entry_pfn(pte_get(p + i)) != entry_pfn(first) + len)) {
			take_away(h, va + ((u64)(i - len) << PAGE_SHIFT), first, len);
			len = 0;
		}
		if (hint && !len++)
			first = pte_get(p + i);
		else if (hint)
			continue;
	}
	pt_pte_unlock(desc);
}

u32 rmap_hint_range(struct quire *q, struct rmap_space *rs, u64 va, u32 n, unsigned tier,
		    unsigned stamp, unsigned *node)
{
	struct hinting h = { .q = q, .rs = rs, .stamp = stamp, .tier = tier };

	hint_table(&h, va, min(n, PTRS_PER_TABLE - entry_index(va, 0)));
	*node = h.node;
	return h.made;
}

struct hint_walk {
	struct hinting h;
	u32 nr;
};

static bool hint_one(void *arg, struct folio *f, struct vma *v, u64 va)
{
	struct hint_walk *w = arg;
	u64 pfn = folio_pfn(w->h.q, f);

	w->h.rs = vma_rmap_space(v);
	for (u32 i = 0, n; i < w->nr; i += n) {
		u64 at = va + ((u64)i << PAGE_SHIFT);

		n = min(w->nr - i, PTRS_PER_TABLE - entry_index(at, 0));
		w->h.pfn = pfn + i;
		hint_table(&w->h, at, n);
	}
	return true;
}

u32 rmap_hint_folios(struct quire *q, struct folio *f, u32 nr, unsigned stamp)
{
	struct hint_walk w = { .h = { .q = q, .stamp = stamp }, .nr = nr };

	DEBUG_ON(nr != folio_nr(f) && !frame_is_home(q->machine, folio_pfn(q, f)));
	rmap_walk(q, f, hint_one, &w);
	return w.h.made;
}
