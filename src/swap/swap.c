#include "swap/swap_internal.h"

#include "base/assert.h"
#include "swap/codec.h"

#include <string.h>

/* Above this share of its room a store is tight. */
#define TIGHT_OF_4 3u

int store_set_name(struct store *s, const char *prefix, const char *text)
{
	size_t a = strlen(prefix), b = strlen(text);
	char *name = arena_alloc(s->q->arena, a + b + 1);

	if (!name)
		return -ENOMEM;
	memcpy(name, prefix, a);
	memcpy(name + a, text, b + 1);
	s->name = name;
	s->name_bytes = (u32)(a + b + 1);
	return 0;
}

void store_free_name(struct store *s)
{
	if (s->name)
		arena_free(s->q->arena, (char *)s->name, s->name_bytes);
	s->name = NULL;
}

static int open_file_store(struct quire *q, const struct store_spec *spec, struct store **out)
{
	char *path = arena_alloc(q->arena, spec->path_bytes + 1);
	int err;

	if (!path)
		return -ENOMEM;
	memcpy(path, spec->path, spec->path_bytes);
	path[spec->path_bytes] = 0;
	err = store_file_create(q, &q->swap->ctxs, path, ALIGN_DOWN(spec->size, PAGE_SIZE), out);
	arena_free(q->arena, path, spec->path_bytes + 1);
	return err;
}

static int open_store(struct quire *q, const struct store_spec *spec)
{
	struct swap *sw = q->swap;
	struct store *s = NULL;
	int err;

	switch (spec->type) {
	case STORE_LZ4:
		err = store_ram_create(q, &codec_lz4, &sw->ctxs, "lz4", spec->size, &s);
		break;
	case STORE_ZSTD:
		err = store_ram_create(q, &codec_zstd, &sw->ctxs, "zstd", spec->size, &s);
		break;
	default:
		err = open_file_store(q, spec, &s);
		break;
	}
	if (err)
		return err;
	s->kind = (u8)(KIND_STORE + sw->nr_stores);
	sw->store[sw->nr_stores++] = s;
	return 0;
}

static u32 parts_of(const struct store_spec *spec, u32 n)
{
	static const u32 part[] = {
		[STORE_LZ4] = CTX_LZ4,
		[STORE_ZSTD] = CTX_ZSTD,
		[STORE_FILE] = CTX_IO,
	};
	u32 parts = 0;

	for (u32 i = 0; i < n; i++)
		parts |= part[spec[i].type];
	return parts;
}

static void free_swap(struct quire *q)
{
	struct swap *sw = q->swap;

	for (u32 i = 0; i < sw->nr_stores; i++)
		sw->store[i]->ops->destroy(sw->store[i]);
	if (sw->ctxs.q)
		swap_ctxs_fini(&sw->ctxs);
	slots_destroy(q, sw);
	q->swap = NULL;
	arena_free(q->arena, sw, sizeof(*sw));
}

int swap_create(struct quire *q, const char *spec, char *msg, size_t msg_size)
{
	struct store_spec part[SWAP_MAX_STORES];
	struct store_spec none = { .text = "", .text_bytes = 0 };
	struct swap *sw;
	int n, err;

	if (msg && msg_size)
		*msg = 0;
	n = swap_spec_parse(spec, part, msg, msg_size);
	if (n < 0)
		return n;
	sw = arena_zalloc(q->arena, sizeof(*sw));
	if (!sw) {
		swap_spec_say(msg, msg_size, &none, "out of memory");
		return -ENOMEM;
	}
	q->swap = sw;
	err = slots_create(q, sw);
	if (!err)
		err = swap_ctxs_init(&sw->ctxs, q, parts_of(part, (u32)n));
	if (err)
		swap_spec_say(msg, msg_size, &part[0], swap_errno_text(err));
	for (int i = 0; i < n && !err; i++) {
		err = open_store(q, &part[i]);
		if (err)
			swap_spec_say(msg, msg_size, &part[i], swap_errno_text(err));
	}
	if (err)
		free_swap(q);
	return err;
}

void swap_destroy(struct quire *q)
{
	if (!q->swap)
		return;
	qrcu_barrier(q);
	free_swap(q);
}

unsigned swap_nr_stores(struct quire *q)
{
	return q->swap->nr_stores;
}

void swap_store_stats(struct quire *q, unsigned i, struct store_stats *out)
{
	struct store *s;

	memset(out, 0, sizeof(*out));
	if (i >= q->swap->nr_stores)
		return;
	s = q->swap->store[i];
	s->ops->stats(s, out);
	out->name = s->name;
	out->cap_bytes = s->cap_bytes;
	out->writes = a64_read(&s->writes);
	out->reads = a64_read(&s->reads);
	out->full = a64_read(&s->full);
	out->errors = a64_read(&s->errors);
}

u64 swap_used_slots(struct quire *q)
{
	return a64_read(&q->swap->used);
}

u64 swap_table_bytes(struct quire *q)
{
	return a64_read(&q->swap->table_bytes);
}

/*
 * The fastest store counts alone too: a copy kept there of a page that is resident pushes a page
 * that is not into a slower one.
 */
bool swap_is_tight(struct quire *q)
{
	struct swap *sw = q->swap;
	u64 used = 0, room = 0;
	bool bounded = true;

	for (u32 i = 0; i < sw->nr_stores; i++) {
		struct store *s = sw->store[i];
		u64 held = s->ops->held(s);
		bool refused = a32_read(&s->refused);

		if (i == 0 && (refused || (s->cap_bytes && held / TIGHT_OF_4 >= s->cap_bytes / 4)))
			return true;
		used += held;
		room += refused ? held : s->cap_bytes;
		bounded &= s->cap_bytes || refused;
	}
	return bounded && used / TIGHT_OF_4 >= room / 4;
}

void swap_fork_prepare(struct quire *q)
{
	struct swap *sw = q->swap;

	for (u32 i = 0; i < sw->nr_stores; i++)
		if (sw->store[i]->ops->fork_prepare)
			sw->store[i]->ops->fork_prepare(sw->store[i]);
}

void swap_forked_child(struct quire *q)
{
	struct swap *sw = q->swap;

	for (u32 i = 0; i < sw->nr_stores; i++)
		if (sw->store[i]->ops->forked_child)
			sw->store[i]->ops->forked_child(sw->store[i]);
}

u64 swap_check(struct quire *q)
{
	struct swap *sw = q->swap;
	u64 by_kind[KIND_STORE + SWAP_MAX_STORES] = { 0 };
	u64 bad = slots_check(q, sw, by_kind);

	for (u32 i = 0; i < sw->nr_stores; i++)
		bad += sw->store[i]->ops->check(sw->store[i], by_kind[KIND_STORE + i]);
	return bad;
}
