/*
 * object_env.h - an instance with a simulated machine, and objects whose medium is an array that
 * the test sees: each page of it, what was asked of it, and errors on demand.
 *
 * Locking: the medium has a mutex of its own; set up and taken down by one thread.
 */
#ifndef QUIRE_TESTS_OBJECT_ENV_H
#define QUIRE_TESTS_OBJECT_ENV_H

#include <pthread.h>
#include <stdlib.h>

#include "core_env.h"
#include "object/object.h"

#define MEDIUM_PAGES 4096u

struct medium {
	pthread_mutex_t lock;
	u8 *bytes;
	u64 size;
	u64 reads, writes, write_calls, syncs;
	int fail_write, fail_read, fail_resize, fail_zero, fail_sync; /* the error, or 0 */
	u64 fail_index;                                               /* only this page; ~0: all */
	bool released;
	/* Runs in the middle of each write, without the lock. */
	void (*in_write)(void *ctx, u64 index);
	void *ctx;
};

static inline struct medium *medium_of(struct object *o)
{
	return o->data;
}

static inline int medium_error(struct medium *d, int err, u64 index)
{
	return err && (d->fail_index == ~0ull || d->fail_index == index) ? err : 0;
}

static inline void medium_read(struct object *o, u64 index, u32 n, void *const *bufs,
			       const u64 *values, int *err)
{
	struct medium *d = medium_of(o);

	(void)values;
	pthread_mutex_lock(&d->lock);
	for (u32 i = 0; i < n; i++) {
		err[i] = medium_error(d, d->fail_read, index + i);
		memcpy(bufs[i], d->bytes + PG(index + i), PAGE_SIZE);
		d->reads++;
	}
	pthread_mutex_unlock(&d->lock);
}

/* From a page that a pin's owner may write meanwhile. */
static inline void medium_copy(u8 *to, const void *from, u32 bytes)
{
	u32 i = 0;

	for (; i + 8 <= bytes; i += 8) {
		u64 w = __atomic_load_n((const u64 *)((const u8 *)from + i), __ATOMIC_RELAXED);

		memcpy(to + i, &w, 8);
	}
	memcpy(to + i, (const u8 *)from + i, bytes - i);
}

static inline void medium_write(struct object *o, struct folio **folios, const u32 *bytes, u32 n,
				int *err)
{
	struct medium *d = medium_of(o);
	struct machine *m = o->q->machine;

	pthread_mutex_lock(&d->lock);
	d->write_calls++;
	pthread_mutex_unlock(&d->lock);
	for (u32 i = 0; i < n; i++) {
		u64 at = folios[i]->index;

		if (d->in_write)
			d->in_write(d->ctx, at);
		pthread_mutex_lock(&d->lock);
		err[i] = medium_error(d, d->fail_write, at);
		if (!err[i]) {
			medium_copy(d->bytes + PG(at),
				    m->ops->frame_window(m, folio_pfn(o->q, folios[i])), bytes[i]);
			if (PG(at) + bytes[i] > d->size)
				d->size = PG(at) + bytes[i];
			d->writes++;
		}
		pthread_mutex_unlock(&d->lock);
	}
}

static inline int medium_resize(struct object *o, u64 size)
{
	struct medium *d = medium_of(o);

	if (d->fail_resize)
		return d->fail_resize;
	pthread_mutex_lock(&d->lock);
	if (size < d->size)
		memset(d->bytes + size, 0, d->size - size);
	d->size = size;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static inline int medium_zero(struct object *o, u64 start, u64 bytes)
{
	struct medium *d = medium_of(o);

	if (d->fail_zero)
		return d->fail_zero;
	pthread_mutex_lock(&d->lock);
	memset(d->bytes + start, 0, bytes);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static inline int medium_sync(struct object *o)
{
	struct medium *d = medium_of(o);

	pthread_mutex_lock(&d->lock);
	d->syncs++;
	pthread_mutex_unlock(&d->lock);
	return d->fail_sync;
}

static inline void medium_release(struct object *o)
{
	medium_of(o)->released = true;
}

static const struct object_ops medium_ops __attribute__((unused)) = {
	.name = "array",
	.read = medium_read,
	.write = medium_write,
	.resize = medium_resize,
	.zero = medium_zero,
	.sync = medium_sync,
	.release = medium_release,
};

static inline struct medium *medium_new(void)
{
	struct medium *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->bytes = calloc(MEDIUM_PAGES, PAGE_SIZE);
	assert_non_null(d->bytes);
	pthread_mutex_init(&d->lock, NULL);
	d->fail_index = ~0ull;
	return d;
}

static inline void medium_free(struct medium *d)
{
	assert_true(d->released);
	pthread_mutex_destroy(&d->lock);
	free(d->bytes);
	free(d);
}

/* An object of `size` bytes over a medium that has so many. */
static inline struct object *object_new(struct env *e, struct medium *d, u64 size)
{
	struct object_config oc = { .size = size };
	struct object *o;

	d->size = size;
	assert_int_equal(object_create(e->q, &medium_ops, d, &oc, &o), 0);
	return o;
}

static inline void object_expect_clean(struct object *o)
{
	assert_int_equal(object_check(o), 0);
	assert_int_equal(o->nr_dirty, 0);
	assert_int_equal(o->nr_writeback, 0);
}

#endif
