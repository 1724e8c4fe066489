/*
 * The report at the end: one screen on standard error, and a JSON object. It is written from the
 * handler of exit_group, so without the C library's streams and without allocation; the descriptors
 * were kept from the start, because the program may have closed or replaced its own.
 */
#include "run/run.h"

#include <fcntl.h>
#include <linux/time_types.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#define TEXT_BYTES 16384

static int text_fd = -1, json_fd = -1;
static u32 written; /* once */

struct text {
	char buf[TEXT_BYTES];
	size_t len;
};

static __attribute__((format(printf, 2, 3))) void add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->buf + t->len, sizeof(t->buf) - t->len, format, args);
	va_end(args);
	if (n > 0)
		t->len = min(t->len + (size_t)n, sizeof(t->buf) - 1);
}

static void write_out(int fd, const struct text *t)
{
	size_t done = 0;

	while (done < t->len) {
		long r = RAW(SYS_write, fd, t->buf + done, t->len - done);

		if (r == -EINTR)
			continue;
		if (r <= 0)
			return;
		done += (size_t)r;
	}
}

void run_report_init(void)
{
	long fd;

	if (!run.config.quiet) {
		fd = RAW(SYS_dup, 2);
		text_fd = fd >= 0 ? run_fd_own((int)fd) : -1;
	}
	if (run.config.json[0]) {
		fd = RAW(SYS_openat, AT_FDCWD, run.config.json, O_WRONLY | O_CREAT | O_CLOEXEC,
			 0666);
		json_fd = fd >= 0 ? run_fd_own((int)fd) : -1;
	}
}

void run_report_drop(void)
{
	run.report = false;
	if (text_fd >= 0)
		run_core_syscall(SYS_close, text_fd, 0, 0, 0, 0, 0);
	if (json_fd >= 0)
		run_core_syscall(SYS_close, json_fd, 0, 0, 0, 0, 0);
	text_fd = json_fd = -1;
}

