/*
 * Random lives of pages in several threads, against an oracle that knows what each page must hold.
 *
 * A record stands for an entry: its lock is the entry lock. It has nothing, a folio of its own, or
 * a slot.
 * Several records may name one slot (as after a fork); whoever faults while others name the slot
 * copies, the last one takes the folio over. Other threads look up slots that may be stale at any
 * time. Failures are injected everywhere; none may lose or change a byte.
 *
 * QUIRE_SEED and QUIRE_TEST_OPS (per thread) choose another run.
 */
#include "../unit/swap_env.h"

#include "base/thread.h"

#include <pthread.h>

#define RECORDS 1500u
#define THREADS 4u
#define STALE   256u
#define BATCH   16u

enum what { NOTHING, RESIDENT, SWAPPED };

struct record {
	pthread_mutex_t lock;
	enum what what;
	struct folio *f; /* RESIDENT: with a reference of ours */
	u64 slot;        /* SWAPPED */
	u64 id, v;       /* what its bytes must be */
};

struct run {
	struct swap_env *e;
	struct record rec[RECORDS];
	a64_t stale[STALE]; /* slots that once were */
	a64_t next_id;
	a64_t evicted, faults, shared, refused, lost_races, big;
	u64 ops;
};

struct worker {
	struct run *run;
	u64 seed;
	pthread_t id;
};

static void no_folio_yet(void)
{
	sched_yield();
}

/* A folio that its holder is about to change or drop. */
static void make_private(struct swap_env *e, struct folio *f, u64 r)
{
	if (!folio_test(f, PG_SWAPCACHE)) {
		folio_set(f, PG_DIRTY);
		return;
	}
	if (r % 2 && swap_try_free_folio(&e->q, f))
		return;
	swap_invalidate_copy(&e->q, f);
}

static void op_write(struct run *run, struct record *rec, u64 r)
{
	struct swap_env *e = run->e;

	if (rec->what == SWAPPED)
		return;
	if (rec->what == NOTHING) {
		struct folio *f = phys_alloc(&e->q, 0, 0);

		if (!f)
			return;
		rec->f = f;
		rec->what = RESIDENT;
		rec->id = a64_fetch_add(&run->next_id, 1);
		rec->v = 0;
	}
	env_lock(rec->f);
	make_private(e, rec->f, r);
	page_fill(env_bytes(e, rec->f), rec->id, ++rec->v, -1);
	folio_unlock(rec->f);
}

/* Nobody names the slot any more: the folio that is cached for it goes, as after a zap. */
static void drop_cached(struct swap_env *e, u64 slot)
{
	struct folio *f = swap_lookup(&e->q, slot);

	if (!f)
		return;
	env_lock(f);
	/* As owner of the page a record keeps its folio cached; its own reference tells. */
	if (folio_test(f, PG_SWAPCACHE) && f->swap == slot && a32_read(&f->ref) == 2)
		swap_try_free_folio(&e->q, f);
	folio_unlock(f);
	folio_put(&e->q, f);
}

static void op_drop(struct run *run, struct record *rec)
{
	struct swap_env *e = run->e;

	if (rec->what == RESIDENT) {
		env_lock(rec->f);
		if (folio_test(rec->f, PG_SWAPCACHE))
			assert_true(swap_try_free_folio(&e->q, rec->f));
		env_unlock_put(e, rec->f);
	} else if (rec->what == SWAPPED) {
		swap_put(&e->q, rec->slot, 1);
		drop_cached(e, rec->slot);
	}
	rec->what = NOTHING;
}

/* One folio of a batch after its write-out: gone, or back with its owner. */
static void evict_end(struct run *run, struct record *rec, int err, u64 r)
{
	struct swap_env *e = run->e;
	struct folio *f = rec->f;
	u64 slot = f->swap;
	struct list one;

	if (!err && folio_freeze(f, 2)) {
		assert_false(folio_test(f, PG_DIRTY));
		swap_delete_frozen(&e->q, f, (u32)slot);
		folio_unlock(f);
		list_init(&one);
		list_add(&f->lru, &one);
		phys_free_frozen_list(&e->q, &one);
		rec->what = SWAPPED;
		rec->slot = slot;
		a64_set(&run->stale[r % STALE], slot);
		a64_add(&run->evicted, 1);
		return;
	}
	assert_true(page_is(env_bytes(e, f), rec->id, rec->v, -1));
	assert_true(!err || folio_test(f, PG_DIRTY));
	swap_put(&e->q, slot, 1);
	if (r & 64)
		swap_try_free_folio(&e->q, f);
	folio_unlock(f);
	a64_add(err ? &run->refused : &run->lost_races, 1);
}

