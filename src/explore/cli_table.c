/* cli_table.c - the table of verdicts, what it promises, and the list of scenarios. */
#include "explore/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WIDTH 100

#define BOLD  "\033[1m"
#define RED   "\033[31m"
#define GREEN "\033[32m"
#define AMBER "\033[33m"
#define DIM   "\033[2m"
#define PLAIN "\033[0m"

bool cli_colours(FILE *f)
{
	const char *no = getenv("NO_COLOR");

	return isatty(fileno(f)) && !(no && *no);
}

char *cli_switches(u64 mask, char *buf, size_t n)
{
	size_t at = 0;

	buf[0] = 0;
	for (u32 m = 0; m < NR_MECHANISMS; m++) {
		if (!(mask & BIT(m)) || at >= n)
			continue;
		at += (size_t)snprintf(buf + at, n - at, "%s%s", at ? ", " : "",
				       mechanism_info[m].name);
	}
	return buf;
}

bool cli_is_bad(const struct cli_row *row)
{
	return row->r.verdict == X_VIOLATION;
}

bool cli_is_unfinished(const struct cli_row *row)
{
	return row->r.verdict == X_NOT_EXHAUSTED || row->r.verdict == X_DIVERGED;
}

const char *cli_verdict_word(const struct cli_row *row)
{
	switch (row->r.verdict) {
	case X_EXHAUSTED:
		return "exhausted";
	case X_VIOLATION:
		return "violation";
	case X_DIVERGED:
		return "diverged";
	default:
		return "stopped";
	}
}

char *cli_verdict(const struct cli_row *row, const struct cli_options *o, char *buf, size_t n)
{
	switch (row->r.verdict) {
	case X_EXHAUSTED:
		if (row->bound >= 0)
			snprintf(buf, n, "exhausted with at most %d preemption%s", row->bound,
				 row->bound == 1 ? "" : "s");
		else
			snprintf(buf, n, "exhausted");
		break;
	case X_VIOLATION:
		snprintf(buf, n, "VIOLATION: %s", row->r.message);
		break;
	case X_DIVERGED:
		snprintf(buf, n, "DIVERGED: %s", row->r.message);
		break;
	default:
		if (!strcmp(row->why, "sampled"))
			snprintf(buf, n, "sampled: nothing found");
		else if (!strcmp(row->why, "time"))
			snprintf(buf, n, "stopped at bound --seconds %.0f", o->x.max_seconds);
		else if (!row->done)
			snprintf(buf, n, "LOST: %s", row->why);
		else
			snprintf(buf, n, "stopped at bound: %s", row->why);
	}
	return buf;
}

/* ---- the table ---- */

static const char *paint(const struct cli_row *row, bool colour)
{
	if (!colour)
		return "";
	return cli_is_bad(row) ? RED BOLD : cli_is_unfinished(row) ? AMBER : GREEN;
}

static void print_row(const struct cli_row *row, const struct cli_options *o, int width,
		      bool colour)
{
	char verdict[700];

	printf("%-*s %-4s %6llu %10llu %10llu %7.2f  %s%s%s\n", width, row->scenario->name,
	       scenario_kind_name[row->kind], (unsigned long long)row->r.depth,
	       (unsigned long long)row->r.states, (unsigned long long)row->r.executions,
	       row->r.seconds, paint(row, colour), cli_verdict(row, o, verdict, sizeof(verdict)),
	       colour ? PLAIN : "");
}

static void print_sums(const struct cli_run *c)
{
	u32 exhausted = 0, bad = 0, open = 0;
	double worked = 0, states = 0, steps = 0;

	for (u32 i = 0; i < c->nr; i++) {
		const struct cli_row *row = &c->row[i];

		exhausted += row->r.verdict == X_EXHAUSTED;
		bad += cli_is_bad(row);
		open += cli_is_unfinished(row);
		worked += row->cpu_seconds;
		states += (double)row->r.states;
		steps += (double)row->r.steps;
	}
	printf("\n%u run%s: %u exhausted, %u violation%s, %u stopped; %.1f s with %u process%s",
	       c->nr, c->nr == 1 ? "" : "s", exhausted, bad, bad == 1 ? "" : "s", open, c->seconds,
	       min(c->o->jobs, c->nr), min(c->o->jobs, c->nr) == 1 ? "" : "es");
	if (worked > 0)
		printf(";\n%.2f M steps and %.2f M new states a second of processor time",
		       steps / worked / 1e6, states / worked / 1e6);
	printf("\n");
}

/* In lines of at most 100 columns. */
static void print_wrapped(const char *text)
{
	while (*text) {
		size_t n = strlen(text), cut = n;

		if (n > WIDTH) {
			cut = WIDTH;
			while (cut && text[cut] != ' ')
				cut--;
			cut = cut ? cut : WIDTH;
		}
		printf("%.*s\n", (int)cut, text);
		text += cut;
		text += strspn(text, " ");
	}
}

static bool same_composed(const struct scenario *a, const struct scenario *b)
{
	return a->nr_composed == b->nr_composed &&
	       !memcmp(a->composed, b->composed, a->nr_composed * sizeof(*a->composed));
}

/* A row whose scenario is named for the first time. */
static bool is_first(const struct cli_run *c, u32 i)
{
	return !i || c->row[i].scenario != c->row[i - 1].scenario;
}

