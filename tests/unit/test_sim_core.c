/* Creating an instance over the simulated machine: every allocation and machine call fails in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "api/core.h"
#include "base/inject.h"
#include "machine/native/native.h"
#include "machine/sim/sim.h"
#include "space/space.h"

#define MOST_POINTS 10000u /* more calls than any creation makes */

struct world {
	struct machine *m;
	struct inject inject;
	struct core_config cfg;
};

static void world_open(struct world *w, bool home)
{
	struct sim_config sc = sim_defaults(home, true);

	memset(w, 0, sizeof(*w));
	inject_init(&w->inject);
	sc.inject = &w->inject;
	assert_int_equal(sim_create(&sc, &w->m), 0);
	w->cfg.phys.nr_nodes = 1;
	w->cfg.phys.node[0].span = home ? 0 : sim_config_of(w->m)->span_frames;
	w->cfg.phys.node[0].capacity = home ? ~0ull : sc.ram_frames;
	w->cfg.ram_limit_pages = 256;
	w->cfg.background = true;
}

static void assert_machine_empty(struct world *w)
{
	struct sim_stats st;

	sim_stats_get(w->m, &st);
	assert_int_equal(st.mem_bytes, 0);
	assert_int_equal(st.threads | st.files | st.spaces | st.staging | st.populated, 0);
	assert_int_equal(sim_violations(w->m), 0);
	assert_int_equal(native_warnings(), 0);
}

static void world_close(struct world *w)
{
	assert_machine_empty(w);
	w->m->ops->destroy(w->m);
}

/* Is what was created whole? */
static void use(struct world *w, struct quire *q)
{
	struct space *s;
	u64 at, word = 42;

	assert_int_equal(space_create(q, CGROUP_ROOT, 0, &s), 0);
	assert_int_equal(space_map(q, s, 0, 16 * PAGE_SIZE, 3, 0, &at), 0);
	assert_int_equal(sim_store(w->m, 0, s->ms, at + 5 * PAGE_SIZE, &word, sizeof(word)), 0);
	space_destroy(q, s);
	assert_int_equal(quire_check_all(q), 0);
	assert_int_equal(core_destroy(q), 0);
}

static void fail_each(bool home, enum inject_point point)
{
	struct world w;
	struct quire *q;
	u64 n = 1;

	world_open(&w, home);
	for (; n < MOST_POINTS; n++) {
		int rc;

		inject_at(&w.inject, point, n);
		rc = core_create(&q, w.m, &w.cfg);
		inject_off(&w.inject, point);
		if (!rc)
			break;
		assert_true(rc == -ENOMEM || rc == -EAGAIN);
		assert_null(q);
		assert_machine_empty(&w);
	}
	assert_in_range(n, 2, MOST_POINTS - 1);
	use(&w, q);
	world_close(&w);
}

static void test_each_allocation_fails(void **state)
{
	fail_each(false, INJECT_ARENA);
	fail_each(true, INJECT_ARENA);
}

static void test_each_machine_call_fails(void **state)
{
	fail_each(false, INJECT_MACHINE_CALL);
	fail_each(true, INJECT_MACHINE_CALL);
}

static void test_the_zero_page_may_fail(void **state)
{
	fail_each(false, INJECT_FRAME);
}

static void test_bad_store_is_told(void **state)
{
	char msg[128] = "";
	struct world w;
	struct quire *q;

	world_open(&w, false);
	w.cfg.swap_spec = "tape";
	w.cfg.msg = msg;
	w.cfg.msg_size = sizeof(msg);
	assert_int_equal(core_create(&q, w.m, &w.cfg), -EINVAL);
	assert_null(q);
	assert_non_null(strstr(msg, "tape"));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_allocation_fails),
		cmocka_unit_test(test_each_machine_call_fails),
		cmocka_unit_test(test_the_zero_page_may_fail),
		cmocka_unit_test(test_bad_store_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
