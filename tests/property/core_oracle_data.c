/* Loads, stores, counters and pins of the property harness, with what each must see. */
#include <sched.h>
#include <string.h>

#include "core_oracle_internal.h"

#define RETRIES 20000 /* of one access that injected failures refuse */

/* Mostly the worker's own CPU, sometimes another: threads migrate. */
static unsigned some_cpu(struct worker *w)
{
	return chance(w, 90) ? w->id : (unsigned)rnd(w, 4);
}

int page_access(const struct page *p, bool write)
{
	if (!p->mapped)
		return -EFAULT;
	if (write)
		return p->prot & PROT_BITS_WRITE ? 0 : -EACCES;
	return p->prot ? 0 : -EACCES;
}

static bool all_zero(const u8 *b, u64 n)
{
	for (u64 i = 0; i < n; i++)
		if (b[i])
			return false;
	return true;
}

static void tell_difference(struct worker *w, struct slice *s, u32 page, u64 off, const u8 *got,
			    u64 n)
{
	const u8 *want = shadow(s, page) + off;
	u64 i = 0;

	while (i < n && got[i] == want[i])
		i++;
	oracle_wrong(w, "va %llx byte %llu: got %02x, want %02x%s",
		     (unsigned long long)(s->base + page * PAGE_SIZE),
		     (unsigned long long)(off + i), got[i], want[i],
		     s->page[page].maybe_zero ? " or a zero page" : "");
}

/* Bytes that a load of part of a page has seen. */
static void check_seen(struct worker *w, struct slice *s, u32 page, u64 off, const u8 *got, u64 n)
{
	if (!memcmp(got, shadow(s, page) + off, n))
		return;
	if (s->page[page].maybe_zero && all_zero(got, n)) {
		page_zero(s, page); /* dropped: zeroes from now on */
		return;
	}
	tell_difference(w, s, page, off, got, n);
}

/* An access that must succeed in the end, whatever is injected. */
static bool load_surely(struct worker *w, u64 va, void *buf, u64 size)
{
	int rc = 0;

	for (u32 i = 0; i < RETRIES; i++) {
		rc = sim_load(w->run->m, some_cpu(w), w->run->s->ms, va, buf, size);
		if (!rc)
			return true;
		if (!oracle_excused(w, rc))
			break;
	}
	oracle_wrong(w, "load of %llx gives %d", (unsigned long long)va, rc);
	return false;
}

static struct span some_page(struct worker *w)
{
	/* Two slices are hot: their pages come back soon. */
	u32 s = (u32)(chance(w, 60) ? rnd(w, 2) : rnd(w, NR_SLICES));

	return (struct span){ &w->slice[s], (u32)rnd(w, SLICE_PAGES), 1 };
}

void data_load(struct worker *w)
{
	struct span p = some_page(w);
	u64 n = 1 + rnd(w, chance(w, 10) ? PAGE_SIZE : 64);
	u64 off = rnd(w, PAGE_SIZE - n + 1);
	u8 got[PAGE_SIZE];
	int rc = sim_load(w->run->m, some_cpu(w), w->run->s->ms, span_va(p) + off, got, n);

	if (oracle_expect(w, rc, page_access(&p.s->page[p.first], false), p) && !rc)
		check_seen(w, p.s, p.first, off, got, n);
}

/* The page was written: from now on it has one value, which is the old or the zero page with the
 * bytes. */
static void settle_freed(struct worker *w, struct span p, u64 off, const u8 *bytes, u64 n)
{
	u8 *want = shadow(p.s, p.first);
	u8 got[PAGE_SIZE];

	if (!p.s->page[p.first].maybe_zero)
		return;
	p.s->page[p.first].maybe_zero = false;
	if (!load_surely(w, span_va(p), got, PAGE_SIZE) || !memcmp(got, want, PAGE_SIZE))
		return;
	memset(want, 0, PAGE_SIZE);
	memcpy(want + off, bytes, n);
	if (memcmp(got, want, PAGE_SIZE))
		tell_difference(w, p.s, p.first, 0, got, PAGE_SIZE);
}

static void store(struct worker *w, struct span p, u64 off, const u8 *bytes, u64 n)
{
	int want = page_access(&p.s->page[p.first], true);
	int rc = sim_store(w->run->m, some_cpu(w), w->run->s->ms, span_va(p) + off, bytes, n);

	if (!oracle_expect(w, rc, want, p) || rc)
		return;
	memcpy(shadow(p.s, p.first) + off, bytes, n);
	settle_freed(w, p, off, bytes, n);
}

static void random_bytes(struct worker *w, u8 *b, u64 n)
{
	for (u64 i = 0; i < n; i += 8) {
		u64 v = rnd(w, ~0ull) * 0x9e3779b97f4a7c15ull;

		memcpy(b + i, &v, min(n - i, (u64)8));
	}
}

void data_store(struct worker *w)
{
	u64 n = 1 + rnd(w, 64), off = rnd(w, PAGE_SIZE - n + 1);
	u8 bytes[64];

	random_bytes(w, bytes, n);
	store(w, some_page(w), off, bytes, n);
}

