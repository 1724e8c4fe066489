/*
 * change.c - split, merge, moved boundaries, changed flags; the checker.
 *
 *   vma_split          AAAA|AAAA                     one area becomes two
 *   vma_merge_pair     AAAA|AAAA -> AAAAAAAA         the lower one stays
 *   vma_move_boundary  AAAA|BBBB -> AAAAAA|BB        the front of B gets A's flags (or A's end B's)
 *   vma_change_flags   splits at both ends, changes, merges around; or only moves a boundary
 *
 * Each does what can fail first. While two areas change places in the interval trees, the one that
 * grows comes first (vma.h).
 */
#include "vma/vma_internal.h"

void vma_set_bounds_only(struct vmas_of *s, struct vma *v, u64 start, u64 end)
{
	vma_write_lock(v);
	vma_ops_of(s)->unlink(s->q, v);
	v->pgoff += (u64)((s64)(start - vma_start(v)) >> PAGE_SHIFT);
	a64_set(&v->start, start);
	a64_set(&v->end, end);
	vma_ops_of(s)->relink(s->q, v);
}

void vma_set_bounds_prepared(struct vmas_of *s, struct vma *v, u64 start, u64 end)
{
	u64 old = vma_start(v);

	vma_set_bounds_only(s, v, start, end);
	BUG_ON(rangemap_replace(&s->map, old, start, end, v));
}

bool vma_joins(const struct vma *a, const struct vma *b, u64 a_flags, u64 b_flags)
{
	return vma_end(a) == vma_start(b) && a_flags == b_flags && a->object == b->object &&
	       a->pgoff + vma_pages(a) == b->pgoff;
}

/* With other flags than they have: what they would have after a change. */
static bool may_merge_as(struct vmas_of *s, struct vma *a, struct vma *b, u64 a_flags, u64 b_flags)
{
	if (!vma_joins(a, b, a_flags, b_flags))
		return false;
	/* Locked before rmap looks at them: no fault gives one of them an anon_vma meanwhile. */
	vma_write_lock(a);
	vma_write_lock(b);
	return vma_ops_of(s)->can_merge(a, b);
}

bool vma_may_merge(struct vmas_of *s, struct vma *a, struct vma *b)
{
	return may_merge_as(s, a, b, vma_flags(a), vma_flags(b));
}

/* `grows` is about to take over pages of `from`. */
static int share_anon_vma(struct vmas_of *s, struct vma *grows, struct vma *from)
{
	if (aptr_read(&grows->anon_vma) || !aptr_read(&from->anon_vma))
		return 0;
	return vma_ops_of(s)->clone(s->q, grows, from);
}

int vma_merge_pair(struct vmas_of *s, struct vma *a, struct vma *b)
{
	u64 end = vma_end(b);

	if (rangemap_reserve(&s->map, 2) || share_anon_vma(s, a, b))
		return -ENOMEM;
	BUG_ON(rangemap_erase(&s->map, vma_start(b)));
	vma_set_bounds_prepared(s, a, vma_start(a), end);
	vma_dispose(s, b);
	return 0;
}

/* a|b touch at another place than `at`, which lies in one of them: now they touch there. */
static int move_boundary(struct vmas_of *s, struct vma *a, struct vma *b, u64 at)
{
	u64 old = vma_start(b), start = vma_start(a), end = vma_end(b);
	bool up = at > old;
	s64 pages = (s64)((up ? at - old : old - at) >> PAGE_SHIFT);
	struct vma *grows = up ? a : b, *shrinks = up ? b : a;

	if (rangemap_reserve(&s->map, 2) || share_anon_vma(s, grows, shrinks))
		return -ENOMEM;
	if (up) {
		vma_set_bounds_only(s, a, start, at);
		vma_set_bounds_prepared(s, b, at, end);
		BUG_ON(rangemap_replace(&s->map, start, start, at, a));
	} else {
		vma_set_bounds_only(s, b, at, end);
		vma_set_bounds_prepared(s, a, start, at);
		BUG_ON(rangemap_replace(&s->map, old, at, end, b));
	}
	vmas_account(s, vma_flags(shrinks), -pages);
	vmas_account(s, vma_flags(grows), pages);
	return 0;
}

static void copy_hints(struct vma *to, const struct vma *from)
{
	a64_init(&to->last_fault, a64_read(&from->last_fault));
	a32_init(&to->ra_pages, a32_read(&from->ra_pages));
	a64_init(&to->last_touch, a64_read(&from->last_touch));
	a32_init(&to->touch_order, a32_read(&from->touch_order));
}

int vma_split(struct vmas_of *s, u64 va)
{
	struct vma *v = vma_find(s, va), *new;
	struct range r;

	DEBUG_ON(!IS_ALIGNED(va, PAGE_SIZE));
	if (!v || vma_start(v) == va)
		return 0;
	if (rangemap_reserve(&s->map, 2))
		return -ENOMEM;
	r = (struct range){ va, vma_end(v) };
	new = vma_alloc(s, r, vma_flags(v), vma_index(v, va), v->object);
	if (!new)
		return -ENOMEM;
	vma_write_lock(v);
	if (share_anon_vma(s, new, v)) {
		vma_free_unseen(s, new);
		return -ENOMEM;
	}
	copy_hints(new, v);
	vma_attach(s, new);
	vma_set_bounds_prepared(s, v, vma_start(v), va);
	BUG_ON(rangemap_insert(&s->map, r.start, r.end, new));
	return 0;
}

struct vma *vma_merge_around(struct vmas_of *s, struct vma *v)
{
	struct vma *prev = vma_find_prev(s, vma_start(v)), *next;

