/* quire info: what this machine offers, what is missing, and how to get it. */
#include "machine/host/host.h"
#include "tool/tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MANY_MAPPINGS 65530u
#define GIB           (1ull << 30)

static unsigned missing;

static void say(const char *what, bool good, const char *state, const char *advice)
{
	static int colour = -1;

	if (colour < 0)
		colour = isatty(1) && !getenv("NO_COLOR");
	printf("  %-24s %s%s%s\n", what, colour ? (good ? "\033[32m" : "\033[31m") : "", state,
	       colour ? "\033[0m" : "");
	if (!good && advice) {
		missing++;
		printf("  %-24s %s\n", "", advice);
	}
}

static void say_uffd(const struct host_probe *p)
{
	bool denied = p->uffd == -EPERM || p->uffd == -EACCES;

	say("userfaultfd", !p->uffd, p->uffd ? strerror(-p->uffd) : "yes",
	    denied ? "as root: sysctl vm.unprivileged_userfaultfd=1" :
		     "a kernel with CONFIG_USERFAULTFD is needed");
	if (p->uffd)
		return;
	say("  faults as SIGBUS", p->has_sigbus, p->has_sigbus ? "yes" : "no",
	    "Linux 4.14 or later");
	say("  write protection", p->has_wp, p->has_wp ? "yes" : "no", "Linux 5.7 or later");
	say("  moving pages", p->has_move, p->has_move ? "yes" : "no",
	    "Linux 6.8 or later moves pages without copying; without it they are copied");
	say("  shared memory", p->has_plain, p->has_plain ? "yes" : "no",
	    "Linux 6.4 or later; without it there are no shareable areas and no snapshots");
	say("  releasing in batches", p->has_vector, p->has_vector ? "yes" : "no",
	    "Linux 6.14 or later; without it each span of pages interrupts the processors");
}

static void say_limits(const struct host_probe *p)
{
	char text[96];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)p->max_map_count);
	say("host mappings", p->max_map_count >= MANY_MAPPINGS, text,
	    "as root: sysctl vm.max_map_count=65530 or more");
	if (p->address_space_limit == ~0ull)
		snprintf(text, sizeof(text), "no limit");
	else
		snprintf(text, sizeof(text), "%llu MiB",
			 (unsigned long long)(p->address_space_limit >> 20));
	say("address space", p->address_space_limit >= 64 * GIB, text,
	    "ulimit -v unlimited: Quire reserves more addresses than it uses");
	snprintf(text, sizeof(text), "%d", p->overcommit_memory);
	say("overcommit", p->overcommit_memory != 2, p->overcommit_memory == 2 ? "strict" : text,
	    "as root: sysctl vm.overcommit_memory=0: strict accounting refuses large reservations");
}

int tool_info(int argc, char **argv)
{
	struct host_probe p;

	if (argc > 1 && tool_is_help(argv[1])) {
		puts("usage: quire info\n\n"
		     "Says what this machine offers Quire, what is missing, and how to get it.\n"
		     "The exit status is 0 when `quire run` can work, else 1.");
		return 0;
	}
	if (argc > 1)
		return tool_error("info: unexpected argument '%s'", argv[1]);
	host_probe(&p);
	printf("machine\n");
	printf("  %-24s %s\n", "kernel", p.kernel);
	printf("  %-24s %u\n", "processors", p.nr_cpus);
	printf("  %-24s %llu MiB\n", "memory", (unsigned long long)(p.memory_bytes >> 20));
	printf("  %-24s %u\n", "NUMA nodes", p.nr_numa_nodes);
	printf("  %-24s %s\n", "transparent huge pages", p.thp[0] ? p.thp : "not built in");
	printf("needed by quire run and by programs that link Quire\n");
	say_uffd(&p);
	say_limits(&p);
	printf("needed by quire run\n");
	say("Syscall User Dispatch", p.syscall_user_dispatch,
	    p.syscall_user_dispatch ? "yes" : "no", "Linux 5.11 or later on x86-64");
	printf("%s\n", missing ? "Something is missing or could be better: see above." :
				 "Nothing is missing.");
	return p.uffd || !p.has_sigbus || !p.has_wp || !p.syscall_user_dispatch;
}
