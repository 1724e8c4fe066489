/* A fault under the VMA lock while its area is cut, protected, or moved away. */
#include "explore/scenario.h"

enum { FAULT, CHANGED };

static void user(struct env *e)
{
	e->r[FAULT] = 1 + (u64)-user_store(e, AT(1), 5);
}

static void unmapper(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_unmap(e, AT(1), 1);
}

static void protector(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_protect(e, AT(1), 1, READ_ONLY);
}

static void mover(struct env *e)
{
	e->r[CHANGED] = 1 + (u64)-do_remap(e, AT(1), 1, AT(4));
}

/* Two pages, neither touched yet but for an anon_vma: the fault needs only the VMA lock. */
static void prepare(struct env *e, const char *name, void (*fn)(struct env *e))
{
	area(e, AT(0), 2, RW);
	prepare_store(e, 1, AT(0), 1);
	watch_page(e, AT(1));
	actor(e, "user", 1, user);
	actor(e, name, 0, fn);
}

static void setup_unmap(struct env *e)
{
	prepare(e, "munmap", unmapper);
}

static void setup_protect(struct env *e)
{
	prepare(e, "mprotect", protector);
}

static void setup_remap(struct env *e)
{
	prepare(e, "mremap", mover);
	watch_page(e, AT(4));
}

static void end_gone(struct env *e)
{
	must(e->r[CHANGED] == 1, "the change failed");
	must(e->r[FAULT] == 1 || e->r[FAULT] == 1 + EFAULT, "the store ended in error %d",
	     (int)e->r[FAULT] - 1);
	must(access_result(e, AT(1), false) == -EFAULT, "something is left where the area was");
}

static void end_protect(struct env *e)
{
	must(e->r[CHANGED] == 1, "mprotect failed");
	must(e->r[FAULT] == 1 || e->r[FAULT] == 1 + EACCES, "the store ended in error %d",
	     (int)e->r[FAULT] - 1);
	must(contents(e, AT(1)) == (e->r[FAULT] == 1 ? 5 : 0), "the contents are wrong");
	must(!pte_write(entry_at(e, AT(1))), "an entry of a read-only area is writable");
}

static void end_remap(struct env *e)
{
	end_gone(e);
	must(contents(e, AT(4)) == (e->r[FAULT] == 1 ? 5 : 0), "the contents are wrong");
}

#define PICTURE(what)                                         \
	"  CPU1: store                   CPU0: " what "\n"    \
	"  finds the area in the map\n"                       \
	"                                cuts it, " what "\n" \
	"                                ends\n"              \
	"  read-locks the area\n"                             \
	"  (does it still contain the address? no: again)\n"  \
	"  maps a page where its area is not\n"

SCENARIO(fault_unmap) = {
	.name = "fault_unmap",
	.title = "a fault under the VMA lock against munmap of a part of its area",
	.picture = PICTURE("munmap"),
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_VMA_LOCK_RECHECK),
	.off_home = BIT(MECH_VMA_LOCK_RECHECK),
	.setup = setup_unmap,
	.end = end_gone,
};

SCENARIO(fault_protect) = {
	.name = "fault_protect",
	.title = "a fault under the VMA lock against mprotect of a part of its area",
	.picture = PICTURE("mprotect"),
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_VMA_LOCK_RECHECK),
	.off_home = BIT(MECH_VMA_LOCK_RECHECK),
	.setup = setup_protect,
	.end = end_protect,
};

SCENARIO(fault_remap) = {
	.name = "fault_remap",
	.title = "a fault under the VMA lock against mremap of a part of its area",
	.picture = PICTURE("mremap"),
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_VMA_LOCK_RECHECK),
	.off_home = BIT(MECH_VMA_LOCK_RECHECK),
	.setup = setup_remap,
	.end = end_remap,
};
