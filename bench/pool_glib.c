/* SPDX-License-Identifier: MIT
 *
 * pool_glib.c: GLib's GThreadPool with two exclusive threads, for the figures of pool.h.
 *
 * It has no results: a task writes its own into `results`, and the last one that ends wakes the host.  Nothing is allocated for a
 * task beyond what GLib does.
 */
#include "pool.h"

#include <glib.h>

struct job {
        uint64_t id, value;
};

static GThreadPool *pool;
static number_function job_function;
static struct job jobs[OUTSTANDING];
static gint unfinished;
static GMutex mutex;
static GCond all_finished;

static void run(gpointer data, gpointer unused)
{
        const struct job *job = data;

        (void)unused;
        results[job->id] = job_function(job->value);
        if (g_atomic_int_dec_and_test(&unfinished)) {
                g_mutex_lock(&mutex);
                g_cond_signal(&all_finished);
                g_mutex_unlock(&mutex);
        }
}

static void glib_start(number_function function)
{
        job_function = function;
        pool = g_thread_pool_new(run, NULL, WORKERS, TRUE, NULL);
        if (!pool)
                bench_die("g_thread_pool_new failed");
}

static void glib_submit(uint64_t id, uint64_t value)
{
        jobs[id] = (struct job){ id, value };
        g_atomic_int_inc(&unfinished);
        if (!g_thread_pool_push(pool, &jobs[id], NULL))
                bench_die("g_thread_pool_push failed");
}

static void glib_finish(void)
{
        g_mutex_lock(&mutex);
        while (g_atomic_int_get(&unfinished))
                g_cond_wait(&all_finished, &mutex);
        g_mutex_unlock(&mutex);
}

static void glib_stop(void)
{
        g_thread_pool_free(pool, FALSE, TRUE);
}

int main(int argc, char **argv)
{
        static const struct peer peer = { "glib", glib_start, glib_submit, glib_finish, glib_stop, NULL };
        struct bench_options o = bench_options_parse(argc, argv);

        if (!strcmp(o.figure, "one-asleep"))
                bench_options_unknown(&o, "those of pool.h, without one-asleep; of glib");
        measure_one_of(&o, &peer, 1);
        return 0;
}
