/*
 * object.h - objects and their page cache: what files and shared memory are made of.
 *
 * An object is a size in bytes, a table of operations, and the pages of it that are in memory. Its
 * users are files (file.h) and anonymous objects, which are memory by themselves and are paged to
 * the swap stores. Areas map objects (rmap, fault); object_read and object_write go through the
 * same pages, so that both see one content.
 *
 * The cache. A radix tree leads from a page index to a word: a folio, or a value, which is what
 * stayed behind when the page was evicted (of a file: the eviction stamp; of an anonymous object:
 * the swap slot). A folio in it has
 *   folio->mapping == the object (no MAPPING_ANON), folio->index == its index there,
 *   one reference of the cache for each of its pages, the same word in each of its pages' places,
 * and a large folio's index is aligned to its order.
 *
 * Lookup takes no lock. The word may change and the folio be freed at any time, so:
 *
 *   T1: lookup                               T2: eviction, truncation, replacing
 *   RCU section; f = word of the index
 *                                            freeze f (ref 0): nobody gets a reference any more
 *                                            word = NULL, value, or another folio
 *                                            f freed, its frame used again for something else
 *   get a reference unless ref is 0
 *   word still f? else drop it, again
 *
 * so that a lookup returns the folio from before the freeze or the one from after it, never one
 * that is frozen or gone (Linux e286781d, b93b0163).
 *
 * Size and truncation. `invalidate` keeps pages from being brought in behind a truncation: who may
 * insert a folio, or map one that was not mapped, holds it for reading from before it looks at the
 * size until the entry is set; truncation, punching and extending writes hold it for writing. So
 * when unmap_range has returned, no entry below the range can come back, and one pass over the
 * areas is enough (Linux needs a second one because a fault on a cached page holds only the
 * folio's lock while it copies it for a private area: pages copied after the first pass would
 * stay). A fault that replaces a present entry (a private copy on a write) needs no lock: the pass
 * takes either the entry it finds or the one that replaced it, and the fault looks again at the
 * entry before it replaces it. Removal waits for the folio's lock and for its write-back; a folio
 * that is pinned lives on without an object (mapping NULL), its bytes no longer the file's.
 *
 * Dirty pages. PG_DIRTY says that the bytes are newer than the object's medium; the tree's DIRTY
 * mark finds them. A page of a shared area is mapped writable only while its folio is dirty:
 * object_make_writable, under the folio lock, comes before the entry is made writable. Write-back,
 * under the folio lock:
 *
 *   1 waits for an earlier write-back of the folio
 *   2 mkclean: every entry loses the right to write and its dirty bit, and is flushed
 *   3 clears PG_DIRTY, sets PG_WRITEBACK; unlocks
 *   4 writes the bytes; they are stable, because object_make_writable waits for PG_WRITEBACK. Only
 * a pin's owner may store all the same: a pinned page is written, and stays dirty 5 clears
 * PG_WRITEBACK, wakes. On failure: dirty again and the error recorded before that.
 *
 * A store before 2 is written; one after 2 faults and makes the folio dirty again. What zaps a
 * dirty entry marks the folio while the entry still counts as a mapping (delayed removal,
 * gather.h), so 2 either finds the entry or sees PG_DIRTY.
 *
 * Errors of write-back are reported once to each syncer (object_sync), as by Linux's errseq.
 *
 * Reclaim of an unmapped, locked folio: object_writeout if it is dirty, then object_evict.
 *
 * Invariants (object_check): words, marks and counts agree with the folios' fields; a DIRTY mark
 * means PG_DIRTY or a write-back that has just begun; no page at or above the size is cached when
 * nobody holds `invalidate` (but for the tail of a large folio, whose bytes are zero there).
 *
 * Locking: OBJECT_INVALIDATE < FOLIO < OBJECT_MMAP < ANON_VMA < PTE < ... < OBJECT_TREE. Letters:
 * (C) constant, (A) atomic, (I) invalidate for writing, (M) mmap, (T) tree lock, (L) folio lock.
 */
