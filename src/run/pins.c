/*
 * Pins of one call, and copies from and to the program.
 *
 * A pin that fails leaves its page to the kernel: the call sees EFAULT, or stops short, exactly
 * where it would natively, because everything before that page is resident.
 */
#include "run/run.h"

static u64 min64(u64 a, u64 b)
{
	return a < b ? a : b;
}

static bool meets(u64 addr, u64 size, u64 lo, u64 len)
{
	return len && addr < lo + len && (addr + size > lo || addr + size < addr);
}

bool run_touches(u64 addr, u64 size)
{
	if (!size)
		return false;
	return meets(addr, size, run.lo, run.size) || meets(addr, size, run.heap_lo, run.heap_size);
}

static quire_space_t *space_of(u64 addr)
{
	return addr - run.lo < run.size ? run.space : run.heap;
}

/* [addr, addr + size) lies inside the addresses of one space. */
static void pin_inside(struct run_thread *t, quire_space_t *s, u64 addr, u64 size, bool write)
{
	u64 end = addr + size;

	while (addr < end && t->nr_pins < RUN_MAX_PINS) {
		long n = quire_pin(s, (void *)addr, end - addr,
				   write ? QUIRE_PIN_WRITE : QUIRE_PIN_READ);

		if (n > 0) {
			t->pin[t->nr_pins].addr = addr;
			t->pin[t->nr_pins].size = (u64)n;
			/* A fork in another thread reads both: the count last. */
			__atomic_store_n(&t->nr_pins, t->nr_pins + 1, __ATOMIC_RELEASE);
			addr += (u64)n;
			continue;
		}
		/* A hole, or something of the program's own: what is behind it may still be
		 * managed. */
		addr = (addr & PAGE_MASK) + PAGE_SIZE;
		if (!quire_has_area(s, (void *)addr, end > addr ? end - addr : 0))
			return;
	}
}

void run_pin(struct run_thread *t, u64 addr, u64 size, bool write)
{
	u64 end;

	if (!size)
		return;
	if (addr + size < addr)
		size = 0 - addr;
	end = addr + size;
	if (meets(addr, size, run.lo, run.size)) {
		u64 a = addr > run.lo ? addr : run.lo;

		pin_inside(t, run.space, a, min64(end, run.lo + run.size) - a, write);
	}
	if (meets(addr, size, run.heap_lo, run.heap_size)) {
		u64 a = addr > run.heap_lo ? addr : run.heap_lo;

		pin_inside(t, run.heap, a, min64(end, run.heap_lo + run.heap_size) - a, write);
	}
}

void run_unpin_to(struct run_thread *t, u32 nr)
{
	while (t->nr_pins > nr) {
		struct run_pin *p = &t->pin[t->nr_pins - 1];

		quire_unpin(space_of(p->addr), (void *)p->addr, p->size);
		__atomic_store_n(&t->nr_pins, t->nr_pins - 1, __ATOMIC_RELEASE);
	}
}

void run_unpin_all(struct run_thread *t)
{
	run_unpin_to(t, 0);
}

bool run_get(void *to, u64 from, u64 n)
{
	return !run_copy(to, (const void *)from, n);
}

bool run_put(u64 to, const void *from, u64 n)
{
	return !run_copy((void *)to, from, n);
}

u64 run_string(u64 addr, u64 max)
{
	u64 len = 0;
	u8 part[256];

	while (len < max) {
		u64 at = addr + len;
		/* Never over the end of a page: the next one need not exist. */
		u64 n = min64(PAGE_SIZE - (at & ~PAGE_MASK), sizeof(part));

		if (!run_get(part, at, n))
			return 0;
		for (u64 i = 0; i < n; i++) {
			if (!part[i])
				return min64(len + i + 1, max);
		}
		len += n;
	}
	return 0;
}
