/*
 * movable.h - pages that are on no LRU list and can move all the same (Linux: movable_operations).
 *
 * Such a page says what it is by its type (folio.h: enum page_type), and each type has one table of
 * operations. Whoever wants frames free - compaction, offlining - asks for whatever page a frame
 * number names:
 *
 *   f = phys_record(q, pfn)        a guess: no reference, nothing known of it
 *   movable_isolate(q, f)          it is off its owner's list, and the caller's, with a reference
 *   migrate_folios                 on one list, by ->lru, with isolated folios of the LRU
 *   migrate_putback(q, &list)      what stayed goes back where it was, each to its owner
 *
 * No LRU lock is taken. In a test for a type only the type is read: a page of a program is never
 * taken for another kind by what its mapping happens to be (Linux d6d86c0a).
 *
 *   T1: movable_isolate                 T2: the owner gives the page up
 *   the type? a movable one
 *                                       page lock, owner's lock: off the list, no type; drops it
 *                                       (the frame may be anybody's by now)
 *   a reference, unless it is free
 *   the type? again: while there is a reference, a page of this type stays what it is or becomes
 *   nobody's
 *   page lock, or leave it
 *   type and PG_LISTED? then the owner's isolate
 *
 * Invariants
 *  1. PG_LISTED: it is on its owner's list. Who clears it owns the page, the owner who takes it
 *     back or the isolator. It and the type change under the page lock and the owner's lock
 *     together, so either is enough to read them.
 *  2. An isolated page has one reference more, and its owner counts it still.
 *  3. migrate: the new page is the owner's before the old one is not, by 0 like any other move, and
 *     it can be isolated again at once.
 *
 * Locking: the page lock is the folio's (FOLIO); of a page that was guessed only by trylock.
 */
#ifndef QUIRE_MIGRATE_MOVABLE_H
#define QUIRE_MIGRATE_MOVABLE_H

#include "object/object.h"
#include "phys/isolate.h"

struct movable_ops {
	/* Off the owner's list. False: not now. LOCKING: page lock, and PG_LISTED was seen under
	 * it; sleeps on nothing. */
	bool (*isolate)(struct quire *q, struct folio *f);
	/* dst (new, not charged) takes the place of src, which is isolated: it is listed, has the
	 * type, and its first reference is the owner's; of src the owner drops its own. The charge
	 * is moved by the caller. 0; -EAGAIN, -EBUSY: nothing has changed. LOCKING: both page
	 * locks. */
	int (*migrate)(struct quire *q, struct folio *dst, struct folio *src,
		       enum migrate_mode mode);
	/* An isolated page goes back to the list. LOCKING: page lock. */
	void (*putback)(struct quire *q, struct folio *f);
};

/* Once for each type, before there is a page of it. */
void movable_register(struct quire *q, enum page_type type, const struct movable_ops *ops);
/* Whatever f is, from any record's address: true if it was a movable page and is the caller's now.
 * LOCKING: none needed; no spin lock. */
bool must_check movable_isolate(struct quire *q, struct folio *f);
/* phys_isolate_folios (phys/isolate.h) for pages of both kinds. LOCKING: as there. */
void movable_isolate_all(struct quire *q, u64 *pos, u64 end, unsigned max_order, u32 max_pages,
			 struct list *out, struct phys_scan *scan);
/* Those among frames [pfn, end), appended to `out` by ->lru. Returns pages. LOCKING: as above. */
u64 movable_isolate_range(struct quire *q, u64 pfn, u64 end, struct list *out);
/* Back to its owner; drops the isolation's reference. LOCKING: may wait for the page lock. */
void movable_putback(struct quire *q, struct folio *f);
/* Isolated folios of all kinds, linked by ->lru, go back where they were; the list is left empty.
 */
void migrate_putback(struct quire *q, struct list *folios);

#endif
