/* A reverse-map walk while the page's entry moves to another table. */
#include "explore/scenario.h"

#define NEW AT(512) /* another table */

enum { MOVED, FOUND };

static void mover(struct env *e)
{
	e->r[MOVED] = 1 + (u64)-do_remap(e, AT(0), 1, NEW);
}

static void walker(struct env *e)
{
	e->r[FOUND] = do_referenced(e, e->folio);
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 7);
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_page(e, NEW);
	watch_folio(e, e->folio);
	actor(e, "mremap", 0, mover);
	actor(e, "walk", 2, walker);
}

static void end(struct env *e)
{
	must(e->r[MOVED] == 1, "mremap failed");
	must(e->r[FOUND] == 1, "the walk found %u entries of a page that is mapped once",
	     (u32)e->r[FOUND]);
	must(contents(e, NEW) == 7, "the page has lost its contents");
}

SCENARIO(remap_walk) = {
	.name = "remap_walk",
	.title = "mremap moves an entry between tables under a reverse-map walk",
	.picture =
		"  CPU0: mremap                  CPU2: reverse-map walk\n"
		"                                looks at the new place: nothing there yet\n"
		"  moves the entry, old -> new\n"
		"                                looks at the old place: nothing there any more\n"
		"  (both hold the anon_vma's lock: one waits for the other)\n",
	.kinds = BIT(ON_HW),
	.units = BIT(1),
	.setup = setup,
	.end = end,
};
