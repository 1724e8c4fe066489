/* Can a program be run with our library preloaded? Looks at its file as the kernel and ld.so will.
 */
#include "tool/tool.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPT_DEPTH 5
#define HEAD_BYTES   256
#define MAX_HEADERS  256

static int refuse(int status, char *msg, size_t size, const char *name, const char *why)
{
	snprintf(msg, size, "%s: %s", name, why);
	return status;
}

/* As a shell looks for it. 0, 126 or 127. */
static int find(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH");
	int status = EXIT_NOT_FOUND;
	struct stat st;

	if (strchr(name, '/')) {
		snprintf(path, size, "%s", name);
		if (stat(path, &st))
			return errno == EACCES ? EXIT_NOT_EXECUTABLE : EXIT_NOT_FOUND;
		return S_ISDIR(st.st_mode) || access(path, X_OK) ? EXIT_NOT_EXECUTABLE : 0;
	}
	if (!dirs)
		dirs = "/usr/local/bin:/usr/bin:/bin";
	while (*name) {
		size_t n = strcspn(dirs, ":");

		snprintf(path, size, "%.*s%s%s", (int)n, dirs, n ? "/" : "", name);
		if (!stat(path, &st) && S_ISREG(st.st_mode)) {
			if (!access(path, X_OK))
				return 0;
			status = EXIT_NOT_EXECUTABLE;
		}
		if (!dirs[n])
			break;
		dirs += n + 1;
	}
	snprintf(path, size, "%s", name);
	return status;
}

/* "#!INTERPRETER ..." -> the interpreter. */
static bool script_interpreter(const char *head, ssize_t n, char *path, size_t size)
{
	size_t at = 2, len = 0;

	if (n < 3 || head[0] != '#' || head[1] != '!')
		return false;
	while (at < (size_t)n && (head[at] == ' ' || head[at] == '\t'))
		at++;
	while (at + len < (size_t)n && !strchr(" \t\n", head[at + len]))
		len++;
	if (!len || len >= size)
		return false;
	memcpy(path, head + at, len);
	path[len] = 0;
	return true;
}

static int check_elf(int fd, const char *path, char *msg, size_t size)
{
	Elf64_Ehdr h;
	Elf64_Phdr p;

	if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
	    h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64)
		return refuse(EXIT_USAGE, msg, size, path,
			      "not a 64-bit x86 program: only those can be managed");
	for (unsigned i = 0; i < h.e_phnum && i < MAX_HEADERS; i++) {
		if (pread(fd, &p, sizeof(p), (off_t)(h.e_phoff + i * sizeof(p))) !=
		    (ssize_t)sizeof(p))
			break;
		if (p.p_type == PT_INTERP)
			return 0;
	}
	return refuse(EXIT_USAGE, msg, size, path,
		      "statically linked: a library cannot be preloaded into it");
}

static int check_file(const char *path, char *next, size_t next_size, char *msg, size_t size)
{
	char head[HEAD_BYTES];
	struct stat st;
	ssize_t n;
	int fd, r = 0;

	*next = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		/* It may be run but not read: the kernel knows more than we do. */
		return 0;
	}
	n = pread(fd, head, sizeof(head) - 1, 0);
	if (!fstat(fd, &st) && (((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
				((st.st_mode & S_ISGID) && st.st_gid != getegid())))
		r = refuse(EXIT_USAGE, msg, size, path,
			   "set-user-ID or set-group-ID: a library cannot be preloaded into it");
	else if (fgetxattr(fd, "security.capability", NULL, 0) > 0 && geteuid())
		r = refuse(EXIT_USAGE, msg, size, path,
			   "has file capabilities: a library cannot be preloaded into it");
	else if (n >= 4 && !memcmp(head, ELFMAG, SELFMAG))
		r = check_elf(fd, path, msg, size);
	else if (!script_interpreter(head, n, next, next_size))
		r = n > 0 && memchr(head, 0, (size_t)n) ?
			    refuse(EXIT_NOT_EXECUTABLE, msg, size, path, strerror(ENOEXEC)) :
			    0;
	close(fd);
	return r;
}

int tool_check_program(const char *name, char *path, size_t path_size, char *msg, size_t msg_size)
{
	char file[PATH_MAX], next[PATH_MAX];
	int r = find(name, path, path_size);

	if (r)
		return refuse(r, msg, msg_size, name,
			      r == EXIT_NOT_FOUND ? "no such program" : "cannot be executed");
	snprintf(file, sizeof(file), "%s", path);
	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		r = check_file(file, next, sizeof(next), msg, msg_size);
		if (r || !*next)
			return r;
		if (access(next, X_OK))
			return refuse(EXIT_NOT_EXECUTABLE, msg, msg_size, file,
				      "its interpreter cannot be executed");
		strcpy(file, next);
	}
	return 0;
}
