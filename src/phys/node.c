/* Nodes: the count of frames in use, the buddy lists, the CPU slots' lists of single free frames.
 */
#include "phys/phys_internal.h"

/* ---- capacity ---- */

/* Count what the CPU slots hold as not taken. LOCKING: n->lock. */
static void credits_collect(struct phys *p, unsigned node)
{
	u64 sum = 0;

	for (u32 i = 0; i < MAX_CPUS; i++)
		if (a64_read(&p->cpu[i].credit[node]))
			sum += a64_xchg(&p->cpu[i].credit[node], 0);
	a64_set(&p->node[node].taken, a64_read(&p->node[node].taken) - sum);
}

static u64 node_room(const struct node *n)
{
	return a64_read(&n->capacity) - a64_read(&n->taken);
}

/* Nothing can hide from it: `taken` moves only under the lock, and credits only grow behind our
 * back by frames that were freed after we came. */
static __attribute__((noinline)) u32 node_take_slow(struct phys *p, unsigned node, u32 nr,
						    bool some)
{
	struct node *n = &p->node[node];
	u32 extra = 0;

	spin_lock(&n->lock);
	if (node_room(n) < nr)
		credits_collect(p, node);
	if (node_room(n) < nr)
		nr = some ? (u32)node_room(n) : 0;
	else if (node_room(n) - nr >= CREDIT_BATCH)
		extra = CREDIT_BATCH;
	if (nr) {
		a64_set(&n->taken, a64_read(&n->taken) + nr + extra);
		if (extra)
			a64_add(&p->cpu[base_cpu()].credit[node], extra);
	}
	spin_unlock(&n->lock);
	return nr;
}

static inline bool credit_use(struct phys *p, unsigned node, u32 nr)
{
	a64_t *credit = &p->cpu[base_cpu()].credit[node];
	u64 c = a64_read(credit);

	while (c >= nr)
		if (a64_cmpxchg(credit, &c, c - nr))
			return true;
	return false;
}

bool node_take(struct quire *q, unsigned node, u32 nr)
{
	return credit_use(q->phys, node, nr) || node_take_slow(q->phys, node, nr, false);
}

u32 node_take_some(struct quire *q, unsigned node, u32 nr)
{
	return credit_use(q->phys, node, nr) ? nr : node_take_slow(q->phys, node, nr, true);
}

void node_give(struct quire *q, unsigned node, u32 nr)
{
	struct phys *p = q->phys;
	struct node *n = &p->node[node];
	a64_t *credit = &p->cpu[base_cpu()].credit[node];
	u64 c = a64_add_return(credit, nr);

	if (likely(c <= CREDIT_HIGH))
		return;
	spin_lock(&n->lock);
	c = a64_xchg(credit, 0);
	if (c > CREDIT_BATCH) {
		a64_set(&n->taken, a64_read(&n->taken) - (c - CREDIT_BATCH));
		c = CREDIT_BATCH;
	}
	a64_add(credit, c);
	spin_unlock(&n->lock);
}

u64 phys_used(struct quire *q, unsigned node)
{
	struct phys *p = q->phys;
	u64 used = a64_read(&p->node[node].taken);

	for (u32 i = 0; i < MAX_CPUS; i++) {
		u64 c = a64_read(&p->cpu[i].credit[node]);

		used -= min(c, used); /* not a snapshot: never below 0 all the same */
	}
	return used;
}

u64 phys_capacity(struct quire *q, unsigned node)
{
	return a64_read(&q->phys->node[node].capacity);
}

u64 phys_size(struct quire *q, unsigned node)
{
	return min(q->phys->node[node].size, phys_capacity(q, node));
}

u64 phys_room(struct quire *q, unsigned node)
{
	u64 size = phys_size(q, node), used = phys_used(q, node);

	return size > used ? size - used : 0;
}

unsigned phys_tier(struct quire *q, unsigned node)
{
	return q->phys->node[node].tier;
}

bool phys_direct(struct quire *q, unsigned node)
{
	return q->phys->node[node].direct;
}

bool phys_tiered(struct quire *q)
{
	return q->phys->tiered;
}

unsigned phys_fallback(struct quire *q, unsigned node, unsigned at)
{
	return q->phys->node[node].fallback[at];
}

