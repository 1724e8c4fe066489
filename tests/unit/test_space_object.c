/* Areas of objects: shared and private ones, what is on the medium after a sync, truncation and
 * holes, forks, moves, reclaim, pins, and every allocation failing. */
#include "object_env.h"

#define PAGES 40u

struct fixture {
	struct env e;
	struct medium *d;
	struct object *o;
};

/* The medium's page i is env_page(tag 1, i). */
static void fix_open(struct fixture *x, u32 kind, u64 limit, u64 size)
{
	env_open(&x->e, kind, limit, NULL);
	x->d = medium_new();
	for (u64 i = 0; i < MEDIUM_PAGES; i++)
		env_page((u64 *)(x->d->bytes + PG(i)), 1, i);
	memset(x->d->bytes + size, 0, PG(MEDIUM_PAGES) - size);
	x->o = object_new(&x->e, x->d, size);
}

static void fix_close(struct fixture *x)
{
	env_check(&x->e);
	if (x->o)
		object_put(x->o);
	assert_int_equal(space_unmap(x->e.q, x->e.s, space_usable(x->e.s).start,
				     range_size(space_usable(x->e.s))),
			 0);
	assert_int_equal(objects_live(x->e.q), 0);
	env_close(&x->e);
	medium_free(x->d);
}

static u64 map_object(struct fixture *x, u64 pages, u32 prot, u32 flags, u64 first)
{
	u64 va = 0;

	assert_int_equal(
		space_map_object(x->e.q, x->e.s, 0, PG(pages), prot, flags, x->o, PG(first), &va),
		0);
	return va;
}

static void expect_medium(struct fixture *x, u64 page, u64 tag, u64 i)
{
	u64 want[PAGE_SIZE / 8];

	env_page(want, tag, i);
	assert_memory_equal(x->d->bytes + PG(page), want, PAGE_SIZE);
}

static int sync_all(struct fixture *x, u64 va, u64 pages)
{
	return space_sync(x->e.q, x->e.s, va, PG(pages), SPACE_SYNC_WAIT);
}

#define FOR_PLAIN(fn)                                  \
	static void fn##_all(void **st)                \
	{                                              \
		(void)st;                              \
		for (u32 k = 0; k < 4; k += 2) {       \
			struct fixture x;              \
			fix_open(&x, k, 0, PG(PAGES)); \
			fn(&x);                        \
			fix_close(&x);                 \
		}                                      \
	}

static void test_shared(struct fixture *x)
{
	u64 va = map_object(x, PAGES, RW, MAP_F_SHARED, 0), writes;
	struct env *e = &x->e;

	env_expect(e, va, PAGES, 1, 0);
	env_check(e);
	env_write(e, va, PAGES / 2, 2);
	env_check(e);
	/* Not before the sync. */
	expect_medium(x, 0, 1, 0);
	assert_int_equal(sync_all(x, va, PAGES), 0);
	for (u64 i = 0; i < PAGES; i++)
		expect_medium(x, i, i < PAGES / 2 ? 2 : 1, i);
	assert_int_equal(x->d->writes, PAGES / 2);
	object_expect_clean(x->o);
	env_check(e);
	/* Nothing is dirty: nothing is written. A store after the sync is. */
	assert_int_equal(sync_all(x, va, PAGES), 0);
	assert_int_equal(x->d->writes, PAGES / 2);
	assert_false(pte_write(env_entry(e, va)));
	assert_int_equal(env_write_page(e, va + PG(3), 4, 3), 0);
	assert_int_equal(env_write_page(e, va + PG(PAGES - 1), 4, PAGES - 1), 0);
	writes = x->d->writes;
	assert_int_equal(sync_all(x, va, PAGES), 0);
	assert_int_equal(x->d->writes, writes + 2);
	expect_medium(x, 3, 4, 3);
	expect_medium(x, PAGES - 1, 4, PAGES - 1);
}
FOR_PLAIN(test_shared)

