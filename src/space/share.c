/*
 * share.c - the entries of one area become another area's too: what fork and snapshots have in
 * common. The steps and why they are enough:
 *
 *   T1: fork, snapshot                          T2: the source's users, reclaim, pins
 *   space lock (write), source areas locked:    a fault waits (MECH_FORK_LOCK_AREAS)
 *   fork_seq odd                                pin_fast sees it and gives up
 *   per table, both entry locks:
 *     source's entry loses WRITE                stores go on through stale translations
 *     maybe pinned? WRITE again, copy           pin_fast sees another entry, or T1 the pin
 *     else exclusive no more; counted twice
 *     the other's entry
 *   one flush of the source, NO_STORE           from here on a store traps
 *   fork_seq even, unlock; return
 *
 * Why one flush at the end is enough: nobody knows the child (the snapshot's addresses) before the
 * call returns, so what is stored through a stale translation until then belongs to what it
 * inherits. In the source no entry moves to a copy meanwhile, because a write fault waits for its
 * area: a store that a copy would miss cannot happen. Reclaim does not wait, but flushes on its own
 * before it copies bytes out; what it has yet to flush when its swap entries are met is flushed
 * here (rmap_flush_batched): else such a store could come after the return. NO_STORE is enough
 * because loads see the same frame before and after.
 *
 * Why a snapshot is of one moment: that moment is the end of the call. A store that came before it
 * has gone to a frame that both have; one that met an entry without WRITE has trapped and waits
 * until after it, so that nothing which is in the snapshot can depend on it. This is true as well
 * where each table is flushed as soon as it is done, under its entry lock, because a flush would
 * not be harmless to a newer translation (CAP_FLUSH_UNDER_LOCK).
 *
 * Why no entry is missed or counted wrong: the new entry comes under the source's entry lock, with
 * the source's reference (or the count of its slot) held, and the new area is chained to the
 * source's anon_vmas before. A walk that passed the new area's table too early finds the folio
 * still mapped, and keeps it.
 *
 * An object's own pages are left to the child's faults, which find them where the parent's did: of
 * a private area of an object only what was copied is inherited, and of a shared one no entry.
 *
 * Nothing is charged but copies of pinned pages: a shared page stays charged as it was until its
 * last reference is gone, whoever drops it.
 */
#include "space/space_internal.h"

/*
 * Both tables: the source's first if it is of another space, else the lower address first. A space
 * has no child before it is a parent, so the order of any two is the same for all. LOCKING: takes
 * PTE twice.
 */
static bool lock_both(struct sharer *k, u64 va)
{
	struct pgtable *src = &k->parent->fs.rs.pgt, *dst = &k->child->fs.rs.pgt;
	u64 to = va + k->delta;

	if (k->parent == k->child && to < va) {
		k->dst = pt_pte_lock(dst, to, &k->dst_desc);
		/* It was allocated for an area that stays. */
		BUG_ON(!k->dst);
		k->src = pt_pte_lock_nested(src, va, &k->src_desc);
		if (!k->src)
			pt_pte_unlock(k->dst_desc);
		return k->src;
	}
	k->src = pt_pte_lock(src, va, &k->src_desc);
	if (!k->src)
		return false;
	k->dst = pt_pte_lock_nested(dst, to, &k->dst_desc);
	BUG_ON(!k->dst);
	return true;
}

static void unlock_both(struct sharer *k)
{
	pt_pte_unlock(k->dst_desc);
	pt_pte_unlock(k->src_desc);
}

static void flush_source(struct sharer *k)
{
	if (k->dirty_start < k->dirty_end && mech_on(k->q, MECH_FORK_FLUSH))
		tlb_flush_range(&k->parent->fs.rs.tlb,
				(struct tlb_range){ k->dirty_start, k->dirty_end, FLUSH_NO_STORE,
						    false, false });
	k->dirty_start = ~0ull;
	k->dirty_end = 0;
}

static void note_flush(struct sharer *k, u64 va)
{
	k->dirty_start = min(k->dirty_start, va);
	k->dirty_end = max(k->dirty_end, va + PAGE_SIZE);
}

