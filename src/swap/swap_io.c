#include <xxh_x86dispatch.h>

#include "swap/swap_internal.h"

#include "base/assert.h"
#include "base/inject.h"
#include "base/mech.h"
#include "base/trace.h"
#include "machine/machine.h"

#include <string.h>

/*
 * The data path: pages to stores and back.
 *
 * Counted here: SWAP_OUT_PAGES and SWAP_IN_PAGES (same-filled pages included), SWAP_SAME_PAGES,
 * SWAP_WRITE_ERRORS and SWAP_READ_ERRORS.
 */

#define LOADS_MAX 32u /* pages read in one go: the vector lies on the stack of a fault handler */

u32 swap_page_sum(const void *page)
{
	/* The library's widest vectors for this processor. */
	return (u32)XXH3_64bits_dispatch(page, PAGE_SIZE);
}

/* The word that fills the whole page; most pages differ in the first line or the last word. */
static bool page_is_same_filled(const void *page, u64 *word)
{
	const u64 *w = page;
	u64 diff = w[PAGE_SIZE / 8 - 1] ^ w[0];

	for (u32 i = 0; !diff && i < PAGE_SIZE / 8; i += 8) {
		for (u32 k = 0; k < 8; k++)
			diff |= w[i + k] ^ w[0];
	}
	*word = w[0];
	return !diff;
}

static u32 same_sum(u64 word)
{
	return (u32)XXH3_64bits_dispatch(&word, sizeof(word));
}

/* ---- writing ---- */

/* What the writer of several folios has under way: a context full of pages. */
struct writeout {
	struct quire *q;
	struct folio **folios;
	int *err;
	struct swap_ctx *ctx;
	u32 n; /* pages in ctx->pages */
	u64 same, out;
};

static void page_prepare(struct swap_page *p, const void *src, u64 slot, u32 folio)
{
	memset(p, 0, sizeof(*p));
	p->src = src;
	p->slot = slot;
	p->folio = folio;
	p->err = -ENOSPC;
	if (page_is_same_filled(src, &p->data)) {
		p->kind = KIND_SAME;
		p->state = PAGE_STORED;
		p->sum = same_sum(p->data);
	} else {
		p->sum = swap_page_sum(src);
	}
}

/* Every store in turn; then, for what none took because it does not compress, the compressing ones
 * again. */
static void pages_store(struct swap *sw, struct swap_ctx *ctx, u32 n)
{
	for (u32 pass = 0; pass < 2; pass++) {
		for (u32 i = 0; i < sw->nr_stores; i++) {
			u32 pending = 0;

			for (u32 k = 0; k < n; k++)
				pending += ctx->pages[k].state == PAGE_PENDING;
			if (!pending)
				return;
			sw->store[i]->ops->write(sw->store[i], ctx, ctx->pages, n, pass == 1);
		}
	}
}

/* The slots get the new copies; the older ones are kept in the pages. The folios are locked, so
 * nobody reads either meanwhile. */
static void pages_publish(struct swap *sw, struct swap_page *pages, u32 n)
{
	struct cluster *cl = NULL, *next;

	for (u32 i = 0; i < n; i++) {
		struct swap_page *p = &pages[i];
		struct slot *s;
		u32 state;

		if (p->state != PAGE_STORED)
			continue;
		next = slot_cluster(sw, p->slot);
		if (next != cl) {
			if (cl)
				spin_unlock(&cl->lock);
			spin_lock(&next->lock);
			cl = next;
		}
		s = slot_used(cl, p->slot);
		state = a32_read(&s->state);
		p->old_kind = state_kind(state);
		p->old_data = s->data;
		s->data = p->data;
		s->sum = p->sum;
		a32_set(&s->state, state_with_kind(state, p->kind));
	}
	if (cl)
		spin_unlock(&cl->lock);
}

static void writeout_flush(struct writeout *w)
{
	struct swap *sw = w->q->swap;
	struct swap_page *pages = w->ctx->pages;

	pages_store(sw, w->ctx, w->n);
	pages_publish(sw, pages, w->n);
	for (u32 i = 0; i < w->n; i++) {
		struct swap_page *p = &pages[i];
		struct slot_copy old = { .data = p->old_data, .kind = p->old_kind };

		if (p->state != PAGE_STORED) {
			w->err[p->folio] = p->err;
			continue;
		}
		w->out++;
		w->same += p->kind == KIND_SAME;
		swap_free_copies(sw, &old, 1);
		TRACE(w->q, EV_SWAP_OUT, p->slot, folio_pfn(w->q, w->folios[p->folio]), p->bytes);
	}
	w->n = 0;
}

