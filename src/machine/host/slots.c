/*
 * Pools: pages of each node that are moved about instead of given back, and the addresses at which
 * they lie meanwhile.
 *
 * A slot is an address of `slots`; each node has POOL_SLOTS of them. It is
 *   empty: there is no page;
 *   full: there is one whose bytes nobody wants: the next that are to be in memory of this node are
 *     written there, and no page is made for them;
 *   claimed: somebody's, for the length of a call, or as long as it holds a parked page's bytes;
 *   stale: empty, but a core read that began before may still look there, and must not find
 *     another page's bytes.
 * Full ones are bounded: POOL_PAGES of a node. A claim takes neighbours, for one system call, and
 * the lowest that fit, so that what is in use stays together.
 *
 * Correctness never depends on a page being there: an empty slot that is written to gets one, and
 * one that is found where none should be is thrown away.
 * Locking: a pool's lock (LOCK_MACHINE) for its bits, never held over a system call. A claimed slot
 * is its owner's.
 */
#include "machine/host/host_internal.h"

#include <string.h>
#include <sys/mman.h>

#define SLOT_BYTES ((u64)POOL_SLOTS << PAGE_SHIFT)

static bool bit(const u64 *bits, u32 i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void set_bits(u64 *bits, u32 first, u32 n, bool on)
{
	while (n) {
		u32 at = first % 64, here = min(n, 64 - at);
		u64 mask = (here == 64 ? ~0ull : BIT(here) - 1) << at;

		bits[first / 64] = on ? bits[first / 64] | mask : bits[first / 64] & ~mask;
		first += here;
		n -= here;
	}
}

/* The first run of nr bits that are set (in the complement, if so said), or else the longest. */
static u32 find_run(const u64 *bits, bool complement, u32 words, u32 nr, u32 *first)
{
	u32 best = 0, run = 0, start = 0;

	for (u32 w = 0; w < words && best < nr; w++) {
		u64 v = complement ? ~bits[w] : bits[w];

		for (u32 b = 0; b < 64 && best < nr;) {
			u64 rest = v >> b;
			u32 skip = rest ? (u32)__builtin_ctzll(rest) : 64 - b, ones;

			if (skip) {
				run = 0;
				b += skip;
				continue;
			}
			ones = ~rest ? min((u32)__builtin_ctzll(~rest), 64 - b) : 64;
			if (!run)
				start = w * 64 + b;
			run += ones;
			b += ones;
			if (run > best) {
				best = run;
				*first = start;
			}
		}
	}
	return min(best, nr);
}

static struct slot_pool *pool_of(struct host *h, u32 slot, u32 *index)
{
	*index = slot % POOL_SLOTS;
	return &h->pool[slot / POOL_SLOTS];
}

/* LOCKING: the pool's. */
static void wake_stale(struct host *h, struct slot_pool *p)
{
	if (!p->nr_stale || host_readers_any(h))
		return;
	for (u32 w = 0; w < POOL_WORDS; w++) {
		p->taken[w] &= ~p->stale[w];
		p->stale[w] = 0;
	}
	p->nr_claimed -= p->nr_stale;
	p->nr_stale = 0;
}

u32 slots_claim(struct host *h, unsigned node, bool full, u32 nr, u32 *slot)
{
	struct slot_pool *p = &h->pool[node];
	u32 n = 0, first = 0;

	mutex_lock(&p->lock);
	if (full && p->nr_full) {
		n = find_run(p->full, false, p->words, nr, &first);
		set_bits(p->full, first, n, false);
		p->nr_full -= n;
	} else if (!full) {
		wake_stale(h, p);
		/* Behind what is in use there is always room for nr, until there is no more. */
		n = find_run(p->taken, true, min(p->words + PTRS_PER_TABLE / 64 + 1, POOL_WORDS),
			     nr, &first);
		set_bits(p->taken, first, n, true);
		p->words = max(p->words, (first + n + 63) / 64);
	}
	p->nr_claimed += n;
	mutex_unlock(&p->lock);
	*slot = node * POOL_SLOTS + first;
	return n;
}

bool slots_crowded(struct host *h, unsigned node)
{
	struct slot_pool *p = &h->pool[node];
	bool crowded;

	mutex_lock(&p->lock);
	crowded = p->nr_claimed > POOL_RESTING;
	mutex_unlock(&p->lock);
	return crowded;
}

u32 slots_room(struct host *h, unsigned node)
{
	struct slot_pool *p = &h->pool[node];
	u32 room;

	mutex_lock(&p->lock);
	room = h->has_vm_copy ? POOL_PAGES - p->nr_full : 0;
	mutex_unlock(&p->lock);
	return room;
}

void slots_put(struct host *h, u32 slot, u32 n)
{
	u32 index;
	struct slot_pool *p = pool_of(h, slot, &index);

	mutex_lock(&p->lock);
	set_bits(p->taken, index, n, false);
	p->nr_claimed -= n;
	mutex_unlock(&p->lock);
}

/* Keeps as many as the bound allows; how many. */
static u32 keep(struct host *h, u32 slot, u32 n)
{
	u32 index, kept;
	struct slot_pool *p = pool_of(h, slot, &index);

	mutex_lock(&p->lock);
	kept = h->has_vm_copy ? min(n, POOL_PAGES - p->nr_full) : 0;
	set_bits(p->full, index, kept, true);
	p->nr_full += kept;
	p->nr_claimed -= kept;
	mutex_unlock(&p->lock);
	return kept;
}

static void discard(struct host *h, u32 slot, u32 n)
{
	host_discard(slot_va(h, slot), (u64)n << PAGE_SHIFT);
	slots_put(h, slot, n);
}

void slots_recycle(struct host *h, u32 slot, u32 n)
{
	u64 elsewhere[PTRS_PER_TABLE / 64];

	for (u32 i = 0, run; i < n; i += run) {
		u32 part = min(n - i, (u32)PTRS_PER_TABLE), kept;

		run = part;
		if (h->has_physical &&
		    nodes_misplaced(h, slot_va(h, slot + i), part, slot / POOL_SLOTS, elsewhere)) {
			bool wrong = bit(elsewhere, 0);

			for (run = 1; run < part && bit(elsewhere, run) == wrong; run++)
				;
			if (wrong) {
				discard(h, slot + i, run);
				continue;
			}
		}
		kept = keep(h, slot + i, run);
		if (kept < run)
			discard(h, slot + i + kept, run - kept);
	}
}

/*
 * The bytes are void and nobody finds the way to them any more, but a core read may have begun
 * before: it reads zeroes, until its bracket ends.
 */
void slots_drop(struct host *h, u32 slot, u32 n)
{
	u32 index;
	struct slot_pool *p = pool_of(h, slot, &index);

	host_discard(slot_va(h, slot), (u64)n << PAGE_SHIFT);
	smp_mb(); /* the parked words were cleared before the readers are counted */
	mutex_lock(&p->lock);
	if (host_readers_any(h)) {
		set_bits(p->stale, index, n, true);
		p->nr_stale += n;
	} else {
		set_bits(p->taken, index, n, false);
		p->nr_claimed -= n;
	}
	mutex_unlock(&p->lock);
}

u32 slots_next_claimed(struct host *h, u32 *slot)
{
	for (u32 s = *slot; s < h->m.nr_nodes * POOL_SLOTS; s++) {
		u32 index, n = 0;
		struct slot_pool *p = pool_of(h, s, &index);

		if (index >= p->words * 64) { /* the next pool */
			s += POOL_SLOTS - index - 1;
			continue;
		}
		while (index + n < p->words * 64 && bit(p->taken, index + n) &&
		       !bit(p->full, index + n) && !bit(p->stale, index + n))
			n++;
		if (n) {
			*slot = s;
			return n;
		}
	}
	return 0;
}

u64 slots_full(struct host *h)
{
	u64 n = 0;

	for (u32 i = 0; h->slots && i < h->m.nr_nodes; i++) {
		mutex_lock(&h->pool[i].lock);
		n += h->pool[i].nr_full;
		mutex_unlock(&h->pool[i].lock);
	}
	return n;
}

/* ---- bytes ---- */
/*
 * By the kernel, which has all pages mapped for itself. For us each of them was mapped anew when it
 * was moved, and the first access through that costs as much as ten copies where the page tables
 * are a hypervisor's work.
 */
static long vm_copy(struct host *h, long call, u64 at, const void *buf, u32 n)
{
	struct iovec ours = { (void *)(uintptr_t)buf, (u64)n << PAGE_SHIFT };
	struct iovec theirs = { (void *)(uintptr_t)at, (u64)n << PAGE_SHIFT };
	long done = native_syscall(call, (long)a32_read(&h->pid), &ours, 1l, &theirs, 1l, 0l);

	if (done == -ESRCH) /* the process's first thread has ended, or this is a child of fork */
		done = native_syscall(call, native_syscall(SYS_gettid), &ours, 1l, &theirs, 1l, 0l);
	return done;
}

int slots_write(struct host *h, u64 to, const void *from, u32 n)
{
	long done = vm_copy(h, SYS_process_vm_writev, to, from, n);

	return done == (long)n << PAGE_SHIFT ? 0 : -ENOMEM;
}

int slots_read(struct host *h, void *to, u64 from, u32 n)
{
	u64 size = (u64)n << PAGE_SHIFT;

	/* An area that forbids reading is met by an error. */
	if (h->has_vm_copy)
		return vm_copy(h, SYS_process_vm_readv, from, to, n) == (long)size ? 0 : -ENOMEM;
	memcpy(to, (const void *)(uintptr_t)from, size);
	return 0;
}

/* ---- making it ---- */
static void take_pid(struct host *h)
{
	a32_set(&h->pid, (u32)native_syscall(SYS_getpid));
}

int slots_init(struct host *h)
{
	u64 size = h->m.nr_nodes * SLOT_BYTES;
	int err = 0;

	h->slots = sys_reserve(size, PROT_READ | PROT_WRITE);
	if (!h->slots)
		return -ENOMEM;
	take_pid(h);
	sys_madvise(h->slots, size, MADV_NOHUGEPAGE); /* fails only where there are none */
	sys_madvise(h->slots, size, MADV_DONTDUMP);
	for (u32 i = 0; i < h->m.nr_nodes && !err; i++) {
		mutex_init(&h->pool[i].lock, LOCK_MACHINE);
		err = nodes_bind(h, h->slots + i * SLOT_BYTES, SLOT_BYTES, i);
		/* One at a time: policies make mappings of their own. */
		if (!err)
			err = uffd_register_kept(h, h->slots + i * SLOT_BYTES, SLOT_BYTES);
	}
	/* Forbidden by some containers: then pages that are left behind are of no use. */
	h->has_vm_copy = !err && !slots_write(h, h->slots, h->zeroes, 1);
	host_discard(h->slots, PAGE_SIZE);
	return err;
}

void slots_fini(struct host *h)
{
	if (h->slots)
		native_syscall(SYS_munmap, h->slots, h->m.nr_nodes * SLOT_BYTES);
}

/* The kernel has copied them like all memory, parked bytes too. What nobody wants goes. */
int slots_forked_child(struct host *h)
{
	int err = 0;

	take_pid(h);
	for (u32 i = 0; h->slots && i < h->m.nr_nodes && !err; i++) {
		struct slot_pool *p = &h->pool[i];

		mutex_init(&p->lock, LOCK_MACHINE);
		err = uffd_register_kept(h, h->slots + i * SLOT_BYTES, SLOT_BYTES);
		for (u32 first = 0, n; p->nr_full; p->nr_full -= n) {
			n = find_run(p->full, false, p->words, p->nr_full, &first);
			set_bits(p->full, first, n, false);
			set_bits(p->taken, first, n, false);
			host_discard(slot_va(h, i * POOL_SLOTS + first), (u64)n << PAGE_SHIFT);
		}
		wake_stale(h, p);
	}
	return err;
}
