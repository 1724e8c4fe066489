/*
 * Making entries usable in plain areas: pages of the memfd are mapped (CONTINUE), or filled and
 * mapped in one step (COPY), under the protection that their entries want.
 *
 * What the kernel does not have is installed first; that may fail, and then only what this call
 * installed goes again. Protection of what it has changes last, and cannot fail.
 *
 * A run is never larger than what one host mapping shows: pages whose frame is not the one that
 * their host mapping shows are placed first (place.c).
 */
#include "machine/host/host_internal.h"

struct plain_change {
	struct mspace *s;
	u64 page; /* of entries[0] */
	const u64 *entries;
	u32 nr;
	const char *fill; /* the new bytes, or NULL: the frames have theirs */
	bool zero;        /* they are zero */
	bool force;
	u64 made[PTRS_PER_TABLE / 64];
};

/* Where the bytes of n pages from i on come from, or NULL; *len: no more than that in one go. */
static const char *source(const struct plain_change *c, u64 offset, u64 *len)
{
	if (c->fill)
		return c->fill + offset;
	if (!c->zero)
		return NULL;
	*len = min(*len, (u64)ZERO_PAGES << PAGE_SHIFT);
	return c->s->h->zeroes;
}

/* The page is there: all that is left to see to is its protection. */
static int restate(struct plain_change *c, u64 va, bool protect)
{
	struct mspace *s = c->s;

	if (!protect)
		state_set(s, page_of(s, va), page_of(s, va) + 1, STATE_WRITABLE);
	return uffd_protect(s->h, va, PAGE_SIZE, protect);
}

/*
 * One page that the kernel did not take as it came:
 *  EEXIST: its translation is there (a spurious fault), or the frame is no hole, and then its older
 *  bytes are void; EFAULT: the frame is a hole, which is what zeroes look like.
 */
static int install_one(struct plain_change *c, u64 offset, int err, bool protect)
{
	struct host *h = c->s->h;
	u64 va = va_of(c->s, c->page) + offset, len = PAGE_SIZE;
	const char *src = source(c, offset, &len);
	struct uffd_result res;

	if (err == -EFAULT && !src)
		return uffd_copy(h, va, h->zeroes, PAGE_SIZE, protect).err;
	if (err != -EEXIST)
		return err;
	if (src) {
		err = plain_write(h, place_of(c->s, page_of(c->s, va)), src, 1);
		if (err)
			return err;
	}
	res = src ? uffd_continue(h, va, PAGE_SIZE, protect) : (struct uffd_result){ 0, -EEXIST };
	return res.err == -EEXIST ? restate(c, va, protect) : res.err;
}

/* Install entries [i, i + n), which one host mapping shows. On failure none of them is there. */
static int install_run(struct plain_change *c, u32 i, u32 n, bool protect)
{
	struct host *h = c->s->h;
	u64 base = va_of(c->s, c->page), done = (u64)i << PAGE_SHIFT,
	    end = (u64)(i + n) << PAGE_SHIFT;
	u64 piece = end - done;
	int err = 0;

	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	while (done < end && !err) {
		u64 len = min(piece, end - done);
		const char *src = source(c, done, &len);
		struct uffd_result res = src ? uffd_copy(h, base + done, src, len, protect) :
					       uffd_continue(h, base + done, len, protect);

		done += res.done;
		if (likely(!res.err))
			continue;
		if (res.err == -ENOENT && len > PAGE_SIZE) {
			/* A boundary of host mappings where none should be: page by page. */
			a64_add(&h->count.boundaries, 1);
			piece = PAGE_SIZE;
			continue;
		}
		err = install_one(c, done, res.err, protect);
		done += err ? 0 : PAGE_SIZE;
	}
	if (c->fill && stage_has(h, c->fill) && done > (u64)i << PAGE_SHIFT)
		stage_take(h, c->fill + ((u64)i << PAGE_SHIFT), (u32)(done >> PAGE_SHIFT) - i);
	if (unlikely(err)) {
		host_discard(base + ((u64)i << PAGE_SHIFT), (u64)n << PAGE_SHIFT);
		state_set(c->s, c->page + i, c->page + i + n, STATE_ABSENT);
		return -ENOMEM;
	}
	state_set(c->s, c->page + i, c->page + i + n, protect ? STATE_PROTECTED : STATE_WRITABLE);
	for (u32 k = i; k < i + n; k++)
		c->made[k / 64] |= BIT(k % 64);
	return 0;
}

