/*
 * host_internal.h - what the host machine's files share: the machine, regions, page states.
 *
 * Page state: two bits a page, POPULATED and PROTECTED, 32 pages to a word (low half populated,
 * high half protected), in one flat, sparsely touched array per region:
 *  - 0 0 ABSENT: the kernel has no page; accesses trap;
 *  - 1 0 WRITABLE: stores go through;
 *  - 1 1 PROTECTED: loads go through, stores trap;
 *  - 0 1 BUSY: ours to keep off: a foreign mapping, or a core read being fixed.
 * In plain areas they say what translations there are, and nothing of the bytes.
 *
 * Who may change a page's state: the holder of its entry lock or the exclusive owner of its home
 * frame (machine.h), so there is one at a time per page; a word is shared by 32 pages and changes
 * atomically. The only outsider is host_fix_core_read, which takes ABSENT pages through BUSY
 * (trap.c). Order: a state says WRITABLE only if stores may go through, and says PROTECTED only
 * after the kernel has protected; POPULATED is cleared BEFORE the kernel drops the page, so that a
 * core read that is fixed in between is recorded as populated again and never forgotten. So ABSENT
 * does not prove that the page is gone: mspace.dropping says whether somebody is between the two,
 * and host_empty looks at it.
 *
 * Parked pages (park.c): a word a page, `park`, says where the bytes of a page are that no access
 * reaches: in the region's shadow or in a slot. It is changed by whoever may change the page's
 * state, and taken (exchanged) by who drops the page. Order: a page's state is ABSENT before the
 * kernel moves it away, and its word is set when it has; coming home the state is set first, and
 * the word is cleared last. So a word that is set wins over whatever the state says, which may then
 * speak of a page of zeroes that a core read left at home, or of a page that is arriving.
 *
 * Locking letters: (A) atomic, (C) constant after creation (or after fork, in the child), (M) the
 * region mutex `lock` (LOCK_MACHINE), (1) only while one thread uses the machine.
 */
#ifndef QUIRE_MACHINE_HOST_INTERNAL_H
#define QUIRE_MACHINE_HOST_INTERNAL_H

#include "base/assert.h"
#include "base/inject.h"
#include "base/lock.h"
#include "base/thread.h"
#include "machine/host/host.h"
#include "machine/host/uffd_abi.h"
#include "machine/native/native.h"

#include <sys/syscall.h>
#include <sys/uio.h>

/* Regions start at multiples of this, so that an address finds its region by one table look-up. */
#define REGION_GRANULE_SHIFT 30
#define REGION_GRANULE       BIT(REGION_GRANULE_SHIFT)
#define REGION_SLOTS         BIT(47 - REGION_GRANULE_SHIFT)

#define WORD_PAGES      32u
#define POP_MASK        0xffffffffull
#define STATE_ABSENT    0ull
#define STATE_WRITABLE  1ull
#define STATE_BUSY      BIT(32)
#define STATE_PROTECTED (STATE_WRITABLE | STATE_BUSY)

/* One bit of `touched` stands for this many pages: a page of state words. */
#define TOUCH_PAGES (WORD_PAGES * (PAGE_SIZE / sizeof(u64)))

#define DROP_BLOCKS 64u /* bits of a word */

#define ZERO_PAGES     512u
#define STAGE_SMALL    64u
#define STAGE_LARGE    512u
#define NR_STAGE_SMALL 256u
#define NR_STAGE_LARGE 32u

#define PROT_RW (PROT_BITS_READ | PROT_BITS_WRITE)

/* A part of a region whose host mapping is not plain read-write managed memory. */
struct extent {
	u64 start;
	u64 end;
	u32 prot; /* PROT_BITS_*, or PROT_BITS_FOREIGN */
};