static u64 elapsed_ms(void)
{
	struct timespec now;

	RAW(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return ((u64)now.tv_sec * 1000000000ul + (u64)now.tv_nsec - run.config.start_ns) / 1000000;
}

/* "12.3 MiB" */
static const char *size_text(char *to, size_t n, u64 bytes)
{
	static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	u64 tenths;
	unsigned u = 0;

	while (bytes >> (10 * (u + 1)) && u < 4)
		u++;
	if (!u) {
		snprintf(to, n, "%llu bytes", (unsigned long long)bytes);
		return to;
	}
	tenths = (u64)(((unsigned __int128)bytes * 10) >> (10 * u));
	snprintf(to, n, "%llu.%llu %s", (unsigned long long)(tenths / 10),
		 (unsigned long long)(tenths % 10), unit[u]);
	return to;
}

#define SIZE(b) size_text((char[32]){ 0 }, 32, b)
#define LLU(n)  ((unsigned long long)(n))

static void add_stores(struct text *t)
{
	struct quire_store_info s;

	for (unsigned i = 0; !quire_store_get(run.q, i, &s); i++) {
		add(t, "  store     %-24s %llu pages in %s", s.name, LLU(s.pages),
		    SIZE(s.stored_bytes));
		if (s.cap_bytes)
			add(t, " of at most %s", SIZE(s.cap_bytes));
		add(t, ", %llu writes, %llu reads", LLU(s.writes), LLU(s.reads));
		if (s.full)
			add(t, ", full %llu times", LLU(s.full));
		if (s.errors)
			add(t, ", %llu errors", LLU(s.errors));
		add(t, "\n");
	}
}

static void add_nodes(struct text *t)
{
	struct quire_node_info n = { .size = sizeof(n) };

	for (unsigned i = 0; i < run.config.nr_nodes && !quire_node_get(run.q, i, &n); i++) {
		add(t, "  node      %-8s %s of %s", run.config.node[i].name, SIZE(n.used_bytes),
		    SIZE(n.bytes));
		if (n.physical >= 0)
			add(t, " (NUMA node %d)", n.physical);
		if (n.promoted_in || n.demoted_out)
			add(t, "; %llu pages came by use, %llu left by age", LLU(n.promoted_in),
			    LLU(n.demoted_out));
		if (n.demoted_in || n.promoted_out)
			add(t, "; %llu came by age, %llu left by use", LLU(n.demoted_in),
			    LLU(n.promoted_out));
		if (n.watched)
			add(t, "; %llu watched, %llu %% used (%llu traps)", LLU(n.watched),
			    LLU(n.watched_used * 100 / n.watched), LLU(n.hint_faults));
		add(t, "\n");
	}
}

static void add_swap(struct text *t, const struct quire_stats *s)
{
	u64 pages = s->swap_used_pages * PAGE_SIZE;

	add(t,
	    "  swap      %llu pages out, %llu in (%llu read ahead); %llu same-filled, "
	    "%llu dropped clean\n",
	    LLU(s->swap_out_pages), LLU(s->swap_in_pages), LLU(s->swap_readahead_pages),
	    LLU(s->swap_same_pages), LLU(s->swap_reused_pages));
	if (s->swap_stored_bytes)
		add(t, "  stored    %s as %s (%llu.%llu to 1)\n", SIZE(pages),
		    SIZE(s->swap_stored_bytes), LLU(pages / s->swap_stored_bytes),
		    LLU(pages * 10 / s->swap_stored_bytes % 10));
}

static void report_text(const struct quire_stats *s, int status)
{
	static struct text t;
	u64 ms = elapsed_ms();

	t.len = 0;
	add(&t, "quire: exit status %d after %llu.%02llu s\n", status, LLU(ms / 1000),
	    LLU(ms % 1000 / 10));
	add(&t, "  memory    wanted %s, held at most %s, limit %s; tables %s\n",
	    SIZE(s->managed_peak_bytes), SIZE(s->resident_peak_bytes),
	    s->ram_limit_bytes ? SIZE(s->ram_limit_bytes) : "none", SIZE(s->metadata_bytes));
	add(&t, "  faults    %llu minor, %llu major, %llu copy-on-write\n", LLU(s->faults_minor),
	    LLU(s->faults_major), LLU(s->faults_cow));
	add_nodes(&t);
	add_swap(&t, s);
	add(&t, "  flushes   %llu, of %llu pages\n", LLU(s->tlb_flushes),
	    LLU(s->tlb_flushed_pages));
	add_stores(&t);
	if (s->over_limit_pages)
		add(&t,
		    "  note      the limit was exceeded: %llu pages when nothing could be "
		    "evicted\n",
		    LLU(s->over_limit_pages));
	if (s->swap_write_errors || s->swap_read_errors)
		add(&t, "  note      %llu failed writes and %llu failed reads of stores\n",
		    LLU(s->swap_write_errors), LLU(s->swap_read_errors));
	if (s->splits_refused)
		add(&t, "  note      %llu operations refused near the limit of host mappings\n",
		    LLU(s->splits_refused));
	if (s->warnings)
		add(&t, "  note      %llu warnings: please report them\n", LLU(s->warnings));
	write_out(text_fd, &t);
}

#define FIELDS(F)                                                                                  \
	F(ram_limit_bytes)                                                                         \
	F(resident_bytes)                                                                          \
	F(resident_peak_bytes)                                                                     \
	F(managed_bytes)                                                                           \
	F(managed_peak_bytes)                                                                      \
	F(metadata_bytes) F(faults_minor) F(faults_major) F(faults_cow) F(faults_write_protect) F( \
		first_touch_pages) F(swap_out_pages) F(swap_in_pages) F(swap_reused_pages)         \
		F(swap_same_pages) F(swap_readahead_pages) F(swap_used_pages) F(swap_stored_bytes) \
			F(swap_pool_bytes) F(swap_write_errors) F(swap_read_errors)                \
				F(migrated_pages) F(tlb_flushes) F(tlb_flushed_pages)              \
					F(splits_refused) F(over_limit_pages) F(refaults)          \
						F(direct_reclaims) F(warnings) F(pins)             \
							F(demoted_pages) F(promoted_pages)         \
								F(promotions_limited_pages)        \
									F(hint_faults)

/* A string of JSON. */
static void add_quoted(struct text *t, const char *s)
{
	add(t, "\"");
	for (; *s; s++) {
		if ((u8)*s < 0x20)
			add(t, "\\u%04x", (unsigned)(u8)*s);
		else
			add(t, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
	}
	add(t, "\"");
}

static void json_nodes(struct text *t)
{
	struct quire_node_info n = { .size = sizeof(n) };

	if (!run.config.nr_nodes)
		return;
	add(t, ",\n \"nodes\": [");
	for (unsigned i = 0; i < run.config.nr_nodes && !quire_node_get(run.q, i, &n); i++) {
		add(t, "%s\n  {\"name\": ", i ? "," : "");
		add_quoted(t, run.config.node[i].name);
		add(t,
		    ", \"bytes\": %llu, \"used_bytes\": %llu, \"physical\": %d, "
		    "\"demoted_in\": %llu, \"demoted_out\": %llu, \"promoted_in\": %llu, "
		    "\"promoted_out\": %llu, \"hint_faults\": %llu, \"watched\": %llu, "
		    "\"watched_used\": %llu}",
		    LLU(n.bytes), LLU(n.used_bytes), n.physical, LLU(n.demoted_in),
		    LLU(n.demoted_out), LLU(n.promoted_in), LLU(n.promoted_out), LLU(n.hint_faults),
		    LLU(n.watched), LLU(n.watched_used));
	}
	add(t, "]");
}

static void report_json(const struct quire_stats *s, int status)
{
	static struct text t;
	struct quire_store_info st;
	u64 ms = elapsed_ms();

	t.len = 0;
	add(&t, "{\"exit_status\": %d, \"wall_seconds\": %llu.%03llu", status, LLU(ms / 1000),
	    LLU(ms % 1000));
#define FIELD(name) add(&t, ",\n \"" #name "\": %llu", LLU(s->name));
	FIELDS(FIELD)
#undef FIELD
	/* Where the managed addresses are, for whoever wants to count in /proc/PID/smaps. */
	add(&t, ",\n \"region_start\": %llu,\n \"region_bytes\": %llu", LLU(run.lo), LLU(run.size));
	if (run.heap)
		add(&t, ",\n \"heap_region_start\": %llu,\n \"heap_region_bytes\": %llu",
		    LLU(run.heap_lo), LLU(run.heap_size));
	json_nodes(&t);
	add(&t, ",\n \"stores\": [");
	for (unsigned i = 0; !quire_store_get(run.q, i, &st); i++) {
		add(&t, "%s\n  {\"name\": ", i ? "," : "");
		add_quoted(&t, st.name);
		add(&t,
		    ", \"pages\": %llu, \"stored_bytes\": %llu, \"pool_bytes\": %llu, "
		    "\"cap_bytes\": %llu, \"writes\": %llu, \"reads\": %llu, \"full\": %llu, "
		    "\"errors\": %llu}",
		    LLU(st.pages), LLU(st.stored_bytes), LLU(st.pool_bytes), LLU(st.cap_bytes),
		    LLU(st.writes), LLU(st.reads), LLU(st.full), LLU(st.errors));
	}
	add(&t, "]}\n");
	RAW(SYS_ftruncate, json_fd, 0);
	write_out(json_fd, &t);
}

void run_report(int exit_status)
{
	struct quire_stats s;

	if (__atomic_exchange_n(&written, 1, __ATOMIC_RELAXED))
		return;
	memset(&s, 0, sizeof(s));
	s.size = sizeof(s);
	if (quire_stats_get(run.q, &s))
		return;
	if (json_fd >= 0)
		report_json(&s, exit_status);
	if (text_fd >= 0)
		report_text(&s, exit_status);
}
