/*
 * Where plain areas are mapped from: which frame each page's host mapping shows.
 *
 * A word for each 2 MiB block of the region, and behind those a word for each page, of which the
 * kernel holds only what was used. A block word is 0 (nothing plain), the frame of the block's
 * first page (all 512 follow it), or PLACE_DETAIL: ask the page's word. So an area costs a word a
 * block, and a page that lies elsewhere one page of words for its block; whatever their number, a
 * change looks only at its own pages.
 *
 * Host mappings: one more than the pages at which something changes, be it the place (not the
 * predecessor's next frame, or plain beside private) or the extents' protection (extent.c).
 *
 * A change is mapped without access first, then registered, and only then made accessible: else a
 * store of another thread could slip in between unmanaged, to a page whose entry does not say DIRTY
 * or that others share. Such an access raises SIGSEGV and is retried (host_trap_info). What got
 * stuck half way is PLACE_BROKEN: it shows the frame, but nobody may look until it is placed anew.
 *
 * Who changes a page's word: the holder of its entry lock, or of the space for writing while the
 * area comes or goes; under (M) besides. Each of them may read it without (M).
 */
#include "machine/host/host_internal.h"

#include <sys/mman.h>

static a64_t *blocks_of(const struct mspace *s)
{
	return aptr_read_acquire(&((struct mspace *)(uintptr_t)s)->place);
}

static u64 nr_pages(const struct mspace *s)
{
	return range_size(s->r) >> PAGE_SHIFT;
}

size_t place_bytes(u64 region)
{
	u64 pages = region >> PAGE_SHIFT;

	return ALIGN_UP((pages / PTRS_PER_TABLE + pages) * sizeof(u64), PAGE_SIZE);
}

/* ---- counting ---- */
static bool breaks(u64 before, u64 here)
{
	return (before || here) && before + 1 != here;
}

bool place_breaks_at(const struct mspace *s, u64 page)
{
	return blocks_of(s) && page && page < nr_pages(s) &&
	       breaks(place_of(s, page - 1), place_of(s, page));
}

/* Pages in (first, last) at which the place changes, and nothing else. */
static u32 breaks_between(struct mspace *s, u64 first, u64 last)
{
	a64_t *blocks = blocks_of(s);
	u32 n = 0;

	for (u64 p = first + 1; p < last; p++) {
		if (!(a64_read(&blocks[p / PTRS_PER_TABLE]) & PLACE_DETAIL)) {
			p = ALIGN_UP(p, (u64)PTRS_PER_TABLE); /* inside a block nothing changes */
			if (p >= last)
				break;
		}
		n += place_breaks_at(s, p) && !extent_breaks_at(s, va_of(s, p));
	}
	return n;
}

/* By how much the number of host mappings grows if [first, last) shows `place` and what follows it
 * (0: nothing plain). */
static s64 growth(struct mspace *s, u64 first, u64 last, u64 place)
{
	u64 before = first ? place_of(s, first - 1) : 0;
	u64 behind = last < nr_pages(s) ? place_of(s, last) : 0;
	u64 end = place ? place + (last - first) - 1 : 0;
	bool prot_first = extent_breaks_at(s, va_of(s, first));
	bool prot_last = extent_breaks_at(s, va_of(s, last));
	s64 is = breaks_between(s, first, last), becomes = 0;

	is += prot_first || place_breaks_at(s, first);
	is += prot_last || place_breaks_at(s, last);
	becomes += prot_first || (first && breaks(before, place));
	becomes += prot_last || (last < nr_pages(s) && breaks(end, behind));
	return becomes - is;
}

static bool fits(struct mspace *s, u64 first, u64 last, u64 place)
{
	return mappings_fit(s, growth(s, first, last, place));
}

/* ---- changing ---- */
static u64 nth(u64 place, u64 n)
{
	return place ? place + n : 0;
}

