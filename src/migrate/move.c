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

/* The charge goes along, so no limit is in the way: whoever frees the old frame uncharges nothing
 * (Linux 0a31bc97). */
static void carry_charge(struct quire *q, struct move *m)
{
	m->dst->charge = m->src->charge;
	if (mech_on(q, MECH_MIGRATE_CHARGE))
		m->src->charge = 0;
	else if (m->dst->charge)
		cgroup_force_charge(q, m->dst->charge, folio_nr(m->dst));
}

static void carry_flags(struct move *m)
{
	struct folio *src = m->src, *dst = m->dst;
	u64 flags = a64_read(&src->flags) & CARRIED;

	if (folio_is_anon(src))
		flags |= a64_read(&src->flags) & PGF(DIRTY);
	if (m->partial)
		flags |= PGF(PARTIAL);
	a64_fetch_or(&dst->flags, flags);
}

/* The old folio is frozen: nobody sees it, and nobody the new one yet. */
static void carry_state(struct quire *q, struct move *m)
{
	struct folio *src = m->src, *dst = m->dst;

	carry_flags(m);
	carry_charge(q, m);
	dst->index = src->index;
}

static void replace(struct quire *q, struct move *m, u32 extra)
{
	struct folio *src = m->src, *dst = m->dst;

	carry_state(q, m);
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
	/* What the destination gets it gets when nothing can fail any more (Linux 8bdd6380). */
	if (m->dst && !mech_on(q, MECH_MIGRATE_PRISTINE))
		carry_flags(m);
	if (inject_fail(q->inject, INJECT_MIGRATE))
		return -EAGAIN;
	if (!m->dst) /* home frames: whoever has a reference keeps what he has */
		return 0;
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

int move_movable(struct quire *q, struct move *m, enum migrate_mode mode)
{
	struct migrate_copy b = move_bytes(q, m);
	int err;

	if (inject_fail(q->inject, INJECT_MIGRATE))
		return -EAGAIN;
	err = m->movable->migrate(q, m->dst, m->src, mode);
	if (err)
		return err;
	/* Both are locked still, and the old one is the isolation's alone. */
	carry_charge(q, m);
	TRACE(q, EV_MIGRATE, b.from, b.to, b.nr);
	return 0;
}

/* How many of m[0..n) are home frames side by side that go from one node to another together. */
static u32 home_run(struct quire *q, const struct move *m, u32 n, u32 *pages)
{
	u32 i = 1;

	*pages = folio_nr(m[0].src);
	while (i < n && !m[i].dst && !m[i].err && m[i].node == m[0].node &&
	       folio_node(m[i].src) == folio_node(m[0].src) &&
	       folio_pfn(q, m[i].src) == folio_pfn(q, m[0].src) + *pages &&
	       *pages + folio_nr(m[i].src) <= PTRS_PER_TABLE)
		*pages += folio_nr(m[i++].src);
	return i;
}

void move_home(struct quire *q, struct move *m, u32 n)
{
	struct machine *ma = q->machine;

	for (u32 i = 0, len, pages; i < n; i += len) {
		int err;

		len = 1;
		if (m[i].dst || m[i].err)
			continue;
		len = home_run(q, m + i, n - i, &pages);
		err = ma->ops->frames_to_node(ma, folio_pfn(q, m[i].src), pages,
					      folio_node(m[i].src), m[i].node);
		for (u32 k = i; k < i + len; k++) {
			m[k].err = err;
			if (err)
				continue;
			folio_change_node(q, m[k].src, m[k].node);
			TRACE(q, EV_MIGRATE, folio_pfn(q, m[k].src), folio_pfn(q, m[k].src),
			      folio_nr(m[k].src));
		}
	}
}

static struct folio *where_now(const struct move *m)
{
	return m->err || !m->dst ? m->src : m->dst;
}

/* How many of m[0..n) follow each other in every respect. */
static u32 map_run(struct quire *q, const struct move *m, u32 n, u32 *pages)
{
	const struct folio *first = where_now(m);
	u32 i = 1;

	*pages = folio_nr(first);
	while (i < n && m[i].mapped && !m[i].err == !m[0].err && m[i].av == m[0].av &&
	       folio_object(where_now(m + i)) == folio_object(first) &&
	       where_now(m + i)->index == first->index + *pages &&
	       folio_pfn(q, where_now(m + i)) == folio_pfn(q, first) + *pages &&
	       folio_pfn(q, m[i].src) == folio_pfn(q, m[0].src) + *pages &&
	       *pages + folio_nr(m[i].src) <= PTRS_PER_TABLE)
		*pages += folio_nr(m[i++].src);
	return i;
}

/* Areas that lock it say so again; one that did may have stopped meanwhile, and has not found the
 * page. Pages that were unmapped for the move are not unmapped for good. */
static void forget_mappings(const struct move *m)
{
	a64_fetch_and(&where_now(m)->flags,
		      ~(PGF(MLOCKED) | PGF(UNEVICTABLE) | (m->partial ? 0 : PGF(PARTIAL))));
}

void move_map(struct quire *q, struct move *m, u32 n, u64 hint)
{
	for (u32 i = 0, len, pages; i < n; i += len) {
		struct rmap_moved r;

		len = 1;
		if (!m[i].mapped)
			continue;
		len = map_run(q, m + i, n - i, &pages);
		for (u32 k = i; k < i + len; k++)
			forget_mappings(&m[k]);
		r = (struct rmap_moved){
			.from_pfn = folio_pfn(q, m[i].src),
			.to_pfn = folio_pfn(q, where_now(&m[i])),
			.index = where_now(&m[i])->index,
			.nr = pages,
			.av = m[i].av,
			.object = m[i].av ? NULL : folio_object(where_now(&m[i])),
			.hint = m[i].err ? 0 : hint,
		};
		rmap_remove_migration(q, &r);
		for (u32 k = i; k < i + len; k++) {
			struct folio *f = where_now(&m[k]);

			if (f->order && folio_is_anon(f) && folio_mapcount(f) < folio_nr(f))
				folio_set(f, PG_PARTIAL);
		}
	}
}
