/* A pin walks to an entry table that munmap takes away. */
#include "explore/engine.h"
#include "explore/scenario.h"

#define OTHER AT(512) /* another table: the freed one, if it may be used again */

enum { PIN, UNMAPPED, WORD };

static void pinned(struct env *e, int rc)
{
	if (!rc && e->pinned[0]) {
		e->r[WORD] = pinned_load(e, 0);
		do_unpin(e, 0);
	}
	e->r[PIN] = 1 + (u64)-rc;
}

static void pin(struct env *e)
{
	pinned(e, do_pin(e, 0, AT(0), ACCESS_READ));
}

static void pin_without_lock(struct env *e)
{
	pinned(e, do_pin_fast(e, 0, AT(0), ACCESS_READ));
}

static void unmapper(struct env *e)
{
	u64 v;

	e->r[UNMAPPED] = 1 + (u64)-do_unmap(e, AT(0), 1);
	do_rcu_barrier(e);
	(void)user_store(e, OTHER, 9);
	(void)user_load(e, OTHER, &v);
}

/* Without waiting for anybody: only the table's own grace period keeps it from being used again. */
static void unmapper_hurry(struct env *e)
{
	e->r[UNMAPPED] = 1 + (u64)-do_unmap(e, AT(0), 1);
	(void)user_store(e, OTHER, 9);
}

static void prepare(struct env *e, void (*pinner)(struct env *e), void (*fn)(struct env *e))
{
	area(e, AT(0), 1, RW);
	area(e, OTHER, 1, RW);
	prepare_store(e, 1, AT(0), 7);
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_page(e, OTHER);
	actor(e, "pin", 0, pinner);
	actor(e, "munmap", 1, fn);
}

static void setup(struct env *e)
{
	prepare(e, pin, unmapper);
}

static void setup_hurry(struct env *e)
{
	prepare(e, pin, unmapper_hurry);
}

static void setup_fast(struct env *e)
{
	prepare(e, pin_without_lock, unmapper_hurry);
}

static void end(struct env *e)
{
	must(e->r[UNMAPPED] == 1, "munmap failed");
	must(e->r[PIN] == 1 || e->r[PIN] == 1 + EFAULT, "the pin ended in error %d",
	     (int)e->r[PIN] - 1);
	/* Home frames lose their bytes when they are unmapped, pinned or not. */
	must(e->r[PIN] != 1 || e->r[WORD] == 7 || (e->kind == ON_HOME && !e->r[WORD]),
	     "the pin got another page: %llu", (unsigned long long)e->r[WORD]);
}

/*
 * With real locks, because it is a lock that breaks: it lies in the table's descriptor and is
 * initialised again when the table is used again.
 */
SCENARIO(pin_table) = {
	.name = "pin_table",
	.title = "a pin walks to a table that munmap unhooks, frees, and another area uses",
	.picture = "  CPU0: pin                     CPU1: munmap, then a store elsewhere\n"
		   "  PMD says: table T\n"
		   "                                unhooks T, flushes\n"
		   "                                (frees T after a grace period)\n"
		   "                                T is the other area's table now\n"
		   "  locks T\n"
		   "  (still the PMD's table? no: again)\n"
		   "  takes the other area's entry for its own\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_RECHECK_TABLE) | BIT(MECH_READ_PMD_ONCE),
	.off_home = BIT(MECH_RECHECK_TABLE) | BIT(MECH_READ_PMD_ONCE),
	.flags = X_REAL_LOCKS,
	.setup = setup,
	.end = end,
};

SCENARIO(pin_table_freed) = {
	.name = "pin_table_freed",
	.title = "a pin takes the lock of a table that is freed and used again meanwhile",
	.picture = "  CPU0: pin                     CPU1: munmap, then a store elsewhere\n"
		   "  PMD says: table T\n"
		   "                                unhooks T, flushes\n"
		   "                                (waits until CPU0's read section has ended)\n"
		   "  locks T: no longer the PMD's\n"
		   "                                takes T for the other area: a new lock\n"
		   "  unlocks T: a lock that somebody else holds, or nobody\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_TABLE_FREE_GRACE),
	.off_home = BIT(MECH_TABLE_FREE_GRACE),
	.flags = X_REAL_LOCKS,
	.setup = setup_hurry,
	.end = end,
};

SCENARIO(pin_fast_table) = {
	.name = "pin_fast_table",
	.title = "a pin without a lock reads a table that is freed and used again meanwhile",
	.picture = "  CPU0: pin_fast                CPU1: munmap, then a store elsewhere\n"
		   "  PMD says: table T\n"
		   "                                unhooks T, flushes\n"
		   "                                (waits until CPU0's read section has ended)\n"
		   "                                frees T\n"
		   "  reads an entry of T\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_TABLE_FREE_GRACE),
	.off_home = BIT(MECH_TABLE_FREE_GRACE),
	.setup = setup_fast,
	.end = end,
};
