/*
 * rbtree.h - intrusive red-black tree with an augmentation callback, and the interval tree over it.
 *
 * rb: the caller finds the place (rb_link) and calls rb_insert; `augment(node)` recomputes one
 *   node's summary from itself and its two children and is called bottom-up wherever a summary may
 *   have changed; NULL for a plain tree.
 * itree: closed intervals [start, last] (so that the whole space can be an interval), any number
 *   with equal bounds. The root caches the leftmost node; a query that cannot overlap (last <
 *   leftmost.start or root.subtree_last < start) is answered without visiting a node (Linux
 *   f808c13f).
 * Invariants: rb_check / itree_check verify order, colours, summaries, cached leftmost (tests).
 * Locking: the owner's.
 */
#ifndef QUIRE_BASE_RBTREE_H
#define QUIRE_BASE_RBTREE_H

#include "base/atomic.h"
#include "base/types.h"

struct rb_node {
	struct rb_node *parent;
	struct rb_node *left;
	struct rb_node *right;
	u32 red;
};

struct rb_root {
	struct rb_node *node;
	void (*augment)(struct rb_node *node);
};

void rb_init(struct rb_root *root, void (*augment)(struct rb_node *));
/* `link`: &parent->left or &parent->right, or &root->node with parent NULL. */
void rb_insert(struct rb_root *root, struct rb_node *node, struct rb_node *parent,
	       struct rb_node **link);
void rb_erase(struct rb_root *root, struct rb_node *node);
/* A node's own key or summary changed in place without changing the order. */
void rb_augment_path(struct rb_root *root, struct rb_node *node);
struct rb_node *rb_first(const struct rb_root *root);
struct rb_node *rb_last(const struct rb_root *root);
struct rb_node *rb_next(const struct rb_node *node);
struct rb_node *rb_prev(const struct rb_node *node);
/* Number of nodes, or -1 when a red-black rule is broken. */
long rb_check(const struct rb_root *root);

struct itree_node {
	struct rb_node rb;
	u64 start;
	u64 last; /* inclusive */
	u64 subtree_last;
};

struct itree {
	struct rb_root root;
	struct itree_node *leftmost;
	a64_t visited; /* nodes looked at by queries, for tests; concurrent ones may count short */
};

void itree_init(struct itree *t);
bool itree_empty(const struct itree *t);
/* start and last are set in the node. */
void itree_insert(struct itree *t, struct itree_node *n);
void itree_erase(struct itree *t, struct itree_node *n);
/* First and next interval that overlaps [start, last], in order of start; NULL at the end. */
struct itree_node *itree_first(struct itree *t, u64 start, u64 last);
struct itree_node *itree_next(struct itree *t, struct itree_node *n, u64 start, u64 last);
long itree_check(const struct itree *t);

#endif
