/*
 * fault.c - from a trapped access to the step that resolves it.
 *
 *   T1: fault under the VMA lock              T2: unmap, protect, remap
 *   find the area lock-free (RCU)
 *   read-lock it; recheck its bounds
 *                                             space lock (write); write-lock the area: waits for T1
 *   look at the entry, prepare a page
 *   entry lock; entry unchanged? set it
 *   unlock the area
 *                                             ... and only now changes entries
 */
#include "fault/fault_internal.h"
#include "base/arena.h"
#include "base/thread.h"

int fault_create(struct quire *q)
{
	struct fault_state *st = arena_zalloc(q->arena, sizeof(*st));

	if (!st)
		return -ENOMEM;
	q->fault = st;
	/* A home frame cannot be shared: there, a page of zeroes is filled like any other. */
	if (machine_has(q->machine, CAP_ZERO_PAGE) && !machine_has(q->machine, CAP_HOME)) {
		void *bytes;

		st->zero = phys_alloc(q, 0, 0);
		if (!st->zero) {
			arena_free(q->arena, st, sizeof(*st));
			q->fault = NULL;
			return -ENOMEM;
		}
		st->zero_pfn = folio_pfn(q, st->zero);
		bytes = q->machine->ops->fill_begin(q->machine, st->zero_pfn, 1);
		__builtin_memset(bytes, 0, PAGE_SIZE);
		q->machine->ops->fill_end(q->machine, st->zero_pfn, 1, bytes);
	}
	return 0;
}

void fault_destroy(struct quire *q)
{
	if (q->fault->zero)
		folio_put(q, q->fault->zero);
	arena_free(q->arena, q->fault, sizeof(*q->fault));
	q->fault = NULL;
}

void fault_register_reclaim(struct quire *q, const struct fault_ops *ops)
{
	q->fault->ops = ops;
}

struct folio *fault_zero_folio(struct quire *q)
{
	return q->fault->zero;
}

int fault_install(struct fc *c, u64 va, const u64 *entries, u32 nr, const void *fill,
		  bool fill_zero, bool force)
{
	struct machine *m = fc_machine(c);
	unsigned node = 0;
	int err;

	TRACE(c->q, EV_PTE_SET, va, entries[0], nr);
	/* New bytes of home frames come from the memory of the folio's node. */
	if (unlikely(m->ops->prefer_node) && c->home && (fill || fill_zero))
		node = folio_node(phys_folio(c->q, entry_pfn(entries[0])));
	if (node)
		m->ops->prefer_node(m, node);
	err = m->ops->entries_changed(m, c->fs->rs.tlb.ms, va, entries, nr, 0, fill, fill_zero,
				      force);
	if (node)
		m->ops->prefer_node(m, 0);
	return err;
}

/* What the area itself allows, whatever the entry says. */
static int check_access(const struct fc *c)
{
	if (c->vf & VM_FOREIGN)
		return -EFAULT;
	if (c->access & ACCESS_FORCE)
		return 0;
	if (fc_write(c))
		return c->vf & VM_WRITE ? 0 : -EACCES;
	if (c->access & ACCESS_EXEC)
		return c->vf & VM_EXEC ? 0 : -EACCES;
	/* As on x86: whatever may be written or executed may be read. */
	return c->vf & VM_PROT_MASK ? 0 : -EACCES;
}

/*
 * Pages of a snapshot or a forked child are first used by traps that find their entries there: the
 * neighbours' entries are made usable along. Those that are keep what they have. LOCKING: entry
 * lock.
 */
static void install_around(struct fc *c, pte_t *p)
{
	u64 size = PAGE_SIZE << fault_touch_order(c), start = ALIGN_DOWN(c->va, size);
	u64 end = min(start + size, vma_end(c->v)), e[TOUCH_PAGES_MAX];
	u32 n = 0;

	start = max(start, vma_start(c->v));
	p -= (c->va - start) >> PAGE_SHIFT;
	for (u64 va = start; va < end; va += PAGE_SIZE)
		e[n++] = pte_get(p++);
	(void)!fault_install(c, start, e, n, NULL, false, false);
	a64_set(&c->v->last_touch, end);
}

/*
 * The entry allows the access, yet it trapped: another thread was first, or the translation is
 * stricter than the entry (an upgrade that was not flushed, a neighbour's range flush). Install it
 * anew; force if the machine thinks it is right already.
 */
static int spurious(struct fc *c)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	int err = 0;
	u64 e;

	if (!p)
		return FAULT_AGAIN;
	e = pte_get(p);
	if (entry_present(e) && (!fc_write(c) || pte_write(e))) {
		a64_fetch_or(p, ENTRY_ACCESSED);
		e = pte_get(p);
		err = fault_install(c, c->va, &e, 1, NULL, false, true);
		if (!err && !c->home && machine_has(fc_machine(c), CAP_PLAIN))
			install_around(c, p);
	}
	pt_pte_unlock(desc);
	stat_inc(c->q, STAT_FAULT_SPURIOUS);
	return err == -EAGAIN ? FAULT_AGAIN : err;
}

/* The present value of the entry word, or 0. Only a first look: each step revalidates under the
 * entry lock. */
static u64 peek_entry(struct fc *c)
{
	pte_t *p;
	u64 e;

	qrcu_read_lock();
	p = pt_pte_peek(&c->fs->rs.pgt, c->va);
	e = p ? pte_get(p) : 0;
	qrcu_read_unlock();
	return e;
}

/* An object's own pages are found through the object; only copies of them are anonymous. */
static bool wants_anon_vma(const struct fc *c)
{
	if (!c->v->object)
		return true;
	return fault_wants_copy(c);
}

