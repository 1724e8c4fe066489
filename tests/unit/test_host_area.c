/* Areas of the host machine: the kernel's own list of mappings is the oracle of random operations.
 */
#include "host_fake.h"

#define AREA_PAGES   64u
#define SEED_DEFAULT 20240229ull

static u64 rng_state;

static u64 rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

/* Mappings of the region and the protection of each of the first pages, as the kernel tells. */
static u32 read_maps(u8 prot[AREA_PAGES])
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	u32 n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end;
		char perms[8];
		u8 bits;

		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) != 3)
			continue;
		if (start >= fake.u.end || end <= fake.u.start)
			continue;
		n++;
		bits = (perms[0] == 'r' ? 1 : 0) | (perms[1] == 'w' ? 2 : 0) |
		       (perms[2] == 'x' ? 4 : 0);
		for (u32 p = 0; p < AREA_PAGES; p++)
			if (fake_va(p) >= start && fake_va(p) < end)
				prot[p] = bits;
	}
	fclose(f);
	return n;
}

static void check_against_kernel(const u8 *want)
{
	struct host_counters c;
	u8 prot[AREA_PAGES] = { 0 };
	u32 n = read_maps(prot);

	host_counters(fake.m, &c);
	if (n != c.mappings || memcmp(prot, want, AREA_PAGES))
		printf("seed %llu: %u mappings, %llu believed\n", (unsigned long long)rng_state, n,
		       (unsigned long long)c.mappings);
	assert_int_equal(n, c.mappings);
	assert_memory_equal(prot, want, AREA_PAGES);
}

static u64 refused(void)
{
	struct host_counters c;

	host_counters(fake.m, &c);
	return c.mappings_refused;
}

/* A refused map leaves what was there, or plain memory where that could be had: look which. */
static void learn(u8 *prot, u32 a, u32 b)
{
	u8 now[AREA_PAGES] = { 0 };

	read_maps(now);
	for (u32 p = a; p < b; p++) {
		assert_true(now[p] == PROT_RW || now[p] == prot[p]);
		prot[p] = now[p];
	}
}

/* One random operation on pages [a, b) of a uniform protection. */
static void random_step(u8 *prot, bool *area)
{
	u64 refused_before = refused();
	static const u8 kinds[] = { 0, 1, 3, 5, 7 };
	u32 a = rng() % AREA_PAGES, b = a + 1;
	u8 want = kinds[rng() % ARRAY_SIZE(kinds)];
	struct range r;
	int err = 0;

	while (b < AREA_PAGES && area[b] == area[a] && prot[b] == prot[a] && rng() % 8)
		b++;
	r = (struct range){ fake_va(a), fake_va(b) };
	if (!area[a])
		err = fake.m->ops->area_map(fake.m, fake.s, r, want, 0);
	else if (rng() % 3)
		err = fake.m->ops->area_protect(fake.m, fake.s, r, prot[a], want);
	else {
		fake.m->ops->area_unmap(fake.m, fake.s, r, prot[a]);
		memset(area + a, false, b - a);
		if (refused() == refused_before)
			memset(prot + a, PROT_RW, b - a);
		return;
	}
	if (err) {
		assert_int_equal(err, -ENOMEM);
		if (!area[a])
			learn(prot, a, b);
		return;
	}
	memset(prot + a, want, b - a);
	memset(area + a, true, b - a);
}

static void run_random(u32 steps)
{
	u8 prot[AREA_PAGES];
	bool area[AREA_PAGES] = { false };

	memset(prot, PROT_RW, sizeof(prot));
	for (u32 i = 0; i < steps; i++) {
		random_step(prot, area);
		check_against_kernel(prot);
	}
	/* All of it goes: one mapping is left. */
	fake.m->ops->area_unmap(fake.m, fake.s, (struct range){ fake_va(0), fake_va(AREA_PAGES) },
				0);
	memset(prot, PROT_RW, sizeof(prot));
	check_against_kernel(prot);
}

static void test_random_areas(void **state)
{
	const char *seed = getenv("QUIRE_SEED");

	(void)state;
	rng_state = seed ? strtoull(seed, NULL, 0) : SEED_DEFAULT;
	run_random(1500);
}

/* At the limit: what is refused has changed nothing, and what goes always can. */
static void test_random_areas_limited(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30, .max_mappings = 9 };
	struct host_counters c;

	fake_teardown(state);
	fake_setup_with(&cfg);
	rng_state = SEED_DEFAULT + 1;
	run_random(800);
	host_counters(fake.m, &c);
	assert_true(c.mappings_refused > 20);
	assert_int_equal(c.mappings, 1);
}

/* mprotect refused: nothing has changed, and an area that could not be restored is found later. */
static void test_refusals(void **state)
{
	struct range r = { fake_va(8), fake_va(16) }, part = { fake_va(10), fake_va(12) };
	u8 prot[AREA_PAGES];

	(void)state;
	memset(prot, PROT_RW, sizeof(prot));
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s, r, 0, 0), -ENOMEM);
	check_against_kernel(prot);
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s, r, 0, 0), 0);
	memset(prot + 8, 0, 8);
	check_against_kernel(prot);
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(fake.m->ops->area_protect(fake.m, fake.s, part, 0, PROT_RW), -ENOMEM);
	check_against_kernel(prot);
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	fake.m->ops->area_unmap(fake.m, fake.s, r, 0); /* cannot fail, and does */
	check_against_kernel(prot);
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s, part, PROT_RW, 0), -ENOMEM);
	check_against_kernel(prot);
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s, part, PROT_RW, 0), 0);
	memset(prot + 10, PROT_RW, 2);
	check_against_kernel(prot);
	*fake_word(11) = 1;
	inject_off(&fake.inject, INJECT_MACHINE_CALL);
}

/* The limit of the kernel itself is not met, because ours is lower; all of it is given back. */
static void test_many_areas(void **state)
{
	struct host_counters c;
	u32 n;

	(void)state;
	for (n = 0; n < 1000; n++)
		assert_int_equal(
			fake.m->ops->area_map(fake.m, fake.s,
					      (struct range){ fake_va(2 * n), fake_va(2 * n + 1) },
					      PROT_BITS_READ, 0),
			0);
	host_counters(fake.m, &c);
	assert_int_equal(c.mappings, 2000);
	for (n = 0; n < 1000; n++)
		fake.m->ops->area_unmap(fake.m, fake.s,
					(struct range){ fake_va(2 * (n * 7 % 1000)),
							fake_va(2 * (n * 7 % 1000) + 1) },
					PROT_BITS_READ);
	host_counters(fake.m, &c);
	assert_int_equal(c.mappings, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_random_areas),
		FAKE_TEST(test_random_areas_limited),
		FAKE_TEST(test_refusals),
		FAKE_TEST(test_many_areas),
	};

	return cmocka_run_group_tests_name("host areas", tests, NULL, NULL);
}
