/*
 * Random operations of several threads on phys against an oracle of ownership: a frame has at most
 * one owner; the machine is told to release only frames that nobody owns, never the same one twice
 * at a time; nobody gets a frame while it is being released; counts, lists and charges are right at
 * the end.
 *
 * QUIRE_SEED=N chooses the run, QUIRE_OPS=N its length.
 */
#include "../unit/phys_double.h"

#include <pthread.h>
#include <sched.h>

#define THREADS   4
#define SLOTS     256
#define BLOCKS    6
#define FRAMES    (BLOCKS * 512)
#define GROUPS    3
#define SPAN_BASE 0x40000ull

/* A folio that some thread put aside; `lock` is the right to use it. */
struct slot {
	a32_t lock;
	struct folio *f;
	u32 nr;
	bool listed;
};

struct run {
	struct world *w;
	bool home;
	u64 base, seed, ops, capacity;
	unsigned group[GROUPS];
	struct slot slot[SLOTS];
	a32_t owned[FRAMES];
	a32_t releasing[FRAMES];
	a64_t allocated, freed, splits, isolated, refused;
};

struct thread {
	struct run *r;
	pthread_t id;
	u32 number;
	u64 rng;
	u64 resv; /* a reservation that it holds; 0: none */
};

static struct run *the_run;

static u64 rnd(struct thread *t, u64 n)
{
	t->rng ^= t->rng << 13;
	t->rng ^= t->rng >> 7;
	t->rng ^= t->rng << 17;
	return (t->rng >> 11) % n;
}

#define MUST(c)                                                                                  \
	do {                                                                                     \
		if (!(c)) {                                                                      \
			fprintf(stderr, "%s:%d: %s (QUIRE_SEED=%llu)\n", __FILE__, __LINE__, #c, \
				(unsigned long long)the_run->seed);                              \
			abort();                                                                 \
		}                                                                                \
	} while (0)

static void on_release(struct world *w, u64 pfn, u32 nr)
{
	struct run *r = the_run;

	(void)w;
	MUST(pfn >= r->base && pfn + nr <= r->base + FRAMES && nr);
	for (u64 i = pfn - r->base; i < pfn - r->base + nr; i++) {
		MUST(!a32_read(&r->owned[i]));
		MUST(!a32_fetch_add(&r->releasing[i], 1));
	}
	if (pfn % 7 == 0)
		sched_yield();
	for (u64 i = pfn - r->base; i < pfn - r->base + nr; i++)
		MUST(a32_fetch_add(&r->releasing[i], (u32)-1) == 1);
}

static void own(struct run *r, struct folio *f)
{
	u64 at = folio_pfn(&r->w->q, f) - r->base;

	MUST(at < FRAMES);
	for (u32 i = 0; i < folio_nr(f); i++) {
		MUST(!a32_fetch_add(&r->owned[at + i], 1));
		MUST(!a32_read(&r->releasing[at + i]));
	}
	a64_add(&r->allocated, folio_nr(f));
}

static void disown(struct run *r, struct folio *f, u32 nr)
{
	u64 at = folio_pfn(&r->w->q, f) - r->base;

	for (u32 i = 0; i < nr; i++)
		MUST(a32_fetch_add(&r->owned[at + i], (u32)-1) == 1);
	a64_add(&r->freed, nr);
}

static struct slot *slot_take(struct thread *t, bool full)
{
	for (u32 tries = 0; tries < 8; tries++) {
		struct slot *s = &t->r->slot[rnd(t, SLOTS)];

		if (a32_xchg(&s->lock, 1))
			continue;
		if (full == !!s->f)
			return s;
		a32_set_release(&s->lock, 0);
	}
	return NULL;
}

static void slot_leave(struct slot *s)
{
	a32_set_release(&s->lock, 0);
}

/* ---- operations ---- */

/* A new folio of ours goes to a slot, charged; or back at once. */
static void keep(struct thread *t, struct folio *f)
{
	struct run *r = t->r;
	unsigned g = r->group[rnd(t, GROUPS)];
	struct slot *s;

	own(r, f);
	if (rnd(t, 4) && !cgroup_try_charge(&r->w->q, g, folio_nr(f), NULL))
		folio_set_charge(f, g);
	s = slot_take(t, false);
	if (!s) {
		disown(r, f, folio_nr(f));
		folio_put(&r->w->q, f);
		return;
	}
	s->f = f;
	s->nr = folio_nr(f);
	s->listed = false;
	slot_leave(s);
}

static unsigned some_order(struct thread *t)
{
	static const u8 orders[] = { 0, 0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 9 };

	return orders[rnd(t, sizeof(orders))];
}