bool phys_take_room(struct quire *q, unsigned node, u32 nr)
{
	return !inject_fail(q->inject, INJECT_FRAME) && node_take(q, node, nr);
}

void phys_give_room(struct quire *q, unsigned node, u32 nr)
{
	node_give(q, node, nr);
}

void folio_change_node(struct quire *q, struct folio *f, unsigned node)
{
	unsigned old = folio_node(f);

	DEBUG_ON(folio_test(f, PG_LRU) || !frame_is_home(q->machine, record_pfn(f)));
	a8_set(&f->node, (u8)node);
	node_give(q, old, folio_nr(f));
}

u32 phys_nr_nodes(struct quire *q)
{
	return q->phys->nr_nodes;
}

/* ---- buddy lists. LOCKING: n->lock ---- */

static void buddy_link(struct node *n, struct folio *f, u64 pfn, unsigned order)
{
	record_set_state(f, pfn, FRAME_BUDDY, order);
	list_add(&f->lru, &n->free[order]);
	n->nr_free[order]++;
}

void buddy_unlink(struct node *n, struct folio *f, u64 pfn, unsigned order)
{
	record_set_state(f, pfn, FRAME_FREE, 0);
	list_del(&f->lru);
	n->nr_free[order]--;
}

void buddy_put_locked(struct phys *p, struct node *n, struct folio *f, u64 pfn, unsigned order)
{
	if (unlikely(n->nr_out) && block_capture(n, block_find(p, pfn), pfn, order))
		return;
	while (order < MAX_FOLIO_ORDER) {
		u64 other_pfn = pfn ^ BIT(order);
		struct folio *other = other_pfn > pfn ? f + BIT(order) : f - BIT(order);
		u64 flags = a64_read(&other->flags);

		/* Only under our lock does a record get or lose this state, so one read decides. */
		if (flags_state(flags) != FRAME_BUDDY || flags_order(flags) != order)
			break;
		buddy_unlink(n, other, other_pfn, order);
		if (other_pfn < pfn) {
			record_set_state(f, pfn, FRAME_FREE, 0);
			f = other;
			pfn = other_pfn;
		}
		order++;
	}
	buddy_link(n, f, pfn, order);
}

static struct folio *buddy_get_locked(struct node *n, unsigned order)
{
	unsigned have = order;
	struct folio *f;
	u64 pfn;

	while (have <= MAX_FOLIO_ORDER && list_empty(&n->free[have]))
		have++;
	if (have > MAX_FOLIO_ORDER)
		return NULL;
	f = list_first(&n->free[have], struct folio, lru);
	pfn = record_pfn(f);
	buddy_unlink(n, f, pfn, have);
	while (have > order) {
		have--;
		buddy_link(n, f + BIT(have), pfn + BIT(have), have);
	}
	return f;
}

void buddy_put(struct quire *q, unsigned node, struct folio *f, u64 pfn, unsigned order)
{
	struct node *n = &q->phys->node[node];

	spin_lock(&n->lock);
	buddy_put_locked(q->phys, n, f, pfn, order);
	spin_unlock(&n->lock);
}

/* One more block of numbers for the buddy lists. False: the span is used up, or no memory. */
static bool node_grow(struct quire *q, unsigned node)
{
	struct node *n = &q->phys->node[node];
	u64 next = a64_read(&n->next_block);
	u64 pfn = (n->base_block + next) << BLOCK_SHIFT;
	struct block *b;

	if (next >= n->nr_blocks)
		return false;
	/* The map's mutex cannot be had under the node lock, so the block is made first; two
	 * threads may make the same one (the second finds it), only one of them adds it. */
	b = block_create(q, pfn, node, BLOCK_BUDDY);
	if (!b)
		return false;
	spin_lock(&n->lock);
	if (a64_read(&n->next_block) == next) {
		a64_set(&n->next_block, next + 1);
		if (block_in_service(b))
			buddy_link(n, b->rec, pfn, MAX_FOLIO_ORDER);
	}
	spin_unlock(&n->lock);
	return true;
}

/* ---- CPU slots ---- */

