/* SPDX-License-Identifier: MIT
 *
 * pool.h: the figures of a pool of two workers, as loops that are the same for every peer.
 *
 *     async       10,000 tasks are handed in one by one, then their 10,000 results are taken; tasks a second
 *     one         one task there and back, again at once; us
 *     one-asleep  one task there and back when all have been asleep, the host on one CPU and its workers on another; the median
 *                 in us
 *     map         one map over `count` items of 8 bytes; items a second
 *     speedup     a map over `count` items of some 50 us of computing each, against the same in one process: times faster
 *     start       start, one task, stop; ms
 *
 * A peer takes tasks one by one and puts their results into `results`.  A map of a peer that has none of its own is its workers'
 * ranges of arrays that were shared before they were started, four a worker, so that no item is copied: less than brood_pool_map()
 * does, and what an expert would write by hand.
 *
 * The books: a task returns its argument plus one (or what it computed from it), and every result is checked.
 */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#include "bench.h"

#define WORKERS 2
#define OUTSTANDING 10000
#define CHUNKS_PER_WORKER 4
#define SPIN_STEPS 40000 /* about 50 us */
#define ASLEEP_WAIT_NS 200000u

typedef uint64_t (*number_function)(uint64_t value);

struct peer {
        const char *name;
        /* Two workers that run this function; each calls worker_begin() first if it is a process. */
        void (*start)(number_function function);
        /* Hand in a task, whose result goes to results[id]; finish waits for all that were. */
        void (*submit)(uint64_t id, uint64_t value);
        void (*finish)(void);
        void (*stop)(void);
        void (*map)(bool computes, uint64_t count); /* map_items to map_results; NULL: by ranges */
};

static uint64_t *results; /* shared, OUTSTANDING of them */
static uint64_t *map_items, *map_results;
static int worker_cpu = -1;

static inline void worker_begin(void)
{
        if (worker_cpu >= 0)
                bench_pin(worker_cpu);
}

static inline uint64_t next_number(uint64_t value)
{
        return value + 1;
}

/* A chain of dependent multiplications: it cannot be made shorter, and needs a core and no memory. */
static inline uint64_t compute(uint64_t value)
{
        for (uint32_t i = 0; i < SPIN_STEPS; i++)
                value = value * 6364136223846793005u + 1442695040888963407u;
        return value;
}

static inline void check(uint64_t result, uint64_t expected, uint64_t i)
{
        if (result != expected)
                bench_die("result %" PRIu64 " is %" PRIu64 " instead of %" PRIu64, i, result, expected);
}

/* A range is (first << 32 | count). */
static inline uint64_t range_of_map(uint64_t range, number_function function)
{
        uint64_t first = range >> 32, end = first + (uint32_t)range;

        for (uint64_t i = first; i < end; i++)
                map_results[i] = function(map_items[i]);
        return end - first;
}

static uint64_t range_next_number(uint64_t range)
{
        return range_of_map(range, next_number);
}

static uint64_t range_compute(uint64_t range)
{
        return range_of_map(range, compute);
}

static inline uint64_t map_ns(const struct peer *peer, bool computes, uint64_t count)
{
        uint64_t chunk = (count + WORKERS * CHUNKS_PER_WORKER - 1) / (WORKERS * CHUNKS_PER_WORKER), id = 0;
        uint64_t began = bench_now_ns();

        if (peer->map) {
                peer->map(computes, count);
                return bench_now_ns() - began;
        }
        for (uint64_t first = 0; first < count; first += chunk)
                peer->submit(id++, first << 32 | (count - first < chunk ? count - first : chunk));
        peer->finish();
        return bench_now_ns() - began;
}

/* Computes all in this process, so that the speed-up has its base in the same program. */
static inline uint64_t alone_ns(uint64_t *expected, uint64_t count)
{
        uint64_t began = bench_now_ns();

        for (uint64_t i = 0; i < count; i++)
                expected[i] = compute(map_items[i]);
        return bench_now_ns() - began;
}

