/*
 * object.c - the public calls on objects. Reads and writes touch the caller's buffer inside the
 * gate; a fault there enters it once more, which it allows.
 */
#include <quire/quire.h>

#include "base/arena.h"
#include "lib/lib_internal.h"
#include "machine/machine.h"
#include "object/file.h"
#include "swap/swap_object.h"

#define WRITER_AGE_MS 5000u

static struct api_object *api_object_of(void *ot)
{
	return ot;
}

/* The handle of a new object, which is consumed. */
static int handle_new(struct api_instance *a, struct object *o, quire_object_t **out)
{
	struct api_object *ao = arena_zalloc(a->q->arena, sizeof(*ao));

	if (!ao) {
		object_put(o);
		return -ENOMEM;
	}
	ao->a = a;
	ao->o = o;
	a32_init(&ao->since, object_error_sample(o));
	mutex_lock(&a->lock);
	list_add_tail(&ao->link, &a->objects);
	mutex_unlock(&a->lock);
	*out = (quire_object_t *)ao;
	return 0;
}

/* Objects live in plain frames. */
static bool frames_for_objects(struct api_instance *a)
{
	return !machine_has(a->q->machine, CAP_HOME) || machine_has(a->q->machine, CAP_PLAIN);
}

/* The first file wants the writer, where there is a thread in the background at all. A refusal only
 * means that pages are written later. */
static void want_writer(struct api_instance *a)
{
	if (!a->background)
		return;
	mutex_lock(&a->lock);
	(void)!objects_start_writer(a->q, WRITER_AGE_MS, 0);
	mutex_unlock(&a->lock);
}

int quire_object_open(quire_t *qt, const char *path, int flags, quire_object_t **out)
{
	struct api_instance *a = api_of(qt);
	struct object_config cfg = { .size = 0 };
	struct object *o;
	u32 how = 0;
	int err;

	if (!path || !out || (flags & ~7) ||
	    (flags & QUIRE_OBJECT_READONLY && flags & ~QUIRE_OBJECT_READONLY))
		return -EINVAL;
	if (!frames_for_objects(a))
		return -EOPNOTSUPP;
	how |= flags & QUIRE_OBJECT_CREATE ? FILE_CREATE : 0;
	how |= flags & QUIRE_OBJECT_TRUNCATE ? FILE_TRUNCATE : 0;
	how |= flags & QUIRE_OBJECT_READONLY ? FILE_READONLY : 0;
	gate_enter(&a->q->gate);
	err = object_open_file(a->q, path, how, &cfg, &o);
	if (!err)
		err = handle_new(a, o, out);
	if (!err)
		want_writer(a);
	gate_exit(&a->q->gate);
	return err;
}

int quire_object_create(quire_t *qt, uint64_t size, quire_object_t **out)
{
	struct api_instance *a = api_of(qt);
	struct object_config cfg = { .size = size };
	struct object *o;
	int err;

	if (!out)
		return -EINVAL;
	if (!frames_for_objects(a))
		return -EOPNOTSUPP;
	gate_enter(&a->q->gate);
	err = object_create_anon(a->q, &cfg, &o);
	if (!err)
		err = handle_new(a, o, out);
	gate_exit(&a->q->gate);
	return err;
}

static int handle_close(struct api_object *ao)
{
	struct api_instance *a = ao->a;
	u32 since = a32_read(&ao->since);
	int err = object_error_check(ao->o, &since);

	object_put(ao->o);
	arena_free(a->q->arena, ao, sizeof(*ao));
	return err;
}

int quire_object_close(quire_object_t *ot)
{
	struct api_object *ao = api_object_of(ot);
	struct api_instance *a = ao->a;
	int err;

	gate_enter(&a->q->gate);
	mutex_lock(&a->lock);
	list_del(&ao->link);
	mutex_unlock(&a->lock);
	err = handle_close(ao);
	gate_exit(&a->q->gate);
	return err;
}

void api_objects_close(struct api_instance *a)
{
	while (!list_empty(&a->objects)) {
		struct api_object *ao = list_first(&a->objects, struct api_object, link);

		list_del(&ao->link);
		(void)!handle_close(ao);
	}
}

/* The bracket of every call below. */
#define ENTER(ot)                                  \
	struct api_object *ao = api_object_of(ot); \
	struct quire *q = ao->a->q;                \
	struct object *o = ao->o;                  \
	gate_enter(&q->gate)
#define LEAVE() gate_exit(&q->gate)

uint64_t quire_object_size(quire_object_t *ot)
{
	return object_size(api_object_of(ot)->o);
}

int quire_object_truncate(quire_object_t *ot, uint64_t size)
{
	int err;
	ENTER(ot);

	err = object_truncate(o, size);
	LEAVE();
	return err;
}

int quire_object_punch(quire_object_t *ot, uint64_t offset, uint64_t size)
{
	int err;
	ENTER(ot);

	err = object_punch(o, offset, size);
	LEAVE();
	return err;
}

int quire_object_sync(quire_object_t *ot, uint64_t offset, uint64_t size)
{
	u64 last = OBJECT_INDEX_MAX;
	u32 since;
	int err;
	ENTER(ot);

	/* Two threads that sync at once may both report an error. */
	since = a32_read(&ao->since);
	if (size && size - 1 <= ~0ull - offset)
		last = (offset + size - 1) >> PAGE_SHIFT;
	err = object_sync(o, offset >> PAGE_SHIFT, min(last, (u64)OBJECT_INDEX_MAX), &since);
	a32_set(&ao->since, since);
	LEAVE();
	return err;
}

int64_t quire_object_read(quire_object_t *ot, uint64_t offset, void *buf, size_t size)
{
	int64_t n;
	ENTER(ot);

	n = object_read(o, offset, buf, size, &ao->ra);
	LEAVE();
	return n;
}

int64_t quire_object_write(quire_object_t *ot, uint64_t offset, const void *buf, size_t size)
{
	int64_t n;
	ENTER(ot);

	n = object_write(o, offset, buf, size);
	LEAVE();
	return n;
}
