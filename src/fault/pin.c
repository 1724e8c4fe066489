/*
 * pin.c - pages made resident and held there for a system call or a device.
 *
 *   T1: pin                                   T2: reclaim
 *   entry lock; entry present, allowed?       entry lock; pinned? leave it. else clear the entry
 *   add PIN_BIAS; unlock
 * Both look under the same lock, so a page is either pinned and stays, or gone and is faulted in
 * again.
 *
 * pin_fast takes no lock. It may pin what is being unmapped, shared or freed at this moment, and
 * finds out afterwards:
 *
 *   T1: pin_fast                              T2: unmap, reclaim, fork
 *   fork_seq even? RCU section
 *   read the entry: present, allowed?         clear it or take WRITE from it
 *   add the pin, but not to 0 references      pins? (rmap.h: folio_try_share_anon_rmap_ptes)
 *   entry still the same, page still          last reference: frozen
 *   exclusive, table still in the tree,
 *   fork_seq still the same? else drop it
 *
 * The frame's record is never freed, so a pin that is dropped again did no harm; the RCU section
 * keeps the table. What cannot be pinned so is left to pin_pages, which may fault.
 */
#include "fault/fault_internal.h"

/* Of nr pages of one folio, which entries from e on map: how many from the front a pin may take. */
static u32 count_own(struct quire *q, u64 e, u32 nr, u32 access)
{
	struct folio *page = phys_record(q, entry_pfn(e));
	u32 i = 0;

	if ((e & ENTRY_SHARED) || folio_object(folio_head(page)))
		return fault_must_unshare(q, e, access) ? 0 : nr;
	while (i < nr && page_exclusive(page + i))
		i++;
	return i;
}

/* How many entries from p on, at most max, map what follows e's page as e does. */
static u32 same_run(const pte_t *p, u64 e, u32 max)
{
	u32 n = 1;

	while (n < max &&
	       !((pte_get(p + n) ^ (e + n * PAGE_SIZE)) & ~(ENTRY_ACCESSED | ENTRY_DIRTY)))
		n++;
	return n;
}

/* Whoever writes through the pin leaves no dirty bit in the entry. An anonymous folio that is
 * pinned is not written out, so the flag stays. An object's is dirty already, because its entry is
 * writable; and write-back, which looks for pins after it has write-protected the entries, leaves a
 * pinned one dirty (object.h): it sees the pin, or the pin sees that the entry has changed. */
static void note_write(struct folio *f, u32 access)
{
	if ((access & ACCESS_WRITE) && !folio_test(f, PG_DIRTY) && folio_is_anon(f))
		folio_set(f, PG_DIRTY);
}

/* Pin what is there from va on, inside one table; returns pages pinned. */
static u32 pin_present(struct quire *q, struct fault_space *fs, u64 va, u32 n, u32 access,
		       struct folio **pages)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&fs->rs.pgt, va, &desc);
	u32 i = 0;

	if (!p)
		return 0;
	n = min(n, PTRS_PER_TABLE - entry_index(va, 0));
	while (i < n) {
		u64 e = pte_get(p + i);
		struct folio *rec, *f;
		u32 run;

		if (!entry_present(e) || ((access & ACCESS_WRITE) && !pte_write(e)) ||
		    fault_must_unshare(q, e, access) || inject_fail(q->inject, INJECT_PIN))
			break;
		if (pte_special(e)) {
			pages[i++] = NULL;
			continue;
		}
		rec = phys_record(q, entry_pfn(e));
		f = folio_head(rec);
		run = same_run(p + i, e, min(n - i, folio_nr(f) - (u32)(rec - f)));
		run = count_own(q, e, run, access);
		folio_get_nr(f, run * PIN_BIAS);
		note_write(f, access);
		for (u32 k = 0; k < run; k++)
			pages[i + k] = rec + k;
		i += run;
	}
	pt_pte_unlock(desc);
	stat_add(q, STAT_PIN, i);
	return i;
}

