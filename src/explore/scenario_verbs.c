/*
 * scenario_verbs.c - what actors do: the calls that the product makes, and user accesses.
 *
 * Lock fidelity: the product enters the core through the gate and holds nothing else when it calls
 * these functions (lib/quire.c, run/memory.c); traps enter it by themselves. do_reclaim is one step
 * of reclaim.c (counted, so that exits wait for it) for a folio that the list walk has met: a
 * reference by try-get only, because nothing else keeps the folio, then isolation and eviction,
 * without the space lock. do_referenced looks as judge() of evict.c does, with the folio locked; it
 * is not isolated there, which the walk does not look at. do_isolate is mark_resident() of mlock.c
 * with the reference taken as a list walk takes it.
 */
#include <stdio.h>

#include "explore/scenario_env.h"
#include "reclaim/reclaim_internal.h"

typedef unsigned long long ull;

static void enter(struct env *e)
{
	gate_enter(&e->q->gate);
}

static int leave(struct env *e, int rc)
{
	gate_exit(&e->q->gate);
	return rc;
}

/* ---- set-up ---- */

void area(struct env *e, u64 va, u64 pages, unsigned prot)
{
	must(!do_map(e, va, pages, prot), "set-up: map");
	/* One page a fault: pictures are of pages. */
	if (!e->scenario->large)
		must(!do_advise(e, va, pages, ADVISE_RANDOM), "set-up: advise");
}

struct actor {
	struct env *e;
	void (*fn)(struct env *e);
};

static void actor_main(void *arg)
{
	struct actor *a = arg;

	a->fn(a->e);
}

void actor(struct env *e, const char *name, unsigned cpu, void (*fn)(struct env *e))
{
	struct actor *a = x_alloc(sizeof(*a), 8);

	a->e = e;
	a->fn = fn;
	x_actor(name, cpu, 0, actor_main, a);
}

struct prefetch {
	struct env *e;
	u64 va;
	unsigned unit;
};

static void prefetch_main(void *arg)
{
	struct prefetch *p = arg;

	xm_prefetch(p->e->m, p->unit, p->e->s->ms, p->va);
}

void prefetcher(struct env *e, unsigned unit, u64 va)
{
	struct prefetch *p = x_alloc(sizeof(*p), 8);

	p->e = e;
	p->va = va;
	p->unit = unit;
	x_actor("prefetch", unit, X_AGENT, prefetch_main, p);
}

void prepare_store(struct env *e, unsigned unit, u64 va, u64 value)
{
	must(!xm_store(e->m, unit, e->s->ms, va, value), "set-up: store");
}

u64 prepare_load(struct env *e, unsigned unit, u64 va)
{
	u64 value = 0;

	must(!xm_load(e->m, unit, e->s->ms, va, &value), "set-up: load");
	return value;
}

void prepare_swapped_out(struct env *e, u64 va)
{
	must(!do_advise(e, va, 1, ADVISE_PAGEOUT), "set-up: page out");
	must(pte_is_swap(entry_at(e, va)), "set-up: it was not paged out");
}

void prepare_no_copy(struct env *e, u64 va)
{
	struct folio *f = folio_at(e, va);

	folio_lock(f);
	must(folio_test(f, PG_SWAPCACHE), "set-up: it is not in the swap cache");
	swap_invalidate_copy(e->q, f);
	folio_unlock(f);
}

void prepare_cold_tlbs(struct env *e)
{
	xm_forget_all(e->m);
}

void prepare_aged(struct env *e, struct folio *f)
{
	folio_lock(f);
	(void)rmap_referenced(e->q, f);
	folio_unlock(f);
}

/* ---- user accesses ---- */

int user_store(struct env *e, u64 va, u64 value)
{
	return xm_store(e->m, x_self_cpu(), e->s->ms, va, value);
}

