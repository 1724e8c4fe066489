/*
 * base_instance.h - the parts of a struct quire that base needs, for tests of base alone.
 *
 * Locking: none; each test makes its own.
 */
#ifndef TESTS_UNIT_BASE_INSTANCE_H
#define TESTS_UNIT_BASE_INSTANCE_H

#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/inject.h"
#include "base/quire.h"
#include "base/trace.h"

struct base_instance {
	struct quire q;
	struct inject inject;
};

static inline void *base_instance_map(void *ctx, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)ctx;
	return p == MAP_FAILED ? NULL : p;
}

static inline void base_instance_unmap(void *ctx, void *addr, size_t bytes)
{
	(void)ctx;
	munmap(addr, bytes);
}

static inline struct quire *base_instance_init(struct base_instance *b)
{
	struct arena_source src = { NULL, base_instance_map, base_instance_unmap };

	memset(b, 0, sizeof(*b));
	b->q.arena = arena_create(&src);
	inject_init(&b->inject);
	b->q.inject = &b->inject;
	arena_set_inject(b->q.arena, &b->inject);
	rcu_domain_init(&b->q.rcu);
	gate_init(&b->q.gate);
	b->q.stats = arena_pages(b->q.arena,
				 (u32)DIV_UP(MAX_CPUS * sizeof(struct stat_cpu), PAGE_SIZE));
	b->q.trace = trace_create(b->q.arena);
	return &b->q;
}

static inline void base_instance_destroy(struct base_instance *b)
{
	qrcu_barrier(&b->q);
	arena_destroy(b->q.arena);
}

static inline u64 test_random(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
