/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_pool_hosts.c: a host, killed at a random moment while it uses all that a pool has: maps, iterations, completions,
 * callbacks, retries, limits, cancellations, another size, and a pool after the other.  Nobody of its pool may be left.
 *
 * The test process is the child subreaper: whoever loses the host comes to it, and all are gone when it has no child.  How long
 * that took is printed, and asserted only to be no hang: --rounds N (or BROOD_TEST_ROUNDS) hosts.
 */
#include "tasks.h"

#include <brood/completions.h>
#include <brood/imap.h>
#include <brood/map.h>

#include <sys/prctl.h>

enum {
        ROUNDS = 100,
        WORKERS = 3,
        ITEMS = 60,
        TASKS = 12,
        WITHIN_US = 40000, /* after its first pool is there */
        EARLY = 8          /* one host of so many is killed before that */
};

/* ---- the host ---- */

static int map_items(brood_pool *pool)
{
        int items[ITEMS], results[ITEMS];
        for (int i = 0; i < ITEMS; i++)
                items[i] = i;
        require_int(
            brood_pool_map(pool, echo_task, items, sizeof *items, ITEMS, results, sizeof *results, 7, CHECK_HANG_MS),
            0);
        require(memcmp(items, results, sizeof items) == 0);
        return 0;
}

static int iterate(brood_pool *pool, bool unordered)
{
        int items[ITEMS], sum = 0, value;
        size_t index;
        brood_imap *imap;
        for (int i = 0; i < ITEMS; i++)
                items[i] = i;
        brood_imap_options options = {
                .function = echo_task, .items = items, .item_size = sizeof *items, .count = ITEMS, .chunksize = 3
        };
        require_int(brood_pool_imap_sized(pool, &imap, &options, sizeof options, unordered), 0);
        while (brood_imap_next(imap, &index, &value, sizeof value, CHECK_HANG_MS) == sizeof value)
                sum += value == (int)index;
        require_int(sum, ITEMS);
        brood_imap_free(imap);
        return 0;
}

static void count_call(brood_result *result, void *arg)
{
        (void)result;
        ++*(int *)arg;
}

/* Tasks on all terms, of which some end badly. */
static int submit_all_kinds(brood_pool *pool)
{
        static const int deadly = SIGKILL, forever = FOREVER_MS, once = 1;
        brood_completions *completions;
        brood_result *result, *canceled;
        static int calls; /* callbacks are run in later calls, too */
        require_int(brood_completions_new(&completions, pool), 0);
        brood_task_options options[] = {
                { .function = echo_task, .arg = &once, .completions = completions },
                { .function = die_task, .arg = &deadly, .retries = 1, .completions = completions },
                { .function = nth_time_task, .arg = &once, .retries = 2, .completions = completions },
                { .function = echo_task, .arg = &once, .callback = count_call, .callback_arg = &calls },
                { .function = sleep_task,
                  .arg = &forever,
                  .timeout_ms = 2,
                  .error_callback = count_call,
                  .callback_arg = &calls },
        };
        for (size_t i = 0; i < TASKS; i++) {
                options[i % array_length(options)].size = sizeof(int);
                require_int(brood_pool_submit(pool, NULL, &options[i % array_length(options)]), 0);
        }
        require_int(brood_pool_apply_async(pool, &canceled, sleep_task, &forever, sizeof forever), 0);
        require_int(brood_pool_resize(pool, WORKERS + calls % 2 - 1), 0);
        require_int(brood_result_cancel(canceled, true), 0);
        brood_result_free(canceled);
        while (brood_completions_next(completions, &result, CHECK_HANG_MS) == 0)
                brood_result_free(result);
        require_int(brood_completions_count(completions), 0);
        brood_completions_free(completions);
        return 0;
}

