/*
 * nodes.h - memory on two nodes, for the rows of migration and tiers.
 *
 * Where the machine has several NUMA nodes the two are the first and the last of them; else both
 * are memory of the one there is, and moving costs what it costs while an access costs the same on
 * both.
 *
 * Invariants: node_area_move fails, by r->error, if one page does not get to its node; so does
 * node_area_close if a page has lost what it held.
 * Locking: one thread for each area.
 */
#ifndef QUIRE_BENCH_NODES_H
#define QUIRE_BENCH_NODES_H

#include "bench_internal.h"

#define MOVE_BATCH 512u /* pages of a call: 2 MiB */

enum node_area_flags {
	AREA_SINGLE = 1, /* folios of one page */
	AREA_SHAREABLE =
		2,         /* pages that several addresses may share: what moves gets a new frame */
	AREA_SHUFFLED = 4, /* they are moved in no order */
};

struct node_area {
	struct bench_memory m;
	u64 *base;
	u64 pages;
	void **at;   /* all of its pages, as they are moved */
	int *status; /* MOVE_BATCH */
};

/* An area of `bytes` on node 0, each page written, in an instance of its own with `extra` bytes
 * more on node 0 than either node needs for the area. */
bool node_area_open(struct node_area *a, u64 bytes, u64 extra, unsigned flags,
		    struct bench_result *r);
void node_area_close(struct node_area *a, struct bench_result *r);
/* n of its pages from the first-th on to a node, `batch` with each call. */
void node_area_move(struct node_area *a, u64 first, u64 n, unsigned node, unsigned batch,
		    struct bench_result *r);
/* The node that the page at an address is on; -1: there is none. */
int node_of(struct bench_memory *m, const void *addr);

/* For prepare: can there be an instance with two nodes (and a shareable area in it)? */
bool nodes_possible(unsigned flags, char *why);
/* The numbers of the machine's nodes that the two are memory of, -1 each where it has one only. */
void bench_physical_nodes(int *first, int *second);

/*
 * System calls as an instance makes them, counted if they take pages away from addresses (or the
 * right to write to them): each of those is a flush on every processor that runs the program.
 */
long bench_count_call(long nr, long a, long b, long c, long d, long e, long f);
u64 bench_flush_calls(void);

#endif
