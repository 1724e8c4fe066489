/* Plain frames: a sparse store that a frame number indexes; and the split between plain and home.
 */
#include <stdlib.h>
#include <string.h>

#include "machine/sim/sim_internal.h"

static bool is_plain(const struct sim *sim, u64 pfn)
{
	return pfn < sim->cfg.span_frames;
}

void *sim_frame_window(struct machine *m, u64 pfn)
{
	struct sim *sim = sim_of(m);
	struct mspace *s;

	if (is_plain(sim, pfn))
		return sim->frames + (pfn << PAGE_SHIFT);
	s = sim_is_home(sim) ? sim_space_at(sim, pfn << PAGE_SHIFT) : NULL;
	BUG_ON(!s);
	return s->bytes + ((pfn << PAGE_SHIFT) - s->usable.start);
}

void *sim_fill_begin(struct machine *m, u64 pfn, u32 nr)
{
	struct sim *sim = sim_of(m);
	void *buf;

	BUG_ON(!nr || nr > PTRS_PER_TABLE);
	if (is_plain(sim, pfn))
		return sim_frame_window(m, pfn);
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return NULL;
	buf = aligned_alloc(PAGE_SIZE, nr * PAGE_SIZE);
	if (!buf)
		return NULL;
	/* What the caller leaves out must not look like zero pages. */
	if (!(sim->cfg.flags & SIM_NO_POISON))
		memset(buf, SIM_POISON, nr * PAGE_SIZE);
	a64_add(&sim->n.staging, 1);
	return buf;
}

int sim_fill_end(struct machine *m, u64 pfn, u32 nr, void *buf)
{
	struct sim *sim = sim_of(m);

	if (!buf || is_plain(sim, pfn))
		return 0;
	free(buf);
	a64_sub(&sim->n.staging, 1);
	return 0;
}

static void release_plain(struct sim *sim, u64 pfn, u32 nr)
{
	u8 *at = sim->frames + (pfn << PAGE_SHIFT);

	BUG_ON(pfn + nr > sim->cfg.span_frames);
	if (!(sim->cfg.flags & SIM_NO_CHECK) && sim_cpu_reaches(sim, pfn, nr))
		sim_violate(sim, SIM_STALE_RELEASE, pfn << PAGE_SHIFT);
	if (!(sim->cfg.flags & SIM_NO_POISON))
		memset(at, SIM_POISON, nr * PAGE_SIZE);
}

void sim_frames_release(struct machine *m, const struct frame_span *spans, u32 n)
{
	struct sim *sim = sim_of(m);

	for (u32 i = 0; i < n; i++) {
		u64 pfn = spans[i].pfn;
		u32 nr = spans[i].nr;

		a64_add(&sim->n.released, nr);
		sim_maybe_late(sim);
		if (is_plain(sim, pfn))
			release_plain(sim, pfn, nr);
		else
			sim_home_release(sim, pfn, nr);
	}
}

int sim_frames_move(struct machine *m, u64 dst, u64 src, u32 nr)
{
	struct sim *sim = sim_of(m);

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EAGAIN;
	if (is_plain(sim, dst) != is_plain(sim, src))
		return -EINVAL;
	if (!is_plain(sim, dst)) {
		int rc = sim_home_move(sim, dst, src, nr);

		if (rc)
			return rc;
	} else {
		memcpy(sim_frame_window(m, dst), sim_frame_window(m, src), nr * PAGE_SIZE);
		release_plain(sim, src, nr);
	}
	a64_add(&sim->n.moved, nr);
	return 0;
}

int sim_frames_park(struct machine *m, u64 pfn, u32 nr)
{
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	sim_maybe_late(sim_of(m));
	sim_home_park(sim_of(m), pfn, nr);
	return 0;
}

/* All memory is alike here. */
int sim_frames_to_node(struct machine *m, u64 pfn, u32 nr, unsigned from, unsigned to)
{
	int err = sim_frames_park(m, pfn, nr);

	BUG_ON(from == to);
	if (!err)
		a64_add(&sim_of(m)->n.moved, nr);
	return err;
}

int sim_entries_changed(struct machine *m, struct mspace *s, u64 va, const u64 *entries, u32 nr,
			unsigned level, const void *fill, bool fill_zero, bool force)
{
	struct sim *sim = sim_of(m);
	u64 pages = (u64)nr << (9 * level);
	u64 pfn = entry_pfn(entries[0]);

	BUG_ON(!nr || level > 1 || !IS_ALIGNED(va, PAGE_SIZE << (9 * level)));
	a64_add(&sim->n.entries_changed, nr);
	if (sim_is_home(sim) && ((entries[0] & ENTRY_SPECIAL) || !is_plain(sim, pfn))) {
		/* Software fills the translation here, and only this may fail. */
		if (inject_fail(m->inject, INJECT_ENTRIES))
			return -ENOMEM;
		sim_home_install(sim, s, va, entries, nr, level, fill, fill_zero);
		return 0;
	}
	/* The CPUs walk the tables by themselves. Bytes come in place, or from elsewhere for one
	 * run. */
	if (fill && fill != sim_frame_window(m, pfn)) {
		BUG_ON(pfn + pages > sim->cfg.span_frames);
		memcpy(sim_frame_window(m, pfn), fill, pages * PAGE_SIZE);
		a64_add(&sim->n.fills, pages);
	}
	return 0;
}
