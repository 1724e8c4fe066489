/*
 * half.c - access to an area of which half may be resident: our lz4 store beside zram with lz4.
 *
 * One measurement: fill the area, then timed spans of random reads, random writes and whole
 * sequential passes, then, untimed, every page is compared with what it must hold and every write
 * is found in a counter. The first part of each timed span is a warm-up that does not count. Each
 * access checks the word that it read. Both sides run the same steps over the same contents; the
 * bound is on what is resident, without the compressed pool, which no side's bound includes.
 */
#include "bench_internal.h"

#include <quire/quire.h>

#include <string.h>

#define MAX_THREADS 8

enum { STEP_FILL, STEP_READ, STEP_WRITE, STEP_SEQUENTIAL, STEP_VERIFY };
enum { ROW_READ, ROW_WRITE, ROW_SEQUENTIAL, ROW_FILL, ROW_STORED };

struct half {
	struct bench_memory m;
	u64 *base;
	u64 pages;
	bool half_data;
	int step;
	double warm_s, span_s;
	struct {
		u64 rng, writes, counted, wrong, wrong_page;
		double rate; /* accesses per second */
	} cacheline_aligned thread[MAX_THREADS];
};

static u64 next(u64 *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return *rng;
}

static void found_wrong(struct half *h, unsigned i, u64 page)
{
	if (!h->thread[i].wrong++)
		h->thread[i].wrong_page = page;
}

static void access_once(struct half *h, unsigned i, u64 random, bool write)
{
	/* 32 bits times the number of pages: even, and without a division. */
	u64 page = ((random >> 32) * h->pages) >> 32;
	unsigned word = random % PATTERN_WORDS;
	u64 *p = h->base + page * PATTERN_WORDS;

	if (write) {
		__atomic_fetch_add(&p[PATTERN_COUNTER], 1, __ATOMIC_RELAXED);
		h->thread[i].writes++;
	} else if (word != PATTERN_COUNTER &&
		   *(volatile u64 *)&p[word] != pattern_word(h->half_data, page, word)) {
		found_wrong(h, i, page);
	}
}

static void random_accesses(struct half *h, unsigned i, bool write)
{
	u64 *rng = &h->thread[i].rng;
	double start = bench_thread_now(), begin = 0, now;
	u64 count = 0;

	for (;;) {
		for (unsigned k = 0; k < 64; k++)
			access_once(h, i, next(rng), write);
		now = bench_thread_now();
		if (begin)
			count += 64;
		else if (now - start >= h->warm_s)
			begin = now;
		if (begin && now - begin >= h->span_s)
			break;
	}
	h->thread[i].rate = (double)count / (now - begin);
}

static void sequential_pass(struct half *h, unsigned i, u64 first, u64 end)
{
	for (u64 page = first; page < end; page++)
		if (*(volatile u64 *)&h->base[page * PATTERN_WORDS] !=
		    pattern_word(h->half_data, page, 0))
			found_wrong(h, i, page);
}

static void half_part(void *arg, unsigned i, unsigned n)
{
	struct half *h = arg;
	u64 first = h->pages * i / n, end = h->pages * (i + 1) / n;

	switch (h->step) {
	case STEP_FILL:
		for (u64 page = first; page < end; page++)
			pattern_fill(h->half_data, page, h->base + page * PATTERN_WORDS);
		break;
	case STEP_READ:
	case STEP_WRITE:
		random_accesses(h, i, h->step == STEP_WRITE);
		break;
	case STEP_SEQUENTIAL:
		sequential_pass(h, i, first, end);
		break;
	case STEP_VERIFY:
		for (u64 page = first; page < end; page++) {
			const u64 *p = h->base + page * PATTERN_WORDS;

			h->thread[i].counted += p[PATTERN_COUNTER];
			if (!pattern_matches(h->half_data, page, p))
				found_wrong(h, i, page);
		}
		break;
	}
}

static double run_step(struct half *h, unsigned threads, int step)
{
	h->step = step;
	return bench_threads(threads, half_part, h);
}

/* Threads that start at one moment and measure spans of one length: their rates add up. */
static double run_random(struct half *h, unsigned threads, int step)
{
	double rate = 0;

	run_step(h, threads, step);
	for (unsigned i = 0; i < threads; i++)
		rate += h->thread[i].rate;
	return rate / 1000;
}

static double stored_page_bytes(const struct bench *b, struct half *h, enum bench_side side)
{
	struct quire_stats s = { .size = sizeof(s) };

	if (side == SIDE_PEER)
		return bench_zram_page_bytes(b);
	if (quire_stats_get(h->m.q, &s) || !s.swap_used_pages)
		return NAN;
	return (double)s.swap_pool_bytes / (double)s.swap_used_pages;
}

