/*
 * config.h - what `quire run` tells the preloaded library: parsed options, and their form as the
 * value of one environment variable. Compiled into the command and into the library.
 *
 * Invariants: decode(encode(c)) == c; the text has no newline and fields in any order; unknown
 * fields are skipped, so that a newer command can start an older library.
 * Locking: none; plain values owned by the caller.
 */
#ifndef QUIRE_RUN_CONFIG_H
#define QUIRE_RUN_CONFIG_H

#include "base/types.h"

#define RUN_ENV             "QUIRE_RUN"
#define RUN_LIBRARY         "libquire-run.so"
#define RUN_PATH_MAX        4096
#define RUN_SPEC_MAX        1024
#define RUN_NODES           8
#define RUN_NODE_NAME       16
#define RUN_CONFIG_TEXT_MAX (2 * RUN_PATH_MAX + RUN_SPEC_MAX + RUN_NODES * 64 + 256)

struct run_node {
	char name[RUN_NODE_NAME];
	u64 bytes;
	s32 physical; /* NUMA node; -1: any */
};

enum run_placement {
	RUN_PLACE_FAST,       /* the first node first */
	RUN_PLACE_INTERLEAVE, /* in turn */
	RUN_PLACE_RANDOM,     /* by chance, each as often as it is large */
	RUN_PLACEMENTS
};

struct run_config {
	u64 ram;      /* bytes; 0: no limit */
	u64 start_ns; /* CLOCK_MONOTONIC when the command started */
	s32 pid;      /* the process that prints the report */
	bool quiet;
	u32 nr_nodes; /* 0: memory is all alike */
	u32 placement;
	u64 promote; /* bytes a second that may move to faster nodes; ~0: the default */
	struct run_node node[RUN_NODES];
	char swap[RUN_SPEC_MAX];    /* "": the default */
	char json[RUN_PATH_MAX];    /* absolute; "": none */
	char library[RUN_PATH_MAX]; /* absolute path of the preloaded library */
};

/* "64M" and the like: 0, or -EINVAL (not a size), -ERANGE (does not fit), -EDOM (zero). */
int run_parse_size(const char *text, u64 *bytes);
/*
 * Is this a list of stores? 0, or -1 with one line in msg. With `try_files`, the folder of each
 * file store must be writable.
 */
int run_check_swap(const char *spec, bool try_files, char *msg, size_t msg_size);
/* "NAME=SIZE[:numa=N]" as the next node. 0, or -1 with one line in msg. */
int run_add_node(struct run_config *c, const char *spec, char *msg, size_t msg_size);
/* 0, or -1: no such placement. */
int run_set_placement(struct run_config *c, const char *name);
/* Characters written without the end, or -ENOSPC. */
int run_config_encode(const struct run_config *c, char *text, size_t size);
int run_config_decode(struct run_config *c, const char *text);

#endif
