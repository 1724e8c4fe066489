/* compact.c - the two scanners, the destinations between them, and when faults may compact. */
#include "migrate/migrate_internal.h"

#define DEFER_SHIFT_MAX 6u

#define BATCH_PAGES  32u   /* isolated at a time */
#define LARGE_BLOCKS 4u    /* searched for one piece of a large folio's size */
#define FAULT_BUDGET 8192u /* frames that a fault looks at */

struct compaction {
	struct quire *q;
	unsigned node;
	unsigned order; /* wanted, or COMPACT_WHOLE */
	enum migrate_mode mode;
	u64 budget;        /* frames to look at; 0: no end */
	struct range all;  /* what the scanners share */
	u64 low;           /* where the migration scanner goes on */
	u64 high, high_at; /* the free scanner's block, and where it goes on in it */
	unsigned max_source;
	bool met, no_capacity;
	struct phys_pieces pieces;
	struct list ready[MAX_FOLIO_ORDER + 1]; /* destinations set aside */
	u32 nr_ready[MAX_FOLIO_ORDER + 1];
	u64 made;
	struct compact_result *res;
};

/* ---- the free scanner ---- */

static unsigned piece_order_max(const struct compaction *c)
{
	/* Larger ones are what is wanted, and whole blocks would only change places. */
	return min(c->order, (unsigned)MAX_FOLIO_ORDER) - 1;
}

/* A little further. False: it has met the migration scanner, which has isolated what lies just
 * before `low`. */
static bool free_scanner_step(struct compaction *c)
{
	u64 end = c->high + PHYS_BLOCK_FRAMES;
	u64 sources = ALIGN_DOWN(c->low - 1, (u64)PHYS_BLOCK_FRAMES);

	if (c->high <= sources)
		return false;
	if (c->high_at < end && phys_block_is_buddy(c->q, c->high)) {
		c->res->free_taken += phys_pieces_take(c->q, c->node, &c->high_at, end,
						       piece_order_max(c), BATCH_PAGES, &c->pieces);
		return true;
	}
	c->high -= PHYS_BLOCK_FRAMES;
	c->high_at = c->high;
	return c->high > sources;
}

static bool have_piece(const struct compaction *c, unsigned order)
{
	for (unsigned o = order; o <= MAX_FOLIO_ORDER; o++)
		if (!list_empty(&c->pieces.list[o]))
			return true;
	return false;
}

/* ---- destinations ---- */

static void set_ready(struct compaction *c, struct folio *f)
{
	list_add(&f->lru, &c->ready[f->order]);
	c->nr_ready[f->order]++;
}

static struct folio *take_ready(struct compaction *c, unsigned order)
{
	struct folio *f;

	if (!c->nr_ready[order])
		return NULL;
	f = list_first(&c->ready[order], struct folio, lru);
	list_del_init(&f->lru);
	c->nr_ready[order]--;
	return f;
}

/* One more, of pieces that are had already. */
static bool make_ready(struct compaction *c, unsigned order)
{
	struct folio *f;

	if (!have_piece(c, order))
		return false;
	f = phys_pieces_folio(c->q, c->node, &c->pieces, order);
	if (!f) {
		c->no_capacity = true;
		return false;
	}
	c->made++;
	set_ready(c, f);
	return true;
}

static bool search_ready(struct compaction *c, unsigned order)
{
	u64 from = c->high;

	while (!have_piece(c, order)) {
		/* Small pieces would be taken from all over the node for one large folio. */
		if (order && from - c->high > LARGE_BLOCKS * PHYS_BLOCK_FRAMES) {
			c->max_source = order - 1;
			return false;
		}
		if (!free_scanner_step(c)) {
			if (order)
				c->max_source = order - 1;
			else
				c->met = true;
			return false;
		}
	}
	return make_ready(c, order);
}

static struct folio *compact_alloc(struct quire *q, struct folio *src, void *ctx)
{
	struct compaction *c = ctx;
	struct folio *f;

	(void)q;
	if (!c->nr_ready[src->order])
		(void)!make_ready(c, src->order);
	f = take_ready(c, src->order);
	c->res->got += f != NULL;
	return f;
}

static void compact_free(struct quire *q, struct folio *dst, void *ctx)
{
	struct compaction *c = ctx;

	c->res->put_back++;
	if (mech_on(q, MECH_COMPACT_ONCE))
		set_ready(c, dst);
}

