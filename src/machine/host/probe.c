/* What the operating system says: about itself, and about what it holds resident in our regions. */
#include "machine/host/host_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>

#define PR_SET_SYSCALL_USER_DISPATCH_NR 59l
#define RLIMIT_NOFILE_NR                7l
#define RLIMIT_AS_NR                    9l
#define SCAN_REGIONS                    256u

long sys_read_line(const char *path, char *buf, size_t size)
{
	long fd =
		native_syscall(SYS_openat, (long)AT_FDCWD, path, (long)(O_RDONLY | O_CLOEXEC), 0l);
	long n;
	char *end;

	buf[0] = 0;
	if (fd < 0)
		return fd;
	n = native_syscall(SYS_read, fd, buf, size - 1);
	native_syscall(SYS_close, fd);
	if (n < 0)
		return n;
	buf[n] = 0;
	end = strchr(buf, '\n');
	if (end)
		*end = 0;
	return (long)strlen(buf);
}

static u64 parse_number(const char **at, unsigned base)
{
	u64 n = 0;

	for (;; (*at)++) {
		unsigned c = (unsigned char)**at, digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (base == 16 && c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else
			return n;
		n = n * base + digit;
	}
}

s64 sys_read_number(const char *path)
{
	char line[32];
	const char *at = line;

	if (sys_read_line(path, line, sizeof(line)) <= 0 || line[0] < '0' || line[0] > '9')
		return -1;
	return (s64)parse_number(&at, 10);
}

/* ---- memory nodes ---- */
/* "0-1,4": how many there are; *online: is `node` among them? */
static unsigned read_nodes(unsigned node, bool *online)
{
	char line[256];
	const char *at = line;
	unsigned n = 0;

	*online = node == 0;
	if (sys_read_line("/sys/devices/system/node/online", line, sizeof(line)) <= 0)
		return 1; /* a kernel without NUMA */
	*online = false;
	while (*at >= '0' && *at <= '9') {
		u64 first = parse_number(&at, 10), last = first;

		if (*at == '-') {
			at++;
			last = parse_number(&at, 10);
		}
		n += (unsigned)(last - first) + 1;
		*online |= node >= first && node <= last;
		if (*at != ',')
			break;
		at++;
	}
	return n;
}

bool sys_node_online(unsigned node)
{
	bool online;

	read_nodes(node, &online);
	return online;
}

/* ---- resident pages ---- */
static s64 scan_pages(int fd, u64 start, u64 end)
{
	struct host_page_region found[SCAN_REGIONS];
	s64 pages = 0;

	while (start < end) {
		struct host_pm_scan_arg arg = {
			.size = sizeof(arg),
			.start = start,
			.end = end,
			.vec = (u64)(uintptr_t)found,
			.vec_len = SCAN_REGIONS,
			/* The zero page is no memory. */
			.category_inverted = HOST_PAGE_IS_PFNZERO,
			.category_mask = HOST_PAGE_IS_PRESENT | HOST_PAGE_IS_PFNZERO,
			.return_mask = HOST_PAGE_IS_PRESENT,
		};
		long n = native_syscall(SYS_ioctl, (long)fd, (long)HOST_PAGEMAP_SCAN, &arg);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		for (long i = 0; i < n; i++)
			pages += (s64)((found[i].end - found[i].start) >> PAGE_SHIFT);
		if (arg.walk_end <= start)
			return -EIO;
		start = arg.walk_end;
	}
	return pages;
}

/* Older kernels: the Rss lines of the mappings in /proc/self/smaps, which lie in the range. */
struct smaps_sum {
	u64 start, end; /* what is asked for */
	bool inside;    /* the mapping whose lines are being read */
	s64 kib;
};

static void smaps_line(struct smaps_sum *sum, const char *line)
{
	const char *at = line;

	if (!strncmp(line, "Rss:", 4)) {
		at += 4;
		while (*at == ' ')
			at++;
		if (sum->inside)
			sum->kib += (s64)parse_number(&at, 10);
	} else {
		u64 start = parse_number(&at, 16), end;

		if (*at != '-')
			return; /* another field */
		at++;
		end = parse_number(&at, 16);
		sum->inside = start >= sum->start && end <= sum->end;
	}
}

static s64 smaps_pages(u64 start, u64 end)
{
	struct smaps_sum sum = { .start = start, .end = end };
	char buf[4096], line[128];
	size_t len = 0;
	long n, fd;

	fd = native_syscall(SYS_openat, (long)AT_FDCWD, "/proc/self/smaps",
			    (long)(O_RDONLY | O_CLOEXEC), 0l);
	if (fd < 0)
		return fd;
	while ((n = native_syscall(SYS_read, fd, buf, sizeof(buf))) > 0)
		for (long i = 0; i < n; i++) {
			if (buf[i] != '\n') {
				if (len < sizeof(line) - 1)
					line[len++] = buf[i];
				continue;
			}
			line[len] = 0;
			len = 0;
			smaps_line(&sum, line);
		}
	native_syscall(SYS_close, fd);
	return n < 0 ? n : sum.kib >> (PAGE_SHIFT - 10);
}

struct resident {
	int pagemap;
	s64 pages; /* or -errno */
};

static void resident_part(struct resident *r, u64 start, u64 end)
{
	s64 n = -EINVAL;

	if (r->pages < 0 || start >= end)
		return;
	if (r->pagemap >= 0)
		n = scan_pages(r->pagemap, start, end);
	if (n == -EINVAL || n == -ENOTTY)
		n = smaps_pages(start, end);
	r->pages = n < 0 ? n : r->pages + n;
}

/* The parts of [start, end) that are not plain. LOCKING: as host_resident_pages. */
static void resident_private(struct resident *r, struct mspace *s, u64 start, u64 end)
{
	u64 first = page_of(s, start), stop = page_of(s, end), last = stop;

	for (; place_next(s, &first, &last); first = last, last = stop) {
		resident_part(r, start, va_of(s, first));
		start = va_of(s, last);
	}
	resident_part(r, start, end);
}

s64 host_resident_pages(struct machine *m)
{
	struct host *h = host_of(m);
	struct resident r = { .pages = plain_resident_pages(h) };
	u32 slot = 0;

	r.pagemap = (int)native_syscall(SYS_openat, (long)AT_FDCWD, "/proc/self/pagemap",
					(long)(O_RDONLY | O_CLOEXEC), 0l);
	mutex_lock(&h->lock);
	for (struct mspace *s = aptr_read(&h->spaces); s; s = aptr_read(&s->next)) {
		u64 va = s->r.start;

		/* The extents and places are read without their lock (it has the same rank): exact
		 * at quiescence. */
		for (u32 i = 0; i < s->nr_ext; i++) {
			if (s->ext[i].prot != PROT_BITS_FOREIGN)
				continue;
			resident_private(&r, s, va, s->ext[i].start);
			va = s->ext[i].end;
		}
		resident_private(&r, s, va, s->r.end);
		if (s->park)
			resident_part(&r, s->r.start + s->shadow, s->r.end + s->shadow);
	}
	mutex_unlock(&h->lock);
	for (u32 n; h->slots && (n = slots_next_claimed(h, &slot)); slot += n)
		resident_part(&r, slot_va(h, slot), slot_va(h, slot + n));
	if (r.pagemap >= 0)
		native_syscall(SYS_close, (long)r.pagemap);
	return r.pages;
}

/* Those of plain areas are translations, not pages. */
static u64 populated_private(struct mspace *s)
{
	u64 p = 0, stop = range_size(s->r) >> PAGE_SHIFT, first = 0, last = stop, n = 0;

	for (; place_next(s, &first, &last); first = last, last = stop) {
		n += state_count_populated(s, p, first);
		p = last;
	}
	return n + state_count_populated(s, p, stop) + a64_read(&s->nr_parked);
}

u64 host_populated_pages(struct machine *m)
{
	struct host *h = host_of(m);
	u64 n = 0;

	mutex_lock(&h->lock);
	for (struct mspace *s = aptr_read(&h->spaces); s; s = aptr_read(&s->next))
		n += populated_private(s);
	mutex_unlock(&h->lock);
	return n;
}

/* ---- what there is ---- */
static void probe_uffd(struct host_probe *out)
{
	u64 offered = 0;
	long fd = native_syscall(SYS_userfaultfd, (long)(O_CLOEXEC | UFFD_USER_MODE_ONLY));

	out->uffd_user_mode_only = fd >= 0;
	if (fd >= 0)
		native_syscall(SYS_close, fd);
	fd = native_syscall(SYS_openat, (long)AT_FDCWD, "/dev/userfaultfd",
			    (long)(O_RDWR | O_CLOEXEC), 0l);
	out->uffd_device = fd >= 0;
	if (fd >= 0)
		native_syscall(SYS_close, fd);
	fd = uffd_open(0, &offered, 0);
	out->uffd = fd < 0 ? (int)fd : 0;
	if (fd >= 0)
		native_syscall(SYS_close, fd);
	out->uffd_features = offered;
	out->has_sigbus = offered & UFFD_FEATURE_SIGBUS;
	out->has_wp = offered & UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	out->has_move = offered & UFFD_FEATURE_MOVE;
	out->has_exact_address = offered & UFFD_FEATURE_EXACT_ADDRESS;
	out->has_minor_shmem = offered & UFFD_FEATURE_MINOR_SHMEM;
	out->has_plain = uffd_has_plain(offered);
}

static bool probe_scan(void)
{
	struct host_page_region found;
	struct host_pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (u64)(uintptr_t)&found & PAGE_MASK,
		.vec = (u64)(uintptr_t)&found,
		.vec_len = 1,
		.return_mask = HOST_PAGE_IS_PRESENT,
	};
	long fd = native_syscall(SYS_openat, (long)AT_FDCWD, "/proc/self/pagemap",
				 (long)(O_RDONLY | O_CLOEXEC), 0l);
	long n;

	if (fd < 0)
		return false;
	arg.end = arg.start + PAGE_SIZE;
	n = native_syscall(SYS_ioctl, fd, (long)HOST_PAGEMAP_SCAN, &arg);
	native_syscall(SYS_close, fd);
	return n >= 0;
}

