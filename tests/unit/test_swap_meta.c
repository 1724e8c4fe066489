/*
 * Metadata beside the bytes (swap/meta.h): each 64-byte line of a page has a tag, kept by frame
 * while the page is resident and by slot while it is swapped out. Every access checks bytes and
 * tags against each other; a save records the bytes too, so that one that comes too early (stores
 * still get through) or a restore that comes too late is seen.
 */
#include "core_env.h"

#include <pthread.h>
#include <stdlib.h>

#include "swap/meta.h"

#define LINES  64u
#define FRAMES 131072u
#define SLOTS  65536u

struct saved {
	bool live;
	u64 first, last; /* words of the page at the time */
	u8 tag[LINES];
};

struct tags {
	struct env *e;
	u64 base; /* frame number of tag[0] */
	pthread_mutex_t lock;
	u8 (*tag)[LINES];
	struct saved *saved;
	u64 live, saves, restores, refused, copies;
	u32 refuse_every; /* 0: nothing is refused */
	void *space;
	u64 refuse_base;
};

static u8 *tags_of(struct tags *t, u64 pfn)
{
	assert_true(pfn >= t->base && pfn - t->base < FRAMES);
	return t->tag[pfn - t->base];
}

static void look(struct tags *t, u64 pfn, u64 *first, u64 *last)
{
	const u64 *w = t->e->m->ops->frame_window(t->e->m, pfn);

	assert_non_null(w);
	*first = __atomic_load_n(&w[0], __ATOMIC_RELAXED);
	*last = __atomic_load_n(&w[PAGE_SIZE / 8 - 1], __ATOMIC_RELAXED);
}

static bool refuses(struct tags *t, const struct meta_page *p)
{
	return t->refuse_every && p->space == t->space &&
	       ((p->va - t->refuse_base) >> PAGE_SHIFT) % t->refuse_every == 0;
}

static int save(void *ctx, const struct meta_page *p)
{
	struct tags *t = ctx;
	struct saved *s = &t->saved[p->slot];

	assert_true(p->slot < SLOTS);
	pthread_mutex_lock(&t->lock);
	if (refuses(t, p)) {
		t->refused++;
		pthread_mutex_unlock(&t->lock);
		return -ENOMEM;
	}
	memcpy(s->tag, tags_of(t, p->pfn), LINES);
	look(t, p->pfn, &s->first, &s->last);
	t->live += !s->live;
	s->live = true;
	t->saves++;
	pthread_mutex_unlock(&t->lock);
	return 0;
}

static void restore(void *ctx, const struct meta_page *p)
{
	struct tags *t = ctx;
	struct saved *s = &t->saved[p->slot];
	u64 first, last;

	pthread_mutex_lock(&t->lock);
	assert_true(s->live);
	/* On home frames the new bytes are not there yet. */
	if (!t->e->home) {
		look(t, p->pfn, &first, &last);
		assert_int_equal(first, s->first);
		assert_int_equal(last, s->last);
	}
	memcpy(tags_of(t, p->pfn), s->tag, LINES);
	t->restores++;
	pthread_mutex_unlock(&t->lock);
}

static void drop(void *ctx, u64 slot)
{
	struct tags *t = ctx;

	pthread_mutex_lock(&t->lock);
	assert_true(t->saved[slot].live);
	t->saved[slot].live = false;
	t->live--;
	pthread_mutex_unlock(&t->lock);
}

static void copy(void *ctx, u64 to_pfn, u64 from_pfn)
{
	struct tags *t = ctx;

	pthread_mutex_lock(&t->lock);
	memcpy(tags_of(t, to_pfn), tags_of(t, from_pfn), LINES);
	t->copies++;
	pthread_mutex_unlock(&t->lock);
}

static const struct meta_ops ops = { save, restore, drop, copy };

static void tags_open(struct tags *t, struct env *e, u32 kind, u64 limit)
{
	memset(t, 0, sizeof(*t));
	env_open(e, kind, limit, NULL);
	t->e = e;
	t->space = e->s;
	t->base = e->home ? space_usable(e->s).start >> PAGE_SHIFT : 0;
	t->tag = calloc(FRAMES, LINES);
	t->saved = calloc(SLOTS, sizeof(*t->saved));
	assert_non_null(t->tag);
	assert_non_null(t->saved);
	assert_int_equal(pthread_mutex_init(&t->lock, NULL), 0);
	meta_register(e->q, &ops, t);
}

/* Nothing is saved any more once no space is left. */
static void tags_close(struct tags *t)
{
	env_close(t->e);
	assert_int_equal(t->live, 0);
	free(t->tag);
	free(t->saved);
	pthread_mutex_destroy(&t->lock);
}

