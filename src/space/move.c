/*
 * move.c - moving pages from one range of addresses to another for mremap.
 *
 * Two ways. Where a frame can be mapped anywhere, the entries move: both tables locked, the reverse
 * map held off (an rmap walk that looked at the new place before and at the old place after the
 * move would miss the page: MECH_REMAP_RMAP_LOCK). Where a frame is the memory at its own address
 * (vma_home) the bytes move: a new folio at the new home takes over contents, state and charge of
 * the old one. Swap entries move as they are, unless their folio is still cached (its home is the
 * old address): that page is first brought back.
 *
 * S write, both areas write-locked: no fault changes these entries; reclaim may (to swap entries),
 * so each step looks again.
 */
#include "space/space_internal.h"
#include "reclaim/tier.h"
#include "swap/meta.h"

#define MOVE_TRIES 64u
#define MOVE_RUN   64u

struct mover {
	struct quire *q;
	struct space *s;
	struct vma *old, *new;
	bool home;
	u32 fruitless; /* tries to get a frame since the last success */
	unsigned node; /* of the bytes that move */
	/* locked now */
	struct ptdesc *src_desc, *dst_desc;
	pte_t *src, *dst;
};

/* Both tables, the lower address first. False: no source table. -> m->src/dst NULL. LOCKING: takes
 * PTE twice. */
static bool lock_both(struct mover *m, u64 src, u64 dst)
{
	struct pgtable *pgt = &m->s->fs.rs.pgt;
	bool same = ALIGN_DOWN(src, PMD_SIZE) == ALIGN_DOWN(dst, PMD_SIZE);

	m->src = m->dst = NULL;
	if (same) {
		m->src = pt_pte_lock(pgt, src, &m->src_desc);
		m->dst_desc = NULL;
		if (m->src)
			m->dst = (pte_t *)&m->src_desc->table[entry_index(dst, 0)];
	} else if (src < dst) {
		m->src = pt_pte_lock(pgt, src, &m->src_desc);
		if (m->src)
			m->dst = pt_pte_lock_nested(pgt, dst, &m->dst_desc);
		if (m->src && !m->dst)
			pt_pte_unlock(m->src_desc);
	} else {
		m->dst = pt_pte_lock(pgt, dst, &m->dst_desc);
		if (m->dst)
			m->src = pt_pte_lock_nested(pgt, src, &m->src_desc);
		if (m->dst && !m->src)
			pt_pte_unlock(m->dst_desc);
	}
	return m->src && m->dst;
}

static void unlock_both(struct mover *m)
{
	pt_pte_unlock(m->src_desc);
	if (m->dst_desc)
		pt_pte_unlock(m->dst_desc);
}

/* ---- entries move ---- */

/* The present entries from the i'th on are made usable at their new place; how many words it was.
 * What cannot be installed now will be when it is used. LOCKING: entry locks. */
static u32 install_moved(struct mover *m, u32 i, u32 n, u64 dst)
{
	struct machine *mach = m->q->machine;
	u64 e[MOVE_RUN];
	u32 run = 0;

	while (run < min(n, MOVE_RUN)) {
		e[run] = pte_get(m->dst + i + run);
		if (!entry_present(e[run]))
			break;
		run++;
	}
	if (run)
		(void)!mach->ops->entries_changed(mach, m->s->ms, dst + i * PAGE_SIZE, e, run, 0,
						  NULL, false, false);
	return max(run, 1u);
}

/* From both sides: of an object's area, some pages are found through the object, and some are
 * copies. */
static void hold_off_walks(struct mover *m, bool hold)
{
	struct anon_vma *av = aptr_read(&m->old->anon_vma);
	struct object *o = m->old->object;

	if (!mech_on(m->q, MECH_REMAP_RMAP_LOCK))
		return;
	if (hold) {
		if (o)
			rwsem_write_lock(&o->mmap);
		if (av)
			rwsem_write_lock(&av->root->rwsem);
		return;
	}
	if (av)
		rwsem_write_unlock(&av->root->rwsem);
	if (o)
		rwsem_write_unlock(&o->mmap);
}

static void move_entries(struct mover *m, u64 src, u64 dst, u32 n)
{
	struct tlb_range flush = { ~0ull, 0, FLUSH_NO_ACCESS, false, false };

	hold_off_walks(m, true);
	if (!lock_both(m, src, dst))
		goto out;
	rmap_flush_batched(&m->s->fs.rs);
	for (u32 i = 0; i < n; i++) {
		u64 e = pte_get(m->src + i);

		if (pte_none(e))
			continue;
		e = pte_get_and_clear(m->src + i);
		if (pte_present(e)) {
			flush.start = min(flush.start, src + i * PAGE_SIZE);
			flush.end = src + (i + 1) * PAGE_SIZE;
		}
		pte_set(m->dst + i, e);
	}
	/* The page must not be reachable at the old place once it is (and is written) at the new
	 * one. */
	if (flush.start < flush.end)
		tlb_flush_range(&m->s->fs.rs.tlb, flush);
	for (u32 i = 0; i < n;)
		i += install_moved(m, i, n - i, dst);
	unlock_both(m);
out:
	hold_off_walks(m, false);
}

