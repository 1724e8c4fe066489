/*
 * pins.c - pinned pages by handle. A handle is the page's record (phys/folio.h): the pin keeps its
 * frame, so that neither changes until it is unpinned, whatever becomes of the address.
 */
#include "lib/lib_internal.h"

#define ADDR_LIMIT (1ull << 47)

static u32 access_of(int flags)
{
	return (flags & QUIRE_PIN_WRITE ? ACCESS_WRITE : ACCESS_READ) |
	       (flags & QUIRE_PIN_LONGTERM ? ACCESS_LONGTERM : 0);
}

long quire_pin_fast(quire_space_t *st, const void *addr, size_t size, int flags,
		    quire_page_t *pages)
{
	struct api_space *as = api_space_of(st);
	struct quire *q = as->a->q;
	u64 start = (u64)(uintptr_t)addr;
	struct range r;
	long n;

	if (!pages || (flags & ~(QUIRE_PIN_WRITE | QUIRE_PIN_LONGTERM)))
		return -EINVAL;
	if (!size)
		return 0;
	if (size > ADDR_LIMIT || start > ADDR_LIMIT)
		return -EFAULT;
	r.start = ALIGN_DOWN(start, PAGE_SIZE);
	r.end = ALIGN_UP(start + size, PAGE_SIZE);
	gate_enter(&q->gate);
	n = pin_fast(q, &as->s->fs, r, access_of(flags), (struct folio **)pages);
	gate_exit(&q->gate);
	return n >= 0 || n == -ENOMEM ? n : -EFAULT;
}

void *quire_page_data(quire_t *qt, quire_page_t page)
{
	struct quire *q = api_of(qt)->q;
	struct folio *rec = page ? (struct folio *)page : fault_zero_folio(q);
	struct machine *m = q->machine;
	u64 pfn;

	if (!rec)
		return NULL;
	pfn = folio_pfn(q, rec);
	return frame_is_home(m, pfn) ? (void *)(uintptr_t)(pfn << PAGE_SHIFT) :
				       m->ops->frame_window(m, pfn);
}

uint64_t quire_page_frame(quire_t *qt, quire_page_t page)
{
	struct quire *q = api_of(qt)->q;
	struct folio *rec = page ? (struct folio *)page : fault_zero_folio(q);

	return rec ? folio_pfn(q, rec) : 0;
}

void quire_unpin_pages(quire_t *qt, quire_page_t *pages, size_t n)
{
	struct quire *q = api_of(qt)->q;

	gate_enter(&q->gate);
	unpin_pages(q, (struct folio **)pages, n);
	gate_exit(&q->gate);
}
