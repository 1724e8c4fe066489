/*
 * hash.c - depth-first search over states: a state that was visited before is not entered again.
 *
 * A state is the hash (128 bits) of the arena and of each actor's local state. With a preemption
 * bound the number of preemptions and who ran last belong to the state. The same search without the
 * table visits every interleaving (X_DFS).
 *
 * Going back undoes the arena from the log, and restores the one actor that had moved.
 */
#include "explore/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- the table of states ---- */

struct table {
	struct hash128 *slot; /* {0, 0}: empty */
	u64 nr, mask;
};

static struct table seen;

static struct hash128 *table_map(u64 slots)
{
	void *p = mmap(NULL, slots * sizeof(struct hash128), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, slots * sizeof(struct hash128), MADV_HUGEPAGE); /* looked up at random */
	return p;
}

static void table_reset(void)
{
	if (seen.slot)
		munmap(seen.slot, (seen.mask + 1) * sizeof(struct hash128));
	seen.mask = (1u << 16) - 1;
	seen.nr = 0;
	seen.slot = table_map(seen.mask + 1);
}

static bool table_put(struct hash128 h)
{
	u64 i = h.lo & seen.mask;

	while (seen.slot[i].lo | seen.slot[i].hi) {
		if (seen.slot[i].lo == h.lo && seen.slot[i].hi == h.hi)
			return false;
		i = (i + 1) & seen.mask;
	}
	seen.slot[i] = h;
	seen.nr++;
	return true;
}

/* False: it would outgrow max_bytes. */
static bool table_grow(u64 max_bytes)
{
	struct hash128 *old = seen.slot;
	u64 slots = seen.mask + 1;

	if (seen.nr * 4 < slots * 3)
		return true;
	if (slots * 4 * sizeof(*old) > max_bytes)
		return false;
	seen.slot = table_map(slots * 4);
	if (!seen.slot) {
		seen.slot = old;
		return false;
	}
	seen.mask = slots * 4 - 1;
	seen.nr = 0;
	for (u64 i = 0; i < slots; i++) {
		if (old[i].lo | old[i].hi)
			table_put(old[i]);
	}
	munmap(old, slots * sizeof(*old));
	return true;
}

/* ---- the search ---- */

struct node {
	struct hash128 mem, state;
	u64 log, save;
	u32 point; /* of the mover, where its step ended */
	u16 enabled;
	u16 todo; /* actors, or at a choice: choices left */
	u8 mover;
	bool is_choice;
	bool starts; /* the mover began there */
	u16 choice;
	int8_t prev; /* who ran last, agents apart; -1: nobody */
	u8 preempted;
};

static struct node *nodes;
static u32 cap_nodes;

static struct node *node_at(u32 d)
{
	if (d >= cap_nodes) {
		cap_nodes = cap_nodes ? cap_nodes * 2 : 4096;
		nodes = realloc(nodes, cap_nodes * sizeof(*nodes));
		if (!nodes) {
			fprintf(stderr, "explore: out of memory\n");
			exit(3);
		}
	}
	return &nodes[d];
}

static void nodes_to_path(struct search *s, u32 depth)
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

/* An actor that has not begun goes first: what it does before its first point meets nobody. */
static u16 starting(u16 enabled)
{
	for (u32 p = 0; p < x.nr; p++) {
		if (x.actor[p].op.kind == OP_START)
			return (u16)BIT(p);
	}
	return enabled;
}

static bool is_agent(u32 p)
{
	return x.info[p].flags & X_AGENT;
}

/* Who ran last and how often somebody was preempted so far, for the state that node n leads to. */
static void count_preemption(struct node *to, const struct node *n, u16 enabled_before)
{
	to->prev = n->prev;
	to->preempted = n->preempted;
	if (n->is_choice || n->starts || is_agent(n->mover))
		return;
	if (n->prev >= 0 && n->prev != n->mover && (enabled_before & BIT(n->prev)))
		to->preempted++;
	to->prev = (int8_t)n->mover;
}

static bool hash_is_new(struct search *s, struct node *n)
{
	n->state = state_hash();
	if (s->o->engine == X_DFS)
		return true;
	if (s->o->bound >= 0)
		hash_xor(&n->state, mix128(0x400 + n->preempted, (u64)(n->prev + 1)));
	if (!table_put(n->state))
		return false;
	if (!table_grow(s->o->max_bytes ? s->o->max_bytes : 1ull << 30) ||
	    (s->o->max_states && seen.nr > s->o->max_states))
		s->stopped = "states";
	return true;
}

/* ---- cycles ---- */

/* How many states of the current run have these hash bits: says quickly that one is not on it. */
static u16 on_run[1 << 14];

