/*
 * explore.h - what runs under the explorer sees of it: the explored machine, scenarios, and the
 * explored back end of base.
 *
 * A run is a set of actors (coroutines, each bound to a CPU number) over one memory, the arena.
 * Each actor runs alone until its next step; between steps nothing else happens. A step is one
 * access to a shared word, one choice, or the end of a wait. The engine decides which enabled actor
 * takes the next step, goes back to an earlier decision by undoing memory and stacks, and visits
 * every order that could matter.
 *
 * Invariants that everything here keeps, or exhaustion means nothing:
 *  1. Whatever changes during a run lies in the arena or on an actor's stack. No static variable,
 *     no libc heap, no file, no clock, no thread-local variable, no address of anything outside.
 *  2. What an actor does is a function of what it has read through steps and choices.
 *  3. Every access to a word that two actors may touch goes through base/atomic.h (or x_access), or
 *     is ordered by locks and waits; the race detector checks that.
 *  4. Nobody spins: waits are x_wait with a condition, so that a waiter that cannot go on is not
 *     enabled, and a run in which nobody is enabled is a deadlock.
 *
 * Locking: none; one actor runs at a time.
 */
#ifndef QUIRE_EXPLORE_EXPLORE_H
#define QUIRE_EXPLORE_EXPLORE_H

#include "base/types.h"
#include "base_backend.h"

#define X_MAX_ACTORS 16u /* scenario actors and agents together */

/* ---- memory ---- */

/* Zeroed arena memory; the engine's end if there is none. Never reused within a run. */
void *x_alloc(size_t bytes, size_t align);
/* Poisoned: each later access to it, from any actor, is a violation (use after free). */
void x_free(void *p, size_t bytes);
/*
 * The same two for memory that a part of the program recycles by itself (the core's arena, frames):
 * poisoned means that nobody may touch it until it is handed out again.
 */
void x_poison(void *p, size_t bytes);
void x_unpoison(void *p, size_t bytes);
/*
 * Bytes of the arena are about to be written by code that is not instrumented (a library, inline
 * assembler): the engine keeps their old values first.
 */
void x_will_write(void *p, size_t bytes);
bool x_in_arena(const void *p);
/*
 * In set-up only: memory that changes nothing about what may happen next (statistics): states that
 * differ in it alone are the same state. No check may depend on it.
 */
void x_unhashed(void *p, size_t bytes);
/*
 * In set-up only: memory that programs under the core access as they like (bytes of frames): not
 * looked at for races. Steps on it are still points.
 */
void x_unraced(void *p, size_t bytes);

/* ---- steps ---- */

/*
 * A step of its own that is not an access through base/atomic.h: a look into a TLB, a store of a
 * user program. `what` is shown in the trace (a literal). Steps of two actors on overlapping bytes
 * conflict unless both are BASE_READ, or both BASE_COUNT.
 */
void x_access(enum base_access kind, const void *addr, unsigned size, const char *what);
/*
 * One step that touches two objects: a processor uses its TLB and a word of memory at once. It is
 * enabled like x_access and conflicts with whatever conflicts with either.
 */
void x_access2(enum base_access kind, const void *addr, unsigned size, enum base_access kind2,
	       const void *addr2, unsigned size2, const char *what);
/*
 * One of 0 .. n - 1, all of which the engine tries; 0 is the usual course. Not a scheduling point:
 * the choice belongs to the step before it.
 */
unsigned x_choose(unsigned n, const char *what);
/*
 * Not enabled until ready(arg) holds. `ready` reads arena memory only and changes nothing; every
 * word that it reads lies in [obj, obj + size), which the wait counts as reading.
 */
void x_wait(bool (*ready)(void *arg), void *arg, const void *obj, unsigned size, const char *what);
/*
 * The same, and the step that ends the wait accesses obj in the way `kind`: what the caller does to
 * it before its next step belongs to that step (a handler is woken and handles). x_wait is
 * BASE_READ.
 */
void x_await(enum base_access kind, bool (*ready)(void *arg), void *arg, const void *obj,
	     unsigned size, const char *what);

/* ---- actors ---- */

enum x_actor_flags {
	X_AGENT = BIT(0), /* hardware: interrupt handler, device; a run may end while it waits */
};
/*
 * Before the run starts only (in a scenario's set-up). `name` and `arg` live as long as the run.
 * Returns its number, 0 ...: actors are listed, and have columns, in this order.
 */
unsigned x_actor(const char *name, unsigned cpu, u32 flags, void (*fn)(void *arg), void *arg);
unsigned x_self(void);     /* number of the running actor; in set-up and checks: X_MAX_ACTORS */
unsigned x_self_cpu(void); /* its CPU; in set-up and checks 0 */

/* ---- verdicts and words for the reader ---- */

/* The run ends here with a violation; the message is kept. */
void __attribute__((noreturn, format(printf, 1, 2))) x_fail(const char *fmt, ...);
/*
 * What the step that runs now does, in the reader's words ("clears entry 0x1000"): kept while a
 * trace is recorded, free otherwise (x_noting is false then; ask before preparing arguments).
 */
void __attribute__((format(printf, 1, 2))) x_note(const char *fmt, ...);
bool x_noting(void);
/*
 * Watched state, shown beside the steps whenever it changes: the printer renders it into buf. In
 * set-up only. It reads the arena and changes nothing. Grouped by `group` ("entry", "TLB CPU1",
 * "folio").
 */
void x_watch(const char *group, const char *name, void (*print)(void *arg, char *buf, size_t n),
	     void *arg);

#endif
