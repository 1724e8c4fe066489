/*
 * What a region's host mappings are: a sorted array of the parts that are not plain read-write
 * managed memory, and how many mappings the kernel needs for the whole.
 */
#include "machine/host/host_internal.h"

#include <string.h>

/* Index of the first extent that ends above va. */
static u32 extent_index(const struct mspace *s, u64 va)
{
	u32 lo = 0, hi = s->nr_ext;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (s->ext[mid].end > va)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

struct extent *extent_find(struct mspace *s, u64 va)
{
	u32 i = extent_index(s, va);

	return i < s->nr_ext ? &s->ext[i] : NULL;
}

u32 extent_prot(struct mspace *s, u64 va)
{
	struct extent *e = extent_find(s, va);

	return e && e->start <= va ? e->prot : PROT_RW;
}

bool extent_breaks_at(struct mspace *s, u64 va)
{
	return va > s->r.start && va < s->r.end &&
	       extent_prot(s, va - PAGE_SIZE) != extent_prot(s, va);
}

/* At how many addresses extents [from, to) of the array make a boundary of host mappings; where the
 * place changes too there is one already (place.c). */
static u32 boundaries_of(const struct mspace *s, u32 from, u32 to)
{
	u32 n = 0;

	for (u32 i = from; i < to && i < s->nr_ext; i++) {
		u64 start = s->ext[i].start, end = s->ext[i].end;
		bool followed = i + 1 < s->nr_ext && s->ext[i + 1].start == end;

		n += start > s->r.start && !place_breaks_at(s, page_of(s, start));
		n += end < s->r.end && !followed && !place_breaks_at(s, page_of(s, end));
	}
	return n;
}

/* What stands in the array's place [from, to) once r is `prot`: at most three extents. */
static u32 compose(const struct mspace *s, u32 *from, u32 *to, struct range r, u32 prot,
		   struct extent out[3])
{
	u32 n = 0;

	/* Neighbours of the same kind grow into one. */
	if (prot != PROT_RW && *from > 0 && s->ext[*from - 1].end == r.start &&
	    s->ext[*from - 1].prot == prot)
		r.start = s->ext[--*from].start;
	if (prot != PROT_RW && *to < s->nr_ext && s->ext[*to].start == r.end &&
	    s->ext[*to].prot == prot)
		r.end = s->ext[(*to)++].end;
	if (*from < *to && s->ext[*from].start < r.start) {
		out[n++] = (struct extent){ s->ext[*from].start, r.start, s->ext[*from].prot };
		if (out[0].prot == prot) {
			r.start = out[0].start;
			n = 0;
		}
	}
	if (*from < *to && s->ext[*to - 1].end > r.end && s->ext[*to - 1].prot == prot)
		r.end = s->ext[*to - 1].end;
	if (prot != PROT_RW)
		out[n++] = (struct extent){ r.start, r.end, prot };
	if (*from < *to && s->ext[*to - 1].end > r.end)
		out[n++] = (struct extent){ r.end, s->ext[*to - 1].end, s->ext[*to - 1].prot };
	return n;
}

/* The array's [from, to) becomes the n given ones. */
static void replace(struct mspace *s, u32 from, u32 to, const struct extent *new, u32 n)
{
	memmove(&s->ext[from + n], &s->ext[to], (s->nr_ext - to) * sizeof(s->ext[0]));
	memcpy(&s->ext[from], new, n * sizeof(new[0]));
	s->nr_ext = s->nr_ext - (to - from) + n;
}

int extent_set(struct mspace *s, struct range r, u32 prot)
{
	struct extent new[3], old[3];
	u32 from = extent_index(s, r.start), to = from, n, left, before, after;

	lock_assert_held(&s->lock);
	while (to < s->nr_ext && s->ext[to].start < r.end)
		to++;
	n = compose(s, &from, &to, r, prot, new);
	if (s->nr_ext - (to - from) + n > s->cap_ext)
		return -ENOMEM;
	/* The end of the one before counts only if nothing follows at once. */
	left = from ? from - 1 : 0;
	before = boundaries_of(s, left, to);
	memcpy(old, &s->ext[from], min(to - from, 3u) * sizeof(old[0]));
	replace(s, from, to, new, n);
	after = boundaries_of(s, left, from + n);
	if (!mappings_fit(s, (s64)after - before)) {
		/* Where more than three go, no more than three come: that never grows. */
		BUG_ON(to - from > 3);
		replace(s, from, from + n, old, to - from);
		return -ENOMEM;
	}
	mappings_add(s, (s64)after - before);
	if (s->nr_ext)
		a32_set_release(&s->any_ext, 1);
	return 0;
}

void extent_publish(struct mspace *s)
{
	a32_set_release(&s->any_ext, s->nr_ext != 0);
}
