/* Areas as pictures: one character a page, '.' a hole, '|' a boundary between areas that touch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "mini.h"
#include "vma_double.h"

#define BASE  0x10000000ull
#define PAGES 24

static struct mini m;
static struct vmas_of s;

/*
 * a  read                A, B  the same with anon_vma 1, 2
 * x  read and write      X, Y  the same with anon_vma 1, 2
 * l  read, locked        L     the same with anon_vma 1
 * f  foreign
 */
static const struct kind {
	char c;
	u64 flags;
	u64 anon;
} kinds[] = {
	{ 'a', VM_READ, 0 },
	{ 'A', VM_READ, 1 },
	{ 'B', VM_READ, 2 },
	{ 'x', VM_READ | VM_WRITE, 0 },
	{ 'X', VM_READ | VM_WRITE, 1 },
	{ 'Y', VM_READ | VM_WRITE, 2 },
	{ 'l', VM_READ | VM_LOCKED, 0 },
	{ 'L', VM_READ | VM_LOCKED, 1 },
	{ 'f', VM_FOREIGN, 0 },
};

static const struct kind *kind_of(char c)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i].c == c)
			return &kinds[i];
	}
	fail_msg("no kind %c", c);
	return NULL;
}

static u64 page_va(u64 i)
{
	return BASE + i * PAGE_SIZE;
}

/* Let every page that has an anon_vma be needed by a reverse-map walk from now on. */
static void need_all(void)
{
	for (u32 i = 0; i < PAGES; i++) {
		struct vma *v = vma_find(&s, page_va(i));

		dbl.need[i] = v ? aptr_read(&v->anon_vma) : NULL;
	}
}

static void need_none(u64 from, u64 to)
{
	for (u64 i = from; i < to; i++)
		dbl.need[i] = NULL;
}

static void draw_area(const struct kind *k, u64 from, u64 to)
{
	struct range r = { page_va(from), page_va(to) };
	struct vma *v;

	assert_int_equal(vma_add(&s, r, k->flags, r.start >> PAGE_SHIFT, &v), 0);
	assert_int_equal(vma_split(&s, r.start), 0);
	v = vma_find(&s, r.start);
	if (k->anon && aptr_read(&v->anon_vma) != (void *)k->anon) {
		if (aptr_read(&v->anon_vma))
			double_op_forget(&m.q, v);
		double_prepare(v, (void *)k->anon);
	} else if (!k->anon && aptr_read(&v->anon_vma)) {
		double_op_forget(&m.q, v);
	}
}

static void draw(const char *p)
{
	u64 page = 0;

	while (*p) {
		u64 n = 0;

		if (*p == '|') {
			p++;
			continue;
		}
		while (p[n] == *p)
			n++;
		if (*p != '.' && *p != ' ')
			draw_area(kind_of(*p), page, page + n);
		page += n;
		p += n;
	}
	need_all();
}

static void render(char *out)
{
	u64 page = 0, last = 0;
	struct vma *v;

	for (v = vma_find_first(&s, 0); v; v = vma_next(&s, v)) {
		u64 start = (vma_start(v) - BASE) >> PAGE_SHIFT;
		u64 end = (vma_end(v) - BASE) >> PAGE_SHIFT;
		char c = '?';

		for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
			if (kinds[i].flags == vma_flags(v) &&
			    kinds[i].anon == (uintptr_t)aptr_read(&v->anon_vma))
				c = kinds[i].c;
		}
		if (start == last && last)
			*out++ = '|';
		for (; page < start; page++)
			*out++ = '.';
		for (; page < end; page++)
			*out++ = c;
		last = end;
	}
	*out = 0;
}

static void expect(const char *picture)
{
	char now[4 * PAGES];

	render(now);
	assert_string_equal(now, picture);
	assert_int_equal(vmas_check(&s), 0);
}

static void stars(const char *p, struct range *r)
{
	const char *from = strchr(p, '*');

	r->start = page_va((u64)(from - p));
	r->end = page_va((u64)(strrchr(p, '*') + 1 - p));
}

