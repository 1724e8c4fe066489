/* The radix tree against an array, readers without a lock against a writer, allocation failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/radix.h"
#include "base/rcu.h"
#include "base_instance.h"

#define RANGE 5000u
#define OPS   400000u

/* Places of the array are spread over indices of very different sizes. */
static u64 index_of(u32 i)
{
	static const u64 base[] = { 0, 4000, BIT(20), BIT(33) + 63, BIT(51) - 2000 };

	return base[i / 1000] + i % 1000;
}

static void *model[RANGE];
static bool marks[RANGE][RADIX_MARKS];

static void *word_of(u64 n)
{
	return (void *)(uintptr_t)(n << 1 | 1);
}

/* The oracle's answer to radix_next (mark < 0) or radix_next_marked. */
static u64 next_of(u64 from, u64 last, int mark, void **word)
{
	for (u32 i = 0; i < RANGE; i++) {
		if (index_of(i) < from || index_of(i) > last || !model[i])
			continue;
		if (mark >= 0 && !marks[i][mark])
			continue;
		*word = model[i];
		return index_of(i);
	}
	return RADIX_END;
}

static void compare_next(struct radix *r, u64 *seed)
{
	u64 from = index_of((u32)(test_random(seed) % RANGE)) + test_random(seed) % 3;
	u64 last = test_random(seed) % 2 ? RADIX_END - 1 : from + test_random(seed) % 300;
	void *w1 = NULL, *w2 = NULL;

	for (int mark = -1; mark < RADIX_MARKS; mark++) {
		u64 want = next_of(from, last, mark, &w1);
		u64 got = mark < 0 ? radix_next(r, from, last, &w2) :
				     radix_next_marked(r, from, last, (unsigned)mark, &w2);

		assert_int_equal(got, want);
		if (got != RADIX_END)
			assert_ptr_equal(w1, w2);
	}
}

/* A run of words, as a large folio is stored. */
static void store_run(struct radix *r, u64 *seed, u32 i, u64 step)
{
	u32 n = 1u << test_random(seed) % 8;
	void *w = word_of(step);

	i = i / 1000 * 1000 + (u32)ALIGN_DOWN(i % 1000, n);
	if (i % 1000 + n > 1000)
		return;
	assert_int_equal(radix_prepare(r, index_of(i), n), 0);
	for (u32 k = i; k < i + n; k++) {
		assert_ptr_equal(radix_store(r, index_of(k), w), model[k]);
		model[k] = w;
	}
}

static void change_mark(struct radix *r, u32 i, unsigned mark, bool set)
{
	if (!model[i])
		return;
	if (set)
		radix_mark(r, index_of(i), mark);
	else
		radix_unmark(r, index_of(i), mark);
	marks[i][mark] = set;
	assert_int_equal(radix_marked(r, index_of(i), mark), set);
}

static void erase_run(struct radix *r, u64 *seed, u32 i)
{
	u32 n = 1u << test_random(seed) % 9;

	for (; n && i < RANGE; n--, i++) {
		assert_ptr_equal(radix_store(r, index_of(i), NULL), model[i]);
		model[i] = NULL;
		for (unsigned m = 0; m < RADIX_MARKS; m++)
			marks[i][m] = false;
	}
}

static long count_words(void)
{
	long n = 0;

	for (u32 i = 0; i < RANGE; i++)
		n += model[i] != NULL;
	return n;
}

static void test_oracle(void **state)
{
	struct base_instance b;
	struct quire *q = base_instance_init(&b);
	u64 used = arena_used(q->arena), seed = 42;
	struct radix r;

	(void)state;
	radix_init(&r, q);
	for (u32 step = 1; step <= OPS; step++) {
		u32 i = (u32)(test_random(&seed) % RANGE), what = (u32)(test_random(&seed) % 16);

		if (what < 4)
			store_run(&r, &seed, i, step);
		else if (what < 6 || (step / 20000 % 2 && what < 9))
			erase_run(&r, &seed, i);
		else if (what < 12)
			change_mark(&r, i, what % RADIX_MARKS, what < 10);
		else
			assert_ptr_equal(radix_load(&r, index_of(i)), model[i]);
		if (step % 500 == 0)
			compare_next(&r, &seed);
		if (step % 5000 == 0) {
			assert_int_equal(radix_check(&r), count_words());
			qrcu_poll(q);
		}
	}
	for (u32 i = 0; i < RANGE; i++) {
		radix_store(&r, index_of(i), NULL);
		model[i] = NULL;
	}
	/* Nothing is kept for what is gone. */
	assert_int_equal(r.nr_nodes, 0);
	assert_null(aptr_peek(&r.root));
	qrcu_barrier(q);
	assert_int_equal(arena_used(q->arena), used);
	base_instance_destroy(&b);
}

