/*
 * LRU lists and the add batches before them.
 *
 * PG_LRU and the list bits of a folio's flags: link sets PG_LRU by one atomic operation and picks
 * the list from the value that it returns; whoever clears PG_LRU unlinks, under the lock, from the
 * list that the list bits name. So flags like PG_ACTIVE may change at any time without the sizes
 * going wrong.
 */
#include "phys/phys_internal.h"

void phys_lru_init(struct lru *lru)
{
	spin_init(&lru->lock, LOCK_LRU);
	for (unsigned l = 0; l < NR_LRU_LISTS; l++)
		list_init(&lru->list[l]);
}

static inline struct lru *folio_lru(struct quire *q, const struct folio *f)
{
	return &q->phys->node[folio_node(f)].lru;
}

/* One lock for a run of folios of one node. `held` may be NULL. */
static inline struct lru *relock(struct lru *held, struct lru *want)
{
	if (held == want)
		return held;
	if (held)
		spin_unlock(&held->lock);
	if (want)
		spin_lock(&want->lock);
	return want;
}

/* LOCKING: lru->lock */
static void count(struct lru *lru, enum lru_list l, u64 pages)
{
	a64_set(&lru->pages[l], a64_read(&lru->pages[l]) + pages);
}

static void set_list(struct folio *f, enum lru_list from, enum lru_list to)
{
	u64 change = (u64)(from ^ to) << FOLIO_LIST_SHIFT;
	u64 to_bits = (u64)to << FOLIO_LIST_SHIFT;

	if (change & ~to_bits)
		a64_fetch_and(&f->flags, ~(change & ~to_bits));
	if (change & to_bits)
		a64_fetch_or(&f->flags, change & to_bits);
}

/* LOCKING: lru->lock. At the head, or at the tail. */
static void lru_link(struct lru *lru, struct folio *f, bool tail)
{
	u64 old = a64_fetch_or(&f->flags, PGF(LRU));
	enum lru_list l = old & PGF(UNEVICTABLE) ? LRU_UNEVICTABLE :
			  old & PGF(ACTIVE)      ? LRU_ACTIVE :
						   LRU_INACTIVE;

	BUG_ON(old & PGF(LRU));
	set_list(f, LRU_INACTIVE, l);
	count(lru, l, folio_nr(f));
	if (tail)
		list_add_tail(&f->lru, &lru->list[l]);
	else
		list_add(&f->lru, &lru->list[l]);
}

/* LOCKING: lru->lock. By the one who has cleared PG_LRU (or does so next: nobody else can). */
static void lru_unlink(struct lru *lru, struct folio *f)
{
	enum lru_list l = flags_list(a64_read(&f->flags));

	list_del(&f->lru);
	count(lru, l, -(u64)folio_nr(f));
	set_list(f, l, LRU_INACTIVE);
}

void lru_forget(struct quire *q, struct folio *const *f, u32 n)
{
	struct lru *lru = NULL;

	for (u32 i = 0; i < n; i++) {
		if (!folio_test(f[i], PG_LRU))
			continue;
		lru = relock(lru, folio_lru(q, f[i]));
		lru_unlink(lru, f[i]);
		folio_clear(f[i], PG_LRU);
	}
	relock(lru, NULL);
}

/* Put folios that are on no list on theirs, and drop one reference of each. Those whose last one it
 * is are freed instead: nobody can find them. Reorders f[]. */
static void lru_link_all(struct quire *q, struct folio **f, u32 n)
{
	struct lru *lru = NULL;
	u32 nr_dead = 0;

	for (u32 i = 0; i < n; i++) {
		if (a32_read(&f[i]->ref) == 1 && folio_freeze(f[i], 1))
			continue;
		lru = relock(lru, folio_lru(q, f[i]));
		lru_link(lru, f[i], false);
	}
	relock(lru, NULL);
	for (u32 i = 0; i < n; i++)
		/* Frozen by us above, or freed by this very drop: both are ours alone now. A folio
		 * that was linked has at least our reference until here. */
		if (!a32_read(&f[i]->ref) || !a32_sub_return(&f[i]->ref, 1))
			f[nr_dead++] = f[i];
	phys_free(q, f, nr_dead);
}

/* ---- add batches ---- */

/* LOCKING: cpu->lock. Takes the batch out, so that it can be linked under LOCK_LRU, which ranks
 * before. */
static u32 batch_take(struct phys_cpu *cpu, struct folio **f)
{
	u32 n = a32_read(&cpu->nr_lru);

	for (u32 i = 0; i < n; i++)
		f[i] = cpu->lru[i];
	a32_set(&cpu->nr_lru, 0);
	return n;
}

