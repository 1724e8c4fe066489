/*
 * machine.h - the machine contract: what gives page-table entries a meaning.
 *
 * The core decides entries, folios and flushes; a machine makes them accessible memory. Two exist:
 * `sim` (simulated CPUs with TLBs that walk the core's tables) and `host` (this process's own
 * memory through userfaultfd, whose host page table plays the TLB).
 *
 * Pre- and postconditions, once for all calls:
 *  - addresses and sizes are page aligned unless said otherwise; nr > 0;
 *  - 0 is success, negative errno is failure; a failed call has changed nothing unless said
 *    otherwise;
 *  - calls may be made from a fault handler, with locks held unless said otherwise, and never call
 *    back into the core except through the trap, which is only raised by user accesses.
 *
 * Home frames (CAP_HOME): the frame of a page is the memory at its own address, pfn == va >> 12.
 *  - its bytes can be written only by fill_begin + entries_changed, and read through frame_window
 *    only between read_begin and read_end (a page that is dropped meanwhile reads as zeroes);
 *  - a NO_ACCESS flush or a release discards the bytes;
 *  - frames are exclusively owned while released: nobody else may fill the frame until release
 *    returned.
 *
 * Plain frames beside home frames (CAP_PLAIN, with CAP_HOME): areas with PROT_BITS_PLAIN map frames
 * from plain_base on, at any address and at several at once.
 *  - The frame that belongs to an address of such an area is plain_base + (va >> 12), and is memory
 *    of node 0; frames of node_span[i] belong to none, and are memory of node i. All exist without
 *    being asked for; one that was never filled, or was released, reads as zero (fill_zero costs no
 *    copy).
 *  - The core reads and writes their bytes through frame_window at any time, without brackets.
 *    What is written to a buffer of fill_begin is in the frames when entries_changed has got it as
 *    `fill`, which is cheapest, or when fill_end returned 0.
 *  - A flush never touches their bytes; only a release does. Nothing maps a frame that is released.
 *  - entries_changed installs what the machine does not have yet, so it need not follow the setting
 *    of an entry at once: a spurious fault (force) or a later call without force does as well, for
 *    neighbours too.
 *  - An entry changes from one frame to another only by clear, flush (NO_ACCESS), set.
 *  - CAP_PLACED: runs of pages whose frames are not as consecutive as area_map said cost host
 *    mappings, of which there is a limit: entries_changed says -ENOSPC, and nothing is installed.
 *
 * Nodes (nr_nodes > 1): kinds of memory that differ in what an access costs. A plain frame's number
 * says which one it is of. A home frame's is the one that frames_to_node named last; at first, that
 * of prefer_node.
 *  - CAP_PARK: a home frame can be parked: its bytes are kept where no access reaches them, until
 *    entries_changed makes it accessible, a fill replaces them, or a release or a NO_ACCESS flush
 *    discards them. frame_window shows them as always. The core sees to it that nobody else changes
 *    the entries of what it parks, and that none of them is PRESENT.
 *
 * The two strengths of a flush (what is true when tlb_flush returns):
 *  - FLUSH_NO_STORE: no store gets through an old translation any more. Loads may still see the old
 *    bytes.
 *    Enough before a page is copied out: its bytes do not change until the frame is released.
 *  - FLUSH_NO_ACCESS: no access at all gets through an old translation.
 * A release implies NO_ACCESS for the frame. With CAP_FLUSH_UNDER_LOCK, flushes that follow
 * clearing or downgrading entries are issued before the entry lock is dropped (the flush is not
 * harmless to a newer translation there).
 *
 * Locking: entries_changed is called with the entry lock of the entries held; frames_release with
 * the frames at reference count 0 and not yet allocatable; area calls with the space lock held for
 * writing.
 */
#ifndef QUIRE_MACHINE_MACHINE_H
#define QUIRE_MACHINE_MACHINE_H

#include "base/atomic.h"
#include "base/types.h"
#include "machine/entry.h"

