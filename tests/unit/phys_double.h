/*
 * phys_double.h - an instance with only base and phys in it, over a machine that can do nothing but
 * give memory and take frames back, and that checks what it is told to take.
 *
 * The machine's frames_release calls `on_release` for each span, with no lock of the core held.
 * Locking: none; one instance belongs to one test.
 */
#ifndef QUIRE_TESTS_PHYS_DOUBLE_H
#define QUIRE_TESTS_PHYS_DOUBLE_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/inject.h"
#include "base/lock.h"
#include "machine/machine.h"
#include "machine/native/native.h"
#include "phys/phys.h"

#define HOME_BASE                                                                      \
	(0x7f1234400000ull >> PAGE_SHIFT) /* a 2 MiB aligned address as a frame number \
					   */

struct world {
	struct quire q;
	struct machine m;
	struct machine_ops ops;
	struct inject inject;
	struct arena_source src;
	u64 warnings; /* at creation */
	void (*on_release)(struct world *w, u64 pfn, u32 nr);
	u32 nr_spans; /* releases seen by the default on_release */
	u64 span_pfn[64];
	u32 span_nr[64];
};

static inline void *double_map(void *ctx, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)ctx;
	return p == MAP_FAILED ? NULL : p;
}

static inline void double_unmap(void *ctx, void *addr, size_t bytes)
{
	(void)ctx;
	munmap(addr, bytes);
}

static inline void double_note(struct world *w, u64 pfn, u32 nr)
{
	if (w->nr_spans < 64) {
		w->span_pfn[w->nr_spans] = pfn;
		w->span_nr[w->nr_spans] = nr;
	}
	w->nr_spans++;
}

static inline void double_release(struct machine *m, const struct frame_span *spans, u32 n)
{
	struct world *w = container_of(m, struct world, m);

	lock_assert_may_sleep();
	for (u32 i = 0; i < n; i++)
		w->on_release(w, spans[i].pfn, spans[i].nr);
}

static inline struct world *world_new(u32 caps, const struct phys_config *cfg)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->warnings = native_warnings();
	w->on_release = double_note;
	w->ops.name = "double";
	w->ops.frames_release = double_release;
	w->m.ops = &w->ops;
	w->m.caps = caps;
	w->src.map = double_map;
	w->src.unmap = double_unmap;
	inject_init(&w->inject);
	w->q.machine = &w->m;
	w->q.arena = arena_create(&w->src);
	assert_non_null(w->q.arena);
	w->q.inject = &w->inject;
	arena_set_inject(w->q.arena, &w->inject);
	rcu_domain_init(&w->q.rcu);
	w->q.stats = calloc(MAX_CPUS, sizeof(struct stat_cpu));
	assert_int_equal(phys_create(&w->q, cfg), 0);
	return w;
}

/* Node 0: addresses only. */
static inline struct world *world_home(void)
{
	struct phys_config cfg = { .nr_nodes = 1, .node[0].capacity = ~0ull };

	return world_new(CAP_HOME, &cfg);
}

/* One node of `blocks` blocks of numbers from 1 GiB on. */
static inline struct world *world_span(u64 blocks, u64 capacity)
{
	struct phys_config cfg = { .nr_nodes = 1 };

	cfg.node[0].base_pfn = 0x40000;
	cfg.node[0].span = blocks * 512;
	cfg.node[0].capacity = capacity;
	return world_new(0, &cfg);
}

/* Everything was given back, nothing is broken. */
static inline void world_end(struct world *w)
{
	lru_drain_all(&w->q);
	assert_int_equal(phys_check(&w->q), 0);
	assert_int_equal(phys_used(&w->q, 0), 0);
	assert_int_equal(native_warnings(), w->warnings);
	phys_destroy(&w->q);
	assert_int_equal(arena_used(w->q.arena), 0);
	arena_destroy(w->q.arena);
	free(w->q.stats);
	free(w);
}

/* Runs fn in a child; true when it was stopped by a BUG. */
static inline bool stops(void (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		fn(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
