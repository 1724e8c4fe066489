/*
 * backend.c - what base/explored/base_backend.h declares: points, sleeping and waking, RCU,
 * switches.
 *
 * base_park and base_wake keep the sleepers of each word in order of arrival. A wake-up that comes
 * before the sleep is lost, as it is on a real machine: nothing here looks at the word again.
 * base_yield waits until memory that the actor reads has changed: trying again before could only
 * fail again. If nobody else can go on, it does try again, a limited number of times.
 */
#include "explore/internal.h"

#include "base/assert.h"
#include "base/mech.h"

#include <string.h>

void base_point(enum base_access kind, const void *addr, unsigned size)
{
	bool meet;

	if (x.mode != M_RUN || !in_arena((u64)addr))
		return;
	meet = learn_access((u64)addr, size, kind, false);
	x.actor[x.self].count = kind == BASE_COUNT;
	if (meet || x.replaying) {
		struct op op = { .kind = OP_ACCESS,
				 .access = (u8)kind,
				 .size = size,
				 .addr = (u64)addr,
				 .pc = (u64)__builtin_return_address(0) };

		actor_point(&op, meet);
	} else {
		x.actor[x.self].points++;
		x.actor[x.self].total_points++;
	}
}

struct base_thread *base_self(void)
{
	return x.mode == M_RUN ? x.info[x.self].thread : x.setup_thread;
}

unsigned base_cpu(void)
{
	return x_self_cpu();
}

bool base_mech_on(struct quire *q, unsigned mechanism)
{
	(void)q;
	return x.mode == M_SETUP || !(x.prog->off & BIT(mechanism));
}

/* ---- retries ---- */

void base_yield(void)
{
	struct op op = { .kind = OP_YIELD,
			 .pc = (u64)__builtin_return_address(0),
			 .what = "tries again" };

	if (x.mode == M_CHECK)
		x_fail("a check would wait for ever");
	if (x.mode != M_RUN)
		return;
	if (!(x.yielders & x.me)) {
		x.yielders |= x.me;
		x.events++;
	}
	run_set64(&x.run->may_retry[x.self], 0);
	if (x.collect)
		footprint_add(x.collect, (u64)&x.run->may_retry[x.self], 8, BASE_RMW, 0);
	actor_point(&op, true);
}

void base_relax(void)
{
	base_yield();
}

/* ---- sleep and wake ---- */

static u64 queue_of(const u32 *word)
{
	return (u64)&x.run->queue[mix64((u64)word) % ARRAY_SIZE(x.run->queue)];
}

static u32 nr_sleepers(u64 word)
{
	u32 nr = 0;

	for (u32 p = 0; p < x.nr; p++)
		nr += x.run->park[p].word == word && !x.run->park[p].woken;
	return nr;
}

static void park_set(u32 p, u64 word, u32 rank, u32 woken)
{
	u64 *at = (u64 *)&x.run->park[p];
	u64 rest = rank | (u64)woken << 32;

	run_set64(&at[0], word);
	run_set64(&at[1], rest);
}

void base_park(u32 *word, u32 expect)
{
	struct op op = { .kind = OP_PARK,
			 .access = BASE_READ,
			 .size = 4,
			 .addr = (u64)word,
			 .access2 = BASE_RMW,
			 .size2 = 4,
			 .addr2 = queue_of(word),
			 .pc = (u64)__builtin_return_address(0),
			 .what = "futex wait" };
	struct op asleep = {
		.kind = OP_ASLEEP, .addr = (u64)word, .size = 4, .pc = op.pc, .what = "asleep"
	};
	bool meet;

	if (x.mode != M_RUN) {
		if (*word == expect)
			x_fail("a check or a set-up would sleep for ever");
		return;
	}
	meet = learn_access((u64)word, 4, BASE_READ, false);
	meet |= learn_access(queue_of(word), 4, BASE_RMW, false);
	actor_point(&op, meet);
	observe(*word == expect);
	if (*word != expect)
		return;
	park_set(x.self, (u64)word, nr_sleepers((u64)word), 0);
	actor_point(&asleep, true);
	park_set(x.self, 0, 0, 0);
}

