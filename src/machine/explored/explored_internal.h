/*
 * explored_internal.h - what the files of the explored machine share: units, frames, files, spaces.
 *
 * Invariant: whoever changes or looks at a struct's words is in a step that declared the struct's
 * first word; so the words themselves are read and set without a step of their own (get, put).
 * Locking: none; steps.
 */
#ifndef QUIRE_MACHINE_EXPLORED_INTERNAL_H
#define QUIRE_MACHINE_EXPLORED_INTERNAL_H

#include "base/assert.h"
#include "machine/explored/explored.h"

#define XM_SLOTS       8u
#define XM_FILES       2u
#define XM_FILE_BLOCKS 16u
#define XM_SPACES      3u
#define XM_HOME_PAGES  32u /* pages of a space that may have bytes: the first of each 2 MiB */
#define XM_STAGE_PAGES 4u  /* in one fill of home frames */
#define XM_USABLE_SIZE (4 * PMD_SIZE)

/* A cached translation; tag: page address | number of the space + 1, 0: empty. */
struct xm_slot {
	a64_t tag;
	a64_t entry;
	a64_t gen; /* of the frame when it was filled */
};

#define XM_WAKE_BYTES (3 * sizeof(a64_t)) /* state, busy, pending: what an interrupt looks at */

/* A flush that one CPU asks of a unit. */
struct xm_request {
	a64_t start, end;
	a64_t space;
	a64_t no_access;      /* else: no store */
	a64_t tables;         /* paging-structure caches too */
	struct xm_unit *unit; /* (C) */
	unsigned from;        /* (C) */
};

struct xm_unit {
	a64_t state;   /* declared for all but the next two and the requests */
	a64_t busy;    /* in the middle of a walk; changes with state */
	a64_t pending; /* by asking CPU: bit n, req[n] is to be done; declared for the requests */
	a64_t pmd_tag;
	a64_t pmd_table; /* paging-structure cache: one 2 MiB to its table */
	struct xm_slot slot[XM_SLOTS];
	struct xm_request req[XM_UNITS]; /* by the CPU that asks */
	struct xm *xm;                   /* (C) */
	u32 number;                      /* (C) */
	char name[16];                   /* (C) */
};

struct xm_frame {
	a64_t gen; /* counts releases; declared for the bytes too */
};

struct xm_file_block {
	a64_t state;
	u8 *bytes; /* (C) */
};

struct xm_file {
	bool open; /* set-up and teardown only */
	bool attached;
	u64 size;
	struct xm_file_block block[XM_FILE_BLOCKS];
};

/* A home page: what the host's page table would say. */
#define HOME_POPULATED BIT(0)
#define HOME_WP        BIT(1)
#define HOME_MAPPED    BIT(2)
#define HOME_PARKED    BIT(3) /* instead of POPULATED */
#define HOME_PROT      4      /* shift: three bits */

struct xm_home {
	a64_t state; /* HOME_*; declared for the bytes too */
	u8 *bytes;   /* (C) */
};

struct mspace {
	struct xm *xm;
	a64_t *root;
	void *trap_ctx;
	u32 number;
	struct range usable;
	struct xm_home *home; /* (C) XM_USABLE_SIZE >> PMD_SHIFT times XM_HOME_PAGES of them */
};

struct xm {
	struct machine m;
	struct xm_config cfg; /* (C) */
	struct xm_unit *unit; /* (C) XM_UNITS */
	struct xm_frame frame[XM_BLOCKS * XM_BLOCK_FRAMES];
	u8 *bytes[XM_BLOCKS]; /* (C) */
	struct xm_file file[XM_FILES];
	struct mspace *space[XM_SPACES]; /* set-up and teardown only */
	a64_t clock, chance;
	a64_t reading; /* open read brackets */
	u8 *stage;     /* (C) XM_STAGE_PAGES for each actor, and for those who run alone */
};

static inline struct xm *xm_of(struct machine *m)
{
	return container_of(m, struct xm, m);
}

static inline bool xm_is_home(const struct xm *xm)
{
	return xm->m.caps & CAP_HOME;
}

