/*
 * Children of the space: forked while the other threads go on, with their own contents from then
 * on.
 *
 * A child has what its worker's slices held at that moment; what the other workers did meanwhile
 * may or may not be in it, but for words of which only one value is possible.
 */
#include <stdlib.h>
#include <string.h>

#include "core_oracle_internal.h"

#define RETRIES 20000

static void child_slices(struct worker *w, struct child *c)
{
	for (u32 i = 0; i < NR_SLICES; i++) {
		struct slice *s = &c->slice[i];
		u8 *bytes = s->shadow ? s->shadow : malloc(SLICE_PAGES * PAGE_SIZE);

		*s = w->slice[i];
		s->shadow = bytes;
		memcpy(bytes, w->slice[i].shadow, SLICE_PAGES * PAGE_SIZE);
	}
}

void child_free(struct child *c)
{
	for (u32 i = 0; i < NR_SLICES; i++)
		free(c->slice[i].shadow);
}

static void born(struct worker *w, struct child *c)
{
	struct run *run = w->run;
	int rc = space_fork(run->q, run->s, &c->s);

	if (!rc) {
		child_slices(w, c);
		return;
	}
	c->s = NULL;
	if (rc != (run->cfg.home ? -EOPNOTSUPP : 0) && !oracle_excused(w, rc))
		oracle_wrong(w, "fork gives %d", rc);
}

static void check_bytes(struct worker *w, struct slice *s, u32 page, u64 off, const u8 *got, u64 n)
{
	bool zero = s->page[page].maybe_zero;

	if (!memcmp(got, shadow(s, page) + off, n))
		return;
	for (u64 i = 0; i < n; i++)
		zero = zero && !got[i];
	if (zero)
		page_zero(s, page);
	else
		oracle_wrong(
			w, "a child's page at %llx holds other bytes from %llu on: %02x, not %02x",
			(unsigned long long)(s->base + page * PAGE_SIZE), (unsigned long long)off,
			got[0], shadow(s, page)[off]);
}

void child_load(struct worker *w, struct child *c, struct span p, u64 off, u64 n)
{
	u8 got[PAGE_SIZE];
	int rc = sim_load(w->run->m, w->id, c->s->ms, span_va(p) + off, got, n);

	if (oracle_expect(w, rc, page_access(&p.s->page[p.first], false), p) && !rc)
		check_bytes(w, p.s, p.first, off, got, n);
}

static void child_store(struct worker *w, struct child *c, struct span p)
{
	u64 words[8], off = rnd(w, PAGE_SIZE / 64) * 64;
	int want = page_access(&p.s->page[p.first], true), rc;
	u8 got[PAGE_SIZE];

	for (u32 i = 0; i < 8; i++)
		words[i] = rnd(w, ~0ull);
	rc = sim_store(w->run->m, w->id, c->s->ms, span_va(p) + off, words, sizeof(words));
	if (!oracle_expect(w, rc, want, p) || rc)
		return;
	/* Written after MADV_FREE: it is one or the other by now. */
	while (p.s->page[p.first].maybe_zero) {
		rc = sim_load(w->run->m, w->id, c->s->ms, span_va(p), got, PAGE_SIZE);
		if (rc && oracle_excused(w, rc))
			continue;
		memcpy(shadow(p.s, p.first) + off, words, sizeof(words));
		if (!rc && memcmp(got, shadow(p.s, p.first), PAGE_SIZE))
			page_zero(p.s, p.first);
		p.s->page[p.first].maybe_zero = false;
	}
	memcpy(shadow(p.s, p.first) + off, words, sizeof(words));
}

static void child_advise(struct worker *w, struct child *c, struct span p)
{
	static const int advice[] = { ADVISE_DONTNEED, ADVISE_PAGEOUT, ADVISE_PAGEOUT, ADVISE_COLD,
				      ADVISE_WILLNEED };
	int a = advice[rnd(w, ARRAY_SIZE(advice))];
	int rc = space_advise(w->run->q, c->s, span_va(p), PAGE_SIZE, a);

	oracle_expect(w, rc, p.s->page[p.first].mapped ? 0 : -ENOMEM, p);
	if (!rc && a == ADVISE_DONTNEED)
		page_zero(p.s, p.first);
}

static void child_unmap(struct worker *w, struct child *c, struct span p)
{
	int rc = space_unmap(w->run->q, c->s, span_va(p), PAGE_SIZE);

	if (!oracle_expect(w, rc, 0, p))
		return;
	p.s->page[p.first] = (struct page){ .mapped = false };
	page_zero(p.s, p.first);
}

/* What a pin in the child shows is what the child has. */
static void child_pin(struct worker *w, struct child *c, struct span p)
{
	struct range r = { span_va(p), span_va(p) + PAGE_SIZE };
	bool write = chance(w, 50);
	struct run *run = w->run;
	struct folio *f;
	long n = pin_fast(run->q, &c->s->fs, r, write ? ACCESS_WRITE : ACCESS_READ, &f);
	int want = page_access(&p.s->page[p.first], write);

	if (!oracle_expect(w, n < 0 ? (int)n : 0, want, p) || n != 1)
		return;
	child_store(w, c, p);
	if (f && !p.s->page[p.first].maybe_zero)
		check_bytes(w, p.s, p.first, 0,
			    run->m->ops->frame_window(run->m, folio_pfn(run->q, f)), PAGE_SIZE);
	unpin_pages(run->q, &f, 1);
}

/* Counters that the child adds to are not its parent's. */
static void child_count(struct worker *w, struct child *c)
{
	u64 va = w->run->shared + rnd(w, SHARED_PAGES) * PAGE_SIZE + rnd(w, SHARED_PER_PAGE) * 64;
	int rc = sim_fetch_add(w->run->m, w->id, c->s->ms, va, 1000, NULL);

	if (rc && rc != -EACCES && !oracle_excused(w, rc))
		oracle_wrong(w, "adding in a child gives %d", rc);
}

void child_use(struct worker *w, struct child *c, struct span p)
{
	u64 kind = rnd(w, 86);

	if (kind < 35)
		child_load(w, c, p, rnd(w, 64) * 8, 64);
	else if (kind < 65)
		child_store(w, c, p);
	else if (kind < 75)
		child_advise(w, c, p);
	else if (kind < 78)
		child_unmap(w, c, p);
	else
		child_pin(w, c, p);
}

static void use(struct worker *w, struct child *c)
{
	struct span p = { &c->slice[rnd(w, NR_SLICES)], (u32)rnd(w, SLICE_PAGES), 1 };
	u64 kind = rnd(w, 100);

	if (kind < 86)
		child_use(w, c, p);
	else if (kind < 92)
		child_count(w, c);
	else
		race_use(w, c->s);
}

void child_compare(struct worker *w, struct child *c)
{
	for (u32 i = 0; c->s && i < NR_SLICES; i++)
		for (u32 k = 0; k < SLICE_PAGES; k++)
			child_load(w, c, (struct span){ &c->slice[i], k, 1 }, 0, PAGE_SIZE);
}

void child_exit(struct worker *w, struct child *c)
{
	if (c->s)
		space_destroy(w->run->q, c->s);
	c->s = NULL;
}

/* One of the worker's children: it is born, lives on, or ends. */
void fork_any(struct worker *w)
{
	struct child *c = &w->child[rnd(w, NR_CHILDREN)];

	if (!c->s) {
		if (chance(w, 10))
			born(w, c);
		return;
	}
	for (u32 i = 0; i < 8; i++)
		use(w, c);
	if (!chance(w, 4))
		return;
	if (chance(w, 50))
		child_compare(w, c);
	child_exit(w, c);
}