/* Through two areas, the calls, and another space. */
static void test_coherent(struct fixture *x)
{
	struct env *e = &x->e, c = x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0);
	u64 b = map_object(x, PAGES - 4, PROT_BITS_READ, MAP_F_SHARED, 4), va;
	u64 words[PAGE_SIZE / 8];

	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &c.s), 0);
	va = 0;
	assert_int_equal(space_map_object(e->q, c.s, 0, PG(PAGES), RW, MAP_F_SHARED, x->o, 0, &va),
			 0);
	env_expect(e, b, PAGES - 4, 1, 4);
	env_write(e, a, PAGES, 2);
	env_expect(e, b, PAGES - 4, 2, 4);
	env_expect(&c, va, PAGES, 2, 0);
	env_write(&c, va, PAGES, 3);
	env_expect(e, a, PAGES, 3, 0);
	env_page(words, 5, 7);
	assert_int_equal(object_write(x->o, PG(7), words, PAGE_SIZE), PAGE_SIZE);
	env_expect(e, b + PG(3), 1, 5, 7);
	assert_int_equal(env_write_page(&c, va + PG(7), 6, 7), 0);
	assert_int_equal(object_read(x->o, PG(7), words, PAGE_SIZE, NULL), PAGE_SIZE);
	env_check(e);
	assert_int_equal(sync_all(x, a, PAGES), 0);
	/* All entries of all spaces lost the right to write. */
	assert_false(pte_write(env_entry(&c, va + PG(7))));
	expect_medium(x, 7, 6, 7);
	expect_medium(x, 8, 3, 8);
	space_destroy(e->q, c.s);
	assert_int_equal(env_store(e, b, 1), -EACCES);
}
FOR_PLAIN(test_coherent)

static void test_private(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES, RW, 0, 0), s = map_object(x, PAGES, RW, MAP_F_SHARED, 0);
	u64 cow = stat_read(e->q, STAT_FAULT_COW);

	/* The first half is copied after it was read, the second at once. */
	env_expect(e, a, PAGES / 2, 1, 0);
	env_check(e);
	for (u64 i = 0; i < PAGES; i++)
		assert_int_equal(env_write_page(e, a + PG(i), 2, i), 0);
	assert_int_equal(stat_read(e->q, STAT_FAULT_COW), cow + PAGES);
	env_check(e);
	env_expect(e, a, PAGES, 2, 0);
	env_expect(e, s, PAGES, 1, 0);
	/* What was copied does not follow the object; the rest does. */
	assert_int_equal(space_advise(e->q, e->s, a, PG(4), ADVISE_DONTNEED), 0);
	env_write(e, s, PAGES, 3);
	env_expect(e, a, 4, 3, 0);
	env_expect(e, a + PG(4), PAGES - 4, 2, 4);
	assert_int_equal(sync_all(x, a, PAGES), 0);
	expect_medium(x, 4, 1, 4);
	assert_int_equal(sync_all(x, s, PAGES), 0);
	expect_medium(x, 4, 3, 4);
	/* Copies go to the stores, and come back. */
	env_pageout(e, a, PAGES);
	env_check(e);
	env_expect(e, a + PG(4), PAGES - 4, 2, 4);
	env_expect(e, a, 4, 3, 0);
}
FOR_PLAIN(test_private)

