/* A swap slot is freed while a fault reads it in. */
#include "explore/scenario.h"

enum { LOADED, DROPPED };

static void user(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, AT(0), &v);

	e->r[LOADED] = rc ? (u64)rc : 1 + v;
}

static void dropper(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_advise(e, AT(0), 1, ADVISE_DONTNEED);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	lru_drain_all(e->q);
	prepare_swapped_out(e, AT(0));
	watch_page(e, AT(0));
	actor(e, "user", 1, user);
	actor(e, "madvise", 0, dropper);
}

static void end(struct env *e)
{
	must(e->r[DROPPED] == 1, "madvise failed");
	must(e->r[LOADED] == 1 + 7 || e->r[LOADED] == 1, "the load gives %lld, neither 7 nor 0",
	     (long long)e->r[LOADED] - 1);
	must(contents(e, AT(0)) == 0, "the page was to be dropped");
}

SCENARIO(swap_dontneed) = {
	.name = "swap_dontneed",
	.title = "a swap slot is freed by MADV_DONTNEED while a fault reads it",
	.picture = "  CPU1: load                    CPU0: madvise(DONTNEED)\n"
		   "  entry says: slot 1; reads it\n"
		   "                                clears the entry, frees slot 1\n"
		   "  (entry still slot 1? no: look again)\n"
		   "  maps a page that was dropped, by a slot that is free\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_SWAP_RECHECK_ENTRY),
	.off_home = BIT(MECH_SWAP_RECHECK_ENTRY),
	.setup = setup,
	.end = end,
};
