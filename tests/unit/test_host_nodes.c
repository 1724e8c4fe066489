/* The host machine's memory nodes: spans of plain frames, parked pages, moves between nodes. */
#include "host_fake.h"

#include <sys/wait.h>

#define ALL 512u

static struct host *host(void)
{
	return container_of(fake.m, struct host, m);
}

static struct host_counters counters(void)
{
	struct host_counters c;

	host_counters(fake.m, &c);
	return c;
}

static void assert_resident(u64 pages)
{
	assert_int_equal(host_populated_pages(fake.m), pages);
	assert_int_equal(host_resident_pages(fake.m), (s64)pages);
}

/* Slots that hold something, or are lost. */
static u32 slots_in_use(void)
{
	u32 slot = 0, all = 0, n;

	for (; (n = slots_next_claimed(host(), &slot)); slot += n)
		all += n;
	return all;
}

static int nodes_setup(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30,
				   .overflow_bytes = 1ull << 30,
				   .nr_nodes = 2,
				   .node = { { 1ull << 30, -1 }, { 3ull << 30, -1 } } };

	(void)state;
	fake_setup_with(&cfg);
	if (!machine_has(fake.m, CAP_PARK)) {
		printf("skipped: this kernel does not move pages\n");
		exit(77);
	}
	return 0;
}

#define NODES_TEST(fn)                                                \
	{                                                             \
#fn, fake_run, nodes_setup, fake_teardown, (void *)fn \
	}

static u64 pattern(u64 page)
{
	return page * 3 + 7;
}

static void fill(u64 page, u32 nr, bool writable)
{
	for (u32 i = 0, n; i < nr; i += n) {
		n = min(nr - i, PTRS_PER_TABLE);
		assert_int_equal(fake_install(page + i, n, true, NULL, true, false), 0);
	}
	for (u64 p = page; p < page + nr; p++)
		fake_word(p)[0] = fake_word(p)[511] = pattern(p);
	if (!writable)
		assert_int_equal(fake_install(page, nr, false, NULL, false, false), 0);
	a32_set(&fake.faults, 0);
}

/* As the core: entries first. What is out of reach comes back by a fault. */
static void unmap(u64 page, u32 nr)
{
	for (u64 p = page; p < page + nr; p++)
		a64_set(&fake.entry[p], FAKE_LEAVING);
}

static int park(u64 page, u32 nr)
{
	unmap(page, nr);
	return fake.m->ops->frames_park(fake.m, fake_va(page) >> PAGE_SHIFT, nr);
}

static int to_node(u64 page, u32 nr, unsigned to)
{
	unmap(page, nr);
	return fake.m->ops->frames_to_node(fake.m, fake_va(page) >> PAGE_SHIFT, nr, !to, to);
}

static void assert_window(u64 page, u32 nr)
{
	fake.m->ops->read_begin(fake.m);
	for (u64 p = page; p < page + nr; p++) {
		u64 *at = fake.m->ops->frame_window(fake.m, fake_va(p) >> PAGE_SHIFT);

		assert_int_equal(at[0], pattern(p));
		assert_int_equal(at[511], pattern(p));
	}
	fake.m->ops->read_end(fake.m);
}

static void assert_bytes(u64 page, u32 nr)
{
	for (u64 p = page; p < page + nr; p++) {
		assert_int_equal(fake_word(p)[0], pattern(p));
		assert_int_equal(fake_word(p)[511], pattern(p));
	}
}

/* ---- what there is ---- */
static void test_spans(void **state)
{
	const struct frame_span *span = fake.m->node_span;
	u64 *at, zero = 0;
	char *buf;

	(void)state;
	assert_int_equal(fake.m->nr_nodes, 2);
	assert_null(fake.m->ops->prefer_node);
	if (!machine_has(fake.m, CAP_PLAIN))
		return;
	assert_true(span[0].nr >= BIT(30 - PAGE_SHIFT));
	assert_true(span[1].nr >= 3 * BIT(30 - PAGE_SHIFT));
	assert_true(span[0].pfn + span[0].nr <= span[1].pfn ||
		    span[1].pfn + span[1].nr <= span[0].pfn);
	for (u32 i = 0; i < 2; i++) {
		u64 pfn = span[i].pfn + span[i].nr - 2;

		buf = fake.m->ops->fill_begin(fake.m, pfn, 2);
		memset(buf, 0x33, 2 * PAGE_SIZE);
		assert_int_equal(fake.m->ops->fill_end(fake.m, pfn, 2, buf), 0);
		at = fake.m->ops->frame_window(fake.m, pfn + 1);
		assert_int_equal(at[7], 0x3333333333333333ull);
		assert_int_equal(fake.m->ops->frames_move(fake.m, span[!i].pfn, pfn, 2), 0);
		at = fake.m->ops->frame_window(fake.m, span[!i].pfn);
		assert_int_equal(at[7], 0x3333333333333333ull);
		machine_release(fake.m, span[!i].pfn, 2);
		assert_int_equal(at[7], zero);
		machine_release(fake.m, span[!i].pfn, 2);
	}
	assert_int_equal(host_resident_pages(fake.m), 0);
}

