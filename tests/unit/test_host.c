/* The host machine on real memory: filling, protecting, dropping, moving, and what disturbs them.
 */
#include "host_fake.h"

#include <sys/wait.h>

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

/* How a child ends that does this. */
static int status_of(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn());
	waitpid(pid, &status, 0);
	return status;
}

static void test_first_touch(void **state)
{
	(void)state;
	assert_true(host_owns(fake.m, fake.u.start, 1));
	assert_true(host_owns(fake.m, fake.u.start - 5, 6));
	assert_false(host_owns(fake.m, fake.u.start - REGION_GRANULE, 1));
	assert_false(host_owns(fake.m, fake.u.end + REGION_GRANULE, 1));
	assert_resident(0);
	assert_int_equal(*fake_word(3), 0); /* a load: read-only, clean */
	assert_int_equal(a32_read(&fake.faults), 1);
	*fake_word(3) = 7; /* the first store traps though the page is there */
	assert_int_equal(a32_read(&fake.write_faults), 1);
	*fake_word(3) = 8;
	*fake_word(4) = 9;
	assert_int_equal(a32_read(&fake.faults), 3);
	assert_int_equal(*fake_word(3) + *fake_word(4), 17);
	assert_resident(2);
	assert_int_equal(a32_read(&fake.spurious), 0);
}

static void test_fill(void **state)
{
	u64 pfn = fake_va(500) >> PAGE_SHIFT;
	char *buf = fake.m->ops->fill_begin(fake.m, pfn, 40);

	(void)state;
	for (int i = 0; i < 40; i++)
		memset(buf + i * PAGE_SIZE, i + 1, PAGE_SIZE);
	assert_int_equal(fake_install(500, 40, false, buf, false, false),
			 0); /* over two tables' words */
	for (int i = 0; i < 40; i++)
		assert_int_equal(*fake_word(500 + i), 0x0101010101010101ull * (i + 1));
	assert_int_equal(a32_read(&fake.faults), 0);
	/* New bytes replace older ones. */
	memset(buf, 0x77, PAGE_SIZE);
	assert_int_equal(fake_install(510, 1, true, buf, false, false), 0);
	assert_int_equal(*fake_word(510), 0x7777777777777777ull);
	*fake_word(510) = 1;
	assert_int_equal(a32_read(&fake.faults), 0);
	fake.m->ops->fill_end(fake.m, pfn, 40, buf);
	assert_resident(40);
}

