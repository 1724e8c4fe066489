/* radix.c - nodes of 64 slots; changed under the owner's lock, read under RCU. */
#include "base/radix.h"

#include "base/arena.h"
#include "base/assert.h"
#include "base/quire.h"

struct radix_node {
	aptr_t slot[RADIX_SLOTS];  /* (L) to change: words where shift is 0, else nodes */
	struct radix_node *parent; /* (L) */
	u64 mark[RADIX_MARKS];     /* (L) one bit for each slot */
	struct rcu_head rcu;
	struct quire *q; /* (C) */
	u16 count;       /* (L) slots in use */
	u8 shift;        /* (C) bits of the index below this node's */
	u8 offset;       /* (L) own slot in the parent */
};

void radix_init(struct radix *r, struct quire *q)
{
	r->q = q;
	aptr_init(&r->root, NULL);
	r->nr_nodes = 0;
}

static unsigned offset_in(const struct radix_node *n, u64 index)
{
	return (unsigned)(index >> n->shift) & (RADIX_SLOTS - 1);
}

/* Is the index below this node, if the node is the root? The topmost level has 4 bits left. */
static bool below_root(const struct radix_node *root, u64 index)
{
	return root->shift + RADIX_BITS >= 64 || !(index >> (root->shift + RADIX_BITS));
}

static struct radix_node *node_new(struct radix *r, unsigned shift)
{
	struct radix_node *n = arena_zalloc(r->q->arena, sizeof(*n));

	if (!n)
		return NULL;
	n->q = r->q;
	n->shift = (u8)shift;
	r->nr_nodes++;
	return n;
}

static void node_reclaim(struct quire *q, struct rcu_head *head)
{
	arena_free(q->arena, container_of(head, struct radix_node, rcu), sizeof(struct radix_node));
}

static void link_node(struct radix_node *parent, unsigned offset, struct radix_node *child)
{
	child->parent = parent;
	child->offset = (u8)offset;
	parent->count++;
	for (unsigned m = 0; m < RADIX_MARKS; m++)
		if (child->mark[m])
			parent->mark[m] |= BIT(offset);
	/* Complete before it can be found. */
	aptr_set_release(&parent->slot[offset], child);
}

/* Nodes that are empty leave the tree, from n upwards. */
static void remove_empty(struct radix *r, struct radix_node *n)
{
	while (n && !n->count) {
		struct radix_node *parent = n->parent;

		if (parent) {
			aptr_set(&parent->slot[n->offset], NULL);
			parent->count--;
		} else {
			aptr_set(&r->root, NULL);
		}
		r->nr_nodes--;
		qrcu_call(r->q, &n->rcu, node_reclaim);
		n = parent;
	}
}

/* ---- reading ---- */

static struct radix_node *leaf_of(const struct radix *r, u64 index)
{
	struct radix_node *n = aptr_read_acquire(&r->root);

	if (!n || !below_root(n, index))
		return NULL;
	while (n && n->shift)
		n = aptr_read_acquire(&n->slot[offset_in(n, index)]);
	return n;
}

aptr_t *radix_slot(const struct radix *r, u64 index)
{
	struct radix_node *leaf = leaf_of(r, index);

	return leaf ? &leaf->slot[offset_in(leaf, index)] : NULL;
}

void *radix_load(const struct radix *r, u64 index)
{
	aptr_t *slot = radix_slot(r, index);

	return slot ? aptr_read_acquire(slot) : NULL;
}

/* ---- changing ---- */

/* The tree is made high enough for the index. */
static int grow(struct radix *r, u64 index)
{
	struct radix_node *root = aptr_read(&r->root);

	if (!root) {
		unsigned shift = 0;

		while (shift + RADIX_BITS < 64 && index >> (shift + RADIX_BITS))
			shift += RADIX_BITS;
		root = node_new(r, shift);
		if (!root)
			return -ENOMEM;
		aptr_set_release(&r->root, root);
		return 0;
	}
	while (!below_root(root, index)) {
		struct radix_node *top = node_new(r, root->shift + RADIX_BITS);

		/* A root that is too high for what it holds does no harm. */
		if (!top)
			return -ENOMEM;
		link_node(top, 0, root);
		aptr_set_release(&r->root, top);
		root = top;
	}
	return 0;
}

