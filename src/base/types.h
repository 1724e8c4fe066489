/*
 * types.h - the words every folder uses: fixed-width integers, page geometry, ranges, container_of.
 *
 * Invariants: a range is always [start, end), page aligned unless its user says otherwise.
 * Locking: nothing here is shared.
 */
#ifndef QUIRE_BASE_TYPES_H
#define QUIRE_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define PAGE_SHIFT 12
#define PAGE_SIZE (1ul << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PMD_SHIFT 21 /* a PMD leaf, a PTE table, a frame block: 2 MiB */
#define PMD_SIZE (1ul << PMD_SHIFT)
#define PMD_MASK (~(PMD_SIZE - 1))
#define PUD_SHIFT 30
#define PGD_SHIFT 39
#define VA_BITS 48
#define PTRS_PER_TABLE 512u
#define PMD_ORDER (PMD_SHIFT - PAGE_SHIFT) /* 9 */
#define MAX_FOLIO_ORDER PMD_ORDER
#define MAX_CPUS 64 /* CPU numbers are taken modulo this */

#define must_check __attribute__((warn_unused_result))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define cacheline_aligned __attribute__((aligned(64)))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define DIV_UP(x, n) (((x) + ((n) - 1)) / (n))
#define ALIGN_UP(x, a) (((x) + ((a) - 1)) & ~((typeof(x))(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((typeof(x))(a) - 1))
#define IS_ALIGNED(x, a) (((x) & ((typeof(x))(a) - 1)) == 0)
/* Each argument once; the names are unique, so that min and max nest without shadowing. */
#define min(a, b) PICK(a, <, b, __COUNTER__)
#define max(a, b) PICK(a, >, b, __COUNTER__)
#define PICK(a, op, b, n) PICK_NAMED(a, op, b, n)
#define PICK_NAMED(a, op, b, n)               \
	({                                    \
		typeof(a) _l##n = (a);        \
		typeof(b) _r##n = (b);        \
		_l##n op _r##n ? _l##n : _r##n; \
	})
#define BIT(n) (1ull << (n))

/* [start, end) in bytes. */
struct range {
	u64 start;
	u64 end;
};

static inline u64 range_size(struct range r)
{
	return r.end - r.start;
}

static inline bool range_overlaps(struct range a, struct range b)
{
	return a.start < b.end && b.start < a.end;
}

#endif