static inline double map_rate(const struct peer *peer, bool computes, uint64_t count)
{
        uint64_t *expected = (uint64_t *)bench_shared(count * sizeof *expected), took, alone;

        map_ns(peer, computes, bench_warmup(count));
        memset(map_results, 0, count * sizeof *map_results);
        took = map_ns(peer, computes, count);
        alone = computes ? alone_ns(expected, count) : 0;
        for (uint64_t i = 0; i < count; i++)
                check(map_results[i], computes ? expected[i] : i + 1, i);
        return computes ? (double)alone / (double)took : (double)count * 1e9 / (double)took;
}

static inline void batches(const struct peer *peer, uint64_t count)
{
        for (uint64_t n; count; count -= n) {
                n = count < OUTSTANDING ? count : OUTSTANDING;
                memset(results, 0, n * sizeof *results);
                for (uint64_t i = 0; i < n; i++)
                        peer->submit(i, i);
                peer->finish();
                for (uint64_t i = 0; i < n; i++)
                        check(results[i], i + 1, i);
        }
}

static inline double async_rate(const struct peer *peer, uint64_t count)
{
        uint64_t began;

        batches(peer, bench_warmup(count));
        began = bench_now_ns();
        batches(peer, count);
        return (double)count * 1e9 / (double)(bench_now_ns() - began);
}

static inline void one(const struct peer *peer, uint64_t i)
{
        peer->submit(0, i);
        peer->finish();
        check(results[0], i + 1, i);
}

static inline double one_us(const struct peer *peer, uint64_t count)
{
        uint64_t warm = bench_warmup(count), began;

        for (uint64_t i = 0; i < warm; i++)
                one(peer, i);
        began = bench_now_ns();
        for (uint64_t i = 0; i < count; i++)
                one(peer, i);
        return (double)(bench_now_ns() - began) / 1e3 / (double)count;
}

static inline double one_asleep_us(const struct peer *peer, uint64_t count)
{
        uint64_t warm = bench_warmup(count), began;
        double *us = (double *)bench_shared(count * sizeof *us);

        bench_pin(0);
        for (uint64_t i = 0; i < warm + count; i++) {
                bench_sleep_ns(ASLEEP_WAIT_NS);
                began = bench_now_ns();
                one(peer, i);
                if (i >= warm)
                        us[i - warm] = (double)(bench_now_ns() - began) / 1e3;
        }
        return bench_median(us, count);
}

static inline double start_stop_ms(const struct peer *peer, uint64_t count)
{
        uint64_t warm = bench_warmup(count), began = 0;

        for (uint64_t i = 0; i < warm + count; i++) {
                if (i == warm)
                        began = bench_now_ns();
                peer->start(next_number);
                one(peer, i);
                peer->stop();
        }
        return (double)(bench_now_ns() - began) / 1e6 / (double)count;
}

static inline void measure(const struct bench_options *o, const struct peer *peer)
{
        const char *figure = o->figure;
        bool computes = !strcmp(figure, "speedup"), maps = computes || !strcmp(figure, "map");

        results = (uint64_t *)bench_shared(OUTSTANDING * sizeof *results);
        if (maps) {
                map_items = (uint64_t *)bench_shared(o->count * sizeof *map_items);
                map_results = (uint64_t *)bench_shared(o->count * sizeof *map_results);
                for (uint64_t i = 0; i < o->count; i++)
                        map_items[i] = i;
        }
        if (!strcmp(figure, "start")) {
                bench_report("pool", o, start_stop_ms(peer, o->count), "ms");
                return;
        }
        worker_cpu = strcmp(figure, "one-asleep") ? -1 : 1;
        peer->start(computes ? range_compute : maps ? range_next_number : next_number);
        if (maps)
                bench_report("pool", o, map_rate(peer, computes, o->count), computes ? "times" : "item/s");
        else if (!strcmp(figure, "async"))
                bench_report("pool", o, async_rate(peer, o->count), "task/s");
        else if (!strcmp(figure, "one"))
                bench_report("pool", o, one_us(peer, o->count), "us");
        else if (!strcmp(figure, "one-asleep"))
                bench_report("pool", o, one_asleep_us(peer, o->count), "us");
        else
                bench_options_unknown(o, "async, one, one-asleep, map, speedup, start");
        peer->stop();
}

static inline void measure_one_of(const struct bench_options *o, const struct peer *peers, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                if (!strcmp(o->peer, peers[i].name)) {
                        measure(o, &peers[i]);
                        return;
                }
        }
        bench_options_unknown(o, "those of pool.h, of the program's own peers");
}

#endif
