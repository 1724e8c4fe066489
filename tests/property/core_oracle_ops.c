/* The operations on areas, with what the oracle expects of each. */
#include <string.h>

#include "core_oracle_internal.h"
#include "reclaim/tier.h"

#define REMAP_MAYMOVE   1u
#define REMAP_FIXED     2u
#define REMAP_DONTUNMAP 4u
#define RETRIES         20000

static u8 some_prot(struct worker *w)
{
	static const u8 prot[] = { 0, 1, 2, 3, 3, 3, 3, 3, 3, 5, 7, 7 };

	return prot[rnd(w, sizeof(prot))];
}

static struct span some_span(struct worker *w, u32 longest)
{
	struct span p;

	p.s = &w->slice[rnd(w, NR_SLICES)];
	p.first = (u32)rnd(w, SLICE_PAGES);
	p.n = 1 + (u32)rnd(w, min(longest, SLICE_PAGES - p.first));
	return p;
}

static struct page *page_of(struct span p, u32 i)
{
	return &p.s->page[p.first + i];
}

void page_zero(struct slice *s, u32 page)
{
	memset(shadow(s, page), 0, PAGE_SIZE);
	s->page[page].maybe_zero = false;
}

/* Pins on pages that lose their contents: mostly left alone. */
static bool spared(struct worker *w, struct span p)
{
	return data_pinned(p) && !chance(w, 15);
}

static void span_unmapped(struct worker *w, struct span p)
{
	data_pins_stale(w, p);
	for (u32 i = 0; i < p.n; i++) {
		u8 pins = page_of(p, i)->pins;

		*page_of(p, i) = (struct page){ .pins = pins };
		page_zero(p.s, p.first + i);
	}
}

static void span_mapped(struct worker *w, struct span p, u8 prot)
{
	span_unmapped(w, p);
	for (u32 i = 0; i < p.n; i++) {
		page_of(p, i)->mapped = true;
		page_of(p, i)->prot = prot;
	}
}

static bool any_mapped(struct span p)
{
	for (u32 i = 0; i < p.n; i++)
		if (page_of(p, i)->mapped)
			return true;
	return false;
}

static bool all_mapped(struct span p)
{
	for (u32 i = 0; i < p.n; i++)
		if (!page_of(p, i)->mapped)
			return false;
	return true;
}

static void do_map(struct worker *w)
{
	struct span p = some_span(w, chance(w, 20) ? SLICE_PAGES : 24);
	u32 flags = chance(w, 25) ? MAP_F_NOREPLACE : MAP_F_FIXED;
	u8 prot = some_prot(w);
	int want = 0;
	u64 out = 0;
	int rc;

	if (spared(w, p))
		return;
	if (flags == MAP_F_NOREPLACE && any_mapped(p))
		want = -EEXIST;
	flags |= chance(w, 20) ? MAP_F_POPULATE : 0;
	rc = space_map(w->run->q, w->run->s, span_va(p), span_size(p), prot, flags, &out);
	if (!oracle_expect(w, rc, want, p)) {
		/* A fixed mapping may have taken away what it was to replace. */
		if (flags & MAP_F_FIXED)
			span_resync(w, p);
		return;
	}
	if (!rc && out != span_va(p))
		oracle_wrong(w, "a fixed mapping came to %llx", (unsigned long long)out);
	if (!rc)
		span_mapped(w, p, prot);
}

static void do_unmap(struct worker *w)
{
	struct span p = some_span(w, 16);
	int rc;

	if (spared(w, p))
		return;
	rc = space_unmap(w->run->q, w->run->s, span_va(p), span_size(p));
	if (oracle_expect(w, rc, 0, p))
		span_unmapped(w, p);
	else
		span_resync(w, p);
}

