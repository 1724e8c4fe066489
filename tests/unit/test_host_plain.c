/* Plain areas on real memory: frames of a memfd at several addresses, placed away, dropped,
 * released. */
#include "host_plain.h"

#include <sys/resource.h>
#include <sys/wait.h>

/* The kernel's neighbours of the region are none of ours, so both count the same. */
static void assert_mappings(u32 n)
{
	assert_int_equal(plain_counters().mappings, n);
	assert_int_equal(plain_kernel_mappings(), n);
}

static void test_two_addresses(void **state)
{
	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	assert_int_equal(plain_area(1024, 1536, PLAIN_RW, plain_own(0)), 0);
	assert_mappings(4);
	assert_int_equal(plain_set(0, 16, plain_own(0), true, NULL, true, false), 0);
	assert_int_equal(plain_set(1024, 16, plain_own(0), false, NULL, false, false), 0);
	assert_mappings(4);
	*fake_word(3) = 33;
	assert_int_equal(*fake_word(1024 + 3), 33);
	assert_int_equal(*plain_bytes(plain_own(3)), 33);
	assert_int_equal(a32_read(&plain_traps), 0);
	/* Protected at one and writable at the other. */
	assert_int_equal(plain_try_store(1024 + 3, 1), 1);
	assert_int_equal(plain_try_store(3, 34), 0);
	*fake_word(1024 + 4) = 44;
	assert_int_equal(a32_read(&plain_stores), 1);
	assert_int_equal(*fake_word(4), 44);
	assert_int_equal(host_resident_pages(fake.m), 16);
	assert_int_equal(host_populated_pages(fake.m), 0);
}

static void test_first_touch(void **state)
{
	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 2048, PLAIN_RW, plain_own(0)), 0);
	/* Zeroes that are not yet dirty: the first store traps. */
	assert_int_equal(plain_set(512, 512, plain_own(512), false, NULL, true, false), 0);
	for (u64 i = 512; i < 1024; i++)
		assert_int_equal(*fake_word(i), 0);
	*fake_word(600) = 6;
	*fake_word(600) = 7;
	assert_int_equal(a32_read(&plain_traps), 1);
	/* Frames that were written before they are mapped, and one that is a hole. */
	*plain_bytes(plain_own(1)) = 11;
	assert_int_equal(plain_set(1, 2, plain_own(1), true, NULL, false, false), 0);
	assert_int_equal(*fake_word(1), 11);
	assert_int_equal(*fake_word(2), 0);
	/* "The new bytes are zero", and the frame is no hole. */
	*plain_bytes(plain_own(6)) = 66;
	assert_int_equal(plain_set(5, 3, plain_own(5), true, NULL, true, false), 0);
	assert_int_equal(*fake_word(6), 0);
	assert_int_equal(a32_read(&plain_traps), 1);
}

static void test_fill(void **state)
{
	const struct machine_ops *ops = fake.m->ops;
	char *buf;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	/* Mapped in one step. What the program stores then is not overwritten at the end. */
	buf = ops->fill_begin(fake.m, plain_own(0), 4);
	for (u64 i = 0; i < 4; i++)
		*(u64 *)(buf + i * PAGE_SIZE) = 100 + i;
	assert_int_equal(plain_set(0, 2, plain_own(0), true, buf, false, false), 0);
	*fake_word(1) = 7;
	assert_int_equal(ops->fill_end(fake.m, plain_own(0), 4, buf), 0);
	assert_int_equal(*fake_word(0), 100);
	assert_int_equal(*fake_word(1), 7);
	/* The others of the buffer are in their frames, mapped by nobody so far. */
	assert_int_equal(*plain_bytes(plain_own(2)), 102);
	assert_int_equal(plain_set(2, 2, plain_own(2), false, NULL, false, false), 0);
	assert_int_equal(*fake_word(3), 103);
	/* A frame that has older bytes. */
	plain_clear(0, 4);
	buf = ops->fill_begin(fake.m, plain_own(0), 1);
	memset(buf, 0, PAGE_SIZE);
	*(u64 *)buf = 9;
	assert_int_equal(plain_set(0, 1, plain_own(0), true, buf, false, false), 0);
	assert_int_equal(ops->fill_end(fake.m, plain_own(0), 1, buf), 0);
	assert_int_equal(*fake_word(0), 9);
	/* More at once than there are buffers: directly. */
	for (u64 i = 0; i < 400; i++) {
		u64 *direct = ops->fill_begin(fake.m, plain_own(64 + i), 1);

		assert_non_null(direct);
		*direct = i;
		if (i >= 300)
			assert_ptr_equal(direct, plain_bytes(plain_own(64 + i)));
		if (i == 350)
			assert_int_equal(
				plain_set(64 + i, 1, plain_own(64 + i), true, direct, false, false),
				0);
	}
	assert_int_equal(*fake_word(64 + 350), 350);
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	buf = ops->fill_begin(fake.m, plain_own(20), 65);
	assert_int_equal(ops->fill_end(fake.m, plain_own(20), 65, buf), -ENOMEM);
	inject_off(&fake.inject, INJECT_MACHINE_CALL);
	assert_int_equal(a32_read(&plain_traps), 0);
}

