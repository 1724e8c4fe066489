/*
 * Regions: the reserved addresses of a space, and what a forked child does to go on with its
 * copies.
 */
#include "machine/host/host_internal.h"

#include <linux/mman.h>
#include <sys/mman.h>

static size_t state_bytes(u64 region)
{
	return ALIGN_UP((region >> PAGE_SHIFT) / WORD_PAGES * sizeof(u64), PAGE_SIZE);
}

static size_t touched_bytes(u64 region)
{
	u64 bits = ALIGN_UP((region >> PAGE_SHIFT) / TOUCH_PAGES + 1, 64ull);

	return ALIGN_UP(bits / 8, PAGE_SIZE);
}

static size_t extent_bytes(const struct host *h)
{
	return ALIGN_UP((h->max_mappings + 4ul) * sizeof(struct extent), PAGE_SIZE);
}

/* Aligned to the granule, so that no granule is shared by two regions. */
u64 sys_reserve(u64 bytes, int prot)
{
	u64 whole = bytes + REGION_GRANULE;
	long at = native_syscall(SYS_mmap, 0l, whole, (long)prot,
				 (long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE), -1l, 0l);
	u64 start;

	if (at < 0)
		return 0;
	start = ALIGN_UP((u64)at, REGION_GRANULE);
	if (start > (u64)at)
		native_syscall(SYS_munmap, (u64)at, start - (u64)at);
	if (start + bytes < (u64)at + whole)
		native_syscall(SYS_munmap, start + bytes, (u64)at + whole - (start + bytes));
	return start;
}

static void free_tables(struct mspace *s, u64 bytes)
{
	if (s->state)
		sys_unmap(s->state, state_bytes(bytes));
	if (s->touched)
		sys_unmap(s->touched, touched_bytes(bytes));
	if (s->ext)
		sys_unmap(s->ext, extent_bytes(s->h));
	if (aptr_read(&s->place))
		sys_unmap(aptr_read(&s->place), place_bytes(bytes));
	if (s->park)
		sys_unmap(s->park, park_bytes(bytes));
}

