#include "swap_env.h"

#define FRAMES 4096
#define N      700

static struct store_stats stats_of(struct swap_env *e, unsigned i)
{
	struct store_stats st;

	swap_store_stats(&e->q, i, &st);
	return st;
}

static void check_page(struct swap_env *e, u64 slot, u64 id, u64 v, int kind)
{
	int err;
	struct folio *f = env_load(e, slot, &err);

	assert_int_equal(err, 0);
	assert_true(page_is(env_bytes(e, f), id, v, kind));
	/* Back out, clean: nothing is written. */
	assert_true(swap_folio_has_copy(&e->q, f));
	env_evict(e, f, 1);
}

/* Every kind of page through a chain, twice read, then freed; what each store holds is returned. */
static void through(const char *spec, struct store_stats *held, u32 nr)
{
	struct swap_env *e = env_new(spec, FRAMES);
	u64 slot[N];

	for (u32 i = 0; i < N; i++)
		slot[i] = env_store(e, i, 1, -1);
	for (u32 round = 0; round < 2; round++)
		for (u32 i = 0; i < N; i++)
			check_page(e, slot[i], i, 1, -1);
	for (u32 k = 0; k < nr; k++) {
		held[k] = stats_of(e, k);
		held[k].name = strdup(held[k].name);
	}
	assert_int_equal(swap_check(&e->q), 0);
	assert_int_equal(stat_read(&e->q, STAT_SWAP_OUT_PAGES), N);
	assert_int_equal(stat_read(&e->q, STAT_SWAP_IN_PAGES), 2 * N);
	assert_int_equal(stat_read(&e->q, STAT_SWAP_SAME_PAGES), (N + 7) / 8);
	for (u32 i = 0; i < N; i++)
		swap_put(&e->q, slot[i], 1);
	for (u32 k = 0; k < nr; k++) {
		assert_int_equal(stats_of(e, k).pages, 0);
		assert_int_equal(stats_of(e, k).stored_bytes, 0);
	}
	env_free(e);
}

static void pages_come_back(void **state)
{
	struct store_stats st[3];
	u64 same = (N + 7) / 8, incompressible = (N + 6) / 8;

	through("lz4", st, 1);
	assert_string_equal(st[0].name, "lz4");
	assert_int_equal(st[0].pages, N - same); /* the incompressible ones raw */
	assert_true(st[0].stored_bytes < 4096ull * N * 5 / 8);
	assert_true(st[0].pool_bytes >= st[0].stored_bytes);
	free((char *)st[0].name);
	through("zstd", st, 1);
	free((char *)st[0].name);
	assert_int_equal(st[0].pages, N - same);
	through("file:/tmp/quire-test-swap", st, 1);
	assert_string_equal(st[0].name, env_spec("file:/tmp/quire-test-swap"));
	assert_int_equal(st[0].pages, N - same);
	free((char *)st[0].name);
	assert_true(access(env_spec("/tmp/quire-test-swap"), F_OK) != 0);
	through("lz4,file:/tmp/quire-test-swap:64M", st, 2);
	assert_int_equal(st[1].pages, incompressible);
	assert_int_equal(st[1].cap_bytes, 64 << 20);
	free((char *)st[0].name);
	free((char *)st[1].name);
	through("lz4:512K,zstd:512K,file:/tmp/quire-test-swap:4M", st, 3);
	assert_int_equal(st[0].pages + st[1].pages + st[2].pages, N - same);
	assert_true(st[0].pages && st[1].pages && st[2].pages);
	assert_true(st[0].pool_bytes <= 512 << 10 && st[1].pool_bytes <= 512 << 10);
	assert_true(st[0].full > 0);
	for (u32 k = 0; k < 3; k++)
		free((char *)st[k].name);
}