static void op_evict(struct run *run, u64 *seed)
{
	struct swap_env *e = run->e;
	struct record *rec[BATCH];
	struct folio *dirty[BATCH];
	int err[BATCH], derr[BATCH];
	u32 n = 0, nd = 0, first = (u32)(env_random(seed) % RECORDS);

	for (u32 i = 0; i < BATCH * 2 && n < BATCH; i++) {
		struct record *p = &run->rec[(first + i) % RECORDS];

		if (pthread_mutex_trylock(&p->lock))
			continue;
		if (p->what != RESIDENT || !folio_trylock(p->f)) {
			pthread_mutex_unlock(&p->lock);
			continue;
		}
		if (swap_add_folio(&e->q, p->f)) {
			folio_unlock(p->f);
			pthread_mutex_unlock(&p->lock);
			continue;
		}
		swap_dup(&e->q, p->f->swap, 1);
		err[n] = 0;
		rec[n++] = p;
		if (!swap_folio_has_copy(&e->q, p->f))
			dirty[nd++] = p->f;
	}
	if (nd)
		swap_writeout(&e->q, dirty, nd, derr);
	for (u32 i = 0, k = 0; i < n; i++) {
		if (k < nd && dirty[k] == rec[i]->f)
			err[i] = derr[k++];
		evict_end(run, rec[i], err[i], env_random(seed));
		pthread_mutex_unlock(&rec[i]->lock);
	}
}

/* The locked folio of the record's slot with a reference for us; NULL: it cannot be read now. */
static struct folio *bring_in(struct run *run, struct record *rec)
{
	struct swap_env *e = run->e;

	for (;;) {
		struct folio *f = swap_lookup(&e->q, rec->slot);
		u32 shadow;
		void *buf;
		int err;

		if (f) {
			env_lock(f);
			if (folio_test(f, PG_SWAPCACHE) && f->swap == rec->slot &&
			    folio_test(f, PG_UPTODATE))
				return f;
			env_unlock_put(e, f);
			continue;
		}
		f = phys_alloc(&e->q, 0, 0);
		if (!f)
			return NULL;
		env_lock(f);
		err = swap_cache_insert(&e->q, rec->slot, f, &shadow);
		if (err) {
			assert_int_equal(err, -EEXIST); /* our count keeps the slot */
			env_unlock_put(e, f);
			no_folio_yet();
			continue;
		}
		buf = env_bytes(e, f);
		swap_read(&e->q, &rec->slot, 1, &buf, &err);
		if (!err) {
			folio_set(f, PG_UPTODATE);
			return f;
		}
		assert_int_equal(err, -EIO);
		swap_cache_abort(&e->q, f);
		env_unlock_put(e, f);
		return NULL;
	}
}

static void op_fault(struct run *run, struct record *rec, u64 r)
{
	struct swap_env *e = run->e;
	struct folio *f, *copy;
	u64 slot = rec->slot;

	if (rec->what != SWAPPED) {
		if (rec->what == RESIDENT)
			assert_true(page_is(env_bytes(e, rec->f), rec->id, rec->v, -1));
		return;
	}
	f = bring_in(run, rec);
	if (!f)
		return;
	assert_true(page_is(env_bytes(e, f), rec->id, rec->v, -1));
	assert_int_equal(f->swap, slot);
	a64_add(&run->faults, 1);
	if (swap_count(&e->q, slot) > 1) {
		copy = phys_alloc(&e->q, 0, 0);
		if (copy) {
			folio_set(copy, PG_DIRTY);
			memcpy(env_bytes(e, copy), env_bytes(e, f), PAGE_SIZE);
			rec->f = copy;
			rec->what = RESIDENT;
			swap_put(&e->q, slot, 1);
		}
		env_unlock_put(e, f);
		return;
	}
	rec->f = f;
	rec->what = RESIDENT;
	swap_put(&e->q, slot, 1);
	if (r % 3 == 0)
		make_private(e, f, r >> 8);
	else if (r % 3 == 1)
		assert_true(swap_try_free_folio(&e->q, f));
	folio_unlock(f);
}

/* `to` becomes another name of from's slot. */
static void op_share(struct run *run, struct record *from, struct record *to)
{
	if (from == to || pthread_mutex_trylock(&to->lock))
		return;
	if (from->what == SWAPPED && swap_count(&run->e->q, from->slot) < 5) {
		op_drop(run, to);
		swap_dup(&run->e->q, from->slot, 1);
		to->what = SWAPPED;
		to->slot = from->slot;
		to->id = from->id;
		to->v = from->v;
		a64_add(&run->shared, 1);
	}
	pthread_mutex_unlock(&to->lock);
}