static void do_protect(struct worker *w)
{
	struct span p = some_span(w, 32);
	u8 prot = some_prot(w);
	u32 covered = 0;
	int rc;

	while (covered < p.n && page_of(p, covered)->mapped)
		covered++;
	rc = space_protect(w->run->q, w->run->s, span_va(p), span_size(p), prot);
	if (!oracle_expect(w, rc, covered == p.n ? 0 : -ENOMEM, p)) {
		span_resync(w, p);
		return;
	}
	/* What lies before a hole is changed; a refusal that looks like the hole's may have come
	 * sooner. */
	if (rc && w->run->injecting)
		span_resync(w, p);
	else
		for (u32 i = 0; i < covered; i++)
			page_of(p, i)->prot = prot;
}

/* ---- advice ---- */

/* As the walk over areas does it: holes are skipped and told at the end, a locked area ends it. */
static int advise_expect(struct span p, bool locked_refused, u32 *reached)
{
	int hole = 0;

	for (u32 i = 0; i < p.n; i++) {
		*reached = i;
		if (!page_of(p, i)->mapped)
			hole = -ENOMEM;
		else if (page_of(p, i)->locked && locked_refused)
			return -EINVAL;
	}
	*reached = p.n;
	return hole;
}

static void do_dontneed(struct worker *w)
{
	struct span p = some_span(w, 24);
	u32 reached;
	int rc, want;

	if (spared(w, p))
		return;
	want = advise_expect(p, true, &reached);
	rc = space_advise(w->run->q, w->run->s, span_va(p), span_size(p), ADVISE_DONTNEED);
	if (!oracle_expect(w, rc, want, p))
		reached = p.n; /* unknown how far it came */
	for (u32 i = 0; i < reached; i++) {
		struct span one = { p.s, p.first + i, 1 };

		if (!page_of(p, i)->mapped)
			continue;
		data_pins_stale(w, one);
		if (rc == want)
			page_zero(p.s, p.first + i);
		else
			page_of(p, i)->maybe_zero = true;
	}
}

static void do_free(struct worker *w)
{
	struct span p = some_span(w, 24);
	u32 reached;
	int want = advise_expect(p, true, &reached);
	int rc = space_advise(w->run->q, w->run->s, span_va(p), span_size(p), ADVISE_FREE);

	oracle_expect(w, rc, want, p);
	for (u32 i = 0; i < p.n; i++)
		if (page_of(p, i)->mapped && (i < reached || rc != want))
			page_of(p, i)->maybe_zero = true;
}

/* Advice that changes no contents. */
static void do_advise(struct worker *w)
{
	static const int advice[] = {
		ADVISE_PAGEOUT,  ADVISE_PAGEOUT,    ADVISE_COLD,   ADVISE_WILLNEED,
		ADVISE_WILLNEED, ADVISE_NORMAL,     ADVISE_RANDOM, ADVISE_SEQUENTIAL,
		ADVISE_HUGEPAGE, ADVISE_NOHUGEPAGE,
	};
	struct span p = some_span(w, 48);
	int a = advice[rnd(w, ARRAY_SIZE(advice))];
	u32 reached;
	int want = advise_expect(p, a == ADVISE_PAGEOUT || a == ADVISE_COLD, &reached);

	oracle_expect(w, space_advise(w->run->q, w->run->s, span_va(p), span_size(p), a), want, p);
}

static void do_populate(struct worker *w)
{
	struct span p = some_span(w, 12);
	bool write = chance(w, 50);
	int want = all_mapped(p) ? 0 : -ENOMEM;

	for (u32 i = 0; i < p.n && !want; i++)
		if (page_access(page_of(p, i), write))
			want = -EINVAL;
	oracle_expect(w,
		      space_advise(w->run->q, w->run->s, span_va(p), span_size(p),
				   write ? ADVISE_POPULATE_WRITE : ADVISE_POPULATE_READ),
		      want, p);
}

