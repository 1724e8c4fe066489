/*
 * fork.c - a second space over the same folios.
 *
 *   T1: fork                                    T2: the parent's other threads, reclaim, pins
 *   space lock (write), every area locked:      a fault waits (MECH_FORK_LOCK_AREAS)
 *   fork_seq odd                                pin_fast sees it and gives up
 *   per table, both entry locks:
 *     parent's entry loses WRITE                stores go on through stale translations
 *     maybe pinned? WRITE again, copy           pin_fast sees another entry, or T1 the pin
 *     else exclusive no more; counted twice
 *     child's entry
 *   one flush of the parent, NO_STORE           from here on a store traps
 *   fork_seq even, unlock; return the child
 *
 * Why one flush at the end is enough: nobody sees the child before fork returns, so what is stored
 * through a stale translation until then belongs to what it inherits. In the parent no entry moves
 * to a copy meanwhile, because a write fault waits for its area: a store that a copy would miss
 * cannot happen. Reclaim does not wait, but flushes on its own before it copies bytes out; what it
 * has yet to flush when fork meets its swap entries is flushed here (rmap_flush_batched): else such
 * a store could come after the return. NO_STORE is enough because loads see the same frame before
 * and after.
 *
 * Why no entry is missed or counted wrong: the child's entry comes under the parent's entry lock,
 * with the parent's reference (or the count of its slot) held, and the child's area is chained to
 * the parent's anon_vmas before. A walk that passed the child's table too early finds the folio
 * still mapped, and keeps it.
 *
 * Nothing is charged but copies of pinned pages: a shared page stays the parent's until its last
 * reference is gone, whoever drops it.
 */
#include "space/space_internal.h"

struct forker {
	struct quire *q;
	struct space *parent, *child;
	struct vma *from, *to;
	struct folio *spare; /* for a page that must be copied: allocated without entry locks */
	u64 dirty_start, dirty_end; /* the parent's entries that lost WRITE */
	u32 present, swaps;         /* of the child, not yet in its counts */
	/* now locked */
	struct ptdesc *src_desc, *dst_desc;
	pte_t *src, *dst;
};

/* Both tables of va: the parent's first. A space has no child before it is a parent, so the order
 * of any two is the same for all. LOCKING: takes PTE twice. */
static bool lock_both(struct forker *k, u64 va)
{
	k->src = pt_pte_lock(&k->parent->fs.rs.pgt, va, &k->src_desc);
	if (!k->src)
		return false;
	k->dst = pt_pte_lock_nested(&k->child->fs.rs.pgt, va, &k->dst_desc);
	/* It was allocated for an area that stays. */
	BUG_ON(!k->dst);
	return true;
}

static void unlock_both(struct forker *k)
{
	pt_pte_unlock(k->dst_desc);
	pt_pte_unlock(k->src_desc);
}

static void note_flush(struct forker *k, u64 va)
{
	k->dirty_start = min(k->dirty_start, va);
	k->dirty_end = max(k->dirty_end, va + PAGE_SIZE);
}

/* What the child's entry of a page says that both map. */
static u64 shared_entry(struct forker *k, u64 e)
{
	e &= ~ENTRY_WRITE;
	/* Used by the parent, not by the child. Software keeps the bit set in what is present. */
	return machine_has(k->q->machine, CAP_HW_AD) ? e & ~ENTRY_ACCESSED : e;
}

/*
 * nr pages of one folio, mapped by the parent's entries from the n'th on: now both space's. -EBUSY:
 * one may be pinned; the entries are as they were.
 */