enum machine_caps {
	CAP_HOME = BIT(0),             /* private pages live in home frames */
	CAP_FLUSH_UNDER_LOCK = BIT(1), /* see above */
	CAP_HW_AD = BIT(2),        /* the machine sets ACCESSED and DIRTY in entries by itself */
	CAP_ZERO_PAGE = BIT(3),    /* read faults may map the shared zero page (SPECIAL entries) */
	CAP_HUGE = BIT(4),         /* leaf entries at PMD level */
	CAP_RANGE_FLUSH = BIT(5),  /* flushes less than everything */
	CAP_AREA_PROTECT = BIT(6), /* area_protect itself enforces protection (and flushes) */
	CAP_PLAIN = BIT(7),        /* with CAP_HOME: areas with plain frames too; see below */
	CAP_PLACED = BIT(8),       /* plain frames away from their address's own place cost more */
	CAP_PARK = BIT(9),         /* with CAP_HOME: home frames can be parked; see below */
};
/* Without CAP_HW_AD the machine traps the first store to a page whose entry lacks DIRTY or WRITE:
 * the core never sets WRITE without DIRTY then. */

enum access {
	ACCESS_READ = 0,
	ACCESS_WRITE = BIT(0),
	ACCESS_EXEC = BIT(1),
	ACCESS_REMOTE = BIT(
		2), /* by the core on somebody's behalf (pin, populate), not by a trapped access */
	ACCESS_FORCE =
		BIT(4), /* whatever the area forbids: the core moves a page on behalf of nobody */
	ACCESS_POPULATE = BIT(7), /* with WRITE: but nothing that is shared is to become dirty */
	ACCESS_UNSHARE = BIT(5),  /* the page is to be exclusive, though it is only read (pins) */
	ACCESS_LONGTERM = BIT(6), /* a pin that stays: also of what is shared by all (zeroes) */
	ACCESS_SPURIOUS = BIT(3), /* the same access trapped again: reinstall the translation */
};

enum flush_strength { FLUSH_NO_STORE = 1, FLUSH_NO_ACCESS = 2 };

struct tlb_range {
	u64 start;
	u64 end; /* start == 0 && end == ~0: the whole space */
	enum flush_strength strength;
	bool pmd_level;    /* some cleared entries were PMD leaves */
	bool tables_freed; /* tables will be freed: paging-structure caches too */
};

struct machine;
struct mspace; /* the machine's side of one address space */

struct machine_file_ops; /* see below */

/* How the trap is raised: 0 = retry the access; -EFAULT nothing mapped there; -EACCES protection;
 * -ENOMEM; -EIO lost data, -ENXIO beyond the end of an object (both SIGBUS). `ctx` is what
 * space_create was given. */
typedef int (*machine_trap_fn)(void *ctx, u64 va, u32 access);

/* Frames pfn .. pfn + nr - 1. */
struct frame_span {
	u64 pfn;
	u32 nr;
};

struct machine_ops {
	const char *name;

	/* ---- frames ---- */
	/* Where the core reads (non-home: and writes) the bytes of frame pfn; contiguous for an
	 * aligned run inside one 2 MiB block. NULL (home frames): the area may not be read now;
	 * inside
	 * a read bracket the answer stays true. Ask per page: a large folio may span areas. */
	void *(*frame_window)(struct machine *m, u64 pfn);
	/* A buffer for the new bytes of nr (<= 512) frames from pfn on; it is the frame itself
	 * where that can be written directly. Contents undefined. NULL: no memory. Owned by the
	 * caller until fill_end. */
	void *(*fill_begin)(struct machine *m, u64 pfn, u32 nr);
	/* 0, or -ENOMEM: plain frames did not get the bytes. Home frames never get them here. */
	int (*fill_end)(struct machine *m, u64 pfn, u32 nr, void *buf);
	/* Bracket for reads of home frames: protection of the area against reading waits for it. */
	void (*read_begin)(struct machine *m);
	void (*read_end)(struct machine *m);
	/* Give the bytes of n spans of frames back, all of them exclusively owned by the caller or
	 * claimed holes. One call for many, because each may interrupt every other processor. */
	void (*frames_release)(struct machine *m, const struct frame_span *spans, u32 n);
	/* Move the bytes of nr frames to other frames (home frames: dst not populated). On failure
	 * the source is intact. Source frames are left released. */
	int (*frames_move)(struct machine *m, u64 dst_pfn, u64 src_pfn, u32 nr);

