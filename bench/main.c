/*
 * main.c - the command: options, which rows, the rounds in which the sides take turns.
 */
#include "bench.h"
#include "bench_internal.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct bench_group bench_group_whole, bench_group_whole_2, bench_group_half,
	bench_group_half_2, bench_group_calls, bench_group_compute, bench_group_redis,
	bench_group_core, bench_group_metadata, bench_group_fork, bench_group_snapshot,
	bench_group_live, bench_group_batch, bench_group_batch_shared, bench_group_base,
	bench_group_huge, bench_group_behind, bench_group_core_migrate, bench_group_tier;

const struct bench_group *const bench_groups[] = {
	&bench_group_whole,  &bench_group_whole_2,      &bench_group_half,
	&bench_group_half_2, &bench_group_metadata,     &bench_group_core,
	&bench_group_fork,   &bench_group_snapshot,     &bench_group_live,
	&bench_group_batch,  &bench_group_batch_shared, &bench_group_base,
	&bench_group_huge,   &bench_group_behind,       &bench_group_core_migrate,
	&bench_group_tier,   &bench_group_calls,        &bench_group_compute,
	&bench_group_redis,
};

#define GROUPS ARRAY_SIZE(bench_groups)

static const char usage[] =
	"usage: quire bench [--list] [--json] [--quick] [--rounds N] [--data heap|half]"
	" [--ours]\n"
	"                   [--cpu] [NAME...]\n";
static const char help[] =
	"\n"
	"Measures Quire beside the kernel: each side in turn, medians, and the ratio of the two.\n"
	"NAME is a row or a group of rows (--list); without one, all rows are measured.\n"
	"\n"
	"  --list        name the rows and say what each measures\n"
	"  --json        one object instead of the table\n"
	"  --quick       a tenth of the sizes and few rounds: to see that everything works\n"
	"  --rounds N    rounds for each row, 1 to 31\n"
	"  --data KIND   contents of pages: heap (the default) compresses in short pieces,\n"
	"                half is half noise and half repeated\n"
	"  --cpu         where memory is measured, count the processor's time, not the wall's:\n"
	"                for a busy machine; waiting is not seen then\n"
	"  --ours        only Quire's side, as for a profiler\n"
	"\n"
	"The reach that a ratio aims at is shown beside it; it passes or fails nothing.\n";

/* ---- options ---- */

static int bad(const char *what, const char *text)
{
	fprintf(stderr, "quire bench: %s '%s'\n", what, text);
	return 2;
}

static void list(void)
{
	for (size_t k = 0; k < GROUPS; k++) {
		const struct bench_group *g = bench_groups[k];

		printf("%s: %s%s%s\n", g->name, g->side[SIDE_OURS],
		       g->side[SIDE_PEER] ? " beside " : "",
		       g->side[SIDE_PEER] ? g->side[SIDE_PEER] : "");
		for (unsigned i = 0; i < bench_rows(g); i++)
			printf("  %-20s %s (%s)\n", g->row[i].name, g->row[i].what, g->row[i].unit);
	}
}

/* Marks the rows that a name means. */
static bool want(struct bench_outcome *o, const char *name)
{
	bool found = false;

	for (size_t k = 0; k < GROUPS; k++)
		for (unsigned i = 0; i < bench_rows(bench_groups[k]); i++)
			if (!strcmp(name, bench_groups[k]->name) ||
			    !strcmp(name, bench_groups[k]->row[i].name))
				found = o[k].wanted[i] = true;
	return found;
}

