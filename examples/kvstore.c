/*
 * kvstore.c - a small key-value store in managed memory that is dumped to disk while it is written.
 *
 * Everything that the store knows lies in one mapping: a header, its shards with their hash tables,
 * and the entries, which its own allocator takes from the rest. References inside are offsets, so
 * that the store can be read at any address: in a snapshot, or in a file.
 *
 * Threads put, get and delete at random. Meanwhile the main thread takes a snapshot, writes it to a
 * file, loads the file and compares what it holds with what the store held at the moment of the
 * snapshot, to the byte. Only half of what is stored may be resident; the rest is compressed.
 *
 * The moment: the main thread holds the locks of all shards while it takes the snapshot, so that no
 * operation is half done in it, and notes each shard's digest (the sum of a hash of every key and
 * version). Then the writers go on. In the middle of each dump the main thread waits until they
 * have done as many puts as there are keys, so that they do write while it is dumped.
 *
 * --torn takes no snapshot and writes the store itself to the file: its check must fail, or else it
 * would find nothing in the other case either. The program's exit status is that of what is wanted:
 * with --torn it is 0 when the dump was found torn.
 */
#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAGIC       0x31766b6572697571ull
#define SHARDS      64u
#define CLASSES     6u /* of entries: 64 bytes to 2 KiB */
#define CLASS_MIN   64u
#define RUN         16384u /* what a shard's class takes from the rest at once */
#define VALUE_MAX   1800u
#define VALUE_MEAN  900u
#define MAX_THREADS 16u
#define PROGRESS    256u
#define PAGE        4096u

/* ---- what lies in the mapping ---- */

struct entry {
	uint64_t next; /* offset of the next of the bucket, or of the free list; 0: none */
	uint64_t key, version;
	uint32_t length, class;
	unsigned char value[];
};

struct shard {
	uint64_t version;             /* of its latest put */
	uint64_t keys, digest, bytes; /* of its entries: how many, see digest_of, memory */
	uint64_t free[CLASSES];
	uint64_t run[CLASSES], run_end[CLASSES]; /* never used yet */
	uint64_t buckets;                        /* offset of their table */
};

struct header {
	uint64_t magic;
	uint64_t size, buckets; /* of the mapping; of each shard, a power of two */
	_Atomic uint64_t used;  /* everything behind is free */
	struct shard shard[SHARDS];
};

/* ---- the store: what does not lie in it ---- */

struct store {
	quire_t *q;
	quire_space_t *space;
	struct header *h; /* start of the mapping */
	uint64_t keys;    /* keys are [0, keys) */
	pthread_mutex_t progress_lock;
	pthread_cond_t progress; /* some thread has done PROGRESS operations more */
	struct {
		pthread_mutex_t lock;
	} __attribute__((aligned(64))) lock[SHARDS];
};

/* What a moment's store is known by. */
struct moment {
	uint64_t keys[SHARDS], digest[SHARDS];
};

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t digest_of(uint64_t key, uint64_t version)
{
	return mix(mix(key) + version);
}

/* Values are a function of key and version: every second word is one of few, so that a value
 * compresses as text does. */
static uint32_t value_length(uint64_t key, uint64_t version)
{
	return (uint32_t)(digest_of(key, version) % (2 * VALUE_MEAN - 16)) + 16;
}

static uint64_t value_word(uint64_t key, uint64_t version, uint32_t n)
{
	uint64_t x = digest_of(key, version) + n / 2;

	return n % 2 ? mix(x) : 0x6575727420736920ull + (mix(x) & 15);
}

static void value_fill(struct entry *e)
{
	for (uint32_t at = 0; at < e->length; at += 8) {
		uint64_t word = value_word(e->key, e->version, at / 8);

		memcpy(e->value + at, &word, e->length - at < 8 ? e->length - at : 8);
	}
}

static bool value_right(const struct entry *e)
{
	if (e->length != value_length(e->key, e->version))
		return false;
	for (uint32_t at = 0; at < e->length; at += 8) {
		uint64_t word = value_word(e->key, e->version, at / 8);

		if (memcmp(e->value + at, &word, e->length - at < 8 ? e->length - at : 8))
			return false;
	}
	return true;
}

static uint32_t class_of(uint32_t length)
{
	uint32_t class = 0;

	while ((CLASS_MIN << class) < sizeof(struct entry) + length)
		class ++;
	return class;
}

