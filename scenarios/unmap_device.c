/* Unmap against a device that translates through the same tables. */
#include "explore/scenario.h"

#define DEVICE 4u

enum { STORED, UNMAPPED };

static void unmapper(struct env *e)
{
	e->r[UNMAPPED] = 1 + (u64)do_unmap(e, AT(0), 1);
}

static void device(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, DEVICE, AT(0), 1);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "munmap", 0, unmapper);
	actor(e, "device", DEVICE, device);
}

static void end(struct env *e)
{
	must(e->r[UNMAPPED] == 1, "munmap failed");
	must(e->r[STORED] == 1 || e->r[STORED] == 1 + EFAULT, "the store ended in error %d",
	     (int)e->r[STORED] - 1);
}

SCENARIO(unmap_device) = {
	.name = "unmap_device",
	.title = "munmap against a device's store through its own TLB",
	.picture = "  CPU0: munmap                  device\n"
		   "                                has the page in its TLB\n"
		   "  clears the entry\n"
		   "  (invalidates: waits for the device)\n"
		   "  frees the frame\n"
		   "                                stores through its entry: not its page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.devices = BIT(DEVICE),
	.off = BIT(MECH_FLUSH_BEFORE_FREE),
	.setup = setup,
	.end = end,
};
