/*
 * quire.h - struct quire, one instance: only pointers to what each folder owns, and the counters.
 *
 * Every function of the core reaches its state from here (rule: no mutable global). A folder
 * allocates its own part at creation (X_create(q)) and is the only one to look inside it; rank
 * order of creation is the order of the fields.
 * Locking: the pointers are set before the instance is published and constant after (C);
 * counters are relaxed atomics on per-CPU lines (A).
 */
#ifndef QUIRE_BASE_QUIRE_H
#define QUIRE_BASE_QUIRE_H

#include "base/atomic.h"
#include "base/gate.h"
#include "base/rcu.h"

enum stat {
#define STAT(name, json, text) STAT_##name,
#include "base/stats.def"
#undef STAT
	NR_STATS
};

struct stat_info {
	const char *name;
	const char *json;
	const char *text;
};
extern const struct stat_info stat_info[NR_STATS];

struct stat_cpu {
	a64_t n[NR_STATS];
} cacheline_aligned;

struct quire {
	struct machine *machine;   /* (C) */
	struct arena *arena;	   /* (C) */
	struct trace *trace;	   /* (C) */
	struct inject *inject;	   /* (C) */
	struct phys *phys;	   /* (C) */
	struct pagetables *tables; /* (C) */
	struct vmas *vmas;	   /* (C) */
	struct objects *objects;   /* (C) */
	struct tlb *tlb;	   /* (C) */
	struct rmap *rmap;	   /* (C) */
	struct swap *swap;	   /* (C) */
	struct migrate_state *migrate; /* (C) */
	struct fault_state *fault; /* (C) */
	struct reclaim *reclaim;   /* (C) */
	struct spaces *spaces;	   /* (C) */
	struct rcu_domain rcu;
	struct gate gate;
	struct stat_cpu *stats; /* (C) MAX_CPUS of them */
};

static inline void stat_add(struct quire *q, enum stat s, u64 n)
{
	a64_add(&q->stats[base_cpu()].n[s], n);
}

static inline void stat_inc(struct quire *q, enum stat s)
{
	stat_add(q, s, 1);
}

/* Sum over the CPUs; not a snapshot. */
u64 stat_read(const struct quire *q, enum stat s);

#endif
