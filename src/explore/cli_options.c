/* cli_options.c - the arguments of `quire explore`. */
#include "explore/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_SECONDS 60
#define DEFAULT_DEPTH   3 /* of pct */
#define MAX_JOBS        1024u

const char cli_usage[] =
	"usage: quire explore [OPTION...] [SCENARIO...]\n"
	"\n"
	"Runs the memory manager's own code under every interleaving of small scenarios, on\n"
	"simulated processors with stale TLBs. Without a SCENARIO: all of them, each on each of\n"
	"its kinds of machine; with --off: all to which the switch belongs.\n"
	"\n"
	"  --list            the scenarios, the kinds of machine they run on, their switches\n"
	"  --off MECHANISM   switch one mechanism off (again for more): the historic bug is back\n"
	"  --kind KIND       only this kind of machine: hw, sw, home\n"
	"  --engine ENGINE   hash (default), dpor, sleep, random, pct\n"
	"  --bound N         hash: at most N preemptions, or none: no bound (default: none, but\n"
	"                    for scenarios that have one of their own); pct: its depth (3)\n"
	"  --seconds N       for each scenario and kind; 0: no limit (default 60)\n"
	"  --runs N          random, pct: so many runs (default 10000)\n"
	"  --seed N          random, pct\n"
	"  --full            nothing is composed: locks and objects step by step\n"
	"  --jobs N          processes (default: one for each CPU)\n"
	"  --json            one JSON object instead of a table: all of it, and the traces\n"
	"  --html FILE       a page that shows the first violation, or else one run, as a picture\n"
	"  --save FILE       the first violation as a replay file; a folder: one file for each\n"
	"  --replay FILE     run a saved violation again, step for step\n"
	"\n"
	"Exit status: 0 nothing found, everything visited; 1 a violation; 2 bad input;\n"
	"3 nothing found, but not everything was visited.\n";

int cli_error(const char *fmt, ...)
{
	va_list ap;

	fputs("quire: explore: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_USAGE;
}

/* ---- values ---- */

static int number(const char *option, const char *text, u64 most, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end)
		return cli_error("%s '%s': not a number", option, text);
	if (errno || *value > most)
		return cli_error("%s '%s': too large", option, text);
	return 0;
}

static int set_off(struct cli_options *o, const char *name)
{
	for (u32 m = 0; m < NR_MECHANISMS; m++) {
		if (!strcasecmp(name, mechanism_info[m].name)) {
			o->off |= BIT(m);
			return 0;
		}
	}
	return cli_error("--off '%s': no such mechanism; --list names them", name);
}

static int set_engine(struct cli_options *o, const char *name)
{
	static const enum x_engine offered[] = { X_HASH, X_DPOR, X_SLEEP, X_RANDOM, X_PCT };

	for (u32 i = 0; i < ARRAY_SIZE(offered); i++) {
		if (!strcmp(name, x_engine_name[offered[i]])) {
			o->x.engine = offered[i];
			return 0;
		}
	}
	return cli_error("--engine '%s': hash, dpor, sleep, random and pct exist", name);
}

static int set_kind(struct cli_options *o, const char *name)
{
	for (u32 k = 0; k < NR_SCENARIO_KINDS; k++) {
		if (!strcmp(name, scenario_kind_name[k])) {
			o->kinds |= BIT(k);
			return 0;
		}
	}
	return cli_error("--kind '%s': hw, sw and home exist", name);
}

static int set_number(struct cli_options *o, const char *name, const char *text)
{
	u64 v = 0;
	int e = number(name, text, strcmp(name, "--seed") ? 1000000000 : ~0ull, &v);

	if (e)
		return e;
	if (!strcmp(name, "--bound")) {
		o->x.bound = (s32)v;
		o->has_bound = true;
	} else if (!strcmp(name, "--seconds")) {
		o->x.max_seconds = (double)v;
		o->has_seconds = true;
	} else if (!strcmp(name, "--seed")) {
		o->x.seed = v;
		o->has_seed = true;
	} else if (!strcmp(name, "--runs")) {
		o->x.max_executions = v;
		o->has_runs = true;
		if (!v)
			return cli_error("--runs '0': must be more than zero");
	} else {
		if (!v || v > MAX_JOBS)
			return cli_error("--jobs '%s': 1 to %u", text, MAX_JOBS);
		o->jobs = (u32)v;
	}
	return 0;
}

