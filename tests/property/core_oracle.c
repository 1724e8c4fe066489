/* The property harness: an instance over a simulated machine, its workers, its phases, the end. */
#include "core_oracle.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core_oracle_internal.h"
#include "machine/native/native.h"
#include "reclaim/reclaim_internal.h"

#define HUNG_SECONDS 40
#define WRONG_TOLD   8 /* of one run; more follow from the first as a rule */

void oracle_wrong(struct worker *w, const char *format, ...)
{
	struct run *run = w->run;
	va_list args;

	if (a64_add_return(&run->wrong, 1) > WRONG_TOLD)
		return;
	flockfile(stderr);
	fprintf(stderr, "%s: seed %llu, %u threads, phase %u%s, thread %u, operation %llu (%s): ",
		run->cfg.name, (unsigned long long)run->cfg.seed, run->cfg.threads, run->phase,
		run->injecting ? " (injecting)" : "", w->id, (unsigned long long)w->op, w->what);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	funlockfile(stderr);
}

bool oracle_excused(struct worker *w, int rc)
{
	if (!w->run->injecting)
		return false;
	if (rc != -ENOMEM && rc != -EIO && rc != -EAGAIN && rc != -EFAULT)
		return false;
	a64_add(&w->run->refused, 1);
	return true;
}

bool oracle_expect(struct worker *w, int rc, int want, struct span p)
{
	if (rc == want)
		return true;
	if (!oracle_excused(w, rc))
		oracle_wrong(w, "pages [%llx, %llx): result %d, want %d",
			     (unsigned long long)span_va(p),
			     (unsigned long long)(span_va(p) + span_size(p)), rc, want);
	return false;
}

/* ---- what the areas say ---- */

struct look {
	struct span p;
	u32 areas;
	u64 covered;
	bool locks_only;
	struct page seen[SLICE_PAGES];
};

static void look_at(void *ctx, struct range r, u64 flags)
{
	struct look *l = ctx;
	u64 start = max(r.start, span_va(l->p));
	u64 end = min(r.end, span_va(l->p) + span_size(l->p));

	if (start >= end)
		return;
	l->areas++;
	l->covered += end - start;
	for (u64 va = start; va < end; va += PAGE_SIZE) {
		struct page *p = &l->seen[(va - l->p.s->base) >> PAGE_SHIFT];

		p->mapped = true;
		p->prot = flags & VM_PROT_MASK;
		p->locked = flags & VM_LOCKED;
	}
}

static void look(struct worker *w, struct span p, struct look *l)
{
	struct range r = { span_va(p), span_va(p) + span_size(p) };

	memset(l, 0, sizeof(*l));
	l->p = p;
	space_for_each_area(w->run->q, w->run->s, r, look_at, l);
}

bool span_in_one_area(struct worker *w, struct span p)
{
	struct look l;

	look(w, p, &l);
	return l.areas == 1 && l.covered == span_size(p);
}

void span_resync_locks(struct worker *w, struct span p)
{
	struct look l;

	look(w, p, &l);
	for (u32 i = p.first; i < p.first + p.n; i++)
		p.s->page[i].locked = l.seen[i].locked;
}

void span_resync(struct worker *w, struct span p)
{
	struct look l;

	look(w, p, &l);
	for (u32 i = p.first; i < p.first + p.n; i++) {
		struct page *known = &p.s->page[i];
		const struct page *now = &l.seen[i];

		if (known->mapped != now->mapped) {
			data_pins_stale(w, (struct span){ p.s, i, 1 });
			page_zero(p.s, i);
		}
		known->mapped = now->mapped;
		known->prot = now->prot;
		known->locked = now->locked;
	}
}

/* ---- a worker ---- */

static void do_one(struct worker *w)
{
	u32 at = (u32)rnd(w, w->run->weights);

	for (u32 i = 0;; i++) {
		if (at < oracle_ops[i].weight) {
			w->what = oracle_ops[i].name;
			oracle_ops[i].fn(w);
			a64_set(&w->alive, ++w->op);
			return;
		}
		at -= oracle_ops[i].weight;
	}
}

static void arm(struct run *run)
{
	static const struct {
		enum inject_point point;
		u64 ppm;
	} points[] = {
		{ INJECT_ARENA, 2000 },      { INJECT_FRAME, 5000 },
		{ INJECT_CHARGE, 3000 },     { INJECT_TABLE, 5000 },
		{ INJECT_SLOT, 10000 },      { INJECT_STORE_WRITE, 10000 },
		{ INJECT_STORE_READ, 3000 }, { INJECT_STORE_CORRUPT, 2000 },
		{ INJECT_ENTRIES, 3000 },    { INJECT_FOLIO_TRYLOCK, 10000 },
		{ INJECT_PIN, 10000 },       { INJECT_MACHINE_CALL, 5000 },
		{ INJECT_MIGRATE, 10000 },
	};

	run->injecting = run->phase % 2;
	for (u32 i = 0; i < ARRAY_SIZE(points); i++) {
		if (run->injecting)
			inject_chance(&run->inject, points[i].point, points[i].ppm,
				      run->cfg.seed + run->phase);
		else
			inject_off(&run->inject, points[i].point);
	}
}

