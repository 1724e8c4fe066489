/* vma.c - the space lock, lookups with and without it, adding and removing areas. */
#include "base/arena.h"
#include "base/mech.h"
#include "vma/vma_internal.h"

static int no_clone(struct quire *q, struct vma *new, struct vma *old)
{
	return 0;
}

static void no_op(struct quire *q, struct vma *v)
{
}

static bool can_always_merge(struct vma *a, struct vma *b)
{
	return true;
}

static const struct vma_ops no_ops = {
	.clone = no_clone,
	.fork = no_clone,
	.unlink = no_op,
	.relink = no_op,
	.attach = no_op,
	.forget = no_op,
	.can_merge = can_always_merge,
};

int vma_create_caches(struct quire *q, const struct vma_ops *ops)
{
	struct vmas *vs = arena_zalloc(q->arena, sizeof(*vs));

	if (!vs)
		return -ENOMEM;
	vs->ops = ops ? ops : &no_ops;
	vs->cache = cache_create(q->arena, "vma", sizeof(struct vma));
	if (!vs->cache) {
		arena_free(q->arena, vs, sizeof(*vs));
		return -ENOMEM;
	}
	q->vmas = vs;
	return 0;
}

void vma_destroy_caches(struct quire *q)
{
	DEBUG_ON(vma_live(q));
	arena_free(q->arena, q->vmas, sizeof(*q->vmas));
	q->vmas = NULL;
}

u64 vma_live(struct quire *q)
{
	return cache_live(q->vmas->cache);
}

int vmas_init(struct quire *q, struct vmas_of *s, struct range usable, void *space)
{
	BUG_ON(usable.start >= usable.end || !IS_ALIGNED(usable.start | usable.end, PAGE_SIZE));
	s->q = q;
	rwsem_init(&s->lock, LOCK_SPACE);
	/* Even: not locked. Not 0: that is a new area's, which is not write-locked. */
	a32_init(&s->write_gen, 2);
	rangemap_init(&s->map, q);
	s->usable = usable;
	s->total_pages = 0;
	s->peak_pages = 0;
	s->locked_pages = 0;
	s->unmerged = 0;
	s->space = space;
	return 0;
}

void vmas_fini(struct vmas_of *s)
{
	struct range r = { 0, 0 };
	struct vma *v;

	while ((v = rangemap_find_first(&s->map, r.end, &r))) {
		vma_ops_of(s)->forget(s->q, v);
		cache_free(s->q->vmas->cache, v);
	}
	rangemap_destroy(&s->map);
	s->total_pages = 0;
	s->locked_pages = 0;
}

/* ---- the space lock ---- */

void space_read_lock(struct vmas_of *s)
{
	rwsem_read_lock(&s->lock);
}

void space_read_unlock(struct vmas_of *s)
{
	rwsem_read_unlock(&s->lock);
}

/*
 * The sequence is odd from here until unlock or downgrade. Two things hang on it: an area is
 * write-locked while it carries the present value, and a lookup that found nothing believes it only
 * if the value was the same even number before and after.
 */
void space_write_lock(struct vmas_of *s)
{
	rwsem_write_lock(&s->lock);
	a32_fetch_add(&s->write_gen, 1);
	DEBUG_ON(!(a32_read(&s->write_gen) & 1));
}

void space_write_lock_unseen(struct vmas_of *s)
{
	BUG_ON(!rwsem_write_trylock(&s->lock));
	a32_fetch_add(&s->write_gen, 1);
}

void space_write_unlock(struct vmas_of *s)
{
	struct quire *q = s->q;

	a32_fetch_add(&s->write_gen, 1);
	rwsem_write_unlock(&s->lock);
	/* Changed areas leave nodes and areas behind; here is a thread that may wait. */
	qrcu_poll(q);
}

void space_downgrade(struct vmas_of *s)
{
	a32_fetch_add(&s->write_gen, 1);
	rwsem_downgrade(&s->lock);
}

/* ---- lookups ---- */

struct vma *vma_lock_rcu(struct vmas_of *s, u64 va, bool *busy)
{
	u32 gen = a32_read_acquire(&s->write_gen);
	struct vma *v;

