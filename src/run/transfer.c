/*
 * The read and write families with managed buffers.
 *
 * A transfer whose buffers fit under the cap is one call. A larger one is cut, because pinning it
 * could exceed what the limit allows, where cutting cannot be seen: on regular files, chunk after
 * chunk with signals blocked, as the kernel's own transfer is not interrupted either; on streams,
 * chunk after chunk in the program's context, with the counts that a signal in the middle gives
 * natively. Datagrams and everything else that is one unit stay whole.
 */
#include "run/run.h"

#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MOST_BYTES 0x7ffff000ul /* the kernel transfers no more in one call */

struct shape {
	bool vector, write; /* write: the kernel reads the buffers */
	bool positioned;    /* arg[3] is an offset */
	bool message;
};

static bool shape_of(u64 nr, struct shape *s)
{
	memset(s, 0, sizeof(*s));
	switch (nr) {
	case SYS_pwrite64:
		s->positioned = true;
		/* fallthrough */
	case SYS_write:
	case SYS_sendto:
		s->write = true;
		return true;
	case SYS_pread64:
		s->positioned = true;
		/* fallthrough */
	case SYS_read:
	case SYS_recvfrom:
		return true;
	case SYS_pwritev:
	case SYS_pwritev2:
		s->positioned = true;
		/* fallthrough */
	case SYS_writev:
		s->write = true;
		s->vector = true;
		return true;
	case SYS_preadv:
	case SYS_preadv2:
		s->positioned = true;
		/* fallthrough */
	case SYS_readv:
		s->vector = true;
		return true;
	case SYS_sendmsg:
		s->write = true;
		/* fallthrough */
	case SYS_recvmsg:
		s->message = true;
		return true;
	default:
		return false;
	}
}

/* Is anything of a vector managed? Its bytes go to *total. */
static bool vector_managed(u64 at, u64 nr, u64 *total)
{
	bool any = run_touches(at, nr * sizeof(struct iovec));
	struct iovec v;

	*total = 0;
	if (nr > RUN_MAX_IOV)
		return false;
	for (u64 i = 0; i < nr; i++) {
		if (!run_get(&v, at + i * sizeof(v), sizeof(v)))
			return any;
		if (__builtin_add_overflow(*total, v.iov_len, total) || *total > MOST_BYTES)
			*total = MOST_BYTES;
		any |= run_touches((u64)v.iov_base, v.iov_len);
	}
	return any;
}

/* The part of a vector behind `skip` bytes, at most `most` bytes: into t->iov and pinned. */
static u64 cut_vector(struct run_thread *t, u64 at, u64 nr, u64 skip, u64 most, bool write,
		      u64 *bytes)
{
	struct iovec v;
	u64 n = 0;

	*bytes = 0;
	for (u64 i = 0; i < nr && *bytes < most; i++) {
		if (!run_get(&v, at + i * sizeof(v), sizeof(v)))
			break;
		if (skip >= v.iov_len) {
			skip -= v.iov_len;
			continue;
		}
		t->iov[n].iov_base = (char *)v.iov_base + skip;
		t->iov[n].iov_len = min(v.iov_len - skip, most - *bytes);
		skip = 0;
		run_pin(t, (u64)t->iov[n].iov_base, t->iov[n].iov_len, !write);
		*bytes += t->iov[n++].iov_len;
		if (t->nr_pins >= RUN_MAX_PINS - 16)
			break;
	}
	return n;
}

/* Arguments of the chunk that begins at call.done; its buffers are pinned. */
static void next_chunk(struct run_thread *t, const struct shape *s, u64 arg[6])
{
	struct run_call *c = &t->call;
	u64 most = min(c->total - c->done, run.pin_cap);

	memcpy(arg, c->arg, sizeof(c->arg));
	if (s->message) {
		struct msghdr *m = (struct msghdr *)t->scratch;

		if (!run_get(m, c->arg[1], sizeof(*m)))
			return;
		run_pin(t, (u64)m->msg_name, m->msg_name ? m->msg_namelen : 0, false);
		run_pin(t, (u64)m->msg_control, m->msg_control ? m->msg_controllen : 0, false);
		if (c->done)
			m->msg_controllen = 0; /* descriptors and the like go with the first byte */
		m->msg_iovlen = cut_vector(t, (u64)m->msg_iov, m->msg_iovlen, c->done, most,
					   s->write, &c->chunk);
		m->msg_iov = t->iov;
		arg[1] = (u64)m;
	} else if (s->vector) {
		arg[2] = cut_vector(t, c->arg[1], c->arg[2], c->done, most, s->write, &c->chunk);
		arg[1] = (u64)t->iov;
	} else {
		arg[1] = c->arg[1] + c->done;
		arg[2] = c->chunk = most;
		run_pin(t, arg[1], most, !s->write);
	}
	if (s->positioned && (long)c->arg[3] != -1)
		arg[3] = c->arg[3] + c->done;
}

