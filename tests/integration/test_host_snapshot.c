/*
 * test_host_snapshot.c - snapshots and forked spaces on real memory: they are of one moment while a
 * thread writes, stay as they are, and can be read whole when more of their pages lie apart than
 * there are host mappings. Public header only.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <quire/quire.h>

#define PAGE 4096ul
#define RW   (QUIRE_PROT_READ | QUIRE_PROT_WRITE)

/* Plain checks: the signal handlers must be Quire's. */
#define CHECK(holds)                                                                        \
	do {                                                                                \
		if (!(holds)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds); \
			exit(1);                                                            \
		}                                                                           \
	} while (0)

static quire_t *q;
static quire_space_t *space;

/* NULL: there is no shareable memory here. */
static char *map(size_t pages)
{
	void *p = NULL;
	int rc = quire_map(space, NULL, pages * PAGE, RW, QUIRE_MAP_SHAREABLE, &p);

	if (rc == -EOPNOTSUPP)
		exit(77);
	CHECK(rc == 0);
	return p;
}

static volatile uint64_t *word(char *base, size_t page)
{
	return (volatile uint64_t *)(void *)(base + page * PAGE);
}

#define ROUND_PAGES 600ul

static volatile int stop;

/* Rounds of writes from the first page to the last: at any moment pages hold the number of this
 * round up to somewhere, and of the last one behind. */
static void *write_rounds(void *arg)
{
	for (uint64_t k = 1; !stop; k++)
		for (size_t i = 0; i < ROUND_PAGES && !stop; i++)
			*word(arg, i) = k;
	return NULL;
}

static void test_moment(void)
{
	char *base = map(ROUND_PAGES);
	uint64_t last = 0;
	pthread_t thread;

	stop = 0;
	CHECK(pthread_create(&thread, NULL, write_rounds, base) == 0);
	for (int n = 0; n < 60; n++) {
		uint64_t first, before;
		void *view = NULL;

		CHECK(quire_snapshot(space, base, ROUND_PAGES * PAGE, 0, &view) == 0);
		first = before = *word(view, 0);
		CHECK(first >= last);
		for (size_t i = 1; i < ROUND_PAGES; i++) {
			uint64_t v = *word(view, i);

			CHECK(v == first || v + 1 == first);
			CHECK(v <= before);
			before = v;
		}
		/* And it stays so. */
		CHECK(*word(view, 0) == first && *word(view, ROUND_PAGES - 1) == before);
		last = first;
		CHECK(quire_unmap(space, view, ROUND_PAGES * PAGE) == 0);
	}
	stop = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(quire_unmap(space, base, ROUND_PAGES * PAGE) == 0);
	CHECK(quire_check(q) == 0);
}

#define APART_PAGES 72000ul

/* Every other page is written, one by one. */
static void test_apart(void)
{
	char *base = map(APART_PAGES);
	void *view = NULL;

	for (size_t i = 0; i < APART_PAGES; i++)
		*word(base, i) = i + 1;
	CHECK(quire_snapshot(space, base, APART_PAGES * PAGE, 0, &view) == 0);
	CHECK(quire_advise(space, base, APART_PAGES * PAGE, MADV_RANDOM) == 0);
	for (size_t i = 0; i < APART_PAGES; i += 2)
		*word(base, i) = 0;
	for (size_t i = 0; i < APART_PAGES; i++)
		CHECK(*word(view, i) == i + 1);
	for (size_t i = 0; i < APART_PAGES; i++)
		CHECK(*word(base, i) == (i & 1 ? i + 1 : 0));
	CHECK(quire_check(q) == 0);
	CHECK(quire_unmap(space, base, APART_PAGES * PAGE) == 0);
	CHECK(*word(view, 1) == 2 && *word(view, 2) == 3);
	CHECK(quire_unmap(space, view, APART_PAGES * PAGE) == 0);
}

static void test_fork(void)
{
	uint64_t from, to, size;
	char *base = map(100), *there;
	quire_space_t *child;
	void *own = NULL;

	for (size_t i = 0; i < 100; i++)
		*word(base, i) = i + 1;
	CHECK(quire_map(space, NULL, PAGE, RW, 0, &own) == 0);
	CHECK(quire_space_fork(space, &child) == -EOPNOTSUPP);
	CHECK(quire_advise(space, own, PAGE, MADV_DONTFORK) == 0);
	CHECK(quire_space_fork(space, &child) == 0);
	quire_space_range(space, &from, &size);
	quire_space_range(child, &to, &size);
	there = base + (to - from);
	for (size_t i = 0; i < 50; i++)
		*word(base, i) = 0;
	for (size_t i = 25; i < 75; i++)
		*word(there, i) = 7;
	for (size_t i = 0; i < 100; i++) {
		CHECK(*word(base, i) == (i < 50 ? 0 : i + 1));
		CHECK(*word(there, i) == (i >= 25 && i < 75 ? 7 : i + 1));
	}
	CHECK(quire_check(q) == 0);
	CHECK(quire_unmap(space, base, 100 * PAGE) == 0);
	CHECK(*word(there, 99) == 100);
	quire_space_destroy(child);
	CHECK(quire_unmap(space, own, PAGE) == 0);
	CHECK(quire_snapshot(space, base, PAGE, 0, &own) == -ENOMEM);
}

int main(void)
{
	struct quire_options opt = { .size = sizeof(opt), .handle_sigbus = 1 };

	CHECK(!quire_open(&opt, &q, NULL, 0) && !quire_space_create(q, &space));
	test_moment();
	test_apart();
	test_fork();
	quire_close(q);
	return 0;
}
