/* Parked pages and moves between nodes under several threads: a store traps, or is in the bytes. */
#include "host_fake.h"

#include <pthread.h>

#define HAMMER_PAGES   1024u
#define HAMMER_THREADS 3
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAMMER_STEPS 4000u
#else
#define HAMMER_STEPS 30000u
#endif

static a32_t stop;
static a32_t parked;
static a32_t moved;
static a32_t refused; /* for want of memory: injected */

static int nodes_setup(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30,
				   .overflow_bytes = 1ull << 30,
				   .nr_nodes = 2,
				   .node = { { 1ull << 30, -1 }, { 1ull << 30, -1 } } };

	(void)state;
	fake_setup_with(&cfg);
	if (!machine_has(fake.m, CAP_PARK)) {
		printf("skipped: this kernel does not move pages\n");
		exit(77);
	}
	a32_set(&stop, 0);
	a32_set(&parked, 0);
	a32_set(&moved, 0);
	a32_set(&refused, 0);
	return 0;
}

#define NODES_TEST(fn)                                                \
	{                                                             \
#fn, fake_run, nodes_setup, fake_teardown, (void *)fn \
	}

static u64 rng(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

struct worker {
	pthread_t id;
	u64 seed;
	u32 slot;
	u64 sum; /* of what it added */
	u64 odd; /* broken expectations */
};

/* Adds to its own word of random pages, with plain loads and stores. */
static void *hammer(void *arg)
{
	struct worker *w = arg;
	static u64 mine[HAMMER_THREADS][HAMMER_PAGES];

	memset(mine[w->slot], 0, sizeof(mine[0]));
	/* On, if need be, until each of the others has had its turn. */
	for (u32 i = 0; i < HAMMER_STEPS || !a32_read(&parked) || !a32_read(&moved); i++) {
		u64 r = rng(&w->seed);
		u64 page = r % HAMMER_PAGES;
		volatile u64 *word = fake_word(page) + w->slot;

		if (__atomic_load_n(word, __ATOMIC_RELAXED) != mine[w->slot][page])
			w->odd++;
		if (r & BIT(40)) {
			__atomic_store_n(word, ++mine[w->slot][page], __ATOMIC_RELAXED);
			w->sum++;
		}
	}
	return NULL;
}

/* Entries in [page, page + nr) that are present lose that; as the core's scanner, under the lock.
 */
static u32 take_entries(u64 page, u32 nr)
{
	u32 i = 0;

	while (i < nr && (a64_read(&fake.entry[page + i]) & ENTRY_PRESENT) &&
	       !fake.isolated[page + i])
		a64_set(&fake.entry[page + i++], FAKE_LEAVING);
	return i;
}

/* Parks runs, or moves them to the other node; half of them it maps again itself. */
static void *mover(void *arg)
{
	struct worker *w = arg;

	while (!a32_read(&stop)) {
		u64 r = rng(&w->seed);
		u32 nr = (u32)(r >> 20) % 64 + 1, n;
		u64 page = r % (HAMMER_PAGES - nr), pfn = fake_va(page) >> PAGE_SHIFT;
		struct spin *lock = &fake.lock[page / PTRS_PER_TABLE];
		int err = 0;

		nr = min(nr, (u32)(PTRS_PER_TABLE - page % PTRS_PER_TABLE));
		spin_lock(lock);
		n = take_entries(page, nr);
		if (n && r & BIT(41))
			fake_flush(page, n, FLUSH_NO_STORE);
		if (n && r & BIT(42))
			err = fake.m->ops->frames_park(fake.m, pfn, n);
		else if (n)
			err = fake.m->ops->frames_to_node(fake.m, pfn, n, r >> 43 & 1,
							  ~r >> 43 & 1);
		a32_add(err ? &refused : r & BIT(42) ? &parked : &moved, n);
		if (n && r & BIT(44) && fake_install(page, n, r & BIT(45), NULL, false, false))
			a32_add(&refused, 1);
		spin_unlock(lock);
		base_yield();
	}
	return NULL;
}

static void *evictor(void *arg)
{
	struct worker *w = arg;

	while (!a32_read(&stop)) {
		u64 r = rng(&w->seed);
		u32 nr = (u32)(r >> 20) % 16 + 1;
		u64 page = r % (HAMMER_PAGES - nr);

		nr = min(nr, (u32)(PTRS_PER_TABLE - page % PTRS_PER_TABLE));
		fake_evict(page, nr);
	}
	return NULL;
}

static void run_hammer(void)
{
	struct worker w[HAMMER_THREADS], mv[2], ev;
	u64 expect = 0, got = 0;
	u32 slot = 0;

	for (u32 i = 0; i < HAMMER_THREADS; i++) {
		w[i] = (struct worker){ .seed = 0x1234567 * (i + 1), .slot = i };
		pthread_create(&w[i].id, NULL, hammer, &w[i]);
	}
	for (u32 i = 0; i < 2; i++) {
		mv[i] = (struct worker){ .seed = 0x77777 + i };
		pthread_create(&mv[i].id, NULL, mover, &mv[i]);
	}
	ev = (struct worker){ .seed = 99 };
	pthread_create(&ev.id, NULL, evictor, &ev);
	for (u32 i = 0; i < HAMMER_THREADS; i++)
		pthread_join(w[i].id, NULL);
	a32_set(&stop, 1);
	pthread_join(mv[0].id, NULL);
	pthread_join(mv[1].id, NULL);
	pthread_join(ev.id, NULL);
	for (u32 i = 0; i < HAMMER_THREADS; i++) {
		assert_int_equal(w[i].odd, 0);
		expect += w[i].sum;
		for (u32 p = 0; p < HAMMER_PAGES; p++)
			got += fake_word(p)[i];
	}
	assert_int_equal(got, expect);
	assert_int_equal(host_populated_pages(fake.m), host_resident_pages(fake.m));
	assert_int_equal(a64_read(&fake.s->nr_parked), 0);
	assert_int_equal(slots_next_claimed(container_of(fake.m, struct host, m), &slot), 0);
	printf("    parked %u, moved %u, refused %u, evicted %u, faults %u\n", a32_read(&parked),
	       a32_read(&moved), a32_read(&refused), a32_read(&fake.evicted),
	       a32_read(&fake.faults));
}

static void test_hammer(void **state)
{
	(void)state;
	run_hammer();
}

/* Each thread's pages are its own; the pools are everybody's. */
static void *exchanger(void *arg)
{
	struct worker *w = arg;
	u64 page = (u64)w->slot * PTRS_PER_TABLE;

	for (u32 round = 0; round < HAMMER_STEPS / 200; round++) {
		u32 nr = rng(&w->seed) % PTRS_PER_TABLE + 1;

		for (u32 i = 0; i < nr; i++)
			a64_set(&fake.entry[page + i], FAKE_LEAVING);
		if (fake.m->ops->frames_to_node(fake.m, fake_va(page) >> PAGE_SHIFT, nr, round & 1,
						~round & 1) ||
		    fake_install(page, nr, true, NULL, false, false)) {
			w->odd++;
			return NULL;
		}
		for (u32 i = 0; i < nr; i++) {
			if (__atomic_load_n(fake_word(page + i), __ATOMIC_RELAXED) != w->slot)
				w->odd++;
			if (__atomic_load_n(fake_word(page + i) + 1, __ATOMIC_RELAXED) != i)
				w->odd++;
		}
	}
	return NULL;
}

static void test_exchange(void **state)
{
	struct worker w[4];
	u32 slot = 0;

	(void)state;
	for (u32 i = 0; i < 4; i++) {
		u64 page = (u64)i * PTRS_PER_TABLE;

		assert_int_equal(fake_install(page, PTRS_PER_TABLE, true, NULL, true, false), 0);
		for (u32 k = 0; k < PTRS_PER_TABLE; k++) {
			__atomic_store_n(fake_word(page + k), i, __ATOMIC_RELAXED);
			__atomic_store_n(fake_word(page + k) + 1, k, __ATOMIC_RELAXED);
		}
	}
	for (u32 i = 0; i < 4; i++) {
		w[i] = (struct worker){ .seed = 0x999 * (i + 1), .slot = i };
		pthread_create(&w[i].id, NULL, exchanger, &w[i]);
	}
	for (u32 i = 0; i < 4; i++) {
		pthread_join(w[i].id, NULL);
		assert_int_equal(w[i].odd, 0);
	}
	assert_int_equal(slots_next_claimed(container_of(fake.m, struct host, m), &slot), 0);
	assert_int_equal(host_resident_pages(fake.m), 4 * PTRS_PER_TABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NODES_TEST(test_hammer),
		NODES_TEST(test_exchange),
	};

	return cmocka_run_group_tests_name("host nodes race", tests, NULL, NULL);
}
