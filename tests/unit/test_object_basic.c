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

/* ---- errors of write-back ---- */

static void test_write_errors(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	u32 a, b, late;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, 0);
	write_pages(o, 0, 10, 1);
	a = object_error_sample(o);
	b = object_error_sample(o);
	d->fail_write = -ENOSPC;
	d->fail_index = 4;
	/* Only the page that failed stays dirty; nothing is lost. */
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &a), -ENOSPC);
	assert_int_equal(o->nr_dirty, 1);
	assert_int_equal(d->writes, 9);
	assert_int_equal(d->syncs, 0);
	assert_int_equal(object_check(o), 0);
	expect_pages(o, 0, 10, 1);
	d->fail_write = 0;
	/* The other syncer hears of it too, once, though all is written by now. */
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &b), -ENOSPC);
	assert_int_equal(d->writes, 10);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &b), 0);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &a), 0);
	/* Somebody has seen it: no news for one who comes later. */
	late = object_error_sample(o);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &late), 0);
	/* An error that nobody has seen is news for everybody. */
	write_pages(o, 4, 1, 2);
	d->fail_write = -EIO;
	assert_int_equal(object_writeback(o, 0, OBJECT_INDEX_MAX, OBJECT_WB_NONE), -EIO);
	d->fail_write = 0;
	late = object_error_sample(o);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &late), -EIO);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &a), -EIO);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, &a), 0);
	d->fail_sync = -EIO;
	assert_int_equal(object_sync(o, 0, 0, &a), -EIO);
	d->fail_sync = 0;
	assert_int_equal(object_sync(o, 0, 0, &a), 0);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

static void test_read_errors(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object_ra ra = { .pages = A_INIT(0) };
	struct object *o;
	u8 byte = 1;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, PG(50));
	d->fail_read = -EIO;
	d->fail_index = 6;
	for (u64 i = 0; i < 6; i++)
		assert_int_equal(object_read(o, PG(i), &byte, 1, &ra), 1);
	/* It failed when it was read ahead, and fails again for who asks; nothing is half cached.
	 */
	assert_int_equal(object_read(o, PG(6), &byte, 1, &ra), -EIO);
	assert_null(object_lookup(o, 6));
	assert_int_equal(object_check(o), 0);
	/* A transfer ends before the page that failed. */
	assert_int_equal(object_read(o, PG(5) + 100, d->bytes, PAGE_SIZE, NULL), PAGE_SIZE - 100);
	d->fail_read = 0;
	assert_int_equal(object_read(o, PG(6), &byte, 1, &ra), 1);
	assert_int_equal(object_read(o, PG(50), &byte, 1, &ra), 0);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

/* ---- size ---- */

static u8 byte_at(struct object *o, u64 at)
{
	u8 byte = 0xee;

	assert_int_equal(object_read(o, at, &byte, 1, NULL), 1);
	return byte;
}

static void test_truncate(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	u64 cut = PG(7) + 1234;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, 0);
	write_pages(o, 0, 20, 3);
	assert_int_equal(object_sync(o, 0, 9, NULL), 0);
	assert_int_equal(object_truncate(o, cut), 0);
	assert_int_equal(object_size(o), cut);
	assert_int_equal(d->size, cut);
	assert_int_equal(o->nr_pages, 8);
	assert_int_equal(object_check(o), 0);
	expect_pages(o, 0, 7, 3);
	assert_int_equal(object_truncate(o, PG(12)), 0);
	assert_int_equal(d->size, PG(12));
	for (u64 at = cut; at < PG(12); at += 97)
		assert_int_equal(byte_at(o, at), 0);
	assert_int_not_equal(byte_at(o, cut - 1), 0);
	/* Refused by the medium: nothing has happened. */
	d->fail_resize = -EIO;
	assert_int_equal(object_truncate(o, PG(2)), -EIO);
	assert_int_equal(object_truncate(o, PG(200)), -EIO);
	d->fail_resize = 0;
	assert_int_equal(object_size(o), PG(12));
	expect_pages(o, 0, 7, 3);
	assert_int_equal(object_truncate(o, OBJECT_SIZE_MAX + 1), -EFBIG);
	/* To nothing, and the cache is empty. */
	assert_int_equal(object_truncate(o, 0), 0);
	assert_int_equal(o->nr_pages, 0);
	assert_int_equal(o->pages.nr_nodes, 0);
	assert_int_equal(d->size, 0);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

