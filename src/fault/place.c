/*
 * place.c - where frames have places (machine.h: CAP_PLACED), an object's page moves to the frame
 * that its object prefers before a shared area maps it anywhere else: what lies in the way of its
 * area costs mappings of the machine for as long as it is mapped, and they run out.
 *
 *   T1: fault (folio lock)                   T2: lookup                T3: pin, reclaim, reader
 *   nothing maps it, no write-back
 *   off the LRU (or somebody else is)        finds it, gets none,      has a reference: the freeze
 *   freeze: ours, the LRU's, the cache's     looks again               fails, it stays where it is
 *   copy the bytes
 *   the new folio takes its place            finds the new one
 *   free the old one
 */
#include "fault/fault_internal.h"

/* The frame that the page should have; 0: any. */
static u64 preferred(struct fc *c, u64 index)
{
	u64 frames = a64_read(&c->v->object->frames);

	if (!(c->vf & VM_SHARED) || !machine_has(fc_machine(c), CAP_PLACED) || !frames)
		return 0;
	return frames + index;
}

bool fault_in_place(struct fc *c, struct folio *f, u64 index)
{
	u64 want = preferred(c, index);

	return !want || folio_pfn(c->q, f) + (index - f->index) == want;
}

/* LOCKING: old locked and frozen, with `refs` references before. */
static int move_bytes(struct fc *c, struct folio *old, struct folio *new)
{
	u64 keep = PGF(UPTODATE) | PGF(SWAPBACKED) | PGF(ACTIVE) | PGF(REFERENCED) |
		   PGF(WORKINGSET) | PGF(MLOCKED) | PGF(UNEVICTABLE);
	int err = fault_copy_bytes(c->q, new, folio_pfn(c->q, old));

	if (err)
		return err;
	a64_fetch_or(&new->flags, a64_read(&old->flags) & keep);
	object_replace_frozen(old, new);
	folio_set_charge(new, old->charge);
	folio_set_charge(old, 0);
	return 0;
}

/* True: frozen. */
static bool take_all(struct fc *c, struct folio *f)
{
	if (!folio_test(f, PG_LRU))
		lru_drain(c->q);
	if (!lru_isolate(c->q, f))
		return false;
	/* Ours, the isolation's, the cache's. */
	if (folio_freeze(f, 3))
		return true;
	lru_putback(c->q, f);
	return false;
}

struct folio *fault_to_place(struct fc *c, struct folio *f, u64 index)
{
	struct folio *new = NULL;
	struct list dead;

	if (fault_in_place(c, f, index) || f->order || folio_mapped(f) ||
	    folio_test(f, PG_SWAPCACHE))
		return f;
	folio_wait_writeback(f);
	if (phys_alloc_at(c->q, c->v->object->node, preferred(c, index), 0, &new))
		return f;
	/* Nobody else can know it: a stale number's look lasts a moment. */
	while (!folio_trylock(new))
		base_relax();
	if (!take_all(c, f)) {
		folio_unlock(new);
		fault_free_folio(c->q, new);
		return f;
	}
	if (move_bytes(c, f, new)) {
		folio_unfreeze(f, 3);
		lru_putback(c->q, f);
		folio_unlock(new);
		fault_free_folio(c->q, new);
		return f;
	}
	folio_unlock(f);
	list_init(&dead);
	list_add_tail(&f->lru, &dead);
	phys_free_frozen_list(c->q, &dead);
	lru_add(c->q, new);
	stat_inc(c->q, STAT_MIGRATED);
	return new;
}
