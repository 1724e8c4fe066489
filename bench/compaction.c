/*
 * compaction.c - the kernel's own page migration, as fast as compaction does it.
 *
 * Compaction moves pages from the low end of memory to the high end. So an area is touched, the
 * half of it that lies higher in memory is given back, and then the kernel is asked to compact
 * (vm.compact_memory): the lower half moves to where the higher was. Which half that is, pagemap
 * says. The kernel counts the pages that it has moved, of whatever process; the time for each of
 * them includes its search for pages to move and to move to, as a compaction's does.
 */
#include "migrate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PFN_MASK (BIT(55) - 1)

/* Pages moved since the machine started; ~0: the kernel does not say. */
static u64 moved_pages(void)
{
	unsigned long long n = ~0ull;
	char line[256];
	FILE *f = fopen("/proc/vmstat", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "pgmigrate_success %llu", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* Where each page of the area is; false: the kernel does not tell. */
static bool read_pfns(const void *base, u64 pages, u64 *pfn)
{
	off_t at = (off_t)((u64)(uintptr_t)base / PAGE_SIZE * 8);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	u64 done = 0;
	ssize_t n = 1;

	while (fd >= 0 && done < pages * 8 && n > 0) {
		n = pread(fd, (char *)pfn + done, pages * 8 - done, at + (off_t)done);
		done += n > 0 ? (u64)n : 0;
	}
	if (fd >= 0)
		close(fd);
	for (u64 i = 0; i < pages; i++)
		pfn[i] &= PFN_MASK;
	return done == pages * 8 && pfn[0];
}

/* Gives the higher half back. */
static bool drop_higher_half(unsigned char *base, u64 pages, struct bench_result *r)
{
	u64 *pfn = calloc(2 * pages, sizeof(*pfn)), *sorted = pfn + pages;

	if (!pfn || !read_pfns(base, pages, pfn)) {
		bench_fail(r, "pagemap does not say where pages are: root is needed");
		free(pfn);
		return false;
	}
	memcpy(sorted, pfn, pages * sizeof(*pfn));
	qsort(sorted, pages, sizeof(*pfn), compare);
	for (u64 page = 0; page < pages; page++)
		if (pfn[page] > sorted[pages / 2])
			madvise(base + page * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED);
	free(pfn);
	return true;
}

double kernel_compaction(u64 bytes, struct bench_result *r)
{
	struct bench_memory m = { 0 };
	int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
	u64 pages = bytes / PAGE_SIZE, before, moved;
	unsigned char *base;
	double begin, took;
	ssize_t done;

	if (fd < 0) {
		bench_fail(r, "vm.compact_memory: %s", strerror(errno));
		return NAN;
	}
	base = bench_memory_map(&m, bytes, r);
	if (!base)
		return NAN;
	for (u64 at = 0; at < bytes; at += PAGE_SIZE)
		base[at] = 1;
	if (!drop_higher_half(base, pages, r))
		return NAN;
	before = moved_pages();
	begin = bench_thread_now();
	done = write(fd, "1", 1);
	took = bench_thread_now() - begin;
	moved = moved_pages() - before;
	close(fd);
	if (done != 1)
		bench_fail(r, "vm.compact_memory: %s", strerror(errno));
	else if (before == ~0ull)
		bench_fail(r, "the kernel does not count the pages it moves");
	bench_memory_unmap(&m, base, bytes);
	/* So few are no rate: the round has none. */
	return moved < pages / 32 ? NAN : took * 1e9 / (double)moved;
}

static void try_compaction(void *ctx, struct bench_result *r)
{
	/* Twice: at times there is room somewhere else than was thought. */
	for (unsigned i = 0; i < 2 && !r->error[0]; i++)
		if (!isnan(kernel_compaction(*(u64 *)ctx, r)))
			return;
	bench_fail(r, "the kernel's compaction moves too few pages here");
}

bool compaction_possible(u64 bytes, char *why)
{
	struct bench_result *r = bench_shared(sizeof(*r));

	if (!r)
		return false;
	bench_child(20, try_compaction, &bytes, r);
	snprintf(why, BENCH_TEXT, "%s", r->error);
	return !why[0];
}
