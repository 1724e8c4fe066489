/*
 * The handler of caught system calls: decides who serves a call, and how it is made.
 *
 * Three ways: served here (memory, signals, processes, descriptors, and calls that never wait);
 * passed through (nothing managed in it); made inside the gate and come back from (run_make_call).
 */
#include "run/run.h"

#include <linux/audit.h>
#include <sys/syscall.h>

#define SYS_USER_DISPATCH_CODE 2

void run_pass_through(ucontext_t *uc)
{
	run_pass_return = (u64)REG(uc, RIP);
	REG(uc, RIP) = (greg_t)run_pass;
}

static void load_args(ucontext_t *uc, const u64 arg[6])
{
	REG(uc, RDI) = (greg_t)arg[0];
	REG(uc, RSI) = (greg_t)arg[1];
	REG(uc, RDX) = (greg_t)arg[2];
	REG(uc, R10) = (greg_t)arg[3];
	REG(uc, R8) = (greg_t)arg[4];
	REG(uc, R9) = (greg_t)arg[5];
}

static void read_args(const ucontext_t *uc, u64 arg[6])
{
	arg[0] = (u64)REG(uc, RDI);
	arg[1] = (u64)REG(uc, RSI);
	arg[2] = (u64)REG(uc, RDX);
	arg[3] = (u64)REG(uc, R10);
	arg[4] = (u64)REG(uc, R8);
	arg[5] = (u64)REG(uc, R9);
}

void run_call_init(struct run_thread *t, ucontext_t *uc)
{
	struct run_call *c = &t->call;

	c->nr = (u64)REG(uc, RAX);
	c->ret = (u64)REG(uc, RIP);
	read_args(uc, c->arg);
	c->has_temp_mask = false;
	c->flow = FLOW_PLAIN;
	c->tries = 0;
	c->done = 0;
}

void run_make_call(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 arg[6])
{
	t->call.active = true;
	load_args(uc, arg);
	REG(uc, RAX) = (greg_t)nr;
	REG(uc, RIP) = (greg_t)run_hold;
}

/* The program goes on behind its call, with its own registers. */
static void call_finish(struct run_thread *t, ucontext_t *uc, long result)
{
	t->call.active = false;
	run_unpin_all(t);
	load_args(uc, t->call.arg);
	REG(uc, RAX) = result;
	REG(uc, RIP) = (greg_t)t->call.ret;
}

/* The kernel has returned from a call inside the gate and the program trapped on purpose. */
static void call_returned(struct run_thread *t, ucontext_t *uc)
{
	struct run_call *c = &t->call;
	long result = REG(uc, RAX);

	if (c->flow == FLOW_STREAM) {
		if (run_transfer_next(t, uc, result, &result))
			return;
	} else if (c->flow == FLOW_UNKNOWN && result == -EFAULT && c->tries < 3) {
		c->tries++;
		run_pin_guess(t, c->arg);
		run_make_call(t, uc, c->nr, c->arg);
		return;
	}
	call_finish(t, uc, result);
}

/* A result that a call cut short by a handler hands on: what was transferred counts. */
static long interrupted_result(const struct run_call *c, long result)
{
	if (c->flow != FLOW_STREAM || !c->done)
		return result;
	return (long)c->done + (result > 0 ? result : 0);
}

static void leave_hold(struct run_thread *t, ucontext_t *uc, bool made)
{
	struct run_call *c = &t->call;

	if (made) {
		call_finish(t, uc, interrupted_result(c, REG(uc, RAX)));
		return;
	}
	if (c->flow == FLOW_STREAM && c->done) {
		call_finish(t, uc, (long)c->done);
		return;
	}
	/* Not made, or to be made again by the kernel's wish: the program makes its own call anew.
	 */
	call_finish(t, uc, (long)c->nr);
	REG(uc, RIP) -= 2;
}

void run_leave_gate(struct run_thread *t, ucontext_t *uc)
{
	const char *rip = (const char *)REG(uc, RIP);

	if (rip == run_pass) {
		REG(uc, RIP) = (greg_t)(run_pass_return - 2);
	} else if (rip >= run_pass_post && rip < run_hold) {
		REG(uc, RIP) = (greg_t)run_pass_return;
	} else if (rip == run_hold) {
		leave_hold(t, uc, false);
	} else if (rip == run_hold_post || rip == run_after) {
		leave_hold(t, uc, true);
	} else {
		/* The fast path, wherever it is: without its pins it starts again. */
		run_fast_ready = 0;
		run_unpin_all(t);
		if (rip >= (const char *)run_fast && rip <= run_fast_pre) {
			REG(uc, RAX) = RUN_AGAIN;
			REG(uc, RIP) = (greg_t)run_fast_post;
		}
	}
}

