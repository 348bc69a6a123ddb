/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_pool_deaths.c: workers, keepers and hosts that die; initializers that fail; limits that are reached.
 */
#include "tasks.h"

#include <grp.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* ---- workers ---- */

static void check_dead_task(brood_pool *pool, int how, brood_outcome outcome, int exitcode, const char *word)
{
        brood_result *before = submit_int(pool, echo_task, 1), *dying = submit_int(pool, die_task, how);
        brood_result *after = submit_int(pool, echo_task, 2);
        int value = 0, code = 1000;
        pid_t pid = 0;
        assert_int_equal(brood_result_get(dying, &value, sizeof value, CHECK_HANG_MS), -EOWNERDEAD);
        assert_int_equal(value, 0);
        assert_int_equal(brood_result_ready(dying), 1);
        assert_int_equal(brood_result_successful(dying), 0);
        assert_int_equal(brood_result_outcome(dying), outcome);
        assert_int_equal(brood_result_worker(dying, &pid, &code), 0);
        assert_int_equal(code, exitcode);
        assert_true(pid > 0);
        assert_true(support_process_gone(pid, CHECK_HANG_MS));
        char number[16];
        snprintf(number, sizeof number, "%d", (int)pid);
        const char *reason = brood_result_reason(dying);
        assert_non_null(reason);
        if (!strstr(reason, word) || !strstr(reason, number))
                fprintf(stderr, "reason: %s\n", reason);
        assert_non_null(strstr(reason, word));
        assert_non_null(strstr(reason, number));
        /* Exactly that task. */
        assert_int_equal(brood_result_get(before, &value, sizeof value, CHECK_HANG_MS), sizeof value);
        assert_int_equal(value, 1);
        assert_int_equal(brood_result_get(after, &value, sizeof value, CHECK_HANG_MS), sizeof value);
        assert_int_equal(value, 2);
        assert_null(brood_pool_reason(pool));
        brood_result_free(before);
        brood_result_free(dying);
        brood_result_free(after);
}

static void test_a_worker_dies_in_its_task(void **state)
{
        (void)state;
        for (int workers = 1; workers < 4; workers += 2) {
                brood_pool *pool = make_pool(workers);
                check_dead_task(pool, SIGKILL, BROOD_OUTCOME_SIGNALED, -SIGKILL, "SIGKILL");
                check_dead_task(pool, SIGSEGV, BROOD_OUTCOME_SIGNALED, -SIGSEGV, "SIGSEGV");
                check_dead_task(pool, SIGTERM, BROOD_OUTCOME_SIGNALED, -SIGTERM, "SIGTERM");
                check_dead_task(pool, SIGABRT, BROOD_OUTCOME_SIGNALED, -SIGABRT, "SIGABRT");
                check_dead_task(pool, -3, BROOD_OUTCOME_EXITED, 3, "3");
                check_dead_task(pool, -255, BROOD_OUTCOME_EXITED, 255, "255");
                check_dead_task(pool, -256, BROOD_OUTCOME_EXITED, 0, "exit");
                await_workers(pool, NULL);
                int value = 0;
                assert_int_equal(brood_pool_apply(pool, die_task, &(int){ SIGKILL }, sizeof(int), &value, sizeof value,
                                                  CHECK_HANG_MS),
                                 -EOWNERDEAD);
                end_pool(pool);
        }
}

static void test_a_worker_is_killed_from_outside(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(3);
        pid_t pids[16], pid = 0;
        int value = 0, dead = 0;
        brood_result *results[6];
        for (int i = 0; i < 6; i++)
                results[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, 3, CHECK_HANG_MS));
        await_workers(pool, pids);
        kill(pids[1], SIGKILL);
        /* Its place is taken, and the next task begun, while the others still hold theirs. */
        assert_true(check_reaches(&tasks_page->started, 4, CHECK_HANG_MS));
        await_workers(pool, NULL);
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < 6; i++) {
                ssize_t n = brood_result_get(results[i], &value, sizeof value, CHECK_HANG_MS);
                assert_int_equal(brood_result_worker(results[i], &pid, NULL), 0);
                if (n == -EOWNERDEAD) {
                        dead++;
                        assert_int_equal(pid, pids[1]);
                } else {
                        assert_int_equal(n, sizeof value);
                        assert_int_equal(value, i);
                        assert_true(pid != pids[1]);
                }
                brood_result_free(results[i]);
        }
        assert_int_equal(dead, 1);
        end_pool(pool);
        tasks_finish();
}

