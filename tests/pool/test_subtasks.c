/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_subtasks.c: tasks that hand in tasks: what include/brood/pool.h says of brood_task_submit().
 */
#include "tasks.h"

#include <brood/completions.h>

enum { ROOM = 256 };

/* ---- a binary tree, whose nodes are numbered as in a heap; the root is 1 ---- */

struct node {
        uint32_t number, leaves_from; /* the first number that has no children */
};

static ssize_t node_task(const void *arg, size_t size, void *out, size_t room)
{
        struct node node;
        memcpy(&node, arg, sizeof node);
        if (size != sizeof node || room < sizeof node.number)
                return -EBADMSG;
        for (uint32_t i = 0; i < 2 && node.number < node.leaves_from; i++) {
                struct node child = { 2 * node.number + i, node.leaves_from };
                int r = brood_task_submit(node_task, &child, sizeof child);
                if (r < 0)
                        return r;
        }
        memcpy(out, &node.number, sizeof node.number);
        atomic_fetch_add(&tasks_page->ended, 1);
        return sizeof node.number;
}

/* A tree of that many levels. */
static int plant(brood_pool *pool, int levels, brood_task_options options)
{
        struct node root = { 1, 1U << (levels - 1) };
        options.function = node_task;
        options.arg = &root;
        options.size = sizeof root;
        options.subtasks_size = ROOM;
        return brood_pool_submit(pool, NULL, &options);
}

/* Each node comes out once, and comes out well. */
static void gather(brood_completions *completions, int levels)
{
        uint32_t count = (1U << levels) - 1, number;
        unsigned char *seen = calloc(count + 1, 1);
        brood_result *result;
        int r;
        assert_non_null(seen);
        while ((r = brood_completions_next(completions, &result, CHECK_HANG_MS)) == 0) {
                ssize_t size = brood_result_get(result, &number, sizeof number, 0);
                if (size != sizeof number)
                        print_error("%s\n", brood_result_reason(result));
                assert_int_equal(size, sizeof number);
                assert_in_range(number, 1, count);
                assert_int_equal(seen[number]++, 0);
                brood_result_free(result);
        }
        assert_int_equal(r, -ENODATA);
        for (uint32_t i = 1; i <= count; i++)
                assert_int_equal(seen[i], 1);
        free(seen);
}

static void test_a_tree(void **state)
{
        (void)state;
        enum { LEVELS = 12 };
        tasks_begin();
        brood_pool *pool = make_pool(3);
        brood_completions *completions = make_completions(pool);
        for (int round = 0; round < 2; round++) {
                assert_int_equal(plant(pool, LEVELS, (brood_task_options){ .completions = completions }), 0);
                gather(completions, LEVELS);
        }
        brood_completions_free(completions);
        end_pool(pool);
        tasks_finish();
}

static void test_none_is_lost_when_workers_are_killed(void **state)
{
        (void)state;
        enum { LEVELS = 12 };
        tasks_begin();
        brood_pool *pool = make_pool(3);
        brood_completions *completions = make_completions(pool);
        struct workers_killer killer = { .pool = pool, .seed = support_random(UINT64_MAX) };
        struct check_thread thread;
        check_thread_start(&thread, kill_workers_at_random, &killer);
        for (int round = 0; round < 5; round++) {
                brood_task_options options = { .completions = completions, .retries = 1000 };
                assert_int_equal(plant(pool, LEVELS, options), 0);
                gather(completions, LEVELS);
        }
        atomic_store(&killer.stop, 1);
        assert_int_equal(check_thread_join(&thread), 0);
        brood_completions_free(completions);
        end_pool(pool);
        tasks_finish();
}

/* ---- the terms, callbacks and the end of the pool ---- */

static void count_up(brood_result *result, void *arg)
{
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
        ++*(int *)arg;
}

static void test_callbacks_go_on(void **state)
{
        (void)state;
        enum { LEVELS = 8 };
        int count = 0;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        assert_int_equal(plant(pool, LEVELS, (brood_task_options){ .callback = count_up, .callback_arg = &count }), 0);
        end_pool(pool);
        assert_int_equal(count, (1 << LEVELS) - 1);
        tasks_finish();
}

