/*
 * host_plain.h - plain areas over the fake core of host_fake.h: entries that name any frame, the
 * handler for both signals, and what the kernel says about host mappings.
 *
 * Locking: as host_fake.h. An entry of a plain page belongs to its table's lock.
 */
#ifndef QUIRE_TESTS_HOST_PLAIN_H
#define QUIRE_TESTS_HOST_PLAIN_H

#include "host_fake.h"

#define PLAIN_RW (PROT_RW | PROT_BITS_PLAIN)
#define PLAIN_R  (PROT_BITS_READ | PROT_BITS_PLAIN)

static a32_t plain_segv;   /* SIGSEGV that were retried */
static a32_t plain_traps;  /* accesses resolved */
static a32_t plain_stores; /* first stores among them */
static __thread bool
	plain_frozen; /* entries without WRITE stay so: a store to one ends at plain_out */
static __thread sigjmp_buf plain_out;
static bool plain_impatient; /* a fault that meets a lock does not wait: the access is repeated */

/* The frame that belongs to a page of the region. */
static inline u64 plain_own(u64 page)
{
	return fake.m->plain_base + (fake_va(page) >> PAGE_SHIFT);
}

static inline u64 plain_mk(u64 pfn, bool writable)
{
	return pfn << PAGE_SHIFT | ENTRY_PRESENT | ENTRY_USER |
	       (writable ? ENTRY_WRITE | ENTRY_DIRTY : 0);
}

static inline volatile u64 *plain_bytes(u64 pfn)
{
	return fake.m->ops->frame_window(fake.m, pfn);
}

static inline int plain_area(u64 first, u64 last, unsigned prot, u64 pfn)
{
	struct range r = { fake_va(first), fake_va(last) };

	return fake.m->ops->area_map(fake.m, fake.s, r, prot, pfn);
}

static inline void plain_unarea(u64 first, u64 last)
{
	struct range r = { fake_va(first), fake_va(last) };

	fake.m->ops->area_unmap(fake.m, fake.s, r, PLAIN_RW);
}

/* Entries for nr pages, of consecutive frames; they are set only if the machine agrees. */
static inline int plain_set(u64 page, u32 nr, u64 pfn, bool writable, const void *fill, bool zero,
			    bool force)
{
	u64 e[PTRS_PER_TABLE] = { 0 };
	int err;

	for (u32 i = 0; i < nr; i++)
		e[i] = plain_mk(pfn + i, writable);
	err = fake.m->ops->entries_changed(fake.m, fake.s, fake_va(page), e, nr, 0, fill, zero,
					   force);
	for (u32 i = 0; i < nr && !err; i++)
		a64_set(&fake.entry[page + i], e[i]);
	return err;
}

/* Clear, and flush. */
static inline void plain_clear(u64 page, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		a64_set(&fake.entry[page + i], 0);
	fake_flush(page, nr, FLUSH_NO_ACCESS);
}

static inline int plain_fault(u64 page, bool write)
{
	struct spin *lock = &fake.lock[page / PTRS_PER_TABLE];
	int err = -EFAULT;
	bool refused;
	u64 e;

	if (!plain_impatient)
		spin_lock(lock);
	else if (!spin_trylock(lock))
		return -EAGAIN;
	e = a64_read(&fake.entry[page]);
	refused = write && !(e & ENTRY_WRITE) && plain_frozen;
	if (refused || !e) {
		/* The test may be changing it this moment, or the access is wrong. */
		err = refused ? -EACCES : -EAGAIN;
	} else if (write && !(e & ENTRY_WRITE)) {
		a32_add(&plain_stores, 1);
		err = plain_set(page, 1, entry_pfn(e), true, NULL, false, false);
	} else {
		err = plain_set(page, 1, entry_pfn(e), e & ENTRY_WRITE, NULL, false, true);
	}
	spin_unlock(lock);
	return err;
}

static void plain_signal(int sig, siginfo_t *si, void *uc)
{
	struct host_trap trap;
	int err;

	if (!host_trap_info(fake.m, si, uc, &trap)) {
		if (plain_frozen)
			siglongjmp(plain_out, 2);
		_exit(93);
	}
	a32_add(&plain_traps, 1);
	if (sig == SIGSEGV)
		a32_add(&plain_segv, 1);
	err = plain_fault((trap.va - fake.u.start) >> PAGE_SHIFT, trap.write);
	if (err == -EACCES)
		siglongjmp(plain_out, 1);
	if (err && err != -EAGAIN)
		_exit(94);
}

static inline void plain_handlers(void)
{
	struct sigaction sa = { .sa_sigaction = plain_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	a32_set(&plain_segv, 0);
	a32_set(&plain_traps, 0);
	a32_set(&plain_stores, 0);
	plain_frozen = false;
	plain_impatient = false;
	if (!machine_has(fake.m, CAP_PLAIN)) {
		printf("skipped: no plain areas here\n");
		exit(77);
	}
}

/* What a store there comes to: 0 it went through, 1 the entry forbade it, 2 the host did. */
static inline int plain_try_store(u64 page, u64 value)
{
	int how;

	plain_frozen = true;
	how = sigsetjmp(plain_out, 1);
	if (!how)
		*fake_word(page) = value;
	plain_frozen = false;
	return how;
}

/* Host mappings inside the region, as the kernel tells. */
static inline u32 plain_kernel_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long long start, end;
	char line[512];
	u32 n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += sscanf(line, "%llx-%llx", &start, &end) == 2 && end > fake.u.start &&
		     start < fake.u.end;
	fclose(f);
	return n;
}

static inline struct host_counters plain_counters(void)
{
	struct host_counters c;

	host_counters(fake.m, &c);
	return c;
}

#endif
