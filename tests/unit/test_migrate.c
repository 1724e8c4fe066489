/* Migration: contents, counts and flags of pages that move, alone, shared, large, swapped, cached;
 * what other calls make of migration entries; destinations under failures. */
#include <pthread.h>

#include "core_env.h"
#include "migrate/migrate.h"

#define PAGES 48u

/* ---- migration as a test drives it: what happens between unmapping and copying is a hook ---- */

struct mover {
	struct env *e;
	unsigned node;
	u32 fail_alloc; /* so many allocations from now on fail */
	u32 fail_copy;  /* every so many-th copy of a batch fails; 0: none */
	u32 batches;    /* calls of the hook */
	bool only_single;
	u64 got, back;
	void (*hook)(struct mover *m); /* once, when the pages are unmapped */
	u64 va;                        /* the hook's */
	struct env *other;
};

static struct folio *mover_alloc(struct quire *q, struct folio *src, void *ctx)
{
	struct mover *m = ctx;
	struct folio *f;

	if (m->fail_alloc) {
		m->fail_alloc--;
		return NULL;
	}
	if (m->only_single && src->order)
		return NULL;
	f = phys_alloc(q, m->node, src->order);
	m->got += f != NULL;
	return f;
}

/* What comes back is as it was got. */
static void mover_free(struct quire *q, struct folio *dst, void *ctx)
{
	struct mover *m = ctx;
	u64 low = a64_read(&dst->flags) & (BIT(FOLIO_STATE_SHIFT) - 1);

	assert_int_equal(low, dst->order ? PGF(HEAD) : 0);
	assert_int_equal(a32_read(&dst->ref), 1);
	assert_null(aptr_read(&dst->mapping));
	assert_int_equal(dst->index, 0);
	assert_int_equal(dst->swap, 0);
	assert_int_equal(dst->charge, 0);
	assert_false(folio_mapped(dst));
	m->back++;
	folio_put(q, dst);
}

/* Another thread: this one holds the folio's lock. */
static void *hook_thread(void *arg)
{
	struct mover *m = arg;
	void (*hook)(struct mover *) = m->hook;

	m->hook = NULL;
	hook(m);
	return NULL;
}

static void mover_copy(struct quire *q, struct migrate_copy *copy, u32 n, void *ctx)
{
	struct machine *mach = q->machine;
	struct mover *m = ctx;

	if (m->hook) {
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, hook_thread, m), 0);
		assert_int_equal(pthread_join(t, NULL), 0);
	}
	m->batches++;
	for (u32 k = 0; k < n; k++) {
		u64 to = copy[k].to, from = copy[k].from;

		copy[k].err = m->fail_copy && k % m->fail_copy == 0 ? -ENOMEM : 0;
		for (u32 i = 0; i < copy[k].nr; i++) {
			void *dst = mach->ops->fill_begin(mach, to + i, 1);

			memcpy(dst, mach->ops->frame_window(mach, from + i), PAGE_SIZE);
			assert_int_equal(mach->ops->fill_end(mach, to + i, 1, dst), 0);
		}
	}
}

static const struct migrate_ops mover_ops = { mover_alloc, mover_free, mover_copy };

static struct folio *page_at(struct env *e, u64 va)
{
	u64 v = env_entry(e, va);

	assert_true(pte_present(v));
	return phys_record(e->q, entry_pfn(v));
}

static void isolate(struct env *e, struct folio *f, struct list *out)
{
	if (lru_isolate(e->q, f))
		list_add_tail(&f->lru, out);
}

static u64 run(struct mover *m, struct list *folios, enum migrate_mode mode,
	       struct migrate_counts *c)
{
	u64 left = migrate_folios(m->e->q, folios, &mover_ops, m, mode, MIGRATE_FOR_CALL, c);

	lru_putback_list(m->e->q, folios);
	return left;
}

/* Pages [va, va + n) to the mover's node. */
static u64 move(struct mover *m, u64 va, u64 n, struct migrate_counts *c)
{
	struct list folios;

	list_init(&folios);
	lru_drain_all(m->e->q);
	for (u64 i = 0; i < n; i++)
		if (pte_present(env_entry(m->e, va + PG(i))))
			isolate(m->e, folio_head(page_at(m->e, va + PG(i))), &folios);
	return run(m, &folios, MIGRATE_SYNC, c);
}

