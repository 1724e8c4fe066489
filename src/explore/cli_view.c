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

/* An access of base/atomic.h: the bytes tell less than the function that it is in. */
static bool is_plain_access(const char *what)
{
	return strstr(what, " bytes at 0x");
}

/* Where a watched entry lies is seen from a step that changes it. */
static void find_entries(struct cli_view *v)
{
	const struct x_trace *t = v->t;

	for (u32 w = 0; w < t->nr_watches && v->nr_entries < CLI_MAX_ENTRIES; w++) {
		if (strcmp(t->watch[w].group, "entry"))
			continue;
		for (u32 i = 0; i < t->nr_steps; i++) {
			if (!t->step[i].watch[w] || !is_plain_access(t->step[i].what))
				continue;
			v->entry[v->nr_entries].obj = t->step[i].obj;
			v->entry[v->nr_entries++].watch = w;
			break;
		}
	}
}

/* The watched entry that the step only reads; NULL: none. */
static const struct x_trace_watch *entry_read(const struct cli_view *v, u32 step)
{
	const struct x_trace_step *s = &v->t->step[step];

	if (strncmp(s->what, "read ", 5) || !is_plain_access(s->what))
		return NULL;
	for (u32 i = 0; i < v->nr_entries; i++)
		if (v->entry[i].obj == s->obj)
			return &v->t->watch[v->entry[i].watch];
	return NULL;
}

/* It says something by itself: a note, a choice, a watched change or look, the end. */
static bool speaks(const struct cli_view *v, u32 i)
{
	const struct x_trace *t = v->t;
	const struct x_trace_step *s = &t->step[i];

	if (entry_read(v, i))
		return true;
	if (s->nr_notes || s->is_choice || i + 1 == t->nr_steps)
		return true;
	for (u32 w = 0; w < t->nr_watches; w++)
		if (s->watch[w])
			return true;
	return false;
}

/* Something happens while the lock taken in step i is held: its holder speaks or is interrupted. */
static bool matters(const struct cli_view *v, u32 i)
{
	const struct x_trace *t = v->t;
	const struct x_trace_step *s = &t->step[i];

	if (!telling_lock(s->what))
		return false;
	for (u32 k = i + 1; k < t->nr_steps; k++) {
		const struct x_trace_step *o = &t->step[k];

		if (o->actor != s->actor || speaks(v, k))
			return true;
		if (o->obj == s->obj && !strncmp(o->what, "unlock ", 7))
			return false;
	}
	return true;
}

static bool is_dull(const struct cli_view *v, u32 i)
{
	return !speaks(v, i) && !matters(v, i);
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

static bool acts(const struct cli_view *v, u32 actor)
{
	for (u32 i = 0; i < v->t->nr_steps; i++)
		if (v->t->step[i].actor == actor && !is_dull(v, i))
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
	if (acts(v, p))
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
	find_entries(v);
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
		s->dull = is_dull(v, i);
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

static const char *value_before(const struct x_trace *t, u32 step, u32 watch)
{
	while (step--)
		if (t->step[step].watch[watch])
			return t->step[step].watch[watch];
	return t->watch[watch].start;
}

/* Without blanks at the end: a lock may have no name. */
static int words_length(const char *what)
{
	size_t n = strlen(what);

	while (n && what[n - 1] == ' ')
		n--;
	return (int)n;
}

char *cli_step_text(const struct cli_view *v, u32 step)
{
	const struct x_trace_step *s = &v->t->step[step];
	const struct x_trace_watch *entry = entry_read(v, step);
	const char *value = entry ? value_before(v->t, step, (u32)(entry - v->t->watch)) : "";
	size_t n = strlen(s->what) + strlen(s->where) + strlen(value) + 64;
	char *text;

	for (u32 i = 0; i < s->nr_notes; i++)
		n += strlen(s->note[i]) + 2;
	text = must_alloc(n);
	for (u32 i = 0; i < s->nr_notes; i++) {
		strcat(text, i ? "; " : "");
		strcat(text, s->note[i]);
	}
	if (s->nr_notes)
		return text;
	if (entry)
		sprintf(text, "reads entry %.20s: %s, in %s()", entry->name, value, s->where);
	else if (*s->where && is_plain_access(s->what))
		sprintf(text, "%s()", s->where);
	else if (*s->where && strncmp(s->what, "lock ", 5))
		sprintf(text, "%.*s in %s()", words_length(s->what), s->what, s->where);
	else
		strcpy(text, s->what);
	return text;
}

/* ---- changes ---- */

#define MAX_PIECES 24u
#define PIECE_MAX  80u

/* "refs 1, mapped 1, lru; 0x7" in its pieces. */
struct pieces {
	u32 n;
	char piece[MAX_PIECES][PIECE_MAX];
};

static void split(struct pieces *p, const char *value)
{
	p->n = 0;
	while (*value && p->n < MAX_PIECES) {
		size_t len = strcspn(value, ",;");

		snprintf(p->piece[p->n++], PIECE_MAX, "%.*s", (int)len, value);
		value += len;
		value += strspn(value, ",; ");
	}
}

/* The same thing with another number: equal first words, or numbers both. */
static bool same_subject(const char *a, const char *b)
{
	size_t n = strcspn(a, " ");

	if (a[0] == '0' && b[0] == '0')
		return true;
	return a[n] && strcspn(b, " ") == n && !strncmp(a, b, n);
}

static const char *find_piece(const struct pieces *p, const char *text, bool subject)
{
	for (u32 i = 0; i < p->n; i++)
		if (subject ? same_subject(p->piece[i], text) : !strcmp(p->piece[i], text))
			return p->piece[i];
	return NULL;
}

static const char *number_of(const char *piece)
{
	return piece[strcspn(piece, " ")] ? piece + strcspn(piece, " ") + 1 : piece;
}

static void difference(const char *was, const char *now, char *buf, size_t n)
{
	struct pieces a, b;
	size_t at = 0;

	split(&a, was);
	split(&b, now);
	buf[0] = 0;
	for (u32 i = 0; i < b.n && at < n; i++) {
		const char *old = find_piece(&a, b.piece[i], true);

		if (find_piece(&a, b.piece[i], false))
			continue;
		if (old)
			at += (size_t)snprintf(buf + at, n - at, "%s%s -> %s", at ? ", " : "", old,
					       number_of(b.piece[i]));
		else
			at += (size_t)snprintf(buf + at, n - at, "%s+%s", at ? ", " : "",
					       b.piece[i]);
	}
	for (u32 i = 0; i < a.n && at < n; i++)
		if (!find_piece(&b, a.piece[i], false) && !find_piece(&b, a.piece[i], true))
			at += (size_t)snprintf(buf + at, n - at, "%s-%s", at ? ", " : "",
					       a.piece[i]);
}

char *cli_change_text(const struct x_trace *t, u32 step, u32 watch, char *buf, size_t n)
{
	const char *now = t->step[step].watch[watch];
	const char *was = value_before(t, step, watch);

	if (strpbrk(was, ",;") && strpbrk(now, ",;"))
		difference(was, now, buf, n);
	else
		snprintf(buf, n, "%s -> %s", was, now);
	return buf;
}
