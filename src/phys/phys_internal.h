/*
 * phys_internal.h - what the files of this folder share: the frame map, blocks, nodes, CPU slots.
 *
 * The map: frame number -> block through three levels of 512 pointers. Pointers are installed with
 * release under LOCK_PHYS_MAP and never change again until phys_destroy, so readers take no lock.
 *
 * Kinds of a block, and who knows which of its frames are free:
 *   HOME   frames of the addresses themselves; the bitmap `used`. For ever.
 *   RESV   set aside by phys_resv_get; the bitmap `used`.  -[phys_resv_put]-> BUDDY
 *   BUDDY  the node's buddy lists and the CPU slots' lists; no bitmap.  -[phys_resv_get]-> RESV
 *          (only as one free piece of order 9)
 * A frame that is being released keeps its bit in `used`. `claimed` frames are free ones that a
 * release covers; `barred` ones do not belong to the core. A frame can be allocated when it is in
 * none of them.
 * A block that goes out of service (isolate.h) keeps its kind. Free frames of it are `captured`,
 * or, while it is RESV, `barred`: in no list, and no way of allocation finds them.
 *
 * Allocator states of a frame's record (in its flags): FREE (in a bitmap, captured, in somebody's
 * struct phys_pieces, or inside a larger free piece), OWNED (head of an allocated folio, until its
 * last reference is gone), BUDDY (head of a free piece in a buddy list; changes under LOCK_NODE
 * only), PCP (in a CPU slot's list).
 *
 * Capacity: node->taken <= capacity always. Each CPU slot keeps a credit of frames already counted
 * in `taken`; frames in use == taken - sum of credits. `taken` changes under LOCK_NODE only, which
 * makes the bound exact and a refusal true: whoever is refused has collected every credit first.
 *
 * Locking letters: (A) atomic, (C) constant, (B) block lock, (N) node lock, (P) the slot's PCP
 * lock,
 * (R) LRU lock.
 */
#ifndef QUIRE_PHYS_PHYS_INTERNAL_H
#define QUIRE_PHYS_PHYS_INTERNAL_H

#include "base/arena.h"
#include "base/inject.h"
#include "base/mech.h"
#include "base/trace.h"
#include "machine/machine.h"
#include "phys/phys.h"

#define BLOCK_FRAMES 512u
#define BLOCK_WORDS  (BLOCK_FRAMES / 64)
#define BLOCK_SHIFT  9
#define MAP_FANOUT   512u
#define RECORD_PAGES ((u32)(BLOCK_FRAMES * sizeof(struct folio) / PAGE_SIZE))

#define PCP_HIGH      64u /* above it, PCP_BATCH go to the buddy lists */
#define PCP_BATCH     32u
#define CREDIT_BATCH  64u
#define CREDIT_HIGH   256u
/* All on the stack of whoever frees, which may be a fault that reclaims. */
#define FREE_CHUNK    128u /* folios freed in one go */
#define FREE_GROUPS   4u   /* blocks whose frames are released together */
#define RELEASE_SPANS 32u  /* spans in one call of the machine */

enum frame_state { FRAME_FREE, FRAME_OWNED, FRAME_BUDDY, FRAME_PCP };
enum block_kind { BLOCK_HOME, BLOCK_RESV, BLOCK_BUDDY };
enum block_service { BLOCK_IN_SERVICE, BLOCK_LEAVING, BLOCK_OFFLINE, BLOCK_COMING };

#define FOLIO_STATE_MASK (3ull << FOLIO_STATE_SHIFT)
#define FOLIO_LIST_MASK  (3ull << FOLIO_LIST_SHIFT)
#define FOLIO_PFN_MASK   (~0ull << FOLIO_PFN_SHIFT)

struct block {
	struct spin lock;          /* LOCK_BLOCK */
	a32_t kind;                /* (A) changed under (B) */
	u32 node;                  /* (C) */
	u64 pfn;                   /* (C) of the first frame */
	struct folio *rec;         /* (C) BLOCK_FRAMES records */
	u64 used[BLOCK_WORDS];     /* (B) */
	u64 claimed[BLOCK_WORDS];  /* (B) */
	u64 barred[BLOCK_WORDS];   /* (B) */
	a32_t service;             /* (A) enum block_service; changed under (B) and (N) */
	u64 captured[BLOCK_WORDS]; /* (N) */
	u64 pad[3];
};
_Static_assert(sizeof(struct block) % 64 == 0,
	       "one block's lock and maps share no line with another's");

