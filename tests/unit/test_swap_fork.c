/*
 * Forks with file stores: parent and child share files and nothing else, each goes on by itself,
 * and neither may ever see the other's bytes.
 */
#include "swap_env.h"

#include <sys/wait.h>

#define FRAMES 1024
#define N      400u

/* In a child nothing of cmocka may run. */
#define CHECK(c)                                                               \
	do {                                                                   \
		if (!(c)) {                                                    \
			fprintf(stderr, "child: line %d: %s\n", __LINE__, #c); \
			_exit(1);                                              \
		}                                                              \
	} while (0)

/* Without cmocka: read one slot and compare. */
static bool holds(struct swap_env *e, u64 slot, u64 id, u64 v)
{
	struct folio *f = phys_alloc(&e->q, 0, 0);
	void *buf;
	u32 shadow;
	int err;
	bool ok;

	if (!f)
		return false;
	env_lock(f);
	if (swap_cache_insert(&e->q, slot, f, &shadow))
		return false;
	buf = env_bytes(e, f);
	ok = swap_read(&e->q, &slot, 1, &buf, &err) == 1 && page_is(buf, id, v, 1);
	swap_cache_abort(&e->q, f);
	env_unlock_put(e, f);
	return ok;
}

/* 0: refused. */
static u64 put_out(struct swap_env *e, u64 id, u64 v)
{
	struct folio *f = env_folio(e, 0, id, v, 1);
	u64 slot;
	int err;

	if (!f || swap_add_folio(&e->q, f))
		return 0;
	slot = f->swap;
	swap_dup(&e->q, slot, 1);
	if (swap_writeout(&e->q, &f, 1, &err) == 1) {
		env_evict(e, f, 1);
		return slot;
	}
	swap_put(&e->q, slot, 1);
	swap_try_free_folio(&e->q, f);
	env_unlock_put(e, f);
	return 0;
}

static pid_t forked(struct swap_env *e)
{
	pid_t pid;

	swap_fork_prepare(&e->q);
	native_rcu_before_fork();
	pid = fork();
	assert_true(pid >= 0);
	if (pid) {
		native_rcu_after_fork_parent();
		return pid;
	}
	native_rcu_after_fork_child();
	swap_forked_child(&e->q);
	return 0;
}

static void reap(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Change half, check all; `tag` keeps the two sides' bytes apart. */
static bool live_on(struct swap_env *e, u64 *slot, u64 *v, u64 tag, u32 rounds)
{
	for (u32 r = 0; r < rounds; r++) {
		for (u32 i = r % 2; i < N; i += 2) {
			swap_put(&e->q, slot[i], 1);
			v[i] = tag + r;
			slot[i] = put_out(e, i, v[i]);
			if (!slot[i])
				return false;
		}
		for (u32 i = 0; i < N; i++)
			if (!holds(e, slot[i], i, v[i]))
				return false;
	}
	return swap_check(&e->q) == 0;
}

static void both_sides_keep_their_bytes(void **state)
{
	static const char *const specs[] = { "file:/tmp/quire-test-fork",
					     "file:/tmp/quire-test-fork:8M",
					     "lz4:256K,file:/tmp/quire-test-fork:2M" };

	for (u32 k = 0; k < ARRAY_SIZE(specs); k++) {
		struct swap_env *e = env_new(specs[k], FRAMES);
		u64 slot[N], v[N];
		int turn[2];
		char go;
		pid_t pid;

		for (u32 i = 0; i < N; i++) {
			v[i] = 1;
			slot[i] = put_out(e, i, 1);
			assert_true(slot[i]);
		}
		assert_int_equal(pipe(turn), 0);
		pid = forked(e);
		if (!pid) {
			pid_t deeper;

			/* Only after the parent has gone several times through its file. */
			CHECK(read(turn[0], &go, 1) == 1);
			for (u32 i = 0; i < N; i++)
				CHECK(holds(e, slot[i], i, 1));
			CHECK(live_on(e, slot, v, 1000, 4));
			swap_fork_prepare(&e->q);
			deeper = fork();
			CHECK(deeper >= 0);
			if (!deeper)
				swap_forked_child(&e->q);
			CHECK(live_on(e, slot, v, deeper ? 2000 : 3000, 4));
			if (deeper) {
				int status;

				CHECK(waitpid(deeper, &status, 0) == deeper && status == 0);
			}
			for (u32 i = 0; i < N; i++)
				swap_put(&e->q, slot[i], 1);
			CHECK(swap_used_slots(&e->q) == 0);
			CHECK(swap_check(&e->q) == 0);
			swap_destroy(&e->q);
			_exit(0);
		}
		assert_true(live_on(e, slot, v, 5000, 6));
		assert_int_equal(write(turn[1], "g", 1), 1);
		assert_true(live_on(e, slot, v, 6000, 6));
		reap(pid);
		close(turn[0]);
		close(turn[1]);
		for (u32 i = 0; i < N; i++)
			swap_put(&e->q, slot[i], 1);
		env_free(e);
	}
}

/* A parent that forks again and again loses room to its children, and gets it back in new files. */
static void many_forks(void **state)
{
	struct swap_env *e = env_new("file:/tmp/quire-test-fork:4M", FRAMES);
	u64 slot[N], v[N];
	struct sim_stats st;

	for (u32 i = 0; i < N; i++) {
		v[i] = 1;
		slot[i] = put_out(e, i, 1);
	}
	for (u32 n = 0; n < 40; n++) {
		pid_t pid = forked(e);

		if (!pid) {
			for (u32 i = 0; i < N; i++)
				CHECK(holds(e, slot[i], i, v[i]));
			_exit(0);
		}
		assert_true(live_on(e, slot, v, 100 * (n + 1), 2));
		reap(pid);
	}
	sim_stats_get(e->q.machine, &st);
	assert_true(st.files <= 4);
	for (u32 i = 0; i < N; i++)
		swap_put(&e->q, slot[i], 1);
	env_free(e);
}

/* A child that cannot have a file of its own reads what it inherited and refuses to write. */
static void child_without_a_file(void **state)
{
	struct swap_env *e = env_new("file:/tmp/quire-test-fork:4M", FRAMES);
	u64 slot[N];
	pid_t pid;

	for (u32 i = 0; i < N; i++)
		slot[i] = put_out(e, i, 1);
	pid = forked(e);
	if (!pid) {
		inject_every(&e->inject, INJECT_MACHINE_CALL, 1);
		CHECK(!put_out(e, 1000, 1));
		CHECK(!put_out(e, 1001, 1));
		inject_off(&e->inject, INJECT_MACHINE_CALL);
		CHECK(swap_is_tight(&e->q));
		for (u32 i = 0; i < N; i++)
			CHECK(holds(e, slot[i], i, 1));
		CHECK(swap_check(&e->q) == 0);
		_exit(0);
	}
	reap(pid);
	for (u32 i = 0; i < N; i++) {
		assert_true(holds(e, slot[i], i, 1));
		swap_put(&e->q, slot[i], 1);
	}
	env_free(e);
}

/* No memory to note what is frozen: then nothing that is freed is used again, and the file is
 * changed sooner. */
static void freezing_without_memory(void **state)
{
	struct swap_env *e = env_new("file:/tmp/quire-test-fork:2M", FRAMES);
	u64 slot[N], v[N];
	int turn[2];
	char go;
	pid_t pid;

	for (u32 i = 0; i < N; i++) {
		v[i] = 1;
		slot[i] = put_out(e, i, 1);
	}
	assert_int_equal(pipe(turn), 0);
	inject_at(&e->inject, INJECT_MACHINE_CALL, 1);
	pid = forked(e);
	if (!pid) {
		CHECK(read(turn[0], &go, 1) == 1);
		for (u32 i = 0; i < N; i++)
			CHECK(holds(e, slot[i], i, 1));
		_exit(0);
	}
	assert_true(live_on(e, slot, v, 5000, 10));
	assert_int_equal(write(turn[1], "g", 1), 1);
	reap(pid);
	close(turn[0]);
	close(turn[1]);
	for (u32 i = 0; i < N; i++)
		swap_put(&e->q, slot[i], 1);
	env_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides_keep_their_bytes),
		cmocka_unit_test(many_forks),
		cmocka_unit_test(child_without_a_file),
		cmocka_unit_test(freezing_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