static void op_stale(struct run *run, u64 r)
{
	struct swap_env *e = run->e;
	u64 slot = a64_read(&run->stale[r % STALE]);
	struct folio *f = swap_lookup(&e->q, slot);

	if (!f)
		return;
	assert_true(a32_read(&f->ref) > 0);
	if (folio_trylock(f)) {
		if (folio_test(f, PG_SWAPCACHE))
			assert_true(slot - f->swap < folio_nr(f) || f->swap != slot);
		folio_unlock(f);
	}
	folio_put(&e->q, f);
}

/* A large folio goes out whole and comes back page by page, within one operation. */
static void op_big(struct run *run, u64 r)
{
	struct swap_env *e = run->e;
	u32 order = 1 + (u32)(r % 6), nr = 1u << order;
	u64 id = a64_fetch_add(&run->next_id, nr), first;
	struct folio *f = env_folio(e, order, id, 9, -1);
	int err;

	if (!f)
		return;
	if (swap_add_folio(&e->q, f)) {
		env_unlock_put(e, f);
		return;
	}
	first = f->swap;
	swap_dup(&e->q, first, nr);
	if (!swap_writeout(&e->q, &f, 1, &err)) {
		for (u32 i = 0; i < nr; i++)
			assert_true(page_is(env_bytes(e, f) + i * PAGE_SIZE, id + i, 9, -1));
		swap_put(&e->q, first, nr);
		assert_true(swap_try_free_folio(&e->q, f));
		env_unlock_put(e, f);
		return;
	}
	env_evict(e, f, 3);
	a64_add(&run->big, 1);
	for (u32 i = 0; i < nr; i++) {
		struct record one = { .what = SWAPPED, .slot = first + i };
		struct folio *g = bring_in(run, &one);

		swap_put(&e->q, first + i, 1);
		if (!g) /* an injected failure: the slot is free now */
			continue;
		assert_true(page_is(env_bytes(e, g), id + i, 9, -1));
		assert_true(swap_try_free_folio(&e->q, g));
		env_unlock_put(e, g);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct run *run = w->run;

	for (u64 i = 0; i < run->ops; i++) {
		u64 r = env_random(&w->seed);
		struct record *rec = &run->rec[(r >> 20) % RECORDS];
		u32 dice = (u32)(r % 1000);

		if (dice < 60)
			op_evict(run, &w->seed);
		else if (dice < 200)
			op_stale(run, r >> 12);
		else if (dice < 203)
			op_big(run, r >> 12);
		else if (!pthread_mutex_trylock(&rec->lock)) {
			if (dice < 450)
				op_write(run, rec, r >> 40);
			else if (dice < 880)
				op_fault(run, rec, r >> 40);
			else if (dice < 950)
				op_share(run, rec, &run->rec[(r >> 44) % RECORDS]);
			else
				op_drop(run, rec);
			pthread_mutex_unlock(&rec->lock);
		}
		if (i % 256 == 0)
			qrcu_poll(&run->e->q);
	}
	return NULL;
}

static u64 number(const char *name, u64 otherwise)
{
	const char *s = getenv(name);

	return s && *s ? strtoull(s, NULL, 0) : otherwise;
}

static void drain(struct run *run)
{
	struct swap_env *e = run->e;

	for (u32 i = 0; i < RECORDS; i++) {
		for (u32 tries = 0; run->rec[i].what == SWAPPED && tries < 4; tries++)
			op_fault(run, &run->rec[i], tries);
		op_drop(run, &run->rec[i]);
		pthread_mutex_destroy(&run->rec[i].lock);
	}
	assert_int_equal(swap_used_slots(&e->q), 0);
	for (u32 i = 0; i < swap_nr_stores(&e->q); i++) {
		struct store_stats st;

		swap_store_stats(&e->q, i, &st);
		assert_int_equal(st.pages, 0);
		assert_int_equal(st.stored_bytes, 0);
	}
}

static void lives(const char *spec, bool failures)
{
	struct run *run = calloc(1, sizeof(*run));
	struct worker w[THREADS];
	u64 seed = number("QUIRE_SEED", 0x51ed2701);

	run->e = env_new(spec, 8192);
	run->ops = number("QUIRE_TEST_OPS", 25000);
	a64_set(&run->next_id, 1);
	for (u32 i = 0; i < RECORDS; i++)
		pthread_mutex_init(&run->rec[i].lock, NULL);
	if (failures) {
		static const enum inject_point points[] = {
			INJECT_SLOT,          INJECT_STORE_WRITE,  INJECT_STORE_READ,
			INJECT_STORE_CORRUPT, INJECT_MACHINE_CALL, INJECT_ARENA
		};

		for (u32 i = 0; i < ARRAY_SIZE(points); i++)
			inject_chance(&run->e->inject, points[i], 20000, seed + i);
	}
	for (u32 i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ run, (seed + 1) * (i + 1) * 0x9e3779b97f4a7c15ull | 1, 0 };
		assert_int_equal(pthread_create(&w[i].id, NULL, worker_main, &w[i]), 0);
	}
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(w[i].id, NULL);
	for (int p = 0; p < NR_INJECT_POINTS; p++)
		inject_off(&run->e->inject, (enum inject_point)p);
	print_message("%s%s: seed %#llx: %llu evicted, %llu faults, %llu shared, %llu refused, "
		      "%llu raced, %llu big\n",
		      spec, failures ? " with failures" : "", (unsigned long long)seed,
		      (unsigned long long)a64_read(&run->evicted),
		      (unsigned long long)a64_read(&run->faults),
		      (unsigned long long)a64_read(&run->shared),
		      (unsigned long long)a64_read(&run->refused),
		      (unsigned long long)a64_read(&run->lost_races),
		      (unsigned long long)a64_read(&run->big));
	assert_true(a64_read(&run->evicted) > 100 && a64_read(&run->faults) > 100);
	assert_int_equal(swap_check(&run->e->q), 0);
	drain(run);
	env_free(run->e);
	free(run);
}

