/* gate.c - who is inside the core, counted per CPU, and the way to empty it. */
#include "base/gate.h"
#include "base/lock.h"
#include "base/thread.h"

/*
 * entering                             closing
 *   cpu[slot].inside++                   closed = 1
 *   closed? undo and sleep               every inside == 0? else sleep on drained
 *
 * leaving
 *   cpu[slot].inside--
 *   closed? drained++, wake the closer
 *
 * Each side writes its word with a full-barrier operation before it reads the other's, so at least
 * one sees the other. A thread leaves the slot it entered: each slot is an exact count that never
 * goes below 0.
 */
enum { OPEN, CLOSED, CLOSED_SLEEPERS };

void gate_init(struct gate *g)
{
	for (u32 i = 0; i < MAX_CPUS; i++)
		a32_init(&g->cpu[i].inside, 0);
	a32_init(&g->closed, OPEN);
	a32_init(&g->drained, 0);
}

static void gate_leave_slot(struct gate *g, u32 slot)
{
	a32_sub_return(&g->cpu[slot].inside, 1);
	if (likely(a32_read(&g->closed) == OPEN))
		return;
	a32_fetch_add(&g->drained, 1);
	base_wake(&g->drained.raw, ~0u);
}

static __attribute__((noinline, cold)) void gate_wait_open(struct gate *g)
{
	u32 v = a32_read_acquire(&g->closed);

	while (v != OPEN) {
		if (v == CLOSED && !a32_cmpxchg(&g->closed, &v, CLOSED_SLEEPERS))
			continue;
		base_park(&g->closed.raw, CLOSED_SLEEPERS);
		v = a32_read_acquire(&g->closed);
	}
}

void gate_enter(struct gate *g)
{
	struct base_thread *t = base_self();

	if (t->gate_depth) {
		t->gate_depth++;
		return;
	}
	lock_assert_none();
	for (;;) {
		u32 slot = base_cpu();

		a32_fetch_add(&g->cpu[slot].inside, 1);
		if (likely(a32_read_acquire(&g->closed) == OPEN)) {
			t->gate_depth = 1;
			t->gate_slot = slot;
			return;
		}
		gate_leave_slot(g, slot);
		gate_wait_open(g);
	}
}

void gate_exit(struct gate *g)
{
	struct base_thread *t = base_self();

	DEBUG_ON(!t->gate_depth);
	if (t->gate_depth > 1) {
		t->gate_depth--;
		return;
	}
	lock_assert_none();
	t->gate_depth = 0;
	gate_leave_slot(g, t->gate_slot);
}

void gate_close(struct gate *g)
{
	u32 v = OPEN;

	BUG_ON(base_self()->gate_depth);
	lock_assert_none();
	while (!a32_cmpxchg(&g->closed, &v, CLOSED)) {
		gate_wait_open(g); /* another thread forks at the same time */
		v = OPEN;
	}
	for (u32 i = 0; i < MAX_CPUS; i++) {
		for (;;) {
			u32 seq = a32_read_acquire(&g->drained);

			if (!a32_read_acquire(&g->cpu[i].inside))
				break;
			base_park(&g->drained.raw, seq);
		}
	}
}

void gate_open(struct gate *g)
{
	if (a32_xchg(&g->closed, OPEN) == CLOSED_SLEEPERS)
		base_wake(&g->closed.raw, ~0u);
}

void gate_reset(struct gate *g)
{
	gate_init(g);
	base_self()->gate_depth = 0;
}
