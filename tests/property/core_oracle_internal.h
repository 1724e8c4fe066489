/*
 * core_oracle_internal.h - what the harness's files share: the run, a thread's slices, the oracle's
 * pages.
 *
 * Invariant: a slice and its shadow belong to one worker; only that worker's operations change the
 * core's state there. Locking: the run's fields are constant while the workers run, except the
 * atomics.
 */
#ifndef TESTS_PROPERTY_CORE_ORACLE_INTERNAL_H
#define TESTS_PROPERTY_CORE_ORACLE_INTERNAL_H

#include <pthread.h>

#include "api/core.h"
#include "base/inject.h"
#include "core_oracle.h"
#include "machine/sim/sim.h"
#include "space/space.h"

#define SLICE_PAGES     96u
#define NR_SLICES       6u /* per worker */
#define NR_PINS         3u /* per worker */
#define NR_CHILDREN     2u /* per worker */
#define NR_VIEWS        3u /* per worker */
#define PIN_PAGES       4u
#define SHARED_PAGES    8u
#define SHARED_PER_PAGE 16u
#define RACE_PAGES      64u
#define MAX_WORKERS     16u

struct page {
	bool mapped;
	bool maybe_zero; /* MADV_FREE, not written since */
	bool locked;     /* mlocked, as the areas say */
	bool onfault;    /* ... without having been brought in */
	u8 prot;
	u8 pins;
};

struct slice {
	u64 base;
	struct page page[SLICE_PAGES];
	u8 *shadow; /* SLICE_PAGES pages: what a load must see */
};

/* Is a pinned page still mapped where it was pinned? If not, are its last bytes known? */
enum stale { IN_PLACE, STALE_KNOWN, STALE_UNKNOWN };

struct pin {
	u32 n; /* pages; 0: free */
	struct slice *slice;
	u32 first;
	bool write;
	bool for_long;       /* ACCESS_LONGTERM: never the zero page */
	bool by_range;       /* pin_range, else pin_pages */
	u8 stale[PIN_PAGES]; /* enum stale */
	struct folio *folio[PIN_PAGES];
	u8 *copy; /* bytes when it became stale */
};

/* A space that was forked from the run's, by one worker, with what its slices held then. */
struct child {
	struct space *s; /* NULL: none at the moment */
	struct slice slice[NR_SLICES];
};

/* A snapshot: pages [first, first + n) of c.slice[0], in the run's own space. */
struct view {
	struct child c;
	u32 first, n; /* n == 0: none at the moment */
};

struct oracle_meta;

struct run {
	struct oracle_config cfg;
	struct machine *m;
	struct quire *q;
	struct space *s;
	struct inject inject;
	pthread_barrier_t barrier;
	bool injecting; /* changes only at quiescence */
	u32 phase;
	u64 limit;
	u64 shared;               /* address of the counters */
	u64 race;                 /* address of the pages that all threads change */
	u32 weights;              /* sum over oracle_ops */
	struct oracle_meta *meta; /* NULL: nobody saves metadata */
	a32_t over;
	a64_t wrong;
	a64_t compacted, offlined; /* pages, times */
	a64_t done, refused;
	struct worker *worker[MAX_WORKERS];
};

struct worker {
	struct run *run;
	u32 id;
	u64 rng;
	u64 op;           /* number of the present one */
	a64_t alive;      /* the same, for the watcher */
	const char *what; /* its name */
	struct slice slice[NR_SLICES];
	struct pin pin[NR_PINS];
	struct child child[NR_CHILDREN];
	struct view view[NR_VIEWS];
	u64 sum;         /* added to shared counters */
	u64 out, nr_out; /* frames that it has taken out of service */
	pthread_t thread;
};

/* A run of pages of one slice. */
struct span {
	struct slice *s;
	u32 first, n;
};

struct op {
	const char *name;
	u32 weight;
	void (*fn)(struct worker *w);
};
extern const struct op oracle_ops[];
extern const u32 oracle_nr_ops;

__attribute__((format(printf, 2, 3))) void oracle_wrong(struct worker *w, const char *format, ...);

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

static inline u64 span_va(struct span p)
{
	return p.s->base + p.first * PAGE_SIZE;
}

static inline u64 span_size(struct span p)
{
	return p.n * PAGE_SIZE;
}

static inline u8 *shadow(struct slice *s, u32 page)
{
	return s->shadow + page * PAGE_SIZE;
}

/* May this error be due to an injected failure? Counts it. */
bool oracle_excused(struct worker *w, int rc);
/* rc is what the oracle expects, or an excused failure: true when the operation took place as
 * `want` says. */
bool oracle_expect(struct worker *w, int rc, int want, struct span p);
/* What the oracle knows of a page after it was emptied. */
void page_zero(struct slice *s, u32 page);
/* The area that covers all of the span? And how much of it areas cover. */
bool span_in_one_area(struct worker *w, struct span p);
/* After a refused operation: rights, mappings and locks as the areas have them now. */
void span_resync(struct worker *w, struct span p);
/* Only the locks (after operations that succeeded). */
void span_resync_locks(struct worker *w, struct span p);

/* core_oracle_race.c */
void race_any(struct worker *w);
/* A load or a store in a child, which has these pages too. */
void race_use(struct worker *w, struct space *s);

/* core_oracle_meta.c */
int oracle_meta_open(struct run *run);
void oracle_meta_close(struct run *run); /* no space is left; the workers are */

/* core_oracle_fork.c */
void fork_any(struct worker *w);
void child_compare(struct worker *w, struct child *c);
void child_exit(struct worker *w, struct child *c);
void child_free(struct child *c);
/* One operation on one page of it. */
void child_use(struct worker *w, struct child *c, struct span p);
void child_load(struct worker *w, struct child *c, struct span p, u64 off, u64 n);

/* core_oracle_snapshot.c */
void snapshot_any(struct worker *w);
void view_compare(struct worker *w, struct view *v);
void view_exit(struct worker *w, struct view *v);
void view_free(struct view *v);

/* core_oracle_data.c: loads, stores, comparisons, pins */
int page_access(const struct page *p, bool write);
void data_load(struct worker *w);
void data_store(struct worker *w);
void data_fill(struct worker *w);
void data_fetch_add(struct worker *w);
void data_shared(struct worker *w);
void data_pin(struct worker *w);
void data_unpin(struct worker *w);
void data_unpin_all(struct worker *w);
/* core_oracle_frames.c */
void frames_compact(struct worker *w);
void frames_offline(struct worker *w);
void frames_online_all(struct worker *w);
/* The pages are about to leave their place: pins on them become stale. */
void data_pins_stale(struct worker *w, struct span p);
bool data_pinned(struct span p);
void data_compare_slice(struct worker *w, struct slice *s);

#endif
