/*
 * thread.h - what the core keeps for the thread that is inside it.
 *
 * The core has no thread-local variable: base_self() (backend) hands out this record. It is owned
 * by its thread alone (O); a signal handler of the same thread may run in between, but only the
 * machine's trap handler enters the core and it does so with every other signal blocked.
 * Locking: (O) owner thread only.
 */
#ifndef QUIRE_BASE_THREAD_H
#define QUIRE_BASE_THREAD_H

#include "base/types.h"

#define BASE_MAX_HELD 160 /* an eviction batch holds its folios locked */

struct base_thread {
	u32 id;		      /* (O) small number, unique among live threads */
	u32 nr_held;	      /* (O) locks held now, in order of taking */
	struct {
		const void *lock;
		u32 cls;
		u32 flags;
	} held[BASE_MAX_HELD]; /* (O) */
	u32 rcu_depth;	      /* (O) */
	u32 reclaim_depth;    /* (O) >0: inside reclaim; allocation must not recurse into it */
	u32 gate_depth;	      /* (O) nested entries of the core (gate.h) */
	u32 gate_slot;	      /* (O) */
	u64 rng;	      /* (O) xorshift state for backoff and sampling */
	void *machine_data;   /* (O) the machine leaf's own */
};

#endif
