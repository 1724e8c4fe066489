/*
 * unit.c - what translates addresses: TLBs, walks, user accesses, flushes and interrupts.
 *
 *   a unit's store                      its interrupt                the flusher
 *   look up: hit                                                     clears the entry
 *                                                                    sends the request
 *                                       not in a walk: drops the
 *                                       entry, acknowledges
 *                                                                    sees it: frees the frame
 *   store: entry gone: look up again
 */
#include <stdio.h>
#include <string.h>

#include "machine/explored/explored_internal.h"

#define TRAPS_MAX 40u /* of one access: it does not get through */

typedef unsigned long long ull;

/* "CPU1 irq"; by hand, because the library's writes would not be noted in the arena. */
static void make_name(char *to, const char *what, u32 number, const char *suffix)
{
	while (*what)
		*to++ = *what++;
	*to++ = (char)('0' + number);
	while (*suffix)
		*to++ = *suffix++;
	*to = 0;
}

void xm_units_create(struct xm *xm)
{
	xm->unit = x_alloc(XM_UNITS * sizeof(*xm->unit), 64);
	for (u32 i = 0; i < XM_UNITS; i++) {
		struct xm_unit *u = &xm->unit[i];

		u->xm = xm;
		u->number = i;
		make_name(u->name, xm->cfg.devices & BIT(i) ? "device" : "CPU", i, "");
		for (u32 from = 0; from < XM_UNITS; from++) {
			u->req[from].unit = u;
			u->req[from].from = from;
		}
	}
}

/* ---- the TLB. Within a step that declared u->state. ---- */

static u64 tag_of(const struct mspace *s, u64 va)
{
	return (va & PAGE_MASK) | (s->number + 1);
}

static struct xm_slot *slot_place(struct xm_unit *u, u64 va)
{
	/* Neighbouring pages, and the first pages of neighbouring tables, do not meet. */
	return &u->slot[((va >> PAGE_SHIFT) + (va >> PMD_SHIFT) * 3) % XM_SLOTS];
}

static struct xm_slot *slot_find(struct xm_unit *u, const struct mspace *s, u64 va)
{
	struct xm_slot *t = slot_place(u, va);

	return get(&t->tag) == tag_of(s, va) ? t : NULL;
}

static void slot_drop(struct xm_slot *t)
{
	put(&t->tag, 0);
	put(&t->entry, 0);
	put(&t->gen, 0);
}

/* As a page fault does, for that address. */
static void forget(struct xm_unit *u, struct mspace *s, u64 va)
{
	struct xm_slot *t = slot_find(u, s, va);

	if (t)
		slot_drop(t);
	put(&u->pmd_tag, 0);
	put(&u->pmd_table, 0);
}

static bool entry_serves(u64 e, bool write)
{
	return entry_present(e) && (!write || ((e & ENTRY_WRITE) && (e & ENTRY_DIRTY)));
}

/* ---- the walk ---- */

/* The table of va's entry, by the unit's own cache or from the root. NULL: none. */
static a64_t *walk_to_table(struct xm_unit *u, struct mspace *s, u64 va)
{
	u64 tag = (va & PMD_MASK) | (s->number + 1);
	a64_t *table = s->root;

	/* Its own while it is busy: no interrupt changes it now. */
	if (get(&u->pmd_tag) == tag)
		return (a64_t *)(uintptr_t)get(&u->pmd_table);
	for (unsigned level = 3; level > 0; level--) {
		u64 e = a64_read_acquire(&table[entry_index(va, level)]);

		if (!entry_present(e))
			return NULL;
		BUG_ON(e & ENTRY_HUGE);
		table = entry_table(e);
	}
	return table;
}

/* Sets A and D as the hardware does; what the entry then says, or 0 when it does not serve. */
static u64 walk_entry(struct xm *xm, a64_t *word, bool write)
{
	u64 e = get(word);
	bool hw = xm->m.caps & CAP_HW_AD;

	if (!entry_present(e) || (write && !(e & ENTRY_WRITE)))
		return 0;
	if (hw) {
		e |= ENTRY_ACCESSED | (write ? ENTRY_DIRTY : 0);
		put(word, e);
	}
	return entry_serves(e, write) ? e : 0;
}

