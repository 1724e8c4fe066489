/*
 * tsan.c - what code compiled with -fsanitize=thread calls at each access: instead of the
 * sanitizer's run-time, the explorer's.
 *
 * Every instrumented write is logged before it happens, every instrumented read of memory that
 * other actors write is observed. Atomic operations are carried out here. None of these is a
 * scheduling point: that is base_point (backend.c).
 *
 * Memory functions are the linker's --wrap=memcpy and so on: they look at what changes word by
 * word.
 */
#include "explore/internal.h"

#include <string.h>

typedef unsigned __int128 u128;

static inline u64 value_at(u64 addr, u32 size)
{
	switch (size) {
	case 1:
		return *(u8 *)addr;
	case 2:
		return *(u16 *)addr;
	case 4:
		return *(u32 *)addr;
	default:
		return *(u64 *)addr;
	}
}

/* What each hook's caller is. */
#define PC ((u64)__builtin_return_address(0))

static inline void hook_read(u64 addr, u32 size)
{
	struct xword *w;

	if (x.mode < M_RUN || !in_arena(addr))
		return;
	w = word_of(addr);
	if (unlikely(is_poisoned(addr)))
		mem_touch_poison(addr, "read");
	if (x.mode != M_RUN)
		return;
	if (unlikely(!(w->readers & x.me)))
		learn_reader(w);
	if (w->writers & ~x.me)
		observe(value_at(addr, size));
}

static inline void hook_write(u64 addr)
{
	struct xword *w;

	if (x.mode < M_RUN || !in_arena(addr))
		return;
	w = word_of(addr);
	if (unlikely(is_poisoned(addr)))
		mem_touch_poison(addr, "write");
	if (x.mode == M_RUN && unlikely(!(w->writers & x.me)))
		learn_writer(w);
	log_word(w, addr);
}

static void range_read(u64 addr, u64 bytes, u64 pc)
{
	if (x.mode < M_RUN || !in_arena(addr) || !bytes)
		return;
	mem_read_all(addr, bytes);
	if (unlikely(x.racing))
		race_plain(addr, bytes, false, pc);
}

static void range_write(u64 addr, u64 bytes, u64 pc)
{
	if (x.mode < M_RUN || !in_arena(addr) || !bytes)
		return;
	mem_write_all(addr, bytes);
	if (unlikely(x.racing))
		race_plain(addr, bytes, true, pc);
}

static inline void plain_read(u64 addr, u32 size, u64 pc)
{
	if (size > 8) {
		range_read(addr, size, pc);
		return;
	}
	hook_read(addr, size);
	if (unlikely(x.racing) && in_arena(addr))
		race_plain(addr, size, false, pc);
}

static inline void plain_write(u64 addr, u32 size, u64 pc)
{
	if (size > 8) {
		range_write(addr, size, pc);
		return;
	}
	hook_write(addr);
	if (unlikely(x.racing) && in_arena(addr))
		race_plain(addr, size, true, pc);
}

#define HOOK __attribute__((visibility("default"), used))

#define ACCESS_HOOK(name, n, call)           \
	HOOK void __tsan_##name##n(void *p); \
	void __tsan_##name##n(void *p)       \
	{                                    \
		call((u64)p, n, PC);         \
	}
#define ACCESS_HOOKS(n)                             \
	ACCESS_HOOK(read, n, plain_read)            \
	ACCESS_HOOK(write, n, plain_write)          \
	ACCESS_HOOK(read_write, n, plain_write)     \
	ACCESS_HOOK(volatile_read, n, plain_read)   \
	ACCESS_HOOK(volatile_write, n, plain_write) \
	ACCESS_HOOK(unaligned_read, n, range_read)  \
	ACCESS_HOOK(unaligned_write, n, range_write)

ACCESS_HOOKS(1)
ACCESS_HOOKS(2)
ACCESS_HOOKS(4)
ACCESS_HOOKS(8)
ACCESS_HOOKS(16)

