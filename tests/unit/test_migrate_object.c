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
	f = phys_alloc(q, !src->node, src->order);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walks),
		cmocka_unit_test(counted_by_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
