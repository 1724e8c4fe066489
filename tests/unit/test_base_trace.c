/* Trace rings, counters, and the tables made from the lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/mech.h"
#include "base_instance.h"

static struct base_instance inst;
static a32_t stop;

struct seen {
	u64 n;
	u64 first;
	u64 last;
};

static void look(void *ctx, const struct trace_record *r)
{
	struct seen *s = ctx;

	BUG_ON(r->arg[0] != r->arg[1] || r->arg[1] != ~r->arg[2]); /* torn */
	BUG_ON(r->cpu >= MAX_CPUS || r->event != EV_MAP);
	if (!s->n++)
		s->first = r->arg[0];
	s->last = r->arg[0];
}

static u64 ticks(void *ctx)
{
	return ++*(u64 *)ctx;
}

static void test_single(void **state)
{
	struct quire *q = base_instance_init(&inst);
	struct seen s = { 0, 0, 0 };
	u64 now = 0;

	(void)state;
	assert_false(trace_on(q));
	TRACE(q, EV_MAP, 1, 1, ~1ull);
	assert_int_equal(trace_dump(q, look, &s), 0);
	trace_set_clock(q, ticks, &now);
	assert_int_equal(trace_enable(q, 100), 0);
	assert_true(trace_on(q));
	for (u64 i = 1; i <= 50; i++)
		TRACE(q, EV_MAP, i, i, ~i);
	assert_int_equal(trace_dump(q, look, &s), 50);
	assert_int_equal(s.first, 1);
	assert_int_equal(s.last, 50);
	assert_int_equal(now, 50);
	for (u64 i = 51; i <= 100000; i++)
		TRACE(q, EV_MAP, i, i, ~i);
	s.n = 0;
	assert_in_range(trace_dump(q, look, &s), 128, 128 * MAX_CPUS);
	assert_int_equal(s.last, 100000);
	inject_every(&inst.inject, INJECT_ARENA, 1);
	assert_int_equal(trace_enable(q, 64), -ENOMEM);
	inject_off(&inst.inject, INJECT_ARENA);
	assert_true(trace_on(q));
	trace_disable(q);
	assert_false(trace_on(q));
	assert_string_equal(trace_event_name(EV_MAP), "MAP");
	assert_non_null(trace_event_format(EV_MAP));
	base_instance_destroy(&inst);
}

static void *emitter(void *arg)
{
	for (u64 i = (uintptr_t)arg; !a32_read(&stop); i += 2) {
		TRACE(&inst.q, EV_MAP, i, i, ~i);
		stat_inc(&inst.q, STAT_PIN);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct quire *q = base_instance_init(&inst);
	struct seen s = { 0, 0, 0 };
	pthread_t t[3];
	u64 used;

	(void)state;
	used = arena_used(q->arena);
	a32_set(&stop, 0);
	for (uintptr_t i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, emitter, (void *)i);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(trace_enable(q, 16), 0);
		base_yield();
		for (int k = 0; k < 5; k++)
			trace_dump(q, look, &s);
		if (i % 3 == 0)
			trace_disable(q);
	}
	a32_set(&stop, 1);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	trace_disable(q);
	assert_true(s.n > 0);
	assert_true(stat_read(q, STAT_PIN) > 0);
	assert_int_equal(stat_read(q, STAT_WARN), 0);
	assert_int_equal(arena_used(q->arena), used);
	base_instance_destroy(&inst);
}

static void test_tables(void **state)
{
	(void)state;
	for (u32 i = 0; i < NR_STATS; i++)
		assert_true(stat_info[i].name && stat_info[i].json && stat_info[i].text);
	for (u32 i = 0; i < NR_MECHANISMS; i++)
		assert_true(mechanism_info[i].name && mechanism_info[i].commit);
	assert_true(mech_on(&inst.q, MECH_FLUSH_BEFORE_FREE));
	for (u32 i = 0; i < NR_INJECT_POINTS; i++)
		assert_non_null(inject_name(i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