/* "always [madvise] never" -> "madvise" */
static void probe_thp(char *out, size_t size)
{
	char line[64], *from, *to;

	out[0] = 0;
	if (sys_read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line)) <= 0)
		return;
	from = strchr(line, '[');
	to = from ? strchr(from, ']') : NULL;
	if (!to || (size_t)(to - from) > size)
		return;
	memcpy(out, from + 1, (size_t)(to - from - 1));
	out[to - from - 1] = 0;
}

static u64 probe_limit(long which)
{
	struct {
		u64 cur;
		u64 max;
	} limit = { ~0ull, ~0ull };

	native_syscall(SYS_prlimit64, 0l, which, (void *)0, &limit);
	return limit.cur;
}

static u64 probe_memory(void)
{
	char line[64];
	const char *at = line;

	if (sys_read_line("/proc/meminfo", line, sizeof(line)) <= 0) /* its first line: MemTotal */
		return 0;
	while (*at && (*at < '0' || *at > '9'))
		at++;
	return parse_number(&at, 10) << 10;
}

unsigned sys_nr_cpus(void)
{
	u64 mask[MAX_CPUS];
	long n = native_syscall(SYS_sched_getaffinity, 0l, sizeof(mask), mask);
	unsigned cpus = 0;

	for (long i = 0; i < n / (long)sizeof(u64); i++)
		cpus += (unsigned)__builtin_popcountll(mask[i]);
	return cpus ? cpus : 1;
}

