/*
 * host.h - the host machine: this process's own memory, managed through userfaultfd.
 *
 * A space is a reserved region of private anonymous memory, registered for missing and
 * write-protect faults with one userfaultfd in SIGBUS mode: whatever is not populated traps in the
 * thread that touches it. Frames are home frames (machine.h): pfn == address >> PAGE_SHIFT. The
 * kernel's page table is the TLB; the core's tables are the truth.
 *
 * Areas with plain frames lie in the same regions: there, a sparse memfd is mapped and registered
 * for minor faults as well (memfd.c, place.c, plain.c). One memfd serves all spaces of the machine.
 *
 * Memory nodes (struct host_config): with several, home frames can be parked and moved between
 * them (park.c, to_node.c), if the kernel moves pages (6.8). A node that is a NUMA node of the host
 * has its memory: frames by mbind, new home frames by the thread's memory policy. Another differs
 * from its fellows in nothing but its name.
 *
 * Capabilities: CAP_HOME | CAP_FLUSH_UNDER_LOCK | CAP_RANGE_FLUSH | CAP_AREA_PROTECT, and CAP_PLAIN
 * | CAP_PLACED where the kernel can (6.4), and CAP_PARK. No hardware accessed or dirty bits: a page
 * whose entry lacks DIRTY or WRITE is write-protected in the kernel's table.
 *
 * What the callers around the core must do:
 *  - SIGBUS: the handler calls host_fix_core_read(m, va) first (a core thread that reads a page
 *    that is dropped under it), then host_trap_info and m->trap. SIGBUS must not be blocked in
 *    threads that touch managed memory or read frames.
 *  - SIGSEGV: host_trap_info says whether a page of a plain area was only being placed at that
 *    moment; then m->trap, too.
 *  - fork: host_forked_child(m) in the child before any managed memory is touched there, with
 *    nobody inside the core at the time of the fork (base/gate.h). Plain areas are not handed down:
 *    the core still has entries there, which trap in vain (-ENOMEM) until it unmaps the areas.
 *  - somebody else's mapping inside a region (a file at a fixed address): the range is an area
 *    with PROT_BITS_FOREIGN: area_map BEFORE it is mapped over, and area_unmap after, which puts
 *    managed memory back. No call of the machine touches its pages in between, even inside a span
 *    that is released around them.
 *  - read_begin comes before the entries of the pages to be read are unmapped (or while they are
 *    still known to be readable): area_protect waits for brackets that are open, but a bracket
 *    that opens after an area became PROT_NONE finds its pages unreadable. Nothing that
 *    area_protect's caller holds (the space lock, an area's lock) may be waited for between
 *    read_begin and read_end. frame_window says NULL for a page whose area may not be read now
 *    (one that was unmapped before the protection came and is still to be written out): it stays
 *    where it is. Inside a bracket the answer stays true.
 *
 * Locking: see machine.h; create and host_forked_child run while one thread uses the machine; all
 * else is free to run concurrently.
 */
#ifndef QUIRE_MACHINE_HOST_HOST_H
#define QUIRE_MACHINE_HOST_HOST_H

#include "machine/machine.h"

#include <signal.h>
#include <ucontext.h>

#ifdef __SANITIZE_THREAD__ /* it knows shadow for a small part of the addresses only */
#define HOST_REGION_DEFAULT (16ull << 30)
#else
#define HOST_REGION_DEFAULT (8ull << 40)
#endif
#define HOST_REGION_MIN (1ull << 30)
#ifdef __SANITIZE_THREAD__
#define HOST_OVERFLOW_DEFAULT (1ull << 30)
#else
#define HOST_OVERFLOW_DEFAULT (64ull << 30)
#endif
#define HOST_FD_FLOOR 900