static void test_mixed_entries(void **state)
{
	u64 e[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		e[i] = fake_mk(i, i & 1);
	e[2] = FAKE_OUT; /* not the machine's business */
	e[4] = fake_va(4) | ENTRY_PROTNONE;
	assert_int_equal(fake.m->ops->entries_changed(fake.m, fake.s, fake_va(0), e, 6, 0, NULL,
						      true, false),
			 0);
	assert_resident(4);
	assert_int_equal(state_of(fake.s, 0), STATE_PROTECTED);
	assert_int_equal(state_of(fake.s, 1), STATE_WRITABLE);
	assert_int_equal(state_of(fake.s, 2), STATE_ABSENT);
	assert_int_equal(state_of(fake.s, 5), STATE_WRITABLE);
}

static void test_no_store(void **state)
{
	(void)state;
	assert_int_equal(fake_install(0, 100, true, NULL, true, false), 0);
	machine_release(fake.m, fake_va(50) >> PAGE_SHIFT, 10); /* a hole inside */
	for (int i = 50; i < 60; i++)
		a64_set(&fake.entry[i], 0);
	for (int i = 0; i < 50; i++)
		*fake_word(i) = i;
	for (int i = 0; i < 100; i++)
		a64_set(&fake.entry[i], a64_read(&fake.entry[i]) & ~(ENTRY_WRITE | ENTRY_DIRTY));
	for (int i = 50; i < 60; i++)
		a64_set(&fake.entry[i], 0);
	fake_flush(0, 90, FLUSH_NO_STORE);
	assert_int_equal(state_of(fake.s, 49), STATE_PROTECTED);
	assert_int_equal(state_of(fake.s, 55), STATE_ABSENT);
	assert_int_equal(state_of(fake.s, 89), STATE_PROTECTED);
	assert_int_equal(state_of(fake.s, 90), STATE_WRITABLE);
	for (int i = 0; i < 50; i++)
		assert_int_equal(*fake_word(i), i); /* loads go on */
	assert_int_equal(a32_read(&fake.faults), 0);
	*fake_word(20) = 5;
	assert_int_equal(a32_read(&fake.write_faults), 1);
	*fake_word(95) = 5; /* outside the range */
	assert_int_equal(a32_read(&fake.faults), 1);
	assert_resident(90);
	/* Many at once are made writable with one call; what is right already is left alone. */
	assert_int_equal(fake_install(0, 50, true, NULL, false, false), 0);
	for (int i = 0; i < 50; i++)
		*fake_word(i) = i;
	assert_int_equal(a32_read(&fake.faults), 1);
}

static void test_no_access_and_release(void **state)
{
	(void)state;
	assert_int_equal(fake_install(0, 512, true, NULL, true, false), 0);
	for (int i = 0; i < 512; i++)
		*fake_word(i) = 1;
	for (int i = 100; i < 200; i++)
		a64_set(&fake.entry[i], 0);
	fake_flush(100, 100, FLUSH_NO_ACCESS);
	assert_resident(412);
	assert_int_equal(*fake_word(99) + *fake_word(200), 2);
	assert_int_equal(*fake_word(150), 0); /* new memory */
	assert_int_equal(a32_read(&fake.faults), 1);
	machine_release(fake.m, fake_va(0) >> PAGE_SHIFT, 512);
	assert_resident(0);
	/* Everything at once. */
	assert_int_equal(fake_install(1000, 200, true, NULL, true, false), 0);
	{
		struct tlb_range all = { .start = 0, .end = ~0ull, .strength = FLUSH_NO_ACCESS };

		fake.m->ops->tlb_flush(fake.m, fake.s, &all);
	}
	assert_resident(0);
}

/* Several spans in one release, with what the kernel can do and without. */
static void release_many(void)
{
	struct frame_span span[40];
	u32 n = 0;

	assert_int_equal(fake_install(0, 512, true, NULL, true, false), 0);
	for (u32 i = 0; i < 512; i++)
		*fake_word(i) = i;
	for (u32 i = 0; i < 400; i += 10) {
		span[n++] = (struct frame_span){ fake_va(i) >> PAGE_SHIFT, 1 + i % 7 };
		for (u32 k = 0; k < 1 + i % 7; k++)
			a64_set(&fake.entry[i + k], 0);
	}
	fake.m->ops->frames_release(fake.m, span, n);
	for (u32 i = 0; i < 512; i++)
		assert_int_equal(*fake_word(i), i < 400 && i % 10 < 1 + i / 10 * 10 % 7 ? 0 : i);
	machine_release(fake.m, fake_va(0) >> PAGE_SHIFT, 512);
	assert_resident(0);
}

static void test_release_many(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30, .no_vector = true };

	(void)state;
	release_many();
	fake_teardown(NULL);
	fake_setup_with(&cfg);
	assert_false(host_of(fake.m)->has_vector);
	release_many();
}

/* How many of the pages [first, first + n) the kernel has, whatever our states say. */
static unsigned kernel_has(u64 first, unsigned n)
{
	unsigned char there[64];
	unsigned found = 0;

	assert_int_equal(mincore((void *)(uintptr_t)fake_va(first), n * PAGE_SIZE, there), 0);
	for (unsigned i = 0; i < n; i++)
		found += there[i] & 1;
	return found;
}

/*
 * Another thread is in the middle of dropping pages: their states say ABSENT already, the kernel
 * has them still. Whoever flushes or takes the area away must not return with them readable.
 */
static void test_no_access_beside_a_drop(void **state)
{
	(void)state;
	assert_int_equal(fake_install(0, 64, true, NULL, true, false), 0);
	for (int i = 0; i < 64; i++)
		a64_set(&fake.entry[i], 0);
	/* The other thread's first half; foreign memory beside it must live. */
	a32_fetch_add(&fake.s->dropping[page_of(fake.s, fake_va(0)) / PTRS_PER_TABLE % DROP_BLOCKS],
		      1);
	state_set(fake.s, 0, 64, STATE_ABSENT);
	state_set(fake.s, 20, 30, STATE_BUSY);
	assert_int_equal(kernel_has(0, 64), 64);
	fake_flush(8, 40, FLUSH_NO_ACCESS);
	assert_int_equal(kernel_has(0, 64), 64 - 40 + 10);
	fake.m->ops->area_unmap(fake.m, fake.s, (struct range){ fake_va(0), fake_va(64) }, PROT_RW);
	assert_int_equal(kernel_has(0, 64), 10);
	a32_fetch_add(&fake.s->dropping[page_of(fake.s, fake_va(0)) / PTRS_PER_TABLE % DROP_BLOCKS],
		      (u32)-1);
	state_set(fake.s, 20, 30, STATE_WRITABLE);
	machine_release(fake.m, fake_va(20) >> PAGE_SHIFT, 10);
	assert_resident(0);
}

