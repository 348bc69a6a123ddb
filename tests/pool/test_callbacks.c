/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_callbacks.c: what include/brood/pool.h says of callbacks, of brood_pool_dispatch() and brood_pool_fileno().
 */
#include "tasks.h"

#include <brood/completions.h>
#include <brood/map.h>

#include <poll.h>

enum { SHORT_MS = 30, MOST = 5000 };

/* What the callbacks have seen. */
static struct {
        atomic_int ok, failed; /* how many were run */
        atomic_int running, overlaps;
        int values[MOST]; /* in the order in which they were run; of the failed ones, their errors */
        atomic_int count;
        brood_pool *pool;
        pthread_t thread;
} seen;

static void see(brood_result *result, int value)
{
        if (atomic_fetch_add(&seen.running, 1) != 0)
                atomic_fetch_add(&seen.overlaps, 1);
        if (brood_result_ready(result) == 1 && seen.count < MOST)
                seen.values[seen.count++] = value;
        seen.thread = pthread_self();
        atomic_fetch_sub(&seen.running, 1);
}

static void on_result(brood_result *result, void *arg)
{
        int value = -1;
        (void)arg;
        brood_result_get(result, &value, sizeof value, 0);
        see(result, value);
        atomic_fetch_add(&seen.ok, 1);
}

static void on_error(brood_result *result, void *arg)
{
        (void)arg;
        see(result, (int)brood_result_get(result, NULL, 0, 0));
        atomic_fetch_add(&seen.failed, 1);
}

static void begin(void)
{
        memset(&seen, 0, sizeof seen);
        tasks_begin();
}

static brood_task_options calling(brood_task_function function, const int *value)
{
        return (brood_task_options){
                .function = function,
                .arg = value,
                .size = sizeof *value,
                .callback = on_result,
                .error_callback = on_error,
        };
}

/* With callbacks, and without a handle. */
static void submit_calling(brood_pool *pool, brood_task_function function, int value)
{
        brood_task_options options = calling(function, &value);
        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
}

static brood_result *submit_calling_mine(brood_pool *pool, brood_task_function function, int value)
{
        brood_result *result = NULL;
        brood_task_options options = calling(function, &value);
        assert_int_equal(brood_pool_submit(pool, &result, &options), 0);
        assert_non_null(result);
        return result;
}

/* Dispatch, and nothing else, until so many callbacks have run. */
static void dispatch_until(brood_pool *pool, int count)
{
        for (int64_t end = support_now_ms() + CHECK_HANG_MS; seen.ok + seen.failed < count; usleep(100)) {
                assert_true(support_now_ms() < end);
                assert_true(brood_pool_dispatch(pool) >= 0);
        }
}

static ssize_t fail_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size, (void)out, (void)room;
        return *(const int *)arg;
}

static void test_each_is_run_once(void **state)
{
        (void)state;
        enum { TASKS = 3000 };
        begin();
        brood_pool *pool = make_pool(2);
        assert_int_equal(brood_pool_dispatch(pool), 0);
        for (int i = 0; i < TASKS; i++)
                submit_calling(pool, i % 3 ? echo_task : fail_task, i % 3 ? i : -ENOTDIR);
        dispatch_until(pool, TASKS);
        assert_int_equal(seen.ok, TASKS - TASKS / 3);
        assert_int_equal(seen.failed, TASKS / 3);
        assert_int_equal(brood_pool_dispatch(pool), 0);
        int64_t sum = 0;
        for (int i = 0; i < TASKS; i++)
                sum += seen.values[i] == -ENOTDIR ? 0 : seen.values[i];
        int64_t wanted = 0;
        for (int i = 0; i < TASKS; i++)
                wanted += i % 3 ? i : 0;
        assert_true(sum == wanted);
        end_pool(pool);
        assert_int_equal(seen.ok + seen.failed, TASKS);
        tasks_finish();
}

/* One worker ends its tasks in the order in which they came. */
static void test_in_the_order_of_the_ends(void **state)
{
        (void)state;
        enum { TASKS = 300 };
        begin();
        brood_pool *pool = make_pool(1);
        for (int i = 0; i < TASKS; i++)
                submit_calling(pool, echo_task, i);
        dispatch_until(pool, TASKS);
        for (int i = 0; i < TASKS; i++)
                assert_int_equal(seen.values[i], i);
        end_pool(pool);
        tasks_finish();
}

