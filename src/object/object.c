/* object.c - the instance's part, and objects from creation to their last reference. */
#include "object/object_internal.h"

#include "base/arena.h"

int objects_create(struct quire *q)
{
	struct objects *os = arena_zalloc(q->arena, sizeof(*os));

	if (!os)
		return -ENOMEM;
	spin_init(&os->lock, LOCK_OBJECTS);
	list_init(&os->list);
	q->objects = os;
	return 0;
}

void objects_destroy(struct quire *q)
{
	objects_stop_writer(q);
	BUG_ON(q->objects->nr);
	arena_free(q->arena, q->objects, sizeof(*q->objects));
	q->objects = NULL;
}

void objects_register(struct quire *q, const struct object_upcalls *up)
{
	q->objects->up = *up;
}

u64 objects_live(struct quire *q)
{
	u64 nr;

	spin_lock(&q->objects->lock);
	nr = q->objects->nr;
	spin_unlock(&q->objects->lock);
	return nr;
}

void objects_for_each(struct quire *q, void (*fn)(void *ctx, struct object *o), void *ctx)
{
	list_for_each(pos, &q->objects->list)
		fn(ctx, list_entry(pos, struct object, link));
}

static void list_object(struct object *o, bool in)
{
	struct objects *os = o->q->objects;

	spin_lock(&os->lock);
	if (in)
		list_add_tail(&o->link, &os->list);
	else
		list_del(&o->link);
	os->nr = in ? os->nr + 1 : os->nr - 1;
	spin_unlock(&os->lock);
}

int object_create(struct quire *q, const struct object_ops *ops, void *data,
		  const struct object_config *cfg, struct object **out)
{
	struct object *o;

	*out = NULL;
	if (cfg->size > OBJECT_SIZE_MAX)
		return -EINVAL;
	o = arena_zalloc(q->arena, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->q = q;
	o->ops = ops;
	o->data = data;
	o->flags = cfg->flags;
	o->cgroup = cfg->cgroup ? cfg->cgroup : CGROUP_ROOT;
	o->node = cfg->node;
	a64_init(&o->frames, cfg->frames);
	a32_init(&o->ref, 1);
	a64_init(&o->size, cfg->size);
	a32_init(&o->error, 0);
	rwsem_init(&o->invalidate, LOCK_OBJECT_INVALIDATE);
	rwsem_init(&o->mmap, LOCK_OBJECT_MMAP);
	itree_init(&o->areas);
	spin_init(&o->lock, LOCK_OBJECT_TREE);
	radix_init(&o->pages, q);
	list_object(o, true);
	*out = o;
	return 0;
}

u64 object_prefer_frames(struct object *o, u64 pfn)
{
	u64 none = 0;

	return a64_cmpxchg(&o->frames, &none, pfn) ? pfn : none;
}

/* The writer may have found the object in the list: it takes references from there (not from 0). */
void object_put(struct object *o)
{
	struct quire *q = o->q;
	u32 left = a32_sub_return(&o->ref, 1);

	BUG_ON(left + 1 == 0);
	if (left)
		return;
	list_object(o, false);
	BUG_ON(!itree_empty(&o->areas));
	/* Nobody is left to tell: an error is counted, and the pages are lost as their user, who
	 * did not sync, must expect. */
	if (!object_is_anon(o) && !(o->flags & (OBJECT_READONLY | OBJECT_GONE)))
		(void)!object_writeback(o, 0, OBJECT_INDEX_MAX, OBJECT_WB_SYNC);
	object_empty(o);
	if (o->ops->release)
		o->ops->release(o);
	/* Lookups by folio_object hold a folio of the object locked or mapped: there is none. */
	radix_destroy(&o->pages);
	arena_free(q->arena, o, sizeof(*o));
	qrcu_poll(q);
}

void folio_zero_bytes(struct object *o, struct folio *f, u64 from, u64 to)
{
	while (from < to) {
		u64 in_page = from & (PAGE_SIZE - 1);
		u64 n = min(to - from, PAGE_SIZE - in_page);

		__builtin_memset((char *)page_bytes(o, f, (u32)(from >> PAGE_SHIFT)) + in_page, 0,
				 n);
		from += n;
	}
}
