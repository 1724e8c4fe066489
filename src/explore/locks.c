/*
 * locks.c - the core's locks as single steps: taking a lock is enabled when it is free.
 *
 * In place of the steps of base/lock.c and rwsem.c (compare-and-swap, mark, sleep, wake), which
 * have explorations of their own (X_REAL_LOCKS), a lock is taken in one step that waits until it
 * can be. The words hold what the real ones would without sleepers. Kept: order checks, who may
 * hold what together, failing try-locks. Dropped: order among waiters (any of them may be next),
 * and that a waiting writer keeps new readers out: readers here get in more often than in fact.
 *
 * Unlocking moves left over everything that others can do meanwhile, which is only to wait for the
 * lock: it is a point only where somebody looks at the word without waiting (a try-lock, flags that
 * share the word).
 * Critical sections of composed classes are one step (X_REAL_LOCKS makes no difference to that).
 */
#include "explore/internal.h"

#include "base/lock.h"

#define RW_WRITER  BIT(31)
#define RW_READERS ((u32)(BIT(29) - 1))

/* The linker gives the core's calls to __wrap_X, and __real_X is base's. */
#define WRAP(ret, name, args)   \
	ret __real_##name args; \
	ret __wrap_##name args

WRAP(void, mutex_init, (struct mutex * m, enum lock_class cls));
WRAP(void, spin_init, (struct spin * s, enum lock_class cls));
WRAP(void, rwsem_init, (struct rwsem * s, enum lock_class cls));
WRAP(void, mutex_lock, (struct mutex * m));
WRAP(bool, mutex_trylock, (struct mutex * m));
WRAP(void, mutex_unlock, (struct mutex * m));
WRAP(void, spin_lock, (struct spin * s));
WRAP(void, spin_lock_nested, (struct spin * s));
WRAP(bool, spin_trylock, (struct spin * s));
WRAP(void, spin_unlock, (struct spin * s));
WRAP(void, rwsem_read_lock, (struct rwsem * s));
WRAP(bool, rwsem_read_trylock, (struct rwsem * s));
WRAP(void, rwsem_read_unlock, (struct rwsem * s));
WRAP(void, rwsem_write_lock, (struct rwsem * s));
WRAP(bool, rwsem_write_trylock, (struct rwsem * s));
WRAP(void, rwsem_write_unlock, (struct rwsem * s));
WRAP(void, rwsem_downgrade, (struct rwsem * s));
WRAP(void, bitlock_lock,
     (a64_t * word, unsigned bit, unsigned waitbit, u32 *waitword, enum lock_class cls));
WRAP(bool, bitlock_trylock, (a64_t * word, unsigned bit, enum lock_class cls));
WRAP(void, bitlock_unlock, (a64_t * word, unsigned bit, unsigned waitbit, u32 *waitword));
WRAP(void, bitlock_wait, (a64_t * word, unsigned bit, unsigned waitbit, u32 *waitword));

static bool abstracted(void)
{
	return x.mode == M_RUN && !(x.prog->flags & X_REAL_LOCKS);
}

static bool composed(u32 cls)
{
	return x.composed_classes[cls / 32] & 1u << cls % 32;
}

static void composed_enter(u32 cls)
{
	if (x.mode == M_RUN && composed(cls))
		x.actor[x.self].composed++;
}

static void composed_leave(u32 cls)
{
	if (x.mode == M_RUN && composed(cls))
		x.actor[x.self].composed--;
}

static u64 get(u64 addr, u32 size)
{
	return size == 8 ? *(u64 *)addr : *(u32 *)addr;
}

static void put(u64 addr, u32 size, u64 v)
{
	struct xword *w = word_of(addr);

	if (is_poisoned(addr))
		mem_touch_poison(addr, "lock");
	if (!(w->writers & x.me))
		learn_writer(w);
	log_word(w, addr);
	if (size == 8)
		*(u64 *)addr = v;
	else
		*(u32 *)addr = (u32)v;
}

/* Waits until no bit of `mask` is set, then adds `add` (a count when others may do so too). */
static void take(u64 addr, u32 size, u64 mask, u64 add, enum base_access kind, u32 cls, u64 pc)
{
	struct op op = { .kind = OP_LOCK,
			 .access = (u8)kind,
			 .size = size,
			 .addr = addr,
			 .mask = mask,
			 .pc = pc,
			 .what = lock_class_name(cls) };

	if (is_poisoned(addr))
		mem_touch_poison(addr, "lock");
	actor_point(&op, learn_access(addr, size, kind, true));
	composed_enter(cls);
	put(addr, size, get(addr, size) + add);
	if (unlikely(x.racing))
		race_sync(addr, size, true, false);
}

