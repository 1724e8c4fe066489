/*
 * explored.h - the explored machine: processors and devices whose TLBs, interrupts and frames are
 * steps of a run under the explorer (explore/explore.h).
 *
 * A unit is what translates addresses: a CPU that makes user accesses, or a device. Its TLB keeps a
 * translation until it is flushed or replaced, whatever happens to the entry meanwhile. The steps:
 *   look up       in the unit's TLB; what it finds decides how the access goes on
 *   walk          the upper tables word by word, then the entry: one atomic read-modify-write (the
 *                 hardware sets ACCESSED and DIRTY, CAP_HW_AD) that also fills the TLB
 *   load, store   through the TLB entry, if it is still there: one word of the frame
 *   flush         of a unit's own TLB at once; of another one by an interrupt that its agent takes
 *                 at some later time, while the flusher waits for the acknowledgement
 * A unit takes no interrupt in the middle of a walk, and a load or store uses an entry and the word
 * in one step: an acknowledged flush has ended whatever went through the old translation.
 * Nothing is cached from an entry that is not present. A translation without the right is looked at
 * again by a walk, or (config.spurious) traps at once. config.evict: an entry may be gone when it
 * is looked for.
 *
 * Invariants, which make the core's mistakes visible (each ends the run with x_fail):
 *  1. nobody reaches a frame through a translation from before the frame's release;
 *  2. no entry names a frame that the machine has not;
 *  3. home frames (CAP_HOME): a page is made accessible only with bytes, and its frame is not
 *     released while an entry names it.
 *
 * All state is x_alloc memory. A word of it changes only within a step that declared the object it
 * belongs to: a unit's by its `state`, a frame's by its `gen`, a block's of a file by its `state`.
 * Locking: none; steps.
 */
#ifndef QUIRE_MACHINE_EXPLORED_EXPLORED_H
#define QUIRE_MACHINE_EXPLORED_EXPLORED_H

#include "explore/explore.h"
#include "machine/machine.h"

#define XM_UNITS 8u /* numbers of CPUs and devices are below it */
#define XM_BLOCK_FRAMES                                                          \
	128u /* frames with bytes, the first ones of each 2 MiB of frame numbers \
	      */
#define XM_BLOCKS      6u
#define XM_SPACE_START (1ull << 30) /* first usable address of the first space */
#define XM_POISON      0xdeadd5d5deadd5d5ull

struct xm_config {
	u32 caps;    /* enum machine_caps */
	u32 nr_cpus; /* what the core is told; unit numbers may be above it */
	u32 units;   /* bit n: unit n makes accesses */
	u32 devices; /* bit n: unit n is a device */
	bool evict;
	bool spurious;
};

/* In set-up. The frames' numbers are [0, XM_BLOCKS * 512) unless CAP_HOME. */
struct machine *xm_create(const struct xm_config *cfg);
/* In set-up, after the scenario's own actors: the agents that take the units' interrupts. */
void xm_start_agents(struct machine *m);

/*
 * An access of one aligned word at the beginning of a page (offset 0 or 8) by a unit. 0, or what
 * the trap returned. In set-up and checks it is made at once. LOCKING: no core lock held (the trap
 * enters the core).
 */
int must_check xm_load(struct machine *m, unsigned unit, struct mspace *s, u64 va, u64 *value);
int must_check xm_store(struct machine *m, unsigned unit, struct mspace *s, u64 va, u64 value);
/* One walk for a read that nobody asked for: fills the TLB, never traps. */
void xm_prefetch(struct machine *m, unsigned unit, struct mspace *s, u64 va);

/* Would a store (load) of the unit get through without a trap now? For checks after each step. */
bool xm_reachable(struct machine *m, unsigned unit, struct mspace *s, u64 va, bool write);
/* The unit's cached translation of va (0: none), and the bytes behind a frame: for checks. */
u64 xm_cached(struct machine *m, unsigned unit, struct mspace *s, u64 va);
u64 xm_frame_word(struct machine *m, u64 pfn);
u64 xm_file_word(struct machine *m, u64 block); /* of the file that is attached (file_attach) */
void xm_forget_all(struct machine *m); /* in set-up: every TLB is empty */
const char *xm_unit_name(struct machine *m, unsigned unit);
/* The entry of va as it lies in the tables (0: none). */
u64 xm_entry(struct machine *m, struct mspace *s, u64 va);
/* Steps: a device stores to and loads from a frame whose page is pinned. */
void xm_frame_store(struct machine *m, u64 pfn, u64 value);
u64 xm_frame_load(struct machine *m, u64 pfn);
/* "0x40000 RW-D frame 3", "-": for watches. */
void xm_print_tlb(struct machine *m, unsigned unit, char *buf, size_t n);
void xm_print_entry(u64 e, char *buf, size_t n);

#endif
