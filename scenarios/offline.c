/* Frames go out of service: against whoever frees, fills, pins, compacts meanwhile. */
#include "explore/scenario.h"

#include "migrate/compact.h"

enum { OFFLINE, DONE, PIN, COMPACTED };

#define BLOCK 1u /* the one that goes; block 0 has the page of zeroes */

static bool in_block(struct env *e, u64 va)
{
	u64 v = entry_at(e, va);

	return pte_present(v) && entry_pfn(v) / 512 == BLOCK;
}

/* It may fail while somebody is on his way; not when nobody is. */
static void offline(struct env *e)
{
	bool alone = get_flag(e, 0);
	int rc = do_offline(e, BLOCK);

	must(rc == 0 || rc == -EBUSY, "offlining ends in error %d", rc);
	must(!rc || !alone, "offlining fails though nothing stops it");
	e->r[OFFLINE] = 1 + (u64)-rc;
}

static void end_none_left(struct env *e)
{
	must(e->r[OFFLINE] && e->r[DONE], "an actor has not ended");
	for (u32 i = 0; i < 2 && e->r[OFFLINE] == 1; i++)
		must(!in_block(e, AT(i)), "a page lies in frames that are out of service");
}

/* Two pages in a block of the buddy allocator. */
static void two_pages(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_keep_free(e);
	for (u32 i = 0; i < 2; i++) {
		prepare_unreserved(e);
		prepare_store(e, 1, AT(i), 1 + i);
		must(in_block(e, AT(i)), "set-up: the page is not in its block");
	}
	lru_drain_all(e->q);
	watch_page(e, AT(0));
	watch_page(e, AT(1));
}

/* ---- a frame that is freed behind it ---- */

