/* Pins without a lock against fork, against reclaim, and against both. */
#include "explore/scenario.h"

enum { PIN, HELD, DONE, FREED };

/* A page that is held is the one that the parent has, and the parent's alone. */
static void step(struct env *e)
{
	u64 v = entry_at(e, AT(0));

	/* Unmapping clears the entry, sees the pin, and puts it back. */
	if (!e->r[HELD] || pte_none(v))
		return;
	must(pte_present(v) && phys_record(e->q, entry_pfn(v)) == e->pinned[0],
	     "the pinned page is not mapped any more");
	must(a64_peek(&e->pinned[0]->flags) & BIT(PG_ANON_EXCLUSIVE),
	     "the pinned page is not exclusive");
}

static void pin(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_READ);

	e->r[PIN] = 1 + (u64)-rc;
	e->r[HELD] = !rc;
}

static void forker(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
	must(!do_protect(e, AT(0), 1, RW), "protect failed");
	must(!user_store(e, AT(0), 5), "the store failed");
	e->r[DONE] = 1;
}

/* The entry is exclusive and read-only, so that fork does not change it: only the sequence tells.
 */
static void setup_read_only(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	must(!do_protect(e, AT(0), 1, READ_ONLY), "set-up: protect");
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "pin", 0, pin);
	actor(e, "fork", 1, forker);
}

static void end(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	must(pinned_load(e, 0) == contents(e, AT(0)), "the pin shows another page than the parent");
	must(contents(e, AT(0)) == 5, "the parent's store is lost");
	must(child_contents(e, 0, AT(0)) == 1, "the child reads the parent's store");
	e->r[HELD] = 0;
	do_unpin(e, 0);
}

static void pin_write(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	e->r[HELD] = !rc;
}

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void setup_reclaimed(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "pin", 0, pin_write);
	actor(e, "reclaim", 2, reclaim);
}

static void end_reclaimed(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	pinned_store(e, 0, 2);
	must(contents(e, AT(0)) == 2, "what was stored by the pin is lost");
	e->r[HELD] = 0;
	do_unpin(e, 0);
}

/* The parent's store follows in the end: what it writes must be what the pin shows. */
static void fork_only(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
}

static void setup_three(struct env *e)
{
	setup_reclaimed(e);
	actor(e, "fork", 1, fork_only);
}

static void end_three(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	e->r[HELD] = 0;
	must(!xm_store(e->m, 1, e->s->ms, AT(0), 2), "the parent's store failed");
	must(folio_at(e, AT(0)) == e->pinned[0],
	     "the parent writes another page than the pinned one");
	must(child_contents(e, 0, AT(0)) == 1, "the child's page is lost");
	do_unpin(e, 0);
}

SCENARIO(fork_pin) = {
	.name = "fork_pin",
	.title = "a page is pinned without a lock while fork shares it",
	.picture = "  CPU0: pin_fast                CPU1: fork, then a store\n"
		   "                                (sequence odd)\n"
		   "                                pinned? no\n"
		   "  adds the pin; entry unchanged,\n"
		   "  page still exclusive\n"
		   "                                not exclusive any more\n"
		   "  (sequence changed? drop it)\n"
		   "                                the store copies: the pin shows the old page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_FORK_WRITE_SEQ) | BIT(MECH_PIN_BLOCKS_SHARING),
	.setup = setup_read_only,
	.step = step,
	.end = end,
};

SCENARIO(pin_fast_reclaim) = {
	.name = "pin_fast_reclaim",
	.title = "a page is pinned without a lock while reclaim unmaps it",
	.picture = "  CPU0: pin_fast                CPU2: reclaim\n"
		   "  reads the entry\n"
		   "                                clears the entry; pinned? no\n"
		   "  adds the pin\n"
		   "  (entry still the same? else drop it)\n"
		   "                                not exclusive any more, swap entry\n"
		   "  holds a page that is on its way out\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_PIN_FAST_RECHECK) | BIT(MECH_SHARE_AFTER_CLEAR),
	.off_home = BIT(MECH_PIN_FAST_RECHECK) | BIT(MECH_SHARE_AFTER_CLEAR),
	.setup = setup_reclaimed,
	.step = step,
	.end = end_reclaimed,
};

SCENARIO(fork_pin_reclaim) = {
	.name = "fork_pin_reclaim",
	.title = "reclaim, a pin without a lock, and fork meet on one page",
	.picture = "  CPU2: reclaim                 CPU0: pin_fast        CPU1: fork\n"
		   "  pinned? no                    reads the entry\n"
		   "                                adds the pin, looks again: still there\n"
		   "  clears the entry (and looks for pins again)\n"
		   "  not exclusive, swap entry\n"
		   "                                                      counts the slot twice\n"
		   "  the parent's next write copies a page that is pinned\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_SHARE_AFTER_CLEAR),
	.bound = 4,
	.setup = setup_three,
	.end = end_three,
};
