/*
 * Moving the bytes of frames to other addresses (remap).
 *
 * The caller holds the entry locks of both sides, has cleared the source's entries and not yet set
 * the destination's. WRITABLE pages travel with the kernel's MOVE where it can; it leaves them
 * writable, so PROTECTED ones are copied instead: protecting them after a move would let a store
 * through before, to a page whose entry does not say DIRTY. MOVE also refuses pages that are shared
 * after a fork (EBUSY) and mappings that are not both read-write (EINVAL): copied, too.
 *
 * Parked pages stay parked: what is in the shadow moves to the other one's, what is in a slot gets
 * another owner.
 *
 * Copies come first, because they may fail and are undone easily: until the end the source has its
 * bytes. A source that is still WRITABLE is protected before it is copied, so that no store slips
 * in between.
 */
#include "machine/host/host_internal.h"

struct move {
	struct host *h;
	struct mspace *ss, *ds;
	u64 src, dst; /* page numbers in their regions */
};

/* The end of the run of pages from i on that have the same state. */
static u32 same_state_end(const struct move *mv, u32 i, u32 nr)
{
	u64 state = state_of(mv->ss, mv->src + i);

	while (++i < nr && state_of(mv->ss, mv->src + i) == state)
		;
	return i;
}

static int copy_run(struct move *mv, u32 first, u32 last, bool protect)
{
	u64 va = va_of(mv->ss, mv->src + first);

	if (!protect && uffd_protect(mv->h, va, (u64)(last - first) << PAGE_SHIFT, true))
		return -ENOMEM;
	a64_add(&mv->h->count.move_copies, last - first);
	return host_install(mv->ds, mv->dst + first, last - first, (const char *)(uintptr_t)va,
			    protect);
}

