/* mremap fails half way and moves back what it had moved, under a reverse-map walk. */
#include "explore/scenario.h"

#define NEW AT(1023) /* two tables: the second cannot be had */

enum { MOVED, FOUND };

static void mover(struct env *e)
{
	e->r[MOVED] = 1 + (u64)-do_remap(e, AT(0), 2, NEW);
}

static void walker(struct env *e)
{
	e->r[FOUND] = do_referenced(e, e->folio);
}

static void setup(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_store(e, 1, AT(0), 7);
	e->folio = folio_at(e, AT(0));
	inject_at(&e->inject, INJECT_TABLE, 2);
	watch_page(e, AT(0));
	watch_page(e, NEW);
	watch_folio(e, e->folio);
	actor(e, "mremap", 0, mover);
	actor(e, "walk", 2, walker);
}

static void end(struct env *e)
{
	inject_off(&e->inject, INJECT_TABLE);
	must(e->r[MOVED] == 1 + ENOMEM, "mremap did not fail as it was meant to");
	must(e->r[FOUND] == 1, "the walk found %u entries of a page that is mapped once",
	     (u32)e->r[FOUND]);
	must(contents(e, AT(0)) == 7, "the page has lost its contents");
}

SCENARIO(remap_back) = {
	.name = "remap_back",
	.title = "mremap fails and moves an entry back under a reverse-map walk",
	.picture = "  CPU0: mremap                  CPU2: reverse-map walk\n"
		   "  moves the entry, old -> new\n"
		   "                                looks at the old place: nothing there\n"
		   "  no memory: moves it back, new -> old\n"
		   "                                looks at the new place: nothing there\n"
		   "  (moves hold the anon_vma's lock: the walk sees one place or the other)\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.off = BIT(MECH_REMAP_RMAP_LOCK),
	.setup = setup,
	.end = end,
};
