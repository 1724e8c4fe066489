/* Pages of a node move together: against whoever frees, isolates, allocates, pins meanwhile. */
#include "explore/scenario.h"

#include "migrate/compact.h"
#include "object/object.h"

#define ALL_OF_IT COMPACT_WHOLE

enum { COMPACTED, DONE, PIN, FRAME };

static void compaction(struct env *e)
{
	int rc = do_compact(e, ALL_OF_IT);

	must(!rc, "compaction ends in error %d", rc);
	e->r[COMPACTED] = 1;
}

/* A page alone in its block, and free frames above. */
static void one_page(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_unreserved(e);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	must(folio_pfn(e->q, e->folio) < 512, "set-up: the page is not in the first block");
	(void)prepare_free_piece(e, 6);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

/* ---- the page is being freed ---- */

static void unmap(struct env *e)
{
	must(!do_unmap(e, AT(0), 1), "unmap failed");
	e->r[DONE] = 1;
}

static void setup_freed(struct env *e)
{
	one_page(e);
	actor(e, "compaction", 2, compaction);
	actor(e, "munmap", 0, unmap);
}

static void end_freed(struct env *e)
{
	must(e->r[COMPACTED] && e->r[DONE], "an actor has not ended");
}

SCENARIO(compact_freed) = {
	.name = "compact_freed",
	.title = "compaction meets a page that is being freed",
	.picture = "  CPU2: compaction              CPU0: munmap\n"
		   "  looks at the frame: a page, listed\n"
		   "                                drops the last reference\n"
		   "  (has no reference to add to: leaves it)\n"
		   "  takes one; isolates the page\n"
		   "                                frees it\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_COMPACT_TRY_GET),
	.setup = setup_freed,
	.end = end_freed,
};

/* ---- somebody else isolates it ---- */

static void isolate(struct env *e)
{
	do_isolate(e, e->folio);
	e->r[DONE] = 1;
}

static void setup_isolated(struct env *e)
{
	one_page(e);
	actor(e, "compaction", 2, compaction);
	actor(e, "mlock", 0, isolate);
}

static void end_isolated(struct env *e)
{
	end_freed(e);
	must(contents(e, AT(0)) == 1, "the page is lost");
}

SCENARIO(compact_isolated) = {
	.name = "compact_isolated",
	.title = "compaction and another isolator take one page",
	.picture = "  CPU2: compaction              CPU0: mlock\n"
		   "  on a list? yes                on a list? yes\n"
		   "  (test and clear PG_LRU in one operation: one winner)\n"
		   "  unlinks it, moves it          unlinks it too\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_LRU_ISOLATE_ONCE),
	.setup = setup_isolated,
	.end = end_isolated,
};

/* ---- a program uses it ---- */

static void user(struct env *e)
{
	must(!user_store(e, AT(0), 2), "the store failed");
	e->r[DONE] = 1;
}

static void setup_store(struct env *e)
{
	one_page(e);
	actor(e, "compaction", 2, compaction);
	actor(e, "user", 1, user);
}

static void end_store(struct env *e)
{
	end_freed(e);
	must(contents(e, AT(0)) == 2, "the store is lost");
	must(folio_pfn(e->q, folio_at(e, AT(0))) >= 512, "the page has not moved");
}

SCENARIO(compact_store) = {
	.name = "compact_store",
	.title = "a page is written while compaction moves it",
	.picture = "  CPU2: compaction               CPU1: user\n"
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

/* ---- the free frames are allocated ---- */

static void allocate(struct env *e)
{
	struct folio *f;

	gate_enter(&e->q->gate);
	f = phys_alloc(e->q, 0, 3);
	must(f != NULL, "no frames though there are some");
	e->r[FRAME] = folio_pfn(e->q, f);
	folio_put(e->q, f);
	gate_exit(&e->q->gate);
	e->r[DONE] = 1;
}

static void setup_allocated(struct env *e)
{
	one_page(e);
	actor(e, "compaction", 2, compaction);
	actor(e, "fault", 0, allocate);
}

SCENARIO(compact_allocated) = {
	.name = "compact_allocated",
	.title = "compaction takes free frames that a fault allocates",
	.picture = "  CPU2: compaction              CPU0: fault\n"
		   "  looks at the frame: a free piece\n"
		   "                                node lock: takes the piece, splits it\n"
		   "  node lock; (still free? what it says now counts)\n"
		   "  takes the piece as it was\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_COMPACT_FREE_RECHECK),
	.setup = setup_allocated,
	.end = end_isolated,
};

/* ---- a destination that was not used ---- */

static void pin(struct env *e)
{
	e->r[PIN] = 1 + (u64)-do_pin_fast(e, 0, AT(0), ACCESS_WRITE);
}

/* A page of a file in the next block, and free frames above both. */
static void setup_reused(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_unreserved(e);
	prepare_store(e, 1, AT(0), 1);
	prepare_keep_free(e);
	file(e, 1);
	must(!do_file_store(e, 0, 7) && !do_fsync(e), "set-up: write");
	file_area(e, AT(8), 1, RW, true);
	must(prepare_load(e, 1, AT(8)) == 7, "set-up: load");
	e->folio = folio_at(e, AT(8));
	must(folio_pfn(e->q, e->folio) / 512 == 1, "set-up: the file's page is not in block 1");
	lru_drain_all(e->q);
	(void)prepare_free_piece(e, 6);
	watch_page(e, AT(0));
	watch_page(e, AT(8));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "compaction", 2, compaction);
	actor(e, "pin", 0, pin);
}

static void end_reused(struct env *e)
{
	struct folio *f = folio_at(e, AT(8));

	must(e->r[COMPACTED] && e->r[PIN] == 1, "an actor has not ended, or the pin failed");
	must(folio_pfn(e->q, f) >= 1024, "the file's page has not moved");
	must(!folio_test(f, PG_DIRTY) && !folio_test(f, PG_SWAPBACKED),
	     "the file's page has flags of the one that did not move");
	must(!object_check(e->object), "the page cache is not in order");
	must(contents(e, AT(8)) == 7 && contents(e, AT(0)) == 1, "a page is lost");
	do_unpin(e, 0);
}

SCENARIO(compact_reused) = {
	.name = "compact_reused",
	.title = "a page is pinned while compaction moves it; its destination is another page's",
	.picture = "  CPU2: compaction              CPU0: pin_fast\n"
		   "  a destination for the page\n"
		   "                                pins it\n"
		   "  cannot move: the destination comes back\n"
		   "  (as it was got, and once)\n"
		   "  a page of a file moves there\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_PRISTINE) | BIT(MECH_COMPACT_ONCE),
	.setup = setup_reused,
	.end = end_reused,
};
