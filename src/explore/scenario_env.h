/*
 * scenario_env.h - private to scenario*.c: making and ending the environment.
 *
 * Invariant: env_close may run after any run that ended without a violation, and leaves nothing of
 * the core behind.
 * Locking: none; set-up and checks run alone.
 */
#ifndef QUIRE_EXPLORE_SCENARIO_ENV_H
#define QUIRE_EXPLORE_SCENARIO_ENV_H

#include "explore/scenario.h"

/* The instance with its space, before the scenario's own set-up. */
struct env *env_open(const struct scenario *sc, enum scenario_kind kind);
/* After the scenario's own set-up: pages leave their batches, agents are made, watches set. */
void env_ready(struct env *e);
/* The checks that every scenario ends with, and the teardown. */
void env_close(struct env *e);

#endif
