/*
 * migrate.c - pages that move between two nodes of the host machine: batches beside single calls,
 * single pages beside the kernel's compaction, 2 MiB at a time beside copying them.
 *
 * Each measurement moves its whole area to the second node and back once before anything is timed:
 * from then on both nodes have memory under them, and what is measured is moving. Contents are
 * compared at the end, the node of each page after each call.
 */
#include "migrate.h"
#include "nodes.h"

#include <string.h>

enum { ROW_RATE, ROW_FLUSHES };

/* Both nodes have had the area. */
static void warm_up(struct node_area *a, struct bench_result *r)
{
	node_area_move(a, 0, a->pages, 1, MOVE_BATCH, r);
	node_area_move(a, 0, a->pages, 0, MOVE_BATCH, r);
}

/* Seconds of `passes` moves of the whole area, to and fro. */
static double time_moves(struct node_area *a, unsigned passes, unsigned batch,
			 struct bench_result *r)
{
	double begin = bench_thread_now();

	for (unsigned pass = 0; pass < passes; pass++)
		node_area_move(a, 0, a->pages, pass % 2 ? 0 : 1, batch, r);
	return bench_thread_now() - begin;
}

/* ---- batches beside single calls ---- */

static void measure_batch_of(const struct bench *b, enum bench_side side, unsigned flags,
			     struct bench_result *r)
{
	const unsigned passes = 2;
	struct node_area a;
	double moved, took;
	u64 flushes;

	flags |= AREA_SINGLE | (side == SIDE_ALSO ? AREA_SHUFFLED : 0);
	if (!node_area_open(&a, ALIGN_DOWN(b->bytes / 16, PMD_SIZE), 0, flags, r))
		return;
	warm_up(&a, r);
	flushes = bench_flush_calls();
	took = time_moves(&a, passes, side == SIDE_PEER ? 1 : MOVE_BATCH, r);
	flushes = bench_flush_calls() - flushes;
	moved = (double)(a.pages * passes);
	r->value[ROW_RATE] = moved / took / 1000;
	r->value[ROW_FLUSHES] = (double)flushes / moved;
	node_area_close(&a, r);
}

static void measure_batch(const struct bench *b, const struct bench_group *g, enum bench_side side,
			  struct bench_result *r)
{
	measure_batch_of(b, side, 0, r);
}

static void measure_batch_shared(const struct bench *b, const struct bench_group *g,
				 enum bench_side side, struct bench_result *r)
{
	measure_batch_of(b, side, AREA_SHAREABLE, r);
}

static bool prepare_private(struct bench *b, enum bench_side side, char *why)
{
	return nodes_possible(AREA_SINGLE, why);
}

static bool prepare_shared(struct bench *b, enum bench_side side, char *why)
{
	return nodes_possible(AREA_SINGLE | AREA_SHAREABLE, why);
}

const struct bench_group bench_group_batch = {
	.name = "batch",
	.side = { "calls for 512 pages", "a call for each page", "512 in no order" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 4,
	.row = {
		{ "migrate-batch", "64 MiB of single pages moved to the other node and back",
		  "k pages/s", true, 2.5 },
		{ "batch-flushes", "calls of the kernel that flush, likewise", "a page", false,
		  0.05 },
	},
	.prepare = prepare_private,
	.measure = measure_batch,
};

const struct bench_group bench_group_batch_shared = {
	.name = "batch-shared",
	.side = { "calls for 512 pages", "a call for each page", "512 in no order" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 4,
	.row = {
		{ "migrate-batch-shared", "the same of a shareable area", "k pages/s", true, 2.5 },
		{ "shared-flushes", "calls of the kernel that flush, likewise", "a page",
		  false, 0.05 },
	},
	.prepare = prepare_shared,
	.measure = measure_batch_shared,
};

/* ---- single pages beside compaction ---- */

static void measure_base(const struct bench *b, const struct bench_group *g, enum bench_side side,
			 struct bench_result *r)
{
	const unsigned passes = 2;
	struct node_area a;

	if (side == SIDE_PEER) {
		r->value[0] = kernel_compaction(b->bytes / 2, r);
		return;
	}
	if (!node_area_open(&a, ALIGN_DOWN(b->bytes / 4, PMD_SIZE), 0,
			    AREA_SINGLE | (side == SIDE_ALSO ? AREA_SHAREABLE : 0), r))
		return;
	warm_up(&a, r);
	r->value[0] = time_moves(&a, passes, MOVE_BATCH, r) * 1e9 / ((double)a.pages * passes);
	node_area_close(&a, r);
}

static bool prepare_base(struct bench *b, enum bench_side side, char *why)
{
	if (side == SIDE_PEER)
		return compaction_possible(b->bytes / 2, why);
	return side == SIDE_OURS ? prepare_private(b, side, why) : prepare_shared(b, side, why);
}

const struct bench_group bench_group_base = {
	.name = "base",
	.side = { "quire", "kernel, compaction", "shareable area" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 6,
	.row = {
		{ "migrate-base", "256 MiB of single pages moved in batches", "ns/page", false, 1 },
	},
	.prepare = prepare_base,
	.measure = measure_base,
};

/* ---- 2 MiB at a time beside copying ---- */

static double copy_pieces(u64 bytes, unsigned passes, struct bench_result *r)
{
	struct bench_memory m = { 0 };
	char *area[2];
	double begin;

	for (unsigned i = 0; i < 2; i++) {
		area[i] = bench_memory_map(&m, bytes, r);
		if (!area[i])
			return NAN;
		memset(area[i], (int)i + 1, bytes);
	}
	begin = bench_thread_now();
	for (unsigned pass = 0; pass < passes; pass++)
		for (u64 at = 0; at < bytes; at += PMD_SIZE) {
			memcpy(area[!(pass % 2)] + at, area[pass % 2] + at, PMD_SIZE);
			__asm__ volatile("" ::: "memory");
		}
	return bench_thread_now() - begin;
}

static void measure_huge(const struct bench *b, const struct bench_group *g, enum bench_side side,
			 struct bench_result *r)
{
	const unsigned passes = 4;
	u64 bytes = ALIGN_DOWN(b->bytes / 4, PMD_SIZE);
	double took;
	struct node_area a;

	if (side == SIDE_PEER) {
		took = copy_pieces(bytes, passes, r);
	} else {
		if (!node_area_open(&a, bytes, 0, side == SIDE_ALSO ? AREA_SHAREABLE : 0, r))
			return;
		warm_up(&a, r);
		took = time_moves(&a, passes, MOVE_BATCH, r);
		node_area_close(&a, r);
	}
	r->value[0] = took * 1e6 / ((double)(bytes / PMD_SIZE) * passes);
}

static bool prepare_huge(struct bench *b, enum bench_side side, char *why)
{
	if (side == SIDE_PEER)
		return true;
	return side == SIDE_OURS ? prepare_private(b, side, why) : prepare_shared(b, side, why);
}

const struct bench_group bench_group_huge = {
	.name = "huge",
	.side = { "quire", "memcpy", "shareable area" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 6,
	.row = {
		{ "migrate-huge", "2 MiB in large folios moved with one call", "us", false, 2 },
	},
	.prepare = prepare_huge,
	.measure = measure_huge,
};
