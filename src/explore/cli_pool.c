/*
 * cli_pool.c - the rows, each explored in a process of its own, some of them at a time.
 *
 * The engine works at a fixed address and may run out of memory or meet a fault that it does not
 * catch: a process for each row keeps that from the others. A worker writes messages to its pipe:
 * progress now and then, at the end its result, then its decisions.
 */
#include "explore/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_SECONDS 0.2

struct message {
	enum { MSG_PROGRESS, MSG_RESULT } kind;
	u64 states, steps;
	struct x_result r;
	char why[sizeof(((struct cli_row *)0)->why)];
};

struct worker {
	pid_t pid;
	int fd;
	struct cli_row *row;
	u64 states; /* so far */
};

struct pool {
	struct cli_run *c;
	struct worker *worker;
	u32 busy, next, done;
	double began, shown;
	bool terminal;
};

struct reporter {
	int fd;
	double last;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct x_program cli_program(const struct cli_row *row, struct scenario_run *run)
{
	const struct scenario *s = row->scenario;

	*run = (struct scenario_run){ .scenario = s, .kind = row->kind };
	return (struct x_program){
		.name = s->name,
		.setup = scenario_setup,
		.at_step = s->step ? scenario_at_step : NULL,
		.at_end = scenario_at_end,
		.outcome = scenario_outcome,
		.arg = run,
		.off = row->off,
		.composed = s->composed,
		.nr_composed = row->full ? 0 : s->nr_composed,
		.flags = row->full ? X_REAL_LOCKS | X_REAL_OBJECTS : s->flags,
	};
}

/* ---- the worker ---- */

static void put(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			_exit(1);
		p = (const char *)p + k;
		n -= (size_t)k;
	}
}

static void report(void *ctx, const char *phase, u64 states, u64 steps, double seconds)
{
	struct message m = { .kind = MSG_PROGRESS, .states = states, .steps = steps };
	struct reporter *rep = ctx;

	(void)phase;
	if (seconds - rep->last < PROGRESS_SECONDS)
		return;
	rep->last = seconds;
	put(rep->fd, &m, sizeof(m));
}

static void work(const struct cli_run *c, const struct cli_row *row, int fd, bool progress)
{
	struct reporter rep = { .fd = fd };
	struct message m = { .kind = MSG_RESULT };
	struct x_options o = c->o->x;
	struct scenario_run run;
	struct x_program p = cli_program(row, &run);

	o.bound = row->bound;
	if (progress) {
		o.progress = report;
		o.ctx = &rep;
	}
	x_explore(&p, &o, &m.r);
	if (m.r.why_not)
		snprintf(m.why, sizeof(m.why), "%s", m.r.why_not);
	put(fd, &m, sizeof(m));
	put(fd, m.r.decision, m.r.nr_decisions * sizeof(*m.r.decision));
	_exit(0);
}

/* ---- the parent ---- */

static bool get(int fd, void *p, size_t n)
{
	while (n) {
		ssize_t k = read(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		p = (char *)p + k;
		n -= (size_t)k;
	}
	return true;
}

static void lost(struct cli_row *row, const char *why)
{
	row->r.verdict = X_NOT_EXHAUSTED;
	snprintf(row->why, sizeof(row->why), "%s", why);
}

static void start(struct pool *p, struct cli_row *row)
{
	struct worker *w = &p->worker[p->busy];
	int fd[2];

	if (pipe(fd)) {
		lost(row, strerror(errno));
		return;
	}
	fflush(NULL);
	w->pid = fork();
	if (!w->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fd[0]);
		work(p->c, row, fd[1], p->terminal);
	}
	close(fd[1]);
	if (w->pid < 0) {
		lost(row, strerror(errno));
		close(fd[0]);
		return;
	}
	w->fd = fd[0];
	w->row = row;
	w->states = 0;
	p->busy++;
}

static void ended(struct pool *p, u32 i)
{
	struct worker *w = &p->worker[i];
	char why[sizeof(w->row->why)];
	struct rusage used = { 0 };
	int status = 0;

	close(w->fd);
	while (wait4(w->pid, &status, 0, &used) < 0 && errno == EINTR)
		;
	w->row->cpu_seconds = (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec +
			      (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
	if (!w->row->done) {
		if (WIFSIGNALED(status))
			snprintf(why, sizeof(why), "the worker died of signal %d (%s)",
				 WTERMSIG(status), strsignal(WTERMSIG(status)));
		else
			snprintf(why, sizeof(why), "the worker ended with status %d",
				 WEXITSTATUS(status));
		lost(w->row, why);
	}
	p->done++;
	*w = p->worker[--p->busy];
}

/* False: the pipe has ended. */
static bool receive(struct worker *w)
{
	struct cli_row *row = w->row;
	struct message m;
	size_t bytes;

	if (!get(w->fd, &m, sizeof(m)))
		return false;
	w->states = m.states;
	if (m.kind == MSG_PROGRESS)
		return true;
	bytes = m.r.nr_decisions * sizeof(*m.r.decision);
	row->r = m.r;
	row->r.why_not = NULL;
	row->r.decision = malloc(bytes + 1);
	memcpy(row->why, m.why, sizeof(row->why));
	row->done = row->r.decision && get(w->fd, row->r.decision, bytes);
	return row->done;
}

static void show_progress(struct pool *p)
{
	double t = now();

	if (!p->terminal || t - p->shown < PROGRESS_SECONDS)
		return;
	p->shown = t;
	fprintf(stderr, "\r\033[K%u of %u", p->done, p->c->nr);
	for (u32 i = 0; i < p->busy && i < 3; i++) {
		struct worker *w = &p->worker[i];

		fprintf(stderr, " | %s %s", w->row->scenario->name,
			scenario_kind_name[w->row->kind]);
		if (w->states)
			fprintf(stderr, " %.2fM states", (double)w->states / 1e6);
	}
	fprintf(stderr, " | %.0f s", t - p->began);
	fflush(stderr);
}

static void wait_some(struct pool *p, struct pollfd *fds)
{
	for (u32 i = 0; i < p->busy; i++)
		fds[i] = (struct pollfd){ .fd = p->worker[i].fd, .events = POLLIN };
	if (poll(fds, p->busy, p->terminal ? (int)(PROGRESS_SECONDS * 1000) : -1) <= 0)
		return;
	/* From the end: ended() fills the gap with the last one. */
	for (u32 i = p->busy; i-- > 0;)
		if (fds[i].revents && !receive(&p->worker[i]))
			ended(p, i);
}

void cli_explore(struct cli_run *c)
{
	u32 jobs = min(c->o->jobs, c->nr);
	struct pool p = { .c = c, .began = now(), .terminal = isatty(2) };
	struct pollfd *fds = calloc(jobs + 1, sizeof(*fds));

	p.worker = calloc(jobs + 1, sizeof(*p.worker));
	if (!fds || !p.worker) {
		for (u32 i = 0; i < c->nr; i++)
			lost(&c->row[i], strerror(ENOMEM));
		p.next = c->nr;
	}
	while (p.busy || p.next < c->nr) {
		while (p.busy < jobs && p.next < c->nr)
			start(&p, &c->row[p.next++]);
		show_progress(&p);
		if (p.busy)
			wait_some(&p, fds);
	}
	if (p.terminal)
		fputs("\r\033[K", stderr);
	free(fds);
	free(p.worker);
	c->seconds = now() - p.began;
}
