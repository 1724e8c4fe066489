/*
 * rmap.h - from a folio to every entry that maps it: anon_vma, the walk, mapping counts, unmapping.
 *
 * Anonymous pages are found through anon_vmas; pages of objects through the object's interval tree
 * of areas (object.h), in shared and in private areas alike. A private area of an object is in
 * both.
 *
 * struct anon_vma: a reference-counted set of areas that may map the same anonymous folios, in an
 * interval tree by page index; areas and anon_vmas are linked by anon_vma_chain objects (an area
 * may be in several once spaces fork). All anon_vmas of one family share the root's rwsem.
 * Fork gives a child's area an anon_vma of its own, for the pages that the child will write, and
 * chains it to all those of the parent's area, whose folios it shares:
 *
 *   parent's area -- A                    a folio of A is found in parent and child,
 *   child's area  -- A, B (child of A)    one that the child wrote is B's and found in the child
 * only
 *
 * So every area that may map a folio of an anon_vma is in that one's tree. An anon_vma that no area
 * calls its own any more is taken by the next fork instead of a new one (anon_vma_fork), which
 * bounds the chains of a line of processes that fork and exit by the number of those alive. A
 * folio's mapping holds the anon_vma (| MAPPING_ANON) and its index; to walk, one takes a reference
 * with folio_get_anon_vma (RCU; revalidates that the folio is still mapped) and read-locks the
 * root.
 *
 *   T1: rmap walk                             T2: last unmap of the folio
 *   rcu lock; m = folio->mapping
 *   mapped? yes; try ref anon_vma             mapcount -> 0 ... areas unlinked, anon_vma refs -> 0
 *   still mapped? no -> drop, give up         freed after a grace period
 * so the try-ref above never touches freed memory.
 *
 * An object's page needs no such care: whoever walks holds the folio lock, under which
 * folio_object() is stable, and an object lives while its cache holds a folio. Areas enter and
 * leave the object's tree under its mmap lock, which a walk holds for reading (Linux c8c06efa).
 *
 * Locking: OBJECT_MMAP, ANON_VMA (root rwsem) before entry locks; callers hold the folio lock for
 * unmap.
 */
#ifndef QUIRE_RMAP_RMAP_H
#define QUIRE_RMAP_RMAP_H

#include "base/rbtree.h"
#include "object/object.h"
#include "pagetable/pagetable.h"
#include "phys/phys.h"
#include "tlb/tlb.h"
#include "vma/vma.h"

struct anon_vma {
	struct rwsem rwsem;      /* used of the root only */
	struct anon_vma *root;   /* (C) */
	a32_t ref;               /* areas' chains + walkers + children */
	struct anon_vma *parent; /* (C) with a reference; NULL: a root */
	u32 nr_children;         /* (root rwsem) anon_vmas with areas whose parent this is */
	u32 nr_active;           /* (root rwsem) areas whose own anon_vma this is */
	struct itree tree;       /* (root rwsem) of anon_vma_chain.node */
	struct rcu_head rcu;
};

struct anon_vma_chain {
	struct itree_node node;    /* (root rwsem) [pgoff, last pgoff] of the area */
	struct vma *vma;           /* (C) */
	struct anon_vma *anon_vma; /* (C) */
	struct list same_vma;      /* (S) in vma->anon_chain */
};

/* What rmap must know of the space that owns an area (the space folder embeds it first in struct
 * space). */
struct rmap_space {
	struct pgtable pgt;
	struct tlb_space tlb;
	a64_t rss_pages;    /* entries that map pages */
	a64_t swap_entries; /* entries that are swap entries */
	a32_t batched;      /* ranges left to a batch's flush so far (set under the entry lock) */
	a32_t batched_flushed; /* `batched` when the whole space was last flushed for it */
	a32_t gathers;         /* gathers under way (gather.c: flushes of others) */
	struct anon_vma
		*home; /* (C) the one anon_vma of all areas with home frames; NULL: no such */
};

