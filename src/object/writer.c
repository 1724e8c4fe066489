/*
 * writer.c - the background writer: dirty pages do not stay in memory alone for ever.
 *
 * One thread for each instance that asks for it. It sleeps while nothing is dirty; else it looks
 * every quarter of the age at each object's time of becoming dirty. An object is written as a
 * whole, because its time is that of its oldest dirty page.
 */
#include "object/object_internal.h"

#define TICK_MAX_NS 50000000ull /* how long stopping may take */

/* A further reference, unless the last one is gone. */
static bool get_live(struct object *o)
{
	return a32_add_unless(&o->ref, 1, 0);
}

static bool expired(struct object *o, u64 now, u64 age)
{
	u64 since;

	spin_lock(&o->lock);
	since = o->dirtied_ns;
	spin_unlock(&o->lock);
	return since && now - since >= age;
}

/* The object behind `after` (NULL: the first), referenced. Drops the reference of `after`. */
static struct object *next_live(struct quire *q, struct object *after)
{
	struct objects *os = q->objects;
	struct object *found = NULL;

	spin_lock(&os->lock);
	for (struct list *pos = after ? after->link.next : os->list.next; pos != &os->list;
	     pos = pos->next) {
		found = list_entry(pos, struct object, link);
		if (get_live(found))
			break;
		found = NULL;
	}
	spin_unlock(&os->lock);
	if (after)
		object_put(after);
	return found;
}

static void write_expired(struct quire *q, u64 age)
{
	u64 now = q->machine->ops->now_ns(q->machine);
	struct object *o = NULL;

	while ((o = next_live(q, o)))
		if (expired(o, now, age))
			(void)!object_writeback(o, 0, OBJECT_INDEX_MAX, OBJECT_WB_NONE);
}

static bool over_limit(struct objects *os)
{
	return os->dirty_limit && a64_read(&os->nr_dirty) > os->dirty_limit;
}

static void writer(void *arg)
{
	struct quire *q = arg;
	struct objects *os = q->objects;
	u64 tick = min(os->age_ns / 4 + 1, TICK_MAX_NS);

	for (;;) {
		u32 told = 1;

		while (a32_read(&os->word) == 0)
			base_park(&os->word.raw, 0);
		if (a32_read_acquire(&os->word) == 2)
			return;
		gate_enter(&q->gate);
		write_expired(q, over_limit(os) ? 0 : os->age_ns);
		gate_exit(&q->gate);
		/* Asleep first, then look: who dirties the first page after that sees it asleep. */
		a32_cmpxchg(&os->word, &told, 0);
		if (a64_read(&os->nr_dirty)) {
			told = 0;
			a32_cmpxchg(&os->word, &told, 1);
			q->machine->ops->sleep_ns(q->machine, tick);
		}
	}
}

int objects_start_writer(struct quire *q, u32 age_ms, u64 dirty_limit)
{
	struct objects *os = q->objects;
	int err;

	if (a32_read(&os->running))
		return -EALREADY;
	os->age_ns = (u64)age_ms * 1000000;
	os->dirty_limit = dirty_limit;
	a32_set(&os->word, a64_read(&os->nr_dirty) ? 1 : 0);
	err = q->machine->ops->thread_start(q->machine, writer, q, &os->thread);
	if (!err)
		a32_set_release(&os->running, 1);
	return err;
}

void objects_stop_writer(struct quire *q)
{
	struct objects *os = q->objects;

	if (!a32_xchg(&os->running, 0))
		return;
	a32_xchg(&os->word, 2);
	base_wake(&os->word.raw, 1);
	q->machine->ops->thread_join(q->machine, os->thread);
	os->thread = NULL;
}

void objects_forked_child(struct quire *q)
{
	struct objects *os = q->objects;

	os->thread = NULL;
	a32_set(&os->word, 0);
	a32_set(&os->running, 0);
	list_for_each(pos, &os->list) {
		struct object *o = list_entry(pos, struct object, link);

		o->flags |= OBJECT_GONE;
	}
}

void objects_forked_empty(struct quire *q)
{
	list_for_each(pos, &q->objects->list)
		object_empty(list_entry(pos, struct object, link));
}

/* Who dirties more than the writer gets rid of writes some of it. */
void object_balance_dirty(struct object *o)
{
	struct objects *os = o->q->objects;

	lock_assert_may_sleep();
	if (a32_read(&os->running) && over_limit(os))
		(void)!object_writeback(o, 0, OBJECT_INDEX_MAX, OBJECT_WB_NONE);
}