static void test_idle_workers_are_killed(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        for (int round = 0; round < 10; round++) {
                pid_t pids[16];
                brood_result *results[10];
                int value = 0;
                await_workers(pool, pids);
                kill(pids[0], SIGKILL);
                if (round % 2)
                        kill(pids[1], SIGKILL);
                if (round % 3)
                        assert_true(support_process_gone(pids[0], CHECK_HANG_MS));
                int failed = 0;
                for (int i = 0; i < 10; i++)
                        results[i] = submit_int(pool, echo_task, i);
                for (int i = 0; i < 10; i++) {
                        ssize_t n = brood_result_get(results[i], &value, sizeof value, CHECK_HANG_MS);
                        /* One that was not dead yet may have taken a task along. */
                        if (n == -EOWNERDEAD && (round % 3 == 0 || round % 2)) {
                                failed++;
                        } else {
                                assert_int_equal(n, sizeof value);
                                assert_int_equal(value, i);
                        }
                        brood_result_free(results[i]);
                }
                assert_true(failed <= 2);
        }
        await_workers(pool, NULL);
        assert_null(brood_pool_reason(pool));
        end_pool(pool);
}

/* With all workers dead at once, and tasks waiting. */
static void test_all_workers_are_killed(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(3);
        pid_t pids[16];
        brood_result *results[9];
        int value = 0, dead = 0;
        for (int i = 0; i < 9; i++)
                results[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, 3, CHECK_HANG_MS));
        await_workers(pool, pids);
        for (int i = 0; i < 3; i++)
                kill(pids[i], SIGKILL);
        assert_true(check_reaches(&tasks_page->started, 6, CHECK_HANG_MS));
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < 9; i++) {
                ssize_t n = brood_result_get(results[i], &value, sizeof value, CHECK_HANG_MS);
                assert_true(n == sizeof value || n == -EOWNERDEAD);
                dead += n == -EOWNERDEAD;
                brood_result_free(results[i]);
        }
        assert_int_equal(dead, 3);
        end_pool(pool);
        tasks_finish();
}

/* ---- initializers ---- */

static int fail_with_enoent(void *arg)
{
        (void)arg;
        atomic_fetch_add(&tasks_page->initialized, 1);
        return -ENOENT;
}

static int fail_by_signal(void *arg)
{
        (void)arg;
        atomic_fetch_add(&tasks_page->initialized, 1);
        die_task(&(int){ SIGSEGV }, sizeof(int), NULL, 0);
        return 0;
}

/* From here on the process dies at the futex call that would wake a result's waiters. */
static ssize_t die_at_the_wake_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 5),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FUTEX_WAKE, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, INT_MAX, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
        while (atomic_load(&tasks_page->gate) == 0)
                usleep(1000);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return -errno;
        return 0;
}

static void *open_gate(void *pid)
{
        /* The test's thread sleeps by then, or the test is no weaker than it was. */
        char path[64], call[64] = "";
        snprintf(path, sizeof path, "/proc/self/task/%d/syscall", *(pid_t *)pid);
        for (int i = 0; i < 2000 && strtol(call, NULL, 10) != SYS_futex_waitv; i++) {
                FILE *file = fopen(path, "r");
                if (file == NULL || fgets(call, sizeof call, file) == NULL)
                        call[0] = 0;
                if (file != NULL)
                        fclose(file);
                usleep(1000);
        }
        atomic_store(&tasks_page->gate, 1);
        return NULL;
}

/* Killed after the task has ended, and before the one who waits for it was told. */
static void test_killed_before_the_wake(void **state)
{
        (void)state;
        brood_pool *pool;
        pthread_t thread;
        pid_t self = getpid();
        tasks_begin();
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1 }), 0);
        brood_result *result = submit(pool, die_at_the_wake_task, NULL, 0);
        assert_int_equal(pthread_create(&thread, NULL, open_gate, &self), 0);
        int64_t start = support_now_ms();
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_true(support_now_ms() - start < CHECK_HANG_MS / 2);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
        brood_result_free(result);
        brood_pool_free(pool);
        tasks_finish();
}

static int fail_by_exit(void *arg)
{
        (void)arg;
        atomic_fetch_add(&tasks_page->initialized, 1);
        exit(7);
}

