/*
 * nodes.c - pages of a space move to another node.
 *
 * The pages are found and isolated under the space lock, and moved without it. What is at an
 * address afterwards is looked for again: the program may have done anything meanwhile.
 */
#include "migrate/migrate.h"
#include "migrate/movable.h"
#include "reclaim/tier.h"
#include "space/space_internal.h"

#define CHUNK 64u

/* The folio at va with a reference; NULL with *why. LOCKING: the space lock. */
static struct folio *folio_at(struct quire *q, struct space *s, u64 va, int *why)
{
	struct vma *v = vma_find(&s->fs.vmas, va);
	struct folio *f = NULL;
	struct ptdesc *desc;
	pte_t *p;
	u64 e;

	*why = v && !(vma_flags(v) & VM_FOREIGN) ? -ENOENT : -EFAULT;
	if (*why == -EFAULT)
		return NULL;
	p = pt_pte_lock(&s->fs.rs.pgt, va, &desc);
	if (!p)
		return NULL;
	e = pte_get(p);
	if (pte_present(e) && !pte_special(e)) {
		f = phys_folio(q, entry_pfn(e));
		folio_get(f);
	} else if (pte_is_migration(e)) {
		*why = -EBUSY;
	}
	pt_pte_unlock(desc);
	return f;
}

struct to_node {
	unsigned node;
	bool no_memory;
};

static struct folio *alloc_there(struct quire *q, struct folio *src, void *ctx)
{
	struct to_node *to = ctx;
	struct folio *f = migrate_target(q, src, to->node);

	/* A large one is split and tried again. */
	if (!f && !src->order)
		to->no_memory = true;
	return f;
}

static int home_there(struct quire *q, struct folio *src, void *ctx)
{
	struct to_node *to = ctx;

	if (!src->order && !phys_room(q, to->node))
		to->no_memory = true;
	return (int)to->node;
}

static const struct migrate_ops to_node_ops = { .alloc = alloc_there, .home_node = home_there };

/* Those that are elsewhere, isolated. */
static void collect(struct quire *q, struct space *s, const u64 *va, u32 n, unsigned node,
		    struct list *out)
{
	space_read_lock(&s->fs.vmas);
	for (u32 i = 0; i < n; i++) {
		int why;
		struct folio *f = folio_at(q, s, va[i], &why);

		if (!f)
			continue;
		if (folio_node(f) != node && lru_isolate(q, f))
			list_add_tail(&f->lru, out);
		folio_put(q, f);
	}
	space_read_unlock(&s->fs.vmas);
}

static void tell(struct quire *q, struct space *s, const u64 *va, u32 n, const struct to_node *to,
		 int *status)
{
	space_read_lock(&s->fs.vmas);
	for (u32 i = 0; i < n; i++) {
		struct folio *f = folio_at(q, s, va[i], &status[i]);

		if (!f)
			continue;
		status[i] = folio_node(f) == to->node ? (int)to->node :
			    to->no_memory             ? -ENOMEM :
							-EBUSY;
		folio_put(q, f);
	}
	space_read_unlock(&s->fs.vmas);
}

int space_move_to_node(struct quire *q, struct space *s, const u64 *va, u64 n, unsigned node,
		       int *status)
{
	struct to_node to = { .node = node };

	if (node >= phys_nr_nodes(q))
		return -EINVAL;
	/* Pages just faulted in are still in batches, and cannot be isolated. */
	lru_drain_all(q);
	for (u64 at = 0; at < n; at += CHUNK) {
		struct migrate_counts counts = { 0 };
		u32 len = (u32)min(n - at, (u64)CHUNK), phase;
		struct list folios;

		/* What is cold there makes room. */
		if (phys_tiered(q) && phys_room(q, node) < len)
			tier_demote(q, node, len);
		phase = reclaim_step_begin(q);
		list_init(&folios);
		to.no_memory = false;
		collect(q, s, va + at, len, node, &folios);
		/* What stays is told page by page. */
		if (!list_empty(&folios))
			(void)!migrate_folios(q, &folios, &to_node_ops, &to, MIGRATE_SYNC,
					      MIGRATE_FOR_CALL, &counts);
		migrate_putback(q, &folios);
		reclaim_step_end(q, phase);
		tell(q, s, va + at, len, &to, status + at);
	}
	qrcu_poll(q);
	return 0;
}
