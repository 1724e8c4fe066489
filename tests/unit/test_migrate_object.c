/* Migration of objects' pages: what it costs, what it counts, what the object has to say. */
#include "migrate/migrate.h"
#include "object_env.h"

#define PAGES 8u

struct mover {
	struct env e;
	struct medium *d;
	struct object *o;
	u32 got, back, fail_alloc;
};

static struct folio *mover_alloc(struct quire *q, struct folio *src, void *ctx)
{
	struct mover *m = ctx;
	struct folio *f;

	if (m->fail_alloc) {
		m->fail_alloc--;
		return NULL;
	}
	f = phys_alloc(q, !folio_node(src), src->order);
	m->got += f != NULL;
	return f;
}

static void mover_free(struct quire *q, struct folio *dst, void *ctx)
{
	struct mover *m = ctx;

	assert_int_equal(a64_read(&dst->flags) & (BIT(FOLIO_STATE_SHIFT) - 1),
			 dst->order ? PGF(HEAD) : 0);
	assert_null(aptr_read(&dst->mapping));
	assert_int_equal(dst->index, 0);
	assert_int_equal(dst->charge, 0);
	m->back++;
	folio_put(q, dst);
}

static const struct migrate_ops mover_ops = { .alloc = mover_alloc, .free = mover_free };

static void open_with(struct mover *m, u32 kind, const struct object_ops *ops)
{
	struct object_config oc = { .size = PG(PAGES) };

	memset(m, 0, sizeof(*m));
	env_open_nodes(&m->e, kind, 0, NULL, 2);
	m->d = medium_new();
	m->d->size = oc.size;
	assert_int_equal(object_create(m->e.q, ops, m->d, &oc, &m->o), 0);
}

static void close_all(struct mover *m)
{
	object_put(m->o);
	medium_free(m->d);
	env_close(&m->e);
}

static struct folio *cached(struct mover *m, u64 index)
{
	struct folio *f = object_lookup(m->o, index);

	if (f)
		folio_put(m->e.q, f);
	return f;
}

/* Pages [0, n) are moved to the other node. */
static u64 move(struct mover *m, u32 n, enum migrate_mode mode, enum migrate_reason reason,
		struct migrate_counts *c)
{
	struct list folios;
	u64 left;

	list_init(&folios);
	lru_drain_all(m->e.q);
	for (u32 i = 0; i < n; i++) {
		struct folio *f = cached(m, i);

		if (f && lru_isolate(m->e.q, f))
			list_add_tail(&f->lru, &folios);
	}
	left = migrate_folios(m->e.q, &folios, &mover_ops, m, mode, reason, c);
	lru_putback_list(m->e.q, &folios);
	return left;
}

static void fill(struct mover *m, u64 value)
{
	for (u64 i = 0; i < PAGES; i++) {
		u64 v = value + i;

		assert_int_equal(object_write(m->o, PG(i), &v, sizeof(v)), sizeof(v));
	}
}

static void expect(struct mover *m, u64 value)
{
	for (u64 i = 0; i < PAGES; i++) {
		u64 v = 0;

		assert_int_equal(object_read(m->o, PG(i), &v, sizeof(v), NULL), sizeof(v));
		assert_int_equal(v, value + i);
	}
}

/* ---- counts ---- */

/* A page that nothing maps costs no walk; a mapped one two. */
static void walks(void **st)
{
	struct migrate_counts c = { 0 };
	struct mover m;
	u64 va, before;

	(void)st;
	open_with(&m, 2, &medium_ops);
	fill(&m, 100);
	assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_COMPACTION, &c), 0);
	assert_int_equal(c.moved, PAGES);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATE_WALKS), 0);
	/* Of an area that does not map it either. */
	assert_int_equal(
		space_map_object(m.e.q, m.e.s, 0, PG(PAGES), RW, MAP_F_SHARED, m.o, 0, &va), 0);
	assert_int_equal(space_advise(m.e.q, m.e.s, va, PG(PAGES), ADVISE_RANDOM), 0);
	assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_COMPACTION, &c), 0);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATE_WALKS), 0);
	assert_int_equal(env_load(&m.e, va), 0);
	before = folio_mapped(cached(&m, 1));
	assert_int_equal(move(&m, 2, MIGRATE_SYNC, MIGRATE_FOR_COMPACTION, &c), 0);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATE_WALKS), before ? 3 : 2);
	expect(&m, 100);
	assert_int_equal(space_unmap(m.e.q, m.e.s, va, PG(PAGES)), 0);
	close_all(&m);
}