/* The first two are well, their successors are not. */
static int fail_later(void *arg)
{
        (void)arg;
        return atomic_fetch_add(&tasks_page->initialized, 1) < 2 ? 0 : 1;
}

static void check_broken(brood_pool *pool)
{
        brood_result *result = NULL;
        int item = 1;
        assert_int_equal(brood_pool_apply_async(pool, &result, echo_task, NULL, 0), -EPIPE);
        assert_null(result);
        assert_int_equal(brood_pool_apply(pool, echo_task, NULL, 0, NULL, 0, CHECK_HANG_MS), -EPIPE);
        assert_int_equal(brood_pool_map(pool, echo_task, &item, sizeof item, 1, &item, sizeof item, 0, CHECK_HANG_MS),
                         -EPIPE);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), -EPIPE);
        assert_int_equal(brood_pool_join(pool, 0), -EPIPE);
        assert_int_equal(brood_pool_workers(pool, NULL, 0), 0);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_non_null(brood_pool_reason(pool));
}

static void test_initializer_fails(void **state)
{
        (void)state;
        static const struct {
                int (*initializer)(void *arg);
                const char *word;
                int tries;
        } cases[] = { { fail_with_enoent, "-2", 3 }, { fail_by_signal, "SIGSEGV", 0 }, { fail_by_exit, "7", 0 } };
        for (size_t i = 0; i < array_length(cases); i++) {
                tasks_begin();
                brood_pool *pool = NULL;
                brood_pool_options options = { .processes = 3, .initializer = cases[i].initializer };
                assert_int_equal(brood_pool_new(&pool, &options), 0);
                brood_result *result = NULL;
                int r = brood_pool_apply_async(pool, &result, echo_task, "x", 1);
                assert_true(r == 0 || r == -EPIPE);
                if (r == 0) {
                        char byte;
                        assert_int_equal(brood_result_get(result, &byte, 1, CHECK_HANG_MS), -EPIPE);
                        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_BROKEN);
                        assert_true(strlen(brood_result_reason(result)) > 0);
                }
                assert_true(pool_breaks(pool));
                const char *reason = brood_pool_reason(pool);
                if (!strstr(reason, cases[i].word))
                        fprintf(stderr, "reason: %s\n", reason);
                assert_non_null(strstr(reason, cases[i].word));
                check_broken(pool);
                int runs = atomic_load(&tasks_page->initialized);
                int most = cases[i].tries ? cases[i].tries : 9;
                if (runs > most)
                        fprintf(stderr, "case %zu: the initializer ran %d times\n", i, runs);
                /* No endless restart.  (One that dies is tried again a few times: somebody may have killed it.) */
                assert_true(runs <= most);
                brood_pool_free(pool);
                brood_result_free(result);
                tasks_finish();
        }
}

static void test_initializer_fails_in_a_successor(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = NULL;
        brood_pool_options options = { .processes = 2, .initializer = fail_later };
        assert_int_equal(brood_pool_new(&pool, &options), 0);
        assert_true(check_reaches(&tasks_page->initialized, 2, CHECK_HANG_MS));
        brood_result *good = submit_int(pool, echo_task, 1), *dying = submit_int(pool, die_task, SIGKILL);
        int value = 0;
        assert_int_equal(brood_result_get(good, &value, sizeof value, CHECK_HANG_MS), sizeof value);
        assert_int_equal(brood_result_get(dying, &value, sizeof value, CHECK_HANG_MS), -EOWNERDEAD);
        assert_true(pool_breaks(pool));
        check_broken(pool);
        assert_int_equal(brood_result_get(good, &value, sizeof value, 0), sizeof value);
        brood_pool_free(pool);
        brood_result_free(good);
        brood_result_free(dying);
        tasks_finish();
}

/* ---- the keeper ---- */

struct waiter {
        brood_result *result;
        atomic_int *ready;
};

static int wait_for_broken(void *arg)
{
        struct waiter *waiter = arg;
        int value = 0;
        atomic_fetch_add(waiter->ready, 1);
        require_int(brood_result_get(waiter->result, &value, sizeof value, 2 * CHECK_HANG_MS), -EPIPE);
        return 0;
}