/* ---- bytes move ---- */

/* A folio mapped at src, with a reference, and the first page of it there; NULL: none. *n: pages of
 * it mapped from src on, at most max (others of a large folio may have been unmapped). */
static struct folio *hold_source(struct mover *m, u64 src, u32 max, u32 *n, u32 *first)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&m->s->fs.rs.pgt, src, &desc);
	struct folio *page, *f = NULL;
	u64 e;

	if (!p)
		return NULL;
	e = pte_get(p);
	if (pte_present(e) && !pte_special(e)) {
		page = phys_record(m->q, entry_pfn(e));
		f = folio_head(page);
		folio_get(f);
		*first = (u32)(page - f);
		*n = space_entries_run(p, entry_pfn(e), min(max, folio_nr(f) - *first));
	}
	pt_pte_unlock(desc);
	return f;
}

/* Where one step's bytes go. */
struct target {
	struct folio *f;
	u32 first; /* page of it */
	u32 n;
	bool live; /* it lives already: locked, with a reference */
};

/*
 * The live folio that owns the frame at dst: other pages of it are mapped, or a pin or an eviction
 * keeps it. It takes the page back, as it does at a fault (fault/anon.c). Only a try-lock, because
 * the source is locked. False: look again later.
 */
static bool live_target(struct mover *m, struct folio *src, u64 dst, struct target *t)
{
	struct folio *rec = phys_record(m->q, dst >> PAGE_SHIFT), *g;

	if (!rec)
		return false;
	g = folio_head(rec);
	if (!folio_try_get(g))
		return false;
	if (g != src && !folio_trylock(g)) {
		folio_put(m->q, g);
		return false;
	}
	*t = (struct target){ g, (u32)(rec - g), 1, true };
	if (folio_head(rec) == g) {
		if (folio_test(g, PG_SWAPCACHE) && !swap_try_free_folio(m->q, g))
			swap_invalidate_copy(m->q, g);
		return true;
	}
	if (g != src)
		folio_unlock(g);
	folio_put(m->q, g);
	return false;
}

/* Frames at the new home, not charged, on the same node as long as room can be made there. The
 * whole folio where it fits, else its pages singly. 0; -EAGAIN: try later; -ENOMEM. LOCKING: f is
 * locked. */
static int find_target(struct mover *m, u64 dst, struct folio *f, u32 first, u32 n,
		       struct target *t)
{
	u64 pfn = dst >> PAGE_SHIFT;
	int err;

	*t = (struct target){ NULL, 0, n, false };
	m->node = folio_node(f);
	if (first == 0 && n == folio_nr(f) && IS_ALIGNED(pfn, n) &&
	    !phys_alloc_at(m->q, m->node, pfn, f->order, &t->f))
		return 0;
	t->n = 1;
	err = phys_alloc_at(m->q, m->node, pfn, 0, &t->f);
	for (u32 i = 1; err == -ENOMEM && m->fruitless > MOVE_TRIES / 2 && i < phys_nr_nodes(m->q);
	     i++)
		err = phys_alloc_at(m->q, phys_fallback(m->q, m->node, i), pfn, 0, &t->f);
	if (err == -EBUSY)
		return live_target(m, f, dst, t) ? 0 : -EAGAIN;
	return err ? -ENOMEM : 0;
}

/* The target's counts for pages that it will hold, as many references as entries included (a new
 * folio has one already). */
static void target_mapped(struct mover *m, struct target *t, struct folio *f, u64 dst)
{
	u64 keep = a64_read(&f->flags) & (PGF(ACTIVE) | PGF(MLOCKED) | PGF(UNEVICTABLE));

	if (t->live) {
		folio_get(t->f);
		folio_add_anon_rmap_ptes(m->q, t->f, t->first, 1, m->new, dst);
		a64_fetch_and(&t->f->flags, ~PGF(LAZYFREE));
		a64_fetch_or(&t->f->flags, keep | PGF(DIRTY) | PGF(SWAPBACKED) | PGF(UPTODATE));
		folio_set(folio_page(t->f, t->first), PG_ANON_EXCLUSIVE);
		return;
	}
	folio_add_new_anon_rmap(m->q, t->f, m->new, dst);
	a64_fetch_or(&t->f->flags, keep | (a64_read(&f->flags) & (PGF(DIRTY) | PGF(LAZYFREE))));
	if (t->n > 1)
		folio_get_nr(t->f, t->n - 1);
}

