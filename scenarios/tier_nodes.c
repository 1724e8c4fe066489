/* A page of home frames changes its node: it keeps its frame, is parked, and comes back. */
#include "explore/scenario.h"

enum { MOVED, MOVED_TOO, DONE, LOADED, PIN, HELD };

static void demote(struct env *e)
{
	e->r[MOVED] = do_to_node(e, &e->folio, 1, 1, false);
}

static void one_page(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	prepare_promotion(e, false);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

/* ---- given up ---- */

static void discard(struct env *e)
{
	must(!do_advise(e, AT(0), 1, ADVISE_DONTNEED), "madvise failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void user_of_discarded(struct env *e)
{
	bool after = get_flag(e, 0);
	u64 v = 0;

	must(!user_load(e, AT(0), &v), "the load failed");
	must(!v || (v == 1 && !after), "after madvise the load gives %d", (int)v);
	e->r[LOADED] = 1;
}

static void setup_discard(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, demote);
	actor(e, "madvise", 0, discard);
	actor(e, "user", 1, user_of_discarded);
}

static void end_discard(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(contents(e, AT(0)) == 0, "a page that was given up is back");
}

SCENARIO(tier_discard) = {
	.name = "tier_discard",
	.title = "a home page changes its node while it is given up and used again",
	.picture =
		"  CPU2: migration                CPU0: madvise(DONTNEED)   CPU1: user\n"
		"  entry -> migration entry\n"
		"                                 (clears it), empties the page\n"
		"  parks what has bytes                                     waits for the folio\n"
		"  present: without bytes                                   zeroes\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off_home = BIT(MECH_MIGRATE_ZAP),
	.setup = setup_discard,
	.end = end_discard,
};

/* ---- protected ---- */

static void protect(struct env *e)
{
	must(!do_protect(e, AT(0), 1, READ_ONLY), "protect failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void user_of_protected(struct env *e)
{
	bool after = get_flag(e, 0);
	int rc = user_store(e, AT(0), 2);

	must(!after || rc == -EACCES, "a store gets through after protect has returned");
	e->r[LOADED] = rc ? 1 : 2;
}

static void setup_protect(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, demote);
	actor(e, "protect", 0, protect);
	actor(e, "user", 1, user_of_protected);
}

static void end_protect(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(access_result(e, AT(0), true) == -EACCES, "the page can be written");
	must(contents(e, AT(0)) == e->r[LOADED], "the page is lost");
}

SCENARIO(tier_protect) = {
	.name = "tier_protect",
	.title = "a home page changes its node while stores to it are forbidden",
	.picture = "  CPU2: migration                CPU0: mprotect(READ)      CPU1: user\n"
		   "  entry -> writable migration entry\n"
		   "                                 the machine forbids stores in the area\n"
		   "                                 takes WRITE from the migration entry\n"
		   "  present, as it says                                      traps\n"
		   "No switch: the machine enforces the area, whatever the entry says.\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.setup = setup_protect,
	.end = end_protect,
};

/* ---- pinned ---- */

static void pin(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	e->r[HELD] = !rc;
}

/* Unmapping clears the entry, sees the pin, and puts it back. */
static void step_pin(struct env *e)
{
	must(!e->r[HELD] || !pte_is_migration(entry_at(e, AT(0))),
	     "a pinned page is taken from its address");
}

static void setup_pin(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, demote);
	actor(e, "pin", 0, pin);
}

static void end_pin(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	must(xm_reachable(e->m, 1, e->s->ms, AT(0), false),
	     "a pinned page is not accessible at its address");
	e->r[HELD] = 0;
	do_unpin(e, 0);
	must(contents(e, AT(0)) == 1, "the page is lost");
}

SCENARIO(tier_pin) = {
	.name = "tier_pin",
	.title = "a home page is pinned without a lock while it changes its node",
	.picture = "  CPU2: migration                CPU0: pin_fast\n"
		   "  pinned? no                     reads the entry\n"
		   "  entry -> migration entry\n"
		   "                                 adds the pin\n"
		   "  (pinned by now? present again)\n"
		   "  parks the page                 (entry still the same? else drops it)\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off_home = BIT(MECH_SHARE_AFTER_CLEAR) | BIT(MECH_PIN_FAST_RECHECK) |
		    BIT(MECH_PIN_BLOCKS_RECLAIM),
	.setup = setup_pin,
	.step = step_pin,
	.end = end_pin,
};

/* ---- paged out ---- */

static void reclaim(struct env *e)
{
	e->r[DONE] = 1 + do_reclaim(e, e->folio);
}

static void user_of_reclaimed(struct env *e)
{
	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[LOADED] = 1;
}

static void setup_reclaim(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, demote);
	actor(e, "reclaim", 0, reclaim);
}

static void end_reclaim(struct env *e)
{
	must(e->r[DONE], "an actor has not ended");
	must(contents(e, AT(0)) == 1, "the page is lost");
}

SCENARIO(tier_reclaim) = {
	.name = "tier_reclaim",
	.title = "a home page changes its node while reclaim evicts it",
	.picture = "  CPU2: migration                CPU0: reclaim\n"
		   "  on the list                    on the list\n"
		   "  (exactly one takes it off)\n"
		   "  parks it                       writes it out, empties it\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off_home = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup_reclaim,
	.end = end_reclaim,
};

static void setup_store(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, demote);
	actor(e, "user", 1, user_of_reclaimed);
}

