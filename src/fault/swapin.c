/*
 * swapin.c - a fault on a swap entry: the cached folio, or a new one read from the store, with
 * readahead.
 *
 * Who keeps the slot: until the entry lock is taken the entry may go at any time, and with it the
 * slot; the cached, locked folio keeps it from being reused (a slot is freed only when it has
 * neither entry nor folio). After the entry lock is taken the entry is compared with the one that
 * the read was for (MECH_SWAP_RECHECK_ENTRY).
 *
 * Clean or dirty: where the machine cannot tell when a page is first written (no hardware dirty
 * bit) a page read back for a load is mapped read-only and keeps its stored copy, so that evicting
 * it again costs no write. Where such pages turn out to be written soon after (desc->wp_faults
 * against clean_faults, per 2 MiB), they are mapped writable at once and the copy is given up.
 */
#include "fault/fault_internal.h"

struct swapin {
	u32 n; /* pages, the faulting one first */
	u64 slot[READAHEAD_MAX];
	struct folio *folio[READAHEAD_MAX]; /* NULL: dropped out */
	u64 entry[READAHEAD_MAX];           /* the swap entry read for */
	u64 new[READAHEAD_MAX];             /* the present entry */
	int err[READAHEAD_MAX];
	bool hot[READAHEAD_MAX];
	void *fill;
};

/* Should this page be writable at once? LOCKING: entry lock. */
static bool map_writable(struct fc *c, struct ptdesc *desc, bool faulting)
{
	if (!(c->vf & VM_WRITE))
		return false;
	if (c->hw_ad)
		return true;
	if (faulting && fc_write(c))
		return true;
	if (swap_is_tight(c->q))
		return true;
	/* Saturating memory of about the last thousand. */
	if (desc->clean_faults > 1024) {
		desc->clean_faults /= 2;
		desc->wp_faults /= 2;
	}
	if (desc->clean_faults > 8 && desc->wp_faults * 3 > desc->clean_faults) {
		/* Let the ratio decay, so that the decision is tried again. */
		if ((desc->clean_faults & 15) == 0)
			desc->wp_faults -= desc->wp_faults / 8;
		desc->clean_faults++;
		return true;
	}
	desc->clean_faults++;
	return false;
}

/* Bookkeeping of one entry that became present. A page that was exclusive when it was unmapped, and
 * was not shared by fork since, is so again (Linux 1493a191). LOCKING: folio lock, entry lock. */
static void entry_mapped(struct fc *c, struct folio *f, u32 page, u64 va, u64 entry)
{
	if (entry & SWP_EXCLUSIVE)
		folio_set(folio_page(f, page), PG_ANON_EXCLUSIVE);
	folio_add_anon_rmap_ptes(c->q, f, page, 1, c->v, va);
	a64_add(&c->fs->rs.rss_pages, 1);
	a64_sub(&c->fs->rs.swap_entries, 1);
	swap_put(c->q, swp_slot(entry), 1);
}

/* After the entry lock is dropped: a page that may be written needs its copy no more. LOCKING:
 * folio lock. */
static void settle_copy(struct fc *c, struct folio *f, bool dirty)
{
	if (dirty)
		folio_set(f, PG_DIRTY);
	if (folio_test(f, PG_SWAPCACHE) && folio_test(f, PG_DIRTY) && !swap_try_free_folio(c->q, f))
		swap_invalidate_copy(c->q, f);
}

/* ---- the folio is still in the cache ---- */

