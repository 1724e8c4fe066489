/*
 * Random operations on one space's areas, with failing allocations, against an oracle of one record
 * a page.
 *
 * The reverse map is a double that checks at each step that every touched page is found through the
 * anon_vma under which it was touched. QUIRE_SEED=N chooses the run, QUIRE_OPS=N its length.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "../unit/mini.h"
#include "../unit/vma_double.h"

#define BASE  0x7f0000000000ull
#define PAGES 96
#define RUNS  8

struct page {
	bool mapped;
	u64 flags;
	u64 pgoff;
	void *anon; /* touched under this one */
};

static struct mini m;
static struct vmas_of s;
static struct page page[PAGES];
static u64 rng, next_anon, done[8], failed;

static u64 number(const char *name, u64 otherwise)
{
	const char *v = getenv(name);

	return v && *v ? strtoull(v, NULL, 0) : otherwise;
}

static u64 below(u64 n)
{
	return mini_random(&rng) % n;
}

static u64 page_va(u64 i)
{
	return BASE + i * PAGE_SIZE;
}

static u64 page_of(u64 va)
{
	return (va - BASE) >> PAGE_SHIFT;
}

static struct range any_range(u64 *from, u64 *to)
{
	*from = below(PAGES);
	*to = min(*from + 1 + below(12), (u64)PAGES);
	return (struct range){ page_va(*from), page_va(*to) };
}

static u64 any_flags(void)
{
	static const u64 set[] = { VM_READ, VM_READ | VM_WRITE, VM_READ | VM_LOCKED, VM_FOREIGN };

	return set[below(10) ? below(3) : 3];
}

static void set_anon(u64 i, void *anon)
{
	page[i].anon = anon;
	dbl.need[i] = anon;
}

static bool all_mapped(u64 from, u64 to)
{
	for (; from < to; from++) {
		if (!page[from].mapped)
			return false;
	}
	return true;
}

static bool none_mapped(u64 from, u64 to)
{
	for (; from < to; from++) {
		if (page[from].mapped)
			return false;
	}
	return true;
}

static void note(int err, unsigned op)
{
	assert_true(err == 0 || err == -ENOMEM);
	if (err)
		failed++;
	else
		done[op]++;
}

static void op_add(void)
{
	u64 from, to, flags = any_flags(), pgoff;
	struct range r = any_range(&from, &to);
	struct vma *v = NULL;
	int err;

	if (!none_mapped(from, to))
		return;
	pgoff = below(8) ? r.start >> PAGE_SHIFT : below(1000);
	err = vma_add(&s, r, flags, pgoff, &v);
	note(err, 0);
	if (err)
		return;
	assert_true(vma_start(v) <= r.start && vma_end(v) >= r.end);
	for (u64 i = from; i < to; i++)
		page[i] = (struct page){ true, flags, pgoff + i - from, NULL };
}

/* As munmap: boundaries, then area by area. What a failure leaves is known. */
static void op_remove(void)
{
	u64 from, to;
	struct range r = any_range(&from, &to);
	struct vma *v;
	int err = vma_split(&s, r.start);

	if (!err)
		err = vma_split(&s, r.end);
	while (!err && (v = vma_find_first(&s, r.start)) && vma_start(v) < r.end) {
		u64 a = page_of(vma_start(v)), b = page_of(vma_end(v));

		assert_true(a >= from && b <= to);
		for (u64 i = a; i < b; i++)
			dbl.need[i] = NULL;
		err = vma_remove(&s, v);
		for (u64 i = a; i < b; i++) {
			if (err)
				dbl.need[i] = page[i].anon;
			else
				page[i] = (struct page){ 0 };
		}
	}
	note(err, 1);
}

static void op_change(void)
{
	u64 from, to, set = any_flags() & ~VM_FOREIGN, clear = VM_READ | VM_WRITE | VM_LOCKED;
	struct range r = any_range(&from, &to);
	bool holes = !all_mapped(from, to);
	int err;

	if (below(2))
		clear = below(2) ? VM_LOCKED : VM_WRITE;
	err = vma_change_flags(&s, r, set, clear);
	if (holes)
		assert_int_equal(err, -ENOMEM);
	else
		note(err, 2);
	for (u64 i = from; !err && i < to; i++)
		page[i].flags = (page[i].flags & ~clear) | set;
}

static void op_split_or_merge(void)
{
	u64 i = below(PAGES);
	struct vma *v = vma_find(&s, page_va(i));

	if (below(2)) {
		note(vma_split(&s, page_va(i)), 3);
	} else if (v) {
		u64 start = vma_start(v), end = vma_end(v);

		v = vma_merge_around(&s, v);
		assert_true(vma_start(v) <= start && vma_end(v) >= end);
	}
}

static void op_set_end(void)
{
	struct vma *v = vma_find(&s, page_va(below(PAGES)));
	u64 old, end, limit;
	int err;

	if (!v)
		return;
	old = page_of(vma_end(v));
	for (limit = old; limit < PAGES && !page[limit].mapped; limit++)
		;
	end = page_of(vma_start(v)) + 1;
	end += below(limit - end + 1);
	for (u64 i = end; i < old; i++)
		dbl.need[i] = NULL;
	err = vma_set_end(&s, v, page_va(end));
	note(err, 4);
	for (u64 i = end; i < old; i++) {
		if (err)
			dbl.need[i] = page[i].anon;
		else
			page[i] = (struct page){ 0 };
	}
	for (u64 i = old; !err && i < end; i++)
		page[i] = (struct page){ true, vma_flags(v), vma_index(v, page_va(i)), NULL };
}