static void test_drop(void **state)
{
	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	assert_int_equal(plain_set(0, 64, plain_own(0), true, NULL, true, false), 0);
	for (u64 i = 0; i < 64; i++)
		*fake_word(i) = i + 1;
	plain_clear(0, 64);
	assert_int_equal(host_resident_pages(fake.m), 64);
	for (u64 i = 0; i < 64; i++)
		assert_int_equal(state_of(fake.s, i), STATE_ABSENT);
	assert_int_equal(plain_set(0, 64, plain_own(0), false, NULL, false, false), 0);
	for (u64 i = 0; i < 64; i++)
		assert_int_equal(*fake_word(i), i + 1);
	assert_int_equal(a32_read(&plain_traps), 0);
	/* A flush against loads may be wrong about entries that are still set: they come back. */
	fake_flush(10, 4, FLUSH_NO_ACCESS);
	assert_int_equal(*fake_word(12), 13);
	assert_int_equal(a32_read(&plain_traps), 1);
	/* A call without force brings back the neighbours. */
	assert_int_equal(plain_set(8, 8, plain_own(8), false, NULL, false, false), 0);
	assert_int_equal(*fake_word(11), 12);
	assert_int_equal(a32_read(&plain_traps), 1);
	/* Released: zero, and no memory. */
	plain_clear(0, 64);
	machine_release(fake.m, plain_own(0), 63);
	assert_int_equal(host_resident_pages(fake.m), 1);
	assert_int_equal(plain_set(0, 64, plain_own(0), false, NULL, false, false), 0);
	assert_int_equal(*fake_word(5), 0);
	assert_int_equal(*fake_word(63), 64);
}

static void test_release_spans(void **state)
{
	struct frame_span spans[4];
	u64 home = fake_va(600) >> PAGE_SHIFT;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	for (u64 i = 0; i < 40; i++)
		*plain_bytes(plain_own(i)) = 1;
	assert_int_equal(fake_install(600, 2, true, NULL, true, false), 0);
	spans[0] = (struct frame_span){ plain_own(0), 4 };
	spans[1] = (struct frame_span){ plain_own(4), 4 };
	spans[2] = (struct frame_span){ home, 2 };
	spans[3] = (struct frame_span){ plain_own(20), 10 };
	fake.m->ops->frames_release(fake.m, spans, 4);
	assert_int_equal(host_resident_pages(fake.m), 22);
	assert_int_equal(host_populated_pages(fake.m), 0);
	/* Moved: the source is released. */
	*plain_bytes(plain_own(30)) = 5;
	assert_int_equal(
		fake.m->ops->frames_move(fake.m, fake.m->node_span[0].pfn + 7, plain_own(30), 2),
		0);
	assert_int_equal(*plain_bytes(fake.m->node_span[0].pfn + 7), 5);
	assert_int_equal(host_resident_pages(fake.m), 22);
	/* Copied: both have them. */
	*plain_bytes(plain_own(33)) = 8;
	assert_int_equal(fake.m->ops->frames_copy(fake.m, plain_own(60), plain_own(33), 3), 0);
	assert_int_equal(*plain_bytes(plain_own(60)), 8);
	assert_int_equal(*plain_bytes(plain_own(62)), 1);
	assert_int_equal(*plain_bytes(plain_own(33)), 8);
	assert_int_equal(fake.m->ops->frames_copy(fake.m, plain_own(60), plain_own(200), 1), 0);
	assert_int_equal(*plain_bytes(plain_own(60)), 0); /* a hole */
	machine_release(fake.m, plain_own(60), 3);
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(fake.m->ops->frames_copy(fake.m, plain_own(60), plain_own(33), 3),
			 -ENOMEM);
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(fake.m->ops->frames_move(fake.m, plain_own(50), plain_own(32), 4),
			 -ENOMEM);
	inject_off(&fake.inject, INJECT_MACHINE_CALL);
	assert_int_equal(*plain_bytes(plain_own(32)), 1);
	assert_int_equal(host_resident_pages(fake.m), 22);
}

