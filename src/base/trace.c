/*
 * trace.c - rings of events.
 *
 * A slot's seq is even when the slot is whole, odd while it is written; it grows with every use. A
 * writer claims the slot by making seq odd; one that finds it odd already (it lapped a slow writer)
 * drops its event. A reader takes the words between two equal even reads of seq.
 *
 * Rings are replaced and freed under RCU: trace_emit runs in a read section.
 */
#include "base/trace.h"
#include "base/arena.h"
#include "base/quire.h"

#include <string.h>

struct trace_slot {
	a64_t seq; /* 0: never used */
	a64_t time;
	a64_t order; /* ticket: total order of events where clocks tie */
	a64_t what;  /* event << 32 | cpu */
	a64_t arg[3];
	u64 pad;
};

struct trace_rings {
	u32 records; /* (C) per CPU, a power of two */
	u32 pages;   /* (C) of this structure */
	struct {
		a64_t next;
	} cacheline_aligned cpu[MAX_CPUS];
	struct trace_slot slot[];
};

struct trace {
	aptr_t rings;	 /* NULL: off */
	struct mutex lock; /* LOCK_TRACE: one enable or disable at a time */
	a64_t order;
	u64 (*clock)(void *ctx); /* (C) once tracing is on */
	void *clock_ctx;	 /* (C) */
};

static const struct {
	const char *name;
	const char *format;
} events[NR_TRACE_EVENTS] = {
#define EVENT(n, f) [EV_##n] = { .name = #n, .format = (f) },
#include "base/trace.def"
#undef EVENT
};

const char *trace_event_name(enum trace_event ev)
{
	return ev < NR_TRACE_EVENTS ? events[ev].name : "?";
}

const char *trace_event_format(enum trace_event ev)
{
	return ev < NR_TRACE_EVENTS ? events[ev].format : "?";
}

struct trace *trace_create(struct arena *a)
{
	struct trace *t = arena_zalloc(a, sizeof(*t));

	if (t)
		mutex_init(&t->lock, LOCK_TRACE);
	return t;
}

void trace_set_clock(struct quire *q, u64 (*clock)(void *ctx), void *ctx)
{
	q->trace->clock_ctx = ctx;
	q->trace->clock = clock;
}

bool trace_on(const struct quire *q)
{
	return q->trace && aptr_read(&q->trace->rings);
}

/* Frees what is not current any more. LOCKING: none held; waits for a grace period. */
static void rings_free(struct quire *q, struct trace_rings *old)
{
	if (!old)
		return;
	qrcu_synchronize();
	arena_pages_free(q->arena, old, old->pages);
}

int trace_enable(struct quire *q, u32 records)
{
	struct trace_rings *rings, *old;
	u32 n = 16, pages;

	while (n < records && n < 1u << 20)
		n *= 2;
	pages = (u32)DIV_UP(sizeof(*rings) + (size_t)n * MAX_CPUS * sizeof(struct trace_slot),
			    PAGE_SIZE);
	rings = arena_pages(q->arena, pages);
	if (!rings)
		return -ENOMEM;
	rings->records = n;
	rings->pages = pages;
	mutex_lock(&q->trace->lock);
	old = aptr_xchg(&q->trace->rings, rings);
	mutex_unlock(&q->trace->lock);
	rings_free(q, old);
	return 0;
}

void trace_disable(struct quire *q)
{
	struct trace_rings *old;

	if (!q->trace)
		return;
	mutex_lock(&q->trace->lock);
	old = aptr_xchg(&q->trace->rings, NULL);
	mutex_unlock(&q->trace->lock);
	rings_free(q, old);
}

static struct trace_slot *slot_claim(struct trace_rings *r, u32 cpu, u64 *seq)
{
	u64 n = a64_fetch_add(&r->cpu[cpu].next, 1);
	struct trace_slot *s = &r->slot[(u64)cpu * r->records + (n & (r->records - 1))];

	*seq = a64_read(&s->seq);
	if ((*seq & 1) || !a64_cmpxchg(&s->seq, seq, *seq + 1))
		return NULL;
	return s;
}

void trace_emit(struct quire *q, enum trace_event ev, u64 a, u64 b, u64 c)
{
	struct trace *t = q->trace;
	struct trace_rings *r;
	struct trace_slot *s = NULL;
	u32 cpu = base_cpu();
	u64 seq;

	qrcu_read_lock();
	r = rcu_dereference(&t->rings);
	if (r)
		s = slot_claim(r, cpu, &seq);
	if (s) {
		a64_set(&s->time, t->clock ? t->clock(t->clock_ctx) : 0);
		a64_set(&s->order, a64_fetch_add(&t->order, 1));
		a64_set(&s->what, (u64)ev << 32 | cpu);
		a64_set(&s->arg[0], a);
		a64_set(&s->arg[1], b);
		a64_set(&s->arg[2], c);
		a64_set_release(&s->seq, seq + 2);
	}
	qrcu_read_unlock();
}

struct found {
	struct trace_record rec;
	u64 order;
};

/* False: unused or being written. */
static bool slot_read(const struct trace_slot *s, struct found *f)
{
	u64 seq = a64_read_acquire(&s->seq);
	u64 what;

	if (!seq || (seq & 1))
		return false;
	/* Acquire loads keep the second look at seq behind them. */
	f->rec.time_ns = a64_read_acquire(&s->time);
	f->order = a64_read_acquire(&s->order);
	what = a64_read_acquire(&s->what);
	for (u32 i = 0; i < 3; i++)
		f->rec.arg[i] = a64_read_acquire(&s->arg[i]);
	f->rec.event = (u32)(what >> 32);
	f->rec.cpu = (u32)what;
	return a64_read(&s->seq) == seq;
}

/* The oldest record of one CPU from *pos on with an order of at least `from`; *pos stays on it. */
static bool ring_oldest(struct trace_rings *r, u32 cpu, u64 *pos, u64 end, u64 from,
			struct found *f)
{
	for (; *pos < end; ++*pos) {
		const struct trace_slot *s =
			&r->slot[(u64)cpu * r->records + (*pos & (r->records - 1))];

		if (slot_read(s, f) && f->order >= from)
			return true;
	}
	return false;
}

u64 trace_dump(struct quire *q, void (*fn)(void *ctx, const struct trace_record *r), void *ctx)
{
	u64 pos[MAX_CPUS], end[MAX_CPUS];
	struct trace_rings *r;
	u64 passed = 0, from = 0;

	if (!q->trace)
		return 0;
	qrcu_read_lock();
	r = rcu_dereference(&q->trace->rings);
	for (u32 i = 0; r && i < MAX_CPUS; i++) {
		end[i] = a64_read(&r->cpu[i].next);
		pos[i] = end[i] > r->records ? end[i] - r->records : 0;
	}
	for (; r;) {
		struct found best, f;
		bool any = false;

		for (u32 i = 0; i < MAX_CPUS; i++) {
			if (!ring_oldest(r, i, &pos[i], end[i], from, &f))
				continue;
			if (!any || f.order < best.order)
				best = f;
			any = true;
		}
		if (!any)
			break;
		from = best.order + 1;
		fn(ctx, &best.rec);
		passed++;
	}
	qrcu_read_unlock();
	return passed;
}
