/*
 * test_durable.c - what was written through a shared mapping of a file is in the file when sync has
 * said so, whatever comes after: eviction, truncation, holes, and the end of the process by
 * SIGKILL.
 *
 * A child stores numbered values through a mapping of a file with far too little memory, syncs,
 * truncates and punches; three threads, each with pages of its own. What it is about to do and what
 * it knows to be done it notes in memory shared with its parent, which kills it at some moment and
 * then reads the file. Of each word the parent knows
 *   not older than what a sync has confirmed, unless a hole was begun since;
 *   not older than a hole that was finished;
 *   a value that was once stored at just this place, or zero.
 * The next child goes on with the same file. And two liars, one that notes syncs which it did not
 * make, and one holes: the checks must see through both.
 */
#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE    4096ul
#define PAGES   256u
#define TAIL    192u /* pages from here on are cut off now and then */
#define WORDS   8u   /* of each page, spread over it */
#define RAM     48u  /* pages of memory for PAGES */
#define MAX_SEQ (1u << 22)
#define THREADS 3u
#define ROUNDS  12u
#define RW      (QUIRE_PROT_READ | QUIRE_PROT_WRITE)

enum mode { HONEST, LIES_ABOUT_SYNC, LIES_ABOUT_HOLES };

/* Shared with the parent; each page's fields are changed by the thread that owns the page. */
struct notes {
	_Atomic uint64_t seq;                /* the next number */
	_Atomic uint64_t syncs, holes, cuts; /* finished */
	_Atomic int unable;                  /* there are no shared areas on this system */
	_Atomic int failed;                  /* the line of a call that failed in the child */
	_Atomic uint32_t confirmed[PAGES];
	_Atomic uint32_t hole_begun[PAGES];
	_Atomic uint32_t hole_done[PAGES];
	uint16_t page_of[MAX_SEQ]; /* which page each number was stored to */
};

static struct notes *notes;
static char path[256];

#define TRY(c)                                                  \
	do {                                                    \
		if (!(c)) {                                     \
			atomic_store(&notes->failed, __LINE__); \
			_exit(1);                               \
		}                                               \
	} while (0)

static uint64_t word_of(uint64_t seq, uint64_t page, uint64_t k)
{
	return seq << 24 | page << 8 | k;
}

/* ---- the child ---- */

struct child {
	quire_t *q;
	quire_space_t *s;
	quire_object_t *o;
	char *at;
	enum mode mode;
};

struct worker {
	struct child *c;
	uint64_t rng;
	uint32_t first, nr;
	uint32_t stored[PAGES]; /* by this process: what an earlier one had in memory is gone */
	bool cuts;
	pthread_t id;
};

static uint64_t rnd(struct worker *w, uint64_t below)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (w->rng >> 13) % below;
}

static void store_page(struct worker *w)
{
	uint32_t page = w->first + (uint32_t)rnd(w, w->nr);
	uint64_t seq = atomic_fetch_add(&notes->seq, 1);

	TRY(seq < MAX_SEQ);
	notes->page_of[seq] = (uint16_t)page;
	for (uint64_t k = 0; k < WORDS; k++)
		*(volatile uint64_t *)(w->c->at + page * PAGE + k * (PAGE / WORDS)) =
			word_of(seq, page, k);
	w->stored[page] = (uint32_t)seq;
}

/* Some of the worker's own pages, by either call. */
static void sync_pages(struct worker *w)
{
	uint32_t from = (uint32_t)rnd(w, w->nr), n = 1 + (uint32_t)rnd(w, w->nr - from);
	uint64_t offset = (w->first + from) * PAGE;

	if (w->c->mode == LIES_ABOUT_SYNC)
		;
	else if (rnd(w, 2))
		TRY(!quire_sync(w->c->s, w->c->at + offset, n * PAGE, QUIRE_SYNC_WAIT));
	else
		TRY(!quire_object_sync(w->c->o, offset, n * PAGE));
	for (uint32_t i = w->first + from; i < w->first + from + n; i++)
		if (w->stored[i])
			atomic_store(&notes->confirmed[i], w->stored[i]);
	atomic_fetch_add(&notes->syncs, 1);
}

/* Punch some of the worker's own pages, or cut the file off there. */
static void make_hole(struct worker *w)
{
	bool cut = w->cuts && rnd(w, 2);
	uint32_t from = w->first + (uint32_t)rnd(w, w->nr);
	uint32_t n = cut ? PAGES - from : 1 + (uint32_t)rnd(w, w->first + w->nr - from);
	uint32_t seq = (uint32_t)atomic_fetch_add(&notes->seq, 1);

	for (uint32_t i = from; i < from + n; i++)
		atomic_store(&notes->hole_begun[i], seq);
	if (w->c->mode == LIES_ABOUT_HOLES) {
		;
	} else if (cut) {
		TRY(!quire_object_truncate(w->c->o, from * PAGE));
		TRY(!quire_object_truncate(w->c->o, PAGES * PAGE));
	} else {
		TRY(!quire_object_punch(w->c->o, from * PAGE, n * PAGE));
	}
	for (uint32_t i = from; i < from + n; i++)
		atomic_store(&notes->hole_done[i], seq);
	atomic_fetch_add(cut ? &notes->cuts : &notes->holes, 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		uint64_t what = rnd(w, 64);

		if (what == 0)
			make_hole(w);
		else if (what < 4)
			sync_pages(w);
		else
			store_page(w);
	}
	return NULL;
}

