/* Unmap and protect of one range by two threads, and a store through a stale translation. */
#include "explore/scenario.h"

enum { STORED, UNMAPPED, PROTECTED };

static void unmapper(struct env *e)
{
	e->r[UNMAPPED] = 1 + (u64)-do_unmap(e, AT(0), 1);
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
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "munmap", 0, unmapper);
	actor(e, "mprotect", 2, protector);
	actor(e, "user", 1, user);
}

static void step(struct env *e)
{
	if (e->r[PROTECTED] || e->r[UNMAPPED])
		must(!xm_reachable(e->m, 1, e->s->ms, AT(0), true),
		     "CPU1 can store to the page though %s has returned",
		     e->r[UNMAPPED] ? "munmap" : "mprotect");
}

static void end(struct env *e)
{
	u64 stored = e->r[STORED] - 1;

	must(e->r[UNMAPPED] == 1, "munmap failed");
	must(e->r[PROTECTED] == 1 || e->r[PROTECTED] == 1 + ENOMEM, "mprotect ended in error %d",
	     (int)e->r[PROTECTED] - 1);
	must(!stored || stored == EFAULT || stored == EACCES, "the store ended in error %d",
	     (int)stored);
	must(access_result(e, AT(0), false) == -EFAULT, "the area is still there");
}

SCENARIO(unmap_protect) = {
	.name = "unmap_protect",
	.title = "munmap and mprotect of one page by two threads",
	.picture =
		"  CPU0: munmap             CPU2: mprotect(READ)     CPU1: user\n"
		"                                                    has it in its TLB, writable\n"
		"  one after the other (space lock); each flushes before it returns\n"
		"                                                    stores, or is refused\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_FLUSH_BEFORE_FREE) | BIT(MECH_PROTECT_FLUSH),
	.setup = setup,
	.step = step,
	.end = end,
};
