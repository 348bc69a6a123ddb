/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/scene.h: what the fuzz target of the queue stands on: its queue, what it holds of it, and the checks of what the
 * library returns.
 */
#ifndef BROOD_TESTS_FUZZ_SCENE_H
#define BROOD_TESTS_FUZZ_SCENE_H

#include "damage.h"

#include <brood/queue.h>

enum {
        HELD_MAX = 12,   /* reservations, views and leases at once, of each kind */
        RANGES_MAX = 64, /* mappings of one memfd */
};

/* ---- the scene ---- */

struct held {
        bool there;   /* this entry holds something */
        bool done;    /* it was committed, released ... already; to do so again must be an error */
        bool crossed; /* it was given to the other handle at some time */
        int handle;
        union {
                brood_reservation reservation;
                brood_view view;
                brood_lease lease;
        };
};

struct scene {
        struct script script;
        brood_queue_options options;
        brood_queue *handles[2]; /* the maker's, or the first that attached; and one that attached to the same */
        int descriptors[BROOD_QUEUE_DESCRIPTORS]; /* our own duplicates */
        unsigned char *memory;                    /* our own mapping */
        size_t size;
        ino_t inode;
        bool made;    /* handles[0] is the maker's: it knows the options from its own memory */
        bool damaged; /* what the header calls damage is no error any more */
        bool closed;
        struct held reservations[HELD_MAX], views[HELD_MAX], leases[HELD_MAX];
        struct {
                uintptr_t start, end;
        } ranges[RANGES_MAX]; /* the library's mappings of the memory, as they were when last asked for */
        size_t range_count;
};

/* ---- what may be returned ---- */

/* An errno that only damage excuses. */
static inline int if_damaged(const struct scene *scene, int error)
{
        return scene->damaged ? error : 0;
}

/* Nobody frees a handle while it is in use here, so -ECANCELED is in none of these lists; and all arguments are right, so
 * -EINVAL is only where the header has it for what the shared memory says.  That damage is -EUCLEAN in every call, those that
 * list no such error included, is said at brood_queue_attach(). */
#define PUT_ERRORS(scene, timeout)                                                                                     \
        in_vain(timeout), EPIPE, ENOMEM, if_damaged(scene, EUSERS), if_damaged(scene, EUCLEAN)
#define TAKE_ERRORS(scene, timeout) in_vain(timeout), EPIPE, if_damaged(scene, EUSERS), if_damaged(scene, EUCLEAN)

/* ---- what may be pointed to ---- */

/* Ask the kernel where the library has mapped the memory; its answer is kept for check_place(). */
void read_ranges(struct scene *scene);

/* Fail unless all of it lies inside one of the library's mappings, aligned as the header says. */
void check_place(struct scene *scene, const char *call, const void *data, size_t size);

/* Read it, which is what a sanitizer or the kernel may object to. */
void read_bytes(const void *data, size_t size);

/* ---- damage ---- */

/* What may be damaged of a scene, which is damaged from now on. */
static inline struct ground ground_of(struct scene *scene)
{
        scene->damaged = true;
        return (struct ground){ &scene->script, scene->memory, scene->size, scene->descriptors[0],
                                scene->descriptors[1] };
}

/* One change of the shared memory, or of the event, drawn from the script. */
static inline void do_damage(struct scene *scene)
{
        struct ground ground = ground_of(scene);
        damage_ground(&ground);
}

#endif
