/* Flushes: what reaches the machine, what is counted, and that the batch never forgets a page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mini.h"
#include "tlb/tlb.h"

#define SPACES    20
#define PAGES     64
#define MAX_CALLS 256

static struct mini m;
static struct tlb_space space[SPACES];
static struct {
	struct mspace *ms;
	struct tlb_range r;
} call[MAX_CALLS];
static u32 calls;

static void fake_flush(struct machine *mm, struct mspace *ms, const struct tlb_range *r)
{
	(void)mm;
	assert_true(calls < MAX_CALLS);
	call[calls].ms = ms;
	call[calls++].r = *r;
}

static const struct machine_ops ops = { .name = "fake", .tlb_flush = fake_flush };
static struct machine machine = { .ops = &ops };

static struct mspace *ms_of(u32 i)
{
	return (struct mspace *)(uintptr_t)(i + 1);
}

static void prepare(u32 caps)
{
	machine.caps = caps;
	for (u32 i = 0; i < SPACES; i++)
		tlb_space_init(&m.q, &space[i], ms_of(i));
	calls = 0;
}

static int setup(void **state)
{
	(void)state;
	mini_init(&m);
	m.q.machine = &machine;
	prepare(CAP_RANGE_FLUSH);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mini_fini(&m);
	return 0;
}

static void test_flush_range(void **state)
{
	struct tlb_range r = { .start = 3 * PAGE_SIZE,
			       .end = 7 * PAGE_SIZE,
			       .strength = FLUSH_NO_STORE,
			       .tables_freed = true };

	(void)state;
	tlb_flush_range(&space[2], r);
	assert_int_equal(calls, 1);
	assert_ptr_equal(call[0].ms, ms_of(2));
	assert_memory_equal(&call[0].r, &r, sizeof(r));
	assert_int_equal(stat_read(&m.q, STAT_TLB_FLUSH), 1);
	assert_int_equal(stat_read(&m.q, STAT_TLB_FLUSH_PAGES), 4);
	assert_int_equal(a64_read(&space[2].flushes), 1);
	/* Nothing for nothing. */
	r.end = r.start;
	tlb_flush_range(&space[2], r);
	assert_int_equal(calls, 1);
	/* Everything: a flush, but no number of pages. */
	r = (struct tlb_range){ .start = 0, .end = TLB_ALL_END, .strength = FLUSH_NO_ACCESS };
	tlb_flush_range(&space[2], r);
	assert_int_equal(calls, 2);
	assert_int_equal(stat_read(&m.q, STAT_TLB_FLUSH), 2);
	assert_int_equal(stat_read(&m.q, STAT_TLB_FLUSH_PAGES), 4);
	/* A machine that knows no ranges. */
	prepare(0);
	r = (struct tlb_range){ PAGE_SIZE, 2 * PAGE_SIZE, FLUSH_NO_ACCESS, true, true };
	tlb_flush_range(&space[0], r);
	assert_int_equal(call[0].r.start, 0);
	assert_int_equal(call[0].r.end, TLB_ALL_END);
	assert_int_equal(call[0].r.strength, FLUSH_NO_ACCESS);
	assert_true(call[0].r.pmd_level && call[0].r.tables_freed);
}

static void test_under_lock(void **state)
{
	struct tlb_batch b;

	(void)state;
	assert_false(tlb_flush_under_lock(&space[0], 0, PAGE_SIZE, FLUSH_NO_STORE));
	assert_int_equal(calls, 0);
	prepare(CAP_RANGE_FLUSH | CAP_FLUSH_UNDER_LOCK);
	assert_true(tlb_flush_under_lock(&space[0], 0, PAGE_SIZE, FLUSH_NO_STORE));
	assert_int_equal(calls, 1);
	/* There a batch flushes exactly what it is given, at once. */
	tlb_batch_init(&b);
	for (u64 i = 0; i < 40; i++) {
		tlb_batch_add(&b, &space[i % 3], 2 * i * PAGE_SIZE, (2 * i + 1) * PAGE_SIZE,
			      FLUSH_NO_ACCESS);
		assert_int_equal(calls, i + 2);
		assert_int_equal(call[i + 1].r.start, 2 * i * PAGE_SIZE);
		assert_int_equal(call[i + 1].r.end, (2 * i + 1) * PAGE_SIZE);
		assert_false(tlb_batch_pending(&b));
	}
}

