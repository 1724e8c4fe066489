/* Deferred frees: who runs them, when, and that no reader sees memory that was given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/thread.h"
#include "base_instance.h"

static struct base_instance inst;
static a64_t ran;
static a32_t stop;

struct item {
	struct rcu_head rcu;
	u64 a;
	u64 b;
	u32 again; /* queue again so many times */
};

static struct item *item_new(u64 v)
{
	struct item *it = arena_alloc(inst.q.arena, sizeof(*it));

	BUG_ON(!it);
	it->a = it->b = v;
	it->again = 0;
	return it;
}

static void item_done(struct quire *q, struct rcu_head *head)
{
	struct item *it = container_of(head, struct item, rcu);

	a64_fetch_add(&ran, 1);
	if (it->again) {
		it->again--;
		qrcu_call(q, &it->rcu, item_done);
		qrcu_poll(q);
		return;
	}
	it->a = 1;
	it->b = 2;
	arena_free(q->arena, it, sizeof(*it));
}

static void test_order_and_barrier(void **state)
{
	struct item *it;

	(void)state;
	base_instance_init(&inst);
	a64_set(&ran, 0);
	qrcu_poll(&inst.q);
	qrcu_barrier(&inst.q);
	for (u32 i = 0; i < RCU_POLL_BATCH - 1; i++)
		qrcu_call(&inst.q, &item_new(i)->rcu, item_done);
	qrcu_poll(&inst.q);
	assert_int_equal(a64_read(&ran), 0);
	qrcu_call(&inst.q, &item_new(0)->rcu, item_done);
	qrcu_poll(&inst.q);
	assert_int_equal(a64_read(&ran), RCU_POLL_BATCH);
	it = item_new(0);
	it->again = 2;
	qrcu_call(&inst.q, &it->rcu, item_done);
	for (u32 i = 1; i <= 3; i++) {
		qrcu_barrier(&inst.q);
		assert_int_equal(a64_read(&ran), RCU_POLL_BATCH + i);
	}
	assert_int_equal(a32_read(&inst.q.rcu.nr_pending), 0);
	base_instance_destroy(&inst);
}

static void test_nesting(void **state)
{
	(void)state;
	qrcu_read_lock();
	qrcu_read_lock();
	assert_int_equal(base_self()->rcu_depth, 2);
	qrcu_read_unlock();
	qrcu_read_unlock();
	assert_int_equal(base_self()->rcu_depth, 0);
	qrcu_synchronize();
}

static aptr_t shared;

static void *reader(void *arg)
{
	(void)arg;
	while (!a32_read(&stop)) {
		struct item *it;

		qrcu_read_lock();
		it = rcu_dereference(&shared);
		BUG_ON(it->a != it->b);
		qrcu_read_unlock();
	}
	return NULL;
}

static void *updater(void *arg)
{
	u64 n = 20000;

	for (u64 i = 0; i < n; i++) {
		struct item *it = item_new(i * 3 + (uintptr_t)arg);

		it = aptr_xchg(&shared, it);
		qrcu_call(&inst.q, &it->rcu, item_done);
		if (i % 5000 == 4999)
			qrcu_barrier(&inst.q);
		else
			qrcu_poll(&inst.q);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct quire *q = base_instance_init(&inst);
	pthread_t r[2], u[2];
	u64 used;

	(void)state;
	used = arena_used(q->arena);
	a64_set(&ran, 0);
	a32_set(&stop, 0);
	aptr_set(&shared, item_new(1));
	for (uintptr_t i = 0; i < 2; i++) {
		pthread_create(&r[i], NULL, reader, NULL);
		pthread_create(&u[i], NULL, updater, (void *)i);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(u[i], NULL);
	a32_set(&stop, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(r[i], NULL);
	qrcu_barrier(q);
	assert_int_equal(a64_read(&ran), 40000);
	arena_free(q->arena, aptr_read(&shared), sizeof(struct item));
	assert_int_equal(arena_used(q->arena), used);
	base_instance_destroy(&inst);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_barrier),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
