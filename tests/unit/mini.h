/*
 * mini.h - an instance with base only: arena, fault injection, counters, RCU. For tests of folders
 * that need no machine. Locking: set up and taken down by one thread.
 */
#ifndef QUIRE_TESTS_MINI_H
#define QUIRE_TESTS_MINI_H

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/inject.h"
#include "base/quire.h"

struct mini {
	struct quire q;
	struct inject inject;
	struct stat_cpu stats[MAX_CPUS];
	a64_t mapped; /* bytes that the arena holds */
};

static inline void *mini_map(void *ctx, size_t bytes)
{
	struct mini *m = ctx;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	a64_add(&m->mapped, bytes);
	return p;
}

static inline void mini_unmap(void *ctx, void *addr, size_t bytes)
{
	struct mini *m = ctx;

	a64_sub(&m->mapped, bytes);
	munmap(addr, bytes);
}

static inline void mini_init(struct mini *m)
{
	struct arena_source src = { .ctx = m, .map = mini_map, .unmap = mini_unmap };

	memset(m, 0, sizeof(*m));
	inject_init(&m->inject);
	m->q.inject = &m->inject;
	m->q.stats = m->stats;
	rcu_domain_init(&m->q.rcu);
	m->q.arena = arena_create(&src);
	assert_non_null(m->q.arena);
	arena_set_inject(m->q.arena, &m->inject);
}

static inline void mini_fini(struct mini *m)
{
	qrcu_barrier(&m->q);
	arena_destroy(m->q.arena);
	assert_int_equal(a64_read(&m->mapped), 0);
}

/* Does fn(arg) end in a BUG? Run in a child process. */
static inline bool mini_is_bug(void (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		close(2);
		fn(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static inline u64 mini_random(u64 *state)
{
	u64 x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

#endif