u64 sys_max_mappings(void)
{
	s64 maps = sys_read_number("/proc/sys/vm/max_map_count");

	return maps < 0 ? 65530 : (u64)maps;
}

void sys_clocksource(char *out, size_t size)
{
	sys_read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", out,
		      size);
}

static bool probe_vector(void)
{
	void *page = sys_map(PAGE_SIZE);
	bool works = page && uffd_probe_discard_many(page);

	if (page)
		sys_unmap(page, PAGE_SIZE);
	return works;
}

void host_probe(struct host_probe *out)
{
	struct utsname name;
	bool online;

	memset(out, 0, sizeof(*out));
	probe_uffd(out);
	out->sysctl_unprivileged = (int)sys_read_number("/proc/sys/vm/unprivileged_userfaultfd");
	/* Off is what it is already: only a kernel that knows the call agrees. */
	out->syscall_user_dispatch =
		native_syscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH_NR, 0l, 0l, 0l, 0l) == 0;
	out->pagemap_scan = probe_scan();
	out->overcommit_memory = (int)sys_read_number("/proc/sys/vm/overcommit_memory");
	out->max_map_count = sys_max_mappings();
	out->has_vector = probe_vector();
	out->address_space_limit = probe_limit(RLIMIT_AS_NR);
	out->descriptor_limit = probe_limit(RLIMIT_NOFILE_NR);
	out->memory_bytes = probe_memory();
	out->nr_cpus = sys_nr_cpus();
	out->nr_numa_nodes = read_nodes(0, &online);
	probe_thp(out->thp, sizeof(out->thp));
	if (!native_syscall(SYS_uname, &name))
		memcpy(out->kernel, name.release,
		       strnlen(name.release, min(sizeof(name.release), sizeof(out->kernel) - 1)));
	sys_clocksource(out->clocksource, sizeof(out->clocksource));
}
