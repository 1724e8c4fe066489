/* Locks under contention, the per-VMA protocol, the bit lock, the gate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/gate.h"
#include "base/lock.h"
#include "base/rcu.h"
#include "base/thread.h"
#include "machine/native/native.h"

#define THREADS 4
#define ROUNDS 20000

struct shared {
	struct mutex mutex;
	struct spin spin;
	struct rwsem rwsem;
	a64_t flags;
	struct vmalock vma;
	a32_t gen;
	struct gate gate;
	u64 count;
	u64 twin;
	a32_t stop;
};

static struct shared s;

static void setup(void)
{
	memset(&s, 0, sizeof(s));
	mutex_init(&s.mutex, LOCK_MACHINE);
	spin_init(&s.spin, LOCK_PTE);
	rwsem_init(&s.rwsem, LOCK_SPACE);
	vmalock_init(&s.vma);
	a32_init(&s.gen, 1);
	gate_init(&s.gate);
}

static void run_threads(void *(*fn)(void *), unsigned n)
{
	pthread_t t[16];

	for (uintptr_t i = 0; i < n; i++)
		assert_int_equal(pthread_create(&t[i], NULL, fn, (void *)i), 0);
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

/* Not atomic on purpose: only the lock keeps the two words equal. */
static void bump(void)
{
	s.count++;
	s.twin++;
	BUG_ON(s.count != s.twin);
}

static void *mutex_worker(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		if (i % 8 == 0 && mutex_trylock(&s.mutex)) {
			bump();
			mutex_unlock(&s.mutex);
			continue;
		}
		mutex_lock(&s.mutex);
		bump();
		mutex_unlock(&s.mutex);
	}
	return NULL;
}

static void *spin_worker(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		spin_lock(&s.spin);
		bump();
		if (i % 512 == 0)
			base_yield(); /* a long hold: the others must park */
		spin_unlock(&s.spin);
	}
	return NULL;
}

static void *bit_worker(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		u32 *half = (u32 *)(void *)&s.flags.raw;

		if (i % 8 == 0) {
			if (!bitlock_trylock(&s.flags, 0, LOCK_FOLIO))
				bitlock_lock(&s.flags, 0, 7, half, LOCK_FOLIO);
		} else {
			bitlock_lock(&s.flags, 0, 7, half, LOCK_FOLIO);
		}
		bump();
		if (i % 512 == 0)
			base_yield();
		bitlock_unlock(&s.flags, 0, 7, half);
		a64_fetch_or(&s.flags, BIT(20)); /* other flags change under the sleepers */
		a64_fetch_and(&s.flags, ~BIT(20));
	}
	return NULL;
}

static void *rwsem_worker(void *arg)
{
	uintptr_t n = (uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		if ((i + n) % 5 == 0) {
			rwsem_write_lock(&s.rwsem);
			bump();
			if (i % 3 == 0) {
				rwsem_downgrade(&s.rwsem);
				BUG_ON(s.count != s.twin);
				rwsem_read_unlock(&s.rwsem);
			} else {
				rwsem_write_unlock(&s.rwsem);
			}
		} else {
			if (i % 7 || !rwsem_read_trylock(&s.rwsem))
				rwsem_read_lock(&s.rwsem);
			BUG_ON(s.count != s.twin);
			if (i % 256 == 0)
				base_yield();
			rwsem_read_unlock(&s.rwsem);
		}
	}
	return NULL;
}

static void test_exclusion(void **state)
{
	(void)state;
	setup();
	run_threads(mutex_worker, THREADS);
	assert_int_equal(s.count, THREADS * ROUNDS);
	setup();
	run_threads(spin_worker, THREADS);
	assert_int_equal(s.count, THREADS * ROUNDS);
	setup();
	run_threads(bit_worker, THREADS);
	assert_int_equal(s.count, THREADS * ROUNDS);
	assert_int_equal(a64_read(&s.flags), 0);
	setup();
	run_threads(rwsem_worker, THREADS);
	assert_int_equal(s.count, s.twin);
	assert_int_equal(a32_read(&s.rwsem.state), 0);
}

static void test_states(void **state)
{
	(void)state;
	setup();
	assert_true(spin_trylock(&s.spin));
	assert_false(spin_trylock(&s.spin));
	spin_unlock(&s.spin);
	rwsem_read_lock(&s.rwsem);
	assert_true(rwsem_read_trylock(&s.rwsem));
	assert_false(rwsem_write_trylock(&s.rwsem));
	rwsem_read_unlock(&s.rwsem);
	rwsem_read_unlock(&s.rwsem);
	assert_true(rwsem_write_trylock(&s.rwsem));
	assert_false(rwsem_read_trylock(&s.rwsem));
	rwsem_downgrade(&s.rwsem);
	assert_true(rwsem_read_trylock(&s.rwsem));
	rwsem_read_unlock(&s.rwsem);
	rwsem_read_unlock(&s.rwsem);
	assert_int_equal(base_self()->nr_held, 0);
	assert_string_equal(lock_class_name(LOCK_PTE), "PTE");
}

