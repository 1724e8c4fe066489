/*
 * unmap.c - tearing entries down: zap, and munmap over it.
 *
 * The order is gather.h's: entries are cleared and dirty bits carried to the folios under the entry
 * lock; the flush follows (under the lock where the machine needs it, else when the gather is
 * flushed); references are dropped after it.
 *
 * A dirty entry of an object's page counts as a mapping until it has been flushed, inside the same
 * entry-lock section (delayed removal, Linux 5df397de; rmap.h, rmap_mkclean, has the picture).
 */
#include "space/space_internal.h"

struct zap {
	struct quire *q;
	struct space *s;
	struct gather *g;
	bool home;        /* vma_home */
	bool object;      /* of an object: some pages are its own */
	bool keep_copies; /* only objects' own pages go; what is anonymous stays */
	bool full;        /* the gather is to be flushed before it gets more */
	u64 pages;
	u64 swaps;
	struct folio *wait; /* a cached folio in the way, locked by somebody; with a reference */
};

#define ZAP_SWAP_RUN 32u

/* Present entries from p on that map consecutive pages of one folio: cleared, queued. Returns how
 * many. */
static u32 zap_present(struct zap *z, pte_t *p, u64 va, u32 max, u64 first)
{
	struct folio *page = phys_record(z->q, entry_pfn(first)), *f = folio_head(page);
	u32 idx = (u32)(page - f), n = 0, room = min(max, folio_nr(f) - idx);
	bool dirty = false, anon = !z->object || folio_is_anon(f), delay;

	if (z->keep_copies && anon)
		return 1;
	while (n < room) {
		u64 e = pte_get(p + n);

		if (!pte_present(e) || entry_pfn(e) != entry_pfn(first) + n)
			break;
		dirty |= pte_dirty(pte_get_and_clear(p + n));
		n++;
	}
	if (dirty && mech_on(z->q, MECH_DIRTY_TO_FOLIO)) {
		if (anon)
			folio_set(f, PG_DIRTY);
		else
			object_mark_dirty(f);
	}
	delay = dirty && !anon && mech_on(z->q, MECH_DELAYED_RMAP);
	if (!delay)
		folio_remove_rmap_ptes(z->q, f, idx, n);
	/* The rest of a large folio, or another space, may have it in areas that are not locked,
	 * and an object's page lives on without entries; if it is in a locked area, unmapping for
	 * reclaim finds out. */
	if (unlikely(folio_test(f, PG_MLOCKED)) && (!anon || n < folio_nr(f) || folio_mapped(f))) {
		a64_fetch_and(&f->flags, ~(PGF(MLOCKED) | PGF(UNEVICTABLE)));
		if (lru_isolate(z->q, f))
			lru_putback(z->q, f);
	}
	gather_note_range(z->g, va, (u64)n << PAGE_SHIFT);
	z->full = gather_folio_pages(z->g, page, n, delay);
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

/* A page that moves: who moves it finds its entry gone. */
static void zap_moving(struct zap *z, pte_t *p, u64 e)
{
	if ((z->keep_copies && !(e & SWP_OBJECT)) || !mech_on(z->q, MECH_MIGRATE_ZAP))
		return;
	pte_set(p, 0);
	z->pages++;
}

/* One locked stretch inside one table. Returns the address reached. */
static u64 zap_table(struct zap *z, pte_t *p, struct ptdesc *desc, u64 va, u64 end)
{
	u64 start = va;

	rmap_flush_batched(&z->s->fs.rs);
	while (va < end && !z->full && !z->wait) {
		u32 max = (u32)((end - va) >> PAGE_SHIFT), n = 1;
		u64 e = pte_get(p);

		if (pte_present(e) && !pte_special(e)) {
			n = zap_present(z, p, va, max, e);
		} else if (pte_special(e)) {
			pte_get_and_clear(p);
			gather_note_range(z->g, va, PAGE_SIZE);
		} else if (pte_is_migration(e)) {
			zap_moving(z, p, e);
		} else if (pte_is_swap(e) && !z->keep_copies) {
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
	return va;
}

/* Until r is done, the gather is full, or a folio is to be waited for. Returns the address reached.
 * LOCKING: the area stands still. */
static u64 zap_range(struct zap *z, struct range r)
{
	struct rmap_space *rs = &z->s->fs.rs;
	u64 va = r.start;

	z->pages = z->swaps = 0;
	while (va < r.end && !z->full && !z->wait) {
		u64 end = min(ALIGN_DOWN(va, PMD_SIZE) + PMD_SIZE, r.end);
		struct ptdesc *desc;
		pte_t *p = pt_pte_lock(&rs->pgt, va, &desc);

		va = p ? zap_table(z, p, desc, va, end) : end;
	}
	a64_sub(&rs->rss_pages, z->pages);
	a64_sub(&rs->swap_entries, z->swaps);
	TRACE(z->q, EV_ZAP, r.start, va, z->pages);
	return va;
}

/* What stopped zap_range. LOCKING: no lock above FOLIO. */
static void zap_resume(struct zap *z)
{
	if (z->wait) {
		folio_lock(z->wait);
		folio_unlock(z->wait);
		folio_put(z->q, z->wait);
	}
	z->wait = NULL;
	z->full = false;
}

void space_zap(struct quire *q, struct space *s, struct gather *g, struct vma *v, struct range r)
{
	struct zap z = {
		.q = q,
		.s = s,
		.g = g,
		.home = vma_home(v),
		.object = v->object != NULL,
	};

	while (r.start < r.end) {
		r.start = zap_range(&z, r);
		if (z.full)
			gather_flush(g);
		zap_resume(&z);
	}
}

/* ---- all mappings of a range of an object ---- */

/* The part of v that shows pages [first, last]. LOCKING: the object's mmap lock. */
static struct range part_of(struct vma *v, u64 first, u64 last)
{
	struct itree_node *n = &v->in_object;

	return (struct range){ vma_index_va(v, max(first, n->start)),
			       vma_index_va(v, min(last, n->last)) + PAGE_SIZE };
}

/*
 * One walk over the areas, until all of it is done (true) or something is to be done without the
 * lock. An area and its space live while the area is in the tree, so what is left of a space is
 * invalidated before the lock is dropped.
 */
static bool unmap_walk(struct zap *z, struct object *o, u64 first, u64 last)
{
	bool done = true;

	rwsem_read_lock(&o->mmap);
	for (struct itree_node *it = itree_first(&o->areas, first, last); it && done;
	     it = itree_next(&o->areas, it, first, last)) {
		struct vma *v = container_of(it, struct vma, in_object);
		struct range r = part_of(v, first, last);

		z->s = v->space;
		z->home = vma_home(v);
		z->object = true;
		gather_enter(z->g, &z->s->fs.rs);
		done = zap_range(z, r) == r.end && !z->full && !z->wait;
		gather_leave(z->g);
	}
	rwsem_read_unlock(&o->mmap);
	return done;
}

/*
 * Why one pass is enough: new entries of the object's pages need `invalidate`, which the caller
 * holds for writing; copies that replace an entry are met as one or the other; and a child that is
 * forked meanwhile inherits copies either before its parent's are zapped, and comes behind the
 * parent in the tree (areas of equal start are in the order in which they were attached), or not at
 * all.
 */
void space_unmap_object(struct quire *q, struct object *o, u64 first, u64 last, bool even_cows)
{
	struct gather g;
	struct zap z = { .q = q, .g = &g, .keep_copies = !even_cows };
	bool done;

	do {
		gather_begin(q, &g, NULL, false);
		done = unmap_walk(&z, o, first, last);
		gather_end(&g);
		zap_resume(&z);
	} while (!done);
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
