/*
 * sync.c - msync: what was stored through shared areas is on the objects' media.
 *
 *   space lock (read): the next area of the range; a reference of its object
 *   unlocked: object_sync of the pages that it shows
 *   locked again: whatever follows that address now
 *
 * Nothing is held while the medium is written, so areas may change meanwhile; what was stored
 * before the call was in one of them when the call passed it, or has been unmapped, and then its
 * page was marked dirty before that.
 */
#include "space/space_internal.h"

/* The next shared area of an object with a medium, from *at on: its object with a reference, and
 * its pages in the range. NULL: none. *err: what was met on the way. */
static struct object *next_synced(struct space *s, u64 *at, u64 end, u32 flags, struct range *pages,
				  int *err)
{
	struct object *o = NULL;

	space_read_lock(&s->fs.vmas);
	while (*at < end && !o) {
		struct vma *v = vma_find_first(&s->fs.vmas, *at);
		u64 from, to;

		if (!v || vma_start(v) >= end) {
			*err = -ENOMEM;
			*at = end;
			break;
		}
		if (vma_start(v) > *at || (vma_flags(v) & VM_FOREIGN))
			*err = -ENOMEM;
		from = max(*at, vma_start(v));
		to = min(end, vma_end(v));
		if ((flags & SPACE_SYNC_INVALIDATE) && (vma_flags(v) & VM_LOCKED)) {
			*err = -EBUSY;
			*at = end;
			break;
		}
		*at = to;
		if (!(flags & SPACE_SYNC_WAIT) || !v->object || !(vma_flags(v) & VM_SHARED))
			continue;
		o = v->object;
		object_get(o);
		*pages = (struct range){ vma_index(v, from), vma_index(v, to) };
	}
	space_read_unlock(&s->fs.vmas);
	return o;
}

int space_sync(struct quire *q, struct space *s, u64 start, u64 size, u32 flags)
{
	u64 at = start, end;
	struct range pages;
	struct object *o;
	int err = 0;

	if (!IS_ALIGNED(start, PAGE_SIZE) ||
	    (flags & ~(SPACE_SYNC_ASYNC | SPACE_SYNC_INVALIDATE | SPACE_SYNC_WAIT)) ||
	    ((flags & SPACE_SYNC_ASYNC) && (flags & SPACE_SYNC_WAIT)))
		return -EINVAL;
	if (!size)
		return 0;
	if (!space_range_ok(s, start, &size))
		return -ENOMEM;
	end = start + size;
	while ((o = next_synced(s, &at, end, flags, &pages, &err))) {
		int e = object_sync(o, pages.start, pages.end - 1, NULL);

		object_put(o);
		if (e)
			return e;
	}
	qrcu_poll(q);
	return err;
}
