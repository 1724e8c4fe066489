/*
 * unhook.c - taking tables out of the tree and giving them back; walks over everything.
 *
 * The order for a table is that for a page: unhook, flush (the CPUs cache upper entries too), free.
 * Here is the first step and, with a grace period for the walkers that no flush stops, the last.
 */
#include "base/mech.h"
#include "pagetable/pagetable_internal.h"

struct unhook {
	struct pgtable *pgt;
	u64 floor;
	u64 ceiling;
	void (*sink)(void *ctx, struct ptdesc *desc);
	void *ctx;
};

/* LOCKING: the table's lock; the parent's word no longer names it. */
static void mark_dead(struct ptdesc *desc)
{
	BUG_ON(desc->state != PT_LIVE);
	BUG_ON(!table_is_empty(desc->table));
	desc->state = PT_UNHOOKED;
	a32_set(&desc->dead, 1);
}

/*
 * An upper table has no lock-taking users left where no area is, so its own lock (of the parent's
 * class) is taken after the parent's. A PTE table may be in the hands of a reverse-map walker that
 * found the area while it was there: both locks.
 */
static void unhook_table(struct unhook *u, a64_t *word, u64 e)
{
	struct ptdesc *parent = desc_of_word(word), *desc = desc_of(entry_table(e));

	spin_lock(&parent->lock);
	if (desc->level == 0)
		spin_lock(&desc->lock);
	a64_set(word, 0);
	if (desc->level) {
		spin_unlock(&parent->lock);
		spin_lock(&desc->lock);
	}
	mark_dead(desc);
	spin_unlock(&desc->lock);
	if (desc->level == 0)
		spin_unlock(&parent->lock);
	u->sink(u->ctx, desc);
}

/* The children of a table of `level` (3..1) that translate some of r. */
static void unhook_below(struct unhook *u, a64_t *table, unsigned level, struct range r)
{
	u64 span = entry_span(level);

	for (u64 va = r.start, next; va < r.end; va = next) {
		u64 base = ALIGN_DOWN(va, span);
		a64_t *word = table_word(table, va, level);
		u64 e = a64_read(word);

		next = base + span;
		if (!pt_is_table(e))
			continue;
		if (level > 1) {
			struct range part = { va, min(next, r.end) };

			unhook_below(u, entry_table(e), level - 1, part);
		}
		if (base >= u->floor && next <= u->ceiling)
			unhook_table(u, word, e);
	}
}

void pt_unhook_tables(struct pgtable *pgt, struct range r, u64 floor, u64 ceiling,
		      void (*sink)(void *ctx, struct ptdesc *desc), void *ctx)
{
	struct unhook u = {
		.pgt = pgt,
		.floor = floor,
		.ceiling = ceiling,
		.sink = sink,
		.ctx = ctx,
	};

	DEBUG_ON(r.start >= r.end || r.end > BIT(VA_BITS));
	DEBUG_ON(floor > r.start || ceiling < r.end);
	unhook_below(&u, pgt->root, 3, r);
}

struct ptdesc *pt_unhook_one(struct pgtable *pgt, u64 va)
{
	struct ptdesc *parent, *desc = NULL;
	a64_t *pmd;
	u64 e;

	qrcu_read_lock();
	pmd = walk_to_pmd(pgt, va);
	if (!pmd)
		goto out;
	parent = desc_of_word(pmd);
	spin_lock(&parent->lock);
	e = a64_read(pmd);
	if (!a32_read(&parent->dead) && pt_is_table(e)) {
		desc = desc_of(entry_table(e));
		spin_lock(&desc->lock);
		if (table_is_empty(desc->table)) {
			a64_set(pmd, 0);
			mark_dead(desc);
			spin_unlock(&desc->lock);
		} else {
			spin_unlock(&desc->lock);
			desc = NULL;
		}
	}
	spin_unlock(&parent->lock);
out:
	qrcu_read_unlock();
	return desc;
}

static void free_table_cb(struct quire *q, struct rcu_head *head)
{
	table_free(q, container_of(head, struct ptdesc, rcu));
}

void pt_free_table_rcu(struct quire *q, struct ptdesc *desc)
{
	/* A second free, or one of a table that is still in the tree. */
	BUG_ON(desc->state != PT_UNHOOKED);
	desc->state = PT_QUEUED;
	table_uncount(q, desc);
	if (mech_on(q, MECH_TABLE_FREE_GRACE))
		qrcu_call(q, &desc->rcu, free_table_cb);
	else
		table_free(q, desc);
}

static void fini_table(struct pgtable *pgt, struct ptdesc *desc)
{
	for (u32 i = 0; i < PTRS_PER_TABLE; i++) {
		u64 e = desc->table[i].raw;

		if (!e)
			continue;
		if (desc->level && pt_is_table(e))
			fini_table(pgt, desc_of(entry_table(e)));
		else
			DEBUG_ON(e); /* a leaf entry was left: its page is lost */
		a64_init(&desc->table[i], 0);
	}
	BUG_ON(desc->state != PT_LIVE);
	table_uncount(pgt->q, desc);
	table_free(pgt->q, desc);
}

void pgtable_fini(struct pgtable *pgt)
{
	fini_table(pgt, pgt->root_desc);
	pgt->root_desc = NULL;
	pgt->root = NULL;
	WARN_ON(a64_read(&pgt->nr_tables)); /* tables unhooked and never freed */
}

struct each {
	void (*fn)(void *ctx, u64 va, u64 entry, unsigned level);
	void *ctx;
};

static void each_below(const struct each *each, a64_t *table, unsigned level, struct range r)
{
	u64 span = entry_span(level);

	for (u64 va = r.start, next; va < r.end; va = next) {
		u64 base = ALIGN_DOWN(va, span);
		u64 e = a64_read_acquire(table_word(table, va, level));

		next = base + span;
		if (!e)
			continue;
		if (level && pt_is_table(e)) {
			struct range part = { va, min(next, r.end) };

			each_below(each, entry_table(e), level - 1, part);
		} else {
			each->fn(each->ctx, base, e, level);
		}
	}
}

void pt_for_each(struct pgtable *pgt, struct range r,
		 void (*fn)(void *ctx, u64 va, u64 entry, unsigned level), void *ctx)
{
	struct each each = { .fn = fn, .ctx = ctx };

	DEBUG_ON(r.end > BIT(VA_BITS));
	each_below(&each, pgt->root, 3, r);
}

static u64 check_table(struct pgtable *pgt, struct ptdesc *desc, u64 va, unsigned level, u64 *bad)
{
	u64 nr = 1;

	*bad += WARN_ON(desc->pgt != pgt);
	*bad += WARN_ON(desc->level != level);
	*bad += WARN_ON(desc->va != va);
	*bad += WARN_ON(desc->state != PT_LIVE);
	*bad += WARN_ON(a32_read(&desc->dead));
	*bad += WARN_ON(desc_of(desc->table) != desc);
	for (u32 i = 0; level && i < PTRS_PER_TABLE; i++) {
		u64 e = a64_read(&desc->table[i]);

		if (pt_is_table(e))
			nr += check_table(pgt, desc_of(entry_table(e)), va + i * entry_span(level),
					  level - 1, bad);
		else
			*bad += WARN_ON(e && level != 1);
	}
	return nr;
}

u64 pt_check(struct pgtable *pgt)
{
	u64 bad = 0;
	u64 nr = check_table(pgt, pgt->root_desc, 0, 3, &bad);

	bad += WARN_ON(nr != a64_read(&pgt->nr_tables));
	return bad;
}
