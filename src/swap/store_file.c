#include "base/arena.h"
#include "base/assert.h"
#include "base/inject.h"
#include "machine/machine.h"
#include "swap/store.h"

#include <string.h>

/*
 * A file of 4 KiB blocks. A handle is a block number + 1. Three states of a block, two bits:
 *
 *   fresh (live 0, stale 0) -[alloc]-> live (1, 0) -[free]-> stale (0, 1) -[alloc]-> live
 *   stale -[punch: live set meanwhile, so that nobody writes it]-> punching (1, 1) -> fresh
 *
 * Stale blocks still take room on the disk; runs of them are punched once there are many.
 */
#define MAX_BLOCKS  (1ull << 28) /* 1 TiB where the file has no size of its own */
#define BLOCK_BYTES PAGE_SIZE
#define PUNCH_AT    4096u /* stale blocks (16 MiB) that are worth punching */
#define PUNCH_RUN   16u   /* shorter runs stay until they are written again */
#define PUNCH_ONCE  64u   /* runs punched in one go: it is done on somebody's way */
#define GOOD_RUN    8u    /* a free run of this length is taken without looking for a longer one */
#define MAX_LOOKS   128u  /* free runs looked at for a good one */

struct store_file {
	struct store s;
	struct swap_ctxs *ctxs; /* (C) */
	int handle;             /* (C) the machine's */
	u64 nr_blocks;          /* (C) */
	size_t map_bytes;       /* (C) of one bitmap */
	struct spin lock;       /* LOCK_STORE */
	u64 *live;              /* (lock) */
	u64 *stale;             /* (lock) */
	u64 hint;               /* (lock) where the next search starts */
	u64 nr_live;            /* (lock) */
	u64 nr_stale;           /* (lock) */
	a64_t live_bytes;       /* nr_live for readers without the lock */
	u64 end;                /* (lock) no block from here on was ever live */
	u64 punch_at;           /* (lock) stale blocks at which to punch next */
	a32_t punch_due;        /* there are as many; written under lock */
	u64 punch_pos;          /* (lock) where the search for stale runs goes on */
};

static struct store_file *file_of(struct store *s)
{
	return container_of(s, struct store_file, s);
}

static bool bit_get(const u64 *map, u64 n)
{
	return map[n / 64] & BIT(n % 64);
}

static void bit_set(u64 *map, u64 n)
{
	map[n / 64] |= BIT(n % 64);
}

static void bit_clear(u64 *map, u64 n)
{
	map[n / 64] &= ~BIT(n % 64);
}

/* First block in [from, to) whose live bit is clear, or `to`. */
static u64 next_free(const struct store_file *f, u64 from, u64 to)
{
	while (from < to) {
		u64 word = ~f->live[from / 64] >> (from % 64);

		if (word)
			return min(to, from + (u64)__builtin_ctzll(word));
		from = ALIGN_DOWN(from, 64ull) + 64;
	}
	return to;
}

/* Best free run for `want` blocks in [from, to): the first that is long enough, else the longest.
 */
static u32 find_run(const struct store_file *f, u64 from, u64 to, u32 want, u64 *start)
{
	u32 best = 0, looks = 0;

	while (looks++ < MAX_LOOKS && (from = next_free(f, from, to)) < to) {
		u32 len = 1;

		while (len < want && from + len < to && !bit_get(f->live, from + len))
			len++;
		if (len > best) {
			best = len;
			*start = from;
			if (best >= min(want, GOOD_RUN))
				break;
		}
		from += len;
	}
	return best;
}

