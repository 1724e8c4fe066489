/*
 * Moving the bytes of home frames to memory of another node.
 *
 * They are copied to slots of that node and stay there, parked, until their entries are set; then
 * the kernel moves the pages home. The pages they leave become the first node's to use again, so
 * that as long as as much comes as goes the kernel makes and frees none.
 *
 * Until all copies are made nothing has changed but protection: pages at home are kept from stores
 * first. The kernel does the copying (slots.c). Where a pool is crowded with parked pages, they
 * move on to the shadow.
 */
#include "machine/host/host_internal.h"

struct transfer {
	struct host *h;
	struct mspace *s;
	u64 page;
	u32 nr;
	unsigned from, to;
	char *stage;              /* STAGE_SMALL pages */
	u32 word[PTRS_PER_TABLE]; /* where the copies are; 0: nothing is there */
};

/* The next run of pages from *i on whose bytes lie side by side; *word: where. False: no more. */
static bool next_source(const struct transfer *t, u32 *i, u32 *end, u32 *word)
{
	u64 last = t->page + t->nr;

	for (u64 p = t->page + *i; p < last; p++) {
		u64 stop = park_of(t->s, p) ? park_run_end(t->s, p, last) :
					      park_home_end(t->s, p, last);

		if (stop == p) /* nothing is there: nothing has to move */
			continue;
		*i = (u32)(p - t->page);
		*end = (u32)(stop - t->page);
		*word = park_of(t->s, p);
		return true;
	}
	return false;
}

static u64 source_at(const struct transfer *t, u32 i, u32 word)
{
	return word ? parked_at(t->s, t->page + i, word) : va_of(t->s, t->page + i);
}

/* ---- copies ---- */
/* No store may get between the copy and the end of the original. */
static void protect(struct transfer *t, u64 first, u64 last)
{
	for (u64 p = first, end; (p = state_find_populated(t->s, p, last, true)) < last; p = end) {
		for (end = p + 1; end < last && state_of(t->s, end) == STATE_WRITABLE; end++)
			;
		host_protect_pages(t->s, p, end, true);
	}
}

/* n pages from `from` to slots that are full, or empty. */
static int copy(struct transfer *t, u32 slot, u64 from, u32 n, bool full)
{
	u64 to = slot_va(t->h, slot), done;
	int err = 0;

	if (!t->h->has_vm_copy)
		return uffd_fill(t->h, to, (const void *)(uintptr_t)from, (u64)n << PAGE_SHIFT,
				 &done);
	for (u32 part; n && !err; n -= part) {
		u64 size;

		part = min(n, STAGE_SMALL);
		size = (u64)part << PAGE_SHIFT;
		if (inject_fail(t->h->m.inject, INJECT_MACHINE_CALL) ||
		    slots_read(t->h, t->stage, from, part))
			return -ENOMEM;
		if (inject_fail(t->h->m.inject, INJECT_MACHINE_CALL))
			return -ENOMEM;
		err = full ? slots_write(t->h, to, t->stage, part) :
			     uffd_fill(t->h, to, t->stage, size, &done);
		from += size;
		to += size;
	}
	return err;
}

/* Pages [i, end), which lie side by side from `word` on. */
static int copy_run(struct transfer *t, u32 i, u32 end, u32 word)
{
	u64 misplaced[PTRS_PER_TABLE / 64];

	for (u32 n, start = i; i < end; i += n) {
		u64 from = source_at(t, start, word) + ((u64)(i - start) << PAGE_SHIFT);
		bool full = true;
		u32 slot;
		int err;

		n = slots_claim(t->h, t->to, true, end - i, &slot);
		if (!n) {
			full = false;
			n = slots_claim(t->h, t->to, false, end - i, &slot);
		}
		if (!n)
			return -ENOMEM;
		err = copy(t, slot, from, n, full);
		if (!err && !full &&
		    nodes_misplaced(t->h, slot_va(t->h, slot), n, t->to, misplaced))
			err = -ENOMEM; /* that node is full */
		if (err) {
			slots_drop(t->h, slot, n);
			return -ENOMEM;
		}
		for (u32 k = 0; k < n; k++)
			t->word[i + k] = PARK_SLOT + slot + k;
	}
	return 0;
}

