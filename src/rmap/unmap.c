/*
 * unmap.c - reverse-map unmapping for reclaim and migration: present entries become swap entries,
 * or migration entries, in batches.
 *
 * One round covers the neighbouring folios of one area inside one table:
 *
 *   entry lock
 *     per page: clear the entry, carry dirty to the folio, count the slot, write the swap entry
 *     flush (machines that must do it under the lock) or note the range in the batch
 *   entry unlock
 *
 * The reviewer's questions. Which ordering: the slot's count goes up before the entry names it; the
 * folio is in the swap cache before either, so a fault that meets the entry finds the folio there.
 * Which flush: no byte is written out before the batch is flushed, so a store through a stale
 * translation is in the copy (MECH_FLUSH_BEFORE_WRITEOUT in reclaim). Which reference: each cleared
 * entry's reference is dropped here; the isolation's keeps the folio.
 */
#include "rmap/rmap_internal.h"

/* One round of unmapping. */
struct round {
	struct quire *q;
	struct vma *v;
	struct rmap_space *rs;
	struct tlb_batch *batch;
	u32 flags;
	bool home;    /* vma_home */
	bool object;  /* the folios are an object's */
	bool migrate; /* UNMAP_MIGRATE */
	bool meta;    /* somebody saves metadata beside the bytes */
	/* the table now locked */
	struct ptdesc *desc;
	u64 table_va;
	/* the run of addresses whose entries were cleared and not yet flushed or noted */
	u64 run_start;
	u64 run_end;
};

static void run_close(struct round *r)
{
	struct tlb_space *ts = &r->rs->tlb;
	enum flush_strength strength;

	if (r->run_start == r->run_end)
		return;
	/* The machine takes the page from its address before it moves the bytes (migrate.h). */
	if (r->home && r->migrate) {
		r->run_start = r->run_end = 0;
		return;
	}
	/* Elsewhere reclaim flushes the batch, too late (evict.c). */
	if (r->home && !mech_on(r->q, MECH_FLUSH_BEFORE_WRITEOUT)) {
		r->run_start = r->run_end = 0;
		return;
	}
	/* A home frame's bytes would go with its last translation, and are to be written out yet.
	 */
	strength = r->home ? FLUSH_NO_STORE : FLUSH_NO_ACCESS;
	if (!tlb_flush_under_lock(ts, r->run_start, r->run_end, strength)) {
		a32_fetch_add(&r->rs->batched, 1);
		tlb_batch_add(r->batch, ts, r->run_start, r->run_end, strength);
	}
	r->run_start = r->run_end = 0;
}

/* The batch itself cannot say that it has been flushed (the space may be gone by then), so the
 * first one to ask flushes once more than needed. */
void rmap_flush_batched(struct rmap_space *rs)
{
	struct tlb_range all = { .start = 0, .end = TLB_ALL_END, .strength = FLUSH_NO_ACCESS };
	u32 batched = a32_read(&rs->batched), flushed = a32_read(&rs->batched_flushed);

	if (likely(batched == flushed) || !mech_on(rs->tlb.q, MECH_FLUSH_BATCHED))
		return;
	tlb_flush_range(&rs->tlb, all);
	/* Who batched more meanwhile, under another entry lock, is not covered by this flush. */
	a32_cmpxchg(&rs->batched_flushed, &flushed, batched);
}

static void round_unlock(struct round *r)
{
	if (!r->desc)
		return;
	run_close(r);
	pt_pte_unlock(r->desc);
	r->desc = NULL;
}

/* The entry word for va, its table locked; the lock is kept from one folio to the next. */
static pte_t *round_pte(struct round *r, u64 va)
{
	if (r->desc && ALIGN_DOWN(va, PMD_SIZE) != r->table_va)
		round_unlock(r);
	if (!r->desc) {
		pte_t *p = pt_pte_lock(&r->rs->pgt, va, &r->desc);

		if (!p) {
			r->desc = NULL;
			return NULL;
		}
		r->table_va = ALIGN_DOWN(va, PMD_SIZE);
		return p;
	}
	return (pte_t *)&r->desc->table[entry_index(va, 0)];
}

/* May [run_end, va) be bridged by the next flush? Only where nothing is mapped in between. */
static void run_extend(struct round *r, pte_t *p, u64 va)
{
	if (r->run_start != r->run_end) {
		u64 gap = (va - r->run_end) >> PAGE_SHIFT;

		if (va < r->run_end || gap > PTRS_PER_TABLE) {
			run_close(r);
		} else {
			for (u64 i = 1; i <= gap; i++)
				if (pte_present(pte_get(p - i))) {
					run_close(r);
					break;
				}
		}
	}
	if (r->run_start == r->run_end)
		r->run_start = va;
	r->run_end = va + PAGE_SIZE;
}

