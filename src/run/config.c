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

static bool name_ok(const char *s, size_t n)
{
	if (!n || n >= RUN_NODE_NAME)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= 'A' && s[i] <= 'Z') &&
		    !(s[i] >= '0' && s[i] <= '9') && s[i] != '_' && s[i] != '-')
			return false;
	return true;
}

/* The NUMA node behind "numa=". */
static int parse_physical(const char *text, s32 *physical)
{
	u64 n = 0;

	if (strncmp(text, "numa=", 5) || !text[5])
		return -1;
	for (text += 5; *text; text++) {
		if (*text < '0' || *text > '9' || n > 1023)
			return -1;
		n = n * 10 + (u64)(*text - '0');
	}
	*physical = (s32)n;
	return 0;
}

int run_add_node(struct run_config *c, const char *spec, char *msg, size_t msg_size)
{
	const char *eq = strchr(spec, '=');
	struct run_node *n = &c->node[c->nr_nodes];
	char size[64];
	char *tail;

	if (c->nr_nodes == RUN_NODES) {
		snprintf(msg, msg_size, "more than %d nodes", RUN_NODES);
		return -1;
	}
	if (!eq || !name_ok(spec, (size_t)(eq - spec)) || strlen(eq + 1) >= sizeof(size)) {
		snprintf(msg, msg_size, "'%s' is not NAME=SIZE[:numa=N]", spec);
		return -1;
	}
	memset(n, 0, sizeof(*n));
	memcpy(n->name, spec, (size_t)(eq - spec));
	n->physical = -1;
	strcpy(size, eq + 1);
	tail = strchr(size, ':');
	if (tail)
		*tail++ = 0;
	if (tail && parse_physical(tail, &n->physical)) {
		snprintf(msg, msg_size, "'%s' of node '%s': numa=N is what can be said", tail,
			 n->name);
		return -1;
	}
	if (run_parse_size(size, &n->bytes) || n->bytes < PMD_SIZE || n->bytes > BIT(46)) {
		snprintf(msg, msg_size, "size '%s' of node '%s': from 2M to 64T, with K, M or G",
			 size, n->name);
		return -1;
	}
	for (u32 i = 0; i < c->nr_nodes; i++)
		if (!strcmp(c->node[i].name, n->name)) {
			snprintf(msg, msg_size, "two nodes with the name '%s'", n->name);
			return -1;
		}
	c->nr_nodes++;
	return 0;
}

static const char *const placements[RUN_PLACEMENTS] = { "fast", "interleave", "random" };

int run_set_placement(struct run_config *c, const char *name)
{
	for (u32 i = 0; i < RUN_PLACEMENTS; i++)
		if (!strcmp(name, placements[i])) {
			c->placement = i;
			return 0;
		}
	return -1;
}

/* "name=bytes:numa=N,..."; a node without a NUMA node has no tail. */
static int encode_nodes(const struct run_config *c, char *text, size_t size)
{
	size_t at = 0;

	text[0] = 0;
	for (u32 i = 0; i < c->nr_nodes; i++) {
		const struct run_node *n = &c->node[i];
		int len = snprintf(text + at, size - at, "%s%s=%llu", i ? "," : "", n->name,
				   (unsigned long long)n->bytes);

		if (len > 0 && n->physical >= 0 && (size_t)len < size - at)
			len += snprintf(text + at + len, size - at - (size_t)len, ":numa=%d",
					n->physical);
		if (len < 0 || (size_t)len >= size - at)
			return -ENOSPC;
		at += (size_t)len;
	}
	return 0;
}

static int decode_nodes(struct run_config *c, const char *s, size_t n)
{
	char spec[96], why[128];

	for (size_t at = 0; at < n;) {
		size_t len = 0;

		while (at + len < n && s[at + len] != ',')
			len++;
		if (len >= sizeof(spec))
			return -EINVAL;
		memcpy(spec, s + at, len);
		spec[len] = 0;
		if (run_add_node(c, spec, why, sizeof(why)))
			return -EINVAL;
		at += len + 1;
	}
	return 0;
}

int run_config_encode(const struct run_config *c, char *text, size_t size)
{
	char nodes[RUN_NODES * 64];
	int n;

	if (encode_nodes(c, nodes, sizeof(nodes)))
		return -ENOSPC;
	n = snprintf(text, size,
		     "ram=%llu%cstart=%llu%cpid=%d%cquiet=%d%cnodes=%s%cplace=%u%cpromote=%llu%c"
		     "swap=%s%cjson=%s%clib=%s",
		     (unsigned long long)c->ram, FIELD_END, (unsigned long long)c->start_ns,
		     FIELD_END, c->pid, FIELD_END, c->quiet, FIELD_END, nodes, FIELD_END,
		     c->placement, FIELD_END, (unsigned long long)c->promote, FIELD_END, c->swap,
		     FIELD_END, c->json, FIELD_END, c->library);
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
	else if (key == 5 && !memcmp(s, "nodes", 5))
		return decode_nodes(c, v, len);
	else if (key == 5 && !memcmp(s, "place", 5))
		c->placement = (u32)min(number(v, len), (u64)RUN_PLACEMENTS - 1);
	else if (key == 7 && !memcmp(s, "promote", 7))
		c->promote = number(v, len);
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
	c->promote = ~0ull;
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
