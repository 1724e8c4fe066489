/* Page states: two bits a page in a flat array of which the kernel holds only what was touched. */
#include "machine/host/host_internal.h"

static void touch(struct mspace *s, u64 first, u64 last)
{
	for (u64 t = first / TOUCH_PAGES; t <= (last - 1) / TOUCH_PAGES; t++) {
		a64_t *word = &s->touched[t / 64];

		if (!(a64_read(word) & BIT(t % 64)))
			a64_fetch_or(word, BIT(t % 64));
	}
}

void state_set(struct mspace *s, u64 first, u64 last, u64 state)
{
	if (state != STATE_ABSENT && first < last)
		touch(s, first, last);
	for (u64 p = first; p < last; p = (p / WORD_PAGES + 1) * WORD_PAGES) {
		u64 pages = word_mask(p, last);
		a64_t *word = &s->state[p / WORD_PAGES];
		u64 old = a64_read(word);
		u64 want;

		/* One exchange: nobody sees a page between two states. */
		do {
			want = (old & ~(pages * STATE_PROTECTED)) | pages * state;
		} while (old != want && !a64_cmpxchg(word, &old, want));
	}
}

bool state_change(struct mspace *s, u64 page, u64 from, u64 to)
{
	a64_t *word = &s->state[page / WORD_PAGES];
	unsigned shift = page % WORD_PAGES;
	u64 old = a64_read(word);

	touch(s, page, page + 1);
	do {
		if (((old >> shift) & STATE_PROTECTED) != from)
			return false;
	} while (!a64_cmpxchg(word, &old, (old & ~(STATE_PROTECTED << shift)) | to << shift));
	return true;
}

void state_snapshot(const struct mspace *s, u64 first, u64 last, struct state_snapshot *snap)
{
	u32 i = 0;

	for (u64 p = first; p < last; p = (p / WORD_PAGES + 1) * WORD_PAGES)
		snap->populated[i++] = a64_read(&s->state[p / WORD_PAGES]) & word_mask(p, last);
}

void state_protect(struct mspace *s, u64 first, u64 last, const struct state_snapshot *snap)
{
	u32 i = 0;

	for (u64 p = first; p < last; p = (p / WORD_PAGES + 1) * WORD_PAGES, i++)
		if (snap->populated[i])
			a64_fetch_or(&s->state[p / WORD_PAGES], snap->populated[i] << 32);
}

u64 state_skip_untouched(const struct mspace *s, u64 page, u64 last)
{
	while (page < last) {
		u64 t = page / TOUCH_PAGES;
		u64 word = a64_read(&s->touched[t / 64]) >> (t % 64);
		u64 ahead;

		if (word & 1)
			return page;
		ahead = word ? (u64)__builtin_ctzll(word) : 64 - t % 64;
		page = (t + ahead) * TOUCH_PAGES;
	}
	return last;
}

u64 state_find_populated(const struct mspace *s, u64 first, u64 last, bool writable)
{
	u64 p = first;

	while (p < last) {
		u64 word, pages;

		if (p == first || p % TOUCH_PAGES == 0) {
			p = state_skip_untouched(s, p, last);
			if (p == last)
				return last;
		}
		word = a64_read(&s->state[p / WORD_PAGES]);
		pages = word & word_mask(p, last);
		if (writable)
			pages &= ~(word >> 32);
		if (pages)
			return p / WORD_PAGES * WORD_PAGES + (u64)__builtin_ctzll(pages);
		p = (p / WORD_PAGES + 1) * WORD_PAGES;
	}
	return last;
}

u64 state_run_end(const struct mspace *s, u64 first, u64 last)
{
	u64 end = first;

	/* Else one page at the start of a large, empty area would have all of its states looked at.
	 */
	last = min(last, (first / TOUCH_PAGES + 1) * TOUCH_PAGES);
	for (u64 p = first; p < last; p = (p / WORD_PAGES + 1) * WORD_PAGES) {
		u64 word = a64_read(&s->state[p / WORD_PAGES]);
		u64 here = word_mask(p, last);
		u64 busy = (word >> 32) & ~word & here;
		u64 base = p / WORD_PAGES * WORD_PAGES;

		if (busy)
			here &= (busy & -busy) - 1;
		here &= word & POP_MASK;
		if (here)
			end = base + 64 - (u64)__builtin_clzll(here);
		if (busy)
			break;
	}
	return end;
}

u64 state_not_busy_end(const struct mspace *s, u64 first, u64 last)
{
	last = min(last, (first / TOUCH_PAGES + 1) * TOUCH_PAGES);
	for (u64 p = first; p < last; p = (p / WORD_PAGES + 1) * WORD_PAGES) {
		u64 word = a64_read(&s->state[p / WORD_PAGES]);
		u64 busy = (word >> 32) & ~word & word_mask(p, last);

		if (busy)
			return p / WORD_PAGES * WORD_PAGES + (u64)__builtin_ctzll(busy);
	}
	return last;
}

u64 state_count_populated(const struct mspace *s, u64 first, u64 last)
{
	u64 n = 0;

	for (u64 p = first; p < last; p = (p / WORD_PAGES + 1) * WORD_PAGES) {
		if (p == first || p % TOUCH_PAGES == 0) {
			p = state_skip_untouched(s, p, last);
			if (p == last)
				break;
		}
		n += (u64)__builtin_popcountll(a64_read(&s->state[p / WORD_PAGES]) &
					       word_mask(p, last));
	}
	return n;
}
