/*
 * Home frames: a page's bytes live at its own address, and one state byte plays the host's page
 * table. The state changes only here, under the block's shard lock; an access holds that lock over
 * its bytes.
 */
#include <string.h>

#include "base_backend.h"
#include "machine/sim/sim_internal.h"

static pthread_mutex_t *shard_of(struct sim *sim, u64 va)
{
	return &sim->shard[(va >> PMD_SHIFT) % SIM_SHARDS];
}

static u64 page_of(const struct mspace *s, u64 va)
{
	return (va - s->usable.start) >> PAGE_SHIFT;
}

static u16 *block_of(const struct mspace *s, u64 va)
{
	return &s->populated[(va - s->usable.start) >> PMD_SHIFT];
}

int sim_home_init(struct sim *sim, struct mspace *s)
{
	u64 bytes = range_size(s->usable);

	s->bytes = sim_reserve(bytes);
	s->state = sim_reserve(bytes >> PAGE_SHIFT);
	s->populated = sim_reserve((bytes >> PMD_SHIFT) * sizeof(u16));
	if (s->bytes && s->state && s->populated)
		return 0;
	sim_home_fini(sim, s);
	return -ENOMEM;
}

void sim_home_fini(struct sim *sim, struct mspace *s)
{
	u64 bytes = range_size(s->usable);

	if (s->populated)
		for (u64 b = 0; b < bytes >> PMD_SHIFT; b++)
			a64_sub(&sim->n.populated, s->populated[b]);
	sim_unreserve(s->bytes, bytes);
	sim_unreserve(s->state, bytes >> PAGE_SHIFT);
	sim_unreserve(s->populated, (bytes >> PMD_SHIFT) * sizeof(u16));
}

static void count_populated(struct sim *sim, u64 nr)
{
	u64 now = a64_add_return(&sim->n.populated, nr);
	u64 peak = a64_read(&sim->n.populated_peak);

	while (now > peak && !a64_cmpxchg(&sim->n.populated_peak, &peak, now))
		;
}

/* The end of the part of [va, end) that lies in va's 2 MiB block: what one shard lock covers. */
static u64 part_end(u64 va, u64 end)
{
	return min((va & PMD_MASK) + PMD_SIZE, end);
}

/* Populated, or parked. */
static bool has_bytes(u8 state)
{
	return state & (HOME_POPULATED | HOME_WP);
}

/* The pages [va, end) of one block lose their bytes. LOCKING: (H). */
static void drop_locked(struct sim *sim, struct mspace *s, u64 va, u64 end)
{
	u64 i = page_of(s, va);
	u64 last = page_of(s, end - 1);
	u32 dropped = 0;

	if (!*block_of(s, va))
		return;
	while (i <= last) {
		u64 run = i;

		while (run <= last && has_bytes(s->state[run])) {
			s->state[run] &= (u8) ~(HOME_POPULATED | HOME_WP | HOME_CACHED);
			run++;
		}
		if (run > i)
			sim_discard(s->bytes + (i << PAGE_SHIFT), (run - i) << PAGE_SHIFT);
		dropped += (u32)(run - i);
		i = run + 1;
	}
	*block_of(s, va) -= (u16)dropped;
	a64_sub(&sim->n.populated, dropped);
}

/*
 * The hardware's A/D bits, where they are wanted on home frames: what was set once is remembered
 * until the translation changes or chance forgets it; a walk that finds no fitting entry traps.
 * LOCKING: (H), (U).
 */
static bool note_ad(struct sim_cpu *c, struct mspace *s, u64 va, bool write, u8 *state,
		    u32 evict_ppm)
{
	unsigned level;
	u64 e;
	a64_t *word;
	bool ok;

	if (sim_cpu_chance(c, evict_ppm))
		*state &= (u8)~HOME_CACHED;
	if ((*state & HOME_CACHED_A) && (!write || (*state & HOME_CACHED_D)))
		return true;
	base_rcu_read_lock();
	word = sim_walk(s, va, NULL, &e, &level);
	ok = word && sim_set_ad(word, &e, write);
	base_rcu_read_unlock();
	if (ok)
		*state |= (u8)(HOME_CACHED_A | (write ? HOME_CACHED_D : 0));
	return ok;
}

