/*
 * actor.c - actors as coroutines: points, choices, waits, checks, failures.
 *
 * An actor stops before each operation that others may meet, with the operation in actor.op; the
 * engine resumes it when that is the next step. Where it stands is what is on its stack: that, with
 * its thread record, is its part of the state. (The alternative, kept for comparison as no_forget,
 * is the hash of all that it has seen of memory that others write. It never forgets a retry or a
 * value that no longer matters: 2 to 50 times as many states on the scenarios.) Bytes of dead
 * variables on the stack may tell states apart that are equal, which costs time only.
 */
#include "explore/internal.h"
#include "explore/record.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define MAX_RETRIES 64 /* rounds of nothing but retries: a livelock */

void *actor_stack_top(u32 p)
{
	return (void *)(X_STACKS + (p + 1) * X_STACK_BYTES);
}

u64 actor_stack_live(u32 p)
{
	return (u64)actor_stack_top(p) - (u64)x.actor[p].sp;
}

void actor_stop(void)
{
	x_switch(&x.actor[x.self].sp, x.engine_sp);
}

static void actor_main(void)
{
	u32 p = x.self;

	x.info[p].fn(x.info[p].arg);
	x.actor[p].op = (struct op){ .kind = OP_DONE };
	x.actor[p].done = true;
	for (;;)
		actor_stop();
}

unsigned x_actor(const char *name, unsigned cpu, u32 flags, void (*fn)(void *arg), void *arg)
{
	struct actor_info *i = &x.info[x.nr];

	if (x.mode != M_SETUP || x.nr == X_MAX_ACTORS)
		x_fail("an actor can only be made in set-up, and at most %u", X_MAX_ACTORS);
	*i = (struct actor_info){ .name = name, .cpu = cpu, .flags = flags, .fn = fn, .arg = arg };
	i->thread = x_alloc(sizeof(*i->thread), 64);
	i->thread->id = x.nr + 2;
	i->thread->rng = 0x9e3779b97f4a7c15ull * (x.nr + 1) | 1;
	x_unhashed(i->thread, sizeof(*i->thread));
	return x.nr++;
}

unsigned x_self(void)
{
	return x.mode == M_RUN ? x.self : X_MAX_ACTORS;
}

unsigned x_self_cpu(void)
{
	return x.mode == M_RUN ? x.info[x.self].cpu : 0;
}

void actors_prepare(void)
{
	for (u32 p = 0; p < x.nr; p++) {
		struct actor *a = &x.actor[p];

		memset(a, 0, sizeof(*a));
		a->op.kind = OP_START;
		a->sp = switch_prepare(actor_stack_top(p), actor_main);
		x.info[p].alloc_start = x.run->alloc_next[p];
	}
}

/* ---- the local state ---- */

static inline u64 fold(u64 a, u64 b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (u64)m ^ (u64)(m >> 64);
}

/* Two lanes of 64 bits, each over all words; the loop is unrolled so that they overlap. */
static struct hash128 hash_words(const u64 *w, u64 nr, struct hash128 h)
{
	const u64 k = 0x9e3779b97f4a7c15ull, l = 0xd6e8feb86659fd93ull;
	u64 a = h.lo ^ l, b = h.hi ^ k, c = h.lo + k, d = h.hi + l;
	u64 i = 0;

	for (; i + 4 <= nr; i += 4) {
		a = fold(w[i] ^ k, w[i + 1] ^ a);
		b = fold(w[i + 1] ^ l, w[i] ^ b);
		c = fold(w[i + 2] ^ k, w[i + 3] ^ c);
		d = fold(w[i + 3] ^ l, w[i + 2] ^ d);
	}
	for (; i < nr; i++) {
		a = fold(w[i] ^ k, a ^ l);
		b = fold(w[i] ^ l, b ^ k);
	}
	h.lo = mix64(a) + c * k;
	h.hi = mix64(b) + d * l;
	return h;
}

void actor_forget(u32 p)
{
	struct base_thread *t = x.info[p].thread;
	struct actor *a = &x.actor[p];
	struct hash128 h = { actor_stack_live(p), a->composed };
	u64 rest[] = { t->nr_held,   t->rcu_depth, t->reclaim_depth,    t->gate_depth,
		       t->gate_slot, t->rng,       (u64)t->machine_data };

	h = hash_words(a->sp, actor_stack_live(p) / 8, h);
	h = hash_words((const u64 *)&t->held[0], t->nr_held * sizeof(t->held[0]) / 8, h);
	h = hash_words(rest, ARRAY_SIZE(rest), h);
	/* The pending operation is on the stack, but not all of it. */
	h = hash_words(&a->op.addr, 1, h);
	a->seen = h;
	a->points = 0;
}

static void actor_hash(u32 p)
{
	struct actor *a = &x.actor[p];

	if (a->done) {
		a->hash = mix128(0x100 + p, 1);
		return;
	}
	if (!x.no_forget && a->op.kind != OP_CHOOSE)
		actor_forget(p);
	a->hash = mix128(0x200 + p, a->seen.lo + a->points * 0x9e3779b97f4a7c15ull);
	hash_xor(&a->hash, mix128(0x300 + p, a->seen.hi));
}