/* LOCKING: cpu->lock. Takes the node lock. */
static void pcp_refill(struct node *n, struct phys_cpu *cpu, unsigned node)
{
	spin_lock(&n->lock);
	for (u32 i = 0; i < PCP_BATCH; i++) {
		struct folio *f = buddy_get_locked(n, 0);

		if (!f)
			break;
		record_set_state(f, record_pfn(f), FRAME_PCP, 0);
		list_add_tail(&f->lru, &cpu->pcp[node].list);
		cpu->pcp[node].count++;
	}
	spin_unlock(&n->lock);
}

/* Gives the frames freed longest ago back. LOCKING: cpu->lock. Takes the node lock. */
static void pcp_shrink(struct phys *p, struct phys_cpu *cpu, unsigned node, u32 nr)
{
	struct node *n = &p->node[node];

	spin_lock(&n->lock);
	while (nr-- && cpu->pcp[node].count) {
		struct folio *f = list_last(&cpu->pcp[node].list, struct folio, lru);

		list_del(&f->lru);
		cpu->pcp[node].count--;
		buddy_put_locked(p, n, f, record_pfn(f), 0);
	}
	spin_unlock(&n->lock);
}

static struct folio *pcp_get(struct phys *p, unsigned node)
{
	struct phys_cpu *cpu = &p->cpu[base_cpu()];
	struct folio *f = NULL;

	spin_lock(&cpu->lock);
	if (!cpu->pcp[node].count)
		pcp_refill(&p->node[node], cpu, node);
	if (cpu->pcp[node].count) {
		f = list_first(&cpu->pcp[node].list, struct folio, lru);
		list_del(&f->lru);
		cpu->pcp[node].count--;
		record_set_state(f, record_pfn(f), FRAME_FREE, 0);
	}
	spin_unlock(&cpu->lock);
	return f;
}

/* Who takes a block out of service says so first, and then drains every list under its lock: so
 * either the drain finds what is put here, or we find what it said. */
bool pcp_put(struct quire *q, const struct block *b, struct folio *const *f, u32 n)
{
	struct phys *p = q->phys;
	struct phys_cpu *cpu = &p->cpu[base_cpu()];
	unsigned node = b->node;

	spin_lock(&cpu->lock);
	if (unlikely(!block_in_service(b)) && mech_on(q, MECH_OFFLINE_CPU_LISTS)) {
		spin_unlock(&cpu->lock);
		return false;
	}
	for (u32 i = 0; i < n; i++) {
		record_set_state(f[i], record_pfn(f[i]), FRAME_PCP, 0);
		list_add(&f[i]->lru, &cpu->pcp[node].list);
	}
	cpu->pcp[node].count += n;
	if (cpu->pcp[node].count > PCP_HIGH)
		pcp_shrink(p, cpu, node, cpu->pcp[node].count - PCP_HIGH + PCP_BATCH);
	spin_unlock(&cpu->lock);
	return true;
}

void pcp_drain_all(struct phys *p, unsigned node)
{
	for (u32 i = 0; i < MAX_CPUS; i++) {
		struct phys_cpu *cpu = &p->cpu[i];

		spin_lock(&cpu->lock);
		if (cpu->pcp[node].count)
			pcp_shrink(p, cpu, node, cpu->pcp[node].count);
		spin_unlock(&cpu->lock);
	}
}

static struct folio *node_try_get(struct phys *p, unsigned node, unsigned order)
{
	struct node *n = &p->node[node];
	struct folio *f;

	if (!order)
		return pcp_get(p, node);
	spin_lock(&n->lock);
	f = buddy_get_locked(n, order);
	spin_unlock(&n->lock);
	return f;
}

struct folio *node_get_frames(struct quire *q, unsigned node, unsigned order)
{
	struct folio *f;

	/* Each round either gets frames or uses up one block of numbers, mine or another thread's.
	 */
	do {
		f = node_try_get(q->phys, node, order);
		if (f)
			return f;
	} while (node_grow(q, node));
	pcp_drain_all(q->phys, node);
	return node_try_get(q->phys, node, order);
}

/* ---- creation ---- */

