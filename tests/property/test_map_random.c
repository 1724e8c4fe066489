/*
 * Areas of objects under random operations, against a model of every word: shared and private
 * mappings of objects on a medium and of anonymous ones, in a space and a child of it, with far too
 * little memory, several threads, background writing, and injected failures.
 *
 * Each thread owns a slice of every object's pages, and mappings of it; a thread that is alone also
 * changes sizes. Beside them: counters that all threads add to (no store is lost, whatever
 * write-back and reclaim do meanwhile), and an object that one thread truncates while the others
 * use it. After each sync the medium is looked at, after each phase everything.
 *
 * QUIRE_PROP_SEED=N and QUIRE_PROP_OPS=N override the configuration.
 */
#include "map_oracle.h"

/* ---- using pages ---- */

static void check_word(struct worker *w, u32 which, struct mapping *m, u32 page, u32 k)
{
	struct run *r = w->run;
	struct copy *c = &m->copy[page];
	u64 va = m->va + PG(page) + word_at[k], got = 0, want;
	int rc = sim_load(r->e.m, w->id, space_of(w, which)->ms, va, &got, 8);
	int expected = !c->is && beyond(r, m, page) ? -ENXIO : 0;

	if (rc != expected) {
		if (!excused(w, rc))
			wrong(w, "load of page %u of object %u gives %d, want %d", m->first + page,
			      m->object, rc, expected);
		return;
	}
	if (rc || (c->is ? c->unknown >> k & 1 : tail_word(r, m, page, k)))
		return;
	want = c->is ? c->w[k] : *model_word(r, m, page, k);
	if (got != want)
		wrong(w, "word %u of page %u of object %u (%s%s) is %llx, want %llx", k,
		      m->first + page, m->object, m->shared ? "shared" : "private",
		      c->is ? ", copied" : "", (unsigned long long)got, (unsigned long long)want);
}

static void op_load(struct worker *w)
{
	u32 which;
	struct mapping *m = some_map(w, &which);

	if (m)
		check_word(w, which, m, (u32)rnd(w, m->pages), (u32)rnd(w, WORDS));
}

static void stored(struct run *r, struct mapping *m, u32 page, u32 k, u64 v)
{
	struct copy *c = &m->copy[page];

	if (!m->shared) {
		if (!c->is)
			copy_now(r, m, page);
		c->w[k] = v;
		c->unknown &= ~(1u << k);
	} else if (!tail_word(r, m, page, k)) {
		*model_word(r, m, page, k) = v;
	}
}

static void op_store(struct worker *w)
{
	u32 which;
	struct mapping *m = some_map(w, &which);
	u32 page, k;
	int rc, expected;
	u64 v = w->rng | 1;

	if (!m)
		return;
	page = (u32)rnd(w, m->pages);
	k = (u32)rnd(w, WORDS);
	expected = m->readonly                                  ? -EACCES :
		   !m->copy[page].is && beyond(w->run, m, page) ? -ENXIO :
								  0;
	rc = sim_store(w->run->e.m, w->id, space_of(w, which)->ms, m->va + PG(page) + word_at[k],
		       &v, 8);
	if (rc == expected && !rc)
		stored(w->run, m, page, k, v);
	else if (rc != expected && !excused(w, rc))
		wrong(w, "store gives %d, want %d", rc, expected);
}

static void op_pin(struct worker *w)
{
	u32 which;
	struct mapping *m = some_map(w, &which);
	struct env *e = &w->run->e;
	struct folio *f;
	struct range r;
	u32 page, k = (u32)rnd(w, WORDS);
	u64 v = w->rng | 1;

	if (!m || m->readonly)
		return;
	/* Another thread's fork would copy it while it is written here: that is allowed, and its
	 * child does not look at it, but the race detectors of the build do. */
	if (!m->shared && w->run->cfg->threads > 1)
		return;
	page = (u32)rnd(w, m->pages);
	if (beyond(w->run, m, page) && !m->copy[page].is)
		return;
	r = (struct range){ m->va + PG(page), m->va + PG(page + 1) };
	if (until_done(w, (int)pin_fast(e->q, &space_of(w, which)->fs, r, ACCESS_WRITE, &f)) != 1) {
		wrong(w, "not pinned");
		return;
	}
	/* Pinned for writing is as good as written, for a private mapping. */
	stored(w->run, m, page, k, v);
	__atomic_store_n(
		(u64 *)((u8 *)e->m->ops->frame_window(e->m, folio_pfn(e->q, f)) + word_at[k]), v,
		__ATOMIC_RELAXED);
	if (chance(w, 30))
		(void)!space_advise(e->q, space_of(w, which), r.start, PAGE_SIZE, ADVISE_PAGEOUT);
	unpin_pages(e->q, &f, 1);
}

