/*
 * quire.h - Quire, a virtual-memory manager to link: the public interface.
 *
 * Restrictions, up front:
 *  - Linux on x86-64. The host machine needs userfaultfd (see `quire info`).
 *  - Managed memory lives in spaces; its pages are brought in by a SIGBUS handler that quire_open()
 *    installs (and that passes on what is not ours). SIGBUS must not be blocked in a thread that
 *    touches managed memory.
 *  - In a shareable area an access may also raise SIGSEGV, at a moment at which another thread's
 *    fault gives the page another place. quire_open() installs a handler for that, too; one that is
 *    installed after it asks quire_trap() first, and must not be blocked either.
 *  - A system call that is handed managed memory sees EFAULT or a short transfer where a page is
 *    not resident: pin the range for the duration (quire_pin).
 *  - After fork(), the child must call quire_forked_child() before it touches managed memory; use
 *    quire_fork_prepare() / quire_fork_done() around the fork when there are other threads.
 * Units: sizes and addresses are bytes; page means 4096 bytes. Ranges are [start, start + size).
 * Errors: functions that return int give 0 or a negative errno value; nothing has changed then
 * unless stated otherwise.
 * Locking: every function may be called from any thread, with no lock of Quire's held; not from a
 * signal handler unless it says so.
 */
#ifndef QUIRE_QUIRE_H
#define QUIRE_QUIRE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QUIRE_VERSION_MAJOR 0
#define QUIRE_VERSION_MINOR 1
#define QUIRE_VERSION_PATCH 0

/* An instance: its own memory budget, stores, statistics. Several may exist in one process. */
typedef struct quire quire_t;
/* An address space: a range of addresses of this process whose pages the instance manages. */
typedef struct quire_space quire_space_t;

enum quire_prot {
	QUIRE_PROT_NONE = 0,
	QUIRE_PROT_READ = 1,
	QUIRE_PROT_WRITE = 2,
	QUIRE_PROT_EXEC = 4
};

enum quire_map_flags {
	QUIRE_MAP_FIXED = 1,     /* exactly at the hint; replaces what is there */
	QUIRE_MAP_NOREPLACE = 2, /* exactly at the hint; -EEXIST if anything is there */
	QUIRE_MAP_POPULATE = 4,  /* resident at once, as far as the limit allows */
	QUIRE_MAP_LOCKED = 8,    /* as with mlock */
	QUIRE_MAP_FOREIGN =
		16, /* the range is given up to the caller, who maps something of his own there */
	QUIRE_MAP_SHAREABLE = 32, /* for quire_snapshot and quire_space_fork; see quire_map */
	QUIRE_MAP_SHARED = 64,    /* of an object: stores are the object's; see quire_map_object */
};

enum quire_sync_flags {
	QUIRE_SYNC_ASYNC = 1,      /* returns at once: dirty pages are written in time anyway */
	QUIRE_SYNC_INVALIDATE = 2, /* all mappings agree at any time: only checks for locks */
	QUIRE_SYNC_WAIT = 4
};

enum quire_snapshot_flags {
	QUIRE_SNAPSHOT_WRITE = 1 /* what may be written in the range may be in the snapshot */
};

enum quire_pin_flags {
	QUIRE_PIN_READ = 0,
	QUIRE_PIN_WRITE = 1,
	QUIRE_PIN_LONGTERM = 2 /* held for as long as the caller likes, not only for one call */
};

/* A page held by quire_pin_fast. */
typedef struct quire_page *quire_page_t;

/* A file, or memory by itself, that spaces can map; see quire_object_open. */
typedef struct quire_object quire_object_t;

enum quire_object_flags {
	QUIRE_OBJECT_CREATE = 1,   /* create the file if it is not there */
	QUIRE_OBJECT_TRUNCATE = 2, /* empty it */
	QUIRE_OBJECT_READONLY = 4  /* neither written nor mapped for shared writing */
};

/* A page on its way to a store or back: what quire_swap_hooks are told. */
struct quire_swapped_page {
	quire_space_t *space; /* NULL while the space is being destroyed */
	void *addr;
	uint64_t frame; /* the memory that has the bytes: of private areas addr / 4096; what several
			   addresses share has one */
	uint64_t slot;  /* its place outside memory: small numbers, used again */
};