/* A whole page: incompressible, of one byte, of zeroes, or half and half. */
void data_fill(struct worker *w)
{
	u8 bytes[PAGE_SIZE];
	u64 kind = rnd(w, 4);

	memset(bytes, kind == 1 ? (int)rnd(w, 256) : 0, sizeof(bytes));
	if (kind == 0)
		random_bytes(w, bytes, sizeof(bytes));
	else if (kind == 3)
		random_bytes(w, bytes, sizeof(bytes) / 2);
	store(w, some_page(w), 0, bytes, sizeof(bytes));
}

static u64 some_counter(struct worker *w, u32 *page)
{
	*page = (u32)rnd(w, SHARED_PAGES);
	return w->run->shared + *page * PAGE_SIZE + rnd(w, SHARED_PER_PAGE) * 64;
}

void data_fetch_add(struct worker *w)
{
	u64 add = 1 + rnd(w, 100);
	u32 page;
	u64 va = some_counter(w, &page);
	int rc = sim_fetch_add(w->run->m, some_cpu(w), w->run->s->ms, va, add, NULL);

	if (!rc)
		w->sum += add;
	else if (rc != -EACCES &&
		 !oracle_excused(w, rc)) /* its owner may forbid stores for a while */
		oracle_wrong(w, "adding at %llx gives %d", (unsigned long long)va, rc);
}

/* The owner of a shared page forbids stores: while it is forbidden nothing in the page changes. */
static void freeze_shared(struct worker *w, u64 va)
{
	struct space *s = w->run->s;
	u8 before[PAGE_SIZE], after[PAGE_SIZE];
	int rc = space_protect(w->run->q, s, va, PAGE_SIZE, PROT_BITS_READ);

	if (rc) {
		if (!oracle_excused(w, rc))
			oracle_wrong(w, "protecting %llx gives %d", (unsigned long long)va, rc);
	} else if (load_surely(w, va, before, PAGE_SIZE)) {
		sched_yield();
		if (load_surely(w, va, after, PAGE_SIZE) && memcmp(before, after, PAGE_SIZE))
			oracle_wrong(w, "a store to %llx got through after protect returned",
				     (unsigned long long)va);
	}
	for (u32 i = 0; i < RETRIES; i++) {
		rc = space_protect(w->run->q, s, va, PAGE_SIZE, PROT_BITS_READ | PROT_BITS_WRITE);
		if (!rc || !oracle_excused(w, rc))
			break;
	}
	if (rc)
		oracle_wrong(w, "unprotecting %llx gives %d", (unsigned long long)va, rc);
}

void data_shared(struct worker *w)
{
	u32 page, n = w->run->cfg.threads;
	u64 va = some_counter(w, &page) & PAGE_MASK;
	int advice = chance(w, 50) ? ADVISE_PAGEOUT : chance(w, 50) ? ADVISE_COLD : ADVISE_WILLNEED;
	int rc;

	if (chance(w, 50)) {
		page = page - page % n + w->id;
		if (page < SHARED_PAGES)
			freeze_shared(w, w->run->shared + page * PAGE_SIZE);
		return;
	}
	rc = space_advise(w->run->q, w->run->s, va, PAGE_SIZE, advice);
	if (rc && !oracle_excused(w, rc))
		oracle_wrong(w, "advice %d on %llx gives %d", advice, (unsigned long long)va, rc);
}

/* ---- pins ---- */

static u32 pages_accessible(struct span p, bool write)
{
	u32 n = 0;

	while (n < p.n && !page_access(&p.s->page[p.first + n], write))
		n++;
	return n;
}

static long pin(struct worker *w, struct pin *pin, struct span p)
{
	struct range r = { span_va(p), span_va(p) + span_size(p) };
	struct run *run = w->run;
	u32 access =
		(pin->write ? ACCESS_WRITE : ACCESS_READ) | (pin->for_long ? ACCESS_LONGTERM : 0);

	if (pin->by_range)
		return pin_range(run->q, &run->s->fs, r, access);
	return chance(w, 50) ? pin_pages(run->q, &run->s->fs, r, access, pin->folio) :
			       pin_fast(run->q, &run->s->fs, r, access, pin->folio);
}

void data_pin(struct worker *w)
{
	struct pin *at = &w->pin[rnd(w, NR_PINS)];
	struct span p = some_page(w);
	u32 can;
	long got;

	if (at->n) {
		data_unpin(w);
		return;
	}
	p.n = 1 + (u32)rnd(w, min(PIN_PAGES, SLICE_PAGES - p.first));
	at->write = chance(w, 50);
	at->for_long = chance(w, 50);
	at->by_range = w->run->cfg.home && chance(w, 50);
	memset(at->stale, 0, sizeof(at->stale));
	can = pages_accessible(p, at->write);
	got = pin(w, at, p);
	if (got < 0 && can && !oracle_excused(w, (int)got))
		oracle_wrong(w, "pinning %u pages at %llx gives %ld, want %u", p.n,
			     (unsigned long long)span_va(p), got, can);
	if (got > (long)can || (got >= 0 && got < (long)can && !oracle_excused(w, -ENOMEM)))
		oracle_wrong(w, "pinned %ld of %u pages at %llx, want %u", got, p.n,
			     (unsigned long long)span_va(p), can);
	if (got <= 0)
		return;
	at->n = (u32)got;
	at->slice = p.s;
	at->first = p.first;
	for (u32 i = 0; i < at->n; i++)
		p.s->page[p.first + i].pins++;
}

