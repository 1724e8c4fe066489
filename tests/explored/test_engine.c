/*
 * The engine on textbook programs: known outcomes, known bugs, known absence of bugs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "explore/engine.h"
#include "explore/explore.h"
#include "explore/trace.h"

/* All of a program's memory. */
struct world {
	a32_t a, b, turn, counter, in;
	u32 r[4];
	u32 plain;
	struct mutex m, n;
	struct rwsem rw;
	u32 cs;
	a32_t park;
	u64 *object;
};
static struct world *w;

static void new_world(void)
{
	w = x_alloc(sizeof(*w), 64);
	mutex_init(&w->m, LOCK_SPACES);
	mutex_init(&w->n, LOCK_TRACE);
	rwsem_init(&w->rw, LOCK_SPACE);
}

static struct x_result run(const struct x_program *p, enum x_engine engine)
{
	struct x_options o = { .engine = engine, .bound = -1, .max_seconds = 20 };
	struct x_result r;

	x_explore(p, &o, &r);
	if (getenv("X_PRINT"))
		printf("%-18s %-6s verdict %d states %lu steps %lu runs %lu pruned %lu outcomes "
		       "%lu passes %lu shared %lu locked %lu depth %lu %.3fs %s\n",
		       p->name, x_engine_name[engine], r.verdict, r.states, r.steps, r.executions,
		       r.pruned, r.outcomes, r.passes, r.shared, r.locked, r.depth, r.seconds,
		       r.message);
	return r;
}

/* The violation is found, its message contains `what`, and replay shows it again. */
static void must_fail(const struct x_program *p, enum x_engine engine, const char *what)
{
	struct x_result r = run(p, engine), again;
	struct x_trace *t = NULL;

	assert_int_equal(r.verdict, X_VIOLATION);
	assert_non_null(strstr(r.message, what));
	assert_int_equal(x_replay(p, r.decision, r.nr_decisions, &again, &t), X_VIOLATION);
	assert_string_equal(again.message, r.message);
	assert_true(t->nr_steps > 0);
	x_trace_free(t);
	x_result_free(&again);
	/* A decision that is not what was saved is noticed. */
	r.decision[r.nr_decisions - 1].fingerprint ^= 1;
	assert_int_equal(x_replay(p, r.decision, r.nr_decisions, &again, NULL), X_DIVERGED);
	x_result_free(&again);
	x_result_free(&r);
}

/* ---- store buffering: 3 outcomes under sequential consistency ---- */

static void sb0(void *arg)
{
	a32_set(&w->a, 1);
	w->r[0] = a32_read(&w->b);
}

static void sb1(void *arg)
{
	a32_set(&w->b, 1);
	w->r[1] = a32_read(&w->a);
}

static void sb_setup(void *arg)
{
	new_world();
	x_actor("left", 0, 0, sb0, NULL);
	x_actor("right", 1, 0, sb1, NULL);
}

static void sb_end(void *arg)
{
	if (!w->r[0] && !w->r[1])
		x_fail("both read 0");
}

static void test_store_buffering(void **state)
{
	struct x_program p = { .name = "store buffering", .setup = sb_setup, .at_end = sb_end };
	struct x_result r = run(&p, X_DFS);

	assert_int_equal(r.verdict, X_EXHAUSTED);
	assert_int_equal(r.executions, 6); /* C(4, 2) */
	assert_int_equal(r.outcomes, 3);
	r = run(&p, X_HASH);
	assert_int_equal(r.verdict, X_EXHAUSTED);
	assert_int_equal(r.outcomes, 3);
	assert_int_equal(r.shared, 2);
}

/* ---- a counter without and with a lock ---- */

static void count_bare(void *arg)
{
	a32_set(&w->counter, a32_read(&w->counter) + 1);
}

static void count_locked(void *arg)
{
	mutex_lock(&w->m);
	w->plain++;
	mutex_unlock(&w->m);
}

static void count_setup(void *arg)
{
	new_world();
	for (u32 i = 0; i < 3; i++)
		x_actor("counter", i, 0, arg ? count_locked : count_bare, NULL);
}

