/* cli_json.c - rows and traces as JSON. */
#include "explore/cli.h"

#include <stdlib.h>
#include <string.h>

void cli_json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c == '\n')
			fputs("\\n", f);
		/* '<' could end a script that the text stands in. */
		else if (c < 0x20 || c == '<' || c >= 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

/* "key": "value", with a comma before it unless it is the first. */
static void pair(FILE *f, const char *comma, const char *key, const char *value)
{
	fprintf(f, "%s\"%s\": ", comma, key);
	cli_json_string(f, value);
}

/* A list of names of switches. */
static void switches(FILE *f, const char *key, u64 mask)
{
	const char *comma = "";

	fprintf(f, ", \"%s\": [", key);
	for (u32 m = 0; m < NR_MECHANISMS; m++) {
		if (!(mask & BIT(m)))
			continue;
		fputs(comma, f);
		cli_json_string(f, mechanism_info[m].name);
		comma = ", ";
	}
	fprintf(f, "]");
}

static void composed(FILE *f, const struct scenario *s, bool full)
{
	fprintf(f, ", \"composed\": [");
	for (u32 i = 0; i < s->nr_composed && !full; i++) {
		fputs(i ? ", " : "", f);
		cli_json_string(f, lock_class_name((enum lock_class)s->composed[i]));
	}
	fprintf(f, "]");
}

/* ---- a trace ---- */

static void actors(FILE *f, const struct cli_view *v)
{
	const struct x_trace *t = v->t;

	fprintf(f, "\"columns\": [");
	for (u32 i = 0; i < v->nr_columns; i++) {
		pair(f, i ? ", {" : "{", "title", v->column[i].title);
		pair(f, ", ", "unit", v->column[i].unit);
		fprintf(f, "}");
	}
	fprintf(f, "],\n \"actors\": [");
	for (u32 i = 0; i < t->nr_actors; i++) {
		pair(f, i ? ", {" : "{", "name", t->actor[i].name);
		fprintf(f, ", \"cpu\": %u, \"agent\": %s}", t->actor[i].cpu,
			t->actor[i].agent ? "true" : "false");
	}
	fprintf(f, "],\n \"watches\": [");
	for (u32 i = 0; i < t->nr_watches; i++) {
		pair(f, i ? ", {" : "{", "group", t->watch[i].group);
		pair(f, ", ", "name", t->watch[i].name);
		pair(f, ", ", "start", t->watch[i].start);
		fprintf(f, "}");
	}
	fprintf(f, "],\n \"steps\": [");
}

static void step(FILE *f, const struct cli_view *v, u32 i)
{
	const struct x_trace_step *s = &v->t->step[i];
	const struct cli_shown *sh = &v->shown[i];
	char *text = cli_step_text(v, i), change[512];
	const char *comma = "";

	fprintf(f, "%s\n  {\"n\": %u, \"actor\": %u, \"column\": %u", i ? "," : "", i + 1, s->actor,
		sh->column);
	pair(f, ", ", "text", text);
	pair(f, ", ", "what", s->what);
	pair(f, ", ", "where", s->where);
	if (s->is_choice)
		fprintf(f, ", \"choice\": %u", s->choice);
	fprintf(f, ", \"object\": %llu, \"decision\": %s", (unsigned long long)s->obj,
		s->decision ? "true" : "false");
	fprintf(f, ", \"dull\": %s, \"preempts\": %s, \"notes\": [", sh->dull ? "true" : "false",
		s->preempts ? "true" : "false");
	for (u32 k = 0; k < s->nr_notes; k++) {
		fputs(k ? ", " : "", f);
		cli_json_string(f, s->note[k]);
	}
	fprintf(f, "], \"changes\": [");
	for (u32 w = 0; w < v->t->nr_watches; w++) {
		if (!s->watch[w])
			continue;
		fprintf(f, "%s{\"watch\": %u, ", comma, w);
		pair(f, "", "value", s->watch[w]);
		pair(f, ", ", "text", cli_change_text(v->t, i, w, change, sizeof(change)));
		fprintf(f, "}");
		comma = ", ";
	}
	fprintf(f, "]}");
	free(text);
}

void cli_json_trace(FILE *f, const struct cli_row *row)
{
	struct cli_view v;

	cli_view_make(&v, row->trace);
	fprintf(f, "{");
	actors(f, &v);
	for (u32 i = 0; i < v.t->nr_steps; i++)
		step(f, &v, i);
	fprintf(f, "],\n ");
	pair(f, "", "message", v.t->message);
	fprintf(f, "}");
	cli_view_free(&v);
}

/* ---- rows ---- */

static void json_row(FILE *f, const struct cli_run *c, const struct cli_row *row)
{
	const struct x_result *r = &row->r;
	char verdict[700];

	pair(f, "{", "scenario", row->scenario->name);
	pair(f, ", ", "title", row->scenario->title);
	pair(f, ", ", "kind", scenario_kind_name[row->kind]);
	switches(f, "off", row->off);
	composed(f, row->scenario, row->full);
	if (row->bound >= 0)
		fprintf(f, ", \"bound\": %d", row->bound);
	else
		fprintf(f, ", \"bound\": null");
	pair(f, ",\n ", "verdict", cli_verdict_word(row));
	pair(f, ", ", "words", cli_verdict(row, c->o, verdict, sizeof(verdict)));
	pair(f, ", ", "why", row->why);
	pair(f, ", ", "message", r->message);
	fprintf(f,
		",\n \"steps\": %llu, \"states\": %llu, \"executions\": %llu, \"pruned\": %llu, "
		"\"outcomes\": %llu, \"outcome_sum\": \"%016llx\",\n \"all_steps\": %llu, "
		"\"passes\": %llu, \"shared_words\": %llu, \"locked_words\": %llu, "
		"\"race_runs\": %llu, \"race_all\": %s, \"seconds\": %.6f, "
		"\"cpu_seconds\": %.6f,\n \"trace\": ",
		(unsigned long long)r->depth, (unsigned long long)r->states,
		(unsigned long long)r->executions, (unsigned long long)r->pruned,
		(unsigned long long)r->outcomes, (unsigned long long)r->outcome_sum,
		(unsigned long long)r->steps, (unsigned long long)r->passes,
		(unsigned long long)r->shared, (unsigned long long)r->locked,
		(unsigned long long)r->race_runs, r->race_all ? "true" : "false", r->seconds,
		row->cpu_seconds);
	if (row->trace)
		cli_json_trace(f, row);
	else
		fprintf(f, "null");
	fprintf(f, "}");
}

void cli_json(FILE *f, const struct cli_run *c, int status)
{
	const struct cli_options *o = c->o;

	fprintf(f, "{\"format\": \"quire-explore\", \"version\": 1, \"engine\": \"%s\", ",
		o->replay ? "replay" : x_engine_name[o->x.engine]);
	if (o->x.bound >= 0)
		fprintf(f, "\"bound\": %d, ", o->x.bound);
	else
		fprintf(f, "\"bound\": null, ");
	fprintf(f, "\"seed\": %llu, \"full\": %s, \"processes\": %u, \"seconds\": %.6f",
		(unsigned long long)o->x.seed, o->full ? "true" : "false", min(o->jobs, c->nr),
		c->seconds);
	switches(f, "off", c->nr ? c->row[0].off : o->off);
	fprintf(f, ", \"exit_status\": %d,\n\"rows\": [", status);
	for (u32 i = 0; i < c->nr; i++) {
		fprintf(f, "%s\n", i ? "," : "");
		json_row(f, c, &c->row[i]);
	}
	fprintf(f, "\n]}\n");
}

/* ---- the list ---- */

void cli_json_list(FILE *f, const struct cli_options *o)
{
	const char *comma = "";

	fprintf(f, "{\"scenarios\": [");
	for (const struct scenario *s = scenario_first(); s; s = scenario_next(s)) {
		fprintf(f, "%s\n {", comma);
		pair(f, "", "name", s->name);
		pair(f, ", ", "title", s->title);
		pair(f, ", ", "picture", s->picture ? s->picture : "");
		composed(f, s, o->full);
		fprintf(f, ", \"kinds\": [");
		comma = "";
		for (u32 k = 0; k < NR_SCENARIO_KINDS; k++) {
			if (!(s->kinds & BIT(k)))
				continue;
			fprintf(f, "%s{\"kind\": \"%s\"", comma, scenario_kind_name[k]);
			switches(f, "off", cli_off_of(s, k));
			fprintf(f, "}");
			comma = ", ";
		}
		fprintf(f, "]}");
		comma = ",";
	}
	fprintf(f, "\n],\n\"mechanisms\": [");
	for (u32 m = 0; m < NR_MECHANISMS; m++) {
		fprintf(f, "%s\n {", m ? "," : "");
		pair(f, "", "name", mechanism_info[m].name);
		pair(f, ", ", "commit", mechanism_info[m].commit);
		pair(f, ", ", "without", mechanism_info[m].text);
		fprintf(f, "}");
	}
	fprintf(f, "\n]}\n");
}
