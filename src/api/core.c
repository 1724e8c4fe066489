/* core.c - creation and destruction of an instance. */
#include "api/core.h"

#include "base/arena.h"
#include "base/assert.h"
#include "base/inject.h"
#include "base/trace.h"
#include "fault/fault.h"
#include "gather/gather.h"
#include "machine/machine.h"
#include "migrate/compact.h"
#include "migrate/copier.h"
#include "object/object.h"
#include "reclaim/reclaim.h"
#include "reclaim/tier.h"
#include "space/space.h"
#include "swap/meta.h"

/* The arena must outlive its own users, so it holds the instance too. */
struct core {
	struct quire q;
	u64 bare_bytes; /* (C) arena_used() before the first part */
} cacheline_aligned;

struct part {
	int (*create)(struct quire *q, const struct core_config *cfg);
	void (*destroy)(struct quire *q);
};

static int create_phys(struct quire *q, const struct core_config *cfg)
{
	int err = phys_create(q, &cfg->phys);

	if (!err)
		cgroup_set_limit(q, CGROUP_ROOT,
				 cfg->ram_limit_pages ? cfg->ram_limit_pages : ~0ull);
	return err;
}

static int create_tables(struct quire *q, const struct core_config *cfg)
{
	return pt_create(q);
}

static int create_vmas(struct quire *q, const struct core_config *cfg)
{
	return vma_create_caches(q, &rmap_vma_ops);
}

static int create_objects(struct quire *q, const struct core_config *cfg)
{
	return objects_create(q);
}

static int create_rmap(struct quire *q, const struct core_config *cfg)
{
	return rmap_create(q);
}

/* The gather owns nothing that outlives a call: it is checked here and not destroyed. */
static int create_gather(struct quire *q, const struct core_config *cfg)
{
	return gather_create(q);
}

static int create_swap(struct quire *q, const struct core_config *cfg)
{
	char unread[128];

	if (cfg->msg)
		return swap_create(q, cfg->swap_spec, cfg->msg, cfg->msg_size);
	return swap_create(q, cfg->swap_spec, unread, sizeof(unread));
}

static int create_migrate(struct quire *q, const struct core_config *cfg)
{
	return migrate_create(q);
}

static int create_fault(struct quire *q, const struct core_config *cfg)
{
	return fault_create(q);
}

/* Upcalls: what lower folders, or folders of the same rank, ask of each other (see the headers that
 * declare the tables). */
static const struct rmap_swap_ops rmap_upcalls = {
	.dup = swap_dup,
	.try_free = swap_try_free_folio,
	.meta_wanted = meta_wanted,
	.meta_save = meta_save,
};
static const struct fault_ops fault_upcalls = {
	.make_room = reclaim_make_room,
	.wake_background = reclaim_wake,
	.refault = reclaim_refault_is_hot,
	.demote = tier_demote,
	.node_room = tier_make_room,
	.touched = tier_touched,
	.stamp = tier_stamp,
	.parked = tier_parked,
	.compact = compact_for_fault,
};
static const struct object_upcalls object_upcalls = {
	.mkclean = rmap_mkclean,
	.unmap_range = space_unmap_object,
	.make_room = reclaim_make_room,
	.refault = reclaim_refault_is_hot,
};

static const struct migrate_upcalls migrate_upcalls = {
	.make_room = reclaim_make_room,
	.step_begin = reclaim_step_begin,
	.step_end = reclaim_step_end,
};

static int create_reclaim(struct quire *q, const struct core_config *cfg)
{
	int err = reclaim_create(q);

	if (err)
		return err;
	rmap_register_swap(q, &rmap_upcalls);
	fault_register_reclaim(q, &fault_upcalls);
	objects_register(q, &object_upcalls);
	migrate_register(q, &migrate_upcalls);
	return 0;
}

static int create_spaces(struct quire *q, const struct core_config *cfg)
{
	return spaces_create(q);
}

static int create_threads(struct quire *q, const struct core_config *cfg)
{
	int err = cfg->background ? reclaim_start_background(q) : 0;

	if (!err && cfg->copy_threads)
		err = copier_start(q, cfg->copy_threads, COPIER_MIN_PAGES);
	if (err)
		reclaim_stop_background(q);
	return err;
}

static void stop_threads(struct quire *q)
{
	copier_stop(q);
	reclaim_stop_background(q);
}

static const struct part parts[] = {
	{ create_phys, phys_destroy },       { create_tables, pt_destroy },
	{ create_vmas, vma_destroy_caches }, { create_objects, objects_destroy },
	{ create_rmap, rmap_destroy },       { create_gather, NULL },
	{ create_swap, swap_destroy },       { create_migrate, migrate_destroy },
	{ create_fault, fault_destroy },     { create_reclaim, reclaim_destroy },
	{ create_spaces, spaces_destroy },   { create_threads, stop_threads },
};

static void *source_map(void *ctx, size_t bytes)
{
	struct machine *m = ctx;

	return m->ops->mem_map(m, bytes);
}

static void source_unmap(void *ctx, void *addr, size_t bytes)
{
	struct machine *m = ctx;

	m->ops->mem_unmap(m, addr, bytes);
}

/* The instance without any part. NULL: no memory. */
static struct core *core_bare(struct machine *m)
{
	struct arena_source source = { .ctx = m, .map = source_map, .unmap = source_unmap };
	struct arena *arena = arena_create(&source);
	struct core *core;
	struct quire *q;

	if (!arena)
		return NULL;
	arena_set_inject(arena, m->inject);
	core = arena_zalloc(arena, sizeof(*core));
	if (!core)
		goto fail;
	q = &core->q;
	q->machine = m;
	q->arena = arena;
	q->inject = m->inject;
	q->stats = arena_zalloc(arena, MAX_CPUS * sizeof(*q->stats));
	if (!q->stats)
		goto fail;
	q->trace = trace_create(arena);
	if (!q->trace)
		goto fail;
	rcu_domain_init(&q->rcu);
	gate_init(&q->gate);
	core->bare_bytes = arena_used(arena);
	return core;
fail:
	arena_destroy(arena);
	return NULL;
}

/*
 * Destroys parts [0, nr). Deferred frees give objects back to caches of parts that are about to go,
 * and a part's end may queue more of them: hence a barrier before each.
 */
static u64 core_unwind(struct core *core, size_t nr)
{
	struct quire *q = &core->q;
	struct arena *arena = q->arena;
	u64 left;

	while (nr--) {
		qrcu_barrier(q);
		if (parts[nr].destroy)
			parts[nr].destroy(q);
	}
	qrcu_barrier(q);
	trace_disable(q);
	left = arena_used(arena) - core->bare_bytes;
	arena_destroy(arena);
	return left;
}

int core_create(struct quire **out, struct machine *m, const struct core_config *cfg)
{
	struct core *core = core_bare(m);

	*out = NULL;
	if (cfg->msg && cfg->msg_size)
		cfg->msg[0] = '\0';
	if (!core)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		int err = parts[i].create(&core->q, cfg);

		if (err) {
			WARN_ON(core_unwind(core, i));
			return err;
		}
	}
	*out = &core->q;
	return 0;
}

u64 core_destroy(struct quire *q)
{
	return core_unwind(container_of(q, struct core, q), ARRAY_SIZE(parts));
}

u64 core_metadata_bytes(struct quire *q)
{
	return arena_bytes(q->arena);
}
