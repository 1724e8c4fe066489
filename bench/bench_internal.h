/*
 * bench_internal.h - what the files of the benchmarks share: rows, groups, measurements, children.
 *
 * A group is one program of steps that yields a value for each of its rows. Each measurement of
 * each side runs in a child process of its own, so that no side inherits the other's memory; sides
 * take turns, round by round. Invariants: a child writes only its struct bench_result (shared
 * memory); a child has a time bound, dies with its parent, and takes what it started with it (one
 * process group). A row's value is NAN where its side did not measure it.
 * Locking: the parent has one thread; a child's threads meet at a barrier and then share nothing
 * but the memory under test.
 */
#ifndef QUIRE_BENCH_BENCH_INTERNAL_H
#define QUIRE_BENCH_BENCH_INTERNAL_H

#include "base/types.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/types.h>

#define BENCH_MAX_ROUNDS 31
#define BENCH_MAX_ROWS   8 /* of one group */
#define BENCH_TEXT       256

enum bench_side { SIDE_OURS, SIDE_PEER, SIDE_ALSO, NR_SIDES };

struct bench_result {
	double value[BENCH_MAX_ROWS];
	char error[BENCH_TEXT]; /* "": measured */
};

struct bench_row {
	const char *name;
	const char *what;
	const char *unit;
	bool higher;   /* more is better */
	double target; /* of the ratio, 0: none */
	bool own;      /* the target is one of our own figure */
};

struct bench_zram;

struct bench {
	bool quick, json, terminal, only_ours, cpu_time;
	unsigned rounds; /* 0: each group's own number */
	u64 bytes;       /* of the area that is touched */
	bool half_data;  /* the simple page contents instead of the heap-like ones */
	unsigned cpus;
	u64 memory_available;
	char self[4096]; /* the command's own executable */
	struct bench_zram *zram;
	bool run_tried;
	char run_why[BENCH_TEXT]; /* why `quire run` does not work; "": it does */
	unsigned step, steps;     /* for the progress line */
};

struct bench_group {
	const char *name;
	const char *side[NR_SIDES]; /* what each side is called; NULL: it has none */
	unsigned threads;
	unsigned rounds;
	unsigned limit_s;   /* for one measurement */
	unsigned memory_x8; /* memory one measurement needs, in eighths of bench.bytes */
	struct bench_row row[BENCH_MAX_ROWS]; /* up to the first without a name */
	/* In the parent, once before the rounds. false: this side cannot be measured and `why` says
	 * so. May be NULL. */
	bool (*prepare)(struct bench *b, enum bench_side side, char *why);
	/* In the child. Fills r. */
	void (*measure)(const struct bench *b, const struct bench_group *g, enum bench_side side,
			struct bench_result *r);
};

extern const struct bench_group *const bench_groups[];

/* What the rounds of a group gave. */
struct bench_outcome {
	const struct bench_group *g;
	bool wanted[BENCH_MAX_ROWS];
	unsigned rounds;
	double value[NR_SIDES][BENCH_MAX_ROWS][BENCH_MAX_ROUNDS];
	char missing[NR_SIDES][BENCH_TEXT]; /* why a side was not measured */
	char error[BENCH_TEXT];             /* what went wrong */
};

/* ---- report.c ---- */
double bench_median(const double *value, unsigned n);
/* A summary of one row. The ratio is the median of the rounds' own ratios. NAN: not known. */
struct bench_summary {
	double ours, peer, also, ratio, ratio_min, ratio_max;
};
void bench_summarise(const struct bench_outcome *o, unsigned row, struct bench_summary *out);
void bench_report_table(const struct bench *b, const struct bench_outcome *o, unsigned n);
void bench_report_json(const struct bench *b, const struct bench_outcome *o, unsigned n);
unsigned bench_rows(const struct bench_group *g);

/* ---- child.c ---- */
extern volatile int bench_signal; /* the signal that asked us to stop, or 0 */
void bench_catch_signals(void);
/*
 * Run fn(ctx) in a child for at most limit_s; it reports through *r, which is in shared memory.
 * What it started and left running is killed. r->error says what went wrong, if anything.
 */
void bench_child(unsigned limit_s, void (*fn)(void *ctx, struct bench_result *r), void *ctx,
		 struct bench_result *r);