/* The block's pages get words of their own. */
static void to_detail(struct mspace *s, u64 block)
{
	a64_t *word = &blocks_of(s)[block];
	u64 first = block * PTRS_PER_TABLE, old = a64_read(word);

	if (old & PLACE_DETAIL)
		return;
	for (u64 i = 0; i < PTRS_PER_TABLE; i++)
		a64_set(place_word(s, blocks_of(s), first + i), nth(old, i));
	a64_set_release(word, PLACE_DETAIL);
}

static void set_words(struct mspace *s, u64 first, u64 last, u64 place)
{
	a64_t *blocks = blocks_of(s);

	for (u64 p = first; p < last;) {
		u64 block = p / PTRS_PER_TABLE;
		u64 stop = min(last, (block + 1) * PTRS_PER_TABLE);
		u64 here = nth(place, p - first);

		if (stop - p == PTRS_PER_TABLE) {
			a64_set_release(&blocks[block], here);
		} else if (a64_read(&blocks[block]) || here) {
			to_detail(s, block);
			for (u64 k = p; k < stop; k++)
				a64_set(place_word(s, blocks, k), nth(here, k - p));
		}
		p = stop;
	}
}

/* The kernel maps [first, last) so now. */
static void set(struct mspace *s, u64 first, u64 last, u64 place)
{
	mappings_add(s, growth(s, first, last, place));
	for (u64 p = first; s->nr_broken && p < last; p++)
		s->nr_broken -= !!(place_of(s, p) & PLACE_BROKEN);
	if (place & PLACE_BROKEN)
		s->nr_broken += last - first;
	set_words(s, first, last, place);
	if (place && s->plain_first == s->plain_last) {
		s->plain_first = first;
		s->plain_last = last;
	} else if (place) {
		s->plain_first = min(s->plain_first, first);
		s->plain_last = max(s->plain_last, last);
	}
}

bool place_next(struct mspace *s, u64 *first, u64 *last)
{
	a64_t *blocks = blocks_of(s);
	u64 stop = min(*last, s->plain_last), p = max(*first, s->plain_first);

	if (!blocks)
		return false;
	while (p < stop && !place_of(s, p))
		p = a64_read(&blocks[p / PTRS_PER_TABLE]) ? p + 1 :
							    ALIGN_UP(p + 1, (u64)PTRS_PER_TABLE);
	if (p >= stop)
		return false;
	*first = p;
	while (p < stop && place_of(s, p))
		p = a64_read(&blocks[p / PTRS_PER_TABLE]) & PLACE_DETAIL ?
			    p + 1 :
			    ALIGN_UP(p + 1, (u64)PTRS_PER_TABLE);
	*last = min(p, stop);
	return true;
}

/*
 * The kernel maps [first, last) from the memfd. *mapped: it has done so; on failure after that the
 * pages are inaccessible.
 */
static int map_memfd(struct mspace *s, u64 first, u64 last, u64 pfn, u32 prot, bool *mapped)
{
	struct host *h = s->h;
	u64 va = va_of(s, first), size = (last - first) << PAGE_SHIFT;
	long at;
	int err;

	*mapped = false;
	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	at = memfd_map(h, va, size, pfn, PROT_NONE);
	if (at < 0)
		return -ENOSPC;
	*mapped = true;
	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	err = uffd_register(h, va, size, true);
	if (err || !prot)
		return err;
	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	return (int)native_syscall(SYS_mprotect, va, size, (long)prot);
}

/* ---- areas ---- */
int place_area(struct mspace *s, struct range r, u64 pfn, u32 prot)
{
	u64 first = page_of(s, r.start), last = page_of(s, r.end);
	bool mapped;
	int err;

	lock_assert_held(&s->lock);
	if (!blocks_of(s)) {
		void *words = sys_map(place_bytes(range_size(s->r)));

		if (!words)
			return -ENOMEM;
		aptr_set_release(&s->place, words);
	}
	if (!fits(s, first, last, pfn))
		return -ENOMEM;
	err = map_memfd(s, first, last, pfn, prot, &mapped);
	if (mapped)
		set(s, first, last, err ? pfn | PLACE_BROKEN : pfn);
	/* In the worst case it stays broken, and is put right when the addresses are used again. */
	if (mapped && err && place_gone(s, r))
		a64_add(&s->h->count.mappings_refused, 1);
	return err ? -ENOMEM : 0;
}

