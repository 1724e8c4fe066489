/*
 * Reverse-map walks of an object's pages share its lock (Linux c8c06efa): two walks are inside at
 * once, none sees an area that is half linked, and those who link areas get their turn.
 */
#include "object_env.h"

#include "rmap/rmap.h"

#define STABLE  8u
#define WALKERS 3u
#define MAPS    2000u

struct world {
	struct env e;
	struct medium *d;
	struct object *o;
	a32_t inside, stop;
	a64_t walks;
};

static u64 map_all(struct world *w)
{
	u64 va = 0;

	assert_int_equal(
		space_map_object(w->e.q, w->e.s, 0, PG(WALKERS), RW, MAP_F_SHARED, w->o, 0, &va),
		0);
	return va;
}

static void world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	env_open(&w->e, 0, 0, NULL);
	w->d = medium_new();
	w->o = object_new(&w->e, w->d, PG(WALKERS));
	for (u32 i = 0; i < STABLE; i++) {
		u64 va = map_all(w);

		for (u32 page = 0; page < WALKERS; page++)
			assert_int_equal(env_store(&w->e, va + PG(page), 1 + page), 0);
	}
}

static void world_close(struct world *w)
{
	env_check(&w->e);
	object_put(w->o); /* the areas keep it */
	env_close(&w->e);
	medium_free(w->d);
}

struct walker {
	struct world *w;
	u32 page;
	u32 seen;
	u64 least;
	pthread_t id;
};

static void walk(struct walker *k, bool (*fn)(void *, struct folio *, struct vma *, u64))
{
	struct quire *q = k->w->e.q;
	struct folio *f = object_lookup(k->w->o, k->page);

	folio_lock(f);
	k->seen = 0;
	rmap_walk(q, f, fn, k);
	folio_unlock(f);
	folio_put(q, f);
}

/* ---- both inside ---- */

static bool wait_for_the_other(void *ctx, struct folio *f, struct vma *v, u64 va)
{
	struct walker *k = ctx;

	if (!k->seen++) {
		a32_fetch_add(&k->w->inside, 1);
		while (a32_read(&k->w->inside) < 2)
			base_yield();
	}
	return true;
}

static void *walk_once(void *arg)
{
	walk(arg, wait_for_the_other);
	return NULL;
}

/* An exclusive lock would let only one of them in, for ever. */
static void test_two_inside(void **state)
{
	struct walker k[2];
	struct world w;

	(void)state;
	world_open(&w);
	for (u32 i = 0; i < 2; i++) {
		k[i] = (struct walker){ .w = &w, .page = i };
		assert_int_equal(pthread_create(&k[i].id, NULL, walk_once, &k[i]), 0);
	}
	for (u32 i = 0; i < 2; i++) {
		pthread_join(k[i].id, NULL);
		assert_int_equal(k[i].seen, STABLE);
	}
	world_close(&w);
}

/* ---- while areas come and go ---- */

/* An area that is found covers the page, at the address that is said. */
static bool count_areas(void *ctx, struct folio *f, struct vma *v, u64 va)
{
	struct walker *k = ctx;

	if (va < vma_start(v) || va >= vma_end(v) || vma_index(v, va) != f->index)
		fail_msg("an area that is not there");
	k->seen++;
	return true;
}

static void *walk_on(void *arg)
{
	struct walker *k = arg;

	k->least = ~0ull;
	while (!a32_read(&k->w->stop)) {
		walk(k, count_areas);
		k->least = min(k->least, (u64)k->seen);
		a64_fetch_add(&k->w->walks, 1);
	}
	return NULL;
}

static void test_areas_come_and_go(void **state)
{
	struct walker k[WALKERS];
	struct world w;

	(void)state;
	world_open(&w);
	for (u32 i = 0; i < WALKERS; i++) {
		k[i] = (struct walker){ .w = &w, .page = i };
		assert_int_equal(pthread_create(&k[i].id, NULL, walk_on, &k[i]), 0);
	}
	while (a64_read(&w.walks) < WALKERS)
		base_yield();
	for (u32 i = 0; i < MAPS; i++) {
		u64 va = map_all(&w);

		/* Split and merged on the way: in and out of the tree each time. */
		if (i % 2)
			assert_int_equal(
				space_protect(w.e.q, w.e.s, va + PG(1), PG(1), PROT_BITS_READ), 0);
		assert_int_equal(space_unmap(w.e.q, w.e.s, va, PG(WALKERS)), 0);
	}
	a32_set(&w.stop, 1);
	for (u32 i = 0; i < WALKERS; i++) {
		pthread_join(k[i].id, NULL);
		assert_in_range(k[i].least, STABLE, STABLE + 1);
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_inside),
		cmocka_unit_test(test_areas_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
