#include "swap/swap_internal.h"

#include "base/assert.h"

/* One slot in use: invariants 1 and 3 of swap_internal.h. */
static u64 check_slot(struct swap *sw, struct slot *s, u64 nr, u64 *by_kind)
{
	u32 state = a32_read(&s->state);
	struct folio *f = word_folio(aptr_read(&s->folio));
	u64 bad = 0;

	bad += WARN_ON(!state_count(state) && !f);
	/* Without a folio the copy is all there is. */
	bad += WARN_ON(!f && state_kind(state) == KIND_NONE);
	if (WARN_ON(state_kind(state) >= KIND_STORE + sw->nr_stores))
		return bad + 1;
	by_kind[state_kind(state)]++;
	if (!f)
		return bad;
	bad += WARN_ON(!folio_test(f, PG_SWAPCACHE));
	bad += WARN_ON(nr < f->swap || nr - f->swap >= folio_nr(f));
	bad += WARN_ON(slot_offset(f->swap) + folio_nr(f) > CLUSTER_SLOTS);
	bad += WARN_ON(a32_read(&f->ref) < folio_nr(f));
	return bad;
}

static u64 check_cluster(struct swap *sw, struct cluster *cl, u64 *by_kind, u64 *used)
{
	struct slot *slots = aptr_read(&cl->slots);
	u32 n = 0;
	u64 bad = 0;

	for (u32 i = 0; i < CLUSTER_SLOTS; i++) {
		if (cl->used[i / 64] & BIT(i % 64)) {
			n++;
			if (slots)
				bad += check_slot(sw, &slots[i], ((u64)cl->nr << CLUSTER_SHIFT) + i,
						  by_kind);
		} else if (slots) {
			bad += WARN_ON(aptr_read(&slots[i].folio) || a32_read(&slots[i].state));
		}
	}
	bad += WARN_ON(n != a32_read(&cl->nr_used));
	bad += WARN_ON(n && !slots);
	bad += WARN_ON(cl->owned && cl->on != CL_NONE);
	bad += WARN_ON((cl->on == CL_BARE) != (!slots && !cl->dying));
	if (!cl->owned && !cl->dying && slots) {
		enum cluster_list want = n == 0                 ? CL_EMPTY :
					 n <= CLUSTER_SLOTS / 2 ? CL_ROOMY :
					 n < CLUSTER_SLOTS      ? CL_SCARCE :
								  CL_FULL;

		bad += WARN_ON(cl->on != want);
	}
	*used += n;
	return bad;
}

u64 slots_check(struct quire *q, struct swap *sw, u64 *by_kind)
{
	u64 bad = 0, used = 0, arrays = 0;
	u32 on = 0, listed = 0;

	for (u32 n = 1; n <= sw->nr_clusters; n++) {
		struct cluster *cl = slot_cluster(sw, (u64)n << CLUSTER_SHIFT);

		bad += check_cluster(sw, cl, by_kind, &used);
		arrays += aptr_read(&cl->slots) || cl->dying;
		on += cl->on != CL_NONE;
	}
	for (u32 i = 0; i < CL_NONE; i++) {
		u32 len = 0;

		list_for_each(l, &sw->list[i])
			len++;
		bad += WARN_ON(len != sw->nr_on[i]);
		listed += len;
	}
	bad += WARN_ON(listed != on);
	bad += WARN_ON(used != a64_read(&sw->used));
	bad += WARN_ON(arrays != sw->nr_arrays);
	return bad;
}