static bool allowed(const struct sim *sim, u8 state, u32 access)
{
	/* As on x86, what may be written or executed may be read. */
	unsigned want = access & ACCESS_EXEC ? PROT_BITS_EXEC : 7u;

	if (!(state & HOME_POPULATED) || ((access & ACCESS_WRITE) && (state & HOME_WP)))
		return false;
	if (!(sim->m.caps & CAP_AREA_PROTECT))
		return true;
	if (access & ACCESS_WRITE)
		want = PROT_BITS_WRITE;
	return (state & HOME_MAPPED) && ((state >> HOME_PROT_SHIFT) & want);
}

bool sim_home_place(struct sim *sim, struct sim_cpu *c, struct mspace *s, u64 va, u32 access,
		    struct sim_place *out)
{
	pthread_mutex_t *shard = shard_of(sim, va);
	u8 *state;

	if (va < s->usable.start || va >= s->usable.end)
		return false;
	state = &s->state[page_of(s, va)];
	pthread_mutex_lock(shard);
	if (!allowed(sim, *state, access) ||
	    ((sim->m.caps & CAP_HW_AD) &&
	     !note_ad(c, s, va, access & ACCESS_WRITE, state, sim->cfg.evict_ppm))) {
		pthread_mutex_unlock(shard);
		return false;
	}
	out->page = s->bytes + (page_of(s, va) << PAGE_SHIFT);
	out->held = shard;
	return true;
}

bool sim_home_peek(struct sim *sim, struct mspace *s, u64 va, bool write)
{
	pthread_mutex_t *shard = shard_of(sim, va);
	bool ok;

	if (va < s->usable.start || va >= s->usable.end)
		return false;
	pthread_mutex_lock(shard);
	ok = allowed(sim, s->state[page_of(s, va)], write ? ACCESS_WRITE : ACCESS_READ);
	pthread_mutex_unlock(shard);
	return ok;
}

static void protect_locked(struct mspace *s, u64 va, u64 end)
{
	if (!*block_of(s, va))
		return;
	for (u64 i = page_of(s, va); i <= page_of(s, end - 1); i++) {
		if (!(s->state[i] & HOME_POPULATED))
			continue;
		s->state[i] |= HOME_WP;
		s->state[i] &= (u8)~HOME_CACHED;
	}
}

void sim_home_flush(struct sim *sim, struct mspace *s, const struct tlb_range *r)
{
	u64 end = min(r->end, s->usable.end);

	for (u64 va = max(r->start, s->usable.start), next; va < end; va = next) {
		next = part_end(va, end);
		sim_maybe_late(sim);
		pthread_mutex_lock(shard_of(sim, va));
		if (r->strength == FLUSH_NO_ACCESS)
			drop_locked(sim, s, va, next);
		else
			protect_locked(s, va, next);
		pthread_mutex_unlock(shard_of(sim, va));
	}
}

/* A folio's entry, not a zero page's, that names the home frame at va. */
static bool still_mapped(struct mspace *s, u64 va)
{
	unsigned level;
	u64 e;
	bool mapped;

	base_rcu_read_lock();
	mapped = sim_walk(s, va, NULL, &e, &level) && entry_present(e) && !(e & ENTRY_SPECIAL) &&
		 entry_pfn(e) + (level ? (va & ~PMD_MASK) >> PAGE_SHIFT : 0) == va >> PAGE_SHIFT;
	base_rcu_read_unlock();
	return mapped;
}

void sim_home_release(struct sim *sim, u64 pfn, u32 nr)
{
	u64 va = pfn << PAGE_SHIFT;
	u64 end = va + nr * PAGE_SIZE;
	struct mspace *s = sim_space_at(sim, va);

	if (!s || end > s->usable.end) {
		sim_violate(sim, SIM_DEAD_SPACE, va);
		return;
	}
	for (u64 next; va < end; va = next) {
		next = part_end(va, end);
		pthread_mutex_lock(shard_of(sim, va));
		if (!(sim->cfg.flags & SIM_NO_CHECK))
			for (u64 at = va; at < next; at += PAGE_SIZE)
				if (still_mapped(s, at))
					sim_violate(sim, SIM_MAPPED_RELEASE, at);
		drop_locked(sim, s, va, next);
		pthread_mutex_unlock(shard_of(sim, va));
	}
}

