/* SPDX-License-Identifier: MIT
 *
 * pool.c: a pool of two workers.
 *
 *     async     10,000 tasks are handed in one by one, then their 10,000 results are taken; tasks a second
 *     one       one task there and back, in us
 *     map       one map over `count` items of 8 bytes, items a second
 *     start     start, one task, stop, in ms
 *     speedup   a map over `count` items of some 50 us of computing each, against the same in one process: times faster
 *
 *     brood     brood_pool
 *     pipes     pipe_pool.h; its maps give the workers ranges of arrays that were shared before the fork, four a worker,
 *               so that no item is copied: less than brood_pool_map() does, and what an expert would write by hand
 *
 * The books: a task returns its argument plus one (or what it computed from it), and every result is checked.
 */
#include "bench.h"
#include "pipe_pool.h"

#include <brood/pool.h>

#define WORKERS 2
#define OUTSTANDING 10000
#define CHUNKS_PER_WORKER 4
#define SPIN_STEPS 40000 /* about 50 us */

static uint64_t next_number(uint64_t value)
{
        return value + 1;
}

/* A chain of dependent multiplications: it cannot be made shorter, and needs a core and no memory. */
static uint64_t compute(uint64_t value)
{
        for (uint32_t i = 0; i < SPIN_STEPS; i++)
                value = value * 6364136223846793005u + 1442695040888963407u;
        return value;
}

static void check(uint64_t result, uint64_t expected, uint64_t i)
{
        if (result != expected)
                bench_die("result %" PRIu64 " is %" PRIu64 " instead of %" PRIu64, i, result, expected);
}

static uint64_t *numbers_new(uint64_t count)
{
        uint64_t *n = bench_shared(count * sizeof *n);

        for (uint64_t i = 0; i < count; i++)
                n[i] = i;
        return n;
}

/* Computes all in this process, so that the speed-up has its base in the same program; returns the ns it took. */
static uint64_t compute_alone(const uint64_t *items, uint64_t *results, uint64_t count)
{
        uint64_t began = bench_now_ns();

        for (uint64_t i = 0; i < count; i++)
                results[i] = compute(items[i]);
        return bench_now_ns() - began;
}

/* brood */