/*
 * Metadata that the caller keeps for each page beside its bytes (tags, keys): saved when a page
 * leaves memory, restored before it is used again.
 *
 * Pages of objects (files, shared anonymous memory) have none.
 *
 * All are called with locks of Quire's held, also inside the SIGBUS handler of any thread: they use
 * memory that is there already, do not wait, touch no managed memory and call nothing of Quire.
 */
struct quire_swap_hooks {
	size_t size; /* sizeof(struct quire_swap_hooks) */
	/* The page is leaving: keep its metadata by slot. Nobody can store to it any more. Not 0:
	 * they cannot be kept; the page stays in memory, as it was. May come again for the same
	 * slot (what was kept is replaced), and for a page that stays in the end. */
	int (*save)(void *ctx, const struct quire_swapped_page *page);
	/* The page is back at addr, in this frame; nobody has used it yet. The slot keeps its
	 * metadata. Once for each mapping of a page that several spaces share. */
	void (*restore)(void *ctx, const struct quire_swapped_page *page);
	/* The slot is free: once for each slot for which save returned 0. */
	void (*drop)(void *ctx, uint64_t slot);
	/* The bytes of one frame were copied or moved to another. May be NULL. */
	void (*copy)(void *ctx, uint64_t to_frame, uint64_t from_frame);
};

#define QUIRE_NODES_MAX 8

/*
 * Memory of one kind: of a NUMA node, or simply a part of memory that is to be used last. Nodes are
 * numbered in the order in which they are given. A page is on one node; what is not used goes from
 * a node of a lower tier to one of a higher before it goes to a store, and comes back when it is
 * used again.
 */
struct quire_node {
	uint64_t bytes;   /* how much of it may be in use */
	int32_t physical; /* the NUMA node whose memory it is; -1: any */
	uint32_t tier;    /* 0: the fastest. Not lower than the node before it */
};

enum quire_policy {
	QUIRE_POLICY_DEFAULT = 0,    /* of a range: the space's; of a space: node 0 preferred */
	QUIRE_POLICY_PREFERRED = 1,  /* the first of the nodes, else the nearest with room */
	QUIRE_POLICY_BIND = 2,       /* the nodes only, while any page can be moved from them */
	QUIRE_POLICY_INTERLEAVE = 3, /* the nodes in turn, by blocks of 256 KiB */
	QUIRE_POLICY_WEIGHTED = 4    /* by chance, each as often as it is large */
};

struct quire_options {
	size_t size;        /* sizeof(struct quire_options): for later versions */
	uint64_t ram_bytes; /* bound on resident managed memory; 0: none */
	const char *swap;   /* stores, fastest first: "lz4[:CAP],zstd[:CAP],file:PATH[:SIZE]"; NULL:
			       "lz4" */
	uint32_t background;    /* 1: a thread evicts ahead of need */
	uint32_t handle_sigbus; /* 1: install the SIGBUS handler; 0: the caller calls quire_trap
				   from his own */
	uint64_t region_bytes;  /* size of the address range reserved per space; 0: the default */
	long (*syscall)(long nr, long a, long b, long c, long d, long e,
			long f); /* how to make system calls; NULL: directly */
	const struct quire_node *nodes; /* kinds of memory; NULL: one, without a bound of its own */
	uint32_t nr_nodes;              /* at most QUIRE_NODES_MAX */
};

struct quire_node_info {
	size_t size; /* in: sizeof(struct quire_node_info) */
	uint64_t bytes, used_bytes;
	int32_t physical; /* -1: memory of any kind */
	uint32_t tier;
	uint64_t balloon_bytes; /* out of use: quire_balloon */
	/* pages since the beginning: moved by age and use, and how often use was noticed here */
	uint64_t demoted_in, demoted_out, promoted_in, promoted_out, hint_faults;
	/* pages that were watched to see whether they are used, so often, and were */
	uint64_t watched, watched_used;
};

