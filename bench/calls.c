/*
 * calls.c - what single calls cost a program under `quire run`, beside the same program alone.
 *
 * The program is this one again (`quire bench --child-calls`): each span of calls is timed inside
 * it, so that starting it does not count.
 */
#include "bench_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the program ---- */

static int zero_fd;
static char *buffer;

static void call_getppid(void)
{
	syscall(SYS_getppid);
}

static void call_read(void)
{
	if (read(zero_fd, buffer, 1) != 1)
		_exit(1);
}

static void call_mmap(void)
{
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || munmap(p, 1 << 20))
		_exit(1);
}

static void on_usr1(int number)
{
}

static void call_raise(void)
{
	raise(SIGUSR1);
}

static void *thread_main(void *arg)
{
	return arg;
}

static void call_thread(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, thread_main, NULL) || pthread_join(t, NULL))
		_exit(1);
}

static void call_fork(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(7);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 7)
		_exit(1);
}

static void call_spawn(void)
{
	static char name[] = "true";
	static char *const argv[] = { name, NULL };
	static char *const envp[] = { NULL };
	int status;
	pid_t pid;

	if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, envp) ||
	    waitpid(pid, &status, 0) != pid)
		_exit(1);
}

static const struct {
	void (*call)(void);
	unsigned count;
} calls[] = {
	{ call_getppid, 100000 }, { call_read, 200000 }, { call_mmap, 30000 },
	{ call_raise, 30000 },    { call_thread, 3000 }, { call_fork, 500 },
	{ call_spawn, 300 },
};

int bench_child_calls(bool quick)
{
	struct sigaction sa = { .sa_handler = on_usr1 };

	/* Large enough to be a mapping of its own, and so managed. */
	buffer = malloc(1 << 20);
	zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (!buffer || zero_fd < 0 || sigaction(SIGUSR1, &sa, NULL))
		return 1;
	memset(buffer, 1, 1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		unsigned count = quick ? calls[i].count / 10 : calls[i].count;
		double begin;

		for (unsigned k = 0; k < count / 20 + 1; k++)
			calls[i].call();
		begin = bench_now();
		for (unsigned k = 0; k < count; k++)
			calls[i].call();
		printf("%.2f\n", (bench_now() - begin) * 1e9 / count);
	}
	return 0;
}

/* ---- measuring it ---- */

static void try_run(void *ctx, struct bench_result *r)
{
	const struct bench *b = ctx;
	const char *const argv[] = { b->self, "run", "--quiet",   "--ram",
				     "64M",   "--",  "/bin/true", NULL };
	char out[1024];
	int status = bench_run(NULL, argv, out, sizeof(out));

	if (status)
		bench_fail(r, "`quire run` does not work here: %s",
			   out[0] ? bench_last_line(out) : "no message");
}

bool bench_can_run(struct bench *b, char *why)
{
	struct bench_result *r;

	if (!b->run_tried) {
		b->run_tried = true;
		r = bench_shared(sizeof(*r));
		if (!r)
			return false;
		bench_child(20, try_run, b, r);
		memcpy(b->run_why, r->error, sizeof(b->run_why));
	}
	memcpy(why, b->run_why, BENCH_TEXT);
	return !why[0];
}

static bool prepare_calls(struct bench *b, enum bench_side side, char *why)
{
	return side != SIDE_OURS || bench_can_run(b, why);
}

static void measure_calls(const struct bench *b, const struct bench_group *g, enum bench_side side,
			  struct bench_result *r)
{
	const char *const prefix[] = { b->self, "run", "--quiet", "--ram", "256M", "--", NULL };
	const char *const argv[] = { b->self, "bench", "--child-calls", b->quick ? "--quick" : NULL,
				     NULL };
	char out[4096], *at = out, *end;
	int status = bench_run(side == SIDE_OURS ? prefix : NULL, argv, out, sizeof(out));

	if (status) {
		bench_fail(r, "status %d: %s", status, bench_last_line(out));
		return;
	}
	for (unsigned i = 0; i < bench_rows(g); i++, at = end) {
		r->value[i] = strtod(at, &end);
		if (end == at) {
			bench_fail(r, "no figure for %s", g->row[i].name);
			r->value[i] = NAN;
			return;
		}
	}
}

const struct bench_group bench_group_calls = {
	.name = "calls",
	.side = { "quire run", "native" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.row = {
		{ "call", "a caught system call: getppid under quire run", "ns", false, 0 },
		{ "call-read", "a wrapped call: read of a byte to managed memory", "ns", false, 0 },
		{ "call-mmap", "mmap and munmap of 1 MiB", "ns", false, 0 },
		{ "call-signal", "raise and a handler", "ns", false, 0 },
		{ "call-thread", "create and join a thread", "ns", false, 0 },
		{ "call-fork", "fork, exit, wait", "ns", false, 0 },
		{ "call-spawn", "posix_spawn of true, wait", "ns", false, 0 },
	},
	.prepare = prepare_calls,
	.measure = measure_calls,
};