struct host_config {
	u64 region_bytes;     /* per space, a power of two; 0: HOST_REGION_DEFAULT */
	u64 region_min_bytes; /* give up below; 0: HOST_REGION_MIN */
	long (*syscall)(long nr,
			...); /* NULL: leave native_syscall as it is; else it is set to this */
	int fd_floor;         /* our descriptors are not below it if possible; 0: HOST_FD_FLOOR */
	bool no_move;         /* tests: do without UFFDIO_MOVE */
	bool no_vector;       /* tests: do without process_madvise */
	bool no_plain;        /* tests: no plain areas */
	u64 overflow_bytes;   /* plain frames that belong to no address; 0: HOST_OVERFLOW_DEFAULT */
	u32 max_mappings;     /* tests: bound on host mappings; 0: the system's, less a rest */
	u32 nr_nodes;         /* at most MACHINE_NODES; 0 means 1: no difference, and no CAP_PARK */
	struct host_node {
		u64 bytes;    /* how much of it may be in use: plain frames get at least as many
			       * numbers */
		int physical; /* the host's NUMA node whose memory it is; -1: any */
	} node[MACHINE_NODES];
};

/* cfg may be NULL. 0, or -errno with one line in msg: -ENOSYS, -EPERM: no userfaultfd, or no memory
 * policies; -EINVAL: a node that the host does not have; -ENOMEM. */
int must_check machine_host_create(const struct host_config *cfg, struct machine **out, char *msg,
				   size_t msg_size);

/* ---- the trap ---- */
struct host_trap {
	u64 va;
	bool write;
};
/* Is this SIGBUS or SIGSEGV a page fault in a region of m that is to be resolved? Safe in a signal
 * handler. */
bool host_trap_info(struct machine *m, const siginfo_t *si, const ucontext_t *uc,
		    struct host_trap *out);
/* True: a read of a frame by this thread between read_begin and read_end hit a page that was
 * dropped meanwhile; it reads as zeroes now and the access is to be retried. Safe in a signal
 * handler. */
bool must_check host_fix_core_read(struct machine *m, u64 va);
/* Does [va, va + size) touch a region? Lock-free. */
bool host_owns(struct machine *m, u64 va, u64 size);

/* ---- fork ---- */
/* In the child: takes over the kernel's copy of all regions. On failure managed memory is unusable
 * there. */
int must_check host_forked_child(struct machine *m);

/* ---- the operating system's view, for tests, reports and `quire info` ---- */
/* Pages that the kernel holds resident in the regions of m (its own count, not ours), at home or
 * parked, and all plain frames; pages kept for moves between nodes are left out, and foreign pages
 * are left out. -errno when it does not tell. */
s64 host_resident_pages(struct machine *m);
/* Home frames that the machine believes are populated, or parked. Exact at quiescence. */
u64 host_populated_pages(struct machine *m);

struct host_counters {
	u64 strays;     /* pages found present that should not have been */
	u64 boundaries; /* calls that met a boundary of host mappings */
	u64 core_reads_fixed;
	u64 mappings;         /* host mappings that the regions are made of now */
	u64 mappings_refused; /* area calls refused because of their limit */
	u64 move_copies;      /* pages moved by copying */
	u64 pages_placed;     /* pages of plain areas whose host mapping was changed */
	u64 places_refused;   /* and those where it was not: limit, no memory */
	u64 pool_pages;       /* free pages that are kept for moves between nodes */
};
void host_counters(struct machine *m, struct host_counters *out);

struct host_probe {
	int uffd;                 /* 0, or why there is none: -errno */
	bool uffd_user_mode_only; /* the unprivileged kind works */
	bool uffd_device;         /* /dev/userfaultfd can be opened */
	bool has_sigbus, has_wp, has_move, has_exact_address, has_minor_shmem;
	bool has_plain; /* plain areas are possible */
	u64 uffd_features;
	int sysctl_unprivileged; /* vm.unprivileged_userfaultfd; -1: unknown */
	bool syscall_user_dispatch;
	bool pagemap_scan;
	bool has_vector;       /* process_madvise(MADV_DONTNEED) of ourselves */
	int overcommit_memory; /* vm.overcommit_memory; -1: unknown */
	u64 max_map_count;
	u64 address_space_limit; /* RLIMIT_AS; ~0: none */
	u64 descriptor_limit;    /* RLIMIT_NOFILE */
	u64 memory_bytes;        /* MemTotal */
	unsigned nr_cpus;
	unsigned nr_numa_nodes;
	char thp[16];    /* always, madvise, never, or "" */
	char kernel[64]; /* release */
	char clocksource[32];
};
/* Never fails; needs no machine. */
void host_probe(struct host_probe *out);

#endif
