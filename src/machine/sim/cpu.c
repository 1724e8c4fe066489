/*
 * The simulated CPUs: TLBs, the walk of the core's tables, user accesses, flushes.
 *
 * The ordering that matters: a CPU sets its bit in the space's `cpus` (a full barrier) before it
 * reads the tables; a flusher changed the tables before it reads `cpus` (a full barrier between).
 * So either the flusher sees the bit and visits the CPU, or the CPU sees the changed entry.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "machine/sim/sim_internal.h"

#define TRAPS_MAX 1000000u /* of one access in a row: nobody makes progress */

enum sim_op { OP_TOUCH, OP_LOAD, OP_STORE, OP_ADD };
enum verdict { TRAP = 0, DONE = 1 }; /* or a negative errno value */

int sim_cpus_create(struct sim *sim)
{
	u32 n = sim->cfg.nr_cpus;

	sim->cpu = aligned_alloc(64, n * sizeof(*sim->cpu));
	if (!sim->cpu)
		return -ENOMEM;
	memset(sim->cpu, 0, n * sizeof(*sim->cpu));
	for (u32 i = 0; i < n; i++) {
		struct sim_cpu *c = &sim->cpu[i];

		pthread_mutex_init(&c->lock, NULL);
		c->rng = sim_mix(sim->cfg.seed + i) | 1;
		c->tlb = calloc(sim->cfg.tlb_entries, sizeof(*c->tlb));
		if (!c->tlb)
			return -ENOMEM; /* sim_cpus_destroy gives back what there is */
	}
	return 0;
}

void sim_cpus_destroy(struct sim *sim)
{
	if (!sim->cpu)
		return;
	for (u32 i = 0; i < sim->cfg.nr_cpus; i++)
		free(sim->cpu[i].tlb);
	free(sim->cpu);
}

void sim_cpu_bind(unsigned cpu)
{
	base_self()->machine_data = (void *)((uintptr_t)cpu + 1);
}

static struct sim_cpu *cpu_at(struct sim *sim, unsigned cpu)
{
	if (cpu == SIM_SELF) {
		uintptr_t bound = (uintptr_t)base_self()->machine_data;

		cpu = bound ? (unsigned)(bound - 1) : 0;
	}
	return &sim->cpu[cpu % sim->cfg.nr_cpus];
}

/* ---- the walk ---- */

a64_t *sim_walk(struct mspace *s, u64 va, struct sim_walk_entry *cached, u64 *entry,
		unsigned *level)
{
	a64_t *table = s->root;
	a64_t *word;
	u64 e;

	*level = 0;
	if (cached && cached->s == s && cached->va == (va & PMD_MASK)) {
		table = cached->table;
	} else {
		/* Acquire: what the entry leads to was written before the entry was. */
		for (unsigned l = 3; l > 0; l--) {
			word = &table[entry_index(va, l)];
			e = a64_read_acquire(word);
			if (!entry_present(e))
				return NULL;
			if (l == 1 && (e & ENTRY_HUGE)) {
				*level = 1;
				*entry = e;
				return word;
			}
			table = entry_table(e);
		}
		if (cached)
			*cached = (struct sim_walk_entry){ s, va & PMD_MASK, table };
	}
	word = &table[entry_index(va, 0)];
	*entry = a64_read_acquire(word);
	return word;
}

bool sim_set_ad(a64_t *word, u64 *entry, bool write)
{
	u64 want = ENTRY_ACCESSED | (write ? ENTRY_DIRTY : 0);

	for (;;) {
		u64 e = *entry;

		if (!entry_present(e) || (write && !(e & ENTRY_WRITE)))
			return false;
		if ((e & want) == want)
			return true;
		/* Fails when anything changed meanwhile: *entry is what is there now, look again.
		 */
		if (a64_cmpxchg(word, entry, e | want)) {
			*entry = e | want;
			return true;
		}
	}
}

/* ---- the TLB. LOCKING: (U) ---- */

static struct sim_tlb_entry *tlb_set(struct sim *sim, struct sim_cpu *c, u64 va)
{
	u64 vpn = va >> PAGE_SHIFT;

	return &c->tlb[((vpn ^ (vpn >> 9)) & (sim->tlb_sets - 1)) * SIM_WAYS];
}