struct mspace {
	struct host *h; /* (C) */
	struct range r; /* (C) */
	a64_t *root;    /* (C) the core's top table, or NULL; read by debug checks only */
	a64_t *state;   /* (C) words (A) */
	a64_t *touched; /* (C) words (A): which pages of `state` were ever used */
	struct mutex lock;
	struct extent *ext; /* (C) array, elements (M): sorted, disjoint, coalesced */
	u32 nr_ext;         /* (M) */
	a32_t any_ext;      /* 0: the region is plain, and the kernel has been told so */
	u32 cap_ext;        /* (C) */
	u32 nr_mappings;    /* (M) host mappings that the region is made of */
	aptr_t next;        /* (A) in host.spaces */
	u64 shadow;         /* (C) distance of a page's address for parking */
	a32_t *park;        /* (C) words (A): PARK_*; NULL: no CAP_PARK */
	a64_t nr_parked;
	aptr_t place; /* (A) words that say what plain areas show (place.c); NULL: there are none */
	u64 plain_first; /* (M) pages [plain_first, plain_last) hold all that ever were plain */
	u64 plain_last;  /* (M) */
	u64 nr_broken;   /* (M) pages whose place is PLACE_BROKEN */
	/* Drops under way, by 2 MiB block modulo DROP_BLOCKS: there states may say ABSENT of pages
	 * that the kernel still has. Own lines. */
	a32_t dropping[DROP_BLOCKS] cacheline_aligned;
};

struct read_slot {
	a32_t readers;
} cacheline_aligned;

struct stage_cpu {
	a64_t head[2]; /* index + 1 in the low half, a tag against reuse in the high half */
} cacheline_aligned;

/* ---- memory nodes ---- */
#define POOL_SLOTS    32768u /* of a node */
#define POOL_WORDS    (POOL_SLOTS / 64)
#define POOL_PAGES    1024u /* of a node, that nobody uses and that are not given back */
#define POOL_RESTING  8192u /* slots in use, above which parked bytes go to the shadow */
#define POLICY_NODES  1024l /* that the kernel may know */
#define HOST_POLICIES 16u

/* A thread's memory policy. */
struct host_policy {
	int mode;
	u64 mask[POLICY_NODES / 64];
};

/* See slots.c. (P): its lock. */
struct slot_pool {
	struct mutex lock;     /* LOCK_MACHINE */
	u32 words;             /* (P) of the bitmaps; behind them all is empty */
	u32 nr_full;           /* (P) */
	u32 nr_stale;          /* (P) */
	u32 nr_claimed;        /* (P) and stale */
	u64 taken[POOL_WORDS]; /* (P) not empty */
	u64 full[POOL_WORDS];  /* (P) */
	u64 stale[POOL_WORDS]; /* (P) */
} cacheline_aligned;

struct host {
	struct machine m;       /* first */
	struct machine_ops ops; /* (C) what there is here */
	int fd;                 /* (1) userfaultfd */
	bool has_move;          /* (C) */
	bool has_vector;        /* (C) process_madvise(MADV_DONTNEED) of ourselves works */
	u64 features;           /* (C) asked for again in a forked child */
	int fd_floor;           /* (C) */
	u64 region_bytes;       /* (C) */
	u64 region_min_bytes;   /* (C) */
	u32 max_mappings;       /* (C) */
	a64_t mappings;         /* host mappings that all regions are made of */
	unsigned nr_cpus;       /* (C) */
	bool vdso_clock;        /* (C) */
	const char *zeroes;     /* (C) ZERO_PAGES of the kernel's zero page */
	aptr_t *region;         /* (C) REGION_SLOTS of struct mspace *, (A) */
	struct mutex lock;      /* LOCK_MACHINE: the list of spaces */
	aptr_t spaces;          /* (A) list, changed under `lock` */

	struct read_slot readers[MAX_CPUS];
	a32_t barrier; /* 1: new readers wait; 2: and somebody sleeps */
	a32_t drained; /* the one who waits for readers sleeps here */

	a32_t fixing; /* a core read is being fixed (trap.c) */

	a64_t *window; /* (C) REGION_SLOTS addresses, (A), set under `lock`; NULL: no CAP_PLAIN */
	a32_t memfd;   /* (A) descriptor + 1, set under `lock`; 0: none yet */
	struct range
		overflow[MACHINE_NODES]; /* (C) frames of each node that belong to no address */
	int physical[MACHINE_NODES];     /* (C) NUMA nodes of the host; -1: any memory */
	bool has_physical;               /* (C) */
	bool has_vm_copy;                /* (C) the kernel copies between addresses */
	a32_t pid;                       /* (A) */
	u64 slots;                       /* (C) address of all pools; 0: no CAP_PARK */
	struct slot_pool pool[MACHINE_NODES];
	struct host_policy policy[HOST_POLICIES]; /* elements below nr_policies (C) */
	u32 nr_policies;                          /* under `lock` */