/* What the new entry of a page says that both map. */
static u64 shared_entry(struct sharer *k, u64 e)
{
	e &= ~ENTRY_WRITE;
	/* What could only be written cannot be accessed at all in a view without that right. */
	if (!(vma_flags(k->to) & VM_PROT_MASK))
		e = (e & ~ENTRY_PRESENT) | ENTRY_PROTNONE;
	/* Used there, not here. Software keeps the bit set in what is present. */
	return machine_has(k->q->machine, CAP_HW_AD) ? e & ~ENTRY_ACCESSED : e;
}

/*
 * nr pages of one folio, mapped by the source's entries from the n'th on: now both's. -EBUSY: one
 * may be pinned; the entries are as they were.
 *
 * Where the machine enforces areas, an entry may lack WRITE while only the area forbids stores: the
 * page itself must be protected before the area allows them again.
 */
static int share_pages(struct sharer *k, u32 n, u32 nr, u64 va)
{
	struct folio *page = phys_record(k->q, entry_pfn(pte_get(k->src + n)));
	struct folio *f = folio_head(page);
	bool by_area = machine_has(k->q->machine, CAP_AREA_PROTECT);
	u64 lost[PTRS_PER_TABLE / 64] = { 0 };
	int err;

	for (u32 i = 0; i < nr; i++)
		if (pte_write(pte_get(k->src + n + i))) {
			a64_fetch_and(k->src + n + i, ~ENTRY_WRITE);
			lost[i / 64] |= BIT(i % 64);
		}
	err = folio_try_share_anon_rmap_ptes(k->q, f, (u32)(page - f), nr);
	for (u32 i = 0; i < nr; i++) {
		bool was = lost[i / 64] & BIT(i % 64);

		if (err && was)
			a64_fetch_or(k->src + n + i, ENTRY_WRITE);
		else if (!err && (was || by_area))
			note_flush(k, va + i * PAGE_SIZE);
	}
	if (err)
		return err;
	folio_dup_anon_rmap_ptes(k->q, f, (u32)(page - f), nr);
	for (u32 i = 0; i < nr; i++)
		pte_set(k->dst + n + i, shared_entry(k, pte_get(k->src + n + i)));
	k->present += nr;
	return 0;
}

/* A page that stays the source's: the spare frame gets its bytes. A store through the pin at this
 * moment may be in them or not, as with any copy. */
static int copy_pinned(struct sharer *k, u32 n, u64 va)
{
	u64 e = pte_get(k->src + n), vf = vma_flags(k->to);
	struct folio *new = k->spare;

	if (fault_copy_bytes(k->q, new, entry_pfn(e)))
		return -ENOMEM;
	k->spare = NULL;
	folio_get(new);
	folio_add_new_anon_rmap(k->q, new, k->to, va + k->delta);
	folio_set(new, PG_DIRTY);
	e = (shared_entry(k, e) & ~ENTRY_FRAME_MASK) |
	    pte_mk(folio_pfn(k->q, new), ENTRY_DIRTY | ENTRY_ACCESSED);
	if ((vf & VM_WRITE) && (vf & VM_PROT_MASK))
		e |= ENTRY_WRITE;
	pte_set(k->dst + n, e);
	k->present++;
	lru_add(k->q, new);
	folio_put(k->q, new);
	return 0;
}

/* A page in the swap cache or in a store: both entries name its slot, neither alone. */
static void share_swapped(struct sharer *k, u32 n, u64 e)
{
	swap_dup(k->q, swp_slot(e), 1);
	if (mech_on(k->q, MECH_SWAP_EXCLUSIVE) && (e & SWP_EXCLUSIVE)) {
		e &= ~SWP_EXCLUSIVE;
		pte_set(k->src + n, e);
	}
	pte_set(k->dst + n, e);
	k->swaps++;
}

/* A page that moves: both have it, and neither will write it in place. An object's own page is left
 * to the child's faults. */
static void share_moving(struct sharer *k, u32 n, u64 e)
{
	if (e & SWP_OBJECT)
		return;
	if (mech_on(k->q, MECH_MIGRATE_SHARED)) {
		e = migration_as(e, SWP_MIGRATE_READ);
		pte_set(k->src + n, e);
	}
	pte_set(k->dst + n, e);
	k->present++;
}