long pin_pages(struct quire *q, struct fault_space *fs, struct range r, u32 access,
	       struct folio **pages)
{
	u64 va = r.start;
	u32 idle = 0;

	while (va < r.end) {
		u64 left = (r.end - va) >> PAGE_SHIFT, done = (va - r.start) >> PAGE_SHIFT;
		u32 n = pin_present(q, fs, va, (u32)min(left, (u64)PTRS_PER_TABLE), access,
				    pages + done);
		int err;

		va += (u64)n << PAGE_SHIFT;
		idle = n ? 0 : idle + 1;
		if (n == left)
			break;
		/* A page that is evicted as fast as it is brought in must not hold the caller for
		 * ever. */
		err = idle > 4096 ?
			      -ENOMEM :
			      handle_fault(q, fs, va, access | ACCESS_REMOTE | ACCESS_UNSHARE);
		if (err)
			return va == r.start ? err : (long)((va - r.start) >> PAGE_SHIFT);
	}
	return (long)((r.end - r.start) >> PAGE_SHIFT);
}

#define RUNS_MAX 16u

/* Entries of one folio that lie side by side, as they were read. */
struct run {
	struct folio *f; /* NULL: the zero page */
	u64 e;           /* the first one */
	u32 nr;          /* pages with a pin each */
};

/* A pin for what nr entries from p on map, by what they say now. False: not to be had so. */
static bool take_run(struct quire *q, const pte_t *p, u32 max, u32 access, struct run *r)
{
	u32 left;

	r->e = pte_get(p);
	r->f = NULL;
	r->nr = 1;
	if (!entry_present(r->e) || ((access & ACCESS_WRITE) && !pte_write(r->e)))
		return false;
	if (pte_special(r->e))
		return !fault_must_unshare(q, r->e, access);
	r->f = folio_head_peek(phys_record(q, entry_pfn(r->e)), &left);
	r->nr = same_run(p, r->e, min(max, left));
	return a32_add_unless(&r->f->ref, r->nr * PIN_BIAS, 0);
}

/* With the pins taken: how many of the run's pages are its own, and still what its entries say: in
 * this order, because a page may become another space's own when ours has lost it (reverse.c). */
static u32 check_run(struct quire *q, const pte_t *p, const struct run *r, u32 access,
		     struct folio **pages)
{
	struct folio *rec = phys_record(q, entry_pfn(r->e));
	u32 i = 0, nr;

	if (!r->f) {
		pages[0] = NULL;
		return 1;
	}
	nr = count_own(q, r->e, r->nr, access);
	for (; i < nr; i++) {
		u64 changed = pte_get(p + i) ^ (r->e + i * PAGE_SIZE);

		if ((changed & ~(ENTRY_ACCESSED | ENTRY_DIRTY)) &&
		    mech_on(q, MECH_PIN_FAST_RECHECK))
			break;
		if (folio_head(rec + i) != r->f)
			break;
		pages[i] = rec + i;
	}
	return i;
}

/* Inside one table. Returns pages pinned from the front. */
static u64 pin_table(struct quire *q, struct fault_space *fs, u64 va, u64 max, u32 access,
		     struct folio **pages)
{
	struct run run[RUNS_MAX];
	u32 nr_runs = 0, taken = 0, n = 0, good, k = 0;
	bool live = true;
	pte_t *p;

	max = min(max, (u64)(PTRS_PER_TABLE - entry_index(va, 0)));
	qrcu_read_lock();
	p = pt_pte_peek(&fs->rs.pgt, va);
	while (p && taken < max && nr_runs < RUNS_MAX &&
	       take_run(q, p + taken, (u32)max - taken, access, &run[nr_runs]))
		taken += run[nr_runs++].nr;
	/* All pins before any second look. */
	smp_mb();
	for (; k < nr_runs; k++) {
		good = check_run(q, p + n, &run[k], access, pages + n);
		n += good;
		run[k].nr -= good;
		if (good && run[k].f)
			note_write(run[k].f, access);
		if (run[k].nr)
			break;
	}
	/* Unhooked, and perhaps its pages mapped anew by another one. */
	if (n)
		live = pt_pte_peek(&fs->rs.pgt, va) == p;
	qrcu_read_unlock();
	/* What did not stand the second look, and all behind it. */
	for (; k < nr_runs; k++)
		if (run[k].f)
			folio_put_nr(q, run[k].f, run[k].nr * PIN_BIAS);
	if (live)
		return n;
	unpin_pages(q, pages, n);
	return 0;
}