static void test_refused(void **state)
{
	struct host_config cfg = { .region_bytes = 1ull << 30, .nr_nodes = 2 };
	struct machine *m;
	struct mspace *s;
	struct host_probe probe;
	struct range u;
	char msg[200];

	(void)state;
	host_probe(&probe);
	assert_true(probe.nr_numa_nodes >= 1);
	assert_true(sys_node_online(0));
	for (int i = 0; i < 4; i++) {
		cfg.nr_nodes = i == 2 ? MACHINE_NODES + 1 : 2;
		cfg.node[0].physical = i == 0 ? 1000 : i == 1 ? -2 : -1;
		cfg.node[1].physical = i == 3 ? 63 : -1;
		msg[0] = 0;
		if (i == 3 && sys_node_online(63))
			continue;
		assert_int_equal(machine_host_create(&cfg, &m, msg, sizeof(msg)), -EINVAL);
		assert_true(strlen(msg) > 10);
	}
	cfg.node[1].physical = -1;
	cfg.no_move = true;
	assert_int_equal(machine_host_create(&cfg, &m, msg, sizeof(msg)), 0);
	assert_false(machine_has(m, CAP_PARK));
	assert_null(m->ops->frames_park);
	assert_null(m->ops->frames_to_node);
	assert_int_equal(m->nr_nodes, 2);
	m->ops->destroy(m);
	/* No room for the shadow: no space, and nothing is left of it. */
	for (u64 nth = 1;; nth++) {
		int err;

		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
		err = fake.m->ops->space_create(fake.m, NULL, NULL, &s, &u);
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		if (!err && range_size(u) == 16ull << 30)
			break;
		if (!err) /* a smaller one was possible */
			fake.m->ops->space_destroy(fake.m, s);
		assert_true(nth < 50);
	}
	fake.m->ops->space_destroy(fake.m, s);
}

/* ---- parking ---- */
static void test_park(void **state)
{
	(void)state;
	fill(0, 100, true);
	assert_int_equal(park(10, 80), 0);
	assert_resident(100);
	assert_window(0, 100);
	assert_int_equal(state_of(fake.s, 10), STATE_ABSENT);
	/* Again, with neighbours that are at home. */
	assert_int_equal(park(0, 100), 0);
	assert_resident(100);
	assert_window(0, 100);
	assert_int_equal(*fake_word(50), pattern(50)); /* a load brings it, read-only */
	assert_int_equal(a32_read(&fake.faults), 1);
	assert_int_equal(state_of(fake.s, 50), STATE_PROTECTED);
	*fake_word(50) = pattern(50);
	assert_int_equal(a32_read(&fake.write_faults), 1);
	*fake_word(51) = pattern(51); /* a store brings it for writing */
	assert_int_equal(a32_read(&fake.faults), 3);
	assert_int_equal(fake_install(0, 50, true, NULL, false, false), 0);
	assert_int_equal(fake_install(52, 48, false, NULL, false, true), 0);
	assert_bytes(0, 100);
	assert_int_equal(a32_read(&fake.faults), 3);
	*fake_word(49) = 1;
	*fake_word(99) = 1;
	assert_int_equal(a32_read(&fake.faults), 4);
	assert_resident(100);
	assert_int_equal(counters().strays, 0);
	assert_int_equal(a64_read(&fake.s->nr_parked), 0);
}