static void test_displaced(void **state)
{
	u64 far = fake.m->node_span[0].pfn;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	assert_int_equal(plain_set(0, 64, plain_own(0), true, NULL, true, false), 0);
	assert_mappings(2);
	for (u64 i = 0; i < 64; i++)
		*fake_word(i) = i;
	*plain_bytes(far + 9) = 999;
	*plain_bytes(far + 10) = 1000;
	plain_clear(20, 1);
	assert_int_equal(plain_set(20, 1, far + 9, false, NULL, false, false), 0);
	assert_mappings(4);
	assert_int_equal(*fake_word(20), 999);
	assert_int_equal(plain_try_store(20, 1), 1);
	*fake_word(20) = 998;
	assert_int_equal(*plain_bytes(far + 9), 998);
	assert_int_equal(*plain_bytes(plain_own(20)), 20); /* the old frame is as it was */
	/* Its neighbour joins it. */
	plain_clear(21, 1);
	assert_int_equal(plain_set(21, 1, far + 10, true, NULL, false, false), 0);
	assert_mappings(4);
	assert_int_equal(*fake_word(21), 1000);
	*fake_word(21) = 1001;
	/* One goes home; then the other, with new bytes. */
	plain_clear(20, 2);
	assert_int_equal(plain_set(20, 1, plain_own(20), true, NULL, false, false), 0);
	assert_mappings(4);
	machine_release(fake.m, plain_own(21), 1);
	assert_int_equal(plain_set(21, 1, plain_own(21), true, NULL, true, false), 0);
	assert_mappings(2);
	assert_int_equal(*fake_word(20), 20);
	assert_int_equal(*fake_word(21), 0);
	for (u64 i = 22; i < 64; i++)
		assert_int_equal(*fake_word(i), i);
	assert_int_equal(a32_read(&plain_segv), 0);
	assert_int_equal(plain_counters().pages_placed, 4);
	plain_unarea(0, 512);
	assert_mappings(1);
}

/* A run of the entries of one call whose frames do not follow each other. */
static void test_scattered(void **state)
{
	u64 e[16], far = fake.m->node_span[0].pfn;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	for (u32 i = 0; i < 16; i++) {
		u64 pfn = i % 4 == 3 ? plain_own(i) : far + (16 - i) * 2 + (i & 1);

		*plain_bytes(pfn) = 50 + i;
		e[i] = i == 6 ? 0 : plain_mk(pfn, i % 2);
		a64_set(&fake.entry[i], e[i]);
	}
	assert_int_equal(fake.m->ops->entries_changed(fake.m, fake.s, fake_va(0), e, 16, 0, NULL,
						      false, false),
			 0);
	for (u32 i = 0; i < 16; i++) {
		if (i == 6)
			continue;
		assert_int_equal(*fake_word(i), 50 + i);
		assert_int_equal(plain_try_store(i, 80 + i), i % 2 ? 0 : 1);
		assert_int_equal(*plain_bytes(entry_pfn(e[i])), i % 2 ? 80 + i : 50 + i);
	}
	assert_int_equal(plain_counters().mappings, plain_kernel_mappings());
	assert_int_equal(a32_read(&plain_traps), 15 - 8);
}