static const struct {
	enum migrate_reason reason;
	enum stat moved, failed;
} reasons[] = {
	{ MIGRATE_FOR_CALL, STAT_MIGRATED_CALL, STAT_MIGRATE_FAILED_CALL },
	{ MIGRATE_FOR_DEMOTION, STAT_MIGRATED_DEMOTION, STAT_MIGRATE_FAILED_DEMOTION },
	{ MIGRATE_FOR_PROMOTION, STAT_MIGRATED_PROMOTION, STAT_MIGRATE_FAILED_PROMOTION },
	{ MIGRATE_FOR_COMPACTION, STAT_MIGRATED_COMPACTION, STAT_MIGRATE_FAILED_COMPACTION },
	{ MIGRATE_FOR_OFFLINE, STAT_MIGRATED_OFFLINE, STAT_MIGRATE_FAILED_OFFLINE },
	{ MIGRATE_FOR_BALLOON, STAT_MIGRATED_BALLOON, STAT_MIGRATE_FAILED_BALLOON },
	{ MIGRATE_FOR_PLACE, STAT_MIGRATED_PLACE, STAT_MIGRATE_FAILED_PLACE },
};

/* Each reason has its own counts, which add up to the totals, as do the causes. */
static void counted_by_reason(void **st)
{
	struct migrate_counts c = { 0 };
	u64 moved = 0, failed = 0;
	struct folio *f;
	struct mover m;

	(void)st;
	assert_int_equal(ARRAY_SIZE(reasons), NR_MIGRATE_REASONS);
	open_with(&m, 2, &medium_ops);
	fill(&m, 7);
	for (u32 i = 0; i < ARRAY_SIZE(reasons); i++) {
		m.fail_alloc = 1 + i % 3;
		assert_int_equal(move(&m, PAGES, MIGRATE_ASYNC, reasons[i].reason, &c), 1 + i % 3);
		assert_int_equal(stat_read(m.e.q, reasons[i].moved), PAGES - 1 - i % 3);
		assert_int_equal(stat_read(m.e.q, reasons[i].failed), 1 + i % 3);
		moved += PAGES - 1 - i % 3;
		failed += 1 + i % 3;
	}
	f = cached(&m, 3);
	folio_get(f);
	assert_int_equal(move(&m, PAGES, MIGRATE_ASYNC, MIGRATE_FOR_CALL, &c), 1);
	folio_put(m.e.q, f);
	assert_int_equal(c.no_memory, failed);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATE_NO_MEMORY), failed);
	assert_int_equal(c.in_use, 1);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATE_IN_USE), 1);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATE_FAILED), failed + 1);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATED), moved + PAGES - 1);
	assert_int_equal(c.moved, moved + PAGES - 1);
	expect(&m, 7);
	close_all(&m);
}

/* ---- what the object has to say ---- */

/* What these operations keep for each page: the frame that it is in. */
static struct {
	u64 frame[PAGES];
	u32 calls;
	int answer;
} kept;

static int moved_folio(struct object *o, struct folio *dst, struct folio *src,
		       enum migrate_mode mode)
{
	(void)mode;
	kept.calls++;
	/* Both locked; nobody finds the old one, nobody knows the new one, which has the bytes. */
	assert_true(folio_test(src, PG_LOCKED) && folio_test(dst, PG_LOCKED));
	assert_int_equal(a32_read(&src->ref), 0);
	assert_false(folio_mapped(src));
	assert_ptr_equal(folio_object(src), o);
	assert_null(aptr_read(&dst->mapping));
	assert_memory_equal(o->q->machine->ops->frame_window(o->q->machine, folio_pfn(o->q, dst)),
			    o->q->machine->ops->frame_window(o->q->machine, folio_pfn(o->q, src)),
			    PAGE_SIZE);
	assert_int_equal(kept.frame[src->index], folio_pfn(o->q, src));
	if (!kept.answer)
		kept.frame[src->index] = folio_pfn(o->q, dst);
	return kept.answer;
}

static void keep_all(struct mover *m)
{
	memset(&kept, 0, sizeof(kept));
	for (u64 i = 0; i < PAGES; i++)
		kept.frame[i] = folio_pfn(m->e.q, cached(m, i));
}

static void expect_kept(struct mover *m)
{
	for (u64 i = 0; i < PAGES; i++)
		assert_int_equal(kept.frame[i], folio_pfn(m->e.q, cached(m, i)));
	assert_int_equal(object_check(m->o), 0);
}

/* Once for each move, mapped or not, and what it keeps goes along. */
static void callback_once(void **st)
{
	struct object_ops ops = medium_ops;
	struct mover m;
	u64 va;

	(void)st;
	ops.migrate_folio = moved_folio;
	ops.keeps = OBJECT_KEEPS_ALWAYS;
	for (u32 kind = 0; kind < 4; kind += 2) {
		struct migrate_counts c = { 0 };

		open_with(&m, kind, &ops);
		fill(&m, 40);
		keep_all(&m);
		assert_int_equal(
			space_map_object(m.e.q, m.e.s, 0, PG(PAGES), RW, MAP_F_SHARED, m.o, 0, &va),
			0);
		for (u32 i = 0; i < PAGES / 2; i++)
			assert_int_equal(env_store(&m.e, va + PG(i), 40 + i), 0);
		assert_int_equal(move(&m, PAGES, MIGRATE_ASYNC, MIGRATE_FOR_CALL, &c), 0);
		assert_int_equal(kept.calls, PAGES);
		expect_kept(&m);
		assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_CALL, &c), 0);
		assert_int_equal(kept.calls, 2 * PAGES);
		expect_kept(&m);
		expect(&m, 40);
		assert_int_equal(space_unmap(m.e.q, m.e.s, va, PG(PAGES)), 0);
		close_all(&m);
	}
}

