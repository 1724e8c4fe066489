/*
 * mech.h - mechanism switches: mech_on(q, MECH_X) is the constant true in native builds and a
 * question to the explorer in explored ones.
 *
 * Locking: none.
 */
#ifndef QUIRE_BASE_MECH_H
#define QUIRE_BASE_MECH_H

#include "base/types.h"
#include "base_backend.h"

enum mechanism {
#define MECH(name, commit, text) MECH_##name,
#include "base/mechanisms.def"
#undef MECH
	NR_MECHANISMS
};

struct mechanism_info {
	const char *name;
	const char *commit;
	const char *text;
};
extern const struct mechanism_info mechanism_info[NR_MECHANISMS];

#define mech_on(q, m) base_mech_on(q, m)

#endif
