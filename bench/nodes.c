/*
 * nodes.c - areas whose pages move between two nodes, and what is counted on the way.
 *
 * The kernel counts flushes for nobody, so the calls that make it flush are counted: an instance
 * makes its system calls through a function of its caller's.
 */
#include "nodes.h"

#include "base/gate.h"
#include "lib/lib_internal.h"
#include "machine/host/uffd_abi.h"
#include "machine/native/native.h"

#include <quire/quire.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SLACK (8ull << 20) /* of a node: what is on its way, and large folios */
#define TRIES 8u

/* ---- calls that flush: frames that are given back (fallocate) are mapped nowhere by then ---- */

static u64 flush_calls; /* by __atomic */

static bool takes_away(long nr, long b, long c, long d)
{
	switch (nr) {
	case SYS_ioctl:
		if ((unsigned int)b == (unsigned int)UFFDIO_WRITEPROTECT)
			return ((const struct uffdio_writeprotect *)c)->mode &
			       UFFDIO_WRITEPROTECT_MODE_WP;
		return (unsigned int)b == (unsigned int)HOST_UFFDIO_MOVE;
	case SYS_madvise:
		return c == MADV_DONTNEED || c == HOST_MADV_DONTNEED_LOCKED;
	case SYS_process_madvise:
		return d == MADV_DONTNEED || d == HOST_MADV_DONTNEED_LOCKED;
	case SYS_mmap:
		return d & MAP_FIXED;
	case SYS_mprotect:
	case SYS_mremap:
	case SYS_munmap:
		return true;
	}
	return false;
}

long bench_count_call(long nr, long a, long b, long c, long d, long e, long f)
{
	if (takes_away(nr, b, c, d))
		__atomic_fetch_add(&flush_calls, 1, __ATOMIC_RELAXED);
	return native_syscall_direct(nr, a, b, c, d, e, f);
}

u64 bench_flush_calls(void)
{
	return __atomic_load_n(&flush_calls, __ATOMIC_RELAXED);
}

/* ---- nodes of the machine ---- */

void bench_physical_nodes(int *first, int *second)
{
	char line[256] = "", *end = line;
	FILE *f = fopen("/sys/devices/system/node/has_memory", "re");
	long from = -1, to = -1;

	/* Such as "0-1,4": the first number and the last. */
	if (f && fgets(line, sizeof(line), f)) {
		from = to = strtol(line, &end, 10);
		while (*end == '-' || *end == ',')
			to = strtol(end + 1, &end, 10);
	}
	if (f)
		fclose(f);
	*first = from != to ? (int)from : -1;
	*second = from != to ? (int)to : -1;
}

int node_of(struct bench_memory *m, const void *addr)
{
	struct api_space *as = api_space_of(m->space);
	struct quire *q = as->a->q;
	struct ptdesc *desc;
	int node = -1;
	pte_t *p;
	u64 e;

	gate_enter(&q->gate);
	space_read_lock(&as->s->fs.vmas);
	p = pt_pte_lock(&as->s->fs.rs.pgt, (u64)(uintptr_t)addr, &desc);
	if (p) {
		e = pte_get(p);
		if (pte_present(e) && !pte_special(e))
			node = (int)folio_node(phys_folio(q, entry_pfn(e)));
		pt_pte_unlock(desc);
	}
	space_read_unlock(&as->s->fs.vmas);
	gate_exit(&q->gate);
	return node;
}

/* ---- areas ---- */

static void shuffle(void **at, u64 n)
{
	u64 rng = 0x2545f4914f6cdd1dull;

	for (u64 i = n - 1; i > 0; i--) {
		u64 k;
		void *t;

		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		k = rng % (i + 1);
		t = at[i];
		at[i] = at[k];
		at[k] = t;
	}
}

static u64 word_of(u64 page)
{
	return page * 0x9e3779b97f4a7c15ull + 1;
}

