/*
 * quire run: checks everything beforehand, then becomes the program: same process, with our library
 * preloaded and its options in one environment variable.
 */
#include "machine/host/host.h"
#include "run/config.h"
#include "tool/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
	"usage: quire run [--ram SIZE] [--swap SPEC] [--node NAME=SIZE]... [--placement HOW]\n"
	"                 [--promote RATE] [--json FILE] [--quiet] [--] PROGRAM [ARG...]\n"
	"\n"
	"Runs PROGRAM on managed memory. Its heap and its large private mappings are paged\n"
	"by Quire: at most SIZE is resident, the rest is compressed or written to a file.\n"
	"\n"
	"  --ram SIZE   bound on resident managed memory: a number with K, M or G\n"
	"               (default: no bound)\n"
	"  --swap SPEC  where pages go, fastest first: lz4[:CAP], zstd[:CAP], file:PATH[:SIZE],\n"
	"               separated by commas (default: lz4)\n"
	"  --node NAME=SIZE[:numa=N]\n"
	"               memory of one kind, the fastest first: what is not used goes to the next\n"
	"               before it goes to a store, and comes back when it is used; numa=N: the\n"
	"               memory of this machine's node N\n"
	"  --placement HOW\n"
	"               where new pages go: fast (default), interleave, random\n"
	"  --promote RATE\n"
	"               bytes a second that may move to faster nodes because they are used:\n"
	"               a size, or 0 (default: 256M)\n"
	"  --json FILE  write the report as a JSON object\n"
	"  --quiet      no report on standard error\n"
	"\n"
	"The exit status is the program's; 2 for a usage error, 126 and 127 as in a shell.\n";

struct request {
	struct run_config config;
	char **program; /* argv of the program */
};

static int bad_size(const char *option, const char *text, int why)
{
	const char *what = why == -ERANGE ? "too large" :
			   why == -EDOM   ? "must be more than zero" :
					    "not a size: a number with K, M or G";

	return tool_error("%s '%s': %s", option, text, what);
}

