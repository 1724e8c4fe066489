/*
 * Plain frames: pages of one sparse memfd for the whole machine, and the core's view of their
 * bytes.
 *
 * The frame that belongs to an address lies at the offset that is equal to the address: the file is
 * as large as the address space, and a page of it is memory only from its first use until it is
 * punched out. Frames of `overflow`, addresses that are reserved and mapped by nobody else, belong
 * to no page. Each node has such a range; all other frames are memory of node 0.
 *
 * Windows: the file mapped once more, writable and unmanaged, a granule (1 GiB of addresses) at a
 * time. A region's come with its first plain area and stay until the machine ends, because frames
 * outlive the region that they belong to as long as other spaces share them.
 *
 * New bytes go through a staging buffer: UFFDIO_COPY or a write puts them into the file for half of
 * what a first store through a window costs, and a window's page must be unmapped again when the
 * frame is released.
 */
#include "machine/host/host_internal.h"

#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MEMFD_BYTES     BIT(47)
#define MFD_CLOEXEC_NR  1l
#define MFD_NOEXEC_NR   8l
#define RLIMIT_FSIZE_NR 1l
#define RLIMIT_AS_NR    9l
#define OVERFLOW_MOST   (8ull << 40)
#define AS_LIMIT_PART   64u /* of a limit on addresses, the overflow takes no more than this part */

static u64 limit_of(long which)
{
	struct {
		u64 cur;
		u64 max;
	} limit = { ~0ull, ~0ull };

	native_syscall(SYS_prlimit64, 0l, which, (void *)0, &limit);
	return limit.cur;
}

/* ---- making it ---- */
/* Addresses for the frames that belong to none. Less where there is not so much. */
static bool reserve_overflow(struct host *h, unsigned node, u64 bytes)
{
	u64 limit = limit_of(RLIMIT_AS_NR);

	bytes = min(ALIGN_UP(bytes, REGION_GRANULE), (u64)OVERFLOW_MOST);

	if (limit != ~0ull)
		bytes = min(bytes, ALIGN_DOWN(limit / AS_LIMIT_PART, REGION_GRANULE));
	for (; bytes >= REGION_GRANULE; bytes = ALIGN_DOWN(bytes / 2, REGION_GRANULE)) {
		u64 start = sys_reserve(bytes, PROT_NONE);

		if (start) {
			h->overflow[node] = (struct range){ start, start + bytes };
			h->m.node_span[node] = (struct frame_span){ plain_frame(start),
								    (u32)(bytes >> PAGE_SHIFT) };
			return true;
		}
	}
	return false;
}

static void release_overflow(struct host *h)
{
	for (u32 i = 0; i < h->m.nr_nodes; i++) {
		struct range *r = &h->overflow[i];

		if (r->end)
			native_syscall(SYS_munmap, r->start, range_size(*r));
		*r = (struct range){ 0, 0 };
		h->m.node_span[i] = (struct frame_span){ 0, 0 };
	}
}

void plain_init(struct host *h, u64 offered, const struct host_config *cfg)
{
	u64 least = cfg->overflow_bytes ? cfg->overflow_bytes : HOST_OVERFLOW_DEFAULT;
	bool reserved = true;

	if (!uffd_has_plain(offered))
		return;
	h->window = sys_map(REGION_SLOTS * sizeof(a64_t));
	if (!h->window)
		return;
	for (u32 i = 0; i < h->m.nr_nodes && reserved; i++)
		reserved = reserve_overflow(h, i, max(least, i ? cfg->node[i].bytes : 0));
	if (!reserved) {
		release_overflow(h);
		sys_unmap(h->window, REGION_SLOTS * sizeof(a64_t));
		h->window = NULL;
		return;
	}
	h->m.caps |= CAP_PLAIN | CAP_PLACED;
	h->m.plain_base = PLAIN_BASE;
}

static long open_memfd(struct host *h)
{
	long fd, err;

	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	/* The kernel would not only refuse but also send a signal. */
	if (limit_of(RLIMIT_FSIZE_NR) < MEMFD_BYTES)
		return -EFBIG;
	fd = native_syscall(SYS_memfd_create, "quire", MFD_CLOEXEC_NR);
	if (fd == -EACCES) /* vm.memfd_noexec insists on files that nobody can execute */
		fd = native_syscall(SYS_memfd_create, "quire", MFD_CLOEXEC_NR | MFD_NOEXEC_NR);
	if (fd < 0)
		return fd;
	err = native_syscall(SYS_ftruncate, fd, MEMFD_BYTES);
	if (err) {
		native_syscall(SYS_close, fd);
		return err;
	}
	return host_raise_fd((int)fd, h->fd_floor);
}

/* Maps the memfd at va (0: anywhere), in the way in which all its mappings are made: the kernel
 * merges only what is alike. A child of fork does not get it: it would share it unmanaged. */
