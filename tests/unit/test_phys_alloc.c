/* Frames: allocation in its three ways, the free path with its spans, splitting, and what must
 * stop. */
#include "phys_double.h"

static struct folio *must_alloc(struct world *w, unsigned order)
{
	struct folio *f = phys_alloc(&w->q, 0, order);

	assert_non_null(f);
	return f;
}

static struct folio *must_alloc_at(struct world *w, u64 pfn, unsigned order)
{
	struct folio *f = NULL;

	assert_int_equal(phys_alloc_at(&w->q, 0, pfn, order, &f), 0);
	assert_non_null(f);
	return f;
}

static int try_at(struct world *w, u64 pfn, unsigned order)
{
	struct folio *f;
	int err = phys_alloc_at(&w->q, 0, pfn, order, &f);

	if (!err)
		folio_put(&w->q, f);
	return err;
}

static void new_folio_is_clean(void **state)
{
	struct world *w = world_span(4, 2048);

	(void)state;
	for (unsigned order = 0; order <= MAX_FOLIO_ORDER; order++) {
		struct folio *f = must_alloc(w, order);
		u64 pfn = folio_pfn(&w->q, f);

		assert_int_equal(pfn % (1u << order), 0);
		assert_int_equal(a32_read(&f->ref), 1);
		assert_int_equal(a64_read(&f->flags) & (BIT(20) - 1), order ? PGF(HEAD) : 0);
		assert_int_equal(f->order, order);
		assert_null(aptr_read(&f->mapping));
		assert_int_equal(f->charge, 0);
		for (u32 i = 0; i < folio_nr(f); i++) {
			assert_ptr_equal(phys_record(&w->q, pfn + i), folio_page(f, i));
			assert_ptr_equal(phys_folio(&w->q, pfn + i), f);
			assert_ptr_equal(folio_head(folio_page(f, i)), f);
			assert_int_equal(folio_pfn(&w->q, folio_page(f, i)), pfn + i);
		}
		assert_int_equal(phys_used(&w->q, 0), folio_nr(f));
		assert_int_equal(phys_check(&w->q), 0);
		folio_put(&w->q, f);
		assert_int_equal(phys_used(&w->q, 0), 0);
	}
	world_end(w);
}

static void last_freed_comes_first(void **state)
{
	struct world *w = world_span(1, 512);
	struct folio *a = must_alloc(w, 0), *b = must_alloc(w, 0);

	(void)state;
	folio_put(&w->q, a);
	folio_put(&w->q, b);
	assert_ptr_equal(must_alloc(w, 0), b);
	assert_ptr_equal(must_alloc(w, 0), a);
	folio_put(&w->q, a);
	folio_put(&w->q, b);
	world_end(w);
}

/* All frames of a node can be had, not one more, and all merge again. */
static void capacity_is_exact(void **state)
{
	struct world *w = world_span(2, 1000);
	struct folio *f[1000];

	(void)state;
	for (u32 round = 0; round < 2; round++) {
		for (u32 i = 0; i < 1000; i++)
			f[i] = must_alloc(w, 0);
		assert_null(phys_alloc(&w->q, 0, 0));
		assert_int_equal(phys_used(&w->q, 0), 1000);
		assert_int_equal(phys_check(&w->q), 0);
		for (u32 i = 0; i < 1000; i++)
			folio_put(&w->q, f[(i * 7) % 1000]);
		/* The per-CPU lists are drained for it, and everything has merged. */
		f[0] = must_alloc(w, MAX_FOLIO_ORDER);
		assert_null(
			phys_alloc(&w->q, 0, MAX_FOLIO_ORDER)); /* 488 frames of capacity left */
		folio_put(&w->q, f[0]);
	}
	world_end(w);
}

static void numbers_run_out(void **state)
{
	struct world *w = world_span(2, ~0ull);
	struct folio *a = must_alloc(w, 9), *b = must_alloc(w, 9);
	u64 base;

	(void)state;
	assert_null(phys_alloc(&w->q, 0, 0));
	assert_int_equal(phys_resv_get(&w->q, 0, &base), -ENOMEM);
	assert_int_equal(phys_used(&w->q, 0), 1024);
	folio_put(&w->q, a);
	folio_put(&w->q, b);
	world_end(w);
}

