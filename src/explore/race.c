/*
 * race.c - races of plain accesses: two accesses of different actors to one byte, at least one of
 * them a write, at least one of them plain, and neither happens before the other.
 *
 * Happens-before is C11's: a release store, or a read-modify-write, to a word is acquired by who
 * reads the word with acquire; relaxed accesses order nothing, except that a relaxed
 * read-modify-write keeps what was released there; fences order with all other fences. Locks,
 * conditions (x_wait) and steps of the machine (x_access) acquire and release the bytes that they
 * declare. A grace period orders readers that ended before it, and what follows it, and likewise
 * what went before it and readers that begin after it. Freeing memory is a write.
 *
 * Races are looked for in runs of their own (driver.c: sampled runs, and every complete run that
 * sleep sets or DPOR found), because whether accesses are ordered depends on the whole run and not
 * on the state: a search that prunes states would miss some.
 *
 * Per word: what was released there, and for each actor its last access of each kind, with a mask
 * of bytes. An older access to other bytes of the word is forgotten when a newer one comes.
 */
#include "explore/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RACE_ACTORS 8u

enum race_kind { PLAIN_READ, PLAIN_WRITE, ATOMIC_READ, ATOMIC_WRITE, NR_KINDS };

struct last {
	u32 clock[NR_KINDS];
	u8 mask[NR_KINDS];
	u64 pc[NR_KINDS];
};

struct race_word {
	u32 gen;           /* of the run: older contents are void */
	u32 stepper, step; /* who released it in a step of the machine last, and when */
	u32 released[RACE_ACTORS];
	struct last last[RACE_ACTORS];
};

static struct race_word *shadow;
static u32 gen;
static u32 clocks[RACE_ACTORS][RACE_ACTORS];
static u32 fences[RACE_ACTORS];
static u32 rcu_begun[RACE_ACTORS], rcu_ended[RACE_ACTORS];

bool race_begin(void)
{
	u64 bytes = X_ARENA_BYTES / 8 * sizeof(struct race_word);

	x.racing = false;
	if (x.nr > RACE_ACTORS)
		return false;
	if (!shadow) {
		shadow = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (shadow == MAP_FAILED) {
			shadow = NULL;
			return false;
		}
	}
	gen++;
	memset(clocks, 0, sizeof(clocks));
	memset(fences, 0, sizeof(fences));
	memset(rcu_begun, 0, sizeof(rcu_begun));
	memset(rcu_ended, 0, sizeof(rcu_ended));
	for (u32 p = 0; p < RACE_ACTORS; p++)
		clocks[p][p] = 1;
	x.racing = true;
	return true;
}

static struct race_word *shadow_of(u64 addr)
{
	struct race_word *w = &shadow[(addr - X_BASE) >> 3];

	if (w->gen != gen) {
		memset(w, 0, sizeof(*w));
		w->gen = gen;
	}
	return w;
}

static void join(u32 *to, const u32 *from)
{
	for (u32 p = 0; p < RACE_ACTORS; p++)
		to[p] = max(to[p], from[p]);
}

static void acquire(const u32 *from)
{
	join(clocks[x.self], from);
}

static void release(u32 *to)
{
	join(to, clocks[x.self]);
	clocks[x.self][x.self]++;
}

static const char *const kind_words[] = { "reads", "writes", "reads atomically",
					  "writes atomically" };

static __attribute__((cold, noinline)) void report(u64 addr, u32 p, enum race_kind theirs,
						   enum race_kind ours, u64 their_pc, u64 our_pc)
{
	char *a = symbol_name(their_pc), *b = symbol_name(our_pc);

	x.is_race = true;
	x_fail("data race at %#lx: %s %s in %s, %s %s in %s, and nothing orders them",
	       addr - X_BASE, x.info[p].name, kind_words[theirs], a, x.info[x.self].name,
	       kind_words[ours], b);
}

static void access_word(u64 addr, u8 mask, enum race_kind kind, u64 pc)
{
	struct race_word *w = shadow_of(addr);
	bool write = kind & 1, atomic = kind >= ATOMIC_READ;
	struct last *mine = &w->last[x.self];

	if (word_of(addr)->flags & W_UNRACED)
		return;
	for (u32 p = 0; p < x.nr; p++) {
		const struct last *l = &w->last[p];

		if (p == x.self)
			continue;
		for (u32 k = atomic ? PLAIN_READ : 0; k < (atomic ? ATOMIC_READ : NR_KINDS); k++) {
			if ((write || (k & 1)) && (l->mask[k] & mask) &&
			    l->clock[k] > clocks[x.self][p])
				report(addr, p, k, kind, l->pc[k], pc);
		}
	}
	mine->mask[kind] =
		mine->clock[kind] == clocks[x.self][x.self] ? mine->mask[kind] | mask : mask;
	mine->clock[kind] = clocks[x.self][x.self];
	mine->pc[kind] = pc;
}

static void access_range(u64 addr, u64 bytes, enum race_kind kind, u64 pc)
{
	u64 end = addr + bytes;

	for (u64 a = addr & ~7ul; a < end; a += 8) {
		u32 from = (u32)(max(a, addr) - a), to = (u32)(min(a + 8, end) - a);

		access_word(a, (u8)((0xffu >> (8 - (to - from))) << from), kind, pc);
	}
}

void race_plain(u64 addr, u64 bytes, bool write, u64 pc)
{
	if (x.mode == M_RUN)
		access_range(addr, bytes, write ? PLAIN_WRITE : PLAIN_READ, pc);
}

void race_atomic(u64 addr, u32 size, enum base_access kind, int order, u64 pc)
{
	struct race_word *w;
	bool acq, rel;

	if (x.mode != M_RUN || !in_arena(addr))
		return;
	w = shadow_of(addr);
	acq = order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order >= __ATOMIC_ACQ_REL;
	rel = order == __ATOMIC_RELEASE || order >= __ATOMIC_ACQ_REL;
	if (kind != BASE_WRITE) {
		if (acq)
			acquire(w->released);
		access_range(addr, size, ATOMIC_READ, pc);
	}
	if (kind != BASE_READ) {
		access_range(addr, size, ATOMIC_WRITE, pc);
		if (kind == BASE_WRITE &&
		    (w->stepper != x.self || w->step != clocks[x.self][x.self]))
			memset(w->released, 0, sizeof(w->released));
		if (rel)
			release(w->released);
	}
}

/*
 * What the machine's step does comes after it has said so, in the same epoch: that is released too.
 */
void race_step(u64 addr, u32 bytes, bool write)
{
	for (u64 a = addr & ~7ul; a < addr + bytes; a += 8) {
		struct race_word *w = shadow_of(a);

		acquire(w->released);
		if (!write)
			continue;
		join(w->released, clocks[x.self]);
		w->stepper = x.self;
		w->step = clocks[x.self][x.self];
	}
}

void race_fence(void)
{
	if (x.mode != M_RUN)
		return;
	acquire(fences);
	release(fences);
}

void race_sync(u64 addr, u32 bytes, bool acq, bool rel)
{
	for (u64 a = addr & ~7ul; a < addr + bytes; a += 8) {
		struct race_word *w = shadow_of(a);

		if (acq)
			acquire(w->released);
		if (rel)
			release(w->released);
	}
}

void race_rcu(enum race_rcu what)
{
	switch (what) {
	case RCU_READ_BEGIN:
		acquire(rcu_begun);
		break;
	case RCU_READ_END:
		release(rcu_ended);
		break;
	case RCU_GRACE_BEGIN:
		release(rcu_begun);
		break;
	case RCU_GRACE_END:
		acquire(rcu_ended);
		break;
	}
}
