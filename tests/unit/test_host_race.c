/* The host machine under several threads: no store is lost, whatever is evicted, moved or protected
 * meanwhile. */
#include "host_fake.h"

#include <pthread.h>

#define HAMMER_PAGES   512u
#define HAMMER_THREADS 3
#define SANITIZED      (SANITIZED_ADDRESS || SANITIZED_THREAD)
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED_ADDRESS 1
#else
#define SANITIZED_ADDRESS 0
#endif
#ifdef __SANITIZE_THREAD__
#define SANITIZED_THREAD 1
#else
#define SANITIZED_THREAD 0
#endif
#define HAMMER_STEPS (SANITIZED ? 4000u : 30000u)

static a32_t stop;
static a32_t protections; /* rounds of the protector */

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

/* Adds to its own word of random pages, with plain loads and stores: a lost store or stale load
 * shows. */
static void *hammer(void *arg)
{
	struct worker *w = arg;
	static u64 mine[HAMMER_THREADS][HAMMER_PAGES];

	memset(mine[w->slot], 0, sizeof(mine[0]));
	/* On, if need be, until each of the others has had its turn. */
	for (u32 i = 0; i < HAMMER_STEPS || !a32_read(&fake.evicted) || !a32_read(&protections);
	     i++) {
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

static void *evictor(void *arg)
{
	struct worker *w = arg;

	while (!a32_read(&stop)) {
		u64 r = rng(&w->seed);
		u32 nr = (u32)(r >> 20) % 64 + 1;
		u64 page = r % (HAMMER_PAGES - nr);

		nr = min(nr, (u32)(PTRS_PER_TABLE - page % PTRS_PER_TABLE));
		fake_evict(page, nr);
	}
	return NULL;
}

/* Write samples: everything in a span is to trap again. */
static void *sampler(void *arg)
{
	struct worker *w = arg;

	while (!a32_read(&stop)) {
		u64 page = rng(&w->seed) % (HAMMER_PAGES - 32);
		struct spin *lock = &fake.lock[page / PTRS_PER_TABLE];

		spin_lock(lock);
		for (u64 p = page; p < page + 32; p++) {
			u64 e = a64_read(&fake.entry[p]);

			if (e & ENTRY_PRESENT)
				a64_set(&fake.entry[p], e & ~(ENTRY_WRITE | ENTRY_DIRTY));
		}
		fake_flush(page, 32, FLUSH_NO_STORE);
		spin_unlock(lock);
		base_yield();
	}
	return NULL;
}

/* Takes away and gives back rights of an area that nobody else uses, and waits for readers each
 * time. */
static void *protector(void *arg)
{
	struct range r = { fake_va(1024), fake_va(1056) };
	u64 rounds = 0;

	(void)arg;
	while (!a32_read(&stop)) {
		if (fake.m->ops->area_protect(fake.m, fake.s, r, PROT_RW, 0) ||
		    fake.m->ops->area_protect(fake.m, fake.s, r, 0, PROT_RW))
			break;
		rounds++;
		a32_add(&protections, 1);
		base_yield();
	}
	return (void *)(uintptr_t)rounds;
}

static void test_hammer(void **state)
{
	struct worker w[HAMMER_THREADS], ev[2], sa;
	pthread_t prot;
	void *rounds;
	u64 expect = 0, got = 0;

	(void)state;
	a32_set(&stop, 0);
	a32_set(&protections, 0);
	for (u32 i = 0; i < HAMMER_THREADS; i++) {
		w[i] = (struct worker){ .seed = 0x1234567 * (i + 1), .slot = i };
		pthread_create(&w[i].id, NULL, hammer, &w[i]);
	}
	for (u32 i = 0; i < 2; i++) {
		ev[i] = (struct worker){ .seed = 0x77777 + i };
		pthread_create(&ev[i].id, NULL, evictor, &ev[i]);
	}
	sa = (struct worker){ .seed = 99 };
	pthread_create(&sa.id, NULL, sampler, &sa);
	pthread_create(&prot, NULL, protector, NULL);
	for (u32 i = 0; i < HAMMER_THREADS; i++)
		pthread_join(w[i].id, NULL);
	a32_set(&stop, 1);
	pthread_join(ev[0].id, NULL);
	pthread_join(ev[1].id, NULL);
	pthread_join(sa.id, NULL);
	pthread_join(prot, &rounds);
	for (u32 i = 0; i < HAMMER_THREADS; i++) {
		assert_int_equal(w[i].odd, 0);
		expect += w[i].sum;
		for (u32 p = 0; p < HAMMER_PAGES; p++)
			got += fake_word(p)[i];
	}
	assert_int_equal(got, expect);
	assert_true(a32_read(&fake.evicted) > 0);
	assert_true((uintptr_t)rounds > 0);
	assert_int_equal(host_populated_pages(fake.m), host_resident_pages(fake.m));
	printf("    evicted %u, overtaken %u, faults %u, write faults %u, spurious %u\n",
	       a32_read(&fake.evicted), a32_read(&fake.refused), a32_read(&fake.faults),
	       a32_read(&fake.write_faults), a32_read(&fake.spurious));
}

/* Threads that meet on one page at the same time; each must see the other's stores. */
static void *meet(void *arg)
{
	struct worker *w = arg;

	for (u32 i = 0; i < 400; i++) {
		__atomic_fetch_add((u64 *)(uintptr_t)fake_va(600 + i), 1, __ATOMIC_RELAXED);
		if (i % 16 == 0)
			base_yield();
	}
	(void)w;
	return NULL;
}

static void test_same_pages(void **state)
{
	pthread_t id[4];

	(void)state;
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 4; i++)
			pthread_create(&id[i], NULL, meet, NULL);
		for (int i = 0; i < 4; i++)
			pthread_join(id[i], NULL);
		for (u32 i = 0; i < 400; i++)
			assert_int_equal(*fake_word(600 + i), 4);
		machine_release(fake.m, fake_va(600) >> PAGE_SHIFT, 400);
		for (u32 i = 0; i < 400; i++)
			a64_set(&fake.entry[600 + i], 0);
	}
}

