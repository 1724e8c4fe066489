/*
 * reclaim_internal.h - what the files of this folder share.
 *
 * Locking letters: (A) atomic, (C) constant. The background thread sleeps on `bg_word`.
 */
#ifndef QUIRE_RECLAIM_INTERNAL_H
#define QUIRE_RECLAIM_INTERNAL_H

#include "base/mech.h"
#include "base/thread.h"
#include "base/trace.h"
#include "reclaim/reclaim.h"

#define EVICT_MAX 96u /* folios in one batch: arrays live on a fault's stack */

struct tier_node { /* (A) struct tier_node_stats */
	a64_t demoted_in;
	a64_t demoted_out;
	a64_t promoted_in;
	a64_t promoted_out;
	a64_t hint_faults;
	a64_t hints;
	a64_t used;
	a64_t stuck_until; /* (A) time before which nothing will go from here to a slower one */
};

struct tiers {
	a64_t clock;         /* (A) pages that were given hints, ever */
	a64_t rate;          /* (A) bytes a second that may be promoted; ~0: any */
	a64_t paid_until;    /* (A) the time at which all promotions so far are within it */
	a32_t hot;           /* (A) ticks: what is used again within so many is hot */
	a64_t demoted;       /* (A) pages since the last look, and of those ... */
	a64_t demoted_again; /* (A) ... the ones that had been promoted */
	struct tier_node node[MAX_NODES];
};

struct reclaim {
	a64_t evictions;   /* (A) pages evicted ever: the clock of refault distances */
	a64_t stuck_until; /* (A) time before which trying again is pointless */
	a32_t phase;       /* (A) low bit: which count a new step goes to */
	a32_t steps[2];    /* (A) steps under way that began in an even, an odd phase */
	/* background */
	void *thread;     /* (C) while running */
	a32_t bg_word;    /* (A) 0 asleep, 1 told to work, 2 told to stop */
	a32_t bg_running; /* (A) */
	/* who faults: one thread (a CPU is probably idle) or several */
	a32_t last_thread; /* (A) */
	a32_t same;        /* (A) */
	a32_t other;       /* (A) */
	a32_t one_thread;  /* (A) verdict */
	struct tiers tier;
};

/* Evict what is on the list (isolated folios); what stays goes back to its list. Returns pages
 * freed. */
u32 evict_folios(struct quire *q, struct list *folios);
/* The next clusters of the node to go, off the lists. Returns pages. */
u32 reclaim_isolate(struct quire *q, unsigned node, struct list *folios);
/* Evict about nr pages of one node. Returns pages freed. */
u64 reclaim_node(struct quire *q, unsigned node, u32 nr);
void tier_init(struct quire *q);

#endif
