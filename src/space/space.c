/*
 * space.c - creating and destroying spaces, mapping, unmapping, and what the other files share.
 */
#include "space/space_internal.h"

/* The machine's trap: resolve one access of a user of this space. */
static int space_trap(void *ctx, u64 va, u32 access)
{
	struct space *s = ctx;
	struct quire *q = s->fs.vmas.q;
	int r;

	gate_enter(&q->gate);
	r = handle_fault(q, &s->fs, va, access);
	gate_exit(&q->gate);
	return r;
}

int spaces_create(struct quire *q)
{
	q->spaces = arena_zalloc(q->arena, sizeof(*q->spaces));
	if (!q->spaces)
		return -ENOMEM;
	mutex_init(&q->spaces->lock, LOCK_SPACES);
	list_init(&q->spaces->all);
	q->machine->trap = space_trap;
	return 0;
}

void spaces_destroy(struct quire *q)
{
	BUG_ON(!list_empty(&q->spaces->all));
	arena_free(q->arena, q->spaces, sizeof(*q->spaces));
	q->spaces = NULL;
}

int space_create(struct quire *q, unsigned cgroup, unsigned node, struct space **out)
{
	struct machine *m = q->machine;
	struct space *s = arena_zalloc(q->arena, sizeof(*s));
	struct range usable;
	int err;

	if (!s)
		return -ENOMEM;
	s->fs.cgroup = cgroup;
	s->fs.node = node;
	err = pgtable_init(q, &s->fs.rs.pgt);
	if (err)
		goto out_space;
	err = m->ops->space_create(m, s->fs.rs.pgt.root, s, &s->ms, &usable);
	if (err)
		goto out_pgt;
	tlb_space_init(q, &s->fs.rs.tlb, s->ms);
	err = rmap_space_init(q, &s->fs.rs);
	if (err)
		goto out_machine;
	err = vmas_init(q, &s->fs.vmas, usable, s);
	if (err)
		goto out_rmap;
	err = fault_space_init(q, &s->fs);
	if (err)
		goto out_vmas;
	mutex_lock(&q->spaces->lock);
	list_add_tail(&s->all, &q->spaces->all);
	mutex_unlock(&q->spaces->lock);
	*out = s;
	return 0;
out_vmas:
	vmas_fini(&s->fs.vmas);
out_rmap:
	rmap_space_fini(q, &s->fs.rs);
out_machine:
	m->ops->space_destroy(m, s->ms);
out_pgt:
	pgtable_fini(&s->fs.rs.pgt);
out_space:
	arena_free(q->arena, s, sizeof(*s));
	return err;
}

#define LEAVE_TRIES 50000u /* of 20 us: a pin that is never undone must not hold this for ever */

/*
 * No entry is left, but pages may be: in batches on their way to the LRU, isolated by an eviction
 * that began earlier, being released.
 * The eviction may also know the space itself, for its flush. Home frames must all be back before
 * their addresses are somebody else's.
 */
static void wait_for_pages(struct quire *q, struct space *s)
{
	struct range u = s->fs.vmas.usable;
	u64 pfn = u.start >> PAGE_SHIFT, nr = range_size(u) >> PAGE_SHIFT;
	u32 tries = 0;

	reclaim_wait(q);
	lru_drain_all(q);
	if (!machine_has(q->machine, CAP_HOME))
		return;
	while (phys_bar(q, s->fs.node, pfn, nr)) {
		if (WARN_ON(++tries > LEAVE_TRIES))
			return;
		lru_drain_all(q);
		if (tries < 64)
			base_yield();
		else
			q->machine->ops->sleep_ns(q->machine, 20000);
	}
	phys_unbar(q, pfn, nr);
}

static struct range first_area(struct space *s)
{
	struct range r = { 0, 0 };
	struct vma *v;

	space_read_lock(&s->fs.vmas);
	v = vma_find_first(&s->fs.vmas, 0);
	if (v)
		r = (struct range){ vma_start(v), vma_end(v) };
	space_read_unlock(&s->fs.vmas);
	return r;
}

