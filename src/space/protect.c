/*
 * protect.c - mprotect: what entries allow follows what the area allows; nothing lingers that
 * allows more.
 *
 *   T1: protect(READ)                         T2: user, fault
 *   space lock; area write-locked: no fault under way, none begins
 *   entries lose WRITE (keep DIRTY)
 *   flush: no store gets through
 *   unlock, return                            a store after this traps; the area says no
 *
 * Where the machine enforces areas itself (CAP_AREA_PROTECT) it is told first: it may refuse (a
 * limit of host mappings) and then nothing has changed.
 */
#include "space/space_internal.h"

/* The entry's new value under the new rights; A/D bits as found. */
static u64 new_entry(struct quire *q, u64 e, u64 vf)
{
	bool hw = machine_has(q->machine, CAP_HW_AD);
	bool none = !(vf & VM_PROT_MASK);

	e &= ~(ENTRY_PRESENT | ENTRY_PROTNONE | ENTRY_NX);
	/* What is to be noticed when it is used is so still. */
	e |= none || (e & ENTRY_HINT) ? ENTRY_PROTNONE : ENTRY_PRESENT;
	if (!(vf & VM_EXEC))
		e |= ENTRY_NX;
	if (!(vf & VM_WRITE) || none || pte_special(e)) {
		e &= ~ENTRY_WRITE;
	} else if (!pte_write(e) && (hw || pte_dirty(e)) &&
		   page_exclusive(phys_record(q, entry_pfn(e)))) {
		/* An exclusive page may be written without a fault. */
		e |= ENTRY_WRITE;
	}
	return e;
}

/* One table's part of the range. */
static void protect_table(struct quire *q, struct space *s, struct range r, u64 vf, bool home)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&s->fs.rs.pgt, r.start, &desc);
	struct tlb_range flush = { ~0ull, 0, FLUSH_NO_STORE, false, false };

	if (!p)
		return;
	rmap_flush_batched(&s->fs.rs);
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE, p++) {
		u64 e = pte_get(p), n;

		/* What moves will be as the area says; its entry says no more than that either.
		 * Nothing reaches the page meanwhile. */
		if (pte_is_migration(e) && !(vf & VM_WRITE) && swp_type(e) == SWP_MIGRATE_WRITE)
			pte_set(p, migration_as(e, e & SWP_OBJECT ? SWP_MIGRATE_READ :
								    SWP_MIGRATE_EXCLUSIVE));
		if (!pte_present(e))
			continue;
		/* Exchange, so that a bit that the machine sets meanwhile is not lost. */
		e = pte_get_and_clear(p);
		n = new_entry(q, e, vf);
		pte_set(p, n);
		if (((e & ~n) & (ENTRY_PRESENT | ENTRY_WRITE)) || ((n & ~e) & ENTRY_NX)) {
			flush.start = min(flush.start, va);
			flush.end = va + PAGE_SIZE;
			if (((e & ~n) & ENTRY_PRESENT) || ((n & ~e) & ENTRY_NX))
				flush.strength = FLUSH_NO_ACCESS;
		}
	}
	/* A machine that enforces areas has done it already; a flush there would cost the bytes. */
	if (flush.start < flush.end && !machine_has(q->machine, CAP_AREA_PROTECT) &&
	    mech_on(q, MECH_PROTECT_FLUSH)) {
		if (home)
			flush.strength = FLUSH_NO_STORE;
		tlb_flush_range(&s->fs.rs.tlb, flush);
	}
	pt_pte_unlock(desc);
}

static void protect_entries(struct quire *q, struct space *s, struct range r, u64 vf, bool home)
{
	while (r.start < r.end) {
		u64 end = min(ALIGN_DOWN(r.start, PMD_SIZE) + PMD_SIZE, r.end);

		protect_table(q, s, (struct range){ r.start, end }, vf, home);
		r.start = end;
	}
}

