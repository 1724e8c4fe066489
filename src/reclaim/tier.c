/* tier.c - demotion and promotion between nodes of different tiers. */
#include "migrate/migrate.h"
#include "reclaim/reclaim_internal.h"
#include "reclaim/tier.h"

#define DEMOTE_PAGES LRU_CLUSTER
#define DEMOTE_TRIES 16u /* clusters of which nothing could be moved */
#define STUCK_NS     2000000ull
#define STAMPS       BIT(ENTRY_STAMP_BITS)
#define TICKS_A_SIZE                                                                 \
	32u /* of the clock, while as many hints are made as the fast node has pages \
	     */
#define HOT_MAX     (TICKS_A_SIZE / 2)
#define HOT_MIN     1u
#define ADAPT_PAGES 4096u        /* demotions between two looks at how many were in vain */
#define BURST_NS    100000000ull /* of the rate may be saved up */

/* ---- the clock ---- */

static u64 fast_size(struct quire *q)
{
	u64 size = 0;

	for (unsigned i = 0; i < phys_nr_nodes(q); i++)
		if (!phys_tier(q, i))
			size += phys_size(q, i);
	return size;
}

static u64 tick_pages(struct quire *q)
{
	return max(fast_size(q) / TICKS_A_SIZE, (u64)LRU_CLUSTER);
}

unsigned tier_stamp(struct quire *q)
{
	return (unsigned)(a64_read(&q->reclaim->tier.clock) / tick_pages(q) % STAMPS);
}

static void count_hints(struct quire *q, unsigned node, u32 pages)
{
	if (!pages)
		return;
	a64_add(&q->reclaim->tier.clock, pages);
	a64_add(&q->reclaim->tier.node[node].hints, pages);
	stat_add(q, STAT_HINT_PAGES, pages);
}

void tier_parked(struct quire *q, unsigned node, u32 pages)
{
	count_hints(q, node, pages);
}

/* ---- demotion ---- */

struct demotion {
	unsigned from;
	unsigned to;
};

/* The nearest slower node with room for a cluster, or with the most; -1: there is no slower one. */
static int slower_node(struct quire *q, unsigned node)
{
	u64 most = 0;
	int best = -1;

	for (unsigned k = 1; k < phys_nr_nodes(q); k++) {
		unsigned n = phys_fallback(q, node, k);
		u64 room = phys_room(q, n);

		if (phys_tier(q, n) <= phys_tier(q, node))
			continue;
		if (room >= DEMOTE_PAGES)
			return (int)n;
		if (best < 0 || room > most) {
			best = (int)n;
			most = room;
		}
	}
	return best;
}

static struct folio *alloc_slower(struct quire *q, struct folio *src, void *ctx)
{
	return migrate_target(q, src, ((struct demotion *)ctx)->to);
}

static int home_slower(struct quire *q, struct folio *src, void *ctx)
{
	return (int)((struct demotion *)ctx)->to;
}

/* Neighbours among home frames from f on get their hints together. Returns the last of them. */
static struct folio *hint_run(struct quire *q, struct folio *f, const struct list *end)
{
	u64 pfn = folio_pfn(q, f);
	u32 nr = folio_nr(f);
	struct folio *last = f;

	while (frame_is_home(q->machine, pfn) && last->lru.next != end) {
		struct folio *n = list_entry(last->lru.next, struct folio, lru);

		if (folio_pfn(q, n) != pfn + nr || aptr_read(&n->mapping) != aptr_read(&f->mapping))
			break;
		nr += folio_nr(n);
		last = n;
	}
	count_hints(q, folio_node(f), rmap_hint_folios(q, f, nr, tier_stamp(q)));
	return last;
}

/* Those that come to the tail for the first time go round once more, to see whether they are used.
 * Returns their pages. */
static u32 watch(struct quire *q, struct list *folios)
{
	struct list watched;
	u32 pages = 0;

	list_init(&watched);
	list_for_each_safe(pos, tmp, folios) {
		struct folio *f = list_entry(pos, struct folio, lru);

		if (!folio_test_set(f, PG_IDLE))
			continue;
		list_move_tail(pos, &watched);
		pages += folio_nr(f);
	}
	list_for_each(pos, &watched)
		pos = &hint_run(q, list_entry(pos, struct folio, lru), &watched)->lru;
	lru_putback_list(q, &watched);
	return pages;
}

/* What is to stay goes back to its list, as recently used. Returns the pages left. */
static u32 pick_cold(struct quire *q, struct list *folios)
{
	u32 pages = 0;
	struct list keep;

	list_init(&keep);
	list_for_each_safe(pos, tmp, folios) {
		struct folio *f = list_entry(pos, struct folio, lru);
		bool stays =
			!folio_is_anon(f) || folio_maybe_pinned(f) || folio_test(f, PG_MLOCKED);

		if (!stays && rmap_referenced(q, f)) {
			folio_set(f, PG_ACTIVE);
			stays = true;
		}
		if (!stays) {
			pages += folio_nr(f);
			continue;
		}
		list_del(pos);
		list_add_tail(pos, &keep);
	}
	lru_putback_list(q, &keep);
	return pages;
}