/* MOVE [first, last), all WRITABLE. What the kernel refuses is copied. */
static int move_run(struct move *mv, u32 first, u32 last)
{
	if (inject_fail(mv->h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	while (first < last) {
		u64 len = (u64)(last - first) << PAGE_SHIFT;
		u64 to = va_of(mv->ds, mv->dst + first);
		u64 from = va_of(mv->ss, mv->src + first);
		struct uffd_result res = uffd_move(mv->h, to, from, len);
		u32 n = (u32)(res.done >> PAGE_SHIFT);
		int err;

		state_set(mv->ds, mv->dst + first, mv->dst + first + n, STATE_WRITABLE);
		first += n;
		if (!res.err)
			break;
		if (res.err == -EEXIST) {
			a64_add(&mv->h->count.strays, 1);
			host_discard(to + res.done, PAGE_SIZE);
			continue;
		}
		if (res.err == -ENOMEM)
			return -ENOMEM;
		/* One page is shared, or the mappings do not allow it: copy that one, and try on.
		 */
		err = copy_run(mv, first, first + 1, false);
		if (err)
			return err;
		first++;
	}
	return 0;
}

/* ---- parked pages ---- */
static void owner(struct mspace *s, u64 page, u32 n, u32 word)
{
	park_mark(s, page, page + n, word);
	a64_add(&s->nr_parked, word ? n : -(u64)n);
}

/* [i, end), parked in the shadow. What is copied has a word on both sides. */
static int move_shadow(struct move *mv, u32 i, u32 end)
{
	while (i < end) {
		u64 from = va_of(mv->ss, mv->src + i) + mv->ss->shadow, done;
		u64 to = va_of(mv->ds, mv->dst + i) + mv->ds->shadow;
		struct uffd_result res = { 0, -ENOMEM };
		u32 n;

		if (!inject_fail(mv->h->m.inject, INJECT_MACHINE_CALL))
			res = uffd_move(mv->h, to, from, (u64)(end - i) << PAGE_SHIFT);
		n = (u32)(res.done >> PAGE_SHIFT);
		owner(mv->ds, mv->dst + i, n, PARK_SHADOW);
		owner(mv->ss, mv->src + i, n, PARK_NONE);
		i += n;
		if (!res.err)
			continue;
		if (res.err == -EEXIST) {
			host_discard(to + res.done, PAGE_SIZE);
			continue;
		}
		if (res.err == -ENOMEM || inject_fail(mv->h->m.inject, INJECT_MACHINE_CALL) ||
		    uffd_fill(mv->h, to + res.done, (const char *)(uintptr_t)from + res.done,
			      PAGE_SIZE, &done))
			return -ENOMEM;
		a64_add(&mv->h->count.move_copies, 1);
		owner(mv->ds, mv->dst + i, 1, PARK_SHADOW);
		i++;
	}
	return 0;
}

/* Those in slots are not touched. */
static int move_parked(struct move *mv, u32 nr)
{
	u64 last = mv->src + nr;
	int err = 0;

	for (u64 p = mv->src, end; !err && (p = park_find(mv->ss, p, last)) < last; p = end) {
		end = park_run_end(mv->ss, p, last);
		if (park_of(mv->ss, p) == PARK_SHADOW)
			err = move_shadow(mv, (u32)(p - mv->src), (u32)(end - mv->src));
	}
	return err;
}

static void undo_parked(struct move *mv, u32 nr)
{
	u64 last = mv->dst + nr, unused;

	for (u64 p = mv->dst; (p = park_find(mv->ds, p, last)) < last; p++) {
		u64 src = mv->src + (p - mv->dst);
		u64 from = va_of(mv->ds, p) + mv->ds->shadow;
		u64 to = va_of(mv->ss, src) + mv->ss->shadow;

		if (park_of(mv->ss, src)) /* it was copied */
			continue;
		if (uffd_move(mv->h, to, from, PAGE_SIZE).err)
			BUG_ON(uffd_fill(mv->h, to, (const char *)(uintptr_t)from, PAGE_SIZE,
					 &unused));
		owner(mv->ss, src, 1, PARK_SHADOW);
	}
}

static void move_slots(struct move *mv, u32 nr)
{
	u64 last = mv->src + nr;

	for (u64 p = mv->src; (p = park_find(mv->ss, p, last)) < last; p++) {
		u32 word = park_of(mv->ss, p);

		if (word < PARK_SLOT)
			continue;
		owner(mv->ds, mv->dst + (p - mv->src), 1, word);
		owner(mv->ss, p, 1, PARK_NONE);
	}
}

/* Give WRITABLE pages back to the source: those that still are there (copied) only lose protection.
 */
static void undo(struct move *mv, u32 nr)
{
	undo_parked(mv, nr);
	for (u32 i = 0; i < nr; i++) {
		u64 from = va_of(mv->ds, mv->dst + i), to = va_of(mv->ss, mv->src + i);
		struct uffd_result res;

		if (state_of(mv->ss, mv->src + i) != STATE_WRITABLE)
			continue;
		if (uffd_probe_zero(mv->h, to) == 0) {
			host_discard(to, PAGE_SIZE);
			res = uffd_move(mv->h, to, from, PAGE_SIZE);
			if (res.err)
				res = uffd_copy(mv->h, to, (void *)(uintptr_t)from, PAGE_SIZE,
						false);
			BUG_ON(res.err); /* neither a new table nor a page is needed to put it back
					  */
		} else if (uffd_protect(mv->h, to, PAGE_SIZE, false)) {
			BUG("a source page cannot be made writable again");
		}
	}
	host_drop(mv->ds, mv->dst, mv->dst + nr);
}

static int move_all(struct move *mv, u32 nr)
{
	for (u32 i = 0, end; i < nr; i = end) {
		int err = 0;

		end = same_state_end(mv, i, nr);
		if (state_of(mv->ss, mv->src + i) == STATE_PROTECTED)
			err = copy_run(mv, i, end, true);
		else if (state_of(mv->ss, mv->src + i) == STATE_WRITABLE && !mv->h->has_move)
			err = copy_run(mv, i, end, false);
		if (err)
			goto fail;
	}
	for (u32 i = 0, end; i < nr && mv->h->has_move; i = end) {
		end = same_state_end(mv, i, nr);
		if (state_of(mv->ss, mv->src + i) != STATE_WRITABLE)
			continue;
		if (move_run(mv, i, end))
			goto fail;
	}
	if (move_parked(mv, nr))
		goto fail;
	return 0;
fail:
	undo(mv, nr);
	return -ENOMEM;
}

static int move_home(struct host *h, u64 dst_pfn, u64 src_pfn, u32 nr)
{
	struct move mv = {
		.h = h,
		.ss = host_space_at(h, src_pfn << PAGE_SHIFT),
		.ds = host_space_at(h, dst_pfn << PAGE_SHIFT),
	};

	BUG_ON(!mv.ss || !mv.ds);
	mv.src = page_of(mv.ss, src_pfn << PAGE_SHIFT);
	mv.dst = page_of(mv.ds, dst_pfn << PAGE_SHIFT);
	host_drop(mv.ds, mv.dst, mv.dst + nr);
	if (move_all(&mv, nr))
		return -ENOMEM;
	move_slots(&mv, nr);
	host_drop(mv.ss, mv.src, mv.src + nr);
	return 0;
}

int host_frames_move(struct machine *m, u64 dst_pfn, u64 src_pfn, u32 nr)
{
	bool home = frame_is_home(m, src_pfn);

	BUG_ON(frame_is_home(m, dst_pfn) != home);
	return home ? move_home(host_of(m), dst_pfn, src_pfn, nr) :
		      plain_move(host_of(m), dst_pfn, src_pfn, nr);
}