struct quire_stats {
	size_t size; /* in: sizeof(struct quire_stats); out: what was filled */
	uint64_t ram_limit_bytes, resident_bytes, resident_peak_bytes;
	uint64_t managed_bytes, managed_peak_bytes; /* mapped by the program */
	uint64_t metadata_bytes;                    /* Quire's own tables and records */
	uint64_t faults_minor, faults_major, faults_cow, faults_write_protect;
	uint64_t first_touch_pages;
	uint64_t swap_out_pages, swap_in_pages, swap_reused_pages, swap_same_pages,
		swap_readahead_pages;
	uint64_t swap_used_pages, swap_stored_bytes, swap_pool_bytes;
	uint64_t swap_write_errors, swap_read_errors;
	uint64_t migrated_pages, tlb_flushes, tlb_flushed_pages, splits_refused;
	uint64_t over_limit_pages, refaults, direct_reclaims, warnings, pins;
	uint64_t demoted_pages, promoted_pages, promotions_limited_pages, hint_faults;
};

struct quire_store_info {
	char name[128];
	uint64_t pages, stored_bytes, pool_bytes, cap_bytes, writes, reads, full, errors;
};

/**
 * quire_open - create an instance on the host machine.
 * @opt: options, or NULL for all defaults.
 * @out: receives the instance.
 * @msg: receives one line saying what is wrong on failure; may be NULL.
 * @msg_size: its size in bytes.
 *
 * With several nodes the bound on resident memory is the sum of their sizes, if ram_bytes is 0 or
 * more than that. The last one is used beyond its size when nothing can be evicted.
 *
 * Returns 0; -EINVAL for a bad option; -ENOSYS or -EPERM when userfaultfd is not to be had;
 * -ENOMEM; for a file store the error of opening it.
 */
int quire_open(const struct quire_options *opt, quire_t **out, char *msg, size_t msg_size);

/**
 * quire_close - destroy an instance and everything in it; its managed memory is unmapped.
 * @q: the instance; no other call on it may be in progress.
 */
void quire_close(quire_t *q);

/**
 * quire_space_create - create an address space.
 * @q: the instance.
 * @out: receives the space.
 *
 * Returns 0 or -ENOMEM.
 */
int quire_space_create(quire_t *q, quire_space_t **out);

/**
 * quire_space_destroy - unmap everything in a space and give its addresses back.
 * @s: the space; nobody may touch its memory any more.
 */
void quire_space_destroy(quire_space_t *s);

/**
 * quire_space_fork - create a second space with the contents of this one.
 * @s: the space.
 * @child: receives the new space.
 *
 * What fork(2) does between processes, inside one: both spaces share their pages until one of them
 * writes to a page, and what either writes the other does not see. The child's mappings lie at the
 * same distance from the start of its range (quire_space_range) as the parent's from theirs. Those
 * advised MADV_DONTFORK and foreign ones are left out, those advised MADV_WIPEONFORK are empty,
 * none is locked. Other threads may use the space meanwhile: the child has what was there at one
 * moment, the return of this call. The child is to be destroyed as any space, before its parent or
 * after it.
 *
 * Returns 0; -ENOMEM; -EOPNOTSUPP: there is a mapping that is not QUIRE_MAP_SHAREABLE and was not
 * advised away.
 */
int quire_space_fork(quire_space_t *s, quire_space_t **child);

/**
 * quire_space_range - the addresses that belong to a space.
 * @s: the space.
 * @start: receives the first address.
 * @size: receives the size in bytes.
 */
void quire_space_range(quire_space_t *s, uint64_t *start, uint64_t *size);

/**
 * quire_map - map private anonymous memory, zero on first touch; like mmap(2).
 * @s: the space.
 * @hint: wanted address, or NULL.
 * @size: bytes, rounded up to pages.
 * @prot: enum quire_prot bits.
 * @flags: enum quire_map_flags bits.
 * @out: receives the address.
 *
 * QUIRE_MAP_SHAREABLE: its pages can be shared with snapshots and forked spaces. A first touch and
 * eviction cost a little more than without. After fork(2) the mapping is the parent's alone: the
 * child finds nothing there.
 *
 * Returns 0; -EINVAL; -ENOMEM (no addresses, or too many areas); -EEXIST; -EOPNOTSUPP: shareable
 * memory is not to be had on this system.
 */
