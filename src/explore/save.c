/*
 * save.c - a stack of saved actors: what the search puts back when it returns to a decision.
 *
 * Only the actor that takes a step changes, apart from the arena; so only it is saved before.
 */
#include "explore/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static u8 *buf;
static u64 used, cap;

struct saved {
	u64 bytes; /* of stack, which stand before this */
	u32 p;
	struct actor actor;
};

static u8 *room(u64 bytes)
{
	if (used + bytes > cap) {
		cap = max(cap * 2, used + bytes + (1u << 20));
		buf = realloc(buf, cap);
		if (!buf) {
			fprintf(stderr, "explore: out of memory\n");
			exit(3);
		}
	}
	return buf + used;
}

void save_actor(u32 p)
{
	u64 bytes = actor_stack_live(p);
	struct saved s = { .bytes = bytes, .p = p, .actor = x.actor[p] };
	u8 *to = room(bytes + sizeof(s));

	memcpy(to, x.actor[p].sp, bytes);
	memcpy(to + bytes, &s, sizeof(s));
	used += bytes + sizeof(s);
}

void save_restore(u32 p)
{
	struct saved s;

	used -= sizeof(s);
	memcpy(&s, buf + used, sizeof(s));
	used -= s.bytes;
	x.actor[p] = s.actor;
	memcpy(s.actor.sp, buf + used, s.bytes);
}

u64 save_mark(void)
{
	return used;
}

void save_drop(u64 mark)
{
	used = mark;
}
