/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/scene.h: what the fuzz target of the queue stands on: the script that an input is, the memory that it damages, and
 * the checks of what the library returns.
 */
#ifndef BROOD_TESTS_FUZZ_SCENE_H
#define BROOD_TESTS_FUZZ_SCENE_H

#include <brood/queue.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
        HELD_MAX = 12,   /* reservations, views and leases at once, of each kind */
        RANGES_MAX = 64, /* mappings of one memfd */
        RACE_WORDS = 6,
};

#define array_length(a) (sizeof(a) / sizeof((a)[0]))

/* Say what was wrong, and abort. */
_Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

#define must(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                                     \
        } while (0)

/* ---- the script ---- */

struct script {
        const uint8_t *at, *end;
};

/* At its end a script reads as zeros. */
static inline uint8_t take_byte(struct script *script)
{
        return script->at < script->end ? *script->at++ : 0;
}

static inline uint64_t take_number(struct script *script, int bytes)
{
        uint64_t number = 0;
        for (int i = 0; i < bytes; i++)
                number |= (uint64_t)take_byte(script) << (8 * i);
        return number;
}

static inline size_t take_below(struct script *script, size_t bound)
{
        int bytes = bound <= 256 ? 1 : bound <= 65536 ? 2 : 5;
        return bound > 1 ? take_number(script, bytes) % bound : 0;
}

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

/* A call that may not wait says so; one that has waited, too. */
static inline int in_vain(int timeout_ms)
{
        return timeout_ms == 0 ? EAGAIN : ETIMEDOUT;
}

/* Fail unless `result` is a success, or minus one of `errors` (0 stands for none). */
void check_result(const char *call, ssize_t result, const int *errors, size_t count);

#define expect(call, result, ...)                                                                                      \
        check_result(call, result, (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

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

/* One change of the shared memory, or of the event, drawn from the script. */
void do_damage(struct scene *scene);

/* Somebody who changes a few words for as long as the calls run. */
struct race {
        pthread_t thread;
        atomic_bool stop;
        size_t count;
        struct {
                _Atomic uint64_t *word;
                uint64_t values[3]; /* what it was, and two that it was not */
        } words[RACE_WORDS];
};

bool race_start(struct race *race, struct scene *scene);
void race_stop(struct race *race);

#endif