static int setup(void **state)
{
	(void)state;
	mini_init(&m);
	memset(&dbl, 0, sizeof(dbl));
	dbl.base = BASE;
	assert_int_equal(vma_create_caches(&m.q, &double_ops), 0);
	assert_int_equal(vmas_init(&m.q, &s, (struct range){ BASE, page_va(PAGES) }, &m), 0);
	space_write_lock(&s);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	space_write_unlock(&s);
	memset(dbl.need, 0, sizeof(dbl.need));
	vmas_fini(&s);
	assert_int_equal(dbl.n, 0);
	qrcu_barrier(&m.q);
	assert_int_equal(vma_live(&m.q), 0);
	vma_destroy_caches(&m.q);
	mini_fini(&m);
	return 0;
}

static void reset(void)
{
	struct vma *v;

	memset(dbl.need, 0, sizeof(dbl.need));
	while ((v = vma_find_first(&s, 0)))
		assert_int_equal(vma_remove(&s, v), 0);
	assert_int_equal(dbl.n, 0);
	assert_int_equal(s.total_pages, 0);
	assert_int_equal(s.locked_pages, 0);
	dbl.clones = 0;
}

/* The range, given by stars, gets the flags of `to`. */
struct change_case {
	const char *before, *range;
	char to;
	const char *after;
	u64 clones;
	s64 made; /* areas more than before */
};

static void do_change(const struct change_case *c)
{
	u64 live, count, flags = kind_of(c->to)->flags;
	struct range r;

	reset();
	draw(c->before);
	qrcu_barrier(&m.q);
	live = vma_live(&m.q);
	count = s.map.count;
	stars(c->range, &r);
	dbl.clones = 0;
	assert_int_equal(vma_change_flags(&s, r, flags, ~flags), 0);
	expect(c->after);
	assert_int_equal(dbl.clones, c->clones);
	assert_int_equal((s64)s.map.count - (s64)count, c->made);
	qrcu_barrier(&m.q);
	assert_int_equal(vma_live(&m.q) - live, c->made);
}

static const struct change_case changes[] = {
	/* nothing beside it */
	{ "aaaa", "****", 'x', "xxxx", 0, 0 },
	{ "aaaa", "**  ", 'x', "xx|aa", 0, 1 },
	{ "aaaa", "  **", 'x', "aa|xx", 0, 1 },
	{ "aaaa", " ** ", 'x', "a|xx|a", 0, 2 },
	{ "AAAA", " ** ", 'x', "A|XX|A", 2, 2 },
	{ "aaaa", " ** ", 'a', "aaaa", 0, 0 },
	/* the eight shapes: what is before and after the stars, and whether it has the new flags */
	{ "xx|aaaa", "  ****", 'x', "xxxxxx", 0, -1 },
	{ "aaaa|xx", "****  ", 'x', "xxxxxx", 0, -1 },
	{ "xx|aa|xx", "  **  ", 'x', "xxxxxx", 0, -2 },
	{ "xx|aaaa", "  **  ", 'x', "xxxx|aa", 0, 0 },
	{ "aaaa|xx", "  **  ", 'x', "aa|xxxx", 0, 0 },
	{ "xx|aa|ll", "  **  ", 'x', "xxxx|ll", 0, -1 },
	{ "ll|aa|xx", "  **  ", 'x', "ll|xxxx", 0, -1 },
	{ "ll|aa|ll", "  **  ", 'x', "ll|xx|ll", 0, 0 },
	/* not touching */
	{ "xx.aa.xx", "   **   ", 'x', "xx.xx.xx", 0, 0 },
	{ "xx.aaaa", "   **  ", 'x', "xx.xx|aa", 0, 1 },
	/* several areas at once */
	{ "aa|xx|ll", "******", 'x', "xxxxxx", 0, -2 },
	{ "aa|xx|ll", " **** ", 'x', "a|xxxx|l", 0, 0 },
	{ "xx|aa|ll|xx", " ****** ", 'x', "xxxxxxxx", 0, -3 },
	{ "aaaa|llll", "  **    ", 'x', "aa|xx|llll", 0, 1 },
	{ "aa|ll|aa|ll", " ****** ", 'x', "a|xxxxxx|l", 0, -1 },
	/* boundaries move though the anon_vmas differ in being there */
	{ "xx|AAAA", "  **  ", 'x', "XXXX|AA", 1, 0 },
	{ "XX|aaaa", "  **  ", 'x', "XXXX|aa", 0, 0 },
	{ "AAAA|xx", "  **  ", 'x', "AA|XXXX", 1, 0 },
	{ "aaaa|XX", "  **  ", 'x', "aa|XXXX", 0, 0 },
	{ "XX|AAAA", "  **  ", 'x', "XXXX|AA", 0, 0 },
	/* a merge takes over an anon_vma, from either side */
	{ "xx|AA", "  **", 'x', "XXXX", 1, -1 },
	{ "XX|aa", "  **", 'x', "XXXX", 0, -1 },
	{ "xx|aa|XX", "  **  ", 'x', "XXXXXX", 1, -2 },
	/* different anon_vmas do not meet */
	{ "YY|AA", "  **", 'x', "YY|XX", 0, 0 },
	{ "YY|AAAA", "  **  ", 'x', "YY|XX|AA", 1, 1 },
	{ "AAAA|YY", "  **  ", 'x', "AA|XX|YY", 1, 1 },
	{ "YY|aa|XX", "  **  ", 'x', "YYYY|XX", 0, -1 },
	{ "YY|AA|XX", "  **  ", 'x', "YY|XXXX", 0, -1 },
	/* lock and unlock */
	{ "aaaa", "**  ", 'l', "ll|aa", 0, 1 },
	{ "ll|aa", "**  ", 'a', "aaaa", 0, -1 },
	{ "llll|AA", "  ** ", 'a', "ll|AAAA", 0, 0 },
};

