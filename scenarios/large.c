/* One folio of four pages: parts of it go and come back while reclaim takes it. */
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
	area(e, AT(0), 4, RW);
	for (u32 i = 0; i < 4; i++)
		prepare_store(e, 1, AT(i), 10 + i);
	e->folio = folio_at(e, AT(0));
	must(e->folio->order == 2, "set-up: four pages are not one folio");
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

static void others_hold(struct env *e)
{
	for (u32 i = 0; i < 4; i++)
		must(i == 1 || contents(e, AT(i)) == 10 + i, "page %u has lost its contents", i);
}

static void end_drop(struct env *e)
{
	must(e->r[DROPPED] == 1, "madvise failed");
	must(contents(e, AT(1)) == 0, "the page was to be dropped: %llu is read",
	     (unsigned long long)contents(e, AT(1)));
	others_hold(e);
}

static void end_touch(struct env *e)
{
	must(e->r[STORED] == 1, "the store ended in error %d", (int)e->r[STORED] - 1);
	must(contents(e, AT(1)) == 9, "the store is lost: %llu is read",
	     (unsigned long long)contents(e, AT(1)));
	others_hold(e);
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
		   "  unmaps pages 0 to 3\n"
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
		"  splits the folio: pages 0, 2, 3\n"
		"                                home frames: page 1 comes back into the folio,\n"
		"                                or gets a frame that is free again\n",
	.kinds = KINDS,
	.units = BIT(1),
	.large = true,
	COMPOSED_SWAP,
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
