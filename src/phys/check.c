/* The checker: every invariant of this folder, counted over all blocks, lists and groups. */
#include "phys/phys_internal.h"

struct check {
	struct quire *q;
	u64 broken;
	u64 live[MAX_NODES];                 /* pages of live folios */
	u64 listed[MAX_NODES][NR_LRU_LISTS]; /* pages of folios with PG_LRU, by their list bits */
	u64 buddy[MAX_NODES];                /* pages of pieces in state BUDDY */
	u64 pcp[MAX_NODES];                  /* frames in state PCP */
	u64 out[MAX_NODES];                  /* blocks out of service */
	u64 charged[MAX_CGROUPS];            /* pages of live folios charged to the group itself */
};

#define CHECK(c, cond)                                        \
	do {                                                  \
		if (unlikely(!(cond))) {                      \
			base_warn(__FILE__, __LINE__, #cond); \
			(c)->broken++;                        \
		}                                             \
	} while (0)

static bool bit_of(const u64 *map, u32 i)
{
	return map[i / 64] >> i % 64 & 1;
}

/* A live folio at record i of the block. Returns its pages. */
static u32 check_folio(struct check *c, struct block *b, u32 i)
{
	struct folio *f = &b->rec[i];
	u64 flags = a64_read(&f->flags);
	u32 nr = folio_nr(f);
	bool bitmap = a32_read(&b->kind) != BLOCK_BUDDY;
	struct cgroup *g;

	CHECK(c, flags_state(flags) == FRAME_OWNED);
	CHECK(c, f->order <= MAX_FOLIO_ORDER);
	CHECK(c, flags_order(flags) == f->order);
	CHECK(c, !(flags & PGF(TAIL)));
	CHECK(c, !(flags & PGF(HEAD)) == !f->order);
	CHECK(c, folio_node(f) == b->node || frame_is_home(c->q->machine, b->pfn));
	CHECK(c, folio_node(f) < c->q->phys->nr_nodes);
	if (f->order > MAX_FOLIO_ORDER || i % nr || i + nr > BLOCK_FRAMES) {
		CHECK(c, !"a folio is naturally aligned in its block");
		return 1;
	}
	CHECK(c, !(flags & PGF(LISTED)) || folio_type(f) || folio_is_anon(f));
	if (folio_type(f)) {
		CHECK(c, !f->order && !aptr_read(&f->mapping) && !f->index && !f->swap);
		CHECK(c, !(flags & (PGF(LRU) | PGF(SWAPCACHE) | PGF(DIRTY) | PGF(WRITEBACK))));
	}
	for (u32 t = 0; t < nr; t++) {
		struct folio *page = &f[t];

		CHECK(c, record_pfn(page) == b->pfn + i + t);
		CHECK(c, !bitmap || bit_of(b->used, i + t));
		CHECK(c, folio_head(page) == f);
		CHECK(c, !t || !a32_read(&page->ref));
	}
	c->live[folio_node(f) % MAX_NODES] += nr;
	if (flags & PGF(LRU))
		c->listed[folio_node(f) % MAX_NODES][flags_list(flags) % NR_LRU_LISTS] += nr;
	if (f->charge) {
		g = cgroup_get(c->q, f->charge);
		CHECK(c, g && g->live);
		c->charged[f->charge % MAX_CGROUPS] += nr;
	}
	return nr;
}

/* A frame that no folio has, at record i. Returns the pages that the record speaks for. */
static u32 check_free(struct check *c, struct block *b, u32 i)
{
	struct folio *f = &b->rec[i];
	u64 flags = a64_read(&f->flags);
	bool bitmap = a32_read(&b->kind) != BLOCK_BUDDY;
	u32 nr = 1;

	CHECK(c, !a32_read(&f->mapcount));
	CHECK(c, !(flags & (PGF(LRU) | PGF(TAIL) | PGF(HEAD) | PGF(LOCKED))));
	CHECK(c, !bitmap || !bit_of(b->used, i));
	switch (flags_state(flags)) {
	case FRAME_FREE:
		/* In a buddy block every free frame is in some piece or list, or out of service. */
		CHECK(c, bitmap || bit_of(b->captured, i) || bit_of(b->barred, i));
		break;
	case FRAME_BUDDY:
		CHECK(c, !bitmap);
		nr = 1u << flags_order(flags);
		CHECK(c, i % nr == 0 && i + nr <= BLOCK_FRAMES);
		c->buddy[b->node] += nr;
		for (u32 t = 1; t < nr && i + t < BLOCK_FRAMES; t++)
			CHECK(c, flags_state(a64_read(&f[t].flags)) == FRAME_FREE &&
					 !a32_read(&f[t].ref));
		break;
	case FRAME_PCP:
		CHECK(c, !bitmap);
		c->pcp[b->node]++;
		break;
	case FRAME_OWNED:
		CHECK(c, !"a folio without references was never freed");
		nr = folio_nr(f);
		break;
	}
	return nr;
}

static void check_block(void *ctx, struct block *b)
{
	struct check *c = ctx;

	CHECK(c, b->node < c->q->phys->nr_nodes);
	if (a32_read(&b->kind) == BLOCK_BUDDY && block_in_service(b) &&
	    !block_is_grown(&c->q->phys->node[b->node], b))
		return; /* made, and never added to the lists */
	c->out[b->node] += !block_in_service(b);
	for (u32 w = 0; w < BLOCK_WORDS; w++) {
		CHECK(c, !b->claimed[w]);
		CHECK(c, a32_read(&b->kind) == BLOCK_BUDDY || !(b->barred[w] & b->used[w]));
		CHECK(c, !(b->barred[w] & b->captured[w]));
		CHECK(c, !b->captured[w] || !block_in_service(b));
		CHECK(c, a32_read(&b->service) != BLOCK_OFFLINE ||
				 (b->barred[w] | b->captured[w]) == ~0ull);
	}
	for (u32 i = 0; i < BLOCK_FRAMES;) {
		struct folio *f = &b->rec[i];

		i += a32_read(&f->ref) ? check_folio(c, b, i) : check_free(c, b, i);
	}
}

static void check_lru(struct check *c, unsigned i)
{
	struct lru *lru = &c->q->phys->node[i].lru;

	spin_lock(&lru->lock);
	for (unsigned l = 0; l < NR_LRU_LISTS; l++) {
		u64 pages = 0;

		list_for_each(at, &lru->list[l]) {
			struct folio *f = list_entry(at, struct folio, lru);
			u64 flags = a64_read(&f->flags);

			CHECK(c, flags & PGF(LRU));
			CHECK(c, flags_list(flags) == l);
			CHECK(c, a32_read(&f->ref));
			CHECK(c, folio_node(f) == i);
			CHECK(c, at->next->prev == at);
			pages += folio_nr(f);
		}
		CHECK(c, pages == a64_read(&lru->pages[l]));
		CHECK(c, pages == c->listed[i][l]);
	}
	spin_unlock(&lru->lock);
}

static void check_node(struct check *c, unsigned i)
{
	struct phys *p = c->q->phys;
	struct node *n = &p->node[i];
	u64 free = 0, pcp = 0;

	CHECK(c, a64_read(&n->taken) <= a64_read(&n->capacity));
	CHECK(c, n->nr_out == c->out[i]);
	CHECK(c, phys_used(c->q, i) == c->live[i]);
	spin_lock(&n->lock);
	for (unsigned o = 0; o <= MAX_FOLIO_ORDER; o++) {
		u64 count = 0;

		list_for_each(at, &n->free[o]) {
			u64 flags = a64_read(&list_entry(at, struct folio, lru)->flags);

			CHECK(c, flags_state(flags) == FRAME_BUDDY && flags_order(flags) == o);
			count++;
		}
		CHECK(c, count == n->nr_free[o]);
		free += count << o;
	}
	spin_unlock(&n->lock);
	CHECK(c, free == c->buddy[i]);
	for (u32 cpu = 0; cpu < MAX_CPUS; cpu++) {
		u64 count = 0;

		spin_lock(&p->cpu[cpu].lock);
		list_for_each(at, &p->cpu[cpu].pcp[i].list)
			count++;
		CHECK(c, count == p->cpu[cpu].pcp[i].count);
		spin_unlock(&p->cpu[cpu].lock);
		pcp += count;
	}
	CHECK(c, pcp == c->pcp[i]);
	check_lru(c, i);
}

static void check_groups(struct check *c)
{
	/* Parents' sums from the leaves up: each group adds itself to all its ancestors. */
	for (u32 i = 1; i < MAX_CGROUPS; i++) {
		struct cgroup *g = cgroup_get(c->q, i);
		u64 sum = 0;

		if (!g || !g->live)
			continue;
		for (u32 j = 1; j < MAX_CGROUPS; j++) {
			struct cgroup *d = c->charged[j] ? cgroup_get(c->q, j) : NULL;

			while (d && d != g)
				d = d->parent;
			sum += d ? c->charged[j] : 0;
		}
		CHECK(c, a64_read(&g->usage) == sum);
		CHECK(c, a64_read(&g->peak) >= sum);
	}
}

u64 phys_check(struct quire *q)
{
	/* Not on the stack: too large for a fault handler's. */
	struct check *c = arena_zalloc(q->arena, sizeof(*c));
	u64 broken;

	if (!c) {
		base_warn(__FILE__, __LINE__, "no memory to check with");
		return 1;
	}
	c->q = q;
	block_for_each(q, check_block, c);
	for (unsigned i = 0; i < q->phys->nr_nodes; i++)
		check_node(c, i);
	check_groups(c);
	broken = c->broken;
	arena_free(q->arena, c, sizeof(*c));
	return broken;
}