static int node_init(struct quire *q, unsigned i, const struct phys_config *cfg)
{
	struct node *n = &q->phys->node[i];
	u64 base = cfg->node[i].base_pfn, span = cfg->node[i].span;

	spin_init(&n->lock, LOCK_NODE);
	for (unsigned o = 0; o <= MAX_FOLIO_ORDER; o++)
		list_init(&n->free[o]);
	phys_lru_init(&n->lru);
	a64_init(&n->capacity, cfg->node[i].capacity);
	n->size = cfg->node[i].size ? cfg->node[i].size : cfg->node[i].capacity;
	n->tier = cfg->node[i].tier;
	n->direct = cfg->node[i].direct;
	n->base_block = base >> BLOCK_SHIFT;
	n->nr_blocks = span >> BLOCK_SHIFT;
	if (!span)
		return q->phys->has_home ? 0 : -EINVAL;
	if (!IS_ALIGNED(base, BLOCK_FRAMES) || span < BLOCK_FRAMES || base + span > MAX_PFN ||
	    base + span < base)
		return -EINVAL;
	for (unsigned j = 0; j < i; j++) {
		struct range a = { cfg->node[j].base_pfn,
				   cfg->node[j].base_pfn + cfg->node[j].span };

		if (cfg->node[j].span && range_overlaps(a, (struct range){ base, base + span }))
			return -EINVAL;
	}
	return 0;
}

/* How far away a node is that is to stand in for another one: peers, then slower ones. */
static u32 distance(const struct phys *p, unsigned from, unsigned to)
{
	u32 a = p->node[from].tier, b = p->node[to].tier;

	if (from == to)
		return 0;
	if (b >= a)
		return 1 + (b - a);
	return BIT(16) + (a - b);
}

static void rank_nodes(struct phys *p)
{
	for (unsigned i = 0; i < p->nr_nodes; i++) {
		u8 *order = p->node[i].fallback;

		p->tiered |= p->node[i].tier != p->node[0].tier;
		for (unsigned n = 0; n < p->nr_nodes; n++) {
			unsigned at = n;

			for (; at && distance(p, i, order[at - 1]) > distance(p, i, n); at--)
				order[at] = order[at - 1];
			order[at] = (u8)n;
		}
	}
}

static void phys_free_parts(struct quire *q)
{
	struct phys *p = q->phys;

	if (p->cpu)
		arena_free(q->arena, p->cpu, MAX_CPUS * sizeof(*p->cpu));
	arena_free(q->arena, p, sizeof(*p));
	q->phys = NULL;
}

_Static_assert(MAX_NODES == MACHINE_NODES, "a node of the machine is one of ours");

int phys_create(struct quire *q, const struct phys_config *cfg)
{
	struct phys *p;
	int err = -ENOMEM;

	if (!cfg->nr_nodes || cfg->nr_nodes > MAX_NODES)
		return -EINVAL;
	p = arena_zalloc(q->arena, sizeof(*p));
	if (!p)
		return -ENOMEM;
	q->phys = p;
	p->q = q;
	p->nr_nodes = cfg->nr_nodes;
	p->has_home = machine_has(q->machine, CAP_HOME);
	mutex_init(&p->map_lock, LOCK_PHYS_MAP);
	spin_init(&p->group_lock, LOCK_CHARGE);
	p->blocks = cache_create(q->arena, "phys_block", sizeof(struct block));
	p->cpu = arena_zalloc(q->arena, MAX_CPUS * sizeof(*p->cpu));
	if (!p->blocks || !p->cpu)
		goto fail;
	for (u32 i = 0; i < MAX_CPUS; i++) {
		spin_init(&p->cpu[i].lock, LOCK_PCP);
		for (u32 n = 0; n < MAX_NODES; n++)
			list_init(&p->cpu[i].pcp[n].list);
	}
	for (unsigned i = 0; i < cfg->nr_nodes; i++) {
		err = node_init(q, i, cfg);
		if (err)
			goto fail;
	}
	rank_nodes(p);
	err = cgroups_create(q);
	if (!err)
		return 0;
fail:
	phys_free_parts(q);
	return err;
}

void phys_destroy(struct quire *q)
{
	if (!q->phys)
		return;
	lru_drain_all(q);
	cgroups_destroy(q);
	phys_map_destroy(q);
	phys_free_parts(q);
}
