/*
 * offline.h - frames go out of service while programs use them (Linux: offline_pages).
 *
 *   1 leave    the blocks' free frames are captured; from here on what is freed there is captured
 *              too, and nothing of it is handed out (isolate.h)
 *   2 passes   every movable folio in them moves: elsewhere in the node, else to another one; large
 *              folios are split where there is no room for the whole
 *   3 offline  when all frames are captured, and as many are taken off the node's capacity
 *
 * Why it is safe to say "all": frames are counted as they come, not looked for. A frame that is on
 * its way to a folio, or from one, is in no folio that a scan would find, nor is it captured.
 *
 * Why it ends (Linux e71769ae): captured frames only grow in number while the blocks are leaving,
 * so there are no more passes with progress than frames. After some without in a row it fails.
 *
 * Invariants
 *  1. Success: nothing of the range is used, and phys_capacity and allocation are without it.
 *  2. Failure: the blocks are in service as before; what has moved meanwhile stays where it is.
 *  3. No page is lost, and charges stay as they were.
 *
 * Locking: no core lock held but the gate. Waits for folio locks and write-back.
 */
#ifndef QUIRE_MIGRATE_OFFLINE_H
#define QUIRE_MIGRATE_OFFLINE_H

#include "migrate/migrate.h"
#include "phys/isolate.h"

struct offline_result {
	struct phys_scan scan; /* over all passes, as the next */
	struct migrate_counts migrate;
	u32 passes;
	u32 idle;     /* of these, without progress */
	u64 captured; /* frames of the range that nobody used at the end */
};

/*
 * Frames [pfn, pfn + nr) of one node, whole blocks of PHYS_BLOCK_FRAMES. `stop` (may be NULL): not
 * 0 makes it fail soon. `result` may be NULL.
 * 0; -EINVAL: not such a range; -EBUSY: something in it is pinned or cannot be moved, or part of it
 * is out of service; -ENOMEM: no room for what is in it, or not so much capacity left; -EINTR.
 */
int must_check node_offline_range(struct quire *q, u64 pfn, u64 nr, a32_t *stop,
				  struct offline_result *result);
/* Back into service. 0, or -EINVAL: not all of it is offline. */
int must_check node_online_range(struct quire *q, u64 pfn, u64 nr);

#endif