static unsigned node_at(struct env *e, u64 va)
{
	return folio_node(folio_head(page_at(e, va)));
}

static u64 map_pages(struct env *e, u64 pages, bool large)
{
	u64 va = env_map(e, pages, RW, 0);

	if (!large)
		assert_int_equal(space_advise(e->q, e->s, va, PG(pages), ADVISE_RANDOM), 0);
	return va;
}

#define FOR_PLAIN(fn)                                                       \
	static void fn##_all(void **st)                                     \
	{                                                                   \
		(void)st;                                                   \
		for (u32 k = 0; k < 16; k += 2)                             \
			for (u32 large = 0; large < 2; large++) {           \
				struct env e;                               \
				struct mover m = { .e = &e, .node = 1 };    \
				env_open_nodes(&e, k, 0, NULL, 2);          \
				fn(&m, map_pages(&e, PAGES, large), large); \
				env_close(&e);                              \
			}                                                   \
	}

/* ---- what moves ---- */

static void test_moves(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };
	u64 usage, resident;
	struct env *e = m->e;

	(void)large;
	env_write(e, va, PAGES, 1);
	usage = cgroup_usage(e->q, CGROUP_ROOT);
	resident = space_resident_pages(e->s);
	assert_int_equal(move(m, va, PAGES, &c), 0);
	assert_int_equal(c.moved, usage);
	assert_int_equal(c.failed, 0);
	for (u64 i = 0; i < PAGES; i++) {
		assert_int_equal(node_at(e, va + PG(i)), 1);
		/* Its own, and writable at once. */
		assert_true(page_exclusive(page_at(e, va + PG(i))));
		assert_true(pte_write(env_entry(e, va + PG(i))));
	}
	assert_int_equal(cgroup_usage(e->q, CGROUP_ROOT), usage);
	assert_int_equal(cgroup_peak(e->q, CGROUP_ROOT), usage);
	assert_int_equal(space_resident_pages(e->s), resident);
	assert_int_equal(phys_used(e->q, 1), usage);
	env_check(e);
	env_expect(e, va, PAGES, 1, 0);
	env_write(e, va, PAGES, 2);
	env_expect(e, va, PAGES, 2, 0);
	/* And back again, and out and in. */
	m->node = 0;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	assert_int_equal(node_at(e, va), 0);
	env_pageout(e, va, PAGES);
	assert_int_equal(space_resident_pages(e->s), 0);
	env_expect(e, va, PAGES, 2, 0);
}
FOR_PLAIN(test_moves)

/* One flush for a batch, and its copies together. */
static void batched(void **st)
{
	struct migrate_counts c = { 0 };
	struct mover m = { .node = 1 };
	struct env e;
	u64 va, before;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	m.e = &e;
	va = map_pages(&e, 32, false);
	env_write(&e, va, 32, 1);
	before = a64_read(&e.s->fs.rs.tlb.flushes);
	assert_int_equal(move(&m, va, 32, &c), 0);
	assert_int_equal(a64_read(&e.s->fs.rs.tlb.flushes) - before, 1);
	assert_int_equal(m.batches, 1);
	env_expect(&e, va, 32, 1, 0);
	env_close(&e);
}

/* Accessed, dirty, active, referenced; a clean page in the swap cache stays clean. */
static void flags_go_along(void **st)
{
	(void)st;
	for (u32 k = 0; k < 4; k += 2) {
		struct migrate_counts c = { 0 };
		struct mover m = { .node = 1 };
		u64 va, slots, out, flags;
		struct folio *f;
		struct env e;

		env_open_nodes(&e, k, 0, NULL, 2);
		m.e = &e;
		va = map_pages(&e, 4, false);
		env_write(&e, va, 4, 1);
		env_pageout(&e, va, 4);
		env_expect(&e, va, 4, 1, 0);
		lru_drain_all(e.q);
		slots = swap_used_slots(e.q);
		assert_int_not_equal(slots, 0);
		f = page_at(&e, va);
		lru_mark_accessed(e.q, f);
		lru_mark_accessed(e.q, f);
		flags = a64_read(&f->flags) & (PGF(ACTIVE) | PGF(REFERENCED) | PGF(UPTODATE) |
					       PGF(SWAPBACKED) | PGF(SWAPCACHE) | PGF(WORKINGSET));
		assert_true(flags & PGF(SWAPCACHE));
		assert_true(flags & PGF(ACTIVE));
		assert_int_equal(move(&m, va, 4, &c), 0);
		f = page_at(&e, va);
		assert_int_equal(folio_node(f), 1);
		assert_int_equal(a64_read(&f->flags) & flags, flags);
		assert_true(pte_young(env_entry(&e, va)));
		assert_int_equal(swap_used_slots(e.q), slots);
		env_check(&e);
		/* Clean: goes without being written. */
		out = stat_read(e.q, STAT_SWAP_OUT_PAGES);
		env_pageout(&e, va, 4);
		assert_int_equal(stat_read(e.q, STAT_SWAP_OUT_PAGES), out);
		env_expect(&e, va, 4, 1, 0);
		/* Written, moved: it must not go as clean. */
		env_write(&e, va, 4, 2);
		m.node = 0;
		move(&m, va, 4, &c);
		env_pageout(&e, va, 4);
		env_expect(&e, va, 4, 2, 0);
		env_close(&e);
	}
}

