/*
 * cli_main.c - `quire explore`: the rows that were asked for, explored, replayed, shown.
 */
#include "explore/cli.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int quire_explore_main(int argc, char **argv);

/* ---- which rows ---- */

static bool wanted(const struct cli_options *o, const struct scenario *s, u32 kind)
{
	if (!(s->kinds & BIT(kind)) || (o->kinds && !(o->kinds & BIT(kind))))
		return false;
	for (u32 i = 0; i < o->nr_scenarios; i++)
		if (o->scenario[i] == s)
			return true;
	return !o->nr_scenarios && (!o->off || (cli_off_of(s, kind) & o->off));
}

/* Who asks for one is given it; else a scenario may have one of its own, for the search of states.
 */
static s32 bound_of(const struct cli_options *o, const struct scenario *s)
{
	if (o->has_bound || o->x.engine != X_HASH || !s->bound)
		return o->x.bound;
	return (s32)s->bound;
}

/* The rows in the order of --list. 0, or a status after a message. */
static int plan(const struct cli_options *o, struct cli_run *c)
{
	for (const struct scenario *s = scenario_first(); s; s = scenario_next(s)) {
		for (u32 k = 0; k < NR_SCENARIO_KINDS; k++) {
			struct cli_row *row;

			if (!wanted(o, s, k))
				continue;
			c->row = realloc(c->row, (c->nr + 1) * sizeof(*c->row));
			if (!c->row)
				return cli_error("%s", strerror(ENOMEM));
			row = &c->row[c->nr++];
			memset(row, 0, sizeof(*row));
			row->scenario = s;
			row->kind = (enum scenario_kind)k;
			row->off = o->off;
			row->full = o->full;
			row->bound = bound_of(o, s);
		}
	}
	if (!c->nr)
		return cli_error("no scenario is left: none that was asked for %s",
				 o->kinds ? "runs on that kind of machine" : "has that switch");
	return 0;
}

/* ---- files ---- */

static bool is_folder(const char *path)
{
	DIR *dir = opendir(path);

	if (dir)
		closedir(dir);
	return dir;
}

/* Now rather than after minutes of work; a file that was not there is not left behind. */
static int check_writable(const char *option, const char *path)
{
	bool there = !access(path, F_OK);
	FILE *f;

	if (is_folder(path) && !strcmp(option, "--save")) {
		if (!access(path, W_OK | X_OK))
			return 0;
		return cli_error("%s '%s': %s", option, path, strerror(errno));
	}
	f = fopen(path, "ae");
	if (!f)
		return cli_error("%s '%s': %s", option, path, strerror(errno));
	fclose(f);
	if (!there)
		unlink(path);
	return 0;
}

static int save_all(const struct cli_run *c)
{
	const char *to = c->o->save;
	bool folder = is_folder(to), any = false;
	char path[4096];
	int e = 0;

	for (u32 i = 0; i < c->nr && !e; i++) {
		const struct cli_row *row = &c->row[i];

		if (!cli_is_bad(row) || !row->r.nr_decisions)
			continue;
		snprintf(path, sizeof(path), "%s/%s.%s.replay", to, row->scenario->name,
			 scenario_kind_name[row->kind]);
		if (folder || !any)
			e = cli_save(folder ? path : to, row);
		any = true;
	}
	if (!any && !e)
		fprintf(stderr, "quire: explore: --save: no violation, nothing is saved\n");
	return e;
}

/* The row that a page shows: the first violation, or else one run of the first row. */
static struct cli_row *row_to_show(struct cli_run *c)
{
	for (u32 i = 0; i < c->nr; i++)
		if (c->row[i].trace && cli_is_bad(&c->row[i]))
			return &c->row[i];
	return &c->row[0];
}

static int write_page(struct cli_run *c)
{
	struct cli_row *row = row_to_show(c);

	if (!row->trace && !cli_sample_row(row))
		return cli_error("--html: %s cannot be replayed", row->scenario->name);
	return cli_html(c->o->html, row);
}

/* ---- what is shown ---- */

static int status_of(const struct cli_run *c)
{
	int status = CLI_CLEAN;

	for (u32 i = 0; i < c->nr; i++) {
		if (cli_is_bad(&c->row[i]))
			return CLI_VIOLATION;
		if (cli_is_unfinished(&c->row[i]))
			status = CLI_UNFINISHED;
	}
	return status;
}

static void print_traces(const struct cli_run *c)
{
	u32 more = 0;

	for (u32 i = 0; i < c->nr; i++) {
		if (!c->row[i].trace || !cli_is_bad(&c->row[i]))
			continue;
		if (!more++)
			cli_print_trace(&c->row[i]);
	}
	if (more > 1)
		printf("%u more: name the scenario and --kind to see one\n", more - 1);
}

static int show(struct cli_run *c)
{
	int status = status_of(c), e = 0;

	if (c->o->json) {
		cli_json(stdout, c, status);
	} else {
		cli_table(c);
		print_traces(c);
	}
	if (fflush(stdout))
		return cli_error("standard output: %s", strerror(errno));
	if (c->o->save)
		e = save_all(c);
	if (!e && c->o->html)
		e = write_page(c);
	return e ? e : status;
}

/* ---- commands ---- */

static int explore(struct cli_run *c)
{
	int e = plan(c->o, c);

	if (!e && c->o->save)
		e = check_writable("--save", c->o->save);
	if (!e && c->o->html)
		e = check_writable("--html", c->o->html);
	if (e)
		return e;
	cli_explore(c);
	for (u32 i = 0; i < c->nr; i++) {
		struct cli_row *row = &c->row[i];

		if (cli_is_bad(row) && !cli_replay_row(row))
			fprintf(stderr,
				"quire: explore: %s on %s: what was found cannot be replayed: "
				"an error of the explorer\n",
				row->scenario->name, scenario_kind_name[row->kind]);
	}
	return show(c);
}

static int replay(struct cli_run *c)
{
	struct cli_row *row = calloc(1, sizeof(*row));
	int status, e;

	if (!row)
		return cli_error("%s", strerror(ENOMEM));
	c->row = row;
	c->nr = 1;
	row->bound = -1;
	e = cli_load(c->o->replay, row);
	if (!e && c->o->html)
		e = check_writable("--html", c->o->html);
	if (e)
		return e;
	row->r.verdict = row->r.message[0] ? X_VIOLATION : X_EXHAUSTED;
	if (!cli_replay_row(row))
		return cli_error("--replay '%s': %s", c->o->replay,
				 row->r.message[0] ? row->r.message : "nothing is violated now");
	status = cli_is_bad(row) ? CLI_VIOLATION : CLI_CLEAN;
	if (c->o->json)
		cli_json(stdout, c, status);
	else
		cli_print_trace(row);
	if (c->o->html)
		e = cli_html(c->o->html, row);
	return e ? e : status;
}

int __attribute__((visibility("default"))) quire_explore_main(int argc, char **argv)
{
	struct cli_options o;
	struct cli_run c = { .o = &o };
	int e = cli_parse(argc, argv, &o);

	if (e >= 0)
		return e;
	if (o.list) {
		cli_list(&o);
		e = 0;
	} else {
		e = o.replay ? replay(&c) : explore(&c);
	}
	for (u32 i = 0; i < c.nr; i++) {
		x_trace_free(c.row[i].trace);
		x_result_free(&c.row[i].r);
	}
	free(c.row);
	free(o.scenario);
	return e;
}
