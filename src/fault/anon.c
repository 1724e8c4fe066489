/*
 * anon.c - first touch of anonymous memory, and writes to entries that are not writable.
 *
 * First touch fills a block around the address with one large folio. How large is learnt: a touch
 * that continues the previous block doubles the next one, a lone touch stays small, so that sparse
 * programs do not pay for memory they never use.
 */
#include "fault/fault_internal.h"

unsigned fault_touch_order(struct fc *c)
{
	u32 hint = a32_read(&c->v->touch_order);
	u64 last = a64_read(&c->v->last_touch);
	u64 span = PAGE_SIZE << max(hint, TOUCH_ORDER_MIN);

	if (c->vf & VM_RAND_READ)
		return 0;
	if (c->va >= last && c->va - last < span)
		hint = min(hint + 2, TOUCH_ORDER_MAX);
	else if (hint > TOUCH_ORDER_MIN)
		hint--;
	hint = max(hint, TOUCH_ORDER_MIN);
	a32_set(&c->v->touch_order, hint);
	return hint;
}

/* The largest block of at most `order` around va inside the area with no entries yet (a look
 * without the lock). */
static unsigned clip_order(struct fc *c, unsigned order, u64 *start)
{
	for (; order; order--) {
		u64 size = PAGE_SIZE << order, at = ALIGN_DOWN(c->va, size);
		bool free = at >= vma_start(c->v) && at + size <= vma_end(c->v);
		pte_t *p;

		if (!free)
			continue;
		qrcu_read_lock();
		p = pt_pte_peek(&c->fs->rs.pgt, at);
		for (u32 i = 0; p && free && i < 1u << order; i++)
			free = pte_none(pte_get(p + i));
		qrcu_read_unlock();
		if (free) {
			*start = at;
			return order;
		}
	}
	*start = c->va;
	return 0;
}

static void zero_frames(struct fc *c, struct folio *f)
{
	struct machine *m = fc_machine(c);
	u64 pfn = folio_pfn(c->q, f);
	void *buf = m->ops->fill_begin(m, pfn, folio_nr(f));

	__builtin_memset(buf, 0, PAGE_SIZE << f->order);
	m->ops->fill_end(m, pfn, folio_nr(f), buf);
}

/* The machine fills a new page with zeroes itself: a home frame, or one that reads as zero since it
 * was released. */
static bool released_is_zero(const struct fc *c)
{
	return c->home || machine_has(fc_machine(c), CAP_PLAIN);
}

/* Map a new zeroed folio at start. FAULT_AGAIN: an entry appeared meanwhile. LOCKING: none but the
 * area. */
static int map_new(struct fc *c, struct folio *f, u64 start)
{
	u32 nr = folio_nr(f);
	u64 entries[TOUCH_PAGES_MAX];
	bool writable = c->vf & VM_WRITE;
	u64 bits = fault_entry_bits(c, writable, fc_write(c)), pfn = folio_pfn(c->q, f);
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, start, &desc);
	int err;

	if (!p)
		return FAULT_AGAIN;
	for (u32 i = 0; i < nr; i++) {
		if (!pte_none(pte_get(p + i))) {
			pt_pte_unlock(desc);
			return FAULT_AGAIN;
		}
		entries[i] = pte_mk(pfn + i, bits);
	}
	folio_add_new_anon_rmap(c->q, f, c->v, start);
	/* No stored copy exists: whatever the entries say later, the bytes are only here. */
	a64_fetch_or(&f->flags, PGF(DIRTY));
	/* One for each entry, on top of the caller's: once the entry lock is dropped another thread
	 * may zap them all (MADV_DONTNEED). */
	folio_get_nr(f, nr);
	for (u32 i = 0; i < nr; i++)
		pte_set(p + i, entries[i]);
	err = fault_install(c, start, entries, nr, NULL, released_is_zero(c), false);
	if (unlikely(err)) {
		for (u32 i = 0; i < nr; i++)
			pte_set(p + i, 0);
		folio_remove_rmap_ptes(c->q, f, 0, nr);
		pt_pte_unlock(desc);
		folio_put_nr(c->q, f, nr);
		return err == -EAGAIN ? FAULT_AGAIN : err;
	}
	a64_add(&c->fs->rs.rss_pages, nr);
	pt_pte_unlock(desc);
	return FAULT_DONE;
}