/* Reclaim may look at a pinned page, but it stays mapped. */
static bool stays_reachable(struct worker *w, u64 va)
{
	for (u32 i = 0; i < 1000; i++) {
		if (sim_reachable(w->run->m, w->run->s->ms, va, false))
			return true;
		sched_yield();
	}
	return false;
}

/* What a device would read through the pin, and whether a CPU still gets there without a fault. */
static void check_pin(struct worker *w, struct pin *pin, u32 i)
{
	struct run *run = w->run;
	u32 page = pin->first + i;
	u64 va = pin->slice->base + page * PAGE_SIZE;
	struct page *p = &pin->slice->page[page];
	struct folio *f = pin->by_range ? NULL : pin->folio[i];
	const u8 *want = pin->stale[i] ? pin->copy + i * PAGE_SIZE : shadow(pin->slice, page);

	if (!pin->by_range && !f && pin->for_long)
		oracle_wrong(w, "the zero page is pinned for long at %llx", (unsigned long long)va);
	/* Nothing is pinned where the zero page was mapped. */
	if (p->maybe_zero || pin->stale[i] == STALE_UNKNOWN || (!pin->by_range && !f))
		return;
	if (!pin->stale[i] && !page_access(p, false) && !stays_reachable(w, va))
		oracle_wrong(w, "the pinned page at %llx is not there", (unsigned long long)va);
	if (run->cfg.home)
		return;
	if (memcmp(run->m->ops->frame_window(run->m, folio_pfn(run->q, f)), want, PAGE_SIZE))
		oracle_wrong(w, "the pinned frame of %llx does not hold its bytes%s",
			     (unsigned long long)va, pin->stale[i] ? " any more" : "");
}

static void unpin(struct worker *w, struct pin *pin)
{
	struct run *run = w->run;
	u64 va = pin->slice->base + pin->first * PAGE_SIZE;

	for (u32 i = 0; i < pin->n; i++) {
		check_pin(w, pin, i);
		pin->slice->page[pin->first + i].pins--;
	}
	if (pin->by_range)
		unpin_range(run->q, (struct range){ va, va + pin->n * PAGE_SIZE });
	else
		unpin_pages(run->q, pin->folio, pin->n);
	pin->n = 0;
}

void data_unpin(struct worker *w)
{
	struct pin *pin = &w->pin[rnd(w, NR_PINS)];
	u64 va;

	if (!pin->n)
		return;
	/* It must withstand this. What the call says depends on locks and holes: do_advise looks at
	 * that. */
	va = pin->slice->base + pin->first * PAGE_SIZE;
	if (chance(w, 50))
		(void)!space_advise(w->run->q, w->run->s, va, pin->n * PAGE_SIZE, ADVISE_PAGEOUT);
	unpin(w, pin);
}

void data_unpin_all(struct worker *w)
{
	for (u32 i = 0; i < NR_PINS; i++)
		if (w->pin[i].n)
			unpin(w, &w->pin[i]);
}

bool data_pinned(struct span p)
{
	for (u32 i = p.first; i < p.first + p.n; i++)
		if (p.s->page[i].pins)
			return true;
	return false;
}

void data_pins_stale(struct worker *w, struct span p)
{
	for (u32 i = 0; i < NR_PINS; i++) {
		struct pin *pin = &w->pin[i];

		for (u32 j = 0; pin->slice == p.s && j < pin->n; j++) {
			u32 page = pin->first + j;

			if (page < p.first || page >= p.first + p.n || pin->stale[j])
				continue;
			pin->stale[j] = p.s->page[page].maybe_zero ? STALE_UNKNOWN : STALE_KNOWN;
			memcpy(pin->copy + j * PAGE_SIZE, shadow(p.s, page), PAGE_SIZE);
		}
	}
}

/* ---- everything, at quiescence ---- */

void data_compare_slice(struct worker *w, struct slice *s)
{
	u8 got[PAGE_SIZE];

	for (u32 i = 0; i < SLICE_PAGES; i++) {
		struct span p = { s, i, 1 };
		int want = page_access(&s->page[i], false);
		int rc;

		if (!want) {
			if (load_surely(w, span_va(p), got, PAGE_SIZE))
				check_seen(w, s, i, 0, got, PAGE_SIZE);
			continue;
		}
		rc = sim_load(w->run->m, some_cpu(w), w->run->s->ms, span_va(p), got, 8);
		if (rc != want && !oracle_excused(w, rc))
			oracle_wrong(w, "load of %llx gives %d, want %d",
				     (unsigned long long)span_va(p), rc, want);
	}
}