static bool try(u64 addr, u32 size, u64 mask, u64 add, u32 cls, u64 pc)
{
	struct op op = { .kind = OP_ACCESS,
			 .access = BASE_RMW,
			 .size = size,
			 .addr = addr,
			 .pc = pc,
			 .what = "trylock" };
	bool got;

	actor_point(&op, learn_access(addr, size, BASE_RMW, false));
	got = !(get(addr, size) & mask);
	observe(got);
	if (got) {
		composed_enter(cls);
		put(addr, size, get(addr, size) + add);
		if (unlikely(x.racing))
			race_sync(addr, size, true, false);
	}
	return got;
}

/* `held`: the bits of which one at least is set while it is held. */
static void drop(u64 addr, u32 size, u64 held, u64 sub, enum base_access kind, u32 cls, u64 pc)
{
	struct op op = { .kind = OP_UNLOCK,
			 .access = (u8)kind,
			 .size = size,
			 .addr = addr,
			 .pc = pc,
			 .what = cls < LOCK_CLASS_MAX ? lock_class_name(cls) : "" };
	u16 nonlock = addr & 4 ? W_NONLOCK1 : W_NONLOCK0;
	bool meet = learn_access(addr, size, kind, true);

	op.quiet = !(word_of(addr)->flags & nonlock);
	actor_point(&op, meet);
	/*
	 * Initialised again while it was held (memory used again too early), a lock excludes
	 * nobody. That words under one lock need no points (learn.c) rests on this never being so.
	 */
	if (!(get(addr, size) & held))
		x_fail("unlocks %s lock that is not held: it was made anew meanwhile",
		       cls < LOCK_CLASS_MAX ? lock_class_name(cls) : "a");
	put(addr, size, get(addr, size) - sub);
	if (unlikely(x.racing))
		race_sync(addr, size, false, true);
	if (cls < LOCK_CLASS_MAX)
		composed_leave(cls);
}

#define PC ((u64)__builtin_return_address(0))

/*
 * Making a lock is a step, where its memory was somebody's lock before: whoever holds that one then
 * is the victim of memory used again too early. Objects of the actors' own are never used again.
 */
static void make(u64 addr, u64 pc)
{
	struct op op = { .kind = OP_ACCESS,
			 .access = BASE_WRITE,
			 .size = 4,
			 .addr = addr,
			 .pc = pc,
			 .what = "makes a lock" };

	if (x.mode == M_RUN && addr - X_BASE < X_SETUP_BYTES)
		actor_point(&op, learn_access(addr, 4, BASE_WRITE, false));
}

void __wrap_mutex_init(struct mutex *m, enum lock_class cls)
{
	make((u64)&m->word, PC);
	__real_mutex_init(m, cls);
}

void __wrap_spin_init(struct spin *s, enum lock_class cls)
{
	make((u64)&s->word, PC);
	__real_spin_init(s, cls);
}

void __wrap_rwsem_init(struct rwsem *s, enum lock_class cls)
{
	make((u64)&s->state, PC);
	__real_rwsem_init(s, cls);
}

/* ---- mutex and spin: 0 free, 1 held ---- */

void __wrap_mutex_lock(struct mutex *m)
{
	if (!abstracted()) {
		__real_mutex_lock(m);
		composed_enter(m->cls);
		return;
	}
	lockcheck_acquire(m, m->cls, false, false);
	take((u64)&m->word, 4, ~0ul, 1, BASE_RMW, m->cls, PC);
}

bool __wrap_mutex_trylock(struct mutex *m)
{
	if (!abstracted())
		return __real_mutex_trylock(m);
	if (!try((u64)&m->word, 4, ~0ul, 1, m->cls, PC))
		return false;
	lockcheck_acquire(m, m->cls, true, false);
	return true;
}

void __wrap_mutex_unlock(struct mutex *m)
{
	if (!abstracted()) {
		__real_mutex_unlock(m);
		composed_leave(m->cls);
		return;
	}
	lockcheck_release(m);
	drop((u64)&m->word, 4, ~0ul, 1, BASE_RMW, m->cls, PC);
}

void __wrap_spin_lock(struct spin *s)
{
	if (!abstracted()) {
		__real_spin_lock(s);
		composed_enter(s->cls);
		return;
	}
	lockcheck_acquire(s, s->cls, false, false);
	take((u64)&s->word, 4, ~0ul, 1, BASE_RMW, s->cls, PC);
}

void __wrap_spin_lock_nested(struct spin *s)
{
	if (!abstracted()) {
		__real_spin_lock_nested(s);
		composed_enter(s->cls);
		return;
	}
	lockcheck_acquire(s, s->cls, false, true);
	take((u64)&s->word, 4, ~0ul, 1, BASE_RMW, s->cls, PC);
}

bool __wrap_spin_trylock(struct spin *s)
{
	if (!abstracted())
		return __real_spin_trylock(s);
	if (!try((u64)&s->word, 4, ~0ul, 1, s->cls, PC))
		return false;
	lockcheck_acquire(s, s->cls, true, false);
	return true;
}