static void run_child(enum mode mode, uint64_t seed)
{
	/* A liar has all the memory that it wants, so that nothing else writes its pages. */
	struct quire_options opt = { .size = sizeof(opt),
				     .ram_bytes = mode == HONEST ? RAM * PAGE : 0,
				     .handle_sigbus = 1,
				     .background = mode == HONEST };
	static const uint32_t first[THREADS + 1] = { 0, 100, TAIL, PAGES };
	struct worker w[THREADS];
	struct child c = { .mode = mode };
	void *at = NULL;
	int err = quire_open(&opt, &c.q, NULL, 0);

	if (!err)
		err = quire_object_open(c.q, path, 0, &c.o);
	if (err) {
		atomic_store(&notes->unable, 1);
		_exit(0);
	}
	TRY(!quire_object_truncate(c.o, PAGES * PAGE));
	TRY(!quire_space_create(c.q, &c.s));
	TRY(!quire_map_object(c.s, NULL, PAGES * PAGE, RW, QUIRE_MAP_SHARED, c.o, 0, &at));
	c.at = at;
	for (uint32_t i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .c = &c,
					.rng = seed * 977 + i * 131 + 1,
					.first = first[i],
					.nr = first[i + 1] - first[i],
					.cuts = i == THREADS - 1 };
		TRY(!pthread_create(&w[i].id, NULL, work, &w[i]));
	}
	for (;;)
		pause();
}

/* ---- the parent ---- */

static int complaints(uint32_t page, uint64_t k, uint64_t word, bool say)
{
	uint64_t seq = word >> 24, confirmed = atomic_load(&notes->confirmed[page]);
	uint64_t begun = atomic_load(&notes->hole_begun[page]);
	const char *what = NULL;

	if (!word)
		what = confirmed && begun <= confirmed ? "is zero, though a sync has confirmed" :
							 NULL;
	else if (word != word_of(seq, page, k) || seq >= MAX_SEQ || notes->page_of[seq] != page)
		what = "was never stored there; confirmed";
	else if (seq < confirmed && begun <= confirmed)
		what = "is older than what a sync has confirmed";
	else if (seq < atomic_load(&notes->hole_done[page]))
		what = "is older than a hole; confirmed";
	if (what && say)
		printf("page %u, word %lu: %#lx (number %lu) %s: %lu\n", page, (unsigned long)k,
		       (unsigned long)word, (unsigned long)seq, what, (unsigned long)confirmed);
	return what != NULL;
}

/* The words of the file that must not be there. */
static int check_file(bool say)
{
	static char bytes[PAGES * PAGE];
	int fd = open(path, O_RDONLY), bad = 0;
	ssize_t n;

	memset(bytes, 0, sizeof(bytes));
	if (fd < 0)
		return 1;
	n = read(fd, bytes, sizeof(bytes));
	bad += n < 0 || lseek(fd, 0, SEEK_END) > (off_t)(PAGES * PAGE);
	close(fd);
	for (uint32_t page = 0; page < PAGES; page++)
		for (uint64_t i = 0; i < PAGE / 8; i++) {
			uint64_t word = *(uint64_t *)(void *)(bytes + page * PAGE + i * 8);

			if (i % (PAGE / 8 / WORDS))
				bad += word != 0;
			else
				bad += complaints(page, i / (PAGE / 8 / WORDS), word, say && !bad);
		}
	return bad;
}

/* A child that is killed when it has done some number of things more. False: there is no such
 * system. */
static bool one_child(enum mode mode, uint64_t seed)
{
	uint64_t until = atomic_load(&notes->seq) + 200 + seed * 7919 % 6000;
	int status = 0;
	pid_t pid = fork();

	if (!pid)
		run_child(mode, seed);
	while (atomic_load(&notes->seq) < until && !atomic_load(&notes->unable) &&
	       !waitpid(pid, &status, WNOHANG))
		sched_yield();
	if (atomic_load(&notes->unable) || status) {
		if (atomic_load(&notes->failed))
			printf("line %d failed in the child\n", atomic_load(&notes->failed));
		else if (status)
			printf("the child ended by itself: %#x\n", (unsigned)status);
		return false;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return true;
}

static void new_file(void)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		exit(1);
	close(fd);
	memset(notes, 0, sizeof(*notes));
	atomic_store(&notes->seq, 1);
}

static int honest(void)
{
	new_file();
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		int bad;

		if (!one_child(HONEST, round)) {
			if (!atomic_load(&notes->unable))
				return 1;
			printf("skipped: no shared areas on this system\n");
			return 77;
		}
		bad = check_file(true);
		if (bad) {
			printf("round %lu: %d words are wrong\n", (unsigned long)round, bad);
			return 1;
		}
	}
	printf("%u children killed: %lu stores, %lu syncs, %lu holes, %lu cuts\n", ROUNDS,
	       (unsigned long)atomic_load(&notes->seq), (unsigned long)atomic_load(&notes->syncs),
	       (unsigned long)atomic_load(&notes->holes), (unsigned long)atomic_load(&notes->cuts));
	return !atomic_load(&notes->syncs) || !atomic_load(&notes->holes) ||
	       !atomic_load(&notes->cuts);
}

/* The checks see through it, in one of some rounds. */
static int liar(enum mode mode, const char *what)
{
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		new_file();
		if (!one_child(mode, round))
			return 1;
		if (check_file(false)) {
			printf("%s: seen through in round %lu\n", what, (unsigned long)round);
			return 0;
		}
	}
	printf("%s: not seen through\n", what);
	return 1;
}

int main(void)
{
	const char *dir = getenv("TMPDIR");
	int rc;

	snprintf(path, sizeof(path), "%s/quire-durable-%d", dir ? dir : "/tmp", (int)getpid());
	notes = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (notes == MAP_FAILED)
		return 1;
	rc = honest();
	if (!rc)
		rc = liar(LIES_ABOUT_SYNC, "syncs that were not made");
	if (!rc)
		rc = liar(LIES_ABOUT_HOLES, "holes that were not made");
	unlink(path);
	return rc;
}
