/*
 * Readers lock areas without the space lock while a writer splits, merges, changes, removes and
 * adds them.
 *
 * What a reader has locked contains its address and keeps its bounds, flags and page offset until
 * it is unlocked; a page that the writer only ever replaces within one write section is never "not
 * there".
 * QUIRE_SEED=N chooses the run, QUIRE_OPS=N its length.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../unit/mini.h"
#include "../unit/vma_double.h"

#define BASE    0x7f0000000000ull
#define PAGES   64
#define STABLE  32 /* pages below it are mapped at the end of every write section */
#define READERS 3

static struct mini m;
static struct vmas_of s;
static a32_t stop;
static a64_t locked, busies, holes, under_space;

/* Not cmocka's assertions: they belong to one thread. */
#define CHECK(c)                                                                \
	do {                                                                    \
		if (!(c)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c); \
			abort();                                                \
		}                                                               \
	} while (0)

static u64 number(const char *name, u64 otherwise)
{
	const char *v = getenv(name);

	return v && *v ? strtoull(v, NULL, 0) : otherwise;
}

static u64 page_va(u64 i)
{
	return BASE + i * PAGE_SIZE;
}

/* What holds while an area is held: by its own lock, or by the space's. */
static void look(struct vma *v, u64 va, u32 turns)
{
	u64 start = vma_start(v), end = vma_end(v), flags = vma_flags(v), pgoff = v->pgoff;

	CHECK(va >= start && va < end);
	CHECK(pgoff == start >> PAGE_SHIFT);
	CHECK(flags & VM_READ);
	for (u32 i = 0; i < turns; i++) {
		CHECK(vma_start(v) == start && vma_end(v) == end);
		CHECK(vma_flags(v) == flags && v->pgoff == pgoff);
		if (i % 8 == 7)
			sched_yield();
	}
}

static void *reader(void *arg)
{
	u64 rng = (uintptr_t)arg * 99991 + 1;

	while (!a32_read(&stop)) {
		u64 i = mini_random(&rng) % PAGES;
		u32 turns = (u32)(mini_random(&rng) % 20);
		bool busy = false;
		struct vma *v = vma_lock_rcu(&s, page_va(i), &busy);

		if (v) {
			look(v, page_va(i), turns);
			vma_read_unlock(v);
			a64_add(&locked, 1);
			continue;
		}
		if (!busy) {
			CHECK(i >= STABLE);
			a64_add(&holes, 1);
			continue;
		}
		a64_add(&busies, 1);
		if (mini_random(&rng) % 4)
			continue;
		space_read_lock(&s);
		v = vma_find(&s, page_va(i));
		CHECK(v || i >= STABLE);
		if (v) {
			look(v, page_va(i), turns);
			/* Keep the area and give the space lock back, as a long fault may. */
			vmalock_read_lock_under_space(&v->lock);
		}
		space_read_unlock(&s);
		if (v) {
			look(v, page_va(i), turns);
			vma_read_unlock(v);
		}
		a64_add(&under_space, 1);
	}
	return NULL;
}

static void add(u64 from, u64 to, u64 flags)
{
	struct range r = { page_va(from), page_va(to) };
	struct vma *v;

	CHECK(vma_add(&s, r, flags, r.start >> PAGE_SHIFT, &v) == 0);
}

static void remove_range(u64 from, u64 to)
{
	struct vma *v;

	CHECK(vma_split(&s, page_va(from)) == 0 && vma_split(&s, page_va(to)) == 0);
	while ((v = vma_find_first(&s, page_va(from))) && vma_start(v) < page_va(to))
		CHECK(vma_remove(&s, v) == 0);
}

static void add_missing(u64 from, u64 to, u64 flags)
{
	for (u64 i = from; i < to; i++) {
		if (!vma_find(&s, page_va(i)))
			add(i, i + 1, flags);
	}
}

static void write_some(u64 *rng)
{
	u64 half = mini_random(rng) % 2 * STABLE;
	u64 from = half + mini_random(rng) % STABLE;
	u64 to = min(from + 1 + mini_random(rng) % 8, half + STABLE);
	u64 flags = mini_random(rng) % 2 ? VM_READ : VM_READ | VM_WRITE;
	struct vma *v;

	switch (mini_random(rng) % 6) {
	case 0:
	case 1:
		if (!half)
			CHECK(vma_change_flags(&s, (struct range){ page_va(from), page_va(to) },
					       flags, VM_WRITE) == 0);
		break;
	case 2:
		CHECK(vma_split(&s, page_va(from)) == 0);
		break;
	case 3:
		v = vma_find(&s, page_va(from));
		if (v)
			vma_merge_around(&s, v);
		break;
	case 4:
		remove_range(from, to);
		break;
	default:
		if (half)
			add_missing(from, to, flags);
		break;
	}
	if (!half)
		add_missing(0, STABLE, flags);
}

static void test_threads(void **state)
{
	u64 rng = number("QUIRE_SEED", 1) * 7919, ops = number("QUIRE_OPS", 30000);
	pthread_t t[READERS];

	(void)state;
	mini_init(&m);
	memset(&dbl, 0, sizeof(dbl));
	assert_int_equal(vma_create_caches(&m.q, &double_ops), 0);
	assert_int_equal(vmas_init(&m.q, &s, (struct range){ BASE, page_va(PAGES) }, &m), 0);
	space_write_lock(&s);
	add(0, STABLE, VM_READ);
	space_write_unlock(&s);
	for (uintptr_t i = 0; i < READERS; i++)
		pthread_create(&t[i], NULL, reader, (void *)(i + 1));
	for (u64 i = 0; i < ops; i++) {
		u32 n = 1 + (u32)(mini_random(&rng) % 3);

		space_write_lock(&s);
		while (n--)
			write_some(&rng);
		CHECK(vmas_check(&s) == 0);
		if (mini_random(&rng) % 4 == 0) {
			space_downgrade(&s);
			CHECK(vma_find(&s, page_va(0)));
			space_read_unlock(&s);
		} else {
			space_write_unlock(&s);
		}
		if (i % 16 == 0)
			sched_yield();
	}
	a32_set(&stop, 1);
	for (u32 i = 0; i < READERS; i++)
		pthread_join(t[i], NULL);
	print_message("locked %llu, busy %llu, holes %llu, under the space lock %llu\n",
		      (unsigned long long)a64_read(&locked), (unsigned long long)a64_read(&busies),
		      (unsigned long long)a64_read(&holes),
		      (unsigned long long)a64_read(&under_space));
	assert_true(a64_read(&locked) > 0);
	vmas_fini(&s);
	qrcu_barrier(&m.q);
	assert_int_equal(vma_live(&m.q), 0);
	vma_destroy_caches(&m.q);
	mini_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_threads) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
