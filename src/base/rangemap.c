/*
 * rangemap.c - the persistent B+tree: changing it, and checking it. Lookups are in rangemap_find.c.
 *
 * An update prepares its nodes first (so it can fail only before it has begun), copies the path
 * from root to leaf with the change, publishes the new root and hands the replaced nodes to RCU.
 * Two neighbours under one parent that fit into one node are merged when an update passes by.
 */
#include "base/rangemap_node.h"

#include "base/arena.h"
#include "base/assert.h"
#include "base/quire.h"

#include <string.h>

/*
 * Nodes that one update of a tree of this height can need: two for each level, a root, a merge for
 * each.
 */
#define NODES_PER_UPDATE(height) (3 * (height) + 4)

/*
 * One or two updates that become visible in one step. Nodes that the first makes and the second
 * replaces are dropped like old ones: a grace period too much does no harm.
 */
struct edit {
	struct rangemap *m;
	struct rangemap_node *root; /* the version under construction */
	struct rangemap_node *old[2 * (3 * RANGEMAP_MAX_HEIGHT + 1)]; /* to RCU afterwards */
	u32 nr_old;
};

/* ---- nodes ---- */

void rangemap_init(struct rangemap *m, struct quire *q)
{
	m->q = q;
	aptr_init(&m->root, NULL);
	m->count = 0;
	m->reserved = NULL;
	m->nr_reserved = 0;
}

static bool reserve_nodes(struct rangemap *m, u64 nr)
{
	while (m->nr_reserved < nr) {
		struct rangemap_node *n = arena_alloc(m->q->arena, sizeof(*n));

		if (!n)
			return false;
		n->next_reserved = m->reserved;
		m->reserved = n;
		m->nr_reserved++;
	}
	return true;
}

static struct rangemap_node *node_take(struct rangemap *m, u32 level)
{
	struct rangemap_node *n = m->reserved;

	BUG_ON(!n); /* NODES_PER_UPDATE is wrong */
	m->reserved = n->next_reserved;
	m->nr_reserved--;
	n->level = level;
	n->nr = 0;
	return n;
}

static void node_give(struct rangemap *m, struct rangemap_node *n)
{
	n->next_reserved = m->reserved;
	m->reserved = n;
	m->nr_reserved++;
}

void rangemap_unreserve(struct rangemap *m)
{
	while (m->reserved) {
		struct rangemap_node *n = m->reserved;

		m->reserved = n->next_reserved;
		arena_free(m->q->arena, n, sizeof(*n));
	}
	m->nr_reserved = 0;
}

static struct rangemap_node *root_of(const struct rangemap *m)
{
	return aptr_read(&m->root);
}

static u32 height_of(const struct rangemap_node *root)
{
	return root ? root->level + 1 : 0;
}

int rangemap_reserve(struct rangemap *m, u32 updates)
{
	/*
	 * Each added level takes at least 8 times as many ranges: room for the tree to grow
	 * meanwhile.
	 */
	u32 height = height_of(root_of(m)) + 1;

	for (u32 n = updates; n >= 8; n /= 8)
		height++;
	return reserve_nodes(m, (u64)updates * NODES_PER_UPDATE(height)) ? 0 : -ENOMEM;
}

static void node_free_rcu(struct quire *q, struct rcu_head *head)
{
	struct rangemap_node *n = container_of(head, struct rangemap_node, rcu);

	arena_free(q->arena, n, sizeof(*n));
}

static void edit_drop(struct edit *e, struct rangemap_node *n)
{
	BUG_ON(e->nr_old == ARRAY_SIZE(e->old));
	e->old[e->nr_old++] = n;
}

/* Nodes for `updates` updates; after it they cannot fail. */
static bool edit_begin(struct edit *e, struct rangemap *m, u32 updates)
{
	u64 nodes = (u64)updates * NODES_PER_UPDATE(height_of(root_of(m)) + updates - 1);

	e->m = m;
	e->root = root_of(m);
	e->nr_old = 0;
	return reserve_nodes(m, nodes);
}

static void edit_publish(struct edit *e)
{
	rcu_assign(&e->m->root, e->root);
	for (u32 i = 0; i < e->nr_old; i++)
		qrcu_call(e->m->q, &e->old[i]->rcu, node_free_rcu);
}

/* ---- entries ---- */

