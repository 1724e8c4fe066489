/*
 * advise.c - madvise: what each advice does to entries and folios. Advice that changes area flags
 * is a table.
 *
 * Under the space lock for reading (faults go on) except where area flags change. As in Linux,
 * holes are skipped and reported at the end (-ENOMEM), and the first other error ends the call.
 */
#include "space/space_internal.h"

#define GROUP      32u
#define READ_SLACK 64u

struct flag_advice {
	int advice;
	u64 set, clear;
};

static const struct flag_advice flag_advice[] = {
	{ ADVISE_NORMAL, 0, VM_RAND_READ | VM_SEQ_READ },
	{ ADVISE_RANDOM, VM_RAND_READ, VM_SEQ_READ },
	{ ADVISE_SEQUENTIAL, VM_SEQ_READ, VM_RAND_READ },
	{ ADVISE_DONTFORK, VM_DONTFORK, 0 },
	{ ADVISE_DOFORK, 0, VM_DONTFORK },
	{ ADVISE_HUGEPAGE, VM_HUGE, VM_NOHUGE },
	{ ADVISE_NOHUGEPAGE, VM_NOHUGE, VM_HUGE },
	{ ADVISE_DONTDUMP, VM_DONTDUMP, 0 },
	{ ADVISE_DODUMP, 0, VM_DONTDUMP },
	{ ADVISE_WIPEONFORK, VM_WIPEONFORK, 0 },
	{ ADVISE_KEEPONFORK, 0, VM_WIPEONFORK },
	{ 12 /* MERGEABLE */, VM_MERGEABLE, 0 },
	{ 13 /* UNMERGEABLE */, 0, VM_MERGEABLE },
};

static int advise_flags(struct space *s, struct range r, const struct flag_advice *fa)
{
	int err = 0;

	space_write_lock(&s->fs.vmas);
	while (r.start < r.end) {
		struct vma *v = vma_find_first(&s->fs.vmas, r.start);
		struct range part;

		if (!v || vma_start(v) >= r.end) {
			err = -ENOMEM;
			break;
		}
		if (vma_start(v) > r.start || (vma_flags(v) & VM_FOREIGN))
			err = -ENOMEM;
		part = (struct range){ max(r.start, vma_start(v)), min(r.end, vma_end(v)) };
		r.start = part.end;
		if (vma_flags(v) & VM_FOREIGN)
			continue;
		/* What is an object's cannot be empty in a child (as in Linux). */
		if ((fa->set & VM_WIPEONFORK) && v->object) {
			err = -EINVAL;
			break;
		}
		if (vma_change_flags(&s->fs.vmas, part, fa->set, fa->clear)) {
			err = -EAGAIN;
			break;
		}
	}
	space_write_unlock(&s->fs.vmas);
	return err;
}

/* ---- MADV_FREE ---- */

/* Do the nr entries from p on map the folio, page by page? (mremap may have moved some of its pages
 * elsewhere.) */
static bool maps_whole(struct quire *q, struct folio *f, pte_t *p, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		u64 e = pte_get(p + i);

		if (!entry_present(e) || entry_pfn(e) != folio_pfn(q, f) + i)
			return false;
	}
	return folio_mapcount(f) == nr;
}

/* The pages of one folio at p, all of it: cleaned, to be dropped unless written again. LOCKING:
 * entry lock. */
static u32 free_folio(struct quire *q, struct space *s, struct folio *f, pte_t *p, u32 nr)
{
	bool hw = machine_has(q->machine, CAP_HW_AD);

	if (!folio_trylock(f))
		return 0;
	/* Frozen: a pin without a lock that came in between would find its dirty mark gone. */
	if (a32_read(&f->ref) != nr + (folio_test(f, PG_SWAPCACHE) ? nr : 0) ||
	    (folio_test(f, PG_SWAPCACHE) && !swap_try_free_folio(q, f)) || !folio_freeze(f, nr)) {
		folio_unlock(f);
		return 0;
	}
	for (u32 i = 0; i < nr; i++)
		a64_fetch_and(p + i, ~(ENTRY_DIRTY | ENTRY_ACCESSED | (hw ? 0 : ENTRY_WRITE)));
	a64_fetch_and(&f->flags, ~(PGF(DIRTY) | PGF(ACTIVE) | PGF(REFERENCED)));
	folio_set(f, PG_LAZYFREE);
	folio_unfreeze(f, nr);
	folio_unlock(f);
	(void)s;
	return nr;
}

