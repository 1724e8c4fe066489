#include "swap/swap_internal.h"

#include "base/assert.h"
#include "base/inject.h"

#include <string.h>

/* The table grows, rather than that scarce clusters are filled up, while all but this many clusters
 * and a quarter of it are in use. */
#define GROW_SLACK 16u

int slots_create(struct quire *q, struct swap *sw)
{
	spin_init(&sw->lock, LOCK_SWAP_DEVICE);
	for (u32 i = 0; i < CL_NONE; i++)
		list_init(&sw->list[i]);
	sw->clusters = cache_create(q->arena, "swap_cluster", sizeof(struct cluster));
	a64_set(&sw->table_bytes, sizeof(struct swap));
	return sw->clusters ? 0 : -ENOMEM;
}

/* LOCKING: nobody uses the instance any more; no array waits for a grace period. */
void slots_destroy(struct quire *q, struct swap *sw)
{
	for (u32 n = 1; n <= sw->nr_clusters; n++) {
		struct cluster *cl = slot_cluster(sw, (u64)n << CLUSTER_SHIFT);
		void *slots = aptr_read(&cl->slots);

		if (slots)
			arena_pages_free(q->arena, slots, CLUSTER_PAGES);
		cache_free(sw->clusters, cl);
	}
	for (u32 i = 0; i < DIR_ROOT; i++) {
		void *leaf = aptr_read(&sw->dir[i]);

		if (leaf)
			arena_pages_free(q->arena, leaf, 1);
	}
}

struct cluster *slot_cluster(struct swap *sw, u64 slot)
{
	u64 n = slot >> CLUSTER_SHIFT;
	aptr_t *leaf;

	if (n / DIR_LEAF >= DIR_ROOT)
		return NULL;
	leaf = aptr_read_acquire(&sw->dir[n / DIR_LEAF]);
	return leaf ? aptr_read_acquire(&leaf[n % DIR_LEAF]) : NULL;
}

/* ---- lists of clusters; LOCKING: SWAP_DEVICE ---- */

static enum cluster_list list_for(u32 nr_used)
{
	if (nr_used == 0)
		return CL_EMPTY;
	if (nr_used <= CLUSTER_SLOTS / 2)
		return CL_ROOMY;
	return nr_used < CLUSTER_SLOTS ? CL_SCARCE : CL_FULL;
}

static void list_take(struct swap *sw, struct cluster *cl)
{
	list_del_init(&cl->link);
	sw->nr_on[cl->on]--;
	cl->on = CL_NONE;
}

static void list_put(struct swap *sw, struct cluster *cl, enum cluster_list on)
{
	cl->on = (u8)on;
	sw->nr_on[on]++;
	if (on == CL_EMPTY)
		list_add(&cl->link, &sw->list[on]);
	else
		list_add_tail(&cl->link, &sw->list[on]);
}

/*
 * Where a cluster that nobody owns belongs by its use. Whoever changes nr_used across a border of
 * the lists calls this afterwards, under the cluster lock; the owner who lets go calls it too.
 * Since nr_used is written before SWAP_DEVICE is taken, the later of the two sees the final value.
 */
static void cluster_place(struct swap *sw, struct cluster *cl)
{
	enum cluster_list on = list_for(a32_read(&cl->nr_used));

	lock_assert_held(&sw->lock);
	if (cl->owned || cl->dying || cl->on == on)
		return;
	if (cl->on != CL_NONE)
		list_take(sw, cl);
	list_put(sw, cl, on);
}

/* A grace period has passed: no lock-free lookup reads the array any more. */
static void array_free_rcu(struct quire *q, struct rcu_head *head)
{
	struct cluster *cl = container_of(head, struct cluster, rcu);
	struct swap *sw = q->swap;
	struct slot *slots;

	spin_lock(&sw->lock);
	slots = cl->dying;
	cl->dying = NULL;
	sw->nr_arrays--;
	list_put(sw, cl, CL_BARE);
	spin_unlock(&sw->lock);
	a64_sub(&sw->table_bytes, CLUSTER_PAGES * PAGE_SIZE);
	arena_pages_free(q->arena, slots, CLUSTER_PAGES);
}

