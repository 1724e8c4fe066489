/*
 * pool.h - memory for compressed pages: slabs of 64 KiB, one size class each, from chunks of the
 * machine's.
 *
 * A chunk is 16 MiB of addresses; its first slab holds the descriptors of the others. A slab is cut
 * into objects of one class (64 to 3072 bytes, and 4096 for pages stored raw) with a bitmap of the
 * free ones. Classes keep their partly free slabs in a list and take from its head, where the
 * fullest are, so that others run empty. An empty slab goes to a short list of warm ones; beyond
 * that its pages go back to the system (mem_discard) while its addresses stay, so a reader with an
 * old handle never faults. Fresh slabs are touched page by page before they are used, outside every
 * lock.
 *
 * Invariants
 *  1. taken slabs + warm slabs + chunk heads, in bytes, <= cap (when there is one).
 *  2. a slab is in its class's list <=> it has a free object and is taken.
 *  3. per class: live objects == pages, and the sum of their lengths == bytes.
 * Locking: class locks and the pool's lock are LOCK_STORE and are never held together.
 */
#ifndef QUIRE_SWAP_POOL_H
#define QUIRE_SWAP_POOL_H

#include "base/list.h"
#include "base/lock.h"
#include "base/quire.h"

#define POOL_SLAB_BYTES  65536u
#define POOL_CHUNK_BYTES (16u << 20)
#define POOL_CHUNK_SLABS (POOL_CHUNK_BYTES / POOL_SLAB_BYTES)
#define POOL_MAX_CHUNKS  16384u
#define POOL_NR_CLASSES  33u
#define POOL_MIN_CAP     (4u * POOL_SLAB_BYTES)
/* A handle: place in units of 64 bytes, length (1..4096) in the low bits. */
#define POOL_LEN_BITS    13

struct pool_slab {
	struct list link; /* (class lock) partly free; (pool lock) warm or bare */
	u16 nr_free;      /* (class lock) */
	u16 nr_objects;   /* (C) while taken */
	u8 cls;           /* (C) while taken */
	u8 state;         /* (pool lock) enum slab_state */
	u16 chunk, index; /* (C) where it is */
	u16 hint;         /* (class lock) first word of `free` that may have a bit */
	u64 free[POOL_SLAB_BYTES / 64 / 64]; /* (class lock) */
};

struct pool_class {
	struct spin lock;
	u32 size;            /* (C) */
	u32 nr_objects;      /* (C) in one slab */
	u64 pages;           /* (lock) */
	u64 bytes;           /* (lock) */
	struct list partial; /* (lock) */
} cacheline_aligned;

struct pool {
	struct quire *q;
	u64 cap_bytes; /* (C) 0: none */
	aptr_t *chunk; /* (C) table of POOL_MAX_CHUNKS; entries set under lock */
	struct spin lock;
	u32 nr_chunks;     /* (lock) */
	u32 next_slab;     /* (lock) first slab of the newest chunk that was never used */
	u32 nr_taken;      /* (lock) */
	u32 nr_warm;       /* (lock) */
	u32 nr_discarding; /* (lock) on their way to bare: still counted */
	struct list warm;  /* (lock) */
	struct list bare;  /* (lock) */
	a64_t bytes;       /* what invariant 1 counts; written under lock */
	a64_t in_use;      /* the same without slabs that are kept though empty */
	struct pool_class cls[POOL_NR_CLASSES];
};

int must_check pool_init(struct pool *p, struct quire *q, u64 cap_bytes);
void pool_fini(struct pool *p);
/* Room for len (1..4096) bytes; *handle names it. NULL: *err = -ENOSPC (cap) or -ENOMEM (system).
 */
void *must_check pool_alloc(struct pool *p, u32 len, u64 *handle, int *err);
void pool_free(struct pool *p, u64 handle);
/* Where the bytes are, and how many. NULL: never was a handle of this pool (a torn or old read). */
const void *pool_ptr(struct pool *p, u64 handle, u32 *len);
void pool_count(struct pool *p, u64 *pages, u64 *bytes);
static inline u64 pool_bytes(const struct pool *p)
{
	return a64_read(&p->bytes);
}
static inline u64 pool_in_use(const struct pool *p)
{
	return a64_read(&p->in_use);
}
u64 pool_check(struct pool *p, u64 pages);

#endif
