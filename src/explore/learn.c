/*
 * learn.c - which words are scheduling points: learnt, to a fixpoint.
 *
 * At first no word is one. Each access that could be one (base_point, locks, waits) is recorded by
 * half word: which actors ever read, wrote or counted there, over all runs of all passes, and which
 * locks were held at every such access. Two accesses of different actors meet when at least one
 * writes (two counts do not meet). A half word is a point
 *   - if actors meet there, and
 *   - no one lock was held exclusively at each write, and at least for reading at each read.
 * A record that adds a meeting, or takes a lock away, is an event: decisions made before it were
 * made with too few points, so the exploration is run again. It is exhaustive when a whole pass saw
 * no event.
 *
 * Why that is enough. Suppose a pass P with the set S of points saw no event, and some order of
 * single accesses contains a meeting outside S. Take the shortest prefix of such an order that ends
 * in one, of p and q at word w. Before it nothing outside S meets, so each access outside S can be
 * moved back to the point at which its actor's step began: accesses of other actors in between do
 * not touch the word (no meeting), or are kept out by the lock that protects it (its acquisition is
 * a point, and is not moved over). The result is an order in which actors are interrupted at points
 * in S only, and in which p's and q's steps contain both accesses: P has run it (or another with
 * the same state at that point), and the record, which is kept over all runs, has seen both. So P
 * had an event: a contradiction.
 * A lock never protects its own word. That it keeps others out while it is held is checked: making
 * a lock is a point too, and an unlock of a lock that is not held a violation (locks.c). Records
 * are never forgotten between passes, so passes end.
 *
 * Which plain words an actor reads that others write is recorded too: their values are part of what
 * it has seen (no_forget), and wake it when it only retries (base_yield). They are no points: the
 * race detector checks that they need not be.
 *
 * An actor that is done meets nobody: whether a word is a point depends on who still runs, which
 * is part of the state.
 */
#include "explore/internal.h"
#include "base/lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LOCKS 6
#define MAX_SETS  4096
enum { SET_ANY, SET_NONE };

struct lockset {
	u32 nr;
	const void *lock[MAX_LOCKS];
};

static struct lockset sets[MAX_SETS];
static u32 nr_sets = 2;
static u64 *met; /* half words where actors meet */
static u32 nr_met, cap_met;

void learn_reset(void)
{
	nr_sets = 2;
	nr_met = 0;
}

static void met_push(u64 addr)
{
	if (nr_met == cap_met) {
		cap_met = cap_met ? cap_met * 2 : 1024;
		met = realloc(met, cap_met * sizeof(*met));
		if (!met) {
			fprintf(stderr, "explore: out of memory\n");
			exit(3);
		}
	}
	met[nr_met++] = addr;
}

void learn_reader(struct xword *w)
{
	if ((w->writers & ~x.me) && (x.no_forget || (x.yielders & x.me)))
		x.events++;
	w->readers |= x.me;
}

void learn_writer(struct xword *w)
{
	if ((w->readers & ~x.me) && (x.no_forget || (w->readers & x.yielders)))
		x.events++;
	w->writers |= x.me;
}

#define RWSEM_WRITER BIT(31)

/* Whether holding it keeps all others out. */
static bool held_exclusively(const void *lock, u32 cls)
{
	if (cls == LOCK_VMA)
		return false;
	if (cls == LOCK_SPACE || cls == LOCK_ANON_VMA)
		return *(const u32 *)lock & RWSEM_WRITER;
	return true;
}

static bool is_held(const struct base_thread *t, const void *lock, bool write)
{
	for (u32 i = 0; i < t->nr_held; i++) {
		if (t->held[i].lock == lock)
			return !write || held_exclusively(lock, t->held[i].cls);
	}
	return false;
}

static u16 set_intern(const struct lockset *s)
{
	if (!s->nr)
		return SET_NONE;
	for (u32 i = 2; i < nr_sets; i++) {
		if (sets[i].nr == s->nr && !memcmp(sets[i].lock, s->lock, s->nr * sizeof(void *)))
			return (u16)i;
	}
	if (nr_sets == MAX_SETS)
		return SET_NONE; /* one point more than needed */
	sets[nr_sets] = *s;
	return (u16)nr_sets++;
}

