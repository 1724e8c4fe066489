/*
 * child.c - measurements in child processes: a time bound each, and nothing of them stays.
 *
 * A child leads a process group of its own, into which everything falls that it starts; when the
 * child has ended, for whatever reason, the group is killed. Every process asks the kernel to be
 * killed when its parent dies, and then looks whether the parent died before that.
 */
#include "bench_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

volatile int bench_signal;
bool bench_cpu_time;

static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

static void on_signal(int number)
{
	bench_signal = number;
}

void bench_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal }; /* no SA_RESTART: waits must end */

	for (size_t i = 0; i < ARRAY_SIZE(caught); i++)
		sigaction(caught[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN); /* a reader that goes away must not skip the cleaning up */
}

double bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double bench_thread_now(void)
{
	struct timespec t;

	clock_gettime(bench_cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void bench_sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

void *bench_shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void bench_fail(struct bench_result *r, const char *format, ...)
{
	va_list args;

	if (r->error[0])
		return; /* the first cause is the one to know */
	va_start(args, format);
	vsnprintf(r->error, sizeof(r->error), format, args);
	va_end(args);
}

void bench_child_begin(pid_t parent)
{
	for (size_t i = 0; i < ARRAY_SIZE(caught); i++)
		signal(caught[i], SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

/*
 * Waits until the child is to be waited for, at most until `deadline`. False: it was killed before
 * that, and why.
 */
static bool await(pid_t pid, double deadline, unsigned limit_s, struct bench_result *r)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	siginfo_t info;

	while (!bench_signal) {
		double left = deadline - bench_now();

		if (left <= 0) {
			bench_fail(r, "took longer than %u s and was ended", limit_s);
			break;
		}
		/* Never longer than half a second: a signal may come just before the poll. */
		if (fd >= 0)
			poll(&p, 1, left < 0.5 ? (int)(left * 1000) + 1 : 500);
		else
			bench_sleep_ms(5);
		info.si_pid = 0;
		if (!waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
			break;
	}
	if (fd >= 0)
		close(fd);
	if (bench_signal)
		bench_fail(r, "interrupted");
	return !r->error[0];
}

void bench_child(unsigned limit_s, void (*fn)(void *ctx, struct bench_result *r), void *ctx,
		 struct bench_result *r)
{
	pid_t parent = getpid();
	double deadline = bench_now() + limit_s;
	int status = 0;
	pid_t pid;

	memset(r, 0, sizeof(*r));
	for (unsigned i = 0; i < BENCH_MAX_ROWS; i++)
		r->value[i] = NAN;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		bench_fail(r, "fork: %s", strerror(errno));
		return;
	}
	if (!pid) {
		setpgid(0, 0);
		bench_child_begin(parent);
		fn(ctx, r);
		_exit(0);
	}
	setpgid(pid, pid);
	await(pid, deadline, limit_s, r);
	/* Not yet reaped, so the number of the process and of its group is still theirs. */
	kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		bench_fail(r, "the measuring process died of signal %d (%s)", WTERMSIG(status),
			   strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		bench_fail(r, "the measuring process ended with status %d", WEXITSTATUS(status));
}

pid_t bench_spawn(const char *const *prefix, const char *const *argv, int out_fd)
{
	const char *all[64];
	unsigned n = 0;
	pid_t parent = getpid();
	pid_t pid;

	for (; prefix && *prefix && n < ARRAY_SIZE(all) - 1; prefix++)
		all[n++] = *prefix;
	for (; *argv && n < ARRAY_SIZE(all) - 1; argv++)
		all[n++] = *argv;
	all[n] = NULL;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		bench_child_begin(parent);
		dup2(null, 0);
		dup2(out_fd >= 0 ? out_fd : null, 1);
		dup2(out_fd >= 0 ? out_fd : null, 2);
		closefrom(3);
		execvp(all[0], (char *const *)all);
		dprintf(2, "%s: %s\n", all[0], strerror(errno));
		_exit(127);
	}
	return pid;
}

int bench_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int bench_run(const char *const *prefix, const char *const *argv, char *out, size_t out_size)
{
	size_t have = 0;
	char part[4096];
	int fds[2];
	pid_t pid;
	ssize_t n;

	out[0] = '\0';
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = bench_spawn(prefix, argv, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return pid;
	}
	while ((n = read(fds[0], part, sizeof(part))) != 0) {
		size_t cut;

		if (n < 0) {
			if (errno == EINTR && !bench_signal)
				continue;
			break;
		}
		/* The end of a long output is what counts. */
		if ((size_t)n >= out_size) {
			memmove(part, part + n - (out_size - 1), out_size - 1);
			n = (ssize_t)out_size - 1;
		}
		cut = have + (size_t)n >= out_size ? have + (size_t)n - (out_size - 1) : 0;
		memmove(out, out + cut, have - cut);
		memcpy(out + have - cut, part, (size_t)n);
		have += (size_t)n - cut;
		out[have] = '\0';
	}
	close(fds[0]);
	return bench_wait(pid);
}

const char *bench_last_line(char *text)
{
	size_t n = strlen(text);
	char *line;

	while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	if (strlen(line) > BENCH_TEXT / 2)
		line[BENCH_TEXT / 2] = '\0';
	return line;
}

bool bench_have(const char *program)
{
	const char *path = getenv("PATH");
	char name[4096];

	while (path && *path) {
		size_t n = strcspn(path, ":");

		snprintf(name, sizeof(name), "%.*s/%s", (int)n, path, program);
		if (!access(name, X_OK))
			return true;
		path += n;
		path += *path == ':';
	}
	return false;
}

struct thread {
	pthread_t id;
	void (*fn)(void *arg, unsigned i, unsigned n);
	void *arg;
	unsigned i, n;
	pthread_barrier_t *gate;
	double begin, end;
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	pthread_barrier_wait(t->gate);
	t->begin = bench_thread_now();
	t->fn(t->arg, t->i, t->n);
	t->end = bench_thread_now();
	return NULL;
}

double bench_threads(unsigned n, void (*fn)(void *arg, unsigned i, unsigned n), void *arg)
{
	struct thread t[16];
	pthread_barrier_t gate;
	double begin = INFINITY, end = 0, longest = 0;

	if (n > ARRAY_SIZE(t) || pthread_barrier_init(&gate, NULL, n))
		return NAN;
	for (unsigned i = 0; i < n; i++) {
		t[i] = (struct thread){ .fn = fn, .arg = arg, .i = i, .n = n, .gate = &gate };
		/* The last part is done by this thread: one thread means no other exists. */
		if (i < n - 1 && pthread_create(&t[i].id, NULL, thread_main, &t[i]))
			_exit(1); /* those that wait at the barrier would wait for ever */
	}
	thread_main(&t[n - 1]);
	for (unsigned i = 0; i < n; i++) {
		if (i < n - 1)
			pthread_join(t[i].id, NULL);
		begin = t[i].begin < begin ? t[i].begin : begin;
		end = t[i].end > end ? t[i].end : end;
		longest = max(longest, t[i].end - t[i].begin);
	}
	pthread_barrier_destroy(&gate);
	return bench_cpu_time ? longest : end - begin; /* threads' own clocks cannot be compared */
}