static void reservation(void **state)
{
	struct world *w = world_span(2, 600);
	struct folio *f, *g, *all[512];
	u64 base, other;

	(void)state;
	assert_int_equal(phys_resv_get(&w->q, 0, &base), 0);
	assert_int_equal(base % 512, 0);
	assert_int_equal(phys_used(&w->q, 0), 0);
	f = must_alloc_at(w, base + 16, 4);
	assert_int_equal(phys_used(&w->q, 0), 16);
	assert_int_equal(try_at(w, base + 17, 0), -EBUSY);
	assert_int_equal(try_at(w, base, 9), -EBUSY);
	g = must_alloc_at(w, base + 3, 0);
	assert_int_equal(phys_check(&w->q), 0);

	phys_resv_put(&w->q, base);
	assert_int_equal(phys_check(&w->q), 0);
	assert_int_equal(try_at(w, base, 0), -EINVAL); /* not reserved any more */
	assert_int_equal(phys_resv_get(&w->q, 0, &other), 0);
	assert_int_not_equal(other, base);
	assert_int_equal(phys_resv_get(&w->q, 0, &base), -ENOMEM); /* its frames are in use */
	/* The frames left free by the reservation can be had; the last ones when their users go. */
	for (u32 i = 0; i < 512 - 17; i++)
		all[i] = must_alloc(w, 0);
	assert_null(phys_alloc(&w->q, 0, 0));
	for (u32 i = 0; i < 512 - 17; i++)
		folio_put(&w->q, all[i]);
	folio_put(&w->q, f);
	folio_put(&w->q, g);
	assert_int_equal(phys_resv_get(&w->q, 0, &base), 0);
	phys_resv_put(&w->q, base);
	phys_resv_put(&w->q, other);
	world_end(w);
}

static void home_frames(void **state)
{
	struct world *w = world_home();
	struct folio *f, *run[700];
	int got;

	(void)state;
	assert_null(phys_record(&w->q, HOME_BASE));
	f = must_alloc_at(w, HOME_BASE + 64, 5);
	assert_int_equal(folio_pfn(&w->q, f), HOME_BASE + 64);
	assert_int_equal(try_at(w, HOME_BASE + 64 + 31, 0), -EBUSY);
	assert_int_equal(try_at(w, HOME_BASE, 9), -EBUSY);
	/* A run ends before the first frame in use ... */
	assert_int_equal(phys_alloc_run_at(&w->q, 0, HOME_BASE + 1, 512, run), 63);
	for (u32 i = 0; i < 63; i++)
		assert_int_equal(folio_pfn(&w->q, run[i]), HOME_BASE + 1 + i);
	assert_int_equal(phys_alloc_run_at(&w->q, 0, HOME_BASE + 1, 4, run + 63), -EBUSY);
	/* ... and crosses blocks. */
	got = phys_alloc_run_at(&w->q, 0, HOME_BASE + 500, 600, run + 63);
	assert_int_equal(got, 600);
	assert_int_equal(phys_used(&w->q, 0), 32 + 63 + 600);
	assert_int_equal(phys_check(&w->q), 0);
	assert_null(phys_alloc(&w->q, 0, 0)); /* there is no "anywhere" */
	for (u32 i = 0; i < 663; i++)
		folio_put(&w->q, run[i]);
	folio_put(&w->q, f);
	assert_int_equal(try_at(w, MAX_PFN, 0), -EINVAL);
	assert_int_equal(try_at(w, MAX_PFN - 1, 0), 0);
	world_end(w);
}

static void assert_span(struct world *w, u32 i, u64 pfn, u32 nr)
{
	assert_true(i < w->nr_spans);
	assert_int_equal(w->span_pfn[i], pfn);
	assert_int_equal(w->span_nr[i], nr);
}

