/*
 * cli_print.c - a counterexample for a terminal: one column for each processor or device, time
 * going down, and what each step changes beside it.
 */
#include "explore/cli.h"

#include <stdlib.h>
#include <string.h>

#define WIDTH       100
#define STEP_WIDTH  5
#define GAP         2
#define STATE_WIDTH 30
#define MIN_CELL    14
#define TEXT_MAX    2048

/* Text that is printed piece by piece into lines of a width. */
struct cell {
	const char *rest;
	u32 width;
};

/* Prints the next line, padded. */
static void cell_line(struct cell *c)
{
	u32 n = (u32)strlen(c->rest), cut = n;

	if (n > c->width) {
		cut = c->width;
		for (u32 i = c->width; i > c->width / 3; i--) {
			if (c->rest[i] == ' ' || c->rest[i - 1] == '-') {
				cut = i;
				break;
			}
		}
	}
	printf("%.*s%*s", (int)cut, c->rest, (int)(c->width - cut), "");
	c->rest += cut;
	c->rest += strspn(c->rest, " ");
}

/* What the step changes. */
static void state_text(const struct x_trace *t, u32 step, char *buf)
{
	char change[512];
	size_t at = 0;

	buf[0] = 0;
	for (u32 w = 0; w < t->nr_watches && at < TEXT_MAX; w++) {
		if (!t->step[step].watch[w])
			continue;
		at += (size_t)snprintf(buf + at, TEXT_MAX - at, "%s%s %s: %s", at ? "; " : "",
				       t->watch[w].group, t->watch[w].name,
				       cli_change_text(t, step, w, change, sizeof(change)));
	}
}

static void print_rule(const struct cli_view *v, u32 width)
{
	for (u32 i = 0; i < STEP_WIDTH + v->nr_columns * (width + GAP) + STATE_WIDTH; i++)
		putchar('-');
	putchar('\n');
}

/* One line of the picture's head: titles, or units. */
static void print_head(const struct cli_view *v, u32 width, bool units)
{
	printf("%*s", STEP_WIDTH, "");
	for (u32 i = 0; i < v->nr_columns; i++) {
		const struct cli_column *c = &v->column[i];

		printf("%-*.*s%*s", (int)width, (int)width, units ? c->unit : c->title, GAP, "");
	}
	printf("%s\n", units ? "" : "what changes");
}

static void print_step(const struct cli_view *v, const struct cli_shown *sh, u32 width)
{
	const struct x_trace_step *s = &v->t->step[sh->step];
	bool irq =
		v->t->actor[s->actor].agent && (v->column[sh->column].actors & (BIT(s->actor) - 1));
	char *text = cli_step_text(v, sh->step), *words;
	char state[TEXT_MAX];
	struct cell cells[2];
	u32 line = 0;

	if (asprintf(&words, "%s%s", irq ? "irq: " : "", text) < 0)
		exit(CLI_UNFINISHED);
	state_text(v->t, sh->step, state);
	cells[0] = (struct cell){ words, width };
	cells[1] = (struct cell){ state, STATE_WIDTH };
	while (*cells[0].rest || *cells[1].rest || !line) {
		if (line++)
			printf("%*s", STEP_WIDTH, "");
		else
			printf("%3u%c ", sh->step + 1, s->preempts ? '>' : ' ');
		printf("%*s", (int)(sh->column * (width + GAP)), "");
		cell_line(&cells[0]);
		if (*cells[1].rest) {
			printf("%*s", (int)((v->nr_columns - sh->column - 1) * (width + GAP) + GAP),
			       "");
			cell_line(&cells[1]);
		}
		printf("\n");
	}
	free(words);
	free(text);
}

static void print_start(const struct x_trace *t)
{
	if (t->nr_watches)
		printf("at the start\n");
	for (u32 w = 0; w < t->nr_watches; w++)
		printf("     %s %s: %s\n", t->watch[w].group, t->watch[w].name, t->watch[w].start);
}

void cli_print_trace(const struct cli_row *row)
{
	const struct x_trace *t = row->trace;
	u32 width, hidden = 0;
	struct cli_view v;
	char off[600];

	cli_view_make(&v, t);
	width = (WIDTH - STEP_WIDTH - STATE_WIDTH) / max(v.nr_columns, 1u) - GAP;
	width = max(width, (u32)MIN_CELL);
	printf("\n%s on %s: %s\n", row->scenario->name, scenario_kind_name[row->kind],
	       row->scenario->title);
	if (row->off)
		printf("switched off: %s\n", cli_switches(row->off, off, sizeof(off)));
	printf("%s", row->scenario->picture ? "in short\n" : "");
	printf("%s", row->scenario->picture ? row->scenario->picture : "");
	print_start(t);
	printf("\n");
	print_head(&v, width, false);
	print_head(&v, width, true);
	print_rule(&v, width);
	for (u32 i = 0; i < t->nr_steps; i++) {
		hidden += v.shown[i].dull;
		if (!v.shown[i].dull)
			print_step(&v, &v.shown[i], width);
	}
	print_rule(&v, width);
	printf("%s%s\n", *t->message ? "VIOLATION: " : "no violation", t->message);
	printf("%u steps, %u of them left out that say nothing; > the one before could have gone "
	       "on\n",
	       t->nr_steps, hidden);
	cli_view_free(&v);
}
