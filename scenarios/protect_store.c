/* Once protect has returned nobody stores any more. */
#include "explore/scenario.h"

enum { STORED, PROTECTED };

static void protector(struct env *e)
{
	e->r[PROTECTED] = 1 + (u64)-do_protect(e, AT(0), 1, READ_ONLY);
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
	actor(e, "mprotect", 0, protector);
	actor(e, "user", 1, user);
}

static void step(struct env *e)
{
	if (e->r[PROTECTED])
		must(!xm_reachable(e->m, 1, e->s->ms, AT(0), true),
		     "CPU1 can store to the page though mprotect has returned");
}

static void end(struct env *e)
{
	must(e->r[PROTECTED] == 1, "mprotect failed");
	must(e->r[STORED] == 1 || e->r[STORED] == 1 + EACCES, "the store ended in error %d",
	     (int)e->r[STORED] - 1);
	must(contents(e, AT(0)) == (e->r[STORED] == 1 ? 2 : 1), "the contents are wrong");
}

SCENARIO(protect_store) = {
	.name = "protect_store",
	.title = "mprotect against a store: none gets through once it has returned",
	.picture = "  CPU0: mprotect(READ)          CPU1: user\n"
		   "                                has the page in its TLB, writable\n"
		   "  entry loses W\n"
		   "  (flushes: waits for CPU1)\n"
		   "  returns\n"
		   "                                stores through the TLB entry\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_PROTECT_FLUSH),
	.setup = setup,
	.step = step,
	.end = end,
};
