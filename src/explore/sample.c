/*
 * sample.c - one run as an example: each actor goes on until it ends or has to wait, in the order
 * in which they are listed, agents last. Choices take the usual course.
 */
#include "explore/internal.h"
#include "explore/record.h"

#include <stdio.h>
#include <string.h>

#define MAX_STEPS 100000u

/* Who goes on: the last one if it can, else the first that can. */
static u32 next_actor(u16 mask, u32 last)
{
	if (last < x.nr && mask & BIT(last))
		return last;
	for (u32 agents = 0; agents < 2; agents++)
		for (u32 p = 0; p < x.nr; p++)
			if (mask & BIT(p) && !(x.info[p].flags & X_AGENT) == !agents)
				return p;
	return X_MAX_ACTORS;
}

/* False: it went wrong, x.message says how. */
static bool sample_run(u64 *steps)
{
	u32 last = X_MAX_ACTORS;

	for (*steps = 0; *steps < MAX_STEPS; ++*steps) {
		struct x_decision d = { 0 };
		u16 mask = 0;

		if (last < x.nr && x.actor[last].op.kind == OP_CHOOSE) {
			d.is_choice = 1;
			x.choice = 0;
		} else {
			mask = enabled_mask();
			if (!mask && run_ended())
				break;
			if (!mask) {
				fail_deadlock();
				return false;
			}
			last = next_actor(mask, last);
		}
		d.actor = (u8)last;
		record_before(&d);
		x.stop_at = ~0u;
		actor_step(last);
		record_after();
		if (x.failed)
			return false;
	}
	return !x.prog->at_end || run_check(x.prog->at_end, x.prog->arg);
}

enum x_verdict x_sample(const struct x_program *p, struct x_result *r, struct x_trace **trace)
{
	bool good;

	memset(r, 0, sizeof(*r));
	r->executions = 1;
	if (!program_setup(p)) {
		r->verdict = X_VIOLATION;
		snprintf(r->message, sizeof(r->message), "set-up: %s", x.message);
		return r->verdict;
	}
	x.message[0] = 0;
	record_begin(p->name);
	search_rewind();
	x.replaying = true;
	good = sample_run(&r->steps);
	x.replaying = false;
	r->verdict = good ? X_NOT_EXHAUSTED : X_VIOLATION;
	r->why_not = "sampled";
	snprintf(r->message, sizeof(r->message), "%s", good ? "" : x.message);
	*trace = record_end(r->message);
	return r->verdict;
}
