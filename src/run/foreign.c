/*
 * Parts of the managed addresses into which the program mapped something of its own (a file, shared
 * memory) with MAP_FIXED: calls on them go to the kernel. A short sorted list; usually empty.
 */
#include "run/run.h"

#include <string.h>

#define MAX_FOREIGN 4096u

static struct run_lock foreign_lock;
static struct range list[MAX_FOREIGN]; /* (foreign_lock) sorted, neither touching nor overlapping */
static u32 nr_list;                    /* (foreign_lock to write) */

bool run_foreign_any(void)
{
	return __atomic_load_n(&nr_list, __ATOMIC_ACQUIRE);
}

/* Index of the first range that ends above addr. */
static u32 first_above(u64 addr)
{
	u32 lo = 0, hi = nr_list;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (list[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

u64 run_foreign_stretch(u64 start, u64 end, bool *foreign)
{
	u32 i;

	*foreign = false;
	if (!run_foreign_any())
		return end;
	run_lock(&foreign_lock);
	i = first_above(start);
	if (i < nr_list && list[i].start <= start) {
		*foreign = true;
		end = min(end, list[i].end);
	} else if (i < nr_list) {
		end = min(end, list[i].start);
	}
	run_unlock(&foreign_lock);
	return end;
}

/* LOCKING: foreign_lock. Replaces list[at..at+nr) by the given ranges. */
static int replace_ranges(u32 at, u32 nr, const struct range *with, u32 nr_with)
{
	if (nr_list - nr + nr_with > MAX_FOREIGN)
		return -ENOMEM;
	memmove(&list[at + nr_with], &list[at + nr], (nr_list - at - nr) * sizeof(list[0]));
	memcpy(&list[at], with, nr_with * sizeof(list[0]));
	__atomic_store_n(&nr_list, nr_list - nr + nr_with, __ATOMIC_RELEASE);
	return 0;
}

int run_foreign_add(u64 start, u64 end)
{
	struct range r = { start, end };
	u32 at, n = 0;
	int e;

	run_lock(&foreign_lock);
	at = start ? first_above(start - 1) : 0;
	while (at + n < nr_list && list[at + n].start <= end) {
		r.start = min(r.start, list[at + n].start);
		r.end = max(r.end, list[at + n].end);
		n++;
	}
	e = replace_ranges(at, n, &r, 1);
	run_unlock(&foreign_lock);
	return e;
}

int run_foreign_remove(u64 start, u64 end)
{
	struct range left[2];
	u32 at, n = 0, nr_left = 0;
	int e;

	run_lock(&foreign_lock);
	at = first_above(start);
	while (at + n < nr_list && list[at + n].start < end)
		n++;
	if (n && list[at].start < start)
		left[nr_left++] = (struct range){ list[at].start, start };
	if (n && list[at + n - 1].end > end)
		left[nr_left++] = (struct range){ end, list[at + n - 1].end };
	e = replace_ranges(at, n, left, nr_left);
	run_unlock(&foreign_lock);
	return e;
}