/* u->busy is set, and is not when it returns. The entry that is cached now; 0: it traps. */
static u64 walk(struct xm_unit *u, struct mspace *s, u64 va, bool write)
{
	a64_t *table = walk_to_table(u, s, va), *word;
	struct xm_slot *t;
	u64 e, was;

	if (!table) {
		x_access(BASE_RMW, &u->state, 8, "finds no table");
		put(&u->busy, 0);
		forget(u, s, va);
		return 0;
	}
	word = &table[entry_index(va, 0)];
	x_access2(BASE_RMW, word, 8, BASE_RMW, &u->state, 8, "walks");
	was = get(word);
	e = walk_entry(u->xm, word, write);
	put(&u->busy, 0);
	if (e) {
		t = slot_place(u, va);
		put(&t->tag, tag_of(s, va));
		put(&t->entry, e);
		/* No step of its own: an entry names a frame only between its fill and its release,
		 * which the entry's own steps keep apart. */
		put(&t->gen, get(&xm_frame(u->xm, entry_pfn(e))->gen));
		put(&u->pmd_tag, (va & PMD_MASK) | (s->number + 1));
		put(&u->pmd_table, (uintptr_t)table);
	} else {
		forget(u, s, va);
	}
	if (x_noting()) {
		char now[64], before[64];

		xm_print_entry(get(word), now, sizeof(now));
		xm_print_entry(was, before, sizeof(before));
		x_note("walks to %#llx: %s%s%s%s", (ull)va, before, get(word) != was ? " -> " : "",
		       get(word) != was ? now : "", e ? ", caches it" : ", traps");
	}
	return e;
}

/* What the TLB has for the access; 0 and *trap false: a walk follows, busy is set. */
static u64 look_up(struct xm_unit *u, struct mspace *s, u64 va, bool write, bool *trap)
{
	struct xm_slot *t;
	u64 e;

	*trap = false;
	x_access(BASE_RMW, &u->state, 8, "looks into its TLB");
	t = slot_find(u, s, va);
	if (t && u->xm->cfg.evict && x_choose(2, "evicted")) {
		slot_drop(t);
		t = NULL;
	}
	e = t ? get(&t->entry) : 0;
	if (e && entry_serves(e, write)) {
		if (x_noting())
			x_note("finds %#llx in its TLB", (ull)va);
		return e;
	}
	if (e && !(write && (e & ENTRY_WRITE)) && u->xm->cfg.spurious &&
	    x_choose(2, "traps on what is cached")) {
		forget(u, s, va);
		*trap = true;
		return 0;
	}
	put(&u->busy, 1);
	if (x_noting())
		x_note("%#llx is not in its TLB", (ull)va);
	return 0;
}

/* ---- accesses ---- */

enum outcome { TRAP, DONE };

/* Through the entry, if it is still cached: else false. */
static bool use_entry(struct xm_unit *u, struct mspace *s, u64 va, bool write, u64 e, u64 *value)
{
	struct xm_frame *f = xm_frame(u->xm, entry_pfn(e));
	a64_t *word = (a64_t *)(void *)(xm_bytes(u->xm, entry_pfn(e)) + (va & ~PAGE_MASK));
	struct xm_slot *t;

	x_access2(BASE_READ, &u->state, 8, write ? BASE_WRITE : BASE_READ, &f->gen, 8,
		  write ? "stores" : "loads");
	t = slot_find(u, s, va);
	if (!t || get(&t->entry) != e)
		return false;
	if (x_noting())
		x_note("%s %#llx: frame %llu, %#llx", write ? "stores to" : "loads from", (ull)va,
		       (ull)entry_pfn(e), (ull)(write ? *value : get(word)));
	if (get(&t->gen) != get(&f->gen) || (!write && get(word) == XM_POISON))
		x_fail("%s %s %#llx through a translation of frame %llu, which has been freed",
		       u->name, write ? "stores to" : "loads from", (ull)va, (ull)entry_pfn(e));
	if (write)
		put(word, *value);
	else
		*value = get(word);
	return true;
}

static enum outcome try_access(struct xm_unit *u, struct mspace *s, u64 va, bool write, u64 *value)
{
	for (;;) {
		bool trap;
		u64 e = look_up(u, s, va, write, &trap);

		if (trap)
			return TRAP;
		if (!e)
			e = walk(u, s, va, write);
		if (!e)
			return TRAP;
		if (use_entry(u, s, va, write, e, value))
			return DONE;
	}
}

static int access_word(struct machine *m, unsigned unit, struct mspace *s, u64 va, bool write,
		       u64 *value)
{
	struct xm *xm = xm_of(m);
	u32 access = write ? ACCESS_WRITE : ACCESS_READ;

	BUG_ON(!(xm->cfg.units & BIT(unit)) || (va & ~PAGE_MASK & ~8ull));
	for (u32 traps = 0;; traps++) {
		int rc;

		if (xm_is_home(xm) ? xm_home_access(&xm->unit[unit], s, va, write, value) :
				     try_access(&xm->unit[unit], s, va, write, value) == DONE)
			return 0;
		if (traps > TRAPS_MAX)
			x_fail("%s traps again and again at %#llx", xm->unit[unit].name, (ull)va);
		rc = m->trap(s->trap_ctx, va & PAGE_MASK, access | (traps ? ACCESS_SPURIOUS : 0));
		if (rc)
			return rc;
	}
}

