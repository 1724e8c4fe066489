/*
 * Calls that hand memory to the kernel, described by tables: what each argument points to and
 * whether the kernel writes there. Described memory is made resident and pinned for the call.
 *
 * A call that never waits is made here, with signals blocked (one trap); the others are made in
 * the program's context and come back (two traps). A call that is not described has a page pinned
 * at each argument that is a managed address.
 */
#include "run/run.h"
#include "run/calls.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define STRING_MOST (1ul << 17)
#define GUESS_WORDS 32u

static u64 length_of(const struct arg_spec *s, const u64 arg[6])
{
	u64 n = arg[s->len_arg], bytes;

	if (s->kind == K_LEN32)
		n = (u32)n;
	if (__builtin_mul_overflow(n, s->size, &bytes) || bytes >> 47)
		return 0; /* the kernel refuses it */
	return bytes;
}

void run_pin_iovec(struct run_thread *t, u64 addr, u64 nr, bool write)
{
	struct iovec v;

	if (nr > RUN_MAX_IOV)
		return; /* EINVAL */
	run_pin(t, addr, nr * sizeof(v), false);
	for (u64 i = 0; i < nr; i++) {
		if (!run_get(&v, addr + i * sizeof(v), sizeof(v)))
			return;
		run_pin(t, (u64)v.iov_base, v.iov_len, write);
	}
}

void run_pin_msghdr(struct run_thread *t, u64 addr, bool write)
{
	struct msghdr m;

	if (!run_get(&m, addr, sizeof(m)))
		return;
	run_pin(t, addr, sizeof(m), true);
	if (m.msg_name)
		run_pin(t, (u64)m.msg_name, m.msg_namelen, write);
	if (m.msg_control)
		run_pin(t, (u64)m.msg_control, m.msg_controllen, write);
	run_pin_iovec(t, (u64)m.msg_iov, m.msg_iovlen, write);
}

static void pin_mmsg(struct run_thread *t, u64 addr, u64 nr, bool write)
{
	if (nr > RUN_MAX_IOV)
		nr = RUN_MAX_IOV;
	for (u64 i = 0; i < nr; i++) {
		run_pin(t, addr + i * sizeof(struct mmsghdr), sizeof(struct mmsghdr), true);
		run_pin_msghdr(t, addr + i * sizeof(struct mmsghdr), write);
	}
}

/* The fixed arrays of fcntl and prctl are small; the commands that take none ignore the pin. */
static void pin_arg(struct run_thread *t, const struct arg_spec *s, const u64 arg[6])
{
	u64 p = arg[s->arg];
	bool write = s->dir != DIR_IN;
	u32 len = 0;

	if (!p)
		return;
	switch (s->kind) {
	case K_FIXED:
		run_pin(t, p, s->size, write);
		break;
	case K_LEN:
	case K_LEN32:
		run_pin(t, p, length_of(s, arg), write);
		break;
	case K_LENP:
		run_pin(t, arg[s->len_arg], 4, true);
		if (arg[s->len_arg] && run_get(&len, arg[s->len_arg], 4))
			run_pin(t, p, len, write);
		break;
	case K_STRING:
		run_pin(t, p, run_string(p, STRING_MOST), false);
		break;
	case K_IOVEC:
		run_pin_iovec(t, p, arg[s->len_arg], write);
		break;
	case K_MSG:
		run_pin_msghdr(t, p, write);
		break;
	case K_MMSG:
		pin_mmsg(t, p, (u32)arg[s->len_arg], write);
		break;
	case K_FDSET:
		run_pin(t, p, arg[s->len_arg] > 65536 ? 8192 : ALIGN_UP(arg[s->len_arg], 64) / 8,
			true);
		break;
	case K_IOCTL:
		run_pin(t, p, run_ioctl_size(arg[1]), true);
		break;
	case K_PAGE:
		run_pin(t, p, s->size ? s->size : PAGE_SIZE - (p & ~PAGE_MASK), true);
		break;
	default:
		break;
	}
}

/* Without nested pointers, the arguments alone tell whether anything is managed. */
static bool arg_may_be_managed(const struct arg_spec *s, const u64 arg[6])
{
	u64 p = arg[s->arg];

	if (!p)
		return false;
	switch (s->kind) {
	case K_IOVEC:
	case K_MSG:
	case K_MMSG:
	case K_SIGMASK_PAIR:
	case K_SIGMASK:
		return true;
	case K_LEN:
	case K_LEN32:
		return run_touches(p, length_of(s, arg));
	case K_LENP:
		return run_managed(p) || run_managed(arg[s->len_arg]);
	default:
		return run_touches(p, s->size ? s->size : PAGE_SIZE);
	}
}

/* Masks that hold while a call waits: SIGBUS and SIGSYS stay open; the program's copy is untouched.
 */
