/* Write-back of a page of a shared file area against those who write it. */
#include "explore/scenario.h"

#include "object/object.h"

enum { SYNCED, STORED, DROPPED };

static void sync(struct env *e)
{
	e->r[SYNCED] = 1 + (u64)-do_fsync(e);
}

static void user(struct env *e)
{
	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[STORED] = 1;
}

/* What is thought clean is as it is on the disk: it may be dropped at any time. */
static void must_be_safe(struct env *e)
{
	struct folio *f = object_lookup(e->object, 0);

	must(f, "the page is not cached any more");
	if (!folio_test(f, PG_DIRTY))
		must(disk(e, 0) == xm_frame_word(e->m, folio_pfn(e->q, f)),
		     "the page is clean, and the disk has an older one");
	folio_put(e->q, f);
}

static void watch(struct env *e)
{
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

static void setup(struct env *e)
{
	file(e, 1);
	file_area(e, AT(0), 1, RW, true);
	prepare_store(e, 1, AT(0), 1);
	watch(e);
	actor(e, "fsync", 0, sync);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	must(e->r[SYNCED] == 1, "fsync failed");
	must(disk(e, 0) != 0, "fsync has written nothing");
	must_be_safe(e);
	must(!do_fsync(e), "the second fsync failed");
	must(disk(e, 0) == 2, "the store is not on the disk");
}

SCENARIO(file_writeback) = {
	.name = "file_writeback",
	.title = "a page of a file is written back while a program stores to it",
	.picture = "  CPU0: fsync                     CPU1: a store\n"
		   "  (takes the right to write from the entry, flushes)\n"
		   "  the page is clean; writes it\n"
		   "                                stores through its TLB: nobody knows\n"
		   "                                (faults: the page is dirty again)\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_WRITEBACK_PROTECT),
	.setup = setup,
	.end = end,
};

/* ---- and the entry goes meanwhile ---- */

static void drop(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_advise(e, AT(0), 1, ADVISE_DONTNEED);
}

static void setup_zap(struct env *e)
{
	file(e, 1);
	file_area(e, AT(0), 1, RW, true);
	prepare_store(e, 1, AT(0), 1);
	watch(e);
	actor(e, "madvise", 2, drop);
	actor(e, "fsync", 0, sync);
	actor(e, "user", 1, user);
}

static void end_zap(struct env *e)
{
	must(e->r[DROPPED] == 1, "madvise failed");
	end(e);
}

SCENARIO(file_zap_writeback) = {
	.name = "file_zap_writeback",
	.title = "a dirty page of a file loses its entry while it is written back",
	.picture = "  CPU2: madvise(DONTNEED)         CPU0: fsync             CPU1: a store\n"
		   "  clears the entry, not flushed yet\n"
		   "  (but still counts as a mapping)\n"
		   "                                nothing maps the page\n"
		   "                                (waits for the entry lock)\n"
		   "                                clean; writes it\n"
		   "                                                        through its TLB\n"
		   "  flushes: too late\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_DELAYED_RMAP),
	.setup = setup_zap,
	.end = end_zap,
};