/* An empty cluster above the number kept loses its array. LOCKING: cluster lock, SWAP_DEVICE. */
static void cluster_strip(struct quire *q, struct cluster *cl)
{
	struct swap *sw = q->swap;

	lock_assert_held(&cl->lock);
	if (cl->on != CL_EMPTY || sw->nr_on[CL_EMPTY] <= KEEP_EMPTY)
		return;
	list_take(sw, cl);
	cl->dying = aptr_read(&cl->slots);
	aptr_set_release(&cl->slots, NULL);
	qrcu_call(q, &cl->rcu, array_free_rcu);
}

static int cluster_fill(struct quire *q, struct cluster *cl)
{
	struct slot *slots = arena_pages(q->arena, CLUSTER_PAGES);

	if (!slots)
		return -ENOMEM;
	aptr_set_release(&cl->slots, slots);
	q->swap->nr_arrays++;
	a64_add(&q->swap->table_bytes, CLUSTER_PAGES * PAGE_SIZE);
	return 0;
}

/* A cluster with a new number, in the directory. */
static struct cluster *cluster_new(struct quire *q)
{
	struct swap *sw = q->swap;
	u32 n = sw->nr_clusters + 1;
	aptr_t *leaf;
	struct cluster *cl;

	lock_assert_held(&sw->lock);
	if (n / DIR_LEAF >= DIR_ROOT)
		return NULL;
	leaf = aptr_read(&sw->dir[n / DIR_LEAF]);
	if (!leaf) {
		leaf = arena_pages(q->arena, 1);
		if (!leaf)
			return NULL;
		a64_add(&sw->table_bytes, PAGE_SIZE);
		aptr_set_release(&sw->dir[n / DIR_LEAF], leaf);
	}
	cl = cache_zalloc(sw->clusters);
	if (!cl)
		return NULL;
	spin_init(&cl->lock, LOCK_SWAP_CLUSTER);
	list_init(&cl->link);
	cl->nr = n;
	cl->on = CL_NONE;
	if (cluster_fill(q, cl)) {
		cache_free(sw->clusters, cl);
		return NULL;
	}
	sw->nr_clusters = n;
	a64_add(&sw->table_bytes, sizeof(struct cluster));
	aptr_set_release(&leaf[n % DIR_LEAF], cl);
	return cl;
}

/* Is so much of the table in use that it may grow before scarce clusters are filled up? */
static bool may_grow(struct swap *sw)
{
	u64 slots = (u64)sw->nr_arrays * CLUSTER_SLOTS;

	return a64_read(&sw->used) + GROW_SLACK * CLUSTER_SLOTS >= slots - slots / 4;
}

/* The next cluster to allocate from; `whole`: only one that has a run of any order. */
static struct cluster *cluster_pick(struct quire *q, bool whole)
{
	struct swap *sw = q->swap;
	struct cluster *cl = NULL;
	bool grow = whole || may_grow(sw);

	lock_assert_held(&sw->lock);
	if (sw->nr_on[CL_EMPTY])
		cl = list_first(&sw->list[CL_EMPTY], struct cluster, link);
	else if (!whole && sw->nr_on[CL_ROOMY])
		cl = list_first(&sw->list[CL_ROOMY], struct cluster, link);
	if (!cl && grow && sw->nr_on[CL_BARE]) {
		cl = list_first(&sw->list[CL_BARE], struct cluster, link);
		if (cluster_fill(q, cl))
			cl = NULL;
	}
	if (!cl && grow && !sw->nr_on[CL_BARE])
		cl = cluster_new(q);
	if (!cl && !whole && sw->nr_on[CL_SCARCE])
		cl = list_first(&sw->list[CL_SCARCE], struct cluster, link);
	if (!cl)
		return NULL;
	if (cl->on != CL_NONE)
		list_take(sw, cl);
	cl->owned = true;
	a32_set(&cl->next, 0);
	return cl;
}

