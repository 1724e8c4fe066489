/*
 * internal.h - what the engine's files share: the memory under exploration, actors, pending
 * operations, and the one struct engine.
 *
 * Memory: an arena at a fixed address, and one stack per actor behind it. Each arena word of 8
 * bytes has a struct xword beside it. The first time that a step writes a word its old value goes
 * to the undo log; at the step's end the log yields the change of the state hash.
 *
 * Invariants:
 *  - x.mode is RUN exactly while an actor runs, CHECK while a check, a condition or a printer runs
 *    (nothing is a point then, writes are undone afterwards), SETUP while the program is set up.
 *  - x.mem is the hash of all arena words that are hashed, relative to the state after set-up.
 *  - an actor's local state is a function of `seen` and its count of points since.
 * Locking: none; one thread.
 */
#ifndef QUIRE_EXPLORE_INTERNAL_H
#define QUIRE_EXPLORE_INTERNAL_H

#include <setjmp.h>

#include "base/thread.h"
#include "explore/engine.h"
#include "explore/explore.h"

#define X_BASE        0x200000000000ul
#define X_ARENA_BYTES (256ul << 20)
#define X_STACK_BYTES (256ul << 10)
#define X_STACKS      (X_BASE + X_ARENA_BYTES)
/* The first bytes of the arena belong to the set-up; each actor has a share of the rest. */
#define X_SETUP_BYTES (128ul << 20)
#define X_SHARE_BYTES ((X_ARENA_BYTES - X_SETUP_BYTES) / X_MAX_ACTORS)

/* ---- words ---- */

enum xword_flags {
	W_UNHASHED = BIT(1), /* set in set-up only */
	W_NONLOCK0 = BIT(2), /* low half: touched by other than lock and unlock; sticky */
	W_NONLOCK1 = BIT(3),
	W_UNRACED = BIT(6), /* set in set-up only */
	W_MET0 = BIT(4),    /* actors meet there */
	W_MET1 = BIT(5),
};

/* Which actors have touched half a word through points, ever (learn.c). */
struct xhalf {
	u16 r, w, c;
	u16 lockset; /* 0: nothing known yet; 1: no lock; else its number */
};

struct xword {
	u32 stamp; /* of the step that logged it last */
	u16 flags;
	u16 readers; /* by any kind of access, ever */
	u16 writers;
	struct xhalf half[2];
	u16 unused;
};

struct undo {
	u64 *addr; /* bit 0: words from there on were poisoned or made usable, not changed */
	u64 old;   /* then: bit 0: they were poisoned; above: how many */
};

struct hash128 {
	u64 lo, hi;
};

/* ---- operations and actors ---- */

enum op_kind {
	OP_START,  /* nothing yet: the actor's first step */
	OP_ACCESS, /* read, write, read-modify-write, count */
	OP_LOCK,   /* read-modify-write or count, when (word & mask) == 0 */
	OP_UNLOCK,
	OP_WAIT,   /* until ready(arg) */
	OP_PARK,   /* reads the word and joins its sleepers */
	OP_ASLEEP, /* until woken */
	OP_WAKE,   /* of the word's sleepers */
	OP_YIELD,  /* until memory that the actor reads has changed */
	OP_CHOOSE,
	OP_DONE,
};

struct op {
	u8 kind;
	u8 access; /* enum base_access */
	u16 choices;
	u32 size;
	u64 addr;
	u64 mask;  /* LOCK */
	u64 addr2; /* a second object of the same step; size2 0: none */
	u32 size2;
	u8 access2;
	bool quiet; /* never stops there of its own: it commutes with what others can do */
	u64 pc;     /* where it is in the program */
	bool (*ready)(void *arg);
	void *arg;
	const char *what;
};

/* What a step accesses where others may meet it. */
enum footprint_flags {
	FP_RELEASE = BIT(0), /* lets an acquisition go on, and cannot be swapped with it */
	FP_ACQUIRE = BIT(1),
};

struct access {
	u64 addr;
	u32 size;
	u8 kind; /* enum base_access */
	u8 flags;
};

struct footprint {
	struct access *a;
	u32 nr, cap;
};

/* What changes while an actor runs: saved and restored with its stack. */
struct actor {
	void *sp;
	struct op op;
	struct hash128 seen;
	struct hash128 hash; /* of the above: its part of the state's hash */
	u32 points;          /* since `seen` was last taken from the stack */
	u32 total_points;    /* since the start */
	u32 composed;        /* > 0: in a critical section that is one step */
	bool count;          /* the next atomic's result is not used */
	bool done;
};

struct actor_info {
	const char *name;
	unsigned cpu;
	u32 flags;
	void (*fn)(void *arg);
	void *arg;
	struct base_thread *thread; /* unhashed: `seen` determines it */
	u64 alloc_start;
};

