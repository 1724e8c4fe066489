/*
 * Pages that all threads use at once, and map, unmap, protect, empty and evict under each other's
 * hands. Nobody knows what a page holds, but every word of it is 0 or the one value that belongs
 * there.
 */
#include "core_oracle_internal.h"

static u64 tag(u64 va)
{
	return (va * 0x9e3779b97f4a7c15ull) | 1;
}

static u64 some_race_va(struct worker *w)
{
	return w->run->race + rnd(w, RACE_PAGES) * PAGE_SIZE + rnd(w, PAGE_SIZE / 8) * 8;
}

/* What a user of such a page has to reckon with. */
static void expect_race(struct worker *w, int rc, u64 va, const char *what)
{
	if (rc && rc != -EFAULT && rc != -EACCES && rc != -EEXIST && rc != -EINVAL &&
	    rc != -ENOMEM && !oracle_excused(w, rc))
		oracle_wrong(w, "%s at %llx gives %d", what, (unsigned long long)va, rc);
}

static void race_load(struct worker *w, struct space *s, u64 va)
{
	u64 seen = 0;
	int rc = sim_load(w->run->m, w->id, s->ms, va, &seen, sizeof(seen));

	expect_race(w, rc, va, "load");
	if (!rc && seen && seen != tag(va))
		oracle_wrong(w, "%llx holds %llx, want %llx or 0", (unsigned long long)va,
			     (unsigned long long)seen, (unsigned long long)tag(va));
}

static void race_store(struct worker *w, struct space *s, u64 va)
{
	u64 v = tag(va);

	expect_race(w, sim_store(w->run->m, w->id, s->ms, va, &v, sizeof(v)), va, "store");
}

void race_use(struct worker *w, struct space *s)
{
	u64 va = some_race_va(w);

	if (chance(w, 50))
		race_load(w, s, va);
	else
		race_store(w, s, va);
}

static void race_map(struct worker *w, u64 va, u64 size)
{
	u64 out;
	u32 prot = chance(w, 80) ? PROT_BITS_READ | PROT_BITS_WRITE : PROT_BITS_READ;
	u32 flags = (chance(w, 50) ? MAP_F_NOREPLACE : MAP_F_FIXED) |
		    (chance(w, 20) ? MAP_F_POPULATE : 0);

	expect_race(w, space_map(w->run->q, w->run->s, va, size, prot, flags, &out), va, "map");
}

static void race_pin(struct worker *w, u64 va)
{
	struct folio *folio[1];
	struct range r = { va, va + PAGE_SIZE };
	struct run *run = w->run;
	u32 access = chance(w, 50) ? ACCESS_WRITE : ACCESS_READ;
	long n = chance(w, 50) ? pin_pages(run->q, &run->s->fs, r, access, folio) :
				 pin_fast(run->q, &run->s->fs, r, access, folio);

	if (n < 0)
		expect_race(w, (int)n, va, "pin");
	if (n != 1)
		return;
	race_load(w, run->s, va);
	unpin_pages(run->q, folio, 1);
}

void race_any(struct worker *w)
{
	static const int advice[] = { ADVISE_DONTNEED, ADVISE_FREE,     ADVISE_PAGEOUT,
				      ADVISE_PAGEOUT,  ADVISE_WILLNEED, ADVISE_POPULATE_WRITE,
				      ADVISE_COLD };
	struct run *run = w->run;
	u64 va = some_race_va(w), page = va & PAGE_MASK;
	u64 size = min((1 + rnd(w, 6)) * PAGE_SIZE, run->race + RACE_PAGES * PAGE_SIZE - page);
	u64 kind = rnd(w, 100);

	if (kind < 35)
		race_load(w, run->s, va);
	else if (kind < 70)
		race_store(w, run->s, va);
	else if (kind < 82)
		expect_race(w,
			    space_advise(run->q, run->s, page, size,
					 advice[rnd(w, ARRAY_SIZE(advice))]),
			    page, "advice");
	else if (kind < 88)
		expect_race(w, space_protect(run->q, run->s, page, size, chance(w, 30) ? 1 : 3),
			    page, "protect");
	else if (kind < 91)
		expect_race(w, space_unmap(run->q, run->s, page, size), page, "unmap");
	else if (kind < 97)
		race_map(w, page, size);
	else if (kind < 98)
		expect_race(w, space_mlock(run->q, run->s, page, PAGE_SIZE, chance(w, 50)), page,
			    "mlock");
	else if (kind < 99)
		expect_race(w, space_munlock(run->q, run->s, run->race, RACE_PAGES * PAGE_SIZE),
			    page, "munlock");
	else
		race_pin(w, page);
}
