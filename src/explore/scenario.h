/*
 * scenario.h - small races as pictures: a set-up, two to four actors, and what must hold.
 *
 * A scenario is a file in scenarios/ with one SCENARIO: the columns of the race as a picture, the
 * set-up, an actor for each column, what must hold after each step and at the end, and the switches
 * that belong to it: with all of them on no order may fail, with any one of them off some order
 * must. The environment makes an instance of the real core over the explored machine, with one
 * space, and offers short verbs; each verb is the call that the product makes, in the core's gate,
 * with no lock held that the product does not hold.
 *
 * At the end of each run the environment checks whatever the scenario says: every invariant of the
 * core (quire_check_all), that charges equal the pages that live, and, after the space and the core
 * have been taken down, that nothing leaks.
 *
 * What a scenario may use: arena memory only (struct env and its fields), the verbs, and any
 * function of the core that the product would call there. Its actors end; agents need not.
 * Locking: none; set-up and checks run alone.
 */
#ifndef QUIRE_EXPLORE_SCENARIO_H
#define QUIRE_EXPLORE_SCENARIO_H

#include "base/inject.h"
#include "base/mech.h"
#include "explore/explore.h"
#include "machine/explored/explored.h"
#include "phys/isolate.h"
#include "space/space.h"

/* The machines that a scenario can run on. */
enum scenario_kind {
	ON_HW,   /* frames anywhere; the hardware sets ACCESSED and DIRTY */
	ON_SW,   /* frames anywhere; the core keeps both */
	ON_HOME, /* a page's frame is the memory at its own address, as on the host machine */
	NR_SCENARIO_KINDS
};
extern const char *const scenario_kind_name[NR_SCENARIO_KINDS];

struct env;

struct scenario {
	const char *name;
	const char *title;   /* one line: what races with what */
	const char *picture; /* columns, with the order that goes wrong without the switch */
	u32 kinds;           /* BIT(enum scenario_kind) */
	u32 units;           /* bit n: CPU (or device) n makes user accesses */
	u32 devices;         /* bit n: unit n is a device */
	bool evict;          /* a TLB entry may be gone whenever it is looked for */
	bool spurious;       /* a missing right may trap on what is cached */
	bool large;          /* first touch may fill several pages with one folio */
	bool tiers;          /* a fast node (0) before a slow one (1); home frames can be parked */
	u32 caps;            /* enum machine_caps that the machine has besides; not ON_HOME */
	const char *swap;    /* store; NULL: a file of 16 pages */
	u64 off;             /* BIT(MECH_X): switches each of which brings the bug back ... */
	u64 off_home;        /* ... and those that do on ON_HOME */
	const u32 *composed; /* lock classes whose sections are one step here */
	u32 nr_composed;
	u32 flags; /* enum x_program_flags */
	u32 bound; /* preemptions, where more cannot be exhausted in a minute; 0: as many as it
		      takes */
	void (*setup)(struct env *e);
	void (*step)(struct env *e); /* after each step; NULL: nothing */
	void (*end)(struct env *e);  /* when all actors have ended, before the usual checks; NULL */
};

/* SCENARIO(name) = { .title = ..., };  The file need not be named anywhere else. */
#define SCENARIO(id)                                                                \
	static const struct scenario scenario_##id;                                 \
	static const struct scenario *const scenario_ptr_##id                       \
		__attribute__((used, section("quire_scenarios"))) = &scenario_##id; \
	static const struct scenario scenario_##id

const struct scenario *scenario_first(void);
const struct scenario *scenario_next(const struct scenario *s); /* NULL after the last */
const struct scenario *scenario_find(const char *name);         /* NULL: none */
u64 scenario_switches(const struct scenario *s, enum scenario_kind kind);

/* ---- for the driver: one scenario as a program of the engine ---- */
struct scenario_run {
	const struct scenario *scenario;
	enum scenario_kind kind;
	struct env *env; /* made by scenario_setup */
};
void scenario_setup(void *run);
void scenario_at_step(void *run);
void scenario_at_end(void *run);
u64 scenario_outcome(void *run); /* of what the actors have noted in env->r */

