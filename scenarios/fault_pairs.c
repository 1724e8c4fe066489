/* Two CPUs touch one page at the same time. */
#include "explore/scenario.h"

static void first(struct env *e)
{
	e->r[0] = 1 + (u64)-user_store(e, AT(0), 5);
}

static void second(struct env *e)
{
	e->r[1] = 1 + (u64)-user_store(e, AT(0) + 8, 6);
}

static void setup_touch(struct env *e)
{
	area(e, AT(0), 2, RW);
	/* The area has its anon_vma; the page has never been touched. */
	prepare_store(e, 0, AT(1), 1);
	watch_page(e, AT(0));
	actor(e, "user 0", 0, first);
	actor(e, "user 1", 1, second);
}

/* The second word of the page, through its mapping. */
static u64 second_word(struct env *e)
{
	u64 v = 0;

	must(!xm_load(e->m, 0, e->s->ms, AT(0) + 8, &v), "a load failed");
	return v;
}

static void end_touch(struct env *e)
{
	must(e->r[0] == 1 && e->r[1] == 1, "a store failed");
	must(contents(e, AT(0)) == 5, "the first store is lost");
	must(second_word(e) == 6, "the second store is lost");
}

/* The zero page is replaced by a copy; the other CPU must not go on reading the old one. */
static void writer(struct env *e)
{
	e->r[0] = 1 + (u64)-user_store(e, AT(0), 5);
	set_flag(e, 0);
}

static void reader(struct env *e)
{
	bool after = get_flag(e, 0);
	u64 v = 0;

	must(!user_load(e, AT(0), &v), "the load failed");
	must(v == 5 || !after, "the load after the store gives %llu", (unsigned long long)v);
	e->r[1] = 1 + v;
}

static void setup_copy(struct env *e)
{
	area(e, AT(0), 1, RW);
	must(!prepare_load(e, 1, AT(0)), "set-up: load");
	must(pte_special(entry_at(e, AT(0))), "set-up: not the zero page");
	watch_page(e, AT(0));
	actor(e, "writer", 0, writer);
	actor(e, "reader", 1, reader);
}

static void end_copy(struct env *e)
{
	must(e->r[0] == 1, "the store failed");
	must(e->r[1] == 1 || e->r[1] == 1 + 5, "the load gives %llu", (unsigned long long)e->r[1]);
	must(contents(e, AT(0)) == 5, "the store is lost");
}

SCENARIO(touch_two) = {
	.name = "touch_two",
	.title = "two CPUs touch one page for the first time: both stores stay",
	.picture = "  CPU0: store to word 0         CPU1: store to word 1\n"
		   "  no entry: a new page          no entry: a new page\n"
		   "  entry lock: maps its page\n"
		   "                                entry lock: not empty any more: again\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(0) | BIT(1),
	.setup = setup_touch,
	.end = end_touch,
};

SCENARIO(copy_read) = {
	.name = "copy_read",
	.title = "a page is copied on a write while another CPU reads the old one",
	.picture = "  CPU0: store                   CPU1: load\n"
		   "                                has the zero page in its TLB\n"
		   "  copies the page, clears the entry\n"
		   "  (flushes), sets the entry to the copy\n"
		   "  stores\n"
		   "                                loads through the TLB entry: the old bytes\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(0) | BIT(1),
	.off = BIT(MECH_COW_FLUSH),
	.setup = setup_copy,
	.end = end_copy,
};

/* Both stores trap: the page came back for a load, clean and read-only. */
static void setup_write(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 0, AT(0), 1);
	lru_drain_all(e->q);
	prepare_swapped_out(e, AT(0));
	must(prepare_load(e, 0, AT(0)) == 1, "set-up: load");
	must(!pte_write(entry_at(e, AT(0))), "set-up: the page is writable");
	prepare_cold_tlbs(e);
	watch_page(e, AT(0));
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "user 0", 0, first);
	actor(e, "user 1", 1, second);
}

SCENARIO(write_two) = {
	.name = "write_two",
	.title = "two CPUs write a clean page with a stored copy",
	.picture = "  CPU0: store to word 0         CPU1: store to word 1\n"
		   "  read-only: entry lock, makes it writable, voids the copy\n"
		   "                                writable already: again\n",
	.kinds = BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(0) | BIT(1),
	.setup = setup_write,
	.end = end_touch,
};
