/* Kinds of memory through the public calls: sizes, placement, moves, use, the balloon, errors. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quire/quire.h>

#define PAGE  4096ul
#define RW    (QUIRE_PROT_READ | QUIRE_PROT_WRITE)
#define PAGES 4096ul

#define CHECK(holds)                                                                        \
	do {                                                                                \
		if (!(holds)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds); \
			exit(1);                                                            \
		}                                                                           \
	} while (0)

static quire_t *q;
static quire_space_t *space;
static char why[256];

static int open_nodes(const struct quire_node *nodes, uint32_t nr)
{
	struct quire_options opt = {
		.size = sizeof(opt), .handle_sigbus = 1, .nodes = nodes, .nr_nodes = nr
	};

	why[0] = 0;
	return quire_open(&opt, &q, why, sizeof(why));
}

static void refused(const struct quire_node *nodes, uint32_t nr)
{
	CHECK(open_nodes(nodes, nr) == -EINVAL);
	CHECK(why[0] && !strchr(why, '\n'));
}

static struct quire_node_info info(unsigned node)
{
	struct quire_node_info n = { .size = sizeof(n) };

	CHECK(quire_node_get(q, node, &n) == 0);
	return n;
}

static uint64_t *map(size_t pages, int flags)
{
	void *p = NULL;

	CHECK(quire_map(space, NULL, pages * PAGE, RW, flags, &p) == 0);
	return p;
}

static void fill(uint64_t *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		p[i * 512] = p[i * 512 + 511] = i * 7 + 1;
}

static void check(const uint64_t *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		CHECK(p[i * 512] == i * 7 + 1 && p[i * 512 + 511] == i * 7 + 1);
}

static void move(uint64_t *p, size_t pages, unsigned node)
{
	static void *at[PAGES];
	static int status[PAGES];

	for (size_t i = 0; i < pages; i++)
		at[i] = p + i * 512 + 5;
	CHECK(quire_move_pages(space, pages, at, node, status) == 0);
	for (size_t i = 0; i < pages; i++) {
		if (status[i] != (int)node)
			fprintf(stderr, "page %zu: %d\n", i, status[i]);
		CHECK(status[i] == (int)node);
	}
}

/* Memory out of use is made room for, and comes back. */
static void use_balloon(const uint64_t *p, const uint64_t *s)
{
	quire_set_promotion(q, 0);
	CHECK(quire_balloon(q, 2, 1) == -EINVAL);
	if (quire_balloon(q, 0, 512) == 512) {
		CHECK(info(0).balloon_bytes == 512 * PAGE && info(0).used_bytes <= 8 << 20);
		check(p, PAGES);
		check(s, 512);
		CHECK(quire_compact(q, 0) == 0);
		CHECK(info(0).balloon_bytes == 512 * PAGE);
		CHECK(quire_balloon(q, 0, -1000) == -512);
		CHECK(info(0).balloon_bytes == 0);
	}
}

int main(void)
{
	static const struct quire_node good[] = { { 8 << 20, -1, 0 }, { 64 << 20, -1, 1 } };
	static const struct quire_node small[] = { { 4096, -1, 0 }, { 64 << 20, -1, 1 } };
	static const struct quire_node order[] = { { 8 << 20, -1, 1 }, { 64 << 20, -1, 0 } };
	static const struct quire_node none[] = { { 8 << 20, 900, 0 }, { 64 << 20, -1, 1 } };
	struct quire_stats st = { .size = sizeof(st) };
	struct quire_node_info n = { .size = sizeof(n) };
	uint64_t *p, *s;
	void *page;
	int policy = -1, status;
	uint32_t nodes = 0;

	refused(small, 2);
	refused(order, 2);
	refused(none, 2);
	refused(good, 9);
	refused(NULL, 2);
	if (open_nodes(good, 2)) {
		fprintf(stderr, "%s\n", why);
		return 77;
	}
	CHECK(quire_space_create(q, &space) == 0);
	CHECK(info(0).bytes == 8 << 20 && info(1).bytes == 64 << 20 && info(1).tier == 1);
	CHECK(quire_node_get(q, 2, &n) == -ENOENT);

	/* More than the fast node has: the rest is on the slow one, and nothing is swapped. */
	p = map(PAGES, 0);
	fill(p, PAGES);
	CHECK(info(0).used_bytes <= 8 << 20 && info(1).used_bytes >= 7 << 20);
	CHECK(info(0).demoted_out > 0 && info(0).demoted_out == info(1).demoted_in);
	check(p, PAGES);
	CHECK(info(1).hint_faults > 0);
	CHECK(quire_stats_get(q, &st) == 0);
	CHECK(st.swap_out_pages == 0 && st.hint_faults > 0 && st.demoted_pages > 0);

	/* There and back. */
	move(p, 1000, 1);
	check(p, PAGES);
	move(p + 2000 * 512, 1000, 1);
	move(p, 1000, 0);
	check(p, PAGES);
	page = p;
	CHECK(quire_move_pages(space, 1, &page, 2, &status) == -EINVAL);
	page = (char *)p + PAGES * PAGE;
	CHECK(quire_move_pages(space, 1, &page, 1, &status) == 0 && status < 0);

	/* New pages where they are wanted. */
	s = map(512, 0);
	CHECK(quire_set_policy(space, s, 512 * PAGE, QUIRE_POLICY_PREFERRED, 2) == 0);
	CHECK(quire_get_policy(space, s, &policy, &nodes) == 0 && policy == 1 && nodes == 2);
	n = info(1);
	fill(s, 512);
	CHECK(info(1).used_bytes >= n.used_bytes + 512 * PAGE);
	check(s, 512);
	CHECK(quire_set_policy(space, s, 512 * PAGE, QUIRE_POLICY_BIND, 4) == -EINVAL);
	CHECK(quire_set_policy(space, s, 512 * PAGE, 17, 1) == -EINVAL);
	CHECK(quire_get_policy(space, (char *)p + PAGES * PAGE * 2, &policy, &nodes) == -EFAULT);

	use_balloon(p, s);
	CHECK(quire_compact(q, 7) == -EINVAL);
	check(p, PAGES);
	CHECK(quire_check(q) == 0);
	quire_close(q);
	return 0;
}
