/* Slow memory whose next use is to be noticed: the end of a lease, and what a use does. */
#include "explore/scenario.h"

enum { MOVED, DONE, LOADED, LOADED_TOO, PIN, HELD };

static void one_page(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

/* ---- the end of a lease against a pin ---- */

static void end_lease(struct env *e)
{
	do_end_leases(e);
	e->r[DONE] = 1;
}

static void pin(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	e->r[HELD] = !rc;
}

/* Who ends the lease clears the entry, sees the pin, and puts it back. */
static void step_pin(struct env *e)
{
	must(!e->r[HELD] || !pte_is_hint(entry_at(e, AT(0))),
	     "a pinned page is not accessible at its address");
}

static void setup_pin(struct env *e)
{
	one_page(e);
	prepare_leased(e, 1, AT(0));
	prepare_cold_tlbs(e);
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "lease", 2, end_lease);
	actor(e, "pin", 0, pin);
}

static void end_pin(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	must(e->kind != ON_HOME || xm_reachable(e->m, 1, e->s->ms, AT(0), false),
	     "a pinned page is not accessible at its address");
	pinned_store(e, 0, 3);
	must(contents(e, AT(0)) == 3, "what was stored by the pin is lost");
	e->r[HELD] = 0;
	do_unpin(e, 0);
}

SCENARIO(tier_lease_pin) = {
	.name = "tier_lease_pin",
	.title = "a lease of slow memory ends while its page is pinned without a lock",
	.picture = "  CPU2: end of the lease         CPU0: pin_fast\n"
		   "  pinned? no                     reads the entry: present\n"
		   "  clears the entry\n"
		   "                                 adds the pin\n"
		   "  (pinned by now? puts it back)\n"
		   "  hint; takes the page away      (entry still the same? else drops the pin)\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off = BIT(MECH_HINT_NOT_PINNED),
	.off_home = BIT(MECH_HINT_NOT_PINNED),
	.setup = setup_pin,
	.step = step_pin,
	.end = end_pin,
};

/* ---- the end of a lease against a store, and against the end of the area ---- */

static void user(struct env *e)
{
	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[LOADED] = 1;
}

static void setup_store(struct env *e)
{
	one_page(e);
	prepare_leased(e, 1, AT(0));
	actor(e, "lease", 2, end_lease);
	actor(e, "user", 1, user);
}

static void end_store(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(!do_advise(e, AT(0), 1, ADVISE_PAGEOUT), "madvise failed");
	must(contents(e, AT(0)) == 2, "the store is lost");
}

SCENARIO(tier_lease_store) = {
	.name = "tier_lease_store",
	.title = "a page is written while its lease ends, then paged out",
	.picture = "  CPU2: end of the lease         CPU1: user\n"
		   "  reads the entry                has it cached\n"
		   "                                 stores: sets DIRTY in the entry\n"
		   "  clears it; the hint keeps DIRTY\n"
		   "  flushes, or parks the page: the call itself is the barrier\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.setup = setup_store,
	.end = end_store,
};

static void unmap(struct env *e)
{
	must(!do_unmap(e, AT(0), 1), "munmap failed");
	e->r[LOADED] = 1;
}

static void setup_unmap(struct env *e)
{
	one_page(e);
	prepare_leased(e, 1, AT(0));
	actor(e, "lease", 2, end_lease);
	actor(e, "munmap", 0, unmap);
}

static void end_unmap(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(access_result(e, AT(0), false) == -EFAULT, "something is left of the area");
}

SCENARIO(tier_lease_unmap) = {
	.name = "tier_lease_unmap",
	.title = "a lease ends while its area is unmapped",
	.picture = "  CPU2: end of the lease         CPU0: munmap\n"
		   "  finds the table                clears the entry, unhooks the table\n"
		   "  locked: still in the tree? then its entries are this area's,\n"
		   "  or none, or another area's: none is taken for what it was\n"
		   "No switch: the entry lock keeps them apart.\n",
	.kinds = BIT(ON_HW) | BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.setup = setup_unmap,
	.end = end_unmap,
};

/* ---- promotion by a fault ---- */

static void load(struct env *e)
{
	u64 v = 0;

	must(!user_load(e, AT(0), &v), "the load failed");
	must(v == 1, "the load gives %d", (int)v);
	e->r[LOADED] = 1;
}

static void load_too(struct env *e)
{
	must(!do_fault(e, AT(0), ACCESS_READ), "the fault failed");
	e->r[LOADED_TOO] = 1;
}

