/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_stats.c: what a pool counts and measures: exact, whoever is killed, and readable by whoever holds the pool.
 */
#include "step.h"
#include "tasks.h"

#include "pool/pool.h"

#include <brood/stats.h>

static brood_pool_statistics stats_of(brood_pool *pool)
{
        brood_pool_statistics s;
        memset(&s, 0xff, sizeof s);
        assert_int_equal(brood_pool_stats(pool, &s), 0);
        uint64_t sum = 0;
        for (int i = 0; i < BROOD_STATISTICS_OUTCOMES; i++)
                sum += s.outcomes[i];
        assert_int_equal(sum, s.ended);
        assert_true(s.ended + s.waiting + s.running == s.submitted);
        return s;
}

static brood_worker_statistics worker_stats_of(brood_pool *pool, int number)
{
        brood_worker_statistics s;
        memset(&s, 0xff, sizeof s);
        assert_int_equal(brood_pool_worker_stats(pool, number, &s), 0);
        return s;
}

static brood_pool *make_timed_pool(int processes)
{
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = processes, .timed = true }), 0);
        return pool;
}

static ssize_t fail_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        return -ERANGE;
}

/* Takes a result, whatever it is, and frees it: its outcome. */
static int take_outcome(brood_result *result)
{
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        int outcome = brood_result_outcome(result);
        brood_result_free(result);
        return outcome;
}

/* ---- counters ---- */

/* Whoever has seen a result finds it counted, at once. */
static void test_each_end_is_counted(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_pool_statistics s = stats_of(pool);
        assert_int_equal(s.submitted + s.retried + s.restarts + s.deaths + s.busy_ns + s.idle_ns, 0);
        uint64_t wanted[BROOD_STATISTICS_OUTCOMES] = { 0 };
        for (int i = 0; i < 300; i++) {
                brood_result *result = i % 3 ? submit_int(pool, echo_task, i) : submit_int(pool, fail_task, i);
                wanted[take_outcome(result)]++;
                s = stats_of(pool);
                assert_int_equal(s.submitted, i + 1);
                assert_memory_equal(s.outcomes, wanted, sizeof wanted);
        }
        assert_int_equal(wanted[BROOD_OUTCOME_OK], 200);
        assert_int_equal(wanted[BROOD_OUTCOME_ERROR], 100);
        static const int ways[] = { SIGKILL, SIGSEGV, -3 };
        for (size_t i = 0; i < array_length(ways); i++) {
                wanted[take_outcome(submit_int(pool, die_task, ways[i]))]++;
                s = stats_of(pool);
                assert_memory_equal(s.outcomes, wanted, sizeof wanted);
                assert_int_equal(s.deaths, i + 1);
        }
        assert_int_equal(wanted[BROOD_OUTCOME_SIGNALED], 2);
        assert_int_equal(wanted[BROOD_OUTCOME_EXITED], 1);
        wanted[take_outcome(submit_task(pool, .function = sleep_task, .arg = &(int){ FOREVER_MS }, .size = sizeof(int),
                                        .timeout_ms = 5))]++;
        assert_int_equal(wanted[BROOD_OUTCOME_TIME], 1);
        check_value(submit_task(pool, .function = nth_time_task, .arg = &(int){ 4 }, .size = sizeof(int), .retries = 5),
                    4);
        wanted[BROOD_OUTCOME_OK]++;
        await_workers(pool, NULL);
        s = stats_of(pool);
        assert_memory_equal(s.outcomes, wanted, sizeof wanted);
        assert_int_equal(s.retried, 3);
        assert_int_equal(s.deaths, 7);
        assert_int_equal(s.restarts, 7);
        assert_int_equal(s.workers, 2);
        assert_int_equal(s.waiting, 0);
        assert_int_equal(s.submitted, 305);
        end_pool(pool);
        tasks_finish();
}

