/* Three threads take one folio off its list; one of them gets it. */
#include "explore/scenario.h"

static void isolate0(struct env *e)
{
	e->r[0] = do_isolate(e, e->folio);
}

static void isolate1(struct env *e)
{
	e->r[1] = do_isolate(e, e->folio);
}

static void isolate2(struct env *e)
{
	e->r[2] = do_isolate(e, e->folio);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	e->folio = folio_at(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "mlock", 0, isolate0);
	actor(e, "reclaim", 1, isolate1);
	actor(e, "compaction", 2, isolate2);
}

static void setup_two(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	e->folio = folio_at(e, AT(0));
	prepare_aged(e, e->folio);
	watch_folio(e, e->folio);
	actor(e, "mlock", 0, isolate0);
	actor(e, "reclaim", 1, isolate1);
}

static void end(struct env *e)
{
	must(e->r[0] || e->r[1] || e->r[2], "nobody got the folio");
	must(folio_test(e->folio, PG_LRU), "the folio is on no list");
}

SCENARIO(lru_isolate) = {
	.name = "lru_isolate",
	.title = "three threads isolate one folio: one owns it at a time",
	.picture = "  CPU0               CPU1               CPU2\n"
		   "  on a list? yes     on a list? yes     on a list? yes\n"
		   "  (test and clear PG_LRU in one operation: one winner)\n"
		   "  unlinks it         waits for its turn ...\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup,
	.end = end,
};

SCENARIO(lru_isolate_two) = {
	.name = "lru_isolate_two",
	.title = "two threads isolate one folio: one owns it at a time",
	.picture = "  CPU0               CPU1\n"
		   "  on a list? yes     on a list? yes\n"
		   "  (test and clear PG_LRU in one operation: one winner)\n"
		   "  unlinks it         unlinks it too\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup_two,
	.end = end,
};
