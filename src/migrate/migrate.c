/* migrate.c - batches, passes and retries: the loop around the move of one folio. */
#include "migrate/migrate_internal.h"

#define BATCH_PASSES  3u
#define SINGLE_PASSES 7u

struct migration {
	struct quire *q;
	const struct migrate_ops *ops;
	void *ctx;
	struct migrate_counts *counts;
	enum migrate_reason reason;
	enum migrate_mode mode;
	bool wait; /* for locks and write-back: one folio at a time */
	struct list *from;
	struct list again;  /* may succeed in another pass */
	struct list failed; /* will not */
	u64 nr_failed;      /* pages on it */
	struct move move[MIGRATE_BATCH];
	u32 n;
	struct tlb_batch batch;
};

static const struct {
	enum stat moved, failed;
} count_of[NR_MIGRATE_REASONS] = {
	[MIGRATE_FOR_CALL] = { STAT_MIGRATED_CALL, STAT_MIGRATE_FAILED_CALL },
	[MIGRATE_FOR_DEMOTION] = { STAT_MIGRATED_DEMOTION, STAT_MIGRATE_FAILED_DEMOTION },
	[MIGRATE_FOR_PROMOTION] = { STAT_MIGRATED_PROMOTION, STAT_MIGRATE_FAILED_PROMOTION },
	[MIGRATE_FOR_COMPACTION] = { STAT_MIGRATED_COMPACTION, STAT_MIGRATE_FAILED_COMPACTION },
	[MIGRATE_FOR_OFFLINE] = { STAT_MIGRATED_OFFLINE, STAT_MIGRATE_FAILED_OFFLINE },
	[MIGRATE_FOR_BALLOON] = { STAT_MIGRATED_BALLOON, STAT_MIGRATE_FAILED_BALLOON },
	[MIGRATE_FOR_PLACE] = { STAT_MIGRATED_PLACE, STAT_MIGRATE_FAILED_PLACE },
};

void migrate_count_moved(struct quire *q, enum migrate_reason reason, u64 pages)
{
	stat_add(q, STAT_MIGRATED, pages);
	stat_add(q, count_of[reason].moved, pages);
}

void migrate_count_failed(struct quire *q, enum migrate_reason reason, u64 pages)
{
	stat_add(q, STAT_MIGRATE_FAILED, pages);
	stat_add(q, count_of[reason].failed, pages);
}

/* Why a folio stays. */
enum cause { HOME, NO_MEMORY, IN_USE, REFUSED };

static void give_up(struct migration *g, struct folio *f, enum cause why)
{
	static const enum stat count[] = { STAT_MIGRATE_HOME, STAT_MIGRATE_NO_MEMORY,
					   STAT_MIGRATE_IN_USE, STAT_MIGRATE_REFUSED };
	struct migrate_counts *c = g->counts;
	u64 *cause[] = { &c->home, &c->no_memory, &c->in_use, &c->refused };

	*cause[why] += folio_nr(f);
	c->failed += folio_nr(f);
	g->nr_failed += folio_nr(f);
	migrate_count_failed(g->q, g->reason, folio_nr(f));
	stat_add(g->q, count[why], folio_nr(f));
	list_add_tail(&f->lru, &g->failed);
}

static void put_dst(struct migration *g, struct folio *dst)
{
	if (g->ops->free)
		g->ops->free(g->q, dst, g->ctx);
	else
		folio_put(g->q, dst);
}

/* Who holds one folio's lock waits for no other's: somebody may have that one and wait for this. */
static bool lock_src(struct migration *g, struct folio *f)
{
	if (folio_trylock(f))
		return true;
	if (!g->wait)
		return false;
	folio_lock(f);
	return true;
}

static bool is_home(struct migration *g, const struct folio *f)
{
	return frame_is_home(g->q->machine, folio_pfn(g->q, f));
}

/* Locked: may it be moved at all, now? 0; -EAGAIN; -EXDEV: it is a home frame; -EBUSY: its object
 * keeps it; -ENOENT: it is no page of anybody any more. */
