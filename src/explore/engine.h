/*
 * engine.h - the driver's side of the explorer: run a program under every order that matters, and
 * replay one order exactly.
 *
 * A program is a set-up that makes actors and memory, and checks. x_explore visits its orders with
 * one of the engines and says what it found; on a violation the result holds the decisions that
 * lead to it, which x_replay runs again, recording what each step did (trace.h).
 *
 * Invariants: at most one exploration at a time in a process (the arena lies at a fixed address);
 * everything in a result is the caller's own after x_explore has returned. EXHAUSTED is only said
 * after a whole exploration in which nothing new was learnt about which words are shared (learn.c).
 * Locking: none; one thread.
 */
#ifndef QUIRE_EXPLORE_ENGINE_H
#define QUIRE_EXPLORE_ENGINE_H

#include "base/types.h"

enum x_program_flags {
	/*
	 * Locks as they are in base/lock.c, step by step. Else a lock is one step that is enabled
	 * when the lock is free (locks.c says what that keeps and what it drops).
	 */
	X_REAL_LOCKS = BIT(0),
	/* Objects from base/arena.c itself. Else each object is memory that is never used again. */
	X_REAL_OBJECTS = BIT(1),
};

struct x_program {
	const char *name;
	void (*setup)(void *arg);   /* makes actors, memory, watches */
	void (*at_step)(void *arg); /* after each step, in each new state; may be NULL */
	void (*at_end)(void *arg);  /* at the end of each run; may be NULL; may change memory */
	u64 (*outcome)(void *arg);  /* what the run came to; NULL: all of memory */
	void *arg;
	u64 off;             /* bit m: mechanism m is switched off */
	const u32 *composed; /* lock classes whose critical sections are one step */
	u32 nr_composed;
	u32 flags;
};

enum x_engine { X_HASH, X_DFS, X_SLEEP, X_DPOR, X_RANDOM, X_PCT, X_NR_ENGINES };
extern const char *const x_engine_name[X_NR_ENGINES];

struct x_options {
	enum x_engine engine;
	s32 bound;          /* preemptions (hash, dfs), depth of pct; -1: none */
	u64 seed;           /* random, pct */
	u64 max_executions; /* random and pct stop there; 0: 10000 for them, none for the others */
	u64 max_steps;      /* of one run: beyond it the run counts as livelocked; 0: 100000 */
	double max_seconds; /* 0: none */
	u64 max_steps_all;  /* of all runs and passes together; 0: any number */
	u64 max_states;     /* 0: as many as fit in max_bytes */
	u64 max_bytes;      /* of the table of states; 0: 1 GiB */
	bool every_point;   /* each access through base/atomic.h is a point: for comparisons */
	bool no_forget;  /* an actor's state is all that it has seen, not its stack: for comparisons
			  */
	bool all_races;  /* look for races in all runs where that takes long, too */
	bool no_races;   /* without the detector of races of plain accesses */
	bool verify;     /* random, pct: compare all of memory after each step (slow) */
	bool no_samples; /* no sampled runs before the search (races go unnoticed then) */
	bool no_minimize; /* keep a counterexample as it was found */
	void (*progress)(void *ctx, const char *phase, u64 states, u64 steps, double seconds);
	void *ctx;
};

enum x_verdict { X_EXHAUSTED, X_VIOLATION, X_NOT_EXHAUSTED, X_DIVERGED };

/* One decision: the actor runs until its point number `point`, or takes `choice`. */
struct x_decision {
	u8 actor;
	u8 is_choice;
	u16 choice;
	u32 point;       /* ~0: until it ends */
	u32 fingerprint; /* of the step that the decision makes (replay.c) */
};

struct x_result {
	enum x_verdict verdict;
	u64 states;      /* distinct ones, where the engine counts them */
	u64 steps;       /* in all passes */
	u64 executions;  /* runs that reached an end, in the last pass */
	u64 pruned;      /* runs given up because the rest is known, in the last pass */
	u64 outcomes;    /* distinct ones */
	u64 outcome_sum; /* of the outcomes' hashes: equal sets have equal sums */
	u64 passes;      /* explorations until nothing new was learnt */
	u64 shared;      /* words that are scheduling points */
	u64 locked;      /* words that several actors touch, always under one lock */
	u64 depth;       /* steps of the longest run */
	u64 race_runs;   /* runs that were looked at for races of plain accesses */
	bool race_all;   /* they are all runs, up to the order of independent steps */
	bool race;       /* VIOLATION: it is such a race */
	double seconds;
	const char *why_not;         /* NOT_EXHAUSTED: which bound stopped it */
	char message[528];           /* VIOLATION: what went wrong; DIVERGED: where */
	struct x_decision *decision; /* VIOLATION; malloc'ed */
	u32 nr_decisions;
};

/* Fills *r. Returns r->verdict. */
enum x_verdict x_explore(const struct x_program *p, const struct x_options *o, struct x_result *r);
void x_result_free(struct x_result *r);

struct x_trace;
/*
 * The same run again. Every step's fingerprint is compared: DIVERGED, with where and how, when one
 * differs. *trace (may be NULL) receives what happened; free it with x_trace_free.
 */
enum x_verdict x_replay(const struct x_program *p, const struct x_decision *d, u32 nr,
			struct x_result *r, struct x_trace **trace);

/*
 * One run as an example, recorded: no engine, nothing is shown by it. NOT_EXHAUSTED, or VIOLATION.
 */
enum x_verdict x_sample(const struct x_program *p, struct x_result *r, struct x_trace **trace);

#endif