static void test_end(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES + 8, RW, MAP_F_SHARED, 0);
	u64 p = map_object(x, PAGES + 8, RW, 0, 0);

	assert_int_equal(env_load(e, a + PG(PAGES)), -ENXIO);
	assert_int_equal(env_store(e, a + PG(PAGES + 3), 1), -ENXIO);
	assert_int_equal(env_load(e, p + PG(PAGES)), -ENXIO);
	assert_int_equal(env_store(e, p + PG(PAGES), 1), -ENXIO);
	env_write(e, a, PAGES, 2);
	env_write(e, p + PG(PAGES / 2), PAGES / 2, 3);
	/* Copies beyond the end go too (POSIX). */
	assert_int_equal(object_truncate(x->o, PG(PAGES / 2) + 100), 0);
	env_check(e);
	for (u64 i = PAGES / 2 + 1; i < PAGES; i++) {
		assert_int_equal(env_load(e, a + PG(i)), -ENXIO);
		assert_int_equal(env_load(e, p + PG(i)), -ENXIO);
	}
	env_expect(e, a, PAGES / 2, 2, 0);
	assert_int_equal(object_truncate(x->o, PG(PAGES)), 0);
	env_expect_zero(e, a + PG(PAGES / 2 + 1), PAGES / 2 - 1);
	env_expect_zero(e, p + PG(PAGES / 2 + 1), PAGES / 2 - 1);
	/* The page that is cut keeps what is left of it, and a private copy of it stays whole. */
	{
		u64 want[PAGE_SIZE / 8], got[PAGE_SIZE / 8];

		env_page(want, 2, PAGES / 2);
		memset((u8 *)want + 100, 0, PAGE_SIZE - 100);
		assert_int_equal(sim_load(e->m, 0, e->s->ms, a + PG(PAGES / 2), got, PAGE_SIZE), 0);
		assert_memory_equal(got, want, PAGE_SIZE);
	}
	env_check(e);
	assert_int_equal(object_truncate(x->o, 0), 0);
	assert_int_equal(env_load(e, a), -ENXIO);
	assert_int_equal(space_resident_pages(e->s), 0);
	assert_int_equal(x->o->nr_pages, 0);
}
FOR_PLAIN(test_end)

static void test_hole(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0), p = map_object(x, PAGES, RW, 0, 0);

	env_write(e, a, PAGES, 2);
	env_write(e, p, 10, 3);
	env_expect(e, p + PG(10), 10, 2, 10);
	/* Private copies stay, the object's pages go, wherever they are mapped. */
	assert_int_equal(object_punch(x->o, PG(5), PG(10)), 0);
	env_check(e);
	env_expect(e, p, 10, 3, 0);
	env_expect_zero(e, p + PG(10), 5);
	env_expect(e, p + PG(15), 5, 2, 15);
	env_expect_zero(e, a + PG(5), 10);
	env_expect(e, a, 5, 2, 0);
	assert_int_equal(sync_all(x, a, PAGES), 0);
	expect_medium(x, 4, 2, 4);
	assert_int_equal(x->d->bytes[PG(5)], 0);
	expect_medium(x, 15, 2, 15);
}
FOR_PLAIN(test_hole)

static u64 count_areas(struct env *e)
{
	u64 n = 0;

	space_read_lock(&e->s->fs.vmas);
	for (struct vma *v = vma_find_first(&e->s->fs.vmas, 0); v; v = vma_next(&e->s->fs.vmas, v))
		n++;
	assert_int_equal(vmas_mergeable(&e->s->fs.vmas), 0);
	space_read_unlock(&e->s->fs.vmas);
	return n;
}

/* Areas split and merge, and stay where rmap finds them. */
static void test_areas(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0), at;

	env_write(e, a, PAGES, 2);
	assert_int_equal(space_protect(e->q, e->s, a + PG(8), PG(8), PROT_BITS_READ), 0);
	assert_int_equal(count_areas(e), 3);
	env_check(e);
	assert_int_equal(env_store(e, a + PG(8), 1), -EACCES);
	assert_int_equal(sync_all(x, a, PAGES), 0);
	object_expect_clean(x->o);
	env_check(e);
	assert_int_equal(space_protect(e->q, e->s, a + PG(8), PG(8), RW), 0);
	assert_int_equal(count_areas(e), 1);
	env_write(e, a, PAGES, 3);
	assert_int_equal(space_unmap(e->q, e->s, a + PG(10), PG(10)), 0);
	assert_int_equal(count_areas(e), 2);
	env_check(e);
	/* What was unmapped dirty is written, too. */
	assert_int_equal(object_sync(x->o, 0, PAGES - 1, NULL), 0);
	for (u64 i = 0; i < PAGES; i++)
		expect_medium(x, i, 3, i);
	/* The same pages in the gap: one area again. Others: three. */
	assert_int_equal(space_map_object(e->q, e->s, a + PG(10), PG(10), RW,
					  MAP_F_SHARED | MAP_F_NOREPLACE, x->o, PG(10), &at),
			 0);
	assert_int_equal(count_areas(e), 1);
	env_expect(e, a, PAGES, 3, 0);
	assert_int_equal(space_map_object(e->q, e->s, a + PG(10), PG(10), RW,
					  MAP_F_SHARED | MAP_F_FIXED, x->o, PG(11), &at),
			 0);
	assert_int_equal(count_areas(e), 3);
	env_expect(e, a + PG(10), 10, 3, 11);
	assert_int_equal(space_map_object(e->q, e->s, a + PG(10), PG(10), RW, MAP_F_FIXED, x->o,
					  PG(10), &at),
			 0);
	assert_int_equal(count_areas(e), 3);
	env_check(e);
	/* Truncation finds every one of them. */
	assert_int_equal(object_truncate(x->o, 0), 0);
	assert_int_equal(space_resident_pages(e->s), 0);
}
FOR_PLAIN(test_areas)

