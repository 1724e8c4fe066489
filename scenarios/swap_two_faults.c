/* Two faults on one swap entry. */
#include "explore/scenario.h"

static void fault(struct env *e, u32 n)
{
	u64 v = 0;
	int rc = user_load(e, AT(0), &v);

	e->r[n] = rc ? (u64)rc : v;
}

static void first(struct env *e)
{
	fault(e, 0);
}

static void second(struct env *e)
{
	fault(e, 1);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	lru_drain_all(e->q);
	prepare_swapped_out(e, AT(0));
	watch_page(e, AT(0));
	actor(e, "user 0", 0, first);
	actor(e, "user 1", 1, second);
}

static void end(struct env *e)
{
	for (u32 n = 0; n < 2; n++)
		must(e->r[n] == 7, "CPU%u loads %lld, not 7", n, (long long)e->r[n]);
}

SCENARIO(swap_two_faults) = {
	.name = "swap_two_faults",
	.title = "two faults bring in one swapped page",
	.picture = "  CPU0: load                    CPU1: load\n"
		   "  entry says: slot 1            entry says: slot 1\n"
		   "  reads the page, maps it\n"
		   "                                finds the folio in the cache\n"
		   "                                (entry still slot 1? no: look again)\n"
		   "                                without the look: maps it twice\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(0) | BIT(1),
	.off = BIT(MECH_SWAP_RECHECK_ENTRY) | BIT(MECH_READ_ENTRY_ONCE),
	.off_home = BIT(MECH_SWAP_RECHECK_ENTRY) | BIT(MECH_READ_ENTRY_ONCE),
	.setup = setup,
	.end = end,
};

/* The first read of the store fails; the page is not lost by that. */
static void setup_fails(struct env *e)
{
	setup(e);
	inject_at(&e->inject, INJECT_STORE_READ, 1);
}

static void end_fails(struct env *e)
{
	inject_off(&e->inject, INJECT_STORE_READ);
	for (u32 n = 0; n < 2; n++)
		must(e->r[n] == 7 || e->r[n] == (u64)-EIO, "CPU%u loads %lld, not 7", n,
		     (long long)e->r[n]);
	must(contents(e, AT(0)) == 7, "the page has lost its contents");
}

SCENARIO(swap_read_fails) = {
	.name = "swap_read_fails",
	.title = "two faults on one swapped page, and the first read of it fails",
	.picture = "  CPU0: load                    CPU1: load\n"
		   "  reads: an error               waits for the folio\n"
		   "  gives the folio up\n"
		   "                                looks again, reads the page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(0) | BIT(1),
	.setup = setup_fails,
	.end = end_fails,
};