/* How many of them were promoted before. */
static u32 count_promoted(struct list *folios)
{
	u32 pages = 0;

	list_for_each(pos, folios) {
		struct folio *f = list_entry(pos, struct folio, lru);

		if (folio_test(f, PG_WORKINGSET))
			pages += folio_nr(f);
		a64_fetch_and(&f->flags,
			      ~(PGF(WORKINGSET) | PGF(ACTIVE) | PGF(REFERENCED) | PGF(IDLE)));
	}
	return pages;
}

/* Half of what goes had been promoted: more is hot than fits. A sixteenth: all that is hot fits. */
static void adapt(struct tiers *t, u32 demoted, u32 promoted)
{
	u64 all = a64_add_return(&t->demoted, demoted);
	u64 vain = a64_add_return(&t->demoted_again, promoted);
	u32 hot = a32_read(&t->hot);

	if (all < ADAPT_PAGES || !a64_cmpxchg(&t->demoted, &all, 0))
		return;
	a64_sub(&t->demoted_again, vain);
	if (vain > all / 2)
		hot = max(hot / 2, HOT_MIN);
	else if (vain < all / 16)
		hot = min(hot + 1, HOT_MAX);
	a32_set(&t->hot, hot);
}

/* One cluster. Pages moved; *looked: 0: the lists are empty. *watched: 0: some may go round once
 * more; receives how many did. */
static u64 demote_cluster(struct quire *q, struct demotion *d, u32 *looked, u32 *watched)
{
	struct tiers *t = &q->reclaim->tier;
	struct migrate_ops ops = { .alloc = alloc_slower, .home_node = home_slower };
	struct migrate_counts counts = { 0 };
	struct list folios;
	u32 phase = reclaim_step_begin(q), promoted = 0, pages;

	list_init(&folios);
	*looked = reclaim_isolate(q, d->from, &folios);
	pages = pick_cold(q, &folios);
	if (pages && !*watched && !machine_has(q->machine, CAP_HW_AD)) {
		*watched = watch(q, &folios);
		pages -= *watched;
	}
	if (pages) {
		promoted = count_promoted(&folios);
		ops.hint = pte_mk_hint(0, tier_stamp(q));
		(void)!migrate_folios(q, &folios, &ops, d, MIGRATE_ASYNC, MIGRATE_FOR_DEMOTION,
				      &counts);
	}
	lru_putback_list(q, &folios);
	reclaim_step_end(q, phase);
	if (!counts.moved)
		return 0;
	count_hints(q, d->to, (u32)counts.moved);
	adapt(t, (u32)counts.moved, promoted);
	stat_add(q, STAT_DEMOTED, counts.moved);
	a64_add(&t->node[d->from].demoted_out, counts.moved);
	a64_add(&t->node[d->to].demoted_in, counts.moved);
	return counts.moved;
}

/* All that was looked at is in use or cannot move: the next fault need not look again at once. */
static bool is_stuck(struct quire *q, unsigned node)
{
	u64 until = a64_read(&q->reclaim->tier.node[node].stuck_until);

	return until && q->machine->ops->now_ns(q->machine) < until;
}

static void note_stuck(struct quire *q, unsigned node, bool stuck)
{
	a64_t *until = &q->reclaim->tier.node[node].stuck_until;

	if (stuck)
		a64_set(until, q->machine->ops->now_ns(q->machine) + STUCK_NS);
	else if (a64_read(until))
		a64_set(until, 0);
}

u64 tier_demote(struct quire *q, unsigned node, u32 pages)
{
	u64 moved = 0;
	u32 fruitless = 0, looked = 1, watched = 0;

	if (is_stuck(q, node))
		return 0;
	base_self()->reclaim_depth++;
	while (moved < pages && fruitless < DEMOTE_TRIES && looked) {
		int to = slower_node(q, node);
		struct demotion d = { node, (unsigned)to };
		u64 n;

		if (to < 0)
			break;
		/* It is full as well: what is cold there makes room, on a slower one or a store. */
		if (phys_room(q, d.to) < DEMOTE_PAGES && !tier_demote(q, d.to, DEMOTE_PAGES))
			reclaim_node(q, d.to, DEMOTE_PAGES);
		n = demote_cluster(q, &d, &looked, &watched);
		fruitless = n ? 0 : fruitless + 1;
		moved += n;
	}
	base_self()->reclaim_depth--;
	note_stuck(q, node, fruitless == DEMOTE_TRIES && !watched);
	return moved;
}

u64 tier_make_room(struct quire *q, unsigned node, u32 pages)
{
	u64 moved = tier_demote(q, node, pages);

	return moved ? moved : reclaim_node(q, node, pages);
}

/* ---- promotion ---- */

void tier_init(struct quire *q)
{
	struct tiers *t = &q->reclaim->tier;

	a32_init(&t->hot, HOT_MAX / 2);
	a64_init(&t->rate, TIER_RATE_DEFAULT);
}

void tier_set_rate(struct quire *q, u64 bytes)
{
	a64_set(&q->reclaim->tier.rate, bytes);
}

