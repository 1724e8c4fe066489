/*
 * arena_pages.h - private to the arena: runs of pages out of chunks of the source's memory.
 *
 * A chunk begins with its header: one tag and one flag byte for each of its pages. Invariants: free
 * runs of a chunk never touch each other (they are merged at once); the first and the last page of
 * a free run have its length in their tags; each free run is on the list of its size class.
 * Locking: (L) pool.lock, class ARENA, the innermost of the arena's locks.
 */
#ifndef QUIRE_BASE_ARENA_PAGES_H
#define QUIRE_BASE_ARENA_PAGES_H

#include "base/arena.h"
#include "base/atomic.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/rbtree.h"

#define POOL_BINS 64

enum page_tag_kind { TAG_INSIDE, TAG_FREE, TAG_USED };

struct page_tag {
	struct list link; /* (L) of a free run's first page */
	u32 nr;		  /* (L) TAG_FREE: of first and last page; TAG_USED: of the first page */
	u32 kind;	  /* (L) */
};

struct chunk {
	struct rb_node rb; /* (L) by address */
	size_t bytes;	   /* (C) */
	u32 nr_pages;	   /* (C) including the header's */
	u32 first;	   /* (C) index of the first page that can be handed out */
	u8 *dirty;	   /* per page, by its owner: was handed out, may not be zero */
	struct page_tag tag[];
};

struct page_pool {
	struct spin lock;
	struct arena_source src;	/* (C) */
	struct rb_root chunks;		/* (L) */
	struct chunk *last;		/* (L) the chunk of the last free: a guess */
	struct chunk *home;		/* (C) holds the pool itself; never given back */
	struct list bin[POOL_BINS];	/* (L) free runs */
	u64 bins;			/* (L) which bins are not empty */
	u64 free_pages;			/* (L) */
	a64_t bytes;			/* (A) taken from the source */
};

/* The first chunk, with `bytes` for the owner behind its header. NULL: no memory. */
void *page_pool_create(const struct arena_source *src, size_t bytes, size_t pool_offset);
/* `pool` lies in the memory that is given back. */
void page_pool_destroy(struct page_pool *p);
/*
 * nr pages at a multiple of `align` pages (a power of two). Zeroed if `zero`. LOCKING: takes lock.
 */
void *page_pool_get(struct page_pool *p, u32 nr, u32 align, bool zero);
void page_pool_put(struct page_pool *p, void *addr, u32 nr);

#endif