static void test_mixed(void **state)
{
	u64 e[64];

	(void)state;
	fill(0, 64, false); /* protected at home: the mark does not travel */
	assert_int_equal(park(0, 32), 0);
	assert_int_equal(to_node(32, 32, 1), 0);
	for (u32 i = 0; i < 64; i++)
		e[i] = i % 5 == 4 ? FAKE_LEAVING : fake_mk(i, i % 2);
	assert_int_equal(fake.m->ops->entries_changed(fake.m, fake.s, fake_va(0), e, 64, 0, NULL,
						      false, false),
			 0);
	for (u32 i = 0; i < 64; i++) {
		bool parked = i % 5 == 4;

		assert_int_equal(!!park_of(fake.s, i), parked);
		assert_int_equal(state_of(fake.s, i), parked ? STATE_ABSENT :
						      i % 2  ? STATE_WRITABLE :
							       STATE_PROTECTED);
		a64_set(&fake.entry[i], e[i]);
	}
	assert_bytes(0, 64);
	assert_resident(64);
}

/* What ends them: new bytes, a release, a flush that lets no access through; not one that lets no
 * store through. */
static void test_ends(void **state)
{
	char *buf = fake.m->ops->fill_begin(fake.m, fake_va(0) >> PAGE_SHIFT, 10);

	(void)state;
	memset(buf, 0x11, 10 * PAGE_SIZE);
	for (int node = 0; node < 2; node++) {
		fill(0, 60, true);
		if (node)
			assert_int_equal(to_node(0, 60, 1), 0);
		else
			assert_int_equal(park(0, 60), 0);
		fake_flush(0, 60, FLUSH_NO_STORE);
		assert_window(0, 60);
		assert_int_equal(fake_install(0, 10, false, buf, false, false), 0);
		assert_int_equal(*fake_word(9), 0x1111111111111111ull);
		assert_int_equal(fake_install(10, 10, true, NULL, true, false), 0);
		assert_int_equal(*fake_word(19), 0);
		assert_resident(60);
		machine_release(fake.m, fake_va(20) >> PAGE_SHIFT, 10);
		assert_resident(50);
		for (u64 p = 30; p < 40; p++)
			a64_set(&fake.entry[p], 0);
		fake_flush(30, 10, FLUSH_NO_ACCESS);
		assert_resident(40);
		assert_window(40, 20);
		assert_bytes(40, 20);
		for (u64 p = 0; p < 60; p++)
			a64_set(&fake.entry[p], 0);
		fake.m->ops->area_unmap(fake.m, fake.s, (struct range){ fake_va(0), fake_va(60) },
					PROT_RW);
		assert_resident(0);
		assert_int_equal(slots_in_use(), 0);
	}
	fake.m->ops->fill_end(fake.m, fake_va(0) >> PAGE_SHIFT, 10, buf);
}

/* ---- between nodes ---- */
static void test_to_node(void **state)
{
	static const u32 sizes[] = { 1, 16, 64, 300, 512 };
	u64 warm;

	(void)state;
	fill(0, 1024, true);
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++)
		for (int round = 0; round < 4; round++) {
			u32 nr = sizes[i];

			if (round == 2) /* from where they are parked */
				assert_int_equal(park(17, nr), 0);
			assert_int_equal(to_node(17, nr, !(round & 1)), 0);
			assert_window(0, 1024);
			if (round == 1) /* and from the pool */
				continue;
			a32_set(&fake.faults, 0);
			assert_int_equal(fake_install(17, nr, round != 3, NULL, false, false), 0);
			assert_int_equal(a32_read(&fake.faults), 0);
			assert_bytes(0, 1024);
			for (u64 p = 17; p < 17 + nr; p++)
				*fake_word(p) = pattern(p);
			assert_resident(1024);
			assert_int_equal(slots_in_use(), 0);
		}
	/* Back and forth: no more pages than the first time. */
	warm = counters().pool_pages;
	assert_true(warm > 0);
	for (int round = 0; round < 20; round++) {
		assert_int_equal(to_node(200, 400, round & 1), 0);
		assert_int_equal(fake_install(200, 312, true, NULL, false, false), 0);
		assert_int_equal(fake_install(512, 88, true, NULL, false, false), 0);
	}
	assert_true(counters().pool_pages <= max(warm, 800ull));
	assert_bytes(0, 1024);
	assert_resident(1024);
}