static void test_waiting_running_canceled(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *results[10];
        for (int i = 0; i < 10; i++)
                results[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
        brood_pool_statistics s = stats_of(pool);
        assert_int_equal(s.running, 2);
        assert_int_equal(s.waiting, 8);
        assert_int_equal(s.submitted, 10);
        for (int i = 0; i < 2; i++) {
                brood_worker_statistics w = worker_stats_of(pool, i);
                assert_true(w.running && w.pid > 0);
                assert_int_equal(w.tasks + w.failed + w.restarts + w.task_ns, 0);
        }
        for (int i = 7; i < 10; i++)
                assert_int_equal(brood_result_cancel(results[i], false), 0);
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < 10; i++)
                take_outcome(results[i]);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        /* It has ended; the numbers are still there. */
        s = stats_of(pool);
        assert_int_equal(s.outcomes[BROOD_OUTCOME_OK], 7);
        assert_int_equal(s.outcomes[BROOD_OUTCOME_CANCELED], 3);
        assert_int_equal(s.workers + s.running + s.waiting, 0);
        assert_int_equal(s.deaths + s.restarts, 0);
        assert_int_equal(worker_stats_of(pool, 0).pid, 0);
        assert_int_equal(worker_stats_of(pool, 0).tasks + worker_stats_of(pool, 1).tasks, 10);
        brood_pool_free(pool);
        tasks_finish();
}

/* What the pool's end has overtaken. */
static void test_overtaken(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        for (int i = 0; i < 5; i++)
                assert_int_equal(brood_pool_apply_async(pool, NULL, gated_task, &i, sizeof i), 0);
        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_statistics s = stats_of(pool);
        assert_int_equal(s.submitted, 5);
        assert_int_equal(s.ended + s.running + s.workers, 0);
        assert_int_equal(s.waiting, 5);
        brood_pool_free(pool);
        tasks_finish();
}

static void test_places_of_workers(void **state)
{
        (void)state;
        brood_pool *pool = make_timed_pool(2);
        brood_worker_statistics w;
        assert_int_equal(brood_pool_worker_stats(pool, 2, &w), -ESRCH);
        assert_int_equal(brood_pool_worker_stats(pool, -1, &w), -ESRCH);
        assert_int_equal(brood_pool_resize(pool, 5), 0);
        assert_int_equal(brood_pool_worker_stats(pool, 4, &w), 0);
        assert_int_equal(brood_pool_worker_stats(pool, 5, &w), -ESRCH);
        await_workers(pool, NULL);
        for (int i = 0; i < 500; i++)
                check_value(submit_int(pool, echo_task, i), i);
        assert_int_equal(brood_pool_resize(pool, 1), 0);
        for (int64_t end = support_now_ms() + CHECK_HANG_MS; stats_of(pool).workers != 1; usleep(300))
                assert_true(support_now_ms() < end);
        brood_pool_statistics s = stats_of(pool);
        uint64_t tasks = 0, busy = 0;
        for (int i = 0; i < 5; i++) {
                w = worker_stats_of(pool, i);
                tasks += w.tasks;
                busy += w.busy_ns;
        }
        assert_int_equal(tasks, 500);
        assert_true(busy == s.busy_ns && busy > 0);
        assert_int_equal(s.deaths + s.restarts, 0);
        end_pool(pool);
}

/* ---- who may read ---- */

static int read_in_child(void *arg)
{
        brood_pool *pool = arg;
        brood_pool_statistics s;
        brood_worker_statistics w;
        brood_histogram h;
        require_int(brood_pool_stats(pool, &s), 0);
        require_int(s.submitted, 20);
        require_int(s.outcomes[BROOD_OUTCOME_OK], 20);
        require_int(s.workers, 2);
        require_int(brood_pool_worker_stats(pool, 1, &w), 0);
        require(w.pid > 0 && kill(w.pid, 0) == 0);
        require_int(brood_pool_latency(pool, BROOD_LATENCY_RUN, &h), 0);
        require_int(h.count, 20);
        require_int(brood_pool_workers(pool, NULL, 0), -EPERM);
        brood_pool_free(pool);
        return 0;
}