static void test_the_keeper_is_killed(void **state)
{
        (void)state;
        for (int busy = 0; busy < 2; busy++) {
                tasks_begin();
                brood_pool *pool = make_pool(2);
                pid_t pids[16];
                brood_result *finished = submit_int(pool, echo_task, 5), *results[6] = { NULL };
                struct waiter waiters[6];
                struct check_thread threads[6];
                int value = 0;
                assert_int_equal(brood_result_wait(finished, CHECK_HANG_MS), 0);
                if (busy) {
                        for (int i = 0; i < 6; i++) {
                                results[i] = submit_int(pool, gated_task, i);
                                waiters[i] = (struct waiter){ results[i], &tasks_page->number };
                                check_thread_start(&threads[i], wait_for_broken, &waiters[i]);
                        }
                        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
                        assert_true(check_reaches(&tasks_page->number, 6, CHECK_HANG_MS));
                }
                await_workers(pool, pids);
                pid_t keeper = support_parent_of(pids[0]);
                assert_true(keeper > 1 && keeper != getpid());
                assert_int_equal(tasks_host_of(keeper), getpid());
                int64_t start = support_now_ms();
                kill(keeper, SIGKILL);
                for (int i = 0; i < 2; i++)
                        assert_true(support_process_gone(pids[i], 1000));
                int gone = (int)(support_now_ms() - start);
                for (int i = 0; busy && i < 6; i++) {
                        assert_int_equal(check_thread_join(&threads[i]), 0);
                        assert_int_equal(brood_result_outcome(results[i]), BROOD_OUTCOME_BROKEN);
                        brood_result_free(results[i]);
                }
                printf("keeper killed, %s: workers gone after %d ms, waiters woken after %d ms\n",
                       busy ? "busy" : "idle", gone, (int)(support_now_ms() - start));
                assert_true(support_now_ms() - start < 3000);
                assert_true(pool_breaks(pool));
                check_broken(pool);
                assert_int_equal(brood_result_get(finished, &value, sizeof value, 0), sizeof value);
                assert_int_equal(value, 5);
                brood_result_free(finished);
                brood_pool_free(pool);
                tasks_finish();
        }
}

/* ---- the host ---- */

static int be_a_host(void *arg)
{
        int busy = *(int *)arg;
        brood_pool *pool;
        require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 3 }), 0);
        for (int i = 0; busy && i < 10; i++)
                require_int(brood_pool_apply_async(pool, NULL, gated_task, &i, sizeof i), 0);
        require_int(brood_pool_workers(pool, tasks_page->pids + 1, 3), 3);
        tasks_page->pids[0] = support_parent_of(tasks_page->pids[1]);
        atomic_store(&tasks_page->number, 1);
        for (;;)
                pause();
}

static void test_the_host_is_killed(void **state)
{
        (void)state;
        for (int busy = 0; busy < 2; busy++) {
                tasks_begin();
                pid_t host = check_start(be_a_host, &busy);
                assert_true(check_reaches(&tasks_page->number, 1, CHECK_HANG_MS));
                if (busy)
                        assert_true(check_reaches(&tasks_page->started, 3, CHECK_HANG_MS));
                assert_int_equal(tasks_host_of(tasks_page->pids[0]), host);
                int64_t start = support_now_ms();
                kill(host, SIGKILL);
                for (int i = 0; i < 4; i++)
                        assert_true(support_process_gone(tasks_page->pids[i], 1000));
                printf("host killed, %s: keeper and workers gone after %d ms\n", busy ? "busy" : "idle",
                       (int)(support_now_ms() - start));
                assert_int_equal(check_wait(host), -SIGKILL);
                tasks_finish();
        }
}

static int leave_without_a_word(void *arg)
{
        brood_pool *pool;
        require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 3 }), 0);
        for (int i = 0; i < 10; i++)
                require_int(brood_pool_apply_async(pool, NULL, gated_task, &i, sizeof i), 0);
        require_int(brood_pool_workers(pool, tasks_page->pids + 1, 3), 3);
        tasks_page->pids[0] = support_parent_of(tasks_page->pids[1]);
        if (*(int *)arg)
                exit(0);
        return 0;
}

/* A host that ends of its own accord, without free, leaves nobody either. */
static void test_the_host_exits(void **state)
{
        (void)state;
        for (int by_exit = 0; by_exit < 2; by_exit++) {
                tasks_begin();
                check_in_child(leave_without_a_word, &by_exit);
                for (int i = 0; i < 4; i++)
                        assert_true(support_process_gone(tasks_page->pids[i], 1000));
                tasks_finish();
        }
}

/* ---- how the host deals with SIGCHLD ---- */

static void reap_everything(int sig)
{
        (void)sig;
        int saved = errno;
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        errno = saved;
}