static const struct migrate_ops compact_ops = { .alloc = compact_alloc, .free = compact_free };

/* A destination for each of the sources; those that have none go to `stay`. */
static void set_aside(struct compaction *c, struct list *sources, struct list *stay)
{
	u32 asked[MAX_FOLIO_ORDER + 1] = { 0 };

	list_for_each_safe(at, tmp, sources) {
		struct folio *f = list_entry(at, struct folio, lru);

		if (asked[f->order] < c->nr_ready[f->order] || search_ready(c, f->order)) {
			asked[f->order]++;
			continue;
		}
		c->res->no_destination += folio_nr(f);
		list_move_tail(&f->lru, stay);
	}
}

/* ---- the migration scanner ---- */

/* What can move of [low, end), a batch of it. */
static void move_some(struct compaction *c, u64 end)
{
	u32 phase = migrate_step_begin(c->q);
	struct list sources, stay;

	list_init(&sources);
	list_init(&stay);
	phys_isolate_folios(c->q, &c->low, end, c->max_source, BATCH_PAGES, movable_isolate,
			    &sources, &c->res->scan);
	set_aside(c, &sources, &stay);
	/* What stays is on the list, and counted. */
	if (!list_empty(&sources))
		(void)!migrate_folios(c->q, &sources, &compact_ops, c, c->mode,
				      MIGRATE_FOR_COMPACTION, &c->res->migrate);
	migrate_putback(c->q, &sources);
	migrate_putback(c->q, &stay);
	migrate_step_end(c->q, phase);
}

static bool go_on(struct compaction *c)
{
	if (c->met || c->low >= c->high)
		c->res->end = COMPACT_MET;
	else if (c->no_capacity)
		c->res->end = COMPACT_NO_CAPACITY;
	else if (c->budget && c->res->scan.scanned >= c->budget)
		c->res->end = COMPACT_BUDGET;
	else
		return true;
	return false;
}

/* Only with frames merged is there anything to see. */
static bool succeeded(struct compaction *c)
{
	phys_drain_cpus(c->q, c->node);
	if (c->order > MAX_FOLIO_ORDER || !phys_has_piece(c->q, c->node, c->order))
		return false;
	c->res->end = COMPACT_SUCCESS;
	return true;
}

/* One stretch that may become a free piece: if something in it stays, nothing need move. */
static void compact_stretch(struct compaction *c)
{
	u32 nr = 1u << min(c->order, (unsigned)MAX_FOLIO_ORDER);
	u64 end = ALIGN_DOWN(c->low, (u64)nr) + nr;

	if (!phys_block_is_buddy(c->q, ALIGN_DOWN(c->low, (u64)PHYS_BLOCK_FRAMES)) ||
	    (c->order <= MAX_FOLIO_ORDER && !phys_all_movable(c->q, c->low, (u32)(end - c->low)))) {
		c->res->scan.scanned += end - c->low;
		c->low = end;
		return;
	}
	while (c->low < end && go_on(c))
		move_some(c, end);
}

static void give_back(struct compaction *c)
{
	c->res->used = c->made;
	c->res->free_returned += c->pieces.frames;
	phys_pieces_put(c->q, c->node, &c->pieces);
	/* Something may have been copied into them: the usual way. */
	for (unsigned o = 0; o <= MAX_FOLIO_ORDER; o++) {
		struct folio *f;

		while ((f = take_ready(c, o)) != NULL) {
			c->res->used--;
			c->res->free_returned += folio_nr(f);
			folio_put(c->q, f);
		}
	}
	phys_drain_cpus(c->q, c->node);
}

static void run(struct compaction *c)
{
	struct compact_result *res = c->res;
	u64 moved = 0;

	phys_pieces_init(&c->pieces);
	for (unsigned o = 0; o <= MAX_FOLIO_ORDER; o++) {
		list_init(&c->ready[o]);
		c->nr_ready[o] = 0;
	}
	c->max_source = min(c->order, (unsigned)MAX_FOLIO_ORDER) - 1;
	lru_drain_all(c->q);
	phys_drain_cpus(c->q, c->node);
	res->blocks_before = phys_nr_pieces(c->q, c->node, MAX_FOLIO_ORDER);
	stat_inc(c->q, STAT_COMPACT);
	while (!(moved != res->migrate.moved && succeeded(c)) && go_on(c)) {
		moved = res->migrate.moved;
		compact_stretch(c);
	}
	give_back(c);
	if (res->end != COMPACT_SUCCESS && succeeded(c))
		res->end = COMPACT_SUCCESS;
	res->blocks_after = phys_nr_pieces(c->q, c->node, MAX_FOLIO_ORDER);
	stat_add(c->q, STAT_COMPACT_SUCCESS, res->end == COMPACT_SUCCESS);
}

