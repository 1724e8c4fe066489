/* Making and ending a host machine. */
#include "machine/host/host_internal.h"

#include "base_backend.h"

#include <string.h>
#include <sys/mman.h>

/* Host mappings left to the rest of the process. */
#define MAPPINGS_REST 2048u

static void host_sync_lockless_walkers(struct machine *m)
{
	(void)m;
	base_rcu_synchronize();
}

static void host_destroy(struct machine *m)
{
	struct host *h = host_of(m);
	struct mspace *s;

	while ((s = aptr_read(&h->spaces)))
		host_space_destroy(m, s);
	native_syscall(SYS_close, (long)h->fd);
	plain_fini(h);
	slots_fini(h);
	if (h->stage)
		stage_fini(h);
	if (h->zeroes)
		sys_unmap((void *)(uintptr_t)h->zeroes, ZERO_PAGES << PAGE_SHIFT);
	if (h->region)
		sys_unmap(h->region, REGION_SLOTS * sizeof(aptr_t));
	sys_unmap(h, ALIGN_UP(sizeof(*h), PAGE_SIZE));
}

static const struct machine_ops host_ops = {
	.name = "host",
	.frame_window = host_frame_window,
	.fill_begin = host_fill_begin,
	.fill_end = host_fill_end,
	.read_begin = host_read_begin,
	.read_end = host_read_end,
	.frames_release = host_frames_release,
	.frames_move = host_frames_move,
	.frames_copy = host_frames_copy,
	.frames_park = host_frames_park,
	.frames_to_node = host_frames_to_node,
	.prefer_node = host_prefer_node,
	.entries_changed = host_entries_changed,
	.tlb_flush = host_tlb_flush,
	.sync_lockless_walkers = host_sync_lockless_walkers,
	.space_create = host_space_create,
	.space_destroy = host_space_destroy,
	.area_map = host_area_map,
	.area_protect = host_area_protect,
	.area_reset = host_area_reset,
	.area_unmap = host_area_unmap,
	.now_ns = host_now_ns,
	.random = host_random,
	.nr_cpus = host_nr_cpus,
	.sleep_ns = host_sleep_ns,
	.thread_start = host_thread_start,
	.thread_join = host_thread_join,
	.mem_map = host_mem_map,
	.mem_unmap = host_mem_unmap,
	.mem_discard = host_mem_discard,
	.file_open = host_file_open,
	.file_close = host_file_close,
	.file_read = host_file_read,
	.file_write = host_file_write,
	.file_punch = host_file_punch,
	.file_attach = host_file_attach,
	.file_resize = host_file_resize,
	.file_zero = host_file_zero,
	.file_sync = host_file_sync,
	.destroy = host_destroy,
};

static int fail(char *msg, size_t size, int err, const char *text)
{
	if (msg && size) {
		size_t n = min(strlen(text), size - 1);

		memcpy(msg, text, n);
		msg[n] = 0;
	}
	return err;
}

/* Reads of it hit one page of memory: the kernel's zero page, at many addresses. */
static const char *map_zeroes(void)
{
	u64 size = ZERO_PAGES << PAGE_SHIFT;
	long at = native_syscall(SYS_mmap, 0l, size, (long)PROT_READ,
				 (long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE), -1l, 0l);

	if (at < 0)
		return NULL;
	sys_madvise((u64)at, size, MADV_NOHUGEPAGE);
	/* Before 5.14: the first uses populate it, a little slower. */
	sys_madvise((u64)at, size, HOST_MADV_POPULATE_READ);
	return (const char *)at;
}

static u32 mapping_limit(const struct host_config *cfg, u64 max_map_count)
{
	u64 rest = min((u64)MAPPINGS_REST, max_map_count / 4);

	if (cfg->max_mappings)
		return cfg->max_mappings;
	return (u32)min(max_map_count - rest, (u64)1 << 24);
}

static void read_system(struct host *h, const struct host_config *cfg)
{
	char clock[32] = "";

	sys_clocksource(clock, sizeof(clock));
	h->max_mappings = mapping_limit(cfg, sys_max_mappings());
	h->nr_cpus = sys_nr_cpus();
	h->vdso_clock = !strcmp(clock, "tsc") || !strcmp(clock, "kvm-clock") ||
			!strncmp(clock, "hyperv", 6);
	/* Limits of descriptors below the floor are met by host_raise_fd. */
	h->fd_floor = cfg->fd_floor ? cfg->fd_floor : HOST_FD_FLOOR;
	h->region_bytes = cfg->region_bytes ? cfg->region_bytes : HOST_REGION_DEFAULT;
	h->region_min_bytes = cfg->region_min_bytes ? cfg->region_min_bytes : HOST_REGION_MIN;
	h->region_min_bytes = min(max(h->region_min_bytes, REGION_GRANULE), h->region_bytes);
}