static u32 node_capacity(const struct rangemap_node *n)
{
	return n->level ? RANGEMAP_INNER : RANGEMAP_LEAF;
}

/* nr entries of src from `from` on become dst's entries from `to` on; different nodes. */
static void entries_copy(struct rangemap_node *dst, u32 to, const struct rangemap_node *src,
			 u32 from, u32 nr)
{
	if (src->level) {
		memcpy(&dst->inner.start[to], &src->inner.start[from], nr * sizeof(u64));
		memcpy(&dst->inner.end[to], &src->inner.end[from], nr * sizeof(u64));
		memcpy(&dst->inner.gap[to], &src->inner.gap[from], nr * sizeof(u64));
		memcpy(&dst->inner.child[to], &src->inner.child[from], nr * sizeof(void *));
	} else {
		memcpy(&dst->leaf.start[to], &src->leaf.start[from], nr * sizeof(u64));
		memcpy(&dst->leaf.end[to], &src->leaf.end[from], nr * sizeof(u64));
		memcpy(&dst->leaf.value[to], &src->leaf.value[from], nr * sizeof(void *));
	}
}

static void entries_append(struct rangemap_node *dst, const struct rangemap_node *src, u32 from,
			   u32 nr)
{
	entries_copy(dst, dst->nr, src, from, nr);
	dst->nr += nr;
}

static void child_append(struct rangemap_node *dst, struct rangemap_node *child)
{
	u32 i = dst->nr++;

	dst->inner.start[i] = node_start(child);
	dst->inner.end[i] = node_end(child);
	dst->inner.gap[i] = node_gap(child);
	dst->inner.child[i] = child;
}

/*
 * The result of an edit at one level: the nodes that stand in the place of a run of old siblings.
 * 0: the only one became empty.
 */
struct pieces {
	struct rangemap_node *node[2];
	u32 nr;
};

/* Where the leaf's entry i is replaced by nr (0, 1) new ranges; nr_gone old ones go. */
struct leaf_change {
	u64 start;
	u64 end;
	void *value;
	u32 nr;
	u32 nr_gone;
};

/* A node about to be built may be one entry too long: it is built in two halves then. */
static struct rangemap_node *pieces_node(struct pieces *p, struct rangemap *m, u32 level, u32 total,
					 u32 capacity)
{
	p->nr = total > capacity ? 2 : 1;
	p->node[0] = node_take(m, level);
	p->node[1] = p->nr == 2 ? node_take(m, level) : NULL;
	return p->node[0];
}

static struct pieces leaf_edit(struct edit *e, struct rangemap_node *old, u32 i,
			       const struct leaf_change *ch)
{
	u32 total = old->nr - ch->nr_gone + ch->nr;
	struct pieces p = { .nr = 0 };
	struct rangemap_node *n;
	u32 half;

	edit_drop(e, old);
	if (!total)
		return p;
	n = pieces_node(&p, e->m, 0, total, RANGEMAP_LEAF);
	/* Ascending insertion at the end is common: leave the left half full then. */
	half = p.nr == 1 ? total : i == old->nr ? old->nr : (total + 1) / 2;
	for (u32 k = 0; k < total; k++) {
		u32 at;

		if (k == half)
			n = p.node[1];
		at = n->nr++;
		if (k == i && ch->nr) {
			n->leaf.start[at] = ch->start;
			n->leaf.end[at] = ch->end;
			n->leaf.value[at] = ch->value;
		} else {
			entries_copy(n, at, old, k < i ? k : k - ch->nr + ch->nr_gone, 1);
		}
	}
	return p;
}

/*
 * Two siblings in one node when they fit. `l_new`, `r_new`: made by this edit, not yet visible to
 * anybody.
 */
static struct rangemap_node *try_merge(struct edit *e, struct rangemap_node *l, bool l_new,
				       struct rangemap_node *r, bool r_new)
{
	struct rangemap_node *n;

	if (l->nr + r->nr > node_capacity(l))
		return NULL;
	n = node_take(e->m, l->level);
	entries_append(n, l, 0, l->nr);
	entries_append(n, r, 0, r->nr);
	if (l_new)
		node_give(e->m, l);
	else
		edit_drop(e, l);
	if (r_new)
		node_give(e->m, r);
	else
		edit_drop(e, r);
	return n;
}