static int map_cached(struct fc *c, struct folio *f, u64 entry)
{
	u32 page = (u32)(swp_slot(entry) - f->swap);
	u64 pfn = folio_pfn(c->q, f) + page, e;
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	bool writable;
	int err;

	if (!p)
		return FAULT_AGAIN;
	if (mech_on(c->q, MECH_SWAP_RECHECK_ENTRY) && pte_get(p) != entry) {
		pt_pte_unlock(desc);
		return FAULT_AGAIN;
	}
	/* The entry's reference. The caller's keeps the folio while it is locked: as soon as the
	 * entry lock is dropped the entry may be zapped. */
	folio_get(f);
	/* Bytes without a stored copy are dirty already: nothing is saved by trapping the first
	 * write. */
	writable = (entry & SWP_EXCLUSIVE) &&
		   ((folio_test(f, PG_DIRTY) && (c->vf & VM_WRITE)) || map_writable(c, desc, true));
	e = pte_mk(pfn, fault_entry_bits(c, writable, fc_write(c)));
	meta_restore(c->q, &c->fs->rs, c->va, pfn, swp_slot(entry));
	pte_set(p, e);
	err = fault_install(c, c->va, &e, 1, NULL, false, false);
	if (err) {
		pte_set(p, entry);
		pt_pte_unlock(desc);
		folio_put(c->q, f);
		return err == -EAGAIN ? FAULT_AGAIN : err;
	}
	entry_mapped(c, f, page, c->va, entry);
	pt_pte_unlock(desc);
	settle_copy(c, f, pte_dirty(e));
	return FAULT_DONE;
}

static int swapin_cached(struct fc *c, struct folio *f, u64 entry)
{
	u64 slot = swp_slot(entry);
	int r = FAULT_AGAIN;

	folio_lock(f); /* waits for a write-out or for another fault's read */
	if (folio_test(f, PG_SWAPCACHE) && slot >= f->swap && slot - f->swap < folio_nr(f) &&
	    folio_test(f, PG_UPTODATE)) {
		u64 pfn = folio_pfn(c->q, f) + (slot - f->swap);

		BUG_ON(c->home && pfn != c->va >> PAGE_SHIFT);
		r = map_cached(c, f, entry);
	}
	folio_unlock(f);
	/* The entry was zapped while its folio was locked here: nobody else will drop what only the
	 * cache keeps. */
	if (r == FAULT_AGAIN)
		rmap_drop_unused_copy(c->q, f);
	folio_put(c->q, f);
	if (!r)
		stat_inc(c->q, STAT_FAULT_MINOR);
	return r;
}

/* ---- read it ---- */

/* How many pages to bring: doubles while faults continue where the last one ended. */
static u32 readahead_pages(struct fc *c)
{
	u64 last = a64_read(&c->v->last_fault);
	u32 n = a32_read(&c->v->ra_pages);

	if (c->vf & VM_RAND_READ)
		return 1;
	if (c->va == last)
		n = n ? min(n * 2, READAHEAD_MAX) : 2;
	else if (c->vf & VM_SEQ_READ)
		n = READAHEAD_MAX / 2;
	else
		n = 0;
	a32_set(&c->v->ra_pages, n);
	return n ? n : 1;
}

/* The run of uncached swap entries from the faulting one on. A look without the lock. */
static u32 collect(struct fc *c, struct swapin *s, u64 entry, u32 want)
{
	u32 room = PTRS_PER_TABLE - entry_index(c->va, 0), n = 1;
	pte_t *p;

	want = min(want, room);
	want = (u32)min((u64)want, (vma_end(c->v) - c->va) >> PAGE_SHIFT);
	s->entry[0] = entry;
	s->slot[0] = swp_slot(entry);
	if (want == 1)
		return 1;
	qrcu_read_lock();
	p = pt_pte_peek(&c->fs->rs.pgt, c->va);
	for (; p && n < want; n++) {
		u64 e = pte_get(p + n);

		if (!pte_is_swap(e) || swp_type(e) != SWP_STORE)
			break;
		s->entry[n] = e;
		s->slot[n] = swp_slot(e);
	}
	qrcu_read_unlock();
	return n;
}

