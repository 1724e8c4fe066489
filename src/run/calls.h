/*
 * calls.h - how a system call's arguments are described: what each pointer points to, how long it
 * is, and in which direction the bytes go.
 *
 * Invariants: a description names every byte that the kernel may touch during the call, except in
 * calls that are served elsewhere (memory, transfers, signals, processes).
 * Locking: constant tables.
 */
#ifndef QUIRE_RUN_CALLS_H
#define QUIRE_RUN_CALLS_H

#include "base/types.h"

enum arg_kind {
	K_NONE,
	K_FIXED,  /* size bytes */
	K_LEN,    /* arg[len_arg] units of size bytes */
	K_LEN32,  /* the same, the count is 32 bits */
	K_LENP,   /* *(u32 *)arg[len_arg] bytes, which the kernel writes too */
	K_STRING, /* up to its end */
	K_IOVEC,  /* arg[len_arg] of them and what they name */
	K_MSG,    /* struct msghdr and what it names */
	K_MMSG,   /* arg[len_arg] of struct mmsghdr */
	K_FDSET,  /* bits for arg[len_arg] descriptors */
	K_IOCTL,
	K_PAGE,         /* size bytes, or to the end of the page */
	K_SIGMASK,      /* holds while the call waits */
	K_SIGMASK_PAIR, /* pselect6: a pointer and a size */
};

enum arg_dir { DIR_IN, DIR_OUT, DIR_BOTH };

struct arg_spec {
	u8 arg;
	u8 kind;
	u8 dir;
	u8 len_arg;
	u16 size;
};

enum call_flags {
	CALL_QUICK = 1,   /* never waits for anybody: made with signals blocked */
	CALL_REFUSED = 2, /* ENOSYS: the kernel would use the memory behind our back */
	CALL_KEEPS = 4,   /* the kernel keeps the addresses: the pages are locked for good */
	CALL_FUTEX_WAKE = 8,
};

#define CALL_MAX_ARGS 5
struct call_spec {
	u8 nr; /* descriptions */
	u8 flags;
	struct arg_spec arg[CALL_MAX_ARGS];
};

/* NULL: not described. A description without arguments: no pointers in it. */
const struct call_spec *run_call_spec(u64 nr);

#endif