static int prepare_leaf(struct radix *r, u64 index)
{
	struct radix_node *n;
	int err = grow(r, index);

	if (err)
		return err;
	for (n = aptr_read(&r->root); n->shift;) {
		struct radix_node *child = aptr_read(&n->slot[offset_in(n, index)]);

		if (!child) {
			child = node_new(r, n->shift - RADIX_BITS);
			if (!child) {
				remove_empty(r, n);
				return -ENOMEM;
			}
			link_node(n, offset_in(n, index), child);
		}
		n = child;
	}
	return 0;
}

int radix_prepare(struct radix *r, u64 first, u64 nr)
{
	u64 last = first + nr - 1;

	DEBUG_ON(!nr || last < first || last == RADIX_END);
	for (u64 at = first; at <= last; at = (at | (RADIX_SLOTS - 1)) + 1) {
		if (prepare_leaf(r, at)) {
			if (at > first)
				radix_prune(r, first, at - first);
			if (aptr_read(&r->root))
				remove_empty(r, aptr_read(&r->root));
			return -ENOMEM;
		}
	}
	return 0;
}

void radix_prune(struct radix *r, u64 first, u64 nr)
{
	u64 last = first + nr - 1;

	for (u64 at = first; at <= last; at = (at | (RADIX_SLOTS - 1)) + 1) {
		struct radix_node *leaf = leaf_of(r, at);

		if (leaf)
			remove_empty(r, leaf);
	}
}

static void unmark_up(struct radix_node *n, unsigned offset, unsigned mark)
{
	while (n && n->mark[mark] & BIT(offset)) {
		n->mark[mark] &= ~BIT(offset);
		if (n->mark[mark])
			return;
		offset = n->offset;
		n = n->parent;
	}
}

void *radix_store(struct radix *r, u64 index, void *word)
{
	struct radix_node *leaf = leaf_of(r, index);
	unsigned offset;
	void *old;

	if (!leaf) {
		BUG_ON(word);
		return NULL;
	}
	offset = offset_in(leaf, index);
	old = aptr_read(&leaf->slot[offset]);
	aptr_set_release(&leaf->slot[offset], word);
	leaf->count = (u16)(leaf->count + !!word - !!old);
	if (!word && old) {
		for (unsigned m = 0; m < RADIX_MARKS; m++)
			unmark_up(leaf, offset, m);
		remove_empty(r, leaf);
	}
	return old;
}

/* ---- marks ---- */

void radix_mark(struct radix *r, u64 index, unsigned mark)
{
	struct radix_node *n = leaf_of(r, index);

	BUG_ON(!n || !aptr_read(&n->slot[offset_in(n, index)]));
	for (; n && !(n->mark[mark] & BIT(offset_in(n, index))); n = n->parent)
		n->mark[mark] |= BIT(offset_in(n, index));
}

void radix_unmark(struct radix *r, u64 index, unsigned mark)
{
	struct radix_node *leaf = leaf_of(r, index);

	if (leaf)
		unmark_up(leaf, offset_in(leaf, index), mark);
}

bool radix_marked(const struct radix *r, u64 index, unsigned mark)
{
	struct radix_node *leaf = leaf_of(r, index);

	return leaf && leaf->mark[mark] & BIT(offset_in(leaf, index));
}

bool radix_any_marked(const struct radix *r, unsigned mark)
{
	struct radix_node *root = aptr_read(&r->root);

	return root && root->mark[mark];
}

/* ---- finding ---- */

/* The first slot of n at or after `offset` that is in use (mark < 0) or marked; RADIX_SLOTS: none.
 */
