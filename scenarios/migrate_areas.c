/* A page moves to another frame while its area is protected, forked, unmapped, moved. */
#include "explore/scenario.h"

enum { MOVED, DONE, LOADED };

static void migrate(struct env *e)
{
	e->r[MOVED] = do_migrate(e, &e->folio, 1);
}

static void one_page(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
}

/* ---- protect ---- */

static void protect(struct env *e)
{
	must(!do_protect(e, AT(0), 1, 0), "protect failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void user(struct env *e)
{
	bool after = get_flag(e, 0);
	u64 v = 0;
	int rc = user_load(e, AT(0), &v);

	must(!after || rc == -EACCES, "a load gets through after protect has returned");
	must(rc || v == 1, "the load gives %d", (int)v);
	e->r[LOADED] = 1;
}

static void setup_protect(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "protect", 0, protect);
	actor(e, "user", 1, user);
}

static void end_protect(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(access_result(e, AT(0), false) == -EACCES, "the page can be read");
	must(!do_protect(e, AT(0), 1, RW), "protect failed");
	must(contents(e, AT(0)) == 1, "the page is lost");
}

SCENARIO(migrate_protect) = {
	.name = "migrate_protect",
	.title = "a page moves while access to it is forbidden",
	.picture = "  CPU2: migration                CPU0: mprotect(NONE)      CPU1: user\n"
		   "  entry -> migration entry                                 has it cached\n"
		   "                                 nothing present\n"
		   "                                 (flush what is owed)\n"
		   "                                 return                    reads through it\n"
		   "  flush, copy\n"
		   "  (what may the area?) present                             reads it\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_AREA_RIGHTS) | BIT(MECH_FLUSH_BATCHED),
	.setup = setup_protect,
	.end = end_protect,
};

/* ---- fork ---- */

static void forker(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
	must(!user_store(e, AT(0), 5), "the store failed");
	e->r[DONE] = 1;
}

static void setup_fork(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "fork", 1, forker);
}

static void end_fork(struct env *e)
{
	must(e->r[DONE], "fork has not ended");
	must(contents(e, AT(0)) == 5, "the parent's store is lost");
	must(child_contents(e, 0, AT(0)) == 1, "the child reads the parent's store");
}

SCENARIO(migrate_fork) = {
	.name = "migrate_fork",
	.title = "a page moves while its space is forked",
	.picture = "  CPU2: migration                CPU1: fork, then a store\n"
		   "  entry -> writable migration entry\n"
		   "                                 the child gets one too\n"
		   "                                 (both: not writable, not exclusive)\n"
		   "  both present, both writable\n"
		   "                                 stores into the page that both have\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_SHARED) | BIT(MECH_FLUSH_BATCHED),
	.setup = setup_fork,
	.end = end_fork,
};

/* ---- unmap ---- */

static void discard(struct env *e)
{
	must(!do_advise(e, AT(0), 1, ADVISE_DONTNEED), "madvise failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void user_of_discarded(struct env *e)
{
	bool after = get_flag(e, 0);
	u64 v = 0;

	must(!user_load(e, AT(0), &v), "the load failed");
	must(!v || (v == 1 && !after), "after madvise the load gives %d", (int)v);
	e->r[LOADED] = 1;
}

static void setup_discard(struct env *e)
{
	one_page(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "madvise", 0, discard);
	actor(e, "user", 1, user_of_discarded);
}

static void end_discard(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(contents(e, AT(0)) == 0, "a page that was given up is back");
}

SCENARIO(migrate_discard) = {
	.name = "migrate_discard",
	.title = "a page moves while it is given up",
	.picture = "  CPU2: migration                CPU0: madvise(DONTNEED)   CPU1: user\n"
		   "  entry -> migration entry\n"
		   "                                 (clears it)\n"
		   "                                 return\n"
		   "  present                                                 reads the old page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_ZAP) | BIT(MECH_FLUSH_BATCHED),
	.setup = setup_discard,
	.end = end_discard,
};

/* ---- an entry that is removed while a fault waits for it ---- */

static void unmapper(struct env *e)
{
	must(!do_unmap(e, AT(0), 1), "munmap failed");
	e->r[DONE] = 1;
	set_flag(e, 0);
}

static void waiter(struct env *e)
{
	bool after = get_flag(e, 0);
	u64 v = 0;
	int rc = user_load(e, AT(0), &v);

	must(rc == -EFAULT || (!rc && v == 1 && !after), "the load gives %d, %d", rc, (int)v);
	e->r[LOADED] = 1;
}

static void setup_unmap(struct env *e)
{
	one_page(e);
	prepare_cold_tlbs(e);
	actor(e, "migrate", 2, migrate);
	actor(e, "munmap", 0, unmapper);
	actor(e, "user", 1, waiter);
}

static void end_unmap(struct env *e)
{
	must(e->r[DONE] && e->r[LOADED], "an actor has not ended");
	must(pte_none(entry_at(e, AT(0))), "munmap left an entry");
	must(access_result(e, AT(0), false) == -EFAULT, "a load there does not trap");
}

SCENARIO(migrate_wait_unmap) = {
	.name = "migrate_wait_unmap",
	.title = "a fault waits for a page that moves, and munmap takes the entry away",
	.picture =
		"  CPU2: migration                CPU0: munmap             CPU1: user\n"
		"  entry -> migration entry\n"
		"                                                          faults: waits for it\n"
		"                                 (clears it)\n"
		"  nothing to map; wakes\n"
		"                                                          looks again: no area\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_MIGRATE_ZAP),
	.bound = 2,
	.setup = setup_unmap,
	.end = end_unmap,
};

/* ---- remap ---- */

#define NEW AT(1023) /* two tables: the second cannot be had */

static void mover(struct env *e)
{
	e->r[DONE] = 1 + (u64)-do_remap(e, AT(0), 2, NEW);
}

static void setup_remap(struct env *e)
{
	area(e, AT(0), 2, RW);
	prepare_store(e, 1, AT(0), 1);
	e->folio = folio_at(e, AT(0));
	inject_at(&e->inject, INJECT_TABLE, 2);
	watch_page(e, AT(0));
	watch_page(e, NEW);
	watch_folio(e, e->folio);
	actor(e, "migrate", 2, migrate);
	actor(e, "mremap", 0, mover);
}

static void end_remap(struct env *e)
{
	inject_off(&e->inject, INJECT_TABLE);
	must(e->r[DONE] == 1 + ENOMEM, "mremap did not fail as it was meant to");
	must(pte_present(entry_at(e, AT(0))), "the page moves for ever");
	must(contents(e, AT(0)) == 1, "the page is lost");
}

SCENARIO(migrate_remap) = {
	.name = "migrate_remap",
	.title = "a page moves to another frame while mremap fails and moves it back",
	.picture = "  CPU2: migration                CPU0: mremap\n"
		   "  entry -> migration entry\n"
		   "                                 moves it, old -> new\n"
		   "  looks at the old place: nothing\n"
		   "                                 no memory: moves it back, new -> old\n"
		   "  looks at the new place: nothing\n"
		   "  (moves hold the anon_vma's lock: the walk sees one place or the other)\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_REMAP_RMAP_LOCK),
	.setup = setup_remap,
	.end = end_remap,
};
