/*
 * Areas: protection is the kernel's own (mprotect), so that a forbidden access faults natively, and
 * foreign mappings are kept apart from managed memory.
 *
 * The extents say what the kernel was really told: an area that could not be restored when it went
 * (a limit of mappings) is put right, or refused, when the addresses are used again.
 */
#include "machine/host/host_internal.h"

#include <sys/mman.h>

static int sys_mprotect(struct host *h, u64 start, u64 end, u32 prot)
{
	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	return (int)native_syscall(SYS_mprotect, start, end - start, (long)prot);
}

/* Managed memory in place of whatever somebody mapped there. */
int restore_managed(struct mspace *s, u64 start, u64 end, bool *changed)
{
	long at;
	int err;

	*changed = false;
	if (inject_fail(s->h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	at = native_syscall(SYS_mmap, start, end - start, (long)(PROT_READ | PROT_WRITE),
			    (long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED), -1l,
			    0l);
	if (at < 0)
		return (int)at;
	*changed = true;
	sys_madvise(start, end - start, MADV_NOHUGEPAGE); /* fails only where there are none */
	sys_madvise(start, end - start, MADV_DONTDUMP);
	err = uffd_register(s->h, start, end - start, false);
	if (err) /* unmanaged: nobody may use it, and it must not look like memory */
		native_syscall(SYS_mprotect, start, end - start, (long)PROT_NONE);
	else
		state_set(s, page_of(s, start), page_of(s, end), STATE_ABSENT);
	return err;
}

/* Restore what in r is not ordinary managed memory (private, read-write). The first error; the rest
 * is done all the same. */
static int make_ordinary(struct mspace *s, struct range r)
{
	int first_err = place_gone(s, r);
	bool changed; /* or not: the extents know that it is not ours yet */
	u64 va = r.start;

	while (va < r.end) {
		struct extent *e = extent_find(s, va);
		struct range part;
		u32 old;
		int err;

		if (!e || e->start >= r.end)
			break;
		part = (struct range){ max(va, e->start), min(r.end, e->end) };
		old = e->prot;
		err = extent_set(s, part, PROT_RW); /* in the middle of an extent: it may not fit */
		if (!err) {
			if (old == PROT_BITS_FOREIGN)
				err = restore_managed(s, part.start, part.end, &changed);
			else
				err = sys_mprotect(s->h, part.start, part.end, PROT_RW);
			if (err && extent_set(s, part, old))
				BUG("what fitted before must fit again");
		}
		if (!first_err)
			first_err = err;
		va = part.end;
	}
	return first_err;
}

/* The kernel's protection of an ordinary or uniformly protected range becomes prot. */
static int reprotect(struct mspace *s, struct range r, u32 old_prot, u32 prot)
{
	int err = extent_set(s, r, prot);

	if (err) {
		a64_add(&s->h->count.mappings_refused, 1);
		return err;
	}
	err = sys_mprotect(s->h, r.start, r.end, prot);
	if (unlikely(err)) {
		/* It may have got part of the way through several mappings. */
		native_syscall(SYS_mprotect, r.start, range_size(r), (long)old_prot);
		a64_add(&s->h->count.mappings_refused, 1);
		if (extent_set(s, r, old_prot))
			BUG("what fitted before must fit again");
		return -ENOMEM;
	}
	return 0;
}

static int map_foreign(struct mspace *s, struct range r)
{
	int err = extent_set(s, r, PROT_BITS_FOREIGN);

	if (err) {
		a64_add(&s->h->count.mappings_refused, 1);
		return err;
	}
	state_set(s, page_of(s, r.start), page_of(s, r.end), STATE_BUSY);
	return 0;
}

/*
 * The frame's address, or NULL when its area may not be read now. Inside a bracket the answer stays
 * true, because area_protect waits for the bracket.
 */
void *host_frame_window(struct machine *m, u64 pfn)
{
	u64 va = pfn << PAGE_SHIFT;
	struct mspace *s;
	bool readable = true;

	if (!frame_is_home(m, pfn))
		return plain_window(host_of(m), pfn);
	s = host_space_at(host_of(m), va);
	if (s) { /* whatever the area allows */
		u64 page = page_of(s, va);
		u32 word = park_of(s, page);

		if (word)
			return (void *)(uintptr_t)parked_at(s, page, word);
	}
	if (likely(!s || !a32_read_acquire(&s->any_ext)))
		return (void *)(uintptr_t)va;
	mutex_lock(&s->lock);
	/* What may be written may be read on this processor. */
	readable = extent_prot(s, va) & PROT_RW;
	mutex_unlock(&s->lock);
	return readable ? (void *)(uintptr_t)va : NULL;
}

static int map_plain(struct mspace *s, struct range r, u64 pfn, u32 prot)
{
	int err = extent_set(s, r, prot);

	if (!err) {
		err = place_area(s, r, pfn, prot);
		/* In either case the addresses are ordinary, or marked as broken. */
		if (err && extent_set(s, r, PROT_RW))
			BUG("what fitted before must fit again");
	}
	if (err)
		a64_add(&s->h->count.mappings_refused, 1);
	return err;
}

int host_area_map(struct machine *m, struct mspace *s, struct range r, unsigned prot, u64 pfn)
{
	bool plain = prot & PROT_BITS_PLAIN;
	int err;

	prot &= ~PROT_BITS_PLAIN;
	if (plain && plain_prepare(host_of(m), s))
		return -ENOMEM;
	mutex_lock(&s->lock);
	err = make_ordinary(s, r);
	/* A core read that was fixed after the last owner went may have left a page of zeroes. */
	host_drop(s, page_of(s, r.start), page_of(s, r.end));
	if (!err && plain)
		err = map_plain(s, r, pfn, prot);
	else if (!err && prot == PROT_BITS_FOREIGN)
		err = map_foreign(s, r);
	else if (!err && prot != PROT_RW)
		err = reprotect(s, r, PROT_RW, prot);
	extent_publish(s);
	mutex_unlock(&s->lock);
	return err ? -ENOMEM : 0;
}

int host_area_protect(struct machine *m, struct mspace *s, struct range r, unsigned old_prot,
		      unsigned prot)
{
	struct host *h = host_of(m);
	/* The core reads plain frames through windows, whatever the area allows. */
	bool readers = (old_prot & ~prot & PROT_BITS_READ) && !(prot & PROT_BITS_PLAIN);
	int err;

	prot &= ~PROT_BITS_PLAIN;
	old_prot &= ~PROT_BITS_PLAIN;
	if (old_prot == prot)
		return 0;
	if (readers)
		host_readers_stop(h);
	mutex_lock(&s->lock);
	err = place_mend(s, r);
	if (!err)
		err = reprotect(s, r, old_prot, prot);
	if (!err)
		place_mended(s, r);
	extent_publish(s);
	mutex_unlock(&s->lock);
	if (readers)
		host_readers_go(h);
	return err;
}

int host_area_reset(struct machine *m, struct mspace *s, struct range r, u64 pfn)
{
	u64 first = page_of(s, r.start), last = page_of(s, r.end);

	(void)m;
	/* Before the kernel drops them with their mapping (host_internal.h). */
	host_drop(s, first, last);
	return place_move(s, first, last, pfn);
}

/*
 * A core thread may still be reading a frame of an area that goes (evicting what was unmapped under
 * it), and such a read puts a page of zeroes there, which anybody could see where there is no area
 * any more.
 * Brackets that open later do not concern these pages: nothing maps them. So it is enough to wait
 * for those that are open now, and mostly there are none.
 */
void host_area_unmap(struct machine *m, struct mspace *s, struct range r, unsigned prot)
{
	struct host *h = host_of(m);

	(void)prot; /* the extents know better */
	if (host_readers_any(h)) {
		host_readers_stop(h);
		host_readers_go(h);
	}
	mutex_lock(&s->lock);
	host_empty(s, page_of(s, r.start), page_of(s, r.end));
	/* A failure is not lost: the extents keep it, and area_map tries again. */
	if (make_ordinary(s, r))
		a64_add(&s->h->count.mappings_refused, 1);
	extent_publish(s);
	mutex_unlock(&s->lock);
}
