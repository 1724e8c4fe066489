/* arena_pages.c - page runs: segregated free lists, boundary tags, chunks that come and go. */
#include "base/arena_pages.h"

#include <string.h>

#define CHUNK_MIN (1ul << 20)
#define CHUNK_MAX (16ul << 20)
#define CHUNK_RETURN (2ul << 20) /* smaller ones are kept */
#define EXACT_BINS 32u
#define FIT_TRIES 8u

static struct chunk *chunk_of(struct rb_node *rb)
{
	return container_of(rb, struct chunk, rb);
}

static char *page_addr(struct chunk *c, u32 page)
{
	return (char *)c + ((size_t)page << PAGE_SHIFT);
}

/* Bins 0-31 hold runs of exactly 1-32 pages; above, each holds the next power of two. */
static u32 bin_of(u32 nr)
{
	if (nr <= EXACT_BINS)
		return nr - 1;
	return EXACT_BINS - 5 + (31 - (u32)__builtin_clz(nr));
}

static void run_link(struct page_pool *p, struct chunk *c, u32 page, u32 nr)
{
	u32 bin = bin_of(nr);

	c->tag[page].nr = c->tag[page + nr - 1].nr = nr;
	c->tag[page].kind = c->tag[page + nr - 1].kind = TAG_FREE;
	list_add(&c->tag[page].link, &p->bin[bin]);
	p->bins |= BIT(bin);
	p->free_pages += nr;
}

static void run_unlink(struct page_pool *p, struct chunk *c, u32 page)
{
	u32 nr = c->tag[page].nr;
	u32 bin = bin_of(nr);

	list_del(&c->tag[page].link);
	if (list_empty(&p->bin[bin]))
		p->bins &= ~BIT(bin);
	c->tag[page].kind = c->tag[page + nr - 1].kind = TAG_INSIDE;
	p->free_pages -= nr;
}

static struct chunk *chunk_find(struct page_pool *p, const void *addr)
{
	struct rb_node *n = p->chunks.node;
	struct chunk *c = p->last;

	if (c && (u64)((const char *)addr - (const char *)c) < c->bytes)
		return c;
	while (n) {
		c = chunk_of(n);
		if ((const char *)addr < (const char *)c) {
			n = n->left;
		} else if ((u64)((const char *)addr - (const char *)c) < c->bytes) {
			p->last = c;
			return c;
		} else {
			n = n->right;
		}
	}
	return NULL;
}

static void chunk_link(struct page_pool *p, struct chunk *c)
{
	struct rb_node **link = &p->chunks.node;
	struct rb_node *parent = NULL;

	while (*link) {
		parent = *link;
		link = c < chunk_of(parent) ? &parent->left : &parent->right;
	}
	rb_insert(&p->chunks, &c->rb, parent, link);
	a64_add(&p->bytes, c->bytes);
	run_link(p, c, c->first, c->nr_pages - c->first);
}

static size_t chunk_header_bytes(size_t nr_pages)
{
	return sizeof(struct chunk) + nr_pages * (sizeof(struct page_tag) + 1);
}

/* Fills the header of fresh zeroed memory; `extra` bytes behind it are not handed out. */
static void *chunk_format(void *addr, size_t bytes, size_t extra)
{
	struct chunk *c = addr;
	size_t header = chunk_header_bytes(bytes >> PAGE_SHIFT);

	c->bytes = bytes;
	c->nr_pages = (u32)(bytes >> PAGE_SHIFT);
	c->dirty = (u8 *)&c->tag[c->nr_pages];
	header = ALIGN_UP(header, 64);
	c->first = (u32)(ALIGN_UP(header + extra, PAGE_SIZE) >> PAGE_SHIFT);
	return (char *)addr + header;
}

/* Bytes of a chunk out of which a run of nr pages can be had. */
static size_t chunk_bytes_for(u64 nr)
{
	size_t bytes = nr << PAGE_SHIFT;

	/* The header grows with the chunk: once more for the pages that the header itself takes. */
	bytes += chunk_header_bytes(nr) + chunk_header_bytes(nr) / 64 + 2 * PAGE_SIZE;
	return ALIGN_UP(bytes, CHUNK_MIN);
}

void *page_pool_create(const struct arena_source *src, size_t bytes, size_t pool_offset)
{
	void *addr = src->map(src->ctx, CHUNK_MIN);
	struct page_pool *p;
	void *owner;

	if (!addr)
		return NULL;
	owner = chunk_format(addr, CHUNK_MIN, bytes);
	p = (void *)((char *)owner + pool_offset);
	spin_init(&p->lock, LOCK_ARENA);
	p->src = *src;
	rb_init(&p->chunks, NULL);
	for (u32 i = 0; i < POOL_BINS; i++)
		list_init(&p->bin[i]);
	p->home = addr;
	chunk_link(p, addr);
	return owner;
}

