/*
 * report.c - the table for people and the object for programs.
 *
 * A row's two figures are the medians of their rounds. Its ratio is the median of the ratios of the
 * rounds, so that a disturbance which lasts longer than a round cancels out; the table shows the
 * least and the greatest of them too.
 */
#include "bench_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* NANs are left out; NAN when nothing else is there. */
double bench_median(const double *value, unsigned n)
{
	double sorted[BENCH_MAX_ROUNDS];
	unsigned have = 0;

	for (unsigned i = 0; i < n; i++)
		if (!isnan(value[i]))
			sorted[have++] = value[i];
	if (!have)
		return NAN;
	qsort(sorted, have, sizeof(sorted[0]), compare);
	return have % 2 ? sorted[have / 2] : (sorted[have / 2 - 1] + sorted[have / 2]) / 2;
}

unsigned bench_rows(const struct bench_group *g)
{
	unsigned n = 0;

	while (n < BENCH_MAX_ROWS && g->row[n].name)
		n++;
	return n;
}

void bench_summarise(const struct bench_outcome *o, unsigned row, struct bench_summary *out)
{
	double ratio[BENCH_MAX_ROUNDS];

	out->ours = bench_median(o->value[SIDE_OURS][row], o->rounds);
	out->peer = bench_median(o->value[SIDE_PEER][row], o->rounds);
	out->also = bench_median(o->value[SIDE_ALSO][row], o->rounds);
	out->ratio_min = INFINITY;
	out->ratio_max = -INFINITY;
	for (unsigned i = 0; i < o->rounds; i++) {
		double peer = o->value[SIDE_PEER][row][i];

		ratio[i] = peer > 0 ? o->value[SIDE_OURS][row][i] / peer : NAN;
		if (isnan(ratio[i]))
			continue;
		out->ratio_min = min(out->ratio_min, ratio[i]);
		out->ratio_max = max(out->ratio_max, ratio[i]);
	}
	out->ratio = bench_median(ratio, o->rounds);
	if (isnan(out->ratio))
		out->ratio_min = out->ratio_max = NAN;
}

/* ---- the machine ---- */

struct machine_text {
	char kernel[200], cpu[160], thp[32];
	double memory_gib, load;
};

static void machine_text(struct machine_text *t)
{
	struct utsname u;
	char line[512];
	char *colon;
	FILE *f;

	*t = (struct machine_text){ .cpu = "unknown processor", .thp = "unknown" };
	if (!uname(&u))
		snprintf(t->kernel, sizeof(t->kernel), "%s %s %s", u.sysname, u.release, u.machine);
	t->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * PAGE_SIZE / (1ull << 30);
	if (getloadavg(&t->load, 1) != 1)
		t->load = NAN;
	f = fopen("/proc/cpuinfo", "re");
	while (f && fgets(line, sizeof(line), f)) {
		colon = strchr(line, ':');
		if (colon && !strncmp(line, "model name", 10)) {
			snprintf(t->cpu, sizeof(t->cpu), "%.150s", colon + 2);
			t->cpu[strcspn(t->cpu, "\n")] = '\0';
			break;
		}
	}
	if (f)
		fclose(f);
	f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	if (f && fgets(line, sizeof(line), f) && strchr(line, '[')) {
		snprintf(t->thp, sizeof(t->thp), "%.30s", strchr(line, '[') + 1);
		t->thp[strcspn(t->thp, "]")] = '\0';
	}
	if (f)
		fclose(f);
}

/* ---- the table ---- */

static const char *figure(double value, char *text, size_t size)
{
	if (isnan(value))
		snprintf(text, size, "-");
	else
		snprintf(text, size, "%.*f", value < 10 ? 2 : value < 1000 ? 1 : 0, value);
	return text;
}

static void table_row(const struct bench_outcome *o, unsigned i)
{
	const struct bench_row *row = &o->g->row[i];
	struct bench_summary s;
	char ours[32], peer[32], also[32], ratio[16] = "-", range[32] = "", reach[32] = "";

	bench_summarise(o, i, &s);
	if (!isnan(s.ratio)) {
		snprintf(ratio, sizeof(ratio), "%.2f", s.ratio);
		snprintf(range, sizeof(range), "%.2f-%.2f", s.ratio_min, s.ratio_max);
	}
	if (row->target)
		snprintf(reach, sizeof(reach), "%s %.4g%s%s",
			 row->higher ? ">=" : "<=", row->target, row->own ? " " : "",
			 row->own ? row->unit : "");
	printf("%-20s %10s %10s  %-10s %6s %-12s %-8s", row->name, figure(s.ours, ours, 32),
	       figure(s.peer, peer, 32), row->unit, ratio, range, reach);
	if (!isnan(s.also))
		printf(" %s: %s", o->g->side[SIDE_ALSO], figure(s.also, also, 32));
	printf("\n");
}