static u8 line_tag(u64 tag, u64 i, u32 line)
{
	return (u8)((tag * 31 + i) * 0x9e3779b97f4a7c15ull >> 40) + (u8)line;
}

/* The page held by a pin, so that bytes and tags belong together; each thread by itself. */
static struct folio *hold(struct env *e, u64 va, u32 access)
{
	struct folio *page;

	assert_int_equal(
		pin_fast(e->q, &e->s->fs, (struct range){ va, va + PAGE_SIZE }, access, &page), 1);
	return page;
}

static void tagged_store(struct tags *t, struct env *e, unsigned cpu, u64 va, u64 tag, u64 i)
{
	u64 words[PAGE_SIZE / 8];
	struct folio *page;
	u8 *tags;

	env_page(words, tag, i);
	page = hold(e, va, ACCESS_WRITE);
	assert_int_equal(sim_store(e->m, cpu, e->s->ms, va, words, sizeof(words)), 0);
	tags = tags_of(t, (u64)folio_pfn(e->q, page));
	for (u32 l = 0; l < LINES; l++)
		tags[l] = line_tag(tag, i, l);
	unpin_pages(e->q, &page, 1);
}

static void tagged_load(struct tags *t, struct env *e, unsigned cpu, u64 va, u64 tag, u64 i)
{
	u64 want[PAGE_SIZE / 8], got[PAGE_SIZE / 8];
	struct folio *page = hold(e, va, ACCESS_READ);
	u8 *tags = tags_of(t, (u64)folio_pfn(e->q, page));

	env_page(want, tag, i);
	assert_int_equal(sim_load(e->m, cpu, e->s->ms, va, got, sizeof(got)), 0);
	assert_memory_equal(got, want, sizeof(want));
	for (u32 l = 0; l < LINES; l++)
		assert_int_equal(tags[l], line_tag(tag, i, l));
	unpin_pages(e->q, &page, 1);
}

static void store_all(struct tags *t, struct env *e, u64 va, u64 n, u64 tag)
{
	for (u64 i = 0; i < n; i++)
		tagged_store(t, e, 0, va + PG(i), tag, i);
}

static void load_all(struct tags *t, struct env *e, u64 va, u64 n, u64 tag, u64 first)
{
	for (u64 i = 0; i < n; i++)
		tagged_load(t, e, 0, va + PG(i), tag, first + i);
}

static void out_and_in(u32 kind)
{
	struct tags t;
	struct env e;
	u64 va, saves;

	tags_open(&t, &e, kind, 0);
	va = env_map(&e, 300, RW, 0);
	store_all(&t, &e, va, 300, 1);
	env_pageout(&e, va, 300);
	assert_int_equal(space_resident_pages(e.s), 0);
	assert_int_equal(t.live, 300);
	/* A frame that comes back has another page's tags, until they are restored. */
	memset(t.tag, 0xee, (size_t)FRAMES * LINES);
	load_all(&t, &e, va, 300, 1, 0);
	assert_int_equal(t.restores, 300);
	/* The copies were kept; what is saved is saved anew all the same: tags change without the
	 * bytes. */
	saves = t.saves;
	tags_of(&t, entry_pfn(env_entry(&e, va)))[5] ^= 1;
	env_pageout(&e, va, 300);
	assert_int_equal(t.saves, saves + 300);
	assert_int_equal(env_load(&e, va), 0);
	tags_of(&t, entry_pfn(env_entry(&e, va)))[5] ^= 1;
	load_all(&t, &e, va, 300, 1, 0);
	/* Dropped with their slots: zapped, unmapped, written. */
	env_pageout(&e, va, 300);
	assert_int_equal(t.live, 300);
	assert_int_equal(space_advise(e.q, e.s, va, PG(100), ADVISE_DONTNEED), 0);
	assert_int_equal(t.live, 200);
	assert_int_equal(space_unmap(e.q, e.s, va + PG(100), PG(50)), 0);
	assert_int_equal(t.live, 150);
	for (u64 i = 150; i < 200; i++)
		tagged_store(&t, &e, 0, va + PG(i), 2, i);
	load_all(&t, &e, va + PG(150), 50, 2, 150);
	load_all(&t, &e, va + PG(200), 100, 1, 200);
	tags_close(&t);
}
FOR_EACH_KIND(out_and_in)

static void under_pressure(u32 kind)
{
	struct tags t;
	struct env e;
	u64 va;

	tags_open(&t, &e, kind, 128);
	va = env_map(&e, 1024, RW, 0);
	for (u32 round = 0; round < 3; round++) {
		store_all(&t, &e, va, 1024, round);
		load_all(&t, &e, va, 1024, round, 0);
	}
	assert_true(cgroup_peak(e.q, CGROUP_ROOT) <= 128);
	assert_true(t.saves > 2000);
	tags_close(&t);
}
FOR_EACH_KIND(under_pressure)