static int map_zero_page(struct fc *c)
{
	struct ptdesc *desc;
	pte_t *p;
	u64 e = pte_mk(c->q->fault->zero_pfn, fault_entry_bits(c, false, false) | ENTRY_SPECIAL);
	int err = pt_pte_alloc(&c->fs->rs.pgt, c->va);

	if (err)
		return err;
	p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	if (!p)
		return FAULT_AGAIN;
	if (pte_none(pte_get(p))) {
		pte_set(p, e);
		err = fault_install(c, c->va, &e, 1, NULL, false, false);
		if (err)
			pte_set(p, 0);
		else
			stat_inc(c->q, STAT_FAULT_MINOR);
	}
	pt_pte_unlock(desc);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

/* Does the folio (locked) still own the frame of this address? */
static bool owns_frame(struct fc *c, struct folio *f)
{
	struct folio *rec = phys_record(c->q, c->va >> PAGE_SHIFT);

	return rec && a32_read(&f->ref) && folio_head(rec) == f;
}

/* The bytes of a swapped page into a buffer for the frame at the fault's address. NULL with *err.
 */
static void *read_swapped(struct fc *c, u64 entry, int *err)
{
	struct machine *m = fc_machine(c);
	u64 slot = swp_slot(entry), pfn = c->va >> PAGE_SHIFT;
	void *fill = m->ops->fill_begin(m, pfn, 1);

	*err = -ENOMEM;
	if (!fill)
		return NULL;
	/* The entry's count keeps the slot; should the entry go meanwhile, what was read is dropped
	 * below. */
	swap_read(c->q, &slot, 1, &fill, err);
	if (!*err)
		return fill;
	m->ops->fill_end(m, pfn, 1, fill);
	if (*err == -EAGAIN)
		*err = FAULT_AGAIN;
	return NULL;
}

/* Map page `i` of a live folio again, with zeroes or what its swap entry names. LOCKING: folio
 * locked, and the caller keeps its reference for as long: the entry may be zapped as soon as its
 * lock is dropped. */
static int remap_live(struct fc *c, struct folio *f, u32 i, u64 entry)
{
	struct machine *m = fc_machine(c);
	u64 e = pte_mk(c->va >> PAGE_SHIFT, fault_entry_bits(c, c->vf & VM_WRITE, fc_write(c)));
	struct ptdesc *desc;
	void *fill = NULL;
	pte_t *p;
	int err;

	if (entry) {
		fill = read_swapped(c, entry, &err);
		if (!fill)
			return err;
	}
	if (folio_test(f, PG_SWAPCACHE) && !swap_try_free_folio(c->q, f))
		swap_invalidate_copy(c->q, f);
	err = -EAGAIN;
	p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	if (!p)
		goto out;
	if (pte_get(p) != entry)
		goto out_unlock;
	/* Its mapping is the space's one anon_vma already (rmap.h), its index the address. */
	DEBUG_ON(aptr_read(&f->mapping) && f->index + i != c->va >> PAGE_SHIFT);
	/* A folio that another fault has allocated and not mapped yet: only this page of it will
	 * be. */
	if (f->order && !aptr_read(&f->mapping))
		folio_set(f, PG_PARTIAL);
	folio_get(f);
	folio_add_anon_rmap_ptes(c->q, f, i, 1, c->v, c->va);
	/* What it was before it was unmapped is over. */
	a64_fetch_and(&f->flags,
		      ~(PGF(LAZYFREE) | (c->vf & VM_LOCKED ? 0 : PGF(MLOCKED) | PGF(UNEVICTABLE))));
	a64_fetch_or(&f->flags, PGF(DIRTY) | PGF(SWAPBACKED) | PGF(UPTODATE));
	folio_set(folio_page(f, i), PG_ANON_EXCLUSIVE);
	if (entry)
		meta_restore(c->q, &c->fs->rs, c->va, entry_pfn(e), swp_slot(entry));
	pte_set(p, e);
	err = fault_install(c, c->va, &e, 1, fill, !fill, false);
	if (err) {
		pte_set(p, entry);
		folio_remove_rmap_ptes(c->q, f, i, 1);
		a32_fetch_add(&f->ref, (u32)-1); /* the caller's remains */
		goto out_unlock;
	}
	a64_add(&c->fs->rs.rss_pages, 1);
	if (entry) {
		a64_sub(&c->fs->rs.swap_entries, 1);
		swap_put(c->q, swp_slot(entry), 1);
	}
out_unlock:
	pt_pte_unlock(desc);
out:
	if (fill)
		m->ops->fill_end(m, c->va >> PAGE_SHIFT, 1, fill);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

/*
 * The home frame is not free. Either a live folio still has it (this page of it was unmapped while
 * other pages, a pin or reclaim keep the folio): then the page comes back into that folio. Or it is
 * being released: look again.
 *
 *   T1: fault                              T2: reclaim, unmap, unpin
 *   record -> head; try to get a reference last reference -> 0: the try-get fails
 *   lock the folio (waits for write-out)   holds the folio lock while it works on it
 *   still the owner? entry unchanged?
 *
 * `entry`: 0 at a first touch; else the swap entry of a page that was moved to this address by
 * mremap.
 */
int fault_home_busy(struct fc *c, u64 entry)
{
	struct folio *rec = phys_record(c->q, c->va >> PAGE_SHIFT), *f;
	int r;

	/* A plain frame that is being released: another one is not worth its place. */
	if (!c->home)
		return FAULT_AGAIN;
	stat_inc(c->q, STAT_FAULT_HOME_BUSY);
	if (!rec)
		return FAULT_AGAIN;
	f = folio_head(rec);
	if (!folio_try_get(f))
		return FAULT_AGAIN;
	folio_lock(f);
	/* Cached for this very entry: that is swapin_cached's. */
	if (!owns_frame(c, f) || folio_head(rec) != f ||
	    (entry && folio_test(f, PG_SWAPCACHE) && swp_slot(entry) - f->swap < folio_nr(f))) {
		folio_unlock(f);
		folio_put(c->q, f);
		return FAULT_AGAIN;
	}
	r = remap_live(c, f, (u32)(rec - f), entry);
	folio_unlock(f);
	folio_put(c->q, f);
	if (!r)
		stat_inc(c->q, entry ? STAT_FAULT_MAJOR : STAT_FAULT_MINOR);
	return r;
}

int fault_do_anon(struct fc *c)
{
	bool zero = !fc_write(c) && c->q->fault->zero && !(c->vf & VM_LOCKED) &&
		    !(c->access & ACCESS_REMOTE);
	unsigned order;
	struct folio *f;
	u64 start;
	int err;

	if (zero)
		return map_zero_page(c);
	order = clip_order(c, fault_touch_order(c), &start);
	err = pt_pte_alloc(&c->fs->rs.pgt, c->va);
	if (err)
		return err;
	err = fault_alloc_at(c, start, order, &f);
	if (err && order) {
		start = c->va;
		err = fault_alloc_at(c, start, 0, &f);
	}
	if (err == -EBUSY)
		return fault_home_busy(c, 0);
	if (err)
		return err;
	if (!released_is_zero(c))
		zero_frames(c, f);
	err = map_new(c, f, start);
	if (err) {
		fault_free_folio(c->q, f);
		return err;
	}
	a64_set(&c->v->last_touch, start + (PAGE_SIZE << f->order));
	stat_inc(c->q, STAT_FAULT_MINOR);
	stat_add(c->q, STAT_FIRST_TOUCH_PAGES, folio_nr(f));
	if (c->vf & VM_LOCKED)
		a64_fetch_or(&f->flags, PGF(UNEVICTABLE) | PGF(MLOCKED));
	lru_add(c->q, f);
	fault_lease(c, folio_node(f), start, folio_nr(f));
	folio_put(c->q, f);
	return FAULT_DONE;
}
