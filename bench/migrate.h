/*
 * migrate.h - the kernel's page migration, for the rows that are measured beside it.
 *
 * Invariants: changes no setting. Other processes' pages may move meanwhile, and are counted.
 * Locking: one thread.
 */
#ifndef QUIRE_BENCH_MIGRATE_H
#define QUIRE_BENCH_MIGRATE_H

#include "bench_internal.h"

/* Nanoseconds for each page that a compaction moves, when half of `bytes` have to; NAN: too few
 * moved, or r->error. */
double kernel_compaction(u64 bytes, struct bench_result *r);
/* For prepare: tries it. */
bool compaction_possible(u64 bytes, char *why);

#endif
