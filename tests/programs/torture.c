/*
 * Signals against memory: handlers that touch evicted memory, a fast timer over everything,
 * alternate and coroutine stacks in allocated memory, jumps out of handlers, EINTR and restarts,
 * masks.
 * Prints the same natively and managed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define BYTES (16ul << 20)
#define PAGE  4096ul
#define STACK (256ul << 10)

static unsigned char *memory;
static volatile sig_atomic_t ticks, seen[65];
static volatile int on_alternate;
static sigjmp_buf jump;
static int failures;

static void expect(const char *what, long got, long want)
{
	if (got != want) {
		printf("%s: %ld, expected %ld\n", what, got, want);
		failures++;
	}
}

static void walk(void)
{
	for (size_t i = 0; i < BYTES; i += PAGE)
		memory[i]++;
}

static void timer(int microseconds)
{
	struct itimerval v = { { 0, microseconds }, { 0, microseconds } };

	setitimer(ITIMER_REAL, &v, NULL);
}

static void handle(int sig, void (*f)(int), int flags)
{
	struct sigaction a = { .sa_handler = f, .sa_flags = flags };

	sigaction(sig, &a, NULL);
}

/* Touches a place that is probably not resident. */
static void on_tick(int sig)
{
	unsigned at = (unsigned)ticks * 2654435761u % (BYTES / PAGE);
	int e = errno;

	(void)sig;
	ticks++;
	memory[at * PAGE + 8]++;
	errno = e;
}

static void note(int sig)
{
	seen[sig]++;
}

static unsigned long checksum(void)
{
	unsigned long s = 0;

	for (size_t i = 0; i < BYTES; i += PAGE)
		s += memory[i];
	return s;
}

static void under_a_timer(void)
{
	struct timespec t;
	char buf[64];
	int p[2];

	memset(memory, 0, BYTES);
	handle(SIGALRM, on_tick, SA_RESTART);
	if (pipe(p))
		abort();
	timer(1000);
	/* A fast machine may be done before the first tick: then it waits for one. */
	for (int i = 0; i < 20; i++) {
		walk();
		while (i == 19 && !ticks)
			;
		expect("pipe write", write(p[1], memory + 64, 60), 60);
		expect("pipe read", read(p[0], buf, 60), 60);
		clock_gettime(CLOCK_MONOTONIC, &t);
	}
	timer(0);
	expect("memory", (long)checksum(), 20 * (long)(BYTES / PAGE));
	expect("ticked", ticks > 0, 1);
	close(p[0]);
	close(p[1]);
}

static void on_stack(int sig)
{
	unsigned char here[2000];
	stack_t now;

	memset(here, sig, sizeof(here));
	sigaltstack(NULL, &now);
	on_alternate = !!(now.ss_flags & SS_ONSTACK);
	expect("cannot change it now", sigaltstack(&now, NULL), -1);
	memory[here[5] * PAGE]++;
	seen[sig]++;
}

static void alternate_stack(void)
{
	stack_t st = { .ss_sp = malloc(STACK), .ss_size = STACK }, old;

	expect("sigaltstack", sigaltstack(&st, NULL), 0);
	handle(SIGUSR1, on_stack, SA_ONSTACK);
	for (int i = 0; i < 5; i++) {
		walk();
		raise(SIGUSR1);
	}
	expect("handled", seen[SIGUSR1], 5);
	expect("on it", on_alternate, 1);
	sigaltstack(NULL, &old);
	expect("not on it now", old.ss_flags, 0);
	expect("the same", old.ss_sp == st.ss_sp && old.ss_size == STACK, 1);
	st.ss_flags = SS_DISABLE;
	expect("off", sigaltstack(&st, NULL), 0);
	old.ss_size = 100;
	expect("too small", sigaltstack(&old, NULL), -1);
	expect("ENOMEM", errno, ENOMEM);
}

static ucontext_t caller, callee;
static volatile int steps;

static void coroutine(void)
{
	char deep[30000];

	for (int i = 0; i < 50; i++) {
		memset(deep, i, sizeof(deep));
		walk();
		raise(SIGUSR2);
		steps += deep[29999] == i;
		swapcontext(&callee, &caller);
	}
}

