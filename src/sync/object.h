/* SPDX-License-Identifier: MIT
 *
 * sync/object.h: what the objects of this room have in common: a region of their own with a table of users, made, passed on, and
 * given up in the same way.
 *
 *     region head | struct user_shared | the object's words | struct owners | the object's tail
 *
 * The words are the object's `struct ..._shared`; the tail is what it keeps of each owner or waiter, and needs no memory before
 * it is used.
 */
#ifndef BROOD_SYNC_OBJECT_H
#define BROOD_SYNC_OBJECT_H

#include "shm/region.h"
#include "sync/user.h"

enum { OBJECT_WORDS_AT = 128 };
static_assert(sizeof(struct region_head) + sizeof(struct user_shared) <= OBJECT_WORDS_AT, "the words follow");

/* A kind of object. */
struct object_kind {
        enum region_kind kind;
        const char *name; /* of the memory, for /proc/PID/maps */
        size_t words, tail;
        struct user_hooks hooks; /* their object is the handle */
};

/* The first member of each handle of this room. */
struct object {
        struct region region;
        struct user user;
        void *words, *tail;
};

/* Make the object's region, all zeros but for its head: 0; -ENOMEM, -EMFILE, -ENFILE. */
int object_new(struct object *object, const struct object_kind *kind);

/* Attach to one that another process has made: 0; the errors of region_attach(). */
int object_attach(struct object *object, const struct object_kind *kind, int fd);

/* Give up what the process holds of it, and its view. */
void object_drop(struct object *object);

#endif