HOOK void __tsan_init(void);
HOOK void __tsan_func_entry(void *pc);
HOOK void __tsan_func_exit(void);
HOOK void __tsan_read_range(void *p, u64 bytes);
HOOK void __tsan_write_range(void *p, u64 bytes);
HOOK void __tsan_atomic_thread_fence(int order);
HOOK void __tsan_atomic_signal_fence(int order);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *pc)
{
	(void)pc;
}

void __tsan_func_exit(void)
{
}

void __tsan_read_range(void *p, u64 bytes)
{
	range_read((u64)p, bytes, PC);
}

void __tsan_write_range(void *p, u64 bytes)
{
	range_write((u64)p, bytes, PC);
}

/* Explored executions are sequentially consistent: fences do nothing. */
void __tsan_atomic_thread_fence(int order)
{
	(void)order;
	if (unlikely(x.racing))
		race_fence();
}

void __tsan_atomic_signal_fence(int order)
{
	(void)order;
}

/* ---- atomics ---- */

/* A counter's update whose result nobody uses teaches the actor nothing. */
static inline void hook_rmw(u64 addr, u32 size)
{
	if (x.mode == M_RUN && x.actor[x.self].count)
		x.actor[x.self].count = false;
	else
		hook_read(addr, size);
	hook_write(addr);
}

#define RMW_HOOK(bits, name, expr)                                               \
	HOOK u##bits __tsan_atomic##bits##_##name(u##bits *p, u##bits v, int o); \
	u##bits __tsan_atomic##bits##_##name(u##bits *p, u##bits v, int o)       \
	{                                                                        \
		u##bits old;                                                     \
		hook_rmw((u64)p, bits / 8);                                      \
		if (unlikely(x.racing))                                          \
			race_atomic((u64)p, bits / 8, BASE_RMW, o, PC);          \
		old = *p;                                                        \
		*p = (u##bits)(expr);                                            \
		return old;                                                      \
	}

#define ATOMIC_HOOKS(bits)                                                                        \
	HOOK u##bits __tsan_atomic##bits##_load(const u##bits *p, int o);                         \
	HOOK void __tsan_atomic##bits##_store(u##bits *p, u##bits v, int o);                      \
	HOOK int __tsan_atomic##bits##_compare_exchange_strong(u##bits *p, u##bits *c, u##bits v, \
							       int o, int fo);                    \
	HOOK int __tsan_atomic##bits##_compare_exchange_weak(u##bits *p, u##bits *c, u##bits v,   \
							     int o, int fo);                      \
	u##bits __tsan_atomic##bits##_load(const u##bits *p, int o)                               \
	{                                                                                         \
		hook_read((u64)p, bits / 8);                                                      \
		if (unlikely(x.racing))                                                           \
			race_atomic((u64)p, bits / 8, BASE_READ, o, PC);                          \
		return *p;                                                                        \
	}                                                                                         \
	void __tsan_atomic##bits##_store(u##bits *p, u##bits v, int o)                            \
	{                                                                                         \
		hook_write((u64)p);                                                               \
		if (unlikely(x.racing))                                                           \
			race_atomic((u64)p, bits / 8, BASE_WRITE, o, PC);                         \
		*p = v;                                                                           \
	}                                                                                         \
	RMW_HOOK(bits, exchange, v)                                                               \
	RMW_HOOK(bits, fetch_add, old + v)                                                        \
	RMW_HOOK(bits, fetch_sub, old - v)                                                        \
	RMW_HOOK(bits, fetch_and, old &v)                                                         \
	RMW_HOOK(bits, fetch_or, old | v)                                                         \
	RMW_HOOK(bits, fetch_xor, old ^ v)                                                        \
	RMW_HOOK(bits, fetch_nand, ~(old & v))                                                    \
	int __tsan_atomic##bits##_compare_exchange_strong(u##bits *p, u##bits *c, u##bits v,      \
							  int o, int fo)                          \
	{                                                                                         \
		bool same = *p == *c;                                                             \
                                                                                                  \
		hook_read((u64)p, bits / 8);                                                      \
		hook_write((u64)p);                                                               \
		if (unlikely(x.racing))                                                           \
			race_atomic((u64)p, bits / 8, same ? BASE_RMW : BASE_READ, same ? o : fo, \
				    PC);                                                          \
		if (same) {                                                                       \
			*p = v;                                                                   \
			return 1;                                                                 \
		}                                                                                 \
		hook_write((u64)c);                                                               \
		*c = *p;                                                                          \
		return 0;                                                                         \
	}                                                                                         \
	int __tsan_atomic##bits##_compare_exchange_weak(u##bits *p, u##bits *c, u##bits v, int o, \
							int fo)                                   \
	{                                                                                         \
		return __tsan_atomic##bits##_compare_exchange_strong(p, c, v, o, fo);             \
	}

