/*
 * alloc.c - frames for a fault: charge first, then the home frame, or the address's own place, or
 * the reservation's, or any.
 *
 * The charge comes first so that the group's usage, and with it the resident peak, stays within the
 * limit: a page is populated only after room was made for it.
 */
#include "fault/fault_internal.h"
#include "base/thread.h"

#define MAKE_ROOM_TRIES 24

int fault_charge(struct quire *q, struct fault_space *fs, u32 n, bool force)
{
	const struct fault_ops *ops = q->fault->ops;
	u32 fruitless = 0;
	unsigned at = fs->cgroup;

	while (cgroup_try_charge(q, fs->cgroup, n, &at)) {
		if (ops && !base_self()->reclaim_depth && ops->make_room(q, at, n)) {
			fruitless = 0;
			continue;
		}
		/* Other threads may hold everything isolated at this moment: let them finish. */
		if (ops && !base_self()->reclaim_depth &&
		    ++fruitless < (force ? MAKE_ROOM_TRIES : 2)) {
			base_yield();
			continue;
		}
		if (!force)
			return -ENOMEM;
		/* Everything is pinned or the stores are full: a program that lives natively lives
		 * here. */
		cgroup_force_charge(q, fs->cgroup, n);
		stat_add(q, STAT_OVER_LIMIT, n);
		return 0;
	}
	if (ops && ops->wake_background)
		ops->wake_background(q, fs->cgroup);
	return 0;
}

/* The frames set aside for the 2 MiB around va, reserving them at the first need; 0: none to be
 * had. */
static u64 table_reservation(struct fc *c, u64 va)
{
	struct ptdesc *desc;
	u64 base = 0;

	if (pt_pte_alloc(&c->fs->rs.pgt, va))
		return 0;
	if (!pt_pte_lock(&c->fs->rs.pgt, va, &desc))
		return 0;
	if (!desc->resv_pfn && phys_resv_get(c->q, c->fs->node, &base) == 0)
		desc->resv_pfn = base;
	base = desc->resv_pfn;
	pt_pte_unlock(desc);
	return base;
}

/* Is the frame a folio's (or one's that is being taken apart)? Else it is being released, which
 * ends soon. Only a hint. */
static bool frame_in_use(struct quire *q, u64 pfn)
{
	struct folio *rec = phys_record(q, pfn);

	return rec && a32_read(&folio_head(rec)->ref);
}

/*
 * The frame number of the place for va. An area that was moved goes on with the places of its old
 * addresses, as its pages and the machine's mapping do (vma_first_frame). One that shares another's
 * pages leaves those to the other, and has the places of its own addresses; so do the copies in a
 * private area of an object, whose own pages have places of the object's choice.
 */
u64 fault_own_place(struct quire *q, struct vma *v, u64 va)
{
	struct anon_vma *av = aptr_read(&v->anon_vma);
	bool shares = (av && av->parent) || v->object;

	return q->machine->plain_base + (shares ? va >> PAGE_SHIFT : vma_index(v, va));
}

/*
 * The frames that are set aside for the addresses: where frames have places, the one that makes the
 * page one mapping with its neighbours; else out of the table's reservation. -EBUSY: look again;
 * any other error: one from anywhere will do.
 */
static int frames_own_place(struct fc *c, u64 va, unsigned order, struct folio **out)
{
	struct machine *m = fc_machine(c);
	u64 resv;
	int err;

	if (m->plain_base) {
		u64 pfn = c->place ? c->place : fault_own_place(c->q, c->v, va);

		if (!IS_ALIGNED(pfn, BIT(order)))
			return -EEXIST;
		/* Places are memory of node 0. */
		err = phys_alloc_at(c->q, 0, pfn, order, out);
		if (err == -EBUSY && (order || frame_in_use(c->q, pfn)))
			err = -EEXIST;
		return err;
	}
	resv = table_reservation(c, va);
	if (!resv || phys_alloc_at(c->q, c->fs->node, resv + entry_index(va, 0), order, out))
		return -EEXIST;
	return 0;
}

/* One that needs neighbours: free frames may be there, only not together. */
static struct folio *frames_large(struct quire *q, unsigned node, unsigned order)
{
	const struct fault_ops *ops = q->fault->ops;
	struct folio *f = phys_alloc(q, node, order);

	if (f || !ops || !ops->compact || base_self()->reclaim_depth ||
	    !ops->compact(q, node, order))
		return f;
	return phys_alloc(q, node, order);
}

/* On this node, as long as it has room: 0, -EBUSY (look again), -ENOMEM. */
static int frames_on(struct fc *c, u64 va, unsigned node, unsigned order, struct folio **out)
{
	struct machine *m = fc_machine(c);
	int err = -EEXIST;

	if (c->home)
		return phys_alloc_at(c->q, node, va >> PAGE_SHIFT, order, out);
	/* Places are memory of node 0; reservations are made on the space's own. */
	if (node == (m->plain_base ? 0 : c->fs->node))
		err = frames_own_place(c, va, order, out);
	if (!err || err == -EBUSY)
		return err;
	/* Away from its place a page costs host mappings: never more than one at a time. */
	if (m->plain_base && order)
		return -ENOMEM;
	*out = order ? frames_large(c->q, node, order) : phys_alloc(c->q, node, 0);
	return *out ? 0 : -ENOMEM;
}

