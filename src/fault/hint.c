/*
 * hint.c - entries that tell when their page is used next (pte.h: hints): how the use of slow
 * memory is noticed (Linux: NUMA hinting faults).
 *
 * Pages that are moved to a slow node are left with hints (migrate.h), and those of a fast node
 * that are next to go get them, to see whether they are used (tier.h). The first access traps:
 * either the page goes to a faster node at once (fault_ops.touched decides), or its folio's
 * entries in this table become present where it is, for a time: a space leases so many blocks of
 * slow memory, and who leases one more ends the oldest lease, whose entries become hints again. A
 * page that is new on a slow node begins with a lease. So
 * what is used again and again traps again and again, at a rate that the number of leases bounds,
 * and what is not used costs nothing.
 *
 * A lease is one word in a ring: taking it is an exchange, and whoever gets a word out ends it.
 * What the word says may be stale by then (unmapped, moved, another area): only entries that are
 * found present under the entry lock, of slow anonymous pages that nobody has pinned, change.
 */
#include "fault/fault_internal.h"
#include "base/arena.h"

#define LEASES       64u
#define DIRECT_PART  4u /* of memory that is used without traps so much is not leased */
#define DIRECT_LEASES_MAX 65536u
#define LEASE_BITS   7u /* of a word: pages of the block; above: its first page's number */

_Static_assert(TOUCH_PAGES_MAX < BIT(LEASE_BITS), "a block's pages fit");

struct leases {
	a32_t next; /* (A) */
	u32 nr;     /* (C) */
	a64_t word[];
};

static size_t leases_bytes(u32 nr)
{
	return sizeof(struct leases) + nr * sizeof(a64_t);
}

/* Where the use of slow memory needs no traps, all but a part of it is leased at any time: the part
 * tells what is hot. */
static u32 leases_wanted(struct quire *q)
{
	u64 direct = 0;

	for (unsigned i = 0; i < phys_nr_nodes(q); i++)
		if (phys_tier(q, i) && phys_direct(q, i))
			direct += phys_size(q, i);
	direct -= direct / DIRECT_PART;
	return (u32)max((u64)LEASES, min(direct / TOUCH_PAGES_MAX, (u64)DIRECT_LEASES_MAX));
}

int fault_space_init(struct quire *q, struct fault_space *fs)
{
	u32 nr = leases_wanted(q);

	if (!phys_tiered(q))
		return 0;
	fs->leases = arena_zalloc(q->arena, leases_bytes(nr));
	if (!fs->leases)
		return -ENOMEM;
	fs->leases->nr = nr;
	return 0;
}

void fault_space_fini(struct quire *q, struct fault_space *fs)
{
	if (fs->leases)
		arena_free(q->arena, fs->leases, leases_bytes(fs->leases->nr));
	fs->leases = NULL;
}

/* ---- the end of a lease ---- */

static void end_lease(struct quire *q, struct fault_space *fs, u64 word, unsigned stamp)
{
	u64 va = word >> LEASE_BITS << PAGE_SHIFT;
	unsigned node = 0;
	u32 n = rmap_hint_range(q, &fs->rs, va, word & (BIT(LEASE_BITS) - 1), 1, stamp, &node);

	if (n)
		q->fault->ops->parked(q, node, n);
}

/* The oldest first: what is leased meanwhile is left. */
void fault_end_leases(struct quire *q, struct fault_space *fs)
{
	u32 oldest = fs->leases ? a32_read(&fs->leases->next) : 0;

	for (u32 i = 0; fs->leases && i < fs->leases->nr; i++) {
		u64 word = a64_xchg(&fs->leases->word[(oldest + i) % fs->leases->nr], 0);

		if (word)
			end_lease(q, fs, word, q->fault->ops->stamp(q));
	}
}

/* ---- the fault ---- */