/*
 * Home frames: a page of a large folio can be unmapped, its address mapped anew by another area,
 * and the frame found still in use by the same folio, which the other area maps too. One folio
 * would then belong to two anon_vmas. So there all areas of a space share one, whose index is the
 * address itself (folio->index == pgoff == va >> PAGE_SHIFT always; frames are not shared between
 * spaces, and mremap moves bytes, not entries). Areas with plain frames have their own.
 */
int must_check rmap_space_init(struct quire *q, struct rmap_space *rs);
/* LOCKING: no area is left. */
void rmap_space_fini(struct quire *q, struct rmap_space *rs);

/* What unmapping needs of the swap folder, which ranks higher: registered by it before the first
 * use. */
struct rmap_swap_ops {
	/* An entry is about to name these slots. LOCKING: entry lock. */
	void (*dup)(struct quire *q, u64 slot, u32 nr);
	/* The last entry of a folio in the swap cache is gone: its slots go if nothing names them.
	 * LOCKING: folio lock. */
	bool (*try_free)(struct quire *q, struct folio *f);
	/* Metadata beside the bytes (swap/meta.h): is there anybody who saves them? Then `save`
	 * is called for a page whose entry was cleared and flushed, before the entry names its
	 * slot; < 0: it must stay. LOCKING: entry lock. */
	bool (*meta_wanted)(struct quire *q);
	int (*meta_save)(struct quire *q, void *space, u64 va, u64 pfn, u64 slot);
};
void rmap_register_swap(struct quire *q, const struct rmap_swap_ops *ops);
/* For whoever is about to drop the references of unmapped entries: a folio that only its stored
 * copy keeps would otherwise linger until reclaim finds it. LOCKING: takes the folio lock; a
 * reference is held. */
void rmap_drop_unused_copy(struct quire *q, struct folio *f);
/* The same by who has it locked. */
void rmap_drop_unused_copy_locked(struct quire *q, struct folio *f);

int must_check rmap_create(struct quire *q);
void rmap_destroy(struct quire *q);
/* anon_vmas and chains alive, for leak checks. */
u64 rmap_live_objects(struct quire *q);
extern const struct vma_ops rmap_vma_ops;

/* Make sure the area has an anon_vma (reuses a mergeable neighbour's). LOCKING: VMA lock or space
 * lock (read is enough). */
int must_check anon_vma_prepare(struct quire *q, struct vma *v);
/* mremap: dst gets src's anon_vma. LOCKING: space write lock. */
int must_check anon_vma_clone(struct quire *q, struct vma *dst, struct vma *src);

/* fork: dst is chained to all of src's and gets an anon_vma of its own. 0 or -ENOMEM (nothing
 * changed). LOCKING: both spaces' write locks; dst is in no map yet. */
int must_check anon_vma_fork(struct quire *q, struct vma *dst, struct vma *src);

/* ---- counting: LOCKING: entry lock held ---- */
/* First mapping of a new anonymous folio, nr == folio_nr: sets mapping, index, exclusive,
 * swap-backed. */
void folio_add_new_anon_rmap(struct quire *q, struct folio *f, struct vma *v, u64 va);
/* A further mapping of pages [first, first+nr) (swap-in again, remap, refault into a live folio).
 * A folio without a mapping becomes the area's if the first page is exclusive, else the root's: any
 * space that descends from it may map it. LOCKING: folio lock too. */
void folio_add_anon_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr, struct vma *v,
			      u64 va);
/* Another space's entries will map pages [first, first + nr) too, each with a reference. LOCKING:
 * entry locks of both; the pages are not exclusive (any more). */
