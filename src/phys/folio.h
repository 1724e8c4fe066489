/*
 * folio.h - struct folio: one naturally aligned run of 2^order frames that is managed as one.
 *
 * There is one 64-byte record per frame (the frame map). The record of the first frame of a run IS
 * the folio; the records of the other frames (tails) only carry their frame number, the folio's
 * order and their own `mapcount`. A folio is naturally aligned, so the order leads from a tail to
 * its head.
 *
 * Invariants
 *  1. ref == 0: the frames belong to the allocator or are on their way there (being released).
 *  2. ref >= number of entries that map pages of it + (in swap cache ? nr : 0) + (in an object's
 *     page cache ? nr : 0) + pins * PIN_BIAS.
 *  3. sum of the pages' mapcounts == number of PTE-level entries; entire_mapcount == PMD-level
 *     entries.
 *  4. PG_LRU set <=> linked into an LRU list; only the one who cleared it may unlink it.
 *  5. anon: mapping & MAPPING_ANON, index = va page index in the area it was first mapped in. In a
 *     page cache: mapping = the object, index = the page's there (object.h).
 *  6. PG_ANON_EXCLUSIVE, which each page's own record holds: one entry at most maps the page, and
 * its space may write it without a copy. A writable entry's page is exclusive; so is a pinned one.
 *  7. PG_SWAPCACHE <=> swap is the swap entry of page 0 and the slots point back at this folio.
 *  8. A page that is neither a program's nor an object's says what it is in its mapcount, by a
 * number that no count reaches (enum page_type; Linux: _mapcount = -256): order 0, no mapping, on
 * no LRU list, charged or not, its references its owner's (movable.h).
 *  9. the upper bits of `flags` (from bit 20) belong to the phys folder: allocator state, which LRU
 *     list, order, frame number. So flags are changed bit by bit, never stored as a whole.
 *
 * States (who moves them): free -[phys_alloc]-> owned, ref 1 -[fault: rmap add]-> mapped
 *   -[lru_add]-> on LRU -[lru_isolate]-> isolated -[swap_add_folio]-> swap cache -[rmap_unmap]->
 *   unmapped -[folio_freeze, swap_delete_folio]-> ref 0 -[phys_free_*: uncharge, release]-> free.
 *
 * Locking letters: (A) atomic; (L) folio lock; (R) its node's LRU lock; (C) constant while ref > 0;
 * (P) entry lock of the mapping entry.
 */
#ifndef QUIRE_PHYS_FOLIO_H
#define QUIRE_PHYS_FOLIO_H

#include "base/atomic.h"
#include "base/list.h"
#include "base/lock.h"

enum folio_flag {
	PG_LOCKED = 0,  /* the folio lock (bitlock) */
	PG_WAITERS = 1, /* somebody sleeps for it */
	PG_LRU = 2,
	PG_ACTIVE = 3,      /* on the active list, or to go there */
	PG_UNEVICTABLE = 4, /* mlocked: on no evictable list */
	PG_REFERENCED = 5,  /* seen used since the last look */
	PG_DIRTY = 6,       /* bytes newer than the stored copy, or no stored copy */
	PG_UPTODATE = 7,
	PG_SWAPBACKED = 8,
	PG_SWAPCACHE = 9,
	PG_WRITEBACK = 10,
	PG_WORKINGSET = 11,     /* came back within the refault distance */
	PG_ANON_EXCLUSIVE = 12, /* of each page, tails too (P); changed while a space maps it */
	PG_MLOCKED = 13,
	PG_LAZYFREE = 14,  /* MADV_FREE: may be dropped while clean */
	PG_LISTED = 15,    /* of a page with a type: on its owner's list, so it can be isolated */
	PG_IDLE = 15,      /* of an anonymous one: not used since it got hints on a fast node */
	PG_HEAD = 16,      /* order > 0 */
	PG_TAIL = 17,      /* not the first frame: folio_head() finds the folio */
	PG_READAHEAD = 18, /* brought in ahead of use; first fault on it extends the window */
	PG_PARTIAL = 19,   /* some page of a large folio is unmapped */
};
#define PGF(x) BIT(PG_##x)

/* The phys folder's part of `flags`:
 *   63..28 frame number | 27..24 order (head and tails) | 23..22 LRU list | 21..20 allocator state
 */
#define FOLIO_STATE_SHIFT 20
#define FOLIO_LIST_SHIFT  22
#define FOLIO_ORDER_SHIFT 24
#define FOLIO_PFN_SHIFT   28
#define MAX_PFN           BIT(64 - FOLIO_PFN_SHIFT) /* frame numbers are below it */

#define PIN_BIAS     1024u
#define MAPPING_ANON 1ul

struct folio {
	a64_t flags;     /* (A) enum folio_flag */
	a32_t ref;       /* (A) */
	a32_t mapcount;  /* (A) PTE-level mappings of this frame (0 = none); or the page's type */
	aptr_t mapping;  /* (L) to write; anon_vma | MAPPING_ANON, or the object; NULL: none */
	u64 index;       /* (L) page index (va >> PAGE_SHIFT at first mapping) */
	struct list lru; /* (R) while PG_LRU, else the isolator's or a batch's */
	u64 swap; /* (L) swap entry of page 0 while PG_SWAPCACHE; free for the isolator else */
	a32_t entire_mapcount; /* (A) PMD-level mappings */
	u16 charge;            /* (C) control group number, 0 = none */
	u8 order;              /* (C) */
	a8_t node;             /* (A) whose memory it is; of home frames changed by who has it
				* locked and isolated */
};
_Static_assert(sizeof(struct folio) == 64, "one cache line a frame");

