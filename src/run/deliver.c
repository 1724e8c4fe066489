/*
 * Delivering a signal to the program: the kernel called a handler of ours on our stack; the frame
 * that the program's handler sees is built here, where the kernel would have built it.
 *
 * Why not let the kernel do it: it cannot write a frame into managed memory that is not resident
 * (alternate stacks and coroutine stacks come from malloc), and a handler must not run on top of
 * ours.
 * The frame is the kernel's own layout, so debuggers, unwinders and handlers that change it work.
 */
#include "run/run.h"

#include <string.h>
#include <sys/syscall.h>

#define RED_ZONE        128u
#define AUTODISARM      0x80000000u
#define FP_MAGIC1       0x46505853u
#define FP_LEGACY_BYTES 512u
#define FP_SOFTWARE     464u /* offset of magic, size of the whole state */
#define FP_MAX_BYTES    (16ul << 10)
#define EFLAGS_DF       0x400
#define EFLAGS_RF       0x10000
#define EFLAGS_TF       0x100

/* What lies on the stack when a handler is entered. */
struct frame {
	u64 restorer;
	u64 uc_flags;
	u64 uc_link;
	stack_t alt;
	mcontext_t machine;
	u64 mask;
	siginfo_t info;
};

static u64 fp_bytes(const void *fp)
{
	u32 magic, size;

	memcpy(&magic, (const char *)fp + FP_SOFTWARE, 4);
	memcpy(&size, (const char *)fp + FP_SOFTWARE + 4, 4);
	if (magic != FP_MAGIC1)
		return FP_LEGACY_BYTES;
	return size < FP_LEGACY_BYTES || size > FP_MAX_BYTES ? FP_LEGACY_BYTES : size;
}

static bool inside_alt(const struct run_thread *t, u64 sp)
{
	if ((unsigned)t->alt.ss_flags & AUTODISARM)
		return false;
	return sp > (u64)t->alt.ss_sp && sp - (u64)t->alt.ss_sp <= t->alt.ss_size;
}

static u64 choose_stack(const struct run_thread *t, const struct run_ksigaction *a, u64 sp)
{
	if ((a->flags & SA_ONSTACK) && t->alt.ss_size && !inside_alt(t, sp))
		return (u64)t->alt.ss_sp + t->alt.ss_size;
	return sp - RED_ZONE;
}

/* Where the frame went, or 0 when the stack is no memory. */
static u64 push_frame(struct run_thread *t, ucontext_t *uc, const struct run_ksigaction *a,
		      const siginfo_t *info)
{
	u64 sp = choose_stack(t, a, (u64)REG(uc, RSP));
	const void *fp = uc->uc_mcontext.fpregs;
	struct frame f;

	memset(&f, 0, sizeof(f));
	f.machine = uc->uc_mcontext;
	if (fp) {
		u64 bytes = fp_bytes(fp);

		sp = (sp - bytes) & ~63ul;
		if (!run_put(sp, fp, bytes))
			return 0;
		f.machine.fpregs = (fpregset_t)sp;
	}
	/* As if by a call: the stack is 16-byte aligned above the return address. */
	sp = ((sp - sizeof(f)) & ~15ul) - 8;
	f.restorer = a->restorer;
	f.uc_flags = uc->uc_flags;
	f.alt = t->alt;
	if (!t->alt.ss_size)
		f.alt.ss_flags |= SS_DISABLE;
	f.mask = run_shown_mask(t, *run_mask(uc));
	f.info = *info;
	return run_put(sp, &f, sizeof(f)) ? sp : 0;
}

/* The signals blocked when the handler starts: those of ppoll and its kin while they wait. */
static u64 base_mask(struct run_thread *t, ucontext_t *uc)
{
	const char *rip = (const char *)REG(uc, RIP);

	if (t->call.active && t->call.has_temp_mask && REG(uc, RAX) == -EINTR &&
	    (rip == run_hold_post || rip == run_after))
		return t->call.temp_mask;
	return run_shown_mask(t, *run_mask(uc));
}

static bool no_handler(struct run_thread *t, ucontext_t *uc, int sig, const siginfo_t *info,
		       u64 handler)
{
	if (handler == (u64)SIG_IGN)
		return false;
	if (sig == SIGBUS || sig == SIGSEGV || sig == SIGSYS) {
		run_die(sig, info, uc);
		return false;
	}
	/* The action changed while the signal was on its way: the kernel applies the default one.
	 */
	RAW(SYS_rt_tgsigqueueinfo, run.pid, t->tid, sig, info);
	return false;
}

