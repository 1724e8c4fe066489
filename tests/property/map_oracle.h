/*
 * map_oracle.h - the model behind test_map_random.c: what each word of an object and of a private
 * copy is, and which mappings show it.
 *
 * Locking: a worker's slice of each object and its mappings are its thread's; what all threads use
 * is atomic.
 */
#ifndef TESTS_PROPERTY_MAP_ORACLE_H
#define TESTS_PROPERTY_MAP_ORACLE_H

#include "../unit/object_env.h"
#include "swap/swap_object.h"

#define SLICE    48u
#define OBJECTS  3u /* the last is anonymous */
#define MAPS     8u
#define WORDS    4u
#define THREADS  4u
#define RACERS   24u /* pages of the object that is truncated under its users */
#define COUNTERS 6u  /* pages */

static const u32 word_at[WORDS] __attribute__((unused)) = { 0, 1024, 2048, PAGE_SIZE - 8 };

struct copy {
	bool is;
	u32 unknown; /* words that were beyond the object's end when it was copied */
	u64 w[WORDS];
};

struct mapping {
	u64 va; /* 0: none */
	u32 object, first, pages;
	bool shared, readonly;
	struct copy copy[SLICE];
};

struct config {
	const char *name;
	bool hw;
	u32 threads;
	u64 ops, seed;
	bool injecting, writer;
	bool placed; /* frames have places, and objects want the same ones; as on the host
			machine, flushes are made under entry locks */
};

struct run;

struct worker {
	struct run *run;
	pthread_t thread;
	u32 id;
	u64 rng, op;
	struct space *child;
	struct mapping map[2][MAPS]; /* [1]: of the child */
	u64 added[COUNTERS];
};

struct run {
	const struct config *cfg;
	struct env e;
	struct medium *medium[OBJECTS], *count_medium, *race_medium;
	struct object *o[OBJECTS], *counters, *racer;
	u64 (*model[OBJECTS])[WORDS];
	u64 size[OBJECTS];
	u64 count_va, race_va, race_private;
	u64 places;     /* first frame of those that are set aside */
	a32_t race_gen; /* odd while its size changes */
	struct worker w[THREADS];
	a64_t wrong, refused;
};

static inline u64 rnd(struct worker *w, u64 below)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (w->rng >> 11) % below;
}

static inline bool chance(struct worker *w, u32 percent)
{
	return rnd(w, 100) < percent;
}

#define wrong(w, ...)                                                                              \
	do {                                                                                       \
		if (a64_add_return(&(w)->run->wrong, 1) < 8) {                                     \
			fprintf(stderr,                                                            \
				"%s: seed %llu, thread %u, operation %llu: ", (w)->run->cfg->name, \
				(unsigned long long)(w)->run->cfg->seed, (w)->id,                  \
				(unsigned long long)(w)->op);                                      \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
		}                                                                                  \
	} while (0)

static inline bool excused(struct worker *w, int rc)
{
	if (!w->run->cfg->injecting || (rc != -ENOMEM && rc != -EIO && rc != -EAGAIN))
		return false;
	a64_add(&w->run->refused, 1);
	return true;
}

/* Again until it is not refused for an injected failure. */
#define until_done(w, call)                                     \
	({                                                      \
		int rc_;                                        \
		u32 tries_ = 0;                                 \
		do {                                            \
			rc_ = (call);                           \
		} while (excused(w, rc_) && ++tries_ < 100000); \
		rc_;                                            \
	})

#define must(w, call)                                          \
	do {                                                   \
		int must_ = until_done(w, call);               \
		if (must_)                                     \
			wrong(w, "%s gives %d", #call, must_); \
	} while (0)

/* ---- the model ---- */

static inline u64 *model_word(struct run *r, const struct mapping *m, u32 page, u32 k)
{
	return &r->model[m->object][m->first + page][k];
}

/* Byte offset of a word in its object. */
static inline u64 offset_of(const struct mapping *m, u32 page, u32 k)
{
	return PG(m->first + page) + word_at[k];
}

static inline bool beyond(struct run *r, const struct mapping *m, u32 page)
{
	return PG(m->first + page) >= r->size[m->object];
}

static inline bool tail_word(struct run *r, const struct mapping *m, u32 page, u32 k)
{
	return offset_of(m, page, k) >= r->size[m->object];
}

static inline struct space *space_of(struct worker *w, u32 which)
{
	return which ? w->child : w->run->e.s;
}

static inline struct mapping *some_map(struct worker *w, u32 *which)
{
	struct mapping *m;

	*which = w->child && chance(w, 40);
	m = &w->map[*which][rnd(w, MAPS)];
	return m->va ? m : NULL;
}

static inline void copy_now(struct run *r, struct mapping *m, u32 page)
{
	struct copy *c = &m->copy[page];

	c->is = true;
	c->unknown = 0;
	for (u32 k = 0; k < WORDS; k++) {
		c->w[k] = *model_word(r, m, page, k);
		if (tail_word(r, m, page, k))
			c->unknown |= 1u << k;
	}
}

#endif
