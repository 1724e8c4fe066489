/*
 * reclaim.c - how much, from where, and by whom: direct and background reclaim, list balance,
 * refault distance.
 *
 * Refault distance (after Linux's workingset): the clock counts evicted pages. A page that comes
 * back after d evictions would have stayed, had the lists been d pages longer; if d is no more than
 * a thirty-second of what is resident, it displaces something colder and starts on the active list.
 */
#include "base/arena.h"
#include "reclaim/reclaim_internal.h"

#define STEP_PAGES LRU_CLUSTER
#define STUCK_NS   2000000ull /* stores full or all pinned: give the CPU to the program */
#define BG_SAMPLE  256u

/*
 * Eviction works on clusters: an active page among cold neighbours breaks their span, and with it
 * the batching that makes eviction cheap. So only what comes back much sooner than chance would
 * bring it back counts as hot: under a uniform pattern with half of the pages resident one in
 * thirty-two. (With one in eight the active list filled up with chance, the spans of a cluster fell
 * to three pages, and two threads writing at random lost a third of their rate.)
 */
#define HOT_FRACTION 32

int reclaim_create(struct quire *q)
{
	q->reclaim = arena_zalloc(q->arena, sizeof(*q->reclaim));
	if (!q->reclaim)
		return -ENOMEM;
	tier_init(q);
	return 0;
}

void reclaim_destroy(struct quire *q)
{
	reclaim_stop_background(q);
	arena_free(q->arena, q->reclaim, sizeof(*q->reclaim));
	q->reclaim = NULL;
}

u32 reclaim_shadow(struct quire *q)
{
	return (u32)a64_read(&q->reclaim->evictions);
}

/* Pages of a node that can be evicted, as far as the lists know. */
static u64 on_lists(struct quire *q, unsigned node)
{
	return lru_size(q, node, LRU_INACTIVE) + lru_size(q, node, LRU_ACTIVE);
}

static u64 on_all_lists(struct quire *q)
{
	u64 n = 0;

	for (u32 i = 0; i < phys_nr_nodes(q); i++)
		n += on_lists(q, i);
	return n;
}

bool reclaim_refault_is_hot(struct quire *q, u32 shadow)
{
	u32 distance = reclaim_shadow(q) - shadow;
	bool hot = distance <= on_all_lists(q) / HOT_FRACTION;

	stat_inc(q, STAT_REFAULT);
	if (hot)
		stat_inc(q, STAT_REFAULT_ACTIVATE);
	TRACE(q, EV_REFAULT, shadow, distance, hot);
	return hot;
}

u32 reclaim_step_begin(struct quire *q)
{
	u32 phase = a32_read(&q->reclaim->phase) & 1;

	a32_fetch_add(&q->reclaim->steps[phase], 1);
	return phase;
}

void reclaim_step_end(struct quire *q, u32 phase)
{
	a32_fetch_add(&q->reclaim->steps[phase], (u32)-1);
}

/*
 * Twice, because a step may read the phase, be held up, and count itself in the old one after it
 * was found empty; that one is waited for in the second round. New steps count in the other phase,
 * so none is waited for that began after the call.
 */
void reclaim_wait(struct quire *q)
{
	struct reclaim *r = q->reclaim;

	for (u32 round = 0; round < 2; round++) {
		u32 phase = a32_fetch_add(&r->phase, 1) & 1;

		while (a32_read_acquire(&r->steps[phase]))
			base_yield();
	}
}

/* Keep at least a third of the pages on the inactive list: that is what refault distances are
 * measured against. */
static void balance(struct quire *q, unsigned node)
{
	u64 active = lru_size(q, node, LRU_ACTIVE), inactive = lru_size(q, node, LRU_INACTIVE);

	if (active > 2 * inactive)
		lru_deactivate_tail(q, node, STEP_PAGES * 2);
}

