/* movable.c - isolating pages of whatever kind, and giving them back. */
#include "migrate/migrate_internal.h"

const struct movable_ops *movable_of(struct quire *q, const struct folio *f)
{
	u32 type = folio_type(f);

	return type ? q->migrate->movable[type - 1] : NULL;
}

void movable_register(struct quire *q, enum page_type type, const struct movable_ops *ops)
{
	q->migrate->movable[type - 1] = ops;
}

/* LOCKING: a reference is held. */
static bool isolate_locked(struct quire *q, struct folio *f)
{
	const struct movable_ops *ops = movable_of(q, f);

	/* Not before it is known to be of a kind: another's new page is locked by nobody else. */
	if (!ops || !folio_trylock(f))
		return false;
	/* The owner may have given it up meanwhile, or somebody isolated it. */
	ops = movable_of(q, f);
	if (ops && !(folio_test(f, PG_LISTED) && ops->isolate(q, f)))
		ops = NULL;
	folio_unlock(f);
	return ops;
}

bool movable_isolate(struct quire *q, struct folio *f)
{
	if (!movable_of(q, f) || !folio_try_get(f))
		return false;
	if (isolate_locked(q, f))
		return true;
	folio_put(q, f);
	return false;
}

u64 movable_isolate_range(struct quire *q, u64 pfn, u64 end, struct list *out)
{
	u64 pages = 0;

	for (; pfn < end; pfn++) {
		struct folio *f = phys_record(q, pfn);

		if (!f || !movable_isolate(q, f))
			continue;
		list_add_tail(&f->lru, out);
		pages += folio_nr(f);
	}
	return pages;
}

void movable_isolate_all(struct quire *q, u64 *pos, u64 end, unsigned max_order, u32 max_pages,
			 struct list *out, struct phys_scan *scan)
{
	u64 from = *pos, typed = scan->typed;

	phys_isolate_folios(q, pos, end, max_order, max_pages, out, scan);
	if (scan->typed != typed)
		scan->isolated += movable_isolate_range(q, from, *pos, out);
}

void movable_putback(struct quire *q, struct folio *f)
{
	folio_lock(f);
	movable_of(q, f)->putback(q, f);
	folio_unlock(f);
	folio_put(q, f);
}

void migrate_putback(struct quire *q, struct list *folios)
{
	struct list lru;

	list_init(&lru);
	while (!list_empty(folios)) {
		struct folio *f = list_first(folios, struct folio, lru);

		list_del(&f->lru);
		if (movable_of(q, f))
			movable_putback(q, f);
		else
			list_add_tail(&f->lru, &lru);
	}
	lru_putback_list(q, &lru);
}
