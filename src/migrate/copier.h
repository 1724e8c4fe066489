/*
 * copier.h - threads that copy the frames of a batch for a migration.
 *
 * The bytes of a batch are one job of many pieces. Who migrates and the copier's threads take
 * pieces until none is left; then the migration waits for those who have one still. One job at a
 * time: who finds the copier busy copies alone. A job is only given out if it is large: waking a
 * thread costs what some ten pages cost.
 *
 * It can only help where a CPU is idle and copying is most of what a move costs: large folios. On a
 * machine with two busy CPUs it does not (figures in copier.c), so nobody starts it unasked
 * (core_config.copy_threads).
 *
 * Forking: the threads enter the core (gate.h) for each round, so no piece is under way while the
 * process forks; the child has none and starts them anew.
 *
 * Locking: COPIER, inside FOLIO. Letters: (K) COPIER lock, (A) atomic, (C) constant while running.
 */
#ifndef QUIRE_MIGRATE_COPIER_H
#define QUIRE_MIGRATE_COPIER_H

#include "migrate/migrate.h"

#define COPIER_THREADS   8u  /* at most */
#define COPIER_MIN_PAGES 64u /* a good choice for min_pages */

struct copier {
	struct spin lock; /* COPIER */
	bool busy;        /* (K) the job is some migration's */
	bool stop;        /* (K) */
	/* the job */
	struct migrate_copy copy[MIGRATE_BATCH]; /* (K); who has a piece may read to, from, nr */
	u32 n;                                   /* (K) */
	u32 at, page;                            /* (K) the next piece: its copy, where in it */
	u32 workers;                             /* (K) who has a piece */
	/* its threads */
	a32_t seq;     /* (A) changes when there is something to do: they sleep on it */
	a32_t ended;   /* (A) changes when somebody has done his last piece */
	a32_t running; /* (A) */
	u32 min_pages; /* (C) */
	u32 nr;        /* (C) */
	void *thread[COPIER_THREADS];
};

/* Batches of min_pages and more are copied with the help of so many threads, and of whoever calls
 * copier_help. 0; -EALREADY; -EINVAL: too many; what thread_start gave: then there is none. */
int must_check copier_start(struct quire *q, u32 threads, u32 min_pages);
void copier_stop(struct quire *q);
/* After fork in the child: as many threads as the parent had; none if they cannot be had. */
void copier_forked_child(struct quire *q);
/* Pieces of the job that is under way, until none is left. LOCKING: inside the gate. */
void copier_help(struct quire *q);
/* Copies all n (<= MIGRATE_BATCH), each with its error. LOCKING: may sleep; the folios are locked.
 */
void copier_copy(struct quire *q, struct migrate_copy *copy, u32 n);

#endif
