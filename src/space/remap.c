/*
 * remap.c - mremap: shrink, grow in place, move, with Linux's checks in Linux's order.
 */
#include "space/space_internal.h"

#define REMAP_MAYMOVE   1u
#define REMAP_FIXED     2u
#define REMAP_DONTUNMAP 4u
#define VM_MOVING \
	BIT(15) /* keeps the new area from merging until it shares the old one's anon_vma */

struct remap {
	struct quire *q;
	struct space *s;
	u64 old, old_size, new_size, new_addr;
	u32 flags;
};

static int check_args(struct remap *r)
{
	u64 old_size = r->old_size, new_size = r->new_size;

	if (r->flags & ~(REMAP_MAYMOVE | REMAP_FIXED | REMAP_DONTUNMAP))
		return -EINVAL;
	if ((r->flags & (REMAP_FIXED | REMAP_DONTUNMAP)) && !(r->flags & REMAP_MAYMOVE))
		return -EINVAL;
	if ((r->flags & REMAP_DONTUNMAP) && old_size != new_size)
		return -EINVAL;
	if (!IS_ALIGNED(r->old, PAGE_SIZE) || !new_size)
		return -EINVAL;
	if (new_size > range_size(r->s->fs.vmas.usable))
		return -ENOMEM;
	r->old_size = ALIGN_UP(old_size, PAGE_SIZE);
	r->new_size = ALIGN_UP(new_size, PAGE_SIZE);
	/* Size 0 duplicates shared mappings; private ones refuse. */
	if (!r->old_size)
		return -EINVAL;
	if (r->flags & REMAP_FIXED) {
		u64 size = r->new_size;

		if (!IS_ALIGNED(r->new_addr, PAGE_SIZE) ||
		    !space_range_ok(r->s, r->new_addr, &size))
			return -EINVAL;
		if (range_overlaps(mk_range(r->old, r->old_size),
				   mk_range(r->new_addr, r->new_size)))
			return -EINVAL;
	}
	return 0;
}

/* The one area that must cover the old range. S write. */
static int source_area(struct remap *r, struct vma **out)
{
	struct vma *v = vma_find(&r->s->fs.vmas, r->old);

	if (!v || (vma_flags(v) & VM_FOREIGN))
		return -EFAULT;
	if (r->old_size > vma_end(v) - r->old)
		return -EFAULT;
	*out = v;
	return 0;
}

/* Grow at the end of its area if the room is free. S write. */
static bool grow_in_place(struct remap *r, struct vma *v)
{
	struct machine *m = r->q->machine;
	u64 end = r->old + r->new_size, was = vma_end(v), size = r->new_size;
	struct range more = { was, end };
	struct vma *next = vma_next(&r->s->fs.vmas, v);
	unsigned prot = vma_prot_bits(vma_flags(v));

	if (was != r->old + r->old_size || !space_range_ok(r->s, r->old, &size))
		return false;
	if (next && vma_start(next) < end)
		return false;
	if (m->ops->area_map(m, r->s->ms, more, prot,
			     space_first_frame(m, vma_flags(v), v->object, vma_index(v, was), was)))
		return false;
	vma_write_lock(v);
	if (vma_set_end(&r->s->fs.vmas, v, end)) {
		m->ops->area_unmap(m, r->s->ms, more, prot);
		return false;
	}
	vma_merge_around(&r->s->fs.vmas, v);
	return true;
}

/* Congruent with the old place modulo 2 MiB, so that large folios and runs stay whole. S write. */
static int find_place(struct remap *r, u64 *at)
{
	u64 skew = r->new_size >= PMD_SIZE ? r->old & ~PMD_MASK : 0;
	int err;

	if (r->flags & REMAP_FIXED) {
		*at = r->new_addr;
		return 0;
	}
	err = vma_find_gap(&r->s->fs.vmas, (struct range){ 0, 0 }, r->new_size + skew,
			   skew || r->new_size >= PMD_SIZE ? PMD_SIZE : PAGE_SIZE, at);
	*at += skew;
	return err;
}

/* The new area, empty, with the old one's anon_vma and, where entries move (unlike the bytes of
 * home frames), its page offsets. S write. */
