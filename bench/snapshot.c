/*
 * snapshot.c - snapshots beside the kernel's fork, and what a writer pays while one is live.
 *
 * Ours is quire_snapshot of an area of shareable memory: a read-only view at another address of the
 * same process. The kernel's way to the same is fork: the peer's side forks, and the child does
 * nothing until it is told to end. Both sides then share every page, and a page that is written is
 * copied first. Nobody reads the view or runs in the child meanwhile. Afterwards every page of the
 * view is compared with what it held.
 */
#include "bench_internal.h"

#include <quire/quire.h>

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROW_SNAPSHOT, ROW_COW, ROW_DROP };
enum { ROW_RANDOM, ROW_SEQUENTIAL };

struct view {
	u64 *base; /* ours */
	pid_t pid; /* the peer's */
	int fd;
};

static void view_begin(struct bench_memory *m, const void *area, u64 bytes, struct view *v,
		       struct bench_result *r)
{
	int fds[2], err = 0;
	char byte;

	*v = (struct view){ 0 };
	if (m->q) {
		err = quire_snapshot(m->space, area, bytes, 0, (void **)&v->base);
		if (err)
			bench_fail(r, "quire_snapshot: %s", strerror(-err));
		return;
	}
	if (pipe(fds)) {
		bench_fail(r, "pipe: %s", strerror(errno));
		return;
	}
	v->pid = fork();
	if (!v->pid) {
		close(fds[1]);
		_exit(read(fds[0], &byte, 1) != 0);
	}
	if (v->pid < 0)
		bench_fail(r, "fork: %s", strerror(errno));
	close(fds[0]);
	v->fd = fds[1];
}

static void view_end(struct bench_memory *m, u64 bytes, struct view *v, struct bench_result *r)
{
	int status = 0, err = 0;

	if (r->error[0])
		return;
	if (m->q) {
		err = bench_memory_unmap(m, v->base, bytes);
	} else {
		close(v->fd);
		if (waitpid(v->pid, &status, 0) != v->pid || status)
			err = -ECHILD;
	}
	if (err)
		bench_fail(r, "the end of the snapshot: %s", strerror(-err));
}

/* One word of each page, in order. */
static void write_words(u64 *base, u64 pages, u64 value)
{
	for (u64 page = 0; page < pages; page++)
		*(volatile u64 *)&base[page * PATTERN_WORDS] = value + page;
}

static void check_words(const u64 *base, u64 pages, u64 value, const char *what,
			struct bench_result *r)
{
	for (u64 page = 0; page < pages; page++)
		if (*(const volatile u64 *)&base[page * PATTERN_WORDS] != value + page) {
			bench_fail(r, "%s: page %llu is wrong", what, (unsigned long long)page);
			return;
		}
}

static void measure_snapshot(const struct bench *b, const struct bench_group *g,
			     enum bench_side side, struct bench_result *r)
{
	u64 pages = b->bytes / PAGE_SIZE;
	struct bench_memory m;
	struct view v;
	double begin;
	u64 *base;

	if (!bench_memory_open(&m, side == SIDE_OURS, 0, false, r))
		return;
	m.shareable = true;
	base = bench_memory_map(&m, b->bytes, r);
	if (!base)
		return;
	write_words(base, pages, 1000);
	begin = bench_thread_now();
	view_begin(&m, base, b->bytes, &v, r);
	r->value[ROW_SNAPSHOT] = (bench_thread_now() - begin) * 1e3;
	if (r->error[0])
		return;
	begin = bench_thread_now();
	write_words(base, pages, 2000);
	r->value[ROW_COW] = (bench_thread_now() - begin) * 1e9 / (double)pages;
	check_words(base, pages, 2000, "what was written", r);
	if (v.base)
		check_words(v.base, pages, 1000, "the snapshot", r);
	begin = bench_now(); /* also with --cpu: the peer's child does it */
	view_end(&m, b->bytes, &v, r);
	r->value[ROW_DROP] = (bench_now() - begin) * 1e3;
	bench_memory_close(&m, r);
}

/* ---- a writer while a snapshot is live ---- */