/* Every third page is refused: it stays as it was, whatever folio it was in; the others go. */
static void refused(u32 kind)
{
	struct tags t;
	struct env e;
	u64 va, before[96], cow;

	tags_open(&t, &e, kind, 0);
	va = env_map(&e, 96, RW, 0);
	store_all(&t, &e, va, 96, 1);
	t.refuse_every = 3;
	t.refuse_base = va;
	for (u32 i = 0; i < 96; i++)
		before[i] = env_entry(&e, va + PG(i));
	env_pageout(&e, va, 96);
	env_check(&e);
	lru_drain_all(e.q);
	for (u32 i = 0; i < 96; i++) {
		u64 now = env_entry(&e, va + PG(i));
		struct folio *f;

		if (i % 3) {
			assert_true(pte_is_swap(now));
			continue;
		}
		assert_int_equal(now & ~ENTRY_ACCESSED, before[i] & ~ENTRY_ACCESSED);
		f = phys_folio(e.q, entry_pfn(now));
		assert_int_equal(a32_read(&f->ref), 1);
		assert_int_equal(folio_mapcount(f), 1);
		assert_true(page_exclusive(phys_record(e.q, entry_pfn(now))));
		assert_false(folio_test(f, PG_SWAPCACHE));
	}
	assert_int_equal(t.refused, 32);
	assert_int_equal(t.live, 64);
	assert_int_equal(swap_used_slots(e.q), 64);
	cow = stat_read(e.q, STAT_FAULT_COW);
	load_all(&t, &e, va, 96, 1, 0);
	store_all(&t, &e, va, 96, 2);
	assert_int_equal(stat_read(e.q, STAT_FAULT_COW), cow);
	load_all(&t, &e, va, 96, 2, 0);
	/* And under pressure, which they add to. */
	cgroup_set_limit(e.q, CGROUP_ROOT, 64);
	for (u32 round = 3; round < 6; round++) {
		store_all(&t, &e, va, 96, round);
		load_all(&t, &e, va, 96, round, 0);
	}
	assert_int_equal(stat_read(e.q, STAT_OVER_LIMIT), 0);
	tags_close(&t);
}
FOR_EACH_KIND(refused)

/* Slots that two spaces name; pages that are copied on write; a pinned page's copy. */
static void forked(u32 kind)
{
	struct tags t;
	struct env e, c;
	struct folio *page;
	u64 va;

	if (kind & 1)
		return;
	tags_open(&t, &e, kind, 0);
	va = env_map(&e, 64, RW, 0);
	assert_int_equal(space_advise(e.q, e.s, va, PG(64), ADVISE_RANDOM), 0);
	store_all(&t, &e, va, 64, 1);
	env_pageout(&e, va, 16);
	c = e;
	page = hold(&e, va + PG(40), ACCESS_WRITE);
	assert_int_equal(space_fork(e.q, e.s, &c.s), 0);
	unpin_pages(e.q, &page, 1);
	assert_int_equal(t.copies, 1);
	/* Each space's pages are refused by themselves; the other's entries go. */
	env_pageout(&e, va, 64);
	env_pageout(&c, va, 64);
	env_check(&e);
	assert_int_equal(space_resident_pages(c.s), 0);
	assert_int_equal(t.live, 65);
	store_all(&t, &c, va, 32, 2);
	load_all(&t, &e, va, 64, 1, 0);
	load_all(&t, &c, va, 32, 2, 0);
	load_all(&t, &c, va + PG(32), 32, 1, 32);
	env_pageout(&c, va, 64);
	store_all(&t, &e, va, 64, 3);
	load_all(&t, &c, va, 32, 2, 0);
	load_all(&t, &c, va + PG(32), 32, 1, 32);
	space_destroy(e.q, c.s);
	load_all(&t, &e, va, 64, 3, 0);
	tags_close(&t);
}
FOR_EACH_KIND(forked)

/* One space's refusal while the other's entry has gone already: the page serves both. */
static void refuse_one_of_two(u32 kind, bool large)
{
	struct tags t;
	struct env e, c;
	u64 va;

	tags_open(&t, &e, kind, 0);
	va = env_map(&e, 6, RW, 0);
	if (!large)
		assert_int_equal(space_advise(e.q, e.s, va, PG(6), ADVISE_RANDOM), 0);
	store_all(&t, &e, va, 6, 1);
	c = e;
	assert_int_equal(space_fork(e.q, e.s, &c.s), 0);
	for (u32 round = 0; round < 2; round++) {
		t.space = round ? c.s : e.s;
		t.refuse_every = large ? 3 : 1;
		t.refuse_base = va;
		env_pageout(&e, va, 6);
		env_check(&e);
		load_all(&t, &c, va, 6, 1, 0);
		load_all(&t, &e, va, 6, 1, 0);
	}
	t.refuse_every = 0;
	store_all(&t, &c, va, 6, 2);
	load_all(&t, &e, va, 6, 1, 0);
	load_all(&t, &c, va, 6, 2, 0);
	space_destroy(e.q, c.s);
	tags_close(&t);
}
static void refused_once(u32 kind)
{
	if (kind & 1)
		return;
	refuse_one_of_two(kind, false);
	/* A folio of both cannot be split: some of its pages go and come back. */
	refuse_one_of_two(kind, true);
}
FOR_EACH_KIND(refused_once)