void base_wake(u32 *word, u32 n)
{
	struct op op = { .kind = OP_WAKE,
			 .access = BASE_RMW,
			 .size = 4,
			 .addr = queue_of(word),
			 .pc = (u64)__builtin_return_address(0),
			 .what = "futex wake" };
	u32 nr;

	if (x.mode != M_RUN || !in_arena((u64)word))
		return;
	actor_point(&op, learn_access(op.addr, 4, BASE_RMW, false));
	nr = min(nr_sleepers((u64)word), n);
	for (u32 p = 0; p < x.nr && nr; p++) {
		u32 rank = x.run->park[p].rank;

		if (x.run->park[p].word != (u64)word || x.run->park[p].woken)
			continue;
		if (rank < nr && x.collect)
			footprint_add(x.collect, (u64)&x.run->park[p], 8, BASE_WRITE, FP_RELEASE);
		if (rank < nr)
			park_set(p, (u64)word, 0, 1);
		else
			park_set(p, (u64)word, rank - nr, 0);
	}
}

/* ---- RCU ---- */

void base_rcu_read_lock(void)
{
	struct op op = { .kind = OP_ACCESS,
			 .access = BASE_WRITE,
			 .size = 8,
			 .pc = (u64)__builtin_return_address(0),
			 .what = "RCU read lock" };

	if (x.mode != M_RUN)
		return;
	op.addr = (u64)&x.run->rcu_in[x.self];
	actor_point(&op, learn_access(op.addr, 8, BASE_WRITE, true));
	run_set64(&x.run->rcu_in[x.self], 1);
	if (unlikely(x.racing))
		race_rcu(RCU_READ_BEGIN);
}

/* Like an unlock it commutes with what others can do before it: seldom a point. */
void base_rcu_read_unlock(void)
{
	struct op op = { .kind = OP_ACCESS,
			 .access = BASE_WRITE,
			 .size = 8,
			 .access2 = BASE_COUNT,
			 .size2 = 8 * x.nr,
			 .addr2 = (u64)x.run->rcu_wait,
			 .pc = (u64)__builtin_return_address(0),
			 .quiet = !x.static_points,
			 .what = "RCU read unlock" };
	bool meet;

	if (x.mode != M_RUN)
		return;
	op.addr = (u64)&x.run->rcu_in[x.self];
	meet = learn_access(op.addr, 8, BASE_WRITE, true);
	actor_point(&op, meet);
	run_set64(&x.run->rcu_in[x.self], 0);
	if (unlikely(x.racing))
		race_rcu(RCU_READ_END);
	for (u32 p = 0; p < x.nr; p++) {
		if (x.run->rcu_wait[p] & BIT(x.self))
			run_set64(&x.run->rcu_wait[p], x.run->rcu_wait[p] & ~BIT(x.self));
	}
}

static bool grace_over(void *arg)
{
	return !*(u64 *)arg;
}

void base_rcu_synchronize(void)
{
	struct op op = { .kind = OP_ACCESS,
			 .access = BASE_READ,
			 .size = 8 * x.nr,
			 .addr = (u64)x.run->rcu_in,
			 .access2 = BASE_WRITE,
			 .size2 = 8,
			 .addr2 = (u64)&x.run->rcu_wait[x.self],
			 .pc = (u64)__builtin_return_address(0),
			 .what = "RCU grace period begins" };
	u64 readers = 0;

	if (x.mode != M_RUN)
		return;
	actor_point(&op, learn_access(op.addr, op.size, BASE_READ, true));
	for (u32 p = 0; p < x.nr; p++)
		readers |= x.run->rcu_in[p] ? BIT(p) : 0;
	if (readers & BIT(x.self))
		x_fail("RCU: synchronize inside a read section");
	run_set64(&x.run->rcu_wait[x.self], readers);
	if (unlikely(x.racing))
		race_rcu(RCU_GRACE_BEGIN);
	op = (struct op){ .kind = OP_WAIT,
			  .access = BASE_READ,
			  .size = 8,
			  .ready = grace_over,
			  .addr = (u64)&x.run->rcu_wait[x.self],
			  .pc = op.pc,
			  .arg = &x.run->rcu_wait[x.self],
			  .quiet = true,
			  .what = "RCU grace period" };
	actor_point(&op, true);
	if (unlikely(x.racing))
		race_rcu(RCU_GRACE_END);
}

/* ---- what must not be ---- */

static const char *file_name(const char *path)
{
	const char *name = path;

	for (const char *at = path; (at = strstr(at, "src/")); at++) {
		if (at == path || at[-1] == '/')
			name = at;
	}
	return name;
}

void base_panic(const char *file, int line, const char *what)
{
	x_fail("%s:%d: %s", file_name(file), line, what);
}

void base_warn(const char *file, int line, const char *what)
{
	x_fail("warning at %s:%d: %s", file_name(file), line, what);
}
