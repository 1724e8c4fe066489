/*
 * core_migrate.c - moving single pages between two nodes of the simulated machine: the core's own
 * work for each page, and its flushes, counted.
 *
 * Pages are plain frames, moved with space_move_to_node in batches of 512 and one by one. The copy
 * of 4 KiB is in both figures. There, and back; the figures are of the second time.
 */
#include "core.h"
#include "bench_internal.h"

#include "base/gate.h"
#include "machine/sim/sim.h"

#include <string.h>

enum { ROW_TIME, ROW_FLUSHES };

#define BATCH 512u

static int move_all(struct core_bench *c, unsigned node, unsigned batch)
{
	static int status[BATCH];
	static u64 va[BATCH];
	int err = 0;

	for (u64 at = 0; at < c->bytes && !err; at += (u64)batch * PAGE_SIZE) {
		u64 n = min((u64)batch, (c->bytes - at) / PAGE_SIZE);

		for (u64 i = 0; i < n; i++)
			va[i] = c->va + at + i * PAGE_SIZE;
		gate_enter(&c->q->gate);
		err = space_move_to_node(c->q, c->s, va, n, node, status);
		gate_exit(&c->q->gate);
		for (u64 i = 0; i < n && !err; i++)
			err = status[i] == (int)node ? 0 : status[i] < 0 ? status[i] : -EBUSY;
	}
	return err;
}

static void measure_core_migrate(const struct bench *b, const struct bench_group *g,
				 enum bench_side side, struct bench_result *r)
{
	struct core_bench c = { .bytes = ALIGN_DOWN(b->bytes / 8, PMD_SIZE), .nodes = 2 };
	unsigned batch = side == SIDE_OURS ? BATCH : 1;
	double moved = 2 * (double)(c.bytes / PAGE_SIZE);
	int err = core_begin(&c);

	if (!err)
		err = core_map(&c);
	if (!err) {
		gate_enter(&c.q->gate);
		err = space_advise(c.q, c.s, c.va, c.bytes, ADVISE_RANDOM);
		gate_exit(&c.q->gate);
	}
	if (!err)
		err = core_step(&c, CORE_TOUCH);
	for (unsigned pass = 0; pass < 2 && !err; pass++) {
		u64 flushes = stat_read(c.q, STAT_TLB_FLUSH);
		double begin = bench_thread_now();

		err = move_all(&c, 1, batch);
		if (!err)
			err = move_all(&c, 0, batch);
		r->value[ROW_TIME] = (bench_thread_now() - begin) * 1e9 / moved;
		r->value[ROW_FLUSHES] = (double)(stat_read(c.q, STAT_TLB_FLUSH) - flushes) / moved;
	}
	if (err) {
		bench_fail(r, "moves of the core on sim: %s", strerror(-err));
		return;
	}
	if (sim_violations(c.m))
		bench_fail(r, "the simulated machine counted violations");
	core_end(&c, r);
}

const struct bench_group bench_group_core_migrate = {
	.name = "core-migrate",
	.side = { "core on sim, 512 a call", "a call for each page" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 4,
	.row = {
		{ "core-migrate", "single pages to the other node on the simulated machine",
		  "ns/page", false, 0.4 },
		{ "core-flushes", "flushes, likewise", "a page", false, 0.05 },
	},
	.measure = measure_core_migrate,
};