/* Holes of up to SPAN_GAP free frames are covered; a larger one or one with a user ends the span.
 */
static void spans_cover_holes(void **state)
{
	struct world *w = world_home();
	struct folio *f[6], *user;
	u32 refs[6] = { 1, 1, 1, 1, 1, 1 };

	(void)state;
	f[0] = must_alloc_at(w, HOME_BASE + 10, 0);
	f[1] = must_alloc_at(w, HOME_BASE + 12, 2);
	f[2] = must_alloc_at(w, HOME_BASE + 16 + 63, 0);
	f[3] = must_alloc_at(w, HOME_BASE + 80 + 64, 0); /* a hole of 64: too large */
	f[4] = must_alloc_at(w, HOME_BASE + 150, 0);
	user = must_alloc_at(w, HOME_BASE + 149, 0);
	f[5] = must_alloc_at(w, HOME_BASE + 512, 0); /* the next block */
	/* In any order: */
	struct folio *mixed[6] = { f[4], f[0], f[5], f[2], f[1], f[3] };
	folios_put_refs(&w->q, mixed, refs, 6);
	assert_int_equal(w->nr_spans, 4);
	/* Blocks go by where their records lie, not by their numbers. */
	u32 first = w->span_pfn[0] == HOME_BASE + 512 ? 1 : 0;
	assert_span(w, first, HOME_BASE + 10, 70);
	assert_span(w, first + 1, HOME_BASE + 144, 1);
	assert_span(w, first + 2, HOME_BASE + 150, 1);
	assert_span(w, first ? 0 : 3, HOME_BASE + 512, 1);
	assert_int_equal(phys_used(&w->q, 0), 1);
	folio_put(&w->q, user);
	world_end(w);
}

static u64 seen_busy;

static void look_inside(struct world *w, u64 pfn, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		seen_busy += try_at(w, pfn + i, 0) == -EBUSY;
	assert_int_equal(try_at(w, pfn + nr, 0),
			 0); /* allocates and frees: recursion of one level */
}

static void look_once(struct world *w, u64 pfn, u32 nr)
{
	w->on_release = double_note;
	look_inside(w, pfn, nr);
}

/* While the machine releases, neither the freed frames nor the holes can be allocated. */
static void released_frames_are_busy(void **state)
{
	struct world *w = world_home();
	struct folio *f[2];
	u32 refs[2] = { 1, 1 };

	(void)state;
	f[0] = must_alloc_at(w, HOME_BASE + 100, 0);
	f[1] = must_alloc_at(w, HOME_BASE + 110, 0);
	seen_busy = 0;
	w->on_release = look_once;
	folios_put_refs(&w->q, f, refs, 2);
	assert_int_equal(seen_busy, 11);
	for (u32 i = 0; i < 11; i++)
		assert_int_equal(try_at(w, HOME_BASE + 100 + i, 0), 0);
	world_end(w);
}

/* Elsewhere exact frames are released, neighbours together. */
static void no_holes_off_home(void **state)
{
	struct world *w = world_span(1, 512);
	struct folio *f[4];
	struct list frozen;
	u64 base;

	(void)state;
	assert_int_equal(phys_resv_get(&w->q, 0, &base), 0);
	list_init(&frozen);
	f[0] = must_alloc_at(w, base + 8, 3);
	f[1] = must_alloc_at(w, base + 16, 0);
	f[2] = must_alloc_at(w, base + 18, 0);
	f[3] = must_alloc_at(w, base + 64, 6);
	for (int i = 3; i >= 0; i--) {
		assert_true(folio_freeze(f[i], 1));
		list_add_tail(&f[i]->lru, &frozen);
	}
	phys_free_frozen_list(&w->q, &frozen);
	assert_true(list_empty(&frozen));
	assert_int_equal(w->nr_spans, 3);
	assert_span(w, 0, base + 8, 9);
	assert_span(w, 1, base + 18, 1);
	assert_span(w, 2, base + 64, 64);
	phys_resv_put(&w->q, base);
	world_end(w);
}