/* Up to `want` consecutive blocks; how many (0: full) and *start. LOCKING: takes LOCK_STORE. */
static u32 file_alloc(struct store_file *f, u32 want, u64 *start)
{
	u64 other = 0;
	u32 n, m;

	spin_lock(&f->lock);
	n = find_run(f, f->hint, f->nr_blocks, want, start);
	if (n < min(want, GOOD_RUN)) {
		m = find_run(f, 0, min(f->hint + want, f->nr_blocks), want, &other);
		if (m > n) {
			n = m;
			*start = other;
		}
	}
	for (u32 i = 0; i < n; i++) {
		bit_set(f->live, *start + i);
		if (bit_get(f->stale, *start + i)) {
			bit_clear(f->stale, *start + i);
			f->nr_stale--;
		}
	}
	f->nr_live += n;
	a64_set(&f->live_bytes, f->nr_live * PAGE_SIZE);
	f->hint = *start + n < f->nr_blocks && n ? *start + n : 0;
	f->end = n ? max(f->end, *start + n) : f->end;
	spin_unlock(&f->lock);
	return n;
}

static void file_release(struct store_file *f, u64 block)
{
	spin_lock(&f->lock);
	BUG_ON(block >= f->nr_blocks || !bit_get(f->live, block) || bit_get(f->stale, block));
	bit_clear(f->live, block);
	bit_set(f->stale, block);
	f->nr_live--;
	a64_set(&f->live_bytes, f->nr_live * PAGE_SIZE);
	if (++f->nr_stale == f->punch_at)
		a32_set(&f->punch_due, 1);
	spin_unlock(&f->lock);
}

static void file_failed(struct store_file *f, struct swap_page *p, u64 block, int err)
{
	file_release(f, block);
	p->err = err;
	a64_add(err == -ENOSPC ? &f->s.full : &f->s.errors, 1);
	if (err == -ENOSPC)
		a32_set(&f->s.refused, 1);
}

static int file_put(struct store_file *f, const void *buf, u32 n, u64 block)
{
	struct machine *m = f->s.q->machine;

	return m->ops->file_write(m, f->handle, buf, n * BLOCK_BYTES, block * BLOCK_BYTES);
}

static void file_stored(struct store_file *f, struct swap_page *p, u64 block)
{
	p->data = block + 1;
	p->kind = f->s.kind;
	p->bytes = PAGE_SIZE;
	p->state = PAGE_STORED;
	p->err = 0;
	if (unlikely(a32_read(&f->s.refused)))
		a32_set(&f->s.refused, 0);
}

/* n pages into n consecutive blocks with one transfer; when that fails, page by page. */
static void file_write_run(struct store_file *f, struct swap_ctx *ctx, struct swap_page **run,
			   u32 n, u64 block)
{
	const void *buf = run[0]->src;
	bool joined = true;
	int err;

	for (u32 i = 1; i < n; i++)
		joined &= (const u8 *)run[i]->src == (const u8 *)buf + i * PAGE_SIZE;
	if (!joined) {
		for (u32 i = 0; i < n; i++)
			memcpy(ctx->io + i * PAGE_SIZE, run[i]->src, PAGE_SIZE);
		buf = ctx->io;
	}
	err = file_put(f, buf, n, block);
	for (u32 i = 0; i < n; i++) {
		if (err && n > 1)
			run[i]->err = file_put(f, run[i]->src, 1, block + i);
		else
			run[i]->err = err;
		if (run[i]->err)
			file_failed(f, run[i], block + i, run[i]->err);
		else
			file_stored(f, run[i], block + i);
	}
}

static void file_write(struct store *s, struct swap_ctx *ctx, struct swap_page *pages, u32 n,
		       bool raw)
{
	struct store_file *f = file_of(s);
	struct swap_page *todo[SWAP_BATCH];
	u32 nr = 0, at = 0, stored = 0;
	u64 block = 0;

	if (raw)
		return; /* it stored whole pages in the first place */
	for (u32 i = 0; i < n; i++) {
		if (pages[i].state != PAGE_PENDING)
			continue;
		if (inject_fail(s->q->inject, INJECT_STORE_WRITE)) {
			pages[i].err = -EIO;
			a64_add(&s->errors, 1);
			continue;
		}
		todo[nr++] = &pages[i];
	}
	while (at < nr) {
		u32 got = file_alloc(f, nr - at, &block);

		if (!got)
			break;
		file_write_run(f, ctx, todo + at, got, block);
		at += got;
	}
	for (u32 i = 0; i < at; i++)
		stored += todo[i]->state == PAGE_STORED;
	for (; at < nr; at++) {
		todo[at]->err = -ENOSPC;
		a64_add(&s->full, 1);
	}
	a64_add(&s->writes, stored);
}

