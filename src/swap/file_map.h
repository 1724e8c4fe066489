/*
 * file_map.h - which 4 KiB blocks of a store's file are taken: allocation in runs, holes, and
 * forks.
 *
 * States of a block, in three bits:
 *
 *   fresh (none) -[alloc]-> live -[free]-> stale -[alloc]-> live
 *   stale -[punch_begin: live too, so that nobody writes it]-> -[punch_end]-> fresh
 *   live -[freeze]-> live and frozen -[free]-> lost (both bits stay)
 *
 * A stale block still takes room on the disk. A frozen block was live when the process forked: the
 * child may read it for as long as it lives, so it is never written, punched or given out again;
 * when its slot is freed the block is lost until the file is closed.
 * Invariants: live bits == nr_live + nr_lost (+ what is being punched); stale bits == nr_stale.
 * Locking: every function needs the owner's lock, but for init and fini.
 */
#ifndef QUIRE_SWAP_FILE_MAP_H
#define QUIRE_SWAP_FILE_MAP_H

#include "base/types.h"

struct machine;

struct file_map {
	u64 nr_blocks;
	size_t map_bytes; /* of one bitmap */
	u64 *live;
	u64 *stale;
	u64 *frozen;     /* NULL until the first freeze */
	bool all_frozen; /* there was no memory for frozen */
	u64 hint;        /* where the next search starts */
	u64 nr_live;
	u64 nr_stale;
	u64 nr_lost;
	u64 end;       /* no block from here on was ever live */
	u64 punch_pos; /* where the search for stale runs goes on */
};

int must_check file_map_init(struct file_map *f, struct machine *m, u64 nr_blocks);
void file_map_fini(struct file_map *f, struct machine *m);
/* Up to `want` consecutive blocks; how many (0: full) and *start. */
u32 file_map_alloc(struct file_map *f, u32 want, u64 *start);
void file_map_free(struct file_map *f, u64 block);
/* What is live now is in use by another process too. Without memory to note it, so is what will be.
 */
void file_map_freeze(struct file_map *f, struct machine *m);
/* The next run of stale blocks worth punching, kept from being allocated until punch_end; 0: none.
 */
u32 file_map_punch_begin(struct file_map *f, u64 *start);
void file_map_punch_end(struct file_map *f, u64 start, u32 len);
/* Broken invariants. */
u64 file_map_check(const struct file_map *f);

#endif
