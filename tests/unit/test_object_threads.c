/* Objects under several threads: lookups against a migrator, everything at once, the writer. */
#include "object_env.h"

#include "base/rcu.h"

#define THREADS 4u

struct team {
	struct env e;
	struct medium *d;
	struct object *o;
	a32_t stop;
	a64_t moved, evicted, found;
};

struct member {
	struct team *t;
	u32 n;
	u64 done;
	pthread_t id;
};

static u64 *words(struct team *t, struct folio *f)
{
	return t->e.m->ops->frame_window(t->e.m, folio_pfn(t->e.q, f));
}

static void team_open(struct team *t, u64 pages)
{
	memset(t, 0, sizeof(*t));
	env_open(&t->e, 0, 0, NULL);
	t->d = medium_new();
	t->o = object_new(&t->e, t->d, PG(pages));
}

static void team_close(struct team *t)
{
	assert_int_equal(object_check(t->o), 0);
	object_put(t->o);
	env_close(&t->e);
	medium_free(t->d);
}

static void start(struct team *t, struct member *m, u32 n, void *(*fn)(void *))
{
	for (u32 i = 0; i < n; i++) {
		m[i] = (struct member){ .t = t, .n = i };
		assert_int_equal(pthread_create(&m[i].id, NULL, fn, &m[i]), 0);
	}
}

static void finish(struct member *m, u32 n)
{
	for (u32 i = 0; i < n; i++)
		pthread_join(m[i].id, NULL);
}

static u64 rnd(u64 *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s >> 9;
}

/* ---- lookups against freeze and replace ---- */

/* Each thread counts in a word of its own of the page, by whatever folio it finds. */
static void *count_in_page(void *arg)
{
	struct member *m = arg;
	struct team *t = m->t;

	while (!a32_read(&t->stop)) {
		struct folio *f = object_lookup(t->o, 3);
		u64 *w;

		if (!f)
			fail_msg("the page is not there");
		w = words(t, f);
		__atomic_store_n(&w[m->n], __atomic_load_n(&w[m->n], __ATOMIC_RELAXED) + 1,
				 __ATOMIC_RELAXED);
		m->done++;
		folio_put(t->e.q, f);
		if (m->done % 64 == 0)
			base_yield();
	}
	return NULL;
}

/* Freeze, copy, replace, free: the old frame is poisoned, and soon used again. */
static bool migrate(struct team *t)
{
	struct quire *q = t->e.q;
	struct folio *old = object_lookup(t->o, 3), *new = phys_alloc(q, 0, 0);
	bool moved;
	struct list dead;

	assert_non_null(new);
	cgroup_force_charge(q, CGROUP_ROOT, 1);
	folio_set_charge(new, CGROUP_ROOT);
	folio_lock(old);
	assert_true(folio_trylock(new));
	moved = folio_freeze(old, 2);
	if (moved) {
		memcpy(words(t, new), words(t, old), PAGE_SIZE);
		folio_set(new, PG_UPTODATE);
		object_replace_frozen(old, new);
		memset(words(t, old), 0x5a, PAGE_SIZE);
		folio_unlock(old);
		list_init(&dead);
		list_add(&old->lru, &dead);
		phys_free_frozen_list(q, &dead);
	} else {
		folio_unlock(old);
		folio_put(q, old);
	}
	folio_unlock(new);
	folio_put(q, new);
	return moved;
}

static void test_lookup_and_replace(void **state)
{
	struct member m[THREADS];
	struct folio *f;
	struct team t;
	u64 moved = 0;
	u8 byte;

	(void)state;
	team_open(&t, 8);
	assert_int_equal(object_read(t.o, PG(3), &byte, 1, NULL), 1);
	/* Off the lists: the cache's reference is the only one. */
	lru_drain_all(t.e.q);
	f = object_lookup(t.o, 3);
	assert_true(lru_isolate(t.e.q, f));
	folio_put_nr(t.e.q, f, 2);
	start(&t, m, THREADS, count_in_page);
	while (moved < 20000)
		moved += migrate(&t);
	a32_set(&t.stop, 1);
	finish(m, THREADS);
	f = object_lookup(t.o, 3);
	for (u32 i = 0; i < THREADS; i++) {
		assert_true(m[i].done > 0);
		assert_int_equal(words(&t, f)[i], m[i].done);
	}
	folio_put(t.e.q, f);
	team_close(&t);
}

