/* Reclaim freezes a folio while a fault finds it in the swap cache without a lock. */
#include "explore/scenario.h"

static void reclaim(struct env *e)
{
	e->r[0] = do_reclaim(e, e->folio);
}

static void user(struct env *e)
{
	/* A store, because home frames can be loaded from until they are released. */
	e->r[1] = 1 + (u64)-user_store(e, AT(0), 8);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	e->folio = folio_at(e, AT(0));
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "user", 1, user);
}

static void setup_fails(struct env *e)
{
	setup(e);
	inject_every(&e->inject, INJECT_STORE_WRITE, 1);
}

static void end(struct env *e)
{
	must(e->r[1] == 1, "the store ended in error %d", (int)e->r[1] - 1);
	must(contents(e, AT(0)) == 8, "the store is lost: %llu is read",
	     (unsigned long long)contents(e, AT(0)));
}

SCENARIO(reclaim_fault) = {
	.name = "reclaim_fault",
	.title = "reclaim frees a page that a lookup in the swap cache is finding",
	.picture = "  CPU0: reclaim                 CPU1: store\n"
		   "  entry becomes a swap entry\n"
		   "                                fault: slot -> folio, takes a reference\n"
		   "  (freeze: references as expected? no: it stays)\n"
		   "  without it: frees a page that is being mapped\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_REF_FREEZE),
	.off_home = BIT(MECH_REF_FREEZE),
	.setup = setup,
	.end = end,
};

static void end_fails(struct env *e)
{
	inject_off(&e->inject, INJECT_STORE_WRITE);
	end(e);
	must(!do_advise(e, AT(0), 1, ADVISE_PAGEOUT), "page out");
	end(e);
}

SCENARIO(reclaim_fault_fails) = {
	.name = "reclaim_fault_fails",
	.title = "reclaim cannot write a page out that a fault is bringing back",
	.picture = "  CPU0: reclaim                 CPU1: store\n"
		   "  entry becomes a swap entry\n"
		   "                                fault: finds the folio, waits for it\n"
		   "  the store refuses the page: it stays in the cache, dirty\n"
		   "                                maps it again\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup_fails,
	.end = end_fails,
};
