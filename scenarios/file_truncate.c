/* A file becomes shorter while its pages are being mapped, pinned, written. */
#include "explore/scenario.h"

#include "object/object.h"

enum { LOADED, CUT, PIN, GREW, SYNCED, MOVED };

/* Whatever is mapped is the file's. */
static void no_page_beyond(struct env *e)
{
	must(object_nr_indices(e->object) > 0 || pte_none(entry_at(e, AT(0))),
	     "a page beyond the file's end is mapped");
	must(!object_check(e->object), "the page cache is not in order");
}

static void user(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, AT(0), &v);

	must(rc == -ENXIO || (!rc && (v == 7 || !v)), "the load gives %d, %d", rc, (int)v);
	e->r[LOADED] = 1 + (u64)-rc;
}

static void truncate(struct env *e)
{
	e->r[CUT] = 1 + (u64)-do_truncate(e, 0);
}

static void setup_fault(struct env *e)
{
	file(e, 1);
	must(!do_file_store(e, 0, 7) && !do_fsync(e), "set-up: write");
	file_area(e, AT(0), 1, RW, true);
	watch_page(e, AT(0));
	actor(e, "user", 1, user);
	actor(e, "truncate", 0, truncate);
}

static void end_fault(struct env *e)
{
	must(e->r[LOADED] != 0, "the load has not ended");
	must(e->r[CUT] == 1, "truncate failed");
	no_page_beyond(e);
	must(access_result(e, AT(0), false) == -ENXIO, "a load beyond the end does not trap");
}

SCENARIO(file_truncate_fault) = {
	.name = "file_truncate_fault",
	.title = "a page of a file is mapped while the file is truncated",
	.picture = "  CPU1: a load                    CPU0: truncate\n"
		   "  faults: inside the file\n"
		   "                                (waits until the fault has ended)\n"
		   "                                the size; unmaps: nothing there yet\n"
		   "                                takes the pages out of the cache\n"
		   "  maps the page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_TRUNCATE_INVALIDATE),
	.setup = setup_fault,
	.end = end_fault,
};

/* ---- a pin ---- */

/* What a pin has stored stays seen by the pin, and is the file's only if the pin came first and the
 * file kept its page. */
static void pin(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_WRITE);

	e->r[PIN] = 1 + (u64)-rc;
	if (rc)
		return;
	pinned_store(e, 0, 9);
	must(pinned_load(e, 0) == 9, "the pinned page is another's");
}

static void cut_and_grow(struct env *e)
{
	must(!do_truncate(e, 0), "truncate failed");
	e->r[CUT] = 1;
	must(!do_truncate(e, 2), "the file cannot grow");
	must(!do_file_store(e, 1, 3), "write failed");
	e->r[GREW] = 1;
}

static void setup_pin(struct env *e)
{
	file(e, 1);
	file_area(e, AT(0), 2, RW, true);
	prepare_store(e, 1, AT(0), 7);
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "pin", 1, pin);
	actor(e, "truncate", 0, cut_and_grow);
}

static void end_pin(struct env *e)
{
	must(e->r[GREW] == 1, "truncate has not ended");
	must(e->r[PIN] == 1 || e->r[PIN] == 1 + ENXIO, "the pin ended in error %d",
	     (int)e->r[PIN] - 1);
	must(contents(e, AT(1)) == 3, "the pin's store is in another page of the file");
	if (e->r[PIN] == 1) {
		must(pinned_load(e, 0) == 9, "the pinned page is another's");
		must(contents(e, AT(0)) == 0 ||
			     phys_record(e->q, entry_pfn(entry_at(e, AT(0)))) == e->pinned[0],
		     "the truncated page's bytes are in the file");
		do_unpin(e, 0);
	}
}

SCENARIO(file_truncate_pin) = {
	.name = "file_truncate_pin",
	.title = "a page of a file is pinned without a lock while the file is truncated",
	.picture = "  CPU1: a pin                     CPU0: truncate, grow, write\n"
		   "  reads the entry\n"
		   "                                clears it, takes the page out, frees it\n"
		   "                                its frame is the next page's\n"
		   "  pins the frame\n"
		   "  (entry still the same? no: drop the pin)\n"
		   "  its device stores into another page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_PIN_FAST_RECHECK),
	.setup = setup_pin,
	.end = end_pin,
};

/* ---- write-back ---- */

static void sync(struct env *e)
{
	e->r[SYNCED] = 1 + (u64)-do_fsync(e);
}

static void cut_and_mend(struct env *e)
{
	must(!do_truncate(e, 0), "truncate failed");
	must(!do_truncate(e, 1), "the file cannot grow");
	e->r[GREW] = 1;
}

static void setup_writeback(struct env *e)
{
	file(e, 1);
	must(!do_file_store(e, 0, 7), "set-up: write");
	e->folio = object_lookup(e->object, 0);
	folio_put(e->q, e->folio);
	watch_folio(e, e->folio);
	actor(e, "fsync", 1, sync);
	actor(e, "truncate", 0, cut_and_mend);
}

