/* A lazily freed page is written again: before reclaim drops it, and while it is being freed. */
#include "explore/scenario.h"

enum { STORED, OTHER };

static void freer(struct env *e)
{
	e->r[OTHER] = 1 + (u64)-do_advise(e, AT(0), 1, ADVISE_FREE);
	set_flag(e, 0);
}

static void reclaim(struct env *e)
{
	(void)do_reclaim(e, e->folio);
	e->r[OTHER] = 1;
}

/* A store that begins after madvise has returned is the program's: it must stay. */
static void user(struct env *e)
{
	bool after = get_flag(e, 0);

	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[STORED] = after ? 2 : 1;
}

static void prepare(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	lru_drain_all(e->q);
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

static void setup_free(struct env *e)
{
	prepare(e);
	actor(e, "madvise", 0, freer);
	actor(e, "user", 1, user);
}

static void setup_reclaim(struct env *e)
{
	prepare(e);
	must(!do_advise(e, AT(0), 1, ADVISE_FREE), "set-up: free");
	set_flag(e, 0);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	u64 v = contents(e, AT(0));

	must(e->r[OTHER] == 1, "madvise failed");
	must(v == 2 || (e->r[STORED] == 1 && v == 0), "the store is lost: %llu is read",
	     (unsigned long long)v);
}

/* Whatever may be dropped is dropped now. */
static void end_free(struct env *e)
{
	(void)do_reclaim(e, e->folio);
	end(e);
}

SCENARIO(lazyfree_store) = {
	.name = "lazyfree_store",
	.title = "madvise(FREE) against a store: one that begins later is not lost",
	.picture = "  CPU0: madvise(FREE)           CPU1: user\n"
		   "                                has the page in its TLB, dirty\n"
		   "  entry loses D, the folio is clean\n"
		   "  flushes before it lets the entry go\n"
		   "                                stores: D is set again\n"
		   "  reclaim: dirty: not to be dropped\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup_free,
	.end = end_free,
};

SCENARIO(lazyfree_reclaim) = {
	.name = "lazyfree_reclaim",
	.title = "a lazily freed page is written while reclaim drops it",
	.picture = "  CPU0: reclaim                 CPU1: user\n"
		   "  is no entry dirty?            stores: D is set again\n"
		   "  clears the entry, gets D with it: puts it back\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup_reclaim,
	.end = end,
};