/* Shared with children, zeroed. NULL: no memory. */
void *bench_shared(size_t bytes);
/* In a child process just forked: give signals their defaults, die with `parent`. */
void bench_child_begin(pid_t parent);
/*
 * Start a program with its output going to `out_fd` (-1: nowhere). `prefix` (NULL-terminated, may
 * be NULL) goes before argv. Returns its process id or -errno.
 */
pid_t bench_spawn(const char *const *prefix, const char *const *argv, int out_fd);
/*
 * Run a program to its end, keeping the last bytes of its output in out. Returns its exit status,
 * 128 + N for signal N, or -errno.
 */
int bench_run(const char *const *prefix, const char *const *argv, char *out, size_t out_size);
int bench_wait(pid_t pid);
/* The last line of a text, cut at BENCH_TEXT / 2: for messages. Changes the text. */
const char *bench_last_line(char *text);
/* Is there such a program on PATH? */
bool bench_have(const char *program);
void bench_sleep_ms(unsigned ms);
double bench_now(void); /* seconds */
/* --cpu: spans of work are measured in the time that processors spent on them. Set once. */
extern bool bench_cpu_time;
/* Seconds of this thread's work: like bench_now, or its processor time. */
double bench_thread_now(void);

/*
 * n threads run fn(arg, i, n) from one moment on; returns the seconds until the last has ended, or
 * with --cpu the longest time that one of them was at work.
 */
double bench_threads(unsigned n, void (*fn)(void *arg, unsigned i, unsigned n), void *arg);

/* ---- memory.c: one interface to both sides' memory ---- */
struct quire;
struct bench_memory {
	void *q;        /* quire_t; NULL: the kernel's own */
	void *space;    /* quire_space_t */
	bool huge;      /* kernel's: ask for huge pages; else refuse them */
	bool shareable; /* ours: maps memory that snapshots can be taken of */
};
/* ram: bound on what is resident, for our side; 0: none. Fails through r->error and false. */
bool bench_memory_open(struct bench_memory *m, bool ours, u64 ram, bool background,
		       struct bench_result *r);
/* The same with two nodes of so many bytes; the second is the slower one if there are tiers. */
bool bench_memory_open_nodes(struct bench_memory *m, u64 first, u64 second, bool tiers,
			     struct bench_result *r);
/* Checks every invariant first. */
void bench_memory_close(struct bench_memory *m, struct bench_result *r);
void *bench_memory_map(struct bench_memory *m, u64 bytes, struct bench_result *r);
/* 0 or -errno. */
int bench_memory_unmap(struct bench_memory *m, void *addr, u64 bytes);
int bench_memory_protect(struct bench_memory *m, void *addr, u64 bytes, int prot);
int bench_memory_dontneed(struct bench_memory *m, void *addr, u64 bytes);
void bench_fail(struct bench_result *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- pattern.c: page contents that a compressor finds realistic and that can be verified ---- */
#define PATTERN_COUNTER 1u /* the word of a page that random writes count in; 0 at first */
#define PATTERN_WORDS   (PAGE_SIZE / 8)
u64 pattern_word(bool half, u64 page, unsigned word);
void pattern_fill(bool half, u64 page, u64 *words);
/* Compares all but the counter. */
bool pattern_matches(bool half, u64 page, const u64 *words);

/* ---- zram.c: the kernel's compressed swap under a memory control group ---- */
/*
 * Sets up a zram device with lz4 as swap and a group limited to `limit` bytes; the first call does
 * it, later ones say what came of it. false: `why` says why not.
 */
bool bench_zram_begin(struct bench *b, u64 limit, char *why);
/* Everything goes. false: something could not be removed, which was said on stderr. */
bool bench_zram_end(struct bench *b);
/* In a child: become a member of the group. */
bool bench_zram_enter(const struct bench *b, struct bench_result *r);
/* Bytes of RAM that the device uses for each page stored in it; NAN when it holds none. */
double bench_zram_page_bytes(const struct bench *b);
/* How often the kernel has killed a member of the group for want of memory. */
u64 bench_zram_oom_kills(const struct bench *b);

/* ---- entries of children that are started as programs (`quire bench --child-X`) ---- */
int bench_child_calls(bool quick);
int bench_child_compute(bool quick);
/* Can `quire run` run anything here? Asked once. */
bool bench_can_run(struct bench *b, char *why);

#endif
