/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_workers.c: workers that come and go: finalizers, state, numbers, replacement after some tasks, more of them and
 * fewer; and tasks that treat their worker badly.
 */
#include "tasks.h"

#include <poll.h>
#include <sys/syscall.h>

/* ---- what a worker has ---- */

struct state {
        int number, tasks;
};

static int make_state(void *arg)
{
        struct state *state = calloc(1, sizeof *state);
        if (state == NULL || brood_worker_state() != NULL)
                return -ENOMEM;
        state->number = *(int *)arg;
        brood_worker_set_state(state);
        atomic_fetch_add(&tasks_page->initialized, 1);
        return 0;
}

static void drop_state(void *arg)
{
        struct state *state = brood_worker_state();
        atomic_fetch_add(&tasks_page->ended, 1);
        atomic_fetch_add(&tasks_page->number, state->number == *(int *)arg ? state->tasks : 1000000);
        free(state);
}

static ssize_t state_task(const void *arg, size_t size, void *out, size_t room)
{
        struct state *state = brood_worker_state();
        (void)arg, (void)size, (void)room;
        state->tasks++;
        memcpy(out, &(int){ brood_worker_id() }, sizeof(int));
        return sizeof(int);
}

static brood_pool *make_pool_with_state(int processes, size_t max_tasks_per_child)
{
        static int number = 4711;
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = processes,
                                                                      .initializer = make_state,
                                                                      .initarg = &number,
                                                                      .initarg_size = sizeof number,
                                                                      .finalizer = drop_state,
                                                                      .max_tasks_per_child = max_tasks_per_child }),
                         0);
        return pool;
}

static void run_state_tasks(brood_pool *pool, int count)
{
        brood_result *results[500];
        assert_true(count <= 500);
        for (int i = 0; i < count; i++)
                results[i] = submit_int(pool, state_task, i);
        for (int i = 0; i < count; i++) {
                int id = -1;
                assert_int_equal(brood_result_get(results[i], &id, sizeof id, CHECK_HANG_MS), sizeof id);
                assert_true(id >= 0 && id < 3);
                brood_result_free(results[i]);
        }
}

static void test_state_and_finalizer(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool_with_state(3, 0);
        run_state_tasks(pool, 300);
        assert_int_equal(atomic_load(&tasks_page->ended), 0);
        end_pool(pool);
        assert_int_equal(atomic_load(&tasks_page->initialized), 3);
        assert_int_equal(atomic_load(&tasks_page->ended), 3);
        assert_int_equal(atomic_load(&tasks_page->number), 300);
        /* Not where it is terminated. */
        pool = make_pool_with_state(2, 0);
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
        assert_int_equal(atomic_load(&tasks_page->ended), 3);
        assert_int_equal(brood_worker_id(), -ESRCH);
        assert_null(brood_worker_state());
        tasks_finish();
}

static void test_max_tasks_per_child(void **state)
{
        (void)state;
        for (int most = 1; most <= 7; most += 3) {
                tasks_begin();
                brood_pool *pool = make_pool_with_state(3, (size_t)most);
                run_state_tasks(pool, 120);
                end_pool(pool);
                assert_int_equal(atomic_load(&tasks_page->number), 120);
                assert_int_equal(atomic_load(&tasks_page->initialized), atomic_load(&tasks_page->ended));
                assert_true(atomic_load(&tasks_page->initialized) >= 120 / most);
                tasks_finish();
        }
}

static void die_in_finalizer(void *arg)
{
        (void)arg;
        kill(getpid(), SIGKILL);
}

static void test_finalizers_that_die(void **state)
{
        (void)state;
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2,
                                                                      .finalizer = die_in_finalizer,
                                                                      .max_tasks_per_child = 2 }),
                         0);
        for (int i = 0; i < 40; i++)
                check_value(submit_int(pool, echo_task, i), i);
        assert_null(brood_pool_reason(pool));
        end_pool(pool);
}

/* ---- more and fewer ---- */

static bool has_workers(brood_pool *pool, int count)
{
        int n = 0;
        for (int64_t end = support_now_ms() + CHECK_HANG_MS; support_now_ms() < end; usleep(300))
                if ((n = brood_pool_workers(pool, NULL, 0)) == count)
                        return true;
        fprintf(stderr, "%d workers instead of %d\n", n, count);
        return false;
}