static void print_group(FILE *f, const struct cli_run *c, u32 first)
{
	const struct scenario *s = c->row[first].scenario;

	for (u32 i = 0; i < first; i++)
		if (c->row[i].scenario->nr_composed && same_composed(c->row[i].scenario, s))
			return;
	fprintf(f, " Critical sections that are one step each: ");
	for (u32 i = 0; i < s->nr_composed; i++)
		fprintf(f, "%s%s", i ? ", " : "", lock_class_name((enum lock_class)s->composed[i]));
	fprintf(f, " in");
	for (u32 i = first; i < c->nr; i++)
		if (is_first(c, i) && c->row[i].scenario->nr_composed &&
		    same_composed(c->row[i].scenario, s))
			fprintf(f, "%s %s", i > first ? "," : "", c->row[i].scenario->name);
	fprintf(f, ".");
}

/* Scenarios that ask for more of the real thing by themselves. */
static void print_real(FILE *f, const struct cli_run *c, u32 flag, const char *what)
{
	bool any = false;

	for (u32 i = 0; i < c->nr; i++) {
		if (!is_first(c, i) || !(c->row[i].scenario->flags & flag))
			continue;
		fprintf(f, "%s %s", any ? "," : what, c->row[i].scenario->name);
		any = true;
	}
	fprintf(f, "%s", any ? "." : "");
}

static void print_compositions(const struct cli_run *c)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f;

	if (c->o->full) {
		printf("Nothing is composed; locks and objects are the product's, step by step.\n");
		return;
	}
	f = open_memstream(&text, &n);
	if (!f)
		return;
	fprintf(f,
		"Composed: a lock is taken in one step, when it is free; freed objects are never "
		"used again.");
	for (u32 i = 0; i < c->nr; i++)
		if (is_first(c, i) && c->row[i].scenario->nr_composed)
			print_group(f, c, i);
	print_real(f, c, X_REAL_LOCKS, " But locks are the product's, step by step, in");
	print_real(f, c, X_REAL_OBJECTS, " But objects are the product's, used again, in");
	fprintf(f, " --full composes nothing.");
	if (!fclose(f))
		print_wrapped(text);
	free(text);
}

static void print_sampled(const struct cli_options *o)
{
	u64 runs = o->x.max_executions ? o->x.max_executions : 10000;

	printf("Sampled: %llu runs each, seed %llu: nothing is said about the others.\n",
	       (unsigned long long)runs, (unsigned long long)o->x.seed);
}

static void print_promise(const struct cli_run *c)
{
	if (c->o->x.engine == X_RANDOM || c->o->x.engine == X_PCT) {
		print_sampled(c->o);
	} else {
		printf("Exhausted: no order of these actors' steps breaks a check, within these "
		       "bounds (this scenario,\nits memory and devices, the preemptions where a "
		       "number stands), for a\nsequentially consistent core and this TLB model "
		       "(docs/EXPLORER.md).\n");
	}
	print_compositions(c);
}

void cli_table(const struct cli_run *c)
{
	bool colour = cli_colours(stdout);
	char off[600];
	int width = 8;

	for (u32 i = 0; i < c->nr; i++)
		width = max(width, (int)strlen(c->row[i].scenario->name));
	if (c->o->off)
		printf("switched off: %s\n", cli_switches(c->o->off, off, sizeof(off)));
	printf("%s%-*s %-4s %6s %10s %10s %7s  %s%s\n", colour ? BOLD : "", width, "scenario",
	       "kind", "steps", "states", "executions", "time/s", "verdict", colour ? PLAIN : "");
	for (u32 i = 0; i < c->nr; i++)
		print_row(&c->row[i], c->o, width, colour);
	print_sums(c);
	print_promise(c);
}

/* ---- the list ---- */

u64 cli_off_of(const struct scenario *s, u32 kind)
{
	if (!(s->kinds & BIT(kind)))
		return 0;
	return kind == ON_HOME ? s->off_home : s->off;
}

static void list_switches(const struct scenario *s)
{
	u64 off = s->kinds & (BIT(ON_HW) | BIT(ON_SW)) ? s->off : 0;
	u64 home = cli_off_of(s, ON_HOME);
	char names[600];

	if (off)
		printf("      off: %s\n", cli_switches(off, names, sizeof(names)));
	if (home && home != off)
		printf("      off, on home: %s\n", cli_switches(home, names, sizeof(names)));
}

static void list_kinds(const struct scenario *s)
{
	bool any = false;

	for (u32 k = 0; k < NR_SCENARIO_KINDS; k++) {
		if (s->kinds & BIT(k)) {
			printf("%s%s", any ? "," : "", scenario_kind_name[k]);
			any = true;
		}
	}
}

void cli_list(const struct cli_options *o)
{
	bool colour = cli_colours(stdout);
	const char *bold = colour ? BOLD : "", *plain = colour ? PLAIN : "";

	if (o->json) {
		cli_json_list(stdout, o);
		return;
	}
	printf("scenarios\n");
	for (const struct scenario *s = scenario_first(); s; s = scenario_next(s)) {
		printf("  %s%s%s (", bold, s->name, plain);
		list_kinds(s);
		printf(") %s\n", s->title);
		list_switches(s);
	}
	printf("mechanisms\n");
	for (u32 m = 0; m < NR_MECHANISMS; m++)
		printf("  %s%-24s%s without it: %s\n", bold, mechanism_info[m].name, plain,
		       mechanism_info[m].text);
}
