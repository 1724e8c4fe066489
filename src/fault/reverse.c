/*
 * reverse.c - copy-on-write the other way round: the one who writes keeps the frame, and all others
 * move to the copy.
 *
 * Where a page's frame has a place (CAP_PLACED: the page is one mapping of the machine with its
 * neighbours there), copying would displace the page of the area to which the place belongs, which
 * is the one that lives on when a snapshot is gone. So the copy goes to the place of the other
 * area's address, where the pages that were displaced before it lie too.
 *
 *   T1: write fault in A, which shares page P       T2: the others
 *   area of A locked; P is not exclusive: nobody stores to it, and no store can be under way: who
 *   shared it flushed before it unlocked the areas of both (space/share.c)
 *   copy the bytes of P to N
 *   folio locks of P and N (try only)               swap-in, another write fault: keep off
 *   P in the swap cache? then its slot may have     reclaim: keeps off
 *   entries: an ordinary copy
 *   anon_vma root (read): per area B but A's:       no area comes or goes
 *     entry lock; maps P?                           a fault in B, fork, unmap: before it or after
 * it clear, flush, set to N                        a load sees the same bytes before and after
 *   entry lock of A: entry as it was?
 *   P mapped once?                                  (all were met: B's areas come behind A's in the
 *                                                   tree, and copies of B's behind B)
 *   (full barrier) pinned?                          pin_fast read B's entry before it was cleared
 *   P is exclusive, A may write it
 *
 * What holds each step. A write fault in B that copies P at the same time has taken no lock; it
 * compares its entry before it believes the copy, and the entry does not come back: only a fault in
 * B, or sharing B's area, which waits for that fault, could bring it. pin_fast in B adds its pin
 * and looks at B's entry again, and only then at whether P is exclusive: either we see the pin, or
 * it sees the entry gone. Nothing can map P once A's entry is the only one: it is not in the swap
 * cache, and A's area, from which alone it could be shared, is locked. Where flushes come after the
 * entry lock is dropped a CPU may read P through a translation whose entry has gone: who has yet to
 * flush has a reference (wp.c), so there P's must be the only ones, and of a large folio, whose
 * references nobody can tell apart, no page is taken.
 *
 * N is the root's, like what comes back from swap shared, and exclusive to nobody: who writes it as
 * the only one takes it over then. Its lock is held until all have it: the first of them might do
 * so before the others come.
 */
#include "fault/fault_internal.h"

struct reverse {
	struct fc *c;
	struct folio *f, *page; /* P's folio, P */
	u64 pfn;                /* P's */
	u64 place;              /* for N; 0: nobody else seems to map P */
	struct folio *new;      /* N, or NULL */
	u32 moved;              /* entries that map N */
	bool without;           /* an entry was met and there is no N */
};

static bool in_area(struct vma *v, u64 va)
{
	return va >= vma_start(v) && va < vma_end(v);
}

/* The address of P where area v may map it; false: outside of it, or it is the fault's own. */
static bool other_address(struct reverse *r, struct vma *v, u64 *va)
{
	*va += (u64)(r->page - r->f) << PAGE_SHIFT;
	return in_area(v, *va) && !(v == r->c->v && *va == r->c->va);
}

static bool maps_page(struct reverse *r, u64 e)
{
	return pte_present(e) && !pte_special(e) && entry_pfn(e) == r->pfn;
}

/* A look, for the place of the first other mapping. */
static bool find_other(void *ctx, struct folio *f, struct vma *v, u64 va)
{
	struct rmap_space *rs = v->space;
	struct reverse *r = ctx;
	pte_t *p;
	u64 e;

	(void)f;
	if (!other_address(r, v, &va))
		return true;
	qrcu_read_lock();
	p = pt_pte_peek(&rs->pgt, va);
	e = p ? pte_get(p) : 0;
	qrcu_read_unlock();
	if (!maps_page(r, e))
		return true;
	r->place = fault_own_place(r->c->q, v, va);
	return false;
}

/* One more mapping of N. LOCKING: the entry lock; N locked. */
static void map_new(struct reverse *r, struct vma *v, u64 va)
{
	folio_get(r->new);
	folio_add_anon_rmap_ptes(r->c->q, r->new, 0, 1, v, va);
	if (!r->moved++)
		a64_fetch_or(&r->new->flags, PGF(SWAPBACKED) | PGF(UPTODATE) | PGF(DIRTY));
	if (vma_flags(v) & VM_LOCKED)
		a64_fetch_or(&r->new->flags, PGF(UNEVICTABLE) | PGF(MLOCKED));
}

static bool move_other(void *ctx, struct folio *f, struct vma *v, u64 va)
{
	struct rmap_space *rs = v->space;
	struct reverse *r = ctx;
	struct quire *q = r->c->q;
	struct ptdesc *desc;
	pte_t *p;
	u64 e;

	if (!other_address(r, v, &va))
		return true;
	p = pt_pte_lock(&rs->pgt, va, &desc);
	if (!p)
		return true;
	if (maps_page(r, pte_get(p)) && r->new) {
		e = pte_get_and_clear(p);
		if (mech_on(q, MECH_REVERSE_FLUSH))
			tlb_flush_range(&rs->tlb,
					(struct tlb_range){ va, va + PAGE_SIZE, FLUSH_NO_ACCESS,
							    false, false });
		map_new(r, v, va);
		/* Made usable by the trap of whoever uses it, with its neighbours. */
		pte_set(p, (e & ~ENTRY_FRAME_MASK) | pte_mk(folio_pfn(q, r->new), 0));
		folio_remove_rmap_ptes(q, f, (u32)(r->page - f), 1);
		folio_put(q, f); /* the caller has another one */
	} else if (maps_page(r, pte_get(p))) {
		r->without = true;
	}
	pt_pte_unlock(desc);
	return !r->without;
}