static void op_alloc(struct thread *t)
{
	struct run *r = t->r;
	struct quire *q = &r->w->q;
	unsigned order = some_order(t);
	struct folio *f = NULL, *run[40];
	u64 pfn;

	if (!r->home && (!t->resv || rnd(t, 2))) {
		f = phys_alloc(q, 0, order);
		if (f)
			keep(t, f);
		else
			a64_add(&r->refused, 1);
		return;
	}
	pfn = (r->home ? r->base + rnd(t, FRAMES) : t->resv + rnd(t, 512));
	if (rnd(t, 3)) {
		if (!phys_alloc_at(q, 0, pfn & ~(BIT(order) - 1), order, &f))
			keep(t, f);
	} else {
		u32 n = 1 + (u32)rnd(t, 40);
		int got;

		n = (u32)min((u64)n, r->home ? r->base + FRAMES - pfn : t->resv + 512 - pfn);
		got = phys_alloc_run_at(q, 0, pfn, n, run);
		for (int i = 0; i < got; i++)
			keep(t, run[i]);
	}
}

static void op_free(struct thread *t)
{
	struct run *r = t->r;
	struct folio *f[24];
	u32 refs[24], n = 0, want = 1 + (u32)rnd(t, 24);
	struct list frozen;

	list_init(&frozen);
	while (n < want) {
		struct slot *s = slot_take(t, true);

		if (!s)
			break;
		disown(r, s->f, s->nr);
		/* Half of them the way of reclaim, if nobody else looks at them. */
		if (!s->listed && rnd(t, 2) && folio_freeze(s->f, 1)) {
			list_add_tail(&s->f->lru, &frozen);
		} else {
			refs[n] = 1;
			f[n++] = s->f;
		}
		s->f = NULL;
		slot_leave(s);
	}
	phys_free_frozen_list(&r->w->q, &frozen);
	folios_put_refs(&r->w->q, f, refs, n);
}

static void op_lru(struct thread *t)
{
	struct slot *s = slot_take(t, true);
	struct quire *q = &t->r->w->q;

	if (!s)
		return;
	if (!s->listed) {
		if (!rnd(t, 4))
			folio_set(s->f, PG_ACTIVE);
		if (!rnd(t, 16))
			folio_set(s->f, PG_UNEVICTABLE);
		s->listed = true;
		lru_add(q, s->f);
	} else if (rnd(t, 2)) {
		lru_mark_accessed(q, s->f);
	} else if (rnd(t, 2)) {
		lru_deactivate(q, s->f);
	} else if (lru_isolate(q, s->f)) {
		MUST(!folio_test(s->f, PG_LRU));
		MUST(!lru_isolate(q, s->f));
		if (rnd(t, 2))
			a64_fetch_and(&s->f->flags, ~PGF(UNEVICTABLE));
		a64_add(&t->r->isolated, 1);
		lru_putback(q, s->f);
	}
	slot_leave(s);
}

static void op_clusters(struct thread *t)
{
	struct quire *q = &t->r->w->q;
	struct list out;
	u32 pages, sum = 0;

	list_init(&out);
	pages = lru_isolate_clusters(q, 0, (enum lru_list)rnd(t, 2), 1 + (u32)rnd(t, 100), &out);
	list_for_each(at, &out) {
		struct folio *f = list_entry(at, struct folio, lru);

		MUST(!folio_test(f, PG_LRU));
		MUST(a32_read(&f->ref));
		sum += folio_nr(f);
	}
	MUST(sum == pages);
	a64_add(&t->r->isolated, pages);
	if (rnd(t, 2)) {
		lru_putback_list(q, &out);
		return;
	}
	list_for_each_safe(at, tmp, &out) {
		list_del(at);
		lru_putback(q, list_entry(at, struct folio, lru));
	}
}

/* Page 0 keeps the slot; of the others some die in the split and some by the batch. */
static void op_split(struct thread *t)
{
	struct run *r = t->r;
	struct slot *s = slot_take(t, true);
	struct folio *f, *rest[511];
	u32 refs[512], ones[511], n = 0;

	if (!s)
		return;
	f = s->f;
	if (s->nr == 1) {
		slot_leave(s);
		return;
	}
	folio_lock(f);
	if (!folio_freeze(f, 1)) {
		folio_unlock(f);
		slot_leave(s);
		return;
	}
	refs[0] = 1;
	for (u32 i = 1; i < s->nr; i++) {
		refs[i] = (u32)rnd(t, 2);
		if (refs[i]) {
			ones[n] = 1;
			rest[n++] = f + i;
		}
		disown(r, f + i, 1);
	}
	phys_split_frozen(&r->w->q, f, refs);
	folio_unlock(f);
	s->nr = 1;
	slot_leave(s);
	a64_add(&r->splits, 1);
	folios_put_refs(&r->w->q, rest, ones, n);
}

static void op_resv(struct thread *t)
{
	struct quire *q = &t->r->w->q;

	if (t->r->home)
		return;
	if (t->resv) {
		phys_resv_put(q, t->resv);
		t->resv = 0;
	} else if (phys_resv_get(q, 0, &t->resv)) {
		t->resv = 0;
	}
}