/* Closed at once: what is handed in afterwards by tasks counts all the same. */
static void test_a_closed_pool_goes_on(void **state)
{
        (void)state;
        enum { LEVELS = 10 };
        tasks_begin();
        brood_pool *pool = make_pool(2);
        assert_int_equal(plant(pool, LEVELS, (brood_task_options){ 0 }), 0);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_apply_async(pool, NULL, echo_task, NULL, 0), -EPIPE);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_int_equal(atomic_load(&tasks_page->ended), (1 << LEVELS) - 1);
        brood_pool_free(pool);

        /* And so it does when all are in completions that nobody empties. */
        pool = make_pool(2);
        brood_completions *completions = make_completions(pool);
        assert_int_equal(plant(pool, LEVELS, (brood_task_options){ .completions = completions }), 0);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        gather(completions, LEVELS);
        brood_completions_free(completions);
        brood_pool_free(pool);
        tasks_finish();
}

static void test_the_end_of_the_pool(void **state)
{
        (void)state;
        enum { LEVELS = 24 };
        tasks_begin();
        for (int i = 0; i < 3; i++) {
                brood_pool *pool = make_pool(2);
                brood_completions *completions = make_completions(pool);
                brood_result *result;
                int r;
                assert_int_equal(plant(pool, LEVELS, (brood_task_options){ .completions = completions }), 0);
                for (int taken = 0; taken < 100; taken++) {
                        assert_int_equal(brood_completions_next(completions, &result, CHECK_HANG_MS), 0);
                        brood_result_free(result);
                }
                if (i == 0)
                        assert_int_equal(brood_pool_terminate(pool), 0);
                else if (i == 1)
                        assert_int_equal(brood_pool_close(pool), 0);
                if (i < 2) {
                        /* Held results use up max_tasks; then parents fail, and at last there are none. */
                        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                        while ((r = brood_completions_next(completions, &result, CHECK_HANG_MS)) == 0)
                                brood_result_free(result);
                        assert_int_equal(r, -ENODATA);
                }
                brood_pool_free(pool);
                brood_completions_free(completions);
        }
        tasks_finish();
}

static ssize_t measured_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out;
        return brood_task_submit(nth_time_task, &(int){ 3 }, sizeof(int)) < 0 || room != 40 ? -EBADMSG : 0;
}

static void test_the_terms_are_the_same(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_completions *completions = make_completions(pool);
        brood_result_report report;
        brood_result *result;
        brood_task_options options = {
                .function = measured_task,
                .room = 40,
                .retries = 2,
                .subtasks_size = ROOM,
                .completions = completions,
                .callback_arg = completions,
        };
        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(brood_completions_next(completions, &result, CHECK_HANG_MS), 0);
                assert_ptr_equal(brood_result_callback_arg(result), completions);
                assert_int_equal(brood_result_get_report(result, &report), 0);
                assert_int_equal(report.outcome, BROOD_OUTCOME_OK);
                assert_int_equal(report.attempts, i == 0 ? 1 : 3);
                brood_result_free(result);
        }
        assert_int_equal(brood_completions_count(completions), 0);
        brood_completions_free(completions);
        end_pool(pool);
        tasks_finish();
}

/* ---- what has not ended well has handed in nothing ---- */

/* Hands in an echo of each number below its argument; then it does as the argument says. */
struct wish {
        int count;
        int error, signal;
        bool waits, only_first_time;
};

static ssize_t wishful_task(const void *arg, size_t size, void *out, size_t room)
{
        struct wish wish;
        (void)out, (void)room;
        memcpy(&wish, arg, size);
        for (int i = 0; i < wish.count; i++) {
                int r = brood_task_submit(echo_task, &i, sizeof i);
                if (r < 0)
                        return r;
        }
        bool first = atomic_fetch_add(&tasks_page->started, 1) == 0;
        while (wish.waits && atomic_load(&tasks_page->gate) == 0)
                usleep(200);
        if (wish.signal != 0 && (first || !wish.only_first_time))
                raise(wish.signal);
        return wish.error;
}

static brood_result *wish_for(brood_pool *pool, struct wish wish, brood_task_options options)
{
        brood_result *result = NULL;
        options.function = wishful_task;
        options.arg = &wish;
        options.size = sizeof wish;
        options.subtasks_size = ROOM;
        assert_int_equal(brood_pool_submit(pool, &result, &options), 0);
        return result;
}

