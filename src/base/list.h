/*
 * list.h - intrusive doubly linked list, circular with a head.
 *
 * Invariant: an unlinked node is self-linked after list_init or list_del_init.
 * Locking: the owner's; nothing here is atomic.
 */
#ifndef QUIRE_BASE_LIST_H
#define QUIRE_BASE_LIST_H

#include "base/types.h"

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_link(struct list *n, struct list *prev, struct list *next)
{
	n->next = next;
	n->prev = prev;
	next->prev = n;
	prev->next = n;
}

/* Behind the head: first. */
static inline void list_add(struct list *n, struct list *head)
{
	list_link(n, head, head->next);
}

/* Before the head: last. */
static inline void list_add_tail(struct list *n, struct list *head)
{
	list_link(n, head->prev, head);
}

static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
}

static inline void list_del_init(struct list *n)
{
	list_del(n);
	list_init(n);
}

static inline void list_move(struct list *n, struct list *head)
{
	list_del(n);
	list_add(n, head);
}

static inline void list_move_tail(struct list *n, struct list *head)
{
	list_del(n);
	list_add_tail(n, head);
}

/* All of `from` goes behind `head`'s first place; `from` is left empty. */
static inline void list_splice_init(struct list *from, struct list *head)
{
	if (list_empty(from))
		return;
	from->next->prev = head;
	from->prev->next = head->next;
	head->next->prev = from->prev;
	head->next = from->next;
	list_init(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
#define list_last(head, type, member) list_entry((head)->prev, type, member)
#define list_for_each(pos, head)                                                             \
	for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
#define list_for_each_safe(pos, tmp, head)                                                   \
	for (struct list *pos = (head)->next, *tmp = pos->next; pos != (head); \
	     pos = tmp, tmp = pos->next)

#endif
