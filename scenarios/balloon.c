/* A page of the balloon is given back, isolated, moved: one at a time owns it. */
#include "explore/scenario.h"

#include "migrate/migrate_internal.h"

enum { MOVED, MOVED_TOO, BACK };

static void balloon(struct env *e, u64 pages)
{
	must(balloon_inflate(e->q, 0, pages) == pages, "set-up: inflate");
	list_for_each(at, &e->q->migrate->balloon.node[0].pages)
		e->folio = list_entry(at, struct folio, lru);
	watch_folio(e, e->folio);
}

static void isolator(struct env *e)
{
	gate_enter(&e->q->gate);
	e->r[MOVED] = movable_isolate(e->q, e->folio);
	if (e->r[MOVED])
		movable_putback(e->q, e->folio);
	gate_exit(&e->q->gate);
}

static void mover(struct env *e)
{
	e->r[MOVED] = do_migrate_movable(e, e->folio);
}

static void other_mover(struct env *e)
{
	e->r[MOVED_TOO] = do_migrate_movable(e, e->folio);
}

static void deflate(struct env *e)
{
	gate_enter(&e->q->gate);
	e->r[BACK] = balloon_deflate(e->q, 0, 1);
	gate_exit(&e->q->gate);
}

/* As many as went in, less what came out; and each of them can be moved once more. */
static void end_with(struct env *e, u64 pages)
{
	u64 left = balloon_pages(e->q, -1);

	must(left == pages - e->r[BACK], "%d pages in the balloon, %d given back", (int)left,
	     (int)e->r[BACK]);
	for (u64 i = 0; i < left; i++) {
		struct folio *f =
			list_first(&e->q->migrate->balloon.node[0].pages, struct folio, lru);

		must(do_migrate_movable(e, f) == 1, "a page cannot be moved any more");
	}
	must(balloon_pages(e->q, -1) == left, "a move changes the balloon's size");
	must(balloon_deflate(e->q, 0, ~0ull) == left, "not all of it is given back");
}

static void end_one(struct env *e)
{
	end_with(e, 1);
}

static void end_two(struct env *e)
{
	end_with(e, 2);
}

static void setup_isolate(struct env *e)
{
	balloon(e, 1);
	actor(e, "compaction", 0, isolator);
	actor(e, "deflate", 2, deflate);
}

SCENARIO(balloon_isolate) = {
	.name = "balloon_isolate",
	.title = "a page of the balloon is isolated while it is given back",
	.picture = "  CPU0: compaction               CPU2: deflate\n"
		   "  page lock; on its list? yes\n"
		   "                                 balloon lock; the first of the list\n"
		   "                                 (page lock? no: the next one)\n"
		   "                                 off the list, and freed\n"
		   "  balloon lock; off the list\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_BALLOON_PAGE_LOCK) | BIT(MECH_MIGRATE_TRYLOCK),
	.setup = setup_isolate,
	.end = end_one,
};

static void setup_move(struct env *e)
{
	balloon(e, 2);
	actor(e, "compaction", 0, mover);
	actor(e, "deflate", 2, deflate);
}

SCENARIO(balloon_move) = {
	.name = "balloon_move",
	.title = "a page of the balloon is moved while the balloon is deflated",
	.picture = "  CPU0: compaction               CPU2: deflate\n"
		   "  isolates X\n"
		   "                                 the first of the list: Y\n"
		   "  new page listed, X no more\n"
		   "                                 the first of the list: the new page\n"
		   "                                 (page lock? no: the next one)\n"
		   "  its charge\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_BALLOON_PAGE_LOCK),
	.setup = setup_move,
	.end = end_two,
};

static void setup_movers(struct env *e)
{
	balloon(e, 1);
	actor(e, "compaction", 0, mover);
	actor(e, "offlining", 1, other_mover);
	actor(e, "deflate", 2, deflate);
}

SCENARIO(balloon_movers) = {
	.name = "balloon_movers",
	.title = "two move one page of the balloon while it is given back",
	.picture = "  CPU0: compaction        CPU1: offlining         CPU2: deflate\n"
		   "  of the balloon? yes     of the balloon? yes\n"
		   "  isolates it, moves it\n"
		   "                          (a reference; still?)\n"
		   "                          (page lock; still? listed?)\n"
		   "                                                  gives the new one back\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_BALLOON_PAGE_LOCK),
	.setup = setup_movers,
	.end = end_one,
};
