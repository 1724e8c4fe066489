/* Frames that go out of service: free, used, reserved, never used; what stops it; back again. */
#include <pthread.h>
#include <stdlib.h>

#include "object_env.h"

#include "frag_env.h"
#include "migrate/balloon.h"

#define BLOCKS 8u
#define RANGE  (2 * BLOCK) /* what most tests take: blocks 2 and 3 */
#define FIRST  (2 * BLOCK)

static int offline(struct frag *f, u64 pfn, u64 nr, struct offline_result *r)
{
	int err = node_offline_range(f->e.q, pfn, nr, NULL, r);

	env_check(&f->e);
	if (!err)
		assert_int_equal(frag_pages_in(&f->e, pfn, nr), 0);
	return err;
}

static void online(struct frag *f, u64 pfn, u64 nr)
{
	assert_int_equal(node_online_range(f->e.q, pfn, nr), 0);
	env_check(&f->e);
}

/* Everything that node 0 has, and nothing of the range; returns how many frames. */
static u64 take_all(struct frag *f, u64 pfn, u64 nr)
{
	struct folio **all = calloc(BLOCKS * BLOCK, sizeof(*all)), *one;
	u64 n = 0;

	while ((one = phys_alloc(f->e.q, 0, 0)) != NULL) {
		u64 at = folio_pfn(f->e.q, one);

		assert_false(at >= pfn && at < pfn + nr);
		all[n++] = one;
	}
	for (u64 i = 0; i < n; i++)
		folio_put(f->e.q, all[i]);
	free(all);
	return n;
}

#define FOR_PLAIN(fn)                                                              \
	static void fn##_all(void **st)                                            \
	{                                                                          \
		static const u32 kinds[] = { 0, 2, 6, 14 };                        \
		(void)st;                                                          \
		for (u32 k = 0; k < ARRAY_SIZE(kinds); k++)                        \
			for (u32 large = 0; large < 2; large++) {                  \
				static struct frag f;                              \
				frag_open(&f, kinds[k], 2, BLOCKS, BLOCKS *BLOCK); \
				fn(&f, large);                                     \
				frag_close(&f);                                    \
			}                                                          \
	}

static u64 area_of(struct frag *f, u64 pages, bool large)
{
	return large ? env_map(&f->e, pages, RW, 0) : env_map_single(&f->e, pages);
}

/* ---- what is free ---- */

static void test_unused(struct frag *f, bool grown)
{
	struct offline_result r;
	struct quire *q = f->e.q;

	if (grown)
		assert_int_equal(take_all(f, 0, 0), BLOCKS * BLOCK - 1);
	assert_int_equal(offline(f, FIRST, RANGE, &r), 0);
	assert_int_equal(r.captured, RANGE);
	assert_int_equal(r.passes, 0);
	assert_int_equal(phys_capacity(q, 0), (BLOCKS - 2) * BLOCK);
	assert_int_equal(take_all(f, FIRST, RANGE), (BLOCKS - 2) * BLOCK - 1);
	env_check(&f->e);
	/* Not twice, nor a part of it. */
	assert_int_equal(node_offline_range(q, FIRST, RANGE, NULL, NULL), -EBUSY);
	assert_int_equal(node_offline_range(q, FIRST - BLOCK, RANGE, NULL, NULL), -EBUSY);
	assert_int_equal(node_online_range(q, FIRST - BLOCK, RANGE), -EINVAL);
	assert_int_equal(node_online_range(q, FIRST + BLOCK, RANGE), -EINVAL);
	env_check(&f->e);
	assert_int_equal(take_all(f, FIRST, RANGE), (BLOCKS - 2) * BLOCK - 1);
	/* Back in two parts. */
	online(f, FIRST + BLOCK, BLOCK);
	assert_int_equal(phys_capacity(q, 0), (BLOCKS - 1) * BLOCK);
	assert_int_equal(take_all(f, FIRST, BLOCK), (BLOCKS - 1) * BLOCK - 1);
	online(f, FIRST, BLOCK);
	assert_int_equal(phys_capacity(q, 0), BLOCKS * BLOCK);
	assert_int_equal(take_all(f, 0, 0), BLOCKS * BLOCK - 1);
	phys_drain_cpus(q, 0);
	/* All but the one with the page of zeroes. */
	assert_int_equal(phys_nr_pieces(q, 0, MAX_FOLIO_ORDER), BLOCKS - 1);
	env_check(&f->e);
}
FOR_PLAIN(test_unused)