/* Look before anything is changed: LOCKING: entry lock. */
static bool folio_may_unmap(struct round *r, struct folio *f)
{
	u64 vf = vma_flags(r->v);

	/* Locked in memory, not in a frame. */
	if ((vf & VM_LOCKED) && !r->migrate && !(r->flags & UNMAP_IGNORE_MLOCK))
		return false;
	/* The address is the frame, which can at most change its node. */
	if (r->home && r->migrate && !machine_has(r->q->machine, CAP_PARK))
		return false;
	/* Memory that is protected against reading is not read by eviction. */
	if (r->home && (!(vf & VM_READ) || (vf & VM_UNREADABLE)))
		return false;
	/* The cheap look. A pin that is taken without the entry lock may come until the entry is
	 * cleared: unmap_one looks again. */
	if (mech_on(r->q, MECH_PIN_BLOCKS_RECLAIM) && folio_maybe_pinned(f))
		return false;
	return true;
}

/* A lazily freed folio may be dropped only while no entry of it is dirty. The n entries from p on,
 * where pfn and its followers may be mapped. */
static bool lazyfree_is_clean(struct folio *f, u64 pfn, pte_t *p, u32 n)
{
	if (folio_test(f, PG_DIRTY))
		return false;
	for (u32 i = 0; i < n; i++) {
		u64 e = pte_get(p + i);

		if (pte_present(e) && entry_pfn(e) == pfn + i && pte_dirty(e))
			return false;
	}
	return true;
}

/* The entry is clear: is its page still pinned, or about to be? Else it is exclusive no more: its
 * swap entry remembers it. */
static bool pinned_meanwhile(struct round *r, struct folio *f, u32 i)
{
	if (mech_on(r->q, MECH_PIN_BLOCKS_RECLAIM) && mech_on(r->q, MECH_SHARE_AFTER_CLEAR))
		return folio_try_share_anon_rmap_ptes(r->q, f, i, 1);
	folio_clear(folio_page(f, i), PG_ANON_EXCLUSIVE);
	return false;
}

/*
 * Metadata beside the bytes go with the page, or the page stays (swap/meta.h). They are part of
 * what is swapped out, so they are read when nobody stores any more:
 *
 *   T1: unmap                             T2: a CPU that has the translation
 *   clear the entry
 *   flush it                              stores, and sets the tag of what it stored
 *   save
 */
static int save_meta(struct round *r, u64 va, u64 pfn, u64 slot)
{
	struct tlb_range one = { va, va + PAGE_SIZE, FLUSH_NO_STORE, false, false };
	int err;

	if (mech_on(r->q, MECH_META_FLUSH))
		tlb_flush_range(&r->rs->tlb, one);
	err = r->q->rmap->swap_ops->meta_save(r->q, r->rs, va, pfn, slot);
	return mech_on(r->q, MECH_META_OR_STAY) ? err : 0;
}

enum unmap_one { UNMAP_OTHER, UNMAP_GONE, UNMAP_KEPT };

/* What is left in the place of a page that moves; e is what was there. */
static u64 migration_entry(struct quire *q, u64 e, u64 pfn, bool exclusive, bool object)
{
	u64 m = swp_entry(pte_write(e) ? SWP_MIGRATE_WRITE :
			  exclusive    ? SWP_MIGRATE_EXCLUSIVE :
					 SWP_MIGRATE_READ,
			  pfn);

	m |= object ? SWP_OBJECT : 0;
	if (!mech_on(q, MECH_MIGRATE_KEEP_AD) && machine_has(q->machine, CAP_HW_AD))
		return m;
	return m | (pte_young(e) ? SWP_MIGRATE_YOUNG : 0) | (pte_dirty(e) ? SWP_MIGRATE_DIRTY : 0);
}

/* Of an object's page: nothing is left in its place, unless it moves. A pin that came meanwhile
 * (pin.c) finds the entry gone and is dropped again, or is seen here. */
