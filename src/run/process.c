/*
 * fork, exec and the end of threads. fork is made inside the handler, with every lock of this
 * library and the core's gate held, so that the child finds both whole; exec gets the environment
 * that makes the next program managed too.
 */
#include "run/run.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MAX_STRINGS   (1ul << 20)
#define STRING_MOST   (1ul << 17)
#define EXIT_UNUSABLE 125

bool run_is_vfork_child(void)
{
	return RAW(SYS_getpid) != run.pid;
}

static void lock_all(void)
{
	run_threads_lock();
	run_clone_lock();
	run_memory_lock();
	run_signals_lock();
	quire_fork_prepare(run.q);
}

static void unlock_all(void)
{
	run_signals_unlock();
	run_memory_unlock();
	run_clone_unlock();
	run_threads_unlock();
}

/* Without the stack argument: the child returns here first, on its copy of our stack. */
static long raw_fork(u64 nr, const u64 a[6], u64 *stack)
{
	struct clone_args args;

	*stack = 0;
	if (nr == SYS_clone) {
		*stack = a[1];
		return RAW(SYS_clone, a[0], 0, a[2], a[3], a[4]);
	}
	if (nr != SYS_clone3)
		return RAW(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	memset(&args, 0, sizeof(args));
	if (!run_get(&args, a[0], min(a[1], sizeof(args))))
		return -EFAULT;
	if (args.stack)
		*stack = args.stack + args.stack_size;
	args.stack = 0;
	args.stack_size = 0;
	return RAW(SYS_clone3, &args, min(a[1], sizeof(args)));
}

static void pin_tid_words(struct run_thread *t, u64 nr, const u64 a[6])
{
	struct clone_args args;

	if (nr == SYS_clone) {
		run_pin(t, a[2], a[2] ? 4 : 0, true);
		run_pin(t, a[3], a[3] ? 4 : 0, true);
	} else if (nr == SYS_clone3 && run_get(&args, a[0], CLONE_ARGS_SIZE_VER0)) {
		run_pin(t, args.child_tid, args.child_tid ? 4 : 0, true);
		run_pin(t, args.parent_tid, args.parent_tid ? 4 : 0, true);
	}
}

static void forked_child(struct run_thread *t)
{
	int e;

	run_self = t; /* a clone may have been given another thread pointer */
	run.pid = (s32)RAW(SYS_getpid);
	run_fds_forked();
	e = quire_forked_child(run.q);
	if (e) {
		run_say("a forked child cannot go on", strerrordesc_np(-e));
		RAW(SYS_exit_group, EXIT_UNUSABLE);
	}
	run_threads_forked(t);
	run_clone_forked();
	unlock_all();
	run_report_drop();
	run_thread_arm(t);
}

long run_fork(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 a[6])
{
	u64 stack;
	long r;

	pin_tid_words(t, nr, a);
	lock_all();
	r = raw_fork(nr, a, &stack);
	if (r) {
		quire_fork_done(run.q);
		unlock_all();
	} else {
		forked_child(t);
		if (stack)
			REG(uc, RSP) = (greg_t)stack;
	}
	run_unpin_all(t);
	return r;
}

/* ---- exec ---- */

struct builder {
	u64 *word;  /* next pointer */
	char *text; /* next character */
	char *end;
};

/* A string that the kernel can read: copied when it is managed. */
static u64 keep_string(struct builder *b, u64 at)
{
	u64 n;

	if (!run_managed(at))
		return at;
	n = run_string(at, STRING_MOST);
	if (!n || b->text + n > b->end || !run_get(b->text, at, n))
		return at; /* EFAULT or E2BIG: the kernel's answer */
	b->text += n;
	return (u64)(b->text - n);
}

/* Strings and the bytes of the managed ones. False: a bad address. */
static bool measure(u64 vector, u64 *nr, u64 *bytes)
{
	u64 p;

	for (*nr = 0; vector && *nr < MAX_STRINGS; ++*nr) {
		if (!run_get(&p, vector + *nr * 8, 8))
			return false;
		if (!p)
			return true;
		if (run_managed(p))
			*bytes += run_string(p, STRING_MOST);
	}
	return !vector;
}

static bool is_variable(u64 at, const char *name)
{
	char got[16] = "";
	u64 n = strlen(name);

	return run_get(got, at, n + 1) && !memcmp(got, name, n) && got[n] == '=';
}

static void add_text(struct builder *b, const char *s)
{
	while (*s && b->text < b->end - 1)
		*b->text++ = *s++;
}

/* LD_PRELOAD with our library in front of what the program itself asks for. */
static u64 preload_variable(struct builder *b, u64 theirs)
{
	char *start = b->text;
	u64 n = theirs ? run_string(theirs, STRING_MOST) : 0;

	add_text(b, "LD_PRELOAD=");
	add_text(b, run.config.library);
	if (n > sizeof("LD_PRELOAD=") && b->text + n < b->end) {
		*b->text++ = ':';
		n -= sizeof("LD_PRELOAD=") - 1;
		if (run_get(b->text, theirs + sizeof("LD_PRELOAD=") - 1, n))
			b->text += n - 1;
	}
	*b->text++ = 0;
	return (u64)start;
}

static u64 config_variable(struct builder *b)
{
	char *start = b->text;
	int n;

	add_text(b, RUN_ENV "=");
	n = run_config_encode(&run.config, b->text, (size_t)(b->end - b->text));
	b->text += n > 0 ? n + 1 : 1;
	return (u64)start;
}

static u64 build_vector(struct builder *b, u64 vector, bool environment)
{
	u64 *start = b->word;
	u64 theirs = 0, p;

	for (u64 i = 0; vector && run_get(&p, vector + i * 8, 8) && p; i++) {
		if (environment && is_variable(p, "LD_PRELOAD")) {
			theirs = p;
			continue;
		}
		if (environment && is_variable(p, RUN_ENV))
			continue;
		*b->word++ = keep_string(b, p);
	}
	if (environment) {
		*b->word++ = preload_variable(b, theirs);
		*b->word++ = config_variable(b);
	}
	*b->word++ = 0;
	return (u64)start;
}

/* A 32-bit program would only complain about our library. */
static bool is_foreign_class(u64 nr, const u64 a[6])
{
	u64 dir = nr == SYS_execveat ? a[0] : (u64)(long)AT_FDCWD;
	u64 path = nr == SYS_execveat ? a[1] : a[0];
	char name[RUN_PATH_MAX];
	u8 head[5] = "";
	u64 n = run_string(path, sizeof(name));
	long fd;

	if (!n || !run_get(name, path, n))
		return false;
	fd = RAW(SYS_openat, dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return false;
	RAW(SYS_read, fd, head, sizeof(head));
	RAW(SYS_close, fd);
	return !memcmp(head, "\177ELF", 4) && head[4] != 2;
}

void run_exec(struct run_thread *t, ucontext_t *uc, u64 nr, const u64 a[6])
{
	u64 at = nr == SYS_execveat ? 1 : 0; /* index of path; argv and envp follow */
	u64 nr_args, nr_env, strings = 0, bytes, arg[6];
	struct builder b;
	long block;

	run_call_init(t, uc);
	if (run_managed(a[at]))
		strings += run_string(a[at], STRING_MOST);
	if (!measure(a[at + 1], &nr_args, &strings) || !measure(a[at + 2], &nr_env, &strings) ||
	    is_foreign_class(nr, a)) {
		run_pass_through(uc);
		return;
	}
	bytes = ALIGN_UP((nr_args + nr_env + 8) * 8 + strings + RUN_CONFIG_TEXT_MAX +
				 2 * STRING_MOST,
			 PAGE_SIZE);
	if (t->exec_block)
		RAW(SYS_munmap, t->exec_block, t->exec_bytes);
	t->exec_block = 0;
	block = RAW(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (block < 0) {
		REG(uc, RAX) = -ENOMEM;
		return;
	}
	t->exec_block = (u64)block;
	t->exec_bytes = bytes;
	b.word = (u64 *)block;
	b.text = (char *)block + (nr_args + nr_env + 8) * 8;
	b.end = (char *)block + bytes;
	memcpy(arg, a, sizeof(arg));
	arg[at] = keep_string(&b, a[at]);
	if (a[at + 1])
		arg[at + 1] = build_vector(&b, a[at + 1], false);
	arg[at + 2] = build_vector(&b, a[at + 2], true);
	/* In the program's context: the new program inherits its mask, not ours. */
	run_make_call(t, uc, nr, arg);
}

void run_thread_exit(struct run_thread *t, ucontext_t *uc, u64 code)
{
	if (run_is_vfork_child()) {
		run_pass_through(uc);
		return;
	}
	if (t->exec_block)
		RAW(SYS_munmap, t->exec_block, t->exec_bytes);
	t->exec_block = 0;
	/* Nothing may use our stack after its record is free: the stub frees it as the last store.
	 */
	*run_mask(uc) = ~RUN_OPEN_MASK;
	REG(uc, RAX) = SYS_exit;
	REG(uc, RDI) = (greg_t)code;
	REG(uc, RSI) = (greg_t)&t->state;
	REG(uc, RIP) = (greg_t)run_exit;
}