/* The hints of one folio from the fault's entry on, both ways, inside the area and the table. */
static u32 same_folio(struct fc *c, pte_t *p, u64 e, u32 *before)
{
	struct folio *rec = phys_record(c->q, entry_pfn(e)), *f = folio_head(rec);
	u32 at = (u32)(rec - f), room, n;

	room = min(at, entry_index(c->va, 0));
	room = (u32)min((u64)room, (c->va - vma_start(c->v)) >> PAGE_SHIFT);
	for (n = 0; n < room; n++) {
		u64 b = pte_get(p - n - 1);

		if (!pte_is_hint(b) || entry_pfn(b) != entry_pfn(e) - n - 1)
			break;
	}
	*before = n;
	room = min(folio_nr(f) - at, PTRS_PER_TABLE - entry_index(c->va, 0));
	room = (u32)min((u64)room, (vma_end(c->v) - c->va) >> PAGE_SHIFT);
	for (n = 1; n < room; n++) {
		u64 b = pte_get(p + n);

		if (!pte_is_hint(b) || entry_pfn(b) != entry_pfn(e) + n)
			break;
	}
	return *before + n;
}

/* The folio's entries become present. 0, FAULT_AGAIN or an error; *word: the block, if it was. */
static int lease(struct fc *c, u64 e, u64 *word)
{
	u64 entries[PTRS_PER_TABLE], va;
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	u32 before, n;
	int err;

	*word = 0;
	if (!p)
		return FAULT_AGAIN;
	if (pte_get(p) != e) {
		pt_pte_unlock(desc);
		return FAULT_AGAIN;
	}
	n = min(same_folio(c, p, e, &before), TOUCH_PAGES_MAX);
	before = min(before, n - 1);
	p -= before;
	va = c->va - ((u64)before << PAGE_SHIFT);
	for (u32 i = 0; i < n; i++) {
		entries[i] = pte_no_hint(pte_get(p + i)) | (i == before ? ENTRY_ACCESSED : 0);
		pte_set(p + i, entries[i]);
	}
	err = fault_install(c, va, entries, n, NULL, false, false);
	if (err) {
		/* With what the machine has set in them meanwhile. */
		for (u32 i = 0; i < n; i++)
			pte_set(p + i, pte_mk_hint(pte_get_and_clear(p + i), pte_hint_stamp(e)));
		pt_pte_unlock(desc);
		return err == -EAGAIN ? FAULT_AGAIN : err;
	}
	pt_pte_unlock(desc);
	*word = (va >> PAGE_SHIFT) << LEASE_BITS | n;
	return FAULT_DONE;
}

/* A reference on what the hint names, if it is still there. */
static struct folio *hold(struct fc *c, u64 e)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	struct folio *f = NULL;

	if (!p)
		return NULL;
	if (pte_get(p) == e) {
		f = phys_folio(c->q, entry_pfn(e));
		folio_get(f);
	}
	pt_pte_unlock(desc);
	return f;
}

/* It begins, and another one ends. */
static void take_lease(struct fc *c, u64 word)
{
	struct leases *l = c->fs->leases;
	u64 old;

	if (!l)
		return;
	old = a64_xchg(&l->word[a32_fetch_add(&l->next, 1) % l->nr], word);
	if (old && old != word)
		end_lease(c->q, c->fs, old, c->q->fault->ops->stamp(c->q));
}

int fault_do_hint(struct fc *c, u64 e)
{
	const struct fault_ops *ops = c->q->fault->ops;
	struct folio *f = hold(c, e);
	bool moved, slow;
	u64 word;
	int err;

	if (!f)
		return FAULT_AGAIN;
	slow = phys_tier(c->q, folio_node(f));
	moved = ops->touched(c->q, f, pte_hint_stamp(e));
	if (moved) /* its entry is looked at anew */
		return FAULT_AGAIN;
	err = lease(c, e, &word);
	/* On a fast node it is there for good. */
	if (word && slow)
		take_lease(c, word);
	return err;
}

void fault_lease(struct fc *c, unsigned node, u64 va, u32 n)
{
	if (phys_tiered(c->q) && phys_tier(c->q, node))
		take_lease(c, (va >> PAGE_SHIFT) << LEASE_BITS | n);
}