/* -1: go on; else the exit status. */
static int parse(struct bench *b, struct bench_outcome *o, int argc, char **argv)
{
	bool any = false, more = true;

	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (!more || arg[0] != '-') {
			if (!want(o, arg))
				return bad("no such row", arg);
			any = true;
		} else if (!strcmp(arg, "--")) {
			more = false;
		} else if (!strcmp(arg, "--list")) {
			list();
			return 0;
		} else if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
			printf("%s%s", usage, help);
			return 0;
		} else if (!strcmp(arg, "--json")) {
			b->json = true;
		} else if (!strcmp(arg, "--quick")) {
			b->quick = true;
		} else if (!strcmp(arg, "--cpu")) {
			b->cpu_time = bench_cpu_time = true;
		} else if (!strcmp(arg, "--ours")) {
			b->only_ours = true;
		} else if (!strcmp(arg, "--rounds") || !strcmp(arg, "--data")) {
			const char *value = ++i < argc ? argv[i] : "";
			char *end;

			if (!strcmp(arg, "--data") && strcmp(value, "heap") &&
			    strcmp(value, "half"))
				return bad("--data is heap or half, not", value);
			if (!strcmp(arg, "--data")) {
				b->half_data = !strcmp(value, "half");
				continue;
			}
			b->rounds = (unsigned)strtoul(value, &end, 10);
			if (*end || !b->rounds || b->rounds > BENCH_MAX_ROUNDS || *value == '-')
				return bad("--rounds is a number from 1 to 31, not", value);
		} else {
			return bad("unknown option", arg);
		}
	}
	for (size_t k = 0; !any && k < GROUPS; k++)
		want(o, bench_groups[k]->name);
	return -1;
}

/* ---- rounds ---- */

static void progress(struct bench *b, const struct bench_group *g, enum bench_side side,
		     unsigned round, unsigned rounds)
{
	b->step++;
	if (b->terminal)
		fprintf(stderr, "\r\033[K[%u/%u] %s: %s, round %u of %u ", b->step, b->steps,
			g->name, g->side[side], round + 1, rounds);
}

static bool is_wanted(const struct bench_outcome *o)
{
	for (unsigned i = 0; i < BENCH_MAX_ROWS; i++)
		if (o->wanted[i])
			return true;
	return false;
}

static unsigned rounds_of(const struct bench *b, const struct bench_group *g)
{
	if (b->rounds)
		return b->rounds;
	return b->quick && g->rounds > 1 ? 2 : g->rounds;
}

struct measurement {
	const struct bench *b;
	const struct bench_group *g;
	enum bench_side side;
};

static void measure(void *ctx, struct bench_result *r)
{
	const struct measurement *m = ctx;

	m->g->measure(m->b, m->g, m->side, r);
}

/* Which sides can be measured here; why not, else. */
static void prepare(struct bench *b, struct bench_outcome *o)
{
	const struct bench_group *g = o->g;
	u64 need = b->bytes / 8 * g->memory_x8;

	for (int side = 0; side < NR_SIDES; side++) {
		char *why = o->missing[side];

		if (!g->side[side])
			continue;
		if (b->only_ours && side != SIDE_OURS)
			snprintf(why, BENCH_TEXT, "--ours");
		else if (g->threads > b->cpus)
			snprintf(why, BENCH_TEXT, "%u CPUs are needed, %u are there", g->threads,
				 b->cpus);
		else if (need > b->memory_available)
			snprintf(why, BENCH_TEXT, "%llu MiB of memory are needed, %llu are free",
				 (unsigned long long)need >> 20,
				 (unsigned long long)b->memory_available >> 20);
		else if (g->prepare && !g->prepare(b, side, why) && !why[0])
			snprintf(why, BENCH_TEXT, "not possible here");
	}
}