static unsigned next_offset(const struct radix_node *n, unsigned offset, int mark)
{
	if (mark >= 0) {
		u64 left = n->mark[mark] >> offset;

		return left ? offset + (unsigned)__builtin_ctzll(left) : RADIX_SLOTS;
	}
	while (offset < RADIX_SLOTS && !aptr_read(&n->slot[offset]))
		offset++;
	return offset;
}

static u64 find(const struct radix *r, u64 from, u64 last, int mark, void **word)
{
	struct radix_node *root = aptr_read(&r->root), *n = root;
	u64 at = from;

	while (n && at <= last && below_root(root, at)) {
		unsigned offset = offset_in(n, at), next = next_offset(n, offset, mark);

		if (next < RADIX_SLOTS) {
			if (next != offset) {
				/* To the first index below that slot. */
				at = ((at >> n->shift) + (next - offset)) << n->shift;
				if (at > last)
					break;
			}
			if (!n->shift) {
				if (word)
					*word = aptr_read(&n->slot[next]);
				return at;
			}
			n = aptr_read(&n->slot[next]);
			continue;
		}
		/* Nothing more here: on behind this node, looking from the root again. */
		if (n->shift + RADIX_BITS >= 64)
			break;
		at = ((at >> (n->shift + RADIX_BITS)) + 1) << (n->shift + RADIX_BITS);
		if (!at)
			break;
		n = root;
	}
	return RADIX_END;
}

u64 radix_next(const struct radix *r, u64 from, u64 last, void **word)
{
	return find(r, from, last, -1, word);
}

u64 radix_next_marked(const struct radix *r, u64 from, u64 last, unsigned mark, void **word)
{
	return find(r, from, last, (int)mark, word);
}

/* ---- end, checking ---- */

/* Depth first without recursion: down to a leaf, free it, back to its parent. */
void radix_destroy(struct radix *r)
{
	struct radix_node *n = aptr_read(&r->root);

	while (n) {
		unsigned offset = n->shift ? next_offset(n, 0, -1) : RADIX_SLOTS;

		if (offset < RADIX_SLOTS) {
			n = aptr_read(&n->slot[offset]);
			continue;
		}
		if (n->parent)
			aptr_set(&n->parent->slot[n->offset], NULL);
		struct radix_node *parent = n->parent;

		arena_free(r->q->arena, n, sizeof(*n));
		r->nr_nodes--;
		n = parent;
	}
	aptr_set(&r->root, NULL);
}

/* One node's own rules. Adds its words to *words; false: broken. */
static bool node_right(const struct radix_node *n, long *words)
{
	unsigned used = 0;

	for (unsigned i = 0; i < RADIX_SLOTS; i++) {
		struct radix_node *child = aptr_read(&n->slot[i]);

		used += child != NULL;
		for (unsigned m = 0; m < RADIX_MARKS; m++) {
			bool marked = n->mark[m] & BIT(i);

			if (marked && !child)
				return false;
			if (child && n->shift && marked != !!child->mark[m])
				return false;
		}
		if (child && n->shift &&
		    (child->parent != n || child->offset != i ||
		     child->shift + RADIX_BITS != n->shift))
			return false;
	}
	if (!n->shift)
		*words += used;
	return used && used == n->count;
}

long radix_check(const struct radix *r)
{
	struct radix_node *n = aptr_read(&r->root);
	unsigned offset = 0;
	u64 nodes = 0;
	long words = 0;

	while (n) {
		if (!offset) {
			nodes++;
			if (!node_right(n, &words))
				return -1;
		}
		if (n->shift && (offset = next_offset(n, offset, -1)) < RADIX_SLOTS) {
			n = aptr_read(&n->slot[offset]);
			offset = 0;
			continue;
		}
		offset = n->offset + 1u;
		n = n->parent;
	}
	return nodes == r->nr_nodes ? words : -1;
}