static void many_at_once(void **state)
{
	struct world *w = world_home();
	struct folio *f[1200];
	u32 refs[1200];

	(void)state;
	assert_int_equal(phys_alloc_run_at(&w->q, 0, HOME_BASE + 7, 1200, f), 1200);
	for (u32 i = 0; i < 1200; i++) {
		refs[i] = 1 + i % 3;
		if (i % 3)
			folio_get_nr(f[i], i % 3);
	}
	folio_get(f[600]);
	for (u32 i = 0; i < 1200; i++) { /* a permutation */
		struct folio *t = f[i];
		u32 j = (i * 577) % 1200, r = refs[i];

		f[i] = f[j];
		f[j] = t;
		refs[i] = refs[j];
		refs[j] = r;
	}
	folios_put_refs(&w->q, f, refs, 1200);
	assert_int_equal(phys_used(&w->q, 0), 1);
	folio_put(&w->q, phys_folio(&w->q, HOME_BASE + 607));
	world_end(w);
}

static void split(void **state)
{
	struct world *w = world_home();
	struct folio *f = must_alloc_at(w, HOME_BASE + 32, 4);
	u32 refs[16] = { 3, 1, 0, 2, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0 };
	int marker;

	(void)state;
	assert_int_equal(cgroup_try_charge(&w->q, CGROUP_ROOT, 16, NULL), 0);
	folio_set_charge(f, CGROUP_ROOT);
	folio_set(f, PG_DIRTY);
	folio_set(f, PG_PARTIAL);
	folio_set(f, PG_SWAPCACHE);
	f->index = 1000;
	f->swap = 5000;
	aptr_set(&f->mapping, &marker);
	a32_set(&f[3].mapcount, 1);
	folio_set(f, PG_ACTIVE);
	folio_get(f);
	lru_add(&w->q, f);
	lru_drain_all(&w->q);
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 16);

	folio_lock(f);
	assert_true(folio_freeze(f, 2));
	phys_split_frozen(&w->q, f, refs);
	assert_true(folio_test(f, PG_LOCKED));
	folio_unlock(f);
	assert_int_equal(lru_size(&w->q, 0, LRU_ACTIVE), 13);
	assert_int_equal(cgroup_usage(&w->q, CGROUP_ROOT), 13);
	assert_int_equal(phys_used(&w->q, 0), 13);
	assert_int_equal(phys_check(&w->q), 0);
	for (u32 i = 0; i < 16; i++) {
		struct folio *page = phys_record(&w->q, HOME_BASE + 32 + i);

		assert_int_equal(a32_read(&page->ref), refs[i]);
		assert_ptr_equal(folio_head(page), page);
		if (!refs[i])
			continue;
		assert_int_equal(page->order, 0);
		assert_int_equal(page->index, 1000 + i);
		assert_int_equal(page->swap, 5000 + i);
		assert_ptr_equal(aptr_read(&page->mapping), &marker);
		assert_int_equal(page->charge, CGROUP_ROOT);
		assert_true(folio_test(page, PG_DIRTY) && folio_test(page, PG_LRU));
		assert_false(folio_test(page, PG_PARTIAL) || folio_test(page, PG_HEAD));
		assert_false(folio_test(page, PG_LOCKED));
		assert_int_equal(a32_read(&page->mapcount), i == 3);
	}
	a32_set(&f[3].mapcount, 0);
	assert_int_equal(try_at(w, HOME_BASE + 34, 0), 0);
	for (u32 i = 0; i < 16; i++)
		if (refs[i]) {
			folio_clear(&f[i], PG_SWAPCACHE);
			folio_put_nr(&w->q, &f[i], refs[i]);
		}
	assert_int_equal(cgroup_usage(&w->q, CGROUP_ROOT), 0);
	world_end(w);
}