int user_load(struct env *e, u64 va, u64 *value)
{
	return xm_load(e->m, x_self_cpu(), e->s->ms, va, value);
}

/* ---- calls ---- */

int do_map(struct env *e, u64 va, u64 pages, unsigned prot)
{
	u64 at;

	enter(e);
	return leave(e, space_map(e->q, e->s, va, pages * PAGE_SIZE, prot, MAP_F_FIXED, &at));
}

int do_unmap(struct env *e, u64 va, u64 pages)
{
	enter(e);
	return leave(e, space_unmap(e->q, e->s, va, pages * PAGE_SIZE));
}

int do_protect(struct env *e, u64 va, u64 pages, unsigned prot)
{
	enter(e);
	return leave(e, space_protect(e->q, e->s, va, pages * PAGE_SIZE, prot));
}

int do_remap(struct env *e, u64 from, u64 pages, u64 to)
{
	u64 at, size = pages * PAGE_SIZE;

	enter(e);
	return leave(
		e, space_remap(e->q, e->s, from, size, size, 1 | 2 /* MAYMOVE, FIXED */, to, &at));
}

int do_advise(struct env *e, u64 va, u64 pages, int advice)
{
	enter(e);
	return leave(e, space_advise(e->q, e->s, va, pages * PAGE_SIZE, advice));
}

int do_mlock(struct env *e, u64 va, u64 pages)
{
	enter(e);
	return leave(e, space_mlock(e->q, e->s, va, pages * PAGE_SIZE, false));
}

int do_fault(struct env *e, u64 va, u32 access)
{
	enter(e);
	return leave(e, handle_fault(e->q, &e->s->fs, va, access));
}

u64 do_reclaim(struct env *e, struct folio *f)
{
	struct list out;
	u64 freed = 0;
	u32 phase;

	enter(e);
	phase = reclaim_step_begin(e->q);
	list_init(&out);
	if (folio_try_get(f)) {
		if (lru_isolate(e->q, f))
			list_add_tail(&f->lru, &out);
		folio_put(e->q, f);
	}
	if (!list_empty(&out))
		freed = evict_folios(e->q, &out);
	reclaim_step_end(e->q, phase);
	leave(e, 0);
	return freed;
}

u32 do_referenced(struct env *e, struct folio *f)
{
	u32 n = 0;

	enter(e);
	if (folio_try_get(f)) {
		if (folio_trylock(f)) {
			n = rmap_referenced(e->q, f);
			folio_unlock(f);
		}
		folio_put(e->q, f);
	}
	leave(e, 0);
	return n;
}

bool do_isolate(struct env *e, struct folio *f)
{
	bool isolated = false;

	enter(e);
	if (folio_try_get(f)) {
		isolated = lru_isolate(e->q, f);
		if (isolated)
			lru_putback(e->q, f);
		folio_put(e->q, f);
	}
	leave(e, 0);
	return isolated;
}

int do_pin(struct env *e, u32 n, u64 va, u32 access)
{
	struct range r = { va, va + PAGE_SIZE };
	long got;

	enter(e);
	got = pin_pages(e->q, &e->s->fs, r, access, &e->pinned[n]);
	return leave(e, got == 1 ? 0 : (int)got);
}

int do_pin_fast(struct env *e, u32 n, u64 va, u32 access)
{
	struct range r = { va, va + PAGE_SIZE };
	long got;

	enter(e);
	got = pin_fast(e->q, &e->s->fs, r, access, &e->pinned[n]);
	return leave(e, got == 1 ? 0 : (int)got);
}

void do_unpin(struct env *e, u32 n)
{
	enter(e);
	unpin_pages(e->q, &e->pinned[n], 1);
	e->pinned[n] = NULL;
	leave(e, 0);
}

void pinned_store(struct env *e, u32 n, u64 value)
{
	xm_frame_store(e->m, folio_pfn(e->q, e->pinned[n]), value);
}

