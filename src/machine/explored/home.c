/*
 * home.c - home frames: a page's bytes are the memory at its own address, and one word per page
 * plays the host's page table.
 *
 * There are no TLBs to see here: the host changes a page's state and reaches every processor in one
 * call, page by page. So an access is one step, and so is each page of a flush, a release, an
 * install, a protection.
 */
#include <string.h>

#include "machine/explored/explored_internal.h"

typedef unsigned long long ull;

#define WRITER BIT(32) /* of xm.reading: an area's reading is being forbidden */

void xm_home_create(struct mspace *s)
{
	u32 n = (XM_USABLE_SIZE >> PMD_SHIFT) * XM_HOME_PAGES;

	s->home = x_alloc(n * sizeof(*s->home), 64);
	for (u32 i = 0; i < n; i++) {
		s->home[i].bytes = x_alloc(PAGE_SIZE, PAGE_SIZE);
		x_unraced(s->home[i].bytes, PAGE_SIZE);
	}
}

/* NULL: this page never has bytes here, and scenarios do not touch it. */
static struct xm_home *home_page(struct mspace *s, u64 va)
{
	u64 off = va - s->usable.start, at = (off & ~PMD_MASK) >> PAGE_SHIFT;

	if (va < s->usable.start || va >= s->usable.end || at >= XM_HOME_PAGES)
		return NULL;
	return &s->home[(off >> PMD_SHIFT) * XM_HOME_PAGES + at];
}

static struct mspace *space_at(struct xm *xm, u64 va)
{
	for (u32 i = 0; i < XM_SPACES; i++) {
		struct mspace *s = xm->space[i];

		if (s && va >= s->usable.start && va < s->usable.end)
			return s;
	}
	return NULL;
}

struct xm_home *xm_home_frame(struct xm *xm, u64 pfn)
{
	struct mspace *s = space_at(xm, pfn << PAGE_SHIFT);
	struct xm_home *h = s ? home_page(s, pfn << PAGE_SHIFT) : NULL;

	if (!h)
		x_fail("home frame %#llx is named, which the machine has not", (ull)pfn);
	return h;
}

struct xm_home *xm_home_at(struct xm *xm, const void *p)
{
	for (u32 i = 0; i < XM_SPACES; i++) {
		struct mspace *s = xm->space[i];
		u32 n = (XM_USABLE_SIZE >> PMD_SHIFT) * XM_HOME_PAGES;

		for (u32 k = 0; s && k < n; k++)
			if ((u64)((const u8 *)p - s->home[k].bytes) < PAGE_SIZE)
				return &s->home[k];
	}
	return NULL;
}

/* Within a step that declared the page. */
static void drop(struct xm_home *h)
{
	if (!(get(&h->state) & (HOME_POPULATED | HOME_PARKED)))
		return;
	put(&h->state, get(&h->state) & ~(HOME_POPULATED | HOME_PARKED | HOME_WP));
	memset(h->bytes, 0, PAGE_SIZE);
}

static bool allowed(const struct xm_home *h, bool write)
{
	u64 st = get(&h->state), prot = st >> HOME_PROT;

	if (!(st & HOME_POPULATED) || !(st & HOME_MAPPED) || (write && (st & HOME_WP)))
		return false;
	return write ? prot & PROT_BITS_WRITE : prot & 7;
}

bool xm_home_access(struct xm_unit *u, struct mspace *s, u64 va, bool write, u64 *value)
{
	struct xm_home *h = home_page(s, va);
	a64_t *word;

	BUG_ON(!h);
	word = (a64_t *)(void *)(h->bytes + (va & ~PAGE_MASK));
	x_access(write ? BASE_WRITE : BASE_READ, &h->state, 8, write ? "stores" : "loads");
	if (!allowed(h, write)) {
		if (x_noting())
			x_note("%s %#llx: traps", write ? "stores to" : "loads from", (ull)va);
		return false;
	}
	if (x_noting())
		x_note("%s %#llx: %#llx", write ? "stores to" : "loads from", (ull)va,
		       (ull)(write ? *value : get(word)));
	if (write)
		put(word, *value);
	else
		*value = get(word);
	return true;
}