	if (prev && vma_may_merge(s, prev, v)) {
		if (vma_merge_pair(s, prev, v))
			s->unmerged++;
		else
			v = prev;
	}
	next = vma_next(s, v);
	if (next && vma_may_merge(s, v, next) && vma_merge_pair(s, v, next))
		s->unmerged++;
	return v;
}

int vma_set_end(struct vmas_of *s, struct vma *v, u64 new_end)
{
	s64 pages = (s64)(new_end - vma_end(v)) >> PAGE_SHIFT;

	lock_assert_held(&s->lock);
	BUG_ON(new_end <= vma_start(v) || new_end > s->usable.end ||
	       !IS_ALIGNED(new_end, PAGE_SIZE));
	if (rangemap_reserve(&s->map, 1))
		return -ENOMEM;
	vma_set_bounds_prepared(s, v, vma_start(v), new_end);
	vmas_account(s, vma_flags(v), pages);
	return 0;
}

/* ---- flags ---- */

struct flag_change {
	u64 set;
	u64 clear;
};

static u64 changed(const struct vma *v, const struct flag_change *c)
{
	return (vma_flags(v) & ~c->clear) | c->set;
}

/* -ENOMEM: a hole; 0: nothing to do; 1: something. */
static int survey(struct vmas_of *s, struct range r, const struct flag_change *c)
{
	int todo = 0;

	for (u64 at = r.start; at < r.end;) {
		struct vma *v = vma_find(s, at);

		if (!v)
			return -ENOMEM;
		if (changed(v, c) != vma_flags(v))
			todo = 1;
		at = vma_end(v);
	}
	return todo;
}

/* r is one end of one area, and the neighbour there has the flags already. 1: no such case. */
static int try_move_boundary(struct vmas_of *s, struct range r, const struct flag_change *c)
{
	struct vma *v = vma_find(s, r.start), *other;

	if (vma_start(v) == r.start && vma_end(v) > r.end) {
		other = vma_find_prev(s, r.start);
		if (other && may_merge_as(s, other, v, vma_flags(other), changed(v, c)))
			return move_boundary(s, other, v, r.end);
	} else if (vma_start(v) < r.start && vma_end(v) == r.end) {
		other = vma_next(s, v);
		if (other && may_merge_as(s, v, other, changed(v, c), vma_flags(other)))
			return move_boundary(s, v, other, r.start);
	}
	return 1;
}

/* Merge over every boundary from r.start to r.end. */
static void merge_over(struct vmas_of *s, struct range r)
{
	struct vma *v = vma_find_prev(s, r.start), *next;

	if (!v || vma_end(v) != r.start)
		v = vma_find(s, r.start);
	while ((next = vma_next(s, v)) && vma_start(next) <= r.end) {
		if (vma_may_merge(s, v, next)) {
			if (!vma_merge_pair(s, v, next))
				continue;
			s->unmerged++;
		}
		v = next;
	}
}

int vma_change_flags(struct vmas_of *s, struct range r, u64 set, u64 clear)
{
	struct flag_change c = { .set = set, .clear = clear };
	int r1 = survey(s, r, &c);
	struct vma *v;

	DEBUG_ON(r.start >= r.end);
	if (r1 <= 0)
		return r1;
	r1 = try_move_boundary(s, r, &c);
	if (r1 <= 0)
		return r1;
	if (vma_split(s, r.start))
		return -ENOMEM;
	if (vma_split(s, r.end)) {
		merge_over(s, (struct range){ r.start, r.start });
		return -ENOMEM;
	}
	for (v = vma_find(s, r.start); v && vma_start(v) < r.end; v = vma_next(s, v)) {
		u64 flags = changed(v, &c);

		if (flags == vma_flags(v))
			continue;
		vma_write_lock(v);
		vmas_account(s, vma_flags(v), -(s64)vma_pages(v));
		a64_set(&v->flags, flags);
		vmas_account(s, flags, (s64)vma_pages(v));
	}
	merge_over(s, r);
	return 0;
}

/* ---- the checker ---- */

u64 vmas_check(struct vmas_of *s)
{
	u64 bad = 0, total = 0, locked = 0, last = s->usable.start;
	struct range r = { 0, 0 };
	struct vma *v;

	bad += WARN_ON(rangemap_check(&s->map) < 0);
	while ((v = rangemap_find_first(&s->map, r.end, &r))) {
		bad += WARN_ON(r.start != vma_start(v) || r.end != vma_end(v));
		bad += WARN_ON(r.start >= r.end || !IS_ALIGNED(r.start | r.end, PAGE_SIZE));
		bad += WARN_ON(r.start < last || r.end > s->usable.end);
		bad += WARN_ON(v->set != s || v->space != s->space);
		last = r.end;
		if (vma_flags(v) & VM_FOREIGN)
			continue;
		total += vma_pages(v);
		if (vma_flags(v) & VM_LOCKED)
			locked += vma_pages(v);
	}
	bad += WARN_ON(total != s->total_pages);
	bad += WARN_ON(locked != s->locked_pages);
	bad += WARN_ON(s->peak_pages < s->total_pages);
	return bad;
}

u64 vmas_mergeable(struct vmas_of *s)
{
	struct range r = { 0, 0 };
	struct vma *prev = NULL, *v;
	u64 n = 0;

	while ((v = rangemap_find_first(&s->map, r.end, &r))) {
		if (prev && vma_joins(prev, v, vma_flags(prev), vma_flags(v)) &&
		    vma_ops_of(s)->can_merge(prev, v))
			n++;
		prev = v;
	}
	return n;
}
