/* nodes.c - kinds of memory behind the public calls: options, policies, moves, counters. */
#include <quire/quire.h>

#include "lib/lib_internal.h"
#include "migrate/balloon.h"
#include "migrate/compact.h"
#include "reclaim/tier.h"

_Static_assert(QUIRE_NODES_MAX == MACHINE_NODES, "the public number is the machine's");
_Static_assert((int)QUIRE_POLICY_BIND == (int)POLICY_BIND &&
		       (int)QUIRE_POLICY_WEIGHTED == (int)POLICY_WEIGHTED,
	       "the public policies are the core's");

/* ---- options ---- */

int api_check_nodes(const struct quire_options *opt, char *msg, size_t msg_size)
{
	const char *why = NULL;

	if (opt->nr_nodes > QUIRE_NODES_MAX || (opt->nr_nodes && !opt->nodes))
		why = "nodes: at most 8, and a table of them";
	for (u32 i = 0; i < opt->nr_nodes && !why; i++) {
		const struct quire_node *n = &opt->nodes[i];

		if (n->bytes < PMD_SIZE)
			why = "nodes: a node has at least 2 MiB";
		else if (n->bytes > BIT(46))
			why = "nodes: a node has at most 64 TiB";
		else if (n->tier > 255 || n->tier < (i ? opt->nodes[i - 1].tier : 0))
			why = "nodes: in the order of their tiers, the fastest first";
	}
	if (!why)
		return 0;
	api_say(msg, msg_size, why);
	return -EINVAL;
}

void api_host_nodes(const struct quire_options *opt, struct host_config *hc)
{
	hc->nr_nodes = opt->nr_nodes;
	for (u32 i = 0; i < opt->nr_nodes; i++) {
		hc->node[i].bytes = opt->nodes[i].bytes;
		hc->node[i].physical = opt->nodes[i].physical;
	}
}

/*
 * Together they have what the limit says, so that a charge finds room somewhere; the last one has
 * no bound of its own: what nobody can evict must be somewhere.
 */
void api_core_nodes(const struct quire_options *opt, struct machine *m, struct core_config *cc)
{
	u32 nr = opt->nr_nodes ? opt->nr_nodes : 1;
	u64 all = 0;

	cc->phys.nr_nodes = nr;
	for (u32 i = 0; i < nr; i++) {
		u64 pages = opt->nr_nodes ? opt->nodes[i].bytes >> PAGE_SHIFT : ~0ull;

		cc->phys.node[i].base_pfn = m->node_span[i].pfn;
		cc->phys.node[i].span = m->node_span[i].nr;
		cc->phys.node[i].tier = opt->nr_nodes ? opt->nodes[i].tier : 0;
		cc->phys.node[i].size = pages;
		cc->phys.node[i].direct = opt->nr_nodes && opt->nodes[i].physical >= 0;
		cc->phys.node[i].capacity = i + 1 < nr ? pages : ~0ull;
		all += opt->nr_nodes ? pages : 0;
	}
	if (all && (!cc->ram_limit_pages || cc->ram_limit_pages > all))
		cc->ram_limit_pages = all;
}

/* ---- calls ---- */

int quire_move_pages(quire_space_t *st, size_t n, void *const *pages, unsigned node, int *status)
{
	struct api_space *as = api_space_of(st);
	struct quire *q = as->a->q;
	u64 va[64];
	int err = n && (!pages || !status) ? -EINVAL : 0;

	for (size_t at = 0; at < n && !err; at += ARRAY_SIZE(va)) {
		size_t len = min(n - at, ARRAY_SIZE(va));

		for (size_t i = 0; i < len; i++)
			va[i] = ALIGN_DOWN((u64)(uintptr_t)pages[at + i], PAGE_SIZE);
		gate_enter(&q->gate);
		err = space_move_to_node(q, as->s, va, len, node, status + at);
		gate_exit(&q->gate);
	}
	return err;
}

int quire_set_policy(quire_space_t *st, void *addr, size_t size, int policy, uint32_t nodes)
{
	struct api_space *as = api_space_of(st);
	struct quire *q = as->a->q;
	int err;

	if (policy < 0)
		return -EINVAL;
	gate_enter(&q->gate);
	err = space_set_policy(q, as->s, (u64)(uintptr_t)addr, size, (u32)policy, nodes);
	gate_exit(&q->gate);
	return err;
}

int quire_get_policy(quire_space_t *st, const void *addr, int *policy, uint32_t *nodes)
{
	struct api_space *as = api_space_of(st);
	struct quire *q = as->a->q;
	u32 mode = 0;
	int err;

	gate_enter(&q->gate);
	err = space_get_policy(q, as->s, (u64)(uintptr_t)addr, &mode, nodes);
	gate_exit(&q->gate);
	*policy = (int)mode;
	return err;
}

void quire_set_promotion(quire_t *qt, uint64_t bytes)
{
	tier_set_rate(api_of(qt)->q, bytes);
}

int quire_compact(quire_t *qt, unsigned node)
{
	struct quire *q = api_of(qt)->q;
	struct compact_result result;
	int err;

	gate_enter(&q->gate);
	err = compact_node(q, node, COMPACT_WHOLE, &result);
	gate_exit(&q->gate);
	return err;
}

int64_t quire_balloon(quire_t *qt, unsigned node, int64_t pages)
{
	struct quire *q = api_of(qt)->q;
	int64_t n;

	if (node >= phys_nr_nodes(q))
		return -EINVAL;
	gate_enter(&q->gate);
	n = pages < 0 ? -(int64_t)balloon_deflate(q, node, 0 - (u64)pages) :
			(int64_t)balloon_inflate(q, node, (u64)pages);
	gate_exit(&q->gate);
	return n;
}

int quire_node_get(quire_t *qt, unsigned node, struct quire_node_info *out)
{
	struct api_instance *a = api_of(qt);
	struct quire *q = a->q;
	struct tier_node_stats s;
	u64 size;

	if (!out || out->size < sizeof(*out))
		return -EINVAL;
	if (node >= phys_nr_nodes(q))
		return -ENOENT;
	tier_stats(q, node, &s);
	size = phys_size(q, node);
	*out = (struct quire_node_info){
		.size = sizeof(*out),
		.bytes = size == ~0ull ? 0 : size << PAGE_SHIFT,
		.used_bytes = phys_used(q, node) << PAGE_SHIFT,
		.balloon_bytes = balloon_pages(q, (int)node) << PAGE_SHIFT,
		.physical = a->physical[node],
		.tier = phys_tier(q, node),
		.demoted_in = s.demoted_in,
		.demoted_out = s.demoted_out,
		.promoted_in = s.promoted_in,
		.promoted_out = s.promoted_out,
		.hint_faults = s.hint_faults,
		.watched = s.hints,
		.watched_used = s.used,
	};
	return 0;
}