/* Everything full: the folio stays, dirty, without a copy; room makes it succeed again. */
static void full_stores_lose_nothing(void **state)
{
	struct swap_env *e = env_new("lz4:256K,file:/tmp/quire-test-swap:256K", FRAMES);
	u64 slot[N];
	struct folio *f;
	u32 n = 0;
	int err;

	assert_false(swap_is_tight(&e->q));
	for (;; n++) {
		assert_true(n < N);
		f = env_folio(e, 0, n, 1, 1);
		assert_int_equal(swap_add_folio(&e->q, f), 0);
		swap_dup(&e->q, f->swap, 1);
		slot[n] = f->swap;
		if (!swap_writeout(&e->q, &f, 1, &err))
			break;
		env_evict(e, f, 7);
	}
	assert_int_equal(err, -ENOSPC);
	assert_true(folio_test(f, PG_DIRTY));
	assert_false(swap_folio_has_copy(&e->q, f));
	assert_true(page_is(env_bytes(e, f), n, 1, 1));
	assert_true(swap_is_tight(&e->q));
	/* raw pages fill the lz4 pool once the file is full */
	assert_int_equal(stats_of(e, 1).pages, 64);
	assert_true(n > 64);
	assert_int_equal(stat_read(&e->q, STAT_SWAP_WRITE_ERRORS), 1);
	swap_put(&e->q, slot[0], 1);
	assert_int_equal(swap_writeout(&e->q, &f, 1, &err), 1);
	env_evict(e, f, 7);
	for (u32 i = 1; i <= n; i++) {
		check_page(e, slot[i], i, 1, 1);
		swap_put(&e->q, slot[i], 1);
	}
	assert_false(swap_is_tight(&e->q));
	env_free(e);
}

/* A slot that is written again gives the older copy back. */
static void new_copy_replaces_old(void **state)
{
	static const char *const specs[] = { "lz4", "zstd", "file:/tmp/quire-test-swap:1M" };

	for (u32 k = 0; k < ARRAY_SIZE(specs); k++) {
		struct swap_env *e = env_new(specs[k], FRAMES);
		u64 slot = env_store(e, 2, 1, 2);
		struct folio *f;
		int err;

		for (u32 v = 2; v < 400; v++) {
			f = env_load(e, slot, &err);
			assert_int_equal(err, 0);
			assert_true(
				page_is(env_bytes(e, f), 2, v - 1, (int)((v - 1) % 3 + (v == 2))));
			page_fill(env_bytes(e, f), 2, v, (int)(v % 3));
			if (v % 2)
				swap_invalidate_copy(&e->q, f);
			else
				folio_set(f, PG_DIRTY);
			assert_false(swap_folio_has_copy(&e->q, f));
			assert_int_equal(swap_writeout(&e->q, &f, 1, &err), 1);
			env_evict(e, f, 1);
			assert_true(stats_of(e, 0).pages <= 1);
		}
		swap_put(&e->q, slot, 1);
		env_free(e);
	}
}

static void corruption_is_reported(void **state)
{
	static const char *const specs[] = { "lz4", "zstd", "file:/tmp/quire-test-swap:1M" };

	for (u32 k = 0; k < ARRAY_SIZE(specs); k++) {
		for (int kind = 1; kind < 4; kind++) {
			struct swap_env *e = env_new(specs[k], FRAMES);
			u64 slot = env_store(e, 2, 1, kind);
			struct folio *f;
			int err;

			inject_at(&e->inject, INJECT_STORE_CORRUPT, 1);
			f = env_load(e, slot, &err);
			assert_int_equal(err, -EIO);
			assert_int_equal(stat_read(&e->q, STAT_SWAP_READ_ERRORS), 1);
			assert_int_equal(stats_of(e, 0).errors, 1);
			inject_at(&e->inject, INJECT_STORE_READ, 1);
			void *buf = env_bytes(e, f);

			assert_int_equal(swap_read(&e->q, &slot, 1, &buf, &err), 0);
			assert_int_equal(err, -EIO);
			/* The stored copy itself is whole. */
			assert_int_equal(swap_read(&e->q, &slot, 1, &buf, &err), 1);
			assert_true(page_is(buf, 2, 1, kind));
			env_evict(e, f, 1);
			swap_put(&e->q, slot, 1);
			env_free(e);
		}
	}
}

