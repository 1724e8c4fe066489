/*
 * core.c - rows that look at the core alone: its bookkeeping for each page on the simulated
 * machine, and the memory that its own records take.
 *
 * On `sim` no system call is made for a page, so what is left is the core (and the simulated walk):
 * each figure is of a second pass over the same addresses, when every frame has memory under it.
 * First touch includes writing zeroes into the page; that alone is measured over the same frames
 * and shown beside.
 */
#include "bench_internal.h"
#include "core.h"

#include "base/gate.h"
#include "machine/sim/sim.h"

#include <quire/quire.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int core_begin(struct core_bench *c)
{
	struct sim_config cfg = sim_defaults(false, true);
	struct core_config cc = { 0 };
	u64 frames = c->bytes / PAGE_SIZE + 8 * PTRS_PER_TABLE;
	u32 nodes = c->nodes ? c->nodes : 1;
	u64 span;
	int err;

	cfg.nr_cpus = 1;
	cfg.tlb_entries = 1024;
	cfg.ram_frames = nodes * frames;
	cfg.span_frames = 2 * nodes * ALIGN_UP(frames, PTRS_PER_TABLE);
	cfg.flags = SIM_NO_POISON | SIM_NO_CHECK;
	cfg.evict_ppm = cfg.prefetch_ppm = cfg.late_ppm = 0;
	err = sim_create(&cfg, &c->m);
	if (err)
		return err;
	sim_cpu_bind(0);
	span = sim_config_of(c->m)->span_frames / nodes;
	cc.phys.nr_nodes = nodes;
	for (u32 i = 0; i < nodes; i++) {
		cc.phys.node[i].base_pfn = i * span;
		cc.phys.node[i].span = span;
		cc.phys.node[i].capacity = frames;
	}
	err = core_create(&c->q, c->m, &cc);
	if (err)
		return err;
	gate_enter(&c->q->gate);
	err = space_create(c->q, CGROUP_ROOT, 0, &c->s);
	gate_exit(&c->q->gate);
	return err;
}

void core_end(struct core_bench *c, struct bench_result *r)
{
	u64 broken = quire_check_all(c->q);

	if (broken)
		bench_fail(r, "%llu broken invariants", (unsigned long long)broken);
	gate_enter(&c->q->gate);
	space_destroy(c->q, c->s);
	gate_exit(&c->q->gate);
	core_destroy(c->q);
	c->m->ops->destroy(c->m);
}

int core_step(struct core_bench *c, int step)
{
	struct quire *q = c->q;
	int err = 0;

	if (step == CORE_TOUCH) {
		for (u64 at = 0; at < c->bytes && !err; at += PAGE_SIZE)
			err = sim_touch(c->m, 0, c->s->ms, c->va + at, ACCESS_WRITE);
		return err;
	}
	gate_enter(&q->gate);
	switch (step) {
	case CORE_PROTECT:
		err = space_protect(q, c->s, c->va, c->bytes, PROT_BITS_READ);
		if (!err)
			err = space_protect(q, c->s, c->va, c->bytes,
					    PROT_BITS_READ | PROT_BITS_WRITE);
		break;
	case CORE_DONTNEED:
		err = space_advise(q, c->s, c->va, c->bytes, ADVISE_DONTNEED);
		break;
	case CORE_UNMAP:
		err = space_unmap(q, c->s, c->va, c->bytes);
		break;
	}
	gate_exit(&q->gate);
	return err;
}

int core_map(struct core_bench *c)
{
	int err;

	gate_enter(&c->q->gate);
	err = space_map(c->q, c->s, 0, c->bytes, PROT_BITS_READ | PROT_BITS_WRITE, 0, &c->va);
	gate_exit(&c->q->gate);
	return err;
}

static void measure_core(const struct bench *b, const struct bench_group *g, enum bench_side side,
			 struct bench_result *r)
{
	struct core_bench c = { .bytes = b->bytes / 4 };
	int err = core_begin(&c);