/* One thread, everybody else standing still. */
static void check_instance(struct worker *w)
{
	struct run *run = w->run;
	u64 bad, warnings = native_warnings();

	for (u32 i = 0; i < NR_INJECT_POINTS; i++)
		inject_off(&run->inject, i);
	/* The core's own thread may still be making room; nobody wakes it again now. */
	while (a32_read_acquire(&run->q->reclaim->bg_word) == 1)
		sched_yield();
	qrcu_barrier(run->q);
	bad = quire_check_all(run->q);
	if (bad)
		oracle_wrong(w, "quire_check_all: %llu", (unsigned long long)bad);
	if (warnings)
		oracle_wrong(w, "%llu warnings", (unsigned long long)warnings);
	if (sim_violations(run->m)) {
		struct sim_stats st;

		sim_stats_get(run->m, &st);
		for (u32 i = 0; i < NR_SIM_VIOLATIONS; i++)
			if (st.violations[i])
				oracle_wrong(w, "%llu times %s (at %llx)",
					     (unsigned long long)st.violations[i],
					     sim_violation_name(i),
					     (unsigned long long)st.violation_at);
	}
}

static void *worker_main(void *p)
{
	struct worker *w = p;
	struct run *run = w->run;
	u64 each = run->cfg.ops / run->cfg.threads / run->cfg.phases;

	sim_cpu_bind(w->id);
	for (u32 phase = 0; phase < run->cfg.phases; phase++) {
		for (u64 i = 0; i < each && !a64_read(&run->wrong); i++)
			do_one(w);
		pthread_barrier_wait(&run->barrier);
		w->what = "at rest";
		if (!w->id) {
			check_instance(w);
			run->injecting = false;
		}
		pthread_barrier_wait(&run->barrier);
		for (u32 i = 0; i < NR_SLICES; i++)
			data_compare_slice(w, &w->slice[i]);
		for (u32 i = 0; i < NR_CHILDREN; i++)
			child_compare(w, &w->child[i]);
		for (u32 i = 0; i < NR_VIEWS; i++)
			view_compare(w, &w->view[i]);
		pthread_barrier_wait(&run->barrier);
		if (!w->id) {
			run->phase = phase + 1;
			arm(run);
		}
		pthread_barrier_wait(&run->barrier);
	}
	a64_add(&run->done, w->op);
	return NULL;
}

/* ---- the instance ---- */

static u64 working_set(const struct oracle_config *cfg)
{
	return (u64)cfg->threads * NR_SLICES * SLICE_PAGES;
}

/* The fast node has room for a third of what the limit allows; the slow one for all of it. */
static void describe_nodes(struct run *run, const struct sim_config *sc, struct phys_config *pc)
{
	pc->nr_nodes = run->cfg.home && !run->cfg.tiers ? 1 : 2;
	for (u32 i = 0; i < pc->nr_nodes; i++) {
		pc->node[i].base_pfn = i * (sc->span_frames / 2);
		pc->node[i].span = sc->span_frames / 2;
		pc->node[i].capacity = run->cfg.home ? ~0ull : sc->ram_frames;
		pc->node[i].tier = run->cfg.tiers ? i : 0;
	}
	if (!run->cfg.tiers)
		return;
	pc->node[0].capacity = run->limit / 3;
	pc->node[1].size = run->limit;
}

static int open_instance(struct run *run)
{
	struct sim_config sc = sim_defaults(run->cfg.home, run->cfg.hw_ad);
	struct core_config cc = { .swap_spec = run->cfg.swap, .background = run->cfg.background };
	char msg[128] = "";
	int rc;

	inject_init(&run->inject);
	sc.caps |= (run->cfg.placed ? CAP_PLACED : 0) |
		   (run->cfg.flush_locked ? CAP_FLUSH_UNDER_LOCK : 0) |
		   (run->cfg.home && run->cfg.tiers ? CAP_PARK : 0);
	sc.seed = run->cfg.seed;
	sc.inject = &run->inject;
	sc.ram_frames = working_set(&run->cfg) * 2 + 1024;
	sc.span_frames = run->cfg.home ? 0 : ALIGN_UP(max(sc.ram_frames * 4, (u64)65536), 1024);
	rc = sim_create(&sc, &run->m);
	if (rc)
		return rc;
	cc.ram_limit_pages = run->limit;
	describe_nodes(run, &sc, &cc.phys);
	cc.msg = msg;
	cc.msg_size = sizeof(msg);
	rc = core_create(&run->q, run->m, &cc);
	if (rc) {
		fprintf(stderr, "core_create: %d %s\n", rc, msg);
		run->m->ops->destroy(run->m);
		return rc;
	}
	rc = oracle_meta_open(run);
	return rc ? rc : space_create(run->q, CGROUP_ROOT, 0, &run->s);
}