/* After a flush has returned, the stores of a running thread stand still; without it they do not.
 */
static void *writer(void *arg)
{
	(void)arg;
	while (!a32_read(&stop))
		for (u32 i = 0; i < 8; i++)
			__atomic_fetch_add((u64 *)(uintptr_t)fake_va(700 + i), 1, __ATOMIC_RELAXED);
	return NULL;
}

static void test_stores_stop(void **state)
{
	pthread_t id;

	(void)state;
	a32_set(&stop, 0);
	assert_int_equal(fake_install(700, 8, true, NULL, true, false), 0);
	pthread_create(&id, NULL, writer, NULL);
	/* On, if need be, until the writer has had its turn. */
	for (int round = 0; round < (SANITIZED ? 200 : 1500) || !a32_read(&fake.write_faults);
	     round++) {
		u64 before[8], after[8];

		spin_lock(&fake.lock[1]);
		for (u32 i = 0; i < 8; i++)
			a64_set(&fake.entry[700 + i], fake_mk(700 + i, false));
		fake_flush(700, 8, FLUSH_NO_STORE);
		for (u32 i = 0; i < 8; i++)
			before[i] = __atomic_load_n(fake_word(700 + i), __ATOMIC_RELAXED);
		for (int spin = 0; spin < 50; spin++)
			base_relax();
		base_yield();
		for (u32 i = 0; i < 8; i++)
			after[i] = __atomic_load_n(fake_word(700 + i), __ATOMIC_RELAXED);
		spin_unlock(&fake.lock[1]);
		assert_memory_equal(before, after, sizeof(before));
	}
	a32_set(&stop, 1);
	pthread_join(id, NULL);
	assert_true(a32_read(&fake.write_faults) > 0);
}

/* Pages vanish under readers: each read is either the bytes or zeroes, and nothing is left over. */
static void *frame_reader(void *arg)
{
	struct worker *w = arg;

	while (!a32_read(&stop)) {
		static __thread u64 copy[PAGE_SIZE / sizeof(u64)];

		fake.m->ops->read_begin(fake.m);
		for (u64 p = 800; p < 832; p++) {
			fake_read(copy, p);
			if (copy[0] != 0 && copy[0] != p)
				w->odd++;
		}
		fake.m->ops->read_end(fake.m);
		w->sum++;
	}
	return NULL;
}

