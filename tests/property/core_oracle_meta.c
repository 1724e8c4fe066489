/*
 * Metadata beside the bytes: what an embedder would keep for each page, here words of the page
 * itself, so that what comes back can be compared with what it belongs to. Some pages are refused:
 * they stay, and the oracle must not notice.
 */
#include <stdlib.h>

#include "core_oracle_internal.h"
#include "swap/meta.h"

#define SLOTS 131072u

struct oracle_meta {
	struct run *run;
	a64_t live, calls;
	a64_t sum[SLOTS]; /* 0: nothing is saved */
};

static void meta_wrong(struct oracle_meta *o, const char *what, u64 slot)
{
	oracle_wrong(o->run->worker[0], "metadata of slot %llu: %s", (unsigned long long)slot,
		     what);
}

/* Some words of a page that nobody stores to. */
static u64 sum_of(struct oracle_meta *o, u64 pfn)
{
	const u64 *w = o->run->m->ops->frame_window(o->run->m, pfn);
	u64 sum = 1;

	for (u32 i = 0; w && i < PAGE_SIZE / 8; i += 37)
		sum = (sum ^ w[i]) * 0x9e3779b97f4a7c15ull;
	return sum | 1;
}

static int save(void *ctx, const struct meta_page *p)
{
	struct oracle_meta *o = ctx;
	u64 n = a64_fetch_add(&o->calls, 1);

	if (p->slot >= SLOTS)
		meta_wrong(o, "no such slot", p->slot);
	else if (n % 16 == 5)
		return -ENOMEM;
	else if (!a64_xchg(&o->sum[p->slot], sum_of(o, p->pfn)))
		a64_add(&o->live, 1);
	return 0;
}

static void restore(void *ctx, const struct meta_page *p)
{
	struct oracle_meta *o = ctx;
	u64 sum = p->slot < SLOTS ? a64_read(&o->sum[p->slot]) : 0;

	if (!sum)
		meta_wrong(o, "they are not there when the page comes back", p->slot);
	/* On home frames the new bytes are not there yet. */
	else if (!o->run->cfg.home && sum != sum_of(o, p->pfn))
		meta_wrong(o, "they are of other bytes than those that come back", p->slot);
}

static void drop(void *ctx, u64 slot)
{
	struct oracle_meta *o = ctx;

	if (!a64_xchg(&o->sum[slot], 0))
		meta_wrong(o, "dropped though nothing is saved", slot);
	a64_sub(&o->live, 1);
}

static const struct meta_ops ops = { .save = save, .restore = restore, .drop = drop };

int oracle_meta_open(struct run *run)
{
	if (!run->cfg.meta)
		return 0;
	run->meta = calloc(1, sizeof(*run->meta));
	if (!run->meta)
		return -ENOMEM;
	run->meta->run = run;
	meta_register(run->q, &ops, run->meta);
	return 0;
}

void oracle_meta_close(struct run *run)
{
	if (!run->meta)
		return;
	if (a64_read(&run->meta->live))
		meta_wrong(run->meta, "some are left", a64_read(&run->meta->live));
	free(run->meta);
	run->meta = NULL;
}
