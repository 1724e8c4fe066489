/*
 * trace.h - what a replayed run did, step by step: for printing, JSON and pages.
 *
 * A step is one operation of an actor and what follows it up to the next one. Recorded by x_replay
 * and x_sample: every operation that could be a point, whether or not the run switches there.
 *
 * Invariants: strings are owned by the trace; watch values are NULL where they did not change in
 * the step (at step 0: the value before the first step stands in `watch_start`).
 * Locking: none; it does not change after x_replay has returned.
 */
#ifndef QUIRE_EXPLORE_TRACE_H
#define QUIRE_EXPLORE_TRACE_H

#include "base/types.h"

struct x_trace_actor {
	char *name;
	unsigned cpu;
	bool agent;
};

struct x_trace_watch {
	char *group;
	char *name;
	char *start; /* its value before the first step */
};

struct x_trace_step {
	u32 actor;
	bool is_choice; /* part of the step before it: what the actor was told */
	u32 choice;
	bool decision; /* the actor was chosen here; else it went on by itself */
	u64 obj;       /* where in the arena: tells objects apart */
	char *what;    /* "lock PTE", "read 8 bytes at 0x1234: 0x5", "choose evict: 1" */
	char *where; /* function of the core or scenario, "" where unknown */
	char **note; /* what the step says about itself (x_note), in order */
	u32 nr_notes;
	char **watch;  /* nr_watches of them: the new value, or NULL */
	bool preempts; /* the actor before it could have gone on */
	u32 fingerprint;
};

struct x_trace {
	char *program;
	u32 nr_actors;
	struct x_trace_actor *actor;
	u32 nr_watches;
	struct x_trace_watch *watch;
	u32 nr_steps;
	struct x_trace_step *step;
	char *message; /* the violation, or "" */
};

void x_trace_free(struct x_trace *t);

#endif
