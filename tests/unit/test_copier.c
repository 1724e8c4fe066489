/* The threads that copy for migration: contents, errors, several migrations, forking. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core_env.h"
#include "migrate/migrate_internal.h"

#define PAGES 512u

static struct folio *alloc_other(struct quire *q, struct folio *src, void *ctx)
{
	(void)ctx;
	return phys_alloc(q, !folio_node(src), src->order);
}

static const struct migrate_ops ops = { .alloc = alloc_other };

/* Everything in [va, va + n) goes to the other node. Pages that moved. */
static u64 move(struct env *e, u64 va, u64 n)
{
	struct migrate_counts c = { 0 };
	struct list folios;

	list_init(&folios);
	lru_drain_all(e->q);
	for (u64 i = 0; i < n; i++) {
		struct folio *f = folio_head(env_page_at(e, va + PG(i)));

		if (lru_isolate(e->q, f))
			list_add_tail(&f->lru, &folios);
	}
	gate_enter(&e->q->gate);
	(void)!migrate_folios(e->q, &folios, &ops, NULL, MIGRATE_ASYNC, MIGRATE_FOR_CALL, &c);
	gate_exit(&e->q->gate);
	lru_putback_list(e->q, &folios);
	return c.moved;
}

static u64 open_env(struct env *e, u32 threads, u32 min_pages)
{
	u64 va;

	env_open_nodes(e, 2, 0, NULL, 2);
	va = env_map(e, PAGES, RW, 0);
	env_write(e, va, PAGES, 1);
	assert_int_equal(copier_start(e->q, threads, min_pages), 0);
	return va;
}

static void copies(void **st)
{
	(void)st;
	for (u32 threads = 0; threads <= 3; threads++) {
		struct env e;
		u64 va = open_env(&e, threads, threads == 2 ? 64 : 1);

		assert_int_equal(copier_start(e.q, 1, 1), -EALREADY);
		for (u32 round = 0; round < 6; round++) {
			assert_int_equal(move(&e, va, PAGES), PAGES);
			env_expect(&e, va, PAGES, 1, 0);
		}
		copier_stop(e.q);
		assert_int_equal(move(&e, va, PAGES), PAGES);
		env_expect(&e, va, PAGES, 1, 0);
		assert_int_equal(copier_start(e.q, COPIER_THREADS + 1, 1), -EINVAL);
		assert_int_equal(copier_start(e.q, 1, 1), 0);
		env_close(&e); /* stops it */
	}
}

/* No thread is to be had: none runs, and everything is copied all the same. */
static void no_threads(void **st)
{
	struct env e;
	u64 va = open_env(&e, 0, 1);

	(void)st;
	copier_stop(e.q);
	for (u32 nth = 1; nth <= 3; nth++) {
		inject_at(&e.inject, INJECT_MACHINE_CALL, nth);
		assert_int_equal(copier_start(e.q, 3, 1), -EAGAIN);
		inject_off(&e.inject, INJECT_MACHINE_CALL);
		assert_int_equal(move(&e, va, PAGES), PAGES);
	}
	env_expect(&e, va, PAGES, 1, 0);
	env_close(&e);
}

static struct {
	const struct machine_ops *real;
	a32_t calls;
	u32 fail_at; /* every so many-th buffer is not to be had */
} failing;

static void *failing_fill(struct machine *m, u64 pfn, u32 nr)
{
	if (a32_add_return(&failing.calls, 1) % failing.fail_at == 0)
		return NULL;
	return failing.real->fill_begin(m, pfn, nr);
}

/* A piece that cannot be copied: its folio stays, the others go. */
static void errors(void **st)
{
	struct machine_ops wrapped;
	struct env e;
	u64 va = open_env(&e, 2, 1), moved = 0;

	(void)st;
	failing.real = e.m->ops;
	wrapped = *e.m->ops;
	wrapped.fill_begin = failing_fill;
	for (failing.fail_at = 2; failing.fail_at < 7; failing.fail_at++) {
		u64 now;

		e.m->ops = &wrapped;
		now = move(&e, va, PAGES);
		e.m->ops = failing.real;
		assert_true(now < PAGES);
		moved += now;
		env_check(&e);
		env_expect(&e, va, PAGES, 1, 0);
	}
	assert_int_not_equal(moved, 0);
	env_close(&e);
}

/* ---- threads ---- */

struct worker {
	struct env *e;
	u64 va;
	pthread_t id;
};

static void *worker(void *arg)
{
	struct worker *w = arg;
	u64 moved = 0;

	for (u32 i = 0; i < 20; i++)
		moved += move(w->e, w->va, PAGES / 4);
	assert_int_not_equal(moved, 0);
	return NULL;
}

/* Several migrations, of which one has the copier; the gate closes now and then, as for a fork:
 * then no piece is under way. */
static void concurrent(void **st)
{
	struct worker w[3];
	struct env e;
	u64 va = open_env(&e, 2, 8);

	(void)st;
	for (u32 i = 0; i < 3; i++) {
		w[i].e = &e;
		w[i].va = va + PG(i * PAGES / 4);
		assert_int_equal(pthread_create(&w[i].id, NULL, worker, &w[i]), 0);
	}
	for (u32 i = 0; i < 200; i++) {
		gate_close(&e.q->gate);
		assert_false(e.q->migrate->copier.busy);
		gate_open(&e.q->gate);
	}
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(pthread_join(w[i].id, NULL), 0);
	env_expect(&e, va, PAGES, 1, 0);
	env_close(&e);
}

/* In a forked child the threads do not exist, and are started anew. */
static void forked(void **st)
{
#ifdef __SANITIZE_THREAD__
	(void)st;
	skip(); /* it allows no threads there */
#else
	struct env e;
	u64 va = open_env(&e, 2, 1);
	int status = 0;
	pid_t child;

	(void)st;
	assert_int_equal(move(&e, va, PAGES), PAGES);
	gate_close(&e.q->gate);
	child = fork();
	if (!child) {
		gate_reset(&e.q->gate);
		copier_forked_child(e.q);
		_exit(e.q->migrate->copier.nr == 2 && move(&e, va, PAGES) == PAGES ? 0 : 1);
	}
	gate_open(&e.q->gate);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(move(&e, va, PAGES), PAGES);
	env_expect(&e, va, PAGES, 1, 0);
	env_close(&e);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies), cmocka_unit_test(no_threads),
		cmocka_unit_test(errors), cmocka_unit_test(concurrent),
		cmocka_unit_test(forked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
