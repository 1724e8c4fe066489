/*
 * error.c - an error of write-back reaches each syncer once, after Linux's errseq.
 *
 * The word: bits 0..11 the last error, bit 12 "somebody has seen it", above that a count which
 * moves on when a new error comes after the last one was seen. A syncer keeps the word as it last
 * saw it; an error that nobody has seen yet is news even to a syncer who starts only now.
 */
#include "object/object_internal.h"

#define ERROR_MASK  0xfffu
#define ERROR_SEEN  0x1000u
#define ERROR_COUNT 0x2000u

void object_error_set(struct object *o, int err)
{
	u32 old = a32_read(&o->error), new;

	stat_inc(o->q, STAT_OBJECT_WRITE_ERRORS);
	do {
		new = (old & ~(ERROR_MASK | ERROR_SEEN)) | ((u32)-err & ERROR_MASK);
		if (old & ERROR_SEEN)
			new += ERROR_COUNT;
	} while (new != old && !a32_cmpxchg(&o->error, &old, new));
}

u32 object_error_sample(struct object *o)
{
	u32 now = a32_read(&o->error);

	return now & ERROR_SEEN ? now : 0;
}

int object_error_check(struct object *o, u32 *since)
{
	u32 now = a32_read(&o->error);

	if (now == *since)
		return 0;
	/* Another syncer may be first, or a further error come: what is reported is what is seen.
	 */
	while (!(now & ERROR_SEEN) && !a32_cmpxchg(&o->error, &now, now | ERROR_SEEN))
		;
	*since = now | ERROR_SEEN;
	return -(int)(now & ERROR_MASK);
}
