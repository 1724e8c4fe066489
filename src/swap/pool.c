#include "swap/pool.h"

#include "base/assert.h"
#include "machine/machine.h"

enum slab_state { SLAB_NEVER, SLAB_TAKEN, SLAB_WARM, SLAB_DISCARDING, SLAB_BARE };

#define UNIT        64u
#define CHUNK_UNITS (POOL_CHUNK_BYTES / UNIT)
#define LEN_MASK    ((1u << POOL_LEN_BITS) - 1)
/* Warm slabs: at least this many, or a sixteenth of those taken. */
#define WARM_MIN    16u
#define TABLE_BYTES ((size_t)POOL_MAX_CHUNKS * sizeof(aptr_t))

_Static_assert(sizeof(struct pool_slab) * POOL_CHUNK_SLABS <= POOL_SLAB_BYTES,
	       "the descriptors fit in a chunk's first slab");

/* Steps of 64 bytes up to 1 KiB, of 128 up to 3 KiB, then a whole page. */
static u32 class_size(u32 c)
{
	if (c < 16)
		return (c + 1) * 64;
	if (c < 32)
		return 1024 + (c - 15) * 128;
	return (u32)PAGE_SIZE;
}

static u32 class_of(u32 len)
{
	if (len <= 1024)
		return (len - 1) / 64;
	if (len <= 3072)
		return 16 + (len - 1025) / 128;
	return POOL_NR_CLASSES - 1;
}

static struct pool_slab *slab_desc(struct pool *p, u32 chunk, u32 index)
{
	return (struct pool_slab *)aptr_read_acquire(&p->chunk[chunk]) + index;
}

static u8 *slab_bytes(struct pool *p, const struct pool_slab *s)
{
	return (u8 *)aptr_read_acquire(&p->chunk[s->chunk]) + (size_t)s->index * POOL_SLAB_BYTES;
}

int pool_init(struct pool *p, struct quire *q, u64 cap_bytes)
{
	p->q = q;
	p->cap_bytes = cap_bytes;
	p->nr_chunks = p->nr_taken = p->nr_warm = p->nr_discarding = 0;
	p->next_slab = POOL_CHUNK_SLABS;
	a64_init(&p->bytes, 0);
	a64_init(&p->in_use, 0);
	list_init(&p->warm);
	list_init(&p->bare);
	spin_init(&p->lock, LOCK_STORE);
	for (u32 c = 0; c < POOL_NR_CLASSES; c++) {
		struct pool_class *k = &p->cls[c];

		spin_init(&k->lock, LOCK_STORE);
		k->size = class_size(c);
		k->nr_objects = POOL_SLAB_BYTES / k->size;
		k->pages = k->bytes = 0;
		list_init(&k->partial);
	}
	p->chunk = q->machine->ops->mem_map(q->machine, TABLE_BYTES);
	return p->chunk ? 0 : -ENOMEM;
}

void pool_fini(struct pool *p)
{
	struct machine *m;

	if (!p->chunk)
		return;
	m = p->q->machine;
	for (u32 n = 0; n < p->nr_chunks; n++)
		m->ops->mem_unmap(m, aptr_read(&p->chunk[n]), POOL_CHUNK_BYTES);
	m->ops->mem_unmap(m, p->chunk, TABLE_BYTES);
	p->chunk = NULL;
}

/* Recompute what invariant 1 counts. LOCKING: pool lock. */
static void pool_account(struct pool *p)
{
	u64 slabs = (u64)p->nr_taken + p->nr_warm + p->nr_discarding + p->nr_chunks;

	lock_assert_held(&p->lock);
	a64_set(&p->bytes, slabs * POOL_SLAB_BYTES);
	a64_set(&p->in_use, ((u64)p->nr_taken + p->nr_chunks) * POOL_SLAB_BYTES);
}

static bool pool_has_room(const struct pool *p, u32 slabs)
{
	return !p->cap_bytes || a64_read(&p->bytes) + (u64)slabs * POOL_SLAB_BYTES <= p->cap_bytes;
}

/* A new chunk; its descriptors are all SLAB_NEVER. LOCKING: pool lock (a rare system call). */
static int pool_grow(struct pool *p)
{
	struct machine *m = p->q->machine;
	void *base;

	if (!pool_has_room(p, 2))
		return -ENOSPC;
	if (p->nr_chunks == POOL_MAX_CHUNKS)
		return -ENOSPC;
	base = m->ops->mem_map(m, POOL_CHUNK_BYTES);
	if (!base)
		return -ENOMEM;
	aptr_set_release(&p->chunk[p->nr_chunks++], base);
	p->next_slab = 1;
	pool_account(p);
	return 0;
}

/* Pages are made present one after the other here, by one thread that holds no lock, rather than
 * one by one under the class lock. */
static void slab_touch(u8 *base)
{
	for (size_t off = 0; off < POOL_SLAB_BYTES; off += PAGE_SIZE)
		*(u64 *)(base + off) = 0;
}

static struct pool_slab *slab_pop(struct list *l)
{
	struct pool_slab *s;

