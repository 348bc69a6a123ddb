/* SPDX-License-Identifier: MIT
 *
 * pool.c: the figures of pool.h.
 *
 *     brood     brood_pool
 *     pipes     pipe_pool.h
 *     fork      a process for each task, two at a time, which leaves its result in shared memory
 *     futex     no pool, but the least that hands a task to a process which sleeps, and wakes the host that sleeps for its end
 *               (futex_cell.h): for one-asleep
 */
#include "pool.h"
#include "futex_cell.h"
#include "pipe_pool.h"
#include "pool_brood.h"

/* brood */

static brood_pool *pool;
static brood_result *brood_results[OUTSTANDING];
static uint64_t brood_submitted;

static ssize_t brood_next_number(const void *arg, size_t size, void *out, size_t room)
{
        return brood_answer(next_number, arg, size, out, room);
}

static ssize_t brood_compute(const void *arg, size_t size, void *out, size_t room)
{
        return brood_answer(compute, arg, size, out, room);
}

static int brood_begin(void *arg)
{
        (void)arg;
        worker_begin();
        return 0;
}

/* Its tasks name their functions themselves. */
static void brood_start(number_function function)
{
        (void)function;
        pool = brood_start_with(
            &(brood_pool_options){ .processes = WORKERS, .initializer = brood_begin, .result_size = sizeof(uint64_t) });
}

static void brood_submit(uint64_t id, uint64_t value)
{
        brood_results[id] = brood_submit_to(pool, brood_next_number, &value, sizeof value);
        brood_submitted++;
}

static void brood_finish(void)
{
        for (uint64_t i = 0; i < brood_submitted; i++)
                brood_take(brood_results[i], &results[i], sizeof results[i]);
        brood_submitted = 0;
}

static void brood_stop(void)
{
        brood_end(pool);
}

static void brood_map(bool computes, uint64_t count)
{
        brood_check("brood_pool_map",
                    brood_pool_map(pool, computes ? brood_compute : brood_next_number, map_items, sizeof *map_items,
                                   count, map_results, sizeof *map_results, 0, BROOD_FOREVER));
}

/* pipes */

static struct pipe_pool pipes;

static void pipes_start(number_function function)
{
        pipe_pool_start(&pipes, WORKERS, worker_begin, function, results);
}

static void pipes_submit(uint64_t id, uint64_t value)
{
        pipe_pool_submit(&pipes, id, value);
}

static void pipes_finish(void)
{
        pipe_pool_finish(&pipes);
}

static void pipes_stop(void)
{
        pipe_pool_stop(&pipes);
}

/* fork */

static number_function fork_function;
static pid_t fork_running[WORKERS]; /* a circle, the oldest first */
static uint64_t fork_first, fork_count;

static void fork_start(number_function function)
{
        fork_function = function;
}

static void fork_reap(void)
{
        bench_reap(fork_running[fork_first++ % WORKERS]);
        fork_count--;
}

static void fork_submit(uint64_t id, uint64_t value)
{
        if (fork_count == WORKERS)
                fork_reap();

        pid_t pid = bench_fork();

        if (pid == 0) {
                results[id] = fork_function(value);
                _exit(0);
        }
        fork_running[(fork_first + fork_count++) % WORKERS] = pid;
}

static void fork_finish(void)
{
        while (fork_count)
                fork_reap();
}

static void fork_stop(void)
{
        fork_finish();
}

/* futex: one worker, one task at a time. */

static struct futex_cell *there, *back;
static pid_t futex_worker;

static void futex_start(number_function function)
{
        there = futex_cell_new();
        back = futex_cell_new();
        futex_worker = bench_fork();
        if (futex_worker)
                return;
        worker_begin();
        for (uint64_t value;;) {
                futex_cell_get(there, &value, sizeof value);
                if (value == UINT64_MAX)
                        _exit(0);
                value = function(value);
                futex_cell_put(back, &value, sizeof value);
        }
}

static void futex_submit(uint64_t id, uint64_t value)
{
        (void)id;
        futex_cell_put(there, &value, sizeof value);
}

static void futex_finish(void)
{
        futex_cell_get(back, &results[0], sizeof results[0]);
}

static void futex_stop(void)
{
        futex_submit(0, UINT64_MAX);
        bench_reap(futex_worker);
}

int main(int argc, char **argv)
{
        static const struct peer peers[] = {
                { "brood", brood_start, brood_submit, brood_finish, brood_stop, brood_map },
                { "pipes", pipes_start, pipes_submit, pipes_finish, pipes_stop, NULL },
                { "fork", fork_start, fork_submit, fork_finish, fork_stop, NULL },
                { "futex", futex_start, futex_submit, futex_finish, futex_stop, NULL },
        };
        struct bench_options o = bench_options_parse(argc, argv);

        if (!strcmp(o.peer, "futex") && strcmp(o.figure, "one-asleep"))
                bench_options_unknown(&o, "one-asleep of futex");
        measure_one_of(&o, peers, sizeof peers / sizeof peers[0]);
        return 0;
}