/* Two areas side by side in one block, with other protections, and what lies in between. */
static void test_areas(void **state)
{
	struct range r = { fake_va(100), fake_va(200) };

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(100, 200, PLAIN_RW, plain_own(100)), 0);
	assert_int_equal(plain_area(200, 300, PLAIN_R, plain_own(200)), 0);
	assert_mappings(4);
	assert_int_equal(plain_set(190, 10, plain_own(190), true, NULL, true, false), 0);
	assert_int_equal(plain_set(200, 10, plain_own(200), false, NULL, true, false), 0);
	*fake_word(199) = 1;
	assert_int_equal(*fake_word(200), 0);
	assert_int_equal(plain_try_store(200, 1), 2);
	/* The first becomes like the second: one host mapping; then neither may be touched. */
	assert_int_equal(fake.m->ops->area_protect(fake.m, fake.s, r, PLAIN_RW, PLAIN_R), 0);
	assert_mappings(3);
	assert_int_equal(plain_try_store(199, 1), 2);
	assert_int_equal(*fake_word(199), 1);
	assert_int_equal(fake.m->ops->area_protect(fake.m, fake.s, r, PLAIN_R, PROT_BITS_PLAIN), 0);
	assert_mappings(4);
	assert_int_equal(plain_try_store(199, 1), 2);
	assert_int_equal(*plain_bytes(plain_own(199)), 1); /* the core reads it all the same */
	plain_clear(190, 10);
	plain_unarea(100, 200);
	assert_mappings(3);
	/* Private memory again. */
	assert_int_equal(fake_install(199, 1, true, NULL, true, false), 0);
	*fake_word(199) = 5;
	assert_int_equal(*plain_bytes(plain_own(199)), 1);
	assert_int_equal(host_populated_pages(fake.m), 1);
	plain_clear(200, 10);
	plain_unarea(200, 300);
	assert_mappings(1);
}

/* Code in a plain area, also away from its place. */
static void test_exec(void **state)
{
	static const u8 code[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov $42, %eax; ret */
	u64 frame[2] = { plain_own(3), fake.m->node_span[0].pfn };
	int (*fn)(void) = (int (*)(void))(uintptr_t)fake_va(3);

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 64, PLAIN_RW | PROT_BITS_EXEC, plain_own(0)), 0);
	for (u32 i = 0; i < 2; i++) {
		plain_clear(3, 1);
		memcpy((void *)(uintptr_t)plain_bytes(frame[i]), code, sizeof(code));
		assert_int_equal(plain_set(3, 1, frame[i], false, NULL, false, false), 0);
		assert_int_equal(fn(), 42);
	}
	assert_int_equal(a32_read(&plain_traps), 0);
}

/* The limit is the process's: what one space takes another has no more. */
static void test_limit_of_all(void **state)
{
	const struct machine_ops *ops = fake.m->ops;
	u64 far = fake.m->node_span[0].pfn;
	struct mspace *other;
	struct range u;

	(void)state;
	plain_handlers();
	assert_int_equal(ops->space_create(fake.m, NULL, NULL, &other, &u), 0);
	assert_int_equal(ops->area_map(fake.m, other, (struct range){ u.start, u.start + PMD_SIZE },
				       PLAIN_RW, fake.m->plain_base + (u.start >> PAGE_SHIFT)),
			 0);
	assert_int_equal(plain_area(0, 64, PLAIN_RW, plain_own(0)), 0);
	assert_int_equal(plain_set(3, 1, far, true, NULL, true, false), 0);
	assert_int_equal(plain_counters().mappings, 6);
	assert_int_equal(plain_set(5, 1, far + 2, true, NULL, true, false), 0);
	assert_int_equal(plain_set(7, 1, far + 4, true, NULL, true, false), -ENOSPC);
	ops->space_destroy(fake.m, other);
	assert_mappings(6);
	assert_int_equal(plain_set(7, 1, far + 4, true, NULL, true, false), 0);
	assert_mappings(8);
}

