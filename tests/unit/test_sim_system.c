/* The simulated machine's memory, files, threads and clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/inject.h"
#include "machine/sim/sim.h"

struct world {
	struct machine *m;
	struct inject inject;
	char dir[64];
	char path[80];
};

static void world_open(struct world *w)
{
	struct sim_config cfg = sim_defaults(false, true);

	inject_init(&w->inject);
	cfg.inject = &w->inject;
	assert_int_equal(sim_create(&cfg, &w->m), 0);
	strcpy(w->dir, "/tmp/quire-sim-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/store", w->dir);
}

static void world_close(struct world *w)
{
	struct sim_stats st;

	sim_stats_get(w->m, &st);
	assert_int_equal(st.files | st.threads | st.mem_bytes, 0);
	w->m->ops->destroy(w->m);
	unlink(w->path);
	assert_int_equal(rmdir(w->dir), 0);
}

static void test_memory(void **state)
{
	struct sim_stats st;
	struct world w;
	u8 *p;

	world_open(&w);
	p = w.m->ops->mem_map(w.m, 4 * PAGE_SIZE);
	assert_non_null(p);
	assert_int_equal(p[5], 0);
	memset(p, 1, 4 * PAGE_SIZE);
	w.m->ops->mem_discard(w.m, p + PAGE_SIZE, PAGE_SIZE);
	assert_int_equal(p[PAGE_SIZE], 0);
	assert_int_equal(p[0], 1);
	sim_stats_get(w.m, &st);
	assert_int_equal(st.mem_bytes, 4 * PAGE_SIZE);
	w.m->ops->mem_unmap(w.m, p, 4 * PAGE_SIZE);
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_null(w.m->ops->mem_map(w.m, PAGE_SIZE));
	world_close(&w);
}

static void test_new_file_leaves_no_name(void **state)
{
	struct world w;
	u64 size = 64 * PAGE_SIZE;
	u8 out[2 * 4096], in[2 * 4096];
	int h;

	world_open(&w);
	h = w.m->ops->file_open(w.m, w.path, &size);
	assert_true(h >= 0);
	assert_int_equal(size, 64 * PAGE_SIZE);
	assert_int_not_equal(access(w.path, F_OK), 0);
	memset(out, 0xab, sizeof(out));
	assert_int_equal(w.m->ops->file_write(w.m, h, out, sizeof(out), 7 * PAGE_SIZE), 0);
	assert_int_equal(w.m->ops->file_read(w.m, h, in, sizeof(in), 7 * PAGE_SIZE), 0);
	assert_memory_equal(in, out, sizeof(in));
	w.m->ops->file_punch(w.m, h, PAGE_SIZE, 7 * PAGE_SIZE);
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(w.m->ops->file_write(w.m, h, out, sizeof(out), 0), -EIO);
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(w.m->ops->file_read(w.m, h, in, sizeof(in), 0), -EIO);
	assert_int_equal(w.m->ops->file_read(w.m, h, in, PAGE_SIZE, 1ull << 40), -EIO);
	w.m->ops->file_close(w.m, h);
	world_close(&w);
}

static void test_old_file_keeps_its_name_and_size(void **state)
{
	struct world w;
	u64 size = 0;
	int fd, h;

	world_open(&w);
	fd = open(w.path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	assert_int_equal(w.m->ops->file_open(w.m, w.path, &size), -EINVAL); /* empty */
	assert_int_equal(ftruncate(fd, 5 * PAGE_SIZE + 100), 0);
	close(fd);
	h = w.m->ops->file_open(w.m, w.path, &size);
	assert_true(h >= 0);
	assert_int_equal(size, 5 * PAGE_SIZE);
	w.m->ops->file_close(w.m, h);
	assert_int_equal(access(w.path, F_OK), 0);
	size = 0;
	assert_int_equal(w.m->ops->file_open(w.m, w.dir, &size), -EISDIR);
	assert_int_equal(w.m->ops->file_open(w.m, "/nonexistent/x", &size), -ENOENT);
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_true(w.m->ops->file_open(w.m, w.path, &size) < 0);
	world_close(&w);
}

static void body(void *arg)
{
	a64_add(arg, 1);
}

static void test_threads_and_time(void **state)
{
	struct world w;
	a64_t ran = A_INIT(0);
	void *handle[4];
	u64 before;

	world_open(&w);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(w.m->ops->thread_start(w.m, body, &ran, &handle[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		w.m->ops->thread_join(w.m, handle[i]);
	assert_int_equal(a64_read(&ran), 4);
	inject_at(&w.inject, INJECT_MACHINE_CALL, 1);
	assert_true(w.m->ops->thread_start(w.m, body, &ran, &handle[0]) < 0);
	before = w.m->ops->now_ns(w.m);
	w.m->ops->sleep_ns(w.m, 2000000);
	assert_true(w.m->ops->now_ns(w.m) - before >= 2000000);
	assert_int_not_equal(w.m->ops->random(w.m), w.m->ops->random(w.m));
	assert_int_equal(w.m->ops->nr_cpus(w.m), 4);
	w.m->ops->sync_lockless_walkers(w.m);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_new_file_leaves_no_name),
		cmocka_unit_test(test_old_file_keeps_its_name_and_size),
		cmocka_unit_test(test_threads_and_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
