/*
 * programs.c - whole programs that fit in their budget, under `quire run` and alone: one that only
 * computes, and redis, which mostly makes system calls.
 *
 * The computing program is this one again (`quire bench --child-compute`); its whole life is timed,
 * starting included, and both sides' results are compared. Redis serves a port of this
 * machine and keeps no file; redis-benchmark runs natively on both sides, so that only the server
 * differs.
 */
#include "bench_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a program that computes: a product of matrices and a sort ---- */

static u64 next(u64 *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return *rng;
}

static void multiply(const double *a, const double *b, double *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < n; k++)
			for (unsigned j = 0; j < n; j++)
				c[i * n + j] += a[i * n + k] * b[k * n + j];
}

static int compare_u64(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

int bench_child_compute(bool quick)
{
	unsigned n = quick ? 256 : 800;
	size_t count = quick ? 400000 : 4000000;
	double *m = malloc(3 * sizeof(*m) * n * n), trace = 0;
	u64 *keys = malloc(count * sizeof(*keys)), rng = 88172645463325252ull, sum = 0;

	if (!m || !keys)
		return 1;
	for (unsigned i = 0; i < 3 * n * n; i++)
		m[i] = i < 2 * n * n ? (double)(next(&rng) % 1000) / 1000 : 0;
	multiply(m, m + n * n, m + 2 * n * n, n);
	for (unsigned i = 0; i < n; i++)
		trace += m[2 * n * n + i * n + i];
	for (size_t i = 0; i < count; i++)
		keys[i] = next(&rng);
	qsort(keys, count, sizeof(*keys), compare_u64);
	for (size_t i = 0; i < count; i++)
		sum = sum * 31 + keys[i];
	printf("%.6f %llu\n", trace, (unsigned long long)sum);
	return 0;
}

/* The first result, which all others must equal; in memory that the children share. */
static char *compute_result;

static bool prepare_program(struct bench *b, enum bench_side side, char *why)
{
	if (!compute_result)
		compute_result = bench_shared(BENCH_TEXT);
	return side != SIDE_OURS || bench_can_run(b, why);
}

static void measure_compute(const struct bench *b, const struct bench_group *g,
			    enum bench_side side, struct bench_result *r)
{
	const char *const prefix[] = { b->self, "run", "--quiet", "--ram", "512M", "--", NULL };
	const char *const argv[] = { b->self, "bench", "--child-compute",
				     b->quick ? "--quick" : NULL, NULL };
	char out[BENCH_TEXT];
	double begin = bench_now();
	int status = bench_run(side == SIDE_OURS ? prefix : NULL, argv, out, sizeof(out));

	r->value[0] = bench_now() - begin;
	if (status)
		bench_fail(r, "status %d: %s", status, bench_last_line(out));
	else if (compute_result && !compute_result[0])
		snprintf(compute_result, BENCH_TEXT, "%s", out);
	else if (compute_result && strcmp(compute_result, out))
		bench_fail(r, "another result than before: %.80s", out);
}

const struct bench_group bench_group_compute = {
	.name = "compute",
	.side = { "quire run", "native" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.row = { { "compute", "a product of matrices and a sort, everything fits", "s", false,
		   1.05 } },
	.prepare = prepare_program,
	.measure = measure_compute,
};

/* ---- redis ---- */

/* A socket that is connected to, or bound to, a port of this machine; -errno. */
static int redis_socket(unsigned *port, bool bound)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((u16)*port) };
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	err = bound ? bind(fd, (struct sockaddr *)&at, size) :
		      connect(fd, (struct sockaddr *)&at, size);
	if (!err && bound && !getsockname(fd, (struct sockaddr *)&at, &size))
		*port = ntohs(at.sin_port);
	if (!err)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* Waits until the server answers; false when it ended, or after ten seconds. */
static bool redis_ready(unsigned port, pid_t server, struct bench_result *r)
{
	for (unsigned i = 0; i < 500; i++) {
		int fd = redis_socket(&port, false), status;

		if (fd >= 0) {
			close(fd);
			return true;
		}
		if (waitpid(server, &status, WNOHANG) == server) {
			bench_fail(r, "redis-server ended with status %#x", status);
			return false;
		}
		bench_sleep_ms(20);
	}
	bench_fail(r, "redis-server did not answer");
	return false;
}

static void redis_stop(unsigned port, pid_t server)
{
	static const char text[] = "SHUTDOWN NOSAVE\r\n";
	int fd = redis_socket(&port, false);

	if (fd < 0 || write(fd, text, sizeof(text) - 1) < 0)
		kill(server, SIGTERM);
	bench_wait(server);
	if (fd >= 0)
		close(fd);
}

/* redis-benchmark --csv prints "SET","123456.78",... */
static double redis_figure(const char *out, const char *name)
{
	char key[32];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\",\"", name);
	at = strstr(out, key);
	return at ? strtod(at + strlen(key), NULL) / 1000 : NAN;
}

static void redis_load(const struct bench *b, const char *port, struct bench_result *r)
{
	const char *const argv[] = { "redis-benchmark",
				     "-p",
				     port,
				     "-P",
				     "16",
				     "-c",
				     "20",
				     "-n",
				     b->quick ? "50000" : "800000",
				     "-r",
				     "100000",
				     "-d",
				     "64",
				     "-t",
				     "set,get",
				     "--csv",
				     NULL };
	char out[8192];
	int status = bench_run(NULL, argv, out, sizeof(out));

	r->value[0] = redis_figure(out, "SET");
	r->value[1] = redis_figure(out, "GET");
	if (status || isnan(r->value[0]) || isnan(r->value[1]))
		bench_fail(r, "redis-benchmark: status %d: %s", status, bench_last_line(out));
}

static void measure_redis(const struct bench *b, const struct bench_group *g, enum bench_side side,
			  struct bench_result *r)
{
	const char *const prefix[] = { b->self, "run", "--quiet", "--ram", "1G", "--", NULL };
	unsigned port = 0;
	char text[16];
	const char *const argv[] = { "redis-server", "--port", text, "--bind",
				     "127.0.0.1",    "--save", "",   "--appendonly",
				     "no",           "--dir",  "/",  NULL };
	/* A port that is free now, and that nobody else is given so soon again. */
	int fd = redis_socket(&port, true);
	pid_t server;

	if (fd < 0) {
		bench_fail(r, "no port: %s", strerror(-fd));
		return;
	}
	close(fd);
	snprintf(text, sizeof(text), "%u", port);
	server = bench_spawn(side == SIDE_OURS ? prefix : NULL, argv, -1);
	if (server < 0) {
		bench_fail(r, "redis-server: %s", strerror(-server));
		return;
	}
	if (!redis_ready(port, server, r))
		return;
	redis_load(b, text, r);
	redis_stop(port, server);
}

static bool prepare_redis(struct bench *b, enum bench_side side, char *why)
{
	if (!bench_have("redis-server") || !bench_have("redis-benchmark")) {
		snprintf(why, BENCH_TEXT, "redis-server and redis-benchmark are not installed");
		return false;
	}
	return side != SIDE_OURS || bench_can_run(b, why);
}

const struct bench_group bench_group_redis = {
	.name = "redis",
	.side = { "quire run", "native" },
	.threads = 1,
	.rounds = 5,
	.limit_s = 60,
	.row = {
		{ "redis-set", "redis SET, pipelined 16, everything fits", "k/s", true, 0.833 },
		{ "redis-get", "redis GET, likewise", "k/s", true, 0.833 },
	},
	.prepare = prepare_redis,
	.measure = measure_redis,
};