static void do_bad_arguments(struct worker *w)
{
	struct quire *q = w->run->q;
	struct space *s = w->run->s;
	struct span p = some_span(w, 8);
	u64 va = span_va(p), out;

	if (space_unmap(q, s, va + 1, PAGE_SIZE) != -EINVAL ||
	    space_map(q, s, va, 0, 3, MAP_F_FIXED, &out) != -EINVAL ||
	    space_advise(q, s, va, PAGE_SIZE, 77) != -EINVAL ||
	    space_remap(q, s, va, PAGE_SIZE, PAGE_SIZE, 64, 0, &out) != -EINVAL ||
	    space_remap(q, s, va, PAGE_SIZE, 0, REMAP_MAYMOVE, 0, &out) != -EINVAL ||
	    space_remap(q, s, va, 2 * PAGE_SIZE, PAGE_SIZE, REMAP_MAYMOVE | REMAP_FIXED, va,
			&out) != -EINVAL)
		oracle_wrong(w, "bad arguments were not refused");
}

/* ---- locks ---- */

/* Every page of it may be accessed somehow: else mlock says ENOMEM, and locks the area all the
 * same. */
static bool all_accessible(struct span p)
{
	for (u32 i = 0; i < p.n; i++)
		if (!page_of(p, i)->prot)
			return false;
	return true;
}

static void do_mlock(struct worker *w)
{
	struct span p = some_span(w, 6);
	bool onfault = chance(w, 30), all = all_mapped(p);
	unsigned char vec[8];
	int rc = space_mlock(w->run->q, w->run->s, span_va(p), span_size(p), onfault);

	oracle_expect(w, rc, all && (onfault || all_accessible(p)) ? 0 : -ENOMEM, p);
	span_resync_locks(w, p);
	if (rc || onfault || space_mincore(w->run->q, w->run->s, span_va(p), span_size(p), vec))
		return;
	for (u32 i = 0; i < p.n; i++)
		if (!(vec[i] & 1) && page_of(p, i)->prot)
			oracle_wrong(w, "%llx is locked but not resident",
				     (unsigned long long)span_va(p) + i * PAGE_SIZE);
}

static void do_munlock(struct worker *w)
{
	struct span p = some_span(w, SLICE_PAGES);
	int want = 0, rc;

	/* As a rule all of a slice, or the locks add up to the limit. */
	if (chance(w, 80)) {
		p.first = 0;
		p.n = SLICE_PAGES;
	}
	if (!all_mapped(p))
		want = -ENOMEM;
	rc = space_munlock(w->run->q, w->run->s, span_va(p), span_size(p));
	oracle_expect(w, rc, want, p);
	for (u32 i = 0; i < p.n && want; i++) {
		struct span one = { p.s, p.first + i, 1 };

		if (page_of(one, 0)->locked)
			oracle_expect(w,
				      space_munlock(w->run->q, w->run->s, span_va(one), PAGE_SIZE),
				      0, one);
	}
	span_resync_locks(w, p);
}

static void do_mincore(struct worker *w)
{
	struct span p = some_span(w, 32);
	unsigned char vec[32];
	int rc;

	memset(vec, 0xee, sizeof(vec));
	rc = space_mincore(w->run->q, w->run->s, span_va(p), span_size(p), vec);
	if (!oracle_expect(w, rc, all_mapped(p) ? 0 : -ENOMEM, p) || rc)
		return;
	for (u32 i = 0; i < p.n; i++)
		if (vec[i] > 1)
			oracle_wrong(w, "mincore left out a page");
}

/* ---- remap ---- */

/* n pages' contents move; what stays behind is what an emptied or an unmapped page is. */
static void pages_move(struct worker *w, struct span from, struct span to, u8 prot, bool keep)
{
	struct page old[SLICE_PAGES];
	u32 n = min(from.n, to.n);

	memcpy(old, &from.s->page[from.first], from.n * sizeof(old[0]));
	data_pins_stale(w, from);
	span_mapped(w, to, prot);
	for (u32 i = 0; i < n; i++) {
		memcpy(shadow(to.s, to.first + i), shadow(from.s, from.first + i), PAGE_SIZE);
		page_of(to, i)->maybe_zero = old[i].maybe_zero;
	}
	if (keep)
		span_mapped(w, from, prot);
	else
		span_unmapped(w, from);
	span_resync_locks(w, to);
	if (keep)
		span_resync_locks(w, from);
}

static bool spans_overlap(struct span a, struct span b)
{
	return a.s == b.s && a.first < b.first + b.n && b.first < a.first + a.n;
}

