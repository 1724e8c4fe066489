/*
 * reverse.c - copy-on-write the other way round: the one who writes keeps the frame, and all others
 * move to the copy.
 *
 * Where a page's frame has a place (CAP_PLACED: the page is one mapping of the machine with its
 * neighbours there), copying would displace the page of the area to which the place belongs, which
 * is the one that lives on when a snapshot is gone. So the copy goes to the place of the other
 * area's address, where the pages that were displaced before it lie too.
 *
 *   T1: write fault in A, which shares page P       T2: the others
 *   area of A locked; P is not exclusive: nobody stores to it, and no store can be under way: who
 *   shared it flushed before it unlocked the areas of both (space/share.c)
 *   copy the bytes of P to N
 *   folio locks of P and N (try only)               swap-in, another write fault: keep off
 *   P in the swap cache? then its slot may have     reclaim: keeps off
 *   entries: an ordinary copy
 *   P still shared?                                 B took it, moved A and wrote: look again
 *   anon_vma root (read): per area B but A's:       no area comes or goes
 *     entry lock; maps P?                           a fault in B, fork, unmap: before it or after
 * it clear, flush, set to N                        a load sees the same bytes before and after
 *   entry lock of A: entry as it was?
 *   P mapped once?                                  (all were met: B's areas come behind A's in the
 *                                                   tree, and copies of B's behind B)
 *   P is exclusive, A may write it                  pin_fast: P exclusive? then B's entry has gone
 *
 * What holds each step. A write fault in B that copies P at the same time has taken no lock; it
 * compares its entry before it believes the copy, and the entry does not come back: only a fault in
 * B, or sharing B's area, which waits for that fault, could bring it. pin_fast in B looks at
 * whether P is exclusive, and only then at B's entry again: if it finds P exclusive, the entry has
 * gone. Nothing can map P once A's entry is the only one: it is not in the swap cache, and A's
 * area, from which alone it could be shared, is locked. Where flushes come after the
 * entry lock is dropped a CPU may read P through a translation whose entry has gone: who has yet to
 * flush has a reference (wp.c), so there P's must be the only ones, and of a large folio, whose
 * references nobody can tell apart, no page is taken.
 *
 * N is the root's, like what comes back from swap shared, and exclusive to nobody: who writes it as
 * the only one takes it over then. Its lock is held until all have it: the first of them might do
 * so before the others come.
 *
 * Several pages at once: a block around P, of P's folio, is treated alike, with one large folio for
 * the copies.
 */
#include "fault/fault_internal.h"

#define BLOCK_MAX       TOUCH_PAGES_MAX
#define DENSE_ORDER_MAX 5u /* 128 KiB: where writes are many, though none continues the last one */

/* Pages [first, first + n) of folio f; P is one of them. */
struct reverse {
	struct fc *c;
	struct folio *f;
	u32 first, n;
	u32 at;            /* P's number in it */
	u64 va;            /* the first one's address for the fault's area */
	u64 place;         /* for the copy of the first one; 0: nobody else seems to map P */
	struct folio *new; /* the copy, or NULL */
	u32 moved;         /* entries that map it */
	bool without;      /* an entry was met and there is no copy */
};

static struct folio *page_of(struct reverse *r, u32 i)
{
	return folio_page(r->f, r->first + i);
}

static bool maps_page(struct reverse *r, u32 i, u64 e)
{
	return pte_present(e) && !pte_special(e) &&
	       entry_pfn(e) == folio_pfn(r->c->q, r->f) + r->first + i;
}

/* Where area v, in which the folio begins at va, may map the block. False: nowhere, or it is the
 * fault's own. */
static bool other_place(struct reverse *r, struct vma *v, u64 *va)
{
	*va += (u64)r->first << PAGE_SHIFT;
	return !(v == r->c->v && *va == r->va);
}

/* A look, for the place of the first other mapping of P. */
static bool find_other(void *ctx, struct folio *f, struct vma *v, u64 va)
{
	struct rmap_space *rs = v->space;
	struct reverse *r = ctx;
	u32 i = r->at - r->first;
	pte_t *p;
	u64 e, at;

	(void)f;
	if (!other_place(r, v, &va))
		return true;
	at = va + ((u64)i << PAGE_SHIFT);
	if (at < vma_start(v) || at >= vma_end(v))
		return true;
	qrcu_read_lock();
	p = pt_pte_peek(&rs->pgt, at);
	e = p ? pte_get(p) : 0;
	qrcu_read_unlock();
	if (!maps_page(r, i, e))
		return true;
	r->place = fault_own_place(r->c->q, v, at) - i;
	return false;
}