	char *stage;         /* (C) the staging buffers */
	a32_t *stage_next;   /* (C) links of the free lists, (A) */
	a32_t stage_made[2]; /* buffers ever handed out */
	/* Pages of a buffer that are in their frames already. Owned by the buffer's owner. */
	u64 stage_taken[NR_STAGE_SMALL + NR_STAGE_LARGE][STAGE_LARGE / 64];
	struct stage_cpu stage_cpu[MAX_CPUS];

	a64_t rng;
	struct {
		a64_t strays;
		a64_t boundaries;
		a64_t core_reads_fixed;
		a64_t mappings_refused;
		a64_t move_copies;
		a64_t pages_placed;
		a64_t places_refused;
	} count;
};

static inline struct host *host_of(struct machine *m)
{
	return container_of(m, struct host, m);
}

static inline long sys_madvise(u64 va, u64 size, int advice)
{
	return native_syscall(SYS_madvise, va, size, (long)advice);
}

/* ---- page numbers inside a region ---- */
static inline u64 page_of(const struct mspace *s, u64 va)
{
	return (va - s->r.start) >> PAGE_SHIFT;
}

static inline u64 va_of(const struct mspace *s, u64 page)
{
	return s->r.start + (page << PAGE_SHIFT);
}

static inline struct mspace *host_space_at(struct host *h, u64 va)
{
	u64 slot = va >> REGION_GRANULE_SHIFT;

	return slot < REGION_SLOTS ? aptr_read_acquire(&h->region[slot]) : NULL;
}

/* Read-only or not yet dirty: the first store is to trap. */
static inline bool entry_wants_protection(u64 entry)
{
	return (entry & (ENTRY_WRITE | ENTRY_DIRTY)) != (ENTRY_WRITE | ENTRY_DIRTY);
}

/* ---- plain frames: memfd.c, place.c, plain.c ---- */
#define PLAIN_BASE   BIT(35) /* addresses have 47 bits */
#define PLACE_DETAIL BIT(63)
#define PLACE_BROKEN BIT(62)

/* The frame that belongs to an address, and where a frame lies in the memfd. */
static inline u64 plain_frame(u64 va)
{
	return PLAIN_BASE + (va >> PAGE_SHIFT);
}

static inline u64 plain_offset(u64 pfn)
{
	return (pfn - PLAIN_BASE) << PAGE_SHIFT;
}

static inline int memfd_of(struct host *h)
{
	return (int)a32_read_acquire(&h->memfd) - 1;
}

static inline void *plain_window(struct host *h, u64 pfn)
{
	u64 offset = plain_offset(pfn);
	u64 at = a64_read_acquire(&h->window[offset >> REGION_GRANULE_SHIFT]);

	return at ? (void *)(uintptr_t)(at + offset % REGION_GRANULE) : NULL;
}

void plain_init(struct host *h, u64 offered, const struct host_config *cfg);
void plain_fini(struct host *h);
int must_check plain_prepare(struct host *h, struct mspace *s);
void plain_forked_child(struct host *h);
long memfd_map(struct host *h, u64 va, u64 size, u64 pfn, int prot);
int must_check plain_write(struct host *h, u64 pfn, const void *from, u32 nr);
void *plain_fill_begin(struct host *h, u64 pfn, u32 nr);
int must_check plain_fill_end(struct host *h, u64 pfn, u32 nr, void *buf);
void plain_release(struct host *h, u64 pfn, u64 nr);
int host_frames_copy(struct machine *m, u64 dst_pfn, u64 src_pfn, u32 nr);
int must_check plain_move(struct host *h, u64 dst, u64 src, u32 nr);
s64 plain_resident_pages(struct host *h);

static inline a64_t *place_word(const struct mspace *s, a64_t *blocks, u64 page)
{
	return blocks + (range_size(s->r) >> PAGE_SHIFT) / PTRS_PER_TABLE + page;
}

/* The frame that the page's host mapping shows; 0: it is not plain. LOCKING: the page's entry lock,
 * its space for writing, or (M). */
