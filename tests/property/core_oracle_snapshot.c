/*
 * Snapshots of a worker's pages, and snapshots of those, with their own contents from then on.
 *
 * A view is used like a child's slice, at its own address. Where a page of it was unmapped anybody
 * may map something, so it is left alone from then on.
 */
#include <stdlib.h>
#include <string.h>

#include "core_oracle_internal.h"

#define RETRIES         20000
#define REMAP_MAYMOVE   1u
#define REMAP_DONTUNMAP 4u

void view_free(struct view *v)
{
	free(v->c.slice[0].shadow);
}

/* Pages of one of the worker's slices, or of another view: all mapped. n == 0: there were none. */
static struct span some_source(struct worker *w, struct view *mine)
{
	struct view *other = &w->view[rnd(w, NR_VIEWS)];
	struct span p = { &w->slice[rnd(w, NR_SLICES)], 0, 0 };
	u32 end = SLICE_PAGES, want = 1 + (u32)rnd(w, 40);

	p.first = (u32)rnd(w, SLICE_PAGES);
	if (chance(w, 30) && other != mine && other->n) {
		p.s = &other->c.slice[0];
		p.first = other->first + (u32)rnd(w, other->n);
		end = other->first + other->n;
	}
	while (p.n < want && p.first + p.n < end && p.s->page[p.first + p.n].mapped)
		p.n++;
	return p;
}

static void born(struct worker *w, struct view *v)
{
	struct span p = some_source(w, v);
	struct slice *s = &v->c.slice[0];
	bool write = chance(w, 50);
	u8 *bytes = s->shadow ? s->shadow : malloc(SLICE_PAGES * PAGE_SIZE);
	struct run *run = w->run;
	u64 at = 0;
	int rc;

	s->shadow = bytes;
	if (!p.n)
		return;
	rc = space_snapshot(run->q, run->s, span_va(p), span_size(p), write ? SNAPSHOT_F_WRITE : 0,
			    &at);
	if (!oracle_expect(w, rc, run->cfg.home ? -EINVAL : 0, p) || rc)
		return;
	*s = *p.s;
	s->shadow = bytes;
	s->base = at - p.first * PAGE_SIZE;
	for (u32 i = p.first; i < p.first + p.n; i++) {
		s->page[i].pins = 0;
		s->page[i].locked = false;
		if (!write)
			s->page[i].prot &= (u8)~PROT_BITS_WRITE;
	}
	memcpy(shadow(s, p.first), shadow(p.s, p.first), span_size(p));
	v->c.s = run->s;
	v->first = p.first;
	v->n = p.n;
}

/* Under injection a refusal is tried again: the pages must not stay. */
static void unmap_surely(struct worker *w, u64 va, u64 size)
{
	int rc = 0;

	for (u32 i = 0; i < RETRIES; i++) {
		rc = space_unmap(w->run->q, w->run->s, va, size);
		if (!rc || !oracle_excused(w, rc))
			break;
	}
	if (rc)
		oracle_wrong(w, "unmapping of a snapshot gives %d", rc);
}

/* To another place, leaving nothing behind. */
static void move(struct worker *w, struct view *v)
{
	struct span p = { &v->c.slice[0], v->first, v->n };
	u64 at = 0;
	int rc;

	for (u32 i = 0; i < v->n; i++)
		if (!p.s->page[v->first + i].mapped)
			return;
	if (!span_in_one_area(w, p))
		return;
	rc = space_remap(w->run->q, w->run->s, span_va(p), span_size(p), span_size(p),
			 REMAP_MAYMOVE | REMAP_DONTUNMAP, 0, &at);
	if (!oracle_expect(w, rc, 0, p) || rc)
		return;
	unmap_surely(w, span_va(p), span_size(p));
	p.s->base = at - v->first * PAGE_SIZE;
}

static void use(struct worker *w, struct view *v)
{
	struct span p = { &v->c.slice[0], v->first + (u32)rnd(w, v->n), 1 };

	if (p.s->page[p.first].mapped)
		child_use(w, &v->c, p);
}

void view_compare(struct worker *w, struct view *v)
{
	for (u32 i = 0; i < v->n; i++)
		if (v->c.slice[0].page[v->first + i].mapped)
			child_load(w, &v->c, (struct span){ &v->c.slice[0], v->first + i, 1 }, 0,
				   PAGE_SIZE);
}

void view_exit(struct worker *w, struct view *v)
{
	struct slice *s = &v->c.slice[0];

	for (u32 i = v->first, n; i < v->first + v->n; i += n) {
		for (n = 0; i + n < v->first + v->n && s->page[i + n].mapped;)
			n++;
		if (n)
			unmap_surely(w, s->base + i * PAGE_SIZE, n * PAGE_SIZE);
		n += !n;
	}
	v->n = 0;
	v->c.s = NULL;
}

void snapshot_any(struct worker *w)
{
	struct view *v = &w->view[rnd(w, NR_VIEWS)];

	if (!v->n) {
		if (chance(w, 30))
			born(w, v);
		return;
	}
	for (u32 i = 0; i < 8; i++)
		use(w, v);
	if (chance(w, 2))
		move(w, v);
	if (!chance(w, 5))
		return;
	if (chance(w, 50))
		view_compare(w, v);
	view_exit(w, v);
}
