/* mremap moves a page under a CPU that stores to it. */
#include "explore/scenario.h"

#define NEW AT(8)

enum { MOVED, STORED };

static void mover(struct env *e)
{
	e->r[MOVED] = 1 + (u64)-do_remap(e, AT(0), 1, NEW);
}

static void user(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	watch_page(e, AT(0));
	watch_page(e, NEW);
	actor(e, "mremap", 0, mover);
	actor(e, "user", 1, user);
}

static void step(struct env *e)
{
	if (e->r[MOVED])
		must(!xm_reachable(e->m, 1, e->s->ms, AT(0), true),
		     "CPU1 can store to the old place though mremap has returned");
}

static void end(struct env *e)
{
	must(e->r[MOVED] == 1, "mremap failed");
	must(e->r[STORED] == 1 || e->r[STORED] == 1 + EFAULT, "the store ended in error %d",
	     (int)e->r[STORED] - 1);
	must(contents(e, NEW) == (e->r[STORED] == 1 ? 2 : 1), "the contents are wrong: %llu",
	     (unsigned long long)contents(e, NEW));
	must(access_result(e, AT(0), false) == -EFAULT, "something is left at the old place");
}

SCENARIO(move_store) = {
	.name = "move_store",
	.title = "mremap against a store to the old place: it moves along, or is refused",
	.picture = "  CPU0: mremap                  CPU1: user\n"
		   "                                has the page in its TLB\n"
		   "  clears the entry, sets the new one\n"
		   "                                stores through the TLB: moves along\n"
		   "  flushes\n"
		   "                                store: traps; no area there\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup,
	.step = step,
	.end = end,
};