static void end_writeback(struct env *e)
{
	u64 v = 1;

	must(e->r[SYNCED] == 1, "fsync failed");
	must(e->r[GREW] == 1, "truncate failed");
	must(disk(e, 0) == 0, "the bytes that were cut off are on the disk again");
	must(do_file_load(e, 0, &v) == sizeof(v) && !v, "the file has bytes that were cut off");
}

SCENARIO(file_truncate_writeback) = {
	.name = "file_truncate_writeback",
	.title = "a page of a file is written back while the file is truncated",
	.picture = "  CPU1: fsync                     CPU0: truncate\n"
		   "                                cuts the file on the disk\n"
		   "  writes the page: it is there again\n"
		   "                                the size; takes the page out\n"
		   "                                (and cuts the file once more)\n"
		   "  (whatever begins now is inside the new size)\n",
	.kinds = BIT(ON_HW),
	.off = BIT(MECH_TRUNCATE_MEDIUM_LAST),
	.setup = setup_writeback,
	.end = end_writeback,
};

static void puncher(struct env *e)
{
	must(!do_punch(e, 0, 1), "punch failed");
	e->r[GREW] = 1;
}

static void setup_punch(struct env *e)
{
	file(e, 1);
	must(!do_file_store(e, 0, 7), "set-up: write");
	actor(e, "fsync", 1, sync);
	actor(e, "punch", 0, puncher);
}

SCENARIO(file_punch_writeback) = {
	.name = "file_punch_writeback",
	.title = "a page of a file is written back while a hole is punched there",
	.picture = "  CPU1: fsync                     CPU0: punch\n"
		   "                                a hole on the disk\n"
		   "  writes the page into it\n"
		   "                                takes the page out\n"
		   "                                (and punches the hole once more)\n",
	.kinds = BIT(ON_HW),
	.off = BIT(MECH_TRUNCATE_MEDIUM_LAST),
	.setup = setup_punch,
	.end = end_writeback,
};

/* ---- a private copy, an entry that moves ---- */

static void copier(struct env *e)
{
	int rc = user_store(e, AT(0), 5);

	must(!rc || rc == -ENXIO, "the store ends in error %d", rc);
	e->r[LOADED] = 1 + (u64)-rc;
}

static void setup_copy(struct env *e)
{
	file(e, 1);
	must(!do_file_store(e, 0, 7) && !do_fsync(e), "set-up: write");
	file_area(e, AT(0), 1, RW, false);
	watch_page(e, AT(0));
	actor(e, "user", 1, copier);
	actor(e, "truncate", 0, truncate);
}

SCENARIO(file_truncate_copy) = {
	.name = "file_truncate_copy",
	.title = "a page of a private area is copied while the file is truncated",
	.picture = "  CPU1: a store                   CPU0: truncate\n"
		   "  faults: inside the file; copies the page\n"
		   "                                (waits until the fault has ended)\n"
		   "                                the size; unmaps, copies too: none yet\n"
		   "  maps the copy beyond the end\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_TRUNCATE_INVALIDATE),
	.setup = setup_copy,
	.end = end_fault,
};

#define NEW AT(1023) /* two tables: the second cannot be had */

static void mover(struct env *e)
{
	e->r[MOVED] = 1 + (u64)-do_remap(e, AT(0), 2, NEW);
}

static void setup_move(struct env *e)
{
	file(e, 1);
	file_area(e, AT(0), 2, RW, true);
	prepare_store(e, 1, AT(0), 7);
	prepare_cold_tlbs(e);
	inject_at(&e->inject, INJECT_TABLE, 2);
	watch_page(e, AT(0));
	watch_page(e, NEW);
	actor(e, "mremap", 2, mover);
	actor(e, "truncate", 0, truncate);
}

static void end_move(struct env *e)
{
	inject_off(&e->inject, INJECT_TABLE);
	must(e->r[MOVED] == 1 + ENOMEM, "mremap did not fail as it was meant to");
	must(e->r[CUT] == 1, "truncate failed");
	must(pte_none(entry_at(e, AT(0))), "a page beyond the file's end is mapped");
	must(!object_check(e->object), "the page cache is not in order");
}

SCENARIO(file_truncate_move) = {
	.name = "file_truncate_move",
	.title = "mremap fails and moves an entry of a file's page back during truncation",
	.picture = "  CPU2: mremap                    CPU0: truncate\n"
		   "  moves the entry, old -> new\n"
		   "                                looks at the old place: nothing there\n"
		   "  no memory: moves it back, new -> old\n"
		   "                                looks at the new place: nothing there\n"
		   "  (moves hold the lock of the object's areas: one place or the other)\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_REMAP_RMAP_LOCK),
	.setup = setup_move,
	.end = end_move,
};