/* Child i of `old` is replaced by `sub`, which may be merged with a neighbour. */
static struct pieces inner_edit(struct edit *e, struct rangemap_node *old, u32 i,
				struct pieces *sub)
{
	u32 from = i, to = i + 1; /* old children that go */
	struct pieces p = { .nr = 0 };
	struct rangemap_node *n, *merged;
	u32 total, half;

	edit_drop(e, old);
	if (sub->nr == 1 && i > 0) {
		merged = try_merge(e, old->inner.child[i - 1], false, sub->node[0], true);
		if (merged) {
			sub->node[0] = merged;
			from--;
		}
	}
	if (sub->nr == 1 && i + 1 < old->nr) {
		merged = try_merge(e, sub->node[0], true, old->inner.child[i + 1], false);
		if (merged) {
			sub->node[0] = merged;
			to++;
		}
	}
	total = old->nr - (to - from) + sub->nr;
	if (!total)
		return p;
	n = pieces_node(&p, e->m, old->level, total, RANGEMAP_INNER);
	half = p.nr == 1 ? total : i + 1 == old->nr ? old->nr : (total + 1) / 2;
	for (u32 k = 0; k < total; k++) {
		if (k == half)
			n = p.node[1];
		if (k >= from && k < from + sub->nr)
			child_append(n, sub->node[k - from]);
		else
			entries_append(n, old, k < from ? k : k - sub->nr + (to - from), 1);
	}
	return p;
}

/* ---- updates ---- */

struct path {
	struct rangemap_node *node[RANGEMAP_MAX_HEIGHT]; /* by level */
	u32 index[RANGEMAP_MAX_HEIGHT];
};

/* The place of the range that starts at `start`, or where it would be inserted. True: it exists. */
static bool path_find(struct rangemap_node *n, u64 start, struct path *path)
{
	u32 i;

	if (!n)
		return false;

	for (; n->level; n = n->inner.child[i]) {
		for (i = 0; i + 1 < n->nr && n->inner.start[i + 1] <= start; i++)
			;
		path->node[n->level] = n;
		path->index[n->level] = i;
	}
	for (i = 0; i < n->nr && n->leaf.start[i] < start; i++)
		;
	path->node[0] = n;
	path->index[0] = i;
	return i < n->nr && n->leaf.start[i] == start;
}

/* A root with one child is a level too many. */
static struct rangemap_node *lower_root(struct edit *e, struct rangemap_node *root,
					const struct pieces *made)
{
	while (root->level && root->nr == 1) {
		struct rangemap_node *child = root->inner.child[0];

		/* Nodes of this edit go back; below them an old one may be the only child. */
		if (root == made[root->level].node[0])
			node_give(e->m, root);
		else
			edit_drop(e, root);
		root = child;
	}
	return root;
}

static void update(struct edit *e, struct path *path, const struct leaf_change *ch)
{
	struct pieces made[RANGEMAP_MAX_HEIGHT];
	u32 height = height_of(e->root);
	struct pieces *top = &made[height - 1];

	made[0] = leaf_edit(e, path->node[0], path->index[0], ch);
	for (u32 l = 1; l < height; l++)
		made[l] = inner_edit(e, path->node[l], path->index[l], &made[l - 1]);
	e->root = NULL;
	if (top->nr == 2) {
		BUG_ON(height == RANGEMAP_MAX_HEIGHT);
		e->root = node_take(e->m, height);
		child_append(e->root, top->node[0]);
		child_append(e->root, top->node[1]);
	} else if (top->nr) {
		e->root = lower_root(e, top->node[0], made);
	}
	e->m->count += ch->nr;
	e->m->count -= ch->nr_gone;
}

static void edit_insert(struct edit *e, u64 start, u64 end, void *value)
{
	struct leaf_change ch = { start, end, value, .nr = 1 };
	struct path path;

	if (!e->root) {
		e->root = node_take(e->m, 0);
		e->root->nr = 1;
		e->root->leaf.start[0] = start;
		e->root->leaf.end[0] = end;
		e->root->leaf.value[0] = value;
		e->m->count++;
		return;
	}
	BUG_ON(path_find(e->root, start, &path));
	update(e, &path, &ch);
}

static void edit_replace(struct edit *e, u64 start, u64 new_start, u64 new_end, void *value)
{
	struct leaf_change ch = { new_start, new_end, value, .nr = 1, .nr_gone = 1 };
	struct path path;

	BUG_ON(!path_find(e->root, start, &path));
	update(e, &path, &ch);
}