static inline u64 place_of(const struct mspace *s, u64 page)
{
	a64_t *blocks = aptr_read_acquire((aptr_t *)(uintptr_t)&s->place);
	u64 word;

	if (!blocks)
		return 0;
	word = a64_read_acquire(&blocks[page / PTRS_PER_TABLE]);
	if (word & PLACE_DETAIL)
		return a64_read(place_word(s, blocks, page));
	return word ? word + page % PTRS_PER_TABLE : 0;
}

size_t place_bytes(u64 region);
/* Does the page show anything but the frame after its predecessor's? LOCKING: (M) */
bool place_breaks_at(const struct mspace *s, u64 page);
/* The next run of plain pages in [*first, *last). LOCKING: (M) */
bool place_next(struct mspace *s, u64 *first, u64 *last);
/* r, ordinary so far, becomes a plain area. On failure it is as before or broken. LOCKING: (M) */
int must_check place_area(struct mspace *s, struct range r, u64 pfn, u32 prot);
/* What of r is plain becomes ordinary. LOCKING: (M) */
int must_check place_gone(struct mspace *s, struct range r);
/* Before and after r gets another protection: what is broken in it must not become accessible
 * unregistered, and is whole then. LOCKING: (M) */
int must_check place_mend(struct mspace *s, struct range r);
void place_mended(struct mspace *s, struct range r);
/* [first, last), nothing of which is populated, shows frames from pfn on. -ENOSPC: too many host
 * mappings. LOCKING: entry lock. */
int must_check place_move(struct mspace *s, u64 first, u64 last, u64 pfn);
/* Was an access refused natively only because the page was being placed? Safe in a signal handler.
 */
bool place_denied(struct mspace *s, u64 va, bool write);
int must_check place_forked_child(struct mspace *s);
int must_check plain_entries_changed(struct mspace *s, u64 page, const u64 *entries, u32 nr,
				     const void *fill, bool fill_zero, bool force);

/* ---- state.c ---- */
/* The pages of [first, last) that lie in the word of `first`, as bits of the low half. */
static inline u64 word_mask(u64 first, u64 last)
{
	u64 from = first % WORD_PAGES;
	u64 to = min(from + (last - first), (u64)WORD_PAGES);

	return ((1ull << to) - 1) & ~((1ull << from) - 1);
}

static inline u64 state_of(const struct mspace *s, u64 page)
{
	return (a64_read(&s->state[page / WORD_PAGES]) >> (page % WORD_PAGES)) & STATE_PROTECTED;
}

/* All pages of [first, last) get this state. */
void state_set(struct mspace *s, u64 first, u64 last, u64 state);
/* One page from `from` to `to`; false: it was not in `from`. */
bool state_change(struct mspace *s, u64 page, u64 from, u64 to);
/* First page in [first, last) that is populated (with `writable`: and not protected), or last. */
u64 state_find_populated(const struct mspace *s, u64 first, u64 last, bool writable);
/* From a populated page `first`: the end of the run up to `last` that contains no BUSY page, cut
 * behind its last populated page. Unpopulated pages inside are bridged, but no more than the rest
 * of TOUCH_PAGES. */
u64 state_run_end(const struct mspace *s, u64 first, u64 last);
/* The first BUSY page of [first, last), or last, or the end of first's TOUCH_PAGES. */
u64 state_not_busy_end(const struct mspace *s, u64 first, u64 last);
/* The first page at or after `page` whose touched bit is set, or last: skips what was never used.
 */
u64 state_skip_untouched(const struct mspace *s, u64 page, u64 last);
u64 state_count_populated(const struct mspace *s, u64 first, u64 last);
/*
 * Marks PROTECTED what was populated in [first, last) when the snapshot was taken, which is before
 * the kernel was asked to protect: a page that came in between, in another table than the caller's,
 * must not be marked, for it may have come after the kernel passed by.
 */
struct state_snapshot {
	u64 populated[PTRS_PER_TABLE / WORD_PAGES + 1];
};
void state_snapshot(const struct mspace *s, u64 first, u64 last, struct state_snapshot *snap);
void state_protect(struct mspace *s, u64 first, u64 last, const struct state_snapshot *snap);

