#include "swap/store.h"

#include "swap/pool.h"

#include <string.h>

/* A line being built in a buffer of the caller's; what does not fit is cut off. */
struct line {
	char *at;
	size_t left;
};

static void line_add(struct line *l, const char *s, size_t n)
{
	if (l->left <= 1)
		return;
	n = min(n, l->left - 1);
	memcpy(l->at, s, n);
	l->at += n;
	l->left -= n;
	*l->at = 0;
}

static void line_str(struct line *l, const char *s)
{
	line_add(l, s, strlen(s));
}

void swap_spec_say(char *msg, size_t msg_size, const struct store_spec *s, const char *what)
{
	struct line l = { .at = msg, .left = msg ? msg_size : 0 };

	if (l.left)
		*msg = 0;
	line_str(&l, "swap store '");
	line_add(&l, s->text, s->text_bytes);
	line_str(&l, "': ");
	line_str(&l, what);
}

const char *swap_errno_text(int err)
{
	static const struct {
		int err;
		const char *text;
	} known[] = {
		{ -EACCES, "permission denied" },
		{ -EPERM, "permission denied" },
		{ -ENOENT, "no such file or directory" },
		{ -ENOTDIR, "a part of the path is not a directory" },
		{ -EISDIR, "is a directory" },
		{ -EROFS, "read-only file system" },
		{ -ENOSPC, "no space left on the device" },
		{ -EDQUOT, "disk quota exceeded" },
		{ -EFBIG, "larger than a file may be" },
		{ -EINVAL, "there is no room in it" },
		{ -ETXTBSY, "the file is being executed" },
		{ -EBUSY, "in use" },
		{ -ENAMETOOLONG, "the name is too long" },
		{ -ELOOP, "too many symbolic links" },
		{ -ENOTSUP, "no file that could be used" },
		{ -EMFILE, "too many open files" },
		{ -ENFILE, "too many open files" },
		{ -ENXIO, "no such device" },
		{ -ENODEV, "no such device" },
		{ -EIO, "input/output error" },
		{ -ENOMEM, "out of memory" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i].err == err)
			return known[i].text;
	return "cannot be opened";
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits and one of K M G T; false: not that, zero, or too large. */
static bool parse_size(const char *s, size_t n, u64 *out)
{
	static const char units[] = "KMGT";
	u64 v = 0;
	size_t i;

	for (i = 0; i < n && is_digit(s[i]); i++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (u64)(s[i] - '0'), &v))
			return false;
	if (i == 0 || v == 0 || n - i > 1)
		return false;
	if (n - i == 1) {
		const char *u = strchr(units, s[i] & ~0x20);

		if (!s[i] || !u || !*u)
			return false;
		if (__builtin_mul_overflow(v, 1ull << 10 * (u - units + 1), &v))
			return false;
	}
	*out = v;
	return v <= 1ull << 50;
}

static int bad(char *msg, size_t msg_size, const struct store_spec *s, const char *what)
{
	swap_spec_say(msg, msg_size, s, what);
	return -EINVAL;
}

/* "PATH[:SIZE]": the last colon starts a size when no '/' and a digit (or nothing) follows it. */
static int parse_file(struct store_spec *s, const char *arg, size_t n, char *msg, size_t msg_size)
{
	const char *colon = memrchr(arg, ':', n);

	s->type = STORE_FILE;
	s->path = arg;
	s->path_bytes = n;
	if (colon) {
		const char *size = colon + 1;
		size_t len = n - (size_t)(size - arg);

		if (len == 0 || is_digit(*size) || *size == '-') {
			s->path_bytes = (size_t)(colon - arg);
			if (memchr(size, '/', len))
				s->path_bytes = n;
			else if (!parse_size(size, len, &s->size))
				return bad(msg, msg_size, s, "bad size (like 512M or 4G)");
			else if (s->size < PAGE_SIZE)
				return bad(msg, msg_size, s, "the size is below one page");
		}
	}
	if (!s->path_bytes)
		return bad(msg, msg_size, s, "no path (file:PATH[:SIZE])");
	return 0;
}

static int parse_one(struct store_spec *s, char *msg, size_t msg_size)
{
	const char *colon = memchr(s->text, ':', s->text_bytes);
	size_t n = colon ? (size_t)(colon - s->text) : s->text_bytes;
	const char *arg = colon ? colon + 1 : "";
	size_t arg_bytes = colon ? s->text_bytes - n - 1 : 0;

	s->size = 0;
	s->path = NULL;
	s->path_bytes = 0;
	if (n == 4 && !memcmp(s->text, "file", 4))
		return parse_file(s, arg, arg_bytes, msg, msg_size);
	if (n == 3 && !memcmp(s->text, "lz4", 3))
		s->type = STORE_LZ4;
	else if (n == 4 && !memcmp(s->text, "zstd", 4))
		s->type = STORE_ZSTD;
	else
		return bad(msg, msg_size, s,
			   "unknown store (known: lz4[:CAP], zstd[:CAP], file:PATH[:SIZE])");
	if (!colon)
		return 0;
	if (!parse_size(arg, arg_bytes, &s->size))
		return bad(msg, msg_size, s, "bad size (like 512M or 4G)");
	if (s->size < POOL_MIN_CAP)
		return bad(msg, msg_size, s, "the cap is below 256K");
	return 0;
}

int swap_spec_parse(const char *spec, struct store_spec *out, char *msg, size_t msg_size)
{
	u32 n = 0;

	if (!spec || !*spec)
		spec = "lz4";
	for (;;) {
		const char *end = strchrnul(spec, ',');
		struct store_spec one = { .text = spec, .text_bytes = (size_t)(end - spec) };
		int err;

		if (n == SWAP_MAX_STORES)
			return bad(msg, msg_size, &one, "more than 8 stores");
		err = parse_one(&one, msg, msg_size);
		if (err)
			return err;
		out[n++] = one;
		if (!*end)
			return (int)n;
		spec = end + 1;
	}
}
