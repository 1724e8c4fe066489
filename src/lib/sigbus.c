/*
 * sigbus.c - the handlers of SIGBUS and SIGSEGV for programs that link the library and leave it to
 * us.
 *
 * Process-wide by nature: a fixed list of instances, read lock-free in the handler, and the actions
 * that were there before, to which everything that is not ours is passed on. Installed with the
 * first instance and never removed: others may have chained to it.
 */
#include <signal.h>

#include "lib/lib_internal.h"

#define MAX_INSTANCES 32

static aptr_t instances[MAX_INSTANCES];
static struct sigaction previous_bus, previous_segv;
static a32_t installed; /* 0 no, 1 somebody is at it, 2 yes */

/* The handler of what is not ours, or the default action: that kills, for the access is retried. */
static void hand_on(const struct sigaction *to, int sig, siginfo_t *si, void *uc)
{
	if (to->sa_flags & SA_SIGINFO) {
		to->sa_sigaction(sig, si, uc);
	} else if (to->sa_handler == SIG_DFL) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		sigaction(sig, &dfl, NULL);
	} else if (to->sa_handler != SIG_IGN) {
		to->sa_handler(sig);
	}
}

static void on_signal(int sig, siginfo_t *si, void *uc);

/* SIGSEGV with the code that the kernel would have used, to whoever handles it; by default it
 * kills. */
static void raise_segv(siginfo_t *si, void *uc, int code)
{
	struct sigaction sa;

	if (sigaction(SIGSEGV, NULL, &sa))
		return;
	if ((sa.sa_flags & SA_SIGINFO) && sa.sa_sigaction == on_signal)
		sa = previous_segv;
	if (sa.sa_handler == SIG_DFL || sa.sa_handler == SIG_IGN) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		sigaction(SIGSEGV, &dfl, NULL);
		raise(SIGSEGV);
		return;
	}
	si->si_signo = SIGSEGV;
	si->si_code = code;
	hand_on(&sa, SIGSEGV, si, uc);
}

static void pass_on(int sig, siginfo_t *si, void *uc)
{
	hand_on(sig == SIGSEGV ? &previous_segv : &previous_bus, sig, si, uc);
}

/* SIGBUS; and SIGSEGV, which a page of a shareable area raises while it is being placed (host.h).
 */
static void on_signal(int sig, siginfo_t *si, void *uc)
{
	int saved = errno;

	for (u32 i = 0; i < MAX_INSTANCES; i++) {
		struct api_instance *a = aptr_read_acquire(&instances[i]);
		struct host_trap trap;
		int err;

		if (!a || !host_trap_info(a->q->machine, si, uc, &trap))
			continue;
		err = api_trap(a, trap.va, trap.write);
		errno = saved;
		if (err == 0)
			return;
		if (err == -EFAULT || err == -EACCES)
			raise_segv(si, uc, err == -EACCES ? SEGV_ACCERR : SEGV_MAPERR);
		else
			pass_on(sig, si, uc);
		return;
	}
	pass_on(sig, si, uc);
}

static int install(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };
	u32 none = 0;

	if (!a32_cmpxchg(&installed, &none, 1)) {
		while (a32_read_acquire(&installed) == 1)
			base_yield();
		return 0;
	}
	/* No other handler may run over a lock holder; a core read inside may trap again. */
	sigfillset(&sa.sa_mask);
	sigdelset(&sa.sa_mask, SIGBUS);
	if (sigaction(SIGBUS, &sa, &previous_bus)) {
		a32_set_release(&installed, 0);
		return -errno;
	}
	/* A handler of stack overflows wants its own stack, also behind ours. */
	if (!sigaction(SIGSEGV, NULL, &previous_segv))
		sa.sa_flags |= previous_segv.sa_flags & SA_ONSTACK;
	if (sigaction(SIGSEGV, &sa, &previous_segv)) {
		int err = errno;

		sigaction(SIGBUS, &previous_bus, NULL);
		a32_set_release(&installed, 0);
		return -err;
	}
	a32_set_release(&installed, 2);
	return 0;
}

int api_sigbus_add(struct api_instance *a)
{
	for (u32 i = 0; i < MAX_INSTANCES; i++) {
		void *none = NULL;

		if (aptr_cmpxchg(&instances[i], &none, a))
			return install();
	}
	return -ENOMEM;
}

void api_sigbus_remove(struct api_instance *a)
{
	for (u32 i = 0; i < MAX_INSTANCES; i++)
		if (aptr_read(&instances[i]) == a)
			aptr_set_release(&instances[i], NULL);
}