/* By the calls, in the own slice. */
static void op_call(struct worker *w)
{
	struct run *r = w->run;
	u32 i = (u32)rnd(w, OBJECTS), page = w->id * SLICE + (u32)rnd(w, SLICE);
	u32 k = (u32)rnd(w, WORDS);
	u64 at = PG(page) + word_at[k], v = w->rng | 1;
	s64 n;

	if (at >= r->size[i])
		return;
	if (chance(w, 50)) {
		n = object_write(r->o[i], at, &v, 8);
		if (n == 8)
			r->model[i][page][k] = v;
	} else {
		n = object_read(r->o[i], at, &v, 8, NULL);
		if (n == 8 && v != r->model[i][page][k])
			wrong(w, "read gives %llx, want %llx", (unsigned long long)v,
			      (unsigned long long)r->model[i][page][k]);
	}
	if (n != 8 && !excused(w, (int)n))
		wrong(w, "a call gives %lld", (long long)n);
}

/* ---- mappings ---- */

static void op_map(struct worker *w)
{
	struct mapping *m = &w->map[0][rnd(w, MAPS)];
	u32 flags = chance(w, 60) ? MAP_F_SHARED : 0, at;
	struct env *e = &w->run->e;
	u64 va = 0;
	int rc;

	if (m->va)
		return;
	memset(m, 0, sizeof(*m));
	m->object = (u32)rnd(w, OBJECTS);
	at = (u32)rnd(w, SLICE);
	m->first = w->id * SLICE + at;
	m->pages = 1 + (u32)rnd(w, SLICE - at);
	m->shared = flags & MAP_F_SHARED;
	if (chance(w, 10))
		flags |= MAP_F_POPULATE;
	rc = space_map_object(e->q, e->s, 0, PG(m->pages), RW, flags, w->run->o[m->object],
			      PG(m->first), &va);
	if (rc && !excused(w, rc))
		wrong(w, "map gives %d", rc);
	m->va = rc ? 0 : va;
	/* Populated for writing: private pages are copied at once, as far as there is memory; who
	 * knows which. So they are all written. */
	for (u32 p = 0; !rc && (flags & MAP_F_POPULATE) && !m->shared && p < m->pages; p++) {
		u64 v = w->rng | 1;

		if (beyond(w->run, m, p))
			continue;
		must(w, sim_store(e->m, w->id, e->s->ms, va + PG(p), &v, 8));
		stored(w->run, m, p, 0, v);
	}
}

static void drop_front(struct mapping *m, u32 n)
{
	memmove(m->copy, m->copy + n, (SLICE - n) * sizeof(*m->copy));
	m->va += PG(n);
	m->first += n;
	m->pages -= n;
}

static void op_unmap(struct worker *w)
{
	u32 which, n;
	struct mapping *m = some_map(w, &which);
	struct quire *q = w->run->e.q;

	if (!m)
		return;
	n = 1 + (u32)rnd(w, m->pages);
	if (chance(w, 50)) {
		must(w, space_unmap(q, space_of(w, which), m->va, PG(n)));
		drop_front(m, n);
	} else {
		must(w, space_unmap(q, space_of(w, which), m->va + PG(m->pages - n), PG(n)));
		m->pages -= n;
		memset(m->copy + m->pages, 0, n * sizeof(*m->copy));
	}
	if (!m->pages)
		m->va = 0;
}

static void op_protect(struct worker *w)
{
	u32 which;
	struct mapping *m = some_map(w, &which);

	if (!m)
		return;
	m->readonly = !m->readonly;
	must(w, space_protect(w->run->e.q, space_of(w, which), m->va, PG(m->pages),
			      m->readonly ? PROT_BITS_READ : RW));
}

static void op_remap(struct worker *w)
{
	u32 which;
	struct mapping *m = some_map(w, &which);
	struct quire *q = w->run->e.q;
	struct space *s;
	u64 to = 0, out;
	int rc;

	if (!m)
		return;
	s = space_of(w, which);
	/* Somewhere free, where nobody else maps anything meanwhile. */
	must(w, space_map(q, s, 0, PG(m->pages), 0, 0, &to));
	rc = space_remap(q, s, m->va, PG(m->pages), PG(m->pages), 3, to, &out);
	/* Advice may have made more than one area of it. Refused, it may have freed the new place,
	 * which is another thread's by now: it is not tried again. */
	if (!rc)
		m->va = to;
	else if (rc != -EFAULT && !excused(w, rc))
		wrong(w, "remap gives %d", rc);
}

