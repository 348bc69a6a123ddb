/* SPDX-License-Identifier: MIT
 *
 * insight.c: what it costs to look into a pool of two workers: batches of tasks in one that is looked into, and in one that is
 * not, in turn; the median of how much longer the one takes than the other before it.
 *
 *     timed         no-op tasks, options.timed
 *     traced        no-op tasks, options.trace_tasks
 *     traced-20us   tasks of some 20 us of computing, options.trace_tasks
 *
 * The books: each task's result is checked, and each pool's counters.
 */
#include "bench.h"

#include <brood/pool.h>
#include <brood/stats.h>

enum { WORKERS = 2, BATCH = 1000, TRACE = 100000 };

#define BATCH_SHORT_BY 10 /* of tasks that compute */
#define SPIN_STEPS 16000  /* about 20 us */

static ssize_t next_number(const void *arg, size_t size, void *out, size_t room)
{
        uint64_t value;

        if (size != sizeof value || room < sizeof value)
                return -EINVAL;
        memcpy(&value, arg, sizeof value);
        value++;
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

/* A chain of dependent multiplications that leaves the number as it was, plus one. */
static ssize_t compute(const void *arg, size_t size, void *out, size_t room)
{
        volatile uint64_t sink;
        uint64_t value = 1;

        for (uint32_t i = 0; i < SPIN_STEPS; i++)
                value = value * 6364136223846793005u + 1442695040888963407u;
        sink = value;
        (void)sink;
        return next_number(arg, size, out, room);
}

static void check(const char *what, ssize_t r)
{
        if (r < 0)
                bench_die("%s: %s", what, brood_strerror((int)r));
}

static brood_pool *pool_start(bool timed, size_t trace)
{
        brood_pool *pool;

        check("brood_pool_new", brood_pool_new(&pool, &(brood_pool_options){ .processes = WORKERS,
                                                                             .result_size = sizeof(uint64_t),
                                                                             .timed = timed,
                                                                             .trace_tasks = trace }));
        return pool;
}

static void pool_stop(brood_pool *pool, uint64_t tasks)
{
        brood_pool_statistics s;

        check("brood_pool_stats", brood_pool_stats(pool, &s));
        if (s.outcomes[BROOD_OUTCOME_OK] != tasks)
                bench_die("%" PRIu64 " tasks counted instead of %" PRIu64, s.outcomes[BROOD_OUTCOME_OK], tasks);
        check("brood_pool_close", brood_pool_close(pool));
        check("brood_pool_join", brood_pool_join(pool, BROOD_FOREVER));
        brood_pool_free(pool);
}

/* In ns. */
static uint64_t run_batch(brood_pool *pool, brood_task_function function, uint64_t count)
{
        static brood_result *results[BATCH];
        uint64_t value, began = bench_now_ns();

        for (uint64_t i = 0; i < count; i++)
                check("brood_pool_apply_async", brood_pool_apply_async(pool, &results[i], function, &i, sizeof i));
        for (uint64_t i = 0; i < count; i++) {
                check("brood_result_get", brood_result_get(results[i], &value, sizeof value, BROOD_FOREVER));
                if (value != i + 1)
                        bench_die("result %" PRIu64 " is %" PRIu64, i, value);
                brood_result_free(results[i]);
        }
        return bench_now_ns() - began;
}

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double median(double *ratios, uint64_t count)
{
        qsort(ratios, count, sizeof *ratios, compare);
        return ratios[count / 2];
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        bool timed = !strcmp(o.figure, "timed"), traced = !strcmp(o.figure, "traced");
        bool computes = !strcmp(o.figure, "traced-20us");

        if (strcmp(o.peer, "brood") || !(timed || traced || computes))
                bench_options_unknown(&o, "timed, traced, traced-20us of brood");

        brood_task_function function = computes ? compute : next_number;
        uint64_t batch = computes ? BATCH / BATCH_SHORT_BY : BATCH;
        uint64_t rounds = (o.count + batch - 1) / batch;
        double *ratios = bench_shared(rounds * sizeof *ratios);
        brood_pool *plain = pool_start(false, 0), *watched = pool_start(timed, timed ? 0 : TRACE);

        run_batch(plain, function, batch);
        run_batch(watched, function, batch);
        for (uint64_t i = 0; i < rounds; i++) {
                double without = (double)run_batch(plain, function, batch);
                ratios[i] = (double)run_batch(watched, function, batch) / without;
        }
        bench_report("pool", &o, median(ratios, rounds), "times");
        pool_stop(plain, (rounds + 1) * batch);
        pool_stop(watched, (rounds + 1) * batch);
        return 0;
}
