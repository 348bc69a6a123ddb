/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_warm.c: pools whose initializer runs once, in a template from which the workers are born.
 */
#include "tasks.h"

#include <poll.h>
#include <sys/syscall.h>

static int heat; /* what the initializer makes */

static int warm_up(void *arg)
{
        atomic_fetch_add(&tasks_page->initialized, 1);
        heat = 451;
        brood_worker_set_state(&heat);
        return arg != NULL ? ((int (*)(void))arg)() : 0;
}

static brood_pool *make_warm(int processes, int (*more)(void))
{
        brood_pool *pool = NULL;
        brood_pool_options options = {
                .processes = processes,
                .initializer = warm_up,
                .initarg = (void *)more,
                .warm = true,
        };
        assert_int_equal(brood_pool_new(&pool, &options), 0);
        return pool;
}

/* Tells its worker's pid, if that has what the initializer has made. */
static ssize_t see_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)room;
        pid_t pid = heat == 451 && brood_worker_state() == &heat && brood_worker_id() >= 0 ? getpid() : -1;
        memcpy(out, &pid, sizeof pid);
        return sizeof pid;
}

static void check_tasks(brood_pool *pool, int count)
{
        for (int i = 0; i < count; i++) {
                pid_t pid = 0, worker = 0;
                brood_result *result = submit_task(pool, .function = see_task, .priority = i % 2);
                assert_int_equal(brood_result_get(result, &pid, sizeof pid, CHECK_HANG_MS), sizeof pid);
                assert_int_equal(brood_result_worker(result, &worker, NULL), 0);
                assert_int_equal(worker, pid);
                brood_result_free(result);
        }
}

/* The keeper's child that is no worker. */
static pid_t find_template(brood_pool *pool)
{
        pid_t workers[16], children[64];
        await_workers(pool, workers);
        int n = support_children(support_parent_of(workers[0]), children, 64), found = 0;
        pid_t template = 0;
        for (int i = 0; i < n; i++) {
                bool is_worker = false;
                for (int j = 0; j < brood_pool_processes(pool); j++)
                        is_worker |= children[i] == workers[j];
                if (!is_worker && support_process_state(children[i]) != 'Z') {
                        template = children[i];
                        found++;
                }
        }
        assert_int_equal(found, 1);
        return template;
}

static void test_once(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_warm(4, NULL);
        pid_t pids[16], keeper = 0;
        check_tasks(pool, 100);
        for (int i = 0; i < 3; i++) {
                await_workers(pool, pids);
                keeper = support_parent_of(pids[0]);
                for (int j = 0; j < 4; j++)
                        assert_int_equal(support_parent_of(pids[j]), keeper);
                kill(pids[i], SIGKILL);
                assert_true(support_process_gone(pids[i], CHECK_HANG_MS));
        }
        check_failure(submit_int(pool, die_task, SIGSEGV), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGSEGV);
        check_failure(submit_int(pool, die_task, -3), -EOWNERDEAD, BROOD_OUTCOME_EXITED, 3);
        check_failure(submit_task(pool, .function = stubborn_task, .arg = &(int){ FOREVER_MS }, .size = sizeof(int),
                                  .timeout_ms = 20),
                      -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        assert_int_equal(brood_pool_resize(pool, 6), 0);
        await_workers(pool, NULL);
        check_tasks(pool, 100);
        assert_int_equal(brood_pool_resize(pool, 1), 0);
        await_workers(pool, NULL);
        check_tasks(pool, 10);
        assert_int_equal(atomic_load(&tasks_page->initialized), 1);
        end_pool(pool);
        assert_true(support_process_gone(keeper, CHECK_HANG_MS));
        tasks_finish();
}

/* A template that is killed is made anew; its workers live on. */
static void test_template_is_killed(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_warm(3, NULL);
        for (int i = 1; i < 5; i++) {
                pid_t before[16], after[16], template = find_template(pool);
                await_workers(pool, before);
                kill(template, SIGKILL);
                assert_true(support_process_gone(template, CHECK_HANG_MS));
                check_tasks(pool, 20);
                await_workers(pool, after);
                assert_memory_equal(before, after, 3 * sizeof(pid_t));
                kill(after[i % 3], SIGKILL);
                assert_true(support_process_gone(after[i % 3], CHECK_HANG_MS));
                check_tasks(pool, 20);
                await_workers(pool, NULL);
                assert_true(check_reaches(&tasks_page->initialized, i + 1, CHECK_HANG_MS));
        }
        assert_null(brood_pool_reason(pool));
        end_pool(pool);
        tasks_finish();
}

static int sleep_for_ever(void)
{
        while (true)
                pause();
        return 0;
}

/* An initializer that does not return holds up nobody who has had enough. */
static void test_terminate_during_the_initializer(void **state)
{
        (void)state;
        tasks_begin();
        for (int i = 0; i < 6; i++) {
                atomic_store(&tasks_page->initialized, 0);
                brood_pool *pool = make_warm(2, sleep_for_ever);
                brood_result *result = submit_int(pool, echo_task, 1);
                if (i % 2)
                        assert_true(check_reaches(&tasks_page->initialized, 1, CHECK_HANG_MS));
                if (i < 4) {
                        assert_int_equal(brood_pool_terminate(pool), 0);
                        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                }
                brood_pool_free(pool);
                check_failure(result, -ECANCELED, BROOD_OUTCOME_CANCELED, 0);
                assert_int_equal(support_count_children(getpid()), 0);
        }
        tasks_finish();
}

static int refuse(void)
{
        return -ENOENT;
}

static int crash(void)
{
        die_task(&(int){ SIGSEGV }, sizeof(int), NULL, 0);
        return 0;
}

static void test_initializer_fails(void **state)
{
        (void)state;
        tasks_begin();
        static const struct {
                int (*more)(void);
                int times;
                const char *words;
        } ways[] = { { refuse, 1, "in template" }, { crash, 5, "SIGSEGV" } };
        for (int i = 0; i < 2; i++) {
                atomic_store(&tasks_page->initialized, 0);
                brood_pool *pool = make_warm(2, ways[i].more);
                assert_true(pool_breaks(pool));
                assert_non_null(strstr(brood_pool_reason(pool), ways[i].words));
                assert_int_equal(atomic_load(&tasks_page->initialized), ways[i].times);
                assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), -EPIPE);
                brood_pool_free(pool);
        }
        tasks_finish();
}