long memfd_map(struct host *h, u64 va, u64 size, u64 pfn, int prot)
{
	long flags = MAP_SHARED | MAP_NORESERVE | (va ? MAP_FIXED : 0);
	long at = native_syscall(SYS_mmap, va, size, (long)prot, flags, (long)memfd_of(h),
				 plain_offset(pfn));

	if (at < 0)
		return at;
	sys_madvise((u64)at, size, MADV_NOHUGEPAGE); /* fails only where there are none */
	sys_madvise((u64)at, size, MADV_DONTDUMP);
	BUG_ON(sys_madvise((u64)at, size, MADV_DONTFORK));
	return at;
}

static unsigned granule_node(const struct host *h, u64 g)
{
	for (u32 i = 1; i < h->m.nr_nodes; i++)
		if (g >= h->overflow[i].start >> REGION_GRANULE_SHIFT &&
		    g < h->overflow[i].end >> REGION_GRANULE_SHIFT)
			return i;
	return 0;
}

/* The file's pages behind the window of granules [first, last), which is at `at`, come from the
 * nodes that their frames are of. */
static int bind_window(struct host *h, u64 first, u64 last, u64 at)
{
	int err = 0;

	for (u64 g = first, end; h->has_physical && g < last && !err; g = end) {
		unsigned node = granule_node(h, g);

		for (end = g + 1; end < last && granule_node(h, end) == node; end++)
			;
		err = nodes_bind(h, at + ((g - first) << REGION_GRANULE_SHIFT),
				 (end - g) << REGION_GRANULE_SHIFT, node);
	}
	return err;
}

/* Granules [first, last) get a window, at `va` (0: anywhere). LOCKING: h->lock. */
static int map_window(struct host *h, u64 first, u64 last, u64 va)
{
	long at;

	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	at = memfd_map(h, va, (last - first) << REGION_GRANULE_SHIFT,
		       plain_frame(first << REGION_GRANULE_SHIFT), PROT_READ | PROT_WRITE);
	if (at < 0)
		return -ENOMEM;
	if (bind_window(h, first, last, (u64)at)) {
		if (!va) /* else the addresses stay ours, to be mapped over again */
			native_syscall(SYS_munmap, at, (last - first) << REGION_GRANULE_SHIFT);
		return -ENOMEM;
	}
	for (u64 g = first; g < last; g++)
		a64_set_release(&h->window[g], (u64)at + ((g - first) << REGION_GRANULE_SHIFT));
	return 0;
}

/* The next run of granules in [*first, *last) that have a window, at consecutive addresses, or have
 * none. False: there is no more. */
static bool next_windows(struct host *h, u64 *first, u64 *last, bool have)
{
	u64 g = *first, at;

	while (g < *last && !a64_read(&h->window[g]) == have)
		g++;
	if (g == *last)
		return false;
	*first = g;
	at = a64_read(&h->window[g]);
	do {
		g++;
		at += have ? REGION_GRANULE : 0;
	} while (g < *last && a64_read(&h->window[g]) == at);
	*last = g;
	return true;
}

static int window_range(struct host *h, struct range r)
{
	u64 end = r.end >> REGION_GRANULE_SHIFT, first = r.start >> REGION_GRANULE_SHIFT;
	int err = 0;

	for (u64 last = end; !err && next_windows(h, &first, &last, false); last = end)
		err = map_window(h, first, last, 0);
	return err;
}

/* The space is to have a plain area; NULL: frames that belong to no address are used before any has
 * one. */
int plain_prepare(struct host *h, struct mspace *s)
{
	int err = 0;

	if (!h->window)
		return -ENOMEM;
	if (likely((!s || aptr_read_acquire(&s->place)) && memfd_of(h) >= 0))
		return 0;
	mutex_lock(&h->lock);
	if (memfd_of(h) < 0) {
		long fd = open_memfd(h);

		err = fd < 0 ? -ENOMEM : 0;
		if (!err)
			a32_set_release(&h->memfd, (u32)fd + 1);
	}
	for (u32 i = 0; i < h->m.nr_nodes && !err; i++) {
		struct range r = h->overflow[i];

		if (!a64_read(&h->window[r.start >> REGION_GRANULE_SHIFT]))
			err = map_window(h, r.start >> REGION_GRANULE_SHIFT,
					 r.end >> REGION_GRANULE_SHIFT, r.start);
	}
	if (!err && s)
		err = window_range(h, s->r);
	mutex_unlock(&h->lock);
	return err;
}

void plain_fini(struct host *h)
{
	u64 first = 0;

	if (!h->window)
		return;
	for (u64 last = REGION_SLOTS; next_windows(h, &first, &last, true); last = REGION_SLOTS) {
		native_syscall(SYS_munmap, a64_read(&h->window[first]),
			       (last - first) << REGION_GRANULE_SHIFT);
		first = last;
	}
	release_overflow(h);
	if (memfd_of(h) >= 0)
		native_syscall(SYS_close, (long)memfd_of(h));
	sys_unmap(h->window, REGION_SLOTS * sizeof(a64_t));
}