bool xm_home_reachable(struct mspace *s, u64 va, bool write)
{
	return allowed(home_page(s, va), write);
}

void xm_home_flush(struct mspace *s, const struct tlb_range *r)
{
	u64 end = min(r->end, s->usable.end);

	for (u64 va = max(r->start, s->usable.start); va < end; va += PAGE_SIZE) {
		struct xm_home *h = home_page(s, va);
		bool no_access = r->strength == FLUSH_NO_ACCESS;

		if (!h)
			continue;
		x_access(BASE_WRITE, &h->state, 8, no_access ? "empties it" : "write-protects it");
		if (x_noting())
			x_note("%s %#llx", no_access ? "empties" : "write-protects", (ull)va);
		if (no_access)
			drop(h);
		else if (get(&h->state) & HOME_POPULATED)
			put(&h->state, get(&h->state) | HOME_WP);
	}
}

/* The entry of the page, which decides whether the release is right, belongs to the step. */
static void release_page(struct mspace *s, u64 va)
{
	struct xm_home *h = home_page(s, va);
	a64_t *word = xm_entry_word(s, va);
	u64 e;

	if (!h)
		return; /* a claimed hole beyond what scenarios touch */
	if (word)
		x_access2(BASE_WRITE, &h->state, 8, BASE_READ, word, 8, "releases the frame");
	else
		x_access(BASE_WRITE, &h->state, 8, "releases the frame");
	if (x_noting())
		x_note("releases home frame %#llx", (ull)va);
	e = word ? get(word) : 0;
	if (entry_present(e) && entry_pfn(e) == va >> PAGE_SHIFT)
		x_fail("home frame %#llx is released while its entry names it", (ull)va);
	drop(h);
}

void xm_home_release(struct xm *xm, const struct frame_span *span)
{
	struct mspace *s = space_at(xm, span->pfn << PAGE_SHIFT);

	if (!s)
		x_fail("home frame %#llx of no space is released", (ull)span->pfn);
	for (u32 i = 0; i < span->nr; i++)
		release_page(s, (span->pfn + i) << PAGE_SHIFT);
}

int xm_home_move(struct xm *xm, u64 dst, u64 src, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		struct xm_home *d = xm_home_frame(xm, dst + i), *s = xm_home_frame(xm, src + i);
		u64 has;

		x_access2(BASE_WRITE, &s->state, 8, BASE_WRITE, &d->state, 8, "moves the bytes");
		has = get(&s->state) & (HOME_POPULATED | HOME_PARKED);
		if (!has)
			return -ENOENT;
		if (get(&d->state) & (HOME_POPULATED | HOME_PARKED))
			x_fail("bytes are moved onto populated home frame %#llx", (ull)dst + i);
		memcpy(d->bytes, s->bytes, PAGE_SIZE);
		put(&d->state, get(&d->state) | has | HOME_WP);
		drop(s);
	}
	return 0;
}

int xm_frames_park(struct machine *m, u64 pfn, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		struct xm_home *h = xm_home_frame(xm_of(m), pfn + i);

		x_access(BASE_WRITE, &h->state, 8, "parks the page");
		if (x_noting())
			x_note("parks home frame %#llx", (ull)pfn + i);
		if (get(&h->state) & HOME_POPULATED)
			put(&h->state,
			    (get(&h->state) & ~(HOME_POPULATED | HOME_WP)) | HOME_PARKED);
	}
	return 0;
}

/* All memory is alike here. */
int xm_frames_to_node(struct machine *m, u64 pfn, u32 nr, unsigned from, unsigned to)
{
	BUG_ON(from == to);
	return xm_frames_park(m, pfn, nr);
}