static int judge(struct migration *g, struct folio *f)
{
	int err;

	if (is_home(g, f) && !(g->ops->home_node && machine_has(g->q->machine, CAP_PARK)))
		return -EXDEV;
	if (folio_test(f, PG_WRITEBACK)) {
		if (!g->wait)
			return -EAGAIN;
		folio_wait_writeback(f);
	}
	if (!folio_object(f) && !folio_test(f, PG_SWAPCACHE) && !folio_mapped(f))
		return -ENOENT;
	err = object_may_move(f);
	if (err != -EAGAIN || g->wait)
		return err == -EAGAIN ? 0 : err;
	/* Writing it is waiting for it. */
	return g->mode == MIGRATE_SYNC ? -EAGAIN : -EBUSY;
}

/* There is no room for all of it at once: page by page. LOCKING: the folio is locked; no more if it
 * was split. */
static bool split_src(struct migration *g, struct folio *f)
{
	u32 nr = folio_nr(f);
	struct list pages;

	list_init(&pages);
	if (!f->order || folio_test(f, PG_SWAPCACHE) || rmap_split_folio(g->q, f, &pages))
		return false;
	g->counts->split += nr;
	stat_add(g->q, STAT_MIGRATE_SPLIT, nr);
	list_splice_init(&pages, g->from);
	return true;
}

/* Where the folio is to go: 0, -ENOMEM, or -EXDEV: nowhere. */
static int find_place(struct migration *g, struct move *m, struct folio *f)
{
	int node;

	m->dst = NULL;
	if (!is_home(g, f)) {
		m->dst = g->ops->alloc ? g->ops->alloc(g->q, f, g->ctx) : NULL;
		if (m->dst && !folio_trylock(m->dst))
			BUG("a new folio is locked");
		return m->dst ? 0 : -ENOMEM;
	}
	node = g->ops->home_node(g->q, f, g->ctx);
	if (node < 0 || (unsigned)node == folio_node(f))
		return -EXDEV;
	m->node = (unsigned)node;
	return phys_take_room(g->q, m->node, folio_nr(f)) ? 0 : -ENOMEM;
}

/* Step 1, of a folio that is on no list now: into the batch, or onto some list. */
static void take(struct migration *g, struct folio *f)
{
	struct move *m = &g->move[g->n];
	int err;

	if (!lock_src(g, f)) {
		list_add_tail(&f->lru, &g->again);
		return;
	}
	g->counts->tries++;
	err = judge(g, f);
	if (err) {
		folio_unlock(f);
		if (err == -ENOENT)
			folio_put(g->q, f); /* the isolation's; perhaps the last */
		else if (err == -EXDEV)
			give_up(g, f, HOME);
		else if (err == -EBUSY)
			give_up(g, f, REFUSED);
		else
			list_add_tail(&f->lru, &g->again);
		return;
	}
	err = find_place(g, m, f);
	if (err) {
		if (err == -ENOMEM && split_src(g, f))
			return;
		folio_unlock(f);
		give_up(g, f, err == -ENOMEM ? NO_MEMORY : HOME);
		return;
	}
	m->src = f;
	m->partial = folio_test(f, PG_PARTIAL);
	m->av = rmap_hold(g->q, f);
	if (folio_is_anon(f))
		m->mapped = m->av != NULL;
	else
		m->mapped = folio_mapped(f) || !mech_on(g->q, MECH_MIGRATE_UNMAPPED);
	g->n++;
}

/* Steps 2 and 3. done[i]: nothing maps the i'th any more. */
static void unmap(struct migration *g, bool *done)
{
	struct folio *mapped[MIGRATE_BATCH];
	u32 n = 0, k = 0;
	bool ok[MIGRATE_BATCH];

	for (u32 i = 0; i < g->n; i++)
		if (g->move[i].mapped)
			mapped[n++] = g->move[i].src;
	tlb_batch_init(&g->batch);
	if (n)
		rmap_unmap_folios(g->q, mapped, n, UNMAP_MIGRATE, &g->batch, ok);
	if (mech_on(g->q, MECH_MIGRATE_FLUSH))
		tlb_batch_flush(&g->batch);
	for (u32 i = 0; i < g->n; i++)
		done[i] = g->move[i].mapped ? ok[k++] : !folio_mapped(g->move[i].src);
}