/* ---- inside a scenario ---- */

#define ENV_RESULTS 16u

struct env {
	const struct scenario *scenario;
	enum scenario_kind kind;
	struct machine *m;
	struct quire *q;
	struct space *s;
	struct inject inject;
	u64 r[ENV_RESULTS]; /* what actors found or did; each cell one actor's */
	a64_t flag[4];
	struct space *child[2];  /* by do_fork; those that are left go at the end */
	struct folio *folio;     /* the scenario's page, if it keeps one */
	struct object *object;   /* by file(); it goes at the end */
	struct folio *pinned[4]; /* by pin() */
	struct phys_pieces kept; /* by prepare_keep_free() */
};

#define RW        (PROT_BITS_READ | PROT_BITS_WRITE)
#define READ_ONLY PROT_BITS_READ
/* Address of page n of the space; tables change at multiples of 512. */
#define AT(n)     (XM_SPACE_START + (u64)(n)*PAGE_SIZE)

/* Set-up. */
void area(struct env *e, u64 va, u64 pages, unsigned prot);
/* A CPU's or device's prefetcher: one walk to va, at any time, that nobody asked for. */
void prefetcher(struct env *e, unsigned unit, u64 va);
void actor(struct env *e, const char *name, unsigned cpu, void (*fn)(struct env *e));
/* Stores and loads in set-up: by CPU `unit`, whose TLB then has the translation. */
void prepare_store(struct env *e, unsigned unit, u64 va, u64 value);
u64 prepare_load(struct env *e, unsigned unit, u64 va);
void prepare_swapped_out(struct env *e, u64 va);
/* The page at va, in the swap cache for others, has no stored copy: as after a failed write-out. */
void prepare_no_copy(struct env *e, u64 va);
/* All TLBs forget; the folio was not used since the last look at its accessed bits. */
void prepare_cold_tlbs(struct env *e);
void prepare_aged(struct env *e, struct folio *f);
/* All free frames that any list has are kept away until the run ends: what is allocated next is of
 * a fresh block. */
void prepare_keep_free(struct env *e);
/* The same, and then the node has one free piece: the first frames of a fresh block; their number.
 */
u64 prepare_free_piece(struct env *e, unsigned order);
/* The next page that is brought in does not come from its table's reserved block. */
void prepare_unreserved(struct env *e);
void watch_page(struct env *e, u64 va);           /* its entry */
void watch_folio(struct env *e, struct folio *f); /* references, mappings, flags */

/* What an actor does. Results as those of the core's functions. */
int user_store(struct env *e, u64 va, u64 value); /* by the actor's own CPU or device */
int user_load(struct env *e, u64 va, u64 *value);
int do_map(struct env *e, u64 va, u64 pages, unsigned prot);
int do_unmap(struct env *e, u64 va, u64 pages);
int do_protect(struct env *e, u64 va, u64 pages, unsigned prot);
int do_remap(struct env *e, u64 from, u64 pages, u64 to);
int do_advise(struct env *e, u64 va, u64 pages, int advice);
int do_mlock(struct env *e, u64 va, u64 pages);
int do_fault(struct env *e, u64 va, u32 access);
/* What a reclaim step does to this folio: isolate it, evict it. Returns pages freed. */
u64 do_reclaim(struct env *e, struct folio *f);
/* Move n folios to other frames: isolate them, one batch, one try. Returns pages moved. */
u64 do_migrate(struct env *e, struct folio *const *folios, u32 n);
/* The same for a page that is on no LRU list, such as the balloon's. */
u64 do_migrate_movable(struct env *e, struct folio *f);
/* The same to a node; home frames too with `tiers`. `hints`: as demotion leaves them. */
u64 do_to_node(struct env *e, struct folio *const *folios, u32 n, unsigned node, bool hints);
/* A page of the slow node, by hints or (leased) accessible there; nothing is promoted from now on
 * unless `promote`. */
