/*
 * pagetable.c - the walk from the root, installing tables, the entry locks.
 *
 *   T1: pt_pte_lock                          T2: pt_unhook_one
 *   e = PMD word, once                       PMD lock, PTE lock
 *   e names a table: its lock (waits)        empty? PMD word = 0, dead = 1
 *   dead, or the PMD word is not e: again    unlock both; flush; pt_free_table_rcu
 *   the entry word, locked
 *
 * The grace period waits for T1's RCU section: until T1 has looked again, the descriptor that it
 * locks is this table's.
 */
#include "base/mech.h"
#include "pagetable/pagetable_internal.h"

struct ptdesc *ptdesc_of(const a64_t *table)
{
	return desc_of(table);
}

int pgtable_init(struct quire *q, struct pgtable *pgt)
{
	pgt->q = q;
	a64_init(&pgt->nr_tables, 0);
	pgt->root_desc = table_alloc(pgt, 0, 3);
	if (!pgt->root_desc)
		return -ENOMEM;
	pgt->root = pgt->root_desc->table;
	return 0;
}

/* Above the PMD there are only tables, and an empty word. */
a64_t *walk_to_pmd(struct pgtable *pgt, u64 va)
{
	a64_t *table = pgt->root;

	DEBUG_ON(va >> VA_BITS);
	for (unsigned level = 3; level > 1; level--) {
		u64 e = a64_read_acquire(table_word(table, va, level));

		if (!e)
			return NULL;
		table = entry_table(e);
	}
	return table_word(table, va, 1);
}

a64_t *pt_pmd(struct pgtable *pgt, u64 va)
{
	return walk_to_pmd(pgt, va);
}

struct spin *pt_pmd_lockptr(struct pgtable *pgt, a64_t *pmd)
{
	struct ptdesc *desc = desc_of_word(pmd);

	DEBUG_ON(desc->pgt != pgt || desc->level != 1);
	(void)pgt;
	return &desc->lock;
}

/*
 * Hang an empty table at the word of a table of `level`, unless something is there by now. Returns
 * what the word then holds; 0: -ENOMEM. The release pairs with the acquire of the walk: whoever
 * sees the entry sees an empty table and a descriptor that has been set up.
 */
static u64 install_table(struct pgtable *pgt, a64_t *word, u64 va, unsigned level)
{
	struct ptdesc *parent = desc_of_word(word);
	struct ptdesc *desc = table_alloc(pgt, va, level - 1);
	u64 e;

	if (!desc)
		return 0;
	spin_lock(&parent->lock);
	/* An upper table goes only where no area is, and the caller holds one at va. */
	DEBUG_ON(a32_read(&parent->dead));
	e = a64_read(word);
	if (!e) {
		e = table_entry(desc->table);
		a64_set_release(word, e);
		desc = NULL;
	}
	spin_unlock(&parent->lock);
	if (desc)
		pt_table_discard(pgt->q, desc);
	return e;
}

a64_t *pt_pmd_alloc(struct pgtable *pgt, u64 va)
{
	a64_t *table = pgt->root;

	DEBUG_ON(va >> VA_BITS);
	for (unsigned level = 3; level > 1; level--) {
		a64_t *word = table_word(table, va, level);
		u64 e = a64_read_acquire(word);

		if (unlikely(!e))
			e = install_table(pgt, word, va, level);
		if (unlikely(!e))
			return NULL;
		table = entry_table(e);
	}
	return table_word(table, va, 1);
}

int pt_pte_alloc(struct pgtable *pgt, u64 va)
{
	a64_t *pmd = pt_pmd_alloc(pgt, va);
	u64 e;

	if (unlikely(!pmd))
		return -ENOMEM;
	e = a64_read(pmd);
	if (unlikely(!e))
		e = install_table(pgt, pmd, va, 1);
	if (unlikely(!e))
		return -ENOMEM;
	return pt_is_table(e) ? 0 : -EEXIST;
}

/* The value of a PMD word if it names a table, else 0. The test and the use read it once. */
static u64 pmd_table_entry(struct pgtable *pgt, const a64_t *pmd)
{
	u64 e = a64_read_acquire(pmd);

	if (!pt_is_table(e))
		return 0;
	if (!mech_on(pgt->q, MECH_READ_PMD_ONCE))
		e = a64_read_acquire(pmd);
	/* What is used as a table from here on is one. */
	DEBUG_ON(!pt_is_table(e));
	return e;
}

pte_t *pt_pte_peek(struct pgtable *pgt, u64 va)
{
	a64_t *pmd = walk_to_pmd(pgt, va);
	u64 e = pmd ? pmd_table_entry(pgt, pmd) : 0;

	return e ? table_word(entry_table(e), va, 0) : NULL;
}

static inline pte_t *pte_lock(struct pgtable *pgt, u64 va, struct ptdesc **out, bool nested)
{
	qrcu_read_lock();
	for (;;) {
		a64_t *pmd = walk_to_pmd(pgt, va);
		u64 e = pmd ? pmd_table_entry(pgt, pmd) : 0;
		struct ptdesc *desc;

		if (!e)
			break;
		desc = desc_of(entry_table(e));
		if (nested)
			spin_lock_nested(&desc->lock);
		else
			spin_lock(&desc->lock);
		/* Alive under its lock: it stays until that is dropped, and what is above it too.
		 */
		if (likely(!a32_read(&desc->dead) && a64_read(pmd) == e) ||
		    !mech_on(pgt->q, MECH_RECHECK_TABLE)) {
			qrcu_read_unlock();
			*out = desc;
			return table_word(entry_table(e), va, 0);
		}
		spin_unlock(&desc->lock);
	}
	qrcu_read_unlock();
	*out = NULL;
	return NULL;
}

pte_t *pt_pte_lock(struct pgtable *pgt, u64 va, struct ptdesc **desc)
{
	return pte_lock(pgt, va, desc, false);
}

pte_t *pt_pte_lock_nested(struct pgtable *pgt, u64 va, struct ptdesc **desc)
{
	return pte_lock(pgt, va, desc, true);
}

struct ptdesc *pt_table_prepare(struct pgtable *pgt, u64 va)
{
	return table_alloc(pgt, va, 0);
}

void pt_table_install(a64_t *pmd, struct ptdesc *desc)
{
	lock_assert_held(&desc_of_word(pmd)->lock);
	DEBUG_ON(pt_is_table(a64_read(pmd)));
	DEBUG_ON(desc->state != PT_LIVE || desc_of_word(pmd)->pgt != desc->pgt);
	a64_set_release(pmd, table_entry(desc->table));
}

void pt_table_discard(struct quire *q, struct ptdesc *desc)
{
	BUG_ON(desc->state != PT_LIVE || !table_is_empty(desc->table));
	table_uncount(q, desc);
	table_free(q, desc);
}
