/*
 * Parked pages: their bytes are kept where no access of the program reaches them.
 *
 * A word a page says where: in the region's shadow, as many addresses of its own at a constant
 * distance, or in a slot (slots.c). Neither traps: the core reads them while they are parked, and a
 * page that is dropped meanwhile reads as zeroes there.
 *
 * Pages leave and come home by the kernel's MOVE. It lets no store slip by: a store traps, or is in
 * the bytes. What it refuses is copied: pages shared after a fork (EBUSY), and mappings that are
 * not read-write like the shadow (EINVAL). The word is set when the bytes are there, and cleared
 * when they have left or are void; that they are parked counts, whatever is at home: there can only
 * be a page of zeroes that a core read left.
 *
 * MOVE leaves pages writable (move.c), so those whose entry forbids stores come home by COPY, write
 * protected in one step.
 */
#include "machine/host/host_internal.h"

size_t park_bytes(u64 region)
{
	return ALIGN_UP((region >> PAGE_SHIFT) * sizeof(a32_t), PAGE_SIZE);
}

/* The word of the n-th page behind one whose word is `word`, at the next address. */
static u32 nth(u32 word, u64 n)
{
	return word < PARK_SLOT ? word : word + (u32)n;
}

u64 park_find(const struct mspace *s, u64 first, u64 last)
{
	if (likely(!s->park || !a64_read(&s->nr_parked)))
		return last;
	for (u64 p = first; p < last; p++) {
		/* What is parked was populated before. */
		if (p == first || p % TOUCH_PAGES == 0) {
			p = state_skip_untouched(s, p, last);
			if (p >= last)
				break;
		}
		if (a32_read(&s->park[p]))
			return p;
	}
	return last;
}

u64 park_run_end(const struct mspace *s, u64 first, u64 last)
{
	u32 word = park_of(s, first);
	u64 end = first + 1;

	/* Nor does a run leave its pool: another mapping. */
	while (end < last && park_of(s, end) == nth(word, end - first) &&
	       (word < PARK_SLOT || nth(word - PARK_SLOT, end - first) % POOL_SLOTS))
		end++;
	return end;
}

void park_mark(struct mspace *s, u64 first, u64 last, u32 word)
{
	for (u64 p = first; p < last; p++)
		a32_set_release(&s->park[p], nth(word, p - first));
}

/* Two may drop the same page (entries.c: host_empty): each word is taken by one of them. */
bool park_take_run(struct mspace *s, u64 *first, u64 *last, u32 *word)
{
	u64 p = park_find(s, *first, *last), end;
	u32 w = PARK_NONE;

	while (p < *last && (w = a32_xchg(&s->park[p], PARK_NONE)) == PARK_NONE)
		p = park_find(s, p + 1, *last);
	if (p >= *last)
		return false;
	for (end = p + 1; end < *last; end++) {
		u32 next = nth(w, end - p);

		if ((w >= PARK_SLOT && !((next - PARK_SLOT) % POOL_SLOTS)) ||
		    !a32_cmpxchg(&s->park[end], &next, PARK_NONE))
			break;
	}
	a64_sub(&s->nr_parked, end - p);
	*first = p;
	*last = end;
	*word = w;
	return true;
}

/* ---- leaving ---- */
struct leaving {
	struct mspace *s;
	u64 first, last;
	u32 word;     /* of `first` */
	bool certain; /* nothing that it takes is missing: tests do not make it fail */
	struct state_snapshot writable; /* which were, in words of states */
};

static u64 target(const struct leaving *l, u64 page)
{
	return parked_at(l->s, page, nth(l->word, page - l->first));
}

static bool was_writable(const struct leaving *l, u64 page)
{
	return l->writable.populated[page / WORD_PAGES - l->first / WORD_PAGES] >>
		       (page % WORD_PAGES) &
	       1;
}

/* Pages that stay at home after all. `protected_now`: the kernel keeps all of them from stores. */
static void stay(struct leaving *l, u64 first, u64 last, bool protected_now)
{
	for (u64 p = first, end; p < last; p = end) {
		bool writable = was_writable(l, p);

		for (end = p + 1; end < last && was_writable(l, end) == writable; end++)
			;
		state_set(l->s, p, end, writable ? STATE_WRITABLE : STATE_PROTECTED);
		if (writable && protected_now)
			host_protect_pages(l->s, p, end, false);
	}
}

static bool is_refused(const struct leaving *l)
{
	return !l->certain && inject_fail(l->s->h->m.inject, INJECT_MACHINE_CALL);
}