/* Real damage, byte by byte, in the pool: never a crash, never wrong bytes. */
static void damaged_pool_never_gives_wrong_bytes(void **state)
{
	static const char *const specs[] = { "lz4", "zstd" };

	for (u32 k = 0; k < ARRAY_SIZE(specs); k++) {
		struct swap_env *e = env_new(specs[k], FRAMES);
		u64 slot = env_store(e, 3, 1, 3), seed = 99;
		struct cluster *cl = slot_cluster(e->q.swap, slot);
		struct slot *s = (struct slot *)aptr_read(&cl->slots) + slot_offset(slot);
		u32 len = s->data & 8191, bad = 0;
		/* store_ram has its pool at a fixed place; find the bytes through the chunk. */
		u64 data = s->data;
		int err;
		struct folio *f = env_load(e, slot, &err);
		u8 *buf = env_bytes(e, f);
		void *bufs = buf;

		assert_int_equal(err, 0);
		for (u32 i = 0; i < 500; i++) {
			/* A wrong handle: another place or length, as a torn table would have. */
			s->data = data ^ (env_random(&seed) % 4 ? BIT(env_random(&seed) % 20) :
								  env_random(&seed));
			if (!swap_read(&e->q, &slot, 1, &bufs, &err)) {
				assert_int_equal(err, -EIO);
				bad++;
			} else {
				assert_true(page_is(buf, 3, 1, 3));
			}
			s->data = data;
		}
		assert_true(bad > 400 && len);
		assert_int_equal(swap_read(&e->q, &slot, 1, &bufs, &err), 1);
		env_evict(e, f, 1);
		swap_put(&e->q, slot, 1);
		env_free(e);
	}
}

/* A vector of folios goes to the file in one transfer, and comes back in one. */
static void file_transfers_are_joined(void **state)
{
	struct swap_env *e = env_new("file:/tmp/quire-test-swap:16M", FRAMES);
	struct folio *f[16];
	void *buf[16];
	u64 slot[16], calls;
	int err[16];

	for (u32 i = 0; i < 16; i++) {
		f[i] = env_folio(e, 0, i * 8 + 1, 1, 1);
		assert_int_equal(swap_add_folio(&e->q, f[i]), 0);
		slot[i] = f[i]->swap;
		swap_dup(&e->q, slot[i], 1);
	}
	inject_at(&e->inject, INJECT_MACHINE_CALL, 1 << 20); /* counts the calls */
	assert_int_equal(swap_writeout(&e->q, f, 16, err), 16);
	calls = a64_read(&e->inject.point[INJECT_MACHINE_CALL].calls);
	assert_true(calls <= 2);
	for (u32 i = 0; i < 16; i++)
		buf[i] = env_bytes(e, f[i]);
	assert_int_equal(swap_read(&e->q, slot, 16, buf, err), 16);
	calls = a64_read(&e->inject.point[INJECT_MACHINE_CALL].calls) - calls;
	assert_true(calls <= 2);
	for (u32 i = 0; i < 16; i++) {
		assert_true(page_is(buf[i], i * 8 + 1, 1, 1));
		assert_true(swap_slot_is_slow(&e->q, slot[i]));
		env_evict(e, f[i], 1);
		swap_put(&e->q, slot[i], 1);
	}
	env_free(e);
}

/* Each I/O of a joined transfer fails in turn: single pages are tried, and only they are lost or
 * refused. */
