#include "base/arena.h"
#include "base/assert.h"
#include "base/inject.h"
#include "machine/machine.h"
#include "swap/file_map.h"
#include "swap/store.h"

#include <string.h>

/*
 * A store in a file. A handle is (number of the file << 40) | (block + 1).
 *
 * Why files, not one file: after a fork parent and child share what is open, and each goes on with
 * its own copy of the maps. So a child never writes, punches or reuses anything in the files that
 * it
 * inherited: it only reads them, and at its first write opens a file of its own beside the first.
 * The parent freezes what is live (file_map.h) and goes on in the same file; when too much of it is
 * lost to forks, it changes to a new one as well. A file is closed when nothing live is left in it.
 * The size given bounds what is live in all files of a process together.
 */
#define MAX_BLOCKS   (1ull << 28) /* 1 TiB where the file has no size of its own */
#define BLOCK_BYTES  PAGE_SIZE
#define FILES        16u
#define FILE_SHIFT   40
#define BLOCK_MASK   (BIT(FILE_SHIFT) - 1)
#define PUNCH_AT     4096u        /* stale blocks (16 MiB) that are worth punching */
#define PUNCH_ONCE   64u          /* runs punched in one go: it is done on somebody's way */
#define LOST_MOST    (1ull << 18) /* blocks (1 GiB) lost to forks after which a new file pays */
#define SUFFIX       ".quire-"
#define SUFFIX_BYTES (sizeof(SUFFIX) - 1 + 16)

struct swap_file {
	a32_t handle;        /* (lock to write) the machine's + 1; 0: none */
	bool own;            /* (lock) not inherited through a fork: may be written */
	struct file_map map; /* (lock) */
};

struct store_file {
	struct store s;
	struct swap_ctxs *ctxs; /* (C) */
	u64 nr_blocks;          /* (C) bound on live blocks */
	u64 size;               /* (C) as asked for; 0: none */
	char *path;             /* (C) then room for a suffix */
	size_t path_bytes;      /* (C) without both */
	struct spin lock;       /* LOCK_STORE */
	u32 cur;                /* (lock) the file that is written */
	bool shut;              /* (lock) no file to write can be had */
	u64 fork_id;            /* (lock) differs in every process */
	u64 nr_live;            /* (lock) in all files */
	u64 punch_at;           /* (lock) stale blocks at which to punch next */
	a32_t punch_due;        /* there are as many; written under lock */
	a64_t live_bytes;       /* nr_live for readers without the lock */
	struct swap_file file[FILES];
};

static struct store_file *file_of(struct store *s)
{
	return container_of(s, struct store_file, s);
}

/* ---- files; LOCKING: store lock (opening and closing are rare) ---- */

static bool is_open(const struct swap_file *x)
{
	return a32_read(&x->handle) != 0;
}

static void close_file(struct store_file *f, struct swap_file *x)
{
	struct machine *m = f->s.q->machine;

	if (is_open(x))
		m->ops->file_close(m, (int)a32_read(&x->handle) - 1);
	a32_set(&x->handle, 0);
	file_map_fini(&x->map, m);
}

static int open_file(struct store_file *f, struct swap_file *x, const char *path, u64 *size)
{
	struct machine *m = f->s.q->machine;
	int h = m->ops->file_open(m, path, size), err;

	if (h < 0)
		return h;
	err = -EINVAL;
	if (!*size || *size >= BLOCK_BYTES)
		err = file_map_init(&x->map, m,
				    *size ? min(*size / BLOCK_BYTES, MAX_BLOCKS) : MAX_BLOCKS);
	if (err) {
		m->ops->file_close(m, h);
		return err;
	}
	x->own = true;
	a32_set_release(&x->handle, (u32)h + 1);
	return 0;
}