static void edit_erase(struct edit *e, u64 start)
{
	struct leaf_change ch = { .nr = 0, .nr_gone = 1 };
	struct path path;

	BUG_ON(!path_find(e->root, start, &path));
	update(e, &path, &ch);
}

int rangemap_insert(struct rangemap *m, u64 start, u64 end, void *value)
{
	struct edit e;
	struct range r;

	BUG_ON(start >= end || !value);
	BUG_ON(rangemap_find_first(m, start, &r) && r.start < end);
	if (!edit_begin(&e, m, 1))
		return -ENOMEM;
	edit_insert(&e, start, end, value);
	edit_publish(&e);
	return 0;
}

int rangemap_erase(struct rangemap *m, u64 start)
{
	struct edit e;

	if (!edit_begin(&e, m, 1))
		return -ENOMEM;
	edit_erase(&e, start);
	edit_publish(&e);
	return 0;
}

int rangemap_replace(struct rangemap *m, u64 start, u64 new_start, u64 new_end, void *value)
{
	struct range own, r;
	struct edit e;

	BUG_ON(new_start >= new_end || !value);
	BUG_ON(!rangemap_find_first(m, start, &own) || own.start != start);
	/* Its neighbours stay where they are. */
	BUG_ON(rangemap_find_prev(m, start, &r) && r.end > new_start);
	BUG_ON(rangemap_find_first(m, own.end, &r) && r.start < new_end);
	if (!edit_begin(&e, m, 1))
		return -ENOMEM;
	edit_replace(&e, start, new_start, new_end, value);
	edit_publish(&e);
	return 0;
}

int rangemap_split(struct rangemap *m, u64 start, u64 cut, void *left, void *right)
{
	struct range own;
	struct edit e;

	BUG_ON(!left || !right || !rangemap_find_first(m, start, &own) || own.start != start);
	BUG_ON(cut <= start || cut >= own.end);
	if (!edit_begin(&e, m, 2))
		return -ENOMEM;
	edit_replace(&e, start, start, cut, left);
	edit_insert(&e, cut, own.end, right);
	edit_publish(&e);
	return 0;
}

int rangemap_join(struct rangemap *m, u64 start, void *value)
{
	struct range own, next;
	struct edit e;

	BUG_ON(!value || !rangemap_find_first(m, start, &own) || own.start != start);
	BUG_ON(!rangemap_find_first(m, own.end, &next));
	if (!edit_begin(&e, m, 2))
		return -ENOMEM;
	edit_erase(&e, next.start);
	edit_replace(&e, start, start, next.end, value);
	edit_publish(&e);
	return 0;
}

/* ---- the end, and the check ---- */

static void free_below(struct rangemap *m, struct rangemap_node *n)
{
	for (u32 i = 0; n->level && i < n->nr; i++)
		free_below(m, n->inner.child[i]);
	arena_free(m->q->arena, n, sizeof(*n));
}

void rangemap_destroy(struct rangemap *m)
{
	if (root_of(m))
		free_below(m, root_of(m));
	aptr_set(&m->root, NULL);
	m->count = 0;
	rangemap_unreserve(m);
}

static long check_below(const struct rangemap_node *n, u32 level, u64 *after)
{
	long count = 0;

	if (n->level != level || !n->nr || n->nr > node_capacity(n))
		return -1;
	for (u32 i = 0; i < n->nr; i++) {
		const struct rangemap_node *child;
		long below;

		if (!level) {
			if (n->leaf.start[i] < *after || n->leaf.end[i] <= n->leaf.start[i] ||
			    !n->leaf.value[i])
				return -1;
			*after = n->leaf.end[i];
			count++;
			continue;
		}
		child = n->inner.child[i];
		if (n->inner.start[i] != node_start(child) || n->inner.end[i] != node_end(child) ||
		    n->inner.gap[i] != node_gap(child))
			return -1;
		below = check_below(child, level - 1, after);
		if (below < 0)
			return -1;
		count += below;
	}
	return count;
}

long rangemap_check(const struct rangemap *m)
{
	const struct rangemap_node *root = root_of(m);
	u64 after = 0;
	long count = root ? check_below(root, root->level, &after) : 0;

	if (root && root->level && root->nr < 2)
		return -1;
	return count == (long)m->count ? count : -1;
}