bool run_deliver(struct run_thread *t, ucontext_t *uc, int sig, const siginfo_t *info)
{
	struct run_ksigaction a = run_action_get(sig);
	u64 mask = base_mask(t, uc);
	u64 sp;

	run_leave_gate(t, uc);
	if (a.handler <= 1)
		return no_handler(t, uc, sig, info, a.handler);
	sp = push_frame(t, uc, &a, info);
	if (!sp) {
		run_die(SIGSEGV, NULL, uc);
		return false;
	}
	if ((unsigned)t->alt.ss_flags & AUTODISARM)
		t->alt = (stack_t){ .ss_flags = SS_DISABLE };
	if (a.flags & SA_RESETHAND)
		run_action_reset(sig);
	mask |= a.mask;
	if (!(a.flags & SA_NODEFER))
		mask |= SIGBIT(sig);
	run_set_want(t, mask);
	*run_mask(uc) = mask & ~RUN_OPEN_MASK;
	REG(uc, RDI) = sig;
	REG(uc, RSI) = (greg_t)(sp + offsetof(struct frame, info));
	REG(uc, RDX) = (greg_t)(sp + offsetof(struct frame, uc_flags));
	REG(uc, RAX) = 0;
	REG(uc, RSP) = (greg_t)sp;
	REG(uc, RIP) = (greg_t)a.handler;
	REG(uc, EFL) &= ~(EFLAGS_DF | EFLAGS_RF | EFLAGS_TF);
	/* Handlers start with a fresh floating-point state, which is what none at all means. */
	uc->uc_mcontext.fpregs = NULL;
	return true;
}

/* A frame without floating-point state, or with one larger than ours, restores what it can. */
static bool restore_fp(ucontext_t *uc, const void *theirs)
{
	void *ours = uc->uc_mcontext.fpregs;
	u8 legacy[FP_LEGACY_BYTES];
	u64 bytes;

	if (!theirs || !ours) {
		uc->uc_mcontext.fpregs = NULL;
		return true;
	}
	if (!run_get(legacy, (u64)theirs, sizeof(legacy)))
		return false;
	bytes = fp_bytes(legacy);
	if (bytes > fp_bytes(ours))
		bytes = fp_bytes(ours);
	return run_get(ours, (u64)theirs, bytes);
}

void run_sigreturn(struct run_thread *t, ucontext_t *uc)
{
	struct frame f;
	void *ours = uc->uc_mcontext.fpregs;
	u64 at = (u64)REG(uc, RSP) - 8;

	if (!run_get(&f.uc_flags, at + 8, offsetof(struct frame, info) - 8) ||
	    !restore_fp(uc, f.machine.fpregs)) {
		run_die(SIGSEGV, NULL, uc);
		return;
	}
	ours = uc->uc_mcontext.fpregs ? ours : NULL;
	uc->uc_flags = f.uc_flags;
	uc->uc_mcontext = f.machine;
	uc->uc_mcontext.fpregs = ours;
	t->alt = f.alt;
	if (f.alt.ss_flags & SS_DISABLE)
		t->alt.ss_size = 0;
	run_set_want(t, f.mask);
	*run_mask(uc) = f.mask & ~RUN_OPEN_MASK;
}

/* Keep a signal until the thread has left the core; until then nothing else comes. */
static void defer(struct run_thread *t, ucontext_t *uc, int sig, const siginfo_t *info)
{
	t->deferred_sig = sig;
	t->deferred_info = *info;
	t->deferred_mask = *run_mask(uc);
	*run_mask(uc) = ~RUN_OPEN_MASK;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	t->deferred = true;
}

void run_on_signal(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *uc = ucontext;
	struct run_thread *t = run_thread_here();

	if (!t)
		return;
	if (run_on_our_stack(t, (u64)REG(uc, RSP))) {
		/* Only a SIGSEGV or SIGBUS that somebody sent: it waits for the handler under us.
		 */
		*run_mask(uc) |= SIGBIT(sig);
		RAW(SYS_rt_tgsigqueueinfo, run.pid, t->tid, sig, info);
		return;
	}
	if (t->in_core && !t->deferred) {
		defer(t, uc, sig, info);
		return;
	}
	run_deliver(t, uc, sig, info);
}