struct lru {
	struct spin lock;               /* LOCK_LRU */
	struct list list[NR_LRU_LISTS]; /* (R) most recent first */
	a64_t pages[NR_LRU_LISTS];      /* (A) written under (R) */
} cacheline_aligned;

struct node {
	struct spin lock;                      /* LOCK_NODE */
	struct list free[MAX_FOLIO_ORDER + 1]; /* (N) free pieces, linked by lru */
	u64 nr_free[MAX_FOLIO_ORDER + 1];      /* (N) */
	u64 base_block;                        /* (C) */
	u64 nr_blocks;                         /* (C) 0: home frames only */
	a64_t next_block;                      /* (A) written under (N): the first never used */
	u64 nr_out;                            /* (N) blocks that are not in service */
	a64_t capacity;                        /* (A) written under (N) */
	u64 size;                              /* (C) */
	u32 tier;                              /* (C) */
	bool direct;                           /* (C) */
	u8 fallback[MAX_NODES];                /* (C) */
	a64_t taken;                           /* (A) written under (N) */
	struct lru lru;
} cacheline_aligned;

struct phys_cpu {
	struct spin lock;             /* LOCK_PCP */
	a32_t nr_lru;                 /* (A) written under (P) */
	struct folio *lru[LRU_BATCH]; /* (P) */
	struct {
		struct list list; /* (P) free frames, last freed first */
		u32 count;        /* (P) */
	} pcp[MAX_NODES];
	a64_t credit[MAX_NODES]; /* (A) */
} cacheline_aligned;

struct cgroup {
	a64_t usage;           /* (A) pages charged to it or below */
	a64_t limit;           /* (A) */
	a64_t peak;            /* (A) */
	u32 number;            /* (C) */
	u32 depth;             /* (C) */
	u32 children;          /* (CHARGE) */
	u32 live;              /* (CHARGE) */
	struct cgroup *parent; /* (C) while live */
} cacheline_aligned;

struct phys {
	struct quire *q;        /* (C) */
	u32 nr_nodes;           /* (C) */
	bool has_home;          /* (C) */
	bool tiered;            /* (C) */
	struct phys_cpu *cpu;   /* (C) MAX_CPUS of them */
	struct cache *blocks;   /* (C) */
	struct cache *groups;   /* (C) */
	a64_t nr_block;         /* (A) blocks and ... */
	a64_t nr_map;           /* (A) ... pages of the map */
	struct mutex map_lock;  /* LOCK_PHYS_MAP */
	struct spin group_lock; /* LOCK_CHARGE */
	struct node node[MAX_NODES];
	aptr_t group[MAX_CGROUPS]; /* (A) struct cgroup, kept once made; by number */
	aptr_t map[MAP_FANOUT];    /* (A) top level: pages of pages of struct block * */
};

/* ---- map.c ---- */
struct block *block_create(struct quire *q, u64 pfn, unsigned node, enum block_kind kind);
void phys_map_destroy(struct quire *q);
/* Every block, in order of frame numbers. */
void block_for_each(struct quire *q, void (*fn)(void *ctx, struct block *b), void *ctx);

static inline struct block *block_find(const struct phys *p, u64 pfn)
{
	u64 nr = pfn >> BLOCK_SHIFT;
	const aptr_t *page;

	if (unlikely(pfn >= MAX_PFN))
		return NULL;
	page = aptr_read_acquire(&p->map[nr >> 18]);
	if (unlikely(!page))
		return NULL;
	page = aptr_read_acquire(&page[nr >> 9 & (MAP_FANOUT - 1)]);
	if (unlikely(!page))
		return NULL;
	return aptr_read_acquire(&page[nr & (MAP_FANOUT - 1)]);
}

/* ---- records ---- */
static inline u64 record_pfn(const struct folio *f)
{
	return a64_peek(&f->flags) >> FOLIO_PFN_SHIFT;
}

static inline enum frame_state flags_state(u64 flags)
{
	return flags >> FOLIO_STATE_SHIFT & 3;
}

static inline unsigned flags_order(u64 flags)
{
	return flags >> FOLIO_ORDER_SHIFT & 15;
}

static inline enum lru_list flags_list(u64 flags)
{
	return flags >> FOLIO_LIST_SHIFT & 3;
}

/* The record of a frame that nobody owns as a folio: the allocator's word for it. */
static inline void record_set_state(struct folio *f, u64 pfn, enum frame_state s, unsigned order)
{
	a64_init(&f->flags, pfn << FOLIO_PFN_SHIFT | (u64)order << FOLIO_ORDER_SHIFT |
				    (u64)s << FOLIO_STATE_SHIFT);
}

