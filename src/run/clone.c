/*
 * Clones that share memory: threads, vfork, posix_spawn. They are made in the program's own frame,
 * through one of a few code slots in the gate, because the child goes on there. The child arms
 * itself on our stack before it reaches the program; until then all signals are blocked in it.
 */
#include "run/run.h"

#include <linux/sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SLOTS          64
#define CODE_BYTES     32 /* of a slot in gate.S */
#define AFTER_BYTES    4
#define CLONE_ARGS_MAX 128
#define TCB_BEFORE     4096ul
#define TCB_BYTES      8192ul

/* Offsets are known to gate.S. */
struct clone_slot {
	u64 sp, stack, ret, mask;
	u32 users, pad;
	u64 rdi, rsi, rdx, r10, r8, r9, rbx;
	bool arm;
	bool shares_tls;
	bool taken; /* (slots lock) */
	struct run_thread *parent, *child;
	u8 args[CLONE_ARGS_MAX];
	u64 filler[32];
} __attribute__((aligned(512)));

_Static_assert(sizeof(struct clone_slot) == 512, "gate.S steps by 512");
_Static_assert(offsetof(struct clone_slot, users) == 32, "gate.S");
_Static_assert(offsetof(struct clone_slot, rbx) == 88, "gate.S");

extern const char run_clone_calls[], run_clone_after[];
struct clone_slot run_clone_slots[SLOTS];
static struct run_lock slots_lock;
void run_child_start(struct clone_slot *s);

void run_clone_lock(void)
{
	run_lock(&slots_lock);
}

void run_clone_unlock(void)
{
	run_unlock(&slots_lock);
}

void run_clone_forked(void)
{
	/* The calls in flight belong to threads of the parent. */
	for (int i = 0; i < SLOTS; i++) {
		run_clone_slots[i].users = 0;
		run_clone_slots[i].taken = false;
	}
}

static struct clone_slot *slot_take(void)
{
	for (;;) {
		run_clone_lock();
		for (int i = 0; i < SLOTS; i++) {
			struct clone_slot *s = &run_clone_slots[i];

			/* Acquire: the last user's reads of the slot are over. */
			if (!__atomic_load_n(&s->users, __ATOMIC_ACQUIRE)) {
				s->users = 2;
				run_clone_unlock();
				return s;
			}
		}
		run_clone_unlock();
		RAW(SYS_sched_yield);
	}
}

static void slot_fill(struct clone_slot *s, ucontext_t *uc)
{
	s->ret = (u64)REG(uc, RIP);
	s->mask = *run_mask(uc);
	s->rdi = (u64)REG(uc, RDI);
	s->rsi = (u64)REG(uc, RSI);
	s->rdx = (u64)REG(uc, RDX);
	s->r10 = (u64)REG(uc, R10);
	s->r8 = (u64)REG(uc, R8);
	s->r9 = (u64)REG(uc, R9);
	s->rbx = (u64)REG(uc, RBX);
	s->parent = run_self;
	s->child = NULL;
	s->arm = false;
	s->shares_tls = true;
}

/* In the child, on one of our stacks, with the child's own thread pointer. */
void run_child_start(struct clone_slot *s)
{
	if (s->shares_tls) {
		if (s->arm)
			run_thread_arm(s->parent);
		return;
	}
	if (!s->child)
		return;
	run_self = s->child;
	run_thread_arm(s->child);
}

static void go(struct clone_slot *s, ucontext_t *uc)
{
	u64 i = (u64)(s - run_clone_slots);

	*run_mask(uc) = ~RUN_OPEN_MASK;
	REG(uc, RIP) = (greg_t)(run_clone_calls + i * CODE_BYTES);
}

