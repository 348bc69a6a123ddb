/* SPDX-License-Identifier: MIT
 *
 * pool/insight.h: what a pool measures if it is asked to (options.timed, options.trace_tasks): how long tasks wait and run, and
 * which ran when and where.
 *
 *     struct region_head | struct measures and its records, for each worker's place
 *
 * This is a region of its own, which other pools do not have: they pay for one comparison with NULL at the beginning and at the
 * end of each task, and read no clock.  What belongs to a worker is the keeper's while no worker is there, as in pool/counts.h.
 *
 * The records of a place are a circle: the latest are kept.  Each holds its number, plus one, which is taken away while it is being
 * written, so that whoever reads meanwhile finds 0, or another number than before.  A try that was recorded by a worker that
 * died before it had made its task DONE is recorded anew, in the same place and with a mark in the number, by the keeper.
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

/* A try of a task that was begun. */
struct record {
        _Alignas(64) atomic_u64 number;
        atomic_u64 ticket;
        atomic_u64 queued, started, ended; /* in ns */
        atomic_u64 function;
        atomic_u32 worker; /* the pid */
        atomic_u32 retried;
        atomic_u32 outcome;
        atomic_u32 error; /* a negative errno; or 0 */
};
static_assert(sizeof(struct record) == 64, "one cache line");

struct measures {
        _Alignas(64) struct histogram wait, run;
        atomic_u64 recorded; /* how many records have been written */
        uint64_t reserved[3];
};
static_assert(sizeof(struct measures) % 64 == 0, "whole cache lines");

/* A process's view of it. */
struct insight {
        struct region region; /* no head: nothing is measured */
        size_t stride;        /* from one worker's to the next */
        size_t records;       /* that each of them has */
        size_t committed;     /* bytes that have memory behind them; in the host, under the mutex */
};

/* Make it, with memory for the places that the pool is made with: 0, -EINVAL (options.trace_tasks), -ENOMEM, -EMFILE, -ENFILE. */
int insight_open(brood_pool *pool);

/* In a keeper that is no copy of the host: a view of it, by a descriptor: 0; the errors of region_attach(). */
int insight_attach(brood_pool *pool, int fd);

void insight_close(brood_pool *pool);

/* Memory for the places of more workers: 0 or -ENOMEM.  The host's mutex is held. */
int insight_grow(brood_pool *pool, uint32_t processes);

struct measures *insight_of(const brood_pool *pool, uint32_t number);

/* What a record says. */
struct try_record {
        uint64_t ticket, function;
        int64_t queued, started, ended;
        uint32_t worker, retried;
        int outcome, error;
};

/* Read the record `at`, counted from the first that was ever written: false if it is not there any more, or not there yet. */
bool insight_read(const brood_pool *pool, uint32_t number, uint64_t at, struct try_record *ret_record);

static inline struct record *measures_records(struct measures *measures)
{
        return (struct record *)(measures + 1);
}

/* When a task was handed in, in ns. */
int64_t insight_queued(const brood_pool *pool, const struct task *task);

/* ---- a worker, of a pool that measures ---- */

/* It is ready, and waits for its first task; it has begun one; that one's function has returned, and it is about to be DONE. */
void insight_ready(const brood_pool *pool, uint32_t number);
void insight_begin(const brood_pool *pool, uint32_t number, const struct task *task);
void insight_end(const brood_pool *pool, uint32_t number, const struct task *task, uint64_t ticket);

/* ---- the keeper, of a pool that measures ---- */

/* How a try ended. */
struct try_end {
        uint64_t ticket;
        uint32_t worker; /* the pid */
        int outcome;
        int error;
};

/* A worker has been reaped whose task is RUNNING; and any, after that. */
void insight_record_death(const brood_pool *pool, uint32_t number, const struct task *task, const struct try_end *end);
void insight_death(const brood_pool *pool, uint32_t number);

#endif
