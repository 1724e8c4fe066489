/*
 * quire.c - the public calls: check arguments once, enter the core, then trust.
 *
 * A public handle is an instance on the host machine with the spaces made from it. Locking: every
 * call is bracketed by the gate, so that a fork can wait until nobody is inside.
 */
#include <quire/quire.h>

#include "lib/lib_internal.h"

#define SIZE_LIMIT (1ull << 47)

void api_say(char *msg, size_t size, const char *text)
{
	if (msg && size && !msg[0]) {
		size_t n = min(__builtin_strlen(text), size - 1);

		__builtin_memcpy(msg, text, n);
		msg[n] = '\0';
	}
}

int quire_open(const struct quire_options *opt, quire_t **out, char *msg, size_t msg_size)
{
	static const struct quire_options defaults = { .size = sizeof(defaults) };
	struct host_config hc = { 0 };
	struct core_config cc = { 0 };
	struct machine *m;
	struct api_instance *a;
	int err;

	if (msg && msg_size)
		msg[0] = '\0';
	if (!opt)
		opt = &defaults;
	if (!out || opt->size != sizeof(*opt)) {
		api_say(msg, msg_size, "quire_options: size does not match this version");
		return -EINVAL;
	}
	err = api_check_nodes(opt, msg, msg_size);
	if (err)
		return err;
	hc.region_bytes = opt->region_bytes;
	api_host_nodes(opt, &hc);
	hc.syscall = (long (*)(long, ...))opt->syscall;
	err = machine_host_create(&hc, &m, msg, msg_size);
	if (err)
		return err;
	cc.swap_spec = opt->swap;
	cc.ram_limit_pages = opt->ram_bytes >> PAGE_SHIFT;
	if (opt->ram_bytes && !cc.ram_limit_pages)
		cc.ram_limit_pages = 1;
	api_core_nodes(opt, m, &cc);
	cc.background = opt->background;
	cc.msg = msg;
	cc.msg_size = msg_size;
	err = api_instance_create(m, &cc, opt->handle_sigbus, &a);
	if (err) {
		api_say(msg, msg_size, "not enough memory for an instance");
		m->ops->destroy(m);
		return err;
	}
	for (u32 i = 0; i < QUIRE_NODES_MAX; i++)
		a->physical[i] = i < opt->nr_nodes ? opt->nodes[i].physical : -1;
	*out = (quire_t *)a;
	return 0;
}

void quire_close(quire_t *qt)
{
	struct api_instance *a = api_of(qt);
	struct machine *m = a->q->machine;

	api_instance_destroy(a);
	m->ops->destroy(m);
}

int quire_space_create(quire_t *qt, quire_space_t **out)
{
	return api_space_create(api_of(qt), NULL, (struct api_space **)out);
}

int quire_space_fork(quire_space_t *st, quire_space_t **child)
{
	struct api_space *as = api_space_of(st);

	return child ? api_space_create(as->a, as, (struct api_space **)child) : -EINVAL;
}

void quire_space_destroy(quire_space_t *st)
{
	api_space_destroy(api_space_of(st));
}

void quire_space_range(quire_space_t *st, uint64_t *start, uint64_t *size)
{
	struct range r = space_usable(api_space_of(st)->s);

	*start = r.start;
	*size = range_size(r);
}

/* The bracket of every call below. */
#define ENTER(st)                                \
	struct api_space *as = api_space_of(st); \
	struct quire *q = as->a->q;              \
	struct space *s = as->s;                 \
	gate_enter(&q->gate)
#define LEAVE() gate_exit(&q->gate)

static u64 addr_of(const void *p)
{
	return (u64)(uintptr_t)p;
}

int quire_map(quire_space_t *st, void *hint, size_t size, int prot, int flags, void **out)
{
	u64 at = 0;
	int err;

	if (!out || !size || (flags & ~63) || (prot & ~7))
		return -EINVAL;
	if (size > SIZE_LIMIT)
		return -ENOMEM;
	ENTER(st);
	err = space_map(q, s, addr_of(hint), size, (u32)prot, api_map_flags(flags), &at);
	LEAVE();
	if (!err)
		*out = (void *)(uintptr_t)at;
	return err;
}

int quire_map_object(quire_space_t *st, void *hint, size_t size, int prot, int flags,
		     quire_object_t *ot, uint64_t offset, void **out)
{
	struct api_object *ao = (struct api_object *)ot;
	u64 at = 0;
	int err;

	if (!out || !ao || !size || (flags & ~127) || (prot & ~7) || ao->a != api_space_of(st)->a)
		return -EINVAL;
	if (size > SIZE_LIMIT)
		return -ENOMEM;
	ENTER(st);
	err = space_map_object(q, s, addr_of(hint), size, (u32)prot, api_map_flags(flags), ao->o,
			       offset, &at);
	LEAVE();
	if (!err)
		*out = (void *)(uintptr_t)at;
	return err;
}

int quire_sync(quire_space_t *st, void *addr, size_t size, int flags)
{
	int err;
	ENTER(st);

	err = space_sync(q, s, addr_of(addr), size, (u32)flags);
	LEAVE();
	return err;
}

