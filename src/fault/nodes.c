/*
 * nodes.c - which node a new page is to be on: the area's policy, else the space's, else the
 * space's own node (vma.h: VM_POLICY; Linux: mempolicy).
 *
 * Policies that spread pages do so by blocks of the size in which pages are first touched and
 * evicted, so that neighbours stay neighbours.
 */
#include "fault/fault_internal.h"

#define BLOCK_SHIFT (PAGE_SHIFT + TOUCH_ORDER_MAX)

static unsigned nth_node(u32 nodes, u32 n)
{
	while (n--)
		nodes &= nodes - 1;
	return (unsigned)__builtin_ctz(nodes);
}

/* Each as often as it is large. The same block always gets the same answer. */
static unsigned weighted(struct quire *q, u32 nodes, u64 block)
{
	u64 all = 0, at;

	for (u32 left = nodes; left; left &= left - 1)
		all += phys_size(q, (unsigned)__builtin_ctz(left)) / 1024 + 1;
	at = (block * 0x9e3779b97f4a7c15ull >> 24) % all;
	for (u32 left = nodes; left; left &= left - 1) {
		unsigned n = (unsigned)__builtin_ctz(left);
		u64 size = phys_size(q, n) / 1024 + 1;

		if (at < size)
			return n;
		at -= size;
	}
	return nth_node(nodes, 0);
}

unsigned fault_node(struct fc *c, u64 va, u32 *allowed)
{
	u32 all = (u32)BIT(phys_nr_nodes(c->q)) - 1, nodes;
	u64 policy = c->v ? vma_flags(c->v) & VM_POLICY : 0;

	*allowed = all;
	if (!policy)
		policy = a64_read(&c->fs->policy);
	nodes = vma_policy_nodes(policy) & all;
	if (!nodes)
		return c->fs->node;
	switch (vma_policy_mode(policy)) {
	case POLICY_BIND:
		*allowed = nodes;
		return nth_node(nodes, 0);
	case POLICY_INTERLEAVE:
		return nth_node(nodes, (u32)((va >> BLOCK_SHIFT) % (u64)__builtin_popcount(nodes)));
	case POLICY_WEIGHTED:
		return weighted(c->q, nodes, va >> BLOCK_SHIFT);
	default:
		return nth_node(nodes, 0);
	}
}