#ifndef QUIRE_OBJECT_OBJECT_H
#define QUIRE_OBJECT_OBJECT_H

#include "base/list.h"
#include "base/quire.h"
#include "base/radix.h"
#include "base/rbtree.h"
#include "phys/phys.h"

#define OBJECT_IO_MAX    64u /* pages in one read or write of the operations */
#define OBJECT_INDEX_MAX (BIT(51) - 1)
#define OBJECT_SIZE_MAX  ((OBJECT_INDEX_MAX + 1) << PAGE_SHIFT)

enum object_flag {
	OBJECT_ANON = BIT(0),     /* no medium: never written back, only paged out and in */
	OBJECT_READONLY = BIT(1), /* no writes, no shared writable areas */
	OBJECT_GONE = BIT(2),     /* after a fork, in the child: it is the parent's (-EBADF) */
};

enum object_mark { OBJECT_DIRTY, OBJECT_WRITEBACK };

/* How much a migration may wait (migrate/migrate.h). */
enum migrate_mode {
	MIGRATE_ASYNC, /* one pass, waits for nothing */
	MIGRATE_SYNC,  /* passes of batches, then one by one, waiting for locks and write-back */
};

/* What the operations keep for a folio of the cache beside its bytes, under its frame or record. */
enum object_keeps {
	OBJECT_KEEPS_NOTHING,
	OBJECT_KEEPS_WHILE_DIRTY, /* what is to be written, and how; void once it is clean */
	OBJECT_KEEPS_ALWAYS,      /* as long as it is in the cache */
};

struct object;

/*
 * What kind of object it is. Operations are called with no spin lock held and may sleep; errors
 * are negative errno values. NULL where nothing is to be done, unless said otherwise.
 */
struct object_ops {
	const char *name;
	/* The bytes of n (<= OBJECT_IO_MAX) pages from index on into bufs, a page each; err[i] = 0
	 * or what became of that page. Bytes beyond the medium's end are zero. values[i]: the value
	 * that stood in the page's place, 0 if none (OBJECT_ANON only). LOCKING: their folios. Not
	 * NULL. */
	void (*read)(struct object *o, u64 index, u32 n, void *const *bufs, const u64 *values,
		     int *err);
	/* Write bytes[i] (a folio's whole size but at the end of the object) of each of n folios
	 * that follow one another in the object. err[i] = 0 or what became of it. LOCKING: each is
	 * PG_WRITEBACK, or locked and unmapped. Not NULL unless OBJECT_READONLY. */
	void (*write)(struct object *o, struct folio **folios, const u32 *bytes, u32 n, int *err);
	/* A value leaves the tree: its page came back, was truncated, or the object goes.
	 * OBJECT_ANON only. LOCKING: nothing else names the value. */
	void (*forget)(struct object *o, u64 value);
	/* A frozen (ref 0), clean folio leaves memory: the value of its first page (those of the
	 * others follow by one each), or 0 if its bytes are zero and nothing stays. Without the
	 * operation the value is the eviction stamp. LOCKING: folio lock. */
	u64 (*evicted)(struct object *o, struct folio *f, u32 shadow);
	/* The folio leaves the cache and its bytes are void (truncation). Drops what the operations
	 * keep for it. LOCKING: folio lock; already out of the tree, with a reference. */
	void (*invalidated)(struct object *o, struct folio *f);
	/* What the operations keep for src belongs to dst, which has its bytes and takes its place
	 * in the cache next (Linux 54184650). Once for each move. 0; -EAGAIN: not now; -EBUSY: not
	 * at all; then nothing has changed and src stays. LOCKING: both folios; src is unmapped and
	 * frozen (ref 0), so that lookups go round in circles: does not sleep. */
	int (*migrate_folio)(struct object *o, struct folio *dst, struct folio *src,
			     enum migrate_mode mode);
	/* Without migrate_folio: what a folio cannot take along to another frame. Then it stays, or
	 * is written out first (object_may_move). */
	enum object_keeps keeps;
	/* The medium gets this size; what a longer one gains is zero. LOCKING: invalidate, write */
	int (*resize)(struct object *o, u64 size);
	/* [start, start + bytes) of the medium reads as zero from now on. LOCKING: as above. */
	int (*zero)(struct object *o, u64 start, u64 bytes);
	/* What was written is durable when it returns 0, the size included. LOCKING: invalidate. */
	int (*sync)(struct object *o);
	/* The object is gone. */
	void (*release)(struct object *o);
};

