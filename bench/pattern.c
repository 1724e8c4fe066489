/*
 * pattern.c - page contents that compress as a program's heap does: to about half, in short pieces.
 *
 * Each word is a function of the page and its place alone, so that any word can be checked without
 * a copy. A heap-like page is made of objects of 64 bytes: a type pointer, a count, a pointer, a
 * length, a word of payload, a small number, an empty field and a name. The simple contents are
 * half noise, half repeated: the easiest case that compresses to a half.
 */
#include "bench_internal.h"

static const char names[16][9] = {
	"alpha\0\0\0", "count\0\0\0", "value\0\0\0", "name\0\0\0\0", "index\0\0\0",  "parent\0\0",
	"children",    "position",    "length\0\0",  "capacity",     "next\0\0\0\0", "previous",
	"weight\0\0",  "buffer\0\0",  "offset\0\0",  "property",
};

static u64 mix(u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static u64 heap_word(u64 page, unsigned word)
{
	u64 h = mix(page * PATTERN_WORDS + word);
	u64 text;

	switch (word % 8) {
	case 0:
		return 0x00007f3a5c0100c0ull + (h & 3) * 0x140;
	case 1:
		return 1 + (h & 1);
	case 2:
		return 0x00007f3a60000000ull + (h & 0xffffff) * 16;
	case 3:
		return 16 + (h & 3) * 16;
	case 4:
		return h;
	case 5:
		return h & 0xffff;
	case 6:
		return 0;
	default:
		__builtin_memcpy(&text, names[h % 16], sizeof(text));
		return text;
	}
}

u64 pattern_word(bool half, u64 page, unsigned word)
{
	if (word == PATTERN_COUNTER)
		return 0;
	if (!half)
		return heap_word(page, word);
	return word < PATTERN_WORDS / 2 ? mix(page * PATTERN_WORDS + word) : page + 1;
}

void pattern_fill(bool half, u64 page, u64 *words)
{
	for (unsigned i = 0; i < PATTERN_WORDS; i++)
		words[i] = pattern_word(half, page, i);
}

bool pattern_matches(bool half, u64 page, const u64 *words)
{
	for (unsigned i = 0; i < PATTERN_WORDS; i++)
		if (i != PATTERN_COUNTER && words[i] != pattern_word(half, page, i))
			return false;
	return true;
}
