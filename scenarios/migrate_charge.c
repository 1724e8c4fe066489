/* A page moves while its group is at its limit: it is paid for once, by whoever brought it. */
#include "explore/scenario.h"

enum { MOVED, STORED };

/* Never more than there is to pay for. */
static void within_limit(struct env *e)
{
	must(cgroup_usage(e->q, CGROUP_ROOT) <= cgroup_limit(e->q, CGROUP_ROOT),
	     "more is charged than the limit allows");
}

static void migrate(struct env *e)
{
	e->r[MOVED] = do_migrate(e, &e->folio, 1);
}

static void user(struct env *e)
{
	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[STORED] = 1;
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	cgroup_set_limit(e->q, CGROUP_ROOT, cgroup_usage(e->q, CGROUP_ROOT));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "migrate", 2, migrate);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	must(e->r[STORED], "the store has not ended");
	must(cgroup_usage(e->q, CGROUP_ROOT) == cgroup_limit(e->q, CGROUP_ROOT),
	     "the page is not paid for any more");
	must(cgroup_peak(e->q, CGROUP_ROOT) == cgroup_limit(e->q, CGROUP_ROOT),
	     "the page was paid for twice for a while");
	must(contents(e, AT(0)) == 2, "the store is lost");
}

SCENARIO(migrate_charge) = {
	.name = "migrate_charge",
	.title = "a page moves while its group is at its limit",
	.picture = "  CPU2: migration                CPU1: user, in a group at its limit\n"
		   "  entry -> migration entry       waits for the page\n"
		   "  the new frame: charged\n"
		   "  (the charge moves along)       two are charged: beyond the limit\n"
		   "  the old frame: uncharged\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_CHARGE) | BIT(MECH_UNCHARGE_LAST_REF),
	.setup = setup,
	.step = within_limit,
	.end = end,
};
