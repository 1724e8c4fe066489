/*
 * run.h - libquire-run: what its files share. The library is preloaded into a program and gives it
 * managed memory; it knows the core only through <quire/quire.h>.
 *
 * How a system call travels. Dispatch (Syscall User Dispatch without a selector) sends every system
 * call made outside the gate page (gate.S) to run_on_sigsys. That handler, like those of SIGBUS,
 * SIGSEGV and of all the program's signals, runs on an alternate stack of our own with every other
 * signal blocked, so that nothing of the program ever interrupts the core. It either serves the
 * call, or makes the program go on inside the gate, in its own context, where the call is made
 * natively: EINTR, SA_RESTART and cancellation are the kernel's own.
 *
 * Invariants:
 *  1. No handler of the program runs while our stack is in use or while this thread is inside the
 *     core (thread.in_core): such a signal is deferred until it has left.
 *  2. A signal that is delivered never leaves the interrupted context inside the gate: it is moved
 *     to the program's own call (not yet made, or to be made again) or behind it (made), and what
 *     was pinned for it is unpinned. A handler may therefore longjmp, or make calls of its own.
 *  3. SIGBUS and SIGSYS are never blocked in the kernel; the program's wish is remembered.
 *  4. A thread has pins only for its one call in flight.
 *  5. Bytes of the program are read and written through run_copy, which survives bad addresses, and
 *     never while a lock of ours or of the core is held.
 *
 * Locking: `self` records belong to their thread (O), or to the forking thread in a child; the
 * locks of this library are run_lock words, taken with signals blocked and held over no call to the
 * program;
 * order: threads, clone slots, memory, signals, fds.
 */
#ifndef QUIRE_RUN_RUN_H
#define QUIRE_RUN_RUN_H

#include "base/types.h"
#include "run/config.h"

#include <quire/quire.h>

#include <signal.h>
#include <sys/uio.h>
#include <ucontext.h>

#define RUN_MAX_PINS 1536u
#define RUN_MAX_IOV  1024u
#define RUN_SCRATCH  4096u
#define RUN_STACK_BYTES                                                           \
	(512ul << 10) /* of our handlers: one block a thread, its record included \
		       */
#define RUN_SIGNALS    65
#define RUN_SAVED_ARGS 6

/* What the kernel takes for sigaction; `restorer` is obligatory on x86-64. */
struct run_ksigaction {
	u64 handler;
	u64 flags;
	u64 restorer;
	u64 mask;
};

struct run_pin {
	u64 addr;
	u64 size;
};

struct run_thread;

/* A call that is being made in the program's context, inside the gate (run_hold). */
struct run_call {
	bool active;
	bool has_temp_mask; /* ppoll and the like: handlers run with temp_mask, not with the saved
			       mask */
	u8 flow;            /* enum run_flow: what happens after the kernel returned */
	u8 tries;           /* attempts after EFAULT */
	u64 temp_mask;
	u64 temp_pair[2]; /* pselect6's and epoll_pwait2's pointer and size */
	u64 nr;
	u64 ret;                 /* the program's address behind its system call instruction */
	u64 arg[RUN_SAVED_ARGS]; /* as the program gave them: registers are restored from here */
	u64 done;                /* bytes transferred by earlier chunks */
	u64 total;               /* bytes wanted */
	u64 chunk;               /* bytes of the chunk in flight */
	bool goes_on;            /* FLOW_STREAM: a whole chunk is followed by another */
};

enum run_flow {
	FLOW_PLAIN,   /* hand the result on */
	FLOW_UNKNOWN, /* on EFAULT look for more pointers and try again */
	FLOW_STREAM,  /* go on with the next chunk while chunks are transferred whole */
};

struct run_thread {
	struct run_thread *next; /* (threads lock) */
	u32 state;               /* enum run_thread_state; cleared by the exit stub */
	s32 tid;                 /* (O) */
	u32 in_core;             /* (O) >0: the fast path is inside the core: signals wait */
	bool armed;              /* (O) */
	bool deferred;          /* (O) deferred_* hold a signal to be delivered when in_core ends */
	u8 want_blocked;        /* (O) WANT_* : the program believes these to be blocked */
	u32 nr_pins;            /* (O) */
	u64 stack_lo, stack_hi; /* (C) our stack */
	stack_t alt;            /* (O) the program's alternate stack */
	u64 deferred_mask;      /* (O) */
	siginfo_t deferred_info;    /* (O) */
	int deferred_sig;           /* (O) */
	u64 exec_block, exec_bytes; /* (O) the last exec's arguments: a vfork's outlive it here */
	struct run_call call;       /* (O) */
	struct run_pin pin[RUN_MAX_PINS]; /* (O) */
	struct iovec iov[RUN_MAX_IOV];    /* (O) a chunk's own vector */
	u8 scratch[RUN_SCRATCH];          /* (O) */
};