static void test_grow(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        brood_result *results[12];
        for (int i = 0; i < 12; i++)
                results[i] = submit_int(pool, gated_task, i);
        for (int n = 1; n <= 12; n = n * 2 + (n == 4)) {
                assert_int_equal(brood_pool_resize(pool, n), 0);
                assert_int_equal(brood_pool_processes(pool), n);
                assert_true(check_reaches(&tasks_page->started, n, CHECK_HANG_MS));
                assert_true(has_workers(pool, n));
        }
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < 12; i++)
                check_value(results[i], i);
        end_pool(pool);
        tasks_finish();
}

static void test_shrink(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(6);
        brood_result *results[50];
        /* Idle ones end at once. */
        await_workers(pool, NULL);
        assert_int_equal(brood_pool_resize(pool, 4), 0);
        assert_true(has_workers(pool, 4));
        /* Busy ones do when they are done; what they have not begun is for the others. */
        for (int i = 0; i < 50; i++)
                results[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, 4, CHECK_HANG_MS));
        assert_int_equal(brood_pool_resize(pool, 1), 0);
        usleep(20000);
        assert_true(has_workers(pool, 4));
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < 50; i++)
                check_value(results[i], i);
        assert_true(has_workers(pool, 1));
        for (int i = 0; i < 50; i++)
                check_value(submit_int(pool, echo_task, i), i);
        /* And back, also over one that is still there. */
        assert_int_equal(brood_pool_resize(pool, 3), 0);
        assert_int_equal(brood_pool_resize(pool, 2), 0);
        assert_int_equal(brood_pool_resize(pool, 5), 0);
        assert_true(has_workers(pool, 5));
        end_pool(pool);
        tasks_finish();
}

static void test_resize_under_load(void **state)
{
        (void)state;
        enum { TASKS = 3000 };
        static brood_result *results[TASKS];
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < TASKS; i++) {
                results[i] = submit_int(pool, echo_task, i);
                if (i % 50 == 0) {
                        pid_t pids[16];
                        int n = brood_pool_workers(pool, pids, 16);
                        assert_int_equal(brood_pool_resize(pool, 1 + (int)support_random(8)), 0);
                        if (n > 0 && n <= 16 && i % 100 == 0)
                                kill(pids[support_random((uint64_t)n)], SIGKILL);
                }
        }
        int dead = 0;
        for (int i = 0; i < TASKS; i++) {
                int value = -1;
                ssize_t n = brood_result_get(results[i], &value, sizeof value, CHECK_HANG_MS);
                if (n == -EOWNERDEAD)
                        dead++;
                else
                        assert_int_equal(n, sizeof value);
                assert_true(n < 0 || value == i);
                brood_result_free(results[i]);
        }
        assert_true(dead <= TASKS / 100 + 1);
        assert_int_equal(brood_pool_resize(pool, 3), 0);
        assert_true(has_workers(pool, 3));
        end_pool(pool);
}

static void test_resize_is_refused(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        assert_int_equal(brood_pool_resize(NULL, 1), -EINVAL);
        assert_int_equal(brood_pool_resize(pool, 0), -EINVAL);
        assert_int_equal(brood_pool_resize(pool, -1), -EINVAL);
        assert_int_equal(brood_pool_resize(pool, BROOD_POOL_PROCESSES_LIMIT + 1), -EINVAL);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_resize(pool, 2), -EPIPE);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
        pool = make_pool(1);
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_pool_resize(pool, 2), -ECANCELED);
        brood_pool_free(pool);
}

/* ---- tasks that treat their worker badly ---- */

/* Two processes come back from it; the result is the first's. */
static ssize_t forking_task(const void *arg, size_t size, void *out, size_t room)
{
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        int value = pid > 0 ? *(const int *)arg : -1;
        if (pid > 0)
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        else if (brood_worker_id() != -ESRCH)
                value = -2;
        atomic_fetch_add(&tasks_page->started, 1);
        return echo_task(&value, size, out, room);
}

/* The same, but the second comes back when other tasks are run already. */
static ssize_t late_fork_task(const void *arg, size_t size, void *out, size_t room)
{
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                usleep(1000 * (useconds_t) * (const int *)arg);
                return -EIO;
        }
        return echo_task(arg, size, out, room);
}