static void test_remap(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0), p = map_object(x, PAGES, RW, 0, 0), to;

	env_write(e, a, PAGES, 2);
	env_write(e, p, 10, 3);
	env_expect(e, p + PG(10), PAGES - 10, 2, 10);
	/* Moved, from the middle; the object's pages follow the area. */
	to = space_usable(e->s).start + PG(4096);
	assert_int_equal(space_remap(e->q, e->s, a + PG(4), PG(20), PG(24), 3, to, &to), 0);
	env_check(e);
	env_expect(e, to, 24, 2, 4);
	assert_int_equal(env_load(e, a + PG(4)), -EFAULT);
	env_expect(e, a, 4, 2, 0);
	env_write(e, to, 24, 4);
	assert_int_equal(sync_all(x, to, 24), 0);
	expect_medium(x, 4, 4, 0);
	/* Written are those that moved, and those only: the rest is mapped elsewhere. */
	assert_int_equal(x->o->nr_dirty, PAGES - 24);
	assert_int_equal(x->d->writes, 24);
	assert_int_equal(space_remap(e->q, e->s, p, PG(PAGES), PG(PAGES + 4), 1, 0, &to), 0);
	env_check(e);
	env_expect(e, to, 10, 3, 0);
	assert_int_equal(env_load(e, to + PG(PAGES)), -ENXIO);
	env_pageout(e, to, PAGES);
	env_expect(e, to, 10, 3, 0);
	assert_int_equal(object_truncate(x->o, PG(5)), 0);
	env_check(e);
	env_expect(e, to, 5, 3, 0);
	assert_int_equal(env_load(e, to + PG(5)), -ENXIO);
}
FOR_PLAIN(test_remap)

static void test_fork(struct fixture *x)
{
	struct env *e = &x->e, c = x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0), p = map_object(x, PAGES, RW, 0, 0);

	env_write(e, a, PAGES, 2);
	env_write(e, p, 10, 3);
	env_expect(e, p + PG(10), 10, 2, 10);
	assert_int_equal(space_fork(e->q, e->s, &c.s), 0);
	env_check(e);
	env_expect(&c, a, PAGES, 2, 0);
	env_expect(&c, p, 10, 3, 0);
	env_write(&c, a, PAGES, 4);
	env_expect(e, a, PAGES, 4, 0);
	env_expect(&c, p + PG(10), PAGES - 10, 4, 10);
	env_write(&c, p, 12, 5);
	env_expect(e, p, 10, 3, 0);
	env_expect(e, p + PG(10), 10, 4, 10);
	env_check(e);
	assert_int_equal(object_truncate(x->o, PG(5)), 0);
	env_check(e);
	env_expect(&c, p, 5, 5, 0);
	env_expect(e, p, 5, 3, 0);
	assert_int_equal(env_load(&c, p + PG(5)), -ENXIO);
	assert_int_equal(env_load(e, p + PG(5)), -ENXIO);
	space_destroy(e->q, c.s);
}
FOR_PLAIN(test_fork)

