/* What a SIGBUS is, and the reads of the core itself. Everything here runs in a signal handler. */
#include "machine/host/host_internal.h"

#include "base_backend.h"

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

	struct mspace *s = host_space_at(host_of(m), va);
	bool denied = si->si_signo == SIGSEGV;

	/* Sent by kill, or a machine check: not ours, whatever address it carries. */
	if (!s || si->si_code != (denied ? SEGV_ACCERR : BUS_ADRERR) ||
	    uc->uc_mcontext.gregs[REG_TRAPNO] != TRAP_PAGE_FAULT)
		return false;
	out->va = va;
	out->write = uc->uc_mcontext.gregs[REG_ERR] & ERROR_WRITE;
	return !denied || place_denied(s, va, out->write);
}

/* A lock of its own: it is taken in a signal handler whose thread may hold any other. */
static void fix_lock(struct host *h)
{
	while (a32_xchg(&h->fixing, 1))
		base_yield();
}

static void fix_unlock(struct host *h)
{
	a32_set_release(&h->fixing, 0);
}

/*
 * The page becomes zeroes, protected: whoever fills the frame next replaces it. One fixer at a
 * time; what is left to think of are owners that fill or drop the page meanwhile. The state says
 * that there is a page only by exchange from a value that no owner leaves behind:
 *   ABSENT -> BUSY, copy, BUSY -> PROTECTED: an installer in between has met our page (EEXIST) and
 *      replaced it, or we have met its page; it sets the state after that, unconditionally.
 *   populated, and yet it trapped: the page went or came this moment, or a drop around it took our
 *      earlier page with it. After the copy, ABSENT -> PROTECTED, if an owner has cleared the
 *      state.
 * It never makes a WRITABLE state PROTECTED: an installer's page could be behind it by now.
 */
static int fix_page(struct mspace *s, u64 page)
{
	struct host *h = s->h;
	u64 state = state_of(s, page);
	struct uffd_result res;

	/* Foreign; or nothing that the core reads; or read where it is not: a parked page's bytes
	 * are elsewhere, and its home must trap for the program. */
	if (state == STATE_BUSY || place_of(s, page) || park_of(s, page))
		return -ENOENT;
	if (state == STATE_ABSENT && !state_change(s, page, STATE_ABSENT, STATE_BUSY))
		return 0; /* changed this moment: look again */
	res = uffd_copy(h, va_of(s, page), h->zeroes, PAGE_SIZE, true);
	if (state == STATE_ABSENT)
		state_change(s, page, STATE_BUSY, res.err ? STATE_ABSENT : STATE_PROTECTED);
	else if (!res.err)
		state_change(s, page, STATE_ABSENT, STATE_PROTECTED);
	return res.err == -EEXIST ? 0 : res.err;
}

bool host_fix_core_read(struct machine *m, u64 va)
{
	struct host *h = host_of(m);
	struct mspace *s;
	int err;

	if (!host_reading())
		return false;
	s = host_space_at(h, va);
	if (!s)
		return false;
	fix_lock(h);
	err = fix_page(s, page_of(s, va & PAGE_MASK));
	fix_unlock(h);
	if (err) /* no memory, or not managed memory at all */
		return false;
	a64_add(&h->count.core_reads_fixed, 1);
	return true;
}