static void op_look(struct thread *t)
{
	struct run *r = t->r;
	struct folio *f = phys_folio(&r->w->q, r->base + rnd(t, FRAMES));

	/* A stranger's look-up, as of reclaim by frame number. */
	if (f && folio_try_get(f)) {
		MUST(!folio_test(f, PG_TAIL));
		sched_yield();
		folio_put(&r->w->q, f);
	}
	MUST(phys_used(&r->w->q, 0) <= FRAMES);
	if (!rnd(t, 8))
		lru_drain_all(&r->w->q);
	if (!rnd(t, 8))
		lru_deactivate_tail(&r->w->q, 0, 1 + (u32)rnd(t, 64));
}

static void op_bar(struct thread *t)
{
	struct run *r = t->r;
	u64 pfn = r->base + rnd(t, FRAMES), nr = 1 + rnd(t, 8);

	if (!r->home || pfn + nr > r->base + FRAMES)
		return;
	/* Only one of the threads: barred ranges must not overlap. */
	if (t->number || phys_bar(&r->w->q, 0, pfn, nr))
		return;
	for (u64 i = pfn - r->base; i < pfn - r->base + nr; i++) {
		MUST(!a32_fetch_add(&r->owned[i], 1));
		MUST(!a32_read(&r->releasing[i]));
	}
	sched_yield();
	for (u64 i = pfn - r->base; i < pfn - r->base + nr; i++)
		MUST(a32_fetch_add(&r->owned[i], (u32)-1) == 1);
	phys_unbar(&r->w->q, pfn, nr);
}

static void *work(void *arg)
{
	struct thread *t = arg;

	for (u64 i = 0; i < t->r->ops; i++) {
		u64 what = rnd(t, 100);

		if (what < 38)
			op_alloc(t);
		else if (what < 50)
			op_free(t);
		else if (what < 78)
			op_lru(t);
		else if (what < 84)
			op_clusters(t);
		else if (what < 91)
			op_split(t);
		else if (what < 94)
			op_resv(t);
		else if (what < 95)
			op_bar(t);
		else
			op_look(t);
	}
	if (t->resv)
		phys_resv_put(&t->r->w->q, t->resv);
	return NULL;
}

static u64 number(const char *name, u64 otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_threads(struct run *r)
{
	struct thread t[THREADS];

	for (u32 i = 0; i < THREADS; i++) {
		t[i] = (struct thread){ .r = r, .number = i };
		t[i].rng = (r->seed + i + 1) * 0x9e3779b97f4a7c15ull | 1;
		assert_int_equal(pthread_create(&t[i].id, NULL, work, &t[i]), 0);
	}
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(t[i].id, NULL);
}

static void random_run(bool home, u64 seed)
{
	struct run *r = calloc(1, sizeof(*r));
	struct quire *q;
	u64 live = 0;

	the_run = r;
	r->home = home;
	r->seed = seed;
	r->ops = number("QUIRE_OPS", 60000);
	r->w = home ? world_home() : world_span(BLOCKS, 2000);
	r->w->on_release = on_release;
	r->base = home ? HOME_BASE : SPAN_BASE;
	q = &r->w->q;
	r->group[0] = CGROUP_ROOT;
	for (u32 i = 1; i < GROUPS; i++)
		r->group[i] = (unsigned)cgroup_create(q, r->group[i - 1], 500);
	inject_chance(&r->w->inject, INJECT_FRAME, 20000, seed);
	inject_chance(&r->w->inject, INJECT_CHARGE, 20000, seed + 1);
	run_threads(r);
	inject_off(&r->w->inject, INJECT_FRAME);
	inject_off(&r->w->inject, INJECT_CHARGE);

	assert_int_equal(phys_check(q), 0);
	lru_drain_all(q);
	for (u32 i = 0; i < SLOTS; i++)
		live += r->slot[i].f ? r->slot[i].nr : 0;
	assert_int_equal(phys_used(q, 0), live);
	assert_int_equal(a64_read(&r->allocated) - a64_read(&r->freed), live);
	assert_true(a64_read(&r->splits) && a64_read(&r->isolated));
	for (u32 i = 0; i < SLOTS; i++)
		if (r->slot[i].f) {
			disown(r, r->slot[i].f, r->slot[i].nr);
			folio_put(q, r->slot[i].f);
		}
	assert_int_equal(cgroup_usage(q, CGROUP_ROOT), 0);
	world_end(r->w);
	free(r);
}

static void home_frames(void **state)
{
	(void)state;
	for (u64 i = 0; i < 3; i++)
		random_run(true, number("QUIRE_SEED", 1) + i);
}

static void buddy_and_reservations(void **state)
{
	(void)state;
	for (u64 i = 0; i < 3; i++)
		random_run(false, number("QUIRE_SEED", 1) + i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(home_frames),
		cmocka_unit_test(buddy_and_reservations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
