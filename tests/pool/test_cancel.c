/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_cancel.c: tasks that are canceled; and what a report tells.
 */
#include "tasks.h"

#include <poll.h>

/* ---- canceled ---- */

static ssize_t count_task(const void *arg, size_t size, void *out, size_t room)
{
        atomic_fetch_add(&tasks_page->number, 1);
        return echo_task(arg, size, out, room);
}

static void test_cancel_waiting_tasks(void **state)
{
        (void)state;
        enum { TASKS = 300 };
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *gated[2], *results[TASKS];
        for (int i = 0; i < 2; i++)
                gated[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
        for (int i = 0; i < TASKS; i++)
                results[i] = submit_int(pool, count_task, i);
        for (int i = 0; i < TASKS; i += 3) {
                assert_int_equal(brood_result_cancel(results[i], i % 2), 0);
                assert_int_equal(brood_result_cancel(results[i], true), -EALREADY);
                assert_int_equal(brood_result_ready(results[i]), 1);
        }
        for (int i = 0; i < TASKS; i += 6)
                brood_result_free(results[i]);
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < TASKS; i++) {
                if (i % 3)
                        check_value(results[i], i);
                else if (i % 6)
                        check_failure(results[i], -ECANCELED, BROOD_OUTCOME_CANCELED, 0);
        }
        for (int i = 0; i < 2; i++)
                check_value(gated[i], i);
        /* Nothing was canceled that had ended. */
        brood_result *result = submit_int(pool, echo_task, 1);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_cancel(result, true), -EALREADY);
        check_value(result, 1);
        end_pool(pool);
        assert_int_equal(atomic_load(&tasks_page->number), TASKS - TASKS / 3);
        tasks_finish();
}

/* The places of canceled tasks come back. */
static void test_canceled_places_come_back(void **state)
{
        (void)state;
        enum { PLACES = 8 };
        tasks_begin();
        brood_pool *pool;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .max_tasks = PLACES }), 0);
        for (int round = 0; round < 50; round++) {
                brood_result *results[PLACES];
                atomic_store(&tasks_page->gate, 0);
                atomic_store(&tasks_page->started, 0);
                results[0] = submit_int(pool, gated_task, 0);
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                for (int i = 1; i < PLACES; i++)
                        results[i] = submit_int(pool, count_task, i);
                for (int i = 1; i < PLACES; i++) {
                        assert_int_equal(brood_result_cancel(results[i], false), 0);
                        brood_result_free(results[i]);
                }
                /* The ring is full of them: this neither blocks nor fits. */
                assert_int_equal(brood_pool_apply_async(pool, NULL, echo_task, NULL, 0), -ENOBUFS);
                atomic_store(&tasks_page->gate, 1);
                check_value(results[0], 0);
                int64_t end = support_now_ms() + CHECK_HANG_MS;
                while (brood_pool_apply_async(pool, &results[0], count_task, &round, sizeof round) == -ENOBUFS)
                        assert_true(support_now_ms() < end);
                check_value(results[0], round);
        }
        end_pool(pool);
        assert_int_equal(atomic_load(&tasks_page->number), 50);
        tasks_finish();
}

static void test_cancel_running_tasks(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        for (int round = 0; round < 20; round++) {
                atomic_store(&tasks_page->started, 0);
                brood_result *result = submit_int(pool, gated_task, 1), *other = submit_int(pool, gated_task, 2);
                assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
                pid_t before[16], after[16];
                await_workers(pool, before);
                assert_int_equal(brood_result_cancel(result, false), -EBUSY);
                assert_int_equal(brood_result_ready(result), 0);
                int64_t start = support_now_ms();
                assert_int_equal(brood_result_cancel(result, true), 0);
                check_failure(result, -ECANCELED, BROOD_OUTCOME_CANCELED, 0);
                assert_true(support_now_ms() - start < CHECK_HANG_MS / 2);
                /* A worker is there for the next, though both were busy for ever. */
                check_value(submit_int(pool, echo_task, 3), 3);
                await_workers(pool, after);
                assert_int_equal((before[0] != after[0]) + (before[1] != after[1]), 1);
                assert_int_equal(brood_result_ready(other), 0);
                atomic_store(&tasks_page->gate, 1);
                check_value(other, 2);
                atomic_store(&tasks_page->gate, 0);
        }
        end_pool(pool);
        tasks_finish();
}