/* One that takes the template's descriptors away leaves nothing to bear workers with; and nobody who waits for ever. */
static int close_all(void)
{
        return syscall(SYS_close_range, 3, ~0U, 0);
}

static void test_initializer_closes_all(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_warm(2, close_all);
        check_failure(submit_int(pool, echo_task, 1), -EPIPE, BROOD_OUTCOME_BROKEN, 0);
        assert_non_null(strstr(brood_pool_reason(pool), "no worker can be started"));
        brood_pool_free(pool);
        tasks_finish();
}

/* The keeper's end is the end of all. */
static void test_the_keeper_is_killed(void **state)
{
        (void)state;
        tasks_begin();
        for (int i = 0; i < 10; i++) {
                brood_pool *pool = make_warm(3, NULL);
                pid_t pids[16], template = find_template(pool);
                await_workers(pool, pids);
                brood_result *result = submit_int(pool, gated_task, 1);
                if (i % 2)
                        kill(pids[0], SIGKILL); /* and its successor may be on its way */
                kill(support_parent_of(template), SIGKILL);
                int r = (int)brood_result_get(result, NULL, 0, CHECK_HANG_MS);
                assert_true(r == -EPIPE || r == -EOWNERDEAD);
                brood_result_free(result);
                assert_true(pool_breaks(pool));
                for (int j = 0; j < 3; j++)
                        assert_true(support_process_gone(pids[j], CHECK_HANG_MS));
                assert_true(support_process_gone(template, CHECK_HANG_MS));
                brood_pool_free(pool);
        }
        tasks_finish();
}

/* Kills workers of its own, so that there are births at all times. */
static int be_a_restless_host(void *unused)
{
        (void)unused;
        brood_pool *pool = NULL;
        brood_pool_options options = { .processes = 3, .initializer = warm_up, .warm = true };
        require_int(brood_pool_new(&pool, &options), 0);
        while (true) {
                pid_t pids[3];
                int n = brood_pool_workers(pool, pids, 3);
                if (n > 0)
                        kill(pids[0], SIGKILL);
        }
        return 0;
}

/* The host is killed at any moment of a template's and of births: nobody is left, which the end of a pipe tells that all have. */
static void test_the_host_is_killed(void **state)
{
        (void)state;
        int64_t worst = 0;
        tasks_begin();
        for (int i = support_rounds(40); i > 0; i--) {
                int fds[2];
                assert_int_equal(pipe(fds), 0);
                pid_t host = check_start(be_a_restless_host, NULL);
                close(fds[1]);
                usleep((useconds_t)support_random(20000));
                kill(host, SIGKILL);
                int64_t start = support_now_ms();
                struct pollfd end = { .fd = fds[0] };
                assert_int_equal(poll(&end, 1, CHECK_HANG_MS), 1);
                int64_t took = support_now_ms() - start;
                worst = took > worst ? took : worst;
                assert_int_equal(check_wait(host), -SIGKILL);
                close(fds[0]);
        }
        printf("the last one has gone %d ms after the host at most\n", (int)worst);
        tasks_finish();
}

static void reap_everything(int signal)
{
        (void)signal;
        int error = errno;
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        errno = error;
}

static int use_a_warm_pool(void *handler)
{
        int value = 0;
        struct sigaction action = { .sa_handler = *(void (**)(int))handler, .sa_flags = SA_RESTART };
        require_int(sigaction(SIGCHLD, &action, NULL), 0);
        brood_pool *pool = NULL;
        require_int(
            brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .initializer = warm_up, .warm = true }), 0);
        for (int i = 0; i < 20; i++) {
                require_int(brood_pool_apply(pool, echo_task, &i, sizeof i, &value, sizeof value, CHECK_HANG_MS),
                            sizeof value);
                require_int(value, i);
                require_int(brood_pool_apply(pool, die_task, &(int){ SIGKILL }, sizeof(int), NULL, 0, CHECK_HANG_MS),
                            -EOWNERDEAD);
        }
        require_int(atomic_load(&tasks_page->initialized), 1);
        require_int(brood_pool_close(pool), 0);
        require_int(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
        require_int(support_count_children(getpid()), 0);
        return 0;
}

