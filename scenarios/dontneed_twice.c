/* Two threads drop one page; each may rely on its being gone when its own call returns. */
#include "explore/scenario.h"

enum { LOADED, DROPPED };

static void other(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_advise(e, AT(0), 1, ADVISE_DONTNEED);
}

static void user(struct env *e)
{
	u64 v = 0;
	int rc = do_advise(e, AT(0), 1, ADVISE_DONTNEED);

	if (!rc)
		rc = user_load(e, AT(0), &v);
	e->r[LOADED] = rc ? (u64)rc : 1 + v;
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "madvise", 0, other);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	must(e->r[DROPPED] == 1, "madvise failed");
	must(e->r[LOADED] == 1, "a load after madvise(DONTNEED) gives %lld, not 0",
	     (long long)e->r[LOADED] - 1);
}

SCENARIO(dontneed_twice) = {
	.name = "dontneed_twice",
	.title = "two threads drop one page: gone for each when its own call returns",
	.picture = "  CPU0: madvise(DONTNEED)       CPU1: madvise(DONTNEED), load\n"
		   "  clears the entry\n"
		   "                                nothing there (others tear down: flush all)\n"
		   "                                loads through its TLB: the old bytes\n"
		   "  flushes\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_FLUSH_NESTED),
	.setup = setup,
	.end = end,
};
