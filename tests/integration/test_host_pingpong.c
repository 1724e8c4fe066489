/*
 * test_host_pingpong.c - every page moves from node to node and back while threads use it, on real
 * memory. Public header only.
 *
 * Two areas, one private and one shareable, in chunks. Each page has a counter that everybody adds
 * to, a counter for each thread, and a text that follows from its version, which writers change
 * under a lock per page and readers check. Meanwhile pages are moved to the other node and back,
 * chunks are protected, or unmapped and mapped anew, the shareable area is seen through snapshots
 * and forked spaces, the process forks, and (with little memory) pages go to a store and come back.
 * At the end no addition is lost and no text is wrong.
 *
 *   QUIRE_PINGPONG_ROUNDS   how often each page is moved there and back (default 8)
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <quire/quire.h>

#define PAGE       4096ul
#define RW         (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define CHUNK      64ul /* pages */
#define CHUNKS     24ul
#define PAGES      (CHUNK * CHUNKS)
#define AREAS      2ul
#define WORKERS    4u
#define FIRST_TEXT 16u /* words before it: version, sum, the threads' sums, version again */
#define LAST_WORD  (PAGE / 8 - 1)

#define CHECK(holds)                                                                        \
	do {                                                                                \
		if (!(holds)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds); \
			_exit(1);                                                           \
		}                                                                           \
	} while (0)

struct page {
	uint64_t word[PAGE / 8];
};

static quire_t *q;
static quire_space_t *space[2]; /* quire_space_fork takes shareable areas only */
static struct page *area[AREAS];
static pthread_rwlock_t chunk_lock[AREAS][CHUNKS]; /* for reading: the chunk may be used */
static uint32_t page_lock[AREAS][PAGES];
static uint64_t retired[WORKERS + 1]; /* what was counted in chunks that were unmapped */
static uint64_t added[WORKERS];
static uint64_t moved_pages, snapshots, spaces, forks, remaps, protects, checks, writes;
static uint32_t stop;

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void add(uint64_t *to, uint64_t n)
{
	__atomic_fetch_add(to, n, __ATOMIC_RELAXED);
}

static uint64_t text(size_t a, size_t page, uint64_t version, size_t w)
{
	return (a * PAGES + page + 1) * 0x9e3779b97f4a7c15ull ^ version * 0xff51afd7ed558ccdull ^
	       w * 0x2545f4914f6cdd1dull;
}

static void write_page(struct page *p, size_t a, size_t page, uint64_t version)
{
	__atomic_store_n(&p->word[LAST_WORD], version, __ATOMIC_SEQ_CST);
	for (size_t w = FIRST_TEXT; w < LAST_WORD; w++)
		__atomic_store_n(&p->word[w], text(a, page, version, w), __ATOMIC_RELAXED);
	__atomic_store_n(&p->word[0], version, __ATOMIC_SEQ_CST);
}

/* Nobody writes the page now, or it is of a moment: then it may be half written, and says so. */
static void check_page(const struct page *p, size_t a, size_t page, int may_be_torn)
{
	uint64_t done = __atomic_load_n(&p->word[0], __ATOMIC_SEQ_CST);
	uint64_t begun = __atomic_load_n(&p->word[LAST_WORD], __ATOMIC_SEQ_CST);

	if (may_be_torn && done != begun)
		return;
	CHECK(done == begun);
	for (size_t w = FIRST_TEXT; w < LAST_WORD; w++)
		if (p->word[w] != text(a, page, done, w)) {
			fprintf(stderr, "area %zu page %zu word %zu: %llx, not %llx\n", a, page, w,
				(unsigned long long)p->word[w],
				(unsigned long long)text(a, page, done, w));
			_exit(1);
		}
}

static int try_page(size_t a, size_t page)
{
	return !__atomic_exchange_n(&page_lock[a][page], 1, __ATOMIC_ACQUIRE);
}

static void leave_page(size_t a, size_t page)
{
	__atomic_store_n(&page_lock[a][page], 0, __ATOMIC_RELEASE);
}

static void *work(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t rng = 88172645463325252ull + me * 7919;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t a = next(&rng) % AREAS, page = next(&rng) % PAGES;
		struct page *p = &area[a][page];
		pthread_rwlock_t *lock = &chunk_lock[a][page / CHUNK];

		if (pthread_rwlock_tryrdlock(lock))
			continue;
		__atomic_fetch_add(&p->word[1], 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&p->word[2 + me], 1, __ATOMIC_RELAXED);
		added[me]++;
		if (try_page(a, page)) {
			check_page(p, a, page, 0);
			add(&checks, 1);
			if (next(&rng) % 4 == 0) {
				write_page(p, a, page, p->word[0] + 1);
				add(&writes, 1);
			}
			leave_page(a, page);
		}
		pthread_rwlock_unlock(lock);
	}
	return NULL;
}

/* ---- what goes on meanwhile ---- */

