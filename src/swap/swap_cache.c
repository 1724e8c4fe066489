#include "swap/swap_internal.h"

#include "base/assert.h"
#include "base/inject.h"
#include "base/mech.h"

/*
 * The swap cache: which folio stands for a slot, and how many entries name it.
 *
 * A folio enters in swap_add_folio (on its way out) or swap_cache_insert (on its way in), and
 * leaves in swap_try_free_folio or swap_leave_copy (it stays in memory), swap_delete_frozen (it
 * goes), swap_replace_frozen (another one takes its place) or swap_cache_abort (it was never
 * filled). All of them hold the folio's lock; a lookup holds nothing and revalidates.
 */

void swap_free_copies(struct swap *sw, const struct slot_copy *c, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (c[i].kind < KIND_STORE)
			continue;
		swap_store(sw, c[i].kind)->ops->free(swap_store(sw, c[i].kind), c[i].data);
	}
}

/* The cluster of a slot that the caller knows to be in use. */
static struct cluster *cluster_lock(struct swap *sw, u64 slot)
{
	struct cluster *cl = slot_cluster(sw, slot);

	BUG_ON(!cl);
	spin_lock(&cl->lock);
	return cl;
}

/* The folio's fields are complete before a slot shows it: a lookup reads them without the folio
 * lock. */
static void cache_link(struct folio *f, u64 first)
{
	f->swap = first;
	folio_set(f, PG_SWAPCACHE);
	folio_get_nr(f, folio_nr(f));
}

/* The caller drops the references. */
static void cache_unlink(struct folio *f)
{
	folio_clear(f, PG_SWAPCACHE);
	f->swap = 0;
}

int swap_add_folio(struct quire *q, struct folio *f)
{
	u32 nr = folio_nr(f);
	struct cluster *cl;
	struct slot *s;
	u64 first;

	DEBUG_ON(!folio_test(f, PG_LOCKED));
	if (folio_test(f, PG_SWAPCACHE))
		return 0;
	if (inject_fail(q->inject, INJECT_SLOT))
		return -ENOMEM;
	cl = slots_alloc(q, nr, &first);
	if (!cl)
		return -ENOMEM;
	cache_link(f, first);
	s = slot_used(cl, first);
	for (u32 i = 0; i < nr; i++)
		aptr_set_release(&s[i].folio, f);
	spin_unlock(&cl->lock);
	return 0;
}

void swap_dup(struct quire *q, u64 slot, u32 nr)
{
	struct swap *sw = q->swap;

	while (nr) {
		u32 run = min(nr, CLUSTER_SLOTS - slot_offset(slot));
		struct cluster *cl = cluster_lock(sw, slot);

		for (u32 i = 0; i < run; i++) {
			struct slot *s = slot_used(cl, slot + i);

			BUG_ON(!s || state_count(a32_read(&s->state)) == STATE_COUNT_MASK);
			a32_set(&s->state, a32_read(&s->state) + 1);
		}
		spin_unlock(&cl->lock);
		slot += run;
		nr -= run;
	}
}

/* A slot without count and folio is freed. Its copy goes to copies[*n]. LOCKING: cluster lock. */
static void slot_free_if_unused(struct swap *sw, struct cluster *cl, u64 slot,
				struct slot_copy *copies, u32 *n, u32 *freed)
{
	struct slot *s = slot_used(cl, slot);

	if (state_count(a32_read(&s->state)) || word_folio(aptr_read(&s->folio)))
		return;
	slot_release(sw, cl, slot, &copies[(*n)++]);
	(*freed)++;
}

