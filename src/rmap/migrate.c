/*
 * migrate.c - the end of a move: migration entries become entries again.
 *
 * Every area that may have one is walked, under its entry lock: of the folio's anon_vma, which the
 * caller has held since the folio lost its last mapping, or of its object. What the entry allows is
 * decided here, by the area as it is now: who changes an area's rights changes the flags first and
 * then its entries, so either he finds the entry that was set here, or it is set by the new flags.
 */
#include "rmap/rmap_internal.h"

struct anon_vma *rmap_hold(struct quire *q, struct folio *f)
{
	return folio_get_anon_vma(q, f);
}

void rmap_release(struct quire *q, struct anon_vma *av)
{
	anon_vma_put(q, av);
}

/* One area in which the folios may have been mapped. */
struct restore {
	struct quire *q;
	struct vma *v;
	const struct rmap_moved *moved;
	bool hw_ad;
};

/* The present entry for page i, one of f's, whose migration entry was m. LOCKING: entry lock. */
static u64 present_entry(const struct restore *r, const struct folio *f, u64 m, u32 i)
{
	u64 vf = vma_flags(r->v), bits = ENTRY_USER;
	bool writable = swp_type(m) == SWP_MIGRATE_WRITE, prot = vf & VM_PROT_MASK;

	if (mech_on(r->q, MECH_MIGRATE_AREA_RIGHTS))
		writable = writable && (vf & VM_WRITE);
	else
		prot = true;
	bits |= prot ? ENTRY_PRESENT : ENTRY_PROTNONE;
	if (!(vf & VM_EXEC))
		bits |= ENTRY_NX;
	if (writable)
		bits |= ENTRY_WRITE;
	if (m & SWP_OBJECT)
		bits |= vf & VM_SHARED ? ENTRY_SHARED : 0;
	/* Software keeps A in whatever is present. */
	if ((m & SWP_MIGRATE_YOUNG) || !r->hw_ad)
		bits |= ENTRY_ACCESSED;
	/* Clean meanwhile: it was written out. */
	if ((m & SWP_MIGRATE_DIRTY) && folio_test(f, PG_DIRTY))
		bits |= ENTRY_DIRTY;
	if (r->moved->hint && !(m & SWP_OBJECT) && (bits & ENTRY_PRESENT))
		bits = pte_mk_hint(bits, pte_hint_stamp(r->moved->hint));
	return pte_mk(r->moved->to_pfn + i, bits);
}

static void restore_one(struct restore *r, pte_t *p, u64 m)
{
	u32 i = (u32)(migration_pfn(m) - r->moved->from_pfn);
	struct folio *page = phys_record(r->q, r->moved->to_pfn + i), *f = folio_head(page);

	folio_get(f);
	if (m & SWP_OBJECT) {
		folio_add_object_rmap_ptes(r->q, f, (u32)(page - f), 1);
	} else {
		/* Before pin_fast can find the entry. */
		if (swp_type(m) != SWP_MIGRATE_READ)
			folio_set(page, PG_ANON_EXCLUSIVE);
		folio_add_anon_rmap_ptes(r->q, f, (u32)(page - f), 1, r->v, 0);
	}
	if (vma_flags(r->v) & VM_LOCKED)
		a64_fetch_or(&f->flags, PGF(UNEVICTABLE) | PGF(MLOCKED));
	pte_set(p, present_entry(r, f, m, i));
}

#define INSTALL_RUN 128u

/* The n entries from p on, inside one table. What they become is made usable at once where that is
 * possible, else by the trap of whoever uses it. LOCKING: entry lock. */
static void restore_table(struct restore *r, pte_t *p, u64 va, u32 n)
{
	struct machine *m = r->q->machine;
	u64 run[INSTALL_RUN];
	u32 len = 0;

	for (u32 i = 0; i <= n; i++) {
		u64 e = i < n ? pte_get(p + i) : 0;
		bool ours = pte_is_migration(e) &&
			    migration_pfn(e) - r->moved->from_pfn < r->moved->nr;

		if (ours) {
			restore_one(r, p + i, e);
			e = pte_get(p + i);
		}
		if (len && (!ours || len == INSTALL_RUN)) {
			(void)!m->ops->entries_changed(m, vma_rmap_space(r->v)->tlb.ms,
						       va + (i - len) * PAGE_SIZE, run, len, 0,
						       NULL, false, false);
			len = 0;
		}
		/* Of one area, so all of them or none. */
		if (ours && entry_present(e))
			run[len++] = e;
	}
}

static void restore_area(struct restore *r, u64 va)
{
	u32 nr = r->moved->nr, step;

	for (u32 i = 0; i < nr; i += step) {
		u64 at = va + ((u64)i << PAGE_SHIFT);
		struct ptdesc *desc;
		pte_t *p;

		step = 1;
		if (at < vma_start(r->v) || at >= vma_end(r->v))
			continue;
		step = min(nr - i, PTRS_PER_TABLE - entry_index(at, 0));
		step = (u32)min((u64)step, (vma_end(r->v) - at) >> PAGE_SHIFT);
		p = pt_pte_lock(&vma_rmap_space(r->v)->pgt, at, &desc);
		if (!p)
			continue;
		restore_table(r, p, at, step);
		pt_pte_unlock(desc);
	}
}

void rmap_remove_migration(struct quire *q, const struct rmap_moved *moved)
{
	struct anon_vma *av = moved->av;
	struct rwsem *sem = av ? &av->root->rwsem : &moved->object->mmap;
	struct itree *areas = av ? &av->tree : &moved->object->areas;
	u64 first = moved->index, last = first + moved->nr - 1;
	struct restore r = {
		.q = q,
		.moved = moved,
		.hw_ad = machine_has(q->machine, CAP_HW_AD),
	};

	stat_inc(q, STAT_MIGRATE_WALKS);
	lock_assert_held(&phys_folio(q, moved->to_pfn)->flags);
	DEBUG_ON(moved->nr > PTRS_PER_TABLE);
	rwsem_read_lock(sem);
	for (struct itree_node *it = itree_first(areas, first, last); it;
	     it = itree_next(areas, it, first, last)) {
		r.v = av ? container_of(it, struct anon_vma_chain, node)->vma :
			   container_of(it, struct vma, in_object);
		restore_area(&r, vma_index_va(r.v, first));
	}
	rwsem_read_unlock(sem);
}