int place_gone(struct mspace *s, struct range r)
{
	u64 first = page_of(s, r.start), end = page_of(s, r.end), last = end;
	int first_err = 0;

	lock_assert_held(&s->lock);
	for (; place_next(s, &first, &last); first = last, last = end) {
		u64 va = va_of(s, first);
		bool changed = false;
		int err = -ENOMEM;

		if (fits(s, first, last, 0))
			err = restore_managed(s, va, va_of(s, last), &changed);
		if (changed)
			set(s, first, last, err ? plain_frame(va) | PLACE_BROKEN : 0);
		/* It is read-write now. */
		if (!err)
			err = extent_set(s, (struct range){ va, va_of(s, last) }, PROT_RW);
		if (!first_err)
			first_err = err;
	}
	return first_err;
}

/* What is broken in r gets its registration after all, before anybody makes it accessible. */
int place_mend(struct mspace *s, struct range r)
{
	u64 first = page_of(s, r.start), last = page_of(s, r.end);
	int err = 0;

	lock_assert_held(&s->lock);
	for (u64 p = first; s->nr_broken && p < last && !err; p++)
		if (place_of(s, p) & PLACE_BROKEN)
			err = uffd_register(s->h, va_of(s, p), PAGE_SIZE, true);
	return err;
}

/* After that r got its protection: nothing of it is broken any more. */
void place_mended(struct mspace *s, struct range r)
{
	u64 first = page_of(s, r.start), last = page_of(s, r.end);

	lock_assert_held(&s->lock);
	for (u64 p = first; s->nr_broken && p < last; p++)
		if (place_of(s, p) & PLACE_BROKEN)
			set(s, p, p + 1, place_of(s, p) & ~PLACE_BROKEN);
}

/* ---- single pages ---- */
int place_move(struct mspace *s, u64 first, u64 last, u64 pfn)
{
	int err = -ENOSPC;
	bool mapped;

	mutex_lock(&s->lock);
	if (fits(s, first, last, pfn)) {
		err = map_memfd(s, first, last, pfn, extent_prot(s, va_of(s, first)), &mapped);
		if (mapped)
			set(s, first, last, err ? pfn | PLACE_BROKEN : pfn);
	}
	mutex_unlock(&s->lock);
	a64_add(err ? &s->h->count.places_refused : &s->h->count.pages_placed, last - first);
	return err;
}

bool place_denied(struct mspace *s, u64 va, bool write)
{
	u64 page = page_of(s, va);
	bool denied = false;

	if (!place_of(s, page))
		return false;
	mutex_lock(&s->lock);
	denied = place_of(s, page) && (extent_prot(s, va) & (write ? PROT_BITS_WRITE : PROT_RW));
	mutex_unlock(&s->lock);
	return denied;
}

/* In a child of fork these addresses are empty: ordinary memory, protected as the extents say. */
int place_forked_child(struct mspace *s)
{
	u64 first = 0, end = range_size(s->r) >> PAGE_SHIFT, last = end;
	bool changed;
	int err = 0;

	for (; !err && place_next(s, &first, &last); first = last, last = end) {
		u64 va = va_of(s, first), stop = va_of(s, last);

		err = restore_managed(s, va, stop, &changed);
		set(s, first, last, 0);
		while (!err && va < stop) {
			struct extent *e = extent_find(s, va);
			u64 part = e && e->start <= va ? min(e->end, stop) :
							 min(e ? e->start : stop, stop);

			err = (int)native_syscall(SYS_mprotect, va, part - va,
						  (long)extent_prot(s, va));
			va = part;
		}
	}
	return err;
}
