/* Fork against the parent's other threads: one that writes through what its TLB still has, and two
 * of which one faults meanwhile. */
#include "explore/scenario.h"

enum { FIRST, STORED, SECOND };

static void forker(struct env *e)
{
	u64 v = 0;

	must(!do_fork(e, 0), "fork failed");
	must(!child_load(e, 0, AT(0), &v), "the child cannot load");
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

static void setup(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "fork", 0, forker);
	actor(e, "writer", 1, writer);
}

static void setup_two(struct env *e)
{
	setup(e);
	actor(e, "writer 2", 2, other_writer);
}

static void end(struct env *e)
{
	u64 v = child_contents(e, 0, AT(0));

	must(e->r[STORED] == 1, "the store failed");
	must(contents(e, AT(0)) == 2, "the parent's store is lost");
	must(v == e->r[FIRST], "the child has read %llu and reads %llu now",
	     (unsigned long long)e->r[FIRST], (unsigned long long)v);
}

static void end_two(struct env *e)
{
	u64 v = 0;

	end(e);
	must(e->r[SECOND] == 1 && !xm_load(e->m, 2, e->s->ms, AT(0) + 8, &v), "the second failed");
	must(v == 3, "the second writer's store is lost");
}

SCENARIO(fork_store) = {
	.name = "fork_store",
	.title = "fork while another CPU of the parent may still write the page by its TLB",
	.picture = "  CPU0: fork                    CPU1: store\n"
		   "  write-protects the entry      has it cached, writable\n"
		   "  (flush)\n"
		   "  returns; the child reads 1\n"
		   "                                stores 2 to the shared page\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(0) | BIT(1),
	.off = BIT(MECH_FORK_FLUSH),
	.setup = setup,
	.end = end,
};

SCENARIO(fork_writers) = {
	.name = "fork_writers",
	.title = "one thread faults on a page while fork shares it and another still writes it",
	.picture =
		"  CPU0: fork                    CPU1: store           CPU2: store\n"
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
