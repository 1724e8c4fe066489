/*
 * Memory calls with Linux's semantics, for ranges that are managed, not managed, or mixed: a range
 * is cut at the bounds of the managed addresses and of what the program mapped there itself, and
 * the pieces are served in address order, as the kernel walks its areas.
 */
#include "run/run.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MANAGED_LEAST (64ul << 10)
#define NOT_MANAGED   (MAP_STACK | MAP_GROWSDOWN | MAP_32BIT | MAP_HUGETLB)
#define ADDRESS_END   (1ul << 47)
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define PIN_VECTOR   2048u
#define SET_VMA      0x53564d41
#define SET_DISPATCH 59

enum kind { NATIVE, FOREIGN, MANAGED };

struct piece {
	u64 start, end;
	enum kind kind;
	quire_space_t *space;
};

static struct run_lock memory_lock;
static u64 brk_now;      /* (memory lock) */
static bool lock_future; /* mlockall(MCL_FUTURE) */

void run_memory_lock(void)
{
	run_lock(&memory_lock);
}

void run_memory_unlock(void)
{
	run_unlock(&memory_lock);
}

static u64 page_up(u64 n)
{
	return ALIGN_UP(n, PAGE_SIZE);
}

/* The piece of [at, end) that begins at `at`. */
static struct piece piece_at(u64 at, u64 end)
{
	struct piece p = { .start = at, .end = end, .kind = NATIVE };
	struct range r[2] = { { run.lo, run.lo + run.size },
			      { run.heap_lo, run.heap_lo + run.heap_size } };
	bool foreign;

	for (int i = 0; i < 2; i++) {
		if (at >= r[i].start && at < r[i].end) {
			p.space = i ? run.heap : run.space;
			p.end = run_foreign_stretch(at, min(end, r[i].end), &foreign);
			p.kind = foreign ? FOREIGN : MANAGED;
			return p;
		}
		if (at < r[i].start && r[i].start < p.end)
			p.end = r[i].start;
	}
	return p;
}

/* ---- mapping ---- */

static int map_flags(u64 flags)
{
	int f = 0;

	if (flags & MAP_POPULATE)
		f |= QUIRE_MAP_POPULATE;
	if ((flags & MAP_LOCKED) || __atomic_load_n(&lock_future, __ATOMIC_RELAXED))
		f |= QUIRE_MAP_LOCKED;
	return f;
}

/* Managed addresses that were foreign become managed and empty again. LOCKING: memory lock. */
static int take_back(quire_space_t *s, u64 start, u64 end)
{
	void *out;
	int e = run_foreign_remove(start, end);

	if (!e)
		e = quire_map(s, (void *)start, end - start, QUIRE_PROT_NONE, QUIRE_MAP_FIXED,
			      &out);
	return e ? e : quire_unmap(s, (void *)start, end - start);
}

/* Whatever is there that is not managed. LOCKING: memory lock. */
static int take_back_all(u64 start, u64 end)
{
	while (start < end) {
		struct piece p = piece_at(start, end);

		if (p.kind == FOREIGN) {
			int e = take_back(p.space, p.start, p.end);

			if (e)
				return e;
		}
		start = p.end;
	}
	return 0;
}

static bool any_foreign(u64 start, u64 end)
{
	while (start < end) {
		struct piece p = piece_at(start, end);

		if (p.kind == FOREIGN)
			return true;
		start = p.end;
	}
	return false;
}

static long map_fixed_managed(quire_space_t *s, const u64 a[6], u64 size)
{
	bool keep = a[3] & MAP_FIXED_NOREPLACE;
	void *out;
	int e;

	if (keep && any_foreign(a[0], a[0] + size))
		return -EEXIST;
	e = take_back_all(a[0], a[0] + size);
	if (!e)
		e = quire_map(s, (void *)a[0], size, (int)a[2] & 7,
			      (keep ? QUIRE_MAP_NOREPLACE : QUIRE_MAP_FIXED) | map_flags(a[3]),
			      &out);
	return e ? e : (long)a[0];
}

/* A file or shared memory at managed addresses: they are given up first, so be sure that it works.
 */
