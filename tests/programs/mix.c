/*
 * Threads, forks, vforks, spawned and executed programs at the same time, all with allocated memory
 * under pressure. Prints the same natively and managed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE    4096ul
#define MIB     (1ul << 20)
#define WORKERS 4
#define ROUNDS  12

extern char **environ;
static const char *self;
static int failures;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void expect(const char *what, long got, long want)
{
	if (got != want) {
		pthread_mutex_lock(&lock);
		printf("%s: %ld, expected %ld\n", what, got, want);
		failures++;
		pthread_mutex_unlock(&lock);
	}
}

static void mark(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i += 64)
		p[i] = (unsigned char)(seed + i / 64 + i / PAGE);
}

static long wrong(const unsigned char *p, size_t n, unsigned seed)
{
	long w = 0;

	for (size_t i = 0; i < n; i += 64)
		w += p[i] != (unsigned char)(seed + i / 64 + i / PAGE);
	return w;
}

/* Its exit status, or minus the signal. */
static long end_of(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1000;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void forked(unsigned char *p, size_t n, unsigned seed)
{
	pid_t pid = fork();

	if (!pid) {
		unsigned char *q = malloc(2 * MIB);
		int bad = wrong(p, n, seed) != 0;

		mark(p, n, seed + 1);
		mark(q, 2 * MIB, seed);
		bad |= wrong(p, n, seed + 1) != 0 || wrong(q, 2 * MIB, seed) != 0;
		_exit(bad ? 99 : 20);
	}
	expect("forked child", end_of(pid), 20);
	expect("not changed by it", wrong(p, n, seed), 0);
}

static void spawned(void)
{
	/* All of it in allocated memory. */
	char *text = malloc(MIB);
	char **argv = (char **)(text + 200000);
	pid_t pid;

	strcpy(text, self);
	strcpy(text + 5000, "child");
	strcpy(text + 10000, "argument");
	argv[0] = text;
	argv[1] = text + 5000;
	argv[2] = text + 10000;
	argv[3] = NULL;
	expect("posix_spawn", posix_spawn(&pid, text, NULL, NULL, argv, environ), 0);
	expect("spawned child", end_of(pid), 7);
	expect("no such program", posix_spawn(&pid, "/nonexistent", NULL, NULL, argv, environ),
	       ENOENT);
	pid = vfork();
	if (!pid) {
		execve(text, argv, environ);
		_exit(98);
	}
	expect("vforked child", end_of(pid), 7);
	pid = vfork();
	if (!pid)
		_exit(33);
	expect("vfork and exit", end_of(pid), 33);
	free(text);
}

static void *worker(void *arg)
{
	unsigned id = (unsigned)(long)arg;
	size_t n = 3 * MIB;

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned char *p = malloc(n);

		mark(p, n, id * 16 + i);
		if (i % 4 == id % 4)
			forked(p, n, id * 16 + i);
		if (i % 4 == (id + 1) % 4)
			spawned();
		if (i % 4 == (id + 2) % 4)
			p = realloc(p, 2 * n);
		expect("bytes", wrong(p, n, id * 16 + i), 0);
		free(p);
	}
	return NULL;
}

static void together(void)
{
	pthread_t t[WORKERS];

	for (long i = 0; i < WORKERS; i++)
		pthread_create(&t[i], NULL, worker, (void *)i);
	for (long i = 0; i < WORKERS; i++)
		pthread_join(t[i], NULL);
}

static void *short_lived(void *arg)
{
	char *p = malloc(100000);

	memset(p, 1, 100000);
	free(p);
	return arg;
}

static void many_threads(void)
{
	pthread_t t[16];
	long sum = 0;
	void *r;

	for (int round = 0; round < 20; round++) {
		for (long i = 0; i < 16; i++)
			pthread_create(&t[i], NULL, short_lived, (void *)i);
		for (long i = 0; i < 16; i++) {
			pthread_join(t[i], &r);
			sum += (long)r;
		}
	}
	expect("threads", sum, 20 * 120);
}