/* The engine's own state that belongs to the run: in the arena, hashed and undone. */
struct xrun {
	struct {
		u64 word; /* 0: awake */
		u32 rank; /* sleepers on the word before it */
		u32 woken;
	} park[X_MAX_ACTORS];
	u64 may_retry[X_MAX_ACTORS]; /* memory has changed since it yielded */
	u64 retries;                 /* rounds in which everybody only retried */
	u64 rcu_in[X_MAX_ACTORS];
	u64 rcu_wait[X_MAX_ACTORS]; /* mask of readers that synchronize waits for */
	u64 queue[64];              /* stand for the sleepers on words, by hash; never written */
	u64 alloc_next[X_MAX_ACTORS + 1];
	u64 live_bytes[X_MAX_ACTORS + 1]; /* objects.c: handed out minus given back */
};

enum x_mode { M_OFF, M_SETUP, M_RUN, M_CHECK };

struct engine {
	enum x_mode mode;
	u32 stamp;
	u32 self; /* running actor, X_MAX_ACTORS: none */
	u16 me;   /* BIT(self), 0: none */
	u16 live; /* actors that are not done */
	u32 nr;   /* actors */
	struct xword *words;
	u8 *poison; /* by word: 1: nobody may touch it */
	struct undo *log;
	u64 nr_log, cap_log;
	u64 events; /* learnt since this pass began (learn.c) */
	struct hash128 mem;
	struct actor actor[X_MAX_ACTORS];
	struct actor_info info[X_MAX_ACTORS];
	struct base_thread *setup_thread;
	struct xrun *run;
	void *engine_sp;
	u32 choice;
	u32 stop_at; /* replay: the running actor stops at this point only */
	bool replaying;
	bool recording;
	bool every_point, no_forget;
	bool racing;               /* this run is looked at for races */
	bool static_points;        /* points do not depend on who still runs */
	u16 yielders;              /* actors that ever yielded */
	struct footprint *collect; /* of the running step; NULL: not wanted */
	bool failed;
	bool is_race; /* what failed is a race of plain accesses */
	jmp_buf out;  /* CHECK: where a failure leads */
	char message[512];
	const struct x_program *prog;
	u32 composed_classes[256 / 32];
	u32 nr_watches;
	struct {
		const char *group, *name;
		void (*print)(void *arg, char *buf, size_t n);
		void *arg;
	} watch[64];
};
extern struct engine x;

/* ---- mem.c ---- */

void mem_open(void);  /* maps everything, once */
void mem_reset(void); /* zeroes the arena and forgets everything */
void mem_log_grow(void);
void mem_step_end(u64 log_from); /* brings x.mem up to date */
void mem_undo(u64 log_to);
void mem_verify_begin(void);
void mem_verify_step(void);
void mem_verify_rewind(void);
void mem_touch_poison(u64 addr, const char *how) __attribute__((noreturn, cold));
void mem_write_all(u64 addr, u64 bytes); /* old values of a range */
void mem_read_all(u64 addr, u64 bytes);

static inline bool in_arena(u64 addr)
{
	return addr - X_BASE < X_ARENA_BYTES;
}

static inline struct xword *word_of(u64 addr)
{
	return &x.words[(addr - X_BASE) >> 3];
}

static inline bool is_poisoned(u64 addr)
{
	return x.poison[(addr - X_BASE) >> 3];
}

static inline u64 mix64(u64 v)
{
	v ^= v >> 32;
	v *= 0xd6e8feb86659fd93ull;
	v ^= v >> 32;
	v *= 0xd6e8feb86659fd93ull;
	v ^= v >> 32;
	return v;
}

static inline struct hash128 mix128(u64 a, u64 v)
{
	struct hash128 h;

	h.lo = mix64(v + a * 0x9e3779b97f4a7c15ull);
	h.hi = mix64((v ^ 0x94d049bb133111ebull) * 0xbf58476d1ce4e5b9ull + (a ^ (a << 29)));
	return h;
}

static inline void hash_xor(struct hash128 *h, struct hash128 o)
{
	h->lo ^= o.lo;
	h->hi ^= o.hi;
}

/* The word's old value, before the running step changes it for the first time. */
static inline void log_word(struct xword *w, u64 addr)
{
	u64 *p = (u64 *)(addr & ~7ul);

	if (w->stamp == x.stamp)
		return;
	w->stamp = x.stamp;
	if (unlikely(x.nr_log == x.cap_log))
		mem_log_grow();
	x.log[x.nr_log++] = (struct undo){ p, *p };
}

/* The running actor has learnt v from memory that others may change. */
static inline void observe(u64 v)
{
	struct actor *a = &x.actor[x.self];

	if (!x.no_forget)
		return;
	a->seen.lo = (a->seen.lo ^ v) * 0x9e3779b97f4a7c15ull;
	a->seen.lo ^= a->seen.lo >> 29;
	a->seen.hi = (a->seen.hi + v) * 0xd6e8feb86659fd93ull;
	a->seen.hi ^= a->seen.hi >> 32;
}