void page_pool_destroy(struct page_pool *p)
{
	struct arena_source src = p->src;
	struct chunk *home = p->home;
	struct rb_node *n;

	rb_erase(&p->chunks, &home->rb);
	while ((n = p->chunks.node)) {
		rb_erase(&p->chunks, n);
		src.unmap(src.ctx, chunk_of(n), chunk_of(n)->bytes);
	}
	src.unmap(src.ctx, home, home->bytes);
}

static u32 run_aligned_skip(struct chunk *c, u32 page, u32 align)
{
	u64 frame = (uintptr_t)page_addr(c, page) >> PAGE_SHIFT;

	return (u32)(ALIGN_UP(frame, (u64)align) - frame);
}

/* A free run with nr pages at the alignment; *skip: pages before them. */
static struct chunk *run_find(struct page_pool *p, u32 nr, u32 align, u32 *page, u32 *skip)
{
	u64 bins = p->bins & ~(BIT(bin_of(nr)) - 1);

	for (; bins; bins &= bins - 1) {
		struct list *head = &p->bin[__builtin_ctzll(bins)];
		u32 tries = FIT_TRIES; /* a fresh chunk is first in its bin: it is always found */

		list_for_each(pos, head) {
			struct page_tag *tag = list_entry(pos, struct page_tag, link);
			struct chunk *c = chunk_find(p, tag);

			*page = (u32)(tag - c->tag);
			*skip = run_aligned_skip(c, *page, align);
			if (tag->nr >= nr + *skip)
				return c;
			if (!--tries)
				break;
		}
	}
	return NULL;
}

static bool pool_grow(struct page_pool *p, u32 nr)
{
	size_t want = ALIGN_DOWN((size_t)a64_peek(&p->bytes) / 16, CHUNK_MIN);
	size_t need = chunk_bytes_for(nr);
	struct chunk *c;

	want = max(need, min(want, CHUNK_MAX));
	c = p->src.map(p->src.ctx, want);
	if (!c && want > need) {
		want = need;
		c = p->src.map(p->src.ctx, want);
	}
	if (!c)
		return false;
	chunk_format(c, want, 0);
	chunk_link(p, c);
	return true;
}

/* The pages are ours alone: zero those that somebody had before. */
static void run_prepare(struct chunk *c, u32 page, u32 nr, bool zero)
{
	for (u32 i = page; i < page + nr; i++) {
		if (c->dirty[i] && zero)
			memset(page_addr(c, i), 0, PAGE_SIZE);
		c->dirty[i] = 1;
	}
}

void *page_pool_get(struct page_pool *p, u32 nr, u32 align, bool zero)
{
	u32 page, skip, total;
	struct chunk *c;

	spin_lock_nested(&p->lock);
	c = run_find(p, nr, align, &page, &skip);
	if (!c && pool_grow(p, nr + align - 1))
		c = run_find(p, nr, align, &page, &skip);
	if (!c) {
		spin_unlock(&p->lock);
		return NULL;
	}
	total = c->tag[page].nr;
	run_unlink(p, c, page);
	if (skip)
		run_link(p, c, page, skip);
	if (total > skip + nr)
		run_link(p, c, page + skip + nr, total - skip - nr);
	page += skip;
	c->tag[page].kind = TAG_USED;
	c->tag[page].nr = nr;
	spin_unlock(&p->lock);
	run_prepare(c, page, nr, zero);
	return page_addr(c, page);
}

/* A whole chunk is free: true when it was unlinked and is to be given back. */
static bool chunk_retire(struct page_pool *p, struct chunk *c, u32 nr)
{
	if (c == p->home || c->bytes < CHUNK_RETURN || nr != c->nr_pages - c->first)
		return false;
	/*
	 * Keep a reserve of half its size, or two callers at the edge would map and unmap in turn.
	 */
	if (p->free_pages < nr / 2)
		return false;
	rb_erase(&p->chunks, &c->rb);
	if (p->last == c)
		p->last = NULL;
	a64_sub(&p->bytes, c->bytes);
	return true;
}

void page_pool_put(struct page_pool *p, void *addr, u32 nr)
{
	bool retire;
	struct chunk *c;
	u32 page;

	spin_lock_nested(&p->lock);
	c = chunk_find(p, addr);
	BUG_ON(!c);
	page = (u32)(((char *)addr - (char *)c) >> PAGE_SHIFT);
	BUG_ON(c->tag[page].kind != TAG_USED || c->tag[page].nr != nr);
	c->tag[page].kind = TAG_INSIDE;
	if (page + nr < c->nr_pages && c->tag[page + nr].kind == TAG_FREE) {
		u32 next = c->tag[page + nr].nr;

		run_unlink(p, c, page + nr);
		nr += next;
	}
	if (page > c->first && c->tag[page - 1].kind == TAG_FREE) {
		u32 before = c->tag[page - 1].nr;

		run_unlink(p, c, page - before);
		page -= before;
		nr += before;
	}
	retire = chunk_retire(p, c, nr);
	if (!retire)
		run_link(p, c, page, nr);
	spin_unlock(&p->lock);
	if (retire)
		p->src.unmap(p->src.ctx, c, c->bytes);
}
