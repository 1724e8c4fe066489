/*
 * Plain areas against other threads, and against a simple oracle: a frame is a number, a page names
 * a frame. Its loads show that number, at every address; its stores change it for all of them.
 */
#include "host_plain.h"

#include <pthread.h>

#define ROUNDS      1600u
#define BLOCK_PAGES 512u
#define PAGES       32u /* of each of the two areas that a world uses */
#define FRAMES      48u
#define STEPS       6000u
#define LIMIT       16u

/* ---- a writer that is never stopped ---- */
static a32_t writer_stop;
static u64 writer_count;

static void *writer(void *arg)
{
	volatile u64 *word = arg;

	while (!a32_read(&writer_stop)) {
		*word += 1;
		writer_count++;
	}
	return NULL;
}

static pthread_t start_writer(u64 page)
{
	pthread_t t;

	a32_set(&writer_stop, 0);
	writer_count = 0;
	assert_int_equal(pthread_create(&t, NULL, writer, (void *)(uintptr_t)fake_va(page)), 0);
	return t;
}

static void stop_writer(pthread_t t)
{
	a32_set(&writer_stop, 1);
	pthread_join(t, NULL);
}

__attribute__((no_sanitize("thread"), noinline)) static u64 read_bytes(u64 pfn)
{
	return *plain_bytes(pfn);
}

/* The writer has stored at least once from now on. */
static void await_store(u64 pfn)
{
	u64 seen = read_bytes(pfn);

	while (read_bytes(pfn) == seen)
		sched_yield();
}

/* The page goes from one frame to another and back, its bytes with it: no store is lost, whichever
 * moment it comes at. */
static void test_placing_under_stores(void **state)
{
	u64 frame[2] = { plain_own(5), fake.m->node_span[0].pfn + 3 };
	pthread_t t;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	assert_int_equal(plain_set(5, 1, frame[0], true, NULL, true, false), 0);
	/* So that it comes at every moment, and not only when the page has its new place. */
	plain_impatient = true;
	t = start_writer(5);
	for (u32 i = 0; i < ROUNDS; i++) {
		u64 *to = fake.m->ops->frame_window(fake.m, frame[!(i & 1)]), bytes;

		spin_lock(&fake.lock[0]);
		plain_clear(5, 1);
		bytes = read_bytes(frame[i & 1]);
		*to = bytes;
		/* Clean: the first store must be told, so nothing changes before the lock is
		 * dropped. */
		assert_int_equal(plain_set(5, 1, frame[!(i & 1)], false, NULL, false, false), 0);
		for (u32 k = 0; k < 50; k++)
			assert_int_equal(read_bytes(frame[!(i & 1)]), bytes);
		spin_unlock(&fake.lock[0]);
		if (i % 16 == 0)
			await_store(frame[!(i & 1)]);
	}
	stop_writer(t);
	assert_int_equal(*fake_word(5), writer_count);
	assert_true(a32_read(&plain_stores) > 0);
}

/* After a flush against stores the bytes do not change, though the writer never stops. */
static void test_no_store(void **state)
{
	pthread_t t;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	assert_int_equal(plain_set(0, 16, plain_own(0), true, NULL, true, false), 0);
	t = start_writer(5);
	for (u32 i = 0; i < ROUNDS / 4; i++) {
		u64 seen;

		await_store(plain_own(5));
		spin_lock(&fake.lock[0]);
		a64_set(&fake.entry[5], plain_mk(plain_own(5), false));
		fake_flush(0, 16, FLUSH_NO_STORE);
		seen = read_bytes(plain_own(5));
		for (u32 k = 0; k < 200; k++)
			assert_int_equal(read_bytes(plain_own(5)), seen);
		spin_unlock(&fake.lock[0]);
	}
	stop_writer(t);
	assert_int_equal(*fake_word(5), writer_count);
}