/* n entries from p on, of pages from the i'th on, get the copy's frames. LOCKING: the entry lock;
 * both folios locked. */
static void move_run(struct reverse *r, struct vma *v, pte_t *p, u32 i, u32 n, u64 va)
{
	struct rmap_space *rs = v->space;
	struct quire *q = r->c->q;
	u64 pfn = folio_pfn(q, r->new), e[BLOCK_MAX];

	for (u32 k = 0; k < n; k++)
		e[k] = pte_get_and_clear(p + k);
	if (mech_on(q, MECH_REVERSE_FLUSH))
		tlb_flush_range(&rs->tlb, (struct tlb_range){ va, va + n * PAGE_SIZE,
							      FLUSH_NO_ACCESS, false, false });
	folio_get_nr(r->new, n);
	folio_add_anon_rmap_ptes(q, r->new, i, n, v, va);
	if (!r->moved)
		a64_fetch_or(&r->new->flags, PGF(SWAPBACKED) | PGF(UPTODATE) | PGF(DIRTY));
	if (vma_flags(v) & VM_LOCKED)
		a64_fetch_or(&r->new->flags, PGF(UNEVICTABLE) | PGF(MLOCKED));
	r->moved += n;
	/* Made usable by the trap of whoever uses them, with their neighbours. */
	for (u32 k = 0; k < n; k++)
		pte_set(p + k, (e[k] & ~ENTRY_FRAME_MASK) | pte_mk(pfn + i + k, 0));
	folio_remove_rmap_ptes(q, r->f, r->first + i, n);
	folio_put_nr(q, r->f, n); /* the caller has another one */
}

/* Pages [i, end) of the block, in one table, the first of them at va. */
static void move_table(struct reverse *r, struct vma *v, u32 i, u32 end, u64 va)
{
	struct rmap_space *rs = v->space;
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&rs->pgt, va, &desc);

	if (!p)
		return;
	for (u32 n; i < end && !r->without; i += n, p += n, va += n * PAGE_SIZE) {
		for (n = 0; i + n < end && maps_page(r, i + n, pte_get(p + n));)
			n++;
		if (n && r->new)
			move_run(r, v, p, i, n, va);
		else if (n)
			r->without = true;
		n += !n;
	}
	pt_pte_unlock(desc);
}

static bool move_other(void *ctx, struct folio *f, struct vma *v, u64 va)
{
	struct reverse *r = ctx;
	u32 i = 0, end = r->n, stop;
	u64 last;

	(void)f;
	if (!other_place(r, v, &va))
		return true;
	last = va + (u64)r->n * PAGE_SIZE;
	if (va < vma_start(v))
		i = (u32)min((vma_start(v) - va) >> PAGE_SHIFT, (u64)r->n);
	if (last > vma_end(v))
		end = vma_end(v) > va ? (u32)((vma_end(v) - va) >> PAGE_SHIFT) : 0;
	for (; i < end; i = stop) {
		u64 at = va + ((u64)i << PAGE_SHIFT);

		stop = min(end, i + PTRS_PER_TABLE - entry_index(at, 0));
		move_table(r, v, i, stop, at);
	}
	return !r->without;
}

/* ---- what is left is the fault's own ---- */

/* LOCKING: the folio lock, the entry lock of the fault's area. */
static bool unread_by_others(struct reverse *r)
{
	struct quire *q = r->c->q;

	if (!mech_on(q, MECH_REVERSE_COUNTS_REFS) || machine_has(q->machine, CAP_FLUSH_UNDER_LOCK))
		return true;
	smp_mb();
	/* The entry's, and ours. */
	return !r->f->order && a32_read(&r->f->ref) == 2;
}

static bool is_own(struct reverse *r, u32 i, u64 e)
{
	return maps_page(r, i, e) && entry_present(e) && a32_read(&page_of(r, i)->mapcount) == 1;
}

/* n (at least 1) entries from p on, of the page at va and those behind it, may be written from now
 * on. LOCKING: entry lock. */