static void free_table(struct quire *q, struct space *s, struct gather *g, struct range r)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&s->fs.rs.pgt, r.start, &desc);
	struct tlb_range flush = { ~0ull, 0, FLUSH_NO_STORE, false, false };
	u64 swaps = 0;

	(void)g;
	if (!p)
		return;
	rmap_flush_batched(&s->fs.rs);
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE, p++) {
		u64 e = pte_get(p);
		struct folio *f;
		u32 nr;

		if (pte_is_swap(e) && swp_type(e) == SWP_STORE) {
			/* Cached still: on its way out or in; it keeps its bytes, as MADV_FREE
			 * allows. */
			f = swap_lookup(q, swp_slot(e));
			if (f) {
				folio_put(q, f);
				continue;
			}
			pte_set(p, 0);
			swap_put(q, swp_slot(e), 1);
			swaps++;
			continue;
		}
		if (!entry_present(e) || pte_special(e))
			continue;
		f = phys_folio(q, entry_pfn(e));
		nr = folio_nr(f);
		if (va + nr * PAGE_SIZE > r.end || !maps_whole(q, f, p, nr))
			continue;
		if (!free_folio(q, s, f, p, nr))
			continue;
		flush.start = min(flush.start, va);
		flush.end = va + nr * PAGE_SIZE;
		va += (nr - 1) * PAGE_SIZE;
		p += nr - 1;
	}
	/* Before the lock is dropped: a store through an old translation would be to a page that
	 * may be dropped clean. */
	if (flush.start < flush.end)
		tlb_flush_range(&s->fs.rs.tlb, flush);
	pt_pte_unlock(desc);
	a64_sub(&s->fs.rs.swap_entries, swaps);
}

/* ---- COLD, PAGEOUT ---- */

/* References on folios mapped from *va on, at most GROUP; advances *va. Their accessed bits go:
 * they are not in use, says the program. No flush: a stale bit only makes a page look old a little
 * early. */
static u32 hold_folios(struct quire *q, struct space *s, u64 *va, u64 end, struct folio **out)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&s->fs.rs.pgt, *va, &desc);
	bool hw = machine_has(q->machine, CAP_HW_AD);
	u32 n = 0;

	if (!p) {
		*va = end;
		return 0;
	}
	for (; *va < end && n < GROUP; *va += PAGE_SIZE, p++) {
		u64 e = pte_get(p);
		struct folio *f;

		if (!pte_present(e) || pte_special(e))
			continue;
		if (hw && pte_young(e))
			a64_fetch_and(p, ~ENTRY_ACCESSED);
		f = phys_folio(q, entry_pfn(e));
		if (n && out[n - 1] == f)
			continue;
		folio_get(f);
		out[n++] = f;
	}
	pt_pte_unlock(desc);
	return n;
}

static void cool_table(struct quire *q, struct space *s, struct range r, bool pageout)
{
	struct folio *f[GROUP];
	struct list out;

	while (r.start < r.end) {
		u32 n = hold_folios(q, s, &r.start, r.end, f);

		list_init(&out);
		for (u32 i = 0; i < n; i++) {
			/* The look's reference goes before eviction, which counts references. */
			if (pageout && lru_isolate(q, f[i]))
				list_add_tail(&f[i]->lru, &out);
			else if (!pageout)
				lru_deactivate(q, f[i]);
			folio_put(q, f[i]);
		}
		if (!list_empty(&out))
			reclaim_folio_list(q, &out);
	}
}

/* ---- the walk over areas ---- */

static void willneed(struct quire *q, struct space *s, struct vma *v, struct range r)
{
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE) {
		pte_t *p;
		u64 e;

		qrcu_read_lock();
		p = pt_pte_peek(&s->fs.rs.pgt, va);
		e = p ? pte_get(p) : 0;
		qrcu_read_unlock();
		if (!pte_is_swap(e))
			continue;
		/* Bringing in more than there is room for would only push out what was brought in.
		 */
		if (cgroup_usage(q, s->fs.cgroup) + READ_SLACK >= cgroup_limit(q, s->fs.cgroup))
			return;
		if (fault_under_space_lock(q, &s->fs, v, va, ACCESS_READ | ACCESS_REMOTE))
			return;
	}
}

