/* A page of a file moves to another frame while it is written, truncated, synced. */
#include "explore/scenario.h"

#include "object/object.h"

enum { MOVED, DONE, LOADED, PIN };

static void migrate(struct env *e)
{
	e->r[MOVED] = do_migrate(e, &e->folio, 1);
}

static void one_page(struct env *e)
{
	file(e, 1);
	must(!do_file_store(e, 0, 7) && !do_fsync(e), "set-up: write");
	file_area(e, AT(0), 1, RW, true);
	must(prepare_load(e, 1, AT(0)) == 7, "set-up: load");
	e->folio = folio_at(e, AT(0));
	lru_drain_all(e->q);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

/* ---- write(2) finds the page without a lock ---- */

static void writer(struct env *e)
{
	must(!do_file_store(e, 0, 8), "the write failed");
	e->r[DONE] = 1;
}

static void setup_write(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "write", 0, writer);
}

static void end_write(struct env *e)
{
	u64 v = 0;

	must(e->r[DONE], "the write has not ended");
	must(do_file_load(e, 0, &v) == sizeof(v) && v == 8, "what was written is lost");
	must(contents(e, AT(0)) == 8, "the mapping shows another page than the file has");
	must(!object_check(e->object), "the page cache is not in order");
}

SCENARIO(migrate_file_write) = {
	.name = "migrate_file_write",
	.title = "a page of a file is written by write(2) while it moves",
	.picture = "  CPU2: migration                CPU0: write(2)\n"
		   "  references as expected: frozen\n"
		   "                                 finds the old page (but takes no frozen one)\n"
		   "  the new page takes its place\n"
		   "                                 writes to the old page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_REF_FREEZE),
	.setup = setup_write,
	.end = end_write,
};

/* ---- truncation ---- */

static void no_page_beyond(struct env *e)
{
	must(object_nr_indices(e->object) > 0 || !pte_present(entry_at(e, AT(0))),
	     "a page beyond the file's end is mapped");
}

static void truncate(struct env *e)
{
	must(!do_truncate(e, 0), "truncate failed");
	must(pte_none(entry_at(e, AT(0))), "truncate left an entry");
	e->r[DONE] = 1;
}

static void step_truncate(struct env *e)
{
	if (e->r[DONE])
		no_page_beyond(e);
}

static void reader(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, AT(0), &v);

	must(rc == -ENXIO || (!rc && v == 7), "the load gives %d, %d", rc, (int)v);
	e->r[LOADED] = 1;
}

static void setup_truncate(struct env *e)
{
	one_page(e);
	prepare_cold_tlbs(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "truncate", 0, truncate);
	actor(e, "user", 1, reader);
}

static void end_truncate(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(!object_check(e->object), "the page cache is not in order");
	must(access_result(e, AT(0), false) == -ENXIO, "a load beyond the end does not trap");
}

SCENARIO(migrate_file_truncate) = {
	.name = "migrate_file_truncate",
	.title = "a mapped page of a file moves while the file is truncated",
	.picture = "  CPU2: migration                CPU0: truncate\n"
		   "  entry -> migration entry\n"
		   "                                 the size; unmaps: nothing present\n"
		   "                                 (clears the migration entry)\n"
		   "  present: the new frame\n"
		   "                                 takes the page out of the cache: mapped\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_ZAP),
	.bound = 2,
	.setup = setup_truncate,
	.step = step_truncate,
	.end = end_truncate,
};

/* ---- write-back ---- */

static void user(struct env *e)
{
	must(!user_store(e, AT(0), 8), "the store failed");
	set_flag(e, 0);
	e->r[LOADED] = 1;
}

static void syncer(struct env *e)
{
	bool after = get_flag(e, 0);

	must(!do_fsync(e), "fsync failed");
	must(!after || disk(e, 0) == 8, "what was stored before fsync is not on the disk");
	e->r[DONE] = 1;
}

