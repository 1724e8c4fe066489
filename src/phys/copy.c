/* copy.c - the bytes of frames into other frames. */
#include "phys/phys_internal.h"

/* Each word whole: a store may come meanwhile, and be in the copy or not. */
static void copy_words(u64 *to, const a64_t *from, u64 n)
{
	for (u64 i = 0; i < n; i++)
		to[i] = a64_peek(&from[i]);
}

int phys_copy_frames(struct quire *q, u64 to_pfn, u64 from_pfn, u32 nr, bool stored_to)
{
	struct machine *m = q->machine;
	const void *from;
	void *to;

	if (m->ops->frames_copy && !stored_to && !frame_is_home(m, to_pfn) &&
	    !frame_is_home(m, from_pfn))
		return m->ops->frames_copy(m, to_pfn, from_pfn, nr);
	from = m->ops->frame_window(m, from_pfn);
	to = m->ops->fill_begin(m, to_pfn, nr);
	if (!to)
		return -ENOMEM;
	copy_words(to, from, nr * PAGE_SIZE / sizeof(u64));
	return m->ops->fill_end(m, to_pfn, nr, to);
}