/* ---- the oracle ---- */
/* Two areas in two blocks: the first of its own frames, the second of the first's. */
struct world {
	u64 seed;
	u64 first[2];
	unsigned prot[2];
	u64 pfn[FRAMES]; /* the first area's, the second's, and some of the overflow's */
	u64 value[FRAMES];
	u32 mapped[FRAMES];
	int frame[2][PAGES]; /* -1: none */
	bool writable[2][PAGES];
	bool inject;
	bool limited; /* there may be too many host mappings for a run */
};

static u64 rnd(struct world *w, u64 n)
{
	w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (w->seed >> 33) % n;
}

static struct spin *lock_of(const struct world *w, u32 a)
{
	return &fake.lock[w->first[a] / PTRS_PER_TABLE];
}

static void world_area(struct world *w, u32 a)
{
	w->prot[a] = rnd(w, 3) ? PLAIN_RW : PLAIN_R;
	assert_int_equal(plain_area(w->first[a], w->first[a] + PAGES, w->prot[a],
				    plain_own(w->first[rnd(w, 8) ? 0 : a])),
			 0);
}

static void world_init(struct world *w, u64 seed, u64 first, u64 overflow)
{
	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->first[0] = first + 16;
	w->first[1] = first + BLOCK_PAGES;
	for (u32 i = 0; i < FRAMES; i++)
		w->pfn[i] = i < 24 ? plain_own(w->first[0] + i) :
			    i < 36 ? plain_own(w->first[1] + i - 24) :
				     fake.m->node_span[0].pfn + overflow + i;
	for (u32 a = 0; a < 2; a++) {
		for (u32 p = 0; p < PAGES; p++)
			w->frame[a][p] = -1;
		world_area(w, a);
	}
}

/* A run of pages without entries, and frames for them. */
static void op_map(struct world *w)
{
	u32 a = (u32)rnd(w, 2), p = (u32)rnd(w, PAGES), n = 1 + (u32)rnd(w, 8), kind;
	u64 e[8], nth = w->inject && !rnd(w, 4) ? 1 + rnd(w, 8) : 0;
	bool writable = (w->prot[a] & PROT_BITS_WRITE) && rnd(w, 2), fresh = true;
	u32 f = rnd(w, 3) ? p % 24 : (u32)rnd(w, FRAMES - 8);
	char *buf = NULL;
	int err;

	n = min(n, min(PAGES - p, FRAMES - f));
	for (u32 i = 0; i < n; i++) {
		if (w->frame[a][p + i] >= 0)
			n = i;
	}
	if (!n)
		return;
	for (u32 i = 0; i < n; i++) {
		fresh &= !w->mapped[f + i] && w->pfn[f + i] == w->pfn[f] + i;
		e[i] = plain_mk(w->pfn[f + i], writable);
	}
	kind = fresh ? (u32)rnd(w, 3) : 0;
	if (kind == 2) {
		buf = fake.m->ops->fill_begin(fake.m, w->pfn[f], n);
		for (u32 i = 0; i < n; i++) {
			memset(buf + i * PAGE_SIZE, 0, PAGE_SIZE);
			*(u64 *)(buf + i * PAGE_SIZE) = i * 3 + f;
		}
	}
	spin_lock(lock_of(w, a));
	if (nth)
		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
	err = fake.m->ops->entries_changed(fake.m, fake.s, fake_va(w->first[a] + p), e, n, 0, buf,
					   kind == 1, false);
	if (nth)
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
	assert_true(!err || (nth && err == -ENOMEM) || (w->limited && err == -ENOSPC));
	for (u32 i = 0; i < n; i++) {
		if (kind)
			w->value[f + i] = kind == 1 ? 0 : i * 3 + f;
		if (err)
			continue;
		a64_set(&fake.entry[w->first[a] + p + i], e[i]);
		w->frame[a][p + i] = (int)(f + i);
		w->writable[a][p + i] = writable;
		w->mapped[f + i]++;
	}
	spin_unlock(lock_of(w, a));
	if (buf)
		assert_int_equal(fake.m->ops->fill_end(fake.m, w->pfn[f], n, buf), 0);
	/* What failed left some of the frames with the new bytes and some without. */
	for (u32 i = 0; err && kind == 1 && i < n; i++) {
		*plain_bytes(w->pfn[f + i]) = 0;
	}
}

