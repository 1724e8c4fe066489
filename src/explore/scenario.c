/* scenario.c - the list of scenarios, and one of them as a program of the engine. */
#include <string.h>

#include "explore/scenario_env.h"

/* The bounds of the section that SCENARIO fills. */
extern const struct scenario *const __start_quire_scenarios[];
extern const struct scenario *const __stop_quire_scenarios[];

const char *const scenario_kind_name[NR_SCENARIO_KINDS] = {
	[ON_HW] = "hw",
	[ON_SW] = "sw",
	[ON_HOME] = "home",
};

/* In the order of their names, whatever the linker made of it. */
static const struct scenario *after(const char *name)
{
	const struct scenario *best = NULL;

	for (const struct scenario *const *p = __start_quire_scenarios; p < __stop_quire_scenarios;
	     p++) {
		if (name && strcmp((*p)->name, name) <= 0)
			continue;
		if (!best || strcmp((*p)->name, best->name) < 0)
			best = *p;
	}
	return best;
}

const struct scenario *scenario_first(void)
{
	return after(NULL);
}

const struct scenario *scenario_next(const struct scenario *s)
{
	return after(s->name);
}

const struct scenario *scenario_find(const char *name)
{
	for (const struct scenario *s = scenario_first(); s; s = scenario_next(s))
		if (!strcmp(s->name, name))
			return s;
	return NULL;
}

u64 scenario_switches(const struct scenario *s, enum scenario_kind kind)
{
	return kind == ON_HOME ? s->off_home : s->off;
}

void scenario_setup(void *arg)
{
	struct scenario_run *run = arg;

	run->env = env_open(run->scenario, run->kind);
	run->scenario->setup(run->env);
	env_ready(run->env);
}

void scenario_at_step(void *arg)
{
	struct scenario_run *run = arg;

	if (run->scenario->step)
		run->scenario->step(run->env);
}

void scenario_at_end(void *arg)
{
	struct scenario_run *run = arg;

	if (run->scenario->end)
		run->scenario->end(run->env);
	env_close(run->env);
}

u64 scenario_outcome(void *arg)
{
	struct scenario_run *run = arg;
	u64 h = 0;

	for (u32 i = 0; i < ENV_RESULTS; i++)
		h = (h ^ run->env->r[i]) * 0x9e3779b97f4a7c15ull + i;
	return h;
}
