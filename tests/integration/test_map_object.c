/*
 * test_map_object.c - files and shared memory mapped by the public calls: what mappings, calls and
 * the file itself show is one content, with far too little memory, under truncation, holes, forks,
 * and threads that use a page at several addresses.
 */
#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define RW   (QUIRE_PROT_READ | QUIRE_PROT_WRITE)

/* The first that fails ends the test: threads check too. */
#define EQ(a, b)                                                                                 \
	do {                                                                                     \
		int64_t a_ = (int64_t)(a), b_ = (int64_t)(b);                                    \
		if (a_ != b_) {                                                                  \
			fprintf(stderr, "line %d: %s is %ld, not %ld\n", __LINE__, #a, (long)a_, \
				(long)b_);                                                       \
			_exit(1);                                                                \
		}                                                                                \
	} while (0)
#define CHECK(c) EQ(!(c), 0)

static char path[256];

struct fixture {
	quire_t *q;
	quire_space_t *s;
	quire_object_t *o;
	uint64_t pages;
	int fd;
};

static uint64_t word(uint64_t page, uint64_t tag)
{
	return (page + 1) * 0x9e3779b97f4a7c15ull ^ tag;
}

/* A file of `pages`, each beginning with word(page, 1). */
static void open_all(struct fixture *x, uint64_t ram_pages, uint64_t pages)
{
	struct quire_options opt = { .size = sizeof(opt),
				     .ram_bytes = ram_pages * PAGE,
				     .handle_sigbus = 1 };
	char msg[256] = "";
	int err = quire_open(&opt, &x->q, msg, sizeof(msg));

	if (err) {
		printf("skipped: %s (%d)\n", msg, err);
		exit(77);
	}
	x->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(x->fd >= 0);
	EQ(ftruncate(x->fd, (off_t)(pages * PAGE)), 0);
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t w = word(i, 1);

		EQ(pwrite(x->fd, &w, 8, (off_t)(i * PAGE)), 8);
	}
	x->pages = pages;
	EQ(quire_space_create(x->q, &x->s), 0);
	err = quire_object_open(x->q, path, 0, &x->o);
	if (err == -EOPNOTSUPP) {
		printf("skipped: no shared areas on this system\n");
		exit(77);
	}
	EQ(err, 0);
	EQ(quire_object_size(x->o), pages * PAGE);
	/* Before anything is mapped. */
	for (uint64_t i = 0, w = 0; i < pages; i += 7) {
		EQ(quire_object_read(x->o, i * PAGE, &w, 8), 8);
		EQ(w, word(i, 1));
	}
}

static void close_all(struct fixture *x)
{
	struct quire_stats st = { .size = sizeof(st) };

	EQ(quire_check(x->q), 0);
	if (x->o)
		EQ(quire_object_close(x->o), 0);
	quire_space_destroy(x->s);
	EQ(quire_check(x->q), 0);
	EQ(quire_stats_get(x->q, &st), 0);
	EQ(st.warnings, 0);
	quire_close(x->q);
	close(x->fd);
	unlink(path);
}

static volatile char *map(struct fixture *x, quire_space_t *s, uint64_t pages, int flags,
			  uint64_t first)
{
	void *at = NULL;

	EQ(quire_map_object(s, NULL, pages * PAGE, RW, flags, x->o, first * PAGE, &at), 0);
	return at;
}

static uint64_t load(volatile char *at, uint64_t page)
{
	return *(volatile uint64_t *)(at + page * PAGE);
}

static void store(volatile char *at, uint64_t page, uint64_t v)
{
	*(volatile uint64_t *)(at + page * PAGE) = v;
}

static uint64_t in_file(struct fixture *x, uint64_t page)
{
	uint64_t w = 0;

	EQ(pread(x->fd, &w, 8, (off_t)(page * PAGE)), 8);
	return w;
}