static u8 get_state(struct sim *sim, struct mspace *s, u64 va)
{
	u8 state;

	pthread_mutex_lock(shard_of(sim, va));
	state = s->state[page_of(s, va)];
	pthread_mutex_unlock(shard_of(sim, va));
	return state;
}

/* Out of every access's reach, with its bytes. */
void sim_home_park(struct sim *sim, u64 pfn, u32 nr)
{
	struct mspace *s = sim_space_at(sim, pfn << PAGE_SHIFT);

	if (!s) {
		sim_violate(sim, SIM_DEAD_SPACE, pfn << PAGE_SHIFT);
		return;
	}
	for (u64 va = pfn << PAGE_SHIFT; nr--; va += PAGE_SIZE) {
		u8 *state = &s->state[page_of(s, va)];

		pthread_mutex_lock(shard_of(sim, va));
		if (*state & HOME_POPULATED) {
			*state &= (u8) ~(HOME_POPULATED | HOME_CACHED);
			*state |= HOME_WP;
		}
		pthread_mutex_unlock(shard_of(sim, va));
	}
}

/* Both ends are the caller's alone, so that looking first and moving then is not a race. */
int sim_home_move(struct sim *sim, u64 dst, u64 src, u32 nr)
{
	struct mspace *d = sim_space_at(sim, dst << PAGE_SHIFT);
	struct mspace *s = sim_space_at(sim, src << PAGE_SHIFT);
	u8 page[PAGE_SIZE];

	if (!d || !s) {
		sim_violate(sim, SIM_DEAD_SPACE, dst << PAGE_SHIFT);
		return -ENOENT;
	}
	for (u32 i = 0; i < nr; i++) {
		if (!has_bytes(get_state(sim, s, (src + i) << PAGE_SHIFT)))
			return -ENOENT;
		if (has_bytes(get_state(sim, d, (dst + i) << PAGE_SHIFT))) {
			sim_violate(sim, SIM_BAD_MOVE, (dst + i) << PAGE_SHIFT);
			return -EEXIST;
		}
	}
	for (u32 i = 0; i < nr; i++) {
		u64 from = (src + i) << PAGE_SHIFT;
		u64 to = (dst + i) << PAGE_SHIFT;
		u8 populated; /* or else parked, there as here */

		/* First out of reach, so that no store comes between the copy and the drop. */
		pthread_mutex_lock(shard_of(sim, from));
		memcpy(page, s->bytes + (page_of(s, from) << PAGE_SHIFT), PAGE_SIZE);
		populated = s->state[page_of(s, from)] & HOME_POPULATED;
		drop_locked(sim, s, from, from + PAGE_SIZE);
		pthread_mutex_unlock(shard_of(sim, from));
		pthread_mutex_lock(shard_of(sim, to));
		memcpy(d->bytes + (page_of(d, to) << PAGE_SHIFT), page, PAGE_SIZE);
		d->state[page_of(d, to)] |= populated | HOME_WP;
		*block_of(d, to) += 1;
		count_populated(sim, 1);
		pthread_mutex_unlock(shard_of(sim, to));
	}
	return 0;
}

/* LOCKING: (H). `fill`: the new bytes, zero_page for zeroes, NULL: the page holds its bytes. */
static void install_page(struct sim *sim, struct mspace *s, u64 va, u64 entry, const u8 *fill)
{
	u64 i = page_of(s, va);
	u8 *state = &s->state[i];

	if (!entry_present(entry))
		return;
	if ((entry & ENTRY_SPECIAL) && !has_bytes(*state))
		fill = sim->zero_page;
	if (fill == sim->zero_page) {
		if (has_bytes(*state))
			sim_discard(s->bytes + (i << PAGE_SHIFT), PAGE_SIZE);
	} else if (fill) {
		memcpy(s->bytes + (i << PAGE_SHIFT), fill, PAGE_SIZE);
	} else if (!has_bytes(*state)) {
		sim_violate(sim, SIM_EMPTY_INSTALL, va);
	}
	if (fill)
		a64_add(&sim->n.fills, 1);
	if (!has_bytes(*state)) {
		*block_of(s, va) += 1;
		count_populated(sim, 1);
	}
	*state |= HOME_POPULATED;
	*state &= (u8) ~(HOME_WP | HOME_CACHED);
	if (!(entry & ENTRY_WRITE) || (entry & ENTRY_SPECIAL))
		*state |= HOME_WP;
}