/* A stack in allocated memory, with a timer on top. */
static void coroutines(void)
{
	handle(SIGUSR2, note, 0);
	getcontext(&callee);
	callee.uc_stack.ss_sp = malloc(STACK);
	callee.uc_stack.ss_size = STACK;
	callee.uc_link = &caller;
	makecontext(&callee, coroutine, 0);
	timer(1000);
	for (int i = 0; i < 50; i++) {
		swapcontext(&caller, &callee);
		walk();
	}
	timer(0);
	expect("steps", steps, 50);
	expect("signals", seen[SIGUSR2], 50);
}

static void on_jump(int sig)
{
	seen[sig]++;
	siglongjmp(jump, sig);
}

/* Out of a read into allocated memory, many times: nothing may pile up. */
static void jumps(void)
{
	volatile int back = 0;
	unsigned char *buf = malloc(1 << 20);
	int p[2];

	if (pipe(p))
		abort();
	handle(SIGALRM, on_jump, 0);
	for (volatile int i = 0; i < 100; i++) {
		if (sigsetjmp(jump, 1)) {
			back++;
			continue;
		}
		timer(2000);
		for (;;)
			expect("read", read(p[0], buf + 100, 1000), -1);
	}
	timer(0);
	expect("came back", back, 100);
	expect("write", write(p[1], buf, 500), 500);
	expect("read", read(p[0], buf, 1000), 500);
	free(buf);
	close(p[0]);
	close(p[1]);
}

static void later(int sig, int milliseconds)
{
	if (!fork()) {
		struct timespec t = { 0, milliseconds * 1000000l };

		nanosleep(&t, NULL);
		kill(getppid(), sig);
		_exit(0);
	}
}

static void interrupted(void)
{
	char *buf = malloc(1 << 20);
	struct timespec t = { 5, 0 };
	struct epoll_event *e = (struct epoll_event *)(buf + 8192);
	int p[2], ep = epoll_create1(0);

	if (pipe(p))
		abort();
	handle(SIGUSR1, note, 0);
	later(SIGUSR1, 50);
	expect("read", read(p[0], buf, 10), -1);
	expect("EINTR", errno, EINTR);
	wait(NULL);
	later(SIGUSR1, 50);
	expect("nanosleep", nanosleep(&t, &t), -1);
	expect("EINTR", errno, EINTR);
	wait(NULL);
	later(SIGUSR1, 50);
	expect("epoll_wait", epoll_wait(ep, e, 5, 5000), -1);
	expect("EINTR", errno, EINTR);
	wait(NULL);
	/* Restarted: the read goes on until the child has written. */
	handle(SIGUSR1, note, SA_RESTART);
	if (!fork()) {
		struct timespec d = { 0, 50000000 };

		nanosleep(&d, NULL);
		kill(getppid(), SIGUSR1);
		nanosleep(&d, NULL);
		expect("write", write(p[1], "abc", 3), 3);
		_exit(0);
	}
	expect("restarted read", read(p[0], buf, 10), 3);
	wait(NULL);
	free(buf);
	close(p[0]);
	close(p[1]);
	close(ep);
}