static void test_basic(void)
{
	struct fixture x;
	volatile char *a, *b, *p;
	uint64_t w;

	open_all(&x, 4096, 100);
	a = map(&x, x.s, 100, QUIRE_MAP_SHARED, 0);
	b = map(&x, x.s, 90, QUIRE_MAP_SHARED, 10);
	p = map(&x, x.s, 100, 0, 0);
	for (uint64_t i = 0; i < 100; i++)
		EQ(load(a, i), word(i, 1));
	for (uint64_t i = 0; i < 100; i += 2)
		store(a, i, word(i, 2));
	for (uint64_t i = 10; i < 100; i++)
		EQ(load(b, i - 10), word(i, i % 2 ? 1 : 2));
	/* A private copy hides what comes after it. */
	for (uint64_t i = 0; i < 100; i += 3)
		store(p, i, word(i, 3));
	for (uint64_t i = 0; i < 100; i++)
		store(b, i % 90, word(i % 90 + 10, 4));
	for (uint64_t i = 0; i < 100; i++) {
		EQ(load(p, i), word(i, i % 3 == 0 ? 3 : i >= 10 ? 4 : i % 2 ? 1 : 2));
		EQ(load(a, i), word(i, i >= 10 ? 4 : i % 2 ? 1 : 2));
	}
	EQ(quire_object_read(x.o, 50 * PAGE, &w, 8), 8);
	EQ(w, word(50, 4));
	w = word(50, 5);
	EQ(quire_object_write(x.o, 50 * PAGE, &w, 8), 8);
	EQ(load(a, 50), w);
	EQ(load(b, 40), w);
	EQ(quire_check(x.q), 0);
	EQ(quire_sync(x.s, (void *)(uintptr_t)a, 100 * PAGE, QUIRE_SYNC_WAIT), 0);
	for (uint64_t i = 0; i < 100; i++)
		EQ(in_file(&x, i), word(i, i == 50 ? 5 : i >= 10 ? 4 : i % 2 ? 1 : 2));
	/* And again: the entries were write-protected, everywhere. */
	store(a, 20, word(20, 6));
	store(b, 20, word(30, 6));
	EQ(quire_sync(x.s, (void *)(uintptr_t)a, 100 * PAGE, QUIRE_SYNC_WAIT), 0);
	EQ(in_file(&x, 20), word(20, 6));
	EQ(in_file(&x, 30), word(30, 6));
	EQ(quire_unmap(x.s, (void *)(uintptr_t)(a + 10 * PAGE), 10 * PAGE), 0);
	EQ(load(b, 5), word(15, 4));
	EQ(load(a, 9), word(9, 1));
	close_all(&x);
}

static sigjmp_buf back;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

/* Does a load of the page raise SIGBUS? */
static int bus(volatile char *at, uint64_t page)
{
	if (sigsetjmp(back, 1))
		return 1;
	(void)load(at, page);
	return 0;
}

static void test_truncate(void)
{
	struct fixture x;
	volatile char *a, *p;

	open_all(&x, 4096, 100);
	a = map(&x, x.s, 120, QUIRE_MAP_SHARED, 0);
	p = map(&x, x.s, 120, 0, 0);
	for (uint64_t i = 0; i < 100; i++) {
		store(a, i, word(i, 2));
		store(p, i, word(i, 3));
	}
	EQ(bus(a, 100), 1);
	EQ(quire_object_truncate(x.o, 50 * PAGE + 8), 0);
	EQ(quire_check(x.q), 0);
	EQ(load(a, 50), word(50, 2));
	EQ(load(p, 49), word(49, 3));
	EQ(bus(a, 51), 1);
	EQ(bus(p, 51), 1);
	EQ(quire_object_truncate(x.o, 110 * PAGE), 0);
	for (uint64_t i = 51; i < 110; i++) {
		EQ(load(a, i), 0);
		EQ(load(p, i), 0);
	}
	EQ(bus(a, 110), 1);
	store(a, 109, 7);
	EQ(quire_object_punch(x.o, 10 * PAGE, 10 * PAGE), 0);
	EQ(load(a, 9), word(9, 2));
	EQ(load(a, 10), 0);
	EQ(load(a, 19), 0);
	EQ(load(a, 20), word(20, 2));
	EQ(load(p, 15), word(15, 3));
	EQ(quire_sync(x.s, (void *)(uintptr_t)a, 110 * PAGE, QUIRE_SYNC_WAIT), 0);
	EQ(lseek(x.fd, 0, SEEK_END), 110 * PAGE);
	EQ(in_file(&x, 9), word(9, 2));
	EQ(in_file(&x, 15), 0);
	EQ(in_file(&x, 109), 7);
	EQ(in_file(&x, 60), 0);
	close_all(&x);
}