/* Step 4. */
static void copy(struct migration *g, const bool *unmapped)
{
	struct migrate_copy bytes[MIGRATE_BATCH];
	struct move *of[MIGRATE_BATCH];
	u32 n = 0;

	for (u32 i = 0; i < g->n; i++) {
		struct move *m = &g->move[i];

		m->err = unmapped[i] ? move_ready(g->q, m, 0) : -EAGAIN;
		if (m->err || !m->dst)
			continue;
		bytes[n] = move_bytes(g->q, m);
		of[n++] = m;
	}
	move_home(g->q, g->move, g->n);
	if (!n)
		return;
	if (g->ops->copy)
		g->ops->copy(g->q, bytes, n, g->ctx);
	else
		copier_copy(g->q, bytes, n);
	for (u32 i = 0; i < n; i++)
		of[i]->err = bytes[i].err;
}

/* Step 7, and where the folio goes from here. */
static void finish(struct migration *g, struct move *m)
{
	int err = m->err;
	struct folio *f = err || !m->dst ? m->src : m->dst;

	if (m->av)
		rmap_release(g->q, m->av);
	/* Its entries went while it moved: nobody else drops what only the cache keeps. Not later:
	 * others of the batch are still locked, so no lock can be waited for. */
	rmap_drop_unused_copy_locked(g->q, f);
	if (m->dst)
		folio_unlock(m->dst);
	else if (err)
		phys_give_room(g->q, m->node, folio_nr(f));
	folio_unlock(m->src);
	if (err) {
		if (m->dst)
			put_dst(g, m->dst);
		if (err == -EBUSY)
			give_up(g, m->src, REFUSED);
		else
			list_add_tail(&m->src->lru, &g->again);
		return;
	}
	g->counts->moved += folio_nr(f);
	migrate_count_moved(g->q, g->reason, folio_nr(f));
	if (!m->dst) {
		lru_putback(g->q, f);
		return;
	}
	lru_add(g->q, f);
	folio_put(g->q, f);
	folio_put(g->q, m->src);
}

static void run_batch(struct migration *g, u32 max)
{
	bool unmapped[MIGRATE_BATCH];

	g->n = 0;
	while (!list_empty(g->from) && g->n < max) {
		struct folio *f = list_first(g->from, struct folio, lru);

		list_del(&f->lru);
		take(g, f);
	}
	if (!g->n)
		return;
	unmap(g, unmapped);
	copy(g, unmapped);
	for (u32 i = 0; i < g->n; i++) {
		struct move *m = &g->move[i];

		if (!m->err && m->dst)
			m->err = move_take_place(g->q, m, 0, g->mode);
	}
	move_map(g->q, g->move, g->n, g->ops->hint);
	for (u32 i = 0; i < g->n; i++)
		finish(g, &g->move[i]);
	/* Nothing is pending, unless the switch is off. */
	tlb_batch_flush(&g->batch);
}

/* Once over all that is left. What has failed for now is on `from` again. */
static void pass(struct migration *g, u32 batch)
{
	list_init(&g->again);
	while (!list_empty(g->from))
		run_batch(g, batch);
	list_splice_init(&g->again, g->from);
}

u64 migrate_folios(struct quire *q, struct list *from, const struct migrate_ops *ops, void *ctx,
		   enum migrate_mode mode, enum migrate_reason reason,
		   struct migrate_counts *counts)
{
	struct migration g = {
		.q = q,
		.ops = ops,
		.ctx = ctx,
		.counts = counts,
		.reason = reason,
		.mode = mode,
		.from = from,
	};
	u32 passes = mode == MIGRATE_SYNC ? BATCH_PASSES : 1;

	list_init(&g.failed);
	for (u32 i = 0; i < passes && !list_empty(from); i++)
		pass(&g, MIGRATE_BATCH);
	g.wait = true;
	for (u32 i = 0; mode == MIGRATE_SYNC && i < SINGLE_PASSES && !list_empty(from); i++)
		pass(&g, 1);
	while (!list_empty(from)) {
		struct folio *f = list_first(from, struct folio, lru);

		list_del(&f->lru);
		give_up(&g, f, IN_USE);
	}
	list_splice_init(&g.failed, from);
	return g.nr_failed;
}
