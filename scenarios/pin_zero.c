/* What is nobody's own, zeroes or a file's page in a private area, is pinned for long while the
 * program stores to it. */
#include "explore/scenario.h"

static void pin(struct env *e)
{
	e->r[0] = 1 + (u64)-do_pin_fast(e, 0, AT(0), ACCESS_READ | ACCESS_LONGTERM);
}

static void writer(struct env *e)
{
	e->r[1] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void begin(struct env *e)
{
	watch_page(e, AT(0));
	actor(e, "pin", 0, pin);
	actor(e, "writer", 1, writer);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	must(!prepare_load(e, 1, AT(0)), "set-up: not zero");
	must(pte_special(entry_at(e, AT(0))), "set-up: not the zero page");
	begin(e);
}

static void setup_private(struct env *e)
{
	file(e, 1);
	file_area(e, AT(0), 1, RW, false);
	(void)prepare_load(e, 1, AT(0));
	lru_drain_all(e->q);
	begin(e);
}

static void end(struct env *e)
{
	must(e->r[0] == 1 && e->r[1] == 1, "the pin or the store failed");
	must(e->pinned[0], "the pin shows the page of zeroes");
	must(pinned_load(e, 0) == 2 && contents(e, AT(0)) == 2,
	     "the pin does not show what the program has stored");
	do_unpin(e, 0);
}

SCENARIO(pin_zero) = {
	.name = "pin_zero",
	.title = "a page that was only read is pinned for long while it is written",
	.picture = "  CPU0: long-term pin           CPU1: store\n"
		   "  finds the zero page\n"
		   "  (gets a page of its own)\n"
		   "                                gets a page of its own\n"
		   "  shows zeroes for ever\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_PIN_LONG_UNSHARES),
	.setup = setup,
	.end = end,
};

SCENARIO(pin_private) = {
	.name = "pin_private",
	.title = "a file's page in a private area is pinned for long while it is written",
	.picture = "  CPU0: long-term pin           CPU1: store\n"
		   "  finds the file's page\n"
		   "  (gets a page of its own)\n"
		   "                                gets a page of its own\n"
		   "  shows the file's bytes for ever\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_PIN_LONG_UNSHARES),
	.setup = setup_private,
	.end = end,
};