void lru_add(struct quire *q, struct folio *f)
{
	struct phys_cpu *cpu = &q->phys->cpu[base_cpu()];
	struct folio *batch[LRU_BATCH];
	u32 n = 0, at;

	DEBUG_ON(folio_test(f, PG_LRU));
	DEBUG_ON(folio_test(f, PG_TAIL));
	DEBUG_ON(folio_type(f));
	folio_get(f);
	spin_lock(&cpu->lock);
	at = a32_read(&cpu->nr_lru);
	cpu->lru[at] = f;
	a32_set(&cpu->nr_lru, at + 1);
	if (at + 1 == LRU_BATCH)
		n = batch_take(cpu, batch);
	spin_unlock(&cpu->lock);
	if (n)
		lru_link_all(q, batch, n);
}

static void drain_slot(struct quire *q, struct phys_cpu *cpu)
{
	struct folio *batch[LRU_BATCH];
	u32 n;

	if (!a32_read(&cpu->nr_lru))
		return;
	spin_lock(&cpu->lock);
	n = batch_take(cpu, batch);
	spin_unlock(&cpu->lock);
	lru_link_all(q, batch, n);
}

void lru_drain(struct quire *q)
{
	drain_slot(q, &q->phys->cpu[base_cpu()]);
}

void lru_drain_all(struct quire *q)
{
	for (u32 i = 0; i < MAX_CPUS; i++)
		drain_slot(q, &q->phys->cpu[i]);
}

/* ---- isolation ---- */

/* The right to unlink: exactly one caller gets it. */
static bool lru_win(struct quire *q, struct folio *f)
{
	if (mech_on(q, MECH_LRU_ISOLATE_ONCE))
		return folio_test_clear(f, PG_LRU);
	if (!folio_test(f, PG_LRU))
		return false;
	folio_clear(f, PG_LRU);
	return true;
}

bool lru_isolate(struct quire *q, struct folio *f)
{
	struct lru *lru;

	if (!folio_test(f, PG_LRU) || !lru_win(q, f))
		return false;
	/* Only now: from one isolation to the next a folio may have changed its node. */
	lru = folio_lru(q, f);
	folio_get(f);
	spin_lock(&lru->lock);
	lru_unlink(lru, f);
	spin_unlock(&lru->lock);
	list_init(&f->lru);
	return true;
}

void lru_putback(struct quire *q, struct folio *f)
{
	DEBUG_ON(folio_test(f, PG_LRU) || folio_type(f));
	lru_link_all(q, &f, 1);
}

void lru_putback_list(struct quire *q, struct list *folios)
{
	struct folio *f[LRU_BATCH];

	while (!list_empty(folios)) {
		u32 n = 0;

		while (n < LRU_BATCH && !list_empty(folios)) {
			f[n] = list_first(folios, struct folio, lru);
			list_del(&f[n]->lru);
			n++;
		}
		lru_link_all(q, f, n);
	}
}

/* LOCKING: lru->lock. Takes the folio if it is on this list and nobody else is taking it. */
static bool cluster_take(struct quire *q, struct lru *lru, struct folio *f, enum lru_list list,
			 struct list *out)
{
	bool node_last = mech_on(q, MECH_LRU_ISOLATE_ONCE),
	     ours = node_last || folio_lru(q, f) == lru;
	u64 flags = a64_read(&f->flags);

	/*
	 * Home frames of one block may be of several nodes. Who reads PG_LRU first and then this
	 * lock's node knows that it is on a list of this lock's: it was linked with that node, and
	 * to leave it takes our lock. A reference first: a dying folio is its freer's to unlink.
	 */
	if (!(flags & PGF(LRU)) || flags_list(flags) != list || !ours ||
	    (node_last && folio_lru(q, f) != lru) || !folio_try_get(f))
		return false;
	if (!lru_win(q, f)) {
		/* The reference is dropped under LOCK_LRU: it must not be the last one. Whoever won
		 * isolated it and holds one of its own, and cannot go on without our lock. */
		u32 left = a32_sub_return(&f->ref, 1);

		BUG_ON(!left);
		return false;
	}
	lru_unlink(lru, f);
	list_add_tail(&f->lru, out);
	return true;
}