static void test_read_while_dropped(void **state)
{
	struct worker w[2];
	struct host_counters c;
	struct range all = { fake_va(800), fake_va(832) };

	(void)state;
	a32_set(&stop, 0);
	for (int i = 0; i < 2; i++) {
		w[i] = (struct worker){ .seed = i };
		pthread_create(&w[i].id, NULL, frame_reader, &w[i]);
	}
	for (int round = 0; round < (SANITIZED ? 150 : 1000); round++) {
		spin_lock(&fake.lock[1]);
		assert_int_equal(fake_install(800, 32, true, NULL, true, false), 0);
		for (u64 p = 800; p < 832; p++)
			__atomic_store_n(fake_word(p), p, __ATOMIC_RELAXED);
		for (u64 p = 800; p < 832; p++)
			if (__atomic_load_n(fake_word(p), __ATOMIC_RELAXED) != p)
				w[0].odd++;
		for (u64 p = 800; p < 832; p++)
			a64_set(&fake.entry[p], 0);
		if (round % 2)
			fake_flush(800, 32, FLUSH_NO_ACCESS);
		else
			machine_release(fake.m, fake_va(800) >> PAGE_SHIFT, 32);
		spin_unlock(&fake.lock[1]);
	}
	a32_set(&stop, 1);
	for (int i = 0; i < 2; i++) {
		pthread_join(w[i].id, NULL);
		assert_int_equal(w[i].odd, 0);
		assert_true(w[i].sum > 0);
	}
	assert_int_equal(a32_read(&fake.faults), a32_read(&fake.write_faults));
	host_counters(fake.m, &c);
	printf("    core reads fixed %llu, strays %llu\n", (unsigned long long)c.core_reads_fixed,
	       (unsigned long long)c.strays);
	/* What the readers left is accounted for. */
	assert_int_equal(host_populated_pages(fake.m), host_resident_pages(fake.m));
	fake.m->ops->area_unmap(fake.m, fake.s, all, PROT_RW);
	assert_int_equal(host_resident_pages(fake.m), 0);
}

struct gatekeeper {
	pthread_t id;
	a32_t done;
	int err;
};

static void *protect_once(void *arg)
{
	struct gatekeeper *g = arg;

	g->err = fake.m->ops->area_protect(fake.m, fake.s, (struct range){ fake_va(0), fake_va(8) },
					   PROT_RW, 0);
	a32_set(&g->done, 1);
	return NULL;
}

static void test_protection_waits_for_readers(void **state)
{
	struct gatekeeper g = { .done = A_INIT(0) };

	(void)state;
	assert_int_equal(fake_install(0, 8, true, NULL, true, false), 0);
	*fake_word(0) = 42;
	fake.m->ops->read_begin(fake.m);
	pthread_create(&g.id, NULL, protect_once, &g);
	usleep(20000);
	assert_int_equal(a32_read(&g.done), 0);
	fake.m->ops->read_begin(fake.m); /* nested: does not wait for the one who waits for us */
	assert_int_equal(*fake_word(0), 42);
	fake.m->ops->read_end(fake.m);
	fake.m->ops->read_end(fake.m);
	pthread_join(g.id, NULL);
	assert_int_equal(g.err, 0);
	fake.m->ops->read_begin(fake.m); /* open again */
	assert_null(fake.m->ops->frame_window(fake.m, fake_va(3) >> PAGE_SHIFT));
	assert_non_null(fake.m->ops->frame_window(fake.m, fake_va(8) >> PAGE_SHIFT));
	fake.m->ops->read_end(fake.m);
	assert_false(host_reading());
}

static void *stager(void *arg)
{
	struct worker *w = arg;

	for (u32 i = 0; i < (SANITIZED ? 2000 : 20000); i++) {
		u32 nr = rng(&w->seed) % 3 ? 1 : 300;
		u64 *buf[3];

		for (int k = 0; k < 3; k++) {
			buf[k] = fake.m->ops->fill_begin(fake.m, 0, nr);
			__atomic_store_n(buf[k], w->slot * 4 + k, __ATOMIC_RELAXED);
		}
		for (int k = 0; k < 3; k++) {
			if (__atomic_load_n(buf[k], __ATOMIC_RELAXED) != w->slot * 4 + k)
				w->odd++;
			fake.m->ops->fill_end(fake.m, 0, nr, buf[k]);
		}
	}
	return NULL;
}

/* A buffer has one owner; more than there are come from the system. */
static void test_staging(void **state)
{
	struct worker w[4];
	void *many[NR_STAGE_SMALL + 10];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(many); i++) {
		many[i] = fake.m->ops->fill_begin(fake.m, 0, 2);
		*(u32 *)many[i] = i;
	}
	for (u32 i = 0; i < ARRAY_SIZE(many); i++) {
		assert_int_equal(*(u32 *)many[i], i);
		fake.m->ops->fill_end(fake.m, 0, 2, many[i]);
	}
	for (u32 i = 0; i < 4; i++) {
		w[i] = (struct worker){ .seed = i + 1, .slot = i };
		pthread_create(&w[i].id, NULL, stager, &w[i]);
	}
	for (u32 i = 0; i < 4; i++) {
		pthread_join(w[i].id, NULL);
		assert_int_equal(w[i].odd, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_hammer),
		FAKE_TEST(test_same_pages),
		FAKE_TEST(test_stores_stop),
		FAKE_TEST(test_read_while_dropped),
		FAKE_TEST(test_protection_waits_for_readers),
		FAKE_TEST(test_staging),
	};

	return cmocka_run_group_tests_name("host race", tests, NULL, NULL);
}
