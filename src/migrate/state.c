/* state.c - what an instance has for migration. */
#include "base/arena.h"
#include "migrate/migrate_internal.h"

int migrate_create(struct quire *q)
{
	struct migrate_state *s = arena_zalloc(q->arena, sizeof(*s));

	q->migrate = s;
	if (!s)
		return -ENOMEM;
	spin_init(&s->copier.lock, LOCK_COPIER);
	balloon_create(q);
	return 0;
}

void migrate_register(struct quire *q, const struct migrate_upcalls *up)
{
	q->migrate->up = up;
}

void migrate_destroy(struct quire *q)
{
	copier_stop(q);
	balloon_destroy(q);
	arena_free(q->arena, q->migrate, sizeof(*q->migrate));
	q->migrate = NULL;
}

u32 migrate_step_begin(struct quire *q)
{
	return q->migrate->up ? q->migrate->up->step_begin(q) : 0;
}

void migrate_step_end(struct quire *q, u32 phase)
{
	if (q->migrate->up)
		q->migrate->up->step_end(q, phase);
}
