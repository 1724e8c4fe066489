/*
 * mlock.c - locking pages in memory, and mincore.
 *
 * VM_LOCKED on the area is what counts (unmapping for reclaim looks at it); the folios' MLOCKED and
 * UNEVICTABLE only keep reclaim from looking at them again and again. They are set under the entry
 * lock with the page mapped, or by the fault that maps it.
 */
#include "space/space_internal.h"

/* Mark or unmark what is mapped in r. A folio that cannot be isolated now moves when it next passes
 * through the LRU. */
static void mark_resident(struct quire *q, struct space *s, struct range r, bool lock)
{
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE) {
		struct ptdesc *desc;
		pte_t *p = pt_pte_lock(&s->fs.rs.pgt, va, &desc);
		struct folio *f;
		u64 e;

		if (!p) {
			va = ALIGN_DOWN(va, PMD_SIZE) + PMD_SIZE - PAGE_SIZE;
			continue;
		}
		e = pte_get(p);
		f = pte_present(e) && !pte_special(e) ? phys_folio(q, entry_pfn(e)) : NULL;
		if (f)
			folio_get(f);
		pt_pte_unlock(desc);
		if (!f)
			continue;
		if (lock)
			a64_fetch_or(&f->flags, PGF(MLOCKED) | PGF(UNEVICTABLE));
		else
			a64_fetch_and(&f->flags, ~(PGF(MLOCKED) | PGF(UNEVICTABLE)));
		if (lru_isolate(q, f))
			lru_putback(q, f);
		folio_put(q, f);
	}
}

static int change(struct quire *q, struct space *s, u64 start, u64 size, bool lock, bool onfault)
{
	u64 at = ALIGN_DOWN(start, PAGE_SIZE);
	struct range r;
	int err;

	if (!size)
		return 0;
	size += start - at;
	if (!space_range_ok(s, at, &size))
		return -ENOMEM;
	r = mk_range(at, size);
	space_write_lock(&s->fs.vmas);
	err = space_covered(s, r);
	if (!err) {
		u64 set = lock ? VM_LOCKED | (onfault ? VM_LOCKONFAULT : 0) : 0;

		err = vma_change_flags(&s->fs.vmas, r, set, (VM_LOCKED | VM_LOCKONFAULT) & ~set);
	}
	space_downgrade(&s->fs.vmas);
	if (!err) {
		lru_drain_all(q);
		mark_resident(q, s, r, lock);
	}
	space_read_unlock(&s->fs.vmas);
	qrcu_poll(q);
	return err;
}

/* Fault in for an area of any protection. As in Linux the area is locked all the same where that
 * fails: what may not be accessed at all, or whose bytes are lost, is -ENOMEM, a want of memory
 * -EAGAIN. */
static int populate_locked(struct quire *q, struct space *s, struct range r)
{
	int err = space_populate(q, s, r, ACCESS_WRITE | ACCESS_POPULATE);
	bool denied = false;

	for (u64 va = r.start; err == -EACCES && va < r.end; va += PAGE_SIZE) {
		int e = space_populate(q, s, mk_range(va, PAGE_SIZE), ACCESS_READ);

		if (e == -EACCES)
			denied = true;
		else if (e)
			return e == -ENOMEM ? -EAGAIN : -ENOMEM;
	}
	if (err && err != -EACCES)
		return err == -ENOMEM ? -EAGAIN : -ENOMEM;
	return denied ? -ENOMEM : 0;
}

int space_mlock(struct quire *q, struct space *s, u64 start, u64 size, bool onfault)
{
	int err = change(q, s, start, size, true, onfault);

	if (err || onfault || !size)
		return err;
	size += start & (PAGE_SIZE - 1);
	return populate_locked(q, s,
			       mk_range(ALIGN_DOWN(start, PAGE_SIZE), ALIGN_UP(size, PAGE_SIZE)));
}

int space_munlock(struct quire *q, struct space *s, u64 start, u64 size)
{
	return change(q, s, start, size, false, false);
}

/* Resident: mapped, or unmapped but still in memory: in the swap cache, in the area's object. */
static unsigned char page_resident(struct quire *q, struct vma *v, u64 va, u64 e)
{
	struct folio *f;

	if (pte_present(e) || pte_is_migration(e))
		return 1;
	if (pte_none(e) && v->object) {
		f = object_lookup(v->object, vma_index(v, va));
		if (!f)
			return 0;
		folio_put(q, f);
		return 1;
	}
	if (!pte_is_swap(e) || swp_type(e) != SWP_STORE)
		return 0;
	f = swap_lookup(q, swp_slot(e));
	if (!f)
		return 0;
	folio_put(q, f);
	return 1;
}

int space_mincore(struct quire *q, struct space *s, u64 start, u64 size, unsigned char *vec)
{
	struct range r;
	int err;

	if (!IS_ALIGNED(start, PAGE_SIZE))
		return -EINVAL;
	if (!size)
		return 0;
	if (!space_range_ok(s, start, &size))
		return -ENOMEM;
	r = mk_range(start, size);
	space_read_lock(&s->fs.vmas);
	err = space_covered(s, r);
	for (u64 va = r.start; va < r.end && !err; va += PAGE_SIZE) {
		pte_t *p;
		u64 e;

		qrcu_read_lock();
		p = pt_pte_peek(&s->fs.rs.pgt, va);
		e = p ? pte_get(p) : 0;
		qrcu_read_unlock();
		/* The slot cannot be freed and reused for another page between the two looks
		 * without the entry changing; a stale answer is what mincore promises anyway. */
		vec[(va - r.start) >> PAGE_SHIFT] =
			page_resident(q, vma_find(&s->fs.vmas, va), va, e);
	}
	space_read_unlock(&s->fs.vmas);
	return err;
}
