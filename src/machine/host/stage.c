/*
 * Staging buffers: where the new bytes of frames are written before the kernel copies them in.
 *
 * Two sizes, a stack of free ones per processor, so that a thread finds the one whose lines are
 * still in its cache. A stack is a list of indices behind one word with a tag that changes with
 * every push, so that an exchange never takes a head that went and came back. When all are out, one
 * is mapped.
 */
#include "machine/host/host_internal.h"

#include <string.h>

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

/* 0: all are out. */
static u32 take(struct host *h, unsigned cls)
{
	u32 cpu = base_cpu(), index = pop(h, cls, cpu), made;

	/* Another processor's before a new one: threads that move would touch ever more of them. */
	for (u32 i = 1; !index && i < MAX_CPUS; i++)
		index = pop(h, cls, (cpu + i) % MAX_CPUS);
	made = a32_read(&h->stage_made[cls]);
	while (!index && made < size_class[cls].count)
		if (a32_cmpxchg(&h->stage_made[cls], &made, made + 1))
			index = size_class[cls].first + made + 1;
	return index;
}

void *stage_get(struct host *h, u32 nr)
{
	unsigned cls = class_of(nr);
	u32 index = take(h, cls);

	return index ? address_of(h, cls, index - 1) : sys_map((size_t)nr << PAGE_SHIFT);
}

bool stage_has(struct host *h, const void *at)
{
	return (const char *)at >= h->stage && (size_t)((const char *)at - h->stage) < STAGE_BYTES;
}

/* ---- what has been taken out of a buffer. Owned by the buffer's owner. ---- */
/* The bits of the buffer that `at` lies in; *page: its page there. */
static u64 *taken_of(struct host *h, const void *at, u32 *page)
{
	size_t offset = (size_t)((const char *)at - h->stage);
	unsigned cls = offset >= STAGE_SMALL_BYTES;
	u32 pages;

	if (cls)
		offset -= STAGE_SMALL_BYTES;
	pages = (u32)(offset >> PAGE_SHIFT);
	*page = pages % size_class[cls].pages;
	return h->stage_taken[size_class[cls].first + pages / size_class[cls].pages];
}

void *stage_get_tracked(struct host *h, u32 nr)
{
	unsigned cls = class_of(nr);
	u32 index = take(h, cls);

	if (!index)
		return NULL;
	memset(h->stage_taken[index - 1], 0, sizeof(h->stage_taken[0]));
	return address_of(h, cls, index - 1);
}

void stage_take(struct host *h, const void *at, u32 nr)
{
	u32 page;
	u64 *bits = taken_of(h, at, &page);

	for (u32 i = page; i < page + nr; i++)
		bits[i / 64] |= BIT(i % 64);
}

bool stage_taken_run(struct host *h, const void *buf, u32 i, u32 nr, u32 *run)
{
	u32 first, n = 0;
	u64 *bits = taken_of(h, buf, &first);
	bool taken = bits[i / 64] >> (i % 64) & 1;

	BUG_ON(first);
	while (i + n < nr && (bits[(i + n) / 64] >> ((i + n) % 64) & 1) == taken)
		n++;
	*run = n;
	return taken;
}

void stage_put(struct host *h, u32 nr, void *buf)
{
	unsigned cls = class_of(nr);
	size_t offset = (size_t)((char *)buf - h->stage);

	if (!stage_has(h, buf)) {
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
	DEBUG_ON(nr == 0 || nr > STAGE_LARGE);
	if (!frame_is_home(m, pfn))
		return plain_fill_begin(host_of(m), pfn, nr);
	return stage_get(host_of(m), nr);
}

int host_fill_end(struct machine *m, u64 pfn, u32 nr, void *buf)
{
	if (!buf)
		return 0;
	if (!frame_is_home(m, pfn))
		return plain_fill_end(host_of(m), pfn, nr, buf);
	stage_put(host_of(m), nr, buf);
	return 0;
}
