/* SPDX-License-Identifier: MIT
 *
 * pool_large.c: the figure `large`: arguments and results of 1 MiB, 16 tasks handed in and then their results taken, two workers;
 * GB/s of both together, each counted once.
 *
 * The task copies its argument, so that a byte is copied three times on its way there and back: into the pool, by the task, out of
 * the pool.  Making the arguments and checking the results is timed, too; that is one word a page.
 */
#include "pool_brood.h"

#define WORKERS 2
#define OUTSTANDING 16
#define LARGE ((size_t)1 << 20)
#define STEP (4096 / sizeof(uint64_t))

static uint64_t numbers[OUTSTANDING][LARGE / sizeof(uint64_t)], answer[LARGE / sizeof(uint64_t)];

static ssize_t same_bytes(const void *arg, size_t size, void *out, size_t room)
{
        if (size > room)
                return -EMSGSIZE;
        memcpy(out, arg, size);
        return (ssize_t)size;
}

static void batch(brood_pool *pool, uint64_t first, uint64_t count)
{
        brood_result *result[OUTSTANDING];

        for (uint64_t n = 0; n < count; n++) {
                for (size_t i = 0; i < LARGE / sizeof(uint64_t); i += STEP)
                        numbers[n][i] = first + n + i;
                result[n] = brood_submit_to(pool, same_bytes, numbers[n], LARGE);
        }
        for (uint64_t n = 0; n < count; n++) {
                brood_take(result[n], answer, LARGE);
                for (size_t i = 0; i < LARGE / sizeof(uint64_t); i += STEP)
                        if (answer[i] != first + n + i)
                                bench_die("result %" PRIu64 " is wrong", first + n);
        }
}

static void batches(brood_pool *pool, uint64_t count)
{
        for (uint64_t first = 0, n; first < count; first += n) {
                n = count - first < OUTSTANDING ? count - first : OUTSTANDING;
                batch(pool, first, n);
        }
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        brood_pool *pool;
        uint64_t began;

        if (strcmp(o.figure, "large") != 0 || strcmp(o.peer, "brood") != 0)
                bench_options_unknown(&o, "large of brood");
        pool = brood_start_with(&(brood_pool_options){ .processes = WORKERS, .result_size = LARGE });
        /* At least one whole batch: what is timed finds its memory there. */
        batches(pool, bench_warmup(o.count) + OUTSTANDING);
        began = bench_now_ns();
        batches(pool, o.count);
        bench_report("pool", &o, (double)(2 * o.count * LARGE) / (double)(bench_now_ns() - began), "GB/s");
        brood_end(pool);
        return 0;
}
