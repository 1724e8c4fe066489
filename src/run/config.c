/* Options of `quire run`: sizes, lists of stores, and the environment variable. No allocation. */
#include "run/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIELD_END '\x1f'

int run_parse_size(const char *text, u64 *bytes)
{
	const char *s = text;
	u64 n = 0;
	unsigned shift = 0;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *s - '0', &n))
			return -ERANGE;
	}
	switch (*s) {
	case 'k':
	case 'K':
		shift = 10;
		s++;
		break;
	case 'm':
	case 'M':
		shift = 20;
		s++;
		break;
	case 'g':
	case 'G':
		shift = 30;
		s++;
		break;
	default:
		break;
	}
	if (*s)
		return -EINVAL;
	if (!n)
		return -EDOM;
	/* Above 2^47 there are no addresses, and sums of sizes must not wrap. */
	if (n > (1ull << 47) >> shift)
		return -ERANGE;
	*bytes = n << shift;
	return 0;
}

static int check_store_size(const char *text, const char *store, char *msg, size_t msg_size)
{
	u64 bytes;

	if (!run_parse_size(text, &bytes))
		return 0;
	snprintf(msg, msg_size, "bad size '%s' of store '%s'", text, store);
	return -1;
}

/* A path that exists must be a writable file; one that does not needs a writable folder. */
static int check_store_path(const char *path, char *msg, size_t msg_size)
{
	char folder[RUN_PATH_MAX];
	struct stat st;
	char *slash;

	if (!stat(path, &st)) {
		if (S_ISDIR(st.st_mode)) {
			snprintf(msg, msg_size, "swap file '%s' is a directory", path);
			return -1;
		}
		if (access(path, R_OK | W_OK)) {
			snprintf(msg, msg_size, "swap file '%s' cannot be written: %s", path,
				 strerror(errno));
			return -1;
		}
		return 0;
	}
	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash)
		strcpy(folder, ".");
	else
		slash[slash == folder ? 1 : 0] = 0;
	if (access(folder, W_OK | X_OK)) {
		snprintf(msg, msg_size, "swap file '%s' cannot be created: %s", path,
			 strerror(errno));
		return -1;
	}
	return 0;
}

static int check_store(char *store, bool try_files, char *msg, size_t msg_size)
{
	char shown[RUN_SPEC_MAX];
	char *colon = strchr(store, ':');
	char *tail;

	strcpy(shown, store);
	if (colon)
		*colon++ = 0;
	if (!strcmp(store, "lz4") || !strcmp(store, "zstd"))
		return colon ? check_store_size(colon, shown, msg, msg_size) : 0;
	if (strcmp(store, "file")) {
		snprintf(msg, msg_size, "unknown store '%s': lz4, zstd and file:PATH[:SIZE] exist",
			 shown);
		return -1;
	}
	if (!colon || !*colon || *colon == ':') {
		snprintf(msg, msg_size, "store '%s' has no path: file:PATH[:SIZE]", shown);
		return -1;
	}
	tail = strrchr(colon, ':');
	if (tail) {
		*tail++ = 0;
		if (check_store_size(tail, shown, msg, msg_size))
			return -1;
	}
	return try_files ? check_store_path(colon, msg, msg_size) : 0;
}

int run_check_swap(const char *spec, bool try_files, char *msg, size_t msg_size)
{
	char copy[RUN_SPEC_MAX];
	char *store = copy;

	if (strlen(spec) >= sizeof(copy)) {
		snprintf(msg, msg_size, "the list of stores is longer than %zu characters",
			 sizeof(copy) - 1);
		return -1;
	}
	strcpy(copy, spec);
	while (store) {
		char *comma = strchr(store, ',');

		if (comma)
			*comma++ = 0;
		if (!*store) {
			snprintf(msg, msg_size, "empty store in '%s'", spec);
			return -1;
		}
		if (check_store(store, try_files, msg, msg_size))
			return -1;
		store = comma;
	}
	return 0;
}

int run_config_encode(const struct run_config *c, char *text, size_t size)
{
	int n = snprintf(text, size,
			 "ram=%llu%cstart=%llu%cpid=%d%cquiet=%d%cswap=%s%cjson=%s%clib=%s",
			 (unsigned long long)c->ram, FIELD_END, (unsigned long long)c->start_ns,
			 FIELD_END, c->pid, FIELD_END, c->quiet, FIELD_END, c->swap, FIELD_END,
			 c->json, FIELD_END, c->library);

	return n < 0 || (size_t)n >= size ? -ENOSPC : n;
}

static u64 number(const char *s, size_t n)
{
	u64 v = 0;

	for (size_t i = 0; i < n && s[i] >= '0' && s[i] <= '9'; i++)
		v = v * 10 + (u64)(s[i] - '0');
	return v;
}

static int text_field(char *to, size_t size, const char *s, size_t n)
{
	if (n >= size)
		return -ENOSPC;
	memcpy(to, s, n);
	to[n] = 0;
	return 0;
}

static int decode_field(struct run_config *c, const char *s, size_t n)
{
	const char *eq = memchr(s, '=', n);
	const char *v;
	size_t key, len;

	if (!eq)
		return -EINVAL;
	key = (size_t)(eq - s);
	v = eq + 1;
	len = n - key - 1;
	if (key == 3 && !memcmp(s, "ram", 3))
		c->ram = number(v, len);
	else if (key == 5 && !memcmp(s, "start", 5))
		c->start_ns = number(v, len);
	else if (key == 3 && !memcmp(s, "pid", 3))
		c->pid = (s32)number(v, len);
	else if (key == 5 && !memcmp(s, "quiet", 5))
		c->quiet = number(v, len);
	else if (key == 4 && !memcmp(s, "swap", 4))
		return text_field(c->swap, sizeof(c->swap), v, len);
	else if (key == 4 && !memcmp(s, "json", 4))
		return text_field(c->json, sizeof(c->json), v, len);
	else if (key == 3 && !memcmp(s, "lib", 3))
		return text_field(c->library, sizeof(c->library), v, len);
	return 0;
}

int run_config_decode(struct run_config *c, const char *text)
{
	memset(c, 0, sizeof(*c));
	while (*text) {
		const char *end = strchr(text, FIELD_END);
		size_t n = end ? (size_t)(end - text) : strlen(text);
		int e = n ? decode_field(c, text, n) : 0;

		if (e)
			return e;
		text += n + (end != NULL);
	}
	return 0;
}
