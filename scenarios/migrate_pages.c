/* A page moves to another frame while it is written, waited for, pinned, isolated, moved. */
#include "explore/scenario.h"

enum { MOVED, MOVED_TOO, STORED, PIN, HELD, FREED };

static void migrate(struct env *e)
{
	e->r[MOVED] = do_migrate(e, &e->folio, 1);
}

static void one_page(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

/* ---- a store ---- */

static void user(struct env *e)
{
	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[STORED] = 1;
}

static void setup_store(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "user", 1, user);
}

static void end_store(struct env *e)
{
	must(e->r[STORED], "the store has not ended");
	must(contents(e, AT(0)) == 2, "the store is lost");
}

SCENARIO(migrate_store) = {
	.name = "migrate_store",
	.title = "a page is written through a stale translation while it moves",
	.picture = "  CPU2: migration                CPU1: user\n"
		   "  entry -> migration entry       has it cached, writable\n"
		   "  (flush)\n"
		   "  copy\n"
		   "                                 stores into the old frame\n"
		   "  present: the new frame\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_FLUSH),
	.setup = setup_store,
	.end = end_store,
};

/* ---- a store that makes it dirty: the hardware says so in the entry, at any time ---- */

static void setup_dirty(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_swapped_out(e, AT(0));
	must(prepare_load(e, 1, AT(0)) == 1, "set-up: load");
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "migrate", 2, migrate);
	actor(e, "user", 1, user);
}

/* What is thought clean goes without being written. */
static void end_dirty(struct env *e)
{
	must(e->r[STORED], "the store has not ended");
	must(!do_advise(e, AT(0), 1, ADVISE_PAGEOUT), "madvise failed");
	must(contents(e, AT(0)) == 2, "the store is lost");
}

SCENARIO(migrate_dirty) = {
	.name = "migrate_dirty",
	.title = "a page that has a stored copy is written while it moves, then paged out",
	.picture = "  CPU2: migration                CPU1: user\n"
		   "  judges it\n"
		   "                                 stores: sets DIRTY in the entry\n"
		   "  entry -> migration entry\n"
		   "  (DIRTY goes to the folio)\n"
		   "  copy; present\n"
		   "  paged out: clean, not written\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_DIRTY_TO_FOLIO),
	.setup = setup_dirty,
	.end = end_dirty,
};

/* ---- accessed and dirty, which the hardware may set late ---- */

static void migrate_both(struct env *e)
{
	struct folio *f[2] = { e->folio, e->folio + 1 };

	e->r[MOVED] = do_migrate(e, f, 2);
}

static void setup_bits(struct env *e)
{
	area(e, AT(0), 2, RW);
	for (u32 i = 0; i < 2; i++) {
		prepare_store(e, 1, AT(i), 1);
		prepare_swapped_out(e, AT(i));
	}
	for (u32 i = 0; i < 2; i++)
		must(prepare_load(e, 1, AT(i)) == 1, "set-up: load");
	e->folio = folio_at(e, AT(0));
	must(folio_at(e, AT(1)) == e->folio + 1, "set-up: the frames are not neighbours");
	prepare_aged(e, e->folio);
	prepare_aged(e, e->folio + 1);
	must(!pte_young(entry_at(e, AT(0))) && !pte_dirty(entry_at(e, AT(0))), "set-up: bits");
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_page(e, AT(1));
	actor(e, "migrate", 2, migrate_both);
	actor(e, "user", 1, user);
}

static void end_bits(struct env *e)
{
	must(e->r[STORED], "the store has not ended");
	must(pte_young(entry_at(e, AT(0))), "a page that was used is thought old");
	must(pte_dirty(entry_at(e, AT(0))), "a page that was written is thought clean");
	must(!pte_young(entry_at(e, AT(1))), "an old page is thought young because it has moved");
	must(!pte_dirty(entry_at(e, AT(1))), "a clean page is thought dirty");
	must(contents(e, AT(0)) == 2 && contents(e, AT(1)) == 1, "a page is lost");
}

SCENARIO(migrate_bits) = {
	.name = "migrate_bits",
	.title = "the hardware sets accessed and dirty in the entry of a page that moves",
	.picture = "  CPU2: migration                CPU1: user\n"
		   "                                 stores: ACCESSED and DIRTY in the entry\n"
		   "  clears the entry\n"
		   "  (the migration entry keeps both)\n"
		   "  present: old, clean\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_KEEP_AD),
	.setup = setup_bits,
	.end = end_bits,
};

/* ---- who waits must not stop it ---- */

static void end_wait(struct env *e)
{
	end_store(e);
	must(e->r[MOVED] == 1, "the page was not moved because somebody waited for it");
}

static void setup_wait(struct env *e)
{
	one_page(e);
	prepare_cold_tlbs(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "user", 1, user);
}

SCENARIO(migrate_wait) = {
	.name = "migrate_wait",
	.title = "a fault waits for a page that moves",
	.picture = "  CPU2: migration                CPU1: user\n"
		   "  entry -> migration entry\n"
		   "                                 faults: waits for the folio's lock\n"
		   "                                 (without a reference)\n"
		   "  copy; somebody has a reference:\n"
		   "  not moved\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_WAIT_UNREFERENCED),
	.setup = setup_wait,
	.end = end_wait,
};

/* ---- a thread that helps with the copy ---- */