static void setup_two(struct env *e)
{
	one_page(e);
	prepare_slow(e, AT(0));
	prepare_promotion(e, true);
	actor(e, "user", 1, load);
	actor(e, "another", 2, load_too);
}

static void end_two(struct env *e)
{
	must(e->r[LOADED] && e->r[LOADED_TOO], "an actor has not ended");
	must(contents(e, AT(0)) == 1, "the page is lost");
}

SCENARIO(tier_two_faults) = {
	.name = "tier_two_faults",
	.title = "two faults meet one hint, and both promote its page",
	.picture = "  CPU1: fault                    CPU2: fault\n"
		   "  a reference on the page        a reference on the page\n"
		   "  takes it off its list          takes it off its list\n"
		   "  (exactly one does)\n"
		   "  moves it                       uses it where it is\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off = BIT(MECH_LRU_ISOLATE_ONCE),
	.off_home = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup_two,
	.end = end_two,
};

static void discard(struct env *e)
{
	must(!do_advise(e, AT(0), 1, ADVISE_DONTNEED), "madvise failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void load_discarded(struct env *e)
{
	bool after = get_flag(e, 0);
	u64 v = 0;

	must(!user_load(e, AT(0), &v), "the load failed");
	must(!v || (v == 1 && !after), "after madvise the load gives %d", (int)v);
	e->r[LOADED] = 1;
}

static void setup_promote_discard(struct env *e)
{
	one_page(e);
	prepare_slow(e, AT(0));
	prepare_promotion(e, true);
	actor(e, "user", 1, load_discarded);
	actor(e, "madvise", 0, discard);
}

static void end_discard(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(contents(e, AT(0)) == 0, "a page that was given up is back");
}

SCENARIO(tier_promote_discard) = {
	.name = "tier_promote_discard",
	.title = "a fault promotes a page that is given up",
	.picture = "  CPU1: fault                    CPU0: madvise(DONTNEED)\n"
		   "  entry -> migration entry\n"
		   "                                 (clears it)\n"
		   "                                 return\n"
		   "  present on the fast node\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off = BIT(MECH_MIGRATE_ZAP),
	.off_home = BIT(MECH_MIGRATE_ZAP),
	.setup = setup_promote_discard,
	.end = end_discard,
};

static void load_unmapped(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, AT(0), &v);

	must(rc == -EFAULT || (!rc && v == 1), "the load ends with %d and %d", rc, (int)v);
	e->r[LOADED] = 1;
}

static void unmap_promoted(struct env *e)
{
	must(!do_unmap(e, AT(0), 1), "munmap failed");
	e->r[DONE] = 1;
}

static void setup_promote_unmap(struct env *e)
{
	one_page(e);
	prepare_slow(e, AT(0));
	prepare_promotion(e, true);
	actor(e, "user", 1, load_unmapped);
	actor(e, "munmap", 0, unmap_promoted);
}

SCENARIO(tier_promote_unmap) = {
	.name = "tier_promote_unmap",
	.title = "a fault promotes a page whose area is unmapped",
	.picture =
		"  CPU1: fault                    CPU0: munmap\n"
		"  the area locked                write-locks the area: waits\n"
		"  moves the page\n"
		"  unlocks                        clears the entry, of the page where it is now\n"
		"No switch: the area's lock keeps them apart.\n",
	.kinds = BIT(ON_HW) | BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.setup = setup_promote_unmap,
	.end = end_unmap,
};

/* ---- demotion against a store ---- */

static void demote(struct env *e)
{
	e->r[MOVED] = do_to_node(e, &e->folio, 1, 1, true);
	e->r[DONE] = 1;
}

static void setup_demote(struct env *e)
{
	one_page(e);
	prepare_promotion(e, false);
	actor(e, "demotion", 2, demote);
	actor(e, "user", 1, user);
}

static void end_demote(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(contents(e, AT(0)) == 2, "the store is lost");
}

SCENARIO(tier_demote_store) = {
	.name = "tier_demote_store",
	.title = "a page is written through a stale translation while it is demoted",
	.picture =
		"  CPU2: demotion                 CPU1: user\n"
		"  entry -> migration entry       has it cached, writable\n"
		"  (flush)\n"
		"  copy\n"
		"                                 stores into the old frame\n"
		"  hint: the new frame            traps: leases it there\n"
		"Home frames: the machine parks the page before it moves the bytes; no switch.\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.tiers = true,
	.off = BIT(MECH_MIGRATE_FLUSH),
	.setup = setup_demote,
	.end = end_demote,
};