/* Two spaces; one of them has unmapped a part. */
static void test_shared(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };
	struct env child = *m->e;

	(void)large;
	env_write(m->e, va, PAGES, 1);
	assert_int_equal(space_fork(m->e->q, m->e->s, &child.s), 0);
	assert_int_equal(space_unmap(child.q, child.s, va + PG(3), PG(9)), 0);
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_check(m->e);
	for (u64 i = 0; i < PAGES; i++) {
		assert_int_equal(node_at(m->e, va + PG(i)), 1);
		if (i >= 3 && i < 12)
			continue;
		assert_ptr_equal(page_at(m->e, va + PG(i)), page_at(&child, va + PG(i)));
		assert_false(pte_write(env_entry(&child, va + PG(i))));
	}
	env_write(m->e, va, PAGES, 2);
	env_expect(&child, va, 3, 1, 0);
	env_expect(&child, va + PG(12), PAGES - 12, 1, 12);
	env_expect(m->e, va, PAGES, 2, 0);
	space_destroy(child.q, child.s);
}
FOR_PLAIN(test_shared)

/* Unmapped but cached (its write failed): found through its slot afterwards. */
static void unmapped_cached(void **st)
{
	struct migrate_counts c = { 0 };
	struct mover m = { .node = 1 };
	struct folio *f;
	struct env e;
	struct list folios;
	u64 va;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	m.e = &e;
	va = map_pages(&e, 1, false);
	env_write(&e, va, 1, 1);
	lru_drain_all(e.q);
	f = page_at(&e, va);
	inject_at(&e.inject, INJECT_STORE_WRITE, 1);
	env_pageout(&e, va, 1);
	inject_off(&e.inject, INJECT_STORE_WRITE);
	assert_true(pte_is_swap(env_entry(&e, va)));
	assert_true(folio_test(f, PG_SWAPCACHE));
	list_init(&folios);
	isolate(&e, f, &folios);
	assert_int_equal(run(&m, &folios, MIGRATE_SYNC, &c), 0);
	assert_int_equal(c.moved, 1);
	env_check(&e);
	env_expect(&e, va, 1, 1, 0);
	assert_int_equal(node_at(&e, va), 1);
	env_close(&e);
}

/* ---- what others make of migration entries ---- */

static void check_moving(struct mover *m)
{
	assert_true(pte_is_migration(env_entry(m->e, m->va)));
}

/* fork meanwhile: both have the page, neither may write it in place. */
static void hook_fork(struct mover *m)
{
	check_moving(m);
	assert_int_equal(space_fork(m->e->q, m->e->s, &m->other->s), 0);
}

static void test_fork_meanwhile(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };
	struct env child = *m->e;

	(void)large;
	env_write(m->e, va, PAGES, 1);
	m->hook = hook_fork;
	m->va = va;
	m->other = &child;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_check(m->e);
	assert_int_equal(space_resident_pages(child.s), space_resident_pages(m->e->s));
	env_write(m->e, va, PAGES, 2);
	env_expect(&child, va, PAGES, 1, 0);
	env_expect(m->e, va, PAGES, 2, 0);
	space_destroy(child.q, child.s);
}
FOR_PLAIN(test_fork_meanwhile)

