/* cli_html.c - a trace as one page that needs nothing else: the page of page/ with its data. */
#include "explore/cli.h"
#include "explore/page.h"

#include <errno.h>
#include <string.h>

static const char *const kind_text[NR_SCENARIO_KINDS] = {
	[ON_HW] = "Frames anywhere; the hardware's walk sets accessed and dirty bits.",
	[ON_SW] = "Frames anywhere; the core keeps accessed and dirty bits, by faults.",
	[ON_HOME] = "A page's frame is the memory at its own address, as on the host machine.",
};

static void text(FILE *f, const char *key, const char *value)
{
	fprintf(f, "\"%s\": ", key);
	cli_json_string(f, value);
	fputs(",\n", f);
}

/* What is one step here that is several in the product. */
static const char *words_of(const struct cli_row *row, char *buf, size_t n)
{
	const struct scenario *s = row->scenario;
	size_t at;

	if (row->full)
		return "Nothing is composed: locks and objects as the product has them.";
	at = (size_t)snprintf(buf, n, "%s; %s.",
			      s->flags & X_REAL_LOCKS ?
				      "Locks are the product's, step by step" :
				      "A lock is taken in one step, when it is free",
			      s->flags & X_REAL_OBJECTS ? "freed objects are used again" :
							  "freed objects are never used again");
	for (u32 i = 0; i < s->nr_composed && at < n; i++)
		at += (size_t)snprintf(buf + at, n - at, "%s%s",
				       i ? ", " : " Critical sections that are one step: ",
				       lock_class_name((enum lock_class)s->composed[i]));
	return buf;
}

static void write_data(FILE *f, const struct cli_row *row)
{
	const char *comma = "";
	char words[600];

	fputs("{", f);
	text(f, "scenario", row->scenario->name);
	text(f, "title", row->scenario->title);
	text(f, "picture", row->scenario->picture ? row->scenario->picture : "");
	text(f, "kind", scenario_kind_name[row->kind]);
	text(f, "kind_text", kind_text[row->kind]);
	text(f, "words", words_of(row, words, sizeof(words)));
	fputs("\"off\": [", f);
	for (u32 m = 0; m < NR_MECHANISMS; m++) {
		if (!(row->off & BIT(m)))
			continue;
		fprintf(f, "%s{", comma);
		text(f, "name", mechanism_info[m].name);
		text(f, "commit", mechanism_info[m].commit);
		fputs("\"text\": ", f);
		cli_json_string(f, mechanism_info[m].text);
		fputs("}", f);
		comma = ", ";
	}
	fputs("],\n\"trace\": ", f);
	cli_json_trace(f, row);
	fputs("}", f);
}

int cli_html(const char *path, const struct cli_row *row)
{
	FILE *f = fopen(path, "we");
	bool bad;

	if (!f)
		return cli_error("--html '%s': %s", path, strerror(errno));
	fputs(cli_page_before, f);
	write_data(f, row);
	fputs(cli_page_after, f);
	bad = ferror(f);
	if (fclose(f) || bad)
		return cli_error("--html '%s': %s", path, strerror(errno));
	return 0;
}
