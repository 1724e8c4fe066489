/*
 * rcu.h - read-copy-update for the core: lock-free lookups of areas and tables.
 *
 * Readers: qrcu_read_lock / unlock, nestable, never sleep, any thread without registration.
 * Updaters: qrcu_call() queues a head on the instance; the callback runs after a grace period, from
 *   qrcu_poll() (called where sleeping is allowed and enough is queued) or qrcu_barrier(), in the
 *   order in which they were queued. A callback may call qrcu_call and qrcu_poll, but not
 *   qrcu_barrier.
 * Locking: qrcu_call takes LOCK_RCU only; callbacks run with no lock held and may free memory and
 *   take any lock. qrcu_synchronize/poll/barrier must not be called inside a read section or under
 *   a spin.
 */
#ifndef QUIRE_BASE_RCU_H
#define QUIRE_BASE_RCU_H

#include "base/atomic.h"
#include "base/lock.h"

struct quire;

struct rcu_head {
	struct rcu_head *next;
	void (*fn)(struct quire *q, struct rcu_head *head);
};

struct rcu_domain {
	struct spin lock;
	struct rcu_head *pending;     /* (lock) */
	a32_t nr_pending;	      /* (lock) to change; read without it as a hint */
	a32_t draining;		      /* one thread at a time runs callbacks */
};

#define RCU_POLL_BATCH 1024

void rcu_domain_init(struct rcu_domain *d);
void qrcu_read_lock(void);
void qrcu_read_unlock(void);
void qrcu_synchronize(void);
void qrcu_call(struct quire *q, struct rcu_head *head,
	       void (*fn)(struct quire *, struct rcu_head *));
/* Runs what is due if RCU_POLL_BATCH or more are queued. */
void qrcu_poll(struct quire *q);
/* Returns when every callback queued before the call has run. */
void qrcu_barrier(struct quire *q);

#define rcu_dereference(aptr) aptr_read_acquire(aptr)
#define rcu_assign(aptr, v) aptr_set_release(aptr, v)

#endif
