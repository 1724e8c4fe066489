/*
 * Files for swap stores. Direct I/O where the file system has it, so that what was put out does not
 * stay in the page cache; buffers that are not aligned for it go through a staging buffer.
 *
 * A handle is the descriptor, with bit 30 set when the file takes direct I/O only from aligned
 * buffers.
 */
#include "machine/host/host_internal.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define HANDLE_DIRECT   (1 << 30)
#define TMPFS_MAGIC_NR  0x01021994l
#define RAMFS_MAGIC_NR  0x858458f6l
#define BLKGETSIZE64_NR _IOR(0x12, 114, size_t)
#define RLIMIT_FSIZE_NR 1

struct limit64 {
	u64 cur;
	u64 max;
};

static int handle_fd(int handle)
{
	return handle & ~HANDLE_DIRECT;
}

static long try_open(const char *path, int flags)
{
	long fd;

	do {
		fd = native_syscall(SYS_openat, (long)AT_FDCWD, path,
				    (long)(flags | O_CLOEXEC | O_NOCTTY), 0600l);
	} while (fd == -EINTR);
	return fd;
}

/* A new file vanishes by itself, however the process ends. An old one is used as it is. */
static long open_or_create(const char *path, bool *created)
{
	long fd = try_open(path, O_RDWR | O_CREAT | O_EXCL);

	*created = fd >= 0;
	if (fd >= 0)
		native_syscall(SYS_unlink, path);
	else if (fd == -EEXIST)
		fd = try_open(path, O_RDWR | O_NONBLOCK);
	return fd;
}

static u64 free_bytes(int fd, bool *in_memory)
{
	struct statfs fs;

	*in_memory = false;
	if (native_syscall(SYS_fstatfs, (long)fd, &fs))
		return 0;
	*in_memory = fs.f_type == TMPFS_MAGIC_NR || (u32)fs.f_type == (u32)RAMFS_MAGIC_NR;
	return (u64)fs.f_bavail * (u64)fs.f_bsize;
}

/* Make the regular file `want` bytes long, with room for them. */
static int grow(int fd, u64 have, u64 want)
{
	struct limit64 limit;
	bool in_memory;
	u64 room = free_bytes(fd, &in_memory);
	long err;

	/* The kernel would not only refuse but also send a signal. */
	if (!native_syscall(SYS_prlimit64, 0l, (long)RLIMIT_FSIZE_NR, (void *)0, &limit) &&
	    want > limit.cur)
		return -EFBIG;
	if (!in_memory) {
		do {
			err = native_syscall(SYS_fallocate, (long)fd, 0l, 0l, want);
		} while (err == -EINTR);
		if (err != -EOPNOTSUPP && err != -ENOSYS)
			return (int)err;
	}
	/* Reserving in memory would take the memory now; elsewhere it is not supported. */
	if (want - have > room)
		return -ENOSPC;
	return (int)native_syscall(SYS_ftruncate, (long)fd, want);
}

