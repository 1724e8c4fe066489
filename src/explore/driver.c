/*
 * driver.c - one exploration: set-up, passes until nothing new is learnt, the result.
 *
 * A pass that meets an event (learn.c) will be repeated, so it is not carried to its end: it goes
 * on for as many steps as it took to meet the first one, in which it learns more, and is given up.
 * Before the first pass some random runs teach most of what is shared.
 */
#include "explore/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM_UP_RUNS   64
#define EVENT_STEPS    20000 /* at least so many steps after an event before the pass is given up */
/* The search for all runs that are looked at for races, and how many it may find. */
#define RACE_STEPS     8000
#define RACE_RUNS      200
#define ALL_RACE_STEPS 2000000
#define MAX_OUTCOMES   (1u << 20)

const char *const x_engine_name[X_NR_ENGINES] = { "hash", "dfs", "sleep", "dpor", "random", "pct" };

static u64 *outcomes;
static u64 nr_outcomes;

double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void path_push(struct path *path, const struct x_decision *d)
{
	if (path->nr == path->cap) {
		path->cap = path->cap ? path->cap * 2 : 256;
		path->d = realloc(path->d, path->cap * sizeof(*path->d));
		if (!path->d) {
			fprintf(stderr, "explore: out of memory\n");
			exit(3);
		}
	}
	path->d[path->nr++] = *d;
}

bool search_tick(struct search *s)
{
	s->r->steps++;
	s->pass_steps++;
	if (x.events && !s->events_at)
		s->events_at = s->pass_steps;
	if (s->events_at && s->pass_steps > s->events_at * 2 + EVENT_STEPS)
		return false;
	if (s->max_steps && s->pass_steps > s->max_steps)
		return false;
	if (s->o->max_steps_all && s->r->steps > s->o->max_steps_all)
		s->stopped = "steps";
	if (x.stamp > ~0u - 16) {
		s->stopped = "steps";
	} else if (!(s->r->steps & 0xfff)) {
		double t = now_seconds() - s->began;

		if (s->o->max_seconds > 0 && t > s->o->max_seconds)
			s->stopped = "time";
		if (s->o->progress)
			s->o->progress(s->o->ctx, "explore", s->r->states, s->r->steps, t);
	}
	return !s->stopped;
}

/* ---- ends of runs ---- */

static bool outcome_put(u64 h)
{
	u64 i = mix64(h) & (MAX_OUTCOMES - 1);

	h = h ? h : 1;
	while (outcomes[i]) {
		if (outcomes[i] == h)
			return false;
		i = (i + 1) & (MAX_OUTCOMES - 1);
	}
	if (nr_outcomes > MAX_OUTCOMES / 2)
		return true;
	outcomes[i] = h;
	nr_outcomes++;
	return true;
}

static u64 outcome_now;

static void ask_outcome(void *arg)
{
	outcome_now = x.prog->outcome(arg);
}

bool search_end(struct search *s)
{
	bool fresh = true;

	s->r->executions++;
	if (x.prog->outcome) {
		if (!run_check(ask_outcome, x.prog->arg))
			return false;
	} else {
		outcome_now = x.mem.lo;
	}
	fresh = outcome_put(outcome_now);
	if (fresh)
		s->r->outcome_sum += mix64(outcome_now);
	s->r->outcomes = nr_outcomes;
	/* Ends with equal memory need one check. */
	if (!x.prog->at_end || (!fresh && !x.prog->outcome))
		return true;
	return run_check(x.prog->at_end, x.prog->arg);
}

bool search_at_step(struct search *s)
{
	(void)s;
	return !x.prog->at_step || run_check(x.prog->at_step, x.prog->arg);
}

/* ---- set-up and passes ---- */

/* Actors at their start, for search_rewind. */
static struct actor actor_root[X_MAX_ACTORS];
static u8 stack_root[X_MAX_ACTORS][64];
static struct hash128 mem_root;

static void root_keep(void)
{
	memcpy(actor_root, x.actor, sizeof(actor_root));
	for (u32 p = 0; p < x.nr; p++)
		memcpy(stack_root[p], x.actor[p].sp, actor_stack_live(p));
	mem_root = x.mem;
}

void search_rewind(void)
{
	x.racing = x.is_race = false;
	mem_verify_rewind();
	mem_undo(0);
	x.mem = mem_root;
	x.failed = false;
	memcpy(x.actor, actor_root, sizeof(actor_root));
	for (u32 p = 0; p < x.nr; p++)
		memcpy(x.actor[p].sp, stack_root[p], actor_stack_live(p));
}

static bool setup_guarded(const struct x_program *p)
{
	if (setjmp(x.out))
		return false;
	x.setup_thread = x_alloc(sizeof(*x.setup_thread), 64);
	x.setup_thread->id = 1;
	x.setup_thread->rng = 1;
	p->setup(p->arg);
	return true;
}