static int new_windows(struct host *h)
{
	long fd = open_memfd(h);
	u64 first = 0;
	int err = 0;

	if (fd < 0)
		return -ENOMEM;
	a32_set(&h->memfd, (u32)fd + 1);
	for (u64 last = REGION_SLOTS; !err && next_windows(h, &first, &last, true);
	     last = REGION_SLOTS) {
		err = map_window(h, first, last, a64_read(&h->window[first]));
		first = last;
	}
	return err;
}

/*
 * A child of fork has none of the parent's plain frames. It gets empty ones, so that what its core
 * still does to them (zap, release) harms nobody; at worst none until there is room.
 */
void plain_forked_child(struct host *h)
{
	if (!h->window)
		return;
	/* Its addresses are free now, and must not be given to anybody. */
	for (u32 i = 0; i < h->m.nr_nodes; i++)
		native_syscall(
			SYS_mmap, h->overflow[i].start, range_size(h->overflow[i]), (long)PROT_NONE,
			(long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED), -1l, 0l);
	if (memfd_of(h) < 0)
		return;
	native_syscall(SYS_close, (long)memfd_of(h));
	a32_set(&h->memfd, 0);
	if (!new_windows(h))
		return;
	for (u64 g = 0; g < REGION_SLOTS; g++)
		a64_set(&h->window[g], 0);
	if (memfd_of(h) >= 0)
		native_syscall(SYS_close, (long)memfd_of(h));
	a32_set(&h->memfd, 0);
}

/* ---- bytes ---- */
/* Writes whole pages into the file, without mapping them. */
int plain_write(struct host *h, u64 pfn, const void *from, u32 nr)
{
	u64 done = 0, size = (u64)nr << PAGE_SHIFT;

	while (done < size) {
		long n = native_syscall(SYS_pwrite64, (long)memfd_of(h), (const char *)from + done,
					size - done, plain_offset(pfn) + done);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			return -ENOMEM;
		done += (u64)n;
	}
	return 0;
}

void *plain_fill_begin(struct host *h, u64 pfn, u32 nr)
{
	void *buf, *window;

	/* An object may have pages before a space has an area of it. */
	if (unlikely(memfd_of(h) < 0) && plain_prepare(h, NULL))
		return NULL;
	buf = stage_get_tracked(h, nr);
	if (likely(buf))
		return buf;
	/* All are in use: directly, and without a signal should there be no memory. */
	window = plain_window(h, pfn);
	if (sys_madvise((u64)(uintptr_t)window, (u64)nr << PAGE_SHIFT, HOST_MADV_POPULATE_WRITE))
		return NULL;
	return window;
}

int plain_fill_end(struct host *h, u64 pfn, u32 nr, void *buf)
{
	int err = 0;

	if (!stage_has(h, buf))
		return 0;
	for (u32 i = 0, n; i < nr && !err; i += n) {
		bool taken = stage_taken_run(h, buf, i, nr, &n);

		if (taken)
			continue;
		if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
			err = -ENOMEM;
		else
			err = plain_write(h, pfn + i, (char *)buf + ((u64)i << PAGE_SHIFT), n);
	}
	stage_put(h, nr, buf);
	return err;
}

void plain_release(struct host *h, u64 pfn, u64 nr)
{
	long err;

	if (memfd_of(h) < 0) /* a forked child: there are none */
		return;
	do {
		err = native_syscall(SYS_fallocate, (long)memfd_of(h),
				     (long)(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
				     plain_offset(pfn), nr << PAGE_SHIFT);
	} while (err == -EINTR);
	/* Later users of these frames count on zeroes. */
	BUG_ON(err);
}

/*
 * Read and written, not mapped: a page of the window that was never looked at costs a fault of 5.6
 * us (with its 15 neighbours), a copy of it by the kernel 0.5.
 */
int host_frames_copy(struct machine *m, u64 dst, u64 src, u32 nr)
{
	struct host *h = host_of(m);
	u64 done = 0, size = (u64)nr << PAGE_SHIFT;
	int err = -ENOMEM;
	char *buf;

	BUG_ON(frame_is_home(m, dst) || frame_is_home(m, src) || nr > STAGE_LARGE);
	buf = stage_get(h, nr);
	if (!buf || inject_fail(m->inject, INJECT_MACHINE_CALL))
		goto out;
	while (done < size) {
		long n = native_syscall(SYS_pread64, (long)memfd_of(h), buf + done, size - done,
					plain_offset(src) + done);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			goto out;
		done += (u64)n;
	}
	err = plain_write(h, dst, buf, nr);
out:
	if (buf)
		stage_put(h, nr, buf);
	return err;
}

int plain_move(struct host *h, u64 dst, u64 src, u32 nr)
{
	if (host_frames_copy(&h->m, dst, src, nr)) {
		plain_release(h, dst, nr);
		return -ENOMEM;
	}
	a64_add(&h->count.move_copies, nr);
	plain_release(h, src, nr);
	return 0;
}

s64 plain_resident_pages(struct host *h)
{
	struct stat st;

	if (memfd_of(h) < 0)
		return 0;
	if (native_syscall(SYS_fstat, (long)memfd_of(h), &st))
		return -EIO;
	return st.st_blocks / (s64)(PAGE_SIZE / 512);
}