int xm_load(struct machine *m, unsigned unit, struct mspace *s, u64 va, u64 *value)
{
	return access_word(m, unit, s, va, false, value);
}

int xm_store(struct machine *m, unsigned unit, struct mspace *s, u64 va, u64 value)
{
	return access_word(m, unit, s, va, true, &value);
}

void xm_prefetch(struct machine *m, unsigned unit, struct mspace *s, u64 va)
{
	struct xm_unit *u = &xm_of(m)->unit[unit];

	x_access(BASE_RMW, &u->state, 8, "fetches ahead");
	if (get(&u->busy) || slot_find(u, s, va))
		return;
	put(&u->busy, 1);
	(void)walk(u, s, va, false);
}

/* ---- flushes ---- */

static void flush_unit(struct xm_unit *u, struct mspace *s, const struct xm_request *r)
{
	u64 start = get(&r->start), end = get(&r->end);

	for (u32 i = 0; i < XM_SLOTS; i++) {
		struct xm_slot *t = &u->slot[i];
		u64 va = get(&t->tag) & PAGE_MASK;

		if ((get(&t->tag) & ~PAGE_MASK) != s->number + 1 || va < start || va >= end)
			continue;
		if (get(&r->no_access))
			slot_drop(t);
		else
			put(&t->entry, get(&t->entry) & ~(ENTRY_WRITE | ENTRY_DIRTY));
	}
	if (get(&r->tables) && (get(&u->pmd_tag) & ~PAGE_MASK) == s->number + 1) {
		put(&u->pmd_tag, 0);
		put(&u->pmd_table, 0);
	}
	if (x_noting())
		x_note("%s%#llx-%#llx from the TLB of %s",
		       get(&r->no_access) ? "drops " : "drops the right to store of ", (ull)start,
		       (ull)end, u->name);
}

static void request_fill(struct xm_request *q, struct mspace *s, const struct tlb_range *r)
{
	put(&q->start, r->start);
	put(&q->end, r->end);
	put(&q->space, s->number);
	put(&q->no_access, r->strength == FLUSH_NO_ACCESS);
	put(&q->tables, r->tables_freed || r->pmd_level);
}

static bool acknowledged(void *arg)
{
	const struct xm_request *q = arg;

	return !(get(&q->unit->pending) & BIT(q->from));
}

static void send_request(struct xm_unit *u, struct mspace *s, unsigned self,
			 const struct tlb_range *r)
{
	x_access(BASE_RMW, &u->pending, 8, "sends an interrupt");
	if (x_noting())
		x_note("interrupts %s: flush %#llx-%#llx", u->name, (ull)r->start, (ull)r->end);
	BUG_ON(get(&u->pending) & BIT(self));
	request_fill(&u->req[self], s, r);
	put(&u->pending, get(&u->pending) | BIT(self));
}

/* Each request, the own TLB among them; then each answer. */
void xm_tlb_flush(struct machine *m, struct mspace *s, const struct tlb_range *r)
{
	struct xm *xm = xm_of(m);
	unsigned self = x_self_cpu();

	BUG_ON(r->start >= r->end);
	if (xm_is_home(xm)) {
		xm_home_flush(s, r);
		return;
	}
	for (u32 i = 0; i < XM_UNITS; i++) {
		struct xm_unit *u = &xm->unit[i];
		struct xm_request own;

		if (!(xm->cfg.units & BIT(i)))
			continue;
		if (!xm_alone() && i != self) {
			send_request(u, s, self, r);
			continue;
		}
		request_fill(&own, s, r);
		x_access(BASE_RMW, &u->state, 8, "flushes its TLB");
		flush_unit(u, s, &own);
	}
	for (u32 i = 0; !xm_alone() && i < XM_UNITS; i++) {
		struct xm_unit *u = &xm->unit[i];

		if (!(xm->cfg.units & BIT(i)) || i == self)
			continue;
		x_wait(acknowledged, &u->req[self], &u->pending, 8, "waits for the flush");
		if (x_noting())
			x_note("is told that %s has flushed", u->name);
	}
}

