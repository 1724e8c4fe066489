/*
 * The gate: the one page whose system calls are not dispatched, and beside it the few instructions
 * that trap on purpose. Everything in the gate page is position independent and keeps no state but
 * what C code hands it.
 *
 * run_pass and run_hold are entered by changing the instruction pointer of a signal context, with
 * the program's registers and stack: they may use only rcx and r11, which a system call destroys
 * anyway.
 */
#define SLOT_SP 0
#define SLOT_STACK 8
#define SLOT_RET 16
#define SLOT_MASK 24
#define SLOT_USERS 32
#define SLOT_RDI 40
#define SLOT_RSI 48
#define SLOT_RDX 56
#define SLOT_R10 64
#define SLOT_R8 72
#define SLOT_R9 80
#define SLOT_RBX 88
#define SLOT_BYTES 512
#define SLOTS 64

	.macro FUNCTION name
	.globl \name
	.hidden \name
	.type \name, @function
\name:
	.endm
	.macro LABEL name
	.globl \name
	.hidden \name
\name:
	.endm
	.macro ARGUMENTS
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	.endm

	.section .text.quire_gate, "ax", @progbits
	.p2align 12
LABEL run_gate_start

FUNCTION run_syscall
	.cfi_startproc
	ARGUMENTS
	syscall
	ret
	.cfi_endproc
	.size	run_syscall, . - run_syscall

/*
 * A handler that ran since the pins were made has taken them away and cleared run_fast_ready. The
 * test and the call are one for signals: a context interrupted in [run_fast, run_fast_pre] leaves.
 */
FUNCTION run_fast
	.cfi_startproc
	ARGUMENTS
	mov	run_fast_ready@gottpoff(%rip), %r11
	cmpl	$0, %fs:(%r11)
	je	1f
LABEL run_fast_pre
	syscall
LABEL run_fast_post
	ret
1:	mov	$-513, %rax
	ret
	.cfi_endproc
	.size	run_fast, . - run_fast

/* These exact bytes are how debuggers and unwinders know the frame of a signal. */
	.p2align 4
	nop
LABEL run_restore
	mov	$15, %rax
	syscall
	hlt

	.p2align 4
LABEL run_pass
	syscall
LABEL run_pass_post
	mov	run_pass_return@gottpoff(%rip), %rcx
	jmp	*%fs:(%rcx)

LABEL run_hold
	syscall
LABEL run_hold_post
	jmp	run_after

/* The end of a thread: rsi is its record's state. Nothing uses our stack after the store. */
LABEL run_exit
	movl	$0, (%rsi)
	syscall
	hlt

/* A clone that shares memory: rcx is the slot. No stack of ours until SLOT_STACK is loaded. */
run_clone_child:
	mov	%rsp, SLOT_SP(%rcx)
	mov	SLOT_STACK(%rcx), %rax
	test	%rax, %rax
	cmovnz	%rax, %rsp		/* a thread of the core's stays on its own */
	and	$-16, %rsp
	push	%rcx
	push	%rcx
	mov	%rcx, %rdi
	call	run_child_start
	pop	%rbx
	mov	SLOT_SP(%rbx), %rsp
	mov	$14, %eax
	mov	$2, %edi
	lea	SLOT_MASK(%rbx), %rsi
	xor	%edx, %edx
	mov	$8, %r10d
	syscall
	mov	SLOT_RDI(%rbx), %rdi
	mov	SLOT_RSI(%rbx), %rsi
	mov	SLOT_RDX(%rbx), %rdx
	mov	SLOT_R10(%rbx), %r10
	mov	SLOT_R8(%rbx), %r8
	mov	SLOT_R9(%rbx), %r9
	mov	SLOT_RET(%rbx), %rcx
	mov	%rbx, %r11
	mov	SLOT_RBX(%r11), %rbx
	xor	%eax, %eax
	/* Behind this store the slot may be given away: only registers are used. */
	lock decl SLOT_USERS(%r11)
	jmp	*%rcx

	.altmacro
	.macro CLONE k
	.p2align 5
	syscall
	test	%rax, %rax
	jz	1f
	jmp	run_clone_after + 4 * \k
1:	lea	run_clone_slots + SLOT_BYTES * \k(%rip), %rcx
	jmp	run_clone_child
	.endm
	.p2align 5
LABEL run_clone_calls
	.set	k, 0
	.rept	SLOTS
	CLONE	%k
	.set	k, k + 1
	.endr

	.p2align 12
LABEL run_gate_end

	.text
/* These trap: they lie outside the gate, and the handler knows them by their addresses. */
	.p2align 4
LABEL run_after
	syscall
LABEL run_after_post
	ud2

FUNCTION run_deferred_trap
	.cfi_startproc
	syscall
LABEL run_deferred_post
	ret
	.cfi_endproc
	.size	run_deferred_trap, . - run_deferred_trap

	.p2align 4
LABEL run_clone_after
	.rept	SLOTS
	syscall
	ud2
	.endr

/* u64 run_copy(to, from, n): a fault at run_copy_at is answered by going on at run_copy_end. */
FUNCTION run_copy
	.cfi_startproc
	mov	%rdx, %rcx
	cld
LABEL run_copy_at
	rep movsb
LABEL run_copy_end
	mov	%rcx, %rax
	ret
	.cfi_endproc
	.size	run_copy, . - run_copy

/*
 * void *__tls_get_addr(tls_index *): rdi points to a module's number and an offset in it (tls.c).
 * Old compilers call it with any stack alignment.
 */
	.p2align 4
	.globl	__tls_get_addr
	.type	__tls_get_addr, @function
__tls_get_addr:
	.cfi_startproc
	mov	(%rdi), %rax
	cmp	$64, %rax
	jae	1f
	lea	run_tls_distance(%rip), %rdx
	mov	(%rdx, %rax, 8), %rax
	test	%rax, %rax
	jz	1f
	add	8(%rdi), %rax
	add	%fs:0, %rax
	ret
1:	cmpq	$0, run_tls_real(%rip)
	je	2f
	jmp	*run_tls_real(%rip)
2:	push	%rbp
	.cfi_def_cfa_offset 16
	.cfi_offset rbp, -16
	mov	%rsp, %rbp
	.cfi_def_cfa_register rbp
	push	%rdi
	push	%rdi
	and	$-16, %rsp
	call	run_tls_resolve
	mov	-8(%rbp), %rdi
	mov	%rbp, %rsp
	pop	%rbp
	.cfi_def_cfa rsp, 8
	jmp	*run_tls_real(%rip)
	.cfi_endproc
	.size	__tls_get_addr, . - __tls_get_addr

	.section .note.GNU-stack, "", @progbits
