/* Who pays for a page that moves: its group, once, whatever else happens to the page. */
#include <pthread.h>

#include "migrate/balloon.h"
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "object_env.h"
#include "reclaim/reclaim.h"
#include "swap/swap_object.h"

#define PAGES 64u

static struct folio *alloc_other(struct quire *q, struct folio *src, void *ctx)
{
	(void)ctx;
	return phys_alloc(q, !folio_node(src), src->order);
}

static const struct migrate_ops ops = { .alloc = alloc_other };

static u64 move_list(struct env *e, struct list *folios)
{
	struct migrate_counts c = { 0 };

	(void)!migrate_folios(e->q, folios, &ops, NULL, MIGRATE_SYNC, MIGRATE_FOR_CALL, &c);
	migrate_putback(e->q, folios);
	return c.moved;
}

/* Whatever the space's pages are in. */
static u64 move_pages(struct env *e, u64 va, u64 n)
{
	struct list folios;

	list_init(&folios);
	lru_drain_all(e->q);
	for (u64 i = 0; i < n; i++) {
		struct folio *f = folio_head(env_page_at(e, va + PG(i)));

		if (lru_isolate(e->q, f))
			list_add_tail(&f->lru, &folios);
	}
	return move_list(e, &folios);
}

/* A group whose limit is what it uses: moving needs no second charge. */
static void at_the_limit(void **st)
{
	(void)st;
	for (u32 large = 0; large < 2; large++) {
		struct object_config cfg = { .size = PG(8) };
		struct space *root_space;
		struct object *o;
		struct env e;
		u64 va, at = 0, usage;
		int cg;

		env_open_nodes(&e, 2, 0, NULL, 2);
		root_space = e.s;
		cg = cgroup_create(e.q, 0, ~0ull);
		assert_true(cg > 0);
		assert_int_equal(space_create(e.q, (unsigned)cg, 0, &e.s), 0);
		cfg.cgroup = (unsigned)cg;
		assert_int_equal(object_create_anon(e.q, &cfg, &o), 0);
		va = large ? env_map(&e, PAGES, RW, 0) : env_map_single(&e, PAGES);
		env_write(&e, va, PAGES, 1);
		assert_int_equal(space_map_object(e.q, e.s, 0, PG(8), RW, MAP_F_SHARED, o, 0, &at),
				 0);
		env_write(&e, at, 8, 2);
		usage = cgroup_usage(e.q, (unsigned)cg);
		assert_true(usage >= PAGES + 8);
		cgroup_set_limit(e.q, (unsigned)cg, usage);
		cgroup_set_limit(e.q, CGROUP_ROOT, env_usage(&e));
		for (u32 i = 0; i < 3; i++) {
			assert_true(move_pages(&e, va, PAGES) >= PAGES);
			assert_int_equal(move_pages(&e, at, 8), 8);
			assert_int_equal(cgroup_usage(e.q, (unsigned)cg), usage);
			env_check(&e);
		}
		assert_int_equal(cgroup_peak(e.q, (unsigned)cg), usage);
		assert_int_equal(stat_read(e.q, STAT_OVER_LIMIT), 0);
		env_expect(&e, va, PAGES, 1, 0);
		env_expect(&e, at, 8, 2, 0);
		space_destroy(e.q, e.s);
		object_put(o);
		assert_int_equal(cgroup_usage(e.q, (unsigned)cg), 0);
		assert_int_equal(cgroup_destroy(e.q, (unsigned)cg), 0);
		e.s = root_space;
		env_close(&e);
	}
}

/* ---- stress ---- */

#define ROUNDS 60u

struct stress {
	struct env e;
	struct object *o;
	unsigned group[2];
	a32_t stop;
	a64_t moved;
};

struct live {
	struct quire *q;
	u64 pages[MAX_CGROUPS];
};

static void count_live(void *ctx, struct folio *f)
{
	struct live *l = ctx;

	l->pages[f->charge] += folio_nr(f);
}

/* Spaces of two groups: pages are charged, swapped out and in, forked, truncated away, and the
 * space is killed with whatever it has. */
