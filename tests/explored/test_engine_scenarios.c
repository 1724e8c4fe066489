/*
 * The engines on the real core: on every scenario that is small enough all of them see the same
 * outcomes, sleep sets and DPOR complete the same number of runs, and the points that were learnt
 * lead to the same outcomes as all points would; and no write escapes the explorer's log.
 *
 * With arguments it explores by hand: test_engine_scenarios SCENARIO [KIND [MECHANISM]].
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore/engine.h"
#include "explore/scenario.h"
#include "explore/trace.h"

#ifndef SMALL_STATES       /* else by test_engine_scenarios_deep.c */
#define SMALL_STATES 800   /* a scenario with more is left out */
#define SMALL_STEPS  60000 /* of DPOR, likewise */
#endif

static struct scenario_run current;

static struct x_program program(const struct scenario *s, u32 kind, u64 off)
{
	current = (struct scenario_run){ .scenario = s, .kind = kind };
	/* The outcome is all of memory. */
	return (struct x_program){ .name = s->name,
				   .setup = scenario_setup,
				   .at_step = s->step ? scenario_at_step : NULL,
				   .at_end = scenario_at_end,
				   .arg = &current,
				   .off = off,
				   .composed = s->composed,
				   .nr_composed = s->nr_composed,
				   .flags = s->flags };
}

static struct x_result explore(const struct x_program *p, const struct x_options *o)
{
	struct x_result r;

	x_explore(p, o, &r);
	if (r.verdict == X_VIOLATION || getenv("X_PRINT"))
		printf("%s on %s, %s: verdict %d, %lu states, %lu steps, %lu runs, %lu outcomes, "
		       "%.2f s %s\n",
		       p->name, scenario_kind_name[current.kind], x_engine_name[o->engine],
		       r.verdict, r.states, r.steps, r.executions, r.outcomes, r.seconds,
		       r.message);
	x_result_free(&r);
	return r;
}

static void same_outcomes(const struct x_result *a, const struct x_result *b)
{
	assert_int_equal(a->outcomes, b->outcomes);
	assert_int_equal(a->outcome_sum, b->outcome_sum);
}

/* False: it is too large for the comparison. */
static bool agree(const struct scenario *s, u32 kind)
{
	struct x_program p = program(s, kind, 0);
	struct x_options o = { .bound = -1, .max_states = SMALL_STATES };
	struct x_result hash = explore(&p, &o), every, sleep, dpor;

	if (hash.verdict == X_NOT_EXHAUSTED)
		return false;
	assert_int_equal(hash.verdict, X_EXHAUSTED);
	o = (struct x_options){ .bound = -1, .every_point = true };
	every = explore(&p, &o);
	assert_int_equal(every.verdict, X_EXHAUSTED);
	same_outcomes(&hash, &every);
	o = (struct x_options){ .engine = X_DPOR, .bound = -1, .max_steps_all = SMALL_STEPS };
	dpor = explore(&p, &o);
	if (dpor.verdict == X_NOT_EXHAUSTED)
		return false;
	o = (struct x_options){ .engine = X_SLEEP, .bound = -1 };
	sleep = explore(&p, &o);
	assert_int_equal(dpor.verdict, X_EXHAUSTED);
	assert_int_equal(sleep.verdict, X_EXHAUSTED);
	same_outcomes(&hash, &dpor);
	same_outcomes(&hash, &sleep);
	assert_int_equal(sleep.executions, dpor.executions);
	return true;
}

static void test_agreement(void **state)
{
	u32 compared = 0;

	for (const struct scenario *s = scenario_first(); s; s = scenario_next(s)) {
		for (u32 kind = 0; kind < NR_SCENARIO_KINDS; kind++) {
			if (!(s->kinds & BIT(kind)) || !agree(s, kind))
				continue;
			printf("%s on %s: the engines agree\n", s->name, scenario_kind_name[kind]);
			compared++;
		}
	}
	printf("%u compared\n", compared);
	assert_true(compared >= 20); /* else SMALL_STATES has become too small */
}

static void test_writes_are_seen(void **state)
{
	static const char *const names[] = { "unmap_store", "reclaim_store", "swap_two_faults",
					     "remap_walk" };

	for (u32 i = 0; i < ARRAY_SIZE(names); i++) {
		const struct scenario *s = scenario_find(names[i]);
		struct x_program p;
		struct x_options o = { .engine = X_RANDOM,
				       .bound = -1,
				       .verify = true,
				       .max_executions = 5,
				       .no_races = true };

		assert_non_null(s);
		p = program(s, ON_HW, 0);
		assert_int_equal(explore(&p, &o).verdict, X_NOT_EXHAUSTED);
	}
}

