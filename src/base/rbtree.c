/*
 * rbtree.c - red-black tree with an augmentation callback.
 *
 * Rules: a red node has black children; every path down has the same number of black nodes; the
 * root is black. Summaries are repaired up to the root before rebalancing: a rotation keeps the set
 * of nodes below its top, so afterwards only the two rotated nodes need a new one, the lower first.
 */
#include "base/rbtree.h"

void rb_init(struct rb_root *root, void (*augment)(struct rb_node *))
{
	root->node = NULL;
	root->augment = augment;
}

void rb_augment_path(struct rb_root *root, struct rb_node *node)
{
	if (!root->augment)
		return;
	for (; node; node = node->parent)
		root->augment(node);
}

static bool is_red(const struct rb_node *n)
{
	return n && n->red;
}

static void replace_child(struct rb_root *root, struct rb_node *parent, struct rb_node *old,
			  struct rb_node *new)
{
	if (!parent)
		root->node = new;
	else if (parent->left == old)
		parent->left = new;
	else
		parent->right = new;
}

/* `n` goes down; its child on the other side takes its place. */
static void rotate(struct rb_root *root, struct rb_node *n, bool left)
{
	struct rb_node *up = left ? n->right : n->left;
	struct rb_node *inner = left ? up->left : up->right;

	if (left) {
		n->right = inner;
		up->left = n;
	} else {
		n->left = inner;
		up->right = n;
	}
	if (inner)
		inner->parent = n;
	up->parent = n->parent;
	replace_child(root, n->parent, n, up);
	n->parent = up;
	if (root->augment) {
		root->augment(n);
		root->augment(up);
	}
}

void rb_insert(struct rb_root *root, struct rb_node *node, struct rb_node *parent,
	       struct rb_node **link)
{
	node->parent = parent;
	node->left = node->right = NULL;
	node->red = 1;
	*link = node;
	rb_augment_path(root, node);

	while (is_red(node->parent)) {
		struct rb_node *p = node->parent;
		struct rb_node *g = p->parent; /* exists: a red node is not the root */
		bool p_left = p == g->left;
		struct rb_node *uncle = p_left ? g->right : g->left;

		if (is_red(uncle)) {
			p->red = uncle->red = 0;
			g->red = 1;
			node = g;
			continue;
		}
		if (node == (p_left ? p->right : p->left)) {
			rotate(root, p, p_left);
			p = node;
		}
		p->red = 0;
		g->red = 1;
		rotate(root, g, !p_left);
		break;
	}
	root->node->red = 0;
}

/* The paths through `n` (may be NULL) below `parent` lack one black node. */
static void erase_fix(struct rb_root *root, struct rb_node *n, struct rb_node *parent)
{
	while (parent && !is_red(n)) {
		bool left = n == parent->left;
		struct rb_node *s = left ? parent->right : parent->left;
		struct rb_node *far;

		if (is_red(s)) {
			s->red = 0;
			parent->red = 1;
			rotate(root, parent, left);
			s = left ? parent->right : parent->left;
		}
		if (!is_red(s->left) && !is_red(s->right)) {
			s->red = 1;
			n = parent;
			parent = n->parent;
			continue;
		}
		far = left ? s->right : s->left;
		if (!is_red(far)) {
			(left ? s->left : s->right)->red = 0;
			s->red = 1;
			rotate(root, s, !left);
			s = left ? parent->right : parent->left;
			far = left ? s->right : s->left;
		}
		s->red = parent->red;
		parent->red = 0;
		far->red = 0;
		rotate(root, parent, left);
		return;
	}
	if (n)
		n->red = 0;
}

void rb_erase(struct rb_root *root, struct rb_node *node)
{
	struct rb_node *child, *parent;
	u32 red;

	if (node->left && node->right) {
		/* The successor has no left child: it leaves its place and takes the node's. */
		struct rb_node *next = node->right;

		while (next->left)
			next = next->left;
		child = next->right;
		parent = next->parent;
		red = next->red;
		if (parent == node) {
			parent = next;
		} else {
			parent->left = child;
			if (child)
				child->parent = parent;
			next->right = node->right;
			next->right->parent = next;
		}
		next->left = node->left;
		next->left->parent = next;
		next->parent = node->parent;
		next->red = node->red;
		replace_child(root, node->parent, node, next);
	} else {
		child = node->left ? node->left : node->right;
		parent = node->parent;
		red = node->red;
		replace_child(root, parent, node, child);
		if (child)
			child->parent = parent;
	}
	rb_augment_path(root, parent);
	if (!red)
		erase_fix(root, child, parent);
}

struct rb_node *rb_first(const struct rb_root *root)
{
	struct rb_node *n = root->node;

	while (n && n->left)
		n = n->left;
	return n;
}

struct rb_node *rb_last(const struct rb_root *root)
{
	struct rb_node *n = root->node;

	while (n && n->right)
		n = n->right;
	return n;
}

struct rb_node *rb_next(const struct rb_node *node)
{
	const struct rb_node *up;

	if (node->right) {
		struct rb_node *n = node->right;

		while (n->left)
			n = n->left;
		return n;
	}
	for (up = node->parent; up && node == up->right; up = up->parent)
		node = up;
	return (struct rb_node *)up;
}

struct rb_node *rb_prev(const struct rb_node *node)
{
	const struct rb_node *up;

	if (node->left) {
		struct rb_node *n = node->left;

		while (n->right)
			n = n->right;
		return n;
	}
	for (up = node->parent; up && node == up->left; up = up->parent)
		node = up;
	return (struct rb_node *)up;
}

/* Black height, or -1; adds the number of nodes. */
static long check_below(const struct rb_node *n, const struct rb_node *parent, long *count)
{
	long l, r;

	if (!n)
		return 1;
	if (n->parent != parent || (n->red && is_red(parent)))
		return -1;
	l = check_below(n->left, n, count);
	r = check_below(n->right, n, count);
	if (l < 0 || l != r)
		return -1;
	++*count;
	return l + !n->red;
}

long rb_check(const struct rb_root *root)
{
	long count = 0;

	if (is_red(root->node) || check_below(root->node, NULL, &count) < 0)
		return -1;
	return count;
}
