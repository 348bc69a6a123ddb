/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/damage.h: the shared memory that a script damages, before the calls and while they run.
 */
#ifndef BROOD_TESTS_FUZZ_DAMAGE_H
#define BROOD_TESTS_FUZZ_DAMAGE_H

#include "script.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { RACE_WORDS = 6 };

/* The memory that a script damages, mapped by us. */
struct ground {
        struct script *script;
        unsigned char *memory;
        size_t size;
        int fd, event_fd; /* of the memory; of the eventfd that belongs to it, or -1 */
};

/* One change of the memory, or of the event, drawn from the script. */
void damage_ground(struct ground *ground);

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

bool race_start(struct race *race, struct ground *ground);
void race_stop(struct race *race);

#endif
