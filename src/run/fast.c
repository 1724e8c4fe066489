/*
 * The C library's hot calls, without a trap: the call is made through the gate. A managed buffer is
 * pinned first; that happens in the program's context, so signals that come meanwhile are kept
 * (run_thread.in_core), and a handler that runs between the pin and the call makes it start again
 * (run_fast). What is not simple goes the long way: a system call outside the gate, which traps.
 *
 * These are cancellation points as they are natively: while the call is made, cancellation is
 * asynchronous in programs with several threads.
 */
#undef _FILE_OFFSET_BITS /* pread and pread64 are two symbols here */
#include "run/run.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/single_threaded.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

static inline long result(long r)
{
	if (unlikely((u64)r > -4096ul)) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

/* A system call instruction that is dispatched. */
static long trapping(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

static inline void core_enter(struct run_thread *t)
{
	t->in_core++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void core_leave(struct run_thread *t)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	t->in_core--;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (unlikely(t->deferred))
		run_deferred_trap();
}

static long pinned(struct run_thread *t, const long v[7], u64 buf, u64 size, bool write)
{
	long r;

	do {
		core_enter(t);
		if (t->nr_pins)
			run_unpin_all(t); /* left behind by a jump out of a handler */
		run_pin(t, buf, size, write);
		run_fast_ready = 1;
		core_leave(t);
		r = run_fast(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
	} while (r == RUN_AGAIN);
	core_enter(t);
	run_unpin_all(t);
	run_fast_ready = 0;
	core_leave(t);
	return r;
}

static inline long call(const long v[7], u64 buf, u64 size, bool write)
{
	struct run_thread *t;

	if (!run_touches(buf, size))
		return run_syscall(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
	t = run_self;
	/* The core must not run on a stack that it manages. */
	if (!t || !t->armed || size > run.pin_cap || run_managed((u64)__builtin_frame_address(0)))
		return trapping(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
	return pinned(t, v, buf, size, write);
}

static long cancellable(const long v[7], u64 buf, u64 size, bool write)
{
	int old;
	long r;

	if (__libc_single_threaded)
		return call(v, buf, size, write);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	r = call(v, buf, size, write);
	pthread_setcanceltype(old, NULL);
	return r;
}

#define CALL(buf, size, write, ...) \
	result(cancellable((long[7]){ __VA_ARGS__ }, (u64)(buf), (u64)(size), write))

VISIBLE ssize_t read(int fd, void *buf, size_t n)
{
	return CALL(buf, n, true, SYS_read, fd, (long)buf, (long)n);
}

VISIBLE ssize_t write(int fd, const void *buf, size_t n)
{
	return CALL(buf, n, false, SYS_write, fd, (long)buf, (long)n);
}

VISIBLE ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
	return CALL(buf, n, true, SYS_pread64, fd, (long)buf, (long)n, at);
}

VISIBLE ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
	return CALL(buf, n, false, SYS_pwrite64, fd, (long)buf, (long)n, at);
}

VISIBLE ssize_t pread(int fd, void *buf, size_t n, off_t at) __attribute__((alias("pread64")));
VISIBLE ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
	__attribute__((alias("pwrite64")));
VISIBLE ssize_t __read(int fd, void *buf, size_t n) __attribute__((alias("read")));
VISIBLE ssize_t __write(int fd, const void *buf, size_t n) __attribute__((alias("write")));

VISIBLE ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	return CALL(buf, n, true, SYS_recvfrom, fd, (long)buf, (long)n, flags);
}

VISIBLE ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	return CALL(buf, n, false, SYS_sendto, fd, (long)buf, (long)n, flags);
}

VISIBLE int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
	return (int)CALL(events, n > 0 ? (size_t)n * sizeof(*events) : 0, true, SYS_epoll_wait, fd,
			 (long)events, n, timeout);
}

VISIBLE int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return (int)CALL(fds, n * sizeof(*fds), true, SYS_poll, (long)fds, (long)n, timeout);
}

/* Never waits, has no buffer, and is called as often as read. */
VISIBLE off64_t lseek64(int fd, off64_t at, int whence)
{
	return result(run_syscall(SYS_lseek, (long)fd, at, (long)whence, 0l, 0l, 0l));
}

VISIBLE off_t lseek(int fd, off_t at, int whence) __attribute__((alias("lseek64")));

/* Vectors and messages: only those without anything managed are simple. */
static bool vector_plain(const struct iovec *v, u64 nr)
{
	if (nr > RUN_MAX_IOV || run_touches((u64)v, nr * sizeof(*v)))
		return false;
	for (u64 i = 0; i < nr; i++) {
		struct iovec one;

		if (!run_get(&one, (u64)&v[i], sizeof(one)))
			return true; /* EFAULT */
		if (run_touches((u64)one.iov_base, one.iov_len))
			return false;
	}
	return true;
}

#define VECTOR_CALL(v, nr, ...)                                        \
	(vector_plain(v, (u64)(nr)) ? CALL(0, 0, false, __VA_ARGS__) : \
				      result(cancellable_trap((long[7]){ __VA_ARGS__ })))

static long cancellable_trap(const long v[7])
{
	int old;
	long r;

	if (__libc_single_threaded)
		return trapping(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	r = trapping(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
	pthread_setcanceltype(old, NULL);
	return r;
}

VISIBLE ssize_t readv(int fd, const struct iovec *v, int n)
{
	return VECTOR_CALL(v, n < 0 ? 0 : n, SYS_readv, fd, (long)v, n);
}

VISIBLE ssize_t writev(int fd, const struct iovec *v, int n)
{
	return VECTOR_CALL(v, n < 0 ? 0 : n, SYS_writev, fd, (long)v, n);
}
