/* SPDX-License-Identifier: MIT
 *
 * pool/limits.h: what a worker does about the limits of the task that it runs: it sees to the memory, and has the keeper see to
 * the rest (pool/watch.c).
 */
#ifndef BROOD_POOL_LIMITS_H
#define BROOD_POOL_LIMITS_H

#include "pool/pool.h"

struct limits {
        bool memory;            /* is limited... */
        uint64_t memory_before; /* ...and was so before */
};

/* Around a task, which is RUNNING, and whose beginning is in the slot. */
void limits_set(struct limits *limits, brood_pool *pool, struct worker_slot *slot, const struct task_terms *terms);
void limits_lift(const struct limits *limits);

#endif