int quire_map(quire_space_t *s, void *hint, size_t size, int prot, int flags, void **out);

/**
 * quire_map_object - map pages of an object; like mmap(2) of a file.
 * @s: the space, of the object's instance.
 * @hint: wanted address, or NULL.
 * @size: bytes, rounded up to pages.
 * @prot: enum quire_prot bits.
 * @flags: enum quire_map_flags bits.
 * @o: the object; the mapping keeps it alive, so its handle may be closed.
 * @offset: where the mapping starts in the object; a multiple of the page size.
 * @out: receives the address.
 *
 * QUIRE_MAP_SHARED: all mappings of the object, in all spaces, and quire_object_read and
 * quire_object_write see what is stored; quire_sync makes it durable. Otherwise a page that is
 * written to is copied first, for this space alone; pages that have not been copied still show what
 * is stored to the object. An access to a page that lies wholly beyond the object's end raises
 * SIGBUS; one that is cut off by truncation loses its copies too. Bytes between the object's end
 * and the end of its last page read as zero, and are lost when they are written.
 *
 * After fork(2) the mapping is the parent's alone: the child finds nothing there. quire_space_fork
 * makes it the child space's too. quire_snapshot refuses it.
 *
 * Returns 0; -EINVAL; -EACCES: shared and writable, of an object that was opened for reading only;
 * -EOVERFLOW; -ENOMEM; -EEXIST; -EOPNOTSUPP: objects cannot be mapped on this system.
 */
int quire_map_object(quire_space_t *s, void *hint, size_t size, int prot, int flags,
		     quire_object_t *o, uint64_t offset, void **out);

/**
 * quire_sync - make what was stored in shared mappings durable; like msync(2).
 * @s: the space.
 * @addr: page aligned start.
 * @size: bytes, rounded up.
 * @flags: enum quire_sync_flags bits.
 *
 * Returns 0: what was stored through the mappings in the range before the call, by whomever, is in
 * their files and will be found there after a crash. -EINVAL; -ENOMEM: part of the range is not
 * mapped (the rest is done); -EBUSY: QUIRE_SYNC_INVALIDATE of locked memory; or the error of
 * writing: what could not be written is still dirty, and the call can be repeated.
 */
int quire_sync(quire_space_t *s, void *addr, size_t size, int flags);

/**
 * quire_unmap - remove all mappings in a range; like munmap(2).
 * @s: the space.
 * @addr: page aligned start.
 * @size: bytes, rounded up.
 *
 * Returns 0; -EINVAL; -ENOMEM when an area would have to be split and cannot.
 */
int quire_unmap(quire_space_t *s, void *addr, size_t size);

/**
 * quire_snapshot - a view of a range as it is at one moment, at another address of the same space.
 * @s: the space.
 * @addr: page aligned start.
 * @size: bytes, rounded up.
 * @flags: enum quire_snapshot_flags bits.
 * @out: receives the address of the view.
 *
 * That moment is the return of this call: stores that were made before it are in the view, later
 * ones are not. No page is copied now, but those that are pinned; one that is written in the range
 * afterwards (or in a writable view) is copied then, once. The range may consist of several
 * mappings, whose protections the view has, without the right to write unless QUIRE_SNAPSHOT_WRITE
 * is given. Threads that write to the range meanwhile wait until it is done. The view is a mapping
 * like any other: it may be protected, moved, evicted, or itself be the subject of a snapshot, and
 * stays until it is unmapped, even if the range is unmapped before.
 *
 * Returns 0; -EINVAL: unaligned or empty, or a mapping that is not QUIRE_MAP_SHAREABLE; -ENOMEM:
 * part of the range is not mapped, or no memory or addresses.
 */
int quire_snapshot(quire_space_t *s, const void *addr, size_t size, int flags, void **out);

/**
 * quire_protect - change what may be done with a range; like mprotect(2).
 * @s: the space.
 * @addr: page aligned start.
 * @size: bytes, rounded up.
 * @prot: enum quire_prot bits.
 *
 * Returns 0; -EINVAL; -ENOMEM when part of the range is not mapped or an area cannot be split.
 */
int quire_protect(quire_space_t *s, void *addr, size_t size, int prot);

