/*
 * tier.c - a fast and a slow node: what placement by use gives beside placement by chance.
 *
 * A working set of 256 MiB, the fast node has half as much. A tenth of the pages, strewn over all
 * of it, gets nine of ten operations; one adds to 64 neighbouring words of its page, as a record of
 * a table is changed. `skewed`: the tenth stays the same. `shifting`: it is another one after every
 * four operations for each page there is. Ours is the default policy with demotion and promotion;
 * the peer places pages on both nodes by chance, and nothing moves them. With all memory on the
 * fast node it is measured as well. Spans begin with a part that does not count.
 *
 * Where both nodes are memory of one kind an access costs the same on both: then the rates show
 * what noticing use and moving cost, and the share of operations that found their page on the fast
 * node shows what it buys. That share is of every 256th operation, looked up before it.
 */
#include "nodes.h"

#include <quire/quire.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HOT_EVERY   10u  /* one page of so many */
#define LOOK_EVERY  256u /* operations */
#define CLOCK_EVERY 64u
#define SHIFT_EVERY 4u  /* operations for each page */
#define RECORD      64u /* words */

enum { ROW_SKEWED, ROW_SKEWED_FAST, ROW_SHIFTING, ROW_SHIFTING_FAST };

struct tier {
	struct bench_memory m;
	u64 *base;
	u64 pages, ops;
	u32 *hot;
	u64 nr_hot, rng;
	u64 shift; /* after so many operations; 0: never */
	unsigned phase;
	u64 looked, fast;
};

static u64 next(u64 *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return *rng;
}

/* One of every ten neighbours, another one in each phase. */
static void choose_hot(struct tier *t, unsigned phase)
{
	u64 rng = 0x9e3779b97f4a7c15ull;

	for (u64 i = 0; i < t->nr_hot; i++)
		t->hot[i] = (u32)(i * HOT_EVERY + (next(&rng) + phase * 3ull) % HOT_EVERY);
}

static void operation(struct tier *t, bool look)
{
	u64 random = next(&t->rng);
	u64 page = ((random >> 32) * t->pages) >> 32;
	u64 *record;

	if ((random & 0xffff) < 0xffff / 10 * 9)
		page = t->hot[((random >> 32) * t->nr_hot) >> 32];
	record =
		t->base + page * PATTERN_WORDS + (random >> 16) % (PATTERN_WORDS / RECORD) * RECORD;
	if (look) {
		t->looked++;
		t->fast += node_of(&t->m, record) == 0;
	}
	for (unsigned i = 0; i < RECORD; i++)
		record[i]++;
	__asm__ volatile("" ::: "memory");
}

/* For so many seconds; operations a second. */
static double span(struct tier *t, double seconds)
{
	double start = bench_thread_now(), now;
	u64 before = t->ops;

	t->looked = t->fast = 0;
	do {
		for (unsigned i = 0; i < CLOCK_EVERY; i++, t->ops++) {
			if (t->shift && t->ops % t->shift == 0)
				choose_hot(t, t->phase++);
			operation(t, t->ops % LOOK_EVERY == 0);
		}
		now = bench_thread_now();
	} while (now - start < seconds);
	return (double)(t->ops - before) / (now - start);
}

/* All in a new instance, touched in order. */
static bool begin(const struct bench *b, enum bench_side side, struct tier *t,
		  struct bench_result *r)
{
	u64 bytes = ALIGN_DOWN(b->bytes / 4, PMD_SIZE);
	u64 fast = side == SIDE_ALSO ? 2 * bytes : bytes / 2;
	int err = 0;

	*t = (struct tier){
		.pages = bytes / PAGE_SIZE,
		.nr_hot = bytes / PAGE_SIZE / HOT_EVERY,
		.rng = 0x2545f4914f6cdd1dull,
	};
	t->hot = calloc(t->nr_hot, sizeof(*t->hot));
	if (!t->hot) {
		bench_fail(r, "no memory");
		return false;
	}
	/* The slow node is larger than the rest, so that chance does not overfill the fast one. */
	if (!bench_memory_open_nodes(&t->m, fast, bytes / 2 + bytes / 8, true, r))
		return false;
	t->base = bench_memory_map(&t->m, bytes, r);
	if (!t->base)
		return false;
	err = quire_advise(t->m.space, t->base, bytes, MADV_RANDOM);
	if (!err && side == SIDE_PEER) {
		quire_set_promotion(t->m.q, 0);
		err = quire_set_policy(t->m.space, t->base, bytes, QUIRE_POLICY_WEIGHTED, 3);
	}
	if (err)
		bench_fail(r, "placement: %s", strerror(-err));
	for (u64 page = 0; page < t->pages; page++)
		t->base[page * PATTERN_WORDS] = 0;
	return !r->error[0];
}

static void end(struct tier *t, struct bench_result *r)
{
	u64 sum = 0;

	for (u64 i = 0; i < t->pages * PATTERN_WORDS; i++)
		sum += t->base[i];
	if (sum != t->ops * RECORD)
		bench_fail(r, "%llu of %llu writes are there", (unsigned long long)sum,
			   (unsigned long long)t->ops * RECORD);
	bench_memory_close(&t->m, r);
	free(t->hot);
}

static void run(const struct bench *b, enum bench_side side, bool shifting, double *rate,
		double *fast, struct bench_result *r)
{
	struct tier t;

	if (!begin(b, side, &t, r))
		return;
	t.shift = shifting ? t.pages * SHIFT_EVERY : 0;
	choose_hot(&t, t.phase++);
	span(&t, b->quick ? 0.1 : 1);
	*rate = span(&t, b->quick ? 0.2 : 2) / 1000;
	*fast = 100 * (double)t.fast / (double)t.looked;
	end(&t, r);
}

static void measure_tier(const struct bench *b, const struct bench_group *g, enum bench_side side,
			 struct bench_result *r)
{
	double *v = r->value;

	run(b, side, false, &v[ROW_SKEWED], &v[ROW_SKEWED_FAST], r);
	if (!r->error[0])
		run(b, side, true, &v[ROW_SHIFTING], &v[ROW_SHIFTING_FAST], r);
}

static bool prepare_tier(struct bench *b, enum bench_side side, char *why)
{
	return nodes_possible(AREA_SINGLE, why);
}

const struct bench_group bench_group_tier = {
	.name = "tier",
	.side = { "placed by use", "placed by chance", "all of it fast" },
	.threads = 1,
	.rounds = 3,
	.limit_s = 60,
	.memory_x8 = 4,
	.row = {
		{ "tier-skewed", "operations, nine of ten on a tenth of 256 MiB; 128 MiB are fast",
		  "k/s", true, 0 },
		{ "tier-skewed-fast", "of them, those that found their page on the fast node", "%",
		  true, 0 },
		{ "tier-shifting", "another tenth after each 262,144 of them", "k/s", true,
		  0 },
		{ "tier-shifting-fast", "of them, those that found it on the fast node", "%", true,
		  0 },
	},
	.prepare = prepare_tier,
	.measure = measure_tier,
};
