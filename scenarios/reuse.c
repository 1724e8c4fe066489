/* May a page that was shared be written in place? Against whoever still reads it or is about to. */
#include "explore/scenario.h"

enum { STORED, LOADED, VALUE };

static void writer(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void child_reader(struct env *e)
{
	u64 v = 0;
	int rc = child_load(e, 0, AT(0), &v);

	e->r[LOADED] = 1 + (u64)-rc;
	e->r[VALUE] = v;
	must(rc || v == 1, "the child reads what the parent has stored");
}

static void child_drops(struct env *e)
{
	must(!child_unmap(e, 0, AT(0), 1), "unmap failed");
}

static void child_pins(struct env *e)
{
	e->r[LOADED] = 1 + (u64)-child_pin(e, 0, AT(0), ACCESS_READ);
}

static void child_forks(struct env *e)
{
	must(!do_fork_child(e, 0, 1), "the child cannot fork");
}

/* A page that parent and child share. */
static void setup_shared(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	must(!do_fork(e, 0), "set-up: fork");
	lru_drain_all(e->q);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "writer", 1, writer);
}

/* The parent maps it, the child has only a swap entry, for which it is cached. */
static void setup_half_swapped(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	must(!do_fork(e, 0), "set-up: fork");
	lru_drain_all(e->q);
	prepare_swapped_out(e, AT(0));
	must(pte_is_swap(child_entry_at(e, 0, AT(0))), "set-up: the child still maps it");
	must(prepare_load(e, 1, AT(0)) == 1, "set-up: load");
	lru_drain_all(e->q);
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "writer", 1, writer);
}

static void setup_stale(struct env *e)
{
	setup_shared(e);
	must(prepare_child_load(e, 2, 0, AT(0)) == 1, "set-up: load");
	actor(e, "unmap", 0, child_drops);
	actor(e, "reader", 2, child_reader);
}

static void setup_swapin(struct env *e)
{
	setup_half_swapped(e);
	actor(e, "child", 2, child_reader);
}

static void setup_pin(struct env *e)
{
	setup_half_swapped(e);
	actor(e, "child pins", 0, child_pins);
}

static void setup_sibling(struct env *e)
{
	setup_half_swapped(e);
	prepare_no_copy(e, AT(0));
	actor(e, "child forks", 0, child_forks);
}

/* A folio of four pages: the child has copied three, its mapping of the first is the last that
 * keeps the parent from taking all of it over. */
static void setup_large(struct env *e)
{
	area(e, AT(0), 4, RW);
	prepare_store(e, 1, AT(0), 1);
	must(folio_at(e, AT(3)) == folio_at(e, AT(0)), "set-up: no large folio");
	must(!do_fork(e, 0), "set-up: fork");
	for (u32 i = 1; i < 4; i++)
		prepare_child_store(e, 2, 0, AT(i), 1);
	must(prepare_child_load(e, 2, 0, AT(0)) == 1, "set-up: load");
	lru_drain_all(e->q);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "writer", 1, writer);
	actor(e, "unmap", 0, child_drops);
	actor(e, "reader", 2, child_reader);
}

static void end(struct env *e)
{
	must(e->r[STORED] == 1, "the store failed");
	must(contents(e, AT(0)) == 2, "the parent's store is lost");
}

static void end_child(struct env *e)
{
	end(e);
	must(child_contents(e, 0, AT(0)) == 1, "the child reads what the parent has stored");
	if (e->child[1])
		must(child_contents(e, 1, AT(0)) == 1, "so does the child's child");
}

static void end_pin(struct env *e)
{
	u64 v;

	must(e->r[LOADED] == 1, "the pin ended in error %d", (int)e->r[LOADED] - 1);
	must(pinned_load(e, 0) == 1, "the pin shows what the parent has stored");
	v = child_entry_at(e, 0, AT(0));
	must(pte_present(v) && phys_record(e->q, entry_pfn(v)) == e->pinned[0],
	     "the pinned page is not the child's");
	end_child(e);
	do_unpin(e, 0);
}

SCENARIO(reuse_stale) = {
	.name = "reuse_stale",
	.title = "a page is written in place while another space's CPU still reads it by its TLB",
	.picture =
		"  CPU0: the child unmaps        CPU1: the parent stores   CPU2: the child loads\n"
		"  clears the entry                                        has it cached\n"
		"                                mapped once\n"
		"                                (references: one is left: copy)\n"
		"                                stores 2 in place\n"
		"                                                          reads 2\n"
		"  flushes, drops the reference\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.off = BIT(MECH_REUSE_COUNTS_REFS),
	.setup = setup_stale,
	.end = end,
};

SCENARIO(reuse_swapin) = {
	.name = "reuse_swapin",
	.title = "a page is written in place while another space brings it in from the swap cache",
	.picture = "  CPU1: the parent stores       CPU2: the child loads\n"
		   "  mapped once                   swap entry: finds the cached folio\n"
		   "  (the cache has a reference, the child's look another one: copy)\n"
		   "  stores 2 in place\n"
		   "                                maps it, reads 2\n"
		   "  or leaves the cache first: the child reads the stored copy\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.off = BIT(MECH_REUSE_COUNTS_REFS),
	.setup = setup_swapin,
	.end = end_child,
};

SCENARIO(reuse_pin) = {
	.name = "reuse_pin",
	.title = "a page is written in place while another space brings it in and pins it",
	.picture = "  CPU1: the parent stores       CPU0: the child pins for reading\n"
		   "                                swap entry: maps the cached folio\n"
		   "  mapped once?                  not exclusive: copies it, or takes it over\n"
		   "  (references)\n"
		   "                                pins its own page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_REUSE_COUNTS_REFS),
	.setup = setup_pin,
	.end = end_pin,
};

SCENARIO(reuse_sibling) = {
	.name = "reuse_sibling",
	.title = "a page is written while a child that shares it forks in turn",
	.picture = "  CPU1: the parent stores       CPU0: the child forks\n"
		   "  mapped once                   counts the slot once more\n"
		   "  (the cache has a reference, and no copy is stored: copy)\n"
		   "  stores 2 in place: both children read it\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_REUSE_COUNTS_REFS) | BIT(MECH_LEAVE_HAS_COPY),
	.setup = setup_sibling,
	.end = end_child,
};

SCENARIO(reuse_large) = {
	.name = "reuse_large",
	.title = "a large folio is taken over while another space's CPU still reads a page of it",
	.picture =
		"  CPU0: the child unmaps        CPU1: the parent stores   CPU2: the child loads\n"
		"  clears its last entry                                   has it cached\n"
		"                                each page mapped once, here\n"
		"                                (references: one is not an entry's: copy)\n"
		"                                stores 2 in place\n"
		"                                                          reads 2\n"
		"  flushes, drops the reference\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.large = true,
	.off = BIT(MECH_REUSE_COUNTS_REFS),
	.setup = setup_large,
	.end = end,
};