/* Eviction writes to the medium, and what comes back is what was stored. */
static void test_pageout(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0);

	env_write(e, a, PAGES, 2);
	lru_drain_all(e->q);
	env_pageout(e, a, PAGES);
	env_check(e);
	assert_int_equal(x->o->nr_pages, 0);
	assert_int_equal(x->d->writes, PAGES);
	for (u64 i = 0; i < PAGES; i++)
		expect_medium(x, i, 2, i);
	env_expect(e, a, PAGES, 2, 0);
	/* Clean ones just go. */
	lru_drain_all(e->q);
	env_pageout(e, a, PAGES);
	assert_int_equal(x->o->nr_pages, 0);
	assert_int_equal(x->d->writes, PAGES);
	/* A medium that fails: they stay, dirty. */
	env_write(e, a, PAGES, 3);
	lru_drain_all(e->q);
	x->d->fail_write = -EIO;
	env_pageout(e, a, PAGES);
	env_check(e);
	assert_int_equal(x->o->nr_pages, PAGES);
	env_expect(e, a, PAGES, 3, 0);
	assert_int_equal(sync_all(x, a, PAGES), -EIO);
	x->d->fail_write = 0;
	assert_int_equal(sync_all(x, a, PAGES), 0);
	expect_medium(x, 1, 3, 1);
	/* Locked ones stay. */
	assert_int_equal(space_mlock(e->q, e->s, a, PG(8), false), 0);
	assert_int_equal(space_advise(e->q, e->s, a, PG(8), ADVISE_PAGEOUT), -EINVAL);
	env_pageout(e, a + PG(8), PAGES - 8);
	assert_int_equal(x->o->nr_pages, 8);
	assert_int_equal(space_munlock(e->q, e->s, a, PG(8)), 0);
	env_pageout(e, a, PAGES);
	assert_int_equal(x->o->nr_pages, 0);
}
FOR_PLAIN(test_pageout)

static void test_read_error(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0), p = map_object(x, PAGES, RW, 0, 0);

	x->d->fail_read = -EIO;
	assert_int_equal(env_load(e, a), -EIO);
	assert_int_equal(env_store(e, a, 1), -EIO);
	assert_int_equal(env_store(e, p, 1), -EIO);
	env_check(e);
	assert_int_equal(x->o->nr_pages, 0);
	x->d->fail_read = 0;
	env_expect(e, a, PAGES, 1, 0);
}
FOR_PLAIN(test_read_error)

static void test_rights(struct fixture *x)
{
	struct env *e = &x->e;
	struct object_config oc = { .size = PG(4), .flags = OBJECT_READONLY };
	struct medium *d = medium_new();
	struct object *o;
	unsigned char vec[PAGES];
	u64 va = 0, a;

	assert_int_equal(object_create(e->q, &medium_ops, d, &oc, &o), 0);
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(4), RW, MAP_F_SHARED, o, 0, &va),
			 -EACCES);
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(4), RW, MAP_F_SHARED, o, 100, &va),
			 -EINVAL);
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(4), RW, 0, o, ~0ull << PAGE_SHIFT, &va),
			 -EOVERFLOW);
	assert_int_equal(
		space_map_object(e->q, e->s, 0, PG(4), PROT_BITS_READ, MAP_F_SHARED, o, 0, &va), 0);
	assert_int_equal(space_protect(e->q, e->s, va, PG(4), RW), -EACCES);
	assert_int_equal(env_load(e, va), 0);
	assert_int_equal(space_unmap(e->q, e->s, va, PG(4)), 0);
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(4), RW, 0, o, 0, &va), 0);
	env_write(e, va, 4, 2);
	env_expect(e, va, 4, 2, 0);
	assert_int_equal(space_unmap(e->q, e->s, va, PG(4)), 0);
	object_put(o);
	medium_free(d);
	a = map_object(x, PAGES, RW, MAP_F_SHARED, 0);
	assert_int_equal(space_advise(e->q, e->s, a, PG(4), ADVISE_FREE), -EINVAL);
	assert_int_equal(space_advise(e->q, e->s, a, PG(4), ADVISE_WIPEONFORK), -EINVAL);
	assert_int_equal(space_sync(e->q, e->s, a, PG(4), 5), -EINVAL);
	assert_int_equal(space_sync(e->q, e->s, a + 1, PG(4), 4), -EINVAL);
	assert_int_equal(space_sync(e->q, e->s, a, PG(PAGES + 100), 4), -ENOMEM);
	assert_int_equal(env_load(e, a + PG(16)), 0);
	assert_int_equal(space_mincore(e->q, e->s, a, PG(PAGES), vec), 0);
	assert_int_equal(vec[16], 1);
	assert_int_equal(vec[PAGES - 1], 0);
	/* Populating for mlock makes nothing dirty. */
	assert_int_equal(space_mlock(e->q, e->s, a, PG(PAGES), false), 0);
	object_expect_clean(x->o);
	assert_int_equal(space_sync(e->q, e->s, a, PG(4), SPACE_SYNC_INVALIDATE), -EBUSY);
	assert_int_equal(space_resident_pages(e->s), PAGES);
	assert_int_equal(space_advise(e->q, e->s, a, PG(4), ADVISE_POPULATE_WRITE), 0);
	assert_int_equal(x->o->nr_dirty, 4);
}
FOR_PLAIN(test_rights)