static struct sim_tlb_entry *tlb_lookup(struct sim *sim, struct sim_cpu *c, struct mspace *s,
					u64 va)
{
	struct sim_tlb_entry *set = tlb_set(sim, c, va);

	for (u32 i = 0; i < SIM_WAYS; i++)
		if (set[i].s == s && set[i].va == (va & PAGE_MASK))
			return &set[i];
	for (u32 i = 0; i < SIM_HUGE_ENTRIES; i++)
		if (c->huge[i].s == s && c->huge[i].va == (va & PMD_MASK))
			return &c->huge[i];
	return NULL;
}

static struct sim_tlb_entry *tlb_fill(struct sim *sim, struct sim_cpu *c, struct mspace *s, u64 va,
				      u64 e, unsigned level)
{
	struct sim_tlb_entry *at = tlb_lookup(sim, c, s, va);
	struct sim_tlb_entry *set = level ? c->huge : tlb_set(sim, c, va);
	u32 ways = level ? SIM_HUGE_ENTRIES : SIM_WAYS;

	/* One translation of an address at a time, whatever its size. */
	if (at)
		at->s = NULL;
	at = NULL;
	for (u32 i = 0; i < ways && !at; i++)
		if (!set[i].s)
			at = &set[i];
	if (!at)
		at = &set[(c->rng = sim_mix(c->rng) | 1) % ways];
	*at = (struct sim_tlb_entry){ s, va & (level ? PMD_MASK : PAGE_MASK), e };
	return at;
}

static void tlb_forget(struct sim *sim, struct sim_cpu *c, struct mspace *s, u64 va)
{
	struct sim_tlb_entry *t = tlb_lookup(sim, c, s, va);

	if (t)
		t->s = NULL;
	for (u32 i = 0; i < SIM_WALK_ENTRIES; i++)
		if (c->walk[i].s == s && c->walk[i].va == (va & PMD_MASK))
			c->walk[i].s = NULL;
}

/* A CPU may translate what nobody asked for; it sets ACCESSED like any walk. */
static void prefetch(struct sim *sim, struct sim_cpu *c, struct mspace *s, u64 va)
{
	unsigned level;
	u64 e;
	a64_t *word;

	va = (va & PAGE_MASK) + (sim_mix(c->rng) & 1 ? PAGE_SIZE : -PAGE_SIZE);
	word = sim_walk(s, va, NULL, &e, &level);
	if (!word || level || !entry_present(e))
		return;
	if ((sim->m.caps & CAP_HW_AD) && !sim_set_ad(word, &e, false))
		return;
	tlb_fill(sim, c, s, va, e, 0);
	c->prefetches++;
}

/* Where the frame is. A write to a zero page, and a frame that does not exist, are the core's
 * mistakes. */
static int place_of(struct sim *sim, u64 va, u64 e, bool huge, bool write, struct sim_place *out)
{
	u64 pfn = entry_pfn(e) + (huge ? (va & ~PMD_MASK) >> PAGE_SHIFT : 0);

	if (e & ENTRY_SPECIAL) {
		if (write) {
			sim_violate(sim, SIM_WILD_ENTRY, va);
			return -EIO;
		}
		out->page = sim->zero_page;
		return DONE;
	}
	if (pfn >= sim->cfg.span_frames) {
		sim_violate(sim, SIM_WILD_ENTRY, va);
		return -EIO;
	}
	out->page = sim->frames + (pfn << PAGE_SHIFT);
	return DONE;
}

/* Does a translation allow the access as it is, without a walk? */
static bool entry_serves(u64 e, u32 access)
{
	if (access & ACCESS_EXEC)
		return !(e & ENTRY_NX);
	if (access & ACCESS_WRITE)
		return (e & ENTRY_WRITE) && (e & ENTRY_DIRTY);
	return true;
}

/* LOCKING: (U). */
static struct sim_tlb_entry *walk_and_fill(struct sim *sim, struct sim_cpu *c, struct mspace *s,
					   u64 va, u32 access)
{
	struct sim_walk_entry *w = &c->walk[(va >> PMD_SHIFT) % SIM_WALK_ENTRIES];
	struct sim_tlb_entry *t = NULL;
	unsigned level;
	u64 e;
	a64_t *word;

	c->walks++;
	if (!(a64_read(&s->cpus) & BIT(c - sim->cpu)))
		a64_fetch_or(&s->cpus, BIT(c - sim->cpu));
	base_rcu_read_lock();
	word = sim_walk(s, va, w, &e, &level);
	if (word && entry_present(e) &&
	    (!(sim->m.caps & CAP_HW_AD) || sim_set_ad(word, &e, access & ACCESS_WRITE)) &&
	    entry_serves(e, access)) {
		if (sim_cpu_chance(c, sim->cfg.prefetch_ppm))
			prefetch(sim, c, s, va);
		t = tlb_fill(sim, c, s, va, e, level);
	}
	base_rcu_read_unlock();
	return t;
}

