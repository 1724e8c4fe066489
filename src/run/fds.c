/*
 * Descriptors of ours: moved to high numbers, and kept from being closed or replaced by the
 * program, for which they do not exist.
 */
#include "run/run.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MAX_OWN               128
#define SYS_io_uring_setup_nr 425

static struct run_lock fds_lock;
static s32 own[MAX_OWN]; /* (fds_lock to write) number + 1; 0: free */

/*
 * The lock is not held over a fork, because the core opens a descriptor in the child: whoever held
 * it is not there, and the table is whole after each store.
 */
void run_fds_forked(void)
{
	fds_lock.word = 0;
}

bool run_fd_ours(u64 fd)
{
	for (int i = 0; i < MAX_OWN; i++) {
		if (__atomic_load_n(&own[i], __ATOMIC_RELAXED) == (s32)fd + 1)
			return true;
	}
	return false;
}

static void forget(s32 fd)
{
	run_lock(&fds_lock);
	for (int i = 0; i < MAX_OWN; i++) {
		if (own[i] == fd + 1)
			__atomic_store_n(&own[i], 0, __ATOMIC_RELAXED);
	}
	run_unlock(&fds_lock);
}

static void remember(s32 fd)
{
	run_lock(&fds_lock);
	for (int i = 0; i < MAX_OWN; i++) {
		if (!own[i]) {
			__atomic_store_n(&own[i], fd + 1, __ATOMIC_RELAXED);
			break;
		}
	}
	run_unlock(&fds_lock);
}

int run_fd_own(int fd)
{
	struct rlimit limit = { .rlim_cur = 1024 };
	long at, high = -1;

	RAW(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
	at = limit.rlim_cur > 4096 ? 4096 : (long)limit.rlim_cur;
	for (long room = 64; high < 0 && room > 0 && at > room; room /= 2)
		high = RAW(SYS_fcntl, fd, F_DUPFD_CLOEXEC, at - room);
	if (high >= 0)
		RAW(SYS_close, fd);
	else
		high = fd; /* no room: it stays where it is */
	remember((s32)high);
	return (int)high;
}

/* What it opens for reading only is a line of /proc, and closed at once. */
static bool opens(long nr, long flags)
{
	switch (nr) {
	case SYS_openat:
		return (flags & O_ACCMODE) != O_RDONLY;
	case SYS_userfaultfd:
	case SYS_memfd_create:
	case SYS_eventfd2:
	case SYS_socket:
	case SYS_epoll_create1:
	case SYS_timerfd_create:
	case SYS_dup:
	case SYS_io_uring_setup_nr:
		return true;
	default:
		return false;
	}
}

long run_core_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	long r;

	if (nr == SYS_close)
		forget((s32)a);
	r = run_syscall(nr, a, b, c, d, e, f);
	if (r >= 0 && nr == SYS_fcntl && (b == F_DUPFD_CLOEXEC || b == F_DUPFD))
		remember((s32)r); /* the core moves it itself */
	return r >= 0 && opens(nr, c) ? run_fd_own((int)r) : r;
}

/* close_range around what is ours: the stretches between, lowest first. */
static long close_around(u64 first, u64 last, u64 flags)
{
	while (first <= last) {
		u64 next = last + 1;
		long e;

		for (int i = 0; i < MAX_OWN; i++) {
			s32 fd = __atomic_load_n(&own[i], __ATOMIC_RELAXED) - 1;

			if (fd >= 0 && (u64)fd >= first && (u64)fd < next)
				next = (u64)fd;
		}
		e = next > first ? RAW(SYS_close_range, first, next - 1, flags) : 0;
		if (e)
			return e;
		first = next + 1;
	}
	return 0;
}

bool run_fd_call(u64 nr, const u64 a[6], long *result)
{
	*result = -EBADF;
	switch (nr) {
	case SYS_close:
		return run_fd_ours((u32)a[0]);
	case SYS_dup2:
	case SYS_dup3:
		return run_fd_ours((u32)a[0]) || run_fd_ours((u32)a[1]);
	case SYS_close_range:
		if ((u32)a[0] > (u32)a[1] || (a[2] & CLOSE_RANGE_CLOEXEC))
			return false;
		*result = close_around((u32)a[0], (u32)a[1], a[2]);
		return true;
	default:
		return false;
	}
}