static void dontneed(struct quire *q, struct space *s, struct vma *v, struct range r)
{
	struct gather g;

	gather_begin(q, &g, &s->fs.rs, false);
	space_zap(q, s, &g, v, r);
	gather_end(&g);
}

static int advise_area(struct quire *q, struct space *s, struct vma *v, struct range r, int advice)
{
	if (advice == ADVISE_WILLNEED) {
		willneed(q, s, v, r);
		return 0;
	}
	/* Only anonymous memory may be given up. */
	if ((vma_flags(v) & VM_LOCKED) || (advice == ADVISE_FREE && v->object))
		return -EINVAL;
	if (advice == ADVISE_DONTNEED) {
		dontneed(q, s, v, r);
		return 0;
	}
	/* Pages just faulted in are still in batches, which hold references. */
	lru_drain_all(q);
	for (u64 end; r.start < r.end; r.start = end) {
		struct range part;

		end = min(ALIGN_DOWN(r.start, PMD_SIZE) + PMD_SIZE, r.end);
		part = (struct range){ r.start, end };
		if (advice == ADVISE_FREE)
			free_table(q, s, NULL, part);
		else
			cool_table(q, s, part, advice == ADVISE_PAGEOUT);
	}
	return 0;
}

static int advise_pages(struct quire *q, struct space *s, struct range r, int advice)
{
	int err = 0, hole = 0;

	space_read_lock(&s->fs.vmas);
	while (r.start < r.end && !err) {
		struct vma *v = vma_find_first(&s->fs.vmas, r.start);
		struct range part;

		if (!v || vma_start(v) >= r.end) {
			hole = -ENOMEM;
			break;
		}
		if (vma_start(v) > r.start || (vma_flags(v) & VM_FOREIGN))
			hole = -ENOMEM;
		part = (struct range){ max(r.start, vma_start(v)), min(r.end, vma_end(v)) };
		r.start = part.end;
		if (!(vma_flags(v) & VM_FOREIGN))
			err = advise_area(q, s, v, part, advice);
	}
	space_read_unlock(&s->fs.vmas);
	return err ? err : hole;
}

static int populate(struct quire *q, struct space *s, struct range r, u32 access)
{
	int err;

	space_read_lock(&s->fs.vmas);
	err = space_covered(s, r);
	space_read_unlock(&s->fs.vmas);
	if (!err)
		err = space_populate(q, s, r, access);
	/* madvise(2): a hole is ENOMEM, an area that forbids the access EINVAL, a page that cannot
	 * be read EFAULT. */
	if (err == -EACCES)
		return -EINVAL;
	if (err == -EIO)
		return -EFAULT;
	return err == -EFAULT ? -ENOMEM : err;
}

int space_advise(struct quire *q, struct space *s, u64 start, u64 size, int advice)
{
	struct range r;
	int err = -EINVAL;

	if (!IS_ALIGNED(start, PAGE_SIZE))
		return -EINVAL;
	for (u32 i = 0; i < ARRAY_SIZE(flag_advice); i++)
		if (flag_advice[i].advice == advice) {
			if (!size)
				return 0;
			if (!space_range_ok(s, start, &size))
				return -ENOMEM;
			err = advise_flags(s, mk_range(start, size), &flag_advice[i]);
			qrcu_poll(q);
			return err;
		}
	switch (advice) {
	case ADVISE_WILLNEED:
	case ADVISE_DONTNEED:
	case ADVISE_FREE:
	case ADVISE_COLD:
	case ADVISE_PAGEOUT:
	case ADVISE_POPULATE_READ:
	case ADVISE_POPULATE_WRITE:
		break;
	default:
		return -EINVAL;
	}
	if (!size)
		return 0;
	if (!space_range_ok(s, start, &size))
		return -ENOMEM;
	r = mk_range(start, size);
	if (advice == ADVISE_POPULATE_READ || advice == ADVISE_POPULATE_WRITE)
		err = populate(q, s, r,
			       advice == ADVISE_POPULATE_WRITE ? ACCESS_WRITE : ACCESS_READ);
	else
		err = advise_pages(q, s, r, advice);
	qrcu_poll(q);
	return err;
}