/* To a place of our own: as large, larger, smaller, or leaving the old area in place. */
static void do_move(struct worker *w)
{
	struct span from = some_span(w, 20), to = some_span(w, 20);
	u32 flags = REMAP_MAYMOVE | REMAP_FIXED;
	u64 out = 0;
	int want, rc;

	/* A pinned home frame cannot leave its address, nor can another come there. */
	if (spared(w, to) || data_pinned(from) || (w->run->cfg.home && data_pinned(to)))
		return;
	if (chance(w, 20)) {
		flags |= REMAP_DONTUNMAP;
		to.n = from.n;
		if (to.first + to.n > SLICE_PAGES)
			return;
	}
	if (spans_overlap(from, to))
		want = -EINVAL;
	else
		want = span_in_one_area(w, from) ? 0 : -EFAULT;
	rc = space_remap(w->run->q, w->run->s, span_va(from), span_size(from), span_size(to), flags,
			 span_va(to), &out);
	if (!oracle_expect(w, rc, want, from)) {
		span_resync(w, to);
		span_resync_locks(w, from);
		return;
	}
	if (rc)
		return;
	if (out != span_va(to))
		oracle_wrong(w, "a fixed move went to %llx", (unsigned long long)out);
	pages_move(w, from, to, page_of(from, 0)->prot, flags & REMAP_DONTUNMAP);
}

static void do_shrink_or_grow(struct worker *w)
{
	struct span p = some_span(w, 20);
	struct span whole = p, rest = p;
	u64 out = 0;
	int want, rc;

	whole.n = 1 + (u32)rnd(w, min(40u, SLICE_PAGES - p.first));
	if (whole.n == p.n)
		return;
	rest.first = p.first + min(p.n, whole.n);
	rest.n = p.first + max(p.n, whole.n) - rest.first;
	if (whole.n < p.n && spared(w, rest))
		return;
	want = span_in_one_area(w, p) ? 0 : -EFAULT;
	if (!want && whole.n > p.n && any_mapped(rest))
		want = -ENOMEM;
	rc = space_remap(w->run->q, w->run->s, span_va(p), span_size(p), span_size(whole), 0, 0,
			 &out);
	if (!oracle_expect(w, rc, want, p)) {
		span_resync(w, rest);
		return;
	}
	if (rc)
		return;
	if (out != span_va(p))
		oracle_wrong(w, "a mapping moved that may not");
	if (whole.n < p.n) {
		span_unmapped(w, rest);
	} else {
		span_mapped(w, rest, page_of(p, 0)->prot);
		span_resync_locks(w, rest);
	}
}

/* Away to wherever the core likes, larger, and back. */
static void do_round_trip(struct worker *w)
{
	struct span p = some_span(w, 16);
	u64 more = rnd(w, 300) * PAGE_SIZE, out = 0, back = 0;
	u8 prot = page_of(p, 0)->prot;
	int rc, want;

	if (data_pinned(p) || any_mapped((struct span){ p.s, p.first + p.n, 1 }) ||
	    p.first + p.n >= SLICE_PAGES)
		return;
	want = span_in_one_area(w, p) ? 0 : -EFAULT;
	/* DONTUNMAP without FIXED always moves. */
	rc = space_remap(w->run->q, w->run->s, span_va(p), span_size(p), span_size(p),
			 REMAP_MAYMOVE | REMAP_DONTUNMAP, 0, &out);
	if (!oracle_expect(w, rc, want, p) || rc)
		return;
	if (more)
		rc = space_remap(w->run->q, w->run->s, out, span_size(p), span_size(p) + more, 0, 0,
				 &back);
	if (more && rc && rc != -ENOMEM && rc != -EFAULT && !oracle_excused(w, rc))
		oracle_wrong(w, "growing in place gives %d", rc);
	if (!more || rc)
		more = 0;
	for (u32 i = 0; i < RETRIES; i++) {
		rc = space_remap(w->run->q, w->run->s, out, span_size(p), span_size(p),
				 REMAP_MAYMOVE | REMAP_FIXED, span_va(p), &back);
		if (!rc || !oracle_excused(w, rc))
			break;
	}
	if (rc)
		oracle_wrong(w, "the way back gives %d", rc);
	for (u32 i = 0; more && i < RETRIES; i++) {
		rc = space_unmap(w->run->q, w->run->s, out + span_size(p), more);
		if (!rc || !oracle_excused(w, rc))
			break;
	}
	for (u32 i = 0; i < p.n; i++) {
		page_of(p, i)->prot = prot;
		page_of(p, i)->mapped = true;
	}
	span_resync_locks(w, p);
}

