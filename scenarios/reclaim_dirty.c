/* A page with a stored copy is written again while reclaim takes it: the dirty bit must not be
 * lost. */
#include "explore/scenario.h"

enum { STORED, FREED };

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void user(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 2);
}

/* Out and in again: clean, with its copy in the store; writable, and the hardware notes a store. */
static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	lru_drain_all(e->q);
	prepare_swapped_out(e, AT(0));
	(void)prepare_load(e, 1, AT(0));
	e->folio = folio_at(e, AT(0));
	must(!folio_test(e->folio, PG_DIRTY), "set-up: the page is not clean");
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "user", 1, user);
}

static void setup_write_fails(struct env *e)
{
	setup(e);
	inject_every(&e->inject, INJECT_STORE_WRITE, 1);
}

static void end(struct env *e)
{
	must(e->r[STORED] == 1, "the store ended in error %d", (int)e->r[STORED] - 1);
	must(contents(e, AT(0)) == 2, "the store is lost: %llu is read",
	     (unsigned long long)contents(e, AT(0)));
}

/* What could not be written then is written now. */
static void end_write_fails(struct env *e)
{
	inject_off(&e->inject, INJECT_STORE_WRITE);
	end(e);
	must(!do_advise(e, AT(0), 1, ADVISE_PAGEOUT), "page out");
	end(e);
}

SCENARIO(reclaim_dirty) = {
	.name = "reclaim_dirty",
	.title = "a clean page is written while reclaim clears its entry",
	.picture = "  CPU0: reclaim                 CPU1: user\n"
		   "  the page is clean and has a copy in the store\n"
		   "                                stores: hardware sets D in the entry\n"
		   "  clears the entry, gets D with it\n"
		   "  (D goes to the folio)\n"
		   "  without that: clean, has a copy, needs no write\n"
		   "  frees the frame: the store is lost\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_DIRTY_TO_FOLIO),
	.setup = setup,
	.end = end,
};

SCENARIO(reclaim_dirty_fails) = {
	.name = "reclaim_dirty_fails",
	.title = "the same, and the store refuses the page: it stays, dirty",
	.picture = "  CPU0: reclaim                 CPU1: user\n"
		   "  the page is clean and has a copy in the store\n"
		   "                                stores: hardware sets D in the entry\n"
		   "  clears the entry; D goes to the folio\n"
		   "  write fails: the folio stays, dirty, without a copy\n"
		   "                                loads: mapped again from the cache\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_DIRTY_TO_FOLIO),
	.setup = setup_write_fails,
	.end = end_write_fails,
};

SCENARIO(reclaim_write) = {
	.name = "reclaim_write",
	.title = "a clean page is written by a fault while reclaim takes it",
	.picture = "  CPU0: reclaim                 CPU1: user\n"
		   "  the page is clean and has a copy in the store\n"
		   "                                stores: traps; the entry becomes writable,\n"
		   "                                the folio dirty, the copy void\n"
		   "  clears the entry; dirty: writes it out\n",
	.kinds = BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup,
	.end = end,
};
