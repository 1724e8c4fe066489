/* The simulated machine: creation, spaces, the operations table, the counters. */
#include <stdlib.h>
#include <string.h>

#include "machine/sim/sim_internal.h"

#define SLOT_DEFAULT (16ull << 30)

struct sim_config sim_defaults(bool home, bool hw_ad)
{
	struct sim_config cfg = {
		.nr_cpus = 4,
		.tlb_entries = 64,
		.ram_frames = 16384,
		.span_frames = home ? 0 : 65536,
		.caps = CAP_RANGE_FLUSH,
		.seed = 1,
		.evict_ppm = 20000,
		.prefetch_ppm = 20000,
		.late_ppm = 20000,
	};

	/* Home as the host machine is, which has no page to share for zeroes. */
	if (home)
		cfg.caps |= CAP_HOME | CAP_FLUSH_UNDER_LOCK | CAP_AREA_PROTECT;
	else
		cfg.caps |= CAP_HUGE | CAP_ZERO_PAGE;
	cfg.caps |= hw_ad ? CAP_HW_AD : 0;
	return cfg;
}

const struct sim_config *sim_config_of(const struct machine *m)
{
	return &container_of(m, const struct sim, m)->cfg;
}

void sim_stats_get(struct machine *m, struct sim_stats *out)
{
	struct sim *sim = sim_of(m);
	const struct sim_counters *n = &sim->n;

	memset(out, 0, sizeof(*out));
	for (u32 i = 0; i < NR_SIM_VIOLATIONS; i++)
		out->violations[i] = a64_read(&n->violations[i]);
	out->violation_at = a64_read(&n->violation_at);
	out->flushes = a64_read(&n->flushes);
	out->flushes_all = a64_read(&n->flushes_all);
	out->flushes_tables = a64_read(&n->flushes_tables);
	out->interrupts = a64_read(&n->interrupts);
	out->interrupts_late = a64_read(&n->interrupts_late);
	out->entries_changed = a64_read(&n->entries_changed);
	out->fills = a64_read(&n->fills);
	out->released = a64_read(&n->released);
	out->moved = a64_read(&n->moved);
	out->populated = a64_read(&n->populated);
	out->populated_peak = a64_read(&n->populated_peak);
	out->mem_bytes = a64_read(&n->mem_bytes);
	out->staging = a64_read(&n->staging);
	out->files = a64_read(&n->files);
	out->threads = a64_read(&n->threads);
	out->spaces = a64_read(&n->spaces);
	for (u32 i = 0; i < sim->cfg.nr_cpus; i++) {
		struct sim_cpu *c = &sim->cpu[i];

		pthread_mutex_lock(&c->lock);
		out->accesses += c->accesses;
		out->tlb_hits += c->hits;
		out->walks += c->walks;
		out->traps += c->traps;
		out->spurious_traps += c->spurious;
		out->evictions += c->evictions;
		out->prefetches += c->prefetches;
		pthread_mutex_unlock(&c->lock);
	}
}

u64 sim_violations(struct machine *m)
{
	u64 sum = 0;

	for (u32 i = 0; i < NR_SIM_VIOLATIONS; i++)
		sum += a64_read(&sim_of(m)->n.violations[i]);
	return sum;
}

const char *sim_violation_name(enum sim_violation v)
{
	static const char *const name[NR_SIM_VIOLATIONS] = {
		[SIM_STALE_RELEASE] = "a frame was released while a TLB entry reached it",
		[SIM_MAPPED_RELEASE] = "a home frame was released while an entry named it",
		[SIM_EMPTY_INSTALL] = "a home entry was made usable without bytes",
		[SIM_WILD_ENTRY] = "an entry names no frame",
		[SIM_DEAD_SPACE] = "a home frame of no living space was named",
		[SIM_BAD_MOVE] = "frames were moved onto populated frames",
	};

	return (u32)v < NR_SIM_VIOLATIONS ? name[v] : "?";
}

/* ---- spaces ---- */