static int share_pages(struct forker *k, u32 n, u32 nr, u64 va)
{
	struct folio *page = phys_record(k->q, entry_pfn(pte_get(k->src + n)));
	struct folio *f = folio_head(page);
	u64 lost[PTRS_PER_TABLE / 64] = { 0 };
	int err;

	for (u32 i = 0; i < nr; i++)
		if (pte_write(pte_get(k->src + n + i))) {
			a64_fetch_and(k->src + n + i, ~ENTRY_WRITE);
			lost[i / 64] |= BIT(i % 64);
		}
	err = folio_try_share_anon_rmap_ptes(k->q, f, (u32)(page - f), nr);
	for (u32 i = 0; i < nr; i++) {
		if (!(lost[i / 64] & BIT(i % 64)))
			continue;
		if (err)
			a64_fetch_or(k->src + n + i, ENTRY_WRITE);
		else
			note_flush(k, va + i * PAGE_SIZE);
	}
	if (err)
		return err;
	folio_dup_anon_rmap_ptes(k->q, f, (u32)(page - f), nr);
	for (u32 i = 0; i < nr; i++)
		pte_set(k->dst + n + i, shared_entry(k, pte_get(k->src + n + i)));
	k->present += nr;
	return 0;
}

/* A page that stays the parent's: the spare frame gets its bytes. A store of the parent's at this
 * moment may be in them or not, as with any copy. */
static void copy_pinned(struct forker *k, u32 n, u64 va)
{
	u64 e = pte_get(k->src + n), vf = vma_flags(k->to);
	struct folio *new = k->spare;

	k->spare = NULL;
	fault_copy_bytes(k->q, new, entry_pfn(e));
	folio_get(new);
	folio_add_new_anon_rmap(k->q, new, k->to, va);
	folio_set(new, PG_DIRTY);
	e = (e & ~ENTRY_FRAME_MASK) | pte_mk(folio_pfn(k->q, new), ENTRY_DIRTY | ENTRY_ACCESSED);
	if ((vf & VM_WRITE) && (vf & VM_PROT_MASK))
		e |= ENTRY_WRITE;
	pte_set(k->dst + n, e);
	k->present++;
	lru_add(k->q, new);
	folio_put(k->q, new);
}

/* A page in the swap cache or in a store: both spaces' entries name its slot, neither alone. */
static void share_swapped(struct forker *k, u32 n, u64 e)
{
	swap_dup(k->q, swp_slot(e), 1);
	if (mech_on(k->q, MECH_SWAP_EXCLUSIVE) && (e & SWP_EXCLUSIVE)) {
		e &= ~SWP_EXCLUSIVE;
		pte_set(k->src + n, e);
	}
	pte_set(k->dst + n, e);
	k->swaps++;
}

/* The entries of [*va, end), inside one table. -EAGAIN: *va is where a spare frame is needed. */
static int copy_entries(struct forker *k, u64 *va, u64 end)
{
	for (u32 n = 0; *va < end;) {
		u64 e = pte_get(k->src + n);
		u32 max = (u32)((end - *va) >> PAGE_SHIFT), nr = 1;

		if (pte_special(e)) {
			pte_set(k->dst + n, shared_entry(k, e));
		} else if (pte_present(e)) {
			struct folio *page = phys_record(k->q, entry_pfn(e));

			/* Of one folio. */
			max = min(max, folio_nr(folio_head(page)) - (u32)(page - folio_head(page)));
			nr = space_entries_run(k->src + n, entry_pfn(e), max);
			/* One of them may be pinned: those that are shared already are not. */
			if (share_pages(k, n, nr, *va)) {
				nr = 1;
				if (page_exclusive(page)) {
					if (!k->spare)
						return -EAGAIN;
					copy_pinned(k, n, *va);
				} else {
					BUG_ON(share_pages(k, n, 1, *va));
				}
			}
		} else if (pte_is_swap(e)) {
			share_swapped(k, n, e);
		}
		n += nr;
		*va += (u64)nr << PAGE_SHIFT;
	}
	return 0;
}

static int copy_table(struct forker *k, struct range r)
{
	struct quire *q = k->q;
	int err = pt_pte_alloc(&k->child->fs.rs.pgt, r.start);

	while (!err) {
		if (!lock_both(k, r.start))
			break;
		/* Before the child has what reclaim's stale translations still reach. */
		rmap_flush_batched(&k->parent->fs.rs);
		err = copy_entries(k, &r.start, r.end);
		unlock_both(k);
		if (err != -EAGAIN)
			break;
		err = fault_alloc_page(q, &k->child->fs, k->to, r.start, &k->spare);
	}
	a64_add(&k->child->fs.rs.rss_pages, k->present);
	a64_add(&k->child->fs.rs.swap_entries, k->swaps);
	k->present = k->swaps = 0;
	return err;
}