/* ---- elsewhere ---- */

/* Memory of a moment, wherever the core puts it. */
static void do_scratch(struct worker *w)
{
	struct run *run = w->run;
	u64 n = 1 + rnd(w, 80), at = 0, word, seen;
	int rc = space_map(run->q, run->s, 0, n * PAGE_SIZE, 3, 0, &at);

	if (rc) {
		if (!oracle_excused(w, rc))
			oracle_wrong(w, "mapping %llu pages gives %d", (unsigned long long)n, rc);
		return;
	}
	for (u64 i = 0; i < n; i += 1 + rnd(w, 8)) {
		u64 va = at + i * PAGE_SIZE + rnd(w, 512) * 8;

		word = rnd(w, ~0ull);
		rc = sim_load(run->m, w->id, run->s->ms, va, &seen, 8);
		if (!rc && seen)
			oracle_wrong(w, "new memory at %llx holds %llx", (unsigned long long)va,
				     (unsigned long long)seen);
		if (!rc)
			rc = sim_store(run->m, w->id, run->s->ms, va, &word, 8);
		if (!rc)
			rc = sim_load(run->m, w->id, run->s->ms, va, &seen, 8);
		if (!rc && seen != word)
			oracle_wrong(w, "a store to %llx was lost", (unsigned long long)va);
		if (rc && !oracle_excused(w, rc))
			oracle_wrong(w, "access to %llx gives %d", (unsigned long long)va, rc);
	}
	for (u32 i = 0; i < RETRIES; i++) {
		rc = space_unmap(run->q, run->s, at, n * PAGE_SIZE);
		if (!rc || !oracle_excused(w, rc))
			break;
	}
	if (rc)
		oracle_wrong(w, "unmapping gives %d", rc);
}

static void do_limit(struct worker *w)
{
	struct run *run = w->run;

	if (w->id)
		return;
	cgroup_set_limit(run->q, CGROUP_ROOT, run->limit / 2 + rnd(w, run->limit));
	if (chance(w, 50))
		reclaim_pages(run->q, CGROUP_ROOT, 1 + rnd(w, run->limit / 4));
}

static void do_other_space(struct worker *w)
{
	struct run *run = w->run;
	struct space *s;
	u64 at, word = rnd(w, ~0ull), seen = 0;
	int rc = space_create(run->q, CGROUP_ROOT, 0, &s);

	if (rc) {
		if (!oracle_excused(w, rc))
			oracle_wrong(w, "creating a space gives %d", rc);
		return;
	}
	rc = space_map(run->q, s, 0, 64 * PAGE_SIZE, 3, 0, &at);
	for (u32 i = 0; i < 16 && !rc; i++) {
		u64 va = at + (i * 37 % 64) * PAGE_SIZE;

		rc = sim_store(run->m, w->id, s->ms, va, &word, 8);
		if (!rc)
			rc = sim_load(run->m, w->id, s->ms, va, &seen, 8);
		if (!rc && seen != word)
			oracle_wrong(w, "another space lost a store");
	}
	if (rc && !oracle_excused(w, rc))
		oracle_wrong(w, "using another space gives %d", rc);
	space_destroy(run->q, s);
}