/* The stored copies of all its pages are given up. LOCKING: folio lock. */
static void copies_void(struct quire *q, struct folio *f)
{
	struct swap *sw = q->swap;
	u32 nr = folio_nr(f), done = 0;

	while (done < nr) {
		struct slot_copy copies[COPIES_MAX];
		struct cluster *cl = slot_cluster(sw, f->swap);
		u32 n = 0;
		struct slot *s;

		spin_lock(&cl->lock);
		s = slot_used(cl, f->swap);
		for (; done < nr && n < COPIES_MAX; done++) {
			u32 state = a32_read(&s[done].state);

			copies[n].kind = state_kind(state);
			copies[n++].data = s[done].data;
			s[done].data = 0;
			s[done].sum = 0;
			a32_set(&s[done].state, state_with_kind(state, KIND_NONE));
		}
		spin_unlock(&cl->lock);
		swap_free_copies(sw, copies, n);
	}
}

/*
 * What keeps the slots: the folios are in the cache and locked. What keeps the source bytes: the
 * folios' references; they do not change because every entry was unmapped and flushed before (rule:
 * flush before write-out). PG_DIRTY is cleared last, when every page of the folio has a copy; a
 * folio of which a page failed keeps it and has no copies at all.
 */
u32 swap_writeout(struct quire *q, struct folio **folios, u32 n, int *err)
{
	struct swap *sw = q->swap;
	struct machine *m = q->machine;
	struct writeout w = {
		.q = q, .folios = folios, .err = err, .ctx = swap_ctx_get(&sw->ctxs)
	};
	const void *src;
	u32 good = 0;

	for (u32 i = 0; i < n; i++) {
		struct folio *f = folios[i];

		DEBUG_ON(!folio_test(f, PG_LOCKED) || !folio_test(f, PG_SWAPCACHE));
		err[i] = 0;
		for (u32 k = 0; k < folio_nr(f); k++) {
			/* Unmapped for good while the folio was on its way out: nobody will ask for
			 * it, and on a home frame its bytes are gone. */
			if (f->order && !swap_count(q, f->swap + k))
				continue;
			src = m->ops->frame_window(m, folio_pfn(q, f) + k);
			if (!src) { /* may not be read now: it stays in memory */
				err[i] = -EBUSY;
				break;
			}
			page_prepare(&w.ctx->pages[w.n++], src, f->swap + k, i);
			if (w.n == SWAP_BATCH)
				writeout_flush(&w);
		}
	}
	if (w.n)
		writeout_flush(&w);
	swap_ctx_put(w.ctx);
	for (u32 i = 0; i < n; i++) {
		if (err[i]) {
			folio_set(folios[i], PG_DIRTY);
			copies_void(q, folios[i]);
			if (err[i] != -EBUSY)
				stat_add(q, STAT_SWAP_WRITE_ERRORS, folio_nr(folios[i]));
			continue;
		}
		folio_clear(folios[i], PG_DIRTY);
		good++;
	}
	stat_add(q, STAT_SWAP_OUT_PAGES, w.out);
	stat_add(q, STAT_SWAP_SAME_PAGES, w.same);
	for (u32 i = 0; i < sw->nr_stores; i++)
		if (sw->store[i]->ops->maintain)
			sw->store[i]->ops->maintain(sw->store[i]);
	return good;
}

/* The kind of each slot changes only under the folio lock, which the caller holds: no cluster lock.
 */
bool swap_folio_has_copy(struct quire *q, struct folio *f)
{
	struct cluster *cl;
	struct slot *s;

	DEBUG_ON(!folio_test(f, PG_LOCKED));
	if (!folio_test(f, PG_SWAPCACHE) || folio_test(f, PG_DIRTY))
		return false;
	cl = slot_cluster(q->swap, f->swap);
	s = (struct slot *)aptr_read_acquire(&cl->slots) + slot_offset(f->swap);
	for (u32 i = 0; i < folio_nr(f); i++)
		if (state_kind(a32_read(&s[i].state)) == KIND_NONE &&
		    state_count(a32_read(&s[i].state)))
			return false;
	return true;
}

/* Dirty first: at no moment does the folio look clean without a copy. */
void swap_invalidate_copy(struct quire *q, struct folio *f)
{
	DEBUG_ON(!folio_test(f, PG_LOCKED));
	folio_set(f, PG_DIRTY);
	if (folio_test(f, PG_SWAPCACHE))
		copies_void(q, f);
}