static void test_pools_are_bounded(void **state)
{
	(void)state;
	fill(0, FAKE_PAGES, true);
	for (unsigned node = 1; node < 4; node++) {
		for (u64 p = 0; p < FAKE_PAGES; p += ALL) {
			assert_int_equal(to_node(p, ALL, node & 1), 0);
			assert_int_equal(fake_install(p, ALL, true, NULL, false, false), 0);
		}
		assert_true(counters().pool_pages <= 2 * POOL_PAGES);
	}
	assert_int_equal(host()->pool[0].nr_full, POOL_PAGES);
	assert_bytes(0, FAKE_PAGES);
	assert_resident(FAKE_PAGES);
	assert_int_equal(slots_in_use(), 0);
}

/* More than a pool may hold stays parked: in the shadow. */
static void test_crowded(void **state)
{
	u64 first = 8192, nr = POOL_RESTING + 4 * ALL;
	u64 e[ALL];

	(void)state;
	for (u64 p = first; p < first + nr; p += ALL) {
		for (u32 i = 0; i < ALL; i++)
			e[i] = fake_mk(p + i, true);
		assert_int_equal(fake.m->ops->entries_changed(fake.m, fake.s, fake_va(p), e, ALL, 0,
							      NULL, true, false),
				 0);
		for (u32 i = 0; i < ALL; i++)
			fake_word(p + i)[0] = fake_word(p + i)[511] = pattern(p + i);
		assert_int_equal(
			fake.m->ops->frames_to_node(fake.m, fake_va(p) >> PAGE_SHIFT, ALL, 0, 1),
			0);
	}
	assert_true(slots_in_use() <= POOL_RESTING);
	assert_int_equal(park_of(fake.s, first + nr - 1), PARK_SHADOW);
	assert_resident(nr);
	assert_window(first, (u32)nr);
	machine_release(fake.m, fake_va(first) >> PAGE_SHIFT, (u32)nr);
	assert_resident(0);
	assert_int_equal(slots_in_use(), 0);
}

/* Where the kernel does not copy for us, pages that are left behind are of no use. */
static void test_without_copies_by_the_kernel(void **state)
{
	(void)state;
	host()->has_vm_copy = false;
	fill(0, 100, true);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(to_node(0, 100, !(round & 1)), 0);
		assert_window(0, 100);
		assert_int_equal(fake_install(0, 50, true, NULL, false, false), 0);
		assert_int_equal(fake_install(50, 50, round, NULL, false, false), 0);
		assert_bytes(0, 100);
	}
	assert_int_equal(counters().pool_pages, 0);
	assert_resident(100);
}

/* ---- failures ---- */
static void restore(u32 nr)
{
	assert_int_equal(fake_install(0, nr, true, NULL, false, false), 0);
	assert_bytes(0, nr);
	assert_resident(nr);
	assert_int_equal(slots_in_use(), 0);
}

/* On every failure the bytes are where they can be reached, and nothing is lost to the pools. */
static void test_failures(void **state)
{
	u64 e[100];

	(void)state;
	fill(0, 100, true);
	for (int what = 0; what < 4; what++) {
		bool done = false;

		for (u64 nth = 1; !done; nth++) {
			int err;

			fill(0, 100, true);
			assert_int_equal(fake_install(20, 10, false, NULL, false, false), 0);
			if (what == 2) /* in the shadow, and in slots */
				assert_int_equal(park(0, 60) | to_node(60, 40, 1), 0);
			unmap(0, 100);
			for (u32 i = 0; i < 100; i++)
				e[i] = fake_mk(i, i % 10 > 2);
			inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
			if (what == 0)
				err = park(0, 100);
			else if (what == 1 || what == 3)
				err = to_node(0, 100, what == 1);
			else
				err = fake.m->ops->entries_changed(fake.m, fake.s, fake_va(0), e,
								   100, 0, NULL, false, false);
			inject_off(&fake.inject, INJECT_MACHINE_CALL);
			done = !err;
			if (err)
				assert_int_equal(err, -ENOMEM);
			if (err && what == 2) /* nothing is installed */
				for (u64 p = 0; p < 100; p++)
					assert_int_equal(state_of(fake.s, p), STATE_ABSENT);
			assert_window(0, 100);
			restore(100);
			assert_true(nth < 500);
		}
	}
}

static int move(u64 from, u64 to, u32 nr)
{
	return fake.m->ops->frames_move(fake.m, fake_va(to) >> PAGE_SHIFT,
					fake_va(from) >> PAGE_SHIFT, nr);
}

static void prepare_move(void)
{
	fill(0, 90, true);
	assert_int_equal(park(0, 30) | to_node(30, 30, 1), 0);
	assert_int_equal(fake_install(60, 5, false, NULL, false, false), 0);
	unmap(60, 30);
}

