/*
 * host_fake.h - a tiny core over the host machine, for its tests: one table of entries, a spin lock
 * for each 512 of them, a SIGBUS handler, eviction of one span into plain memory.
 *
 * Invariants: as the core's. An entry without WRITE and DIRTY is never written; a page that is out
 * has its bytes in `store`; a page on its way out (FAKE_LEAVING) keeps its frame until the lock
 * holder who finds it still leaving has stored them.
 * Locking: an entry, its store page and its state belong to its table's lock.
 */
#ifndef QUIRE_TESTS_HOST_FAKE_H
#define QUIRE_TESTS_HOST_FAKE_H

#include "base/inject.h"
#include "base/lock.h"
#include "machine/host/host_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define FAKE_PAGES   4096u
#define FAKE_TABLES  (FAKE_PAGES / PTRS_PER_TABLE)
/* Software bits of an entry that is not present. */
#define FAKE_LEAVING BIT(60)
#define FAKE_OUT     BIT(61)

struct fake {
	struct machine *m;
	struct mspace *s;
	struct range u;
	struct inject inject;
	struct spin lock[FAKE_TABLES];
	a64_t entry[FAKE_PAGES];
	bool isolated[FAKE_PAGES]; /* somebody reads the frame and will decide: nobody else evicts
				      it */
	char (*store)[PAGE_SIZE];
	a32_t faults;
	a32_t write_faults;
	a32_t spurious;
	a32_t evicted;
	a32_t refused; /* evictions that a fault overtook */
	bool no_map;   /* pages without an entry are a crash, not a first touch */
};

static struct fake fake;

static inline u64 fake_va(u64 page)
{
	return fake.u.start + (page << PAGE_SHIFT);
}

static inline volatile u64 *fake_word(u64 page)
{
	return (volatile u64 *)(uintptr_t)fake_va(page);
}

static inline u64 fake_mk(u64 page, bool writable)
{
	return fake_va(page) | ENTRY_PRESENT | ENTRY_USER |
	       (writable ? ENTRY_WRITE | ENTRY_DIRTY : 0);
}

static inline int fake_install(u64 page, u32 nr, bool writable, const void *fill, bool zero,
			       bool force)
{
	u64 e[PTRS_PER_TABLE] = { 0 };
	int err;

	for (u32 i = 0; i < nr; i++)
		e[i] = fake_mk(page + i, writable);
	err = fake.m->ops->entries_changed(fake.m, fake.s, fake_va(page), e, nr, 0, fill, zero,
					   force);
	for (u32 i = 0; i < nr && !err; i++)
		a64_set(&fake.entry[page + i], e[i]);
	return err;
}

static inline void fake_flush(u64 page, u32 nr, enum flush_strength strength)
{
	struct tlb_range r = { .start = fake_va(page),
			       .end = fake_va(page + nr),
			       .strength = strength };

	fake.m->ops->tlb_flush(fake.m, fake.s, &r);
}

/* The frame's bytes, as the core reads them; not instrumented, for the store races with nobody by
 * protocol. */
__attribute__((no_sanitize("thread"), noinline)) static void fake_read(void *to, u64 page)
{
	volatile u64 *out = to;
	volatile const u64 *in = fake.m->ops->frame_window(fake.m, fake_va(page) >> PAGE_SHIFT);

	for (unsigned i = 0; i < PAGE_SIZE / sizeof(u64); i++)
		out[i] = in[i];
}

static inline int fake_fault(u64 page, bool write)
{
	struct spin *lock = &fake.lock[page / PTRS_PER_TABLE];
	int err = 0;
	u64 e;

	a32_add(&fake.faults, 1);
	spin_lock(lock);
	e = a64_read(&fake.entry[page]);
	if (e == 0 && fake.no_map) {
		err = -EFAULT;
	} else if (e == 0) {
		err = fake_install(page, 1, write, NULL, true, false);
	} else if (e & FAKE_OUT) {
		void *buf = fake.m->ops->fill_begin(fake.m, fake_va(page) >> PAGE_SHIFT, 1);

		memcpy(buf, fake.store[page], PAGE_SIZE);
		err = fake_install(page, 1, write, buf, false, false);
		fake.m->ops->fill_end(fake.m, fake_va(page) >> PAGE_SHIFT, 1, buf);
	} else if (e & FAKE_LEAVING) {
		err = fake_install(page, 1, write, NULL, false, false);
	} else if (write && !(e & ENTRY_DIRTY)) {
		a32_add(&fake.write_faults, 1);
		err = fake_install(page, 1, true, NULL, false, false);
	} else {
		a32_add(&fake.spurious, 1);
		err = fake_install(page, 1, e & ENTRY_DIRTY, NULL, false, true);
	}
	spin_unlock(lock);
	return err;
}

