/*
 * test_host_random.c - random operations on real managed memory, from several threads, against an
 * oracle.
 *
 * Public header only. Each thread owns slices of pages in one space and knows the word that each
 * page must show (a page holds its own word at a random place and zeroes elsewhere), or that it
 * must be zero, or that touching it must raise SIGSEGV. All threads also add to counters in shared
 * pages. Resident memory is bounded far below the working set, so eviction and swap-in run all the
 * time. At the end: every page compared, counters summed, quire_check() == 0, no warnings.
 *
 * QUIRE_PROP_OPS, QUIRE_PROP_SEED, QUIRE_PROP_THREADS override the defaults.
 */
#include <quire/quire.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE        4096ul
#define SLICE       512ul /* pages of one slice */
#define MAX_THREADS 8
#define COUNTERS    64ul
#define MAX_SLICES  4

/* What the owner knows of a page. */
struct page {
	uint64_t word; /* at `at`; 0: the page is all zero */
	uint16_t at;
	uint8_t prot;
	uint8_t mapped;
	uint8_t maybe_zero; /* MADV_FREE was applied since the last write */
};

/*
 * A slice is in one of two windows of addresses that nobody else ever gets: the pages that it has
 * unmapped are free addresses, and an area that the core places or grows could lie there.
 */
struct slice {
	char *window[2];
	char *base;
	uint64_t pages;
	struct page page[2 * SLICE];
};

struct worker {
	pthread_t thread;
	int id;
	uint64_t rng, ops, added[COUNTERS];
	struct slice slice[MAX_SLICES];
	uint64_t faults_seen;
};

static quire_t *q;
static quire_space_t *space;
static volatile uint64_t *counter; /* COUNTERS words, one a page */
static uint64_t ops_each = 100000, seed = 1;
static int failures;
static __thread sigjmp_buf segv_jump;
static __thread volatile int segv_armed;

/* ThreadSanitizer asks for it: a forked child of ours starts its background thread again. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

static uint64_t next(struct worker *w)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng;
}

static void wrong(struct worker *w, const char *what, const struct slice *s, uint64_t i,
		  uint64_t got)
{
	fprintf(stderr,
		"thread %d seed %lu: %s at page %lu (%p): got %lx, want %lx at %u prot %u\n", w->id,
		(unsigned long)seed, what, (unsigned long)i, (void *)(s->base + i * PAGE),
		(unsigned long)got, (unsigned long)s->page[i].word, s->page[i].at, s->page[i].prot);
	__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
}

static void on_segv(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (segv_armed) {
		segv_armed = 0;
		siglongjmp(segv_jump, si->si_code);
	}
	fprintf(stderr, "unexpected signal %d at %p\n", sig, si->si_addr);
	_exit(1);
}

/*
 * The program's own accesses to managed memory. What orders them with the core's copying of the
 * same bytes is the write protection of the page, which ThreadSanitizer cannot see: these, and
 * nothing of the core, are left out of its view.
 */
#define USER_ACCESS __attribute__((no_sanitize("thread"), noinline))

/* 0, or the si_code of the SIGSEGV that the access raised. */
USER_ACCESS static int try_load(volatile uint64_t *p, uint64_t *v)
{
	int code = sigsetjmp(segv_jump, 1);

	if (code)
		return code;
	segv_armed = 1;
	*v = *p;
	segv_armed = 0;
	return 0;
}

USER_ACCESS static int try_store(volatile uint64_t *p, uint64_t v)
{
	int code = sigsetjmp(segv_jump, 1);

	if (code)
		return code;
	segv_armed = 1;
	*p = v;
	segv_armed = 0;
	return 0;
}

