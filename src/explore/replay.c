/*
 * replay.c - one run again, exactly: decisions with fingerprints, recording, shrinking.
 *
 * A decision says which actor runs and at which of its points it stops. Points are counted whether
 * or not anybody was thought to meet there, so a replay needs nothing of what the exploration had
 * learnt. The fingerprint of a decision covers the operation that the step begins with, where it is
 * in memory and the value found there; two builds of one program agree on it.
 */
#include "explore/internal.h"
#include "explore/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static u32 fingerprint(u32 p, const struct x_decision *d)
{
	const struct op *op = &x.actor[p].op;
	u64 h = p | (u64)op->kind << 8 | (u64)op->access << 16 | (u64)op->size << 24;
	u64 v = 0;

	if (d->is_choice)
		return (u32)mix64(h ^ (u64)d->choice << 40);
	if (in_arena(op->addr)) {
		h ^= (op->addr - X_BASE) * 0x9e3779b97f4a7c15ull;
		v = op->size == 4 ? *(u32 *)op->addr : *(u64 *)(op->addr & ~7ul);
		/* Addresses of functions and constants differ from process to process. */
		if (v >> 32 && v >> 47 == 0 && !in_arena(v))
			v = 1;
	}
	h = mix64(h) ^ v;
	return (u32)mix64(h);
}

static bool diverged(const char *how, u32 step)
{
	snprintf(x.message, sizeof(x.message),
		 "the run differs from the one that was saved: %s "
		 "at step %u",
		 how, step + 1);
	return false;
}

/* Takes one decision. False: it cannot be taken, or its fingerprint differs. */
static bool replay_step(struct x_decision *d, u32 i, bool compare)
{
	u32 p = d->actor, print;

	if (p >= x.nr || x.actor[p].done)
		return diverged("no such actor", i);
	if ((x.actor[p].op.kind == OP_CHOOSE) != d->is_choice)
		return diverged(d->is_choice ? "no choice" : "an unexpected choice", i);
	if (d->is_choice) {
		if (d->choice >= x.actor[p].op.choices)
			return diverged("no such choice", i);
		x.choice = d->choice;
	} else if (!(enabled_mask() & BIT(p))) {
		return diverged("the actor cannot go on", i);
	}
	print = fingerprint(p, d);
	if (compare && print != d->fingerprint)
		return diverged("another operation or value", i);
	d->fingerprint = print;
	x.stop_at = d->point;
	actor_step(p);
	if (actor_point_now(p) != d->point)
		return diverged("the actor stopped elsewhere", i);
	return true;
}

/* After the last decision: what is wrong in this state. */
static bool end_is_bad(void)
{
	if (x.failed)
		return true;
	if (x.prog->at_step && !run_check(x.prog->at_step, x.prog->arg))
		return true;
	for (u32 p = 0; p < x.nr; p++) {
		if (x.actor[p].op.kind == OP_CHOOSE)
			return false;
	}
	if (enabled_mask())
		return false;
	if (run_ended())
		return x.prog->at_end && !run_check(x.prog->at_end, x.prog->arg);
	fail_deadlock();
	return true;
}

/*
 * Runs the decisions in the program that is set up. Returns the verdict; *used: how many were
 * needed.
 */
static enum x_verdict replay_run(struct x_decision *d, u32 nr, bool compare, bool races, u32 *used)
{
	enum x_verdict v = X_EXHAUSTED;
	u32 i;

	search_rewind();
	x.message[0] = 0;
	x.replaying = true;
	if (races)
		race_begin();
	for (i = 0; i < nr && v == X_EXHAUSTED && !x.failed; i++) {
		record_before(d + i);
		if (!replay_step(d + i, i, compare))
			v = X_DIVERGED;
		record_after();
		if (v == X_EXHAUSTED && !x.failed && i + 1 < nr &&
		    x.actor[d[i].actor].op.kind != OP_CHOOSE && !search_at_step(NULL))
			x.failed = true;
	}
	if (v == X_EXHAUSTED && (x.failed || end_is_bad()))
		v = X_VIOLATION;
	x.replaying = false;
	*used = i;
	return v;
}

enum x_verdict x_replay(const struct x_program *p, const struct x_decision *d, u32 nr,
			struct x_result *r, struct x_trace **trace)
{
	struct x_decision *copy = malloc((nr + 1) * sizeof(*d));
	double began = now_seconds();
	u32 used = 0;

	memset(r, 0, sizeof(*r));
	memcpy(copy, d, nr * sizeof(*d));
	if (!program_setup(p)) {
		r->verdict = X_VIOLATION;
		snprintf(r->message, sizeof(r->message), "set-up: %s", x.message);
		free(copy);
		return r->verdict;
	}
	if (trace)
		record_begin(p->name);
	/* A race is in the order of accesses, not in a state: it shows only where it is looked for.
	 */
	r->verdict = replay_run(copy, nr, true, false, &used);
	if (r->verdict == X_EXHAUSTED || (r->verdict == X_DIVERGED && used == nr)) {
		if (trace)
			record_again();
		r->verdict = replay_run(copy, nr, true, true, &used);
	}
	snprintf(r->message, sizeof(r->message), "%s", x.message);
	if (trace)
		*trace = record_end(r->message);
	r->race = x.is_race;
	r->steps = used;
	r->executions = 1;
	r->decision = copy;
	r->nr_decisions = nr;
	r->seconds = now_seconds() - began;
	return r->verdict;
}

/* ---- after the search ---- */

bool path_is_good(struct path *path)
{
	u32 used;

	return replay_run(path->d, path->nr, false, true, &used) == X_EXHAUSTED;
}

bool path_finish(struct path *path, bool race)
{
	char message[sizeof(x.message)];
	u32 used;

	memcpy(message, x.message, sizeof(message));
	if (replay_run(path->d, path->nr, false, race, &used) != X_VIOLATION) {
		fprintf(stderr, "explore: a violation (%s) cannot be replayed: %s\n", message,
			x.message);
		memcpy(x.message, message, sizeof(message));
		return false;
	}
	path->nr = used;
	return true;
}