static void test_batch_merges(void **state)
{
	struct tlb_batch b;

	(void)state;
	tlb_batch_init(&b);
	assert_false(tlb_batch_pending(&b));
	/* Touching ones are one flush, in either direction; another space is another flush. */
	tlb_batch_add(&b, &space[0], 4 * PAGE_SIZE, 6 * PAGE_SIZE, FLUSH_NO_STORE);
	tlb_batch_add(&b, &space[0], 6 * PAGE_SIZE, 7 * PAGE_SIZE, FLUSH_NO_STORE);
	tlb_batch_add(&b, &space[0], 3 * PAGE_SIZE, 4 * PAGE_SIZE, FLUSH_NO_ACCESS);
	tlb_batch_add(&b, &space[1], 4 * PAGE_SIZE, 5 * PAGE_SIZE, FLUSH_NO_STORE);
	assert_true(tlb_batch_pending(&b));
	assert_int_equal(calls, 0);
	tlb_batch_flush(&b);
	assert_false(tlb_batch_pending(&b));
	assert_int_equal(calls, 2);
	assert_int_equal(call[0].r.start, 3 * PAGE_SIZE);
	assert_int_equal(call[0].r.end, 7 * PAGE_SIZE);
	assert_int_equal(call[0].r.strength, FLUSH_NO_ACCESS);
	assert_int_equal(call[1].r.strength, FLUSH_NO_STORE);
	assert_int_equal(stat_read(&m.q, STAT_TLB_FLUSH_PAGES), 5);
	tlb_batch_flush(&b);
	assert_int_equal(calls, 2);
	/* A leaf of the upper level may be in it. */
	tlb_batch_add(&b, &space[0], 0, PMD_SIZE, FLUSH_NO_STORE);
	tlb_batch_flush(&b);
	assert_true(call[2].r.pmd_level);
	/* Without ranges: one flush a space. */
	prepare(0);
	for (u64 i = 0; i < 10; i++)
		tlb_batch_add(&b, &space[i % 2], 10 * i * PAGE_SIZE, (10 * i + 1) * PAGE_SIZE,
			      FLUSH_NO_STORE);
	tlb_batch_flush(&b);
	assert_int_equal(calls, 2);
}

/* Random adds against a byte a page: each page added is covered, strongly enough, before the end.
 */
static void test_batch_never_forgets(void **state)
{
	static u8 want[SPACES][PAGES], got[SPACES][PAGES];
	u64 rng = 42;

	(void)state;
	for (u32 round = 0; round < 2000; round++) {
		u32 spaces = 1 + (u32)(mini_random(&rng) % SPACES);
		u32 adds = (u32)(mini_random(&rng) % 60);
		struct tlb_batch b;

		memset(want, 0, sizeof(want));
		memset(got, 0, sizeof(got));
		calls = 0;
		tlb_batch_init(&b);
		for (u32 i = 0; i < adds; i++) {
			u32 k = (u32)(mini_random(&rng) % spaces);
			u64 from = mini_random(&rng) % PAGES;
			u64 to = min(from + mini_random(&rng) % 5, (u64)PAGES);
			u8 strength = mini_random(&rng) % 8 ? FLUSH_NO_STORE : FLUSH_NO_ACCESS;

			tlb_batch_add(&b, &space[k], from * PAGE_SIZE, to * PAGE_SIZE, strength);
			for (u64 p = from; p < to; p++)
				want[k][p] = max(want[k][p], strength);
		}
		tlb_batch_flush(&b);
		for (u32 i = 0; i < calls; i++) {
			u32 k = (u32)((uintptr_t)call[i].ms - 1);

			for (u64 p = call[i].r.start / PAGE_SIZE; p < call[i].r.end / PAGE_SIZE;
			     p++)
				got[k][p] = max(got[k][p], (u8)call[i].r.strength);
		}
		for (u32 k = 0; k < SPACES; k++) {
			for (u32 p = 0; p < PAGES; p++)
				assert_true(got[k][p] >= want[k][p]);
		}
		/* A batch pays: no more than one flush a range that it can hold, of one space. */
		if (spaces == 1)
			assert_true(calls <= TLB_BATCH_RANGES);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_flush_range),
		TEST(test_under_lock),
		TEST(test_batch_merges),
		TEST(test_batch_never_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