static bool interrupt_due(void *arg)
{
	const struct xm_unit *u = arg;

	return !get(&u->busy) && get(&u->pending);
}

static void interrupt_agent(void *arg)
{
	struct xm_unit *u = arg;

	for (;;) {
		u32 i;

		x_await(BASE_RMW, interrupt_due, u, &u->state, XM_WAKE_BYTES, "takes an interrupt");
		i = (u32)__builtin_ctzll(get(&u->pending));
		if (x_noting())
			x_note("takes the interrupt of CPU%u", i);
		flush_unit(u, u->xm->space[get(&u->req[i].space)], &u->req[i]);
		put(&u->pending, get(&u->pending) & ~BIT(i));
	}
}

void xm_start_agents(struct machine *m)
{
	struct xm *xm = xm_of(m);

	for (u32 i = 0; i < XM_UNITS; i++) {
		char *name;

		if (!(xm->cfg.units & BIT(i)) || xm_is_home(xm))
			continue;
		name = x_alloc(24, 8);
		if (xm->cfg.devices & BIT(i))
			make_name(name, "device", i, " TLB");
		else
			make_name(name, "CPU", i, " irq");
		x_actor(name, i, X_AGENT, interrupt_agent, &xm->unit[i]);
	}
}

/* ---- for set-up, checks and watches ---- */

void xm_forget_all(struct machine *m)
{
	for (u32 i = 0; i < XM_UNITS; i++) {
		struct xm_unit *u = &xm_of(m)->unit[i];

		for (u32 k = 0; k < XM_SLOTS; k++)
			slot_drop(&u->slot[k]);
		put(&u->pmd_tag, 0);
		put(&u->pmd_table, 0);
	}
}

u64 xm_cached(struct machine *m, unsigned unit, struct mspace *s, u64 va)
{
	struct xm_slot *t = slot_find(&xm_of(m)->unit[unit], s, va);

	return t ? get(&t->entry) : 0;
}

a64_t *xm_entry_word(struct mspace *s, u64 va)
{
	a64_t *table = s->root;

	for (unsigned level = 3; level > 0; level--) {
		u64 e = get(&table[entry_index(va, level)]);

		if (!entry_present(e))
			return NULL;
		table = entry_table(e);
	}
	return &table[entry_index(va, 0)];
}

u64 xm_entry(struct machine *m, struct mspace *s, u64 va)
{
	a64_t *word = xm_entry_word(s, va);

	return word ? get(word) : 0;
}

const char *xm_unit_name(struct machine *m, unsigned unit)
{
	return xm_of(m)->unit[unit].name;
}

bool xm_reachable(struct machine *m, unsigned unit, struct mspace *s, u64 va, bool write)
{
	u64 cached = xm_cached(m, unit, s, va), e;
	a64_t *word;

	if (xm_is_home(xm_of(m)))
		return xm_home_reachable(s, va, write);

	if (entry_serves(cached, write))
		return true;
	word = xm_entry_word(s, va);
	e = word ? get(word) : 0;
	if ((m->caps & CAP_HW_AD) && (e & ENTRY_WRITE))
		e |= ENTRY_DIRTY;
	return entry_serves(e, write);
}

void xm_print_entry(u64 e, char *buf, size_t n)
{
	if (!e)
		snprintf(buf, n, "none");
	else if (entry_present(e))
		snprintf(buf, n, "frame %llu %s%s%s%s", (ull)entry_pfn(e),
			 e & ENTRY_WRITE ? "RW" : "R-", e & ENTRY_ACCESSED ? "A" : "-",
			 e & ENTRY_DIRTY ? "D" : "-", e & ENTRY_SPECIAL ? " zero" : "");
	else if (e & ENTRY_PROTNONE)
		snprintf(buf, n, "frame %llu no access", (ull)entry_pfn(e));
	else
		snprintf(buf, n, "swap %llu", (ull)(e >> PAGE_SHIFT));
}

void xm_print_tlb(struct machine *m, unsigned unit, char *buf, size_t n)
{
	struct xm_unit *u = &xm_of(m)->unit[unit];
	size_t at = 0;

	buf[0] = 0;
	for (u32 i = 0; i < XM_SLOTS && at + 1 < n; i++) {
		struct xm_slot *t = &u->slot[i];
		char e[64];

		if (!get(&t->tag))
			continue;
		xm_print_entry(get(&t->entry), e, sizeof(e));
		at += (size_t)snprintf(buf + at, n - at, "%s%#llx: %s", at ? ", " : "",
				       (ull)(get(&t->tag) & PAGE_MASK), e);
	}
	if (!at)
		snprintf(buf, n, "-");
}