static void install_page(struct mspace *s, u64 va, u64 e, const void *fill, bool zero)
{
	struct xm_home *h = home_page(s, va);
	u64 st;

	if (!entry_present(e))
		return;
	if (!h || entry_pfn(e) != va >> PAGE_SHIFT)
		x_fail("the entry of %#llx names frame %#llx", (ull)va, (ull)entry_pfn(e));
	x_access(BASE_WRITE, &h->state, 8, "makes it accessible");
	st = get(&h->state);
	if (fill)
		memcpy(h->bytes, fill, PAGE_SIZE);
	else if (zero)
		memset(h->bytes, 0, PAGE_SIZE);
	else if (!(st & (HOME_POPULATED | HOME_PARKED)))
		x_fail("%#llx is made accessible without bytes", (ull)va);
	st = (st | HOME_POPULATED) & ~(HOME_WP | HOME_PARKED);
	put(&h->state, st | (e & ENTRY_WRITE ? 0 : HOME_WP));
	if (x_noting())
		x_note("makes %#llx accessible%s: %#llx", (ull)va,
		       e & ENTRY_WRITE ? "" : " (no store)", (ull)get((a64_t *)(void *)h->bytes));
}

void xm_home_install(struct mspace *s, u64 va, const u64 *entries, u32 nr, const void *fill,
		     bool fill_zero)
{
	for (u32 i = 0; i < nr; i++)
		install_page(s, va + i * PAGE_SIZE, entries[i],
			     fill ? (const u8 *)fill + i * PAGE_SIZE : NULL, fill_zero);
}

/* ---- areas, and the bracket of reads that forbidding to read waits for ---- */

static bool no_writer(void *arg)
{
	return !(get(arg) & WRITER);
}

static bool no_reader(void *arg)
{
	return !get(arg);
}

void xm_read_begin(struct machine *m)
{
	a64_t *reading = &xm_of(m)->reading;

	if (!xm_is_home(xm_of(m)))
		return;
	x_await(BASE_RMW, no_writer, reading, reading, 8, "begins to read frames");
	put(reading, get(reading) + 1);
}

void xm_read_end(struct machine *m)
{
	a64_t *reading = &xm_of(m)->reading;

	if (!xm_is_home(xm_of(m)))
		return;
	x_access(BASE_RMW, reading, 8, "ends reading frames");
	put(reading, get(reading) - 1);
}

static void set_area(struct mspace *s, struct range r, u64 bits)
{
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE) {
		struct xm_home *h = home_page(s, va);

		if (!h)
			continue;
		x_access(BASE_WRITE, &h->state, 8, "changes the area");
		put(&h->state, (get(&h->state) & ~(HOME_MAPPED | (u64)7 << HOME_PROT)) | bits);
	}
}

static u64 prot_bits(unsigned prot)
{
	return HOME_MAPPED | (u64)(prot & 7) << HOME_PROT;
}

int xm_area_map(struct machine *m, struct mspace *s, struct range r, unsigned prot, u64 pfn)
{
	(void)pfn;
	if (xm_is_home(xm_of(m)))
		set_area(s, r, prot_bits(prot));
	return 0;
}

int xm_area_protect(struct machine *m, struct mspace *s, struct range r, unsigned old_prot,
		    unsigned prot)
{
	a64_t *reading = &xm_of(m)->reading;
	bool hides = (old_prot & PROT_BITS_READ) && !(prot & PROT_BITS_READ);

	if (!xm_is_home(xm_of(m)))
		return 0;
	if (hides) {
		x_await(BASE_RMW, no_reader, reading, reading, 8, "waits for reads of frames");
		put(reading, WRITER);
	}
	set_area(s, r, prot_bits(prot));
	if (hides) {
		x_access(BASE_RMW, reading, 8, "lets reads go on");
		put(reading, 0);
	}
	return 0;
}

void xm_area_unmap(struct machine *m, struct mspace *s, struct range r, unsigned prot)
{
	struct tlb_range all = { r.start, r.end, FLUSH_NO_ACCESS, false, false };

	if (!xm_is_home(xm_of(m)))
		return;
	xm_home_flush(s, &all);
	set_area(s, r, 0);
}