/* The core, or a library under it, made a system call while it was inside. */
static void nested_call(struct run_thread *t, ucontext_t *uc)
{
	u64 nr = (u64)REG(uc, RAX);
	u64 a[6];

	read_args(uc, a);
	switch (nr) {
	case SYS_rt_sigprocmask:
		REG(uc, RAX) = run_sigprocmask(t, uc, a[0], a[1], a[2], a[3]);
		return;
	case SYS_clone:
	case SYS_clone3:
		run_clone_unmanaged(uc, nr);
		return;
	default:
		REG(uc, RAX) = run_core_syscall((long)nr, (long)a[0], (long)a[1], (long)a[2],
						(long)a[3], (long)a[4], (long)a[5]);
	}
}

/* Calls about signals. False: not one of them. */
static bool signal_call(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 a[6])
{
	long r;

	switch (nr) {
	case SYS_rt_sigreturn:
		run_sigreturn(t, uc);
		return true;
	case SYS_rt_sigaction:
		r = run_sigaction(a[0], a[1], a[2], a[3]);
		break;
	case SYS_rt_sigprocmask:
		r = run_sigprocmask(t, uc, a[0], a[1], a[2], a[3]);
		break;
	case SYS_sigaltstack:
		r = run_sigaltstack(t, (u64)REG(uc, RSP), a[0], a[1]);
		break;
	default:
		return false;
	}
	REG(uc, RAX) = r;
	return true;
}

/* Calls about processes. False: not one of them. */
static bool process_call(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 a[6])
{
	switch (nr) {
	case SYS_clone:
	case SYS_clone3:
	case SYS_fork:
	case SYS_vfork:
		run_do_clone(t, uc, nr, a);
		return true;
	case SYS_execve:
	case SYS_execveat:
		run_exec(t, uc, nr, a);
		return true;
	case SYS_exit:
		run_thread_exit(t, uc, a[0]);
		return true;
	case SYS_exit_group:
		if (run.report && !run_is_vfork_child())
			run_report((int)(a[0] & 255));
		run_pass_through(uc);
		return true;
	default:
		return false;
	}
}

static void dispatch(struct run_thread *t, ucontext_t *uc)
{
	u64 nr = (u64)REG(uc, RAX);
	u64 a[6];
	long r;

	read_args(uc, a);
	/* A program that jumped out of a handler may have left these behind. */
	if (unlikely(t->nr_pins))
		run_unpin_all(t);
	run_fast_ready = 0;
	t->call.active = false;
	if (run_memory_call(t, nr, a, &r) || run_fd_call(nr, a, &r)) {
		REG(uc, RAX) = r;
		return;
	}
	if (signal_call(t, uc, nr, a) || process_call(t, uc, nr, a))
		return;
	run_call_init(t, uc);
	if (run_transfer(t, uc, nr, a) || run_call_memory(t, uc, nr, a))
		return;
	run_pass_through(uc);
}

void run_on_sigsys(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *uc = ucontext;
	struct run_thread *t = run_thread_here();
	u64 rip = (u64)REG(uc, RIP);

	if (info->si_code != SYS_USER_DISPATCH_CODE) {
		run_on_signal(sig, info, ucontext);
		return;
	}
	if (!t || info->si_arch != AUDIT_ARCH_X86_64) {
		REG(uc, RAX) = -ENOSYS;
		return;
	}
	if (rip == (u64)run_after_post) {
		call_returned(t, uc);
		return;
	}
	if (rip == (u64)run_deferred_post) {
		siginfo_t copy = t->deferred_info;

		t->deferred = false;
		*run_mask(uc) = t->deferred_mask;
		run_deliver(t, uc, t->deferred_sig, &copy);
		return;
	}
	if (run_clone_after_trap(uc, rip))
		return;
	if (t->in_core || run_on_our_stack(t, (u64)REG(uc, RSP))) {
		nested_call(t, uc);
		return;
	}
	dispatch(t, uc);
}