static int make_writable(struct reverse *r, pte_t *p, u64 va, u32 n)
{
	u64 bits = ENTRY_WRITE | ENTRY_ACCESSED | ENTRY_DIRTY, e[BLOCK_MAX], was[BLOCK_MAX];
	struct fc *c = r->c;
	u32 k = 0;
	int err;

	do {
		was[k] = a64_fetch_or(p + k, bits);
		e[k] = pte_get(p + k);
	} while (++k < n);
	err = fault_install(c, va, e, n, NULL, false, false);
	for (k = 0; err && k < n; k++)
		a64_fetch_and(p + k, ~(bits & ~was[k]));
	if (err)
		return err;
	folio_set(r->f, PG_DIRTY);
	if (folio_test(r->f, PG_LAZYFREE))
		a64_fetch_and(&r->f->flags, ~PGF(LAZYFREE));
	stat_inc(c->q, STAT_FAULT_WP);
	stat_inc(c->q, STAT_FAULT_MINOR);
	return 0;
}

/* P, and what lies around it of the block, becomes exclusive and (a write fault) writable. */
static int take_pages(struct reverse *r, u64 entry)
{
	u32 at = r->at - r->first, i = at, end = at + 1;
	struct fc *c = r->c;
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, r->va, &desc);
	int err = -EXDEV;

	if (!p)
		return FAULT_AGAIN;
	if ((pte_get(p + at) ^ entry) & ~(ENTRY_ACCESSED | ENTRY_DIRTY)) {
		err = FAULT_AGAIN;
	} else if (is_own(r, at, pte_get(p + at)) && unread_by_others(r)) {
		while (i && is_own(r, i - 1, pte_get(p + i - 1)))
			i--;
		while (end < r->n && is_own(r, end, pte_get(p + end)))
			end++;
		/* Other pages of a large folio may be others': it stays the family's. */
		if (!r->f->order)
			folio_move_anon_rmap(c->q, r->f, c->v);
		for (u32 k = i; r->f->order && k < end; k++)
			folio_set(page_of(r, k), PG_ANON_EXCLUSIVE);
		err = 0;
		if (fc_write(c))
			err = make_writable(r, p + i, r->va + i * PAGE_SIZE, end - i);
	}
	pt_pte_unlock(desc);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

/* Nobody's own meanwhile: who makes a page his own locks its folio. LOCKING: the folio lock. */
static bool still_shared(struct reverse *r)
{
	for (u32 i = 0; i < r->n && mech_on(r->c->q, MECH_REVERSE_RECHECK); i++)
		if (page_exclusive(page_of(r, i)))
			return false;
	return true;
}

/* LOCKING: the folio locks. */
static int move_all(struct reverse *r, u64 entry)
{
	struct quire *q = r->c->q;

	if (folio_test(r->f, PG_SWAPCACHE) && !swap_try_free_folio(q, r->f) &&
	    mech_on(q, MECH_REVERSE_NOT_CACHED))
		return -EXDEV;
	if (!still_shared(r))
		return FAULT_AGAIN;
	if (r->new) {
		int err = fault_copy_bytes(q, r->new, folio_pfn(q, r->f) + r->first);

		if (err)
			return err;
	}
	rmap_walk(q, r->f, move_other, r);
	return r->without ? -EXDEV : take_pages(r, entry);
}

static void release_new(struct reverse *r)
{
	struct quire *q = r->c->q;

	if (!r->moved) {
		fault_free_folio(q, r->new);
		return;
	}
	stat_add(q, STAT_FAULT_COW, r->n);
	stat_add(q, STAT_FAULT_REVERSE, r->n);
	lru_add(q, r->new);
	folio_put(q, r->new);
}

static int move_locked(struct reverse *r, u64 entry)
{
	bool lock = r->new &&mech_on(r->c->q, MECH_REVERSE_LOCK_COPY);
	int err = -EXDEV;

	/* Nobody knows the new one. */
	if (lock && !folio_trylock(r->new))
		BUG("a new folio is locked");
	if (folio_trylock(r->f)) {
		err = move_all(r, entry);
		folio_unlock(r->f);
	}
	if (lock)
		folio_unlock(r->new);
	if (r->new)
		release_new(r);
	return err;
}

/* ---- which pages ---- */

static void choose_page(struct reverse *r)
{
	r->first = r->at;
	r->n = 1;
	r->va = r->c->va;
}

/* The pages of an aligned block around P, if they all are the folio's, mapped where they belong,
 * and shared. A look: each is looked at again. */
