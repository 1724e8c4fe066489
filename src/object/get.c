/*
 * get.c - the folio of a page, from the cache or from the medium, with reading ahead.
 *
 *   T1: first to want the page               T2: second
 *   lookup: nothing
 *   new folio, locked, into the cache        lookup: T1's folio, not up to date
 *   reads                                    waits for its lock
 *   good: up to date; unlock                 ... has it
 *   bad: out of the cache; unlock            ... is not the object's any more: looks up again, and
 *                                            reads for itself
 *
 * Several folios are locked at once when reading ahead: all of them new, so that nobody else can
 * hold one of them and wait for another.
 */
#include "object/object_internal.h"

#include "base/thread.h"

#define RA_MAX          32u
#define MAKE_ROOM_TRIES 24u

struct fill {
	struct object *o;
	u64 index;
	u32 n;
	struct folio *folio[RA_MAX];
	u64 value[RA_MAX];
	int err[RA_MAX];
};

/* ---- frames ---- */

static u64 make_room(struct object *o, unsigned cg, u32 pages)
{
	struct objects *os = o->q->objects;

	/* Inside reclaim nothing more can be freed: what it needs it must find. */
	if (!os->up.make_room || base_self()->reclaim_depth)
		return 0;
	return os->up.make_room(o->q, cg, pages);
}

static int charge(struct object *o, bool force)
{
	unsigned at = o->cgroup;

	for (u32 tries = 0; cgroup_try_charge(o->q, o->cgroup, 1, &at);) {
		if (make_room(o, at, 1)) {
			tries = 0;
			continue;
		}
		if (++tries < (force ? MAKE_ROOM_TRIES : 2)) {
			base_yield();
			continue;
		}
		if (!force)
			return -ENOMEM;
		cgroup_force_charge(o->q, o->cgroup, 1);
		stat_add(o->q, STAT_OVER_LIMIT, 1);
		return 0;
	}
	return 0;
}

static struct folio *frame_for(struct object *o, u64 index, bool force)
{
	u64 frames = a64_read(&o->frames);
	struct folio *f = NULL;

	/* Its own frame may be in use still, by a pin on what was truncated: then any will do. */
	if (frames && !phys_alloc_at(o->q, 0, frames + index, 0, &f))
		return f;
	for (u32 tries = 0; tries < (force ? MAKE_ROOM_TRIES : 1); tries++) {
		f = phys_alloc(o->q, o->node, 0);
		if (f)
			return f;
		if (!make_room(o, CGROUP_ROOT, LRU_CLUSTER))
			base_yield();
	}
	return NULL;
}

/* Charged and locked. NULL: -ENOMEM. */
static struct folio *new_folio(struct object *o, u64 index, bool force)
{
	struct folio *f;

	if (charge(o, force))
		return NULL;
	f = frame_for(o, index, force);
	if (!f) {
		cgroup_uncharge(o->q, o->cgroup, 1);
		return NULL;
	}
	folio_set_charge(f, o->cgroup);
	/* Somebody may have found the frame's record by a stale number, and lock it for a moment
	 * before it sees that this is another folio. */
	while (!folio_trylock(f))
		base_yield();
	return f;
}

static void drop_new(struct object *o, struct folio *f)
{
	folio_unlock(f);
	folio_put(o->q, f);
}

/* ---- reading ---- */

/* How many pages to bring: doubles while reads continue where the last one ended. */
static u32 window(struct object *o, u64 index, struct object_ra *ra)
{
	u64 end = object_nr_indices(o);
	u32 n;

	if (!ra)
		return 1;
	n = a32_read(&ra->pages);
	n = a64_read(&ra->next) != index ? 1 : n < RA_MAX / 2 ? n * 2 + 2 : RA_MAX;
	n = min(n, RA_MAX);
	a32_set(&ra->pages, n);
	return index < end ? (u32)min((u64)n, end - index) : 1;
}

/* Folios from fl->index on go into the cache. 0: at least the first; else why not. */
static int enter_cache(struct fill *fl, u32 want, bool force)
{
	struct object *o = fl->o;
	int err = 0;

	/* All frames before the first insertion: making room must not wait for what is locked here.
	 */
	for (fl->n = 0; fl->n < want; fl->n++) {
		fl->folio[fl->n] = new_folio(o, fl->index + fl->n, force && !fl->n);
		if (!fl->folio[fl->n])
			break;
	}
	want = fl->n;
	if (!want)
		return -ENOMEM;
	for (fl->n = 0; fl->n < want; fl->n++) {
		u64 at = fl->index + fl->n;

		err = object_insert(o, at, fl->folio[fl->n], &fl->value[fl->n]);
		if (err)
			break;
	}
	for (u32 i = fl->n; i < want; i++)
		drop_new(o, fl->folio[i]);
	return fl->n ? 0 : err;
}