/* What lies behind the end of the last page, where mappings can store, is never the file's. */
static void test_behind_the_end(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	struct folio *f;
	u8 one = 1;

	(void)state;
	env_open(&e, 0, 0, NULL);
	for (u32 how = 0; how < 3; how++) {
		memset(d->bytes, 0, PG(4));
		d->released = false;
		o = object_new(&e, d, 0);
		assert_int_equal(object_write(o, 99, &one, 1), 1);
		f = object_lookup(o, 0);
		memset((u8 *)e.m->ops->frame_window(e.m, folio_pfn(e.q, f)) + 100, 0xaa,
		       PAGE_SIZE - 100);
		folio_put(e.q, f);
		if (how == 0) {
			assert_int_equal(object_truncate(o, PG(2)), 0);
		} else if (how == 1) {
			assert_int_equal(object_write(o, PG(1), &one, 1), 1);
		} else {
			assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, NULL), 0);
			assert_int_equal(d->size, 100);
			assert_int_equal(object_truncate(o, PG(2)), 0);
		}
		assert_int_equal(byte_at(o, 99), 1);
		for (u64 at = 100; at < PAGE_SIZE; at++)
			assert_int_equal(byte_at(o, at), 0);
		assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, NULL), 0);
		for (u64 at = 100; at < PAGE_SIZE; at++)
			assert_int_equal(d->bytes[at], 0);
		object_put(o);
	}
	env_close(&e);
	medium_free(d);
}

static void test_sparse_write(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	u8 one = 1;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, 10);
	assert_int_equal(object_write(o, PG(30) + 5, &one, 1), 1);
	assert_int_equal(object_size(o), PG(30) + 6);
	assert_int_equal(byte_at(o, PG(15)), 0);
	/* A failed write changes nothing, the size neither. */
	inject_every(&e.inject, INJECT_FRAME, 1);
	assert_int_equal(object_write(o, PG(40), &one, 1), -ENOMEM);
	inject_off(&e.inject, INJECT_FRAME);
	assert_int_equal(object_size(o), PG(30) + 6);
	assert_int_equal(object_check(o), 0);
	object_put(o);
	assert_int_equal(d->size, PG(30) + 6);
	env_close(&e);
	medium_free(d);
}

static void test_punch(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	u8 want[PG(20)], got[PG(20)];
	u64 seed = 77;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, 0);
	write_pages(o, 0, 20, 9);
	assert_int_equal(object_read(o, 0, want, sizeof(want), NULL), sizeof(want));
	for (u32 i = 0; i < 300; i++) {
		u64 start = (seed = seed * 6364136223846793005ull + 1) >> 33;
		u64 len = ((seed = seed * 6364136223846793005ull + 1) >> 33) % PG(3);

		start %= sizeof(want);
		if (i % 3 == 0)
			assert_int_equal(object_sync(o, i % 20, 20, NULL), 0);
		if (i % 2) {
			assert_int_equal(object_punch(o, start, len), 0);
			memset(want + start, 0, min(len, sizeof(want) - start));
		} else {
			len = min(len, sizeof(want) - start);
			memset(got, (int)i, len);
			memset(want + start, (int)i, len);
			assert_int_equal(object_write(o, start, got, len), len);
		}
		assert_int_equal(object_size(o), sizeof(want));
		assert_int_equal(object_read(o, 0, got, sizeof(got), NULL), sizeof(got));
		assert_memory_equal(got, want, sizeof(got));
		assert_int_equal(object_check(o), 0);
	}
	assert_int_equal(object_punch(o, PG(20), 1), 0);
	assert_int_equal(object_sync(o, 0, OBJECT_INDEX_MAX, NULL), 0);
	assert_memory_equal(d->bytes, want, sizeof(want));
	assert_int_equal(d->size, sizeof(want));
	/* Refused by the medium: everything is still there. */
	write_pages(o, 0, 20, 9);
	d->fail_zero = -EIO;
	assert_int_equal(object_punch(o, 0, PG(20)), -EIO);
	expect_pages(o, 0, 20, 9);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

