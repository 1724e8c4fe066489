/* tlb.c - flushes and the batch of them. */
#include "base/trace.h"
#include "tlb/tlb.h"

void tlb_space_init(struct quire *q, struct tlb_space *ts, struct mspace *ms)
{
	/* Where flushes are made under the lock, one that is widened throws bytes away. */
	DEBUG_ON(machine_has(q->machine, CAP_FLUSH_UNDER_LOCK) &&
		 !machine_has(q->machine, CAP_RANGE_FLUSH));
	ts->q = q;
	ts->ms = ms;
	a64_init(&ts->flushes, 0);
}

/*
 * The hook for devices that translate through the same tables: their TLBs are invalidated here and
 * nowhere else, in every flush, exactly once, after the CPUs' and before the caller may free
 * anything. A CPU's store that came through an old translation has ended by then, so a device that
 * refills afterwards finds the entries as the caller left them. Must not sleep: entry locks may be
 * held. No device can be attached yet; the notifier folder registers here.
 */
static void invalidate_devices(struct tlb_space *ts, const struct tlb_range *r)
{
	(void)ts;
	(void)r;
}

void tlb_flush_range(struct tlb_space *ts, struct tlb_range r)
{
	struct machine *m = ts->q->machine;
	bool all = r.start == 0 && r.end == TLB_ALL_END;
	struct tlb_range cpu = r;

	if (r.start >= r.end)
		return;
	if (!machine_has(m, CAP_RANGE_FLUSH)) {
		cpu.start = 0;
		cpu.end = TLB_ALL_END;
	}
	m->ops->tlb_flush(m, ts->ms, &cpu);
	invalidate_devices(ts, &r);
	a64_add(&ts->flushes, 1);
	stat_inc(ts->q, STAT_TLB_FLUSH);
	/* How many pages a whole space is nobody can say. */
	if (!all)
		stat_add(ts->q, STAT_TLB_FLUSH_PAGES, (r.end - r.start) >> PAGE_SHIFT);
	TRACE(ts->q, EV_FLUSH, r.start, r.end, r.strength);
}

bool tlb_flush_under_lock(struct tlb_space *ts, u64 start, u64 end, enum flush_strength s)
{
	struct tlb_range r = { .start = start, .end = end, .strength = s };

	if (!machine_has(ts->q->machine, CAP_FLUSH_UNDER_LOCK))
		return false;
	r.pmd_level = end - start >= PMD_SIZE;
	tlb_flush_range(ts, r);
	return true;
}

void tlb_batch_init(struct tlb_batch *b)
{
	b->n = 0;
}

bool tlb_batch_pending(const struct tlb_batch *b)
{
	return b->n;
}

void tlb_batch_flush(struct tlb_batch *b)
{
	for (u32 i = 0; i < b->n; i++)
		tlb_flush_range(b->pend[i].ts, b->pend[i].r);
	b->n = 0;
}

static void range_unite(struct tlb_range *to, const struct tlb_range *r)
{
	to->start = min(to->start, r->start);
	to->end = max(to->end, r->end);
	to->strength = max(to->strength, r->strength);
	to->pmd_level |= r->pmd_level;
	to->tables_freed |= r->tables_freed;
}

/* Bytes that a flush of both at once would cover needlessly: 0 when they touch or overlap. */
static u64 range_distance(const struct tlb_range *a, const struct tlb_range *b)
{
	if (a->end < b->start)
		return b->start - a->end;
	if (b->end < a->start)
		return a->start - b->end;
	return 0;
}

/* The entry of the same space that lies nearest, or -1. */
static int nearest(const struct tlb_batch *b, const struct tlb_space *ts, const struct tlb_range *r,
		   u64 limit)
{
	int best = -1;

	for (u32 i = 0; i < b->n; i++) {
		u64 d = range_distance(&b->pend[i].r, r);

		if (b->pend[i].ts == ts && d <= limit) {
			best = (int)i;
			limit = d;
			if (d == 0)
				break;
		}
	}
	return best;
}

void tlb_batch_add(struct tlb_batch *b, struct tlb_space *ts, u64 start, u64 end,
		   enum flush_strength s)
{
	struct tlb_range r = {
		.start = start,
		.end = end,
		.strength = s,
		/* Some of it may have been mapped by leaves of the upper level. */
		.pmd_level = end - start >= PMD_SIZE,
	};
	bool full = b->n == TLB_BATCH_RANGES;
	int i;

	if (start >= end || tlb_flush_under_lock(ts, start, end, s))
		return;
	/* A machine that knows no ranges needs one flush a space; others one a run, until there is
	 * no place. */
	full |= !machine_has(ts->q->machine, CAP_RANGE_FLUSH);
	i = nearest(b, ts, &r, full ? ~0ull : 0);
	if (i >= 0) {
		range_unite(&b->pend[i].r, &r);
		return;
	}
	if (b->n == TLB_BATCH_RANGES)
		tlb_batch_flush(b); /* early is always right */
	b->pend[b->n].ts = ts;
	b->pend[b->n].r = r;
	b->n++;
}