/* Within a step that declared it; ordered, because what it stands for is hardware. */
static inline u64 get(const a64_t *w)
{
	return __atomic_load_n(&w->raw, __ATOMIC_ACQUIRE);
}
static inline void put(a64_t *w, u64 v)
{
	__atomic_store_n(&w->raw, v, __ATOMIC_RELEASE);
}

/* Set-up and checks: nobody else runs, agents included. */
static inline bool xm_alone(void)
{
	return x_self() == X_MAX_ACTORS;
}

/* frames.c: plain frames, and (the machine's operations) both kinds */
struct xm_frame *xm_frame(struct xm *xm, u64 pfn);
u8 *xm_bytes(struct xm *xm, u64 pfn);
/* The object by which bytes at p are declared: a frame's, a home page's, or p itself (staging). */
const void *xm_bytes_object(struct xm *xm, const void *p);
void xm_frames_create(struct xm *xm);
void *xm_frame_window(struct machine *m, u64 pfn);
void *xm_fill_begin(struct machine *m, u64 pfn, u32 nr);
int xm_fill_end(struct machine *m, u64 pfn, u32 nr, void *buf);
void xm_frames_release(struct machine *m, const struct frame_span *spans, u32 n);
int xm_frames_move(struct machine *m, u64 dst, u64 src, u32 nr);
int xm_frames_park(struct machine *m, u64 pfn, u32 nr);
int xm_frames_to_node(struct machine *m, u64 pfn, u32 nr, unsigned from, unsigned to);
int xm_entries_changed(struct machine *m, struct mspace *s, u64 va, const u64 *entries, u32 nr,
		       unsigned level, const void *fill, bool fill_zero, bool force);

/* home.c */
void xm_home_create(struct mspace *s);
struct xm_home *xm_home_frame(struct xm *xm, u64 pfn);
/* The page whose bytes p points to, or NULL. */
struct xm_home *xm_home_at(struct xm *xm, const void *p);
/* False: it traps. */
bool xm_home_access(struct xm_unit *u, struct mspace *s, u64 va, bool write, u64 *value);
bool xm_home_reachable(struct mspace *s, u64 va, bool write);
void xm_home_flush(struct mspace *s, const struct tlb_range *r);
void xm_home_release(struct xm *xm, const struct frame_span *span);
int xm_home_move(struct xm *xm, u64 dst, u64 src, u32 nr);
void xm_home_install(struct mspace *s, u64 va, const u64 *entries, u32 nr, const void *fill,
		     bool fill_zero);
void xm_read_begin(struct machine *m);
void xm_read_end(struct machine *m);
int xm_area_map(struct machine *m, struct mspace *s, struct range r, unsigned prot, u64 pfn);
int xm_area_protect(struct machine *m, struct mspace *s, struct range r, unsigned old_prot,
		    unsigned prot);
void xm_area_unmap(struct machine *m, struct mspace *s, struct range r, unsigned prot);

/* unit.c */
/* The entry word of va, without a step. NULL: no table. */
a64_t *xm_entry_word(struct mspace *s, u64 va);
void xm_units_create(struct xm *xm);
void xm_tlb_flush(struct machine *m, struct mspace *s, const struct tlb_range *r);

/* system.c */
u64 xm_now_ns(struct machine *m);
u64 xm_random(struct machine *m);
void xm_sleep_ns(struct machine *m, u64 ns);
int xm_thread_start(struct machine *m, void (*fn)(void *arg), void *arg, void **handle);
void xm_thread_join(struct machine *m, void *handle);
void *xm_mem_map(struct machine *m, size_t bytes);
void xm_mem_unmap(struct machine *m, void *addr, size_t bytes);
void xm_mem_discard(struct machine *m, void *addr, size_t bytes);
int xm_file_open(struct machine *m, const char *path, u64 *size);
void xm_file_close(struct machine *m, int h);
int xm_file_read(struct machine *m, int h, void *buf, u64 bytes, u64 offset);
int xm_file_write(struct machine *m, int h, const void *buf, u64 bytes, u64 offset);
void xm_file_punch(struct machine *m, int h, u64 bytes, u64 offset);
int xm_file_attach(struct machine *m, const char *path, u32 flags, u64 *size);
int xm_file_resize(struct machine *m, int h, u64 size);
int xm_file_zero(struct machine *m, int h, u64 bytes, u64 offset);
int xm_file_sync(struct machine *m, int h);

#endif