/**
 * quire_advise - say how a range will be used; like madvise(2).
 * @s: the space.
 * @addr: page aligned start.
 * @size: bytes, rounded up.
 * @advice: an MADV_* value of Linux.
 *
 * Returns 0; -EINVAL for an unknown advice; -ENOMEM when part of the range is not mapped; what
 * population met (-EFAULT, -ENOMEM).
 */
int quire_advise(quire_space_t *s, void *addr, size_t size, int advice);

/**
 * quire_remap - resize or move a mapping; like mremap(2).
 * @s: the space.
 * @old_addr: page aligned start of the mapping.
 * @old_size: its size.
 * @new_size: the wanted size.
 * @flags: MREMAP_* bits of Linux.
 * @new_addr: the wanted address with MREMAP_FIXED (or MREMAP_DONTUNMAP), else ignored.
 * @out: receives the address.
 *
 * Returns 0; -EINVAL; -EFAULT; -ENOMEM.
 */
int quire_remap(quire_space_t *s, void *old_addr, size_t old_size, size_t new_size, int flags,
		void *new_addr, void **out);

/**
 * quire_mincore - which pages are resident; like mincore(2).
 * @s: the space.
 * @addr: page aligned start.
 * @size: bytes.
 * @vec: one byte a page, bit 0 set when resident.
 *
 * Returns 0; -EINVAL; -ENOMEM when part of the range is not mapped.
 */
int quire_mincore(quire_space_t *s, void *addr, size_t size, unsigned char *vec);

/**
 * quire_mlock - make a range resident and keep it so; like mlock2(2).
 * @s: the space.
 * @addr: start, rounded down.
 * @size: bytes, rounded up.
 * @onfault: not 0: lock pages only as they are touched.
 *
 * Returns 0; -ENOMEM.
 */
int quire_mlock(quire_space_t *s, void *addr, size_t size, int onfault);

/**
 * quire_munlock - the opposite of quire_mlock.
 * @s: the space.
 * @addr: start, rounded down.
 * @size: bytes, rounded up.
 *
 * Returns 0; -ENOMEM.
 */
int quire_munlock(quire_space_t *s, void *addr, size_t size);

/**
 * quire_pin - make a range resident and unmovable, for a system call or a device that will access
 * it.
 * @s: the space.
 * @addr: start, any alignment.
 * @size: bytes.
 * @flags: QUIRE_PIN_WRITE when the pages will be written.
 *
 * May be called from a SIGSYS handler. Returns the bytes from addr on that are pinned (up to the
 * end of a page, at most size);
 * -EFAULT when not even the first page can be accessed so; -EINVAL when it is not private memory
 * (quire_pin_fast); -ENOMEM.
 */
long quire_pin(quire_space_t *s, const void *addr, size_t size, int flags);

/**
 * quire_unpin - undo one quire_pin.
 * @s: the space.
 * @addr: as given to quire_pin.
 * @size: the number of bytes that quire_pin returned.
 */
void quire_unpin(quire_space_t *s, const void *addr, size_t size);

/**
 * quire_pin_fast - the same by pages, without a lock where they are there already; for areas of
 * every kind.
 * @s: the space.
 * @addr: start, any alignment.
 * @size: bytes.
 * @flags: QUIRE_PIN_* bits. What a page pinned with QUIRE_PIN_WRITE or QUIRE_PIN_LONGTERM shows is
 * what the program loads and stores, until it is unpinned; a page that the program has not written
 * yet may be pinned with QUIRE_PIN_READ alone as zeroes.
 * @pages: receives a handle for each page that the range touches.
 *
 * The bytes of a pinned page stay where they are: it is not evicted, moved, or shared (a fork or
 * snapshot copies it). Unmapping a private area still takes them away. May be called from a SIGSYS
 * handler. Returns the number of pages pinned from the first on; -EFAULT when not even that can be
 * accessed so; -EINVAL for unknown flags; -ENOMEM.
 */
long quire_pin_fast(quire_space_t *s, const void *addr, size_t size, int flags,
		    quire_page_t *pages);

