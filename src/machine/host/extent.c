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

/* Mappings for extents [from, to) of the array and the plain parts before each of them. */
static u32 mappings_of(const struct mspace *s, u32 from, u32 to)
{
	u32 n = 0;

	for (u32 i = from; i < to && i < s->nr_ext; i++)
		n += 1 + (s->ext[i].start > (i ? s->ext[i - 1].end : s->r.start));
	return n;
}

static u32 tail_mapping(const struct mspace *s)
{
	return !s->nr_ext || s->ext[s->nr_ext - 1].end < s->r.end;
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

int extent_set(struct mspace *s, struct range r, u32 prot)
{
	struct extent new[3];
	u32 from = extent_index(s, r.start), to = from, n, before, after, nr_new;

	lock_assert_held(&s->lock);
	while (to < s->nr_ext && s->ext[to].start < r.end)
		to++;
	n = compose(s, &from, &to, r, prot, new);
	nr_new = s->nr_ext - (to - from) + n;
	if (nr_new > s->cap_ext)
		return -ENOMEM;
	before = mappings_of(s, from, to + 1) + tail_mapping(s);
	{
		struct extent old[3];
		u32 nr_old = to - from, keep = min(nr_old, 3u);
		bool grows;

		/* More extents go away than come: never over the limit, so the old ones need not be
		 * kept. */
		memcpy(old, &s->ext[from], keep * sizeof(old[0]));
		memmove(&s->ext[from + n], &s->ext[to], (s->nr_ext - to) * sizeof(s->ext[0]));
		memcpy(&s->ext[from], new, n * sizeof(new[0]));
		s->nr_ext = nr_new;
		after = mappings_of(s, from, from + n + 1) + tail_mapping(s);
		grows = after > before;
		if (!grows || s->nr_mappings + after - before <= s->h->max_mappings) {
			s->nr_mappings = s->nr_mappings + after - before;
			return 0;
		}
		BUG_ON(nr_old > 3);
		memmove(&s->ext[from + nr_old], &s->ext[from + n],
			(s->nr_ext - from - n) * sizeof(s->ext[0]));
		memcpy(&s->ext[from], old, nr_old * sizeof(old[0]));
		s->nr_ext = nr_new - n + nr_old;
		return -ENOMEM;
	}
}
