/*
 * wp.c - a write to a present entry that is not writable, in an area that may be written; or a read
 * that wants the page for its own (a pin).
 *
 * The rule of exclusivity (Linux 6c287605): an exclusive page is written in place. A page that was
 * shared becomes exclusive again when its one entry's reference is the only one that is left, which
 * is looked at under the folio lock and the entry lock (Linux 09854ba9):
 *
 *   T1: write fault in A                  T2: B, which had it too
 *                                         unmap: clear the entry (mapped once now)
 *   folio lock; not in the swap cache     another CPU still reads it by its TLB
 *   entry lock; references: the entry's
 *   and ours? no, T2's is left: copy
 *                                         flush; drop the reference
 *
 * A swap entry of B keeps the folio in the swap cache, which is a reference too, unless there is a
 * stored copy that B can have (leave_cache); who is about to map or to copy it has one. Nobody gets
 * a new one then: no entry, no slot leads to it but ours.
 * A large folio is taken over as a whole, when all its references are entries of this area in one
 * table. Any other page is copied. The order when the entry moves to another frame is clear, flush,
 * set (Linux 0f10851e), all under the entry lock, so that no CPU or device sees the new bytes first
 * and the old ones later.
 */
#include "fault/fault_internal.h"

/* Raise the entry's rights. LOCKING: entry lock. The machine may set A/D bits meanwhile, hence or,
 * not set. */
static int make_writable(struct fc *c, pte_t *p, struct ptdesc *desc)
{
	u64 bits = ENTRY_WRITE | ENTRY_ACCESSED | ENTRY_DIRTY, before, e;
	int err;

	before = a64_fetch_or(p, bits);
	e = pte_get(p);
	err = fault_install(c, c->va, &e, 1, NULL, false, false);
	if (err)
		a64_fetch_and(p, ~(bits & ~before));
	else if (!pte_dirty(before))
		desc->wp_faults++;
	return err;
}

/* Written in place from now on: the stored copy is void. Only a try-lock: the entry lock ranks
 * behind the folio's. */
static void drop_copy(struct fc *c, struct folio *f)
{
	folio_set(f, PG_DIRTY);
	if (folio_test(f, PG_SWAPCACHE) && folio_trylock(f)) {
		if (folio_test(f, PG_SWAPCACHE) && !swap_try_free_folio(c->q, f))
			swap_invalidate_copy(c->q, f);
		folio_unlock(f);
	}
}

static int reuse(struct fc *c, u64 entry)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	struct folio *f;
	bool exclusive;
	int err;
	u64 e;

	if (!p)
		return FAULT_AGAIN;
	e = pte_get(p);
	if ((e ^ entry) & ~(ENTRY_ACCESSED | ENTRY_DIRTY) || !entry_present(e)) {
		pt_pte_unlock(desc);
		return FAULT_AGAIN;
	}
	f = phys_folio(c->q, entry_pfn(e));
	exclusive = page_exclusive(phys_record(c->q, entry_pfn(e)));
	if (!exclusive || !fc_write(c)) {
		pt_pte_unlock(desc);
		return exclusive ? 0 : -EXDEV;
	}
	err = make_writable(c, p, desc);
	if (!err) {
		if (folio_test(f, PG_LAZYFREE))
			a64_fetch_and(&f->flags, ~PGF(LAZYFREE));
		drop_copy(c, f);
		stat_inc(c->q, STAT_FAULT_WP);
		stat_inc(c->q, STAT_FAULT_MINOR);
	}
	pt_pte_unlock(desc);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

int fault_copy_bytes(struct quire *q, struct folio *to, u64 from_pfn)
{
	u64 pfn = folio_pfn(q, to);
	u32 nr = folio_nr(to);

	if (phys_copy_frames(q, pfn, from_pfn, nr, folio_object(phys_folio(q, from_pfn))))
		return -ENOMEM;
	meta_copy(q, pfn, from_pfn, nr);
	return 0;
}

