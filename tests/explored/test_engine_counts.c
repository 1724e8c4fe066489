/*
 * Programs whose number of traces or outcomes is known, and bugs that only certain orders show:
 * readers and writers, store buffers, Dekker's lock, a ticket lock, a stack with the ABA problem,
 * races of plain accesses, memory.
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

struct node {
	aptr_t next;
	u32 taken;
};

/* One processor's store that has not reached memory yet. */
struct buffer {
	a32_t *to; /* NULL: empty */
	u32 value;
};

struct world {
	a32_t a, b, next, owner, ready;
	u32 r[8];
	u32 plain;
	struct buffer buffer[2];
	bool fence, buffered;
	aptr_t top;
	a64_t counted_top;
	struct node *node[2];
	struct spin spin;
	struct world *own;
};
static struct world *w;

static void new_world(void)
{
	w = x_alloc(sizeof(*w), 64);
	spin_init(&w->spin, LOCK_LRU);
}

static struct x_result run(const struct x_program *p, enum x_engine engine)
{
	struct x_options o = { .engine = engine, .bound = -1, .max_seconds = 20 };
	struct x_result r;

	x_explore(p, &o, &r);
	if (getenv("X_PRINT"))
		printf("%-18s %-6s verdict %d states %lu steps %lu runs %lu outcomes %lu %s\n",
		       p->name, x_engine_name[engine], r.verdict, r.states, r.steps, r.executions,
		       r.outcomes, r.message);
	x_result_free(&r);
	return r;
}

/* Both searches without a table complete exactly `traces` runs; all three see `outcomes`. */
static void counts(const struct x_program *p, u64 traces, u64 outcomes)
{
	static const enum x_engine engine[] = { X_HASH, X_SLEEP, X_DPOR };

	for (u32 i = 0; i < ARRAY_SIZE(engine); i++) {
		struct x_result r = run(p, engine[i]);

		assert_int_equal(r.verdict, X_EXHAUSTED);
		assert_int_equal(r.outcomes, outcomes);
		if (i)
			assert_int_equal(r.executions, traces);
	}
}

static void fails(const struct x_program *p, const char *what)
{
	static const enum x_engine engine[] = { X_HASH, X_SLEEP, X_DPOR };

	for (u32 i = 0; i < ARRAY_SIZE(engine); i++) {
		struct x_result r = run(p, engine[i]);

		assert_int_equal(r.verdict, X_VIOLATION);
		assert_non_null(strstr(r.message, what));
	}
}

/* ---- n writers of one word: n! traces; one writer and n readers: 2^n ---- */

static void writes(void *arg)
{
	a32_set(&w->a, (u32)(uintptr_t)arg);
}

static void reads(void *arg)
{
	w->r[x_self()] = a32_read(&w->a);
}

static void writers_setup(void *arg)
{
	new_world();
	for (uintptr_t i = 1; i <= 4; i++)
		x_actor("writer", 0, 0, writes, (void *)i);
}

static void readers_setup(void *arg)
{
	new_world();
	x_actor("writer", 0, 0, writes, (void *)1);
	for (u32 i = 0; i < 5; i++)
		x_actor("reader", 0, 0, reads, NULL);
}

static void test_words(void **state)
{
	counts(&(struct x_program){ .name = "writers", .setup = writers_setup }, 24, 4);
	counts(&(struct x_program){ .name = "readers", .setup = readers_setup }, 32, 32);
}

/* ---- store buffers ---- */

static bool buffer_full(void *arg)
{
	return ((struct buffer *)arg)->to;
}

static bool buffer_empty(void *arg)
{
	return !((struct buffer *)arg)->to;
}

/* The processor writes its store to memory some time later. */
static void drains(void *arg)
{
	struct buffer *b = arg;

	for (;;) {
		x_await(BASE_RMW, buffer_full, b, b, sizeof(*b), "drain");
		x_access(BASE_WRITE, b->to, 4, "store");
		a32_init(b->to, b->value);
		x_access(BASE_RMW, b, sizeof(*b), "drained");
		b->to = NULL;
	}
}

static void store(u32 me, a32_t *to, u32 value)
{
	struct buffer *b = &w->buffer[me];

	if (!w->buffered) {
		a32_set(to, value);
		return;
	}
	x_await(BASE_RMW, buffer_empty, b, b, sizeof(*b), "buffer a store");
	b->value = value;
	b->to = to;
}

static void fence(u32 me)
{
	if (w->buffered && w->fence)
		x_wait(buffer_empty, &w->buffer[me], &w->buffer[me], sizeof(w->buffer[me]),
		       "fence");
}

static void buffering(void *arg)
{
	u32 me = x_self();

	store(me, me ? &w->b : &w->a, 1);
	fence(me);
	w->r[me] = a32_read(me ? &w->a : &w->b);
}

static u64 registers(void *arg)
{
	return 1 + w->r[0] + 2 * w->r[1];
}

enum { BUFFERED = 1, FENCED = 2 };

