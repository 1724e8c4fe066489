/*
 * snapshot.c - a range of a space as it is at one moment, at other addresses of the same space.
 *
 * A fork of some areas into the space itself: the steps, why they are enough, and which moment it
 * is are at the top of share.c. The new areas keep the page offsets of the old ones and are chained
 * to their anon_vmas, so that the reverse map finds a shared page at both addresses. They lie at
 * the same place within 2 MiB, so that one table becomes one table and a large folio can stay
 * whole.
 */
#include "space/space_internal.h"

struct snapshot {
	struct sharer k;
	struct range from;
	u32 flags;
};

/* Every page of the range in an area whose pages can be shared. S write. */
static int check_range(struct snapshot *t, u32 *areas)
{
	struct vmas_of *vmas = &t->k.parent->fs.vmas;

	*areas = 0;
	for (u64 va = t->from.start; va < t->from.end; ++*areas) {
		struct vma *v = vma_find(vmas, va);

		if (!v)
			return -ENOMEM;
		/* Others may store to an object's pages, and nothing here would hear of it. */
		if (vma_home(v) || v->object || (vma_flags(v) & VM_FOREIGN))
			return -EINVAL;
		va = vma_end(v);
	}
	return 0;
}

static int find_place(struct snapshot *t, u64 *at)
{
	u64 skew = t->from.start & ~PMD_MASK;
	int err = vma_find_gap(&t->k.parent->fs.vmas, (struct range){ 0, 0 },
			       range_size(t->from) + skew, PMD_SIZE, at);

	*at += skew;
	return err;
}

/* What of the area lies in the range. S write. */
static int snapshot_area(struct snapshot *t, struct vma *v)
{
	struct machine *m = t->k.q->machine;
	struct space *s = t->k.parent;
	struct range from = { max(vma_start(v), t->from.start), min(vma_end(v), t->from.end) };
	struct range r = { from.start + t->k.delta, from.end + t->k.delta };
	u64 vf = vma_flags(v) & ~(u64)(VM_LOCKED | VM_LOCKONFAULT), index;
	int err;

	if (!(t->flags & SNAPSHOT_F_WRITE))
		vf &= ~(u64)VM_WRITE;
	index = vma_index(v, from.start);
	err = m->ops->area_map(m, s->ms, r, vma_prot_bits(vf), vma_first_frame(m, vf, index));
	if (err)
		return err;
	err = vma_add_forked(&s->fs.vmas, r, vf, index, v, &t->k.to);
	if (err) {
		m->ops->area_unmap(m, s->ms, r, vma_prot_bits(vf));
		return err;
	}
	return space_share_pages(&t->k, from);
}

/* The new areas' neighbours are known now. S write. */
static void merge_areas(struct space *s, struct range r)
{
	for (u64 va = r.start; va < r.end;) {
		struct vma *v = vma_merge_around(&s->fs.vmas, vma_find(&s->fs.vmas, va));

		va = vma_end(v);
	}
}

static int snapshot_locked(struct snapshot *t, u64 *at)
{
	struct space *s = t->k.parent;
	u64 size = range_size(t->from);
	struct vma *v;
	u32 areas;
	int err = check_range(t, &areas);

	/* Each area comes, and goes again if it was in vain. */
	if (!err)
		err = rangemap_reserve(&s->fs.vmas.map, 2 * areas + 2);
	if (!err)
		err = find_place(t, at);
	if (err)
		return err;
	t->k.delta = *at - t->from.start;
	space_share_begin(&t->k, t->from);
	v = vma_find(&s->fs.vmas, t->from.start);
	for (; v && vma_start(v) < t->from.end && !err; v = vma_next(&s->fs.vmas, v))
		err = snapshot_area(t, v);
	space_share_end(&t->k);
	if (err)
		space_unmap_cut(t->k.q, s, mk_range(*at, size));
	else
		merge_areas(s, mk_range(*at, size));
	return err;
}

int space_snapshot(struct quire *q, struct space *s, u64 start, u64 size, u32 flags, u64 *out)
{
	struct snapshot t = { .k = { .q = q, .parent = s, .child = s }, .flags = flags };
	u64 at = 0;
	int err;

	if ((flags & ~(u32)SNAPSHOT_F_WRITE) || !space_range_ok(s, start, &size))
		return -EINVAL;
	t.from = mk_range(start, size);
	space_write_lock(&s->fs.vmas);
	err = snapshot_locked(&t, &at);
	rangemap_unreserve(&s->fs.vmas.map);
	space_write_unlock(&s->fs.vmas);
	qrcu_poll(q);
	if (!err)
		*out = at;
	return err;
}
