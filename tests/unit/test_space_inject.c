/* Every allocation and every call of the machine and the stores fails in turn, under map, touch,
 * evict, protect, remap, unmap: what was refused can be done again, contents are intact, nothing is
 * broken, nothing leaks. */
#include "core_env.h"

#define MAYMOVE 1u
#define FIXED   2u
#define PAGES   40u

static const enum inject_point points[] = {
	INJECT_ARENA,         INJECT_FRAME,       INJECT_CHARGE,       INJECT_TABLE,
	INJECT_SLOT,          INJECT_STORE_WRITE, INJECT_STORE_READ,   INJECT_ENTRIES,
	INJECT_FOLIO_TRYLOCK, INJECT_PIN,         INJECT_MACHINE_CALL,
};

/* Once more without a failure: the point fires only once. */
#define RETRY(call)                       \
	do {                              \
		int rc_ = (call);         \
		if (rc_)                  \
			rc_ = (call);     \
		assert_int_equal(rc_, 0); \
	} while (0)

static void write_all(struct env *e, u64 va, u64 pages, u64 tag)
{
	for (u64 i = 0; i < pages; i++)
		RETRY(env_write_page(e, va + PG(i), tag, i));
}

static void read_all(struct env *e, u64 va, u64 pages)
{
	for (u64 i = 0; i < pages; i++)
		RETRY(env_load(e, va + PG(i)));
}

/* The first half holds what was written, the rest zeroes. */
static void expect_all(struct env *e, u64 va, u64 tag)
{
	u64 want[PAGE_SIZE / 8], got[PAGE_SIZE / 8];

	for (u64 i = 0; i < PAGES * 2; i++) {
		memset(want, 0, sizeof(want));
		if (i < PAGES)
			env_page(want, tag, i);
		RETRY(sim_load(e->m, 0, e->s->ms, va + PG(i), got, sizeof(got)));
		assert_memory_equal(got, want, sizeof(want));
	}
}

static void one_round(struct env *e, u64 tag)
{
	u64 va = 0, at = 0, to = space_usable(e->s).end - PG(PAGES * 4);

	RETRY(space_map(e->q, e->s, 0, PG(PAGES), RW, 0, &va));
	write_all(e, va, PAGES, tag);
	RETRY(space_advise(e->q, e->s, va, PG(PAGES), ADVISE_PAGEOUT));
	read_all(e, va + PG(10), 20);
	RETRY(space_remap(e->q, e->s, va, PG(PAGES), PG(PAGES * 2), MAYMOVE, 0, &at));
	va = at;
	RETRY(space_remap(e->q, e->s, va, PG(PAGES * 2), PG(PAGES * 2), MAYMOVE | FIXED, to, &at));
	RETRY(space_remap(e->q, e->s, to, PG(PAGES * 2), PG(PAGES * 2), MAYMOVE | FIXED, va, &at));
	RETRY(space_remap(e->q, e->s, va + PG(10), PG(20), PG(20), MAYMOVE | FIXED, to, &at));
	RETRY(space_remap(e->q, e->s, to, PG(20), PG(20), MAYMOVE | FIXED, va + PG(10), &at));
	/* Last: a merge that is given up for want of memory leaves areas over which mremap refuses
	 * to go. */
	RETRY(space_protect(e->q, e->s, va + PG(8), PG(8), PROT_BITS_READ));
	RETRY(space_protect(e->q, e->s, va + PG(4), PG(20), 0));
	RETRY(space_protect(e->q, e->s, va, PG(PAGES * 2), RW));
	read_all(e, va, PAGES * 2);
	expect_all(e, va, tag);
	RETRY(space_mlock(e->q, e->s, va + PG(3), PG(3), false));
	RETRY(space_munlock(e->q, e->s, va + PG(3), PG(3)));
	RETRY(space_unmap(e->q, e->s, va + PG(7), PG(7)));
	RETRY(space_advise(e->q, e->s, va, PG(5), ADVISE_DONTNEED));
	RETRY(space_unmap(e->q, e->s, va, PG(PAGES * 2)));
	assert_int_equal(space_mapped_pages(e->s), 0);
	assert_int_equal(space_resident_pages(e->s), 0);
}

static void run_point(u32 kind, enum inject_point p, u64 limit)
{
	struct env e;

	env_open(&e, kind, limit, NULL);
	for (u64 nth = 1;; nth++) {
		u64 before = inject_hits(&e.inject, p);

		inject_at(&e.inject, p, nth);
		one_round(&e, nth);
		inject_off(&e.inject, p);
		env_check(&e);
		if (inject_hits(&e.inject, p) == before)
			break;
	}
	env_close(&e);
}

static void test_plain_sw(void **st)
{
	for (u32 i = 0; i < ARRAY_SIZE(points); i++)
		run_point(0, points[i], 0);
}

static void test_home_sw(void **st)
{
	for (u32 i = 0; i < ARRAY_SIZE(points); i++)
		run_point(1, points[i], 0);
}

static void test_plain_hw(void **st)
{
	for (u32 i = 0; i < ARRAY_SIZE(points); i++)
		run_point(2, points[i], 24);
}

static void test_home_limited(void **st)
{
	for (u32 i = 0; i < ARRAY_SIZE(points); i++)
		run_point(1, points[i], 24);
}

/* Creating and destroying an instance with each allocation failing. */
static void test_create(void **st)
{
	for (u64 nth = 1, hits = 1; hits; nth++) {
		struct core_config cc = { .phys = { .nr_nodes = 1 } };
		struct sim_config sc = sim_defaults(false, false);
		struct inject inj;
		struct machine *m;
		struct space *s;
		struct quire *q;

		inject_init(&inj);
		sc.ram_frames = 4096;
		sc.span_frames = 4096;
		cc.phys.node[0].span = 4096;
		cc.phys.node[0].capacity = 4096;
		sc.inject = &inj;
		assert_int_equal(sim_create(&sc, &m), 0);
		inject_at(&inj, INJECT_ARENA, nth);
		if (!core_create(&q, m, &cc)) {
			if (!space_create(q, CGROUP_ROOT, 0, &s))
				space_destroy(q, s);
			inject_off(&inj, INJECT_ARENA); /* the checker allocates too */
			assert_int_equal(quire_check_all(q), 0);
			assert_int_equal(core_destroy(q), 0);
		}
		hits = inject_hits(&inj, INJECT_ARENA);
		m->ops->destroy(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),       cmocka_unit_test(test_plain_sw),
		cmocka_unit_test(test_home_sw),      cmocka_unit_test(test_plain_hw),
		cmocka_unit_test(test_home_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