/* Of a kind that has no callback nothing is called. */
static void test_only_one_of_the_two(void **state)
{
        (void)state;
        begin();
        brood_pool *pool = make_pool(1);
        for (int which = 0; which < 2; which++)
                for (int i = 0; i < 2; i++) {
                        int value = i ? -ENOTDIR : 7;
                        brood_task_options options = calling(fail_task, &value);
                        if (!i)
                                options.function = echo_task;
                        if (which)
                                options.callback = NULL;
                        else
                                options.error_callback = NULL;
                        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
                }
        end_pool(pool); /* joins, and so dispatches */
        assert_int_equal(seen.ok, 1);
        assert_int_equal(seen.failed, 1);
        tasks_finish();
}

/* ---- in which calls ---- */

static void test_in_blocking_calls(void **state)
{
        (void)state;
        int item = 3, value = 0;
        begin();
        brood_pool *pool = make_pool(1);

        /* Its own, before get and wait return. */
        for (int i = 0; i < 500; i++) {
                brood_result *result = submit_calling_mine(pool, echo_task, i);
                if (i % 2)
                        assert_int_equal(brood_result_get(result, &value, sizeof value, CHECK_HANG_MS), sizeof value);
                else
                        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
                assert_int_equal(seen.ok, i + 1);
                brood_result_free(result);
        }
        /* Those of others, while it waits. */
        for (int call = 0; call < 4; call++) {
                seen.ok = 0;
                submit_calling(pool, echo_task, 1);
                brood_completions *completions;
                brood_result *result;
                switch (call) {
                case 0:
                        result = submit_int(pool, gated_task, 1);
                        assert_int_equal(brood_result_wait(result, SHORT_MS), -ETIMEDOUT);
                        atomic_store(&tasks_page->gate, 1);
                        brood_result_free(result);
                        break;
                case 1:
                        assert_int_equal(
                            brood_pool_apply(pool, echo_task, &item, sizeof item, &value, sizeof value, CHECK_HANG_MS),
                            sizeof value);
                        break;
                case 2:
                        assert_int_equal(brood_pool_map(pool, echo_task, &item, sizeof item, 1, &value, sizeof value, 0,
                                                        CHECK_HANG_MS),
                                         0);
                        break;
                default:
                        assert_int_equal(brood_completions_new(&completions, pool), 0);
                        assert_int_equal(brood_pool_submit(pool, NULL,
                                                           &(brood_task_options){
                                                               .function = echo_task,
                                                               .completions = completions,
                                                           }),
                                         0);
                        assert_int_equal(brood_completions_next(completions, &result, CHECK_HANG_MS), 0);
                        brood_result_free(result);
                        brood_completions_free(completions);
                }
                assert_int_equal(seen.ok, 1);
        }
        /* All, before join returns. */
        seen.ok = 0;
        for (int i = 0; i < 100; i++)
                submit_calling(pool, echo_task, i);
        end_pool(pool);
        assert_int_equal(seen.ok, 100);
        tasks_finish();
}

static void test_join_keeps_its_time(void **state)
{
        (void)state;
        begin();
        brood_pool *pool = make_pool(1);
        submit_calling(pool, gated_task, 1);
        submit_calling(pool, echo_task, 2);
        assert_int_equal(brood_pool_join(pool, 0), -EINVAL);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, 0), -EAGAIN);
        int64_t start = support_now_ms();
        assert_int_equal(brood_pool_join(pool, SHORT_MS), -ETIMEDOUT);
        assert_true(support_now_ms() - start >= SHORT_MS);
        assert_int_equal(seen.ok, 0);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_int_equal(seen.ok, 2);
        brood_pool_free(pool);
        tasks_finish();
}

/* ---- what a callback may do ---- */

static void free_in_it(brood_result *result, void *arg)
{
        on_result(result, arg);
        brood_result_free(result);
}

static void test_frees_its_result(void **state)
{
        (void)state;
        begin();
        brood_pool *pool = make_pool(1);
        for (int i = 0; i < 100; i++) {
                brood_result *result = NULL;
                brood_task_options options = calling(echo_task, &i);
                options.callback = free_in_it;
                /* With a handle, it is the caller's to free; without, it is none's. */
                assert_int_equal(brood_pool_submit(pool, i % 2 ? &result : NULL, &options), 0);
        }
        dispatch_until(pool, 100);
        end_pool(pool);
        tasks_finish();
}

