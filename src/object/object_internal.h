/*
 * object_internal.h - what the files of this folder share.
 *
 * Invariant: a word of the tree is NULL, a folio, or a value; only word_folio and word_value tell
 * them apart. Locking letters: (O) OBJECTS, (C) constant, (A) atomic.
 */
#ifndef QUIRE_OBJECT_INTERNAL_H
#define QUIRE_OBJECT_INTERNAL_H

#include "base/inject.h"
#include "base/mech.h"
#include "machine/machine.h"
#include "object/object.h"

struct objects {
	struct spin lock;         /* OBJECTS */
	struct list list;         /* (O) by ->link */
	u64 nr;                   /* (O) */
	struct object_upcalls up; /* (C) since registration */
	a64_t nr_dirty;           /* (A) pages with a DIRTY mark, of all objects */
	/* the writer (writer.c) */
	void *thread;    /* (C) while running */
	a32_t word;      /* (A) 0 asleep, 1 told to work, 2 told to stop */
	a32_t running;   /* (A) */
	u64 age_ns;      /* (C) while running */
	u64 dirty_limit; /* (C) while running; 0: none */
};

/* ---- words ---- */
static inline struct folio *word_folio(void *word)
{
	return (uintptr_t)word & 1 ? NULL : word;
}

static inline bool word_is_value(void *word)
{
	return (uintptr_t)word & 1;
}

static inline void *value_word(u64 value)
{
	return (void *)((uintptr_t)value << 1 | 1);
}

static inline u64 word_value(void *word)
{
	return (uintptr_t)word >> 1;
}

static inline bool object_is_anon(const struct object *o)
{
	return o->flags & OBJECT_ANON;
}

/* The bytes of page i of a folio on a machine with plain frames, to read and to write. */
static inline void *page_bytes(struct object *o, struct folio *f, u32 i)
{
	struct machine *m = o->q->machine;

	return m->ops->frame_window(m, folio_pfn(o->q, f) + i);
}

/* Zero [from, to) of a folio. LOCKING: folio lock. */
void folio_zero_bytes(struct object *o, struct folio *f, u64 from, u64 to);

/* ---- cache.c ---- */
/* Puts the folio into its places in the tree and sets its fields. LOCKING: tree lock. */
void cache_link(struct object *o, struct folio *f, u64 index);
/* The folio's places get a value's word (those of further pages follow by `step` each), or NULL.
 * The folio's fields stay. LOCKING: tree lock. */
void cache_clear(struct object *o, struct folio *f, void *word, u32 step);
/* The next folio in [from, last], with a reference; marked if mark >= 0. RADIX_END: none; its index
 * else. */
u64 cache_next(struct object *o, u64 from, u64 last, int mark, struct folio **out);

/* ---- dirty.c ---- */
/* Under the folio lock: false when it was clean, and else it is to be written, clean and
 * PG_WRITEBACK. */
bool writeback_begin(struct object *o, struct folio *f);
/* 0, or why it could not be written: then it is dirty again. */
void writeback_end(struct object *o, struct folio *f, int err);
/* The folio is dirty no more and will not be written. LOCKING: folio lock. */
void dirty_cancel(struct object *o, struct folio *f);

/* ---- error.c ---- */
void object_error_set(struct object *o, int err);

/* ---- truncate.c ---- */
/* Everything goes: the object has no reader any more. */
void object_empty(struct object *o);
/* The object is about to become longer: what mappings have stored behind its end becomes visible as
 * zeroes. LOCKING: invalidate for writing. */
void object_zero_tail(struct object *o);

#endif