/* May P be A's alone? LOCKING: the folio lock, A's entry lock. */
static bool is_left_alone(struct reverse *r)
{
	struct quire *q = r->c->q;

	if (a32_read(&r->page->mapcount) != 1)
		return false;
	smp_mb();
	if (!mech_on(q, MECH_REVERSE_CHECKS_PINS))
		return true;
	if (machine_has(q->machine, CAP_FLUSH_UNDER_LOCK))
		return !folio_maybe_pinned(r->f);
	/* The entry's, and ours. */
	return !r->f->order && a32_read(&r->f->ref) == 2;
}

static int take_page(struct reverse *r, u64 entry)
{
	struct fc *c = r->c;
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	int err = -EXDEV;

	if (!p)
		return FAULT_AGAIN;
	if ((pte_get(p) ^ entry) & ~(ENTRY_ACCESSED | ENTRY_DIRTY)) {
		err = FAULT_AGAIN;
	} else if (is_left_alone(r)) {
		/* Other pages of a large folio may be others': it stays the family's. */
		if (r->f->order)
			folio_set(r->page, PG_ANON_EXCLUSIVE);
		else
			folio_move_anon_rmap(c->q, r->f, c->v);
		err = 0;
	}
	pt_pte_unlock(desc);
	return err;
}

/* LOCKING: the folio locks. */
static int move_all(struct reverse *r, u64 entry)
{
	struct quire *q = r->c->q;

	if (folio_test(r->f, PG_SWAPCACHE) && !swap_try_free_folio(q, r->f) &&
	    mech_on(q, MECH_REVERSE_NOT_CACHED))
		return -EXDEV;
	if (page_exclusive(r->page))
		return FAULT_AGAIN;
	if (r->new) {
		int err = fault_copy_bytes(q, r->new, r->pfn);

		if (err)
			return err;
	}
	rmap_walk(q, r->f, move_other, r);
	return r->without ? -EXDEV : take_page(r, entry);
}

static void release_new(struct reverse *r)
{
	struct quire *q = r->c->q;

	if (!r->moved) {
		fault_free_folio(q, r->new);
		return;
	}
	stat_inc(q, STAT_FAULT_COW);
	stat_inc(q, STAT_FAULT_REVERSE);
	lru_add(q, r->new);
	folio_put(q, r->new);
}

static int move_locked(struct reverse *r, u64 entry)
{
	bool lock = r->new &&mech_on(r->c->q, MECH_REVERSE_LOCK_COPY);
	int err = -EXDEV;

	/* Nobody knows the new one. */
	if (lock && !folio_trylock(r->new))
		BUG("a new folio is locked");
	if (folio_trylock(r->f)) {
		err = move_all(r, entry);
		folio_unlock(r->f);
	}
	if (lock)
		folio_unlock(r->new);
	if (r->new)
		release_new(r);
	return err;
}

/* P was another's too, who has it locked in memory: the copy is now, P need not be. As when such a
 * mapping goes (space/unmap.c). */
static void forget_mlock(struct reverse *r)
{
	struct quire *q = r->c->q;

	if (!folio_test(r->f, PG_MLOCKED) || (r->c->vf & VM_LOCKED))
		return;
	a64_fetch_and(&r->f->flags, ~(PGF(MLOCKED) | PGF(UNEVICTABLE)));
	if (lru_isolate(q, r->f))
		lru_putback(q, r->f);
}

int fault_reverse_copy(struct fc *c, u64 entry)
{
	struct quire *q = c->q;
	struct machine *m = q->machine;
	struct reverse r = { .c = c, .pfn = entry_pfn(entry) };
	int err = 0;

	/* Only who has the frame at his own place is better off with it. */
	if (!machine_has(m, CAP_PLACED) ||
	    (m->plain_base && r.pfn != fault_own_place(q, c->v, c->va)))
		return -EXDEV;
	r.f = fault_hold_mapped(c, entry);
	if (!r.f)
		return FAULT_AGAIN;
	if (!folio_is_anon(r.f) || (r.f->order && !machine_has(m, CAP_FLUSH_UNDER_LOCK))) {
		folio_put(q, r.f);
		return -EXDEV;
	}
	r.page = phys_record(q, r.pfn);
	rmap_walk(q, r.f, find_other, &r);
	if (r.place)
		err = fault_alloc_placed(c, r.place, &r.new);
	/* A page on its way to a list has one more reference. */
	if (!folio_test(r.f, PG_LRU) && !machine_has(m, CAP_FLUSH_UNDER_LOCK))
		lru_drain(q);
	if (!err)
		err = move_locked(&r, entry);
	if (!err)
		forget_mlock(&r);
	folio_put(q, r.f);
	return err == -EBUSY ? FAULT_AGAIN : err;
}
