/*
 * Exclusivity as a matrix (Linux 6c287605): a page in each state, each thing that can be done to
 * it, then a store by its owner. Three numbers are expected of each cell: pages copied by the
 * operation, pages copied by the store, and frames in use at the end; with the reason. Whatever the
 * cell: the owner loads what it has stored, whoever shared the page still loads what it had, and a
 * pin shows what the owner loads, before and after the store - with the exceptions that the table
 * names. Copies are the same for a page of a large folio; frames are not, since its neighbours
 * have theirs. Where the writer keeps the frame and flushes come under the entry lock, a large
 * folio
 * is copied as a whole: there only contents are compared.
 */
#include "object_env.h"

#define OLD 1111u
#define NEW 2222u

#define FOLIO_PAGES 4u /* that a lone first touch fills */

enum state {
	FRESH,    /* written, never shared */
	FORKED,   /* a child has it too */
	SWAPPED,  /* paged out, never shared */
	ZERO,     /* only read so far */
	SNAPSHOT, /* a snapshot has it too */
	FILED,    /* a private area's page of a file, not written yet */
	PINNED,   /* written, and pinned for writing */
	NR_STATES
};

enum op {
	FORK,
	PIN_READ,
	PIN_WRITE,
	PIN_FAST, /* for reading */
	PIN_LONG, /* for reading, long-term */
	PROTECT,  /* read-only, and back */
	UNMAP,    /* and mapped again */
	RECLAIM,
	SWAP_IN, /* paged out and loaded */
	REMAP,
	NR_OPS
};

static const char *const state_name[] = { "fresh",    "forked",       "swapped", "zero",
					  "snapshot", "file-private", "pinned" };
static const char *const op_name[] = { "fork",    "pin-read", "pin-write", "pin-fast", "pin-long",
				       "protect", "unmap",    "reclaim",   "swap-in",  "remap" };

enum shows {
	SAME,  /* the pin, if there is one, shows what the owner loads, always */
	STALE, /* it shows the old contents after the store */
};

struct cell {
	enum state state;
	enum op op;
	u32 op_copies, store_copies, frames;
	enum shows pin;
	const char *why;
};