static void discard(struct env *e)
{
	must(!do_advise(e, AT(0), 1, ADVISE_DONTNEED), "madvise failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void setup_freed(struct env *e)
{
	two_pages(e);
	actor(e, "offline", 2, offline);
	actor(e, "madvise", 0, discard);
}

static void end_freed(struct env *e)
{
	end_none_left(e);
	must(contents(e, AT(1)) == 2, "the other page is lost");
	must(contents(e, AT(0)) == 0, "a page that was given up is back");
}

SCENARIO(offline_freed) = {
	.name = "offline_freed",
	.title = "a frame is freed while its block goes out of service",
	.picture = "  CPU2: offline                 CPU0: madvise(DONTNEED)\n"
		   "  the block is leaving\n"
		   "  drains the CPUs' lists\n"
		   "                                the frame goes to CPU0's list\n"
		   "                                (the block is leaving: it is captured)\n"
		   "  waits for the frame for ever\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_OFFLINE_CPU_LISTS),
	.setup = setup_freed,
	.end = end_freed,
};

/* ---- the same where the frame belongs to a reservation ---- */

static void discard_and_store(struct env *e)
{
	must(!do_advise(e, AT(0), 1, ADVISE_DONTNEED), "madvise failed");
	must(!user_store(e, AT(0), 5), "the store failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void setup_reserved(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	must(in_block(e, AT(0)), "set-up: the page is not in its block");
	lru_drain_all(e->q);
	watch_page(e, AT(0));
	actor(e, "user", 1, discard_and_store);
	actor(e, "offline", 2, offline);
}

static void end_reserved(struct env *e)
{
	end_none_left(e);
	must(contents(e, AT(0)) == 5, "the store is lost");
}

SCENARIO(offline_reserved) = {
	.name = "offline_reserved",
	.title = "a page of a reserved block is given up and touched again while the block goes",
	.picture = "  CPU2: offline                 CPU1: user\n"
		   "  the block is leaving:         madvise(DONTNEED): the frame is free\n"
		   "  its free frames are barred    (it is barred too)\n"
		   "                                stores: gets the same frame again\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_OFFLINE_RESERVED),
	.bound = 2,
	.setup = setup_reserved,
	.end = end_reserved,
};

/* ---- a page that is faulted in behind it ---- */

static void toucher(struct env *e)
{
	must(!user_store(e, AT(1), 5), "the store failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

/* The faulting CPU's list has frames of the block. */
static void setup_faulted(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_keep_free(e);
	prepare_unreserved(e);
	prepare_store(e, 0, AT(0), 1);
	must(in_block(e, AT(0)), "set-up: the page is not in its block");
	must(!do_advise(e, AT(0), 1, ADVISE_DONTNEED), "set-up: madvise");
	lru_drain_all(e->q);
	prepare_unreserved(e);
	watch_page(e, AT(1));
	actor(e, "offline", 2, offline);
	actor(e, "user", 0, toucher);
}

static void end_faulted(struct env *e)
{
	end_none_left(e);
	must(contents(e, AT(1)) == 5, "the store is lost");
}

SCENARIO(offline_faulted) = {
	.name = "offline_faulted",
	.title = "a page is faulted in while its block goes out of service",
	.picture = "  CPU2: offline                 CPU0: user\n"
		   "                                faults: a frame of the block, off CPU0's list\n"
		   "  the block is leaving\n"
		   "  finds no page in it           (the frame is not captured: not yet)\n"
		   "  out of service\n"
		   "                                the frame is a page, mapped\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(0),
	.off = BIT(MECH_OFFLINE_COUNTS),
	.setup = setup_faulted,
	.end = end_faulted,
};

/* ---- a pin ---- */

static void pin(struct env *e)
{
	e->r[PIN] = 1 + (u64)-do_pin_fast(e, 0, AT(0), ACCESS_WRITE);
	e->r[DONE] = 1;
}

static void setup_pinned(struct env *e)
{
	two_pages(e);
	actor(e, "offline", 2, offline);
	actor(e, "pin", 0, pin);
}

static void end_pinned(struct env *e)
{
	end_none_left(e);
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	pinned_store(e, 0, 6);
	must(contents(e, AT(0)) == 6, "what was stored by the pin is lost");
	must(contents(e, AT(1)) == 2, "the other page is lost");
	do_unpin(e, 0);
}

SCENARIO(offline_pinned) = {
	.name = "offline_pinned",
	.title = "a page is pinned while its block goes out of service",
	.picture = "  CPU2: offline                 CPU0: pin_fast\n"
		   "  the block is leaving\n"
		   "                                pins the page\n"
		   "  cannot move it; again\n"
		   "  cannot move it; again         (some passes without progress: -EBUSY)\n"
		   "  ...\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_OFFLINE_ENDS),
	.setup = setup_pinned,
	.end = end_pinned,
};

/* ---- compaction has free frames of it ---- */

static void compaction(struct env *e)
{
	(void)!do_compact(e, COMPACT_WHOLE);
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void setup_compacted(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_unreserved(e);
	prepare_store(e, 1, AT(0), 1);
	prepare_keep_free(e);
	prepare_unreserved(e);
	prepare_store(e, 1, AT(1), 2);
	must(!in_block(e, AT(0)) && in_block(e, AT(1)), "set-up: the pages are elsewhere");
	phys_drain_cpus(e->q, 0);
	lru_drain_all(e->q);
	watch_page(e, AT(0));
	watch_page(e, AT(1));
	actor(e, "offline", 2, offline);
	actor(e, "compaction", 0, compaction);
}

static void end_compacted(struct env *e)
{
	end_none_left(e);
	must(contents(e, AT(0)) == 1 && contents(e, AT(1)) == 2, "a page is lost");
}

SCENARIO(offline_compacted) = {
	.name = "offline_compacted",
	.title = "compaction has free frames of a block that goes out of service",
	.picture = "  CPU2: offline                 CPU0: compaction\n"
		   "                                takes the block's free pieces\n"
		   "  the block is leaving\n"
		   "  finds no page in it           (what it has is not captured: not yet)\n"
		   "  out of service\n"
		   "                                a page moves there\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_OFFLINE_COUNTS),
	.bound = 1,
	.setup = setup_compacted,
	.end = end_compacted,
};
