/*
 * base_backend.h (native) - what differs between the native and the explored build of base.
 *
 * Exactly one of native/ and explored/ is on the include path. Native: points vanish, switches are
 * the constant true, and the extern functions below are implemented in src/machine/native.
 * Locking: none; base_park is a futex wait on the word.
 */
#ifndef QUIRE_BASE_BACKEND_H
#define QUIRE_BASE_BACKEND_H

#include "base/types.h"

enum base_access { BASE_READ, BASE_WRITE, BASE_RMW, BASE_COUNT };

#define BASE_EXPLORED 0

static inline void base_point(enum base_access kind, const void *addr, unsigned size)
{
	(void)kind;
	(void)addr;
	(void)size;
}

static inline void base_relax(void)
{
	__builtin_ia32_pause();
}

struct base_thread;

/* The calling thread's record (thread.h); never NULL, never fails, safe in a signal handler. */
struct base_thread *base_self(void);
/* A CPU number below MAX_CPUS; a hint: the thread may move at any time. */
unsigned base_cpu(void);
/* Sleep while *word == expect; may return early. */
void base_park(u32 *word, u32 expect);
/* Wake up to n sleepers on word. */
void base_wake(u32 *word, u32 n);
/* Give the processor away. */
void base_yield(void);

/* RCU of any thread, without registration by the caller (liburcu's bulletproof flavour). */
void base_rcu_read_lock(void);
void base_rcu_read_unlock(void);
void base_rcu_synchronize(void);

#define base_mech_on(q, m) true

#endif
