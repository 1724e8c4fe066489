/*
 * Reads and writes files, sockets and pipes straight from large allocations with every read and
 * write call there is, and checks each byte. Between calls it walks through ballast, so that under
 * a small limit the buffers are not resident when the kernel gets them. Prints the same natively
 * and managed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BALLAST (24ul << 20)
#define BIG     (3ul << 20)
#define PAGE    4096ul

static unsigned char *ballast, *out, *in;
static int failures;

static void squeeze(void)
{
	static unsigned char round;

	round++;
	for (size_t i = 0; i < BALLAST; i += PAGE)
		ballast[i] = (unsigned char)(round + i / PAGE);
}

static unsigned char pattern(size_t i, unsigned seed)
{
	return (unsigned char)(i * 31 + (i >> 12) * 7 + seed * 13);
}

static void fill(unsigned char *b, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		b[i] = pattern(i, seed);
	squeeze();
}

static void check(const char *what, const unsigned char *b, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		if (b[i] != pattern(i, seed)) {
			printf("%s: wrong byte at %zu\n", what, i);
			failures++;
			return;
		}
	}
}

static void expect(const char *what, long got, long want)
{
	if (got != want) {
		printf("%s: %ld (%s), expected %ld\n", what, got, got < 0 ? strerror(errno) : "",
		       want);
		failures++;
	}
}

static void clear(void)
{
	memset(in, 0, BIG);
	squeeze();
}

static int scratch_file(void)
{
	char name[] = "/tmp/bufferio.XXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	return fd;
}

/* A vector whose elements are of uneven sizes and lie in the buffer one after another. */
static int cut(struct iovec *v, unsigned char *b, size_t n, int most)
{
	size_t at = 0, size = 1;
	int k = 0;

	for (; at < n && k < most; k++, size = size * 3 + 5) {
		if (size > n - at || k == most - 1)
			size = n - at;
		v[k].iov_base = b + at;
		v[k].iov_len = size;
		at += size;
	}
	return k;
}

static void files(void)
{
	int fd = scratch_file();
	struct iovec *v =
		malloc(64 * sizeof(*v) + (1 << 20)); /* large enough to be managed itself */
	int n;

	fill(out, BIG, 1);
	expect("write", write(fd, out, BIG), BIG);
	lseek(fd, 0, SEEK_SET);
	clear();
	expect("read", read(fd, in, BIG), BIG);
	check("read", in, BIG, 1);
	fill(out, BIG, 2);
	expect("pwrite", pwrite(fd, out, BIG - 5, 5), BIG - 5);
	clear();
	expect("pread", pread(fd, in, BIG - 5, 5), BIG - 5);
	check("pread", in, BIG - 5, 2);
	fill(out, BIG, 3);
	n = cut(v, out, BIG, 40);
	lseek(fd, 0, SEEK_SET);
	expect("writev", writev(fd, v, n), BIG);
	lseek(fd, 0, SEEK_SET);
	clear();
	n = cut(v, in, BIG, 40);
	squeeze();
	expect("readv", readv(fd, v, n), BIG);
	check("readv", in, BIG, 3);
	fill(out, BIG, 4);
	n = cut(v, out, BIG, 30);
	expect("pwritev", pwritev(fd, v, n, 11), BIG);
	clear();
	n = cut(v, in, BIG, 30);
	expect("preadv", preadv(fd, v, n, 11), BIG);
	check("preadv", in, BIG, 4);
	fill(out, BIG, 5);
	n = cut(v, out, BIG, 30);
	expect("pwritev2", pwritev2(fd, v, n, 0, 0), BIG);
	clear();
	n = cut(v, in, BIG, 30);
	expect("preadv2", preadv2(fd, v, n, 0, 0), BIG);
	check("preadv2", in, BIG, 5);
	expect("short at the end", pread(fd, in, BIG, 11), BIG);
	expect("at the end", pread(fd, in, BIG, BIG + 100), 0);
	free(v);
	close(fd);
}

struct job {
	int fd;
	size_t n;
	unsigned seed;
};

