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
	struct folio *src, *dst; /* dst NULL: home frames, which are to be on `node` */
	unsigned node;
	struct anon_vma
		*av;  /* held while nothing maps the folio; NULL: an object's, or not mapped */
	bool mapped;  /* step 2 has work */
	bool partial; /* PG_PARTIAL before step 2 */
};

/* Steps 4 and 5. 0; -EAGAIN: in use; what the copy hook gave. */
int must_check move_take_place(struct quire *q, struct move *m, const struct migrate_ops *ops,
			       void *ctx);
/* The same for home frames: 0 or -ENOMEM. */
int must_check move_to_node(struct quire *q, struct move *m);
/* Step 6, to dst if it has `moved`, else back to src. */
void move_map(struct quire *q, struct move *m, const struct migrate_ops *ops, bool moved);

#endif