static void read_pages(struct fill *fl)
{
	struct object *o = fl->o;
	struct machine *m = o->q->machine;
	void *buf[RA_MAX];
	u32 n;

	for (n = 0; n < fl->n; n++) {
		buf[n] = m->ops->fill_begin(m, folio_pfn(o->q, fl->folio[n]), 1);
		if (!buf[n])
			break;
	}
	if (n && fl->index < object_nr_indices(o))
		o->ops->read(o, fl->index, n, buf, object_is_anon(o) ? fl->value : NULL, fl->err);
	else if (n)
		__builtin_memset(buf[0], 0, PAGE_SIZE); /* to be written: the medium ends before */
	for (u32 i = n; i < fl->n; i++)
		fl->err[i] = -ENOMEM;
	for (u32 i = 0; i < n; i++) {
		if (m->ops->fill_end(m, folio_pfn(o->q, fl->folio[i]), 1, buf[i]) && !fl->err[i])
			fl->err[i] = -ENOMEM;
		if (inject_fail(o->q->inject, INJECT_OBJECT_READ))
			fl->err[i] = -EIO;
	}
	stat_add(o->q, STAT_OBJECT_READ_PAGES, n);
}

/* The page did not come: its place gets back what was there. LOCKING: folio lock. */
static void leave_cache(struct object *o, struct folio *f, u64 value)
{
	spin_lock(&o->lock);
	cache_clear(o, f, value ? value_word(value) : NULL, 0);
	aptr_set_release(&f->mapping, NULL);
	spin_unlock(&o->lock);
	folio_put(o->q, f);
}

/* A page that has come. LOCKING: folio lock. */
static void enter_lists(struct object *o, struct folio *f, u64 value)
{
	struct objects *os = o->q->objects;
	u64 flags = PGF(UPTODATE);

	if (object_is_anon(o)) {
		flags |= PGF(SWAPBACKED);
		/* The stored copy goes: from now on the bytes exist nowhere else. */
		if (value)
			flags |= PGF(DIRTY);
	}
	if (value && !object_is_anon(o) && os->up.refault && os->up.refault(o->q, (u32)(value - 1)))
		flags |= PGF(ACTIVE) | PGF(WORKINGSET);
	a64_fetch_or(&f->flags, flags);
	if (value && object_is_anon(o) && o->ops->forget)
		o->ops->forget(o, value);
}

/* Ends the reading; the first folio stays referenced, and locked if it is wanted so. */
static int finish(struct fill *fl, u32 flags)
{
	struct object *o = fl->o;
	int err = fl->err[0];

	for (u32 i = 0; i < fl->n; i++) {
		struct folio *f = fl->folio[i];
		bool keep = !i && !err;

		if (fl->err[i]) {
			stat_inc(o->q, STAT_OBJECT_READ_ERRORS);
			leave_cache(o, f, fl->value[i]);
		} else {
			enter_lists(o, f, fl->value[i]);
			if (i)
				folio_set(f, PG_READAHEAD);
		}
		if (!fl->err[i])
			lru_add(o->q, f);
		if (!keep || !(flags & OBJECT_GET_LOCKED))
			folio_unlock(f);
		if (!keep)
			folio_put(o->q, f);
	}
	return err;
}

/* -EEXIST: somebody was faster. */
static int bring(struct object *o, u64 index, u32 flags, struct object_ra *ra, struct folio **out)
{
	struct fill fl = { .o = o, .index = index };
	int err = enter_cache(&fl, window(o, index, ra), !(flags & OBJECT_GET_NOFORCE));
	u32 n = fl.n;

	if (err)
		return err;
	read_pages(&fl);
	*out = fl.folio[0];
	err = finish(&fl, flags);
	if (!err && ra)
		a64_set(&ra->next, index + n);
	return err;
}

/* A folio from the cache, with a reference: up to date and as wanted; -EAGAIN: look up again. */
static int settle(struct object *o, struct folio *f, u32 flags)
{
	if (!(flags & OBJECT_GET_LOCKED) && folio_test(f, PG_UPTODATE))
		return 0;
	folio_lock(f);
	/* Whoever brings a page in has it locked until it is up to date or gone. */
	if (folio_object(f) == o && folio_test(f, PG_UPTODATE)) {
		if (!(flags & OBJECT_GET_LOCKED))
			folio_unlock(f);
		return 0;
	}
	folio_unlock(f);
	folio_put(o->q, f);
	return -EAGAIN;
}

int object_get_folio(struct object *o, u64 index, u32 flags, struct object_ra *ra,
		     struct folio **out, bool *major)
{
	int err;

	*out = NULL;
	lock_assert_held(&o->invalidate);
	if (major)
		*major = false;
	if (unlikely(o->flags & OBJECT_GONE))
		return -EBADF;
	for (;;) {
		/* The size cannot change here: a page that is beyond it stays away. */
		if (!(flags & OBJECT_GET_BEYOND) && index >= object_nr_indices(o))
			return -ENXIO;
		*out = object_lookup(o, index);
		if (*out) {
			err = settle(o, *out, flags);
			if (!err)
				return 0;
			continue;
		}
		err = bring(o, index, flags, ra, out);
		if (err != -EEXIST) {
			if (major && !err)
				*major = true;
			if (err)
				*out = NULL;
			return err;
		}
	}
}
