/* SPDX-License-Identifier: MIT
 *
 * pool/counts.h: what a pool counts, in shared memory, for brood/stats.h.
 *
 * Each counter has one writer, which stores what it has computed: no counter needs an atomic addition, and none shares its cache
 * line with another writer's.  A worker's counters belong to the keeper while no worker is there.
 *
 *   shared word             written by                              read by
 *   counts.submitted, most  the host                                whoever holds the pool
 *   counts.retried,         the keeper                              the same
 *     canceled, deaths
 *   worker.about, ended     its worker; the keeper after its death  the same; the keeper
 *   worker.since, busy,     the same                                the same
 *     idle
 *
 * A worker counts a task before it makes it DONE, so that whoever sees a result finds it counted.  It may be killed in between.
 * So it says first what it is about to count, and to which number: then the keeper, which knows whether the task is DONE, makes the
 * number right, whatever the worker had come to.
 *
 *     about = 0                               before worker.task is stored
 *     ...                                     the task runs
 *     about = (outcome, number)
 *     ended[outcome] = number
 *     task -> DONE (exchange)
 *
 * Killed before the exchange: not counted by the worker (number - 1), for the keeper reports the task.  After it: number.
 */
#ifndef BROOD_POOL_COUNTS_H
#define BROOD_POOL_COUNTS_H

#include "os/atomic.h"

#include <stddef.h>

enum { COUNTS_OUTCOMES = 12 };

struct pool_counts {
        _Alignas(64) atomic_u64 submitted;
        atomic_u32 most; /* how many workers' places have memory behind them */
        uint32_t reserved[13];

        _Alignas(64) atomic_u64 retried;
        atomic_u64 canceled; /* tasks that were to be tried again */
        atomic_u64 deaths;
        uint64_t reserved2[5];
};
static_assert(sizeof(struct pool_counts) == 128 && offsetof(struct pool_counts, retried) == 64,
              "a line for each writer");

struct worker_counts {
        _Alignas(64) atomic_u64 about;
        atomic_u64 ended[COUNTS_OUTCOMES]; /* by outcome */
        atomic_u64
            since; /* when it began to wait or, with the lowest bit set, to run; 0: neither, or about to change; in ns */
        atomic_u64 busy, idle; /* ns until then */
};
static_assert(sizeof(struct worker_counts) == 128, "two cache lines");

/* The next two are the worker's. */
static inline void counts_prepare(struct worker_counts *counts)
{
        store_relaxed(&counts->about, 0);
}

static inline void counts_end(struct worker_counts *counts, uint32_t outcome)
{
        outcome = outcome < COUNTS_OUTCOMES ? outcome : 0; /* a task that has run wild */
        uint64_t number = load_relaxed(&counts->ended[outcome]) + 1;

        store_relaxed(&counts->about, (uint64_t)outcome << 56 | number);
        store_release(&counts->ended[outcome], number); /* after `about`, for whoever looks after our death */
}

/* What was said of the task that the worker took last: it did not end so; or it did, if `done`. */
static inline void counts_settle(struct worker_counts *counts, bool done)
{
        uint64_t about = load_relaxed(&counts->about), number = about << 8 >> 8;

        if (number > 0 && about >> 56 < COUNTS_OUTCOMES)
                store_relaxed(&counts->ended[about >> 56], done ? number : number - 1);
        store_relaxed(&counts->about, 0);
}

/* Of a counter with one writer, which calls this. */
static inline void counts_add(atomic_u64 *counter, uint64_t more)
{
        store_relaxed(counter, load_relaxed(counter) + more);
}

#endif
