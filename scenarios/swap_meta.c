/* Metadata beside the bytes of a page that is swapped out and in: saved in time, or the page stays;
 * back in time; with each slot's end, gone. */
#include "explore/scenario.h"

#include "swap/meta.h"

#define CELLS 16u /* slots and frames by their last bits: one or two pages */
#define TAG   9u  /* of the page */

/* The embedder. A page's tag lies with its frame while it is resident; what is saved remembers the
 * bytes too, so that the two can be compared. */
struct tags {
	struct env *e;
	a64_t frame[CELLS];
	a64_t saved[CELLS]; /* 1 + the page's first word; 0: nothing is saved */
	a64_t tag[CELLS];
	bool may_refuse;
};

static int save(void *ctx, const struct meta_page *p)
{
	struct tags *t = ctx;

	if (t->may_refuse && x_choose(2, "the metadata cannot be saved"))
		return -ENOMEM;
	a64_set(&t->saved[p->slot % CELLS], 1 + xm_frame_load(t->e->m, p->pfn));
	a64_set(&t->tag[p->slot % CELLS], a64_read(&t->frame[p->pfn % CELLS]));
	return 0;
}

static void restore(void *ctx, const struct meta_page *p)
{
	struct tags *t = ctx;

	must(a64_read(&t->saved[p->slot % CELLS]), "a page comes back without its metadata");
	a64_set(&t->frame[p->pfn % CELLS], a64_read(&t->tag[p->slot % CELLS]));
}

static void drop(void *ctx, u64 slot)
{
	struct tags *t = ctx;

	must(a64_xchg(&t->saved[slot % CELLS], 0), "nothing is saved for the slot that goes");
}

static const struct meta_ops ops = { .save = save, .restore = restore, .drop = drop };

static struct tags *tags_setup(struct env *e)
{
	struct tags *t = x_alloc(sizeof(*t), 64);

	t->e = e;
	meta_register(e->q, &ops, t);
	area(e, AT(0), 1, RW);
	prepare_store(e, 1, AT(0), 1);
	a64_set(&t->frame[entry_pfn(entry_at(e, AT(0))) % CELLS], TAG);
	e->folio = folio_at(e, AT(0));
	lru_drain_all(e->q);
	watch_page(e, AT(0));
	watch_folio(e, e->folio);
	/* For the actors, who have only e: the flags are words that the scenario may use. */
	a64_set(&e->flag[3], (u64)(uintptr_t)t);
	return t;
}

static struct tags *tags_of(struct env *e)
{
	return (struct tags *)(uintptr_t)a64_peek(&e->flag[3]);
}

static u64 tag_of_entry(struct env *e, u64 entry)
{
	return a64_peek(&tags_of(e)->frame[entry_pfn(entry) % CELLS]);
}

/* What is saved for a page that is out is of the page's last bytes. */
static void must_match(struct env *e, u64 entry, u64 value)
{
	if (pte_is_swap(entry))
		must(a64_peek(&tags_of(e)->saved[swp_slot(entry) % CELLS]) == 1 + value,
		     "the metadata are older than the bytes");
	else
		must(tag_of_entry(e, entry) == TAG, "the page has lost its metadata");
}

/* Once nothing is left, nothing is saved. */
static void must_be_gone(struct env *e)
{
	struct tags *t = tags_of(e);

	if (e->child[0])
		do_child_exit(e, 0);
	do_exit(e);
	for (u32 i = 0; i < CELLS; i++)
		must(!a64_peek(&t->saved[i]), "metadata are left though the space is gone");
}

static void reclaim(struct env *e)
{
	e->r[0] = do_reclaim(e, e->folio);
}

/* ---- a store by a translation that is not flushed yet ---- */

static void writer(struct env *e)
{
	e->r[1] = 1 + (u64)-user_store(e, AT(0), 2);
}

static void setup_stale(struct env *e)
{
	tags_setup(e);
	prepare_aged(e, e->folio);
	actor(e, "reclaim", 0, reclaim);
	actor(e, "writer", 1, writer);
}

static void end_stale(struct env *e)
{
	u64 v = entry_at(e, AT(0));

	must(e->r[1] == 1, "the store failed");
	must_match(e, v, 2);
	must(contents(e, AT(0)) == 2, "the store is lost");
	must(tag_of_entry(e, entry_at(e, AT(0))) == TAG, "the tag is lost");
	must_be_gone(e);
}

/* ---- two threads that want the page back ---- */

static void reader(struct env *e)
{
	struct tags *t = tags_of(e);
	u64 value = 0;

	e->r[2 + x_self_cpu()] = 1 + (u64)-user_load(e, AT(0), &value);
	must(value == 1, "the load gives %llu", (unsigned long long)value);
	must(a64_read(&t->frame[entry_pfn(entry_at(e, AT(0))) % CELLS]) == TAG,
	     "the page is used without its tag");
}