/* ---- uffd.c: the kernel's verbs; all go on after EAGAIN and EINTR ---- */
struct uffd_result {
	u64 done; /* bytes finished from the start */
	int err;  /* 0: all */
};
int must_check uffd_open(u64 features, u64 *offered, int fd_floor);
/* Of what the kernel offers, what uffd_open(0) asked for. */
u64 uffd_features_used(u64 offered);
/* Do these features suffice for plain areas? */
bool uffd_has_plain(u64 offered);
int must_check uffd_register(struct host *h, u64 va, u64 size, bool plain);
/* Unmanaged: nothing traps there, but pages can be moved and copied to it. */
int must_check uffd_register_kept(struct host *h, u64 va, u64 size);
/* COPY to such addresses, over whatever is there. *done: bytes, also on failure. */
int must_check uffd_fill(struct host *h, u64 va, const void *src, u64 size, u64 *done);
/* EEXIST: mapped already; EFAULT: the file has no page there. */
struct uffd_result uffd_continue(struct host *h, u64 va, u64 size, bool protect);
struct uffd_result uffd_copy(struct host *h, u64 va, const void *src, u64 size, bool protect);
struct uffd_result uffd_move(struct host *h, u64 dst, u64 src, u64 size);
int must_check uffd_protect(struct host *h, u64 va, u64 size, bool on);
/* -EEXIST: there is a page. 0: there was none; the zero page is mapped now. */
int must_check uffd_probe_zero(struct host *h, u64 va);
/* Kernel pages of the range go; states are not touched. */
void host_discard(u64 va, u64 size);
/* The same for many ranges, with one interruption of the other processors where the kernel can. */
void host_discard_many(struct host *h, const struct iovec *iov, u32 n);
bool uffd_probe_discard_many(void *page);
int host_raise_fd(int fd, int floor);

/* ---- entries.c ---- */
/* Install n pages; on failure none of them is there. `src` NULL: zeroes. */
int must_check host_install(struct mspace *s, u64 page, u64 n, const char *src, bool protect);
/* Drop the populated pages of [first, last), bridging unpopulated ones but never BUSY ones, and the
 * parked ones. */
void host_drop(struct mspace *s, u64 first, u64 last);
/* The same, but not the parked ones. */
void host_drop_home(struct mspace *s, u64 first, u64 last);
/* As host_drop, and when it returns nothing of [first, last) can be read, whoever else was dropping
 * it. Nobody else populates pages of the range meanwhile. */
void host_empty(struct mspace *s, u64 first, u64 last);
/* The same protection for pages [first, last), all of them populated. */
void host_protect_pages(struct mspace *s, u64 first, u64 last, bool on);
int host_entries_changed(struct machine *m, struct mspace *s, u64 va, const u64 *entries, u32 nr,
			 unsigned level, const void *fill, bool fill_zero, bool force);
void host_frames_release(struct machine *m, const struct frame_span *spans, u32 n);
/* ---- flush.c ---- */
void host_tlb_flush(struct machine *m, struct mspace *s, const struct tlb_range *r);
/* ---- move.c ---- */
int host_frames_move(struct machine *m, u64 dst_pfn, u64 src_pfn, u32 nr);

/* ---- nodes.c ---- */
/* NULL, or what is wrong; *err. */
const char *nodes_init(struct host *h, const struct host_config *cfg, int *err);
/* Memory of [va, va + size) comes from there if it can: pages that are made later, in a shared file
 * through all its mappings. */
int must_check nodes_bind(struct host *h, u64 va, u64 size, unsigned node);
/* How many of nr (<= 512) pages are known to be elsewhere, and which. */
u32 nodes_misplaced(struct host *h, u64 va, u32 nr, unsigned node, u64 *bits);
/* The calling thread's new pages are of the node that the page at va is of; and no more. */
void nodes_like(struct host *h, u64 va, struct host_policy *before);
void nodes_as_before(const struct host_policy *before);
void host_prefer_node(struct machine *m, unsigned node);

/* ---- slots.c ---- */
int must_check slots_init(struct host *h);
void slots_fini(struct host *h);
int must_check slots_forked_child(struct host *h);
/* Up to nr neighbours of a node's pool, full or empty ones, are the caller's. How many; 0: none. */
u32 slots_claim(struct host *h, unsigned node, bool full, u32 nr, u32 *slot);
/* They are empty again. */
void slots_put(struct host *h, u32 slot, u32 n);
/* Their pages are free. */
void slots_recycle(struct host *h, u32 slot, u32 n);
/* Their bytes are void, and somebody may be reading them. */
void slots_drop(struct host *h, u32 slot, u32 n);
/* How many more of the node's pages would be kept? */
u32 slots_room(struct host *h, unsigned node);
/* Copies between our memory and pages that are moved about: to slots with pages; from parked pages,
 * and with has_vm_copy from pages at home. */