/*
 * Home frames are read by eviction where the program reads them. Before reading is forbidden there,
 * no page may be left that only the cache holds (its write failed; eviction would read it again),
 * and none may begin to be evicted: the area is marked, which unmapping looks at under the entry
 * lock, and the machine then waits for reads that have begun.
 *
 *   T1: protect(NONE)                   T2: eviction
 *   mark the area                       read bracket
 *   map what is only cached             entry lock: marked? leave it. else unmap
 *   area_protect: waits for brackets    read the bytes, end of the bracket
 */
static int stop_reading(struct quire *q, struct space *s, struct vma *v, struct range r)
{
	a64_fetch_or(&v->flags, VM_UNREADABLE);
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE) {
		struct ptdesc *desc;
		pte_t *p = pt_pte_lock(&s->fs.rs.pgt, va, &desc);
		u64 e;
		int err;

		if (!p) {
			va = ALIGN_DOWN(va, PMD_SIZE) + PMD_SIZE - PAGE_SIZE;
			continue;
		}
		e = pte_get(p);
		pt_pte_unlock(desc);
		if (!pte_is_swap(e))
			continue;
		err = fault_under_space_lock(q, &s->fs, v, va,
					     ACCESS_READ | ACCESS_REMOTE | ACCESS_FORCE);
		if (err)
			return err;
	}
	return 0;
}

/* The mark goes from whatever now covers r. S write. */
static void clear_mark(struct space *s, struct range r)
{
	struct vma *v = vma_find_first(&s->fs.vmas, r.start);

	for (; v && vma_start(v) < r.end; v = vma_next(&s->fs.vmas, v))
		a64_fetch_and(&v->flags, ~(u64)VM_UNREADABLE);
}

/* One area, or the part of it in r; the cuts are made. S write. */
static int protect_area(struct quire *q, struct space *s, struct vma *v, struct range r, u32 prot)
{
	struct machine *m = q->machine;
	unsigned old = vma_flags(v) & VM_PROT_MASK;
	u64 was = vma_flags(v), vf = (was & ~(u64)VM_PROT_MASK) | prot;
	struct range whole = { vma_start(v), vma_end(v) };
	bool home = vma_home(v), hides = home && (old & VM_READ) && !(prot & VM_READ);
	int err = 0;

	if (old == prot)
		return 0;
	if ((was & VM_SHARED) && (prot & VM_WRITE) && (v->object->flags & OBJECT_READONLY))
		return -EACCES;
	vma_write_lock(v);
	if (hides)
		err = stop_reading(q, s, v, r);
	if (!err)
		err = m->ops->area_protect(m, s->ms, r, vma_prot_bits(was), vma_prot_bits(vf));
	if (err) {
		clear_mark(s, whole);
		return err;
	}
	err = vma_change_flags(&s->fs.vmas, r, prot, (VM_PROT_MASK & ~prot) | VM_UNREADABLE);
	clear_mark(s, whole);
	if (err) {
		/* Back to what the area still says; giving rights back may not need a new host
		 * mapping. */
		WARN_ON(m->ops->area_protect(m, s->ms, r, vma_prot_bits(vf), vma_prot_bits(was)));
		return err;
	}
	protect_entries(q, s, r, vf, home);
	return 0;
}

int space_protect(struct quire *q, struct space *s, u64 start, u64 size, u32 prot)
{
	struct range r;
	u64 va;
	int err;

	if (prot & ~(u32)VM_PROT_MASK)
		return -EINVAL;
	if (!size && IS_ALIGNED(start, PAGE_SIZE))
		return 0;
	if (!space_range_ok(s, start, &size))
		return IS_ALIGNED(start, PAGE_SIZE) ? -ENOMEM : -EINVAL;
	r = mk_range(start, size);
	space_write_lock(&s->fs.vmas);
	/* As in Linux: areas before a hole are changed, then the hole is reported. */
	for (va = r.start, err = 0; va < r.end && !err;) {
		struct vma *v = vma_find(&s->fs.vmas, va);
		u64 end;

		if (!v || (vma_flags(v) & VM_FOREIGN)) {
			err = -ENOMEM;
			break;
		}
		end = min(vma_end(v), r.end);
		err = protect_area(q, s, v, (struct range){ va, end }, prot);
		va = end;
	}
	space_write_unlock(&s->fs.vmas);
	qrcu_poll(q);
	return err;
}