/* LOCKING: (U). */
static int plain_place(struct sim *sim, struct sim_cpu *c, struct mspace *s, u64 va, u32 access,
		       struct sim_place *out)
{
	struct sim_tlb_entry *t = tlb_lookup(sim, c, s, va);

	if (t && sim_cpu_chance(c, sim->cfg.evict_ppm)) {
		t->s = NULL;
		t = NULL;
		c->evictions++;
	}
	if (t && !entry_serves(t->entry, access)) {
		/* Without the right a CPU may trap on what it has cached, or look if that still
		 * holds. Only DIRTY missing is what the walk is for. */
		bool right = (access & ACCESS_WRITE) && (t->entry & ENTRY_WRITE) &&
			     (sim->m.caps & CAP_HW_AD);

		if (!right && sim_cpu_chance(c, 500000))
			return TRAP;
		t = NULL;
	} else if (t) {
		c->hits++;
	}
	if (!t)
		t = walk_and_fill(sim, c, s, va, access);
	if (!t)
		return TRAP;
	return place_of(sim, va, t->entry, t >= c->huge && t < c->huge + SIM_HUGE_ENTRIES,
			access & ACCESS_WRITE, out);
}

/* ---- user accesses ---- */

/* Whole words, relaxed: a user program's own races are its own business. */
#define COPY_WORDS(type)                                                              \
	while (size >= sizeof(type) && IS_ALIGNED((uintptr_t)frame, sizeof(type))) {  \
		type w;                                                               \
		if (store) {                                                          \
			memcpy(&w, user, sizeof(w));                                  \
			__atomic_store_n((type *)(void *)frame, w, __ATOMIC_RELAXED); \
		} else {                                                              \
			w = __atomic_load_n((type *)(void *)frame, __ATOMIC_RELAXED); \
			memcpy(user, &w, sizeof(w));                                  \
		}                                                                     \
		frame += sizeof(w);                                                   \
		user += sizeof(w);                                                    \
		size -= (u32)sizeof(w);                                               \
		if (sizeof(w) < 8)                                                    \
			break;                                                        \
	}

static void copy_words(u8 *frame, u8 *user, u32 size, bool store)
{
	while (size) {
		COPY_WORDS(u64)
		COPY_WORDS(u32)
		COPY_WORDS(u16)
		COPY_WORDS(u8)
	}
}

static void perform(u8 *at, enum sim_op op, void *buf, u32 size)
{
	u64 *words = buf;

	switch (op) {
	case OP_TOUCH:
		break;
	case OP_LOAD:
	case OP_STORE:
		copy_words(at, buf, size, op == OP_STORE);
		break;
	case OP_ADD:
		words[1] = __atomic_fetch_add((u64 *)(void *)at, words[0], __ATOMIC_SEQ_CST);
		break;
	}
}

/* One try at one access within one page. */
static int try_access(struct sim *sim, struct sim_cpu *c, struct mspace *s, u64 va, u32 access,
		      enum sim_op op, void *buf, u32 size)
{
	struct sim_place place = { .page = NULL, .held = NULL };
	int rc;

	pthread_mutex_lock(&c->lock);
	c->accesses++;
	if (sim_is_home(sim))
		rc = sim_home_place(sim, c, s, va, access, &place) ? DONE : TRAP;
	else
		rc = plain_place(sim, c, s, va, access, &place);
	if (rc == DONE)
		perform(place.page + (va & ~PAGE_MASK), op, buf, size);
	else if (rc == TRAP)
		tlb_forget(sim, c, s, va); /* as a page fault does, for that address */
	if (rc == TRAP)
		c->traps++;
	if (place.held)
		pthread_mutex_unlock(place.held);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static int access_page(struct sim *sim, unsigned cpu, struct mspace *s, u64 va, u32 access,
		       enum sim_op op, void *buf, u32 size)
{
	struct sim_cpu *c = cpu_at(sim, cpu);

