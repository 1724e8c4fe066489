/* Panics and warnings: composed on the stack and written to descriptor 2 in one call. */
#include "base/assert.h"
#include "machine/native/native.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define LINE_MAX_BYTES 1024
#define WARN_PLACES 256 /* a power of two */

static u64 warnings;
static u64 warn_place[WARN_PLACES];

struct line {
	char buf[LINE_MAX_BYTES];
	size_t len;
};

static void line_add(struct line *l, const char *s)
{
	while (*s && l->len < sizeof(l->buf) - 1)
		l->buf[l->len++] = *s++;
}

static void line_add_number(struct line *l, unsigned n)
{
	char digits[12];
	size_t i = sizeof(digits) - 1;

	digits[i] = 0;
	do {
		digits[--i] = '0' + n % 10;
		n /= 10;
	} while (n);
	line_add(l, digits + i);
}

static void report(const char *kind, const char *file, int line, const char *what)
{
	struct line l = { .len = 0 };

	line_add(&l, "quire: ");
	line_add(&l, kind);
	line_add(&l, file);
	line_add(&l, ":");
	line_add_number(&l, (unsigned)line);
	line_add(&l, ": ");
	line_add(&l, what);
	l.buf[l.len++] = '\n';
	native_syscall(SYS_write, 2l, l.buf, l.len);
}

void base_panic(const char *file, int line, const char *what)
{
	report("BUG: ", file, line, what);
	abort();
}

/* True for the first caller of this place. A full table prints every time rather than never. */
static bool warn_first_time(const char *file, int line)
{
	u64 place = ((u64)(uintptr_t)file << 16) ^ (u64)line;
	u32 slot = (u32)((place * 0x9e3779b97f4a7c15ull) >> 56);

	for (u32 i = 0; i < WARN_PLACES; i++) {
		u64 *at = &warn_place[(slot + i) % WARN_PLACES];
		u64 seen = 0;

		if (__atomic_compare_exchange_n(at, &seen, place, false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return true;
		if (seen == place)
			return false;
	}
	return true;
}

void base_warn(const char *file, int line, const char *what)
{
	__atomic_fetch_add(&warnings, 1, __ATOMIC_RELAXED);
	if (warn_first_time(file, line))
		report("WARNING: ", file, line, what);
}

u64 native_warnings(void)
{
	return __atomic_load_n(&warnings, __ATOMIC_RELAXED);
}
