/* SPDX-License-Identifier: MIT
 *
 * pool/insight.h: what a pool measures if it is asked to (options.timed, options.trace_tasks): how long tasks wait and run.
 *
 *     struct region_head | struct measures, and its records, for each worker's place
 *
 * This is a region of its own, which other pools do not have: they pay for one comparison with NULL at the beginning and at the
 * end of each task, and read no clock.  What belongs to a worker is the keeper's while no worker is there, as in pool/counts.h.
 */
#ifndef BROOD_POOL_INSIGHT_H
#define BROOD_POOL_INSIGHT_H

#include <brood/stats.h>

#include "os/atomic.h"
#include "shm/region.h"

struct task;

/* A brood_histogram in the making. */
struct histogram {
        atomic_u64 sum, max;
        atomic_u64 buckets[BROOD_HISTOGRAM_BUCKETS];
};

struct measures {
        _Alignas(64) struct histogram wait, run;
        uint64_t reserved[4];
};
static_assert(sizeof(struct measures) % 64 == 0, "whole cache lines");

/* A process's view of it. */
struct insight {
        struct region region; /* no head: nothing is measured */
        size_t stride;        /* from one worker's to the next */
        size_t committed;     /* bytes that have memory behind them; in the host, under the mutex */
};

/* Make it, with memory for the places that the pool is made with: 0, -ENOMEM, -EMFILE, -ENFILE. */
int insight_open(brood_pool *pool);
void insight_close(brood_pool *pool);

/* Memory for the places of more workers: 0 or -ENOMEM.  The host's mutex is held. */
int insight_grow(brood_pool *pool, uint32_t processes);

struct measures *insight_of(const brood_pool *pool, uint32_t number);

/* When a task was handed in, in ns. */
int64_t insight_queued(const brood_pool *pool, const struct task *task);

/* ---- a worker, of a pool that measures ---- */

/* It is ready, and waits for its first task; it has begun one; that one's function has returned, and it is about to be DONE. */
void insight_ready(const brood_pool *pool, uint32_t number);
void insight_begin(const brood_pool *pool, uint32_t number, const struct task *task);
void insight_end(const brood_pool *pool, uint32_t number);

/* ---- the keeper, of a pool that measures ---- */

/* A worker has been reaped. */
void insight_death(const brood_pool *pool, uint32_t number);

#endif