static struct entry *at_offset(const struct header *h, uint64_t offset)
{
	return (struct entry *)((uintptr_t)h + offset);
}

static uint64_t offset_of(const struct header *h, const void *p)
{
	return (uint64_t)((uintptr_t)p - (uintptr_t)h);
}

/* ---- operations; the shard is locked ---- */

static struct entry *entry_alloc(struct header *h, struct shard *s, uint32_t class)
{
	uint64_t at = s->free[class];

	if (at) {
		s->free[class] = at_offset(h, at)->next;
	} else {
		if (s->run[class] == s->run_end[class]) {
			uint64_t run = atomic_fetch_add(&h->used, RUN);

			if (run + RUN > h->size) {
				atomic_fetch_sub(&h->used, RUN);
				return NULL;
			}
			s->run[class] = run;
			s->run_end[class] = run + RUN;
		}
		at = s->run[class];
		s->run[class] += CLASS_MIN << class;
	}
	s->bytes += CLASS_MIN << class;
	at_offset(h, at)->class = class;
	return at_offset(h, at);
}

static void entry_free(struct header *h, struct shard *s, struct entry *e)
{
	s->bytes -= CLASS_MIN << e->class;
	e->next = s->free[e->class];
	s->free[e->class] = offset_of(h, e);
}

static struct shard *shard_of(struct header *h, uint64_t key)
{
	return &h->shard[mix(key) % SHARDS];
}

static uint64_t bucket_of(const struct header *h, uint64_t key)
{
	return mix(key) / SHARDS & (h->buckets - 1);
}

/* Where the key's entry is named: 0 is named there when there is none. */
static uint64_t *link_of(struct header *h, struct shard *s, uint64_t key)
{
	uint64_t *link = (uint64_t *)at_offset(h, s->buckets) + bucket_of(h, key);

	while (*link && at_offset(h, *link)->key != key)
		link = &at_offset(h, *link)->next;
	return link;
}

static void shard_delete(struct header *h, struct shard *s, uint64_t key)
{
	uint64_t *link = link_of(h, s, key);
	struct entry *e = at_offset(h, *link);

	if (!*link)
		return;
	s->keys--;
	s->digest -= digest_of(key, e->version);
	*link = e->next;
	entry_free(h, s, e);
}

/* False: the store is full, and the key is as it was. */
static bool shard_put(struct header *h, struct shard *s, uint64_t key)
{
	uint64_t version = s->version + 1;
	uint32_t length = value_length(key, version), class = class_of(length);
	uint64_t *link = link_of(h, s, key);
	struct entry *old = *link ? at_offset(h, *link) : NULL, *e = old;

	if (!old || old->class != class) {
		e = entry_alloc(h, s, class);
		if (!e)
			return false;
		e->next = old ? old->next : 0;
	}
	if (old)
		s->digest -= digest_of(key, old->version);
	else
		s->keys++;
	e->key = key;
	e->version = s->version = version;
	e->length = length;
	value_fill(e);
	s->digest += digest_of(key, version);
	*link = offset_of(h, e);
	if (old && old != e)
		entry_free(h, s, old);
	return true;
}

/* ---- the threads that use the store ---- */

struct worker {
	struct store *st;
	pthread_t thread;
	unsigned number;
	_Atomic bool *stop;
	_Atomic uint64_t puts, gets, deletes;
	uint64_t wrong, full;
} __attribute__((aligned(64)));

static void work_once(struct worker *w, uint64_t random)
{
	struct header *h = w->st->h;
	uint64_t key = mix(random) % w->st->keys;
	struct shard *s = shard_of(h, key);
	pthread_mutex_t *lock = &w->st->lock[s - h->shard].lock;
	unsigned what = random % 16;

	pthread_mutex_lock(lock);
	if (what < 5) {
		uint64_t at = *link_of(h, s, key);

		if (at && !value_right(at_offset(h, at)))
			w->wrong++;
	} else if (what == 5) {
		shard_delete(h, s, key);
	} else if (!shard_put(h, s, key)) {
		w->full++;
	}
	pthread_mutex_unlock(lock);
	atomic_fetch_add_explicit(what < 5  ? &w->gets :
				  what == 5 ? &w->deletes :
					      &w->puts,
				  1, memory_order_relaxed);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t x = 0x2545f4914f6cdd1dull * (w->number + 1), done = 0;

	while (!atomic_load_explicit(w->stop, memory_order_relaxed)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		work_once(w, x);
		if (++done % PROGRESS)
			continue;
		pthread_mutex_lock(&w->st->progress_lock);
		pthread_cond_broadcast(&w->st->progress);
		pthread_mutex_unlock(&w->st->progress_lock);
	}
	return NULL;
}

