/*
 * anon_vma.c - anon_vmas, their chains to areas, and what happens to them when areas change.
 *
 * See rmap.h for the structures. An area's chain objects are changed under the space lock for
 * writing, or by anon_vma_prepare under the space lock for reading, where the cmpxchg of
 * vma->anon_vma picks one winner.
 */
#include "base/arena.h"
#include "rmap/rmap_internal.h"

int rmap_create(struct quire *q)
{
	struct rmap *r = arena_zalloc(q->arena, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->anon_vmas = cache_create(q->arena, "anon_vma", sizeof(struct anon_vma));
	r->chains = cache_create(q->arena, "anon_vma_chain", sizeof(struct anon_vma_chain));
	if (!r->anon_vmas || !r->chains) {
		arena_free(q->arena, r, sizeof(*r));
		return -ENOMEM;
	}
	q->rmap = r;
	return 0;
}

void rmap_destroy(struct quire *q)
{
	qrcu_barrier(q);
	arena_free(q->arena, q->rmap, sizeof(*q->rmap));
	q->rmap = NULL;
}

void rmap_register_swap(struct quire *q, const struct rmap_swap_ops *ops)
{
	q->rmap->swap_ops = ops;
}

u64 rmap_live_objects(struct quire *q)
{
	return cache_live(q->rmap->anon_vmas) + cache_live(q->rmap->chains);
}

static struct anon_vma *anon_vma_alloc(struct quire *q)
{
	struct anon_vma *av = cache_zalloc(q->rmap->anon_vmas);

	if (!av)
		return NULL;
	rwsem_init(&av->rwsem, LOCK_ANON_VMA);
	av->root = av;
	a32_init(&av->ref, 1);
	itree_init(&av->tree);
	return av;
}

static void anon_vma_free_rcu(struct quire *q, struct rcu_head *head)
{
	cache_free(q->rmap->anon_vmas, container_of(head, struct anon_vma, rcu));
}

void anon_vma_put(struct quire *q, struct anon_vma *av)
{
	while (av && a32_sub_return(&av->ref, 1) == 0) {
		struct anon_vma *parent = av->parent;

		qrcu_call(q, &av->rcu, anon_vma_free_rcu);
		av = parent;
	}
}

/*
 * Revalidates: the folio's mapping may be stale, because the last unmap does not clear it. While
 * the folio is mapped, an area that maps it holds a reference of the anon_vma; so "mapped after the
 * reference was taken" proves that the pointer was good when it was taken. RCU keeps the memory an
 * anon_vma until then.
 */
struct anon_vma *folio_get_anon_vma(struct quire *q, struct folio *f)
{
	struct anon_vma *av = NULL;
	uintptr_t m;

	qrcu_read_lock();
	m = (uintptr_t)aptr_read_acquire(&f->mapping);
	if (!(m & MAPPING_ANON) || !folio_mapped(f))
		goto out;
	av = (struct anon_vma *)(m & ~MAPPING_ANON);
	if (!a32_add_unless(&av->ref, 1, 0)) {
		av = NULL;
		goto out;
	}
	smp_mb();
	if (!folio_mapped(f)) {
		qrcu_read_unlock();
		anon_vma_put(q, av);
		return NULL;
	}
out:
	qrcu_read_unlock();
	return av;
}

static void chain_set_bounds(struct anon_vma_chain *avc)
{
	struct vma *v = avc->vma;

	avc->node.start = v->pgoff;
	avc->node.last = v->pgoff + ((vma_end(v) - vma_start(v)) >> PAGE_SHIFT) - 1;
}

/* LOCKING: anon_vma root write-locked. The caller has put a reference in for the chain. */
static void chain_link(struct anon_vma_chain *avc, struct vma *v, struct anon_vma *av)
{
	avc->vma = v;
	avc->anon_vma = av;
	list_add_tail(&avc->same_vma, &v->anon_chain);
	chain_set_bounds(avc);
	itree_insert(&av->tree, &avc->node);
}

/* LOCKING: space lock for reading: the neighbours' bounds and flags stand still. The owner's chain
 * is read under the root lock: its anon_vma is published before the chain is linked. */
static bool has_one_chain(struct vma *owner, struct anon_vma *av)
{
	bool one;

	rwsem_read_lock(&av->root->rwsem);
	one = owner->anon_chain.next == owner->anon_chain.prev;
	rwsem_read_unlock(&av->root->rwsem);
	return one;
}

static bool can_share(struct vma *below, struct vma *above, struct anon_vma *av)
{
	u64 ignore = VM_PROT_MASK;
	struct vma *owner = av == aptr_read(&below->anon_vma) ? below : above;

	return vma_end(below) == vma_start(above) && below->object == above->object &&
	       !((vma_flags(below) ^ vma_flags(above)) & ~ignore) &&
	       below->pgoff + ((vma_end(below) - vma_start(below)) >> PAGE_SHIFT) == above->pgoff &&
	       has_one_chain(owner, av);
}

int rmap_space_init(struct quire *q, struct rmap_space *rs)
{
	if (!machine_has(q->machine, CAP_HOME))
		return 0;
	rs->home = anon_vma_alloc(q);
	return rs->home ? 0 : -ENOMEM;
}

void rmap_space_fini(struct quire *q, struct rmap_space *rs)
{
	if (rs->home)
		anon_vma_put(q, rs->home);
	rs->home = NULL;
}

/* The space's, or a neighbour's so that the two areas can merge one day; with a reference, or NULL.
 */
static struct anon_vma *find_sharable(struct vma *v)
{
	struct anon_vma *home = vma_rmap_space(v)->home;
	struct vma *prev = vma_find_prev(v->set, vma_start(v));
	struct vma *next = vma_next(v->set, v);
	struct anon_vma *av;

	if (vma_home(v)) {
		a32_fetch_add(&home->ref, 1);
		return home;
	}
	av = prev ? aptr_read_acquire(&prev->anon_vma) : NULL;
	if (av && can_share(prev, v, av) && a32_add_unless(&av->ref, 1, 0))
		return av;
	av = next ? aptr_read_acquire(&next->anon_vma) : NULL;
	if (av && can_share(v, next, av) && a32_add_unless(&av->ref, 1, 0))
		return av;
	return NULL;
}

int anon_vma_prepare(struct quire *q, struct vma *v)
{
	struct anon_vma_chain *avc;
	struct anon_vma *av;
	void *none = NULL;

	if (likely(aptr_read_acquire(&v->anon_vma)))
		return 0;
	avc = cache_zalloc(q->rmap->chains);
	if (!avc)
		return -ENOMEM;
	av = find_sharable(v);
	if (!av)
		av = anon_vma_alloc(q);
	if (!av) {
		cache_free(q->rmap->chains, avc);
		return -ENOMEM;
	}
	rwsem_write_lock(&av->root->rwsem);
	if (aptr_cmpxchg(&v->anon_vma, &none, av)) {
		chain_link(avc, v, av);
		av->nr_active++;
		rwsem_write_unlock(&av->root->rwsem);
		return 0;
	}
	/* Another fault on the same area was first. */
	rwsem_write_unlock(&av->root->rwsem);
	anon_vma_put(q, av);
	cache_free(q->rmap->chains, avc);
	return 0;
}

/* LOCKING: the root is write-locked. */
static void chain_unlink(struct anon_vma_chain *avc)
{
	struct anon_vma *av = avc->anon_vma;

	itree_erase(&av->tree, &avc->node);
	list_del(&avc->same_vma);
	if (av == aptr_read(&avc->vma->anon_vma))
		av->nr_active--;
	if (av->parent && itree_empty(&av->tree))
		av->parent->nr_children--;
}

static void chains_forget(struct quire *q, struct vma *v)
{
	list_for_each_safe(pos, tmp, &v->anon_chain) {
		struct anon_vma_chain *avc = list_entry(pos, struct anon_vma_chain, same_vma);
		struct anon_vma *av = avc->anon_vma;

		rwsem_write_lock(&av->root->rwsem);
		chain_unlink(avc);
		rwsem_write_unlock(&av->root->rwsem);
		cache_free(q->rmap->chains, avc);
		anon_vma_put(q, av);
	}
	list_init(&v->anon_chain);
	aptr_set(&v->anon_vma, NULL);
}

/* May the child's area take this one of its parent's as its own? Only where no area does any more,
 * and at most one line of children hangs below it; never the root. */
static bool may_adopt(const struct anon_vma *av)
{
	return av->parent && !av->nr_active && av->nr_children < 2;
}

/* dst is chained to all of src's anon_vmas. With `adopt`, dst's own becomes one of them that may be
 * had. */
static int chains_copy(struct quire *q, struct vma *dst, struct vma *src, bool adopt)
{
	list_for_each(pos, &src->anon_chain) {
		struct anon_vma_chain *from = list_entry(pos, struct anon_vma_chain, same_vma);
		struct anon_vma_chain *avc = cache_zalloc(q->rmap->chains);

		if (!avc) {
			chains_forget(q, dst);
			return -ENOMEM;
		}
		a32_fetch_add(&from->anon_vma->ref, 1);
		rwsem_write_lock(&from->anon_vma->root->rwsem);
		chain_link(avc, dst, from->anon_vma);
		if (adopt && !aptr_read(&dst->anon_vma) && may_adopt(from->anon_vma)) {
			from->anon_vma->nr_active++;
			aptr_set_release(&dst->anon_vma, from->anon_vma);
		}
		rwsem_write_unlock(&from->anon_vma->root->rwsem);
	}
	return 0;
}

static void set_own(struct vma *v, struct anon_vma *av)
{
	rwsem_write_lock(&av->root->rwsem);
	av->nr_active++;
	aptr_set_release(&v->anon_vma, av);
	rwsem_write_unlock(&av->root->rwsem);
}

int anon_vma_clone(struct quire *q, struct vma *dst, struct vma *src)
{
	int err = chains_copy(q, dst, src, false);

	if (!err && aptr_read(&src->anon_vma))
		set_own(dst, aptr_read(&src->anon_vma));
	return err;
}

int anon_vma_fork(struct quire *q, struct vma *dst, struct vma *src)
{
	struct anon_vma *parent = aptr_read(&src->anon_vma), *av;
	struct anon_vma_chain *avc;
	int err;

	if (!parent)
		return 0;
	err = mech_on(q, MECH_FORK_CHAINS) ? chains_copy(q, dst, src, true) : 0;
	if (err || aptr_read(&dst->anon_vma))
		return err;
	av = anon_vma_alloc(q);
	avc = cache_zalloc(q->rmap->chains);
	if (!av || !avc) {
		if (av)
			anon_vma_put(q, av);
		if (avc)
			cache_free(q->rmap->chains, avc);
		chains_forget(q, dst);
		return -ENOMEM;
	}
	a32_fetch_add(&parent->ref, 1);
	av->parent = parent;
	av->root = parent->root;
	rwsem_write_lock(&av->root->rwsem);
	parent->nr_children++;
	chain_link(avc, dst, av);
	av->nr_active++;
	aptr_set_release(&dst->anon_vma, av);
	rwsem_write_unlock(&av->root->rwsem);
	return 0;
}

static struct anon_vma *vma_root(struct vma *v)
{
	struct anon_vma *av = aptr_read(&v->anon_vma);

	return av ? av->root : NULL;
}

/* ---- areas that change: both trees ---- */

static void object_set_bounds(struct vma *v)
{
	v->in_object.start = v->pgoff;
	v->in_object.last = v->pgoff + ((vma_end(v) - vma_start(v)) >> PAGE_SHIFT) - 1;
}

static void op_attach(struct quire *q, struct vma *v)
{
	struct object *o = v->object;

	(void)q;
	object_get(o);
	rwsem_write_lock(&o->mmap);
	object_set_bounds(v);
	itree_insert(&o->areas, &v->in_object);
	rwsem_write_unlock(&o->mmap);
}

static void op_unlink(struct quire *q, struct vma *v)
{
	struct anon_vma *root = vma_root(v);

	(void)q;
	if (v->object) {
		rwsem_write_lock(&v->object->mmap);
		itree_erase(&v->object->areas, &v->in_object);
	}
	if (!root)
		return;
	rwsem_write_lock(&root->rwsem);
	list_for_each(pos, &v->anon_chain) {
		struct anon_vma_chain *avc = list_entry(pos, struct anon_vma_chain, same_vma);

		itree_erase(&avc->anon_vma->tree, &avc->node);
	}
}

static void op_relink(struct quire *q, struct vma *v)
{
	struct anon_vma *root = vma_root(v);

	(void)q;
	list_for_each(pos, &v->anon_chain) {
		struct anon_vma_chain *avc = list_entry(pos, struct anon_vma_chain, same_vma);

		chain_set_bounds(avc);
		itree_insert(&avc->anon_vma->tree, &avc->node);
	}
	if (root)
		rwsem_write_unlock(&root->rwsem);
	if (v->object) {
		object_set_bounds(v);
		itree_insert(&v->object->areas, &v->in_object);
		rwsem_write_unlock(&v->object->mmap);
	}
}

/* The object last: what it does when the last reference goes may sleep. */
static void op_forget(struct quire *q, struct vma *v)
{
	struct object *o = v->object;

	chains_forget(q, v);
	if (!o)
		return;
	rwsem_write_lock(&o->mmap);
	itree_erase(&o->areas, &v->in_object);
	rwsem_write_unlock(&o->mmap);
	object_put(o);
}

static int op_clone(struct quire *q, struct vma *new, struct vma *old)
{
	return anon_vma_clone(q, new, old);
}

static bool chain_simple(struct vma *v)
{
	return v->anon_chain.next == v->anon_chain.prev;
}

static bool op_can_merge(struct vma *a, struct vma *b)
{
	void *x = aptr_read(&a->anon_vma), *y = aptr_read(&b->anon_vma);

	return (!x || !y || x == y) && chain_simple(a) && chain_simple(b);
}

const struct vma_ops rmap_vma_ops = {
	.clone = op_clone,
	.fork = anon_vma_fork,
	.unlink = op_unlink,
	.relink = op_relink,
	.attach = op_attach,
	.forget = op_forget,
	.can_merge = op_can_merge,
};

static u64 check_in_object(struct vma *v)
{
	struct itree_node *n = &v->in_object, *it;
	u64 bad = 0;

	bad += WARN_ON(n->start != v->pgoff);
	bad += WARN_ON(n->last != v->pgoff + ((vma_end(v) - vma_start(v)) >> PAGE_SHIFT) - 1);
	rwsem_read_lock(&v->object->mmap);
	bad += WARN_ON(itree_check(&v->object->areas) < 1);
	it = itree_first(&v->object->areas, n->start, n->last);
	while (it && it != n)
		it = itree_next(&v->object->areas, it, n->start, n->last);
	bad += WARN_ON(!it);
	rwsem_read_unlock(&v->object->mmap);
	return bad;
}

u64 rmap_check_vma(struct quire *q, struct vma *v)
{
	struct anon_vma *av = aptr_read(&v->anon_vma);
	u64 bad = 0;

	(void)q;
	bad += WARN_ON(!av != list_empty(&v->anon_chain));
	bad += WARN_ON(av && !av->nr_active);
	bad += WARN_ON(!v->object && (vma_flags(v) & VM_SHARED));
	if (v->object)
		bad += check_in_object(v);
	list_for_each(pos, &v->anon_chain) {
		struct anon_vma_chain *avc = list_entry(pos, struct anon_vma_chain, same_vma);

		bad += WARN_ON(avc->vma != v);
		bad += WARN_ON(avc->node.start != v->pgoff);
		bad += WARN_ON(avc->node.last !=
			       v->pgoff + ((vma_end(v) - vma_start(v)) >> PAGE_SHIFT) - 1);
		bad += WARN_ON(itree_check(&avc->anon_vma->tree) < 1);
		bad += WARN_ON(a32_read(&avc->anon_vma->ref) == 0);
	}
	return bad;
}