USER_ACCESS static void user_add(volatile uint64_t *p, uint64_t v)
{
	__atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

static volatile uint64_t *word_at(struct slice *s, uint64_t i, unsigned at)
{
	return (volatile uint64_t *)(s->base + i * PAGE) + at;
}

static void forget(struct page *p)
{
	p->word = 0;
	p->maybe_zero = 0;
}

static void check_page(struct worker *w, struct slice *s, uint64_t i)
{
	struct page *p = &s->page[i];
	uint64_t v = 0;
	int code = try_load(word_at(s, i, p->at), &v);

	if (!p->mapped || !(p->prot & 1)) {
		w->faults_seen++;
		if (code != (p->mapped ? SEGV_ACCERR : SEGV_MAPERR))
			wrong(w, "load of unreadable page gave code", s, i, (uint64_t)code);
		return;
	}
	if (code) {
		wrong(w, "load trapped, code", s, i, (uint64_t)code);
		return;
	}
	if (v != p->word && !(p->maybe_zero && v == 0))
		wrong(w, "wrong word", s, i, v);
	if (p->maybe_zero && v == 0)
		forget(p);
	if (!try_load(word_at(s, i, (p->at + 77) % 512), &v) && v)
		wrong(w, "not zero elsewhere", s, i, v);
}

static void write_page(struct worker *w, struct slice *s, uint64_t i)
{
	struct page *p = &s->page[i];
	uint64_t v = next(w) | 1;
	int code;

	/* One word a page: a second place only after the first is zero again. */
	if (!p->word)
		p->at = next(w) % 512;
	code = try_store(word_at(s, i, p->at), v);
	if (!p->mapped || !(p->prot & 2)) {
		w->faults_seen++;
		if (code != (p->mapped ? SEGV_ACCERR : SEGV_MAPERR))
			wrong(w, "store to unwritable page gave code", s, i, (uint64_t)code);
		return;
	}
	if (code)
		wrong(w, "store trapped, code", s, i, (uint64_t)code);
	p->word = v;
	p->maybe_zero = 0;
}

static void pick(struct worker *w, struct slice *s, uint64_t *start, uint64_t *n)
{
	*start = next(w) % s->pages;
	*n = 1 + next(w) % (next(w) % 4 ? 16 : 200);
	if (*start + *n > s->pages)
		*n = s->pages - *start;
}

static int all_mapped(struct slice *s, uint64_t a, uint64_t n)
{
	for (uint64_t i = a; i < a + n; i++)
		if (!s->page[i].mapped)
			return 0;
	return 1;
}

static void expect(struct worker *w, const char *what, struct slice *s, uint64_t i, int got,
		   int want)
{
	if (got != want)
		wrong(w, what, s, i, (uint64_t)(int64_t)got);
}

static void do_protect(struct worker *w, struct slice *s)
{
	static const int prots[] = { 0, 1, 3, 3, 3 };
	int prot = prots[next(w) % 5], e;
	uint64_t a, n;

	pick(w, s, &a, &n);
	e = quire_protect(space, s->base + a * PAGE, n * PAGE, prot);
	expect(w, "protect", s, a, e, all_mapped(s, a, n) ? 0 : -ENOMEM);
	for (uint64_t i = a; i < a + n && s->page[i].mapped; i++)
		s->page[i].prot = (uint8_t)prot;
}

static void do_unmap_map(struct worker *w, struct slice *s)
{
	uint64_t a, n;
	void *out;

	pick(w, s, &a, &n);
	expect(w, "unmap", s, a, quire_unmap(space, s->base + a * PAGE, n * PAGE), 0);
	for (uint64_t i = a; i < a + n; i++)
		s->page[i] = (struct page){ 0 };
	check_page(w, s, a);
	if (next(w) % 4 == 0)
		return;
	expect(w, "map", s, a,
	       quire_map(space, s->base + a * PAGE, n * PAGE, 3,
			 next(w) % 2 ? QUIRE_MAP_FIXED : QUIRE_MAP_NOREPLACE, &out),
	       0);
	for (uint64_t i = a; i < a + n; i++)
		s->page[i] = (struct page){ .prot = 3, .mapped = 1 };
}

static void do_advise(struct worker *w, struct slice *s)
{
	static const int advice[] = { MADV_DONTNEED, MADV_FREE,       MADV_WILLNEED, 20, 21,
				      MADV_RANDOM,   MADV_SEQUENTIAL, MADV_NORMAL };
	int adv = advice[next(w) % 8], e;
	uint64_t a, n;

	pick(w, s, &a, &n);
	e = quire_advise(space, s->base + a * PAGE, n * PAGE, adv);
	expect(w, "advise", s, a, e, all_mapped(s, a, n) ? 0 : -ENOMEM);
	for (uint64_t i = a; i < a + n; i++) {
		if (adv == MADV_DONTNEED && s->page[i].mapped)
			forget(&s->page[i]);
		if (adv == MADV_FREE)
			s->page[i].maybe_zero = 1;
	}
}

/* Grow or shrink the slice, at its place or into its other window. */
static void do_remap(struct worker *w, struct slice *s)
{
	uint64_t n = SLICE / 2 + next(w) % (3 * SLICE / 2);
	void *out = NULL, *to = s->base;
	int e, flags = MREMAP_MAYMOVE;

	/* One area only: make it so. */
	if (!all_mapped(s, 0, s->pages)) {
		for (uint64_t i = 0; i < s->pages; i++)
			if (!s->page[i].mapped) {
				expect(w, "map", s, i,
				       quire_map(space, s->base + i * PAGE, PAGE, 3,
						 QUIRE_MAP_FIXED, &out),
				       0);
				s->page[i] = (struct page){ .prot = 3, .mapped = 1 };
			}
	}
	expect(w, "protect", s, 0, quire_protect(space, s->base, s->pages * PAGE, 3), 0);
	for (uint64_t i = 0; i < s->pages; i++)
		s->page[i].prot = 3;
	if (next(w) % 2) {
		to = s->window[s->base == s->window[0]];
		flags |= MREMAP_FIXED;
	}
	e = quire_remap(space, s->base, s->pages * PAGE, n * PAGE, flags, to, &out);
	/* -EFAULT: areas that moved apart did not merge again, as on Linux. */
	if (e) {
		expect(w, "remap", s, 0, e, -EFAULT);
		return;
	}
	if (out != to)
		wrong(w, "remap went elsewhere", s, 0, (uint64_t)(uintptr_t)out);
	s->base = out;
	for (uint64_t i = s->pages; i < n; i++)
		s->page[i] = (struct page){ .prot = 3, .mapped = 1 };
	s->pages = n;
}

/* Hand pages to the kernel: through a pipe and back. */
static void do_pin(struct worker *w, struct slice *s)
{
	uint64_t i = next(w) % s->pages, v = 0;
	struct page *p = &s->page[i];
	char *at = (char *)word_at(s, i, p->at);
	int fd[2];
	long n;

	if (!p->mapped || !(p->prot & 1))
		return;
	n = quire_pin(space, at, 8, QUIRE_PIN_READ);
	if (n != 8 || pipe(fd)) {
		wrong(w, "pin", s, i, (uint64_t)n);
		return;
	}
	if (write(fd[1], at, 8) != 8 || read(fd[0], &v, 8) != 8)
		wrong(w, "short transfer of a pinned page", s, i, (uint64_t)errno);
	quire_unpin(space, at, 8);
	close(fd[0]);
	close(fd[1]);
	if (v != p->word && !(p->maybe_zero && !v))
		wrong(w, "kernel saw another word", s, i, v);
}

static void do_lock(struct worker *w, struct slice *s)
{
	uint64_t a = next(w) % s->pages, n = 8;
	int want = 0;

	if (a + n > s->pages || !all_mapped(s, a, n))
		return;
	for (uint64_t i = a; i < a + n; i++)
		if (!s->page[i].prot)
			want = -ENOMEM; /* locked all the same */
	expect(w, "mlock", s, a, quire_mlock(space, s->base + a * PAGE, n * PAGE, 0), want);
	for (uint64_t i = a; i < a + n; i++)
		check_page(w, s, i);
	expect(w, "munlock", s, a, quire_munlock(space, s->base + a * PAGE, n * PAGE), 0);
}

static void step(struct worker *w)
{
	struct slice *s = &w->slice[next(w) % MAX_SLICES];
	uint64_t r = next(w) % 1000, c;

	if (r < 450) {
		check_page(w, s, next(w) % s->pages);
	} else if (r < 850) {
		write_page(w, s, next(w) % s->pages);
	} else if (r < 920) {
		c = next(w) % COUNTERS;
		user_add(&counter[c * 512], r);
		w->added[c] += r;
	} else if (r < 945) {
		do_protect(w, s);
	} else if (r < 960) {
		do_unmap_map(w, s);
	} else if (r < 980) {
		do_advise(w, s);
	} else if (r < 990) {
		do_pin(w, s);
	} else if (r < 997) {
		do_lock(w, s);
	} else {
		do_remap(w, s);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (uint64_t i = 0; i < w->ops && !failures; i++)
		step(w);
	return NULL;
}

static void check_all(struct worker *w)
{
	for (int k = 0; k < MAX_SLICES; k++)
		for (uint64_t i = 0; i < w->slice[k].pages; i++)
			check_page(w, &w->slice[k], i);
}

static uint64_t env(const char *name, uint64_t d)
{
	const char *v = getenv(name);

	return v ? strtoull(v, NULL, 0) : d;
}

/* The child of a fork goes on with its own copy: everything still there, writable, evictable. */
static void forked_child(struct worker *w, int threads)
{
	if (quire_forked_child(q)) {
		fprintf(stderr, "quire_forked_child failed\n");
		_exit(1);
	}
	for (int i = 0; i < threads; i++) {
		check_all(&w[i]);
		for (uint64_t k = 0; k < 2000; k++)
			step(&w[i]);
		check_all(&w[i]);
	}
	_exit(failures || quire_check(q) ? 1 : 0);
}

static void fork_round(struct worker *w, int threads)
{
	int status = -1;
	pid_t pid;

	quire_fork_prepare(q);
	pid = fork();
	if (!pid)
		forked_child(w, threads);
	quire_fork_done(q);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "forked child: status %x\n", status);
		failures++;
	}
}

