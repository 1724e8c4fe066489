/*
 * stats.c - counters and settings behind the public calls.
 */
#include <quire/quire.h>

#include "lib/lib_internal.h"

static void fill_counters(struct quire *q, struct quire_stats *o)
{
	o->faults_minor = stat_read(q, STAT_FAULT_MINOR);
	o->faults_major = stat_read(q, STAT_FAULT_MAJOR);
	o->faults_cow = stat_read(q, STAT_FAULT_COW);
	o->faults_write_protect = stat_read(q, STAT_FAULT_WP);
	o->first_touch_pages = stat_read(q, STAT_FIRST_TOUCH_PAGES);
	o->swap_out_pages = stat_read(q, STAT_SWAP_OUT_PAGES);
	o->swap_in_pages = stat_read(q, STAT_SWAP_IN_PAGES);
	o->swap_reused_pages = stat_read(q, STAT_SWAP_REUSED_PAGES);
	o->swap_same_pages = stat_read(q, STAT_SWAP_SAME_PAGES);
	o->swap_readahead_pages = stat_read(q, STAT_SWAP_READAHEAD_PAGES);
	o->swap_write_errors = stat_read(q, STAT_SWAP_WRITE_ERRORS);
	o->swap_read_errors = stat_read(q, STAT_SWAP_READ_ERRORS);
	o->migrated_pages = stat_read(q, STAT_MIGRATED);
	o->tlb_flushes = stat_read(q, STAT_TLB_FLUSH);
	o->tlb_flushed_pages = stat_read(q, STAT_TLB_FLUSH_PAGES);
	o->splits_refused = stat_read(q, STAT_SPLIT_REFUSED);
	o->over_limit_pages = stat_read(q, STAT_OVER_LIMIT);
	o->refaults = stat_read(q, STAT_REFAULT);
	o->direct_reclaims = stat_read(q, STAT_RECLAIM_DIRECT);
	o->warnings = stat_read(q, STAT_WARN);
	o->pins = stat_read(q, STAT_PIN);
	o->demoted_pages = stat_read(q, STAT_DEMOTED);
	o->promoted_pages = stat_read(q, STAT_PROMOTED);
	o->promotions_limited_pages = stat_read(q, STAT_PROMOTE_LIMITED);
	o->hint_faults = stat_read(q, STAT_HINT_FAULTS);
}

static void fill_stores(struct quire *q, struct quire_stats *o)
{
	o->swap_used_pages = swap_used_slots(q);
	for (unsigned i = 0; i < swap_nr_stores(q); i++) {
		struct store_stats s;

		swap_store_stats(q, i, &s);
		o->swap_stored_bytes += s.stored_bytes;
		o->swap_pool_bytes += s.pool_bytes;
	}
}

int quire_stats_get(quire_t *qt, struct quire_stats *out)
{
	struct api_instance *a = api_of(qt);
	struct quire *q = a->q;
	struct quire_stats o = { .size = sizeof(o) };
	u64 limit;

	if (!out || out->size < sizeof(o))
		return -EINVAL;
	gate_enter(&q->gate);
	limit = cgroup_limit(q, CGROUP_ROOT);
	o.ram_limit_bytes = limit == ~0ull ? 0 : limit << PAGE_SHIFT;
	o.resident_bytes = cgroup_usage(q, CGROUP_ROOT) << PAGE_SHIFT;
	o.resident_peak_bytes = cgroup_peak(q, CGROUP_ROOT) << PAGE_SHIFT;
	mutex_lock(&a->lock);
	for (u32 i = 0; i < API_MAX_SPACES; i++) {
		struct api_space *as = aptr_read(&a->space[i]);

		if (!as)
			continue;
		o.managed_bytes += space_mapped_pages(as->s) << PAGE_SHIFT;
		o.managed_peak_bytes += as->s->fs.vmas.peak_pages << PAGE_SHIFT;
	}
	mutex_unlock(&a->lock);
	o.metadata_bytes = core_metadata_bytes(q);
	fill_counters(q, &o);
	fill_stores(q, &o);
	gate_exit(&q->gate);
	*out = o;
	return 0;
}

int quire_store_get(quire_t *qt, unsigned index, struct quire_store_info *out)
{
	struct quire *q = api_of(qt)->q;
	struct store_stats s;
	size_t n;

	if (!out || index >= swap_nr_stores(q))
		return -ENOENT;
	swap_store_stats(q, index, &s);
	*out = (struct quire_store_info){
		.pages = s.pages,
		.stored_bytes = s.stored_bytes,
		.pool_bytes = s.pool_bytes,
		.cap_bytes = s.cap_bytes,
		.writes = s.writes,
		.reads = s.reads,
		.full = s.full,
		.errors = s.errors,
	};
	n = min(__builtin_strlen(s.name), sizeof(out->name) - 1);
	__builtin_memcpy(out->name, s.name, n);
	return 0;
}

int quire_set_ram(quire_t *qt, uint64_t bytes)
{
	struct quire *q = api_of(qt)->q;
	u64 pages = bytes ? max(bytes >> PAGE_SHIFT, (u64)1) : ~0ull;
	int err = 0;

	gate_enter(&q->gate);
	cgroup_set_limit(q, CGROUP_ROOT, pages);
	while (cgroup_usage(q, CGROUP_ROOT) > pages && !err)
		if (!reclaim_pages(q, CGROUP_ROOT, cgroup_usage(q, CGROUP_ROOT) - pages))
			err = -EBUSY;
	gate_exit(&q->gate);
	return err;
}