static int use_a_pool(void *arg)
{
        struct sigaction action = { .sa_handler = *(void (**)(int))arg, .sa_flags = SA_RESTART }, after;
        sigaction(SIGCHLD, &action, NULL);
        for (int round = 0; round < 10; round++) {
                brood_pool *pool;
                int value = 0, code = 0;
                brood_result *dying;
                require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2 }), 0);
                require_int(
                    brood_pool_apply(pool, echo_task, &round, sizeof round, &value, sizeof value, CHECK_HANG_MS),
                    sizeof value);
                require_int(value, round);
                require_int(brood_pool_apply_async(pool, &dying, die_task, &(int){ SIGKILL }, sizeof(int)), 0);
                require_int(brood_result_get(dying, &value, sizeof value, CHECK_HANG_MS), -EOWNERDEAD);
                require_int(brood_result_worker(dying, NULL, &code), 0);
                require_int(code, -SIGKILL);
                brood_result_free(dying);
                require_int(
                    brood_pool_apply(pool, echo_task, &round, sizeof round, &value, sizeof value, CHECK_HANG_MS),
                    sizeof value);
                if (round % 2) {
                        require_int(brood_pool_close(pool), 0);
                        require_int(brood_pool_join(pool, CHECK_HANG_MS), 0);
                }
                brood_pool_free(pool);
                require_int(tasks_count_children(), 0);
        }
        /* The host's own child is the host's. */
        sigaction(SIGCHLD, NULL, &after);
        require(after.sa_handler == action.sa_handler);
        if (action.sa_handler == SIG_DFL) {
                int status;
                pid_t own = fork();
                if (own == 0)
                        _exit(9);
                brood_pool *pool;
                require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2 }), 0);
                brood_pool_free(pool);
                require(waitpid(own, &status, 0) == own);
                require_int(WEXITSTATUS(status), 9);
        }
        return 0;
}

static void test_three_ways_with_sigchld(void **state)
{
        (void)state;
        void (*handlers[])(int) = { SIG_DFL, SIG_IGN, reap_everything };
        for (size_t i = 0; i < array_length(handlers); i++)
                check_in_child(use_a_pool, &handlers[i]);
}

/* ---- limits ---- */

static int make_with_few_processes(void *arg)
{
        (void)arg;
        require_int(support_warm_up(), 0);
        require_int(setgroups(0, NULL), 0);
        require_int(setresgid(65534, 65534, 65534), 0);
        require_int(setresuid(65534, 65534, 65534), 0);
        prctl(PR_SET_DUMPABLE, 1); /* else /proc/self is root's */
        /* With room for no process more, for the keeper alone, for the keeper and one or two workers. */
        int made = 0;
        for (rlim_t limit = 1; limit <= 6; limit++) {
                require_int(setrlimit(RLIMIT_NPROC, &(struct rlimit){ limit, 100 }), 0);
                int descriptors = support_count_descriptors();
                brood_pool *pool = NULL;
                int r = brood_pool_new(&pool, &(brood_pool_options){ .processes = 4 });
                if (limit >= 6 && r == 0) {
                        made++;
                } else {
                        require_int(r, -EAGAIN);
                        require(pool == NULL);
                }
                brood_pool_free(pool);
                require_int(tasks_count_children(), 0);
                if (r < 0)
                        require_int(support_count_descriptors(), descriptors);
        }
        require_int(setrlimit(RLIMIT_NPROC, &(struct rlimit){ 100, 100 }), 0);
        brood_pool *pool = NULL;
        require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 4 }), 0);
        int value = 0;
        require_int(brood_pool_apply(pool, echo_task, &made, sizeof made, &value, sizeof value, CHECK_HANG_MS),
                    sizeof value);
        brood_pool_free(pool);
        return 0;
}

static void test_no_more_processes(void **state)
{
        (void)state;
        if (geteuid() != 0)
                skip();
        check_in_child(make_with_few_processes, NULL);
}