/* mremap: parked pages travel. */
static void test_travel(void **state)
{
	(void)state;
	for (u64 nth = 1;; nth++) {
		int err;

		prepare_move();
		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
		err = move(0, 1000, 90);
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_window(0, 90);
		restore(90);
		assert_true(nth < 100);
	}
	assert_resident(90);
	for (u64 p = 1000; p < 1060; p++)
		assert_true(park_of(fake.s, p));
	assert_int_equal(fake_install(1000, 24, true, NULL, false, false), 0);
	assert_int_equal(fake_install(1024, 66, true, NULL, false, false), 0);
	for (u64 p = 0; p < 90; p++)
		assert_int_equal(fake_word(1000 + p)[511], pattern(p));
	assert_int_equal(a64_read(&fake.s->nr_parked), 0);
	assert_int_equal(slots_in_use(), 0);
	assert_resident(90);
}

/* ---- areas ---- */
static int protect(u64 page, u32 nr, unsigned from, unsigned to)
{
	return fake.m->ops->area_protect(
		fake.m, fake.s, (struct range){ fake_va(page), fake_va(page + nr) }, from, to);
}

static void test_areas(void **state)
{
	(void)state;
	fill(0, 90, false);
	/* Parked, and then nobody may look: the core still may. */
	assert_int_equal(park(0, 20) | to_node(20, 10, 1), 0);
	assert_int_equal(protect(0, 30, PROT_RW, 0), 0);
	assert_window(0, 30);
	assert_int_equal(to_node(0, 30, 1), 0);
	assert_window(0, 30);
	assert_int_equal(protect(0, 30, 0, PROT_RW), 0);
	/* An area that cannot be written: the kernel copies instead of moving. */
	assert_int_equal(protect(30, 30, PROT_RW, PROT_BITS_READ), 0);
	assert_int_equal(counters().move_copies, 0);
	assert_int_equal(park(30, 20), 0);
	assert_true(counters().move_copies >= 20);
	assert_int_equal(to_node(40, 20, 1), 0);
	assert_window(0, 60);
	assert_int_equal(fake_install(30, 30, false, NULL, false, false), 0);
	assert_bytes(30, 30);
	/* Nor can one be read that nobody may: the pages stay. */
	unmap(60, 30);
	assert_int_equal(protect(60, 30, PROT_RW, 0), 0);
	assert_int_equal(park(60, 30), -ENOMEM);
	assert_int_equal(to_node(60, 30, 1), -ENOMEM);
	assert_int_equal(protect(60, 30, 0, PROT_RW), 0);
	assert_bytes(0, 90);
	assert_resident(90);
	assert_int_equal(slots_in_use(), 0);
	/* Somebody else's mapping over parked pages. */
	assert_int_equal(park(0, 30), 0);
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s,
					       (struct range){ fake_va(0), fake_va(30) },
					       PROT_BITS_FOREIGN, 0),
			 0);
	assert_resident(60);
	fake.m->ops->area_unmap(fake.m, fake.s, (struct range){ fake_va(0), fake_va(30) },
				PROT_BITS_FOREIGN);
	for (u64 p = 0; p < 30; p++)
		a64_set(&fake.entry[p], 0);
	assert_int_equal(*fake_word(5), 0);
}

/* A page that is dropped while the core reads it reads as zeroes, whatever comes next. */
static void test_read_while_dropped(void **state)
{
	u64 *shadow, *slot;

	(void)state;
	fill(0, 8, true);
	fill(512, 512, true);
	assert_int_equal(park(0, 4) | to_node(4, 4, 1), 0);
	fake.m->ops->read_begin(fake.m);
	shadow = fake.m->ops->frame_window(fake.m, fake_va(1) >> PAGE_SHIFT);
	slot = fake.m->ops->frame_window(fake.m, fake_va(5) >> PAGE_SHIFT);
	assert_int_equal(*shadow, pattern(1));
	assert_int_equal(*slot, pattern(5));
	machine_release(fake.m, fake_va(0) >> PAGE_SHIFT, 8);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(to_node(512, 512, !(round & 1)), 0);
		assert_int_equal(*shadow, 0);
		assert_int_equal(*slot, 0);
		assert_window(512, 512);
	}
	fake.m->ops->read_end(fake.m);
	assert_int_equal(host()->pool[1].nr_stale, 4);
	fill(0, 8, true);
	assert_int_equal(park(0, 8), 0); /* over the page of zeroes that the read left */
	assert_window(0, 8);
	for (unsigned round = 0; round < 4; round++) {
		assert_int_equal(to_node(0, 8, round & 1), 0);
		assert_window(0, 8);
	}
	assert_int_equal(fake_install(0, 8, true, NULL, false, false), 0);
	assert_int_equal(fake_install(512, 512, true, NULL, false, false), 0);
	assert_bytes(0, 8);
	assert_bytes(512, 512);
	assert_resident(520);
	assert_int_equal(slots_in_use(), 0);
}

