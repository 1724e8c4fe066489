/*
 * object.c - faults in areas of objects: shared ones, and what private ones have not copied yet.
 *
 * No entry:
 *   read           the object's page, mapped read-only, and its neighbours that are in memory
 *   shared write   the object's page: dirty, and only then writable
 *   private write  a copy, at once: the object's page is never mapped first
 * An entry that is there: a shared one is made writable here; a private one is copied by wp.c.
 *
 * What may be mapped. From before it looks at the size until the entry is set, a fault holds the
 * object's `invalidate` for reading, so truncation comes before (and the fault finds its new size)
 * or after (and its pass over the areas finds the entry). A folio that a fault holds a reference of
 * is neither evicted nor replaced (both freeze it). So reading needs no folio lock:
 *
 *   T1: read fault                         T2: truncation              T3: reclaim
 *   invalidate (read); index < size?
 *   folio, with a reference                                            unmapped, clean
 *   entry lock; set the entry                                          freeze: one too many
 *   invalidate ends
 *                                          invalidate (write): size
 *                                          zap the entry
 *
 * Writing does: the folio is made dirty and its entry writable under one holding of its lock, which
 * write-back takes before it write-protects (object.h), so that no writable entry of a clean folio
 * is left behind:
 *
 *   T1: write fault                        T2: write-back
 *   folio lock; wait for write-back
 *   dirty; entry lock: writable
 *   folio unlock
 *                                          folio lock; entries lose WRITE, flush
 *                                          not dirty any more; unlock; write
 *
 * Where frames have places (machine.h), a private area has those of its own addresses for its
 * copies; the object's pages are mapped in runs, and copied where the machine has no mappings left
 * for them.
 *
 * Every entry has a reference of its own; the fault's goes when the entry is set.
 */
#include "fault/fault_internal.h"

#define AROUND_PAGES 16u /* as many as an aligned 64 KiB has */

/* One fault's pages: those around it that are in memory, ours among them. */
struct around {
	u64 first; /* index of page[0] */
	u64 va;    /* its address */
	u32 n;
	u32 main;                         /* which of them is ours */
	struct folio *page[AROUND_PAGES]; /* records, each with a reference; NULL: none */
};

/* What object_get_folio gave, for the trap. */
static int object_result(int err)
{
	return err == -EAGAIN || err == -EBUSY ? FAULT_AGAIN : err;
}

static struct folio *page_of(struct folio *f, u64 index)
{
	return folio_page(f, (u32)(index - f->index));
}

static int get_folio(struct fc *c, u64 index, u32 flags, struct folio **out)
{
	struct vma *v = c->v;
	struct object_ra ra;
	bool major = false, ahead = !(c->vf & VM_RAND_READ);
	int err;

	/* The area's hints, which are as racy here as there. */
	a64_init(&ra.next, a64_read(&v->last_fault));
	a32_init(&ra.pages, a32_read(&v->ra_pages));
	err = object_get_folio(v->object, index, flags, ahead ? &ra : NULL, out, &major);
	if (ahead) {
		a64_set(&v->last_fault, a64_read(&ra.next));
		a32_set(&v->ra_pages, a32_read(&ra.pages));
	}
	if (!err)
		stat_inc(c->q, major ? STAT_FAULT_MAJOR : STAT_FAULT_MINOR);
	return err;
}

static u64 object_bits(struct fc *c, bool writable)
{
	return fault_entry_bits(c, writable, true) | (c->vf & VM_SHARED ? ENTRY_SHARED : 0);
}

/* It stays in memory while the area is locked, and is on no evictable list. */
static void lock_in_memory(struct fc *c, struct folio *f)
{
	if (!(c->vf & VM_LOCKED) || folio_test(f, PG_MLOCKED))
		return;
	a64_fetch_or(&f->flags, PGF(MLOCKED) | PGF(UNEVICTABLE));
	if (lru_isolate(c->q, f))
		lru_putback(c->q, f);
}

/* ---- reading ---- */

/* The aligned window around the fault, inside the area and its table. */
static void around_window(struct fc *c, struct around *a)
{
	u64 size = AROUND_PAGES * PAGE_SIZE, start = ALIGN_DOWN(c->va, size);
	u64 end = min(start + size, vma_end(c->v));

	start = max(start, vma_start(c->v));
	/* What is locked is to be brought in page by page; what is read at random not at all. */
	if (c->vf & (VM_LOCKED | VM_RAND_READ)) {
		start = c->va;
		end = start + PAGE_SIZE;
	}
	a->va = start;
	a->first = vma_index(c->v, start);
	a->n = (u32)((end - start) >> PAGE_SHIFT);
	a->main = (u32)((c->va - start) >> PAGE_SHIFT);
}

/* LOCKING: invalidate. Beyond the size nothing is cached, so the neighbours need no look at it; but
 * the tail of a large folio may be. */
