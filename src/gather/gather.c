/*
 * gather.c - batches of pages and tables between being unhooked and being freed. See gather.h for
 * the order.
 */
#include "base/arena.h"
#include "base/mech.h"
#include "base/trace.h"
#include "gather/gather.h"

#define SLOT_DELAY_RMAP 1ull
#define SLOT_NR_NEXT    2ull
#define SLOT_FLAGS      3ull
#define FREE_STEP       512u
#define FREE_FOLIOS     128u

/* One page of slots. The bundle inside struct gather has the same head, so that both are filled
 * alike. */
struct gather_batch {
	struct gather_batch *next;
	u32 nr, max;
	u64 slot[GATHER_BATCH_SLOTS];
};
_Static_assert(offsetof(struct gather_batch, slot) == 16, "a batch of 510 slots is one page");
_Static_assert(sizeof(struct gather_batch) == PAGE_SIZE, "a batch of 510 slots is one page");
_Static_assert(offsetof(struct gather, bundle.slot) - offsetof(struct gather, bundle) == 16,
	       "the bundle is a short batch");

static u64 encode(struct folio *page, u64 flags)
{
	return (u64)(uintptr_t)page | flags;
}

static struct folio *decode(u64 slot)
{
	return (struct folio *)(uintptr_t)(slot & ~SLOT_FLAGS);
}

static struct gather_batch *bundle_of(struct gather *g)
{
	return (struct gather_batch *)&g->bundle;
}

static void range_reset(struct gather *g)
{
	g->start = ~0ull;
	g->end = 0;
	g->pmd_level = false;
	g->tables_freed = false;
	g->need_flush = false;
}

/* Machines whose flushes come after the entry lock has been dropped. */
static bool flushes_late(struct quire *q)
{
	return !machine_has(q->machine, CAP_FLUSH_UNDER_LOCK);
}

int gather_create(struct quire *q)
{
	(void)q;
	return 0;
}

void gather_begin(struct quire *q, struct gather *g, struct rmap_space *rs, bool fullmm)
{
	*g = (struct gather){ .q = q, .fullmm = fullmm, .strength = FLUSH_NO_ACCESS };
	g->bundle.max = GATHER_BUNDLE;
	g->active = bundle_of(g);
	list_init(&g->tables);
	if (rs)
		gather_enter(g, rs);
	else
		range_reset(g);
}

void gather_enter(struct gather *g, struct rmap_space *rs)
{
	DEBUG_ON(g->rs);
	g->rs = rs;
	range_reset(g);
	if (flushes_late(g->q))
		a32_fetch_add(&rs->gathers, 1);
}

/*
 * Another gather of the space may have cleared entries that this one then found empty, and not have
 * flushed them yet; the caller's call must not return before nobody reaches them (Linux 99baac21).
 *
 *   T1: madvise(DONTNEED)          T2: madvise(DONTNEED)            T2's CPU
 *   one more gather                one more gather                  has it cached
 *   entry lock: clear the entry
 *                                  entry lock: nothing there
 *                                  (other gathers? flush all)
 *                                  return: "it reads as zero"       reads through it
 *   flush; one gather less
 *
 * T1 counts itself before it clears and until it has flushed, so T2 sees either its count or its
 * flush done.
 */
static void flush_for_others(struct gather *g)
{
	struct tlb_range all = { .start = 0, .end = TLB_ALL_END, .strength = FLUSH_NO_ACCESS };

	if (!g->rs || !flushes_late(g->q))
		return;
	if (a32_sub_return(&g->rs->gathers, 1) && mech_on(g->q, MECH_FLUSH_NESTED))
		tlb_flush_range(&g->rs->tlb, all);
}

void gather_note_range(struct gather *g, u64 va, u64 size)
{
	g->start = min(g->start, va);
	g->end = max(g->end, va + size);
	g->need_flush = true;
}

/*
 * Room for a pair? Makes the next batch the active one if not. While delayed removals are pending
 * no further batch is entered, not even one that is left over from an earlier round: they may only
 * be in the active batch and the bundle, which is where the removal looks for them.
 */
static bool next_batch(struct gather *g)
{
	struct gather_batch *b;

	if (g->delayed_rmap && g->active != bundle_of(g))
		return false;
	if (g->active->next) {
		g->active = g->active->next;
		return true;
	}
	if (g->nr_batches == GATHER_MAX_BATCHES)
		return false;
	b = arena_pages(g->q->arena, 1);
	if (!b)
		return false;
	b->next = NULL;
	b->nr = 0;
	b->max = GATHER_BATCH_SLOTS;
	g->nr_batches++;
	g->active->next = b;
	g->active = b;
	return true;
}