static void setup(struct worker *w, int threads)
{
	void *out;

	if (quire_map(space, NULL, COUNTERS * PAGE, 3, 0, &out))
		exit(1);
	counter = out;
	for (int i = 0; i < threads; i++) {
		w[i].id = i;
		w[i].rng = seed * 7919 + (uint64_t)i * 104729 + 1;
		w[i].ops = ops_each;
		for (int k = 0; k < MAX_SLICES; k++) {
			struct slice *s = &w[i].slice[k];

			if (quire_map(space, NULL, 4 * SLICE * PAGE, 3, 0, &out))
				exit(1);
			s->base = s->window[0] = out;
			s->window[1] = s->base + 2 * SLICE * PAGE;
			s->pages = SLICE;
			for (uint64_t p = 0; p < SLICE; p++)
				s->page[p] = (struct page){ .prot = 3, .mapped = 1 };
		}
	}
	/* Only now, or one window would be placed in another's free addresses. */
	for (int i = 0; i < threads; i++)
		for (int k = 0; k < MAX_SLICES; k++)
			if (quire_unmap(space, w[i].slice[k].base + SLICE * PAGE, 3 * SLICE * PAGE))
				exit(1);
}

static void finish(struct worker *w, int threads)
{
	struct quire_stats st = { .size = sizeof(st) };
	uint64_t sum[COUNTERS] = { 0 }, bad;

	for (int i = 0; i < threads; i++) {
		check_all(&w[i]);
		for (uint64_t c = 0; c < COUNTERS; c++)
			sum[c] += w[i].added[c];
	}
	for (uint64_t c = 0; c < COUNTERS; c++)
		if (counter[c * 512] != sum[c]) {
			fprintf(stderr, "counter %lu: %lu, want %lu: an increment was lost\n",
				(unsigned long)c, (unsigned long)counter[c * 512],
				(unsigned long)sum[c]);
			failures++;
		}
	bad = quire_check(q);
	quire_stats_get(q, &st);
	printf("%d threads, %lu ops each, seed %lu: out %lu in %lu reused %lu major %lu "
	       "wp %lu over %lu, peak %lu of %lu KiB, broken invariants %lu, warnings %lu\n",
	       threads, (unsigned long)ops_each, (unsigned long)seed,
	       (unsigned long)st.swap_out_pages, (unsigned long)st.swap_in_pages,
	       (unsigned long)st.swap_reused_pages, (unsigned long)st.faults_major,
	       (unsigned long)st.faults_write_protect, (unsigned long)st.over_limit_pages,
	       (unsigned long)st.resident_peak_bytes / 1024,
	       (unsigned long)st.ram_limit_bytes / 1024, (unsigned long)bad,
	       (unsigned long)st.warnings);
	if (bad || st.warnings)
		failures++;
	if (st.swap_out_pages == 0 || st.swap_in_pages == 0) {
		fprintf(stderr, "nothing was swapped: the test did not test\n");
		failures++;
	}
}

