/*
 * swap.h - swap slots, the swap cache, and the stores behind them.
 *
 * A slot is one page's place outside RAM. The slot table is a growable sparse array; per slot: a
 * count (entries that name it), a flag "has a folio in the cache", the cached folio or, without
 * one, a shadow (when it was evicted: refault distance), the store's handle, the store's number,
 * and a 32-bit checksum (xxh3) of the page that every read verifies. The slot table
 * IS the swap cache: lookup is lock-free (RCU, folio_try_get, recheck the slot).
 *
 * Life of a slot: free -[swap_alloc: count 0, cached]-> cached only -[rmap_unmap: swap_dup]-> count
 * 1 -[swap_writeout]-> has data
 *   -[swap_delete_folio]-> data only (shadow) -[swap_read_folio at fault: cached again]-> both
 *   -[swap_put: count 0 and not cached]-> free.
 * A slot is freed (handle given back to its store) exactly when its count is 0 and no folio is
 * cached.
 * A clean folio in the cache whose slot has data can be dropped without writing (the stored copy
 * was kept).
 *
 * Stores are tried fastest first; a page that a store cannot take (full, incompressible beyond use)
 * goes to the next. Same-filled pages are a handle of their own and use no store. A write that
 * fails everywhere leaves the folio dirty and in place. Stores: lz4, zstd (size-class pools in RAM
 * with a cap), file:PATH[:SIZE].
 *
 * Locking: SWAP_CLUSTER guards slots of one cluster (512), SWAP_DEVICE the free clusters, STORE
 * inside stores. The folio lock is held for add, delete, writeout, read. Slot numbers are
 * swp_slot() values; 0 is never a slot.
 */
#ifndef QUIRE_SWAP_SWAP_H
#define QUIRE_SWAP_SWAP_H

#include "phys/phys.h"

struct store_stats {
	const char *name;                /* "lz4", "zstd", "file:..." */
	u64 pages;                       /* pages held */
	u64 stored_bytes;                /* their size in the store */
	u64 pool_bytes;                  /* memory or file space taken for that */
	u64 cap_bytes;                   /* 0: as much as the system has */
	u64 writes, reads, full, errors; /* pages */
};

/* SPEC: lz4[:CAP] | zstd[:CAP] | file:PATH[:SIZE], comma list (at most 8), fastest first; NULL or
 * "": lz4. Sizes take K, M, G, T; without one a store takes what the system has. On error a
 * one-line reason in msg: -EINVAL, what opening the file gave, -ENOMEM. */
int must_check swap_create(struct quire *q, const char *spec, char *msg, size_t msg_size);
void swap_destroy(struct quire *q);
unsigned swap_nr_stores(struct quire *q);
void swap_store_stats(struct quire *q, unsigned i, struct store_stats *out);
/* Slots in use; bytes of slot table. */
u64 swap_used_slots(struct quire *q);
u64 swap_table_bytes(struct quire *q);
/* Pool more than ~3/4 of its cap (or of all stores' room): kept copies of resident pages should go.
 */
bool swap_is_tight(struct quire *q);

/* ---- slots: a locked, isolated anonymous folio enters the cache ---- */
/* Allocate folio_nr consecutive slots near the previous ones, put the folio in the cache
 * (PG_SWAPCACHE, folio->swap = first slot, +nr references). 0, -ENOMEM. LOCKING: folio lock. */
int must_check swap_add_folio(struct quire *q, struct folio *f);
/* Entry-side counts. LOCKING: entry lock. */
void swap_dup(struct quire *q, u64 slot, u32 nr);
/* Entries that named these slots are gone; frees what has neither count nor folio. A cached folio
 * without counts stays until its owner drops it (swap_try_free_folio) or reclaim does. */
