/*
 * protect.c - mprotect: what entries allow follows what the area allows; nothing lingers that allows more.
 *
 *   T1: protect(READ)                         T2: user, fault
 *   space lock; area write-locked: no fault under way, none begins
 *   entries lose WRITE (keep DIRTY)
 *   flush: no store gets through
 *   unlock, return                            a store after this traps; the area says no
 *
 * Where the machine enforces areas itself (CAP_AREA_PROTECT) it is told first: it may refuse (a limit of host mappings) and then nothing has changed.
 */
#include "space/space_internal.h"

/* The entry's new value under the new rights; A/D bits as found. */
static u64 new_entry(struct quire *q, u64 e, u64 vf)
{
	bool hw = machine_has(q->machine, CAP_HW_AD);
	bool none = !(vf & VM_PROT_MASK);

	e &= ~(ENTRY_PRESENT | ENTRY_PROTNONE | ENTRY_NX);
	e |= none ? ENTRY_PROTNONE : ENTRY_PRESENT;
	if (!(vf & VM_EXEC))
		e |= ENTRY_NX;
	if (!(vf & VM_WRITE) || none || pte_special(e)) {
		e &= ~ENTRY_WRITE;
	} else if (!pte_write(e) && (hw || pte_dirty(e)) &&
		   folio_test(phys_folio(q, entry_pfn(e)), PG_ANON_EXCLUSIVE)) {
		/* An exclusive page may be written without a fault. */
		e |= ENTRY_WRITE;
	}
	return e;
}

/* One table's part of the range. */
static void protect_table(struct quire *q, struct space *s, struct range r, u64 vf)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&s->fs.rs.pgt, r.start, &desc);
	struct tlb_range flush = { ~0ull, 0, FLUSH_NO_STORE, false, false };

	if (!p)
		return;
	rmap_flush_batched(&s->fs.rs);
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE, p++) {
		u64 e = pte_get(p), n;

		if (!pte_present(e))
			continue;
		/* Exchange, so that a bit that the machine sets meanwhile is not lost. */
		e = pte_get_and_clear(p);
		n = new_entry(q, e, vf);
		pte_set(p, n);
		if ((e & ~n) & (ENTRY_PRESENT | ENTRY_WRITE)) {
			flush.start = min(flush.start, va);
			flush.end = va + PAGE_SIZE;
			if ((e & ~n) & ENTRY_PRESENT)
				flush.strength = FLUSH_NO_ACCESS;
		}
	}
	/* A machine that enforces areas has done it already; a flush there would cost the bytes. */
	if (flush.start < flush.end && !machine_has(q->machine, CAP_AREA_PROTECT) &&
	    mech_on(q, MECH_PROTECT_FLUSH)) {
		if (machine_has(q->machine, CAP_HOME))
			flush.strength = FLUSH_NO_STORE;
		tlb_flush_range(&s->fs.rs.tlb, flush);
	}
	pt_pte_unlock(desc);
}

static void protect_entries(struct quire *q, struct space *s, struct range r, u64 vf)
{
	while (r.start < r.end) {
		u64 end = min(ALIGN_DOWN(r.start, PMD_SIZE) + PMD_SIZE, r.end);

		protect_table(q, s, (struct range){ r.start, end }, vf);
		r.start = end;
	}
}

/* One area, or the part of it in r; the cuts are made. S write. */
static int protect_area(struct quire *q, struct space *s, struct vma *v, struct range r, u32 prot)
{
	struct machine *m = q->machine;
	unsigned old = vma_flags(v) & VM_PROT_MASK;
	u64 vf = (vma_flags(v) & ~(u64)VM_PROT_MASK) | prot;
	int err;

	if (old == prot)
		return 0;
	vma_write_lock(v);
	err = m->ops->area_protect(m, s->ms, r, old, prot);
	if (err)
		return err;
	err = vma_change_flags(&s->fs.vmas, r, prot, VM_PROT_MASK & ~prot);
	if (err) {
		/* Back to what the area still says; giving rights back may not need a new host mapping. */
		WARN_ON(m->ops->area_protect(m, s->ms, r, prot, old));
		return err;
	}
	protect_entries(q, s, r, vf);
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