/* At once, with one flush; where there is no memory for that, area by area: removing one may need
 * memory for the map too, a little, and must not be given up. */
static void unmap_all(struct quire *q, struct space *s)
{
	struct range all = s->fs.vmas.usable, r;

	if (!space_unmap(q, s, all.start, all.end - all.start))
		return;
	for (r = first_area(s); r.end; r = first_area(s))
		if (space_unmap(q, s, r.start, range_size(r))) {
			qrcu_barrier(q);
			base_yield();
		}
}

void space_destroy(struct quire *q, struct space *s)
{
	unmap_all(q, s);
	wait_for_pages(q, s);
	mutex_lock(&q->spaces->lock);
	list_del(&s->all);
	mutex_unlock(&q->spaces->lock);
	rmap_space_fini(q, &s->fs.rs);
	qrcu_barrier(q);
	q->machine->ops->space_destroy(q->machine, s->ms);
	fault_space_fini(q, &s->fs);
	vmas_fini(&s->fs.vmas);
	pgtable_fini(&s->fs.rs.pgt);
	arena_free(q->arena, s, sizeof(*s));
}

struct range space_usable(struct space *s)
{
	return s->fs.vmas.usable;
}

bool space_range_ok(struct space *s, u64 start, u64 *size)
{
	struct range u = s->fs.vmas.usable;

	if (!IS_ALIGNED(start, PAGE_SIZE) || !*size || *size > ~0ull - PAGE_SIZE)
		return false;
	*size = ALIGN_UP(*size, PAGE_SIZE);
	return start >= u.start && start <= u.end && *size <= u.end - start;
}

int space_covered(struct space *s, struct range r)
{
	while (r.start < r.end) {
		struct vma *v = vma_find(&s->fs.vmas, r.start);

		if (!v || (vma_flags(v) & VM_FOREIGN))
			return -ENOMEM;
		r.start = vma_end(v);
	}
	return 0;
}

static u32 count_areas(struct space *s, struct range r)
{
	u32 n = 0;

	for (struct vma *v = vma_find_first(&s->fs.vmas, r.start); v && vma_start(v) < r.end;
	     v = vma_next(&s->fs.vmas, v))
		n++;
	return n;
}

int space_cut(struct quire *q, struct space *s, struct range r, u32 extra)
{
	int err = vma_split(&s->fs.vmas, r.start);

	(void)q;
	if (!err)
		err = vma_split(&s->fs.vmas, r.end);
	if (!err)
		err = rangemap_reserve(&s->fs.vmas.map, count_areas(s, r) + extra);
	return err;
}

/* ---- map ---- */

/* 2 MiB alignment where it pays: one table, one reservation, neighbours together. */
static u64 map_align(u64 size)
{
	return size >= PMD_SIZE ? PMD_SIZE : PAGE_SIZE;
}

static bool range_free(struct space *s, struct range r)
{
	struct vma *v = vma_find_first(&s->fs.vmas, r.start);

	return !v || vma_start(v) >= r.end;
}

/* Where does it go? S write. May unmap what a fixed mapping replaces. */
static int choose_place(struct quire *q, struct space *s, u64 hint, u64 size, u32 flags, u64 *at)
{
	u64 start = ALIGN_DOWN(hint, PAGE_SIZE), sz = size;
	bool fits = hint && space_range_ok(s, start, &sz);

	if (flags & (MAP_F_FIXED | MAP_F_NOREPLACE)) {
		if (hint != start)
			return -EINVAL;
		if (!fits)
			return -ENOMEM;
		*at = start;
		if (range_free(s, mk_range(start, size)))
			return 0;
		return flags & MAP_F_NOREPLACE ? -EEXIST :
						 space_unmap_locked(q, s, mk_range(start, size));
	}
	if (fits && range_free(s, mk_range(start, size))) {
		*at = start;
		return 0;
	}
	return vma_find_gap(&s->fs.vmas, (struct range){ 0, 0 }, size, map_align(size), at);
}

