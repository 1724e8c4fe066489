/*
 * reset.c - where plain frames have places: what to do when the machine has no host mappings left
 * for pages that are away from theirs (-ENOSPC, CAP_PLACED).
 *
 * A page away from its place costs host mappings only while it is usable. Entries need not be
 * (machine.h): so all blocks of the space that have such pages are mapped as they were at first,
 * and what is used of them comes back by traps, with its neighbours. A program that uses more such
 * pages at once than there are mappings pays for it, and goes on.
 */
#include "fault/fault_internal.h"
#include "object/object.h"

static u64 first_frame(const struct machine *m, const struct vma *v, u64 va)
{
	u64 frames = v->object ? a64_read(&v->object->frames) : 0;
	u64 index = vma_index(v, va);

	return frames ? frames + index : vma_first_frame(m, vma_flags(v), index);
}

/* The part of area v in r, inside one table. True: it was mapped anew. */
static bool reset_table(struct fault_space *fs, struct vma *v, struct range r)
{
	struct machine *m = fs->vmas.q->machine;
	u64 frame = first_frame(m, v, r.start);
	u32 n = (u32)(range_size(r) >> PAGE_SHIFT);
	bool away = false;
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&fs->rs.pgt, r.start, &desc);

	if (!p)
		return false;
	for (u32 i = 0; i < n && !away; i++) {
		u64 e = pte_get(p + i);

		away = entry_present(e) && entry_pfn(e) != frame + i;
	}
	if (away)
		away = !m->ops->area_reset(m, fs->rs.tlb.ms, r, frame);
	pt_pte_unlock(desc);
	return away;
}

bool fault_reset_places(struct quire *q, struct fault_space *fs)
{
	bool any = false;

	if (!q->machine->ops->area_reset)
		return false;
	space_write_lock(&fs->vmas);
	for (struct vma *v = vma_find_first(&fs->vmas, 0); v; v = vma_next(&fs->vmas, v)) {
		if (vma_home(v) || (vma_flags(v) & VM_FOREIGN))
			continue;
		for (u64 va = vma_start(v), end; va < vma_end(v); va = end) {
			end = min(ALIGN_DOWN(va, PMD_SIZE) + PMD_SIZE, vma_end(v));
			any |= reset_table(fs, v, (struct range){ va, end });
		}
	}
	space_write_unlock(&fs->vmas);
	stat_inc(q, STAT_PLACES_RESET);
	return any;
}
