/*
 * native.h - what every machine that runs on a real kernel shares: system calls, the panic line,
 * RCU.
 *
 * This folder implements base/native/base_backend.h and base/assert.h with system calls only, so
 * that it may run in a signal handler and before or after anything else of the C library works.
 *
 * native_syscall: all system calls of the leaf go through this pointer. It takes the number and up
 *   to six arguments and returns the kernel's raw result (-errno on error; errno is not touched).
 *   `quire run` points it at its allowed code page before it arms dispatch. Arguments are passed as
 *   they are: cast a 0 meant as a pointer or a long (`(void *)0`, `0l`), because varargs do not
 *   widen it.
 * Locking: the pointer is set while one thread runs (C); the warn table is atomic (A).
 */
#ifndef QUIRE_MACHINE_NATIVE_H
#define QUIRE_MACHINE_NATIVE_H

#include "base/types.h"

extern long (*native_syscall)(long nr, ...);

/* The default: the syscall instruction in this library's own text. */
long native_syscall_direct(long nr, ...);

/* How many WARN_ONs have fired in this process. */
u64 native_warnings(void);

/* Around fork: keeps liburcu's registry whole; the child forgets the threads that are gone. */
void native_rcu_before_fork(void);
void native_rcu_after_fork_parent(void);
void native_rcu_after_fork_child(void);

#endif
