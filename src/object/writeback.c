/*
 * writeback.c - dirty pages on their way to the medium: on demand, and for reclaim.
 *
 * A batch holds folios that are PG_WRITEBACK and follow one another. Nobody who has a batch waits
 * for a lock or for another's write-back: it writes the batch first. Otherwise two writers, each
 * with a folio that the other waits for, would wait for ever.
 */
#include "object/object_internal.h"

struct batch {
	struct object *o;
	struct folio *folio[OBJECT_IO_MAX];
	u32 bytes[OBJECT_IO_MAX];
	u32 n;
	u32 pages;
	u64 next; /* the index that would continue it */
	int err;  /* the first */
};

/* Writes what is in the batch; the folios' references are dropped if `put`. errs may be NULL. */
static void batch_write(struct batch *b, bool put, int *errs)
{
	struct object *o = b->o;
	int err[OBJECT_IO_MAX];

	if (!b->n)
		return;
	o->ops->write(o, b->folio, b->bytes, b->n, err);
	stat_add(o->q, STAT_OBJECT_WRITE_PAGES, b->pages);
	for (u32 i = 0; i < b->n; i++) {
		if (!err[i] && inject_fail(o->q->inject, INJECT_OBJECT_WRITE))
			err[i] = -EIO;
		writeback_end(o, b->folio[i], err[i]);
		if (err[i] && !b->err)
			b->err = err[i];
		if (errs)
			errs[i] = err[i];
		if (put)
			folio_put(o->q, b->folio[i]);
	}
	b->n = b->pages = 0;
}

static bool batch_takes(const struct batch *b, const struct object *o, const struct folio *f)
{
	return !b->n || (b->o == o && f->index == b->next && b->n < OBJECT_IO_MAX &&
			 b->pages + folio_nr(f) <= OBJECT_IO_MAX);
}

/* Bytes of the folio that belong to the object: what lies behind its end is not written. */
static u32 bytes_inside(struct object *o, const struct folio *f)
{
	u64 start = f->index << PAGE_SHIFT, size = object_size(o);

	return size > start ? (u32)min(size - start, (u64)folio_nr(f) << PAGE_SHIFT) : 0;
}

static void batch_add(struct batch *b, struct object *o, struct folio *f, u32 bytes)
{
	/* Loads may see what a mapping's user has stored behind the end; the medium never does. */
	if (bytes & (PAGE_SIZE - 1))
		folio_zero_bytes(o, f, bytes, ALIGN_UP((u64)bytes, PAGE_SIZE));
	b->o = o;
	b->folio[b->n] = f;
	b->bytes[b->n++] = bytes;
	b->pages += folio_nr(f);
	b->next = f->index + folio_nr(f);
}

/* The folio's lock, without waiting while there is a batch. False: left to who has it. */
static bool lock_for(struct batch *b, struct folio *f, enum object_wb mode)
{
	if (folio_trylock(f))
		return true;
	if (mode == OBJECT_WB_NONE)
		return false;
	batch_write(b, true, NULL);
	folio_lock(f);
	return true;
}

/* One dirty folio, referenced, into the batch. */
static void write_one(struct batch *b, struct object *o, struct folio *f, enum object_wb mode)
{
	u32 bytes;

	if (!batch_takes(b, o, f))
		batch_write(b, true, NULL);
	if (!lock_for(b, f, mode)) {
		folio_put(o->q, f);
		return;
	}
	if (folio_object(f) != o)
		goto leave;
	if (folio_test(f, PG_WRITEBACK)) {
		if (mode == OBJECT_WB_NONE)
			goto leave;
		batch_write(b, true, NULL);
		folio_wait_writeback(f);
	}
	/* The size cannot shrink below what is seen here before truncation has waited for this
	 * lock, or for the write-back. */
	bytes = bytes_inside(o, f);
	if (!bytes || !writeback_begin(o, f))
		goto leave;
	batch_add(b, o, f, bytes);
	folio_unlock(f);
	return;
leave:
	folio_unlock(f);
	folio_put(o->q, f);
}

static void wait_for_others(struct object *o, u64 first, u64 last)
{
	struct folio *f;

	for (u64 at = first; (at = cache_next(o, at, last, OBJECT_WRITEBACK, &f)) != RADIX_END;) {
		folio_wait_writeback(f);
		at = f->index + folio_nr(f);
		folio_put(o->q, f);
	}
}

int object_writeback(struct object *o, u64 first, u64 last, enum object_wb mode)
{
	struct batch b = { .o = o };
	struct folio *f;

	if (object_is_anon(o) || o->flags & OBJECT_READONLY)
		return 0;
	/* Upwards once: what becomes dirty again behind us is not this call's. */
	for (u64 at = first; (at = cache_next(o, at, last, OBJECT_DIRTY, &f)) != RADIX_END;) {
		u64 next = at + 1;

		if (f->index <= at && at < f->index + folio_nr(f))
			next = f->index + folio_nr(f);
		write_one(&b, o, f, mode);
		at = next;
	}
	batch_write(&b, true, NULL);
	if (mode == OBJECT_WB_SYNC)
		wait_for_others(o, first, last);
	return b.err;
}

int object_sync(struct object *o, u64 first, u64 last, u32 *since)
{
	int err, seen;

	if (o->flags & OBJECT_GONE)
		return -EBADF;
	err = object_writeback(o, first, last, OBJECT_WB_SYNC);
	if (!err && o->ops->sync) {
		/* It may make the medium longer: not while the size changes. */
		rwsem_read_lock(&o->invalidate);
		err = inject_fail(o->q->inject, INJECT_OBJECT_SYNC) ? -EIO : o->ops->sync(o);
		rwsem_read_unlock(&o->invalidate);
		if (err)
			object_error_set(o, err);
	}
	seen = since ? object_error_check(o, since) : 0;
	return err ? err : seen;
}

u32 object_writeout(struct quire *q, struct folio **folios, u32 n, int *err)
{
	struct batch b = { .n = 0 };
	u32 good = 0, from = 0;

	for (u32 i = 0; i <= n; i++) {
		struct object *o = i < n ? folio_object(folios[i]) : NULL;

		/* The batch is folios[from, i). */
		if (b.n && (i == n || !batch_takes(&b, o, folios[i])))
			batch_write(&b, false, err + from);
		if (i == n)
			break;
		err[i] = 0;
		if (o && bytes_inside(o, folios[i]) && writeback_begin(o, folios[i])) {
			if (!b.n)
				from = i;
			batch_add(&b, o, folios[i], bytes_inside(o, folios[i]));
		} else {
			batch_write(&b, false, err + from);
		}
	}
	for (u32 i = 0; i < n; i++)
		good += !err[i];
	return good;
}