static void masks(void)
{
	sigset_t *set = malloc(1 << 20), *old = set + 8, *got = set + 16, full, empty;
	struct timespec t = { 2, 0 };
	siginfo_t info;

	handle(SIGUSR1, note, 0);
	handle(SIGUSR2, note, 0);
	seen[SIGUSR1] = seen[SIGUSR2] = 0;
	sigfillset(&full);
	sigemptyset(&empty);
	expect("block all", sigprocmask(SIG_SETMASK, &full, old), 0);
	walk();
	sigprocmask(SIG_BLOCK, NULL, got);
	for (int s = 1; s < 32; s++)
		expect("blocked", sigismember(got, s), s != SIGKILL && s != SIGSTOP);
	raise(SIGUSR1);
	raise(SIGUSR2);
	expect("waits", seen[SIGUSR1] + seen[SIGUSR2], 0);
	sigpending(got);
	expect("pending", sigismember(got, SIGUSR1) && sigismember(got, SIGUSR2), 1);
	sigemptyset(set);
	sigaddset(set, SIGUSR2);
	expect("sigtimedwait", sigtimedwait(set, &info, &t), SIGUSR2);
	sigfillset(set);
	sigdelset(set, SIGUSR1);
	walk();
	expect("sigsuspend", sigsuspend(set), -1);
	expect("handled", seen[SIGUSR1], 1);
	sigprocmask(SIG_BLOCK, NULL, got);
	expect("blocked again", sigismember(got, SIGUSR1), 1);
	raise(SIGUSR1);
	expect("ppoll", ppoll(NULL, 0, &t, set), -1);
	expect("EINTR", errno, EINTR);
	expect("handled", seen[SIGUSR1], 2);
	raise(SIGUSR1);
	expect("pselect", pselect(0, NULL, NULL, NULL, &t, set), -1);
	expect("handled", seen[SIGUSR1], 3);
	sigprocmask(SIG_SETMASK, old, NULL);
	sigprocmask(SIG_BLOCK, NULL, got);
	expect("open", sigismember(got, SIGUSR1), 0);
	free(set);
}

static void on_info(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	seen[sig] += info->si_code == SI_QUEUE ? info->si_value.sival_int : 100000;
	/* A handler may change the mask that holds after it. */
	sigaddset(&u->uc_sigmask, SIGUSR2);
}

static void queued(void)
{
	struct sigaction a = { .sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_RESETHAND },
			 now;
	union sigval v = { .sival_int = 42 };
	sigset_t set;

	seen[SIGRTMIN] = 0;
	sigaction(SIGRTMIN, &a, NULL);
	sigqueue(getpid(), SIGRTMIN, v);
	expect("its value", seen[SIGRTMIN], 42);
	sigaction(SIGRTMIN, NULL, &now);
	expect("reset", now.sa_handler == SIG_DFL, 1);
	sigprocmask(SIG_BLOCK, NULL, &set);
	expect("the handler's mask", sigismember(&set, SIGUSR2), 1);
	sigdelset(&set, SIGUSR2);
	sigprocmask(SIG_SETMASK, &set, NULL);
	handle(SIGUSR1, SIG_IGN, 0);
	sigaction(SIGUSR1, NULL, &now);
	expect("ignored", now.sa_handler == SIG_IGN, 1);
	raise(SIGUSR1);
}

static double waste(double x, int n)
{
	for (int i = 0; i < n; i++)
		x = x * 1.0000001 + 0.25;
	return x;
}

/* Registers survive handlers that use them. */
static void floating_point(void)
{
	double want = waste(1, 3000000), got;

	handle(SIGALRM, on_tick, SA_RESTART);
	timer(1000);
	got = waste(1, 3000000);
	walk();
	timer(0);
	expect("the same", want == got, 1);
}

static void *cancelled(void *arg)
{
	char *buf = malloc(1 << 20);
	int *p = arg;
	ssize_t n = read(p[0], buf, 1000);

	return (void *)n;
}

static void cancellation(void)
{
	struct timespec d = { 0, 30000000 };
	pthread_t t;
	void *r;
	int p[2];

	if (pipe(p))
		abort();
	for (int i = 0; i < 5; i++) {
		pthread_create(&t, NULL, cancelled, p);
		nanosleep(&d, NULL);
		expect("cancel", pthread_cancel(t), 0);
		pthread_join(t, &r);
		expect("cancelled", r == PTHREAD_CANCELED, 1);
	}
	close(p[0]);
	close(p[1]);
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {
		{ "under a timer", under_a_timer },
		{ "alternate stack", alternate_stack },
		{ "coroutines", coroutines },
		{ "jumps", jumps },
		{ "interrupted", interrupted },
		{ "masks", masks },
		{ "queued", queued },
		{ "floating point", floating_point },
		{ "cancellation", cancellation },
	};

	memory = malloc(BYTES);
	memset(memory, 0, BYTES);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int before = failures;

		parts[i].run();
		printf("%s: %s\n", parts[i].name, failures == before ? "ok" : "FAILED");
		fflush(stdout);
	}
	return failures ? 1 : 0;
}
