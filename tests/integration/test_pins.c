/*
 * test_pins.c - pinned pages and metadata hooks on real managed memory, by the public header.
 *
 * Pins: what a pin shows is what the program loads and stores, under eviction, protection and
 * system calls. Hooks: each 64-byte line of each page has a tag in a table of the test's own, by
 * frame while the page is resident and by slot while it is out; memory is bounded far below what is
 * in use, so pages go and come all the time.
 */
#include <quire/quire.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE  4096ul
#define LINES 64u
#define SLOTS 65536u

/* The first that fails ends the test: threads and fault handlers check too. */
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

static quire_t *instance(uint64_t ram_pages)
{
	struct quire_options opt = { .size = sizeof(opt),
				     .ram_bytes = ram_pages * PAGE,
				     .handle_sigbus = 1 };
	char msg[256] = "";
	quire_t *q;
	int err = quire_open(&opt, &q, msg, sizeof(msg));

	if (err) {
		printf("skipped: %s (%d)\n", msg, err);
		exit(77);
	}
	return q;
}

static void done(quire_t *q)
{
	struct quire_stats st = { .size = sizeof(st) };

	EQ(quire_check(q), 0);
	EQ(quire_stats_get(q, &st), 0);
	EQ(st.warnings, 0);
	quire_close(q);
}

static uint64_t *map(quire_space_t *s, size_t pages)
{
	void *p;

	EQ(quire_map(s, NULL, pages * PAGE, QUIRE_PROT_READ | QUIRE_PROT_WRITE, 0, &p), 0);
	return p;
}

static uint64_t *word(uint64_t *base, size_t page)
{
	return base + page * (PAGE / 8);
}

static void pins(void)
{
	quire_t *q = instance(256);
	quire_page_t h[64], more[8];
	quire_space_t *s;
	uint64_t *p;
	int fd[2];

	EQ(quire_space_create(q, &s), 0);
	p = map(s, 2048);
	for (size_t i = 0; i < 2048; i++)
		*word(p, i) = i;
	/* Swapped out by now, in part; any alignment. */
	EQ(quire_pin_fast(s, (char *)p + 100, 64 * PAGE - 100, QUIRE_PIN_WRITE, h), 64);
	for (size_t i = 0; i < 64; i++) {
		uint64_t *data = quire_page_data(q, h[i]);

		EQ(*data, i);
		data[1] = i + 1;
	}
	for (size_t i = 64; i < 2048; i++)
		*word(p, i) += 1;
	EQ(quire_advise(s, p, 64 * PAGE, MADV_PAGEOUT), 0);
	for (size_t i = 0; i < 64; i++) {
		EQ(word(p, i)[1], i + 1);
		word(p, i)[2] = i + 2;
		EQ(((uint64_t *)quire_page_data(q, h[i]))[2], i + 2);
	}
	/* Read-only and back: a store still goes to the page that is pinned. */
	EQ(quire_protect(s, p, 64 * PAGE, QUIRE_PROT_READ), 0);
	EQ(quire_pin_fast(s, p, PAGE, QUIRE_PIN_WRITE, more), -EFAULT);
	EQ(quire_pin_fast(s, p, PAGE, QUIRE_PIN_READ | QUIRE_PIN_LONGTERM, more), 1);
	CHECK(more[0] == h[0]);
	quire_unpin_pages(q, more, 1);
	EQ(quire_protect(s, p, 64 * PAGE, QUIRE_PROT_READ | QUIRE_PROT_WRITE), 0);
	word(p, 5)[3] = 77;
	EQ(((uint64_t *)quire_page_data(q, h[5]))[3], 77);
	/* A system call through it. */
	EQ(pipe(fd), 0);
	EQ(write(fd[1], quire_page_data(q, h[7]), 16), 16);
	EQ(read(fd[0], quire_page_data(q, h[9]), 16), 16);
	EQ(*word(p, 9), 7);
	close(fd[0]);
	close(fd[1]);
	quire_unpin_pages(q, h, 64);
	EQ(quire_advise(s, p, 64 * PAGE, MADV_PAGEOUT), 0);
	EQ(*word(p, 9), 7);
	EQ(word(p, 5)[3], 77);
	done(q);
}