static void test_change_flags(void **state)
{
	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(changes); i++) {
		do_change(&changes[i]);
		assert_int_equal(vmas_mergeable(&s), 0);
	}
}

/* Each allocation of each case fails: the pages are as before, or all changed; nothing is lost. */
static void test_change_flags_failing(void **state)
{
	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(changes); i++) {
		const struct change_case *c = &changes[i];
		u64 flags = kind_of(c->to)->flags, old[PAGES] = { 0 };
		struct range r;

		stars(c->range, &r);
		for (u64 nth = 1; nth < 100; nth++) {
			bool last;
			int err;

			reset();
			draw(c->before);
			for (u32 k = 0; k < PAGES; k++) {
				struct vma *v = vma_find(&s, page_va(k));

				old[k] = v ? vma_flags(v) : 0;
			}
			rangemap_unreserve(&s.map);
			if (nth < 50)
				inject_at(&m.inject, INJECT_ARENA, nth);
			else
				dbl.fail_clone = nth - 49;
			err = vma_change_flags(&s, r, flags, ~flags);
			last = nth < 50 ? !inject_hits(&m.inject, INJECT_ARENA) : dbl.fail_clone;
			inject_off(&m.inject, INJECT_ARENA);
			a64_set(&m.inject.point[INJECT_ARENA].hits, 0);
			dbl.fail_clone = 0;
			assert_true(err == 0 || err == -ENOMEM);
			assert_int_equal(vmas_check(&s), 0);
			for (u32 k = 0; k < PAGES; k++) {
				struct vma *v = vma_find(&s, page_va(k));
				bool in = page_va(k) >= r.start && page_va(k) < r.end;

				assert_int_equal(v ? vma_flags(v) : 0, !err && in ? flags : old[k]);
			}
			assert_true(!vmas_mergeable(&s) || s.unmerged || err);
			s.unmerged = 0;
			if (last && nth < 50)
				nth = 49;
			else if (last)
				break;
		}
	}
}

struct add_case {
	const char *before, *range;
	char what;
	const char *after;
};