/* clang-format off */
static const struct cell plain[] = {
	{ FRESH, FORK,      0, 1, 2, SAME, "shared by fork: the store copies" },
	{ FRESH, PIN_READ,  0, 0, 1, SAME, "exclusive: pinned as it is, written in place" },
	{ FRESH, PIN_WRITE, 0, 0, 1, SAME, "exclusive" },
	{ FRESH, PIN_FAST,  0, 0, 1, SAME, "exclusive" },
	{ FRESH, PIN_LONG,  0, 0, 1, SAME, "exclusive" },
	{ FRESH, PROTECT,   0, 0, 1, SAME, "rights come and go, exclusivity stays" },
	{ FRESH, UNMAP,     0, 0, 1, SAME, "a new page" },
	{ FRESH, RECLAIM,   0, 0, 1, SAME, "the swap entry remembers that it is exclusive" },
	{ FRESH, SWAP_IN,   0, 0, 1, SAME, "exclusive again" },
	{ FRESH, REMAP,     0, 0, 1, SAME, "the same page elsewhere" },

	{ FORKED, FORK,      0, 1, 2, SAME, "one more shares it" },
	{ FORKED, PIN_READ,  1, 0, 2, SAME, "unshared: the store would leave the pin" },
	{ FORKED, PIN_WRITE, 1, 0, 2, SAME, "copied as for a store" },
	{ FORKED, PIN_FAST,  1, 0, 2, SAME, "unshared first" },
	{ FORKED, PIN_LONG,  1, 0, 2, SAME, "unshared first" },
	{ FORKED, PROTECT,   0, 1, 2, SAME, "still shared" },
	{ FORKED, UNMAP,     0, 0, 2, SAME, "a new page; the other is the child's" },
	{ FORKED, RECLAIM,   0, 0, 2, SAME, "the stored copy stays for the child" },
	{ FORKED, SWAP_IN,   0, 0, 2, SAME, "the stored copy stays for the child" },
	{ FORKED, REMAP,     0, 1, 2, SAME, "still shared" },

	{ SWAPPED, FORK,      0, 0, 2, SAME, "both entries name the slot; the copy stays in it" },
	{ SWAPPED, PIN_READ,  0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PIN_WRITE, 0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PIN_FAST,  0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PIN_LONG,  0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PROTECT,   0, 0, 1, SAME, "the entry is not touched" },
	{ SWAPPED, UNMAP,     0, 0, 1, SAME, "a new page" },
	{ SWAPPED, RECLAIM,   0, 0, 1, SAME, "out already" },
	{ SWAPPED, SWAP_IN,   0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, REMAP,     0, 0, 1, SAME, "the entry moves as it is" },

	{ ZERO, FORK,      0, 1, 1, SAME, "everybody's already; the child's stays so" },
	{ ZERO, PIN_READ,  0, 1, 1, STALE, "the one page that a short pin may share" },
	{ ZERO, PIN_WRITE, 1, 0, 1, SAME, "gets a page of its own first" },
	{ ZERO, PIN_FAST,  0, 1, 1, STALE, "as pin-read" },
	{ ZERO, PIN_LONG,  1, 0, 1, SAME, "gets a page of its own: the pin stays" },
	{ ZERO, PROTECT,   0, 1, 1, SAME, "still the zero page" },
	{ ZERO, UNMAP,     0, 0, 1, SAME, "a new page" },
	{ ZERO, RECLAIM,   0, 1, 1, SAME, "no page to take" },
	{ ZERO, SWAP_IN,   0, 1, 1, SAME, "no page to take" },
	{ ZERO, REMAP,     0, 1, 1, SAME, "the entry moves as it is" },

	{ SNAPSHOT, FORK,      0, 1, 2, SAME, "one more shares it, twice" },
	{ SNAPSHOT, PIN_READ,  1, 0, 2, SAME, "unshared first" },
	{ SNAPSHOT, PIN_WRITE, 1, 0, 2, SAME, "copied as for a store" },
	{ SNAPSHOT, PIN_FAST,  1, 0, 2, SAME, "unshared first" },
	{ SNAPSHOT, PIN_LONG,  1, 0, 2, SAME, "unshared first" },
	{ SNAPSHOT, PROTECT,   0, 1, 2, SAME, "still shared" },
	{ SNAPSHOT, UNMAP,     0, 0, 2, SAME, "a new page; the other is the snapshot's" },
	{ SNAPSHOT, RECLAIM,   0, 0, 2, SAME, "the stored copy stays for the snapshot" },
	{ SNAPSHOT, SWAP_IN,   0, 0, 2, SAME, "the stored copy stays for the snapshot" },
	{ SNAPSHOT, REMAP,     0, 1, 2, SAME, "still shared" },

	{ FILED, FORK,      0, 1, 2, SAME, "the file's page is nobody's own" },
	{ FILED, PIN_READ,  0, 1, 2, STALE, "a short pin may have the file's page" },
	{ FILED, PIN_WRITE, 1, 0, 2, SAME, "copied as for a store" },
	{ FILED, PIN_FAST,  0, 1, 2, STALE, "as pin-read" },
	{ FILED, PIN_LONG,  1, 0, 2, SAME, "gets a page of its own: the pin stays" },
	{ FILED, PROTECT,   0, 1, 2, SAME, "still the file's" },
	{ FILED, UNMAP,     0, 1, 2, SAME, "the file's page again" },
	{ FILED, RECLAIM,   0, 1, 2, SAME, "read again, to be copied" },
	{ FILED, SWAP_IN,   0, 1, 2, SAME, "read again, and still the file's" },
	{ FILED, REMAP,     0, 1, 2, SAME, "still the file's" },

	{ PINNED, FORK,      0, 0, 2, SAME, "the child gets a copy: the page stays exclusive" },
	{ PINNED, PIN_READ,  0, 0, 1, SAME, "exclusive" },
	{ PINNED, PIN_WRITE, 0, 0, 1, SAME, "exclusive" },
	{ PINNED, PIN_FAST,  0, 0, 1, SAME, "exclusive" },
	{ PINNED, PIN_LONG,  0, 0, 1, SAME, "exclusive" },
	{ PINNED, PROTECT,   0, 0, 1, SAME, "written in place when rights are back" },
	{ PINNED, UNMAP,     0, 0, 2, STALE, "the pin keeps what it has; a new page is mapped" },
	{ PINNED, RECLAIM,   0, 0, 1, SAME, "not taken" },
	{ PINNED, SWAP_IN,   0, 0, 1, SAME, "not taken" },
	{ PINNED, REMAP,     0, 0, 1, SAME, "the same page elsewhere" },
};

