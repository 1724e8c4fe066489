/* Reclaim of a page against its being dropped and touched again, hidden, locked, reclaimed twice.
 */
#include "explore/scenario.h"

enum { FREED, OTHER, STORED };

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void reclaim_too(struct env *e)
{
	(void)do_reclaim(e, e->folio);
	e->r[OTHER] = 1;
}

static void dropper(struct env *e)
{
	e->r[OTHER] = 1 + (u64)-do_advise(e, AT(0), 1, ADVISE_DONTNEED);
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 9);
}

static void hider(struct env *e)
{
	e->r[OTHER] = 1 + (u64)-do_protect(e, AT(0), 1, 0);
}

static void locker(struct env *e)
{
	e->r[OTHER] = 1 + (u64)-do_mlock(e, AT(0), 1);
}

static void leaver(struct env *e)
{
	do_exit(e);
	e->r[OTHER] = 1;
}

static void prepare(struct env *e, const char *name, void (*fn)(struct env *e))
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	prepare_cold_tlbs(e);
	e->folio = folio_at(e, AT(0));
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, name, 1, fn);
}

static void setup_drop(struct env *e)
{
	prepare(e, "madvise, store", dropper);
}

static void setup_hide(struct env *e)
{
	prepare(e, "mprotect", hider);
}

static void setup_lock(struct env *e)
{
	prepare(e, "mlock", locker);
}

static void setup_twice(struct env *e)
{
	prepare(e, "reclaim", reclaim_too);
}

static void end_drop(struct env *e)
{
	must(e->r[OTHER] == 1 && e->r[STORED] == 1, "madvise or the store failed");
	must(contents(e, AT(0)) == 9, "the store is lost: %llu is read",
	     (unsigned long long)contents(e, AT(0)));
}

static void end_hide(struct env *e)
{
	must(e->r[OTHER] == 1, "mprotect failed");
	must(access_result(e, AT(0), false) == -EACCES, "the page can be read");
	must(!do_protect(e, AT(0), 1, RW), "mprotect back failed");
	must(contents(e, AT(0)) == 7, "the contents are lost: %llu is read",
	     (unsigned long long)contents(e, AT(0)));
}

static void end_lock(struct env *e)
{
	must(e->r[OTHER] == 1, "mlock failed");
	must(entry_present(entry_at(e, AT(0))), "the page is locked and not there");
	must(contents(e, AT(0)) == 7, "the contents are lost");
}

static void end_twice(struct env *e)
{
	must(contents(e, AT(0)) == 7, "the contents are lost");
}

#define KINDS (BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME))

SCENARIO(reclaim_drop) = {
	.name = "reclaim_drop",
	.title = "reclaim of a page that is dropped and touched again meanwhile",
	.picture = "  CPU0: reclaim                 CPU1: madvise(DONTNEED), store\n"
		   "  entry becomes a swap entry\n"
		   "                                clears it (waits for the folio's lock)\n"
		   "  writes the bytes out\n"
		   "                                touches the page anew\n"
		   "  finds that nothing names the slot: drops it\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_drop,
	.end = end_drop,
};

SCENARIO(reclaim_hide) = {
	.name = "reclaim_hide",
	.title = "reclaim of a page that mprotect makes unreadable meanwhile",
	.picture = "  CPU0: reclaim                 CPU1: mprotect(NONE)\n"
		   "  begins to read frames\n"
		   "                                marks the area; waits for reads of frames\n"
		   "  writes the bytes out\n"
		   "                                nobody reads it any more\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_hide,
	.end = end_hide,
};

SCENARIO(reclaim_mlock) = {
	.name = "reclaim_mlock",
	.title = "reclaim of a page that mlock locks meanwhile: it is there afterwards",
	.picture = "  CPU0: reclaim                 CPU1: mlock\n"
		   "  judges the page: not locked\n"
		   "                                marks the area and the folio\n"
		   "  entry lock: the area is locked: leaves it\n"
		   "                                brings in what is not there\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_lock,
	.end = end_lock,
};

SCENARIO(reclaim_twice) = {
	.name = "reclaim_twice",
	.title = "two threads reclaim one page",
	.picture = "  CPU0: reclaim                 CPU1: reclaim\n"
		   "  isolates the folio            does not get it, or after it came back\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_twice,
	.end = end_twice,
};

static void setup_drop_fails(struct env *e)
{
	setup_drop(e);
	inject_every(&e->inject, INJECT_STORE_WRITE, 1);
}

static void end_drop_fails(struct env *e)
{
	inject_off(&e->inject, INJECT_STORE_WRITE);
	end_drop(e);
}

/* Nothing to watch: what is watched goes. */
static void setup_exit(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	prepare_cold_tlbs(e);
	e->folio = folio_at(e, AT(0));
	prepare_aged(e, e->folio);
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "exit", 2, leaver);
}

static void end_exit(struct env *e)
{
	must(e->r[OTHER] == 1, "the space has not ended");
}

SCENARIO(reclaim_drop_fails) = {
	.name = "reclaim_drop_fails",
	.title = "reclaim cannot write a page out that is dropped and touched again meanwhile",
	.picture =
		"  CPU0: reclaim                 CPU1: madvise(DONTNEED), store\n"
		"  entry becomes a swap entry\n"
		"                                clears it (waits for the folio's lock)\n"
		"  the store refuses the page: back to its list\n"
		"                                drops what nothing names; touches the page anew\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_drop_fails,
	.end = end_drop_fails,
};

SCENARIO(reclaim_exit) = {
	.name = "reclaim_exit",
	.title = "reclaim of a page of a space that ends meanwhile",
	.picture = "  CPU0: reclaim                 CPU2: exit\n"
		   "  notes the space for its flush\n"
		   "                                unmaps everything\n"
		   "                                (waits for evictions that know the space)\n"
		   "  flushes\n"
		   "                                frees the space\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_exit,
	.end = end_exit,
};