static enum unmap_one unmap_object_one(struct round *r, struct folio *f, u32 i, pte_t *p, u64 e)
{
	if (pte_dirty(e) && mech_on(r->q, MECH_DIRTY_TO_FOLIO))
		object_mark_dirty(f);
	smp_mb();
	if (mech_on(r->q, MECH_PIN_BLOCKS_RECLAIM) && folio_maybe_pinned(f)) {
		pte_set(p, e);
		return UNMAP_KEPT;
	}
	if (r->migrate)
		pte_set(p, migration_entry(r->q, e, entry_pfn(e), false, true));
	folio_remove_rmap_ptes(r->q, f, i, 1);
	return UNMAP_GONE;
}

/*
 * Clear one entry. UNMAP_OTHER: it did not map this page of the folio. UNMAP_KEPT: a page that was
 * to be dropped was written since lazyfree_is_clean looked (the hardware sets DIRTY without the
 * entry lock), or one was pinned, or its metadata could not be saved, so its entry is back.
 */
static enum unmap_one unmap_one(struct round *r, struct folio *f, u32 i, pte_t *p, u64 va, u64 pfn,
				bool drop)
{
	bool exclusive;
	u64 e = pte_get(p), slot;

	if (!pte_present(e) || pte_special(e) || entry_pfn(e) != pfn + i)
		return UNMAP_OTHER;
	run_extend(r, p, va);
	e = pte_get_and_clear(p);
	if (r->object)
		return unmap_object_one(r, f, i, p, e);
	if (pte_dirty(e) && mech_on(r->q, MECH_DIRTY_TO_FOLIO))
		folio_set(f, PG_DIRTY);
	exclusive = page_exclusive(folio_page(f, i));
	if ((drop && pte_dirty(e)) || pinned_meanwhile(r, f, i)) {
		pte_set(p, e);
		return UNMAP_KEPT;
	}
	if (r->migrate) {
		pte_set(p, migration_entry(r->q, e, pfn + i, exclusive, false));
		folio_remove_rmap_ptes(r->q, f, i, 1);
		return UNMAP_GONE;
	}
	slot = f->swap + i;
	if (unlikely(r->meta) && !drop && save_meta(r, va, pfn + i, slot)) {
		/* Exclusive again before pin_fast, which may have read the entry, finds it back. */
		if (exclusive)
			folio_set(folio_page(f, i), PG_ANON_EXCLUSIVE);
		pte_set(p, e);
		return UNMAP_KEPT;
	}
	folio_remove_rmap_ptes(r->q, f, i, 1);
	if (drop)
		return UNMAP_GONE;
	r->q->rmap->swap_ops->dup(r->q, slot, 1);
	pte_set(p, swp_entry(SWP_STORE, slot) | (exclusive ? SWP_EXCLUSIVE : 0));
	a64_add(&r->rs->swap_entries, 1);
	return UNMAP_GONE;
}

/* The pages [i, i + step) of a folio, whose entries begin at p, in the table that is locked. *gone:
 * how many entries were cleared. False: something must stay. */
static bool unmap_stretch(struct round *r, struct folio *f, u32 i, u32 step, pte_t *p, u64 va,
			  bool drop, u32 *gone)
{
	u64 pfn = folio_pfn(r->q, f);

	if (!folio_may_unmap(r, f))
		return false;
	if (drop && !lazyfree_is_clean(f, pfn + i, p, step))
		return false;
	for (u32 k = 0; k < step; k++) {
		enum unmap_one one =
			unmap_one(r, f, i + k, p + k, va + ((u64)k << PAGE_SHIFT), pfn, drop);

		if (one == UNMAP_KEPT)
			return false;
		*gone += one == UNMAP_GONE;
	}
	return true;
}

/* One folio in one area. False: it must stay mapped, in whole or (one that lies in two tables) in
 * part. */
static bool unmap_in_vma(struct round *r, struct folio *f, u64 va)
{
	u32 nr = folio_nr(f), i = 0, n = 0;
	bool drop = folio_test(f, PG_LAZYFREE) && !folio_test(f, PG_SWAPCACHE) && !r->migrate;
	bool all = true;

	/* It was to be dropped when reclaim judged it, and was written since: it has no slots that
	 * its entries could name. */
	if (!drop && !r->object && !r->migrate && !folio_test(f, PG_SWAPCACHE))
		return false;
	while (i < nr && all) {
		u64 at = va + ((u64)i << PAGE_SHIFT);
		u32 room = PTRS_PER_TABLE - entry_index(at, 0), step = min(nr - i, room);
		pte_t *p;

		if (at < vma_start(r->v) || at >= vma_end(r->v)) {
			i++;
			continue;
		}
		step = min(step, (u32)((vma_end(r->v) - at) >> PAGE_SHIFT));
		p = round_pte(r, at);
		if (p)
			all = unmap_stretch(r, f, i, step, p, at, drop, &n);
		i += step;
	}
	/* Whatever was cleared is accounted for, also when the rest stays. */
	if (n) {
		/* A page that moves stays resident. */
		if (!r->migrate)
			a64_sub(&r->rs->rss_pages, n);
		folio_put_nr(r->q, f, n);
	}
	return all;
}