/* Just when it begins, and just when it ends: it is canceled, and never told otherwise; or it has ended. */
static void test_cancel_at_any_moment(void **state)
{
        (void)state;
        enum { ROUNDS = 300 };
        brood_pool *pool = make_pool(2);
        int canceled = 0;
        for (int i = 0; i < ROUNDS; i++) {
                brood_result *result = submit_int(pool, echo_task, i), *next = submit_int(pool, echo_task, -i);
                int value = -1;
                for (uint64_t spins = support_random(8000); spins > 0; spins--)
                        atomic_signal_fence(memory_order_seq_cst);
                int r = brood_result_cancel(result, true);
                ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
                if (r == 0) {
                        canceled++;
                        assert_int_equal(n, -ECANCELED);
                        usleep((useconds_t)support_random(300));
                        assert_int_equal(brood_result_get(result, &value, sizeof value, 0), -ECANCELED);
                } else {
                        assert_int_equal(r, -EALREADY);
                        assert_int_equal(n, sizeof value);
                        assert_int_equal(value, i);
                }
                brood_result_free(result);
                check_value(next, -i);
        }
        printf("%d of %d were canceled\n", canceled, ROUNDS);
        end_pool(pool);
}

/* Who waits, learns it: in get, and by the descriptor. */
static int wait_for_cancel(void *arg)
{
        require_int(brood_result_get(arg, NULL, 0, CHECK_HANG_MS), -ECANCELED);
        return 0;
}

static void test_canceled_while_others_wait(void **state)
{
        (void)state;
        tasks_begin();
        for (int running = 0; running < 2; running++) {
                brood_pool *pool = make_pool(1);
                atomic_store(&tasks_page->started, 0);
                brood_result *first = submit_int(pool, gated_task, 0), *second = submit_int(pool, gated_task, 0);
                brood_result *result = running ? first : second, *other = running ? second : first;
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                struct check_thread thread;
                struct pollfd poll_for = { .fd = brood_result_fileno(result), .events = POLLIN };
                assert_true(poll_for.fd >= 0);
                assert_int_equal(brood_result_ready(result), 0);
                assert_int_equal(poll(&poll_for, 1, 0), 0);
                check_thread_start(&thread, wait_for_cancel, result);
                usleep(2000);
                assert_int_equal(brood_result_cancel(result, true), 0);
                assert_int_equal(poll(&poll_for, 1, CHECK_HANG_MS), 1);
                assert_int_equal(check_thread_join(&thread), 0);
                brood_result_free(result);
                atomic_store(&tasks_page->gate, 1);
                check_value(other, 0);
                atomic_store(&tasks_page->gate, 0);
                end_pool(pool);
        }
        tasks_finish();
}

/* A task that is to be tried again an hour from now does not hold up the pool's end once it is canceled. */
static void test_cancel_before_a_retry(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        brood_result *result = submit_task(pool, .function = nth_time_task, .arg = &(int){ 100 }, .size = sizeof(int),
                                           .retries = 100, .backoff_ms = 3600 * 1000);
        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        check_value(submit_int(pool, echo_task, 1), 1); /* by the next worker: the task is QUEUED again */
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, 50), -ETIMEDOUT);
        assert_int_equal(brood_result_cancel(result, false), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        check_failure(result, -ECANCELED, BROOD_OUTCOME_CANCELED, 0);
        brood_pool_free(pool);
        tasks_finish();
}

static void test_cancel_is_refused(void **state)
{
        (void)state;
        assert_int_equal(brood_result_cancel(NULL, true), -EINVAL);
        brood_pool *pool = make_pool(1);
        brood_result *result =
            submit_task(pool, .function = sleep_task, .arg = &(int){ FOREVER_MS }, .size = sizeof(int));
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_result_cancel(result, true), -EALREADY);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_result_free(result);
        brood_pool_free(pool);
}

/* ---- reports ---- */

static ssize_t complain_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)room;
        memset(out, 'x', 4);
        if (size == 0)
                return brood_task_fail(0, "zero");
        if (size == 1)
                return brood_task_fail(-EBADMSG, "line %d: no comma", 17);
        brood_task_fail(-EIO, "%0200d", 7);
        return size == 2 ? -EIO : 4;
}

