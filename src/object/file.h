/*
 * file.h - objects whose medium is a file, through the machine's file operations.
 *
 * While the object lives the file is its own: what others do to the file's bytes may or may not be
 * seen. The file may be shorter than the object until a sync (a last page that nobody has written);
 * what lies behind the file's end is zero.
 * Locking: object.h.
 */
#ifndef QUIRE_OBJECT_FILE_H
#define QUIRE_OBJECT_FILE_H

#include "object/object.h"

/* Opens the file (FILE_* of machine.h); size and OBJECT_READONLY of *cfg are set from it. 0 and
 * *out, or what opening gave, -EFBIG, -ENOMEM. */
int must_check object_open_file(struct quire *q, const char *path, u32 flags,
				struct object_config *cfg, struct object **out);

#endif