static void count_end(void *arg)
{
	u32 n = arg ? w->plain : a32_peek(&w->counter);

	if (n != 3)
		x_fail("counted %u", n);
}

static void test_counter(void **state)
{
	static int locked;
	struct x_program p = { .name = "counter", .setup = count_setup, .at_end = count_end };
	struct x_result r;

	must_fail(&p, X_HASH, "counted 1");
	must_fail(&p, X_DFS, "counted");
	must_fail(&p, X_RANDOM, "counted");
	must_fail(&p, X_PCT, "counted");
	p.arg = &locked;
	r = run(&p, X_HASH);
	assert_int_equal(r.verdict, X_EXHAUSTED);
	r = run(&p, X_DFS);
	assert_int_equal(r.verdict, X_EXHAUSTED);
	assert_int_equal(r.executions, 6); /* 3! orders of the critical sections */
	p.flags = X_REAL_LOCKS;
	r = run(&p, X_HASH);
	assert_int_equal(r.verdict, X_EXHAUSTED);
	assert_int_equal(r.outcomes, 1);
}

/* ---- Peterson's lock: correct under sequential consistency ---- */

static void peterson(void *arg)
{
	u32 me = (u32)(uintptr_t)arg;
	a32_t *mine = me ? &w->b : &w->a, *other = me ? &w->a : &w->b;

	a32_set(mine, 1);
	a32_set(&w->turn, !me);
	while (a32_read(other) && a32_read(&w->turn) == !me)
		base_relax();
	if (a32_fetch_add(&w->in, 1))
		x_fail("two inside");
	a32_sub(&w->in, 1);
	a32_set(mine, 0);
}

static void peterson_setup(void *arg)
{
	new_world();
	x_actor("p0", 0, 0, peterson, (void *)0);
	x_actor("p1", 1, 0, peterson, (void *)1);
}

static void test_peterson(void **state)
{
	struct x_program p = { .name = "Peterson", .setup = peterson_setup };

	assert_int_equal(run(&p, X_HASH).verdict, X_EXHAUSTED);
}

/* ---- two mutexes in opposite order ---- */

static void ab(void *arg)
{
	while (!mutex_trylock(&w->m))
		base_yield();
	while (!mutex_trylock(&w->n))
		base_yield();
	mutex_unlock(&w->n);
	mutex_unlock(&w->m);
}

static void ba(void *arg)
{
	while (!mutex_trylock(&w->n))
		base_yield();
	while (!mutex_trylock(&w->m))
		base_yield();
	mutex_unlock(&w->m);
	mutex_unlock(&w->n);
}

static void abba_setup(void *arg)
{
	new_world();
	x_actor("ab", 0, 0, ab, NULL);
	x_actor("ba", 1, 0, ba, NULL);
}

static bool mine_free(void *arg)
{
	return !*(u32 *)arg;
}

static void take_raw(a32_t *l)
{
	x_await(BASE_RMW, mine_free, l, l, 4, "lock");
	a32_init(l, 1);
}

static void raw_ab(void *arg)
{
	take_raw(arg ? &w->a : &w->b);
	take_raw(arg ? &w->b : &w->a);
	a32_set(&w->a, 0);
	a32_set(&w->b, 0);
}

static void raw_setup(void *arg)
{
	new_world();
	x_actor("ab", 0, 0, raw_ab, NULL);
	x_actor("ba", 1, 0, raw_ab, w);
}

static void test_deadlock(void **state)
{
	struct x_program p = { .name = "opposite order", .setup = abba_setup };

	must_fail(&p, X_HASH, "livelock");
	p.setup = raw_setup;
	must_fail(&p, X_HASH, "deadlock");
	must_fail(&p, X_DFS, "deadlock");
}

/* ---- a sleeper that nobody wakes ---- */

static void sleeper(void *arg)
{
	while (!a32_read(&w->park))
		base_park(&w->park.raw, 0);
}

