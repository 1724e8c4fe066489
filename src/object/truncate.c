/*
 * truncate.c - the size changes, or a range becomes a hole.
 *
 * Order of a truncation (invalidate held for writing):
 *   1 the medium, which may refuse: then nothing has happened
 *   2 the size: write-back that begins from now on writes nothing beyond it
 *   3 unmap (private copies too): no access gets through, and none can come back (object.h)
 *   4 each folio: lock, wait for write-back, out of the cache; the tail of the last page zeroed
 *   5 the medium once more: write-back that began before 2 may have made it longer again, and
 *     has ended by now
 * A hole goes the same way without 2, and private copies stay.
 */
#include "object/object_internal.h"

#define VALUES_MAX 64u

/* Values of pages [first, last] are dropped. */
static void drop_values(struct object *o, u64 first, u64 last)
{
	u64 value[VALUES_MAX];
	u64 at = first;
	void *word;
	u32 n;

	do {
		n = 0;
		spin_lock(&o->lock);
		while (n < VALUES_MAX &&
		       (at = radix_next(&o->pages, at, last, &word)) != RADIX_END) {
			if (word_is_value(word)) {
				value[n++] = word_value(word);
				radix_store(&o->pages, at, NULL);
				o->nr_values--;
			}
			at++;
		}
		spin_unlock(&o->lock);
		if (object_is_anon(o) && o->ops->forget)
			for (u32 i = 0; i < n; i++)
				o->ops->forget(o, value[i]);
	} while (n == VALUES_MAX);
}

/* What lies in [start, end) of a folio that stays is zeroed. LOCKING: folio lock, no write-back. */
static void zero_part(struct object *o, struct folio *f, u64 start, u64 end)
{
	u64 base = f->index << PAGE_SHIFT, size = (u64)folio_nr(f) << PAGE_SHIFT;
	u64 from = start > base ? start - base : 0;

	folio_zero_bytes(o, f, from, min(end - base, size));
}

/*
 * Every folio that lies in [start, end) bytes as a whole leaves the cache; of others the part that
 * does is zeroed, and dirty if `dirty`. LOCKING: invalidate for writing, or the object is unused.
 */
static void drop_folios(struct object *o, u64 start, u64 end, bool dirty)
{
	u64 last = end ? (end - 1) >> PAGE_SHIFT : 0;
	struct folio *f;

	for (u64 at = start >> PAGE_SHIFT; (at = cache_next(o, at, last, -1, &f)) != RADIX_END;) {
		u64 next = at + 1;

		folio_lock(f);
		if (folio_object(f) == o) {
			u64 base = f->index << PAGE_SHIFT;

			next = f->index + folio_nr(f);
			folio_wait_writeback(f);
			if (base >= start && next << PAGE_SHIFT <= end) {
				object_remove(o, f);
			} else {
				if (dirty)
					object_mark_dirty(f);
				zero_part(o, f, start, end);
			}
		}
		folio_unlock(f);
		folio_put(o->q, f);
		at = next;
	}
}

void object_empty(struct object *o)
{
	drop_folios(o, 0, OBJECT_SIZE_MAX, false);
	drop_values(o, 0, OBJECT_INDEX_MAX);
}

/* An edge of what goes, in the middle of a page that may be in no folio: it is brought in, so that
 * it can be zeroed, and *out is a reference that keeps it in the cache until then; NULL: no such
 * page. LOCKING: invalidate for writing. */
static int bring_edge(struct object *o, u64 at, struct folio **out)
{
	*out = NULL;
	if (!(at & (PAGE_SIZE - 1)) || at >= object_size(o))
		return 0;
	return object_get_folio(o, at >> PAGE_SHIFT, 0, NULL, out, NULL);
}

static void drop_edge(struct object *o, struct folio *edge)
{
	if (edge)
		folio_put(o->q, edge);
}

static int medium_resize(struct object *o, u64 size)
{
	return o->ops->resize ? o->ops->resize(o, size) : 0;
}

void object_zero_tail(struct object *o)
{
	u64 size = object_size(o);

	if (size & (PAGE_SIZE - 1))
		drop_folios(o, size, ALIGN_UP(size, PAGE_SIZE), false);
}

