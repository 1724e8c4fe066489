/* scenario_env.c - the instance that a scenario runs on: made, checked, taken down. */
#include "explore/scenario_env.h"

#include <stdarg.h>
#include <stdio.h>

#include "api/core.h"
#include "object/object.h"
#include "reclaim/reclaim_internal.h"
#include "swap/swap_internal.h"

#define NR_CPUS 4u

static u32 caps_of(enum scenario_kind kind)
{
	switch (kind) {
	case ON_HW:
		return CAP_RANGE_FLUSH | CAP_ZERO_PAGE | CAP_HW_AD;
	case ON_SW:
		return CAP_RANGE_FLUSH | CAP_ZERO_PAGE;
	default:
		return CAP_RANGE_FLUSH | CAP_HOME | CAP_FLUSH_UNDER_LOCK | CAP_AREA_PROTECT;
	}
}

/* Frames of two nodes are two halves; home frames are of the node that their page is said to be
 * on. */
static void describe_nodes(const struct scenario *sc, enum scenario_kind kind,
			   struct phys_config *pc)
{
	u64 frames = kind == ON_HOME ? 0 : XM_BLOCKS * PTRS_PER_TABLE;

	pc->nr_nodes = sc->tiers ? 2 : 1;
	for (u32 i = 0; i < pc->nr_nodes; i++) {
		pc->node[i].base_pfn = i * frames / pc->nr_nodes;
		pc->node[i].span = frames / pc->nr_nodes;
		pc->node[i].capacity = ~0ull;
		pc->node[i].tier = i;
	}
}

struct env *env_open(const struct scenario *sc, enum scenario_kind kind)
{
	struct env *e = x_alloc(sizeof(*e), 64);
	struct xm_config mc = {
		.caps = caps_of(kind) | (kind == ON_HOME ? 0 : sc->caps) |
			(kind == ON_HOME && sc->tiers ? CAP_PARK : 0),
		.nr_cpus = NR_CPUS,
		.units = sc->units | sc->devices,
		.devices = sc->devices,
		.evict = sc->evict,
		.spurious = sc->spurious,
	};
	struct core_config cc = {
		.swap_spec = sc->swap ? sc->swap : "file:swap:64K",
	};

	e->scenario = sc;
	e->kind = kind;
	inject_init(&e->inject);
	phys_pieces_init(&e->kept);
	e->m = xm_create(&mc);
	e->m->inject = &e->inject;
	describe_nodes(sc, kind, &cc.phys);
	must(!core_create(&e->q, e->m, &cc), "the core cannot be created");
	must(!space_create(e->q, CGROUP_ROOT, 0, &e->s), "the space cannot be created");
	return e;
}

struct watched_unit {
	struct machine *m;
	unsigned unit;
};

static void print_unit(void *arg, char *buf, size_t n)
{
	struct watched_unit *w = arg;

	xm_print_tlb(w->m, w->unit, buf, n);
}

/* Counters that nothing depends on: runs that differ in them alone are the same. */
static void forget_statistics(struct env *e)
{
	struct tiers *t = &e->q->reclaim->tier;
	struct swap *sw = e->q->swap;

	x_unhashed(e->q->stats, MAX_CPUS * sizeof(*e->q->stats));
	x_unhashed(&e->s->fs.rs.tlb.flushes, sizeof(a64_t));
	x_unhashed(t->node, sizeof(t->node));
	/* The clock of hints stands still: a tick of it is more pages than there are here. */
	x_unhashed(&t->clock, sizeof(t->clock));
	for (u32 i = 0; i < sw->nr_stores; i++)
		x_unhashed(&sw->store[i]->writes, 4 * sizeof(a64_t));
}

/* Batches hold references, and deferred frees wait: neither is part of the picture. */
void env_ready(struct env *e)
{
	lru_drain_all(e->q);
	qrcu_barrier(e->q);
	forget_statistics(e);
	for (u32 i = 0; i < XM_UNITS; i++) {
		struct watched_unit *w;

		if (!((e->scenario->units | e->scenario->devices) & BIT(i)))
			continue;
		w = x_alloc(sizeof(*w), 8);
		w->m = e->m;
		w->unit = i;
		x_watch("TLB", xm_unit_name(e->m, i), print_unit, w);
	}
	xm_start_agents(e->m);
}

void must(bool holds, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (holds)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	x_fail("%s", text);
}

struct live {
	struct quire *q;
	u64 pages;
};

static void count_live(void *ctx, struct folio *f)
{
	struct live *l = ctx;

	if (f != fault_zero_folio(l->q))
		l->pages += folio_nr(f);
}

/* Whatever lives is paid for, and nothing else. */
static void check_charges(struct env *e)
{
	struct live l = { .q = e->q };
	u64 usage = cgroup_usage(e->q, CGROUP_ROOT);

	phys_for_each_folio(e->q, count_live, &l);
	must(usage == l.pages, "%llu pages are charged, %llu live", (unsigned long long)usage,
	     (unsigned long long)l.pages);
}

/* A broken invariant is reported where it is found. */
void env_close(struct env *e)
{
	struct quire *q = e->q;

	phys_pieces_put(q, 0, &e->kept);
	must(!quire_check_all(q), "the core's invariants do not hold");
	check_charges(e);
	for (u32 n = 0; n < ARRAY_SIZE(e->child); n++)
		if (e->child[n])
			space_destroy(q, e->child[n]);
	if (e->s)
		space_destroy(q, e->s);
	if (e->object)
		object_put(e->object);
	must(!quire_check_all(q), "the core's invariants do not hold once the space is gone");
	must(!cgroup_usage(q, CGROUP_ROOT), "%llu pages are charged though the space is gone",
	     (unsigned long long)cgroup_usage(q, CGROUP_ROOT));
	must(!swap_used_slots(q), "%llu swap slots are in use though the space is gone",
	     (unsigned long long)swap_used_slots(q));
	qrcu_barrier(q);
	must(!rmap_live_objects(q), "anon_vmas or chains are left");
	must(!core_destroy(q), "the core's memory leaks");
	e->m->ops->destroy(e->m);
}
