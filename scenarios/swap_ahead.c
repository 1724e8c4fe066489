/* A fault that reads ahead meets another fault, and a drop, of the page ahead. */
#include "explore/scenario.h"

enum { AHEAD, OTHER };

static void user(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, AT(1), &v);

	e->r[AHEAD] = rc ? (u64)rc : v;
}

static void other(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, AT(2), &v);

	e->r[OTHER] = rc ? (u64)rc : v;
}

static void dropper(struct env *e)
{
	e->r[OTHER] = (u64)-do_advise(e, AT(2), 1, ADVISE_DONTNEED);
}

/* The fault on page 1 continues where the one on page 0 ended: two pages are read. */
static void prepare(struct env *e)
{
	area(e, AT(0), 4, RW);
	for (u32 i = 0; i < 4; i++)
		prepare_store(e, 1, AT(i), 10 + i);
	lru_drain_all(e->q);
	must(!do_advise(e, AT(0), 4, ADVISE_PAGEOUT), "set-up: page out");
	must(pte_is_swap(entry_at(e, AT(1))), "set-up: it was not paged out");
	must(prepare_load(e, 1, AT(0)) == 10, "set-up: load");
	watch_page(e, AT(1));
	watch_page(e, AT(2));
	actor(e, "user 1", 1, user);
}

static void setup_two(struct env *e)
{
	prepare(e);
	actor(e, "user 2", 2, other);
}

static void setup_drop(struct env *e)
{
	prepare(e);
	actor(e, "madvise", 2, dropper);
}

static void end(struct env *e)
{
	must(e->r[AHEAD] == 11, "the load gives %lld, not 11", (long long)e->r[AHEAD]);
	must(contents(e, AT(1)) == 11 && contents(e, AT(3)) == 13, "the contents are lost");
}

static void end_two(struct env *e)
{
	must(e->r[OTHER] == 12, "the load gives %lld, not 12", (long long)e->r[OTHER]);
	must(contents(e, AT(2)) == 12, "the contents are lost");
	end(e);
}

static void end_drop(struct env *e)
{
	must(!e->r[OTHER], "madvise failed");
	must(contents(e, AT(2)) == 0, "the page was to be dropped");
	end(e);
}

#define KINDS (BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME))

SCENARIO(swap_ahead) = {
	.name = "swap_ahead",
	.title = "a fault reads ahead a page on which another CPU faults",
	.picture = "  CPU1: load page 1             CPU2: load page 2\n"
		   "  reads pages 1 and 2           reads page 2\n"
		   "  (each entry as it was? else the page is left out)\n",
	.kinds = KINDS,
	.units = BIT(1) | BIT(2),
	.large = true,
	.off = BIT(MECH_SWAP_RECHECK_ENTRY),
	.off_home = BIT(MECH_SWAP_RECHECK_ENTRY),
	.setup = setup_two,
	.end = end_two,
};

SCENARIO(swap_ahead_drop) = {
	.name = "swap_ahead_drop",
	.title = "a fault reads ahead a page that is dropped meanwhile",
	.picture = "  CPU1: load page 1             CPU2: madvise(DONTNEED) of page 2\n"
		   "  reads pages 1 and 2\n"
		   "                                clears the entry of page 2, frees its slot\n"
		   "  (entry as it was? no: left out)\n",
	.kinds = KINDS,
	.units = BIT(1),
	.large = true,
	.off = BIT(MECH_SWAP_RECHECK_ENTRY),
	.off_home = BIT(MECH_SWAP_RECHECK_ENTRY),
	.setup = setup_drop,
	.end = end_drop,
};