enum run_thread_state { THREAD_FREE = 0, THREAD_LIVE = 1 };
enum { WANT_BUS = 1, WANT_SYS = 2 };

/* The library's one state. Set by the constructor; constant after unless marked. */
struct run {
	quire_t *q;
	quire_space_t *space; /* mappings */
	quire_space_t *heap;  /* brk; NULL: the kernel's break is used */
	u64 lo, size;         /* space's addresses */
	u64 heap_lo, heap_size;
	u64 pin_cap; /* bytes pinned at a time for one transfer that may be cut */
	bool armed;
	bool report; /* this process prints the report */
	s32 pid;     /* changes in a forked child */
	struct run_config config;
};
extern struct run run;

/* ---- gate.S ---- */
long run_syscall(long nr, ...);
/* The same for a call with pins; RUN_AGAIN when a handler ran before it was made. */
long run_fast(long nr, long a, long b, long c, long d, long e, long f);
#define RUN_AGAIN (-513l)
extern const char run_gate_start[], run_gate_end[], run_restore[];
extern const char run_fast_pre[], run_fast_post[], run_pass[], run_pass_post[];
extern const char run_hold[], run_hold_post[], run_after[], run_after_post[];
extern const char run_deferred_post[], run_exit[];
void run_deferred_trap(void);
/* Bytes NOT copied: 0 unless an address is bad. */
u64 run_copy(void *to, const void *from, u64 n);
extern const char run_copy_at[], run_copy_end[];