/* Both scanners at their ends. False: there is nothing between them. */
static bool start(struct compaction *c)
{
	c->all = phys_grown(c->q, c->node);
	c->low = c->all.start;
	if (c->all.end - c->all.start < PHYS_BLOCK_FRAMES)
		return false;
	c->high = c->high_at = c->all.end - PHYS_BLOCK_FRAMES;
	return true;
}

int compact_node(struct quire *q, unsigned node, unsigned order, struct compact_result *result)
{
	struct compaction c = {
		.q = q, .node = node, .order = order, .mode = MIGRATE_SYNC, .res = result
	};

	if (node >= phys_nr_nodes(q) || !order || order > COMPACT_WHOLE ||
	    !range_size(phys_span(q, node)))
		return -EINVAL;
	*result = (struct compact_result){ .end = COMPACT_MET };
	if (start(&c))
		run(&c);
	qrcu_poll(q);
	if (result->end == COMPACT_SUCCESS)
		return 0;
	return order == COMPACT_WHOLE && result->end == COMPACT_MET ? 0 : -ENOMEM;
}

/* ---- for faults ---- */

static bool deferred(struct compact_node *s, unsigned order)
{
	u32 failed = a32_read(&s->failed), limit = 1u << a32_read(&s->shift);

	if (!failed || order < failed)
		return false;
	return a32_fetch_add(&s->considered, 1) + 1 < limit;
}

static void defer(struct compact_node *s, unsigned order)
{
	u32 failed = a32_read(&s->failed);

	a32_set(&s->considered, 0);
	a32_set(&s->shift, min(a32_read(&s->shift) + 1, DEFER_SHIFT_MAX));
	if (!failed || order < failed)
		a32_set(&s->failed, order);
}

static void defer_reset(struct compact_node *s)
{
	a32_set(&s->considered, 0);
	a32_set(&s->shift, 0);
	a32_set(&s->failed, 0);
}

/* Room for what is wanted and for as much on its way, and all of it in pieces that are too small.
 */
static bool suitable(struct quire *q, unsigned node, unsigned order)
{
	u64 need = 2ull << order, free = 0;

	if (phys_can_grow(q, node) || phys_capacity(q, node) - phys_used(q, node) < need)
		return false;
	for (unsigned o = 0; o < order; o++)
		free += phys_nr_pieces(q, node, o) << o;
	return free >= need;
}

/* Where the last fault has stopped, unless that makes no sense any more. */
static void resume(struct compaction *c, const struct compact_node *s)
{
	u64 low = a64_read(&s->low), high = a64_read(&s->high);

	if (low < c->low || high > c->high || low >= high)
		return;
	c->low = low;
	c->high = c->high_at = high;
}

bool compact_for_fault(struct quire *q, unsigned node, unsigned order)
{
	struct compact_node *s = &q->migrate->node[node];
	struct compact_result res = { .end = COMPACT_MET };
	struct compaction c = { .q = q,
				.node = node,
				.order = order,
				.mode = MIGRATE_ASYNC,
				.budget = FAULT_BUDGET,
				.res = &res };
	bool met;

	if (!suitable(q, node, order))
		return false;
	if (deferred(s, order)) {
		stat_inc(q, STAT_COMPACT_DEFERRED);
		return false;
	}
	/* One fault at a time: the others would only take away what it has made. */
	if (a32_xchg(&s->busy, 1))
		return false;
	if (start(&c)) {
		resume(&c, s);
		run(&c);
	}
	met = res.end == COMPACT_MET;
	a64_set(&s->low, met ? 0 : c.low);
	a64_set(&s->high, met ? 0 : c.high);
	if (res.end == COMPACT_SUCCESS)
		defer_reset(s);
	else
		defer(s, order);
	a32_set_release(&s->busy, 0);
	return res.end == COMPACT_SUCCESS;
}