static void hook_protect(struct mover *m)
{
	check_moving(m);
	assert_int_equal(space_protect(m->e->q, m->e->s, m->va, PG(8), PROT_BITS_READ), 0);
	assert_int_equal(space_protect(m->e->q, m->e->s, m->va + PG(8), PG(8), 0), 0);
}

static void test_protect_meanwhile(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };
	struct env *e = m->e;

	(void)large;
	env_write(e, va, PAGES, 1);
	m->hook = hook_protect;
	m->va = va;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_check(e);
	assert_int_equal(env_store(e, va, 5), -EACCES);
	assert_int_equal(env_load(e, va + PG(8)), -EACCES);
	assert_int_equal(space_protect(e->q, e->s, va, PG(16), RW), 0);
	/* Still its own: no copy. */
	c.moved = stat_read(e->q, STAT_FAULT_COW);
	env_expect(e, va, PAGES, 1, 0);
	env_write(e, va, PAGES, 2);
	assert_int_equal(stat_read(e->q, STAT_FAULT_COW), c.moved);
	env_expect(e, va, PAGES, 2, 0);
}
FOR_PLAIN(test_protect_meanwhile)

static void hook_unmap(struct mover *m)
{
	check_moving(m);
	assert_int_equal(space_unmap(m->e->q, m->e->s, m->va, PG(10)), 0);
}

static void test_unmap_meanwhile(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };

	(void)large;
	env_write(m->e, va, PAGES, 1);
	m->hook = hook_unmap;
	m->va = va;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_check(m->e);
	assert_int_equal(space_resident_pages(m->e->s), PAGES - 10);
	assert_int_equal(env_load(m->e, va), -EFAULT);
	env_expect(m->e, va + PG(10), PAGES - 10, 1, 10);
}
FOR_PLAIN(test_unmap_meanwhile)

static void hook_discard(struct mover *m)
{
	check_moving(m);
	assert_int_equal(space_advise(m->e->q, m->e->s, m->va, PG(PAGES), ADVISE_DONTNEED), 0);
}

static void test_discard_meanwhile(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };

	(void)large;
	env_write(m->e, va, PAGES, 1);
	m->hook = hook_discard;
	m->va = va;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	lru_drain_all(m->e->q);
	assert_int_equal(space_resident_pages(m->e->s), 0);
	assert_int_equal(phys_used(m->e->q, 1), 0);
	assert_int_equal(cgroup_usage(m->e->q, CGROUP_ROOT), 0);
	env_check(m->e);
	env_expect_zero(m->e, va, PAGES);
}
FOR_PLAIN(test_discard_meanwhile)

static void hook_remap(struct mover *m)
{
	check_moving(m);
	assert_int_equal(space_remap(m->e->q, m->e->s, m->va, PG(PAGES), PG(PAGES), 3,
				     m->va + PG(4096), &m->va),
			 0);
	check_moving(m);
}

static void test_remap_meanwhile(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };

	(void)large;
	env_write(m->e, va, PAGES, 1);
	m->hook = hook_remap;
	m->va = va;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_check(m->e);
	assert_int_equal(node_at(m->e, va + PG(4096)), 1);
	env_expect(m->e, va + PG(4096), PAGES, 1, 0);
}
FOR_PLAIN(test_remap_meanwhile)

static void hook_snapshot(struct mover *m)
{
	unsigned char vec[1];
	u64 at;

	check_moving(m);
	assert_int_equal(space_mincore(m->e->q, m->e->s, m->va, PG(1), vec), 0);
	assert_int_equal(vec[0] & 1, 1);
	assert_int_equal(space_snapshot(m->e->q, m->e->s, m->va, PG(PAGES), 0, &at), 0);
	m->va = at;
}

static void test_snapshot_meanwhile(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };

	(void)large;
	env_write(m->e, va, PAGES, 1);
	m->hook = hook_snapshot;
	m->va = va;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_check(m->e);
	env_write(m->e, va, PAGES, 2);
	env_expect(m->e, m->va, PAGES, 1, 0);
	env_expect(m->e, va, PAGES, 2, 0);
}
FOR_PLAIN(test_snapshot_meanwhile)

/* Locked in memory is not locked in a frame; what is unlocked meanwhile can be evicted. */
static void hook_munlock(struct mover *m)
{
	check_moving(m);
	assert_int_equal(space_munlock(m->e->q, m->e->s, m->va, PG(PAGES / 2)), 0);
}