/* mremap: resident pages (bytes move on home frames) and swapped ones (entries move). */
static void remapped(u32 kind)
{
	struct tags t;
	struct env e;
	u64 va, to = 0;

	tags_open(&t, &e, kind, 0);
	va = env_map(&e, 40, RW, 0);
	store_all(&t, &e, va, 40, 1);
	env_pageout(&e, va + PG(10), 20);
	assert_int_equal(space_remap(e.q, e.s, va, PG(40), PG(60), 1, 0, &to), 0);
	memset(t.saved[0].tag, 0xee, LINES);
	load_all(&t, &e, to, 40, 1, 0);
	store_all(&t, &e, to, 40, 2);
	env_pageout(&e, to, 40);
	load_all(&t, &e, to, 40, 2, 0);
	tags_close(&t);
}
FOR_EACH_KIND(remapped)

/* What goes out comes back at once: no store takes it, or its entries cannot be made usable. */
static void fails_elsewhere(u32 kind)
{
	struct tags t;
	struct env e;
	u64 va;

	tags_open(&t, &e, kind, 0);
	va = env_map(&e, 64, RW, 0);
	store_all(&t, &e, va, 64, 1);
	inject_every(&e.inject, INJECT_STORE_WRITE, 2);
	env_pageout(&e, va, 64);
	load_all(&t, &e, va, 64, 1, 0);
	inject_off(&e.inject, INJECT_STORE_WRITE);
	env_pageout(&e, va, 64);
	inject_every(&e.inject, INJECT_ENTRIES, 2);
	for (u64 i = 0; i < 64; i++)
		while (env_load(&e, va + PG(i)))
			;
	inject_off(&e.inject, INJECT_ENTRIES);
	load_all(&t, &e, va, 64, 1, 0);
	tags_close(&t);
}
FOR_EACH_KIND(fails_elsewhere)

/* ---- threads: each writes its own pages, all under a limit; stores by stale translations go on
 * while pages are saved ---- */

#define EACH   96u
#define ROUNDS 12u

struct worker {
	struct tags *t;
	pthread_barrier_t *start;
	u64 va;
	unsigned cpu;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct env *e = w->t->e;

	sim_cpu_bind(w->cpu);
	pthread_barrier_wait(w->start);
	for (u64 round = 1; round <= ROUNDS; round++) {
		for (u64 i = 0; i < EACH; i++)
			tagged_store(w->t, e, w->cpu, w->va + PG(i), round * 4 + w->cpu, i);
		/* The same bytes again, unpinned. */
		for (u64 i = 0; i < EACH; i++) {
			u64 words[PAGE_SIZE / 8];

			env_page(words, round * 4 + w->cpu, i);
			assert_int_equal(sim_store(e->m, w->cpu, e->s->ms, w->va + PG(i), words,
						   sizeof(words)),
					 0);
		}
		for (u64 i = 0; i < EACH; i++)
			tagged_load(w->t, e, w->cpu, w->va + PG(i), round * 4 + w->cpu, i);
	}
	return NULL;
}

static void threads(u32 kind)
{
	struct worker w[3];
	pthread_barrier_t start;
	pthread_t th[3];
	struct tags t;
	struct env e;

	tags_open(&t, &e, kind, 64);
	pthread_barrier_init(&start, NULL, 3);
	for (unsigned i = 0; i < 3; i++) {
		w[i] = (struct worker){ &t, &start, env_map(&e, EACH, RW, 0), i };
		assert_int_equal(pthread_create(&th[i], NULL, work, &w[i]), 0);
	}
	for (u32 i = 0; i < 3; i++)
		pthread_join(th[i], NULL);
	assert_true(t.saves > 1000);
	tags_close(&t);
}
FOR_EACH_KIND(threads)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(out_and_in_all),      cmocka_unit_test(under_pressure_all),
		cmocka_unit_test(refused_all),         cmocka_unit_test(forked_all),
		cmocka_unit_test(refused_once_all),    cmocka_unit_test(remapped_all),
		cmocka_unit_test(fails_elsewhere_all), cmocka_unit_test(threads_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
