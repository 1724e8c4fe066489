/*
 * sim_internal.h - what the files of the simulated machine share: CPUs, TLBs, spaces, home pages.
 *
 * Invariants: a space that a CPU has a translation of has the CPU's bit in `cpus`, set before the
 * CPU reads the tables, so that a flusher that cleared an entry before it read `cpus` misses
 * nobody. Locking letters: (C) constant after creation; (U) the CPU's mutex; (H) the shard mutex of
 * the home block; (S) sim.spaces_lock; (A) atomic. Order: spaces_lock, a CPU's mutex, a shard's;
 * never two of a kind.
 */
#ifndef QUIRE_MACHINE_SIM_INTERNAL_H
#define QUIRE_MACHINE_SIM_INTERNAL_H

#include <pthread.h>

#include "base/assert.h"
#include "base/inject.h"
#include "machine/sim/sim.h"

#define SIM_SLOT_SHIFT   40
#define SIM_SHARDS       64u
#define SIM_WAYS         4u
#define SIM_HUGE_ENTRIES 8u
#define SIM_WALK_ENTRIES 4u
#define SIM_POISON       0xd5

struct sim_tlb_entry {
	struct mspace *s; /* NULL: empty */
	u64 va;           /* of the page or of the 2 MiB leaf */
	u64 entry;
};

/* The paging-structure cache: 2 MiB of addresses to their PTE table. */
struct sim_walk_entry {
	struct mspace *s;
	u64 va;
	a64_t *table;
};

struct sim_cpu {
	pthread_mutex_t lock;
	u64 rng;                   /* (U) */
	struct sim_tlb_entry *tlb; /* (U) tlb_entries of them, in sets of SIM_WAYS */
	struct sim_tlb_entry huge[SIM_HUGE_ENTRIES];      /* (U) */
	struct sim_walk_entry walk[SIM_WALK_ENTRIES];     /* (U) */
	u64 accesses, hits, walks, evictions, prefetches; /* (U) */
	u64 traps, spurious;                              /* (U) */
} cacheline_aligned;

/* Per home page. */
#define HOME_POPULATED  BIT(0)
#define HOME_WP         BIT(1) /* without POPULATED: parked */
#define HOME_CACHED_A   BIT(2) /* the access is known to have set ACCESSED */
#define HOME_CACHED_D   BIT(3)
#define HOME_PROT_SHIFT 4 /* three bits */
#define HOME_MAPPED     BIT(7)
#define HOME_CACHED     (HOME_CACHED_A | HOME_CACHED_D)

struct sim_protect {
	struct range r;
	unsigned from, to;
};

struct mspace {
	struct sim *sim;         /* (C) */
	a64_t *root;             /* (C) */
	void *trap_ctx;          /* (C) */
	struct range usable;     /* (C) */
	unsigned slot;           /* (C) */
	a64_t cpus;              /* (A) CPUs that may hold translations */
	u8 *bytes;               /* (C) home: the frames; offset va - usable.start */
	u8 *state;               /* (H) home: one per page */
	u16 *populated;          /* (H) home: pages populated, one per 2 MiB block */
	struct sim_protect last; /* the latest area_protect; by the core's space lock */
};

struct sim_counters {
	a64_t violations[NR_SIM_VIOLATIONS];
	a64_t violation_at;
	a64_t flushes, flushes_all, flushes_tables, interrupts, interrupts_late;
	a64_t entries_changed, fills, released, moved, populated, populated_peak;
	a64_t mem_bytes, staging, files, threads, spaces;
};

struct sim {
	struct machine m;
	struct sim_config cfg; /* (C) */
	u32 tlb_sets;          /* (C) */
	u8 *frames;            /* (C) the plain store */
	u8 *zero_page;         /* (C) */
	a64_t chance;          /* (A) state of random and of lateness */
	struct sim_counters n; /* (A) */
	struct sim_cpu *cpu;   /* (C) nr_cpus */
	pthread_mutex_t shard[SIM_SHARDS];
	pthread_mutex_t spaces_lock;
	aptr_t space[SIM_MAX_SPACES]; /* (S) to change; (A) to read */
	pthread_rwlock_t reading;     /* read_begin / protection against reading */
};

/* A page's place for one access: where its bytes are, with the lock that keeps them there. */
struct sim_place {
	u8 *page;
	pthread_mutex_t *held;
};

static inline struct sim *sim_of(struct machine *m)
{
	return container_of(m, struct sim, m);
}