static long map_fixed_foreign(quire_space_t *s, const u64 a[6], u64 size)
{
	u64 anywhere = a[3] & ~(u64)(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_POPULATE | MAP_LOCKED);
	u64 fixed = (a[3] & ~(u64)MAP_FIXED_NOREPLACE) | MAP_FIXED;
	long trial;
	void *out;
	int e;

	if ((a[3] & MAP_FIXED_NOREPLACE) &&
	    (quire_has_area(s, (void *)a[0], size) || any_foreign(a[0], a[0] + size)))
		return -EEXIST;
	trial = RAW(SYS_mmap, 0, a[1], a[2], anywhere, a[4], a[5]);
	if (trial < 0 && trial > -4096)
		return trial;
	RAW(SYS_munmap, trial, size);
	e = run_foreign_add(a[0], a[0] + size);
	if (!e)
		e = quire_map(s, (void *)a[0], size, QUIRE_PROT_NONE,
			      QUIRE_MAP_FIXED | QUIRE_MAP_FOREIGN, &out);
	if (e)
		return e;
	return RAW(SYS_mmap, a[0], a[1], a[2], fixed, a[4], a[5]);
}

static bool call_mmap(const u64 a[6], long *result)
{
	bool anonymous = (a[3] & MAP_ANONYMOUS) && (a[3] & MAP_TYPE) == MAP_PRIVATE;
	u64 size = page_up(a[1]);
	struct piece p;
	void *out;

	if (!a[1] || size < a[1] || size >= ADDRESS_END)
		return false;
	if (a[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (!run_touches(a[0], size))
			return false;
		p = piece_at(a[0], a[0] + size);
		if (a[0] & ~PAGE_MASK) {
			*result = -EINVAL;
			return true;
		}
		if (p.kind == NATIVE ||
		    a[0] + size > (p.space == run.heap ? run.heap_lo + run.heap_size :
							 run.lo + run.size)) {
			*result = -ENOMEM; /* over the edge of a region that only we can have handed
					      out */
			return true;
		}
		run_memory_lock();
		*result = anonymous && !(a[3] & (MAP_GROWSDOWN | MAP_HUGETLB)) ?
				  map_fixed_managed(p.space, a, size) :
				  map_fixed_foreign(p.space, a, size);
		run_memory_unlock();
		return true;
	}
	if (!anonymous || (a[3] & NOT_MANAGED) || (a[2] & ~3ul) || size < MANAGED_LEAST)
		return false;
	out = a[0] - run.lo < run.size ? (void *)(a[0] & PAGE_MASK) : NULL;
	/* Full: the program gets memory that is not managed rather than none. */
	if (quire_map(run.space, out, size, (int)a[2], map_flags(a[3]), &out))
		return false;
	*result = (long)out;
	return true;
}

/* ---- calls on a range ---- */

static int piece_call(const struct piece *p, u64 nr, u64 arg)
{
	void *at = (void *)p->start;
	u64 size = p->end - p->start;

	switch (nr) {
	case SYS_munmap:
		return quire_unmap(p->space, at, size);
	case SYS_mprotect:
		return quire_protect(p->space, at, size, (int)arg);
	case SYS_madvise:
		return quire_advise(p->space, at, size, (int)arg);
	case SYS_mlock:
		return quire_mlock(p->space, at, size, (int)arg);
	default:
		return quire_munlock(p->space, at, size);
	}
}

static long native_call(const struct piece *p, u64 nr, u64 arg)
{
	if (nr == SYS_munmap && p->kind == FOREIGN)
		return take_back(p->space, p->start, p->end);
	if (nr == SYS_mlock && arg)
		return RAW(SYS_mlock2, p->start, p->end - p->start, arg);
	return RAW(nr, p->start, p->end - p->start, arg);
}

/*
 * Stops at the first error, except madvise, which goes on over holes and says so at the end, and
 * mprotect's holes, where the kernel stops too.
 */
static long over_pieces(u64 start, u64 end, u64 nr, u64 arg)
{
	bool locked = run_foreign_any();
	long result = 0;

	if (locked)
		run_memory_lock();
	while (start < end) {
		struct piece p = piece_at(start, end);
		long e = p.kind == MANAGED ? piece_call(&p, nr, arg) : native_call(&p, nr, arg);

		if (e && !(nr == SYS_madvise && e == -ENOMEM)) {
			result = e;
			break;
		}
		if (e)
			result = e;
		start = p.end;
	}
	if (locked)
		run_memory_unlock();
	return result;
}

/* The arguments' own rules, which hold before anything is looked up. */
static bool call_range(u64 nr, const u64 a[6], u64 arg, long *result)
{
	u64 start = a[0], size = page_up(a[1]);

	if (nr == SYS_mlock || nr == SYS_munlock) {
		start = a[0] & PAGE_MASK;
		size = page_up(a[1] + (a[0] - start));
	}
	if (!run_touches(start, size ? size : 1))
		return false;
	*result = -EINVAL;
	if ((start & ~PAGE_MASK) || (a[1] && !size) || start + size < start)
		return true;
	if (!size) {
		*result = nr == SYS_munmap ? -EINVAL : 0;
		return true;
	}
	*result = over_pieces(start, start + size, nr, arg);
	return true;
}

static bool may_lock(u64 bytes)
{
	struct rlimit limit;

	if (!RAW(SYS_geteuid))
		return true;
	if (RAW(SYS_prlimit64, 0, RLIMIT_MEMLOCK, 0, &limit))
		return true;
	return bytes <= limit.rlim_cur;
}

static bool call_mlock(const u64 a[6], u64 flags, long *result)
{
	if (!run_touches(a[0], a[1]))
		return false;
	if (flags & ~1ul) {
		*result = -EINVAL;
		return true;
	}
	if (!may_lock(a[1])) {
		*result = -ENOMEM;
		return true;
	}
	return call_range(SYS_mlock, a, flags, result);
}

/*
 * The kernel must not lock our addresses: its populating would meet pages that only we can bring,
 * and locked ones cannot be given back. Managed memory is locked by us, the rest is left as it is.
 */
static long call_mlockall(u64 flags)
{
	struct quire_stats st = { .size = sizeof(st) };

	if (!flags || (flags & ~7ul) || flags == MCL_ONFAULT)
		return -EINVAL;
	quire_stats_get(run.q, &st);
	if ((flags & MCL_CURRENT) && !may_lock(st.managed_bytes))
		return -ENOMEM;
	if (flags & MCL_FUTURE)
		__atomic_store_n(&lock_future, true, __ATOMIC_RELAXED);
	if (!(flags & MCL_CURRENT))
		return 0;
	/* Holes make it say ENOMEM after the work is done. */
	quire_mlock(run.space, (void *)run.lo, run.size, !!(flags & MCL_ONFAULT));
	if (run.heap)
		quire_mlock(run.heap, (void *)run.heap_lo, run.heap_size, !!(flags & MCL_ONFAULT));
	return 0;
}

static long call_munlockall(void)
{
	__atomic_store_n(&lock_future, false, __ATOMIC_RELAXED);
	quire_munlock(run.space, (void *)run.lo, run.size);
	if (run.heap)
		quire_munlock(run.heap, (void *)run.heap_lo, run.heap_size);
	return RAW(SYS_munlockall);
}

/* Residence in chunks through a buffer of ours: the program's vector may itself be managed. */
static long mincore_piece(const struct piece *p, u64 vec)
{
	u8 bits[PIN_VECTOR];

	for (u64 at = p->start; at < p->end;) {
		u64 size = min(p->end - at, (u64)PIN_VECTOR * PAGE_SIZE);
		long e = p->kind == MANAGED ? quire_mincore(p->space, (void *)at, size, bits) :
					      RAW(SYS_mincore, at, size, bits);

		if (e)
			return e;
		if (!run_put(vec + (at - p->start) / PAGE_SIZE, bits, size / PAGE_SIZE))
			return -EFAULT;
		at += size;
	}
	return 0;
}

static bool call_mincore(const u64 a[6], u64 vec, long *result)
{
	u64 size = page_up(a[1]);

	if (!run_touches(a[0], a[1]))
		return false;
	*result = -EINVAL;
	if (a[0] & ~PAGE_MASK)
		return true;
	*result = -ENOMEM;
	if (a[0] + size < a[0])
		return true;
	for (u64 at = a[0]; at < a[0] + size;) {
		struct piece p = piece_at(at, a[0] + size);

		*result = mincore_piece(&p, vec + (at - a[0]) / PAGE_SIZE);
		if (*result)
			return true;
		at = p.end;
	}
	return true;
}

/* Anonymous memory has nothing to write back: it only has to be mapped. Holes are told at the end.
 */
static bool call_msync(const u64 a[6], long *result)
{
	u64 size = page_up(a[1]);

	if (!run_touches(a[0], size))
		return false;
	*result = -EINVAL;
	if ((a[0] & ~PAGE_MASK) || (a[2] & ~7ul) ||
	    (a[2] & (MS_ASYNC | MS_SYNC)) == (MS_ASYNC | MS_SYNC))
		return true;
	*result = 0;
	for (u64 at = a[0]; at < a[0] + size;) {
		struct piece p = piece_at(at, a[0] + size);
		u8 bits[PIN_VECTOR];
		long e = 0;

		for (u64 s = p.start; p.kind == MANAGED && s < p.end && !e;
		     s += sizeof(bits) * PAGE_SIZE)
			e = quire_mincore(p.space, (void *)s,
					  min(p.end - s, sizeof(bits) * PAGE_SIZE), bits);
		if (p.kind != MANAGED)
			e = RAW(SYS_msync, p.start, p.end - p.start, a[2]);
		if (e)
			*result = e;
		if (e && e != -ENOMEM)
			return true;
		at = p.end;
	}
	return true;
}

/* ---- mremap ---- */

/* Out of the managed addresses to a place that the program chose: the bytes are copied there. */
static long remap_out(const struct piece *from, const u64 a[6], u64 old_size, u64 new_size)
{
	long at = RAW(SYS_mmap, a[4], new_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (at < 0 && at > -4096)
		return at;
	if (!run_put((u64)at, (void *)a[0], min(old_size, new_size)))
		return -EFAULT;
	if (!(a[3] & MREMAP_DONTUNMAP))
		quire_unmap(from->space, (void *)a[0], old_size);
	else
		quire_advise(from->space, (void *)a[0], old_size, MADV_DONTNEED);
	return at;
}

/* Into the managed addresses, of something that is not managed. LOCKING: memory lock. */
static long remap_in(const u64 a[6], u64 new_size)
{
	struct piece to = piece_at(a[4], a[4] + new_size);
	void *out;
	int e = run_foreign_add(a[4], a[4] + new_size);

	if (!e)
		e = quire_map(to.space, (void *)a[4], new_size, QUIRE_PROT_NONE,
			      QUIRE_MAP_FIXED | QUIRE_MAP_FOREIGN, &out);
	return e ? e : RAW(SYS_mremap, a[0], a[1], a[2], a[3], a[4]);
}

/* What the program mapped into our addresses moves or shrinks: the hole is ours again. */
static long remap_foreign(const struct piece *p, const u64 a[6], u64 old_size, u64 new_size)
{
	bool to_ours = (a[3] & MREMAP_FIXED) && run_managed(a[4]);
	long at = to_ours ? remap_in(a, new_size) : RAW(SYS_mremap, a[0], a[1], a[2], a[3], a[4]);

	if (at < 0 && at > -4096)
		return at;
	if ((u64)at != a[0] && !(a[3] & MREMAP_DONTUNMAP))
		take_back(p->space, a[0], a[0] + old_size);
	else if (new_size < old_size)
		take_back(p->space, a[0] + new_size, a[0] + old_size);
	return at;
}

static bool call_mremap(const u64 a[6], long *result)
{
	u64 old_size = page_up(a[1]), new_size = page_up(a[2]);
	bool fixed = a[3] & MREMAP_FIXED;
	bool to_ours = fixed && run_touches(a[4], new_size ? new_size : 1);
	struct piece p;
	void *out;

	if (!run_managed(a[0]) && !to_ours)
		return false;
	*result = -EINVAL;
	if ((a[0] & ~PAGE_MASK) || !new_size || (fixed && (a[4] & ~PAGE_MASK)) ||
	    (a[3] & ~(u64)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) ||
	    (fixed && !(a[3] & MREMAP_MAYMOVE)))
		return true;
	if (fixed && a[0] < a[4] + new_size && a[4] < a[0] + old_size)
		return true;
	p = piece_at(a[0], a[0] + max(old_size, (u64)PAGE_SIZE));
	run_memory_lock();
	if (p.kind == NATIVE) {
		*result = remap_in(a, new_size);
	} else if (p.kind == FOREIGN) {
		*result = remap_foreign(&p, a, old_size, new_size);
	} else if (fixed && !to_ours) {
		run_memory_unlock(); /* it copies the program's bytes */
		*result = remap_out(&p, a, old_size, new_size);
		return true;
	} else {
		int e = fixed ? take_back_all(a[4], a[4] + new_size) : 0;
		u64 flags = a[3];

		if (p.space == run.heap && !fixed)
			flags &= ~(u64)MREMAP_MAYMOVE; /* the heap's addresses are brk's */
		if (!e)
			e = quire_remap(p.space, (void *)a[0], a[1], a[2], (int)flags, (void *)a[4],
					&out);
		*result = e ? e : (long)out;
	}
	run_memory_unlock();
	return true;
}

/* ---- the break ---- */

static bool call_brk(u64 to, long *result)
{
	u64 end = run.heap_lo + run.heap_size;
	u64 old_top, new_top;
	void *out;

	if (!run.heap)
		return false;
	run_memory_lock();
	if (to >= run.heap_lo && to <= end) {
		old_top = page_up(brk_now);
		new_top = page_up(to);
		if (new_top > old_top &&
		    quire_map(run.heap, (void *)old_top, new_top - old_top, PROT_READ | PROT_WRITE,
			      QUIRE_MAP_FIXED | map_flags(0), &out))
			to = brk_now;
		if (new_top < old_top)
			quire_unmap(run.heap, (void *)new_top, old_top - new_top);
		brk_now = to;
	}
	*result = (long)brk_now;
	run_memory_unlock();
	return true;
}

u64 run_brk_start(void)
{
	return brk_now;
}

void run_memory_init(void)
{
	brk_now = run.heap_lo;
}

bool run_memory_call(struct run_thread *t, u64 nr, const u64 a[6], long *result)
{
	(void)t;
	switch (nr) {
	case SYS_mmap:
		return call_mmap(a, result);
	case SYS_brk:
		return call_brk(a[0], result);
	case SYS_munmap:
	case SYS_munlock:
		return call_range(nr, a, 0, result);
	case SYS_pkey_mprotect:
		if ((long)(int)a[3] != -1) {
			*result = -EINVAL;
			return run_touches(a[0], a[1]);
		}
		return call_range(SYS_mprotect, a, a[2], result);
	case SYS_mprotect:
	case SYS_madvise:
		return call_range(nr, a, a[2], result);
	case SYS_mlock:
		return call_mlock(a, 0, result);
	case SYS_mlock2:
		return call_mlock(a, a[2], result);
	case SYS_mlockall:
		*result = call_mlockall(a[0]);
		return true;
	case SYS_munlockall:
		*result = call_munlockall();
		return true;
	case SYS_mincore:
		return call_mincore(a, a[2], result);
	case SYS_msync:
		return call_msync(a, result);
	case SYS_mremap:
		return call_mremap(a, result);
	case SYS_mbind:
		*result = 0; /* placement of managed pages is not the kernel's */
		return run_touches(a[0], a[1]);
	case SYS_prctl:
		if (a[0] == SET_DISPATCH) {
			*result = -EINVAL; /* it is ours */
			return true;
		}
		*result = 0; /* naming a part would cut the kernel's mapping in pieces */
		return a[0] == SET_VMA && run_touches(a[2], a[3]);
	case SYS_shmat:
		*result = -EINVAL;
		return a[1] && run_managed(a[1]);
	default:
		return false;
	}
}