static u64 mix(u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/*
 * A file beside the first, under a name that nobody else has: the machine unlinks it at once. A
 * name below /dev would be a file in memory. Returns its number or -1.
 */
static int next_file(struct store_file *f)
{
	u64 size = f->nr_blocks * BLOCK_BYTES, id;
	char *end = f->path + f->path_bytes;
	int n = 0, err;

	lock_assert_held(&f->lock);
	if (!strncmp(f->path, "/dev/", 5))
		return -1;
	while (n < (int)FILES && is_open(&f->file[n]))
		n++;
	if (n == (int)FILES)
		return -1;
	f->fork_id = mix(f->fork_id + 1);
	id = f->fork_id;
	memcpy(end, SUFFIX, sizeof(SUFFIX) - 1);
	for (u32 i = 0; i < 16; i++, id >>= 4)
		end[sizeof(SUFFIX) - 1 + i] = "0123456789abcdef"[id & 15];
	end[SUFFIX_BYTES] = 0;
	if (!f->size)
		size = 0;
	err = open_file(f, &f->file[n], f->path, &size);
	*end = 0;
	return err ? -1 : n;
}

/* The file to write, or NULL. */
static struct swap_file *write_file(struct store_file *f)
{
	struct swap_file *x = &f->file[f->cur];
	int n;

	lock_assert_held(&f->lock);
	if (is_open(x) && x->own)
		return x;
	if (f->shut)
		return NULL;
	n = next_file(f);
	if (n < 0) {
		f->shut = true;
		a32_set(&f->s.refused, 1);
		return NULL;
	}
	f->cur = (u32)n;
	return &f->file[n];
}

/* Go on in a new file: too much of the present one is lost to forks. */
static bool rotate(struct store_file *f)
{
	struct swap_file *old = &f->file[f->cur];
	int n = next_file(f);

	if (n < 0)
		return false;
	f->cur = (u32)n;
	if (!old->map.nr_live)
		close_file(f, old);
	return true;
}

static void count_live(struct store_file *f, u64 live)
{
	f->nr_live = live;
	a64_set(&f->live_bytes, live * BLOCK_BYTES);
}

/* Up to `want` consecutive blocks as handles *data, *data + 1...; 0: full. */
static u32 file_alloc(struct store_file *f, u32 want, u64 *data)
{
	struct swap_file *x;
	u64 block = 0;
	u32 n = 0;

	spin_lock(&f->lock);
	x = write_file(f);
	want = (u32)min((u64)want, f->nr_blocks - f->nr_live);
	if (x && want)
		n = file_map_alloc(&x->map, want, &block);
	if (!n && x && want && x->map.nr_lost && rotate(f))
		n = file_map_alloc(&f->file[f->cur].map, want, &block);
	count_live(f, f->nr_live + n);
	*data = ((u64)f->cur << FILE_SHIFT) + block + 1;
	spin_unlock(&f->lock);
	return n;
}

static void file_release(struct store_file *f, u64 data)
{
	u64 n = data >> FILE_SHIFT;
	struct swap_file *x;

	BUG_ON(n >= FILES || !(data & BLOCK_MASK));
	x = &f->file[n];
	spin_lock(&f->lock);
	file_map_free(&x->map, (data & BLOCK_MASK) - 1);
	count_live(f, f->nr_live - 1);
	if (!x->map.nr_live && (n != f->cur || !x->own)) {
		close_file(f, x);
		f->shut = false; /* there is a number free again */
	} else if (n == f->cur && x->map.nr_stale == f->punch_at) {
		a32_set(&f->punch_due, 1);
	}
	spin_unlock(&f->lock);
}

/* ---- writing ---- */

static void file_failed(struct store_file *f, struct swap_page *p, u64 data, int err)
{
	file_release(f, data);
	p->err = err;
	a64_add(err == -ENOSPC ? &f->s.full : &f->s.errors, 1);
	if (err == -ENOSPC)
		a32_set(&f->s.refused, 1);
}

/* A file with live blocks is not closed, so its handle needs no lock. */
static int file_put(struct store_file *f, const void *buf, u32 n, u64 data)
{
	struct machine *m = f->s.q->machine;
	int h = (int)a32_read_acquire(&f->file[data >> FILE_SHIFT].handle) - 1;

	return m->ops->file_write(m, h, buf, n * BLOCK_BYTES,
				  ((data & BLOCK_MASK) - 1) * BLOCK_BYTES);
}

static void file_stored(struct store_file *f, struct swap_page *p, u64 data)
{
	p->data = data;
	p->kind = f->s.kind;
	p->bytes = PAGE_SIZE;
	p->state = PAGE_STORED;
	p->err = 0;
	if (unlikely(a32_read(&f->s.refused)))
		a32_set(&f->s.refused, 0);
}

/* n pages into n consecutive blocks with one transfer; when that fails, page by page. */
static void file_write_run(struct store_file *f, struct swap_ctx *ctx, struct swap_page **run,
			   u32 n, u64 data)
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
	err = file_put(f, buf, n, data);
	for (u32 i = 0; i < n; i++) {
		if (err && n > 1)
			run[i]->err = file_put(f, run[i]->src, 1, data + i);
		else
			run[i]->err = err;
		if (run[i]->err)
			file_failed(f, run[i], data + i, run[i]->err);
		else
			file_stored(f, run[i], data + i);
	}
}

