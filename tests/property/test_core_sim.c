/* The core on the simulated machine under random operations: frames, A/D bits, threads,
 * backgrounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core_oracle.h"

#define OPS      200000
#define TIER_OPS 80000

static void run_one(void **state)
{
	const struct oracle_config *cfg = *state;
	struct oracle_report r;
	u64 wrong = oracle_run(cfg, &r);

	printf("%s: %llu operations in %.1f s (%.1f us each), %llu refused, "
	       "%llu pages out, %llu in, %llu migrated, of these %llu by compaction, "
	       "%llu times frames out of service\n",
	       cfg->name, (unsigned long long)r.ops, r.seconds,
	       r.ops ? r.seconds * 1e6 / (double)r.ops : 0, (unsigned long long)r.failed_ops,
	       (unsigned long long)r.swap_out, (unsigned long long)r.swap_in,
	       (unsigned long long)r.migrated, (unsigned long long)r.compacted,
	       (unsigned long long)r.offlined);
	assert_int_equal(wrong, 0);
	assert_true(r.swap_out > 0 && r.swap_in > 0);
	assert_true(cfg->home || cfg->tiers ||
		    (r.migrated > 0 && r.compacted > 0 && r.offlined > 0));
	if (!cfg->tiers)
		return;
	printf("%s: %llu demoted, %llu promoted, %llu hints met\n", cfg->name,
	       (unsigned long long)r.demoted, (unsigned long long)r.promoted,
	       (unsigned long long)r.hint_faults);
	assert_true(r.demoted > 0 && r.promoted > 0 && r.hint_faults > 0);
}

/* A chain of stores that fill up, with I/O errors and failed checksums in the last. */
static void run_files(void **state)
{
	struct oracle_config *cfg = *state;
	const char *dir = getenv("TMPDIR");
	char spec[256];

	snprintf(spec, sizeof(spec), "lz4:256K,file:%s/quire-prop-%d:64M", dir ? dir : "/tmp",
		 (int)getpid());
	cfg->swap = spec;
	run_one(state);
}

static struct oracle_config config[] = {
	{ "plain_sw_1", .meta = true, .ops = OPS, .threads = 1, .seed = 1 },
	{ "plain_hw_1", .hw_ad = true, .ops = OPS, .threads = 1, .seed = 2 },
	{ "home_sw_1", .home = true, .ops = OPS, .threads = 1, .seed = 3, .swap = "lz4:256K,zstd" },
	{ "home_hw_1", .meta = true, .home = true, .hw_ad = true, .ops = OPS, .threads = 1,
	  .seed = 4 },
	{ "plain_sw_4", .ops = OPS, .threads = 4, .seed = 5, .swap = "zstd" },
	{ "plain_hw_4", .meta = true, .hw_ad = true, .ops = OPS, .threads = 4, .seed = 6,
	  .background = true },
	{ "home_sw_4", .meta = true, .home = true, .ops = OPS, .threads = 4, .seed = 7,
	  .background = true },
	{ "home_hw_4", .home = true, .hw_ad = true, .ops = OPS, .threads = 4, .seed = 8 },
	{ "home_files_4", .home = true, .ops = OPS, .threads = 4, .seed = 9 },
	{ "plain_files_1", .hw_ad = true, .ops = OPS, .threads = 1, .seed = 10 },
	{ "placed_sw_1", .placed = true, .flush_locked = true, .ops = OPS, .threads = 1,
	  .seed = 11 },
	{ "placed_sw_4", .meta = true, .placed = true, .flush_locked = true, .ops = OPS,
	  .threads = 4, .seed = 12 },
	{ "placed_hw_4", .placed = true, .hw_ad = true, .ops = OPS, .threads = 4, .seed = 13 },
	{ "tiers_home_sw_1", .tiers = true, .meta = true, .home = true, .ops = TIER_OPS,
	  .threads = 1, .seed = 14 },
	{ "tiers_home_sw_4", .tiers = true, .home = true, .ops = TIER_OPS, .threads = 4, .seed = 15,
	  .background = true },
	{ "tiers_home_hw_4", .tiers = true, .home = true, .hw_ad = true, .ops = TIER_OPS,
	  .threads = 4, .seed = 16 },
	{ "tiers_sw_4", .tiers = true, .ops = TIER_OPS, .threads = 4, .seed = 17, .swap = "zstd" },
	{ "tiers_hw_1", .tiers = true, .hw_ad = true, .ops = TIER_OPS, .threads = 1, .seed = 18 },
	{ "tiers_hw_4", .tiers = true, .meta = true, .hw_ad = true, .ops = TIER_OPS, .threads = 4,
	  .seed = 19, .background = true },
	{ "tiers_placed_4", .tiers = true, .placed = true, .flush_locked = true, .ops = TIER_OPS,
	  .threads = 4, .seed = 20 },
};

#define TEST(fn, i)                                        \
	{                                                  \
		config[i].name, fn, NULL, NULL, &config[i] \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(run_one, 0),   TEST(run_one, 1),   TEST(run_one, 2),  TEST(run_one, 3),
		TEST(run_one, 4),   TEST(run_one, 5),   TEST(run_one, 6),  TEST(run_one, 7),
		TEST(run_files, 8), TEST(run_files, 9), TEST(run_one, 10), TEST(run_one, 11),
		TEST(run_one, 12),  TEST(run_one, 13),  TEST(run_one, 14), TEST(run_one, 15),
		TEST(run_one, 16),  TEST(run_one, 17),  TEST(run_one, 18), TEST(run_one, 19),
	};

	if (getenv("QUIRE_PROP_CASE"))
		cmocka_set_test_filter(getenv("QUIRE_PROP_CASE"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