/* The entries of [*va, end), inside one table. -EAGAIN: *va is where a spare frame is needed. */
static int copy_entries(struct sharer *k, u64 *va, u64 end)
{
	for (u32 n = 0; *va < end;) {
		u64 e = pte_get(k->src + n);
		u32 max = (u32)((end - *va) >> PAGE_SHIFT), nr = 1;

		if (pte_special(e)) {
			pte_set(k->dst + n, shared_entry(k, e));
		} else if (pte_present(e)) {
			struct folio *page = phys_record(k->q, entry_pfn(e));

			if (!folio_is_anon(folio_head(page))) {
				n++;
				*va += PAGE_SIZE;
				continue;
			}
			/* Of one folio. */
			max = min(max, folio_nr(folio_head(page)) - (u32)(page - folio_head(page)));
			nr = space_entries_run(k->src + n, entry_pfn(e), max);
			/* One of them may be pinned: those that are shared already are not. */
			if (share_pages(k, n, nr, *va)) {
				nr = 1;
				if (page_exclusive(page)) {
					if (!k->spare)
						return -EAGAIN;
					if (copy_pinned(k, n, *va))
						return -ENOMEM;
				} else {
					BUG_ON(share_pages(k, n, 1, *va));
				}
			}
		} else if (pte_is_migration(e)) {
			share_moving(k, n, e);
		} else if (pte_is_swap(e)) {
			share_swapped(k, n, e);
		}
		n += nr;
		*va += (u64)nr << PAGE_SHIFT;
	}
	return 0;
}

static int copy_table(struct sharer *k, struct range r)
{
	struct quire *q = k->q;
	int err = pt_pte_alloc(&k->child->fs.rs.pgt, r.start + k->delta);

	while (!err) {
		if (!lock_both(k, r.start))
			break;
		/* Before both have what reclaim's stale translations still reach. */
		rmap_flush_batched(&k->parent->fs.rs);
		k->src_desc->reverse_faults = 0;
		err = copy_entries(k, &r.start, r.end);
		if (machine_has(q->machine, CAP_FLUSH_UNDER_LOCK))
			flush_source(k);
		unlock_both(k);
		if (err != -EAGAIN)
			break;
		err = fault_alloc_page(q, &k->child->fs, k->to, r.start + k->delta, &k->spare);
		if (err == -EBUSY) {
			base_yield();
			err = 0;
		}
	}
	a64_add(&k->child->fs.rs.rss_pages, k->present);
	a64_add(&k->child->fs.rs.swap_entries, k->swaps);
	k->present = k->swaps = 0;
	return err;
}

static bool has_table(struct space *s, u64 va)
{
	bool has;

	qrcu_read_lock();
	has = pt_pte_peek(&s->fs.rs.pgt, va);
	qrcu_read_unlock();
	return has;
}

int space_share_pages(struct sharer *k, struct range r)
{
	u64 va = r.start, next;
	int err = 0;

	DEBUG_ON(!IS_ALIGNED(k->delta, PMD_SIZE));
	for (; va < r.end && !err; va = next) {
		next = min(ALIGN_DOWN(va, PMD_SIZE) + PMD_SIZE, r.end);
		if (has_table(k->parent, va))
			err = copy_table(k, (struct range){ va, next });
	}
	return err;
}

void space_share_begin(struct sharer *k, struct range r)
{
	struct vmas_of *vmas = &k->parent->fs.vmas;

	k->dirty_start = ~0ull;
	k->dirty_end = 0;
	if (mech_on(k->q, MECH_FORK_LOCK_AREAS))
		for (struct vma *v = vma_find_first(vmas, r.start); v && vma_start(v) < r.end;
		     v = vma_next(vmas, v))
			vma_write_lock(v);
	a32_fetch_add(&k->parent->fs.fork_seq, 1);
}

/* Also when it failed: what lost WRITE may be copied by the source's next write fault. */
void space_share_end(struct sharer *k)
{
	flush_source(k);
	a32_fetch_add(&k->parent->fs.fork_seq, 1);
	if (k->spare)
		fault_free_folio(k->q, k->spare);
}