static void run_group(struct bench *b, struct bench_outcome *o, struct bench_result *r)
{
	const struct bench_group *g = o->g;
	u64 kills;

	o->rounds = rounds_of(b, g);
	for (unsigned side = 0; side < NR_SIDES; side++)
		for (unsigned i = 0; i < BENCH_MAX_ROWS; i++)
			for (unsigned k = 0; k < BENCH_MAX_ROUNDS; k++)
				o->value[side][i][k] = NAN;
	prepare(b, o);
	for (unsigned round = 0; round < o->rounds; round++) {
		for (int side = 0; side < NR_SIDES; side++) {
			struct measurement m = { .b = b, .g = g, .side = side };

			if (bench_signal)
				return;
			if (!g->side[side])
				continue;
			progress(b, g, side, round, o->rounds);
			if (o->missing[side][0])
				continue;
			kills = bench_zram_oom_kills(b);
			bench_child(g->limit_s, measure, &m, r);
			if (r->error[0] && bench_zram_oom_kills(b) > kills)
				snprintf(r->error, sizeof(r->error),
					 "killed by the kernel: its control group was out of "
					 "memory");
			for (unsigned i = 0; i < bench_rows(g); i++)
				o->value[side][i][round] = r->error[0] ? NAN : r->value[i];
			if (!r->error[0])
				continue;
			/* This side is known to be broken: the others go on without it. */
			if (!o->error[0])
				snprintf(o->error, sizeof(o->error), "%s: %.200s", g->side[side],
					 r->error);
			snprintf(o->missing[side], BENCH_TEXT, "%s", r->error);
		}
	}
}

/* ---- the whole ---- */

static void look_around(struct bench *b)
{
	unsigned long long kib;
	cpu_set_t set;
	char line[256];
	ssize_t n;
	FILE *f;

	b->terminal = isatty(STDERR_FILENO);
	b->cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);
	b->memory_available = ~0ull;
	f = fopen("/proc/meminfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			b->memory_available = kib << 10;
	if (f)
		fclose(f);
	n = readlink("/proc/self/exe", b->self, sizeof(b->self) - 1);
	b->self[n > 0 ? n : 0] = '\0';
}

static int run_all(struct bench *b, struct bench_outcome *o)
{
	struct bench_result *r = bench_shared(sizeof(*r));
	struct bench_outcome *used = calloc(GROUPS, sizeof(*used));
	unsigned n = 0;
	int status = 0;

	if (!r || !used) {
		fprintf(stderr, "quire bench: no memory\n");
		return 1;
	}
	for (size_t k = 0; k < GROUPS; k++) {
		const struct bench_group *g = o[k].g;

		for (int side = 0; is_wanted(&o[k]) && side < NR_SIDES; side++)
			b->steps += g->side[side] ? rounds_of(b, g) : 0;
	}
	bench_catch_signals();
	for (size_t k = 0; k < GROUPS && !bench_signal; k++) {
		if (!is_wanted(&o[k]))
			continue;
		run_group(b, &o[k], r);
		if (o[k].error[0])
			status = 1;
		used[n++] = o[k];
	}
	if (!bench_zram_end(b))
		status = 1;
	if (b->terminal)
		fprintf(stderr, "\r\033[K");
	if (bench_signal)
		status = 128 + bench_signal;
	else if (b->json)
		bench_report_json(b, used, n);
	else
		bench_report_table(b, used, n);
	free(used);
	return status;
}

int quire_bench_main(int argc, char **argv)
{
	static struct bench b;
	static struct bench_outcome o[GROUPS];
	int status;

	/* What the rows start as programs of their own. */
	if (argc > 1 && !strncmp(argv[1], "--child-", 8)) {
		b.quick = argc > 2 && !strcmp(argv[2], "--quick");
		if (!strcmp(argv[1], "--child-calls"))
			return bench_child_calls(b.quick);
		if (!strcmp(argv[1], "--child-compute"))
			return bench_child_compute(b.quick);
	}
	for (size_t k = 0; k < GROUPS; k++)
		o[k].g = bench_groups[k];
	status = parse(&b, o, argc, argv);
	if (status >= 0)
		return status;
	/* A tenth, in whole 2 MiB. */
	b.bytes = b.quick ? ALIGN_DOWN((1ull << 30) / 10, PMD_SIZE) : 1ull << 30;
	look_around(&b);
	return run_all(&b, o);
}