static void ranges(void **st)
{
	static struct frag f;
	struct quire *q;

	(void)st;
	frag_open(&f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	q = f.e.q;
	assert_int_equal(node_offline_range(q, 0, 0, NULL, NULL), -EINVAL);
	assert_int_equal(node_offline_range(q, 1, BLOCK, NULL, NULL), -EINVAL);
	assert_int_equal(node_offline_range(q, BLOCK, 5, NULL, NULL), -EINVAL);
	assert_int_equal(node_offline_range(q, (BLOCKS - 1) * BLOCK, RANGE, NULL, NULL), -EINVAL);
	assert_int_equal(node_offline_range(q, 2 * BLOCKS * BLOCK, BLOCK, NULL, NULL), -EINVAL);
	assert_int_equal(node_offline_range(q, ~0ull << 9, BLOCK, NULL, NULL), -EINVAL);
	assert_int_equal(node_offline_range(q, BLOCK, -BLOCK, NULL, NULL), -EINVAL);
	assert_int_equal(node_online_range(q, BLOCK, BLOCK), -EINVAL);
	/* The page of zeroes cannot move. */
	assert_int_equal(offline(&f, 0, BLOCK, NULL), -EBUSY);
	assert_int_equal(offline(&f, BLOCK, BLOCK, NULL), 0);
	online(&f, BLOCK, BLOCK);
	/* A whole node. */
	assert_int_equal(offline(&f, BLOCKS * BLOCK, BLOCKS * BLOCK, NULL), 0);
	assert_int_equal(phys_capacity(q, 1), 0);
	assert_null(phys_alloc(q, 1, 0));
	env_check(&f.e);
	online(&f, BLOCKS * BLOCK, BLOCKS * BLOCK);
	frag_close(&f);
}

/* ---- what is used ---- */

static void test_used(struct frag *f, bool large)
{
	u64 n = (BLOCKS - 3) * BLOCK, va, usage, dropped;
	struct offline_result r;
	struct env *e = &f->e;

	frag_hold(f);
	va = area_of(f, n, large);
	env_write(e, va, BLOCKS / 2 * BLOCK - 16, 1);
	frag_release(f);
	env_write(e, va, n, 1);
	lru_drain_all(e->q);
	usage = cgroup_usage(e->q, CGROUP_ROOT);
	assert_true(frag_pages_in(e, FIRST, RANGE) > RANGE / 3);
	assert_int_equal(offline(f, FIRST, RANGE, &r), 0);
	assert_true(r.migrate.moved > RANGE / 3);
	assert_int_equal(cgroup_usage(e->q, CGROUP_ROOT), usage);
	env_expect(e, va, n, 1, 0);
	env_write(e, va, n, 2);
	assert_int_equal(frag_pages_in(e, FIRST, RANGE), 0);
	env_check(e);
	/* Pages come and go meanwhile, nothing comes into the range. */
	dropped = 64 * 16;
	frag_drop(e, va, dropped);
	env_write(e, va, dropped, 3);
	assert_int_equal(frag_pages_in(e, FIRST, RANGE), 0);
	env_expect(e, va, dropped, 3, 0);
	online(f, FIRST, RANGE);
	env_expect(e, va + PG(dropped), n - dropped, 2, dropped);
	frag_drop(e, va, n);
	lru_drain_all(e->q);
	phys_drain_cpus(e->q, 0);
	assert_int_equal(take_all(f, 0, 0), BLOCKS * BLOCK - 1);
}
FOR_PLAIN(test_used)

/* Whole blocks of addresses have reserved blocks of frames. */
static void test_reserved(struct frag *f, bool large)
{
	u64 n = 4 * BLOCK, va = area_of(f, n, large);
	struct offline_result r;
	struct env *e = &f->e;

	env_write(e, va, n / 2, 1);
	assert_true(frag_pages_in(e, FIRST, RANGE) > 0);
	assert_int_equal(offline(f, FIRST, RANGE, &r), 0);
	env_expect(e, va, n / 2, 1, 0);
	/* The reservation is there, but nothing comes from it. */
	frag_drop(e, va, n);
	env_write(e, va, n, 2);
	assert_int_equal(frag_pages_in(e, FIRST, RANGE), 0);
	env_check(e);
	env_expect(e, va, n, 2, 0);
	if (large) {
		/* It ends while its block is out of service. */
		assert_int_equal(space_unmap(e->q, e->s, va, PG(n)), 0);
		qrcu_barrier(e->q);
		env_check(e);
		assert_int_equal(take_all(f, FIRST, RANGE), (BLOCKS - 2) * BLOCK - 1);
		online(f, FIRST, RANGE);
	} else {
		online(f, FIRST, RANGE);
		frag_drop(e, va, n);
		env_write(e, va, n, 3);
		assert_true(frag_pages_in(e, FIRST, RANGE) > 0);
		env_expect(e, va, n, 3, 0);
		assert_int_equal(space_unmap(e->q, e->s, va, PG(n)), 0);
		qrcu_barrier(e->q);
	}
	env_check(e);
	assert_int_equal(take_all(f, 0, 0), BLOCKS * BLOCK - 1);
}
FOR_PLAIN(test_reserved)

/* No room in the node: to the other one. No room at all: it stays. */
static void test_room(struct frag *f, bool large)
{
	u64 n = BLOCKS * BLOCK - 64, va;
	struct offline_result r;
	struct env *e = &f->e;

	frag_hold(f);
	va = area_of(f, n, large);
	env_write(e, va, BLOCKS / 2 * BLOCK - 64, 1);
	frag_release(f);
	env_write(e, va, n, 1);
	assert_int_equal(offline(f, FIRST, RANGE, &r), 0);
	assert_true(phys_used(e->q, 1) > BLOCK);
	env_expect(e, va, n, 1, 0);
	online(f, FIRST, RANGE);
	/* The other node is full. */
	{
		struct folio *one;
		struct list all;

		list_init(&all);
		for (unsigned order = MAX_FOLIO_ORDER + 1; order--;)
			while ((one = phys_alloc(e->q, 1, order)) != NULL) {
				folio_get_nr(one, PIN_BIAS - 1);
				list_add(&one->lru, &all);
			}
		va = area_of(f, RANGE, large);
		env_write(e, va, RANGE - 256, 2);
		assert_int_equal(offline(f, FIRST, RANGE, &r), -ENOMEM);
		assert_int_equal(phys_capacity(e->q, 0), BLOCKS * BLOCK);
		env_expect(e, va, RANGE - 256, 2, 0);
		while (!list_empty(&all)) {
			one = list_first(&all, struct folio, lru);
			list_del(&one->lru);
			folio_put_nr(e->q, one, PIN_BIAS);
		}
	}
	assert_int_equal(offline(f, FIRST, RANGE, &r), 0);
	env_expect(e, va, RANGE - 256, 2, 0);
	online(f, FIRST, RANGE);
}
FOR_PLAIN(test_room)

/* ---- what stops it ---- */

static void test_pinned(struct frag *f, bool large)
{
	u64 n = 4 * BLOCK, va, used, at = 0;
	struct offline_result r;
	struct env *e = &f->e;
	struct folio *pin[1];

	frag_hold(f);
	va = area_of(f, n, large);
	env_write(e, va, n - 64, 1);
	frag_release(f);
	while (folio_pfn(e->q, env_page_at(e, va + PG(at))) / BLOCK != FIRST / BLOCK)
		at++;
	assert_int_equal(pin_pages(e->q, &e->s->fs, (struct range){ va + PG(at), va + PG(at + 1) },
				   ACCESS_WRITE, pin),
			 1);
	used = phys_used(e->q, 0);
	assert_int_equal(offline(f, FIRST, RANGE, &r), -EBUSY);
	assert_true(r.scan.pinned > 0);
	assert_true(r.passes <= 12);
	assert_ptr_equal(env_page_at(e, va + PG(at)), pin[0]);
	assert_int_equal(phys_capacity(e->q, 0), BLOCKS * BLOCK);
	assert_int_equal(phys_used(e->q, 0), used);
	env_expect(e, va, n - 64, 1, 0);
	/* All that was captured can be had. */
	assert_int_equal(take_all(f, 0, 0), BLOCKS * BLOCK - used);
	unpin_pages(e->q, pin, 1);
	assert_int_equal(offline(f, FIRST, RANGE, &r), 0);
	env_expect(e, va, n - 64, 1, 0);
	online(f, FIRST, RANGE);
}
FOR_PLAIN(test_pinned)

static void stopped(void **st)
{
	static struct frag f;
	struct offline_result r;
	a32_t stop;
	u64 va;

	(void)st;
	frag_open(&f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	va = env_map_single(&f.e, 4 * BLOCK);
	env_write(&f.e, va, 4 * BLOCK, 1);
	a32_init(&stop, 1);
	assert_int_equal(node_offline_range(f.e.q, FIRST, RANGE, &stop, &r), -EINTR);
	assert_int_equal(r.migrate.moved, 0);
	env_check(&f.e);
	assert_int_equal(phys_capacity(f.e.q, 0), BLOCKS * BLOCK);
	a32_set(&stop, 0);
	assert_int_equal(node_offline_range(f.e.q, FIRST, RANGE, &stop, &r), 0);
	env_check(&f.e);
	env_expect(&f.e, va, 4 * BLOCK, 1, 0);
	online(&f, FIRST, RANGE);
	frag_close(&f);
}

/* Each allocation in turn, of frames and of the core's own memory; and moves by chance. */
static void failures(void **st)
{
	static const enum inject_point points[] = { INJECT_FRAME, INJECT_ARENA, INJECT_TABLE };
	static struct frag f;
	struct env *e = &f.e;
	u64 va, n = 700, failed = 0;

	(void)st;
	frag_open(&f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	frag_hold(&f);
	va = env_map(e, n, RW, 0);
	env_write(e, va, n, 1);
	frag_release(&f);
	for (u32 p = 0; p < ARRAY_SIZE(points); p++)
		for (u32 nth = 1; nth < 40; nth++) {
			u64 usage = cgroup_usage(e->q, CGROUP_ROOT);
			u64 pfn = nth % (BLOCKS - 1) * BLOCK, nr = nth % 2 ? BLOCK : RANGE;
			int err;

			inject_at(&e->inject, points[p], nth);
			err = node_offline_range(e->q, pfn, nr, NULL, NULL);
			inject_off(&e->inject, points[p]);
			env_check(e);
			assert_int_equal(cgroup_usage(e->q, CGROUP_ROOT), usage);
			failed += err != 0;
			assert_true(!err || err == -ENOMEM || err == -EBUSY);
			if (!err)
				online(&f, pfn, nr);
			assert_int_equal(phys_capacity(e->q, 0), BLOCKS * BLOCK);
		}
	for (u32 round = 1; round < 30; round++) {
		int err;

		inject_chance(&e->inject, INJECT_MIGRATE, 30000 * round, round);
		err = node_offline_range(e->q, FIRST, RANGE, NULL, NULL);
		inject_off(&e->inject, INJECT_MIGRATE);
		env_check(e);
		assert_true(!err || err == -EBUSY);
		if (!err)
			online(&f, FIRST, RANGE);
		env_expect(e, va, n, 1, 0);
		frag_drop(e, va, n);
		env_write(e, va, n, 1);
	}
	assert_true(failed > 0);
	frag_close(&f);
}

/* A block that no list has had yet, and no memory for its records: -ENOMEM, and nothing is left. */
static void no_records(void **st)
{
	static struct frag f;
	u32 nth, failed = 0;

	(void)st;
	frag_open(&f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	for (nth = 1; nth < 20; nth++) {
		int err;

		inject_at(&f.e.inject, INJECT_ARENA, nth);
		err = node_offline_range(f.e.q, BLOCK, (BLOCKS - 1) * BLOCK, NULL, NULL);
		inject_off(&f.e.inject, INJECT_ARENA);
		env_check(&f.e);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		failed++;
	}
	assert_true(failed > 0 && nth < 20);
	online(&f, BLOCK, (BLOCKS - 1) * BLOCK);
	assert_int_equal(take_all(&f, 0, 0), BLOCKS * BLOCK - 1);
	frag_close(&f);
}

/* ---- pages of other kinds ---- */

/* Frames of the balloon move too, by it and by compaction; it keeps as many. */
static void balloon_moves(void **st)
{
	static struct frag f;
	struct compact_result c;
	struct env *e = &f.e;
	u64 va;

	(void)st;
	frag_open(&f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	frag_hold(&f);
	va = env_map_single(e, 900);
	env_write(e, va, 900, 1);
	assert_int_equal(balloon_inflate(e->q, 0, 900), 900);
	frag_release(&f);
	frag_drop(e, va, 450);
	assert_true(frag_pages_in(e, FIRST, RANGE) > 300);
	assert_int_equal(offline(&f, FIRST, RANGE, NULL), 0);
	assert_int_equal(balloon_pages(e->q, 0), 900);
	env_expect(e, va + PG(450), 450, 1, 450);
	online(&f, FIRST, RANGE);
	assert_int_equal(compact_node(e->q, 0, COMPACT_WHOLE, &c), 0);
	frag_balanced(e, &c);
	assert_true(c.migrate.moved > 300);
	assert_int_equal(balloon_pages(e->q, 0), 900);
	assert_true(c.blocks_after + 1 >= BLOCKS - 3 - 1);
	env_expect(e, va + PG(450), 450, 1, 450);
	assert_int_equal(balloon_deflate(e->q, 0, 900), 900);
	frag_close(&f);
}

/* Locked in memory is not locked in a frame. */
static void mlocked_moves(void **st)
{
	static struct frag f;
	struct env *e = &f.e;
	u64 va;

	(void)st;
	frag_open(&f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	va = env_map_single(e, 4 * BLOCK);
	env_write(e, va, 4 * BLOCK, 1);
	assert_int_equal(space_mlock(e->q, e->s, va, PG(4 * BLOCK), false), 0);
	assert_true(frag_pages_in(e, FIRST, RANGE) > 0);
	assert_int_equal(offline(&f, FIRST, RANGE, NULL), 0);
	lru_drain_all(e->q);
	for (u64 i = 0; i < 4 * BLOCK; i += 100)
		assert_true(folio_test(folio_head(env_page_at(e, va + PG(i))), PG_MLOCKED));
	env_expect(e, va, 4 * BLOCK, 1, 0);
	online(&f, FIRST, RANGE);
	frag_close(&f);
}

/* A page that is being written out is waited for. */
struct written {
	struct env *e;
	pthread_t thread;
	bool started;
	int err;
};

static void *offline_thread(void *arg)
{
	struct written *w = arg;

	w->err = node_offline_range(w->e->q, FIRST, RANGE, NULL, NULL);
	return NULL;
}

static void in_write(void *ctx, u64 index)
{
	struct written *w = ctx;

	(void)index;
	if (w->started)
		return;
	w->started = true;
	assert_int_equal(pthread_create(&w->thread, NULL, offline_thread, w), 0);
}

static void written_back(void **st)
{
	static struct frag f;
	struct env *e = &f.e;
	struct written w = { .e = e };
	struct medium *d = medium_new();
	struct object *o;
	u64 va, n = 1024;

	(void)st;
	frag_open(&f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	o = object_new(e, d, PG(n));
	frag_hold(&f);
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(n), RW, MAP_F_SHARED, o, 0, &va), 0);
	env_write(e, va, n, 1);
	frag_release(&f);
	assert_true(frag_pages_in(e, FIRST, RANGE) > 100);
	d->in_write = in_write;
	d->ctx = &w;
	assert_int_equal(object_sync(o, 0, ~0ull, NULL), 0);
	assert_true(w.started);
	assert_int_equal(pthread_join(w.thread, NULL), 0);
	assert_int_equal(w.err, 0);
	env_check(e);
	assert_int_equal(frag_pages_in(e, FIRST, RANGE), 0);
	env_expect(e, va, n, 1, 0);
	for (u64 i = 0; i < n; i++) {
		u64 want[PAGE_SIZE / 8];

		env_page(want, 1, i);
		assert_memory_equal(d->bytes + PG(i), want, PAGE_SIZE);
	}
	online(&f, FIRST, RANGE);
	space_destroy(e->q, e->s);
	object_put(o);
	medium_free(d);
	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &e->s), 0);
	frag_close(&f);
}

/* ---- while programs run ---- */

#define NR_PAGES 1536u
#define USERS    3u

struct world {
	struct frag f;
	u64 va, shared, churn;
	struct space *child[2];
	a32_t stop;
	a64_t bad, rounds;
};

struct user {
	struct world *w;
	u32 id;
	u64 rng;
	u64 word[2][NR_PAGES]; /* of each page, this user's: private, shared */
	pthread_t thread;
};

static u64 rnd(struct user *u, u64 n)
{
	u->rng = u->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (u->rng >> 33) % n;
}

/* One word of a page, which only this user writes. */
static void use_word(struct user *u)
{
	struct env *e = &u->w->f.e;
	u64 i = rnd(u, NR_PAGES), which = rnd(u, 2), seen = 0;
	u64 at = (which ? u->w->shared : u->w->va) + PG(i) + 8 * u->id, v = u->word[which][i] + 1;
	int rc;

	if (rnd(u, 2)) {
		rc = sim_store(e->m, u->id, e->s->ms, at, &v, 8);
		if (!rc)
			u->word[which][i] = v;
	} else {
		rc = sim_load(e->m, u->id, e->s->ms, at, &seen, 8);
		rc = rc ? rc : seen != u->word[which][i];
	}
	if (rc)
		a64_add(&u->w->bad, 1);
}

/* The children's pages are as they were at the fork. */
static void use_child(struct user *u)
{
	struct env child = u->w->f.e;
	u64 i = rnd(u, NR_PAGES), want[PAGE_SIZE / 8], got = 0;

	child.s = u->w->child[rnd(u, 2)];
	env_page(want, 1, i);
	if (sim_load(child.m, u->id, child.s->ms, u->w->va + PG(i) + 800, &got, 8) ||
	    got != want[100])
		a64_add(&u->w->bad, 1);
}

/* Frames come and go: first touch, given up, paged out, pinned. */
static void churn(struct user *u)
{
	struct env *e = &u->w->f.e;
	u64 i = rnd(u, NR_PAGES - 16), at = u->w->churn + PG(u->id * NR_PAGES + i), v = 7;
	struct folio *pin[4];
	struct range r = { u->w->va + PG(i), u->w->va + PG(i + 4) };
	long got;

	switch (rnd(u, 4)) {
	case 0:
		if (sim_store(e->m, u->id, e->s->ms, at, &v, 8))
			a64_add(&u->w->bad, 1);
		break;
	case 1:
		if (space_advise(e->q, e->s, at, PG(16), ADVISE_DONTNEED))
			a64_add(&u->w->bad, 1);
		break;
	case 2:
		(void)!space_advise(e->q, e->s, u->w->va + PG(i), PG(8), ADVISE_PAGEOUT);
		break;
	default:
		got = pin_fast(e->q, &e->s->fs, r, ACCESS_READ, pin);
		if (got > 0)
			unpin_pages(e->q, pin, (u64)got);
	}
}

static void *use(void *arg)
{
	struct user *u = arg;

	for (u64 n = 0; !a32_read(&u->w->stop) || n < 3000; n++) {
		u64 what = rnd(u, 16);

		if (what < 12)
			use_word(u);
		else if (what < 14)
			use_child(u);
		else
			churn(u);
		a64_add(&u->w->rounds, 1);
	}
	return NULL;
}

static void world_words(struct world *w, struct user *u)
{
	struct env *e = &w->f.e;
	u64 bad = 0;

	for (u32 i = 0; i < USERS; i++)
		for (u64 p = 0; p < NR_PAGES; p++)
			for (u32 which = 0; which < 2; which++) {
				u64 at = (which ? w->shared : w->va) + PG(p) + 8 * u[i].id;
				u64 seen = 0;

				assert_int_equal(sim_load(e->m, 0, e->s->ms, at, &seen, 8), 0);
				bad += seen != u[i].word[which][p];
			}
	assert_int_equal(bad, 0);
}

/* Private pages that two children share, some of them in the swap cache; an object's pages. */
static void world_open(struct world *w, struct medium *d, struct object **o)
{
	struct env *e = &w->f.e;

	frag_open(&w->f, 2, 2, 2 * BLOCKS, 2 * BLOCKS * BLOCK);
	*o = object_new(e, d, PG(NR_PAGES));
	frag_hold(&w->f);
	w->va = env_map(e, NR_PAGES, RW, 0);
	env_write(e, w->va, NR_PAGES, 1);
	assert_int_equal(
		space_map_object(e->q, e->s, 0, PG(NR_PAGES), RW, MAP_F_SHARED, *o, 0, &w->shared),
		0);
	env_write(e, w->shared, NR_PAGES, 2);
	for (u32 c = 0; c < 2; c++)
		assert_int_equal(space_fork(e->q, e->s, &w->child[c]), 0);
	env_pageout(e, w->va, 512);
	env_expect(e, w->va, 512, 1, 0);
	frag_release(&w->f);
	w->churn = env_map(e, NR_PAGES * (USERS + 1), RW, 0);
	a32_init(&w->stop, 0);
}

static void users_start(struct world *w, struct user *u)
{
	struct env *e = &w->f.e;
	u64 zero = 0;

	for (u32 i = 0; i < USERS; i++) {
		u[i] = (struct user){ .w = w, .id = i + 1, .rng = i + 1 };
		for (u64 p = 0; p < NR_PAGES; p++)
			for (u32 which = 0; which < 2; which++) {
				u64 at = (which ? w->shared : w->va) + PG(p) + 8 * (i + 1);

				assert_int_equal(sim_store(e->m, 0, e->s->ms, at, &zero, 8), 0);
			}
	}
	for (u32 i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&u[i].thread, NULL, use, &u[i]), 0);
}

static void in_use(void **st)
{
	static struct world w;
	static struct user u[USERS];
	struct env *e = &w.f.e;
	struct medium *d = medium_new();
	u64 moved = 0, done = 0;
	struct object *o;

	(void)st;
	world_open(&w, d, &o);
	users_start(&w, u);
	for (u32 round = 0; round < 40; round++) {
		u64 pfn = (1 + round * 3 % (2 * BLOCKS - 2)) * BLOCK;
		struct offline_result r;
		int err = node_offline_range(e->q, pfn, RANGE, NULL, &r);

		moved += r.migrate.moved;
		assert_true(!err || err == -EBUSY);
		if (err)
			continue;
		done++;
		assert_int_equal(frag_pages_in(e, pfn, RANGE), 0);
		if (round % 4 == 0)
			assert_int_equal(object_sync(o, 0, ~0ull, NULL), 0);
		assert_int_equal(frag_pages_in(e, pfn, RANGE), 0);
		assert_int_equal(node_online_range(e->q, pfn, RANGE), 0);
	}
	a32_set(&w.stop, 1);
	for (u32 i = 0; i < USERS; i++)
		assert_int_equal(pthread_join(u[i].thread, NULL), 0);
	assert_int_equal(a64_read(&w.bad), 0);
	assert_true(moved > 1000);
	assert_true(done >= 20);
	env_check(e);
	world_words(&w, u);
	for (u32 c = 0; c < 2; c++)
		space_destroy(e->q, w.child[c]);
	space_destroy(e->q, e->s);
	object_put(o);
	medium_free(d);
	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &e->s), 0);
	frag_close(&w.f);
}