void swap_put(struct quire *q, u64 slot, u32 nr)
{
	struct swap *sw = q->swap;

	while (nr) {
		u32 run = min(min(nr, COPIES_MAX), CLUSTER_SLOTS - slot_offset(slot));
		struct slot_copy copies[COPIES_MAX];
		u32 n = 0, freed = 0;
		struct cluster *cl = cluster_lock(sw, slot);

		for (u32 i = 0; i < run; i++) {
			struct slot *s = slot_used(cl, slot + i);

			BUG_ON(!s || !state_count(a32_read(&s->state)));
			a32_set(&s->state, a32_read(&s->state) - 1);
			slot_free_if_unused(sw, cl, slot + i, copies, &n, &freed);
		}
		slots_released(q, cl, freed);
		spin_unlock(&cl->lock);
		/* The copies have no name any more: their place is given back outside the lock. */
		swap_free_copies(sw, copies, n);
		slot += run;
		nr -= run;
	}
}

u32 swap_count(struct quire *q, u64 slot)
{
	struct cluster *cl = slot_cluster(q->swap, slot);
	struct slot *s;
	u32 count = 0;

	if (!cl)
		return 0;
	spin_lock(&cl->lock);
	s = slot_used(cl, slot);
	if (s)
		count = state_count(a32_read(&s->state));
	spin_unlock(&cl->lock);
	return count;
}

/*
 * Take the folio out of all its slots. With `shadow` a slot that entries name keeps its copy; the
 * rest is freed.
 * LOCKING: cluster lock of the folio's slots, folio lock.
 */
static void cache_clear_slots(struct quire *q, struct cluster *cl, struct folio *f, void *word)
{
	struct slot *s = slot_used(cl, f->swap);
	u32 nr = folio_nr(f), n = 0, freed = 0;
	struct slot_copy copies[COPIES_MAX];

	for (u32 i = 0; i < nr; i++) {
		BUG_ON(aptr_read(&s[i].folio) != f);
		aptr_set_release(&s[i].folio, word);
		slot_free_if_unused(q->swap, cl, f->swap + i, copies, &n, &freed);
		if (n == COPIES_MAX) {
			/* Large folios only: here the stores' locks nest inside, which their rank
			 * allows. */
			swap_free_copies(q->swap, copies, n);
			n = 0;
		}
	}
	cache_unlink(f);
	slots_released(q, cl, freed);
	spin_unlock(&cl->lock);
	swap_free_copies(q->swap, copies, n);
}

bool swap_try_free_folio(struct quire *q, struct folio *f)
{
	struct cluster *cl;
	struct slot *s;
	u32 nr = folio_nr(f);

	DEBUG_ON(!folio_test(f, PG_LOCKED));
	if (!folio_test(f, PG_SWAPCACHE))
		return true;
	cl = cluster_lock(q->swap, f->swap);
	s = slot_used(cl, f->swap);
	for (u32 i = 0; i < nr; i++) {
		if (state_count(a32_read(&s[i].state))) {
			spin_unlock(&cl->lock);
			return false;
		}
	}
	/* It loses its stored copy: from now on its bytes exist nowhere else. */
	folio_set(f, PG_DIRTY);
	cache_clear_slots(q, cl, f, NULL);
	folio_put_nr(q, f, nr);
	return true;
}

/* An entry that names a slot without a copy would have lost its page. LOCKING: cluster lock. */
static void check_copies(struct slot *s, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		u32 state = a32_read(&s[i].state);

		BUG_ON(state_count(state) && state_kind(state) == KIND_NONE);
	}
}

void swap_leave_copy(struct quire *q, struct folio *f)
{
	u32 nr = folio_nr(f);
	struct cluster *cl;

	DEBUG_ON(!folio_test(f, PG_LOCKED));
	/* Its own bytes will change. */
	folio_set(f, PG_DIRTY);
	cl = cluster_lock(q->swap, f->swap);
	check_copies(slot_used(cl, f->swap), nr);
	cache_clear_slots(q, cl, f, word_shadow(0));
	folio_put_nr(q, f, nr);
}

void swap_delete_frozen(struct quire *q, struct folio *f, u32 shadow)
{
	struct cluster *cl;

	BUG_ON(a32_read(&f->ref) != 0 || !folio_test(f, PG_SWAPCACHE));
	cl = cluster_lock(q->swap, f->swap);
	check_copies(slot_used(cl, f->swap), folio_nr(f));
	cache_clear_slots(q, cl, f, word_shadow(shadow));
}

