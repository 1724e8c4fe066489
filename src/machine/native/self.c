/* The calling thread and its processor. Nothing here may allocate: it runs in fault handlers. */
#include "base/thread.h"
#include "base_backend.h"
#include "machine/native/native.h"

#include <sched.h>

/*
 * initial-exec: the address is an offset from the thread pointer. The general model calls
 * __tls_get_addr, which may allocate on a thread's first touch, and that may be inside malloc.
 */
static __thread struct base_thread self_record __attribute__((tls_model("initial-exec")));
static u32 last_id;

static __attribute__((noinline, cold)) void self_init(struct base_thread *t)
{
	u32 id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);

	t->rng = (id + 1) * 0x9e3779b97f4a7c15ull;
	t->id = id;
}

struct base_thread *base_self(void)
{
	struct base_thread *t = &self_record;

	if (unlikely(!t->id))
		self_init(t);
	return t;
}

/* glibc 2.35 and later register rseq for every thread and say where it lies. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

struct rseq_area {
	u32 cpu_id_start;
	s32 cpu_id; /* negative: not registered */
};

unsigned base_cpu(void)
{
	int cpu;

	if (likely(&__rseq_size && __rseq_size)) {
		const volatile struct rseq_area *area =
			(void *)((char *)__builtin_thread_pointer() + __rseq_offset);

		cpu = area->cpu_id;
		if (likely(cpu >= 0))
			return (unsigned)cpu % MAX_CPUS;
	}
	cpu = sched_getcpu();
	return cpu < 0 ? 0 : (unsigned)cpu % MAX_CPUS;
}