/* ---- everything at once ---- */

#define OWN 16u /* pages of each thread */

/* Own pages hold what was stored last, or zero where truncation or a hole came since. */
static void *use_own_pages(void *arg)
{
	struct member *m = arg;
	struct team *t = m->t;
	u64 last[OWN] = { 0 }, seed = m->n + 77, value = 0;

	for (u32 step = 0; step < 60000; step++) {
		u32 i = (u32)(rnd(&seed) % OWN);
		u64 at = PG(m->n + i * THREADS) + 8 * (rnd(&seed) % 2 ? 0 : 511), got;
		s64 n;

		if (rnd(&seed) % 3 == 0) {
			at = PG(m->n + i * THREADS);
			value++;
			assert_int_equal(object_write(t->o, at, &value, 8), 8);
			last[i] = value;
		} else if (rnd(&seed) % 64 == 0) {
			assert_int_equal(object_sync(t->o, m->n, m->n + OWN, NULL), 0);
		} else {
			at = PG(m->n + i * THREADS);
			n = object_read(t->o, at, &got, 8, NULL);
			if (n == 8 && got && got != last[i])
				fail_msg("page %u holds %lu, not %lu", m->n + i * THREADS,
					 (unsigned long)got, (unsigned long)last[i]);
			if (n == 8 && !got)
				last[i] = 0;
			m->done++;
		}
	}
	return NULL;
}

static void *cut_and_punch(void *arg)
{
	struct member *m = arg;
	struct team *t = m->t;
	u64 seed = 99;

	while (!a32_read(&t->stop)) {
		u64 page = rnd(&seed) % (THREADS * OWN);

		if (rnd(&seed) % 2)
			assert_int_equal(object_truncate(t->o, PG(page)), 0);
		else
			assert_int_equal(object_punch(t->o, PG(page), PG(3)), 0);
		assert_int_equal(object_truncate(t->o, PG(THREADS * OWN)), 0);
		m->done++;
		base_yield();
	}
	return NULL;
}

static void *evict_all(void *arg)
{
	struct member *m = arg;
	struct team *t = m->t;
	struct quire *q = t->e.q;

	for (u64 i = 0; !a32_read(&t->stop); i = (i + 1) % (THREADS * OWN)) {
		struct folio *f = object_lookup(t->o, i);
		bool mine, gone = false;
		struct list dead;
		int err;

		if (!i)
			lru_drain_all(q);
		if (!f)
			continue;
		mine = lru_isolate(q, f);
		folio_put(q, f);
		if (!mine)
			continue;
		if (folio_trylock(f)) {
			if (folio_test(f, PG_DIRTY) && !folio_test(f, PG_WRITEBACK))
				object_writeout(q, &f, 1, &err);
			gone = object_evict(q, f, 1, 1);
			folio_unlock(f);
		}
		if (!gone) {
			lru_putback(q, f);
			continue;
		}
		m->done++;
		list_init(&dead);
		list_add(&f->lru, &dead);
		phys_free_frozen_list(q, &dead);
	}
	return NULL;
}