u32 reclaim_isolate(struct quire *q, unsigned node, struct list *folios)
{
	u32 n = 0;

	balance(q, node);
	/* What is in batches is younger than the lists, but older than what is active. */
	for (u32 round = 0; !n && round < 3; round++) {
		if (round == 1)
			lru_drain_all(q);
		else if (round == 2)
			lru_deactivate_tail(q, node, STEP_PAGES * 4);
		n = lru_isolate_clusters(q, node, LRU_INACTIVE, STEP_PAGES, folios);
	}
	return n;
}

/* One step on one node. *looked: pages isolated. */
static u32 step(struct quire *q, unsigned node, u32 *looked)
{
	struct list folios;
	u32 phase = reclaim_step_begin(q), freed;

	list_init(&folios);
	*looked = reclaim_isolate(q, node, &folios);
	freed = evict_folios(q, &folios);
	reclaim_step_end(q, phase);
	return freed;
}

u64 reclaim_node(struct quire *q, unsigned node, u32 nr)
{
	u64 freed = 0;
	u32 looked = 1, scanned = 0;

	while (freed < nr && scanned < 4 * nr && looked) {
		freed += step(q, node, &looked);
		scanned += looked;
	}
	return freed;
}

/* The slowest node that has pages to give: the faster ones get room by demotion. */
static unsigned pick_slowest(struct quire *q)
{
	unsigned node = 0;

	for (unsigned i = 1; i < phys_nr_nodes(q); i++)
		if (on_lists(q, i) && (!on_lists(q, node) || phys_tier(q, i) > phys_tier(q, node)))
			node = i;
	return node;
}

/* The node of the next step: each as often as it has pages, taken from the clock because steps come
 * one by one from many callers. */
static unsigned pick_node(struct quire *q)
{
	u64 all = on_all_lists(q), at, n;
	unsigned node = 0;

	if (phys_nr_nodes(q) == 1 || !all)
		return 0;
	if (phys_tiered(q))
		return pick_slowest(q);
	at = (a64_read(&q->reclaim->evictions) * 0x9e3779b97f4a7c15ull >> 20) % all;
	while ((n = on_lists(q, node)) <= at && node + 1 < phys_nr_nodes(q)) {
		at -= n;
		node++;
	}
	return node;
}

/* One step where there is something to look at, `past` nodes before the one whose turn it is (of
 * tiers: faster ones). *looked == 0: nowhere. */
static u32 step_somewhere(struct quire *q, u32 past, u32 *looked)
{
	unsigned nr = phys_nr_nodes(q), first = pick_node(q) + nr - past % nr;
	u32 freed = 0;

	*looked = 0;
	for (unsigned i = 0; i < nr; i++) {
		freed = step(q, (first + nr - i) % nr, looked);
		if (*looked)
			break;
	}
	return freed;
}

u64 reclaim_pages(struct quire *q, unsigned cg, u64 nr)
{
	u64 freed = 0, scanned = 0, idle = 0, round, budget;
	u32 looked, got;

	(void)cg; /* one limited group so far: the root; every page counts towards it */
	/* Pages just faulted in wait in per-CPU batches; they count, and with little memory they
	 * are all there is. */
	lru_drain_all(q);
	round = on_all_lists(q) + 2 * STEP_PAGES;
	budget = max(phys_nr_nodes(q), 2u) * round;
	while (freed < nr && scanned < budget) {
		/* A node whose pages all stay keeps nobody from the others'. */
		got = step_somewhere(q, (u32)(idle / round), &looked);
		if (!looked)
			break;
		freed += got;
		scanned += looked;
		idle = got ? 0 : idle + looked;
	}
	TRACE(q, EV_RECLAIM, nr, scanned, freed);
	return freed;
}

u64 reclaim_folio_list(struct quire *q, struct list *folios)
{
	u32 phase = reclaim_step_begin(q), freed = evict_folios(q, folios);

	reclaim_step_end(q, phase);
	return freed;
}

/* ---- called by faults ---- */