/* Home frames: nothing is shared, there is no zero page, and a page's bytes are at its address. */
static const struct cell home[] = {
	{ FRESH, PIN_READ,  0, 0, 1, SAME, "exclusive, always" },
	{ FRESH, PIN_WRITE, 0, 0, 1, SAME, "exclusive" },
	{ FRESH, PIN_FAST,  0, 0, 1, SAME, "exclusive" },
	{ FRESH, PIN_LONG,  0, 0, 1, SAME, "exclusive" },
	{ FRESH, PROTECT,   0, 0, 1, SAME, "rights come and go" },
	{ FRESH, UNMAP,     0, 0, 1, SAME, "a new page in the same frame" },
	{ FRESH, RECLAIM,   0, 0, 1, SAME, "comes back exclusive" },
	{ FRESH, SWAP_IN,   0, 0, 1, SAME, "comes back exclusive" },
	{ FRESH, REMAP,     0, 0, 1, SAME, "the bytes move, the old frame is given back" },

	{ SWAPPED, PIN_READ,  0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PIN_WRITE, 0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PIN_FAST,  0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PIN_LONG,  0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, PROTECT,   0, 0, 1, SAME, "the entry is not touched" },
	{ SWAPPED, UNMAP,     0, 0, 1, SAME, "a new page" },
	{ SWAPPED, RECLAIM,   0, 0, 1, SAME, "out already" },
	{ SWAPPED, SWAP_IN,   0, 0, 1, SAME, "comes back exclusive" },
	{ SWAPPED, REMAP,     0, 0, 1, SAME, "the entry moves as it is" },

	{ ZERO, PIN_READ,  0, 0, 1, SAME, "a page of its own from the first load on" },
	{ ZERO, PIN_WRITE, 0, 0, 1, SAME, "a page of its own" },
	{ ZERO, PIN_FAST,  0, 0, 1, SAME, "a page of its own" },
	{ ZERO, PIN_LONG,  0, 0, 1, SAME, "a page of its own" },
	{ ZERO, PROTECT,   0, 0, 1, SAME, "a page of its own" },
	{ ZERO, UNMAP,     0, 0, 1, SAME, "a new page" },
	{ ZERO, RECLAIM,   0, 0, 1, SAME, "comes back exclusive" },
	{ ZERO, SWAP_IN,   0, 0, 1, SAME, "comes back exclusive" },
	{ ZERO, REMAP,     0, 0, 1, SAME, "the bytes move" },

	{ PINNED, PIN_READ,  0, 0, 1, SAME, "exclusive" },
	{ PINNED, PIN_WRITE, 0, 0, 1, SAME, "exclusive" },
	{ PINNED, PIN_FAST,  0, 0, 1, SAME, "exclusive" },
	{ PINNED, PIN_LONG,  0, 0, 1, SAME, "exclusive" },
	{ PINNED, PROTECT,   0, 0, 1, SAME, "written in place when rights are back" },
	{ PINNED, UNMAP,     0, 0, 1, SAME, "the page comes back to the pinned frame" },
	{ PINNED, RECLAIM,   0, 0, 1, SAME, "not taken" },
	{ PINNED, SWAP_IN,   0, 0, 1, SAME, "not taken" },
	{ PINNED, REMAP,     0, 0, 2, STALE, "the bytes move away from the pinned frame" },
};
/* clang-format on */

struct page {
	struct env e;
	bool large;   /* one of four pages of a folio */
	u64 va, at;   /* where it was made, where it is */
	u64 snapshot; /* 0: none */
	struct medium *medium;
	struct object *file; /* NULL: none */
	u64 shared;          /* where its page is mapped too */
	struct space *child; /* by the state */
	struct space *forked;
	struct folio *pin[2];
	bool pinned[2];
	u64 contents; /* what everybody loads before the store */
};

static u64 load(struct page *p, struct space *s, u64 va)
{
	u64 v = 0;

	assert_int_equal(sim_load(p->e.m, 0, s->ms, va, &v, 8), 0);
	return v;
}

static u64 copies(struct page *p)
{
	return stat_read(p->e.q, STAT_FAULT_COW);
}

static void pin(struct page *p, u32 n, u32 access, bool fast)
{
	struct range r = { p->at, p->at + PAGE_SIZE };
	struct fault_space *fs = &p->e.s->fs;

	assert_int_equal(fast ? pin_fast(p->e.q, fs, r, access, &p->pin[n]) :
				pin_pages(p->e.q, fs, r, access, &p->pin[n]),
			 1);
	p->pinned[n] = true;
}

/* On home frames the window is readable in a bracket only; the zero page has no record. */
static u64 pin_contents(struct page *p, u32 n)
{
	struct machine *m = p->e.m;
	struct folio *rec = p->pin[n] ? p->pin[n] : fault_zero_folio(p->e.q);
	const u64 *w;
	u64 v;

	m->ops->read_begin(m);
	w = m->ops->frame_window(m, folio_pfn(p->e.q, rec));
	assert_non_null(w);
	v = *w;
	m->ops->read_end(m);
	return v;
}

