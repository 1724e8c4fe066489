/*
 * The bracket around reads of frames, and its writer: the protection of an area against reading.
 *
 * Readers count themselves on one of several lines; the one who stops them raises the barrier first
 * and then looks at the counts. Both use locked operations, so that one of them sees the other: a
 * reader that was not seen has seen the barrier, steps back and waits.
 *
 * The thread's own part is in base_thread.machine_data: depth in the low 16 bits, its slot in the
 * 16 above; the rest is nodes.c's. A nested bracket never waits, or it would wait for itself.
 */
#include "machine/host/host_internal.h"

#include "base_backend.h"

#define DEPTH_MASK 0xffffu
#define OURS       0xffffffffu

static uintptr_t own(void)
{
	return (uintptr_t)base_self()->machine_data & OURS;
}

static void set_own(uintptr_t v)
{
	uintptr_t rest = (uintptr_t)base_self()->machine_data & ~(uintptr_t)OURS;

	base_self()->machine_data = (void *)(rest | v);
}

bool host_reading(void)
{
	return own() & DEPTH_MASK;
}

static void leave(struct host *h, u32 slot)
{
	if (a32_sub_return(&h->readers[slot].readers, 1) == 0 && a32_read(&h->barrier)) {
		a32_fetch_add(&h->drained, 1);
		base_wake(&h->drained.raw, 1);
	}
}

void host_read_begin(struct machine *m)
{
	struct host *h = host_of(m);
	uintptr_t mine = own();
	u32 slot;

	if (mine & DEPTH_MASK) {
		DEBUG_ON((mine & DEPTH_MASK) == DEPTH_MASK);
		a32_fetch_add(&h->readers[mine >> 16].readers, 1);
		set_own(mine + 1);
		return;
	}
	for (;;) {
		u32 barrier;

		slot = base_cpu();
		a32_fetch_add(&h->readers[slot].readers, 1);
		barrier = a32_read_acquire(&h->barrier);
		if (likely(!barrier))
			break;
		leave(h, slot);
		if (barrier == 1 && !a32_cmpxchg(&h->barrier, &barrier, 2) && barrier != 2)
			continue;
		base_park(&h->barrier.raw, 2);
	}
	set_own(((uintptr_t)slot << 16) | 1);
}

void host_read_end(struct machine *m)
{
	uintptr_t mine = own();

	BUG_ON(!(mine & DEPTH_MASK));
	leave(host_of(m), (u32)(mine >> 16));
	set_own((mine & DEPTH_MASK) == 1 ? 0 : mine - 1);
}

void host_readers_stop(struct host *h)
{
	u32 old;

	BUG_ON(host_reading()); /* it would wait for itself */
	/* One at a time. */
	for (;;) {
		old = 0;
		if (a32_cmpxchg(&h->barrier, &old, 1))
			break;
		if (old == 1 && !a32_cmpxchg(&h->barrier, &old, 2) && old != 2)
			continue;
		base_park(&h->barrier.raw, 2);
	}
	for (u32 slot = 0; slot < MAX_CPUS; slot++)
		for (;;) {
			u32 seq = a32_read_acquire(&h->drained);

			if (a32_fetch_add(&h->readers[slot].readers, 0) == 0)
				break;
			base_park(&h->drained.raw, seq);
		}
}

bool host_readers_any(struct host *h)
{
	for (u32 slot = 0; slot < MAX_CPUS; slot++)
		if (a32_read_acquire(&h->readers[slot].readers))
			return true;
	return false;
}

void host_readers_go(struct host *h)
{
	if (a32_xchg(&h->barrier, 0) == 2)
		base_wake(&h->barrier.raw, ~0u);
}
