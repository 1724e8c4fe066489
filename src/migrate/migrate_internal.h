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
#include "migrate/balloon.h"
#include "migrate/compact.h"
#include "migrate/copier.h"
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "swap/meta.h"

/* What faults remember of a node's compaction. The fields are hints: two faults that change them at
 * once lose a count. */
struct compact_node {
	a32_t busy;       /* (A) a fault compacts it */
	a32_t considered; /* (A) faults since the last failure ... */
	a32_t shift;      /* (A) ... of 1 << shift that go without */
	a32_t failed;     /* (A) the lowest order that failed; 0: none */
	a64_t low;        /* (A) frame where the migration scanner goes on; 0: at the start */
	a64_t high;       /* (A) the free scanner's block */
} cacheline_aligned;

/* q->migrate */
struct migrate_state {
	struct copier copier;
	struct balloon balloon;
	const struct movable_ops *movable[NR_PAGE_TYPES - 1]; /* (C) */
	const struct migrate_upcalls *up;                     /* (C) once registered */
	struct compact_node node[MAX_NODES];
};

struct move {
	struct folio *src, *dst; /* dst NULL: home frames, which are to be on `node` */
	unsigned node;
	const struct movable_ops *movable; /* NULL: a program's or an object's */
	struct anon_vma
		*av;  /* held while nothing maps the folio; NULL: an object's, or not mapped */
	bool mapped;  /* step 2 has work */
	bool partial; /* PG_PARTIAL before step 2 */
	int err;      /* why it is not to be copied, or was not */
};

/* Of a page with a type, what its type is moved by; else NULL. */
const struct movable_ops *movable_of(struct quire *q, const struct folio *f);
void balloon_create(struct quire *q);
/* Gives all of it back. */
void balloon_destroy(struct quire *q);

/* Pages that moved, or stayed for good. */
void migrate_count_moved(struct quire *q, enum migrate_reason reason, u64 pages);
void migrate_count_failed(struct quire *q, enum migrate_reason reason, u64 pages);

/* Before step 4: is it to be copied? `extra`: the caller's references beside the isolation's. 0;
 * -EAGAIN: in use; -EBUSY: its object keeps it. LOCKING: nothing maps it, and that is flushed. */
int must_check move_ready(struct quire *q, struct move *m, u32 extra);
/* What step 4 copies. */
struct migrate_copy move_bytes(struct quire *q, const struct move *m);
/* Step 5, when it is copied. 0; -EAGAIN: in use; what its object said. */
int must_check move_take_place(struct quire *q, struct move *m, u32 extra, enum migrate_mode mode);
/* Steps 4 and 5 of a movable page. 0, or what its owner said. */
int must_check move_movable(struct quire *q, struct move *m, enum migrate_mode mode);
/* Step 4 for the home frames among m[0..n), by runs: sets their err. */
void move_home(struct quire *q, struct move *m, u32 n);
/* Step 6 for m[0..n): to dst where err is 0, else back to src. hint: as in migrate_ops. */
void move_map(struct quire *q, struct move *m, u32 n, u64 hint);

#endif
