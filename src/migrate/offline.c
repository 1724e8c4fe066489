/* offline.c - the passes over frames that go out of service. */
#include "migrate/offline.h"

#include "migrate/migrate_internal.h"

#define BATCH_PAGES 64u
#define IDLE_PASSES 8u     /* in a row: what is still there stays */
#define IDLE_NS     20000u /* waited for it, twice as long each time */

struct offlining {
	struct quire *q;
	unsigned node;
	u64 pfn, nr;
	a32_t *stop;
	u64 held; /* frames taken off the capacity */
	bool no_room;
	struct offline_result *res;
};

static bool told_to_stop(const struct offlining *o)
{
	return o->stop && a32_read(o->stop);
}

/* In the same node if it has room, else in any. The range itself hands nothing out. */
static struct folio *alloc_elsewhere(struct quire *q, struct folio *src, void *ctx)
{
	struct offlining *o = ctx;

	for (unsigned i = 0; i < phys_nr_nodes(q); i++) {
		struct folio *f = migrate_target(q, src, phys_fallback(q, o->node, i));

		if (f)
			return f;
	}
	/* A large one is split and tried again. */
	if (!src->order)
		o->no_room = true;
	return NULL;
}

static const struct migrate_ops offline_ops = { .alloc = alloc_elsewhere };

static void move_some(struct offlining *o, u64 *at, u64 end)
{
	u32 phase = migrate_step_begin(o->q);
	struct list folios;

	list_init(&folios);
	phys_isolate_folios(o->q, at, end, MAX_FOLIO_ORDER, BATCH_PAGES, movable_isolate, &folios,
			    &o->res->scan);
	/* What stays is met again by the next pass. */
	if (!list_empty(&folios))
		(void)!migrate_folios(o->q, &folios, &offline_ops, o, MIGRATE_SYNC,
				      MIGRATE_FOR_OFFLINE, &o->res->migrate);
	migrate_putback(o->q, &folios);
	migrate_step_end(o->q, phase);
}

static void pass(struct offlining *o)
{
	o->res->passes++;
	o->no_room = false;
	/* Pages just faulted in are in batches, and cannot be isolated. */
	lru_drain_all(o->q);
	for (u64 at = o->pfn; at < o->pfn + o->nr && !told_to_stop(o);) {
		u64 end = ALIGN_DOWN(at, (u64)PHYS_BLOCK_FRAMES) + PHYS_BLOCK_FRAMES;

		move_some(o, &at, end);
	}
	lru_drain_all(o->q);
}

/* Is nothing of it used any more? */
static bool all_captured(struct offlining *o)
{
	bool scanned = o->res->passes && !mech_on(o->q, MECH_OFFLINE_COUNTS);

	o->res->captured = phys_captured(o->q, o->node, o->pfn, o->nr);
	if (o->res->captured == o->nr)
		return true;
	/* As a scan would see it that finds no page. */
	for (u64 at = o->pfn; scanned && at < o->pfn + o->nr; at++) {
		struct folio *f = phys_folio(o->q, at);

		if (f && a32_read(&f->ref))
			return false;
	}
	return scanned;
}

/* Let those finish who free or fill a frame at this moment; perhaps they wait for a store. */
static void wait_a_little(struct offlining *o, u32 idle)
{
	struct machine *m = o->q->machine;

	if (idle < 3)
		base_yield();
	else
		m->ops->sleep_ns(m, (u64)IDLE_NS << idle);
}

/* Until all is captured. */
static int passes(struct offlining *o)
{
	u32 idle = 0;

	while (!all_captured(o)) {
		u64 before = o->res->captured;

		if (told_to_stop(o))
			return -EINTR;
		if (idle >= IDLE_PASSES && mech_on(o->q, MECH_OFFLINE_ENDS))
			return o->no_room ? -ENOMEM : -EBUSY;
		if (idle)
			wait_a_little(o, idle);
		pass(o);
		idle++;
		o->res->idle++;
		if (phys_captured(o->q, o->node, o->pfn, o->nr) > before) {
			idle = 0;
			o->res->idle--;
		}
	}
	o->held = phys_hold_capacity(o->q, o->node, o->nr);
	return o->held == o->nr ? 0 : -ENOMEM;
}

static bool valid_range(struct quire *q, u64 pfn, u64 nr, unsigned *node)
{
	int found = phys_node_of(q, pfn);
	struct range span;

	if (found < 0 || !nr || !IS_ALIGNED(pfn | nr, (u64)PHYS_BLOCK_FRAMES))
		return false;
	span = phys_span(q, (unsigned)found);
	*node = (unsigned)found;
	return nr <= span.end - pfn;
}

int node_offline_range(struct quire *q, u64 pfn, u64 nr, a32_t *stop, struct offline_result *result)
{
	struct offline_result unread;
	struct offlining o = { .q = q, .pfn = pfn, .nr = nr, .stop = stop };
	int err;

	o.res = result ? result : &unread;
	*o.res = (struct offline_result){ 0 };
	if (!valid_range(q, pfn, nr, &o.node))
		return -EINVAL;
	err = phys_leave(q, o.node, pfn, nr);
	if (err)
		return err;
	err = passes(&o);
	if (err)
		phys_stay(q, o.node, pfn, nr, o.held);
	else
		phys_offline(q, o.node, pfn, nr);
	qrcu_poll(q);
	return err;
}

int node_online_range(struct quire *q, u64 pfn, u64 nr)
{
	unsigned node;

	return valid_range(q, pfn, nr, &node) ? phys_online(q, node, pfn, nr) : -EINVAL;
}
