/*
 * cli.h - `quire explore`: what the command's files share.
 *
 * A row is one scenario on one kind of machine: it is explored in a process of its own
 * (cli_pool.c), and this process replays what was found, because only a replay yields a trace.
 * Everything that is shown - table, printed trace, JSON, page, replay file - is made from rows.
 *
 * Invariants: rows stand in the order in which they are listed, whatever ends first; a row's trace
 * is the replay of its decisions; bad input is one line on standard error and exit status 2;
 * nothing but what was asked for is written where output is piped. Locking: none; one thread, and
 * processes that share nothing.
 */
#ifndef QUIRE_EXPLORE_CLI_H
#define QUIRE_EXPLORE_CLI_H

#include <stdio.h>

#include "explore/engine.h"
#include "explore/scenario.h"
#include "explore/trace.h"

enum cli_status {
	CLI_CLEAN = 0,     /* nothing was found, and everything that was asked for was visited */
	CLI_VIOLATION = 1, /* something was found */
	CLI_USAGE = 2,     /* bad input; a replay file that does not belong to this program */
	CLI_UNFINISHED = 3 /* nothing was found in what was visited, but that was not all */
};

struct cli_options {
	bool list, json, help;
	bool full; /* no composed sections, locks and objects as the product has them */
	u64 off;   /* BIT(enum mechanism) */
	struct x_options x;
	bool has_bound, has_seconds, has_seed, has_runs;
	const char *html, *replay, *save;
	u32 kinds; /* BIT(enum scenario_kind) of those wanted */
	u32 jobs;
	const struct scenario **scenario; /* those named */
	u32 nr_scenarios;
};

/* One scenario on one kind of machine, and what came of it. */
struct cli_row {
	const struct scenario *scenario;
	enum scenario_kind kind;
	u64 off;
	bool full;
	s32 bound; /* -1: none; as asked for, else the scenario's own */
	bool done;
	double cpu_seconds; /* of its process */
	struct x_result r;  /* r.why_not is not used: why */
	char why[160];      /* NOT_EXHAUSTED, or the worker's end */
	struct x_trace *trace;
};

struct cli_run {
	const struct cli_options *o;
	struct cli_row *row;
	u32 nr;
	double seconds; /* of the whole run */
};

/* ---- cli_options.c ---- */

/* One line "quire: explore: ..."; returns CLI_USAGE. */
int cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* -1: go on; else the exit status. */
int cli_parse(int argc, char **argv, struct cli_options *o);
extern const char cli_usage[];

/* ---- cli_pool.c ---- */

/* The row as a program of the engine; `run` must live as long. */
struct x_program cli_program(const struct cli_row *row, struct scenario_run *run);
/* Explores all rows in o->jobs processes. */
void cli_explore(struct cli_run *c);

/* ---- cli_table.c ---- */

bool cli_is_bad(const struct cli_row *row);        /* a violation */
bool cli_is_unfinished(const struct cli_row *row); /* not everything was visited */
const char *cli_verdict_word(const struct cli_row *row);
/* "exhausted", "stopped: time", "VIOLATION: ..."; returns buf. */
char *cli_verdict(const struct cli_row *row, const struct cli_options *o, char *buf, size_t n);
void cli_table(const struct cli_run *c);
void cli_list(const struct cli_options *o);
/* The switches each of which brings the scenario's bug back on that kind of machine. */
u64 cli_off_of(const struct scenario *s, u32 kind);
bool cli_colours(FILE *f);
/* "a, b, c" of the switches in a mask; "" for none. */
char *cli_switches(u64 mask, char *buf, size_t n);

/* ---- cli_view.c: a trace as rows of a picture ---- */

struct cli_shown {
	u32 step;
	u32 column;
	bool dull;    /* says nothing to most readers */
	bool switch_; /* another column was at work before it */
};

/* A column: a CPU or device, with the actors that run there. */
struct cli_column {
	char *title; /* "munmap" */
	char *unit;  /* "CPU0" */
	u32 actors;  /* BIT(actor) */
};

#define CLI_MAX_ENTRIES 16u

struct cli_view {
	const struct x_trace *t;
	u32 nr_entries; /* watched page-table entries whose place is known */
	struct {
		u64 obj;
		u32 watch;
	} entry[CLI_MAX_ENTRIES];
	struct cli_shown *shown; /* all steps, in order */
	u32 nr_columns;
	struct cli_column column[X_MAX_ACTORS];
};

void cli_view_make(struct cli_view *v, const struct x_trace *t);
void cli_view_free(struct cli_view *v);
/* What the step does, in words; malloc'ed. */
char *cli_step_text(const struct cli_view *v, u32 step);
/* What a step makes of a watched value, as short as it can be told: "refs 1 -> 2, +locked". */
char *cli_change_text(const struct x_trace *t, u32 step, u32 watch, char *buf, size_t n);

/* ---- cli_print.c ---- */

void cli_print_trace(const struct cli_row *row);

/* ---- cli_json.c ---- */

void cli_json(FILE *f, const struct cli_run *c, int status);
void cli_json_list(FILE *f, const struct cli_options *o);
/* One trace as a JSON object; `indent` spaces before inner lines. */
void cli_json_trace(FILE *f, const struct cli_row *row);
/* A string in quotes; safe inside an HTML script as well. */
void cli_json_string(FILE *f, const char *s);

/* ---- cli_html.c ---- */

/* 0, or CLI_USAGE after a message. */
int cli_html(const char *path, const struct cli_row *row);

/* ---- cli_replay.c ---- */

/* Writes the row's decisions. 0, or CLI_USAGE after a message. */
int cli_save(const char *path, const struct cli_row *row);
/* Reads a replay file into a row without a trace. 0, or CLI_USAGE after a message. */
int cli_load(const char *path, struct cli_row *row);
/* Replays a row's decisions: trace and message. False: it does not do what it did. */
bool cli_replay_row(struct cli_row *row);
/* A trace of one run of a row without a violation: actor after actor. */
bool cli_sample_row(struct cli_row *row);

#endif