	if (side == SIDE_ALSO) { /* the zeroes alone, over as much memory as has been touched */
		char *p = mmap(NULL, c.bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		double begin = bench_thread_now();

		if (p == MAP_FAILED)
			return;
		for (u64 at = 0; at < c.bytes; at += PAGE_SIZE) {
			memset(p + at, 0, PAGE_SIZE);
			__asm__ volatile("" ::: "memory");
		}
		r->value[CORE_TOUCH] =
			(bench_thread_now() - begin) * 1e9 / (double)(c.bytes / PAGE_SIZE);
		return;
	}
	for (unsigned pass = 0; pass < 2 && !err; pass++) {
		err = core_map(&c);
		for (int step = CORE_TOUCH; step <= CORE_UNMAP && !err; step++) {
			double begin = bench_thread_now();

			err = core_step(&c, step);
			r->value[step] =
				(bench_thread_now() - begin) * 1e9 / (double)(c.bytes / PAGE_SIZE);
			if (step == CORE_DONTNEED && !err)
				err = core_step(&c, CORE_TOUCH);
		}
	}
	if (err)
		bench_fail(r, "the core on sim: %s", strerror(-err));
	else if (sim_violations(c.m))
		bench_fail(r, "the simulated machine counted violations");
}

const struct bench_group bench_group_core = {
	.name = "core",
	.side = { "core on sim", NULL, "the zeroes alone" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 4,
	.row = {
		{ "core-touch", "first touch on the simulated machine", "ns/page", false,
		  0 },
		{ "core-protect", "protect there and back, likewise", "ns/page", false, 0 },
		{ "core-dontneed", "DONTNEED, likewise", "ns/page", false, 0 },
		{ "core-unmap", "unmap, likewise", "ns/page", false, 0 },
	},
	.measure = measure_core,
};

/* ---- metadata ---- */

/* What the kernel keeps for as much memory: its page tables, counted, and 64 bytes a page.
 */
static double kernel_metadata(void)
{
	unsigned long long kib = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPTE: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return (double)kib * 1024;
}

/* Percent of `bytes` that the instance's own memory is; each byte of the area is written first. */
static double metadata_after(const struct bench *b, u64 ram, struct bench_result *r)
{
	struct quire_stats s = { .size = sizeof(s) };
	struct bench_memory m;
	u64 *base;

	if (!bench_memory_open(&m, true, ram, false, r))
		return NAN;
	base = bench_memory_map(&m, b->bytes, r);
	if (!base)
		return NAN;
	for (u64 page = 0; page < b->bytes / PAGE_SIZE; page++)
		pattern_fill(b->half_data, page, base + page * PATTERN_WORDS);
	if (quire_stats_get(m.q, &s))
		bench_fail(r, "no statistics");
	if (ram && s.swap_used_pages * PAGE_SIZE < b->bytes / 4)
		bench_fail(r, "only %llu pages are paged out",
			   (unsigned long long)s.swap_used_pages);
	bench_memory_close(&m, r);
	return 100.0 * (double)s.metadata_bytes / (double)b->bytes;
}

static void measure_metadata(const struct bench *b, const struct bench_group *g,
			     enum bench_side side, struct bench_result *r)
{
	if (side == SIDE_OURS) {
		r->value[0] = metadata_after(b, 0, r);
		r->value[1] = metadata_after(b, b->bytes / 2, r);
	} else {
		struct bench_memory m = { 0 };
		double before = kernel_metadata();
		unsigned char *base = bench_memory_map(&m, b->bytes, r);

		if (!base)
			return;
		for (u64 at = 0; at < b->bytes; at += PAGE_SIZE)
			base[at] = 1;
		r->value[0] =
			100 * ((kernel_metadata() - before) / (double)b->bytes + 64.0 / PAGE_SIZE);
	}
}

const struct bench_group bench_group_metadata = {
	.name = "metadata",
	.side = { "quire", "kernel" },
	.threads = 1,
	.rounds = 1,
	.limit_s = 120,
	.memory_x8 = 12,
	.row = {
		{ "metadata", "Quire's own memory for 1 GiB, resident", "%", false, 2.5, true },
		{ "metadata-half", "the same with half of it paged out", "%", false, 2.5, true },
	},
	.measure = measure_metadata,
};