static const struct add_case adds[] = {
	{ "", "**", 'a', "aa" },
	{ "aa", "  **", 'a', "aaaa" },
	{ "  aa", "**", 'a', "aaaa" },
	{ "aa..aa", "  **", 'a', "aaaaaa" },
	{ "aa..AA", "  **", 'a', "AAAAAA" },
	{ "AA..AA", "  **", 'a', "AAAAAA" },
	{ "AA..BB", "  **", 'a', "AAAA|BB" },
	{ "xx..BB", "  **", 'a', "xx|BBBB" },
	{ "xx..ll", "  **", 'a', "xx|aa|ll" },
	{ "xx...ll", "   * ", 'a', "xx.a.ll" },
	{ "ff..aa", "  **", 'f', "ffff|aa" },
};

static void test_add(void **state)
{
	struct vma *v;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(adds); i++) {
		struct range r;

		reset();
		draw(adds[i].before);
		stars(adds[i].range, &r);
		assert_int_equal(
			vma_add(&s, r, kind_of(adds[i].what)->flags, r.start >> PAGE_SHIFT, &v), 0);
		expect(adds[i].after);
		assert_true(vma_start(v) <= r.start && vma_end(v) >= r.end);
		assert_int_equal(vmas_mergeable(&s), 0);
	}
	/* A page offset that does not continue keeps them apart, on both sides. */
	reset();
	draw("aa..aa");
	assert_int_equal(vma_add(&s, (struct range){ page_va(2), page_va(4) }, VM_READ, 7, &v), 0);
	expect("aa|aa|aa");
	assert_int_equal(vma_index(v, page_va(3)), 8);
	assert_int_equal(vma_index_va(v, 8), page_va(3));
	assert_int_equal(vmas_mergeable(&s), 0);
}

static void test_add_moved(void **state)
{
	struct range to = { page_va(4), page_va(6) };
	struct vma *src, *v;

	(void)state;
	/* The pages of src keep their offsets, so the new place merges with nothing ... */
	draw("AA..aa.aa");
	src = vma_find(&s, page_va(0));
	assert_int_equal(vma_remove(&s, vma_find(&s, page_va(4))), 0);
	assert_int_equal(vma_add_moved(&s, to, VM_READ, src->pgoff, src, &v), 0);
	expect("AA..AA.aa");
	assert_int_equal(v->pgoff, src->pgoff);
	/* ... but a neighbour that was moved with it. */
	reset();
	draw("AAAA");
	assert_int_equal(vma_split(&s, page_va(2)), 0);
	src = vma_find(&s, page_va(0));
	assert_int_equal(vma_add_moved(&s, (struct range){ page_va(10), page_va(12) }, VM_READ,
				       src->pgoff, src, &v),
			 0);
	src = vma_find(&s, page_va(2));
	assert_int_equal(vma_add_moved(&s, (struct range){ page_va(12), page_va(14) }, VM_READ,
				       src->pgoff, src, &v),
			 0);
	expect("AA|AA......AAAA");
	assert_int_equal(vma_start(v), page_va(10));
	/* An anon_vma of its own, where the neighbour would fit but for that. */
	reset();
	draw("AA.B");
	src = vma_find(&s, page_va(0));
	assert_int_equal(vma_add_moved(&s, (struct range){ page_va(4), page_va(5) }, VM_READ,
				       page_va(4) >> PAGE_SHIFT, src, &v),
			 0);
	expect("AA.B|A");
	dbl.fail_clone = 1;
	assert_int_equal(
		vma_add_moved(&s, (struct range){ page_va(8), page_va(9) }, VM_READ, 1, src, &v),
		-ENOMEM);
	expect("AA.B|A");
}

