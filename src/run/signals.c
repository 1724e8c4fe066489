/*
 * The program's view of signals: actions, masks, the alternate stack. What the kernel really has is
 * ours; these calls keep up the appearance.
 */
#include "run/run.h"

#include <string.h>
#include <sys/syscall.h>

#define KSA_RESTORER 0x04000000ul
#define NATIVE_FLAGS (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_RESTART)
#define ALTSTACK_MIN 2048u
#define AUTODISARM   0x80000000u
#define UNBLOCKABLE  (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))

static struct run_lock signals_lock;
static struct run_ksigaction actions[RUN_SIGNALS]; /* (signals lock to write) */

void run_signals_lock(void)
{
	run_lock(&signals_lock);
}

void run_signals_unlock(void)
{
	run_unlock(&signals_lock);
}

struct run_ksigaction run_action_get(int sig)
{
	struct run_ksigaction a;

	run_signals_lock();
	a = actions[sig];
	run_signals_unlock();
	return a;
}

/* These three always have our handler in the kernel. */
static bool always_ours(u64 sig)
{
	return sig == SIGBUS || sig == SIGSYS || sig == SIGSEGV;
}

/* Every handler of ours: on our stack, with everything blocked that may wait. */
static long kernel_action(u64 sig, void (*handler)(int, siginfo_t *, void *), u64 flags)
{
	struct run_ksigaction k = {
		.handler = (u64)handler,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | KSA_RESTORER | flags,
		.restorer = (u64)run_restore,
		.mask = ~(RUN_OPEN_MASK | SIGBIT(SIGSEGV)),
	};

	return RAW(SYS_rt_sigaction, sig, &k, 0, 8);
}

static long kernel_set(u64 sig, const struct run_ksigaction *a)
{
	struct run_ksigaction plain = {
		.handler = a->handler, .flags = a->flags, .restorer = a->restorer, .mask = a->mask
	};

	if (a->handler > 1)
		return kernel_action(sig, run_on_signal, a->flags & NATIVE_FLAGS);
	return RAW(SYS_rt_sigaction, sig, &plain, 0, 8);
}

/*
 * The child of a vfork shares our table with its parent but has actions of its own in the kernel:
 * there the kernel is asked, and the table is left alone.
 */
static long vfork_sigaction(u64 sig, const struct run_ksigaction *act, struct run_ksigaction *old)
{
	struct run_ksigaction now;
	long r = RAW(SYS_rt_sigaction, sig, 0, &now, 8);

	if (r)
		return r;
	*old = now;
	if (now.handler == (u64)run_on_signal || always_ours(sig))
		*old = run_action_get((int)sig);
	return act && !always_ours(sig) ? kernel_set(sig, act) : 0;
}

static long table_sigaction(u64 sig, const struct run_ksigaction *act, struct run_ksigaction *old)
{
	long r = 0;

	run_signals_lock();
	*old = actions[sig];
	if (act) {
		actions[sig] = *act;
		if (!always_ours(sig))
			r = kernel_set(sig, act);
		if (r)
			actions[sig] = *old;
	}
	run_signals_unlock();
	return r;
}

long run_sigaction(u64 sig, u64 act, u64 old, u64 size)
{
	struct run_ksigaction a, was;
	long r;

	if (size != 8)
		return -EINVAL;
	if (act && !run_get(&a, act, sizeof(a)))
		return -EFAULT;
	if (sig < 1 || sig >= RUN_SIGNALS || (act && (sig == SIGKILL || sig == SIGSTOP)))
		return -EINVAL;
	if (act)
		a.mask &= ~UNBLOCKABLE;
	r = run_is_vfork_child() ? vfork_sigaction(sig, act ? &a : NULL, &was) :
				   table_sigaction(sig, act ? &a : NULL, &was);
	if (!r && old && !run_put(old, &was, sizeof(was)))
		r = -EFAULT;
	return r;
}