static void around_lookup(struct fc *c, struct around *a, struct folio *f)
{
	u64 nr = object_nr_indices(c->v->object);

	for (u32 i = 0; i < a->n; i++) {
		struct folio *g = NULL;

		a->page[i] = NULL;
		if (i == a->main) {
			a->page[i] = page_of(f, a->first + i);
			continue;
		}
		if (a->first + i < nr)
			g = object_lookup(c->v->object, a->first + i);
		if (!g)
			continue;
		/* Still being read: its reader has it locked. Not in its place: its own fault moves
		 * it there. */
		if (folio_test(g, PG_UPTODATE) && fault_in_place(c, g, a->first + i))
			a->page[i] = page_of(g, a->first + i);
		else
			folio_put(c->q, g);
	}
}

/* Entries for [from, to), all of pages that are there and had none. LOCKING: entry lock. */
static int around_install(struct fc *c, struct around *a, pte_t *p, u32 from, u32 to)
{
	u64 entries[AROUND_PAGES], bits = object_bits(c, false), va = a->va + from * PAGE_SIZE;
	int err;

	for (u32 i = from; i < to; i++) {
		u64 old = c->hw_ad && i != a->main ? ENTRY_ACCESSED : 0;

		entries[i - from] = pte_mk(folio_pfn(c->q, a->page[i]), bits & ~old);
		folio_get(folio_head(a->page[i]));
		folio_add_object_rmap_ptes(c->q, folio_head(a->page[i]),
					   (u32)(a->page[i] - folio_head(a->page[i])), 1);
		pte_set(p + i, entries[i - from]);
	}
	err = fault_install(c, va, entries, to - from, NULL, false, false);
	if (!err) {
		a64_add(&c->fs->rs.rss_pages, to - from);
		return 0;
	}
	for (u32 i = from; i < to; i++) {
		struct folio *f = folio_head(a->page[i]);

		pte_set(p + i, 0);
		folio_remove_rmap_ptes(c->q, f, (u32)(a->page[i] - f), 1);
		/* The look's remains. */
		a32_fetch_add(&f->ref, (u32)-1);
	}
	return err;
}

/* Map what can be mapped; the result is that of our own page. */
static int around_map(struct fc *c, struct around *a)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, a->va, &desc);
	int err = 0;

	if (!p)
		return FAULT_AGAIN;
	for (u32 i = 0, j; i < a->n; i = j) {
		int r;

		for (j = i; j < a->n && a->page[j] && pte_none(pte_get(p + j)); j++)
			;
		if (j == i) {
			j++;
			continue;
		}
		r = around_install(c, a, p, i, j);
		if (i <= a->main && a->main < j)
			err = r;
	}
	pt_pte_unlock(desc);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

static int read_fault(struct fc *c)
{
	u64 index = vma_index(c->v, c->va);
	struct around a;
	struct folio *f;
	int err = get_folio(c, index, 0, &f);

	if (err)
		return object_result(err);
	/* Nothing removes it from the cache meanwhile: only its place may change. */
	if (unlikely(!fault_in_place(c, f, index))) {
		folio_lock(f);
		if (folio_object(f) == c->v->object)
			f = fault_to_place(c, f, index);
		folio_unlock(f);
		if (folio_object(f) != c->v->object) {
			folio_put(c->q, f);
			return FAULT_AGAIN;
		}
	}
	around_window(c, &a);
	around_lookup(c, &a, f);
	err = around_map(c, &a);
	if (!err)
		lock_in_memory(c, f);
	for (u32 i = 0; i < a.n; i++)
		if (a.page[i])
			folio_put(c->q, folio_head(a.page[i]));
	return err;
}

/* ---- writing the object's page ---- */

/* LOCKING: folio lock; the folio is dirty, so that write-back comes after the entry. `was`: 0, or
 * the entry that maps the page already. */