static void failing_io_is_contained(void **state)
{
	struct swap_env *e = env_new("file:/tmp/quire-test-swap:16M", FRAMES);
	struct folio *f[8];
	void *buf[8];
	u64 slot[8];
	int err[8];

	for (u32 i = 0; i < 8; i++) {
		f[i] = env_folio(e, 0, i * 8 + 1, 1, 1);
		assert_int_equal(swap_add_folio(&e->q, f[i]), 0);
		slot[i] = f[i]->swap;
		swap_dup(&e->q, slot[i], 1);
		buf[i] = env_bytes(e, f[i]);
	}
	inject_at(&e->inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(swap_writeout(&e->q, f, 8, err), 8);
	inject_at(&e->inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(swap_read(&e->q, slot, 8, buf, err), 8);
	for (u32 i = 0; i < 8; i++)
		assert_true(page_is(buf[i], i * 8 + 1, 1, 1));
	inject_every(&e->inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(swap_read(&e->q, slot, 8, buf, err), 0);
	for (u32 i = 0; i < 8; i++) {
		assert_int_equal(err[i], -EIO);
		page_fill(buf[i], i * 8 + 1, 1, 1);
		folio_set(f[i], PG_DIRTY);
	}
	assert_int_equal(swap_writeout(&e->q, f, 8, err), 0);
	for (u32 i = 0; i < 8; i++) {
		assert_int_equal(err[i], -EIO);
		assert_true(folio_test(f[i], PG_DIRTY));
		assert_false(swap_folio_has_copy(&e->q, f[i]));
	}
	assert_int_equal(stats_of(e, 0).pages, 0);
	inject_off(&e->inject, INJECT_MACHINE_CALL);
	inject_at(&e->inject, INJECT_STORE_WRITE, 3);
	assert_int_equal(swap_writeout(&e->q, f, 8, err), 7);
	assert_int_equal(err[2], -EIO);
	assert_int_equal(swap_writeout(&e->q, f, 8, err), 8);
	for (u32 i = 0; i < 8; i++) {
		env_evict(e, f[i], 1);
		check_page(e, slot[i], i * 8 + 1, 1, 1);
		swap_put(&e->q, slot[i], 1);
	}
	env_free(e);
}

/* Freed file space goes back to the file system. */
static void file_is_punched(void **state)
{
	struct swap_env *e = env_new("file:/tmp/quire-test-swap:64M", FRAMES);
	enum { PAGES = 6000 };
	u64 *slot = calloc(PAGES, sizeof(*slot));

	for (u32 i = 0; i < PAGES; i++)
		slot[i] = env_store(e, i, 1, 1);
	for (u32 i = 0; i < PAGES - 10; i++)
		swap_put(&e->q, slot[i], 1);
	assert_true(stats_of(e, 0).pool_bytes >= PAGES * PAGE_SIZE);
	slot[0] = env_store(e, 0, 1, 1);
	assert_true(stats_of(e, 0).pool_bytes < 1000 * PAGE_SIZE);
	check_page(e, slot[0], 0, 1, 1);
	assert_int_equal(swap_check(&e->q), 0);
	swap_put(&e->q, slot[0], 1);
	for (u32 i = PAGES - 10; i < PAGES; i++) {
		check_page(e, slot[i], i, 1, 1);
		swap_put(&e->q, slot[i], 1);
	}
	free(slot);
	env_free(e);
}

/* Freed pages' slabs go back; the pool does not keep what a passing peak took. */
static void pool_shrinks(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	enum { PAGES = 8000 };
	u64 *slot = calloc(PAGES, sizeof(*slot)), peak;

	for (u32 i = 0; i < PAGES; i++)
		slot[i] = env_store(e, i, 1, (int)(i % 3) + 1);
	peak = stats_of(e, 0).pool_bytes;
	assert_true(peak < stats_of(e, 0).stored_bytes * 5 / 4 + (4u << 20));
	for (u32 i = 0; i < PAGES; i++)
		swap_put(&e->q, slot[i], 1);
	assert_true(stats_of(e, 0).pool_bytes <= 18 * 65536 + peak / 256);
	assert_int_equal(swap_check(&e->q), 0);
	free(slot);
	env_free(e);
}

static void no_memory_for_the_pool(void **state)
{
	struct swap_env *e = env_new("lz4", FRAMES);
	struct folio *f = env_folio(e, 0, 1, 1, 2);
	int err;

	assert_int_equal(swap_add_folio(&e->q, f), 0);
	inject_every(&e->inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(swap_writeout(&e->q, &f, 1, &err), 0);
	assert_int_equal(err, -ENOMEM);
	assert_true(folio_test(f, PG_DIRTY));
	assert_true(swap_is_tight(&e->q));
	inject_off(&e->inject, INJECT_MACHINE_CALL);
	assert_int_equal(swap_writeout(&e->q, &f, 1, &err), 1);
	assert_false(swap_is_tight(&e->q));
	assert_true(swap_try_free_folio(&e->q, f));
	env_unlock_put(e, f);
	env_free(e);
}

static void bad_specs_are_named(void **state)
{
	static const struct {
		const char *spec, *says;
		int err;
	} bad[] = {
		{ "lz5", "swap store 'lz5': unknown store", -EINVAL },
		{ "lz4,", "swap store '': unknown store", -EINVAL },
		{ ",lz4", "swap store '': unknown store", -EINVAL },
		{ "lz4,zram:3", "swap store 'zram:3': unknown store", -EINVAL },
		{ "lz4:12Q", "swap store 'lz4:12Q': bad size", -EINVAL },
		{ "lz4:", "swap store 'lz4:': bad size", -EINVAL },
		{ "lz4:0", "swap store 'lz4:0': bad size", -EINVAL },
		{ "lz4:-1M", "swap store 'lz4:-1M': bad size", -EINVAL },
		{ "lz4:1M2", "bad size", -EINVAL },
		{ "lz4:99999999999999999999", "bad size", -EINVAL },
		{ "zstd:18446744073709551615T", "bad size", -EINVAL },
		{ "zstd:64K", "the cap is below", -EINVAL },
		{ "file", "swap store 'file': no path", -EINVAL },
		{ "file:", "no path", -EINVAL },
		{ "file::1M", "no path", -EINVAL },
		{ "file:/tmp/x:", "bad size", -EINVAL },
		{ "file:/tmp/x:0", "bad size", -EINVAL },
		{ "file:/tmp/x:12Q", "swap store 'file:/tmp/x:12Q': bad size", -EINVAL },
		{ "file:/tmp/x:1000", "below one page", -EINVAL },
		{ "file:/nonexistent/dir/f:1M", "no such file or directory", -ENOENT },
		{ "file:/tmp:1M", "", -EISDIR },
		{ "file:/proc/quire-x:1M", "swap store 'file:/proc/quire-x:1M': ", 0 },
		{ "lz4,lz4,lz4,lz4,lz4,lz4,lz4,lz4,lz4", "more than 8", -EINVAL },
	};
	struct swap_env *e = env_new("lz4", 512);

	swap_destroy(&e->q);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		char msg[160] = "?";
		int err = swap_create(&e->q, bad[i].spec, msg, sizeof(msg));

		if (bad[i].err ? err != bad[i].err : !err)
			fail_msg("%s: %d", bad[i].spec, err);
		if (!strstr(msg, bad[i].says) || strchr(msg, '\n'))
			fail_msg("%s: %s", bad[i].spec, msg);
		assert_null(e->q.swap);
		/* Any buffer, or none, will do. */
		assert_int_equal(swap_create(&e->q, bad[i].spec, NULL, 0), err);
		assert_int_equal(swap_create(&e->q, bad[i].spec, msg, 10), err);
		assert_true(strlen(msg) < 10);
	}
	for (u32 i = 0; i < 4; i++) {
		static const char *const good[] = { "", "lz4:1G,zstd:2T",
						    "file:/tmp/quire-test-a:b",
						    "zstd:1m,file:/tmp/quire-test-t:4096" };

		assert_int_equal(swap_create(&e->q, env_spec(good[i]), NULL, 0), 0);
		swap_destroy(&e->q);
	}
	assert_int_equal(swap_create(&e->q, NULL, NULL, 0), 0);
	assert_int_equal(swap_nr_stores(&e->q), 1);
	env_free(e);
}

/* Every allocation of creation fails in turn; nothing stays behind. */
static void creation_fails_cleanly(void **state)
{
	static const enum inject_point points[] = { INJECT_ARENA, INJECT_MACHINE_CALL };
	struct swap_env *e = env_new("lz4", 512);
	u32 failures = 0;

	swap_destroy(&e->q);
	for (u32 p = 0; p < 2; p++) {
		for (u32 n = 1; n < 100; n++) {
			char msg[160];
			u64 hits = inject_hits(&e->inject, points[p]);
			u64 used = arena_used(e->q.arena);
			int err;

			inject_at(&e->inject, points[p], n);
			err = swap_create(&e->q,
					  env_spec("lz4:1M,zstd,file:/tmp/quire-test-swap:1M"), msg,
					  sizeof(msg));
			inject_off(&e->inject, points[p]);
			if (!err) {
				swap_destroy(&e->q);
				if (inject_hits(&e->inject, points[p]) == hits)
					break;
				continue;
			}
			failures++;
			assert_true(strlen(msg) > 20);
			assert_null(e->q.swap);
			/* what an object cache keeps is reused */
			assert_true(arena_used(e->q.arena) <= used + 4096);
		}
	}
	assert_true(failures >= 8);
	assert_int_equal(swap_create(&e->q, "lz4", NULL, 0), 0);
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_come_back),
		cmocka_unit_test(full_stores_lose_nothing),
		cmocka_unit_test(new_copy_replaces_old),
		cmocka_unit_test(corruption_is_reported),
		cmocka_unit_test(damaged_pool_never_gives_wrong_bytes),
		cmocka_unit_test(file_transfers_are_joined),
		cmocka_unit_test(failing_io_is_contained),
		cmocka_unit_test(file_is_punched),
		cmocka_unit_test(pool_shrinks),
		cmocka_unit_test(no_memory_for_the_pool),
		cmocka_unit_test(bad_specs_are_named),
		cmocka_unit_test(creation_fails_cleanly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
