/* A pinned page outlives its mapping: it is charged for as long as it lives. */
#include "explore/scenario.h"

enum { PIN, UNMAPPED };

static void pin(struct env *e)
{
	e->r[PIN] = 1 + (u64)-do_pin(e, 0, AT(0), ACCESS_READ);
}

static void unmapper(struct env *e)
{
	e->r[UNMAPPED] = 1 + (u64)-do_unmap(e, AT(0), 1);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "pin", 0, pin);
	actor(e, "munmap", 2, unmapper);
}

static void end(struct env *e)
{
	must(e->r[UNMAPPED] == 1, "munmap failed");
	must(e->r[PIN] == 1 || e->r[PIN] == 1 + EFAULT, "the pin ended in error %d",
	     (int)e->r[PIN] - 1);
	if (e->r[PIN] != 1)
		return;
	must(cgroup_usage(e->q, CGROUP_ROOT) == 1, "a page lives by its pin, %llu are charged",
	     (unsigned long long)cgroup_usage(e->q, CGROUP_ROOT));
	do_unpin(e, 0);
}

SCENARIO(pin_charge) = {
	.name = "pin_charge",
	.title = "a page that only a pin keeps is still charged",
	.picture = "  CPU0: pin                     CPU2: munmap\n"
		   "  pins the page\n"
		   "                                last mapping goes\n"
		   "                                (the charge stays until the last reference)\n"
		   "  uses a page that nobody pays for\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_UNCHARGE_LAST_REF),
	.off_home = BIT(MECH_UNCHARGE_LAST_REF),
	.setup = setup,
	.end = end,
};
