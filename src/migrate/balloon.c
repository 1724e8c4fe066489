/* balloon.c - taking frames out of use, giving them back, and moving them. */
#include "migrate/balloon.h"

#include "base/thread.h"
#include "machine/machine.h"
#include "migrate/migrate_internal.h"

#define TRIES 24u /* to make room, for one page */

static struct balloon *balloon_of(struct quire *q)
{
	return &q->migrate->balloon;
}

/* ---- the list ---- */

/* LOCKING: page lock, balloon lock. */
static void insert(struct balloon *b, struct folio *f)
{
	list_add(&f->lru, &b->node[folio_node(f)].pages);
	b->node[folio_node(f)].nr++;
	folio_set(f, PG_LISTED);
	/* Last: by it the page is found (movable_isolate). */
	folio_set_type(f, PAGE_BALLOON);
}

/* It is the balloon's no more. LOCKING: page lock, balloon lock. */
static void forget(struct balloon *b, struct folio *f)
{
	folio_set_type(f, PAGE_OF_NO_TYPE);
	b->node[folio_node(f)].nr--;
}

/* LOCKING: page lock, balloon lock. */
static void unlist(struct folio *f)
{
	DEBUG_ON(!folio_test(f, PG_LISTED)); /* two would own it */
	list_del(&f->lru);
	folio_clear(f, PG_LISTED);
}

/* ---- moving: movable.h ---- */

static bool balloon_isolate(struct quire *q, struct folio *f)
{
	struct balloon *b = balloon_of(q);

	spin_lock(&b->lock);
	unlist(f);
	b->node[folio_node(f)].isolated++;
	spin_unlock(&b->lock);
	return true;
}

static void balloon_putback(struct quire *q, struct folio *f)
{
	struct balloon *b = balloon_of(q);

	spin_lock(&b->lock);
	b->node[folio_node(f)].isolated--;
	list_add(&f->lru, &b->node[folio_node(f)].pages);
	folio_set(f, PG_LISTED);
	spin_unlock(&b->lock);
}

/* No bytes to copy. The new frame's are nobody's, but a move that failed may have left some there.
 */
static int balloon_migrate(struct quire *q, struct folio *dst, struct folio *src,
			   enum migrate_mode mode)
{
	struct balloon *b = balloon_of(q);

	(void)mode;
	machine_release(q->machine, folio_pfn(q, dst), 1);
	spin_lock(&b->lock);
	insert(b, dst);
	forget(b, src);
	b->node[folio_node(src)].isolated--;
	spin_unlock(&b->lock);
	folio_put(q, src); /* the balloon's; the isolation's is left */
	return 0;
}

static const struct movable_ops balloon_ops = {
	.isolate = balloon_isolate,
	.migrate = balloon_migrate,
	.putback = balloon_putback,
};

/* ---- room ---- */

static struct folio *alloc_elsewhere(struct quire *q, struct folio *src, void *ctx)
{
	struct folio *f = NULL;

	(void)ctx;
	for (unsigned n = 0; n < phys_nr_nodes(q) && !f; n++)
		if (n != folio_node(src))
			f = phys_alloc(q, n, src->order);
	return f;
}

static int home_elsewhere(struct quire *q, struct folio *src, void *ctx)
{
	for (unsigned k = 1; k < phys_nr_nodes(q); k++) {
		unsigned n = phys_fallback(q, folio_node(src), k);

		if (phys_room(q, n) >= folio_nr(src))
			return (int)n;
	}
	return -1;
}

/* Pages of the node that are not in use just now go to other nodes. How many went. */
static u64 push_out(struct quire *q, unsigned node)
{
	static const struct migrate_ops ops = { .alloc = alloc_elsewhere,
						.home_node = home_elsewhere };
	struct migrate_counts c = { 0 };
	struct list folios;
	u32 phase;

	if (phys_nr_nodes(q) < 2)
		return 0;
	list_init(&folios);
	phase = migrate_step_begin(q);
	/* Pages just faulted in are still in batches. */
	lru_drain_all(q);
	if (!lru_isolate_clusters(q, node, LRU_INACTIVE, LRU_CLUSTER, &folios))
		lru_deactivate_tail(q, node, LRU_CLUSTER);
	else
		(void)!migrate_folios(q, &folios, &ops, NULL, MIGRATE_ASYNC, MIGRATE_FOR_BALLOON,
				      &c);
	migrate_putback(q, &folios);
	migrate_step_end(q, phase);
	/* They are on their way to their lists, with a reference of the batch. */
	return c.moved;
}

static bool charge(struct quire *q)
{
	const struct migrate_upcalls *up = q->migrate->up;
	unsigned at = CGROUP_ROOT;

	for (u32 i = 0; i < TRIES; i++) {
		if (!cgroup_try_charge(q, CGROUP_ROOT, 1, &at))
			return true;
		if (!up->make_room(q, at, LRU_CLUSTER))
			base_yield();
	}
	return false;
}

