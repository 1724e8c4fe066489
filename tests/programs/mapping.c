/*
 * Memory calls: results, errors and bytes, printed so that a native and a managed run can be
 * compared.
 * Addresses are printed relative to the mapping that they belong to.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB  (1ul << 20)
#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static unsigned char *squeezer;

static void squeeze(void)
{
	for (size_t i = 0; i < 16 * MIB; i += PAGE)
		squeezer[i]++;
}

static void say(const char *what, long r)
{
	printf("%s: %ld%s%s\n", what, r, r < 0 ? " " : "", r < 0 ? strerrorname_np(errno) : "");
}

static unsigned char *map(size_t n)
{
	unsigned char *p = mmap(NULL, n, RW, ANON, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static unsigned long sum(const unsigned char *p, size_t n)
{
	unsigned long s = 0;

	for (size_t i = 0; i < n; i++)
		s = s * 31 + p[i];
	return s;
}

static void mark(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(i / 7 + seed + (i >> 12));
}

static int file_of(size_t n)
{
	FILE *f = tmpfile();
	unsigned char *b = malloc(n);

	mark(b, n, 99);
	if (fwrite(b, 1, n, f) != n || fflush(f))
		abort();
	free(b);
	return fileno(f);
}

static void arguments(void)
{
	unsigned char *p = map(MIB), vec[256];

	say("munmap unaligned", munmap(p + 1, PAGE));
	say("munmap nothing", munmap(p, 0));
	say("mprotect unaligned", mprotect(p + 1, PAGE, PROT_READ));
	say("mprotect nothing", mprotect(p, 0, PROT_READ));
	say("mprotect bad bits", mprotect(p, PAGE, 0x40000000));
	say("madvise unaligned", madvise(p + 1, PAGE, MADV_DONTNEED));
	say("madvise nothing", madvise(p, 0, MADV_DONTNEED));
	say("madvise unknown", madvise(p, PAGE, 77));
	say("mincore unaligned", mincore(p + 1, PAGE, vec));
	say("mincore bad vector", mincore(p, PAGE, (void *)8));
	say("msync unaligned", msync(p + 1, PAGE, MS_SYNC));
	say("msync both", msync(p, PAGE, MS_SYNC | MS_ASYNC));
	say("msync", msync(p, MIB, MS_SYNC));
	say("mremap bad flags", mremap(p, PAGE, PAGE, 64) == MAP_FAILED ? -1 : 0);
	say("mremap to nothing", mremap(p, PAGE, 0, 0) == MAP_FAILED ? -1 : 0);
	say("mremap unaligned", mremap(p + 1, PAGE, PAGE, 0) == MAP_FAILED ? -1 : 0);
	say("mmap nothing", mmap(NULL, 0, RW, ANON, -1, 0) == MAP_FAILED ? -1 : 0);
	say("mmap bad fd",
	    mmap(p, PAGE, RW, MAP_PRIVATE | MAP_FIXED, 999, 0) == MAP_FAILED ? -1 : 0);
	p[0] = 5; /* it is still there */
	say("munmap", munmap(p, MIB));
	say("munmap again", munmap(p, MIB));
}