/* Loads [0, n) name consecutive blocks. Returns the number of errors. */
static u32 file_read_run(struct store_file *f, struct swap_load **loads, u32 n)
{
	struct machine *m = f->s.q->machine;
	u64 offset = (loads[0]->data - 1) * BLOCK_BYTES;
	struct swap_ctx *ctx = NULL;
	u8 *buf = loads[0]->buf;
	bool joined = true;
	u32 errors = 0;
	int err;

	for (u32 i = 1; i < n; i++)
		joined &= (u8 *)loads[i]->buf == buf + i * PAGE_SIZE;
	if (!joined) {
		ctx = swap_ctx_get(f->ctxs);
		buf = ctx->io;
	}
	err = m->ops->file_read(m, f->handle, buf, n * BLOCK_BYTES, offset);
	for (u32 i = 0; i < n; i++) {
		if (err && n > 1)
			loads[i]->err = m->ops->file_read(m, f->handle, loads[i]->buf, BLOCK_BYTES,
							  offset + i * BLOCK_BYTES);
		else
			loads[i]->err = err;
		if (!err && !joined)
			memcpy(loads[i]->buf, buf + i * PAGE_SIZE, PAGE_SIZE);
		if (loads[i]->err)
			loads[i]->err = -EIO;
		errors += loads[i]->err != 0;
	}
	if (ctx)
		swap_ctx_put(ctx);
	return errors;
}

static void file_read(struct store *s, struct swap_load **loads, u32 n)
{
	struct store_file *f = file_of(s);
	u32 at = 0, errors = 0;

	while (at < n) {
		u32 len = 1;

		if (!loads[at]->data || loads[at]->data > f->nr_blocks ||
		    inject_fail(s->q->inject, INJECT_STORE_READ)) {
			loads[at++]->err = -EIO;
			errors++;
			continue;
		}
		while (len < SWAP_BATCH && at + len < n &&
		       loads[at + len]->data == loads[at]->data + len)
			len++;
		errors += file_read_run(f, loads + at, len);
		at += len;
	}
	a64_add(&s->reads, n);
	if (errors)
		a64_add(&s->errors, errors);
}

static void file_free(struct store *s, u64 data)
{
	file_release(file_of(s), data - 1);
	if (unlikely(a32_read(&s->refused)))
		a32_set(&s->refused, 0);
}

/* A run of at least PUNCH_RUN stale blocks from `from` on, marked as being punched; 0: none. */
static u32 punch_begin(struct store_file *f, u64 from, u64 *start)
{
	u32 len = 0;

	lock_assert_held(&f->lock);
	for (u64 b = from; b < f->end; b++) {
		if (!f->stale[b / 64] && !len) {
			b |= 63;
			continue;
		}
		if (bit_get(f->stale, b) && !bit_get(f->live, b)) {
			if (!len++)
				*start = b;
			if (len < 512 && b + 1 < f->end)
				continue;
		}
		if (len >= PUNCH_RUN)
			break;
		len = 0;
	}
	if (len < PUNCH_RUN)
		return 0;
	for (u32 i = 0; i < len; i++)
		bit_set(f->live, *start + i);
	return len;
}

static void punch_end(struct store_file *f, u64 start, u32 len)
{
	for (u32 i = 0; i < len; i++) {
		bit_clear(f->live, start + i);
		bit_clear(f->stale, start + i);
	}
	f->nr_stale -= len;
}

/*
 * Give stale runs back to the file system. The next round waits for as many more stale blocks as
 * are left over now, so that scattered ones are not searched again and again.
 */
