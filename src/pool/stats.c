/* SPDX-License-Identifier: MIT
 *
 * pool/stats.c: what was counted and measured, read by any process that holds the pool.
 *
 * All of it lies in shared memory; nothing of the host's own memory is looked at that changes once the pool is made, and no
 * mutex is taken, for in a forked child it may be held by a thread that is not there.
 */
#include <brood/stats.h>

#include "os/clock.h"
#include "os/robust.h"
#include "pool/pool.h"

#include <errno.h>
#include <string.h>

static_assert((int)BROOD_STATISTICS_OUTCOMES == (int)COUNTS_OUTCOMES, "the same outcomes");

uint32_t pool_places(const brood_pool *pool)
{
        uint32_t most = load_acquire(&pool->shared->counts.most);

        return most < BROOD_POOL_PROCESSES_LIMIT ? most : BROOD_POOL_PROCESSES_LIMIT;
}

static bool keeper_lives(const brood_pool *pool)
{
        return robust_alive(load_seq_cst(&pool->shared->life));
}

const struct task *pool_running(const brood_pool *pool, uint32_t number)
{
        const struct worker_slot *slot = &pool->workers[number];
        uint64_t ticket = load_acquire(&slot->task);

        if (!keeper_lives(pool) || ticket == 0 || load_relaxed(&slot->counts.about) != 0)
                return NULL;
        const struct task *task = ticket_task(pool, ticket);
        uint64_t state = load_acquire(&task->state);
        return task_generation(state) == ticket_generation(ticket) && task_kind(state) == TASK_RUNNING &&
                       task_worker(state) == number
                   ? task
                   : NULL;
}

struct times {
        uint64_t busy, idle, since;
};

/* Those of one moment; but if a worker that was killed in the middle of a change has left them so for good, or is at it without
 * end, those of several. */
static struct times read_times(const struct worker_counts *counts)
{
        enum { TRIES = 100 };
        struct times times;
        uint64_t since;

        for (int i = 0; i < TRIES; i++) {
                times.since = load_acquire(&counts->since);
                times.busy = load_relaxed(&counts->busy);
                times.idle = load_relaxed(&counts->idle);
                atomic_thread_fence(memory_order_acquire); /* pairs with the fence in turn() */
                since = load_relaxed(&counts->since);
                if (times.since != 0 && since == times.since)
                        break;
        }
        return times;
}

/* The same with what lasts now. */
static struct times times_until_now(const brood_pool *pool, uint32_t number)
{
        struct times times = read_times(&pool->workers[number].counts);
        uint64_t now = (uint64_t)clock_now(), passed = times.since != 0 && now > times.since ? now - times.since : 0;

        if (keeper_lives(pool))
                *(times.since & 1 ? &times.busy : &times.idle) += passed;
        return times;
}

static uint64_t restarts_of(const struct worker_slot *slot)
{
        uint32_t starts = load_relaxed(&slot->starts);

        return starts > 0 ? starts - 1 : 0;
}

static void add_place(brood_pool_statistics *sum, const brood_pool *pool, uint32_t number, bool lives)
{
        const struct worker_slot *slot = &pool->workers[number];

        for (int i = 0; i < COUNTS_OUTCOMES; i++)
                sum->outcomes[i] += load_acquire(&slot->counts.ended[i]);
        sum->restarts += restarts_of(slot);
        sum->workers += lives && load_relaxed(&slot->pid) != 0;
        sum->running += pool_running(pool, number) != NULL;
        if (insight_on(pool)) {
                struct times times = times_until_now(pool, number);
                sum->busy_ns += times.busy;
                sum->idle_ns += times.idle;
        }
}