/* The file must be writable now, and the path must hold wherever the program goes. */
static int set_json(struct request *q, const char *path)
{
	char cwd[PATH_MAX];
	int n, fd;

	if (path[0] == '/')
		n = snprintf(q->config.json, sizeof(q->config.json), "%s", path);
	else if (!getcwd(cwd, sizeof(cwd)))
		return tool_error("--json '%s': %s", path, strerror(errno));
	else
		n = snprintf(q->config.json, sizeof(q->config.json), "%s/%s", cwd, path);
	if (n < 0 || (size_t)n >= sizeof(q->config.json))
		return tool_error("--json '%s': %s", path, strerror(ENAMETOOLONG));
	fd = open(q->config.json, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return tool_error("--json '%s': %s", path, strerror(errno));
	close(fd);
	return 0;
}

static int set_swap(struct request *q, const char *spec)
{
	char msg[512];

	if (run_check_swap(spec, true, msg, sizeof(msg)))
		return tool_error("--swap: %s", msg);
	snprintf(q->config.swap, sizeof(q->config.swap), "%s", spec);
	return 0;
}

static int set_node(struct request *q, const char *spec)
{
	char msg[256];

	return run_add_node(&q->config, spec, msg, sizeof(msg)) ? tool_error("--node: %s", msg) : 0;
}

static int set_option(struct request *q, const char *name, const char *value)
{
	int e;

	if (!strcmp(name, "--ram")) {
		e = run_parse_size(value, &q->config.ram);
		return e ? bad_size(name, value, e) : 0;
	}
	if (!strcmp(name, "--swap"))
		return set_swap(q, value);
	if (!strcmp(name, "--node"))
		return set_node(q, value);
	if (!strcmp(name, "--placement"))
		return run_set_placement(&q->config, value) ?
			       tool_error("--placement '%s': fast, interleave or random", value) :
			       0;
	if (!strcmp(name, "--promote")) {
		q->config.promote = 0;
		e = strcmp(value, "0") ? run_parse_size(value, &q->config.promote) : 0;
		return e ? bad_size(name, value, e) : 0;
	}
	return set_json(q, value);
}

static bool takes_value(const char *name)
{
	static const char *const names[] = { "--ram",       "--swap",    "--json",
					     "--placement", "--promote", "--node" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* Returns the status with which to end, or -1 to go on. */
static int parse(int argc, char **argv, struct request *q)
{
	char name[32];
	int i = 1;

	q->config.promote = ~0ull;

	for (; i < argc && argv[i][0] == '-'; i++) {
		char *value = strchr(argv[i], '=');
		int e;

		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if (tool_is_help(argv[i])) {
			fputs(usage, stdout);
			return 0;
		}
		if (!strcmp(argv[i], "--quiet")) {
			q->config.quiet = true;
			continue;
		}
		snprintf(name, sizeof(name), "%.*s",
			 (int)(value ? value - argv[i] : (long)strlen(argv[i])), argv[i]);
		if (!takes_value(name))
			return tool_error("run: unknown option '%s'", argv[i]);
		if (value)
			value++;
		else if (i + 1 < argc)
			value = argv[++i];
		else
			return tool_error("run: %s needs a value", name);
		e = set_option(q, name, value);
		if (e)
			return e;
	}
	if (!q->config.nr_nodes && (q->config.placement || q->config.promote != ~0ull))
		return tool_error("run: --placement and --promote are of use with --node only");
	if (q->config.nr_nodes == 1)
		return tool_error("run: one --node is no choice: give two or more, or --ram");
	if (i >= argc)
		return tool_error("run: no program given");
	q->program = argv + i;
	return -1;
}

static int check_machine(void)
{
	struct host_probe p;

	host_probe(&p);
	if (!p.syscall_user_dispatch)
		return tool_error(
			"this kernel (%s) has no Syscall User Dispatch: Linux 5.11 or later on "
			"x86-64 is needed",
			p.kernel);
	if (p.uffd == -EPERM || p.uffd == -EACCES)
		return tool_error("userfaultfd is not permitted: as root, run "
				  "'sysctl vm.unprivileged_userfaultfd=1' (see quire info)");
	if (p.uffd)
		return tool_error("userfaultfd is not available (%s): a kernel with "
				  "CONFIG_USERFAULTFD is needed",
				  strerror(-p.uffd));
	if (!p.has_sigbus || !p.has_wp)
		return tool_error(
			"this kernel's userfaultfd (%s) lacks %s: Linux 5.7 or later is needed",
			p.kernel, p.has_sigbus ? "write protection" : "SIGBUS mode");
	return 0;
}

static int set_library(struct request *q)
{
	char path[PATH_MAX], *real;

	if (!tool_find_part(RUN_LIBRARY, path, sizeof(path)))
		return tool_error("%s is missing: it belongs beside the command or in ../lib",
				  RUN_LIBRARY);
	real = realpath(path, NULL);
	if (!real || strlen(real) >= sizeof(q->config.library))
		return tool_error("%s: %s", path, strerror(errno));
	strcpy(q->config.library, real);
	free(real);
	if (strpbrk(q->config.library, " :"))
		return tool_error(
			"'%s': a path with a space or colon cannot be preloaded: install Quire "
			"elsewhere",
			q->config.library);
	return 0;
}

static int set_environment(struct request *q)
{
	static char text[RUN_CONFIG_TEXT_MAX];
	const char *preload = getenv("LD_PRELOAD");
	struct timespec now;
	char *all;
	int e;

	clock_gettime(CLOCK_MONOTONIC, &now);
	q->config.start_ns = (u64)now.tv_sec * 1000000000ull + (u64)now.tv_nsec;
	q->config.pid = getpid();
	e = run_config_encode(&q->config, text, sizeof(text));
	if (e < 0)
		return tool_error("run: %s", strerror(-e));
	if (asprintf(&all, "%s%s%s", q->config.library, preload && *preload ? ":" : "",
		     preload ? preload : "") < 0)
		return tool_error("run: %s", strerror(ENOMEM));
	e = setenv("LD_PRELOAD", all, 1) || setenv(RUN_ENV, text, 1);
	free(all);
	return e ? tool_error("run: %s", strerror(errno)) : 0;
}

int tool_run(int argc, char **argv)
{
	static struct request q;
	char path[PATH_MAX], msg[PATH_MAX + 256];
	int e = parse(argc, argv, &q);

	if (e >= 0)
		return e;
	e = tool_check_program(q.program[0], path, sizeof(path), msg, sizeof(msg));
	if (e) {
		tool_error("%s", msg);
		return e;
	}
	e = check_machine();
	if (!e)
		e = set_library(&q);
	if (!e)
		e = set_environment(&q);
	if (e)
		return e;
	execv(path, q.program);
	e = errno;
	/* A script without an interpreter line: the shell's own way. */
	if (e == ENOEXEC) {
		execvp(q.program[0], q.program);
		e = errno;
	}
	tool_error("%s: %s", q.program[0], strerror(e));
	return e == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}