int quire_unmap(quire_space_t *st, void *addr, size_t size)
{
	int err;
	ENTER(st);

	err = space_unmap(q, s, addr_of(addr), size);
	LEAVE();
	return err;
}

int quire_snapshot(quire_space_t *st, const void *addr, size_t size, int flags, void **out)
{
	u64 at = 0;
	int err;

	if (!out || (flags & ~QUIRE_SNAPSHOT_WRITE))
		return -EINVAL;
	ENTER(st);
	err = space_snapshot(q, s, addr_of(addr), size,
			     flags & QUIRE_SNAPSHOT_WRITE ? SNAPSHOT_F_WRITE : 0, &at);
	LEAVE();
	if (!err)
		*out = (void *)(uintptr_t)at;
	return err;
}

int quire_protect(quire_space_t *st, void *addr, size_t size, int prot)
{
	int err;

	if (prot & ~7)
		return -EINVAL;
	ENTER(st);
	err = space_protect(q, s, addr_of(addr), size, (u32)prot);
	LEAVE();
	return err;
}

int quire_advise(quire_space_t *st, void *addr, size_t size, int advice)
{
	int err;
	ENTER(st);

	err = space_advise(q, s, addr_of(addr), size, advice);
	LEAVE();
	return err;
}

int quire_remap(quire_space_t *st, void *old_addr, size_t old_size, size_t new_size, int flags,
		void *new_addr, void **out)
{
	u64 at = 0;
	int err;

	if (!out || flags < 0)
		return -EINVAL;
	ENTER(st);
	err = space_remap(q, s, addr_of(old_addr), old_size, new_size, (u32)flags,
			  addr_of(new_addr), &at);
	LEAVE();
	if (!err)
		*out = (void *)(uintptr_t)at;
	return err;
}

int quire_mincore(quire_space_t *st, void *addr, size_t size, unsigned char *vec)
{
	int err;

	if (!vec)
		return -EINVAL;
	ENTER(st);
	err = space_mincore(q, s, addr_of(addr), size, vec);
	LEAVE();
	return err;
}

int quire_mlock(quire_space_t *st, void *addr, size_t size, int onfault)
{
	int err;
	ENTER(st);

	err = space_mlock(q, s, addr_of(addr), size, onfault != 0);
	LEAVE();
	return err;
}

int quire_munlock(quire_space_t *st, void *addr, size_t size)
{
	int err;
	ENTER(st);

	err = space_munlock(q, s, addr_of(addr), size);
	LEAVE();
	return err;
}

/* The pages that [addr, addr + size) touches. */
static struct range pages_of(const void *addr, size_t size)
{
	u64 start = addr_of(addr);

	return (struct range){ ALIGN_DOWN(start, PAGE_SIZE), ALIGN_UP(start + size, PAGE_SIZE) };
}

long quire_pin(quire_space_t *st, const void *addr, size_t size, int flags)
{
	u64 start = addr_of(addr);
	long n;

	if (!size || size > SIZE_LIMIT || start > SIZE_LIMIT)
		return size ? -EFAULT : 0;
	ENTER(st);
	n = pin_range(q, &s->fs, pages_of(addr, size),
		      flags & QUIRE_PIN_WRITE ? ACCESS_WRITE : ACCESS_READ);
	LEAVE();
	if (n < 0)
		return n == -ENOMEM || n == -EINVAL ? n : -EFAULT;
	return (long)min((u64)size, ALIGN_DOWN(start, PAGE_SIZE) + ((u64)n << PAGE_SHIFT) - start);
}

void quire_unpin(quire_space_t *st, const void *addr, size_t size)
{
	struct quire *q = api_space_of(st)->a->q;

	if (!size)
		return;
	gate_enter(&q->gate);
	unpin_range(q, pages_of(addr, size));
	gate_exit(&q->gate);
}

int quire_has_area(quire_space_t *st, const void *addr, size_t size)
{
	int has;
	ENTER(st);

	has = space_has_area(q, s, ALIGN_DOWN(addr_of(addr), PAGE_SIZE), max(size, (size_t)1));
	LEAVE();
	return has;
}

int quire_trap(quire_t *qt, const void *addr, int write)
{
	return api_trap(api_of(qt), addr_of(addr), write != 0);
}

int quire_owns(quire_t *qt, const void *addr, size_t size)
{
	return host_owns(api_of(qt)->q->machine, addr_of(addr), size);
}

void quire_fork_prepare(quire_t *qt)
{
	struct quire *q = api_of(qt)->q;

	gate_close(&q->gate);
	swap_fork_prepare(q);
}

void quire_fork_done(quire_t *qt)
{
	gate_open(&api_of(qt)->q->gate);
}

int quire_forked_child(quire_t *qt)
{
	return api_forked_child(api_of(qt));
}

uint64_t quire_check(quire_t *qt)
{
	struct quire *q = api_of(qt)->q;
	u64 bad;

	/* Quiescence includes the background thread. */
	gate_close(&q->gate);
	bad = quire_check_all(q);
	gate_open(&q->gate);
	return bad;
}
