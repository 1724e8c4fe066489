/*
 * trace.h - per-CPU rings of events, off by default, cheap when off (one relaxed load).
 *
 * Invariant: an event is written whole by the CPU slot's current user; a reader (dump) may miss the
 * newest ones, never sees a torn one (sequence number per record).
 * Locking: writers take none (a slot index by fetch_add); enabling takes LOCK_TRACE.
 */
#ifndef QUIRE_BASE_TRACE_H
#define QUIRE_BASE_TRACE_H

#include "base/types.h"

enum trace_event {
#define EVENT(name, fmt) EV_##name,
#include "base/trace.def"
#undef EVENT
	NR_TRACE_EVENTS
};

struct trace;
struct arena;
struct quire;

struct trace_record {
	u64 time_ns;
	u32 cpu;
	u32 event;
	u64 arg[3];
};

struct trace *must_check trace_create(struct arena *a);
/*
 * Before the first trace_enable; without a clock time_ns is 0. The order of a dump does not depend
 * on it.
 */
void trace_set_clock(struct quire *q, u64 (*clock)(void *ctx), void *ctx);
/* records: per CPU, rounded up to a power of two. 0 or -ENOMEM. */
int must_check trace_enable(struct quire *q, u32 records);
/* The recorded events are gone. */
void trace_disable(struct quire *q);
void trace_emit(struct quire *q, enum trace_event ev, u64 a, u64 b, u64 c);
bool trace_on(const struct quire *q);
/* Oldest first, merged over CPUs; returns how many were passed to fn. */
u64 trace_dump(struct quire *q, void (*fn)(void *ctx, const struct trace_record *r), void *ctx);
const char *trace_event_name(enum trace_event ev);
const char *trace_event_format(enum trace_event ev);

#define TRACE(q, ev, a, b, c)                                                                  \
	do {                                                                                   \
		if (unlikely(trace_on(q)))                                                     \
			trace_emit(q, ev, (u64)(a), (u64)(b), (u64)(c));                       \
	} while (0)

#endif