int must_check slots_write(struct host *h, u64 to, const void *from, u32 n);
int must_check slots_read(struct host *h, void *to, u64 from, u32 n);
/* Is much of the node's pool in use? */
bool slots_crowded(struct host *h, unsigned node);
/* The next run of claimed slots at or behind *slot; how many, 0: no more. LOCKING: quiescence */
u32 slots_next_claimed(struct host *h, u32 *slot);
/* Pages that are kept for later, of all nodes. */
u64 slots_full(struct host *h);

static inline u64 slot_va(const struct host *h, u32 slot)
{
	return h->slots + ((u64)slot << PAGE_SHIFT);
}

/* ---- park.c ---- */
#define PARK_NONE   0u
#define PARK_SHADOW 1u
#define PARK_SLOT   2u /* and above: the slot's number added */

/* Where a page is parked: PARK_*. Lock-free: it stays so while the caller may change the page, or
 * while the core sees to it (machine.h). */
static inline u32 park_of(const struct mspace *s, u64 page)
{
	return s->park ? a32_read_acquire(&s->park[page]) : PARK_NONE;
}

static inline u64 parked_at(const struct mspace *s, u64 page, u32 word)
{
	return word == PARK_SHADOW ? va_of(s, page) + s->shadow : slot_va(s->h, word - PARK_SLOT);
}

size_t park_bytes(u64 region);
/* The first parked page of [first, last), or last. */
u64 park_find(const struct mspace *s, u64 first, u64 last);
/* From a parked page: the end of the run of pages that are parked side by side. */
u64 park_run_end(const struct mspace *s, u64 first, u64 last);
/* From any page: the end of the run of pages that are at home, and not parked. */
u64 park_home_end(const struct mspace *s, u64 first, u64 last);
/* [first, last) are parked from `word` on. nr_parked is the caller's business. */
void park_mark(struct mspace *s, u64 first, u64 last, u32 word);
/* The next run of parked pages in [*first, *last), side by side from *word on, is no longer parked:
 * its bytes are the caller's to drop. False: there is none. */
bool park_take_run(struct mspace *s, u64 *first, u64 *last, u32 *word);
/* [first, last), at home, go to where `word` says. On failure some have gone, and have words. */
int must_check park_leave(struct mspace *s, u64 first, u64 last, u32 word);
/* Pages of present entries that are parked are at home, as the entries want it. On failure all are
 * parked again. LOCKING: entry lock. */
int must_check park_come_home(struct mspace *s, u64 page, const u64 *entries, u32 nr);
int host_frames_park(struct machine *m, u64 pfn, u32 nr);
/* ---- to_node.c ---- */
int host_frames_to_node(struct machine *m, u64 pfn, u32 nr, unsigned from, unsigned to);

/* ---- region.c ---- */
int host_space_create(struct machine *m, a64_t *root, void *trap_ctx, struct mspace **out,
		      struct range *usable);
void host_space_destroy(struct machine *m, struct mspace *s);
/* Calls fn for each maximal part of the region that is managed. LOCKING: (M) or (1). */
int host_for_managed(struct mspace *s, int (*fn)(struct mspace *s, u64 start, u64 end));

/* ---- area.c ---- */
/* Ordinary memory, nothing populated, in place of whatever is mapped there. On failure either
 * nothing has changed, or nobody can access it. LOCKING: (M) */
int must_check restore_managed(struct mspace *s, u64 start, u64 end, bool *changed);
void *host_frame_window(struct machine *m, u64 pfn);
int host_area_map(struct machine *m, struct mspace *s, struct range r, unsigned prot, u64 pfn);
int host_area_protect(struct machine *m, struct mspace *s, struct range r, unsigned old_prot,
		      unsigned prot);
int host_area_reset(struct machine *m, struct mspace *s, struct range r, u64 pfn);
void host_area_unmap(struct machine *m, struct mspace *s, struct range r, unsigned prot);

/* ---- extent.c. LOCKING: (M) ---- */
/* May there be that many more host mappings? The limit is the process's; regions that grow at the
 * same moment may exceed ours by the little that each of them needs. */
