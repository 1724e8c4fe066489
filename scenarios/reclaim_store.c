/* Reclaim against a store through a stale translation: is it in the copy? */
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

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	must(e->r[STORED] == 1, "the store ended in error %d", (int)e->r[STORED] - 1);
	must(contents(e, AT(0)) == 2, "the store is lost: %llu is read",
	     (unsigned long long)contents(e, AT(0)));
}

SCENARIO(reclaim_store) = {
	.name = "reclaim_store",
	.title = "reclaim against a store between unmapping and flush",
	.picture = "  CPU0: reclaim                 CPU1: user\n"
		   "                                has the page in its TLB\n"
		   "  entry becomes a swap entry\n"
		   "                                stores: in the frame, so in the copy\n"
		   "  (flushes)\n"
		   "  writes the bytes out\n"
		   "                                without the flush stores here: lost\n"
		   "  frees the frame\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_FLUSH_BEFORE_WRITEOUT),
	.off_home = BIT(MECH_FLUSH_BEFORE_WRITEOUT),
	.setup = setup,
	.end = end,
};
