/*
 * Ends in the way that its argument says: exit codes, signals, bad accesses in allocated memory,
 * with and without a handler. How it ends must be the same natively and managed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Volatile, so that the compiler does not see where it points. */
static int *volatile nowhere = (int *)8;

#define BYTES (8ul << 20)

static unsigned char *memory;
static sigjmp_buf jump;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	long at = (long)((unsigned char *)info->si_addr - memory);

	(void)context;
	if (at < 0 || at >= (long)BYTES)
		at = info->si_code > 0 ? (long)(size_t)info->si_addr : -1;
	printf("signal %d code %d at %ld\n", sig, info->si_code, at);
	siglongjmp(jump, 1);
}

static void catch_faults(void)
{
	struct sigaction a = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &a, NULL);
	sigaction(SIGBUS, &a, NULL);
}

static void try_access(int write, size_t at)
{
	if (sigsetjmp(jump, 1))
		return;
	if (write)
		memory[at] = 1;
	else
		printf("read %d\n", memory[at]);
	printf("went through\n");
}

static void handled(void)
{
	FILE *f;
	unsigned char *map;

	catch_faults();
	mprotect(memory + 4096, 4096, PROT_READ);
	try_access(0, 4096);
	try_access(1, 4097);
	mprotect(memory + 8192, 4096, PROT_NONE);
	try_access(0, 8195);
	try_access(1, 8195);
	munmap(memory + 16384, 8192);
	try_access(0, 16384);
	try_access(1, 20000);
	mprotect(memory, 16384, PROT_READ | PROT_WRITE);
	try_access(1, 4097);
	/* A file that is shorter than its mapping, in the middle of the managed memory. */
	f = tmpfile();
	ftruncate(fileno(f), 4096);
	map = mmap(memory + (1 << 20), 8192, PROT_READ, MAP_PRIVATE | MAP_FIXED, fileno(f), 0);
	printf("mapped %d\n", map == memory + (1 << 20));
	try_access(0, (1 << 20) + 100);
	try_access(0, (1 << 20) + 5000);
	try_access(1, (1 << 20) + 100);
	try_access(1, (1 << 20) + 8192);
	munmap(map, 8192);
	try_access(0, (1 << 20) + 100);
	if (!sigsetjmp(jump, 1))
		*nowhere = 1;
	if (!sigsetjmp(jump, 1))
		kill(getpid(), SIGSEGV);
	printf("alive\n");
}

static void *thread_crash(void *arg)
{
	(void)arg;
	*(volatile int *)(memory + 8192) = 1;
	return NULL;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	pthread_t t;

	setvbuf(stdout, NULL, _IONBF, 0);
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(memory, 3, BYTES);
	if (!strcmp(how, "exit"))
		return 42;
	if (!strcmp(how, "_exit"))
		_exit(43);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "term"))
		kill(getpid(), SIGTERM);
	if (!strcmp(how, "null"))
		*(volatile int *)0 = 1;
	if (!strcmp(how, "hole")) {
		munmap(memory + 4096, 4096);
		memory[4096] = 1;
	}
	if (!strcmp(how, "protected")) {
		mprotect(memory, 4096, PROT_READ);
		memory[0] = 1;
	}
	if (!strcmp(how, "ignored")) {
		signal(SIGSEGV, SIG_IGN);
		kill(getpid(), SIGSEGV);
		puts("still here");
		mprotect(memory, 4096, PROT_READ);
		memory[0] = 1;
	}
	if (!strcmp(how, "blocked")) {
		sigset_t all;

		catch_faults();
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		*nowhere = 1;
	}
	if (!strcmp(how, "bus"))
		kill(getpid(), SIGBUS);
	if (!strcmp(how, "sys"))
		kill(getpid(), SIGSYS);
	if (!strcmp(how, "thread")) {
		mprotect(memory + 8192, 4096, PROT_NONE);
		pthread_create(&t, NULL, thread_crash, NULL);
		pthread_join(t, NULL);
	}
	if (!strcmp(how, "thread-exit")) {
		pthread_create(&t, NULL, (void *(*)(void *))(void *)_exit, (void *)7l);
		pause();
	}
	if (!strcmp(how, "handled"))
		handled();
	if (!strcmp(how, "illegal"))
		__builtin_trap();
	return 0;
}