static void *writer(void *arg)
{
	struct job *j = arg;
	unsigned char *b = malloc(j->n);

	for (size_t i = 0; i < j->n; i++)
		b[i] = pattern(i, j->seed);
	expect("blocking write", write(j->fd, b, j->n), (long)j->n);
	free(b);
	return NULL;
}

static void read_all(const char *what, int fd, size_t n, unsigned seed)
{
	size_t got = 0;

	clear();
	while (got < n) {
		ssize_t r = read(fd, in + got, n - got);

		if (r <= 0)
			break;
		got += (size_t)r;
	}
	expect(what, (long)got, (long)n);
	check(what, in, n, seed);
}

static void streams(void)
{
	struct job j = { .n = BIG, .seed = 6 };
	pthread_t t;
	int p[2];

	if (pipe(p))
		abort();
	j.fd = p[1];
	pthread_create(&t, NULL, writer, &j);
	read_all("pipe", p[0], BIG, 6);
	pthread_join(t, NULL);
	close(p[0]);
	close(p[1]);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p))
		abort();
	j.fd = p[1];
	j.seed = 7;
	pthread_create(&t, NULL, writer, &j);
	read_all("socket", p[0], BIG, 7);
	pthread_join(t, NULL);
	j.seed = 8;
	pthread_create(&t, NULL, writer, &j);
	clear();
	expect("recv all", recv(p[0], in, BIG, MSG_WAITALL), BIG);
	check("recv all", in, BIG, 8);
	pthread_join(t, NULL);
	close(p[0]);
	close(p[1]);
}

/* A message with a name, a descriptor and a vector, everything in large allocations. */
static void messages(void)
{
	struct msghdr *m = malloc(1 << 20);
	struct iovec *v = (struct iovec *)(m + 4);
	char *control = (char *)(v + 64);
	struct cmsghdr *c;
	int p[2], passed, n;
	struct stat a, b;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, p))
		abort();
	fill(out, 60000, 9);
	memset(m, 0, sizeof(*m));
	n = cut(v, out, 60000, 12);
	m->msg_iov = v;
	m->msg_iovlen = (size_t)n;
	m->msg_control = control;
	m->msg_controllen = CMSG_SPACE(sizeof(int));
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &p[0], sizeof(int));
	squeeze();
	expect("sendmsg", sendmsg(p[1], m, 0), 60000);
	clear();
	n = cut(v, in, 60000, 9);
	m->msg_iovlen = (size_t)n;
	m->msg_controllen = CMSG_SPACE(sizeof(int));
	memset(control, 0, m->msg_controllen);
	squeeze();
	expect("recvmsg", recvmsg(p[0], m, 0), 60000);
	check("recvmsg", in, 60000, 9);
	c = CMSG_FIRSTHDR(m);
	if (!c || c->cmsg_type != SCM_RIGHTS) {
		printf("recvmsg: no descriptor came\n");
		failures++;
	} else {
		memcpy(&passed, CMSG_DATA(c), sizeof(int));
		fstat(passed, &a);
		fstat(p[0], &b);
		expect("descriptor", a.st_ino == b.st_ino, 1);
		close(passed);
	}
	free(m);
	close(p[0]);
	close(p[1]);
}

static void many_messages(void)
{
	struct mmsghdr *m = malloc(1 << 20);
	struct iovec *v = (struct iovec *)(m + 16);
	int p[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, p))
		abort();
	fill(out, BIG, 10);
	memset(m, 0, 16 * sizeof(*m));
	for (int i = 0; i < 8; i++) {
		v[i].iov_base = out + (size_t)i * 9000;
		v[i].iov_len = 9000;
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	squeeze();
	expect("sendmmsg", sendmmsg(p[1], m, 8, 0), 8);
	clear();
	for (int i = 0; i < 8; i++)
		v[i].iov_base = in + (size_t)i * 9000;
	squeeze();
	expect("recvmmsg", recvmmsg(p[0], m, 8, 0, NULL), 8);
	check("recvmmsg", in, 8 * 9000, 10);
	expect("recvmmsg length", m[7].msg_len, 9000);
	free(m);
	close(p[0]);
	close(p[1]);
}