static void test_in_a_forked_child(void **state)
{
        (void)state;
        brood_pool *pool = make_timed_pool(2);
        await_workers(pool, NULL);
        for (int i = 0; i < 20; i++)
                check_value(submit_int(pool, echo_task, i), i);
        check_in_child(read_in_child, pool);
        check_value(submit_int(pool, echo_task, 1), 1);
        end_pool(pool);
}

static void test_refused(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        union {
                brood_pool_statistics pool;
                brood_worker_statistics worker;
                char bytes[sizeof(brood_pool_statistics) + 8];
        } s;
        brood_histogram h;
        assert_int_equal(brood_pool_stats(NULL, &s.pool), -EINVAL);
        assert_int_equal(brood_pool_stats(pool, NULL), -EINVAL);
        assert_int_equal(brood_pool_stats_sized(pool, &s.pool, sizeof s), -E2BIG);
        assert_int_equal(brood_pool_worker_stats(NULL, 0, &s.worker), -EINVAL);
        assert_int_equal(brood_pool_worker_stats(pool, 0, NULL), -EINVAL);
        assert_int_equal(brood_pool_worker_stats_sized(pool, 0, &s.worker, sizeof s), -E2BIG);
        assert_int_equal(brood_pool_latency(NULL, BROOD_LATENCY_RUN, &h), -EINVAL);
        assert_int_equal(brood_pool_latency(pool, BROOD_LATENCY_RUN, NULL), -EINVAL);
        assert_int_equal(brood_pool_latency(pool, (brood_latency)2, &h), -EINVAL);
        assert_int_equal(brood_pool_latency(pool, BROOD_LATENCY_RUN, &h), -ENODATA);
        /* A program that knows only the first member gets that. */
        memset(&s, 0x55, sizeof s);
        assert_int_equal(brood_pool_stats_sized(pool, &s.pool, sizeof(uint64_t)), 0);
        assert_int_equal(s.pool.submitted, 0);
        assert_int_equal(s.bytes[sizeof(uint64_t)], 0x55);
        end_pool(pool);
}

/* ---- times ---- */

/* Each time is in the bucket whose bounds it lies within, and the buckets leave no gap. */
static void test_buckets(void **state)
{
        (void)state;
        assert_int_equal(brood_histogram_bound(0), 0);
        for (size_t i = 1; i + 1 < BROOD_HISTOGRAM_BUCKETS; i++) {
                int64_t below = brood_histogram_bound(i - 1), bound = brood_histogram_bound(i);
                assert_true(bound > below);
                assert_true(bound - below <= 1 || (bound - below) * 8 <= below + 1);
        }
        assert_true(brood_histogram_bound(BROOD_HISTOGRAM_BUCKETS - 2) > INT64_C(73) * 60 * 1000000000 * 9 / 10);
        assert_true(brood_histogram_bound(BROOD_HISTOGRAM_BUCKETS - 1) == INT64_MAX);
        assert_int_equal(brood_histogram_bound(BROOD_HISTOGRAM_BUCKETS), -1);

        static brood_histogram h;
        assert_int_equal(brood_histogram_percentile(NULL, 50), 0);
        assert_int_equal(brood_histogram_percentile(&h, 50), 0);
        h.buckets[3] = 50, h.buckets[100] = 49, h.buckets[200] = 1;
        h.count = 100, h.max_ns = (uint64_t)brood_histogram_bound(200) - 1;
        assert_true(brood_histogram_percentile(&h, -5) == brood_histogram_bound(3));
        assert_true(brood_histogram_percentile(&h, 50) == brood_histogram_bound(3));
        assert_true(brood_histogram_percentile(&h, 50.5) == brood_histogram_bound(100));
        assert_true(brood_histogram_percentile(&h, 99) == brood_histogram_bound(100));
        assert_true(brood_histogram_percentile(&h, 99.5) == (int64_t)h.max_ns);
        assert_true(brood_histogram_percentile(&h, 1000) == (int64_t)h.max_ns);
}