static int make_area(struct remap *r, struct vma *old, u64 at, struct vma **out)
{
	struct machine *m = r->q->machine;
	u64 vf = vma_flags(old);
	struct range to = mk_range(at, r->new_size);
	u64 index = vma_home(old) ? at >> PAGE_SHIFT : vma_index(old, r->old);
	int err = m->ops->area_map(m, r->s->ms, to, vma_prot_bits(vf),
				   space_first_frame(m, vf, old->object, index, at));

	if (err)
		return err;
	err = vma_add_object(&r->s->fs.vmas, to, vf | VM_MOVING, index, old->object, out);
	if (err) {
		m->ops->area_unmap(m, r->s->ms, to, vma_prot_bits(vf));
		return err;
	}
	vma_write_lock(*out);
	err = anon_vma_clone(r->q, *out, old);
	if (err)
		space_unmap_cut(r->q, r->s, to); /* the caller has reserved for it */
	return err;
}

/*
 * The old area goes, or stays without its pages (and unlocked, as in Linux); only then may the new
 * one merge: with home frames the two may be neighbours that belong together, and would be torn
 * down together.
 */
static void settle_areas(struct remap *r, struct vma *old, struct vma *new)
{
	struct range from = mk_range(r->old, r->old_size);

	if (!(r->flags & REMAP_DONTUNMAP))
		space_unmap_cut(r->q, r->s, from);
	else if (!(vma_flags(old) & VM_LOCKED) ||
		 vma_change_flags(&r->s->fs.vmas, from, 0, VM_LOCKED | VM_LOCKONFAULT))
		vma_merge_around(&r->s->fs.vmas, old);
	a64_fetch_and(&new->flags, ~VM_MOVING);
	vma_merge_around(&r->s->fs.vmas, new);
}

/* Cut the old range out, so that it is an area of its own; room for what follows reserved. S write.
 */
static int prepare_move(struct remap *r, struct vma **old)
{
	struct range from = mk_range(r->old, r->old_size);
	int err = space_cut(r->q, r->s, from, 8);

	if (!err)
		err = source_area(r, old);
	return err;
}

static int move(struct remap *r, u64 *out)
{
	struct vma *old = NULL, *new = NULL;
	u64 at, moved = 0, back = 0;
	int err = 0;

	if (r->flags & REMAP_FIXED)
		err = space_unmap_locked(r->q, r->s, mk_range(r->new_addr, r->new_size));
	if (!err)
		err = prepare_move(r, &old);
	if (!err)
		err = find_place(r, &at);
	if (!err)
		err = make_area(r, old, at, &new);
	if (err) {
		if (old)
			vma_merge_around(&r->s->fs.vmas, old);
		return err;
	}
	vma_write_lock(old);
	err = space_move_pages(r->q, r->s, old, r->old, new, at, min(r->old_size, r->new_size),
			       &moved);
	if (err) {
		/* What has moved goes back: there it was a moment ago, so there is room for it. */
		WARN_ON(space_move_pages(r->q, r->s, new, at, old, r->old,
					 min(r->old_size, r->new_size), &back));
		space_unmap_cut(r->q, r->s, mk_range(at, r->new_size));
		vma_merge_around(&r->s->fs.vmas, old);
		return err;
	}
	settle_areas(r, old, new);
	*out = at;
	return 0;
}

static int remap_locked(struct remap *r, u64 *out)
{
	struct vma *v;
	u64 tail;
	int err = source_area(r, &v);

	*out = r->old;
	if (err || (r->flags & (REMAP_FIXED | REMAP_DONTUNMAP)))
		return err ? err : move(r, out);
	if (r->new_size == r->old_size)
		return 0;
	if (r->new_size < r->old_size) {
		tail = r->old_size - r->new_size;
		return space_unmap_locked(r->q, r->s, mk_range(r->old + r->new_size, tail));
	}
	if (grow_in_place(r, v))
		return 0;
	return r->flags & REMAP_MAYMOVE ? move(r, out) : -ENOMEM;
}

int space_remap(struct quire *q, struct space *s, u64 old, u64 old_size, u64 new_size, u32 flags,
		u64 new_addr, u64 *out)
{
	struct remap r = {
		.q = q,
		.s = s,
		.old = old,
		.old_size = old_size,
		.new_size = new_size,
		.new_addr = new_addr,
		.flags = flags,
	};
	bool locked = false;
	u64 at = old;
	int err = check_args(&r);

	if (err)
		return err;
	space_write_lock(&s->fs.vmas);
	err = remap_locked(&r, &at);
	if (!err)
		locked = vma_flags(vma_find(&s->fs.vmas, at)) & VM_LOCKED;
	rangemap_unreserve(&s->fs.vmas.map);
	space_write_unlock(&s->fs.vmas);
	qrcu_poll(q);
	if (err)
		return err;
	*out = at;
	if (locked && new_size > old_size)
		(void)!space_populate(q, s, mk_range(at + r.old_size, r.new_size - r.old_size),
				      ACCESS_WRITE);
	return 0;
}
