/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_trace.c: the trace of a pool: valid whatever became of the workers, and with each try once.  A script reads it
 * (check_trace.py), as a viewer would.
 */
#include "step.h"
#include "tasks.h"

#include "pool/pool.h"

#include <brood/map.h>
#include <brood/stats.h>
#include <brood/trace.h>

static brood_pool *make_traced_pool(int processes, size_t trace_tasks)
{
        brood_pool *pool = NULL;
        assert_int_equal(
            brood_pool_new(&pool, &(brood_pool_options){ .processes = processes, .trace_tasks = trace_tasks }), 0);
        return pool;
}

/* Write the trace and have the script read it; `wanted` are its other arguments. */
static int check_trace(const brood_pool *pool, const char *const *wanted)
{
        const char *python = getenv("BROOD_TEST_PYTHON"), *script = getenv("BROOD_TEST_TRACE_CHECK");
        const char *arguments[16] = { python, script };
        char path[32];
        int fd = memfd_create("trace", 0), count = 3;
        if (fd < 0 || python == NULL || script == NULL)
                return 1000;
        int r = brood_pool_write_trace(pool, fd);
        if (r < 0) {
                close(fd);
                return r;
        }
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        arguments[2] = path;
        for (; *wanted != NULL; wanted++)
                arguments[count++] = *wanted;
        pid_t pid = fork();
        if (pid == 0) {
                execv(python, (char *const *)arguments);
                _exit(127);
        }
        close(fd);
        return check_wait(pid);
}

#define assert_trace(pool, ...) assert_int_equal(check_trace((pool), (const char *const[]){ __VA_ARGS__, NULL }), 0)

static ssize_t fail_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        return -ERANGE;
}

static const char *said(char text[64], const char *name, uint64_t count)
{
        snprintf(text, 64, "%s=%llu", name, (unsigned long long)count);
        return text;
}

static void test_each_try_is_there(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_traced_pool(2, 1000);
        assert_trace(pool, "tries=0", "lost=0");
        for (int i = 0; i < 30; i++) {
                check_value(submit_int(pool, echo_task, i), i);
                check_failure(submit_int(pool, fail_task, i), -ERANGE, BROOD_OUTCOME_ERROR, 0);
        }
        assert_trace(pool, "tries=60", "ok=30", "error=30", "lost=0");
        check_failure(submit_int(pool, die_task, SIGKILL), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
        check_failure(submit_int(pool, die_task, -3), -EOWNERDEAD, BROOD_OUTCOME_EXITED, 3);
        check_failure(submit_task(pool, .function = sleep_task, .arg = &(int){ FOREVER_MS }, .size = sizeof(int),
                                  .timeout_ms = 5),
                      -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        check_value(submit_task(pool, .function = nth_time_task, .arg = &(int){ 3 }, .size = sizeof(int), .retries = 5),
                    3);
        assert_trace(pool, "tries=66", "ok=31", "signaled=3", "exited=1", "time=1", "lost=0");
        /* What runs now is there, too. */
        brood_result *result = submit_int(pool, gated_task, 1);
        assert_true(check_reaches(&tasks_page->started, 4, CHECK_HANG_MS));
        assert_trace(pool, "tries=66", "running=1");
        atomic_store(&tasks_page->gate, 1);
        check_value(result, 1);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_trace(pool, "tries=67", "running=0", "lost=0");
        brood_pool_free(pool);
        tasks_finish();
}

/* A chunk has the name of its items' function, and not of the library's that calls it. */
static void test_chunks(void **state)
{
        (void)state;
        brood_pool *pool = make_traced_pool(2, 100);
        brood_map *map = NULL;
        uint64_t items[40] = { 0 }, results[20];
        assert_int_equal(brood_pool_map_async(pool, &map,
                                              &(brood_map_options){ .function = echo_task,
                                                                    .items = items,
                                                                    .item_size = sizeof *items,
                                                                    .stride = 2 * sizeof *items,
                                                                    .count = 20,
                                                                    .result_size = sizeof *results,
                                                                    .chunksize = 5 }),
                         0);
        assert_int_equal(brood_map_get(map, results, CHECK_HANG_MS), 0);
        brood_map_free(map);
        check_value(submit_int(pool, echo_task, 1), 1);
        assert_trace(pool, "tries=5", "ok=5", "functions=1");
        check_failure(submit_int(pool, fail_task, 1), -ERANGE, BROOD_OUTCOME_ERROR, 0);
        assert_trace(pool, "tries=6", "functions=2");
        end_pool(pool);
}

/* What is more than there is room for is lost, the oldest first, and is told. */
static void test_lost(void **state)
{
        (void)state;
        brood_pool *pool = make_traced_pool(1, 10);
        for (int i = 0; i < 90; i++)
                check_value(submit_int(pool, echo_task, i), i);
        for (int i = 0; i < 10; i++)
                check_failure(submit_int(pool, fail_task, i), -ERANGE, BROOD_OUTCOME_ERROR, 0);
        assert_trace(pool, "tries=10", "error=10", "lost=90");
        /* Of each worker. */
        assert_int_equal(brood_pool_resize(pool, 3), 0);
        await_workers(pool, NULL);
        assert_trace(pool, "tries=10", "lost=90");
        end_pool(pool);
}

static void test_refused(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        assert_int_equal(brood_pool_write_trace(NULL, 1), -EINVAL);
        assert_int_equal(brood_pool_write_trace(pool, 1), -ENODATA);
        end_pool(pool);
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .trace_tasks = BROOD_POOL_TRACE_LIMIT + 1 }),
                         -EINVAL);
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .timed = true }), 0);
        assert_int_equal(brood_pool_write_trace(pool, 1), -ENODATA);
        end_pool(pool);
        pool = make_traced_pool(1, 1);
        assert_int_equal(brood_pool_write_trace(pool, -1), -EBADF);
        int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        assert_true(full >= 0);
        assert_int_equal(brood_pool_write_trace(pool, full), -ENOSPC);
        close(full);
        end_pool(pool);
}