void prepare_slow(struct env *e, u64 va);
void prepare_leased(struct env *e, unsigned unit, u64 va);
void prepare_promotion(struct env *e, bool promote);
/* As who leases one block too many. */
void do_end_leases(struct env *e);
/* A step of reclaim's or demotion's takes clusters off the node's inactive list, and puts them
 * back. Returns pages. */
u32 do_isolate_clusters(struct env *e, unsigned node);
/* Copies of one page and more are shared with whoever helps, as a thread of the copier does. */
void prepare_copier(struct env *e);
void do_copier_help(struct env *e);
/* Compact the node, or take the frames of block `block` out of service. Errors of the core. */
int do_compact(struct env *e, unsigned order);
int do_offline(struct env *e, u64 block);
/* A look at its accessed bits, as reclaim takes it: with the folio locked. The number found set. */
u32 do_referenced(struct env *e, struct folio *f);
/* Off its list and back (mlock, deactivation). True: it was isolated. */
bool do_isolate(struct env *e, struct folio *f);
/* Pin one page; 0 or an error. Cells of e->pinned are by `n`. */
int do_pin(struct env *e, u32 n, u64 va, u32 access);
/* The same, without a lock where that will do. */
int do_pin_fast(struct env *e, u32 n, u64 va, u32 access);
void do_unpin(struct env *e, u32 n);
/* What the pinning device does to the page meanwhile. */
void pinned_store(struct env *e, u32 n, u64 value);
u64 pinned_load(struct env *e, u32 n);
/* Forks: child `n` of the space, or of another child; and its end. Not on ON_HOME. */
int do_fork(struct env *e, u32 n);
int do_fork_child(struct env *e, u32 parent, u32 n);
void do_child_exit(struct env *e, u32 n);
/* A snapshot of pages from va on, which is expected at `at` (the first free 2 MiB). Not on ON_HOME.
 */
int do_snapshot(struct env *e, u64 va, u64 pages, u32 flags, u64 at);
/* As above, of child n. */
void prepare_child_store(struct env *e, unsigned unit, u32 n, u64 va, u64 value);
u64 prepare_child_load(struct env *e, unsigned unit, u32 n, u64 va);
int child_store(struct env *e, u32 n, u64 va, u64 value);
int child_load(struct env *e, u32 n, u64 va, u64 *value);
int child_pin(struct env *e, u32 n, u64 va, u32 access); /* to e->pinned[n] */
int child_unmap(struct env *e, u32 n, u64 va, u64 pages);
/* Files: e->object, of so many pages of zeroes, on ON_HW and ON_SW; an area of its first pages. */
void file(struct env *e, u64 pages);
void file_area(struct env *e, u64 va, u64 pages, unsigned prot, bool shared);
int do_file_store(struct env *e, u64 page, u64 value); /* by write(2) */
s64 do_file_load(struct env *e, u64 page, u64 *value); /* by read(2): bytes */
int do_truncate(struct env *e, u64 pages);
int do_punch(struct env *e, u64 page, u64 pages);
int do_fsync(struct env *e);
/* What is on the disk, without steps. */
u64 disk(struct env *e, u64 page);
/* What a program's threads tell each other. */
void set_flag(struct env *e, u32 n);
bool get_flag(struct env *e, u32 n);
/* The space ends; nobody else may use it. */
void do_exit(struct env *e);
void do_rcu_barrier(struct env *e);

/* Checks and set-up only: no steps. */
u64 entry_at(struct env *e, u64 va); /* 0: none, or no table */
struct folio *folio_at(struct env *e, u64 va);
/* What the program would load from va now; it is brought in. Fails when the load fails. */
u64 contents(struct env *e, u64 va);
u64 child_entry_at(struct env *e, u32 n, u64 va);
u64 child_contents(struct env *e, u32 n, u64 va);
/* The load would end in this error (0: none). */
int access_result(struct env *e, u64 va, bool write);
void __attribute__((format(printf, 2, 3))) must(bool holds, const char *fmt, ...);

#endif