/* Both kinds of object, each many times the memory. */
static void test_pressure(void)
{
	uint64_t n = 3000, seed = 12345;
	struct fixture x;
	quire_object_t *file;
	volatile char *a, *m, *p;
	uint8_t *tag = calloc(3, n);

	CHECK(tag);
	open_all(&x, 400, n);
	a = map(&x, x.s, n, QUIRE_MAP_SHARED, 0);
	p = map(&x, x.s, n, 0, 0);
	file = x.o;
	EQ(quire_object_create(x.q, n * PAGE, &x.o), 0);
	m = map(&x, x.s, n, QUIRE_MAP_SHARED, 0);
	EQ(quire_object_close(x.o), 0);
	x.o = file;
	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t page, which;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		page = (seed >> 33) % n;
		which = (seed >> 20) % 3;
		tag[which * n + page] = (uint8_t)(2 + (seed >> 24) % 200);
		store(which == 0 ? a : which == 1 ? m : p, page, word(page, tag[which * n + page]));
	}
	for (uint64_t i = 0; i < n; i++) {
		uint64_t file_word = word(i, tag[i] ? tag[i] : 1);

		EQ(load(a, i), file_word);
		EQ(load(m, i), tag[n + i] ? word(i, tag[n + i]) : 0);
		EQ(load(p, i), tag[2 * n + i] ? word(i, tag[2 * n + i]) : file_word);
	}
	EQ(quire_check(x.q), 0);
	EQ(quire_sync(x.s, (void *)(uintptr_t)a, n * PAGE, QUIRE_SYNC_WAIT), 0);
	for (uint64_t i = 0; i < n; i++)
		EQ(in_file(&x, i), word(i, tag[i] ? tag[i] : 1));
	free(tag);
	close_all(&x);
}

struct adder {
	struct fixture *x;
	volatile char *at;
	uint64_t rounds;
};

#define COUNTED 40u

static void *add(void *arg)
{
	struct adder *d = arg;

	for (uint64_t i = 0; i < d->rounds; i++)
		atomic_fetch_add((_Atomic uint64_t *)(uintptr_t)(d->at + i % COUNTED * PAGE + 8),
				 1);
	return NULL;
}

/* No addition is lost: the page is written at two addresses, written back, evicted and unmapped
 * meanwhile. */