static void op_advise(struct worker *w)
{
	static const int advice[] = { ADVISE_DONTNEED, ADVISE_PAGEOUT, ADVISE_COLD,
				      ADVISE_WILLNEED, ADVISE_RANDOM,  ADVISE_NORMAL,
				      ADVISE_PAGEOUT };
	u32 which, at, n;
	struct mapping *m = some_map(w, &which);
	int a = advice[rnd(w, ARRAY_SIZE(advice))], rc;

	if (!m)
		return;
	at = (u32)rnd(w, m->pages);
	n = 1 + (u32)rnd(w, m->pages - at);
	rc = until_done(w, space_advise(w->run->e.q, space_of(w, which), m->va + PG(at), PG(n), a));
	if (rc)
		wrong(w, "advice %d gives %d", a, rc);
	if (a == ADVISE_DONTNEED)
		memset(m->copy + at, 0, n * sizeof(*m->copy));
}

static void op_lock(struct worker *w)
{
	u32 which;
	struct mapping *m = some_map(w, &which);
	struct quire *q = w->run->e.q;
	int rc;

	if (!m || m->pages > 8 || !m->shared)
		return;
	rc = space_mlock(q, space_of(w, which), m->va, PG(m->pages), chance(w, 50));
	if (rc && rc != -ENOMEM && !excused(w, rc))
		wrong(w, "mlock gives %d", rc);
	must(w, space_munlock(q, space_of(w, which), m->va, PG(m->pages)));
}

static void op_fork(struct worker *w)
{
	struct env *e = &w->run->e;

	if (w->child) {
		space_destroy(e->q, w->child);
		w->child = NULL;
		memset(w->map[1], 0, sizeof(w->map[1]));
		return;
	}
	if (until_done(w, space_fork(e->q, e->s, &w->child))) {
		wrong(w, "fork fails");
		return;
	}
	memcpy(w->map[1], w->map[0], sizeof(w->map[1]));
}

/* ---- media ---- */

static void check_medium(struct worker *w, u32 i, u32 first, u32 n)
{
	struct run *r = w->run;

	if (!r->medium[i])
		return;
	pthread_mutex_lock(&r->medium[i]->lock);
	for (u32 p = first; p < first + n; p++)
		for (u32 k = 0; k < WORDS; k++) {
			u64 at = PG(p) + word_at[k], got;

			memcpy(&got, r->medium[i]->bytes + at, 8);
			if (at < r->size[i] && got != r->model[i][p][k])
				wrong(w, "after a sync page %u of object %u has %llx, want %llx", p,
				      i, (unsigned long long)got,
				      (unsigned long long)r->model[i][p][k]);
		}
	pthread_mutex_unlock(&r->medium[i]->lock);
}

static void op_sync(struct worker *w)
{
	u32 which;
	struct mapping *m = some_map(w, &which);
	int rc;

	if (!m)
		return;
	rc = space_sync(w->run->e.q, space_of(w, which), m->va, PG(m->pages), SPACE_SYNC_WAIT);
	if (rc && !excused(w, rc))
		wrong(w, "sync gives %d", rc);
	if (!rc && m->shared)
		check_medium(w, m->object, m->first, m->pages);
}

/* Words in [start, end) of the object are zero. */
static void zero_words(struct run *r, u32 i, u64 start, u64 end)
{
	for (u64 p = start >> PAGE_SHIFT; PG(p) < end; p++)
		for (u32 k = 0; k < WORDS; k++)
			if (PG(p) + word_at[k] >= start && PG(p) + word_at[k] < end)
				r->model[i][p][k] = 0;
}

static void drop_copies(struct worker *w, u32 i, u64 from_page)
{
	for (u32 s = 0; s < 2; s++)
		for (u32 j = 0; j < MAPS; j++) {
			struct mapping *m = &w->map[s][j];

			for (u32 p = 0; m->va && m->object == i && p < m->pages; p++)
				if (m->first + p >= from_page)
					m->copy[p].is = false;
		}
}

