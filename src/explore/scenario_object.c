/*
 * scenario_object.c - what actors do with a file and its areas.
 *
 * Lock fidelity as in scenario_verbs.c: each verb is a call of the product in the core's gate
 * (lib/object.c).
 */
#include <string.h>

#include "explore/scenario_env.h"
#include "machine/explored/explored.h"
#include "object/file.h"

void file(struct env *e, u64 pages)
{
	struct object_config cfg = { .size = 0 };

	must(!object_open_file(e->q, "file", FILE_CREATE, &cfg, &e->object), "set-up: open");
	must(!object_truncate(e->object, pages << PAGE_SHIFT), "set-up: size");
}

void file_area(struct env *e, u64 va, u64 pages, unsigned prot, bool shared)
{
	u64 at;

	must(!space_map_object(e->q, e->s, va, pages << PAGE_SHIFT, prot,
			       MAP_F_FIXED | (shared ? MAP_F_SHARED : 0), e->object, 0, &at),
	     "set-up: map the file");
	/* One page a fault: pictures are of pages. */
	must(!do_advise(e, va, pages, ADVISE_RANDOM), "set-up: advise");
}

int do_file_store(struct env *e, u64 page, u64 value)
{
	s64 n;

	gate_enter(&e->q->gate);
	n = object_write(e->object, page << PAGE_SHIFT, &value, sizeof(value));
	gate_exit(&e->q->gate);
	return n == sizeof(value) ? 0 : (int)n;
}

s64 do_file_load(struct env *e, u64 page, u64 *value)
{
	s64 n;

	gate_enter(&e->q->gate);
	n = object_read(e->object, page << PAGE_SHIFT, value, sizeof(*value), NULL);
	gate_exit(&e->q->gate);
	return n;
}

int do_truncate(struct env *e, u64 pages)
{
	int rc;

	gate_enter(&e->q->gate);
	rc = object_truncate(e->object, pages << PAGE_SHIFT);
	gate_exit(&e->q->gate);
	return rc;
}

int do_punch(struct env *e, u64 page, u64 pages)
{
	int rc;

	gate_enter(&e->q->gate);
	rc = object_punch(e->object, page << PAGE_SHIFT, pages << PAGE_SHIFT);
	gate_exit(&e->q->gate);
	return rc;
}

int do_fsync(struct env *e)
{
	int rc;

	gate_enter(&e->q->gate);
	rc = object_sync(e->object, 0, OBJECT_INDEX_MAX, NULL);
	gate_exit(&e->q->gate);
	return rc;
}

u64 disk(struct env *e, u64 page)
{
	return xm_file_word(e->m, page);
}