/* Drop page i of the plan: its folio was never filled. */
static void drop_out(struct fc *c, struct swapin *s, u32 i)
{
	struct folio *f = s->folio[i];

	swap_cache_abort(c->q, f);
	folio_unlock(f);
	fault_free_folio(c->q, f);
	s->folio[i] = NULL;
}

/* Frames, locked, into the swap cache. Returns 0, or what stopped the first page; s->n == 0:
 * resolved otherwise. */
static int enter_cache(struct fc *c, struct swapin *s)
{
	const struct fault_ops *ops = c->q->fault->ops;
	int got = fault_alloc_run(c, c->va, s->n, s->folio), err = 0;
	u32 i;

	s->n = 0;
	if (got < 0)
		return got == -EBUSY ? fault_home_busy(c, s->entry[0]) : got;
	for (i = 0; i < (u32)got; i++) {
		u32 shadow = 0;

		/*
		 * A fault that found no entry (it was zapped after this one looked) may have met
		 * the frame by its number, and hold the folio or have mapped it.
		 */
		if (!folio_trylock(s->folio[i]))
			break;
		if (folio_mapped(s->folio[i])) {
			folio_unlock(s->folio[i]);
			break;
		}
		err = swap_cache_insert(c->q, s->slot[i], s->folio[i], &shadow);
		if (err) {
			folio_unlock(s->folio[i]);
			break;
		}
		s->hot[i] = ops && ops->refault && ops->refault(c->q, shadow);
	}
	s->n = i;
	for (u32 k = i; k < (u32)got; k++)
		fault_free_folio(c->q, s->folio[k]);
	if (i)
		return 0;
	return err == -ENOMEM ? -ENOMEM : FAULT_AGAIN;
}

static int read_pages(struct fc *c, struct swapin *s)
{
	struct machine *m = fc_machine(c);
	u64 pfn = folio_pfn(c->q, s->folio[0]);
	void *buf[READAHEAD_MAX];
	u32 n;

	if (c->home) {
		s->fill = m->ops->fill_begin(m, pfn, s->n);
		if (!s->fill)
			return -ENOMEM;
	}
	for (n = 0; n < s->n; n++) {
		buf[n] = c->home ? (char *)s->fill + n * PAGE_SIZE :
				   m->ops->fill_begin(m, folio_pfn(c->q, s->folio[n]), 1);
		if (!buf[n])
			break;
	}
	if (!n)
		return -ENOMEM;
	swap_read(c->q, s->slot, n, buf, s->err);
	if (!c->home)
		for (u32 i = 0; i < n; i++)
			if (m->ops->fill_end(m, folio_pfn(c->q, s->folio[i]), 1, buf[i]) &&
			    !s->err[i])
				s->err[i] = -ENOMEM;
	/* The others were only readahead. */
	for (; n < s->n; n++)
		s->err[n] = -ENOMEM;
	return 0;
}

/* Metadata beside the bytes of pages [from, to): LOCKING: entry lock. */
static void restore_meta(struct fc *c, struct swapin *s, u32 from, u32 to)
{
	for (u32 i = from; i < to; i++)
		meta_restore(c->q, &c->fs->rs, c->va + i * PAGE_SIZE, entry_pfn(s->new[i]),
			     s->slot[i]);
}

/* Install pages [from, to): all good. LOCKING: entry lock. */
static int install_run(struct fc *c, struct swapin *s, pte_t *p, u32 from, u32 to)
{
	u64 va = c->va + from * PAGE_SIZE;
	const char *fill = c->home ? (const char *)s->fill + from * PAGE_SIZE : NULL;
	int err;

	if (mech_on(c->q, MECH_META_FIRST))
		restore_meta(c, s, from, to);
	for (u32 i = from; i < to; i++)
		pte_set(p + i, s->new[i]);
	err = fault_install(c, va, s->new + from, to - from, fill, false, false);
	if (err) {
		for (u32 i = from; i < to; i++)
			pte_set(p + i, s->entry[i]);
		return err;
	}
	if (!mech_on(c->q, MECH_META_FIRST))
		restore_meta(c, s, from, to);
	for (u32 i = from; i < to; i++) {
		struct folio *f = s->folio[i];

		folio_set(f, PG_UPTODATE);
		/* On top of the entry's: the folio is locked until finish(), and the entry may be
		 * zapped before. */
		folio_get(f);
		entry_mapped(c, f, 0, c->va + i * PAGE_SIZE, s->entry[i]);
	}
	return 0;
}