	if (list_empty(l))
		return NULL;
	s = list_first(l, struct pool_slab, link);
	list_del_init(&s->link);
	return s;
}

/* An empty slab, its pages present. NULL: *err says why. */
static struct pool_slab *slab_get(struct pool *p, int *err)
{
	struct pool_slab *s;
	bool cold = true;

	spin_lock(&p->lock);
	s = slab_pop(&p->warm);
	if (s) {
		p->nr_warm--;
		cold = false;
	} else if (!pool_has_room(p, 1)) {
		*err = -ENOSPC;
	} else {
		s = slab_pop(&p->bare);
	}
	if (!s && !*err) {
		if (p->next_slab == POOL_CHUNK_SLABS)
			*err = pool_grow(p);
		if (!*err) {
			s = slab_desc(p, p->nr_chunks - 1, p->next_slab);
			s->chunk = (u16)(p->nr_chunks - 1);
			s->index = (u16)p->next_slab++;
			list_init(&s->link);
		}
	}
	if (s) {
		s->state = SLAB_TAKEN;
		p->nr_taken++;
		pool_account(p);
	}
	spin_unlock(&p->lock);
	if (s && cold)
		slab_touch(slab_bytes(p, s));
	return s;
}

/* The warm slab that was emptied longest ago, if there are too many of them. */
static struct pool_slab *warm_excess(struct pool *p)
{
	struct pool_slab *s;

	lock_assert_held(&p->lock);
	if (p->nr_warm <= max(WARM_MIN, p->nr_taken / 16))
		return NULL;
	s = list_last(&p->warm, struct pool_slab, link);
	list_del_init(&s->link);
	s->state = SLAB_DISCARDING;
	p->nr_warm--;
	p->nr_discarding++;
	return s;
}

/* A slab without live objects becomes warm; what is too much of these goes back to the system. */
static void slab_release(struct pool *p, struct pool_slab *s)
{
	struct machine *m = p->q->machine;

	spin_lock(&p->lock);
	BUG_ON(s->state != SLAB_TAKEN);
	s->state = SLAB_WARM;
	list_add(&s->link, &p->warm);
	p->nr_taken--;
	p->nr_warm++;
	pool_account(p);
	while ((s = warm_excess(p))) {
		spin_unlock(&p->lock);
		m->ops->mem_discard(m, slab_bytes(p, s), POOL_SLAB_BYTES);
		spin_lock(&p->lock);
		s->state = SLAB_BARE;
		p->nr_discarding--;
		list_add(&s->link, &p->bare);
		pool_account(p);
	}
	spin_unlock(&p->lock);
}

/* LOCKING: none; the slab belongs to the caller. */
static void slab_format(struct pool *p, struct pool_slab *s, u32 c)
{
	u32 n = p->cls[c].nr_objects;

	s->cls = (u8)c;
	s->nr_objects = s->nr_free = (u16)n;
	s->hint = 0;
	for (u32 w = 0; w < ARRAY_SIZE(s->free); w++) {
		u32 bits = n > w * 64 ? n - w * 64 : 0;

		s->free[w] = bits >= 64 ? ~0ull : BIT(bits) - 1;
	}
}

/* One object of the class's first partly free slab, or NULL. LOCKING: class lock. */
static void *class_take(struct pool *p, struct pool_class *k, u32 len, u64 *handle)
{
	struct pool_slab *s;
	u32 w, off;

	lock_assert_held(&k->lock);
	if (list_empty(&k->partial))
		return NULL;
	s = list_first(&k->partial, struct pool_slab, link);
	for (w = s->hint; !s->free[w]; w++)
		DEBUG_ON(w + 1 == ARRAY_SIZE(s->free));
	off = (w * 64 + (u32)__builtin_ctzll(s->free[w])) * k->size;
	s->free[w] &= s->free[w] - 1;
	s->hint = (u16)w;
	if (--s->nr_free == 0)
		list_del_init(&s->link);
	k->pages++;
	k->bytes += len;
	*handle = (((u64)s->chunk * CHUNK_UNITS + (s->index * POOL_SLAB_BYTES + off) / UNIT)
		   << POOL_LEN_BITS) |
		  len;
	return slab_bytes(p, s) + off;
}

static void *class_alloc(struct pool *p, u32 c, u32 len, u64 *handle)
{
	struct pool_class *k = &p->cls[c];
	void *obj;

	spin_lock(&k->lock);
	obj = class_take(p, k, len, handle);
	spin_unlock(&k->lock);
	return obj;
}

void *pool_alloc(struct pool *p, u32 len, u64 *handle, int *err)
{
	u32 c = class_of(len);
	struct pool_slab *s;
	void *obj = class_alloc(p, c, len, handle);

	DEBUG_ON(len == 0 || len > PAGE_SIZE);
	if (likely(obj))
		return obj;
	*err = 0;
	s = slab_get(p, err);
	if (s) {
		struct pool_class *k = &p->cls[c];

		slab_format(p, s, c);
		spin_lock(&k->lock);
		list_add(&s->link, &k->partial);
		obj = class_take(p, k, len, handle);
		spin_unlock(&k->lock);
		return obj;
	}
	/* No more slabs: a hole of a larger class is better than a slower store. */
	while (!obj && ++c < POOL_NR_CLASSES)
		obj = class_alloc(p, c, len, handle);
	return obj;
}

