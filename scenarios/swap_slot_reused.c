/* A slot and its place in the store are used for another page while a fault still reads them. */
#include "explore/scenario.h"

#define HERE  AT(0)  /* its frame is kept by a pin, its entry is a swap entry that was moved here */
#define MOVED AT(8)  /* where that entry came from */
#define OTHER AT(16) /* the page that is written to the store instead */

enum { LOADED, DROPPED, FREED };

static void user(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, HERE, &v);

	e->r[LOADED] = rc ? (u64)rc : 1 + v;
}

static void dropper(struct env *e)
{
	e->r[DROPPED] = 1 + (u64)-do_advise(e, HERE, 1, ADVISE_DONTNEED);
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void setup(struct env *e)
{
	area(e, HERE, 1, RW);
	area(e, MOVED, 1, RW);
	area(e, OTHER, 1, RW);
	prepare_store(e, 1, HERE, 1);
	lru_drain_all(e->q);
	must(!do_pin(e, 0, HERE, ACCESS_WRITE), "set-up: pin");
	must(!do_advise(e, HERE, 1, ADVISE_DONTNEED), "set-up: drop");
	prepare_store(e, 1, MOVED, 7);
	lru_drain_all(e->q);
	prepare_swapped_out(e, MOVED);
	must(!do_remap(e, MOVED, 1, HERE), "set-up: move");
	prepare_store(e, 1, OTHER, 5);
	e->folio = folio_at(e, OTHER);
	watch_page(e, HERE);
	watch_folio(e, e->folio);
	actor(e, "user", 1, user);
	actor(e, "madvise, reclaim", 0, dropper);
}

static void end(struct env *e)
{
	do_unpin(e, 0);
	must(e->r[DROPPED] == 1, "madvise failed");
	must(e->r[LOADED] == 1 + 7 || e->r[LOADED] == 1, "the load gives %lld, neither 7 nor 0",
	     (long long)e->r[LOADED] - 1);
	must(contents(e, OTHER) == 5, "the other page has lost its contents");
}

SCENARIO(swap_slot_reused) = {
	.name = "swap_slot_reused",
	.title = "a slot's place in the store is used again while a fault reads it",
	.picture = "  CPU1: load                    CPU0: madvise(DONTNEED), reclaim\n"
		   "  slot 1 says: block 0 of the file\n"
		   "                                frees slot 1 and block 0\n"
		   "                                writes another page to block 0\n"
		   "  reads block 0: not its page\n"
		   "  (slot 1 still says the same? no: look again)\n"
		   "  tells the program that its page is lost\n",
	.kinds = BIT(ON_HOME),
	.units = BIT(1),
	.swap = "file:swap:4K",
	.off_home = BIT(MECH_SWAP_SLOT_CACHE_RECHECK),
	.setup = setup,
	.end = end,
};
