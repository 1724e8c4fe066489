/* file.c - the operations of file objects. */
#include "object/file.h"

#include "base/arena.h"
#include "object/object_internal.h"

struct file {
	int handle; /* (C) */
	a64_t size; /* (A) bytes of the file; shrinks under invalidate for writing only */
};

static struct file *file_of(struct object *o)
{
	return o->data;
}

/* Pages [0, n) of bufs that lie one after the other. */
static u32 adjacent(void *const *bufs, u32 n)
{
	u32 run = 1;

	while (run < n && (char *)bufs[run] == (char *)bufs[run - 1] + PAGE_SIZE)
		run++;
	return run;
}

static int read_run(struct object *o, u64 offset, void *buf, u64 bytes)
{
	struct machine *m = o->q->machine;
	u64 size = a64_read(&file_of(o)->size);
	u64 there = size > offset ? min(size - offset, bytes) : 0;
	int err = 0;

	if (there)
		err = m->ops->file_read(m, file_of(o)->handle, buf, there, offset);
	if (!err && there < bytes)
		__builtin_memset((char *)buf + there, 0, bytes - there);
	return err;
}

static void file_read_pages(struct object *o, u64 index, u32 n, void *const *bufs,
			    const u64 *values, int *err)
{
	(void)values;
	for (u32 i = 0; i < n;) {
		u32 run = adjacent(bufs + i, n - i);
		int e = read_run(o, (index + i) << PAGE_SHIFT, bufs[i], (u64)run << PAGE_SHIFT);

		/* A page that can be read is not to suffer for one that cannot. */
		for (u32 k = i; k < i + run; k++)
			err[k] = e && run > 1 ? read_run(o, (index + k) << PAGE_SHIFT, bufs[k],
							 PAGE_SIZE) :
						e;
		i += run;
	}
}

static int write_run(struct object *o, u64 offset, const void *buf, u64 bytes)
{
	struct machine *m = o->q->machine;
	int err = m->ops->file_write(m, file_of(o)->handle, buf, bytes, offset);
	u64 size = a64_read(&file_of(o)->size);

	/* A part may have been written all the same: what is behind the known size is zero or will
	 * be written again. */
	while (!err && size < offset + bytes &&
	       !a64_cmpxchg(&file_of(o)->size, &size, offset + bytes))
		;
	return err;
}

static void file_write_folios(struct object *o, struct folio **folios, const u32 *bytes, u32 n,
			      int *err)
{
	for (u32 i = 0; i < n;) {
		u64 offset = folios[i]->index << PAGE_SHIFT, len = bytes[i];
		char *buf = page_bytes(o, folios[i], 0);
		u32 end = i + 1;
		int e;

		while (end < n && (char *)page_bytes(o, folios[end], 0) == buf + len)
			len += bytes[end++];
		e = write_run(o, offset, buf, len);
		for (u32 k = i; k < end; k++)
			err[k] = e && end - i > 1 ?
					 write_run(o, folios[k]->index << PAGE_SHIFT,
						   page_bytes(o, folios[k], 0), bytes[k]) :
					 e;
		i = end;
	}
}

static int file_resize(struct object *o, u64 size)
{
	struct machine *m = o->q->machine;
	int err = m->ops->file_resize(m, file_of(o)->handle, size);

	if (!err)
		a64_set(&file_of(o)->size, size);
	return err;
}

static int file_zero(struct object *o, u64 start, u64 bytes)
{
	struct machine *m = o->q->machine;
	u64 size = a64_read(&file_of(o)->size);

	if (start >= size)
		return 0;
	return m->ops->file_zero(m, file_of(o)->handle, min(bytes, size - start), start);
}

static int file_sync(struct object *o)
{
	struct machine *m = o->q->machine;
	u64 size = object_size(o);
	int err = 0;

	if (a64_read(&file_of(o)->size) < size)
		err = file_resize(o, size);
	return err ? err : m->ops->file_sync(m, file_of(o)->handle);
}

static void file_release(struct object *o)
{
	struct machine *m = o->q->machine;
	struct file *file = file_of(o);

	/* Pages that were never written to leave the file too short (file.h). */
	if (!(o->flags & (OBJECT_READONLY | OBJECT_GONE)) && a64_read(&file->size) < object_size(o))
		(void)!file_resize(o, object_size(o));
	m->ops->file_close(m, file->handle);
	arena_free(o->q->arena, file, sizeof(*file));
}

static const struct object_ops file_ops = {
	.name = "file",
	.read = file_read_pages,
	.write = file_write_folios,
	.resize = file_resize,
	.zero = file_zero,
	.sync = file_sync,
	.release = file_release,
};

int object_open_file(struct quire *q, const char *path, u32 flags, struct object_config *cfg,
		     struct object **out)
{
	struct machine *m = q->machine;
	struct file *file = arena_zalloc(q->arena, sizeof(*file));
	u64 size;
	int err;

	*out = NULL;
	if (!file)
		return -ENOMEM;
	file->handle = m->ops->file_attach(m, path, flags, &size);
	err = file->handle;
	if (err < 0)
		goto fail;
	a64_init(&file->size, size);
	cfg->size = size;
	if (flags & FILE_READONLY)
		cfg->flags |= OBJECT_READONLY;
	err = size > OBJECT_SIZE_MAX ? -EFBIG : object_create(q, &file_ops, file, cfg, out);
	if (!err)
		return 0;
	m->ops->file_close(m, file->handle);
fail:
	arena_free(q->arena, file, sizeof(*file));
	return err;
}
