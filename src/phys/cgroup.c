/*
 * Control groups: a tree of counts. A charge adds to the group and every ancestor; the first that
 * would pass its limit refuses, and what was added below is taken back. A count never passes its
 * limit by cgroup_try_charge, not even for a moment, so that one refused charge cannot refuse
 * another.
 */
#include "phys/phys_internal.h"

struct cgroup *cgroup_get(struct quire *q, unsigned cg)
{
	return cg < MAX_CGROUPS ? aptr_read_acquire(&q->phys->group[cg]) : NULL;
}

static struct cgroup *cgroup_must(struct quire *q, unsigned cg)
{
	struct cgroup *g = cgroup_get(q, cg);

	BUG_ON(!g);
	return g;
}

/* ---- creation ---- */

static void cgroup_start(struct cgroup *g, struct cgroup *parent, u64 limit)
{
	a64_set(&g->usage, 0);
	a64_set(&g->peak, 0);
	a64_set(&g->limit, limit);
	g->children = 0;
	g->parent = parent;
	g->depth = parent ? parent->depth + 1 : 0;
	g->live = true;
	if (parent)
		parent->children++;
}

int cgroups_create(struct quire *q)
{
	struct phys *p = q->phys;
	struct cgroup *root;

	p->groups = cache_create(q->arena, "phys_cgroup", sizeof(struct cgroup));
	if (!p->groups)
		return -ENOMEM;
	root = cache_zalloc(p->groups);
	if (!root)
		return -ENOMEM;
	root->number = CGROUP_ROOT;
	cgroup_start(root, NULL, ~0ull);
	aptr_set_release(&p->group[CGROUP_ROOT], root);
	return 0;
}

void cgroups_destroy(struct quire *q)
{
	struct phys *p = q->phys;

	for (u32 i = 0; i < MAX_CGROUPS; i++) {
		struct cgroup *g = aptr_read(&p->group[i]);

		if (g)
			cache_free(p->groups, g);
		aptr_init(&p->group[i], NULL);
	}
}

/* LOCKING: group_lock. An unused number's group, made if it never had one; NULL with *err set. */
static struct cgroup *cgroup_unused(struct phys *p, int *err)
{
	for (u32 i = CGROUP_ROOT + 1; i < MAX_CGROUPS; i++) {
		struct cgroup *g = aptr_read(&p->group[i]);

		if (g && g->live)
			continue;
		if (!g) {
			g = cache_zalloc(p->groups);
			*err = -ENOMEM;
			if (!g)
				return NULL;
			g->number = i;
			/* Groups are never freed before the end: a late reader of a destroyed
			 * group's counts reads counts. */
			aptr_set_release(&p->group[i], g);
		}
		return g;
	}
	*err = -ENOSPC;
	return NULL;
}

int cgroup_create(struct quire *q, unsigned parent, u64 limit_pages)
{
	struct phys *p = q->phys;
	struct cgroup *up, *g;
	int err;

	up = cgroup_get(q, parent ? parent : CGROUP_ROOT);
	if (!up)
		return -EINVAL;
	spin_lock(&p->group_lock);
	if (!up->live) {
		err = -EINVAL;
	} else if (up->depth + 1 >= CGROUP_DEPTH) {
		err = -ENOSPC;
	} else {
		g = cgroup_unused(p, &err);
		if (g) {
			cgroup_start(g, up, limit_pages);
			err = (int)g->number;
		}
	}
	spin_unlock(&p->group_lock);
	return err;
}

int cgroup_destroy(struct quire *q, unsigned cg)
{
	struct phys *p = q->phys;
	struct cgroup *g = cgroup_get(q, cg);
	int err = 0;

	if (!g || cg == CGROUP_ROOT)
		return -EINVAL;
	spin_lock(&p->group_lock);
	if (!g->live) {
		err = -EINVAL;
	} else if (g->children || a64_read(&g->usage)) {
		err = -EBUSY;
	} else {
		g->live = false;
		g->parent->children--;
	}
	spin_unlock(&p->group_lock);
	return err;
}

/* ---- settings and counts ---- */

void cgroup_set_limit(struct quire *q, unsigned cg, u64 limit_pages)
{
	a64_set(&cgroup_must(q, cg)->limit, limit_pages);
}

u64 cgroup_limit(struct quire *q, unsigned cg)
{
	return a64_read(&cgroup_must(q, cg)->limit);
}

u64 cgroup_usage(struct quire *q, unsigned cg)
{
	return a64_read(&cgroup_must(q, cg)->usage);
}

u64 cgroup_peak(struct quire *q, unsigned cg)
{
	return a64_read(&cgroup_must(q, cg)->peak);
}

/* ---- charging ---- */

static inline void peak_raise(struct cgroup *g, u64 usage)
{
	u64 peak = a64_read(&g->peak);

	while (unlikely(peak < usage))
		if (a64_cmpxchg(&g->peak, &peak, usage))
			return;
}

/* The new usage, or 0 when the limit refuses. */
static inline u64 usage_add(struct cgroup *g, u32 pages)
{
	u64 limit = a64_read(&g->limit);
	u64 old = a64_read(&g->usage);

	do {
		if (old + pages > limit)
			return 0;
	} while (!a64_cmpxchg(&g->usage, &old, old + pages));
	return old + pages;
}

static void usage_sub(struct cgroup *g, u32 pages)
{
	u64 left = a64_sub_return(&g->usage, pages);

	BUG_ON(left + pages < pages); /* more returned than was charged */
}

int cgroup_try_charge(struct quire *q, unsigned cg, u32 pages, unsigned *at_limit)
{
	struct cgroup *g = cgroup_must(q, cg);
	u64 usage[CGROUP_DEPTH];
	u32 n = 0;

	if (inject_fail(q->inject, INJECT_CHARGE))
		goto refuse;
	for (; g; g = g->parent) {
		usage[n] = usage_add(g, pages);
		if (unlikely(!usage[n]))
			goto undo;
		n++;
	}
	/* Peaks only now: what was refused further up was never used. */
	n = 0;
	for (g = cgroup_must(q, cg); g; g = g->parent)
		peak_raise(g, usage[n++]);
	return 0;
undo:
	for (struct cgroup *u = cgroup_must(q, cg); u != g; u = u->parent)
		usage_sub(u, pages);
refuse:
	if (at_limit)
		*at_limit = g->number;
	return -ENOMEM;
}

void cgroup_force_charge(struct quire *q, unsigned cg, u32 pages)
{
	for (struct cgroup *g = cgroup_must(q, cg); g; g = g->parent)
		peak_raise(g, a64_add_return(&g->usage, pages));
}

void cgroup_uncharge(struct quire *q, unsigned cg, u32 pages)
{
	for (struct cgroup *g = cgroup_must(q, cg); g; g = g->parent)
		usage_sub(g, pages);
}
