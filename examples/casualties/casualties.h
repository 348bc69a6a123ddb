/* SPDX-License-Identifier: MIT
 *
 * casualties.h: what the three parts of the example casualties tell one another.
 *
 *     casualties.c   the options, the walk, and the run: what goes into the pool, and what comes out
 *     decode.c       the task, in the workers: one file through libpng, which may do anything
 *     report.c       the books, and what is printed of them
 */
#ifndef CASUALTIES_H
#define CASUALTIES_H

#include <brood/brood.h>

/* ---- decode.c ---- */

/* What is made to happen to a decoder on purpose (--sabotage), in this order. */
enum sabotage {
        SABOTAGE_NONE,
        SABOTAGE_CRASH, /* it writes where it must not */
        SABOTAGE_EXIT,  /* it calls exit(3), as if the program were its own */
        SABOTAGE_HANG,  /* it waits for what never comes, and does not hear that its time is up */
        SABOTAGE_SPIN,  /* it computes for ever */
        SABOTAGE_HOG,   /* it takes all the memory that it gets */
        SABOTAGE_SLOW,  /* it is too slow, but hears that its time is up */
        SABOTAGE_FLAKY, /* it crashes, but only the first time */
        SABOTAGES
};

/* A task's bytes: this, and behind it the path with its NUL. */
struct job {
        uint32_t number; /* of the file */
        uint32_t sabotage;
        char path[];
};

/* A task's result. */
struct image {
        uint64_t bytes; /* of the file */
        uint32_t width, height;
};

/* The pool's initializer.  `arg` is a brood_array of uint32_t, one for each file: how often a decoder was sabotaged on it. */
int decode_begin(void *arg);

/* The task. */
ssize_t decode_task(const void *arg, size_t size, void *out, size_t room);

const char *sabotage_name(enum sabotage sabotage);

/* ---- report.c ---- */

/* A file that was not decoded. */
struct ending {
        const char *path;
        brood_result_report report;
};

struct books {
        size_t files;           /* that are to be decoded */
        size_t decoded;         /* that were */
        size_t later;           /* of these, at a later try than the first */
        size_t failed;          /* the decoder said no */
        size_t casualties;      /* the decoder did not live to say anything, or was stopped */
        uint64_t bytes, pixels; /* of those that were decoded */
        struct ending *endings; /* of those that were not: failed + casualties of them */
        size_t endings_room;
};

/* Enter the end of one task, and free its result.  Returns 0, or an error that is none of the task's. */
int books_enter(struct books *books, const char *path, brood_result *result);

void books_print(struct books *books, double seconds, int processes);
void books_free(struct books *books);

#endif
