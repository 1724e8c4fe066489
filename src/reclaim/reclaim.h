/*
 * reclaim.h - which pages go: aging, eviction in clusters, background and direct reclaim. Policy
 * only.
 *
 * One step (reclaim_step): isolate clusters of neighbouring folios from the inactive tail; skip
 * what is locked, pinned, mlocked or recently used; give the rest swap slots (neighbours get
 * neighbouring slots); unmap them all into one flush batch; flush; write out the dirty ones;
 * freeze, delete from the swap cache and free in spans. What fails at any step goes back to its
 * list with its data and its dirty state.
 * Aging without accessed bits: a page that comes back (refault) sooner than the active list is long
 * starts active (refault distance); the active list is trimmed to keep inactive at least a third;
 * with accessed bits (CAP_HW_AD) a referenced page gets another round.
 * Clean pages keep their stored copy (swap_folio_has_copy) and cost no write, until swap_is_tight.
 * Background: one thread per instance keeps each limited group a little below its limit, when
 * started.
 * Locking: called without core locks except VMA/SPACE held by a fault for reading; folio locks only
 * by trylock.
 */
#ifndef QUIRE_RECLAIM_RECLAIM_H
#define QUIRE_RECLAIM_RECLAIM_H

#include "rmap/rmap.h"
#include "swap/swap.h"

int must_check reclaim_create(struct quire *q);
/* Stops the background thread. */
void reclaim_destroy(struct quire *q);
int must_check reclaim_start_background(struct quire *q);
void reclaim_stop_background(struct quire *q);
/* After fork in the child: the thread does not exist there. */
void reclaim_forked_child(struct quire *q);

/* A stretch in which folios are isolated or spaces known, by eviction or migration: reclaim_wait
 * waits for its end. */
u32 must_check reclaim_step_begin(struct quire *q);
void reclaim_step_end(struct quire *q, u32 phase);
/* Returns after every eviction that began before the call has ended: no batch then knows anything
 * of a space whose areas are gone. LOCKING: not from inside reclaim; waits. */
void reclaim_wait(struct quire *q);
/* Free at least nr pages of the group if possible; returns pages freed. */
u64 reclaim_pages(struct quire *q, unsigned cg, u64 nr);
/* Evict exactly these isolated folios (MADV_PAGEOUT); consumes the list. Returns pages freed. */
u64 reclaim_folio_list(struct quire *q, struct list *folios);
/* The three calls that faults make (fault_ops; registered by api, because fault has the same rank).
 */
u64 reclaim_make_room(struct quire *q, unsigned cg, u32 pages);
void reclaim_wake(struct quire *q, unsigned cg);
/* Eviction stamp for a page evicted now, and the verdict on one that came back. */
u32 reclaim_shadow(struct quire *q);
bool reclaim_refault_is_hot(struct quire *q, u32 shadow);

#endif