u64 tier_rate(struct quire *q)
{
	return a64_read(&q->reclaim->tier.rate);
}

/*
 * A bucket that is kept as a time: `paid_until` is when all that has been promoted would have been
 * at the rate. It may lie behind by no more than the burst.
 */
static bool rate_allows(struct quire *q, u32 pages)
{
	struct tiers *t = &q->reclaim->tier;
	u64 rate = a64_read(&t->rate), now, paid, cost;

	if (rate == ~0ull || !rate)
		return rate;
	now = q->machine->ops->now_ns(q->machine);
	cost = ((u64)pages << PAGE_SHIFT) * 1000000000ull / rate;
	paid = a64_read(&t->paid_until);
	do {
		if (paid > now)
			return false;
	} while (!a64_cmpxchg(&t->paid_until, &paid,
			      max(paid, now > BURST_NS ? now - BURST_NS : 0) + cost));
	return true;
}

/* The fastest node that has room, or makes some. */
static int faster_node(struct quire *q, unsigned node, u32 pages)
{
	unsigned best = node;

	for (unsigned n = 0; n < phys_nr_nodes(q); n++) {
		if (phys_tier(q, n) >= phys_tier(q, node))
			continue;
		if (phys_room(q, n) >= pages)
			return (int)n;
		if (best == node || phys_tier(q, n) < phys_tier(q, best))
			best = n;
	}
	if (best == node || base_self()->reclaim_depth || !tier_demote(q, best, pages))
		return -1;
	return (int)best;
}

static struct folio *alloc_on(struct quire *q, struct folio *src, void *ctx)
{
	return migrate_target(q, src, *(unsigned *)ctx);
}

static int home_on(struct quire *q, struct folio *src, void *ctx)
{
	return (int)*(unsigned *)ctx;
}

static const struct migrate_ops promote_ops = { .alloc = alloc_on, .home_node = home_on };

/* Drops the caller's reference. */
static bool promote(struct quire *q, struct folio *f, unsigned to)
{
	struct migrate_counts counts = { 0 };
	unsigned from = folio_node(f);
	u32 phase = reclaim_step_begin(q);
	struct tiers *t = &q->reclaim->tier;
	struct list folios;

	list_init(&folios);
	if (!folio_test(f, PG_LRU))
		lru_drain(q);
	if (lru_isolate(q, f)) {
		/* It proved to be used. */
		a64_fetch_or(&f->flags, PGF(ACTIVE) | PGF(WORKINGSET));
		list_add_tail(&f->lru, &folios);
	}
	/* The isolation's is left: any other reference would keep the folio where it is. */
	folio_put(q, f);
	if (!list_empty(&folios))
		(void)!migrate_folios(q, &folios, &promote_ops, &to, MIGRATE_ASYNC,
				      MIGRATE_FOR_PROMOTION, &counts);
	lru_putback_list(q, &folios);
	reclaim_step_end(q, phase);
	stat_add(q, STAT_PROMOTED, counts.moved);
	a64_add(&t->node[from].promoted_out, counts.moved);
	a64_add(&t->node[to].promoted_in, counts.moved);
	return counts.moved;
}

/* A page that was next to go. */
static void used_on_fast(struct quire *q, struct folio *f)
{
	folio_clear(f, PG_IDLE);
	folio_set(f, PG_ACTIVE);
	if (lru_isolate(q, f))
		lru_putback(q, f);
}

/* The node on which the page is to be from now on; -1: where it is. */
static int place_of_used(struct quire *q, struct folio *f, unsigned stamp)
{
	struct tiers *t = &q->reclaim->tier;
	unsigned node = folio_node(f), age = (tier_stamp(q) - stamp) % STAMPS;
	u32 nr = folio_nr(f);

	stat_inc(q, STAT_HINT_FAULTS);
	a64_add(&t->node[node].hint_faults, 1);
	a64_add(&t->node[node].used, nr);
	if (!phys_tier(q, node)) {
		used_on_fast(q, f);
		return -1;
	}
	if (age > a32_read(&t->hot) || folio_maybe_pinned(f))
		return -1;
	if (!rate_allows(q, nr)) {
		stat_add(q, STAT_PROMOTE_LIMITED, nr);
		return -1;
	}
	return faster_node(q, node, nr);
}

bool tier_touched(struct quire *q, struct folio *f, unsigned stamp)
{
	int to = place_of_used(q, f, stamp);

	if (to >= 0)
		return promote(q, f, (unsigned)to);
	folio_put(q, f);
	return false;
}

void tier_stats(struct quire *q, unsigned node, struct tier_node_stats *out)
{
	struct tier_node *n = &q->reclaim->tier.node[node];

	*out = (struct tier_node_stats){
		.demoted_in = a64_read(&n->demoted_in),
		.demoted_out = a64_read(&n->demoted_out),
		.promoted_in = a64_read(&n->promoted_in),
		.promoted_out = a64_read(&n->promoted_out),
		.hint_faults = a64_read(&n->hint_faults),
		.hints = a64_read(&n->hints),
		.used = a64_read(&n->used),
	};
}
