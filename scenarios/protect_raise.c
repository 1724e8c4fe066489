/* Rights are raised while a CPU still has the old ones cached: the store traps for nothing. */
#include "explore/scenario.h"

enum { STORED, PROTECTED };

static void protector(struct env *e)
{
	e->r[PROTECTED] = 1 + (u64)-do_protect(e, AT(0), 1, RW);
	set_flag(e, 0);
}

static void user(struct env *e)
{
	bool after = get_flag(e, 0);
	int rc = user_store(e, AT(0), 2);

	must(!rc || (rc == -EACCES && !after), "the store ended in error %d", rc);
	e->r[STORED] = rc ? 1 : 2;
}

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	must(!do_protect(e, AT(0), 1, READ_ONLY), "set-up: protect");
	must(prepare_load(e, 1, AT(0)) == 1, "set-up: load");
	watch_page(e, AT(0));
	actor(e, "mprotect", 0, protector);
	actor(e, "user", 1, user);
}

static void end(struct env *e)
{
	must(e->r[PROTECTED] == 1, "mprotect failed");
	must(contents(e, AT(0)) == e->r[STORED], "the contents are wrong");
}

SCENARIO(protect_raise) = {
	.name = "protect_raise",
	.title = "mprotect gives rights back; a CPU that has the old ones cached traps for nothing",
	.picture = "  CPU0: mprotect(READ|WRITE)    CPU1: user\n"
		   "                                has the page in its TLB, read-only\n"
		   "  entry gains W; no flush\n"
		   "  returns\n"
		   "                                store: traps on what is cached, or walks\n"
		   "                                fault: the entry allows it; again\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.evict = true,
	.spurious = true,
	.setup = setup,
	.end = end,
};
