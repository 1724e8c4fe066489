/* rwsem.c - many readers or one writer, with preference for writers. */
#include "base/lock.h"

/*
 * state: bits 0-28 count readers;
 *   WRITER   a writer owns it (no readers then);
 *   WAITING  a writer wants it: new readers keep out. Cleared by the writer that gets it;
 *            another one sets it again when it looks next.
 *   SLEEPERS somebody sleeps, or is about to: whoever makes the lock available clears it and
 *            wakes all.
 *
 * sleeper                              releaser
 *   sees the lock taken (v)              one step: drop own part, clear SLEEPERS
 *   cmpxchg sets SLEEPERS: v'            had SLEEPERS: wake all
 *   park while state == v'
 * The cmpxchg fails if the release came first; if it comes second it sees SLEEPERS, and the sleeper
 * finds the state changed. Should the state have become v' again, then with SLEEPERS set anew: the
 * next release wakes this sleeper as well.
 */
#define WRITER BIT(31)
#define WAITING BIT(30)
#define SLEEPERS BIT(29)
#define READERS ((u32)(SLEEPERS - 1))
#define RWSEM_PAUSES 60

void rwsem_init(struct rwsem *s, enum lock_class cls)
{
	a32_init(&s->state, 0);
	s->cls = cls;
}

static inline bool rwsem_try_read(struct rwsem *s)
{
	u32 v = a32_read(&s->state);

	while (!(v & (WRITER | WAITING))) {
		if (a32_cmpxchg(&s->state, &v, v + 1))
			return true;
	}
	return false;
}

static inline bool rwsem_try_write(struct rwsem *s)
{
	u32 v = a32_read(&s->state);

	while (!(v & (WRITER | READERS))) {
		if (a32_cmpxchg(&s->state, &v, (u32)((v & ~WAITING) | WRITER)))
			return true;
	}
	return false;
}

static __attribute__((noinline, cold)) void rwsem_wait(struct rwsem *s, bool write)
{
	u32 blocked = write ? (u32)(WRITER | READERS) : (u32)(WRITER | WAITING);
	u32 marks = write ? (u32)(WAITING | SLEEPERS) : (u32)SLEEPERS;
	unsigned pauses = BASE_EXPLORED ? 0 : RWSEM_PAUSES;

	for (;;) {
		u32 v;

		if (write ? rwsem_try_write(s) : rwsem_try_read(s))
			return;
		if (pauses) {
			pauses--;
			base_relax();
			continue;
		}
		v = a32_read(&s->state);
		if (!(v & blocked))
			continue;
		if ((v & marks) != marks && !a32_cmpxchg(&s->state, &v, v | marks))
			continue;
		base_park(&s->state.raw, v | marks);
	}
}

void rwsem_read_lock(struct rwsem *s)
{
	lockcheck_may_sleep_in(s, s->cls);
	lockcheck_acquire(s, s->cls, false, false);
	if (unlikely(!rwsem_try_read(s)))
		rwsem_wait(s, false);
}

bool rwsem_read_trylock(struct rwsem *s)
{
	if (!rwsem_try_read(s))
		return false;
	lockcheck_acquire(s, s->cls, true, false);
	return true;
}

void rwsem_read_unlock(struct rwsem *s)
{
	u32 v = a32_read(&s->state);
	u32 new;

	lockcheck_release(s);
	do {
		DEBUG_ON(!(v & READERS));
		new = v - 1;
		if (!(new & READERS))
			new &= (u32)~SLEEPERS;
	} while (!a32_cmpxchg(&s->state, &v, new));
	if (unlikely((v & SLEEPERS) && !(new & READERS)))
		base_wake(&s->state.raw, ~0u);
}

void rwsem_write_lock(struct rwsem *s)
{
	lockcheck_may_sleep_in(s, s->cls);
	lockcheck_acquire(s, s->cls, false, false);
	if (unlikely(!rwsem_try_write(s)))
		rwsem_wait(s, true);
}

bool rwsem_write_trylock(struct rwsem *s)
{
	if (!rwsem_try_write(s))
		return false;
	lockcheck_acquire(s, s->cls, true, false);
	return true;
}

void rwsem_write_unlock(struct rwsem *s)
{
	u32 old;

	lockcheck_release(s);
	old = a32_fetch_and(&s->state, (u32) ~(WRITER | SLEEPERS));
	DEBUG_ON(!(old & WRITER));
	if (unlikely(old & SLEEPERS))
		base_wake(&s->state.raw, ~0u);
}

void rwsem_downgrade(struct rwsem *s)
{
	u32 v = a32_read(&s->state);

	/*
	 * The checker's record stays: it is still held. A waiting writer still keeps new readers
	 * out.
	 */
	lock_assert_held(s);
	do {
		DEBUG_ON(!(v & WRITER));
	} while (!a32_cmpxchg(&s->state, &v, (u32)((v & ~(WRITER | SLEEPERS)) + 1)));
	if (unlikely(v & SLEEPERS))
		base_wake(&s->state.raw, ~0u);
}