/* A page placed in an area that may only be read or not at all. */
static void test_displaced_protected(void **state)
{
	u64 far = fake.m->node_span[0].pfn;
	struct range r = { fake_va(0), fake_va(64) };

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 64, PLAIN_R, plain_own(0)), 0);
	*plain_bytes(far) = 4;
	assert_int_equal(plain_set(4, 1, far, false, NULL, false, false), 0);
	assert_mappings(4);
	assert_int_equal(*fake_word(4), 4);
	assert_int_equal(plain_try_store(4, 1), 2);
	assert_int_equal(fake.m->ops->area_protect(fake.m, fake.s, r, PLAIN_R, PLAIN_RW), 0);
	assert_mappings(4);
	assert_int_equal(plain_try_store(4, 1), 1);
	*fake_word(4) = 5;
	assert_int_equal(*plain_bytes(far), 5);
	assert_int_equal(a32_read(&plain_segv), 0);
}

static void test_limit(void **state)
{
	u64 far = fake.m->node_span[0].pfn;
	u32 n;

	(void)state;
	plain_handlers();
	/* 1 for the region, 1 more for the area, 2 for each page in its middle. */
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	for (n = 0; n < 20; n++) {
		int err = plain_set(10 + 2 * n, 1, far + 5 * n, true, NULL, true, false);

		assert_true(err == 0 || err == -ENOSPC);
		if (err)
			break;
	}
	assert_int_equal(n, 3);
	assert_mappings(8);
	assert_int_equal(state_of(fake.s, 10 + 2 * n), STATE_ABSENT);
	assert_int_equal(plain_counters().places_refused, 1);
	/* At home there is room, and one that goes home makes more. */
	assert_int_equal(plain_set(10 + 2 * n, 1, plain_own(10 + 2 * n), true, NULL, true, false),
			 0);
	assert_int_equal(plain_area(1024, 1100, PLAIN_RW, plain_own(1024)), -ENOMEM);
	assert_mappings(8);
	plain_clear(12, 1);
	assert_int_equal(plain_set(12, 1, plain_own(12), true, NULL, true, false), 0);
	assert_int_equal(plain_area(1024, 1100, PLAIN_RW, plain_own(1024)), 0);
	assert_mappings(8);
	/* To go would need one more: it stays, and is put right when it is used again. */
	plain_unarea(1050, 1060);
	assert_mappings(8);
	plain_unarea(1024, 1050);
	plain_unarea(1060, 1100);
	assert_int_equal(plain_area(1050, 1060, PROT_RW, 0), 0);
	assert_mappings(6);
	assert_int_equal(fake_install(1055, 1, true, NULL, true, false), 0);
	*fake_word(1055) = 1;
}

static int setup_limit(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30,
				   .overflow_bytes = 1ull << 30,
				   .max_mappings = 8 };

	(void)state;
	fake_setup_with(&cfg);
	return 0;
}

/* Thirty thousand pages away from home, found one by one. */
static void test_many(void **state)
{
	const u32 n = FAKE_PAGES / 2;
	u64 far = fake.m->node_span[0].pfn;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, FAKE_PAGES, PLAIN_RW, plain_own(0)), 0);
	for (u32 i = 0; i < n; i++)
		assert_int_equal(
			plain_set(2 * i, 1, far + 2 * i * 7 % 5003, false, NULL, true, false), 0);
	assert_int_equal(plain_counters().mappings, 2 * n + 1);
	assert_int_equal(plain_kernel_mappings(), 2 * n + 1);
	for (u32 i = 0; i < n; i++)
		*plain_bytes(far + 2 * i * 7 % 5003) = i;
	for (u32 i = 0; i < n; i++)
		assert_int_equal(*fake_word(2 * i), i);
	plain_clear(0, 512);
	for (u32 i = 0; i < 512; i++)
		assert_int_equal(plain_set(i, 1, plain_own(i), false, NULL, true, false), 0);
	assert_int_equal(plain_counters().mappings, 2 * (n - 256) + 2);
	assert_int_equal(plain_kernel_mappings(), 2 * (n - 256) + 2);
	plain_unarea(0, FAKE_PAGES);
	assert_mappings(1);
}

