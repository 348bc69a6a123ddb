/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_terms.c: tasks on terms of their own: retries and limits.
 */
#include "tasks.h"

#include <limits.h>

/* ---- retries ---- */

static void test_retries(void **state)
{
        (void)state;
        tasks_begin();
        for (int workers = 1; workers <= 3; workers += 2) {
                brood_pool *pool = make_pool(workers);
                for (int times = 1; times <= 4; times++) {
                        atomic_store(&tasks_page->started, 0);
                        check_value(submit_task(pool, .function = nth_time_task, .arg = &times, .size = sizeof times,
                                                .retries = 3),
                                    times);
                        assert_int_equal(atomic_load(&tasks_page->started), times);
                }
                /* One time too many. */
                atomic_store(&tasks_page->started, 0);
                check_failure(
                    submit_task(pool, .function = nth_time_task, .arg = &(int){ 5 }, .size = sizeof(int), .retries = 3),
                    -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
                assert_int_equal(atomic_load(&tasks_page->started), 4);
                end_pool(pool);
        }
        tasks_finish();
}

/* Each time after twice the time of before; and others are served meanwhile. */
static void test_backoff(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        int64_t start = support_now_ms();
        brood_result *result = submit_task(pool, .function = nth_time_task, .arg = &(int){ 4 }, .size = sizeof(int),
                                           .retries = 3, .backoff_ms = 40);
        for (int i = 0; i < 100; i++)
                check_value(submit_int(pool, echo_task, i), i);
        check_value(result, 4);
        assert_true(tasks_page->moment - start >= 40 + 80 + 160);
        end_pool(pool);
        tasks_finish();
}

/* What is to be tried again when the pool is closed, still is: at once, and later; with workers that are busy, and with none. */
enum { AT_ONCE = 8 };

/* The first of them wait for each other, and kill their workers. */
static ssize_t die_together_task(const void *arg, size_t size, void *out, size_t room)
{
        if (atomic_fetch_add(&tasks_page->started, 1) < AT_ONCE) {
                while (atomic_load(&tasks_page->started) < AT_ONCE)
                        usleep(10);
                kill(getpid(), SIGKILL);
        }
        return echo_task(arg, size, out, room);
}

/* A retry that becomes due while the keeper is starting workers is not forgotten. */
static void test_due_meanwhile(void **state)
{
        (void)state;
        for (int round = 0; round < 20; round++) {
                brood_result *results[AT_ONCE];
                tasks_begin();
                brood_pool *pool = make_pool(AT_ONCE);
                for (int i = 0; i < AT_ONCE; i++)
                        results[i] = submit_task(pool, .function = die_together_task, .arg = &i, .size = sizeof i,
                                                 .retries = 1, .backoff_ms = 1);
                for (int i = 0; i < AT_ONCE; i++)
                        check_value(results[i], i);
                end_pool(pool);
                tasks_finish();
        }
}

static void test_retries_after_close(void **state)
{
        (void)state;
        tasks_begin();
        for (int backoff_ms = 0; backoff_ms <= 60; backoff_ms += 30) {
                brood_pool *pool = make_pool(2);
                brood_result *results[8];
                atomic_store(&tasks_page->started, 0);
                for (int i = 0; i < 8; i++)
                        results[i] = submit_task(pool, .function = nth_time_task, .arg = &(int){ 20 },
                                                 .size = sizeof(int), .retries = 19, .backoff_ms = backoff_ms / 10);
                assert_int_equal(brood_pool_close(pool), 0);
                assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                for (int i = 0; i < 8; i++)
                        check_value(results[i], 20);
                assert_int_equal(atomic_load(&tasks_page->started), 19 + 8);
                brood_pool_free(pool);
        }
        tasks_finish();
}

/* Terminated while tasks wait for their time: they end with the pool. */
static void test_terminate_with_retries(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *result = submit_task(pool, .function = nth_time_task, .arg = &(int){ 100 }, .size = sizeof(int),
                                           .retries = 100, .backoff_ms = 1000000);
        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        await_workers(pool, NULL);
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        check_failure(result, -ECANCELED, BROOD_OUTCOME_CANCELED, 0);
        brood_pool_free(pool);
        tasks_finish();
}

/* The keeper knows what is to be tried again: without it, that fails like all that had not ended. */
static void test_keeper_dies_before_a_retry(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        pid_t pids[16];
        await_workers(pool, pids);
        pid_t keeper = support_parent_of(pids[0]);
        brood_result *result = submit_task(pool, .function = nth_time_task, .arg = &(int){ 100 }, .size = sizeof(int),
                                           .retries = 100, .backoff_ms = 1000000);
        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        check_value(submit_int(pool, echo_task, 1), 1); /* by the next worker: the task is QUEUED again */
        kill(keeper, SIGKILL);
        check_failure(result, -EPIPE, BROOD_OUTCOME_BROKEN, 0);
        assert_int_equal(atomic_load(&tasks_page->started), 1);
        assert_true(pool_breaks(pool));
        brood_pool_free(pool);
        tasks_finish();
}

/* Tasks that kill every worker they meet, beside thousands that must succeed. */
static void test_killers_hurt_nobody_else(void **state)
{
        (void)state;
        enum { OTHERS = 4000, KILLERS = 20, RETRIES = 3 };
        static brood_result *others[OTHERS], *killers[KILLERS];
        brood_pool *pool = make_pool(3);
        for (int i = 0; i < OTHERS; i++) {
                if (i % (OTHERS / KILLERS) == 0)
                        killers[i / (OTHERS / KILLERS)] =
                            submit_task(pool, .function = die_task, .arg = &(int){ SIGKILL }, .size = sizeof(int),
                                        .retries = RETRIES, .backoff_ms = i % 3);
                others[i] = submit_int(pool, echo_task, i);
        }
        for (int i = 0; i < OTHERS; i++)
                check_value(others[i], i);
        for (int i = 0; i < KILLERS; i++)
                check_failure(killers[i], -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
        assert_null(brood_pool_reason(pool));
        await_workers(pool, NULL);
        end_pool(pool);
}

/* ---- limits ---- */

static void test_time_limits(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        brood_task_function functions[] = { sleep_task, stubborn_task };
        for (int i = 0; i < 4; i++) {
                brood_result *result = submit_task(pool, .function = functions[i % 2], .arg = &(int){ FOREVER_MS },
                                                   .size = sizeof(int), .timeout_ms = 30);
                for (int j = 0; j < 50; j++)
                        check_value(submit_int(pool, echo_task, j), j);
                check_failure(result, -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        }
        /* Nobody is killed for a limit that he keeps, nor for one of a task that has ended. */
        pid_t before[16], after[16];
        await_workers(pool, before);
        for (int i = 0; i < 200; i++)
                check_value(submit_task(pool, .function = sleep_task, .arg = &(int){ i % 2 }, .size = sizeof(int),
                                        .timeout_ms = CHECK_HANG_MS, .soft_timeout_ms = CHECK_HANG_MS / 2),
                            i % 2);
        await_workers(pool, after);
        assert_memory_equal(before, after, 2 * sizeof(pid_t));
        end_pool(pool);
}

static long count_sleeps(pid_t pid)
{
        char path[64], line[256];
        long count = -1;
        snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        while (fgets(line, sizeof line, file) && sscanf(line, "voluntary_ctxt_switches: %ld", &count) != 1)
                ;
        fclose(file);
        assert_true(count >= 0);
        return count;
}

/* The keeper sleeps while tasks keep their limits. */
static void test_limits_wake_nobody(void **state)
{
        (void)state;
        enum { TASKS = 2000 };
        static brood_result *results[TASKS];
        brood_pool *pool = make_pool(2);
        pid_t pids[16];
        await_workers(pool, pids);
        pid_t keeper = support_parent_of(pids[0]);
        for (int limited = 0; limited < 2; limited++) {
                long before = count_sleeps(keeper);
                for (int i = 0; i < TASKS; i++)
                        results[i] = submit_task(pool, .function = echo_task, .arg = &i, .size = sizeof i,
                                                 .timeout_ms = limited * FOREVER_MS, .cpu_ms = limited * FOREVER_MS,
                                                 .retries = limited);
                for (int i = 0; i < TASKS; i++)
                        check_value(results[i], i);
                long sleeps = count_sleeps(keeper) - before;
                if (sleeps > 20)
                        fprintf(stderr, "%ld sleeps of the keeper, limited: %d\n", sleeps, limited);
                assert_true(sleeps <= 20);
        }
        end_pool(pool);
}

/* A limit that is about as long as the task: it is either done or late, and the next one is not hurt. */
static void test_limits_that_are_just_reached(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        int late = 0;
        for (int i = 0; i < 200; i++) {
                brood_result *result =
                    submit_task(pool, .function = sleep_task, .arg = &(int){ 2 }, .size = sizeof(int),
                                .timeout_ms = 2 + i % 2, .soft_timeout_ms = i % 3 ? 2 : 0);
                brood_result *next = submit_int(pool, echo_task, i);
                int value = 0;
                ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
                if (n < 0) {
                        assert_int_equal(n, -ETIME);
                        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_TIME);
                        late++;
                } else {
                        assert_int_equal(value, 2);
                }
                brood_result_free(result);
                check_value(next, i);
        }
        printf("%d of 200 tasks were late\n", late);
        end_pool(pool);
}

static volatile sig_atomic_t warned;

static void on_warning(int signal)
{
        (void)signal;
        warned = 1;
}

/* Hears the warning, and returns its argument. */
static ssize_t heedful_task(const void *arg, size_t size, void *out, size_t room)
{
        signal(BROOD_SOFT_TIMEOUT_SIGNAL, on_warning);
        for (int64_t end = support_now_ms() + FOREVER_MS; support_now_ms() < end && !warned;)
                usleep(1000);
        return echo_task(arg, size, out, room);
}

static void test_soft_time_limits(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < 5; i++) {
                check_value(submit_task(pool, .function = heedful_task, .arg = &i, .size = sizeof i,
                                        .soft_timeout_ms = 20, .timeout_ms = CHECK_HANG_MS),
                            i);
                /* Without a handler it is a limit like the hard one. */
                check_failure(submit_task(pool, .function = sleep_task, .arg = &(int){ FOREVER_MS },
                                          .size = sizeof(int), .soft_timeout_ms = 20),
                              -ETIME, BROOD_OUTCOME_TIME, -BROOD_SOFT_TIMEOUT_SIGNAL);
                /* Who does not hear it, meets the hard one. */
                check_failure(submit_task(pool, .function = stubborn_task, .arg = &(int){ FOREVER_MS },
                                          .size = sizeof(int), .soft_timeout_ms = 10, .timeout_ms = 40),
                              -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        }
        end_pool(pool);
}

static ssize_t burn_task(const void *arg, size_t size, void *out, size_t room)
{
        struct timespec used;
        do
                clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < *(const int *)arg);
        return echo_task(arg, size, out, room);
}

static void test_cpu_limits(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < 3; i++)
                check_failure(submit_task(pool, .function = burn_task, .arg = &(int){ FOREVER_MS }, .size = sizeof(int),
                                          .cpu_ms = 30 + i),
                              -ETIME, BROOD_OUTCOME_CPU, -SIGKILL);
        /* Sleep is not work. */
        check_value(submit_task(pool, .function = sleep_task, .arg = &(int){ 300 }, .size = sizeof(int), .cpu_ms = 200),
                    300);
        end_pool(pool);
}