static void file_write(struct store *s, struct swap_ctx *ctx, struct swap_page *pages, u32 n,
		       bool raw)
{
	struct store_file *f = file_of(s);
	struct swap_page *todo[SWAP_BATCH];
	u32 nr = 0, at = 0, stored = 0;
	u64 data = 0;

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
		u32 got = file_alloc(f, nr - at, &data);

		if (!got)
			break;
		file_write_run(f, ctx, todo + at, got, data);
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

/* ---- reading ---- */

/* Loads [0, n) name consecutive blocks of one file. Returns the number of errors. */
static u32 file_read_run(struct store_file *f, struct swap_load **loads, u32 n)
{
	struct machine *m = f->s.q->machine;
	int h = (int)a32_read_acquire(&f->file[loads[0]->data >> FILE_SHIFT].handle) - 1;
	u64 offset = ((loads[0]->data & BLOCK_MASK) - 1) * BLOCK_BYTES;
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
	err = m->ops->file_read(m, h, buf, n * BLOCK_BYTES, offset);
	for (u32 i = 0; i < n; i++) {
		if (err && n > 1)
			loads[i]->err = m->ops->file_read(m, h, loads[i]->buf, BLOCK_BYTES,
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

/* False: never was a handle of this store (an old or torn read). */
static bool handle_is_sane(struct store_file *f, u64 data)
{
	u64 n = data >> FILE_SHIFT, block = data & BLOCK_MASK;

	return n < FILES && is_open(&f->file[n]) && block && block <= MAX_BLOCKS;
}

static void file_read(struct store *s, struct swap_load **loads, u32 n)
{
	struct store_file *f = file_of(s);
	u32 at = 0, errors = 0;

	while (at < n) {
		u32 len = 1;

		if (!handle_is_sane(f, loads[at]->data) ||
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
	file_release(file_of(s), data);
	if (unlikely(a32_read(&s->refused)))
		a32_set(&s->refused, 0);
}

/*
 * Give stale runs back to the file system. The next round waits for as many more stale blocks as
 * are left over now, so that scattered ones are not searched again and again. The file stays open:
 * it is the one that is written.
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
		struct swap_file *x = &f->file[f->cur];

		len = is_open(x) && x->own ? file_map_punch_begin(&x->map, &start) : 0;
		if (!len) {
			f->punch_at = x->map.nr_stale + PUNCH_AT;
			a32_set(&f->punch_due, 0);
			break;
		}
		spin_unlock(&f->lock);
		m->ops->file_punch(m, (int)a32_read(&x->handle) - 1, len * BLOCK_BYTES,
				   start * BLOCK_BYTES);
		spin_lock(&f->lock);
		file_map_punch_end(&x->map, start, len);
	}
	spin_unlock(&f->lock);
}

/* ---- forks; LOCKING: nobody else is in the core ---- */

static void file_fork_prepare(struct store *s)
{
	struct store_file *f = file_of(s);
	struct swap_file *x = &f->file[f->cur];

	spin_lock(&f->lock);
	if (is_open(x) && x->own) {
		file_map_freeze(&x->map, s->q->machine);
		/* Without another file the store goes on in this one. */
		if (x->map.nr_lost > min(x->map.nr_blocks / 2, LOST_MOST))
			rotate(f);
	}
	spin_unlock(&f->lock);
}

static void file_forked_child(struct store *s)
{
	struct store_file *f = file_of(s);

	spin_lock(&f->lock);
	f->fork_id = mix(~f->fork_id);
	f->shut = false;
	a32_set(&f->punch_due, 0);
	for (u32 n = 0; n < FILES; n++) {
		f->file[n].own = false;
		if (is_open(&f->file[n]) && !f->file[n].map.nr_live)
			close_file(f, &f->file[n]);
	}
	spin_unlock(&f->lock);
}

/* ---- the rest ---- */

static void file_stats(struct store *s, struct store_stats *out)
{
	struct store_file *f = file_of(s);

	spin_lock(&f->lock);
	out->pages = f->nr_live;
	out->stored_bytes = f->nr_live * PAGE_SIZE;
	for (u32 n = 0; n < FILES; n++) {
		const struct file_map *map = &f->file[n].map;

		out->pool_bytes += (map->nr_live + map->nr_stale + map->nr_lost) * BLOCK_BYTES;
	}
	spin_unlock(&f->lock);
}

static u64 file_held(struct store *s)
{
	return a64_read(&file_of(s)->live_bytes);
}

static u64 file_check(struct store *s, u64 pages)
{
	struct store_file *f = file_of(s);
	u64 bad = 0, live = 0;

	for (u32 n = 0; n < FILES; n++) {
		if (!is_open(&f->file[n]))
			continue;
		bad += file_map_check(&f->file[n].map);
		live += f->file[n].map.nr_live;
		bad += WARN_ON(n != f->cur && !f->file[n].map.nr_live);
	}
	return bad + WARN_ON(live != f->nr_live) + WARN_ON(live != pages);
}

static void file_destroy(struct store *s)
{
	struct store_file *f = file_of(s);

	for (u32 n = 0; n < FILES; n++)
		close_file(f, &f->file[n]);
	store_free_name(s);
	if (f->path)
		arena_free(s->q->arena, f->path, f->path_bytes + SUFFIX_BYTES + 1);
	arena_free(s->q->arena, f, sizeof(*f));
}

static const struct store_ops file_ops = {
	.write = file_write,
	.read = file_read,
	.free = file_free,
	.stats = file_stats,
	.held = file_held,
	.maintain = file_maintain,
	.fork_prepare = file_fork_prepare,
	.forked_child = file_forked_child,
	.check = file_check,
	.destroy = file_destroy,
};

static int file_begin(struct store_file *f, const char *path, u64 size)
{
	struct quire *q = f->s.q;
	int err = store_set_name(&f->s, "file:", path);

	if (err)
		return err;
	f->path_bytes = strlen(path);
	f->path = arena_alloc(q->arena, f->path_bytes + SUFFIX_BYTES + 1);
	if (!f->path)
		return -ENOMEM;
	memcpy(f->path, path, f->path_bytes + 1);
	f->fork_id = q->machine->ops->random(q->machine);
	err = open_file(f, &f->file[0], path, &size);
	if (err)
		return err;
	f->nr_blocks = f->file[0].map.nr_blocks;
	f->size = size;
	f->s.cap_bytes = size ? f->nr_blocks * BLOCK_BYTES : 0;
	return 0;
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
	f->punch_at = PUNCH_AT;
	spin_init(&f->lock, LOCK_STORE);
	err = file_begin(f, path, size);
	if (err) {
		file_destroy(&f->s);
		return err;
	}
	*out = &f->s;
	return 0;
}