static void verify(struct half *h, unsigned threads, struct bench_result *r)
{
	u64 writes = 0, counted = 0;

	run_step(h, threads, STEP_VERIFY);
	for (unsigned i = 0; i < threads; i++) {
		writes += h->thread[i].writes;
		counted += h->thread[i].counted;
		if (h->thread[i].wrong)
			bench_fail(r, "wrong contents %llu times, first in page %llu",
				   (unsigned long long)h->thread[i].wrong,
				   (unsigned long long)h->thread[i].wrong_page);
	}
	if (writes != counted)
		bench_fail(r, "%llu writes, of which %llu are there", (unsigned long long)writes,
			   (unsigned long long)counted);
}

/* Was the bound kept? The peer's is the kernel's own business. */
static void check_bound(struct half *h, u64 ram, struct bench_result *r)
{
	struct quire_stats s = { .size = sizeof(s) };

	if (!h->m.q || quire_stats_get(h->m.q, &s))
		return;
	if (s.resident_peak_bytes > ram + s.over_limit_pages * PAGE_SIZE)
		bench_fail(r, "%llu MiB were resident, %llu allowed",
			   (unsigned long long)s.resident_peak_bytes >> 20,
			   (unsigned long long)ram >> 20);
	if (!s.swap_out_pages)
		bench_fail(r, "nothing was ever paged out");
}

static void measure_half(const struct bench *b, const struct bench_group *g, enum bench_side side,
			 struct bench_result *r)
{
	struct half h = {
		.pages = b->bytes / PAGE_SIZE,
		.half_data = b->half_data,
		.warm_s = b->quick ? 0.05 : 0.3,
		.span_s = b->quick ? 0.2 : 2,
	};
	double passes = b->quick ? 1 : 2;

	if (side == SIDE_PEER && !bench_zram_enter(b, r))
		return;
	if (!bench_memory_open(&h.m, side != SIDE_PEER, b->bytes / 2, side == SIDE_ALSO, r))
		return;
	h.base = bench_memory_map(&h.m, b->bytes, r);
	if (!h.base)
		return;
	for (unsigned i = 0; i < g->threads; i++)
		h.thread[i].rng = 0x2545f4914f6cdd1dull * (i + 1);
	r->value[ROW_FILL] = run_step(&h, g->threads, STEP_FILL) * 1e6 / (double)h.pages;
	r->value[ROW_READ] = run_random(&h, g->threads, STEP_READ);
	r->value[ROW_WRITE] = run_random(&h, g->threads, STEP_WRITE);
	/* After random accesses what is resident is strewn about: one pass to settle. */
	run_step(&h, g->threads, STEP_SEQUENTIAL);
	r->value[ROW_SEQUENTIAL] = 0;
	for (unsigned i = 0; i < passes; i++)
		r->value[ROW_SEQUENTIAL] += run_step(&h, g->threads, STEP_SEQUENTIAL);
	r->value[ROW_SEQUENTIAL] = (double)h.pages * passes / r->value[ROW_SEQUENTIAL] / 1000;
	r->value[ROW_STORED] = stored_page_bytes(b, &h, side);
	verify(&h, g->threads, r);
	check_bound(&h, b->bytes / 2, r);
	bench_memory_close(&h.m, r);
}

static bool prepare_half(struct bench *b, enum bench_side side, char *why)
{
	return side != SIDE_PEER || bench_zram_begin(b, b->bytes / 2, why);
}

const struct bench_group bench_group_half = {
	.name = "half",
	.side = { "quire", "zram", "quire, with its background thread" },
	.threads = 1,
	.rounds = 3,
	.limit_s = 240,
	.memory_x8 = 12,
	.row = {
		{ "random-read", "reads at random in 1 GiB of which 512 MiB may be resident, lz4",
		  "k/s", true, 1.5 },
		{ "random-write", "writes, likewise", "k/s", true, 1.5 },
		{ "sequential", "pages read in order, likewise", "k/s", true, 3 },
		{ "fill", "the first write of their contents, likewise", "us/page", false,
		  0 },
		{ "stored", "RAM used for each page that is paged out", "bytes/page", false, 0 },
	},
	.prepare = prepare_half,
	.measure = measure_half,
};

const struct bench_group bench_group_half_2 = {
	.name = "half-2",
	.side = { "quire", "zram", "quire, with its background thread" },
	.threads = 2,
	.rounds = 3,
	.limit_s = 240,
	.memory_x8 = 12,
	.row = {
		{ "random-read-2", "random reads under half memory, two threads", "k/s", true, 2 },
		{ "random-write-2", "random writes, two threads", "k/s", true, 2 },
		{ "sequential-2", "sequential reads, two threads, a half each", "k/s", true, 3 },
		{ "fill-2", "filling, two threads", "us/page", false, 0 },
		{ "stored-2", "RAM used for each page that is paged out", "bytes/page", false, 0 },
	},
	.prepare = prepare_half,
	.measure = measure_half,
};
