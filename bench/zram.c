/*
 * zram.c - the peer of the rows under half memory: the kernel's own compressed swap (zram, lz4)
 * under a memory control group, set up for the run and taken down after it.
 *
 * A keeper, a process in a session of its own that terminal signals do not reach, sets it up, waits
 * until the other end of a pipe closes and takes it down: so it goes even when the benchmark is
 * killed outright. What exists is written down, before it is made where that is possible, in memory
 * that both processes share: should the keeper itself be killed, the benchmark takes it down.
 *
 * The order of taking down: end the group's processes, remove the group, swapoff, reset the device,
 * remove it. Nothing of the system is changed that is not put back: no module is loaded, no setting
 * of the kernel's swapping is touched; the v2 controller is handed down only for the time of the
 * run.
 *
 * While it waits, the keeper reads the group's statistics every few milliseconds. The kernel
 * decides by counts of the group's pages whether to refill the list that it reclaims from, and it
 * brings those counts up to date only when somebody reads them, or every two seconds. A small group
 * is turned over several times within that: reclaim then finds its list empty, believes it full,
 * and the group's process is killed for want of memory although half of the swap device is free
 * (seen with Linux 6.18, once in some twenty measurements).
 */
#include "bench_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETUP_SECONDS    20
#define TAKEN_DOWN_TRIES 100 /* of 50 ms */
#define COUNTS_MS        10  /* how old the kernel's counts of the group may get */

struct bench_zram {
	/* shared with the keeper */
	int device; /* N of zramN, -1: none */
	bool swap_on, node_made, group_made, controller_enabled;
	bool ok, done;
	char node[64];    /* the block device's path */
	char group[512];  /* folder of the control group */
	char parent[256]; /* mount point of the hierarchy */
	char why[BENCH_TEXT];
	char left[BENCH_TEXT]; /* what could not be taken down */
	u64 limit;
	bool v2;
	/* the benchmark's own */
	pid_t owner, keeper;
	int life; /* writing end; the keeper ends when it closes */
};

static int write_text(const char *path, const char *format, ...)
{
	char text[128];
	va_list args;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int n, err = 0;

	if (fd < 0)
		return -errno;
	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (write(fd, text, (size_t)n) != n)
		err = -errno;
	close(fd);
	return err;
}

static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n >= 0;
}

static bool refuse(struct bench_zram *z, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(z->why, sizeof(z->why), format, args);
	va_end(args);
	return false;
}

/* ---- the control group ---- */

/* Where the memory controller is mounted: v1 if there, else v2. */
static bool find_hierarchy(struct bench_zram *z)
{
	char line[1024], path[256], type[64], options[512], controllers[512];
	FILE *f = fopen("/proc/self/mounts", "re");
	bool found = false;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %255s %63s %511s", path, type, options) != 3)
			continue;
		if (!strcmp(type, "cgroup") && strstr(options, "memory")) {
			snprintf(z->parent, sizeof(z->parent), "%s", path);
			z->v2 = false;
			found = true;
			break;
		}
		if (!strcmp(type, "cgroup2")) {
			char file[320];

			snprintf(file, sizeof(file), "%s/cgroup.controllers", path);
			if (read_text(file, controllers, sizeof(controllers)) &&
			    strstr(controllers, "memory")) {
				snprintf(z->parent, sizeof(z->parent), "%s", path);
				z->v2 = found = true;
			}
		}
	}
	if (f)
		fclose(f);
	return found || refuse(z, "no memory control group (v1 or v2) is mounted");
}

static bool group_begin(struct bench_zram *z)
{
	char path[640], text[512];
	int err;

	if (!find_hierarchy(z))
		return false;
	if (z->v2) {
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", z->parent);
		if (!read_text(path, text, sizeof(text)) || !strstr(text, "memory")) {
			err = write_text(path, "+memory");
			if (err)
				return refuse(z, "%s: cannot hand down the memory controller: %s",
					      path, strerror(-err));
			z->controller_enabled = true;
		}
	}
	/* The name says whose it is, and which device belongs with it. */
	snprintf(z->group, sizeof(z->group), "%s/quire-bench-%d-zram%d", z->parent, (int)z->owner,
		 z->device);
	z->group_made = true;
	if (mkdir(z->group, 0755)) {
		z->group_made = false;
		return refuse(z, "%s: %s", z->group, strerror(errno));
	}
	snprintf(path, sizeof(path), "%s/%s", z->group,
		 z->v2 ? "memory.max" : "memory.limit_in_bytes");
	err = write_text(path, "%llu", (unsigned long long)z->limit);
	return !err || refuse(z, "%s: %s", path, strerror(-err));
}

static void kill_members(const struct bench_zram *z)
{
	char path[640];
	FILE *f;
	int pid;

	snprintf(path, sizeof(path), "%s/cgroup.procs", z->group);
	f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1)
		kill(pid, SIGKILL);
	if (f)
		fclose(f);
}