static void named_datagrams(void)
{
	struct sockaddr_un *name = malloc(1 << 20);
	socklen_t *len = (socklen_t *)(name + 8);
	int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0);

	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	snprintf(name->sun_path + 1, 64, "quire-bufferio-%d", (int)getpid());
	*len = (socklen_t)(sizeof(sa_family_t) + 1 + strlen(name->sun_path + 1));
	squeeze();
	expect("bind", bind(a, (struct sockaddr *)name, *len), 0);
	fill(out, 50000, 11);
	expect("sendto", sendto(b, out, 50000, 0, (struct sockaddr *)name, *len), 50000);
	clear();
	*len = sizeof(*name);
	squeeze();
	expect("recvfrom", recvfrom(a, in, 60000, 0, (struct sockaddr *)name, len), 50000);
	check("recvfrom", in, 50000, 11);
	*len = sizeof(*name);
	expect("getsockname", getsockname(a, (struct sockaddr *)name, len), 0);
	expect("its family", name->sun_family, AF_UNIX);
	free(name);
	close(a);
	close(b);
}

static void waiting(void)
{
	struct epoll_event *e = malloc(1 << 20);
	struct pollfd *f = (struct pollfd *)(e + 16);
	fd_set *s = (fd_set *)(f + 16);
	struct timespec *t = (struct timespec *)(s + 4);
	int p[2], ep = epoll_create1(0);

	if (pipe(p))
		abort();
	e[0].events = EPOLLIN;
	e[0].data.u64 = 77;
	squeeze();
	expect("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e[0]), 0);
	expect("write one", write(p[1], "x", 1), 1);
	squeeze();
	expect("epoll_wait", epoll_wait(ep, e, 10, 1000), 1);
	expect("its data", (long)e[0].data.u64, 77);
	squeeze();
	expect("epoll_pwait", epoll_pwait(ep, e, 10, 1000, NULL), 1);
	f[0].fd = p[0];
	f[0].events = POLLIN;
	squeeze();
	expect("poll", poll(f, 1, 1000), 1);
	expect("its events", f[0].revents, POLLIN);
	t->tv_sec = 1;
	t->tv_nsec = 0;
	squeeze();
	expect("ppoll", ppoll(f, 1, t, NULL), 1);
	FD_ZERO(s);
	FD_SET(p[0], s);
	squeeze();
	expect("select", select(p[0] + 1, s, NULL, NULL, NULL), 1);
	squeeze();
	expect("pselect", pselect(p[0] + 1, s, NULL, NULL, t, NULL), 1);
	t->tv_sec = 0;
	t->tv_nsec = 1000000;
	squeeze();
	expect("nanosleep", nanosleep(t, t + 1), 0);
	free(e);
	close(p[0]);
	close(p[1]);
	close(ep);
}

static void descriptors_to_descriptors(void)
{
	int from = scratch_file(), to = scratch_file(), p[2];
	off_t *at = malloc(1 << 20);
	struct iovec v = { out, 30000 };

	if (pipe(p))
		abort();
	fill(out, BIG, 12);
	expect("write", write(from, out, 200000), 200000);
	*at = 0;
	squeeze();
	expect("sendfile", sendfile(to, from, at, 100000), 100000);
	expect("sendfile's offset", *at, 100000);
	clear();
	expect("pread", pread(to, in, 100000, 0), 100000);
	check("sendfile", in, 100000, 12);
	at[1] = 0;
	*at = 0;
	squeeze();
	expect("copy_file_range", copy_file_range(from, at, to, at + 1, 50000, 0) > 0, 1);
	*at = 0;
	squeeze();
	expect("splice", splice(from, at, p[1], NULL, 4096, 0), 4096);
	expect("read", read(p[0], in, 4096), 4096);
	check("splice", in, 4096, 12);
	fill(out, BIG, 13);
	expect("vmsplice", vmsplice(p[1], &v, 1, 0), 30000);
	clear();
	expect("read", read(p[0], in, 30000), 30000);
	check("vmsplice", in, 30000, 13);
	free(at);
	close(from);
	close(to);
	close(p[0]);
	close(p[1]);
}

/* Names, structures and strings that the kernel reads or writes. */
static void odds_and_ends(void)
{
	char *page = malloc(1 << 20), *path = page + 5000, *other = page + 20000;
	struct stat *st = (struct stat *)(page + 40000);
	struct utsname *u = (struct utsname *)(page + 60000);
	struct statfs *fs = (struct statfs *)(page + 80000);
	int *status = (int *)(page + 90000), fd;
	struct timespec *now = (struct timespec *)(page + 100000);
	struct iovec local = { in, 5000 }, remote = { out, 5000 };

	strcpy(path, "/tmp/bufferio-dir.XXXXXX");
	squeeze();
	expect("mkdtemp", mkdtemp(path) == path, 1);
	strcpy(stpcpy(other, path), "/file");
	squeeze();
	fd = open(other, O_RDWR | O_CREAT, 0600);
	expect("open", fd >= 0, 1);
	squeeze();
	expect("stat", stat(other, st), 0);
	expect("fstat", fstat(fd, st), 0);
	expect("a file", S_ISREG(st->st_mode), 1);
	squeeze();
	expect("access", access(other, R_OK), 0);
	squeeze();
	expect("statfs", statfs(path, fs), 0);
	strcpy(stpcpy(page, path), "/link");
	squeeze();
	expect("symlink", symlink(other, page), 0);
	squeeze();
	expect("readlink", readlink(page, page + 200000, 4096), (long)strlen(other));
	expect("unlink", unlink(page), 0);
	squeeze();
	expect("chdir", chdir(path), 0);
	expect("getcwd", getcwd(page + 300000, 70000) != NULL, 1);
	expect("the same", strcmp(page + 300000, path), 0);
	expect("chdir", chdir("/"), 0);
	expect("unlink", unlink(other), 0);
	expect("rmdir", rmdir(path), 0);
	squeeze();
	expect("uname", uname(u), 0);
	expect("sysname", strcmp(u->sysname, "Linux"), 0);
	squeeze();
	expect("clock_gettime", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, now), 0);
	squeeze();
	expect("getrandom", syscall(SYS_getrandom, in, 10000, 0), 10000);
	squeeze();
	expect("FIONREAD", ioctl(fd, FIONREAD, status), 0);
	if (!fork())
		_exit(9);
	squeeze();
	expect("wait", wait(status) > 0, 1);
	expect("status", WEXITSTATUS(*status), 9);
	fill(out, 5000, 14);
	clear();
	expect("process_vm_readv", process_vm_readv(getpid(), &local, 1, &remote, 1, 0) <= 5000, 1);
	close(fd);
	free(page);
}

