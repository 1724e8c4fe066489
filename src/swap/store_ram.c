#include "base/assert.h"
#include "base/arena.h"
#include "base/inject.h"
#include "swap/codec.h"
#include "swap/pool.h"

#include <string.h>

struct store_ram {
	struct store s;
	const struct codec *codec; /* (C) */
	struct swap_ctxs *ctxs;    /* (C) */
	struct pool pool;
};

static struct store_ram *ram_of(struct store *s)
{
	return container_of(s, struct store_ram, s);
}

/* What was stored gives the page again, or the page itself has changed (a frame that was dropped:
 * then its slot is on its way out too). */
static bool stored_matches(struct store_ram *r, struct swap_ctx *ctx, const struct swap_page *p,
			   const void *obj, u32 len)
{
	u8 *page = ctx->out + CODEC_OUT_BYTES;

	if (len == PAGE_SIZE)
		memcpy(page, obj, PAGE_SIZE);
	else if (!r->codec->decompress(ctx, obj, len, page))
		return false;
	return !memcmp(page, p->src, PAGE_SIZE) || swap_page_sum(p->src) != p->sum;
}

static void ram_put(struct store_ram *r, struct swap_ctx *ctx, struct swap_page *p,
		    const void *bytes, u32 len)
{
	void *obj = pool_alloc(&r->pool, len, &p->data, &p->err);

	if (!obj) {
		a64_add(&r->s.full, 1);
		a32_set(&r->s.refused, p->err == -ENOMEM);
		return;
	}
	if (unlikely(a32_read(&r->s.refused)))
		a32_set(&r->s.refused, 0);
	memcpy(obj, bytes, len);
	DEBUG_ON(!stored_matches(r, ctx, p, obj, len));
	p->kind = r->s.kind;
	p->bytes = len;
	p->state = PAGE_STORED;
	p->err = 0;
}

static void ram_write(struct store *s, struct swap_ctx *ctx, struct swap_page *pages, u32 n,
		      bool raw)
{
	struct store_ram *r = ram_of(s);
	u64 stored = 0;

	for (u32 i = 0; i < n; i++) {
		struct swap_page *p = &pages[i];
		u32 len;

		if (p->state != PAGE_PENDING || (raw && !p->incompressible))
			continue;
		if (inject_fail(s->q->inject, INJECT_STORE_WRITE)) {
			p->err = -EIO;
			a64_add(&s->errors, 1);
			continue;
		}
		if (raw) {
			ram_put(r, ctx, p, p->src, PAGE_SIZE);
		} else {
			len = r->codec->compress(ctx, p->src, SWAP_WORST_BYTES);
			if (len)
				ram_put(r, ctx, p, ctx->out, len);
			else
				p->incompressible = true;
		}
		stored += p->state == PAGE_STORED;
	}
	a64_add(&s->writes, stored);
}

static void ram_read(struct store *s, struct swap_load **loads, u32 n)
{
	struct store_ram *r = ram_of(s);
	struct swap_ctx *ctx = NULL;
	u64 errors = 0;

	if (r->codec->decompress_needs_ctx)
		ctx = swap_ctx_get(r->ctxs);
	for (u32 i = 0; i < n; i++) {
		struct swap_load *l = loads[i];
		u32 len;
		const void *obj = pool_ptr(&r->pool, l->data, &len);
		bool ok = obj && !inject_fail(s->q->inject, INJECT_STORE_READ);

		if (ok && len == PAGE_SIZE)
			memcpy(l->buf, obj, PAGE_SIZE);
		else if (ok)
			ok = r->codec->decompress(ctx, obj, len, l->buf);
		l->err = ok ? 0 : -EIO;
		errors += !ok;
	}
	if (ctx)
		swap_ctx_put(ctx);
	a64_add(&s->reads, n);
	if (errors)
		a64_add(&s->errors, errors);
}

static void ram_free(struct store *s, u64 data)
{
	pool_free(&ram_of(s)->pool, data);
	if (unlikely(a32_read(&s->refused)))
		a32_set(&s->refused, 0);
}

static void ram_stats(struct store *s, struct store_stats *out)
{
	struct store_ram *r = ram_of(s);

	pool_count(&r->pool, &out->pages, &out->stored_bytes);
	out->pool_bytes = pool_bytes(&r->pool);
}

static u64 ram_held(struct store *s)
{
	return pool_in_use(&ram_of(s)->pool);
}

static u64 ram_check(struct store *s, u64 pages)
{
	return pool_check(&ram_of(s)->pool, pages);
}

static void ram_destroy(struct store *s)
{
	struct store_ram *r = ram_of(s);

	pool_fini(&r->pool);
	store_free_name(s);
	arena_free(s->q->arena, r, sizeof(*r));
}

static const struct store_ops ram_ops = {
	.write = ram_write,
	.read = ram_read,
	.free = ram_free,
	.stats = ram_stats,
	.held = ram_held,
	.maintain = NULL,
	.check = ram_check,
	.destroy = ram_destroy,
};

int store_ram_create(struct quire *q, const struct codec *codec, struct swap_ctxs *ctxs,
		     const char *name, u64 cap_bytes, struct store **out)
{
	struct store_ram *r = arena_zalloc(q->arena, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->s.ops = &ram_ops;
	r->s.q = q;
	r->s.cap_bytes = cap_bytes;
	r->codec = codec;
	r->ctxs = ctxs;
	if (store_set_name(&r->s, name, "") || pool_init(&r->pool, q, cap_bytes)) {
		ram_destroy(&r->s);
		return -ENOMEM;
	}
	*out = &r->s;
	return 0;
}
