/* SPDX-License-Identifier: MIT
 *
 * shm/owners.h: who is alive in a region.
 *
 * A process that changes shared words in steps stamps them with its owner number, so that whoever finds a step half done can ask
 * whether the one that began it lives.  The table maps owner numbers to processes: a pid and its start time, for pids are used
 * again.  An owner number carries a generation, for entries are used again too: a number that was once proved dead is dead for ever
 * (until its generation of 14 bits comes round, with the same entry: 16,384 processes later, while the one who holds the proof
 * has not moved).
 *
 *   entry    one word: pid (22 bits) | generation (14) | start time (28); pid 0: free
 *   free -> taken by CAS by the process itself; taken -> free by CAS, by the process itself, or by anyone on proof of its
 *   death and after every word that carries its number has been repaired.
 *
 * Every change is one CAS that says all, so there is no moment of death in between.
 */
#ifndef BROOD_SHM_OWNERS_H
#define BROOD_SHM_OWNERS_H

#include "os/atomic.h"
#include "os/identity.h"

#include <sys/types.h>

enum {
        OWNERS_INDEX_BITS = 10,
        OWNERS_GENERATION_BITS = 14,
        OWNER_BITS = OWNERS_INDEX_BITS + OWNERS_GENERATION_BITS,
        OWNERS_COUNT = 1 << OWNERS_INDEX_BITS,
};

#define OWNER_NONE UINT32_C(0) /* entry 0 is never given away */

struct owners {
        atomic_u64 entries[OWNERS_COUNT];
};

/* Register the calling process, as who it is: its owner number, or OWNER_NONE if the table is full. */
uint32_t owners_register(struct owners *owners, struct identity self);

/* Give an owner number up: our own, or one that is proved dead and repaired. */
void owners_release(struct owners *owners, uint32_t owner);

/* Whether the table holds an owner number: nobody has given it up, and nobody else has its entry. */
bool owners_holds(struct owners *owners, uint32_t owner);

/* Whether the process behind an owner number lives.  A number that the table does not hold (any more) is dead.  False is a proof
 * of death, and stays true. */
bool owners_alive(struct owners *owners, uint32_t owner);

/* Who stands behind a number of the table that is proved dead: its pid, or 0 if the table does not say any more, and how it ended,
 * as an exit code, or -N for signal N; BROOD_EXITCODE_UNKNOWN. */
pid_t owners_death(struct owners *owners, uint32_t owner, int *ret_exitcode);

/* The next registered owner number after table index `*at` (start with 0), OWNER_NONE at the end. */
uint32_t owners_next(struct owners *owners, uint32_t *at);

/* The owner number of a process by its pid, after table index `*at`; OWNER_NONE if there is none. */
uint32_t owners_find(struct owners *owners, pid_t pid, uint32_t *at);

#endif