void __wrap_spin_unlock(struct spin *s)
{
	if (!abstracted()) {
		__real_spin_unlock(s);
		composed_leave(s->cls);
		return;
	}
	lockcheck_release(s);
	drop((u64)&s->word, 4, ~0ul, 1, BASE_RMW, s->cls, PC);
}

/* ---- rwsem ---- */

void __wrap_rwsem_read_lock(struct rwsem *s)
{
	if (!abstracted()) {
		__real_rwsem_read_lock(s);
		return;
	}
	lockcheck_may_sleep_in(s, s->cls);
	lockcheck_acquire(s, s->cls, false, false);
	take((u64)&s->state, 4, RW_WRITER, 1, BASE_COUNT, s->cls, PC);
}

bool __wrap_rwsem_read_trylock(struct rwsem *s)
{
	if (!abstracted())
		return __real_rwsem_read_trylock(s);
	if (!try((u64)&s->state, 4, RW_WRITER, 1, s->cls, PC))
		return false;
	lockcheck_acquire(s, s->cls, true, false);
	return true;
}

void __wrap_rwsem_read_unlock(struct rwsem *s)
{
	if (!abstracted()) {
		__real_rwsem_read_unlock(s);
		return;
	}
	lockcheck_release(s);
	drop((u64)&s->state, 4, RW_READERS, 1, BASE_COUNT, s->cls, PC);
}

void __wrap_rwsem_write_lock(struct rwsem *s)
{
	if (!abstracted()) {
		__real_rwsem_write_lock(s);
		return;
	}
	lockcheck_may_sleep_in(s, s->cls);
	lockcheck_acquire(s, s->cls, false, false);
	take((u64)&s->state, 4, RW_WRITER | RW_READERS, RW_WRITER, BASE_RMW, s->cls, PC);
}

bool __wrap_rwsem_write_trylock(struct rwsem *s)
{
	if (!abstracted())
		return __real_rwsem_write_trylock(s);
	if (!try((u64)&s->state, 4, RW_WRITER | RW_READERS, RW_WRITER, s->cls, PC))
		return false;
	lockcheck_acquire(s, s->cls, true, false);
	return true;
}

void __wrap_rwsem_write_unlock(struct rwsem *s)
{
	if (!abstracted()) {
		__real_rwsem_write_unlock(s);
		return;
	}
	lockcheck_release(s);
	drop((u64)&s->state, 4, RW_WRITER, RW_WRITER, BASE_RMW, s->cls, PC);
}

void __wrap_rwsem_downgrade(struct rwsem *s)
{
	if (!abstracted()) {
		__real_rwsem_downgrade(s);
		return;
	}
	lock_assert_held(s);
	drop((u64)&s->state, 4, RW_WRITER, RW_WRITER - 1, BASE_RMW, LOCK_CLASS_MAX, PC);
}

/* ---- the bit lock ---- */

void __wrap_bitlock_lock(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword,
			 enum lock_class cls)
{
	if (!abstracted()) {
		__real_bitlock_lock(word, bit, waitbit, waitword, cls);
		return;
	}
	lockcheck_may_sleep_in(word, cls);
	lockcheck_acquire(word, cls, false, false);
	take((u64)word, 8, BIT(bit), BIT(bit), BASE_RMW, cls, PC);
}

bool __wrap_bitlock_trylock(a64_t *word, unsigned bit, enum lock_class cls)
{
	if (!abstracted())
		return __real_bitlock_trylock(word, bit, cls);
	if (!try((u64)word, 8, BIT(bit), BIT(bit), cls, PC))
		return false;
	lockcheck_acquire(word, cls, true, false);
	return true;
}

void __wrap_bitlock_unlock(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword)
{
	if (!abstracted()) {
		__real_bitlock_unlock(word, bit, waitbit, waitword);
		return;
	}
	lockcheck_release(word);
	drop((u64)word, 8, BIT(bit), BIT(bit), BASE_RMW, LOCK_CLASS_MAX, PC);
}

/* One step, enabled while the lock is free, that takes nothing. */
void __wrap_bitlock_wait(a64_t *word, unsigned bit, unsigned waitbit, u32 *waitword)
{
	struct op op = { .kind = OP_LOCK,
			 .access = BASE_READ,
			 .size = 8,
			 .addr = (u64)word,
			 .mask = BIT(bit),
			 .pc = PC,
			 .what = "a bit lock" };

	if (!abstracted()) {
		__real_bitlock_wait(word, bit, waitbit, waitword);
		return;
	}
	if (is_poisoned(op.addr))
		mem_touch_poison(op.addr, "lock");
	actor_point(&op, learn_access(op.addr, 8, BASE_READ, true));
	if (unlikely(x.racing))
		race_sync(op.addr, 8, true, false);
}
