/*
 * rangemap_node.h - private to the rangemap: its nodes and their summaries.
 *
 * Invariants: entries ascend and do not overlap; an inner entry's start, end and gap are those of
 *   the subtree: first start, last end, largest gap between two of its neighbouring ranges. No node
 *   is empty.
 * Locking: none: a node does not change once the root that leads to it was published.
 */
#ifndef QUIRE_BASE_RANGEMAP_NODE_H
#define QUIRE_BASE_RANGEMAP_NODE_H

#include "base/rangemap.h"
#include "base/rcu.h"

/* A node fills the arena's class of 640 bytes. */
#define RANGEMAP_LEAF 25
#define RANGEMAP_INNER 19
#define RANGEMAP_MAX_HEIGHT 16

struct rangemap_node {
	union {
		struct rcu_head rcu;		     /* after it was replaced */
		struct rangemap_node *next_reserved; /* before it is used */
	};
	u32 level; /* 0: leaf */
	u32 nr;
	union {
		struct {
			u64 end[RANGEMAP_LEAF];
			u64 start[RANGEMAP_LEAF];
			void *value[RANGEMAP_LEAF];
		} leaf;
		struct {
			u64 end[RANGEMAP_INNER];
			u64 start[RANGEMAP_INNER];
			u64 gap[RANGEMAP_INNER];
			struct rangemap_node *child[RANGEMAP_INNER];
		} inner;
	};
};

static inline u64 node_start(const struct rangemap_node *n)
{
	return n->level ? n->inner.start[0] : n->leaf.start[0];
}

static inline u64 node_end(const struct rangemap_node *n)
{
	return n->level ? n->inner.end[n->nr - 1] : n->leaf.end[n->nr - 1];
}

static inline u64 node_gap(const struct rangemap_node *n)
{
	const u64 *start = n->level ? n->inner.start : n->leaf.start;
	const u64 *end = n->level ? n->inner.end : n->leaf.end;
	u64 gap = 0;

	for (u32 i = 0; i < n->nr; i++) {
		if (i)
			gap = max(gap, start[i] - end[i - 1]);
		if (n->level)
			gap = max(gap, n->inner.gap[i]);
	}
	return gap;
}

#endif