/* The template has what the host does about SIGCHLD, and bears workers all the same. */
static void test_three_ways_with_sigchld(void **state)
{
        (void)state;
        void (*handlers[])(int) = { SIG_DFL, SIG_IGN, reap_everything };
        for (size_t i = 0; i < array_length(handlers); i++) {
                tasks_begin();
                check_in_child(use_a_warm_pool, &handlers[i]);
                tasks_finish();
        }
}

/* Leaves behind a process that ends later, and whose parent has ended. */
static ssize_t orphan_task(const void *arg, size_t size, void *out, size_t room)
{
        pid_t pid = fork();
        if (pid == 0) {
                if (fork() == 0) {
                        while (!atomic_load(&tasks_page->gate))
                                usleep(1000);
                        _exit(0);
                }
                _exit(0);
        }
        waitpid(pid, NULL, 0);
        return echo_task(arg, size, out, room);
}

static bool has_one_child_more(void *arg)
{
        pid_t *keeper = arg;
        return support_count_children(*keeper) == 2 + 1;
}

/* The keeper gets the orphans of its tasks, and reaps them. */
static void test_orphans(void **state)
{
        (void)state;
        enum { ORPHANS = 10 };
        tasks_begin();
        brood_pool *pool = make_warm(2, NULL);
        pid_t pids[16];
        await_workers(pool, pids);
        pid_t keeper = support_parent_of(pids[0]);
        for (int i = 0; i < ORPHANS; i++)
                check_value(submit_int(pool, orphan_task, i), i);
        assert_int_equal(support_count_children(keeper), ORPHANS + 2 + 1);
        atomic_store(&tasks_page->gate, 1);
        assert_true(support_until(has_one_child_more, &keeper, CHECK_HANG_MS));
        end_pool(pool);
        tasks_finish();
}

/* What ends by itself is replaced, too, and a closed pool with tasks that are tried again gets workers for them. */
static void test_turnover(void **state)
{
        (void)state;
        enum { TASKS = 60 };
        brood_result *results[TASKS];
        tasks_begin();
        for (int round = 0; round < 5; round++) {
                brood_pool *pool = NULL;
                brood_pool_options options = {
                        .processes = 2,
                        .initializer = warm_up,
                        .warm = true,
                        .max_tasks_per_child = 3,
                };
                assert_int_equal(brood_pool_new(&pool, &options), 0);
                atomic_store(&tasks_page->started, 0);
                for (int i = 0; i < TASKS; i++)
                        results[i] = submit_task(pool, .function = i % 10 ? echo_task : nth_time_task,
                                                 .arg = &(int){ i % 10 ? i : 8 }, .size = sizeof(int), .retries = 100);
                assert_int_equal(brood_pool_close(pool), 0);
                assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                for (int i = 0; i < TASKS; i++)
                        check_value(results[i], i % 10 ? i : 8);
                brood_pool_free(pool);
        }
        assert_int_equal(atomic_load(&tasks_page->initialized), 5);
        tasks_finish();
}

/* Workers and templates are killed all the time: nothing is lost. */
static void test_kills(void **state)
{
        (void)state;
        enum { TASKS = 3000, RETRIES = 100 };
        static brood_result *results[TASKS];
        tasks_begin();
        brood_pool *pool = make_warm(3, NULL);
        pid_t children[64];
        await_workers(pool, children);
        pid_t keeper = support_parent_of(children[0]);
        int kills = 0;
        for (int i = 0; i < TASKS; i++) {
                results[i] = submit_task(pool, .function = echo_task, .arg = &i, .size = sizeof i, .retries = RETRIES);
                int n = i % 25 == 0 ? support_children(keeper, children, 64) : 0;
                if (n > 0 && n <= 64)
                        kills += kill(children[support_random((uint64_t)n)], SIGKILL) == 0;
                if (i % 100 == 0)
                        usleep((useconds_t)support_random(3000));
        }
        for (int i = 0; i < TASKS; i++)
                check_value(results[i], i);
        assert_null(brood_pool_reason(pool));
        check_tasks(pool, 10);
        printf("%d kills, %d templates\n", kills, atomic_load(&tasks_page->initialized));
        end_pool(pool);
        tasks_finish();
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_once),
                support_test(test_template_is_killed),
                support_test(test_terminate_during_the_initializer),
                support_test(test_initializer_fails),
                support_test(test_initializer_closes_all),
                support_test(test_the_keeper_is_killed),
                support_test(test_the_host_is_killed),
                support_test(test_three_ways_with_sigchld),
                support_test(test_orphans),
                support_test(test_turnover),
                support_test(test_kills),
        };
        return support_main(argc, argv, "warm", tests, array_length(tests), 90);
}