/* It says no: everything is as before; -EAGAIN is asked again, but not for ever. */
static void callback_refuses(void **st)
{
	struct object_ops ops = medium_ops;
	struct migrate_counts c = { 0 };
	struct folio *before[PAGES];
	struct mover m;

	(void)st;
	ops.migrate_folio = moved_folio;
	open_with(&m, 2, &ops);
	fill(&m, 40);
	keep_all(&m);
	for (u32 i = 0; i < PAGES; i++)
		before[i] = cached(&m, i);
	kept.answer = -EBUSY;
	assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_CALL, &c), PAGES);
	assert_int_equal(kept.calls, PAGES);
	assert_int_equal(c.refused, PAGES);
	assert_int_equal(stat_read(m.e.q, STAT_MIGRATE_REFUSED), PAGES);
	kept.answer = -EAGAIN;
	assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_CALL, &c), PAGES);
	assert_int_equal(kept.calls, 11 * PAGES);
	assert_int_equal(c.in_use, PAGES);
	assert_int_equal(m.got, m.back);
	for (u32 i = 0; i < PAGES; i++) {
		assert_ptr_equal(cached(&m, i), before[i]);
		assert_true(folio_test(before[i], PG_LRU) && folio_test(before[i], PG_DIRTY));
		assert_int_equal(a32_read(&before[i]->ref), 1);
	}
	env_check(&m.e);
	expect_kept(&m);
	expect(&m, 40);
	kept.answer = 0;
	assert_int_equal(move(&m, PAGES, MIGRATE_ASYNC, MIGRATE_FOR_CALL, &c), 0);
	expect_kept(&m);
	expect(&m, 40);
	close_all(&m);
}

/* No callback, and something is kept: never moved blindly. */
static void keeps_always(void **st)
{
	struct object_ops ops = medium_ops;
	struct migrate_counts c = { 0 };
	struct mover m;

	(void)st;
	ops.keeps = OBJECT_KEEPS_ALWAYS;
	open_with(&m, 2, &ops);
	fill(&m, 40);
	keep_all(&m);
	assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_CALL, &c), PAGES);
	assert_int_equal(c.refused, PAGES);
	assert_int_equal(m.got, 0);
	assert_int_equal(m.d->writes, 0);
	expect_kept(&m);
	expect(&m, 40);
	close_all(&m);
}

static void keeps_while_dirty(void **st)
{
	struct object_ops ops = medium_ops;
	struct migrate_counts c = { 0 };
	struct mover m;
	u64 v = 0;

	(void)st;
	ops.keeps = OBJECT_KEEPS_WHILE_DIRTY;
	open_with(&m, 2, &ops);
	fill(&m, 40);
	keep_all(&m);
	/* Nothing is waited for: they stay. */
	assert_int_equal(move(&m, PAGES, MIGRATE_ASYNC, MIGRATE_FOR_CALL, &c), PAGES);
	assert_int_equal(c.refused, PAGES);
	expect_kept(&m);
	/* They cannot be written: they stay, dirty. */
	m.d->fail_write = -EIO;
	m.d->fail_index = 3;
	assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_CALL, &c), 1);
	assert_int_equal(c.refused, PAGES + 1);
	assert_int_equal(folio_pfn(m.e.q, cached(&m, 3)), kept.frame[3]);
	assert_true(folio_test(cached(&m, 3), PG_DIRTY));
	assert_int_equal(c.moved, PAGES - 1);
	/* The others were written out first. */
	assert_int_equal(m.d->writes, PAGES - 1);
	for (u64 i = 0; i < PAGES; i++) {
		memcpy(&v, m.d->bytes + PG(i), sizeof(v));
		assert_int_equal(v, i == 3 ? 0 : 40 + i);
		assert_int_equal(folio_test(cached(&m, i), PG_DIRTY), i == 3);
	}
	m.d->fail_write = 0;
	assert_int_equal(move(&m, PAGES, MIGRATE_SYNC, MIGRATE_FOR_CALL, &c), 0);
	assert_int_equal(m.d->writes, PAGES);
	object_expect_clean(m.o);
	/* Clean ones just move. */
	assert_int_equal(move(&m, PAGES, MIGRATE_ASYNC, MIGRATE_FOR_CALL, &c), 0);
	expect(&m, 40);
	close_all(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walks),         cmocka_unit_test(counted_by_reason),
		cmocka_unit_test(callback_once), cmocka_unit_test(callback_refuses),
		cmocka_unit_test(keeps_always),  cmocka_unit_test(keeps_while_dirty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
