/*
 * cache.c - which folio holds a page: lookup without a lock, insertion, replacing, removal.
 *
 * Who changes a place holds the tree lock and the lock of the folio that comes or goes.
 */
#include "object/object_internal.h"

/* ---- lookup ---- */

/* A reference to a folio that may be on its way out. */
static bool cache_get(struct quire *q, struct folio *f)
{
	if (mech_on(q, MECH_REF_FREEZE))
		return folio_try_get(f);
	a32_fetch_add(&f->ref, 1);
	return true;
}

/*
 * See object.h for the race. A folio that is frozen while its place still shows it is about to
 * leave or to come back: look again until it did. Only a handful of steps under the tree lock lie
 * in between, and none of them sleeps.
 */
struct folio *object_lookup(struct object *o, u64 index)
{
	for (u32 tries = 1;; tries++) {
		struct folio *f = NULL;
		bool got = false, same = false;
		aptr_t *slot;

		qrcu_read_lock();
		slot = radix_slot(&o->pages, index);
		if (slot)
			f = word_folio(aptr_read_acquire(slot));
		if (f) {
			got = cache_get(o->q, f);
			same = aptr_read_acquire(slot) == f;
		}
		qrcu_read_unlock();
		if (!f || (got && (same || !mech_on(o->q, MECH_LOOKUP_RECHECK))))
			return f;
		if (got)
			folio_put(o->q, f);
		base_relax();
		if (tries % 64 == 0)
			base_yield();
	}
}

u64 cache_next(struct object *o, u64 from, u64 last, int mark, struct folio **out)
{
	struct folio *f = NULL;
	u64 at = from;
	void *word;

	spin_lock(&o->lock);
	while (at <= last) {
		at = mark < 0 ? radix_next(&o->pages, at, last, &word) :
				radix_next_marked(&o->pages, at, last, (unsigned)mark, &word);
		if (at == RADIX_END)
			break;
		f = word_folio(word);
		/* The place cannot change under the lock, but the folio may be frozen: then who
		 * froze it waits for the lock, and finds its place as it left it. */
		if (f && folio_try_get(f))
			break;
		if (f) {
			f = NULL;
			spin_unlock(&o->lock);
			base_yield();
			spin_lock(&o->lock);
			continue;
		}
		at++;
	}
	spin_unlock(&o->lock);
	*out = f;
	return f ? at : RADIX_END;
}

/* ---- change ---- */

static void note_word(struct object *o, void *old, void *new)
{
	o->nr_values += (u64)word_is_value(new) - (u64)word_is_value(old);
	o->nr_pages += (u64)(new && !word_is_value(new)) - (u64)(old && !word_is_value(old));
}

static void place(struct object *o, u64 index, void *word)
{
	note_word(o, radix_store(&o->pages, index, word), word);
}

/* A folio's fields are complete before a place shows it: a lookup reads them without a lock. */
void cache_link(struct object *o, struct folio *f, u64 index)
{
	f->index = index;
	aptr_set_release(&f->mapping, o);
	folio_get_nr(f, folio_nr(f));
	for (u32 i = 0; i < folio_nr(f); i++)
		place(o, index + i, f);
}

void cache_clear(struct object *o, struct folio *f, void *word, u32 step)
{
	for (u32 i = 0; i < folio_nr(f); i++) {
		DEBUG_ON(radix_load(&o->pages, f->index + i) != f);
		place(o, f->index + i, word ? value_word(word_value(word) + i * step) : NULL);
	}
}

/* May the folio take these places? *value: what is there. LOCKING: tree lock. */
static int places_free(struct object *o, u64 index, u32 nr, u64 *value)
{
	void *word;
	u64 at = radix_next(&o->pages, index, index + nr - 1, &word);

	if (value)
		*value = 0;
	if (at == RADIX_END)
		return 0;
	if (!word_is_value(word) || !value || nr > 1)
		return -EEXIST;
	*value = word_value(word);
	return 0;
}

int object_insert(struct object *o, u64 index, struct folio *f, u64 *value)
{
	u32 nr = folio_nr(f);
	int err;

	DEBUG_ON(!folio_test(f, PG_LOCKED) || aptr_read(&f->mapping));
	DEBUG_ON(index & (nr - 1) || index + nr - 1 > OBJECT_INDEX_MAX);
	spin_lock(&o->lock);
	err = places_free(o, index, nr, value);
	if (!err)
		err = radix_prepare(&o->pages, index, nr);
	if (!err)
		cache_link(o, f, index);
	spin_unlock(&o->lock);
	return err;
}

void object_replace_frozen(struct folio *old, struct folio *new)
{
	struct object *o = folio_object(old);
	u64 index = old->index;
	u32 nr = folio_nr(old);

	BUG_ON(!o || a32_read(&old->ref) || folio_nr(new) != nr);
	BUG_ON(folio_test(old, PG_WRITEBACK) || folio_test(old, PG_SWAPCACHE));
	DEBUG_ON(!folio_test(old, PG_LOCKED) || !folio_test(new, PG_LOCKED));
	spin_lock(&o->lock);
	if (folio_test_clear(old, PG_DIRTY))
		folio_set(new, PG_DIRTY);
	/* Marks of a replaced word stay with the place. */
	cache_link(o, new, index);
	aptr_set_release(&old->mapping, NULL);
	spin_unlock(&o->lock);
}

void object_remove(struct object *o, struct folio *f)
{
	u32 nr = folio_nr(f);

	DEBUG_ON(!folio_test(f, PG_LOCKED) || folio_object(f) != o);
	BUG_ON(folio_mapped(f) || folio_test(f, PG_WRITEBACK));
	dirty_cancel(o, f);
	spin_lock(&o->lock);
	cache_clear(o, f, NULL, 0);
	aptr_set_release(&f->mapping, NULL);
	spin_unlock(&o->lock);
	if (o->ops->invalidated)
		o->ops->invalidated(o, f);
	folio_put_nr(o->q, f, nr);
}

bool object_evict(struct quire *q, struct folio *f, u32 refs, u32 shadow)
{
	struct object *o = folio_object(f);
	u32 nr = folio_nr(f), cached = folio_test(f, PG_SWAPCACHE) ? nr : 0;
	void *word = value_word((u64)shadow + 1);

	DEBUG_ON(!folio_test(f, PG_LOCKED));
	if (!o || folio_mapped(f) || folio_test(f, PG_WRITEBACK))
		return false;
	if (mech_on(q, MECH_REF_FREEZE) ? !folio_freeze(f, refs + nr + cached) :
					  a32_xchg(&f->ref, 0) == 0)
		return false;
	/* Only now: who had a reference may have written and said so before it was dropped. */
	if (folio_test(f, PG_DIRTY)) {
		folio_unfreeze(f, refs + nr + cached);
		return false;
	}
	if (o->ops->evicted) {
		u64 value = o->ops->evicted(o, f, shadow);

		word = value ? value_word(value) : NULL;
	}
	spin_lock(&o->lock);
	cache_clear(o, f, word, o->ops->evicted ? 1 : 0);
	aptr_set_release(&f->mapping, NULL);
	spin_unlock(&o->lock);
	return true;
}

/* ---- checking ---- */

void object_for_each_folio(struct object *o, void (*fn)(void *ctx, struct folio *f), void *ctx)
{
	void *word;

	for (u64 at = 0; (at = radix_next(&o->pages, at, OBJECT_INDEX_MAX, &word)) != RADIX_END;) {
		struct folio *f = word_folio(word);

		if (f)
			fn(ctx, f);
		at = f ? f->index + folio_nr(f) : at + 1;
	}
}
