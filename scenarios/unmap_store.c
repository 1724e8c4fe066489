/* Unmap against a store through a stale translation. */
#include "explore/scenario.h"

enum { STORED, UNMAPPED };

static void unmapper(struct env *e)
{
	e->r[UNMAPPED] = 1 + (u64)do_unmap(e, AT(0), 1);
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
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "munmap", 0, unmapper);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	must(e->r[UNMAPPED] == 1, "munmap failed");
	must(e->r[STORED] == 1 || e->r[STORED] == 1 + EFAULT, "the store ended in error %d",
	     (int)e->r[STORED] - 1);
	must(access_result(e, AT(0), false) == -EFAULT, "the area is still there");
}

SCENARIO(unmap_store) = {
	.name = "unmap_store",
	.title = "munmap against a store through a stale translation",
	.picture = "  CPU0: munmap                  CPU1: user\n"
		   "                                has the page in its TLB\n"
		   "  clears the entry\n"
		   "  (flushes: waits for CPU1)\n"
		   "  frees the frame\n"
		   "                                stores through the TLB entry: not its page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_FLUSH_BEFORE_FREE),
	.setup = setup,
	.end = end,
};
