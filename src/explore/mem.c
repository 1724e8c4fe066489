/*
 * mem.c - the arena: allocation, poison, the log of old values, the hash of memory.
 *
 * Each actor allocates from a share of its own, so that the addresses that it gets do not depend on
 * what others do at the same time: orders that differ in nothing else then lead to equal states.
 */
#include "explore/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct engine x;

/* For mem_verify: the arena as it was when the last step ended, and the end of each share then. */
static u64 *copy;
static u64 copy_end[X_MAX_ACTORS + 1];

static void *map_at(u64 addr, u64 bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *p = mmap((void *)addr, bytes, PROT_READ | PROT_WRITE,
		       flags | (addr ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	if (p == MAP_FAILED || (addr && (u64)p != addr)) {
		fprintf(stderr, "explore: no %lu MiB of addresses at %#lx\n", bytes >> 20, addr);
		exit(3);
	}
	return p;
}

void mem_open(void)
{
	if (x.words)
		return;
	map_at(X_BASE, X_ARENA_BYTES + X_MAX_ACTORS * X_STACK_BYTES);
	for (u32 i = 0; i < X_MAX_ACTORS; i++)
		mprotect((void *)(X_STACKS + i * X_STACK_BYTES), PAGE_SIZE, PROT_NONE);
	x.words = map_at(0, X_ARENA_BYTES / 8 * sizeof(struct xword));
	x.poison = map_at(0, X_ARENA_BYTES / 8);
}

static void alloc_init(void)
{
	x.run->alloc_next[X_MAX_ACTORS] = X_BASE + ALIGN_UP(sizeof(*x.run), 64);
	for (u32 i = 0; i < X_MAX_ACTORS; i++)
		x.run->alloc_next[i] = X_BASE + X_SETUP_BYTES + i * X_SHARE_BYTES;
}

void mem_reset(void)
{
	madvise((void *)X_BASE, X_ARENA_BYTES + X_MAX_ACTORS * X_STACK_BYTES, MADV_DONTNEED);
	madvise(x.words, X_ARENA_BYTES / 8 * sizeof(struct xword), MADV_DONTNEED);
	madvise(x.poison, X_ARENA_BYTES / 8, MADV_DONTNEED);
	memset(copy_end, 0, sizeof(copy_end));
	x.nr_log = 0;
	x.stamp = 1;
	x.mem = (struct hash128){ 0, 0 };
	x.run = (struct xrun *)X_BASE;
	alloc_init();
}

void mem_log_grow(void)
{
	x.cap_log = x.cap_log ? x.cap_log * 2 : 1u << 16;
	x.log = realloc(x.log, x.cap_log * sizeof(*x.log));
	if (!x.log) {
		fprintf(stderr, "explore: out of memory\n");
		exit(3);
	}
}

/* ---- allocation ---- */

static u32 share_self(void)
{
	return x.mode == M_RUN ? x.self : X_MAX_ACTORS;
}

static u64 share_end(u32 share)
{
	return X_BASE + X_SETUP_BYTES + (share < X_MAX_ACTORS ? (share + 1) * X_SHARE_BYTES : 0);
}

void *x_alloc(size_t bytes, size_t align)
{
	u32 share = share_self();
	u64 at = ALIGN_UP(x.run->alloc_next[share], max(align, (size_t)16));
	/* A gap between objects, so that running over one's end meets poison. */
	u64 end = ALIGN_UP(at + bytes, 16ul);

	if (end + 16 > share_end(share))
		x_fail("the explorer's arena is full (%zu bytes wanted)", bytes);
	run_set64(&x.run->alloc_next[share], end + 16);
	x_poison((void *)end, 16);
	return (void *)at;
}

/* All words of a range, in pieces that are alike so far: each is one entry of the log. */
static void poison_set(u64 addr, u64 bytes, bool poison)
{
	u64 i = (addr - X_BASE) >> 3, end = (addr + bytes - X_BASE + 7) >> 3;

	while (i < end) {
		u64 from = i, at = X_BASE + from * 8;

		while (i < end && x.poison[i] != poison)
			i++;
		if (i == from) {
			i++;
			continue;
		}
		memset(&x.poison[from], poison, i - from);
		hash_xor(&x.mem, mix128(at | 1, i - from));
		if (x.mode == M_SETUP)
			continue;
		if (x.nr_log == x.cap_log)
			mem_log_grow();
		x.log[x.nr_log++] = (struct undo){ (u64 *)(at | 1), (i - from) << 1 | !poison };
	}
}

void x_poison(void *p, size_t bytes)
{
	poison_set((u64)p, bytes, true);
}

void x_unpoison(void *p, size_t bytes)
{
	poison_set((u64)p, bytes, false);
}

void x_free(void *p, size_t bytes)
{
	for (u64 i = 0; i < bytes; i += 8) {
		if (is_poisoned((u64)p + i))
			x_fail("freed twice: %zu bytes at %#lx", bytes, (u64)p - X_BASE);
	}
	x_poison(p, bytes);
	if (unlikely(x.racing))
		race_plain((u64)p, bytes, true, (u64)__builtin_return_address(0));
}

bool x_in_arena(const void *p)
{
	return in_arena((u64)p);
}

void x_unhashed(void *p, size_t bytes)
{
	for (u64 i = 0; i < bytes; i += 8)
		word_of((u64)p + i)->flags |= W_UNHASHED;
}

void x_unraced(void *p, size_t bytes)
{
	for (u64 i = 0; i < bytes; i += 8)
		word_of((u64)p + i)->flags |= W_UNRACED;
}

void mem_touch_poison(u64 addr, const char *how)
{
	x_fail("use after free: %s at %#lx", how, addr - X_BASE);
}

/* ---- ranges ---- */

void mem_write_all(u64 addr, u64 bytes)
{
	u64 end = addr + bytes;

	for (u64 a = addr & ~7ul; a < end; a += 8) {
		struct xword *w = word_of(a);

		if (unlikely(is_poisoned(a)))
			mem_touch_poison(a, "write");
		if (x.me && !(w->writers & x.me))
			learn_writer(w);
		log_word(w, a);
	}
}

void mem_read_all(u64 addr, u64 bytes)
{
	u64 end = addr + bytes;

	for (u64 a = addr & ~7ul; a < end; a += 8) {
		struct xword *w = word_of(a);

		if (unlikely(is_poisoned(a)))
			mem_touch_poison(a, "read");
		if (!x.me)
			continue;
		if (!(w->readers & x.me))
			learn_reader(w);
		if (w->writers & ~x.me)
			observe(*(u64 *)a);
	}
}

void x_will_write(void *p, size_t bytes)
{
	if ((x.mode == M_RUN || x.mode == M_CHECK) && in_arena((u64)p))
		mem_write_all((u64)p, bytes);
}

/* ---- the proof that nothing is written behind the log's back ---- */

static u64 share_start(u32 share)
{
	return share < X_MAX_ACTORS ? X_BASE + X_SETUP_BYTES + share * X_SHARE_BYTES : X_BASE;
}

/* Compares a share with the copy and brings that up to date; `logged`: the log has what differs. */
static void compare_share(u32 share, bool logged)
{
	u64 end = max(x.run->alloc_next[share], copy_end[share]);

	for (u64 a = share_start(share); a < end; a += 8) {
		u64 *was = &copy[(a - X_BASE) / 8];

		if (*was == *(u64 *)a)
			continue;
		if (!logged || word_of(a)->stamp != x.stamp) {
			snprintf(x.message, sizeof(x.message),
				 "%#lx was written without instrumentation: %#lx, was %#lx",
				 a - X_BASE, *(u64 *)a, *was);
			x.failed = true;
		}
		*was = *(u64 *)a;
	}
	copy_end[share] = end;
}

void mem_verify_begin(void)
{
	if (!copy)
		copy = map_at(0, X_ARENA_BYTES);
	if (!copy_end[X_MAX_ACTORS]) {
		madvise(copy, X_ARENA_BYTES, MADV_DONTNEED);
		for (u32 i = 0; i <= X_MAX_ACTORS; i++) {
			copy_end[i] = x.run->alloc_next[i];
			memcpy(copy + (share_start(i) - X_BASE) / 8, (void *)share_start(i),
			       copy_end[i] - share_start(i));
		}
	}
	/* Undone is undone. */
	for (u32 i = 0; i <= X_MAX_ACTORS; i++)
		compare_share(i, false);
}

void mem_verify_step(void)
{
	for (u32 i = 0; i <= X_MAX_ACTORS; i++)
		compare_share(i, true);
}

/* The run was undone: what it wrote is as it was. */
void mem_verify_rewind(void)
{
	for (u64 i = x.nr_log; copy && i--;) {
		u64 addr = (u64)x.log[i].addr;

		if (!(addr & 1))
			copy[(addr - X_BASE) / 8] = x.log[i].old;
	}
}

/* ---- undo and hash ---- */

/*
 * An actor that yielded goes on when somebody has changed what it may read. Private words of
 * others do not count: they would only let it look again in vain.
 */
static void retry_wakes(const struct xword *w)
{
	for (u32 p = 0; p < x.nr; p++) {
		if (p == x.self || !(w->readers & x.yielders & BIT(p)))
			continue;
		if (x.collect)
			footprint_add(x.collect, (u64)&x.run->may_retry[p], 8, BASE_COUNT, 0);
		if (x.actor[p].op.kind == OP_YIELD && !x.run->may_retry[p])
			run_set64(&x.run->may_retry[p], 1);
	}
}

void mem_step_end(u64 log_from)
{
	bool progress = false;

	/* retry_wakes lengthens the log: those entries count too. */
	for (u64 i = log_from; i < x.nr_log; i++) {
		u64 addr = (u64)x.log[i].addr;
		struct xword *w;
		u64 now;

		if (addr & 1)
			continue;
		now = *(u64 *)addr;
		w = word_of(addr);
		if (now == x.log[i].old || (w->flags & W_UNHASHED))
			continue;
		hash_xor(&x.mem, mix128(addr, x.log[i].old));
		hash_xor(&x.mem, mix128(addr, now));
		if (addr >= X_BASE + sizeof(*x.run) && (w->readers & ~BIT(x.self))) {
			retry_wakes(w);
			progress = true;
		}
	}
	if (progress && x.run->retries) {
		u64 addr = (u64)&x.run->retries;

		hash_xor(&x.mem, mix128(addr, x.run->retries));
		hash_xor(&x.mem, mix128(addr, 0));
		run_set64(&x.run->retries, 0);
	}
}

void mem_undo(u64 log_to)
{
	while (x.nr_log > log_to) {
		struct undo *u = &x.log[--x.nr_log];
		u64 addr = (u64)u->addr;

		if (addr & 1) {
			memset(&x.poison[(addr - X_BASE) >> 3], (int)(u->old & 1), u->old >> 1);
		} else {
			*u->addr = u->old;
		}
	}
}