static u16 *on_run_at(const struct node *n)
{
	return &on_run[n->state.hi & (ARRAY_SIZE(on_run) - 1)];
}

/*
 * The run has come back to one of its own states. If everybody who could go on anywhere on the way
 * did go on, and no choice was taken, that may be repeated for ever by a fair scheduler: a
 * livelock. (Not every livelock is met this way: a search that goes on elsewhere may miss the way
 * around.)
 */
static bool is_livelock(const struct node *now)
{
	u16 could = 0, did = 0;
	bool program = false;

	if (!*on_run_at(now))
		return false;
	for (const struct node *n = now - 1; n >= nodes; n--) {
		if (n->is_choice)
			return false;
		could |= n->enabled;
		did |= BIT(n->mover);
		program |= !(x.info[n->mover].flags & X_AGENT);
		if (n->state.lo == now->state.lo && n->state.hi == now->state.hi)
			return program && !(could & ~did);
	}
	return false;
}

enum entered { GO_ON, GO_BACK, VIOLATED };

/* The state that was just reached: what can be done in it. */
static enum entered enter(struct search *s, struct node *n, u32 last)
{
	u16 enabled;

	n->mem = x.mem;
	n->log = x.nr_log;
	n->save = save_mark();
	n->is_choice = last < x.nr && x.actor[last].op.kind == OP_CHOOSE;
	n->choice = 0;
	if (n->is_choice) {
		n->mover = (u8)last;
		n->todo = x.actor[last].op.choices;
		return GO_ON;
	}
	if (!hash_is_new(s, n)) {
		s->r->pruned++;
		if (!is_livelock(n))
			return GO_BACK;
		fail_livelock();
		return VIOLATED;
	}
	if (!search_at_step(s))
		return VIOLATED;
	enabled = enabled_mask();
	if (!enabled) {
		if (run_ended())
			return search_end(s) ? GO_BACK : VIOLATED;
		fail_deadlock();
		return VIOLATED;
	}
	n->enabled = enabled;
	n->todo = starting(enabled);
	if (s->o->bound >= 0 && n->preempted >= s->o->bound && n->prev >= 0 &&
	    (n->todo & BIT(n->prev))) {
		for (u32 p = 0; p < x.nr; p++) {
			if (p != (u32)n->prev && !is_agent(p))
				n->todo &= (u16)~BIT(p);
		}
	}
	return GO_ON;
}

/* The next alternative at n; the one that ran last comes first, so runs switch rarely. */
static void pick(struct node *n, u32 last)
{
	n->starts = false;
	if (n->is_choice) {
		x.choice = n->choice = (u16)(x.actor[n->mover].op.choices - n->todo);
		n->todo--;
		return;
	}
	n->mover = last < x.nr && (n->todo & BIT(last)) ? (u8)last : (u8)__builtin_ctz(n->todo);
	n->todo &= (u16)~BIT(n->mover);
	n->starts = x.actor[n->mover].op.kind == OP_START;
}

static void go_back(struct node *n)
{
	if (!n->is_choice)
		--*on_run_at(n);
	mem_undo(n->log);
	x.mem = n->mem;
	save_restore(n->mover);
}

bool search_hash(struct search *s)
{
	u32 d = 0, last = X_MAX_ACTORS;
	enum entered e;

	table_reset();
	memset(on_run, 0, sizeof(on_run));
	save_drop(0);
	node_at(0)->prev = -1;
	nodes[0].preempted = 0;
	e = enter(s, &nodes[0], last);
	for (;;) {
		struct node *n;
		u16 enabled = 0;

		if (e == VIOLATED || x.failed)
			break;
		while (e == GO_BACK || !nodes[d].todo) {
			if (!d)
				return true;
			go_back(&nodes[--d]);
			last = d ? nodes[d - 1].mover : X_MAX_ACTORS;
			e = GO_ON;
		}
		if (!search_tick(s))
			return true;
		n = node_at(d + 1) - 1;
		if (s->o->bound >= 0 && !n->is_choice)
			enabled = enabled_mask();
		pick(n, last);
		if (!n->is_choice)
			++*on_run_at(n);
		save_actor(n->mover);
		actor_step(n->mover);
		n->point = actor_point_now(n->mover);
		last = n->mover;
		count_preemption(n + 1, n, enabled);
		d++;
		if (d > s->r->depth)
			s->r->depth = d;
		e = x.failed ? VIOLATED : enter(s, &nodes[d], last);
		if (d >= (s->o->max_steps ? s->o->max_steps : 100000) && e == GO_ON) {
			snprintf(x.message, sizeof(x.message),
				 "a run does not end: more than %u steps", d);
			e = VIOLATED;
		}
		s->r->states = s->o->engine == X_DFS ? 0 : seen.nr;
	}
	nodes_to_path(s, d);
	return false;
}
