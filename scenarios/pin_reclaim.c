/* A page is pinned while reclaim takes it away. */
#include "explore/scenario.h"

enum { PIN, FREED, HELD };

static void pin(struct env *e)
{
	int rc = do_pin(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	if (rc)
		return;
	e->r[HELD] = 1;
	pinned_store(e, 0, 2);
	e->r[HELD] = 0;
	do_unpin(e, 0);
}

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "pin", 0, pin);
	actor(e, "reclaim", 2, reclaim);
}

static void step(struct env *e)
{
	u64 v = entry_at(e, AT(0));

	if (e->r[HELD])
		must(entry_present(v) && phys_folio(e->q, entry_pfn(v)) == e->pinned[0],
		     "the pinned page is not mapped any more");
}

static void end(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	must(contents(e, AT(0)) == 2, "what was stored by the pin is lost");
}

SCENARIO(pin_reclaim) = {
	.name = "pin_reclaim",
	.title = "a page is pinned while reclaim is about to unmap it",
	.picture = "  CPU0: pin for writing         CPU2: reclaim\n"
		   "                                judges the page: not pinned\n"
		   "  entry lock; present: pins it\n"
		   "                                entry lock; (pinned? leave it)\n"
		   "                                unmaps it and writes it out\n"
		   "  the device stores: not in the copy\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_PIN_BLOCKS_RECLAIM),
	.off_home = BIT(MECH_PIN_BLOCKS_RECLAIM),
	.setup = setup,
	.step = step,
	.end = end,
};
