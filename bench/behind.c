/*
 * behind.c - a program at work on the fast node while memory moves behind it.
 *
 * One thread does a fixed number of read-modify-writes at random in 64 MiB of node 0. Meanwhile
 * another one moves other memory of the same space between the nodes, 2 MiB at a time, to and fro,
 * as a clock gives it leave. The peer does the same work with the same memory there, and nothing
 * moves. What the worker waits for then are the flushes that interrupt its processor, and
 * bandwidth.
 */
#include "nodes.h"

#include <string.h>

#define WORK_PART 16 /* of the area, for the worker: 64 MiB */
#define MOVE_PART 4  /* of the area, that moves */
#define MOVE_RATE (64ull << 20)
#define WORK_OPS  (48ull << 20)

enum { ROW_WORK, ROW_MOVED };

struct behind {
	struct node_area area;
	u64 *work;
	u64 words, ops;
	bool done; /* by __atomic: the worker's */
	double work_s, moved_s;
	u64 moved_bytes;
	struct bench_result *r; /* the mover's until both have ended */
};

static void work(struct behind *x)
{
	u64 rng = 0x2545f4914f6cdd1dull;
	double begin = bench_thread_now();

	for (u64 i = 0; i < x->ops; i++) {
		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		x->work[((rng >> 32) * x->words) >> 32]++;
	}
	x->work_s = bench_thread_now() - begin;
	__atomic_store_n(&x->done, true, __ATOMIC_RELEASE);
}

/* At most MOVE_RATE: never ahead of the clock, and what was missed is not made up for. */
static void move(struct behind *x)
{
	double begin = bench_now(), due = begin, now;
	u64 at = 0;
	unsigned node = 1;

	do {
		now = bench_now();
		if (now < due) {
			bench_sleep_ms(1);
			continue;
		}
		due = max(due, now - 0.1) + (double)PMD_SIZE / (double)MOVE_RATE;
		node_area_move(&x->area, at, MOVE_BATCH, node, MOVE_BATCH, x->r);
		x->moved_bytes += PMD_SIZE;
		at += MOVE_BATCH;
		if (at == x->area.pages) {
			at = 0;
			node = !node;
		}
	} while (!__atomic_load_n(&x->done, __ATOMIC_ACQUIRE) && !x->r->error[0]);
	x->moved_s = bench_now() - begin;
}

static void behind_part(void *arg, unsigned i, unsigned n)
{
	struct behind *x = arg;

	if (i == n - 1)
		work(x);
	else
		move(x);
}

static void measure_behind(const struct bench *b, const struct bench_group *g, enum bench_side side,
			   struct bench_result *r)
{
	u64 work_bytes = ALIGN_DOWN(b->bytes / WORK_PART, PMD_SIZE), sum = 0;
	struct behind x = {
		.words = work_bytes / sizeof(u64),
		.ops = b->quick ? WORK_OPS / 16 : WORK_OPS,
		.r = r,
	};

	if (!node_area_open(&x.area, ALIGN_DOWN(b->bytes / MOVE_PART, PMD_SIZE), work_bytes, 0, r))
		return;
	x.work = bench_memory_map(&x.area.m, work_bytes, r);
	if (!x.work)
		return;
	memset(x.work, 0, work_bytes);
	bench_threads(side == SIDE_OURS ? 2 : 1, behind_part, &x);
	for (u64 i = 0; i < x.words; i++)
		sum += x.work[i];
	if (sum != x.ops)
		bench_fail(r, "%llu of %llu writes are there", (unsigned long long)sum,
			   (unsigned long long)x.ops);
	if (node_of(&x.area.m, x.work) != 0)
		bench_fail(r, "the worker's memory is not on the first node");
	r->value[ROW_WORK] = x.work_s * 1e9 / (double)x.ops;
	if (side == SIDE_OURS)
		r->value[ROW_MOVED] = (double)(x.moved_bytes >> 20) / x.moved_s;
	node_area_close(&x.area, r);
}

static bool prepare_behind(struct bench *b, enum bench_side side, char *why)
{
	return nodes_possible(0, why);
}

const struct bench_group bench_group_behind = {
	.name = "behind",
	.side = { "with moves behind it", "without" },
	.threads = 2,
	.rounds = 7,
	.limit_s = 60,
	.memory_x8 = 6,
	.row = {
		{ "migrate-behind", "random writes to 64 MiB while 64 MiB/s move between nodes",
		  "ns", false, 1.05 },
		{ "behind-rate", "how much moved meanwhile", "MiB/s", true, 0 },
	},
	.prepare = prepare_behind,
	.measure = measure_behind,
};