/* The next task comes from the callback of the last. */
static void submit_in_it(brood_result *result, void *arg)
{
        int *left = arg;
        on_result(result, NULL);
        if (--*left == 0)
                return;
        brood_task_options options = calling(echo_task, left);
        options.callback = submit_in_it;
        options.callback_arg = left;
        if (brood_pool_submit(seen.pool, NULL, &options) < 0)
                atomic_fetch_add(&seen.overlaps, 1);
}

static void test_hands_in_the_next_task(void **state)
{
        (void)state;
        int left = 500;
        begin();
        brood_pool *pool = seen.pool = make_pool(1);
        brood_task_options options = calling(echo_task, &left);
        options.callback = submit_in_it;
        options.callback_arg = &left;
        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
        dispatch_until(pool, 500);
        assert_int_equal(left, 0);
        assert_int_equal(seen.overlaps, 0);
        end_pool(pool);
        tasks_finish();
}

static void terminate_in_it(brood_result *result, void *arg)
{
        on_result(result, arg);
        if (brood_pool_terminate(seen.pool) != 0)
                atomic_fetch_add(&seen.overlaps, 1);
}

static void test_terminates_the_pool(void **state)
{
        (void)state;
        for (int how = 0; how < 3; how++) {
                begin();
                brood_pool *pool = seen.pool = make_pool(2);
                int value = 1;
                brood_task_options options = calling(echo_task, &value);
                options.callback = terminate_in_it;
                brood_result *waits = NULL;
                assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
                options = calling(gated_task, &value);
                assert_int_equal(brood_pool_submit(pool, &waits, &options), 0);
                submit_calling(pool, gated_task, 3);
                if (how == 0)
                        assert_int_equal(brood_result_get(waits, &value, sizeof value, CHECK_HANG_MS), -ECANCELED);
                else if (how == 1)
                        dispatch_until(pool, 3);
                else
                        assert_int_equal(brood_pool_close(pool), 0);
                assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                assert_int_equal(seen.ok, 1);
                assert_int_equal(seen.failed, 2);
                assert_int_equal(seen.values[1], -ECANCELED);
                assert_int_equal(seen.overlaps, 0);
                brood_result_free(waits);
                brood_pool_free(pool);
                tasks_finish();
        }
}

/* Calls that wait, within a callback: they wait, and run no other callback. */
static void wait_in_it(brood_result *result, void *arg)
{
        int value = 0, item = 6;
        atomic_fetch_add(&seen.running, 1);
        bool good = brood_pool_dispatch(seen.pool) == 0;
        good &= brood_pool_apply(seen.pool, echo_task, &item, sizeof item, &value, sizeof value, CHECK_HANG_MS) ==
                sizeof value;
        good &= value == 6;
        good &= brood_result_get(result, &value, sizeof value, CHECK_HANG_MS) == sizeof value;
        good &=
            brood_pool_map(seen.pool, echo_task, &item, sizeof item, 1, &value, sizeof value, 0, CHECK_HANG_MS) == 0;
        atomic_fetch_sub(&seen.running, 1);
        if (!good)
                atomic_fetch_add(&seen.overlaps, 1);
        on_result(result, arg);
}

static void test_waits_and_does_not_recurse(void **state)
{
        (void)state;
        enum { TASKS = 50 };
        begin();
        brood_pool *pool = seen.pool = make_pool(1);
        for (int i = 0; i < TASKS; i++) {
                brood_task_options options = calling(echo_task, &i);
                options.callback = wait_in_it;
                assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
        }
        dispatch_until(pool, TASKS);
        assert_int_equal(seen.overlaps, 0);
        end_pool(pool);
        assert_int_equal(seen.ok, TASKS);
        tasks_finish();
}

static void join_in_it(brood_result *result, void *arg)
{
        on_result(result, arg);
        if (brood_pool_close(seen.pool) != 0 || brood_pool_join(seen.pool, CHECK_HANG_MS) != 0)
                atomic_fetch_add(&seen.overlaps, 1);
}

