/* A CPU's prefetcher caches the page while munmap takes it away. */
#include "explore/scenario.h"

enum { STORED, UNMAPPED };

static void unmapper(struct env *e)
{
	e->r[UNMAPPED] = 1 + (u64)-do_unmap(e, AT(0), 1);
}

static void user(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "munmap", 0, unmapper);
	actor(e, "user", 1, user);
	prefetcher(e, 1, AT(0));
}

static void end(struct env *e)
{
	must(e->r[UNMAPPED] == 1, "munmap failed");
	must(e->r[STORED] == 1 || e->r[STORED] == 1 + EFAULT, "the store ended in error %d",
	     (int)e->r[STORED] - 1);
}

SCENARIO(unmap_prefetch) = {
	.name = "unmap_prefetch",
	.title = "munmap against a translation that the CPU has fetched ahead",
	.picture = "  CPU0: munmap                  CPU1: prefetcher, then user\n"
		   "                                walks to the entry, caches it\n"
		   "  clears the entry\n"
		   "  (flushes: waits for CPU1)\n"
		   "  frees the frame\n"
		   "                                stores through the TLB entry\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_FLUSH_BEFORE_FREE),
	.setup = setup,
	.end = end,
};