static int trace_in_child(void *arg)
{
        const char *wanted[] = { "tries=20", "workers=1", NULL };
        require_int(check_trace(arg, wanted), 0);
        brood_pool_free(arg);
        return 0;
}

static void test_in_a_forked_child(void **state)
{
        (void)state;
        brood_pool *pool = make_traced_pool(1, 100);
        for (int i = 0; i < 20; i++)
                check_value(submit_int(pool, echo_task, i), i);
        check_in_child(trace_in_child, pool);
        end_pool(pool);
}

/* The keeper is gone, and all with it. */
static void test_of_a_broken_pool(void **state)
{
        (void)state;
        brood_pool *pool = make_traced_pool(1, 100);
        pid_t worker;
        await_workers(pool, &worker);
        for (int i = 0; i < 20; i++)
                check_value(submit_int(pool, echo_task, i), i);
        assert_int_equal(kill(support_parent_of(worker), SIGKILL), 0);
        assert_true(pool_breaks(pool));
        assert_trace(pool, "tries=20", "ok=20", "running=0", "lost=0");
        brood_pool_free(pool);
}

/* What ran when it was terminated has ended with it. */
static void test_of_a_terminated_pool(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_traced_pool(2, 100);
        for (int i = 0; i < 5; i++)
                assert_int_equal(brood_pool_apply_async(pool, NULL, gated_task, &i, sizeof i), 0);
        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
        assert_trace(pool, "tries=0", "running=2");
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_trace(pool, "tries=2", "canceled=2", "running=0", "lost=0");
        brood_pool_statistics s;
        assert_int_equal(brood_pool_stats(pool, &s), 0);
        assert_int_equal(s.ended, 0);
        assert_int_equal(s.waiting, 5);
        brood_pool_free(pool);
        tasks_finish();
}

/* Workers are killed at any moment; the trace has what the counters have. */
static void test_workers_are_killed(void **state)
{
        (void)state;
        enum { TASKS = 2000, ROUNDS = 10 };
        static brood_result *results[TASKS];
        char texts[4][64];
        int rounds = support_rounds(ROUNDS);
        struct workers_killer killer = { .pool = make_traced_pool(3, TASKS * ROUNDS),
                                         .seed = support_random(UINT64_MAX) };
        struct check_thread thread;
        check_thread_start(&thread, kill_workers_at_random, &killer);
        for (int round = 0; round < rounds; round++) {
                for (int i = 0; i < TASKS; i++)
                        results[i] = submit_task(killer.pool, .function = i % 5 ? echo_task : fail_task, .arg = &i,
                                                 .size = sizeof i, .retries = i % 7 ? 0 : 3);
                for (int i = 0; i < TASKS; i++) {
                        assert_int_equal(brood_result_wait(results[i], CHECK_HANG_MS), 0);
                        brood_result_free(results[i]);
                        if (i == TASKS / 2 && round % 4 == 0)
                                assert_int_equal(check_trace(killer.pool, (const char *const[]){ NULL }), 0);
                }
        }
        atomic_store(&killer.stop, 1);
        assert_int_equal(check_thread_join(&thread), 0);
        brood_pool_statistics s;
        assert_int_equal(brood_pool_stats(killer.pool, &s), 0);
        print_message("%llu deaths\n", (unsigned long long)s.deaths);
        if (rounds <= ROUNDS)
                assert_trace(killer.pool, said(texts[0], "tries", s.ended + s.retried), "lost=0",
                             said(texts[1], "ok", s.outcomes[BROOD_OUTCOME_OK]),
                             said(texts[2], "error", s.outcomes[BROOD_OUTCOME_ERROR]),
                             said(texts[3], "signaled", s.outcomes[BROOD_OUTCOME_SIGNALED] + s.retried));
        end_pool(killer.pool);
}

