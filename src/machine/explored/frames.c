/* frames.c - plain frames: bytes, windows, releases. */
#include <string.h>

#include "machine/explored/explored_internal.h"

#define POISON_WORDS 8u /* the words that programs use are among them */

void xm_frames_create(struct xm *xm)
{
	if (xm_is_home(xm))
		xm->stage = x_alloc((X_MAX_ACTORS + 1) * XM_STAGE_PAGES * PAGE_SIZE, PAGE_SIZE);
	for (u32 b = 0; b < XM_BLOCKS; b++) {
		xm->bytes[b] = x_alloc(XM_BLOCK_FRAMES * PAGE_SIZE, PAGE_SIZE);
		x_unraced(xm->bytes[b], XM_BLOCK_FRAMES * PAGE_SIZE);
	}
}

static u32 frame_number(u64 pfn)
{
	u64 block = pfn / PTRS_PER_TABLE, at = pfn % PTRS_PER_TABLE;

	if (block >= XM_BLOCKS || at >= XM_BLOCK_FRAMES)
		x_fail("frame %#llx is named, which the machine has not", (unsigned long long)pfn);
	return (u32)(block * XM_BLOCK_FRAMES + at);
}

struct xm_frame *xm_frame(struct xm *xm, u64 pfn)
{
	return &xm->frame[frame_number(pfn)];
}

u8 *xm_bytes(struct xm *xm, u64 pfn)
{
	u32 n = frame_number(pfn);

	return xm->bytes[n / XM_BLOCK_FRAMES] + n % XM_BLOCK_FRAMES * PAGE_SIZE;
}

const void *xm_bytes_object(struct xm *xm, const void *p)
{
	const struct xm_home *h = xm_is_home(xm) ? xm_home_at(xm, p) : NULL;

	if (h)
		return &h->state;
	for (u32 b = 0; b < XM_BLOCKS; b++) {
		u64 off = (u64)((const u8 *)p - xm->bytes[b]);

		if (off < XM_BLOCK_FRAMES * PAGE_SIZE)
			return &xm->frame[b * XM_BLOCK_FRAMES + (off >> PAGE_SHIFT)].gen;
	}
	return p;
}

/* The declared word and the bytes of a frame of either kind. */
static a64_t *frame_object(struct xm *xm, u64 pfn, u8 **bytes)
{
	if (xm_is_home(xm)) {
		struct xm_home *h = xm_home_frame(xm, pfn);

		*bytes = h->bytes;
		return &h->state;
	}
	*bytes = xm_bytes(xm, pfn);
	return &xm_frame(xm, pfn)->gen;
}

/* The core reads (or, where it copies, writes) what is there: from here to its next step. */
void *xm_frame_window(struct machine *m, u64 pfn)
{
	u8 *bytes;
	a64_t *object = frame_object(xm_of(m), pfn, &bytes);

	x_access(BASE_READ, object, 8, "reads the frame");
	if (x_noting())
		x_note("reads frame %llu: %#llx", (unsigned long long)pfn,
		       (unsigned long long)xm_frame_word(m, pfn));
	return bytes;
}

/* Home frames are filled elsewhere; what the caller leaves out must not look like zeroes. */
void *xm_fill_begin(struct machine *m, u64 pfn, u32 nr)
{
	struct xm *xm = xm_of(m);

	if (xm_is_home(xm)) {
		/* Each actor's own, so that its place does not depend on what others do. */
		u8 *buf = xm->stage + x_self() * XM_STAGE_PAGES * PAGE_SIZE;

		BUG_ON(nr > XM_STAGE_PAGES);
		for (u32 i = 0; i < nr; i++)
			memset(buf + i * PAGE_SIZE, 0xd5, POISON_WORDS * 8);
		return buf;
	}
	for (u32 i = 0; i < nr; i++) {
		x_access(BASE_WRITE, &xm_frame(xm, pfn + i)->gen, 8, "fills the frame");
		if (x_noting())
			x_note("fills frame %llu", (unsigned long long)pfn + i);
	}
	return xm_bytes(xm, pfn);
}

