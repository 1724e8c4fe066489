/*
 * pte.h - what an entry word means to the core: none, present, PROT_NONE, or a swap-type entry.
 *
 * Present encodings are machine/entry.h. A non-present entry that is not 0 and not PROTNONE is
 * "swap-type":
 *   bit 0 PRESENT = 0, bit 8 PROTNONE = 0, bits 1..5 type, bit 6 exclusive, bit 7 soft-dirty,
 *   bits 9..11 0 (what SPECIAL and SHARED say of a present entry), bits 12..61 offset.
 * Types: SWP_STORE (a swap slot); the three of a page that is moving to another frame, whose offset
 *   is the old frame with bits of what the entry said: accessed, dirty, an object's (rmap.h has
 *   their life); device kinds follow with their issue.
 * Rule: a generic reader takes an entry ONCE with pte_get() and decides on that copy (Linux
 *   c33c7948).
 * Locking: values only; pte_set and pte_get_and_clear require the table's entry lock, except that
 * a simulated CPU sets ACCESSED/DIRTY by cmpxchg at any time, which is why clearing is always an
 * exchange.
 */
#ifndef QUIRE_PAGETABLE_PTE_H
#define QUIRE_PAGETABLE_PTE_H

#include "base/atomic.h"
#include "machine/entry.h"

typedef a64_t pte_t; /* a word in a table; values are plain u64 */

enum swp_type {
	SWP_NONE = 0,
	SWP_STORE = 1,
	/* A moving page: perhaps shared; exclusive, but not writable; writable (so, of an anonymous
	 * page, exclusive). */
	SWP_MIGRATE_READ = 2,
	SWP_MIGRATE_EXCLUSIVE = 3,
	SWP_MIGRATE_WRITE = 4,
	NR_SWP_TYPES = 32,
};

#define SWP_TYPE_SHIFT    1
#define SWP_TYPE_MASK     0x1full
#define SWP_EXCLUSIVE     BIT(6)
#define SWP_OFFSET_SHIFT  12
#define SWP_OFFSET_MASK   ((1ull << 50) - 1)
/* In a migration entry's offset, above the frame number. */
#define SWP_OBJECT        BIT(59) /* an object's page */
#define SWP_MIGRATE_YOUNG BIT(60)
#define SWP_MIGRATE_DIRTY BIT(61)
#define SWP_MIGRATE_BITS  (SWP_OBJECT | SWP_MIGRATE_YOUNG | SWP_MIGRATE_DIRTY)

static inline u64 pte_get(const pte_t *p)
{
	return a64_read(p);
}

static inline void pte_set(pte_t *p, u64 e)
{
	a64_set_release(p, e);
}

/* Clear and return what was there, with every A/D bit set until now. */
static inline u64 pte_get_and_clear(pte_t *p)
{
	return a64_xchg(p, 0);
}

static inline bool pte_none(u64 e)
{
	return e == 0;
}
static inline bool pte_present(u64 e)
{
	return e & (ENTRY_PRESENT | ENTRY_PROTNONE);
}
/* The next access is to be noticed; till then nothing reaches the page. */
static inline bool pte_is_hint(u64 e)
{
	return (e & (ENTRY_HINT | ENTRY_PROTNONE)) == (ENTRY_HINT | ENTRY_PROTNONE);
}
static inline unsigned pte_hint_stamp(u64 e)
{
	return (unsigned)((e & ENTRY_STAMP_MASK) >> ENTRY_STAMP_SHIFT);
}
static inline u64 pte_mk_hint(u64 e, unsigned stamp)
{
	e &= ~(ENTRY_PRESENT | ENTRY_STAMP_MASK);
	return e | ENTRY_PROTNONE | ENTRY_HINT |
	       ((u64)stamp << ENTRY_STAMP_SHIFT & ENTRY_STAMP_MASK);
}
/* In an area that allows access. */
static inline u64 pte_no_hint(u64 e)
{
	return (e & ~(ENTRY_PROTNONE | ENTRY_HINT | ENTRY_STAMP_MASK)) | ENTRY_PRESENT;
}
static inline bool pte_is_swap(u64 e)
{
	return e != 0 && !pte_present(e);
}
static inline bool pte_write(u64 e)
{
	return e & ENTRY_WRITE;
}
static inline bool pte_dirty(u64 e)
{
	return e & ENTRY_DIRTY;
}
static inline bool pte_young(u64 e)
{
	return e & ENTRY_ACCESSED;
}
static inline bool pte_special(u64 e)
{
	return e & ENTRY_SPECIAL;
}
static inline bool pte_huge(u64 e)
{
	return (e & ENTRY_HUGE) != 0;
}
static inline u64 pte_mk(u64 pfn, u64 bits)
{
	return (pfn << PAGE_SHIFT) | bits;
}
/* The entry for the next page of the same folio. */
static inline u64 pte_next_pfn(u64 e)
{
	return e + PAGE_SIZE;
}

static inline u64 swp_entry(enum swp_type type, u64 offset)
{
	return ((u64)type << SWP_TYPE_SHIFT) | (offset << SWP_OFFSET_SHIFT);
}
static inline enum swp_type swp_type(u64 e)
{
	return (enum swp_type)((e >> SWP_TYPE_SHIFT) & SWP_TYPE_MASK);
}
static inline u64 swp_offset(u64 e)
{
	return (e >> SWP_OFFSET_SHIFT) & SWP_OFFSET_MASK;
}
static inline bool pte_is_migration(u64 e)
{
	return pte_is_swap(e) && swp_type(e) >= SWP_MIGRATE_READ &&
	       swp_type(e) <= SWP_MIGRATE_WRITE;
}
/* Of a migration entry: the frame that the page is leaving. */
static inline u64 migration_pfn(u64 e)
{
	return swp_offset(e & ~SWP_MIGRATE_BITS);
}
/* The same page, by an entry of another type. */
static inline u64 migration_as(u64 e, enum swp_type type)
{
	return (e & ~(SWP_TYPE_MASK << SWP_TYPE_SHIFT)) | (u64)type << SWP_TYPE_SHIFT;
}

/* A swap slot number without flag bits: what the swap folder takes and gives. */
static inline u64 swp_slot(u64 e)
{
	return swp_offset(e);
}

#endif
