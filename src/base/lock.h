/*
 * lock.h - ranked locks: mutex, rwsem, spin, and the per-VMA lock.
 *
 * Native: built on base_park/base_wake. `spin` spins a while and then parks too, because on the
 * host machine an entry lock is held over system calls. Every lock has a class from locks.def; with
 * QUIRE_LOCKCHECK (test builds) each acquisition is checked against the classes that the thread
 * holds and a violation is a BUG that names both. trylocks are not ordered but are recorded.
 *
 * mutex, spin: one owner, not recursive, must be released by its owner.
 * rwsem: many readers or one writer; writers have preference; a reader never upgrades; not
 *   recursive.
 * What the checker wants of a blocking acquisition: every class held stands earlier in
 *   locks.def (the same class only with _nested), the lock itself is not held, and for rwsem,
 *   bitlock, a vmalock's writer and lock_assert_may_sleep that the thread is in no RCU section.
 *   mutex and spin are allowed in RCU sections (they are short leaves and entry locks are taken
 *   under RCU); the assertion refuses spins held.
 * All of them: a release touches the lock's memory in one atomic step and never after it, so that
 *   the next owner may free the object.
 * vmalock: the per-VMA lock. A reader never waits: it fails at once if a writer holds or wants the
 *   area, and the caller then falls back to the space lock. A writer must hold the space lock for
 *   writing; it marks the area with the space's current write sequence and waits for readers to
 *   drain; all marks end together when the space's sequence moves on (space_write_unlock).
 *   What a reader revalidates: after vma_read_trylock succeeded, the area's bounds, because
 *   the lookup was lock-free.
 * Locking: this file is the locks.
 */
#ifndef QUIRE_BASE_LOCK_H
#define QUIRE_BASE_LOCK_H

#include "base/assert.h"
#include "base/atomic.h"

enum lock_class {
#define LOCK(order, name, kind, protects) LOCK_##name = order,
#include "base/locks.def"
#undef LOCK
	LOCK_CLASS_MAX = 256
};

const char *lock_class_name(enum lock_class cls);

struct mutex {
	a32_t word; /* 0 free, 1 held, 2 held and perhaps sleepers */
	u32 cls;
};
struct spin {
	a32_t word;
	u32 cls;
};
struct rwsem {
	a32_t state; /* readers in the low bits, bits for: writer, writer waits, somebody sleeps */
	u32 cls;
};
/* Embedded in an area. `gen` is the area's copy of the space's write sequence. */
struct vmalock {
	a32_t readers;   /* count; bit 31: a writer waits or the area is detached for good */
	a32_t write_gen; /* changed by the writer while bit 31 keeps readers out */
};

void mutex_init(struct mutex *m, enum lock_class cls);
void mutex_lock(struct mutex *m);
bool must_check mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);

void spin_init(struct spin *s, enum lock_class cls);
void spin_lock(struct spin *s);
/* The second lock of one class, in the documented order of that class. */
void spin_lock_nested(struct spin *s);
bool must_check spin_trylock(struct spin *s);
void spin_unlock(struct spin *s);

void rwsem_init(struct rwsem *s, enum lock_class cls);
void rwsem_read_lock(struct rwsem *s);
bool must_check rwsem_read_trylock(struct rwsem *s);
void rwsem_read_unlock(struct rwsem *s);
void rwsem_write_lock(struct rwsem *s);
bool must_check rwsem_write_trylock(struct rwsem *s);
void rwsem_write_unlock(struct rwsem *s);
/* Writer becomes a reader without letting another writer in between. */
void rwsem_downgrade(struct rwsem *s);

/* A space's write sequence starts at 1 or above: 0 in a new area means "never write locked". */
void vmalock_init(struct vmalock *l);
/* `space_gen`: the space's write sequence. True: the area cannot be changed until read_unlock. */
bool must_check vmalock_read_trylock(struct vmalock *l, const a32_t *space_gen);
/* Take it for reading while holding the space lock for reading (never fails, never waits). */
void vmalock_read_lock_under_space(struct vmalock *l);
void vmalock_read_unlock(struct vmalock *l);
/* LOCKING: space lock held for writing. Waits for readers. Idempotent within one write section. */
void vmalock_write_lock(struct vmalock *l, const a32_t *space_gen);
bool vmalock_is_write_locked(const struct vmalock *l, const a32_t *space_gen);
/* Every later read_trylock fails for ever: the area leaves the tree. LOCKING: write locked. */
void vmalock_detach(struct vmalock *l);

/*
 * A lock that is one bit of a word (the folio lock). `waitword`: the half of `word` that holds
 * `bit` and `waitbit` (the low half: (u32 *)&word->raw); sleepers park on it. The checker knows the
 * lock by `word`.
 */
void bitlock_lock(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword, enum lock_class cls);
bool must_check bitlock_trylock(a64_t *word, unsigned bit, enum lock_class cls);
void bitlock_unlock(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword);
/* Returns when it has seen the lock free, without taking it. LOCKING: may sleep. */
void bitlock_wait(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword);

/*
 * A bit of such a word that is no lock but is waited for (a folio's write-back): set by
 * a64_fetch_or, cleared by bit_clear_wake; bit_wait returns when it has seen the bit clear.
 * LOCKING: bit_wait may sleep.
 */
void bit_wait(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword);
void bit_clear_wake(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword);

/*
 * Assertions for the first statement of a function that needs the lock. No-ops without
 * QUIRE_LOCKCHECK.
 */
#ifdef QUIRE_LOCKCHECK
void lock_assert_held(const void *lock);
void lock_assert_none(void);      /* nothing at all is held */
void lock_assert_may_sleep(void); /* no spin lock held, not in an RCU section */
void lockcheck_acquire(const void *lock, u32 cls, bool trylock, bool nested);
void lockcheck_release(const void *lock);
/* Checks like a blocking acquisition, records nothing. */
void lockcheck_wait(const void *lock, u32 cls);
void lockcheck_may_sleep_in(const void *lock, u32 cls); /* not in an RCU section */
#else
static inline void lock_assert_held(const void *lock)
{
	(void)lock;
}
static inline void lock_assert_none(void)
{
}
static inline void lock_assert_may_sleep(void)
{
}
static inline void lockcheck_acquire(const void *lock, u32 cls, bool trylock, bool nested)
{
	(void)lock;
	(void)cls;
	(void)trylock;
	(void)nested;
}
static inline void lockcheck_release(const void *lock)
{
	(void)lock;
}
static inline void lockcheck_wait(const void *lock, u32 cls)
{
	(void)lock;
	(void)cls;
}
static inline void lockcheck_may_sleep_in(const void *lock, u32 cls)
{
	(void)lock;
	(void)cls;
}
#endif

#endif
