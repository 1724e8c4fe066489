/*
 * SIGBUS and SIGSEGV: accesses to managed memory are resolved; what is left is the program's.
 */
#include "run/run.h"

#include <string.h>
#include <sys/syscall.h>

#define ERR_WRITE 2

/* The program ends by the default action of sig, with the registers of the fault in its core. */
void run_die(int sig, const siginfo_t *info, ucontext_t *uc)
{
	struct run_ksigaction none = { 0 };
	struct run_thread *t = run_thread_here();
	siginfo_t made;

	if (run.report && !run_is_vfork_child())
		run_report(128 + sig);
	if (!info) {
		memset(&made, 0, sizeof(made));
		made.si_signo = sig;
		made.si_code = SI_KERNEL;
		info = &made;
	}
	RAW(SYS_rt_sigaction, sig, &none, 0, 8);
	*run_mask(uc) &= ~SIGBIT(sig);
	/* It stays pending until this handler returns, and ends the process before its next
	 * instruction. */
	if (RAW(SYS_rt_tgsigqueueinfo, RAW(SYS_getpid), t ? t->tid : RAW(SYS_gettid), sig, info)) {
		u64 open = SIGBIT(sig);

		RAW(SYS_rt_sigprocmask, SIG_UNBLOCK, &open, 0, 8);
		RAW(SYS_tkill, RAW(SYS_gettid), sig);
	}
}

static bool wants_it(const struct run_thread *t, ucontext_t *uc, int sig)
{
	if (run_action_get(sig).handler <= 1)
		return false;
	return !(run_shown_mask(t, *run_mask(uc)) & SIGBIT(sig));
}

/* A fault that is the program's own. The kernel would not let it be ignored or blocked. */
static void forward(ucontext_t *uc, int sig, siginfo_t *info)
{
	struct run_thread *t = run_thread_here();

	if (!t || run_on_our_stack(t, (u64)REG(uc, RSP)) || !wants_it(t, uc, sig))
		run_die(sig, info, uc);
	else
		run_deliver(t, uc, sig, info);
}

/* What the program mapped there itself faults as the kernel says. */
static bool is_foreign(u64 addr)
{
	bool foreign;

	run_foreign_stretch(addr, addr + 1, &foreign);
	return foreign;
}

/* True when the access may be retried, or was a copy of ours that has been told. */
static bool resolve(ucontext_t *uc, siginfo_t *info, int *sig)
{
	u64 addr = (u64)info->si_addr;
	int r = -ENOENT;

	if (run_managed(addr) && !is_foreign(addr))
		r = quire_trap(run.q, info->si_addr, !!(REG(uc, ERR) & ERR_WRITE));
	if (!r)
		return true;
	if (REG(uc, RIP) == (greg_t)run_copy_at) {
		REG(uc, RIP) = (greg_t)run_copy_end;
		return true;
	}
	if (r == -EFAULT || r == -EACCES) {
		*sig = SIGSEGV;
		info->si_signo = SIGSEGV;
		info->si_code = r == -EFAULT ? SEGV_MAPERR : SEGV_ACCERR;
	} else if (r == -EIO || r == -ENOMEM) {
		*sig = SIGBUS;
		info->si_signo = SIGBUS;
		info->si_code = BUS_ADRERR;
	}
	return false;
}

static void on_fault(int sig, siginfo_t *info, ucontext_t *uc)
{
	/* Sent by somebody, not raised by an access. */
	if (info->si_code <= 0) {
		struct run_thread *t = run_thread_here();

		if (t && run_action_get(sig).handler != (u64)SIG_IGN)
			run_on_signal(sig, info, uc);
		return;
	}
	if (!resolve(uc, info, &sig))
		forward(uc, sig, info);
}

void run_on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	on_fault(sig, info, ucontext);
}

void run_on_sigsegv(int sig, siginfo_t *info, void *ucontext)
{
	/* SI_KERNEL: a non-canonical address or a privileged instruction; no address to look at. */
	if (info->si_code == SI_KERNEL) {
		ucontext_t *uc = ucontext;

		if (REG(uc, RIP) == (greg_t)run_copy_at)
			REG(uc, RIP) = (greg_t)run_copy_end;
		else
			forward(uc, sig, info);
		return;
	}
	on_fault(sig, info, ucontext);
}
