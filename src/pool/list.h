/* SPDX-License-Identifier: MIT
 *
 * pool/list.h: a list of things that each have a link in them; a link of its own is the list's head.
 */
#ifndef BROOD_POOL_LIST_H
#define BROOD_POOL_LIST_H

#include <stddef.h>

struct link {
        struct link *prev, *next;
};

/* The thing that has this link in it. */
#define link_of(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void link_init(struct link *head)
{
        head->prev = head->next = head;
}

/* The first one, or NULL. */
static inline struct link *link_first(const struct link *head)
{
        return head->next == head ? NULL : head->next;
}

static inline void link_append(struct link *head, struct link *link)
{
        link->prev = head->prev;
        link->next = head;
        head->prev->next = link;
        head->prev = link;
}

static inline void link_remove(struct link *link)
{
        link->prev->next = link->next;
        link->next->prev = link->prev;
        link_init(link);
}

#endif