static void test_split_remove_merge(void **state)
{
	struct vma *v;

	(void)state;
	draw("aaAA..ll");
	expect("aa|AA..ll");
	assert_int_equal(vmas_mergeable(&s), 1); /* as drawn */
	assert_int_equal(vma_split(&s, page_va(2)), 0);
	assert_int_equal(vma_split(&s, page_va(5)), 0);
	expect("aa|AA..ll");
	assert_int_equal(vma_split(&s, page_va(3)), 0);
	expect("aa|A|A..ll");
	v = vma_find(&s, page_va(3));
	assert_int_equal(v->pgoff, page_va(3) >> PAGE_SHIFT);
	v = vma_merge_around(&s, vma_find(&s, page_va(2)));
	expect("AAAA..ll");
	assert_int_equal(vma_start(v), page_va(0));
	assert_int_equal(s.total_pages, 6);
	assert_int_equal(s.locked_pages, 2);
	need_none(0, 4);
	assert_int_equal(vma_remove(&s, v), 0);
	expect("......ll");
	assert_int_equal(s.total_pages, 2);
	assert_int_equal(s.peak_pages, 6);
	inject_every(&m.inject, INJECT_ARENA, 1);
	rangemap_unreserve(&s.map);
	assert_int_equal(vma_remove(&s, vma_find(&s, page_va(6))), -ENOMEM);
	assert_int_equal(vma_split(&s, page_va(7)), -ENOMEM);
	inject_off(&m.inject, INJECT_ARENA);
	expect("......ll");
	/* Prepared, they cannot fail. */
	assert_int_equal(vma_reserve(&s, 2), 0);
	inject_every(&m.inject, INJECT_ARENA, 1);
	assert_int_equal(vma_set_end(&s, vma_find(&s, page_va(6)), page_va(9)), 0);
	expect("......lll");
	assert_int_equal(s.locked_pages, 3);
	assert_int_equal(vma_remove(&s, vma_find(&s, page_va(6))), 0);
	inject_off(&m.inject, INJECT_ARENA);
	expect("");
}

static void test_set_end(void **state)
{
	struct vma *v;

	(void)state;
	draw("AAAA.aa");
	v = vma_find(&s, page_va(0));
	assert_int_equal(vma_set_end(&s, v, page_va(5)), 0);
	need_none(5, PAGES);
	expect("AAAAA|aa");
	assert_int_equal(s.total_pages, 7);
	assert_ptr_equal(vma_merge_around(&s, v), v);
	expect("AAAAAAA");
	need_none(2, PAGES);
	assert_int_equal(vma_set_end(&s, v, page_va(2)), 0);
	expect("AA");
	assert_int_equal(s.total_pages, 2);
	assert_int_equal(s.peak_pages, 7);
}

static void test_holes_and_bounds(void **state)
{
	struct range r;
	u64 va;

	(void)state;
	draw("aa..xx");
	stars("*** ", &r);
	assert_int_equal(vma_change_flags(&s, r, VM_WRITE, 0), -ENOMEM);
	expect("aa..xx");
	stars(" ****", &r);
	assert_int_equal(vma_change_flags(&s, r, VM_WRITE, 0), -ENOMEM);
	expect("aa..xx");
	assert_null(vma_find(&s, page_va(2)));
	assert_ptr_equal(vma_find_first(&s, page_va(2)), vma_find(&s, page_va(4)));
	assert_ptr_equal(vma_find_prev(&s, page_va(4)), vma_find(&s, page_va(1)));
	assert_null(vma_find_prev(&s, page_va(1)));
	assert_null(vma_next(&s, vma_find(&s, page_va(5))));
	assert_int_equal(vma_find_gap(&s, (struct range){ 0, 0 }, 2 * PAGE_SIZE, PAGE_SIZE, &va),
			 0);
	assert_int_equal(va, page_va(2));
	assert_int_equal(vma_find_gap(&s, (struct range){ 0, 0 }, 3 * PAGE_SIZE, PAGE_SIZE, &va),
			 0);
	assert_int_equal(va, page_va(6));
	assert_int_equal(
		vma_find_gap(&s, (struct range){ 0, 0 }, PAGES * PAGE_SIZE, PAGE_SIZE, &va),
		-ENOMEM);
	assert_int_equal(vma_find_gap(&s, (struct range){ page_va(1), page_va(4) }, 3 * PAGE_SIZE,
				      PAGE_SIZE, &va),
			 -ENOMEM);
	assert_int_equal(vma_find_gap(&s, (struct range){ page_va(3), page_va(9) }, PAGE_SIZE,
				      2 * PAGE_SIZE, &va),
			 0);
	assert_int_equal(va, page_va(6));
}