	for (u32 tries = 0;; tries++) {
		int rc = try_access(sim, c, s, va, access, op, buf, size);

		if (rc)
			return rc == DONE ? 0 : rc;
		BUG_ON(tries > TRAPS_MAX);
		sim_maybe_late(sim); /* what the trap is about may have changed by then */
		rc = sim->m.trap(s->trap_ctx, va & PAGE_MASK,
				 access | (tries ? ACCESS_SPURIOUS : 0));
		if (rc)
			return rc;
		if (tries) {
			pthread_mutex_lock(&c->lock);
			c->spurious++;
			pthread_mutex_unlock(&c->lock);
		}
	}
}

static int access_range(struct machine *m, unsigned cpu, struct mspace *s, u64 va, u32 access,
			enum sim_op op, void *buf, u64 size)
{
	u8 *at = buf;

	while (size) {
		u64 part = min(size, PAGE_SIZE - (va & ~PAGE_MASK));
		int rc = access_page(sim_of(m), cpu, s, va, access, op, at, (u32)part);

		if (rc)
			return rc;
		va += part;
		at += part;
		size -= part;
	}
	return 0;
}

int sim_load(struct machine *m, unsigned cpu, struct mspace *s, u64 va, void *buf, u64 size)
{
	return access_range(m, cpu, s, va, ACCESS_READ, OP_LOAD, buf, size);
}

int sim_store(struct machine *m, unsigned cpu, struct mspace *s, u64 va, const void *buf, u64 size)
{
	return access_range(m, cpu, s, va, ACCESS_WRITE, OP_STORE, (void *)(uintptr_t)buf, size);
}

int sim_fetch_add(struct machine *m, unsigned cpu, struct mspace *s, u64 va, u64 delta, u64 *old)
{
	u64 words[2] = { delta, 0 };
	int rc;

	BUG_ON(va & 7);
	rc = access_page(sim_of(m), cpu, s, va, ACCESS_WRITE, OP_ADD, words, 8);
	if (old)
		*old = words[1];
	return rc;
}

int sim_touch(struct machine *m, unsigned cpu, struct mspace *s, u64 va, u32 access)
{
	return access_page(sim_of(m), cpu, s, va, access, OP_TOUCH, NULL, 1);
}

/* ---- flushes ---- */

static void flush_entry(struct sim_cpu *c, struct sim_tlb_entry *t, struct mspace *s, u64 size,
			const struct tlb_range *r, bool all)
{
	if (t->s != s || (!all && (t->va + size <= r->start || t->va >= r->end)))
		return;
	if (r->strength == FLUSH_NO_STORE && !sim_cpu_chance(c, 300000))
		t->entry &= ~(ENTRY_WRITE | ENTRY_DIRTY);
	else
		t->s = NULL;
}

/* LOCKING: (U). */
static void flush_cpu(struct sim *sim, struct sim_cpu *c, struct mspace *s,
		      const struct tlb_range *r)
{
	bool all = (r->start == 0 && r->end == ~0ull) || !(sim->m.caps & CAP_RANGE_FLUSH);

	/* More than was asked for is always allowed. */
	if (!all && sim_cpu_chance(c, 20000))
		all = true;
	for (u32 i = 0; i < sim->cfg.tlb_entries; i++)
		flush_entry(c, &c->tlb[i], s, PAGE_SIZE, r, all);
	for (u32 i = 0; i < SIM_HUGE_ENTRIES; i++)
		flush_entry(c, &c->huge[i], s, PMD_SIZE, r, all);
	if (!r->tables_freed && !r->pmd_level)
		return;
	for (u32 i = 0; i < SIM_WALK_ENTRIES; i++) {
		struct sim_walk_entry *w = &c->walk[i];

		if (w->s == s && (all || (w->va + PMD_SIZE > r->start && w->va < r->end)))
			w->s = NULL;
	}
}

void sim_maybe_late(struct sim *sim)
{
	if (sim->cfg.late_ppm && sim_random(sim) % 1000000 < sim->cfg.late_ppm) {
		a64_add(&sim->n.interrupts_late, 1);
		sched_yield();
	}
}

void sim_cpu_flush(struct sim *sim, struct mspace *s, const struct tlb_range *r)
{
	/* The entries were changed before we ask, by an exchange, who may have read them. */
	u64 cpus = a64_fetch_or(&s->cpus, 0);

	for (u32 i = 0; i < sim->cfg.nr_cpus; i++) {
		if (!(cpus & BIT(i)))
			continue;
		a64_add(&sim->n.interrupts, 1);
		sim_maybe_late(sim);
		/* Waits for the access in flight. */
		pthread_mutex_lock(&sim->cpu[i].lock);
		flush_cpu(sim, &sim->cpu[i], s, r);
		pthread_mutex_unlock(&sim->cpu[i].lock);
	}
}

static bool reaches(const struct sim_tlb_entry *t, u64 span, u64 pfn, u64 nr)
{
	u64 first = entry_pfn(t->entry);

	return t->s && !(t->entry & ENTRY_SPECIAL) && first < pfn + nr && pfn < first + span;
}

u64 sim_cpu_reaches(struct sim *sim, u64 pfn, u64 nr)
{
	u64 n = 0;

	for (u32 i = 0; i < sim->cfg.nr_cpus; i++) {
		struct sim_cpu *c = &sim->cpu[i];

		pthread_mutex_lock(&c->lock);
		for (u32 j = 0; j < sim->cfg.tlb_entries; j++)
			n += reaches(&c->tlb[j], 1, pfn, nr);
		for (u32 j = 0; j < SIM_HUGE_ENTRIES; j++)
			n += reaches(&c->huge[j], PTRS_PER_TABLE, pfn, nr);
		pthread_mutex_unlock(&c->lock);
	}
	return n;
}

/* NULL: of every space. LOCKING: (U). */
static void drop_all(struct sim *sim, struct sim_cpu *c, struct mspace *s)
{
	for (u32 j = 0; j < sim->cfg.tlb_entries; j++)
		if (!s || c->tlb[j].s == s)
			c->tlb[j].s = NULL;
	for (u32 j = 0; j < SIM_HUGE_ENTRIES; j++)
		if (!s || c->huge[j].s == s)
			c->huge[j].s = NULL;
	for (u32 j = 0; j < SIM_WALK_ENTRIES; j++)
		if (!s || c->walk[j].s == s)
			c->walk[j].s = NULL;
}

void sim_cpu_forget_space(struct sim *sim, struct mspace *s)
{
	for (u32 i = 0; i < sim->cfg.nr_cpus; i++) {
		pthread_mutex_lock(&sim->cpu[i].lock);
		drop_all(sim, &sim->cpu[i], s);
		pthread_mutex_unlock(&sim->cpu[i].lock);
	}
}

void sim_evict_all(struct machine *m)
{
	sim_cpu_forget_space(sim_of(m), NULL);
}

/* Of simulated CPUs an access is the walk; of the core's own lockless walkers the RCU section. */
void sim_sync_lockless_walkers(struct machine *m)
{
	struct sim *sim = sim_of(m);

	for (u32 i = 0; i < sim->cfg.nr_cpus; i++) {
		pthread_mutex_lock(&sim->cpu[i].lock);
		pthread_mutex_unlock(&sim->cpu[i].lock);
	}
	base_rcu_synchronize();
}

bool sim_reachable(struct machine *m, struct mspace *s, u64 va, bool write)
{
	struct sim *sim = sim_of(m);
	u32 access = write ? ACCESS_WRITE : ACCESS_READ;
	bool found = false;
	unsigned level;
	u64 e;

	if (sim_is_home(sim))
		return sim_home_peek(sim, s, va, write);
	for (u32 i = 0; i < sim->cfg.nr_cpus && !found; i++) {
		struct sim_tlb_entry *t;

		pthread_mutex_lock(&sim->cpu[i].lock);
		t = tlb_lookup(sim, &sim->cpu[i], s, va);
		found = t && entry_serves(t->entry, access);
		pthread_mutex_unlock(&sim->cpu[i].lock);
	}
	if (found)
		return true;
	base_rcu_read_lock();
	if (sim_walk(s, va, NULL, &e, &level) && entry_present(e)) {
		if ((sim->m.caps & CAP_HW_AD) && (e & ENTRY_WRITE))
			e |= ENTRY_DIRTY;
		found = entry_serves(e, access);
	}
	base_rcu_read_unlock();
	return found;
}
