/* The host machine's time, threads, memory and files, and what it says about the system. */
#include "host_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char dir[64];

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/quire-host-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir); /* fails if anything was left in it */
}

static void test_clock(void **state)
{
	u64 t0 = fake.m->ops->now_ns(fake.m), t1;

	(void)state;
	fake.m->ops->sleep_ns(fake.m, 2000000);
	t1 = fake.m->ops->now_ns(fake.m);
	assert_true(t1 - t0 >= 2000000);
	assert_true(fake.m->ops->nr_cpus(fake.m) >= 1);
	assert_true(fake.m->ops->random(fake.m) != fake.m->ops->random(fake.m));
}

struct thread_facts {
	sigset_t blocked;
	u64 stack_at;
	a32_t runs;
};

static void thread_body(void *arg)
{
	struct thread_facts *f = arg;

	pthread_sigmask(SIG_BLOCK, NULL, &f->blocked);
	f->stack_at = (u64)(uintptr_t)&f;
	/* A core thread reads frames, and one that is gone must resolve in it. */
	fake.m->ops->read_begin(fake.m);
	if (*fake_word(40) == 0)
		a32_add(&f->runs, 1);
	fake.m->ops->read_end(fake.m);
}

static void test_threads(void **state)
{
	struct thread_facts f = { .runs = A_INIT(0) };
	sigset_t mine;
	void *handle;

	(void)state;
	assert_int_equal(fake.m->ops->thread_start(fake.m, thread_body, &f, &handle), 0);
	fake.m->ops->thread_join(fake.m, handle);
	assert_int_equal(a32_read(&f.runs), 1);
	assert_true(sigismember(&f.blocked, SIGTERM) && sigismember(&f.blocked, SIGALRM));
	assert_false(sigismember(&f.blocked, SIGBUS) || sigismember(&f.blocked, SIGSEGV));
	assert_false(host_owns(fake.m, f.stack_at, 1));
	pthread_sigmask(SIG_BLOCK, NULL, &mine);
	assert_false(sigismember(&mine, SIGTERM));
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(fake.m->ops->thread_start(fake.m, thread_body, &f, &handle), -ENOMEM);
}

static void test_memory(void **state)
{
	u64 *p = fake.m->ops->mem_map(fake.m, 10 * PAGE_SIZE);

	(void)state;
	assert_non_null(p);
	assert_int_equal(p[0] + p[5119], 0);
	p[0] = p[513] = 1;
	assert_false(host_owns(fake.m, (u64)(uintptr_t)p, 10 * PAGE_SIZE));
	fake.m->ops->mem_discard(fake.m, p, PAGE_SIZE);
	assert_int_equal(p[0], 0);
	assert_int_equal(p[513], 1);
	fake.m->ops->mem_unmap(fake.m, p, 10 * PAGE_SIZE);
	inject_at(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_null(fake.m->ops->mem_map(fake.m, PAGE_SIZE));
}

static void check_transfers(int h, char *out, char *in)
{
	for (u32 i = 0; i < 100 * PAGE_SIZE; i++)
		out[i] = (char)(i * 7 + (i >> 12));
	assert_int_equal(fake.m->ops->file_write(fake.m, h, out, 100 * PAGE_SIZE, 8 * PAGE_SIZE),
			 0);
	assert_int_equal(fake.m->ops->file_read(fake.m, h, in, 100 * PAGE_SIZE, 8 * PAGE_SIZE), 0);
	assert_memory_equal(out, in, 100 * PAGE_SIZE);
	assert_int_equal(fake.m->ops->file_read(fake.m, h, in, PAGE_SIZE, 50 * PAGE_SIZE), 0);
	assert_memory_equal(out + 42 * PAGE_SIZE, in, PAGE_SIZE);
}

static void test_file(void **state)
{
	u64 size = 4 << 20;
	struct stat st;
	char *buf = fake.m->ops->mem_map(fake.m, 256 * PAGE_SIZE);
	int h = fake.m->ops->file_open(fake.m, in_dir("swap"), &size);

	(void)state;
	assert_true(h >= 0);
	assert_int_equal(size, 4 << 20);
	assert_int_equal(stat(in_dir("swap"), &st), -1); /* gone already: nothing is left behind */
	check_transfers(h, buf, buf + 128 * PAGE_SIZE);
	check_transfers(h, buf + 24, buf + 128 * PAGE_SIZE + 8); /* buffers of no alignment */
	fake.m->ops->file_punch(fake.m, h, 100 * PAGE_SIZE, 8 * PAGE_SIZE);
	assert_int_equal(fake.m->ops->file_read(fake.m, h, buf, PAGE_SIZE, 8 * PAGE_SIZE), 0);
	assert_int_equal(buf[1], 0);
	/* Behind the end: an error, not silence. */
	assert_int_equal(fake.m->ops->file_read(fake.m, h, buf, PAGE_SIZE, size), -EIO);
	fake.m->ops->file_close(fake.m, h);
	fake.m->ops->mem_unmap(fake.m, buf, 256 * PAGE_SIZE);
}

/* Frames are written straight from where they are, and read as zeroes where they are gone. */
static void test_file_from_frames(void **state)
{
	u64 size = 1 << 20, word;
	int h = fake.m->ops->file_open(fake.m, in_dir("frames"), &size);
	char *buf = fake.m->ops->mem_map(fake.m, PAGE_SIZE);

	(void)state;
	assert_int_equal(fake_install(0, 8, true, NULL, true, false), 0);
	for (int i = 0; i < 8; i++)
		*fake_word(i) = i + 1;
	machine_release(fake.m, fake_va(5) >> PAGE_SHIFT, 1);
	fake.m->ops->read_begin(fake.m);
	assert_int_equal(
		fake.m->ops->file_write(fake.m, h, (void *)(uintptr_t)fake_va(0), 8 * PAGE_SIZE, 0),
		0);
	fake.m->ops->read_end(fake.m);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(fake.m->ops->file_read(fake.m, h, buf, PAGE_SIZE, i * PAGE_SIZE),
				 0);
		memcpy(&word, buf, sizeof(word));
		assert_int_equal(word, i == 5 ? 0 : i + 1);
	}
	fake.m->ops->file_close(fake.m, h);
	fake.m->ops->mem_unmap(fake.m, buf, PAGE_SIZE);
}

