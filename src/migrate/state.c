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
	return 0;
}

void migrate_destroy(struct quire *q)
{
	copier_stop(q);
	arena_free(q->arena, q->migrate, sizeof(*q->migrate));
	q->migrate = NULL;
}

void migrate_register(struct quire *q, const struct migrate_upcalls *ops)
{
	q->migrate->ops = ops;
}

u32 migrate_step_begin(struct quire *q)
{
	return q->migrate->ops ? q->migrate->ops->step_begin(q) : 0;
}

void migrate_step_end(struct quire *q, u32 phase)
{
	if (q->migrate->ops)
		q->migrate->ops->step_end(q, phase);
}