static void test_joins_the_pool(void **state)
{
        (void)state;
        begin();
        brood_pool *pool = seen.pool = make_pool(1);
        int value = 1;
        brood_task_options options = calling(echo_task, &value);
        options.callback = join_in_it;
        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
        submit_calling(pool, echo_task, 2);
        dispatch_until(pool, 2);
        assert_int_equal(seen.overlaps, 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
        tasks_finish();
}

/* ---- threads ---- */

struct getter {
        brood_pool *pool;
        brood_result *result;
        int r;
};

static void *get_in_a_thread(void *arg)
{
        struct getter *getter = arg;
        int value;
        getter->r = (int)brood_result_get(getter->result, &value, sizeof value, CHECK_HANG_MS);
        return NULL;
}

static void test_threads_run_one_at_a_time(void **state)
{
        (void)state;
        enum { THREADS = 4, TASKS = 1000 };
        struct getter getters[THREADS];
        pthread_t threads[THREADS];
        begin();
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < THREADS; i++)
                getters[i] = (struct getter){ .pool = pool, .result = submit_calling_mine(pool, gated_task, i) };
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, get_in_a_thread, &getters[i]), 0);
        for (int i = 0; i < TASKS; i++)
                submit_calling(pool, echo_task, i);
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < THREADS; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(getters[i].r, sizeof(int));
                brood_result_free(getters[i].result);
        }
        end_pool(pool);
        assert_int_equal(seen.ok, TASKS + THREADS);
        assert_int_equal(seen.overlaps, 0);
        tasks_finish();
}

static void hold_in_it(brood_result *result, void *arg)
{
        (void)result;
        atomic_int *holds = arg;
        atomic_store(holds, 1);
        for (int64_t end = support_now_ms() + CHECK_HANG_MS; atomic_load(holds) != 2 && support_now_ms() < end;)
                usleep(100);
        atomic_fetch_add(&seen.ok, 1);
}

static void *dispatch_in_a_thread(void *pool)
{
        for (int64_t end = support_now_ms() + CHECK_HANG_MS; brood_pool_dispatch(pool) == 0 && support_now_ms() < end;)
                usleep(100);
        return NULL;
}

/* While one thread is in a callback, others neither run any nor wait for it; but join does, and what was left is not forgotten. */
static void test_beside_a_long_callback(void **state)
{
        (void)state;
        static atomic_int holds;
        int value = 1;
        pthread_t thread;
        begin();
        atomic_store(&holds, 0);
        brood_pool *pool = make_pool(1);
        brood_task_options options = calling(echo_task, &value);
        options.callback = hold_in_it;
        options.callback_arg = &holds;
        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
        assert_int_equal(pthread_create(&thread, NULL, dispatch_in_a_thread, pool), 0);
        assert_true(check_reaches(&holds, 1, CHECK_HANG_MS));
        submit_calling(pool, echo_task, 2);
        assert_int_equal(brood_pool_apply(pool, echo_task, &value, sizeof value, &value, sizeof value, CHECK_HANG_MS),
                         sizeof value);
        assert_int_equal(brood_pool_dispatch(pool), 0);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(seen.ok, 0);
        atomic_store(&holds, 2);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_int_equal(seen.ok, 2);
        pthread_join(thread, NULL);
        brood_pool_free(pool);
        tasks_finish();
}

/* ---- the descriptor ---- */

static int readable(int fd, int timeout_ms)
{
        return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, timeout_ms);
}