/* What higher folders do for objects; registered by api. A missing one does nothing. */
struct object_upcalls {
	/* Write-protect every entry that maps the folio, clear the dirty bits, flush: no store gets
	 * through an old translation when it returns. True if an entry was dirty. LOCKING: folio
	 * lock held. */
	bool (*mkclean)(struct quire *q, struct folio *f);
	/* Zap the entries of pages [first, last] in all areas of the object; with even_cows the
	 * private copies too. LOCKING: invalidate for writing held; takes OBJECT_MMAP. */
	void (*unmap_range)(struct quire *q, struct object *o, u64 first, u64 last, bool even_cows);
	/* As fault_ops (fault.h). */
	u64 (*make_room)(struct quire *q, unsigned cg, u32 pages);
	bool (*refault)(struct quire *q, u32 shadow);
};

struct object {
	struct quire *q;              /* (C) */
	const struct object_ops *ops; /* (C) */
	void *data;                   /* (C) the operations' own */
	u32 flags;       /* (C) enum object_flag (GONE: set while there is one thread) */
	unsigned cgroup; /* (C) who pays for its pages */
	unsigned node;   /* (C) where its frames come from */
	a64_t frames;    /* (A) the frame that page 0 prefers, set once; 0: any */
	a32_t ref;       /* (A) handles, areas, whoever uses it */
	a64_t size;      /* (I) bytes */
	a32_t error;     /* (A) of write-back: a sequence, see error.c */
	struct rwsem invalidate;
	struct rwsem mmap;
	struct itree areas; /* (M) nodes lie in areas; [pgoff, last pgoff] */
	struct spin lock;   /* OBJECT_TREE */
	struct radix pages; /* (T) to change */
	u64 nr_pages;       /* (T) pages of folios in the tree */
	u64 nr_values;      /* (T) */
	u64 nr_dirty;       /* (T) pages with a DIRTY mark */
	u64 nr_writeback;   /* (T) */
	u64 dirtied_ns;     /* (T) when it became dirty; 0: it is clean */
	struct list link;   /* (OBJECTS) all objects of the instance */
};

struct object_config {
	u64 size;
	u32 flags;
	unsigned cgroup; /* 0: the root group */
	unsigned node;
	u64 frames; /* 0: object_prefer_frames may still give some */
};

/* ---- the instance's part ---- */
int must_check objects_create(struct quire *q);
/* LOCKING: no object is left (BUG); stops the writer. */
void objects_destroy(struct quire *q);
void objects_register(struct quire *q, const struct object_upcalls *up);
/* Objects alive. */
u64 objects_live(struct quire *q);
/* 0 or the number of broken invariants, over all objects. Only at quiescence. */
u64 objects_check(struct quire *q);
/* The background writer: writes back objects that have been dirty for `age_ms`, and the oldest
 * while more than `dirty_limit` pages are dirty (0: no limit). -EALREADY; what thread_start gave.
 */
int must_check objects_start_writer(struct quire *q, u32 age_ms, u64 dirty_limit);
void objects_stop_writer(struct quire *q);
/* After fork in the child: neither the writer nor the frames exist there. Every object is gone (no
 * page of it is written any more); once all areas are unmapped it loses its pages. */
void objects_forked_child(struct quire *q);
void objects_forked_empty(struct quire *q);

/* ---- objects ---- */
/* 0 and *out with one reference, or -ENOMEM, -EINVAL (size). The medium has cfg->size bytes. On
 * error `data` stays the caller's. */
int must_check object_create(struct quire *q, const struct object_ops *ops, void *data,
			     const struct object_config *cfg, struct object **out);