/* Two words of each page, the first and the last. */
static void fill(struct node_area *a)
{
	for (u64 page = 0; page < a->pages; page++) {
		u64 *p = a->base + page * PATTERN_WORDS;

		p[0] = word_of(page);
		p[PATTERN_WORDS - 1] = word_of(page) + 1;
	}
}

bool node_area_open(struct node_area *a, u64 bytes, u64 extra, unsigned flags,
		    struct bench_result *r)
{
	int err = 0;

	*a = (struct node_area){ .pages = bytes / PAGE_SIZE };
	a->at = calloc(a->pages, sizeof(*a->at));
	a->status = calloc(MOVE_BATCH, sizeof(*a->status));
	if (!a->at || !a->status) {
		bench_fail(r, "no memory");
		return false;
	}
	if (!bench_memory_open_nodes(&a->m, bytes + bytes / 8 + SLACK + extra,
				     bytes + bytes / 8 + SLACK, false, r))
		return false;
	a->m.shareable = flags & AREA_SHAREABLE;
	a->base = bench_memory_map(&a->m, bytes, r);
	if (!a->base)
		return false;
	if (flags & AREA_SINGLE)
		err = quire_advise(a->m.space, a->base, bytes, MADV_RANDOM);
	if (err)
		bench_fail(r, "MADV_RANDOM: %s", strerror(-err));
	for (u64 page = 0; page < a->pages; page++)
		a->at[page] = a->base + page * PATTERN_WORDS;
	if (flags & AREA_SHUFFLED)
		shuffle(a->at, a->pages);
	fill(a);
	return !r->error[0];
}

void node_area_close(struct node_area *a, struct bench_result *r)
{
	for (u64 page = 0; page < a->pages && !r->error[0]; page++) {
		const volatile u64 *p = a->base + page * PATTERN_WORDS;

		if (p[0] != word_of(page) || p[PATTERN_WORDS - 1] != word_of(page) + 1)
			bench_fail(r, "page %llu has lost its contents", (unsigned long long)page);
	}
	bench_memory_close(&a->m, r);
	free(a->at);
	free(a->status);
}

/* One call, and which page did not get there; `n`: none. */
static u64 move_once(struct node_area *a, void *const *at, u64 n, unsigned node,
		     struct bench_result *r)
{
	int err = quire_move_pages(a->m.space, n, at, node, a->status);
	u64 i = 0;

	if (err)
		bench_fail(r, "quire_move_pages: %s", strerror(-err));
	while (!err && i < n && a->status[i] == (int)node)
		i++;
	return err ? n : i;
}

void node_area_move(struct node_area *a, u64 first, u64 n, unsigned node, unsigned batch,
		    struct bench_result *r)
{
	for (u64 at = first, last = first + n; at < last && !r->error[0];) {
		u64 part = min(last - at, (u64)batch), stays = 0;

		/* The kernel itself may use a page at that moment: callers ask again then. */
		for (unsigned tries = 0; tries < TRIES && stays != part; tries++) {
			stays = move_once(a, a->at + at, part, node, r);
			if (stays != part && a->status[stays] != -EBUSY)
				break;
		}
		if (stays != part)
			bench_fail(r, "page %llu did not move to node %u: %s",
				   (unsigned long long)(at + stays), node,
				   strerror(-a->status[stays]));
		at += part;
	}
}

/* ---- are there nodes here? ---- */

static void try_nodes(void *ctx, struct bench_result *r)
{
	unsigned flags = *(unsigned *)ctx;
	struct node_area a;

	if (!node_area_open(&a, PMD_SIZE, 0, flags, r))
		return;
	node_area_move(&a, 0, a.pages, 1, MOVE_BATCH, r);
	node_area_close(&a, r);
}

bool nodes_possible(unsigned flags, char *why)
{
	struct bench_result *r = bench_shared(sizeof(*r));

	if (!r)
		return false;
	bench_child(20, try_nodes, &flags, r);
	snprintf(why, BENCH_TEXT, "%s", r->error);
	return !why[0];
}
