/* SPDX-License-Identifier: MIT
 *
 * pool/insight.c: see insight.h.
 */
#include "pool/insight.h"
#include "os/clock.h"
#include "pool/chunk.h"
#include "pool/pool.h"

#include <errno.h>

/* ---- the region ---- */

static size_t first_offset(void)
{
        return round_up(sizeof(struct region_head), alignof(struct measures));
}

/* Whether there is to be one, and of what size. */
static bool plan_insight(struct insight *insight, const brood_pool_options *options)
{
        insight->records = options->trace_tasks;
        insight->stride = sizeof(struct measures) + insight->records * sizeof(struct record);
        return options->timed || options->trace_tasks > 0;
}

int insight_open(brood_pool *pool)
{
        struct insight *insight = &pool->insight;

        if (pool->options.trace_tasks > BROOD_POOL_TRACE_LIMIT)
                return -EINVAL;
        if (!plan_insight(insight, &pool->options))
                return 0;
        insight->committed = (size_t)pool->options.processes * insight->stride;
        return region_new(&insight->region, "brood-insight", REGION_INSIGHT, layout_fold(LAYOUT_START, insight->stride),
                          first_offset() + BROOD_POOL_PROCESSES_LIMIT * insight->stride,
                          first_offset() + insight->committed);
}

int insight_attach(brood_pool *pool, int fd)
{
        struct insight *insight = &pool->insight;

        plan_insight(insight, &pool->options);
        int r = region_attach(&insight->region, fd, REGION_INSIGHT);
        if (r == 0 && region_check(&insight->region, REGION_INSIGHT, layout_fold(LAYOUT_START, insight->stride)) < 0) {
                region_drop(&insight->region);
                r = -EUCLEAN;
        }
        return r;
}

void insight_close(brood_pool *pool)
{
        region_drop(&pool->insight.region);
}

int insight_grow(brood_pool *pool, uint32_t processes)
{
        if (!insight_on(pool))
                return 0;
        struct insight *insight = &pool->insight;
        struct region *region = &insight->region;
        size_t need = processes * insight->stride;

        if (need <= insight->committed)
                return 0;
        int r = region_commit(region, first_offset() + insight->committed, need - insight->committed);
        if (r == 0)
                insight->committed = need;
        return r;
}

struct measures *insight_of(const brood_pool *pool, uint32_t number)
{
        return region_at(&pool->insight.region, first_offset() + number * pool->insight.stride);
}

int64_t insight_queued(const brood_pool *pool, const struct task *task)
{
        const struct task_terms *terms = pool_terms(pool, task);

        return terms != NULL ? terms->queued : task->queued;
}

/* ---- busy and idle ---- */

/* What lasted until now is added to what it was; and now is the beginning of the next, or of nothing (0).  Whoever reads meanwhile
 * finds `since` 0, or another one than before.  Returns how long it lasted. */
static int64_t turn(struct worker_counts *counts, uint64_t now, uint64_t next)
{
        uint64_t since = load_relaxed(&counts->since), moment = since & ~UINT64_C(1);
        uint64_t passed = moment != 0 && now > moment ? now - moment : 0;

        store_relaxed(&counts->since, 0);
        atomic_thread_fence(memory_order_release); /* pairs with the fence in read_times() */
        counts_add(since & 1 ? &counts->busy : &counts->idle, passed);
        store_release(&counts->since, next);
        return (int64_t)passed;
}

static uint64_t now_in_ns(void)
{
        return (uint64_t)clock_now() & ~UINT64_C(1);
}

/* ---- histograms ---- */

enum { STEPS = 8, STEPS_LOG2 = 3 }; /* a power of two */
static_assert(BROOD_HISTOGRAM_BUCKETS % STEPS == 0, "whole powers of two");

static size_t bucket_of(uint64_t ns)
{
        if (ns < STEPS)
                return ns;
        unsigned log2 = 63 - (unsigned)__builtin_clzll(ns);
        size_t bucket = (log2 - STEPS_LOG2 + 1) * STEPS + ((ns >> (log2 - STEPS_LOG2)) & (STEPS - 1));

        return bucket < BROOD_HISTOGRAM_BUCKETS ? bucket : BROOD_HISTOGRAM_BUCKETS - 1;
}

int64_t brood_histogram_bound(size_t bucket)
{
        if (bucket >= BROOD_HISTOGRAM_BUCKETS)
                return -1;
        if (bucket == BROOD_HISTOGRAM_BUCKETS - 1)
                return INT64_MAX;
        if (bucket < STEPS)
                return (int64_t)bucket;
        return (int64_t)(((STEPS + bucket % STEPS + 1) << (bucket / STEPS - 1)) - 1);
}

static void histogram_add(struct histogram *histogram, int64_t ns)
{
        uint64_t time = ns > 0 ? (uint64_t)ns : 0;

        counts_add(&histogram->buckets[bucket_of(time)], 1);
        counts_add(&histogram->sum, time);
        if (time > load_relaxed(&histogram->max))
                store_relaxed(&histogram->max, time);
}