void sim_home_install(struct sim *sim, struct mspace *s, u64 va, const u64 *entries, u32 nr,
		      unsigned level, const void *fill, bool fill_zero)
{
	u64 end = va + ((u64)nr << (PAGE_SHIFT + 9 * level));
	const u64 first = va;

	if (va < s->usable.start || end > s->usable.end) {
		sim_violate(sim, SIM_DEAD_SPACE, va);
		return;
	}
	for (u64 next; va < end; va = next) {
		next = part_end(va, end);
		pthread_mutex_lock(shard_of(sim, va));
		for (u64 at = va; at < next; at += PAGE_SIZE) {
			u64 i = (at - first) >> PAGE_SHIFT;
			u64 e = entries[i >> (9 * level)];
			u64 pfn = entry_pfn(e) + (level ? i % PTRS_PER_TABLE : 0);
			const u8 *bytes = fill_zero ? sim->zero_page :
					  fill      ? (const u8 *)fill + (i << PAGE_SHIFT) :
						      NULL;

			if (entry_present(e) && !(e & ENTRY_SPECIAL) && pfn != at >> PAGE_SHIFT)
				sim_violate(sim, SIM_WILD_ENTRY, at);
			install_page(sim, s, at, e, bytes);
		}
		pthread_mutex_unlock(shard_of(sim, va));
	}
}

/* ---- areas ---- */

static void set_area(struct sim *sim, struct mspace *s, struct range r, u8 bits)
{
	const u8 mask = (u8)(HOME_MAPPED | (7u << HOME_PROT_SHIFT));

	for (u64 va = r.start, next; va < r.end; va = next) {
		next = part_end(va, r.end);
		pthread_mutex_lock(shard_of(sim, va));
		for (u64 i = page_of(s, va); i <= page_of(s, next - 1); i++)
			s->state[i] = (u8)((s->state[i] & ~mask) | bits);
		pthread_mutex_unlock(shard_of(sim, va));
	}
}

static u8 prot_bits(unsigned prot)
{
	return (u8)(HOME_MAPPED | ((prot & 7u) << HOME_PROT_SHIFT));
}

int sim_area_map(struct machine *m, struct mspace *s, struct range r, unsigned prot, u64 pfn)
{
	(void)pfn;
	if (!(m->caps & CAP_AREA_PROTECT))
		return 0;
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	set_area(sim_of(m), s, r, prot_bits(prot));
	return 0;
}

/* Taking the latest change back needs nothing new and so never fails. */
static bool undoes(const struct mspace *s, struct range r, unsigned old_prot, unsigned prot)
{
	return s->last.r.start == r.start && s->last.r.end == r.end && s->last.from == prot &&
	       s->last.to == old_prot;
}

int sim_area_protect(struct machine *m, struct mspace *s, struct range r, unsigned old_prot,
		     unsigned prot)
{
	struct sim *sim = sim_of(m);
	bool hides = (old_prot & PROT_BITS_READ) && !(prot & PROT_BITS_READ);

	if (!(m->caps & CAP_AREA_PROTECT))
		return 0;
	if (!undoes(s, r, old_prot, prot) && inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	s->last = (struct sim_protect){ r, old_prot, prot };
	if (hides)
		pthread_rwlock_wrlock(&sim->reading);
	set_area(sim, s, r, prot_bits(prot));
	if (hides)
		pthread_rwlock_unlock(&sim->reading);
	return 0;
}

void sim_area_unmap(struct machine *m, struct mspace *s, struct range r, unsigned prot)
{
	struct sim *sim = sim_of(m);

	/* What the zap left behind, zero pages for one, goes with the area as it would with munmap.
	 */
	if (sim_is_home(sim)) {
		struct tlb_range all = { .start = r.start,
					 .end = r.end,
					 .strength = FLUSH_NO_ACCESS };
		sim_home_flush(sim, s, &all);
	}
	if (m->caps & CAP_AREA_PROTECT)
		set_area(sim, s, r, 0);
}
