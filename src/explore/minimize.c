/*
 * minimize.c - a counterexample that a person can read: as few switches between actors as can be
 * had.
 *
 * First the search is repeated with room for 0, 1, 2 preemptions. Then switches are merged: what an
 * actor did in several pieces is tried in one, pieces are left out, choices take their usual
 * course. A candidate is a list of pieces ("this actor until its point n"); it is run as far as it
 * goes, and then everybody runs to the end one after the other. It is kept when that ends in the
 * same violation with fewer switches. Every result is a path that was really run.
 */
#include "explore/internal.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TRIES   3000u
#define BOUND_STEPS 300000u
#define MAX_BOUND   3
#define MAX_LENGTH  20000u

struct pieces {
	struct x_decision *d;
	u32 nr;
};

struct minimizer {
	char message[sizeof(x.message)]; /* of the violation, without its numbers */
	bool race;
	struct path best, now;
	u32 tries;
};

/* Addresses and counts may differ. */
static void plain_message(char *to, const char *from)
{
	for (; *from; from++) {
		if ((*from >= '0' && *from <= '9') || (*from >= 'a' && *from <= 'f'))
			continue;
		*to++ = *from;
	}
	*to = 0;
}

static bool same_message(const struct minimizer *m)
{
	char text[sizeof(x.message)];

	plain_message(text, x.message);
	return !strcmp(text, m->message);
}

static u32 path_cost(const struct path *p)
{
	u32 n = 0, choices = 0;

	for (u32 i = 0; i < p->nr; i++) {
		n += i && p->d[i].actor != p->d[i - 1].actor;
		choices += p->d[i].is_choice && p->d[i].choice;
	}
	return n * 8 + choices;
}

static u16 choice_at(const struct pieces *c, u32 p)
{
	for (u32 i = 0; i < c->nr; i++) {
		if (c->d[i].is_choice && c->d[i].actor == p &&
		    c->d[i].fingerprint == x.actor[p].total_points)
			return min(c->d[i].choice, (u16)(x.actor[p].op.choices - 1));
	}
	return 0;
}

/* One step of p up to the given point. False: a violation. */
static bool take(struct minimizer *m, const struct pieces *c, u32 p, u32 point)
{
	struct x_decision d = { .actor = (u8)p, .is_choice = x.actor[p].op.kind == OP_CHOOSE };

	d.fingerprint = x.actor[p].total_points;
	if (d.is_choice)
		x.choice = d.choice = choice_at(c, p);
	x.stop_at = point;
	actor_step(p);
	d.point = actor_point_now(p);
	path_push(&m->now, &d);
	return !x.failed && (x.actor[p].op.kind == OP_CHOOSE || search_at_step(NULL));
}

static u32 next_actor(u16 mask, u32 last)
{
	if (last < x.nr && (mask & BIT(last)))
		return last;
	for (u32 p = 0; p < x.nr; p++) {
		if ((mask & BIT(p)) && !(x.info[p].flags & X_AGENT))
			return p;
	}
	return (u32)__builtin_ctz(mask);
}

/* False: a violation. */
static bool run_to_end(struct minimizer *m, const struct pieces *c, u32 last)
{
	while (m->now.nr < MAX_LENGTH) {
		u16 mask;

		if (last < x.nr && x.actor[last].op.kind == OP_CHOOSE) {
			if (!take(m, c, last, ~0u))
				return false;
			continue;
		}
		mask = enabled_mask();
		if (!mask) {
			if (run_ended())
				return !x.prog->at_end || run_check(x.prog->at_end, x.prog->arg);
			fail_deadlock();
			return false;
		}
		last = next_actor(mask, last);
		if (!take(m, c, last, ~0u))
			return false;
	}
	return true;
}

/* Runs a candidate; m->now is the path. False: a violation. */
static bool run_pieces(struct minimizer *m, const struct pieces *c)
{
	u32 last = X_MAX_ACTORS;

	search_rewind();
	if (m->race)
		race_begin();
	m->now.nr = 0;
	x.replaying = true;
	for (u32 i = 0; i < c->nr; i++) {
		u32 p = c->d[i].actor;

		if (c->d[i].is_choice)
			continue; /* taken when it comes */
		last = p;
		while (!x.actor[p].done && x.actor[p].total_points < c->d[i].point) {
			if (x.actor[p].op.kind != OP_CHOOSE && !(enabled_mask() & BIT(p)))
				break;
			if (!take(m, c, p, c->d[i].point))
				return false;
		}
	}
	return run_to_end(m, c, last);
}