static void test_spaces(void **state)
{
	struct mspace *s;
	struct range u;
	u64 e[64];

	(void)state;
	fill(0, 64, true);
	assert_int_equal(fake.m->ops->space_create(fake.m, NULL, NULL, &s, &u), 0);
	for (u32 i = 0; i < 64; i++)
		e[i] = (u.start + i * PAGE_SIZE) | ENTRY_PRESENT | ENTRY_WRITE | ENTRY_DIRTY;
	assert_int_equal(
		fake.m->ops->entries_changed(fake.m, s, u.start, e, 64, 0, NULL, true, false), 0);
	assert_int_equal(to_node(0, 64, 1), 0);
	assert_int_equal(fake.m->ops->frames_to_node(fake.m, u.start >> PAGE_SHIFT, 32, 0, 1), 0);
	assert_int_equal(fake.m->ops->frames_park(fake.m, (u.start >> PAGE_SHIFT) + 32, 32), 0);
	assert_resident(128);
	/* From one space to the other. */
	assert_int_equal(fake.m->ops->frames_move(fake.m, u.start >> PAGE_SHIFT,
						  fake_va(0) >> PAGE_SHIFT, 16),
			 0);
	assert_int_equal(fake.m->ops->frames_move(fake.m, fake_va(0) >> PAGE_SHIFT,
						  u.start >> PAGE_SHIFT, 16),
			 0);
	assert_resident(112);
	fake.m->ops->space_destroy(fake.m, s);
	assert_resident(64);
	assert_int_equal(slots_in_use(), 64);
	restore(64);
}

/* ---- fork ---- */
static int child(void)
{
	if (host_forked_child(fake.m))
		return 1;
	if (a64_read(&fake.s->nr_parked) != 90 || counters().pool_pages)
		return 2;
	for (u64 p = 0; p < 90; p++) {
		u64 *at = fake.m->ops->frame_window(fake.m, fake_va(p) >> PAGE_SHIFT);

		if (at[0] != pattern(p))
			return 3;
	}
	if (fake_install(0, 60, true, NULL, false, false)) /* shared: copied */
		return 4;
	for (u64 p = 0; p < 90; p++) {
		if (fake_word(p)[511] != pattern(p))
			return 5;
		*fake_word(p) = 1;
	}
	if (a32_read(&fake.faults) != 60) /* the rest, by a load and a store each */
		return 6;
	if (park(0, 90) || to_node(0, 90, 1) || to_node(90, 10, 1))
		return 7;
	if (fake_install(0, 100, true, NULL, false, false))
		return 8;
	for (u64 p = 0; p < 90; p++)
		if (*fake_word(p) != 1 || fake_word(p)[511] != pattern(p))
			return 9;
	if (*fake_word(95) != pattern(95) || slots_in_use() || a64_read(&fake.s->nr_parked))
		return 10;
	return host_populated_pages(fake.m) == 100 && host_resident_pages(fake.m) == 100 ? 0 : 11;
}

static void test_fork(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	fill(0, 100, true);
	assert_int_equal(to_node(0, 60, 1), 0);
	assert_int_equal(park(60, 30), 0);
	pid = fork();
	if (!pid)
		_exit(child());
	/* Meanwhile the parent's are shared, too. */
	assert_int_equal(to_node(40, 60, 1), 0);
	assert_window(0, 100);
	restore(100);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(park(0, 50) | to_node(50, 50, 1), 0);
	restore(100);
}

