/* check.c - the invariants of objects, at quiescence. */
#include "object/object_internal.h"

struct counts {
	u64 pages;
	u64 values;
	u64 dirty;
	u64 writeback;
	u64 broken;
};

static void check_folio(struct object *o, struct folio *f, u64 at, struct counts *c)
{
	bool inside = at >= f->index && at < f->index + folio_nr(f);
	bool dirty = radix_marked(&o->pages, at, OBJECT_DIRTY);
	bool writeback = radix_marked(&o->pages, at, OBJECT_WRITEBACK);

	c->pages++;
	c->dirty += dirty;
	c->writeback += writeback;
	c->broken += WARN_ON(folio_object(f) != o || !inside || f->index & (folio_nr(f) - 1));
	c->broken += WARN_ON(a32_read(&f->ref) < folio_nr(f));
	c->broken += WARN_ON(!folio_test(f, PG_UPTODATE) && !folio_test(f, PG_LOCKED));
	c->broken += WARN_ON(f->index >= object_nr_indices(o));
	if (object_is_anon(o))
		return;
	c->broken += WARN_ON(dirty != folio_test(f, PG_DIRTY));
	c->broken += WARN_ON(writeback != folio_test(f, PG_WRITEBACK));
}

u64 object_check(struct object *o)
{
	struct counts c = { .pages = 0 };
	void *word;
	long words;

	spin_lock(&o->lock);
	words = radix_check(&o->pages);
	for (u64 at = 0; (at = radix_next(&o->pages, at, OBJECT_INDEX_MAX, &word)) != RADIX_END;
	     at++) {
		if (word_is_value(word))
			c.values++;
		else
			check_folio(o, word_folio(word), at, &c);
	}
	c.broken += WARN_ON(words < 0 || (u64)words != c.pages + c.values);
	c.broken += WARN_ON(c.pages != o->nr_pages || c.values != o->nr_values);
	c.broken += WARN_ON(c.dirty != o->nr_dirty || c.writeback != o->nr_writeback);
	c.broken += WARN_ON(!c.dirty != !o->dirtied_ns);
	spin_unlock(&o->lock);
	c.broken += WARN_ON(itree_check(&o->areas) < 0);
	return c.broken;
}

static void check_one(void *ctx, struct object *o)
{
	*(u64 *)ctx += object_check(o);
}

u64 objects_check(struct quire *q)
{
	u64 broken = 0;

	objects_for_each(q, check_one, &broken);
	return broken;
}