/* Frames at foreign addresses are nobody's business until the area is managed again. S write. */
static int bar_foreign(struct quire *q, struct space *s, struct range r)
{
	u64 pfn = r.start >> PAGE_SHIFT, nr = range_size(r) >> PAGE_SHIFT;
	int err = 0;

	if (!machine_has(q->machine, CAP_HOME))
		return 0;
	/* What was unmapped a moment ago may still be in a batch or in an eviction's hands; a
	 * pinned page stays. */
	for (u32 tries = 0; tries < 64; tries++) {
		err = phys_bar(q, s->fs.node, pfn, nr);
		if (err != -EBUSY)
			break;
		lru_drain_all(q);
		reclaim_wait(q);
		base_yield();
	}
	return err;
}

static int map_foreign(struct quire *q, struct space *s, struct range r)
{
	struct machine *m = q->machine;
	struct vma *v;
	int err = bar_foreign(q, s, r);

	if (err)
		return err;
	err = m->ops->area_map(m, s->ms, r, PROT_BITS_FOREIGN, 0);
	if (!err) {
		err = vma_add(&s->fs.vmas, r, VM_FOREIGN, r.start >> PAGE_SHIFT, &v);
		if (err)
			m->ops->area_unmap(m, s->ms, r, PROT_BITS_FOREIGN);
	}
	if (err && machine_has(q->machine, CAP_HOME))
		phys_unbar(q, r.start >> PAGE_SHIFT, range_size(r) >> PAGE_SHIFT);
	return err;
}

/* What a new area is to be. */
struct mapping {
	u32 prot;
	u32 flags;
	struct object *object; /* NULL: anonymous memory */
	u64 pgoff;             /* of the object */
};

static int map_locked(struct quire *q, struct space *s, struct range r, const struct mapping *mp)
{
	struct machine *m = q->machine;
	u64 vf = (mp->prot & VM_PROT_MASK) | (mp->flags & MAP_F_LOCKED ? VM_LOCKED : 0) |
		 (mp->flags & MAP_F_SHARED ? VM_SHARED : 0);
	u64 pgoff = mp->object ? mp->pgoff : r.start >> PAGE_SHIFT;
	struct vma *v;
	int err;

	if (mp->flags & MAP_F_FOREIGN)
		return map_foreign(q, s, r);
	if ((mp->flags & MAP_F_PLAIN) && machine_has(m, CAP_HOME))
		vf |= VM_PLAIN;
	/* Where frames have places: those of its first shared area's addresses, so that this one is
	 * a single mapping of the machine. */
	if ((vf & VM_SHARED) && m->plain_base)
		object_prefer_frames(mp->object, m->plain_base + (r.start >> PAGE_SHIFT) - pgoff);
	err = m->ops->area_map(m, s->ms, r, vma_prot_bits(vf),
			       space_first_frame(m, vf, mp->object, pgoff, r.start));
	if (err)
		return err;
	err = vma_add_object(&s->fs.vmas, r, vf, pgoff, mp->object, &v);
	if (err)
		m->ops->area_unmap(m, s->ms, r, vma_prot_bits(vf));
	return err;
}

