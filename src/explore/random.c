/*
 * random.c - sampled runs: each step's actor by chance, or by priorities that change at a few
 * random steps (PCT: Burckhardt et al., "A randomized scheduler with probabilistic guarantees of
 * finding bugs").
 */
#include "explore/internal.h"

#include <stdio.h>

struct chance {
	u64 state;
	u32 priority[X_MAX_ACTORS];
	u32 change[16]; /* steps at which whoever runs falls behind all others */
	u32 depth, low, length;
};

static u64 draw(struct chance *c)
{
	c->state ^= c->state << 13;
	c->state ^= c->state >> 7;
	c->state ^= c->state << 17;
	return c->state * 0x2545f4914f6cdd1dull >> 16;
}

static void pct_begin(struct chance *c, s32 depth)
{
	c->depth = min((u32)(depth < 1 ? 3 : depth), 16u);
	c->low = c->depth;
	for (u32 p = 0; p < x.nr; p++)
		c->priority[p] = 100 + (u32)(draw(c) % 100000);
	for (u32 i = 0; i + 1 < c->depth; i++)
		c->change[i] = (u32)(draw(c) % max(c->length, 1u));
}

static u32 pct_highest(const struct chance *c, u16 mask)
{
	u32 best = X_MAX_ACTORS;

	for (u32 p = 0; p < x.nr; p++) {
		if ((mask & BIT(p)) && (best == X_MAX_ACTORS || c->priority[p] > c->priority[best]))
			best = p;
	}
	return best;
}

static u32 choose_actor(struct chance *c, bool pct, u16 mask, u32 step)
{
	u32 k;

	if (pct) {
		for (u32 i = 0; i + 1 < c->depth; i++) {
			if (c->change[i] == step)
				c->priority[pct_highest(c, mask)] = c->low--;
		}
		return pct_highest(c, mask);
	}
	for (k = (u32)(draw(c) % (u32)__builtin_popcount(mask)); k; k--)
		mask &= mask - 1;
	return (u32)__builtin_ctz(mask);
}

/* One run from the start. False: a violation. */
static bool run_once(struct search *s, struct chance *c, bool pct)
{
	u32 last = X_MAX_ACTORS, step = 0;

	search_rewind();
	s->path.nr = 0;
	if (!s->o->no_races && race_begin())
		s->r->race_runs++;
	if (s->o->verify)
		mem_verify_begin();
	if (x.failed)
		return false;
	for (;; step++) {
		struct x_decision d = { 0 };

		if (last < x.nr && x.actor[last].op.kind == OP_CHOOSE) {
			d.is_choice = 1;
			d.choice = (u16)(draw(c) % x.actor[last].op.choices);
			x.choice = d.choice;
		} else {
			u16 mask;

			if (!search_at_step(s))
				return false;
			mask = enabled_mask();
			if (!mask && run_ended())
				break;
			if (!mask) {
				fail_deadlock();
				return false;
			}
			last = choose_actor(c, pct, mask, step);
		}
		d.actor = (u8)last;
		if (!search_tick(s))
			return true;
		actor_step(last);
		if (s->o->verify)
			mem_verify_step();
		d.point = actor_point_now(last);
		path_push(&s->path, &d);
		if (x.failed)
			return false;
		if (step > (s->o->max_steps ? s->o->max_steps : 100000)) {
			snprintf(x.message, sizeof(x.message),
				 "a run does not end: more than %u steps", step);
			return false;
		}
	}
	c->length = max(c->length, step);
	s->r->depth = max(s->r->depth, (u64)step);
	return search_end(s);
}

bool search_random(struct search *s, u64 executions)
{
	bool pct = s->o->engine == X_PCT;
	struct chance c = { .state = mix64(s->o->seed + 1) | 1, .length = 60 };

	for (u64 i = 0; i < executions && !s->stopped; i++) {
		if (pct)
			pct_begin(&c, s->o->bound);
		if (!run_once(s, &c, pct))
			return false;
	}
	search_rewind();
	return true;
}
