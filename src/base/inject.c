/* inject.c - fault injection: settings, counters, and the decision. */
#include "base/inject.h"

#include <string.h>

static const char *const names[NR_INJECT_POINTS] = {
#define INJECT(name, text) [INJECT_##name] = #name,
#include "base/inject.def"
#undef INJECT
};

void inject_init(struct inject *inj)
{
	memset(inj, 0, sizeof(*inj));
}

/* Setting a point anew starts its count again. */
static void inject_set(struct inject *inj, enum inject_point p, u64 at, u64 every, u64 ppm)
{
	a64_set(&inj->point[p].calls, 0);
	a64_set(&inj->point[p].fail_at, at);
	a64_set(&inj->point[p].every, every);
	a64_set(&inj->point[p].chance_ppm, ppm);
}

static bool inject_is_armed(const struct inject *inj, enum inject_point p)
{
	return a64_read(&inj->point[p].fail_at) || a64_read(&inj->point[p].every) ||
	       a64_read(&inj->point[p].chance_ppm);
}

static void inject_arm(struct inject *inj, enum inject_point p, u64 at, u64 every, u64 ppm)
{
	bool was = inject_is_armed(inj, p);
	bool is = at || every || ppm;

	inject_set(inj, p, at, every, ppm);
	if (is && !was)
		a32_fetch_add(&inj->armed, 1);
	else if (was && !is)
		a32_sub_return(&inj->armed, 1);
}

void inject_at(struct inject *inj, enum inject_point p, u64 nth)
{
	inject_arm(inj, p, nth, 0, 0);
}

void inject_every(struct inject *inj, enum inject_point p, u64 n)
{
	inject_arm(inj, p, 0, n, 0);
}

void inject_chance(struct inject *inj, enum inject_point p, u64 ppm, u64 seed)
{
	a64_set(&inj->point[p].seed, seed);
	inject_arm(inj, p, 0, 0, ppm);
}

void inject_off(struct inject *inj, enum inject_point p)
{
	inject_arm(inj, p, 0, 0, 0);
}

u64 inject_hits(const struct inject *inj, enum inject_point p)
{
	return a64_read(&inj->point[p].hits);
}

const char *inject_name(enum inject_point p)
{
	return p < NR_INJECT_POINTS ? names[p] : "?";
}

/*
 * The nth answer of a seed is a function of both: concurrent callers share the count, not a state.
 */
static u64 mix(u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

bool inject_fail_slow(struct inject *inj, enum inject_point p)
{
	u64 at = a64_read(&inj->point[p].fail_at);
	u64 every = a64_read(&inj->point[p].every);
	u64 ppm = a64_read(&inj->point[p].chance_ppm);
	u64 n, dice;
	bool hit;

	if (!at && !every && !ppm)
		return false;
	n = a64_add_return(&inj->point[p].calls, 1);
	dice = mix(n * 0x9e3779b97f4a7c15ull + a64_read(&inj->point[p].seed)) % 1000000;
	hit = at == n || (every && n % every == 0) || dice < ppm;
	if (hit)
		a64_add(&inj->point[p].hits, 1);
	return hit;
}