/* Writes of the engine itself to memory that belongs to the run. */
static inline void run_set64(u64 *p, u64 v)
{
	if (x.mode == M_RUN || x.mode == M_CHECK)
		log_word(word_of((u64)p), (u64)p);
	*p = v;
}

/* ---- learn.c ---- */

/* Records the access; true when another actor that still runs may meet it there. */
bool learn_access(u64 addr, u32 size, enum base_access kind, bool lock_op);
void learn_reader(struct xword *w);
void learn_writer(struct xword *w);
void learn_reset(void);
/* Half words that are points, and that a lock protects from being one. */
void learn_count(u64 *shared, u64 *locked);

/* ---- switch.c ---- */

void x_switch(void **save_sp, void *to_sp);
void *switch_prepare(void *top, void (*fn)(void));

/* ---- actor.c ---- */

void actor_catch_faults(void);

void actors_prepare(void); /* after set-up: stacks, and each actor at its start */
bool actor_enabled(u32 p);
u32 actor_point_now(u32 p); /* where it stopped; ~0: it will not go on */
/* Runs p's pending operation and what follows, up to its next point; updates x.mem. */
void actor_step(u32 p);
void actor_stop(void); /* from the running actor: back to the engine */
u64 actor_stack_live(u32 p);
void *actor_stack_top(u32 p);
/* The running actor is about to do op; returns when it may. `meet`: others may meet it. */
void actor_point(const struct op *op, bool meet);
/* Its local state from here on is what is on its stack; nothing seen before matters. */
void actor_forget(u32 p);
struct hash128 state_hash(void);
void footprint_of_op(u32 p, const struct op *op, struct footprint *f);
/* Runs fn as a check; false: it failed, x.message says how. Its writes are undone. */
bool run_check(void (*fn)(void *arg), void *arg);
void fail_deadlock(void);
void fail_livelock(void);

bool run_ended(void); /* all actors that are no agents are done */
u16 enabled_mask(void);

/* ---- dpor.c ---- */

void footprint_add(struct footprint *f, u64 addr, u32 size, u8 kind, u8 flags);

/* ---- race.c ---- */

enum race_rcu { RCU_READ_BEGIN, RCU_READ_END, RCU_GRACE_BEGIN, RCU_GRACE_END };

/* A run begins that is looked at for races (x.racing); false: that cannot be done. */
bool race_begin(void);
void race_plain(u64 addr, u64 bytes, bool write, u64 pc);
void race_atomic(u64 addr, u32 size, enum base_access kind, int order, u64 pc);
void race_fence(void);
/* The running actor acquires or releases what was released at these bytes. */
void race_sync(u64 addr, u32 bytes, bool acq, bool rel);
/* The same for a step of the machine (x_access). */
void race_step(u64 addr, u32 bytes, bool write);
void race_rcu(enum race_rcu what);

/* ---- save.c ---- */

/* An actor as it stands before a step: its record and the live part of its stack. */
void save_actor(u32 p);
void save_restore(u32 p); /* takes the last one back */
u64 save_mark(void);
void save_drop(u64 mark);

/* ---- symbol.c ---- */

/* Function around an address of the program, malloc'ed; "" where unknown. */
char *symbol_name(u64 pc);

/* ---- search ---- */

struct path {
	struct x_decision *d;
	u32 nr, cap;
};
void path_push(struct path *path, const struct x_decision *d);
/* Runs a violation's decisions once more and puts their fingerprints in. */
/* Runs it again, with the detector of races. False: a violation (x.message). */
bool path_is_good(struct path *path);
bool path_finish(struct path *path, bool race);

/* Runs to look at again for races. */
struct kept_runs {
	struct path run[4096];
	u32 nr, max;
	bool all; /* there was room for all */
};

struct search {
	const struct x_options *o;
	struct x_result *r;
	double began;
	const char *stopped; /* which bound ended it */
	struct path path;
	struct kept_runs *keep; /* complete runs are kept there; NULL: nowhere */
	u64 pass_steps;
	u64 max_steps; /* of this search; 0: any number */
	u64 events_at; /* of them when the pass met the first event; 0: none */
};

double now_seconds(void);
/* Counts a step and looks at the bounds; false: stop. */
bool search_tick(struct search *s);
/* The run has ended in this state: checks, outcome. False: violation. */
bool search_end(struct search *s);
bool search_at_step(struct search *s);
/* Starts the run again at the state after set-up. */
void search_rewind(void);
bool program_setup(const struct x_program *p);
/* minimize.c: s->path, which leads to a violation, becomes simpler. */
void path_minimize(struct search *s);
/* Each: one pass. False: a violation (x.message, s->path). */
bool search_hash(struct search *s);
bool search_random(struct search *s, u64 executions);
bool search_dpor(struct search *s); /* and sleep sets */

#endif