/* ---- what is left behind ---- */
static void recycle(struct transfer *t, const u32 *word, u32 i, u32 end)
{
	for (u32 k; i < end; i = k) {
		for (k = i + 1;
		     k < end && word[k] == word[i] + (k - i) && (word[k] - PARK_SLOT) % POOL_SLOTS;
		     k++)
			;
		if (word[i] >= PARK_SLOT)
			slots_recycle(t->h, word[i] - PARK_SLOT, k - i);
	}
}

/* n pages at va, which nobody wants any more, go to the first node's pool; or else away. */
static void vacate(struct transfer *t, u64 va, u32 n)
{
	u32 slot = 0, room = min(n, slots_room(t->h, t->from)), got = 0;
	struct uffd_result res = { 0, 0 };

	if (room)
		got = slots_claim(t->h, t->from, false, room, &slot);
	if (got) {
		u32 moved;

		res = uffd_move(t->h, slot_va(t->h, slot), va, (u64)got << PAGE_SHIFT);
		moved = (u32)(res.done >> PAGE_SHIFT);
		if (moved)
			slots_recycle(t->h, slot, moved);
		if (moved < got) /* refused, or something is there: away with it */
			slots_drop(t->h, slot + moved, got - moved);
	}
	if (res.done < (u64)n << PAGE_SHIFT)
		host_discard(va + res.done, ((u64)n << PAGE_SHIFT) - res.done);
}

/* Copies that are parked in a crowded pool. The kernel may refuse: then they stay. */
static void move_on(struct transfer *t, u32 i)
{
	while (i < t->nr) {
		u64 page = t->page + i, stop, to;
		struct uffd_result res;
		u32 n;

		if (park_of(t->s, page) < PARK_SLOT) {
			i++;
			continue;
		}
		stop = park_run_end(t->s, page, t->page + t->nr);
		to = va_of(t->s, page) + t->s->shadow;
		res = uffd_move(t->h, to, slot_va(t->h, t->word[i] - PARK_SLOT),
				(stop - page) << PAGE_SHIFT);
		n = (u32)(res.done >> PAGE_SHIFT);
		park_mark(t->s, page, page + n, PARK_SHADOW);
		if (n)
			slots_put(t->h, t->word[i] - PARK_SLOT, n);
		i += n;
		if (res.err == -EEXIST)
			host_discard(to + res.done, PAGE_SIZE);
		else if (res.err)
			i++;
	}
}

/* Pages [i, end) have been copied, from `word` on: the copies are the bytes now. */
static void commit_run(struct transfer *t, u32 i, u32 end, u32 word)
{
	u64 first = t->page + i, at = source_at(t, i, word);

	for (u32 k = i; k < end; k++)
		park_mark(t->s, t->page + k, t->page + k + 1, t->word[k]);
	if (word >= PARK_SLOT) {
		slots_recycle(t->h, word - PARK_SLOT, end - i);
		return;
	}
	if (!word) {
		a64_add(&t->s->nr_parked, end - i);
		/* Before the kernel takes them away (host_internal.h). */
		state_set(t->s, first, t->page + end, STATE_ABSENT);
	}
	vacate(t, at, end - i);
}

int host_frames_to_node(struct machine *m, u64 pfn, u32 nr, unsigned from, unsigned to)
{
	struct host *h = host_of(m);
	u64 va = pfn << PAGE_SHIFT;
	struct transfer t = { .h = h, .nr = nr, .from = from, .to = to };
	u32 word;
	int err = 0;

	BUG_ON(nr > PTRS_PER_TABLE || from >= m->nr_nodes || to >= m->nr_nodes);
	if (from == to)
		return host_frames_park(m, pfn, nr);
	t.s = host_space_at(h, va);
	BUG_ON(!t.s);
	t.page = page_of(t.s, va);
	t.stage = stage_get(h, STAGE_SMALL);
	if (!t.stage)
		return -ENOMEM;
	for (u32 i = 0, end; !err && next_source(&t, &i, &end, &word); i = end) {
		if (!word)
			protect(&t, t.page + i, t.page + end);
		err = copy_run(&t, i, end, word);
	}
	stage_put(h, STAGE_SMALL, t.stage);
	if (unlikely(err)) {
		recycle(&t, t.word, 0, nr);
		return -ENOMEM;
	}
	for (u32 i = 0, end; next_source(&t, &i, &end, &word); i = end)
		commit_run(&t, i, end, word);
	if (unlikely(slots_crowded(h, to)))
		move_on(&t, 0);
	return 0;
}