int brood_pool_stats_sized(const brood_pool *pool, brood_pool_statistics *ret_statistics, size_t size)
{
        brood_pool_statistics sum = { .submitted = 0 };

        if (pool == NULL || ret_statistics == NULL)
                return -EINVAL;
        if (size > sizeof sum)
                return -E2BIG;
        const struct pool_counts *counts = &pool->shared->counts;
        bool lives = keeper_lives(pool);
        for (uint32_t i = 0, count = pool_places(pool); i < count; i++)
                add_place(&sum, pool, i, lives);
        sum.outcomes[BROOD_OUTCOME_CANCELED] += load_acquire(&counts->canceled);
        for (int i = 0; i < COUNTS_OUTCOMES; i++)
                sum.ended += sum.outcomes[i];
        sum.retried = load_relaxed(&counts->retried);
        sum.deaths = load_relaxed(&counts->deaths);
        /* Last, so that it is the largest; but a task is counted a moment after it was handed in. */
        sum.submitted = load_relaxed(&counts->submitted);
        if (sum.submitted < sum.ended + sum.running)
                sum.submitted = sum.ended + sum.running;
        sum.waiting = sum.submitted - sum.ended - sum.running;
        memcpy(ret_statistics, &sum, size);
        return 0;
}

/* How long a task has been running. */
static uint64_t task_time(const brood_pool *pool, uint32_t number, const struct task *task)
{
        const struct worker_slot *slot = &pool->workers[number];
        uint64_t now = (uint64_t)clock_now(), started = 0;

        if (insight_on(pool)) {
                uint64_t since = load_acquire(&slot->counts.since);
                started = since & 1 ? since : now;
        } else if (load_relaxed(&task->terms) != 0) {
                started = load_relaxed(&slot->started);
        }
        return started != 0 && now > started ? now - started : 0;
}

int brood_pool_worker_stats_sized(const brood_pool *pool, int number, brood_worker_statistics *ret_statistics,
                                  size_t size)
{
        brood_worker_statistics worker = { .pid = 0 };

        if (pool == NULL || ret_statistics == NULL)
                return -EINVAL;
        if (size > sizeof worker)
                return -E2BIG;
        if (number < 0 || (uint32_t)number >= pool_places(pool))
                return -ESRCH;
        const struct worker_slot *slot = &pool->workers[number];
        if (keeper_lives(pool)) {
                const struct task *task = pool_running(pool, (uint32_t)number);
                worker.pid = (pid_t)load_acquire(&slot->pid);
                worker.running = task != NULL;
                worker.task_ns = task != NULL ? task_time(pool, (uint32_t)number, task) : 0;
        }
        for (int i = 0; i < COUNTS_OUTCOMES; i++)
                worker.tasks += load_acquire(&slot->counts.ended[i]);
        worker.failed = worker.tasks - load_relaxed(&slot->counts.ended[BROOD_OUTCOME_OK]);
        worker.restarts = restarts_of(slot);
        if (insight_on(pool)) {
                struct times times = times_until_now(pool, (uint32_t)number);
                worker.busy_ns = times.busy;
                worker.idle_ns = times.idle;
        }
        memcpy(ret_statistics, &worker, size);
        return 0;
}

static void merge(brood_histogram *sum, const struct histogram *histogram)
{
        uint64_t max = load_relaxed(&histogram->max);

        for (size_t i = 0; i < BROOD_HISTOGRAM_BUCKETS; i++) {
                uint64_t count = load_relaxed(&histogram->buckets[i]);
                sum->buckets[i] += count;
                sum->count += count;
        }
        sum->sum_ns += load_relaxed(&histogram->sum);
        sum->max_ns = max > sum->max_ns ? max : sum->max_ns;
}

int brood_pool_latency(const brood_pool *pool, brood_latency which, brood_histogram *ret_histogram)
{
        if (pool == NULL || ret_histogram == NULL || (which != BROOD_LATENCY_WAIT && which != BROOD_LATENCY_RUN))
                return -EINVAL;
        if (!insight_on(pool))
                return -ENODATA;
        memset(ret_histogram, 0, sizeof *ret_histogram);
        for (uint32_t i = 0, count = pool_places(pool); i < count; i++) {
                const struct measures *measures = insight_of(pool, i);
                merge(ret_histogram, which == BROOD_LATENCY_WAIT ? &measures->wait : &measures->run);
        }
        return 0;
}