static void path_copy(struct path *to, const struct path *from)
{
	to->nr = 0;
	for (u32 i = 0; i < from->nr; i++)
		path_push(to, &from->d[i]);
}

/* Keeps the candidate if it fails in the same way for less. */
static bool try_pieces(struct minimizer *m, const struct pieces *c)
{
	bool good;

	if (m->tries++ >= MAX_TRIES)
		return false;
	good = run_pieces(m, c);
	x.replaying = false;
	if (good || !same_message(m) || (m->best.nr && path_cost(&m->now) >= path_cost(&m->best)))
		return false;
	path_copy(&m->best, &m->now);
	return true;
}

/* The path as pieces: what one actor does in a row is one. */
static void path_pieces(const struct path *p, struct pieces *c)
{
	c->d = realloc(c->d, (p->nr + 1) * sizeof(*c->d));
	c->nr = 0;
	for (u32 i = 0; i < p->nr; i++) {
		if (c->nr && !p->d[i].is_choice && !c->d[c->nr - 1].is_choice &&
		    c->d[c->nr - 1].actor == p->d[i].actor)
			c->d[c->nr - 1] = p->d[i];
		else
			c->d[c->nr++] = p->d[i];
	}
}

static void piece_move(struct pieces *c, u32 from, u32 to)
{
	struct x_decision d = c->d[from];

	memmove(&c->d[to + 1], &c->d[to], (from - to) * sizeof(d));
	c->d[to] = d;
}

static void piece_drop(struct pieces *c, u32 i)
{
	memmove(&c->d[i], &c->d[i + 1], (c->nr - i - 1) * sizeof(*c->d));
	c->nr--;
}

/* One change that helps; false: there is none. */
static bool improve(struct minimizer *m)
{
	struct pieces c = { 0 };
	bool better = false;
	u32 nr;

	path_pieces(&m->best, &c);
	nr = c.nr;
	for (u32 i = nr; i-- && !better;) {
		path_pieces(&m->best, &c);
		if (c.d[i].is_choice) {
			if (c.d[i].choice) {
				c.d[i].choice = 0;
				better = try_pieces(m, &c);
			}
			continue;
		}
		piece_drop(&c, i);
		better = try_pieces(m, &c);
		for (u32 j = i; j-- && !better;) {
			path_pieces(&m->best, &c);
			if (c.d[j].is_choice || c.d[j].actor != c.d[i].actor || j + 1 == i)
				continue;
			piece_move(&c, i, j + 1);
			better = try_pieces(m, &c);
			break;
		}
	}
	free(c.d);
	return better;
}

/* The same violation with few preemptions, if a short search finds it. */
static void try_bounds(struct minimizer *m, const struct search *found)
{
	for (s32 bound = 0; bound <= MAX_BOUND; bound++) {
		struct x_options o = { .engine = X_HASH, .bound = bound };
		struct x_result r = { 0 };
		struct search s = { .o = &o, .r = &r, .began = found->began };
		bool good;

		s.max_steps = BOUND_STEPS;
		search_rewind();
		good = search_hash(&s);
		if (!good && same_message(m) && path_cost(&s.path) < path_cost(&m->best)) {
			path_copy(&m->best, &s.path);
			bound = MAX_BOUND;
		}
		free(s.path.d);
	}
}

void path_minimize(struct search *s)
{
	struct minimizer m = { .race = x.is_race };
	u64 events = x.events;
	char message[sizeof(x.message)];
	struct pieces c = { 0 };

	memcpy(message, x.message, sizeof(message));
	plain_message(m.message, x.message);
	path_copy(&m.best, &s->path);
	if (!m.race)
		try_bounds(&m, s);
	path_pieces(&m.best, &c);
	m.best.nr = 0;
	/* The pieces must fail on their own, with the rest of the actors run to the end. */
	if (try_pieces(&m, &c)) {
		while (improve(&m))
			;
		path_copy(&s->path, &m.best);
	}
	x.is_race = m.race;
	memcpy(x.message, message, sizeof(message));
	x.events = events;
	free(c.d);
	free(m.best.d);
	free(m.now.d);
}
