/* system.c - the explored machine's time, memory and files; it has no threads of its own. */
#include <string.h>

#include "machine/explored/explored_internal.h"

/* Time stands still except for those who sleep. */
u64 xm_now_ns(struct machine *m)
{
	return a64_read(&xm_of(m)->clock);
}

u64 xm_random(struct machine *m)
{
	return a64_add_return(&xm_of(m)->chance, 0x9e3779b97f4a7c15ull);
}

void xm_sleep_ns(struct machine *m, u64 ns)
{
	a64_add(&xm_of(m)->clock, ns);
	base_yield();
}

int xm_thread_start(struct machine *m, void (*fn)(void *arg), void *arg, void **handle)
{
	return -EAGAIN; /* what runs in the background is an actor of the scenario */
}

void xm_thread_join(struct machine *m, void *handle)
{
}

void *xm_mem_map(struct machine *m, size_t bytes)
{
	return x_alloc(bytes, PAGE_SIZE);
}

void xm_mem_unmap(struct machine *m, void *addr, size_t bytes)
{
	x_free(addr, bytes);
}

void xm_mem_discard(struct machine *m, void *addr, size_t bytes)
{
	memset(addr, 0, bytes);
}

/* ---- files. A block is one object: what is read of it is what was written whole. ---- */

int xm_file_open(struct machine *m, const char *path, u64 *size)
{
	struct xm *xm = xm_of(m);

	for (u32 h = 0; h < XM_FILES; h++) {
		struct xm_file *f = &xm->file[h];

		if (f->open)
			continue;
		f->open = true;
		f->attached = false;
		if (!*size || *size > XM_FILE_BLOCKS * PAGE_SIZE)
			*size = XM_FILE_BLOCKS * PAGE_SIZE;
		f->size = *size;
		for (u32 i = 0; i < f->size >> PAGE_SHIFT; i++) {
			f->block[i].bytes = x_alloc(PAGE_SIZE, PAGE_SIZE);
			x_unraced(f->block[i].bytes, PAGE_SIZE);
		}
		return (int)h;
	}
	return -EMFILE;
}

void xm_file_close(struct machine *m, int h)
{
	struct xm_file *f = &xm_of(m)->file[h];

	BUG_ON(!f->open);
	f->open = false;
	for (u32 i = 0; i < f->size >> PAGE_SHIFT; i++)
		x_free(f->block[i].bytes, PAGE_SIZE);
}

static struct xm_file_block *file_block(struct machine *m, int h, u64 offset)
{
	struct xm_file *f = &xm_of(m)->file[h];

	BUG_ON(!f->open || offset >= f->size);
	return &f->block[offset >> PAGE_SHIFT];
}

int xm_file_read(struct machine *m, int h, void *buf, u64 bytes, u64 offset)
{
	for (u64 at = 0; at < bytes; at += PAGE_SIZE) {
		struct xm_file_block *b = file_block(m, h, offset + at);
		u8 *to = (u8 *)buf + at;

		x_access2(BASE_READ, &b->state, 8, BASE_WRITE, xm_bytes_object(xm_of(m), to), 8,
			  "reads from the file");
		if (x_noting())
			x_note("reads block %llu of the file",
			       (unsigned long long)(offset + at) >> PAGE_SHIFT);
		memcpy(to, b->bytes, PAGE_SIZE);
	}
	return 0;
}

int xm_file_write(struct machine *m, int h, const void *buf, u64 bytes, u64 offset)
{
	for (u64 at = 0; at < bytes; at += PAGE_SIZE) {
		struct xm_file_block *b = file_block(m, h, offset + at);
		const u8 *from = (const u8 *)buf + at;

		x_access2(BASE_WRITE, &b->state, 8, BASE_READ, xm_bytes_object(xm_of(m), from), 8,
			  "writes to the file");
		if (x_noting())
			x_note("writes block %llu of the file",
			       (unsigned long long)(offset + at) >> PAGE_SHIFT);
		memcpy(b->bytes, from, PAGE_SIZE);
	}
	return 0;
}

void xm_file_punch(struct machine *m, int h, u64 bytes, u64 offset)
{
}

/* ---- the file of an object: one, of whole pages, with room for XM_FILE_BLOCKS ---- */

int xm_file_attach(struct machine *m, const char *path, u32 flags, u64 *size)
{
	u64 room = 0;
	int h = xm_file_open(m, path, &room);

	if (h < 0)
		return h;
	xm_of(m)->file[h].attached = true;
	*size = 0;
	return h;
}

int xm_file_zero(struct machine *m, int h, u64 bytes, u64 offset)
{
	for (u64 at = 0; at < bytes; at += PAGE_SIZE) {
		struct xm_file_block *b = file_block(m, h, offset + at);

		x_access(BASE_WRITE, &b->state, 8, "zeroes a block of the file");
		if (x_noting())
			x_note("zeroes block %llu of the file",
			       (unsigned long long)(offset + at) >> PAGE_SHIFT);
		memset(b->bytes, 0, PAGE_SIZE);
	}
	return 0;
}

/* What is behind the end is zero; so growing changes nothing. */
int xm_file_resize(struct machine *m, int h, u64 size)
{
	struct xm_file *f = &xm_of(m)->file[h];

	BUG_ON(size > f->size);
	return size < f->size ? xm_file_zero(m, h, f->size - size, size) : 0;
}

int xm_file_sync(struct machine *m, int h)
{
	return 0;
}

u64 xm_file_word(struct machine *m, u64 block)
{
	struct xm *xm = xm_of(m);

	for (u32 h = 0; h < XM_FILES; h++)
		if (xm->file[h].open && xm->file[h].attached)
			return *(u64 *)(void *)xm->file[h].block[block].bytes;
	BUG("no file is attached");
}
