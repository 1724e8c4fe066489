/*
 * cli_view.c - a trace as a picture's rows and columns: who runs where, and which steps tell
 * something.
 *
 * A replay records each point that an actor passes, hundreds of them. Those that say nothing (no
 * note, no watched change, no lock that readers know) are dull: printers leave them out, the page
 * hides them until it is asked.
 */
#include "explore/cli.h"

#include <stdlib.h>
#include <string.h>

/* Locks whose taking explains a race; the others are the allocator's and the like. */
static const char *const telling_locks[] = { "SPACE", "VMA", "FOLIO",       "ANON_VMA",
					     "PMD",   "PTE", "SWAP_CLUSTER" };

static void *must_alloc(size_t n)
{
	void *p = calloc(1, n);

	if (!p) {
		fprintf(stderr, "quire: explore: out of memory\n");
		exit(CLI_UNFINISHED);
	}
	return p;
}

static char *must_dup(const char *s)
{
	return strcpy(must_alloc(strlen(s) + 1), s);
}

static bool telling_lock(const char *what)
{
	size_t n;

	if (strncmp(what, "lock ", 5))
		return false;
	what += 5;
	n = strcspn(what, " ");
	for (u32 i = 0; i < ARRAY_SIZE(telling_locks); i++)
		if (strlen(telling_locks[i]) == n && !strncmp(what, telling_locks[i], n))
			return true;
	return false;
}

static bool is_dull(const struct x_trace *t, u32 i)
{
	const struct x_trace_step *s = &t->step[i];

	if (s->nr_notes || s->is_choice || telling_lock(s->what) || i + 1 == t->nr_steps)
		return false;
	for (u32 w = 0; w < t->nr_watches; w++)
		if (s->watch[w])
			return false;
	return true;
}

/* ---- columns ---- */

static struct cli_column *add_column(struct cli_view *v, u32 actor, const char *title)
{
	struct cli_column *c = &v->column[v->nr_columns++];
	char unit[32];

	snprintf(unit, sizeof(unit), "CPU%u", v->t->actor[actor].cpu);
	c->title = must_dup(title);
	c->unit = must_dup(unit);
	c->actors = BIT(actor);
	return c;
}

static bool acts(const struct x_trace *t, u32 actor)
{
	for (u32 i = 0; i < t->nr_steps; i++)
		if (t->step[i].actor == actor && !is_dull(t, i))
			return true;
	return false;
}

/* "CPU1 irq" runs on CPU1: in the column of what it interrupts. */
static void place_agent(struct cli_view *v, u32 p)
{
	const char *name = v->t->actor[p].name;
	size_t unit = strcspn(name, " ");

	for (u32 i = 0; i < v->nr_columns; i++) {
		u32 owner = (u32)__builtin_ctz(v->column[i].actors);

		if (v->t->actor[owner].cpu != v->t->actor[p].cpu)
			continue;
		v->column[i].actors |= BIT(p);
		if (unit < strlen(name)) {
			free(v->column[i].unit);
			v->column[i].unit = must_dup(name);
			v->column[i].unit[unit] = 0;
		}
		return;
	}
	if (acts(v->t, p))
		add_column(v, p, name);
}

static u32 column_of(const struct cli_view *v, u32 actor)
{
	for (u32 i = 0; i < v->nr_columns; i++)
		if (v->column[i].actors & BIT(actor))
			return i;
	return 0;
}

void cli_view_make(struct cli_view *v, const struct x_trace *t)
{
	u32 last = ~0u;

	*v = (struct cli_view){ .t = t };
	for (u32 p = 0; p < t->nr_actors; p++)
		if (!t->actor[p].agent)
			add_column(v, p, t->actor[p].name);
	for (u32 p = 0; p < t->nr_actors; p++)
		if (t->actor[p].agent)
			place_agent(v, p);
	v->shown = must_alloc((t->nr_steps + 1) * sizeof(*v->shown));
	for (u32 i = 0; i < t->nr_steps; i++) {
		struct cli_shown *s = &v->shown[i];

		s->step = i;
		s->column = column_of(v, t->step[i].actor);
		s->dull = is_dull(t, i);
		s->switch_ = t->step[i].actor != last && i;
		last = t->step[i].actor;
	}
}

void cli_view_free(struct cli_view *v)
{
	for (u32 i = 0; i < v->nr_columns; i++) {
		free(v->column[i].title);
		free(v->column[i].unit);
	}
	free(v->shown);
}

char *cli_step_text(const struct x_trace *t, u32 step)
{
	const struct x_trace_step *s = &t->step[step];
	size_t n = strlen(s->what) + strlen(s->where) + 16;
	char *text;

	for (u32 i = 0; i < s->nr_notes; i++)
		n += strlen(s->note[i]) + 2;
	text = must_alloc(n);
	for (u32 i = 0; i < s->nr_notes; i++) {
		strcat(text, i ? "; " : "");
		strcat(text, s->note[i]);
	}
	if (!s->nr_notes) {
		strcat(text, s->what);
		if (*s->where && strncmp(s->what, "lock ", 5)) {
			strcat(text, ", in ");
			strcat(text, s->where);
		}
	}
	return text;
}