/* Slices of all workers take turns, away from where the core looks for room first. */
static int open_workers(struct run *run)
{
	struct range usable = space_usable(run->s);
	u64 base = usable.start + range_size(usable) / 2 - working_set(&run->cfg) / 2 * PAGE_SIZE;
	int rc;

	base &= PAGE_MASK;
	run->shared = base - (SHARED_PAGES + 8) * PAGE_SIZE;
	rc = space_map(run->q, run->s, run->shared, SHARED_PAGES * PAGE_SIZE, 3, MAP_F_FIXED,
		       &run->shared);
	run->race = run->shared - (RACE_PAGES + 8) * PAGE_SIZE;
	for (u32 t = 0; t < run->cfg.threads && !rc; t++) {
		struct worker *w = calloc(1, sizeof(*w));

		run->worker[t] = w;
		w->run = run;
		w->id = t;
		w->rng = run->cfg.seed * 0x9e3779b97f4a7c15ull + t * 0x1234567ull + 1;
		w->what = "";
		for (u32 i = 0; i < NR_SLICES; i++) {
			w->slice[i].base =
				base + (u64)(i * run->cfg.threads + t) * SLICE_PAGES * PAGE_SIZE;
			w->slice[i].shadow = calloc(SLICE_PAGES, PAGE_SIZE);
		}
		for (u32 i = 0; i < NR_PINS; i++)
			w->pin[i].copy = malloc(PIN_PAGES * PAGE_SIZE);
	}
	return rc;
}

static void check_counters(struct run *run)
{
	struct worker *w = run->worker[0];
	u64 want = 0, sum = 0;

	for (u32 t = 0; t < run->cfg.threads; t++)
		want += run->worker[t]->sum;
	for (u32 p = 0; p < SHARED_PAGES; p++)
		for (u32 i = 0; i < SHARED_PER_PAGE; i++) {
			u64 v = 0;
			int rc = sim_load(run->m, 0, run->s->ms,
					  run->shared + p * PAGE_SIZE + i * 64, &v, sizeof(v));
			if (rc)
				oracle_wrong(w, "load of a counter gives %d", rc);
			sum += v;
		}
	if (sum != want)
		oracle_wrong(w, "the counters hold %llu, want %llu", (unsigned long long)sum,
			     (unsigned long long)want);
}

static void close_workers(struct run *run)
{
	for (u32 t = 0; t < run->cfg.threads; t++) {
		struct worker *w = run->worker[t];

		for (u32 i = 0; i < NR_SLICES; i++)
			free(w->slice[i].shadow);
		for (u32 i = 0; i < NR_PINS; i++)
			free(w->pin[i].copy);
		for (u32 i = 0; i < NR_CHILDREN; i++)
			child_free(&w->child[i]);
		for (u32 i = 0; i < NR_VIEWS; i++)
			view_free(&w->view[i]);
		free(w);
	}
}

/* After the last space everything is given back, but for the zero page. */
static void check_empty(struct run *run)
{
	struct worker *w = run->worker[0];
	u64 used = machine_has(run->m, CAP_ZERO_PAGE) ? (u64)-1 : 0;

	for (u32 i = 0; i < phys_nr_nodes(run->q); i++)
		used += phys_used(run->q, i);
	w->what = "after the end";
	if (used || cgroup_usage(run->q, CGROUP_ROOT) || swap_used_slots(run->q) ||
	    pt_live_tables(run->q))
		oracle_wrong(w, "left: %llu frames, %llu charged, %llu slots, %llu tables",
			     (unsigned long long)used,
			     (unsigned long long)cgroup_usage(run->q, CGROUP_ROOT),
			     (unsigned long long)swap_used_slots(run->q),
			     (unsigned long long)pt_live_tables(run->q));
	check_instance(w);
}

static void close_instance(struct run *run)
{
	struct worker *w = run->worker[0];
	struct sim_stats st;
	u64 left;

	space_destroy(run->q, run->s);
	qrcu_barrier(run->q);
	lru_drain_all(run->q); /* batches hold references */
	oracle_meta_close(run);
	check_empty(run);
	left = core_destroy(run->q);
	if (left)
		oracle_wrong(w, "%llu bytes of the arena were not given back",
			     (unsigned long long)left);
	sim_stats_get(run->m, &st);
	if (st.mem_bytes || st.staging || st.populated || st.spaces || st.threads || st.files)
		oracle_wrong(
			w,
			"the machine still has %llu bytes, %llu buffers, %llu pages, %llu spaces",
			(unsigned long long)st.mem_bytes, (unsigned long long)st.staging,
			(unsigned long long)st.populated, (unsigned long long)st.spaces);
	run->m->ops->destroy(run->m);
}