static uint64_t puts_of(struct worker *w, unsigned threads)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < threads; i++)
		n += atomic_load_explicit(&w[i].puts, memory_order_relaxed);
	return n;
}

/* ---- the moment, the dump, the check ---- */

/* Until the threads have done that many. */
static void wait_for_puts(struct worker *w, unsigned threads, uint64_t puts)
{
	struct store *st = w->st;

	pthread_mutex_lock(&st->progress_lock);
	while (puts_of(w, threads) < puts)
		pthread_cond_wait(&st->progress, &st->progress_lock);
	pthread_mutex_unlock(&st->progress_lock);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* With no operation half done: what the store holds, and a view of it unless view is NULL. */
static int take(struct store *st, struct moment *m, void **view, double *seconds)
{
	double begin;
	int err = 0;

	for (unsigned i = 0; i < SHARDS; i++)
		pthread_mutex_lock(&st->lock[i].lock);
	for (unsigned i = 0; i < SHARDS; i++) {
		m->keys[i] = st->h->shard[i].keys;
		m->digest[i] = st->h->shard[i].digest;
	}
	begin = now();
	if (view)
		err = quire_snapshot(st->space, st->h, st->h->size, 0, view);
	*seconds = now() - begin;
	for (unsigned i = 0; i < SHARDS; i++)
		pthread_mutex_unlock(&st->lock[i].lock);
	return err;
}

/* Through a buffer: a system call that is handed managed memory does not bring its pages in. */
static bool write_part(int fd, const char *from, uint64_t bytes)
{
	static char buffer[1 << 18];

	while (bytes) {
		size_t n = bytes < sizeof(buffer) ? bytes : sizeof(buffer);

		memcpy(buffer, from, n);
		if (write(fd, buffer, n) != (ssize_t)n)
			return false;
		from += n;
		bytes -= n;
	}
	return true;
}

/* All that is used of a store, wherever it lies. False: errno says why. */
static bool dump(struct store *st, const struct header *h, const char *path, struct worker *w,
		 unsigned threads)
{
	uint64_t used = atomic_load(&h->used), half = used / 2 / PAGE * PAGE;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint64_t puts = puts_of(w, threads);
	bool ok;

	if (fd < 0)
		return false;
	ok = write_part(fd, (const char *)h, half);
	wait_for_puts(w, threads, puts + st->keys);
	ok = ok && write_part(fd, (const char *)h + half, used - half) && !fsync(fd);
	return !close(fd) && ok;
}

/* One shard of a store that may hold anything at all. */
static bool shard_right(const struct header *h, uint64_t size, unsigned n, const struct moment *m)
{
	const struct shard *s = &h->shard[n];
	const uint64_t *bucket = (const uint64_t *)at_offset(h, s->buckets);
	uint64_t keys = 0, digest = 0;

	if (s->buckets % 8 || s->buckets > size - h->buckets * 8)
		return false;
	for (uint64_t i = 0; i < h->buckets; i++) {
		for (uint64_t at = bucket[i]; at; at = at_offset(h, at)->next) {
			const struct entry *e = at_offset(h, at);

			if (at % CLASS_MIN || at > size - sizeof(*e) || e->length > VALUE_MAX ||
			    e->length > size - sizeof(*e) - at || keys++ == m->keys[n])
				return false;
			if (mix(e->key) % SHARDS != n || bucket_of(h, e->key) != i ||
			    !value_right(e))
				return false;
			digest += digest_of(e->key, e->version);
		}
	}
	return keys == m->keys[n] && digest == m->digest[n];
}

/* Loads a dump: how many of its shards are not what the moment says, or -errno. */
static int check_dump(const struct store *st, const char *path, const struct moment *m)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), wrong = 0;
	const struct header *h;
	off_t size;

	if (fd < 0)
		return -errno;
	size = lseek(fd, 0, SEEK_END);
	h = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (h == MAP_FAILED)
		return -errno;
	if ((size_t)size < sizeof(*h) || h->magic != MAGIC || h->buckets != st->h->buckets)
		wrong = SHARDS;
	for (unsigned i = 0; i < SHARDS && wrong < (int)SHARDS; i++)
		wrong += !shard_right(h, (uint64_t)size, i, m);
	munmap((void *)h, (size_t)size);
	return wrong;
}

