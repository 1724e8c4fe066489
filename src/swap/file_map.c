#include "swap/file_map.h"

#include "base/assert.h"
#include "machine/machine.h"

#include <string.h>

#define PUNCH_RUN  16u  /* shorter runs stay until they are written again */
#define PUNCH_MOST 512u /* blocks in one go */
#define GOOD_RUN   8u   /* a free run of this length is taken without looking for a longer one */
#define MAX_LOOKS  128u /* free runs looked at for a good one */

int file_map_init(struct file_map *f, struct machine *m, u64 nr_blocks)
{
	memset(f, 0, sizeof(*f));
	f->nr_blocks = nr_blocks;
	f->map_bytes = ALIGN_UP((nr_blocks + 7) / 8, PAGE_SIZE);
	f->live = m->ops->mem_map(m, f->map_bytes);
	f->stale = m->ops->mem_map(m, f->map_bytes);
	if (f->live && f->stale)
		return 0;
	file_map_fini(f, m);
	return -ENOMEM;
}

void file_map_fini(struct file_map *f, struct machine *m)
{
	if (f->live)
		m->ops->mem_unmap(m, f->live, f->map_bytes);
	if (f->stale)
		m->ops->mem_unmap(m, f->stale, f->map_bytes);
	if (f->frozen)
		m->ops->mem_unmap(m, f->frozen, f->map_bytes);
	memset(f, 0, sizeof(*f));
}

static bool bit_get(const u64 *map, u64 n)
{
	return map[n / 64] & BIT(n % 64);
}

static void bit_set(u64 *map, u64 n)
{
	map[n / 64] |= BIT(n % 64);
}

static void bit_clear(u64 *map, u64 n)
{
	map[n / 64] &= ~BIT(n % 64);
}

/* First block in [from, to) whose live bit is clear, or `to`. */
static u64 next_free(const struct file_map *f, u64 from, u64 to)
{
	while (from < to) {
		u64 word = ~f->live[from / 64] >> (from % 64);

		if (word)
			return min(to, from + (u64)__builtin_ctzll(word));
		from = ALIGN_DOWN(from, 64ull) + 64;
	}
	return to;
}

/* A free run for `want` blocks in [from, to): the first good one, else the longest seen. */
static u32 find_run(const struct file_map *f, u64 from, u64 to, u32 want, u64 *start)
{
	u32 best = 0, looks = 0;

	while (looks++ < MAX_LOOKS && (from = next_free(f, from, to)) < to) {
		u32 len = 1;

		while (len < want && from + len < to && !bit_get(f->live, from + len))
			len++;
		if (len > best) {
			best = len;
			*start = from;
			if (best >= min(want, GOOD_RUN))
				break;
		}
		from += len;
	}
	return best;
}

u32 file_map_alloc(struct file_map *f, u32 want, u64 *start)
{
	u64 other = 0;
	u32 n, m;

	n = find_run(f, f->hint, f->nr_blocks, want, start);
	if (n < min(want, GOOD_RUN)) {
		m = find_run(f, 0, min(f->hint + want, f->nr_blocks), want, &other);
		if (m > n) {
			n = m;
			*start = other;
		}
	}
	for (u32 i = 0; i < n; i++) {
		bit_set(f->live, *start + i);
		if (bit_get(f->stale, *start + i)) {
			bit_clear(f->stale, *start + i);
			f->nr_stale--;
		}
	}
	f->nr_live += n;
	f->hint = n && *start + n < f->nr_blocks ? *start + n : 0;
	if (n)
		f->end = max(f->end, *start + n);
	return n;
}

void file_map_free(struct file_map *f, u64 block)
{
	BUG_ON(block >= f->nr_blocks || !bit_get(f->live, block) || bit_get(f->stale, block));
	f->nr_live--;
	if (f->all_frozen || (f->frozen && bit_get(f->frozen, block))) {
		f->nr_lost++;
		return;
	}
	bit_clear(f->live, block);
	bit_set(f->stale, block);
	f->nr_stale++;
}

void file_map_freeze(struct file_map *f, struct machine *m)
{
	if (!f->frozen)
		f->frozen = m->ops->mem_map(m, f->map_bytes);
	if (!f->frozen) {
		f->all_frozen = true;
		return;
	}
	for (u64 w = 0; w * 64 < f->end; w++)
		f->frozen[w] |= f->live[w];
}

u32 file_map_punch_begin(struct file_map *f, u64 *start)
{
	u32 len = 0;

	for (u64 b = f->punch_pos; b < f->end; b++) {
		if (!f->stale[b / 64] && !len) {
			b |= 63;
			continue;
		}
		if (bit_get(f->stale, b) && !bit_get(f->live, b)) {
			if (!len++)
				*start = b;
			if (len < PUNCH_MOST && b + 1 < f->end)
				continue;
		}
		if (len >= PUNCH_RUN)
			break;
		len = 0;
	}
	if (len < PUNCH_RUN) {
		f->punch_pos = 0;
		return 0;
	}
	for (u32 i = 0; i < len; i++)
		bit_set(f->live, *start + i);
	f->punch_pos = *start + len;
	return len;
}

void file_map_punch_end(struct file_map *f, u64 start, u32 len)
{
	for (u32 i = 0; i < len; i++) {
		bit_clear(f->live, start + i);
		bit_clear(f->stale, start + i);
	}
	f->nr_stale -= len;
}

u64 file_map_check(const struct file_map *f)
{
	u64 live = 0, stale = 0, both = 0;

	for (u64 w = 0; w * 64 < f->end; w++) {
		live += (u64)__builtin_popcountll(f->live[w]);
		stale += (u64)__builtin_popcountll(f->stale[w]);
		both += (f->live[w] & f->stale[w]) != 0;
	}
	return WARN_ON(live != f->nr_live + f->nr_lost) + WARN_ON(stale != f->nr_stale) +
	       WARN_ON(both);
}