static void pin_errors(void)
{
	quire_t *q = instance(0);
	quire_page_t h[4];
	quire_space_t *s;
	uint64_t *p;

	EQ(quire_space_create(q, &s), 0);
	p = map(s, 4);
	EQ(quire_pin_fast(s, p, PAGE, 4, h), -EINVAL);
	EQ(quire_pin_fast(s, p, PAGE, 0, NULL), -EINVAL);
	EQ(quire_pin_fast(s, p, 0, 0, h), 0);
	EQ(quire_unmap(s, word(p, 2), PAGE), 0);
	EQ(quire_pin_fast(s, word(p, 2), PAGE, 0, h), -EFAULT);
	/* Up to the hole. */
	EQ(quire_pin_fast(s, p, 4 * PAGE, QUIRE_PIN_WRITE, h), 2);
	quire_unpin_pages(q, h, 2);
	EQ(quire_pin_fast(s, (void *)~(uintptr_t)(PAGE - 1), PAGE, 0, h), -EFAULT);
	done(q);
}

/* A shareable area: a page's frame has an address of its own, and a pin keeps it from snapshots and
 * from being unmapped. */
static void shareable(void)
{
	quire_t *q = instance(512);
	quire_page_t h[16], more;
	uint64_t *p, *data, *old;
	quire_space_t *s;
	void *map_at, *snap;

	EQ(quire_space_create(q, &s), 0);
	EQ(quire_map(s, NULL, 64 * PAGE, QUIRE_PROT_READ | QUIRE_PROT_WRITE, QUIRE_MAP_SHAREABLE,
		     &map_at),
	   0);
	p = map_at;
	for (size_t i = 0; i < 64; i++)
		*word(p, i) = i + 1;
	EQ(quire_pin(s, p, PAGE, QUIRE_PIN_WRITE), -EINVAL);
	EQ(quire_pin_fast(s, p, 16 * PAGE, QUIRE_PIN_WRITE, h), 16);
	EQ(quire_snapshot(s, p, 64 * PAGE, 0, &snap), 0);
	for (size_t i = 0; i < 16; i++) {
		data = quire_page_data(q, h[i]);
		CHECK(data != word(p, i));
		EQ(*data, i + 1);
		data[1] = 5;
		EQ(word(p, i)[1], 5);
		word(p, i)[2] = 6;
		EQ(data[2], 6);
	}
	EQ(quire_advise(s, p, 64 * PAGE, MADV_PAGEOUT), 0);
	for (size_t i = 0; i < 64; i++) {
		EQ(*word(snap, i), i + 1);
		EQ(word(snap, i)[1], 0);
		EQ(word(p, i)[1], i < 16 ? 5 : 0);
	}
	quire_unpin_pages(q, h, 16);
	/* Pinned for reading, shared until then: its own from now on. */
	EQ(quire_pin_fast(s, word(p, 20), PAGE, QUIRE_PIN_READ, &more), 1);
	data = quire_page_data(q, more);
	*word(p, 20) = 99;
	EQ(*data, 99);
	EQ(*word(snap, 20), 21);
	quire_unpin_pages(q, &more, 1);
	/* Unmapped and mapped anew: the pin has the old page. */
	EQ(quire_pin_fast(s, word(p, 30), PAGE, QUIRE_PIN_READ, &more), 1);
	old = quire_page_data(q, more);
	EQ(quire_advise(s, word(p, 30), PAGE, MADV_DONTNEED), 0);
	*word(p, 30) = 77;
	EQ(*old, 31);
	quire_unpin_pages(q, &more, 1);
	EQ(*word(p, 30), 77);
	done(q);
}

/* ---- pins against eviction, from several threads ---- */

#define THREADS 3
#define EACH    128ul
#define ROUNDS  40u

struct pinner {
	quire_t *q;
	quire_space_t *s;
	uint64_t *p; /* EACH pages of its own */
	uint64_t seed;
};

static void *pin_and_look(void *arg)
{
	struct pinner *t = arg;
	uint64_t rng = t->seed;

	for (uint64_t n = 1; n <= ROUNDS * EACH; n++) {
		quire_page_t h[4];
		uint64_t at, *data;
		long got;

		rng = rng * 6364136223846793005ull + 1442695040888963407ull;
		at = (rng >> 33) % (EACH - 4);
		got = quire_pin_fast(t->s, word(t->p, at), 4 * PAGE, QUIRE_PIN_WRITE, h);
		EQ(got, 4);
		data = quire_page_data(t->q, h[n % 4]);
		*data = n;
		EQ(*word(t->p, at + n % 4), n);
		word(t->p, at + n % 4)[8] = ~n;
		EQ(data[8], ~n);
		quire_unpin_pages(t->q, h, 4);
		EQ(*word(t->p, at + n % 4), n);
	}
	return NULL;
}

