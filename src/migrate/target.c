/* target.c - a frame on a node for a page that moves there: where frames have places, its own. */
#include "migrate/migrate_internal.h"

/* The frame that keeps the page one mapping with its neighbours (machine.h: CAP_PLACED); 0: any. A
 * guess: an area that shares another's pages, or was moved, prefers others. */
static u64 own_place(struct quire *q, const struct folio *f)
{
	struct object *o = folio_object(f);
	u64 frames = o ? a64_read(&o->frames) : q->machine->plain_base;

	return frames && machine_has(q->machine, CAP_PLACED) ? frames + f->index : 0;
}

struct folio *migrate_target(struct quire *q, struct folio *src, unsigned node)
{
	u64 place = node ? 0 : own_place(q, src);
	struct folio *f;

	if (place && IS_ALIGNED(place, BIT(src->order)) && place != folio_pfn(q, src) &&
	    !phys_alloc_at(q, 0, place, src->order, &f))
		return f;
	return phys_alloc(q, node, src->order);
}