/* The nodes that the policy allows, the preferred one first, each asked to make room by demotion
 * before the next one is. `anywhere`: on the others then, whatever the policy binds to. */
static int frames_by_policy(struct fc *c, u64 va, unsigned order, bool anywhere, struct folio **out)
{
	const struct fault_ops *ops = c->q->fault->ops;
	u32 allowed;
	unsigned node = fault_node(c, va, &allowed);
	int err = -ENOMEM;

	if (anywhere)
		allowed = ~0u;
	if (phys_nr_nodes(c->q) == 1)
		return frames_on(c, va, 0, order, out);
	for (unsigned i = 0; i < phys_nr_nodes(c->q); i++) {
		unsigned n = phys_fallback(c->q, node, i);

		if (!(allowed & BIT(n)))
			continue;
		err = frames_on(c, va, n, order, out);
		if (err == -ENOMEM && ops && !base_self()->reclaim_depth && phys_tiered(c->q) &&
		    ops->demote(c->q, n, 1u << order))
			err = frames_on(c, va, n, order, out);
		if (err != -ENOMEM)
			break;
	}
	return err;
}

/* No node that would do has any: what goes from others would not help. */
static u64 make_room(struct fc *c, u64 va)
{
	const struct fault_ops *ops = c->q->fault->ops;
	u32 allowed;

	if (phys_nr_nodes(c->q) == 1)
		return ops->make_room(c->q, CGROUP_ROOT, LRU_CLUSTER);
	return ops->node_room(c->q, fault_node(c, va, &allowed), LRU_CLUSTER);
}

static int frames_at(struct fc *c, u64 va, unsigned order, struct folio **out)
{
	const struct fault_ops *ops = c->q->fault->ops;
	int err = -ENOMEM;

	for (u32 tries = 0; tries < MAKE_ROOM_TRIES; tries++) {
		/* What is bound to a node whose pages nobody can move or evict must be somewhere,
		 * as what is over a limit. */
		err = frames_by_policy(c, va, order, tries + 1 == MAKE_ROOM_TRIES, out);
		if (err != -ENOMEM || order || !ops || base_self()->reclaim_depth)
			return err;
		if (!make_room(c, va))
			base_yield();
	}
	return err;
}

int fault_alloc_at(struct fc *c, u64 va, unsigned order, struct folio **out)
{
	int err = fault_charge(c->q, c->fs, 1u << order, order == 0);

	if (err)
		return err;
	err = frames_at(c, va, order, out);
	if (err) {
		cgroup_uncharge(c->q, c->fs->cgroup, 1u << order);
		return err;
	}
	folio_set_charge(*out, c->fs->cgroup);
	return 0;
}

int fault_alloc_placed(struct fc *c, u64 va, u64 place, unsigned order, struct folio **out)
{
	struct fc there = *c;

	there.place = place;
	return fault_alloc_at(&there, va, order, out);
}

int fault_alloc_run(struct fc *c, u64 va, u32 n, struct folio **out)
{
	int err, got;

	if (n > 1 && fault_charge(c->q, c->fs, n, false))
		n = 1;
	if (n == 1) {
		err = fault_alloc_at(c, va, 0, out);
		return err ? err : 1;
	}
	if (c->home && phys_nr_nodes(c->q) == 1) {
		got = phys_alloc_run_at(c->q, 0, va >> PAGE_SHIFT, n, out);
	} else {
		err = 0;
		for (got = 0; got < (int)n; got++) {
			err = frames_at(c, va + ((u64)got << PAGE_SHIFT), 0, &out[got]);
			if (err)
				break;
		}
		if (!got)
			got = err;
	}
	if (got < (int)n)
		cgroup_uncharge(c->q, c->fs->cgroup, n - (got > 0 ? (u32)got : 0));
	for (int i = 0; i < got; i++)
		folio_set_charge(out[i], c->fs->cgroup);
	return got;
}

int fault_alloc_page(struct quire *q, struct fault_space *fs, struct vma *v, u64 va,
		     struct folio **out)
{
	struct fc c = { .q = q, .fs = fs, .v = v, .home = vma_home(v) };

	return fault_alloc_at(&c, va, 0, out);
}

/*
 * A home frame is found by its number, so another fault may have got a reference to the folio
 * meanwhile and mapped it (fault_home_busy).
 * Then it lives on and must be on a list, or reclaim would never see it.
 */
void fault_free_folio(struct quire *q, struct folio *f)
{
	struct list dead;

	if (!folio_freeze(f, 1)) {
		lru_add(q, f);
		folio_put(q, f);
		return;
	}
	list_init(&dead);
	list_add_tail(&f->lru, &dead);
	phys_free_frozen_list(q, &dead);
}
