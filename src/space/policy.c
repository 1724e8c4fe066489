/* policy.c - on which nodes new pages of areas, or of a whole space, are to be. */
#include "space/space_internal.h"

static int policy_bits(struct quire *q, u32 mode, u32 nodes, u64 *bits)
{
	u32 all = (u32)BIT(phys_nr_nodes(q)) - 1;

	*bits = 0;
	if (mode >= NR_POLICIES || (mode == POLICY_DEFAULT) != !nodes || (nodes & ~all))
		return -EINVAL;
	*bits = vma_policy_bits(mode, nodes);
	return 0;
}

int space_set_policy(struct quire *q, struct space *s, u64 start, u64 size, u32 mode, u32 nodes)
{
	struct range r;
	u64 bits;
	int err = policy_bits(q, mode, nodes, &bits);

	if (err)
		return err;
	if (!start && !size) {
		a64_set(&s->fs.policy, bits);
		return 0;
	}
	if (!space_range_ok(s, start, &size))
		return -EINVAL;
	r = mk_range(start, size);
	space_write_lock(&s->fs.vmas);
	err = space_covered(s, r);
	if (!err)
		err = vma_change_flags(&s->fs.vmas, r, bits, VM_POLICY & ~bits);
	space_write_unlock(&s->fs.vmas);
	return err;
}

int space_get_policy(struct quire *q, struct space *s, u64 va, u32 *mode, u32 *nodes)
{
	u64 bits = a64_read(&s->fs.policy);
	struct vma *v;

	(void)q;
	if (va) {
		space_read_lock(&s->fs.vmas);
		v = vma_find(&s->fs.vmas, va);
		bits = v ? vma_flags(v) & VM_POLICY : 0;
		space_read_unlock(&s->fs.vmas);
		if (!v)
			return -EFAULT;
	}
	*mode = vma_policy_mode(bits);
	*nodes = vma_policy_nodes(bits);
	return 0;
}