	/* Copy the bytes of nr (<= 512) frames to others, all plain, which the core owns. NULL:
	 * there is no better way than through the window. */
	int (*frames_copy)(struct machine *m, u64 dst_pfn, u64 src_pfn, u32 nr);

	/* CAP_PARK; NULL elsewhere. Home frames [pfn, pfn + nr), nr <= 512: those that hold bytes
	 * are parked when it returns 0. -ENOMEM: some are, and none has lost its bytes. LOCKING:
	 * the entry
	 * locks of their pages, or the frames are the caller's alone. */
	int (*frames_park)(struct machine *m, u64 pfn, u32 nr);
	/* The same, and their bytes are in memory of node `to` now, not of `from`. -ENOMEM: they
	 * are where they were, though perhaps parked. */
	int (*frames_to_node)(struct machine *m, u64 pfn, u32 nr, unsigned from, unsigned to);
	/* New home frames that the calling thread has made accessible are memory of this node until
	 * it says another one. NULL: no difference. */
	void (*prefer_node)(struct machine *m, unsigned node);

	/* ---- translations ---- */
	/* nr consecutive leaf entries (level 0: 4 KiB, 1: 2 MiB each) at va now hold
	 * entries[0..nr): make them usable. `fill`: the frames' new bytes (from fill_begin; the
	 * frames' older bytes, if any, are void), or NULL when the frames hold their bytes already;
	 * `fill_zero` instead: the new bytes are zero. Also called when a present entry's bits were
	 * raised (write enabled). With `force`, every page's state is set anew even where the
	 * machine believes it is right already (spurious fault). -ENOMEM/-EAGAIN: nothing is
	 * installed. -ENOSPC (CAP_PLACED): these frames cannot be mapped here. */
	int (*entries_changed)(struct machine *m, struct mspace *s, u64 va, const u64 *entries,
			       u32 nr, unsigned level, const void *fill, bool fill_zero,
			       bool force);
	void (*tlb_flush)(struct machine *m, struct mspace *s, const struct tlb_range *r);
	/* Returns after every lockless table walk that began before the call has ended. */
	void (*sync_lockless_walkers)(struct machine *m);

	/* ---- spaces and areas ---- */
	/* `root`: the top table (PTRS_PER_TABLE words). On success *out and the addresses usable
	 * for areas in *usable (host: a reserved region; accesses in it that hit no area raise the
	 * trap). Without CAP_HOME all spaces have the same: they are forked to the same addresses.
	 */
	int (*space_create)(struct machine *m, a64_t *root, void *trap_ctx, struct mspace **out,
			    struct range *usable);
	void (*space_destroy)(struct machine *m, struct mspace *s);
	/* An area came, changed protection (PROT_* bits as in mman.h), or went. area_protect with
	 * CAP_AREA_PROTECT: when it returns no access beyond prot gets through. -ENOMEM: a limit of
	 * host mappings would be exceeded. area_map: new area, nothing populated. area_unmap:
	 * already zapped. With prot PROT_BITS_FOREIGN: the addresses become somebody else's (map),
	 * or are to be managed again (unmap). With PROT_BITS_PLAIN: see the top; `pfn` is the frame
	 * that the first page will mostly have, its neighbours follow (a hint, but a wrong one
	 * makes every page cost host mappings); ignored without CAP_PLACED. */
	int (*area_map)(struct machine *m, struct mspace *s, struct range r, unsigned prot,
			u64 pfn);
	int (*area_protect)(struct machine *m, struct mspace *s, struct range r, unsigned old_prot,
			    unsigned prot);
	/* CAP_PLACED: r, which lies in one table and in one area, shows the frames from pfn on
	 * again, as area_map said, and nothing of it is populated; entries may be present all the
	 * same. On failure some of it is as before. LOCKING: entry lock. NULL: entries_changed
	 * never says -ENOSPC. */
	int (*area_reset)(struct machine *m, struct mspace *s, struct range r, u64 pfn);
	void (*area_unmap)(struct machine *m, struct mspace *s, struct range r, unsigned prot);

