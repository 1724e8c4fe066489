/* A core on the host machine with hardly any host mappings: private areas of objects whose pages
 * lie anywhere are still read and written, and show what they should. */
#include <stdlib.h>

#include "core_env.h"
#include "machine/host/host.h"
#include "object/object.h"
#include "swap/swap_object.h"

#define PAGES 400u

static void open_host(struct env *e, u32 max_mappings)
{
	struct host_config hc = { .region_bytes = 1ull << 30, .max_mappings = max_mappings };
	struct core_config cc = { .swap_spec = NULL };
	char msg[200] = "";

	memset(e, 0, sizeof(*e));
	if (machine_host_create(&hc, &e->m, msg, sizeof(msg))) {
		printf("skipped: %s\n", msg);
		exit(77);
	}
	if (!machine_has(e->m, CAP_PLAIN)) {
		printf("skipped: no plain areas\n");
		exit(77);
	}
	cc.phys = (struct phys_config){ .nr_nodes = 1, .node = { { 0, 0, ~0ull } } };
	cc.phys.node[0].base_pfn = e->m->node_span[0].pfn;
	cc.phys.node[0].span = e->m->node_span[0].nr;
	assert_int_equal(core_create(&e->q, e->m, &cc), 0);
	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &e->s), 0);
}

/* Faulted in by the core, then used by the processor. */
static u64 *page(struct env *e, u64 va, u32 access)
{
	assert_int_equal(handle_fault(e->q, &e->s->fs, va, access), 0);
	return (u64 *)(uintptr_t)va;
}

static void test_few_mappings(void **st)
{
	struct object_config oc = { .size = PG(PAGES) };
	struct object *o;
	struct env e;
	u64 va = 0;

	(void)st;
	open_host(&e, 40);
	assert_int_equal(object_create_anon(e.q, &oc, &o), 0);
	/* In an order that leaves no two of them side by side. */
	for (u64 i = 0; i < PAGES; i++) {
		u64 at = i * 7 % PAGES, word = at + 1;

		assert_int_equal(object_write(o, PG(at), &word, 8), 8);
	}
	assert_int_equal(space_map_object(e.q, e.s, 0, PG(PAGES), RW, 0, o, 0, &va), 0);
	assert_int_equal(space_advise(e.q, e.s, va, PG(PAGES), ADVISE_RANDOM), 0);
	for (u64 i = 0; i < PAGES; i++)
		assert_int_equal(*page(&e, va + PG(i), ACCESS_READ), i + 1);
	assert_true(stat_read(e.q, STAT_FAULT_COW) > 0);
	for (u64 i = 0; i < PAGES; i += 3)
		*page(&e, va + PG(i), ACCESS_WRITE) = i + 7;
	for (u64 i = 0; i < PAGES; i++) {
		u64 word;

		assert_int_equal(*page(&e, va + PG(i), ACCESS_READ), i % 3 ? i + 1 : i + 7);
		assert_int_equal(object_read(o, PG(i), &word, 8, NULL), 8);
		assert_int_equal(word, i + 1);
	}
	assert_int_equal(quire_check_all(e.q), 0);
	space_destroy(e.q, e.s);
	object_put(o);
	assert_int_equal(quire_check_all(e.q), 0);
	assert_int_equal(core_destroy(e.q), 0);
	e.m->ops->destroy(e.m);
}

/* Pages that came before the area did move to their places, instead of using up the mappings; what
 * is pinned or used elsewhere does not. */
static void test_places(void **st)
{
	struct object_config oc = { .size = PG(PAGES) };
	struct object *o;
	struct env e;
	u64 va = 0, other = 0, n = 0, word;

	(void)st;
	open_host(&e, 40);
	assert_int_equal(object_create_anon(e.q, &oc, &o), 0);
	for (u64 i = 0; i < PAGES; i++) {
		u64 at = i * 7 % PAGES;

		word = at + 1;
		assert_int_equal(object_write(o, PG(at), &word, 8), 8);
	}
	assert_int_equal(space_map_object(e.q, e.s, 0, PG(PAGES), RW, MAP_F_SHARED, o, 0, &va), 0);
	assert_int_equal(space_map_object(e.q, e.s, 0, PG(4), PROT_BITS_READ, MAP_F_SHARED, o,
					  PG(8), &other),
			 0);
	for (u64 i = 0; i < PAGES; i++) {
		if (i % 3)
			assert_int_equal(*page(&e, va + PG(i), ACCESS_READ), i + 1);
		else
			*page(&e, va + PG(i), ACCESS_WRITE) = i + 7;
		n += entry_pfn(env_entry(&e, va + PG(i))) == a64_read(&o->frames) + i;
	}
	assert_int_equal(n, PAGES);
	assert_int_equal(*page(&e, other, ACCESS_READ), 9);
	for (u64 i = 0; i < PAGES; i++) {
		assert_int_equal(object_read(o, PG(i), &word, 8, NULL), 8);
		assert_int_equal(word, i % 3 ? i + 1 : i + 7);
	}
	assert_int_equal(o->nr_pages, PAGES);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), PAGES);
	assert_int_equal(quire_check_all(e.q), 0);
	space_destroy(e.q, e.s);
	object_put(o);
	assert_int_equal(quire_check_all(e.q), 0);
	assert_int_equal(cgroup_usage(e.q, CGROUP_ROOT), 0);
	assert_int_equal(core_destroy(e.q), 0);
	e.m->ops->destroy(e.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_few_mappings),
					    cmocka_unit_test(test_places) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
