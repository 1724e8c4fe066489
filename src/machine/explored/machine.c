/* machine.c - creation, spaces, the operations table. */
#include "machine/explored/explored_internal.h"

static int op_space_create(struct machine *m, a64_t *root, void *trap_ctx, struct mspace **out,
			   struct range *usable)
{
	struct xm *xm = xm_of(m);

	for (u32 i = 0; i < XM_SPACES; i++) {
		struct mspace *s;

		if (xm->space[i])
			continue;
		s = x_alloc(sizeof(*s), 64);
		s->xm = xm;
		s->root = root;
		s->trap_ctx = trap_ctx;
		s->number = i;
		/* Where frames are not addresses all spaces have the same, so that they can be
		 * forked. */
		s->usable.start = XM_SPACE_START * (xm_is_home(xm) ? i + 1 : 1);
		s->usable.end = s->usable.start + XM_USABLE_SIZE;
		if (xm_is_home(xm))
			xm_home_create(s);
		xm->space[i] = s;
		*usable = s->usable;
		*out = s;
		return 0;
	}
	return -ENOMEM;
}

static void op_space_destroy(struct machine *m, struct mspace *s)
{
	xm_of(m)->space[s->number] = NULL;
	x_free(s, sizeof(*s));
}

static void op_sync_lockless_walkers(struct machine *m)
{
	base_rcu_synchronize();
}

static unsigned op_nr_cpus(struct machine *m)
{
	return xm_of(m)->cfg.nr_cpus;
}

/* What is left of the machine is the run's. */
static void op_destroy(struct machine *m)
{
	struct xm *xm = xm_of(m);

	for (u32 i = 0; i < XM_SPACES; i++)
		BUG_ON(xm->space[i]);
	for (u32 h = 0; h < XM_FILES; h++)
		BUG_ON(xm->file[h].open);
}

static const struct machine_ops xm_ops = {
	.name = "explored",
	.frame_window = xm_frame_window,
	.fill_begin = xm_fill_begin,
	.fill_end = xm_fill_end,
	.read_begin = xm_read_begin,
	.read_end = xm_read_end,
	.frames_release = xm_frames_release,
	.frames_move = xm_frames_move,
	.frames_park = xm_frames_park,
	.frames_to_node = xm_frames_to_node,
	.entries_changed = xm_entries_changed,
	.tlb_flush = xm_tlb_flush,
	.sync_lockless_walkers = op_sync_lockless_walkers,
	.space_create = op_space_create,
	.space_destroy = op_space_destroy,
	.area_map = xm_area_map,
	.area_protect = xm_area_protect,
	.area_unmap = xm_area_unmap,
	.now_ns = xm_now_ns,
	.random = xm_random,
	.nr_cpus = op_nr_cpus,
	.sleep_ns = xm_sleep_ns,
	.thread_start = xm_thread_start,
	.thread_join = xm_thread_join,
	.mem_map = xm_mem_map,
	.mem_unmap = xm_mem_unmap,
	.mem_discard = xm_mem_discard,
	.file_open = xm_file_open,
	.file_close = xm_file_close,
	.file_read = xm_file_read,
	.file_write = xm_file_write,
	.file_punch = xm_file_punch,
	.file_attach = xm_file_attach,
	.file_resize = xm_file_resize,
	.file_zero = xm_file_zero,
	.file_sync = xm_file_sync,
	.destroy = op_destroy,
};

struct machine *xm_create(const struct xm_config *cfg)
{
	struct xm *xm = x_alloc(sizeof(*xm), 64);

	xm->cfg = *cfg;
	xm->m.ops = &xm_ops;
	xm->m.caps = cfg->caps;
	xm_frames_create(xm);
	xm_units_create(xm);
	return &xm->m;
}
