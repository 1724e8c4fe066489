/*
 * Making entries usable: filling pages, changing their write protection, dropping them.
 *
 * The invariant kept here: a page whose entry is not both WRITE and DIRTY is write-protected in the
 * kernel's table from the moment it is there (COPY installs it so in one step), so that its first
 * store traps.
 */
#include "machine/host/host_internal.h"

#define DROP_RANGES 32u /* on the stack */

/* A page is there though its state says not: left by a fork or by somebody's own mapping calls. */
static void remove_stray(struct mspace *s, u64 va)
{
	a64_add(&s->h->count.strays, 1);
	host_discard(va, PAGE_SIZE);
}

int host_install(struct mspace *s, u64 page, u64 n, const char *src, bool protect)
{
	u64 va = va_of(s, page), size = n << PAGE_SHIFT, done = 0, piece = size;

	if (inject_fail(s->h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	while (done < size) {
		u64 len = min(piece, size - done);
		struct uffd_result res;

		if (!src)
			len = min(len, (u64)ZERO_PAGES << PAGE_SHIFT);
		res = uffd_copy(s->h, va + done, src ? src + done : s->h->zeroes, len, protect);
		done += res.done;
		if (likely(!res.err))
			continue;
		if (res.err == -EEXIST) {
			remove_stray(s, va + done);
			continue;
		}
		if (res.err == -ENOENT && len > PAGE_SIZE) {
			/* One call cannot cross host mappings: page by page finds the boundary. */
			a64_add(&s->h->count.boundaries, 1);
			piece = PAGE_SIZE;
			continue;
		}
		BUG_ON(res.err == -EFAULT); /* our own buffer */
		if (done)
			host_discard(va, done);
		return -ENOMEM;
	}
	state_set(s, page, page + n, protect ? STATE_PROTECTED : STATE_WRITABLE);
	return 0;
}

/* The blocks that pages [first, last) lie in, as bits of mspace.dropping. */
static u64 drop_blocks(u64 first, u64 last)
{
	u64 n = (last - 1) / PTRS_PER_TABLE - first / PTRS_PER_TABLE + 1;
	unsigned at = first / PTRS_PER_TABLE % DROP_BLOCKS;
	u64 bits;

	if (n >= DROP_BLOCKS)
		return ~0ull;
	bits = BIT(n) - 1;
	return at ? bits << at | bits >> (DROP_BLOCKS - at) : bits;
}

static void dropping_add(struct mspace *s, u64 blocks, u32 v)
{
	for (; blocks; blocks &= blocks - 1)
		a32_fetch_add(&s->dropping[__builtin_ctzll(blocks)], v);
}

static bool dropping_any(struct mspace *s, u64 blocks)
{
	for (; blocks; blocks &= blocks - 1)
		if (a32_read_acquire(&s->dropping[__builtin_ctzll(blocks)]))
			return true;
	return false;
}

/* Ranges of one space whose states say ABSENT already and that the kernel still has. */
struct drops {
	struct mspace *s;
	u64 blocks; /* counted in s->dropping */
	u32 n;
	struct iovec iov[DROP_RANGES];
};

static void drops_init(struct drops *d)
{
	d->s = NULL;
	d->blocks = 0;
	d->n = 0;
}

static void drops_flush(struct drops *d)
{
	if (!d->n)
		return;
	host_discard_many(d->s->h, d->iov, d->n);
	dropping_add(d->s, d->blocks, (u32)-1);
	d->blocks = 0;
	d->n = 0;
}

/* The populated pages of [first, last), as host_drop_home. */
static void drops_add_home(struct drops *d, struct mspace *s, u64 first, u64 last)
{
	u64 p = first;

	if (d->s != s)
		drops_flush(d);
	d->s = s;
	while ((p = state_find_populated(s, p, last, false)) < last) {
		u64 end = state_run_end(s, p, last), blocks;

		if (end <= p) /* gone meanwhile: only a fixed core read can do that */
			end = p + 1;
		blocks = drop_blocks(p, end);
		dropping_add(s, blocks & ~d->blocks, 1);
		d->blocks |= blocks;
		/* Before the kernel drops them (host_internal.h). */
		state_set(s, p, end, STATE_ABSENT);
		d->iov[d->n++] =
			(struct iovec){ (void *)(uintptr_t)va_of(s, p), (end - p) << PAGE_SHIFT };
		if (d->n == DROP_RANGES)
			drops_flush(d);
		p = end;
	}
}

/* The same, and the parked pages: no access reaches those, so nobody asks whether they are gone. */
static void drops_add(struct drops *d, struct mspace *s, u64 first, u64 last)
{
	u64 end = last;
	u32 word;

	drops_add_home(d, s, first, last);
	for (; park_take_run(s, &first, &end, &word); first = end, end = last) {
		if (word >= PARK_SLOT) {
			slots_drop(s->h, word - PARK_SLOT, (u32)(end - first));
			continue;
		}
		d->iov[d->n++] = (struct iovec){ (void *)(uintptr_t)parked_at(s, first, word),
						 (end - first) << PAGE_SHIFT };
		if (d->n == DROP_RANGES)
			drops_flush(d);
	}
}

void host_drop_home(struct mspace *s, u64 first, u64 last)
{
	struct drops d;

	drops_init(&d);
	drops_add_home(&d, s, first, last);
	drops_flush(&d);
}

void host_drop(struct mspace *s, u64 first, u64 last)
{
	struct drops d;

	drops_init(&d);
	drops_add(&d, s, first, last);
	drops_flush(&d);
}

/*
 *   T1: host_empty (zap)                 T2: host_drop (reclaim releases a frame)
 *                                        dropping[its block]++
 *                                        state ABSENT
 *   state ABSENT: nothing to drop
 *   dropping[] == 0? then T2 is through,
 *   and the page gone; else drop it too
 *                                        the kernel drops the page
 *                                        dropping[its block]--
 */
void host_empty(struct mspace *s, u64 first, u64 last)
{
	host_drop(s, first, last);
	smp_mb(); /* the states were read before */
	if (likely(!dropping_any(s, drop_blocks(first, last))))
		return;
	for (u64 p = first; (p = state_skip_untouched(s, p, last)) < last;) {
		u64 end = state_not_busy_end(s, p, last);

		if (end > p)
			host_discard(va_of(s, p), (end - p) << PAGE_SHIFT);
		p = max(end, p + 1);
	}
}

/* The end of the run of present entries from i on that want the same protection. */
static u32 same_end(const u64 *entries, u32 i, u32 nr)
{
	bool protect = entry_wants_protection(entries[i]);
	u32 end = i + 1;

	while (end < nr && entry_present(entries[end]) &&
	       entry_wants_protection(entries[end]) == protect)
		end++;
	return end;
}

static int fill_entries(struct mspace *s, u64 page, const u64 *entries, u32 nr, const char *fill)
{
	for (u32 i = 0, end; i < nr; i = end) {
		int err;

		end = i + 1;
		if (!entry_present(entries[i]))
			continue;
		end = same_end(entries, i, nr);
		host_drop(s, page + i, page + end);
		err = host_install(s, page + i, end - i,
				   fill ? fill + ((u64)i << PAGE_SHIFT) : NULL,
				   entry_wants_protection(entries[i]));
		if (likely(!err))
			continue;
		/* Only what this call put there: the frames of other entries may be alive unmapped.
		 */
		for (u32 k = 0; k < i; k = end) {
			end = k + 1;
			if (!entry_present(entries[k]))
				continue;
			end = same_end(entries, k, i);
			host_drop(s, page + k, page + end);
		}
		return err;
	}
	return 0;
}

/* The kernel's part for pages [first, last), whatever mappings they lie in. */
static void protect_range(struct mspace *s, u64 first, u64 last, bool on)
{
	int err = uffd_protect(s->h, va_of(s, first), (last - first) << PAGE_SHIFT, on);

	if (unlikely(err == -ENOENT)) {
		a64_add(&s->h->count.boundaries, 1);
		err = 0;
		for (u64 p = first; p < last && (!err || err == -ENOENT); p++)
			err = uffd_protect(s->h, va_of(s, p), PAGE_SIZE, on);
		if (err == -ENOENT)
			err = 0; /* not managed memory any more: its owner's business */
	}
	BUG_ON(err);
}

/* A state says WRITABLE before stores may go through, and PROTECTED after none does. */
void host_protect_pages(struct mspace *s, u64 first, u64 last, bool on)
{
	if (!on)
		state_set(s, first, last, STATE_WRITABLE);
	protect_range(s, first, last, on);
	if (on)
		state_set(s, first, last, STATE_PROTECTED);
}

/* A spurious fault: ask the kernel whether the page is there at all, then set its protection anew.
 */
static int restate_page(struct mspace *s, u64 page, bool protect)
{
	u64 va = va_of(s, page);
	int err = uffd_probe_zero(s->h, va);

	if (WARN_ON(err == 0)) {
		/* Its bytes are gone, and nobody told us. */
		host_discard(va, PAGE_SIZE);
		return host_install(s, page, 1, NULL, protect);
	}
	if (err != -EEXIST)
		return -ENOMEM;
	host_protect_pages(s, page, page + 1, protect);
	return 0;
}

static int change_protection(struct mspace *s, u64 page, const u64 *entries, u32 nr)
{
	for (u32 i = 0; i < nr;) {
		u32 end, first, last;
		bool protect;

		if (!entry_present(entries[i])) {
			i++;
			continue;
		}
		end = same_end(entries, i, nr);
		protect = entry_wants_protection(entries[i]);
		first = end;
		last = i;
		for (u32 k = i; k < end; k++) {
			u64 state = state_of(s, page + k);

			if (unlikely(WARN_ON(!(state & STATE_WRITABLE)))) {
				int err = host_install(s, page + k, 1, NULL, protect);

				if (err)
					return err;
				continue;
			}
			if (state == (protect ? STATE_PROTECTED : STATE_WRITABLE))
				continue;
			first = min(first, k);
			last = k + 1;
		}
		if (first < last)
			host_protect_pages(s, page + first, page + last, protect);
		i = end;
	}
	return 0;
}

/* The entries of one call lie in one area. */
static bool all_home(struct machine *m, u64 va, const u64 *entries, u32 nr)
{
	bool home = true;

	for (u32 i = 0; i < nr && home; i++)
		home = !entry_present(entries[i]) || frame_is_home(m, entry_pfn(entries[i]));
	for (u32 i = 0; i < nr; i++)
		DEBUG_ON(home && entry_present(entries[i]) &&
			 entry_pfn(entries[i]) != (va >> PAGE_SHIFT) + i);
	(void)va;
	return home;
}

int host_entries_changed(struct machine *m, struct mspace *s, u64 va, const u64 *entries, u32 nr,
			 unsigned level, const void *fill, bool fill_zero, bool force)
{
	u64 page = page_of(s, va);

	if (WARN_ON(level != 0)) /* no CAP_HUGE */
		return -ENOMEM;
	DEBUG_ON(va < s->r.start || va + ((u64)nr << PAGE_SHIFT) > s->r.end);
	if (inject_fail(m->inject, INJECT_ENTRIES))
		return -ENOMEM;
	if (!all_home(m, va, entries, nr))
		return plain_entries_changed(s, page, entries, nr, fill, fill_zero, force);
	if (fill || fill_zero)
		return fill_entries(s, page, entries, nr, fill);
	if (unlikely(park_find(s, page, page + nr) < page + nr)) {
		int err = park_come_home(s, page, entries, nr);

		if (err)
			return err;
	}
	if (likely(!force))
		return change_protection(s, page, entries, nr);
	for (u32 i = 0; i < nr; i++) {
		int err = entry_present(entries[i]) ?
				  restate_page(s, page + i, entry_wants_protection(entries[i])) :
				  0;

		if (err)
			return err;
	}
	return 0;
}

/* The run of plain spans from i on that follow each other; which the last of them is. */
static u32 release_plain(struct host *h, const struct frame_span *spans, u32 i, u32 n)
{
	u64 pfn = spans[i].pfn, end = pfn + spans[i].nr;

	for (; i + 1 < n && spans[i + 1].pfn == end; i++)
		end += spans[i + 1].nr;
	plain_release(h, pfn, end - pfn);
	return i;
}

void host_frames_release(struct machine *m, const struct frame_span *spans, u32 n)
{
	struct drops d;

	drops_init(&d);
	for (u32 i = 0; i < n; i++) {
		struct mspace *s;
		u64 page;

		if (!frame_is_home(m, spans[i].pfn)) {
			i = release_plain(host_of(m), spans, i, n);
			continue;
		}
		s = host_space_at(host_of(m), spans[i].pfn << PAGE_SHIFT);
		BUG_ON(!s);
		page = page_of(s, spans[i].pfn << PAGE_SHIFT);
		drops_add(&d, s, page, page + spans[i].nr);
	}
	drops_flush(&d);
}
