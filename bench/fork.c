/*
 * fork.c - forking page tables: the core's fork on the simulated machine beside the kernel's.
 *
 * Ours is space_fork: a second space over the same frames, with tables, counts and areas of its
 * own; no system call is made for a page, and none of the simulated CPU's work is in the figure but
 * one flush. The kernel's is fork(2) of a process with as much resident anonymous memory, until it
 * returns in the parent; the child ends at once. Both sides fork what was just written: every entry
 * must lose its right to write. Each figure is of a second pass, when the memory of tables and
 * records has been used before: the first child has ended and the area was mapped and written anew.
 *
 * Pages are of 4 KiB on both sides. The kernel's folios are single pages too (MADV_NOHUGEPAGE);
 * ours are what its first touch makes of a sequential write, so that counts and references are
 * taken for many entries at once. With single pages (ADVISE_RANDOM) it is measured as well.
 */
#include "bench_internal.h"
#include "core.h"

#include "base/gate.h"
#include "machine/sim/sim.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORK_LARGE, FORK_SMALL };

#define SMALL_PART 16 /* of the area */

/* One pass on our side: nanoseconds a page, or NAN. */
static double core_fork_pass(struct core_bench *c, bool single, struct bench_result *r)
{
	u64 pages = c->bytes / PAGE_SIZE;
	struct space *child = NULL;
	double begin, ns = NAN;
	int err = core_map(c);

	gate_enter(&c->q->gate);
	if (!err && single)
		err = space_advise(c->q, c->s, c->va, c->bytes, ADVISE_RANDOM);
	gate_exit(&c->q->gate);
	if (!err)
		err = core_step(c, CORE_TOUCH);
	if (!err) {
		gate_enter(&c->q->gate);
		begin = bench_thread_now();
		err = space_fork(c->q, c->s, &child);
		ns = (bench_thread_now() - begin) * 1e9 / (double)pages;
		if (!err && space_resident_pages(child) != pages)
			bench_fail(r, "the child has %llu pages of %llu",
				   (unsigned long long)space_resident_pages(child),
				   (unsigned long long)pages);
		if (!err)
			space_destroy(c->q, child);
		gate_exit(&c->q->gate);
	}
	if (!err)
		err = core_step(c, CORE_UNMAP);
	if (err)
		bench_fail(r, "fork of the core on sim: %s", strerror(-err));
	return err ? NAN : ns;
}

static double core_fork(u64 bytes, bool single, struct bench_result *r)
{
	struct core_bench c = { .bytes = bytes };
	int err = core_begin(&c);
	double ns;

	if (err) {
		bench_fail(r, "the core on sim: %s", strerror(-err));
		return NAN;
	}
	core_fork_pass(&c, single, r);
	ns = core_fork_pass(&c, single, r);
	if (sim_violations(c.m))
		bench_fail(r, "the simulated machine counted violations");
	core_end(&c, r);
	return ns;
}

static double kernel_fork_pass(u64 bytes, struct bench_result *r)
{
	struct bench_memory m = { 0 };
	unsigned char *base = bench_memory_map(&m, bytes, r);
	double begin, ns;
	int status;
	pid_t pid;

	if (!base)
		return NAN;
	for (u64 at = 0; at < bytes; at += PAGE_SIZE)
		base[at] = 1;
	begin = bench_thread_now();
	pid = fork();
	if (!pid)
		_exit(0);
	ns = (bench_thread_now() - begin) * 1e9 / (double)(bytes / PAGE_SIZE);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		bench_fail(r, "fork: %s", pid < 0 ? strerror(errno) : "the child failed");
	bench_memory_unmap(&m, base, bytes);
	return ns;
}

static void measure_fork(const struct bench *b, const struct bench_group *g, enum bench_side side,
			 struct bench_result *r)
{
	u64 bytes[] = {
		[FORK_LARGE] = b->bytes, [FORK_SMALL] = ALIGN_DOWN(b->bytes / SMALL_PART, PMD_SIZE)
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bytes); i++) {
		if (side == SIDE_PEER) {
			kernel_fork_pass(bytes[i], r);
			r->value[i] = kernel_fork_pass(bytes[i], r);
		} else {
			r->value[i] = core_fork(bytes[i], side == SIDE_ALSO, r);
		}
	}
}

const struct bench_group bench_group_fork = {
	.name = "fork",
	.side = { "core on sim", "kernel", "core, single pages" },
	.threads = 1,
	.rounds = 7,
	.limit_s = 60,
	.memory_x8 = 10,
	.row = {
		{ "fork-tables", "fork of 1 GiB resident, until it returns", "ns/page", false, 1 },
		{ "fork-tables-small", "the same of 64 MiB", "ns/page", false, 1 },
	},
	.measure = measure_fork,
};