/* Addresses for parked pages of a region at `start`. */
static int shadow_init(struct mspace *s, u64 start, u64 bytes)
{
	u64 at;
	int err;

	if (!machine_has(&s->h->m, CAP_PARK))
		return 0;
	if (inject_fail(s->h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	at = sys_reserve(bytes, PROT_READ | PROT_WRITE);
	if (!at)
		return -ENOMEM;
	sys_madvise(at, bytes, MADV_NOHUGEPAGE); /* as the region's */
	sys_madvise(at, bytes, MADV_DONTDUMP);
	err = uffd_register_kept(s->h, at, bytes);
	if (!err && !(s->park = sys_map(park_bytes(bytes))))
		err = -ENOMEM;
	if (err) {
		native_syscall(SYS_munmap, at, bytes);
		return err;
	}
	s->shadow = at - start;
	return 0;
}

static int region_init(struct mspace *s, u64 bytes)
{
	u64 start = sys_reserve(bytes, PROT_READ | PROT_WRITE);
	int err;

	if (!start)
		return -ENOMEM;
	s->state = sys_map(state_bytes(bytes));
	s->touched = sys_map(touched_bytes(bytes));
	s->ext = sys_map(extent_bytes(s->h));
	s->cap_ext = (u32)(extent_bytes(s->h) / sizeof(struct extent));
	err = s->state && s->touched && s->ext ? 0 : -ENOMEM;
	/* No huge pages behind our back: protection and release are per page. EINVAL: built without
	 * them. */
	if (!err)
		sys_madvise(start, bytes, MADV_NOHUGEPAGE);
	/* A core dump would walk, and record, all of its terabytes. */
	if (!err)
		sys_madvise(start, bytes, MADV_DONTDUMP);
	if (!err)
		err = uffd_register(s->h, start, bytes, false);
	if (!err)
		err = shadow_init(s, start, bytes);
	if (err) {
		native_syscall(SYS_munmap, start, bytes);
		free_tables(s, bytes);
		s->state = s->touched = NULL;
		s->ext = NULL;
		return err;
	}
	s->r = (struct range){ start, start + bytes };
	return 0;
}

/* Every granule of the region finds s, or nothing again. */
static void publish(struct host *h, const struct mspace *s, struct mspace *value)
{
	for (u64 va = s->r.start; va < s->r.end; va += REGION_GRANULE)
		aptr_set_release(&h->region[va >> REGION_GRANULE_SHIFT], value);
}

int host_space_create(struct machine *m, a64_t *root, void *trap_ctx, struct mspace **out,
		      struct range *usable)
{
	struct host *h = host_of(m);
	struct mspace *s = sys_map(ALIGN_UP(sizeof(*s), PAGE_SIZE));
	int err = -ENOMEM;

	(void)trap_ctx; /* the SIGBUS handler belongs to the one who composes machine and core */
	if (!s)
		return -ENOMEM;
	s->h = h;
	s->root = root;
	mutex_init(&s->lock, LOCK_MACHINE);
	/* Less where a limit on addresses or strict overcommit does not allow it. */
	for (u64 bytes = h->region_bytes; err && bytes >= h->region_min_bytes; bytes /= 2)
		err = region_init(s, bytes);
	if (err) {
		sys_unmap(s, ALIGN_UP(sizeof(*s), PAGE_SIZE));
		return err;
	}
	mappings_add(s, 1);
	publish(h, s, s);
	mutex_lock(&h->lock);
	aptr_set(&s->next, aptr_read(&h->spaces));
	aptr_set_release(&h->spaces, s);
	mutex_unlock(&h->lock);
	*out = s;
	*usable = s->r;
	return 0;
}

static void shadow_fini(struct mspace *s)
{
	u64 first = 0, end = range_size(s->r) >> PAGE_SHIFT, last = end;
	u32 word;

	if (!s->park)
		return;
	native_syscall(SYS_munmap, s->r.start + s->shadow, range_size(s->r));
	for (; park_take_run(s, &first, &last, &word); first = last, last = end)
		if (word >= PARK_SLOT)
			slots_drop(s->h, word - PARK_SLOT, (u32)(last - first));
}

void host_space_destroy(struct machine *m, struct mspace *s)
{
	struct host *h = host_of(m);
	aptr_t *link = &h->spaces;

	mutex_lock(&h->lock);
	while (aptr_read(link) != s)
		link = &((struct mspace *)aptr_read(link))->next;
	aptr_set_release(link, aptr_read(&s->next));
	mutex_unlock(&h->lock);
	publish(h, s, NULL);
	mappings_add(s, -(s64)s->nr_mappings);
	native_syscall(SYS_munmap, s->r.start, range_size(s->r)); /* and it is registered no more */
	shadow_fini(s);
	free_tables(s, range_size(s->r));
	sys_unmap(s, ALIGN_UP(sizeof(*s), PAGE_SIZE));
}

int host_for_managed(struct mspace *s, int (*fn)(struct mspace *s, u64 start, u64 end))
{
	u64 va = s->r.start;
	int err = 0;

	for (u32 i = 0; i < s->nr_ext && !err; i++) {
		if (s->ext[i].prot != PROT_BITS_FOREIGN)
			continue;
		if (s->ext[i].start > va)
			err = fn(s, va, s->ext[i].start);
		va = s->ext[i].end;
	}
	if (!err && va < s->r.end)
		err = fn(s, va, s->r.end);
	return err;
}

static int register_part(struct mspace *s, u64 start, u64 end)
{
	return uffd_register(s->h, start, end - start, false);
}

/* The kernel has forgotten every write protection: set it again, one call for each run of protected
 * pages. */
static int protect_again(struct mspace *s)
{
	u64 last = range_size(s->r) >> PAGE_SHIFT, p = 0;

	while ((p = state_find_populated(s, p, last, false)) < last) {
		u64 end = p, stop = min((p / TOUCH_PAGES + 1) * TOUCH_PAGES, last);
		int err;

		while (end < stop && state_of(s, end) == STATE_PROTECTED)
			end++;
		if (end == p) {
			p++;
			continue;
		}
		err = uffd_protect(s->h, va_of(s, p), (end - p) << PAGE_SHIFT, true);
		if (err)
			return err;
		p = end;
	}
	return 0;
}

/*
 * The kernel has copied the regions copy-on-write and dropped their registration, and with it every
 * protection; our tables were copied with the rest. The inherited descriptor speaks for the
 * parent's memory and must not be used.
 */
int host_forked_child(struct machine *m)
{
	struct host *h = host_of(m);
	u64 offered;
	int fd, err = 0;

	native_syscall(SYS_close, (long)h->fd);
	h->fd = -1;
	fd = uffd_open(h->features, &offered, h->fd_floor);
	if (fd < 0)
		return fd;
	h->fd = fd;
	mutex_init(&h->lock, LOCK_MACHINE);
	for (u32 i = 0; i < MAX_CPUS; i++)
		a32_init(&h->readers[i].readers, 0);
	a32_init(&h->barrier, 0);
	a32_init(&h->fixing, 0);
	plain_forked_child(h);
	err = slots_forked_child(h);
	/* The mapping of the zero page is not copied by fork. */
	sys_madvise((u64)(uintptr_t)h->zeroes, ZERO_PAGES << PAGE_SHIFT, HOST_MADV_POPULATE_READ);
	for (struct mspace *s = aptr_read(&h->spaces); s && !err; s = aptr_read(&s->next)) {
		mutex_init(&s->lock, LOCK_MACHINE);
		err = place_forked_child(s);
		if (!err)
			err = host_for_managed(s, register_part);
		if (!err)
			err = protect_again(s);
		if (!err && s->park)
			err = uffd_register_kept(h, s->r.start + s->shadow, range_size(s->r));
	}
	return err;
}