/**
 * quire_page_data - where the bytes of a pinned page are.
 * @q: the instance.
 * @page: a page that is pinned.
 *
 * Returns the address of its first byte, which stays valid, for system calls too, until the page is
 * unpinned: of a private area its own address. Only what is pinned with QUIRE_PIN_WRITE may be
 * written there.
 */
void *quire_page_data(quire_t *q, quire_page_t page);

/**
 * quire_page_frame - which memory has the bytes of a pinned page.
 * @q: the instance.
 * @page: a page that is pinned.
 *
 * Returns the number by which quire_swap_hooks name it.
 */
uint64_t quire_page_frame(quire_t *q, quire_page_t page);

/**
 * quire_unpin_pages - undo quire_pin_fast.
 * @q: the instance.
 * @pages: the pages, in any order.
 * @n: how many.
 */
void quire_unpin_pages(quire_t *q, quire_page_t *pages, size_t n);

/**
 * quire_move_pages - move pages to a node; like move_pages(2).
 * @s: the space.
 * @n: how many.
 * @pages: their addresses, rounded down.
 * @node: the node.
 * @status: receives for each page the node that it is on when the call returns, or -ENOENT: there
 * is no page; -EFAULT: nothing is mapped there; -EBUSY: it is pinned, or in use in a way that keeps
 * it where it is; -ENOMEM: no room on the node.
 *
 * Pages that other addresses and spaces share move for all of them. Programs may use the pages
 * meanwhile. Where they stay is their age's and use's business afterwards.
 *
 * Returns 0, or -EINVAL: no such node.
 */
int quire_move_pages(quire_space_t *s, size_t n, void *const *pages, unsigned node, int *status);

/**
 * quire_set_policy - say on which nodes new pages are to be; like mbind(2) and set_mempolicy(2).
 * @s: the space.
 * @addr: page aligned start of a range; NULL with size 0: all mappings without a policy of their
 * own.
 * @size: bytes, rounded up.
 * @policy: enum quire_policy.
 * @nodes: a bit for each node; 0 for QUIRE_POLICY_DEFAULT.
 *
 * Pages that are there stay where they are.
 *
 * Returns 0; -EINVAL; -ENOMEM: part of the range is not mapped, or no memory.
 */
int quire_set_policy(quire_space_t *s, void *addr, size_t size, int policy, uint32_t nodes);

/**
 * quire_get_policy - what quire_set_policy said.
 * @s: the space.
 * @addr: an address of a mapping; NULL: of the space.
 * @policy: receives enum quire_policy.
 * @nodes: receives a bit for each node.
 *
 * Returns 0 or -EFAULT: nothing is mapped there.
 */
int quire_get_policy(quire_space_t *s, const void *addr, int *policy, uint32_t *nodes);

/**
 * quire_set_promotion - bound how much memory moves to faster nodes because it is used.
 * @q: the instance.
 * @bytes: a second; 0: none; UINT64_MAX: no bound. At first it is 256 MiB.
 */
void quire_set_promotion(quire_t *q, uint64_t bytes);

/**
 * quire_compact - make large pieces of a node's free memory, by moving what is in use together.
 * @q: the instance.
 * @node: its number.
 *
 * Concerns memory that can be shared between addresses (QUIRE_MAP_SHAREABLE, objects): private
 * mappings have none that could lie elsewhere.
 *
 * Returns 0; -EINVAL: no such node, or nothing of it can be moved.
 */
int quire_compact(quire_t *q, unsigned node);

/**
 * quire_balloon - take memory of a node out of use, or give it back.
 * @q: the instance.
 * @node: its number.
 * @pages: how many more are to be out of use; negative: how many fewer.
 *
 * What is out of use counts as resident, of no mapping: others make room for it, by moving to other
 * nodes and to the stores.
 *
 * Returns how many pages it was, fewer where nothing more can go (or is out of use); -EINVAL: no
 * such node.
 */
int64_t quire_balloon(quire_t *q, unsigned node, int64_t pages);

/**
 * quire_node_get - what one node holds, and what has moved.
 * @q: the instance.
 * @node: its number.
 * @out: receives it; size must be set.
 *
 * Returns 0; -ENOENT: there is no such node; -EINVAL.
 */
