/*
 * swap_internal.h - the slot table and the instance's swap state, for the files of this folder.
 *
 * A slot takes 24 bytes. Slots come in clusters of 512 whose array exists only while one of them is
 * in use (and for a few empty ones kept for reuse); the cluster's descriptor stays for ever, so a
 * stale slot number can always be looked at. A directory of two levels leads from a number to its
 * cluster.
 *
 * A cluster is on exactly one list or owned by a CPU that allocates from it:
 *   BARE (no array) -[claim]-> owned -[no room: release]-> by slots in use: EMPTY, ROOMY (at most
 *   half), SCARCE, FULL any list -[claim]-> owned;   ROOMY.. -[last slot freed]-> EMPTY -[too many
 *   of them]-> dying -[grace period]-> BARE
 *
 * Invariants
 *  1. a slot's bit in `used` is set <=> its count is not 0 or a folio is cached in it.
 *  2. cluster.nr_used == bits set in `used`; the array exists when it is not 0.
 *  3. slot.folio holds a folio <=> that folio has PG_SWAPCACHE, is uptodate with it in folio->swap,
 *     and has one reference for it. All slots of one folio lie in one cluster.
 *  4. a copy (kind, data, sum) changes only under the lock of the folio cached in the slot, or when
 *     the slot is freed. So the holder of that folio lock may use the copy without SWAP_CLUSTER.
 *
 * Locking letters: (K) the cluster's lock; (D) SWAP_DEVICE; (C) constant; (A) atomic. (K-) written
 * under (K), read without it. Order: SWAP_CLUSTER, SWAP_DEVICE, STORE.
 */
#ifndef QUIRE_SWAP_INTERNAL_H
#define QUIRE_SWAP_INTERNAL_H

#include "base/arena.h"
#include "base/lock.h"
#include "base/rcu.h"
#include "swap/meta.h"
#include "swap/store.h"

#define CLUSTER_SHIFT 9
#define CLUSTER_SLOTS (1u << CLUSTER_SHIFT)
#define CLUSTER_PAGES 3u    /* of slots */
#define DIR_LEAF      512u  /* clusters in one page of the directory */
#define DIR_ROOT      2048u /* pages: 2 TiB of slots */
#define KEEP_EMPTY    8u    /* clusters that keep their array when empty */

#define STATE_COUNT_MASK 0xffffffu
#define STATE_KIND_SHIFT 24
#define STATE_KIND_MASK  0x7fu
#define STATE_META       (1u << 31)

struct slot {
	aptr_t folio; /* (K-) the cached folio; or shadow << 1 | 1; or NULL */
	u64 data;     /* (K) the copy's handle: invariant 4 */
	u32 sum;      /* (K) checksum of the copy */
	a32_t state;  /* (K-) bits 0..23 entries that name it, 24..30 enum slot_kind of the copy, 31
		       * metadata are saved for it (meta.h) */
};
_Static_assert(sizeof(struct slot) == 24, "the budget");
_Static_assert(sizeof(struct slot) * CLUSTER_SLOTS == CLUSTER_PAGES * PAGE_SIZE, "whole pages");

enum cluster_list { CL_BARE, CL_EMPTY, CL_ROOMY, CL_SCARCE, CL_FULL, CL_NONE };

struct cluster {
	struct spin lock;             /* SWAP_CLUSTER */
	u32 nr;                       /* (C) its slots are nr << CLUSTER_SHIFT .. */
	a32_t next;                   /* (K, or D while being claimed) where the search starts */
	aptr_t slots;                 /* (K, D) both to clear it; lock-free readers under RCU */
	a32_t nr_used;                /* (K-) */
	u64 used[CLUSTER_SLOTS / 64]; /* (K) */
	struct list link;             /* (D) */
	u8 on;                        /* (D) enum cluster_list; CL_NONE: owned or dying */
	bool owned;                   /* (D) */
	struct slot *dying;           /* (D) array that waits for its grace period */
	struct rcu_head rcu;
};

struct swap_cpu {
	a32_t cluster; /* number of the cluster this CPU allocates from, 0: none; written under (D)
			*/
} cacheline_aligned;

struct swap {
	struct cache *clusters;
	struct spin lock;          /* SWAP_DEVICE */
	u32 nr_clusters;           /* (D) numbers given out: 1 .. nr_clusters */
	u32 nr_arrays;             /* (D) clusters with an array */
	struct list list[CL_NONE]; /* (D) */
	u32 nr_on[CL_NONE];        /* (D) */
	a64_t table_bytes;
	a64_t used;           /* slots */
	aptr_t dir[DIR_ROOT]; /* (D) to set; pages of DIR_LEAF aptr_t */
	struct swap_cpu cpu[MAX_CPUS];

	u32 nr_stores;                        /* (C) */
	struct store *store[SWAP_MAX_STORES]; /* (C) fastest first */
	struct swap_ctxs ctxs;

	const struct meta_ops *meta; /* (C) once a page is mapped; NULL: nobody asks for it */
	void *meta_ctx;              /* (C) */
};

static inline struct store *swap_store(struct swap *sw, u8 kind)
{
	return sw->store[kind - KIND_STORE];
}

static inline u32 state_count(u32 state)
{
	return state & STATE_COUNT_MASK;
}
static inline u8 state_kind(u32 state)
{
	return (u8)(state >> STATE_KIND_SHIFT & STATE_KIND_MASK);
}
static inline u32 state_with_kind(u32 state, u8 kind)
{
	return (state & (STATE_COUNT_MASK | STATE_META)) | (u32)kind << STATE_KIND_SHIFT;
}

/* The word slot.folio. */
static inline struct folio *word_folio(void *w)
{
	return (uintptr_t)w & 1 ? NULL : w;
}
static inline void *word_shadow(u32 shadow)
{
	return (void *)((uintptr_t)shadow << 1 | 1);
}
static inline u32 word_to_shadow(void *w)
{
	return (uintptr_t)w & 1 ? (u32)((uintptr_t)w >> 1) : 0;
}

static inline u32 slot_offset(u64 slot)
{
	return slot & (CLUSTER_SLOTS - 1);
}

/* A copy that left its slot: given back to its store after the cluster lock is dropped. */
struct slot_copy {
	u64 data;
	u8 kind;
};
#define COPIES_MAX 32u

void swap_free_copies(struct swap *sw, const struct slot_copy *c, u32 n);

/* ---- swap_slots.c ---- */
int must_check slots_create(struct quire *q, struct swap *sw);
void slots_destroy(struct quire *q, struct swap *sw);
/* The cluster of any number, or NULL when there never was one. Lock-free. */
struct cluster *slot_cluster(struct swap *sw, u64 slot);
/* nr (a power of two) consecutive free slots, aligned if possible, marked used and otherwise zero;
 * their cluster is returned locked (*first: the first slot). NULL: no memory. */
struct cluster *must_check slots_alloc(struct quire *q, u32 nr, u64 *first);
/* The slot's place in the array, or NULL when the slot is not in use. LOCKING: cluster lock. */
struct slot *slot_used(struct cluster *cl, u64 slot);
/* The slot is not in use any more; the copy, if any, goes to *copy, and what is saved beside it is
 * dropped. LOCKING: cluster lock. */
void slot_release(struct swap *sw, struct cluster *cl, u64 slot, struct slot_copy *copy);
/* After slot_release of nr slots: counts and lists. LOCKING: cluster lock. */
void slots_released(struct quire *q, struct cluster *cl, u32 nr);
u64 slots_check(struct quire *q, struct swap *sw, u64 *by_kind);

#endif