static bool is_placed(const struct plain_change *c, u32 i)
{
	return place_of(c->s, c->page + i) == entry_pfn(c->entries[i]);
}

/* To be installed: not there, or in need of new bytes, another frame, or a second look. */
static bool is_missing(const struct plain_change *c, u32 i)
{
	return entry_present(c->entries[i]) &&
	       (c->force || c->fill || c->zero || !is_placed(c, i) ||
		!(state_of(c->s, c->page + i) & STATE_WRITABLE));
}

/* The end of the run of missing pages from i on that one host mapping shows, or may show. */
static u32 run_end(const struct plain_change *c, u32 i)
{
	bool placed = is_placed(c, i), protect = entry_wants_protection(c->entries[i]);
	u64 pfn = entry_pfn(c->entries[i]);
	u32 end = i + 1;

	while (end < c->nr && is_missing(c, end) && is_placed(c, end) == placed &&
	       entry_pfn(c->entries[end]) == pfn + (end - i) &&
	       entry_wants_protection(c->entries[end]) == protect)
		end++;
	return end;
}

static int install_missing(struct plain_change *c)
{
	for (u32 i = 0, end; i < c->nr; i = end) {
		int err = 0;

		end = i + 1;
		if (!is_missing(c, i))
			continue;
		end = run_end(c, i);
		/* Bytes that are void, or another frame's. A spurious fault keeps what is there. */
		if (c->fill || c->zero || !is_placed(c, i))
			host_drop(c->s, c->page + i, c->page + end);
		if (!is_placed(c, i))
			err = place_move(c->s, c->page + i, c->page + end,
					 entry_pfn(c->entries[i]));
		if (!err)
			err = install_run(c, i, end - i, entry_wants_protection(c->entries[i]));
		if (err)
			return err;
	}
	return 0;
}

static bool is_made(const struct plain_change *c, u32 i)
{
	return c->made[i / 64] >> (i % 64) & 1;
}

static void undo(struct plain_change *c)
{
	for (u32 i = 0; i < c->nr; i++)
		if (is_made(c, i))
			host_drop(c->s, c->page + i, c->page + i + 1);
}

static bool needs_protection_change(const struct plain_change *c, u32 i, bool protect)
{
	return entry_present(c->entries[i]) && !is_made(c, i) &&
	       entry_wants_protection(c->entries[i]) == protect &&
	       state_of(c->s, c->page + i) != (protect ? STATE_PROTECTED : STATE_WRITABLE);
}

static void change_protection(struct plain_change *c)
{
	for (u32 i = 0, end; i < c->nr; i = end) {
		bool protect = entry_wants_protection(c->entries[i]);

		end = i + 1;
		if (!needs_protection_change(c, i, protect))
			continue;
		while (end < c->nr && needs_protection_change(c, end, protect))
			end++;
		host_protect_pages(c->s, c->page + i, c->page + end, protect);
	}
}

int plain_entries_changed(struct mspace *s, u64 page, const u64 *entries, u32 nr, const void *fill,
			  bool fill_zero, bool force)
{
	struct plain_change c = { .s = s,
				  .page = page,
				  .entries = entries,
				  .nr = nr,
				  .zero = fill_zero,
				  .force = force };
	int err;

	BUG_ON(nr > PTRS_PER_TABLE);
	/* What was written through a window is in its frame already. */
	if (fill && stage_has(s->h, fill))
		c.fill = fill;
	/* A forked child has no plain areas, whatever its core still believes. */
	for (u32 i = 0; i < nr; i++)
		if (entry_present(entries[i]) && !place_of(s, page + i))
			return -ENOMEM;
	err = install_missing(&c);
	if (unlikely(err)) {
		undo(&c);
		return err;
	}
	change_protection(&c);
	return 0;
}
