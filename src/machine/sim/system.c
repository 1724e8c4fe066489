/* The simulated machine's time, threads, memory and files: the real system's. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "machine/native/native.h"
#include "machine/sim/sim_internal.h"

/*
 * By raw calls: a sanitizer's interceptor would reset the shadow of the whole range, which is far
 * larger than what is ever touched of it.
 */
void *sim_reserve(size_t bytes)
{
	long p = native_syscall(SYS_mmap, (void *)0, bytes, (long)(PROT_READ | PROT_WRITE),
				(long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE), -1l, 0l);

	return p < 0 && p > -4096 ? NULL : (void *)p;
}

void sim_unreserve(void *addr, size_t bytes)
{
	if (addr)
		native_syscall(SYS_munmap, addr, bytes);
}

void sim_discard(void *addr, size_t bytes)
{
	native_syscall(SYS_madvise, addr, bytes, (long)MADV_DONTNEED);
}

u64 sim_now_ns(struct machine *m)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

void sim_sleep_ns(struct machine *m, u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000ull),
			       .tv_nsec = (long)(ns % 1000000000ull) };

	nanosleep(&ts, NULL);
}

struct sim_thread {
	pthread_t id;
	void (*fn)(void *arg);
	void *arg;
};

static void *thread_main(void *p)
{
	struct sim_thread *t = p;

	t->fn(t->arg);
	return NULL;
}

int sim_thread_start(struct machine *m, void (*fn)(void *arg), void *arg, void **handle)
{
	struct sim *sim = sim_of(m);
	struct sim_thread *t;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EAGAIN;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->arg = arg;
	if (pthread_create(&t->id, NULL, thread_main, t)) {
		free(t);
		return -EAGAIN;
	}
	a64_add(&sim->n.threads, 1);
	*handle = t;
	return 0;
}

void sim_thread_join(struct machine *m, void *handle)
{
	struct sim_thread *t = handle;

	pthread_join(t->id, NULL);
	free(t);
	a64_sub(&sim_of(m)->n.threads, 1);
}

void *sim_mem_map(struct machine *m, size_t bytes)
{
	void *p;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return NULL;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	a64_add(&sim_of(m)->n.mem_bytes, bytes);
	return p;
}

void sim_mem_unmap(struct machine *m, void *addr, size_t bytes)
{
	BUG_ON(munmap(addr, bytes));
	a64_sub(&sim_of(m)->n.mem_bytes, bytes);
}

void sim_mem_discard(struct machine *m, void *addr, size_t bytes)
{
	madvise(addr, bytes, MADV_DONTNEED);
}

/* The bytes of an open file that a store may use, after growing it to *size where that is asked
 * for. */
static int file_usable(int fd, bool created, u64 *size)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISBLK(st.st_mode)) {
		off_t end = lseek(fd, 0, SEEK_END);

		if (end < 0)
			return -errno;
		st.st_size = end;
	} else if (!S_ISREG(st.st_mode)) {
		return -EINVAL;
	} else if (*size > (u64)st.st_size) {
		if (ftruncate(fd, (off_t)*size))
			return -errno;
		st.st_size = (off_t)*size;
	}
	if (!*size || *size > (u64)st.st_size)
		*size = (u64)st.st_size;
	*size &= PAGE_MASK;
	return *size || created ? 0 : -EINVAL;
}

int sim_file_open(struct machine *m, const char *path, u64 *size)
{
	bool created = true;
	int fd, rc;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST) {
		created = false;
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (fd < 0)
		return -errno;
	if (created)
		unlink(path);
	rc = file_usable(fd, created, size);
	if (rc) {
		close(fd);
		return rc;
	}
	a64_add(&sim_of(m)->n.files, 1);
	return fd;
}

void sim_file_close(struct machine *m, int h)
{
	close(h);
	a64_sub(&sim_of(m)->n.files, 1);
}

int sim_file_read(struct machine *m, int h, void *buf, u64 bytes, u64 offset)
{
	u8 *at = buf;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	while (bytes) {
		ssize_t n = pread(h, at, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		bytes -= (u64)n;
		offset += (u64)n;
	}
	return 0;
}

int sim_file_write(struct machine *m, int h, const void *buf, u64 bytes, u64 offset)
{
	const u8 *at = buf;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	while (bytes) {
		ssize_t n = pwrite(h, at, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		at += n;
		bytes -= (u64)n;
		offset += (u64)n;
	}
	return 0;
}

void sim_file_punch(struct machine *m, int h, u64 bytes, u64 offset)
{
	/* A hint: a file system without holes keeps the blocks. */
	(void)!fallocate(h, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)bytes);
}

int sim_file_attach(struct machine *m, const char *path, u32 flags, u64 *size)
{
	struct stat st;
	int fd;

	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	fd = open(path,
		  O_CLOEXEC | (flags & FILE_READONLY ? O_RDONLY : O_RDWR) |
			  (flags & FILE_CREATE ? O_CREAT : 0) |
			  (flags & FILE_TRUNCATE ? O_TRUNC : 0),
		  0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	*size = (u64)st.st_size;
	a64_add(&sim_of(m)->n.files, 1);
	return fd;
}

int sim_file_resize(struct machine *m, int h, u64 size)
{
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	return ftruncate(h, (off_t)size) ? -errno : 0;
}

int sim_file_zero(struct machine *m, int h, u64 bytes, u64 offset)
{
	static const u8 zeroes[PAGE_SIZE];
	int err = 0;

	if (!bytes)
		return 0;
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	if (!fallocate(h, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes))
		return 0;
	for (u64 at = 0; at < bytes && !err; at += PAGE_SIZE)
		err = sim_file_write(m, h, zeroes, bytes - at < PAGE_SIZE ? bytes - at : PAGE_SIZE,
				     offset + at);
	return err;
}

int sim_file_sync(struct machine *m, int h)
{
	if (inject_fail(m->inject, INJECT_MACHINE_CALL))
		return -EIO;
	return fsync(h) ? -errno : 0;
}