int quire_node_get(quire_t *q, unsigned node, struct quire_node_info *out);

/**
 * quire_object_open - open a file as an object whose pages the instance manages.
 * @q: the instance.
 * @path: a regular file.
 * @flags: enum quire_object_flags bits.
 * @out: receives the object.
 *
 * Pages are brought in when they are read or touched in a mapping, count towards the instance's
 * memory while they are there, and go when memory is needed; dirty ones are written to the file
 * before they go, by quire_object_sync, in the background some seconds after they became dirty if
 * the instance was opened with `background`, and at the latest when the object ends. All calls and
 * all mappings of one object see the same bytes. Others should leave the file alone meanwhile:
 * open a file once and share the object. After fork(2) an object is the parent's alone; the child's
 * calls on it return -EBADF.
 *
 * Returns 0; -EINVAL: bad arguments, or not a regular file; -EOPNOTSUPP: this system has no memory
 * that objects can use; -EFBIG; -ENOMEM; or the error of opening the file.
 */
int quire_object_open(quire_t *q, const char *path, int flags, quire_object_t **out);

/**
 * quire_object_create - create an object of zeroes that is backed by no file.
 * @q: the instance.
 * @size: bytes.
 * @out: receives the object.
 *
 * Its pages are paged to the instance's stores like private memory. It lives as long as its handle
 * or a mapping of it.
 *
 * Returns 0; -EINVAL; -EOPNOTSUPP: as above; -ENOMEM.
 */
int quire_object_create(quire_t *q, uint64_t size, quire_object_t **out);

/**
 * quire_object_close - give the handle back; mappings keep the object alive.
 * @o: the object.
 *
 * What is dirty is still written, but not waited for: call quire_object_sync first to know that it
 * is safe.
 *
 * Returns 0, or an error of earlier writing that no quire_object_sync by this handle has returned.
 * The handle is gone in both cases.
 */
int quire_object_close(quire_object_t *o);

/**
 * quire_object_size - the size of an object.
 * @o: the object.
 *
 * Returns its size in bytes.
 */
uint64_t quire_object_size(quire_object_t *o);

/**
 * quire_object_truncate - change the size of an object; like ftruncate(2).
 * @o: the object.
 * @size: the new size in bytes. What it gains reads as zero.
 *
 * When it returns, mappings of pages beyond the new size trap (SIGBUS), private copies of them too.
 * A page that is pinned stays with its pin, and is no longer the object's.
 *
 * Returns 0; -EACCES: read-only; -EFBIG; -ENOMEM; -EBADF; or what the file system gave. Nothing has
 * changed then.
 */
int quire_object_truncate(quire_object_t *o, uint64_t size);

/**
 * quire_object_punch - make a range read as zero; like fallocate(2) with FALLOC_FL_PUNCH_HOLE.
 * @o: the object.
 * @offset: start in bytes.
 * @size: bytes; what lies beyond the object's size is ignored.
 *
 * Private copies that mappings have made of the range stay.
 *
 * Returns 0; -EACCES; -ENOMEM; -EIO: part of a page at the edge could not be read; -EBADF; or what
 * the file system gave.
 */
int quire_object_punch(quire_object_t *o, uint64_t offset, uint64_t size);

/**
 * quire_object_sync - make what was written durable; like fsync(2).
 * @o: the object.
 * @offset: start in bytes.
 * @size: bytes; 0: to the end.
 *
 * All bytes of the range that were written before the call, by calls or through mappings, are in
 * the file, and the file on its disk, when it returns 0. An error of writing since the last call by
 * this handle is returned once, whoever met it; the pages are still dirty then and are tried again.
 * For an object without a file it does nothing.
 *
 * Returns 0; -EIO, -ENOSPC, or what else the file system gave; -EBADF.
 */
int quire_object_sync(quire_object_t *o, uint64_t offset, uint64_t size);

/**
 * quire_object_read - read from an object; like pread(2).
 * @o: the object.
 * @offset: start in bytes.
 * @buf: receives the bytes; may be managed memory, a mapping of the object too.
 * @size: bytes wanted.
 *
 * Returns the bytes read, fewer at the end of the object or before a page that cannot be read; or
 * -EIO, -ENOMEM, -EBADF if the first cannot be had.
 */