static ssize_t brood_next_number(const void *arg, size_t size, void *out, size_t room)
{
        uint64_t value;

        if (size != sizeof value || room < sizeof value)
                return -EINVAL;
        memcpy(&value, arg, sizeof value);
        value = next_number(value);
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

static ssize_t brood_compute(const void *arg, size_t size, void *out, size_t room)
{
        uint64_t value;

        if (size != sizeof value || room < sizeof value)
                return -EINVAL;
        memcpy(&value, arg, sizeof value);
        value = compute(value);
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

static void brood_check(const char *what, ssize_t r)
{
        if (r < 0)
                bench_die("%s: %s", what, brood_strerror((int)r));
}

static brood_pool *brood_start(void)
{
        brood_pool *pool;

        brood_check("brood_pool_new", brood_pool_new(&pool, &(brood_pool_options){ .processes = WORKERS,
                                                                                   .result_size = sizeof(uint64_t) }));
        return pool;
}

static void brood_stop(brood_pool *pool)
{
        brood_check("brood_pool_close", brood_pool_close(pool));
        brood_check("brood_pool_join", brood_pool_join(pool, BROOD_FOREVER));
        brood_pool_free(pool);
}

static void brood_batch(brood_pool *pool, uint64_t count)
{
        static brood_result *result[OUTSTANDING];
        uint64_t value;

        for (uint64_t i = 0; i < count; i++)
                brood_check("brood_pool_apply_async",
                            brood_pool_apply_async(pool, &result[i], brood_next_number, &i, sizeof i));
        for (uint64_t i = 0; i < count; i++) {
                brood_check("brood_result_get", brood_result_get(result[i], &value, sizeof value, BROOD_FOREVER));
                check(value, i + 1, i);
                brood_result_free(result[i]);
        }
}

static void brood_one(brood_pool *pool, uint64_t i)
{
        uint64_t value = 0;

        brood_check("brood_pool_apply",
                    brood_pool_apply(pool, brood_next_number, &i, sizeof i, &value, sizeof value, BROOD_FOREVER));
        check(value, i + 1, i);
}

static uint64_t brood_map(brood_pool *pool, brood_task_function function, const uint64_t *items, uint64_t *results,
                          uint64_t count)
{
        uint64_t began = bench_now_ns();

        brood_check("brood_pool_map", brood_pool_map(pool, function, items, sizeof *items, count, results,
                                                     sizeof *results, 0, BROOD_FOREVER));
        return bench_now_ns() - began;
}

/* pipes: the ranges of a map are (first << 32 | count) into these arrays, which the workers share with the host. */

static uint64_t *map_items, *map_results;

static uint64_t pipe_range(uint64_t range, pipe_pool_function function)
{
        uint64_t first = range >> 32, end = first + (uint32_t)range;

        for (uint64_t i = first; i < end; i++)
                map_results[i] = function(map_items[i]);
        return end - first;
}

static uint64_t pipe_range_next_number(uint64_t range)
{
        return pipe_range(range, next_number);
}

static uint64_t pipe_range_compute(uint64_t range)
{
        return pipe_range(range, compute);
}

static uint64_t pipe_map(struct pipe_pool *pool, uint64_t count)
{
        uint64_t chunk = (count + WORKERS * CHUNKS_PER_WORKER - 1) / (WORKERS * CHUNKS_PER_WORKER), id = 0;
        uint64_t began = bench_now_ns();

        for (uint64_t first = 0; first < count; first += chunk)
                pipe_pool_submit(pool, id++, first << 32 | (count - first < chunk ? count - first : chunk));
        pipe_pool_finish(pool);
        return bench_now_ns() - began;
}

static void pipe_batch(struct pipe_pool *pool, uint64_t count)
{
        memset(pool->results, 0, count * sizeof *pool->results);
        for (uint64_t i = 0; i < count; i++)
                pipe_pool_submit(pool, i, i);
        pipe_pool_finish(pool);
        for (uint64_t i = 0; i < count; i++)
                check(pool->results[i], i + 1, i);
}

static void pipe_one(struct pipe_pool *pool, uint64_t i)
{
        pipe_pool_submit(pool, 0, i);
        pipe_pool_finish(pool);
        check(pool->results[0], i + 1, i);
}

/* The figures: `pool` is NULL for the pipes, and `pipes` NULL for brood. */

static void batch(brood_pool *pool, struct pipe_pool *pipes, uint64_t count)
{
        for (uint64_t n; count; count -= n) {
                n = count < OUTSTANDING ? count : OUTSTANDING;
                if (pool)
                        brood_batch(pool, n);
                else
                        pipe_batch(pipes, n);
        }
}

static void start_one_stop(bool brood, uint64_t i)
{
        uint64_t result;
        struct pipe_pool pipes;
        brood_pool *pool;

        if (brood) {
                pool = brood_start();
                brood_one(pool, i);
                brood_stop(pool);
        } else {
                pipe_pool_start(&pipes, WORKERS, next_number, &result);
                pipe_one(&pipes, i);
                pipe_pool_stop(&pipes);
        }
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        const char *known = "async, one, map, start, speedup of brood, pipes";
        bool brood = !strcmp(o.peer, "brood"), computes = !strcmp(o.figure, "speedup");
        bool maps = computes || !strcmp(o.figure, "map");
        static uint64_t answers[OUTSTANDING];
        struct pipe_pool pipe_pool, *pipes = NULL;
        brood_pool *pool = NULL;
        uint64_t began, took, alone = 0;

        if (!brood && strcmp(o.peer, "pipes"))
                bench_options_unknown(&o, known);

        if (!strcmp(o.figure, "start")) {
                for (uint64_t i = 0; i < bench_warmup(o.count); i++)
                        start_one_stop(brood, i);
                began = bench_now_ns();
                for (uint64_t i = 0; i < o.count; i++)
                        start_one_stop(brood, i);
                bench_report("pool", &o, (double)(bench_now_ns() - began) / 1e6 / (double)o.count, "ms");
                return 0;
        }

        if (maps) {
                map_items = numbers_new(o.count);
                map_results = bench_shared(o.count * sizeof *map_results);
        }
        if (brood)
                pool = brood_start();
        else
                pipe_pool_start(pipes = &pipe_pool, WORKERS,
                                computes ? pipe_range_compute
                                : maps   ? pipe_range_next_number
                                         : next_number,
                                answers);

        if (!strcmp(o.figure, "async")) {
                batch(pool, pipes, bench_warmup(o.count));
                began = bench_now_ns();
                batch(pool, pipes, o.count);
                bench_report("pool", &o, (double)o.count * 1e9 / (double)(bench_now_ns() - began), "task/s");
        } else if (!strcmp(o.figure, "one")) {
                began = 0;
                for (uint64_t i = 0, warm = bench_warmup(o.count); i < warm + o.count; i++) {
                        if (i == warm)
                                began = bench_now_ns();
                        if (brood)
                                brood_one(pool, i);
                        else
                                pipe_one(pipes, i);
                }
                bench_report("pool", &o, (double)(bench_now_ns() - began) / 1e3 / (double)o.count, "us");
        } else if (maps) {
                brood_task_function function = computes ? brood_compute : brood_next_number;
                uint64_t warm = bench_warmup(o.count), *expected = bench_shared(o.count * sizeof *expected);

                if (brood)
                        brood_map(pool, function, map_items, map_results, warm);
                else
                        pipe_map(pipes, warm);
                memset(map_results, 0, o.count * sizeof *map_results);
                took = brood ? brood_map(pool, function, map_items, map_results, o.count) : pipe_map(pipes, o.count);
                if (computes)
                        alone = compute_alone(map_items, expected, o.count);
                for (uint64_t i = 0; i < o.count; i++)
                        check(map_results[i], computes ? expected[i] : i + 1, i);
                if (computes)
                        bench_report("pool", &o, (double)alone / (double)took, "times");
                else
                        bench_report("pool", &o, (double)o.count * 1e9 / (double)took, "item/s");
        } else {
                bench_options_unknown(&o, known);
        }

        if (brood)
                brood_stop(pool);
        else
                pipe_pool_stop(pipes);
        return 0;
}