/* Under the entry lock: who may be mapped; returns how many were. s->folio of the others is left
 * for drop_out. */
static int map_read(struct fc *c, struct swapin *s, u32 *mapped)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	u32 i, n = 0;
	int err = 0;

	*mapped = 0;
	if (!p)
		return FAULT_AGAIN;
	for (i = 0; i < s->n; i++) {
		bool w;

		if (s->err[i] ||
		    (mech_on(c->q, MECH_SWAP_RECHECK_ENTRY) && pte_get(p + i) != s->entry[i]))
			break;
		w = (s->entry[i] & SWP_EXCLUSIVE) && map_writable(c, desc, i == 0);
		s->new[i] = pte_mk(folio_pfn(c->q, s->folio[i]),
				   fault_entry_bits(c, w, i == 0 && fc_write(c)));
		n++;
	}
	if (n)
		err = install_run(c, s, p, 0, n);
	pt_pte_unlock(desc);
	if (err)
		return err == -EAGAIN ? FAULT_AGAIN : err;
	*mapped = n;
	return n ? 0 : FAULT_AGAIN;
}

static void finish(struct fc *c, struct swapin *s, u32 mapped)
{
	for (u32 i = 0; i < s->n; i++) {
		struct folio *f = s->folio[i];

		if (i >= mapped) {
			drop_out(c, s, i);
			continue;
		}
		settle_copy(c, f, pte_dirty(s->new[i]));
		if (s->hot[i])
			a64_fetch_or(&f->flags, PGF(ACTIVE) | PGF(WORKINGSET));
		if (c->vf & VM_LOCKED)
			a64_fetch_or(&f->flags, PGF(UNEVICTABLE) | PGF(MLOCKED));
		folio_unlock(f);
		lru_add(c->q, f);
		folio_put(c->q, f); /* install_run's */
	}
}

static int swapin_read(struct fc *c, u64 entry)
{
	struct machine *m = fc_machine(c);
	struct swapin s;
	u32 mapped = 0;
	unsigned node;
	u64 pfn;
	int r;

	s.fill = NULL;
	s.n = collect(c, &s, entry, readahead_pages(c));
	r = enter_cache(c, &s);
	if (r || !s.n)
		return r;
	pfn = folio_pfn(c->q, s.folio[0]);
	r = read_pages(c, &s);
	if (!r)
		r = s.err[0] == -EAGAIN ? FAULT_AGAIN :
		    s.err[0]            ? s.err[0] :
					  map_read(c, &s, &mapped);
	if (s.fill)
		m->ops->fill_end(m, pfn, s.n, s.fill);
	node = folio_node(s.folio[0]);
	finish(c, &s, mapped);
	if (r)
		return r;
	fault_lease(c, node, c->va, mapped);
	a64_set(&c->v->last_fault, c->va + mapped * PAGE_SIZE);
	stat_inc(c->q, STAT_FAULT_MAJOR);
	stat_add(c->q, STAT_SWAP_READAHEAD_PAGES, mapped - 1);
	return FAULT_DONE;
}

int fault_do_swap(struct fc *c, u64 entry)
{
	struct folio *f = swap_lookup(c->q, swp_slot(entry));

	if (f)
		return swapin_cached(c, f, entry);
	/* Forced is what moves pages: it wants cached ones mapped, and moves the entries of others
	 * as they are. */
	return c->access & ACCESS_FORCE ? FAULT_DONE : swapin_read(c, entry);
}
