/* lock.c - mutex, spin and the bit lock. The reader-writer locks are in rwsem.c and vmalock.c. */
#include "base/lock.h"

/*
 * The word of mutex and spin: 0 free, 1 held, 2 held and perhaps sleepers (Drepper, "Futexes are
 * tricky", mutex 3). Whoever has slept takes it with 2, because others may still sleep: at worst
 * one wake-up too many.
 */
enum { FREE, HELD, HELD_SLEEPERS };

/*
 * Pauses before parking. A spin protects a few dozen instructions in the core; only on the host
 * machine is an entry lock held over a system call, and then sleeping is the better choice. In an
 * explored build the engine decides when a waiter goes on: spinning would only add steps.
 */
#define SPIN_PAUSES  150
#define MUTEX_PAUSES 50

static bool word_spin(a32_t *word, unsigned pauses)
{
	if (BASE_EXPLORED)
		return false;
	while (pauses--) {
		u32 v = a32_read(word);

		if (v == HELD_SLEEPERS)
			return false; /* others sleep already: it is a long hold */
		if (v == FREE && a32_cmpxchg(word, &v, HELD))
			return true;
		base_relax();
	}
	return false;
}

static __attribute__((noinline, cold)) void word_lock_slow(a32_t *word, unsigned pauses)
{
	if (word_spin(word, pauses))
		return;
	while (a32_xchg(word, HELD_SLEEPERS) != FREE)
		base_park(&word->raw, HELD_SLEEPERS);
}

static inline void word_lock(a32_t *word, unsigned pauses)
{
	u32 old = FREE;

	if (unlikely(!a32_cmpxchg(word, &old, HELD)))
		word_lock_slow(word, pauses);
}

static inline bool word_trylock(a32_t *word)
{
	u32 old = FREE;

	return a32_cmpxchg(word, &old, HELD);
}

static inline void word_unlock(a32_t *word)
{
	u32 old = a32_xchg(word, FREE);

	DEBUG_ON(old == FREE);
	if (unlikely(old == HELD_SLEEPERS))
		base_wake(&word->raw, 1);
}

void mutex_init(struct mutex *m, enum lock_class cls)
{
	a32_init(&m->word, FREE);
	m->cls = cls;
}

void mutex_lock(struct mutex *m)
{
	lockcheck_acquire(m, m->cls, false, false);
	word_lock(&m->word, MUTEX_PAUSES);
}

bool mutex_trylock(struct mutex *m)
{
	if (!word_trylock(&m->word))
		return false;
	lockcheck_acquire(m, m->cls, true, false);
	return true;
}

void mutex_unlock(struct mutex *m)
{
	lockcheck_release(m);
	word_unlock(&m->word);
}

void spin_init(struct spin *s, enum lock_class cls)
{
	a32_init(&s->word, FREE);
	s->cls = cls;
}

void spin_lock(struct spin *s)
{
	lockcheck_acquire(s, s->cls, false, false);
	word_lock(&s->word, SPIN_PAUSES);
}

void spin_lock_nested(struct spin *s)
{
	lockcheck_acquire(s, s->cls, false, true);
	word_lock(&s->word, SPIN_PAUSES);
}

bool spin_trylock(struct spin *s)
{
	if (!word_trylock(&s->word))
		return false;
	lockcheck_acquire(s, s->cls, true, false);
	return true;
}

void spin_unlock(struct spin *s)
{
	lockcheck_release(s);
	word_unlock(&s->word);
}

/* ---- the bit lock ---- */

/* The futex compares 32 bits, so it can only sleep on the half that has both bits. */
static u32 bitlock_half(const a64_t *word, const u32 *waitword, u64 value)
{
	return waitword == (const u32 *)(const void *)&word->raw ? (u32)value : (u32)(value >> 32);
}

bool bitlock_trylock(a64_t *word, unsigned bit, enum lock_class cls)
{
	if (a64_read(word) & BIT(bit))
		return false;
	if (a64_fetch_or(word, BIT(bit)) & BIT(bit))
		return false;
	lockcheck_acquire(word, cls, true, false);
	return true;
}

/*
 * sleeper                              releaser
 *   sees bit set                         old = fetch_and(~(bit | waitbit))
 *   cmpxchg sets waitbit                 old has waitbit: wake all
 *   park while the half is unchanged
 * If the release comes first the cmpxchg fails; if it comes after, it sees waitbit, and a sleeper
 * that was not yet asleep finds the half changed. Other flags that change only make it look again.
 * All are woken, because the sleepers may wait for different bits of the word.
 */
static __attribute__((noinline, cold)) void bitlock_lock_slow(a64_t *word, u64 bit, u64 waitbit,
							      u32 *waitword)
{
	unsigned pauses = BASE_EXPLORED ? 0 : MUTEX_PAUSES;
	u64 v = a64_read(word);

	for (;;) {
		if (!(v & bit)) {
			if (a64_cmpxchg(word, &v, v | bit))
				return;
			continue;
		}
		if (pauses) {
			pauses--;
			base_relax();
			v = a64_read(word);
			continue;
		}
		if (!(v & waitbit) && !a64_cmpxchg(word, &v, v | waitbit))
			continue;
		base_park(waitword, bitlock_half(word, waitword, v | waitbit));
		v = a64_read(word);
	}
}

void bitlock_lock(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword, enum lock_class cls)
{
	DEBUG_ON(bit / 32 != waitbit / 32);
	DEBUG_ON(waitword != (u32 *)(void *)&word->raw + bit / 32);
	lockcheck_may_sleep_in(word, cls);
	lockcheck_acquire(word, cls, false, false);
	if (unlikely(a64_fetch_or(word, BIT(bit)) & BIT(bit)))
		bitlock_lock_slow(word, BIT(bit), BIT(waitbit), waitword);
}

void bitlock_unlock(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword)
{
	u64 old;

	lockcheck_release(word);
	old = a64_fetch_and(word, ~(BIT(bit) | BIT(waitbit)));
	DEBUG_ON(!(old & BIT(bit)));
	if (unlikely(old & BIT(waitbit)))
		base_wake(waitword, ~0u);
}

/* The same protocol as the bit lock's: the waiters share waitbit and look again when woken. */
void bit_wait(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword)
{
	u64 v = a64_read(word);

	lock_assert_may_sleep();
	while (v & BIT(bit)) {
		if (!(v & BIT(waitbit)) && !a64_cmpxchg(word, &v, v | BIT(waitbit)))
			continue;
		base_park(waitword, bitlock_half(word, waitword, v | BIT(waitbit)));
		v = a64_read(word);
	}
}

/* Unlocking is clearing a bit and waking; a name of its own because the explorer's locks are steps
 * of their own. */
void bitlock_wait(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword)
{
	bit_wait(word, bit, waitbit, waitword);
}

void bit_clear_wake(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword)
{
	u64 old = a64_fetch_and(word, ~(BIT(bit) | BIT(waitbit)));

	DEBUG_ON(!(old & BIT(bit)));
	if (unlikely(old & BIT(waitbit)))
		base_wake(waitword, ~0u);
}