/* LOCKING words protect others, never themselves. */
static bool own_word(const void *lock, u64 addr)
{
	return ((u64)lock & ~7ul) == (addr & ~7ul);
}

static u16 set_of_held(const struct base_thread *t, u64 addr, bool write)
{
	struct lockset s = { 0 };

	for (u32 i = 0; i < t->nr_held && s.nr < MAX_LOCKS; i++) {
		const void *lock = t->held[i].lock;

		if (t->held[i].cls == LOCK_VMA || own_word(lock, addr))
			continue;
		if (!write || held_exclusively(lock, t->held[i].cls))
			s.lock[s.nr++] = lock;
	}
	return set_intern(&s);
}

static u16 set_narrow(u16 set, const struct base_thread *t, u64 addr, bool write)
{
	struct lockset s = { 0 };
	u32 kept = 0;

	if (set == SET_ANY)
		return set_of_held(t, addr, write);
	for (u32 i = 0; i < sets[set].nr; i++) {
		if (is_held(t, sets[set].lock[i], write)) {
			s.lock[s.nr++] = sets[set].lock[i];
			kept++;
		}
	}
	return kept == sets[set].nr ? set : set_intern(&s);
}

/* Who meets an access of this kind there, of those in `who`. */
static inline u16 meets(const struct xhalf *h, enum base_access kind, u16 who)
{
	switch (kind) {
	case BASE_READ:
		return (h->w | h->c) & who;
	case BASE_COUNT:
		return (h->r | h->w) & who;
	default:
		return (h->r | h->w | h->c) & who;
	}
}

static inline u16 *mask_of(struct xhalf *h, enum base_access kind)
{
	return kind == BASE_READ ? &h->r : kind == BASE_COUNT ? &h->c : &h->w;
}

/* Whether any two actors meet there. */
static bool any_meeting(const struct xhalf *h)
{
	bool two_writers = h->w & (h->w - 1);
	bool two_users = (h->r | h->c) && !(h->r == h->c && !(h->r & (h->r - 1)));

	return two_writers || (h->w && ((h->r | h->c) & ~h->w)) || (h->c && h->r && two_users);
}

static __attribute__((cold, noinline)) void half_learn(struct xword *w, u64 addr,
						       enum base_access kind, u16 set)
{
	u32 half = (addr >> 2) & 1;
	struct xhalf *h = &w->half[half];
	bool fresh = !(*mask_of(h, kind) & x.me);
	bool meeting;

	*mask_of(h, kind) |= x.me;
	meeting = any_meeting(h);
	if (meeting && !(w->flags & (half ? W_MET1 : W_MET0))) {
		w->flags |= half ? W_MET1 : W_MET0;
		met_push(addr);
	}
	if (set == SET_NONE && meeting) {
		if (set != h->lockset || (fresh && meets(h, kind, (u16)~x.me)))
			x.events++;
	}
	h->lockset = set;
}

static inline bool half_access(u64 addr, enum base_access kind, bool lock_op)
{
	struct xword *w = word_of(addr);
	u32 half = (addr >> 2) & 1;
	struct xhalf *h = &w->half[half];
	u16 nonlock = half ? W_NONLOCK1 : W_NONLOCK0;
	u16 set = h->lockset;

	if (!lock_op && unlikely(!(w->flags & nonlock))) {
		/* From now on its unlock is a point too. */
		x.events += (h->r | h->w | h->c) != 0;
		w->flags |= nonlock;
	}
	if (set != SET_NONE)
		set = set_narrow(set, x.info[x.self].thread, addr, kind != BASE_READ);
	if (unlikely(set != h->lockset || !(*mask_of(h, kind) & x.me)))
		half_learn(w, addr, kind, set);
	return set == SET_NONE && meets(h, kind, x.live & (u16)~x.me);
}

bool learn_access(u64 addr, u32 size, enum base_access kind, bool lock_op)
{
	bool meet = false;

	for (u64 a = addr & ~3ul; a < addr + size; a += 4)
		meet |= half_access(a, kind, lock_op);
	return meet || x.every_point;
}

void learn_count(u64 *shared, u64 *locked)
{
	for (u32 i = 0; i < nr_met; i++) {
		const struct xhalf *h = &word_of(met[i])->half[(met[i] >> 2) & 1];

		++*(h->lockset == SET_NONE ? shared : locked);
	}
}
