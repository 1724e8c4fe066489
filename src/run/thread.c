/*
 * Threads: a record and an alternate stack for each, in one block; locks.
 *
 * Why a stack of our own: the program's stack may itself be managed memory (a coroutine's), where
 * the kernel could not even store a signal frame, or too small for the core.
 */
#include "run/run.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PR_SET_DISPATCH 59
#define DISPATCH_ON     1

struct run run;
__thread struct run_thread *run_self;
__thread u64 run_pass_return;
__thread u32 run_fast_ready;

static struct run_lock threads_lock;
static struct run_thread *threads;

void run_lock(struct run_lock *l)
{
	u32 free_word = 0;

	if (__atomic_compare_exchange_n(&l->word, &free_word, 1, false, __ATOMIC_ACQUIRE,
					__ATOMIC_RELAXED))
		return;
	/* 2: somebody sleeps. */
	while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE))
		RAW(SYS_futex, &l->word, FUTEX_WAIT_PRIVATE, 2, 0);
}

void run_unlock(struct run_lock *l)
{
	if (__atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2)
		RAW(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1);
}

void run_threads_lock(void)
{
	run_lock(&threads_lock);
}

void run_threads_unlock(void)
{
	run_unlock(&threads_lock);
}

/* The record of a thread that has ended, or none. LOCKING: threads. */
static struct run_thread *reuse(void)
{
	for (struct run_thread *t = threads; t; t = t->next) {
		/* Acquire: with the exit stub's store everything on that stack is over. */
		if (__atomic_load_n(&t->state, __ATOMIC_ACQUIRE) == THREAD_FREE)
			return t;
	}
	return NULL;
}

static void thread_reset(struct run_thread *t)
{
	t->tid = 0;
	t->in_core = 0;
	t->armed = false;
	t->deferred = false;
	t->want_blocked = 0;
	t->nr_pins = 0;
	t->call.active = false;
	t->alt.ss_sp = NULL;
	t->alt.ss_size = 0;
	t->alt.ss_flags = SS_DISABLE;
}

struct run_thread *run_thread_new(void)
{
	struct run_thread *t;
	u64 record = ALIGN_UP(sizeof(*t), PAGE_SIZE);
	long block;

	run_threads_lock();
	t = reuse();
	if (t)
		__atomic_store_n(&t->state, THREAD_LIVE, __ATOMIC_RELAXED);
	run_threads_unlock();
	if (t) {
		thread_reset(t);
		return t;
	}
	block = RAW(SYS_mmap, 0, RUN_STACK_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (block < 0)
		return NULL;
	t = (struct run_thread *)block;
	/* A guard between the record and the stack that grows towards it. */
	RAW(SYS_mprotect, block + (long)record, PAGE_SIZE, PROT_NONE);
	RAW(SYS_madvise, block, RUN_STACK_BYTES, MADV_DONTDUMP);
	t->stack_lo = (u64)block + record + PAGE_SIZE;
	t->stack_hi = (u64)block + RUN_STACK_BYTES;
	t->state = THREAD_LIVE;
	thread_reset(t);
	run_threads_lock();
	t->next = threads;
	threads = t;
	run_threads_unlock();
	return t;
}

void run_thread_free(struct run_thread *t)
{
	__atomic_store_n(&t->state, THREAD_FREE, __ATOMIC_RELEASE);
}

void run_thread_arm(struct run_thread *t)
{
	stack_t st = { .ss_sp = (void *)t->stack_lo, .ss_size = t->stack_hi - t->stack_lo };

	RAW(SYS_sigaltstack, &st, 0);
	t->tid = (s32)RAW(SYS_gettid);
	t->armed = !RAW(SYS_prctl, PR_SET_DISPATCH, DISPATCH_ON, run_gate_start,
			run_gate_end - run_gate_start, 0);
}

/*
 * A thread that existed before the constructor, or that somebody made past us. Its stack is in use
 * by this very handler, so the alternate stack serves from the next signal on.
 */
static __attribute__((noinline, cold)) struct run_thread *thread_adopt(void)
{
	static struct run_thread *last_resort;
	struct run_thread *t = run_thread_new();
	stack_t old = { .ss_flags = SS_DISABLE };

	if (!t)
		return last_resort; /* NULL: the caller lets the kernel act */
	RAW(SYS_sigaltstack, 0, &old);
	if (!(old.ss_flags & SS_ONSTACK)) {
		t->alt = old;
		run_self = t;
		run_thread_arm(t);
	} else {
		run_self = t;
	}
	return t;
}

struct run_thread *run_thread_here(void)
{
	struct run_thread *t = run_self;

	return likely(t) ? t : thread_adopt();
}

void run_threads_forked(struct run_thread *me)
{
	for (struct run_thread *t = threads; t; t = t->next) {
		if (t == me || t->state == THREAD_FREE)
			continue;
		run_unpin_all(t);
		thread_reset(t);
		t->state = THREAD_FREE;
	}
}