	qrcu_read_lock();
	v = rangemap_find(&s->map, va);
	if (unlikely(!v)) {
		qrcu_read_unlock();
		/* Whoever saw a half-changed map (by acquire) sees the sequence of that section. */
		*busy = (gen & 1) || a32_read_acquire(&s->write_gen) != gen;
		return NULL;
	}
	if (!vmalock_read_trylock(&v->lock, &s->write_gen)) {
		qrcu_read_unlock();
		*busy = true;
		return NULL;
	}
	qrcu_read_unlock();
	*busy = false;
	/* The map that was read may be an old one; what the lock holds still is the area itself. */
	if (mech_on(s->q, MECH_VMA_LOCK_RECHECK) &&
	    unlikely(va < vma_start(v) || va >= vma_end(v))) {
		vmalock_read_unlock(&v->lock);
		*busy = true;
		return NULL;
	}
	return v;
}

void vma_read_unlock(struct vma *v)
{
	vmalock_read_unlock(&v->lock);
}

void vma_write_lock(struct vma *v)
{
	vmalock_write_lock(&v->lock, &v->set->write_gen);
}

struct vma *vma_find(struct vmas_of *s, u64 va)
{
	lock_assert_held(&s->lock);
	return rangemap_find(&s->map, va);
}

struct vma *vma_find_first(struct vmas_of *s, u64 va)
{
	lock_assert_held(&s->lock);
	return rangemap_find_first(&s->map, va, NULL);
}

struct vma *vma_find_prev(struct vmas_of *s, u64 va)
{
	lock_assert_held(&s->lock);
	return rangemap_find_prev(&s->map, va, NULL);
}

struct vma *vma_next(struct vmas_of *s, struct vma *v)
{
	return vma_find_first(s, vma_end(v));
}

int vma_find_gap(struct vmas_of *s, struct range within, u64 size, u64 align, u64 *out)
{
	struct range r = s->usable;

	lock_assert_held(&s->lock);
	if (within.end) {
		r.start = max(r.start, within.start);
		r.end = min(r.end, within.end);
	}
	if (r.start >= r.end || size > range_size(r))
		return -ENOMEM;
	return rangemap_find_gap(&s->map, r, size, align, out) ? 0 : -ENOMEM;
}

int vma_reserve(struct vmas_of *s, u32 changes)
{
	lock_assert_held(&s->lock);
	return rangemap_reserve(&s->map, changes);
}

/* ---- making and ending an area ---- */

void vmas_account(struct vmas_of *s, u64 flags, s64 pages)
{
	if (flags & VM_FOREIGN)
		return;
	s->total_pages += (u64)pages;
	s->peak_pages = max(s->peak_pages, s->total_pages);
	if (flags & VM_LOCKED)
		s->locked_pages += (u64)pages;
}

struct vma *vma_alloc(struct vmas_of *s, struct range r, u64 flags, u64 pgoff,
		      struct object *object)
{
	struct vma *v = cache_zalloc(s->q->vmas->cache);

	if (!v)
		return NULL;
	vmalock_init(&v->lock);
	a64_init(&v->start, r.start);
	a64_init(&v->end, r.end);
	a64_init(&v->flags, flags);
	v->pgoff = pgoff;
	v->object = object;
	list_init(&v->anon_chain);
	v->set = s;
	v->space = s->space;
	/* Faults wait for what else the operation does to the new range. */
	vma_write_lock(v);
	return v;
}

void vma_free_unseen(struct vmas_of *s, struct vma *v)
{
	cache_free(s->q->vmas->cache, v);
}

static void vma_free_rcu(struct quire *q, struct rcu_head *head)
{
	cache_free(q->vmas->cache, container_of(head, struct vma, rcu));
}

void vma_attach(struct vmas_of *s, struct vma *v)
{
	if (v->object)
		vma_ops_of(s)->attach(s->q, v);
}

void vma_dispose(struct vmas_of *s, struct vma *v)
{
	vma_ops_of(s)->forget(s->q, v);
	vmalock_detach(&v->lock);
	qrcu_call(s->q, &v->rcu, vma_free_rcu);
}

int vma_remove(struct vmas_of *s, struct vma *v)
{
	lock_assert_held(&s->lock);
	if (rangemap_reserve(&s->map, 1))
		return -ENOMEM;
	vma_write_lock(v);
	BUG_ON(rangemap_erase(&s->map, vma_start(v)));
	vmas_account(s, vma_flags(v), -(s64)vma_pages(v));
	vma_dispose(s, v);
	return 0;
}

/* ---- new ranges ---- */

static bool range_is_usable(const struct vmas_of *s, struct range r)
{
	return r.start < r.end && IS_ALIGNED(r.start | r.end, PAGE_SIZE) &&
	       r.start >= s->usable.start && r.end <= s->usable.end;
}

