/*
 * dpor.c - search without a table of states: sleep sets, and source-DPOR on top of them.
 *
 * (Abdulla, Aronis, Jonsson, Sagonas: "Source sets: a foundation for optimal dynamic partial order
 * reduction".) An event is one step with the choices that belong to it; its footprint is what it
 * accessed where others may meet it. Events of two actors depend on each other when their
 * footprints conflict. Both searches visit each class of equivalent orders (each Mazurkiewicz
 * trace) once at least; sleep sets complete each exactly once, and so does DPOR, which also starts
 * fewer runs in vain. That the two agree on the number of complete runs is what tests compare.
 *
 *  - A release (unlock, wake-up) happens before the acquisition that it makes possible, but cannot
 *    be swapped with it: the race is between the two acquisitions.
 *  - Whether a step that waits for a lock or a condition could have been taken before an event
 *    cannot always be told without trying: such races are taken to be possible, but hide no others
 *    unless the step was known to be enabled there.
 *  - Steps that were still waiting when a run ended race with what might have let them go on.
 *  - Whether a word is a point must not depend on who still runs here (x.static_points).
 */
#include "explore/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dnode {
	struct hash128 mem;
	u64 log, save;
	u32 point;
	u32 event;    /* number of events before it */
	u32 print_nr; /* choice: length of the event's footprint before it */
	u16 enabled, backtrack, done, sleep;
	u8 mover;
	bool is_choice;
	u16 choice, choices;
	u32 sleep_node[X_MAX_ACTORS]; /* where the sleeper's step was explored */
	struct footprint explored[X_MAX_ACTORS];
};

struct event {
	u32 node;
	u8 actor;
	bool conditional;
	s32 clock[X_MAX_ACTORS]; /* last event of each actor that happens before it, or itself */
	struct footprint print;
};

static struct dnode *nodes;
static u32 cap_nodes;
static struct event *events;
static u32 nr_events, cap_events;

static void *grow(void *p, u32 *cap, u32 want, size_t size)
{
	u32 old = *cap;

	if (want < old)
		return p;
	*cap = max(old * 2, 1024u);
	p = realloc(p, *cap * size);
	if (!p) {
		fprintf(stderr, "explore: out of memory\n");
		exit(3);
	}
	memset((char *)p + old * size, 0, (*cap - old) * size);
	return p;
}

void footprint_add(struct footprint *f, u64 addr, u32 size, u8 kind, u8 flags)
{
	if (f->nr == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 8;
		f->a = realloc(f->a, f->cap * sizeof(*f->a));
		if (!f->a) {
			fprintf(stderr, "explore: out of memory\n");
			exit(3);
		}
	}
	f->a[f->nr++] = (struct access){ addr, size, kind, flags };
}

static void footprint_append(struct footprint *to, const struct footprint *from)
{
	for (u32 i = 0; i < from->nr; i++)
		footprint_add(to, from->a[i].addr, from->a[i].size, from->a[i].kind,
			      from->a[i].flags);
}

static bool overlap(const struct access *a, const struct access *b)
{
	if (a->addr >= b->addr + b->size || b->addr >= a->addr + a->size)
		return false;
	return !(a->kind == b->kind && (a->kind == BASE_READ || a->kind == BASE_COUNT));
}

/* `swap`: only pairs that can be swapped. */
static bool conflict(const struct footprint *f, const struct footprint *g, bool swap)
{
	for (u32 i = 0; i < f->nr; i++) {
		for (u32 j = 0; j < g->nr; j++) {
			if (!overlap(&f->a[i], &g->a[j]))
				continue;
			if (!swap || !(f->a[i].flags & FP_RELEASE) ||
			    !(g->a[j].flags & (FP_ACQUIRE | FP_RELEASE)))
				return true;
		}
	}
	return false;
}

/* ---- happens-before and races ---- */

/* Its pending step waits for something, a lock or a condition: there are states in which it cannot
 * be taken.
 */
static bool is_conditional(u32 p)
{
	u8 kind = x.actor[p].op.kind;

	return kind == OP_LOCK || kind == OP_WAIT || kind == OP_ASLEEP || kind == OP_YIELD;
}

static void clock_before(u32 p, s32 *clock)
{
	for (u32 i = nr_events; i--;) {
		if (events[i].actor == p) {
			memcpy(clock, events[i].clock, sizeof(events[i].clock));
			return;
		}
	}
	for (u32 q = 0; q < X_MAX_ACTORS; q++)
		clock[q] = -1;
}

/* Joins into clock what happens before a step with this footprint, of events below `nr`. */
static void clock_join(u32 p, const struct footprint *f, u32 nr, s32 *clock)
{
	for (u32 i = nr; i--;) {
		const struct event *e = &events[i];

		if (e->actor == p || (s32)i <= clock[e->actor] || !conflict(&e->print, f, false))
			continue;
		for (u32 q = 0; q < x.nr; q++)
			clock[q] = max(clock[q], e->clock[q]);
	}
}