static void holes(void)
{
	unsigned char *p = map(MIB), *vec = malloc(MIB);

	mark(p, MIB, 1);
	squeeze();
	say("punch", munmap(p + 64 * PAGE, 3 * PAGE));
	say("mprotect over it", mprotect(p + 60 * PAGE, 10 * PAGE, PROT_READ));
	say("madvise over it", madvise(p + 60 * PAGE, 10 * PAGE, MADV_WILLNEED));
	say("dontneed over it", madvise(p + 62 * PAGE, 6 * PAGE, MADV_DONTNEED));
	say("mincore over it", mincore(p + 60 * PAGE, 10 * PAGE, vec));
	say("msync over it", msync(p + 60 * PAGE, 10 * PAGE, MS_ASYNC));
	say("mlock over it", mlock(p + 63 * PAGE, 2 * PAGE));
	say("munlock", munlock(p + 63 * PAGE, PAGE));
	say("mremap over it",
	    mremap(p + 60 * PAGE, 10 * PAGE, 20 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
	printf("before %lu, zero %d, after %lu\n", sum(p, 62 * PAGE), p[63 * PAGE],
	       sum(p + 68 * PAGE, 100 * PAGE));
	say("refill", mmap(p + 64 * PAGE, 3 * PAGE, RW, ANON | MAP_FIXED, -1, 0) == p + 64 * PAGE);
	printf("empty %d\n", p[65 * PAGE]);
	say("occupied",
	    mmap(p + 64 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED ? -1 :
											     0);
	say("punch", munmap(p + 64 * PAGE, PAGE));
	say("free",
	    mmap(p + 64 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == p + 64 * PAGE);
	say("all", munmap(p, MIB));
	free(vec);
}

static void advice(void)
{
	static const int all[] = { MADV_NORMAL,        MADV_RANDOM,         MADV_SEQUENTIAL,
				   MADV_WILLNEED,      MADV_COLD,           MADV_PAGEOUT,
				   MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTDUMP,
				   MADV_DODUMP };
	unsigned char *p = map(2 * MIB);

	mark(p, 2 * MIB, 2);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		say("advice", madvise(p + MIB, MIB / 2, all[i]));
		squeeze();
	}
	printf("kept %lu\n", sum(p, 2 * MIB));
	say("dontneed", madvise(p + PAGE, PAGE, MADV_DONTNEED));
	printf("zero %d %d %d\n", p[PAGE], p[PAGE - 1], p[2 * PAGE]);
	say("read-only", mprotect(p, PAGE, PROT_READ));
	say("populate write", madvise(p, 2 * PAGE, MADV_POPULATE_WRITE));
	say("populate read", madvise(p, 2 * PAGE, MADV_POPULATE_READ));
	munmap(p, 2 * MIB);
}

static void moving(void)
{
	unsigned char *p = map(MIB), *q, *r;

	mark(p, MIB, 3);
	squeeze();
	q = mremap(p, MIB, 8 * MIB, MREMAP_MAYMOVE);
	printf("grown %d, bytes %lu, zero %d\n", q != MAP_FAILED, sum(q, MIB), q[5 * MIB]);
	mark(q + 4 * MIB, MIB, 4);
	squeeze();
	q = mremap(q, 8 * MIB, 5 * MIB, 0);
	printf("shrunk %d, bytes %lu\n", q != MAP_FAILED, sum(q, 5 * MIB));
	r = map(8 * MIB);
	mark(r, MIB, 5);
	p = mremap(q, 5 * MIB, 5 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, r + MIB);
	printf("moved %d, bytes %lu, before it %lu\n", p == r + MIB, sum(p, 5 * MIB), sum(r, MIB));
	say("old place", madvise(q, PAGE, MADV_NORMAL));
	p = mremap(r + MIB, MIB, MIB, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	printf("left behind %d, bytes %lu, zero %d\n", p != MAP_FAILED, sum(p, MIB), r[MIB + 5]);
	say("overlap",
	    mremap(r, 2 * MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, r + MIB) == MAP_FAILED ? -1 :
												0);
	munmap(p, MIB);
	munmap(r, 8 * MIB);
}

static void files(void)
{
	unsigned char *p = map(4 * MIB), *q, *s;
	int fd = file_of(MIB);

	mark(p, 4 * MIB, 6);
	q = mmap(p + MIB, MIB, RW, MAP_PRIVATE | MAP_FIXED, fd, 0);
	printf("file %d, bytes %lu\n", q == p + MIB, sum(p, 4 * MIB));
	squeeze();
	q[10] = 1;
	say("protect across", mprotect(p + MIB / 2, MIB, PROT_READ));
	say("and back", mprotect(p + MIB / 2, MIB, RW));
	say("dontneed across", madvise(p + MIB - PAGE, 2 * PAGE, MADV_DONTNEED));
	printf("zero %d, file again %d, bytes %lu\n", p[MIB - 1], q[10], sum(p, 4 * MIB));
	s = mmap(p + 3 * MIB, MIB / 2, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	s[5] = 77;
	printf("shared write seen %d\n", q[PAGE * 0 + 5] == 77);
	say("msync", msync(p + 3 * MIB - PAGE, 3 * PAGE, MS_SYNC));
	say("anonymous again", mmap(q, MIB, RW, ANON | MAP_FIXED, -1, 0) == q);
	printf("empty %lu\n", sum(q, MIB));
	mark(q, MIB, 7);
	squeeze();
	printf("bytes %lu\n", sum(p, 3 * MIB));
	q = mremap(s, MIB / 2, MIB / 4, 0);
	printf("shrunk file %d\n", q == s);
	say("hole behind it", madvise(s + MIB / 4, PAGE, MADV_NORMAL));
	say("unmap all", munmap(p, 4 * MIB));
	say("gone", madvise(p, 4 * MIB, MADV_NORMAL));
	close(fd);
}

static void forks(void)
{
	unsigned char *p = map(4 * MIB), *private = map(MIB), *wiped = map(MIB);
	int status;

	mark(p, 4 * MIB, 8);
	mark(wiped, MIB, 9);
	say("dontfork", madvise(private, MIB, MADV_DONTFORK));
	say("wipe", madvise(wiped, MIB, MADV_WIPEONFORK));
	squeeze();
	fflush(stdout);
	if (!fork()) {
		printf("child %lu, wiped %lu\n", sum(p, 4 * MIB), sum(wiped, MIB));
		say("not there", madvise(private, PAGE, MADV_NORMAL));
		mark(p, MIB, 10);
		squeeze();
		printf("its own %lu\n", sum(p, 4 * MIB));
		fflush(stdout);
		if (!fork()) {
			printf("grandchild %lu\n", sum(p, 4 * MIB));
			fflush(stdout);
			_exit(3);
		}
		wait(&status);
		_exit(WEXITSTATUS(status) + 1);
	}
	mark(p + 2 * MIB, MIB, 11);
	squeeze();
	wait(&status);
	printf("status %d, parent %lu, kept %lu\n", WEXITSTATUS(status), sum(p, 4 * MIB),
	       sum(wiped, MIB));
	munmap(p, 4 * MIB);
	munmap(private, MIB);
	munmap(wiped, MIB);
}

static void heap(void)
{
	unsigned char *start = sbrk(0), *p = sbrk((intptr_t)(2 * MIB));

	printf("grown %d\n", p == start);
	mark(p, 2 * MIB, 12);
	squeeze();
	printf("bytes %lu\n", sum(p, 2 * MIB));
	printf("less %d\n", sbrk(-(intptr_t)MIB) == (void *)(start + 2 * MIB));
	printf("more %d\n", sbrk((intptr_t)MIB) == (void *)(start + MIB));
	printf("zero %d, kept %d\n", p[MIB + 5], p[MIB - 5]);
	say("back", brk(start));
	printf("back %d\n", sbrk(0) == (void *)start);
}

static void many(void)
{
	unsigned char *p[200];
	unsigned long s = 0;

	for (int i = 0; i < 200; i++) {
		p[i] = map((size_t)(16 + i % 50) * PAGE);
		mark(p[i], 16 * PAGE, (unsigned)i);
		if (i % 3 == 0)
			mprotect(p[i], 4 * PAGE, PROT_READ);
		if (i % 7 == 0)
			madvise(p[i] + 8 * PAGE, PAGE, MADV_DONTNEED);
	}
	squeeze();
	for (int i = 0; i < 200; i++)
		s += sum(p[i], 16 * PAGE);
	for (int i = 0; i < 200; i += 2)
		munmap(p[i], (size_t)(16 + i % 50) * PAGE);
	for (int i = 1; i < 200; i += 2)
		s += sum(p[i], 16 * PAGE);
	printf("many %lu\n", s);
}

static void executable(void)
{
	/* mov $42, %eax; ret */
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	unsigned char *p = map(MIB);

	memcpy(p + 100, code, sizeof(code));
	squeeze();
	say("executable", mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	squeeze();
	printf("runs %d\n", ((int (*)(void))(void *)(p + 100))());
	munmap(p, MIB);
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {
		{ "arguments", arguments }, { "holes", holes }, { "advice", advice },
		{ "moving", moving },       { "files", files }, { "forks", forks },
		{ "heap", heap },           { "many", many },   { "executable", executable },
	};

	setvbuf(stdout, malloc(65536), _IOFBF, 65536);
	squeezer = map(16 * MIB);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		printf("--- %s\n", parts[i].name);
		parts[i].run();
		fflush(stdout);
	}
	return 0;
}