static int map_writable(struct fc *c, struct folio *f, u64 index, u64 was)
{
	u64 change = ENTRY_WRITE | ENTRY_DIRTY | ENTRY_ACCESSED, e, now;
	struct folio *page = page_of(f, index);
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	int err = FAULT_AGAIN;

	if (!p)
		return FAULT_AGAIN;
	now = pte_get(p);
	if ((now ^ was) & ~(ENTRY_ACCESSED | ENTRY_DIRTY))
		goto out;
	e = pte_mk(folio_pfn(c->q, page), object_bits(c, true));
	if (!was) {
		folio_get(f);
		folio_add_object_rmap_ptes(c->q, f, (u32)(page - f), 1);
		pte_set(p, e);
	} else {
		/* The machine may set A/D bits meanwhile. */
		a64_fetch_or(p, change);
		e = pte_get(p);
	}
	err = fault_install(c, c->va, &e, 1, NULL, false, false);
	if (err && !was) {
		pte_set(p, 0);
		folio_remove_rmap_ptes(c->q, f, (u32)(page - f), 1);
		a32_fetch_add(&f->ref, (u32)-1); /* the caller's remains */
	} else if (err) {
		a64_fetch_and(p, ~(change & ~now));
	} else if (!was) {
		a64_add(&c->fs->rs.rss_pages, 1);
	} else {
		stat_inc(c->q, STAT_FAULT_WP);
	}
out:
	pt_pte_unlock(desc);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

static int shared_write(struct fc *c)
{
	u64 index = vma_index(c->v, c->va);
	struct object *o = c->v->object;
	struct folio *f;
	int err = get_folio(c, index, OBJECT_GET_LOCKED, &f);

	if (err)
		return object_result(err);
	f = fault_to_place(c, f, index);
	err = object_make_writable(o, f);
	err = err ? object_result(err) : map_writable(c, f, index, 0);
	if (!err)
		lock_in_memory(c, f);
	folio_unlock(f);
	folio_put(c->q, f);
	return err;
}

/* The page is mapped, in a shared area, and may not be written yet. */
static int shared_wp(struct fc *c, u64 entry)
{
	struct folio *f = fault_hold_mapped(c, entry);
	u64 index = vma_index(c->v, c->va);
	int err = FAULT_AGAIN;

	if (!f)
		return FAULT_AGAIN;
	folio_lock(f);
	/* Truncated since, and perhaps another's by now? */
	if (folio_object(f) == c->v->object && f->index <= index &&
	    index - f->index < folio_nr(f)) {
		err = object_make_writable(c->v->object, f);
		err = err ? object_result(err) : map_writable(c, f, index, entry);
	}
	folio_unlock(f);
	folio_put(c->q, f);
	if (!err)
		stat_inc(c->q, STAT_FAULT_MINOR);
	return err;
}

/* ---- writing a copy ---- */

static int map_copy(struct fc *c, struct folio *new)
{
	u64 e = pte_mk(folio_pfn(c->q, new), fault_entry_bits(c, fc_write(c), true));
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	int err;

	if (!p)
		return FAULT_AGAIN;
	if (!pte_none(pte_get(p))) {
		pt_pte_unlock(desc);
		return FAULT_AGAIN;
	}
	/* The entry's, on top of the caller's. */
	folio_get(new);
	folio_add_new_anon_rmap(c->q, new, c->v, c->va);
	folio_set(new, PG_DIRTY);
	pte_set(p, e);
	err = fault_install(c, c->va, &e, 1, NULL, false, false);
	if (err) {
		pte_set(p, 0);
		folio_remove_rmap_ptes(c->q, new, 0, 1);
		a32_fetch_add(&new->ref, (u32)-1);
	} else {
		a64_add(&c->fs->rs.rss_pages, 1);
	}
	pt_pte_unlock(desc);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

/* The frame first: bringing the page in and giving it up again for want of a frame would be for
 * nothing. What another area writes to the object's page meanwhile is in the copy or not. */
static int private_write(struct fc *c)
{
	u64 index = vma_index(c->v, c->va);
	struct folio *new, *f;
	int err = fault_alloc_at(c, c->va, 0, &new);

	if (err)
		return object_result(err);
	err = get_folio(c, index, 0, &f);
	if (err) {
		fault_free_folio(c->q, new);
		return object_result(err);
	}
	err = fault_copy_bytes(c->q, new, folio_pfn(c->q, page_of(f, index)));
	folio_put(c->q, f);
	if (!err)
		err = map_copy(c, new);
	if (err) {
		fault_free_folio(c->q, new);
		return err;
	}
	stat_inc(c->q, STAT_FAULT_COW);
	if (c->vf & VM_LOCKED)
		a64_fetch_or(&new->flags, PGF(UNEVICTABLE) | PGF(MLOCKED));
	lru_add(c->q, new);
	folio_put(c->q, new);
	return FAULT_DONE;
}

int fault_do_object(struct fc *c)
{
	struct object *o = c->v->object;
	bool copy = fault_wants_copy(c);
	int err = pt_pte_alloc(&c->fs->rs.pgt, c->va);

	if (err)
		return err;
	rwsem_read_lock(&o->invalidate);
	if (copy)
		err = private_write(c);
	else if (fc_write(c) && !(c->access & ACCESS_POPULATE))
		err = shared_write(c);
	else
		err = read_fault(c);
	rwsem_read_unlock(&o->invalidate);
	/* Its frame is not where the machine's mapping of the area has one for this page, and no
	 * more mappings are to be had. A copy goes to its own place. (POSIX leaves open whether a
	 * private mapping shows what is stored to the file later.) */
	if (err == -ENOSPC && !(c->vf & VM_SHARED) && !copy) {
		c->copy = true;
		return FAULT_AGAIN;
	}
	return err;
}

int fault_do_shared_wp(struct fc *c, u64 entry)
{
	if (c->access & ACCESS_POPULATE)
		return FAULT_DONE;
	return entry_present(entry) ? shared_wp(c, entry) : FAULT_AGAIN;
}