static void op_clear(struct world *w)
{
	u32 a = (u32)rnd(w, 2), p = (u32)rnd(w, PAGES), n = 1 + (u32)rnd(w, 12);

	n = min(n, PAGES - p);
	spin_lock(lock_of(w, a));
	plain_clear(w->first[a] + p, n);
	spin_unlock(lock_of(w, a));
	for (u32 i = p; i < p + n; i++) {
		if (w->frame[a][i] >= 0)
			w->mapped[w->frame[a][i]]--;
		w->frame[a][i] = -1;
		w->writable[a][i] = false;
	}
}

/* Entries lose or get the right to write; or the trap of a spurious fault is played. */
static void op_change(struct world *w)
{
	u32 a = (u32)rnd(w, 2), p = (u32)rnd(w, PAGES), n = 1 + (u32)rnd(w, 12),
	    how = (u32)rnd(w, 3);
	bool writable = how && (w->prot[a] & PROT_BITS_WRITE);
	u64 e[12], va = fake_va(w->first[a] + p);

	n = min(n, PAGES - p);
	spin_lock(lock_of(w, a));
	for (u32 i = 0; i < n; i++) {
		int f = w->frame[a][p + i];

		w->writable[a][p + i] = f >= 0 && writable;
		e[i] = f < 0 ? 0 : plain_mk(w->pfn[f], writable);
		a64_set(&fake.entry[w->first[a] + p + i], e[i]);
	}
	if (!writable)
		fake_flush(w->first[a] + p, n, FLUSH_NO_STORE);
	assert_int_equal(
		fake.m->ops->entries_changed(fake.m, fake.s, va, e, n, 0, NULL, false, how == 2),
		0);
	spin_unlock(lock_of(w, a));
}

static void op_release(struct world *w)
{
	u32 f = (u32)rnd(w, FRAMES), n = 0;

	while (n < 8 && f + n < FRAMES && !w->mapped[f + n] && w->pfn[f + n] == w->pfn[f] + n)
		w->value[f + n++] = 0;
	if (n)
		machine_release(fake.m, w->pfn[f], n);
}

static void op_core_write(struct world *w)
{
	u32 f = (u32)rnd(w, FRAMES);

	w->value[f] = rnd(w, 1000000);
	*plain_bytes(w->pfn[f]) = w->value[f];
}

static void op_access(struct world *w)
{
	u32 a = (u32)rnd(w, 2), p = (u32)rnd(w, PAGES);
	u64 page = w->first[a] + p, value = rnd(w, 1000000);
	int f = w->frame[a][p], how;

	if (f < 0)
		return;
	assert_int_equal(*fake_word(page), w->value[f]);
	how = plain_try_store(page, value);
	assert_int_equal(how, w->writable[a][p] ? 0 : w->prot[a] & PROT_BITS_WRITE ? 1 : 2);
	if (!how)
		w->value[f] = value;
	assert_int_equal(*plain_bytes(w->pfn[f]), w->value[f]);
	assert_int_equal(*fake_word(page), w->value[f]);
}

static void op_area(struct world *w)
{
	u32 a = (u32)rnd(w, 2);
	struct range r = { fake_va(w->first[a]), fake_va(w->first[a] + PAGES) };

	if (rnd(w, 2)) {
		unsigned to = w->prot[a] ^ PROT_BITS_WRITE;

		for (u32 i = 0; i < PAGES; i++)
			w->writable[a][i] = false;
		spin_lock(lock_of(w, a));
		for (u32 i = 0; i < PAGES; i++)
			if (w->frame[a][i] >= 0)
				a64_set(&fake.entry[w->first[a] + i],
					plain_mk(w->pfn[w->frame[a][i]], false));
		fake_flush(w->first[a], PAGES, FLUSH_NO_STORE);
		spin_unlock(lock_of(w, a));
		assert_int_equal(fake.m->ops->area_protect(fake.m, fake.s, r, w->prot[a], to), 0);
		w->prot[a] = to;
		return;
	}
	spin_lock(lock_of(w, a));
	plain_clear(w->first[a], PAGES);
	spin_unlock(lock_of(w, a));
	for (u32 i = 0; i < PAGES; i++) {
		if (w->frame[a][i] >= 0)
			w->mapped[w->frame[a][i]]--;
		w->frame[a][i] = -1;
		w->writable[a][i] = false;
	}
	plain_unarea(w->first[a], w->first[a] + PAGES);
	world_area(w, a);
}

