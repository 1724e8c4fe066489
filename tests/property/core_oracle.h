/*
 * core_oracle.h - random operations on the core over the simulated machine, against an oracle.
 *
 * Each thread owns slices of addresses (96 pages each, interleaved so that tables, areas and
 * anon_vmas are shared between threads) and knows every byte and right in them; counters on shared
 * pages are added to by all threads and summed in the end. The memory limit lies far below the
 * working set, so that reclaim and swap run all the time. In the injecting phases operations may
 * fail, but never lose contents.
 *
 * On plain frames the space is forked and snapshots are made meanwhile: children and snapshots have
 * the contents of that moment, are used and end in between.
 *
 * With tiers what is cold goes from the fast node to the slow one, and to a store only from there;
 * uses of slow memory are noticed by hints, and what is used comes back. Placement, the rate of
 * promotions and the leases of slow memory change all the time.
 *
 * A page that MADV_FREE was applied to holds its old bytes or zeroes until it is written; every
 * other page has exactly one right value. At the end of each phase all threads stand still:
 * contents are compared in full, quire_check_all() and the machine's violations must be 0.
 *
 * QUIRE_PROP_OPS (per run), QUIRE_PROP_SEED and QUIRE_PROP_THREADS override the configuration;
 * QUIRE_PROP_CASE is a pattern of names to run.
 * Locking: one caller; the threads are the harness's own.
 */
#ifndef TESTS_PROPERTY_CORE_ORACLE_H
#define TESTS_PROPERTY_CORE_ORACLE_H

#include "base/types.h"

struct oracle_config {
	const char *name;
	bool home;         /* home frames, else plain frames and reservations */
	bool hw_ad;        /* accessed and dirty bits by hardware */
	bool placed;       /* who writes a shared page keeps its frame */
	bool flush_locked; /* flushes under the entry lock, on plain frames too */
	bool meta;         /* metadata are saved with each page that goes out */
	bool background;   /* a reclaim thread of the core's own */
	bool tiers;        /* a small fast node before a slow one; home frames can be parked */
	u32 threads;
	u64 ops; /* of all threads together */
	u64 seed;
	u32 phases;       /* every other one injects failures */
	u64 limit_pages;  /* 0: a sixth of the working set */
	const char *swap; /* stores; NULL: lz4 */
};

struct oracle_report {
	u64 ops;
	u64 failed_ops; /* refused under injection */
	u64 swap_out, swap_in, refaults, migrated;
	u64 compacted, offlined; /* pages, times */
	u64 demoted, promoted, hint_faults;
	u64 violations;
	double seconds;
};

/* Number of things that were wrong; each is told on stderr with what is needed to run it again. */
u64 oracle_run(const struct oracle_config *cfg, struct oracle_report *report);

#endif
