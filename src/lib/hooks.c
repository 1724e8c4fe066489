/*
 * hooks.c - the caller's hooks for metadata beside the bytes, in terms of public handles.
 *
 * They run where the core's do (swap/meta.h): with spin locks held, in fault handlers too. Hence
 * the lookup of the space's handle takes no lock.
 */
#include "lib/lib_internal.h"
#include "swap/meta.h"

/* NULL: it is being destroyed, nobody finds it any more. */
static quire_space_t *handle_of(struct api_instance *a, void *space)
{
	quire_space_t *found = NULL;

	qrcu_read_lock();
	for (u32 i = 0; i < API_MAX_SPACES && !found; i++) {
		struct api_space *as = aptr_read_acquire(&a->space[i]);

		if (as && as->s == space)
			found = (quire_space_t *)as;
	}
	qrcu_read_unlock();
	return found;
}

static struct quire_swapped_page page_of(struct api_instance *a, const struct meta_page *p)
{
	return (struct quire_swapped_page){
		.space = handle_of(a, p->space),
		.addr = (void *)(uintptr_t)p->va,
		.frame = p->pfn,
		.slot = p->slot,
	};
}

static int hook_save(void *ctx, const struct meta_page *p)
{
	struct api_instance *a = ctx;
	struct quire_swapped_page page = page_of(a, p);

	return a->hooks.save(a->hooks_ctx, &page) ? -EBUSY : 0;
}

static void hook_restore(void *ctx, const struct meta_page *p)
{
	struct api_instance *a = ctx;
	struct quire_swapped_page page = page_of(a, p);

	a->hooks.restore(a->hooks_ctx, &page);
}

static void hook_drop(void *ctx, u64 slot)
{
	struct api_instance *a = ctx;

	a->hooks.drop(a->hooks_ctx, slot);
}

static void hook_copy(void *ctx, u64 to_pfn, u64 from_pfn)
{
	struct api_instance *a = ctx;

	if (a->hooks.copy)
		a->hooks.copy(a->hooks_ctx, to_pfn, from_pfn);
}

static const struct meta_ops hook_ops = {
	.save = hook_save,
	.restore = hook_restore,
	.drop = hook_drop,
	.copy = hook_copy,
};

int quire_swap_hooks(quire_t *qt, const struct quire_swap_hooks *hooks, void *ctx)
{
	struct api_instance *a = api_of(qt);

	if (!hooks || hooks->size != sizeof(*hooks) || !hooks->save || !hooks->restore ||
	    !hooks->drop)
		return -EINVAL;
	if (meta_wanted(a->q))
		return -EBUSY;
	for (u32 i = 0; i < API_MAX_SPACES; i++)
		if (aptr_read(&a->space[i]))
			return -EBUSY;
	a->hooks = *hooks;
	a->hooks_ctx = ctx;
	meta_register(a->q, &hook_ops, a);
	return 0;
}