/* Pinned pages are not taken away, and what is stored through a pin gets to the medium. */
static void test_pins(struct fixture *x)
{
	struct env *e = &x->e;
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0), p = map_object(x, PAGES, RW, 0, 0);
	struct folio *page[2], *copy;
	struct range r = { a + PG(2), a + PG(4) }, pr = { p, p + PAGE_SIZE };
	u8 *bytes;

	assert_int_equal(pin_fast(e->q, &e->s->fs, r, ACCESS_WRITE, page), 2);
	env_check(e);
	assert_int_equal(x->o->nr_dirty, 2);
	assert_int_equal(sync_all(x, a, PAGES), 0);
	/* Written, but dirty still, because the pin may store at any time. */
	assert_int_equal(x->o->nr_dirty, 2);
	bytes = e->m->ops->frame_window(e->m, folio_pfn(e->q, page[0]));
	env_page((u64 *)bytes, 9, 2);
	env_pageout(e, a, PAGES);
	env_expect(e, a + PG(2), 1, 9, 2);
	unpin_pages(e->q, page, 2);
	assert_int_equal(sync_all(x, a, PAGES), 0);
	expect_medium(x, 2, 9, 2);
	assert_int_equal(x->o->nr_dirty, 0);
	/* For reading, in the private area: a copy, which later stores go to as well. */
	assert_int_equal(env_load(e, p), 0);
	assert_int_equal(pin_fast(e->q, &e->s->fs, pr, ACCESS_READ | ACCESS_LONGTERM, &copy), 1);
	assert_true(page_exclusive(copy));
	env_write(e, p, 1, 7);
	bytes = e->m->ops->frame_window(e->m, folio_pfn(e->q, copy));
	{
		u64 want[PAGE_SIZE / 8];

		env_page(want, 7, 0);
		assert_memory_equal(bytes, want, PAGE_SIZE);
	}
	unpin_pages(e->q, &copy, 1);
	/* A pinned page that is truncated lives on, no more the object's. */
	assert_int_equal(pin_fast(e->q, &e->s->fs, r, ACCESS_READ, page), 2);
	assert_int_equal(object_truncate(x->o, 0), 0);
	assert_ptr_equal(folio_object(page[0]), NULL);
	assert_int_equal(a32_read(&page[0]->ref), PIN_BIAS);
	unpin_pages(e->q, page, 2);
}
FOR_PLAIN(test_pins)

/* Far less memory than pages: everything goes round, and nothing is lost. */
static void test_pressure(void **st)
{
	(void)st;
	for (u32 k = 0; k < 4; k += 2) {
		struct fixture x;
		u64 a, p, n = 600;

		fix_open(&x, k, 128, PG(n));
		a = map_object(&x, n, RW, MAP_F_SHARED, 0);
		p = map_object(&x, n, RW, 0, 0);
		for (u64 i = 0; i < n; i += 2)
			assert_int_equal(env_write_page(&x.e, a + PG(i), 2, i), 0);
		for (u64 i = 0; i < n; i += 3)
			assert_int_equal(env_write_page(&x.e, p + PG(i), 3, i), 0);
		for (u64 i = 0; i < n; i++) {
			env_expect(&x.e, a + PG(i), 1, i % 2 ? 1 : 2, i);
			env_expect(&x.e, p + PG(i), 1, i % 3 == 0 ? 3 : i % 2 ? 1 : 2, i);
		}
		assert_true(cgroup_usage(x.e.q, CGROUP_ROOT) <= 128);
		assert_int_equal(stat_read(x.e.q, STAT_OVER_LIMIT), 0);
		env_check(&x.e);
		assert_int_equal(sync_all(&x, a, n), 0);
		for (u64 i = 0; i < n; i++)
			expect_medium(&x, i, i % 2 ? 1 : 2, i);
		fix_close(&x);
	}
}