static void test_vmalock_states(void **state)
{
	(void)state;
	setup();
	assert_true(vmalock_read_trylock(&s.vma, &s.gen));
	vmalock_read_lock_under_space(&s.vma);
	vmalock_read_unlock(&s.vma);
	vmalock_read_unlock(&s.vma);
	vmalock_write_lock(&s.vma, &s.gen);
	vmalock_write_lock(&s.vma, &s.gen);
	assert_true(vmalock_is_write_locked(&s.vma, &s.gen));
	assert_false(vmalock_read_trylock(&s.vma, &s.gen));
	a32_set_release(&s.gen, 2);
	assert_false(vmalock_is_write_locked(&s.vma, &s.gen));
	assert_true(vmalock_read_trylock(&s.vma, &s.gen));
	vmalock_read_unlock(&s.vma);
	vmalock_write_lock(&s.vma, &s.gen);
	vmalock_detach(&s.vma);
	a32_set_release(&s.gen, 3);
	assert_false(vmalock_read_trylock(&s.vma, &s.gen));
}

static void *vma_reader(void *arg)
{
	uintptr_t n = (uintptr_t)arg;

	while (!a32_read(&s.stop)) {
		if (!vmalock_read_trylock(&s.vma, &s.gen)) {
			if (n == 0) {
				rwsem_read_lock(&s.rwsem);
				vmalock_read_lock_under_space(&s.vma);
				rwsem_read_unlock(&s.rwsem);
			} else {
				base_yield();
				continue;
			}
		}
		BUG_ON(s.count != s.twin);
		vmalock_read_unlock(&s.vma);
	}
	return NULL;
}

static void *vma_writer(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		rwsem_write_lock(&s.rwsem);
		if (i % 4) {
			vmalock_write_lock(&s.vma, &s.gen);
			bump();
			if (i % 64 == 0)
				base_yield();
		}
		a32_set_release(&s.gen, a32_read(&s.gen) + 1);
		rwsem_write_unlock(&s.rwsem);
	}
	a32_set(&s.stop, 1);
	return NULL;
}

static void *vma_worker(void *arg)
{
	return (uintptr_t)arg == 3 ? vma_writer(arg) : vma_reader(arg);
}

static void test_vmalock_threads(void **state)
{
	(void)state;
	setup();
	run_threads(vma_worker, 4);
	assert_int_equal(s.count, ROUNDS / 4 * 3);
	assert_int_equal(a32_read(&s.vma.readers), 0);
}

static void *gate_worker(void *arg)
{
	if ((uintptr_t)arg == 0) {
		for (int i = 0; i < 500; i++) {
			gate_close(&s.gate);
			bump(); /* nobody is inside */
			gate_open(&s.gate);
			base_yield();
		}
		a32_set(&s.stop, 1);
		return NULL;
	}
	while (!a32_read(&s.stop)) {
		gate_enter(&s.gate);
		gate_enter(&s.gate);
		BUG_ON(s.count != s.twin);
		gate_exit(&s.gate);
		BUG_ON(s.count != s.twin);
		gate_exit(&s.gate);
	}
	return NULL;
}

static void test_gate(void **state)
{
	(void)state;
	setup();
	run_threads(gate_worker, 4);
	assert_int_equal(s.count, 500);
	for (int i = 0; i < MAX_CPUS; i++)
		assert_int_equal(a32_read(&s.gate.cpu[i].inside), 0);
	gate_close(&s.gate);
	gate_reset(&s.gate);
	gate_enter(&s.gate);
	gate_exit(&s.gate);
}

static void test_self(void **state)
{
	struct base_thread *t = base_self();

	(void)state;
	assert_ptr_equal(t, base_self());
	assert_int_not_equal(t->id, 0);
	assert_true(base_cpu() < MAX_CPUS);
	assert_int_equal(native_syscall(1000000l), -ENOSYS);
	u64 before = native_warnings();
	for (int i = 0; i < 3; i++) {
		if (WARN_ON(i >= 0) && i == 2)
			assert_int_equal(native_warnings() - before, 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_self),	    cmocka_unit_test(test_states),
		cmocka_unit_test(test_exclusion),   cmocka_unit_test(test_vmalock_states),
		cmocka_unit_test(test_vmalock_threads), cmocka_unit_test(test_gate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