static void test_adders(void)
{
	struct fixture x;
	struct adder d[2];
	pthread_t t[2];
	volatile char *a;

	open_all(&x, 300, 1000);
	a = map(&x, x.s, 1000, QUIRE_MAP_SHARED, 0);
	for (int i = 0; i < 2; i++) {
		d[i] = (struct adder){ &x, map(&x, x.s, COUNTED, QUIRE_MAP_SHARED, 0), 60000 };
		EQ(pthread_create(&t[i], NULL, add, &d[i]), 0);
	}
	for (uint64_t i = 0; i < 300; i++) {
		void *at = (void *)(uintptr_t)(d[i % 2].at + i % COUNTED * PAGE);

		EQ(quire_sync(x.s, (void *)(uintptr_t)a, COUNTED * PAGE, QUIRE_SYNC_WAIT), 0);
		EQ(quire_advise(x.s, at, PAGE, i % 3 ? MADV_DONTNEED : MADV_PAGEOUT), 0);
		for (uint64_t k = 0; k < 30; k++)
			(void)load(a, COUNTED + (i * 30 + k) % 900);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	EQ(quire_sync(x.s, (void *)(uintptr_t)d[0].at, COUNTED * PAGE, QUIRE_SYNC_WAIT), 0);
	for (uint64_t i = 0; i < COUNTED; i++) {
		uint64_t w;

		EQ(pread(x.fd, &w, 8, (off_t)(i * PAGE + 8)), 8);
		EQ(w, 2 * 60000 / COUNTED);
		EQ(in_file(&x, i), word(i, 1));
	}
	close_all(&x);
}

static void test_forks(void)
{
	struct fixture x;
	quire_space_t *c;
	volatile char *a, *p, *ca, *cp;
	uint64_t base, size, child_base;
	pid_t pid;
	int status;

	open_all(&x, 4096, 60);
	a = map(&x, x.s, 60, QUIRE_MAP_SHARED, 0);
	p = map(&x, x.s, 60, 0, 0);
	for (uint64_t i = 0; i < 30; i++)
		store(p, i, word(i, 3));
	EQ(quire_space_fork(x.s, &c), 0);
	quire_space_range(x.s, &base, &size);
	quire_space_range(c, &child_base, &size);
	ca = a + (child_base - base);
	cp = p + (child_base - base);
	for (uint64_t i = 0; i < 60; i++) {
		EQ(load(cp, i), word(i, i < 30 ? 3 : 1));
		store(ca, i, word(i, 4));
		store(cp, i, word(i, 5));
	}
	for (uint64_t i = 0; i < 60; i++) {
		EQ(load(p, i), word(i, i < 30 ? 3 : 4));
		EQ(load(a, i), word(i, 4));
		EQ(load(cp, i), word(i, 5));
	}
	EQ(quire_check(x.q), 0);
	quire_space_destroy(c);
	/* The kernel's fork: objects are the parent's alone, whatever the child does. */
	store(a, 5, word(5, 6));
	quire_fork_prepare(x.q);
	pid = fork();
	if (!pid) {
		char byte;

		EQ(quire_forked_child(x.q), 0);
		EQ(quire_object_read(x.o, 0, &byte, 1), -EBADF);
		EQ(quire_check(x.q), 0);
		quire_space_destroy(x.s);
		quire_close(x.q);
		_exit(0);
	}
	quire_fork_done(x.q);
	CHECK(pid > 0);
	EQ(waitpid(pid, &status, 0), pid);
	EQ(status, 0);
	EQ(load(a, 5), word(5, 6));
	EQ(in_file(&x, 5), word(5, 1));
	EQ(quire_sync(x.s, (void *)(uintptr_t)a, 60 * PAGE, QUIRE_SYNC_WAIT), 0);
	EQ(in_file(&x, 5), word(5, 6));
	close_all(&x);
}

/* The mapping keeps the object; unmapping the last writes what is dirty. */
static void test_last(void)
{
	struct fixture x;
	volatile char *a;

	open_all(&x, 4096, 20);
	a = map(&x, x.s, 20, QUIRE_MAP_SHARED, 0);
	EQ(quire_object_close(x.o), 0);
	x.o = NULL;
	store(a, 7, word(7, 2));
	EQ(quire_unmap(x.s, (void *)(uintptr_t)a, 20 * PAGE), 0);
	EQ(in_file(&x, 7), word(7, 2));
	close_all(&x);
}

int main(void)
{
	const char *dir = getenv("TMPDIR");
	struct sigaction sa = { .sa_handler = on_bus };

	snprintf(path, sizeof(path), "%s/quire-map-%d", dir ? dir : "/tmp", (int)getpid());
	sigaction(SIGBUS, &sa, NULL);
	test_basic();
	test_truncate();
	test_pressure();
	test_adders();
	test_forks();
	test_last();
	return 0;
}
