/* The kernel's verbs on managed memory. EAGAIN is a partial result or a race inside the kernel: go
 * on. */
#include "machine/host/host_internal.h"

#include <fcntl.h>
#include <sys/mman.h>

#define UFFD_WANTED (UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP)
#define UFFD_LIKED  (UFFD_FEATURE_EXACT_ADDRESS | UFFD_FEATURE_MOVE)
#define UFFD_PLAIN \
	(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

int host_raise_fd(int fd, int floor)
{
	long high;

	if (fd < 0 || fd >= floor)
		return fd;
	high = native_syscall(SYS_fcntl, (long)fd, (long)F_DUPFD_CLOEXEC, (long)floor);
	if (high < 0) /* the limit on descriptors is lower than that */
		return fd;
	native_syscall(SYS_close, (long)fd);
	return (int)high;
}

/* The unprivileged kind first: in SIGBUS mode the kernel's own accesses never wait for us anyway.
 */
static long open_any(void)
{
	long fd = native_syscall(SYS_userfaultfd,
				 (long)(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
	long dev;

	if (fd >= 0)
		return fd;
	if (fd == -EINVAL) /* kernels before 5.11 */
		fd = native_syscall(SYS_userfaultfd, (long)(O_CLOEXEC | O_NONBLOCK));
	if (fd >= 0)
		return fd;
	dev = native_syscall(SYS_openat, (long)AT_FDCWD, "/dev/userfaultfd",
			     (long)(O_RDWR | O_CLOEXEC), 0l);
	if (dev >= 0) {
		long of_dev = native_syscall(SYS_ioctl, dev, (long)USERFAULTFD_IOC_NEW,
					     (long)(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));

		native_syscall(SYS_close, dev);
		if (of_dev >= 0)
			return of_dev;
	}
	return fd;
}

static long open_with(u64 features, u64 *offered)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	long fd = open_any();
	long err;

	if (fd < 0)
		return fd;
	err = native_syscall(SYS_ioctl, fd, (long)UFFDIO_API, &api);
	if (err) {
		native_syscall(SYS_close, fd);
		return err == -EINVAL ? -ENOSYS : err;
	}
	*offered = api.features;
	return fd;
}

u64 uffd_features_used(u64 offered)
{
	return UFFD_WANTED | (offered & UFFD_LIKED) | (uffd_has_plain(offered) ? UFFD_PLAIN : 0);
}

/* CONTINUE with write protection has no feature bit; it came (6.4) with another that we do not use.
 */
bool uffd_has_plain(u64 offered)
{
	const u64 needs = UFFD_PLAIN | UFFD_FEATURE_WP_UNPOPULATED;

	return (offered & needs) == needs;
}

/*
 * features 0: find out what there is (a descriptor can be asked only once) and take what we can
 * use; *offered says what the kernel has. Else exactly these.
 */
int uffd_open(u64 features, u64 *offered, int fd_floor)
{
	u64 unused;
	long fd;

	if (!features) {
		fd = open_with(0, offered);
		if (fd < 0)
			return (int)fd;
		native_syscall(SYS_close, fd);
		if ((*offered & UFFD_WANTED) != UFFD_WANTED)
			return -ENOSYS;
		features = uffd_features_used(*offered);
	}
	fd = open_with(features, &unused);
	return host_raise_fd((int)fd, fd_floor);
}

int uffd_register(struct host *h, u64 va, u64 size, bool plain)
{
	struct uffdio_register reg = {
		.range = { va, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP |
			(plain ? UFFDIO_REGISTER_MODE_MINOR : 0),
	};

	return (int)native_syscall(SYS_ioctl, (long)h->fd, (long)UFFDIO_REGISTER, &reg);
}

int uffd_register_kept(struct host *h, u64 va, u64 size)
{
	struct uffdio_register reg = {
		.range = { va, size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	return (int)native_syscall(SYS_ioctl, (long)h->fd, (long)UFFDIO_REGISTER, &reg);
}

struct uffd_result uffd_copy(struct host *h, u64 va, const void *src, u64 size, bool protect)
{
	struct uffd_result res = { 0, 0 };

	while (res.done < size) {
		struct uffdio_copy c = {
			.dst = va + res.done,
			.src = (u64)(uintptr_t)src + res.done,
			.len = size - res.done,
			.mode = protect ? UFFDIO_COPY_MODE_WP : 0,
		};
		long err = native_syscall(SYS_ioctl, (long)h->fd, (long)UFFDIO_COPY, &c);

		/* A partial copy reports EAGAIN and how far it came; what stopped it shows next. */
		if (c.copy > 0)
			res.done += (u64)c.copy;
		else if (err && err != -EAGAIN && err != -EINTR) {
			res.err = (int)err;
			break;
		}
	}
	return res;
}

int uffd_fill(struct host *h, u64 va, const void *src, u64 size, u64 *done)
{
	*done = 0;
	while (*done < size) {
		struct uffd_result res =
			uffd_copy(h, va + *done, (const char *)src + *done, size - *done, false);

		*done += res.done;
		if (res.err == -EEXIST)
			host_discard(va + *done, PAGE_SIZE);
		else if (res.err)
			return -ENOMEM;
	}
	return 0;
}

struct uffd_result uffd_continue(struct host *h, u64 va, u64 size, bool protect)
{
	struct uffd_result res = { 0, 0 };

	while (res.done < size) {
		struct host_uffdio_continue c = {
			.start = va + res.done,
			.len = size - res.done,
			.mode = protect ? HOST_CONTINUE_MODE_WP : 0,
		};
		long err = native_syscall(SYS_ioctl, (long)h->fd, (long)HOST_UFFDIO_CONTINUE, &c);

		if (c.mapped > 0)
			res.done += (u64)c.mapped;
		else if (err && err != -EAGAIN && err != -EINTR) {
			res.err = (int)err;
			break;
		}
	}
	return res;
}

/*
 * How many pages from these addresses on have been moved already. A MOVE that is interrupted, for
 * one because the kernel itself migrates a page of the range at that moment, tells of fewer pages
 * than it has moved (seen with Linux 6.18): the next try then finds the source gone and the
 * destination there, which looks like a stray page in the way, and is the only copy.
 */
static u64 moved_already(u64 dst, u64 src, u64 nr)
{
	unsigned char there[64], here[64];
	u64 n = 0, len = min(nr, (u64)sizeof(there));

	if (native_syscall(SYS_mincore, dst, len << PAGE_SHIFT, there) ||
	    native_syscall(SYS_mincore, src, len << PAGE_SHIFT, here))
		return 0;
	while (n < len && (there[n] & 1) && !(here[n] & 1))
		n++;
	return n;
}

struct uffd_result uffd_move(struct host *h, u64 dst, u64 src, u64 size)
{
	struct uffd_result res = { 0, 0 };

	while (res.done < size) {
		struct host_uffdio_move c = {
			.dst = dst + res.done,
			.src = src + res.done,
			.len = size - res.done,
			.mode = HOST_MOVE_ALLOW_SRC_HOLES,
		};
		long err = native_syscall(SYS_ioctl, (long)h->fd, (long)HOST_UFFDIO_MOVE, &c);

		if (c.move > 0) {
			res.done += (u64)c.move;
			continue;
		}
		if (err == -EEXIST) {
			u64 n = moved_already(c.dst, c.src, c.len >> PAGE_SHIFT);

			res.done += n << PAGE_SHIFT;
			if (n)
				continue;
		}
		if (err && err != -EAGAIN && err != -EINTR) {
			res.err = (int)err;
			break;
		}
	}
	return res;
}

int uffd_protect(struct host *h, u64 va, u64 size, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { va, size },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	long err;

	do {
		err = native_syscall(SYS_ioctl, (long)h->fd, (long)UFFDIO_WRITEPROTECT, &wp);
	} while (err == -EAGAIN || err == -EINTR);
	return (int)err;
}

/* Names the calling thread's own process (Linux 6.14; the header may be older). */
#define PIDFD_OF_SELF (-10000l)

bool uffd_probe_discard_many(void *page)
{
	struct iovec iov = { page, PAGE_SIZE };

	return native_syscall(SYS_process_madvise, PIDFD_OF_SELF, &iov, 1l, (long)MADV_DONTNEED,
			      0l) == (long)PAGE_SIZE;
}

void host_discard_many(struct host *h, const struct iovec *iov, u32 n)
{
	u64 bytes = 0;

	for (u32 i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	if (n > 1 && h->has_vector &&
	    native_syscall(SYS_process_madvise, PIDFD_OF_SELF, iov, (long)n, (long)MADV_DONTNEED,
			   0l) == (long)bytes)
		return;
	/* Also after a part was done: dropping it again does no harm. */
	for (u32 i = 0; i < n; i++)
		host_discard((u64)(uintptr_t)iov[i].iov_base, iov[i].iov_len);
}

int uffd_probe_zero(struct host *h, u64 va)
{
	struct uffdio_zeropage z = { .range = { va, PAGE_SIZE } };
	long err;

	do {
		err = native_syscall(SYS_ioctl, (long)h->fd, (long)UFFDIO_ZEROPAGE, &z);
	} while (err == -EAGAIN || err == -EINTR);
	return (int)err;
}

void host_discard(u64 va, u64 size)
{
	long err = sys_madvise(va, size, MADV_DONTNEED);

	/* Somebody locked all of the process's memory: the kernel wants it said explicitly. */
	if (unlikely(err == -EINVAL))
		err = sys_madvise(va, size, HOST_MADV_DONTNEED_LOCKED);
	/* A page believed to be gone must be gone. ENOMEM: unmapped parts were skipped, the rest
	 * was done. */
	BUG_ON(err && err != -ENOMEM);
}