static void test_all_at_once(void **state)
{
	struct member users[THREADS], cutter, evicter;
	u8 *got = malloc(PG(THREADS * OWN));
	struct team t;

	(void)state;
	team_open(&t, THREADS * OWN);
	assert_int_equal(objects_start_writer(t.e.q, 1, 8), 0);
	start(&t, &cutter, 1, cut_and_punch);
	start(&t, &evicter, 1, evict_all);
	start(&t, users, THREADS, use_own_pages);
	finish(users, THREADS);
	a32_set(&t.stop, 1);
	finish(&cutter, 1);
	finish(&evicter, 1);
	objects_stop_writer(t.e.q);
	assert_true(cutter.done > 0 && evicter.done > 0);
	assert_int_equal(object_check(t.o), 0);
	assert_int_equal(object_sync(t.o, 0, OBJECT_INDEX_MAX, NULL), 0);
	object_expect_clean(t.o);
	assert_int_equal(object_read(t.o, 0, got, PG(THREADS * OWN), NULL), PG(THREADS * OWN));
	assert_memory_equal(got, t.d->bytes, PG(THREADS * OWN));
	free(got);
	team_close(&t);
}

/* ---- stable pages ---- */

struct stable {
	struct team t;
	a32_t writing, storing, stored;
};

/* The medium's write goes on until the writer of the page has had every chance. */
static void during_write(void *ctx, u64 index)
{
	struct stable *s = ctx;

	(void)index;
	a32_set(&s->writing, 1);
	while (!a32_read(&s->storing))
		base_yield();
	for (u32 i = 0; i < 2000; i++)
		base_yield();
	assert_int_equal(a32_read(&s->stored), 0);
}

static void *store_during_write(void *arg)
{
	struct stable *s = arg;
	u64 two = 2;

	while (!a32_read(&s->writing))
		base_yield();
	a32_set(&s->storing, 1);
	assert_int_equal(object_write(s->t.o, 0, &two, 8), 8);
	a32_set(&s->stored, 1);
	return NULL;
}

static void test_stable_pages(void **state)
{
	struct stable s;
	pthread_t id;
	u64 one = 1;

	(void)state;
	memset(&s, 0, sizeof(s));
	team_open(&s.t, 1);
	assert_int_equal(object_write(s.t.o, 0, &one, 8), 8);
	s.t.d->in_write = during_write;
	s.t.d->ctx = &s;
	assert_int_equal(pthread_create(&id, NULL, store_during_write, &s), 0);
	assert_int_equal(object_sync(s.t.o, 0, 0, NULL), 0);
	assert_int_equal(*(u64 *)(void *)s.t.d->bytes, 1);
	pthread_join(id, NULL);
	s.t.d->in_write = NULL;
	assert_int_equal(s.t.o->nr_dirty, 1);
	assert_int_equal(object_sync(s.t.o, 0, 0, NULL), 0);
	assert_int_equal(*(u64 *)(void *)s.t.d->bytes, 2);
	team_close(&s.t);
}

/* ---- the background writer ---- */

static void test_writer(void **state)
{
	struct object *second;
	struct medium *d;
	struct team t;
	u64 one = 1;

	(void)state;
	team_open(&t, 64);
	d = medium_new();
	second = object_new(&t.e, d, PG(64));
	assert_int_equal(objects_start_writer(t.e.q, 1, 0), 0);
	assert_int_equal(objects_start_writer(t.e.q, 1, 0), -EALREADY);
	for (u64 round = 0; round < 20; round++) {
		struct object *o = round % 2 ? second : t.o;
		u64 dirty;

		assert_int_equal(object_write(o, PG(round), &one, 8), 8);
		/* It goes to sleep in between, and must be woken. */
		do {
			base_yield();
			spin_lock(&o->lock);
			dirty = o->nr_dirty + o->nr_writeback;
			spin_unlock(&o->lock);
		} while (dirty);
		assert_int_equal(*(u64 *)(void *)(medium_of(o)->bytes + PG(round)), 1);
	}
	/* It meets objects that go. */
	assert_int_equal(object_write(second, 0, &one, 8), 8);
	object_put(second);
	objects_stop_writer(t.e.q);
	medium_free(d);
	team_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookup_and_replace),
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_stable_pages),
		cmocka_unit_test(test_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