static void op_truncate(struct worker *w)
{
	struct run *r = w->run;
	u32 i = (u32)rnd(w, OBJECTS);
	u64 size = rnd(w, SLICE * PAGE_SIZE / 8 + 1) * 8;

	if (r->cfg->threads > 1)
		return;
	must(w, object_truncate(r->o[i], size));
	zero_words(r, i, min(size, r->size[i]), PG(SLICE));
	if (size < r->size[i])
		drop_copies(w, i, DIV_UP(size, PAGE_SIZE));
	r->size[i] = size;
}

static void op_punch(struct worker *w)
{
	struct run *r = w->run;
	u32 i = (u32)rnd(w, OBJECTS);
	u64 start = PG(w->id * SLICE) + rnd(w, SLICE * PAGE_SIZE / 8) * 8;
	u64 end = min(start + rnd(w, 4 * PAGE_SIZE / 8 + 1) * 8, PG((w->id + 1) * SLICE));

	end = min(end, r->size[i]);
	if (start >= end)
		return;
	must(w, object_punch(r->o[i], start, end - start));
	zero_words(r, i, start, end);
}

/* ---- what all threads do at once ---- */

static void op_count(struct worker *w)
{
	u32 which = w->child && chance(w, 30), i = (u32)rnd(w, COUNTERS);
	u64 old;

	must(w, sim_fetch_add(w->run->e.m, w->id, space_of(w, which)->ms, w->run->count_va + PG(i),
			      1, &old));
	w->added[i]++;
	if (chance(w, 5)) {
		int rc = object_sync(w->run->counters, i, i, NULL);

		if (rc && !excused(w, rc))
			wrong(w, "sync of counters gives %d", rc);
	}
	if (chance(w, 5))
		(void)!space_advise(w->run->e.q, space_of(w, which), w->run->count_va + PG(i),
				    PAGE_SIZE, chance(w, 50) ? ADVISE_DONTNEED : ADVISE_PAGEOUT);
}

/* While nobody changes the size, what lies beyond it can be had from no area: neither the object's
 * page nor a copy that was left behind. */
static void check_cut(struct worker *w, struct mspace *ms, u64 base)
{
	struct run *r = w->run;
	u32 gen = a32_read_acquire(&r->race_gen);
	u64 end = DIV_UP(object_size(r->racer), PAGE_SIZE), page, v;
	int rc;

	if (gen & 1 || end >= RACERS)
		return;
	page = end + rnd(w, RACERS - end);
	rc = sim_load(r->e.m, w->id, ms, base + PG(page), &v, 8);
	if (rc != -ENXIO && a32_read(&r->race_gen) == gen && !excused(w, rc))
		wrong(w, "page %llu beyond the end gives %d", (unsigned long long)page, rc);
}

static void race_resize(struct worker *w)
{
	struct run *r = w->run;

	a32_fetch_add(&r->race_gen, 1);
	if (chance(w, 80))
		must(w, object_truncate(r->racer, rnd(w, PG(RACERS) / 8 + 1) * 8));
	else
		must(w, object_punch(r->racer, PG(rnd(w, RACERS)), 2 * PAGE_SIZE));
	a32_fetch_add(&r->race_gen, 1);
}

static void op_race(struct worker *w)
{
	struct run *r = w->run;
	struct mspace *ms = space_of(w, w->child && chance(w, 50))->ms;
	u32 page = (u32)rnd(w, RACERS);
	u64 base = chance(w, 50) ? r->race_va : r->race_private;
	u64 tag = page * 1000003ull + 7, va = base + PG(page) + word_at[1], v = tag;
	int rc;

	if (w->id == 0 && chance(w, 30)) {
		race_resize(w);
		return;
	}
	if (chance(w, 30)) {
		check_cut(w, ms, base);
		return;
	}
	if (chance(w, 50)) {
		rc = sim_store(r->e.m, w->id, ms, va, &v, 8);
	} else {
		rc = sim_load(r->e.m, w->id, ms, va, &v, 8);
		if (!rc && v != tag && v)
			wrong(w, "the raced page %u has %llx", page, (unsigned long long)v);
	}
	if (rc && rc != -ENXIO && !excused(w, rc))
		wrong(w, "the raced page gives %d", rc);
}