static int map_area(struct quire *q, struct space *s, u64 hint, u64 size, const struct mapping *mp,
		    u64 *out)
{
	u32 prot = mp->prot, flags = mp->flags;
	u64 at;
	int err;

	if (!size || (prot & ~(u32)VM_PROT_MASK))
		return -EINVAL;
	if (size > range_size(s->fs.vmas.usable))
		return -ENOMEM;
	if ((flags & MAP_F_PLAIN) && machine_has(q->machine, CAP_HOME) &&
	    !machine_has(q->machine, CAP_PLAIN))
		return -EOPNOTSUPP;
	size = ALIGN_UP(size, PAGE_SIZE);
	space_write_lock(&s->fs.vmas);
	err = choose_place(q, s, hint, size, flags, &at);
	if (!err)
		err = map_locked(q, s, mk_range(at, size), mp);
	space_write_unlock(&s->fs.vmas);
	qrcu_poll(q);
	if (err)
		return err;
	TRACE(q, EV_MAP, at, at + size, prot);
	*out = at;
	/* As with MAP_POPULATE: what cannot be brought in now is brought in later, and what is
	 * shared is not made dirty for it. */
	if ((flags & (MAP_F_POPULATE | MAP_F_LOCKED)) && (prot & VM_PROT_MASK))
		err = space_populate(q, s, mk_range(at, size),
				     prot & VM_WRITE ? ACCESS_WRITE | ACCESS_POPULATE :
						       ACCESS_READ);
	return 0;
}

int space_map(struct quire *q, struct space *s, u64 hint, u64 size, u32 prot, u32 flags, u64 *out)
{
	struct mapping mp = { .prot = prot, .flags = flags };

	return flags & MAP_F_SHARED ? -EINVAL : map_area(q, s, hint, size, &mp, out);
}

int space_map_object(struct quire *q, struct space *s, u64 hint, u64 size, u32 prot, u32 flags,
		     struct object *o, u64 offset, u64 *out)
{
	struct mapping mp = {
		.prot = prot,
		.flags = flags | MAP_F_PLAIN,
		.object = o,
		.pgoff = offset >> PAGE_SHIFT,
	};

	if (!IS_ALIGNED(offset, PAGE_SIZE) || (flags & MAP_F_FOREIGN))
		return -EINVAL;
	if (offset > OBJECT_SIZE_MAX || size > OBJECT_SIZE_MAX - offset)
		return -EOVERFLOW;
	if ((flags & MAP_F_SHARED) && (prot & PROT_BITS_WRITE) && (o->flags & OBJECT_READONLY))
		return -EACCES;
	return map_area(q, s, hint, size, &mp, out);
}

int space_populate(struct quire *q, struct space *s, struct range r, u32 access)
{
	for (u64 va = r.start; va < r.end; va += PAGE_SIZE) {
		pte_t *p;
		u64 e;
		int err;

		qrcu_read_lock();
		p = pt_pte_peek(&s->fs.rs.pgt, va);
		e = p ? pte_get(p) : 0;
		qrcu_read_unlock();
		if (entry_present(e) && (!(access & ACCESS_WRITE) || pte_write(e)))
			continue;
		if (entry_present(e) && (e & ENTRY_SHARED) && (access & ACCESS_POPULATE))
			continue;
		err = handle_fault(q, &s->fs, va, access | ACCESS_REMOTE);
		if (err)
			return err;
	}
	return 0;
}

bool space_has_area(struct quire *q, struct space *s, u64 start, u64 size)
{
	bool has;

	(void)q;
	space_read_lock(&s->fs.vmas);
	has = !range_free(s, mk_range(start, size));
	space_read_unlock(&s->fs.vmas);
	return has;
}

void space_for_each_area(struct quire *q, struct space *s, struct range r,
			 void (*fn)(void *ctx, struct range r, u64 vm_flags), void *ctx)
{
	(void)q;
	space_read_lock(&s->fs.vmas);
	for (struct vma *v = vma_find_first(&s->fs.vmas, r.start); v && vma_start(v) < r.end;
	     v = vma_next(&s->fs.vmas, v))
		fn(ctx, (struct range){ vma_start(v), vma_end(v) }, vma_flags(v));
	space_read_unlock(&s->fs.vmas);
}

u64 space_resident_pages(struct space *s)
{
	return a64_read(&s->fs.rs.rss_pages);
}

u64 space_mapped_pages(struct space *s)
{
	u64 n;

	space_read_lock(&s->fs.vmas);
	n = s->fs.vmas.total_pages;
	space_read_unlock(&s->fs.vmas);
	return n;
}
