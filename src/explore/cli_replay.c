/*
 * cli_replay.c - decisions in a file, and run again.
 *
 * The file is text, one fact a line, so that it can stand in a mail or beside a test:
 *
 *   quire explore replay 1
 *   scenario unmap_store
 *   kind hw
 *   off FLUSH_BEFORE_FREE
 *   message CPU1 stores to ...
 *   actor 0 munmap
 *   run 0 to 17 89abcdef         actor 0 runs until its point 17; the step's fingerprint
 *   run 1 to end 01234567        until it ends
 *   choose 1 1 to 18 fedcba98    it is told 1, and runs until its point 18
 *   end
 *
 * `actor` lines are for readers. A fingerprint that differs when the file is replayed means that
 * the program is not the one that was saved.
 */
#include "explore/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEAD          "quire explore replay 1"
#define LINE_MAX      1024
#define MAX_DECISIONS (1u << 24)

/* ---- writing ---- */

static void write_decision(FILE *f, const struct x_decision *d)
{
	if (d->is_choice)
		fprintf(f, "choose %u %u to ", d->actor, d->choice);
	else
		fprintf(f, "run %u to ", d->actor);
	if (d->point == ~0u)
		fprintf(f, "end %08x\n", d->fingerprint);
	else
		fprintf(f, "%u %08x\n", d->point, d->fingerprint);
}

int cli_save(const char *path, const struct cli_row *row)
{
	FILE *f = fopen(path, "we");
	bool bad;

	if (!f)
		return cli_error("--save '%s': %s", path, strerror(errno));
	fprintf(f, "%s\nscenario %s\nkind %s\n", HEAD, row->scenario->name,
		scenario_kind_name[row->kind]);
	if (row->full)
		fprintf(f, "full\n");
	for (u32 m = 0; m < NR_MECHANISMS; m++)
		if (row->off & BIT(m))
			fprintf(f, "off %s\n", mechanism_info[m].name);
	if (row->r.message[0])
		fprintf(f, "message %s\n", row->r.message);
	for (u32 p = 0; row->trace && p < row->trace->nr_actors; p++)
		fprintf(f, "actor %u %s\n", p, row->trace->actor[p].name);
	for (u32 i = 0; i < row->r.nr_decisions; i++)
		write_decision(f, &row->r.decision[i]);
	fprintf(f, "end\n");
	bad = ferror(f);
	if (fclose(f) || bad)
		return cli_error("--save '%s': %s", path, strerror(errno));
	return 0;
}

/* ---- reading ---- */

struct reader {
	const char *path;
	u32 line;
	struct cli_row *row;
	bool has_kind, ended;
	u32 cap;
};

static int bad_line(const struct reader *rd, const char *why, const char *text)
{
	return cli_error("--replay '%s': line %u: %s '%s'", rd->path, rd->line, why, text);
}

static int add_decision(struct reader *rd, const struct x_decision *d)
{
	struct x_result *r = &rd->row->r;

	if (r->nr_decisions == rd->cap) {
		rd->cap = rd->cap ? rd->cap * 2 : 64;
		r->decision = realloc(r->decision, rd->cap * sizeof(*d));
	}
	if (!r->decision || rd->cap > MAX_DECISIONS)
		return cli_error("--replay '%s': %s", rd->path, strerror(ENOMEM));
	r->decision[r->nr_decisions++] = *d;
	return 0;
}

static bool read_point(const char *to, struct x_decision *d)
{
	char tail;

	d->point = ~0u;
	return !strcmp(to, "end") || sscanf(to, "%" SCNu32 "%c", &d->point, &tail) == 1;
}

static int read_run(struct reader *rd, const char *line)
{
	struct x_decision d = { 0 };
	unsigned actor;
	char to[16];
	char tail;

	if (sscanf(line, "run %u to %15s %" SCNx32 "%c", &actor, to, &d.fingerprint, &tail) != 3 ||
	    actor >= X_MAX_ACTORS || !read_point(to, &d))
		return bad_line(rd, "not a decision:", line);
	d.actor = (u8)actor;
	return add_decision(rd, &d);
}

