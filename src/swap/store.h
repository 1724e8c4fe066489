/*
 * store.h - what a backing store is to the rest of the swap folder: takes pages, gives them back,
 * frees them.
 *
 * A page on its way out is a struct swap_page, one on its way in a struct swap_load; both travel in
 * vectors so that a file store can join neighbours into one transfer. A store answers for each page
 * by itself: what it took is PAGE_STORED with the handle in `data`, what it could not take is left
 * PAGE_PENDING with the reason in `err` for the next store of the chain.
 *
 * Invariants
 *  1. A handle that was given out stays readable, byte for byte, until it is freed, once.
 *  2. A failed write has taken no room. A failed read leaves the stored copy as it is.
 *  3. Reading a handle that is freed meanwhile is harmless (no fault, no overrun) and gives
 *     arbitrary bytes: the caller compares checksums and looks at the slot again (swap_io.c).
 *
 * Locking: write, read and maintain may sleep and are called without spin locks; free may be called
 * under SWAP_CLUSTER and takes LOCK_STORE only. Letters: (C) constant, (A) atomic, (X) the owner of
 * the context.
 */
#ifndef QUIRE_SWAP_STORE_H
#define QUIRE_SWAP_STORE_H

#include "base/atomic.h"
#include "base/quire.h"
#include "swap/swap.h"

#define SWAP_MAX_STORES  8u
#define SWAP_BATCH       64u   /* pages that go through a store in one call */
#define SWAP_WORST_BYTES 3072u /* a page that does not shrink to this is not worth compressing */

/* What the handle of a slot means. */
enum slot_kind {
	KIND_NONE = 0, /* no copy */
	KIND_SAME = 1, /* data is the 64-bit word that fills the page */
	KIND_STORE = 2 /* + number of the store */
};

enum page_state { PAGE_PENDING, PAGE_STORED };

/* A page to be written. The thread that writes it owns it. */
struct swap_page {
	const void *src;
	u64 slot;
	u64 data; /* out: the handle */
	u32 sum;
	u32 bytes; /* out: size as stored */
	u32 folio; /* index in the caller's vector */
	int err;   /* why the last store that was asked refused it */
	u8 kind;
	u8 state;
	bool incompressible; /* a compressing store saw it and would store it raw */
	u64 old_data;        /* the copy that this one replaces */
	u8 old_kind;
};

/* A page to be read: a copy of what its slot said. */
struct swap_load {
	void *buf;
	u64 data;
	u32 sum;
	int err;
	u8 kind;
};

/* Memory that compression and file transfers need; one thread at a time has a context. */
struct swap_ctx {
	a32_t busy;
	aptr_t memory;           /* NULL until first used */
	void *lz4;               /* (X) LZ4_stream_t */
	void *cctx;              /* (X) ZSTD_CCtx in its own memory */
	void *dctx;              /* (X) ZSTD_DCtx */
	u8 *out;                 /* (X) compressed bytes, then a page for checks */
	u8 *io;                  /* (X) SWAP_BATCH pages for transfers */
	struct swap_page *pages; /* (X) SWAP_BATCH of them */
} cacheline_aligned;

struct store;

struct store_ops {
	/* Take what is PAGE_PENDING. `raw`: only pages marked incompressible, and as they are. */
	void (*write)(struct store *s, struct swap_ctx *ctx, struct swap_page *pages, u32 n,
		      bool raw);
	/* Fill bufs; loads[i]->err = 0, -EIO or -ENOMEM. Checksums are the caller's. */
	void (*read)(struct store *s, struct swap_load **loads, u32 n);
	void (*free)(struct store *s, u64 data);
	void (*stats)(struct store *s, struct store_stats *out);
	/* Bytes in use, without a lock: asked for at every fault. */
	u64 (*held)(struct store *s);
	/* Housekeeping where sleeping is allowed: give room back to the system. NULL: none. */
	void (*maintain)(struct store *s);
	/* Around fork, with nobody else in the core. NULL: the store is memory, the kernel copies
	 * it. */
	void (*fork_prepare)(struct store *s);
	void (*forked_child)(struct store *s);
	/* Broken invariants; `pages` handles are in use by slots. Quiescence. */
	u64 (*check)(struct store *s, u64 pages);
	void (*destroy)(struct store *s);
};

struct store {
	const struct store_ops *ops; /* (C) */
	struct quire *q;             /* (C) */
	const char *name;            /* (C) NUL terminated, name_bytes with it */
	u32 name_bytes;              /* (C) */
	u8 kind;                     /* (C) KIND_STORE + index */
	bool slow;                   /* (C) reading needs I/O */
	u64 cap_bytes;               /* (C) 0: none */
	a64_t writes, reads, full, errors;
	a32_t refused; /* the system had no more room at the last attempt to grow */
};

/* ---- contexts (swap_ctx.c) ---- */
/* Which parts the contexts must have. */
enum ctx_parts { CTX_LZ4 = 1, CTX_ZSTD = 2, CTX_IO = 4 };

struct swap_ctxs {
	struct quire *q; /* (C) */
	u32 parts;       /* (C) */
	size_t bytes;    /* (C) of one context */
	struct swap_ctx ctx[MAX_CPUS];
};

int must_check swap_ctxs_init(struct swap_ctxs *c, struct quire *q, u32 parts);
void swap_ctxs_fini(struct swap_ctxs *c);
/* Never NULL: waits for one when all are busy or no memory for another is to be had. */
struct swap_ctx *swap_ctx_get(struct swap_ctxs *c);
void swap_ctx_put(struct swap_ctx *ctx);
u64 swap_ctxs_bytes(const struct swap_ctxs *c);

/* ---- the stores ---- */
struct codec;
extern const struct codec codec_lz4, codec_zstd;

/* cap_bytes 0: no cap. *out on success. -ENOMEM. `name` is copied. */
int must_check store_ram_create(struct quire *q, const struct codec *codec, struct swap_ctxs *ctxs,
				const char *name, u64 cap_bytes, struct store **out);
/* size 0: what is there, or as much as the file can grow. The machine's error, -EINVAL (no room),
 * -ENOMEM. */
int must_check store_file_create(struct quire *q, struct swap_ctxs *ctxs, const char *path,
				 u64 size, struct store **out);
/* Sets name to prefix + text; -ENOMEM. And gives it back. */
int must_check store_set_name(struct store *s, const char *prefix, const char *text);
void store_free_name(struct store *s);

/* The checksum of a page's bytes. */
u32 swap_page_sum(const void *page);

/* ---- SPEC (swap_spec.c) ---- */
enum store_type { STORE_LZ4, STORE_ZSTD, STORE_FILE };

struct store_spec {
	enum store_type type;
	u64 size;         /* CAP or SIZE; 0: not given */
	const char *path; /* STORE_FILE: not NUL terminated */
	size_t path_bytes;
	const char *text; /* the whole part, for messages */
	size_t text_bytes;
};

/* Number of stores (> 0), or -EINVAL with a line in msg. */
int must_check swap_spec_parse(const char *spec, struct store_spec *out, char *msg,
			       size_t msg_size);
/* A line "swap store 'TEXT': WHAT" in msg. */
void swap_spec_say(char *msg, size_t msg_size, const struct store_spec *s, const char *what);
const char *swap_errno_text(int err);

#endif