/* alloc.c: a new folio with one reference over frames that are exclusively the caller's. */
void folio_init(struct folio *f, u64 pfn, unsigned node, unsigned order);

/* ---- bitmaps of a block ---- */
static inline u64 word_mask(u32 bit, u32 nr)
{
	return (nr >= 64 ? ~0ull : BIT(nr) - 1) << bit;
}

/* Runs `stmt` for every word `w` that [first, first+nr) touches, with the bits `mask` in it. */
#define FOR_WORDS(first, nr, w, mask, stmt)                            \
	for (u32 _at = (first), _end = _at + (nr); _at < _end;) {      \
		u32 w = _at / 64, _n = min(64 - _at % 64, _end - _at); \
		u64 mask = word_mask(_at % 64, _n);                    \
		_at += _n;                                             \
		stmt;                                                  \
	}

static inline void bits_set(u64 *m, u32 first, u32 nr)
{
	FOR_WORDS(first, nr, w, mask, m[w] |= mask)
}

static inline void bits_clear(u64 *m, u32 first, u32 nr)
{
	FOR_WORDS(first, nr, w, mask, m[w] &= ~mask)
}

static inline bool bits_any(const u64 *m, u32 first, u32 nr)
{
	FOR_WORDS(first, nr, w, mask, if (m[w] & mask) return true)
	return false;
}

static inline bool bits_all(const u64 *m, u32 first, u32 nr)
{
	FOR_WORDS(first, nr, w, mask, if ((m[w] & mask) != mask) return false)
	return true;
}

/* LOCKING: (B). Can none of these frames be allocated or claimed? */
static inline bool block_busy(const struct block *b, u32 first, u32 nr)
{
	FOR_WORDS(first, nr, w, mask,
		  if ((b->used[w] | b->claimed[w] | b->barred[w]) & mask) return true)
	return false;
}

/* ---- node.c: capacity, buddy lists, CPU slots ---- */
bool must_check node_take(struct quire *q, unsigned node, u32 nr);
/* As many as there are, up to nr. */
u32 must_check node_take_some(struct quire *q, unsigned node, u32 nr);
void node_give(struct quire *q, unsigned node, u32 nr);
/* A free piece, its record in state FREE; NULL: the node has no numbers or no memory for records
 * left. */
struct folio *must_check node_get_frames(struct quire *q, unsigned node, unsigned order);
/* Free frames, which nobody owns, become a piece of the buddy lists. Takes LOCK_NODE. */
void buddy_put(struct quire *q, unsigned node, struct folio *f, u64 pfn, unsigned order);
/* Free frames of order 0, of one block, go to this CPU's list. False: the block is leaving, and
 * they must not. */
bool must_check pcp_put(struct quire *q, const struct block *b, struct folio *const *f, u32 n);
void pcp_drain_all(struct phys *p, unsigned node);
/* LOCKING: n->lock. */
void buddy_put_locked(struct phys *p, struct node *n, struct folio *f, u64 pfn, unsigned order);
void buddy_unlink(struct node *n, struct folio *f, u64 pfn, unsigned order);

/* ---- isolate.c ---- */
/* LOCKING: n->lock. True: the frames, which nobody owns, are kept back. */
bool block_capture(struct node *n, struct block *b, u64 pfn, unsigned order);

static inline bool block_in_service(const struct block *b)
{
	return a32_read(&b->service) == BLOCK_IN_SERVICE;
}

/* Has the buddy allocator ever had it? LOCKING: n->lock, or a hint. */
static inline bool block_is_grown(const struct node *n, const struct block *b)
{
	return (b->pfn >> BLOCK_SHIFT) - n->base_block < a64_read(&n->next_block);
}

/* ---- free.c ---- */
/* References 0 and exclusively the caller's; may be on the LRU. Reorders f[]. */
void phys_free(struct quire *q, struct folio **f, u32 n);

/* ---- lru.c ---- */
void phys_lru_init(struct lru *lru);
/* Folios at reference 0 leave their lists, one locking for each run of one node. */
void lru_forget(struct quire *q, struct folio *const *f, u32 n);

/* ---- cgroup.c ---- */
int must_check cgroups_create(struct quire *q);
void cgroups_destroy(struct quire *q);
struct cgroup *cgroup_get(struct quire *q, unsigned cg);

#endif
