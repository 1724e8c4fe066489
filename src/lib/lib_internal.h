/*
 * lib_internal.h - what stands behind the public handles, and what the files of this folder share.
 *
 * struct api_instance is quire_t, struct api_space is quire_space_t. The list of instances with the
 * SIGBUS handler installed is the one piece of process-wide state; a signal handler is process-wide
 * by nature.
 * Locking: `spaces` under the instance's lock; lookups by address (traps) read the fixed array
 * lock-free: an entry is published with release and cleared before the space goes.
 */
#ifndef QUIRE_LIB_INTERNAL_H
#define QUIRE_LIB_INTERNAL_H

#include <quire/quire.h>

#include "api/core.h"
#include "machine/host/host.h"
#include "object/object.h"
#include "space/space.h"

#define API_MAX_SPACES 64

struct api_instance;

struct api_space {
	struct api_instance *a;
	struct space *s;
};

/* One line for the caller of quire_open, unless there is one already. */
void api_say(char *msg, size_t size, const char *text);

/* ---- nodes.c: what the options say of nodes ---- */
int must_check api_check_nodes(const struct quire_options *opt, char *msg, size_t msg_size);
void api_host_nodes(const struct quire_options *opt, struct host_config *hc);
void api_core_nodes(const struct quire_options *opt, struct machine *m, struct core_config *cc);

struct api_object {
	struct api_instance *a;
	struct object *o;    /* (C) */
	a32_t since;         /* (A) the errors that this handle has reported (object_sync) */
	struct object_ra ra; /* of quire_object_read */
	struct list link;    /* (lock) */
};

struct api_instance {
	struct quire *q;
	struct list objects;           /* (lock) by ->link; open handles */
	s32 physical[QUIRE_NODES_MAX]; /* (C) of each node; -1: any */
	struct mutex lock;
	aptr_t space[API_MAX_SPACES];  /* (lock) to change; struct api_space */
	bool handles_sigbus;           /* (C) */
	bool background;               /* (C) threads of its own are wanted */
	struct quire_swap_hooks hooks; /* (C) once there is a space */
	void *hooks_ctx;               /* (C) */
};

static inline struct api_instance *api_of(void *qt)
{
	return qt;
}

static inline struct api_space *api_space_of(void *st)
{
	return st;
}

int must_check api_instance_create(struct machine *m, const struct core_config *cc, bool sigbus,
				   struct api_instance **out);
void api_instance_destroy(struct api_instance *a);
/* Empty, or (parent not NULL) forked from another. */
int must_check api_space_create(struct api_instance *a, struct api_space *parent,
				struct api_space **out);
void api_space_destroy(struct api_space *as);
u32 api_map_flags(int flags);
/* The handles that are left, when the instance goes. */
void api_objects_close(struct api_instance *a);

/* Resolve an access; -ENOENT: no space of this instance. Safe in a signal handler. */
int must_check api_trap(struct api_instance *a, u64 va, bool write);
int must_check api_forked_child(struct api_instance *a);
/* The SIGBUS handler's list. */
int must_check api_sigbus_add(struct api_instance *a);
void api_sigbus_remove(struct api_instance *a);

#endif
