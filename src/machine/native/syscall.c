/*
 * The raw system call. Variadic arguments arrive in the registers of an ordinary call (SysV ABI).
 */
#include "machine/native/native.h"

__asm__(".text\n"
	".p2align 4\n"
	".globl native_syscall_direct\n"
	".hidden native_syscall_direct\n"
	".type native_syscall_direct, @function\n"
	"native_syscall_direct:\n"
	".cfi_startproc\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"	ret\n"
	".cfi_endproc\n"
	".size native_syscall_direct, . - native_syscall_direct\n");

long (*native_syscall)(long nr, ...) = native_syscall_direct;