/* What is wrong natively is wrong in the same way. */
static void errors(void)
{
	unsigned char *hole =
		mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = scratch_file(), p[2];

	if (pipe(p))
		abort();
	fill(out, BIG, 15);
	expect("write", write(fd, out, BIG), BIG);
	munmap(hole + 8192, (1 << 20) - 8192);
	expect("into a hole", pread(fd, hole + 4096, 100000, 0), 4096);
	expect("all of it a hole", pread(fd, hole + 8192, 10, 0), -1);
	expect("EFAULT", errno, EFAULT);
	mprotect(hole, 4096, PROT_READ);
	expect("read-only", pread(fd, hole, 10, 0), -1);
	expect("EFAULT", errno, EFAULT);
	expect("from read-only", write(p[1], hole, 10), 10);
	expect("bad descriptor", read(999, in, 10), -1);
	expect("EBADF", errno, EBADF);
	expect("nothing", read(fd, in, 0), 0);
	munmap(hole, 8192);
	close(fd);
	close(p[0]);
	close(p[1]);
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {
		{ "files", files },
		{ "streams", streams },
		{ "messages", messages },
		{ "many messages", many_messages },
		{ "named datagrams", named_datagrams },
		{ "waiting", waiting },
		{ "descriptors to descriptors", descriptors_to_descriptors },
		{ "odds and ends", odds_and_ends },
		{ "errors", errors },
	};

	ballast = malloc(BALLAST);
	out = malloc(BIG);
	in = malloc(BIG);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int before = failures;

		parts[i].run();
		printf("%s: %s\n", parts[i].name, failures == before ? "ok" : "FAILED");
		fflush(stdout);
	}
	return failures ? 1 : 0;
}
