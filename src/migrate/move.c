/* move.c - one folio's bytes, state and places go to another one: steps 4 to 6 of migrate.h. */
#include "migrate/migrate_internal.h"

/* What says something of the contents or of how they are used. Not what says who maps it (locked in
 * memory, exclusive: set anew with each entry), nor what an object keeps in its tree's marks. */
#define CARRIED                                                                              \
	(PGF(UPTODATE) | PGF(SWAPBACKED) | PGF(ACTIVE) | PGF(REFERENCED) | PGF(WORKINGSET) | \
	 PGF(READAHEAD) | PGF(LAZYFREE))

static u32 expected_refs(const struct folio *f, u32 extra)
{
	u32 nr = folio_nr(f);

	return 1 + extra + (folio_test(f, PG_SWAPCACHE) ? nr : 0) + (folio_object(f) ? nr : 0);
}

/* The old folio is frozen: nobody sees it, and nobody the new one yet. */
static void carry_state(struct move *m)
{
	struct folio *src = m->src, *dst = m->dst;
	u64 flags = a64_read(&src->flags) & CARRIED;

	if (folio_is_anon(src))
		flags |= a64_read(&src->flags) & PGF(DIRTY);
	if (m->partial)
		flags |= PGF(PARTIAL);
	a64_fetch_or(&dst->flags, flags);
	/* The charge too: whoever frees the old frame uncharges nothing. */
	dst->charge = src->charge;
	src->charge = 0;
	dst->index = src->index;
}

static void replace(struct quire *q, struct move *m, u32 extra)
{
	struct folio *src = m->src, *dst = m->dst;

	carry_state(m);
	if (folio_test(src, PG_SWAPCACHE))
		swap_replace_frozen(q, src, dst);
	if (folio_object(src)) {
		object_replace_frozen(src, dst);
	} else {
		aptr_set_release(&dst->mapping, aptr_read(&src->mapping));
		aptr_set_release(&src->mapping, NULL);
		/* Its bytes live elsewhere now. */
		folio_clear(src, PG_DIRTY);
	}
	folio_unfreeze(src, 1 + extra);
}

/* What an object keeps only while the folio is dirty goes to the medium first. LOCKING: the folio
 * is unmapped and flushed, and stays so. */
static int settle(struct quire *q, struct folio *src)
{
	int err = object_may_move(src), why = 0;

	if (err != -EAGAIN)
		return err;
	if (object_writeout(q, &src, 1, &why) != 1)
		return -EBUSY;
	return object_may_move(src);
}

/* LOCKING: src is frozen. */
static int ask_object(struct move *m, enum migrate_mode mode)
{
	struct object *o = folio_object(m->src);

	if (!o || !o->ops->migrate_folio)
		return 0;
	return o->ops->migrate_folio(o, m->dst, m->src, mode);
}

int move_ready(struct quire *q, struct move *m, u32 extra)
{
	if (inject_fail(q->inject, INJECT_MIGRATE))
		return -EAGAIN;
	/* A look, before work is done for nothing. */
	if (a32_read(&m->src->ref) != expected_refs(m->src, extra) && mech_on(q, MECH_REF_FREEZE))
		return -EAGAIN;
	return settle(q, m->src);
}

struct migrate_copy move_bytes(struct quire *q, const struct move *m)
{
	return (struct migrate_copy){
		.to = folio_pfn(q, m->dst),
		.from = folio_pfn(q, m->src),
		.nr = folio_nr(m->src),
	};
}

int move_take_place(struct quire *q, struct move *m, u32 extra, enum migrate_mode mode)
{
	struct migrate_copy b = move_bytes(q, m);
	u32 expected = expected_refs(m->src, extra);
	bool freeze = mech_on(q, MECH_REF_FREEZE);
	int err;

	if (freeze ? !folio_freeze(m->src, expected) : a32_xchg(&m->src->ref, 0) == 0)
		return -EAGAIN;
	err = ask_object(m, mode);
	if (err) {
		folio_unfreeze(m->src, expected);
		return err;
	}
	meta_copy(q, b.to, b.from, b.nr);
	replace(q, m, extra);
	TRACE(q, EV_MIGRATE, b.from, b.to, b.nr);
	return 0;
}

static int copy_and_take_place(struct quire *q, struct move *m, u32 extra)
{
	struct migrate_copy b = move_bytes(q, m);
	int err = object_may_move(m->src) ? -EBUSY : move_ready(q, m, extra);

	if (!err)
		err = phys_copy_frames(q, b.to, b.from, b.nr, false);
	return err ? err : move_take_place(q, m, extra, MIGRATE_ASYNC);
}

int migrate_unmapped(struct quire *q, struct folio *dst, struct folio *src, u32 extra,
		     enum migrate_reason reason)
{
	struct move m = { .src = src, .dst = dst };
	int err = copy_and_take_place(q, &m, extra);

	if (err)
		migrate_count_failed(q, reason, folio_nr(src));
	else
		migrate_count_moved(q, reason, folio_nr(src));
	return err;
}

void move_map(struct quire *q, struct move *m, bool moved)
{
	struct folio *f = moved ? m->dst : m->src;

	if (!m->mapped)
		return;
	/* Areas that lock it say so again; one that did may have stopped meanwhile, and has not
	 * found the page. Pages that were unmapped for the move are not unmapped for good. */
	a64_fetch_and(&f->flags,
		      ~(PGF(MLOCKED) | PGF(UNEVICTABLE) | (m->partial ? 0 : PGF(PARTIAL))));
	rmap_remove_migration(q, m->src, f, m->av);
	if (f->order && folio_is_anon(f) && folio_mapcount(f) < folio_nr(f))
		folio_set(f, PG_PARTIAL);
}
