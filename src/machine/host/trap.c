/* What a SIGBUS is, and the reads of the core itself. Everything here runs in a signal handler. */
#include "machine/host/host_internal.h"

#define TRAP_PAGE_FAULT 14
#define ERROR_WRITE     BIT(1)

bool host_owns(struct machine *m, u64 va, u64 size)
{
	struct host *h = host_of(m);

	if (!size)
		return false;
	/* Granules belong to one region whole. */
	for (u64 g = va >> REGION_GRANULE_SHIFT; g <= (va + size - 1) >> REGION_GRANULE_SHIFT; g++)
		if (host_space_at(h, g << REGION_GRANULE_SHIFT))
			return true;
	return false;
}

bool host_trap_info(struct machine *m, const siginfo_t *si, const ucontext_t *uc,
		    struct host_trap *out)
{
	u64 va = (u64)(uintptr_t)si->si_addr;

	/* Sent by kill, or a machine check: not ours, whatever address it carries. */
	if (si->si_code != BUS_ADRERR || uc->uc_mcontext.gregs[REG_TRAPNO] != TRAP_PAGE_FAULT)
		return false;
	if (!host_owns(m, va, 1))
		return false;
	out->va = va;
	out->write = uc->uc_mcontext.gregs[REG_ERR] & ERROR_WRITE;
	return true;
}

/*
 * The page becomes zeroes, protected: whoever fills the frame next replaces it. An ABSENT page goes
 * through BUSY, and becomes PROTECTED only if it still is BUSY: an installer that came in between
 * has set the state, and the kernel has told one of the two that there is a page (EEXIST).
 */
bool host_fix_core_read(struct machine *m, u64 va)
{
	struct host *h = host_of(m);
	struct mspace *s;
	struct uffd_result res;
	u64 page, state;

	if (!host_reading())
		return false;
	s = host_space_at(h, va);
	if (!s)
		return false;
	va &= PAGE_MASK;
	page = page_of(s, va);
	if (state_change(s, page, STATE_ABSENT, STATE_BUSY)) {
		res = uffd_copy(h, va, h->zeroes, PAGE_SIZE, true);
		state_change(s, page, STATE_BUSY, res.err ? STATE_ABSENT : STATE_PROTECTED);
	} else {
		state = state_of(s, page);
		/* Populated, and yet it trapped: it went this moment, or came this moment. */
		res = uffd_copy(h, va, h->zeroes, PAGE_SIZE, true);
		if (!res.err && state == STATE_WRITABLE)
			state_change(s, page, STATE_WRITABLE, STATE_PROTECTED);
	}
	if (res.err && res.err != -EEXIST)
		return false; /* no memory, or not managed memory at all */
	a64_add(&h->count.core_reads_fixed, 1);
	return true;
}