void folio_dup_anon_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr);
/*
 * Take exclusivity from pages [first, first + nr) (Linux e3b4b137): from now on nobody writes them
 * in place, or pins them. -EBUSY: one of them may be pinned; nothing has changed. The entries of
 * exclusive pages were cleared or lost the right to write before, under the entry lock that is
 * held:
 *
 *   T1: unmap, fork                      T2: pin_fast, which holds no lock
 *   clear (write-protect) the entry      reads the entry
 *   (full barrier)                       adds the pin (full barrier)
 *   pinned? then restore it              entry still the same? else drop the pin
 *   not exclusive any more               page still exclusive? else drop the pin
 *
 * Either T1 sees the pin, or T2 sees what T1 did to the entry. An entry that was not writable looks
 * the same to T2 after a fork: there the fork sequence (fault.h) tells it.
 */
int must_check folio_try_share_anon_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr);
/* The area is the only one left: the folio is its own from now on, and exclusive are the pages that
 * it maps. LOCKING: folio lock too; all entries lie in one table. */
void folio_move_anon_rmap(struct quire *q, struct folio *f, struct vma *v);
/* Pages [first, first + nr) of an object's folio are mapped once more, each with a reference of the
 * caller's. Never exclusive: an object's page is written through shared areas, or copied. */
void folio_add_object_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr);
/* Does not touch references. Sets PG_PARTIAL when a large anonymous folio stays partly mapped. */
void folio_remove_rmap_ptes(struct quire *q, struct folio *f, u32 first, u32 nr);
void folio_remove_rmap_pmd(struct quire *q, struct folio *f);

/* ---- walks ---- */
enum unmap_flags {
	UNMAP_IGNORE_MLOCK = BIT(0),
	UNMAP_MIGRATE = BIT(1), /* migration entries instead; nothing is dropped */
};
/* Replace every entry of the folios by swap entries (folio in the swap cache) or drop lazy-free
 * clean ones; those of objects' pages are just cleared: the object knows where its pages are.
 * `folios`: locked, isolated, ascending by index where they neighbour each other; those
 * of one area inside one table are handled under one lock round. Dirty bits go to the folio when an
 * entry is cleared. The flush is left to `batch` (which the caller must flush before it writes out
 * or frees), except on CAP_FLUSH_UNDER_LOCK machines, where it is done inside (of home frames only
 * FLUSH_NO_STORE). done[i]
 * = no mapping is left; a folio that must not be unmapped (mlocked area, pinned, unreadable area on
 * home frames, dirty lazy-free) keeps its entries. LOCKING: takes ANON_VMA for reading, entry
 * locks. Returns the number with done set. */
u32 rmap_unmap_folios(struct quire *q, struct folio **folios, u32 n, u32 flags,
		      struct tlb_batch *batch, bool *done);
/*
 * A page that moves to another frame (Linux: try_to_migrate, remove_migration_ptes). Unmapping with
 * UNMAP_MIGRATE leaves migration entries (pte.h), which name the old frame and hold no reference;
 * they count as resident. Who moves the folio holds its lock from before until after
 * rmap_remove_migration, so:
 *
 *   T1: migration                       T2: a fault, fork, protect, zap, remap, truncation
 *   folio lock
 *   entry lock: present -> migration
 *                                       fault: waits until the folio is unlocked, by its record,
 *                                       which is never freed: a reference would stop the move
 *                                       fork: both have it, writable no more; protect: takes WRITE
 *                                       from it; zap: clears it; remap: moves it, the walk held off
 *   flush, copy, replace
 *   entry lock: migration -> present,
 *   with the rights that the area has
 *   by now (Linux d3cb8bf6)
 *   unlock: wakes
 *
 * No entry is missed: areas that may have one are in the tree that is walked, a fork's behind the
 * one it was copied from (as for reverse.c), and a move's walk is held off.
 */
/* The anon_vma of a mapped folio, kept while nothing maps it; NULL: not anonymous, or not mapped.
 */
struct anon_vma *rmap_hold(struct quire *q, struct folio *f);
void rmap_release(struct quire *q, struct anon_vma *av);
/*
 * Folios side by side have moved, or not: the migration entries of the frames from from_pfn on
 * become entries of those from to_pfn on (which may be the same), which are mapped, counted and
 * exclusive as the pages were. The folios there have their mapping, their consecutive indices and
 * the dirty flag already. av: what rmap_hold gave for all of them. hint: not 0: anonymous pages get
 * hints (pte.h), with the stamp of this one. LOCKING: the locks of all folios of both sides, a
 * reference of each; takes OBJECT_MMAP or ANON_VMA for reading, entry locks.
 */
