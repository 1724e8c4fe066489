/*
 * gate.h - the count of threads inside the core, so that a fork can wait until there are none.
 *
 * Every entry (API call, trap) is bracketed by gate_enter/gate_exit: cheap, per-CPU, nestable per
 * thread. gate_close waits until nobody is inside and keeps newcomers out until gate_open.
 * Locking: FORK_GATE, the outermost rank; enter must be called with no core lock held. The closer
 * must not be inside. After a fork the child calls gate_reset: only its one thread exists.
 */
#ifndef QUIRE_BASE_GATE_H
#define QUIRE_BASE_GATE_H

#include "base/atomic.h"
#include "base/types.h"

struct gate_cpu {
	a32_t inside;
} cacheline_aligned;

struct gate {
	struct gate_cpu cpu[MAX_CPUS]; /* a thread leaves the slot that it entered */
	a32_t closed;		       /* 1: newcomers wait on it; 2: and somebody sleeps */
	a32_t drained;		       /* the closer sleeps here */
};

void gate_init(struct gate *g);
void gate_enter(struct gate *g);
void gate_exit(struct gate *g);
void gate_close(struct gate *g);
void gate_open(struct gate *g);
/* In a forked child: open, with nobody inside. */
void gate_reset(struct gate *g);

#endif
