/*
 * instance.c - instances and spaces behind the public handles; traps by address; the child's side
 * of a fork.
 */
#include <quire/quire.h>

#include "lib/lib_internal.h"
#include "base/arena.h"
#include "migrate/copier.h"

int api_instance_create(struct machine *m, const struct core_config *cc, bool sigbus,
			struct api_instance **out)
{
	struct api_instance *a;
	struct quire *q;
	int err = core_create(&q, m, cc);

	if (err)
		return err;
	a = arena_zalloc(q->arena, sizeof(*a));
	if (!a) {
		core_destroy(q);
		return -ENOMEM;
	}
	a->q = q;
	a->background = cc->background;
	mutex_init(&a->lock, LOCK_SPACES);
	list_init(&a->objects);
	if (sigbus) {
		err = api_sigbus_add(a);
		if (err) {
			arena_free(q->arena, a, sizeof(*a));
			core_destroy(q);
			return err;
		}
		a->handles_sigbus = true;
	}
	*out = a;
	return 0;
}

void api_instance_destroy(struct api_instance *a)
{
	struct quire *q = a->q;

	reclaim_stop_background(q);
	for (u32 i = 0; i < API_MAX_SPACES; i++)
		if (aptr_read(&a->space[i]))
			api_space_destroy(aptr_read(&a->space[i]));
	api_objects_close(a);
	if (a->handles_sigbus)
		api_sigbus_remove(a);
	arena_free(q->arena, a, sizeof(*a));
	WARN_ON(core_destroy(q));
}

int api_space_create(struct api_instance *a, struct api_space *parent, struct api_space **out)
{
	struct quire *q = a->q;
	struct api_space *as;
	int err = -ENOMEM;

	gate_enter(&q->gate);
	as = arena_zalloc(q->arena, sizeof(*as));
	if (as) {
		as->a = a;
		err = parent ? space_fork(q, parent->s, &as->s) :
			       space_create(q, CGROUP_ROOT, 0, &as->s);
	}
	if (!err) {
		err = -ENOMEM;
		mutex_lock(&a->lock);
		for (u32 i = 0; i < API_MAX_SPACES && err; i++)
			if (!aptr_read(&a->space[i])) {
				aptr_set_release(&a->space[i], as);
				err = 0;
			}
		mutex_unlock(&a->lock);
		if (err)
			space_destroy(q, as->s);
	}
	if (err && as)
		arena_free(q->arena, as, sizeof(*as));
	gate_exit(&q->gate);
	if (!err)
		*out = as;
	return err;
}

void api_space_destroy(struct api_space *as)
{
	struct api_instance *a = as->a;
	struct quire *q = a->q;

	gate_enter(&q->gate);
	mutex_lock(&a->lock);
	for (u32 i = 0; i < API_MAX_SPACES; i++)
		if (aptr_read(&a->space[i]) == as)
			aptr_set_release(&a->space[i], NULL);
	mutex_unlock(&a->lock);
	/* Whoever has found it in the array, looking for another one, has gone on. */
	qrcu_synchronize();
	space_destroy(q, as->s);
	arena_free(q->arena, as, sizeof(*as));
	gate_exit(&q->gate);
}

u32 api_map_flags(int flags)
{
	static const struct {
		int api;
		u32 core;
	} map[] = {
		{ QUIRE_MAP_FIXED, MAP_F_FIXED },       { QUIRE_MAP_NOREPLACE, MAP_F_NOREPLACE },
		{ QUIRE_MAP_POPULATE, MAP_F_POPULATE }, { QUIRE_MAP_LOCKED, MAP_F_LOCKED },
		{ QUIRE_MAP_FOREIGN, MAP_F_FOREIGN },   { QUIRE_MAP_SHAREABLE, MAP_F_PLAIN },
		{ QUIRE_MAP_SHARED, MAP_F_SHARED },
	};
	u32 r = 0;

	for (u32 i = 0; i < ARRAY_SIZE(map); i++)
		if (flags & map[i].api)
			r |= map[i].core;
	return r;
}

/* The space of an address, which the caller keeps from being destroyed; others may be. */
static struct api_space *space_at(struct api_instance *a, u64 va)
{
	struct api_space *found = NULL;

	qrcu_read_lock();
	for (u32 i = 0; i < API_MAX_SPACES && !found; i++) {
		struct api_space *as = aptr_read_acquire(&a->space[i]);
		struct range r;

		if (!as)
			continue;
		r = space_usable(as->s);
		if (va >= r.start && va < r.end)
			found = as;
	}
	qrcu_read_unlock();
	return found;
}

int api_trap(struct api_instance *a, u64 va, bool write)
{
	struct quire *q = a->q;
	struct api_space *as;
	int err;

	/* A core thread reading a page that was dropped under it: before anything else, and without
	 * the gate. */
	if (host_fix_core_read(q->machine, va))
		return 0;
	as = space_at(a, va);
	if (!as)
		return -ENOENT;
	gate_enter(&q->gate);
	err = handle_fault(q, &as->s->fs, va, write ? ACCESS_WRITE : ACCESS_READ);
	gate_exit(&q->gate);
	return err;
}

/* What fork does to areas; those with plain frames, which would be shared with the parent
 * unmanaged, stay the parent's. Collected first, since changing areas while walking them is not
 * allowed.
 */
struct fork_list {
	struct range r[64];
	bool wipe[64];
	u32 n;
	u64 from; /* areas below are done */
};

static void fork_collect(void *ctx, struct range r, u64 vf)
{
	struct fork_list *l = ctx;

	if (!(vf & (VM_DONTFORK | VM_WIPEONFORK | VM_PLAIN)) || l->n == ARRAY_SIZE(l->r) ||
	    r.start < l->from)
		return;
	l->r[l->n] = r;
	l->wipe[l->n++] = !(vf & (VM_DONTFORK | VM_PLAIN));
}

static int fork_areas(struct quire *q, struct space *s)
{
	struct fork_list l = { .from = 0 };
	int err = 0;

	do {
		l.n = 0;
		space_for_each_area(q, s, space_usable(s), fork_collect, &l);
		for (u32 i = 0; i < l.n && !err; i++) {
			err = l.wipe[i] ? space_advise(q, s, l.r[i].start, range_size(l.r[i]),
						       ADVISE_DONTNEED) :
					  space_unmap(q, s, l.r[i].start, range_size(l.r[i]));
			/* Locked areas refuse DONTNEED; mlock does not survive fork. */
			if (err == -EINVAL)
				err = 0;
			l.from = l.r[i].end;
		}
	} while (l.n == ARRAY_SIZE(l.r) && !err);
	return err;
}

int api_forked_child(struct api_instance *a)
{
	struct quire *q = a->q;
	int err = host_forked_child(q->machine);

	gate_reset(&q->gate);
	if (err)
		return err;
	swap_forked_child(q);
	reclaim_forked_child(q);
	copier_forked_child(q);
	/* First: the last area of an object may be the last that uses it. */
	objects_forked_child(q);
	for (u32 i = 0; i < API_MAX_SPACES && !err; i++) {
		struct api_space *as = aptr_read(&a->space[i]);
		struct range r;

		if (!as)
			continue;
		/* Memory locks are not inherited by a child. */
		r = space_usable(as->s);
		if (as->s->fs.vmas.locked_pages)
			(void)!space_munlock(q, as->s, r.start, range_size(r));
		err = fork_areas(q, as->s);
	}
	objects_forked_empty(q);
	return err;
}