static void table_notes(const struct bench_outcome *o)
{
	for (unsigned side = 0; side < NR_SIDES; side++)
		if (o->missing[side][0])
			printf("  %s: %s: not measured: %s\n", o->g->name, o->g->side[side],
			       o->missing[side]);
}

void bench_report_table(const struct bench *b, const struct bench_outcome *o, unsigned n)
{
	struct machine_text t;

	machine_text(&t);
	printf("%s, %s, %u CPUs, %.1f GiB, huge pages: %s, load %.1f\n", t.kernel, t.cpu, b->cpus,
	       t.memory_gib, t.thp, t.load);
	printf("area %llu MiB%s%s; medians; ratio: quire / peer of each round, and range\n\n",
	       (unsigned long long)b->bytes >> 20, b->quick ? " (--quick)" : "",
	       b->cpu_time ? ", processor time (--cpu)" : "");
	printf("%-20s %10s %10s  %-10s %6s %-12s %s\n", "row", "quire", "peer", "unit", "ratio",
	       "range", "reach");
	for (unsigned k = 0; k < n; k++) {
		for (unsigned i = 0; i < bench_rows(o[k].g); i++)
			if (o[k].wanted[i])
				table_row(&o[k], i);
		table_notes(&o[k]);
	}
}

/* ---- JSON ---- */

static void json_text(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < ' ')
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void json_member(const char *name, const char *text)
{
	printf(", \"%s\": ", name);
	json_text(text);
}

static void json_number(const char *name, double value)
{
	if (isnan(value) || isinf(value))
		printf(", \"%s\": null", name);
	else
		printf(", \"%s\": %.10g", name, value);
}

static void json_rounds(const char *name, const double *value, unsigned n)
{
	printf(", \"%s\": [", name);
	for (unsigned i = 0; i < n; i++)
		if (isnan(value[i]))
			printf("%snull", i ? ", " : "");
		else
			printf("%s%.10g", i ? ", " : "", value[i]);
	printf("]");
}

static void json_row(const struct bench_outcome *o, unsigned i)
{
	const struct bench_group *g = o->g;
	const struct bench_row *row = &g->row[i];
	struct bench_summary s;

	bench_summarise(o, i, &s);
	printf("{\"name\": \"%s\", \"group\": \"%s\"", row->name, g->name);
	json_member("what", row->what);
	json_member("unit", row->unit);
	json_member("better", row->higher ? "higher" : "lower");
	printf(", \"threads\": %u", g->threads);
	json_number("ours", s.ours);
	json_number("peer", s.peer);
	json_number("ratio", s.ratio);
	json_number("ratio_min", s.ratio_min);
	json_number("ratio_max", s.ratio_max);
	json_number("target", row->target ? row->target : NAN);
	printf(", \"target_is\": %s", !row->target ? "null" :
				      row->higher  ? "\"at least\"" :
						     "\"at most\"");
	printf(", \"rounds\": %u", o->rounds);
	json_rounds("ours_rounds", o->value[SIDE_OURS][i], o->rounds);
	json_rounds("peer_rounds", o->value[SIDE_PEER][i], o->rounds);
	if (g->side[SIDE_PEER])
		json_member("peer_name", g->side[SIDE_PEER]);
	if (g->side[SIDE_ALSO]) {
		json_member("also_name", g->side[SIDE_ALSO]);
		json_number("also", s.also);
	}
	for (unsigned side = 0; side < NR_SIDES; side++) {
		static const char *const names[] = { "ours_missing", "peer_missing",
						     "also_missing" };

		if (o->missing[side][0])
			json_member(names[side], o->missing[side]);
	}
	if (o->error[0])
		json_member("error", o->error);
	printf("}");
}

void bench_report_json(const struct bench *b, const struct bench_outcome *o, unsigned n)
{
	struct machine_text t;
	bool first = true;

	machine_text(&t);
	printf("{\"quire\": \"" QUIRE_VERSION "\", \"machine\": {\"cpus\": %u", b->cpus);
	json_member("kernel", t.kernel);
	json_member("cpu", t.cpu);
	json_member("huge_pages", t.thp);
	json_number("memory_gib", t.memory_gib);
	json_number("load", t.load);
	printf("}, \"area_bytes\": %llu, \"quick\": %s, \"data\": \"%s\", \"clock\": \"%s\",\n"
	       "\"rows\": [",
	       (unsigned long long)b->bytes, b->quick ? "true" : "false",
	       b->half_data ? "half" : "heap", b->cpu_time ? "cpu" : "wall");
	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < bench_rows(o[k].g); i++)
			if (o[k].wanted[i]) {
				printf(first ? "\n" : ",\n");
				first = false;
				json_row(&o[k], i);
			}
	printf("\n]}\n");
}