/* False: the set-up itself failed. */
bool program_setup(const struct x_program *p)
{
	bool ok;

	mem_open();
	actor_catch_faults();
	memset(x.composed_classes, 0, sizeof(x.composed_classes));
	for (u32 i = 0; i < p->nr_composed; i++)
		x.composed_classes[p->composed[i] / 32] |= 1u << p->composed[i] % 32;
	x.prog = p;
	x.nr = 0;
	x.nr_watches = 0;
	x.failed = false;
	x.replaying = x.recording = false;
	x.self = X_MAX_ACTORS;
	x.me = 0;
	x.yielders = 0;
	mem_reset();
	learn_reset();
	x.mode = M_SETUP;
	ok = setup_guarded(p);
	x.mode = M_OFF;
	if (!ok)
		return false;
	actors_prepare();
	root_keep();
	return true;
}

static bool run_pass(struct search *s)
{
	bool ok;

	search_rewind();
	x.events = 0;
	s->events_at = s->pass_steps = 0;
	s->r->passes++;
	s->r->states = s->r->executions = s->r->pruned = 0;
	s->r->outcome_sum = s->r->depth = 0;
	memset(outcomes, 0, MAX_OUTCOMES * sizeof(*outcomes));
	nr_outcomes = 0;
	switch (s->o->engine) {
	case X_RANDOM:
	case X_PCT:
		ok = search_random(s, s->o->max_executions ? s->o->max_executions : 10000);
		break;
	case X_SLEEP:
	case X_DPOR:
		ok = search_dpor(s);
		break;
	default:
		ok = search_hash(s);
	}
	return ok;
}

static void violation(struct search *s)
{
	struct x_result *r = s->r;

	r->race = x.is_race;
	if (!s->o->no_minimize)
		path_minimize(s);
	r->verdict = path_finish(&s->path, r->race) ? X_VIOLATION : X_DIVERGED;
	snprintf(r->message, sizeof(r->message), "%s", x.message);
	r->depth = s->path.nr;
	r->decision = s->path.d;
	r->nr_decisions = s->path.nr;
	s->path.d = NULL;
}

static void count_words(struct x_result *r)
{
	r->shared = r->locked = 0;
	learn_count(&r->shared, &r->locked);
}

static void kept_free(struct kept_runs *k)
{
	for (u32 i = 0; i < k->nr; i++)
		free(k->run[i].d);
	k->nr = 0;
}

/*
 * One run of each kind (every order of steps that conflict), looked at for races: if there are few
 * enough (o->all_races: more) to have them all; else the sampled runs must do. r->race_all says
 * which. False: a violation.
 */
static bool races_in_all_runs(struct search *s)
{
	static struct kept_runs keep;
	struct x_options o = { .engine = X_DPOR, .bound = -1 };
	struct x_result r = { 0 };
	struct search t = { .o = &o, .r = &r, .began = s->began, .keep = &keep };
	u64 events = x.events;
	bool good;

	t.max_steps = s->o->all_races ? ALL_RACE_STEPS : RACE_STEPS;
	keep.max = s->o->all_races ? ARRAY_SIZE(keep.run) : RACE_RUNS;
	keep.all = true;
	search_rewind();
	good = search_dpor(&t);
	s->r->steps += r.steps;
	s->r->race_all = good && keep.all && x.events == events && t.pass_steps <= t.max_steps;
	for (u32 i = 0; i < keep.nr && good && s->r->race_all; i++) {
		good = path_is_good(&keep.run[i]);
		s->r->race_runs++;
		if (!good) {
			free(t.path.d);
			t.path = keep.run[i];
			keep.run[i].d = NULL;
		}
	}
	kept_free(&keep);
	x.events = events;
	if (good) {
		free(t.path.d);
		return true;
	}
	free(s->path.d);
	s->path = t.path;
	return false;
}

static void explore_passes(struct search *s)
{
	struct x_result *r = s->r;
	bool sampled = s->o->engine == X_RANDOM || s->o->engine == X_PCT;

	if (!sampled && !s->o->no_samples && !search_random(s, WARM_UP_RUNS)) {
		violation(s);
		return;
	}
	do {
		if (!run_pass(s)) {
			violation(s);
			return;
		}
	} while (x.events && !s->stopped);
	if (!s->stopped && !sampled && !s->o->no_races && s->o->bound < 0 &&
	    !races_in_all_runs(s)) {
		violation(s);
		return;
	}
	r->verdict = X_EXHAUSTED;
	if (s->stopped || sampled) {
		r->verdict = X_NOT_EXHAUSTED;
		r->why_not = s->stopped ? s->stopped : "sampled";
	}
}

enum x_verdict x_explore(const struct x_program *p, const struct x_options *o, struct x_result *r)
{
	struct search s = { .o = o, .r = r, .began = now_seconds() };

	memset(r, 0, sizeof(*r));
	x.every_point = o->every_point;
	x.no_forget = o->no_forget;
	if (!outcomes)
		outcomes = calloc(MAX_OUTCOMES, sizeof(*outcomes));
	if (!program_setup(p)) {
		r->verdict = X_VIOLATION;
		snprintf(r->message, sizeof(r->message), "set-up: %s", x.message);
		return r->verdict;
	}
	explore_passes(&s);
	count_words(r);
	free(s.path.d);
	r->seconds = now_seconds() - s.began;
	return r->verdict;
}

void x_result_free(struct x_result *r)
{
	free(r->decision);
	r->decision = NULL;
	r->nr_decisions = 0;
}