/* ---- the device ---- */

static bool node_begin(struct bench_zram *z)
{
	char path[128], text[64];
	unsigned major_nr, minor_nr;

	snprintf(z->node, sizeof(z->node), "/dev/zram%d", z->device);
	for (unsigned i = 0; i < 20 && access(z->node, F_OK); i++)
		bench_sleep_ms(10); /* a daemon may make it */
	if (!access(z->node, F_OK))
		return true;
	snprintf(path, sizeof(path), "/sys/block/zram%d/dev", z->device);
	if (!read_text(path, text, sizeof(text)) ||
	    sscanf(text, "%u:%u", &major_nr, &minor_nr) != 2)
		return refuse(z, "%s: cannot be read", path);
	snprintf(z->node, sizeof(z->node), "/tmp/quire-bench-%d-zram%d", (int)z->owner, z->device);
	z->node_made = true;
	if (mknod(z->node, S_IFBLK | 0600, makedev(major_nr, minor_nr))) {
		z->node_made = false;
		return refuse(z, "mknod: %s", strerror(errno));
	}
	return true;
}

/* The header that the kernel looks for at the start of a swap device. */
static int write_swap_header(const char *node, u64 bytes)
{
	static const char signature[] = "SWAPSPACE2";
	unsigned char page[PAGE_SIZE] = { 0 };
	u32 version = 1, last = (u32)(bytes / PAGE_SIZE - 1);
	int fd = open(node, O_RDWR | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	memcpy(page + 1024, &version, sizeof(version));
	memcpy(page + 1028, &last, sizeof(last));
	memcpy(page + PAGE_SIZE - 10, signature, 10);
	if (pwrite(fd, page, sizeof(page), 0) != (ssize_t)sizeof(page) || fsync(fd))
		err = -errno;
	close(fd);
	return err;
}

static bool device_begin(struct bench_zram *z, u64 bytes)
{
	char path[128], text[32];
	int err;

	if (access("/sys/class/zram-control/hot_add", F_OK))
		return refuse(z, "no /sys/class/zram-control: the zram module is not loaded");
	if (!read_text("/sys/class/zram-control/hot_add", text, sizeof(text)) || !text[0])
		return refuse(z, "zram-control/hot_add: %s", strerror(errno));
	z->device = atoi(text);
	snprintf(path, sizeof(path), "/sys/block/zram%d/comp_algorithm", z->device);
	err = write_text(path, "lz4");
	if (err)
		return refuse(z, "zram has no lz4 here: %s", strerror(-err));
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", z->device);
	err = write_text(path, "%llu", (unsigned long long)bytes);
	if (err)
		return refuse(z, "%s: %s", path, strerror(-err));
	if (!node_begin(z))
		return false;
	err = write_swap_header(z->node, bytes);
	if (err)
		return refuse(z, "%s: %s", z->node, strerror(-err));
	z->swap_on = true;
	if (swapon(z->node, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK)) {
		z->swap_on = false;
		return refuse(z, "swapon: %s", strerror(errno));
	}
	return true;
}

/* ---- taking down: whatever is written down as there, in any state; may be called again ---- */

static void leave(struct bench_zram *z, const char *what)
{
	snprintf(z->left, sizeof(z->left), "%.190s: %s", what, strerror(errno));
}

/* Tries for some seconds: others (a device manager) may hold things open for a moment. */
static bool until_done(bool (*step)(struct bench_zram *z), struct bench_zram *z)
{
	for (unsigned i = 0; i < TAKEN_DOWN_TRIES; i++) {
		if (step(z))
			return true;
		bench_sleep_ms(50);
	}
	return step(z);
}

static bool remove_group(struct bench_zram *z)
{
	kill_members(z);
	return !rmdir(z->group) || errno == ENOENT;
}

static bool switch_off(struct bench_zram *z)
{
	/* EINVAL: it is no swap device any more. */
	return !swapoff(z->node) || errno == EINVAL;
}

static bool remove_device(struct bench_zram *z)
{
	char path[128];
	int err;

	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", z->device);
	write_text(path, "1");
	err = write_text("/sys/class/zram-control/hot_remove", "%d", z->device);
	errno = -err;
	return !err || err == -ENODEV;
}

static void take_down(struct bench_zram *z)
{
	char path[640];

	z->left[0] = '\0';
	if (z->group_made) {
		z->group_made = !until_done(remove_group, z);
		if (z->group_made)
			leave(z, z->group);
	}
	if (z->controller_enabled) {
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", z->parent);
		z->controller_enabled = write_text(path, "-memory") != 0;
	}
	if (z->swap_on) {
		z->swap_on = !until_done(switch_off, z);
		if (z->swap_on)
			leave(z, "swapoff");
	}
	if (z->node_made && (!unlink(z->node) || errno == ENOENT))
		z->node_made = false;
	if (z->device >= 0 && !z->swap_on) {
		if (until_done(remove_device, z))
			z->device = -1;
		else
			leave(z, z->node);
	}
}

/* ---- the keeper ---- */

/* Until the other end of the pipe closes. */
static void keep(struct bench_zram *z, int life)
{
	struct pollfd p = { .fd = life, .events = POLLIN };
	char path[640], text[4096];

	snprintf(path, sizeof(path), "%s/memory.stat", z->group);
	for (;;) {
		int n = poll(&p, 1, z->ok ? COUNTS_MS : -1);

		if (n > 0 && (p.revents & (POLLHUP | POLLERR)))
			return;
		if (!n)
			read_text(path, text, sizeof(text)); /* see the top */
	}
}

static void keeper_main(struct bench_zram *z, int life, u64 device_bytes)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP };

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	setsid();
	prctl(PR_SET_NAME, "quire-bench-kpr");
	z->ok = device_begin(z, device_bytes) && group_begin(z);
	__atomic_store_n(&z->done, true, __ATOMIC_RELEASE);
	keep(z, life);
	take_down(z);
	_exit(z->left[0] ? 1 : 0);
}