/* A step that is looked at for races. */
struct step {
	u32 actor;
	bool conditional;
	const struct footprint *print;
	s32 before[X_MAX_ACTORS]; /* what happens before it in any order: through its own actor */
};

/* Whether the step might also have been taken before event i. */
static bool may_swap(u32 i, const struct step *st)
{
	const struct event *e = &events[i];

	return e->actor != st->actor && (s32)i > st->before[e->actor] &&
	       conflict(&e->print, st->print, true);
}

/* Whether it could have been for sure: what it waits for was so then. */
static bool can_swap(u32 i, const struct step *st)
{
	if (!may_swap(i, st))
		return false;
	return !st->conditional ||
	       (st->before[st->actor] < (s32)i && (nodes[events[i].node].enabled & BIT(st->actor)));
}

/* Actors that can take the first step of the run that has p's step before event i. */
static u16 initials(u32 i, u32 nr, const struct step *st)
{
	u32 p = st->actor;
	const struct event *e = &events[i];
	u16 first = 0, met = 0;
	bool p_first = true;

	for (u32 j = i + 1; j < nr; j++) {
		const struct event *g = &events[j];
		bool is_first = true;

		if (g->clock[e->actor] >= (s32)i)
			continue;
		if (g->actor != p && conflict(&g->print, st->print, false))
			p_first = false;
		if (met & BIT(g->actor))
			continue;
		met |= BIT(g->actor);
		for (u32 q = 0; q < x.nr; q++)
			is_first &= q == g->actor || g->clock[q] <= (s32)i;
		first |= is_first ? BIT(g->actor) : 0;
	}
	for (u32 q = 0; q < x.nr; q++)
		p_first &= q == p || st->before[q] <= (s32)i;
	if (!(met & BIT(p)) && p_first)
		first |= BIT(p);
	return first;
}

static void find_races(u32 nr, const struct step *st)
{
	u32 p = st->actor;

	for (u32 i = nr; i--;) {
		struct dnode *n = &nodes[events[i].node];
		bool direct = true;
		u16 first;

		if (!may_swap(i, st))
			continue;
		for (u32 j = i + 1; j < nr && direct; j++) {
			if (events[j].clock[events[i].actor] >= (s32)i && can_swap(j, st))
				direct = false;
		}
		if (!direct)
			continue;
		first = initials(i, nr, st) & n->enabled;
		if (!first)
			n->backtrack |= n->enabled;
		else if (!(first & n->backtrack))
			n->backtrack |= first & BIT(p) ? BIT(p) : first & (u16)-first;
	}
}

/* The last event is complete: its place in the order, its races. */
static void event_finish(struct search *s)
{
	struct event *e = &events[nr_events - 1];
	struct step st = { .actor = e->actor, .print = &e->print };
	u32 nr = --nr_events;

	clock_before(e->actor, st.before);
	memcpy(e->clock, st.before, sizeof(e->clock));
	clock_join(e->actor, &e->print, nr, e->clock);
	e->clock[e->actor] = (s32)nr;
	if (s->o->engine == X_DPOR) {
		st.conditional = e->conditional;
		find_races(nr, &st);
	}
	nr_events++;
	footprint_append(&nodes[e->node].explored[e->actor], &e->print);
}

static void pending_races(void)
{
	static struct footprint f;

	for (u32 p = 0; p < x.nr; p++) {
		struct step st = { .actor = p, .print = &f };

		if (x.actor[p].done)
			continue;
		f.nr = 0;
		footprint_of_op(p, &x.actor[p].op, &f);
		clock_before(p, st.before);
		st.conditional = is_conditional(p);
		find_races(nr_events, &st);
	}
}

/* ---- the search ---- */

static void to_path(struct search *s, u32 depth)
{
	s->path.nr = 0;
	for (u32 i = 0; i < depth; i++) {
		struct x_decision d = { .actor = nodes[i].mover,
					.is_choice = nodes[i].is_choice,
					.choice = nodes[i].choice,
					.point = nodes[i].point };

		path_push(&s->path, &d);
	}
}

static void keep_run(struct search *s, u32 depth)
{
	struct path *run;

	if (s->keep->nr == s->keep->max) {
		s->keep->all = false;
		return;
	}
	to_path(s, depth);
	run = &s->keep->run[s->keep->nr++];
	*run = s->path;
	s->path = (struct path){ 0 };
}

static u16 only_starting(u16 enabled)
{
	for (u32 p = 0; p < x.nr; p++) {
		if (x.actor[p].op.kind == OP_START)
			return (u16)BIT(p);
	}
	return enabled;
}