static void op_any(struct worker *w)
{
	static const struct {
		u32 weight;
		void (*fn)(struct worker *w);
	} ops[] = {
		{ 300, op_load }, { 300, op_store },  { 40, op_call },    { 60, op_map },
		{ 30, op_unmap }, { 15, op_protect }, { 15, op_remap },   { 40, op_advise },
		{ 3, op_fork },   { 10, op_sync },    { 6, op_truncate }, { 8, op_punch },
		{ 80, op_count }, { 60, op_race },    { 15, op_pin },     { 5, op_lock },
	};
	u32 at = (u32)rnd(w, 987);

	for (u32 i = 0; i < ARRAY_SIZE(ops); i++) {
		if (at < ops[i].weight) {
			ops[i].fn(w);
			return;
		}
		at -= ops[i].weight;
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	sim_cpu_bind(w->id);
	for (w->op = 0; w->op < w->run->cfg->ops && !a64_read(&w->run->wrong); w->op++)
		op_any(w);
	return NULL;
}

/* ---- the run ---- */

static void check_all(struct run *r)
{
	for (u32 t = 0; t < r->cfg->threads; t++) {
		struct worker *w = &r->w[t];

		sim_cpu_bind(t);
		for (u32 s = 0; s < 2; s++)
			for (u32 i = 0; i < MAPS; i++)
				for (u32 p = 0; w->map[s][i].va && p < w->map[s][i].pages; p++)
					for (u32 k = 0; k < WORDS; k++)
						check_word(w, s, &w->map[s][i], p, k);
	}
	for (u32 i = 0; i < OBJECTS; i++) {
		assert_int_equal(object_sync(r->o[i], 0, OBJECT_INDEX_MAX, NULL), 0);
		check_medium(&r->w[0], i, 0, r->cfg->threads * SLICE);
	}
	assert_int_equal(object_sync(r->counters, 0, COUNTERS, NULL), 0);
	for (u32 i = 0; i < COUNTERS; i++) {
		u64 got, sum = 0;

		for (u32 t = 0; t < r->cfg->threads; t++)
			sum += r->w[t].added[i];
		memcpy(&got, r->count_medium->bytes + PG(i), 8);
		assert_int_equal(got, sum);
	}
	assert_int_equal(a64_read(&r->wrong), 0);
	env_check(&r->e);
}

static void arm(struct run *r)
{
	static const enum inject_point points[] = {
		INJECT_ARENA,       INJECT_FRAME,   INJECT_CHARGE,        INJECT_TABLE,
		INJECT_SLOT,        INJECT_ENTRIES, INJECT_STORE_WRITE,   INJECT_STORE_READ,
		INJECT_OBJECT_READ, INJECT_PIN,     INJECT_FOLIO_TRYLOCK, INJECT_OBJECT_WRITE,
		INJECT_OBJECT_SYNC,
	};

	for (u32 i = 0; i < ARRAY_SIZE(points); i++)
		inject_chance(&r->e.inject, points[i], 3000, r->cfg->seed + i);
}

static void set_up(struct run *r)
{
	u32 pages = r->cfg->threads * SLICE;
	struct object_config oc = { .size = PG(pages) };
	struct env *e = &r->e;

	env_open(e, (r->cfg->hw ? 2 : 0) | (r->cfg->placed ? 12 : 0), pages + 32, NULL);
	if (r->cfg->placed)
		assert_int_equal(phys_resv_get(e->q, 0, &r->places), 0);
	for (u32 i = 0; i < OBJECTS; i++) {
		r->model[i] = calloc(pages, sizeof(*r->model[i]));
		r->size[i] = PG(pages);
		if (i < OBJECTS - 1) {
			r->medium[i] = medium_new();
			r->o[i] = object_new(e, r->medium[i], PG(pages));
		} else {
			assert_int_equal(object_create_anon(e->q, &oc, &r->o[i]), 0);
		}
	}
	r->count_medium = medium_new();
	r->counters = object_new(e, r->count_medium, PG(COUNTERS));
	r->race_medium = medium_new();
	r->racer = object_new(e, r->race_medium, PG(RACERS));
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(COUNTERS), RW, MAP_F_SHARED,
					  r->counters, 0, &r->count_va),
			 0);
	assert_int_equal(space_map_object(e->q, e->s, 0, PG(RACERS), RW, MAP_F_SHARED, r->racer, 0,
					  &r->race_va),
			 0);
	assert_int_equal(
		space_map_object(e->q, e->s, 0, PG(RACERS), RW, 0, r->racer, 0, &r->race_private),
		0);
	for (u32 i = 0; r->places && i < OBJECTS; i++)
		object_prefer_frames(r->o[i], r->places);
	if (r->places) {
		object_prefer_frames(r->counters, r->places);
		object_prefer_frames(r->racer, r->places + 5);
	}
	if (r->cfg->writer)
		assert_int_equal(objects_start_writer(e->q, 2, 16), 0);
}

