/*
 * atomic.h - every shared word of the core is one of these types and is touched only through here.
 *
 * a8_t, a32_t, a64_t, aptr_t wrap one word. Names follow the kernel's: a plain read or set is
 * relaxed (single-copy atomic, never torn, never repeated by the compiler); _acquire and _release
 * order as in C11; operations that modify and return a value are sequentially consistent; those
 * that return nothing are relaxed. In an explored build each call is a scheduling point
 * that declares the address and whether it reads or writes (base_backend.h, base_point).
 *
 * Locking: none; this is what locks are made of.
 */
#ifndef QUIRE_BASE_ATOMIC_H
#define QUIRE_BASE_ATOMIC_H

#include "base/types.h"
#include "base_backend.h"

typedef struct {
	u8 raw;
} a8_t;
typedef struct {
	u32 raw;
} a32_t;
typedef struct {
	u64 raw;
} a64_t;
typedef struct {
	void *raw;
} aptr_t;

#define A_INIT(v) { (v) }

#define DEFINE_ATOMIC_OPS(name, word, atype)                                                   \
	static inline word name##_read(const atype *a)                                         \
	{                                                                                      \
		base_point(BASE_READ, &a->raw, sizeof(a->raw));                                \
		return __atomic_load_n(&a->raw, __ATOMIC_RELAXED);                             \
	}                                                                                      \
	static inline word name##_read_acquire(const atype *a)                                 \
	{                                                                                      \
		base_point(BASE_READ, &a->raw, sizeof(a->raw));                                \
		return __atomic_load_n(&a->raw, __ATOMIC_ACQUIRE);                             \
	}                                                                                      \
	static inline void name##_set(atype *a, word v)                                        \
	{                                                                                      \
		base_point(BASE_WRITE, &a->raw, sizeof(a->raw));                               \
		__atomic_store_n(&a->raw, v, __ATOMIC_RELAXED);                                \
	}                                                                                      \
	static inline void name##_set_release(atype *a, word v)                                \
	{                                                                                      \
		base_point(BASE_WRITE, &a->raw, sizeof(a->raw));                               \
		__atomic_store_n(&a->raw, v, __ATOMIC_RELEASE);                                \
	}                                                                                      \
	/* Not yet published or already private: no scheduling point. */                       \
	static inline void name##_init(atype *a, word v)                                       \
	{                                                                                      \
		__atomic_store_n(&a->raw, v, __ATOMIC_RELAXED);                                \
	}                                                                                      \
	/* Of use for statistics and assertions only: no scheduling point. */                  \
	static inline word name##_peek(const atype *a)                                         \
	{                                                                                      \
		return __atomic_load_n(&a->raw, __ATOMIC_RELAXED);                             \
	}                                                                                      \
	static inline word name##_xchg(atype *a, word v)                                       \
	{                                                                                      \
		base_point(BASE_RMW, &a->raw, sizeof(a->raw));                                 \
		return __atomic_exchange_n(&a->raw, v, __ATOMIC_SEQ_CST);                      \
	}                                                                                      \
	/* True when *a was *old and is now v; otherwise *old receives what was found. */      \
	static inline bool name##_cmpxchg(atype *a, word *old, word v)                         \
	{                                                                                      \
		base_point(BASE_RMW, &a->raw, sizeof(a->raw));                                 \
		return __atomic_compare_exchange_n(&a->raw, old, v, false, __ATOMIC_SEQ_CST,   \
						   __ATOMIC_RELAXED);                          \
	}

#define DEFINE_ATOMIC_ARITH(name, word, atype)                                                 \
	static inline word name##_fetch_add(atype *a, word v)                                  \
	{                                                                                      \
		base_point(BASE_RMW, &a->raw, sizeof(a->raw));                                 \
		return __atomic_fetch_add(&a->raw, v, __ATOMIC_SEQ_CST);                       \
	}                                                                                      \
	static inline word name##_add_return(atype *a, word v)                                 \
	{                                                                                      \
		return name##_fetch_add(a, v) + v;                                             \
	}                                                                                      \
	static inline word name##_sub_return(atype *a, word v)                                 \
	{                                                                                      \
		base_point(BASE_RMW, &a->raw, sizeof(a->raw));                                 \
		return __atomic_sub_fetch(&a->raw, v, __ATOMIC_SEQ_CST);                       \
	}                                                                                      \
	/* A statistic: the result is unused, so two of them commute. */                       \
	static inline void name##_add(atype *a, word v)                                        \
	{                                                                                      \
		base_point(BASE_COUNT, &a->raw, sizeof(a->raw));                               \
		__atomic_fetch_add(&a->raw, v, __ATOMIC_RELAXED);                              \
	}                                                                                      \
	static inline void name##_sub(atype *a, word v)                                        \
	{                                                                                      \
		base_point(BASE_COUNT, &a->raw, sizeof(a->raw));                               \
		__atomic_fetch_sub(&a->raw, v, __ATOMIC_RELAXED);                              \
	}                                                                                      \
	static inline word name##_fetch_or(atype *a, word v)                                   \
	{                                                                                      \
		base_point(BASE_RMW, &a->raw, sizeof(a->raw));                                 \
		return __atomic_fetch_or(&a->raw, v, __ATOMIC_SEQ_CST);                        \
	}                                                                                      \
	static inline word name##_fetch_and(atype *a, word v)                                  \
	{                                                                                      \
		base_point(BASE_RMW, &a->raw, sizeof(a->raw));                                 \
		return __atomic_fetch_and(&a->raw, v, __ATOMIC_SEQ_CST);                       \
	}                                                                                      \
	/* Add v unless the word is `unless`; true when added. */                              \
	static inline bool name##_add_unless(atype *a, word v, word unless)                    \
	{                                                                                      \
		word old = name##_read(a);                                                     \
		do {                                                                           \
			if (old == unless)                                                     \
				return false;                                                  \
		} while (!name##_cmpxchg(a, &old, old + v));                                   \
		return true;                                                                   \
	}

DEFINE_ATOMIC_OPS(a8, u8, a8_t)
DEFINE_ATOMIC_OPS(a32, u32, a32_t)
DEFINE_ATOMIC_OPS(a64, u64, a64_t)
DEFINE_ATOMIC_OPS(aptr, void *, aptr_t)
DEFINE_ATOMIC_ARITH(a32, u32, a32_t)
DEFINE_ATOMIC_ARITH(a64, u64, a64_t)

/* Full barrier: a store before it is visible before a load after it. */
static inline void smp_mb(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