static void end_store(struct env *e)
{
	must(e->r[LOADED], "an actor has not ended");
	must(contents(e, AT(0)) == 2, "the store is lost");
	must(folio_node(e->folio) == e->r[MOVED], "the node is wrong");
}

SCENARIO(tier_store) = {
	.name = "tier_store",
	.title = "a home page is written while it changes its node",
	.picture = "  CPU2: migration                CPU1: user\n"
		   "  entry -> migration entry       stores: the page is still there\n"
		   "  parks it, moves its bytes      traps: waits for the folio\n"
		   "  present                        stores\n"
		   "No switch: the machine's call is the barrier.\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.setup = setup_store,
	.end = end_store,
};

/* ---- moved by mremap ---- */

#define NEW AT(2)

static void mover(struct env *e)
{
	e->r[DONE] = 1 + (u64)-do_remap(e, AT(0), 1, NEW);
}

static void setup_remap(struct env *e)
{
	one_page(e);
	watch_page(e, NEW);
	actor(e, "migrate", 2, demote);
	actor(e, "mremap", 0, mover);
}

static void end_remap(struct env *e)
{
	must(e->r[DONE] == 1, "mremap ended in error %d", (int)e->r[DONE] - 1);
	must(!pte_is_migration(entry_at(e, NEW)), "the page moves for ever");
	must(contents(e, NEW) == 1, "the page is lost");
	must(folio_node(folio_at(e, NEW)) == e->r[MOVED], "it is on the wrong node");
}

SCENARIO(tier_remap) = {
	.name = "tier_remap",
	.title = "a home page changes its node while mremap moves it",
	.picture = "  CPU2: migration                CPU0: mremap\n"
		   "  entry -> migration entry\n"
		   "                                 not present: a swap entry?\n"
		   "                                 (no, it moves: waits for it)\n"
		   "                                 moves the entry, old -> new\n"
		   "  looks at the old place: nothing\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off_home = BIT(MECH_REMAP_RMAP_LOCK),
	.setup = setup_remap,
	.end = end_remap,
};

/* ---- the lists of two nodes ---- */

static void promote_neighbour(struct env *e)
{
	struct folio *f = e->folio + 1;

	e->r[MOVED] = do_to_node(e, &f, 1, 0, false);
}

static void take_clusters(struct env *e)
{
	e->r[DONE] = 1 + do_isolate_clusters(e, 1);
}

static void setup_clusters(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_store(e, 1, AT(1), 2);
	e->folio = folio_at(e, AT(0));
	prepare_slow(e, AT(0));
	prepare_slow(e, AT(1));
	prepare_promotion(e, false);
	watch_folio(e, e->folio + 1);
	actor(e, "promotion", 2, promote_neighbour);
	actor(e, "reclaim", 0, take_clusters);
}

static void end_clusters(struct env *e)
{
	must(e->r[DONE] > 1, "reclaim found nothing");
	must(contents(e, AT(0)) == 1 && contents(e, AT(1)) == 2, "a page is lost");
}

SCENARIO(tier_clusters) = {
	.name = "tier_clusters",
	.title =
		"a home page changes its node while its neighbours leave the old list",
	.picture =
		"  CPU2: migration of Y           CPU0: reclaim, X and its neighbours\n"
		"  off the slow list\n"
		"                                 slow node's lock; Y is of the slow node\n"
		"  Y is of the fast node\n"
		"  on the fast list: PG_LRU\n"
		"                                 PG_LRU (node read before: the slow one)\n"
		"                                 takes Y off the fast list, with the slow lock\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off_home = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup_clusters,
	.end = end_clusters,
};

/* ---- two migrations ---- */

static void promote(struct env *e)
{
	e->r[MOVED_TOO] = do_to_node(e, &e->folio, 1, 0, false);
}

static void setup_opposing(struct env *e)
{
	one_page(e);
	actor(e, "to the slow", 2, demote);
	actor(e, "to the fast", 0, promote);
}

static void end_opposing(struct env *e)
{
	must(contents(e, AT(0)) == 1, "the page is lost");
	must(folio_node(e->folio) == e->r[MOVED] - e->r[MOVED_TOO], "the node is wrong");
}

SCENARIO(tier_opposing) = {
	.name = "tier_opposing",
	.title = "two migrations move a home page to each other's node",
	.picture = "  CPU2: to the slow node         CPU0: to the fast node\n"
		   "  on the list                    on the list\n"
		   "  (exactly one takes it off)\n"
		   "  parks it                       parks it\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off_home = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup_opposing,
	.end = end_opposing,
};
