/* Fork while reclaim walks the page's mappings. */
#include "explore/scenario.h"

static void reclaim(struct env *e)
{
	e->r[0] = do_reclaim(e, e->folio);
}

/* The child is all that is left of the page. */
static void forker(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
	must(!do_unmap(e, AT(0), 1), "unmap failed");
	e->r[1] = 1;
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	e->folio = folio_at(e, AT(0));
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "fork", 1, forker);
}

static void end(struct env *e)
{
	u64 v = child_entry_at(e, 0, AT(0));

	/* Found where only the child maps it. */
	lru_drain_all(e->q);
	if (pte_present(v)) {
		prepare_aged(e, e->folio);
		(void)do_reclaim(e, e->folio);
		v = child_entry_at(e, 0, AT(0));
	}
	must(pte_is_swap(v), "reclaim does not find the page in the child");
	must(child_contents(e, 0, AT(0)) == 7, "the child's page is lost");
}

/* A store through what reclaim has yet to flush comes before fork's return, or traps. */
static void writer(struct env *e)
{
	e->r[3] = get_flag(e, 0);
	e->r[2] = 1 + (u64)-user_store(e, AT(0), 8);
}

static void fork_and_tell(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
	set_flag(e, 0);
}

static void setup_stale(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	e->folio = folio_at(e, AT(0));
	prepare_aged(e, e->folio);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "fork", 2, fork_and_tell);
	actor(e, "writer", 1, writer);
}

static void end_stale(struct env *e)
{
	u64 v = child_contents(e, 0, AT(0));

	must(e->r[2] == 1, "the store failed");
	must(contents(e, AT(0)) == 8, "the parent's store is lost");
	must(v == 7 || (v == 8 && !e->r[3]),
	     "the child reads %llu, which was stored after the fork", (unsigned long long)v);
}

SCENARIO(fork_reclaim) = {
	.name = "fork_reclaim",
	.title = "fork copies an entry while reclaim looks for the page's mappings",
	.picture = "  CPU0: reclaim                 CPU1: fork, then the parent unmaps\n"
		   "                                (chains the child's area as well)\n"
		   "                                the child maps the page\n"
		   "                                the parent's area and its anon_vma go\n"
		   "  walks the anon_vma: where is the child?\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_FORK_CHAINS),
	.setup = setup,
	.end = end,
};

SCENARIO(fork_unflushed) = {
	.name = "fork_unflushed",
	.title = "fork of a page that reclaim has unmapped and not flushed yet",
	.picture = "  CPU0: reclaim                 CPU2: fork            CPU1: store\n"
		   "  clears the entry, batches it                        has it cached\n"
		   "                                swap entry: counts it\n"
		   "                                (flushes the batch)\n"
		   "                                returns, says so\n"
		   "                                                      stores 8: too late\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_FLUSH_BATCHED),
	.bound = 3,
	.setup = setup_stale,
	.end = end_stale,
};
