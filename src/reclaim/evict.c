/*
 * evict.c - one batch of isolated folios on its way out. The order of the steps is the point:
 *
 *   1 lock, judge, give swap slots      folio lock (try only)
 *   2 unmap all into one flush batch    entries become swap entries, dirty bits go to the folios
 *   3 flush the batch                   from here on no store reaches the bytes
 *   4 write the dirty ones out          what fails stays in the swap cache, dirty, and is mapped
 *   again by the next fault 5 freeze, leave the swap cache      exactly the isolation's and the
 *   cache's references, or it stays 6 free in spans                     the release invalidates
 *   what loads may still have seen
 *
 * Objects' pages take the same way: to their own medium instead of a slot (object_writeout), and
 * out of their object's cache instead of the swap cache (object_evict). They need not be mapped to
 * be worth looking at, and one that is under write-back stays.
 *
 * The read bracket is open from before step 2: an area whose reading is being forbidden waits for
 * it, and step 2 skips areas for which it already is (machine.h, home frames).
 */
#include "reclaim/reclaim_internal.h"
#include "swap/meta.h"

struct evict {
	struct quire *q;
	struct folio *folio[EVICT_MAX]; /* locked, going */
	bool done[EVICT_MAX];           /* unmapped */
	u32 n;
	struct list keep;   /* unlocked, go back to the LRU */
	struct list frozen; /* on their way to the allocator */
	u32 freed;
};

static void keep_folio(struct evict *ev, struct folio *f, bool activate)
{
	if (activate)
		folio_set(f, PG_ACTIVE);
	folio_unlock(f);
	list_add_tail(&f->lru, &ev->keep);
}

static bool lazyfree(const struct folio *f)
{
	return folio_test(f, PG_LAZYFREE) && !folio_test(f, PG_DIRTY);
}

/* Unlocked and isolated -> into ev->folio (locked), or back. */
static void judge(struct evict *ev, struct folio *f)
{
	struct quire *q = ev->q;

	if (!folio_trylock(f)) {
		list_add_tail(&f->lru, &ev->keep);
		return;
	}
	if (folio_test(f, PG_MLOCKED)) {
		folio_set(f, PG_UNEVICTABLE);
		keep_folio(ev, f, false);
		return;
	}
	if (folio_maybe_pinned(f)) {
		keep_folio(ev, f, true);
		return;
	}
	if (rmap_referenced(q, f)) {
		stat_add(q, STAT_RECLAIM_ACTIVATED, folio_nr(f));
		keep_folio(ev, f, true);
		return;
	}
	if (folio_object(f)) {
		if (folio_test(f, PG_WRITEBACK))
			keep_folio(ev, f, false);
		else
			ev->folio[ev->n++] = f;
		return;
	}
	if (!folio_mapped(f) && !folio_test(f, PG_SWAPCACHE)) {
		/* Unmapped while it was isolated: dropping the isolation frees it. */
		keep_folio(ev, f, false);
		return;
	}
	if (!lazyfree(f) && !folio_test(f, PG_SWAPCACHE) && swap_add_folio(q, f)) {
		keep_folio(ev, f, true);
		return;
	}
	ev->folio[ev->n++] = f;
}

/* A large folio of which pages were unmapped: as single pages, so that only what is mapped is
 * written. One whose metadata are saved: so that what must stay keeps nothing else in memory. The
 * pages are the next of the list. */
static bool split_up(struct quire *q, struct folio *f, struct list *folios)
{
	struct list out;

	if (!folio_trylock(f))
		return false;
	list_init(&out);
	if (folio_test(f, PG_SWAPCACHE) || rmap_split_folio(q, f, &out)) {
		folio_unlock(f);
		return false;
	}
	list_splice_init(&out, folios);
	return true;
}

/* After step 2: what is to be written, and what only to be dropped. */
static void settle_unmapped(struct evict *ev)
{
	for (u32 i = 0; i < ev->n; i++) {
		struct folio *f = ev->folio[i];

		/* Found unmapped already: by an earlier round whose write failed. */
		if (!ev->done[i] && !folio_mapped(f))
			ev->done[i] = true;
		if (folio_object(f))
			continue;
		/* Or by its owner: nothing names its slots, its bytes may be gone, and it is only
		 * to be dropped. Entries that do name them stay while the folio is locked
		 * (space/unmap.c waits for it). */
		if (ev->done[i] && folio_test(f, PG_SWAPCACHE) && swap_try_free_folio(ev->q, f))
			ev->done[i] = false;
	}
}

/* Step 4 for what belongs to objects. */
static void write_objects(struct evict *ev)
{
	struct folio *dirty[EVICT_MAX];
	u32 where[EVICT_MAX], n = 0;
	int err[EVICT_MAX];

	for (u32 i = 0; i < ev->n; i++) {
		struct folio *f = ev->folio[i];

		if (!ev->done[i] || !folio_object(f) || !folio_test(f, PG_DIRTY))
			continue;
		where[n] = i;
		dirty[n++] = f;
	}
	if (!n)
		return;
	object_writeout(ev->q, dirty, n, err);
	for (u32 k = 0; k < n; k++)
		if (err[k])
			ev->done[where[k]] = false;
}