static ssize_t hoard_task(const void *arg, size_t size, void *out, size_t room)
{
        size_t bytes = *(const size_t *)arg;
        char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return -ENOMEM;
        munmap(memory, bytes);
        return echo_task(arg, size, out, room);
}

static void test_memory_limits(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        size_t much = (size_t)256 << 20, got = 0;
        pid_t before[16], after[16];
        await_workers(pool, before);
        for (int i = 0; i < 3; i++) {
                check_failure(submit_task(pool, .function = hoard_task, .arg = &much, .size = sizeof much,
                                          .memory_limit = (uint64_t)64 << 20),
                              -ENOMEM, BROOD_OUTCOME_MEMORY, 0);
                /* The limit is of the one task only; and it is that of a process that may have much already. */
                for (int j = 0; j < 2; j++) {
                        brood_result *result =
                            submit_task(pool, .function = hoard_task, .arg = &much, .size = sizeof much,
                                        .memory_limit = j ? (uint64_t)320 << 20 : 0);
                        assert_int_equal(brood_result_get(result, &got, sizeof got, CHECK_HANG_MS), sizeof got);
                        brood_result_free(result);
                }
        }
        await_workers(pool, after);
        assert_int_equal(before[0], after[0]);
        end_pool(pool);
}

/* Limits count for each try. */
static ssize_t late_at_first_task(const void *arg, size_t size, void *out, size_t room)
{
        if (atomic_fetch_add(&tasks_page->started, 1) < 2)
                return sleep_task(&(int){ FOREVER_MS }, sizeof(int), out, room);
        return echo_task(arg, size, out, room);
}

