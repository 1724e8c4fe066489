/*
 * record.h - keeping what a replayed run does, for x_trace.
 *
 * Between record_begin and record_end every step is kept: record_before when its decision is
 * known, notes while it runs, record_on when the actor comes to its next operation and goes on,
 * record_after when it has stopped. Without record_begin all of them do nothing.
 * Locking: none; one thread.
 */
#ifndef QUIRE_EXPLORE_RECORD_H
#define QUIRE_EXPLORE_RECORD_H

#include "explore/internal.h"
#include "explore/trace.h"

void record_begin(const char *program);
void record_again(void); /* forgets the steps so far */
void record_before(const struct x_decision *d);
/* From the running actor. LOCKING: none; x.recording holds. */
void record_on(const struct op *op);
void record_after(void);
struct x_trace *record_end(const char *message);

#endif