/* *size: see machine.h. Without a wish, a new file may use half of what is free, sparsely. */
static int set_size(int fd, u64 *size)
{
	struct stat st;
	u64 have = 0;
	bool in_memory;

	if (native_syscall(SYS_fstat, (long)fd, &st))
		return -EIO;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (S_ISBLK(st.st_mode)) {
		if (native_syscall(SYS_ioctl, (long)fd, (long)BLKGETSIZE64_NR, &have))
			return -EIO;
		have = ALIGN_DOWN(have, PAGE_SIZE);
		if (*size > have || !have)
			return -ENOSPC;
		*size = *size ? *size : have;
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	have = ALIGN_DOWN((u64)st.st_size, PAGE_SIZE);
	if (*size && *size <= have)
		return 0;
	if (!*size && have) {
		*size = have;
		return 0;
	}
	if (!*size) {
		*size = ALIGN_DOWN(free_bytes(fd, &in_memory) / 2, PAGE_SIZE);
		if (!*size)
			return -ENOSPC;
		return (int)native_syscall(SYS_ftruncate, (long)fd, *size);
	}
	return grow(fd, have, *size);
}

int host_file_open(struct machine *m, const char *path, u64 *size)
{
	u64 wanted = ALIGN_UP(*size, PAGE_SIZE);
	bool created;
	long fd, direct;
	int err;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	fd = open_or_create(path, &created);
	if (fd < 0)
		return (int)fd;
	err = set_size((int)fd, &wanted);
	if (err) {
		native_syscall(SYS_close, fd);
		return err;
	}
	*size = wanted;
	fd = host_raise_fd((int)fd, host_of(m)->fd_floor);
	direct = native_syscall(SYS_fcntl, fd, (long)F_SETFL, (long)O_DIRECT);
	if (direct < 0) /* and no O_NONBLOCK either */
		native_syscall(SYS_fcntl, fd, (long)F_SETFL, 0l);
	return (int)fd | (direct < 0 ? 0 : HANDLE_DIRECT);
}

void host_file_close(struct machine *m, int handle)
{
	(void)m;
	native_syscall(SYS_close, (long)handle_fd(handle));
}

/* All of it or an error. Reading behind the end of the file is an error: it is not as large as it
 * was. */
static int transfer(int handle, bool write, char *buf, u64 bytes, u64 offset)
{
	while (bytes) {
		long n = native_syscall(write ? SYS_pwrite64 : SYS_pread64, (long)handle_fd(handle),
					buf, bytes, offset);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n == -EINVAL && (handle & HANDLE_DIRECT)) {
			/* Files on some systems accept the flag and refuse the transfer. */
			n = native_syscall(SYS_fcntl, (long)handle_fd(handle), (long)F_SETFL, 0l);
			if (n < 0)
				return (int)n;
			handle &= ~HANDLE_DIRECT;
			continue;
		}
		if (n < 0)
			return (int)n;
		if (n == 0)
			return write ? -ENOSPC : -EIO;
		buf += n;
		bytes -= (u64)n;
		offset += (u64)n;
	}
	return 0;
}

static int transfer_staged(struct host *h, int handle, bool write, char *buf, u64 bytes, u64 offset)
{
	u64 piece = (u64)STAGE_SMALL << PAGE_SHIFT;
	char *stage = stage_get(h, STAGE_SMALL);
	int err = 0;

	if (!stage)
		return -ENOMEM;
	while (bytes && !err) {
		u64 n = min(bytes, piece);

		if (write)
			__builtin_memcpy(stage, buf, n);
		err = transfer(handle, write, stage, n, offset);
		if (!err && !write)
			__builtin_memcpy(buf, stage, n);
		buf += n;
		bytes -= n;
		offset += n;
	}
	stage_put(h, STAGE_SMALL, stage);
	return err;
}

static bool aligned_for(int handle, const void *buf)
{
	return !(handle & HANDLE_DIRECT) || IS_ALIGNED((uintptr_t)buf, PAGE_SIZE);
}

int host_file_read(struct machine *m, int handle, void *buf, u64 bytes, u64 offset)
{
	struct host *h = host_of(m);

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	if (!aligned_for(handle, buf))
		return transfer_staged(h, handle, false, buf, bytes, offset);
	return transfer(handle, false, buf, bytes, offset);
}

int host_file_write(struct machine *m, int handle, const void *buf, u64 bytes, u64 offset)
{
	struct host *h = host_of(m);
	char *from = (char *)(uintptr_t)buf;
	int err;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	if (!aligned_for(handle, buf))
		return transfer_staged(h, handle, true, from, bytes, offset);
	err = transfer(handle, true, from, bytes, offset);
	/* Frames that went meanwhile: the kernel cannot read them, but a load here can (trap.c). */
	if (err == -EFAULT && host_owns(m, (u64)(uintptr_t)buf, bytes))
		err = transfer_staged(h, handle, true, from, bytes, offset);
	return err;
}

void host_file_punch(struct machine *m, int handle, u64 bytes, u64 offset)
{
	(void)m;
	/* Only a hint: not every file system can. */
	native_syscall(SYS_fallocate, (long)handle_fd(handle),
		       (long)(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), offset, bytes);
}
