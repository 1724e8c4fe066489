/*
 * place.c - where frames have places (machine.h: CAP_PLACED), an object's page moves to the frame
 * that its object prefers before a shared area maps it anywhere else: what lies in the way of its
 * area costs mappings of the machine for as long as it is mapped, and they run out.
 *
 *   T1: fault (folio lock)                   T2: lookup                T3: pin, reclaim, reader
 *   nothing maps it, no write-back
 *   off the LRU (or somebody else is)        finds it, gets none,      has a reference: it stays
 *   migrate_unmapped: only our references?   looks again               where it is
 *   copy; freeze; the new folio takes        finds the new one
 *   its place
 *   free the old one
 */
#include "fault/fault_internal.h"
#include "migrate/migrate.h"

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

/* The folio, locked and referenced, off the LRU and moved to the new one. */
static bool move_to(struct fc *c, struct folio *f, struct folio *new)
{
	if (!folio_test(f, PG_LRU))
		lru_drain(c->q);
	if (!lru_isolate(c->q, f))
		return false;
	if (!migrate_unmapped(c->q, new, f, 1, MIGRATE_FOR_PLACE))
		return true;
	lru_putback(c->q, f);
	return false;
}

struct folio *fault_to_place(struct fc *c, struct folio *f, u64 index)
{
	struct folio *new = NULL;

	if (fault_in_place(c, f, index) || f->order || folio_mapped(f) ||
	    folio_test(f, PG_SWAPCACHE))
		return f;
	folio_wait_writeback(f);
	if (phys_alloc_at(c->q, 0, preferred(c, index), 0, &new))
		return f;
	/* Nobody else can know it: a stale number's look lasts a moment. */
	while (!folio_trylock(new))
		base_relax();
	if (!move_to(c, f, new)) {
		folio_unlock(new);
		fault_free_folio(c->q, new);
		return f;
	}
	folio_unlock(f);
	folio_put_nr(c->q, f, 2); /* the isolation's, the caller's */
	lru_add(c->q, new);
	return new;
}
