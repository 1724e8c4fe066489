/*
 * Staging buffers: where the new bytes of frames are written before the kernel copies them in.
 *
 * Two sizes, a stack of free ones per processor, so that a thread finds the one whose lines are
 * still in its cache. A stack is a list of indices behind one word with a tag that changes with
 * every push, so that an exchange never takes a head that went and came back. When all are out, one
 * is mapped.
 */
#include "machine/host/host_internal.h"

static const struct {
	u32 pages;
	u32 count;
	u32 first; /* index of the first buffer of this size */
} size_class[2] = {
	{ STAGE_SMALL, NR_STAGE_SMALL, 0 },
	{ STAGE_LARGE, NR_STAGE_LARGE, NR_STAGE_SMALL },
};

#define STAGE_SMALL_BYTES ((size_t)NR_STAGE_SMALL * STAGE_SMALL * PAGE_SIZE)
#define STAGE_BYTES       (STAGE_SMALL_BYTES + (size_t)NR_STAGE_LARGE * STAGE_LARGE * PAGE_SIZE)
#define LINK_BYTES        ALIGN_UP((NR_STAGE_SMALL + NR_STAGE_LARGE) * sizeof(a32_t), PAGE_SIZE)

int stage_init(struct host *h)
{
	char *all = sys_map(STAGE_BYTES + LINK_BYTES);

	if (!all)
		return -ENOMEM;
	h->stage = all;
	h->stage_next = (a32_t *)(all + STAGE_BYTES);
	return 0;
}

void stage_fini(struct host *h)
{
	sys_unmap(h->stage, STAGE_BYTES + LINK_BYTES);
}

static unsigned class_of(u32 nr)
{
	return nr > STAGE_SMALL;
}

static void push(struct host *h, unsigned cls, u32 cpu, u32 index)
{
	a64_t *head = &h->stage_cpu[cpu].head[cls];
	u64 old = a64_read(head);

	do {
		a32_set(&h->stage_next[index], (u32)old);
	} while (!a64_cmpxchg(head, &old, ((old >> 32) + 1) << 32 | (index + 1)));
}

/* Index + 1, or 0. */
static u32 pop(struct host *h, unsigned cls, u32 cpu)
{
	a64_t *head = &h->stage_cpu[cpu].head[cls];
	u64 old = a64_read_acquire(head);

	while ((u32)old) {
		u64 next = a32_read(&h->stage_next[(u32)old - 1]);

		/* The link may be stale; then the tag is, too. */
		if (a64_cmpxchg(head, &old, ((old >> 32) + 1) << 32 | next))
			return (u32)old;
	}
	return 0;
}

static void *address_of(struct host *h, unsigned cls, u32 index)
{
	char *base = h->stage + (cls ? STAGE_SMALL_BYTES : 0);

	return base + (size_t)(index - size_class[cls].first) * size_class[cls].pages * PAGE_SIZE;
}

void *stage_get(struct host *h, u32 nr)
{
	unsigned cls = class_of(nr);
	u32 cpu = base_cpu(), index = pop(h, cls, cpu), made;

	/* Another processor's before a new one: threads that move would touch ever more of them. */
	for (u32 i = 1; !index && i < MAX_CPUS; i++)
		index = pop(h, cls, (cpu + i) % MAX_CPUS);
	made = a32_read(&h->stage_made[cls]);
	while (!index && made < size_class[cls].count)
		if (a32_cmpxchg(&h->stage_made[cls], &made, made + 1))
			index = size_class[cls].first + made + 1;
	if (index)
		return address_of(h, cls, index - 1);
	return sys_map((size_t)nr << PAGE_SHIFT);
}

void stage_put(struct host *h, u32 nr, void *buf)
{
	unsigned cls = class_of(nr);
	size_t offset = (size_t)((char *)buf - h->stage);

	if ((char *)buf < h->stage || offset >= STAGE_BYTES) {
		sys_unmap(buf, (size_t)nr << PAGE_SHIFT);
		return;
	}
	if (cls)
		offset -= STAGE_SMALL_BYTES;
	push(h, cls, base_cpu(),
	     size_class[cls].first + (u32)(offset / (size_class[cls].pages * PAGE_SIZE)));
}

void *host_fill_begin(struct machine *m, u64 pfn, u32 nr)
{
	(void)pfn;
	DEBUG_ON(nr == 0 || nr > STAGE_LARGE);
	return stage_get(host_of(m), nr);
}

void host_fill_end(struct machine *m, u64 pfn, u32 nr, void *buf)
{
	(void)pfn;
	if (buf)
		stage_put(host_of(m), nr, buf);
}
