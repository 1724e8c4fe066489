/* Lookups in the page cache, which take no lock, against those who take folios out. */
#include "explore/scenario.h"

#include "object/object.h"
#include "reclaim/reclaim.h"

enum { FOUND, VALUE, REPLACED, EVICTED, STORED };

/* A page of the file: its frame's word, read with a reference held. */
static void lookup(struct env *e)
{
	struct folio *f;

	gate_enter(&e->q->gate);
	f = object_lookup(e->object, 0);
	if (f) {
		e->r[VALUE] = xm_frame_load(e->m, folio_pfn(e->q, f));
		folio_put(e->q, f);
	}
	gate_exit(&e->q->gate);
	e->r[FOUND] = f ? 1 : 2;
}

/* Page 0 moves to another frame, whose old one is used for page 1 at once (as migration would). */
static void migrate(struct env *e)
{
	struct object *o = e->object;
	struct folio *old, *new = phys_alloc(e->q, 0, 0);
	struct list dead;

	must(new != NULL, "no frame");
	cgroup_force_charge(e->q, CGROUP_ROOT, 1);
	folio_set_charge(new, CGROUP_ROOT);
	gate_enter(&e->q->gate);
	old = object_lookup(o, 0);
	folio_lock(old);
	must(folio_trylock(new), "a new folio is locked");
	/* The lookup's reference and the cache's; else somebody uses it. */
	if (folio_freeze(old, 2)) {
		a64_fetch_or(&new->flags, PGF(UPTODATE));
		xm_frame_store(e->m, folio_pfn(e->q, new),
			       xm_frame_load(e->m, folio_pfn(e->q, old)));
		object_replace_frozen(old, new);
		folio_unlock(old);
		list_init(&dead);
		list_add(&old->lru, &dead);
		phys_free_frozen_list(e->q, &dead);
		folio_unlock(new);
		e->r[REPLACED] = 1;
	} else {
		folio_unlock(old);
		folio_put(e->q, old);
		folio_unlock(new);
		e->r[REPLACED] = 2;
	}
	folio_put(e->q, new);
	gate_exit(&e->q->gate);
	must(!do_file_store(e, 1, 9), "write failed");
}

static void setup(struct env *e)
{
	file(e, 2);
	must(!do_file_store(e, 0, 7) && !do_fsync(e), "set-up: write");
	e->folio = object_lookup(e->object, 0);
	lru_drain_all(e->q);
	must(lru_isolate(e->q, e->folio), "set-up: isolate");
	folio_put_nr(e->q, e->folio, 2); /* off the lists for good: the cache's is left */
	watch_folio(e, e->folio);
	actor(e, "lookup", 0, lookup);
	actor(e, "migrate", 1, migrate);
}

static void end(struct env *e)
{
	u64 v = 0;

	must(e->r[FOUND] == 1, "the lookup found nothing");
	must(e->r[VALUE] == 7, "the lookup found a page with %d", (int)e->r[VALUE]);
	must(do_file_load(e, 0, &v) == sizeof(v) && v == 7, "page 0 has lost its bytes");
	must(do_file_load(e, 1, &v) == sizeof(v) && v == 9, "page 1 has lost its bytes");
}

SCENARIO(file_lookup_replace) = {
	.name = "file_lookup_replace",
	.title = "a page of a file is looked up while it moves to another frame",
	.picture = "  CPU0: lookup                    CPU1: migrate, then a write\n"
		   "  f = the slot's folio\n"
		   "                                freezes f, puts another in the slot\n"
		   "                                frees f; its frame is page 1's\n"
		   "  gets a reference of f\n"
		   "  (slot still f? no: look up again)\n"
		   "  reads page 1\n",
	.kinds = BIT(ON_HW),
	.off = BIT(MECH_LOOKUP_RECHECK) | BIT(MECH_REF_FREEZE),
	.setup = setup,
	.end = end,
};

/* ---- eviction ---- */

/* Somebody writes to the page by a reference of his own, says so, and lets go. */
static void writer(struct env *e)
{
	e->r[STORED] = 1 + (u64)-do_file_store(e, 0, 8);
}

static void evict(struct env *e)
{
	e->r[EVICTED] = 1 + do_reclaim(e, e->folio);
}

static void setup_evict(struct env *e)
{
	file(e, 1);
	must(!do_file_store(e, 0, 7) && !do_fsync(e), "set-up: write");
	e->folio = object_lookup(e->object, 0);
	folio_put(e->q, e->folio);
	lru_drain_all(e->q);
	watch_folio(e, e->folio);
	actor(e, "write", 0, writer);
	actor(e, "reclaim", 1, evict);
}

static void end_evict(struct env *e)
{
	u64 v = 0;

	must(e->r[STORED] == 1, "write failed");
	must(do_file_load(e, 0, &v) == sizeof(v) && v == 8,
	     "the page has lost what was written: %d", (int)v);
	must(!object_check(e->object), "the page cache is not in order");
}

SCENARIO(file_evict) = {
	.name = "file_evict",
	.title = "a page of a file leaves memory while it is written by a call",
	.picture = "  CPU0: write                     CPU1: reclaim\n"
		   "  looks the page up\n"
		   "                                clean, unmapped\n"
		   "  waits for the page's lock\n"
		   "                                (freezes it: no, it is in use)\n"
		   "                                takes it out of the cache, frees it\n"
		   "  writes to a frame that is free\n",
	.kinds = BIT(ON_HW),
	.off = BIT(MECH_REF_FREEZE),
	.setup = setup_evict,
	.end = end_evict,
};
