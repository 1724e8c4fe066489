/* rangemap_find.c - lookups: they read one published version and never write. */
#include "base/rangemap_node.h"

/* The first entry that ends above key; nr if none does. */
static inline u32 entry_above(const u64 *end, u32 nr, u64 key)
{
	u32 i = 0;

	while (i < nr && end[i] <= key)
		i++;
	return i;
}

static void *leaf_value(const struct rangemap_node *n, u32 i, struct range *r)
{
	if (r)
		*r = (struct range){ n->leaf.start[i], n->leaf.end[i] };
	return n->leaf.value[i];
}

void *rangemap_find_first(const struct rangemap *m, u64 key, struct range *r)
{
	const struct rangemap_node *n = rcu_dereference(&m->root);
	u32 i;

	if (!n || node_end(n) <= key)
		return NULL;
	/*
	 * The last end of every subtree on the way is above key, so the index is always in range.
	 */
	while (n->level)
		n = n->inner.child[entry_above(n->inner.end, n->nr, key)];
	i = entry_above(n->leaf.end, n->nr, key);
	return leaf_value(n, i, r);
}

void *rangemap_find(const struct rangemap *m, u64 key)
{
	const struct rangemap_node *n = rcu_dereference(&m->root);
	u32 i;

	if (!n || node_end(n) <= key)
		return NULL;
	while (n->level) {
		i = entry_above(n->inner.end, n->nr, key);
		if (n->inner.start[i] > key)
			return NULL;
		n = n->inner.child[i];
	}
	i = entry_above(n->leaf.end, n->nr, key);
	return n->leaf.start[i] <= key ? n->leaf.value[i] : NULL;
}

static void *last_below(const struct rangemap_node *n, struct range *r)
{
	while (n->level)
		n = n->inner.child[n->nr - 1];
	return leaf_value(n, n->nr - 1, r);
}

void *rangemap_find_prev(const struct rangemap *m, u64 key, struct range *r)
{
	const struct rangemap_node *n = rcu_dereference(&m->root);
	const struct rangemap_node *left = NULL; /* the nearest subtree that ends at or below key */
	u32 i;

	if (!n)
		return NULL;
	while (n->level) {
		i = entry_above(n->inner.end, n->nr, key);
		if (i)
			left = n->inner.child[i - 1];
		if (i == n->nr)
			return last_below(left, r);
		n = n->inner.child[i];
	}
	i = entry_above(n->leaf.end, n->nr, key);
	if (i)
		return leaf_value(n, i - 1, r);
	return left ? last_below(left, r) : NULL;
}

struct gap_search {
	u64 from; /* end of the last range seen, or the lower limit */
	u64 limit;
	u64 size;
	u64 align;
	u64 found;
};

/* Does the gap from s->from to `end` do? */
static bool gap_fits(struct gap_search *s, u64 end)
{
	u64 at = ALIGN_UP(s->from, s->align);

	end = min(end, s->limit);
	if (at < s->from || at >= end || end - at < s->size)
		return false;
	s->found = at;
	return true;
}

/* 1 found, 0 go on to the right of n, -1 beyond the limit. */
static int gap_below(const struct rangemap_node *n, struct gap_search *s)
{
	const u64 *start = n->level ? n->inner.start : n->leaf.start;
	const u64 *end = n->level ? n->inner.end : n->leaf.end;

	for (u32 i = entry_above(end, n->nr, s->from); i < n->nr; i++) {
		if (s->from < start[i] && gap_fits(s, start[i]))
			return 1;
		if (start[i] >= s->limit)
			return -1;
		if (n->level && n->inner.gap[i] >= s->size) {
			int r = gap_below(n->inner.child[i], s);

			if (r)
				return r;
		}
		s->from = max(s->from, end[i]);
	}
	return 0;
}

bool rangemap_find_gap(const struct rangemap *m, struct range within, u64 size, u64 align, u64 *out)
{
	const struct rangemap_node *n = rcu_dereference(&m->root);
	struct gap_search s = { within.start, within.end, size, align, 0 };
	int r = n ? gap_below(n, &s) : 0;

	if (r < 0 || (!r && !gap_fits(&s, within.end)))
		return false;
	*out = s.found;
	return true;
}