void run_action_reset(int sig)
{
	struct run_ksigaction none = { 0 };

	run_signals_lock();
	actions[sig].handler = 0;
	if (!always_ours((u64)sig))
		RAW(SYS_rt_sigaction, sig, &none, 0, 8);
	run_signals_unlock();
}

void run_set_want(struct run_thread *t, u64 mask)
{
	t->want_blocked = (u8)((mask & SIGBIT(SIGBUS) ? WANT_BUS : 0) |
			       (mask & SIGBIT(SIGSYS) ? WANT_SYS : 0));
}

u64 run_shown_mask(const struct run_thread *t, u64 mask)
{
	if (t->want_blocked & WANT_BUS)
		mask |= SIGBIT(SIGBUS);
	if (t->want_blocked & WANT_SYS)
		mask |= SIGBIT(SIGSYS);
	return mask;
}

long run_sigprocmask(struct run_thread *t, ucontext_t *uc, u64 how, u64 set, u64 old, u64 size)
{
	u64 shown = run_shown_mask(t, *run_mask(uc));
	u64 wanted, now = shown;

	if (size != 8)
		return -EINVAL;
	if (set) {
		if (!run_get(&wanted, set, 8))
			return -EFAULT;
		wanted &= ~UNBLOCKABLE;
		if (how == SIG_BLOCK)
			now |= wanted;
		else if (how == SIG_UNBLOCK)
			now &= ~wanted;
		else if (how == SIG_SETMASK)
			now = wanted;
		else
			return -EINVAL;
	}
	/* The kernel takes the mask of this very context when the handler returns: no call is
	 * needed. */
	run_set_want(t, now);
	*run_mask(uc) = now & ~RUN_OPEN_MASK;
	if (old && !run_put(old, &shown, 8))
		return -EFAULT;
	return 0;
}

static bool on_alt(const stack_t *alt, u64 sp)
{
	if ((unsigned)alt->ss_flags & AUTODISARM)
		return false;
	return sp > (u64)alt->ss_sp && sp - (u64)alt->ss_sp <= alt->ss_size;
}

long run_sigaltstack(struct run_thread *t, u64 sp, u64 set, u64 old)
{
	stack_t new, was = t->alt;
	unsigned mode;

	was.ss_flags = (int)((unsigned)was.ss_flags & AUTODISARM);
	if (!t->alt.ss_size)
		was.ss_flags |= SS_DISABLE;
	else if (on_alt(&t->alt, sp))
		was.ss_flags |= SS_ONSTACK;
	if (set) {
		if (!run_get(&new, set, sizeof(new)))
			return -EFAULT;
		if (on_alt(&t->alt, sp))
			return -EPERM;
		mode = (unsigned)new.ss_flags & ~AUTODISARM;
		if (mode != SS_DISABLE && mode != SS_ONSTACK && mode)
			return -EINVAL;
		if (mode == SS_DISABLE) {
			new.ss_sp = NULL;
			new.ss_size = 0;
		} else if (new.ss_size < ALTSTACK_MIN) {
			return -ENOMEM;
		}
		t->alt = new;
	}
	if (old && !run_put(old, &was, sizeof(was)))
		return -EFAULT;
	return 0;
}

void run_signals_init(void)
{
	u64 open = RUN_OPEN_MASK;

	for (int sig = 1; sig < RUN_SIGNALS; sig++) {
		RAW(SYS_rt_sigaction, sig, 0, &actions[sig], 8);
		/* Libraries that were initialised before us may have installed some. */
		if (actions[sig].handler > 1)
			kernel_set((u64)sig, &actions[sig]);
	}
	kernel_action(SIGBUS, run_on_sigbus, 0);
	kernel_action(SIGSEGV, run_on_sigsegv, 0);
	kernel_action(SIGSYS, run_on_sigsys, 0);
	RAW(SYS_rt_sigprocmask, SIG_UNBLOCK, &open, 0, 8);
}