static int be_a_host(void *arg)
{
        (void)arg;
        for (;; atomic_fetch_add(&tasks_page->number, 1)) {
                brood_pool *pool;
                require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = WORKERS }), 0);
                atomic_fetch_add(&tasks_page->initialized, 1);
                if (map_items(pool) != 0 || submit_all_kinds(pool) != 0 || iterate(pool, false) != 0 ||
                    iterate(pool, true) != 0)
                        return 1;
                require_int(brood_pool_close(pool), 0);
                require_int(brood_pool_join(pool, CHECK_HANG_MS), 0);
                brood_pool_free(pool);
        }
}

/* ---- the tester ---- */

static int64_t now_us(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Reap all that come to us until there is nobody: when the last one had gone. */
static int64_t await_all(pid_t host, int *ret_count)
{
        int64_t end = support_now_ms() + CHECK_HANG_MS;
        for (int status;;) {
                pid_t pid = waitpid(-1, &status, __WALL | WNOHANG);
                if (pid < 0 && errno == ECHILD)
                        return now_us();
                if (pid == host)
                        assert_int_equal(check_code(status), -SIGKILL);
                *ret_count += pid > 0;
                if (support_now_ms() > end)
                        check_hang("somebody outlives the host");
                if (pid <= 0)
                        usleep(100);
        }
}

static int compare(const void *a, const void *b)
{
        const int64_t *x = a, *y = b;
        return (*x > *y) - (*x < *y);
}

static void test_host_is_killed_at_random(void **state)
{
        (void)state;
        int rounds = support_rounds(ROUNDS), pools = 0, gone = 0;
        int64_t *took = calloc((size_t)rounds, sizeof *took);
        assert_non_null(took);
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        for (int i = 0; i < rounds; i++) {
                tasks_begin();
                pid_t host = check_start(be_a_host, NULL);
                if (i % EARLY != 0)
                        assert_true(check_reaches(&tasks_page->initialized, 1, CHECK_HANG_MS));
                usleep((useconds_t)support_random(i % EARLY ? WITHIN_US : 3000));
                int64_t start = now_us();
                kill(host, SIGKILL);
                took[i] = await_all(host, &gone) - start;
                pools += atomic_load(&tasks_page->initialized);
                tasks_finish();
        }
        qsort(took, (size_t)rounds, sizeof *took, compare);
        printf("%d hosts killed in their %d pools: %d processes gone, after %.1f ms (median), %.1f ms (worst)\n",
               rounds, pools, gone, (double)took[rounds / 2] / 1000, (double)took[rounds - 1] / 1000);
        /* There was a keeper and workers to be left. */
        assert_true(gone > 2 * rounds);
        free(took);
}

/* ---- a worker that is a host ---- */

static ssize_t use_a_pool_task(const void *arg, size_t size, void *out, size_t room)
{
        brood_pool *pool;
        int id = brood_worker_id();
        if (brood_pool_new(&pool, &(brood_pool_options){ .processes = 2 }) != 0)
                return -EPROTO;
        int failed = map_items(pool) || submit_all_kinds(pool) || iterate(pool, true);
        brood_pool_free(pool);
        return failed || brood_worker_id() != id ? -EPROTO : echo_task(arg, size, out, room);
}

static ssize_t be_a_host_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        return be_a_host(NULL) != 0 ? -EPROTO : 0;
}

/* Its pool goes with it, and no other does. */
static void test_host_that_is_a_worker(void **state)
{
        (void)state;
        enum { KILLS = 20 };
        int reaped = 0;
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        tasks_begin();
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < KILLS; i++) {
                check_value(submit_int(pool, use_a_pool_task, i), i);
                atomic_store(&tasks_page->initialized, 0);
                brood_result *result = submit_int(pool, be_a_host_task, 0);
                assert_true(check_reaches(&tasks_page->initialized, 1, CHECK_HANG_MS));
                usleep((useconds_t)support_random(WITHIN_US / 2));
                assert_int_equal(brood_result_cancel(result, true), 0);
                brood_result_free(result);
        }
        end_pool(pool);
        await_all(-1, &reaped);
        tasks_finish();
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_host_is_killed_at_random),
                support_test(test_host_that_is_a_worker),
        };
        return support_main(argc, argv, "pool hosts", tests, array_length(tests), 240);
}
