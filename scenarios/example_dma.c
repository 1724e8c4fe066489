/* The example of docs/EXPLORER.md: a driver's DMA into a page that is being paged out. */
#include "explore/scenario.h"

enum { PINNED, PAGED_OUT }; /* cells of env.r: what each actor found */

static void driver(struct env *e)
{
	int rc = do_pin(e, 0, AT(0), ACCESS_WRITE);

	e->r[PINNED] = 1 + (u64)-rc;
	if (rc)
		return;
	pinned_store(e, 0, 2); /* by the device */
	do_unpin(e, 0);
}

static void pageout(struct env *e)
{
	e->r[PAGED_OUT] = 1 + (u64)-do_advise(e, AT(0), 1, ADVISE_PAGEOUT);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "driver", 0, driver);
	actor(e, "madvise", 2, pageout);
}

static void end(struct env *e)
{
	must(e->r[PINNED] == 1, "the pin ended in error %d", (int)e->r[PINNED] - 1);
	must(e->r[PAGED_OUT] == 1, "madvise failed");
	must(contents(e, AT(0)) == 2, "what the device has stored is lost");
}

SCENARIO(example_dma) = {
	.name = "example_dma",
	.title = "a driver pins a page for DMA while madvise pages it out",
	.picture = "  CPU0: driver                  CPU2: madvise(PAGEOUT)\n"
		   "                                judges the page: not pinned\n"
		   "  pins the page\n"
		   "                                (pinned by now? leave it)\n"
		   "                                unmaps it, writes it out, frees it\n"
		   "  its device stores: not in the copy\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_PIN_BLOCKS_RECLAIM),
	.setup = setup,
	.end = end,
};