struct rmap_moved {
	u64 from_pfn, to_pfn;
	u64 index; /* of the first page */
	u32 nr;    /* pages, at most PTRS_PER_TABLE */
	struct anon_vma *av;
	struct object *object; /* av NULL: whose they are */
	u64 hint;
};
void rmap_remove_migration(struct quire *q, const struct rmap_moved *moved);

/*
 * Entries that reclaim has just unmapped may still be cached by CPUs until its batch is flushed.
 * Whoever relies on such an entry not reaching its page any more (protect, zap, a move, MADV_FREE)
 * flushes first (Linux 3ea27719).
 *   T1: reclaim                    T2: protect                     T3: a CPU
 *   clear the entry, batch it                                      has it cached
 *                                  nothing present: no flush
 *                                  return: "no access"             reads through it
 *   flush the batch
 * LOCKING: the entry lock of the entries.
 */
void rmap_flush_batched(struct rmap_space *rs);
/* Was it used since the last call? Clears accessed bits without a flush (machines with CAP_HW_AD; 0
 * elsewhere). */
u32 rmap_referenced(struct quire *q, struct folio *f);
/*
 * Entries become hints (hint.c): pages of a space from va on, inside one table, that are anonymous,
 * not pinned, and on nodes of `tier` or slower. Returns how many; *node: the last one's. LOCKING:
 * takes the entry lock; no area need be held.
 */
u32 rmap_hint_range(struct quire *q, struct rmap_space *rs, u64 va, u32 n, unsigned tier,
		    unsigned stamp, unsigned *node);
/* All entries of nr pages from the folio's first on: its own, or with home frames also of folios
 * behind it that are mapped side by side with it. LOCKING: as rmap_walk; a reference of each. */
u32 rmap_hint_folios(struct quire *q, struct folio *f, u32 nr, unsigned stamp);
/* Every (area, va) that may map the folio; stops when fn returns false. LOCKING: takes ANON_VMA for
 * reading, or OBJECT_MMAP; the latter with the folio lock held. */
void rmap_walk(struct quire *q, struct folio *f,
	       bool (*fn)(void *ctx, struct folio *f, struct vma *v, u64 va), void *ctx);
/*
 * Before an object's page is written to its medium: every entry loses WRITE and DIRTY and is
 * flushed, so that a store from now on faults and makes the page dirty again (Linux d08b3851).
 * True: an entry was dirty. What nothing maps is clean of stores, because whoever takes a dirty
 * entry away counts it as a mapping until it has flushed (gather.h: delayed removal):
 *
 *   T1: zap                          T2: write-back              T3: a CPU
 *   entry lock                                                   has it cached, writable
 *   clear the dirty entry; dirty
 *                                    mapped? walk: entry lock    stores
 *   flush
 *   not mapped any more; unlock
 *                                    not dirty any more; write
 * LOCKING: folio lock; takes OBJECT_MMAP for reading, entry locks.
 */
bool rmap_mkclean(struct quire *q, struct folio *f);

/* Split a large folio into single pages wherever it is mapped; the entries keep mapping the same
 * frames. The caller has isolated and locked it and holds no reference but the isolation's; it is
 * not in the swap cache. On success the pages that are mapped are on `out` (by ->lru), each
 * isolated with one reference, unlocked; unmapped pages are freed, but for page 0, which is `f` and
 * on `out` too. -EBUSY: others hold references; -EAGAIN; nothing has changed then. */
int must_check rmap_split_folio(struct quire *q, struct folio *f, struct list *out);

/* 0 or number of broken invariants of one area's chains. */
u64 rmap_check_vma(struct quire *q, struct vma *v);

#endif