/* LOCKING: both folios locked (a new one is nobody's yet), both entry locks. The entries at src are
 * present and map f from `first` on. */
static int take_over(struct mover *m, struct folio *f, u32 first, struct target *t, u64 src,
		     u64 dst)
{
	struct machine *mach = m->q->machine;
	u64 pfn = folio_pfn(m->q, t->f) + t->first, e[PTRS_PER_TABLE / 8];
	u32 n = t->n;
	int err = mach->ops->frames_move(mach, pfn, src >> PAGE_SHIFT, n);

	if (err)
		return err == -EAGAIN ? err : -ENOMEM;
	/* Moved bytes stay in the memory that they were in. Should this fail, one node has a page
	 * more than it knows of, until the page moves again. */
	if (folio_node(t->f) != folio_node(f) && machine_has(mach, CAP_PARK))
		(void)!mach->ops->frames_to_node(mach, pfn, n, folio_node(f), folio_node(t->f));
	meta_copy(m->q, pfn, src >> PAGE_SHIFT, n);
	target_mapped(m, t, f, dst);
	for (u32 i = 0; i < n; i++) {
		u64 was = pte_get_and_clear(m->src + i);

		e[i] = (was & ~ENTRY_FRAME_MASK) | ((pfn + i) << PAGE_SHIFT);
		pte_set(m->dst + i, e[i]);
	}
	/* The bytes are there: if only the rights cannot be raised now, the next store traps and
	 * raises them. */
	if (entry_present(e[0]))
		(void)!mach->ops->entries_changed(mach, m->s->ms, dst, e, n, 0, NULL, false, false);
	tlb_flush_range(&m->s->fs.rs.tlb, (struct tlb_range){ src, src + n * PAGE_SIZE,
							      FLUSH_NO_ACCESS, false, false });
	folio_remove_rmap_ptes(m->q, f, first, n);
	return 0;
}

/*
 * Frames at the new place are charged before those at the old one are given back, and room for them
 * is made first, so that a limit holds here too. Nothing to be evicted: over it, and counted.
 */
static void charge_target(struct mover *m, u32 n)
{
	(void)!fault_charge(m->q, &m->s->fs, n, true); /* forced: cannot fail */
}

static void uncharge_target(struct mover *m, u32 n)
{
	if (n)
		cgroup_uncharge(m->q, m->s->fs.cgroup, n);
}

/*
 * The old folio after its pages [first, first + n) have moved: unlocked, our reference and the
 * entries' dropped. A live target has paid for its frame. A new one takes over the charge when the
 * old folio goes with this; as long as others keep it, its frames are in use (and a fault may map
 * them again), so that both are charged. Returns whether the target keeps what charge_target took.
 */
static bool leave_source(struct mover *m, struct folio *f, struct target *t)
{
	bool isolated = lru_isolate(m->q, f);
	struct list dead;

	/* Not isolated: reclaim may have it, and put it back on its list before it drops its own
	 * reference, so that the count alone does not say that the folio is ours. */
	if (!t->live && isolated && t->n == folio_nr(f) && folio_freeze(f, 2 + t->n)) {
		folio_set_charge(t->f, f->charge);
		folio_set_charge(f, 0);
		folio_unlock(f);
		list_init(&dead);
		list_add_tail(&f->lru, &dead);
		phys_free_frozen_list(m->q, &dead);
		return false;
	}
	if (!t->live)
		folio_set_charge(t->f, m->s->fs.cgroup);
	folio_unlock(f);
	if (isolated)
		lru_putback(m->q, f);
	folio_put_nr(m->q, f, 1 + t->n);
	return !t->live;
}

static void release_target(struct mover *m, struct folio *f, struct target *t, bool used)
{
	if (t->live && t->f != f)
		folio_unlock(t->f);
	if (t->live || !used)
		folio_put(m->q, t->f);
	else
		lru_add(m->q, t->f);
}

/* Nothing to be had: what is held is dropped, and room is made on that node. -ENOMEM when that
 * does not help either. */
static int wait_for_target(struct mover *m, int err)
{
	if (err == -EAGAIN) {
		base_yield();
		return 0;
	}
	if (++m->fruitless > MOVE_TRIES)
		return -ENOMEM;
	if (!tier_make_room(m->q, m->node, LRU_CLUSTER))
		base_yield();
	return 0;
}

/* Move the bytes of one folio, or of one page of it. Returns pages moved, 0: look again; -ENOMEM.
 */
