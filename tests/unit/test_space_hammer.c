/*
 * Threads against each other on the same few pages: faults, MADV_DONTNEED, MADV_FREE, eviction,
 * protect, unmap and map anew, mremap away and back, pins, spaces that come and go. What counts is
 * what the machine and the checker say; contents are checked as far as they can be known: a page
 * holds zero or a word that somebody stored there. Locking: each thread is one simulated CPU.
 */
#include <pthread.h>
#include <stdlib.h>

#include "core_env.h"

#define PAGES   24u
#define THREADS 5u
#define MAGIC   0xabcd000000000000ull

struct hammer {
	struct env e;
	u64 va, away;
	u32 ops;
};

struct worker {
	struct hammer *h;
	u32 id;
	u64 rng, bad;
	pthread_t thread;
};

static u32 rnd(struct worker *w, u32 n)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(w->rng >> 33) % n;
}

/* -EFAULT and -EACCES: another thread has just unmapped or protected it. */
static bool tolerable(int rc)
{
	return !rc || rc == -EFAULT || rc == -EACCES || rc == -ENOMEM;
}

static void access_word(struct worker *w)
{
	struct hammer *h = w->h;
	u32 page = rnd(w, PAGES);
	u64 va = h->va + PG(page) + 8 * w->id, v = MAGIC + page;

	if (rnd(w, 2)) {
		w->bad += !tolerable(sim_store(h->e.m, w->id, h->e.s->ms, va, &v, 8));
	} else if (!sim_load(h->e.m, w->id, h->e.s->ms, va, &v, 8)) {
		w->bad += v && v != MAGIC + page;
	}
}

static void pin_some(struct worker *w)
{
	struct hammer *h = w->h;
	struct folio *pages[PAGES];
	u32 first = rnd(w, PAGES - 4);
	struct range r = { h->va + PG(first), h->va + PG(first + 4) };
	long n = pin_pages(h->e.q, &h->e.s->fs, r, rnd(w, 2) ? ACCESS_WRITE : ACCESS_READ, pages);

	if (n > 0)
		unpin_pages(h->e.q, pages, (u64)n);
	else
		w->bad += !tolerable((int)n);
}

static void other_space(struct worker *w)
{
	struct hammer *h = w->h;
	struct space *s;
	u64 va, v = 1;

	if (space_create(h->e.q, CGROUP_ROOT, 0, &s))
		return;
	if (!space_map(h->e.q, s, 0, PG(8), RW, 0, &va))
		for (u32 i = 0; i < 8; i++)
			w->bad += sim_store(h->e.m, w->id, s->ms, va + PG(i), &v, 8) != 0;
	space_destroy(h->e.q, s);
}

static void move_away_and_back(struct worker *w, u64 va, u64 size)
{
	struct hammer *h = w->h;
	u64 at, to = h->away + PG(PAGES * 2 * w->id) + (va - h->va);

	if (space_remap(h->e.q, h->e.s, va, size, size, 3, to, &at))
		return;
	w->bad += !tolerable(space_remap(h->e.q, h->e.s, to, size, size, 3, va, &at));
}

static void operate(struct worker *w)
{
	struct hammer *h = w->h;
	struct quire *q = h->e.q;
	struct space *s = h->e.s;
	u32 first = rnd(w, PAGES), n = 1 + rnd(w, PAGES - first);
	u64 va = h->va + PG(first), at;
	int rc = 0;

	switch (rnd(w, 9)) {
	case 0:
		rc = space_advise(q, s, va, PG(n), ADVISE_DONTNEED);
		break;
	case 1:
		rc = space_advise(q, s, va, PG(n), ADVISE_FREE);
		break;
	case 2:
	case 3:
		rc = space_advise(q, s, va, PG(n), ADVISE_PAGEOUT);
		break;
	case 4:
		rc = space_protect(q, s, va, PG(n), rnd(w, 2) ? 0 : PROT_BITS_READ);
		if (!rc)
			rc = space_protect(q, s, va, PG(n), RW);
		break;
	case 5:
		rc = space_map(q, s, va, PG(n), RW, MAP_F_FIXED, &at);
		break;
	case 6:
		move_away_and_back(w, va, PG(n));
		break;
	case 7:
		pin_some(w);
		break;
	default:
		if (rnd(w, 8) == 0)
			other_space(w);
		reclaim_pages(q, CGROUP_ROOT, 8);
	}
	w->bad += !tolerable(rc);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	sim_cpu_bind(w->id);
	for (u32 i = 0; i < w->h->ops; i++) {
		for (u32 k = 0; k < 6; k++)
			access_word(w);
		operate(w);
	}
	return NULL;
}

static void hammer(u32 kind)
{
	const char *ops = getenv("QUIRE_HAMMER_OPS");
	struct worker w[THREADS] = { 0 };
	struct hammer h = { .ops = ops ? (u32)atoi(ops) : 1500 };

	env_open(&h.e, kind, 40, NULL);
	h.va = space_usable(h.e.s).start + PMD_SIZE - PG(PAGES / 2); /* across two tables */
	h.away = h.va + 4 * PMD_SIZE;
	assert_int_equal(space_map(h.e.q, h.e.s, h.va, PG(PAGES), RW, MAP_F_FIXED, &h.va), 0);
	for (u32 i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .h = &h, .id = i, .rng = i * 77 + kind };
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (u32 i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].bad, 0);
	}
	env_close(&h.e);
}

static void test_plain_sw(void **st)
{
	hammer(0);
}

static void test_home_sw(void **st)
{
	hammer(1);
}

static void test_plain_hw(void **st)
{
	hammer(2);
}

static void test_home_hw(void **st)
{
	hammer(3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_sw),
		cmocka_unit_test(test_home_sw),
		cmocka_unit_test(test_plain_hw),
		cmocka_unit_test(test_home_hw),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