void swap_replace_frozen(struct quire *q, struct folio *old, struct folio *new)
{
	struct cluster *cl;
	struct slot *s;

	BUG_ON(a32_read(&old->ref) != 0 || !folio_test(old, PG_SWAPCACHE));
	BUG_ON(folio_nr(new) != folio_nr(old) || folio_test(new, PG_SWAPCACHE));
	DEBUG_ON(!folio_test(old, PG_LOCKED) || !folio_test(new, PG_LOCKED));
	cl = cluster_lock(q->swap, old->swap);
	s = slot_used(cl, old->swap);
	cache_link(new, old->swap);
	for (u32 i = 0; i < folio_nr(new); i++) {
		DEBUG_ON(word_folio(aptr_read(&s[i].folio)) != old);
		aptr_set_release(&s[i].folio, new);
	}
	cache_unlink(old);
	spin_unlock(&cl->lock);
}

/* A reference to a folio that may be on its way out. */
static bool cache_get(struct quire *q, struct folio *f)
{
	if (mech_on(q, MECH_REF_FREEZE))
		return folio_try_get(f);
	a32_fetch_add(&f->ref, 1);
	return true;
}

/*
 * Nothing is held, so the slot may be freed and given to another folio, and the folio freed and
 * used for another page, at any time.
 *
 *   lookup                               reclaim
 *   rcu lock; f = slot->folio
 *                                        freeze f (ref 0); slot->folio = shadow; frame freed, used
 *                                        again
 *   try to get a reference (not from 0)
 *   slot->folio still f? no: put, again
 *
 * The array of slots is kept by RCU; the record of a frame is never freed. A folio that is frozen
 * while its slot still shows it is about to leave or to come back: look again until it did.
 */
struct folio *swap_lookup(struct quire *q, u64 slot)
{
	struct cluster *cl = slot_cluster(q->swap, slot);

	for (u32 tries = 1; cl; tries++) {
		struct slot *slots;
		struct folio *f = NULL;
		bool got = false, same = false;

		qrcu_read_lock();
		slots = aptr_read_acquire(&cl->slots);
		if (slots)
			f = word_folio(aptr_read_acquire(&slots[slot_offset(slot)].folio));
		if (f) {
			got = cache_get(q, f);
			same = aptr_read_acquire(&slots[slot_offset(slot)].folio) == f;
		}
		qrcu_read_unlock();
		if (!f || (got && (same || !mech_on(q, MECH_SWAP_SLOT_CACHE_RECHECK))))
			return f;
		if (got)
			folio_put(q, f);
		base_relax();
		if (tries % 64 == 0)
			base_yield();
	}
	return NULL;
}

int swap_cache_insert(struct quire *q, u64 slot, struct folio *f, u32 *shadow)
{
	struct cluster *cl = slot_cluster(q->swap, slot);
	struct slot *s;
	void *word;
	int err = 0;

	DEBUG_ON(!folio_test(f, PG_LOCKED) || f->order || folio_test(f, PG_SWAPCACHE));
	if (!cl)
		return -ENOENT;
	spin_lock(&cl->lock);
	s = slot_used(cl, slot);
	word = s ? aptr_read(&s->folio) : NULL;
	if (!s) {
		err = -ENOENT;
	} else if (word_folio(word)) {
		err = -EEXIST;
	} else {
		*shadow = word_to_shadow(word);
		cache_link(f, slot);
		aptr_set_release(&s->folio, f);
	}
	spin_unlock(&cl->lock);
	return err;
}

void swap_cache_abort(struct quire *q, struct folio *f)
{
	struct cluster *cl;

	BUG_ON(!folio_test(f, PG_SWAPCACHE) || f->order);
	cl = cluster_lock(q->swap, f->swap);
	cache_clear_slots(q, cl, f, NULL);
	folio_put(q, f);
}