/* A buddy folio that was split merges again page by page. */
static void split_merges_again(void **state)
{
	struct world *w = world_span(1, 512);
	struct folio *f = must_alloc(w, 9);
	u32 refs[512];

	(void)state;
	for (u32 i = 0; i < 512; i++)
		refs[i] = 1;
	folio_lock(f);
	assert_true(folio_freeze(f, 1));
	phys_split_frozen(&w->q, f, refs);
	folio_unlock(f);
	for (u32 i = 0; i < 512; i++)
		folio_put(&w->q, &f[(i * 5) % 512]);
	f = must_alloc(w, 9);
	folio_put(&w->q, f);
	world_end(w);
}

static void mapcounts(void **state)
{
	struct world *w = world_home();
	struct folio *f = must_alloc_at(w, HOME_BASE, 9);

	(void)state;
	assert_false(folio_mapped(f));
	a32_set(&f[511].mapcount, 2);
	a32_set(&f[1].mapcount, 1);
	assert_int_equal(folio_mapcount(f), 3);
	assert_true(folio_mapped(f));
	a32_set(&f->entire_mapcount, 1);
	assert_int_equal(folio_mapcount(f), 515);
	a32_set(&f->entire_mapcount, 0);
	a32_set(&f[511].mapcount, 0);
	a32_set(&f[1].mapcount, 0);
	folio_put(&w->q, f);
	world_end(w);
}

static void barred_frames(void **state)
{
	struct world *w = world_home();
	struct folio *f[2];
	u32 refs[2] = { 1, 1 };

	(void)state;
	f[0] = must_alloc_at(w, HOME_BASE + 500, 0);
	f[1] = must_alloc_at(w, HOME_BASE + 508, 0);
	assert_int_equal(phys_bar(&w->q, 0, HOME_BASE + 504, 512 * 3), -EBUSY);
	assert_int_equal(try_at(w, HOME_BASE + 504, 0), 0); /* undone */
	assert_int_equal(phys_bar(&w->q, 0, HOME_BASE + 504, 4), 0);
	assert_int_equal(phys_bar(&w->q, 0, HOME_BASE + 512, 512 * 3 + 1), 0);
	assert_int_equal(try_at(w, HOME_BASE + 507, 0), -EBUSY);
	assert_int_equal(try_at(w, HOME_BASE + 512 * 4, 0), -EBUSY);
	assert_int_equal(try_at(w, HOME_BASE + 512 * 4 + 1, 0), 0);
	w->nr_spans = 0;
	folios_put_refs(&w->q, f, refs, 2);
	assert_int_equal(w->nr_spans, 2);
	assert_span(w, 0, HOME_BASE + 500, 1);
	assert_span(w, 1, HOME_BASE + 508, 1);
	phys_unbar(&w->q, HOME_BASE + 504, 4);
	phys_unbar(&w->q, HOME_BASE + 512, 512 * 3 + 1);
	assert_int_equal(try_at(w, HOME_BASE + 507, 0), 0);
	assert_int_equal(try_at(w, HOME_BASE + 512 * 4, 0), 0);
	world_end(w);
}

/* Every allocation point fails in turn; what failed can be had at the next try, nothing leaks. */
static void injected_failures(void **state)
{
	struct world *w = world_span(4, 2048), *h = world_home();
	struct folio *f, *run[4];
	u32 fails = 0;
	u64 base;

	(void)state;
	inject_at(&w->inject, INJECT_FRAME, 1);
	assert_null(phys_alloc(&w->q, 0, 0));
	inject_at(&w->inject, INJECT_FRAME, 1);
	assert_int_equal(phys_resv_get(&w->q, 0, &base), -ENOMEM);
	inject_at(&h->inject, INJECT_FRAME, 1);
	assert_int_equal(try_at(h, HOME_BASE, 0), -ENOMEM);
	inject_at(&h->inject, INJECT_FRAME, 1);
	assert_int_equal(phys_alloc_run_at(&h->q, 0, HOME_BASE, 4, run), -ENOMEM);
	inject_off(&w->inject, INJECT_FRAME);
	inject_off(&h->inject, INJECT_FRAME);
	/* Two pages of the map, the block, its records: the nth fails, what was made before it
	 * stays. */
	for (u32 nth = 1;; nth++) {
		int err;

		assert_true(nth < 20);
		inject_at(&w->inject, INJECT_ARENA, nth);
		inject_at(&h->inject, INJECT_ARENA, nth);
		f = phys_alloc(&w->q, 0, 3);
		err = try_at(h, HOME_BASE + 512 * 512 * 512ull, 3);
		assert_int_equal(!f, err == -ENOMEM);
		if (f)
			break;
		assert_int_equal(phys_used(&w->q, 0), 0);
		assert_int_equal(phys_used(&h->q, 0), 0);
		fails++;
	}
	assert_true(fails >= 1);
	folio_put(&w->q, f);
	inject_off(&w->inject, INJECT_ARENA);
	inject_off(&h->inject, INJECT_ARENA);
	assert_int_equal(try_at(h, HOME_BASE, 3), 0);
	folio_put(&w->q, must_alloc(w, 3));
	world_end(h);
	world_end(w);
}

