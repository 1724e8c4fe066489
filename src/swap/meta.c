/*
 * meta.c - metadata beside the bytes: who is told, and which slots have some.
 *
 * A bit of the slot's state (STATE_META) says that something is saved for it, so that drop is
 * called for these slots only, and once. It is set after save has succeeded and before the entry
 * names the slot, both under the entry lock; the folio in the cache keeps the slot meanwhile.
 * Freeing the slot calls drop before the slot can be used again, under the same lock.
 */
#include "swap/meta.h"

#include "base/assert.h"
#include "swap/swap_internal.h"

void meta_register(struct quire *q, const struct meta_ops *ops, void *ctx)
{
	BUG_ON(a64_read(&q->swap->used));
	q->swap->meta = ops;
	q->swap->meta_ctx = ctx;
}

bool meta_wanted(struct quire *q)
{
	return q->swap->meta;
}

static void mark_saved(struct swap *sw, u64 slot)
{
	struct cluster *cl = slot_cluster(sw, slot);
	struct slot *s;

	BUG_ON(!cl);
	spin_lock(&cl->lock);
	s = slot_used(cl, slot);
	BUG_ON(!s);
	a32_set(&s->state, a32_read(&s->state) | STATE_META);
	spin_unlock(&cl->lock);
}

int meta_save(struct quire *q, void *space, u64 va, u64 pfn, u64 slot)
{
	struct swap *sw = q->swap;
	struct meta_page p = { space, va, pfn, slot };
	int err;

	if (!sw->meta)
		return 0;
	err = sw->meta->save(sw->meta_ctx, &p);
	if (err < 0)
		return err;
	mark_saved(sw, slot);
	return 0;
}

void meta_restore(struct quire *q, void *space, u64 va, u64 pfn, u64 slot)
{
	struct swap *sw = q->swap;
	struct meta_page p = { space, va, pfn, slot };

	if (unlikely(sw->meta))
		sw->meta->restore(sw->meta_ctx, &p);
}

void meta_copy(struct quire *q, u64 to_pfn, u64 from_pfn, u32 nr)
{
	struct swap *sw = q->swap;

	if (likely(!sw->meta) || !sw->meta->copy)
		return;
	for (u32 i = 0; i < nr; i++)
		sw->meta->copy(sw->meta_ctx, to_pfn + i, from_pfn + i);
}