static void pin_threads(void)
{
	quire_t *q = instance(EACH);
	struct pinner t[THREADS];
	pthread_t th[THREADS];
	quire_space_t *s;

	EQ(quire_space_create(q, &s), 0);
	for (int i = 0; i < THREADS; i++) {
		t[i] = (struct pinner){ q, s, map(s, EACH), (uint64_t)i + 1 };
		EQ(pthread_create(&th[i], NULL, pin_and_look, &t[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	done(q);
}

/* ---- hooks ---- */

#define FRAMES 16384u /* a power of two, far above what is in use */

/* Frames as they turn up: those of private areas are addresses, the others are anywhere. */
struct frame_tags {
	uint64_t frame; /* 0: free */
	unsigned char tag[LINES];
};

struct tags {
	quire_space_t *space;
	int shareable;
	struct frame_tags *frame;
	unsigned char (*saved)[LINES];
	unsigned char live[SLOTS];
	uint64_t nr_live, saves, restores, refused, copies;
	unsigned refuse_every;
	int wrong;
	pthread_spinlock_t lock; /* taken in fault handlers, with Quire's locks held */
};

static unsigned char *tags_of(struct tags *t, uint64_t frame)
{
	for (uint64_t i = frame * 0x9e3779b97f4a7c15ull >> 40, n = 0; n < FRAMES; i++, n++) {
		struct frame_tags *f = &t->frame[i % FRAMES];

		if (!f->frame)
			f->frame = frame;
		if (f->frame == frame)
			return f->tag;
	}
	t->wrong = 1;
	return t->frame[0].tag;
}

static int save(void *ctx, const struct quire_swapped_page *page)
{
	struct tags *t = ctx;
	uint64_t number = (uintptr_t)page->addr / PAGE;
	int refuse;

	pthread_spin_lock(&t->lock);
	refuse = t->refuse_every && number % t->refuse_every == 0;
	t->wrong |= page->space != t->space || page->slot >= SLOTS ||
		    (!t->shareable && number != page->frame);
	if (refuse) {
		t->refused++;
	} else {
		memcpy(t->saved[page->slot], tags_of(t, page->frame), LINES);
		t->nr_live += !t->live[page->slot];
		t->live[page->slot] = 1;
		t->saves++;
	}
	pthread_spin_unlock(&t->lock);
	return refuse;
}

static void restore(void *ctx, const struct quire_swapped_page *page)
{
	struct tags *t = ctx;

	pthread_spin_lock(&t->lock);
	t->wrong |= page->space != t->space || !t->live[page->slot];
	memcpy(tags_of(t, page->frame), t->saved[page->slot], LINES);
	t->restores++;
	pthread_spin_unlock(&t->lock);
}

static void drop(void *ctx, uint64_t slot)
{
	struct tags *t = ctx;

	pthread_spin_lock(&t->lock);
	t->wrong |= !t->live[slot];
	t->live[slot] = 0;
	t->nr_live--;
	pthread_spin_unlock(&t->lock);
}

static void copy(void *ctx, uint64_t to_frame, uint64_t from_frame)
{
	struct tags *t = ctx;

	pthread_spin_lock(&t->lock);
	memcpy(tags_of(t, to_frame), tags_of(t, from_frame), LINES);
	t->copies++;
	pthread_spin_unlock(&t->lock);
}

static unsigned char tag(uint64_t v, uint64_t page, unsigned line)
{
	return (unsigned char)(((v * 131 + page) * 0x9e3779b97f4a7c15ull >> 48) + line);
}

/* The page stays while its bytes and tags are looked at. */
static void tagged(struct tags *t, quire_t *q, void *base, uint64_t page, uint64_t v, int store)
{
	quire_page_t h;
	unsigned char *tags;
	uint64_t *w = word(base, page);

	EQ(quire_pin_fast(t->space, w, PAGE, store ? QUIRE_PIN_WRITE : QUIRE_PIN_READ, &h), 1);
	tags = tags_of(t, quire_page_frame(q, h));
	for (unsigned l = 0; l < LINES; l++) {
		if (store) {
			w[l * 8] = v * 1000003 + page * 64 + l;
			tags[l] = tag(v, page, l);
		}
		EQ(w[l * 8], v * 1000003 + page * 64 + l);
		EQ(tags[l], tag(v, page, l));
	}
	quire_unpin_pages(q, &h, 1);
}

static void tags_open(struct tags *t, quire_t *q)
{
	struct quire_swap_hooks hooks = { sizeof(hooks), save, restore, drop, copy };

	t->frame = calloc(FRAMES, sizeof(*t->frame));
	t->saved = calloc(SLOTS, LINES);
	EQ(pthread_spin_init(&t->lock, PTHREAD_PROCESS_PRIVATE), 0);
	hooks.drop = NULL;
	EQ(quire_swap_hooks(q, &hooks, t), -EINVAL);
	hooks.drop = drop;
	EQ(quire_swap_hooks(q, &hooks, t), 0);
	EQ(quire_swap_hooks(q, &hooks, t), -EBUSY);
	EQ(quire_space_create(q, &t->space), 0);
}

static void tags_close(struct tags *t, quire_t *q)
{
	quire_space_destroy(t->space);
	EQ(t->nr_live, 0);
	CHECK(!t->wrong);
	free(t->frame);
	free(t->saved);
	pthread_spin_destroy(&t->lock);
	done(q);
}

#define TAGGED 2048ul

static void hooks_at_work(unsigned refuse_every)
{
	struct quire_stats st = { .size = sizeof(st) };
	static unsigned char resident[TAGGED];
	static struct tags t;
	quire_t *q = instance(TAGGED / 2);
	void *moved;
	uint64_t *p;

	memset(&t, 0, sizeof(t));
	t.refuse_every = refuse_every;
	tags_open(&t, q);
	p = map(t.space, TAGGED);
	for (uint64_t v = 1; v < 4; v++) {
		for (uint64_t i = 0; i < TAGGED; i++)
			tagged(&t, q, p, i, v, 1);
		for (uint64_t i = 0; i < TAGGED; i++)
			tagged(&t, q, p, i, v, 0);
	}
	EQ(quire_stats_get(q, &st), 0);
	CHECK(st.resident_peak_bytes <= st.ram_limit_bytes);
	CHECK(t.saves > TAGGED && t.restores > TAGGED);
	CHECK(!refuse_every == !t.refused);
	EQ(quire_mincore(t.space, p, TAGGED * PAGE, resident), 0);
	for (uint64_t i = 0; i < TAGGED; i++)
		CHECK((resident[i] & 1) || !refuse_every ||
		      ((uintptr_t)word(p, i) / PAGE) % refuse_every);
	/* To another place: bytes move, or what is saved does. */
	EQ(quire_remap(t.space, p, TAGGED * PAGE, 2 * TAGGED * PAGE, MREMAP_MAYMOVE, NULL, &moved),
	   0);
	for (uint64_t i = 0; i < TAGGED; i++)
		tagged(&t, q, moved, i, 3, 0);
	EQ(quire_remap(t.space, moved, TAGGED * PAGE, TAGGED * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       word(moved, TAGGED), &moved),
	   0);
	CHECK(t.copies > 0);
	for (uint64_t i = 0; i < TAGGED; i++)
		tagged(&t, q, moved, i, 3, 0);
	tags_close(&t, q);
}

/* Pages with two mappings: both bring the same metadata back, and what is written in one of them
 * has its own from then on. */
static void hooks_of_snapshots(void)
{
	static struct tags t;
	quire_t *q = instance(TAGGED / 2);
	void *p, *snap;

	memset(&t, 0, sizeof(t));
	t.shareable = 1;
	tags_open(&t, q);
	EQ(quire_map(t.space, NULL, TAGGED * PAGE, QUIRE_PROT_READ | QUIRE_PROT_WRITE,
		     QUIRE_MAP_SHAREABLE, &p),
	   0);
	for (uint64_t i = 0; i < TAGGED; i++)
		tagged(&t, q, p, i, 1, 1);
	for (uint64_t v = 1; v < 4; v++) {
		EQ(quire_snapshot(t.space, p, TAGGED * PAGE, 0, &snap), 0);
		for (uint64_t i = 0; i < TAGGED; i++) {
			tagged(&t, q, p, i * 7 % TAGGED, v + 1, 1);
			tagged(&t, q, snap, i, v, 0);
		}
		for (uint64_t i = 0; i < TAGGED; i++)
			tagged(&t, q, p, i, v + 1, 0);
		EQ(quire_unmap(t.space, snap, TAGGED * PAGE), 0);
	}
	CHECK(t.saves > TAGGED && t.restores > TAGGED && t.copies > 0);
	tags_close(&t, q);
}

int main(void)
{
	pins();
	pin_errors();
	shareable();
	pin_threads();
	hooks_at_work(0);
	hooks_at_work(3);
	hooks_of_snapshots();
	return 0;
}