/* Writes whole pages until `end`; how many. Page n holds its own number and the count of writes. */
static u64 write_pages(u64 *base, u64 pages, bool sequential, u64 *rng, double end)
{
	u64 page = 0, count = 0;

	do {
		for (unsigned k = 0; k < 16; k++, count++) {
			u64 *p;

			*rng ^= *rng << 13;
			*rng ^= *rng >> 7;
			*rng ^= *rng << 17;
			/* 32 bits times the number of pages: even, and without a division. */
			page = sequential ? (page + 1) % pages : ((*rng >> 32) * pages) >> 32;
			p = base + page * PATTERN_WORDS;
			for (unsigned i = 0; i < PATTERN_WORDS; i++)
				p[i] = page + count;
			__asm__ volatile("" ::: "memory");
		}
	} while (bench_thread_now() < end);
	return count;
}

/* Percent of its rate that the writer keeps. */
static double live_rate(const struct bench *b, struct bench_memory *m, u64 *base, bool sequential,
			struct bench_result *r)
{
	u64 pages = b->bytes / PAGE_SIZE, rng = 0x2545f4914f6cdd1dull, alone, live;
	double span_s = b->quick ? 0.2 : 2, begin;
	struct view v;

	write_words(base, pages, 1000);
	write_pages(base, pages, sequential, &rng, bench_thread_now() + span_s / 8);
	alone = write_pages(base, pages, sequential, &rng, bench_thread_now() + span_s);
	write_words(base, pages, 1000);
	begin = bench_thread_now();
	view_begin(m, base, b->bytes, &v, r);
	if (r->error[0])
		return NAN;
	live = write_pages(base, pages, sequential, &rng, begin + span_s);
	if (v.base)
		check_words(v.base, pages, 1000, "the snapshot", r);
	view_end(m, b->bytes, &v, r);
	return 100 * (double)live / (double)alone;
}

static void measure_live(const struct bench *b, const struct bench_group *g, enum bench_side side,
			 struct bench_result *r)
{
	struct bench_memory m;
	u64 *base;

	if (!bench_memory_open(&m, side == SIDE_OURS, 0, false, r))
		return;
	m.shareable = true;
	base = bench_memory_map(&m, b->bytes, r);
	if (!base)
		return;
	r->value[ROW_RANDOM] = live_rate(b, &m, base, false, r);
	if (!r->error[0])
		r->value[ROW_SEQUENTIAL] = live_rate(b, &m, base, true, r);
	bench_memory_close(&m, r);
}

/* ---- are there shareable areas here? ---- */

static void try_shareable(void *ctx, struct bench_result *r)
{
	struct bench_memory m = { 0 };

	if (!bench_memory_open(&m, true, 0, false, r))
		return;
	m.shareable = true;
	if (bench_memory_map(&m, PAGE_SIZE, r))
		bench_memory_close(&m, r);
}

static bool prepare_snapshot(struct bench *b, enum bench_side side, char *why)
{
	struct bench_result *r;

	if (side != SIDE_OURS)
		return true;
	r = bench_shared(sizeof(*r));
	if (!r)
		return false;
	bench_child(20, try_shareable, b, r);
	snprintf(why, BENCH_TEXT, "%s", r->error);
	return !why[0];
}

const struct bench_group bench_group_snapshot = {
	.name = "snapshot",
	.side = { "quire", "kernel, fork" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 18,
	.row = {
		{ "snapshot", "a snapshot of 1 GiB resident", "ms", false, 50, true },
		{ "snapshot-write", "the first write to each of its pages after that: a copy each",
		  "ns/page", false, 2 },
		{ "snapshot-drop", "the end of the snapshot, when every page was copied", "ms",
		  false, 0 },
	},
	.prepare = prepare_snapshot,
	.measure = measure_snapshot,
};

const struct bench_group bench_group_live = {
	.name = "live",
	.side = { "quire", "kernel, fork" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 18,
	.row = {
		{ "live-random", "of its rate a writer keeps, 2 s from a snapshot on: random pages",
		  "%", true, 50, true },
		{ "live-sequential", "likewise, pages in order", "%", true, 50, true },
	},
	.prepare = prepare_snapshot,
	.measure = measure_live,
};