/* ---- eviction ---- */

static bool evict(struct env *e, struct object *o, u64 index)
{
	struct folio *f = object_lookup(o, index);
	struct list dead;
	bool gone;
	int err;

	assert_non_null(f);
	lru_drain_all(e->q);
	assert_true(lru_isolate(e->q, f));
	folio_put(e->q, f); /* the isolation's is the only one */
	folio_lock(f);
	if (folio_test(f, PG_DIRTY))
		object_writeout(e->q, &f, 1, &err);
	gone = object_evict(e->q, f, 1, 17);
	folio_unlock(f);
	if (!gone) {
		lru_putback(e->q, f);
		return false;
	}
	list_init(&dead);
	list_add(&f->lru, &dead);
	phys_free_frozen_list(e->q, &dead);
	return true;
}

static void test_evict(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	struct folio *f;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, 0);
	write_pages(o, 0, 10, 4);
	for (u64 i = 0; i < 5; i++)
		assert_true(evict(&e, o, i));
	assert_int_equal(o->nr_pages, 5);
	assert_int_equal(o->nr_values, 5);
	assert_int_equal(d->writes, 5);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), 5);
	/* In use, or not written: it stays. */
	f = object_lookup(o, 7);
	assert_false(evict(&e, o, 7));
	folio_put(e.q, f);
	d->fail_write = -EIO;
	assert_false(evict(&e, o, 8));
	d->fail_write = 0;
	assert_int_equal(object_check(o), 0);
	expect_pages(o, 0, 10, 4);
	assert_int_equal(o->nr_values, 0);
	assert_int_equal(stat_read(e.q, STAT_REFAULT), 5);
	/* A read that fails leaves the stamp where it was. */
	assert_true(evict(&e, o, 2));
	d->fail_read = -EIO;
	assert_int_equal(object_read(o, PG(2), d->bytes, 1, NULL), -EIO);
	assert_int_equal(o->nr_values, 1);
	assert_int_equal(object_check(o), 0);
	d->fail_read = 0;
	/* Truncation takes stamps along. */
	assert_int_equal(object_truncate(o, 0), 0);
	assert_int_equal(o->nr_values, 0);
	assert_int_equal(o->pages.nr_nodes, 0);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

/* A pinned page that is truncated lives on by itself; the file gets a new one. */
static void test_truncate_pinned(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	struct folio *f;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, 0);
	write_pages(o, 0, 4, 4);
	f = object_lookup(o, 2);
	folio_get_nr(f, PIN_BIAS);
	assert_int_equal(object_truncate(o, PG(1)), 0);
	assert_null(folio_object(f));
	lru_drain_all(e.q);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), 2);
	write_pages(o, 0, 4, 5);
	memset(e.m->ops->frame_window(e.m, folio_pfn(e.q, f)), 0xaa, PAGE_SIZE);
	object_mark_dirty(f);
	expect_pages(o, 0, 4, 5);
	assert_int_equal(object_check(o), 0);
	folio_put_nr(e.q, f, PIN_BIAS + 1);
	lru_drain_all(e.q);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), 4);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

/* ---- large folios ---- */

static struct folio *insert_large(struct env *e, struct object *o, u64 index, unsigned order,
				  int want)
{
	struct folio *f = phys_alloc(e->q, 0, order);

	assert_non_null(f);
	rwsem_read_lock(&o->invalidate);
	folio_lock(f);
	assert_int_equal(object_insert(o, index, f, NULL), want);
	rwsem_read_unlock(&o->invalidate);
	if (want) {
		folio_unlock(f);
		folio_put(e->q, f);
		return NULL;
	}
	for (u32 i = 0; i < folio_nr(f); i++)
		memset(e->m->ops->frame_window(e->m, folio_pfn(e->q, f) + i), (int)(index + i + 1),
		       PAGE_SIZE);
	folio_set(f, PG_UPTODATE);
	object_mark_dirty(f);
	folio_unlock(f);
	return f;
}

