/*
 * A kernel that tells of fewer pages than it has moved: what Linux 6.18 does when a page of the
 * range is just being migrated by the kernel itself. No page is lost by it, parked, moved to
 * another node or by mremap.
 */
#include "host_fake.h"

#include "machine/host/uffd_abi.h"

#define PAGES 64u

static u32 cut_short;

/* Every MOVE of more than two pages moves all of them, and says that it was two. */
static long short_moves(long nr, ...)
{
	struct host_uffdio_move *move;
	va_list ap;
	long a[6], err;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	err = native_syscall_direct(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (nr != SYS_ioctl || a[1] != (long)HOST_UFFDIO_MOVE || err)
		return err;
	move = (void *)a[2];
	if (move->len <= 2 * PAGE_SIZE)
		return 0;
	move->move = 2 * PAGE_SIZE;
	cut_short++;
	return -EAGAIN;
}

static int setup(void **state)
{
	struct host_config cfg = { .region_bytes = 1ull << 30,
				   .overflow_bytes = 1ull << 30,
				   .syscall = short_moves,
				   .nr_nodes = 2,
				   .node = { { 1ull << 30, -1 }, { 1ull << 30, -1 } } };

	(void)state;
	fake_setup_with(&cfg);
	if (!machine_has(fake.m, CAP_PARK)) {
		printf("skipped: this kernel does not move pages\n");
		exit(77);
	}
	cut_short = 0;
	return 0;
}

static int teardown(void **state)
{
	native_syscall = native_syscall_direct;
	return fake_teardown(state);
}

static void fill(u64 page)
{
	assert_int_equal(fake_install(page, PAGES, true, NULL, true, false), 0);
	for (u64 p = page; p < page + PAGES; p++)
		fake_word(p)[0] = fake_word(p)[511] = p * 3 + 7;
}

static void unmap(u64 page)
{
	for (u64 p = page; p < page + PAGES; p++)
		a64_set(&fake.entry[p], FAKE_LEAVING);
}

static void expect(u64 page, u64 was)
{
	struct host_counters c;

	assert_int_equal(fake_install(page, PAGES, true, NULL, false, false), 0);
	for (u64 i = 0; i < PAGES; i++) {
		assert_int_equal(fake_word(page + i)[0], (was + i) * 3 + 7);
		assert_int_equal(fake_word(page + i)[511], (was + i) * 3 + 7);
	}
	assert_true(cut_short > 0);
	host_counters(fake.m, &c);
	assert_int_equal(c.strays, 0);
	assert_int_equal(host_populated_pages(fake.m), PAGES);
	assert_int_equal(host_resident_pages(fake.m), (s64)PAGES);
}

static void parked_pages(void **state)
{
	(void)state;
	fill(10);
	unmap(10);
	assert_int_equal(fake.m->ops->frames_park(fake.m, fake_va(10) >> PAGE_SHIFT, PAGES), 0);
	expect(10, 10);
}

static void pages_to_a_node(void **state)
{
	(void)state;
	fill(10);
	for (unsigned to = 1; to < 5; to++) {
		unmap(10);
		assert_int_equal(fake.m->ops->frames_to_node(fake.m, fake_va(10) >> PAGE_SHIFT,
							     PAGES, !(to & 1), to & 1),
				 0);
		expect(10, 10);
	}
}

static void moved_pages(void **state)
{
	(void)state;
	fill(10);
	unmap(10);
	unmap(300);
	assert_int_equal(fake.m->ops->frames_move(fake.m, fake_va(300) >> PAGE_SHIFT,
						  fake_va(10) >> PAGE_SHIFT, PAGES),
			 0);
	expect(300, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "parked_pages", fake_run, setup, teardown, (void *)parked_pages },
		{ "pages_to_a_node", fake_run, setup, teardown, (void *)pages_to_a_node },
		{ "moved_pages", fake_run, setup, teardown, (void *)moved_pages },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