/* Filling works whatever the mapping's protection is, and the protection is real. */
static void test_fill_under_protection(void **state)
{
	struct range r = { fake_va(64), fake_va(128) };
	struct machine_ops const *ops = fake.m->ops;

	(void)state;
	assert_int_equal(ops->area_map(fake.m, fake.s, r, 0, 0), 0);
	assert_int_equal(fake_install(64, 32, true, NULL, true, false), 0);
	assert_int_equal(ops->area_protect(fake.m, fake.s, r, 0, PROT_BITS_READ), 0);
	assert_int_equal(fake_install(96, 32, true, NULL, true, false), 0);
	for (int i = 64; i < 128; i++)
		assert_int_equal(*fake_word(i), 0);
	fake_flush(64, 64, FLUSH_NO_STORE);
	for (int i = 64; i < 128; i++)
		a64_set(&fake.entry[i], fake_mk(i, false));
	assert_int_equal(ops->area_protect(fake.m, fake.s, r, PROT_BITS_READ, PROT_RW), 0);
	for (int i = 64; i < 128; i++)
		*fake_word(i) = i;
	assert_int_equal(a32_read(&fake.write_faults), 64); /* the protection survived mprotect */
	assert_int_equal(fake_install(64, 64, true, NULL, false, false), 0);
	/* Over a boundary of host mappings. */
	assert_int_equal(ops->area_protect(fake.m, fake.s,
					   (struct range){ fake_va(80), fake_va(90) }, PROT_RW,
					   PROT_BITS_READ),
			 0);
	fake_flush(64, 64, FLUSH_NO_STORE);
	assert_int_equal(fake_install(64, 64, false, NULL, true, false), 0);
	for (int i = 64; i < 128; i++)
		assert_int_equal(*fake_word(i), 0);
	assert_true(counters().boundaries > 0);
	assert_int_equal(counters().mappings, 3);
	machine_release(fake.m, fake_va(64) >> PAGE_SHIFT, 64);
	ops->area_unmap(fake.m, fake.s, r, PROT_RW);
	assert_int_equal(counters().mappings, 1);
	assert_resident(0);
}

static int read_protected(void)
{
	signal(SIGSEGV, SIG_DFL);
	return (int)*fake_word(0);
}

static int write_protected(void)
{
	signal(SIGSEGV, SIG_DFL);
	*fake_word(0) = 1;
	return 0;
}

static void test_protection_is_native(void **state)
{
	struct range r = { fake_va(0), fake_va(16) };

	(void)state;
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s, r, PROT_BITS_READ, 0), 0);
	assert_int_equal(fake_install(0, 16, true, NULL, true, false), 0);
	assert_true(WIFEXITED(status_of(read_protected)));
	assert_int_equal(WTERMSIG(status_of(write_protected)), SIGSEGV);
	assert_int_equal(fake.m->ops->area_protect(fake.m, fake.s, r, PROT_BITS_READ, 0), 0);
	assert_int_equal(WTERMSIG(status_of(read_protected)), SIGSEGV);
	fake.m->ops->area_unmap(fake.m, fake.s, r, 0);
	assert_resident(0);
	for (int i = 0; i < 16; i++)
		a64_set(&fake.entry[i], 0);
	*fake_word(0) = 3;
}

