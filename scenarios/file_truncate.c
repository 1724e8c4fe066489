/* A file becomes shorter while its pages are being mapped, pinned, written. */
#include "explore/scenario.h"

#include "object/object.h"

enum { LOADED, CUT, PIN, GREW };

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
