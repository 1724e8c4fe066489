/* quire: the command line. */
#include "tool/tool.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef QUIRE_VERSION
#define QUIRE_VERSION "unknown"
#endif
#ifndef QUIRE_LIBDIR
#define QUIRE_LIBDIR "/usr/local/lib"
#endif

/* Linked in where the benchmarks are; the explorer is a library beside the command. */
extern int quire_bench_main(int argc, char **argv) __attribute__((weak));

static const char usage[] =
	"usage: quire run [--ram SIZE] [--swap SPEC] [--json FILE] [--quiet] [--] "
	"PROGRAM [ARG...]\n"
	"       quire explore [OPTION...] [SCENARIO...]\n"
	"       quire bench [--list] [--json] [NAME...]\n"
	"       quire info\n"
	"       quire --version | --help\n"
	"\n"
	"run      run a program on managed memory, at most SIZE of it resident\n"
	"explore  run the memory manager's own code under every interleaving of small scenarios\n"
	"bench    measure it beside the kernel\n"
	"info     what this machine offers, what is missing, and how to get it\n"
	"\n"
	"`quire COMMAND --help` says more.\n";

int tool_error(const char *format, ...)
{
	va_list args;

	fputs("quire: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

bool tool_is_help(const char *arg)
{
	return !strcmp(arg, "--help") || !strcmp(arg, "-h");
}

bool tool_folder(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	char *slash;

	if (n <= 0 || (size_t)n >= size - 1)
		return false;
	path[n] = 0;
	slash = strrchr(path, '/');
	if (!slash)
		return false;
	*slash = 0;
	return true;
}

bool tool_find_part(const char *name, char *path, size_t size)
{
	char folder[PATH_MAX];

	if (tool_folder(folder, sizeof(folder))) {
		snprintf(path, size, "%s/%s", folder, name);
		if (!access(path, R_OK))
			return true;
		snprintf(path, size, "%s/../lib/%s", folder, name);
		if (!access(path, R_OK))
			return true;
	}
	snprintf(path, size, "%s/%s", QUIRE_LIBDIR, name);
	return !access(path, R_OK);
}

static int explore(int argc, char **argv)
{
	char path[PATH_MAX];
	int (*explore_main)(int, char **);
	void *lib;

	if (!tool_find_part("libquire-explore.so", path, sizeof(path)))
		return tool_error("explore: libquire-explore.so was not built");
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return tool_error("explore: %s", dlerror());
	*(void **)&explore_main = dlsym(lib, "quire_explore_main");
	if (!explore_main)
		return tool_error("explore: %s has no quire_explore_main", path);
	return explore_main(argc, argv);
}

static int bench(int argc, char **argv)
{
	if (!quire_bench_main)
		return tool_error("bench: this build has no benchmarks");
	return quire_bench_main(argc, argv);
}

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} commands[] = {
	{ "run", tool_run },
	{ "explore", explore },
	{ "bench", bench },
	{ "info", tool_info },
};

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	if (tool_is_help(argv[1])) {
		fputs(usage, stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("quire " QUIRE_VERSION);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	}
	return tool_error("no command '%s': run, explore, bench and info exist", argv[1]);
}
