/* Sleeping and waking: futexes private to the process. */
#include "base_backend.h"
#include "machine/native/native.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

void base_park(u32 *word, u32 expect)
{
	/* EAGAIN and EINTR both mean "look again", which is what every caller does anyway. */
	native_syscall(SYS_futex, word, (long)FUTEX_WAIT_PRIVATE, (long)expect, (void *)0);
}

void base_wake(u32 *word, u32 n)
{
	if (n > INT_MAX)
		n = INT_MAX;
	native_syscall(SYS_futex, word, (long)FUTEX_WAKE_PRIVATE, (long)n);
}

void base_yield(void)
{
	native_syscall(SYS_sched_yield);
}