/* Slot i lies around (i + 1) TiB, so that every space's addresses cross a top-level entry. Where
 * frames are not addresses all spaces use slot 0's, so that they can be forked. */
static struct range slot_range(const struct sim *sim, unsigned slot)
{
	u64 middle = (u64)(sim_is_home(sim) ? slot + 1 : 1) << SIM_SLOT_SHIFT;

	return (struct range){ middle - sim->cfg.slot_bytes / 2, middle + sim->cfg.slot_bytes / 2 };
}

static int claim_slot(struct sim *sim, struct mspace *s)
{
	for (unsigned i = 0; i < SIM_MAX_SPACES; i++) {
		if (aptr_read(&sim->space[i]))
			continue;
		s->slot = i;
		s->usable = slot_range(sim, i);
		return 0;
	}
	return -ENOMEM;
}

static int op_space_create(struct machine *m, a64_t *root, void *trap_ctx, struct mspace **out,
			   struct range *usable)
{
	struct sim *sim = sim_of(m);
	struct mspace *s;
	int rc;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->sim = sim;
	s->root = root;
	s->trap_ctx = trap_ctx;
	pthread_mutex_lock(&sim->spaces_lock);
	rc = claim_slot(sim, s);
	if (!rc && sim_is_home(sim))
		rc = sim_home_init(sim, s);
	if (!rc)
		aptr_set_release(&sim->space[s->slot], s);
	pthread_mutex_unlock(&sim->spaces_lock);
	if (rc) {
		free(s);
		return rc;
	}
	a64_add(&sim->n.spaces, 1);
	*usable = s->usable;
	*out = s;
	return 0;
}

static void op_space_destroy(struct machine *m, struct mspace *s)
{
	struct sim *sim = sim_of(m);

	sim_cpu_forget_space(sim, s);
	pthread_mutex_lock(&sim->spaces_lock);
	if (sim_is_home(sim))
		sim_home_fini(sim, s);
	aptr_set_release(&sim->space[s->slot], NULL);
	pthread_mutex_unlock(&sim->spaces_lock);
	free(s);
	a64_sub(&sim->n.spaces, 1);
}

/* ---- the rest of the operations ---- */

static void op_tlb_flush(struct machine *m, struct mspace *s, const struct tlb_range *r)
{
	struct sim *sim = sim_of(m);

	BUG_ON(r->start >= r->end);
	BUG_ON(r->strength != FLUSH_NO_STORE && r->strength != FLUSH_NO_ACCESS);
	a64_add(&sim->n.flushes, 1);
	if (r->start == 0 && r->end == ~0ull)
		a64_add(&sim->n.flushes_all, 1);
	if (r->tables_freed)
		a64_add(&sim->n.flushes_tables, 1);
	if (sim_is_home(sim))
		sim_home_flush(sim, s, r);
	else
		sim_cpu_flush(sim, s, r);
}

static void op_read_begin(struct machine *m)
{
	pthread_rwlock_rdlock(&sim_of(m)->reading);
}

static void op_read_end(struct machine *m)
{
	pthread_rwlock_unlock(&sim_of(m)->reading);
}

static u64 op_random(struct machine *m)
{
	return sim_random(sim_of(m));
}

static unsigned op_nr_cpus(struct machine *m)
{
	return sim_of(m)->cfg.nr_cpus;
}

static void op_destroy(struct machine *m)
{
	struct sim *sim = sim_of(m);

	BUG_ON(a64_read(&sim->n.spaces));
	sim_cpus_destroy(sim);
	sim_unreserve(sim->frames, sim->cfg.span_frames << PAGE_SHIFT);
	free(sim->zero_page);
	free(sim);
}

