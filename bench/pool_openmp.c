/* SPDX-License-Identifier: MIT
 *
 * pool_openmp.c: OpenMP's tasks, by a team of two threads, for the figures of pool.h.
 *
 * The host is one of the two: it runs tasks itself while it waits for them, and libgomp has it do so as well when very many are
 * outstanding.  So there is no task that goes there and back, and no pool to be started and stopped.
 */
#include "pool.h"

static number_function task_function;

static void openmp_start(number_function function)
{
        task_function = function;
}

static void openmp_submit(uint64_t id, uint64_t value)
{
#pragma omp task firstprivate(id, value)
        results[id] = task_function(value);
}

static void openmp_finish(void)
{
#pragma omp taskwait
}

static void openmp_stop(void)
{
}

int main(int argc, char **argv)
{
        static const struct peer peer = { "openmp", openmp_start, openmp_submit, openmp_finish, openmp_stop, NULL };
        struct bench_options o = bench_options_parse(argc, argv);

        if (strcmp(o.figure, "async") != 0 && strcmp(o.figure, "map") != 0 && strcmp(o.figure, "speedup") != 0)
                bench_options_unknown(&o, "async, map, speedup of openmp");
#pragma omp parallel num_threads(WORKERS)
#pragma omp single
        measure_one_of(&o, &peer, 1);
        return 0;
}