/* ---- the whole ---- */

struct options {
	uint64_t store; /* bytes */
	unsigned threads, rounds;
	bool torn;
	const char *path;
};

static int usage(void)
{
	fprintf(stderr,
		"usage: kvstore [--store MIB] [--threads N] [--dumps N] [--torn] [FILE]\n"
		"Dumps a store to FILE (kvstore.dump) while it is written, and checks each dump.\n"
		"  --store MIB   what it stores, 8 to 65536 (256); half of it may be resident\n"
		"  --threads N   that use it, 1 to 16 (2)\n"
		"  --dumps N     one after the other, 1 to 1000 (3)\n"
		"  --torn        without a snapshot: the check must find it torn\n");
	return 2;
}

static bool number(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return !errno && end != text && !*end && *out >= low && *out <= high;
}

static bool parse(struct options *o, int argc, char **argv)
{
	uint64_t n;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--torn")) {
			o->torn = true;
			continue;
		}
		if (argv[i][0] != '-') {
			o->path = argv[i];
			continue;
		}
		if (!strcmp(argv[i], "--store") && number(value, 8, 65536, &n))
			o->store = n << 20;
		else if (!strcmp(argv[i], "--threads") && number(value, 1, MAX_THREADS, &n))
			o->threads = (unsigned)n;
		else if (!strcmp(argv[i], "--dumps") && number(value, 1, 1000, &n))
			o->rounds = (unsigned)n;
		else
			return false;
		i++;
	}
	return true;
}

static int store_open(struct store *st, const struct options *o)
{
	struct quire_options opt = {
		.size = sizeof(opt),
		.ram_bytes = o->store / 2,
		.handle_sigbus = 1,
	};
	uint64_t size = 2 * o->store + (64 << 20), at = (sizeof(*st->h) + RUN - 1) / RUN * RUN;
	char why[128] = "";
	void *p;
	int err = quire_open(&opt, &st->q, why, sizeof(why));

	if (err) {
		fprintf(stderr, "kvstore: %s\n", why);
		return err;
	}
	err = quire_space_create(st->q, &st->space);
	if (!err)
		err = quire_map(st->space, NULL, size, QUIRE_PROT_READ | QUIRE_PROT_WRITE,
				QUIRE_MAP_SHAREABLE, &p);
	if (err) {
		fprintf(stderr, "kvstore: quire_map: %s\n", strerror(-err));
		return err;
	}
	st->keys = o->store / 1200; /* with its class and the keys that are deleted */
	st->h = p;
	st->h->magic = MAGIC;
	st->h->size = size;
	st->h->buckets = 64;
	while (st->h->buckets * SHARDS < st->keys)
		st->h->buckets *= 2;
	for (unsigned i = 0; i < SHARDS; i++) {
		st->h->shard[i].buckets = at;
		at += st->h->buckets * 8;
		pthread_mutex_init(&st->lock[i].lock, NULL);
	}
	pthread_mutex_init(&st->progress_lock, NULL);
	pthread_cond_init(&st->progress, NULL);
	atomic_store(&st->h->used, (at + RUN - 1) / RUN * RUN);
	for (uint64_t key = 0; key < st->keys; key++)
		shard_put(st->h, shard_of(st->h, key), key);
	return 0;
}