/* A space's frames live on in another after it ended. */
static void test_other_space(void **state)
{
	const struct machine_ops *ops = fake.m->ops;
	struct mspace *other;
	struct range u, r;
	u64 pfn, e;

	(void)state;
	plain_handlers();
	assert_int_equal(ops->space_create(fake.m, NULL, NULL, &other, &u), 0);
	r = (struct range){ u.start, u.start + 64 * PAGE_SIZE };
	pfn = fake.m->plain_base + (u.start >> PAGE_SHIFT);
	assert_int_equal(ops->area_map(fake.m, other, r, PLAIN_RW, pfn), 0);
	e = plain_mk(pfn + 3, true);
	assert_int_equal(ops->entries_changed(fake.m, other, u.start + 3 * PAGE_SIZE, &e, 1, 0,
					      NULL, true, false),
			 0);
	*(volatile u64 *)(uintptr_t)(u.start + 3 * PAGE_SIZE) = 77;
	assert_int_equal(plain_area(0, 64, PLAIN_RW, pfn), 0);
	assert_int_equal(plain_set(3, 1, pfn + 3, false, NULL, false, false), 0);
	assert_int_equal(*fake_word(3), 77);
	ops->space_destroy(fake.m, other);
	assert_int_equal(*fake_word(3), 77);
	assert_int_equal(*plain_bytes(pfn + 3), 77);
	/* The next one at these addresses uses the same windows. */
	assert_int_equal(ops->space_create(fake.m, NULL, NULL, &other, &u), 0);
	assert_int_equal(ops->area_map(fake.m, other, r, PLAIN_RW, pfn), 0);
	assert_int_equal(*plain_bytes(pfn + 3), 77);
	plain_clear(3, 1);
	machine_release(fake.m, pfn + 3, 1);
	ops->space_destroy(fake.m, other);
	assert_int_equal(host_resident_pages(fake.m), 0);
}

/* ---- the kernel's fork ---- */
static int child_main(void)
{
	struct range u;
	struct mspace *s;

	if (host_forked_child(fake.m))
		return 100;
	/* Its core zaps, releases and unmaps what it believes to have. */
	for (u64 i = 0; i < 512; i++)
		a64_set(&fake.entry[i], 0);
	fake_flush(0, 512, FLUSH_NO_ACCESS);
	machine_release(fake.m, plain_own(0), 512);
	machine_release(fake.m, fake.m->node_span[0].pfn, 8);
	if (plain_set(5, 1, plain_own(5), true, NULL, true, false) != -ENOMEM)
		return 101;
	plain_unarea(0, 256);
	plain_unarea(256, 512);
	/* The kernel does not merge them: fork has left traces in the rest of the region. */
	if (plain_counters().mappings != 1 || plain_kernel_mappings() > 2)
		return 102;
	if (*fake_word(600) != 6) /* private memory came along */
		return 103;
	/* Plain areas of its own. */
	if (plain_area(0, 512, PLAIN_RW, plain_own(0)) ||
	    plain_set(0, 8, plain_own(0), true, NULL, true, false))
		return 104;
	for (u64 i = 0; i < 8; i++) {
		if (*fake_word(i))
			return 105;
		*fake_word(i) = 1000;
	}
	if (*plain_bytes(plain_own(3)) != 1000)
		return 106;
	if (fake.m->ops->space_create(fake.m, NULL, NULL, &s, &u))
		return 107;
	fake.m->ops->destroy(fake.m);
	return 0;
}

static int child_without_file(void)
{
	inject_every(&fake.inject, INJECT_MACHINE_CALL, 1);
	if (host_forked_child(fake.m) != -ENOMEM) /* the plain places could not be taken over */
		return 110;
	return 0;
}

