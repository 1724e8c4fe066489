/* quire.c - the instance's counters, and the tables of counters and mechanisms. */
#include "base/quire.h"
#include "base/mech.h"

const struct stat_info stat_info[NR_STATS] = {
#define STAT(n, j, t) [STAT_##n] = { .name = #n, .json = (j), .text = (t) },
#include "base/stats.def"
#undef STAT
};

const struct mechanism_info mechanism_info[NR_MECHANISMS] = {
#define MECH(n, c, t) [MECH_##n] = { .name = #n, .commit = (c), .text = (t) },
#include "base/mechanisms.def"
#undef MECH
};

u64 stat_read(const struct quire *q, enum stat s)
{
	u64 sum = 0;

	for (u32 i = 0; i < MAX_CPUS; i++)
		sum += a64_read(&q->stats[i].n[s]);
	return sum;
}
