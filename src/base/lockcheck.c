/*
 * lockcheck.c - the run-time check of the lock order, and the names of the classes.
 *
 * The record is the thread's own (base_thread.held), so checking takes no lock and shares nothing.
 * A blocking acquisition is recorded before it waits: a deadlock is reported instead of suffered.
 */
#include "base/lock.h"
#include "base/thread.h"

const char *lock_class_name(enum lock_class cls)
{
	switch ((u32)cls) {
#define LOCK(order, name, kind, protects) \
	case order:                       \
		return #name;
#include "base/locks.def"
#undef LOCK
	default:
		return "?";
	}
}

#ifdef QUIRE_LOCKCHECK

enum lock_kind { KIND_none, KIND_gate, KIND_rwsem, KIND_bit, KIND_vma, KIND_spin, KIND_mutex };

static enum lock_kind lock_class_kind(u32 cls)
{
	switch (cls) {
#define LOCK(order, name, kind, protects) \
	case order:                       \
		return KIND_##kind;
#include "base/locks.def"
#undef LOCK
	default:
		return KIND_none;
	}
}

#define TRY BIT(0)

struct message {
	char text[640];
	u32 len;
};

static void message_add(struct message *m, const char *s)
{
	while (*s && m->len < sizeof(m->text) - 1)
		m->text[m->len++] = *s++;
	m->text[m->len] = 0;
}

static void message_add_lock(struct message *m, const void *lock, u32 cls)
{
	char hex[20];
	u32 i = sizeof(hex) - 1;
	u64 v = (uintptr_t)lock;

	hex[i] = 0;
	do {
		hex[--i] = "0123456789abcdef"[v & 15];
		v >>= 4;
	} while (v);
	message_add(m, lock_class_name(cls));
	message_add(m, "(0x");
	message_add(m, hex + i);
	message_add(m, ")");
}

/* "lock order: taking PTE(0x10) while holding LRU(0x20); held: SPACE(0x1) LRU(0x20)" */
static __attribute__((noreturn, cold, noinline)) void
lockcheck_panic(const char *what, const void *lock, u32 cls, s32 other)
{
	struct base_thread *t = base_self();
	struct message m = { .len = 0 };

	message_add(&m, what);
	message_add_lock(&m, lock, cls);
	if (other >= 0) {
		message_add(&m, " while holding ");
		message_add_lock(&m, t->held[other].lock, t->held[other].cls);
	}
	message_add(&m, t->nr_held ? "; held:" : "; nothing held");
	for (u32 i = 0; i < t->nr_held; i++) {
		message_add(&m, " ");
		message_add_lock(&m, t->held[i].lock, t->held[i].cls);
		if (t->held[i].flags & TRY)
			message_add(&m, "t");
	}
	if (t->rcu_depth)
		message_add(&m, " and an RCU section");
	base_panic(__FILE__, __LINE__, m.text);
}

static void lockcheck_order(const struct base_thread *t, const void *lock, u32 cls, bool nested)
{
	for (s32 i = (s32)t->nr_held - 1; i >= 0; i--) {
		if (t->held[i].lock == lock)
			lockcheck_panic("lock recursion: taking ", lock, cls, i);
		if (t->held[i].cls > cls || (t->held[i].cls == cls && !nested))
			lockcheck_panic("lock order: taking ", lock, cls, i);
	}
}

void lockcheck_acquire(const void *lock, u32 cls, bool trylock, bool nested)
{
	struct base_thread *t = base_self();

	if (!trylock)
		lockcheck_order(t, lock, cls, nested);
	if (t->nr_held == BASE_MAX_HELD)
		lockcheck_panic("too many locks: taking ", lock, cls, -1);
	t->held[t->nr_held].lock = lock;
	t->held[t->nr_held].cls = cls;
	t->held[t->nr_held].flags = trylock ? (u32)TRY : 0;
	t->nr_held++;
}

void lockcheck_wait(const void *lock, u32 cls)
{
	lockcheck_order(base_self(), lock, cls, false);
}

void lockcheck_release(const void *lock)
{
	struct base_thread *t = base_self();

	for (u32 i = t->nr_held; i-- > 0;) {
		if (t->held[i].lock != lock)
			continue;
		/* Locks may be released in any order; the record keeps the order of taking. */
		for (t->nr_held--; i < t->nr_held; i++)
			t->held[i] = t->held[i + 1];
		return;
	}
	lockcheck_panic("lock not held: releasing ", lock, 0, -1);
}

void lockcheck_may_sleep_in(const void *lock, u32 cls)
{
	if (base_self()->rcu_depth)
		lockcheck_panic("sleeping in an RCU section: taking ", lock, cls, -1);
}

void lock_assert_held(const void *lock)
{
	struct base_thread *t = base_self();

	for (u32 i = 0; i < t->nr_held; i++) {
		if (t->held[i].lock == lock)
			return;
	}
	lockcheck_panic("lock not held: needing ", lock, 0, -1);
}

void lock_assert_none(void)
{
	if (base_self()->nr_held)
		lockcheck_panic("a lock is held: needing none of ", NULL, 0, 0);
}

void lock_assert_may_sleep(void)
{
	struct base_thread *t = base_self();

	if (t->rcu_depth)
		lockcheck_panic("sleeping in an RCU section: ", NULL, 0, -1);
	for (u32 i = 0; i < t->nr_held; i++) {
		if (lock_class_kind(t->held[i].cls) == KIND_spin)
			lockcheck_panic("sleeping: ", NULL, 0, (s32)i);
	}
}

#endif
