/*
 * core.h - one instance of the core over a machine: every folder's part created in rank order.
 *
 * Invariants: parts are created in the order of the fields of struct quire and destroyed in the
 * reverse order; when a part cannot be created, those before it are destroyed and nothing is left
 * behind. Each creation may fail (INJECT_ARENA, or the machine's own refusals). The machine stays
 * the caller's: it is created before and destroyed after the instance, which uses the machine's
 * fault injection (machine->inject, may be NULL). Locking: creation and destruction by one thread
 * while no other uses the instance.
 */
#ifndef QUIRE_API_CORE_H
#define QUIRE_API_CORE_H

#include "phys/phys.h"

struct core_config {
	const char *swap_spec; /* swap.h; NULL: lz4 */
	u64 ram_limit_pages;   /* of the root control group; 0: none */
	struct phys_config phys;
	bool background; /* start background reclaim */
	u32 copy_threads; /* help with the copies of large migrations (migrate/copier.h) */
	char *msg;       /* receives one line when the stores are refused; may be NULL */
	size_t msg_size;
};

/* 0 and the instance, or -EINVAL, -ENOMEM, or what opening a store met; *out is NULL then. */
int must_check core_create(struct quire **out, struct machine *m, const struct core_config *cfg);
/*
 * Everything goes, spaces too. Returns the bytes of the arena that no part had given back: 0, or
 * there is a leak (it is freed all the same).
 */
u64 core_destroy(struct quire *q);
/* All memory of the core's own that is taken from the machine now. */
u64 core_metadata_bytes(struct quire *q);

#endif