/* A run in which no thread ends an operation for long has hung: say where, and leave a core to look
 * at. */
static void *watch(void *p)
{
	struct run *run = p;
	u64 last = 0;
	u32 still = 0;

	while (!a32_read(&run->over)) {
		u64 sum = 0;

		run->m->ops->sleep_ns(run->m, 100000000);
		for (u32 t = 0; t < run->cfg.threads; t++)
			sum += a64_read(&run->worker[t]->alive);
		still = sum == last ? still + 1 : 0;
		last = sum;
		if (still < HUNG_SECONDS * 10)
			continue;
		for (u32 t = 0; t < run->cfg.threads; t++)
			fprintf(stderr,
				"%s: seed %llu, phase %u: thread %u hangs in operation %llu\n",
				run->cfg.name, (unsigned long long)run->cfg.seed, run->phase, t,
				(unsigned long long)a64_read(&run->worker[t]->alive));
		abort();
	}
	return NULL;
}

static void run_workers(struct run *run)
{
	pthread_t watcher;

	pthread_barrier_init(&run->barrier, NULL, run->cfg.threads);
	arm(run);
	pthread_create(&watcher, NULL, watch, run);
	for (u32 t = 1; t < run->cfg.threads; t++)
		pthread_create(&run->worker[t]->thread, NULL, worker_main, run->worker[t]);
	worker_main(run->worker[0]);
	for (u32 t = 1; t < run->cfg.threads; t++)
		pthread_join(run->worker[t]->thread, NULL);
	a32_set(&run->over, 1);
	pthread_join(watcher, NULL);
	pthread_barrier_destroy(&run->barrier);
	for (u32 i = 0; i < NR_INJECT_POINTS; i++)
		inject_off(&run->inject, i);
	run->injecting = false;
}

static u64 from_env(const char *name, u64 otherwise)
{
	const char *v = getenv(name);

	return v && *v ? strtoull(v, NULL, 0) : otherwise;
}

static void complete(struct oracle_config *cfg)
{
	cfg->ops = from_env("QUIRE_PROP_OPS", cfg->ops);
	cfg->seed = from_env("QUIRE_PROP_SEED", cfg->seed);
	if (cfg->threads > 1)
		cfg->threads = (u32)from_env("QUIRE_PROP_THREADS", cfg->threads);
	cfg->threads = cfg->threads > MAX_WORKERS ? MAX_WORKERS : cfg->threads;
	cfg->phases = cfg->phases ? cfg->phases : 8;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

u64 oracle_run(const struct oracle_config *cfg, struct oracle_report *report)
{
	struct run *run = calloc(1, sizeof(*run));
	double start = now();
	u64 wrong;

	memset(report, 0, sizeof(*report));
	run->cfg = *cfg;
	complete(&run->cfg);
	for (u32 i = 0; i < oracle_nr_ops; i++)
		run->weights += oracle_ops[i].weight;
	run->limit = run->cfg.limit_pages ? run->cfg.limit_pages : working_set(&run->cfg) / 6;
	if (open_instance(run) || open_workers(run)) {
		fprintf(stderr, "%s: the instance could not be created\n", cfg->name);
		return 1;
	}
	run_workers(run);
	check_counters(run);
	for (u32 t = 0; t < run->cfg.threads; t++) {
		data_unpin_all(run->worker[t]);
		frames_online_all(run->worker[t]);
		for (u32 i = 0; i < NR_CHILDREN; i++)
			child_exit(run->worker[t], &run->worker[t]->child[i]);
		for (u32 i = 0; i < NR_VIEWS; i++)
			view_exit(run->worker[t], &run->worker[t]->view[i]);
	}
	report->swap_out = stat_read(run->q, STAT_SWAP_OUT_PAGES);
	report->swap_in = stat_read(run->q, STAT_SWAP_IN_PAGES);
	report->migrated = stat_read(run->q, STAT_MIGRATED);
	report->compacted = a64_read(&run->compacted);
	report->offlined = a64_read(&run->offlined);
	report->demoted = stat_read(run->q, STAT_DEMOTED);
	report->promoted = stat_read(run->q, STAT_PROMOTED);
	report->hint_faults = stat_read(run->q, STAT_HINT_FAULTS);
	report->refaults = stat_read(run->q, STAT_REFAULT);
	report->violations = sim_violations(run->m);
	close_instance(run);
	report->ops = a64_read(&run->done);
	report->failed_ops = a64_read(&run->refused);
	report->seconds = now() - start;
	close_workers(run);
	wrong = a64_read(&run->wrong);
	free(run);
	return wrong;
}