static bool has_table(struct space *s, u64 va)
{
	bool has;

	qrcu_read_lock();
	has = pt_pte_peek(&s->fs.rs.pgt, va);
	qrcu_read_unlock();
	return has;
}

static int copy_pages(struct forker *k)
{
	u64 va = vma_start(k->from), end = vma_end(k->from), next;
	int err = 0;

	for (; va < end && !err; va = next) {
		next = min(ALIGN_DOWN(va, PMD_SIZE) + PMD_SIZE, end);
		if (has_table(k->parent, va))
			err = copy_table(k, (struct range){ va, next });
	}
	return err;
}

/* One area: what the machine and the map know of it, and its pages unless it is wiped. */
static int fork_area(struct forker *k, struct vma *v)
{
	struct machine *m = k->q->machine;
	struct range r = { vma_start(v), vma_end(v) };
	u64 vf = vma_flags(v) & ~(u64)(VM_LOCKED | VM_LOCKONFAULT);
	unsigned prot = vma_prot_bits(vf);
	bool share = !(vf & (VM_FOREIGN | VM_WIPEONFORK));
	int err;

	if (vf & VM_DONTFORK)
		return 0;
	err = m->ops->area_map(m, k->child->ms, r, prot,
			       vma_first_frame(m, vf, vma_index(v, r.start)));
	if (err)
		return err;
	err = vma_add_forked(&k->child->fs.vmas, v, vf, share, &k->to);
	if (err) {
		m->ops->area_unmap(m, k->child->ms, r, prot);
		return err;
	}
	k->from = v;
	return share ? copy_pages(k) : 0;
}

static int fork_areas(struct forker *k)
{
	struct vmas_of *vmas = &k->parent->fs.vmas;
	int err = 0;

	if (mech_on(k->q, MECH_FORK_LOCK_AREAS))
		for (struct vma *v = vma_find_first(vmas, 0); v; v = vma_next(vmas, v))
			vma_write_lock(v);
	a32_fetch_add(&k->parent->fs.fork_seq, 1);
	for (struct vma *v = vma_find_first(vmas, 0); v && !err; v = vma_next(vmas, v))
		err = fork_area(k, v);
	/* Also when it failed: what lost WRITE may be copied by the parent's next write fault. */
	if (k->dirty_start < k->dirty_end && mech_on(k->q, MECH_FORK_FLUSH))
		tlb_flush_range(&k->parent->fs.rs.tlb,
				(struct tlb_range){ k->dirty_start, k->dirty_end, FLUSH_NO_STORE,
						    false, false });
	a32_fetch_add(&k->parent->fs.fork_seq, 1);
	if (k->spare)
		fault_free_folio(k->q, k->spare);
	return err;
}

int space_fork(struct quire *q, struct space *parent, struct space **child)
{
	struct forker k = { .q = q, .parent = parent, .dirty_start = ~0ull };
	int err;

	/* A frame that is the memory at its own address cannot be at another's. */
	if (machine_has(q->machine, CAP_HOME))
		return -EOPNOTSUPP;
	err = space_create(q, parent->fs.cgroup, parent->fs.node, &k.child);
	if (err)
		return err;
	DEBUG_ON(k.child->fs.vmas.usable.start != parent->fs.vmas.usable.start);
	space_write_lock(&parent->fs.vmas);
	space_write_lock_unseen(&k.child->fs.vmas);
	err = fork_areas(&k);
	space_write_unlock(&k.child->fs.vmas);
	space_write_unlock(&parent->fs.vmas);
	qrcu_poll(q);
	if (err) {
		space_destroy(q, k.child);
		return err;
	}
	*child = k.child;
	return 0;
}
