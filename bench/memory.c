/*
 * memory.c - one interface to both sides' memory, and the rows of whole-range operations: first
 * touch, protect, DONTNEED, unmap.
 *
 * The kernel's side is plain anonymous memory with huge pages refused (MADV_NOHUGEPAGE): pages of
 * 4 KiB on both sides. Where the kernel gives huge pages at all, it is measured with them too.
 */
#include "bench_internal.h"
#include "nodes.h"

#include <quire/quire.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool open_instance(struct bench_memory *m, const struct quire_options *opt,
			  struct bench_result *r)
{
	char msg[BENCH_TEXT / 2] = "";
	int err;

	*m = (struct bench_memory){ 0 };
	err = quire_open(opt, (quire_t **)&m->q, msg, sizeof(msg));
	if (err) {
		m->q = NULL;
		bench_fail(r, "quire_open: %s (%s)", strerror(-err), msg);
		return false;
	}
	err = quire_space_create(m->q, (quire_space_t **)&m->space);
	if (err) {
		bench_fail(r, "quire_space_create: %s", strerror(-err));
		bench_memory_close(m, r);
		return false;
	}
	return true;
}

bool bench_memory_open(struct bench_memory *m, bool ours, u64 ram, bool background,
		       struct bench_result *r)
{
	struct quire_options opt = {
		.size = sizeof(opt),
		.ram_bytes = ram,
		.swap = "lz4",
		.background = background,
		.handle_sigbus = 1,
	};

	*m = (struct bench_memory){ 0 };
	return !ours || open_instance(m, &opt, r);
}

bool bench_memory_open_nodes(struct bench_memory *m, u64 first, u64 second, bool tiers,
			     struct bench_result *r)
{
	struct quire_node node[] = {
		{ .bytes = first, .physical = -1 },
		{ .bytes = second, .physical = -1, .tier = tiers },
	};
	struct quire_options opt = {
		.size = sizeof(opt),
		.swap = "lz4",
		.handle_sigbus = 1,
		.syscall = bench_count_call,
		.nodes = node,
		.nr_nodes = ARRAY_SIZE(node),
	};

	bench_physical_nodes(&node[0].physical, &node[1].physical);
	return open_instance(m, &opt, r);
}

void bench_memory_close(struct bench_memory *m, struct bench_result *r)
{
	/* Figures of an instance that has lost count of something are worth nothing. */
	u64 broken = m->q ? quire_check(m->q) : 0;

	if (broken)
		bench_fail(r, "%llu broken invariants", (unsigned long long)broken);
	if (m->space)
		quire_space_destroy(m->space);
	if (m->q)
		quire_close(m->q);
	m->space = m->q = NULL;
}