static void test_foreign(void **state)
{
	struct range r = { fake_va(100), fake_va(110) };
	char *p = (char *)(uintptr_t)r.start;

	(void)state;
	assert_int_equal(fake_install(90, 40, true, NULL, true, false), 0);
	machine_release(fake.m, r.start >> PAGE_SHIFT, 10);
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s, r, PROT_BITS_FOREIGN, 0), 0);
	assert_ptr_equal(mmap(p, range_size(r), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
	memset(p, 0x55, range_size(r));
	/* Neither a flush nor a release around it may touch it. */
	for (int i = 90; i < 130; i++)
		a64_set(&fake.entry[i], 0);
	fake_flush(90, 40, FLUSH_NO_STORE);
	assert_int_equal(p[5], 0x55);
	p[5] = 0x56;
	machine_release(fake.m, fake_va(90) >> PAGE_SHIFT, 40);
	assert_int_equal(p[5], 0x56);
	assert_int_equal(p[range_size(r) - 1], 0x55);
	assert_resident(0);
	assert_int_equal(counters().mappings, 3);
	fake.m->ops->area_unmap(fake.m, fake.s, r, PROT_BITS_FOREIGN);
	assert_int_equal(counters().mappings, 1);
	a32_set(&fake.faults, 0);
	assert_int_equal(p[5], 0); /* managed again */
	assert_int_equal(a32_read(&fake.faults), 1);
	assert_resident(1);
}

/* A page is there that the states do not know: what a fork child's first touches leave behind. */
static void test_stray(void **state)
{
	char *buf = fake.m->ops->fill_begin(fake.m, fake_va(7) >> PAGE_SHIFT, 3);

	(void)state;
	assert_int_equal(
		uffd_copy(container_of(fake.m, struct host, m), fake_va(8), buf, PAGE_SIZE, false)
			.err,
		0);
	*fake_word(8) = 0xbad;
	memset(buf, 0x11, 3 * PAGE_SIZE);
	assert_int_equal(fake_install(7, 3, false, buf, false, false), 0);
	fake.m->ops->fill_end(fake.m, fake_va(7) >> PAGE_SHIFT, 3, buf);
	for (int i = 7; i < 10; i++)
		assert_int_equal(*fake_word(i), 0x1111111111111111ull);
	assert_int_equal(counters().strays, 1);
	assert_int_equal(a32_read(&fake.faults), 0);
	*fake_word(8) = 2;
	assert_int_equal(a32_read(&fake.write_faults), 1);
	assert_resident(3);
}

/* The kernel's protection is off though the state says on, and the reverse: force sets both right.
 */
static void test_force(void **state)
{
	struct host *h = container_of(fake.m, struct host, m);

	(void)state;
	assert_int_equal(fake_install(0, 4, true, NULL, true, false), 0);
	assert_int_equal(uffd_protect(h, fake_va(0), 4 * PAGE_SIZE, true), 0);
	*fake_word(1) = 5; /* traps, is spurious, and resolves */
	assert_int_equal(a32_read(&fake.spurious), 1);
	assert_int_equal(fake_install(0, 4, true, NULL, false, true), 0);
	*fake_word(0) = *fake_word(2) = *fake_word(3) = 5;
	assert_int_equal(a32_read(&fake.faults), 1);
	assert_int_equal(fake_install(0, 4, false, NULL, false, true), 0);
	*fake_word(0) = 6;
	assert_int_equal(a32_read(&fake.write_faults), 1);
	assert_int_equal(*fake_word(3), 5);
}

static void fill_pattern(u64 page, u32 nr)
{
	assert_int_equal(fake_install(page, nr, true, NULL, true, false), 0);
	for (u32 i = 0; i < nr; i++)
		*fake_word(page + i) = page * 1000 + i;
}

static void move_pages(u64 src, u64 dst, u32 nr)
{
	assert_int_equal(fake.m->ops->frames_move(fake.m, fake_va(dst) >> PAGE_SHIFT,
						  fake_va(src) >> PAGE_SHIFT, nr),
			 0);
	for (u32 i = 0; i < nr; i++) {
		u64 e = a64_read(&fake.entry[src + i]);

		a64_set(&fake.entry[dst + i], e ? fake_mk(dst + i, e & ENTRY_DIRTY) : 0);
		a64_set(&fake.entry[src + i], 0);
	}
}

static void check_move(void)
{
	fill_pattern(0, 200);
	for (u32 i = 60; i < 70; i++) {
		a64_set(&fake.entry[i], 0);
		machine_release(fake.m, fake_va(i) >> PAGE_SHIFT, 1);
	}
	assert_int_equal(fake_install(100, 20, false, NULL, false, false), 0); /* protected ones */
	move_pages(0, 1000, 200);
	assert_resident(190);
	a32_set(&fake.faults, 0);
	for (u32 i = 0; i < 200; i++)
		if (i < 60 || i >= 70)
			assert_int_equal(*fake_word(1000 + i), i);
	assert_int_equal(a32_read(&fake.faults), 0);
	for (u32 i = 100; i < 120; i++)
		*fake_word(1000 + i) = 1;
	assert_int_equal(a32_read(&fake.faults), 20); /* they came protected */
	*fake_word(1000) = 1;
	assert_int_equal(a32_read(&fake.faults), 20);
	assert_int_equal(*fake_word(5), 0); /* the source is new memory */
	assert_int_equal(a32_read(&fake.faults), 21);
}

static void test_move(void **state)
{
	(void)state;
	check_move();
	assert_int_equal(counters().move_copies, 20);
}

static void test_move_by_copy(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30, .no_move = true };

	fake_teardown(state);
	fake_setup_with(&cfg);
	check_move();
	assert_int_equal(counters().move_copies, 190);
}

