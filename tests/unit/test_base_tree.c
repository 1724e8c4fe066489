/* Lists, the red-black tree and the interval tree against brute force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/list.h"
#include "base/rbtree.h"
#include "base_instance.h"

#define NODES 300
#define OPS 1000000

static u64 rng = 77;

struct item {
	struct rb_node rb;
	u64 key;
	u64 sum; /* of the subtree's keys */
	bool in;
};

static struct item items[NODES];

static struct item *item_of(struct rb_node *n)
{
	return container_of(n, struct item, rb);
}

static u64 sum_of(struct item *it)
{
	return it->key + (it->rb.left ? item_of(it->rb.left)->sum : 0) +
	       (it->rb.right ? item_of(it->rb.right)->sum : 0);
}

static void augment(struct rb_node *n)
{
	item_of(n)->sum = sum_of(item_of(n));
}

static void item_insert(struct rb_root *root, struct item *it)
{
	struct rb_node **link = &root->node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = it->key < item_of(parent)->key ? &parent->left : &parent->right;
	}
	rb_insert(root, &it->rb, parent, link);
}

static void rb_verify(struct rb_root *root, long count)
{
	struct rb_node *n;
	u64 before = 0, sum = 0;
	long seen = 0;

	assert_int_equal(rb_check(root), count);
	for (n = rb_first(root); n; n = rb_next(n), seen++) {
		assert_true(item_of(n)->key >= before);
		assert_int_equal(item_of(n)->sum, sum_of(item_of(n)));
		before = item_of(n)->key;
		sum += before;
	}
	assert_int_equal(seen, count);
	assert_int_equal(root->node ? item_of(root->node)->sum : 0, sum);
	for (n = rb_last(root); n; n = rb_prev(n))
		seen--;
	assert_int_equal(seen, 0);
}

static void test_rb(void **state)
{
	struct rb_root root;
	long count = 0;

	(void)state;
	rb_init(&root, augment);
	for (u32 i = 0; i < OPS; i++) {
		struct item *it = &items[test_random(&rng) % NODES];

		if (it->in && i % 7 == 0) {
			struct rb_node *next = rb_next(&it->rb);

			/* Raise the key in place where the order allows it. */
			it->key = next ? item_of(next)->key : it->key + 5;
			rb_augment_path(&root, &it->rb);
		} else if (it->in) {
			rb_erase(&root, &it->rb);
			count--;
			it->in = false;
		} else {
			it->key = test_random(&rng) % 500;
			item_insert(&root, it);
			count++;
			it->in = true;
		}
		if (i % 1009 == 0)
			rb_verify(&root, count);
	}
}

static struct itree_node nodes[NODES];
static bool in[NODES];

static void query(struct itree *t, u64 start, u64 last)
{
	static u64 seen[NODES];
	static u64 stamp;
	struct itree_node *n;
	u64 before = 0, found = 0, want = 0;

	stamp++;
	for (n = itree_first(t, start, last); n; n = itree_next(t, n, start, last)) {
		assert_true(n->start >= before);
		before = n->start;
		assert_true(n->start <= last && n->last >= start);
		assert_int_not_equal(seen[n - nodes], stamp);
		seen[n - nodes] = stamp;
		found++;
	}
	for (u32 i = 0; i < NODES; i++)
		want += in[i] && nodes[i].start <= last && nodes[i].last >= start;
	assert_int_equal(found, want);
}

static u64 some_address(void)
{
	u64 x = test_random(&rng) % 10000;

	return x == 7 ? UINT64_MAX : x;
}

static void test_itree(void **state)
{
	struct itree t;
	long count = 0;

	(void)state;
	itree_init(&t);
	assert_true(itree_empty(&t));
	for (u32 i = 0; i < OPS; i++) {
		u32 k = (u32)(test_random(&rng) % NODES);

		if (in[k]) {
			itree_erase(&t, &nodes[k]);
			count--;
		} else {
			u64 a = some_address();
			u64 b = k % 4 ? a + test_random(&rng) % 50 : some_address();

			nodes[k].start = min(a, b);
			nodes[k].last = max(a, b);
			itree_insert(&t, &nodes[k]);
			count++;
		}
		in[k] = !in[k];
		if (i % 16 == 0) {
			u64 a = some_address(), b = some_address();

			query(&t, min(a, b), max(a, b));
			query(&t, a, a);
		}
		if (i % 2003 == 0)
			assert_int_equal(itree_check(&t), count);
	}
	query(&t, 0, UINT64_MAX);
}

static void test_itree_disjoint(void **state)
{
	static struct itree_node n[100];
	struct itree t;

	(void)state;
	itree_init(&t);
	assert_null(itree_first(&t, 0, UINT64_MAX));
	for (u32 i = 0; i < 100; i++) {
		n[i].start = 1000 + i * 10;
		n[i].last = n[i].start + 5;
		itree_insert(&t, &n[i]);
	}
	assert_null(itree_first(&t, 0, 999));
	assert_null(itree_first(&t, 1996, UINT64_MAX));
	assert_int_equal(a64_read(&t.visited), 0);
	assert_ptr_equal(itree_first(&t, 0, 1000), &n[0]);
	assert_ptr_equal(itree_first(&t, 1995, UINT64_MAX), &n[99]);
	assert_null(itree_first(&t, 1006, 1009));
	assert_true(a64_read(&t.visited) > 0);
	itree_erase(&t, &n[0]);
	a64_set(&t.visited, 0);
	assert_null(itree_first(&t, 0, 1009));
	assert_int_equal(a64_read(&t.visited), 0);
}

struct link {
	struct list node;
	u32 id;
};

static void expect_list(struct list *head, const u32 *ids)
{
	u32 n = 0;

	list_for_each(pos, head)
		assert_int_equal(list_entry(pos, struct link, node)->id, ids[n++]);
	assert_int_equal(ids[n], 0);
}

static void test_list(void **state)
{
	struct link l[5];
	struct list a, b;

	(void)state;
	list_init(&a);
	list_init(&b);
	for (u32 i = 0; i < 5; i++)
		l[i].id = i + 1;
	list_add_tail(&l[0].node, &a);
	list_add_tail(&l[1].node, &a);
	list_add(&l[2].node, &a);
	expect_list(&a, (u32[]){ 3, 1, 2, 0 });
	list_add_tail(&l[3].node, &b);
	list_add_tail(&l[4].node, &b);
	list_splice_init(&b, &a);
	assert_true(list_empty(&b));
	expect_list(&a, (u32[]){ 4, 5, 3, 1, 2, 0 });
	list_splice_init(&b, &a);
	list_move_tail(&l[3].node, &a);
	list_move(&l[1].node, &a);
	expect_list(&a, (u32[]){ 2, 5, 3, 1, 4, 0 });
	list_del_init(&l[2].node);
	assert_true(list_empty(&l[2].node));
	assert_int_equal(list_first(&a, struct link, node)->id, 2);
	assert_int_equal(list_last(&a, struct link, node)->id, 4);
	list_for_each_safe(pos, tmp, &a)
		list_del(pos);
	assert_true(list_empty(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_rb),
		cmocka_unit_test(test_itree),
		cmocka_unit_test(test_itree_disjoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
