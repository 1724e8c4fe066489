/*
 * RCU over liburcu's bulletproof flavour: any thread may read without having registered.
 *
 * Its first read section in a thread takes a mutex and may map memory, with all signals blocked;
 * later ones are a counter in thread-local storage. The library makes its own system calls
 * (membarrier, poll, mmap): they do not go through native_syscall.
 */
#include "base_backend.h"
#include "machine/native/native.h"

#include <urcu/urcu-bp.h>

#if defined(__SANITIZE_THREAD__)
/*
 * The library is not instrumented: tell the sanitizer that a grace period orders readers before us.
 */
extern void __tsan_acquire(void *addr);
extern void __tsan_release(void *addr);
static u64 grace_token;
#define GRACE_ACQUIRE() __tsan_acquire(&grace_token)
#define GRACE_RELEASE() __tsan_release(&grace_token)
#else
#define GRACE_ACQUIRE() ((void)0)
#define GRACE_RELEASE() ((void)0)
#endif

void base_rcu_read_lock(void)
{
	urcu_bp_read_lock();
}

void base_rcu_read_unlock(void)
{
	GRACE_RELEASE();
	urcu_bp_read_unlock();
}

void base_rcu_synchronize(void)
{
	urcu_bp_synchronize_rcu();
	GRACE_ACQUIRE();
}

void native_rcu_before_fork(void)
{
	urcu_bp_before_fork();
}

void native_rcu_after_fork_parent(void)
{
	urcu_bp_after_fork_parent();
}

void native_rcu_after_fork_child(void)
{
	urcu_bp_after_fork_child();
}