/* Swap the entry to the new folio. LOCKING: none but the area. */
static int move_entry(struct fc *c, u64 entry, struct folio *old, struct folio *new)
{
	u64 e = pte_mk(folio_pfn(c->q, new), fault_entry_bits(c, fc_write(c), true)), was;
	struct tlb_range r = { c->va, c->va + PAGE_SIZE, FLUSH_NO_ACCESS, false, false };
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	int err;

	if (!p)
		return FAULT_AGAIN;
	was = pte_get(p);
	/* Exclusive by now: another thread has it pinned perhaps. */
	if (((was ^ entry) & ~(ENTRY_ACCESSED | ENTRY_DIRTY)) ||
	    (old && page_exclusive(phys_record(c->q, entry_pfn(was))))) {
		pt_pte_unlock(desc);
		return FAULT_AGAIN;
	}
	was = pte_get_and_clear(p);
	if (mech_on(c->q, MECH_COW_FLUSH))
		tlb_flush_range(&c->fs->rs.tlb, r);
	/* The entry's reference, on top of the caller's: once the entry lock is dropped the entry
	 * may be zapped. */
	folio_get(new);
	folio_add_new_anon_rmap(c->q, new, c->v, c->va);
	folio_set(new, PG_DIRTY);
	pte_set(p, e);
	err = fault_install(c, c->va, &e, 1, NULL, false, false);
	if (err) {
		pte_set(p, was);
		folio_remove_rmap_ptes(c->q, new, 0, 1);
		folio_put(c->q, new);
	} else if (old) {
		folio_remove_rmap_ptes(c->q, old, (u32)(entry_pfn(was) - folio_pfn(c->q, old)), 1);
	} else {
		a64_add(&c->fs->rs.rss_pages, 1);
	}
	pt_pte_unlock(desc);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

struct folio *fault_hold_mapped(struct fc *c, u64 entry)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	struct folio *f = NULL;

	if (!p)
		return NULL;
	if (entry_pfn(pte_get(p)) == entry_pfn(entry) && entry_present(pte_get(p))) {
		f = phys_folio(c->q, entry_pfn(entry));
		folio_get(f);
	}
	pt_pte_unlock(desc);
	return f;
}

/* The entries of this area and table that map pages of f where they belong; p is that of c->va. */
static u32 own_entries(struct fc *c, struct folio *f, const pte_t *p)
{
	u64 pfn = folio_pfn(c->q, f), at = entry_pfn(pte_get(p)) - pfn;
	u32 here = entry_index(c->va, 0), n = 0;

	for (u64 i = 0; i < folio_nr(f); i++) {
		u64 va = c->va + ((i - at) << PAGE_SHIFT), e;

		if (here + (i - at) >= PTRS_PER_TABLE || va < vma_start(c->v) ||
		    va >= vma_end(c->v))
			continue;
		e = pte_get(p + (s64)(i - at));
		n += pte_present(e) && !pte_special(e) && entry_pfn(e) == pfn + i;
	}
	return n;
}

/* Is every reference one of ours: the caller's, and those of entries under its lock? Of a large
 * folio each of its pages is then mapped once, or not at all. LOCKING: folio lock, entry lock, and
 * a reference. */
static bool is_sole(struct fc *c, struct folio *f, const pte_t *p)
{
	u32 own = f->order ? own_entries(c, f, p) : 1;

	if (!mech_on(c->q, MECH_REUSE_COUNTS_REFS))
		return folio_mapcount(f) == own;
	return !folio_test(f, PG_SWAPCACHE) && a32_read(&f->ref) == own + 1;
}

/*
 * Out of the swap cache, if nothing else needs the folio there. Others' entries may name the slot
 * of a page that only this fault's entry maps: they can have the stored copy, if there is one, and
 * the page need not be copied. LOCKING: folio lock, and a reference.
 */