static int grow(struct object *o, u64 size)
{
	int err = medium_resize(o, size);

	if (err)
		return err;
	object_zero_tail(o);
	a64_set_release(&o->size, size);
	return 0;
}

static int shrink(struct object *o, u64 size)
{
	struct objects *os = o->q->objects;
	bool anon = object_is_anon(o), cached;
	int err;

	/* What is not cached now will not be written: nothing comes in meanwhile. */
	spin_lock(&o->lock);
	cached = o->nr_pages != 0;
	spin_unlock(&o->lock);
	err = medium_resize(o, size);
	if (err)
		return err;
	a64_set_release(&o->size, size);
	if (os->up.unmap_range)
		os->up.unmap_range(o->q, o, DIV_UP(size, PAGE_SIZE), OBJECT_INDEX_MAX, true);
	drop_folios(o, size, OBJECT_SIZE_MAX, anon);
	drop_values(o, DIV_UP(size, PAGE_SIZE), OBJECT_INDEX_MAX);
	if (cached && mech_on(o->q, MECH_TRUNCATE_MEDIUM_LAST)) {
		err = medium_resize(o, size);
		if (err)
			object_error_set(o, err);
	}
	return err;
}

int object_truncate(struct object *o, u64 size)
{
	struct folio *edge = NULL;
	u64 old;
	bool locked;
	int err = 0;

	if (o->flags & OBJECT_GONE)
		return -EBADF;
	if (o->flags & OBJECT_READONLY)
		return -EACCES;
	if (size > OBJECT_SIZE_MAX)
		return -EFBIG;
	locked = mech_on(o->q, MECH_TRUNCATE_INVALIDATE);
	if (locked)
		rwsem_write_lock(&o->invalidate);
	old = object_size(o);
	if (size > old)
		err = grow(o, size);
	else if (size < old && object_is_anon(o))
		err = bring_edge(o, size, &edge);
	if (!err && size < old)
		err = shrink(o, size);
	drop_edge(o, edge);
	if (locked)
		rwsem_write_unlock(&o->invalidate);
	qrcu_poll(o->q);
	return err;
}

static int punch(struct object *o, u64 start, u64 end)
{
	struct objects *os = o->q->objects;
	u64 first = DIV_UP(start, PAGE_SIZE),
	    last = end >> PAGE_SHIFT; /* whole pages [first, last) */
	int err = 0;

	if (first < last && o->ops->zero)
		err = o->ops->zero(o, first << PAGE_SHIFT, (last - first) << PAGE_SHIFT);
	if (err)
		return err;
	if (first < last && os->up.unmap_range)
		os->up.unmap_range(o->q, o, first, last - 1, false);
	/* The parts of pages at the edges are written like any other bytes. */
	drop_folios(o, start, end, true);
	if (first >= last)
		return 0;
	drop_values(o, first, last - 1);
	if (o->ops->zero && mech_on(o->q, MECH_TRUNCATE_MEDIUM_LAST)) {
		err = o->ops->zero(o, first << PAGE_SHIFT, (last - first) << PAGE_SHIFT);
		if (err)
			object_error_set(o, err);
	}
	return err;
}

/* The edges stay in memory meanwhile: what is evicted before it is zeroed comes back as it was. */
static int punch_between(struct object *o, u64 start, u64 end)
{
	struct folio *low, *high = NULL;
	int err = bring_edge(o, start, &low);

	if (err)
		return err;
	err = bring_edge(o, end, &high);
	if (!err)
		err = punch(o, start, end);
	drop_edge(o, low);
	drop_edge(o, high);
	return err;
}

int object_punch(struct object *o, u64 start, u64 len)
{
	u64 end;
	int err = 0;

	if (o->flags & OBJECT_GONE)
		return -EBADF;
	if (o->flags & OBJECT_READONLY)
		return -EACCES;
	rwsem_write_lock(&o->invalidate);
	end = object_size(o);
	/* To the end means the last page as a whole. */
	end = len >= end || start >= end - len ? ALIGN_UP(end, PAGE_SIZE) : start + len;
	if (start < object_size(o) && start < end)
		err = punch_between(o, start, end);
	rwsem_write_unlock(&o->invalidate);
	qrcu_poll(o->q);
	return err;
}
