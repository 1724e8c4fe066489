/*
 * swap_object.h - anonymous objects: memory that several areas share, paged to the swap stores.
 *
 * A page of one is in memory, or in a slot (the tree holds its number, object.h), or zero because
 * nobody has written it. The slot's count is 1 while the tree names it, and while the folio that is
 * to leave is in the swap cache; so
 *   PG_SWAPCACHE of an object's folio <=> its slots have the count that the tree will own.
 * A page that comes back gives its slot up. Metadata hooks (meta.h) belong to entries and are not
 * called for pages that leave an object.
 * Locking: object.h; slots as in swap.h.
 */
#ifndef QUIRE_SWAP_OBJECT_H
#define QUIRE_SWAP_OBJECT_H

#include "object/object.h"

/* cfg->size bytes of zeroes. 0 and *out, or -ENOMEM, -EINVAL. */
int must_check object_create_anon(struct quire *q, struct object_config *cfg, struct object **out);

#endif