/* Shared after a fork: the kernel refuses to move, and the bytes arrive all the same. */
static void test_move_after_fork(void **state)
{
	int pipes[2], status;
	char c = 0;
	pid_t pid;

	(void)state;
	fill_pattern(0, 64);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (!pid) {
		close(pipes[1]);
		_exit(read(pipes[0], &c, 1) != 0);
	}
	*fake_word(3) = 3; /* this one is the parent's own again */
	move_pages(0, 1024, 64);
	for (u32 i = 0; i < 64; i++)
		assert_int_equal(*fake_word(1024 + i), i);
	*fake_word(1024) = 9;
	assert_int_equal(a32_read(&fake.faults), 0);
	close(pipes[1]);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_true(counters().move_copies >= 60);
	assert_resident(64);
}

/* Every refusal leaves the source as it was. */
static void test_move_fails(void **state)
{
	u64 nth;

	(void)state;
	fill_pattern(0, 100);
	assert_int_equal(fake_install(20, 10, false, NULL, false, false), 0);
	assert_int_equal(fake_install(50, 10, false, NULL, false, false), 0);
	for (nth = 1;; nth++) {
		int err;

		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
		err = fake.m->ops->frames_move(fake.m, fake_va(1000) >> PAGE_SHIFT,
					       fake_va(0) >> PAGE_SHIFT, 100);
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_resident(100);
		for (u32 i = 0; i < 100; i++)
			assert_int_equal(*fake_word(i), i);
		a32_set(&fake.faults, 0);
		*fake_word(0) = 0;
		*fake_word(99) = 99;
		assert_int_equal(a32_read(&fake.faults), 0);
		assert_int_equal(state_of(fake.s, 25), STATE_PROTECTED);
	}
	assert_true(nth >= 5);
	for (u32 i = 0; i < 100; i++)
		assert_int_equal(*fake_word(1000 + i), i);
}

static void test_install_fails(void **state)
{
	(void)state;
	fill_pattern(0, 8);
	a64_set(&fake.entry[3],
		FAKE_LEAVING); /* alive without an entry: must survive the failure */
	for (int p = 0; p < 2; p++) {
		u64 e[12];
		u64 nth = p ? 1 : 3;

		for (int i = 0; i < 12; i++)
			e[i] = fake_mk(i, i % 2);
		e[3] = FAKE_LEAVING;
		inject_at(&fake.inject, p ? INJECT_ENTRIES : INJECT_MACHINE_CALL, nth);
		assert_int_equal(fake.m->ops->entries_changed(fake.m, fake.s, fake_va(0), e, 12, 0,
							      NULL, true, false),
				 -ENOMEM);
		inject_off(&fake.inject, INJECT_ENTRIES);
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		assert_int_equal(*fake_word(3), 3);
	}
	for (int i = 0; i < 12; i++)
		assert_true(i == 3 || i >= 2 || state_of(fake.s, i) == STATE_ABSENT);
	assert_int_equal(host_resident_pages(fake.m), (s64)host_populated_pages(fake.m));
}

/* A page goes while the core reads it. */
static void test_core_read(void **state)
{
	(void)state;
	fill_pattern(10, 4);
	fake.m->ops->read_begin(fake.m);
	assert_int_equal(*fake_word(11), 10001);
	for (int i = 10; i < 14; i++)
		a64_set(&fake.entry[i], 0);
	fake_flush(10, 4, FLUSH_NO_ACCESS);
	fake.m->ops->read_begin(fake.m); /* nests */
	assert_int_equal(*fake_word(11), 0);
	fake.m->ops->read_end(fake.m);
	assert_int_equal(*fake_word(12), 0);
	fake.m->ops->read_end(fake.m);
	assert_int_equal(counters().core_reads_fixed, 2);
	assert_int_equal(a32_read(&fake.faults), 0); /* the core's faults were not asked */
	assert_int_equal(state_of(fake.s, 11), STATE_PROTECTED);
	assert_resident(2); /* accounted for, and so it goes with its frame */
	machine_release(fake.m, fake_va(8) >> PAGE_SHIFT, 10);
	assert_resident(0);
	assert_int_equal(*fake_word(12), 0);
	assert_int_equal(a32_read(&fake.faults), 1);
}

