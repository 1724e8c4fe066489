/* A page that is swapped out is brought in while it is forked; and charges across fork and exit. */
#include "explore/scenario.h"

static void forker(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
}

static void writer(struct env *e)
{
	e->r[0] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	lru_drain_all(e->q);
	prepare_swapped_out(e, AT(0));
	watch_page(e, AT(0));
	actor(e, "fork", 0, forker);
	actor(e, "writer", 1, writer);
}

static void end(struct env *e)
{
	u64 v = child_contents(e, 0, AT(0));

	must(e->r[0] == 1, "the store failed");
	must(v == 1 || v == 2, "the child reads %llu", (unsigned long long)v);
	must(contents(e, AT(0)) == 2, "the parent's store is lost");
	/* Whichever came first, they are two pages from the next store on. */
	must(!xm_store(e->m, 1, e->s->ms, AT(0), 2), "a store failed");
	must(folio_at(e, AT(0)) != phys_folio(e->q, entry_pfn(child_entry_at(e, 0, AT(0)))),
	     "the parent may write what the child reads");
}

enum { MAPS, UNMAPPED };

static void fork_exit(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
	do_child_exit(e, 0);
}

static void unmapper(struct env *e)
{
	must(!do_unmap(e, AT(0), 1), "unmap failed");
	e->r[UNMAPPED] = 1;
}

static void setup_charge(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "fork, exit", 0, fork_exit);
	actor(e, "unmap", 2, unmapper);
}

static void step_charge(struct env *e)
{
	must(!a32_peek(&e->folio->ref) || cgroup_usage(e->q, CGROUP_ROOT) == 1,
	     "a page lives, %llu are charged", (unsigned long long)cgroup_usage(e->q, CGROUP_ROOT));
}

static void end_charge(struct env *e)
{
	must(!cgroup_usage(e->q, CGROUP_ROOT), "%llu pages are charged, none is left",
	     (unsigned long long)cgroup_usage(e->q, CGROUP_ROOT));
}

SCENARIO(fork_swapped) = {
	.name = "fork_swapped",
	.title = "a swapped page is forked while the parent writes it",
	.picture = "  CPU0: fork                    CPU1: store\n"
		   "  counts the slot twice\n"
		   "  (exclusive in neither)\n"
		   "                                fault: maps the cached folio, writable\n"
		   "                                stores 2: the child reads it\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_SWAP_EXCLUSIVE),
	.setup = setup,
	.end = end,
};

SCENARIO(fork_charge) = {
	.name = "fork_charge",
	.title = "a page that was shared is charged once, until its last reference goes",
	.picture = "  CPU0: fork, then the child exits   CPU2: the parent unmaps\n"
		   "                                     its mapping goes\n"
		   "  the last mapping goes\n"
		   "  (charged until the references do)\n"
		   "  a page in use that nobody pays for\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_UNCHARGE_LAST_REF),
	.setup = setup_charge,
	.step = step_charge,
	.end = end_charge,
};