/* Several who take frames out of service, and compaction, at the same time. */
struct taker {
	struct world *w;
	u32 id;
	u64 done;
	pthread_t thread;
};

static void *take_out(void *arg)
{
	struct taker *t = arg;
	struct quire *q = t->w->f.e.q;
	u64 pfn = (1 + t->id % 2) * BLOCK;

	for (u32 i = 0; i < 200; i++) {
		struct compact_result r;

		if (t->id == 2) {
			(void)!compact_node(q, 0, COMPACT_WHOLE, &r);
			if (r.got != r.used + r.put_back ||
			    r.free_taken - r.free_returned != r.migrate.moved)
				a64_add(&t->w->bad, 1);
			continue;
		}
		if (node_offline_range(q, pfn, RANGE, NULL, NULL))
			continue;
		t->done++;
		if (frag_pages_in(&t->w->f.e, pfn, RANGE) || node_online_range(q, pfn, RANGE))
			a64_add(&t->w->bad, 1);
	}
	return NULL;
}

static void takers(void **st)
{
	static struct world w;
	struct taker t[3];
	struct env *e = &w.f.e;
	u64 va;

	(void)st;
	frag_open(&w.f, 2, 2, BLOCKS, BLOCKS * BLOCK);
	a64_init(&w.bad, 0);
	frag_hold(&w.f);
	va = env_map_single(e, 1200);
	env_write(e, va, 1200, 1);
	frag_release(&w.f);
	for (u32 i = 0; i < 3; i++) {
		t[i] = (struct taker){ .w = &w, .id = i };
		assert_int_equal(pthread_create(&t[i].thread, NULL, take_out, &t[i]), 0);
	}
	for (u32 round = 0; round < 20; round++)
		env_expect(e, va, 1200, 1, 0);
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(pthread_join(t[i].thread, NULL), 0);
	assert_int_equal(a64_read(&w.bad), 0);
	assert_true(t[0].done + t[1].done > 0);
	env_expect(e, va, 1200, 1, 0);
	assert_int_equal(phys_capacity(e->q, 0), BLOCKS * BLOCK);
	frag_close(&w.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unused_all), cmocka_unit_test(ranges),
		cmocka_unit_test(test_used_all),   cmocka_unit_test(test_reserved_all),
		cmocka_unit_test(test_room_all),   cmocka_unit_test(test_pinned_all),
		cmocka_unit_test(stopped),         cmocka_unit_test(failures),
		cmocka_unit_test(no_records),      cmocka_unit_test(in_use),
		cmocka_unit_test(balloon_moves),   cmocka_unit_test(mlocked_moves),
		cmocka_unit_test(written_back),    cmocka_unit_test(takers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
