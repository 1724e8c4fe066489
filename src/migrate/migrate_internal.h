/*
 * migrate_internal.h - one folio on its way, shared by the loop (migrate.c) and the move (move.c).
 *
 * Locking: both folios are locked while a struct move has them.
 */
#ifndef QUIRE_MIGRATE_INTERNAL_H
#define QUIRE_MIGRATE_INTERNAL_H

#include "base/inject.h"
#include "base/mech.h"
#include "base/trace.h"
#include "migrate/migrate.h"
#include "swap/meta.h"

struct move {
	struct folio *src, *dst;
	struct anon_vma
		*av;  /* held while nothing maps the folio; NULL: an object's, or not mapped */
	bool mapped;  /* step 2 has work */
	bool partial; /* PG_PARTIAL before step 2 */
};

/* Pages that moved, or stayed for good. */
void migrate_count_moved(struct quire *q, enum migrate_reason reason, u64 pages);
void migrate_count_failed(struct quire *q, enum migrate_reason reason, u64 pages);

/* Steps 4 and 5. 0; -EAGAIN: in use; -EBUSY: its object refuses; what the copy hook gave. */
int must_check move_take_place(struct quire *q, struct move *m, const struct migrate_ops *ops,
			       void *ctx, enum migrate_mode mode);
/* Step 6, to dst if it has `moved`, else back to src. */
void move_map(struct quire *q, struct move *m, bool moved);

#endif