static void test_limits_and_retries(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        check_value(submit_task(pool, .function = late_at_first_task, .arg = &(int){ 3 }, .size = sizeof(int),
                                .timeout_ms = 30, .retries = 2),
                    3);
        assert_int_equal(atomic_load(&tasks_page->started), 3);
        atomic_store(&tasks_page->started, 0);
        check_failure(submit_task(pool, .function = late_at_first_task, .arg = &(int){ 3 }, .size = sizeof(int),
                                  .timeout_ms = 30, .retries = 1),
                      -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        end_pool(pool);
        tasks_finish();
}

/* ---- what is refused ---- */

static void test_bad_terms(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        brood_result *result = NULL;
        const brood_task_options bad[] = {
                { .function = NULL },
                { .function = echo_task, .size = 1 },
                { .function = echo_task, .retries = -1 },
                { .function = echo_task, .backoff_ms = -1 },
                { .function = echo_task, .soft_timeout_ms = -1 },
                { .function = echo_task, .timeout_ms = -1 },
                { .function = echo_task, .cpu_ms = INT_MIN },
                { .function = echo_task, .room = BROOD_POOL_RESULT_SIZE_LIMIT + 1 },
                { .function = echo_task, .memory_limit = UINT64_MAX },
        };
        for (size_t i = 0; i < array_length(bad); i++)
                assert_int_equal(brood_pool_submit(pool, &result, &bad[i]), -EINVAL);
        struct {
                brood_task_options known;
                uint64_t unknown;
        } newer = { .known = { .function = echo_task }, .unknown = 1 };
        assert_int_equal(brood_pool_submit_sized(pool, &result, &newer.known, sizeof newer), -E2BIG);
        assert_int_equal(brood_pool_submit(pool, &result, NULL), -EINVAL);
        assert_int_equal(brood_pool_submit(NULL, &result, &(brood_task_options){ .function = echo_task }), -EINVAL);
        assert_null(result);

        /* A room of its own, smaller and larger than the pool's. */
        char big[5000] = "x", back[5000];
        result = submit_task(pool, .function = echo_task, .arg = big, .size = sizeof big, .room = sizeof big);
        assert_int_equal(brood_result_get(result, back, sizeof back, CHECK_HANG_MS), sizeof big);
        brood_result_free(result);
        check_failure(submit_task(pool, .function = echo_task, .arg = big, .size = 20, .room = 19, .measured = true),
                      -EMSGSIZE, BROOD_OUTCOME_ERROR, 0);
        assert_int_equal(brood_pool_submit(pool, NULL, &(brood_task_options){ .function = echo_task, .retries = 1 }),
                         0);
        end_pool(pool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_retries),
                support_test(test_backoff),
                support_test(test_due_meanwhile),
                support_test(test_retries_after_close),
                support_test(test_terminate_with_retries),
                support_test(test_keeper_dies_before_a_retry),
                support_test(test_killers_hurt_nobody_else),
                support_test(test_time_limits),
                support_test(test_limits_wake_nobody),
                support_test(test_limits_that_are_just_reached),
                support_test(test_soft_time_limits),
                support_test(test_cpu_limits),
                support_test(test_memory_limits),
                support_test(test_limits_and_retries),
                support_test(test_bad_terms),
        };
        return tasks_main(argc, argv, "terms", tests, array_length(tests), 120);
}