static void check_message(brood_pool *pool, size_t size, size_t room, int error, const char *message, size_t length)
{
        brood_result_report report;
        brood_result *result = submit_task(pool, .function = complain_task, .arg = "xxxx", .size = size, .room = room);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_get_report(result, &report), 0);
        assert_int_equal(report.error, error);
        assert_int_equal(strlen(report.message), length);
        assert_int_equal(strncmp(report.message, message, length), 0);
        assert_true(error == 0 || length == 0 || strstr(brood_result_reason(result), report.message));
        assert_false(report.measured);
        assert_int_equal(report.attempts, 1);
        brood_result_free(result);
}

static void test_messages(void **state)
{
        (void)state;
        static const char zeros[] = "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
                                    "000000000000000000000000000000000000000000";
        brood_pool *pool = make_pool(1);
        check_message(pool, 0, 0, -EINVAL, "zero", 4);
        check_message(pool, 1, 0, -EBADMSG, "line 17: no comma", 17);
        check_message(pool, 1, 6, -EBADMSG, "line 17: no comma", 6);
        check_message(pool, 2, 0, -EIO, zeros, BROOD_TASK_MESSAGE_MAX - 1);
        check_message(pool, 3, 0, 0, "", 0);
        check_message(pool, 1, 0, -EBADMSG, "line 17: no comma", 17); /* what was said in vain is forgotten */
        end_pool(pool);
        assert_int_equal(brood_task_fail(-EIO, "outside of a task"), -EIO);
}

static void test_reports(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result_report report, killed;
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t start = now.tv_sec * 1000000000ll + now.tv_nsec;
        brood_result *result = submit_task(pool, .function = nth_time_task, .arg = &(int){ 3 }, .size = sizeof(int),
                                           .retries = 4, .timeout_ms = CHECK_HANG_MS);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_get_report(result, &report), 0);
        assert_int_equal(report.outcome, BROOD_OUTCOME_OK);
        assert_int_equal(report.error, 0);
        assert_int_equal(report.attempts, 3);
        assert_true(report.measured && report.worker > 0);
        assert_true(report.queued_ns >= start && report.started_ns > report.queued_ns);
        assert_true(report.ended_ns >= report.started_ns && report.ended_ns < start + CHECK_HANG_MS * 1000000ll);
        assert_true(report.cpu_ns > 0 && report.peak_memory > 0);
        assert_string_equal(report.message, "");
        brood_result_free(result);

        result = submit_task(pool, .function = sleep_task, .arg = &(int){ FOREVER_MS }, .size = sizeof(int),
                             .retries = 1, .timeout_ms = 25);
        assert_int_equal(brood_result_get_report(result, &killed), -EAGAIN);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_get_report(result, &killed), 0);
        assert_int_equal(killed.outcome, BROOD_OUTCOME_TIME);
        assert_int_equal(killed.error, -ETIME);
        assert_int_equal(killed.exitcode, -SIGKILL);
        assert_int_equal(killed.attempts, 2);
        assert_true(killed.ended_ns - killed.started_ns >= 25 * 1000000ll);
        assert_true(killed.started_ns - killed.queued_ns >= 25 * 1000000ll);
        assert_true(killed.cpu_ns >= 0 && killed.cpu_ns < killed.ended_ns - killed.started_ns &&
                    killed.peak_memory > 0);
        brood_result_free(result);

        assert_int_equal(brood_result_get_report(NULL, &report), -EINVAL);
        result = submit_int(pool, echo_task, 1);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_get_report(result, NULL), -EINVAL);
        assert_int_equal(brood_result_report_sized(result, &report, sizeof report + 8), -E2BIG);
        /* An older program's report is shorter. */
        memset(&report, 0x55, sizeof report);
        assert_int_equal(brood_result_report_sized(result, &report, offsetof(brood_result_report, worker)), 0);
        assert_int_equal(report.outcome, BROOD_OUTCOME_OK);
        assert_int_equal(report.worker, 0x55555555);
        brood_result_free(result);
        end_pool(pool);
        tasks_finish();
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_cancel_waiting_tasks),
                support_test(test_canceled_places_come_back),
                support_test(test_cancel_running_tasks),
                support_test(test_cancel_at_any_moment),
                support_test(test_canceled_while_others_wait),
                support_test(test_cancel_before_a_retry),
                support_test(test_cancel_is_refused),
                support_test(test_messages),
                support_test(test_reports),
        };
        return tasks_main(argc, argv, "cancel", tests, array_length(tests), 120);
}