static void processors(void *arg, void (*fn)(void *arg))
{
	uintptr_t how = (uintptr_t)arg;

	new_world();
	w->buffered = how & BUFFERED;
	w->fence = how & FENCED;
	x_actor("p0", 0, 0, fn, NULL);
	x_actor("p1", 1, 0, fn, NULL);
	if (!w->buffered)
		return;
	x_actor("buffer 0", 0, X_AGENT, drains, &w->buffer[0]);
	x_actor("buffer 1", 1, X_AGENT, drains, &w->buffer[1]);
}

static void buffering_setup(void *arg)
{
	processors(arg, buffering);
}

/* Dekker's lock in its shortest form: whoever sees the other one gives up. */
static void dekker(void *arg)
{
	u32 me = x_self();

	store(me, me ? &w->b : &w->a, 1);
	fence(me);
	if (a32_read(me ? &w->a : &w->b))
		return;
	w->r[me] = 1;
	if (a32_fetch_add(&w->owner, 1))
		x_fail("two inside");
}

static void dekker_setup(void *arg)
{
	processors(arg, dekker);
}

static void test_store_buffers(void **state)
{
	struct x_program p = { .name = "store buffers",
			       .setup = buffering_setup,
			       .outcome = registers };

	counts(&p, 3, 3);
	p.arg = (void *)BUFFERED;
	assert_int_equal(run(&p, X_HASH).outcomes, 4);
	assert_int_equal(run(&p, X_DPOR).outcomes, 4);
	assert_int_equal(run(&p, X_DPOR).executions, run(&p, X_SLEEP).executions);
	p.arg = (void *)(BUFFERED | FENCED);
	assert_int_equal(run(&p, X_HASH).outcomes, 3);
	p = (struct x_program){ .name = "Dekker", .setup = dekker_setup };
	assert_int_equal(run(&p, X_HASH).verdict, X_EXHAUSTED);
	p.arg = (void *)(BUFFERED | FENCED);
	assert_int_equal(run(&p, X_HASH).verdict, X_EXHAUSTED);
	p.arg = (void *)BUFFERED;
	fails(&p, "two inside");
}

/* ---- a ticket lock: the order of tickets is the order of owners ---- */

static bool my_turn(void *arg)
{
	return w->owner.raw == *(u32 *)arg;
}

static void ticket(void *arg)
{
	u32 *mine = &w->r[x_self()];

	*mine = a32_fetch_add(&w->next, 1);
	x_await(BASE_READ, my_turn, mine, &w->owner, 4, "my turn");
	if (w->plain++ != *mine)
		x_fail("out of turn");
	a32_set_release(&w->owner, *mine + 1);
}

static void ticket_setup(void *arg)
{
	new_world();
	for (u32 i = 0; i < 4; i++)
		x_actor("customer", i, 0, ticket, NULL);
}

static void test_ticket_lock(void **state)
{
	counts(&(struct x_program){ .name = "ticket lock", .setup = ticket_setup }, 24, 24);
}

/* ---- a stack whose pop may be fooled by a node that went and came back ---- */

#define COUNTED(n, count) ((u64)(uintptr_t)(n) | (u64)(count) << 48)
#define NODE(v)           ((struct node *)(uintptr_t)((v) & (BIT(48) - 1)))

static struct node *pop(bool counted)
{
	for (;;) {
		u64 top = a64_read(&w->counted_top);
		struct node *n = NODE(top);
		u64 next;

		if (!n)
			return NULL;
		next = COUNTED(aptr_read(&n->next), counted ? (top >> 48) + 1 : 0);
		if (a64_cmpxchg(&w->counted_top, &top, next))
			return n;
	}
}

static void push(struct node *n, bool counted)
{
	u64 top = a64_read(&w->counted_top);

	do {
		aptr_set(&n->next, NODE(top));
	} while (!a64_cmpxchg(&w->counted_top, &top, COUNTED(n, counted ? (top >> 48) + 1 : 0)));
}

static void take(struct node *n)
{
	if (n && __atomic_fetch_add(&n->taken, 1, __ATOMIC_SEQ_CST))
		x_fail("a node belongs to two");
}

static void give(struct node *n)
{
	__atomic_fetch_sub(&n->taken, 1, __ATOMIC_SEQ_CST);
}

static void pops_twice(void *arg)
{
	take(pop(arg));
	take(pop(arg));
}

static void pops_and_returns(void *arg)
{
	struct node *first = pop(arg);

	take(first);
	take(pop(arg));
	if (!first)
		return;
	give(first);
	push(first, arg);
}

static void stack_setup(void *arg)
{
	new_world();
	w->node[0] = x_alloc(sizeof(struct node), 16);
	w->node[1] = x_alloc(sizeof(struct node), 16);
	aptr_init(&w->node[0]->next, w->node[1]);
	a64_init(&w->counted_top, COUNTED(w->node[0], 0));
	x_actor("pops", 0, 0, pops_twice, arg);
	x_actor("returns", 1, 0, pops_and_returns, arg);
}