/* The area keeps the object; what is dirty when both are gone is written. */
static void test_last_reference(struct fixture *x)
{
	u64 a = map_object(x, PAGES, RW, MAP_F_SHARED, 0);

	object_put(x->o);
	x->o = NULL;
	env_write(&x->e, a, PAGES, 2);
	assert_int_equal(space_unmap(x->e.q, x->e.s, a, PG(PAGES)), 0);
	assert_true(x->d->released);
	for (u64 i = 0; i < PAGES; i++)
		expect_medium(x, i, 2, i);
}
FOR_PLAIN(test_last_reference)

/* A bit of everything, with the n-th failure of one kind; true when there was none. */
static bool some_of_all(u32 kind, enum inject_point point, u64 nth)
{
	struct fixture x;
	struct env *e = &x.e, c;
	u64 a = 0, p = 0, to = 0;
	bool all = true, none;

	fix_open(&x, kind, 0, PG(PAGES));
	inject_at(&e->inject, point, nth);
	c = *e;
	if (space_map_object(e->q, e->s, 0, PG(PAGES), RW, MAP_F_SHARED, x.o, 0, &a) ||
	    space_map_object(e->q, e->s, 0, PG(PAGES), RW, 0, x.o, 0, &p)) {
		all = false;
		goto out;
	}
	for (u64 i = 0; i < PAGES; i += 5) {
		u64 va = (i % 2 ? a : p) + PG(i);

		all &= !env_load(e, va);
		all &= !env_write_page(e, va, 2, i);
	}
	all &= !space_protect(e->q, e->s, a + PG(5), PG(5), PROT_BITS_READ);
	all &= !space_unmap(e->q, e->s, p + PG(11), PG(2));
	if (!space_fork(e->q, e->s, &c.s)) {
		all &= !env_write_page(&c, p, 7, 0);
		space_destroy(e->q, c.s);
	} else {
		all = false;
	}
	all &= !space_remap(e->q, e->s, a + PG(20), PG(10), PG(10), 1, 0, &to);
	all &= !object_truncate(x.o, PG(30));
	env_pageout(e, p, 10);
	inject_off(&e->inject, point);
	/* Whatever was refused: what was stored is there. */
	for (u64 i = 5; i < 20 && all; i += 5)
		env_expect(e, (i % 2 ? a : p) + PG(i), 1, 2, i);
out:
	none = !inject_hits(&e->inject, point);
	inject_off(&e->inject, point);
	fix_close(&x);
	assert_true(all || !none);
	return none;
}

static void test_failures(void **st)
{
	static const enum inject_point points[] = { INJECT_ARENA, INJECT_FRAME, INJECT_TABLE,
						    INJECT_ENTRIES, INJECT_SLOT };

	(void)st;
	for (u32 k = 0; k < 4; k += 2)
		for (u32 i = 0; i < ARRAY_SIZE(points); i++)
			for (u64 nth = 1; !some_of_all(k, points[i], nth); nth++)
				assert_true(nth < 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_all),  cmocka_unit_test(test_coherent_all),
		cmocka_unit_test(test_private_all), cmocka_unit_test(test_end_all),
		cmocka_unit_test(test_hole_all),    cmocka_unit_test(test_areas_all),
		cmocka_unit_test(test_remap_all),   cmocka_unit_test(test_fork_all),
		cmocka_unit_test(test_pageout_all), cmocka_unit_test(test_read_error_all),
		cmocka_unit_test(test_rights_all),  cmocka_unit_test(test_pins_all),
		cmocka_unit_test(test_pressure),    cmocka_unit_test(test_last_reference_all),
		cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