/* A node with numbers of its own on a machine with home frames: both kinds, one capacity. */
static void home_and_span(void **state)
{
	struct phys_config cfg = { .nr_nodes = 1 };
	struct folio *f, *g;
	struct world *w;
	u64 base;

	(void)state;
	cfg.node[0].span = 1024;
	cfg.node[0].capacity = 3;
	w = world_new(CAP_HOME, &cfg);
	assert_int_equal(try_at(w, 512, 0), -EINVAL); /* the node's number, not an address */
	f = must_alloc_at(w, 1024, 0);
	g = must_alloc(w, 1);
	assert_int_equal(try_at(w, HOME_BASE, 0), -ENOMEM);
	/* Number 0 is not set aside: it would read as "none". */
	assert_int_equal(phys_resv_get(&w->q, 0, &base), 0);
	assert_int_equal(base, 512);
	phys_resv_put(&w->q, base);
	folio_put(&w->q, f);
	folio_put(&w->q, g);
	assert_int_equal(phys_resv_get(&w->q, 0, &base), 0);
	assert_int_equal(base, 512);
	assert_int_equal(phys_resv_get(&w->q, 0, &base), -ENOMEM);
	phys_resv_put(&w->q, 512);
	world_end(w);
}

/* ---- programming errors stop ---- */

struct wrong {
	struct world *w;
	struct folio *f;
};

static void put_twice(void *arg)
{
	struct wrong *x = arg;

	folio_put(&x->w->q, x->f);
	folio_put(&x->w->q, x->f);
}

static void put_too_many(void *arg)
{
	struct wrong *x = arg;

	folio_put_nr(&x->w->q, x->f, 2);
}

static void free_list(struct wrong *x)
{
	struct list l;

	list_init(&l);
	list_add(&x->f->lru, &l);
	phys_free_frozen_list(&x->w->q, &l);
}

static void free_referenced(void *arg)
{
	free_list(arg);
}

static void free_frozen_twice(void *arg)
{
	struct wrong *x = arg;

	if (!folio_freeze(x->f, 1))
		_exit(3);
	free_list(x);
	free_list(x);
}

static void free_mapped(void *arg)
{
	struct wrong *x = arg;

	a32_set(&x->f[2].mapcount, 1);
	folio_put(&x->w->q, x->f);
}

static void free_locked(void *arg)
{
	struct wrong *x = arg;

	folio_lock(x->f);
	folio_put(&x->w->q, x->f);
}

static void free_cached(void *arg)
{
	struct wrong *x = arg;

	folio_set(x->f, PG_SWAPCACHE);
	folio_put(&x->w->q, x->f);
}

static void put_tail(void *arg)
{
	struct wrong *x = arg;

	folio_put(&x->w->q, x->f + 1);
}

static void put_once(void *arg)
{
	struct wrong *x = arg;

	folio_put(&x->w->q, x->f);
}

