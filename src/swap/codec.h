/*
 * codec.h - one page to fewer bytes and back: what a compressing store needs of lz4 and zstd.
 *
 * Neither direction allocates: the state lies in the caller's context. Decompression is bounded by
 * the buffer of one page whatever its input holds, because a stale handle may be read (store.h,
 * invariant 3).
 * Locking: the caller owns the context; (C) tables.
 */
#ifndef QUIRE_SWAP_CODEC_H
#define QUIRE_SWAP_CODEC_H

#include "swap/store.h"

#define CODEC_OUT_BYTES 4608u /* room that never makes a codec fail for want of output */

struct codec {
	const char *name;
	enum ctx_parts part;
	bool decompress_needs_ctx;
	/* Bytes written to ctx->out, or 0 when they would be more than limit. */
	u32 (*compress)(struct swap_ctx *ctx, const void *page, u32 limit);
	/* True when exactly a page came out. ctx may be NULL unless decompress_needs_ctx. */
	bool (*decompress)(struct swap_ctx *ctx, const void *in, u32 len, void *page);
};

/* Sizes and initialisation of the parts of a context. */
size_t codec_lz4_bytes(void);
void codec_lz4_init(void *memory);
size_t codec_zstd_cctx_bytes(void);
size_t codec_zstd_dctx_bytes(void);
/* The contexts in their memory (8-byte aligned); NULL when the library refuses it. */
void *codec_zstd_cctx_init(void *memory);
void *codec_zstd_dctx_init(void *memory);

#endif