static bool keeper_start(struct bench_zram *z, u64 device_bytes)
{
	int life[2];
	pid_t pid;

	if (pipe2(life, O_CLOEXEC))
		return refuse(z, "pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		close(life[0]);
		close(life[1]);
		return refuse(z, "fork: %s", strerror(errno));
	}
	if (!pid) {
		close(life[1]);
		/* Whoever reads our output must not wait for the keeper. */
		if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
			_exit(1);
		keeper_main(z, life[0], device_bytes);
	}
	close(life[0]);
	z->life = life[1];
	z->keeper = pid; /* not from the keeper's side: it shares this memory */
	return true;
}

bool bench_zram_begin(struct bench *b, u64 limit, char *why)
{
	struct bench_zram *z = b->zram;
	double deadline = bench_now() + SETUP_SECONDS;

	if (z) {
		snprintf(why, BENCH_TEXT, "%s", z->why);
		return z->ok;
	}
	if (geteuid()) {
		snprintf(why, BENCH_TEXT, "zram and a memory control group need root");
		return false;
	}
	z = bench_shared(sizeof(*z));
	if (!z)
		return false;
	b->zram = z;
	z->device = z->life = -1;
	z->limit = limit;
	z->owner = getpid();
	z->keeper = -1;
	if (keeper_start(z, 2 * b->bytes)) {
		while (!__atomic_load_n(&z->done, __ATOMIC_ACQUIRE) && !bench_signal &&
		       bench_now() < deadline && !waitpid(z->keeper, NULL, WNOHANG))
			bench_sleep_ms(5);
		if (!z->done)
			refuse(z, "setting up zram took too long");
	}
	snprintf(why, BENCH_TEXT, "%s", z->why);
	return z->ok && z->done;
}

bool bench_zram_end(struct bench *b)
{
	struct bench_zram *z = b->zram;

	if (!z)
		return true;
	if (z->life >= 0)
		close(z->life);
	z->life = -1;
	if (z->keeper > 0)
		bench_wait(z->keeper);
	z->keeper = -1;
	if (z->device >= 0 || z->swap_on || z->group_made || z->controller_enabled || z->node_made)
		take_down(z); /* the keeper was killed, or something was busy */
	if (!z->left[0])
		return true;
	fprintf(stderr, "bench: could not be removed: %s\n", z->left);
	return false;
}

bool bench_zram_enter(const struct bench *b, struct bench_result *r)
{
	char path[640];
	int err;

	/* The keeper must see the end of the benchmark, not of its children. */
	close(b->zram->life);
	snprintf(path, sizeof(path), "%s/cgroup.procs", b->zram->group);
	err = write_text(path, "%d", (int)getpid());
	if (err)
		bench_fail(r, "%s: %s", path, strerror(-err));
	return !err;
}

double bench_zram_page_bytes(const struct bench *b)
{
	unsigned long long original, compressed, used;
	char path[128], text[256];

	snprintf(path, sizeof(path), "/sys/block/zram%d/mm_stat", b->zram->device);
	if (!read_text(path, text, sizeof(text)) ||
	    sscanf(text, "%llu %llu %llu", &original, &compressed, &used) != 3 || !original)
		return NAN;
	return (double)used / ((double)original / PAGE_SIZE);
}

u64 bench_zram_oom_kills(const struct bench *b)
{
	unsigned long long kills = 0;
	char path[640], text[1024], *at;

	if (!b->zram || !b->zram->ok)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", b->zram->group,
		 b->zram->v2 ? "memory.events" : "memory.oom_control");
	at = read_text(path, text, sizeof(text)) ? strstr(text, "oom_kill ") : NULL;
	if (at)
		sscanf(at, "oom_kill %llu", &kills);
	return kills;
}
