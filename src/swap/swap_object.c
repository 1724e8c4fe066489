/* swap_object.c - the operations of anonymous objects. */
#include "swap/swap_object.h"

#include "swap/swap.h"

static void anon_read(struct object *o, u64 index, u32 n, void *const *bufs, const u64 *values,
		      int *err)
{
	u64 slot[OBJECT_IO_MAX];
	void *buf[OBJECT_IO_MAX];
	int e[OBJECT_IO_MAX];
	u32 where[OBJECT_IO_MAX], nr = 0;

	(void)index;
	for (u32 i = 0; i < n; i++) {
		err[i] = 0;
		if (!values[i]) {
			__builtin_memset(bufs[i], 0, PAGE_SIZE);
			continue;
		}
		slot[nr] = values[i];
		buf[nr] = bufs[i];
		where[nr++] = i;
	}
	if (!nr)
		return;
	swap_read(o->q, slot, nr, buf, e);
	/* The count that the tree had keeps the slot and what is in it: nothing to look up again.
	 */
	for (u32 k = 0; k < nr; k++)
		err[where[k]] = e[k] == -EAGAIN ? -EIO : e[k];
}

static void anon_forget(struct object *o, u64 slot)
{
	swap_put(o->q, slot, 1);
}

static void anon_write(struct object *o, struct folio **folios, const u32 *bytes, u32 n, int *err)
{
	struct folio *go[OBJECT_IO_MAX];
	int e[OBJECT_IO_MAX];
	u32 where[OBJECT_IO_MAX], nr = 0;

	(void)bytes;
	for (u32 i = 0; i < n; i++) {
		struct folio *f = folios[i];

		err[i] = 0;
		if (!folio_test(f, PG_SWAPCACHE)) {
			err[i] = swap_add_folio(o->q, f);
			if (err[i])
				continue;
			swap_dup(o->q, f->swap, folio_nr(f));
		}
		where[nr] = i;
		go[nr++] = f;
	}
	if (!nr)
		return;
	swap_writeout(o->q, go, nr, e);
	for (u32 k = 0; k < nr; k++)
		err[where[k]] = e[k];
}

/* What was written leaves with the slot; what is clean and has none was never written by anybody.
 */
static u64 anon_evicted(struct object *o, struct folio *f, u32 shadow)
{
	u64 slot = f->swap;

	if (!folio_test(f, PG_SWAPCACHE))
		return 0;
	swap_delete_frozen(o->q, f, shadow);
	return slot;
}

static void anon_invalidated(struct object *o, struct folio *f)
{
	if (!folio_test(f, PG_SWAPCACHE))
		return;
	swap_put(o->q, f->swap, folio_nr(f));
	BUG_ON(!swap_try_free_folio(o->q, f));
}

static const struct object_ops anon_ops = {
	.name = "anonymous",
	.read = anon_read,
	.write = anon_write,
	.forget = anon_forget,
	.evicted = anon_evicted,
	.invalidated = anon_invalidated,
};

int object_create_anon(struct quire *q, struct object_config *cfg, struct object **out)
{
	cfg->flags |= OBJECT_ANON;
	return object_create(q, &anon_ops, NULL, cfg, out);
}