/* A fault: as rmap does, the anon_vma of a neighbour that fits, or a new one. */
static void op_touch(void)
{
	u64 i = below(PAGES);
	struct vma *v = vma_find(&s, page_va(i)), *prev;

	if (!v || vma_flags(v) & VM_FOREIGN)
		return;
	if (!aptr_read(&v->anon_vma)) {
		void *anon = NULL;

		prev = vma_find_prev(&s, vma_start(v));
		if (prev && vma_end(prev) == vma_start(v) && below(2))
			anon = aptr_read(&prev->anon_vma);
		double_prepare(v, anon ? anon : (void *)(uintptr_t)++next_anon);
	}
	set_anon(i, aptr_read(&v->anon_vma));
	done[5]++;
}

/* As mremap: a new area for the moved pages, then the old one goes. */
static void op_move(void)
{
	u64 from = below(PAGES), n = 1 + below(6), to = below(PAGES);
	struct vma *v = vma_find(&s, page_va(from)), *new = NULL;
	u64 flags, pgoff;
	int err;

	if (!v || to + n > PAGES || page_of(vma_end(v)) < from + n || !none_mapped(to, to + n))
		return;
	/* Everything that may fail comes first, as a caller would do it. */
	if (vma_split(&s, page_va(from)) || vma_split(&s, page_va(from + n)) ||
	    vma_reserve(&s, 4)) {
		failed++;
		return;
	}
	v = vma_find(&s, page_va(from));
	flags = vma_flags(v);
	pgoff = v->pgoff;
	err = vma_add_moved(&s, (struct range){ page_va(to), page_va(to + n) }, flags, pgoff, v,
			    &new);
	note(err, 6);
	if (err)
		return;
	assert_true(vma_start(new) <= page_va(to) && vma_end(new) >= page_va(to + n));
	assert_int_equal(vma_index(new, page_va(to)), pgoff);
	for (u64 i = 0; i < n; i++) {
		page[to + i] = page[from + i];
		set_anon(to + i, page[from + i].anon);
		page[from + i] = (struct page){ 0 };
		dbl.need[from + i] = NULL;
	}
	assert_ptr_equal(vma_find(&s, page_va(from)), v);
	inject_off(&m.inject, INJECT_ARENA);
	assert_int_equal(vma_remove(&s, v), 0);
}

static void check(void)
{
	assert_int_equal(vmas_check(&s), 0);
	for (u64 i = 0; i < PAGES; i++) {
		struct vma *v = vma_find(&s, page_va(i));

		assert_int_equal(!!v, page[i].mapped);
		if (!v)
			continue;
		assert_int_equal(vma_flags(v), page[i].flags);
		assert_int_equal(vma_index(v, page_va(i)), page[i].pgoff);
		if (page[i].anon)
			assert_ptr_equal(aptr_read(&v->anon_vma), page[i].anon);
	}
	double_check();
}

static void step(void)
{
	static void (*const ops[])(void) = { op_add,     op_add,    op_add,    op_remove,
					     op_change,  op_change, op_change, op_split_or_merge,
					     op_set_end, op_touch,  op_touch,  op_move };
	u64 mergeable = vmas_mergeable(&s), unmerged = s.unmerged, fails = failed;
	void (*op)(void) = ops[below(ARRAY_SIZE(ops))];

	if (below(6) == 0) {
		rangemap_unreserve(&s.map);
		inject_chance(&m.inject, INJECT_ARENA, 150000, mini_random(&rng));
	}
	if (below(20) == 0)
		dbl.fail_clone = 1 + below(2);
	op();
	inject_off(&m.inject, INJECT_ARENA);
	dbl.fail_clone = 0;
	check();
	/* Adding and changing leave nothing unmerged beside what was so before. */
	if ((op == op_add || op == op_change) && s.unmerged == unmerged && failed == fails)
		assert_true(vmas_mergeable(&s) <= mergeable);
}

static void test_random(void **state)
{
	u64 seed = number("QUIRE_SEED", 1), ops = number("QUIRE_OPS", 20000);

	(void)state;
	for (u64 run = 0; run < RUNS; run++) {
		rng = (seed + run) * 0x9e3779b97f4a7c15ull | 1;
		print_message("QUIRE_SEED=%llu\n", (unsigned long long)(seed + run));
		mini_init(&m);
		memset(&dbl, 0, sizeof(dbl));
		memset(page, 0, sizeof(page));
		dbl.base = BASE;
		assert_int_equal(vma_create_caches(&m.q, &double_ops), 0);
		assert_int_equal(vmas_init(&m.q, &s, (struct range){ BASE, page_va(PAGES) }, &m),
				 0);
		space_write_lock(&s);
		for (u64 i = 0; i < ops; i++) {
			if (below(16) == 0) {
				space_write_unlock(&s);
				space_write_lock(&s);
			}
			step();
		}
		space_write_unlock(&s);
		memset(dbl.need, 0, sizeof(dbl.need));
		vmas_fini(&s);
		assert_int_equal(dbl.n, 0);
		qrcu_barrier(&m.q);
		assert_int_equal(vma_live(&m.q), 0);
		vma_destroy_caches(&m.q);
		mini_fini(&m);
	}
	print_message("add %llu remove %llu change %llu split %llu end %llu touch %llu move %llu "
		      "failed %llu\n",
		      (unsigned long long)done[0], (unsigned long long)done[1],
		      (unsigned long long)done[2], (unsigned long long)done[3],
		      (unsigned long long)done[4], (unsigned long long)done[5],
		      (unsigned long long)done[6], (unsigned long long)failed);
	for (u32 i = 0; i < 7; i++)
		assert_true(done[i] > 0);
	assert_true(failed > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