static void file_maintain(struct store *s)
{
	struct store_file *f = file_of(s);
	struct machine *m = s->q->machine;
	u64 start = 0;
	u32 len;

	if (likely(!a32_read(&f->punch_due)))
		return;
	spin_lock(&f->lock);
	for (u32 i = 0; i < PUNCH_ONCE; i++) {
		len = punch_begin(f, f->punch_pos, &start);
		if (!len) {
			f->punch_pos = 0;
			f->punch_at = f->nr_stale + PUNCH_AT;
			a32_set(&f->punch_due, 0);
			break;
		}
		f->punch_pos = start + len;
		spin_unlock(&f->lock);
		m->ops->file_punch(m, f->handle, len * BLOCK_BYTES, start * BLOCK_BYTES);
		spin_lock(&f->lock);
		punch_end(f, start, len);
	}
	spin_unlock(&f->lock);
}

static void file_stats(struct store *s, struct store_stats *out)
{
	struct store_file *f = file_of(s);

	spin_lock(&f->lock);
	out->pages = f->nr_live;
	out->stored_bytes = f->nr_live * PAGE_SIZE;
	out->pool_bytes = (f->nr_live + f->nr_stale) * PAGE_SIZE;
	spin_unlock(&f->lock);
}

static u64 file_held(struct store *s)
{
	return a64_read(&file_of(s)->live_bytes);
}

static u64 file_check(struct store *s, u64 pages)
{
	struct store_file *f = file_of(s);
	u64 live = 0, stale = 0, both = 0;

	for (u64 w = 0; w < f->map_bytes / 8 && w * 64 < f->end; w++) {
		live += (u64)__builtin_popcountll(f->live[w]);
		stale += (u64)__builtin_popcountll(f->stale[w]);
		both += (f->live[w] & f->stale[w]) != 0;
	}
	return WARN_ON(live != f->nr_live) + WARN_ON(stale != f->nr_stale) + WARN_ON(both) +
	       WARN_ON(live != pages);
}

static void file_destroy(struct store *s)
{
	struct store_file *f = file_of(s);
	struct machine *m = s->q->machine;

	if (f->live)
		m->ops->mem_unmap(m, f->live, f->map_bytes);
	if (f->stale)
		m->ops->mem_unmap(m, f->stale, f->map_bytes);
	if (f->handle >= 0)
		m->ops->file_close(m, f->handle);
	store_free_name(s);
	arena_free(s->q->arena, f, sizeof(*f));
}

static const struct store_ops file_ops = {
	.write = file_write,
	.read = file_read,
	.free = file_free,
	.stats = file_stats,
	.held = file_held,
	.maintain = file_maintain,
	.check = file_check,
	.destroy = file_destroy,
};

static int file_open(struct store_file *f, const char *path, u64 size)
{
	struct machine *m = f->s.q->machine;

	f->handle = m->ops->file_open(m, path, &size);
	if (f->handle < 0)
		return f->handle;
	f->nr_blocks = size ? min(size / BLOCK_BYTES, MAX_BLOCKS) : MAX_BLOCKS;
	if (!f->nr_blocks)
		return -EINVAL;
	f->s.cap_bytes = size ? f->nr_blocks * BLOCK_BYTES : 0;
	f->map_bytes = ALIGN_UP((f->nr_blocks + 7) / 8, PAGE_SIZE);
	f->live = m->ops->mem_map(m, f->map_bytes);
	f->stale = m->ops->mem_map(m, f->map_bytes);
	return f->live && f->stale ? 0 : -ENOMEM;
}

int store_file_create(struct quire *q, struct swap_ctxs *ctxs, const char *path, u64 size,
		      struct store **out)
{
	struct store_file *f = arena_zalloc(q->arena, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	f->s.ops = &file_ops;
	f->s.q = q;
	f->s.slow = true;
	f->ctxs = ctxs;
	f->handle = -1;
	f->punch_at = PUNCH_AT;
	spin_init(&f->lock, LOCK_STORE);
	err = store_set_name(&f->s, "file:", path);
	if (!err)
		err = file_open(f, path, size);
	if (err) {
		file_destroy(&f->s);
		return err;
	}
	*out = &f->s;
	return 0;
}
