/*
 * dirty.c - PG_DIRTY and the tree's marks: who sets what, in which order.
 *
 *   T1: object_mark_dirty                    T2: write-back (folio lock)
 *   set PG_DIRTY
 *                                            clear PG_DIRTY, set PG_WRITEBACK
 *   tree lock: set the mark                  tree lock: PG_DIRTY set again? then leave the mark
 *
 * The flag is changed first and the mark follows under the tree lock, after the flag was looked at
 * once more; so whoever comes last leaves a mark if the flag is set.
 */
#include "object/object_internal.h"

static void mark(struct object *o, struct folio *f, enum object_mark which, bool set)
{
	u64 *nr = which == OBJECT_DIRTY ? &o->nr_dirty : &o->nr_writeback, before = *nr;

	for (u32 i = 0; i < folio_nr(f); i++) {
		u64 at = f->index + i;

		if (radix_marked(&o->pages, at, which) == set)
			continue;
		if (set)
			radix_mark(&o->pages, at, which);
		else
			radix_unmark(&o->pages, at, which);
		*nr += set ? 1 : (u64)-1;
	}
	if (which == OBJECT_DIRTY)
		a64_fetch_add(&o->q->objects->nr_dirty, *nr - before);
}

/* Wakes the writer when there was nothing for it to do. */
static void first_dirty(struct object *o)
{
	struct objects *os = o->q->objects;
	u32 asleep = 0;

	o->dirtied_ns = max(o->q->machine->ops->now_ns(o->q->machine), 1ull);
	if (a32_read(&os->running) && a32_read(&os->word) == 0 &&
	    a32_cmpxchg(&os->word, &asleep, 1))
		base_wake(&os->word.raw, 1);
}

void object_mark_dirty(struct folio *f)
{
	struct object *o = folio_object(f);

	if (folio_test(f, PG_DIRTY) || !folio_test_set(f, PG_DIRTY))
		return;
	if (!o || object_is_anon(o))
		return;
	spin_lock(&o->lock);
	if (folio_object(f) == o && folio_test(f, PG_DIRTY)) {
		mark(o, f, OBJECT_DIRTY, true);
		if (!o->dirtied_ns)
			first_dirty(o);
	}
	spin_unlock(&o->lock);
}

int object_make_writable(struct object *o, struct folio *f)
{
	lock_assert_held(&f->flags);
	if (o->flags & OBJECT_READONLY)
		return -EACCES;
	if (folio_object(f) != o)
		return -EAGAIN;
	folio_wait_writeback(f);
	object_mark_dirty(f);
	return 0;
}

bool writeback_begin(struct object *o, struct folio *f)
{
	struct objects *os = o->q->objects;

	DEBUG_ON(!folio_test(f, PG_LOCKED) || folio_test(f, PG_WRITEBACK));
	/* An entry is writable only while the folio is dirty. */
	if (!folio_test(f, PG_DIRTY))
		return false;
	/* Before the flag is cleared: a store through an entry that still has its rights must find
	 * it set, or set it again. */
	if (os->up.mkclean && folio_mapped(f))
		os->up.mkclean(o->q, f);
	if (!folio_test_clear(f, PG_DIRTY))
		return false;
	folio_set(f, PG_WRITEBACK);
	if (object_is_anon(o))
		return true;
	/* A pin's owner stores without an entry: it pinned through a writable one, that is while
	 * the folio was dirty. So either the pin is seen here, and the page stays dirty until it is
	 * written without one, or the pin comes after mkclean and finds no writable entry. */
	if (folio_maybe_pinned(f))
		folio_set(f, PG_DIRTY);
	spin_lock(&o->lock);
	if (!folio_test(f, PG_DIRTY))
		mark(o, f, OBJECT_DIRTY, false);
	mark(o, f, OBJECT_WRITEBACK, true);
	if (!o->nr_dirty)
		o->dirtied_ns = 0;
	spin_unlock(&o->lock);
	return true;
}

void writeback_end(struct object *o, struct folio *f, int err)
{
	/* Dirty again, and the error known, before anybody can think that the write has succeeded.
	 */
	if (err) {
		object_mark_dirty(f);
		object_error_set(o, err);
	}
	if (!object_is_anon(o)) {
		spin_lock(&o->lock);
		mark(o, f, OBJECT_WRITEBACK, false);
		spin_unlock(&o->lock);
	}
	folio_end_writeback(f);
}

void dirty_cancel(struct object *o, struct folio *f)
{
	DEBUG_ON(!folio_test(f, PG_LOCKED));
	folio_clear(f, PG_DIRTY);
	if (object_is_anon(o))
		return;
	spin_lock(&o->lock);
	mark(o, f, OBJECT_DIRTY, false);
	if (!o->nr_dirty)
		o->dirtied_ns = 0;
	spin_unlock(&o->lock);
}
