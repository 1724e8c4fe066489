/* A lazily freed page is written again before reclaim drops it. */
#include "explore/scenario.h"

enum { STORED, ADVISED, FREED };

static void dropper(struct env *e)
{
	e->r[ADVISED] = 1 + (u64)-do_advise(e, AT(0), 1, ADVISE_FREE);
	set_flag(e, 0);
	e->r[FREED] = do_reclaim(e, e->folio);
}

/* A store that begins after madvise has returned is the program's: it must stay. */
static void user(struct env *e)
{
	bool after = get_flag(e, 0);

	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[STORED] = after ? 2 : 1;
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "madvise", 0, dropper);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	u64 v = contents(e, AT(0));

	must(e->r[ADVISED] == 1, "madvise failed");
	must(v == 2 || (e->r[STORED] == 1 && v == 0), "the store is lost: %llu is read",
	     (unsigned long long)v);
}

SCENARIO(lazyfree_store) = {
	.name = "lazyfree_store",
	.title = "a lazily freed page is written while reclaim drops it",
	.picture = "  CPU0: madvise(FREE), reclaim  CPU1: user\n"
		   "                                has the page in its TLB, dirty\n"
		   "  entry loses D, flushes\n"
		   "  is no entry dirty?            stores: hardware sets D again\n"
		   "  clears the entry, gets D with it: puts it back\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup,
	.end = end,
};