static void temp_mask(struct run_thread *t, const struct arg_spec *s, u64 arg[6])
{
	struct run_call *c = &t->call;
	u64 at = arg[s->arg], pair[2];

	if (!at)
		return;
	if (s->kind == K_SIGMASK_PAIR) {
		if (!run_get(pair, at, sizeof(pair)) || !pair[0] || pair[1] != 8)
			return;
		at = pair[0];
	}
	if (!run_get(&c->temp_mask, at, 8))
		return;
	c->has_temp_mask = true;
	c->temp_mask &= ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));
	/* What the kernel reads is ours, so it needs no pin. */
	memcpy(t->scratch, &(u64){ c->temp_mask & ~RUN_OPEN_MASK }, 8);
	if (s->kind == K_SIGMASK) {
		arg[s->arg] = (u64)t->scratch;
		return;
	}
	c->temp_pair[0] = (u64)t->scratch;
	c->temp_pair[1] = 8;
	arg[s->arg] = (u64)c->temp_pair;
}

void run_pin_guess(struct run_thread *t, const u64 arg[6])
{
	u64 words[GUESS_WORDS];

	for (int i = 0; i < 6; i++) {
		if (!run_managed(arg[i]))
			continue;
		run_pin(t, arg[i], PAGE_SIZE, true);
		if (run_copy(words, (void *)arg[i], sizeof(words)))
			continue;
		for (u32 k = 0; k < GUESS_WORDS; k++) {
			if (run_managed(words[k]))
				run_pin(t, words[k], PAGE_SIZE, true);
		}
	}
}

static bool undescribed(struct run_thread *t, ucontext_t *uc, u64 nr, u64 arg[6])
{
	bool any = false;

	for (int i = 0; i < 6; i++) {
		if (run_managed(arg[i])) {
			/* Read-only memory cannot be pinned for writing. */
			u32 before = t->nr_pins;

			run_pin(t, arg[i], PAGE_SIZE - (arg[i] & ~PAGE_MASK), true);
			if (t->nr_pins == before)
				run_pin(t, arg[i], PAGE_SIZE - (arg[i] & ~PAGE_MASK), false);
			any = true;
		}
	}
	if (!any)
		return false;
	t->call.flow = FLOW_UNKNOWN;
	run_make_call(t, uc, nr, arg);
	return true;
}

/* Words that the kernel goes on using after the call has returned. */
static void lock_for_good(u64 addr, u64 size)
{
	u64 start = addr & PAGE_MASK;
	u64 end = ALIGN_UP(addr + size, PAGE_SIZE);

	if (run_managed(start) && run_managed(end - 1))
		quire_mlock(start - run.lo < run.size ? run.space : run.heap, (void *)start,
			    end - start, 0);
}

/* Opening a regular file or a folder, or what does not exist, waits for nobody; a FIFO does. */
static bool opens_at_once(u64 nr, const u64 arg[6])
{
	struct stat st;
	long r;

	if (nr != SYS_openat && nr != SYS_open)
		return false;
	r = RAW(SYS_newfstatat, nr == SYS_openat ? (long)arg[0] : AT_FDCWD,
		nr == SYS_openat ? arg[1] : arg[0], &st, 0);
	return r == -ENOENT || (!r && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)));
}

bool run_call_memory(struct run_thread *t, ucontext_t *uc, u64 nr, u64 arg[6])
{
	const struct call_spec *c = run_call_spec(nr);
	bool any = false;

	if (!c)
		return undescribed(t, uc, nr, arg);
	if (c->flags & CALL_REFUSED) {
		REG(uc, RAX) = -ENOSYS;
		return true;
	}
	if (c->flags & CALL_FUTEX_WAKE) {
		/* Private wakes need the address only. */
		u32 op = (u32)arg[1] & 127;

		if (op == 1 || op == 10)
			return false;
	}
	for (u32 i = 0; i < c->nr; i++)
		any |= arg_may_be_managed(&c->arg[i], arg);
	if (!any)
		return false;
	for (u32 i = 0; i < c->nr; i++) {
		const struct arg_spec *s = &c->arg[i];

		if (s->kind == K_SIGMASK || s->kind == K_SIGMASK_PAIR)
			temp_mask(t, s, arg);
		else if (c->flags & CALL_KEEPS)
			lock_for_good(arg[s->arg], s->size);
		else
			pin_arg(t, s, arg);
	}
	if (!t->nr_pins && !t->call.has_temp_mask)
		return false;
	if ((c->flags & CALL_QUICK) || opens_at_once(nr, arg)) {
		long r = run_syscall((long)nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);

		run_unpin_all(t);
		REG(uc, RAX) = r;
		return true;
	}
	run_make_call(t, uc, nr, arg);
	return true;
}