/* The kernel does not move [first, last). On failure all of them are as they were. */
static int copy_out(struct leaving *l, u64 first, u64 last)
{
	struct host *h = l->s->h;
	u64 va = va_of(l->s, first), to = target(l, first), size = (last - first) << PAGE_SHIFT;
	struct host_policy before;
	int err = -ENOMEM;
	u64 done = 0;

	if (is_refused(l))
		return -ENOMEM;
	/* No store may slip in between the copy and the end of the original. */
	if (uffd_protect(h, va, size, true))
		return -ENOMEM;
	if (!is_refused(l)) {
		nodes_like(h, va, &before);
		err = uffd_fill(h, to, (const char *)(uintptr_t)va, size, &done);
		nodes_as_before(&before);
	}
	if (err) {
		if (done)
			host_discard(to, done);
		stay(l, first, last, true);
		return -ENOMEM;
	}
	a64_add(&h->count.move_copies, last - first);
	park_mark(l->s, first, last, nth(l->word, first - l->first));
	host_discard(va, size);
	return 0;
}

/*
 * The rest of [page, l->last) leaves; how far it came. What is refused once is copied, and twice as
 * much the next time: pages that a fork has shared come in crowds.
 */
static u64 leave(struct leaving *l, u64 page, int *err)
{
	struct host *h = l->s->h;
	u64 copies = 1;

	*err = 0;
	while (page < l->last) {
		u64 from = va_of(l->s, page), to = target(l, page), n;
		struct uffd_result res = { 0, -ENOMEM };

		if (!is_refused(l))
			res = uffd_move(h, to, from, (l->last - page) << PAGE_SHIFT);
		n = res.done >> PAGE_SHIFT;
		park_mark(l->s, page, page + n, nth(l->word, page - l->first));
		page += n;
		if (n)
			copies = 1;
		if (!res.err)
			continue;
		if (res.err == -EEXIST) { /* zeroes that a read left, or bytes that are void */
			host_discard(to + res.done, PAGE_SIZE);
			continue;
		}
		n = min(copies, l->last - page);
		copies *= 2;
		*err = res.err == -ENOMEM ? -ENOMEM : copy_out(l, page, page + n);
		if (*err)
			break;
		page += n;
	}
	return page;
}

static void leaving_init(struct leaving *l, struct mspace *s, u64 first, u64 last, u32 word)
{
	u32 i = 0;

	*l = (struct leaving){ .s = s, .first = first, .last = last, .word = word };
	for (u64 p = first; p < last; p = (p / WORD_PAGES + 1) * WORD_PAGES) {
		u64 state = a64_read(&s->state[p / WORD_PAGES]);

		l->writable.populated[i++] = state & ~(state >> 32) & POP_MASK;
	}
	/* Before the kernel takes them away (host_internal.h). */
	state_set(s, first, last, STATE_ABSENT);
}

int park_leave(struct mspace *s, u64 first, u64 last, u32 word)
{
	struct leaving l;
	u64 page = first;
	int err;

	leaving_init(&l, s, first, last, word);
	page = leave(&l, page, &err);
	a64_add(&s->nr_parked, page - first);
	if (page < last)
		stay(&l, page, last, false);
	return err;
}

u64 park_home_end(const struct mspace *s, u64 first, u64 last)
{
	while (first < last && !park_of(s, first) && (state_of(s, first) & STATE_WRITABLE))
		first++;
	return first;
}

int host_frames_park(struct machine *m, u64 pfn, u32 nr)
{
	u64 va = pfn << PAGE_SHIFT;
	struct mspace *s = host_space_at(host_of(m), va);
	u64 first, last;
	int err = 0;

	BUG_ON(!s || nr > PTRS_PER_TABLE);
	first = page_of(s, va);
	last = first + nr;
	for (u64 p = first, end; p < last && !err; p = end) {
		end = park_home_end(s, p, last);
		if (end > p)
			err = park_leave(s, p, end, PARK_SHADOW);
		else
			end = p + 1; /* parked already */
	}
	return err;
}

/* ---- coming home ---- */
struct arrival {
	struct mspace *s;
	u64 page; /* of entries[0] */
	const u64 *entries;
	u32 nr;
	u64 moved[PTRS_PER_TABLE / 64];  /* the parked copy is gone */
	u64 copied[PTRS_PER_TABLE / 64]; /* it is still there, but can be written at home */
};

static bool is_coming(const struct arrival *a, u32 i, bool protect)
{
	return entry_present(a->entries[i]) && park_of(a->s, a->page + i) &&
	       entry_wants_protection(a->entries[i]) == protect;
}

/* The next run of coming pages in [*i, nr) that are parked side by side; false: no more. */
static bool next_coming(const struct arrival *a, u32 *i, u32 *end, bool protect)
{
	u64 stop;
	u32 k = *i;

	while (k < a->nr && !is_coming(a, k, protect))
		k++;
	if (k == a->nr)
		return false;
	stop = park_run_end(a->s, a->page + k, a->page + a->nr);
	*i = k;
	while (++k < stop - a->page && is_coming(a, k, protect))
		;
	*end = k;
	return true;
}

