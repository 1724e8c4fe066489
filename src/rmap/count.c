/*
 * count.c - mapping counts of folios, and the checker's view of them.
 *
 * All under the entry lock of the entry that comes or goes; counts are atomic because a folio's
 * entries may lie in several tables.
 */
#include "base/mech.h"
#include "rmap/rmap_internal.h"

void folio_add_new_anon_rmap(struct quire *q, struct folio *f, struct vma *v, u64 va)
{
	u32 nr = folio_nr(f);

	(void)q;
	DEBUG_ON(folio_mapped(f));
	f->index = vma_index(v, va);
	/* Nobody can have found this folio yet: plain initialisation, published by the entry. */
	aptr_set(&f->mapping, (void *)((uintptr_t)aptr_read(&v->anon_vma) | MAPPING_ANON));
	a64_fetch_or(&f->flags, PGF(SWAPBACKED) | PGF(ANON_EXCLUSIVE) | PGF(UPTODATE));
	for (u32 i = 0; i < nr; i++) {
		a64_t *flags = &folio_page(f, i)->flags;

		a32_init(&folio_page(f, i)->mapcount, 1);
		/* Nobody changes a tail's flags now: a store is enough. */
		if (i)
			a64_set(flags, a64_read(flags) | PGF(ANON_EXCLUSIVE));
	}
}

void folio_add_anon_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr, struct vma *v,
			      u64 va)
{
	struct anon_vma *av = aptr_read(&v->anon_vma);

	(void)q;
	if (!aptr_read(&f->mapping)) {
		f->index = vma_index(v, va) - first;
		if (!page_exclusive(folio_page(f, first)))
			av = av->root;
		aptr_set_release(&f->mapping, (void *)((uintptr_t)av | MAPPING_ANON));
	}
	for (u32 i = 0; i < nr; i++)
		a32_fetch_add(&folio_page(f, first + i)->mapcount, 1);
}

void folio_dup_anon_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr)
{
	(void)q;
	folio_get_nr(f, nr);
	for (u32 i = 0; i < nr; i++) {
		DEBUG_ON(page_exclusive(folio_page(f, first + i)));
		a32_fetch_add(&folio_page(f, first + i)->mapcount, 1);
	}
}

void folio_add_object_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr)
{
	(void)q;
	DEBUG_ON(folio_is_anon(f));
	for (u32 i = 0; i < nr; i++) {
		DEBUG_ON(page_exclusive(folio_page(f, first + i)));
		a32_fetch_add(&folio_page(f, first + i)->mapcount, 1);
	}
}

int folio_try_share_anon_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr)
{
	bool exclusive = false;

	DEBUG_ON(first + nr > folio_nr(f));
	for (u32 i = 0; i < nr; i++)
		exclusive |= page_exclusive(folio_page(f, first + i));
	if (!exclusive)
		return 0;
	smp_mb();
	if (mech_on(q, MECH_PIN_BLOCKS_SHARING) && folio_maybe_pinned(f))
		return -EBUSY;
	for (u32 i = 0; i < nr; i++)
		folio_clear(folio_page(f, first + i), PG_ANON_EXCLUSIVE);
	return 0;
}

void folio_move_anon_rmap(struct quire *q, struct folio *f, struct vma *v)
{
	(void)q;
	lock_assert_held(&f->flags);
	aptr_set_release(&f->mapping, (void *)((uintptr_t)aptr_read(&v->anon_vma) | MAPPING_ANON));
	for (u32 i = 0; i < folio_nr(f); i++)
		if (a32_read(&folio_page(f, i)->mapcount))
			folio_set(folio_page(f, i), PG_ANON_EXCLUSIVE);
}

void folio_remove_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		u32 old = a32_fetch_add(&folio_page(f, first + i)->mapcount, (u32)-1);

		BUG_ON(old == 0);
	}
	if (f->order && nr < folio_nr(f) && folio_is_anon(f))
		folio_set(f, PG_PARTIAL);
	if (!mech_on(q, MECH_UNCHARGE_LAST_REF) && f->charge && !folio_mapped(f)) {
		cgroup_uncharge(q, f->charge, folio_nr(f));
		folio_set_charge(f, 0);
	}
}

void folio_remove_rmap_pmd(struct quire *q, struct folio *f)
{
	(void)q;
	BUG_ON(a32_fetch_add(&f->entire_mapcount, (u32)-1) == 0);
}

void rmap_drop_unused_copy(struct quire *q, struct folio *f)
{
	/* The slots of an object's pages are the object's business. */
	if (!folio_test(f, PG_SWAPCACHE) || folio_mapped(f) || !folio_is_anon(f))
		return;
	folio_lock(f);
	rmap_drop_unused_copy_locked(q, f);
	folio_unlock(f);
}

void rmap_drop_unused_copy_locked(struct quire *q, struct folio *f)
{
	if (folio_test(f, PG_SWAPCACHE) && !folio_mapped(f) && folio_is_anon(f))
		q->rmap->swap_ops->try_free(q, f);
}
