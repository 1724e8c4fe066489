/*
 * rcu.c - read sections, grace periods, deferred frees.
 *
 * draining: 0 nobody, 1 somebody runs callbacks, 2 and somebody waits for that. Only one thread at
 * a time waits for a grace period and runs what was pending before it, so that a barrier which gets
 * its turn knows that everything taken from the list earlier has run.
 */
#include "base/rcu.h"
#include "base/quire.h"
#include "base/thread.h"

enum { IDLE, DRAINING, DRAINING_WAITERS };

void rcu_domain_init(struct rcu_domain *d)
{
	spin_init(&d->lock, LOCK_RCU);
	d->pending = NULL;
	a32_init(&d->nr_pending, 0);
	a32_init(&d->draining, IDLE);
}

/*
 * The depth changes inside the backend's section, so a handler that interrupts here and reads as
 * well either finds a depth that is really protected or opens a section of its own.
 */
void qrcu_read_lock(void)
{
	struct base_thread *t = base_self();

	if (!t->rcu_depth)
		base_rcu_read_lock();
	t->rcu_depth++;
}

void qrcu_read_unlock(void)
{
	struct base_thread *t = base_self();

	DEBUG_ON(!t->rcu_depth);
	if (!--t->rcu_depth)
		base_rcu_read_unlock();
}

void qrcu_synchronize(void)
{
	lock_assert_may_sleep();
	DEBUG_ON(base_self()->rcu_depth);
	base_rcu_synchronize();
}

void qrcu_call(struct quire *q, struct rcu_head *head,
	       void (*fn)(struct quire *, struct rcu_head *))
{
	struct rcu_domain *d = &q->rcu;

	head->fn = fn;
	spin_lock(&d->lock);
	head->next = d->pending;
	d->pending = head;
	a32_set(&d->nr_pending, a32_read(&d->nr_pending) + 1);
	spin_unlock(&d->lock);
}

/* LOCKING: draining is ours. Callbacks may queue again; those wait for the next turn. */
static void rcu_drain(struct quire *q)
{
	struct rcu_domain *d = &q->rcu;
	struct rcu_head *list, *next, *in_order = NULL;

	spin_lock(&d->lock);
	list = d->pending;
	d->pending = NULL;
	a32_set(&d->nr_pending, 0);
	spin_unlock(&d->lock);
	if (!list)
		return;
	base_rcu_synchronize();
	for (; list; list = next) {
		next = list->next;
		list->next = in_order;
		in_order = list;
	}
	for (; in_order; in_order = next) {
		next = in_order->next;
		in_order->fn(q, in_order);
	}
}

static void rcu_drain_end(struct rcu_domain *d)
{
	if (a32_xchg(&d->draining, IDLE) == DRAINING_WAITERS)
		base_wake(&d->draining.raw, ~0u);
}

void qrcu_poll(struct quire *q)
{
	struct rcu_domain *d = &q->rcu;
	u32 old = IDLE;

	if (likely(a32_read(&d->nr_pending) < RCU_POLL_BATCH))
		return;
	lock_assert_may_sleep();
	if (!a32_cmpxchg(&d->draining, &old, DRAINING))
		return; /* another thread does it; so does a callback that polls */
	rcu_drain(q);
	rcu_drain_end(d);
}

void qrcu_barrier(struct quire *q)
{
	struct rcu_domain *d = &q->rcu;
	u32 v = IDLE;

	lock_assert_may_sleep();
	/* Like a mutex: who has waited marks it, because others may still wait. */
	if (!a32_cmpxchg(&d->draining, &v, DRAINING)) {
		while (a32_xchg(&d->draining, DRAINING_WAITERS) != IDLE)
			base_park(&d->draining.raw, DRAINING_WAITERS);
	}
	rcu_drain(q);
	rcu_drain_end(d);
}
