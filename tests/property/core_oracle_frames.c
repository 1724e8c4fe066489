/* core_oracle_frames.c - nodes are compacted, and blocks of frames go out of service and come back,
 * under everything that goes on; nobody sees a difference. */
#include "core_oracle_internal.h"
#include "migrate/compact.h"
#include "migrate/offline.h"

static unsigned some_node(struct worker *w)
{
	return (unsigned)rnd(w, phys_nr_nodes(w->run->q));
}

void frames_compact(struct worker *w)
{
	unsigned order = chance(w, 50) ? COMPACT_WHOLE : 1 + (unsigned)rnd(w, MAX_FOLIO_ORDER);
	struct compact_result r;
	int rc = compact_node(w->run->q, some_node(w), order, &r);

	if (w->run->cfg.home) {
		if (rc != -EINVAL)
			oracle_wrong(w, "compaction of home frames gives %d", rc);
		return;
	}
	if (rc && rc != -ENOMEM)
		oracle_wrong(w, "compaction gives %d", rc);
	if (r.got != r.used + r.put_back)
		oracle_wrong(w, "%llu destinations got, %llu used, %llu put back",
			     (unsigned long long)r.got, (unsigned long long)r.used,
			     (unsigned long long)r.put_back);
	if (r.free_taken - r.free_returned != r.migrate.moved)
		oracle_wrong(w, "%llu frames taken, %llu returned, %llu pages moved",
			     (unsigned long long)r.free_taken, (unsigned long long)r.free_returned,
			     (unsigned long long)r.migrate.moved);
	a64_add(&w->run->compacted, r.migrate.moved);
}

/* Something of the range is used. Only a hint while others run, but never of frames that are out of
 * service. */
struct used {
	struct quire *q;
	u64 first, last, pages;
};

static void count_used(void *ctx, struct folio *f)
{
	struct used *u = ctx;
	u64 pfn = folio_pfn(u->q, f);

	u->pages += pfn >= u->first && pfn < u->last;
}

static void expect_unused(struct worker *w)
{
	struct used u = { w->run->q, w->out, w->out + w->nr_out, 0 };

	phys_for_each_folio(u.q, count_used, &u);
	if (u.pages)
		oracle_wrong(w, "%llu pages lie in frames that are out of service",
			     (unsigned long long)u.pages);
}

/* A block or two that the lists have had, or the next ones; kept out until the next time. */
void frames_offline(struct worker *w)
{
	struct quire *q = w->run->q;
	unsigned node = some_node(w);
	struct range grown = phys_grown(q, node), span = phys_span(q, node);
	u64 nr = (1 + rnd(w, 2)) * PHYS_BLOCK_FRAMES, pfn;
	int rc;

	if (w->nr_out) {
		expect_unused(w);
		rc = node_online_range(q, w->out, w->nr_out);
		if (rc)
			oracle_wrong(w, "online gives %d", rc);
		w->nr_out = 0;
		return;
	}
	/* The last one may reach into the next node, which is refused. */
	pfn = grown.start + rnd(w, range_size(grown) / PHYS_BLOCK_FRAMES + 2) * PHYS_BLOCK_FRAMES;
	if (!w->run->cfg.home)
		pfn = min(pfn, span.end - PHYS_BLOCK_FRAMES);
	rc = node_offline_range(q, pfn, nr, NULL, NULL);
	if (w->run->cfg.home || pfn + nr > span.end) {
		if (rc != -EINVAL)
			oracle_wrong(w, "offline of frames that are not there gives %d", rc);
		return;
	}
	if (rc && rc != -EBUSY && rc != -ENOMEM)
		oracle_wrong(w, "offline gives %d", rc);
	if (rc)
		return;
	w->out = pfn;
	w->nr_out = nr;
	expect_unused(w);
	a64_add(&w->run->offlined, 1);
}

void frames_online_all(struct worker *w)
{
	if (w->nr_out)
		frames_offline(w);
}