static void test_times(void **state)
{
        (void)state;
        enum { MS = 20, TASKS = 6, NS = 1000000 };
        brood_pool *pool = make_timed_pool(2);
        await_workers(pool, NULL);
        int64_t start = support_now_ms();
        brood_result *results[TASKS];
        for (int i = 0; i < TASKS; i++)
                results[i] = submit_int(pool, sleep_task, MS);
        for (int i = 0; i < TASKS; i++)
                check_value(results[i], MS);
        int64_t took = support_now_ms() - start + 1;
        brood_pool_statistics s = stats_of(pool);
        assert_true(s.busy_ns >= (uint64_t)TASKS * (MS - 1) * NS);
        assert_true(s.busy_ns <= (uint64_t)took * 2 * NS);
        brood_histogram run, wait;
        assert_int_equal(brood_pool_latency(pool, BROOD_LATENCY_RUN, &run), 0);
        assert_int_equal(brood_pool_latency(pool, BROOD_LATENCY_WAIT, &wait), 0);
        assert_int_equal(run.count, TASKS);
        assert_int_equal(wait.count, TASKS);
        assert_true(brood_histogram_percentile(&run, 0) >= (MS - 1) * NS);
        assert_true(run.sum_ns == s.busy_ns);
        assert_true(run.max_ns <= (uint64_t)took * NS);
        /* The last ones waited for two before them. */
        assert_true(brood_histogram_percentile(&wait, 100) >= 2 * (MS - 1) * NS);
        assert_true(brood_histogram_percentile(&wait, 100) <= took * NS);

        /* While nothing is done, all workers are idle; and what runs now is counted as it runs. */
        uint64_t idle = stats_of(pool).idle_ns;
        usleep(10000);
        assert_true(stats_of(pool).idle_ns >= idle + (uint64_t)2 * 10 * NS);
        assert_true(stats_of(pool).busy_ns == s.busy_ns);
        end_pool(pool);
}