/*
 * The page moves to another frame: its folio is locked until the entry is present again. Waiting
 * takes no reference, which would stop the move (Linux ffa65753): while the entry lock is held the
 * entry says that the folio is locked, and its record is never freed.
 */
int fault_do_migration(struct fc *c, u64 entry)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&c->fs->rs.pgt, c->va, &desc);
	bool same;

	if (!p)
		return FAULT_AGAIN;
	same = pte_get(p) == entry;
	if (same) {
		c->wait = folio_head(phys_record(c->q, migration_pfn(entry)));
		if (!mech_on(c->q, MECH_MIGRATE_WAIT_UNREFERENCED))
			a32_fetch_add(&c->wait->ref, 1);
	}
	pt_pte_unlock(desc);
	return same ? FAULT_WAIT : FAULT_AGAIN;
}

static void wait_for_move(struct fc *c)
{
	folio_wait_unlocked(c->wait);
	if (!mech_on(c->q, MECH_MIGRATE_WAIT_UNREFERENCED))
		folio_put(c->q, c->wait);
}

static int fault_once(struct fc *c)
{
	int err;
	u64 e;

	c->vf = vma_flags(c->v);
	c->home = vma_home(c->v);
	err = check_access(c);
	if (err)
		return err;
	if (unlikely(!aptr_read_acquire(&c->v->anon_vma)) && wants_anon_vma(c)) {
		/* Sharing a neighbour's needs the neighbours to stand still. */
		if (!c->space_locked)
			return FAULT_SPACE;
		err = anon_vma_prepare(c->q, c->v);
		if (err)
			return err;
	}
	e = peek_entry(c);
	if (pte_none(e))
		return c->v->object ? fault_do_object(c) : fault_do_anon(c);
	if (pte_is_swap(e)) {
		if (!mech_on(c->q, MECH_READ_ENTRY_ONCE))
			e = peek_entry(c);
		if (pte_is_migration(e))
			return fault_do_migration(c, e);
		return swp_type(e) == SWP_STORE ? fault_do_swap(c, e) : -EFAULT;
	}
	if (pte_is_hint(e))
		return fault_do_hint(c, e);
	if (fc_write(c) && !pte_write(e))
		return e & ENTRY_SHARED ? fault_do_shared_wp(c, e) : fault_do_wp(c, e);
	/* Only a look, as all of this: reuse() decides. */
	if ((c->access & ACCESS_UNSHARE) && entry_present(e) &&
	    fault_must_unshare(c->q, e, c->access))
		return fault_do_wp(c, e);
	return spurious(c);
}

#define YIELDS_MAX 64u

/*
 * Until resolved or refused. FAULT_SPACE only without the space lock. What is waited for may be
 * held by a thread that waits for this area (it unmaps both sides of a folio): so the area is not
 * held for long.
 */
static int fault_loop(struct fc *c)
{
	for (u32 tries = 0;; tries++) {
		int r = fault_once(c);

		if (r == FAULT_WAIT && c->space_locked) {
			wait_for_move(c);
			continue;
		}
		if (r != FAULT_AGAIN)
			return r;
		if (tries < 4)
			base_relax();
		else if (tries < YIELDS_MAX)
			base_yield();
		else if (!c->space_locked)
			return FAULT_SPACE;
		else
			fc_machine(c)->ops->sleep_ns(fc_machine(c), 20000);
	}
}

static void fc_init(struct fc *c, struct quire *q, struct fault_space *fs, u64 va, u32 access)
{
	*c = (struct fc){
		.q = q,
		.fs = fs,
		.va = ALIGN_DOWN(va, PAGE_SIZE),
		.access = access,
		.hw_ad = machine_has(q->machine, CAP_HW_AD),
	};
}

int fault_under_space_lock(struct quire *q, struct fault_space *fs, struct vma *v, u64 va,
			   u32 access)
{
	struct fc c;

	fc_init(&c, q, fs, va, access);
	c.v = v;
	c.space_locked = true;
	return fault_loop(&c);
}

/* One fault, without or else with the space lock. */
static int fault_in_space(struct fc *c, struct fault_space *fs)
{
	bool busy = false;
	int r;

	c->space_locked = false;
again:
	busy = false;
	c->v = vma_lock_rcu(&fs->vmas, c->va, &busy);
	if (likely(c->v)) {
		r = fault_loop(c);
		vma_read_unlock(c->v);
		if (r == FAULT_WAIT) {
			/* Who wants to change the area need not wait for the move. */
			wait_for_move(c);
			goto again;
		}
		if (r != FAULT_SPACE)
			return r;
	} else if (!busy) {
		return -EFAULT;
	}
	stat_inc(c->q, STAT_FAULT_RETRY);
	space_read_lock(&fs->vmas);
	c->v = vma_find(&fs->vmas, c->va);
	c->space_locked = true;
	r = c->v ? fault_loop(c) : -EFAULT;
	space_read_unlock(&fs->vmas);
	return r;
}

#define RESETS_MAX 16u /* for one fault: others use up what was given back */

int handle_fault(struct quire *q, struct fault_space *fs, u64 va, u32 access)
{
	struct fc c;
	int r;

	fc_init(&c, q, fs, va, access);
	r = fault_in_space(&c, fs);
	for (u32 i = 0; unlikely(r == -ENOSPC) && i < RESETS_MAX; i++) {
		if (!fault_reset_places(q, fs))
			break;
		r = fault_in_space(&c, fs);
	}
	TRACE(q, EV_FAULT, va, access, r);
	return r;
}