static void test_no_more_descriptors(void **state)
{
        (void)state;
        brood_pool_free(make_pool(1));
        assert_int_equal(tasks_count_children(), 0);
        int descriptors = support_count_descriptors();
        struct rlimit before, limit;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        int first_free = dup(0);
        close(first_free);
        int refused = 0;
        /* With room for none, one, two ... descriptors, until there is enough. */
        for (int room = 0; room < 20; room++) {
                brood_pool *pool = NULL;
                limit = before;
                limit.rlim_cur = (rlim_t)(first_free + room);
                setrlimit(RLIMIT_NOFILE, &limit);
                int r = brood_pool_new(&pool, &(brood_pool_options){ .processes = 2 });
                setrlimit(RLIMIT_NOFILE, &before);
                if (r == 0) {
                        brood_pool_free(pool);
                        if (room > 10)
                                break;
                        continue;
                }
                refused++;
                assert_int_equal(r, -EMFILE);
                assert_null(pool);
                assert_int_equal(tasks_count_children(), 0);
                assert_int_equal(support_count_descriptors(), descriptors);
        }
        assert_true(refused > 0);
        end_pool(make_pool(2));
}

static void test_max_tasks(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = NULL;
        brood_result *results[5] = { NULL }, *none = NULL;
        int value = 0;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .max_tasks = 5 }), 0);
        for (int round = 0; round < 20; round++) {
                atomic_store(&tasks_page->gate, 0);
                for (int i = 0; i < 5; i++)
                        results[i] = submit_int(pool, gated_task, i);
                assert_int_equal(brood_pool_apply_async(pool, &none, echo_task, "x", 1), -ENOBUFS);
                assert_int_equal(brood_pool_apply(pool, echo_task, "x", 1, &value, 4, CHECK_HANG_MS), -ENOBUFS);
                assert_null(none);
                atomic_store(&tasks_page->gate, 1);
                for (int i = 0; i < 5; i++)
                        assert_int_equal(brood_result_wait(results[i], CHECK_HANG_MS), 0);
                /* Ended, but held. */
                assert_int_equal(brood_pool_apply_async(pool, &none, echo_task, "x", 1), -ENOBUFS);
                brood_result_free(results[round % 5]);
                results[round % 5] = submit_int(pool, echo_task, 77);
                assert_int_equal(brood_result_get(results[round % 5], &value, sizeof value, CHECK_HANG_MS),
                                 sizeof value);
                assert_int_equal(value, 77);
                for (int i = 0; i < 5; i++)
                        brood_result_free(results[i]);
        }
        end_pool(pool);
        tasks_finish();
}

static void test_memory(void **state)
{
        (void)state;
        enum { MEMORY = 1 << 20, SIZE = 100000 };
        static char argument[MEMORY + 1];
        brood_pool *pool = NULL;
        brood_result *results[64], *none = NULL;
        int first = 0;
        assert_int_equal(
            brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .memory = MEMORY, .result_size = SIZE }), 0);
        assert_int_equal(brood_pool_apply_async(pool, &none, echo_task, argument, sizeof argument), -ENOMEM);
        for (int round = 0; round < 10; round++) {
                int count = 0, r;
                while ((r = brood_pool_apply_async(pool, &results[count], echo_task, argument, SIZE)) == 0)
                        if (++count == 64)
                                break;
                assert_int_equal(r, -ENOMEM);
                assert_true(count >= 1 && count <= MEMORY / SIZE);
                /* What was given back is there again: as much every time. */
                if (round == 0)
                        first = count;
                assert_int_equal(count, first);
                for (int i = 0; i < count; i++) {
                        int j = (i * 7 + round) % count;
                        if (count % 7 == 0)
                                j = i;
                        assert_int_equal(brood_result_wait(results[j], CHECK_HANG_MS), 0);
                        assert_int_equal(brood_result_successful(results[j]), 1);
                        brood_result_free(results[j]);
                }
        }
        char byte;
        assert_int_equal(brood_pool_apply(pool, echo_task, "y", 1, &byte, 1, CHECK_HANG_MS), 1);
        end_pool(pool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_a_worker_dies_in_its_task),
                support_test(test_a_worker_is_killed_from_outside),
                support_test(test_idle_workers_are_killed),
                support_test(test_all_workers_are_killed),
                support_test(test_initializer_fails),
                support_test(test_initializer_fails_in_a_successor),
                support_test(test_killed_before_the_wake),
                support_test(test_the_keeper_is_killed),
                support_test(test_the_host_is_killed),
                support_test(test_the_host_exits),
                support_test(test_three_ways_with_sigchld),
                support_test(test_no_more_processes),
                support_test(test_no_more_descriptors),
                support_test(test_max_tasks),
                support_test(test_memory),
        };
        return tasks_main(argc, argv, "pool deaths", tests, array_length(tests), 120);
}
