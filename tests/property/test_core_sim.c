/* The core on the simulated machine under random operations: frames, A/D bits, threads,
 * backgrounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "core_oracle.h"

#define OPS 250000

static void run_one(void **state)
{
	const struct oracle_config *cfg = *state;
	struct oracle_report r;
	u64 wrong = oracle_run(cfg, &r);

	printf("%s: %llu operations in %.1f s (%.1f us each), %llu refused, "
	       "%llu pages out, %llu in\n",
	       cfg->name, (unsigned long long)r.ops, r.seconds,
	       r.ops ? r.seconds * 1e6 / (double)r.ops : 0, (unsigned long long)r.failed_ops,
	       (unsigned long long)r.swap_out, (unsigned long long)r.swap_in);
	assert_int_equal(wrong, 0);
	assert_true(r.swap_out > 0 && r.swap_in > 0);
}

static struct oracle_config config[] = {
	{ "plain_sw_1", .ops = OPS, .threads = 1, .seed = 1 },
	{ "plain_hw_1", .hw_ad = true, .ops = OPS, .threads = 1, .seed = 2 },
	{ "home_sw_1", .home = true, .ops = OPS, .threads = 1, .seed = 3 },
	{ "home_hw_1", .home = true, .hw_ad = true, .ops = OPS, .threads = 1, .seed = 4 },
	{ "plain_sw_4", .ops = OPS, .threads = 4, .seed = 5 },
	{ "plain_hw_4", .hw_ad = true, .ops = OPS, .threads = 4, .seed = 6, .background = true },
	{ "home_sw_4", .home = true, .ops = OPS, .threads = 4, .seed = 7, .background = true },
	{ "home_hw_4", .home = true, .hw_ad = true, .ops = OPS, .threads = 4, .seed = 8 },
};

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(run_one, &config[0]),
		cmocka_unit_test_prestate(run_one, &config[1]),
		cmocka_unit_test_prestate(run_one, &config[2]),
		cmocka_unit_test_prestate(run_one, &config[3]),
		cmocka_unit_test_prestate(run_one, &config[4]),
		cmocka_unit_test_prestate(run_one, &config[5]),
		cmocka_unit_test_prestate(run_one, &config[6]),
		cmocka_unit_test_prestate(run_one, &config[7]),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
