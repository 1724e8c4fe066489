/*
 * base_backend.h (explored) - the same seams as native/base_backend.h, each a call into the
 * explorer.
 *
 * Every access, park, wake, RCU section and switch is decided by the engine that links this build
 * (until it exists: tests/unit's smoke test provides the functions).
 * Locking: the engine runs one thread at a time; nothing here needs more.
 */
#ifndef QUIRE_BASE_BACKEND_H
#define QUIRE_BASE_BACKEND_H

#include "base/types.h"

enum base_access { BASE_READ, BASE_WRITE, BASE_RMW, BASE_COUNT };

#define BASE_EXPLORED 1

void base_point(enum base_access kind, const void *addr, unsigned size);
void base_relax(void);

struct base_thread;
struct quire;

struct base_thread *base_self(void);
unsigned base_cpu(void);
void base_park(u32 *word, u32 expect);
void base_wake(u32 *word, u32 n);
void base_yield(void);
void base_rcu_read_lock(void);
void base_rcu_read_unlock(void);
void base_rcu_synchronize(void);
bool base_mech_on(struct quire *q, unsigned mechanism);

#endif
