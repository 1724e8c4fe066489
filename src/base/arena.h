/*
 * arena.h - the core's own memory: object caches, and runs of pages.
 *
 * The core never calls malloc: a fault handler may interrupt it, and its memory is counted.
 * Memory comes in chunks from `arena_source` (the machine: private anonymous mappings that are
 * never managed). Objects are aligned to 16 bytes (64 where size is a multiple of 64), zeroed by
 * arena_zalloc and cache_zalloc only. Freed pages and empty slabs are reused; whole chunks of >= 2
 * MiB page runs may go back. Every allocation is a fault-injection point (INJECT_ARENA). A failed
 * one returns NULL, never asserts.
 *
 * Invariants: arena_bytes() = bytes taken from the source minus returned; arena_used() = bytes
 * handed out. In builds with QUIRE_DEBUG freed objects are poisoned (0x6b) and double frees are
 * BUGs.
 * Locking: LOCK_ARENA inside; callers may hold any lock of lower rank. cache_alloc has a per-CPU
 * front (a short array that is tried, never waited for) so that hot objects do not meet on one
 * lock.
 */
#ifndef QUIRE_BASE_ARENA_H
#define QUIRE_BASE_ARENA_H

#include "base/types.h"

struct arena;
struct cache;
struct inject;

struct arena_source {
	void *ctx;
	void *(*map)(void *ctx, size_t bytes); /* page aligned, zeroed; NULL on failure */
	void (*unmap)(void *ctx, void *addr, size_t bytes);
};

/* NULL on failure. The arena lives in its own first chunk. */
struct arena *arena_create(const struct arena_source *src);
/* Gives every chunk back, whatever is still allocated. */
void arena_destroy(struct arena *a);
void arena_set_inject(struct arena *a, struct inject *inj);

/* Any size; above a quarter page it is a run of pages. `size` must be given back on free. */
void *must_check arena_alloc(struct arena *a, size_t size);
void *must_check arena_zalloc(struct arena *a, size_t size);
void arena_free(struct arena *a, void *p, size_t size);

/* Zeroed pages, naturally page aligned. */
void *must_check arena_pages(struct arena *a, u32 nr);
void arena_pages_free(struct arena *a, void *p, u32 nr);

/* A cache of one object size. `name` is kept (a literal). NULL on failure. */
struct cache *must_check cache_create(struct arena *a, const char *name, u32 size);
void *must_check cache_alloc(struct cache *c);
void *must_check cache_zalloc(struct cache *c);
void cache_free(struct cache *c, void *obj);
/* Objects handed out and not yet freed: for leak checks at the end of tests. */
u64 cache_live(const struct cache *c);

u64 arena_bytes(const struct arena *a);
u64 arena_used(const struct arena *a);

#endif