/* All arguments as long. */
#define RAW(...) RAW_N(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define RAW_N(nr, a, b, c, d, e, f, ...) \
	run_syscall((long)(nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* ---- locks ---- */
struct run_lock {
	u32 word;
};
void run_lock(struct run_lock *l);
void run_unlock(struct run_lock *l);

/* ---- thread.c ---- */
extern __thread struct run_thread *run_self __attribute__((tls_model("initial-exec")));
extern __thread u64 run_pass_return __attribute__((tls_model("initial-exec")));
/* Set by the fast path when its pins are made, cleared by whoever takes them away. */
extern __thread u32 run_fast_ready __attribute__((tls_model("initial-exec")));
struct run_thread *run_thread_new(void);
void run_thread_free(struct run_thread *t);
/* The calling thread's record; made now for a thread that was not started through us. */
struct run_thread *run_thread_here(void);
void run_thread_arm(struct run_thread *t);
void run_threads_lock(void);
void run_threads_unlock(void);
/* In a forked child: only `me` is left; what the others had pinned is unpinned. */
void run_threads_forked(struct run_thread *me);
static inline bool run_on_our_stack(const struct run_thread *t, u64 sp)
{
	return sp - t->stack_lo < t->stack_hi - t->stack_lo;
}

/* ---- dispatch.c ---- */
void run_on_sigsys(int sig, siginfo_t *info, void *ucontext);
/* Let the program make the call itself, as it is. */
void run_pass_through(ucontext_t *uc);
/* Let it make the call inside the gate with `arg`, and come back to us after it. */
void run_make_call(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 arg[6]);
void run_call_init(struct run_thread *t, ucontext_t *uc);
/* Move an interrupted context out of the gate (invariant 2). */
void run_leave_gate(struct run_thread *t, ucontext_t *uc);
#define REG(uc, r) ((uc)->uc_mcontext.gregs[REG_##r])
static inline u64 *run_mask(ucontext_t *uc)
{
	return (u64 *)&uc->uc_sigmask;
}

/* ---- pins.c ---- */
static inline bool run_managed(u64 addr)
{
	return addr - run.lo < run.size || addr - run.heap_lo < run.heap_size;
}
/* Does [addr, addr + size) meet managed addresses? */
bool run_touches(u64 addr, u64 size);
/* Pin what is managed in a range; what cannot be accessed is left to the kernel's EFAULT. */
void run_pin(struct run_thread *t, u64 addr, u64 size, bool write);
void run_unpin_all(struct run_thread *t);
void run_unpin_to(struct run_thread *t, u32 nr);
/* Copy from and to the program. True when all of it went. */
bool run_get(void *to, u64 from, u64 n);
bool run_put(u64 to, const void *from, u64 n);
/* Bytes of the string at addr with its end, at most max; 0: bad address or no end. */
u64 run_string(u64 addr, u64 max);

/* ---- calls.c ---- */
/* Serve a call that hands over memory. False: nothing managed in it. */
bool run_call_memory(struct run_thread *t, ucontext_t *uc, u64 nr, u64 arg[6]);
void run_pin_msghdr(struct run_thread *t, u64 addr, bool write);
void run_pin_iovec(struct run_thread *t, u64 addr, u64 nr, bool write);
/* Pin pages that the words of the arguments' structures point to. */
void run_pin_guess(struct run_thread *t, const u64 arg[6]);

/* ---- ioctl.c ---- */
/* Bytes that an ioctl may read or write at its argument; 0: it is no pointer. */
u64 run_ioctl_size(u64 request);

/* ---- transfer.c ---- */
/* Read and write families. False: nothing managed in it. */
bool run_transfer(struct run_thread *t, ucontext_t *uc, u64 nr, u64 arg[6]);
/* After a chunk. True: the next one was set up in uc. */
bool run_transfer_next(struct run_thread *t, ucontext_t *uc, long result, long *out);

/* ---- memory.c ---- */
/* True when served here, with *result. */
bool run_memory_call(struct run_thread *t, u64 nr, const u64 arg[6], long *result);
void run_memory_init(void);
void run_memory_lock(void);
void run_memory_unlock(void);
u64 run_brk_start(void);

/* ---- foreign.c: parts of the region that the program mapped something of its own into ---- */
bool run_foreign_any(void);
/* The first foreign or managed stretch of [start, end): its end, and which of the two. */
u64 run_foreign_stretch(u64 start, u64 end, bool *foreign);
int run_foreign_add(u64 start, u64 end);
int run_foreign_remove(u64 start, u64 end);

/* ---- signals.c, deliver.c, fault.c ---- */
#define SIGBIT(s)     (1ul << ((s)-1))
#define RUN_OPEN_MASK (SIGBIT(SIGBUS) | SIGBIT(SIGSYS))
void run_signals_init(void);
void run_signals_lock(void);
void run_signals_unlock(void);
struct run_ksigaction run_action_get(int sig);
long run_sigaction(u64 sig, u64 act, u64 old, u64 size);
long run_sigprocmask(struct run_thread *t, ucontext_t *uc, u64 how, u64 set, u64 old, u64 size);
long run_sigaltstack(struct run_thread *t, u64 sp, u64 set, u64 old);
void run_sigreturn(struct run_thread *t, ucontext_t *uc);
/* The program's handler for sig runs when this signal context is left. False: it has none. */
bool run_deliver(struct run_thread *t, ucontext_t *uc, int sig, const siginfo_t *info);
void run_on_signal(int sig, siginfo_t *info, void *ucontext);
void run_on_sigbus(int sig, siginfo_t *info, void *ucontext);
void run_on_sigsegv(int sig, siginfo_t *info, void *ucontext);
/* End as the kernel would end us by this signal's default action. */
void run_die(int sig, const siginfo_t *info, ucontext_t *uc);
void run_set_want(struct run_thread *t, u64 mask);
u64 run_shown_mask(const struct run_thread *t, u64 mask);
void run_action_reset(int sig);

/* ---- process.c, clone.c ---- */
void run_do_clone(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 arg[6]);
/* A clone made inside the core (its own threads): never armed. */
void run_clone_unmanaged(ucontext_t *uc, u64 nr);
/* True when the address is behind a slot's call; the clone is completed. */
bool run_clone_after_trap(ucontext_t *uc, u64 rip);
void run_clone_lock(void);
void run_clone_unlock(void);
void run_clone_forked(void);
long run_fork(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 arg[6]);
void run_exec(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 arg[6]);
void run_thread_exit(struct run_thread *t, ucontext_t *uc, u64 code);
bool run_is_vfork_child(void);

/* ---- fds.c ---- */
/* The core's system calls: descriptors that it opens move up and are kept from the program. */
long run_core_syscall(long nr, long a, long b, long c, long d, long e, long f);
int run_fd_own(int fd); /* moves it up; returns its number */
bool run_fd_ours(u64 fd);
/* close, close_range, dup2, dup3: true when served here. */
bool run_fd_call(u64 nr, const u64 arg[6], long *result);
void run_fds_forked(void);

/* ---- report.c ---- */
void run_report_init(void);
void run_report(int exit_status);
/* This process (a forked child) prints none. */
void run_report_drop(void);

/* ---- tls.c ---- */
void run_tls_init(void);

/* ---- bind.c ---- */
void run_bind_libraries(void);

/* ---- init.c ---- */
/* One line on standard error. */
void run_say(const char *what, const char *why);

#endif