/*
 * Folios that leave their slots only by being frozen: what a lookup returns must stand for that
 * very slot for as long as the reference is held, however often the folio's frame was used for
 * other slots before.
 */
struct churn {
	struct swap_env *e;
	a64_t slot[8]; /* what the evictors used last */
	a32_t stop;
	a64_t found, wrong;
	u64 rounds;
};

static void *churn_main(void *arg)
{
	struct churn *c = arg;
	u64 seed = base_self()->id * 77 + 1;

	for (u64 i = 0; i < c->rounds; i++) {
		struct folio *f = env_folio(c->e, 0, 8 * i, 1, 0);
		int err;

		assert_non_null(f);
		assert_int_equal(swap_add_folio(&c->e->q, f), 0);
		swap_dup(&c->e->q, f->swap, 1);
		a64_set(&c->slot[env_random(&seed) % 8], f->swap);
		assert_int_equal(swap_writeout(&c->e->q, &f, 1, &err), 1);
		u64 slot = f->swap;

		env_evict(c->e, f, 1);
		swap_put(&c->e->q, slot, 1);
		if (i % 512 == 0)
			qrcu_poll(&c->e->q);
	}
	return NULL;
}

static void *look_main(void *arg)
{
	struct churn *c = arg;
	u64 seed = base_self()->id * 99 + 1;

	while (!a32_read(&c->stop)) {
		u64 slot = a64_read(&c->slot[env_random(&seed) % 8]);
		struct folio *f = swap_lookup(&c->e->q, slot);

		if (!f)
			continue;
		a64_add(&c->found, 1);
		/* Ordered by the slot's word: the fields were written before it named the folio. */
		if (!folio_test(f, PG_SWAPCACHE) || f->swap != slot)
			a64_add(&c->wrong, 1);
		folio_put(&c->e->q, f);
	}
	return NULL;
}

static void lookups_race_with_eviction(void **state)
{
	struct churn c = { .rounds = 4 * number("QUIRE_TEST_OPS", 25000) };
	pthread_t churn[2], look[2];

	c.e = env_new("lz4", 512);
	for (u32 i = 0; i < 2; i++) {
		pthread_create(&churn[i], NULL, churn_main, &c);
		pthread_create(&look[i], NULL, look_main, &c);
	}
	for (u32 i = 0; i < 2; i++)
		pthread_join(churn[i], NULL);
	a32_set(&c.stop, 1);
	for (u32 i = 0; i < 2; i++)
		pthread_join(look[i], NULL);
	print_message("%llu lookups found a folio\n", (unsigned long long)a64_read(&c.found));
	assert_true(a64_read(&c.found) > 100);
	assert_int_equal(a64_read(&c.wrong), 0);
	assert_int_equal(swap_used_slots(&c.e->q), 0);
	env_free(c.e);
}

static void on_lz4(void **state)
{
	lives("lz4", false);
}

static void on_chain(void **state)
{
	lives("lz4:512K,zstd:512K,file:/tmp/quire-test-oracle:2M", false);
}

static void on_file(void **state)
{
	lives("file:/tmp/quire-test-oracle", false);
}

static void on_lz4_with_failures(void **state)
{
	lives("lz4", true);
}

static void on_chain_with_failures(void **state)
{
	lives("zstd:512K,lz4:512K,file:/tmp/quire-test-oracle:2M", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookups_race_with_eviction),
		cmocka_unit_test(on_lz4),
		cmocka_unit_test(on_chain),
		cmocka_unit_test(on_file),
		cmocka_unit_test(on_lz4_with_failures),
		cmocka_unit_test(on_chain_with_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