void swap_put(struct quire *q, u64 slot, u32 nr);
u32 swap_count(struct quire *q, u64 slot);
/* The folio is uptodate elsewhere and no entry names its slots: take it out of the cache and free
 * the slots. LOCKING: folio lock. True when it is (now) not in the cache. Drops the cache's
 * references. */
bool swap_try_free_folio(struct quire *q, struct folio *f);
/* The cached folio has a copy (swap_folio_has_copy) and is somebody's own from now on: it leaves
 * the cache, and what is stored stays for the entries that name its slots. LOCKING: folio lock, and
 * a reference. Drops the cache's references. */
void swap_leave_copy(struct quire *q, struct folio *f);
/* Reclaim's end: the frozen (ref 0) folio leaves the cache, its slots keep data and get the shadow.
 * LOCKING: folio lock. */
void swap_delete_frozen(struct quire *q, struct folio *f, u32 shadow);
/* The new folio (locked, same order, not in a cache) takes the place of the old one, which is
 * locked and frozen (ref 0), with its slots and their copies. The old one's references of the cache
 * are gone then, the new one has got them. For migration. */
void swap_replace_frozen(struct quire *q, struct folio *old, struct folio *new);

/* ---- data. LOCKING: folio lock, no spin lock. ---- */
/* Does every slot of the folio hold the page's present bytes? (clean: can be dropped) */
bool swap_folio_has_copy(struct quire *q, struct folio *f);
/* Write all pages of the folios (unmapped, flushed, in the cache) through the stores; the bytes
 * come from the machine's frame window. err[i] = 0 or -ENOSPC/-EIO/-ENOMEM; on success PG_DIRTY
 * cleared, the older copy given back. Folios neighbouring in slots are written together (one I/O in
 * a file store). Pages of a large folio that no entry names (unmapped for good meanwhile) are left
 * out. Returns number that succeeded. */
u32 swap_writeout(struct quire *q, struct folio **folios, u32 n, int *err);
/* The folio's bytes were or will be changed: the stored copies are void (slots stay; PG_DIRTY set).
 */
void swap_invalidate_copy(struct quire *q, struct folio *f);

/* ---- swap-in ---- */
/* The cached folio with a reference, or NULL. Lock-free. */
struct folio *swap_lookup(struct quire *q, u64 slot);
/* Put a new folio (locked by the caller, order 0) into the cache for `slot`. 0; -EEXIST another one
 * is there (look up again); -ENOENT the slot has no count any more. *shadow receives the eviction
 * stamp. +1 reference. */
int must_check swap_cache_insert(struct quire *q, u64 slot, struct folio *f, u32 *shadow);
/* Undo of the above for a folio that was never filled: ref dropped. LOCKING: folio lock. */
void swap_cache_abort(struct quire *q, struct folio *f);
/* Read slots[0..n) into bufs (page each), checksums verified. err[i] 0 / -EIO (I/O or checksum:
 * counted) / -EAGAIN (there is no copy, or it was replaced meanwhile: look the slot up again; never
 * with a locked folio of yours in the cache). Returns number good. Batches file reads of
 * neighbouring slots. LOCKING: slots kept by a cached locked folio, or by a count of the caller's;
 * no spin lock, because a file store sleeps. */
u32 swap_read(struct quire *q, const u64 *slots, u32 n, void *const *bufs, int *err);
/* True when reading this slot needs I/O (a file): then readahead pays differently. */
bool swap_slot_is_slow(struct quire *q, u64 slot);

/* ---- fork: of home frames the kernel copies the memory; stores' files are shared ---- */
/* Before, in the parent, the gate closed: what is in files now stays readable for the child,
 * whatever the parent does later. Harmless when the fork then fails. */
void swap_fork_prepare(struct quire *q);
/* In the child, before anything else of swap is called: it goes on reading the files that it shares
 * with its parent and writes to files of its own, opened at its first write. */
void swap_forked_child(struct quire *q);

/* 0 or number of broken invariants at quiescence. */
u64 swap_check(struct quire *q);

#endif
