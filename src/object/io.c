/*
 * io.c - reads and writes by call, through the same pages that areas map.
 *
 * The caller's buffer may be managed memory, even an area of the same object: touching it may
 * fault, and a fault takes locks from the top. So it is touched with no lock held: reads copy from
 * a referenced folio, writes go through a page of the arena.
 */
#include "object/object_internal.h"

#include "base/arena.h"

s64 object_read(struct object *o, u64 offset, void *buf, u64 len, struct object_ra *ra)
{
	u64 done = 0;

	while (done < len) {
		u64 at = offset + done, in_page = at & (PAGE_SIZE - 1), size;
		u64 n = min(len - done, PAGE_SIZE - in_page);
		struct folio *f = NULL;
		int err = 0;

		rwsem_read_lock(&o->invalidate);
		size = object_size(o);
		if (at < size)
			err = object_get_folio(o, at >> PAGE_SHIFT, 0, ra, &f, NULL);
		rwsem_read_unlock(&o->invalidate);
		if (err)
			return done ? (s64)done : err;
		if (!f)
			break;
		n = min(n, size - at);
		__builtin_memcpy((char *)buf + done,
				 (char *)page_bytes(o, f, (u32)((at >> PAGE_SHIFT) - f->index)) +
					 in_page,
				 n);
		lru_mark_accessed(o->q, f);
		folio_put(o->q, f);
		done += n;
	}
	return (s64)done;
}

/* Bytes of one page, the folio brought in if need be. LOCKING: invalidate (for writing if the page
 * is beyond the size). */
static int write_page(struct object *o, u64 at, const void *from, u64 n, u32 flags)
{
	struct folio *f;
	int err = object_get_folio(o, at >> PAGE_SHIFT, flags | OBJECT_GET_LOCKED, NULL, &f, NULL);

	if (err)
		return err;
	err = object_make_writable(o, f);
	if (!err)
		__builtin_memcpy((char *)page_bytes(o, f, (u32)((at >> PAGE_SHIFT) - f->index)) +
					 (at & (PAGE_SIZE - 1)),
				 from, n);
	folio_unlock(f);
	lru_mark_accessed(o->q, f);
	folio_put(o->q, f);
	return err;
}

/* A piece inside one page, from a buffer of the core's own. */
static int write_piece(struct object *o, u64 at, const void *from, u64 n)
{
	int err;

	rwsem_read_lock(&o->invalidate);
	if (at + n <= object_size(o)) {
		err = write_page(o, at, from, n, 0);
		rwsem_read_unlock(&o->invalidate);
		return err;
	}
	rwsem_read_unlock(&o->invalidate);
	rwsem_write_lock(&o->invalidate);
	/* What lies between the old end and this piece is zero on the medium, which is as long as
	 * what was written to it. */
	object_zero_tail(o);
	err = write_page(o, at, from, n, OBJECT_GET_BEYOND);
	/* The bytes first: nobody sees the new size without them. */
	if (!err && at + n > object_size(o))
		a64_set_release(&o->size, at + n);
	rwsem_write_unlock(&o->invalidate);
	return err;
}

s64 object_write(struct object *o, u64 offset, const void *buf, u64 len)
{
	u64 done = 0;
	void *page;
	int err = 0;

	if (o->flags & OBJECT_READONLY)
		return -EACCES;
	if (offset > OBJECT_SIZE_MAX || len > OBJECT_SIZE_MAX - offset)
		return -EFBIG;
	page = arena_pages(o->q->arena, 1);
	if (!page)
		return -ENOMEM;
	while (done < len && !err) {
		u64 at = offset + done;
		u64 n = min(len - done, PAGE_SIZE - (at & (PAGE_SIZE - 1)));

		__builtin_memcpy(page, (const char *)buf + done, n);
		err = write_piece(o, at, page, n);
		if (!err)
			done += n;
	}
	arena_pages_free(o->q->arena, page, 1);
	object_balance_dirty(o);
	return done ? (s64)done : err;
}
