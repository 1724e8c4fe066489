/*
 * check.c - every invariant of a whole instance, at quiescence: entries against folios against
 * slots against charges.
 *
 * Counted twice and compared: what entries say (a walk of all tables) and what folios, slots,
 * groups and spaces say of themselves.
 */
#include "migrate/balloon.h"
#include "space/space_internal.h"

struct tally {
	struct quire *q;
	struct space *s;
	struct folio *zero;   /* mapped by SPECIAL entries, which count nothing */
	u64 present;          /* entries that map pages, of all spaces */
	u64 swaps;            /* swap entries */
	u64 here, swaps_here; /* of this space */
	u64 mapcounts;        /* summed over folios */
	u64 bad;
};

/* An object's page, in the place where the area shows it. */
static void check_object_page(struct tally *t, struct vma *v, u64 va, u64 e, struct folio *page)
{
	struct folio *f = folio_head(page);
	bool shared = vma_flags(v) & VM_SHARED;

	t->bad += WARN_ON(!v->object || folio_object(f) != v->object);
	t->bad += WARN_ON(f->index + (u64)(page - f) != vma_index(v, va));
	t->bad += WARN_ON(!(e & ENTRY_SHARED) != !shared);
	t->bad += WARN_ON(page_exclusive(page));
	/* A store that nobody would know of, or that is another's too. */
	t->bad += WARN_ON(pte_write(e) && (!shared || !folio_test(f, PG_DIRTY)));
}

/* What cannot be accessed is so because of the area, or is a hint: who uses it is told nothing else
 * by the area, and would trap for ever. */
static void check_access(struct tally *t, struct vma *v, u64 e, struct folio *f)
{
	bool none = !(vma_flags(v) & VM_PROT_MASK);

	t->bad += WARN_ON(entry_present(e) && (none || (e & ENTRY_PROTNONE)));
	t->bad += WARN_ON(!entry_present(e) && !none && !pte_is_hint(e));
	t->bad += WARN_ON(pte_is_hint(e) && (!phys_tiered(t->q) || !folio_is_anon(f)));
}

static void check_present(struct tally *t, struct vma *v, u64 va, u64 e)
{
	struct folio *page = phys_record(t->q, entry_pfn(e)), *f;

	if (WARN_ON(!page)) {
		t->bad++;
		return;
	}
	f = folio_head(page);
	t->bad += WARN_ON(a32_read(&f->ref) == 0);
	t->bad += WARN_ON(a32_read(&page->mapcount) == 0);
	check_access(t, v, e, f);
	if (vma_home(v))
		t->bad += WARN_ON(entry_pfn(e) != va >> PAGE_SHIFT);
	t->bad += WARN_ON(frame_is_home(t->q->machine, entry_pfn(e)) != vma_home(v));
	if (!machine_has(t->q->machine, CAP_HW_AD))
		t->bad += WARN_ON(pte_write(e) && !pte_dirty(e));
	if (!folio_is_anon(f)) {
		check_object_page(t, v, va, e, page);
		return;
	}
	t->bad += WARN_ON(v->object && (vma_flags(v) & VM_SHARED));
	/* Writable means exclusive, and exclusive means mapped once (Linux 6c287605). */
	t->bad += WARN_ON(pte_write(e) && !page_exclusive(page));
	t->bad += WARN_ON(page_exclusive(page) && a32_read(&page->mapcount) != 1);
}

static void check_entry(void *ctx, u64 va, u64 e, unsigned level)
{
	struct tally *t = ctx;
	struct vma *v = vma_find(&t->s->fs.vmas, va);

	t->bad += WARN_ON(level != 0);
	if (WARN_ON(!v)) {
		t->bad++;
		return;
	}
	if (pte_present(e) && !pte_special(e)) {
		t->here++;
		check_present(t, v, va, e);
		t->bad += WARN_ON(pte_write(e) && !(vma_flags(v) & VM_WRITE));
	} else if (pte_is_migration(e)) {
		/* Nobody moves anything now. */
		t->bad += WARN_ON(true);
	} else if (pte_is_swap(e)) {
		t->swaps_here++;
		t->bad += WARN_ON(swap_count(t->q, swp_slot(e)) == 0);
		/* Nobody else's entry names the slot. */
		t->bad += WARN_ON((e & SWP_EXCLUSIVE) && swap_count(t->q, swp_slot(e)) != 1);
	}
}

static void check_folio(void *ctx, struct folio *f)
{
	struct tally *t = ctx;
	u32 maps = folio_mapcount(f), ref = a32_read(&f->ref);
	u32 want = maps + (folio_test(f, PG_SWAPCACHE) ? folio_nr(f) : 0) +
		   (folio_object(f) ? folio_nr(f) : 0) + (folio_type(f) ? 1 : 0);

	t->mapcounts += maps;
	if (t->zero == f)
		return;
	/* Pins are the only other references at quiescence. */
	t->bad += WARN_ON(ref < want || (ref - want) % PIN_BIAS);
	t->bad += WARN_ON(folio_test(f, PG_LOCKED));
	t->bad += WARN_ON(folio_test(f, PG_SWAPCACHE) && !f->swap);
}

static u64 check_space(struct quire *q, struct space *s, struct tally *t)
{
	struct vma *v;
	u64 bad = vmas_check(&s->fs.vmas) + pt_check(&s->fs.rs.pgt);

	t->s = s;
	t->here = t->swaps_here = 0;
	pt_for_each(&s->fs.rs.pgt, s->fs.vmas.usable, check_entry, t);
	bad += WARN_ON(t->here != a64_read(&s->fs.rs.rss_pages));
	bad += WARN_ON(t->swaps_here != a64_read(&s->fs.rs.swap_entries));
	for (v = vma_find_first(&s->fs.vmas, 0); v; v = vma_next(&s->fs.vmas, v))
		bad += rmap_check_vma(q, v);
	t->present += t->here;
	t->swaps += t->swaps_here;
	return bad;
}

u64 quire_check_all(struct quire *q)
{
	struct tally t = { .q = q, .zero = fault_zero_folio(q) };
	u64 bad = 0;

	lru_drain_all(q);
	mutex_lock(&q->spaces->lock);
	list_for_each(pos, &q->spaces->all) {
		struct space *s = list_entry(pos, struct space, all);

		space_read_lock(&s->fs.vmas);
		bad += check_space(q, s, &t);
		space_read_unlock(&s->fs.vmas);
	}
	mutex_unlock(&q->spaces->lock);
	phys_for_each_folio(q, check_folio, &t);
	bad += WARN_ON(t.mapcounts != t.present);
	bad += phys_check(q);
	bad += balloon_check(q);
	bad += swap_check(q);
	bad += objects_check(q);
	return bad + t.bad;
}