static void assert_only(brood_completions *completions, brood_result *result)
{
        brood_result *next;
        assert_int_equal(brood_completions_next(completions, &next, CHECK_HANG_MS), 0);
        assert_ptr_equal(next, result);
        assert_int_equal(brood_completions_next(completions, &next, CHECK_HANG_MS), -ENODATA);
}

static void test_failed_tasks_hand_in_nothing(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_completions *completions = make_completions(pool);
        brood_task_options options = { .completions = completions };

        brood_result *result = wish_for(pool, (struct wish){ .count = 3, .error = -EIO }, options);
        assert_only(completions, result);
        check_failure(result, -EIO, BROOD_OUTCOME_ERROR, 0);

        result = wish_for(pool, (struct wish){ .count = 3, .signal = SIGKILL }, options);
        assert_only(completions, result);
        check_failure(result, -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);

        atomic_store(&tasks_page->started, 0);
        result = wish_for(pool, (struct wish){ .count = 3, .waits = true }, options);
        while (atomic_load(&tasks_page->started) == 0)
                usleep(200);
        assert_int_equal(brood_result_cancel(result, true), 0);
        atomic_store(&tasks_page->gate, 1);
        assert_only(completions, result);
        check_failure(result, -ECANCELED, BROOD_OUTCOME_CANCELED, 0);

        brood_completions_free(completions);
        end_pool(pool);
        tasks_finish();
}

static void test_the_last_try_counts(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        brood_completions *completions = make_completions(pool);
        struct wish wish = { .count = 3, .signal = SIGKILL, .only_first_time = true };
        brood_task_options options = { .completions = completions, .retries = 1 };
        brood_result *result = wish_for(pool, wish, options), *next;
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
        /* By then they are there. */
        assert_int_equal(brood_completions_count(completions), 4);
        int seen = 0, value;
        for (int i = 0; i < 4; i++) {
                assert_int_equal(brood_completions_next(completions, &next, CHECK_HANG_MS), 0);
                if (next != result) {
                        assert_int_equal(brood_result_get(next, &value, sizeof value, 0), sizeof value);
                        seen |= 1 << value;
                }
                brood_result_free(next);
        }
        assert_int_equal(seen, 7);
        assert_int_equal(brood_completions_count(completions), 0);
        brood_completions_free(completions);
        end_pool(pool);
        tasks_finish();
}

/* Freed before its end: what it hands in is lost with it, and nobody waits for it. */
static void test_a_result_that_is_freed(void **state)
{
        (void)state;
        tasks_begin();
        for (int i = 0; i < 3; i++) {
                atomic_store(&tasks_page->gate, 0);
                atomic_store(&tasks_page->started, 0);
                brood_pool *pool = make_pool(1);
                brood_completions *completions = make_completions(pool);
                brood_task_options options = { .completions = i < 2 ? completions : NULL };
                brood_result *result = wish_for(pool, (struct wish){ .count = 3, .waits = true }, options);
                while (atomic_load(&tasks_page->started) == 0)
                        usleep(200);
                if (i == 1)
                        brood_completions_free(completions);
                else
                        brood_result_free(result);
                assert_int_equal(brood_pool_close(pool), 0);
                atomic_store(&tasks_page->gate, 1);
                assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                if (i == 1) {
                        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
                        brood_result_free(result);
                } else {
                        assert_int_equal(brood_completions_count(completions), 0);
                        brood_completions_free(completions);
                }
                brood_pool_free(pool);
        }
        tasks_finish();
}

/* ---- limits and bad input ---- */

static ssize_t greedy_task(const void *arg, size_t size, void *out, size_t room)
{
        static const char bytes[64];
        int r, sizes[] = { 17, 0, 16, 1 }; /* which take 48, 16, 32 and 32 */
        (void)arg, (void)size, (void)out, (void)room;
        for (int i = 0; i < 4; i++)
                if ((r = brood_task_submit(echo_task, bytes, (size_t)sizes[i])) != (i < 3 ? 0 : -ENOSPC))
                        return r < 0 ? r : -EBADMSG;
        if (brood_task_submit(echo_task, bytes, 0) != -ENOSPC || brood_task_submit(echo_task, NULL, 1) != -EINVAL ||
            brood_task_submit(NULL, NULL, 0) != -EINVAL)
                return -EBADMSG;
        return 0;
}