static void setup_sync(struct env *e)
{
	one_page(e);
	prepare_store(e, 1, AT(0), 7);
	actor(e, "migrate", 2, migrate);
	actor(e, "user", 1, user);
	actor(e, "fsync", 0, syncer);
}

static void end_sync(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(contents(e, AT(0)) == 8, "the store is lost");
	must(!do_fsync(e), "fsync failed");
	must(disk(e, 0) == 8, "the store never reaches the disk");
}

SCENARIO(migrate_file_sync) = {
	.name = "migrate_file_sync",
	.title = "a page that is written through a mapping moves while its file is synced",
	.picture = "  CPU2: migration                CPU1: user            CPU0: fsync\n"
		   "  entry -> migration entry       has it cached\n"
		   "  (flush)\n"
		   "  copy                           stores\n"
		   "  present: the new frame                               writes the new page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_FLUSH),
	.bound = 2,
	.setup = setup_sync,
	.end = end_sync,
};

/* ---- a pin ---- */

static void pin(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	if (!rc)
		pinned_store(e, 0, 9);
}

static void setup_pin(struct env *e)
{
	one_page(e);
	prepare_store(e, 1, AT(0), 8);
	prepare_cold_tlbs(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "pin", 0, pin);
}

static void end_pin(struct env *e)
{
	must(e->r[PIN] == 1, "the pin ended in error %d", (int)e->r[PIN] - 1);
	must(contents(e, AT(0)) == 9, "what was stored by the pin is lost");
	do_unpin(e, 0);
}

SCENARIO(migrate_file_pin) = {
	.name = "migrate_file_pin",
	.title = "a page of a file is pinned without a lock while it moves",
	.picture = "  CPU2: migration                CPU0: pin_fast\n"
		   "                                 reads the entry\n"
		   "  entry -> migration entry\n"
		   "  references as expected: frozen; copy\n"
		   "  the new page takes its place\n"
		   "                                 adds the pin to the old page\n"
		   "                                 (entry still the same? else drop it)\n"
		   "                                 stores into the old page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_PIN_FAST_RECHECK),
	.setup = setup_pin,
	.end = end_pin,
};

/* ---- a page that nothing maps ---- */

#define WALKS 4

static void migrate_unmapped_page(struct env *e)
{
	u64 before = stat_read(e->q, STAT_MIGRATE_WALKS);

	e->r[MOVED] = do_migrate(e, &e->folio, 1);
	e->r[WALKS] = stat_read(e->q, STAT_MIGRATE_WALKS) - before;
}

static void unmapper(struct env *e)
{
	must(!do_unmap(e, AT(0), 1), "munmap failed");
	e->r[DONE] = 1;
}

static void setup_unmapped(struct env *e)
{
	file(e, 1);
	must(!do_file_store(e, 0, 7) && !do_fsync(e), "set-up: write");
	file_area(e, AT(0), 1, RW, true);
	e->folio = object_lookup(e->object, 0);
	folio_put(e->q, e->folio);
	lru_drain_all(e->q);
	watch_folio(e, e->folio);
	actor(e, "migrate", 2, migrate_unmapped_page);
	actor(e, "munmap", 0, unmapper);
}

static void end_unmapped(struct env *e)
{
	u64 v = 0;

	must(e->r[DONE], "munmap has not ended");
	must(e->r[MOVED] == 1, "the page was not moved");
	must(!e->r[WALKS], "%d walks for a page that nothing maps", (int)e->r[WALKS]);
	must(do_file_load(e, 0, &v) == sizeof(v) && v == 7, "the page is lost");
}

SCENARIO(migrate_file_unmapped) = {
	.name = "migrate_file_unmapped",
	.title = "a page of a file that nothing maps moves while the file is unmapped elsewhere",
	.picture = "  CPU2: migration                CPU0: munmap of another page's area\n"
		   "  (mapped? no: no walk)\n"
		   "  the areas' lock for nothing    waits for it\n"
		   "  copy; replaced\n"
		   "  the areas' lock for nothing    waits for it\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_UNMAPPED),
	.setup = setup_unmapped,
	.end = end_unmapped,
};
