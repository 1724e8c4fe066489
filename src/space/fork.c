/*
 * fork.c - a second space over the same folios. The steps and why they are enough: share.c.
 *
 * Where all spaces have the same addresses the child's areas are where the parent's are. On
 * machines with home frames each space has addresses of its own, and the child's areas lie at the
 * same distance from the start of its range; areas whose pages are home frames cannot be shared,
 * nor can what somebody else has mapped.
 */
#include "space/space_internal.h"

/* Is this area the child's too? 1; 0: left out; -EOPNOTSUPP. */
static int inherits(struct vma *v)
{
	u64 vf = vma_flags(v);

	if (vf & VM_DONTFORK)
		return 0;
	if (!vma_home(v))
		return 1;
	if (vf & VM_FOREIGN)
		return 0;
	return vf & VM_WIPEONFORK ? 1 : -EOPNOTSUPP;
}

/* One area: what the machine and the map know of it, and its pages unless it is wiped. */
static int fork_area(struct sharer *k, struct vma *v)
{
	struct machine *m = k->q->machine;
	struct vmas_of *vmas = &k->child->fs.vmas;
	struct range from = { vma_start(v), vma_end(v) };
	struct range r = { from.start + k->delta, from.end + k->delta };
	u64 vf = vma_flags(v) & ~(u64)(VM_LOCKED | VM_LOCKONFAULT);
	bool share = !(vf & (VM_FOREIGN | VM_WIPEONFORK));
	u64 index = share ? v->pgoff : r.start >> PAGE_SHIFT;
	int err = inherits(v);

	if (err <= 0)
		return err;
	if (r.end > vmas->usable.end)
		return -ENOMEM;
	err = m->ops->area_map(m, k->child->ms, r, vma_prot_bits(vf),
			       space_first_frame(m, vf, v->object, index, r.start));
	if (err)
		return err;
	if (share && aptr_read(&v->anon_vma))
		err = vma_add_forked(vmas, r, vf, index, v, &k->to);
	else
		err = vma_add_object(vmas, r, vf, index, v->object, &k->to);
	if (err) {
		m->ops->area_unmap(m, k->child->ms, r, vma_prot_bits(vf));
		return err;
	}
	/* An area of an object that has no anon_vma has copied nothing. */
	if (!share || (v->object && !aptr_read(&v->anon_vma)))
		return 0;
	return space_share_pages(k, from);
}

static int fork_areas(struct sharer *k)
{
	struct vmas_of *vmas = &k->parent->fs.vmas;
	int err = 0;

	space_share_begin(k, vmas->usable);
	for (struct vma *v = vma_find_first(vmas, 0); v && !err; v = vma_next(vmas, v))
		err = fork_area(k, v);
	space_share_end(k);
	return err;
}

int space_fork(struct quire *q, struct space *parent, struct space **child)
{
	struct sharer k = { .q = q, .parent = parent };
	int err;

	if (machine_has(q->machine, CAP_HOME) && !machine_has(q->machine, CAP_PLAIN))
		return -EOPNOTSUPP;
	err = space_create(q, parent->fs.cgroup, parent->fs.node, &k.child);
	if (err)
		return err;
	a64_set(&k.child->fs.policy, a64_read(&parent->fs.policy));
	k.delta = k.child->fs.vmas.usable.start - parent->fs.vmas.usable.start;
	DEBUG_ON(k.delta && !machine_has(q->machine, CAP_HOME));
	space_write_lock(&parent->fs.vmas);
	space_write_lock_unseen(&k.child->fs.vmas);
	err = fork_areas(&k);
	space_write_unlock(&k.child->fs.vmas);
	space_write_unlock(&parent->fs.vmas);
	qrcu_poll(q);
	if (err) {
		space_destroy(q, k.child);
		return err;
	}
	*child = k.child;
	return 0;
}