u64 pinned_load(struct env *e, u32 n)
{
	return xm_frame_load(e->m, folio_pfn(e->q, e->pinned[n]));
}

void set_flag(struct env *e, u32 n)
{
	a64_set_release(&e->flag[n], 1);
}

bool get_flag(struct env *e, u32 n)
{
	return a64_read_acquire(&e->flag[n]);
}

void do_exit(struct env *e)
{
	enter(e);
	space_destroy(e->q, e->s);
	e->s = NULL;
	leave(e, 0);
}

void do_rcu_barrier(struct env *e)
{
	enter(e);
	qrcu_barrier(e->q);
	leave(e, 0);
}

/* ---- looking, without steps ---- */

u64 entry_at(struct env *e, u64 va)
{
	return xm_entry(e->m, e->s->ms, va);
}

struct folio *folio_at(struct env *e, u64 va)
{
	u64 v = entry_at(e, va);

	must(pte_present(v) && !pte_special(v), "no page is mapped at %#llx", (ull)va);
	return phys_folio(e->q, entry_pfn(v));
}

int access_result(struct env *e, u64 va, bool write)
{
	return do_fault(e, va, write ? ACCESS_WRITE : ACCESS_READ);
}

u64 contents(struct env *e, u64 va)
{
	int rc = do_fault(e, va, ACCESS_READ);
	u64 v = entry_at(e, va);

	must(!rc, "a load from %#llx ends in error %d", (ull)va, rc);
	must(entry_present(v), "nothing is mapped at %#llx after a fault", (ull)va);
	return xm_frame_word(e->m, entry_pfn(v));
}

/* ---- watches ---- */

struct watched {
	struct env *e;
	u64 va;
	struct folio *f;
	char name[32];
};

static void print_entry(void *arg, char *buf, size_t n)
{
	struct watched *w = arg;

	xm_print_entry(entry_at(w->e, w->va), buf, n);
}

static void name_page(char *to, u64 va)
{
	static const char hex[] = "0123456789abcdef";
	u32 i = 28;

	*to++ = '0';
	*to++ = 'x';
	while (i && !(va >> i))
		i -= 4;
	for (;; i -= 4) {
		*to++ = hex[va >> i & 15];
		if (!i)
			break;
	}
	*to = 0;
}

void watch_page(struct env *e, u64 va)
{
	struct watched *w = x_alloc(sizeof(*w), 8);

	w->e = e;
	w->va = va;
	name_page(w->name, va);
	x_watch("entry", w->name, print_entry, w);
}

static const struct {
	enum folio_flag flag;
	const char *name;
} shown[] = {
	{ PG_LOCKED, "locked" },       { PG_LRU, "lru" },           { PG_DIRTY, "dirty" },
	{ PG_SWAPCACHE, "swapcache" }, { PG_LAZYFREE, "lazyfree" }, { PG_LISTED, "listed" },
};

static void print_folio(void *arg, char *buf, size_t n)
{
	struct watched *w = arg;
	u64 flags = a64_peek(&w->f->flags);
	u32 maps = a32_peek(&w->f->mapcount);
	size_t at;

	at = (size_t)snprintf(buf, n, (s32)maps < 0 ? "refs %u, balloon" : "refs %u, mapped %u",
			      a32_peek(&w->f->ref), maps);
	for (u32 i = 0; i < ARRAY_SIZE(shown) && at < n; i++)
		if (flags & BIT(shown[i].flag))
			at += (size_t)snprintf(buf + at, n - at, ", %s", shown[i].name);
	if (at < n)
		snprintf(buf + at, n - at, "; %#llx",
			 (ull)xm_frame_word(w->e->m, folio_pfn(w->e->q, w->f)));
}

void watch_folio(struct env *e, struct folio *f)
{
	struct watched *w = x_alloc(sizeof(*w), 8);

	w->e = e;
	w->f = f;
	x_watch("folio", "page", print_folio, w);
}