/* The whole thread in allocated memory, its control block too. */
static void own_stack(void)
{
	unsigned char *ballast = malloc(16 * MIB), *stack = malloc(MIB);
	pthread_attr_t a;
	pthread_t t;
	void *r;

	for (int i = 0; i < 10; i++) {
		pthread_attr_init(&a);
		pthread_attr_setstack(&a, (void *)(((size_t)stack + PAGE) & ~(PAGE - 1)), MIB / 2);
		expect("create", pthread_create(&t, &a, short_lived, (void *)5l), 0);
		mark(ballast, 16 * MIB, 1);
		pthread_join(t, &r);
		expect("its result", (long)r, 5);
		pthread_attr_destroy(&a);
	}
	free(stack);
	free(ballast);
}

struct shared {
	pthread_mutex_t lock;
	pthread_cond_t go;
	sem_t sem;
	int turn;
};

static void *other_side(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&s->lock);
		while (s->turn % 2 == 0)
			pthread_cond_wait(&s->go, &s->lock);
		s->turn++;
		pthread_cond_broadcast(&s->go);
		pthread_mutex_unlock(&s->lock);
		sem_post(&s->sem);
	}
	return NULL;
}

/* Locks that lie in allocated memory, waited for while it is evicted. */
static void waiting_on_words(void)
{
	struct shared *s = malloc(MIB);
	unsigned char *ballast = malloc(12 * MIB);
	pthread_t t;

	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->go, NULL);
	sem_init(&s->sem, 0, 0);
	pthread_create(&t, NULL, other_side, s);
	for (int i = 0; i < 200; i++) {
		if (i % 20 == 0)
			mark(ballast, 12 * MIB, (unsigned)i);
		pthread_mutex_lock(&s->lock);
		while (s->turn % 2 == 1)
			pthread_cond_wait(&s->go, &s->lock);
		s->turn++;
		pthread_cond_broadcast(&s->go);
		pthread_mutex_unlock(&s->lock);
		sem_wait(&s->sem);
	}
	pthread_join(t, NULL);
	expect("turns", s->turn, 400);
	free(s);
	free(ballast);
}

static void descriptors(void)
{
	int fd = open("/dev/null", O_RDONLY), first;

	expect("open", fd >= 0, 1);
	first = fd;
	close(fd);
	expect("the lowest number", open("/dev/null", O_RDONLY), first);
	for (int i = first; i < 2000; i++)
		close(i);
	expect("close_range", syscall(SYS_close_range, first, ~0u, 0), 0);
	expect("bad", dup2(999999, 5), -1);
	expect("again", open("/dev/null", O_RDONLY), first);
	close(first);
	mark(malloc(16 * MIB), 16 * MIB, 3); /* and memory still works */
}

static void shell(void)
{
	FILE *f = popen("echo one two | tr a-z A-Z | wc -c", "r");
	char line[64] = "";

	expect("line", fgets(line, sizeof(line), f) != NULL, 1);
	expect("its number", atoi(line), 8);
	expect("status", pclose(f), 0);
	expect("system", system("exit 3") >> 8, 3);
}

static void environment(void)
{
	expect("preload", getenv("LD_PRELOAD") == NULL, 1);
	setenv("LD_PRELOAD", "", 1);
	expect("system", system("test -z \"$LD_PRELOAD\"") >> 8, 0);
	unsetenv("LD_PRELOAD");
	expect("cleared", system("env -i /bin/sh -c 'exit 4'") >> 8, 4);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {
		{ "many threads", many_threads },
		{ "own stack", own_stack },
		{ "waiting on words", waiting_on_words },
		{ "shell", shell },
		{ "together", together },
		{ "environment", environment },
		{ "descriptors", descriptors },
	};

	if (argc == 3 && !strcmp(argv[1], "child")) {
		unsigned char *p = malloc(2 * MIB);

		mark(p, 2 * MIB, 9);
		return wrong(p, 2 * MIB, 9) || strcmp(argv[2], "argument") ? 96 : 7;
	}
	self = "/proc/self/exe";
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int before = failures;

		parts[i].run();
		printf("%s: %s\n", parts[i].name, failures == before ? "ok" : "FAILED");
		fflush(stdout);
	}
	return failures ? 1 : 0;
}