static void *lives(void *arg)
{
	struct stress *w = arg;
	static a32_t number;
	u32 self = a32_add_return(&number, 1);

	for (u32 i = 0; i < ROUNDS; i++) {
		struct env e = w->e;
		struct env child = w->e;
		u64 va, at = 0;

		assert_int_equal(space_create(e.q, w->group[(self + i) % 2], i % 2, &e.s), 0);
		va = env_map(&e, PAGES, RW, 0);
		for (u32 k = 0; k < PAGES; k++)
			assert_int_equal(env_store(&e, va + PG(k), self * 1000 + k), 0);
		assert_int_equal(
			space_map_object(e.q, e.s, 0, PG(32), RW, MAP_F_SHARED, w->o, 0, &at), 0);
		for (u32 k = 0; k < 16; k++)
			assert_int_equal(env_store(&e, at + PG(k), k), 0);
		assert_int_equal(space_advise(e.q, e.s, va, PG(PAGES / 2), ADVISE_PAGEOUT), 0);
		if (i % 3 == 0) {
			assert_int_equal(space_fork(e.q, e.s, &child.s), 0);
			assert_int_equal(env_store(&child, va, 1), 0);
		}
		for (u32 k = 0; k < PAGES; k++) {
			u64 v = 0;

			assert_int_equal(sim_load(e.m, 0, e.s->ms, va + PG(k), &v, 8), 0);
			assert_int_equal(v, self * 1000 + k);
		}
		if (i % 3 == 0)
			space_destroy(child.q, child.s);
		space_destroy(e.q, e.s);
	}
	return NULL;
}

static void *truncates(void *arg)
{
	struct stress *w = arg;

	while (!a32_read(&w->stop)) {
		assert_int_equal(object_truncate(w->o, PG(16)), 0);
		assert_int_equal(object_truncate(w->o, PG(32)), 0);
		assert_int_equal(object_punch(w->o, PG(18), PG(4)), 0);
	}
	return NULL;
}

/* Whatever reclaim would find, by the lists. */
static void *migrates(void *arg)
{
	struct stress *w = arg;

	for (u32 i = 0; !a32_read(&w->stop); i++) {
		u32 phase = reclaim_step_begin(w->e.q);
		struct list folios;

		list_init(&folios);
		lru_drain_all(w->e.q);
		(void)lru_isolate_clusters(w->e.q, i % 2, i / 2 % 2 ? LRU_ACTIVE : LRU_INACTIVE, 32,
					   &folios);
		a64_add(&w->moved, move_list(&w->e, &folios));
		reclaim_step_end(w->e.q, phase);
		balloon_inflate(w->e.q, i % 2, 2);
		balloon_deflate(w->e.q, i % 2, 1);
	}
	return NULL;
}

/* Usage is what lives, for each group, once all is quiet. */
static void stress(void **st)
{
	struct object_config cfg = { .size = PG(32) };
	static struct live live;
	struct stress w = { .o = NULL };
	pthread_t t[5];

	(void)st;
	env_open_nodes(&w.e, 2, 0, NULL, 2);
	for (u32 i = 0; i < 2; i++) {
		int cg = cgroup_create(w.e.q, 0, i ? ~0ull : 4 * PAGES);

		assert_true(cg > 0);
		w.group[i] = (unsigned)cg;
	}
	cfg.cgroup = w.group[0];
	assert_int_equal(object_create_anon(w.e.q, &cfg, &w.o), 0);
	for (u32 i = 0; i < 5; i++)
		assert_int_equal(pthread_create(&t[i], NULL,
						i < 2  ? lives :
						i == 2 ? truncates :
							 migrates,
						&w),
				 0);
	for (u32 i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	a32_set(&w.stop, 1);
	for (u32 i = 2; i < 5; i++)
		pthread_join(t[i], NULL);
	assert_int_not_equal(a64_read(&w.moved), 0);
	/* What the object and the balloon have is left. */
	env_check(&w.e);
	lru_drain_all(w.e.q);
	memset(&live, 0, sizeof(live));
	live.q = w.e.q;
	phys_for_each_folio(w.e.q, count_live, &live);
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(cgroup_usage(w.e.q, w.group[i]), live.pages[w.group[i]]);
	assert_int_equal(env_usage(&w.e),
			 live.pages[CGROUP_ROOT] + live.pages[w.group[0]] + live.pages[w.group[1]]);
	object_put(w.o);
	balloon_deflate(w.e.q, 0, ~0ull);
	balloon_deflate(w.e.q, 1, ~0ull);
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(cgroup_usage(w.e.q, w.group[i]), 0);
		assert_int_equal(cgroup_destroy(w.e.q, w.group[i]), 0);
	}
	env_close(&w.e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_the_limit),
		cmocka_unit_test(stress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
