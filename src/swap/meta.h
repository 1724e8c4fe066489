/*
 * meta.h - metadata that an embedder keeps for each page beside its bytes (a tag for each line, an
 * access key): saved when the page leaves memory, restored when it comes back (Linux ca827d55:
 * arch_unmap_one, arch_do_swap_page).
 *
 * Metadata belong to a frame while the page is resident and to a slot while an entry names it:
 *
 *   resident -[save: entry cleared, nobody stores to the page any more]-> saved with the slot
 *   saved    -[restore: before the entry is usable]-> resident; the slot may keep what was saved
 *   saved    -[drop: the slot is freed, before it can be used again]-> gone
 *
 * Invariants
 *  1. save sees the page as it is written out: its entry was cleared and flushed before. What it
 *     refuses stays in memory: the entry comes back as it was, with its references and exclusivity.
 *  2. save may come again for a slot (a copy that was kept while the page was resident, an entry of
 *     another space): what is saved is replaced. It may come for a page that does not leave in the
 *     end (its write-out fails, it is used at once): restore then finds the frame as it was.
 *  3. restore comes once for each entry that becomes present, so for a page that several spaces
 *     share several times, with the same contents: nobody writes such a page.
 *  4. drop comes exactly once for each slot for which save has succeeded; after the last space has
 *     gone nothing is left. A swap entry that is zapped, discarded or ends with its space leads to
 *     it; one that is forked or moved (mremap) keeps the slot.
 *  5. copy comes when the core copies or moves a page's bytes to another frame (a copy on write, a
 *     fork that copies, mremap of home frames).
 * A frame that is filled with zeroes anew is nobody's business: no call. Nor are pages of objects,
 * of anonymous ones neither (as in Linux): they are the object's, not an entry's.
 *
 * Locking: all are called with spin locks held (save, restore: the entry lock; drop: the slot's
 * cluster): they do not sleep, touch no managed memory and call nothing of Quire. On the host
 * machine they run inside fault handlers.
 */
#ifndef QUIRE_SWAP_META_H
#define QUIRE_SWAP_META_H

#include "base/quire.h"

struct meta_page {
	void *space; /* struct space: whose entry it is or was */
	u64 va;
	u64 pfn;
	u64 slot;
};

struct meta_ops {
	int (*save)(void *ctx, const struct meta_page *p); /* < 0: the page stays */
	void (*restore)(void *ctx, const struct meta_page *p);
	void (*drop)(void *ctx, u64 slot);
	void (*copy)(void *ctx, u64 to_pfn, u64 from_pfn); /* may be NULL */
};

/* `ops` and `ctx` live as long as the instance. LOCKING: before the first page is mapped. */
void meta_register(struct quire *q, const struct meta_ops *ops, void *ctx);
bool meta_wanted(struct quire *q);

/* For the core, where the above says so; nothing happens when nobody has registered. */
int must_check meta_save(struct quire *q, void *space, u64 va, u64 pfn, u64 slot);
void meta_restore(struct quire *q, void *space, u64 va, u64 pfn, u64 slot);
void meta_copy(struct quire *q, u64 to_pfn, u64 from_pfn, u32 nr);

#endif