bool run_clone_after_trap(ucontext_t *uc, u64 rip)
{
	u64 off = rip - 2 - (u64)run_clone_after;
	struct clone_slot *s;
	long r = REG(uc, RAX);

	if (off >= SLOTS * AFTER_BYTES)
		return false;
	s = &run_clone_slots[off / AFTER_BYTES];
	*run_mask(uc) = s->mask;
	REG(uc, RIP) = (greg_t)s->ret;
	REG(uc, RDI) = (greg_t)s->rdi;
	REG(uc, RSI) = (greg_t)s->rsi;
	if (s->parent && s->shares_tls)
		s->parent->tid = (s32)RAW(SYS_gettid);
	if (r < 0 && s->child)
		run_thread_free(s->child);
	/* The child has let go of it, unless there is none or it was killed on its way. */
	if (r < 0)
		__atomic_store_n(&s->users, 0, __ATOMIC_RELEASE);
	else
		__atomic_fetch_sub(&s->users, 1, __ATOMIC_RELEASE);
	return true;
}

/*
 * A thread whose control block is managed memory (a stack given by the program): the kernel writes
 * into it whenever it likes (rseq, the tid word, the robust list), so it stays resident.
 */
static void lock_control_block(u64 tls)
{
	u64 start = (tls - TCB_BEFORE) & PAGE_MASK;

	if (!run_managed(tls))
		return;
	for (u64 at = start; at < start + TCB_BEFORE + TCB_BYTES; at += PAGE_SIZE) {
		if (run_managed(at))
			quire_mlock(at - run.lo < run.size ? run.space : run.heap, (void *)at,
				    PAGE_SIZE, 0);
	}
}

struct clone_request {
	u64 flags, stack, tls;
};

static bool request_of(u64 nr, const u64 a[6], struct clone_request *q, u8 copy[CLONE_ARGS_MAX])
{
	struct clone_args *args = (struct clone_args *)copy;

	memset(q, 0, sizeof(*q));
	switch (nr) {
	case SYS_fork:
		return true;
	case SYS_vfork:
		q->flags = CLONE_VM | CLONE_VFORK;
		return true;
	case SYS_clone:
		q->flags = a[0];
		q->stack = a[1];
		q->tls = a[4];
		return true;
	default:
		memset(copy, 0, CLONE_ARGS_MAX);
		if (a[1] < CLONE_ARGS_SIZE_VER0 || a[1] > CLONE_ARGS_MAX ||
		    !run_get(copy, a[0], a[1]))
			return false;
		q->flags = args->flags;
		q->stack = args->stack + args->stack_size;
		q->tls = args->tls;
		return true;
	}
}

void run_do_clone(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 a[6])
{
	u8 copy[CLONE_ARGS_MAX];
	struct clone_request q;
	struct clone_slot *s;

	if (!request_of(nr, a, &q, copy)) {
		run_pass_through(uc); /* a bad argument: the kernel says which error */
		return;
	}
	if (!(q.flags & CLONE_VM)) {
		REG(uc, RAX) = run_fork(t, uc, nr, a);
		return;
	}
	s = slot_take();
	slot_fill(s, uc);
	s->shares_tls = !(q.flags & CLONE_SETTLS);
	/*
	 * Without a thread pointer of its own the child uses its parent's record: right for a
	 * vfork, whose parent sleeps; any other such child goes on without us.
	 */
	s->arm = !s->shares_tls || (q.flags & CLONE_VFORK);
	s->stack = t->stack_hi;
	if (!s->shares_tls) {
		s->child = run_thread_new();
		if (!s->child) {
			__atomic_store_n(&s->users, 0, __ATOMIC_RELEASE);
			REG(uc, RAX) = -EAGAIN;
			return;
		}
		s->child->want_blocked = t->want_blocked;
		s->stack = s->child->stack_hi;
		lock_control_block(q.tls);
	}
	if (nr == SYS_clone3) {
		/* The kernel reads a copy that is never managed. */
		memcpy(s->args, copy, sizeof(s->args));
		REG(uc, RDI) = (greg_t)s->args;
	}
	go(s, uc);
}

void run_clone_unmanaged(ucontext_t *uc, u64 nr)
{
	struct clone_slot *s = slot_take();

	(void)nr;
	slot_fill(s, uc);
	s->shares_tls = false; /* and no child record: nothing is done in it */
	s->stack = 0;
	go(s, uc);
}