static int read_choose(struct reader *rd, const char *line)
{
	struct x_decision d = { .is_choice = 1 };
	unsigned actor, choice;
	char to[16];
	char tail;

	if (sscanf(line, "choose %u %u to %15s %" SCNx32 "%c", &actor, &choice, to, &d.fingerprint,
		   &tail) != 4 ||
	    actor >= X_MAX_ACTORS || choice > 0xffff || !read_point(to, &d))
		return bad_line(rd, "not a decision:", line);
	d.actor = (u8)actor;
	d.choice = (u16)choice;
	return add_decision(rd, &d);
}

static int read_kind(struct reader *rd, const char *name)
{
	for (u32 k = 0; k < NR_SCENARIO_KINDS; k++) {
		if (!strcmp(name, scenario_kind_name[k])) {
			rd->row->kind = (enum scenario_kind)k;
			rd->has_kind = true;
			return 0;
		}
	}
	return bad_line(rd, "no such kind of machine:", name);
}

static int read_off(struct reader *rd, const char *name)
{
	for (u32 m = 0; m < NR_MECHANISMS; m++) {
		if (!strcmp(name, mechanism_info[m].name)) {
			rd->row->off |= BIT(m);
			return 0;
		}
	}
	return bad_line(rd, "no such mechanism:", name);
}

static int read_line(struct reader *rd, const char *line)
{
	if (rd->line == 1)
		return strcmp(line, HEAD) ?
			       cli_error("--replay '%s': not a replay file of this version",
					 rd->path) :
			       0;
	if (!strncmp(line, "run ", 4))
		return read_run(rd, line);
	if (!strncmp(line, "choose ", 7))
		return read_choose(rd, line);
	if (!strncmp(line, "kind ", 5))
		return read_kind(rd, line + 5);
	if (!strncmp(line, "off ", 4))
		return read_off(rd, line + 4);
	if (!strncmp(line, "scenario ", 9)) {
		rd->row->scenario = scenario_find(line + 9);
		return rd->row->scenario ? 0 : bad_line(rd, "no such scenario:", line + 9);
	}
	if (!strncmp(line, "message ", 8))
		snprintf(rd->row->r.message, sizeof(rd->row->r.message), "%.*s",
			 (int)sizeof(rd->row->r.message) - 1, line + 8);
	else if (!strcmp(line, "full"))
		rd->row->full = true;
	else if (!strcmp(line, "end"))
		rd->ended = true;
	else if (strncmp(line, "actor ", 6))
		return bad_line(rd, "not known:", line);
	return 0;
}

int cli_load(const char *path, struct cli_row *row)
{
	struct reader rd = { .path = path, .row = row };
	char line[LINE_MAX];
	FILE *f = fopen(path, "re");
	int e = 0;

	if (!f)
		return cli_error("--replay '%s': %s", path, strerror(errno));
	while (!e && !rd.ended && fgets(line, sizeof(line), f)) {
		rd.line++;
		line[strcspn(line, "\n")] = 0;
		e = read_line(&rd, line);
	}
	if (!e && ferror(f))
		e = cli_error("--replay '%s': %s", path, strerror(errno));
	fclose(f);
	if (e)
		return e;
	if (!rd.line)
		return cli_error("--replay '%s': not a replay file of this version", path);
	if (!rd.ended || !row->scenario || !rd.has_kind)
		return cli_error("--replay '%s': it is not complete", path);
	if (!(row->scenario->kinds & BIT(row->kind)))
		return cli_error("--replay '%s': %s does not run on %s", path, row->scenario->name,
				 scenario_kind_name[row->kind]);
	return 0;
}

/* ---- again ---- */

bool cli_replay_row(struct cli_row *row)
{
	struct scenario_run run;
	struct x_program p = cli_program(row, &run);
	struct x_result again = { 0 };
	bool same;

	x_trace_free(row->trace);
	row->trace = NULL;
	x_replay(&p, row->r.decision, row->r.nr_decisions, &again, &row->trace);
	same = again.verdict == row->r.verdict && !strcmp(again.message, row->r.message);
	if (!same) {
		row->r.verdict = X_DIVERGED;
		snprintf(row->r.message, sizeof(row->r.message), "%s", again.message);
	}
	if (!row->r.depth)
		row->r.depth = row->r.nr_decisions;
	x_result_free(&again);
	return same;
}

bool cli_sample_row(struct cli_row *row)
{
	struct scenario_run run;
	struct x_program p = cli_program(row, &run);
	struct x_result r = { 0 };

	x_sample(&p, &r, &row->trace);
	x_result_free(&r);
	return row->trace;
}
