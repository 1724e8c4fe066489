/* Three threads on one page: faults, drops, moves and reclaim all at once. */
#include "explore/scenario.h"

#define NEW AT(512) /* another table */

enum { FREED, CHANGED, STORED, LOADED };

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void dropper(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_advise(e, AT(1), 1, ADVISE_DONTNEED);
}

static void mover(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_remap(e, AT(1), 1, NEW);
}

static void writer(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(1), 9);
}

static void reader(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, AT(1), &v);

	e->r[LOADED] = rc ? (u64)rc : 1 + v;
}

static void fill(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_store(e, 1, AT(1), 7);
	lru_drain_all(e->q);
	e->folio = folio_at(e, AT(1));
	watch_page(e, AT(1));
}

static void ready(struct env *e)
{
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
}

static void setup_drop(struct env *e)
{
	fill(e);
	ready(e);
	actor(e, "madvise", 2, dropper);
	actor(e, "user", 1, writer);
}

static void setup_move(struct env *e)
{
	fill(e);
	watch_page(e, NEW);
	ready(e);
	actor(e, "mremap", 2, mover);
	actor(e, "user", 1, writer);
}

static void setup_faults(struct env *e)
{
	fill(e);
	prepare_swapped_out(e, AT(1));
	prepare_cold_tlbs(e);
	actor(e, "reader", 0, reader);
	actor(e, "madvise", 2, dropper);
	actor(e, "writer", 1, writer);
}

/* A large folio whose second page has been dropped: it comes back, and is dropped again. */
static void setup_large(struct env *e)
{
	fill(e);
	must(e->folio->order == 1, "set-up: two pages are not one folio");
	must(!do_advise(e, AT(1), 1, ADVISE_DONTNEED), "set-up: drop");
	ready(e);
	actor(e, "madvise", 2, dropper);
	actor(e, "user", 1, writer);
}

static void end_page_0(struct env *e)
{
	must(contents(e, AT(0)) == 1, "the neighbour has lost its contents");
}

static void end_drop(struct env *e)
{
	u64 v = contents(e, AT(1));

	must(e->r[CHANGED] == 1, "madvise failed");
	must(e->r[STORED] == 1, "the store ended in error %d", (int)e->r[STORED] - 1);
	must(v == 9 || v == 0, "%llu is read, neither what was stored nor 0",
	     (unsigned long long)v);
	end_page_0(e);
}

static void end_move(struct env *e)
{
	must(e->r[CHANGED] == 1, "mremap failed");
	must(e->r[STORED] == 1 || e->r[STORED] == 1 + EFAULT, "the store ended in error %d",
	     (int)e->r[STORED] - 1);
	must(contents(e, NEW) == (e->r[STORED] == 1 ? 9 : 7), "the contents are wrong: %llu",
	     (unsigned long long)contents(e, NEW));
	must(access_result(e, AT(1), false) == -EFAULT, "something is left at the old place");
	end_page_0(e);
}

static void end_faults(struct env *e)
{
	must(e->r[LOADED] == 1 + 7 || e->r[LOADED] == 1 + 9 || e->r[LOADED] == 1,
	     "the load gives %lld", (long long)e->r[LOADED] - 1);
	end_drop(e);
}

#define KINDS (BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME))

SCENARIO(three_drop) = {
	.name = "three_drop",
	.title = "reclaim, madvise(DONTNEED) and a store on one page",
	.picture = "  CPU0: reclaim            CPU2: madvise(DONTNEED)  CPU1: user\n"
		   "  unmaps, writes out       clears the entry         stores\n"
		   "  in any order: the page holds what was stored, or 0\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_drop,
	.end = end_drop,
};

SCENARIO(three_move) = {
	.name = "three_move",
	.title = "reclaim, mremap and a store on one page",
	.picture = "  CPU0: reclaim            CPU2: mremap             CPU1: user\n"
		   "  unmaps, writes out       moves the page           stores, or is refused\n"
		   "  in any order: the new place holds what was stored, or what was there\n",
	.kinds = KINDS,
	.units = BIT(1),
	.setup = setup_move,
	.end = end_move,
};

SCENARIO(three_faults) = {
	.name = "three_faults",
	.title = "two faults and madvise(DONTNEED) on one swapped page",
	.picture = "  CPU0: load               CPU2: madvise(DONTNEED)  CPU1: store\n"
		   "  reads the page           clears the entry         reads the page\n"
		   "  in any order: what is mapped is the page, or a new one; no slot is lost\n",
	.kinds = KINDS,
	.units = BIT(0) | BIT(1),
	.bound = 2,
	.setup = setup_faults,
	.end = end_faults,
};

SCENARIO(three_large) = {
	.name = "three_large",
	.title = "reclaim splits a large folio of which a page comes and goes",
	.picture = "  CPU0: reclaim            CPU2: madvise(DONTNEED)  CPU1: store to page 1\n"
		   "  splits the folio         drops page 1             touches it again\n"
		   "  in any order: page 0 is whole, page 1 holds what was stored, or 0\n",
	.kinds = KINDS,
	.units = BIT(1),
	.large = true,
	.bound = 4,
	.setup = setup_large,
	.end = end_drop,
};