void *bench_memory_map(struct bench_memory *m, u64 bytes, struct bench_result *r)
{
	void *p;
	int err = 0;

	if (m->q) {
		err = quire_map(m->space, NULL, bytes, QUIRE_PROT_READ | QUIRE_PROT_WRITE,
				m->shareable ? QUIRE_MAP_SHAREABLE : 0, &p);
	} else {
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			err = -errno;
		else if (madvise(p, bytes, m->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
			err = errno == EINVAL && !m->huge ? 0 : -errno; /* a kernel without them */
	}
	if (!err)
		return p;
	bench_fail(r, "map: %s", strerror(-err));
	return NULL;
}

int bench_memory_unmap(struct bench_memory *m, void *addr, u64 bytes)
{
	if (m->q)
		return quire_unmap(m->space, addr, bytes);
	return munmap(addr, bytes) ? -errno : 0;
}

int bench_memory_protect(struct bench_memory *m, void *addr, u64 bytes, int prot)
{
	if (m->q)
		return quire_protect(m->space, addr, bytes, prot);
	return mprotect(addr, bytes, prot) ? -errno : 0;
}

int bench_memory_dontneed(struct bench_memory *m, void *addr, u64 bytes)
{
	if (m->q)
		return quire_advise(m->space, addr, bytes, MADV_DONTNEED);
	return madvise(addr, bytes, MADV_DONTNEED) ? -errno : 0;
}

enum { TOUCH, PROTECT, REWRITE, DONTNEED, UNMAP };

struct work {
	struct bench_memory m;
	unsigned char *base;
	u64 bytes;
	int step;
	u64 value; /* to write */
	int err;   /* of any thread */
	bool wrong;
};

static void touch(struct work *w, unsigned char *base, u64 bytes)
{
	u64 offset = (u64)(base - w->base);

	for (u64 at = 0; at < bytes; at += PAGE_SIZE)
		*(volatile u64 *)(base + at) = offset + at + w->value;
}

/* Each thread has its own part of the range. */
static void work_part(void *arg, unsigned i, unsigned n)
{
	struct work *w = arg;
	u64 part = ALIGN_DOWN(w->bytes / n, PMD_SIZE);
	unsigned char *base = w->base + i * part;
	u64 bytes = i == n - 1 ? w->bytes - i * part : part;
	int err = 0;

	switch (w->step) {
	case TOUCH:
	case REWRITE:
		touch(w, base, bytes);
		break;
	case PROTECT:
		err = bench_memory_protect(&w->m, base, bytes, PROT_READ);
		if (!err)
			err = bench_memory_protect(&w->m, base, bytes, PROT_READ | PROT_WRITE);
		break;
	case DONTNEED:
		err = bench_memory_dontneed(&w->m, base, bytes);
		break;
	case UNMAP:
		err = bench_memory_unmap(&w->m, base, bytes);
		break;
	}
	if (err)
		__atomic_store_n(&w->err, err, __ATOMIC_RELAXED);
}

/* Not timed: what must be in the pages after a step. */
static void check(struct work *w)
{
	if (w->step == UNMAP)
		return;
	for (u64 at = 0; at < w->bytes; at += PAGE_SIZE) {
		u64 want = w->step == DONTNEED ? 0 : at + w->value;
		/* After DONTNEED a look at each page would fill them all: some pages. */
		u64 stride = w->step == DONTNEED ? 509 * PAGE_SIZE : PAGE_SIZE;

		if (*(volatile u64 *)(w->base + at) != want)
			w->wrong = true;
		at += stride - PAGE_SIZE;
	}
}

static void measure_whole(const struct bench *b, const struct bench_group *g, enum bench_side side,
			  struct bench_result *r)
{
	static const char *const names[] = { "first touch", "protect", "write again", "DONTNEED",
					     "unmap" };
	struct work w = { .bytes = b->bytes };

	if (!bench_memory_open(&w.m, side == SIDE_OURS, 0, false, r))
		return;
	w.m.huge = side == SIDE_ALSO;
	w.base = bench_memory_map(&w.m, w.bytes, r);
	if (!w.base)
		return;
	for (w.step = TOUCH; w.step <= UNMAP; w.step++) {
		if (w.step == TOUCH || w.step == REWRITE)
			w.value += 0x1000001;
		r->value[w.step] = bench_threads(g->threads, work_part, &w) * 1e9 /
				   (double)(w.bytes / PAGE_SIZE);
		if (w.err) {
			bench_fail(r, "%s: %s", names[w.step], strerror(-w.err));
			return;
		}
		check(&w);
		if (w.wrong) {
			bench_fail(r, "wrong contents after %s", names[w.step]);
			return;
		}
		/* DONTNEED left it empty: unmap what is full, as a program's exit does. */
		if (w.step == DONTNEED) {
			w.step = TOUCH;
			bench_threads(g->threads, work_part, &w);
			w.step = DONTNEED;
		}
	}
	bench_memory_close(&w.m, r);
}

static bool prepare_whole(struct bench *b, enum bench_side side, char *why)
{
	char mode[64] = "";
	FILE *f;

	if (side != SIDE_ALSO)
		return true;
	f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	if (f) {
		if (!fgets(mode, sizeof(mode), f))
			mode[0] = '\0';
		fclose(f);
	}
	if (mode[0] && !strstr(mode, "[never]"))
		return true;
	snprintf(why, BENCH_TEXT, "the kernel gives no huge pages here");
	return false;
}

const struct bench_group bench_group_whole = {
	.name = "whole",
	.side = { "quire", "kernel", "kernel, huge pages" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 9,
	.row = {
		{ "first-touch", "first write to each page of 1 GiB", "ns/page", false, 0.9 },
		{ "protect", "all of it read-only and writable again", "ns/page", false, 1.3 },
		{ "write-again", "write to each page after that", "ns/page", false, 0 },
		{ "dontneed", "MADV_DONTNEED of all of it", "ns/page", false, 1.3 },
		{ "unmap", "unmap all of it", "ns/page", false, 1.3 },
	},
	.prepare = prepare_whole,
	.measure = measure_whole,
};

const struct bench_group bench_group_whole_2 = {
	.name = "whole-2",
	.side = { "quire", "kernel", "kernel, huge pages" },
	.threads = 2,
	.rounds = 5,
	.limit_s = 60,
	.memory_x8 = 9,
	.row = {
		{ "first-touch-2", "first touch, two threads, a half each", "ns/page", false, 0.9 },
		{ "protect-2", "protect, two threads", "ns/page", false, 1.3 },
		{ "write-again-2", "write after that, two threads", "ns/page", false, 0 },
		{ "dontneed-2", "MADV_DONTNEED, two threads", "ns/page", false, 1.3 },
		{ "unmap-2", "unmap, two threads", "ns/page", false, 1.3 },
	},
	.prepare = prepare_whole,
	.measure = measure_whole,
};