/* Step 4. Leaves in ev->done whether the folio may go on. */
static void write_dirty(struct evict *ev)
{
	struct folio *dirty[EVICT_MAX];
	u32 where[EVICT_MAX], n = 0;
	int err[EVICT_MAX];

	for (u32 i = 0; i < ev->n; i++) {
		struct folio *f = ev->folio[i];

		if (!ev->done[i] || !folio_test(f, PG_SWAPCACHE) || folio_object(f))
			continue;
		if (!folio_test(f, PG_DIRTY) && swap_folio_has_copy(ev->q, f)) {
			stat_add(ev->q, STAT_SWAP_REUSED_PAGES, folio_nr(f));
			continue;
		}
		where[n] = i;
		dirty[n++] = f;
	}
	if (!n)
		return;
	swap_writeout(ev->q, dirty, n, err);
	for (u32 k = 0; k < n; k++)
		if (err[k])
			ev->done[where[k]] = false;
}

static void unmap_and_flush(struct evict *ev)
{
	struct tlb_batch batch;

	tlb_batch_init(&batch);
	rmap_unmap_folios(ev->q, ev->folio, ev->n, 0, &batch, ev->done);
	if (!mech_on(ev->q, MECH_FLUSH_BEFORE_WRITEOUT)) {
		settle_unmapped(ev);
		write_dirty(ev);
		write_objects(ev);
	}
	tlb_batch_flush(&batch);
	settle_unmapped(ev);
}

/* Frozen and in no cache any more, unless somebody uses it. */
static bool leave_caches(struct evict *ev, struct folio *f)
{
	struct quire *q = ev->q;
	u32 nr = folio_nr(f), cached = folio_test(f, PG_SWAPCACHE) ? nr : 0;

	/* Ours is the one reference besides the caches'. */
	if (folio_object(f))
		return object_evict(q, f, 1, reclaim_shadow(q));
	if (mech_on(q, MECH_REF_FREEZE) ? !folio_freeze(f, 1 + cached) : a32_xchg(&f->ref, 0) == 0)
		return false;
	if (cached)
		swap_delete_frozen(q, f, reclaim_shadow(q));
	return true;
}

/* Step 5: out of the cache and frozen, or kept. */
static void detach(struct evict *ev, struct folio *f)
{
	if (!folio_test(f, PG_SWAPCACHE) && !folio_object(f) && !lazyfree(f)) {
		/* Dirtied after it was lazily freed: it needs a slot, next time. */
		a64_fetch_and(&f->flags, ~PGF(LAZYFREE));
		keep_folio(ev, f, true);
		return;
	}
	if (!leave_caches(ev, f)) {
		keep_folio(ev, f, true);
		return;
	}
	folio_unlock(f);
	list_add_tail(&f->lru, &ev->frozen);
	ev->freed += folio_nr(f);
}

static void finish(struct evict *ev)
{
	struct quire *q = ev->q;

	for (u32 i = 0; i < ev->n; i++) {
		struct folio *f = ev->folio[i];

		if (ev->done[i]) {
			detach(ev, f);
			continue;
		}
		/* Written after all: no longer to be dropped. */
		if (folio_test(f, PG_LAZYFREE) && !folio_test(f, PG_SWAPCACHE)) {
			folio_set(f, PG_DIRTY);
			folio_clear(f, PG_LAZYFREE);
		}
		/* Slots that nothing names go. Unmapped, named and not written: the cache is the
		 * bytes' only home. */
		if (folio_test(f, PG_SWAPCACHE) && !folio_object(f))
			swap_try_free_folio(q, f);
		keep_folio(ev, f, true);
	}
	if (!list_empty(&ev->frozen)) {
		a64_add(&q->reclaim->evictions, ev->freed);
		phys_free_frozen_list(q, &ev->frozen);
	}
	list_for_each_safe(pos, tmp, &ev->keep) {
		list_del(pos);
		lru_putback(q, list_entry(pos, struct folio, lru));
	}
}

static u32 evict_batch(struct quire *q, struct list *folios)
{
	struct machine *m = q->machine;
	struct evict ev;
	u32 looked = 0;

	ev.q = q;
	ev.n = ev.freed = 0;
	list_init(&ev.keep);
	list_init(&ev.frozen);
	while (!list_empty(folios) && ev.n < EVICT_MAX) {
		struct folio *f = list_first(folios, struct folio, lru);

		list_del(&f->lru);
		if (f->order && (folio_test(f, PG_PARTIAL) || meta_wanted(q)) &&
		    split_up(q, f, folios))
			continue;
		looked += folio_nr(f);
		judge(&ev, f);
	}
	if (ev.n) {
		m->ops->read_begin(m);
		unmap_and_flush(&ev);
		write_dirty(&ev);
		write_objects(&ev);
		m->ops->read_end(m);
	}
	finish(&ev);
	stat_add(q, STAT_RECLAIM_SCANNED, looked);
	stat_add(q, STAT_RECLAIM_FREED, ev.freed);
	return ev.freed;
}

u32 evict_folios(struct quire *q, struct list *folios)
{
	u32 freed = 0;

	base_self()->reclaim_depth++;
	while (!list_empty(folios))
		freed += evict_batch(q, folios);
	base_self()->reclaim_depth--;
	return freed;
}