/* The slab that a handle lies in, or NULL when no such slab was ever used. */
static struct pool_slab *handle_slab(struct pool *p, u64 handle, u32 *off)
{
	u64 unit = handle >> POOL_LEN_BITS;
	u64 chunk = unit / CHUNK_UNITS;
	u32 in_chunk = (u32)(unit % CHUNK_UNITS) * UNIT;
	u32 index = in_chunk / POOL_SLAB_BYTES;

	if (chunk >= POOL_MAX_CHUNKS || !index || !aptr_read_acquire(&p->chunk[chunk]))
		return NULL;
	*off = in_chunk % POOL_SLAB_BYTES;
	return slab_desc(p, (u32)chunk, index);
}

void pool_free(struct pool *p, u64 handle)
{
	u32 off, n, w, len = handle & LEN_MASK;
	struct pool_slab *s = handle_slab(p, handle, &off);
	struct pool_class *k;
	bool empty;

	BUG_ON(!s || s->cls >= POOL_NR_CLASSES);
	k = &p->cls[s->cls];
	n = off / k->size;
	w = n / 64;
	spin_lock(&k->lock);
	BUG_ON(n * k->size != off || len > k->size || (s->free[w] & BIT(n % 64)));
	s->free[w] |= BIT(n % 64);
	s->hint = (u16)min((u32)s->hint, w);
	k->pages--;
	k->bytes -= len;
	s->nr_free++;
	empty = s->nr_free == s->nr_objects;
	/* A slab of one object goes from full to empty and was in no list. */
	if (empty && s->nr_objects > 1)
		list_del_init(&s->link);
	else if (!empty && s->nr_free == 1)
		list_add(&s->link, &k->partial);
	spin_unlock(&k->lock);
	if (empty)
		slab_release(p, s);
}

const void *pool_ptr(struct pool *p, u64 handle, u32 *len)
{
	u32 off;
	struct pool_slab *s = handle_slab(p, handle, &off);

	*len = handle & LEN_MASK;
	if (!s || !*len || *len > PAGE_SIZE || off + *len > POOL_SLAB_BYTES)
		return NULL;
	/* Not through the descriptor: a stale handle may name a slab that is changing hands. */
	return (u8 *)aptr_read_acquire(&p->chunk[(handle >> POOL_LEN_BITS) / CHUNK_UNITS]) +
	       ((handle >> POOL_LEN_BITS) % CHUNK_UNITS) * UNIT;
}

void pool_count(struct pool *p, u64 *pages, u64 *bytes)
{
	*pages = *bytes = 0;
	for (u32 c = 0; c < POOL_NR_CLASSES; c++) {
		struct pool_class *k = &p->cls[c];

		spin_lock(&k->lock);
		*pages += k->pages;
		*bytes += k->bytes;
		spin_unlock(&k->lock);
	}
}

static u64 slab_check(struct pool *p, struct pool_slab *s, u64 *live)
{
	u64 bad = 0;
	u32 n = 0;

	if (WARN_ON(s->cls >= POOL_NR_CLASSES))
		return 1;
	for (u32 w = 0; w < ARRAY_SIZE(s->free); w++)
		n += (u32)__builtin_popcountll(s->free[w]);
	bad += WARN_ON(n != s->nr_free);
	bad += WARN_ON(s->nr_objects != p->cls[s->cls].nr_objects);
	bad += WARN_ON(n == 0 ? !list_empty(&s->link) : list_empty(&s->link));
	live[s->cls] += s->nr_objects - s->nr_free;
	return bad;
}

u64 pool_check(struct pool *p, u64 pages)
{
	u64 live[POOL_NR_CLASSES] = { 0 };
	u64 bad = 0, sum = 0, taken = 0, warm = 0;

	for (u32 c = 0; c < p->nr_chunks; c++) {
		u32 end = c + 1 == p->nr_chunks ? p->next_slab : POOL_CHUNK_SLABS;

		for (u32 i = 1; i < end; i++) {
			struct pool_slab *s = slab_desc(p, c, i);

			bad += WARN_ON(s->chunk != c || s->index != i);
			warm += s->state == SLAB_WARM;
			if (s->state != SLAB_TAKEN)
				continue;
			taken++;
			bad += slab_check(p, s, live);
		}
	}
	for (u32 c = 0; c < POOL_NR_CLASSES; c++) {
		bad += WARN_ON(live[c] != p->cls[c].pages);
		sum += live[c];
	}
	bad += WARN_ON(sum != pages);
	bad += WARN_ON(taken != p->nr_taken || warm != p->nr_warm || p->nr_discarding);
	bad += WARN_ON(p->cap_bytes && pool_bytes(p) > p->cap_bytes);
	return bad;
}
