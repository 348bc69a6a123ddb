/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_out_of_memory.c: workers in control groups of their own, which the kernel kills for want of memory.
 */
#include "group.h"
#include "tasks.h"

#include <dirent.h>

static char group[GROUP_PATH];

static ssize_t touch_task(const void *arg, size_t size, void *out, size_t room)
{
        return group_touch_too_much() == 0 ? echo_task(arg, size, out, room) : -EIO;
}

/* Runs out of memory the first time. */
static ssize_t touch_once_task(const void *arg, size_t size, void *out, size_t room)
{
        if (atomic_fetch_add(&tasks_page->started, 1) == 0)
                return touch_task(arg, size, out, room);
        return echo_task(arg, size, out, room);
}

static bool warm;

static brood_pool *make_grouped_pool(int processes)
{
        brood_pool *pool = NULL;
        brood_pool_options options = { .processes = processes, .cgroup = group, .warm = warm };
        assert_int_equal(brood_pool_new(&pool, &options), 0);
        await_workers(pool, NULL);
        return pool;
}

/* The pool's groups in this one. */
static int count_groups(void)
{
        DIR *directory = opendir(group);
        int count = 0;
        assert_non_null(directory);
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
                count += strncmp(entry->d_name, "brood-", 6) == 0;
        closedir(directory);
        return count;
}

static void test_out_of_memory(void **state)
{
        (void)state;
        brood_pool *pool = make_grouped_pool(2);
        assert_int_equal(count_groups(), 2);
        for (int i = 0; i < 3; i++) {
                brood_result *result = submit_int(pool, touch_task, i);
                for (int j = 0; j < 50; j++)
                        check_value(submit_int(pool, echo_task, j), j);
                assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
                assert_non_null(strstr(brood_result_reason(result), "ran out of memory"));
                brood_result_report report;
                assert_int_equal(brood_result_get_report(result, &report), 0);
                assert_int_equal(report.attempts, 1);
                check_failure(result, -EOWNERDEAD, BROOD_OUTCOME_OUT_OF_MEMORY, -SIGKILL);
                /* Another death in the same group, after one that was counted there. */
                check_failure(submit_int(pool, die_task, SIGKILL), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
        }
        assert_int_equal(brood_pool_resize(pool, 3), 0);
        await_workers(pool, NULL);
        assert_int_equal(count_groups(), 3);
        end_pool(pool);
        assert_int_equal(count_groups(), 0);
}

static void test_retries(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_grouped_pool(1);
        check_value(
            submit_task(pool, .function = touch_once_task, .arg = &(int){ 7 }, .size = sizeof(int), .retries = 1), 7);
        assert_int_equal(atomic_load(&tasks_page->started), 2);
        check_failure(submit_task(pool, .function = touch_task, .arg = &(int){ 7 }, .size = sizeof(int), .retries = 2),
                      -EOWNERDEAD, BROOD_OUTCOME_OUT_OF_MEMORY, -SIGKILL);
        brood_pool_free(pool);
        assert_int_equal(count_groups(), 0);
        tasks_finish();
}

/* The same where the workers are forks of a template, which is in no group. */
static void test_warm_pool(void **state)
{
        warm = true;
        test_out_of_memory(state);
        test_retries(state);
        warm = false;
}

/* The keeper is gone, and the workers with it: the host removes the groups. */
static void test_keeper_dies(void **state)
{
        (void)state;
        brood_pool *pool = make_grouped_pool(3);
        pid_t pids[16];
        await_workers(pool, pids);
        kill(support_parent_of(pids[0]), SIGKILL);
        assert_true(pool_breaks(pool));
        brood_pool_free(pool);
        assert_int_equal(count_groups(), 0);
}

/* Without groups there is no proof. */
static void test_no_group(void **state)
{
        (void)state;
        brood_pool *pool = NULL;
        for (int i = 0; i < 2; i++) {
                brood_pool_options options = { .cgroup = "/no/such/group", .warm = i == 1 };
                assert_int_equal(brood_pool_new(&pool, &options), -ENOTSUP);
                assert_null(pool);
        }
        char path[5000];
        memset(path, 'x', sizeof path);
        path[sizeof path - 1] = '\0';
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .cgroup = path }), -ENAMETOOLONG);
        assert_null(pool);
        pool = make_pool(1);
        check_failure(submit_int(pool, die_task, SIGKILL), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
        end_pool(pool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest with_groups[] = {
                support_test(test_no_group),  support_test(test_out_of_memory), support_test(test_retries),
                support_test(test_warm_pool), support_test(test_keeper_dies),
        };
        /* Before the group: a process that the fork server or a spawn makes of this program needs none. */
        if (brood_main(argc, argv) < 0)
                return 1;
        bool possible = group_make(group);
        /* In version 2 its groups are counted for only if it says so; version 1 has no such file. */
        if (possible)
                group_set(group, "cgroup.subtree_control", "+memory");
        int r = tasks_main(argc, argv, "out of memory", with_groups, possible ? array_length(with_groups) : 1, 60);
        if (possible && !support_until(group_remove, group, 20000) && r == 0)
                r = 1;
        return possible || r != 0 ? r : 77;
}
