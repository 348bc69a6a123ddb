/* SPDX-License-Identifier: MIT
 *
 * brood/stats.h: what a pool is doing, in numbers.
 *
 *     brood_pool_statistics s;
 *     brood_pool_stats(pool, &s);
 *     printf("%" PRIu64 " of %" PRIu64 " done, %" PRIu64 " waiting, %" PRIu64 " workers died\n",
 *            s.ended, s.submitted, s.waiting, s.deaths);
 *
 *     brood_histogram run;
 *     brood_pool_latency(pool, BROOD_LATENCY_RUN, &run);      // of a pool that was made with options.timed
 *     printf("99 %% of the tasks took at most %" PRId64 " us\n", brood_histogram_percentile(&run, 99) / 1000);
 *
 * The numbers lie in the pool's shared memory.  Who counts, counts in a place of its own, and reading takes no lock and stops
 * nobody.  So they can be read at any time, also while the pool is busy, and after it has ended or broken, until the handle is
 * freed.
 *
 * Threads: any.  Fork: unlike the pool's other calls, all of these work in a forked child that has inherited the handle, for as
 * long as that child has not freed it.  Signals: all are async-signal-safe.
 * Death: a task is counted once, by its worker, or by the keeper if the worker dies; whoever has seen its result finds it
 * counted.  After the keeper's death the numbers stay as they are.  A task that has run wild may have written over the numbers.
 */
#ifndef BROOD_STATS_H
#define BROOD_STATS_H

#include <brood/common.h>
#include <brood/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room for the numbers of each brood_outcome, and of some to come. */
#define BROOD_STATISTICS_OUTCOMES 12

typedef struct brood_pool_statistics {
        uint64_t submitted; /* tasks handed in; a chunk of a map is one */
        uint64_t ended;     /* tasks that ended, whatever came of them */
        uint64_t
            outcomes[BROOD_STATISTICS_OUTCOMES]; /* the same by brood_outcome: outcomes[BROOD_OUTCOME_OK] ended well */
        uint64_t retried;                        /* tries that came after the first */
        uint64_t waiting;                        /* tasks that wait for a worker, or to be tried again */
        uint64_t running;                        /* tasks that are running now */
        uint64_t workers;                        /* that are alive */
        uint64_t restarts;                       /* workers that took the place of one that had ended */
        uint64_t deaths;                         /* workers that did not end by themselves */
        uint64_t busy_ns;                        /* time in tasks, of all workers ever; 0 unless options.timed */
        uint64_t idle_ns;                        /* time in which they waited for tasks; the same */
} brood_pool_statistics;

/* Read the numbers of a pool.
 * They are a snapshot, not taken in one moment: while the pool is at work a task may be in two of them, or in none.  Afterwards
 * they are exact: ended is the sum of outcomes.  A task that was canceled while it waited counts as ended when a worker comes upon
 * it, and one that was canceled while it was running counts as what it ended as, if it was faster than its end.  What the
 * pool's end has overtaken has not ended: it stays in waiting.
 * Costs time in proportion to the number of workers.
 * Returns 0; -EINVAL (NULL); -E2BIG (a newer brood's struct). */
BROOD_API int brood_pool_stats_sized(const brood_pool *pool, brood_pool_statistics *ret_statistics, size_t size);

static inline int brood_pool_stats(const brood_pool *pool, brood_pool_statistics *ret_statistics)
{
        return brood_pool_stats_sized(pool, ret_statistics, sizeof(brood_pool_statistics));
}

/* Of one worker's place: of the worker that is there now and of those that were there before it. */
typedef struct brood_worker_statistics {
        pid_t pid;         /* of the one that is there now; 0: none */
        bool running;      /* it runs a task */
        uint64_t tasks;    /* that ended here, also by the worker's death */
        uint64_t failed;   /* of these, those without a result */
        uint64_t restarts; /* workers that took the place of one that had ended */
        uint64_t busy_ns;  /* time in tasks; 0 unless options.timed, like the next ones */
        uint64_t idle_ns;  /* time in which it waited for tasks */
        uint64_t task_ns;  /* how long the task has been running that it runs now; known, too, for one with terms */
} brood_worker_statistics;

/* Read the numbers of the worker `number` (see brood_worker_id()).
 * Returns 0; -EINVAL (NULL); -ESRCH (the pool has never had as many workers); -E2BIG (a newer brood's struct). */
BROOD_API int brood_pool_worker_stats_sized(const brood_pool *pool, int number, brood_worker_statistics *ret_statistics,
                                            size_t size);

static inline int brood_pool_worker_stats(const brood_pool *pool, int number, brood_worker_statistics *ret_statistics)
{
        return brood_pool_worker_stats_sized(pool, number, ret_statistics, sizeof(brood_worker_statistics));
}

/* ---- how long it takes ---- */

/* Eight buckets for each power of two, so that a bucket is at most an eighth wide, up to 73 minutes; what is longer is in the
 * last.  This number stays as it is. */
#define BROOD_HISTOGRAM_BUCKETS 320

/* Times in nanoseconds, by size. */
typedef struct brood_histogram {
        uint64_t count;  /* of times */
        uint64_t sum_ns; /* of all of them */
        uint64_t max_ns; /* the longest */
        uint64_t buckets[BROOD_HISTOGRAM_BUCKETS];
} brood_histogram;

typedef enum brood_latency {
        BROOD_LATENCY_WAIT =
            0,             /* from when a task was handed in until it was begun; no time for one that is tried again */
        BROOD_LATENCY_RUN, /* from there until its function returned; no time for one whose worker died */
} brood_latency;

/* The times of a pool that was made with options.timed, or with options.trace_tasks: those of all workers ever, merged.
 * Returns 0; -ENODATA (the pool does not measure times); -EINVAL (NULL, or no latency of these). */
BROOD_API int brood_pool_latency(const brood_pool *pool, brood_latency which, brood_histogram *ret_histogram);

/* A time that `percent` of 100 do not exceed, in nanoseconds: the upper bound of the bucket in which that one lies, or the longest
 * time if that is below it.  percent 50 is the median.  0 for NULL, or an empty histogram; what is below 0 counts as 0, and what
 * is above 100 as 100. */
BROOD_API int64_t brood_histogram_percentile(const brood_histogram *histogram, double percent);

/* The longest time, in nanoseconds, that is counted in a bucket; the buckets before it hold the shorter ones.  INT64_MAX for the
 * last; -1 for a number that no bucket has. */
BROOD_API int64_t brood_histogram_bound(size_t bucket);

#ifdef __cplusplus
}
#endif

#endif