/* ---- a worker's last steps with a task, one instruction after the other ---- */

enum { NUMBER = 1, TICKET = 4711, WORKER = 12345 };

struct scene {
        brood_pool *pool;
        struct task task;
        uint64_t ticket;
        struct step_mark *mark;
};

static void end_task(void *arg)
{
        struct scene *scene = arg;
        insight_end(scene->pool, NUMBER, &scene->task, scene->ticket);
}

/* Wherever it was killed, the try is there once, began when it began, and ended with its worker. */
static void test_killed_at_each_instruction(void **state)
{
        (void)state;
        const char *why;
        if (!step_possible(&why)) {
                print_message("skipped: %s\n", why);
                skip();
        }
        struct scene scene = { .mark = check_shared(sizeof(struct step_mark)), .task = { .worker = WORKER } };
        scene.task.outcome = BROOD_OUTCOME_OK;
        scene.pool = make_traced_pool(2, 3);
        await_workers(scene.pool, NULL);
        struct measures *measures = insight_of(scene.pool, NUMBER);
        bool more = true;
        int revised = 0;
        for (uint64_t k = 0; more && k < 20000; k++) {
                atomic_store(&scene.mark->begun, 0);
                atomic_store(&scene.mark->ended, 0);
                scene.ticket = TICKET + k;
                insight_begin(scene.pool, NUMBER, &scene.task);
                uint64_t began = load_relaxed(&scene.pool->workers[NUMBER].counts.since) & ~UINT64_C(1);
                struct step_victim victim = { .call = end_task, .arg = &scene, .mark = scene.mark };
                pid_t pid = step_start(&victim);
                assert_true(pid > 0);
                long count;
                more = step_run(pid, scene.mark, (long)k, true, NULL, &count) != STEP_ENDED;
                step_kill(pid);
                bool recorded = load_relaxed(&measures->recorded) == k + 1;
                revised += recorded;
                insight_record_death(scene.pool, NUMBER, &scene.task,
                                     &(struct try_end){ .ticket = scene.ticket,
                                                        .worker = WORKER,
                                                        .outcome = BROOD_OUTCOME_SIGNALED,
                                                        .error = -EOWNERDEAD });
                struct try_record try;
                assert_int_equal(load_relaxed(&measures->recorded), k + 1);
                assert_true(insight_read(scene.pool, NUMBER, k, &try));
                assert_int_equal(try.outcome, BROOD_OUTCOME_SIGNALED);
                assert_int_equal(try.error, -EOWNERDEAD);
                assert_int_equal(try.ticket, scene.ticket);
                /* But if it was killed between idle and recorded. */
                assert_true(recorded ? try.started == (int64_t)began : try.started >= (int64_t)began);
                assert_true(try.ended >= try.started);
                insight_death(scene.pool, NUMBER);
        }
        assert_false(more);
        print_message("%d of the tries were recorded before\n", revised);
        assert_true(revised > 0);
        end_pool(scene.pool);
        munmap(scene.mark, sizeof *scene.mark);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_each_try_is_there),
                support_test(test_chunks),
                support_test(test_lost),
                support_test(test_refused),
                support_test(test_in_a_forked_child),
                support_test(test_killed_at_each_instruction),
                support_test(test_of_a_broken_pool),
                support_test(test_of_a_terminated_pool),
                support_test(test_workers_are_killed),
        };
        return support_main(argc, argv, "trace", tests, array_length(tests), 120);
}
