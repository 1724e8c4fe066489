/*
 * The constructor: opens the core, makes the spaces, installs the handlers, moves the C library's
 * break and arms dispatch. Without `quire run`'s variable in the environment the library does
 * nothing.
 */
#include "run/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_USAGE    2
#define PIN_CAP_MOST  (16ul << 20)
#define PIN_CAP_LEAST (128ul << 10)

/* The C library's idea of the break; sbrk() trusts it. */
extern void *__curbrk;

void run_say(const char *what, const char *why)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "quire: %s%s%s\n", what, why ? ": " : "",
			 why ? why : "");

	if (n > 0)
		RAW(SYS_write, 2, line, min((size_t)n, sizeof(line) - 1));
}

/* The program's environment is what it would be without us. */
static void clean_environment(void)
{
	const char *preload = getenv("LD_PRELOAD");
	size_t n = strlen(run.config.library);

	unsetenv(RUN_ENV);
	if (!preload || strncmp(preload, run.config.library, n))
		return;
	if (!preload[n])
		unsetenv("LD_PRELOAD");
	else if (preload[n] == ':' || preload[n] == ' ')
		setenv("LD_PRELOAD", preload + n + 1, 1);
}

/* Each process has its own file: the first one the path itself, the others PATH.PID. */
static void own_files(char *spec, size_t size)
{
	char out[RUN_SPEC_MAX + 64];
	char *store, *rest = spec;
	size_t len = 0;

	out[0] = 0;
	while ((store = strsep(&rest, ",")) && len < sizeof(out) - 1) {
		char *path = !strncmp(store, "file:", 5) ? store + 5 : NULL;
		char *colon = path ? strrchr(path, ':') : NULL;

		if (colon)
			*colon++ = 0;
		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%s", len ? "," : "",
					store);
		if (path && len < sizeof(out))
			len += (size_t)snprintf(out + len, sizeof(out) - len, ".%d%s%s", run.pid,
						colon ? ":" : "", colon ? colon : "");
	}
	snprintf(spec, size, "%s", out);
}

/*
 * No background thread: the C library would take the program for one with several threads (slower
 * locks and reference counts, calls that only single-threaded programs may make), and starting one
 * in a forked child needs malloc's lock, which fork holds.
 */
/* The space is new, and the placement one that the command has checked. */
static void place_on_nodes(quire_space_t *s)
{
	static const int policy[RUN_PLACEMENTS] = { QUIRE_POLICY_DEFAULT, QUIRE_POLICY_INTERLEAVE,
						    QUIRE_POLICY_WEIGHTED };
	u32 all = (u32)BIT(run.config.nr_nodes) - 1;

	if (run.config.nr_nodes && run.config.placement)
		(void)!quire_set_policy(s, NULL, 0, policy[run.config.placement], all);
}

static int open_core(char *msg, size_t msg_size)
{
	char swap[RUN_SPEC_MAX + 64];
	struct quire_node nodes[RUN_NODES];
	struct quire_options opt = {
		.size = sizeof(opt),
		.ram_bytes = run.config.ram,
		.syscall = run_core_syscall,
	};
	int e;

	if (run.config.swap[0]) {
		memcpy(swap, run.config.swap, sizeof(run.config.swap));
		if (!run.report)
			own_files(swap, sizeof(swap));
		opt.swap = swap;
	}
	for (u32 i = 0; i < run.config.nr_nodes; i++)
		nodes[i] = (struct quire_node){ run.config.node[i].bytes,
						run.config.node[i].physical, i };
	if (run.config.nr_nodes) {
		opt.nodes = nodes;
		opt.nr_nodes = run.config.nr_nodes;
	}
	msg[0] = 0;
	e = quire_open(&opt, &run.q, msg, msg_size);
	if (e)
		return e;
	e = quire_space_create(run.q, &run.space);
	if (e)
		return e;
	quire_space_range(run.space, &run.lo, &run.size);
	place_on_nodes(run.space);
	if (run.config.promote != ~0ull)
		quire_set_promotion(run.q, run.config.promote);
	if (!quire_space_create(run.q, &run.heap))
		quire_space_range(run.heap, &run.heap_lo, &run.heap_size);
	else
		run.heap = NULL;
	if (run.heap)
		place_on_nodes(run.heap);
	return 0;
}

static void set_pin_cap(void)
{
	u64 cap = run.config.ram / 8;

	if (!run.config.ram || cap > PIN_CAP_MOST)
		cap = PIN_CAP_MOST;
	if (cap < PIN_CAP_LEAST)
		cap = PIN_CAP_LEAST;
	run.pin_cap = cap & PAGE_MASK;
}

static void refuse(const char *what, const char *why)
{
	run_say(what, why);
	RAW(SYS_exit_group, EXIT_USAGE);
}

__attribute__((constructor(101))) static void run_init(void)
{
	const char *text = getenv(RUN_ENV);
	struct run_thread *t;
	char msg[256];
	int e;

	if (!text || run_config_decode(&run.config, text))
		return;
	run_tls_init();
	run_bind_libraries();
	run.pid = (s32)RAW(SYS_getpid);
	run.report = run.config.pid == run.pid;
	clean_environment();
	set_pin_cap();
	e = open_core(msg, sizeof(msg));
	if (e) {
		/* A later program of the same session runs natively rather than not at all. */
		if (run.report)
			refuse(msg[0] ? msg : strerror(-e), NULL);
		memset(&run, 0, sizeof(run));
		return;
	}
	/* A core dump would walk all the addresses that are reserved. */
	RAW(SYS_madvise, run.lo, run.size, MADV_DONTDUMP);
	if (run.heap)
		RAW(SYS_madvise, run.heap_lo, run.heap_size, MADV_DONTDUMP);
	t = run_thread_new();
	if (!t)
		refuse("no memory for a signal stack", NULL);
	if (run.report)
		run_report_init();
	run_self = t;
	RAW(SYS_sigaltstack, 0, &t->alt);
	run_signals_init();
	run_memory_init();
	if (run.heap)
		__curbrk = (void *)run_brk_start();
	run_thread_arm(t);
	if (!t->armed)
		refuse("the kernel has no Syscall User Dispatch (Linux 5.11, CONFIG_GENERIC_ENTRY)",
		       NULL);
	run.armed = true;
}