int64_t quire_object_read(quire_object_t *o, uint64_t offset, void *buf, size_t size);

/**
 * quire_object_write - write to an object; like pwrite(2).
 * @o: the object.
 * @offset: start in bytes; writing beyond the end makes it longer.
 * @buf: the bytes; may be managed memory, a mapping of the object too.
 * @size: bytes.
 *
 * Returns the bytes written, fewer when memory runs out; or -EACCES: read-only, -EFBIG, -EIO,
 * -ENOMEM, -EBADF if none.
 */
int64_t quire_object_write(quire_object_t *o, uint64_t offset, const void *buf, size_t size);

/**
 * quire_swap_hooks - have metadata saved and restored with each page that is swapped.
 * @q: the instance; no other thread uses it, and it has no space yet.
 * @hooks: what is to be called; copied.
 * @ctx: passed to each of them.
 *
 * Returns 0; -EINVAL when save, restore or drop is missing or the size is wrong; -EBUSY when there
 * is a space, or there are hooks already.
 */
int quire_swap_hooks(quire_t *q, const struct quire_swap_hooks *hooks, void *ctx);

/**
 * quire_trap - resolve an access that trapped; for callers with handlers of their own.
 * @q: the instance.
 * @addr: the address accessed (si_addr).
 * @write: not 0 for a store.
 *
 * For SIGBUS, and for SIGSEGV with the code SEGV_ACCERR.
 * Safe in a signal handler that blocks other signals. Returns 0: retry the access; -EFAULT: nothing
 * is mapped there (SIGSEGV, SEGV_MAPERR); -EACCES: not allowed (SEGV_ACCERR); -ENOMEM; -EIO: the
 * bytes are lost (SIGBUS); -ENOENT: not an address of this instance.
 */
int quire_trap(quire_t *q, const void *addr, int write);

/**
 * quire_owns - does an address range touch a space of the instance?
 * @q: the instance.
 * @addr: start.
 * @size: bytes.
 *
 * Safe in a signal handler. Returns 1 or 0.
 */
int quire_owns(quire_t *q, const void *addr, size_t size);

/**
 * quire_has_area - is any managed area mapped in a range?
 * @s: the space.
 * @addr: start.
 * @size: bytes.
 *
 * Returns 1 or 0.
 */
int quire_has_area(quire_space_t *s, const void *addr, size_t size);

/**
 * quire_fork_prepare - wait until no other thread is inside Quire and keep them out.
 * @q: the instance.
 */
void quire_fork_prepare(quire_t *q);

/**
 * quire_fork_done - in the parent, after fork: let the others in again.
 * @q: the instance.
 */
void quire_fork_done(quire_t *q);

/**
 * quire_forked_child - in the child, after fork: take over the copy of all managed memory. Pins of
 * threads that do not exist in the child must be undone by the caller.
 * @q: the instance.
 *
 * Returns 0, or the error that makes managed memory unusable in this child.
 */
int quire_forked_child(quire_t *q);

/**
 * quire_stats_get - read the counters.
 * @q: the instance.
 * @out: receives them; size must be set.
 *
 * Returns 0 or -EINVAL.
 */
int quire_stats_get(quire_t *q, struct quire_stats *out);

/**
 * quire_store_get - read what one swap store holds.
 * @q: the instance.
 * @index: 0 is the fastest.
 * @out: receives it.
 *
 * Returns 0, or -ENOENT when there is no such store.
 */
int quire_store_get(quire_t *q, unsigned index, struct quire_store_info *out);

/**
 * quire_set_ram - change the bound on resident managed memory; evicts down to it as far as
 * possible.
 * @q: the instance.
 * @bytes: the bound, 0 for none.
 *
 * Returns 0; -EBUSY when not everything above the bound could be evicted.
 */
int quire_set_ram(quire_t *q, uint64_t bytes);

/**
 * quire_check - verify every internal invariant; for tests, when no other call is in progress.
 * @q: the instance.
 *
 * Returns the number of broken invariants.
 */
uint64_t quire_check(quire_t *q);

#ifdef __cplusplus
}
#endif

#endif