/* A task that runs now, and one whose worker dies. */
static void test_times_of_what_runs(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_timed_pool(1);
        brood_result *result = submit_int(pool, gated_task, 1);
        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        usleep(5000);
        brood_worker_statistics w = worker_stats_of(pool, 0);
        assert_true(w.running);
        assert_true(w.task_ns >= 5000000 && w.busy_ns >= 5000000);
        assert_int_equal(kill(w.pid, SIGKILL), 0);
        check_failure(result, -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
        await_workers(pool, NULL);
        brood_worker_statistics after = worker_stats_of(pool, 0);
        assert_true(!after.running && after.busy_ns >= w.busy_ns);
        assert_int_equal(after.task_ns, 0);
        assert_int_equal(after.tasks, 1);
        assert_int_equal(after.failed, 1);
        assert_int_equal(after.restarts, 1);
        brood_histogram run;
        assert_int_equal(brood_pool_latency(pool, BROOD_LATENCY_RUN, &run), 0);
        assert_int_equal(run.count, 0);
        end_pool(pool);
        tasks_finish();
}

/* One that is not timed, of a task that has limits. */
static void test_time_of_a_task_with_terms(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        brood_result *result =
            submit_task(pool, .function = gated_task, .arg = &(int){ 1 }, .size = sizeof(int), .measured = true);
        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        usleep(2000);
        assert_true(worker_stats_of(pool, 0).task_ns >= 2000000);
        atomic_store(&tasks_page->gate, 1);
        check_value(result, 1);
        end_pool(pool);
        tasks_finish();
}

/* ---- killed ---- */

/* Workers are killed at any moment, and yet the books say what the host has seen. */
static void test_workers_are_killed(void **state)
{
        (void)state;
        enum { TASKS = 2000, ROUNDS = 600 };
        static brood_result *results[TASKS];
        uint64_t wanted[BROOD_STATISTICS_OUTCOMES] = { 0 }, submitted = 0;
        struct workers_killer killer = { .pool = make_timed_pool(3), .seed = support_random(UINT64_MAX) };
        struct check_thread thread;
        check_thread_start(&thread, kill_workers_at_random, &killer);
        for (int round = 0, rounds = support_rounds(ROUNDS); round < rounds; round++) {
                for (int i = 0; i < TASKS; i++, submitted++)
                        results[i] = submit_task(killer.pool, .function = i % 5 ? echo_task : fail_task, .arg = &i,
                                                 .size = sizeof i, .retries = i % 7 ? 0 : 3);
                for (int i = 0; i < TASKS; i++)
                        wanted[take_outcome(results[i])]++;
                brood_pool_statistics s = stats_of(killer.pool);
                assert_int_equal(s.submitted, submitted);
                assert_int_equal(s.ended, submitted);
                assert_memory_equal(s.outcomes, wanted, sizeof wanted);
        }
        atomic_store(&killer.stop, 1);
        assert_int_equal(check_thread_join(&thread), 0);
        brood_pool_statistics s = stats_of(killer.pool);
        print_message("%d kills, %llu of them in tasks\n", killer.kills,
                      (unsigned long long)(s.outcomes[BROOD_OUTCOME_SIGNALED] + s.retried));
        assert_null(brood_pool_reason(killer.pool));
        end_pool(killer.pool);
}

/* A worker's last steps with a task, one instruction after the other. */
struct scene {
        struct worker_counts counts;
        atomic_u64 state;
        struct step_mark mark;
};

static void count_and_end(void *arg)
{
        struct scene *scene = arg;
        counts_end(&scene->counts, BROOD_OUTCOME_OK);
        exchange_seq_cst(&scene->state, TASK_DONE);
}

static void test_killed_at_each_instruction(void **state)
{
        (void)state;
        const char *why;
        if (!step_possible(&why)) {
                print_message("skipped: %s\n", why);
                skip();
        }
        struct scene *scene = check_shared(sizeof *scene);
        bool more = true;
        int done = 0, undone = 0;
        for (long k = 0; more && k < 1000; k++) {
                memset(scene, 0, sizeof *scene);
                atomic_store(&scene->counts.ended[BROOD_OUTCOME_OK], 41);
                atomic_store(&scene->state, TASK_RUNNING);
                struct step_victim victim = { .call = count_and_end, .arg = scene, .mark = &scene->mark };
                pid_t pid = step_start(&victim);
                assert_true(pid > 0);
                long count;
                more = step_run(pid, &scene->mark, k, true, NULL, &count) != STEP_ENDED;
                step_kill(pid);
                bool is_done = atomic_load(&scene->state) == TASK_DONE;
                /* Twice is no more than once. */
                for (int i = 0; i < 2; i++) {
                        counts_settle(&scene->counts, is_done);
                        assert_int_equal(atomic_load(&scene->counts.ended[BROOD_OUTCOME_OK]), 41 + is_done);
                }
                *(is_done ? &done : &undone) += 1;
        }
        assert_false(more);
        print_message("%d kills before the end, %d after\n", undone, done);
        assert_true(undone > 5 && done > 0);
        munmap(scene, sizeof *scene);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_each_end_is_counted),
                support_test(test_waiting_running_canceled),
                support_test(test_overtaken),
                support_test(test_places_of_workers),
                support_test(test_in_a_forked_child),
                support_test(test_refused),
                support_test(test_buckets),
                support_test(test_times),
                support_test(test_times_of_what_runs),
                support_test(test_time_of_a_task_with_terms),
                support_test(test_workers_are_killed),
                support_test(test_killed_at_each_instruction),
        };
        return support_main(argc, argv, "stats", tests, array_length(tests), 120);
}