static void waker(void *arg)
{
	a32_set(&w->park, 1);
	if (arg)
		base_wake(&w->park.raw, 1);
}

static void wake_setup(void *arg)
{
	new_world();
	x_actor("sleeper", 0, 0, sleeper, NULL);
	x_actor("waker", 1, 0, waker, arg);
}

static void test_lost_wakeup(void **state)
{
	static int wakes;
	struct x_program p = { .name = "lost wake-up", .setup = wake_setup };

	must_fail(&p, X_HASH, "deadlock");
	p.arg = &wakes;
	assert_int_equal(run(&p, X_HASH).verdict, X_EXHAUSTED);
}

/* ---- memory ---- */

static void free_it(void *arg)
{
	a32_set(&w->a, 1);
	x_free(w->object, 64);
}

static void use_it(void *arg)
{
	if (!a32_read(&w->a))
		*w->object = 1;
}

static void free_again(void *arg)
{
	a32_fetch_add(&w->a, 1);
	x_free(w->object, 64);
}

static void memory_setup(void *arg)
{
	new_world();
	w->object = x_alloc(64, 16);
	x_actor("frees", 0, 0, free_it, NULL);
	x_actor("other", 1, 0, arg ? free_again : use_it, NULL);
}

static void wild(void *arg)
{
	if (a32_fetch_add(&w->a, 1))
		*(volatile int *)(uintptr_t)a32_read(&w->a) = 1;
}

static void wild_setup(void *arg)
{
	new_world();
	x_actor("one", 0, 0, wild, NULL);
	x_actor("two", 1, 0, wild, NULL);
}

static void test_memory(void **state)
{
	static int twice;
	struct x_program p = { .name = "use after free", .setup = memory_setup, .arg = &twice };

	must_fail(&p, X_HASH, "freed twice");
	p.setup = wild_setup;
	must_fail(&p, X_HASH, "wild access");
}

/* ---- the engines agree ---- */

static void rw_reader(void *arg)
{
	rwsem_read_lock(&w->rw);
	w->r[x_self()] = a32_read(&w->a);
	rwsem_read_unlock(&w->rw);
}

static void rw_writer(void *arg)
{
	rwsem_write_lock(&w->rw);
	a32_set(&w->a, a32_read(&w->a) + 1);
	rwsem_write_unlock(&w->rw);
	a32_fetch_add(&w->b, 1);
}

static void rw_downgrader(void *arg)
{
	rwsem_write_lock(&w->rw);
	a32_set(&w->a, a32_read(&w->a) + 1);
	rwsem_downgrade(&w->rw);
	w->r[3] = a32_read(&w->b);
	rwsem_read_unlock(&w->rw);
}

static void rw_small_setup(void *arg)
{
	new_world();
	x_actor("r0", 0, 0, rw_reader, NULL);
	x_actor("w0", 2, 0, rw_writer, NULL);
}

static void rw_setup(void *arg)
{
	new_world();
	x_actor("r0", 0, 0, rw_reader, NULL);
	x_actor("r1", 1, 0, rw_reader, NULL);
	x_actor("w0", 2, 0, rw_writer, NULL);
	x_actor("w1", 3, 0, rw_downgrader, NULL);
}

static void sem_post(void *arg)
{
	a32_fetch_add(&w->park, 1);
	base_wake(&w->park.raw, 1);
}

static void sem_wait(void *arg)
{
	for (;;) {
		u32 v = a32_read(&w->park);

		if (!v)
			base_park(&w->park.raw, 0);
		else if (a32_cmpxchg(&w->park, &v, v - 1))
			break;
	}
	w->r[x_self()] = a32_fetch_add(&w->counter, 1);
}

static void sem_setup(void *arg)
{
	new_world();
	x_actor("wait0", 0, 0, sem_wait, NULL);
	x_actor("wait1", 1, 0, sem_wait, NULL);
	x_actor("post0", 2, 0, sem_post, NULL);
	x_actor("post1", 3, 0, sem_post, NULL);
}

