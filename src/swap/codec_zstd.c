#define ZSTD_STATIC_LINKING_ONLY /* contexts in memory of ours */
#include <zstd.h>

#include "base/assert.h"
#include "swap/codec.h"

#define LEVEL 1

/* For one page the parameters of a level shrink to a window of 4 KiB: 74 KB instead of 570. */
size_t codec_zstd_cctx_bytes(void)
{
	return ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(LEVEL, PAGE_SIZE, 0));
}

size_t codec_zstd_dctx_bytes(void)
{
	return ZSTD_estimateDCtxSize();
}

void *codec_zstd_cctx_init(void *memory)
{
	return ZSTD_initStaticCCtx(memory, codec_zstd_cctx_bytes());
}

void *codec_zstd_dctx_init(void *memory)
{
	return ZSTD_initStaticDCtx(memory, codec_zstd_dctx_bytes());
}

static u32 zstd_compress(struct swap_ctx *ctx, const void *page, u32 limit)
{
	size_t n = ZSTD_compressCCtx(ctx->cctx, ctx->out, CODEC_OUT_BYTES, page, PAGE_SIZE, LEVEL);

	/* The output always fits, so an error would be the context's: it must not be taken for bad
	 * data. */
	if (WARN_ON(ZSTD_isError(n)))
		return 0;
	return n <= limit ? (u32)n : 0;
}

static bool zstd_decompress(struct swap_ctx *ctx, const void *in, u32 len, void *page)
{
	return ZSTD_decompressDCtx(ctx->dctx, page, PAGE_SIZE, in, len) == PAGE_SIZE;
}

const struct codec codec_zstd = {
	.name = "zstd",
	.part = CTX_ZSTD,
	.decompress_needs_ctx = true,
	.compress = zstd_compress,
	.decompress = zstd_decompress,
};