static inline void object_get(struct object *o)
{
	BUG_ON(a32_fetch_add(&o->ref, 1) == 0);
}
/* The last one writes dirty pages back (who wants to know the result calls object_sync before),
 * empties the cache and releases the object. LOCKING: may sleep; no lock that ranks behind
 * OBJECT_INVALIDATE. */
void object_put(struct object *o);

/* Page i prefers frame pfn + i from now on, unless the object prefers others already: returns what
 * page 0 prefers. Only for speed: where frames have places (CAP_PLACED), an area of the object
 * whose frames follow one another is one mapping of the machine. */
u64 object_prefer_frames(struct object *o, u64 pfn);

static inline u64 object_size(const struct object *o)
{
	return a64_read_acquire(&o->size);
}
/* Pages that the size covers, the last one perhaps in part. */
static inline u64 object_nr_indices(const struct object *o)
{
	return DIV_UP(object_size(o), PAGE_SIZE);
}
/* The object whose page cache the folio is in, or NULL. Stable under the folio lock, and while an
 * entry maps the folio (under the entry lock): a folio is unmapped before it leaves the cache. */
static inline struct object *folio_object(const struct folio *f)
{
	void *mapping = aptr_read_acquire(&f->mapping);

	return (uintptr_t)mapping & MAPPING_ANON ? NULL : mapping;
}

/* ---- the cache ---- */
/* The folio that holds page `index`, with a reference, or NULL. Lock-free. It may leave the cache
 * at any time; under its lock folio_object() tells. */
struct folio *object_lookup(struct object *o, u64 index);
/* A new folio (locked, its index free to set: aligned to its order) into the cache at `index`: one
 * reference more for each page. *value (may be NULL, then values are kept out: -EEXIST): what stood
 * in place of its first page, 0 if nothing. -EEXIST: some place holds a folio, or a folio of more
 * than one page meets a value; -ENOMEM. Nothing changed then. LOCKING: folio lock; invalidate
 * (read is enough). */
int must_check object_insert(struct object *o, u64 index, struct folio *f, u64 *value);
/* The new folio (locked, same order, not in a cache) takes the place of the old one, which the
 * caller has locked and frozen to 0 references, with its index, marks and PG_DIRTY. Afterwards old
 * has no object and still 0 references, the cache's ones included; new has got the cache's. For
 * migration. */
void object_replace_frozen(struct folio *old, struct folio *new);
/* May the folio go to another frame, as far as its object is concerned? 0; -EAGAIN: once it is
 * clean; -EBUSY: no. LOCKING: folio lock; a clean one stays clean while it is unmapped. */
static inline int object_may_move(const struct folio *f)
{
	const struct object *o = folio_object(f);

	if (!o || o->ops->migrate_folio || o->ops->keeps == OBJECT_KEEPS_NOTHING)
		return 0;
	if (o->ops->keeps == OBJECT_KEEPS_ALWAYS)
		return -EBUSY;
	return folio_test(f, PG_DIRTY) ? -EAGAIN : 0;
}
/* The folio leaves the cache: its bytes are void. Drops the cache's references and cancels its
 * dirtiness. LOCKING: folio lock, unmapped, no write-back under way; the caller holds a reference.
 */
void object_remove(struct object *o, struct folio *f);

/* Reading ahead: kept by whoever reads in sequence (an area, a handle). Racy hints. */
struct object_ra {
	a64_t next;  /* the index that would continue the last read */
	a32_t pages; /* present window */
};

enum object_get_flag {
	OBJECT_GET_LOCKED = BIT(0),  /* return it locked */
	OBJECT_GET_BEYOND = BIT(1),  /* beyond the size too (invalidate held for writing) */
	OBJECT_GET_NOFORCE = BIT(2), /* rather -ENOMEM than over the group's limit */
};
/*
 * The folio with page `index`, its bytes in place, with a reference; from the cache, or brought in
 * (with more pages behind it, if ra is not NULL and the reads are sequential). With
 * OBJECT_GET_LOCKED it is locked and still the object's. *major (may be NULL): the medium was read.
 * -ENXIO: beyond the size; -EIO and what else reading gives: nothing stays half cached, and the
 * next caller tries again; -ENOMEM. LOCKING: invalidate held (read is enough); may sleep, so
 * nothing from FOLIO on.
 */