static void test_bugs_replay(void **state)
{
	const struct scenario *s = scenario_find("unmap_store");
	struct x_program p = program(s, ON_HW, BIT(MECH_FLUSH_BEFORE_FREE));
	static const enum x_engine engine[] = { X_HASH, X_DPOR, X_RANDOM, X_PCT };

	for (u32 i = 0; i < ARRAY_SIZE(engine); i++) {
		struct x_options o = { .engine = engine[i], .bound = i == 3 ? 3 : -1 };
		struct x_result r, again;
		struct x_trace *t;

		assert_int_equal(x_explore(&p, &o, &r), X_VIOLATION);
		assert_int_equal(x_replay(&p, r.decision, r.nr_decisions, &again, &t), X_VIOLATION);
		assert_string_equal(r.message, again.message);
		assert_true(t->nr_steps > 2);
		x_trace_free(t);
		x_result_free(&again);
		x_result_free(&r);
	}
}

/* ---- by hand ---- */

static void print(const struct x_trace *t)
{
	for (u32 i = 0; i < t->nr_steps; i++) {
		const struct x_trace_step *s = &t->step[i];

		printf("%4u %*s%-10s %s [%s]\n", i, (int)s->actor * 4, "", t->actor[s->actor].name,
		       s->what, s->where);
		for (u32 k = 0; k < s->nr_notes; k++)
			printf("        %s\n", s->note[k]);
		for (u32 k = 0; k < t->nr_watches; k++)
			if (s->watch[k])
				printf("              %s %s = %s\n", t->watch[k].group,
				       t->watch[k].name, s->watch[k]);
	}
}

static void by_hand_one(const struct scenario *s, u32 kind, u64 off)
{
	struct x_options o = { .bound = -1, .max_seconds = 10 };
	struct x_program p = program(s, kind, off);
	struct x_result r, again;
	struct x_trace *t;

	if (getenv("X_SECONDS"))
		o.max_seconds = atof(getenv("X_SECONDS"));
	if (getenv("X_BOUND"))
		o.bound = atoi(getenv("X_BOUND"));
	o.all_races = getenv("X_ALLRACES");
	o.every_point = getenv("X_EVERY");
	for (u32 e = 0; e < X_NR_ENGINES; e++)
		if (getenv("X_ENGINE") && !strcmp(getenv("X_ENGINE"), x_engine_name[e]))
			o.engine = e;
	x_explore(&p, &o, &r);
	printf("%-18s %-4s off %#-6lx %-6s verdict %d%s%s states %lu steps %lu runs %lu+%lu "
	       "outcomes %lu passes %lu shared %lu locked %lu depth %lu %.3f s %.2f M/s %s\n",
	       s->name, scenario_kind_name[kind], off, x_engine_name[o.engine], r.verdict,
	       r.why_not ? " " : "", r.why_not ? r.why_not : "", r.states, r.steps, r.executions,
	       r.pruned, r.outcomes, r.passes, r.shared, r.locked, r.depth, r.seconds,
	       (double)r.steps / r.seconds / 1e6, r.message);
	fflush(stdout);
	if (r.verdict == X_VIOLATION && getenv("X_TRACE")) {
		printf("replay: %d\n", x_replay(&p, r.decision, r.nr_decisions, &again, &t));
		print(t);
		x_trace_free(t);
		x_result_free(&again);
	}
	x_result_free(&r);
}

static int by_hand(const char *name, const char *kind, const char *off)
{
	for (const struct scenario *s = scenario_first(); s; s = scenario_next(s)) {
		if (strcmp(name, "all") && strcmp(name, s->name))
			continue;
		for (u32 k = 0; k < NR_SCENARIO_KINDS; k++) {
			u64 switches = scenario_switches(s, k);

			if (!(s->kinds & BIT(k)) ||
			    (kind && strcmp(kind, scenario_kind_name[k]) && strcmp(kind, "all")))
				continue;
			if (!off)
				by_hand_one(s, k, 0);
			for (u32 m = 0; m < NR_MECHANISMS && off; m++) {
				if ((switches & BIT(m)) &&
				    (!strcmp(off, "all") || !strcmp(off, mechanism_info[m].name)))
					by_hand_one(s, k, BIT(m));
			}
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agreement),
		cmocka_unit_test(test_writes_are_seen),
		cmocka_unit_test(test_bugs_replay),
	};

	if (argc > 1)
		return by_hand(argv[1], argv[2], argc > 3 ? argv[3] : NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