static void test_no_more_than_there_is_room_for(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        brood_completions *completions = make_completions(pool);
        brood_task_options options = { .function = greedy_task, .subtasks_size = 96, .completions = completions };
        brood_result *result;
        char bytes[64];
        size_t sum = 0;
        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
        for (int i = 0; i < 4; i++) {
                assert_int_equal(brood_completions_next(completions, &result, CHECK_HANG_MS), 0);
                ssize_t size = brood_result_get(result, bytes, sizeof bytes, 0);
                assert_true(size >= 0);
                sum += (size_t)size;
                brood_result_free(result);
        }
        assert_int_equal(sum, 17 + 16);
        assert_int_equal(brood_completions_next(completions, &result, CHECK_HANG_MS), -ENODATA);
        options.subtasks_size = BROOD_POOL_RESULT_SIZE_LIMIT + 1;
        assert_int_equal(brood_pool_submit(pool, NULL, &options), -EINVAL);
        brood_completions_free(completions);
        end_pool(pool);
}

static ssize_t says_what_it_gets(const void *arg, size_t size, void *out, size_t room)
{
        int status = 0, in_child = *(const int *)arg;
        (void)size, (void)out, (void)room;
        if (!in_child)
                return brood_task_submit(echo_task, NULL, 0);
        pid_t pid = fork();
        if (pid == 0)
                _exit(brood_task_submit(echo_task, NULL, 0) == -ESRCH ? 0 : 1);
        return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0 ? -EBADMSG : 0;
}

static void test_outside_of_such_a_task(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        assert_int_equal(brood_task_submit(echo_task, NULL, 0), -ESRCH);
        check_failure(submit_int(pool, says_what_it_gets, 0), -ESRCH, BROOD_OUTCOME_ERROR, 0);
        brood_result *result = submit_task(pool, .function = says_what_it_gets, .arg = &(int){ 1 }, .size = sizeof(int),
                                           .subtasks_size = ROOM);
        assert_int_equal(brood_result_get(result, NULL, 0, CHECK_HANG_MS), 0);
        brood_result_free(result);
        end_pool(pool);
}

static void test_no_room_for_all(void **state)
{
        (void)state;
        enum { MOST = 4, WANTED = 6 };
        brood_pool *pool;
        brood_result *next;
        tasks_begin();
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .max_tasks = MOST }), 0);
        brood_completions *completions = make_completions(pool);
        brood_result *result =
            wish_for(pool, (struct wish){ .count = WANTED }, (brood_task_options){ .completions = completions });
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_ERROR);
        assert_int_equal(brood_result_get(result, NULL, 0, 0), -ENOBUFS);
        assert_non_null(
            strstr(brood_result_reason(result), "not all tasks that it handed in could be taken up: -105 ("));
        for (int i = 0; i < MOST; i++) {
                assert_int_equal(brood_completions_next(completions, &next, CHECK_HANG_MS), 0);
                brood_result_free(next);
        }
        assert_int_equal(brood_completions_next(completions, &next, CHECK_HANG_MS), -ENODATA);
        brood_completions_free(completions);
        end_pool(pool);
        tasks_finish();
}

static ssize_t stranger_task(const void *arg, size_t size, void *out, size_t room)
{
        static char no_code[16];
        (void)arg, (void)size, (void)out, (void)room;
        return brood_task_submit((brood_task_function)(uintptr_t)malloc(sizeof no_code), NULL, 0);
}

static void test_a_function_that_nobody_knows(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        brood_result *result = submit_task(pool, .function = stranger_task, .subtasks_size = ROOM);
        check_failure(result, -ENOEXEC, BROOD_OUTCOME_ERROR, 0);
        end_pool(pool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_a_tree),
                support_test(test_none_is_lost_when_workers_are_killed),
                support_test(test_callbacks_go_on),
                support_test(test_a_closed_pool_goes_on),
                support_test(test_the_end_of_the_pool),
                support_test(test_the_terms_are_the_same),
                support_test(test_failed_tasks_hand_in_nothing),
                support_test(test_the_last_try_counts),
                support_test(test_a_result_that_is_freed),
                support_test(test_no_more_than_there_is_room_for),
                support_test(test_outside_of_such_a_task),
                support_test(test_no_room_for_all),
                support_test(test_a_function_that_nobody_knows),
        };
        return tasks_main(argc, argv, "subtasks", tests, array_length(tests), 120);
}
