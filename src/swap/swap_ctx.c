#include "base/assert.h"
#include "machine/machine.h"
#include "swap/codec.h"

#define ALIGN64(n) ALIGN_UP((size_t)(n), 64)

/* Cut `memory` (NULL: only count) into the parts; the result is the bytes needed. */
static size_t ctx_cut(struct swap_ctx *ctx, u8 *memory, u32 parts)
{
	size_t at = 0;

	if (memory)
		ctx->out = memory + at;
	at += ALIGN64(CODEC_OUT_BYTES) + PAGE_SIZE;
	if (memory)
		ctx->pages = (struct swap_page *)(memory + at);
	at += ALIGN64(SWAP_BATCH * sizeof(struct swap_page));
	if (parts & CTX_LZ4) {
		if (memory)
			ctx->lz4 = memory + at;
		at += ALIGN64(codec_lz4_bytes());
	}
	if (parts & CTX_ZSTD) {
		if (memory)
			ctx->cctx = memory + at;
		at += ALIGN64(codec_zstd_cctx_bytes());
		if (memory)
			ctx->dctx = memory + at;
		at += ALIGN64(codec_zstd_dctx_bytes());
	}
	at = ALIGN_UP(at, PAGE_SIZE);
	if (parts & CTX_IO) {
		if (memory)
			ctx->io = memory + at;
		at += SWAP_BATCH * PAGE_SIZE;
	}
	return at;
}

/* LOCKING: the context is busy for the caller. */
static bool ctx_fill(struct swap_ctxs *c, struct swap_ctx *ctx)
{
	struct machine *m = c->q->machine;
	u8 *memory;

	if (aptr_read(&ctx->memory))
		return true;
	memory = m->ops->mem_map(m, c->bytes);
	if (!memory)
		return false;
	ctx_cut(ctx, memory, c->parts);
	if (ctx->lz4)
		codec_lz4_init(ctx->lz4);
	if (ctx->cctx) {
		ctx->cctx = codec_zstd_cctx_init(ctx->cctx);
		ctx->dctx = codec_zstd_dctx_init(ctx->dctx);
		if (!ctx->cctx || !ctx->dctx) {
			m->ops->mem_unmap(m, memory, c->bytes);
			return false;
		}
	}
	aptr_set(&ctx->memory, memory);
	return true;
}

/* The first context is made here, so that a page can always be read back, whatever memory is left.
 */
int swap_ctxs_init(struct swap_ctxs *c, struct quire *q, u32 parts)
{
	c->q = q;
	c->parts = parts;
	c->bytes = ALIGN_UP(ctx_cut(NULL, NULL, parts), PAGE_SIZE);
	return ctx_fill(c, &c->ctx[0]) ? 0 : -ENOMEM;
}

void swap_ctxs_fini(struct swap_ctxs *c)
{
	for (u32 i = 0; i < MAX_CPUS; i++) {
		void *memory = aptr_read(&c->ctx[i].memory);

		BUG_ON(a32_read(&c->ctx[i].busy));
		if (memory)
			c->q->machine->ops->mem_unmap(c->q->machine, memory, c->bytes);
		aptr_set(&c->ctx[i].memory, NULL);
	}
}

static bool ctx_try(struct swap_ctx *ctx)
{
	u32 free = 0;

	return !a32_read(&ctx->busy) && a32_cmpxchg(&ctx->busy, &free, 1);
}

/* This CPU's own first (its tables are in this CPU's cache), then any. */
struct swap_ctx *swap_ctx_get(struct swap_ctxs *c)
{
	for (u32 first = base_cpu();; first = base_cpu()) {
		for (u32 i = 0; i < MAX_CPUS; i++) {
			struct swap_ctx *ctx = &c->ctx[(first + i) % MAX_CPUS];

			if (!ctx_try(ctx))
				continue;
			if (likely(ctx_fill(c, ctx)))
				return ctx;
			a32_set_release(&ctx->busy, 0);
		}
		base_yield();
	}
}

void swap_ctx_put(struct swap_ctx *ctx)
{
	a32_set_release(&ctx->busy, 0);
}

u64 swap_ctxs_bytes(const struct swap_ctxs *c)
{
	u64 n = 0;

	for (u32 i = 0; i < MAX_CPUS; i++)
		n += aptr_read(&c->ctx[i].memory) ? c->bytes : 0;
	return n;
}