/* Only the file is refused. */
static int child_limited(void)
{
	struct rlimit rl = { 1 << 20, 1 << 20 };

	setrlimit(RLIMIT_FSIZE, &rl);
	if (host_forked_child(fake.m))
		return 120;
	fake_flush(0, 512, FLUSH_NO_ACCESS);
	machine_release(fake.m, plain_own(0), 512);
	plain_unarea(0, 512);
	if (plain_area(0, 512, PLAIN_RW, plain_own(0)) != -ENOMEM)
		return 121;
	if (*fake_word(600) != 6)
		return 122;
	*fake_word(600) = 7;
	fake.m->ops->destroy(fake.m);
	return 0;
}

static void assert_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn());
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static void test_fork(void **state)
{
	u64 far = fake.m->node_span[0].pfn;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 256, PLAIN_RW, plain_own(0)), 0);
	assert_int_equal(plain_area(256, 512, PLAIN_R, plain_own(256)), 0);
	assert_int_equal(plain_set(0, 16, plain_own(0), true, NULL, true, false), 0);
	assert_int_equal(plain_set(300, 4, far, false, NULL, true, false), 0);
	assert_int_equal(fake_install(600, 1, true, NULL, true, false), 0);
	*fake_word(600) = 6;
	for (u64 i = 0; i < 16; i++)
		*fake_word(i) = i;
	assert_child(child_main);
	assert_child(child_without_file);
	assert_child(child_limited);
	for (u64 i = 0; i < 16; i++)
		assert_int_equal(*fake_word(i), i);
	assert_int_equal(*fake_word(600), 6);
	assert_int_equal(host_resident_pages(fake.m), 21);
	assert_int_equal(a32_read(&plain_traps), 0);
}

/* ---- refusals ---- */
/* The nth step of making an area fails, until none does; how many there are. */
static u64 steps_of_area(void)
{
	for (u64 nth = 1;; nth++) {
		int err;

		assert_true(nth < 50);
		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
		err = plain_area(64, 128, PLAIN_R, plain_own(64));
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		if (!err)
			return nth;
		assert_int_equal(err, -ENOMEM);
		assert_mappings(1);
		/* Private memory, as it was. */
		assert_int_equal(fake_install(64, 64, true, NULL, true, false), 0);
		*fake_word(100) = 1;
		plain_clear(64, 64);
	}
}

static void test_inject_area(void **state)
{
	u64 nth;

	(void)state;
	plain_handlers();
	/* The memfd and the windows are made once. */
	assert_int_equal(steps_of_area(), 4);
	plain_unarea(64, 128);
	assert_int_equal(steps_of_area(), 4);
	assert_mappings(3);
	for (nth = 1;; nth++) {
		assert_true(nth < 50);
		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
		plain_unarea(64, 128);
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		if (plain_kernel_mappings() == 1)
			break;
		/* It is put right when the addresses are used again. */
		assert_int_equal(plain_area(64, 128, PLAIN_R, plain_own(64)), 0);
		assert_mappings(3);
		assert_int_equal(plain_set(70, 1, plain_own(70), false, NULL, true, false), 0);
		assert_int_equal(*fake_word(70), 0);
		plain_clear(70, 1);
	}
	assert_true(nth > 1);
	assert_mappings(1);
}