static inline bool folio_test(const struct folio *f, enum folio_flag b)
{
	return a64_read(&f->flags) & BIT(b);
}

static inline void folio_set(struct folio *f, enum folio_flag b)
{
	a64_fetch_or(&f->flags, BIT(b));
}

static inline void folio_clear(struct folio *f, enum folio_flag b)
{
	a64_fetch_and(&f->flags, ~BIT(b));
}

/* True when this call changed it. */
static inline bool folio_test_set(struct folio *f, enum folio_flag b)
{
	return !(a64_fetch_or(&f->flags, BIT(b)) & BIT(b));
}

static inline bool folio_test_clear(struct folio *f, enum folio_flag b)
{
	return a64_fetch_and(&f->flags, ~BIT(b)) & BIT(b);
}

/* Without the folio lock or isolation: a home frame's may change at any time. */
static inline unsigned folio_node(const struct folio *f)
{
	return a8_read(&f->node);
}

/* Page types: what stands in mapcount is -255 - type. */
enum page_type {
	PAGE_OF_NO_TYPE,
	PAGE_BALLOON, /* migrate/balloon.h */
	NR_PAGE_TYPES,
};

/* Nothing but the type is read: whoever has any record's address may ask. */
static inline enum page_type folio_type(const struct folio *f)
{
	u32 type = (u32)-255 - a32_read(&f->mapcount);

	return type < NR_PAGE_TYPES ? (enum page_type)type : PAGE_OF_NO_TYPE;
}

/* LOCKING: the folio lock, and the owner's lock; nothing maps it. */
static inline void folio_set_type(struct folio *f, enum page_type type)
{
	a32_set_release(&f->mapcount, type ? (u32)-255 - type : 0);
}

static inline u32 folio_nr(const struct folio *f)
{
	return 1u << f->order;
}

/* A reference on top of one that the caller knows to exist. */
static inline void folio_get_nr(struct folio *f, u32 nr)
{
	u32 old = a32_fetch_add(&f->ref, nr);
	BUG_ON(old == 0);
}

static inline void folio_get(struct folio *f)
{
	folio_get_nr(f, 1);
}

/* For lock-free lookups: false when it is frozen or free. The caller then revalidates its lookup.
 */
static inline bool must_check folio_try_get(struct folio *f)
{
	return a32_add_unless(&f->ref, 1, 0);
}

/* 0 -> nobody can get a reference: true only when ref was exactly `expected`. */
static inline bool must_check folio_freeze(struct folio *f, u32 expected)
{
	return a32_cmpxchg(&f->ref, &expected, 0);
}

static inline void folio_unfreeze(struct folio *f, u32 ref)
{
	a32_set_release(&f->ref, ref);
}

/* May be true without a pin when there are very many references; never false with one. */
static inline bool folio_maybe_pinned(const struct folio *f)
{
	return a32_read(&f->ref) >= PIN_BIAS;
}

static inline bool must_check folio_trylock(struct folio *f)
{
	return bitlock_trylock(&f->flags, PG_LOCKED, LOCK_FOLIO);
}

static inline void folio_lock(struct folio *f)
{
	bitlock_lock(&f->flags, PG_LOCKED, PG_WAITERS, (u32 *)&f->flags.raw, LOCK_FOLIO);
}

static inline void folio_unlock(struct folio *f)
{
	bitlock_unlock(&f->flags, PG_LOCKED, PG_WAITERS, (u32 *)&f->flags.raw);
}

/* Write-back that is under way (object.h) has ended. LOCKING: a reference is held; may sleep; the
 * folio lock may be held. */
static inline void folio_wait_writeback(struct folio *f)
{
	if (folio_test(f, PG_WRITEBACK))
		bit_wait(&f->flags, PG_WRITEBACK, PG_WAITERS, (u32 *)&f->flags.raw);
}

/* Who has it locked has unlocked it. No reference is needed: the record is never freed, and whoever
 * has it locked, for whatever it has become, unlocks it. LOCKING: may sleep. */
static inline void folio_wait_unlocked(struct folio *f)
{
	if (folio_test(f, PG_LOCKED))
		bitlock_wait(&f->flags, PG_LOCKED, PG_WAITERS, (u32 *)&f->flags.raw);
}

static inline void folio_end_writeback(struct folio *f)
{
	bit_clear_wake(&f->flags, PG_WRITEBACK, PG_WAITERS, (u32 *)&f->flags.raw);
}

/* Of one page: its record, not its folio's. LOCKING: to change it, the entry lock of the one entry
 * that maps the page. */
static inline bool page_exclusive(const struct folio *page)
{
	return folio_test(page, PG_ANON_EXCLUSIVE);
}

/* Any entry maps any page of it. For large folios a sum over pages: a snapshot. */
u32 folio_mapcount(const struct folio *f);

static inline bool folio_mapped(const struct folio *f)
{
	if ((s32)a32_read(&f->mapcount) > 0)
		return true;
	return f->order && folio_mapcount(f);
}

static inline bool folio_is_anon(const struct folio *f)
{
	return (uintptr_t)aptr_read(&f->mapping) & MAPPING_ANON;
}

#endif