int must_check object_get_folio(struct object *o, u64 index, u32 flags, struct object_ra *ra,
				struct folio **out, bool *major);

/* ---- dirty, write-back ---- */
/* LOCKING: the folio lock, or the entry lock of an entry that maps it. */
void object_mark_dirty(struct folio *f);
/* The folio is about to be mapped writable in a shared area, or written by the core: waits for
 * write-back and makes it dirty. 0; -EAGAIN: it is not the object's any more; -EACCES:
 * OBJECT_READONLY. LOCKING: folio lock, kept until the entry is set. */
int must_check object_make_writable(struct object *o, struct folio *f);
enum object_wb {
	OBJECT_WB_NONE, /* start it; what somebody else has locked or is writing is left out */
	OBJECT_WB_SYNC, /* all that was dirty at the call is on the medium when it returns */
};
/* Pages [first, last]. 0, or the first error of this call (the pages are dirty still). LOCKING: no
 * folio lock. */
int must_check object_writeback(struct object *o, u64 first, u64 last, enum object_wb mode);
/* A syncer's view of earlier errors: starts with the present one seen, if anybody has. */
u32 object_error_sample(struct object *o);
/* An error since *since, which moves on; 0: none. */
int object_error_check(struct object *o, u32 *since);
/* Write back [first, last], wait, and make it durable. *since (object_error_sample; may be NULL):
 * an error of write-back since then, by whomever, is reported too, and only once. LOCKING: nothing
 * from OBJECT_INVALIDATE on. */
int must_check object_sync(struct object *o, u64 first, u64 last, u32 *since);
/* For those who dirty pages, when they hold no locks: helps while the dirty limit is exceeded. */
void object_balance_dirty(struct object *o);

/* ---- reclaim ---- */
/* Write out n dirty folios of objects' caches. On success clean; err[i] else, and dirty still.
 * Neighbours are written together. Returns the number that succeeded. LOCKING: all locked, unmapped
 * (flushed), not under write-back. */
u32 object_writeout(struct quire *q, struct folio **folios, u32 n, int *err);
/* A clean, unmapped folio leaves memory: true when nobody used it, and then it is frozen (ref 0),
 * out of the cache, and the caller's to unlock and free (phys_free_frozen_list). `refs`: the
 * caller's own references. LOCKING: folio lock. */
bool must_check object_evict(struct quire *q, struct folio *f, u32 refs, u32 shadow);

/* ---- size and content ---- */
/* New size; bytes beyond it are gone for good, also for mappings and private copies; bytes gained
 * are zero. 0, -EFBIG, -EACCES, -ENOMEM (its last page could not be had), or what the medium gave:
 * then the size is the old one. LOCKING: none held. */
int must_check object_truncate(struct object *o, u64 size);
/* Bytes [start, start + len) read as zero; whole pages leave the cache, and mappings. The size
 * stays. Private copies stay (as in Linux). */
int must_check object_punch(struct object *o, u64 start, u64 len);
/* Through the cache. Bytes transferred (reads end at the size; writes extend it), or the error of
 * the first page. buf may lie in managed memory: no lock is held while it is touched. LOCKING: none
 * held. */
s64 must_check object_read(struct object *o, u64 offset, void *buf, u64 len, struct object_ra *ra);
s64 must_check object_write(struct object *o, u64 offset, const void *buf, u64 len);

/* ---- checking ---- */
/* 0 or the number of broken invariants. Only at quiescence. */
u64 object_check(struct object *o);
/* Every folio of the cache, once. Only at quiescence. */
void object_for_each_folio(struct object *o, void (*fn)(void *ctx, struct folio *f), void *ctx);
/* Every object. */
void objects_for_each(struct quire *q, void (*fn)(void *ctx, struct object *o), void *ctx);

#endif