static void world_check(struct world *w)
{
	for (u32 a = 0; a < 2; a++)
		for (u32 p = 0; p < PAGES; p++)
			if (w->frame[a][p] >= 0)
				assert_int_equal(*fake_word(w->first[a] + p),
						 w->value[w->frame[a][p]]);
	for (u32 f = 0; f < FRAMES; f++)
		assert_int_equal(*plain_bytes(w->pfn[f]), w->value[f]);
}

static void world_step(struct world *w)
{
	u64 what = rnd(w, 100);

	if (what < 30)
		op_map(w);
	else if (what < 40)
		op_clear(w);
	else if (what < 52)
		op_change(w);
	else if (what < 58)
		op_release(w);
	else if (what < 62)
		op_core_write(w);
	else if (what < 98)
		op_access(w);
	else if (!w->limited)
		op_area(w);
}

static void test_oracle(void **state)
{
	static struct world w;

	(void)state;
	plain_handlers();
	world_init(&w, 4711, 0, 0);
	w.inject = true;
	for (u32 i = 0; i < STEPS; i++) {
		world_step(&w);
		if (i % 64 == 0) {
			world_check(&w);
			assert_int_equal(plain_counters().mappings, plain_kernel_mappings());
		}
	}
	world_check(&w);
	assert_true(plain_counters().pages_placed > STEPS / 20);
	assert_int_equal(plain_counters().strays, 0);
	assert_int_equal(a32_read(&plain_segv), 0);
}

/* So few host mappings that runs are refused all the time, and never one too many. */
static void test_oracle_limited(void **state)
{
	static struct world w;

	(void)state;
	plain_handlers();
	world_init(&w, 815, 0, 0);
	w.limited = true;
	for (u32 i = 0; i < STEPS; i++) {
		world_step(&w);
		if (i % 64 == 0) {
			world_check(&w);
			assert_true(plain_counters().mappings <= LIMIT);
			assert_int_equal(plain_counters().mappings, plain_kernel_mappings());
		}
	}
	assert_true(plain_counters().places_refused > STEPS / 50);
	assert_true(plain_counters().pages_placed > STEPS / 50);
}

static int setup_limited(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30,
				   .overflow_bytes = 1ull << 30,
				   .max_mappings = LIMIT };

	(void)state;
	fake_setup_with(&cfg);
	return 0;
}

static void *oracle_thread(void *arg)
{
	struct world *w = arg;

	for (u32 i = 0; i < STEPS; i++) {
		world_step(w);
		if (i % 256 == 0)
			world_check(w);
	}
	world_check(w);
	return NULL;
}

/* Other blocks, other frames, one machine; the second area of one lies in the block in which the
 * first of the other begins. */
static void test_oracle_threads(void **state)
{
	static struct world w[2];
	pthread_t t[2];

	(void)state;
	plain_handlers();
	world_init(&w[0], 12, 0, 0);
	world_init(&w[1], 13, BLOCK_PAGES + 100, 100);
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, oracle_thread, &w[i]), 0);
	for (u32 i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(plain_counters().mappings, plain_kernel_mappings());
	assert_int_equal(plain_counters().strays, 0);
	assert_int_equal(plain_counters().boundaries, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_placing_under_stores),
		FAKE_TEST(test_no_store),
		FAKE_TEST(test_oracle),
		FAKE_TEST(test_oracle_threads),
		{ "test_oracle_limited", fake_run, setup_limited, fake_teardown,
		  (void *)test_oracle_limited },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
