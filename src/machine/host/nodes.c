/*
 * Memory nodes: which of them are a NUMA node of the host, and the kernel's policies that make
 * memory come from there.
 *
 * All policies are PREFERRED, never BIND: when a node is full, the kernel would end the program
 * rather than give a bound area another node's memory. What was to be of a node and came from
 * another one is found out where it matters (nodes_misplaced).
 *
 * The thread's own part is in base_thread.machine_data, above what read.c keeps there: the node it
 * prefers, and which policy it had before. Of those there are few in a program; the machine keeps
 * each of them once.
 */
#include "machine/host/host_internal.h"

#include <string.h>

#define MPOL_DEFAULT_NR   0l
#define MPOL_PREFERRED_NR 1l
#define MPOL_NODE_OF      3l                   /* MPOL_F_NODE | MPOL_F_ADDR */
#define MASK_BITS         (POLICY_NODES + 1ul) /* the kernel takes one off */

#define OWN_NODE_SHIFT   32
#define OWN_POLICY_SHIFT 40
#define OWN_BYTE         0xffull

static bool policy_get(struct host_policy *p)
{
	memset(p, 0, sizeof(*p));
	return native_syscall(SYS_get_mempolicy, &p->mode, p->mask, POLICY_NODES, 0l, 0l) == 0;
}

static long policy_set(const struct host_policy *p)
{
	if (p->mode == MPOL_DEFAULT_NR)
		return native_syscall(SYS_set_mempolicy, MPOL_DEFAULT_NR, (void *)0, 0l);
	return native_syscall(SYS_set_mempolicy, (long)p->mode, p->mask, MASK_BITS);
}

static void policy_prefer(struct host_policy *p, unsigned physical)
{
	memset(p, 0, sizeof(*p));
	p->mode = MPOL_PREFERRED_NR;
	p->mask[physical / 64] = BIT(physical % 64);
}

int nodes_bind(struct host *h, u64 va, u64 size, unsigned node)
{
	struct host_policy p;

	if (h->physical[node] < 0)
		return 0;
	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	policy_prefer(&p, (unsigned)h->physical[node]);
	return (int)native_syscall(SYS_mbind, va, size, (long)p.mode, p.mask, MASK_BITS, 0l);
}

const char *nodes_init(struct host *h, const struct host_config *cfg, int *err)
{
	struct host_policy p;

	*err = -EINVAL;
	h->m.nr_nodes = max(cfg->nr_nodes, 1u);
	for (u32 i = 0; i < MACHINE_NODES; i++)
		h->physical[i] = -1;
	if (cfg->nr_nodes > MACHINE_NODES)
		return "there are too many memory nodes";
	for (u32 i = 0; i < cfg->nr_nodes; i++) {
		int physical = cfg->node[i].physical;

		if (physical < -1 || (physical >= 0 && !sys_node_online((unsigned)physical)))
			return "a memory node is to be a NUMA node that this host does not have";
		h->physical[i] = physical;
		h->has_physical |= physical >= 0;
	}
	*err = -EPERM;
	if (h->has_physical && !policy_get(&p))
		return "memory policies are not permitted here (a container's policy)";
	return NULL;
}

/* Two pages of one node's number may be of different ones all the same: memory ran out there, or
 * the page is older than the number. */
u32 nodes_misplaced(struct host *h, u64 va, u32 nr, unsigned node, u64 *bits)
{
	u32 found = 0;

	memset(bits, 0, sizeof(u64) * PTRS_PER_TABLE / 64);
	for (u32 i = 0, n; h->physical[node] >= 0 && i < nr; i += n) {
		void *page[64];
		int where[64];

		n = min(nr - i, 64u);
		for (u32 k = 0; k < n; k++)
			page[k] = (void *)(uintptr_t)(va + ((u64)(i + k) << PAGE_SHIFT));
		if (native_syscall(SYS_move_pages, 0l, (long)n, page, (void *)0, where, 0l))
			return found; /* nobody knows: taken as it is */
		for (u32 k = 0; k < n; k++)
			if (where[k] >= 0 && where[k] != h->physical[node]) {
				bits[i / 64] |= BIT(k);
				found++;
			}
	}
	return found;
}

/* ---- the calling thread ---- */
void nodes_like(struct host *h, u64 va, struct host_policy *before)
{
	struct host_policy there;
	int node;

	before->mode = -1;
	if (!h->has_physical ||
	    native_syscall(SYS_get_mempolicy, &node, (void *)0, 0l, va, MPOL_NODE_OF) || node < 0 ||
	    node >= POLICY_NODES || !policy_get(before))
		return;
	policy_prefer(&there, (unsigned)node);
	if (policy_set(&there))
		before->mode = -1;
}

void nodes_as_before(const struct host_policy *before)
{
	if (before->mode >= 0)
		policy_set(before);
}

/* Which of the kept policies is p; ~0: there is no room for another. */
static u32 policy_keep(struct host *h, const struct host_policy *p)
{
	u32 i;

	if (p->mode == MPOL_DEFAULT_NR)
		return 0;
	mutex_lock(&h->lock);
	for (i = 0; i < h->nr_policies; i++)
		if (!memcmp(&h->policy[i], p, sizeof(*p)))
			break;
	if (i == h->nr_policies && i < HOST_POLICIES)
		h->policy[h->nr_policies++] = *p;
	mutex_unlock(&h->lock);
	return i < HOST_POLICIES ? i + 1 : ~0u;
}

static void policy_kept(struct host *h, u32 number, struct host_policy *p)
{
	memset(p, 0, sizeof(*p));
	mutex_lock(&h->lock);
	if (number && number <= h->nr_policies)
		*p = h->policy[number - 1];
	mutex_unlock(&h->lock);
}

/* 0: what the program wants. Errors leave the thread as it was: it only runs slower. */
void host_prefer_node(struct machine *m, unsigned node)
{
	struct host *h = host_of(m);
	uintptr_t own = (uintptr_t)base_self()->machine_data;
	unsigned now = own >> OWN_NODE_SHIFT & OWN_BYTE;
	u32 kept = own >> OWN_POLICY_SHIFT & OWN_BYTE;
	struct host_policy p;

	BUG_ON(node >= h->m.nr_nodes);
	if (node == now)
		return;
	if (!now) {
		kept = policy_get(&p) ? policy_keep(h, &p) : ~0u;
		if (kept == ~0u)
			return;
	}
	if (node && h->physical[node] >= 0)
		policy_prefer(&p, (unsigned)h->physical[node]);
	else
		policy_kept(h, kept, &p);
	if (policy_set(&p))
		return;
	own &= ~(OWN_BYTE << OWN_NODE_SHIFT | OWN_BYTE << OWN_POLICY_SHIFT);
	own |= (uintptr_t)node << OWN_NODE_SHIFT;
	if (node)
		own |= (uintptr_t)kept << OWN_POLICY_SHIFT;
	base_self()->machine_data = (void *)own;
}