/* Pages go to some node, those that others use at this moment too; nobody sees a difference. */
static void do_migrate(struct worker *w)
{
	struct run *r = w->run;
	struct span p = some_span(w, SHARED_PAGES);
	u64 base = span_va(p), va[SHARED_PAGES];
	unsigned node = (unsigned)rnd(w, phys_nr_nodes(r->q));
	int status[SHARED_PAGES], rc;

	if (chance(w, 40))
		base = chance(w, 50) ? r->shared : r->race;
	for (u32 i = 0; i < p.n; i++) {
		va[i] = base + i * PAGE_SIZE;
		status[i] = 1;
	}
	rc = space_move_to_node(r->q, r->s, va, p.n, node, status);
	if (rc)
		oracle_wrong(w, "move_to_node gives %d", rc);
	for (u32 i = 0; i < p.n; i++)
		if (status[i] != (int)node && status[i] != -ENOENT && status[i] != -EFAULT &&
		    status[i] != -EBUSY && status[i] != -ENOMEM)
			oracle_wrong(w, "move_to_node says %d of a page", status[i]);
}

/* ---- tiers ---- */

/* New pages of some addresses, or of all that have no rule of their own, go elsewhere. */
static void do_policy(struct worker *w)
{
	struct run *r = w->run;
	struct span p = some_span(w, 40);
	u32 mode = (u32)rnd(w, NR_POLICIES), nodes = 0, all = (u32)BIT(phys_nr_nodes(r->q)) - 1;
	int rc;

	if (mode != POLICY_DEFAULT)
		nodes = 1 + (u32)rnd(w, all);
	if (chance(w, 20)) {
		/* Only here: what is bound to the fast node has nowhere else to go. */
		if (mode == POLICY_BIND)
			nodes |= BIT(phys_nr_nodes(r->q) - 1);
		rc = space_set_policy(r->q, r->s, 0, 0, mode, nodes);
		if (rc)
			oracle_wrong(w, "the space's policy gives %d", rc);
		return;
	}
	rc = space_set_policy(r->q, r->s, span_va(p), span_size(p), mode, nodes);
	oracle_expect(w, rc, all_mapped(p) ? 0 : -ENOMEM, p);
}

static void do_tiers(struct worker *w)
{
	static const u64 rate[] = { 0, 1 << 20, TIER_RATE_DEFAULT, ~0ull, ~0ull };
	struct run *r = w->run;

	if (!r->cfg.tiers)
		return;
	if (chance(w, 60))
		fault_end_leases(r->q, &r->s->fs);
	else if (chance(w, 60))
		do_policy(w);
	else if (chance(w, 50))
		tier_set_rate(r->q, rate[rnd(w, ARRAY_SIZE(rate))]);
	else
		tier_demote(r->q, (unsigned)rnd(w, phys_nr_nodes(r->q)), 1 + (u32)rnd(w, 80));
}

const struct op oracle_ops[] = {
	{ "load", 3000, data_load },
	{ "store", 3000, data_store },
	{ "fill", 500, data_fill },
	{ "fetch_add", 800, data_fetch_add },
	{ "shared", 60, data_shared },
	{ "race", 900, race_any },
	{ "map", 120, do_map },
	{ "unmap", 40, do_unmap },
	{ "protect", 100, do_protect },
	{ "dontneed", 60, do_dontneed },
	{ "free", 60, do_free },
	{ "advise", 120, do_advise },
	{ "populate", 60, do_populate },
	{ "bad_arguments", 10, do_bad_arguments },
	{ "mlock", 20, do_mlock },
	{ "munlock", 30, do_munlock },
	{ "mincore", 40, do_mincore },
	{ "move", 60, do_move },
	{ "shrink_or_grow", 50, do_shrink_or_grow },
	{ "round_trip", 20, do_round_trip },
	{ "pin", 60, data_pin },
	{ "unpin", 60, data_unpin },
	{ "scratch", 10, do_scratch },
	{ "limit", 5, do_limit },
	{ "other_space", 2, do_other_space },
	{ "fork", 150, fork_any },
	{ "snapshot", 150, snapshot_any },
	{ "migrate", 100, do_migrate },
	{ "compact", 15, frames_compact },
	{ "offline", 20, frames_offline },
	{ "tiers", 150, do_tiers },
};
const u32 oracle_nr_ops = ARRAY_SIZE(oracle_ops);