static void test_descriptor(void **state)
{
        (void)state;
        enum { ROUNDS = 300 };
        int value = 0;
        begin();
        brood_pool *pool = make_pool(2);
        int fd = brood_pool_fileno(pool);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(brood_pool_fileno(pool), fd);
        assert_int_equal(brood_pool_dispatch(pool), 0);
        assert_int_equal(readable(fd, 0), 0);
        submit_calling(pool, gated_task, 1);
        assert_int_equal(readable(fd, SHORT_MS), 0);
        atomic_store(&tasks_page->gate, 1);
        for (int ran = 0; ran < 1; ran += brood_pool_dispatch(pool))
                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
        for (int i = 0; i < ROUNDS; i++) {
                submit_calling(pool, echo_task, i);
                for (int ran = 0; ran < 1; ran += brood_pool_dispatch(pool))
                        assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
        }
        /* A worker that dies. */
        submit_calling(pool, die_task, SIGKILL);
        for (int ran = 0; ran < 1; ran += brood_pool_dispatch(pool))
                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
        assert_int_equal(seen.values[seen.count - 1], -EOWNERDEAD);
        /* A blocking call has run it: there is nothing left to do. */
        brood_result *result = submit_calling_mine(pool, echo_task, 5);
        assert_int_equal(brood_result_get(result, &value, sizeof value, CHECK_HANG_MS), sizeof value);
        brood_result_free(result);
        assert_int_equal(brood_pool_dispatch(pool), 0);
        /* The pool's end. */
        atomic_store(&tasks_page->gate, 0);
        submit_calling(pool, gated_task, 1);
        pid_t pids[16];
        await_workers(pool, pids);
        kill(support_parent_of(pids[0]), SIGKILL);
        for (int ran = 0; ran < 1; ran += brood_pool_dispatch(pool))
                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
        assert_int_equal(seen.values[seen.count - 1], -EPIPE);
        brood_pool_dispatch(pool);
        assert_int_equal(readable(fd, 0), 0);
        brood_pool_free(pool);
        tasks_finish();
}

/* ---- the end ---- */

static void test_freed_before(void **state)
{
        (void)state;
        begin();
        brood_pool *pool = make_pool(1);
        /* The result before its callback. */
        brood_result *freed = submit_calling_mine(pool, gated_task, 1), *kept = submit_calling_mine(pool, echo_task, 2);
        brood_result_free(freed);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_result_wait(kept, CHECK_HANG_MS), 0);
        assert_int_equal(seen.ok, 1);
        assert_int_equal(brood_pool_dispatch(pool), 0);
        /* The pool before the callbacks. */
        for (int i = 0; i < 10; i++)
                submit_calling(pool, echo_task, i);
        brood_result *left = submit_calling_mine(pool, echo_task, 3);
        while (brood_result_ready(left) == 0)
                usleep(100);
        brood_pool_free(pool);
        int value = 0;
        assert_int_equal(brood_result_get(left, &value, sizeof value, 0), sizeof value);
        assert_int_equal(seen.ok, 1);
        brood_result_free(left);
        brood_result_free(kept);
        tasks_finish();
}

static int use_in_a_child(void *pool)
{
        require_int(brood_pool_dispatch(pool), -EPERM);
        require_int(brood_pool_fileno(pool), -EPERM);
        return 0;
}

static void test_refuses(void **state)
{
        (void)state;
        int value = 1;
        begin();
        brood_completions *completions;
        brood_pool *pool = make_pool(1);
        assert_int_equal(brood_pool_dispatch(NULL), -EINVAL);
        assert_int_equal(brood_pool_fileno(NULL), -EINVAL);
        check_in_child(use_in_a_child, pool);
        assert_int_equal(brood_completions_new(&completions, pool), 0);
        brood_task_options options = calling(gated_task, &value);
        options.completions = completions;
        assert_int_equal(brood_pool_submit(pool, NULL, &options), -EINVAL);
        options.callback = NULL;
        assert_int_equal(brood_pool_submit(pool, NULL, &options), -EINVAL);
        brood_result *result = submit_calling_mine(pool, gated_task, 1);
        assert_int_equal(brood_completions_add(completions, result), -EBUSY);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_completions_add(completions, result), 0); /* now it is free for it */
        brood_completions_free(completions);
        brood_result_free(result);
        end_pool(pool);
        tasks_finish();
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_each_is_run_once),
                support_test(test_in_the_order_of_the_ends),
                support_test(test_only_one_of_the_two),
                support_test(test_in_blocking_calls),
                support_test(test_join_keeps_its_time),
                support_test(test_frees_its_result),
                support_test(test_hands_in_the_next_task),
                support_test(test_terminates_the_pool),
                support_test(test_waits_and_does_not_recurse),
                support_test(test_joins_the_pool),
                support_test(test_threads_run_one_at_a_time),
                support_test(test_beside_a_long_callback),
                support_test(test_descriptor),
                support_test(test_freed_before),
                support_test(test_refuses),
        };
        return tasks_main(argc, argv, "callbacks", tests, array_length(tests), 100);
}