static int move_bytes(struct mover *m, u64 src, u64 dst, u32 max)
{
	u32 n = 0, first = 0;
	struct target t;
	struct folio *f;
	int r;

	f = hold_source(m, src, min(max, (u32)PTRS_PER_TABLE / 8), &n, &first);
	if (!f)
		return 0;
	charge_target(m, n);
	folio_lock(f);
	/* The stored copy belongs to slots that the old folio owns. */
	if (folio_test(f, PG_SWAPCACHE)) {
		folio_set(f, PG_DIRTY);
		if (!swap_try_free_folio(m->q, f))
			swap_invalidate_copy(m->q, f);
	}
	r = find_target(m, dst, f, first, n, &t);
	if (r) {
		folio_unlock(f);
		folio_put(m->q, f);
		uncharge_target(m, n);
		return wait_for_target(m, r);
	}
	r = -EAGAIN;
	if (lock_both(m, src, dst)) {
		if (space_entries_run(m->src, folio_pfn(m->q, f) + first, t.n) == t.n)
			r = take_over(m, f, first, &t, src, dst);
		unlock_both(m);
	}
	if (r) {
		release_target(m, f, &t, false);
		folio_unlock(f);
		folio_put(m->q, f);
		uncharge_target(m, n);
		return wait_for_target(m, r);
	}
	if (t.f != f) {
		if (leave_source(m, f, &t))
			n -= t.n;
		release_target(m, NULL, &t, true);
	} else {
		release_target(m, f, &t, true);
		folio_unlock(f);
		folio_put_nr(m->q, f, 1 + t.n);
	}
	uncharge_target(m, n);
	m->fruitless = 0;
	return (int)t.n;
}

/* A swap entry moves as it is if its folio is not cached; one of a page that changes its node does
 * not: who moves the page looks for it where it was. True: moved (or gone). */
static bool move_swap_entry(struct mover *m, u64 src, u64 dst)
{
	struct folio *f;
	bool moved = false;
	u64 e;

	if (!lock_both(m, src, dst))
		return false;
	e = pte_get(m->src);
	if (pte_is_swap(e) && (swp_type(e) == SWP_STORE || !mech_on(m->q, MECH_REMAP_RMAP_LOCK))) {
		f = swap_lookup(m->q, swp_slot(e));
		if (f) {
			folio_put(m->q, f);
		} else {
			pte_set(m->src, 0);
			pte_set(m->dst, e);
			moved = true;
		}
	}
	unlock_both(m);
	return moved;
}

/* One stretch inside one source and one destination table. */
static int move_home_stretch(struct mover *m, u64 src, u64 dst, u32 n)
{
	u32 i = 0;

	while (i < n) {
		u64 at = src + i * PAGE_SIZE, to = dst + i * PAGE_SIZE, e;
		struct ptdesc *desc;
		pte_t *p = pt_pte_lock(&m->s->fs.rs.pgt, at, &desc);
		int r;

		if (!p)
			return 0;
		e = pte_get(p);
		pt_pte_unlock(desc);
		if (pte_none(e)) {
			i++;
			continue;
		}
		if (pte_is_swap(e)) {
			if (move_swap_entry(m, at, to)) {
				i++;
				continue;
			}
			/* Cached, or moving: mapped where it is, then it moves as bytes. */
			r = fault_under_space_lock(m->q, &m->s->fs, m->old, at,
						   ACCESS_READ | ACCESS_REMOTE | ACCESS_FORCE);
			if (r)
				return r;
			continue;
		}
		r = move_bytes(m, at, to, n - i);
		if (r < 0)
			return r;
		i += (u32)r;
	}
	return 0;
}

int space_move_pages(struct quire *q, struct space *s, struct vma *old, u64 src, struct vma *new,
		     u64 dst, u64 size, u64 *moved)
{
	struct mover m = { .q = q, .s = s, .old = old, .new = new };
	u64 done = 0;
	int err = 0;

	m.home = vma_home(old);
	while (done < size && !err) {
		u64 a = src + done, b = dst + done, left = size - done;
		u64 room = min(PMD_SIZE - (a & ~PMD_MASK), PMD_SIZE - (b & ~PMD_MASK));
		u32 n = (u32)(min(left, room) >> PAGE_SHIFT);

		qrcu_read_lock();
		if (!pt_pte_peek(&s->fs.rs.pgt, a)) {
			qrcu_read_unlock();
			done += (u64)n << PAGE_SHIFT;
			continue;
		}
		qrcu_read_unlock();
		err = pt_pte_alloc(&s->fs.rs.pgt, b);
		if (!err && m.home)
			err = move_home_stretch(&m, a, b, n);
		else if (!err)
			move_entries(&m, a, b, n);
		if (!err)
			done += (u64)n << PAGE_SHIFT;
	}
	*moved = done;
	return err;
}