static ssize_t reap_task(const void *arg, size_t size, void *out, size_t room)
{
        int count = 0;
        while (waitpid(-1, NULL, 0) > 0)
                count++;
        (void)arg, (void)size, (void)room;
        memcpy(out, &count, sizeof count);
        return sizeof count;
}

static ssize_t close_all_task(const void *arg, size_t size, void *out, size_t room)
{
        syscall(SYS_close_range, 0, ~0U, 0);
        return echo_task(arg, size, out, room);
}

static ssize_t block_all_task(const void *arg, size_t size, void *out, size_t room)
{
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        return echo_task(arg, size, out, room);
}

static ssize_t exit_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size, (void)out, (void)room;
        exit(*(const int *)arg);
}

#if !CHECK_ASAN
static ssize_t trample_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size, (void)out, (void)room;
        char *memory = malloc(64);
        memset(memory - *(const int *)arg, 0xa5, 64 + 2 * (size_t) * (const int *)arg);
        free(memory);
        free(memory);
        abort();
}
#endif

static void test_a_task_that_forks(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < 20; i++)
                check_value(submit_int(pool, forking_task, i), i);
        assert_int_equal(atomic_load(&tasks_page->started), 40);
        for (int i = 0; i < 20; i++)
                check_value(submit_int(pool, echo_task, i), i);
        end_pool(pool);

        pool = make_pool(1);
        for (int i = 0; i < 10; i++)
                check_value(submit_int(pool, late_fork_task, i), i);
        for (int64_t end = support_now_ms() + 20; support_now_ms() < end;)
                check_value(submit_int(pool, echo_task, 1), 1);
        check_value(submit_int(pool, reap_task, 0), 10);
        end_pool(pool);
        tasks_finish();
}

static void test_tasks_that_close_all_descriptors(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        for (int i = 0; i < 10; i++) {
                pid_t before[16], after[16];
                await_workers(pool, before);
                check_value(submit_int(pool, close_all_task, i), i);
                /* The worker is as good as before for tasks that nobody watches... */
                check_value(submit_int(pool, echo_task, i), i);
                await_workers(pool, after);
                assert_int_equal(before[0], after[0]);
                /* ...and replaced by or after one that it cannot tell of, or that it could not be held to its limits for. */
                if (i % 2) {
                        brood_result *result = submit_int(pool, sleep_task, 20);
                        struct pollfd poll_for = { .fd = brood_result_fileno(result), .events = POLLIN };
                        int64_t end = support_now_ms() + CHECK_HANG_MS;
                        while (brood_result_ready(result) == 0) {
                                assert_true(support_now_ms() < end);
                                assert_int_equal(poll(&poll_for, 1, CHECK_HANG_MS), 1);
                        }
                        check_value(result, 20);
                } else {
                        check_failure(submit_task(pool, .function = stubborn_task, .arg = &(int){ FOREVER_MS },
                                                  .size = sizeof(int), .timeout_ms = 30),
                                      -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
                }
                check_value(submit_int(pool, echo_task, i), i);
                await_workers(pool, after);
                assert_int_not_equal(before[0], after[0]);
        }
        end_pool(pool);
}

static void test_other_bad_tasks(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < 6; i++) {
                check_value(submit_int(pool, block_all_task, i), i);
                /* A worker that hears no signal can be killed all the same. */
                check_failure(submit_task(pool, .function = sleep_task, .arg = &(int){ FOREVER_MS },
                                          .size = sizeof(int), .timeout_ms = 20),
                              -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
                check_failure(submit_int(pool, exit_task, i), -EOWNERDEAD, BROOD_OUTCOME_EXITED, i);
#if !CHECK_ASAN
                brood_result *result = submit_int(pool, trample_task, 16);
                assert_int_equal(brood_result_get(result, NULL, 0, CHECK_HANG_MS), -EOWNERDEAD);
                brood_result_free(result);
#endif
                check_value(submit_int(pool, echo_task, i), i);
        }
        assert_null(brood_pool_reason(pool));
        end_pool(pool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_state_and_finalizer),
                support_test(test_max_tasks_per_child),
                support_test(test_finalizers_that_die),
                support_test(test_grow),
                support_test(test_shrink),
                support_test(test_resize_under_load),
                support_test(test_resize_is_refused),
                support_test(test_a_task_that_forks),
                support_test(test_tasks_that_close_all_descriptors),
                support_test(test_other_bad_tasks),
        };
        return tasks_main(argc, argv, "workers", tests, array_length(tests), 120);
}