static void test_large(void **state)
{
	struct env e;
	struct medium *d = medium_new();
	struct object *o;
	struct folio *f, *g;

	(void)state;
	env_open(&e, 0, 0, NULL);
	o = object_new(&e, d, PG(100));
	f = insert_large(&e, o, 16, 4, 0);
	insert_large(&e, o, 16, 0, -EEXIST);
	insert_large(&e, o, 0, 5, -EEXIST);
	for (u64 i = 16; i < 32; i++) {
		g = object_lookup(o, i);
		assert_ptr_equal(g, f);
		folio_put(e.q, g);
		assert_int_equal(byte_at(o, PG(i)), i + 1);
	}
	assert_int_equal(a32_read(&f->ref), 17);
	assert_int_equal(o->nr_dirty, 16);
	/* Written as one, though only its end is asked for. */
	assert_int_equal(object_sync(o, 31, 40, NULL), 0);
	assert_int_equal(o->nr_dirty, 0);
	assert_int_equal(d->write_calls, 1);
	/* A truncation inside it zeroes the rest of it. */
	assert_int_equal(object_truncate(o, PG(20) + 1), 0);
	assert_int_equal(object_truncate(o, PG(100)), 0);
	assert_int_equal(byte_at(o, PG(20)), 21);
	assert_int_equal(byte_at(o, PG(20) + 1), 0);
	assert_int_equal(byte_at(o, PG(31)), 0);
	assert_int_equal(object_check(o), 0);
	assert_int_equal(object_truncate(o, 0), 0);
	assert_int_equal(a32_read(&f->ref), 1);
	folio_put(e.q, f);
	object_put(o);
	env_close(&e);
	medium_free(d);
}

/* ---- failed allocations ---- */

static void test_injected(void **state)
{
	static const enum inject_point points[] = { INJECT_ARENA, INJECT_FRAME, INJECT_CHARGE,
						    INJECT_OBJECT_READ };
	u8 page[PG(40)];
	u32 refused = 0;

	(void)state;
	for (u32 p = 0; p < ARRAY_SIZE(points); p++) {
		struct env e;
		struct medium *d = medium_new();
		struct object_ra ra = { .pages = A_INIT(16) };
		struct object *o;

		env_open(&e, 0, 0, NULL);
		o = object_new(&e, d, PG(2000));
		for (u32 i = 0; i < PG(40); i++)
			d->bytes[PG(900) + i] = (u8)(i / 3);
		for (u64 nth = 1; nth < 60; nth++) {
			s64 got;

			inject_at(&e.inject, points[p], nth);
			got = object_read(o, PG(900), page, sizeof(page), &ra);
			inject_off(&e.inject, points[p]);
			refused += got != sizeof(page);
			if (got > 0)
				assert_memory_equal(page, d->bytes + PG(900), (size_t)got);
			assert_int_equal(object_check(o), 0);
			got = object_read(o, PG(900), page, sizeof(page), &ra);
			assert_int_equal(got, sizeof(page));
			assert_memory_equal(page, d->bytes + PG(900), sizeof(page));
			assert_int_equal(object_truncate(o, 0), 0);
			assert_int_equal(object_truncate(o, PG(2000)), 0);
			for (u32 i = 0; i < PG(40); i++)
				d->bytes[PG(900) + i] = (u8)(i / 3);
		}
		object_put(o);
		env_close(&e);
		medium_free(d);
	}
	assert_true(refused > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_write_sync), cmocka_unit_test(test_write_errors),
		cmocka_unit_test(test_read_errors),     cmocka_unit_test(test_truncate),
		cmocka_unit_test(test_behind_the_end),  cmocka_unit_test(test_sparse_write),
		cmocka_unit_test(test_punch),           cmocka_unit_test(test_evict),
		cmocka_unit_test(test_truncate_pinned), cmocka_unit_test(test_large),
		cmocka_unit_test(test_injected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