static struct folio *frame(struct quire *q, unsigned node)
{
	const struct migrate_upcalls *up = q->migrate->up;

	for (u32 i = 0; i < TRIES; i++) {
		struct folio *f = phys_alloc(q, node, 0);

		if (f)
			return f;
		/* Nothing is lost by moving; what cannot be moved is paged out, wherever it is. */
		if (!push_out(q, node) && !up->make_room(q, CGROUP_ROOT, LRU_CLUSTER))
			base_yield();
	}
	return NULL;
}

static bool inflate_one(struct quire *q, unsigned node)
{
	struct balloon *b = balloon_of(q);
	struct folio *f;

	if (!charge(q))
		return false;
	f = frame(q, node);
	if (!f) {
		cgroup_uncharge(q, CGROUP_ROOT, 1);
		return false;
	}
	folio_set_charge(f, CGROUP_ROOT);
	/* Nobody else can know it: a stale number's look lasts a moment. */
	while (!folio_trylock(f))
		base_relax();
	spin_lock(&b->lock);
	insert(b, f);
	spin_unlock(&b->lock);
	folio_unlock(f);
	return true;
}

/* ---- for others ---- */

u64 balloon_inflate(struct quire *q, unsigned node, u64 nr)
{
	u64 done = 0;

	if (node >= phys_nr_nodes(q) || !range_size(phys_span(q, node)))
		return 0;
	while (done < nr && inflate_one(q, node))
		done++;
	stat_add(q, STAT_BALLOON_INFLATED, done);
	return done;
}

/* A page that somebody else has locked is about to be isolated: the next one. LOCKING: balloon
 * lock. */
static bool take_back(struct quire *q, struct balloon *b, struct folio *f)
{
	bool locked = mech_on(q, MECH_BALLOON_PAGE_LOCK);

	if (locked && !mech_on(q, MECH_MIGRATE_TRYLOCK))
		folio_lock(f);
	else if (locked && !folio_trylock(f))
		return false;
	unlist(f);
	forget(b, f);
	if (locked)
		folio_unlock(f);
	return true;
}

u64 balloon_deflate(struct quire *q, unsigned node, u64 nr)
{
	struct balloon *b = balloon_of(q);
	struct list out, *at, *next;
	u64 done = 0;

	if (node >= phys_nr_nodes(q))
		return 0;
	list_init(&out);
	spin_lock(&b->lock);
	for (at = b->node[node].pages.next; at != &b->node[node].pages && done < nr; at = next) {
		struct folio *f = list_entry(at, struct folio, lru);

		next = at->next;
		if (!take_back(q, b, f))
			continue;
		list_add_tail(&f->lru, &out);
		done++;
	}
	spin_unlock(&b->lock);
	while (!list_empty(&out)) {
		struct folio *f = list_first(&out, struct folio, lru);

		list_del(&f->lru);
		folio_put(q, f);
	}
	stat_add(q, STAT_BALLOON_DEFLATED, done);
	return done;
}

u64 balloon_pages(struct quire *q, int node)
{
	struct balloon *b = balloon_of(q);
	u64 nr = 0;

	spin_lock(&b->lock);
	for (int n = 0; n < MAX_NODES; n++)
		nr += node < 0 || n == node ? b->node[n].nr : 0;
	spin_unlock(&b->lock);
	return nr;
}

void balloon_create(struct quire *q)
{
	struct balloon *b = balloon_of(q);

	spin_init(&b->lock, LOCK_BALLOON);
	for (u32 n = 0; n < MAX_NODES; n++)
		list_init(&b->node[n].pages);
	movable_register(q, PAGE_BALLOON, &balloon_ops);
}

void balloon_destroy(struct quire *q)
{
	for (u32 n = 0; n < phys_nr_nodes(q); n++)
		balloon_deflate(q, n, ~0ull);
	BUG_ON(balloon_pages(q, -1)); /* somebody has isolated one */
}

u64 balloon_check(struct quire *q)
{
	struct balloon *b = balloon_of(q);
	u64 bad = 0;

	spin_lock(&b->lock);
	for (u32 n = 0; n < MAX_NODES; n++) {
		u64 listed = 0;

		list_for_each(at, &b->node[n].pages) {
			struct folio *f = list_entry(at, struct folio, lru);

			bad += WARN_ON(folio_type(f) != PAGE_BALLOON || !folio_test(f, PG_LISTED));
			bad += WARN_ON(folio_node(f) != n || f->charge != CGROUP_ROOT);
			listed++;
		}
		bad += WARN_ON(b->node[n].isolated);
		bad += WARN_ON(listed + b->node[n].isolated != b->node[n].nr);
	}
	spin_unlock(&b->lock);
	return bad;
}