int64_t brood_histogram_percentile(const brood_histogram *histogram, double percent)
{
        if (histogram == NULL || histogram->count == 0)
                return 0;
        double wanted = (percent > 0 ? percent < 100 ? percent : 100 : 0) * (double)histogram->count / 100;
        int64_t longest = (int64_t)histogram->max_ns;
        uint64_t count = 0;

        for (size_t i = 0; i < BROOD_HISTOGRAM_BUCKETS; i++) {
                count += histogram->buckets[i];
                if (count > 0 && (double)count >= wanted)
                        return brood_histogram_bound(i) < longest ? brood_histogram_bound(i) : longest;
        }
        return longest;
}

/* ---- a worker's steps ---- */

void insight_ready(const brood_pool *pool, uint32_t number)
{
        uint64_t now = now_in_ns();

        turn(&pool->workers[number].counts, now, now);
}

void insight_begin(const brood_pool *pool, uint32_t number, const struct task *task)
{
        uint64_t now = now_in_ns();

        turn(&pool->workers[number].counts, now, now | 1);
        if (task->retried == 0)
                histogram_add(&insight_of(pool, number)->wait, (int64_t)now - insight_queued(pool, task));
}

/* ---- records ---- */

#define REVISED (UINT64_C(1) << 63) /* in the number of a record: it was written anew, so that it is not what it was */

/* Write the record `at`, with this number, of a try that began then and ends now. */
static void write_record(const brood_pool *pool, struct measures *measures, uint64_t at, uint64_t number,
                         const struct task *task, uint64_t started, uint64_t now, const struct try_end *end)
{
        struct record *record = &measures_records(measures)[at % pool->insight.records];

        store_relaxed(&record->number, 0);
        atomic_thread_fence(memory_order_release); /* pairs with the fence in insight_read() */
        store_relaxed(&record->ticket, end->ticket);
        store_relaxed(&record->queued, (uint64_t)insight_queued(pool, task));
        store_relaxed(&record->started, started);
        store_relaxed(&record->ended, now);
        store_relaxed(&record->function, chunk_function(pool, task));
        store_relaxed(&record->worker, end->worker);
        store_relaxed(&record->retried, task->retried);
        store_relaxed(&record->outcome, (uint32_t)end->outcome);
        store_relaxed(&record->error, (uint32_t)end->error);
        store_release(&record->number, number);
        store_release(&measures->recorded, at + 1);
}

void insight_end(const brood_pool *pool, uint32_t number, const struct task *task, uint64_t ticket)
{
        struct measures *measures = insight_of(pool, number);
        uint64_t now = now_in_ns();
        int64_t took = turn(&pool->workers[number].counts, now, now);

        histogram_add(&measures->run, took);
        if (pool->insight.records == 0)
                return;
        uint64_t at = load_relaxed(&measures->recorded);
        write_record(pool, measures, at, at + 1, task, now - (uint64_t)took, now,
                     &(struct try_end){ .ticket = ticket,
                                        .worker = task->worker,
                                        .outcome = task->outcome,
                                        .error = task->value < 0 ? (int)task->value : 0 });
}

bool insight_read(const brood_pool *pool, uint32_t number, uint64_t at, struct try_record *ret_record)
{
        struct record *record = &measures_records(insight_of(pool, number))[at % pool->insight.records];
        uint64_t found = load_acquire(&record->number);

        if ((found & ~REVISED) != at + 1)
                return false;
        *ret_record = (struct try_record){
                .ticket = load_relaxed(&record->ticket),
                .function = load_relaxed(&record->function),
                .queued = (int64_t)load_relaxed(&record->queued),
                .started = (int64_t)load_relaxed(&record->started),
                .ended = (int64_t)load_relaxed(&record->ended),
                .worker = load_relaxed(&record->worker),
                .retried = load_relaxed(&record->retried),
                .outcome = (int)load_relaxed(&record->outcome),
                .error = (int)load_relaxed(&record->error),
        };
        atomic_thread_fence(memory_order_acquire); /* pairs with the fence in write_record() */
        return load_relaxed(&record->number) == found;
}

void insight_record_death(const brood_pool *pool, uint32_t number, const struct task *task, const struct try_end *end)
{
        struct measures *measures = insight_of(pool, number);
        uint64_t now = now_in_ns(), since = load_relaxed(&pool->workers[number].counts.since);
        uint64_t started = since & 1 && since < now ? since & ~UINT64_C(1) : now;
        struct try_record last;

        if (pool->insight.records == 0)
                return;
        uint64_t at = load_relaxed(&measures->recorded);
        if (at > 0 && insight_read(pool, number, at - 1, &last) && last.ticket == end->ticket &&
            last.retried == task->retried && last.worker == end->worker)
                write_record(pool, measures, at - 1, at | REVISED, task, (uint64_t)last.started, now, end);
        else
                write_record(pool, measures, at, at + 1, task, started, now, end);
}

void insight_death(const brood_pool *pool, uint32_t number)
{
        turn(&pool->workers[number].counts, now_in_ns(), 0);
}