static void test_file_refusals(void **state)
{
	u64 size = 1 << 20;
	int fd;

	(void)state;
	assert_int_equal(fake.m->ops->file_open(fake.m, dir, &size), -EISDIR);
	assert_int_equal(fake.m->ops->file_open(fake.m, "/nonexistent/x", &size), -ENOENT);
	assert_int_equal(fake.m->ops->file_open(fake.m, "/dev/null", &size), -EINVAL);
	size = 1ull << 50;
	assert_true(fake.m->ops->file_open(fake.m, in_dir("huge"), &size) < 0);
	assert_int_equal(access(in_dir("huge"), F_OK), -1);
	assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
	size = 1 << 20;
	assert_int_equal(fake.m->ops->file_open(fake.m, in_dir("fifo"), &size), -EINVAL);
	unlink(in_dir("fifo"));
	/* An old file is used and stays. */
	fd = open(in_dir("old"), O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 3 * PAGE_SIZE + 100), 0);
	close(fd);
	size = 0;
	fd = fake.m->ops->file_open(fake.m, in_dir("old"), &size);
	assert_true(fd >= 0);
	assert_int_equal(size, 3 * PAGE_SIZE);
	fake.m->ops->file_close(fake.m, fd);
	assert_int_equal(unlink(in_dir("old")), 0);
	/* A new one without a size takes what may be had. */
	size = 0;
	fd = fake.m->ops->file_open(fake.m, in_dir("new"), &size);
	assert_true(fd >= 0 && size > 0);
	fake.m->ops->file_close(fake.m, fd);
	inject_every(&fake.inject, INJECT_MACHINE_CALL, 1);
	assert_int_equal(fake.m->ops->file_open(fake.m, in_dir("new"), &size), -EIO);
	inject_off(&fake.inject, INJECT_MACHINE_CALL);
}

static int limited_child(void)
{
	struct rlimit rl = { 1 << 20, 1 << 20 };
	u64 size = 8 << 20;

	setrlimit(RLIMIT_FSIZE, &rl);
	return fake.m->ops->file_open(fake.m, in_dir("limited"), &size) == -EFBIG ? 0 : 1;
}

/* The limit on file sizes is an error and no signal; the limit on addresses makes regions smaller.
 */
static int small_addresses_child(void)
{
	struct rlimit rl = { 24ull << 30, 24ull << 30 }; /* 17 are taken already */
	struct machine *m;
	struct mspace *s;
	struct range u;

	setrlimit(RLIMIT_AS, &rl);
	if (machine_host_create(NULL, &m, NULL, 0))
		return 1;
	if (m->ops->space_create(m, NULL, NULL, &s, &u))
		return 2;
	return range_size(u) <= 4ull << 30 && range_size(u) >= HOST_REGION_MIN ? 0 : 3;
}

static int few_descriptors_child(void)
{
	struct rlimit rl = { 64, 64 };
	struct machine *m;

	setrlimit(RLIMIT_NOFILE, &rl);
	return machine_host_create(NULL, &m, NULL, 0);
}

static long no_userfaultfd(long nr, ...)
{
	va_list ap;
	long a[6];

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_userfaultfd)
		return -EPERM;
	if (nr == SYS_openat && !strcmp((char *)a[1], "/dev/userfaultfd"))
		return -EACCES;
	return native_syscall_direct(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static int no_userfaultfd_child(void)
{
	struct host_config cfg = { .syscall = no_userfaultfd };
	struct machine *m;
	char msg[100] = "";

	if (machine_host_create(&cfg, &m, msg, sizeof(msg)) != -EPERM)
		return 1;
	return strstr(msg, "not permitted") && !strchr(msg, '\n') ? 0 : 2;
}

static void assert_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn());
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static void test_limits(void **state)
{
	(void)state;
	assert_child(limited_child);
	assert_child(few_descriptors_child);
	assert_child(no_userfaultfd_child);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_child(small_addresses_child);
#else
	(void)small_addresses_child;
#endif
}

static int unprivileged_child(void)
{
	struct machine *m;
	struct mspace *s;
	struct range u;

	if (setgid(65534) || setuid(65534))
		return 0; /* not root: the whole test has run so */
	if (machine_host_create(NULL, &m, NULL, 0))
		return 1;
	return m->ops->space_create(m, NULL, NULL, &s, &u);
}

static void test_probe(void **state)
{
	struct host_probe p;

	(void)state;
	host_probe(&p);
	assert_int_equal(p.uffd, 0);
	assert_true(p.has_sigbus && p.has_wp);
	assert_true(p.max_map_count > 1000);
	assert_true(p.memory_bytes > 64 << 20);
	assert_true(p.kernel[0] && p.nr_cpus >= 1);
	if (p.uffd_user_mode_only)
		assert_child(unprivileged_child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_clock),
		FAKE_TEST(test_threads),
		FAKE_TEST(test_memory),
		FAKE_TEST(test_file),
		FAKE_TEST(test_file_from_frames),
		FAKE_TEST(test_file_refusals),
		FAKE_TEST(test_limits),
		FAKE_TEST(test_probe),
	};

	return cmocka_run_group_tests_name("host system", tests, make_dir, remove_dir);
}