/* Who sleeps in node d: their steps were explored before and nothing since conflicts with them. */
static void sleep_of(u32 d)
{
	struct dnode *n = &nodes[d], *m;
	const struct event *e = &events[nr_events - 1];
	u16 from;

	n->sleep = 0;
	if (!d)
		return;
	m = &nodes[e->node];
	from = (m->sleep | m->done) & (u16)~BIT(e->actor);
	for (u32 q = 0; q < x.nr; q++) {
		u32 at = m->done & BIT(q) ? e->node : m->sleep_node[q];

		if ((from & BIT(q)) && !conflict(&nodes[at].explored[q], &e->print, false)) {
			n->sleep |= BIT(q);
			n->sleep_node[q] = at;
		}
	}
}

enum entered { GO_ON, GO_BACK, VIOLATED };

static enum entered enter(struct search *s, u32 d, u32 last)
{
	struct dnode *n = &nodes[d];
	u16 awake;

	n->mem = x.mem;
	n->log = x.nr_log;
	n->save = save_mark();
	n->done = n->backtrack = n->enabled = n->sleep = 0;
	n->choice = 0;
	n->is_choice = last < x.nr && x.actor[last].op.kind == OP_CHOOSE;
	if (n->is_choice) {
		n->mover = (u8)last;
		n->choices = x.actor[last].op.choices;
		n->event = nr_events;
		n->print_nr = events[nr_events - 1].print.nr;
		return GO_ON;
	}
	for (u32 p = 0; p < x.nr; p++)
		n->explored[p].nr = 0;
	if (d)
		event_finish(s);
	n->event = nr_events;
	sleep_of(d);
	if (!search_at_step(s))
		return VIOLATED;
	n->enabled = only_starting(enabled_mask());
	awake = n->enabled & (u16)~n->sleep;
	if (!awake) {
		if (s->o->engine == X_DPOR)
			pending_races();
		if (n->enabled) {
			s->r->pruned++;
			return GO_BACK;
		}
		if (run_ended()) {
			if (s->keep)
				keep_run(s, d);
			return search_end(s) ? GO_BACK : VIOLATED;
		}
		fail_deadlock();
		return VIOLATED;
	}
	if (s->o->engine == X_SLEEP)
		n->backtrack = n->enabled;
	else
		n->backtrack = last < x.nr && (awake & BIT(last)) ? BIT(last) : awake & (u16)-awake;
	return GO_ON;
}

/* Takes the next alternative of node d; false: none is left. */
static bool advance(u32 d, u32 last)
{
	struct dnode *n = &nodes[d];
	u16 todo;

	nr_events = n->event;
	if (n->is_choice) {
		if (n->choice == n->choices)
			return false;
		events[nr_events - 1].print.nr = n->print_nr;
		x.choice = n->choice;
	} else {
		struct event *e;

		todo = n->backtrack & (u16) ~(n->done | n->sleep);
		if (!todo)
			return false;
		n->mover = last < x.nr && (todo & BIT(last)) ? (u8)last : (u8)__builtin_ctz(todo);
		n->done |= BIT(n->mover);
		events = grow(events, &cap_events, nr_events + 1, sizeof(*events));
		e = &events[nr_events++];
		e->node = d;
		e->actor = n->mover;
		e->conditional = is_conditional(n->mover);
		e->print.nr = 0;
	}
	return true;
}

static void take(u32 d)
{
	struct dnode *n = &nodes[d];

	save_actor(n->mover);
	x.collect = &events[nr_events - 1].print;
	actor_step(n->mover);
	x.collect = NULL;
	n->point = actor_point_now(n->mover);
}

static bool search_from(struct search *s)
{
	u32 d = 0, last = X_MAX_ACTORS;
	enum entered e = enter(s, 0, last);

	for (;;) {
		if (e == VIOLATED)
			break;
		while (e == GO_BACK || !advance(d, last)) {
			if (!d)
				return true;
			d--;
			mem_undo(nodes[d].log);
			x.mem = nodes[d].mem;
			save_restore(nodes[d].mover);
			nodes[d].choice += nodes[d].is_choice;
			last = d ? nodes[d - 1].mover : X_MAX_ACTORS;
			e = GO_ON;
		}
		if (!search_tick(s))
			return true;
		take(d);
		last = nodes[d].mover;
		d++;
		nodes = grow(nodes, &cap_nodes, d + 1, sizeof(*nodes));
		s->r->depth = max(s->r->depth, (u64)d);
		e = x.failed ? VIOLATED : enter(s, d, last);
		if (d >= (s->o->max_steps ? s->o->max_steps : 100000) && e == GO_ON) {
			snprintf(x.message, sizeof(x.message),
				 "a run does not end: more than %u steps", d);
			e = VIOLATED;
		}
	}
	to_path(s, d);
	return false;
}

bool search_dpor(struct search *s)
{
	bool ok;

	nodes = grow(nodes, &cap_nodes, 1, sizeof(*nodes));
	nr_events = 0;
	save_drop(0);
	x.static_points = true;
	ok = search_from(s);
	x.static_points = false;
	return ok;
}