static int child_main(void)
{
	int err;

	*fake_word(50) = 5; /* before the take-over: unmanaged, must not confuse anybody later */
	err = host_forked_child(fake.m);
	if (err)
		return 100;
	if (*fake_word(0) != 10 || *fake_word(1) != 11)
		return 101;
	a32_set(&fake.faults, 0);
	*fake_word(0) = 20; /* was protected: traps here, too */
	if (a32_read(&fake.write_faults) != 1)
		return 102;
	*fake_word(1) = 21; /* was writable */
	if (a32_read(&fake.faults) != 1)
		return 103;
	*fake_word(70) = 7; /* first touch */
	if (a32_read(&fake.faults) != 2)
		return 104;
	a64_set(&fake.entry[50], 0);
	if (fake_install(50, 1, true, NULL, true, false) || *fake_word(50) != 0)
		return 105;
	for (int i = 0; i < 3; i++)
		fake_evict(0, 32);
	if (*fake_word(0) != 20 || *fake_word(1) != 21 || *fake_word(10) != 10)
		return 106;
	if (host_resident_pages(fake.m) != (s64)host_populated_pages(fake.m))
		return 107;
	fake_flush(0, 64, FLUSH_NO_ACCESS);
	fake.m->ops->destroy(fake.m);
	return 0;
}

static void test_fork(void **state)
{
	struct range foreign = { fake_va(2000), fake_va(2010) };
	int status;
	pid_t pid;

	(void)state;
	fill_pattern(0, 32);
	*fake_word(0) = 10;
	*fake_word(1) = 11;
	assert_int_equal(fake_install(0, 1, false, NULL, false, false), 0);
	assert_int_equal(fake_install(8, 3, false, NULL, false, false), 0);
	assert_int_equal(fake.m->ops->area_map(fake.m, fake.s, foreign, PROT_BITS_FOREIGN, 0), 0);
	assert_ptr_not_equal(mmap((void *)(uintptr_t)foreign.start, range_size(foreign), PROT_READ,
				  MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			     MAP_FAILED);
	pid = fork();
	if (!pid)
		_exit(child_main());
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	a32_set(&fake.faults, 0);
	assert_int_equal(*fake_word(0), 10); /* nothing of it came here */
	assert_int_equal(*fake_word(1), 11);
	*fake_word(0) = 1;
	assert_int_equal(a32_read(&fake.faults), 1);
	fake_evict(0, 32);
	assert_resident(0);
	assert_int_equal(*fake_word(5), 5);
	*fake_word(50) = 1;
	assert_resident(2);
}

static void test_regions(void **state)
{
	struct host_config cfg = { .region_bytes = 3ull << 30 };
	struct mspace *more[3];
	struct range u;
	struct machine *m;
	char msg[100];

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fake.m->ops->space_create(fake.m, NULL, NULL, &more[i], &u), 0);
		assert_true(IS_ALIGNED(u.start, REGION_GRANULE) && !range_overlaps(u, fake.u));
		assert_true(host_owns(fake.m, u.start, 1));
	}
	fake.m->ops->space_destroy(fake.m, more[1]);
	fake.m->ops->space_destroy(fake.m, more[2]);
	assert_false(host_owns(fake.m, u.start, 1));
	*fake_word(0) = 1;
	assert_resident(1);
	assert_int_equal(machine_host_create(&cfg, &m, msg, sizeof(msg)), -EINVAL);
	assert_non_null(strstr(msg, "power of two"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_first_touch),
		FAKE_TEST(test_fill),
		FAKE_TEST(test_mixed_entries),
		FAKE_TEST(test_no_store),
		FAKE_TEST(test_no_access_and_release),
		FAKE_TEST(test_no_access_beside_a_drop),
		FAKE_TEST(test_release_many),
		FAKE_TEST(test_fill_under_protection),
		FAKE_TEST(test_protection_is_native),
		FAKE_TEST(test_foreign),
		FAKE_TEST(test_stray),
		FAKE_TEST(test_force),
		FAKE_TEST(test_move),
		FAKE_TEST(test_move_by_copy),
		FAKE_TEST(test_move_after_fork),
		FAKE_TEST(test_move_fails),
		FAKE_TEST(test_install_fails),
		FAKE_TEST(test_core_read),
		FAKE_TEST(test_fork),
		FAKE_TEST(test_regions),
	};

	return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
