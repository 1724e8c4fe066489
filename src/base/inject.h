/*
 * inject.h - fault injection: each point fails on the nth call, every nth call, or by chance.
 *
 * Off costs one relaxed load. `inject_fail` returns true when the caller must behave as if it
 * failed.
 * Locking: atomics only; settings may change at any time.
 */
#ifndef QUIRE_BASE_INJECT_H
#define QUIRE_BASE_INJECT_H

#include "base/atomic.h"

enum inject_point {
#define INJECT(name, text) INJECT_##name,
#include "base/inject.def"
#undef INJECT
	NR_INJECT_POINTS
};

struct inject {
	a32_t armed; /* number of armed points; 0: the fast way out */
	struct {
		a64_t calls;
		a64_t hits;
		a64_t fail_at;	   /* fail exactly the nth call from arming (1 = next); 0 off */
		a64_t every;	   /* fail every nth call; 0 off */
		a64_t chance_ppm;  /* fail at random, parts per million; 0 off */
		a64_t seed;
	} point[NR_INJECT_POINTS];
};

void inject_init(struct inject *inj);
void inject_at(struct inject *inj, enum inject_point p, u64 nth);
void inject_every(struct inject *inj, enum inject_point p, u64 n);
void inject_chance(struct inject *inj, enum inject_point p, u64 ppm, u64 seed);
void inject_off(struct inject *inj, enum inject_point p);
u64 inject_hits(const struct inject *inj, enum inject_point p);
const char *inject_name(enum inject_point p);
bool inject_fail_slow(struct inject *inj, enum inject_point p);

static inline bool inject_fail(struct inject *inj, enum inject_point p)
{
	return unlikely(inj && a32_read(&inj->armed)) && inject_fail_slow(inj, p);
}

#endif
