/*
 * Every scenario, on every machine that it runs on: argument or environment selects (development).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore/engine.h"
#include "explore/scenario.h"
#include "explore/trace.h"

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

static int one(const struct scenario *s, u32 kind, u64 off, const struct x_options *o)
{
	struct scenario_run run = { .scenario = s, .kind = kind };
	struct x_program p = { .name = s->name,
			       .setup = scenario_setup,
			       .at_step = s->step ? scenario_at_step : NULL,
			       .at_end = scenario_at_end,
			       .outcome = getenv("X_MEM") ? NULL : scenario_outcome,
			       .arg = &run,
			       .off = off,
			       .composed = s->composed,
			       .nr_composed = s->nr_composed,
			       .flags = s->flags };
	struct x_result r;

	x_explore(&p, o, &r);
	printf("%-20s %-4s off %#lx %-6s verdict %d%s%s states %lu steps %lu exec %lu pruned %lu "
	       "outcomes %lu/%lx passes %lu shared %lu locked %lu depth %lu %.3fs %.2f Msteps/s %s\n",
	       s->name, scenario_kind_name[kind], off, x_engine_name[o->engine], r.verdict,
	       r.why_not ? " " : "", r.why_not ? r.why_not : "", r.states, r.steps, r.executions,
	       r.pruned, r.outcomes, r.outcome_sum, r.passes, r.shared, r.locked, r.depth,
	       r.seconds, (double)r.steps / r.seconds / 1e6, r.message);
	fflush(stdout);
	if (r.verdict == X_VIOLATION && getenv("X_TRACE")) {
		struct x_result again;
		struct x_trace *t;

		printf("replay: %d\n", x_replay(&p, r.decision, r.nr_decisions, &again, &t));
		printf("%s\n", again.message);
		print(t);
		x_trace_free(t);
		x_result_free(&again);
	}
	x_result_free(&r);
	return 0;
}

int main(int argc, char **argv)
{
	struct x_options o = { .bound = -1, .max_seconds = 10 };
	const char *kind = getenv("X_KIND");

	if (getenv("X_SECONDS"))
		o.max_seconds = atof(getenv("X_SECONDS"));
	if (getenv("X_BOUND"))
		o.bound = atoi(getenv("X_BOUND"));
	o.every_point = getenv("X_EVERY");
	o.no_forget = getenv("X_NOFORGET");
	o.no_races = getenv("X_NORACE");
	o.verify = getenv("X_VERIFY");
	for (u32 e = 0; e < X_NR_ENGINES; e++)
		if (getenv("X_ENGINE") && !strcmp(getenv("X_ENGINE"), x_engine_name[e]))
			o.engine = e;
	for (const struct scenario *s = scenario_first(); s; s = scenario_next(s)) {
		if (argc > 1 && strcmp(argv[1], s->name))
			continue;
		for (u32 k = 0; k < NR_SCENARIO_KINDS; k++) {
			if (!(s->kinds & BIT(k)) || (kind && strcmp(kind, scenario_kind_name[k])))
				continue;
			if (!getenv("X_OFF"))
				one(s, k, 0, &o);
			for (u32 m = 0; m < NR_MECHANISMS && !getenv("X_ON"); m++)
				if (scenario_switches(s, k) & BIT(m))
					one(s, k, BIT(m), &o);
		}
	}
	return 0;
}