u64 reclaim_make_room(struct quire *q, unsigned cg, u32 pages)
{
	struct reclaim *r = q->reclaim;
	struct machine *m = q->machine;
	u64 freed, now;

	if (a64_read(&r->stuck_until)) {
		now = m->ops->now_ns(m);
		if (now < a64_read(&r->stuck_until))
			return 0;
	}
	stat_inc(q, STAT_RECLAIM_DIRECT);
	freed = reclaim_pages(q, cg, pages);
	a64_set(&r->stuck_until, freed ? 0 : m->ops->now_ns(m) + STUCK_NS);
	return freed;
}

/* Several threads faulting on a small machine leave no CPU for a helper: it would only take turns
 * with them. */
static bool helper_wanted(struct quire *q)
{
	struct reclaim *r = q->reclaim;
	u32 id = base_self()->id;

	if (a32_read(&r->last_thread) == id) {
		a32_add(&r->same, 1);
	} else {
		a32_set(&r->last_thread, id);
		a32_add(&r->other, 1);
	}
	if (a32_read(&r->same) + a32_read(&r->other) >= BG_SAMPLE) {
		a32_set(&r->one_thread, a32_read(&r->other) * 16 < a32_read(&r->same));
		a32_set(&r->same, 0);
		a32_set(&r->other, 0);
	}
	return a32_read(&r->one_thread);
}

/* Pages kept free below the limit: enough for the next faults, never more than a sixteenth. */
static u64 headroom(struct quire *q, unsigned cg)
{
	return min(cgroup_limit(q, cg) / 16, (u64)1024);
}

void reclaim_wake(struct quire *q, unsigned cg)
{
	struct reclaim *r = q->reclaim;
	u32 asleep = 0;

	if (!a32_read(&r->bg_running))
		return;
	if (cgroup_limit(q, cg) == ~0ull ||
	    cgroup_usage(q, cg) + headroom(q, cg) / 2 < cgroup_limit(q, cg))
		return;
	if (!helper_wanted(q))
		return;
	if (a32_read(&r->bg_word) == 0 && a32_cmpxchg(&r->bg_word, &asleep, 1))
		base_wake(&r->bg_word.raw, 1);
}

/* ---- the thread ---- */

static bool below_headroom(struct quire *q)
{
	u64 limit = cgroup_limit(q, CGROUP_ROOT);

	return limit == ~0ull || cgroup_usage(q, CGROUP_ROOT) + headroom(q, CGROUP_ROOT) <= limit;
}

static void background(void *arg)
{
	struct quire *q = arg;
	struct reclaim *r = q->reclaim;

	for (;;) {
		u32 told = 1;

		while (a32_read(&r->bg_word) == 0)
			base_park(&r->bg_word.raw, 0);
		if (a32_read_acquire(&r->bg_word) == 2)
			return;
		gate_enter(&q->gate);
		while (!below_headroom(q) && a32_read(&r->one_thread))
			if (!reclaim_pages(q, CGROUP_ROOT, STEP_PAGES))
				break;
		gate_exit(&q->gate);
		a32_cmpxchg(&r->bg_word, &told, 0);
	}
}

int reclaim_start_background(struct quire *q)
{
	struct reclaim *r = q->reclaim;
	int err;

	if (q->machine->ops->nr_cpus(q->machine) < 2)
		return 0;
	a32_set(&r->bg_word, 0);
	err = q->machine->ops->thread_start(q->machine, background, q, &r->thread);
	if (!err)
		a32_set_release(&r->bg_running, 1);
	return err;
}

void reclaim_stop_background(struct quire *q)
{
	struct reclaim *r = q->reclaim;

	if (!a32_xchg(&r->bg_running, 0))
		return;
	a32_xchg(&r->bg_word, 2);
	base_wake(&r->bg_word.raw, 1);
	q->machine->ops->thread_join(q->machine, r->thread);
	r->thread = NULL;
}

void reclaim_forked_child(struct quire *q)
{
	struct reclaim *r = q->reclaim;
	bool had = a32_xchg(&r->bg_running, 0);

	r->thread = NULL;
	a32_set(&r->bg_word, 0);
	a64_set(&r->stuck_until, 0);
	/* A child that cannot have the helper reclaims directly. */
	if (had && reclaim_start_background(q))
		a32_set(&r->bg_running, 0);
}