/* LOCKING: lru->lock. Takes f's neighbours and itself, in frame order. Pages taken. */
static u32 cluster_isolate(struct quire *q, struct lru *lru, struct folio *f, enum lru_list list,
			   struct list *out)
{
	u32 at = record_pfn(f) & (LRU_CLUSTER - 1), i = 0, pages = 0;
	struct folio *base = f - at;

	if (f->order >= 6)
		return cluster_take(q, lru, f, list, out) ? folio_nr(f) : 0;
	while (i < LRU_CLUSTER) {
		struct folio *n = base + i;
		u32 nr = 1;

		if (cluster_take(q, lru, n, list, out)) {
			nr = folio_nr(n);
			pages += nr;
		}
		i += nr;
	}
	return pages;
}

u32 lru_isolate_clusters(struct quire *q, unsigned node, enum lru_list list, u32 max_pages,
			 struct list *out)
{
	struct lru *lru = &q->phys->node[node].lru;
	struct list *head = &lru->list[list], *at;
	u32 pages = 0, passed = 0;

	spin_lock(&lru->lock);
	at = head->prev;
	while (at != head && pages < max_pages) {
		u32 got = cluster_isolate(q, lru, list_entry(at, struct folio, lru), list, out);

		if (got) {
			pages += got;
			/* The neighbours may have been anywhere in the list: begin again at its
			 * end. */
			at = head->prev;
			passed = 0;
			continue;
		}
		/* It is being isolated or freed by a thread that waits for our lock: leave it
		 * there. */
		if (++passed > LRU_CLUSTER)
			break;
		at = at->prev;
	}
	spin_unlock(&lru->lock);
	return pages;
}

u64 lru_size(struct quire *q, unsigned node, enum lru_list list)
{
	return a64_read(&q->phys->node[node].lru.pages[list]);
}

/* ---- aging ---- */

void lru_mark_accessed(struct quire *q, struct folio *f)
{
	u64 flags = a64_read(&f->flags);

	if (flags & PGF(UNEVICTABLE))
		return;
	if (!(flags & PGF(REFERENCED))) {
		folio_set(f, PG_REFERENCED);
		return;
	}
	if (flags & PGF(ACTIVE))
		return;
	folio_clear(f, PG_REFERENCED);
	/* In a batch or isolated: whoever puts it on a list reads this. */
	folio_set(f, PG_ACTIVE);
	if (lru_isolate(q, f))
		lru_putback(q, f);
}

/* LOCKING: lru->lock. Moves a folio that is linked; PG_LRU stays set, and whoever clears it
 * meanwhile waits for the lock and finds the new list in the bits. */
static void lru_move(struct lru *lru, struct folio *f, enum lru_list to, bool tail)
{
	enum lru_list from = flags_list(a64_read(&f->flags));

	list_del(&f->lru);
	count(lru, from, -(u64)folio_nr(f));
	set_list(f, from, to);
	count(lru, to, folio_nr(f));
	if (tail)
		list_add_tail(&f->lru, &lru->list[to]);
	else
		list_add(&f->lru, &lru->list[to]);
}

u32 lru_deactivate_tail(struct quire *q, unsigned node, u32 max_pages)
{
	struct lru *lru = &q->phys->node[node].lru;
	struct list *head = &lru->list[LRU_ACTIVE];
	u32 pages = 0, passed = 0;
	struct list *at;

	spin_lock(&lru->lock);
	at = head->prev;
	while (at != head && pages < max_pages && passed < LRU_CLUSTER) {
		struct folio *f = list_entry(at, struct folio, lru);

		at = at->prev;
		/* Without PG_LRU it belongs to the thread that waits to unlink it. */
		if (!folio_test(f, PG_LRU)) {
			passed++;
			continue;
		}
		folio_clear(f, PG_ACTIVE);
		lru_move(lru, f, LRU_INACTIVE, false);
		pages += folio_nr(f);
	}
	spin_unlock(&lru->lock);
	return pages;
}

void lru_deactivate(struct quire *q, struct folio *f)
{
	struct lru *lru = folio_lru(q, f);

	/* For the one who has it in a batch or isolated, and for the list below. */
	a64_fetch_and(&f->flags, ~(PGF(ACTIVE) | PGF(REFERENCED)));
	if (!folio_test(f, PG_LRU))
		return;
	spin_lock(&lru->lock);
	/* In this order, as cluster_take. */
	if (folio_test(f, PG_LRU) && folio_lru(q, f) == lru &&
	    flags_list(a64_read(&f->flags)) != LRU_UNEVICTABLE)
		lru_move(lru, f, LRU_INACTIVE, true);
	spin_unlock(&lru->lock);
}
