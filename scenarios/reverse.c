/* The writer of a shared page keeps its frame and the others get a copy: against whoever reads,
 * unmaps, pins, evicts, writes or shares the page there meanwhile. */
#include "explore/scenario.h"

#define VIEW  AT(512)
#define VIEW2 AT(1024)

enum { STORED, LOADED, VALUE, PINNED };

static void writer(struct env *e)
{
	e->r[STORED] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void view_reader(struct env *e)
{
	u64 v = 0;
	int rc = user_load(e, VIEW, &v);

	e->r[LOADED] = 1 + (u64)-rc;
	e->r[VALUE] = v;
	must(rc || v == 1, "the snapshot reads what the source has stored");
}

static void view_writer(struct env *e)
{
	e->r[LOADED] = 1 + (u64)-user_store(e, VIEW, 3);
}

static void view_unmaps(struct env *e)
{
	must(!do_unmap(e, VIEW, 1), "unmap failed");
}

static void view_pins(struct env *e)
{
	e->r[PINNED] = 1 + (u64)-do_pin_fast(e, 0, VIEW, ACCESS_READ);
}

static void view_again(struct env *e)
{
	must(!do_snapshot(e, VIEW, 1, SNAPSHOT_F_WRITE, VIEW2), "snapshot of the snapshot failed");
}

static void evicts(struct env *e)
{
	do_reclaim(e, e->folio);
}

/* A page that the source and a writable snapshot share. */
static void setup_shared(struct env *e)
{
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	must(!do_snapshot(e, AT(0), 1, SNAPSHOT_F_WRITE, VIEW), "set-up: snapshot");
	lru_drain_all(e->q);
	e->folio = folio_at(e, AT(0));
	watch_page(e, AT(0));
	watch_page(e, VIEW);
	watch_folio(e, e->folio);
	actor(e, "writer", 1, writer);
}

static void setup_reader(struct env *e)
{
	setup_shared(e);
	must(prepare_load(e, 2, VIEW) == 1, "set-up: load");
	actor(e, "reader", 2, view_reader);
}

static void setup_stale(struct env *e)
{
	setup_reader(e);
	actor(e, "unmap", 0, view_unmaps);
}

static void setup_pin(struct env *e)
{
	setup_shared(e);
	actor(e, "pin", 0, view_pins);
}

static void setup_again(struct env *e)
{
	setup_reader(e);
	watch_page(e, VIEW2);
	actor(e, "snapshot", 0, view_again);
}

static void setup_reclaim(struct env *e)
{
	setup_shared(e);
	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	actor(e, "reclaim", 0, evicts);
}

/* The source maps it, the snapshot has only a swap entry, for which it is cached and not stored. */
static void setup_cached(struct env *e)
{
	setup_shared(e);
	prepare_swapped_out(e, AT(0));
	must(prepare_load(e, 1, AT(0)) == 1, "set-up: load");
	prepare_no_copy(e, AT(0));
	lru_drain_all(e->q);
	prepare_cold_tlbs(e);
	actor(e, "reader", 2, view_reader);
}

static void setup_two(struct env *e)
{
	setup_shared(e);
	must(!do_snapshot(e, AT(0), 1, 0, VIEW2), "set-up: second snapshot");
	watch_page(e, VIEW2);
	actor(e, "writer 2", 2, view_writer);
}

/* Four pages of one folio, and two who write to different ones of them. */
static void other_page_writer(struct env *e)
{
	e->r[VALUE] = 1 + (u64)-user_store(e, AT(1), 3);
}

static void other_page_reader(struct env *e)
{
	u64 v = 0;

	e->r[LOADED] = 1 + (u64)-user_load(e, VIEW + PAGE_SIZE, &v);
	must(e->r[LOADED] != 1 || v == 1, "the snapshot reads what the source has stored");
}

static void setup_block(struct env *e)
{
	area(e, AT(0), 4, RW);
	prepare_store(e, 1, AT(0), 1);
	prepare_store(e, 1, AT(1), 1);
	must(folio_nr(folio_at(e, AT(0))) == 4, "set-up: no large folio");
	must(!do_snapshot(e, AT(0), 4, 0, VIEW), "set-up: snapshot");
	lru_drain_all(e->q);
	must(prepare_load(e, 2, VIEW + PAGE_SIZE) == 1, "set-up: load");
	watch_page(e, AT(0));
	watch_page(e, AT(1));
	watch_page(e, VIEW);
	watch_page(e, VIEW + PAGE_SIZE);
	watch_folio(e, folio_at(e, AT(0)));
	actor(e, "writer", 1, writer);
	actor(e, "writer 2", 0, other_page_writer);
	actor(e, "reader", 2, other_page_reader);
}

static void end(struct env *e)
{
	must(e->r[STORED] == 1, "the store failed");
	must(contents(e, AT(0)) == 2, "the source's store is lost");
}

static void end_view(struct env *e)
{
	end(e);
	must(contents(e, VIEW) == 1, "the snapshot has what the source has stored");
}

static void end_again(struct env *e)
{
	end_view(e);
	must(contents(e, VIEW2) == 1, "the second snapshot has what the source has stored");
}

static void end_two(struct env *e)
{
	end(e);
	must(e->r[LOADED] == 1, "the second store failed");
	must(contents(e, VIEW) == 3, "the second writer's store is lost");
	must(contents(e, VIEW2) == 1, "the second snapshot has what somebody has stored");
}

static void end_block(struct env *e)
{
	end_view(e);
	must(e->r[VALUE] == 1, "the second store failed");
	must(contents(e, AT(1)) == 3, "the second writer's store is lost");
	must(contents(e, VIEW + PAGE_SIZE) == 1, "the snapshot has what the second has stored");
}

static void end_pin(struct env *e)
{
	u64 v;

	end_view(e);
	must(e->r[PINNED] == 1, "the pin ended in error %d", (int)e->r[PINNED] - 1);
	must(pinned_load(e, 0) == 1, "the pin shows what the source has stored");
	v = entry_at(e, VIEW);
	must(pte_present(v) && phys_record(e->q, entry_pfn(v)) == e->pinned[0],
	     "the pinned page is not the snapshot's");
	do_unpin(e, 0);
}

SCENARIO(reverse_reader) = {
	.name = "reverse_reader",
	.title = "a writer keeps a shared page's frame while a reader has it cached elsewhere",
	.picture = "  CPU1: the source stores       CPU2: the snapshot loads\n"
		   "  copies the bytes              has it cached\n"
		   "  clears the snapshot's entry\n"
		   "  (flush)\n"
		   "  sets it to the copy\n"
		   "  stores 2 in place\n"
		   "                                reads 2\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.caps = CAP_PLACED,
	.off = BIT(MECH_REVERSE_FLUSH),
	.setup = setup_reader,
	.end = end_view,
};

SCENARIO(reverse_stale) = {
	.name = "reverse_stale",
	.title = "a writer keeps a shared page's frame while the other place is unmapped and read",
	.picture = "  CPU1: the source stores       CPU0: unmaps the snapshot  CPU2: loads there\n"
		   "                                clears the entry           has it cached\n"
		   "  mapped once\n"
		   "  (references: one is left: an ordinary copy)\n"
		   "  stores 2 in place\n"
		   "                                                           reads 2\n"
		   "                                flushes, drops the reference\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.caps = CAP_PLACED,
	.off = BIT(MECH_REVERSE_COUNTS_REFS),
	.setup = setup_stale,
	.end = end,
};

SCENARIO(reverse_unmap) = {
	.name = "reverse_unmap",
	.title = "the same where flushes are made under the entry lock",
	.picture = "  CPU1: the source stores       CPU0: unmaps the snapshot  CPU2: loads there\n"
		   "  clears the snapshot's entry                              has it cached\n"
		   "  (flush)\n"
		   "  sets it to the copy           clears it\n"
		   "  stores 2 in place\n"
		   "                                                           reads 2\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_REVERSE_FLUSH),
	.setup = setup_stale,
	.end = end,
};

SCENARIO(reverse_pin_fast) = {
	.name = "reverse_pin_fast",
	.title = "a writer keeps a shared page's frame while it is pinned without a lock elsewhere",
	.picture = "  CPU1: the source stores       CPU0: pin_fast in the snapshot\n"
		   "                                reads the entry, adds its pin\n"
		   "  clears it, sets it to the copy\n"
		   "  exclusive\n"
		   "                                exclusive: so it is mine\n"
		   "                                (entry still the same? no)\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_PIN_FAST_RECHECK),
	.setup = setup_pin,
	.end = end_pin,
};

SCENARIO(reverse_cached) = {
	.name = "reverse_cached",
	.title = "a writer keeps a shared page's frame while it is brought in from the swap cache",
	.picture = "  CPU1: the source stores       CPU2: the snapshot loads\n"
		   "  mapped once                   swap entry: finds the cached folio\n"
		   "  (in the swap cache: an ordinary copy)\n"
		   "  stores 2 in place\n"
		   "                                maps it, reads 2\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_REVERSE_NOT_CACHED) | BIT(MECH_LEAVE_HAS_COPY),
	.setup = setup_cached,
	.end = end_view,
};

SCENARIO(reverse_reclaim) = {
	.name = "reverse_reclaim",
	.title = "a writer keeps a shared page's frame while it is evicted",
	.picture = "  CPU1: the source stores       CPU0: reclaim\n"
		   "                                into the swap cache, unmaps both\n"
		   "  brings it in: mapped once\n"
		   "                                in use again: leaves it in the cache\n"
		   "  (in the swap cache: an ordinary copy)\n"
		   "  stores 2 in place: the snapshot's swap entry leads to it\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_REVERSE_NOT_CACHED),
	.setup = setup_reclaim,
	.end = end_view,
};

SCENARIO(reverse_snapshot) = {
	.name = "reverse_snapshot",
	.title = "a writer keeps a shared page's frame while a snapshot is made of the snapshot",
	.picture =
		"  CPU1: the source stores       CPU0: snapshot of the view     CPU2: loads there\n"
		"                                the new area is in the tree,   has it cached\n"
		"                                behind the old one\n"
		"  the old one's entry:          shares the page, or the copy\n"
		"  to the copy (flush)\n"
		"  the new one's entry, if it is the page's\n"
		"  stores 2 in place\n"
		"                                                               reads 2\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_REVERSE_FLUSH),
	.setup = setup_again,
	.end = end_again,
};

SCENARIO(reverse_two) = {
	.name = "reverse_two",
	.title = "two who share a page write it at the same time, a third keeps it",
	.picture = "  CPU1: the source stores       CPU2: the first snapshot stores\n"
		   "  its entry: to the copy\n"
		   "                                mapped once: mine (locked: copies the copy)\n"
		   "  the second's entry: to the copy\n"
		   "                                stores 3 to what the second reads\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1) | BIT(2),
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_REVERSE_LOCK_COPY) | BIT(MECH_REVERSE_RECHECK),
	.setup = setup_two,
	.end = end_two,
};

SCENARIO(reverse_block) = {
	.name = "reverse_block",
	.title =
		"two writers of a large folio that a snapshot shares, and a reader of the snapshot",
	.picture = "  CPU1: stores to page 0        CPU0: stores to page 1     CPU2: loads it\n"
		   "  copies all four pages                                    has it cached\n"
		   "  clears the snapshot's entries\n"
		   "  (flush)                       the folio is locked: copies page 1 alone\n"
		   "  sets them to the copies\n"
		   "  all four are its own          or: it is mine, written in place\n"
		   "                                                           reads 3\n",
	.kinds = BIT(ON_SW),
	.units = BIT(0) | BIT(1) | BIT(2),
	.large = true,
	.caps = CAP_PLACED | CAP_FLUSH_UNDER_LOCK,
	.off = BIT(MECH_REVERSE_FLUSH),
	.bound = 2,
	.setup = setup_block,
	.end = end_block,
};