struct hash128 state_hash(void)
{
	struct hash128 h = x.mem;

	for (u32 p = 0; p < x.nr; p++)
		hash_xor(&h, x.actor[p].hash);
	return h;
}

/* ---- points ---- */

static u64 word_value(u64 addr, u32 size)
{
	return size == 8 ? *(u64 *)addr : *(u32 *)addr;
}

/* A condition reads memory and changes nothing: none of it is seen or recorded. */
static bool ask_ready(const struct op *op)
{
	enum x_mode mode = x.mode;
	bool ready;

	x.mode = M_OFF;
	ready = op->ready(op->arg);
	x.mode = mode;
	return ready;
}

static bool op_enabled(u32 p, const struct op *op)
{
	switch (op->kind) {
	case OP_LOCK:
		return !(word_value(op->addr, op->size) & op->mask);
	case OP_WAIT:
		return ask_ready(op);
	case OP_ASLEEP:
		return x.run->park[p].woken;
	case OP_YIELD:
		return x.run->may_retry[p];
	case OP_DONE:
		return false;
	default:
		return true;
	}
}

u32 actor_point_now(u32 p)
{
	return x.failed || x.actor[p].done ? ~0u : x.actor[p].total_points;
}

bool actor_enabled(u32 p)
{
	return op_enabled(p, &x.actor[p].op);
}

bool run_ended(void)
{
	for (u32 p = 0; p < x.nr; p++) {
		if (!x.actor[p].done && !(x.info[p].flags & X_AGENT))
			return false;
	}
	return true;
}

u16 enabled_mask(void)
{
	u16 mask = 0, yielded = 0;

	for (u32 p = 0; p < x.nr; p++) {
		if (actor_enabled(p))
			mask |= BIT(p);
		else if (x.actor[p].op.kind == OP_YIELD)
			yielded |= BIT(p);
	}
	if (!mask && x.run->retries < MAX_RETRIES)
		return yielded;
	return mask;
}

void footprint_of_op(u32 p, const struct op *op, struct footprint *f)
{
	u8 flags = 0;

	switch (op->kind) {
	case OP_START:
	case OP_CHOOSE:
	case OP_DONE:
		return;
	case OP_YIELD:
		footprint_add(f, (u64)&x.run->may_retry[p], 8, BASE_RMW, FP_ACQUIRE);
		return;
	case OP_ASLEEP:
		footprint_add(f, (u64)&x.run->park[p], 8, BASE_READ, FP_ACQUIRE);
		return;
	case OP_LOCK:
		flags = FP_ACQUIRE;
		break;
	case OP_UNLOCK:
		flags = FP_RELEASE;
		break;
	}
	footprint_add(f, op->addr, op->size, op->access, flags);
	if (op->size2)
		footprint_add(f, op->addr2, op->size2, op->access2, 0);
}

void actor_point(const struct op *op, bool meet)
{
	struct actor *a = &x.actor[x.self];
	bool stop = meet;

	a->points++;
	a->total_points++;
	if (x.replaying)
		stop = a->total_points == x.stop_at;
	else if (a->composed || op->quiet)
		stop = false;
	if (stop || !op_enabled(x.self, op)) {
		a->op = *op;
		actor_stop();
	} else if (unlikely(x.recording)) {
		record_on(op);
	}
	if (x.collect && meet)
		footprint_of_op(x.self, op, x.collect);
}

void actor_step(u32 p)
{
	struct actor *a = &x.actor[p];
	u64 from = x.nr_log;

	x.stamp++;
	x.self = p;
	x.me = (u16)BIT(p);
	x.mode = M_RUN;
	x.live = 0;
	for (u32 i = 0; i < x.nr; i++)
		x.live |= x.actor[i].done && !x.static_points ? 0 : BIT(i);
	if (a->op.kind == OP_YIELD && !x.run->may_retry[p])
		run_set64(&x.run->retries, x.run->retries + 1);
	x_switch(&x.engine_sp, a->sp);
	mem_step_end(from);
	x.mode = M_OFF;
	x.me = 0;
	if (!x.failed)
		actor_hash(p);
}

unsigned x_choose(unsigned n, const char *what)
{
	struct actor *a = &x.actor[x.self];

	if (x.mode != M_RUN || n < 2)
		return 0;
	a->points++;
	a->total_points++;
	a->op = (struct op){ .kind = OP_CHOOSE, .choices = (u16)n, .what = what };
	actor_stop();
	observe(x.choice);
	return x.choice;
}

void x_access(enum base_access kind, const void *addr, unsigned size, const char *what)
{
	struct op op = { .kind = OP_ACCESS,
			 .access = kind,
			 .size = size,
			 .addr = (u64)addr,
			 .what = what,
			 .pc = (u64)__builtin_return_address(0) };

	if (x.mode != M_RUN)
		return;
	actor_point(&op, learn_access((u64)addr, size, kind, false));
	if (unlikely(x.racing))
		race_step((u64)addr, size, true);
}