static void test_mlocked(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };
	struct env *e = m->e;

	if (large)
		return;
	env_write(e, va, PAGES, 1);
	assert_int_equal(space_mlock(e->q, e->s, va, PG(PAGES), false), 0);
	m->hook = hook_munlock;
	m->va = va;
	assert_int_equal(move(m, va, PAGES, &c), 0);
	lru_drain_all(e->q);
	for (u64 i = 0; i < PAGES; i++)
		assert_int_equal(folio_test(page_at(e, va + PG(i)), PG_MLOCKED), i >= PAGES / 2);
	assert_int_equal(lru_size(e->q, 1, LRU_UNEVICTABLE), PAGES / 2);
	env_pageout(e, va, PAGES / 2);
	assert_int_equal(space_resident_pages(e->s), PAGES / 2);
	env_expect(e, va, PAGES, 1, 0);
}
FOR_PLAIN(test_mlocked)

/* ---- what does not move ---- */

static void test_pinned(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };
	struct folio *pin[1], *f;
	struct env *e = m->e;
	struct range r = { va + PG(5), va + PG(6) };
	u64 stay;

	(void)large;
	env_write(e, va, PAGES, 1);
	assert_int_equal(pin_pages(e->q, &e->s->fs, r, ACCESS_WRITE, pin), 1);
	f = folio_head(pin[0]);
	stay = folio_nr(f);
	assert_int_equal(move(m, va, PAGES, &c), stay);
	assert_int_equal(c.in_use, stay);
	assert_int_equal(c.failed, stay);
	assert_int_equal(m->got, m->back + (PAGES - stay) / stay);
	assert_ptr_equal(page_at(e, va + PG(5)), pin[0]);
	assert_true(page_exclusive(pin[0]));
	assert_true(folio_test(f, PG_LRU));
	env_check(e);
	unpin_pages(e->q, pin, 1);
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_expect(e, va, PAGES, 1, 0);
}

static void pinned_single(void **st)
{
	(void)st;
	for (u32 k = 0; k < 4; k += 2) {
		struct mover m = { .node = 1 };
		struct env e;

		env_open_nodes(&e, k, 0, NULL, 2);
		m.e = &e;
		test_pinned(&m, map_pages(&e, PAGES, false), false);
		env_close(&e);
	}
}

/* A reference that appears between unmapping and copying, as a lookup's. */
static void hook_reference(struct mover *m)
{
	struct folio *f = phys_record(m->e->q, migration_pfn(env_entry(m->e, m->va)));

	folio_get(folio_head(f));
}

static void test_referenced(struct mover *m, u64 va, bool large)
{
	struct migrate_counts c = { 0 };
	struct env *e = m->e;
	struct list folios;
	struct folio *f;

	(void)large;
	env_write(e, va, PAGES, 1);
	lru_drain_all(e->q);
	f = folio_head(page_at(e, va));
	list_init(&folios);
	isolate(e, f, &folios);
	m->hook = hook_reference;
	m->va = va;
	assert_int_equal(run(m, &folios, MIGRATE_SYNC, &c), folio_nr(f));
	assert_int_equal(m->got, m->back);
	assert_ptr_equal(folio_head(page_at(e, va)), f);
	assert_int_equal(folio_test(f, PG_PARTIAL), 0);
	folio_put(e->q, f);
	env_check(e);
	env_expect(e, va, PAGES, 1, 0);
	assert_int_equal(move(m, va, PAGES, &c), 0);
	env_expect(e, va, PAGES, 1, 0);
}
FOR_PLAIN(test_referenced)

static void home_stays(void **st)
{
	struct migrate_counts c = { 0 };
	struct mover m = { .node = 0 };
	struct env e;
	u64 va;

	(void)st;
	env_open(&e, 1, 0, NULL);
	m.e = &e;
	va = env_map(&e, 16, RW, 0);
	env_write(&e, va, 16, 1);
	assert_true(move(&m, va, 16, &c) >= 16);
	assert_int_equal(c.home, c.failed);
	assert_int_equal(c.moved, 0);
	env_expect(&e, va, 16, 1, 0);
	env_close(&e);
}

/* ---- large folios, failures ---- */