static inline bool mappings_fit(const struct mspace *s, s64 more)
{
	return more <= 0 || (s64)a64_read(&s->h->mappings) + more <= s->h->max_mappings;
}

static inline void mappings_add(struct mspace *s, s64 more)
{
	s->nr_mappings = (u32)(s->nr_mappings + more);
	a64_add(&s->h->mappings, (u64)more);
}

/* Replace what [r.start, r.end) is by `prot` (PROT_RW: nothing special). -ENOMEM: too many
 * mappings. */
int must_check extent_set(struct mspace *s, struct range r, u32 prot);
/* The kernel has been told, too: lock-free look-ups may rely on it. */
void extent_publish(struct mspace *s);
/* The first extent that ends above va, or NULL. */
struct extent *extent_find(struct mspace *s, u64 va);
/* PROT_BITS_* or PROT_BITS_FOREIGN. */
u32 extent_prot(struct mspace *s, u64 va);
/* Do the pages before and at va differ in it? */
bool extent_breaks_at(struct mspace *s, u64 va);

/* ---- read.c ---- */
void host_read_begin(struct machine *m);
void host_read_end(struct machine *m);
/* No bracket is open and none opens until host_readers_go. */
void host_readers_stop(struct host *h);
void host_readers_go(struct host *h);
bool host_readers_any(struct host *h);
bool host_reading(void);

/* ---- stage.c ---- */
int must_check stage_init(struct host *h);
void stage_fini(struct host *h);
void *host_fill_begin(struct machine *m, u64 pfn, u32 nr);
int host_fill_end(struct machine *m, u64 pfn, u32 nr, void *buf);
/* Of the pools only, and with account of what has been taken out. NULL: all are in use. */
void *stage_get_tracked(struct host *h, u32 nr);
bool stage_has(struct host *h, const void *at);
/* nr pages from `at` on, inside a buffer, are in their frames now. */
void stage_take(struct host *h, const void *at, u32 nr);
/* Is page i of the buffer? *run: as many from there on, of nr in all, are like it. */
bool stage_taken_run(struct host *h, const void *buf, u32 i, u32 nr, u32 *run);
void *stage_get(struct host *h, u32 nr);
void stage_put(struct host *h, u32 nr, void *buf);

/* ---- system.c ---- */
u64 host_now_ns(struct machine *m);
u64 host_random(struct machine *m);
unsigned host_nr_cpus(struct machine *m);
void host_sleep_ns(struct machine *m, u64 ns);
int host_thread_start(struct machine *m, void (*fn)(void *arg), void *arg, void **handle);
void host_thread_join(struct machine *m, void *handle);
void *host_mem_map(struct machine *m, size_t bytes);
void host_mem_unmap(struct machine *m, void *addr, size_t bytes);
void host_mem_discard(struct machine *m, void *addr, size_t bytes);
/* NULL on failure; never managed, zeroed, not counted against an overcommit limit until used. */
void *sys_map(size_t bytes);
void sys_unmap(void *addr, size_t bytes);
u64 sys_reserve(u64 bytes, int prot); /* aligned to the granule; 0: no room */

/* ---- file.c ---- */
int host_file_open(struct machine *m, const char *path, u64 *size);
void host_file_close(struct machine *m, int fd);
int host_file_read(struct machine *m, int fd, void *buf, u64 bytes, u64 offset);
int host_file_write(struct machine *m, int fd, const void *buf, u64 bytes, u64 offset);
void host_file_punch(struct machine *m, int fd, u64 bytes, u64 offset);
int host_file_attach(struct machine *m, const char *path, u32 flags, u64 *size);
int host_file_resize(struct machine *m, int fd, u64 size);
int host_file_zero(struct machine *m, int fd, u64 bytes, u64 offset);
int host_file_sync(struct machine *m, int fd);

/* ---- probe.c ---- */
/* The first line of a small file without its newline; bytes or -errno. */
long sys_read_line(const char *path, char *buf, size_t size);
s64 sys_read_number(const char *path); /* -1: none */
bool sys_node_online(unsigned node);
u64 sys_max_mappings(void);
unsigned sys_nr_cpus(void);
void sys_clocksource(char *out, size_t size); /* "" where it cannot be read */

#endif