static void test_counts(void **state)
{
	struct range r;

	(void)state;
	draw("ffff.aall");
	assert_int_equal(s.total_pages, 4);
	assert_int_equal(s.locked_pages, 2);
	stars("     ****", &r);
	assert_int_equal(vma_change_flags(&s, r, VM_LOCKED, 0), 0);
	assert_int_equal(s.locked_pages, 4);
	stars("      ** ", &r);
	assert_int_equal(vma_change_flags(&s, r, 0, VM_LOCKED), 0);
	expect("ffff.l|aa|l");
	assert_int_equal(s.locked_pages, 2);
	assert_int_equal(vmas_mergeable(&s), 0);
}

static void lock_outside(u64 page, struct vma *want, bool want_busy)
{
	bool busy = !want_busy;
	struct vma *v = vma_lock_rcu(&s, page_va(page), &busy);

	assert_ptr_equal(v, want);
	assert_int_equal(busy, want_busy);
	if (v)
		vma_read_unlock(v);
}

static void test_lock_rcu(void **state)
{
	struct vma *v, *w;

	(void)state;
	draw("aa..xx");
	v = vma_find(&s, page_va(0));
	w = vma_find(&s, page_va(4));
	/* A new area is locked until the section ends; a hole may be an area in a moment. */
	lock_outside(0, NULL, true);
	lock_outside(2, NULL, true);
	space_write_unlock(&s);
	lock_outside(0, v, false);
	lock_outside(2, NULL, false);
	space_write_lock(&s);
	lock_outside(0, v, false);
	lock_outside(2, NULL, true);
	vma_write_lock(v);
	vma_write_lock(v);
	lock_outside(0, NULL, true);
	lock_outside(5, w, false);
	space_downgrade(&s);
	lock_outside(0, v, false);
	lock_outside(2, NULL, false);
	space_read_unlock(&s);
	space_write_lock(&s);
	assert_int_equal(vma_remove(&s, v), 0);
	lock_outside(0, NULL, true);
	space_write_unlock(&s);
	lock_outside(0, NULL, false);
	space_read_lock(&s);
	assert_ptr_equal(vma_find(&s, page_va(4)), w);
	space_read_unlock(&s);
	space_write_lock(&s);
}

/*
 * A reader that found an area and was late: what it found has been split, or removed, and the write
 * section is over. (No callback has run, so the old map and the area are still there.)
 */
static void test_late_reader(void **state)
{
	struct vma *v;
	void *old;

	(void)state;
	draw("aaaa");
	v = vma_find(&s, page_va(0));
	old = aptr_read(&s.map.root);
	assert_int_equal(vma_split(&s, page_va(2)), 0);
	space_write_unlock(&s);
	void *now = aptr_xchg(&s.map.root, old);

	lock_outside(1, v, false);
	lock_outside(3, NULL, true);
	aptr_set(&s.map.root, now);
	lock_outside(3, rangemap_find(&s.map, page_va(3)), false);
	space_write_lock(&s);
	old = aptr_read(&s.map.root);
	assert_int_equal(vma_remove(&s, v), 0);
	space_write_unlock(&s);
	now = aptr_xchg(&s.map.root, old);
	lock_outside(1, NULL, true);
	aptr_set(&s.map.root, now);
	space_write_lock(&s);
}

static void add_over(void *arg)
{
	struct vma *v;
	int err = vma_add(&s, (struct range){ page_va(1), page_va(3) }, VM_READ, 1, &v);

	(void)arg;
	(void)err;
}

static void find_unlocked(void *arg)
{
	(void)arg;
	space_write_unlock(&s);
	vma_find(&s, page_va(0));
}

static void test_mistakes_are_bugs(void **state)
{
	(void)state;
	draw("aa..xx");
	assert_true(mini_is_bug(add_over, NULL));
	assert_true(mini_is_bug(find_unlocked, NULL));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_change_flags),
		TEST(test_change_flags_failing),
		TEST(test_add),
		TEST(test_add_moved),
		TEST(test_split_remove_merge),
		TEST(test_set_end),
		TEST(test_holes_and_bounds),
		TEST(test_counts),
		TEST(test_lock_rcu),
		TEST(test_late_reader),
		TEST(test_mistakes_are_bugs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
