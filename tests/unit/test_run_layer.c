/*
 * The parts of the program personality that stand alone: options, the list of foreign mappings
 * against a bitmap, the table of calls, sizes of ioctls.
 */
#include "run/config.c"
#include "run/foreign.c"
#include "run/calltable.c"
#include "run/ioctl.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define PAGES  512u
#define ROUNDS 20000

/* One thread: the lock is only checked for balance. */
void run_lock(struct run_lock *l)
{
	assert_int_equal(l->word, 0);
	l->word = 1;
}

void run_unlock(struct run_lock *l)
{
	assert_int_equal(l->word, 1);
	l->word = 0;
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int error;
		u64 bytes;
	} cases[] = {
		{ "1", 0, 1 },
		{ "64K", 0, 65536 },
		{ "64k", 0, 65536 },
		{ "12M", 0, 12 << 20 },
		{ "3G", 0, 3ull << 30 },
		{ "131072G", 0, 1ull << 47 },
		{ "131073G", -ERANGE, 0 },
		{ "18446744073709551615", -ERANGE, 0 },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "17179869185G", -ERANGE, 0 },
		{ "0", -EDOM, 0 },
		{ "0G", -EDOM, 0 },
		{ "", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "12Q", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "1KB", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 bytes = 0;

		assert_int_equal(run_parse_size(cases[i].text, &bytes), cases[i].error);
		assert_int_equal(bytes, cases[i].bytes);
	}
}

static void stores(void **state)
{
	static const char *const good[] = {
		"lz4", "zstd", "lz4:64M", "lz4,zstd:1G", "file:/a/b:4G", "file:x", "lz4,file:/tmp/x"
	};
	static const char *const bad[] = { "",         "lz",          "lz4:", "lz4:0",
					   "lz4,",     ",lz4",        "file", "file:",
					   "file::1G", "file:/a:12Q", "LZ4",  "zstd:x" };
	char msg[256], longest[RUN_SPEC_MAX + 8];

	for (u32 i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(run_check_swap(good[i], false, msg, sizeof(msg)), 0);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		msg[0] = 0;
		assert_int_equal(run_check_swap(bad[i], false, msg, sizeof(msg)), -1);
		assert_true(msg[0]);
		assert_null(strchr(msg, '\n'));
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	assert_int_equal(run_check_swap(longest, false, msg, sizeof(msg)), -1);
	assert_int_equal(run_check_swap("file:/", true, msg, sizeof(msg)), -1);
	assert_int_equal(run_check_swap("file:/nonexistent/x", true, msg, sizeof(msg)), -1);
}

static void environment(void **state)
{
	static struct run_config in, out;
	static char text[RUN_CONFIG_TEXT_MAX], more[RUN_CONFIG_TEXT_MAX + 64];

	in.ram = 123456789;
	in.start_ns = ~0ull;
	in.pid = 4711;
	in.quiet = true;
	strcpy(in.swap, "lz4:1M,file:/with=sign:2G");
	memset(in.json, 'j', sizeof(in.json) - 1);
	strcpy(in.library, "/lib/libquire-run.so");
	assert_true(run_config_encode(&in, text, sizeof(text)) > 0);
	assert_int_equal(run_config_decode(&out, text), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	/* A field of a later version is skipped. */
	snprintf(more, sizeof(more), "later=1%c%s", FIELD_END, text);
	assert_int_equal(run_config_decode(&out, more), 0);
	assert_int_equal(out.ram, in.ram);
	assert_int_equal(run_config_encode(&in, text, 100), -ENOSPC);
	assert_int_equal(run_config_decode(&out, "nonsense"), -EINVAL);
	text[0] = 0;
	snprintf(more, sizeof(more), "swap=%01200d", 1);
	assert_int_equal(run_config_decode(&out, more), -ENOSPC);
}

static void foreign_ranges(void **state)
{
	static bool oracle[PAGES];
	u32 rng = 12345;

	for (int round = 0; round < ROUNDS; round++) {
		u32 a, b;

		rng = rng * 1664525 + 1013904223;
		a = rng >> 10 & (PAGES - 1);
		b = a + 1 + (rng >> 20) % 24;
		if (b > PAGES)
			b = PAGES;
		if (rng & 256) {
			assert_int_equal(run_foreign_add(a * PAGE_SIZE, b * PAGE_SIZE), 0);
			memset(oracle + a, 1, b - a);
		} else {
			assert_int_equal(run_foreign_remove(a * PAGE_SIZE, b * PAGE_SIZE), 0);
			memset(oracle + a, 0, b - a);
		}
		/* A walk gives maximal stretches that alternate. */
		for (u64 at = 0; at < PAGES * PAGE_SIZE;) {
			bool foreign;
			u64 end = run_foreign_stretch(at, PAGES * PAGE_SIZE, &foreign);

			assert_true(end > at && end <= PAGES * PAGE_SIZE);
			for (u64 p = at / PAGE_SIZE; p < end / PAGE_SIZE; p++)
				assert_int_equal(oracle[p], foreign);
			if (end < PAGES * PAGE_SIZE)
				assert_int_equal(oracle[end / PAGE_SIZE], !foreign);
			at = end;
		}
		for (u32 i = 1; i < nr_list; i++)
			assert_true(list[i - 1].end < list[i].start);
	}
	assert_int_equal(run_foreign_remove(0, PAGES * PAGE_SIZE), 0);
	assert_false(run_foreign_any());
}

static void foreign_full(void **state)
{
	for (u64 i = 0; i < MAX_FOREIGN; i++)
		assert_int_equal(run_foreign_add(i * 2 * PAGE_SIZE, (i * 2 + 1) * PAGE_SIZE), 0);
	assert_int_equal(
		run_foreign_add(MAX_FOREIGN * 2 * PAGE_SIZE, (MAX_FOREIGN * 2 + 1) * PAGE_SIZE),
		-ENOMEM);
	assert_int_equal(nr_list, MAX_FOREIGN);
	/* One that joins others needs no room. */
	assert_int_equal(run_foreign_add(0, 9 * PAGE_SIZE), 0);
	assert_int_equal(run_foreign_remove(0, ~0ull), 0);
}

static void call_table(void **state)
{
	for (u64 nr = 0; nr < LAST_CALL; nr++) {
		const struct call_spec *c = run_call_spec(nr);

		if (!c)
			continue;
		assert_true(c->nr <= CALL_MAX_ARGS);
		for (u32 i = 0; i < c->nr; i++) {
			assert_true(c->arg[i].arg < 6 && c->arg[i].len_arg < 6);
			assert_int_not_equal(c->arg[i].kind, K_NONE);
			if (c->arg[i].kind == K_LEN || c->arg[i].kind == K_FIXED)
				assert_true(c->arg[i].size);
		}
	}
	assert_true(run_call_spec(SYS_io_setup)->flags & CALL_REFUSED);
	assert_int_equal(run_call_spec(SYS_getpid)->nr, 0);
	assert_null(run_call_spec(100000));
}

static void ioctls(void **state)
{
	assert_int_equal(run_ioctl_size(FIONREAD), 8);
	assert_true(run_ioctl_size(TCGETS) >= 60);
	assert_int_equal(run_ioctl_size(_IOR('x', 1, char[1000])), 1000);
	assert_true(run_ioctl_size(SIOCGIFCONF) >= 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),        cmocka_unit_test(stores),
		cmocka_unit_test(environment),  cmocka_unit_test(foreign_ranges),
		cmocka_unit_test(foreign_full), cmocka_unit_test(call_table),
		cmocka_unit_test(ioctls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
