/*
 * Flushes. The kernel invalidates the processors' TLBs itself when it protects or drops pages,
 * before its call returns; what is left to do here is to make one call of a range.
 */
#include "machine/host/host_internal.h"

#include "base_backend.h"

#ifdef QUIRE_DEBUG
/* No access gets through any more, and so the bytes go: no entry may still name them. */
static void check_unmapped(struct mspace *s, u64 first, u64 last)
{
	if (!s->root)
		return;
	base_rcu_read_lock();
	for (u64 p = first;
	     (p = min(state_find_populated(s, p, last, false), park_find(s, p, last))) < last;
	     p++) {
		a64_t *table = s->root;
		u64 e = 0, va = va_of(s, p);

		for (unsigned level = 4; level-- > 0;) {
			e = a64_read(&table[entry_index(va, level)]);
			if (!entry_present(e) || (e & ENTRY_HUGE) || !level)
				break;
			table = entry_table(e);
		}
		BUG_ON((e & (ENTRY_PRESENT | ENTRY_PROTNONE)) && entry_pfn(e) == va >> PAGE_SHIFT);
	}
	base_rcu_read_unlock();
}
#else
static void check_unmapped(struct mspace *s, u64 first, u64 last)
{
	(void)s;
	(void)first;
	(void)last;
}
#endif

/* Protect what lies between the first and the last unprotected page; what is in between may take
 * it. */
static void protect_span(struct mspace *s, u64 first, u64 last)
{
	u64 p = first;

	while ((p = state_find_populated(s, p, last, true)) < last) {
		u64 end = state_run_end(s, p, last);
		struct state_snapshot snap;
		int err;

		if (end <= p)
			end = p + 1;
		state_snapshot(s, p, end, &snap);
		err = uffd_protect(s->h, va_of(s, p), (end - p) << PAGE_SHIFT, true);
		if (unlikely(err == -ENOENT)) {
			/* A foreign mapping that nobody announced lies in between. */
			a64_add(&s->h->count.boundaries, 1);
			err = 0;
			for (u64 k = p; k < end; k++)
				if ((state_of(s, k) & STATE_WRITABLE) && !err)
					err = uffd_protect(s->h, va_of(s, k), PAGE_SIZE, true);
			if (err == -ENOENT)
				err = 0;
		}
		BUG_ON(err); /* a store could get through */
		state_protect(s, p, end, &snap);
		p = end;
	}
}

void host_tlb_flush(struct machine *m, struct mspace *s, const struct tlb_range *r)
{
	u64 start = max(r->start, s->r.start), end = min(r->end, s->r.end);
	u64 first, last;

	(void)m;
	if (start >= end)
		return;
	first = page_of(s, start);
	last = page_of(s, end + PAGE_SIZE - 1);
	/* Reclaim releases frames without any lock of ours (entries.c). */
	if (r->strength == FLUSH_NO_ACCESS) {
		check_unmapped(s, first, last);
		host_empty(s, first, last);
		return;
	}
	/*
	 * One 2 MiB block at a time: the caller's entry lock keeps others from populating pages in
	 * the gaps of its own table, and of no other. Blocks never used are skipped in large steps.
	 */
	for (u64 p = first; p < last;) {
		u64 stop;

		p = state_find_populated(s, p, last, true);
		if (p >= last)
			break;
		stop = min((p / PTRS_PER_TABLE + 1) * PTRS_PER_TABLE, last);
		protect_span(s, p, stop);
		p = stop;
	}
}