static const struct machine_ops sim_ops = {
	.name = "sim",
	.frame_window = sim_frame_window,
	.fill_begin = sim_fill_begin,
	.fill_end = sim_fill_end,
	.read_begin = op_read_begin,
	.read_end = op_read_end,
	.frames_release = sim_frames_release,
	.frames_move = sim_frames_move,
	.frames_park = sim_frames_park,
	.frames_to_node = sim_frames_to_node,
	.entries_changed = sim_entries_changed,
	.tlb_flush = op_tlb_flush,
	.sync_lockless_walkers = sim_sync_lockless_walkers,
	.space_create = op_space_create,
	.space_destroy = op_space_destroy,
	.area_map = sim_area_map,
	.area_protect = sim_area_protect,
	.area_unmap = sim_area_unmap,
	.now_ns = sim_now_ns,
	.random = op_random,
	.nr_cpus = op_nr_cpus,
	.sleep_ns = sim_sleep_ns,
	.thread_start = sim_thread_start,
	.thread_join = sim_thread_join,
	.mem_map = sim_mem_map,
	.mem_unmap = sim_mem_unmap,
	.mem_discard = sim_mem_discard,
	.file_open = sim_file_open,
	.file_close = sim_file_close,
	.file_read = sim_file_read,
	.file_write = sim_file_write,
	.file_punch = sim_file_punch,
	.file_attach = sim_file_attach,
	.file_resize = sim_file_resize,
	.file_zero = sim_file_zero,
	.file_sync = sim_file_sync,
	.destroy = op_destroy,
};

static int complete(struct sim_config *c)
{
	u64 tlb = SIM_WAYS;

	c->nr_cpus = c->nr_cpus ? c->nr_cpus : 4;
	c->tlb_entries = c->tlb_entries ? c->tlb_entries : 64;
	c->slot_bytes = c->slot_bytes ? c->slot_bytes : SLOT_DEFAULT;
	if (c->nr_cpus > MAX_CPUS || c->tlb_entries > 65536)
		return -EINVAL;
	while (tlb < c->tlb_entries)
		tlb *= 2;
	c->tlb_entries = (u32)tlb;
	if (!IS_ALIGNED(c->slot_bytes, 2 * PMD_SIZE) || c->slot_bytes > BIT(SIM_SLOT_SHIFT))
		return -EINVAL;
	if ((c->caps & (CAP_AREA_PROTECT | CAP_PARK)) && !(c->caps & CAP_HOME))
		return -EINVAL;
	if (c->span_frames < c->ram_frames && !(c->caps & CAP_HOME))
		c->span_frames = c->ram_frames;
	c->span_frames = ALIGN_UP(c->span_frames, (u64)PTRS_PER_TABLE);
	/* Plain frame numbers must not be addresses of a space at the same time. */
	return c->span_frames > BIT(SIM_SLOT_SHIFT - 1 - PAGE_SHIFT) ? -EINVAL : 0;
}

int sim_create(const struct sim_config *cfg, struct machine **out)
{
	struct sim *sim = aligned_alloc(64, ALIGN_UP(sizeof(*sim), 64ul));

	if (!sim)
		return -ENOMEM;
	memset(sim, 0, sizeof(*sim));
	sim->cfg = *cfg;
	if (complete(&sim->cfg)) {
		free(sim);
		return -EINVAL;
	}
	sim->m.ops = &sim_ops;
	sim->m.caps = sim->cfg.caps;
	sim->m.inject = sim->cfg.inject;
	sim->tlb_sets = sim->cfg.tlb_entries / SIM_WAYS;
	a64_init(&sim->chance, sim_mix(sim->cfg.seed));
	pthread_mutex_init(&sim->spaces_lock, NULL);
	pthread_rwlock_init(&sim->reading, NULL);
	for (u32 i = 0; i < SIM_SHARDS; i++)
		pthread_mutex_init(&sim->shard[i], NULL);
	sim->zero_page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	if (sim->cfg.span_frames)
		sim->frames = sim_reserve(sim->cfg.span_frames << PAGE_SHIFT);
	if (!sim->zero_page || (sim->cfg.span_frames && !sim->frames) || sim_cpus_create(sim)) {
		op_destroy(&sim->m);
		return -ENOMEM;
	}
	memset(sim->zero_page, 0, PAGE_SIZE);
	*out = &sim->m;
	return 0;
}