static void test_inject_entries(void **state)
{
	u64 e[12], far = fake.m->node_span[0].pfn, nth;
	struct range r = { fake_va(0), fake_va(512) };
	int err = -ENOMEM;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	for (u32 i = 0; i < 12; i++) {
		u64 pfn = i / 3 % 2 ? far + 20 * i : plain_own(i);

		*plain_bytes(pfn) = 70 + i;
		e[i] = plain_mk(pfn, i % 2);
	}
	/* Two are there already and are not to change when the rest fails. */
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(plain_set(i, 1, plain_own(i), !(i % 2), NULL, false, false), 0);
	for (nth = 1; err; nth++) {
		assert_true(nth < 100);
		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
		err = fake.m->ops->entries_changed(fake.m, fake.s, fake_va(0), e, 12, 0, NULL,
						   false, false);
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(state_of(fake.s, 0), STATE_WRITABLE);
		assert_int_equal(state_of(fake.s, 1), STATE_PROTECTED);
		for (u32 i = 2; i < 12; i++)
			assert_int_equal(state_of(fake.s, i), STATE_ABSENT);
		/* What is broken may not become accessible by a change of the area. */
		if (nth % 3 == 0) {
			assert_int_equal(
				fake.m->ops->area_protect(fake.m, fake.s, r, PLAIN_RW, PLAIN_R), 0);
			assert_int_equal(
				fake.m->ops->area_protect(fake.m, fake.s, r, PLAIN_R, PLAIN_RW), 0);
		}
	}
	assert_true(nth > 12);
	for (u32 i = 0; i < 12; i++)
		a64_set(&fake.entry[i], e[i]);
	for (u32 i = 0; i < 12; i++) {
		assert_int_equal(*fake_word(i), 70 + i);
		assert_int_equal(plain_try_store(i, i), i % 2 ? 0 : 1);
	}
	assert_int_equal(plain_counters().mappings, plain_kernel_mappings());
	plain_clear(0, 12);
	plain_unarea(0, 512);
	assert_mappings(1);
}

/* A page whose placing got stuck traps, and the trap places it anew. */
static void test_broken_traps(void **state)
{
	u64 far = fake.m->node_span[0].pfn;

	(void)state;
	plain_handlers();
	assert_int_equal(plain_area(0, 512, PLAIN_RW, plain_own(0)), 0);
	*plain_bytes(far) = 6;
	for (u64 nth = 2; nth <= 3; nth++) {
		inject_at(&fake.inject, INJECT_MACHINE_CALL, nth);
		assert_int_equal(plain_set(7, 1, far, true, NULL, false, false), -ENOMEM);
		inject_off(&fake.inject, INJECT_MACHINE_CALL);
		a64_set(&fake.entry[7], plain_mk(far, true));
		a32_set(&plain_segv, 0);
		*fake_word(7) += 1;
		assert_int_equal(a32_read(&plain_segv), 1);
		plain_clear(7, 1);
		assert_int_equal(plain_set(7, 1, plain_own(7), true, NULL, true, false), 0);
		plain_clear(7, 1);
	}
	assert_int_equal(*plain_bytes(far), 8);
	assert_mappings(2);
}

static void test_none(void **state)
{
	(void)state;
	assert_false(machine_has(fake.m, CAP_PLAIN));
	assert_int_equal(fake.m->plain_base, 0);
	assert_int_equal(plain_area(0, 8, PLAIN_RW, 1), -ENOMEM);
	assert_int_equal(fake_install(3, 2, true, NULL, true, false), 0);
	*fake_word(4) = 4;
	machine_release(fake.m, fake_va(3) >> PAGE_SHIFT, 2);
	assert_int_equal(host_resident_pages(fake.m), 0);
}

static int setup_none(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30, .no_plain = true };

	(void)state;
	fake_setup_with(&cfg);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_two_addresses),
		FAKE_TEST(test_first_touch),
		FAKE_TEST(test_fill),
		FAKE_TEST(test_drop),
		FAKE_TEST(test_release_spans),
		FAKE_TEST(test_displaced),
		FAKE_TEST(test_scattered),
		FAKE_TEST(test_areas),
		FAKE_TEST(test_displaced_protected),
		FAKE_TEST(test_many),
		FAKE_TEST(test_exec),
		FAKE_TEST(test_other_space),
		FAKE_TEST(test_fork),
		FAKE_TEST(test_inject_area),
		FAKE_TEST(test_inject_entries),
		FAKE_TEST(test_broken_traps),
		{ "test_limit", fake_run, setup_limit, fake_teardown, (void *)test_limit },
		{ "test_limit_of_all", fake_run, setup_limit, fake_teardown,
		  (void *)test_limit_of_all },
		{ "test_none", fake_run, setup_none, fake_teardown, (void *)test_none },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