static void test_aba(void **state)
{
	struct x_program p = { .name = "ABA", .setup = stack_setup };
	struct x_result s, d;

	fails(&p, "belongs to two");
	p.arg = (void *)1;
	assert_int_equal(run(&p, X_HASH).verdict, X_EXHAUSTED);
	s = run(&p, X_SLEEP);
	d = run(&p, X_DPOR);
	assert_int_equal(d.verdict, X_EXHAUSTED);
	assert_int_equal(s.executions, d.executions);
}

/* ---- races of plain accesses ---- */

enum { NO_ORDER, RELAXED, RELEASED, LOCKED };

static void publishes(void *arg)
{
	uintptr_t how = (uintptr_t)arg;

	if (how == LOCKED)
		spin_lock(&w->spin);
	w->plain++;
	if (how == LOCKED)
		spin_unlock(&w->spin);
	else if (how == RELEASED)
		a32_set_release(&w->ready, 1);
	else if (how == RELAXED)
		a32_set(&w->ready, 1);
}

static void looks(void *arg)
{
	uintptr_t how = (uintptr_t)arg;

	if (how == LOCKED)
		spin_lock(&w->spin);
	if (how == LOCKED || how == NO_ORDER || a32_read_acquire(&w->ready))
		w->r[0] = w->plain;
	if (how == LOCKED)
		spin_unlock(&w->spin);
}

static void race_setup(void *arg)
{
	new_world();
	x_actor("publishes", 0, 0, publishes, arg);
	x_actor("looks", 1, 0, looks, arg);
}

static void test_races(void **state)
{
	struct x_program p = { .name = "race", .setup = race_setup, .arg = (void *)NO_ORDER };
	struct x_options o = { .bound = -1 };
	struct x_result r, again;

	fails(&p, "data race");
	x_explore(&p, &o, &r);
	assert_true(r.race);
	assert_int_equal(x_replay(&p, r.decision, r.nr_decisions, &again, NULL), X_VIOLATION);
	assert_string_equal(r.message, again.message);
	x_result_free(&again);
	x_result_free(&r);
	p.arg = (void *)RELAXED;
	fails(&p, "data race");
	p.arg = (void *)RELEASED;
	r = run(&p, X_HASH);
	assert_int_equal(r.verdict, X_EXHAUSTED);
	assert_true(r.race_runs > 0);
	p.arg = (void *)LOCKED;
	assert_int_equal(run(&p, X_HASH).verdict, X_EXHAUSTED);
}

/* ---- composition: a section of a listed class has no steps inside ---- */

static void sections(void *arg)
{
	spin_lock(&w->spin);
	a32_set(&w->a, a32_read(&w->a) + 1);
	spin_unlock(&w->spin);
	a32_add(&w->b, 1);
}

static void bare(void *arg)
{
	w->r[0] = a32_read(&w->a);
}

static void sections_setup(void *arg)
{
	new_world();
	x_actor("s0", 0, 0, sections, NULL);
	x_actor("s1", 1, 0, sections, NULL);
	x_actor("reads", 2, 0, bare, NULL);
}

static void test_composition(void **state)
{
	static const u32 classes[] = { LOCK_LRU };
	struct x_program p = { .name = "sections", .setup = sections_setup };
	struct x_result full = run(&p, X_HASH), composed;

	p.composed = classes;
	p.nr_composed = 1;
	composed = run(&p, X_HASH);
	assert_int_equal(full.verdict, X_EXHAUSTED);
	assert_int_equal(composed.verdict, X_EXHAUSTED);
	assert_int_equal(full.outcomes, composed.outcomes);
	assert_true(composed.states < full.states);
}

/* ---- bounds ---- */

static void increments(void *arg)
{
	a32_set(&w->a, a32_read(&w->a) + 1);
}

static void increments_setup(void *arg)
{
	new_world();
	for (u32 i = 0; i < 3; i++)
		x_actor("increments", i, 0, increments, NULL);
}

static void increments_end(void *arg)
{
	if (a32_peek(&w->a) < 3)
		x_fail("lost an increment");
}

static void test_bounds(void **state)
{
	struct x_program p = { .name = "bounds",
			       .setup = increments_setup,
			       .at_end = increments_end };
	struct x_options o = { .bound = 0, .no_samples = true };
	struct x_result r;

	/* A lost increment takes a preemption. */
	assert_int_equal(x_explore(&p, &o, &r), X_EXHAUSTED);
	x_result_free(&r);
	o.bound = 1;
	assert_int_equal(x_explore(&p, &o, &r), X_VIOLATION);
	x_result_free(&r);
	o = (struct x_options){ .bound = -1, .max_states = 10 };
	p = (struct x_program){ .name = "ticket lock", .setup = ticket_setup };
	assert_int_equal(x_explore(&p, &o, &r), X_NOT_EXHAUSTED);
	assert_string_equal(r.why_not, "states");
	x_result_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),       cmocka_unit_test(test_store_buffers),
		cmocka_unit_test(test_ticket_lock), cmocka_unit_test(test_aba),
		cmocka_unit_test(test_races),       cmocka_unit_test(test_composition),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