/* What a group has in common: an anon_vma or an object, the tree of its areas locked. */
struct group {
	struct anon_vma *av;
	struct object *object;
	struct itree *areas;
};

static struct vma *group_area(const struct group *g, struct itree_node *it)
{
	return g->av ? container_of(it, struct anon_vma_chain, node)->vma :
		       container_of(it, struct vma, in_object);
}

/* False: the folio has lost its last mapping, or its object. */
static bool group_lock(struct quire *q, struct group *g, struct folio *f, u32 flags)
{
	bool migrate = flags & UNMAP_MIGRATE;

	g->object = NULL;
	g->av = folio_get_anon_vma(q, f);
	if (g->av) {
		if (migrate)
			stat_inc(q, STAT_MIGRATE_WALKS);
		rwsem_read_lock(&g->av->root->rwsem);
		g->areas = &g->av->tree;
		return true;
	}
	g->object = folio_object(f);
	if (!g->object)
		return false;
	if (!folio_mapped(f) && !(migrate && !mech_on(q, MECH_MIGRATE_UNMAPPED)))
		return false;
	if (migrate)
		stat_inc(q, STAT_MIGRATE_WALKS);
	rwsem_read_lock(&g->object->mmap);
	g->areas = &g->object->areas;
	return true;
}

static void group_unlock(struct quire *q, struct group *g)
{
	if (g->object) {
		rwsem_read_unlock(&g->object->mmap);
		return;
	}
	rwsem_read_unlock(&g->av->root->rwsem);
	anon_vma_put(q, g->av);
}

/* folios[0..n): one group, ascending index. */
static void unmap_group(struct quire *q, struct group *g, struct folio **folios, u32 n, u32 flags,
			struct tlb_batch *batch, bool *refused)
{
	u64 first = folios[0]->index, last = folios[n - 1]->index + folio_nr(folios[n - 1]) - 1;

	for (struct itree_node *it = itree_first(g->areas, first, last); it;
	     it = itree_next(g->areas, it, first, last)) {
		struct vma *v = group_area(g, it);
		struct round r = {
			.q = q,
			.v = v,
			.rs = vma_rmap_space(v),
			.batch = batch,
			.flags = flags,
			.home = vma_home(v),
			.object = g->object != NULL,
			.migrate = flags & UNMAP_MIGRATE,
			.meta = q->rmap->swap_ops->meta_wanted(q),
		};

		for (u32 i = 0; i < n; i++) {
			struct folio *f = folios[i];

			if (f->index > it->last || f->index + folio_nr(f) <= it->start)
				continue;
			/* Wraps below zero for a folio that begins before the area: unmap_in_vma
			 * skips. */
			if (!unmap_in_vma(&r, f, vma_index_va(v, f->index)))
				refused[i] = true;
		}
		round_unlock(&r);
	}
}

static bool same_group(struct folio *a, struct folio *b)
{
	return aptr_read(&a->mapping) == aptr_read(&b->mapping) && b->index > a->index &&
	       b->index - a->index < PTRS_PER_TABLE;
}

u32 rmap_unmap_folios(struct quire *q, struct folio **folios, u32 n, u32 flags,
		      struct tlb_batch *batch, bool *done)
{
	u32 ok = 0;

	for (u32 i = 0, j; i < n; i = j) {
		struct group g;

		for (j = i + 1; j < n && same_group(folios[j - 1], folios[j]); j++)
			;
		for (u32 k = i; k < j; k++)
			done[k] = false;
		if (group_lock(q, &g, folios[i], flags)) {
			unmap_group(q, &g, folios + i, j - i, flags, batch, done + i);
			group_unlock(q, &g);
		} else {
			/* The first of the group has just lost its last mapping: the others one by
			 * one. */
			j = i + 1;
		}
		for (u32 k = i; k < j; k++) {
			done[k] = !folio_mapped(folios[k]);
			ok += done[k];
			TRACE(q, EV_UNMAP, folio_pfn(q, folios[k]), done[k], 0);
		}
	}
	return ok;
}