/* All of a regular file's transfer, with signals blocked. */
static long whole_file(struct run_thread *t, const struct shape *s)
{
	struct run_call *c = &t->call;
	u64 arg[6];
	long r;

	do {
		next_chunk(t, s, arg);
		r = run_syscall((long)c->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
		run_unpin_all(t);
		if (r < 0)
			return c->done ? (long)c->done : r;
		c->done += (u64)r;
	} while ((u64)r == c->chunk && r && c->done < c->total);
	return (long)c->done;
}

bool run_transfer_next(struct run_thread *t, ucontext_t *uc, long result, long *out)
{
	struct run_call *c = &t->call;
	struct shape s;
	u64 arg[6];

	if (result < 0) {
		*out = c->done ? (long)c->done : result;
		return false;
	}
	c->done += (u64)result;
	*out = (long)c->done;
	if (!c->goes_on || (u64)result < c->chunk || c->done >= c->total || !shape_of(c->nr, &s))
		return false;
	run_unpin_all(t);
	next_chunk(t, &s, arg);
	run_make_call(t, uc, c->nr, arg);
	return true;
}

/* One call, everything pinned. */
static void whole_call(struct run_thread *t, ucontext_t *uc, const struct shape *s, u64 arg[6])
{
	struct run_call *c = &t->call;

	if (s->message)
		run_pin_msghdr(t, arg[1], !s->write);
	else if (s->vector)
		run_pin_iovec(t, arg[1], arg[2], !s->write);
	else
		run_pin(t, arg[1], arg[2], !s->write);
	if (c->nr == SYS_sendto && arg[4])
		run_pin(t, arg[4], arg[5] & 0xffff, false);
	if (c->nr == SYS_recvfrom && arg[4]) {
		u32 len;

		run_pin(t, arg[5], 4, true);
		if (arg[5] && run_get(&len, arg[5], 4))
			run_pin(t, arg[4], len & 0xffff, true);
	}
	run_make_call(t, uc, c->nr, arg);
}

static bool is_stream_socket(u64 fd)
{
	int type = 0;
	u32 len = sizeof(type);

	return !RAW(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM;
}

/* May a transfer that is larger than the cap be cut, and what follows a whole chunk? */
static bool may_cut(struct run_call *c, const struct shape *s, u32 mode)
{
	u64 flags = c->nr == SYS_recvfrom ? c->arg[3] : 0;

	c->goes_on = s->write;
	if (S_ISFIFO(mode))
		return true;
	if (S_ISCHR(mode)) {
		c->goes_on = true;
		return true;
	}
	if (!S_ISSOCK(mode) || !is_stream_socket(c->arg[0]))
		return false;
	if (flags & MSG_PEEK)
		return false;
	if (flags & MSG_WAITALL)
		c->goes_on = true;
	/* What recvmsg tells in its header belongs to one call. */
	return !s->message || s->write;
}

/*
 * On pipes and sockets: without waiting, here and now, which saves the way into the program's
 * context and back. True when that gave the whole answer; anything else is done the long way.
 */
static bool try_now(struct run_thread *t, const struct shape *s, u32 mode, long *result)
{
	struct run_call *c = &t->call;
	struct iovec one = { (void *)c->arg[1], c->arg[2] };
	bool plain = c->nr == SYS_read || c->nr == SYS_write;
	long r;

	if (c->total > run.pin_cap || !(S_ISFIFO(mode) || S_ISSOCK(mode)))
		return false;
	/* A write could be cut short where it would natively go on: only what is written as one. */
	if (plain && (!s->write || (S_ISFIFO(mode) && c->total <= PIPE_BUF))) {
		u64 nr = s->write ? SYS_pwritev2 : SYS_preadv2;

		run_pin(t, c->arg[1], c->arg[2], !s->write);
		r = RAW(nr, c->arg[0], &one, 1, -1, -1, RWF_NOWAIT);
	} else if (c->nr == SYS_recvfrom && !(c->arg[3] & MSG_WAITALL) && !c->arg[4]) {
		run_pin(t, c->arg[1], c->arg[2], true);
		r = RAW(SYS_recvfrom, c->arg[0], c->arg[1], c->arg[2], c->arg[3] | MSG_DONTWAIT);
	} else if (c->nr == SYS_recvmsg && !(c->arg[2] & MSG_WAITALL)) {
		run_pin_msghdr(t, c->arg[1], true);
		r = RAW(SYS_recvmsg, c->arg[0], c->arg[1], c->arg[2] | MSG_DONTWAIT);
	} else {
		return false;
	}
	run_unpin_all(t);
	*result = r;
	/* Any other error is the answer: a socket tells it only once. */
	return r != -EAGAIN && r != -EOPNOTSUPP;
}

static bool find_managed(const struct shape *s, const u64 arg[6], u64 nr, u64 *total)
{
	struct msghdr m;
	bool any;

	if (s->message) {
		if (!run_get(&m, arg[1], sizeof(m)))
			return false;
		any = vector_managed((u64)m.msg_iov, m.msg_iovlen, total);
		return any || run_managed(arg[1]) || run_managed((u64)m.msg_name) ||
		       run_managed((u64)m.msg_control);
	}
	if (s->vector)
		return vector_managed(arg[1], arg[2], total);
	*total = min(arg[2], MOST_BYTES);
	if (nr == SYS_sendto || nr == SYS_recvfrom) {
		if (run_managed(arg[4]) || (nr == SYS_recvfrom && run_managed(arg[5])))
			return true;
	}
	return run_touches(arg[1], arg[2]);
}

bool run_transfer(struct run_thread *t, ucontext_t *uc, u64 nr, u64 arg[6])
{
	struct run_call *c = &t->call;
	struct shape s;
	struct stat st;
	long now;

	if (!shape_of(nr, &s) || !find_managed(&s, arg, nr, &c->total))
		return false;
	st.st_mode = 0;
	RAW(SYS_fstat, arg[0], &st);
	if (!s.message && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
		REG(uc, RAX) = whole_file(t, &s);
		return true;
	}
	if (try_now(t, &s, st.st_mode, &now)) {
		REG(uc, RAX) = now;
		return true;
	}
	if (c->total > run.pin_cap && may_cut(c, &s, st.st_mode)) {
		u64 chunk[6];

		c->flow = FLOW_STREAM;
		next_chunk(t, &s, chunk);
		if (nr == SYS_sendto && arg[4])
			run_pin(t, arg[4], arg[5] & 0xffff, false);
		run_make_call(t, uc, nr, chunk);
		return true;
	}
	whole_call(t, uc, &s, arg);
	return true;
}