static int set_value(struct cli_options *o, const char *name, const char *value)
{
	if (!strcmp(name, "--off"))
		return set_off(o, value);
	if (!strcmp(name, "--engine"))
		return set_engine(o, value);
	if (!strcmp(name, "--kind"))
		return set_kind(o, value);
	if (!strcmp(name, "--html"))
		o->html = value;
	else if (!strcmp(name, "--save"))
		o->save = value;
	else if (!strcmp(name, "--replay"))
		o->replay = value;
	else if (!strcmp(name, "--bound") && !strcmp(value, "none"))
		o->has_bound = true;
	else
		return set_number(o, name, value);
	return 0;
}

static bool takes_value(const char *name)
{
	static const char *const names[] = { "--off",  "--engine", "--kind",  "--html",
					     "--save", "--replay", "--bound", "--seconds",
					     "--seed", "--runs",   "--jobs" };

	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static bool set_plain(struct cli_options *o, const char *name)
{
	if (!strcmp(name, "--list"))
		o->list = true;
	else if (!strcmp(name, "--json"))
		o->json = true;
	else if (!strcmp(name, "--full"))
		o->full = true;
	else if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		o->help = true;
	else
		return false;
	return true;
}

/* ---- what goes together ---- */

static bool samples(const struct cli_options *o)
{
	return o->x.engine == X_RANDOM || o->x.engine == X_PCT;
}

static int check_replay(const struct cli_options *o)
{
	if (o->nr_scenarios || o->kinds || o->off || o->full)
		return cli_error("--replay: the file says which scenario, machine and switches");
	if (o->save || o->list || o->has_bound || o->has_seed || o->has_runs)
		return cli_error("--replay goes with --json and --html only");
	return 0;
}

static int check(struct cli_options *o)
{
	const char *engine = x_engine_name[o->x.engine];

	if (o->replay)
		return check_replay(o);
	if (o->x.bound >= 0 && (o->x.engine == X_DPOR || o->x.engine == X_SLEEP))
		return cli_error("--bound with --engine %s: what it leaves out under a bound is "
				 "not known to be safe; use hash",
				 engine);
	if (o->x.bound >= 0 && o->x.engine == X_RANDOM)
		return cli_error("--bound means nothing to --engine random");
	if ((o->has_seed || o->has_runs) && !samples(o))
		return cli_error("%s: only for --engine random and pct",
				 o->has_seed ? "--seed" : "--runs");
	if (o->x.engine == X_PCT && !o->has_bound)
		o->x.bound = DEFAULT_DEPTH;
	if (o->x.engine == X_PCT && o->x.bound < 1)
		return cli_error("--bound: the depth of pct is 1 or more");
	return 0;
}

static int name_scenario(struct cli_options *o, const char *name)
{
	const struct scenario *s = scenario_find(name);

	if (!s)
		return cli_error("no scenario '%s'; --list names them", name);
	for (u32 i = 0; i < o->nr_scenarios; i++)
		if (o->scenario[i] == s)
			return 0;
	o->scenario = realloc(o->scenario, (o->nr_scenarios + 1) * sizeof(*o->scenario));
	if (!o->scenario)
		return cli_error("%s", strerror(ENOMEM));
	o->scenario[o->nr_scenarios++] = s;
	return 0;
}

static int parse_option(struct cli_options *o, char **argv, int argc, int *i)
{
	char *arg = argv[*i], *value = strchr(arg, '=');
	char name[32];

	if (set_plain(o, arg))
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)(value ? value - arg : (long)strlen(arg)), arg);
	if (!takes_value(name))
		return cli_error("unknown option '%s'", arg);
	if (value)
		return set_value(o, name, value + 1);
	if (*i + 1 >= argc)
		return cli_error("%s needs a value", name);
	return set_value(o, name, argv[++*i]);
}

int cli_parse(int argc, char **argv, struct cli_options *o)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	bool names_only = false;
	int e = 0;

	*o = (struct cli_options){ .jobs = cpus > 0 ? (u32)cpus : 1 };
	o->x = (struct x_options){ .bound = -1, .max_seconds = DEFAULT_SECONDS };
	for (int i = 1; i < argc && !e; i++) {
		if (names_only || argv[i][0] != '-')
			e = name_scenario(o, argv[i]);
		else if (!strcmp(argv[i], "--"))
			names_only = true;
		else
			e = parse_option(o, argv, argc, &i);
		if (o->help) {
			fputs(cli_usage, stdout);
			return 0;
		}
	}
	if (!e)
		e = check(o);
	return e ? e : -1;
}