void x_access2(enum base_access kind, const void *addr, unsigned size, enum base_access kind2,
	       const void *addr2, unsigned size2, const char *what)
{
	struct op op = { .kind = OP_ACCESS,
			 .access = (u8)kind,
			 .size = size,
			 .addr = (u64)addr,
			 .access2 = (u8)kind2,
			 .size2 = size2,
			 .addr2 = (u64)addr2,
			 .what = what,
			 .pc = (u64)__builtin_return_address(0) };
	bool meet;

	if (x.mode != M_RUN)
		return;
	meet = learn_access((u64)addr, size, kind, false);
	meet |= learn_access((u64)addr2, size2, kind2, false);
	actor_point(&op, meet);
	if (unlikely(x.racing)) {
		race_step((u64)addr, size, true);
		race_step((u64)addr2, size2, true);
	}
}

void x_await(enum base_access kind, bool (*ready)(void *arg), void *arg, const void *obj,
	     unsigned size, const char *what)
{
	struct op op = { .kind = OP_WAIT,
			 .access = (u8)kind,
			 .size = size,
			 .addr = (u64)obj,
			 .ready = ready,
			 .arg = arg,
			 .what = what,
			 .pc = (u64)__builtin_return_address(0) };

	if (x.mode == M_RUN) {
		actor_point(&op, learn_access((u64)obj, size, kind, false));
		if (unlikely(x.racing))
			race_step((u64)obj, size, kind != BASE_READ);
	} else if (!ready(arg)) {
		x_fail("a check or a set-up would wait for ever: %s", what);
	}
}

void x_wait(bool (*ready)(void *arg), void *arg, const void *obj, unsigned size, const char *what)
{
	x_await(BASE_READ, ready, arg, obj, size, what);
}

/* ---- failures and checks ---- */

void x_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x.message, sizeof(x.message), fmt, ap);
	va_end(ap);
	x.failed = true;
	if (x.mode == M_RUN) {
		x.actor[x.self].op = (struct op){ .kind = OP_DONE };
		actor_stop();
	}
	if (x.mode != M_OFF)
		longjmp(x.out, 1);
	fprintf(stderr, "explore: %s\n", x.message);
	exit(3);
}

static u64 fault_addr;

static void fault_fail(void)
{
	x_fail("wild access to address %#lx", fault_addr);
}

/* Goes on in fault_fail, on the stack that made the access. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (x.mode == M_OFF) {
		signal(sig, SIG_DFL);
		return;
	}
	fault_addr = (u64)info->si_addr;
	reg[REG_RSP] = (greg_t)((((u64)reg[REG_RSP] - 256) & ~15ul) - 8);
	reg[REG_RIP] = (greg_t)fault_fail;
}

void actor_catch_faults(void)
{
	static char stack[16384];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_sigaction = on_fault,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

	sigaltstack(&ss, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGFPE, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
}

static bool run_guarded(void (*fn)(void *arg), void *arg)
{
	if (setjmp(x.out))
		return false;
	fn(arg);
	return true;
}

bool run_check(void (*fn)(void *arg), void *arg)
{
	struct hash128 mem = x.mem;
	u64 from = x.nr_log;
	bool ok;

	x.stamp++;
	x.mode = M_CHECK;
	x.self = X_MAX_ACTORS;
	ok = run_guarded(fn, arg);
	x.mode = M_OFF;
	mem_undo(from);
	x.mem = mem;
	return ok;
}

static const char *const op_words[] = {
	[OP_START] = "starting",
	[OP_ACCESS] = "before an access",
	[OP_LOCK] = "waits for a lock",
	[OP_UNLOCK] = "before an unlock",
	[OP_WAIT] = "waits",
	[OP_PARK] = "before going to sleep",
	[OP_ASLEEP] = "sleeps and nobody wakes it",
	[OP_WAKE] = "before a wake-up",
	[OP_YIELD] = "only retries",
	[OP_CHOOSE] = "chooses",
	[OP_DONE] = "done",
};

static void fail_stuck(const char *how)
{
	size_t n = (size_t)snprintf(x.message, sizeof(x.message), "%s:", how);

	for (u32 p = 0; p < x.nr && n < sizeof(x.message); p++) {
		const struct op *op = &x.actor[p].op;

		if (x.actor[p].done || (x.info[p].flags & X_AGENT))
			continue;
		n += (size_t)snprintf(x.message + n, sizeof(x.message) - n, " %s %s%s%s;",
				      x.info[p].name, op_words[op->kind], op->what ? ": " : "",
				      op->what ? op->what : "");
	}
	x.failed = true;
}

void fail_deadlock(void)
{
	bool retry = false;

	for (u32 p = 0; p < x.nr; p++)
		retry |= x.actor[p].op.kind == OP_YIELD;
	fail_stuck(retry ? "livelock" : "deadlock");
}

void fail_livelock(void)
{
	fail_stuck("livelock, the same state again");
}