/* All pages there and back, in pieces of many sizes and orders. */
static void *move(void *arg)
{
	unsigned long rounds = (unsigned long)(uintptr_t)arg;
	uint64_t rng = 1234567;
	void *at[CHUNK * 2];
	int status[CHUNK * 2];

	for (unsigned long r = 0; r < 2 * rounds; r++) {
		unsigned node = (unsigned)(r % 2 == 0);

		for (size_t a = 0; a < AREAS; a++)
			for (size_t page = 0, n; page < PAGES; page += n) {
				uint64_t got = 0;

				n = 1 + next(&rng) % (CHUNK * 2);
				n = n < PAGES - page ? n : PAGES - page;
				for (size_t i = 0; i < n; i++)
					at[i] = &area[a][page + (r % 3 ? i : n - 1 - i)];
				CHECK(!quire_move_pages(space[a], n, at, node, status));
				for (size_t i = 0; i < n; i++) {
					got += status[i] == (int)node;
					CHECK(status[i] >= 0 || status[i] == -ENOENT ||
					      status[i] == -EBUSY || status[i] == -ENOMEM ||
					      status[i] == -EFAULT);
				}
				add(&moved_pages, got);
			}
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void count_retired(const struct page *p)
{
	add(&retired[WORKERS], p->word[1]);
	for (unsigned w = 0; w < WORKERS; w++)
		add(&retired[w], p->word[2 + w]);
}

static void remap_chunk(size_t a, size_t chunk)
{
	struct page *first = &area[a][chunk * CHUNK];
	int flags = QUIRE_MAP_FIXED | (a ? QUIRE_MAP_SHAREABLE : 0);
	void *at = NULL;

	for (size_t i = 0; i < CHUNK; i++) {
		check_page(first + i, a, chunk * CHUNK + i, 0);
		count_retired(first + i);
	}
	CHECK(!quire_unmap(space[a], first, CHUNK * PAGE));
	CHECK(!quire_map(space[a], first, CHUNK * PAGE, RW, flags, &at) && at == first);
	for (size_t i = 0; i < CHUNK; i++) {
		for (unsigned w = 0; w < FIRST_TEXT; w++)
			CHECK(first[i].word[w] == 0);
		write_page(first + i, a, chunk * CHUNK + i, 1);
	}
	add(&remaps, 1);
}

static void protect_chunk(size_t a, size_t chunk)
{
	struct page *first = &area[a][chunk * CHUNK];

	CHECK(!quire_protect(space[a], first, CHUNK * PAGE, QUIRE_PROT_READ));
	for (size_t i = 0; i < CHUNK; i++)
		check_page(first + i, a, chunk * CHUNK + i, 0);
	CHECK(!quire_protect(space[a], first, CHUNK * PAGE, QUIRE_PROT_NONE));
	CHECK(!quire_protect(space[a], first, CHUNK * PAGE, RW));
	add(&protects, 1);
}

static void *disturb(void *arg)
{
	uint64_t rng = 424242;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t a = next(&rng) % AREAS, chunk = next(&rng) % CHUNKS;

		pthread_rwlock_wrlock(&chunk_lock[a][chunk]);
		if (next(&rng) % 2)
			protect_chunk(a, chunk);
		else
			remap_chunk(a, chunk);
		pthread_rwlock_unlock(&chunk_lock[a][chunk]);
		sched_yield();
	}
	return NULL;
}

static void look_at_snapshot(void)
{
	void *at = NULL;

	CHECK(!quire_snapshot(space[1], area[1], PAGES * PAGE, 0, &at));
	for (size_t i = 0; i < PAGES; i++)
		check_page((struct page *)at + i, 1, i, 1);
	CHECK(!quire_unmap(space[1], at, PAGES * PAGE));
	add(&snapshots, 1);
}

static void look_at_space(void)
{
	quire_space_t *child = NULL;
	uint64_t from, to, size;
	const struct page *p;

	CHECK(!quire_space_fork(space[1], &child));
	quire_space_range(space[1], &from, &size);
	quire_space_range(child, &to, &size);
	p = (const struct page *)((uintptr_t)area[1] - from + to);
	for (size_t i = 0; i < PAGES; i++)
		check_page(p + i, 1, i, 1);
	quire_space_destroy(child);
	add(&spaces, 1);
}

/* fork(2): the child has the private area. */
static void look_in_child(void)
{
	pid_t pid;
	int status;

	quire_fork_prepare(q);
	pid = fork();
	if (!pid) {
		if (quire_forked_child(q))
			_exit(2);
		for (size_t i = 0; i < PAGES; i++)
			check_page(&area[0][i], 0, i, 1);
		for (size_t i = 0; i < PAGES; i += 3)
			write_page(&area[0][i], 0, i, 77);
		for (size_t i = 0; i < PAGES; i += 3)
			check_page(&area[0][i], 0, i, 0);
		_exit(0);
	}
	quire_fork_done(q);
	CHECK(pid > 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	add(&forks, 1);
}

/* No chunk is being unmapped while these look: they keep all of an area's chunks as they are. */
static void *look(void *arg)
{
	unsigned turn = 0;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t a = turn % 4 ? 1 : 0;

		for (size_t c = 0; c < CHUNKS; c++)
			pthread_rwlock_rdlock(&chunk_lock[a][c]);
		if (!a)
			look_in_child();
		else if (turn % 2)
			look_at_snapshot();
		else
			look_at_space();
		for (size_t c = 0; c < CHUNKS; c++)
			pthread_rwlock_unlock(&chunk_lock[a][c]);
		turn++;
		sched_yield();
	}
	return NULL;
}

/* ---- one run ---- */

static void open_all(uint64_t ram)
{
	struct quire_node nodes[2] = { { 64 << 20, -1, 0 }, { 64 << 20, -1, 0 } };
	struct quire_options opt = { .size = sizeof(opt),
				     .ram_bytes = ram,
				     .handle_sigbus = 1,
				     .nodes = nodes,
				     .nr_nodes = 2 };
	char why[256] = "";

	if (quire_open(&opt, &q, why, sizeof(why))) {
		fprintf(stderr, "quire_open: %s\n", why);
		exit(1);
	}
	CHECK(!quire_space_create(q, &space[0]) && !quire_space_create(q, &space[1]));
	for (size_t a = 0; a < AREAS; a++) {
		void *at = NULL;
		int err = quire_map(space[a], NULL, PAGES * PAGE, RW, a ? QUIRE_MAP_SHAREABLE : 0,
				    &at);

		if (err == -EOPNOTSUPP)
			exit(77);
		CHECK(!err);
		area[a] = at;
		for (size_t i = 0; i < PAGES; i++)
			write_page(&area[a][i], a, i, 1);
		for (size_t c = 0; c < CHUNKS; c++)
			pthread_rwlock_init(&chunk_lock[a][c], NULL);
	}
	memset(added, 0, sizeof(added));
	memset(retired, 0, sizeof(retired));
	stop = 0;
	moved_pages = snapshots = spaces = forks = remaps = protects = checks = writes = 0;
}

static void check_all(void)
{
	uint64_t total = retired[WORKERS], all = 0, each[WORKERS];

	memcpy(each, retired, sizeof(each));
	for (size_t a = 0; a < AREAS; a++)
		for (size_t i = 0; i < PAGES; i++) {
			check_page(&area[a][i], a, i, 0);
			total += area[a][i].word[1];
			for (unsigned w = 0; w < WORKERS; w++)
				each[w] += area[a][i].word[2 + w];
		}
	for (unsigned w = 0; w < WORKERS; w++) {
		CHECK(each[w] == added[w]);
		all += added[w];
	}
	CHECK(total == all);
}

static void run(const char *name, uint64_t ram, unsigned long rounds)
{
	struct quire_stats st = { .size = sizeof(st) };
	struct quire_node_info node = { .size = sizeof(node) };
	pthread_t t[WORKERS + 3];
	uint64_t all = 0;

	open_all(ram);
	for (unsigned w = 0; w < WORKERS; w++)
		CHECK(!pthread_create(&t[w], NULL, work, (void *)(uintptr_t)w));
	CHECK(!pthread_create(&t[WORKERS], NULL, disturb, NULL));
	CHECK(!pthread_create(&t[WORKERS + 1], NULL, look, NULL));
	CHECK(!pthread_create(&t[WORKERS + 2], NULL, move, (void *)(uintptr_t)rounds));
	for (unsigned i = 0; i < WORKERS + 3; i++)
		CHECK(!pthread_join(t[i], NULL));
	check_all();
	CHECK(quire_check(q) == 0);
	CHECK(!quire_stats_get(q, &st));
	CHECK(st.warnings == 0);
	/* Most of those that are there move each time. */
	CHECK(moved_pages > rounds * AREAS * PAGES / (ram ? 4 : 1));
	for (unsigned w = 0; w < WORKERS; w++)
		all += added[w];
	printf("%s: %llu pages moved, %llu additions, %llu texts checked, %llu written; "
	       "%llu snapshots, %llu spaces, %llu forks, %llu chunks mapped anew, %llu protected; "
	       "%llu pages out\n",
	       name, (unsigned long long)st.migrated_pages, (unsigned long long)all,
	       (unsigned long long)checks, (unsigned long long)writes,
	       (unsigned long long)snapshots, (unsigned long long)spaces, (unsigned long long)forks,
	       (unsigned long long)remaps, (unsigned long long)protects,
	       (unsigned long long)st.swap_out_pages);
	fflush(stdout);
	quire_close(q);
}

int main(void)
{
	const char *text = getenv("QUIRE_PINGPONG_ROUNDS");
	unsigned long rounds = text ? strtoul(text, NULL, 10) : 8;

	run("all in memory", 0, rounds);
	run("two thirds in memory", AREAS * PAGES * PAGE * 2 / 3, rounds);
	return 0;
}