static bool choose_block(struct reverse *r, unsigned order)
{
	u64 va = ALIGN_DOWN(r->c->va, PAGE_SIZE << order);
	u32 before = (u32)((r->c->va - va) >> PAGE_SHIFT), n = 1u << order;
	bool shared = true;
	pte_t *p;

	if (before > r->at || r->at - before + n > folio_nr(r->f) || va < vma_start(r->c->v) ||
	    va + n * PAGE_SIZE > vma_end(r->c->v))
		return false;
	r->first = r->at - before;
	r->n = n;
	r->va = va;
	qrcu_read_lock();
	p = pt_pte_peek(&r->c->fs->rs.pgt, va);
	for (u32 i = 0; p && shared && i < n; i++)
		shared = maps_page(r, i, pte_get(p + i)) && !page_exclusive(page_of(r, i)) &&
			 a32_read(&page_of(r, i)->mapcount) > 1;
	qrcu_read_unlock();
	return p && shared;
}

/*
 * How large a block is worth it: as with first touch, and more in a table where many blocks were
 * copied already since it was last shared: who writes in so many places of 2 MiB, in whatever
 * order, will write most of it.
 */
static unsigned block_order(struct reverse *r)
{
	struct fc *c = r->c;
	unsigned order = fault_touch_order(c);
	struct ptdesc *desc;

	if (order && pt_pte_lock(&c->fs->rs.pgt, c->va, &desc)) {
		u32 dense = TOUCH_ORDER_MIN + desc->reverse_faults++ / 4;

		order = max(order, min(dense, DENSE_ORDER_MAX));
		pt_pte_unlock(desc);
	}
	return min(order, (unsigned)r->f->order);
}

/* As many at once as at a first touch: who writes here goes on writing near by, as a rule, and one
 * trap and one copy of many bytes cost little more than of few. */
static int choose(struct reverse *r)
{
	unsigned order = 0;
	int err;

	if (r->f->order && fc_write(r->c))
		order = block_order(r);
	while (order && !choose_block(r, order))
		order--;
	if (!order)
		choose_page(r);
	rmap_walk(r->c->q, r->f, find_other, r);
	if (!r->place)
		return 0;
	err = fault_alloc_placed(r->c, r->va, r->place, order, &r->new);
	if (err && order) {
		r->place += r->at - r->first;
		choose_page(r);
		err = fault_alloc_placed(r->c, r->va, r->place, 0, &r->new);
	}
	a64_set(&r->c->v->last_touch, r->va + r->n * PAGE_SIZE);
	return err;
}

/* P was another's too, who has it locked in memory: the copy is now, P need not be. As when such a
 * mapping goes (space/unmap.c). */
static void forget_mlock(struct reverse *r)
{
	struct quire *q = r->c->q;

	if (!folio_test(r->f, PG_MLOCKED) || (r->c->vf & VM_LOCKED))
		return;
	a64_fetch_and(&r->f->flags, ~(PGF(MLOCKED) | PGF(UNEVICTABLE)));
	if (lru_isolate(q, r->f))
		lru_putback(q, r->f);
}

int fault_reverse_copy(struct fc *c, u64 entry)
{
	struct quire *q = c->q;
	struct machine *m = q->machine;
	struct reverse r = { .c = c };
	int err = -EXDEV;

	/* Only who has the frame at his own place is better off with it. */
	if (!machine_has(m, CAP_PLACED) ||
	    (m->plain_base && entry_pfn(entry) != fault_own_place(q, c->v, c->va)))
		return -EXDEV;
	r.f = fault_hold_mapped(c, entry);
	if (!r.f)
		return FAULT_AGAIN;
	if (folio_is_anon(r.f) && (!r.f->order || machine_has(m, CAP_FLUSH_UNDER_LOCK))) {
		r.at = (u32)(entry_pfn(entry) - folio_pfn(q, r.f));
		/* A page on its way to a list has one more reference. */
		if (!folio_test(r.f, PG_LRU) && !machine_has(m, CAP_FLUSH_UNDER_LOCK))
			lru_drain(q);
		err = choose(&r);
		if (!err)
			err = move_locked(&r, entry);
		if (!err)
			forget_mlock(&r);
	}
	folio_put(q, r.f);
	return err == -EBUSY ? FAULT_AGAIN : err;
}