/* This CPU goes on from cluster `old` (0: none) to another. 0 or -ENOMEM. */
static int cpu_refill(struct quire *q, struct swap_cpu *cpu, u32 old, bool whole)
{
	struct swap *sw = q->swap;
	struct cluster *cl = NULL;
	int err = 0;

	spin_lock(&sw->lock);
	if (a32_read(&cpu->cluster) != old) { /* somebody else on this CPU has done it */
		spin_unlock(&sw->lock);
		return 0;
	}
	if (old) {
		cl = slot_cluster(sw, (u64)old << CLUSTER_SHIFT);
		cl->owned = false;
		cluster_place(sw, cl);
		a32_set(&cpu->cluster, 0);
	}
	cl = cluster_pick(q, whole);
	if (cl)
		a32_set(&cpu->cluster, cl->nr);
	else
		err = -ENOMEM;
	spin_unlock(&sw->lock);
	return err;
}

/* ---- slots; LOCKING: cluster lock ---- */

static bool run_is_free(const struct cluster *cl, u32 at, u32 nr)
{
	for (u32 i = at; i < at + nr; i++)
		if (cl->used[i / 64] & BIT(i % 64))
			return false;
	return true;
}

/* First free slot from `from` on, or CLUSTER_SLOTS. */
static u32 first_free(const struct cluster *cl, u32 from)
{
	while (from < CLUSTER_SLOTS) {
		u64 free = ~cl->used[from / 64] >> (from % 64);

		if (free)
			return from + (u32)__builtin_ctzll(free);
		from = (from & ~63u) + 64;
	}
	return CLUSTER_SLOTS;
}

/* Offset of a run of nr free slots at or above `from`, at multiples of `align`; CLUSTER_SLOTS:
 * none. */
static u32 find_run(const struct cluster *cl, u32 from, u32 nr, u32 align)
{
	for (;;) {
		from = ALIGN_UP(first_free(cl, from), align);
		if (from + nr > CLUSTER_SLOTS)
			return CLUSTER_SLOTS;
		if (run_is_free(cl, from, nr))
			return from;
		from += align;
	}
}

static u32 cluster_find(struct cluster *cl, u32 nr, bool last)
{
	u32 at = find_run(cl, a32_read(&cl->next), nr, nr);

	/* Going round would break the order of neighbours: another cluster is better, if there is
	 * one. */
	if (at == CLUSTER_SLOTS && (last || nr > 1))
		at = find_run(cl, 0, nr, nr);
	if (at == CLUSTER_SLOTS && last && nr > 1)
		at = find_run(cl, 0, nr, 1);
	return at;
}

static void cluster_mark(struct swap *sw, struct cluster *cl, u32 at, u32 nr)
{
	u32 used = a32_read(&cl->nr_used) + nr;

	for (u32 i = at; i < at + nr; i++)
		cl->used[i / 64] |= BIT(i % 64);
	a32_set(&cl->next, at + nr);
	a32_set(&cl->nr_used, used);
	a64_add(&sw->used, nr);
	if (list_for(used - nr) == list_for(used))
		return;
	/* An owner's cluster stays off the lists; but it may have been let go between pick and
	 * lock. */
	spin_lock(&sw->lock);
	cluster_place(sw, cl);
	spin_unlock(&sw->lock);
}

