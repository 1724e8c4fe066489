/* A snapshot against the source's other threads: one that writes through what its TLB still has,
 * and two of which one faults meanwhile; and against a pin that takes no lock. */
#include "explore/scenario.h"

#define VIEW AT(512)

enum { FIRST, STORED, SECOND, PINNED };

static void snapshotter(struct env *e)
{
	u64 v = 0;

	must(!do_snapshot(e, AT(0), 1, 0, VIEW), "snapshot failed");
	must(!user_load(e, VIEW, &v), "the snapshot cannot be read");
	e->r[FIRST] = v;
}

static void writer(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void other_writer(struct env *e)
{
	e->r[SECOND] = 1 + (u64)-user_store(e, AT(0) + 8, 3);
}

static void pinner(struct env *e)
{
	e->r[PINNED] = 1 + (u64)-do_pin_fast(e, 0, AT(0), ACCESS_READ);
}

static void setup_page(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	watch_page(e, AT(0));
	watch_page(e, VIEW);
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "snapshot", 0, snapshotter);
}

static void setup(struct env *e)
{
	setup_page(e);
	actor(e, "writer", 1, writer);
}

static void setup_two(struct env *e)
{
	setup(e);
	actor(e, "writer 2", 2, other_writer);
}

static void setup_pin(struct env *e)
{
	setup_page(e);
	actor(e, "pin", 2, pinner);
}

static void end_view(struct env *e)
{
	u64 v = contents(e, VIEW);

	must(v == e->r[FIRST], "the snapshot has read %llu and reads %llu now",
	     (unsigned long long)e->r[FIRST], (unsigned long long)v);
}

static void end(struct env *e)
{
	must(e->r[STORED] == 1, "the store failed");
	must(contents(e, AT(0)) == 2, "the source's store is lost");
	end_view(e);
}

static void end_two(struct env *e)
{
	u64 v = 0;

	end(e);
	must(e->r[SECOND] == 1 && !xm_load(e->m, 2, e->s->ms, AT(0) + 8, &v), "the second failed");
	must(v == 3, "the second writer's store is lost");
}

static void end_pin(struct env *e)
{
	u64 v;

	must(e->r[PINNED] == 1, "the pin ended in error %d", (int)e->r[PINNED] - 1);
	must(!xm_store(e->m, 1, e->s->ms, AT(0), 4), "the store failed");
	v = entry_at(e, AT(0));
	must(pte_present(v) && phys_record(e->q, entry_pfn(v)) == e->pinned[0],
	     "the pin shows another page than loads do");
	end_view(e);
	do_unpin(e, 0);
}

SCENARIO(snapshot_store) = {
	.name = "snapshot_store",
	.title = "a snapshot is made while another CPU may still write the page by its TLB",
	.picture = "  CPU0: snapshot                CPU1: store\n"
		   "  write-protects the entry      has it cached, writable\n"
		   "  (flush)\n"
		   "  returns; the snapshot reads 1\n"
		   "                                stores 2 to the shared page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(0) | BIT(1),
	.off = BIT(MECH_FORK_FLUSH),
	.setup = setup,
	.end = end,
};

SCENARIO(snapshot_store_locked) = {
	.name = "snapshot_store_locked",
	.title = "a snapshot flushes each table under its lock, and the writer keeps its frame",
	.picture = "  CPU0: snapshot                CPU1: store\n"
		   "  write-protects the entry      has it cached, writable\n"
		   "  (flush, then unlock)\n"
		   "                                fault (waits for its area): the snapshot\n"
		   "                                gets the copy\n"
		   "  returns; the snapshot reads 1\n"
		   "                                stores 2 to the shared page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(0) | BIT(1),
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_FORK_FLUSH),
	.setup = setup,
	.end = end,
};

SCENARIO(snapshot_writers) = {
	.name = "snapshot_writers",
	.title = "a thread faults on a page while a snapshot shares it and another still writes it",
	.picture =
		"  CPU0: snapshot                CPU1: store           CPU2: store\n"
		"  write-protects the entry      has it cached\n"
		"                                                      fault (waits for its area)\n"
		"                                                      copies the page\n"
		"                                stores to the old one\n"
		"                                                      entry -> copy: lost\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(0) | BIT(1) | BIT(2),
	.off = BIT(MECH_FORK_LOCK_AREAS),
	.setup = setup_two,
	.end = end_two,
};

SCENARIO(snapshot_pin_fast) = {
	.name = "snapshot_pin_fast",
	.title = "a page is pinned without a lock while a snapshot shares it",
	.picture = "  CPU0: snapshot                CPU2: pin_fast, for reading\n"
		   "                                reads the entry (of an even sequence)\n"
		   "  (sequence odd)\n"
		   "  write-protects the entry; no pin\n"
		   "                                adds its pin; still exclusive\n"
		   "  not exclusive any more\n"
		   "  (sequence even)               (sequence changed: drops the pin)\n"
		   "  a store goes to a copy: the pin shows the old page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(0) | BIT(1),
	.off = BIT(MECH_PIN_BLOCKS_SHARING),
	.setup = setup_pin,
	.end = end_pin,
};
