/*
 * sim.h - the simulated machine: real threads act as CPUs whose TLBs keep what nobody flushes.
 *
 * A user access goes through sim_load, sim_store, sim_fetch_add. It translates through the CPU's
 * TLB, else walks the core's own tables from the root that space_create was given (one atomic read
 * a level, inside an RCU section), sets ACCESSED and DIRTY by cmpxchg (CAP_HW_AD) or traps on the
 * first store, fills the TLB, and on a miss raises the trap and tries again. What the trap returns,
 * unless 0, is the access's result.
 *
 * Invariants, which make the core's mistakes visible:
 *  1. A translation stays usable until it is flushed or evicted by chance: a store through a cached
 *     writable and dirty entry does not look at the tables.
 *  2. A pointer to a PTE table stays cached until a flush with tables_freed or pmd_level, or until
 *     a trap at that address.
 *  3. tlb_flush returns only when each access that was in flight on each CPU that ran the space
 *     has ended; it reaches the CPUs late and one after the other. NO_STORE makes entries read-only
 *     or drops them.
 *  4. A released frame is poisoned, and a TLB entry that still reaches it is counted as a violation
 *     (sim_violations); so is any entry that names no frame. Tests require 0.
 *
 * Two kinds of frames:
 *  - plain: a pfn indexes a sparse store; the window is the frame. entries_changed only copies a
 *    fill that was not made in place, and cannot fail (INJECT_ENTRIES concerns home frames): the
 *    CPUs walk the tables, so the bytes must be there before the entry is, and fill_zero does
 *    nothing.
 *  - home (CAP_HOME): like the host machine. Per page: populated, write-protected, and the area's
 *    protection (CAP_AREA_PROTECT). The core's tables are not looked at, except to set A/D bits
 *    where CAP_HW_AD is wanted too; only fill and entries_changed make a page accessible, only
 *    flush and release take it away. A release of a frame that an entry still names, and an entry
 *    made usable without bytes, are violations.
 *
 * Locking: one leaf mutex per CPU (held over one access of at most a page and by the flusher), one
 * per shard of home blocks. No core lock is taken under them and the trap is raised with none of
 * them held, so every machine call may be made with any core lock held.
 */
#ifndef QUIRE_MACHINE_SIM_SIM_H
#define QUIRE_MACHINE_SIM_SIM_H

#include "machine/machine.h"

#define SIM_MAX_SPACES 64u
#define SIM_SELF       (~0u) /* as a CPU number: the one that the calling thread is bound to */

enum sim_flags {
	SIM_NO_POISON = BIT(0), /* released plain frames keep their bytes (benchmarks) */
	SIM_NO_CHECK = BIT(1),  /* no stale-translation check on release (benchmarks) */
};

struct sim_config {
	u32 nr_cpus;     /* 1..MAX_CPUS; 0: 4 */
	u32 tlb_entries; /* per CPU, rounded up to a power of two >= 4; 0: 64 */
	u64 ram_frames;  /* what the core may use at once; the machine itself only passes it on */
	u64 span_frames; /* plain frame numbers [0, span); at least ram_frames; rounded up to 2 MiB
			  */
	u64 slot_bytes;  /* addresses per space, 4 MiB..1 TiB; 0: 16 GiB */
	u32 caps;        /* enum machine_caps; CAP_AREA_PROTECT and CAP_PARK need CAP_HOME */
	u32 flags;       /* enum sim_flags */
	u64 seed;
	u32 evict_ppm;    /* chance that an access finds its TLB entry evicted */
	u32 prefetch_ppm; /* chance that a fill brings a neighbour's translation too */
	u32 late_ppm;     /* chance that an interrupt, a trap or a release comes late */
	struct inject *inject;
};

enum sim_violation {
	SIM_STALE_RELEASE,  /* a plain frame was released while a TLB entry reached it */
	SIM_MAPPED_RELEASE, /* a home frame was released while an entry named it */
	SIM_EMPTY_INSTALL,  /* a home entry was made usable though the frame holds no bytes */
	SIM_WILD_ENTRY,     /* a present entry names no frame of this machine */
	SIM_DEAD_SPACE,     /* a home frame of no living space was released or filled */
	SIM_BAD_MOVE,       /* frames_move onto populated home frames */
	NR_SIM_VIOLATIONS
};

struct sim_stats {
	u64 violations[NR_SIM_VIOLATIONS];
	u64 violation_at; /* address or pfn << 12 of the latest violation */
	u64 accesses, tlb_hits, walks, traps, spurious_traps;
	u64 evictions, prefetches;
	u64 flushes, flushes_all, flushes_tables, interrupts, interrupts_late;
	u64 entries_changed, fills, released, moved;
	u64 populated; /* home pages that hold bytes now */
	u64 populated_peak;
	u64 mem_bytes;              /* mapped by mem_map now */
	u64 staging;                /* home fill buffers not yet given back */
	u64 files, threads, spaces; /* open, running, alive */
};

/* The configuration that most tests want: home or plain frames, A/D bits by hardware or by
 * software. */
struct sim_config sim_defaults(bool home, bool hw_ad);
/* 0, -EINVAL or -ENOMEM. Destroyed by ops->destroy. */
int must_check sim_create(const struct sim_config *cfg, struct machine **out);
const struct sim_config *sim_config_of(const struct machine *m);
void sim_stats_get(struct machine *m, struct sim_stats *out);
/* The sum of all kinds. */
u64 sim_violations(struct machine *m);
const char *sim_violation_name(enum sim_violation v);

/* The calling thread is this CPU from now on (two threads on one CPU take turns). */
void sim_cpu_bind(unsigned cpu);

/*
 * User accesses, any alignment and size; each page's part is one access, and each aligned word of
 * 8, 4, 2 bytes is read and written whole. 0, or what the trap returned (-EFAULT, -EACCES, -ENOMEM,
 * -EIO) with the pages before the failing one done. sim_fetch_add: va aligned to 8. LOCKING: no
 * core lock held (the trap enters the core).
 */
int must_check sim_load(struct machine *m, unsigned cpu, struct mspace *s, u64 va, void *buf,
			u64 size);
int must_check sim_store(struct machine *m, unsigned cpu, struct mspace *s, u64 va, const void *buf,
			 u64 size);
int must_check sim_fetch_add(struct machine *m, unsigned cpu, struct mspace *s, u64 va, u64 delta,
			     u64 *old);
/* Translate only; `access` may be ACCESS_EXEC. */
int must_check sim_touch(struct machine *m, unsigned cpu, struct mspace *s, u64 va, u32 access);

/* Would a load (store) get through without a trap right now? Changes nothing; for tests. */
bool sim_reachable(struct machine *m, struct mspace *s, u64 va, bool write);
/* Drop every cached translation of every CPU, as chance might. */
void sim_evict_all(struct machine *m);

#endif