static inline u64 sim_mix(u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* LOCKING: (U). */
static inline bool sim_cpu_chance(struct sim_cpu *c, u32 ppm)
{
	if (!ppm)
		return false;
	c->rng ^= c->rng << 13;
	c->rng ^= c->rng >> 7;
	c->rng ^= c->rng << 17;
	return (c->rng >> 20) % 1000000 < ppm;
}

static inline u64 sim_random(struct sim *sim)
{
	return sim_mix(a64_fetch_add(&sim->chance, 0x9e3779b97f4a7c15ull));
}

static inline bool sim_is_home(const struct sim *sim)
{
	return sim->m.caps & CAP_HOME;
}

static inline void sim_violate(struct sim *sim, enum sim_violation v, u64 at)
{
	a64_add(&sim->n.violations[v], 1);
	a64_set(&sim->n.violation_at, at);
}

/* The living space whose slot holds va, or NULL. */
static inline struct mspace *sim_space_at(struct sim *sim, u64 va)
{
	u64 i = (va + sim->cfg.slot_bytes / 2) >> SIM_SLOT_SHIFT;
	struct mspace *s;

	if (!i || i > SIM_MAX_SPACES)
		return NULL;
	s = aptr_read_acquire(&sim->space[i - 1]);
	return s && va >= s->usable.start && va < s->usable.end ? s : NULL;
}

/* Memory that no sanitizer follows: the big sparse stores. NULL on failure. */
void *sim_reserve(size_t bytes);
void sim_unreserve(void *addr, size_t bytes);
/* The pages read as zero again. */
void sim_discard(void *addr, size_t bytes);

/* cpu.c */
int sim_cpus_create(struct sim *sim);
void sim_cpus_destroy(struct sim *sim);
void sim_cpu_flush(struct sim *sim, struct mspace *s, const struct tlb_range *r);
/* Sometimes lets others run first, for as long as the scheduler likes. */
void sim_maybe_late(struct sim *sim);
/* Count translations, of any space, to the frames [pfn, pfn + nr). */
u64 sim_cpu_reaches(struct sim *sim, u64 pfn, u64 nr);
void sim_cpu_forget_space(struct sim *sim, struct mspace *s);
void sim_sync_lockless_walkers(struct machine *m);
/* The leaf word for va, with its value and level; NULL: no table there. LOCKING: RCU section. */
a64_t *sim_walk(struct mspace *s, u64 va, struct sim_walk_entry *cached, u64 *entry,
		unsigned *level);
/* Set bits in a leaf unless it changed: true when *word still translates as `*entry` did. */
bool sim_set_ad(a64_t *word, u64 *entry, bool write);

/* frames.c */
void *sim_frame_window(struct machine *m, u64 pfn);
void *sim_fill_begin(struct machine *m, u64 pfn, u32 nr);
int sim_fill_end(struct machine *m, u64 pfn, u32 nr, void *buf);
void sim_frames_release(struct machine *m, const struct frame_span *spans, u32 n);
int sim_frames_move(struct machine *m, u64 dst_pfn, u64 src_pfn, u32 nr);
int sim_frames_park(struct machine *m, u64 pfn, u32 nr);
int sim_frames_to_node(struct machine *m, u64 pfn, u32 nr, unsigned from, unsigned to);
int sim_entries_changed(struct machine *m, struct mspace *s, u64 va, const u64 *entries, u32 nr,
			unsigned level, const void *fill, bool fill_zero, bool force);

/* home.c */
int sim_home_init(struct sim *sim, struct mspace *s);
void sim_home_fini(struct sim *sim, struct mspace *s);
bool sim_home_place(struct sim *sim, struct sim_cpu *c, struct mspace *s, u64 va, u32 access,
		    struct sim_place *out);
bool sim_home_peek(struct sim *sim, struct mspace *s, u64 va, bool write);
void sim_home_flush(struct sim *sim, struct mspace *s, const struct tlb_range *r);
void sim_home_release(struct sim *sim, u64 pfn, u32 nr);
int sim_home_move(struct sim *sim, u64 dst, u64 src, u32 nr);
void sim_home_park(struct sim *sim, u64 pfn, u32 nr);
void sim_home_install(struct sim *sim, struct mspace *s, u64 va, const u64 *entries, u32 nr,
		      unsigned level, const void *fill, bool fill_zero);
int sim_area_map(struct machine *m, struct mspace *s, struct range r, unsigned prot, u64 pfn);
int sim_area_protect(struct machine *m, struct mspace *s, struct range r, unsigned old_prot,
		     unsigned prot);
void sim_area_unmap(struct machine *m, struct mspace *s, struct range r, unsigned prot);

/* system.c: time, threads, memory, files */
u64 sim_now_ns(struct machine *m);
void sim_sleep_ns(struct machine *m, u64 ns);
int sim_thread_start(struct machine *m, void (*fn)(void *arg), void *arg, void **handle);
void sim_thread_join(struct machine *m, void *handle);
void *sim_mem_map(struct machine *m, size_t bytes);
void sim_mem_unmap(struct machine *m, void *addr, size_t bytes);
void sim_mem_discard(struct machine *m, void *addr, size_t bytes);
int sim_file_open(struct machine *m, const char *path, u64 *size);
void sim_file_close(struct machine *m, int h);
int sim_file_read(struct machine *m, int h, void *buf, u64 bytes, u64 offset);
int sim_file_write(struct machine *m, int h, const void *buf, u64 bytes, u64 offset);
void sim_file_punch(struct machine *m, int h, u64 bytes, u64 offset);
int sim_file_attach(struct machine *m, const char *path, u32 flags, u64 *size);
int sim_file_resize(struct machine *m, int h, u64 size);
int sim_file_zero(struct machine *m, int h, u64 bytes, u64 offset);
int sim_file_sync(struct machine *m, int h);

#endif