/* One dump and its check; 0, 1 when it is not what was wanted. */
static int round_once(struct store *st, const struct options *o, struct worker *w, unsigned round)
{
	double snapshot_s, begin, dump_s;
	struct moment m;
	void *view = st->h;
	uint64_t puts, keys = 0;
	int wrong = take(st, &m, o->torn ? NULL : &view, &snapshot_s);

	if (wrong) {
		fprintf(stderr, "kvstore: quire_snapshot: %s\n", strerror(-wrong));
		return 1;
	}
	begin = now();
	puts = puts_of(w, o->threads);
	if (!dump(st, view, o->path, w, o->threads)) {
		fprintf(stderr, "kvstore: %s: %s\n", o->path, strerror(errno));
		return 1;
	}
	dump_s = now() - begin;
	puts = puts_of(w, o->threads) - puts;
	if (!o->torn && quire_unmap(st->space, view, st->h->size)) {
		fprintf(stderr, "kvstore: the view cannot be unmapped\n");
		return 1;
	}
	wrong = check_dump(st, o->path, &m);
	for (unsigned i = 0; i < SHARDS; i++)
		keys += m.keys[i];
	if (wrong < 0) {
		fprintf(stderr, "kvstore: %s: %s\n", o->path, strerror(-wrong));
		return 1;
	}
	printf("dump %u: %s %.1f ms; written in %.2f s, meanwhile %llu puts (%.0f k/s); ", round,
	       o->torn ? "no snapshot" : "snapshot", snapshot_s * 1e3, dump_s,
	       (unsigned long long)puts, (double)puts / dump_s / 1e3);
	if (wrong)
		printf("torn: %d of %u shards are not those of that moment\n", wrong, SHARDS);
	else
		printf("verified: %llu keys\n", (unsigned long long)keys);
	return o->torn ? !wrong : !!wrong;
}

static int report(struct store *st, const struct worker *w, unsigned threads)
{
	struct quire_stats s = { .size = sizeof(s) };
	uint64_t wrong = 0, full = 0, gets = 0, deletes = 0, stored = 0;

	for (unsigned i = 0; i < threads; i++) {
		wrong += w[i].wrong;
		full += w[i].full;
		gets += w[i].gets;
		deletes += w[i].deletes;
	}
	for (unsigned i = 0; i < SHARDS; i++)
		stored += st->h->shard[i].bytes;
	if (quire_stats_get(st->q, &s))
		return 1;
	printf("%llu gets, %llu deletes; stored %.1f MiB, resident at most %.1f MiB of %.1f; "
	       "%llu pages out, %llu in, %llu copied on write\n",
	       (unsigned long long)gets, (unsigned long long)deletes, (double)stored / 1048576,
	       (double)s.resident_peak_bytes / 1048576, (double)s.ram_limit_bytes / 1048576,
	       (unsigned long long)s.swap_out_pages, (unsigned long long)s.swap_in_pages,
	       (unsigned long long)s.faults_cow);
	if (wrong)
		fprintf(stderr, "kvstore: %llu gets found wrong values\n",
			(unsigned long long)wrong);
	if (full)
		fprintf(stderr, "kvstore: %llu puts found the store full\n",
			(unsigned long long)full);
	if (!s.swap_out_pages ||
	    s.resident_peak_bytes > s.ram_limit_bytes + s.over_limit_pages * PAGE)
		fprintf(stderr, "kvstore: the bound on memory was not kept\n");
	else if (!wrong && !full)
		return 0;
	return 1;
}

int main(int argc, char **argv)
{
	struct options o = {
		.store = 256 << 20, .threads = 2, .rounds = 3, .path = "kvstore.dump"
	};
	static struct store st;
	static struct worker w[MAX_THREADS];
	_Atomic bool stop = false;
	unsigned started = 0;
	int status = 0;
	double begin;

	if (!parse(&o, argc, argv))
		return usage();
	if (store_open(&st, &o))
		return 1;
	begin = now();
	for (; started < o.threads; started++) {
		w[started].st = &st;
		w[started].number = started;
		w[started].stop = &stop;
		if (pthread_create(&w[started].thread, NULL, work, &w[started]))
			break;
	}
	if (started < o.threads) {
		fprintf(stderr, "kvstore: no thread\n");
		status = 1;
	} else {
		wait_for_puts(w, o.threads, st.keys);
		printf("%llu keys, %u threads: %.0f k puts/s\n", (unsigned long long)st.keys,
		       o.threads, (double)puts_of(w, o.threads) / (now() - begin) / 1e3);
	}
	for (unsigned round = 1; !status && round <= o.rounds; round++)
		status = round_once(&st, &o, w, round);
	stop = true;
	while (started--)
		pthread_join(w[started].thread, NULL);
	if (!status)
		status = report(&st, w, o.threads);
	unlink(o.path);
	if (quire_check(st.q)) {
		fprintf(stderr, "kvstore: Quire has lost count of something\n");
		status = 1;
	}
	quire_space_destroy(st.space);
	quire_close(st.q);
	return status;
}