static void setup_back(struct env *e)
{
	struct tags *t = tags_setup(e);

	prepare_swapped_out(e, AT(0));
	/* Frames are other pages' now. */
	for (u32 i = 0; i < CELLS; i++)
		a64_set(&t->frame[i], 0);
	actor(e, "reader", 0, reader);
	actor(e, "reader", 1, reader);
}

static void end_back(struct env *e)
{
	must(e->r[2] == 1 && e->r[3] == 1, "a load failed");
	must_match(e, entry_at(e, AT(0)), 1);
	must_be_gone(e);
}

/* ---- what cannot be saved stays, whoever pins or forks it meanwhile ---- */

static void pin(struct env *e)
{
	int rc = do_pin_fast(e, 0, AT(0), ACCESS_WRITE);

	e->r[1] = 1 + (u64)-rc;
	if (!rc)
		pinned_store(e, 0, 3);
}

static void setup_refused(struct env *e)
{
	struct tags *t = tags_setup(e);

	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	t->may_refuse = true;
	actor(e, "reclaim", 0, reclaim);
	actor(e, "pin", 2, pin);
}

static void end_refused(struct env *e)
{
	u64 v = entry_at(e, AT(0));

	tags_of(e)->may_refuse = false;
	must(e->r[1] == 1, "the pin failed");
	must(entry_present(v) && page_exclusive(phys_record(e->q, entry_pfn(v))),
	     "the pinned page is not the space's alone");
	must(contents(e, AT(0)) == 3 && pinned_load(e, 0) == 3, "the pin's store is lost");
	must_match(e, v, 3);
	do_unpin(e, 0);
	must_be_gone(e);
}

static void forker(struct env *e)
{
	must(!do_fork(e, 0), "fork failed");
}

static void setup_forked(struct env *e)
{
	struct tags *t = tags_setup(e);

	prepare_cold_tlbs(e);
	prepare_aged(e, e->folio);
	t->may_refuse = true;
	actor(e, "reclaim", 0, reclaim);
	actor(e, "fork", 1, forker);
}

static void end_forked(struct env *e)
{
	tags_of(e)->may_refuse = false;
	must(child_contents(e, 0, AT(0)) == 1 && contents(e, AT(0)) == 1, "the bytes are lost");
	must_match(e, child_entry_at(e, 0, AT(0)), 1);
	must_match(e, entry_at(e, AT(0)), 1);
	must(!xm_store(e->m, 1, e->s->ms, AT(0), 2), "the parent cannot store");
	must(child_contents(e, 0, AT(0)) == 1, "the child sees the parent's store");
	must_be_gone(e);
}

SCENARIO(meta_stale) = {
	.name = "meta_stale",
	.title = "a page's metadata are saved while another CPU still stores to it",
	.picture = "  CPU0: reclaim                 CPU1: store\n"
		   "  clears the entry              has it cached\n"
		   "  (flushes it)\n"
		   "  saves the tags\n"
		   "                                stores, and tags what it stored\n"
		   "  writes the page out: new bytes, old tags\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_META_FLUSH),
	.off_home = BIT(MECH_META_FLUSH),
	.setup = setup_stale,
	.end = end_stale,
};

SCENARIO(meta_back) = {
	.name = "meta_back",
	.title = "a swapped page is used while its metadata are brought back",
	.picture = "  CPU0: load                    CPU1: load\n"
		   "  reads the page\n"
		   "  sets the entry\n"
		   "                                goes through: whose tags are these?\n"
		   "  (before the entry:) restores the tags\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(0) | BIT(1),
	.off = BIT(MECH_META_FIRST),
	.off_home = BIT(MECH_META_FIRST),
	.setup = setup_back,
	.end = end_back,
};

SCENARIO(meta_refused) = {
	.name = "meta_refused",
	.title = "a page whose metadata cannot be saved is pinned while its entry is put back",
	.picture = "  CPU0: reclaim                 CPU2: pin_fast\n"
		   "  clears the entry              reads it before\n"
		   "  not pinned: shared\n"
		   "  saving fails: exclusive again, the entry as it was\n"
		   "                                adds the pin; the entry is the same\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW) | BIT(ON_HOME),
	.units = BIT(1),
	.off = BIT(MECH_META_OR_STAY),
	.off_home = BIT(MECH_META_OR_STAY),
	.setup = setup_refused,
	.end = end_refused,
};

SCENARIO(meta_forked) = {
	.name = "meta_forked",
	.title = "fork of a page whose metadata are saved, or cannot be",
	.picture = "  CPU0: reclaim                 CPU1: fork\n"
		   "  clears the entry, saves\n"
		   "                                finds a swap entry, or what was put back\n"
		   "  (does not leave without metadata)\n",
	.kinds = BIT(ON_HW) | BIT(ON_SW),
	.units = BIT(1),
	.off = BIT(MECH_META_OR_STAY),
	.setup = setup_forked,
	.end = end_forked,
};
