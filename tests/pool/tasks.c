/* SPDX-License-Identifier: MIT
 *
 * tests/pool/tasks.c: see tasks.h.
 */
#include "tasks.h"

struct tasks_page *tasks_page;

void tasks_begin(void)
{
        tasks_page = check_shared(sizeof *tasks_page);
}

void tasks_finish(void)
{
        munmap(tasks_page, sizeof *tasks_page);
        tasks_page = NULL;
}

ssize_t echo_task(const void *arg, size_t size, void *out, size_t room)
{
        if (size > room)
                return -EMSGSIZE;
        if (size)
                memcpy(out, arg, size);
        return (ssize_t)size;
}

ssize_t gated_task(const void *arg, size_t size, void *out, size_t room)
{
        atomic_fetch_add(&tasks_page->started, 1);
        while (!atomic_load(&tasks_page->gate))
                usleep(100);
        atomic_fetch_add(&tasks_page->ended, 1);
        return echo_task(arg, size, out, room);
}

ssize_t die_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        (void)out;
        (void)room;
        int how = *(const int *)arg;
        if (how < 0)
                exit(-how);
        signal(how, SIG_DFL); /* a sanitizer may have taken it */
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, how);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        kill(getpid(), how);
        return 0;
}

ssize_t sleep_task(const void *arg, size_t size, void *out, size_t room)
{
        for (int64_t end = support_now_ms() + *(const int *)arg; support_now_ms() < end;)
                usleep(1000);
        return echo_task(arg, size, out, room);
}

ssize_t stubborn_task(const void *arg, size_t size, void *out, size_t room)
{
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        return sleep_task(arg, size, out, room);
}

ssize_t nth_time_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size, (void)room;
        tasks_page->moment = support_now_ms();
        if (atomic_fetch_add(&tasks_page->started, 1) + 1 < *(const int *)arg)
                kill(getpid(), SIGKILL);
        memcpy(out, arg, sizeof(int));
        return sizeof(int);
}

brood_pool *make_pool(int processes)
{
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = processes }), 0);
        assert_non_null(pool);
        return pool;
}

void end_pool(brood_pool *pool)
{
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
}

void await_workers(brood_pool *pool, pid_t *pids)
{
        pid_t own[16];
        if (!pids)
                pids = own;
        int wanted = brood_pool_processes(pool);
        assert_true(wanted <= 16);
        for (int64_t end = support_now_ms() + CHECK_HANG_MS;; usleep(500)) {
                int n = brood_pool_workers(pool, pids, 16), alive = 0;
                for (int i = 0; i < n; i++) {
                        char state = support_process_state(pids[i]);
                        alive += state != 0 && state != 'Z' && state != 'X';
                }
                if (n == wanted && alive == wanted)
                        return;
                if (support_now_ms() > end)
                        check_hang("the pool does not get its workers back");
        }
}

static bool is_broken(void *arg)
{
        return brood_pool_reason(arg) != NULL;
}

bool pool_breaks(brood_pool *pool)
{
        return support_until(is_broken, pool, CHECK_HANG_MS);
}

brood_result *submit(brood_pool *pool, brood_task_function function, const void *arg, size_t size)
{
        brood_result *result = NULL;
        assert_int_equal(brood_pool_apply_async(pool, &result, function, arg, size), 0);
        assert_non_null(result);
        return result;
}

brood_result *submit_int(brood_pool *pool, brood_task_function function, int value)
{
        return submit(pool, function, &value, sizeof value);
}

brood_result *submit_terms(brood_pool *pool, const brood_task_options *options)
{
        brood_result *result = NULL;
        assert_int_equal(brood_pool_submit(pool, &result, options), 0);
        assert_non_null(result);
        return result;
}

void check_failure(brood_result *result, int error, brood_outcome outcome, int exitcode)
{
        int value = 77, code = 1000;
        ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
        if (n != error)
                fprintf(stderr, "%s\n", brood_result_reason(result));
        assert_int_equal(n, error);
        assert_int_equal(value, 77);
        assert_int_equal(brood_result_outcome(result), outcome);
        assert_int_equal(brood_result_worker(result, NULL, &code), 0);
        assert_int_equal(code, exitcode);
        assert_true(strlen(brood_result_reason(result)) > 10);
        brood_result_free(result);
}

void check_value(brood_result *result, int wanted)
{
        int value = -1;
        ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
        if (n != sizeof value)
                fprintf(stderr, "%s\n", brood_result_reason(result));
        assert_int_equal(n, sizeof value);
        assert_int_equal(value, wanted);
        brood_result_free(result);
}