static void fake_sigbus(int sig, siginfo_t *si, void *uc)
{
	struct host_trap trap;

	(void)sig;
	if (host_fix_core_read(fake.m, (u64)(uintptr_t)si->si_addr))
		return;
	if (!host_trap_info(fake.m, si, uc, &trap))
		_exit(90);
	if (trap.va < fake.u.start || trap.va >= fake_va(FAKE_PAGES))
		_exit(91);
	if (fake_fault((trap.va - fake.u.start) >> PAGE_SHIFT, trap.write))
		_exit(92);
}

/* Put out what is present in [page, page + nr), which lies in one table. */
static inline void fake_evict(u64 page, u32 nr)
{
	struct spin *lock = &fake.lock[page / PTRS_PER_TABLE];
	static __thread char copy[64][PAGE_SIZE];
	u64 leaving = 0;

	spin_lock(lock);
	for (u32 i = 0; i < nr; i++)
		if ((a64_read(&fake.entry[page + i]) & ENTRY_PRESENT) && !fake.isolated[page + i]) {
			fake.isolated[page + i] = true;
			a64_set(&fake.entry[page + i], FAKE_LEAVING);
			leaving |= BIT(i);
		}
	fake_flush(page, nr, FLUSH_NO_STORE);
	spin_unlock(lock);
	fake.m->ops->read_begin(fake.m);
	for (u32 i = 0; i < nr; i++)
		if (leaving & BIT(i))
			fake_read(copy[i], page + i);
	fake.m->ops->read_end(fake.m);
	spin_lock(lock);
	for (u32 i = 0; i < nr; i++) {
		if (!(leaving & BIT(i)))
			continue;
		fake.isolated[page + i] = false;
		if (a64_read(&fake.entry[page + i]) != FAKE_LEAVING) {
			a32_add(&fake.refused, 1);
			continue;
		}
		memcpy(fake.store[page + i], copy[i], PAGE_SIZE);
		a64_set(&fake.entry[page + i], FAKE_OUT);
		machine_release(fake.m, fake_va(page + i) >> PAGE_SHIFT, 1);
		a32_add(&fake.evicted, 1);
	}
	spin_unlock(lock);
}

static inline void fake_setup_with(const struct host_config *cfg)
{
	char msg[200] = "";

	memset(&fake, 0, sizeof(fake));
	if (machine_host_create(cfg, &fake.m, msg, sizeof(msg))) {
		printf("skipped: %s\n", msg);
		exit(77);
	}
	inject_init(&fake.inject);
	fake.m->inject = &fake.inject;
	for (u32 i = 0; i < FAKE_TABLES; i++)
		spin_init(&fake.lock[i], LOCK_PTE);
	fake.store = mmap(NULL, (size_t)FAKE_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(fake.store, MAP_FAILED);
	assert_int_equal(fake.m->ops->space_create(fake.m, NULL, NULL, &fake.s, &fake.u), 0);
}

/* cmocka puts its own handler before each test: ours comes with the test. Its state is the
 * function. */
static inline void fake_run(void **state)
{
	struct sigaction sa = { .sa_sigaction = fake_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
	((void (*)(void **)) * state)(state);
}
#define FAKE_TEST(fn)                                                \
	{                                                            \
#fn, fake_run, fake_setup, fake_teardown, (void *)fn \
	}

static inline int fake_setup(void **state)
{
	struct host_config cfg = { .region_bytes = 16ull << 30, .overflow_bytes = 1ull << 30 };

	(void)state;
	fake_setup_with(&cfg);
	return 0;
}

static inline int fake_teardown(void **state)
{
	(void)state;
	fake.m->ops->destroy(fake.m);
	munmap(fake.store, (size_t)FAKE_PAGES * PAGE_SIZE);
	return (int)native_warnings();
}

#endif
