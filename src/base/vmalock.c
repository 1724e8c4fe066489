/* vmalock.c - the per-VMA lock: readers that never wait, one writer under the space lock. */
#include "base/lock.h"

/*
 * An area is write locked while its write_gen equals the space's write sequence; the space ends
 * all write locks at once by incrementing the sequence (with release) before it drops its lock.
 *
 * writer (space lock held for writing)      reader (no lock, in an RCU section)
 *   1 readers |= BLOCKED                      a write_gen == space_gen? fail (only saves time)
 *   2 wait until the count is 0               b readers: n -> n + 1 unless BLOCKED (acquire)
 *   3 write_gen = space_gen                   c space_gen == write_gen? undo, fail
 *   4 readers &= ~BLOCKED (release)           d uses the area
 *   5 changes the area                        e readers: n -> n - 1 (release)
 *                                               0 and BLOCKED: wake
 *   6 space_gen++ (release)
 *
 * b before 1: the writer waits for e, and 2 reads what e released: no overlap.
 * b after 4: b reads the word that 4 (or a later step) released, so c sees the write_gen of 3.
 *   Either the space's sequence is still the same: c fails. Or c reads (acquire) the one of 6 and
 *   with it all changes.
 * b between 1 and 4: BLOCKED, fails.
 *
 * The sequence has 32 bits. Wrapping makes a reader fail once, which is harmless, but a writer may
 * take an area for locked that it last locked exactly 2^32 write sections ago; Linux accepts the
 * same.
 */
#define BLOCKED BIT(31)

void vmalock_init(struct vmalock *l)
{
	a32_init(&l->readers, 0);
	a32_init(&l->write_gen, 0);
}

static void vmalock_put(struct vmalock *l)
{
	u32 v = a32_sub_return(&l->readers, 1);

	/*
	 * The area may be freed as soon as the writer sees 0: only the address is used from here
	 * on, and a wake-up on an address where nobody sleeps does nothing.
	 */
	if (unlikely(v == (u32)BLOCKED))
		base_wake(&l->readers.raw, ~0u);
}

bool vmalock_read_trylock(struct vmalock *l, const a32_t *space_gen)
{
	u32 v;

	if (a32_read(&l->write_gen) == a32_read(space_gen))
		return false;
	v = a32_read(&l->readers);
	do {
		if (v & BLOCKED)
			return false;
	} while (!a32_cmpxchg(&l->readers, &v, v + 1));
	if (unlikely(a32_read_acquire(space_gen) == a32_read(&l->write_gen))) {
		vmalock_put(l);
		return false;
	}
	lockcheck_acquire(l, LOCK_VMA, true, false);
	return true;
}

void vmalock_read_lock_under_space(struct vmalock *l)
{
	/* The space lock keeps writers away and detached areas out of reach. */
	u32 v = a32_fetch_add(&l->readers, 1);

	BUG_ON(v & BLOCKED);
	lockcheck_acquire(l, LOCK_VMA, true, false);
}

void vmalock_read_unlock(struct vmalock *l)
{
	lockcheck_release(l);
	vmalock_put(l);
}

void vmalock_write_lock(struct vmalock *l, const a32_t *space_gen)
{
	u32 gen = a32_read(space_gen);
	u32 v;

	if (a32_read(&l->write_gen) == gen)
		return;
	lockcheck_may_sleep_in(l, LOCK_VMA);
	lockcheck_wait(l, LOCK_VMA);
	v = a32_fetch_or(&l->readers, (u32)BLOCKED) | (u32)BLOCKED;
	while (v != (u32)BLOCKED) {
		base_park(&l->readers.raw, v);
		v = a32_read_acquire(&l->readers);
	}
	a32_set(&l->write_gen, gen);
	a32_fetch_and(&l->readers, (u32)~BLOCKED);
}

bool vmalock_is_write_locked(const struct vmalock *l, const a32_t *space_gen)
{
	return a32_read(&l->write_gen) == a32_read(space_gen);
}

void vmalock_detach(struct vmalock *l)
{
	/*
	 * Readers between b and c may still be counted; they will undo it inside their RCU section,
	 * and the area's memory is not freed before that ends.
	 */
	a32_fetch_or(&l->readers, (u32)BLOCKED);
}