static void take_down(struct run *r)
{
	struct range u = space_usable(r->e.s);

	for (u32 t = 0; t < r->cfg->threads; t++)
		if (r->w[t].child)
			space_destroy(r->e.q, r->w[t].child);
	assert_int_equal(space_unmap(r->e.q, r->e.s, u.start, range_size(u)), 0);
	for (u32 i = 0; i < OBJECTS; i++) {
		object_put(r->o[i]);
		free(r->model[i]);
	}
	object_put(r->counters);
	object_put(r->racer);
	assert_int_equal(objects_live(r->e.q), 0);
	if (r->places)
		phys_resv_put(r->e.q, r->places);
	env_close(&r->e);
	for (u32 i = 0; i < OBJECTS - 1; i++)
		medium_free(r->medium[i]);
	medium_free(r->count_medium);
	medium_free(r->race_medium);
}

static u64 from_env(const char *name, u64 otherwise)
{
	const char *v = getenv(name);

	return v && *v ? strtoull(v, NULL, 0) : otherwise;
}

static void run_one(void **state)
{
	struct config cfg = *(const struct config *)*state;
	struct run *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	cfg.seed = from_env("QUIRE_PROP_SEED", cfg.seed);
	cfg.ops = from_env("QUIRE_PROP_OPS", cfg.ops);
	r->cfg = &cfg;
	set_up(r);
	if (cfg.injecting)
		arm(r);
	for (u32 t = 0; t < cfg.threads; t++) {
		r->w[t].run = r;
		r->w[t].id = t;
		r->w[t].rng = (cfg.seed + t + 1) * 0x9e3779b97f4a7c15ull;
		assert_int_equal(pthread_create(&r->w[t].thread, NULL, work, &r->w[t]), 0);
	}
	for (u32 t = 0; t < cfg.threads; t++)
		pthread_join(r->w[t].thread, NULL);
	for (u32 i = 0; i < NR_INJECT_POINTS; i++)
		inject_off(&r->e.inject, i);
	objects_stop_writer(r->e.q);
	printf("%s: %llu refused, %llu read, %llu written, %llu swapped out, %llu copied\n",
	       cfg.name, (unsigned long long)a64_read(&r->refused),
	       (unsigned long long)stat_read(r->e.q, STAT_OBJECT_READ_PAGES),
	       (unsigned long long)stat_read(r->e.q, STAT_OBJECT_WRITE_PAGES),
	       (unsigned long long)stat_read(r->e.q, STAT_SWAP_OUT_PAGES),
	       (unsigned long long)stat_read(r->e.q, STAT_FAULT_COW));
	check_all(r);
	assert_true(stat_read(r->e.q, STAT_OBJECT_WRITE_PAGES) > 0);
	assert_true(stat_read(r->e.q, STAT_SWAP_OUT_PAGES) > 0);
	assert_true(!cfg.placed || stat_read(r->e.q, STAT_MIGRATED) > 0);
	take_down(r);
	free(r);
}

static struct config configs[] = {
	{ "sw_1", .threads = 1, .ops = 40000, .seed = 1 },
	{ "hw_1", .hw = true, .threads = 1, .ops = 40000, .seed = 2 },
	{ "sw_1_fail", .threads = 1, .ops = 40000, .seed = 3, .injecting = true },
	{ "hw_1_fail", .hw = true, .threads = 1, .ops = 40000, .seed = 4, .injecting = true,
	  .writer = true },
	{ "sw_4", .threads = 4, .ops = 15000, .seed = 5, .writer = true },
	{ "hw_4", .hw = true, .threads = 4, .ops = 15000, .seed = 6, .writer = true },
	{ "sw_4_fail", .threads = 4, .ops = 15000, .seed = 7, .injecting = true, .writer = true },
	{ "hw_4_fail", .hw = true, .threads = 4, .ops = 15000, .seed = 8, .injecting = true },
	{ "placed_1_fail", .threads = 1, .ops = 40000, .seed = 9, .injecting = true,
	  .placed = true },
	{ "placed_4", .hw = true, .threads = 4, .ops = 15000, .seed = 10, .writer = true,
	  .placed = true },
};

#define TEST(i)                                                   \
	{                                                         \
		configs[i].name, run_one, NULL, NULL, &configs[i] \
	}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(0), TEST(1), TEST(2), TEST(3), TEST(4),
					    TEST(5), TEST(6), TEST(7), TEST(8), TEST(9) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