static void rcu_reader(void *arg)
{
	base_rcu_read_lock();
	w->r[x_self()] = a32_read(&w->a) + 10 * a32_read(&w->b);
	base_rcu_read_unlock();
}

static void rcu_writer(void *arg)
{
	a32_set(&w->a, 1);
	base_rcu_synchronize();
	a32_set(&w->b, 1);
}

static void rcu_setup(void *arg)
{
	new_world();
	x_actor("r0", 0, 0, rcu_reader, NULL);
	x_actor("r1", 1, 0, rcu_reader, NULL);
	x_actor("w", 2, 0, rcu_writer, NULL);
}

static void rcu_end(void *arg)
{
	for (u32 i = 0; i < 2; i++) {
		if (w->r[i] == 10)
			x_fail("a reader saw what came after the grace period only");
	}
}

static bool is_one(void *arg)
{
	return *(u32 *)arg == 1;
}

static void window_waiter(void *arg)
{
	x_wait(is_one, &w->a, &w->a, 4, "a is 1");
	a32_fetch_add(&w->counter, 1);
}

static void window(void *arg)
{
	a32_set(&w->a, 1);
	a32_set(&w->a, 0);
	a32_set(&w->a, 1);
	w->r[0] = a32_read(&w->counter);
}

static void window_setup(void *arg)
{
	new_world();
	x_actor("waiter", 0, X_AGENT, window_waiter, NULL);
	x_actor("window", 1, 0, window, NULL);
}

static void chooser(void *arg)
{
	u32 v = x_choose(3, "value");

	if (v)
		a32_set(&w->a, v);
	if (x_choose(2, "again"))
		a32_set(&w->b, a32_read(&w->a));
}

static void choose_setup(void *arg)
{
	new_world();
	x_actor("c0", 0, 0, chooser, NULL);
	x_actor("c1", 1, 0, chooser, NULL);
}

static void yielder(void *arg)
{
	for (u32 i = 0; i < 2; i++) {
		while (!mutex_trylock(&w->m))
			base_yield();
		w->plain++;
		mutex_unlock(&w->m);
	}
}

static void yield_setup(void *arg)
{
	new_world();
	x_actor("y0", 0, 0, yielder, NULL);
	x_actor("y1", 1, 0, yielder, NULL);
}

static void test_agreement(void **state)
{
	static const struct x_program programs[] = {
		{ .name = "store buffering", .setup = sb_setup },
		{ .name = "bare counter", .setup = count_setup },
		{ .name = "Peterson", .setup = peterson_setup },
		{ .name = "choices", .setup = choose_setup },
		{ .name = "rwsem", .setup = rw_setup },
		{ .name = "rwsem, real", .setup = rw_small_setup, .flags = X_REAL_LOCKS },
		{ .name = "semaphore", .setup = sem_setup },
		{ .name = "RCU", .setup = rcu_setup, .at_end = rcu_end },
		{ .name = "window", .setup = window_setup },
		{ .name = "retries", .setup = yield_setup },
	};

	for (u32 i = 0; i < ARRAY_SIZE(programs); i++) {
		const struct x_program *p = &programs[i];
		struct x_result h = run(p, X_HASH), s = run(p, X_SLEEP), d = run(p, X_DPOR);

		assert_int_equal(h.verdict, X_EXHAUSTED);
		assert_int_equal(s.verdict, X_EXHAUSTED);
		assert_int_equal(d.verdict, X_EXHAUSTED);
		assert_int_equal(h.outcomes, s.outcomes);
		assert_int_equal(h.outcomes, d.outcomes);
		assert_int_equal(h.outcome_sum, s.outcome_sum);
		assert_int_equal(h.outcome_sum, d.outcome_sum);
		assert_int_equal(s.executions, d.executions);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_buffering), cmocka_unit_test(test_counter),
		cmocka_unit_test(test_peterson),        cmocka_unit_test(test_deadlock),
		cmocka_unit_test(test_lost_wakeup),     cmocka_unit_test(test_memory),
		cmocka_unit_test(test_agreement),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