static u64 map_file(struct page *p, u64 at, u32 flags)
{
	assert_int_equal(
		space_map_object(p->e.q, p->e.s, at, PAGE_SIZE, RW, flags, p->file, 0, &at), 0);
	return at;
}

static void make_page(struct page *p, enum state state)
{
	p->contents = state == ZERO ? 0 : OLD;
	if (state == FILED) {
		p->medium = medium_new();
		*(u64 *)p->medium->bytes = OLD;
		p->file = object_new(&p->e, p->medium, PAGE_SIZE);
		p->shared = map_file(p, 0, MAP_F_SHARED);
		p->va = p->at = map_file(p, 0, 0);
	} else if (p->large) {
		p->va = p->at = env_map(&p->e, FOLIO_PAGES, RW, 0) + PAGE_SIZE;
	} else {
		p->va = p->at = env_map(&p->e, 1, RW, 0);
		assert_int_equal(space_advise(p->e.q, p->e.s, p->va, PAGE_SIZE, ADVISE_RANDOM), 0);
	}
	if (state == ZERO || state == FILED)
		assert_int_equal(load(p, p->e.s, p->va), p->contents);
	else
		assert_int_equal(env_store(&p->e, p->va, OLD), 0);
	if (p->large && state != ZERO)
		assert_int_equal(phys_folio(p->e.q, entry_pfn(env_entry(&p->e, p->va)))->order, 2);
	lru_drain_all(p->e.q);
}

/* A folio goes as a whole. */
static void page_out(struct page *p)
{
	if (p->large)
		env_pageout(&p->e, p->va - PAGE_SIZE, FOLIO_PAGES);
	else
		env_pageout(&p->e, p->va, 1);
}

static void enter_state(struct page *p, enum state state)
{
	make_page(p, state);
	switch (state) {
	case FORKED:
		assert_int_equal(space_fork(p->e.q, p->e.s, &p->child), 0);
		break;
	case SWAPPED:
		page_out(p);
		assert_true(pte_is_swap(env_entry(&p->e, p->va)));
		break;
	case SNAPSHOT:
		assert_int_equal(space_snapshot(p->e.q, p->e.s, p->va, PAGE_SIZE, 0, &p->snapshot),
				 0);
		break;
	case PINNED:
		pin(p, 0, ACCESS_WRITE, false);
		break;
	default:
		break;
	}
}

static void unmap_and_map(struct page *p)
{
	u64 at;

	assert_int_equal(space_unmap(p->e.q, p->e.s, p->va, PAGE_SIZE), 0);
	if (p->file) {
		map_file(p, p->va, MAP_F_FIXED);
		return;
	}
	assert_int_equal(space_map(p->e.q, p->e.s, p->va, PAGE_SIZE, RW, MAP_F_FIXED, &at), 0);
	assert_int_equal(space_advise(p->e.q, p->e.s, p->va, PAGE_SIZE, ADVISE_RANDOM), 0);
}

static void operate(struct page *p, enum op op)
{
	struct quire *q = p->e.q;
	struct space *s = p->e.s;

	switch (op) {
	case FORK:
		assert_int_equal(space_fork(q, s, &p->forked), 0);
		break;
	case PIN_READ:
		pin(p, 1, ACCESS_READ, false);
		break;
	case PIN_WRITE:
		pin(p, 1, ACCESS_WRITE, false);
		break;
	case PIN_FAST:
		pin(p, 1, ACCESS_READ, true);
		break;
	case PIN_LONG:
		pin(p, 1, ACCESS_READ | ACCESS_LONGTERM, true);
		break;
	case PROTECT:
		assert_int_equal(space_protect(q, s, p->va, PAGE_SIZE, PROT_BITS_READ), 0);
		assert_int_equal(space_protect(q, s, p->va, PAGE_SIZE, RW), 0);
		break;
	case UNMAP:
		unmap_and_map(p);
		break;
	case RECLAIM:
	case SWAP_IN:
		page_out(p);
		if (op == SWAP_IN)
			assert_int_equal(load(p, s, p->va), p->contents);
		break;
	default:
		p->at = env_map(&p->e, 2, RW, 0) + PAGE_SIZE;
		assert_int_equal(space_remap(q, s, p->va, PAGE_SIZE, PAGE_SIZE, 3, p->at, &p->at),
				 0);
	}
	lru_drain_all(q);
}

static bool others_see(struct page *p, u64 v)
{
	return (!p->child || load(p, p->child, p->va) == v) &&
	       (!p->forked || load(p, p->forked, p->va) == v) &&
	       (!p->snapshot || load(p, p->e.s, p->snapshot) == v) &&
	       (!p->snapshot || !p->forked || load(p, p->forked, p->snapshot) == v) &&
	       (!p->file || load(p, p->e.s, p->shared) == v);
}