static void test_destroy_frees_all(void **state)
{
	struct base_instance b;
	struct quire *q = base_instance_init(&b);
	u64 used = arena_used(q->arena);
	struct radix r;

	(void)state;
	radix_init(&r, q);
	for (u32 i = 0; i < RANGE; i += 7) {
		assert_int_equal(radix_prepare(&r, index_of(i), 1), 0);
		radix_store(&r, index_of(i), word_of(i));
	}
	assert_true(radix_check(&r) > 0);
	radix_destroy(&r);
	assert_int_equal(arena_used(q->arena), used);
	assert_null(radix_load(&r, 7));
	base_instance_destroy(&b);
}

/* Each allocation of an insertion fails in turn: the tree is as before. */
static void test_no_memory(void **state)
{
	struct base_instance b;
	struct quire *q = base_instance_init(&b);
	struct radix r;
	u32 failed = 0;

	(void)state;
	radix_init(&r, q);
	assert_int_equal(radix_prepare(&r, 3, 1), 0);
	radix_store(&r, 3, word_of(3));
	for (u32 nth = 1;; nth++) {
		int err;

		inject_at(&b.inject, INJECT_ARENA, nth);
		err = radix_prepare(&r, BIT(30) - 128, 256);
		inject_off(&b.inject, INJECT_ARENA);
		if (!err)
			break;
		failed++;
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(radix_check(&r), 1);
		assert_ptr_equal(radix_load(&r, 3), word_of(3));
	}
	assert_true(failed >= 8);
	radix_prune(&r, BIT(30) - 128, 256);
	assert_int_equal(radix_check(&r), 1);
	radix_destroy(&r);
	base_instance_destroy(&b);
}

/* An empty tree whose first insertion fails has no node. */
static void test_no_memory_at_first(void **state)
{
	struct base_instance b;
	struct quire *q = base_instance_init(&b);
	struct radix r;

	(void)state;
	radix_init(&r, q);
	inject_at(&b.inject, INJECT_ARENA, 2);
	assert_int_equal(radix_prepare(&r, BIT(20), 1), -ENOMEM);
	inject_off(&b.inject, INJECT_ARENA);
	assert_int_equal(r.nr_nodes, 0);
	assert_int_equal(radix_check(&r), 0);
	base_instance_destroy(&b);
}

/* ---- readers ---- */

#define LIVE 4096u

struct readers {
	struct quire *q;
	struct radix r;
	a32_t stop;
	a64_t loads;
};

/* Multiples of 64 are always there; each word tells its index. */
static void *read_all(void *arg)
{
	struct readers *t = arg;
	u64 seed = (u64)(uintptr_t)&seed | 1, n = 0;

	while (!a32_read(&t->stop)) {
		u64 i = test_random(&seed) % LIVE;
		void *w;

		qrcu_read_lock();
		w = radix_load(&t->r, i);
		qrcu_read_unlock();
		if (w && w != word_of(i + 1))
			fail_msg("index %lu holds %p", (unsigned long)i, w);
		if (!w && i % 64 == 0 && i >= 64)
			fail_msg("index %lu is not there", (unsigned long)i);
		n++;
	}
	a64_add(&t->loads, n);
	return NULL;
}

static void put(struct readers *t, u64 i)
{
	assert_int_equal(radix_prepare(&t->r, i, 1), 0);
	radix_store(&t->r, i, word_of(i + 1));
}

static void test_readers(void **state)
{
	struct base_instance b;
	struct readers t = { .q = base_instance_init(&b) };
	pthread_t thread[3];
	u64 seed = 9;

	(void)state;
	radix_init(&t.r, t.q);
	for (u64 i = 64; i < LIVE; i += 64)
		put(&t, i);
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, read_all, &t), 0);
	/* Nodes come and go, and so does the height, under the readers. */
	for (u32 i = 0; i < 300000; i++) {
		u64 at = test_random(&seed) % LIVE;

		if (at % 64 == 0)
			at = LIVE << 10;
		if (test_random(&seed) % 2)
			put(&t, at);
		else
			radix_store(&t.r, at, NULL);
		qrcu_poll(t.q);
	}
	a32_set(&t.stop, 1);
	for (u32 i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert_true(a64_read(&t.loads) > 0);
	assert_true(radix_check(&t.r) > 0);
	radix_destroy(&t.r);
	base_instance_destroy(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle),    cmocka_unit_test(test_destroy_frees_all),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_no_memory_at_first),
		cmocka_unit_test(test_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