ATOMIC_HOOKS(8)
ATOMIC_HOOKS(16)
ATOMIC_HOOKS(32)
ATOMIC_HOOKS(64)

/* ---- memory functions ---- */

void *__real_memcpy(void *dst, const void *src, size_t n);
void *__real_memmove(void *dst, const void *src, size_t n);
void *__real_memset(void *dst, int c, size_t n);
int __real_memcmp(const void *a, const void *b, size_t n);
void *__wrap_memcpy(void *dst, const void *src, size_t n);
void *__wrap_memmove(void *dst, const void *src, size_t n);
void *__wrap_memset(void *dst, int c, size_t n);
int __wrap_memcmp(const void *a, const void *b, size_t n);

/* Only words that really change are logged: whole pages are copied that hold next to nothing. */
static void write_from(u64 dst, const void *src, size_t n, u64 pc)
{
	u64 end = dst + n;

	if (unlikely(x.racing))
		race_plain(dst, n, true, pc);
	for (u64 a = dst & ~7ul; a < end; a += 8) {
		struct xword *w = word_of(a);
		u64 from = max(a, dst), to = min(a + 8, end);

		if (unlikely(is_poisoned(a)))
			mem_touch_poison(from, "write");
		if (x.me && !(w->writers & x.me))
			learn_writer(w);
		if (__real_memcmp((void *)from, (const char *)src + (from - dst), to - from))
			log_word(w, a);
	}
}

void *__wrap_memcpy(void *dst, const void *src, size_t n)
{
	range_read((u64)src, n, PC);
	if (x.mode >= M_RUN && in_arena((u64)dst) && n)
		write_from((u64)dst, src, n, PC);
	return __real_memcpy(dst, src, n);
}

void *__wrap_memmove(void *dst, const void *src, size_t n)
{
	range_read((u64)src, n, PC);
	if (x.mode >= M_RUN && in_arena((u64)dst) && n)
		write_from((u64)dst, src, n, PC);
	return __real_memmove(dst, src, n);
}

void *__wrap_memset(void *dst, int c, size_t n)
{
	u64 bytes = (u8)c * 0x0101010101010101ull;

	if (x.mode >= M_RUN && in_arena((u64)dst)) {
		for (size_t i = 0; i < n;) {
			size_t step = min(8 - (((u64)dst + i) & 7), n - i);

			write_from((u64)dst + i, &bytes, step, PC);
			i += step;
		}
	}
	return __real_memset(dst, c, n);
}

int __wrap_memcmp(const void *a, const void *b, size_t n)
{
	range_read((u64)a, n, PC);
	range_read((u64)b, n, PC);
	return __real_memcmp(a, b, n);
}

/* ---- libraries that read the arena ---- */

/*
 * The swap layer's checksum. Any function of the bytes will do; this one is instrumented by hand
 * (the library reads the bytes where nobody sees it).
 */
u64 __wrap_XXH3_64bits_dispatch(const void *p, size_t n);
u64 __wrap_XXH3_64bits_dispatch(const void *p, size_t n)
{
	const u8 *byte = p;
	u64 h = n, v;
	size_t i;

	range_read((u64)p, n, PC);
	for (i = 0; i + 8 <= n; i += 8) {
		__real_memcpy(&v, byte + i, 8);
		h = mix64(h ^ v) + i;
	}
	for (; i < n; i++)
		h = mix64(h ^ byte[i]);
	return h;
}
