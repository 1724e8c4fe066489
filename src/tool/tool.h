/*
 * tool.h - the `quire` command: its subcommands and what they share.
 *
 * Invariants: a usage error is one line on standard error that names what is wrong, exit status 2;
 * nothing else is written where output is piped but what was asked for.
 * Locking: one thread; none.
 */
#ifndef QUIRE_TOOL_TOOL_H
#define QUIRE_TOOL_TOOL_H

#include <stdbool.h>
#include <stddef.h>

enum { EXIT_USAGE = 2, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

/* argv[0] is the name of the subcommand. They return the exit status. */
int tool_run(int argc, char **argv);
int tool_info(int argc, char **argv);

/* One line "quire: ..."; returns EXIT_USAGE. */
int tool_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool tool_is_help(const char *arg);
/* The folder of this executable, without a slash at the end. False: it cannot be told. */
bool tool_folder(char *path, size_t size);
/* A file that belongs to the command: beside it, in ../lib, or where it was installed. */
bool tool_find_part(const char *name, char *path, size_t size);

/* ---- program.c ---- */
/*
 * May this program be preloaded? 0, or the exit status with one line in msg. Scripts are followed
 * to their interpreters. `path` receives the file that PATH found.
 */
int tool_check_program(const char *name, char *path, size_t path_size, char *msg, size_t msg_size);

#endif
