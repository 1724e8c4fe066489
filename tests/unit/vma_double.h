/*
 * vma_double.h - a stand-in for the reverse map: anon_vmas are numbers, the interval trees are a
 * list.
 *
 * It checks the protocol of vma_ops and, after each step of an operation, that every page with an
 * anon_vma is found through some area in the list (a reverse-map walk may come between any two
 * steps).
 * Locking: the space lock of the one space under test.
 */
#ifndef QUIRE_TESTS_VMA_DOUBLE_H
#define QUIRE_TESTS_VMA_DOUBLE_H

#include "vma/vma.h"

#define DOUBLE_AREAS 512
#define DOUBLE_PAGES 256

static struct {
	struct {
		struct vma *v;
		u64 start, end; /* as the tree knows them */
		void *anon;
	} tree[DOUBLE_AREAS];
	u32 n;
	struct vma *unlinked;
	u64 base;                 /* address of page 0 */
	void *need[DOUBLE_PAGES]; /* page i must be found through this anon_vma at any time */
	u64 clones, fail_clone;   /* fail the nth from now; 0: none */
} dbl;

static inline void double_check(void)
{
	for (u32 i = 0; i < DOUBLE_PAGES; i++) {
		u64 va = dbl.base + i * PAGE_SIZE;
		bool found = !dbl.need[i];

		for (u32 k = 0; !found && k < dbl.n; k++)
			found = dbl.tree[k].anon == dbl.need[i] && va >= dbl.tree[k].start &&
				va < dbl.tree[k].end;
		assert_true(found);
	}
}

static inline void double_link(struct vma *v)
{
	assert_true(dbl.n < DOUBLE_AREAS);
	dbl.tree[dbl.n].v = v;
	dbl.tree[dbl.n].start = vma_start(v);
	dbl.tree[dbl.n].end = vma_end(v);
	dbl.tree[dbl.n++].anon = aptr_read(&v->anon_vma);
}

static inline void double_unlink(struct vma *v)
{
	for (u32 i = 0; i < dbl.n; i++) {
		if (dbl.tree[i].v == v) {
			dbl.tree[i] = dbl.tree[--dbl.n];
			return;
		}
	}
	fail_msg("an area with an anon_vma is not in the tree");
}

static int double_op_clone(struct quire *q, struct vma *new, struct vma *old)
{
	(void)q;
	assert_null(dbl.unlinked);
	assert_null(aptr_read(&new->anon_vma));
	assert_true(vmalock_is_write_locked(&new->lock, &new->set->write_gen));
	if (dbl.fail_clone && --dbl.fail_clone == 0)
		return -ENOMEM;
	if (!aptr_read(&old->anon_vma))
		return 0;
	aptr_set(&new->anon_vma, aptr_read(&old->anon_vma));
	dbl.clones++;
	double_link(new);
	return 0;
}

static void double_op_unlink(struct quire *q, struct vma *v)
{
	(void)q;
	assert_null(dbl.unlinked);
	assert_true(vmalock_is_write_locked(&v->lock, &v->set->write_gen));
	dbl.unlinked = v;
	if (aptr_read(&v->anon_vma))
		double_unlink(v);
}

static void double_op_relink(struct quire *q, struct vma *v)
{
	(void)q;
	assert_ptr_equal(dbl.unlinked, v);
	dbl.unlinked = NULL;
	if (aptr_read(&v->anon_vma))
		double_link(v);
	double_check();
}

static void double_op_forget(struct quire *q, struct vma *v)
{
	(void)q;
	assert_null(dbl.unlinked);
	if (!aptr_read(&v->anon_vma))
		return;
	double_unlink(v);
	aptr_set(&v->anon_vma, NULL);
	double_check();
}

static bool double_op_can_merge(struct vma *a, struct vma *b)
{
	void *x = aptr_read(&a->anon_vma), *y = aptr_read(&b->anon_vma);

	return !x || !y || x == y;
}

/* The first fault in the area. */
static inline void double_prepare(struct vma *v, void *anon)
{
	assert_null(aptr_read(&v->anon_vma));
	aptr_set(&v->anon_vma, anon);
	double_link(v);
}

static const struct vma_ops double_ops = {
	.clone = double_op_clone,
	.unlink = double_op_unlink,
	.relink = double_op_relink,
	.forget = double_op_forget,
	.can_merge = double_op_can_merge,
};

#endif