static int uffd_failed(int err, char *msg, size_t msg_size)
{
	if (err == -EPERM)
		return fail(msg, msg_size, err,
			    "userfaultfd is not permitted here (a container's or kernel's policy)");
	if (err == -ENOSYS)
		return fail(
			msg, msg_size, err,
			"this kernel has no userfaultfd with SIGBUS and write protection (5.7)");
	return fail(msg, msg_size, err, "userfaultfd cannot be opened");
}

/* Several nodes: pages that can be parked, if the kernel moves pages. */
static const char *init_nodes(struct host *h, const struct host_config *cfg, int *err)
{
	const char *wrong = nodes_init(h, cfg, err);

	if (wrong)
		return wrong;
	h->ops = host_ops;
	h->m.ops = &h->ops;
	*err = h->m.nr_nodes > 1 && h->has_move ? slots_init(h) : 0;
	if (*err)
		return "no memory for the pools of memory nodes";
	if (h->slots)
		h->m.caps |= CAP_PARK;
	else
		h->ops.frames_park = NULL, h->ops.frames_to_node = NULL;
	if (h->m.nr_nodes == 1 || !h->has_physical)
		h->ops.prefer_node = NULL;
	return NULL;
}

int machine_host_create(const struct host_config *cfg, struct machine **out, char *msg,
			size_t msg_size)
{
	static const struct host_config defaults;
	const char *wrong;
	struct host *h;
	u64 offered = 0;
	int err;

	cfg = cfg ? cfg : &defaults;
	if (cfg->syscall)
		native_syscall = cfg->syscall;
	if (cfg->region_bytes &&
	    (cfg->region_bytes < REGION_GRANULE || cfg->region_bytes > BIT(46) ||
	     (cfg->region_bytes & (cfg->region_bytes - 1))))
		return fail(msg, msg_size, -EINVAL,
			    "the region size must be a power of two from 1 GiB to 64 TiB");
	h = sys_map(ALIGN_UP(sizeof(*h), PAGE_SIZE));
	if (!h)
		return fail(msg, msg_size, -ENOMEM, "no memory for the host machine");
	read_system(h, cfg);
	h->fd = uffd_open(0, &offered, h->fd_floor);
	if (h->fd < 0) {
		err = h->fd;
		sys_unmap(h, ALIGN_UP(sizeof(*h), PAGE_SIZE));
		return uffd_failed(err, msg, msg_size);
	}
	h->features = uffd_features_used(offered);
	h->has_move = (offered & UFFD_FEATURE_MOVE) && !cfg->no_move;
	h->m.ops = &host_ops;
	h->m.caps = CAP_HOME | CAP_FLUSH_UNDER_LOCK | CAP_RANGE_FLUSH | CAP_AREA_PROTECT;
	mutex_init(&h->lock, LOCK_MACHINE);
	h->region = sys_map(REGION_SLOTS * sizeof(aptr_t));
	h->zeroes = map_zeroes();
	if (!h->region || !h->zeroes || stage_init(h)) {
		host_destroy(&h->m);
		return fail(msg, msg_size, -ENOMEM, "no memory for the host machine");
	}
	wrong = init_nodes(h, cfg, &err);
	if (wrong) {
		host_destroy(&h->m);
		return fail(msg, msg_size, err, wrong);
	}
	if (!cfg->no_plain)
		plain_init(h, offered, cfg);
	h->has_vector = !cfg->no_vector && uffd_probe_discard_many(h->stage);
	/* Not from the clock alone: a forked child and its siblings differ by getrandom. */
	if (native_syscall(SYS_getrandom, &h->rng, sizeof(h->rng), 0l) != sizeof(h->rng))
		a64_init(&h->rng, host_now_ns(&h->m));
	*out = &h->m;
	return 0;
}

void host_counters(struct machine *m, struct host_counters *out)
{
	struct host *h = host_of(m);

	*out = (struct host_counters){
		.strays = a64_read(&h->count.strays),
		.boundaries = a64_read(&h->count.boundaries),
		.core_reads_fixed = a64_read(&h->count.core_reads_fixed),
		.mappings_refused = a64_read(&h->count.mappings_refused),
		.move_copies = a64_read(&h->count.move_copies),
		.pages_placed = a64_read(&h->count.pages_placed),
		.places_refused = a64_read(&h->count.places_refused),
		.pool_pages = slots_full(h),
	};
	mutex_lock(&h->lock);
	for (struct mspace *s = aptr_read(&h->spaces); s; s = aptr_read(&s->next))
		out->mappings += s->nr_mappings;
	mutex_unlock(&h->lock);
}