static void migrate_and_load(struct env *e)
{
	u64 v = 0;

	migrate(e);
	must(!user_load(e, AT(0), &v) && v == 1, "the load gives %d", (int)v);
	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[STORED] = 1;
}

static void helper(struct env *e)
{
	do_copier_help(e);
}

static void setup_copier(struct env *e)
{
	one_page(e);
	prepare_copier(e);
	actor(e, "migrate", 1, migrate_and_load);
	actor(e, "copier", 0, helper);
}

SCENARIO(migrate_copier) = {
	.name = "migrate_copier",
	.title = "another thread copies a page that moves",
	.picture = "  CPU1: migration, then a user   CPU0: copier\n"
		   "  a batch to be copied\n"
		   "                                 takes a piece of it\n"
		   "  no piece is left\n"
		   "  (waits for who has one)\n"
		   "  present: the new frame\n"
		   "  loads; stores                  copies\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_COPIER_WAIT),
	.setup = setup_copier,
	.end = end_store,
};

/* ---- a pin ---- */

static void pin(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	e->r[HELD] = !rc;
}

static void step_pinned(struct env *e)
{
	u64 v = entry_at(e, AT(0));

	/* Unmapping clears the entry, sees the pin, and puts it back. */
	if (!e->r[HELD] || pte_none(v) || pte_is_migration(v))
		return;
	must(phys_record(e->q, entry_pfn(v)) == e->pinned[0], "the pinned page has moved");
}

static void setup_pin(struct env *e)
{
	one_page(e);
	prepare_cold_tlbs(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "pin", 0, pin);
}

static void end_pin(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	pinned_store(e, 0, 3);
	must(contents(e, AT(0)) == 3, "what was stored by the pin is lost");
	e->r[HELD] = 0;
	do_unpin(e, 0);
}

SCENARIO(migrate_pin) = {
	.name = "migrate_pin",
	.title = "a page is pinned without a lock while it moves",
	.picture = "  CPU2: migration                CPU0: pin_fast\n"
		   "                                 reads the entry\n"
		   "  entry -> migration entry; pinned? no\n"
		   "  copy; references as expected: frozen\n"
		   "                                 adds the pin (but not to 0)\n"
		   "  the old page in nobody's hands but the pin's\n"
		   "                                 (entry still the same? else drop it)\n"
		   "  present: the new frame\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_REF_FREEZE),
	.setup = setup_pin,
	.step = step_pinned,
	.end = end_pin,
};

/* With the entry's lock. */
static void pin_slowly(struct env *e)
{
	int rc = do_pin(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	e->r[HELD] = !rc;
}

static void setup_pin_slowly(struct env *e)
{
	one_page(e);
	prepare_cold_tlbs(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "pin", 0, pin_slowly);
}

SCENARIO(migrate_pin_slowly) = {
	.name = "migrate_pin_slowly",
	.title = "a page is pinned while it moves",
	.picture = "  CPU2: migration                CPU0: pin\n"
		   "  entry -> migration entry\n"
		   "                                 waits for it (without a reference)\n"
		   "  frozen; replaced; present; wakes\n"
		   "                                 entry lock: the pin of the new one\n"
		   "  freed: by two\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_WAIT_UNREFERENCED),
	.setup = setup_pin_slowly,
	.step = step_pinned,
	.end = end_pin,
};

/* ---- reclaim: one of the two has it ---- */

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void setup_reclaim(struct env *e)
{
	one_page(e);
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	actor(e, "migrate", 2, migrate);
	actor(e, "reclaim", 0, reclaim);
}

static void end_reclaim(struct env *e)
{
	must(contents(e, AT(0)) == 1, "the page is lost");
}

SCENARIO(migrate_reclaim) = {
	.name = "migrate_reclaim",
	.title = "a page moves while reclaim evicts it",
	.picture = "  CPU2: migration                CPU0: reclaim\n"
		   "  on the list\n"
		   "                                 on the list\n"
		   "  (exactly one takes it off)\n"
		   "                                 both have it\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup_reclaim,
	.end = end_reclaim,
};

/* ---- two migrations ---- */

static void up(struct env *e)
{
	struct folio *f[2] = { e->folio, e->folio + 1 };

	e->r[MOVED] = do_migrate(e, f, 2);
}

static void down(struct env *e)
{
	struct folio *f[2] = { e->folio + 1, e->folio };

	e->r[MOVED_TOO] = do_migrate(e, f, 2);
}

static void setup_opposing(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_store(e, 1, AT(1), 2);
	e->folio = folio_at(e, AT(0));
	must(folio_at(e, AT(1)) == e->folio + 1, "set-up: the frames are not neighbours");
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_page(e, AT(1));
	actor(e, "migrate up", 2, up);
	actor(e, "migrate down", 0, down);
}

static void end_opposing(struct env *e)
{
	must(contents(e, AT(0)) == 1 && contents(e, AT(1)) == 2, "a page is lost");
}

SCENARIO(migrate_opposing) = {
	.name = "migrate_opposing",
	.title = "two migrations move the same two pages, in opposite order",
	.picture = "  CPU2: migration of X, Y        CPU0: migration of Y, X\n"
		   "  on the list: X                 on the list: Y\n"
		   "  (exactly one takes each off)\n"
		   "  locks X                        locks Y\n"
		   "  (locked: not now)              (locked: not now)\n"
		   "  both move one page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_LRU_ISOLATE_ONCE) | BIT(MECH_MIGRATE_TRYLOCK),
	.setup = setup_opposing,
	.end = end_opposing,
};