static void mark(u64 *bits, u32 i, u32 n)
{
	for (; n; i++, n--)
		bits[i / 64] |= BIT(i % 64);
}

static bool marked(const u64 *bits, u32 i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static u64 source(const struct arrival *a, u32 i)
{
	return parked_at(a->s, a->page + i, park_of(a->s, a->page + i));
}

/* On failure some have been copied. */
static int copy_home(struct arrival *a, u32 i, u32 end, bool protect)
{
	struct host *h = a->s->h;
	char *stage = stage_get(h, STAGE_SMALL);
	struct host_policy before;
	int err = 0;

	if (!stage)
		return -ENOMEM;
	nodes_like(h, source(a, i), &before);
	for (u32 n; i < end && !err; i += n) {
		n = min(end - i, STAGE_SMALL);
		err = slots_read(h, stage, source(a, i), n);
		if (!err)
			err = host_install(a->s, a->page + i, n, stage, protect);
		if (!err && !protect)
			mark(a->copied, i, n);
	}
	nodes_as_before(&before);
	stage_put(h, STAGE_SMALL, stage);
	return err;
}

static int move_home(struct arrival *a, u32 i, u32 end)
{
	struct host *h = a->s->h;
	u32 copies = 1;

	if (inject_fail(h->m.inject, INJECT_MACHINE_CALL))
		return -ENOMEM;
	while (i < end) {
		u64 to = va_of(a->s, a->page + i);
		struct uffd_result res =
			uffd_move(h, to, source(a, i), (u64)(end - i) << PAGE_SHIFT);
		u32 n = (u32)(res.done >> PAGE_SHIFT);

		state_set(a->s, a->page + i, a->page + i + n, STATE_WRITABLE);
		mark(a->moved, i, n);
		i += n;
		if (n)
			copies = 1;
		if (!res.err)
			continue;
		if (res.err == -EEXIST) { /* of zeroes */
			host_discard(to + res.done, PAGE_SIZE);
			continue;
		}
		n = min(copies, end - i);
		copies *= 2;
		if (res.err == -ENOMEM || copy_home(a, i, i + n, false))
			return -ENOMEM;
		a64_add(&h->count.move_copies, n);
		i += n;
	}
	return 0;
}

/*
 * Nothing is to be installed. Pages that could be written already go back with what was stored in
 * them; that takes neither memory nor a table.
 */
static void turn_back(struct arrival *a)
{
	for (u32 i = 0, end; next_coming(a, &i, &end, true); i = end)
		host_drop_home(a->s, a->page + i, a->page + end);
	for (u32 i = 0; i < a->nr; i++) {
		u64 page = a->page + i;
		struct leaving l;
		int err;

		if (!marked(a->moved, i) && !marked(a->copied, i))
			continue;
		leaving_init(&l, a->s, page, page + 1, park_of(a->s, page));
		l.certain = true;
		leave(&l, page, &err);
		BUG_ON(err);
	}
}

/* They are at home: what is left of the parked copies goes. */
static void arrived(struct arrival *a, bool protect)
{
	struct mspace *s = a->s;

	for (u32 i = 0, end; next_coming(a, &i, &end, protect); i = end) {
		bool moved = marked(a->moved, i);
		u32 word = park_of(s, a->page + i);
		u64 at = source(a, i);
		u32 k = i + 1;

		while (k < end && marked(a->moved, k) == moved)
			k++;
		end = k;
		park_mark(s, a->page + i, a->page + end, PARK_NONE);
		a64_sub(&s->nr_parked, end - i);
		if (word >= PARK_SLOT && moved)
			slots_put(s->h, word - PARK_SLOT, end - i);
		else if (word >= PARK_SLOT)
			slots_recycle(s->h, word - PARK_SLOT, end - i);
		else if (!moved)
			host_discard(at, (u64)(end - i) << PAGE_SHIFT);
	}
}

int park_come_home(struct mspace *s, u64 page, const u64 *entries, u32 nr)
{
	struct arrival a = { .s = s, .page = page, .entries = entries, .nr = nr };
	int err = 0;

	BUG_ON(nr > PTRS_PER_TABLE);
	/* Copies first: they are undone easily. */
	for (u32 i = 0, end; !err && next_coming(&a, &i, &end, true); i = end)
		err = copy_home(&a, i, end, true);
	for (u32 i = 0, end; !err && next_coming(&a, &i, &end, false); i = end)
		err = move_home(&a, i, end);
	if (unlikely(err)) {
		turn_back(&a);
		return -ENOMEM;
	}
	arrived(&a, true);
	arrived(&a, false);
	return 0;
}