static void leave_cache(struct quire *q, struct folio *f)
{
	if (!folio_test(f, PG_SWAPCACHE) || swap_try_free_folio(q, f) || f->order)
		return;
	/* The cache's reference, the entry's, and ours. */
	if (folio_mapcount(f) == 1 && a32_read(&f->ref) == 3 &&
	    (swap_folio_has_copy(q, f) || !mech_on(q, MECH_LEAVE_HAS_COPY)))
		swap_leave_copy(q, f);
}

/* 0: the page is exclusive now, and with it all that is mapped of its folio; -EXDEV: it is shared.
 * A try-lock, as in Linux: who has the folio locked has a reference. */
static int become_exclusive(struct fc *c, u64 entry)
{
	struct folio *f = fault_hold_mapped(c, entry);
	struct ptdesc *desc;
	int r = -EXDEV;
	u32 cached;
	pte_t *p;

	if (!f)
		return FAULT_AGAIN;
	/* An object's page, of a private area, is always copied. */
	if (!folio_is_anon(f))
		goto out;
	/* More references than one area and the cache can have: not worth counting. */
	cached = folio_test(f, PG_SWAPCACHE) ? folio_nr(f) : 0;
	if (f->order && a32_read(&f->ref) > folio_nr(f) + cached + 1 &&
	    mech_on(c->q, MECH_REUSE_COUNTS_REFS))
		goto out;
	/* A page on its way to a list has one more. */
	if (!folio_test(f, PG_LRU))
		lru_drain(c->q);
	if (!folio_trylock(f))
		goto out;
	leave_cache(c->q, f);
	p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	if (p) {
		u64 e = pte_get(p);

		if (!entry_present(e) || entry_pfn(e) != entry_pfn(entry)) {
			r = FAULT_AGAIN;
		} else if (is_sole(c, f, p)) {
			folio_move_anon_rmap(c->q, f, c->v);
			r = 0;
		}
		pt_pte_unlock(desc);
	}
	folio_unlock(f);
out:
	folio_put(c->q, f);
	return r;
}

static int copy_page(struct fc *c, u64 entry)
{
	struct folio *old = NULL, *new;
	int err;

	err = fault_alloc_at(c, c->va, 0, &new);
	if (err)
		return err == -EBUSY ? FAULT_AGAIN : err;
	if (!pte_special(entry)) {
		old = fault_hold_mapped(c, entry);
		if (!old) {
			fault_free_folio(c->q, new);
			return FAULT_AGAIN;
		}
	}
	err = fault_copy_bytes(c->q, new, entry_pfn(entry));
	if (!err)
		err = move_entry(c, entry, old, new);
	if (err) {
		fault_free_folio(c->q, new);
	} else {
		stat_inc(c->q, STAT_FAULT_COW);
		stat_inc(c->q, STAT_FAULT_MINOR);
		if (c->vf & VM_LOCKED)
			a64_fetch_or(&new->flags, PGF(UNEVICTABLE) | PGF(MLOCKED));
		lru_add(c->q, new);
		fault_lease(c, folio_node(new), c->va, 1);
		folio_put(c->q, new);
	}
	/* Ours was perhaps the last mapping of a page that the swap cache has too. */
	if (old && !err)
		rmap_drop_unused_copy(c->q, old);
	if (old)
		folio_put_nr(c->q, old,
			     err ? 1 : 2); /* the look's, and the entry's once it moved */
	return err;
}

int fault_do_wp(struct fc *c, u64 entry)
{
	int err;

	if (!entry_present(entry))
		return FAULT_AGAIN;
	if (!pte_special(entry)) {
		err = reuse(c, entry);
		if (err == -EXDEV)
			err = fault_reverse_copy(c, entry);
		if (err == -EXDEV) {
			err = become_exclusive(c, entry);
			if (!err)
				err = reuse(c, entry);
		}
		if (err != -EXDEV)
			return err;
	}
	return copy_page(c, entry);
}
