/* Objects one thread at a time: cache, write-back, size, holes, errors, eviction. */
#include "object_env.h"

static void fill(u8 *page, u64 tag)
{
	for (u32 i = 0; i < PAGE_SIZE; i++)
		page[i] = (u8)(tag * 31 + i * 7 + 1);
}

static void write_pages(struct object *o, u64 first, u64 n, u64 tag)
{
	u8 page[PAGE_SIZE];

	for (u64 i = 0; i < n; i++) {
		fill(page, tag + first + i);
		assert_int_equal(object_write(o, PG(first + i), page, PAGE_SIZE), PAGE_SIZE);
	}
}

static void expect_pages(struct object *o, u64 first, u64 n, u64 tag)
{
	u8 want[PAGE_SIZE], got[PAGE_SIZE];

	for (u64 i = 0; i < n; i++) {
		fill(want, tag + first + i);
		assert_int_equal(object_read(o, PG(first + i), got, PAGE_SIZE, NULL), PAGE_SIZE);
		assert_memory_equal(got, want, PAGE_SIZE);
	}
}

static void test_read_write_sync(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	u32 since;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, 0);
	since = object_error_sample(o);
	write_pages(o, 0, 100, 5);
	assert_int_equal(object_size(o), PG(100));
	assert_int_equal(o->nr_dirty, 100);
	assert_int_equal(d->writes, 0);
	expect_pages(o, 0, 100, 5);
	assert_int_equal(object_check(o), 0);
	assert_int_equal(object_sync(o, 10, 19, &since), 0);
	assert_int_equal(d->writes, 10);
	assert_int_equal(d->write_calls, 1);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &since), 0);
	assert_int_equal(d->writes, 100);
	assert_int_equal(d->syncs, 2);
	object_expect_clean(o);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), 100);
	object_put(o);
	lru_drain_all(e.q);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), 0);
	/* From the medium again, with reading ahead. */
	d->released = false;
	o = object_new(&e, d, PG(100));
	expect_pages(o, 0, 100, 5);
	assert_int_equal(d->reads, 100);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_write_sync),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