static int run(int threads, int background)
{
	struct quire_options o = {
		.size = sizeof(o),
		.ram_bytes = (uint64_t)threads * MAX_SLICES * SLICE * PAGE / 5,
		.handle_sigbus = 1,
		.background = (uint32_t)background,
	};
	struct worker *w = calloc(MAX_THREADS, sizeof(*w));
	char msg[200];
	int e = quire_open(&o, &q, msg, sizeof(msg));

	if (e) {
		printf("no host machine here: %s\n", msg);
		exit(77);
	}
	if (quire_space_create(q, &space))
		exit(1);
	setup(w, threads);
	for (int i = 0; i < threads; i++)
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	for (int i = 0; i < threads; i++)
		pthread_join(w[i].thread, NULL);
	if (!failures)
		fork_round(w, threads);
	finish(w, threads);
	quire_close(q);
	free(w);
	return failures;
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER };
	int threads = (int)env("QUIRE_PROP_THREADS", 4);

	sigaction(SIGSEGV, &sa, NULL);
	ops_each = env("QUIRE_PROP_OPS", 400000) / 4;
	seed = env("QUIRE_PROP_SEED", 1);
	if (threads < 1 || threads > MAX_THREADS)
		return 2;
	return run(1, 0) || run(threads, 0) || run(2, 1) ? 1 : 0;
}