static bool pins_show(struct page *p, u64 v)
{
	return (!p->pinned[0] || pin_contents(p, 0) == v) &&
	       (!p->pinned[1] || pin_contents(p, 1) == v);
}

static void leave(struct page *p)
{
	for (u32 n = 0; n < 2; n++)
		if (p->pinned[n])
			unpin_pages(p->e.q, &p->pin[n], 1);
	if (p->child)
		space_destroy(p->e.q, p->child);
	if (p->forked)
		space_destroy(p->e.q, p->forked);
	if (p->file) {
		assert_int_equal(space_unmap(p->e.q, p->e.s, p->at, PAGE_SIZE), 0);
		assert_int_equal(space_unmap(p->e.q, p->e.s, p->shared, PAGE_SIZE), 0);
		object_put(p->file);
	}
	env_close(&p->e);
	if (p->file)
		medium_free(p->medium);
}

static bool as_expected(const struct cell *c, u32 kind, bool large, const char *wrong,
			u64 op_copies, u64 store_copies, u64 frames)
{
	if (!wrong && large && (kind & 12) == 12)
		return true;
	if (!wrong && c->op_copies == op_copies && c->store_copies == store_copies &&
	    (large || c->frames == frames))
		return true;
	print_error("%s%s, %s, kind %u: %u + %u copies and %u frames (%s); got %u + %u, %u%s\n",
		    large ? "large, " : "", state_name[c->state], op_name[c->op], kind,
		    c->op_copies, c->store_copies, c->frames, c->why, (u32)op_copies,
		    (u32)store_copies, (u32)frames, wrong ? wrong : "");
	return false;
}

static bool cell_holds(const struct cell *c, u32 kind, bool large)
{
	struct page p = { .large = large };
	u64 before, op_copies, store_copies, frames;
	bool stale = c->pin == STALE;
	const char *wrong = NULL;

	env_open(&p.e, kind, 0, NULL);
	enter_state(&p, c->state);
	before = copies(&p);
	operate(&p, c->op);
	op_copies = copies(&p) - before;
	env_check(&p.e);
	/* Unmapped for good, or moved away from: the pin has the old page. */
	if (c->op != UNMAP && !(stale && c->op == REMAP) && !pins_show(&p, p.contents))
		wrong = "; the pin shows something else before the store";
	before = copies(&p);
	assert_int_equal(env_store(&p.e, p.at, NEW), 0);
	store_copies = copies(&p) - before;
	lru_drain_all(p.e.q);
	if (load(&p, p.e.s, p.at) != NEW)
		wrong = "; the store is lost";
	if (pins_show(&p, NEW) == stale)
		wrong = "; the pin shows something else after the store";
	if (!others_see(&p, p.contents))
		wrong = "; others see the store";
	if (load(&p, p.e.s, p.at) != NEW)
		wrong = "; the store is lost once others have looked";
	frames = cgroup_usage(p.e.q, CGROUP_ROOT);
	leave(&p);
	return as_expected(c, kind, large, wrong, op_copies, store_copies, frames);
}

/* Every cell of the table, once. */
static u32 run_table(const struct cell *cells, u32 n, u32 kind, bool large)
{
	bool seen[NR_STATES][NR_OPS] = { { false } };
	u32 bad = 0;

	for (u32 i = 0; i < n; i++) {
		assert_false(seen[cells[i].state][cells[i].op]);
		seen[cells[i].state][cells[i].op] = true;
		if (!large || cells[i].state != FILED)
			bad += !cell_holds(&cells[i], kind, large);
	}
	return bad;
}

/* The same where the writer keeps the frame and the others get the copy (CAP_PLACED). */
static void plain_frames(void **state)
{
	static const u32 kinds[] = { 0, 2, 4, 6, 12, 14 };
	u32 bad = 0;

	(void)state;
	assert_int_equal(ARRAY_SIZE(plain), NR_STATES * NR_OPS);
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++)
		for (u32 large = 0; large < 2; large++)
			bad += run_table(plain, ARRAY_SIZE(plain), kinds[i], large);
	assert_int_equal(bad, 0);
}

static void home_frames(void **state)
{
	u32 bad = 0;

	(void)state;
	for (u32 kind = 1; kind < 4; kind += 2)
		for (u32 large = 0; large < 2; large++)
			bad += run_table(home, ARRAY_SIZE(home), kind, large);
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_frames),
		cmocka_unit_test(home_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