/* ---- reading ---- */

/* A copy of what the slot says; kind KIND_NONE when it has nothing to read. */
static void slot_snapshot(struct swap *sw, u64 slot, struct swap_load *l)
{
	struct cluster *cl = slot_cluster(sw, slot);
	struct slot *s;

	l->kind = KIND_NONE;
	l->data = 0;
	l->sum = 0;
	if (!cl)
		return;
	spin_lock(&cl->lock);
	s = slot_used(cl, slot);
	if (s) {
		l->kind = state_kind(a32_read(&s->state));
		l->data = s->data;
		l->sum = s->sum;
	}
	spin_unlock(&cl->lock);
}

static void fill_same(void *page, u64 word)
{
	u64 *w = page;

	for (u32 i = 0; i < PAGE_SIZE / 8; i++)
		w[i] = word;
}

/* Every load that belongs to one store, in the caller's order: a file store joins neighbours. */
static void loads_from_store(struct store *s, struct swap_load *loads, u32 n)
{
	struct swap_load *mine[LOADS_MAX];
	u32 nr = 0;

	for (u32 i = 0; i < n; i++)
		if (loads[i].kind == s->kind)
			mine[nr++] = &loads[i];
	if (nr)
		s->ops->read(s, mine, nr);
}

/* Does the page hold what was stored? The checksum decides; same-filled pages check their word. */
static bool load_is_intact(struct quire *q, struct swap_load *l)
{
	if (l->kind == KIND_SAME)
		return same_sum(l->data) == l->sum;
	if (inject_fail(q->inject, INJECT_STORE_CORRUPT))
		((u8 *)l->buf)[l->sum % PAGE_SIZE] ^= (u8)(1u << (l->sum >> 12) % 8);
	return swap_page_sum(l->buf) == l->sum;
}

/*
 * The verdict on one page. With a locked folio in the cache the slot cannot have changed. With only
 * a count, another owner of the slot may have brought the page in, written to it and given the copy
 * up while we read it: what we read is then nobody's (the slot, or its bytes, may belong to another
 * page already).
 */
static int load_finish(struct quire *q, u64 slot, struct swap_load *l)
{
	struct swap_load now;
	bool intact = !l->err && load_is_intact(q, l);

	if (mech_on(q, MECH_SWAP_SLOT_CACHE_RECHECK)) {
		slot_snapshot(q->swap, slot, &now);
		if (now.kind != l->kind || now.data != l->data || now.sum != l->sum)
			return -EAGAIN;
	}
	if (intact)
		return 0;
	if (!l->err && l->kind >= KIND_STORE)
		a64_add(&swap_store(q->swap, l->kind)->errors, 1);
	stat_inc(q, STAT_SWAP_READ_ERRORS);
	return l->err ? l->err : -EIO;
}

static u32 read_batch(struct quire *q, const u64 *slots, u32 n, void *const *bufs, int *err)
{
	struct swap *sw = q->swap;
	struct swap_load loads[LOADS_MAX];
	u32 good = 0;

	for (u32 i = 0; i < n; i++) {
		struct swap_load *l = &loads[i];

		slot_snapshot(sw, slots[i], l);
		l->buf = bufs[i];
		l->err = l->kind == KIND_NONE ? -EAGAIN : 0;
		if (l->kind == KIND_SAME)
			fill_same(l->buf, l->data);
	}
	for (u32 i = 0; i < sw->nr_stores; i++)
		loads_from_store(sw->store[i], loads, n);
	for (u32 i = 0; i < n; i++) {
		err[i] = loads[i].kind == KIND_NONE ? -EAGAIN : load_finish(q, slots[i], &loads[i]);
		good += err[i] == 0;
		TRACE(q, EV_SWAP_IN, slots[i], 0, err[i]);
	}
	return good;
}

u32 swap_read(struct quire *q, const u64 *slots, u32 n, void *const *bufs, int *err)
{
	u32 good = 0;

	for (u32 at = 0; at < n; at += LOADS_MAX)
		good += read_batch(q, slots + at, min(n - at, LOADS_MAX), bufs + at, err + at);
	stat_add(q, STAT_SWAP_IN_PAGES, good);
	return good;
}

bool swap_slot_is_slow(struct quire *q, u64 slot)
{
	struct swap_load l;

	slot_snapshot(q->swap, slot, &l);
	return l.kind >= KIND_STORE && swap_store(q->swap, l.kind)->slow;
}