bool gather_folio_pages(struct gather *g, struct folio *page, u32 nr, bool delay_rmap)
{
	struct gather_batch *b = g->active;
	u64 flags = delay_rmap ? SLOT_DELAY_RMAP : 0;

	/* The check below leaves room for a pair, always. */
	BUG_ON(b->nr + 2 > b->max);
	if (delay_rmap)
		g->delayed_rmap = true;
	if (nr == 1) {
		b->slot[b->nr++] = encode(page, flags);
	} else {
		b->slot[b->nr++] = encode(page, flags | SLOT_NR_NEXT);
		b->slot[b->nr++] = nr;
	}
	if (b->nr + 2 <= b->max)
		return false;
	return !next_batch(g);
}

void gather_table(struct gather *g, struct ptdesc *desc)
{
	list_add_tail(&desc->gather, &g->tables);
	g->nr_tables++;
	g->tables_freed = true;
	gather_note_range(g, desc->va, PAGE_SIZE);
}

static void invalidate(struct gather *g)
{
	struct tlb_range r = {
		.start = g->start,
		.end = g->end,
		.strength = g->strength,
		.pmd_level = g->pmd_level,
		.tables_freed = g->tables_freed,
	};

	if (!g->need_flush)
		return;
	if (g->fullmm && !machine_has(g->q->machine, CAP_FLUSH_UNDER_LOCK)) {
		r.start = 0;
		r.end = ~0ull;
	}
	if (mech_on(g->q, MECH_FLUSH_BEFORE_FREE))
		tlb_flush_range(&g->rs->tlb, r);
	range_reset(g);
}

static void remove_delayed(struct gather *g, struct gather_batch *b)
{
	for (u32 i = 0; i < b->nr; i++) {
		u64 s = b->slot[i];
		u32 nr = s & SLOT_NR_NEXT ? (u32)b->slot[++i] : 1;
		struct folio *page = decode(s), *f;

		if (!(s & SLOT_DELAY_RMAP))
			continue;
		f = folio_head(page);
		folio_remove_rmap_ptes(g->q, f, (u32)(page - f), nr);
		b->slot[nr > 1 ? i - 1 : i] &= ~SLOT_DELAY_RMAP;
	}
}

void gather_flush_before_unlock(struct gather *g)
{
	if (!g->delayed_rmap && !machine_has(g->q->machine, CAP_FLUSH_UNDER_LOCK))
		return;
	invalidate(g);
	if (!g->delayed_rmap)
		return;
	remove_delayed(g, bundle_of(g));
	if (g->active != bundle_of(g))
		remove_delayed(g, g->active);
	g->delayed_rmap = false;
}

void gather_leave(struct gather *g)
{
	DEBUG_ON(g->delayed_rmap);
	invalidate(g);
	flush_for_others(g);
	g->rs = NULL;
}

/* Free in steps, so that no lock inside is held over thousands of pages; a pair is never taken
 * apart. */
static void free_batch(struct gather *g, struct gather_batch *b)
{
	/* Small: this may run on a signal stack. */
	struct folio *folio[FREE_FOLIOS];
	u32 refs[FREE_FOLIOS], n = 0, pages = 0;

	for (u32 i = 0; i < b->nr; i++) {
		u64 s = b->slot[i];
		u32 nr = s & SLOT_NR_NEXT ? (u32)b->slot[++i] : 1;

		folio[n] = folio_head(decode(s));
		rmap_drop_unused_copy(g->q, folio[n]);
		refs[n++] = nr;
		pages += nr;
		if (pages >= FREE_STEP || n == FREE_FOLIOS) {
			folios_put_refs(g->q, folio, refs, n);
			n = pages = 0;
		}
	}
	if (n)
		folios_put_refs(g->q, folio, refs, n);
	b->nr = 0;
}

void gather_flush(struct gather *g)
{
	DEBUG_ON(g->delayed_rmap);
	invalidate(g);
	free_batch(g, bundle_of(g));
	for (struct gather_batch *b = bundle_of(g)->next; b; b = b->next)
		free_batch(g, b);
	g->active = bundle_of(g);
	list_for_each_safe(pos, tmp, &g->tables) {
		list_del(pos);
		pt_free_table_rcu(g->q, list_entry(pos, struct ptdesc, gather));
	}
	g->nr_tables = 0;
}

void gather_end(struct gather *g)
{
	struct gather_batch *next;

	gather_flush(g);
	flush_for_others(g);
	for (struct gather_batch *b = bundle_of(g)->next; b; b = next) {
		next = b->next;
		arena_pages_free(g->q->arena, b, 1);
	}
	g->bundle.next = NULL;
	g->nr_batches = 0;
}

u64 gather_pending(const struct gather *g, u64 *slots)
{
	const struct gather_batch *b = (const struct gather_batch *)&g->bundle;
	u64 pages = 0, n = 0;

	for (; b; b = b->next)
		for (u32 i = 0; i < b->nr; i++) {
			n++;
			if (b->slot[i] & SLOT_NR_NEXT) {
				pages += b->slot[++i];
				n++;
			} else {
				pages++;
			}
		}
	if (slots)
		*slots = n;
	return pages;
}
