/* Reclaim's reverse-map walk while areas are removed, cut, joined, moved. */
#include "explore/scenario.h"

enum { FREED, CHANGED };

static void reclaim(struct env *e)
{
	e->r[FREED] = do_reclaim(e, e->folio);
}

static void unmapper(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_unmap(e, AT(1), 1);
}

static void protector(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_protect(e, AT(1), 1, READ_ONLY);
}

static void joiner(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_protect(e, AT(1), 1, RW);
}

static void mover(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_remap(e, AT(1), 1, AT(512));
}

/* Two pages; the second is the one that reclaim takes. */
static void prepare(struct env *e, const char *name, void (*fn)(struct env *e))
{
	prepare_cold_tlbs(e);
	e->folio = folio_at(e, AT(1));
	prepare_aged(e, e->folio);
	watch_page(e, AT(1));
	watch_folio(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, name, 2, fn);
}

static void fill(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_store(e, 1, AT(1), 7);
}

static void setup_unmap(struct env *e)
{
	fill(e);
	prepare(e, "munmap", unmapper);
}

static void setup_cut(struct env *e)
{
	fill(e);
	prepare(e, "mprotect", protector);
}

static void setup_join(struct env *e)
{
	fill(e);
	must(!do_protect(e, AT(1), 1, READ_ONLY), "set-up: protect");
	prepare(e, "mprotect", joiner);
}

static void setup_move(struct env *e)
{
	fill(e);
	prepare(e, "mremap", mover);
	watch_page(e, AT(512));
}

static void end_unmap(struct env *e)
{
	must(e->r[CHANGED] == 1, "munmap failed");
	must(contents(e, AT(0)) == 1, "the neighbour has lost its contents");
	must(access_result(e, AT(1), false) == -EFAULT, "the area is still there");
}

static void end_same(struct env *e)
{
	must(e->r[CHANGED] == 1, "mprotect failed");
	must(contents(e, AT(0)) == 1 && contents(e, AT(1)) == 7, "the contents are lost");
}

static void end_move(struct env *e)
{
	must(e->r[CHANGED] == 1, "mremap failed");
	must(contents(e, AT(512)) == 7, "the contents are lost");
	must(access_result(e, AT(1), false) == -EFAULT, "the area is still there");
}

#define PICTURE(what)                                      \
	"  CPU0: reclaim                 CPU2: " what "\n" \
	"  anon_vma of the folio\n"                        \
	"                                " what "\n"       \
	"  walks the areas: finds the page where it is, or nowhere\n"

SCENARIO(reclaim_unmap) = {
	.name = "reclaim_unmap",
	.title = "reclaim's reverse-map walk against munmap",
	.picture = PICTURE("munmap"),
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup_unmap,
	.end = end_unmap,
};

SCENARIO(reclaim_cut) = {
	.name = "reclaim_cut",
	.title = "reclaim's reverse-map walk against mprotect that splits the area",
	.picture = PICTURE("splits the area"),
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup_cut,
	.end = end_same,
};

SCENARIO(reclaim_join) = {
	.name = "reclaim_join",
	.title = "reclaim's reverse-map walk against mprotect that merges two areas",
	.picture = PICTURE("merges two areas"),
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup_join,
	.end = end_same,
};

SCENARIO(reclaim_move) = {
	.name = "reclaim_move",
	.title = "reclaim's reverse-map walk against mremap to another table",
	.picture = PICTURE("moves the area"),
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.setup = setup_move,
	.end = end_move,
};