static u64 pin_lockless(struct quire *q, struct fault_space *fs, struct range r, u32 access,
			struct folio **pages)
{
	u64 n = 0, all = range_size(r) >> PAGE_SHIFT, got;
	u32 seq = a32_read_acquire(&fs->fork_seq);

	if ((seq & 1) && mech_on(q, MECH_FORK_WRITE_SEQ))
		return 0;
	do {
		got = pin_table(q, fs, r.start + (n << PAGE_SHIFT), all - n, access, pages + n);
		n += got;
	} while (got && n < all);
	/* A barrier lies behind the pins: a fork that has begun meanwhile is seen here, one that
	 * begins now sees the pins. */
	if (a32_read(&fs->fork_seq) != seq && mech_on(q, MECH_FORK_WRITE_SEQ)) {
		unpin_pages(q, pages, n);
		return 0;
	}
	stat_add(q, STAT_PIN, n);
	return n;
}

long pin_fast(struct quire *q, struct fault_space *fs, struct range r, u32 access,
	      struct folio **pages)
{
	u64 n = pin_lockless(q, fs, r, access, pages);
	long rest;

	r.start += n << PAGE_SHIFT;
	if (r.start == r.end)
		return (long)n;
	rest = pin_pages(q, fs, r, access, pages + n);
	return rest < 0 && n ? (long)n : (long)n + rest;
}

void unpin_pages(struct quire *q, struct folio **pages, u64 n)
{
	for (u64 i = 0, run; i < n; i += run) {
		struct folio *f = pages[i] ? folio_head(pages[i]) : NULL;

		run = 1;
		while (i + run < n && f && pages[i + run] && folio_head(pages[i + run]) == f)
			run++;
		if (f)
			folio_put_nr(q, f, (u32)run * PIN_BIAS);
	}
}

/* How many from the front are the memory at their own address. */
static u64 count_home(struct quire *q, struct folio *const *pages, u64 n, u64 va)
{
	u64 i = 0;

	while (i < n && pages[i] && frame_is_home(q->machine, folio_pfn(q, pages[i]))) {
		DEBUG_ON(folio_pfn(q, pages[i]) != (va >> PAGE_SHIFT) + i);
		i++;
	}
	return i;
}

#define RANGE_CHUNK 64u /* on the stack of a system call's handler */

long pin_range(struct quire *q, struct fault_space *fs, struct range r, u32 access)
{
	struct folio *pages[RANGE_CHUNK];
	u64 va = r.start;

	while (va < r.end) {
		u64 want = min((r.end - va) >> PAGE_SHIFT, (u64)RANGE_CHUNK), home;
		struct range part = { va, va + (want << PAGE_SHIFT) };
		long got = pin_fast(q, fs, part, access, pages);

		if (got < 0 && va == r.start)
			return got;
		if (got < 0)
			break;
		home = count_home(q, pages, (u64)got, va);
		unpin_pages(q, pages + home, (u64)got - home);
		va += home << PAGE_SHIFT;
		if (!home && va == r.start)
			return -EINVAL;
		if (home < want)
			break;
	}
	return (long)((va - r.start) >> PAGE_SHIFT);
}

void unpin_range(struct quire *q, struct range r)
{
	for (u64 va = r.start; va < r.end;) {
		struct folio *f = folio_head(phys_record(q, va >> PAGE_SHIFT));
		u32 run = 0;

		/* The pins keep the folio as it is. */
		for (; va < r.end && folio_head(phys_record(q, va >> PAGE_SHIFT)) == f;
		     va += PAGE_SIZE)
			run++;
		folio_put_nr(q, f, run * PIN_BIAS);
	}
}