int xm_fill_end(struct machine *m, u64 pfn, u32 nr, void *buf)
{
	return 0;
}

static void release_one(struct xm *xm, u64 pfn)
{
	struct xm_frame *f = xm_frame(xm, pfn);
	a64_t *words = (a64_t *)(void *)xm_bytes(xm, pfn);

	x_access(BASE_WRITE, &f->gen, 8, "releases the frame");
	if (x_noting())
		x_note("releases frame %llu", (unsigned long long)pfn);
	put(&f->gen, get(&f->gen) + 1);
	for (u32 w = 0; w < POISON_WORDS; w++)
		put(&words[w], XM_POISON);
}

void xm_frames_release(struct machine *m, const struct frame_span *spans, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (xm_is_home(xm_of(m)))
			xm_home_release(xm_of(m), &spans[i]);
		for (u32 k = 0; !xm_is_home(xm_of(m)) && k < spans[i].nr; k++)
			release_one(xm_of(m), spans[i].pfn + k);
	}
}

int xm_frames_move(struct machine *m, u64 dst, u64 src, u32 nr)
{
	struct xm *xm = xm_of(m);

	if (xm_is_home(xm))
		return xm_home_move(xm, dst, src, nr);
	for (u32 i = 0; i < nr; i++) {
		x_access2(BASE_READ, &xm_frame(xm, src + i)->gen, 8, BASE_WRITE,
			  &xm_frame(xm, dst + i)->gen, 8, "copies the frame");
		memcpy(xm_bytes(xm, dst + i), xm_bytes(xm, src + i), PAGE_SIZE);
	}
	machine_release(m, src, nr);
	return 0;
}

/* Units walk the tables by themselves; bytes that were filled elsewhere are brought in. */
int xm_entries_changed(struct machine *m, struct mspace *s, u64 va, const u64 *entries, u32 nr,
		       unsigned level, const void *fill, bool fill_zero, bool force)
{
	struct xm *xm = xm_of(m);

	BUG_ON(level);
	if (xm_is_home(xm)) {
		xm_home_install(s, va, entries, nr, fill, fill_zero);
		return 0;
	}
	for (u32 i = 0; fill && i < nr; i++) {
		u8 *to = xm_bytes(xm, entry_pfn(entries[i]));
		const u8 *from = (const u8 *)fill + i * PAGE_SIZE;

		if (to == from)
			continue;
		x_access(BASE_WRITE, &xm_frame(xm, entry_pfn(entries[i]))->gen, 8, "fills it");
		memcpy(to, from, PAGE_SIZE);
	}
	return 0;
}

u64 xm_frame_word(struct machine *m, u64 pfn)
{
	u8 *bytes;

	(void)frame_object(xm_of(m), pfn, &bytes);
	return get((const a64_t *)(const void *)bytes);
}

void xm_frame_store(struct machine *m, u64 pfn, u64 value)
{
	u8 *bytes;
	a64_t *object = frame_object(xm_of(m), pfn, &bytes);

	x_access(BASE_WRITE, object, 8, "stores by a pin");
	if (x_noting())
		x_note("stores %#llx to frame %llu by its pin", (unsigned long long)value,
		       (unsigned long long)pfn);
	put((a64_t *)(void *)bytes, value);
}

u64 xm_frame_load(struct machine *m, u64 pfn)
{
	u8 *bytes;
	a64_t *object = frame_object(xm_of(m), pfn, &bytes);

	x_access(BASE_READ, object, 8, "loads by a pin");
	if (x_noting())
		x_note("loads from frame %llu by its pin: %#llx", (unsigned long long)pfn,
		       (unsigned long long)xm_frame_word(m, pfn));
	return xm_frame_word(m, pfn);
}