static void split(void **st)
{
	struct migrate_counts c = { 0 };
	struct mover m = { .node = 1, .only_single = true };
	struct env e;
	u64 va;

	(void)st;
	env_open_nodes(&e, 2, 0, NULL, 2);
	m.e = &e;
	va = env_map(&e, 64, RW, 0);
	env_write(&e, va, 64, 1);
	assert_int_not_equal(folio_head(page_at(&e, va))->order, 0);
	assert_int_equal(move(&m, va, 64, &c), 0);
	assert_int_equal(c.moved, 64);
	assert_int_equal(c.split, stat_read(e.q, STAT_MIGRATE_SPLIT));
	assert_true(c.split > 0);
	for (u64 i = 0; i < 64; i++)
		assert_int_equal(node_at(&e, va + PG(i)), 1);
	env_check(&e);
	env_expect(&e, va, 64, 1, 0);
	env_close(&e);
}

/* Every allocation of a destination, and every move, fails now and then; nothing is lost. */
static void test_failures(struct mover *m, u64 va, bool large)
{
	struct env *e = m->e;

	(void)large;
	env_write(e, va, PAGES, 1);
	for (u32 i = 0; i < 24; i++) {
		struct migrate_counts c = { 0 };
		u64 left, used;

		m->got = m->back = 0;
		m->node = i & 1 ? 0 : 1;
		m->fail_alloc = i % 5;
		m->fail_copy = i % 4;
		inject_at(&e->inject, INJECT_MIGRATE, 1 + i % 7);
		left = move(m, va, PAGES, &c);
		inject_off(&e->inject, INJECT_MIGRATE);
		assert_int_equal(left, c.failed);
		used = m->got - m->back;
		assert_true(used <= c.moved);
		env_check(e);
		env_expect(e, va, PAGES, 1, 0);
	}
}
FOR_PLAIN(test_failures)

/* ---- move_pages ---- */

static void test_move_pages(struct mover *m, u64 va, bool large)
{
	struct range r = { va + PG(7), va + PG(8) };
	u64 at[PAGES + 2];
	int status[PAGES + 2];
	struct folio *pin[1];
	struct env *e = m->e;

	(void)large;
	env_write(e, va, PAGES - 1, 1);
	assert_int_equal(space_advise(e->q, e->s, va + PG(PAGES - 1), PG(1), ADVISE_DONTNEED), 0);
	for (u64 i = 0; i < PAGES; i++)
		at[i] = va + PG(i);
	at[PAGES] = va + PG(100000);
	assert_int_equal(space_move_to_node(e->q, e->s, at, PAGES, 2, status), -EINVAL);
	assert_int_equal(space_move_to_node(e->q, e->s, at, PAGES + 1, 1, status), 0);
	for (u64 i = 0; i < PAGES - 1; i++)
		assert_int_equal(status[i], 1);
	assert_int_equal(status[PAGES - 1], -ENOENT);
	assert_int_equal(status[PAGES], -EFAULT);
	assert_int_equal(pin_pages(e->q, &e->s->fs, r, ACCESS_READ, pin), 1);
	assert_int_equal(space_move_to_node(e->q, e->s, at, PAGES, 0, status), 0);
	assert_int_equal(status[7], -EBUSY);
	assert_int_equal(node_at(e, va + PG(7)), 1);
	unpin_pages(e->q, pin, 1);
	assert_int_equal(space_move_to_node(e->q, e->s, at, PAGES, 0, status), 0);
	assert_int_equal(status[7], 0);
	env_check(e);
	env_expect(e, va, PAGES - 1, 1, 0);
}
FOR_PLAIN(test_move_pages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves_all),
		cmocka_unit_test(batched),
		cmocka_unit_test(flags_go_along),
		cmocka_unit_test(test_shared_all),
		cmocka_unit_test(unmapped_cached),
		cmocka_unit_test(test_fork_meanwhile_all),
		cmocka_unit_test(test_protect_meanwhile_all),
		cmocka_unit_test(test_unmap_meanwhile_all),
		cmocka_unit_test(test_discard_meanwhile_all),
		cmocka_unit_test(test_remap_meanwhile_all),
		cmocka_unit_test(test_snapshot_meanwhile_all),
		cmocka_unit_test(test_mlocked_all),
		cmocka_unit_test(pinned_single),
		cmocka_unit_test(test_referenced_all),
		cmocka_unit_test(home_stays),
		cmocka_unit_test(split),
		cmocka_unit_test(test_failures_all),
		cmocka_unit_test(test_move_pages_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
