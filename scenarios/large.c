/* One folio of two pages: one of them goes, and comes back, while reclaim takes the folio. */
#include "explore/scenario.h"

enum { FREED, DROPPED, STORED, STORED2 };

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void dropper(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_advise(e, AT(1), 1, ADVISE_DONTNEED);
}

static void unmapper(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_unmap(e, AT(1), 1);
}

static void mover(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_remap(e, AT(1), 1, AT(9));
}

/* To where page 1 of the folio was: its frame is the folio's still. */
static void mover_here(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_remap(e, AT(9), 1, AT(1));
}

static void user(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(1), 9);
}

static void user_too(struct env *e)
{
	e->r[STORED2] = 1 + (u64)-user_store(e, AT(1) + 8, 8);
}

static void fill(struct env *e)
{
	area(e, AT(0), 2, RW);
	for (u32 i = 0; i < 2; i++)
		prepare_store(e, 1, AT(i), 10 + i);
	e->folio = folio_at(e, AT(0));
	must(e->folio->order == 1, "set-up: two pages are not one folio");
	lru_drain_all(e->q);
}

static void prepare(struct env *e)
{
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_page(e, AT(1));
	watch_folio(e, e->folio);
}

static void setup_drop(struct env *e)
{
	fill(e);
	prepare(e);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "madvise", 2, dropper);
}

static void setup_unmap(struct env *e)
{
	fill(e);
	prepare(e);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "munmap", 2, unmapper);
}

static void setup_move(struct env *e)
{
	fill(e);
	prepare(e);
	watch_page(e, AT(9));
	actor(e, "reclaim", 0, reclaim);
	actor(e, "mremap", 2, mover);
}

static void setup_move_here(struct env *e)
{
	fill(e);
	must(!do_unmap(e, AT(1), 1), "set-up: unmap");
	area(e, AT(9), 1, RW);
	prepare_store(e, 1, AT(9), 9);
	lru_drain_all(e->q);
	prepare(e);
	watch_page(e, AT(9));
	actor(e, "reclaim", 0, reclaim);
	actor(e, "mremap", 2, mover_here);
}

/* Page 1 has gone already; its frame is the folio's still. */
static void fill_partial(struct env *e)
{
	fill(e);
	must(!do_advise(e, AT(1), 1, ADVISE_DONTNEED), "set-up: drop");
	prepare(e);
}

static void setup_touch(struct env *e)
{
	fill_partial(e);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "user", 1, user);
}

static void setup_touch_two(struct env *e)
{
	fill_partial(e);
	actor(e, "user 1", 1, user);
	actor(e, "user 2", 2, user_too);
}

static void other_holds(struct env *e)
{
	must(contents(e, AT(0)) == 10, "page 0 has lost its contents");
}

static void end_drop(struct env *e)
{
	must(e->r[DROPPED] == 1, "madvise failed");
	must(contents(e, AT(1)) == 0, "the page was to be dropped: %llu is read",
	     (unsigned long long)contents(e, AT(1)));
	other_holds(e);
}

static void end_unmap(struct env *e)
{
	must(e->r[DROPPED] == 1, "munmap failed");
	must(access_result(e, AT(1), false) == -EFAULT, "the page is still there");
	other_holds(e);
}

static void end_move(struct env *e)
{
	must(e->r[DROPPED] == 1, "mremap failed");
	must(access_result(e, AT(1), false) == -EFAULT, "the page is still there");
	must(contents(e, AT(9)) == 11, "the moved page has lost its contents: %llu is read",
	     (unsigned long long)contents(e, AT(9)));
	other_holds(e);
}

static void end_move_here(struct env *e)
{
	must(e->r[DROPPED] == 1, "mremap failed");
	must(access_result(e, AT(9), false) == -EFAULT, "the page is still there");
	must(contents(e, AT(1)) == 9, "the moved page has lost its contents: %llu is read",
	     (unsigned long long)contents(e, AT(1)));
	other_holds(e);
}

static void end_touch(struct env *e)
{
	must(e->r[STORED] == 1, "the store ended in error %d", (int)e->r[STORED] - 1);
	must(contents(e, AT(1)) == 9, "the store is lost: %llu is read",
	     (unsigned long long)contents(e, AT(1)));
	other_holds(e);
}

static void end_touch_two(struct env *e)
{
	u64 v = 0;

	must(e->r[STORED2] == 1, "the second store ended in error %d", (int)e->r[STORED2] - 1);
	must(!xm_load(e->m, 1, e->s->ms, AT(1) + 8, &v) && v == 8, "the second store is lost");
	end_touch(e);
}

#define KINDS (BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME))

SCENARIO(large_drop) = {
	.name = "large_drop",
	.title = "reclaim of a large folio of which a page is dropped meanwhile",
	.picture = "  CPU0: reclaim                 CPU2: madvise(DONTNEED) of page 1\n"
		   "  unmaps pages 0 and 1\n"
		   "                                clears the entry of page 1, whatever it is\n"
		   "  writes out what is still named\n",
	.kinds = KINDS,
	.units = BIT(1),
	.large = true,
	.setup = setup_drop,
	.end = end_drop,
};

SCENARIO(large_touch) = {
	.name = "large_touch",
	.title = "a dropped page of a large folio is touched again while reclaim splits it",
	.picture =
		"  CPU0: reclaim                 CPU1: store to page 1, which was dropped\n"
		"  splits the folio: page 0 is left\n"
		"                                home frames: page 1 comes back into the folio,\n"
		"                                or gets a frame that is free again\n",
	.kinds = KINDS,
	.units = BIT(1),
	.large = true,
	.setup = setup_touch,
	.end = end_touch,
};

SCENARIO(large_touch_two) = {
	.name = "large_touch_two",
	.title = "two CPUs touch a dropped page of a large folio again",
	.picture = "  CPU1: store to word 0         CPU2: store to word 1\n"
		   "  frame busy: locks the folio   frame busy: waits\n"
		   "  maps the page                 mapped already: again\n",
	.kinds = KINDS,
	.units = BIT(1) | BIT(2),
	.large = true,
	.setup = setup_touch_two,
	.end = end_touch_two,
};

SCENARIO(large_unmap) = {
	.name = "large_unmap",
	.title = "reclaim of a large folio of which a page is unmapped meanwhile",
	.picture = "  CPU0: reclaim                 CPU2: munmap of page 1\n"
		   "  unmaps pages 0 and 1, area by area\n"
		   "                                cuts the area, clears the entry of page 1\n"
		   "  writes out what is still named\n",
	.kinds = KINDS,
	.units = BIT(1),
	.large = true,
	.setup = setup_unmap,
	.end = end_unmap,
};

SCENARIO(large_move) = {
	.name = "large_move",
	.title = "reclaim of a large folio of which a page moves away meanwhile",
	.picture = "  CPU0: reclaim                 CPU2: mremap of page 1\n"
		   "  unmaps pages 0 and 1, area by area\n"
		   "                                moves the entry, or (home frames) the bytes\n"
		   "  writes out what is still named\n",
	.kinds = KINDS,
	.units = BIT(1),
	.large = true,
	.setup = setup_move,
	.end = end_move,
};

SCENARIO(large_move_here) = {
	.name = "large_move_here",
	.title = "a page moves to where a page of a large folio was, which reclaim takes",
	.picture = "  CPU0: reclaim                 CPU2: mremap to the address of page 1\n"
		   "  unmaps pages 0 and 1\n"
		   "                                its frame is the folio's still:\n"
		   "                                the folio takes the bytes\n"
		   "  writes out what is still named\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.large = true,
	.setup = setup_move_here,
	.end = end_move_here,
};
