/*
 * entry.h - the bits of a translation that a machine interprets (x86's layout and names).
 *
 * Only PRESENT entries are the machine's business. A non-present, non-zero entry belongs to the
 * core (swap, migration, device: pagetable/pte.h) and a machine treats it as absent.
 * A table entry (upper levels) holds the address of the next table, which is 4 KiB aligned.
 *
 *   63 NX | 62..52 software | 51..12 frame number or table address | 11..9 software |
 *   8 - | 7 HUGE (leaf at PMD level) | 6 DIRTY | 5 ACCESSED | 2 USER | 1 WRITE | 0 PRESENT
 *
 * PROT_NONE areas have no present entries: an entry there carries ENTRY_PROTNONE instead of PRESENT
 * and keeps its frame (so nothing may be cached from it). The same in an area that allows access,
 * with ENTRY_HINT: the next access is to tell that the page is used (Linux: NUMA hinting); bits
 * 58..52 then say when that began.
 * Locking: values; the words themselves are a64_t under the entry lock (pagetable/pagetable.h),
 * which the simulated CPUs' walkers read and update (A/D) with atomics without that lock.
 */
#ifndef QUIRE_MACHINE_ENTRY_H
#define QUIRE_MACHINE_ENTRY_H

#include "base/types.h"

#define ENTRY_PRESENT     BIT(0)
#define ENTRY_WRITE       BIT(1)
#define ENTRY_USER        BIT(2)
#define ENTRY_ACCESSED    BIT(5)
#define ENTRY_DIRTY       BIT(6)
#define ENTRY_HUGE        BIT(7)
#define ENTRY_PROTNONE    BIT(8)
#define ENTRY_SPECIAL     BIT(9) /* no folio behind it: the zero page */
#define ENTRY_SOFT_DIRTY  BIT(10)
#define ENTRY_SHARED      BIT(11) /* an object's page in a shared area: pinned as it is */
#define ENTRY_HINT        BIT(59) /* with PROTNONE: the next access is to be noticed */
#define ENTRY_NX          BIT(63)
#define ENTRY_STAMP_SHIFT 52 /* with HINT: the clock's low bits when it was set */
#define ENTRY_STAMP_BITS  7
#define ENTRY_STAMP_MASK  (((1ull << ENTRY_STAMP_BITS) - 1) << ENTRY_STAMP_SHIFT)
#define ENTRY_FRAME_MASK  0x000ffffffffff000ull

static inline bool entry_present(u64 e)
{
	return e & ENTRY_PRESENT;
}

static inline u64 entry_pfn(u64 e)
{
	return (e & ENTRY_FRAME_MASK) >> PAGE_SHIFT;
}

static inline void *entry_table(u64 e)
{
	return (void *)(uintptr_t)(e & ENTRY_FRAME_MASK);
}

/* Index of va in the table of `level`: 0 PTE, 1 PMD, 2 PUD, 3 PGD. */
static inline unsigned entry_index(u64 va, unsigned level)
{
	return (va >> (PAGE_SHIFT + 9 * level)) & (PTRS_PER_TABLE - 1);
}

#endif
