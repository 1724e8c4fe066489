/* Time, chance, threads and unmanaged memory. */
#include "machine/host/host_internal.h"

#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

/* Touched as far as used; libc takes the static thread-local storage of all libraries out of it. */
#define THREAD_STACK_BYTES (1ul << 20)

/* ---- memory ---- */
void *sys_map(size_t bytes)
{
	long at = native_syscall(SYS_mmap, 0l, bytes, (long)(PROT_READ | PROT_WRITE),
				 (long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE), -1l, 0l);

	return at < 0 ? NULL : (void *)at;
}

void sys_unmap(void *addr, size_t bytes)
{
	native_syscall(SYS_munmap, addr, bytes);
}

void *host_mem_map(struct machine *m, size_t bytes)
{
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return NULL;
	return sys_map(ALIGN_UP(bytes, PAGE_SIZE));
}

void host_mem_unmap(struct machine *m, void *addr, size_t bytes)
{
	(void)m;
	sys_unmap(addr, ALIGN_UP(bytes, PAGE_SIZE));
}

void host_mem_discard(struct machine *m, void *addr, size_t bytes)
{
	(void)m;
	host_discard((u64)(uintptr_t)addr, ALIGN_UP(bytes, PAGE_SIZE));
}

/* ---- time and chance ---- */
u64 host_now_ns(struct machine *m)
{
	struct timespec t = { 0, 0 };

	/* The vDSO makes no system call, unless the clock source is one that only the kernel can
	 * read: that call would not go through native_syscall. */
	if (likely(host_of(m)->vdso_clock))
		clock_gettime(CLOCK_MONOTONIC, &t);
	else
		native_syscall(SYS_clock_gettime, (long)CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

u64 host_random(struct machine *m)
{
	/* A counter, mixed (splitmix64): lock-free, and good enough for sampling and seeds. */
	u64 z = a64_fetch_add(&host_of(m)->rng, 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

unsigned host_nr_cpus(struct machine *m)
{
	return host_of(m)->nr_cpus;
}

void host_sleep_ns(struct machine *m, u64 ns)
{
	struct timespec t = { (time_t)(ns / 1000000000ull), (long)(ns % 1000000000ull) };

	(void)m;
	while (native_syscall(SYS_clock_nanosleep, (long)CLOCK_MONOTONIC, 0l, &t, &t) == -EINTR)
		;
}

/* ---- threads ----
 * libc's own, because the core's thread record and liburcu live in thread-local storage that only
 * libc can set up. The stack is ours, so that libc maps nothing; the clone itself is libc's system
 * call. Only signals that an instruction of the thread raises are let through: SIGBUS resolves its
 * reads of frames.
 */
struct host_thread {
	pthread_t id;
	void (*fn)(void *arg);
	void *arg;
	size_t map_bytes;
};

static void *thread_main(void *arg)
{
	struct host_thread *t = arg;

	t->fn(t->arg);
	return NULL;
}

static u64 synchronous_signals(void)
{
	return BIT(SIGBUS - 1) | BIT(SIGSEGV - 1) | BIT(SIGILL - 1) | BIT(SIGFPE - 1) |
	       BIT(SIGTRAP - 1) | BIT(SIGSYS - 1) | BIT(SIGABRT - 1);
}

int host_thread_start(struct machine *m, void (*fn)(void *arg), void *arg, void **handle)
{
	size_t bytes = PAGE_SIZE + THREAD_STACK_BYTES + PAGE_SIZE; /* guard, stack, record */
	char *base = host_mem_map(m, bytes);
	u64 block = ~synchronous_signals(), old = 0;
	struct host_thread *t;
	pthread_attr_t attr;
	int err;

	if (!base)
		return -ENOMEM;
	native_syscall(SYS_mprotect, base, PAGE_SIZE, (long)PROT_NONE);
	t = (struct host_thread *)(base + PAGE_SIZE + THREAD_STACK_BYTES);
	*t = (struct host_thread){ .fn = fn, .arg = arg, .map_bytes = bytes };
	err = pthread_attr_init(&attr);
	if (!err)
		err = pthread_attr_setstack(&attr, base + PAGE_SIZE, THREAD_STACK_BYTES);
	native_syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &block, &old, sizeof(old));
	if (!err)
		err = pthread_create(&t->id, &attr, thread_main, t);
	native_syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &old, (void *)0, sizeof(old));
	pthread_attr_destroy(&attr);
	if (err) {
		sys_unmap(base, bytes);
		return -err;
	}
	*handle = t;
	return 0;
}

void host_thread_join(struct machine *m, void *handle)
{
	struct host_thread *t = handle;

	(void)m;
	pthread_join(t->id, NULL);
	sys_unmap((char *)t - THREAD_STACK_BYTES - PAGE_SIZE, t->map_bytes);
}
