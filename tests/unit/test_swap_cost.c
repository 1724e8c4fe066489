/*
 * What the data path costs: printed, never judged. In builds with run-time checks the numbers are
 * several times those of the product (each stored page is decompressed and compared at once).
 */
#include "swap_env.h"

#include <lz4.h>
#include <pthread.h>

#define BATCH  16u
#define ROUNDS 200u
#define PAGES  (BATCH * ROUNDS)

struct cost {
	u64 add, write, drop, read, put;
};

struct side {
	struct swap_env *e;
	pthread_t id;
	int kind;
	u64 base;
	struct cost c;
};

static void batch_out(struct swap_env *e, u64 *slot, struct folio **f, struct cost *c)
{
	int err[BATCH];
	u64 t0 = env_ns(), t1, t2;

	for (u32 i = 0; i < BATCH; i++) {
		assert_int_equal(swap_add_folio(&e->q, f[i]), 0);
		slot[i] = f[i]->swap;
		swap_dup(&e->q, slot[i], 1);
	}
	t1 = env_ns();
	assert_int_equal(swap_writeout(&e->q, f, BATCH, err), BATCH);
	t2 = env_ns();
	for (u32 i = 0; i < BATCH; i++) {
		assert_true(folio_freeze(f[i], 2));
		swap_delete_frozen(&e->q, f[i], 1);
		folio_unfreeze(f[i], 1);
	}
	c->drop += env_ns() - t2;
	c->write += t2 - t1;
	c->add += t1 - t0;
}

static void *side_main(void *arg)
{
	struct side *s = arg;
	struct swap_env *e = s->e;
	u64 *slot = calloc(PAGES, sizeof(*slot)), t;
	struct folio *f[BATCH];
	u32 shadow;
	int err;

	for (u32 i = 0; i < BATCH; i++)
		f[i] = env_folio(e, 0, 0, 0, 1);
	for (u32 r = 0; r < ROUNDS; r++) {
		for (u32 i = 0; i < BATCH; i++)
			page_fill(env_bytes(e, f[i]), s->base + r * BATCH + i, 1, s->kind);
		batch_out(e, slot + (size_t)r * BATCH, f, &s->c);
	}
	t = env_ns();
	for (u32 i = 0; i < PAGES; i++) {
		void *buf = env_bytes(e, f[0]);

		assert_int_equal(swap_cache_insert(&e->q, slot[i], f[0], &shadow), 0);
		assert_int_equal(swap_read(&e->q, &slot[i], 1, &buf, &err), 1);
		assert_true(folio_freeze(f[0], 2));
		swap_delete_frozen(&e->q, f[0], 1);
		folio_unfreeze(f[0], 1);
	}
	s->c.read = env_ns() - t;
	t = env_ns();
	for (u32 i = 0; i < PAGES; i++)
		swap_put(&e->q, slot[i], 1);
	s->c.put = env_ns() - t;
	for (u32 i = 0; i < BATCH; i++)
		env_unlock_put(e, f[i]);
	free(slot);
	return NULL;
}

static void measure(const char *spec, int kind, u32 threads)
{
	static const char *const kinds[] = { "same-filled", "incompressible", "half random",
					     "typical" };
	struct swap_env *e = env_new(spec, 4096);
	struct side s[4];

	for (u32 pass = 0; pass < 2; pass++) { /* the second pass has warm slabs */
		struct cost c = { 0 };

		for (u32 i = 0; i < threads; i++) {
			s[i] = (struct side){ .e = e, .kind = kind, .base = 1 + i * PAGES * 8ull };
			assert_int_equal(pthread_create(&s[i].id, NULL, side_main, &s[i]), 0);
		}
		for (u32 i = 0; i < threads; i++) {
			pthread_join(s[i].id, NULL);
			c.add += s[i].c.add;
			c.write += s[i].c.write;
			c.drop += s[i].c.drop;
			c.read += s[i].c.read;
			c.put += s[i].c.put;
		}
		print_message("%-34s %-14s %u thread%s %s: add+dup %4llu, write %5llu, drop %3llu, "
			      "insert+read+drop %5llu, put %4llu ns/page\n",
			      spec, kinds[kind], threads, threads > 1 ? "s" : " ",
			      pass ? "warm" : "cold", (unsigned long long)(c.add / PAGES / threads),
			      (unsigned long long)(c.write / PAGES / threads),
			      (unsigned long long)(c.drop / PAGES / threads),
			      (unsigned long long)(c.read / PAGES / threads),
			      (unsigned long long)(c.put / PAGES / threads));
	}
	env_free(e);
}

static void costs(void **state)
{
	for (int kind = 0; kind < 4; kind++)
		measure("lz4", kind, 1);
	measure("lz4", 3, 2);
	for (int kind = 1; kind < 4; kind++)
		measure("zstd", kind, 1);
	measure("file:/tmp/quire-test-cost", 3, 1);
}

/* The codec alone on the same bytes: the rest of `write` is checksum, place, copy, slot. */
static void codec_alone(void **state)
{
	static u8 page[BATCH][PAGE_SIZE] __attribute__((aligned(4096))), out[8192];
	static LZ4_stream_t st;

	LZ4_initStream(&st, sizeof(st));
	for (int kind = 1; kind < 4; kind++) {
		u64 spent = 0, bytes = 0;

		for (u32 r = 0; r < ROUNDS; r++) {
			u64 t;

			for (u32 i = 0; i < BATCH; i++)
				page_fill(page[i], r * BATCH + i + 1, 1, kind);
			t = env_ns();
			for (u32 i = 0; i < BATCH; i++) {
				int n;

				LZ4_resetStream_fast(&st);
				n = LZ4_compress_fast_continue(&st, (char *)page[i], (char *)out,
							       PAGE_SIZE, SWAP_WORST_BYTES, 1);
				if (n <= 0)
					LZ4_initStream(&st, sizeof(st));
				bytes += (u64)n;
			}
			spent += env_ns() - t;
		}
		print_message("lz4 alone, kind %d: %llu ns/page to %llu bytes\n", kind,
			      (unsigned long long)(spent / PAGES),
			      (unsigned long long)(bytes / PAGES));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(codec_alone),
		cmocka_unit_test(costs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