	/* ---- time, chance, threads ---- */
	u64 (*now_ns)(struct machine *m);
	u64 (*random)(struct machine *m);
	unsigned (*nr_cpus)(struct machine *m);
	void (*sleep_ns)(struct machine *m, u64 ns);
	/* A thread of the core's own (background reclaim, write-back). Signals blocked, not
	 * managed. */
	int (*thread_start)(struct machine *m, void (*fn)(void *arg), void *arg, void **handle);
	/* Waits for its end; the caller has told it to stop. */
	void (*thread_join)(struct machine *m, void *handle);

	/* ---- memory for the arena and for pools: private, never managed, zeroed ---- */
	void *(*mem_map)(struct machine *m, size_t bytes);
	void (*mem_unmap)(struct machine *m, void *addr, size_t bytes);
	/* The pages go back, the addresses stay and read as zero. */
	void (*mem_discard)(struct machine *m, void *addr, size_t bytes);

	/* ---- files for swap stores; offsets and sizes multiples of PAGE_SIZE ---- */
	/* Opens or creates `path`, not inherited by exec, unlinked at once if created. >= 0 handle
	 * or -errno. *size: in: wanted bytes (0: what is there); out: usable bytes. */
	int (*file_open)(struct machine *m, const char *path, u64 *size);
	void (*file_close)(struct machine *m, int h);
	/* Whole transfers or -errno; interrupted and short transfers are continued inside. */
	int (*file_read)(struct machine *m, int h, void *buf, u64 bytes, u64 offset);
	int (*file_write)(struct machine *m, int h, const void *buf, u64 bytes, u64 offset);
	void (*file_punch)(struct machine *m, int h, u64 bytes, u64 offset);

	/* ---- somebody's own files (objects); any offset and size ---- */
	/* Opens the regular file `path`, not inherited by exec. *size receives its bytes. >= 0
	 * handle or -errno. file_close, file_read (below the size) and file_write as above. */
	int (*file_attach)(struct machine *m, const char *path, u32 flags, u64 *size);
	/* What a longer file gains reads as zero. */
	int (*file_resize)(struct machine *m, int h, u64 size);
	/* The range, below the size, reads as zero from now on. */
	int (*file_zero)(struct machine *m, int h, u64 bytes, u64 offset);
	/* What was written, and the size, survive the system's end when it returns 0. */
	int (*file_sync)(struct machine *m, int h);

	void (*destroy)(struct machine *m);
};

enum machine_file_flag {
	FILE_CREATE = BIT(0),   /* if it is not there */
	FILE_TRUNCATE = BIT(1), /* to nothing */
	FILE_READONLY = BIT(2),
};

#define MACHINE_NODES 8

struct machine {
	const struct machine_ops *ops; /* (C) */
	u32 caps;                      /* (C) */
	machine_trap_fn trap;          /* (C) set by the core before the first space_create */
	struct inject *inject;         /* (C) may be NULL */
	u64 plain_base; /* (C) frame numbers from here on are plain; 0: no such rule */
	u32 nr_nodes;   /* (C) 0 means 1 */
	struct frame_span node_span[MACHINE_NODES]; /* (C) plain frames that belong to no address */
};

/* Release of one span. */
static inline void machine_release(struct machine *m, u64 pfn, u32 nr)
{
	struct frame_span span = { pfn, nr };

	m->ops->frames_release(m, &span, 1);
}

static inline bool machine_has(const struct machine *m, u32 cap)
{
	return m->caps & cap;
}

/* Is it the memory at its own address? */
static inline bool frame_is_home(const struct machine *m, u64 pfn)
{
	return machine_has(m, CAP_HOME) && (!m->plain_base || pfn < m->plain_base);
}

#define PROT_BITS_READ    1u
#define PROT_BITS_WRITE   2u
#define PROT_BITS_EXEC    4u
#define PROT_BITS_FOREIGN 8u
#define PROT_BITS_PLAIN   16u /* with the others: an area with plain frames, beside home frames */

#endif
