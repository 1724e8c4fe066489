/* Reclaim has cleared an entry and not flushed it yet when protect finds nothing to protect. */
#include "explore/scenario.h"

enum { STORED, PROTECTED, FREED };

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

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
	e->folio = folio_at(e, AT(0));
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "mprotect", 2, protector);
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

SCENARIO(reclaim_protect) = {
	.name = "reclaim_protect",
	.title = "mprotect finds an entry that reclaim has cleared and not flushed",
	.picture =
		"  CPU0: reclaim            CPU2: mprotect(READ)     CPU1: user\n"
		"                                                    has it in its TLB, writable\n"
		"  clears the entry\n"
		"                           not present: nothing to do\n"
		"                           (flushes what reclaim owes)\n"
		"                           returns\n"
		"                                                    stores\n"
		"  flushes\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_FLUSH_BATCHED),
	.setup = setup,
	.step = step,
	.end = end,
};