/* At home and shared after a fork: the kernel refuses to move. */
static void test_park_after_fork(void **state)
{
	int pipes[2], status;
	char c = 0;
	pid_t pid;

	(void)state;
	fill(0, 64, true);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (!pid) {
		close(pipes[1]);
		_exit(read(pipes[0], &c, 1) != 0);
	}
	*fake_word(3) = pattern(3); /* this one is the parent's own again */
	assert_int_equal(park(0, 64), 0);
	assert_true(counters().move_copies >= 60);
	assert_window(0, 64);
	restore(64);
	close(pipes[1]);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

/* ---- nodes that exist ---- */
static long faked_node = -1;

static long faked_syscall(long nr, ...)
{
	va_list ap;
	long a[6], err;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	err = native_syscall_direct(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	for (long i = 0; nr == SYS_move_pages && faked_node >= 0 && i < a[1]; i++)
		((int *)a[4])[i] = (int)faked_node;
	return err;
}

static void test_physical(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30,
				   .overflow_bytes = 1ull << 30,
				   .syscall = faked_syscall,
				   .nr_nodes = 2,
				   .node = { { 1ull << 30, 0 }, { 1ull << 30, 0 } } };
	u64 mask[16] = { 1 }, none[16] = { 0 };
	int mode = -1;

	fake_teardown(state);
	fake_setup_with(&cfg);
	assert_non_null(fake.m->ops->prefer_node);
	if (machine_has(fake.m, CAP_PLAIN))
		for (u32 i = 0; i < 2; i++) {
			void *buf;

			inject_at(&fake.inject, INJECT_MACHINE_CALL, i ? 1000 : 3);
			buf = fake.m->ops->fill_begin(fake.m, fake.m->node_span[i].pfn, 1);
			inject_off(&fake.inject, INJECT_MACHINE_CALL);
			if (!buf)
				continue;
			assert_int_equal(
				fake.m->ops->fill_end(fake.m, fake.m->node_span[i].pfn, 1, buf), 0);
			machine_release(fake.m, fake.m->node_span[i].pfn, 1);
		}
	/* The program's own policy comes back. */
	assert_int_equal(syscall(SYS_set_mempolicy, 3, mask, 1025l), 0); /* interleave */
	fake.m->ops->prefer_node(fake.m, 1);
	fake.m->ops->prefer_node(fake.m, 1);
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, none, 1024l, 0l, 0l), 0);
	assert_int_equal(mode, 1);
	fake.m->ops->read_begin(fake.m); /* the bracket's and the policy's bits live together */
	fake.m->ops->read_end(fake.m);
	fill(0, 64, true);
	assert_int_equal(to_node(0, 64, 1), 0);
	restore(64);
	assert_int_equal(park(0, 64), 0);
	assert_int_equal(fake_install(0, 64, false, NULL, false, false), 0);
	assert_bytes(0, 64);
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, none, 1024l, 0l, 0l), 0);
	assert_int_equal(mode, 1);
	fake.m->ops->prefer_node(fake.m, 0);
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, none, 1024l, 0l, 0l), 0);
	assert_int_equal(mode, 3);
	assert_int_equal(none[0], 1);
	assert_int_equal(syscall(SYS_set_mempolicy, 0, NULL, 0l), 0);
	/* Pages of another node are not kept as this one's, and new ones are not taken for it. */
	for (u32 i = 0; i < 2; i++)
		host_discard(slot_va(host(), i * POOL_SLOTS), POOL_SLOTS * PAGE_SIZE);
	faked_node = 5;
	for (unsigned round = 0; round < 3; round++) {
		int err = to_node(0, 64, round & 1);

		assert_true(!err || err == -ENOMEM);
		assert_window(0, 64);
		restore(64);
	}
	faked_node = -1;
	assert_int_equal(to_node(0, 64, 1), 0);
	restore(64);
	native_syscall = native_syscall_direct;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NODES_TEST(test_spans),
		NODES_TEST(test_refused),
		NODES_TEST(test_park),
		NODES_TEST(test_mixed),
		NODES_TEST(test_ends),
		NODES_TEST(test_to_node),
		NODES_TEST(test_pools_are_bounded),
		NODES_TEST(test_crowded),
		NODES_TEST(test_without_copies_by_the_kernel),
		NODES_TEST(test_failures),
		NODES_TEST(test_travel),
		NODES_TEST(test_areas),
		NODES_TEST(test_read_while_dropped),
		NODES_TEST(test_spaces),
		NODES_TEST(test_fork),
		NODES_TEST(test_park_after_fork),
		NODES_TEST(test_physical),
	};

	return cmocka_run_group_tests_name("host nodes", tests, NULL, NULL);
}
