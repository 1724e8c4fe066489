/*
 * Somebody's own files, for objects: kept where they are, read and written at any byte through the
 * kernel's page cache. (Direct I/O would want aligned ends, and a file's end is anywhere.)
 */
#include "machine/host/host_internal.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

int host_file_attach(struct machine *m, const char *path, u32 flags, u64 *size)
{
	int how = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (flags & FILE_READONLY ? O_RDONLY : O_RDWR) |
		  (flags & FILE_CREATE ? O_CREAT : 0) | (flags & FILE_TRUNCATE ? O_TRUNC : 0);
	struct stat st;
	long fd;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	do {
		fd = native_syscall(SYS_openat, (long)AT_FDCWD, path, (long)how, 0666l);
	} while (fd == -EINTR);
	if (fd < 0)
		return (int)fd;
	if (native_syscall(SYS_fstat, fd, &st) || !S_ISREG(st.st_mode)) {
		native_syscall(SYS_close, fd);
		return -EINVAL;
	}
	*size = (u64)st.st_size;
	return host_raise_fd((int)fd, host_of(m)->fd_floor);
}

int host_file_resize(struct machine *m, int fd, u64 size)
{
	long err;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	do {
		err = native_syscall(SYS_ftruncate, (long)fd, size);
	} while (err == -EINTR);
	return (int)err;
}

int host_file_zero(struct machine *m, int fd, u64 bytes, u64 offset)
{
	static const u8 zeroes[PAGE_SIZE];
	long err;

	if (!bytes)
		return 0;
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	do {
		err = native_syscall(SYS_fallocate, (long)fd,
				     (long)(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), offset,
				     bytes);
	} while (err == -EINTR);
	if (err != -EOPNOTSUPP && err != -ENOSYS)
		return (int)err;
	/* Not every file system has holes. */
	err = 0;
	for (u64 at = 0; at < bytes && !err; at += PAGE_SIZE)
		err = host_file_write(m, fd, zeroes, min(bytes - at, PAGE_SIZE), offset + at);
	return (int)err;
}

int host_file_sync(struct machine *m, int fd)
{
	long err;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	do {
		err = native_syscall(SYS_fsync, (long)fd);
	} while (err == -EINTR);
	return (int)err;
}