static int insert_new(struct vmas_of *s, struct range r, u64 flags, u64 pgoff,
		      struct object *object, struct vma *src, struct vma **out)
{
	struct vma *v;

	if (rangemap_reserve(&s->map, 1))
		return -ENOMEM;
	v = vma_alloc(s, r, flags, pgoff, object);
	if (!v)
		return -ENOMEM;
	if (src && aptr_read(&src->anon_vma) && vma_ops_of(s)->clone(s->q, v, src)) {
		vma_free_unseen(s, v);
		return -ENOMEM;
	}
	vma_attach(s, v);
	BUG_ON(rangemap_insert(&s->map, r.start, r.end, v));
	vmas_account(s, flags, (s64)vma_pages(v));
	*out = v;
	return 0;
}

/* May the sketch of a new area, which has no anon_vma, become part of its neighbour v? */
static bool may_absorb(struct vmas_of *s, struct vma *v, struct vma *sketch)
{
	bool above = vma_start(v) >= vma_end(sketch);
	struct vma *a = above ? sketch : v, *b = above ? v : sketch;

	if (!vma_joins(a, b, vma_flags(a), vma_flags(b)))
		return false;
	vma_write_lock(v);
	return vma_ops_of(s)->can_merge(a, b);
}

int vma_add(struct vmas_of *s, struct range r, u64 flags, u64 pgoff, struct vma **out)
{
	return vma_add_object(s, r, flags, pgoff, NULL, out);
}

int vma_add_object(struct vmas_of *s, struct range r, u64 flags, u64 pgoff, struct object *object,
		   struct vma **out)
{
	struct vma *prev = vma_find_prev(s, r.start);
	struct vma *next = vma_find_first(s, r.start);
	struct vma sketch = { .pgoff = pgoff, .set = s, .space = s->space, .object = object };

	BUG_ON(!range_is_usable(s, r));
	BUG_ON(next && vma_start(next) < r.end);
	a64_init(&sketch.start, r.start);
	a64_init(&sketch.end, r.end);
	a64_init(&sketch.flags, flags);
	list_init(&sketch.anon_chain);
	if (prev && may_absorb(s, prev, &sketch)) {
		if (rangemap_reserve(&s->map, 1))
			return -ENOMEM;
		vma_set_bounds_prepared(s, prev, vma_start(prev), r.end);
		*out = prev;
		/* The hole between two that belong together is closed now. */
		if (next && vma_may_merge(s, prev, next) && vma_merge_pair(s, prev, next))
			s->unmerged++;
	} else if (next && may_absorb(s, next, &sketch)) {
		if (rangemap_reserve(&s->map, 1))
			return -ENOMEM;
		vma_set_bounds_prepared(s, next, r.start, vma_end(next));
		*out = next;
	} else {
		return insert_new(s, r, flags, pgoff, object, NULL, out);
	}
	vmas_account(s, flags, (s64)(range_size(r) >> PAGE_SHIFT));
	return 0;
}

int vma_add_moved(struct vmas_of *s, struct range r, u64 flags, u64 pgoff, struct vma *src,
		  struct vma **out)
{
	struct vma *next = vma_find_first(s, r.start), *v = NULL;
	int err;

	BUG_ON(!range_is_usable(s, r));
	BUG_ON(next && vma_start(next) < r.end);
	err = insert_new(s, r, flags, pgoff, src->object, src, &v);
	if (!err)
		*out = vma_merge_around(s, v);
	return err;
}

int vma_add_forked(struct vmas_of *s, struct range r, u64 flags, u64 pgoff, struct vma *src,
		   struct vma **out)
{
	struct vma *next = vma_find_first(s, r.start), *v;
	int err;

	BUG_ON(!range_is_usable(s, r));
	BUG_ON(next && vma_start(next) < r.end);
	if (rangemap_reserve(&s->map, 1))
		return -ENOMEM;
	v = vma_alloc(s, r, flags, pgoff, src->object);
	if (!v)
		return -ENOMEM;
	err = vma_ops_of(s)->fork(s->q, v, src);
	if (err) {
		vma_free_unseen(s, v);
		return err;
	}
	vma_attach(s, v);
	BUG_ON(rangemap_insert(&s->map, r.start, r.end, v));
	vmas_account(s, flags, (s64)vma_pages(v));
	*out = v;
	return 0;
}
