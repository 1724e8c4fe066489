/*
 * scenario_fork.c - what actors do with snapshots and with the children of the scenario's space.
 *
 * Lock fidelity as in scenario_verbs.c: each verb is a call of the product in the core's gate.
 */
#include "explore/scenario_env.h"

typedef unsigned long long ull;

static int fork_to(struct env *e, struct space *parent, u32 n)
{
	struct space *child = NULL;
	int rc;

	gate_enter(&e->q->gate);
	rc = space_fork(e->q, parent, &child);
	gate_exit(&e->q->gate);
	if (!rc)
		e->child[n] = child;
	return rc;
}

int do_fork(struct env *e, u32 n)
{
	return fork_to(e, e->s, n);
}

int do_fork_child(struct env *e, u32 parent, u32 n)
{
	return fork_to(e, e->child[parent], n);
}

void do_child_exit(struct env *e, u32 n)
{
	struct space *child = e->child[n];

	e->child[n] = NULL;
	gate_enter(&e->q->gate);
	space_destroy(e->q, child);
	gate_exit(&e->q->gate);
}

int do_snapshot(struct env *e, u64 va, u64 pages, u32 flags, u64 at)
{
	u64 got = 0;
	int rc;

	gate_enter(&e->q->gate);
	rc = space_snapshot(e->q, e->s, va, pages * PAGE_SIZE, flags, &got);
	gate_exit(&e->q->gate);
	must(rc || got == at, "the snapshot is at %#llx", (ull)got);
	return rc;
}

void prepare_child_store(struct env *e, unsigned unit, u32 n, u64 va, u64 value)
{
	must(!xm_store(e->m, unit, e->child[n]->ms, va, value), "set-up: store by a child");
}

u64 prepare_child_load(struct env *e, unsigned unit, u32 n, u64 va)
{
	u64 value = 0;

	must(!xm_load(e->m, unit, e->child[n]->ms, va, &value), "set-up: load by a child");
	return value;
}

int child_store(struct env *e, u32 n, u64 va, u64 value)
{
	return xm_store(e->m, x_self_cpu(), e->child[n]->ms, va, value);
}

int child_load(struct env *e, u32 n, u64 va, u64 *value)
{
	return xm_load(e->m, x_self_cpu(), e->child[n]->ms, va, value);
}

int child_pin(struct env *e, u32 n, u64 va, u32 access)
{
	struct range r = { va, va + PAGE_SIZE };
	long got;

	gate_enter(&e->q->gate);
	got = pin_pages(e->q, &e->child[n]->fs, r, access, &e->pinned[n]);
	gate_exit(&e->q->gate);
	return got == 1 ? 0 : (int)got;
}

int child_unmap(struct env *e, u32 n, u64 va, u64 pages)
{
	int rc;

	gate_enter(&e->q->gate);
	rc = space_unmap(e->q, e->child[n], va, pages * PAGE_SIZE);
	gate_exit(&e->q->gate);
	return rc;
}

u64 child_entry_at(struct env *e, u32 n, u64 va)
{
	return xm_entry(e->m, e->child[n]->ms, va);
}

u64 child_contents(struct env *e, u32 n, u64 va)
{
	int rc = handle_fault(e->q, &e->child[n]->fs, va, ACCESS_READ);
	u64 v = child_entry_at(e, n, va);

	must(!rc, "a child's load from %#llx ends in error %d", (ull)va, rc);
	must(entry_present(v), "nothing is mapped at %#llx in the child after a fault", (ull)va);
	return xm_frame_word(e->m, entry_pfn(v));
}
