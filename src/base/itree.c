/*
 * itree.c - closed intervals over the red-black tree, ordered by start, each with the largest end
 * below.
 */
#include "base/rbtree.h"
#include "base/atomic.h"

static struct itree_node *interval(struct rb_node *rb)
{
	return rb ? container_of(rb, struct itree_node, rb) : NULL;
}

static u64 last_of(const struct itree_node *n)
{
	u64 last = n->last;

	if (n->rb.left)
		last = max(last, interval(n->rb.left)->subtree_last);
	if (n->rb.right)
		last = max(last, interval(n->rb.right)->subtree_last);
	return last;
}

static void itree_augment(struct rb_node *rb)
{
	struct itree_node *n = interval(rb);

	n->subtree_last = last_of(n);
}

void itree_init(struct itree *t)
{
	rb_init(&t->root, itree_augment);
	t->leftmost = NULL;
	a64_init(&t->visited, 0);
}

bool itree_empty(const struct itree *t)
{
	return !t->root.node;
}

void itree_insert(struct itree *t, struct itree_node *n)
{
	struct rb_node **link = &t->root.node;
	struct rb_node *parent = NULL;
	bool leftmost = true;

	while (*link) {
		parent = *link;
		if (n->start < interval(parent)->start) {
			link = &parent->left;
		} else {
			link = &parent->right;
			leftmost = false;
		}
	}
	if (leftmost)
		t->leftmost = n;
	rb_insert(&t->root, &n->rb, parent, link);
}

void itree_erase(struct itree *t, struct itree_node *n)
{
	if (t->leftmost == n)
		t->leftmost = interval(rb_next(&n->rb));
	rb_erase(&t->root, &n->rb);
}

/*
 * Readers share the tree, so this counter is a relaxed load and store: cheap, and now and then
 * short.
 */
static void count_visits(struct itree *t, u64 n)
{
	a64_init(&t->visited, a64_peek(&t->visited) + n);
}

/* The leftmost overlap below n; n's subtree is known to end at or after `start`. */
static struct itree_node *overlap_below(struct itree *t, struct itree_node *n, u64 start, u64 last)
{
	struct itree_node *found = NULL;
	u64 visits = 0;

	for (;;) {
		struct itree_node *left = interval(n->rb.left);
		struct itree_node *right = interval(n->rb.right);

		visits++;
		if (left && left->subtree_last >= start) {
			/*
			 * Something below left ends at or after start. If it begins too late, then
			 * so does everything to the right of it.
			 */
			n = left;
			continue;
		}
		if (n->start > last)
			break;
		if (n->last >= start) {
			found = n;
			break;
		}
		if (!right || right->subtree_last < start)
			break;
		n = right;
	}
	count_visits(t, visits);
	return found;
}

struct itree_node *itree_first(struct itree *t, u64 start, u64 last)
{
	struct itree_node *root = interval(t->root.node);

	if (!root || root->subtree_last < start || t->leftmost->start > last)
		return NULL;
	return overlap_below(t, root, start, last);
}

struct itree_node *itree_next(struct itree *t, struct itree_node *n, u64 start, u64 last)
{
	struct rb_node *rb = n->rb.right;

	for (;;) {
		struct rb_node *from;

		if (rb && interval(rb)->subtree_last >= start)
			return overlap_below(t, interval(rb), start, last);
		/* Up to the first ancestor of which we come from the left. */
		do {
			from = &n->rb;
			n = interval(n->rb.parent);
			if (!n)
				return NULL;
			rb = n->rb.right;
		} while (from == rb);
		if (n->start > last)
			return NULL;
		count_visits(t, 1);
		if (n->last >= start)
			return n;
	}
}

long itree_check(const struct itree *t)
{
	struct rb_node *rb = rb_first(&t->root);
	long count = rb_check(&t->root);
	u64 before = 0;

	if (t->leftmost != interval(rb))
		return -1;
	for (; rb; rb = rb_next(rb)) {
		struct itree_node *n = interval(rb);

		if (n->start < before || n->last < n->start || n->subtree_last != last_of(n))
			return -1;
		before = n->start;
	}
	return count;
}
