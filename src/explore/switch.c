/*
 * switch.c - the stack switch: callee-saved registers are pushed, stacks exchanged.
 */
#include "explore/internal.h"

#ifndef __x86_64__
#error "the explorer's stack switch is written for x86-64"
#endif

__asm__(".text\n"
	".p2align 4\n"
	".globl x_switch\n"
	".hidden x_switch\n"
	".type x_switch, @function\n"
	"x_switch:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size x_switch, .-x_switch\n");

/* A stack on which x_switch finds fn as if it had been left at its first instruction. */
void *switch_prepare(void *top, void (*fn)(void))
{
	u64 *sp = (u64 *)((u64)top & ~15ul);

	*--sp = 0;
	*--sp = (u64)fn;
	for (u32 i = 0; i < 6; i++)
		*--sp = 0;
	return sp;
}
