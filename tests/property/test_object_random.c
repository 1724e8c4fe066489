/*
 * Objects of both kinds against an array of bytes: reads, writes, sizes, holes, eviction, syncs,
 * with and without injected failures. A file's bytes are compared with what the system reads of it.
 *
 * QUIRE_SEED=N runs one seed; a failure prints its own.
 */
#include <stdlib.h>
#include <unistd.h>

#include "../unit/core_env.h"
#include "machine/machine.h"
#include "object/file.h"
#include "swap/swap_object.h"

#define MAX_PAGES 96u
#define MAX_BYTES (MAX_PAGES * PAGE_SIZE)

struct run {
	struct env e;
	struct object *o;
	bool file;
	char path[64];
	u64 seed, rng;
	u64 size;
	u32 since;
	u8 model[MAX_BYTES];
	u8 got[MAX_BYTES];
	struct object_ra ra;
	bool failing;
	u64 refused, done;
};

static u64 rnd(struct run *r, u64 below)
{
	r->rng ^= r->rng << 13;
	r->rng ^= r->rng >> 7;
	r->rng ^= r->rng << 17;
	return below ? (r->rng >> 11) % below : 0;
}

#define require(r, c)                                                                 \
	do {                                                                          \
		if (!(c))                                                             \
			fail_msg("seed %llu: %s", (unsigned long long)(r)->seed, #c); \
	} while (0)

/* True when the call did it. Refusals are only for runs in which something is made to fail. */
static bool did(struct run *r, s64 result)
{
	require(r, result >= 0 || r->failing);
	r->refused += result < 0;
	r->done += result >= 0;
	return result >= 0;
}

static void some_range(struct run *r, u64 *start, u64 *len, u64 end)
{
	*start = rnd(r, 4) ? rnd(r, end + 1) : ALIGN_DOWN(rnd(r, end + 1), PAGE_SIZE);
	*len = rnd(r, 3) ? rnd(r, 3 * PAGE_SIZE) : rnd(r, 12) * PAGE_SIZE;
	*len = min(*len, end - *start);
}

static void op_write(struct run *r)
{
	u64 start, len;
	s64 n;

	some_range(r, &start, &len, min(r->size + 2 * PAGE_SIZE, MAX_BYTES));
	for (u64 i = 0; i < len; i++)
		r->got[i] = (u8)(r->rng + i * 13);
	n = object_write(r->o, start, r->got, len);
	if (!did(r, n) || !n)
		return;
	require(r, (u64)n == len || r->failing);
	if (start > r->size)
		memset(r->model + r->size, 0, start - r->size);
	memcpy(r->model + start, r->got, (u64)n);
	r->size = max(r->size, start + (u64)n);
	rnd(r, 1);
}

static void op_read(struct run *r)
{
	u64 start, len;
	s64 n;

	some_range(r, &start, &len, min(r->size + PAGE_SIZE, MAX_BYTES));
	n = object_read(r->o, start, r->got, len, rnd(r, 2) ? &r->ra : NULL);
	if (!did(r, n))
		return;
	require(r, r->failing || (u64)n == (start < r->size ? min(len, r->size - start) : 0));
	require(r, !memcmp(r->got, r->model + start, (u64)n));
}

static void op_truncate(struct run *r)
{
	u64 size = rnd(r, 3) ? rnd(r, MAX_BYTES + 1) : ALIGN_DOWN(rnd(r, MAX_BYTES), PAGE_SIZE);

	if (rnd(r, 4) && size < r->size / 2)
		size = r->size - rnd(r, r->size / 8 + 1);
	if (!did(r, object_truncate(r->o, size)) && object_size(r->o) != size)
		return;
	if (size > r->size)
		memset(r->model + r->size, 0, size - r->size);
	r->size = size;
}

static void op_punch(struct run *r)
{
	u64 start, len;

	some_range(r, &start, &len, MAX_BYTES);
	/* A refusal of the medium after the cache has let go is an error all the same. */
	if (did(r, object_punch(r->o, start, len)) && start < r->size)
		memset(r->model + start, 0, min(len, r->size - start));
}

/* Everything that can go goes, as reclaim would do it. */
static void op_evict(struct run *r)
{
	struct quire *q = r->e.q;
	u64 from = rnd(r, MAX_PAGES), n = rnd(r, 30);

	lru_drain_all(q);
	for (u64 i = from; i < from + n; i++) {
		struct folio *f = object_lookup(r->o, i);
		bool mine = f && lru_isolate(q, f), gone = false;
		struct list dead;
		int err;

		if (!f)
			continue;
		folio_put(q, f);
		if (!mine)
			continue;
		folio_lock(f);
		if (folio_test(f, PG_DIRTY))
			r->refused += !object_writeout(q, &f, 1, &err);
		gone = object_evict(q, f, 1, (u32)i);
		folio_unlock(f);
		require(r, gone || r->failing);
		if (!gone) {
			lru_putback(q, f);
			continue;
		}
		list_init(&dead);
		list_add(&f->lru, &dead);
		phys_free_frozen_list(q, &dead);
	}
}

/* What a sync has confirmed is in the file; nothing else ever is. */
static void op_sync(struct run *r)
{
	u64 first = rnd(r, 2) ? 0 : rnd(r, MAX_PAGES);
	u64 last = first ? first + rnd(r, 20) : OBJECT_INDEX_MAX, from = PG(first), to;
	FILE *file;

	if (!did(r, object_sync(r->o, first, last, &r->since)) || !r->file)
		return;
	to = last == OBJECT_INDEX_MAX ? r->size : min(PG(last + 1), r->size);
	if (from >= to)
		return;
	file = fopen(r->path, "rb");
	require(r, file != NULL);
	require(r, !fseek(file, 0, SEEK_END) && ftell(file) == (long)r->size);
	require(r, !fseek(file, (long)from, SEEK_SET));
	require(r, fread(r->got, 1, to - from, file) == to - from);
	fclose(file);
	require(r, !memcmp(r->got, r->model + from, to - from));
}

static int open_object(struct run *r, u32 flags)
{
	struct object_config cfg = { .size = 0 };
	int err = r->file ? object_open_file(r->e.q, r->path, flags, &cfg, &r->o) :
			    object_create_anon(r->e.q, &cfg, &r->o);

	r->since = err ? 0 : object_error_sample(r->o);
	return err;
}

/* The object goes and comes back: the file has everything, though nobody asked for a sync. */
static void op_reopen(struct run *r)
{
	if (!r->file || r->failing)
		return;
	object_put(r->o);
	require(r, open_object(r, 0) == 0);
	require(r, object_size(r->o) == r->size);
}

static void compare_all(struct run *r)
{
	require(r, object_size(r->o) == r->size);
	require(r, object_check(r->o) == 0);
	require(r, object_read(r->o, 0, r->got, MAX_BYTES, NULL) == (s64)r->size);
	require(r, !memcmp(r->got, r->model, r->size));
}

static const enum inject_point points[] = { INJECT_ARENA,        INJECT_FRAME,
					    INJECT_CHARGE,       INJECT_OBJECT_READ,
					    INJECT_OBJECT_WRITE, INJECT_OBJECT_SYNC,
					    INJECT_STORE_WRITE,  INJECT_STORE_READ,
					    INJECT_SLOT };

static void one_op(struct run *r)
{
	static void (*const ops[])(struct run * r) = {
		op_write, op_write, op_write, op_read,  op_read, op_truncate,
		op_punch, op_evict, op_evict, op_evict, op_sync,
	};

	if (rnd(r, 100) == 0)
		op_reopen(r);
	else
		ops[rnd(r, ARRAY_SIZE(ops))](r);
}

static void run_seed(bool file, bool failing, u64 seed, u32 steps, u64 *refused, u64 *done)
{
	struct run *r = calloc(1, sizeof(*r));

	r->seed = seed;
	r->rng = seed * 0x9e3779b97f4a7c15ull | 1;
	r->file = file;
	r->failing = failing;
	snprintf(r->path, sizeof(r->path), "/tmp/quire-object-%d", (int)getpid());
	unlink(r->path);
	env_open(&r->e, 0, 0, "lz4");
	assert_int_equal(open_object(r, FILE_CREATE), 0);
	for (u32 i = 0; i < steps; i++) {
		enum inject_point p = points[rnd(r, ARRAY_SIZE(points))];

		/* The machine's calls fail once: the first is where a change of the medium may be
		 * refused. */
		if (failing && p == INJECT_MACHINE_CALL)
			inject_at(&r->e.inject, p, 1);
		else if (failing)
			inject_chance(&r->e.inject, p, 400000, seed + i);
		one_op(r);
		inject_off(&r->e.inject, p);
		if (i % 8 == 0)
			compare_all(r);
	}
	compare_all(r);
	*refused += r->refused;
	*done += r->done;
	object_put(r->o);
	env_close(&r->e);
	unlink(r->path);
	free(r);
}

static void run_seeds(bool file, bool failing)
{
	const char *only = getenv("QUIRE_SEED");
	u64 refused = 0, done = 0;

	for (u64 seed = 1; seed <= 8; seed++)
		run_seed(file, failing, only ? strtoull(only, NULL, 0) : seed, 600, &refused,
			 &done);
	assert_true(done > 1000);
	assert_true(failing ? refused > 50 : refused == 0);
}

static void test_file(void **state)
{
	(void)state;
	run_seeds(true, false);
}

static void test_file_failing(void **state)
{
	(void)state;
	run_seeds(true, true);
}

static void test_anon(void **state)
{
	(void)state;
	run_seeds(false, false);
}

static void test_anon_failing(void **state)
{
	(void)state;
	run_seeds(false, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_failing),
		cmocka_unit_test(test_anon),
		cmocka_unit_test(test_anon_failing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