static void misuse_stops(void **state)
{
	struct world *w[2] = { world_span(1, 512), world_home() };

	(void)state;
	for (u32 i = 0; i < 2; i++) {
		struct wrong x = { w[i],
				   i ? must_alloc_at(w[i], HOME_BASE, 2) : must_alloc(w[i], 2) };

		assert_false(stops(put_once, &x));
		assert_true(stops(put_twice, &x));
		assert_true(stops(put_too_many, &x));
		assert_true(stops(free_referenced, &x));
		assert_true(stops(free_frozen_twice, &x));
		assert_true(stops(free_mapped, &x));
		assert_true(stops(free_locked, &x));
		assert_true(stops(free_cached, &x));
		assert_true(stops(put_tail, &x));
		folio_put(&w[i]->q, x.f);
		world_end(w[i]);
	}
}

/* The checker sees what it is there for. */
static void checker_fires(void **state)
{
	struct world *w = world_home();
	struct folio *f = must_alloc_at(w, HOME_BASE, 1);

	(void)state;
	assert_int_equal(phys_check(&w->q), 0);
	f->order = 0;
	assert_int_not_equal(phys_check(&w->q), 0);
	f->order = 1;
	f->charge = CGROUP_ROOT;
	assert_int_not_equal(phys_check(&w->q), 0);
	f->charge = 0;
	assert_true(folio_freeze(f, 1));
	assert_int_not_equal(phys_check(&w->q), 0);
	folio_unfreeze(f, 1);
	a8_init(&f->node, 1);
	assert_int_not_equal(phys_check(&w->q), 0);
	a8_init(&f->node, 0);
	folio_set(f, PG_LRU);
	assert_int_not_equal(phys_check(&w->q), 0);
	folio_clear(f, PG_LRU);
	assert_int_equal(phys_check(&w->q), 0);
	w->warnings = native_warnings();
	folio_put(&w->q, f);
	world_end(w);
}

static void bad_configurations(void **state)
{
	struct world *w = world_home();
	struct phys *keep = w->q.phys;
	struct phys_config c = { .nr_nodes = 2 };

	(void)state;
	c.node[0].base_pfn = 512;
	c.node[0].span = 1024;
	c.node[1].base_pfn = 1024;
	c.node[1].span = 512;
	assert_int_equal(phys_create(&w->q, &c), -EINVAL); /* overlap */
	c.node[1].base_pfn = 1536 + 1;
	assert_int_equal(phys_create(&w->q, &c), -EINVAL); /* alignment */
	c.node[1].base_pfn = MAX_PFN;
	assert_int_equal(phys_create(&w->q, &c), -EINVAL); /* too large */
	c.nr_nodes = 0;
	assert_int_equal(phys_create(&w->q, &c), -EINVAL);
	c.nr_nodes = MAX_NODES + 1;
	assert_int_equal(phys_create(&w->q, &c), -EINVAL);
	w->m.caps = 0;
	c.nr_nodes = 1;
	c.node[0].span = 0;
	assert_int_equal(phys_create(&w->q, &c), -EINVAL); /* no home frames, no span */
	c.node[0].span = 512;
	for (u32 nth = 1; nth < 40; nth++) {
		inject_at(&w->inject, INJECT_ARENA, nth);
		if (!phys_create(&w->q, &c))
			break;
		assert_null(w->q.phys);
	}
	assert_non_null(w->q.phys);
	inject_off(&w->inject, INJECT_ARENA);
	phys_destroy(&w->q);
	w->q.phys = keep;
	w->m.caps = CAP_HOME;
	world_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_folio_is_clean),
		cmocka_unit_test(last_freed_comes_first),
		cmocka_unit_test(capacity_is_exact),
		cmocka_unit_test(numbers_run_out),
		cmocka_unit_test(reservation),
		cmocka_unit_test(home_frames),
		cmocka_unit_test(spans_cover_holes),
		cmocka_unit_test(released_frames_are_busy),
		cmocka_unit_test(no_holes_off_home),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(split),
		cmocka_unit_test(split_merges_again),
		cmocka_unit_test(mapcounts),
		cmocka_unit_test(barred_frames),
		cmocka_unit_test(home_and_span),
		cmocka_unit_test(injected_failures),
		cmocka_unit_test(misuse_stops),
		cmocka_unit_test(checker_fires),
		cmocka_unit_test(bad_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
