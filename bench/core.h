/*
 * core.h - the core alone, on the simulated machine with plain frames and one CPU: what rows that
 * look at its bookkeeping share.
 *
 * Invariants: no checks and no poisoning by the machine, nothing by chance. What was begun goes
 * with its process.
 * Locking: one thread, which core_begin binds to CPU 0.
 */
#ifndef QUIRE_BENCH_CORE_H
#define QUIRE_BENCH_CORE_H

#include "api/core.h"
#include "space/space.h"

enum { CORE_TOUCH, CORE_PROTECT, CORE_DONTNEED, CORE_UNMAP };

struct core_bench {
	struct machine *m;
	struct quire *q;
	struct space *s;
	u64 bytes;      /* of the area; set before core_begin */
	unsigned nodes; /* each has room for all of it; 0: one. Set before core_begin */
	u64 va;
};

/* 0 or -errno, all of them. */
int core_begin(struct core_bench *c);
int core_map(struct core_bench *c);
/* One of the steps on the whole area: a write to each page; protect there and back; ... */
int core_step(struct core_bench *c, int step);
/* Checks every invariant first; not after a core_begin that failed. */
struct bench_result;
void core_end(struct core_bench *c, struct bench_result *r);

#endif
