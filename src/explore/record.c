/*
 * record.c - the trace of a replayed run: operations in words, notes, watched state.
 */
#include "explore/record.h"
#include "explore/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_CHARS 256

static struct x_trace *trace;
static char (*watched)[WATCH_CHARS]; /* values as they were last */
static u32 last_actor;

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "explore: out of memory\n");
		exit(3);
	}
	return p;
}

void x_watch(const char *group, const char *name, void (*print)(void *arg, char *buf, size_t n),
	     void *arg)
{
	if (x.nr_watches == ARRAY_SIZE(x.watch))
		return;
	x.watch[x.nr_watches].group = group;
	x.watch[x.nr_watches].name = name;
	x.watch[x.nr_watches].print = print;
	x.watch[x.nr_watches++].arg = arg;
}

bool x_noting(void)
{
	return x.recording && x.mode == M_RUN;
}

void x_note(const char *fmt, ...)
{
	struct x_trace_step *s;
	char buf[256];
	va_list ap;

	if (!x_noting() || !trace->nr_steps)
		return;
	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	s = &trace->step[trace->nr_steps - 1];
	s->note = must(realloc(s->note, (s->nr_notes + 1) * sizeof(*s->note)));
	s->note[s->nr_notes++] = must(strdup(buf));
}

static char *watch_now(u32 i, char *buf)
{
	buf[0] = 0;
	x.watch[i].print(x.watch[i].arg, buf, WATCH_CHARS);
	return buf;
}

void record_begin(const char *program)
{
	trace = must(calloc(1, sizeof(*trace)));
	trace->program = must(strdup(program));
	trace->nr_actors = x.nr;
	trace->actor = must(calloc(x.nr + 1, sizeof(*trace->actor)));
	for (u32 p = 0; p < x.nr; p++) {
		trace->actor[p].name = must(strdup(x.info[p].name));
		trace->actor[p].cpu = x.info[p].cpu;
		trace->actor[p].agent = x.info[p].flags & X_AGENT;
	}
	trace->nr_watches = x.nr_watches;
	trace->watch = must(calloc(x.nr_watches + 1, sizeof(*trace->watch)));
	watched = must(calloc(x.nr_watches + 1, sizeof(*watched)));
	for (u32 i = 0; i < x.nr_watches; i++) {
		trace->watch[i].group = must(strdup(x.watch[i].group));
		trace->watch[i].name = must(strdup(x.watch[i].name));
		trace->watch[i].start = must(strdup(watch_now(i, watched[i])));
	}
	last_actor = X_MAX_ACTORS;
	x.recording = true;
}

static const char *const access_words[] = { "read", "write", "update", "count" };

/* The operation in words. */
static char *op_text(const struct op *op, const struct x_decision *d)
{
	const char *what = op->what ? op->what : "";
	char buf[256];

	switch (op->kind) {
	case OP_START:
		snprintf(buf, sizeof(buf), "begins");
		break;
	case OP_LOCK:
		snprintf(buf, sizeof(buf), "lock %s%s", what,
			 op->access == BASE_COUNT ? " for reading" : "");
		break;
	case OP_UNLOCK:
		snprintf(buf, sizeof(buf), "unlock %s", what);
		break;
	case OP_CHOOSE:
		snprintf(buf, sizeof(buf), "%s: %u", what, d->choice);
		break;
	case OP_ACCESS:
		if (op->what) {
			snprintf(buf, sizeof(buf), "%s", what);
			break;
		}
		snprintf(buf, sizeof(buf), "%s %u bytes at %#lx: %#lx", access_words[op->access],
			 op->size, op->addr - X_BASE,
			 op->size == 4 ? *(u32 *)op->addr : *(u64 *)(op->addr & ~7ul));
		break;
	default:
		snprintf(buf, sizeof(buf), "%s", what);
	}
	return must(strdup(buf));
}

/* A new step, of actor p, that begins with op. */
static struct x_trace_step *add_step(u32 p, const struct op *op, const struct x_decision *d)
{
	struct x_trace_step *s;

	trace->step = must(realloc(trace->step, (trace->nr_steps + 1) * sizeof(*trace->step)));
	s = &trace->step[trace->nr_steps++];
	memset(s, 0, sizeof(*s));
	s->actor = p;
	s->obj = in_arena(op->addr) ? op->addr - X_BASE : 0;
	s->what = op_text(op, d);
	s->where = symbol_name(op->pc);
	s->watch = must(calloc(trace->nr_watches + 1, sizeof(*s->watch)));
	return s;
}

void record_before(const struct x_decision *d)
{
	struct x_trace_step *s;
	u32 p = d->actor;

	if (!x.recording || p >= x.nr)
		return;
	s = add_step(p, &x.actor[p].op, d);
	s->decision = true;
	s->is_choice = d->is_choice;
	s->choice = d->choice;
	s->fingerprint = d->fingerprint;
	s->preempts =
		last_actor < x.nr && last_actor != p && !s->is_choice && actor_enabled(last_actor);
	last_actor = p;
}

/* Printers of watches read the arena: nothing that they do is the actor's. */
void record_on(const struct op *op)
{
	static const struct x_decision none;
	enum x_mode mode = x.mode;

	x.mode = M_OFF;
	record_after();
	add_step(x.self, op, &none);
	x.mode = mode;
}

void record_after(void)
{
	struct x_trace_step *s;
	char buf[WATCH_CHARS];

	if (!x.recording || !trace->nr_steps)
		return;
	s = &trace->step[trace->nr_steps - 1];
	for (u32 i = 0; i < x.nr_watches; i++) {
		if (strcmp(watch_now(i, buf), watched[i])) {
			memcpy(watched[i], buf, sizeof(buf));
			s->watch[i] = must(strdup(buf));
		}
	}
}

static void step_free(struct x_trace_step *s, u32 nr_watches)
{
	for (u32 j = 0; j < s->nr_notes; j++)
		free(s->note[j]);
	for (u32 j = 0; j < nr_watches; j++)
		free(s->watch[j]);
	free(s->note);
	free(s->watch);
	free(s->what);
	free(s->where);
}

void record_again(void)
{
	for (u32 i = 0; i < trace->nr_steps; i++)
		step_free(&trace->step[i], trace->nr_watches);
	trace->nr_steps = 0;
	search_rewind();
	for (u32 i = 0; i < x.nr_watches; i++)
		watch_now(i, watched[i]);
	last_actor = X_MAX_ACTORS;
}

struct x_trace *record_end(const char *message)
{
	struct x_trace *t = trace;

	t->message = must(strdup(message));
	free(watched);
	trace = NULL;
	x.recording = false;
	return t;
}

void x_trace_free(struct x_trace *t)
{
	if (!t)
		return;
	for (u32 i = 0; i < t->nr_actors; i++)
		free(t->actor[i].name);
	for (u32 i = 0; i < t->nr_watches; i++) {
		free(t->watch[i].group);
		free(t->watch[i].name);
		free(t->watch[i].start);
	}
	for (u32 i = 0; i < t->nr_steps; i++)
		step_free(&t->step[i], t->nr_watches);
	free(t->actor);
	free(t->watch);
	free(t->step);
	free(t->program);
	free(t->message);
	free(t);
}