/* Try this CPU's cluster. NULL: no room in it; *tried is its number (0: it had none). */
static struct cluster *alloc_here(struct swap *sw, struct swap_cpu *cpu, u32 nr, bool last,
				  u64 *first, u32 *tried)
{
	struct cluster *cl;
	u32 at = CLUSTER_SLOTS;

	*tried = a32_read(&cpu->cluster);
	if (!*tried)
		return NULL;
	cl = slot_cluster(sw, (u64)*tried << CLUSTER_SHIFT);
	spin_lock(&cl->lock);
	/* It may have been let go, emptied and stripped since the number was read. */
	if (aptr_read(&cl->slots))
		at = cluster_find(cl, nr, last);
	if (at == CLUSTER_SLOTS) {
		spin_unlock(&cl->lock);
		return NULL;
	}
	cluster_mark(sw, cl, at, nr);
	*first = ((u64)cl->nr << CLUSTER_SHIFT) + at;
	return cl;
}

/*
 * Order of preference: on from the last allocation in this CPU's cluster; the next cluster (empty,
 * at most half used, new, scarce); a large folio goes to an empty one at the second attempt. When
 * there is no other, any hole of the present one.
 */
struct cluster *slots_alloc(struct quire *q, u32 nr, u64 *first)
{
	struct swap *sw = q->swap;
	struct swap_cpu *cpu = &sw->cpu[base_cpu()];
	struct cluster *cl;
	u32 tried;

	DEBUG_ON(nr > CLUSTER_SLOTS || (nr & (nr - 1)));
	for (u32 attempt = 0;; attempt++) {
		cl = alloc_here(sw, cpu, nr, false, first, &tried);
		if (cl)
			return cl;
		if (cpu_refill(q, cpu, tried, nr > 1 && attempt >= 1))
			break;
	}
	/* No memory for another cluster: the holes of those that there are. */
	for (u32 n = 1;; n++) {
		spin_lock(&sw->lock);
		if (n > sw->nr_clusters)
			n = 0;
		spin_unlock(&sw->lock);
		if (!n)
			return NULL;
		cl = slot_cluster(sw, (u64)n << CLUSTER_SHIFT);
		if (a32_read(&cl->nr_used) + nr > CLUSTER_SLOTS)
			continue;
		spin_lock(&cl->lock);
		if (aptr_read(&cl->slots)) {
			u32 at = cluster_find(cl, nr, true);

			if (at < CLUSTER_SLOTS) {
				cluster_mark(sw, cl, at, nr);
				*first = ((u64)n << CLUSTER_SHIFT) + at;
				return cl;
			}
		}
		spin_unlock(&cl->lock);
	}
}

struct slot *slot_used(struct cluster *cl, u64 slot)
{
	struct slot *slots = aptr_read(&cl->slots);
	u32 off = slot_offset(slot);

	lock_assert_held(&cl->lock);
	if (!slots || !(cl->used[off / 64] & BIT(off % 64)))
		return NULL;
	return slots + off;
}

/* Any reader that pinned the slot has gone, since what pinned it is gone. */
void slot_release(struct swap *sw, struct cluster *cl, u64 slot, struct slot_copy *copy)
{
	struct slot *s = slot_used(cl, slot);
	u32 off = slot_offset(slot);

	BUG_ON(!s || state_count(a32_read(&s->state)) || word_folio(aptr_read(&s->folio)));
	copy->kind = state_kind(a32_read(&s->state));
	copy->data = s->data;
	if (unlikely(a32_read(&s->state) & STATE_META))
		sw->meta->drop(sw->meta_ctx, slot);
	aptr_set(&s->folio, NULL);
	s->data = 0;
	s->sum = 0;
	a32_set(&s->state, 0);
	cl->used[off / 64] &= ~BIT(off % 64);
}

void slots_released(struct quire *q, struct cluster *cl, u32 nr)
{
	struct swap *sw = q->swap;
	u32 used = a32_read(&cl->nr_used) - nr;

	lock_assert_held(&cl->lock);
	if (!nr)
		return;
	a32_set(&cl->nr_used, used);
	a64_sub(&sw->used, nr);
	if (list_for(used + nr) == list_for(used))
		return;
	spin_lock(&sw->lock);
	cluster_place(sw, cl);
	cluster_strip(q, cl);
	spin_unlock(&sw->lock);
}
